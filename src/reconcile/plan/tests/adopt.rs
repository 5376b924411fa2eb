//! Taking over a domain that something else made.

use super::*;
use crate::config::{InterfaceAddress, StaticAddressing};
use crate::host::definition::BlockJob;
use crate::host::{SavedState, Snapshot, StateReason};
use crate::reconcile::desired::Adoption;

/// As Terraform's provider makes one: with a seed of its own, a reservation, and no record.
fn foreign() -> Observed {
    let mut observed = settled();
    observed.seeds[0] = place(desired().seed_volume, Some(SeedContent::Foreign));
    let facts = domain(&mut observed);
    facts.config.ownership = None;
    facts.live.as_mut().unwrap().ownership = None;
    observed
}

fn wanted(adoption: Adoption) -> Desired {
    Desired {
        adoption,
        ..desired()
    }
}

/// The ids of what stands against it.
fn against(change: impl Fn(&mut Observed)) -> Vec<MessageId> {
    let mut observed = foreign();
    change(&mut observed);
    let refused = refused(&wanted(Adoption::Careful), &observed);
    assert!(refused.iter().all(|o| !o.hint.is_empty()), "{refused:?}");
    refused.iter().map(|objection| objection.id).collect()
}

#[test]
fn without_consent_it_is_somebody_elses() {
    let objections = refused(&desired(), &foreign());
    assert_eq!(objections[0].id, MessageId::DomainNotOurs);
    assert!(objections[0].hint.contains("`lbctl adopt`"));
}

#[test]
fn with_an_agent_the_guest_is_handed_over_while_it_runs() {
    let mut observed = foreign();
    observed.availability = AgentAvailability::Ready;
    let plan = up(&wanted(Adoption::Careful), &observed);
    assert!(plan.needing_restart().is_empty(), "{:?}", plan.changes);
    let expected = [
        "write seed",
        "set record",
        "converge",
        "define",
        "swap",
        "set record",
    ];
    assert_eq!(kinds(&plan), expected);
    // The first name is taken by the seed of before, which stays.
    let Step::WriteSeed { at, .. } = &plan.steps[0] else {
        panic!("{plan:?}")
    };
    assert_eq!(at.name, "lb-1-cloud-init.2.iso");
    assert_eq!(
        kinds(&plan_up(&wanted(Adoption::Careful), &observed, NOW).unwrap()),
        expected
    );
}

#[test]
fn without_an_agent_it_takes_one_restart() {
    let mut observed = foreign();
    observed.availability = AgentAvailability::Out("there is none".into());
    let wanted = wanted(Adoption::Careful);
    let plan = up(&wanted, &observed);
    assert!(!plan.needing_restart().is_empty());
    assert!(plan.notes.iter().any(|note| note.contains("there is none")));
    assert_eq!(kinds(&plan), ["write seed", "define", "swap"]);
    let now = plan_up(&wanted, &observed, NOW).unwrap();
    assert_eq!(kinds(&now), ["write seed", "define", "restart"]);
}

#[test]
fn nothing_of_it_becomes_lbctls_to_delete() {
    let plan = up(&wanted(Adoption::Careful), &foreign());
    let define = plan.steps.iter().find_map(|step| match step {
        Step::Define(step) => Some(step),
        _ => None,
    });
    let record = &define.unwrap().ownership;
    assert!(!record.disk.as_ref().unwrap().cloned);
    assert!(record.reservations.iter().all(|r| !r.made));
    assert!(record.stale_seeds.is_empty());
    let deletes = |step: &Step| matches!(step, Step::DeleteSeed { .. } | Step::Release { .. });
    assert!(!plan.steps.iter().any(deletes), "{:?}", plan.steps);
}

#[test]
fn a_domain_that_is_off_is_taken_over_and_started() {
    let mut observed = foreign();
    let facts = domain(&mut observed);
    (facts.live, facts.state) = (None, DomainState::ShutOff);
    let plan = up(&wanted(Adoption::Careful), &observed);
    assert_eq!(kinds(&plan), ["write seed", "define", "start"]);
}

/// What the configuration has is what the guest gets at its next start.
#[test]
fn an_address_that_is_not_the_configurations_is_named() {
    let has = |addresses: &[&str]| {
        let mut observed = foreign();
        observed.availability = AgentAvailability::Ready;
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        observed.addresses = [(MAC, addresses)].into();
        observed
    };
    let wanted = wanted(Adoption::Careful);
    for same in [
        &["192.0.2.20"][..],
        &["192.0.2.9", "192.0.2.20"],
        &["2001:db8::9"],
        &[],
    ] {
        let plan = up(&wanted, &has(same));
        assert!(plan.needing_restart().is_empty(), "{:?}", plan.changes);
        assert_eq!(plan.notes, up(&wanted, &has(&[])).notes);
    }
    let plan = up(&wanted, &has(&["2001:db8::9", "192.0.2.9"]));
    let lines: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    let moves = "address: 192.0.2.9 -> 192.0.2.20 (restart)";
    assert_eq!(
        lines.iter().filter(|line| *line == moves).count(),
        1,
        "{lines:?}"
    );
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("network configuration"))
    );
    assert!(plan.notes.iter().any(|note| note.contains("DHCP lease")));
    // The guest that runs keeps it until then, and each plan says so.
    let record = plan.steps.iter().rev().find_map(|step| match step {
        Step::SetOwnership { ownership, .. } => Some(ownership),
        _ => None,
    });
    let kept = &record.unwrap().reservations[0];
    assert_eq!(
        (kept.entry.ip.to_string().as_str(), kept.made),
        ("192.0.2.9", false)
    );

    // One that does not run moves when it is started.
    let mut off = has(&["192.0.2.9"]);
    (domain(&mut off).live, domain(&mut off).state) = (None, DomainState::ShutOff);
    let lines: Vec<String> = up(&wanted, &off)
        .changes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        lines.contains(&"address: 192.0.2.9 -> 192.0.2.20 (live)".into()),
        "{lines:?}"
    );
}

#[test]
fn a_static_address_that_is_not_the_configurations_is_named() {
    let mut observed = foreign();
    observed.addresses = [(MAC, vec!["192.0.2.9".parse().unwrap()])].into();
    let mut wanted = wanted(Adoption::Careful);
    wanted.interfaces[0].addressing = Addressing::Static(StaticAddressing {
        addresses: vec![InterfaceAddress::parse("192.0.2.20/24").unwrap()],
        gateways: Vec::new(),
        routes: Vec::new(),
        dns_servers: Vec::new(),
        search: Vec::new(),
    });
    wanted.reservations.clear();
    let plan = up(&wanted, &observed);
    let lines: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert!(
        lines.contains(&"address: 192.0.2.9 -> 192.0.2.20 (restart)".into()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"network configuration: changed (restart)".into()),
        "{lines:?}"
    );
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("it moves at its next start, and"))
    );
}

/// The definition is lbctl's by then, and the guest that runs is not.
#[test]
fn a_handover_is_possible_after_one_was_put_off() {
    let mut observed = settled();
    observed.availability = AgentAvailability::Ready;
    domain(&mut observed).live.as_mut().unwrap().ownership = None;
    let plan = up(&wanted(Adoption::Careful), &observed);
    assert!(plan.needing_restart().is_empty(), "{:?}", plan.changes);
    assert!(kinds(&plan).contains(&"converge"));
    // Without it, it waits for the restart that was put off.
    assert!(!up(&desired(), &observed).needing_restart().is_empty());
    // One that is lbctl's is planned with as ever.
    assert!(up(&wanted(Adoption::Careful), &settled()).is_empty());
}

#[test]
fn everything_against_it_is_said_at_once() {
    let found = against(|observed| {
        let facts = domain(observed);
        facts.persistent = false;
        facts.snapshots = vec![Snapshot {
            name: "s1".into(),
            disks: Vec::new(),
            files: Vec::new(),
        }];
        facts.config.interfaces.clear();
        facts.config.memory_kib = 1;
        facts.config.disks.truncate(0);
        facts.live.as_mut().unwrap().disks[0].job = Some(BlockJob {
            kind: "copy".into(),
            to: None,
        });
        observed.memory_kib = 1;
        observed.claims = vec![Claims {
            domain: "other".into(),
            macs: vec![MAC],
            disks: Vec::new(),
        }];
    });
    for id in [
        MessageId::DomainTransient,
        MessageId::SnapshotInTheWay,
        MessageId::InterfacesDiffer,
        MessageId::DiskDiffers,
        MessageId::BlockJobRunning,
        MessageId::MemoryExceedsHost,
        MessageId::MacClaimed,
    ] {
        assert_eq!(
            found.iter().filter(|known| **known == id).count(),
            1,
            "{id}: {found:?}"
        );
    }
}

#[test]
fn what_is_going_on_is_waited_for() {
    let busy = against(|o| domain(o).reason = Some(StateReason::Migrating));
    assert_eq!(busy, [MessageId::DomainBusy]);
    let saved = against(|o| {
        let facts = domain(o);
        (facts.live, facts.state) = (None, DomainState::ShutOff);
        facts.saved = Some(SavedState { definition: None });
    });
    assert_eq!(saved, [MessageId::GuestSaved]);
}

#[test]
fn a_disk_that_is_not_the_domains_is_refused() {
    let other = against(|o| {
        domain(o).config.disks[0].source = Some(Source::File("/default/another".into()));
    });
    assert!(other.contains(&MessageId::DiskDiffers), "{other:?}");
    let sata = against(|o| domain(o).config.disks[0].bus = "sata".into());
    assert_eq!(sata, [MessageId::DiskDiffers]);
}

fn with_xml(xml: &str) -> Observed {
    let mut observed = foreign();
    domain(&mut observed).config_xml = Secret::new(xml);
    observed
}

#[test]
fn what_others_look_after_is_named() {
    let metadata = |namespace: &str| {
        with_xml(&format!(
            "<domain><metadata><x:a xmlns:x='{namespace}'/></metadata></domain>"
        ))
    };
    for namespace in [
        "http://openstack.org/xmlns/libvirt/nova/1.1",
        "http://ovirt.org/vm/1.0",
    ] {
        for adoption in [Adoption::Careful, Adoption::Forced] {
            let refused = refused(&wanted(adoption), &metadata(namespace));
            assert_eq!(refused[0].id, MessageId::DomainManaged, "{namespace}");
        }
    }
    let kcli = metadata("kvirt");
    let objections = refused(&wanted(Adoption::Careful), &kcli);
    assert_eq!(objections[0].id, MessageId::DomainNoted);
    up(&wanted(Adoption::Forced), &kcli);
    up(
        &wanted(Adoption::Careful),
        &metadata("http://libosinfo.org/xmlns/libvirt/domain/1.0"),
    );
}

#[test]
fn what_lbctl_never_makes_is_named() {
    for (inside, word) in [
        ("<os firmware='efi'/>", "UEFI firmware"),
        (
            "<os><loader type='pflash'>/x</loader></os>",
            "UEFI firmware",
        ),
        (
            "<devices><disk/><disk device='disk'/><disk device='cdrom'/></devices>",
            "2 disks",
        ),
        ("<devices><hostdev/></devices>", "a device of the host"),
        (
            "<devices><filesystem/><tpm/></devices>",
            "a folder of the host, a TPM",
        ),
    ] {
        let observed = with_xml(&format!("<domain>{inside}</domain>"));
        let objections = refused(&wanted(Adoption::Careful), &observed);
        assert_eq!(objections.len(), 1, "{objections:?}");
        assert_eq!(objections[0].id, MessageId::DomainUnusual);
        assert!(objections[0].message.ends_with(word), "{objections:?}");
        up(&wanted(Adoption::Forced), &observed);
    }
    let arm = "<domain><os><type arch='aarch64'>hvm</type><loader type='pflash'>/x</loader></os></domain>";
    up(&wanted(Adoption::Careful), &with_xml(arm));
}

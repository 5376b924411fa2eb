//! Stories of plans: first that nothing is done where nothing differs, then one difference at a
//! time.
#![allow(clippy::unwrap_used, clippy::panic)]

mod actions;
mod adopt;
mod anew;
mod hosts;
mod shared;
mod states;

use hosts::*;

use super::{Class, Objection, OwnershipKind, Plan, Refusal, RefusalKind, Restart, Step, plan_up};
use crate::cert::KeyError;
use crate::config::{
    Addressing, CloneVolume, DiskFormat, HaproxyTime, HostLink, MacAddr, NetworkRef, NicSource,
    Switch, VirtualIp, one_of_each_kind,
};
use crate::exit::MessageId;
use crate::guest::AgentAvailability;
use crate::host::ownership::LAYOUT;
use crate::host::{
    BridgeFacts, Claims, Definition, DomainFacts, DomainState, Lease, ObservedNicSource, Source,
    VolumeState,
};
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::{Observed, ObservedDisk, ObservedMachine, ObservedNetwork};
use crate::render::domain::DomainKind;
use crate::render::{GuestFile, HAPROXY_SANDBOX, Service};
use crate::secret::Secret;
use crate::seed::{FoundSeed, Seed, SeedContent};

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    let kind = |step: &Step| match step {
        Step::Reserve { .. } => "reserve",
        Step::Release { .. } => "release",
        Step::BringImage(_) => "bring",
        Step::CloneVolume(_) => "clone",
        Step::RemakeVolume(_) => "remake",
        Step::GrowVolume { .. } => "grow",
        Step::GrowLiveDisk { .. } => "grow live",
        Step::DeleteVolume { .. } => "delete volume",
        Step::DeleteSeed { .. } => "delete seed",
        Step::WriteSeed { .. } => "write seed",
        Step::Converge(_) => "converge",
        Step::Define(_) => "define",
        Step::SetOwnership { .. } => "set record",
        Step::SwapMedium { .. } => "swap",
        Step::SetAutostart { .. } => "autostart",
        Step::Start { .. } => "start",
        Step::Resume { .. } => "resume",
        Step::Wake { .. } => "wake",
        Step::StepBack { .. } => "step back",
        Step::Stop { .. } => "stop",
        Step::Restart { .. } => "restart",
        Step::Undefine { .. } => "undefine",
    };
    plan.steps.iter().map(kind).collect()
}

#[track_caller]
fn assert_changes(plan: &Plan, what: &[(&str, Class)]) {
    let subjects: Vec<String> = plan.changes.iter().map(|c| c.subject.to_string()).collect();
    let classes = plan.changes.iter().map(|c| c.class);
    let found: Vec<(&str, Class)> = subjects.iter().map(String::as_str).zip(classes).collect();
    assert_eq!(found, what);
}

fn up(desired: &Desired, observed: &Observed) -> Plan {
    plan_up(desired, observed, Restart::Later)
        .unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
}

fn refused(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let Err(Refusal { objections }) = plan_up(desired, observed, NOW) else {
        panic!("not refused")
    };
    objections
}

fn domain(observed: &mut Observed) -> &mut DomainFacts {
    observed.domain.as_mut().unwrap()
}

/// What a change of the desired state leads to, with the restart postponed and at once.
fn check_update(
    change: impl Fn(&mut Desired),
    what: &[(&str, Class)],
    later: &[&str],
    now: &[&str],
) {
    let mut wanted = desired();
    change(&mut wanted);
    let mut host = settled();
    if wanted.machine_given {
        // A newer QEMU: the alias is another version than when the domain was defined.
        let full = match wanted.domain.machine.as_str() {
            "q35" => "pc-q35-8.1",
            other => other,
        };
        host.machine = ObservedMachine::Named(full.into());
    }
    let plan = up(&wanted, &host);
    assert_changes(&plan, what);
    assert_eq!(kinds(&plan), later);
    assert_eq!(kinds(&plan_up(&wanted, &host, NOW).unwrap()), now);
}

/// What a drift of the host leads to.
fn check_drift(drift: impl Fn(&mut Observed), what: &[(&str, Class)], steps: &[&str]) {
    let mut observed = settled();
    drift(&mut observed);
    let plan = up(&desired(), &observed);
    assert_changes(&plan, what);
    assert_eq!(kinds(&plan), steps);
}

#[track_caller]
fn check_refused(
    observed: &Observed,
    wanted: &Desired,
    (kind, id): (RefusalKind, MessageId),
    words: &[&str],
) {
    let objections = refused(wanted, observed);
    assert_eq!(objections.len(), 1, "{objections:?}");
    assert_eq!((objections[0].kind, objections[0].id), (kind, id));
    for word in words {
        assert!(
            objections[0].message.contains(word),
            "{word} is not in: {}",
            objections[0].message
        );
    }
    assert!(!objections[0].hint.is_empty());
}

#[track_caller]
fn check_not_ours(observed: &Observed, id: MessageId, words: &[&str]) {
    check_refused(observed, &desired(), (RefusalKind::NotOurs, id), words);
}

#[test]
fn an_overlay_is_found_behind_a_disk_that_somebody_added() {
    let mut observed = settled();
    let domain = observed.domain.as_mut().unwrap();
    for definition in std::iter::once(&mut domain.config).chain(&mut domain.live) {
        let root = &mut definition.disks[0];
        root.backing = root
            .source
            .replace(Source::File("/snap".into()))
            .into_iter()
            .collect();
        let mut data = root.clone();
        (data.target, data.backing) = ("vdb".into(), Vec::new());
        data.source = Some(Source::File("/data".into()));
        definition.disks.insert(0, data);
    }
    let what = (RefusalKind::NeedsConsent, MessageId::DiskIsOverlay);
    check_refused(
        &observed,
        &desired(),
        what,
        &["/snap", "volume default/lb-1"],
    );
    // Another disk's overlay is none of lbctl's business.
    let mut observed = settled();
    let domain = observed.domain.as_mut().unwrap();
    for definition in std::iter::once(&mut domain.config).chain(&mut domain.live) {
        let mut data = definition.disks[0].clone();
        data.target = "vdb".into();
        data.source = Some(Source::File("/snap".into()));
        data.backing = vec![Source::File("/data".into())];
        definition.disks.insert(0, data);
    }
    assert!(up(&desired(), &observed).is_empty());
}

/// Its disk is its own: to call that one nobody's would be to offer it.
#[test]
fn the_disk_of_a_foreign_domain_is_not_offered() {
    let mut observed = settled();
    let domain = observed.domain.as_mut().unwrap();
    domain.config.ownership = None;
    domain.live.as_mut().unwrap().ownership = None;
    let found = |observed: &Observed| {
        let objections = refused(&desired(), observed);
        let ids = objections.iter().map(|o| o.id);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(found(&observed), [MessageId::DomainNotOurs]);
    let domain = observed.domain.as_mut().unwrap();
    for definition in std::iter::once(&mut domain.config).chain(&mut domain.live) {
        definition.disks[0].source = Some(Source::File("/other".into()));
    }
    let both = [MessageId::DomainNotOurs, MessageId::DiskNotOurs];
    assert_eq!(found(&observed), both);
}

#[test]
fn what_does_not_differ_is_not_changed() {
    assert!(up(&desired(), &settled()).is_empty());
    assert!(plan_up(&desired(), &settled(), NOW).unwrap().is_empty());
}

#[test]
fn a_first_up_has_the_order_that_makes_every_prefix_safe() {
    let plan = up(&desired(), &bare());
    assert_eq!(
        kinds(&plan),
        [
            "write seed",
            "reserve",
            "clone",
            "define",
            "autostart",
            "start"
        ]
    );
    assert!(plan.creates() && plan.needing_restart().is_empty());
    assert_eq!(
        steps(&plan)[2],
        "clone volume default/lb-1 (10 GiB) from os/base"
    );
}

/// `volume_id`, seen for the first time.
fn existing(source: Source, found: &str, given: Option<DiskFormat>) -> Observed {
    let mut observed = bare();
    let mut state = present(volume("default", "data"), None, GIB);
    if let VolumeState::Present(facts) = &mut state {
        (facts.source, facts.format) = (source, found.into());
    }
    observed.disk = ObservedDisk::Existing {
        id: "default/data".into(),
        format: given,
        volume: state,
        header: None,
    };
    observed
}

#[test]
fn a_block_device_is_raw_whatever_is_said_of_it() {
    let block = || Source::Block("/dev/sdb1".into());
    for found in ["linux", "none", "extended", "raw", "qcow2"] {
        for given in [None, Some(DiskFormat::Raw)] {
            let plan = up(&desired(), &existing(block(), found, given));
            let defined = plan.steps.iter().find_map(|step| match step {
                Step::Define(step) => Some(step.format.as_str()),
                _ => None,
            });
            assert_eq!(defined, Some("raw"), "{found}");
            assert!(plan.notes.is_empty(), "{:?}", plan.notes);
        }
    }
    check_refused(
        &existing(block(), "qcow2", Some(DiskFormat::Qcow2)),
        &desired(),
        (RefusalKind::Unfit, MessageId::DiskFormatDiffers),
        &["block device"],
    );
    check_refused(
        &existing(Source::File("/default/data".into()), "vmdk", None),
        &desired(),
        (RefusalKind::NeedsConsent, MessageId::DiskFormatUncertain),
        &["default/data is vmdk"],
    );
}

#[test]
fn a_pool_of_raw_volumes_takes_no_qcow2() {
    for (kind, format, takes) in [
        ("dir", DiskFormat::Qcow2, true),
        ("netfs", DiskFormat::Qcow2, true),
        ("logical", DiskFormat::Qcow2, false),
        ("disk", DiskFormat::Qcow2, false),
        ("rbd", DiskFormat::Qcow2, false),
        ("logical", DiskFormat::Raw, true),
        ("rbd", DiskFormat::Raw, true),
        ("zfs", DiskFormat::Raw, false),
        ("mpath", DiskFormat::Qcow2, false),
        ("scsi", DiskFormat::Raw, false),
        ("gluster", DiskFormat::Qcow2, false),
    ] {
        let mut observed = bare();
        let ObservedDisk::Clone { wanted, pool, .. } = &mut observed.disk else {
            panic!()
        };
        (wanted.format, *pool) = (format, Some(kind.into()));
        let id = match kind {
            "zfs" | "mpath" | "scsi" | "gluster" => MessageId::PoolMakesNoVolume,
            _ => MessageId::PoolHoldsRaw,
        };
        if takes {
            up(&desired(), &observed);
        } else {
            let (is, says) = (RefusalKind::Unfit, ["of type", kind]);
            check_refused(&observed, &desired(), (is, id), &says);
        }
    }
}

#[test]
fn the_seeds_pool_must_take_what_is_uploaded() {
    for (kind, takes) in [
        ("dir", true),
        ("fs", true),
        ("logical", true),
        ("zfs", true),
        ("rbd", false),
        ("iscsi", false),
        ("mpath", false),
    ] {
        let mut observed = bare();
        observed.seed_pool = Some(kind.into());
        if takes {
            up(&desired(), &observed);
        } else {
            let is = (RefusalKind::Unfit, MessageId::PoolMakesNoVolume);
            check_refused(&observed, &desired(), is, &["of type", kind, "the seed"]);
        }
    }
}

#[test]
fn a_killed_first_up_continues_where_it_was() {
    let mut observed = bare();
    observed.seeds[0] = place(desired().seed_volume, Some(SeedContent::Unfinished));
    assert_eq!(
        kinds(&up(&desired(), &observed)),
        [
            "write seed",
            "reserve",
            "clone",
            "define",
            "autostart",
            "start",
            "delete seed"
        ],
        "another lbctl may be writing it: the seed gets another name"
    );
    let all_places = observed.seeds.clone();
    for seed in &mut observed.seeds {
        *seed = place(seed.at.clone(), Some(SeedContent::Unfinished));
    }
    assert_eq!(
        kinds(&up(&desired(), &observed))[..2],
        ["delete seed", "write seed"],
        "where no place is free, one of those is made free"
    );
    observed.seeds = all_places;
    observed.seeds[0] = place(desired().seed_volume, Some(ours("hello")));
    assert_eq!(
        kinds(&up(&desired(), &observed))[0],
        "write seed",
        "its tag names nothing of what is to be made"
    );
    observed.seeds[0] = place(desired().seed_volume, Some(making("hello")));
    let rest = ["reserve", "clone", "define", "autostart", "start"];
    assert_eq!(kinds(&up(&desired(), &observed)), rest);
    observed.networks = settled().networks;
    assert_eq!(kinds(&up(&desired(), &observed)), rest[1..]);
    observed.disk = settled().disk;
    let plan = up(&desired(), &observed);
    assert_eq!(kinds(&plan), rest[2..]);
    let Step::Define(define) = &plan.steps[0] else {
        panic!("{plan:?}")
    };
    let record = &define.ownership;
    assert!(record.disk.as_ref().unwrap().cloned && record.reservations[0].made);
    observed.domain = settled().domain;
    let facts = domain(&mut observed);
    (facts.live, facts.state, facts.autostart) = (None, DomainState::ShutOff, false);
    assert_eq!(kinds(&up(&desired(), &observed)), ["autostart", "start"]);
}

/// Whatever it looks like: nothing says that lbctl made it.
#[test]
fn what_looks_like_ours_is_taken_over_only_when_told() {
    let mut observed = bare();
    (observed.disk, observed.networks) = (settled().disk, settled().networks);
    let tags = [None, Some(ours("hello")), Some(ours("another"))];
    for tag in tags {
        observed.seeds[0] = place(desired().seed_volume, tag);
        check_not_ours(
            &observed,
            MessageId::DiskNotOurs,
            &["default/lb-1", "os/base"],
        );
        let mut told = desired();
        told.disk.reuse = true;
        let plan = up(&told, &observed);
        assert_eq!(plan.changes[0].subject.to_string(), "reservation");
        assert_eq!(plan.changes[1].subject.to_string(), "disk");
        for taken in &plan.changes[..2] {
            assert!(taken.to_string().contains("taken over"), "{taken}");
        }
        let define = plan.steps.iter().find_map(|step| match step {
            Step::Define(step) => Some(step),
            _ => None,
        });
        let record = &define.unwrap().ownership;
        assert!(!record.disk.as_ref().unwrap().cloned && !record.reservations[0].made);
        assert!(!kinds(&plan).contains(&"reserve") && !kinds(&plan).contains(&"clone"));
    }
    // A tag of this VM that names the volume, and a volume that is no clone: somebody was first.
    observed.seeds[0] = place(desired().seed_volume, Some(making("hello")));
    if let ObservedDisk::Clone { volume: found, .. } = &mut observed.disk {
        *found = present(volume("default", "lb-1"), Some("/os/other"), 10 * GIB);
    }
    check_not_ours(&observed, MessageId::VolumeExists, &["default/lb-1"]);
}

#[test]
fn each_change_has_its_class_and_its_steps() {
    use Class::{Live, Restart};
    check_update(
        |d| d.domain.memory_mib = 2048,
        &[("memory", Restart)],
        &["define"],
        &["define", "restart"],
    );
    check_update(
        |d| d.domain.vcpus = 4,
        &[("vcpus", Restart)],
        &["define"],
        &["define", "restart"],
    );
    check_update(
        |d| {
            d.domain.interfaces[0].source = NicSource::Macvtap {
                device: "eth0".into(),
            }
        },
        &[("interfaces", Restart)],
        &["define"],
        &["define", "restart"],
    );
    check_update(
        |d| (d.machine_given, d.domain.machine) = (true, "microvm".into()),
        &[("machine", Restart)],
        &["define"],
        &["define", "restart"],
    );
    check_update(
        |d| d.domain.kind = DomainKind::Qemu,
        &[("domain type", Restart)],
        &["define"],
        &["define", "restart"],
    );
    let mut larger = settled();
    wanted_disk(&mut larger).size = Some(20 * GIB);
    for restart in [super::Restart::Later, NOW] {
        let plan = plan_up(&desired(), &larger, restart).unwrap();
        assert_changes(&plan, &[("disk size", Live)]);
        assert_eq!(kinds(&plan), ["grow live"]);
    }
    check_update(
        |d| d.reservations[0].entry = entry("192.0.2.21", MAC, "lb-1"),
        &[("reservation", Live), ("address", Restart)],
        &["define", "release", "reserve"],
        &["define", "release", "reserve", "restart"],
    );
}

/// A seed with another `haproxy.cfg`, and the plan for each state of the agent.
fn check_guest(
    wanted: &Seed,
    observe: impl Fn(&mut Observed),
    what: &[(&str, Class)],
    later: &[&str],
    now: &[&str],
) -> Plan {
    let mut observed = settled();
    observed.availability = AgentAvailability::Ready;
    observe(&mut observed);
    let mut desired = desired();
    desired.seed = wanted.clone();
    let plan = up(&desired, &observed);
    assert_changes(&plan, what);
    assert_eq!(kinds(&plan), later);
    assert_eq!(kinds(&plan_up(&desired, &observed, NOW).unwrap()), now);
    plan
}

const LIVE_STEPS: [&str; 7] = [
    "write seed",
    "set record",
    "converge",
    "define",
    "swap",
    "set record",
    "delete seed",
];
const LATER_STEPS: [&str; 4] = ["write seed", "define", "swap", "delete seed"];
const NOW_STEPS: [&str; 4] = ["write seed", "define", "restart", "delete seed"];

#[test]
fn a_guest_that_answers_is_changed_while_it_runs() {
    let changed = seed("changed");
    let cfg = "/etc/haproxy/haproxy.cfg";
    let plan = check_guest(
        &changed,
        |_| {},
        &[(cfg, Class::Live)],
        &LIVE_STEPS,
        &LIVE_STEPS,
    );
    assert!(plan.changes[0].diff.contains("-hello\n+changed\n"));
    let Step::Converge(step) = &plan.steps[2] else {
        panic!("{plan:?}")
    };
    assert_eq!(step.guest, changed.guest);
    assert_eq!(
        step.new_seed.as_ref().unwrap().name,
        "lb-1-cloud-init.2.iso"
    );
    let Step::SetOwnership {
        ownership, note, ..
    } = &plan.steps[5]
    else {
        panic!("{plan:?}")
    };
    assert_eq!(ownership.seed.parts, changed.parts);
    assert_eq!(*note, OwnershipKind::Guest);
}

#[test]
fn a_silent_guest_is_changed_by_a_restart_and_the_plan_says_why() {
    let plan = check_guest(
        &seed("changed"),
        |o| o.availability = AgentAvailability::Out("its agent is on strike".into()),
        &[("/etc/haproxy/haproxy.cfg", Class::Restart)],
        &LATER_STEPS,
        &NOW_STEPS,
    );
    assert!(plan.notes[0].contains("on strike"), "{:?}", plan.notes);
}

#[test]
fn what_needs_a_new_process_needs_a_restart_for_everything() {
    let mut changed = seed("changed");
    changed.guest.start.nofile = 2;
    changed.parts.start = "another".into();
    let plan = check_guest(
        &changed,
        |_| {},
        &[
            ("HAProxy's process", Class::Restart),
            ("/etc/haproxy/haproxy.cfg", Class::Restart),
        ],
        &LATER_STEPS,
        &NOW_STEPS,
    );
    assert!(
        plan.notes[0].contains("the way HAProxy is started"),
        "{plan:?}"
    );
}

#[test]
fn a_live_change_is_made_while_another_waits_for_a_restart() {
    let mut changed = seed("changed");
    changed.parts.boot = "another".into();
    let plan = check_guest(
        &changed,
        |_| {},
        &[
            ("/etc/haproxy/haproxy.cfg", Class::Live),
            ("network configuration", Class::Restart),
        ],
        &LIVE_STEPS,
        &NOW_STEPS,
    );
    let Step::SetOwnership { ownership, .. } = &plan.steps[5] else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (
            ownership.seed.parts.guest.as_str(),
            ownership.seed.parts.boot.as_str()
        ),
        ("guest of changed", "boot"),
        "the guest booted with the old network configuration"
    );
}

#[test]
fn what_waits_for_a_restart_is_not_done_live_the_next_time() {
    // `--restart later` wrote it: seed, definition and drive are as desired.
    let waiting = |o: &mut Observed| {
        let live = domain(o).live.as_mut().unwrap();
        let parts = &mut live.ownership.as_mut().unwrap().seed.parts;
        (parts.guest, parts.start) = ("previous".into(), "previous".into());
    };
    check_guest(
        &seed("hello"),
        waiting,
        &[("guest", Class::Restart)],
        &[],
        &["restart"],
    );
}

#[test]
fn a_guest_that_is_off_gets_it_all_at_its_next_boot() {
    let off = |o: &mut Observed| {
        let domain = domain(o);
        (domain.live, domain.state) = (None, DomainState::ShutOff);
        o.availability = AgentAvailability::NotAsked;
    };
    let what = [
        ("/etc/haproxy/haproxy.cfg", Class::Live),
        ("state", Class::Live),
    ];
    let steps = ["write seed", "define", "start", "delete seed"];
    check_guest(&seed("changed"), off, &what, &steps, &steps);
}

#[test]
fn a_change_killed_between_guest_and_record_is_completed() {
    // The seed is written, defined and in the drive; the guest's ownership record is the previous
    // one.
    let killed = |o: &mut Observed| {
        let live = domain(o).live.as_mut().unwrap();
        live.ownership.as_mut().unwrap().seed.parts.guest = "previous".into();
    };
    check_guest(
        &seed("hello"),
        killed,
        &[("guest", Class::Live)],
        &["set record", "converge", "set record"],
        &["set record", "converge", "set record"],
    );
}

fn wanted_disk(observed: &mut Observed) -> &mut CloneVolume {
    let ObservedDisk::Clone { wanted, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    wanted
}

#[test]
fn q35_as_libvirt_writes_it_is_q35() {
    check_update(|d| d.machine_given = true, &[], &[], &[]);
}

#[test]
fn a_new_seed_is_written_beside_the_one_in_use() {
    let mut wanted = desired();
    wanted.seed = seed("changed");
    let plan = up(&wanted, &settled());
    let listed = steps(&plan);
    // No agent was asked: the guest gets it with a restart.
    assert_eq!(listed[0], "write seed default/lb-1-cloud-init.2.iso");
    assert_eq!(listed[3], "delete seed default/lb-1-cloud-init.iso");
    let Step::Define(define) = &plan.steps[1] else {
        panic!("{listed:?}")
    };
    assert!(define.existing.is_some());
    assert_eq!(
        define.ownership.stale_seeds,
        [desired().seed_volume],
        "a crash before the deletion must not lose it"
    );
}

#[test]
fn drift_is_seen_and_ended() {
    use Class::Live;
    check_drift(
        |o| domain(o).config.memory_kib *= 2,
        &[("memory", Live), ("current memory", Live)],
        &["define"],
    );
    check_drift(
        |o| domain(o).config.current_memory_kib /= 2,
        &[("current memory", Live)],
        &["define"],
    );
    check_drift(
        |o| domain(o).config.vcpus = 1,
        &[("vcpus", Live)],
        &["define"],
    );
    check_drift(
        |o| domain(o).autostart = false,
        &[("autostart", Live)],
        &["autostart"],
    );
    check_drift(
        |o| domain(o).config.interfaces.clear(),
        &[("interfaces", Live)],
        &["define"],
    );
    check_drift(
        |o| domain(o).config.agent_channel = false,
        &[("guest agent channel", Live)],
        &["define"],
    );
    check_drift(
        |o| domain(o).state = DomainState::Paused,
        &[("state", Live)],
        &["resume"],
    );
    check_drift(
        |o| domain(o).config.disks.truncate(1),
        &[("seed", Live)],
        &["define"],
    );
    check_drift(
        |o| domain(o).live.as_mut().unwrap().disks[1].source = None,
        &[("seed", Live)],
        &["swap"],
    );
    check_drift(
        |o| (domain(o).state, domain(o).live) = (DomainState::ShutOff, None),
        &[("state", Live)],
        &["start"],
    );
    check_drift(
        |o| *o.networks.values_mut().next().unwrap() = network(Vec::new()),
        &[("reservation", Live)],
        &["reserve"],
    );
    check_drift(
        |o| o.seeds[0] = place(desired().seed_volume, None),
        &[("seed", Live)],
        &["write seed", "define", "swap"],
    );
    check_drift(
        |o| o.seeds[1] = place(o.seeds[1].at.clone(), Some(ours("previous"))),
        &[("leftover seed", Live)],
        &["delete seed"],
    );
}

/// A domain of lbctl 0.1.0 gets its devices when it starts next, and nobody has to restart it for
/// them.
#[test]
fn an_earlier_layout_is_brought_up_to_date_for_the_next_start() {
    let earlier = |definition: &mut Definition| {
        definition.ownership.as_mut().unwrap().layout = LAYOUT - 1;
    };
    let mut observed = settled();
    earlier(&mut domain(&mut observed).config);
    earlier(domain(&mut observed).live.as_mut().unwrap());
    for restart in [Restart::Later, NOW] {
        let plan = plan_up(&desired(), &observed, restart).unwrap();
        assert_eq!(kinds(&plan), ["define"]);
        let told: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "definition: as an earlier lbctl wrote it -> with a watchdog and a panic device, from the next start of \
                 the guest on (live)"
            ]
        );
        assert!(plan.needing_restart().is_empty());
    }
    // Then nothing is left to do, though the guest still runs without them.
    let mut observed = settled();
    earlier(domain(&mut observed).live.as_mut().unwrap());
    for restart in [Restart::Later, NOW] {
        assert!(plan_up(&desired(), &observed, restart).unwrap().is_empty());
    }
    // Other machines have no such devices.
    let mut observed = settled();
    earlier(&mut domain(&mut observed).config);
    let mut other = desired();
    other.domain.architecture = "aarch64".into();
    let plan = up(&other, &observed);
    assert_eq!(
        plan.changes[0].to_string(),
        "definition: as an earlier lbctl wrote it -> as lbctl writes it (live)"
    );
}

#[test]
fn a_live_change_leaves_the_layout_that_the_guest_started_with() {
    let mut observed = settled();
    observed.availability = AgentAvailability::Ready;
    let live = domain(&mut observed).live.as_mut().unwrap();
    live.ownership.as_mut().unwrap().layout = LAYOUT - 1;
    let mut wanted = desired();
    wanted.seed = seed("changed");
    let plan = up(&wanted, &observed);
    let layouts: Vec<u32> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::SetOwnership { ownership, .. } => Some(ownership.layout),
            _ => None,
        })
        .collect();
    assert_eq!(layouts, [LAYOUT - 1, LAYOUT - 1]);
}

#[test]
fn a_cas_key_that_will_be_missed_is_told() {
    let mut desired = desired();
    let missing = KeyError {
        message: "`ca_key` (lbctl.toml:30) cannot be read".into(),
        hint: "let the user who runs lbctl read the file".into(),
    };
    desired.certificate.as_mut().unwrap().keyless = Some(missing);
    let note = "`ca_key` (lbctl.toml:30) cannot be read: `lbctl up` issues the client certificate with it; let the user \
                who runs lbctl read the file";
    let plan = plan_up(&desired, &bare(), Restart::Later).unwrap();
    assert!(plan.notes.contains(&note.to_owned()), "{:?}", plan.notes);
}

#[test]
fn a_new_sandbox_is_live_and_begins_with_haproxys_next_start() {
    let with_sandbox = |content: &str| {
        let mut seed = seed(content);
        let file = GuestFile {
            path: HAPROXY_SANDBOX.into(),
            content: Secret::new(content),
            affects: Service::Guest,
            ..seed.guest.files[0].clone()
        };
        seed.guest.files = vec![file];
        seed
    };
    let later = |plan: &Plan| {
        let told = |note: &String| note.contains("sandbox at its next start");
        plan.notes.iter().any(told)
    };
    let new = with_sandbox("new");
    let mut old = with_sandbox("old");
    old.guest.files = Vec::new();
    for before in [old, with_sandbox("old")] {
        let found = || {
            Some(SeedContent::Ours(Box::new(FoundSeed {
                made: Vec::new(),
                fingerprint: "of hello".into(),
                files: Vec::new(),
                client_pem: None,
                guest: Some(before.guest.clone()),
            })))
        };
        let ready = |o: &mut Observed| o.seeds[0] = place(desired().seed_volume, found());
        let own = "lbctl's own files in the guest";
        let plan = check_guest(&new, ready, &[(own, Class::Live)], &LIVE_STEPS, &LIVE_STEPS);
        assert!(later(&plan), "{:?}", plan.notes);
        // With a restart it begins with that.
        let silent = |o: &mut Observed| {
            ready(o);
            o.availability = AgentAvailability::NotAsked;
        };
        let plan = check_guest(
            &new,
            silent,
            &[(own, Class::Restart)],
            &LATER_STEPS,
            &NOW_STEPS,
        );
        assert!(!later(&plan), "{:?}", plan.notes);
    }
    let plan = check_guest(
        &seed("changed"),
        |_| {},
        &[("/etc/haproxy/haproxy.cfg", Class::Live)],
        &LIVE_STEPS,
        &LIVE_STEPS,
    );
    assert!(!later(&plan), "{:?}", plan.notes);
}

#[test]
fn what_belongs_to_another_is_refused_with_its_owner() {
    let with = |change: &dyn Fn(&mut Observed)| {
        let mut observed = bare();
        change(&mut observed);
        observed
    };
    let lab = |observed: &mut Observed, found: ObservedNetwork| {
        observed
            .networks
            .insert(NetworkRef::Name("lab".into()), found);
    };
    let taken = with(&|o| lab(o, network(vec![entry("192.0.2.20", OTHER_MAC, "mail")])));
    check_not_ours(
        &taken,
        MessageId::AddressReserved,
        &["192.0.2.20", "mail", "lab"],
    );
    let same_mac = with(&|o| lab(o, network(vec![entry("192.0.2.30", MAC, "mail")])));
    check_not_ours(
        &same_mac,
        MessageId::MacReserved,
        &["52:54:00:01:02:03", "mail"],
    );
    let same_name = with(&|o| lab(o, network(vec![entry("192.0.2.30", OTHER_MAC, "lb-1")])));
    check_not_ours(&same_name, MessageId::HostNameReserved, &["host name lb-1"]);
    let leased = with(&|o| {
        let ip = "192.0.2.20".parse().unwrap();
        let lease = Lease {
            mac: OTHER_MAC,
            ip,
            hostname: Some("laptop".into()),
            expires: 1_800_000_000,
        };
        lab(
            o,
            ObservedNetwork {
                leases: vec![lease],
                ..network(Vec::new())
            },
        );
    });
    check_not_ours(
        &leased,
        MessageId::AddressLeased,
        &["192.0.2.20", "laptop", "until 2027-01-15 08:00 UTC"],
    );
    let claims = |macs: Vec<MacAddr>, disks: Vec<Source>| {
        vec![Claims {
            domain: "mail".into(),
            macs,
            disks,
        }]
    };
    let mac = with(&|o| o.claims = claims(vec![MAC], vec![]));
    check_not_ours(&mac, MessageId::MacClaimed, &["52:54:00:01:02:03", "mail"]);
    let disk = with(&|o| {
        o.disk = settled().disk;
        o.claims = claims(vec![], vec![Source::File("/default/lb-1".into())]);
    });
    check_not_ours(&disk, MessageId::DiskClaimed, &["default/lb-1", "mail"]);
    let other_disk = with(&|o| {
        let ObservedDisk::Clone { volume, .. } = &mut o.disk else {
            panic!("not a clone")
        };
        *volume = present(desired().seed_volume, Some("/os/other"), 10 * GIB);
    });
    check_not_ours(
        &other_disk,
        MessageId::VolumeExists,
        &["default/lb-1", "os/base"],
    );
    for (content, id, word) in [
        (
            SeedContent::Foreign,
            MessageId::SeedVolumeExists,
            "not a seed",
        ),
        (
            SeedContent::OfAnother("lb-2".into()),
            MessageId::SeedOfAnotherVm,
            "lb-2",
        ),
    ] {
        let seed = with(&|o| o.seeds[0] = place(desired().seed_volume, Some(content.clone())));
        check_not_ours(&seed, id, &["lb-1-cloud-init.iso", word]);
    }
    let mut foreign = settled();
    domain(&mut foreign).config.ownership = None;
    domain(&mut foreign).live.as_mut().unwrap().ownership = None;
    check_not_ours(&foreign, MessageId::DomainNotOurs, &["lb-1", "dom-uuid"]);
}

#[test]
fn data_is_destroyed_only_when_asked() {
    use RefusalKind::NeedsConsent;
    let mut observed = settled();
    let ObservedDisk::Clone { base, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    *base = present(volume("os", "newer"), None, 2 * GIB);
    check_refused(
        &observed,
        &desired(),
        (NeedsConsent, MessageId::BaseVolumeDiffers),
        &["/os/base", "/os/newer", "replace"],
    );
    let mut lost = settled();
    let ObservedDisk::Clone { volume, .. } = &mut lost.disk else {
        panic!("not a clone")
    };
    *volume = VolumeState::Absent;
    check_refused(
        &lost,
        &desired(),
        (NeedsConsent, MessageId::DiskMissing),
        &["default/lb-1"],
    );
}

#[test]
fn everything_that_a_host_lacks_is_reported_at_once() {
    let mut observed = bare();
    observed.networks.insert(
        NetworkRef::Name("lab".into()),
        ObservedNetwork {
            facts: None,
            leases: Vec::new(),
        },
    );
    let ObservedDisk::Clone { base, volume, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    (*base, *volume) = (VolumeState::Absent, VolumeState::Absent);
    observed.seeds[0].volume = VolumeState::PoolInactive;
    let objections = refused(&desired(), &observed);
    let expected = [
        (MessageId::NetworkMissing, "no network lab"),
        (MessageId::BaseVolumeMissing, "no volume base"),
        (MessageId::PoolInactive, "pool default is not active"),
    ];
    assert_eq!(objections.len(), 3, "{objections:?}");
    for (objection, (id, words)) in objections.iter().zip(expected) {
        assert_eq!((objection.kind, objection.id), (RefusalKind::Unfit, id));
        assert!(
            objection.message.contains(words),
            "{words} is not in: {}",
            objection.message
        );
    }
}

#[test]
fn what_an_interface_needs_of_the_host_is_named_with_its_key() {
    for source in one_of_each_kind() {
        let mut observed = bare();
        match source.host_link() {
            HostLink::Network(_) => observed.networks.clear(),
            HostLink::Device(device) => {
                observed
                    .devices
                    .insert(device.to_owned(), crate::host::DeviceState::Absent);
            }
            HostLink::Bridge(bridge) => {
                let facts = BridgeFacts {
                    exists: Some(false),
                    ..BridgeFacts::default()
                };
                observed.bridges.insert(bridge.to_owned(), facts);
            }
        }
        let mut desired = desired();
        desired.reservations.clear();
        desired.interfaces[0].source = source.clone();
        let objections = refused(&desired, &observed);
        let [objection] = &objections[..] else {
            panic!("{objections:?}")
        };
        let named = objection.message.contains(source.host_link().name());
        assert!(
            named && objection.hint.contains(source.key()),
            "{objection:?}"
        );
    }
}

#[test]
fn a_vlan_is_for_bridges_that_take_it() {
    let bridge = |vlan| NicSource::Bridge {
        bridge: "br0".into(),
        vlan,
        switch: Switch::Linux,
    };
    let refuses = |vlan, switch, kernel_takes_vlan| {
        let mut observed = bare();
        let facts = BridgeFacts {
            exists: Some(true),
            switch,
            kernel_takes_vlan,
            network: None,
        };
        observed.bridges.insert("br0".into(), facts);
        let mut desired = desired();
        desired.reservations.clear();
        desired.interfaces[0].source = bridge(vlan);
        match plan_up(&desired, &observed, Restart::Later) {
            Ok(_) => None,
            Err(refusal) => Some(refusal.objections[0].id),
        }
    };
    let unsupported = Some(MessageId::VlanUnsupported);
    assert_eq!(refuses(Some(42), Some(Switch::Linux), false), unsupported);
    assert_eq!(refuses(Some(42), Some(Switch::Linux), true), None);
    assert_eq!(refuses(Some(42), Some(Switch::OpenVswitch), false), None);
    assert_eq!(refuses(Some(42), None, false), None);
    assert_eq!(refuses(None, Some(Switch::Linux), false), None);
}

#[test]
fn a_bridge_is_defined_as_what_the_host_says_it_is() {
    let wanted = NicSource::Bridge {
        bridge: "br0".into(),
        vlan: Some(7),
        switch: Switch::Linux,
    };
    let of = |switch| NicSource::Bridge {
        bridge: "br0".into(),
        vlan: Some(7),
        switch,
    };
    let mut observed = settled();
    assert_eq!(observed.by_name(&wanted), of(Switch::Linux));
    // The domain knows where the host does not say.
    domain(&mut observed).config.interfaces[0].source =
        ObservedNicSource::Known(of(Switch::OpenVswitch));
    assert_eq!(observed.by_name(&wanted), of(Switch::OpenVswitch));
    let facts = |switch| BridgeFacts {
        exists: Some(true),
        switch,
        kernel_takes_vlan: true,
        network: None,
    };
    observed.bridges.insert("br0".into(), facts(None));
    assert_eq!(observed.by_name(&wanted), of(Switch::OpenVswitch));
    let linux = facts(Some(Switch::Linux));
    observed.bridges.insert("br0".into(), linux);
    assert_eq!(observed.by_name(&wanted), of(Switch::Linux));
}

#[test]
fn addresses_must_fit_the_network() {
    let wanted = |ip: &str| {
        let mut desired = desired();
        desired.interfaces[0].addressing = Addressing::DhcpReservation(ip.parse().unwrap());
        desired.reservations[0].entry.ip = ip.parse().unwrap();
        desired
    };
    check_refused(
        &bare(),
        &wanted("198.51.100.7"),
        (RefusalKind::Unfit, MessageId::AddressOutsideNetwork),
        &["outside", "192.0.2.1/24"],
    );
    check_refused(
        &bare(),
        &wanted("192.0.2.1"),
        (RefusalKind::Unfit, MessageId::AddressOfHost),
        &["belongs to the host"],
    );
    let mut small = bare();
    wanted_disk(&mut small).size = Some(GIB);
    check_refused(
        &small,
        &desired(),
        (RefusalKind::Unfit, MessageId::SizeBelowBase),
        &["1 GiB", "2 GiB"],
    );
}

#[test]
fn a_shared_address_must_be_nobodys_in_its_network() {
    let sharing = |address: &str| {
        let mut desired = desired();
        desired.virtual_ip = Some(VirtualIp {
            address: address.parse().unwrap(),
            interface: 0,
            own: "192.0.2.20".parse().unwrap(),
            peers: Vec::new(),
            router_id: 30,
            detection: HaproxyTime::parse("600ms").unwrap(),
            drain: HaproxyTime::zero(),
        });
        desired
    };
    for (address, id, words) in [
        (
            "192.0.2.150",
            MessageId::SharedAddressInRange,
            "192.0.2.100 to 192.0.2.199",
        ),
        ("192.0.2.1", MessageId::AddressOfHost, "belongs to the host"),
        (
            "192.0.2.255",
            MessageId::AddressUnusable,
            "that no VM can have",
        ),
        (
            "198.51.100.7",
            MessageId::AddressOutsideNetwork,
            "192.0.2.1/24",
        ),
    ] {
        let refused = (RefusalKind::Unfit, id);
        check_refused(
            &bare(),
            &sharing(address),
            refused,
            &["shared address", words],
        );
    }
    assert!(plan_up(&sharing("192.0.2.30"), &bare(), Restart::Later).is_ok());
}

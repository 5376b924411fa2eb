//! The address that VMs share: how a restart of one of them passes it on.

use std::time::Duration;

use super::hosts::*;
use super::{assert_changes, check_refused, kinds, up, wanted_disk};
use crate::config::{HaproxyTime, Peer, VirtualIp};
use crate::exit::MessageId;
use crate::host::DomainState;
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::Observed;
use crate::reconcile::plan::{Class, Plan, RefusalKind, Step, plan_up, remarks};
use crate::render::SharedAddress;
use crate::secret::Secret;
use crate::seed::SeedContent;

fn shared() -> SharedAddress {
    SharedAddress {
        address: "192.0.2.30".parse().unwrap(),
        router_id: 30,
    }
}

fn virtual_ip() -> VirtualIp {
    VirtualIp {
        address: shared().address,
        interface: 0,
        own: "192.0.2.20".parse().unwrap(),
        peers: Vec::new(),
        router_id: shared().router_id,
        detection: HaproxyTime::parse("600ms").unwrap(),
        drain: HaproxyTime::parse("5m").unwrap(),
    }
}

fn guest_shares(observed: &mut Observed, shared: Option<SharedAddress>) {
    let Some(SeedContent::Ours(found)) = &mut observed.seeds[0].content else {
        panic!("no seed is in use")
    };
    found.guest.as_mut().unwrap().virtual_ip = shared;
}

/// A running VM that shares an address, whose memory is to change, and whose peer is ready.
fn pair() -> (Desired, Observed) {
    let mut wanted = desired();
    wanted.virtual_ip = Some(virtual_ip());
    wanted.seed.guest.virtual_ip = Some(shared());
    wanted.domain.memory_mib = 2048;
    let mut host = settled();
    guest_shares(&mut host, Some(shared()));
    host.spare = true;
    (wanted, host)
}

fn now(desired: &Desired, observed: &Observed) -> Plan {
    plan_up(desired, observed, NOW).unwrap()
}

#[test]
fn where_another_vm_takes_the_address_a_restart_needs_no_consent() {
    let (wanted, host) = pair();
    let plan = up(&wanted, &host);
    assert_changes(&plan, &[("memory", Class::Handover)]);
    assert_eq!(kinds(&plan), ["define"]);
    assert!(plan.hands_over() && plan.needing_restart().is_empty());
    let plan = now(&wanted, &host);
    assert_eq!(kinds(&plan), ["step back", "define", "restart"]);
    let Some(Step::StepBack { domain, drain }) = plan.steps.first() else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!(
        (domain.as_str(), *drain),
        ("lb-1", Duration::from_secs(300))
    );
}

#[test]
fn a_new_disk_too_is_made_after_another_vm_has_taken_the_address() {
    let (mut wanted, mut host) = pair();
    wanted.disk.replace = true;
    wanted_disk(&mut host).size = Some(5 * GIB);
    let plan = up(&wanted, &host);
    assert_changes(
        &plan,
        &[("disk", Class::Handover), ("memory", Class::Handover)],
    );
    assert!(plan.hands_over() && plan.replaces_disk());
    let done = ["step back", "stop", "remake", "define", "start"];
    assert_eq!(kinds(&now(&wanted, &host)), done);
    host.spare = false;
    let plan = up(&wanted, &host);
    assert_changes(
        &plan,
        &[("disk", Class::Replace), ("memory", Class::Restart)],
    );
    assert_eq!(kinds(&now(&wanted, &host)), done);
}

#[test]
fn otherwise_it_cuts_sessions_and_needs_consent() {
    type Turn = fn(&mut Desired, &mut Observed);
    let turns: [(Turn, &[&str]); 4] = [
        // Asked all the same: the other VM may be ready by then.
        (
            |_, host| host.spare = false,
            &["step back", "define", "restart"],
        ),
        (|wanted, _| wanted.alone = true, &["define", "restart"]),
        (
            |wanted, _| wanted.virtual_ip.as_mut().unwrap().drain = HaproxyTime::zero(),
            &["step back", "define", "restart"],
        ),
        // Who is connected to the address of before is cut, whoever has it.
        (
            |wanted, _| {
                let shared = wanted.seed.guest.virtual_ip.as_mut().unwrap();
                shared.address = "192.0.2.31".parse().unwrap();
            },
            &["step back", "define", "restart"],
        ),
    ];
    for (turn, steps) in turns {
        let (mut wanted, mut host) = pair();
        turn(&mut wanted, &mut host);
        let plan = up(&wanted, &host);
        assert_changes(&plan, &[("memory", Class::Restart)]);
        assert!(!plan.hands_over());
        // It is said before: where it is not consented to, the guest refuses.
        let said = plan.notes.iter().any(|note| note.contains("--alone"));
        assert_eq!((plan.no_spare, said), (!host.spare, !host.spare));
        assert_eq!(kinds(&now(&wanted, &host)), steps);
    }
}

#[test]
fn what_was_written_for_the_next_start_is_still_a_handover() {
    let (wanted, mut host) = pair();
    host.domain.as_mut().unwrap().config.memory_kib = 2048 * 1024;
    host.domain.as_mut().unwrap().config.current_memory_kib = 2048 * 1024;
    let plan = up(&wanted, &host);
    assert!(plan.awaits_restart() && plan.hands_over());
    assert_eq!(kinds(&now(&wanted, &host)), ["step back", "restart"]);
}

#[test]
fn a_guest_that_shares_an_address_steps_back_though_the_configuration_has_none_any_more() {
    let (mut wanted, mut host) = pair();
    (wanted.virtual_ip, wanted.seed.guest.virtual_ip) = (None, None);
    let plan = now(&wanted, &host);
    assert_changes(&plan, &[("memory", Class::Restart)]);
    assert_eq!(kinds(&plan), ["step back", "define", "restart"]);
    guest_shares(&mut host, None);
    assert_eq!(kinds(&now(&wanted, &host)), ["define", "restart"]);
}

#[test]
fn a_guest_that_does_not_run_or_needs_no_restart_is_not_asked() {
    let (mut wanted, mut host) = pair();
    let domain = host.domain.as_mut().unwrap();
    (domain.live, domain.state) = (None, DomainState::ShutOff);
    assert_eq!(kinds(&now(&wanted, &host)), ["define", "start"]);
    let (_, host) = pair();
    wanted.domain.memory_mib = desired().domain.memory_mib;
    assert!(now(&wanted, &host).is_empty());
}

#[test]
fn a_filter_of_libvirts_on_the_interface_is_worth_a_word() {
    let (wanted, mut host) = pair();
    assert!(remarks(&wanted, &host).is_empty());
    let filtered = "<domain><interface><filterref filter='clean-traffic'/></interface></domain>";
    host.domain.as_mut().unwrap().config_xml = Secret::new(filtered);
    let said = remarks(&wanted, &host);
    let message = &said.first().unwrap().message;
    assert!(
        message.contains("192.0.2.30") && message.contains("clean-traffic"),
        "{message}"
    );
    assert!(remarks(&desired(), &host).is_empty());
}

#[test]
fn a_network_that_each_host_has_for_itself_cannot_carry_a_shared_address() {
    let (mut wanted, mut host) = pair();
    let shared = wanted.virtual_ip.as_mut().unwrap();
    shared.peers.push(Peer {
        address: "192.0.2.21".parse().unwrap(),
        mac: None,
        elsewhere: true,
    });
    let what = (RefusalKind::Unfit, MessageId::SharedAddressApart);
    check_refused(&host, &wanted, what, &["192.0.2.30", "192.0.2.21"]);
    // The bridge of another network may reach further.
    for network in host.networks.values_mut() {
        network.facts.as_mut().unwrap().own_bridge = false;
    }
    assert!(!up(&wanted, &host).is_empty());
}

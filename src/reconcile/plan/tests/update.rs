//! Changes of what is there, and what others changed of it.

use super::*;

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

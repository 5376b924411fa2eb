//! A takeover may stop after each change: the same command ends it, and from everywhere the
//! definition of before brings the old VM back.

use lbctl::testing::config::{Config, VolumeRef};
use lbctl::testing::guest::{AgentAvailability, Guest};
use lbctl::testing::host::{HostEntry, HostReader, HostWriter};
use lbctl::testing::reconcile::apply::apply;
use lbctl::testing::reconcile::desired::{Adoption, Desired, Intent};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{
    DownOptions, Plan, Refusal, Step, guest_differs, plan_down, plan_up,
};
use std::time::Duration;

use super::{AT_ONCE, Quiet, config, now, plan};
use crate::support::host::{FOREIGN_SEED, MemoryHost, NETWORK};

fn volume(name: &str) -> VolumeRef {
    VolumeRef {
        pool: "default".into(),
        name: name.into(),
    }
}

/// As a provider of Terraform's defines one, and as libvirt shows it.
fn definition(config: &Config) -> String {
    let (mac, memory) = (config.interfaces[0].mac, config.memory.get() * 1024);
    let vcpus = config.vcpus.get();
    format!(
        r#"<domain type="kvm">
  <name>lb-1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit="KiB">{memory}</memory>
  <currentMemory unit="KiB">{memory}</currentMemory>
  <vcpu>{vcpus}</vcpu>
  <os><type arch="x86_64" machine="pc-i440fx-7.2">hvm</type></os>
  <devices>
    <disk type="volume" device="disk"><driver name="qemu" type="qcow2"/><source pool="default" volume="lb-1"/><target dev="vda" bus="virtio"/></disk>
    <disk type="file" device="cdrom"><driver name="qemu" type="raw"/><source file="/pools/default/lb-1-cloud-init.iso"/><target dev="hdd" bus="ide"/><readonly/><serial>cloudinit</serial></disk>
    <interface type="network"><mac address="{mac}"/><source network="{NETWORK}"/><model type="virtio"/></interface>
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <graphics type="spice" autoport="yes"/>
  </devices>
</domain>"#
    )
}

fn foreign(config: &Config) -> MemoryHost {
    let host = MemoryHost::new();
    let entry = HostEntry {
        mac: Some(config.interfaces[0].mac),
        ip: "192.0.2.20".parse().unwrap(),
        name: Some("lb-1".into()),
    };
    let (disk, seed) = (volume("lb-1"), volume("lb-1-cloud-init.iso"));
    host.add_foreign(&definition(config), disk, seed, entry);
    host
}

/// As `lbctl adopt` plans it. `agent`: whether the guest has one.
fn adopt(config: &Config, host: &MemoryHost, agent: bool) -> Result<Plan, Refusal> {
    let mut observed = observe(config, host, Ask::WhatIsNeeded).unwrap();
    let mut desired = Desired::from_config(config, &observed, now(), Intent::Apply).unwrap();
    desired.adoption = Adoption::Careful;
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        observed.availability = if agent {
            Guest::new(host, "lb-1").availability(Duration::from_secs(5))
        } else {
            AgentAvailability::Out("there is none".into())
        };
    }
    plan_up(&desired, &observed, AT_ONCE)
}

/// It is lbctl's, and what was somebody's is as it was.
#[track_caller]
fn is_adopted(config: &Config, host: &MemoryHost) {
    let left = plan(config, host);
    assert!(left.is_empty(), "{:?}", left.changes);
    assert_eq!(
        host.volumes(),
        4,
        "base, disk, the old seed and the new one"
    );
    let seed = host.read_volume(&volume("lb-1-cloud-init.iso"), u64::MAX);
    assert_eq!(seed.unwrap(), FOREIGN_SEED);
    let disk = host.read_volume(&volume("lb-1"), u64::MAX);
    assert_eq!(disk.unwrap(), b"what the guest has written");
    let there = host.saved_definition("lb-1").unwrap().unwrap();
    for kept in [
        "<uuid>11111111-2222-3333-4444-555555555555</uuid>",
        r#"machine="pc-i440fx-7.2""#,
        r#"<source pool="default" volume="lb-1"/>"#,
        r#"<target dev="hdd" bus="ide"/><readonly/><serial>cloudinit</serial>"#,
        r#"<graphics type="spice" autoport="yes"/>"#,
    ] {
        assert!(there.expose().contains(kept), "{kept}: {}", there.expose());
    }
}

fn a_takeover_may_stop_anywhere(agent: bool, restarts: bool) {
    let config = config("");
    let whole = foreign(&config);
    let first = adopt(&config, &whole, agent).unwrap();
    let restart = |step: &Step| matches!(step, Step::Restart { .. });
    assert_eq!(
        first.steps.iter().any(restart),
        restarts,
        "{:?}",
        first.steps
    );
    apply(&first.steps, &whole, &mut Quiet).unwrap();
    is_adopted(&config, &whole);
    let total = whole.changes();

    for stop in 0..total {
        let host = foreign(&config);
        let steps = adopt(&config, &host, agent).unwrap().steps;
        host.stop_after(stop);
        apply(&steps, &host, &mut Quiet).unwrap_err();
        host.go_on();

        let back = host.clone_state();
        back.define("lb-1", &definition(&config)).unwrap();
        let domain = back.domain("lb-1").unwrap().unwrap();
        assert_eq!(domain.config_xml.expose(), definition(&config));
        assert!(domain.config.ownership.is_none() && domain.autostart);
        let old = back.read_volume(&volume("lb-1-cloud-init.iso"), u64::MAX);
        assert_eq!(old.unwrap(), FOREIGN_SEED, "after a stop at {stop}");

        for _ in 0..3 {
            let rest = adopt(&config, &host, agent).unwrap();
            apply(&rest.steps, &host, &mut Quiet).unwrap();
        }
        is_adopted(&config, &host);
    }
}

#[test]
fn a_takeover_of_a_running_guest_may_stop_anywhere() {
    a_takeover_may_stop_anywhere(true, false);
}

#[test]
fn a_takeover_by_a_restart_may_stop_anywhere() {
    a_takeover_may_stop_anywhere(false, true);
}

#[test]
fn a_way_down_leaves_what_was_taken_over() {
    let config = config("");
    let host = foreign(&config);
    apply(
        &adopt(&config, &host, true).unwrap().steps,
        &host,
        &mut Quiet,
    )
    .unwrap();
    let mut options = DownOptions {
        alone: false,
        stop_deadline: Duration::from_secs(5),
        delete_volume: true,
    };
    let observed = observe(&config, &host, Ask::Everything).unwrap();
    plan_down(&config, &observed, options).unwrap_err();
    options.delete_volume = false;
    let down = plan_down(&config, &observed, options).unwrap();
    apply(&down.steps, &host, &mut Quiet).unwrap();
    assert!(host.domain("lb-1").unwrap().is_none());
    assert_eq!(host.volumes(), 3, "base, disk, and the old seed");
    let observed = observe(&config, &host, Ask::Everything).unwrap();
    let network = observed.networks.values().next().unwrap();
    assert_eq!(network.facts.as_ref().unwrap().reservations.len(), 1);
}

#[test]
fn a_guest_that_refuses_is_left_as_it_was() {
    let config = config("");
    let host = foreign(&config);
    let before = definition(&config);
    host.refuse("no primary");
    let steps = adopt(&config, &host, true).unwrap().steps;
    apply(&steps, &host, &mut Quiet).unwrap_err();
    let there = host.saved_definition("lb-1").unwrap().unwrap();
    assert_eq!(there.expose(), before);
    assert_eq!(host.volumes(), 3, "base, disk, and the old seed");
}

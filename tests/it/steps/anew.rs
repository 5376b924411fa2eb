//! Another base volume of two VMs, by one `lbctl up --replace-disk`: one after the other gets a new
//! disk. Stopped after each single change to the host, and with another operator at work between
//! any two of them: never are both down, and the same command ends it well.

use std::cell::Cell;

use lbctl::testing::config::{Config, Disk, VolumeRef};
use lbctl::testing::exit::MessageId;
use lbctl::testing::host::HostReader;
use lbctl::testing::reconcile::desired::{Desired, Intent};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::plan_up;

use super::turns::{both, is_whole, plan, runs, up};
use super::{AT_ONCE, now};
use crate::support::host::{MemoryHost, Visitor, path};

const NEWER: &str = "newer";

fn base() -> VolumeRef {
    VolumeRef {
        pool: "os".into(),
        name: NEWER.into(),
    }
}

fn newer() -> Vec<Config> {
    let mut vms = both("");
    for config in &mut vms {
        let Disk::Clone(clone) = &mut config.disk else {
            panic!("not a clone")
        };
        clone.base.name = NEWER.into();
    }
    vms
}

fn running() -> MemoryHost {
    let host = MemoryHost::new();
    host.add_base(base());
    assert!(is_whole(&up(&both(""), &host)));
    host
}

fn disk(name: &str) -> VolumeRef {
    VolumeRef {
        pool: "default".into(),
        name: name.into(),
    }
}

#[track_caller]
fn both_have_it(host: &MemoryHost) {
    for config in &newer() {
        let name = config.name.as_str();
        assert!(plan(config, host).is_empty(), "{name}");
        assert!(runs(host, name));
        let volume = host.volume(&disk(name)).unwrap();
        let backing = volume.present().unwrap().backing.clone();
        assert_eq!(backing, Some(path(&base())));
    }
    assert_eq!(host.volumes(), 6, "two bases, two disks and two seeds");
}

/// Without the word for it nothing of a disk is lost, wherever lbctl was stopped before.
fn asks_for_the_word(host: &MemoryHost) {
    for config in &newer() {
        let observed = observe(config, host, Ask::Everything).unwrap();
        let desired = Desired::from_config(config, &observed, now(), Intent::Apply).unwrap();
        let Err(refusal) = plan_up(&desired, &observed, AT_ONCE) else {
            continue;
        };
        for objection in refusal.objections {
            assert!(
                matches!(
                    objection.id,
                    MessageId::BaseVolumeDiffers | MessageId::DiskMissing
                ),
                "{objection:?}"
            );
            assert!(objection.hint.contains("--replace-disk"), "{objection:?}");
        }
    }
}

#[test]
fn it_may_stop_anywhere_and_leaves_one_running() {
    let host = running();
    let (prepared, before) = (host.clone_state(), host.changes());
    asks_for_the_word(&host);
    assert!(is_whole(&up(&newer(), &host)));
    both_have_it(&host);
    let total = host.changes() - before;
    assert!(
        total >= 10,
        "each: stop, delete, clone, define, start: {total}"
    );
    for stop in 0..total {
        let host = prepared.clone_state();
        host.stop_after(stop);
        assert!(!is_whole(&up(&newer(), &host)), "{stop}");
        host.go_on();
        assert!(runs(&host, "lb-1") || runs(&host, "lb-2"), "{stop}");
        asks_for_the_word(&host);
        let again = up(&newer(), &host);
        assert!(is_whole(&again), "after a stop at {stop}: {again:?}");
        both_have_it(&host);
    }
}

thread_local! {
    static OTHER_RAN: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn two_operators_at_once_never_stop_both_and_lose_nothing() {
    let host = running();
    let (prepared, before) = (host.clone_state(), host.changes());
    up(&newer(), &host);
    let other: Visitor = |host| {
        OTHER_RAN.set(true);
        up(&newer(), host);
    };
    for place in 0..host.changes() - before {
        let host = prepared.clone_state();
        host.visit_after(place, other);
        let ended = up(&newer(), &host);
        eprintln!("at {place}: {ended:?}");
        assert!(OTHER_RAN.take(), "{place}");
        assert!(runs(&host, "lb-1") || runs(&host, "lb-2"), "{place}");
        let again = up(&newer(), &host);
        assert!(is_whole(&again), "at {place}: {again:?}");
        both_have_it(&host);
    }
}

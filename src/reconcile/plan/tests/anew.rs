//! A disk that is made anew, where that was asked for.

use super::hosts::*;
use super::{assert_changes, kinds, steps, up, wanted_disk};
use crate::exit::MessageId;
use crate::host::{DomainState, Snapshot, VolumeState};
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::{Observed, ObservedDisk};
use crate::reconcile::plan::{Class, Objection, Plan, RefusalKind, Restart, Step, plan_up};

fn asking() -> Desired {
    let mut wanted = desired();
    wanted.disk.replace = true;
    wanted
}

fn disk(observed: &mut Observed) -> (&mut VolumeState, &mut VolumeState) {
    let ObservedDisk::Clone { volume, base, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    (volume, base)
}

/// A VM that runs, and is to have another base.
fn another_base() -> Observed {
    let mut host = settled();
    *disk(&mut host).1 = present(volume("os", "newer"), None, 2 * GIB);
    wanted_disk(&mut host).base = volume("os", "newer");
    host
}

fn off(host: &mut Observed) {
    let domain = host.domain.as_mut().unwrap();
    (domain.live, domain.state) = (None, DomainState::ShutOff);
}

fn now(desired: &Desired, observed: &Observed) -> Plan {
    plan_up(desired, observed, NOW).unwrap()
}

fn refused(desired: &Desired, observed: &Observed) -> Objection {
    let refusal = plan_up(desired, observed, NOW).unwrap_err();
    let [objection] = refusal.objections.as_slice() else {
        panic!("{refusal:?}")
    };
    objection.clone()
}

#[test]
fn it_is_done_while_the_guest_is_off_and_only_where_it_was_asked_for() {
    let host = another_base();
    let objection = refused(&desired(), &host);
    assert_eq!(objection.id, MessageId::BaseVolumeDiffers);
    assert!(objection.hint.starts_with("`lbctl up --replace-disk`"));

    let plan = up(&asking(), &host);
    assert_changes(&plan, &[("disk", Class::Replace)]);
    assert_eq!(
        kinds(&plan),
        <[&str; 0]>::default(),
        "it keeps its disk while it runs"
    );
    assert!(plan.replaces_disk() && !plan.needing_restart().is_empty());
    assert!(!plan.awaits_restart() && !plan.hands_over());
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("would be lost: the guest's logs")),
        "{plan:?}"
    );

    let plan = now(&asking(), &host);
    assert_eq!(kinds(&plan), ["stop", "remake", "define", "start"]);
    assert_eq!(
        steps(&plan)[1],
        "remake volume default/lb-1 (10 GiB) from os/newer"
    );
    let change = plan.changes.first().unwrap().to_string();
    assert_eq!(
        change,
        "disk: default/lb-1, a clone of base -> made anew (10 GiB), a clone of os/newer (replace)"
    );
    assert!(matches!(plan.ending_jobs(), Some(Step::Stop { .. })));
}

#[test]
fn what_was_begun_goes_on_from_each_state() {
    let mut host = another_base();
    off(&mut host);
    let plan = up(&asking(), &host);
    assert_changes(&plan, &[("disk", Class::Live), ("state", Class::Live)]);
    assert_eq!(kinds(&plan), ["remake", "define", "start"]);

    *disk(&mut host).0 = VolumeState::Absent;
    let objection = refused(&desired(), &host);
    assert_eq!(objection.id, MessageId::DiskMissing);
    assert!(objection.hint.contains("--replace-disk"));
    assert_eq!(kinds(&up(&asking(), &host)), ["remake", "define", "start"]);

    *disk(&mut host).0 = present(volume("default", "lb-1"), Some("/os/newer"), 10 * GIB);
    assert_eq!(kinds(&up(&asking(), &host)), ["start"]);
    assert!(up(&asking(), &settled()).is_empty());
}

#[test]
fn a_smaller_disk_and_another_format_are_new_disks() {
    type Turn = fn(&mut Observed);
    let turns: [Turn; 2] = [
        |host| wanted_disk(host).size = Some(5 * GIB),
        |host| wanted_disk(host).format = crate::config::DiskFormat::Raw,
    ];
    for turn in turns {
        let mut host = settled();
        turn(&mut host);
        assert!(refused(&desired(), &host).hint.contains("--replace-disk"));
        let plan = now(&asking(), &host);
        assert_changes(&plan, &[("disk", Class::Replace)]);
        let kinds = kinds(&plan);
        assert_eq!(kinds[..2], ["stop", "remake"], "{kinds:?}");
    }
}

#[test]
fn what_nobody_said_yes_to_stays() {
    let mut host = another_base();
    host.domain.as_mut().unwrap().snapshots = vec![Snapshot {
        name: "before".into(),
        disks: Vec::new(),
        files: Vec::new(),
    }];
    let objection = refused(&asking(), &host);
    let found = (objection.kind, objection.id);
    assert_eq!(
        found,
        (RefusalKind::NeedsConsent, MessageId::DiskHoldsSnapshots)
    );

    // lbctl took the disk over, and did not make it.
    let mut host = another_base();
    let domain = host.domain.as_mut().unwrap();
    for definition in [Some(&mut domain.config), domain.live.as_mut()] {
        let record = definition.unwrap().ownership.as_mut().unwrap();
        record.disk.as_mut().unwrap().cloned = false;
    }
    let objection = refused(&asking(), &host);
    assert_eq!(objection.id, MessageId::BaseVolumeDiffers);
    assert!(!objection.hint.contains("--replace-disk"), "{objection:?}");
    assert!(plan_up(&asking(), &host, Restart::Later).is_err());
}

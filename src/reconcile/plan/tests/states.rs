//! Domains that neither run nor are simply off, and operations of others on them.

use super::hosts::{NOW, desired, seed, settled};
use super::{assert_changes, domain, kinds, refused, up};
use crate::config::NetworkRef;
use crate::exit::MessageId;
use crate::host::definition::BlockJob;
use crate::host::{DiskJob, DomainState, NicLink, SavedState, StateReason};
use crate::reconcile::observe::Observed;
use crate::reconcile::plan::down::beside;
use crate::reconcile::plan::{Class, RefusalKind, plan_up};

#[test]
fn a_guest_that_stands_still_goes_on_and_its_reason_is_said() {
    for (state, reason, change, step) in [
        (
            DomainState::Paused,
            Some(StateReason::IoError),
            "state: paused (I/O error) -> running (live)",
            "resume",
        ),
        (
            DomainState::Suspended,
            None,
            "state: suspended -> running (live)",
            "wake",
        ),
    ] {
        let mut observed = settled();
        (domain(&mut observed).state, domain(&mut observed).reason) = (state, reason);
        let plan = up(&desired(), &observed);
        assert_eq!(plan.changes[0].to_string(), change);
        assert_eq!(kinds(&plan), [step]);
        assert!(!plan.continues);
        assert_eq!(
            plan.notes.len(),
            usize::from(reason.is_some()),
            "{:?}",
            plan.notes
        );

        // It is changed when it goes on: until then its agent answers nothing.
        let mut wanted = desired();
        wanted.seed = seed("changed");
        let plan = up(&wanted, &observed);
        assert_eq!(kinds(&plan), [step]);
        assert!(plan.continues);
        assert!(plan.needing_restart().is_empty(), "{:?}", plan.changes);
    }
}

#[test]
fn a_crashed_guest_is_restarted_only_when_allowed() {
    let mut observed = settled();
    (domain(&mut observed).state, domain(&mut observed).reason) =
        (DomainState::Crashed, Some(StateReason::Panicked));
    let plan = up(&desired(), &observed);
    assert_changes(&plan, &[("state", Class::Restart)]);
    assert!(plan.steps.is_empty());
    assert!(!plan.awaits_restart(), "nobody has agreed to wait");
    let now = plan_up(&desired(), &observed, NOW).unwrap();
    assert_eq!(kinds(&now), ["restart"]);
}

#[test]
fn an_operation_of_libvirt_is_not_disturbed() {
    for reason in [
        StateReason::Saving,
        StateReason::Migrating,
        StateReason::Dumping,
        StateReason::Snapshotting,
    ] {
        let mut observed = settled();
        (domain(&mut observed).state, domain(&mut observed).reason) =
            (DomainState::Paused, Some(reason));
        let [objection] = &refused(&desired(), &observed)[..] else {
            panic!("one reason")
        };
        assert_eq!(
            (objection.id, objection.kind),
            (MessageId::DomainBusy, RefusalKind::Unfit)
        );
    }
}

#[test]
fn a_block_job_is_in_the_way_of_a_restart_only() {
    let mut observed = settled();
    let live = domain(&mut observed).live.as_mut().unwrap();
    live.disks[0].job = Some(BlockJob {
        kind: "copy".into(),
        to: None,
    });
    assert!(up(&desired(), &observed).is_empty());
    let mut wanted = desired();
    wanted.domain.memory_mib = 2048;
    assert_eq!(kinds(&up(&wanted, &observed)), ["define"]);
    assert_eq!(
        refused(&wanted, &observed)[0].id,
        MessageId::BlockJobRunning
    );
    // Each once, whoever says it.
    for (kind, hint) in [
        ("pull", "`virsh blockjob lb-1 vda --abort`"),
        ("backup", "`virsh domjobabort lb-1`"),
    ] {
        let mut observed = settled();
        observed.jobs = vec![DiskJob {
            target: "vda".into(),
            kind: kind.into(),
        }];
        assert!(up(&desired(), &observed).is_empty());
        let objections = refused(&wanted, &observed);
        assert_eq!(objections.len(), 1, "{objections:?}");
        assert!(objections[0].message.contains(kind), "{objections:?}");
        assert!(objections[0].hint.contains(hint), "{objections:?}");
    }
}

#[test]
fn down_says_which_job_ends_with_the_guest() {
    let notes = |observed: &Observed| {
        let domain = observed.domain.as_ref().unwrap();
        let notes = beside(domain, observed);
        let of_jobs = notes.iter().filter(|note| note.contains("block job"));
        of_jobs.cloned().collect::<Vec<String>>()
    };
    let mut observed = settled();
    assert!(notes(&observed).is_empty());
    for (kind, said) in [
        (
            "pull",
            "the block job (pull) on disk vda ends with the guest",
        ),
        (
            "backup",
            "the block job (backup) on disk vda ends with the guest; what it has written is incomplete",
        ),
    ] {
        observed.jobs = vec![DiskJob {
            target: "vda".into(),
            kind: kind.into(),
        }];
        assert_eq!(notes(&observed), [said]);
    }
    // Each once, whoever says it.
    let live = domain(&mut observed).live.as_mut().unwrap();
    live.disks[0].job = Some(BlockJob {
        kind: "copy".into(),
        to: None,
    });
    let said = "the block job (copy) on disk vda ends with the guest";
    assert_eq!(notes(&observed), [said]);
}

#[test]
fn a_saved_guest_is_started_first_and_what_differs_has_its_class() {
    let mut observed = settled();
    let facts = domain(&mut observed);
    facts.saved = Some(SavedState {
        definition: facts.live.take(),
    });
    (facts.state, facts.reason) = (DomainState::ShutOff, Some(StateReason::Saved));
    let plan = up(&desired(), &observed);
    assert_changes(&plan, &[("state", Class::Live)]);
    assert_eq!((kinds(&plan), plan.continues), (vec!["start"], false));
    let mut wanted = desired();
    (wanted.domain.memory_mib, wanted.seed) = (2048, seed("changed"));
    let plan = up(&wanted, &observed);
    let classes: Vec<Class> = plan.changes.iter().map(|c| c.class).collect();
    assert_eq!(
        classes,
        [Class::Restart, Class::Live, Class::Live],
        "{:?}",
        plan.changes
    );
    assert_eq!((kinds(&plan), plan.continues), (vec!["start"], true));
    // What it needs is gone: only the operator can decide.
    observed.seeds[0].volume = crate::host::VolumeState::Vanished;
    observed.seeds[0].content = None;
    assert_eq!(
        refused(&desired(), &observed)[0].id,
        MessageId::SavedStateBroken
    );
}

#[test]
fn a_link_is_lost_only_where_the_bridge_is_libvirts() {
    for (own_bridge, ports, lost) in [
        (true, Some(vec!["p1".to_owned()]), false),
        (true, Some(vec!["P1".to_owned()]), false),
        (true, Some(Vec::new()), true),
        (true, None, false),
        (false, Some(Vec::new()), false),
    ] {
        let mut observed = settled();
        let mac = desired().interfaces[0].mac;
        domain(&mut observed).live.as_mut().unwrap().links = vec![NicLink {
            mac,
            port: Some("p1".into()),
            up: true,
        }];
        let lab = observed
            .networks
            .get_mut(&NetworkRef::Name("lab".into()))
            .unwrap();
        let facts = lab.facts.as_mut().unwrap();
        (facts.own_bridge, facts.ports) = (own_bridge, ports);
        let plan = up(&desired(), &observed);
        assert_eq!(plan.needing_restart().len(), usize::from(lost));
        assert!(!plan.awaits_restart());
        let now = plan_up(&desired(), &observed, NOW).unwrap();
        assert_eq!(kinds(&now).len(), usize::from(lost));
    }
}

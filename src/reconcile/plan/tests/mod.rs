//! Stories of plans: first that nothing is done where nothing differs, then one difference at a
//! time.
#![allow(clippy::unwrap_used, clippy::panic)]

mod actions;
mod adopt;
mod anew;
mod first;
mod guest;
mod hosts;
mod refused;
mod shared;
mod states;
mod update;

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

fn wanted_disk(observed: &mut Observed) -> &mut CloneVolume {
    let ObservedDisk::Clone { wanted, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    wanted
}

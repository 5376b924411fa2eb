//! The plan of `renew`: another certificate in the seed and in the running guest, and nothing else.
//! What of the configuration was edited and not applied yet stays so: a timer runs this at night.

use super::guest::converge;
use super::made;
use super::seeds::{self, delete_seed};
use super::up::foreign;
use super::{
    Change, Class, Drives, Objection, ObjectionSubject, OwnershipKind, Plan, Refusal, RefusalKind,
    Step, Subject, Value,
};
use crate::config::VolumeRef;
use crate::exit::MessageId;
use crate::guest::{AgentAvailability, Extent};
use crate::host::ownership::{Ownership, SeedRecord};
use crate::host::{DomainFacts, DomainState, Drive, Scope, StateReason};
use crate::reconcile::desired::Renewal;
use crate::reconcile::observe::Observed;

/// The steps that bring the renewed certificate to where it is used.
pub fn plan_renew(renewal: &Renewal, observed: &Observed) -> Result<Plan, Refusal> {
    let refuse = |objection| Refusal {
        objections: vec![objection],
    };
    let Some(domain) = &observed.domain else {
        return Err(refuse(Objection::new(
            MessageId::DomainMissing,
            RefusalKind::Unfit,
            ObjectionSubject::Domain,
            "there is no load balancer whose certificate could be renewed",
            "`lbctl up` creates it",
        )));
    };
    if let Some(objection) = foreign(&domain.name, Some(domain)) {
        return Err(refuse(objection));
    }
    if let Some(objection) = unavailable(domain, &observed.availability) {
        return Err(refuse(objection));
    }
    let made = domain.config.ownership.as_ref().map(made::prints);
    let made = made.unwrap_or_default();
    let seed = seeds::plan(&renewal.seed, &renewal.seed_volume, &made, observed)
        .map_err(|objections| Refusal { objections })?;
    let scope = Scope {
        config: domain.persistent,
        live: domain.live.is_some(),
    };
    let mut steps = seed.write.clone();
    let new_seed = (!seed.write.is_empty()).then(|| seed.at.clone());
    if scope.live {
        steps.extend(converge(
            domain,
            &renewal.seed,
            Extent::Tls,
            &renewal.despite,
            new_seed,
        ));
    }
    let written = SeedRecord {
        volume: seed.at.clone(),
        fingerprint: renewal.seed.fingerprint.clone(),
        parts: renewal.seed.parts.clone(),
    };
    steps.push(Step::SwapMedium {
        domain: domain.name.clone(),
        seed: written.clone(),
        drives: drives(domain, observed),
    });
    let previous = seed.previous();
    let notes = seed.notes().collect();
    steps.extend(records(domain, &written, &previous, scope));
    let stale = seed.stale.into_iter();
    let stale = stale.map(|at| delete_seed(&domain.name, at));
    steps.extend(stale);
    let to = Value::from(&renewal.certificate);
    let subject = Subject::ClientCertificate;
    Ok(Plan {
        name: domain.name.clone(),
        changes: vec![Change::new(subject, Value::Nothing, to, Class::Live)],
        steps,
        notes,
        continues: false,
        no_spare: false,
    })
}

/// Why the guest cannot take another certificate now.
fn unavailable(domain: &DomainFacts, availability: &AgentAvailability) -> Option<Objection> {
    if domain.saved.is_some() {
        return Some(Objection::new(
            MessageId::GuestSaved,
            RefusalKind::NeedsConsent,
            ObjectionSubject::Domain,
            format!(
                "the memory of guest {} is saved: its start resumes it with the certificate that it has, and not with \
                 a new one",
                domain.name
            ),
            format!(
                "`lbctl up` starts it, and `lbctl renew` can renew it then; or `virsh managedsave-remove {}` discards \
                 the saved state",
                domain.name
            ),
        ));
    }
    if let DomainState::Paused | DomainState::Suspended | DomainState::Crashed = domain.state {
        let why = domain
            .reason
            .map_or_else(String::new, |why| format!(" ({why})"));
        return Some(Objection::new(
            MessageId::GuestUnavailable,
            RefusalKind::NeedsConsent,
            ObjectionSubject::Domain,
            format!(
                "the guest {} cannot take a new certificate: it is {}{why}",
                domain.name, domain.state
            ),
            match domain.reason {
                Some(StateReason::StartingUp) => "run lbctl again when it has started",
                _ => "`lbctl up` lets it go on; then renew it",
            },
        ));
    }
    if let (true, AgentAvailability::Out(why)) = (domain.live.is_some(), availability) {
        return Some(Objection::new(
            MessageId::GuestUnavailable,
            RefusalKind::NeedsConsent,
            ObjectionSubject::Domain,
            format!("the running guest cannot take a new certificate: {why}"),
            "`lbctl up --restart now` renews it with a restart of the guest, which cuts its sessions",
        ));
    }
    None
}

fn drives(domain: &DomainFacts, observed: &Observed) -> Drives {
    let config = Some(&domain.config).filter(|_| domain.persistent);
    let live = domain.live.as_ref();
    let of = |definition, twin| seeds::drive(definition, twin, observed).map(Drive::from);
    Drives {
        config: config.and_then(|definition| of(definition, live)),
        live: live.and_then(|definition| of(definition, config)),
    }
}

/// The saved definition's ownership record names the seed. The running one's says what the guest
/// has: all that the seed gives, unless something of it was already waiting for a restart, and
/// still waits.
fn records(
    domain: &DomainFacts,
    written: &SeedRecord,
    previous: &[VolumeRef],
    scope: Scope,
) -> Vec<Step> {
    let saved = domain.config.ownership.as_ref();
    let running = domain
        .live
        .as_ref()
        .and_then(|live| live.ownership.as_ref());
    let step = |ownership: Ownership, note| Step::SetOwnership {
        domain: domain.name.clone(),
        ownership: Box::new(ownership),
        note,
    };
    let mut steps = Vec::new();
    if let (true, Some(saved)) = (scope.config, saved) {
        let ownership = Ownership {
            seed: written.clone(),
            stale_seeds: previous.to_vec(),
            ..saved.clone()
        };
        steps.push(step(ownership, OwnershipKind::NextBoot));
    }
    if let (true, Some(running)) = (scope.live, running) {
        let waits = saved.is_some_and(|s| s.seed.parts.guest != running.seed.parts.guest);
        let mut ownership = Ownership {
            seed: written.clone(),
            ..running.clone()
        };
        if waits {
            ownership
                .seed
                .parts
                .guest
                .clone_from(&running.seed.parts.guest);
            ownership
                .seed
                .parts
                .start
                .clone_from(&running.seed.parts.start);
        }
        ownership
            .seed
            .parts
            .boot
            .clone_from(&running.seed.parts.boot);
        steps.push(step(ownership, OwnershipKind::Guest));
    }
    steps
}

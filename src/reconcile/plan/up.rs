//! The plan of `up`: what differs, and the steps that end it.

use super::parts::Parts;
use super::{
    Change, Class, Objection, ObjectionSubject, Plan, Refusal, RefusalKind, Restart, Step, Subject,
    Value, disk, network, seeds, update,
};
use crate::exit::MessageId;
use crate::host::ownership::{LAYOUT, Ownership, SeedRecord};
use crate::host::{DomainFacts, DomainState};
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::Observed;

/// Compares desired with observed. With [`Restart::Later`] no step disturbs a running guest.
pub fn plan_up(desired: &Desired, observed: &Observed, restart: Restart) -> Result<Plan, Refusal> {
    let name = &desired.domain.name;
    if let Some(objection) = foreign(name, observed.domain.as_ref()) {
        return Err(Refusal {
            objections: vec![objection],
        });
    }
    let creating = observed.domain.is_none();
    let parts = (
        network::plan(desired, observed, creating),
        disk::plan(observed),
        seeds::plan(&desired.seed, &desired.seed_volume, observed),
    );
    let (network, disk, seed) = match parts {
        (Ok(network), Ok(disk), Ok(seed)) => (network, disk, seed),
        (network, disk, seed) => {
            let all = [network.err(), disk.err(), seed.err()];
            return Err(Refusal {
                objections: all.into_iter().flatten().flatten().collect(),
            });
        }
    };
    let ownership = Ownership {
        layout: LAYOUT,
        seed: SeedRecord {
            volume: seed.at.clone(),
            fingerprint: desired.seed.fingerprint.clone(),
            parts: desired.seed.parts.clone(),
        },
        stale_seeds: seed.stale.clone(),
        disk: disk.ownership.clone(),
        reservations: network.records.clone(),
    };
    let parts = Parts {
        network,
        disk,
        seed,
        ownership,
    };
    Ok(match &observed.domain {
        None => create(desired, observed, parts),
        Some(domain) => update::update(desired, observed, domain, parts, restart),
    })
}

pub(super) fn foreign(name: &str, domain: Option<&DomainFacts>) -> Option<Objection> {
    let domain = domain?;
    if domain.config.ownership.is_some()
        || domain
            .live
            .as_ref()
            .is_some_and(|live| live.ownership.is_some())
    {
        return (domain.state == DomainState::ShuttingDown).then(|| {
            Objection::new(
                MessageId::DomainShuttingDown,
                RefusalKind::Unfit,
                ObjectionSubject::Domain,
                format!("domain {name} is shutting down"),
                "run lbctl again when it has stopped (`virsh domstate`)",
            )
        });
    }
    Some(Objection::new(
        MessageId::DomainNotOurs,
        RefusalKind::NotOurs,
        ObjectionSubject::Domain,
        format!(
            "domain {name} ({}, uuid {}) already exists, and lbctl did not make it",
            domain.state, domain.uuid
        ),
        "choose another `name`, or remove that domain yourself if nobody needs it",
    ))
}

fn create(desired: &Desired, observed: &Observed, parts: Parts) -> Plan {
    let spec = &desired.domain;
    let domain = spec.name.clone();
    let created = [
        (
            Subject::ClientCertificate,
            Value::from(&desired.certificate),
        ),
        (Subject::Seed, Value::from(&parts.seed.at)),
        (Subject::Domain, Value::from(spec)),
    ];
    let mut changes = [&parts.network.changes[..], &parts.disk.changes].concat();
    changes.extend(
        created.map(|(subject, to)| Change::new(subject, Value::Nothing, to, Class::Create)),
    );
    let mut steps = parts.before_definition();
    let known = observed.claims.iter().map(|c| c.domain.clone());
    steps.push(parts.define(spec, None, known.collect()));
    steps.push(Step::SetAutostart {
        domain: domain.clone(),
        on: true,
    });
    steps.push(Step::Start {
        domain: domain.clone(),
    });
    steps.extend(parts.cleaning(&domain));
    Plan {
        name: domain,
        changes,
        steps,
        notes: parts.disk.notes,
    }
}

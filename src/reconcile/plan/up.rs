//! The plan of `up`: what differs, and the steps that end it.

use std::time::Duration;

use super::parts::Parts;
use super::{
    Change, Class, Objection, ObjectionSubject, Plan, Refusal, RefusalKind, Restart, Step, Subject,
    Value, adopt, disk, fitness, made, network, seeds, update,
};
use crate::exit::MessageId;
use crate::host::ownership::{LAYOUT, Ownership, SeedRecord};
use crate::host::{DomainFacts, DomainState, SavedState, VolumeState};
use crate::reconcile::desired::{Desired, DiskConsent};
use crate::reconcile::observe::Observed;

/// Compares desired with observed. With [`Restart::Later`] no step disturbs a running guest.
pub fn plan_up(desired: &Desired, observed: &Observed, restart: Restart) -> Result<Plan, Refusal> {
    let Some(adopted) = adopt::adopted(desired, observed) else {
        return plan(desired, observed, restart);
    };
    let mut objections = adopt::objections(desired, observed);
    match plan(desired, &adopted, restart) {
        Ok(mut plan) if objections.is_empty() => {
            plan.notes.extend(adopt::remarks(desired, observed));
            Ok(plan)
        }
        planned => {
            let more = planned.err().into_iter().flat_map(|r| r.objections);
            let known: Vec<_> = objections.iter().map(|known| known.id).collect();
            objections.extend(more.filter(|objection| !known.contains(&objection.id)));
            Err(Refusal { objections })
        }
    }
}

fn plan(desired: &Desired, observed: &Observed, restart: Restart) -> Result<Plan, Refusal> {
    let name = &desired.domain.name;
    if let Some(objection) = foreign(name, observed.domain.as_ref()) {
        // All that would be in the way if the name were free is reported with it.
        let mut objections = vec![objection];
        if objections.iter().all(|o| o.kind == RefusalKind::NotOurs) {
            let without = Observed {
                domain: None,
                ..observed.clone()
            };
            // Without the domain its disk would be nobody's: to say so would be to invite two
            // machines to one disk.
            let own_disk = observed
                .domain
                .as_ref()
                .zip(observed.disk.volume().present());
            let own_disk = own_disk.is_some_and(|(domain, facts)| {
                let mut definitions = domain.definitions();
                definitions.any(|d| d.disk_of(facts).is_some())
            });
            let desired = Desired {
                disk: DiskConsent {
                    reuse: desired.disk.reuse || own_disk,
                    ..desired.disk
                },
                ..desired.clone()
            };
            let more = plan(&desired, &without, restart).err();
            objections.extend(more.into_iter().flat_map(|refusal| refusal.objections));
        }
        return Err(Refusal { objections });
    }
    let creating = observed.domain.is_none();
    let unfit = fitness::domain(desired, observed);
    let network = network::plan(desired, observed, creating);
    let disk = disk::plan(desired.disk, observed);
    let mut ownership = Ownership {
        layout: LAYOUT,
        seed: SeedRecord {
            volume: desired.seed_volume.clone(),
            fingerprint: desired.seed.fingerprint.clone(),
            parts: desired.seed.parts.clone(),
        },
        stale_seeds: Vec::new(),
        disk: disk.as_ref().ok().and_then(|disk| disk.ownership.clone()),
        reservations: network
            .as_ref()
            .map_or_else(|_| Vec::new(), |network| network.records.clone()),
    };
    let made = made::prints(&ownership);
    let seed = seeds::plan(&desired.seed, &desired.seed_volume, &made, observed);
    let (network, disk, seed) = match (network, disk, seed) {
        (Ok(network), Ok(disk), Ok(seed)) if unfit.is_empty() => (network, disk, seed),
        (network, disk, seed) => {
            let all = [Some(unfit), network.err(), disk.err(), seed.err()];
            return Err(Refusal {
                objections: all.into_iter().flatten().flatten().collect(),
            });
        }
    };
    ownership.seed.volume.clone_from(&seed.at);
    ownership.stale_seeds = seed.previous();
    let parts = Parts {
        network,
        disk,
        seed,
        ownership,
    };
    let remarks = fitness::remarks(desired, observed).into_iter();
    let remarks = remarks.map(|remark| remark.message).chain(keyless(desired));
    let Some(domain) = &observed.domain else {
        let mut plan = create(desired, observed, parts);
        plan.notes.extend(remarks);
        return Ok(plan);
    };
    let mut plan = match &domain.saved {
        Some(saved) => {
            ensure_resumable(domain, saved, observed)?;
            update::from_saved(desired, observed, domain, saved, parts)
        }
        None => update::update(desired, observed, domain, parts, restart),
    };
    ensure_no_job_ends(&plan, domain, observed)?;
    plan.notes.extend(remarks);
    Ok(plan)
}

/// A restart of the running guest, and nothing else.
pub fn plan_restart(
    domain: &DomainFacts,
    observed: &Observed,
    deadline: Duration,
) -> Result<Plan, Refusal> {
    let name = &domain.name;
    if let Some(objection) = foreign(name, Some(domain)) {
        return Err(Refusal {
            objections: vec![objection],
        });
    }
    let plan = Plan {
        name: name.clone(),
        changes: Vec::new(),
        steps: vec![Step::Restart {
            domain: name.clone(),
            run: domain.live.as_ref().and_then(|live| live.run),
            deadline,
            fallback: domain.config_xml.clone(),
        }],
        notes: Vec::new(),
        continues: false,
        no_spare: false,
    };
    ensure_no_job_ends(&plan, domain, observed)?;
    Ok(plan)
}

/// What `up` will miss, where a plan is only shown.
fn keyless(desired: &Desired) -> Option<String> {
    let missing = desired.certificate.as_ref()?.keyless.as_ref()?;
    Some(format!(
        "{}: `lbctl up` issues the client certificate with it; {}",
        missing.message, missing.hint
    ))
}

/// A guest that is resumed opens the files that it had when it was saved.
fn ensure_resumable(
    domain: &DomainFacts,
    saved: &SavedState,
    observed: &Observed,
) -> Result<(), Refusal> {
    let definition = saved.definition.as_ref();
    let Some(seed) = definition
        .and_then(|d| d.ownership.as_ref())
        .map(|m| &m.seed)
    else {
        return Ok(());
    };
    let state = observed.seeds.iter().find(|s| s.at == seed.volume);
    let lost =
        state.is_some_and(|s| matches!(s.volume, VolumeState::Absent | VolumeState::Vanished));
    if !lost {
        return Ok(());
    }
    let name = &domain.name;
    let objection = Objection::new(
        MessageId::SavedStateBroken,
        RefusalKind::NeedsConsent,
        ObjectionSubject::Domain,
        format!(
            "the saved state of domain {name} cannot be resumed: it needs seed {}, which does not exist any more",
            seed.volume
        ),
        format!(
            "`virsh managedsave-remove {name}` discards the saved state, so that `lbctl up` boots the guest"
        ),
    );
    Err(Refusal {
        objections: vec![objection],
    })
}

/// A block job may be somebody's backup: it ends when the guest stops, and a disk that has one
/// cannot grow.
fn ensure_no_job_ends(
    plan: &Plan,
    domain: &DomainFacts,
    observed: &Observed,
) -> Result<(), Refusal> {
    let Some(step) = plan.ending_jobs() else {
        return Ok(());
    };
    let name = &domain.name;
    let mut found: Vec<(&str, &str)> = jobs(domain).collect();
    let asked = observed.jobs.iter();
    for job in asked.map(|job| (job.target.as_str(), job.kind.as_str())) {
        if !found.iter().any(|(target, _)| *target == job.0) {
            found.push(job);
        }
    }
    let objections: Vec<Objection> = found
        .into_iter()
        .map(|(target, kind)| {
            let ends = match kind {
                "backup" => format!("virsh domjobabort {name}"),
                _ => format!("virsh blockjob {name} {target} --abort"),
            };
            Objection::new(
                MessageId::BlockJobRunning,
                RefusalKind::NeedsConsent,
                ObjectionSubject::RootDisk,
                format!("a block job ({kind}) runs on disk {target} of domain {name}, so that lbctl cannot {step}"),
                format!(
                    "wait for its end (`virsh blockjob {name} {target}` shows it), or end it with `{ends}`; then run \
                     lbctl again"
                ),
            )
        })
        .collect();
    if objections.is_empty() {
        Ok(())
    } else {
        Err(Refusal { objections })
    }
}

/// The block jobs of the running guest, each with the disk that it is on.
pub(super) fn jobs(domain: &DomainFacts) -> impl Iterator<Item = (&str, &str)> {
    let disks = domain.live.iter().flat_map(|live| &live.disks);
    disks.filter_map(|disk| Some((disk.target.as_str(), disk.job.as_ref()?.kind.as_str())))
}

pub(super) fn foreign(name: &str, domain: Option<&DomainFacts>) -> Option<Objection> {
    let domain = domain?;
    if domain.is_ours() {
        return busy(name, domain);
    }
    Some(not_ours(name, domain))
}

/// Refuses a domain of that name that lbctl did not make.
pub fn ensure_ours(name: &str, observed: &Observed) -> Result<(), Refusal> {
    match &observed.domain {
        Some(domain) if !domain.is_ours() => Err(Refusal {
            objections: vec![not_ours(name, domain)],
        }),
        _ => Ok(()),
    }
}

fn not_ours(name: &str, domain: &DomainFacts) -> Objection {
    Objection::new(
        MessageId::DomainNotOurs,
        RefusalKind::NotOurs,
        ObjectionSubject::Domain,
        format!(
            "domain {name} ({}, uuid {}) already exists, and lbctl did not make it",
            domain.state, domain.uuid
        ),
        format!(
            "choose another `name`; if it is a load balancer that something else made, `lbctl adopt` takes it over \
             (docs/terraform.md); if nobody needs it, `virsh undefine {name}` removes it"
        ),
    )
}

/// Something is going on that ends by itself.
pub(super) fn busy(name: &str, domain: &DomainFacts) -> Option<Objection> {
    let (id, what) = match domain.reason {
        _ if domain.state == DomainState::ShuttingDown => {
            (MessageId::DomainShuttingDown, "shutting down".to_owned())
        }
        Some(reason) if reason.is_an_operation() => (MessageId::DomainBusy, reason.to_string()),
        _ => return None,
    };
    Some(Objection::new(
        id,
        RefusalKind::Unfit,
        ObjectionSubject::Domain,
        format!("domain {name} is {what}"),
        match id {
            MessageId::DomainBusy => {
                format!("run lbctl again when that has ended (`virsh domjobinfo {name}`)")
            }
            _ => format!("run lbctl again when it has stopped (`virsh domstate {name}`)"),
        },
    ))
}

fn create(desired: &Desired, observed: &Observed, parts: Parts) -> Plan {
    let spec = &desired.domain;
    let domain = spec.name.clone();
    let certificate = desired.certificate.as_ref();
    let certificate =
        certificate.map(|certificate| (Subject::ClientCertificate, Value::from(certificate)));
    let created = certificate.into_iter().chain([
        (Subject::Seed, Value::from(&parts.seed.at)),
        (Subject::Domain, Value::from(spec)),
    ]);
    let mut changes = [&parts.network.changes[..], &parts.disk.changes].concat();
    changes.extend(
        created.map(|(subject, to)| Change::new(subject, Value::Nothing, to, Class::Create)),
    );
    // A base volume of an image is nobody's, and takes longest. The seed names what the others
    // make, until there is a record.
    let is_image = |step: &Step| matches!(step, Step::BringImage(_));
    let (images, disk): (Vec<_>, Vec<_>) = parts.disk.steps.iter().cloned().partition(is_image);
    let mut steps = [
        &images[..],
        &parts.seed.write,
        &parts.network.reserve,
        &disk,
    ]
    .concat();
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
        continues: false,
        no_spare: false,
    }
}

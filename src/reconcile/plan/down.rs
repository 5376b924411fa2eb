//! The plan of `down`: everything with lbctl's ownership record, and only that.

use std::time::Duration;

use super::seeds::{self, delete_seed};
use super::{
    Change, Class, Objection, ObjectionSubject, Plan, Refusal, RefusalKind, Removed, Step, Subject,
    Value, disk, network, up,
};
use crate::config::{Config, VolumeRef};
use crate::exit::MessageId;
use crate::host::{Source, VolumeFacts};
use crate::reconcile::observe::{Observed, ObservedDisk};

#[derive(Debug, Clone, Copy)]
pub struct DownOptions {
    /// How long the guest may take to stop by itself before its power is cut.
    pub stop_deadline: Duration,
    /// Also delete the disk that lbctl cloned.
    pub delete_volume: bool,
}

/// What `down` removes. A domain of that name that is not lbctl's is refused.
pub fn plan_down(
    config: &Config,
    observed: &Observed,
    options: DownOptions,
) -> Result<Plan, Refusal> {
    let name = config.name.as_str().to_owned();
    let domain = observed.domain.as_ref();
    if let Some(objection) = up::foreign(&name, domain).filter(|o| o.kind == RefusalKind::NotOurs) {
        return Err(Refusal {
            objections: vec![objection],
        });
    }
    let mut plan = Plan {
        name: name.clone(),
        changes: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
    };
    if let Some(domain) = domain {
        if domain.live.is_some() {
            let stop = Step::Stop {
                domain: name.clone(),
                deadline: options.stop_deadline,
            };
            remove(&mut plan, Removed::Guest(name.clone()), stop);
        }
        if domain.persistent {
            let undefine = Step::Undefine {
                domain: name.clone(),
            };
            remove(&mut plan, Removed::Domain(name.clone()), undefine);
        }
    }
    for at in seeds::ours(observed) {
        let removed = Removed::Seed(at.clone());
        remove(&mut plan, removed, delete_seed(&name, at));
    }
    remove_disk(config, observed, options, &mut plan)?;
    let macs: Vec<_> = config.interfaces.iter().map(|i| Some(i.mac)).collect();
    for (network, entry, facts) in network::our_entries(&name, &macs, observed) {
        let removed = Removed::Reservation {
            network: network.clone(),
            entry: entry.clone(),
        };
        let release = Step::Release {
            scope: facts.holding(&entry),
            network,
            entry,
        };
        remove(&mut plan, removed, release);
    }
    Ok(plan)
}

/// Each thing that is removed is a change, with the step that removes it.
fn remove(plan: &mut Plan, removed: Removed, step: Step) {
    let subject = Subject::Removed(removed);
    let change = Change::new(subject, Value::Nothing, Value::Nothing, Class::Live);
    plan.changes.push(change);
    plan.steps.push(step);
}

fn remove_disk(
    config: &Config,
    observed: &Observed,
    options: DownOptions,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let (clone, volume, base) = match &observed.disk {
        ObservedDisk::Clone {
            wanted,
            volume,
            base,
        } => (wanted, volume, base),
        ObservedDisk::Existing { .. } => {
            if options.delete_volume {
                plan.notes
                    .push("lbctl did not make the disk (volume_id): it is kept".into());
            }
            return Ok(());
        }
    };
    let Some(facts) = volume.present() else {
        return Ok(());
    };
    if !options.delete_volume {
        plan.notes.push(format!(
            "volume {} is kept, with its data; `lbctl up` uses it again, `lbctl down --delete-volume` deletes it",
            clone.volume
        ));
        return Ok(());
    }
    let ownership = observed
        .domain
        .as_ref()
        .and_then(|d| d.config.ownership.as_ref())
        .and_then(|m| m.disk.as_ref());
    let recorded = ownership.is_some_and(|m| m.cloned && m.volume == clone.volume);
    let of_base = base
        .present()
        .is_some_and(|base| disk::is_clone_of(facts, base));
    if !recorded && !of_base {
        let why = "it is not known whether lbctl made it";
        return Err(not_ours(MessageId::VolumeNotOurs, &clone.volume, why));
    }
    if let Some(claims) = observed.claims.iter().find(|c| claims_it(&c.disks, facts)) {
        return Err(not_ours(
            MessageId::DiskClaimed,
            &clone.volume,
            &format!("it is a disk of domain {}", claims.domain),
        ));
    }
    let delete = Step::DeleteVolume {
        at: clone.volume.clone(),
        domain: config.name.as_str().to_owned(),
    };
    remove(plan, Removed::Disk(clone.volume.clone()), delete);
    Ok(())
}

fn claims_it(disks: &[Source], facts: &VolumeFacts) -> bool {
    disks
        .iter()
        .any(|s| *s == facts.source || *s == Source::Volume(facts.at.clone()))
}

fn not_ours(id: MessageId, volume: &VolumeRef, why: &str) -> Refusal {
    let message = format!("volume {volume} is not deleted: {why}");
    let hint = format!(
        "`virsh vol-delete {} --pool {}` deletes it, if that is wanted",
        volume.name, volume.pool
    );
    Refusal {
        objections: vec![Objection::new(
            id,
            RefusalKind::NotOurs,
            ObjectionSubject::RootDisk,
            message,
            hint,
        )],
    }
}

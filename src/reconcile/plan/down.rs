//! The plan of `down`: everything with lbctl's ownership record, and only that.

use std::time::Duration;

use super::seeds::{self, delete_seed};
use super::{
    Change, Class, Objection, ObjectionSubject, Plan, Refusal, RefusalKind, Step, network, up,
};
use crate::config::{Config, Disk, VolumeRef};
use crate::host::{Source, VolumeFacts};
use crate::reconcile::observe::{Observed, ObservedDisk};

#[derive(Debug, Clone, Copy)]
pub struct DownOptions {
    /// How long the guest may take to stop by itself before its power is cut.
    pub stop_deadline: Duration,
    /// Delete the disk that lbctl cloned, too.
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
            plan.steps.push(Step::Stop {
                domain: name.clone(),
                deadline: options.stop_deadline,
            });
        }
        if domain.persistent {
            plan.steps.push(Step::Undefine {
                domain: name.clone(),
            });
        }
    }
    plan.steps.extend(
        seeds::ours(observed)
            .into_iter()
            .map(|at| delete_seed(&name, at)),
    );
    disk(config, observed, options, &mut plan)?;
    let macs: Vec<_> = config.interfaces.iter().map(|i| Some(i.mac)).collect();
    plan.steps.extend(
        network::our_entries(&name, &macs, observed)
            .into_iter()
            .map(|(id, entry, facts)| Step::Release {
                scope: facts.holding(&entry),
                network: id,
                entry,
            }),
    );
    plan.changes = plan
        .steps
        .iter()
        .map(|s| Change::new(s.to_string(), "", "", Class::Live))
        .collect();
    Ok(plan)
}

fn disk(
    config: &Config,
    observed: &Observed,
    options: DownOptions,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let Disk::Clone(clone) = &config.disk else {
        if options.delete_volume {
            plan.notes
                .push("the disk is not lbctl's (volume_id): it stays".into());
        }
        return Ok(());
    };
    let ObservedDisk::Clone { volume, base } = &observed.disk else {
        return Ok(());
    };
    let Some(facts) = volume.present() else {
        return Ok(());
    };
    if !options.delete_volume {
        plan.notes.push(format!(
            "volume {} stays, with its data; `lbctl up` uses it again, `lbctl down --delete-volume` deletes it",
            clone.volume
        ));
        return Ok(());
    }
    let ownership = observed
        .domain
        .as_ref()
        .and_then(|d| d.config.ownership.as_ref())
        .and_then(|m| m.disk.as_ref());
    let marked = ownership.is_some_and(|m| m.cloned && m.volume == clone.volume);
    let of_base = base
        .present()
        .is_some_and(|b| facts.backing.as_deref() == Some(&*b.source.to_string()));
    if !marked && !of_base {
        return Err(not_ours(&clone.volume, "lbctl cannot tell that it made it"));
    }
    if let Some(claims) = observed.claims.iter().find(|c| claims_it(&c.disks, facts)) {
        return Err(not_ours(
            &clone.volume,
            &format!("it is a disk of domain {}", claims.domain),
        ));
    }
    plan.steps.push(Step::DeleteVolume {
        at: clone.volume.clone(),
        domain: config.name.as_str().to_owned(),
    });
    Ok(())
}

fn claims_it(disks: &[Source], facts: &VolumeFacts) -> bool {
    disks
        .iter()
        .any(|s| *s == facts.source || *s == Source::Volume(facts.at.clone()))
}

fn not_ours(volume: &VolumeRef, why: &str) -> Refusal {
    let message = format!("volume {volume} is not deleted: {why}");
    let hint = format!(
        "`virsh vol-delete {} --pool {}` deletes it, if that is meant",
        volume.name, volume.pool
    );
    Refusal {
        objections: vec![Objection::new(
            RefusalKind::NotOurs,
            ObjectionSubject::RootDisk,
            message,
            hint,
        )],
    }
}

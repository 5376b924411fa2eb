//! The plan of `down`: everything with lbctl's ownership record, and only that.

use std::time::Duration;

use super::seeds::{self, delete_seed};
use super::{
    Change, Class, Objection, ObjectionSubject, Plan, Refusal, RefusalKind, Removed, Step, Subject,
    Value, disk, made, network, shared, up,
};
use crate::config::{Config, VolumeRef};
use crate::exit::MessageId;
use crate::host::{DomainFacts, Source, VolumeState};
use crate::reconcile::observe::{Observed, ObservedDisk};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownOptions {
    /// How long the guest may take to stop by itself before its power is cut.
    pub stop_deadline: Duration,
    /// Also delete the disk that lbctl cloned.
    pub delete_volume: bool,
    /// Stop the guest though no other VM takes the address that they share.
    pub alone: bool,
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
        continues: false,
        no_spare: false,
    };
    plan.notes = pools(config, observed, options)?;
    if let Some(domain) = domain {
        plan.notes.extend(beside(domain, observed));
        if domain.live.is_some() {
            let step_back = shared::before_stop(config.virtual_ip.as_ref(), observed, domain);
            plan.steps.extend(step_back.filter(|_| !options.alone));
            let stop = Step::Stop {
                domain: name.clone(),
                run: None,
                deadline: options.stop_deadline,
            };
            remove(&mut plan, Removed::Guest(name.clone()), stop);
        }
    }
    if domain.is_some_and(|domain| domain.persistent) {
        let undefine = Step::Undefine {
            domain: name.clone(),
        };
        remove(&mut plan, Removed::Domain(name.clone()), undefine);
    }
    remove_disk(config, observed, options, &mut plan)?;
    for (network, entry, facts) in network::our_entries(observed) {
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
    // The last of all: without a domain a seed says what else was made.
    for at in seeds::ours(observed) {
        let removed = Removed::Seed(at.clone());
        remove(&mut plan, removed, delete_seed(&name, at));
    }
    let macs: Vec<_> = config.interfaces.iter().map(|i| i.mac).collect();
    for (network, entry) in network::others_entries(&macs, observed) {
        plan.notes.push(format!(
            "reservation {entry} in network {} is kept, for lbctl did not make it: {} removes it",
            network.id,
            network::removal(network, entry)
        ));
    }
    Ok(plan)
}

/// What is in a pool that is not active would stay, unseen: so nothing is removed then. What stays
/// because it is not asked for is a note.
fn pools(
    config: &Config,
    observed: &Observed,
    options: DownOptions,
) -> Result<Vec<String>, Refusal> {
    let mut objections: Vec<Objection> = Vec::new();
    let mut notes = Vec::new();
    let mut state =
        |volume: &VolumeState, at: &VolumeRef, about: ObjectionSubject, needed: bool| {
            let pool = &at.pool;
            let objection = match volume {
                VolumeState::PoolInactive => disk::inactive_pool(about, pool),
                // What lbctl made there is known from its ownership record only.
                VolumeState::NoPool if needed && observed.domain.is_some() => lost_pool(about, at),
                VolumeState::NoPool => {
                    let note =
                        format!("the host has no storage pool {pool}, so nothing in it is known");
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                    return;
                }
                VolumeState::Absent | VolumeState::Vanished | VolumeState::Present(_) => return,
            };
            if needed {
                let known = objections.iter().any(|o| o.message == objection.message);
                objections.extend((!known).then_some(objection));
            } else {
                notes.push(format!(
                    "{}: volume {at} is kept, if it exists",
                    objection.message
                ));
            }
        };
    let recorded = observed.domain.iter().flat_map(DomainFacts::definitions);
    let recorded: Vec<&VolumeRef> = recorded
        .filter_map(|d| d.ownership.as_ref())
        .flat_map(|m| std::iter::once(&m.seed.volume).chain(&m.stale_seeds))
        .collect();
    for seed in &observed.seeds {
        let needed = recorded.contains(&&seed.at) || seed.at == config.seed_volume;
        if needed {
            state(&seed.volume, &seed.at, ObjectionSubject::Seed, true);
        }
    }
    if let ObservedDisk::Clone { wanted, volume, .. } = &observed.disk {
        let about = ObjectionSubject::RootDisk;
        state(volume, &wanted.volume, about, options.delete_volume);
    }
    if objections.is_empty() {
        Ok(notes)
    } else {
        Err(Refusal { objections })
    }
}

fn lost_pool(about: ObjectionSubject, at: &VolumeRef) -> Objection {
    let pool = &at.pool;
    Objection::new(
        MessageId::PoolMissing,
        RefusalKind::Unfit,
        about,
        format!("the host has no storage pool {pool} any more, and lbctl made volume {at} in it"),
        format!(
            "define the pool again (`virsh pool-define-as`, `virsh pool-start {pool}`), and run `lbctl down` again; if \
             its storage is gone for good, `virsh destroy` and `virsh undefine` remove what is left"
        ),
    )
}

/// What libvirt keeps beside the definitions: it is removed with the domain, but for the files of
/// others.
pub(super) fn beside(domain: &DomainFacts, observed: &Observed) -> Vec<String> {
    let checkpoints = &observed.checkpoints;
    let mut parts = Vec::new();
    if domain.saved.is_some() {
        parts.push("its saved memory".to_owned());
    }
    let snapshots: Vec<&str> = domain.snapshots.iter().map(|s| s.name.as_str()).collect();
    for (one, many, names) in [
        ("snapshot", "snapshots", snapshots),
        (
            "checkpoint",
            "checkpoints",
            checkpoints.iter().map(String::as_str).collect(),
        ),
    ] {
        match names.as_slice() {
            [] => {}
            [name] => parts.push(format!("{one} {name}")),
            names => parts.push(format!("{many} {}", names.join(", "))),
        }
    }
    let mut notes = Vec::new();
    if !parts.is_empty() {
        let list = parts.join(", ");
        notes.push(format!("with the domain libvirt forgets {list}"));
    }
    for snapshot in &domain.snapshots {
        for file in &snapshot.files {
            notes.push(format!(
                "{file} is kept: lbctl did not make it (snapshot {})",
                snapshot.name
            ));
        }
    }
    for (disk, job) in domain
        .live
        .iter()
        .flat_map(|live| &live.disks)
        .filter_map(|disk| Some((disk, disk.job.as_ref()?)))
    {
        let to = job.to.as_ref();
        let kept = to.map_or_else(String::new, |to| format!("; {to} is kept, and incomplete"));
        notes.push(format!(
            "the block job ({}) on disk {} ends with the guest{kept}",
            job.kind, disk.target
        ));
    }
    let told: Vec<&str> = up::jobs(domain).map(|(target, _)| target).collect();
    for job in observed
        .jobs
        .iter()
        .filter(|job| !told.contains(&job.target.as_str()))
    {
        let kept = match job.kind.as_str() {
            "backup" => "; what it has written is incomplete",
            _ => "",
        };
        notes.push(format!(
            "the block job ({}) on disk {} ends with the guest{kept}",
            job.kind, job.target
        ));
    }
    notes
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
            image: _,
            pool: _,
        } => (wanted, volume, base),
        ObservedDisk::Existing { .. } => {
            if options.delete_volume {
                plan.notes
                    .push("lbctl did not make the disk (volume_id): it is kept".into());
            }
            return Ok(());
        }
    };
    let domain = observed.domain.as_ref();
    let made = made::volume(observed, &clone.volume);
    let overlay = domain.zip(volume.present());
    let overlay = overlay.and_then(|(domain, facts)| disk::overlay(domain, facts));
    if !options.delete_volume {
        if volume.present().is_some() {
            plan.notes.push(kept(&clone.volume, overlay, made));
        }
        return Ok(());
    }
    if let (Some(domain), Some(overlay), Some(facts)) = (domain, overlay, volume.present()) {
        return Err(Refusal {
            objections: vec![disk::is_overlay(domain, &overlay, facts)],
        });
    }
    let delete = Step::DeleteVolume {
        at: clone.volume.clone(),
        domain: config.name.as_str().to_owned(),
    };
    let facts = match volume {
        VolumeState::Present(facts) => facts,
        // Its name is in use until libvirt forgets it, and nothing else is left of it.
        VolumeState::Vanished if made == Some(true) => {
            remove(plan, Removed::Disk(clone.volume.clone()), delete);
            return Ok(());
        }
        VolumeState::Vanished
        | VolumeState::NoPool
        | VolumeState::PoolInactive
        | VolumeState::Absent => return Ok(()),
    };
    if made == Some(true)
        && let Some(objection) = domain.and_then(|domain| disk::in_its_place(domain, facts))
    {
        return Err(Refusal {
            objections: vec![objection],
        });
    }
    if made != Some(true) {
        // A seed names it, and whether it is the clone that was meant cannot be seen.
        if made.is_none()
            && made::is_named(observed, &clone.volume)
            && facts.backing.is_some()
            && *base == VolumeState::PoolInactive
        {
            let objection = disk::inactive_pool(ObjectionSubject::Base, &clone.base.pool);
            return Err(Refusal {
                objections: vec![objection],
            });
        }
        let why = match made {
            Some(_) => "lbctl took it over, and did not make it",
            None => "it is not known whether lbctl made it",
        };
        return Err(not_ours(MessageId::VolumeNotOurs, &clone.volume, why));
    }
    let mine = |source: &Source| facts.is(source);
    if let Some(claims) = observed.claims.iter().find(|c| c.disks.iter().any(mine)) {
        return Err(not_ours(
            MessageId::DiskClaimed,
            &clone.volume,
            &format!("it is a disk of domain {}", claims.domain),
        ));
    }
    remove(plan, Removed::Disk(clone.volume.clone()), delete);
    Ok(())
}

/// Why the disk stays.
fn kept(at: &VolumeRef, overlay: Option<disk::Overlay>, made: Option<bool>) -> String {
    let VolumeRef { pool, name } = at;
    match (overlay, made) {
        (Some(overlay), _) if overlay.holds_everything() => format!(
            "the data of the guest is in {}, which was an overlay on volume {at} until all of that was pulled into it: both \
             are kept",
            overlay.source
        ),
        (Some(overlay), _) => format!(
            "the data of the guest is in {}, an overlay on volume {at} that lbctl did not make: both are kept",
            overlay.source
        ),
        (None, Some(true)) => format!(
            "volume {at} is kept, with its data; `lbctl up --reuse-disk` uses it again, `virsh vol-delete {name} --pool \
             {pool}` deletes it"
        ),
        (None, Some(false)) => format!("volume {at} is kept: lbctl did not make it"),
        (None, None) => format!("volume {at} is kept: nothing says that lbctl made it"),
    }
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

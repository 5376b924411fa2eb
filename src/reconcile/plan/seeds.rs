//! The seed's volumes: which one is kept, where a new one is written, which ones are deleted.

use super::disk::{MAKES_NONE, inactive_pool, no_pool};
use super::{Objection, ObjectionSubject, Refusal, RefusalKind, Step};
use crate::config::VolumeRef;
use crate::exit::MessageId;
use crate::host::definition::DiskFacts;
use crate::host::{Definition, DomainFacts, Source, VolumeState};
use crate::reconcile::observe::{Observed, ObservedSeed};
use crate::seed::{self, FoundSeed, Seed, SeedContent};

/// What the seed needs.
#[derive(Debug)]
pub(super) struct SeedPart {
    /// Where the desired seed is, or will be.
    pub at: VolumeRef,
    /// `None`: it is there already.
    pub write: Vec<Step>,
    /// To be deleted once nothing refers to them.
    pub stale: Vec<VolumeRef>,
    /// Previous seeds that a saved state or a snapshot needs.
    pub held: Vec<HeldSeed>,
}

impl SeedPart {
    /// For the ownership record: every seed but the one in use.
    pub fn previous(&self) -> Vec<VolumeRef> {
        let held = self.held.iter().map(|held| held.at.clone());
        self.stale.iter().cloned().chain(held).collect()
    }

    pub fn notes(&self) -> impl Iterator<Item = String> {
        let notes = self.held.iter();
        notes.map(|HeldSeed { at, by }| format!("seed {at} is kept: {by} needs it"))
    }
}

/// A seed that nothing in the two definitions refers to, and that is still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldSeed {
    pub at: VolumeRef,
    /// `snapshot s1`, `the saved state`
    pub by: String,
}

pub(super) fn plan(
    wanted: &Seed,
    configured: &VolumeRef,
    made: &[String],
    observed: &Observed,
) -> Result<SeedPart, Vec<Objection>> {
    pool_is_there(configured, observed)?;
    pool_takes(configured, observed.seed_pool.as_deref())?;
    let places = seed::places(configured);
    // Without a domain the seed is what tells what else was made.
    let names = |found: &FoundSeed| {
        observed.domain.is_some() || made.iter().all(|print| found.made.contains(print))
    };
    let whole = |s: &&ObservedSeed| {
        matches!(&s.content, Some(SeedContent::Ours(found)) if found.fingerprint == wanted.fingerprint && names(found))
            && places.contains(&s.at)
    };
    let referred = referred(observed.domain.as_ref(), observed);
    let in_use = observed
        .seeds
        .iter()
        .filter(whole)
        .find(|s| referred.contains(&s.at));
    let available = in_use.or_else(|| observed.seeds.iter().find(whole));
    let (at, write) = if let Some(seed) = available {
        (seed.at.clone(), Vec::new())
    } else {
        let (at, leftover) = free_place(&places, &referred, observed)?;
        let delete = leftover.then(|| delete_seed(&wanted.guest.name, at.clone()));
        let write = Step::WriteSeed {
            at: at.clone(),
            seed: Box::new(wanted.clone().making(made)),
        };
        (at, delete.into_iter().chain([write]).collect())
    };
    let (mut stale, mut held) = (Vec::new(), Vec::new());
    for seed in observed.seeds.iter().filter(|s| s.at != at && is_ours(s)) {
        match holder(observed.domain.as_ref(), seed) {
            None => stale.push(seed.at.clone()),
            Some(by) => held.push(HeldSeed {
                at: seed.at.clone(),
                by,
            }),
        }
    }
    Ok(SeedPart {
        at,
        write,
        stale,
        held,
    })
}

/// Whether lbctl may delete it once nothing refers to it. Of a volume without a file only libvirt's
/// entry is left.
fn is_ours(seed: &ObservedSeed) -> bool {
    seed.volume == VolumeState::Vanished
        || matches!(
            seed.content,
            Some(SeedContent::Ours(_) | SeedContent::Unfinished)
        )
}

/// What returns to that seed: without it neither a resume from the saved state nor a revert to the
/// snapshot is possible.
fn holder(domain: Option<&DomainFacts>, seed: &ObservedSeed) -> Option<String> {
    let domain = domain?;
    let facts = seed.volume.present();
    let is = |s: &Source| s.is(&seed.at, facts);
    let saved = domain.saved.as_ref().and_then(|s| s.definition.as_ref());
    if saved.is_some_and(|d| d.holds(&seed.at, facts)) {
        return Some("the saved state".into());
    }
    let snapshots = domain.snapshots.iter().filter(|s| s.disks.iter().any(is));
    let names: Vec<&str> = snapshots.map(|s| s.name.as_str()).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("snapshot {one}")),
        many => Some(format!("each of the snapshots {}", many.join(", "))),
    }
}

pub(super) fn delete_seed(domain: &str, at: VolumeRef) -> Step {
    let domain = domain.to_owned();
    Step::DeleteSeed { at, domain }
}

/// Every seed of ours in the pool, for `down`.
pub(super) fn ours(observed: &Observed) -> Vec<VolumeRef> {
    observed
        .seeds
        .iter()
        .filter(|seed| is_ours(seed))
        .map(|s| s.at.clone())
        .collect()
}

/// Whether the seed can be looked for at all.
pub fn ensure_seed_pool(configured: &VolumeRef, observed: &Observed) -> Result<(), Refusal> {
    pool_is_there(configured, observed).map_err(|objections| Refusal { objections })
}

fn pool_is_there(configured: &VolumeRef, observed: &Observed) -> Result<(), Vec<Objection>> {
    let pool = &configured.pool;
    match observed
        .seeds
        .iter()
        .find(|s| s.at == *configured)
        .map(|s| &s.volume)
    {
        Some(VolumeState::NoPool) | None => Err(vec![no_pool(
            ObjectionSubject::Seed,
            pool,
            "cloud_init_volume_pool",
            observed,
        )]),
        Some(VolumeState::PoolInactive) => Err(vec![inactive_pool(ObjectionSubject::Seed, pool)]),
        Some(VolumeState::Absent | VolumeState::Vanished | VolumeState::Present(_)) => Ok(()),
    }
}

/// Pools that libvirt uploads nothing to: its backends with `createVol` and without `uploadVol`.
const UPLOADS_NONE: &[&str] = &["rbd", "sheepdog"];

/// `kind`: the pool's type, where a first seed is to be written.
fn pool_takes(configured: &VolumeRef, kind: Option<&str>) -> Result<(), Vec<Objection>> {
    let lacks = match kind {
        Some(kind) if MAKES_NONE.contains(&kind) => "libvirt makes no volumes there",
        Some(kind) if UPLOADS_NONE.contains(&kind) => "libvirt uploads nothing there",
        _ => return Ok(()),
    };
    let (pool, kind) = (&configured.pool, kind.unwrap_or_default());
    Err(vec![Objection::new(
        MessageId::PoolMakesNoVolume,
        RefusalKind::Unfit,
        ObjectionSubject::Seed,
        format!("pool {pool} is of type {kind}: {lacks}, and the seed is written so"),
        "set `cloud_init_volume_pool` to a pool of type dir, fs, netfs or logical",
    )])
}

/// The volumes in the domain's drive, by its next start and now.
fn referred(domain: Option<&DomainFacts>, observed: &Observed) -> Vec<VolumeRef> {
    let drives = domain
        .into_iter()
        .flat_map(|d| [Some(&d.config), d.live.as_ref()])
        .flatten()
        .flat_map(Definition::cdroms);
    let sources: Vec<_> = drives.filter_map(|d| d.source.as_ref()).collect();
    let recorded = |at: &VolumeRef| {
        let definitions = domain.into_iter().flat_map(DomainFacts::definitions);
        let mut records = definitions.filter_map(|d| d.ownership.as_ref());
        records.any(|record| record.seed.volume == *at)
    };
    let refers = |s: &&ObservedSeed| {
        // Without its file a volume has no path to compare.
        s.volume == VolumeState::Vanished && recorded(&s.at)
            || sources.iter().any(|of| of.is(&s.at, s.volume.present()))
    };
    observed
        .seeds
        .iter()
        .filter(refers)
        .map(|s| s.at.clone())
        .collect()
}

/// The drive for the seed in a definition: the one with a seed of this VM, in it or in the other
/// definition of the domain; else an empty one, else the only one. Another drive is an operator's.
pub(super) fn drive<'d>(
    definition: &'d Definition,
    twin: Option<&Definition>,
    observed: &Observed,
) -> Option<&'d DiskFacts> {
    let holds_seed = |drive: &&DiskFacts| {
        drive.source.as_ref().is_some_and(|source| {
            // A volume that is gone has no path to compare.
            let named = |at: &VolumeRef| {
                let file = source.path().and_then(|path| path.rsplit('/').next());
                file == Some(at.name.as_str())
            };
            let mut seeds = observed.seeds.iter();
            seeds.any(|seed| match seed.volume.present() {
                Some(facts) => source.is(&seed.at, Some(facts)),
                None => source.is(&seed.at, None) || named(&seed.at),
            })
        })
    };
    let of_twin = || {
        let there = twin?.cdroms().find(holds_seed)?;
        definition
            .cdroms()
            .find(|drive| drive.target == there.target)
    };
    let only = || {
        let mut drives = definition.cdroms();
        drives.next().filter(|_| drives.next().is_none())
    };
    let mut drives = definition.cdroms();
    drives
        .find(holds_seed)
        .or_else(of_twin)
        .or_else(|| definition.cdroms().find(|drive| drive.source.is_none()))
        .or_else(only)
}

/// The first place that holds nothing; where there is none, one with a leftover of ours that
/// nothing refers to (then `true`). In that order, for a leftover may be what another lbctl is
/// writing at this moment: nothing else may use that name while it may still refer to it.
fn free_place(
    places: &[VolumeRef],
    referred: &[VolumeRef],
    observed: &Observed,
) -> Result<(VolumeRef, bool), Vec<Objection>> {
    let mut foreign = Vec::new();
    let mut leftover = None;
    let mut held: Vec<String> = Vec::new();
    for at in places {
        let seed = observed.seeds.iter().find(|s| s.at == *at);
        if referred.contains(at) {
            continue;
        }
        if let Some(seed) = seed.filter(|s| is_ours(s)) {
            match holder(observed.domain.as_ref(), seed) {
                Some(by) => held.push(by),
                None => {
                    leftover.get_or_insert(at);
                }
            }
            continue;
        }
        match seed.and_then(|s| s.content.as_ref()) {
            None => return Ok((at.clone(), false)),
            Some(SeedContent::Ours(_) | SeedContent::Unfinished) => {} // above
            Some(SeedContent::OfAnother(vm)) => {
                let message = format!("volume {at} is the seed of another VM, {vm}");
                foreign.push((MessageId::SeedOfAnotherVm, message));
            }
            Some(SeedContent::Foreign) => foreign.push((
                MessageId::SeedVolumeExists,
                format!("volume {at} already exists, and it is not a seed of lbctl"),
            )),
        }
        // A first seed is where the configuration says, or nowhere: lbctl does not choose another
        // name silently.
        if referred.is_empty() && !foreign.is_empty() {
            break;
        }
    }
    if let (Some(at), true) = (leftover, foreign.is_empty() || !referred.is_empty()) {
        return Ok((at.clone(), true));
    }
    let hint = "choose another cloud_init_volume_name, or delete that volume if nobody needs it (`virsh vol-delete`)";
    let (id, message, hint) = match (foreign.into_iter().next(), &observed.domain) {
        (Some((id, message)), _) => (id, message, hint.to_owned()),
        (None, Some(domain)) if !held.is_empty() => (
            MessageId::SeedNamesInUse,
            format!(
                "there is no volume name left for a new seed: {}",
                held.iter()
                    .map(|by| format!("{by} needs one"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            format!(
                "`virsh snapshot-delete {} NAME` deletes a snapshot that nobody needs any more; with `--metadata` libvirt \
                 forgets it, and its data stay in the disk",
                domain.name
            ),
        ),
        (None, _) => (
            MessageId::SeedNamesInUse,
            "every volume name for the seed is in use".into(),
            hint.to_owned(),
        ),
    };
    Err(vec![Objection::new(
        id,
        RefusalKind::NotOurs,
        ObjectionSubject::Seed,
        message,
        hint,
    )])
}

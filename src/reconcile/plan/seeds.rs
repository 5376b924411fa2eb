//! The seed's volumes: which one is kept, where a new one is written, which ones are deleted.

use super::disk::{inactive_pool, no_pool};
use super::{Objection, ObjectionSubject, RefusalKind, Step};
use crate::config::VolumeRef;
use crate::exit::MessageId;
use crate::host::{Definition, DomainFacts, Source, VolumeState};
use crate::reconcile::observe::{Observed, ObservedSeed};
use crate::seed::{self, Seed, SeedContent};

/// What the seed needs.
#[derive(Debug)]
pub(super) struct SeedPart {
    /// Where the desired seed is, or will be.
    pub at: VolumeRef,
    /// `None`: it is there already.
    pub write: Vec<Step>,
    /// To be deleted once nothing refers to them.
    pub stale: Vec<VolumeRef>,
}

pub(super) fn plan(
    wanted: &Seed,
    configured: &VolumeRef,
    observed: &Observed,
) -> Result<SeedPart, Vec<Objection>> {
    pool_is_there(configured, observed)?;
    let places = seed::places(configured);
    let whole = |s: &&ObservedSeed| {
        matches!(&s.content, Some(SeedContent::Ours(found)) if found.fingerprint == wanted.fingerprint)
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
            seed: Box::new(wanted.clone()),
        };
        (at, delete.into_iter().chain([write]).collect())
    };
    let stale = observed
        .seeds
        .iter()
        .filter(|s| {
            s.at != at
                && matches!(
                    s.content,
                    Some(SeedContent::Ours(_) | SeedContent::Unfinished)
                )
        })
        .map(|s| s.at.clone())
        .collect();
    Ok(SeedPart { at, write, stale })
}

pub(super) fn delete_seed(domain: &str, at: VolumeRef) -> Step {
    let domain = domain.to_owned();
    Step::DeleteSeed { at, domain }
}

/// Every seed of ours in the pool, for `down`.
pub(super) fn ours(observed: &Observed) -> Vec<VolumeRef> {
    let ours = |s: &&ObservedSeed| {
        matches!(
            s.content,
            Some(SeedContent::Ours(_) | SeedContent::Unfinished)
        )
    };
    observed
        .seeds
        .iter()
        .filter(ours)
        .map(|s| s.at.clone())
        .collect()
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
        )]),
        Some(VolumeState::PoolInactive) => Err(vec![inactive_pool(ObjectionSubject::Seed, pool)]),
        Some(VolumeState::Absent | VolumeState::Present(_)) => Ok(()),
    }
}

/// The volumes in the domain's drive, by its next start and now.
fn referred(domain: Option<&DomainFacts>, observed: &Observed) -> Vec<VolumeRef> {
    let drives = domain
        .into_iter()
        .flat_map(|d| [Some(&d.config), d.live.as_ref()])
        .flatten()
        .flat_map(Definition::cdroms);
    let sources: Vec<&Source> = drives.filter_map(|d| d.source.as_ref()).collect();
    let refers = |s: &&ObservedSeed| {
        let own = s.volume.present().map(|v| &v.source);
        sources
            .iter()
            .any(|source| Some(*source) == own || **source == Source::Volume(s.at.clone()))
    };
    observed
        .seeds
        .iter()
        .filter(refers)
        .map(|s| s.at.clone())
        .collect()
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
    for at in places {
        match observed
            .seeds
            .iter()
            .find(|s| s.at == *at)
            .and_then(|s| s.content.as_ref())
        {
            None => return Ok((at.clone(), false)),
            Some(_) if referred.contains(at) => {}
            Some(SeedContent::Ours(_) | SeedContent::Unfinished) => {
                leftover.get_or_insert(at);
            }
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
    let (id, message) = foreign.into_iter().next().unwrap_or_else(|| {
        let message = "every volume name for the seed is in use";
        (MessageId::SeedNamesInUse, message.into())
    });
    let hint = "choose another cloud_init_volume_name, or delete that volume if nobody needs it (`virsh vol-delete`)";
    Err(vec![Objection::new(
        id,
        RefusalKind::NotOurs,
        ObjectionSubject::Seed,
        message,
        hint,
    )])
}

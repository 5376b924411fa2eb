//! The seed's volume: nothing refers to one that is not whole, and none that is in use is deleted.

use super::disk;
use crate::config::VolumeRef;
use crate::host::ownership::SeedRecord;
use crate::host::{
    DomainFacts, HostError, HostErrorKind, HostResult, HostWriter, Operation, Scope, Source,
    VolumeState,
};
use crate::render::domain::seed_cdrom;
use crate::seed::{self, SeedContent};

/// Puts another seed into the domain's drive.
pub(super) fn swap_medium(
    domain: &str,
    seed: &SeedRecord,
    scope: Scope,
    host: &impl HostWriter,
) -> HostResult<()> {
    let source = whole_seed(seed, domain, host)?;
    host.update_device(domain, &seed_cdrom(&source), scope)?;
    ensure_seed_exists(&seed.volume, host)
}

/// The seed's path, once the seed has been read back: nothing refers to one that is not whole.
pub(super) fn whole_seed(
    record: &SeedRecord,
    domain: &str,
    host: &impl HostWriter,
) -> HostResult<Source> {
    let at = &record.volume;
    let doing = format!("reading seed {at} back");
    let lost = |said: &str| HostError::new(HostErrorKind::NotFound, &doing, said);
    let VolumeState::Present(facts) = host.volume(at)? else {
        return Err(lost("it does not exist any more"));
    };
    match seed::recognise(&host.read_volume(at, seed::MAX_SIZE)?, domain) {
        SeedContent::Ours(found) if found.fingerprint == record.fingerprint => Ok(facts.source),
        _ => Err(lost("its content is not what was written")),
    }
}

/// Another lbctl treats a seed that nothing refers to as a leftover, and this one was such until
/// now. If it was deleted, it is written again before the previous one is removed.
pub(super) fn ensure_seed_exists(volume: &VolumeRef, host: &impl HostWriter) -> HostResult<()> {
    if host.volume(volume)?.present().is_some() {
        return Ok(());
    }
    let doing = Operation::InsertSeed(volume.clone());
    Err(HostError::new(
        HostErrorKind::NotFound,
        doing,
        "it was concurrently deleted",
    ))
}

/// Nothing referred to it, and it was this VM's, when the plan was made. Another lbctl may have put
/// it into the drive since, or another VM's seed may be there.
pub(super) fn delete(at: &VolumeRef, domain: &str, host: &impl HostWriter) -> HostResult<()> {
    let doing = Operation::DeleteSeed(at.clone());
    let overtaken = |said: &str| HostError::new(HostErrorKind::Exists, &doing, said);
    let VolumeState::Present(facts) = host.volume(at)? else {
        return Ok(());
    };
    let content = seed::recognise(&host.read_volume(at, seed::MAX_SIZE)?, domain);
    if let SeedContent::OfAnother(_) | SeedContent::Foreign = content {
        return Err(overtaken("it concurrently became the seed of another VM"));
    }
    let in_use = |d: &DomainFacts| {
        let mut definitions = std::iter::once(&d.config).chain(&d.live);
        definitions.any(|d| d.holds(at, Some(&facts.source)))
    };
    if host.domain(domain)?.as_ref().is_some_and(in_use) {
        return Err(overtaken("it was concurrently put into the domain's drive"));
    }
    disk::absent_is_fine(host.delete_volume(at))
}

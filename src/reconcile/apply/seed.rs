//! The seed's volume: nothing refers to one that is not whole, and none that is in use is deleted.

use super::disk;
use crate::config::VolumeRef;
use crate::host::ownership::SeedRecord;
use crate::host::{
    DomainFacts, HostError, HostErrorKind, HostResult, HostWriter, Operation, Scope, Source,
    VolumeState,
};
use crate::reconcile::plan::Drives;
use crate::render::domain::seed_cdrom;
use crate::seed::{self, Seed, SeedContent};

/// Writes it into a volume of its own.
pub(super) fn write(at: &VolumeRef, seed: &Seed, host: &impl HostWriter) -> HostResult<()> {
    let image = seed.image().map_err(|error| {
        let doing = Operation::WriteSeed(at.clone());
        HostError::new(HostErrorKind::Other, doing, error.to_string())
    })?;
    host.create_volume(at, &image)
}

/// Puts another seed into the domain's drive.
pub(super) fn swap_medium(
    domain: &str,
    seed: &SeedRecord,
    drives: &Drives,
    host: &impl HostWriter,
) -> HostResult<()> {
    let source = whole_seed(seed, domain, host)?;
    let Drives { config, live } = drives;
    let both = config == live;
    for (drive, scope) in [
        (
            config.as_ref(),
            Scope {
                config: true,
                live: both,
            },
        ),
        (
            live.as_ref().filter(|_| !both),
            Scope {
                config: false,
                live: true,
            },
        ),
    ] {
        if let Some(drive) = drive {
            host.update_device(domain, &seed_cdrom(&source, drive), scope)?;
        }
    }
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
    match seed::recognise(
        &host.read_volume(at, facts.capacity.min(seed::MAX_SIZE))?,
        domain,
    ) {
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
    let facts = match host.volume(at)? {
        VolumeState::Present(facts) => facts,
        // libvirt's entry is all that is left of it, and keeps its name in use.
        VolumeState::Vanished => return disk::absent_is_fine(host.delete_volume(at)),
        VolumeState::NoPool | VolumeState::PoolInactive | VolumeState::Absent => return Ok(()),
    };
    let content = seed::recognise(
        &host.read_volume(at, facts.capacity.min(seed::MAX_SIZE))?,
        domain,
    );
    if let SeedContent::OfAnother(_) | SeedContent::Foreign = content {
        return Err(overtaken("it concurrently became the seed of another VM"));
    }
    if content == SeedContent::Unfinished && facts.capacity > seed::MAX_DEVICE {
        return Err(overtaken("it is empty, and larger than any seed"));
    }
    let in_use = |d: &DomainFacts| d.refers_to(at, Some(&facts));
    if host.domain(domain)?.as_ref().is_some_and(in_use) {
        return Err(overtaken(
            "it was concurrently put into the domain's drive, or is needed by a saved state or a snapshot",
        ));
    }
    disk::absent_is_fine(host.delete_volume(at))
}

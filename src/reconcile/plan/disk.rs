//! The root disk: found, cloned or grown. Never shrunk, never replaced.

use super::step::RootRef;
use super::{
    Change, Class, Condition, Objection, ObjectionSubject, RefusalKind, Step, Subject, Value,
};
use crate::config::{CloneVolume, DiskFormat};
use crate::exit::MessageId;
use crate::host::ownership::DiskRecord;
use crate::host::{CloneSpec, DomainFacts, Source, VolumeFacts, VolumeState};
use crate::reconcile::observe::{Observed, ObservedDisk};
use crate::text::size::Bytes;

/// Pools round a size up, qcow2 to sectors and LVM to whole extents: by less than this, in bytes.
const ROUNDING: u64 = 32 * 1024 * 1024;

/// What the root disk needs.
#[derive(Debug)]
pub(super) struct DiskPart {
    pub changes: Vec<Change>,
    pub steps: Vec<Step>,
    pub notes: Vec<String>,
    pub root: RootRef,
    /// `None`: not lbctl's in any way (`volume_id`).
    pub ownership: Option<DiskRecord>,
}

pub(super) fn plan(observed: &Observed) -> Result<DiskPart, Vec<Objection>> {
    match &observed.disk {
        ObservedDisk::Existing { id, volume } => existing(id, volume, observed),
        ObservedDisk::Clone {
            wanted,
            volume,
            base,
        } => cloned(wanted, volume, base, observed),
    }
}

fn existing(
    id: &str,
    volume: &VolumeState,
    observed: &Observed,
) -> Result<DiskPart, Vec<Objection>> {
    let pool = id.split('/').next().unwrap_or_default();
    let facts = match volume {
        VolumeState::Present(facts) => facts,
        VolumeState::NoPool => {
            return Err(vec![no_pool(ObjectionSubject::RootDisk, pool, "volume_id")]);
        }
        VolumeState::PoolInactive => {
            return Err(vec![inactive_pool(ObjectionSubject::RootDisk, pool)]);
        }
        VolumeState::Absent => return Err(vec![no_volume(id)]),
    };
    unclaimed(facts, observed)?;
    let mut part = DiskPart {
        changes: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
        root: RootRef::Id(id.to_owned()),
        ownership: None,
    };
    part.changes.extend(replacement(&facts.source, observed)?);
    Ok(part)
}

fn cloned(
    clone: &CloneVolume,
    volume: &VolumeState,
    base: &VolumeState,
    observed: &Observed,
) -> Result<DiskPart, Vec<Objection>> {
    let mut part = DiskPart {
        changes: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
        root: RootRef::Volume(clone.volume.clone()),
        ownership: Some(DiskRecord {
            volume: clone.volume.clone(),
            cloned: true,
        }),
    };
    let base = base_facts(clone, base);
    match volume {
        VolumeState::NoPool => Err(vec![no_pool(
            ObjectionSubject::RootDisk,
            &clone.volume.pool,
            "volume.pool",
        )]),
        VolumeState::PoolInactive => Err(vec![inactive_pool(
            ObjectionSubject::RootDisk,
            &clone.volume.pool,
        )]),
        VolumeState::Absent => {
            let base = base.map_err(|o| vec![o])?;
            lost_disk(clone, observed)?;
            let capacity = capacity(clone, base)?;
            let spec = CloneSpec {
                volume: clone.volume.clone(),
                base: clone.base.clone(),
                capacity,
                format: clone.format.as_str(),
            };
            let to = Value::CloneOf {
                volume: clone.volume.clone(),
                capacity,
                base: clone.base.clone(),
            };
            let disk = Change::new(Subject::Disk, Value::Nothing, to, Class::Create);
            part.changes.push(disk);
            part.steps.push(Step::CloneVolume(spec));
            if clone.format == DiskFormat::Raw && capacity > base.capacity {
                part.steps.push(Step::GrowVolume {
                    at: clone.volume.clone(),
                    capacity,
                });
            }
            Ok(part)
        }
        VolumeState::Present(facts) => {
            unclaimed(facts, observed)?;
            reuse(clone, facts, base.ok(), observed, &mut part)?;
            never_shrink(clone, facts)?;
            grow(clone, facts, observed, &mut part);
            part.changes.extend(replacement(&facts.source, observed)?);
            Ok(part)
        }
    }
}

/// A disk that is there is used if it is the domain's own, or recognisably the clone that this
/// configuration describes.
fn reuse(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    base: Option<&VolumeFacts>,
    observed: &Observed,
    part: &mut DiskPart,
) -> Result<(), Vec<Objection>> {
    let recorded = record_of(observed.domain.as_ref()).is_some_and(|m| m.volume == clone.volume);
    let of_base = base.is_some_and(|base| is_clone_of(facts, base));
    if recorded {
        return match base {
            _ if facts.format != clone.format.as_str() => Err(vec![other_format(clone, facts)]),
            Some(base) if clone.format == DiskFormat::Qcow2 && !of_base => {
                Err(vec![other_base(clone, facts, base)])
            }
            _ => Ok(()),
        };
    }
    let full_copy = clone.format == DiskFormat::Raw
        && facts.format == "raw"
        && clone.size == Some(facts.capacity);
    if of_base || full_copy {
        part.notes.push(format!(
            "volume {} already exists, {}: it is used unchanged",
            clone.volume,
            if of_base {
                format!("a clone of {}", clone.base)
            } else {
                "a raw disk of that size".into()
            }
        ));
        return Ok(());
    }
    Err(vec![Objection::new(
        MessageId::VolumeExists,
        RefusalKind::NotOurs,
        ObjectionSubject::RootDisk,
        format!(
            "volume {} already exists, and it is not a clone of {}",
            clone.volume, clone.base
        ),
        format!(
            "lbctl did not make it. To use it unchanged, set `volume_id = \"{}\"` instead of [volume]; otherwise \
             choose another name",
            clone.volume
        ),
    )])
}

/// Whether the volume is a copy-on-write clone of the base.
pub(super) fn is_clone_of(volume: &VolumeFacts, base: &VolumeFacts) -> bool {
    volume.backing.as_ref() == Some(&base.source.backing_path())
}

fn other_format(clone: &CloneVolume, facts: &VolumeFacts) -> Objection {
    Objection::new(
        MessageId::DiskFormatDiffers,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "disk format: {} -> {} (replace): this needs a new disk, and volume {} contains data",
            facts.format,
            clone.format.as_str(),
            clone.volume
        ),
        "`lbctl down --delete-volume` and then `lbctl up` create it again; or set volume.format back",
    )
}

fn other_base(clone: &CloneVolume, facts: &VolumeFacts, base: &VolumeFacts) -> Objection {
    let is = facts.backing.as_deref().unwrap_or("no base volume");
    Objection::new(
        MessageId::BaseVolumeDiffers,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "base volume: {is} -> {} (replace): this needs a new disk, and volume {} contains data",
            base.source, clone.volume
        ),
        "`lbctl down --delete-volume` and then `lbctl up` create it again; or set base_volume_name back",
    )
}

/// Refused and not ignored: who lowers the size expects a smaller disk.
fn never_shrink(clone: &CloneVolume, facts: &VolumeFacts) -> Result<(), Vec<Objection>> {
    let Some(size) = clone
        .size
        .filter(|size| size.saturating_add(ROUNDING) <= facts.capacity)
    else {
        return Ok(());
    };
    Err(vec![Objection::new(
        MessageId::DiskShrinks,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "disk size: {} -> {} (replace): a disk can grow, but lbctl never shrinks it",
            Bytes(facts.capacity),
            Bytes(size)
        ),
        format!(
            "set volume.size to {} bytes, which is what {} has; or `lbctl down --delete-volume` and then `lbctl up` \
             create a smaller one",
            facts.capacity, clone.volume
        ),
    )])
}

fn grow(clone: &CloneVolume, facts: &VolumeFacts, observed: &Observed, part: &mut DiskPart) {
    let Some(size) = clone.size.filter(|size| *size > facts.capacity) else {
        return;
    };
    let (from, to) = (Value::Size(facts.capacity), Value::Size(size));
    part.changes
        .push(Change::new(Subject::DiskSize, from, to, Class::Live));
    let running = observed
        .domain
        .as_ref()
        .and_then(|d| Some((d, d.live.as_ref()?.root_disk()?)));
    part.steps.push(match running {
        Some((_, disk)) => {
            let domain = observed
                .domain
                .as_ref()
                .map(domain_name)
                .unwrap_or_default();
            Step::GrowLiveDisk {
                domain,
                target: disk.target.clone(),
                capacity: size,
            }
        }
        None => Step::GrowVolume {
            at: clone.volume.clone(),
            capacity: size,
        },
    });
}

fn capacity(clone: &CloneVolume, base: &VolumeFacts) -> Result<u64, Vec<Objection>> {
    match clone.size {
        Some(size) if size < base.capacity => Err(vec![unfit(
            MessageId::SizeBelowBase,
            ObjectionSubject::RootDisk,
            format!(
                "volume.size is {}, and base volume {} has {}",
                Bytes(size),
                clone.base,
                Bytes(base.capacity)
            ),
            "a disk can grow, but lbctl never shrinks it: give at least the size of the base, or leave `size` out",
        )]),
        Some(size) => Ok(size),
        None => Ok(base.capacity),
    }
}

fn base_facts<'o>(
    clone: &CloneVolume,
    base: &'o VolumeState,
) -> Result<&'o VolumeFacts, Objection> {
    match base {
        VolumeState::Present(facts) => Ok(facts),
        VolumeState::NoPool => Err(no_pool(
            ObjectionSubject::Base,
            &clone.base.pool,
            "volume.base_volume_pool",
        )),
        VolumeState::PoolInactive => Err(inactive_pool(ObjectionSubject::Base, &clone.base.pool)),
        VolumeState::Absent => Err(unfit(
            MessageId::BaseVolumeMissing,
            ObjectionSubject::Base,
            format!("pool {} has no volume {}", clone.base.pool, clone.base.name),
            format!(
                "`virsh vol-list {0}` lists its volumes; after copying an image there, run `virsh pool-refresh {0}`",
                clone.base.pool
            ),
        )),
    }
}

/// The domain has a disk, and its volume does not exist any more: a new one would be an empty
/// machine under an old name.
fn lost_disk(clone: &CloneVolume, observed: &Observed) -> Result<(), Vec<Objection>> {
    let Some(ownership) = record_of(observed.domain.as_ref()) else {
        return Ok(());
    };
    let (id, message, hint) = if ownership.volume == clone.volume {
        (
            MessageId::DiskMissing,
            format!(
                "volume {}, the root disk of this domain, does not exist any more",
                clone.volume
            ),
            "run `virsh pool-refresh` if the file exists again; otherwise run `lbctl down`, then `lbctl up` creates a \
             new one",
        )
    } else {
        (
            MessageId::DiskDiffers,
            format!(
                "disk: {} -> {} (replace): this needs a new disk",
                ownership.volume, clone.volume
            ),
            "`lbctl down --delete-volume` with the old configuration and then `lbctl up`; or set volume.name back",
        )
    };
    Err(vec![Objection::new(
        id,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        message,
        hint,
    )])
}

/// The domain's root disk is another volume.
fn replacement(source: &Source, observed: &Observed) -> Result<Option<Change>, Vec<Objection>> {
    let Some(domain) = &observed.domain else {
        return Ok(None);
    };
    match domain.config.root_disk().and_then(|d| d.source.as_ref()) {
        Some(is) if is == source => Ok(None),
        Some(is) => Err(vec![Objection::new(
            MessageId::DiskDiffers,
            RefusalKind::NeedsConsent,
            ObjectionSubject::RootDisk,
            format!("disk: {is} -> {source} (replace): the domain would boot from another disk"),
            "run `lbctl down`, then `lbctl up`, if that is wanted; otherwise set volume_id or [volume] back",
        )]),
        // Detached by an operator: the redefinition attaches it again; a running guest that lost
        // it, too, gets it at its next start.
        None => {
            let lost = domain
                .live
                .as_ref()
                .is_some_and(|live| live.root_disk().is_none());
            let class = if lost { Class::Restart } else { Class::Live };
            let to = Value::Source(source.clone());
            let disk = Change::new(Subject::Disk, Condition::None, to, class);
            Ok(Some(disk))
        }
    }
}

fn unclaimed(facts: &VolumeFacts, observed: &Observed) -> Result<(), Vec<Objection>> {
    let mine =
        |source: &Source| *source == facts.source || *source == Source::Volume(facts.at.clone());
    match observed.claims.iter().find(|c| c.disks.iter().any(mine)) {
        None => Ok(()),
        Some(claims) => Err(vec![Objection::new(
            MessageId::DiskClaimed,
            RefusalKind::NotOurs,
            ObjectionSubject::RootDisk,
            format!("volume {} is a disk of domain {}", facts.at, claims.domain),
            "two machines that write one disk destroy it: choose another volume",
        )]),
    }
}

fn record_of(domain: Option<&DomainFacts>) -> Option<&DiskRecord> {
    domain?.config.ownership.as_ref()?.disk.as_ref()
}

fn domain_name(domain: &DomainFacts) -> String {
    domain.name.clone()
}

fn no_volume(id: &str) -> Objection {
    unfit(
        MessageId::VolumeMissing,
        ObjectionSubject::RootDisk,
        format!("the host has no volume {id}"),
        "`virsh vol-list POOL` lists the volumes, `virsh pool-refresh POOL` makes libvirt read the pool again; \
         volume_id takes a key, a path, or pool/name",
    )
}

pub(super) fn no_pool(about: ObjectionSubject, pool: &str, key: &str) -> Objection {
    unfit(
        MessageId::PoolMissing,
        about,
        format!("the host has no storage pool {pool}"),
        format!("`virsh pool-list --all` lists them; set `{key}` to one of them"),
    )
}

pub(super) fn inactive_pool(about: ObjectionSubject, pool: &str) -> Objection {
    unfit(
        MessageId::PoolInactive,
        about,
        format!("storage pool {pool} is not active"),
        format!("start it: `virsh pool-start {pool}` (and `virsh pool-autostart {pool}`)"),
    )
}

fn unfit(
    id: MessageId,
    about: ObjectionSubject,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Objection {
    Objection::new(id, RefusalKind::Unfit, about, message, hint)
}

//! The root disk: found, cloned or grown. Never shrunk, and made anew only where that is asked for.

mod anew;
mod attached;
mod base;
mod format;

use super::fitness::listed;
use super::step::RootRef;
use super::{Change, Class, Objection, ObjectionSubject, RefusalKind, Step, Subject, Value, made};
use crate::config::{CloneVolume, DiskFormat, VolumeRef};
use crate::exit::MessageId;
use crate::host::ownership::DiskRecord;
use crate::host::{CloneSpec, Header, Listed, Source, VolumeFacts, VolumeState};
use crate::image::{ImageError, ImageFacts};
use crate::reconcile::desired::DiskConsent;
use crate::reconcile::observe::{Observed, ObservedDisk};
use crate::text::size::Bytes;
use anew::{Fitting, anew, lost, way_out};

use attached::attached;
pub(super) use attached::{Overlay, in_its_place, is_overlay, overlay};
pub(crate) use base::base_is_lost;
use base::{
    Missing, base_facts, bring, capacity, is_clone_of, is_of_another_image, lost_base, other_base,
};
pub(super) use format::MAKES_NONE;
use format::{device_size, first_format, note_format, other_format, pool_resizes, pool_takes};

/// Pools round a size up, qcow2 to sectors and LVM to whole extents: by less than this, in bytes.
const ROUNDING: u64 = 32 * 1024 * 1024;

/// What says which base it is.
const BASE_KEYS: &str = "base_volume_name (or base_image)";

/// What the root disk needs.
#[derive(Debug)]
pub(super) struct DiskPart {
    pub changes: Vec<Change>,
    pub steps: Vec<Step>,
    pub notes: Vec<String>,
    pub root: RootRef,
    /// What the domain reads it as: never what is found in it later.
    pub format: String,
    /// The domain's disk that it is; `None`: the domain does not have it (yet).
    pub target: Option<String>,
    /// `None`: not lbctl's in any way (`volume_id`).
    pub ownership: Option<DiskRecord>,
    /// Whether the disk of a domain is made anew: the guest is off for it.
    pub anew: bool,
}

pub(super) fn plan(consent: DiskConsent, observed: &Observed) -> Result<DiskPart, Vec<Objection>> {
    match &observed.disk {
        ObservedDisk::Existing {
            id,
            format,
            volume,
            header,
        } => existing(id, (*format, *header), volume, observed),
        ObservedDisk::Clone {
            wanted,
            volume,
            base,
            image,
            pool,
        } => {
            let base = (base, image.as_deref());
            cloned(wanted, volume, base, pool.as_deref(), consent, observed)
        }
    }
}

fn existing(
    id: &str,
    (given, header): (Option<DiskFormat>, Option<Header>),
    volume: &VolumeState,
    observed: &Observed,
) -> Result<DiskPart, Vec<Objection>> {
    let pool = id.split('/').next().unwrap_or_default();
    let facts = match volume {
        VolumeState::Present(facts) => facts,
        VolumeState::NoPool => {
            return Err(vec![no_pool(
                ObjectionSubject::RootDisk,
                pool,
                "volume_id",
                observed,
            )]);
        }
        VolumeState::PoolInactive => {
            return Err(vec![inactive_pool(ObjectionSubject::RootDisk, pool)]);
        }
        VolumeState::Vanished => {
            return Err(vec![vanished(ObjectionSubject::RootDisk, id, pool)]);
        }
        VolumeState::Absent => return Err(vec![no_volume(id)]),
    };
    unclaimed(facts, observed)?;
    let mut part = DiskPart {
        changes: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
        root: RootRef::Id(id.to_owned()),
        format: String::new(),
        target: None,
        ownership: None,
        anew: false,
    };
    let pinned = attached(facts, observed, &mut part)?;
    part.format = match (pinned, given) {
        (Some(is), Some(wanted)) if is != wanted.as_str() => {
            let out = "set volume_format back: lbctl did not make the disk".to_owned();
            return Err(vec![other_format(&is, wanted, &facts.at, out)]);
        }
        (Some(is), _) => is,
        (None, _) => first_format(facts, given, header).map_err(|o| vec![o])?,
    };
    if observed.domain.is_none() {
        let to = Value::TakenOver(facts.at.clone());
        let disk = Change::new(Subject::Disk, Value::Nothing, to, Class::Create);
        part.changes.push(disk);
    }
    note_format(facts, &mut part);
    Ok(part)
}

fn cloned(
    clone: &CloneVolume,
    volume: &VolumeState,
    (base, image): (&VolumeState, Option<&Result<ImageFacts, ImageError>>),
    pool: Option<&str>,
    consent: DiskConsent,
    observed: &Observed,
) -> Result<DiskPart, Vec<Objection>> {
    let mut part = DiskPart {
        changes: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
        root: RootRef::Volume(clone.volume.clone()),
        format: clone.format.as_str().to_owned(),
        target: None,
        ownership: Some(DiskRecord {
            volume: clone.volume.clone(),
            cloned: true,
        }),
        anew: false,
    };
    let base = base_facts(clone, base, observed);
    match volume {
        VolumeState::NoPool => Err(vec![no_pool(
            ObjectionSubject::RootDisk,
            &clone.volume.pool,
            "volume.pool",
            observed,
        )]),
        VolumeState::PoolInactive => Err(vec![inactive_pool(
            ObjectionSubject::RootDisk,
            &clone.volume.pool,
        )]),
        VolumeState::Vanished => Err(vec![vanished(
            ObjectionSubject::RootDisk,
            &clone.volume.to_string(),
            &clone.volume.pool,
        )]),
        VolumeState::Absent if consent.replace && lost(clone, observed) => {
            let made = make(clone, (base, image), pool, observed)?;
            anew(clone, None, made, observed, &mut part)?;
            Ok(part)
        }
        VolumeState::Absent => {
            lost_disk(clone, observed)?;
            let made = make(clone, (base, image), pool, observed)?;
            cloned_from(clone, made, &mut part);
            Ok(part)
        }
        VolumeState::Present(facts) => {
            unclaimed(facts, observed)?;
            let pinned = attached(facts, observed, &mut part)?;
            let known = base.as_ref().copied();
            let known = known.map_err(|missing| missing.objection.clone());
            let fit = fits(clone, (facts, pinned), known, consent, observed, &mut part);
            match Fitting::of(fit, facts, observed) {
                Fitting::Fits => Ok(part),
                Fitting::Refused(objections) => Err(objections),
                Fitting::NeedsAnother(_) if consent.replace => {
                    let made = make(clone, (base, image), pool, observed)?;
                    anew(clone, Some(facts), made, observed, &mut part)?;
                    Ok(part)
                }
                Fitting::NeedsAnother(objection) => Err(vec![objection]),
            }
        }
    }
}

/// Whether the disk that is there is the one that is asked for, as it is or once it has grown.
fn fits(
    clone: &CloneVolume,
    (facts, pinned): (&VolumeFacts, Option<String>),
    base: Result<&VolumeFacts, Objection>,
    consent: DiskConsent,
    observed: &Observed,
    part: &mut DiskPart,
) -> Result<(), Vec<Objection>> {
    if let Some(is) = pinned.filter(|is| is != clone.format.as_str()) {
        let out = way_out(clone, facts, observed, "volume.format");
        return Err(vec![other_format(&is, clone.format, &clone.volume, out)]);
    }
    if base_is_lost(clone, facts, observed) {
        let lost = lost_base(clone);
        match &observed.domain {
            Some(domain) if domain.live.is_some() => part.notes.push(lost.message),
            _ => return Err(vec![lost]),
        }
    }
    reuse(clone, facts, base, consent.reuse, observed, part)?;
    never_shrink(clone, facts, observed)?;
    grow(clone, facts, observed, part)?;
    note_format(facts, part);
    Ok(())
}

/// What a new disk is made of: the steps that bring its base, and what it is then.
struct Made {
    image: Option<Step>,
    spec: CloneSpec,
    /// Of a copy, which is as large as its base at first.
    grows: Option<Step>,
}

/// A new disk, and its base where that is to be made of an image.
fn make(
    clone: &CloneVolume,
    (base, image): (
        Result<&VolumeFacts, Missing>,
        Option<&Result<ImageFacts, ImageError>>,
    ),
    pool: Option<&str>,
    observed: &Observed,
) -> Result<Made, Vec<Objection>> {
    let mut brought = None;
    let of_base = match (base, &clone.image, image) {
        (Ok(base), ..) => base.capacity,
        (Err(Missing { is_made: true, .. }), Some(image), Some(found)) => {
            let step = bring(clone, image, found).map_err(|o| vec![o])?;
            let capacity = step.capacity;
            brought = Some(Step::BringImage(step));
            capacity
        }
        // It was not looked at: what it will be is not known.
        (Err(Missing { is_made: true, .. }), Some(image), None) => {
            let facts = ImageFacts {
                size: None,
                capacity: clone.size.unwrap_or(0),
            };
            let step = bring(clone, image, &Ok(facts)).map_err(|o| vec![o])?;
            brought = Some(Step::BringImage(step));
            facts.capacity
        }
        (Err(missing), ..) => return Err(vec![missing.objection]),
    };
    if let Some(domain) = &observed.unseen {
        return Err(vec![unseen(clone, domain)]);
    }
    pool_takes(clone, pool)?;
    let capacity = capacity(clone, of_base)?;
    let grows = clone.format == DiskFormat::Raw && capacity > of_base && pool_resizes(pool);
    Ok(Made {
        image: brought,
        spec: CloneSpec {
            volume: clone.volume.clone(),
            base: clone.base.clone(),
            capacity,
            format: clone.format.as_str(),
        },
        grows: grows.then(|| Step::GrowVolume {
            at: clone.volume.clone(),
            capacity,
        }),
    })
}

fn cloned_from(clone: &CloneVolume, made: Made, part: &mut DiskPart) {
    let to = Value::CloneOf {
        volume: clone.volume.clone(),
        capacity: made.spec.capacity,
        base: clone.base.clone(),
    };
    let disk = Change::new(Subject::Disk, Value::Nothing, to, Class::Create);
    part.changes.push(disk);
    part.steps.extend(made.image);
    part.steps.push(Step::CloneVolume(made.spec));
    part.steps.extend(made.grows);
}

/// A disk that is there is used if lbctl made it, or if it looks as asked for and somebody
/// consents: then it is taken over, and stays somebody else's for ever.
fn reuse(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    base: Result<&VolumeFacts, Objection>,
    consent: bool,
    observed: &Observed,
    part: &mut DiskPart,
) -> Result<(), Vec<Objection>> {
    let at = &clone.volume;
    // Of a pool that is not there nothing is known: neither that it is a clone, nor that it is not.
    let (base, unknown) = match base {
        Ok(facts) => (Some(facts), None),
        Err(objection)
            if matches!(
                objection.id,
                MessageId::PoolInactive | MessageId::PoolMissing
            ) =>
        {
            (None, Some(objection))
        }
        Err(_) => (None, None),
    };
    let of_base = base.is_some_and(|base| is_clone_of(facts, base));
    let made = made::volume(observed, at);
    if let Some(disk) = &mut part.ownership {
        disk.cloned = made == Some(true);
    }
    if made.is_some() {
        return still_fits(clone, facts, base, observed);
    }
    let capacity = facts.capacity_as(clone.format.as_str());
    let (as_asked_for, looks) = match clone.format {
        DiskFormat::Qcow2 => (
            of_base && facts.format == "qcow2",
            format!("a clone of {}", clone.base),
        ),
        DiskFormat::Raw => {
            let same = clone.size.is_none_or(|size| size == capacity);
            (
                same && !of_base,
                format!("a raw disk of {}", Bytes(capacity)),
            )
        }
    };
    if let Some(unknown) = unknown.filter(|_| !as_asked_for && facts.backing.is_some()) {
        return Err(vec![unknown]);
    }
    if !as_asked_for {
        return Err(vec![Objection::new(
            MessageId::VolumeExists,
            RefusalKind::NotOurs,
            ObjectionSubject::RootDisk,
            format!(
                "volume {at} already exists, and it is not a clone of {}",
                clone.base
            ),
            format!(
                "to use it unchanged, set `volume_id = \"{at}\"` instead of [volume]; otherwise \
                 choose another name"
            ),
        )]);
    }
    // The domain has it already, by `volume_id`.
    if part.target.is_some() {
        return Ok(());
    }
    if !consent {
        let VolumeRef { pool, name } = at;
        return Err(vec![Objection::new(
            MessageId::DiskNotOurs,
            RefusalKind::NotOurs,
            ObjectionSubject::RootDisk,
            format!("volume {at} already exists, {looks}, and nothing says that lbctl made it"),
            format!(
                "`lbctl up --reuse-disk` uses it unchanged, with its data, and never deletes it; otherwise choose another \
                 volume.name, or delete it if nobody needs it: `virsh vol-delete {name} --pool {pool}`"
            ),
        )]);
    }
    let class = match observed.domain {
        None => Class::Create,
        Some(_) => Class::Live,
    };
    let to = Value::TakenOver(at.clone());
    part.changes
        .push(Change::new(Subject::Disk, Value::Nothing, to, class));
    Ok(())
}

/// Whether the disk that lbctl made or took over is one that the configuration means. One without a
/// base is, for a block pull leaves it so: what it was a clone of is in it.
fn still_fits(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    base: Option<&VolumeFacts>,
    observed: &Observed,
) -> Result<(), Vec<Objection>> {
    let of_base = base.is_some_and(|base| is_clone_of(facts, base));
    let other = match clone.format {
        _ if observed.domain.is_some() => None,
        DiskFormat::Qcow2 => Some(facts.format.as_str()).filter(|is| *is != "qcow2"),
        DiskFormat::Raw => of_base.then_some("qcow2"),
    };
    if let Some(is) = other {
        let out = way_out(clone, facts, observed, "volume.format");
        return Err(vec![other_format(is, clone.format, &clone.volume, out)]);
    }
    match base {
        _ if facts.backing.is_none() => Ok(()),
        Some(base) if clone.format == DiskFormat::Qcow2 && !of_base => {
            let out = way_out(clone, facts, observed, BASE_KEYS);
            Err(vec![other_base(
                clone,
                facts,
                &base.source.to_string(),
                out,
            )])
        }
        None if is_of_another_image(clone, facts) => {
            let out = way_out(clone, facts, observed, BASE_KEYS);
            Err(vec![other_base(clone, facts, &clone.base.name, out)])
        }
        _ => Ok(()),
    }
}

/// A file that libvirt's pool has not seen: made in it, it would be there twice.
fn unseen(clone: &CloneVolume, domain: &str) -> Objection {
    let VolumeRef { pool, .. } = &clone.volume;
    Objection::new(
        MessageId::DiskClaimed,
        RefusalKind::NotOurs,
        ObjectionSubject::RootDisk,
        format!(
            "volume {} is a disk of domain {domain}, although pool {pool} does not list it",
            clone.volume
        ),
        format!("choose another volume; `virsh pool-refresh {pool}` makes libvirt see the file"),
    )
}

/// Refused and not ignored: who lowers the size expects a smaller disk.
fn never_shrink(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    observed: &Observed,
) -> Result<(), Vec<Objection>> {
    let is = facts.capacity_as(clone.format.as_str());
    let Some(size) = clone
        .size
        .filter(|size| size.saturating_add(ROUNDING) <= is)
    else {
        return Ok(());
    };
    Err(vec![Objection::new(
        MessageId::DiskShrinks,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "disk size: {} -> {} (replace): a disk can grow, but lbctl never shrinks it",
            Bytes(is),
            Bytes(size)
        ),
        format!(
            "{}: {is} bytes is what {} has",
            way_out(clone, facts, observed, "volume.size"),
            clone.volume
        ),
    )])
}

fn grow(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    observed: &Observed,
    part: &mut DiskPart,
) -> Result<(), Vec<Objection>> {
    let is = facts.capacity_as(clone.format.as_str());
    let Some(size) = clone.size.filter(|size| *size > is) else {
        return Ok(());
    };
    if observed.disk_is_fixed {
        return Err(vec![fixed_size(clone, is, size, observed)]);
    }
    if matches!(facts.source, Source::Block(_)) {
        return Err(vec![device_size(facts, size, observed)]);
    }
    let (from, to) = (Value::Size(is), Value::Size(size));
    part.changes
        .push(Change::new(Subject::DiskSize, from, to, Class::Live));
    let running = observed
        .domain
        .as_ref()
        .and_then(|d| Some((d, d.live.as_ref()?.disk_of(facts)?)));
    part.steps.push(match running {
        Some((domain, disk)) => Step::GrowLiveDisk {
            domain: domain.name.clone(),
            target: disk.target.clone(),
            capacity: size,
        },
        // libvirt would have the file grown as what it finds in it.
        None if clone.format == DiskFormat::Raw && facts.format != "raw" => {
            return Err(vec![unfit(
                MessageId::DiskFormatDiffers,
                ObjectionSubject::RootDisk,
                format!(
                    "libvirt finds {} in volume {}, which is a raw disk: it cannot grow while the guest is off",
                    facts.format, clone.volume
                ),
                "set volume.size back, run `lbctl up`, and raise it while the guest runs",
            )]);
        }
        None => Step::GrowVolume {
            at: clone.volume.clone(),
            capacity: size,
        },
    });
    Ok(())
}

/// Said before the first step: libvirt would fail at this one, each time.
fn fixed_size(clone: &CloneVolume, is: u64, size: u64, observed: &Observed) -> Objection {
    let domain = observed.domain.as_ref();
    let hint = match domain.filter(|d| !d.snapshots.is_empty()) {
        Some(domain) => format!(
            "`virsh snapshot-list {0}` lists them, `virsh snapshot-delete {0} NAME` deletes one; or set volume.size back",
            domain.name
        ),
        None => "`qemu-img snapshot -l` lists them and `qemu-img snapshot -d` deletes one, while the guest is off; or set \
                 volume.size back"
            .into(),
    };
    Objection::new(
        MessageId::DiskHoldsSnapshots,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "disk size: {} -> {}: volume {} holds snapshots, and a qcow2 disk of version 2 cannot grow with them",
            Bytes(is),
            Bytes(size),
            clone.volume
        ),
        hint,
    )
}

/// The domain has a disk, and its volume does not exist any more: a new one would be an empty
/// machine under an old name.
fn lost_disk(clone: &CloneVolume, observed: &Observed) -> Result<(), Vec<Objection>> {
    let Some(ownership) = made::disk_record(observed) else {
        return Ok(());
    };
    let (id, message, hint) = if ownership.volume == clone.volume {
        (
            MessageId::DiskMissing,
            format!(
                "volume {}, the root disk of this domain, does not exist any more",
                clone.volume
            ),
            "run `virsh pool-refresh` if the file exists again; otherwise `lbctl up --replace-disk` makes a new one",
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

fn unclaimed(facts: &VolumeFacts, observed: &Observed) -> Result<(), Vec<Objection>> {
    let mine = |source: &Source| facts.is(source);
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

fn no_volume(id: &str) -> Objection {
    unfit(
        MessageId::VolumeMissing,
        ObjectionSubject::RootDisk,
        format!("the host has no volume {id}"),
        "`virsh vol-list POOL` lists the volumes, `virsh pool-refresh POOL` makes libvirt read the pool again; \
         volume_id takes a key, a path, or pool/name",
    )
}

pub(super) fn no_pool(
    about: ObjectionSubject,
    pool: &str,
    key: &str,
    observed: &Observed,
) -> Objection {
    let list = listed(observed, &Listed::Pools, "storage pools", pool)
        .unwrap_or_else(|| "`virsh pool-list --all` lists them".into());
    unfit(
        MessageId::PoolMissing,
        about,
        format!("the host has no storage pool {pool}"),
        format!("{list}; set `{key}` to one of them"),
    )
}

/// `what`: the volume, as the configuration names it.
pub(super) fn vanished(about: ObjectionSubject, what: &str, pool: &str) -> Objection {
    unfit(
        MessageId::VolumeFileMissing,
        about,
        format!("libvirt lists volume {what}, but its file does not exist any more"),
        format!(
            "put the file back; or let libvirt read the pool again with `virsh pool-refresh {pool}`, and run lbctl again"
        ),
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

//! The base volume of a clone, and the image that it is made from.

use std::ffi::OsStr;
use std::path::Path;

use super::super::fitness::listed;
use super::super::step::ImageStep;
use super::super::{Objection, ObjectionSubject, RefusalKind};
use super::{inactive_pool, no_pool, unfit, vanished};
use crate::config::{BaseImage, CloneVolume, DiskFormat};
use crate::exit::MessageId;
use crate::host::{Listed, VolumeFacts, VolumeState};
use crate::image::{ImageError, ImageErrorKind, ImageFacts};
use crate::reconcile::observe::{Observed, ObservedDisk};
use crate::text::size::Bytes;

/// Why there is no base volume.
pub(super) struct Missing {
    /// The pool is there: the volume can be made.
    pub is_made: bool,
    pub objection: Objection,
}

/// A base volume that is named after an image, and does not hold all of it, is not there yet.
pub(super) fn base_facts<'o>(
    clone: &CloneVolume,
    base: &'o VolumeState,
    observed: &Observed,
) -> Result<&'o VolumeFacts, Missing> {
    let not_there = |objection| Missing {
        is_made: false,
        objection,
    };
    match base {
        VolumeState::Present(facts) if clone.image.is_none() || facts.is_whole_image() => Ok(facts),
        VolumeState::Present(facts) if facts.format == "qcow2" => Err(not_there(unfit(
            MessageId::ImageUnfit,
            ObjectionSubject::Base,
            format!(
                "volume {} is not the image: it refers to another one, {}",
                clone.base,
                facts.backing.as_deref().unwrap_or("its backing file")
            ),
            format!(
                "lbctl made no such volume: delete it, `virsh vol-delete {} {}`",
                clone.base.name, clone.base.pool
            ),
        ))),
        VolumeState::NoPool => Err(not_there(no_pool(
            ObjectionSubject::Base,
            &clone.base.pool,
            "volume.base_volume_pool",
            observed,
        ))),
        VolumeState::PoolInactive => Err(not_there(inactive_pool(
            ObjectionSubject::Base,
            &clone.base.pool,
        ))),
        VolumeState::Vanished => Err(not_there(vanished(
            ObjectionSubject::Base,
            &clone.base.to_string(),
            &clone.base.pool,
        ))),
        VolumeState::Present(_) | VolumeState::Absent => {
            let pool = &clone.base.pool;
            let which = Listed::Volumes(pool.clone());
            let list = listed(observed, &which, "volumes", &clone.base.name)
                .unwrap_or_else(|| format!("`virsh vol-list {pool}` lists its volumes"));
            Err(Missing {
                is_made: true,
                objection: unfit(
                    MessageId::BaseVolumeMissing,
                    ObjectionSubject::Base,
                    format!("pool {pool} has no volume {}", clone.base.name),
                    format!(
                        "{list}; after copying an image there, run `virsh pool-refresh {pool}`"
                    ),
                ),
            })
        }
    }
}

/// Whether the disk is a clone of the configured base, and that is not there any more.
pub(crate) fn base_is_lost(clone: &CloneVolume, facts: &VolumeFacts, observed: &Observed) -> bool {
    let ObservedDisk::Clone { base, .. } = &observed.disk else {
        return false;
    };
    let gone = matches!(base, VolumeState::Absent | VolumeState::Vanished);
    let ends = format!("/{}", clone.base.name);
    gone && facts
        .backing
        .as_ref()
        .is_some_and(|path| path.ends_with(&ends))
}

pub(super) fn lost_base(clone: &CloneVolume) -> Objection {
    let base = &clone.base;
    unfit(
        MessageId::BackingVolumeMissing,
        ObjectionSubject::Base,
        format!(
            "base volume {base} does not exist any more, and volume {} is a clone of it: the guest cannot start without it",
            clone.volume
        ),
        format!(
            "put the image back under its name (`virsh pool-refresh {}` makes libvirt see it)",
            base.pool
        ),
    )
}

/// Whether the volume is a copy-on-write clone of the base.
pub(super) fn is_clone_of(volume: &VolumeFacts, base: &VolumeFacts) -> bool {
    volume.backing.as_ref() == Some(&base.source.backing_path())
}

/// The image has a volume of its own, which the disk does not refer to.
pub(super) fn is_of_another_image(clone: &CloneVolume, facts: &VolumeFacts) -> bool {
    let backing = facts.backing.as_deref().map(Path::new);
    let name = backing.and_then(Path::file_name);
    clone.image.is_some()
        && clone.format == DiskFormat::Qcow2
        && name != Some(OsStr::new(&clone.base.name))
}

/// `out`: what to do about it.
pub(super) fn other_base(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    base: &str,
    out: String,
) -> Objection {
    let is = facts.backing.as_deref().unwrap_or("no base volume");
    Objection::new(
        MessageId::BaseVolumeDiffers,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "base volume: {is} -> {base} (replace): this needs a new disk, and volume {} contains data",
            clone.volume
        ),
        out,
    )
}

/// The base volume that is made from the image.
pub(super) fn bring(
    clone: &CloneVolume,
    image: &BaseImage,
    found: &Result<ImageFacts, ImageError>,
) -> Result<ImageStep, Objection> {
    match found {
        Ok(facts) => Ok(ImageStep {
            at: clone.base.clone(),
            image: image.clone(),
            capacity: facts.capacity,
            size: facts.size,
        }),
        Err(error) => {
            let id = match error.kind {
                ImageErrorKind::Unreadable | ImageErrorKind::Stopped => MessageId::ImageUnreadable,
                ImageErrorKind::Unfit => MessageId::ImageUnfit,
                ImageErrorKind::Digest => MessageId::ImageDigestDiffers,
            };
            Err(unfit(id, ObjectionSubject::Base, &error.what, &error.hint))
        }
    }
}

pub(super) fn capacity(clone: &CloneVolume, base: u64) -> Result<u64, Vec<Objection>> {
    match clone.size {
        Some(size) if size < base => Err(vec![unfit(
            MessageId::SizeBelowBase,
            ObjectionSubject::RootDisk,
            format!(
                "volume.size is {}, and base volume {} has {}",
                Bytes(size),
                clone.base,
                Bytes(base)
            ),
            "a disk can grow, but lbctl never shrinks it: give at least the size of the base, or leave `size` out",
        )]),
        Some(size) => Ok(size),
        None => Ok(base),
    }
}

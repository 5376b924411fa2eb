//! What the root disk is read as: said once, and never found out again.

use super::super::{Objection, ObjectionSubject, RefusalKind};
use super::{DiskPart, unfit};
use crate::config::{CloneVolume, DiskFormat, VolumeRef};
use crate::exit::MessageId;
use crate::host::{Header, Source, VolumeFacts};
use crate::reconcile::observe::Observed;
use crate::text::size::Bytes;

/// What a disk is read as for the first time. Raw harms nobody, whatever is in it; qcow2 may lead
/// QEMU to files of the host, and a guest that had the disk as raw could have written that.
pub(super) fn first_format(
    facts: &VolumeFacts,
    given: Option<DiskFormat>,
    header: Option<Header>,
) -> Result<String, Objection> {
    let (at, found) = (&facts.at, &facts.format);
    let block = matches!(facts.source, Source::Block(_));
    match given {
        Some(DiskFormat::Qcow2) if block || found != "qcow2" => {
            let is = if block {
                "a block device, which lbctl reads as raw only".to_owned()
            } else {
                format!("{found} by what libvirt finds in it")
            };
            Err(unfit(
                MessageId::DiskFormatDiffers,
                ObjectionSubject::RootDisk,
                format!("volume_format is \"qcow2\", and volume {at} is {is}"),
                "set volume_format = \"raw\", or leave it out",
            ))
        }
        Some(format) => Ok(format.as_str().to_owned()),
        // Of a partition libvirt says its type, such as `linux`.
        None if block || found == "raw" => Ok("raw".to_owned()),
        None if found == "qcow2" && header == Some(Header::Alone) => Ok(found.clone()),
        None => {
            let leads = match &facts.backing {
                Some(backing) => format!(" with backing file {backing}"),
                None => String::new(),
            };
            Err(Objection::new(
                MessageId::DiskFormatUncertain,
                RefusalKind::NeedsConsent,
                ObjectionSubject::RootDisk,
                format!(
                    "volume {at} is {found}{leads}, by what is written in it: a guest that had it as a raw disk \
                     could have written that, to read files of the host"
                ),
                "set volume_format = \"qcow2\" if you or your tools made the volume so; volume_format = \"raw\" if \
                 it is a raw disk",
            ))
        }
    }
}

/// What libvirt finds in a raw disk is what its guest wrote.
pub(super) fn note_format(facts: &VolumeFacts, part: &mut DiskPart) {
    let file = matches!(facts.source, Source::File(_));
    if file && part.format == "raw" && facts.format != "raw" {
        part.notes.push(format!(
            "libvirt finds {} in volume {}, which the guest has as a raw disk and may have written: it stays raw",
            facts.format, facts.at
        ));
    }
}

/// `out`: what to do about it.
pub(super) fn other_format(is: &str, wanted: DiskFormat, at: &VolumeRef, out: String) -> Objection {
    Objection::new(
        MessageId::DiskFormatDiffers,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "disk format: {is} -> {} (replace): this needs a new disk, and volume {at} contains data",
            wanted.as_str()
        ),
        out,
    )
}

/// Pools of block devices, and of images of Ceph and the like.
const RAW_ONLY: &[&str] = &[
    "logical",
    "disk",
    "iscsi",
    "iscsi-direct",
    "scsi",
    "mpath",
    "rbd",
    "zfs",
    "sheepdog",
];

/// Whether libvirt changes the size of a volume in a pool of that type (virStorageVolResize). A
/// logical volume has from its making on the size that it is to have.
pub(super) fn pool_resizes(pool: Option<&str>) -> bool {
    pool.is_none_or(|kind| kind == "rbd" || kind == "sheepdog" || !RAW_ONLY.contains(&kind))
}

/// Said before the first step: libvirt and QEMU would fail at this one, each time.
pub(super) fn device_size(facts: &VolumeFacts, size: u64, observed: &Observed) -> Objection {
    let VolumeRef { pool, name } = &facts.at;
    let device = facts.source.path().unwrap_or(name);
    let domain = observed.domain.as_ref();
    let running = domain.filter(|d| d.live.is_some()).map(|d| {
        let target = d.config.disk_of(facts).map(|disk| disk.target.as_str());
        format!(
            ", and `virsh blockresize {} {} {size}B` then tells the guest",
            d.name,
            target.unwrap_or("DISK")
        )
    });
    unfit(
        MessageId::DiskIsDevice,
        ObjectionSubject::RootDisk,
        format!(
            "disk size: {} -> {}: volume {} is a block device, which libvirt cannot make larger",
            Bytes(facts.capacity),
            Bytes(size),
            facts.at
        ),
        format!(
            "make it larger with its own tools (LVM: `lvextend -L {size}B {device}`); `virsh pool-refresh {pool}` \
             lets libvirt see that{}; or set volume.size back",
            running.unwrap_or_default()
        ),
    )
}

/// Pools whose volumes are made elsewhere: libvirt's backends without `createVol`.
pub(in crate::reconcile::plan) const MAKES_NONE: &[&str] =
    &["iscsi", "iscsi-direct", "scsi", "mpath", "gluster"];
/// Pools in which a volume is made and none is copied: without `buildVolFrom`.
const COPIES_NONE: &[&str] = &["zfs", "sheepdog"];

/// A qcow2 in a logical volume would have a snapshot for its base, which cannot grow.
pub(super) fn pool_takes(clone: &CloneVolume, pool: Option<&str>) -> Result<(), Vec<Objection>> {
    let Some(kind) = pool else { return Ok(()) };
    if MAKES_NONE.contains(&kind) || COPIES_NONE.contains(&kind) {
        let lacks = if MAKES_NONE.contains(&kind) {
            "libvirt makes no volumes there"
        } else {
            "libvirt copies no volume there"
        };
        return Err(vec![unfit(
            MessageId::PoolMakesNoVolume,
            ObjectionSubject::RootDisk,
            format!(
                "pool {} is of type {kind}: {lacks}, and {} is to be a copy of {}",
                clone.volume.pool, clone.volume, clone.base
            ),
            "set volume.pool to a pool of type dir, fs, netfs, logical or disk; or copy the base into a volume of \
             that pool with its own tools, and give that as volume_id in the place of [volume]",
        )]);
    }
    if !RAW_ONLY.contains(&kind) || clone.format == DiskFormat::Raw {
        return Ok(());
    }
    Err(vec![unfit(
        MessageId::PoolHoldsRaw,
        ObjectionSubject::RootDisk,
        format!(
            "pool {} is of type {kind}: its volumes are raw, and volume.format is \"qcow2\"",
            clone.volume.pool
        ),
        "set volume.format = \"raw\", which copies the base whole; or take a pool of type dir",
    )])
}

//! Which of a domain's disks is the root disk, or what was put in its place.

use super::super::made;
use super::super::{
    Change, Class, Condition, Objection, ObjectionSubject, RefusalKind, Subject, Value,
};
use super::DiskPart;
use crate::exit::MessageId;
use crate::host::definition::DiskFacts;
use crate::host::{DomainFacts, Source, VolumeFacts};
use crate::reconcile::observe::Observed;

/// Which of the domain's disks it is, and what the domain reads it as. Disks that an operator added
/// beside it are none of lbctl's business.
pub(super) fn attached(
    facts: &VolumeFacts,
    observed: &Observed,
    part: &mut DiskPart,
) -> Result<Option<String>, Vec<Objection>> {
    let Some(domain) = &observed.domain else {
        return Ok(None);
    };
    if let Some(overlay) = overlay(domain, facts) {
        return Err(vec![is_overlay(domain, &overlay, facts)]);
    }
    // libvirt's own default (formatdomain.html, "Hard drives, floppy disks, CDROMs").
    let format = |disk: &DiskFacts| disk.format.clone().unwrap_or_else(|| "raw".into());
    if let Some(disk) = domain.config.disk_of(facts) {
        part.target = Some(disk.target.clone());
        return Ok(Some(format(disk)));
    }
    let live = domain.live.as_ref().map(|live| live.disk_of(facts));
    // The guest runs with it, and nothing has its place in the saved definition: it was detached.
    let place = live.flatten().map(|disk| &disk.target);
    let detached =
        place.is_some_and(|place| domain.config.disks.iter().all(|d| d.target != *place));
    let another = domain.config.root_disk().filter(|_| !detached);
    if let Some(is) = another.and_then(|disk| disk.source.as_ref()) {
        let hint = if made::disk_record(observed).is_some_and(|disk| disk.volume == facts.at) {
            changed_by_hand(domain)
        } else {
            "run `lbctl down`, then `lbctl up`, if that is wanted; otherwise set volume_id or [volume] back"
                .into()
        };
        return Err(vec![Objection::new(
            MessageId::DiskDiffers,
            RefusalKind::NeedsConsent,
            ObjectionSubject::RootDisk,
            format!(
                "disk: {is} -> {} (replace): the domain would boot from another disk",
                facts.source
            ),
            hint,
        )]);
    }
    // The redefinition attaches it again; a running guest that lost it, too, gets it at its next
    // start.
    let class = match live {
        Some(None) => Class::Restart,
        Some(Some(_)) | None => Class::Live,
    };
    let to = Value::Source(facts.source.clone());
    part.changes
        .push(Change::new(Subject::Disk, Condition::None, to, class));
    Ok(live.flatten().map(format))
}

/// The configuration means the disk that the ownership record names, and the domain has another.
fn changed_by_hand(domain: &DomainFacts) -> String {
    let name = &domain.name;
    let overlay = match domain.live {
        // Only of a running domain libvirt knows what its disks are on top of.
        None => format!(
            "if it is an overlay (a snapshot, a backup), `virsh start {name}`, and lbctl says then how to end it; otherwise "
        ),
        Some(_) => String::new(),
    };
    format!(
        "somebody gave the domain that disk, and not the configuration: {overlay}`virsh edit {name}` puts the other one back"
    )
}

/// Another disk that the domain has in the place of the volume. It may be an overlay on it.
pub(in crate::reconcile::plan) fn in_its_place(
    domain: &DomainFacts,
    volume: &VolumeFacts,
) -> Option<Objection> {
    if domain.definitions().any(|d| d.disk_of(volume).is_some()) {
        return None;
    }
    let is = domain.config.root_disk()?.source.as_ref()?;
    Some(Objection::new(
        MessageId::DiskDiffers,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "the disk of domain {} is {is}, and not volume {}, which it may need",
            domain.name, volume.at
        ),
        changed_by_hand(domain),
    ))
}

/// An overlay on the volume, which a snapshot or a backup tool put in its place.
pub(in crate::reconcile::plan) struct Overlay {
    pub source: Source,
    /// `vda`
    pub target: String,
    chain: Chain,
}

impl Overlay {
    /// Whether the volume below it is none any more.
    pub fn holds_everything(&self) -> bool {
        matches!(self.chain, Chain::Nothing)
    }
}

/// What an overlay is on top of.
enum Chain {
    Volume,
    /// Nothing any more: what the volume held was pulled into it, and what the guest wrote since
    /// is in it alone.
    Nothing,
    /// Of a domain that is off libvirt says no chain.
    Unknown,
}

pub(in crate::reconcile::plan) fn overlay(
    domain: &DomainFacts,
    volume: &VolumeFacts,
) -> Option<Overlay> {
    let of_snapshot = |source: &Source| {
        let path = source.backing_path();
        domain.snapshots.iter().any(|s| s.files.contains(&path))
    };
    let mut without = domain
        .definitions()
        .filter(|definition| definition.disk_of(volume).is_none());
    without.find_map(|definition| {
        let mut disks = definition.disks.iter();
        let over = disks.find(|disk| disk.backing.iter().any(|below| volume.is(below)));
        // Of a domain that is off libvirt says no chain.
        let root = || {
            let disk = definition.root_disk()?;
            disk.source
                .as_ref()
                .filter(|s| of_snapshot(s))
                .map(|_| disk)
        };
        let disk = over.or_else(root)?;
        let source = disk.source.clone()?;
        Some(Overlay {
            chain: chain(domain, &source, volume),
            source,
            target: disk.target.clone(),
        })
    })
}

fn chain(domain: &DomainFacts, overlay: &Source, volume: &VolumeFacts) -> Chain {
    let mut disks = domain.live.iter().flat_map(|live| &live.disks);
    match disks.find(|disk| disk.source.as_ref() == Some(overlay)) {
        None => Chain::Unknown,
        Some(disk) if disk.backing.iter().any(|below| volume.is(below)) => Chain::Volume,
        Some(_) => Chain::Nothing,
    }
}

pub(in crate::reconcile::plan) fn is_overlay(
    domain: &DomainFacts,
    overlay: &Overlay,
    volume: &VolumeFacts,
) -> Objection {
    let Overlay {
        source,
        target,
        chain,
    } = overlay;
    let domain = &domain.name;
    let is = match chain {
        Chain::Volume | Chain::Unknown => format!(
            "an overlay on volume {} that lbctl did not make (an external snapshot, or a backup that has not ended)",
            volume.at
        ),
        Chain::Nothing => format!(
            "made as an overlay on volume {} by something else than lbctl, and all of that volume was pulled into it",
            volume.at
        ),
    };
    let path = volume.source.backing_path();
    let then = format!(
        "writes it back into the volume while the guest runs; then delete {source} and the snapshot, if \
         `virsh snapshot-list {domain}` shows one"
    );
    let hint = match chain {
        // Without --base it would be written into the base volume, which other guests use.
        Chain::Volume => format!(
            "`virsh blockcommit {domain} {target} --base {path} --active --pivot --wait` {then}"
        ),
        Chain::Nothing => format!(
            "`virsh blockcopy {domain} {target} --dest {path} --format {} --reuse-external --transient-job --wait --pivot` \
             {then}",
            volume.format
        ),
        Chain::Unknown => format!(
            "`virsh start {domain}`, and lbctl says then how to end it: of a domain that is off libvirt does not say what \
             its disk is on top of"
        ),
    };
    Objection::new(
        MessageId::DiskIsOverlay,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!("the disk of domain {domain} is {source}, {is}"),
        hint,
    )
}

//! A disk that is made anew: another base volume or format, or a smaller size. What is on it is
//! lost, so it is done only where that is asked for (`up --replace-disk`), and only to a disk that
//! lbctl made for a domain that is there: its ownership record says so at each step, whatever ends
//! lbctl in between.

use super::{DiskPart, Made};
use crate::config::CloneVolume;
use crate::exit::MessageId;
use crate::host::{DomainFacts, Source, VolumeFacts};
use crate::reconcile::observe::Observed;
use crate::reconcile::plan::step::RemakeStep;
use crate::reconcile::plan::{
    Change, Class, Objection, ObjectionSubject, RefusalKind, Step, Subject, Value, made,
};

/// Whether the disk that is there is the one that is asked for.
pub(super) enum Fitting {
    Fits,
    /// Only a new disk would be, and lbctl may make it. The objection is for those who did not ask
    /// for that.
    NeedsAnother(Objection),
    Refused(Vec<Objection>),
}

impl Fitting {
    pub(super) fn of(
        fit: Result<(), Vec<Objection>>,
        facts: &VolumeFacts,
        observed: &Observed,
    ) -> Self {
        let Err(mut objections) = fit else {
            return Self::Fits;
        };
        let of_another = objections.iter().all(|objection| {
            matches!(
                objection.id,
                MessageId::BaseVolumeDiffers
                    | MessageId::DiskFormatDiffers
                    | MessageId::DiskShrinks
                    | MessageId::BackingVolumeMissing
            )
        });
        match objections.pop() {
            Some(objection) if of_another && may_be_made_anew(facts, observed) => {
                Self::NeedsAnother(objection)
            }
            last => {
                objections.extend(last);
                Self::Refused(objections)
            }
        }
    }
}

/// A logical volume is not: a copy has no base that could be another one.
fn may_be_made_anew(facts: &VolumeFacts, observed: &Observed) -> bool {
    observed.domain.is_some()
        && made::volume(observed, &facts.at) == Some(true)
        && matches!(facts.source, Source::File(_))
}

/// Whether the disk of the domain, which lbctl made, is not there any more.
pub(super) fn lost(clone: &CloneVolume, observed: &Observed) -> bool {
    let record = made::disk_record(observed);
    observed.domain.is_some()
        && record.is_some_and(|record| record.cloned && record.volume == clone.volume)
}

/// What to do about a disk that is not the one that is asked for; `back`: the keys that say so.
pub(super) fn way_out(
    clone: &CloneVolume,
    facts: &VolumeFacts,
    observed: &Observed,
    back: &str,
) -> String {
    if may_be_made_anew(facts, observed) {
        format!(
            "`lbctl up --replace-disk` makes {} anew, and what is on it is lost; or set {back} back",
            clone.volume
        )
    } else if made::volume(observed, &facts.at) == Some(false) {
        format!(
            "lbctl took the disk over and never deletes it: `lbctl down`, and then `lbctl up` with another volume.name, \
             make a new one; or set {back} back"
        )
    } else {
        format!(
            "`lbctl down --delete-volume` and then `lbctl up` create it again; or set {back} back"
        )
    }
}

/// Plans it. `was`: the disk of before; `None`: it is not there any more.
pub(super) fn anew(
    clone: &CloneVolume,
    was: Option<&VolumeFacts>,
    made: Made,
    observed: &Observed,
    part: &mut DiskPart,
) -> Result<(), Vec<Objection>> {
    let Some(domain) = &observed.domain else {
        return Ok(());
    };
    holds_snapshots(domain, observed)?;
    let Made { image, spec, grows } = made;
    let base = |backing: &str| {
        let name = backing.rsplit('/').next().unwrap_or(backing);
        Value::Text(format!("{}, a clone of {name}", clone.volume))
    };
    let from = match was {
        Some(facts) => facts
            .backing
            .as_deref()
            .map_or_else(|| Value::Volume(clone.volume.clone()), base),
        None => Value::Nothing,
    };
    let to = Value::MadeAnew {
        capacity: spec.capacity,
        base: spec.base.clone(),
    };
    let class = match domain.live {
        Some(_) => Class::Replace,
        None => Class::Live,
    };
    // What the disk of before would have needed is nothing to the new one.
    part.changes.clear();
    part.notes.clear();
    part.steps.clear();
    part.changes
        .push(Change::new(Subject::Disk, from, to, class));
    if was.is_some() {
        part.notes.push(format!(
            "all that is on volume {} would be lost: the guest's logs, its ssh host keys, and what was put there by hand",
            clone.volume
        ));
    }
    if part.target.is_none() {
        part.target = domain.config.root_disk().map(|disk| disk.target.clone());
    }
    part.steps.extend(image);
    part.steps.push(Step::RemakeVolume(Box::new(RemakeStep {
        domain: domain.name.clone(),
        was: was.cloned(),
        spec,
    })));
    part.steps.extend(grows);
    part.anew = true;
    Ok(())
}

/// Somebody wanted those kept.
fn holds_snapshots(domain: &DomainFacts, observed: &Observed) -> Result<(), Vec<Objection>> {
    let names = domain.snapshots.iter().map(|snapshot| &snapshot.name);
    let names: Vec<&str> = names
        .chain(&observed.checkpoints)
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let name = &domain.name;
    Err(vec![Objection::new(
        MessageId::DiskHoldsSnapshots,
        RefusalKind::NeedsConsent,
        ObjectionSubject::RootDisk,
        format!(
            "domain {name} has snapshots, which would be lost with its disk: {}",
            names.join(", ")
        ),
        format!("`virsh snapshot-delete {name} NAME` deletes one that nobody needs"),
    )])
}

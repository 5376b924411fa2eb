//! The root disk's volume: it is deleted only while no domain exists that could use it, or while
//! the domain is off and gets another one in its place.

use super::domain::active;
use crate::config::VolumeRef;
use crate::host::{HostError, HostErrorKind, HostResult, HostWriter, Operation, VolumeFacts};
use crate::reconcile::plan::RemakeStep;

/// The disk of a domain that does not exist any more.
pub(super) fn delete(at: &VolumeRef, domain: &str, host: &impl HostWriter) -> HostResult<()> {
    if host.run_state(domain)?.is_some() {
        let (doing, said) = (
            Operation::DeleteVolume(at.clone()),
            "its domain exists again",
        );
        return Err(HostError::new(HostErrorKind::Exists, doing, said));
    }
    absent_is_fine(host.delete_volume(at))
}

/// The disk of a domain that is off, made anew. It is the disk that was seen, or another run has
/// made it anew since.
pub(super) fn remake(step: &RemakeStep, host: &impl HostWriter) -> HostResult<()> {
    let RemakeStep { domain, was, spec } = step;
    let at = &spec.volume;
    let overtaken = |said: &str| {
        let doing = Operation::DeleteVolume(at.clone());
        Err(HostError::new(HostErrorKind::Exists, doing, said))
    };
    if active(host, domain)?.is_some() {
        return overtaken("its domain runs again");
    }
    match (host.volume(at)?.present(), was) {
        (Some(is), Some(was)) if is_same(is, was) => absent_is_fine(host.delete_volume(at))?,
        (Some(_), _) => return overtaken("it was concurrently made anew"),
        (None, _) => {}
    }
    host.clone_volume(spec)
}

/// What a guest writes changes neither.
fn is_same(is: &VolumeFacts, was: &VolumeFacts) -> bool {
    (&is.backing, &is.format, is.capacity) == (&was.backing, &was.format, was.capacity)
}

pub(super) fn absent_is_fine(result: HostResult<()>) -> HostResult<()> {
    match result {
        Err(error) if error.kind == HostErrorKind::NotFound => Ok(()),
        other => other,
    }
}

//! The root disk's volume: it is deleted only while no domain exists that could use it.

use crate::config::VolumeRef;
use crate::host::{HostError, HostErrorKind, HostResult, HostWriter, Operation};

/// The disk of a domain that does not exist any more.
pub(super) fn delete(at: &VolumeRef, domain: &str, host: &impl HostWriter) -> HostResult<()> {
    if host.domain(domain)?.is_some() {
        let (doing, said) = (
            Operation::DeleteVolume(at.clone()),
            "its domain exists again",
        );
        return Err(HostError::new(HostErrorKind::Exists, doing, said));
    }
    absent_is_fine(host.delete_volume(at))
}

pub(super) fn absent_is_fine(result: HostResult<()>) -> HostResult<()> {
    match result {
        Err(error) if error.kind == HostErrorKind::NotFound => Ok(()),
        other => other,
    }
}

//! From libvirt's codes to lbctl's words: kinds of error, states of a domain, and what to do where
//! no connection is made.

use virt::enumutil::Enum;
use virt::error::{Error, ErrorDomain, ErrorNumber};

use virt::sys;

use super::{DomainState, HostError, HostErrorKind, Operation};

pub(super) fn domain_state(raw: sys::virDomainState) -> DomainState {
    match raw {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => DomainState::Running,
        sys::VIR_DOMAIN_PAUSED => DomainState::Paused,
        sys::VIR_DOMAIN_SHUTDOWN => DomainState::ShuttingDown,
        sys::VIR_DOMAIN_CRASHED => DomainState::Crashed,
        sys::VIR_DOMAIN_PMSUSPENDED => DomainState::Suspended,
        _ => DomainState::ShutOff,
    }
}

pub(super) fn is(error: &Error, number: ErrorNumber) -> bool {
    error.code() == Enum::Known(number)
}

pub(super) fn error(doing: impl Into<Operation>, said: &Error) -> HostError {
    use ErrorNumber as N;
    let from_rpc = said.domain() == Enum::Known(ErrorDomain::Rpc);
    let kind = match said.code() {
        Enum::Known(
            N::NoDomain | N::NoNetwork | N::NoStoragePool | N::NoStorageVolume | N::NoNodeDevice,
        ) => HostErrorKind::NotFound,
        Enum::Known(N::DomExist | N::StorageVolExist | N::NetworkExist) => HostErrorKind::Exists,
        Enum::Known(N::OperationInvalid) => HostErrorKind::State,
        Enum::Known(
            N::AuthFailed
            | N::AuthCancelled
            | N::AuthUnavailable
            | N::AccessDenied
            | N::OperationDenied,
        ) => HostErrorKind::Permission,
        Enum::Known(
            N::AgentUnresponsive
            | N::AgentUnsynced
            | N::AgentCommandTimeout
            | N::AgentCommandFailed,
        ) => HostErrorKind::Agent,
        Enum::Known(N::NoConnect | N::Rpc | N::InvalidConn | N::GnutlsError) => {
            HostErrorKind::Connection
        }
        Enum::Known(N::InternalError | N::SystemError) if from_rpc => HostErrorKind::Connection,
        _ => HostErrorKind::Other,
    };
    HostError::new(kind, doing, said.message())
}

pub(super) fn connect_error(doing: impl Into<Operation>, uri: &str, said: &Error) -> HostError {
    let mut error = error(doing, said);
    let text = said.message().to_ascii_lowercase();
    // The code alone does not distinguish "no daemon" from "not allowed": both are a system error
    // of the socket. The words are used for the hint only, never for a decision.
    let driver = uri.split([':', '+']).next().unwrap_or_default();
    let hint = if is(said, ErrorNumber::NoConnect) || !matches!(driver, "qemu" | "test") {
        "check the URI: qemu:///system for this host, qemu+ssh://user@host/system for another (--connect, libvirt.uri)".into()
    } else if text.contains("permission denied") || error.kind == HostErrorKind::Permission {
        error.kind = HostErrorKind::Permission;
        "run lbctl as a user of the group libvirt, or as root: `sudo usermod -aG libvirt $USER`, then log in again".into()
    } else if uri.contains("ssh") {
        format!(
            "try `virsh -c '{uri}' uri`: lbctl connects to remote hosts in the same way, with your own ssh settings"
        )
    } else {
        format!(
            "is libvirt running there? `systemctl status libvirtd` (or virtqemud); `virsh -c '{uri}' uri` must work"
        )
    };
    error.kind = if error.kind == HostErrorKind::Permission {
        error.kind
    } else {
        HostErrorKind::Connection
    };
    error.with_hint(hint)
}

//! From libvirt's codes to lbctl's words: kinds of error, states of a domain, and what to do where
//! no connection is made.

use virt::enumutil::Enum;
use virt::error::{Error, ErrorDomain, ErrorNumber};

use virt::sys;

use super::far;
use super::{DomainState, HostError, HostErrorKind, Operation, StateReason};

/// `active`: it has a process. A domain that crashed has one only where its definition preserves it
/// (`<on_crash>preserve</on_crash>`).
pub(super) fn domain_state(raw: sys::virDomainState, active: bool) -> DomainState {
    match raw {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => DomainState::Running,
        sys::VIR_DOMAIN_PAUSED => DomainState::Paused,
        sys::VIR_DOMAIN_SHUTDOWN => DomainState::ShuttingDown,
        sys::VIR_DOMAIN_CRASHED if active => DomainState::Crashed,
        sys::VIR_DOMAIN_PMSUSPENDED => DomainState::Suspended,
        _ => DomainState::ShutOff,
    }
}

/// The reasons that say more than the state (virDomainPausedReason and its like).
pub(super) fn state_reason(state: sys::virDomainState, raw: u32) -> Option<StateReason> {
    Some(match (state, raw) {
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_IOERROR) => StateReason::IoError,
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_WATCHDOG) => StateReason::Watchdog,
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_CRASHED)
        | (sys::VIR_DOMAIN_CRASHED, sys::VIR_DOMAIN_CRASHED_PANICKED) => StateReason::Panicked,
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_STARTING_UP) => StateReason::StartingUp,
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_SAVE) => StateReason::Saving,
        (
            sys::VIR_DOMAIN_PAUSED,
            sys::VIR_DOMAIN_PAUSED_MIGRATION
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
        ) => StateReason::Migrating,
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_DUMP) => StateReason::Dumping,
        (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_SNAPSHOT) => StateReason::Snapshotting,
        (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_CRASHED) => StateReason::Crashed,
        (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_FAILED) => StateReason::StartFailed,
        (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_SAVED) => StateReason::Saved,
        (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_MIGRATED) => StateReason::Migrated,
        _ => return None,
    })
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
    let error = HostError::new(kind, doing, said.message());
    match daemon_behind(said.message()) {
        Some(daemon) if kind == HostErrorKind::Connection => error.with_hint(format!(
            "libvirt is several daemons there, and {daemon} does not run: on that host, `systemctl status \
             {daemon}.socket {daemon}`; the guest is not affected. Once it runs, run the same command again"
        )),
        _ => error,
    }
}

/// Of libvirt's modular daemons, the one that another of them did not reach, by the path of its
/// socket. The words choose a hint and decide nothing.
fn daemon_behind(said: &str) -> Option<&str> {
    let (_, socket) = said.split_once("Failed to connect socket to '")?;
    let (_, socket) = socket.split_once('\'')?.0.rsplit_once('/')?;
    let daemon = socket.strip_suffix("-sock")?;
    (daemon.starts_with("virt") && daemon.ends_with('d')).then_some(daemon)
}

pub(super) fn connect_error(doing: impl Into<Operation>, uri: &str, said: &Error) -> HostError {
    let mut error = error(doing, said);
    let text = said.message().to_ascii_lowercase();
    // The code alone does not distinguish "no daemon" from "not allowed": both are a system error
    // of the socket. The words are used for the hint only, never for a decision.
    let driver = uri.split([':', '+']).next().unwrap_or_default();
    let hint = if is(said, ErrorNumber::NoConnect) || !matches!(driver, "qemu" | "test") {
        "check the URI: qemu:///system for this host, qemu+ssh://user@host/system for another (--connect, libvirt.uri)".into()
    } else if let Some(hint) = far::hint(uri, &text) {
        hint
    } else if text.contains("permission denied") || error.kind == HostErrorKind::Permission {
        error.kind = HostErrorKind::Permission;
        "run lbctl as a user of the group libvirt, or as root: `sudo usermod -aG libvirt $USER`, then log in again".into()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What libvirt 11.3 said of its modular daemons, and 9.0 of the one that it was.
    #[test]
    fn a_daemon_is_known_by_its_socket() {
        for (said, daemon) in [
            (
                "Failed to connect socket to '/run/libvirt/virtnetworkd-sock': Connection refused",
                Some("virtnetworkd"),
            ),
            (
                "Failed to connect socket to '/run/user/1000/libvirt/virtstoraged-sock': No such file or directory",
                Some("virtstoraged"),
            ),
            (
                "Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory",
                None,
            ),
            ("Cannot recv data: Connection reset by peer", None),
        ] {
            assert_eq!(daemon_behind(said), daemon, "{said}");
        }
    }
}

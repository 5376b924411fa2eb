//! Stopping a guest, and starting it again: the run that was planned for and no other.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::domain::{active, fall_back, resume, start, wake};
use crate::host::{
    DomainState, HostError, HostErrorKind, HostResult, HostWriter, Operation, RunState, StopBy,
};
use crate::reconcile::apply::Progress;
use crate::secret::Secret;

/// Between two questions about a guest that is stopping.
const POLL: Duration = Duration::from_millis(200);
/// A guest that is still booting ignores the power button, so it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// Stops this run of the domain, and starts the domain again with the definition that it has by
/// now.
pub(super) fn restart(
    domain: &str,
    run: Option<u32>,
    deadline: Duration,
    fallback: &Secret,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    ensure_run(domain, run, Operation::Restart(domain.to_owned()), host)?;
    stop(domain, deadline, host, progress)?;
    start(domain, host).or_else(|error| fall_back(domain, fallback, error, host))
}

/// Stops this run of the domain; `None`: whichever it is.
pub(super) fn stop_run(
    domain: &str,
    run: Option<u32>,
    deadline: Duration,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    if run.is_some() {
        ensure_run(domain, run, Operation::PowerOff(domain.to_owned()), host)?;
    }
    stop(domain, deadline, host, progress)
}

fn ensure_run(
    domain: &str,
    run: Option<u32>,
    doing: Operation,
    host: &impl HostWriter,
) -> HostResult<()> {
    if active(host, domain)?.is_none_or(|now| now.run == run) {
        return Ok(());
    }
    let said = "it was concurrently started again";
    Err(HostError::new(HostErrorKind::Exists, doing, said))
}

/// Asks for a shutdown until the guest has stopped; at the deadline its power is cut.
fn stop(
    domain: &str,
    deadline: Duration,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let end = Instant::now() + deadline;
    let mut pressed: Option<Instant> = None;
    let mut this_run = None;
    loop {
        let Some(RunState { state, run }) = active(host, domain)? else {
            return Ok(());
        };
        // Stopped, and started again by another: that run is not the one that was to end.
        if *this_run.get_or_insert(run) != run {
            return Ok(());
        }
        if state == DomainState::Crashed {
            return gone_is_fine(host.power_off(domain), host, domain);
        }
        if Instant::now() >= end {
            progress.note(&format!(
                "{domain} did not stop within {} s: its power is cut",
                deadline.as_secs()
            ));
            let off = gone_is_fine(host.power_off(domain), host, domain);
            return match active(host, domain)? {
                Some(now) if now.run == run => off,
                _ => Ok(()),
            };
        }
        if pressed.is_none_or(|at| at.elapsed() >= PRESS_AGAIN) {
            press(domain, state, pressed.is_some(), host, progress)?;
            pressed = Some(Instant::now());
        }
        sleep(POLL);
    }
}

/// The power button, and where that had no effect the agent, too. A paused or suspended guest
/// reacts to neither, so it is resumed or woken first. One that cannot (its pool is full) waits for
/// the deadline.
fn press(
    domain: &str,
    state: DomainState,
    again: bool,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let resumed = match state {
        DomainState::Paused => resume(domain, host),
        DomainState::Suspended => wake(domain, host),
        DomainState::Running
        | DomainState::ShuttingDown
        | DomainState::ShutOff
        | DomainState::Crashed => Ok(()),
    };
    let request = || {
        host.request_shutdown(domain, StopBy::PowerButton)?;
        if again {
            host.request_shutdown(domain, StopBy::Agent)?;
        }
        Ok(())
    };
    match gone_is_fine(resumed.and_then(|()| request()), host, domain) {
        Err(error) if matches!(error.kind, HostErrorKind::State | HostErrorKind::Other) => {
            progress.note(&format!("{error}; lbctl waits until the deadline"));
            Ok(())
        }
        other => other,
    }
}

/// The guest may have stopped between the check and the call.
fn gone_is_fine(result: HostResult<()>, host: &impl HostWriter, domain: &str) -> HostResult<()> {
    match result {
        Err(error) if error.kind != HostErrorKind::Connection => match active(host, domain)? {
            Some(_) => Err(error),
            None => Ok(()),
        },
        other => other,
    }
}

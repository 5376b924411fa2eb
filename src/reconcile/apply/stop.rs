//! Stopping a guest, and starting it again: the run that was planned for and no other.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::domain::{active, fall_back, resume, start};
use crate::host::{
    DomainState, HostError, HostErrorKind, HostResult, HostWriter, Operation, StopBy,
};
use crate::reconcile::apply::Progress;

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
    fallback: &str,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    if active(host, domain)?.is_some_and(|(_, now)| now != run) {
        let doing = Operation::Restart(domain.to_owned());
        let said = "it was concurrently started again";
        return Err(HostError::new(HostErrorKind::Exists, doing, said));
    }
    stop(domain, deadline, host, progress)?;
    start(domain, host).or_else(|error| fall_back(domain, fallback, error, host))
}

/// Asks for a shutdown until the guest has stopped; at the deadline its power is cut.
pub(super) fn stop(
    domain: &str,
    deadline: Duration,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let end = Instant::now() + deadline;
    let mut pressed: Option<Instant> = None;
    let mut this_run = None;
    loop {
        let Some((state, run)) = active(host, domain)? else {
            return Ok(());
        };
        // Stopped, and started again by another: that run is not the one that was to end.
        if *this_run.get_or_insert(run) != run {
            return Ok(());
        }
        if Instant::now() >= end {
            progress.note(&format!(
                "{domain} did not stop within {} s: its power is cut",
                deadline.as_secs()
            ));
            let off = gone_is_fine(host.power_off(domain), host, domain);
            return match active(host, domain)? {
                Some((_, now)) if now == run => off,
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

/// The power button, and where that had no effect the agent, too. A paused guest reacts to neither,
/// so it is resumed first. One that cannot (its pool is full) waits for the deadline.
fn press(
    domain: &str,
    state: DomainState,
    again: bool,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let resumed = if state == DomainState::Paused {
        resume(domain, host)
    } else {
        Ok(())
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
        Err(error) if error.kind != HostErrorKind::Connection => match host.domain(domain)? {
            Some(facts) if facts.state.is_active() => Err(error),
            _ => Ok(()),
        },
        other => other,
    }
}

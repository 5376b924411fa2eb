//! Giving the shared address to another VM before the guest is stopped. Whether another one takes
//! it is found out by the guest itself, which is right with two files and two operators at once.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::guest::{Guest, GuestError, SteppedBack};
use crate::host::{AgentChannel, HostError, HostErrorKind, HostResult, Operation};
use crate::reconcile::apply::Progress;
use crate::reconcile::plan::Step;

/// For one answer of the guest. A slow one takes seconds to start a program, and the guest waits
/// for another VM before it answers.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two questions whether sessions are left.
const POLL: Duration = Duration::from_secs(2);

const ALONE: &str = "`lbctl status` of each VM says how it is; with `--alone` lbctl goes on all the same, and every \
                     session through the VM is cut";

/// Has it given away, and waits for the sessions that came by it: `drain` at most.
pub(super) fn step_back(
    domain: &str,
    drain: Duration,
    host: &impl AgentChannel,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let guest = Guest::new(host, domain);
    let status = match guest.status(ANSWER) {
        Ok(status) => status,
        // Its first boot has not come so far.
        Err(GuestError::NotInstalled) => return Ok(()),
        Err(error) => return Err(failed(domain, error)),
    };
    let Some(shared) = status.virtual_ip else {
        // The guest that runs was not told to share one yet.
        return Ok(());
    };
    leave(domain, &guest)?;
    let mut wait = Wait {
        domain,
        drain,
        end: Instant::now() + drain,
        known: shared.sessions,
        said: None,
    };
    while wait.for_sessions(&guest, progress)? {
        // What was asked ends by itself after ten minutes, and the other VM may have gone since.
        leave(domain, &guest)?;
    }
    Ok(())
}

/// A VM that gave the address away for a stop that did not come is one of the others again: it
/// would be asked for nothing for ten minutes, whatever becomes of them. `done`: the steps before.
pub(super) fn take_back(done: &[Step], host: &impl AgentChannel) {
    let last = done.iter().rev().find_map(|step| match step {
        Step::StepBack { domain, .. } => Some(Some(domain)),
        Step::Restart { .. } | Step::Stop { .. } => Some(None),
        _ => None,
    });
    if let Some(Some(domain)) = last {
        // One that was stopped after all has nothing to take back.
        let _ = Guest::new(host, domain).step_up(ANSWER);
    }
}

fn leave(domain: &str, guest: &Guest<'_>) -> HostResult<()> {
    match guest.step_back(ANSWER) {
        Ok(SteppedBack::Taken(_)) => Ok(()),
        Ok(SteppedBack::Refused(why)) => {
            let doing = Operation::StepBack(domain.to_owned());
            Err(HostError::new(HostErrorKind::Other, doing, why).with_hint(ALONE))
        }
        Err(error) => Err(failed(domain, error)),
    }
}

fn failed(domain: &str, error: GuestError) -> HostError {
    match error {
        GuestError::Host(error) => error,
        other => {
            let doing = Operation::StepBack(domain.to_owned());
            HostError::new(HostErrorKind::Agent, doing, other.to_string()).with_hint(ALONE)
        }
    }
}

/// For the sessions that came by the address.
struct Wait<'a> {
    domain: &'a str,
    drain: Duration,
    end: Instant,
    /// How many there are, where the guest says that.
    known: Option<u64>,
    said: Option<u64>,
}

impl Wait<'_> {
    /// Whether the other VM must be looked at again: some time has passed, or the address is back.
    /// A guest that does not answer in the meantime is asked again.
    fn for_sessions(&mut self, guest: &Guest<'_>, progress: &mut dyn Progress) -> HostResult<bool> {
        let domain = self.domain;
        let mut waited = false;
        loop {
            let shared = guest.status(ANSWER).ok().and_then(|s| s.virtual_ip);
            if let Some(shared) = shared {
                if shared.held {
                    return Ok(true);
                }
                // Where it does not say so, those that were there still are, for all that is known.
                self.known = shared.sessions.or(self.known);
            }
            let Some(left) = self.known.filter(|left| *left > 0) else {
                return Ok(waited);
            };
            let remaining = self.end.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                if !waited && !self.drain.is_zero() {
                    progress.note(&format!(
                        "{domain}: sessions that have not ended within {} s, and are cut: {left}",
                        self.drain.as_secs()
                    ));
                }
                return Ok(waited);
            }
            if progress.stop().is_some() {
                // Equal again, it does not get the address back by that.
                let _ = guest.step_up(ANSWER);
                let doing = Operation::StepBack(domain.to_owned());
                let words = "a signal came while sessions were still in the VM";
                return Err(HostError::new(HostErrorKind::Other, doing, words));
            }
            if self.said != Some(left) {
                self.said = Some(left);
                progress.note(&format!("{domain}: sessions still in it: {left}"));
            }
            sleep(POLL.min(remaining));
            waited = true;
        }
    }
}

//! Waiting until the load balancer really works: the agent answers, cloud-init is done without
//! error, HAProxy has exactly one server up. Ends at once where that cannot happen any more:
//! cloud-init has failed, the guest has stopped. If libvirt stops answering, it is waited for, too.

use std::fmt;
use std::time::{Duration, Instant};

use crate::guest::{BootProgress, CloudInit, Guest, GuestError, GuestStatus, Watch};
use crate::host::{AgentChannel, DomainState, HostErrorKind, HostReader, HostResult, Reconnect};
use crate::text::sanitize::sanitize_line;

/// Between two questions to the guest, the least and the most, and in between a thirtieth of the
/// time that it has taken so far: each costs it some of the time that it needs itself (an emulated
/// one 25 ms, and its agent logs three lines).
const POLL: Duration = Duration::from_millis(400);
const SLOWEST_POLL: Duration = Duration::from_secs(3);
const PART: u32 = 30;
/// Between two questions to one that watches by itself, at most. Readiness is reported that much
/// late, and the guest's own fifth of a second; where cloud-init's last stage came and went between
/// two of the questions before, also these, and a start of the program that watches.
const WATCHED: Duration = Duration::from_secs(1);
/// Between two questions about what is only shown or only checked, at least: cloud-init's stage
/// while the guest watches itself, and whether the domain still exists.
const ASIDE: Duration = Duration::from_secs(1);
/// One answer of the guest.
const ANSWER: Duration = Duration::from_secs(20);
/// For what the guest is asked once the time is over.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// How long the guest watches by itself, and so how long it continues after lbctl has ended.
const WATCH: Duration = Duration::from_secs(120);
/// cloud-init's last stage, in which the load balancer's own program starts everything.
const LAST_STAGE: &str = "modules-final";

/// How far the guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// No agent yet: firmware, kernel, early services.
    Booting,
    /// cloud-init is running, in the stage named.
    CloudInit(String),
    /// cloud-init is done; HAProxy has this many servers up.
    Checks(u32),
    Ready,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booting => f.write_str("the guest is booting"),
            Self::CloudInit(stage) if stage.is_empty() => f.write_str("cloud-init is running"),
            Self::CloudInit(stage) => write!(f, "cloud-init is running ({stage})"),
            Self::Checks(0) => f.write_str("HAProxy has no primary yet"),
            Self::Checks(count) => write!(
                f,
                "HAProxy sees {count} primaries, and waits until there is exactly one"
            ),
            Self::Ready => f.write_str("ready"),
        }
    }
}

/// What is reported while waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<'a> {
    Phase(&'a Phase),
    /// libvirt does not answer, with its words; lbctl tries again.
    Away(&'a str),
    /// libvirt answers again.
    Back,
}

/// How waiting ended.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Ready(Box<GuestStatus>),
    /// The time is over. What was seen last.
    TimeOut {
        phase: Phase,
        seen: Option<Box<GuestStatus>>,
        silent: Option<String>,
    },
    CloudInitFailed(CloudInit),
    /// The domain stopped while it was waited for.
    Died(DomainState),
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the load balancer to be ready.
    pub ready: Duration,
    /// For libvirt to answer again, each time it stops answering.
    pub away: Duration,
}

/// Waits for readiness. `report` is called for each new phase, and when libvirt stops answering and
/// answers again.
pub fn wait<H: HostReader + AgentChannel + Reconnect>(
    host: &mut H,
    domain: &str,
    patience: Patience,
    mut report: impl FnMut(&News<'_>, Duration),
) -> HostResult<Outcome> {
    let mut waiting = Waiting::new(patience.ready);
    let mut reported = None;
    loop {
        let ended = match waiting.step(host, domain) {
            Err(error) if error.kind == HostErrorKind::Connection => {
                report(&News::Away(&error.to_string()), waiting.started.elapsed());
                let end = waiting.end.min(Instant::now() + patience.away);
                match reconnect(host, end) {
                    Ok(()) => report(&News::Back, waiting.started.elapsed()),
                    Err(_) if Instant::now() >= waiting.end => {
                        waiting.silent = Some(error.to_string());
                    }
                    Err(last) => return Err(last),
                }
                None
            }
            other => other?,
        };
        if reported.as_ref() != Some(&waiting.phase) {
            report(&News::Phase(&waiting.phase), waiting.started.elapsed());
            reported = Some(waiting.phase.clone());
        }
        if let Some(outcome) = ended {
            return Ok(outcome);
        }
        if Instant::now() >= waiting.end {
            return Ok(waiting.over(host, domain));
        }
        std::thread::sleep(waiting.pause().min(waiting.rest()));
    }
}

/// Until it works, or the time is over: then what it said last.
fn reconnect(host: &mut impl Reconnect, end: Instant) -> HostResult<()> {
    loop {
        match host.reconnect() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => {
                let rest = end.saturating_duration_since(Instant::now());
                std::thread::sleep(POLL.min(rest));
            }
        }
    }
}

/// What is known so far.
struct Waiting {
    started: Instant,
    end: Instant,
    phase: Phase,
    /// cloud-init has ended, according to its file.
    decided: bool,
    watch: Option<Watch>,
    /// When cloud-init's file was read last, and the domain's state.
    read: Option<Instant>,
    checked: Option<Instant>,
    /// Why the guest has no answer.
    silent: Option<String>,
}

impl Waiting {
    fn new(ready: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            end: started + ready,
            phase: Phase::Booting,
            decided: false,
            watch: None,
            read: None,
            checked: None,
            silent: None,
        }
    }

    fn rest(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Until the next question.
    fn pause(&self) -> Duration {
        let most = if self.watch.is_some() || self.decided {
            WATCHED
        } else {
            SLOWEST_POLL
        };
        pace(self.started.elapsed()).min(most)
    }

    /// Asks for everything once. An error: libvirt's.
    fn step(
        &mut self,
        host: &(impl HostReader + AgentChannel),
        domain: &str,
    ) -> HostResult<Option<Outcome>> {
        match self.fetch(&Guest::new(host, domain)) {
            Ok(Some(status)) if status.cloud_init.status == "error" => {
                return Ok(Some(Outcome::CloudInitFailed(status.cloud_init)));
            }
            Ok(Some(status)) if status.ready => {
                self.phase = Phase::Ready;
                return Ok(Some(Outcome::Ready(Box::new(status))));
            }
            Ok(Some(status)) if self.decided => {
                self.phase = Phase::Checks(status.haproxy.servers_up);
                self.silent = None;
            }
            Ok(_) => self.silent = None,
            Err(GuestError::Host(error)) if error.kind != HostErrorKind::NotFound => {
                return Err(error);
            }
            // A guest that reboots forgets the process, and cloud-init is running again.
            Err(error) => {
                (self.watch, self.decided) = (None, false);
                self.silent = match error {
                    GuestError::NotInstalled => None,
                    GuestError::Unresponsive(said) | GuestError::Malformed(said) => Some(said),
                    // The domain may not exist any more, which is checked below.
                    GuestError::Host(error) => Some(error.said),
                };
            }
        }
        if self.silent.is_none() && !due(&mut self.checked, self.started.elapsed()) {
            return Ok(None);
        }
        Ok(stopped(host, domain)?.map(Outcome::Died))
    }

    /// While cloud-init works, its file is read and no process is started: a booting guest has no
    /// time to spare. From its last stage on the guest watches by itself, and this asks whether it
    /// has found something.
    fn fetch(&mut self, guest: &Guest<'_>) -> Result<Option<GuestStatus>, GuestError> {
        let deadline = ANSWER.min(self.rest().max(Duration::from_secs(1)));
        if !self.decided && (self.watch.is_none() || due(&mut self.read, self.started.elapsed())) {
            match guest.boot_progress(deadline)? {
                BootProgress::NotStarted => self.phase = Phase::CloudInit(String::new()),
                BootProgress::Running(stage) => self.phase = Phase::CloudInit(stage),
                BootProgress::Decided => {
                    self.decided = true;
                    self.phase = Phase::Checks(0);
                }
            }
        }
        let Some(watch) = &self.watch else {
            let last = Phase::CloudInit(LAST_STAGE.into());
            if self.decided || self.phase == last {
                let patience = WATCH.min(self.rest());
                self.watch = Some(guest.watch(self.known(), patience, deadline)?);
            }
            return Ok(None);
        };
        let found = guest.watched(watch, deadline)?;
        if let Some(status) = &found {
            self.watch = None;
            self.decided = matches!(status.cloud_init.status.as_str(), "done" | "disabled");
        }
        Ok(found)
    }

    /// The number of primaries that has been reported.
    fn known(&self) -> u32 {
        match self.phase {
            Phase::Checks(count) => count,
            _ => 0,
        }
    }

    /// The time is over: how far it is.
    fn over(self, host: &(impl HostReader + AgentChannel), domain: &str) -> Outcome {
        let asked = self.silent.is_none() && self.decided;
        let seen = asked.then(|| Guest::new(host, domain).status(LAST_ANSWER));
        let (seen, silent) = match seen {
            None => (None, self.silent),
            Some(Ok(status)) => (Some(Box::new(status)), None),
            Some(Err(error)) => (None, Some(sanitize_line(&error.to_string(), 400))),
        };
        Outcome::TimeOut {
            phase: self.phase,
            seen,
            silent,
        }
    }
}

/// Between two questions to a guest that has taken so long.
fn pace(taken: Duration) -> Duration {
    (taken / PART).clamp(POLL, SLOWEST_POLL)
}

/// Whether it is time again; if so, from now on it is not.
fn due(last: &mut Option<Instant>, taken: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= ASIDE.max(pace(taken)));
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// The state of a domain that runs no more.
fn stopped(host: &impl HostReader, domain: &str) -> HostResult<Option<DomainState>> {
    let state = host.run_state(domain)?.map(|now| now.state);
    let state = state.unwrap_or(DomainState::ShutOff);
    Ok(match state {
        DomainState::ShutOff | DomainState::Crashed => Some(state),
        DomainState::Running
        | DomainState::Paused
        | DomainState::ShuttingDown
        | DomainState::Suspended => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_is_slow_is_asked_more_rarely() {
        let asked = |taken| pace(Duration::from_secs(taken)).as_millis();
        let paces = [0, 12, 30, 60, 90, 3600].map(asked);
        assert_eq!(paces, [400, 400, 1000, 2000, 3000, 3000]);
    }
}

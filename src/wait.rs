//! Waiting until the load balancer really works: the agent answers, cloud-init is done without error, HAProxy has exactly
//! one server up. Ends at once where that cannot happen any more: cloud-init has failed, the guest has died.

use std::fmt;
use std::time::{Duration, Instant};

use crate::guest::{CloudInit, Guest, GuestError, GuestStatus};
use crate::host::{AgentDoor, DomainState, HostError, HostErrorKind, Observe};

/// Between looks at the guest.
const POLL: Duration = Duration::from_millis(400);
/// One answer of the guest.
const ANSWER: Duration = Duration::from_secs(20);
/// How long libvirt may be away (its own restart) before waiting ends.
const AWAY: Duration = Duration::from_secs(5);

/// Where the guest is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// No agent yet: firmware, kernel, early services.
    Booting,
    /// cloud-init is at work, in the stage named.
    CloudInit(String),
    /// cloud-init is done; HAProxy has this many servers up.
    Checks(u32),
    Ready,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booting => f.write_str("the guest boots"),
            Self::CloudInit(stage) if stage.is_empty() => f.write_str("cloud-init starts"),
            Self::CloudInit(stage) => write!(f, "cloud-init runs ({stage})"),
            Self::Checks(0) => f.write_str("HAProxy looks for the primary"),
            Self::Checks(count) => write!(f, "HAProxy has {count} primaries, and waits until there is one"),
            Self::Ready => f.write_str("ready"),
        }
    }
}

/// How waiting ended.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Ready(Box<GuestStatus>),
    /// The time is over. What was seen last.
    TimeOut { phase: Phase, seen: Option<Box<GuestStatus>>, silent: Option<String> },
    CloudInitFailed(CloudInit),
    /// The domain stopped while it was waited for.
    Died(DomainState),
}

/// Waits for readiness, at most until the deadline. `tell` hears of each new phase.
pub fn wait<H: Observe + AgentDoor>(
    host: &H,
    domain: &str,
    deadline: Duration,
    mut tell: impl FnMut(&Phase, Duration),
) -> Result<Outcome, HostError> {
    let started = Instant::now();
    let guest = Guest::new(host, domain);
    let mut phase = Phase::Booting;
    let mut seen: Option<Box<GuestStatus>> = None;
    let mut silent;
    tell(&phase, started.elapsed());
    loop {
        let rest = deadline.saturating_sub(started.elapsed());
        match guest.status(ANSWER.min(rest.max(Duration::from_secs(1)))) {
            Ok(status) => {
                let now = phase_of(&status);
                if now != phase {
                    tell(&now, started.elapsed());
                    phase = now;
                }
                if phase == Phase::Ready {
                    return Ok(Outcome::Ready(Box::new(status)));
                }
                if status.cloud_init.status == "error" {
                    return Ok(Outcome::CloudInitFailed(status.cloud_init));
                }
                silent = None;
                seen = Some(Box::new(status));
            }
            Err(GuestError::Host(error)) if error.kind != HostErrorKind::NotFound => return Err(error),
            Err(GuestError::Host(error)) => silent = Some(error.said),
            Err(GuestError::NoProgram) => {
                let now = Phase::CloudInit(String::new());
                if phase == Phase::Booting {
                    tell(&now, started.elapsed());
                    phase = now;
                }
                silent = None;
            }
            Err(GuestError::Silent(said) | GuestError::Nonsense(said)) => silent = Some(said),
        }
        if let Some(state) = stopped(host, domain)? {
            return Ok(Outcome::Died(state));
        }
        if started.elapsed() >= deadline {
            return Ok(Outcome::TimeOut { phase, seen, silent });
        }
        std::thread::sleep(POLL.min(deadline.saturating_sub(started.elapsed())));
    }
}

fn phase_of(status: &GuestStatus) -> Phase {
    match status.cloud_init.status.as_str() {
        "done" | "disabled" if status.ready => Phase::Ready,
        "done" | "disabled" => Phase::Checks(status.haproxy.servers_up),
        _ => Phase::CloudInit(crate::guest::clean(status.cloud_init.stage.as_deref().unwrap_or_default(), 40)),
    }
}

/// The state of a domain that runs no more.
fn stopped(host: &impl Observe, domain: &str) -> Result<Option<DomainState>, HostError> {
    let end = Instant::now() + AWAY;
    loop {
        match host.domain(domain) {
            Ok(Some(facts)) if facts.state.is_active() => return Ok(None),
            Ok(Some(facts)) => return Ok(Some(facts.state)),
            Ok(None) => return Ok(Some(DomainState::ShutOff)),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

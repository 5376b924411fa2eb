//! Waiting until the load balancer really works: the agent answers, cloud-init is done without error, HAProxy has exactly
//! one server up. Ends at once where that cannot happen any more: cloud-init has failed, the guest has died.

use std::fmt;
use std::time::{Duration, Instant};

use crate::guest::{BootProgress, CloudInit, Guest, GuestError, GuestStatus};
use crate::host::{AgentDoor, DomainState, HostError, HostErrorKind, Observe};

/// Between looks at the guest.
const POLL: Duration = Duration::from_millis(400);
/// Between looks at one that takes this long already: each look costs it some of the time it needs itself.
const SLOW: Duration = Duration::from_secs(30);
const SLOW_POLL: Duration = Duration::from_secs(1);
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
            Self::CloudInit(stage) if stage.is_empty() => f.write_str("cloud-init is at work"),
            Self::CloudInit(stage) => write!(f, "cloud-init runs ({stage})"),
            Self::Checks(0) => f.write_str("HAProxy looks for the primary"),
            Self::Checks(count) => write!(
                f,
                "HAProxy has {count} primaries, and waits until there is one"
            ),
            Self::Ready => f.write_str("ready"),
        }
    }
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

/// Waits for readiness, at most until the deadline. `tell` hears of each new phase.
pub fn wait<H: Observe + AgentDoor>(
    host: &H,
    domain: &str,
    deadline: Duration,
    mut tell: impl FnMut(&Phase, Duration),
) -> Result<Outcome, HostError> {
    let started = Instant::now();
    let mut phase = Phase::Booting;
    let mut seen = None;
    let mut decided = false;
    tell(&phase, started.elapsed());
    loop {
        let rest = deadline
            .saturating_sub(started.elapsed())
            .max(Duration::from_secs(1));
        let (now, silent) = match look(&Guest::new(host, domain), &mut decided, ANSWER.min(rest)) {
            Ok(Look::At(now)) => (now, None),
            Ok(Look::Answer(status)) if status.cloud_init.status == "error" => {
                return Ok(Outcome::CloudInitFailed(status.cloud_init));
            }
            Ok(Look::Answer(status)) if status.ready => {
                tell(&Phase::Ready, started.elapsed());
                return Ok(Outcome::Ready(status));
            }
            Ok(Look::Answer(status)) => {
                let now = Phase::Checks(status.haproxy.servers_up);
                seen = Some(status);
                (now, None)
            }
            Err(GuestError::Absent) => (phase.clone(), None),
            Err(GuestError::Silent(said) | GuestError::Nonsense(said)) => {
                (phase.clone(), Some(said))
            }
            // The domain may be gone, which is looked at below.
            Err(GuestError::Host(error)) if error.kind == HostErrorKind::NotFound => {
                (phase.clone(), Some(error.said))
            }
            Err(GuestError::Host(error)) => return Err(error),
        };
        if now != phase {
            tell(&now, started.elapsed());
            phase = now;
        }
        if let Some(state) = stopped(host, domain)? {
            return Ok(Outcome::Died(state));
        }
        if started.elapsed() >= deadline {
            return Ok(Outcome::TimeOut {
                phase,
                seen,
                silent,
            });
        }
        let pause = if started.elapsed() < SLOW {
            POLL
        } else {
            SLOW_POLL
        };
        std::thread::sleep(pause.min(deadline.saturating_sub(started.elapsed())));
    }
}

enum Look {
    At(Phase),
    Answer(Box<GuestStatus>),
}

/// While cloud-init works, its file is read and no process is started: a booting guest has no time to spare. Then the
/// guest's whole status is asked for.
fn look(guest: &Guest<'_>, decided: &mut bool, deadline: Duration) -> Result<Look, GuestError> {
    if !*decided {
        match guest.boot_progress(deadline)? {
            BootProgress::NotStarted => return Ok(Look::At(Phase::CloudInit(String::new()))),
            BootProgress::Running(stage) => return Ok(Look::At(Phase::CloudInit(stage))),
            BootProgress::Decided => *decided = true,
        }
    }
    let status = guest.status(deadline)?;
    // After a reboot in between, cloud-init is at work again.
    *decided = matches!(
        status.cloud_init.status.as_str(),
        "done" | "disabled" | "error"
    );
    if *decided {
        Ok(Look::Answer(Box::new(status)))
    } else {
        Ok(Look::At(Phase::CloudInit(String::new())))
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

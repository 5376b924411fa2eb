//! Carries out the steps of a plan, in its order; the first failure ends it. Each step checks again
//! what it was planned on, because another lbctl may have changed it since, and removes what it
//! made if it cannot be completed. It refuses; it never chooses another way: that is decided in
//! `plan`, and `converge` plans again.
//!
//! Here is the one `match` over the steps, and what concerns the whole run. The checks are with
//! what they check: `domain`, `seed`, `disk`, `step_back`, `stop`.

mod disk;
mod domain;
mod image;
mod seed;
mod step_back;
mod stop;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exit::Exit;
use crate::guest::{ConvergeError, Extent, Guest};
use crate::host::ownership::{Ownership, changing_to};
use crate::host::{AgentChannel, HostError, HostErrorKind, HostResult, HostWriter, Operation};
use crate::reconcile::plan::{ConvergeStep, OwnershipKind, Step};

/// For a change of the running guest. Most take seconds; installing a package in a slow one,
/// minutes.
const CONVERGE: Duration = Duration::from_secs(900);

/// Is called for each step; only `output` shows them.
pub trait Progress {
    fn begin(&mut self, step: &Step);
    fn end(&mut self, step: &Step, took: Duration);
    fn note(&mut self, text: &str);
    /// How far a long step is, in bytes.
    fn part(&mut self, _step: &str, _done: u64, _whole: Option<u64>) {}
    /// Called before each step: how lbctl is to end instead of doing it.
    fn stop(&self) -> Option<Exit> {
        None
    }
}

/// Why not all steps were done.
#[derive(Debug)]
pub enum ApplyError {
    /// A step failed, with so many done before it.
    Failed {
        step: Box<Step>,
        done: usize,
        /// The next one, which was done at the same time.
        beside: Option<Box<Step>>,
        error: HostError,
    },
    /// A signal came, before this step.
    Stopped { next: Box<Step>, exit: Exit },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { step, error, .. } => write!(f, "cannot {step}: {error}"),
            Self::Stopped { next, .. } => write!(f, "stopped before this step: {next}"),
        }
    }
}

impl std::error::Error for ApplyError {}

impl ApplyError {
    /// How many of its steps were done.
    #[must_use]
    pub fn done(&self) -> usize {
        match self {
            Self::Failed { done, .. } => *done,
            Self::Stopped { .. } => 0,
        }
    }

    /// The step after the one that failed, if it was done at the same time.
    #[must_use]
    pub fn beside(&self) -> Option<&Step> {
        match self {
            Self::Failed { beside, .. } => beside.as_deref(),
            Self::Stopped { .. } => None,
        }
    }

    /// The same, so many steps later.
    #[must_use]
    pub fn after(self, before: usize) -> Self {
        match self {
            Self::Failed {
                step,
                done,
                beside,
                error,
            } => Self::Failed {
                step,
                done: done + before,
                beside,
                error,
            },
            stopped @ Self::Stopped { .. } => stopped,
        }
    }

    /// Whether QEMU or libvirt may not open a file. By words, for QEMU's errors have no code: it
    /// decides only what is printed.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Failed { error, .. } => {
                let said = error.said.to_ascii_lowercase();
                said.contains("permission denied") || said.contains("could not open")
            }
            Self::Stopped { .. } => false,
        }
    }
}

/// Carries out the steps.
pub fn apply(
    steps: &[Step],
    host: &(impl HostWriter + AgentChannel),
    progress: &mut dyn Progress,
) -> Result<(), ApplyError> {
    // Of this step, where it was done at the same time as the one before.
    let mut ahead: Option<Ended> = None;
    for (done, step) in steps.iter().enumerate() {
        let before = steps.get(..done).unwrap_or_default();
        if ahead.is_none()
            && let Some(exit) = progress.stop()
        {
            step_back::take_back(before, host);
            let next = Box::new(step.clone());
            return Err(ApplyError::Stopped { next, exit });
        }
        progress.begin(step);
        let Ended { result, took } = match (ahead.take(), step, steps.get(done + 1)) {
            (Some(ended), ..) => ended,
            (None, Step::Reserve { .. }, Some(clone @ Step::CloneVolume(spec)))
                if spec.is_overlay() =>
            {
                let (reserved, cloned) = at_once(step, clone, host);
                ahead = cloned;
                reserved
            }
            (None, ..) => Ended::of(|| carry_out(step, host, progress)),
        };
        if let Err(error) = result {
            step_back::take_back(before, host);
            let beside = ahead.filter(|ended| ended.result.is_ok());
            let beside = beside.and_then(|_| steps.get(done + 1));
            let beside = beside.map(|step| Box::new(step.clone()));
            let undone = take_back(step, before, host);
            let done = if undone { 0 } else { done };
            let step = Box::new(step.clone());
            return Err(match progress.stop() {
                // A long step ends when a signal comes, and leaves nothing.
                Some(exit) if matches!(*step, Step::BringImage(_) | Step::StepBack { .. }) => {
                    ApplyError::Stopped { next: step, exit }
                }
                _ => ApplyError::Failed {
                    step,
                    done,
                    beside,
                    error,
                },
            });
        }
        progress.end(step, took);
    }
    Ok(())
}

/// A step that is over.
struct Ended {
    result: HostResult<()>,
    took: Duration,
}

impl Ended {
    fn of(work: impl FnOnce() -> HostResult<()>) -> Self {
        let started = Instant::now();
        let result = work();
        Self {
            result,
            took: started.elapsed(),
        }
    }
}

/// Two steps of which neither needs the other, both named in the seed that was written before them:
/// whichever of them is left alone is known again. The second is not begun once the first has
/// failed.
fn at_once(
    one: &Step,
    other: &Step,
    host: &(impl HostWriter + AgentChannel),
) -> (Ended, Option<Ended>) {
    let failed = AtomicBool::new(false);
    host.together(
        |host| {
            let ended = Ended::of(|| carry_out(one, host, &mut Silent));
            failed.store(ended.result.is_err(), Ordering::Relaxed);
            ended
        },
        |host| {
            let begins = !failed.load(Ordering::Relaxed);
            begins.then(|| Ended::of(|| carry_out(other, host, &mut Silent)))
        },
    )
}

/// Of steps that are too short to have something to say.
struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

fn carry_out(
    step: &Step,
    host: &(impl HostWriter + AgentChannel),
    progress: &mut dyn Progress,
) -> HostResult<()> {
    match step {
        Step::Reserve {
            network,
            entry,
            scope,
        } => host.add_reservation(network, entry, *scope),
        Step::Release {
            network,
            entry,
            scope,
        } => host.remove_reservation(network, entry, *scope),
        Step::BringImage(step) => image::bring(step, host, progress),
        Step::CloneVolume(spec) => host.clone_volume(spec),
        Step::RemakeVolume(step) => disk::remake(step, host),
        Step::GrowVolume { at, capacity } => host.grow_volume(at, *capacity),
        Step::GrowLiveDisk {
            domain,
            target,
            capacity,
        } => host.grow_live_disk(domain, target, *capacity),
        Step::DeleteVolume { at, domain } => disk::delete(at, domain, host),
        Step::DeleteSeed { at, domain } => seed::delete(at, domain, host),
        Step::WriteSeed { at, seed } => seed::write(at, seed, host),
        Step::Define(step) => domain::define(step, host),
        Step::Converge(step) => converge(step, host, progress),
        Step::SwapMedium {
            domain,
            seed,
            drives,
        } => seed::swap_medium(domain, seed, drives, host),
        Step::SetOwnership {
            domain,
            ownership,
            note,
        } => set_ownership(domain, ownership, *note, host),
        Step::SetAutostart { domain, on } => host.set_autostart(domain, *on),
        Step::Start { domain } => domain::start(domain, host),
        Step::Resume { domain } => domain::resume(domain, host),
        Step::Wake { domain } => domain::wake(domain, host),
        Step::StepBack { domain, drain } => step_back::step_back(domain, *drain, host, progress),
        Step::Stop {
            domain,
            run,
            deadline,
        } => stop::stop_run(domain, *run, *deadline, host, progress),
        Step::Restart {
            domain,
            run,
            deadline,
            fallback,
        } => stop::restart(domain, *run, *deadline, fallback, host, progress),
        Step::Undefine { domain } => host.undefine(domain),
    }
}

/// A new domain cannot be defined, and the seed that names what was made for it is gone: another
/// lbctl took the VM down. Then nothing would ever say who made the rest, so it goes, too. True:
/// nothing is left of the steps. If it fails, the first error is the one to report.
fn take_back(failed: &Step, done: &[Step], host: &impl HostWriter) -> bool {
    let Step::Define(define) = failed else {
        return false;
    };
    let (seed, domain) = (&define.ownership.seed.volume, &define.spec.name);
    let seed_is_gone = || Ok::<_, HostError>(host.volume(seed)?.present().is_none());
    let domain_is_gone = || Ok::<_, HostError>(host.domain(domain)?.is_none());
    if define.existing.is_some()
        || !seed_is_gone().unwrap_or(false)
        || !domain_is_gone().unwrap_or(false)
    {
        return false;
    }
    for step in done.iter().rev() {
        let _ = match step {
            Step::CloneVolume(spec) => disk::delete(&spec.volume, domain, host),
            Step::Reserve {
                network,
                entry,
                scope,
            } => host.remove_reservation(network, entry, *scope),
            _ => Ok(()),
        };
    }
    done.iter().all(|step| {
        matches!(
            step,
            Step::WriteSeed { .. }
                | Step::Reserve { .. }
                | Step::CloneVolume(_)
                | Step::GrowVolume { .. }
        )
    })
}

/// A guest that refuses is unchanged, and so is the host: the seed that was written for this is
/// removed again.
fn converge(
    step: &ConvergeStep,
    host: &(impl HostWriter + AgentChannel),
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let ConvergeStep {
        domain,
        guest,
        extent,
        despite,
        new_seed,
        ownership,
    } = step;
    match Guest::new(host, domain).converge(guest, *extent, despite, CONVERGE) {
        Ok(done) => {
            done.notes.iter().for_each(|note| progress.note(note));
            Ok(())
        }
        Err(error) => {
            if let ConvergeError::Refused { restored, .. } = &error {
                // If this fails, the next `up` does it.
                let _ = new_seed.as_ref().map(|at| host.delete_volume(at));
                let back = ownership.as_ref().filter(|_| *restored);
                let _ = back.map(|ownership| {
                    host.set_ownership(domain, ownership, OwnershipKind::Guest.scope())
                });
            }
            Err(error.into_host_error(match extent {
                Extent::All => Operation::ChangeGuest(domain.clone()),
                Extent::Tls => Operation::ExchangeCertificate(domain.clone()),
            }))
        }
    }
}

/// Writes the ownership record. Only the run that changed the guest records that.
fn set_ownership(
    domain: &str,
    ownership: &Ownership,
    kind: OwnershipKind,
    host: &impl HostWriter,
) -> HostResult<()> {
    if kind == OwnershipKind::Guest && !changed_by_us(domain, &ownership.seed.fingerprint, host)? {
        let doing = Operation::SetOwnership(domain.to_owned());
        let said = "another lbctl run is changing its guest";
        return Err(HostError::new(HostErrorKind::Exists, doing, said));
    }
    host.set_ownership(domain, ownership, kind.scope())
}

/// Whether the ownership record of the running definition still says that its guest is being
/// changed to what that seed gives, so that no other run has begun to change it since. Only then is
/// the change recorded as done: a record of another run's work would hide it for good.
fn changed_by_us(domain: &str, seed: &str, host: &impl HostWriter) -> HostResult<bool> {
    let live = host.domain(domain)?.and_then(|d| d.live);
    let ownership = live.and_then(|live| live.ownership);
    Ok(ownership.is_none_or(|ownership| ownership.seed.parts.guest == changing_to(seed)))
}

//! Carries out the steps of a plan, in its order; the first failure ends it. Each step checks again
//! what it was planned on, because another lbctl may have changed it since, and removes what it
//! made if it cannot be completed. It refuses; it never chooses another way: that is decided in
//! `plan`, and `converge` plans again.
//!
//! Here is the one `match` over the steps, and what concerns the whole run. The checks are with
//! what they check: `domain`, `seed`, `disk`, `stop`.

mod disk;
mod domain;
mod seed;
mod stop;

use std::fmt;
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
    for (done, step) in steps.iter().enumerate() {
        if let Some(exit) = progress.stop() {
            let next = Box::new(step.clone());
            return Err(ApplyError::Stopped { next, exit });
        }
        let started = Instant::now();
        progress.begin(step);
        carry_out(step, host, progress).map_err(|error| ApplyError::Failed {
            step: Box::new(step.clone()),
            done,
            error,
        })?;
        progress.end(step, started.elapsed());
    }
    Ok(())
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
        Step::CloneVolume(spec) => host.clone_volume(spec),
        Step::GrowVolume { at, capacity } => host.grow_volume(at, *capacity),
        Step::GrowLiveDisk {
            domain,
            target,
            capacity,
        } => host.grow_live_disk(domain, target, *capacity),
        Step::DeleteVolume { at, domain } => disk::delete(at, domain, host),
        Step::DeleteSeed { at, domain } => seed::delete(at, domain, host),
        Step::WriteSeed { at, seed } => host.create_volume(at, &seed.image),
        Step::Define(step) => domain::define(step, host),
        Step::Converge(step) => converge(step, host, progress),
        Step::SwapMedium {
            domain,
            seed,
            scope,
        } => seed::swap_medium(domain, seed, *scope, host),
        Step::SetOwnership {
            domain,
            ownership,
            note,
        } => set_ownership(domain, ownership, *note, host),
        Step::SetAutostart { domain, on } => host.set_autostart(domain, *on),
        Step::Start { domain } => domain::start(domain, host),
        Step::Resume { domain } => domain::resume(domain, host),
        Step::Stop { domain, deadline } => stop::stop(domain, *deadline, host, progress),
        Step::Restart {
            domain,
            run,
            deadline,
            fallback,
        } => stop::restart(domain, *run, *deadline, fallback, host, progress),
        Step::Undefine { domain } => host.undefine(domain),
    }
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
        new_seed,
        ownership,
    } = step;
    match Guest::new(host, domain).converge(guest, *extent, CONVERGE) {
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

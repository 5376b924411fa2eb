//! Doing what a plan says. Behaviour does not live here: each step is one arm that calls the host, in the plan's order,
//! and the first failure stops it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::VolumeRef;
use crate::exit::Exit;
use crate::guest::{ConvergeError, Extent, Guest};
use crate::host::ownership::{SeedRecord, changing_to};
use crate::host::{
    AgentChannel, DomainFacts, DomainState, HostError, HostErrorKind, HostResult, HostWriter,
    Source, StopBy, VolumeFacts, VolumeState,
};
use crate::reconcile::plan::{ConvergeStep, DefineStep, OwnershipKind, RootRef, Step};
use crate::render::domain::{self, DomainSpec, RootDisk};
use crate::seed::{self, SeedContent};

/// For a change of the running guest. Most take seconds; installing a package in a slow one, minutes.
const CONVERGE: Duration = Duration::from_secs(900);
/// Between looks at a guest that is stopping.
const POLL: Duration = Duration::from_millis(200);
/// A guest that is still booting overhears the power button, so it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// Hears of each step; the one place that shows them is `output`.
pub trait Progress {
    fn begin(&mut self, step: &Step);
    fn end(&mut self, step: &Step, took: Duration);
    fn note(&mut self, text: &str);
    /// Asked before each step: how lbctl is to end instead of doing it.
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
    /// Somebody asked for an end, before this step.
    Stopped { next: Box<Step>, exit: Exit },
}

impl ApplyError {
    /// Whether QEMU or libvirt may not open a file. By words, for QEMU's errors have no code: it decides what is told only.
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
        Step::DeleteVolume { at, domain } => delete_disk(at, domain, host),
        Step::DeleteSeed { at, domain } => delete_seed(at, domain, host),
        Step::WriteSeed { at, seed } => host.create_volume(at, &seed.image),
        Step::Define(step) => define(step, host),
        Step::Converge(step) => converge(step, host, progress),
        Step::SwapMedium {
            domain,
            seed,
            scope,
        } => {
            let source = whole_seed(seed, domain, host)?;
            host.update_device(domain, &domain::seed_cdrom(&source), *scope)?;
            ensure_seed_exists(&seed.volume, host)
        }
        Step::SetOwnership {
            domain,
            ownership,
            note,
        } => {
            if *note == OwnershipKind::Guest
                && !changed_by_us(domain, &ownership.seed.fingerprint, host)?
            {
                let doing = format!("writing lbctl's ownership record into domain {domain}");
                let said = "its guest is being changed by another lbctl";
                return Err(HostError::new(HostErrorKind::Exists, doing, said));
            }
            host.set_ownership(domain, ownership, note.scope())
        }
        Step::SetAutostart { domain, on } => host.set_autostart(domain, *on),
        Step::Start { domain } => start(domain, host),
        Step::Resume { domain } => resume(domain, host),
        Step::Stop { domain, deadline } => stop(domain, *deadline, host, progress),
        Step::Restart {
            domain,
            run,
            deadline,
            fallback,
        } => {
            if active(host, domain)?.is_some_and(|(_, now)| now != *run) {
                let doing = format!("restarting domain {domain}");
                let said = "it has been started anew meanwhile";
                return Err(HostError::new(HostErrorKind::Exists, doing, said));
            }
            stop(domain, *deadline, host, progress)?;
            start(domain, host).or_else(|error| fall_back(domain, fallback, error, host))
        }
        Step::Undefine { domain } => host.undefine(domain),
    }
}

/// A guest that refuses is as it was, and so is the host: the seed that was written for this goes again.
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
                // Where this fails, the next `up` does it.
                let _ = new_seed.as_ref().map(|at| host.delete_volume(at));
                let back = ownership.as_ref().filter(|_| *restored);
                let _ = back.map(|ownership| {
                    host.set_ownership(domain, ownership, OwnershipKind::Guest.scope())
                });
            }
            let doing = match extent {
                Extent::All => "changing the running guest",
                Extent::Tls => "exchanging the certificate in the running guest",
            };
            Err(error.into_host_error(&format!("{doing} {domain}")))
        }
    }
}

/// Whether the running definition's ownership record says yet that its guest is being changed to what that seed gives, so that nobody
/// else has begun to change it since. What one does is noted only then: a note of another's work would hide it for good.
fn changed_by_us(domain: &str, seed: &str, host: &impl HostWriter) -> HostResult<bool> {
    let live = host.domain(domain)?.and_then(|d| d.live);
    let ownership = live.and_then(|live| live.ownership);
    Ok(ownership.is_none_or(|ownership| ownership.seed.parts.guest == changing_to(seed)))
}

fn define(step: &DefineStep, host: &impl HostWriter) -> HostResult<()> {
    let DefineStep {
        spec,
        uuid,
        ownership,
        root,
        known,
    } = step;
    let doing = format!("defining domain {}", spec.name);
    let facts = root_disk(root, host)?;
    let Some(VolumeFacts { source, format, .. }) = facts.present().cloned() else {
        return Err(HostError::new(
            HostErrorKind::NotFound,
            doing,
            "its root disk has vanished",
        ));
    };
    let seed = whole_seed(&ownership.seed, &spec.name, host)?;
    let disk = source.clone();
    let xml = domain::render(
        spec,
        uuid.as_deref(),
        ownership,
        &RootDisk { source, format },
        &seed,
    )
    .map_err(|e| HostError::new(HostErrorKind::Other, &doing, e.to_string()))?;
    host.define(&spec.name, &xml)?;
    if uuid.is_none() {
        ensure_unique(spec, &disk, known, host)?;
    }
    ensure_disk_exists(&spec.name, root, host)?;
    ensure_seed_exists(&ownership.seed.volume, host)
}

/// Another lbctl takes a seed that nothing refers to for a leftover, and this one was such until now. Whoever finds it gone
/// writes it anew, before the old one goes.
fn ensure_seed_exists(seed: &VolumeRef, host: &impl HostWriter) -> HostResult<()> {
    if host.volume(seed)?.present().is_some() {
        return Ok(());
    }
    let doing = format!("putting seed {seed} into the drive");
    Err(HostError::new(
        HostErrorKind::NotFound,
        doing,
        "it has vanished meanwhile",
    ))
}

/// A `down` may have taken everything away since it was looked at, and this definition brought the domain back, without a
/// disk: then it goes, too.
fn ensure_disk_exists(domain: &str, root: &RootRef, host: &impl HostWriter) -> HostResult<()> {
    if root_disk(root, host)?.present().is_some() || active(host, domain)?.is_some() {
        return Ok(());
    }
    host.undefine(domain)?;
    let (doing, said) = (
        format!("defining domain {domain}"),
        "its root disk has vanished meanwhile",
    );
    Err(HostError::new(HostErrorKind::NotFound, doing, said))
}

fn root_disk(root: &RootRef, host: &impl HostWriter) -> HostResult<VolumeState> {
    match root {
        RootRef::Volume(at) => host.volume(at),
        RootRef::Id(id) => host.volume_by_id(id),
    }
}

/// libvirt takes any number of domains with one MAC address or one disk. Who defines a new one looks afterwards whether
/// another has come meanwhile, so that of two at least one sees the other, and takes its own back: it has not started.
fn ensure_unique(
    spec: &DomainSpec,
    disk: &Source,
    known: &[String],
    host: &impl HostWriter,
) -> HostResult<()> {
    let seen: Vec<String> = known.iter().chain([&spec.name]).cloned().collect();
    let shared = host.claims(&seen)?.into_iter().find_map(|other| {
        let macs = spec.interfaces.iter().map(|nic| nic.mac);
        let mac = macs.into_iter().find(|mac| other.macs.contains(mac));
        let what = match mac {
            Some(mac) => format!("MAC address {mac}"),
            None if other.disks.contains(disk) => format!("disk {disk}"),
            None => return None,
        };
        Some(format!(
            "domain {} has claimed {what} meanwhile",
            other.domain
        ))
    });
    let Some(shared) = shared else { return Ok(()) };
    host.undefine(&spec.name)?;
    let doing = format!("defining domain {}", spec.name);
    Err(HostError::new(HostErrorKind::Exists, doing, shared))
}

/// Where the seed stands, once it has been read back: nothing refers to one that is not whole.
fn whole_seed(ownership: &SeedRecord, domain: &str, host: &impl HostWriter) -> HostResult<Source> {
    let at = &ownership.volume;
    let doing = format!("reading seed {at} back");
    let lost = |said: &str| HostError::new(HostErrorKind::NotFound, &doing, said);
    let VolumeState::Present(facts) = host.volume(at)? else {
        return Err(lost("it has vanished"));
    };
    match seed::recognise(&host.read_volume(at, seed::MAX_SIZE)?, domain) {
        SeedContent::Ours(found) if found.fingerprint == ownership.fingerprint => Ok(facts.source),
        _ => Err(lost("it is not what was written")),
    }
}

/// Nothing referred to it, and it was this VM's, when the plan was made. Another lbctl may have put it into the drive since,
/// or another VM's seed may stand there.
fn delete_seed(at: &VolumeRef, domain: &str, host: &impl HostWriter) -> HostResult<()> {
    let overtaken =
        |said: &str| HostError::new(HostErrorKind::Exists, format!("deleting seed {at}"), said);
    let VolumeState::Present(facts) = host.volume(at)? else {
        return Ok(());
    };
    let content = seed::recognise(&host.read_volume(at, seed::MAX_SIZE)?, domain);
    if let SeedContent::OfAnother(_) | SeedContent::Foreign = content {
        return Err(overtaken("it is another VM's meanwhile"));
    }
    let in_use = |d: &DomainFacts| {
        let mut definitions = std::iter::once(&d.config).chain(&d.live);
        definitions.any(|d| d.holds(at, Some(&facts.source)))
    };
    if host.domain(domain)?.as_ref().is_some_and(in_use) {
        return Err(overtaken("it is in the domain's drive meanwhile"));
    }
    absent_is_fine(host.delete_volume(at))
}

fn delete_disk(at: &VolumeRef, domain: &str, host: &impl HostWriter) -> HostResult<()> {
    if host.domain(domain)?.is_some() {
        let (doing, said) = (format!("deleting volume {at}"), "its domain is there again");
        return Err(HostError::new(HostErrorKind::Exists, doing, said));
    }
    absent_is_fine(host.delete_volume(at))
}

fn absent_is_fine(result: HostResult<()>) -> HostResult<()> {
    match result {
        Err(error) if error.kind == HostErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Somebody may have been faster, such as an `up` that was killed while libvirt was starting the domain: until it has
/// started it looks paused.
fn start(domain: &str, host: &impl HostWriter) -> HostResult<()> {
    unless_it_runs(host.start(domain), host, domain, |state| !state.is_active())
}

fn resume(domain: &str, host: &impl HostWriter) -> HostResult<()> {
    unless_it_runs(host.resume(domain), host, domain, |state| {
        state == DomainState::Paused
    })
}

/// A failure is none where the guest runs all the same. Where it is not as it was when this was planned, or was not at the
/// moment of the call (a guest that another lbctl starts anew is off, and paused for a moment), somebody was faster.
fn unless_it_runs(
    result: HostResult<()>,
    host: &impl HostWriter,
    domain: &str,
    as_planned: impl Fn(DomainState) -> bool,
) -> HostResult<()> {
    match result {
        Err(error) if matches!(error.kind, HostErrorKind::State | HostErrorKind::Other) => {
            match host.domain(domain)? {
                Some(facts) if facts.state == DomainState::Running => Ok(()),
                Some(facts) if !as_planned(facts.state) || error.kind == HostErrorKind::State => {
                    Err(HostError {
                        kind: HostErrorKind::Exists,
                        ..error
                    })
                }
                _ => Err(error),
            }
        }
        other => other,
    }
}

/// The new definition does not start: the old one must, for a database waits behind it.
fn fall_back(
    domain: &str,
    fallback: &str,
    error: HostError,
    host: &impl HostWriter,
) -> HostResult<()> {
    let back = host
        .define(domain, fallback)
        .and_then(|()| host.start(domain));
    let outcome = match back {
        Ok(()) => "the old definition is back and the guest runs with it; nothing else is changed"
            .to_owned(),
        Err(second) => format!("putting the old definition back failed too: {second}"),
    };
    Err(HostError {
        hint: Some(outcome),
        ..error
    })
}

/// The state of a domain that runs, and which run it is.
fn active(host: &impl HostWriter, domain: &str) -> HostResult<Option<(DomainState, Option<u32>)>> {
    let facts = host.domain(domain)?.filter(|f| f.state.is_active());
    Ok(facts.map(|f| (f.state, f.live.and_then(|live| live.run))))
}

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
        let Some((state, run)) = active(host, domain)? else {
            return Ok(());
        };
        // Stopped, and started by somebody else: that run is not the one that was to end.
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

/// The power button, and where that was not heard the agent too. A paused guest hears neither, so it goes on first. One
/// that cannot (its pool is full) waits for the deadline.
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
            progress.note(&format!("{error}; it has until the deadline"));
            Ok(())
        }
        other => other,
    }
}

/// The guest may have stopped between the look and the call.
fn gone_is_fine(result: HostResult<()>, host: &impl HostWriter, domain: &str) -> HostResult<()> {
    match result {
        Err(error) if error.kind != HostErrorKind::Connection => match host.domain(domain)? {
            Some(facts) if facts.state.is_active() => Err(error),
            _ => Ok(()),
        },
        other => other,
    }
}

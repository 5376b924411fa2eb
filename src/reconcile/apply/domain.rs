//! The domain's definition and its start. What the plan relied on is checked after libvirt accepted
//! the definition: libvirt itself accepts any number of domains with one MAC address or one disk,
//! and disks that do not exist.

use super::seed::{ensure_seed_exists, whole_seed};
use crate::host::ownership::Ownership;
use crate::host::{
    DomainState, HostError, HostErrorKind, HostResult, HostWriter, Operation, RunState,
    VolumeFacts, VolumeState,
};
use crate::reconcile::plan::{DefineStep, RootRef};
use crate::render::domain::edit::{self, Existing, Wanted};
use crate::render::domain::{self, DomainSpec, RootDisk};
use crate::secret::Secret;

pub(super) fn define(step: &DefineStep, host: &impl HostWriter) -> HostResult<()> {
    let DefineStep {
        spec,
        existing,
        ownership,
        root,
        format,
        known,
    } = step;
    let doing = Operation::Define(spec.name.clone());
    let facts = root_disk(root, host)?;
    let Some(disk) = facts.present() else {
        return Err(HostError::new(
            HostErrorKind::NotFound,
            doing,
            "its root disk does not exist any more",
        ));
    };
    let seed = whole_seed(&ownership.seed, &spec.name, host)?;
    let root_disk = RootDisk {
        source: disk.source.clone(),
        format: format.clone(),
    };
    let failed = |said| HostError::new(HostErrorKind::Other, &doing, said);
    let xml = match existing {
        None => {
            domain::render(spec, ownership, &root_disk, &seed).map_err(|e| failed(e.to_string()))?
        }
        Some(existing) => {
            ensure_unchanged(&spec.name, existing, host)?;
            let wanted = Wanted {
                spec,
                ownership,
                root: &root_disk,
                seed: &seed,
            };
            edit::edit(existing, wanted).map_err(failed)?
        }
    };
    host.define(&spec.name, &xml)?;
    if existing.is_none() {
        ensure_unique(spec, disk, known, host)?;
    }
    if existing.is_none() || made_by_lbctl(ownership) {
        ensure_disk_exists(&spec.name, root, host)?;
    }
    ensure_seed_exists(&ownership.seed.volume, host)
}

/// What somebody edited since the definition was read would be undone by it.
fn ensure_unchanged(domain: &str, existing: &Existing, host: &impl HostWriter) -> HostResult<()> {
    let is = host.saved_definition(domain)?;
    if is.as_ref() == Some(&existing.xml) {
        return Ok(());
    }
    let (kind, said) = match is {
        Some(_) => (HostErrorKind::Exists, "it was concurrently changed"),
        None => (
            HostErrorKind::NotFound,
            "the domain was concurrently removed",
        ),
    };
    Err(HostError::new(
        kind,
        Operation::Define(domain.to_owned()),
        said,
    ))
}

/// libvirt accepts any number of domains with one MAC address or one disk. So after defining a new
/// one lbctl checks whether another was defined concurrently: of two runs at least one sees the
/// other, and removes its own domain, which has not started.
fn ensure_unique(
    spec: &DomainSpec,
    disk: &VolumeFacts,
    known: &[String],
    host: &impl HostWriter,
) -> HostResult<()> {
    let seen: Vec<String> = known.iter().chain([&spec.name]).cloned().collect();
    let shared = host.claims(&seen)?.into_iter().find_map(|other| {
        let macs = spec.interfaces.iter().map(|nic| nic.mac);
        let mac = macs.into_iter().find(|mac| other.macs.contains(mac));
        let what = match mac {
            Some(mac) => format!("MAC address {mac}"),
            None if other.disks.iter().any(|source| disk.is(source)) => {
                format!("disk {}", disk.source)
            }
            None => return None,
        };
        Some(format!(
            "domain {} has concurrently claimed {what}",
            other.domain
        ))
    });
    let Some(shared) = shared else { return Ok(()) };
    host.undefine(&spec.name)?;
    let doing = Operation::Define(spec.name.clone());
    Err(HostError::new(HostErrorKind::Exists, doing, shared))
}

/// The definition of an adopted domain is what is left of somebody's VM: it is not taken back.
fn made_by_lbctl(ownership: &Ownership) -> bool {
    ownership.disk.as_ref().is_some_and(|disk| disk.cloned)
}

/// A `down` may have removed everything since it was observed, and this definition created the
/// domain again, without a disk: then it is removed, too.
fn ensure_disk_exists(domain: &str, root: &RootRef, host: &impl HostWriter) -> HostResult<()> {
    if root_disk(root, host)?.present().is_some() || active(host, domain)?.is_some() {
        return Ok(());
    }
    host.undefine(domain)?;
    let (doing, said) = (
        Operation::Define(domain.to_owned()),
        "its root disk was concurrently deleted",
    );
    Err(HostError::new(HostErrorKind::NotFound, doing, said))
}

fn root_disk(root: &RootRef, host: &impl HostWriter) -> HostResult<VolumeState> {
    match root {
        RootRef::Volume(at) => host.volume(at),
        RootRef::Id(id) => host.volume_by_id(id),
    }
}

/// Another run may have started it, such as an `up` that was killed while libvirt was starting the
/// domain: until it has started its state is paused.
pub(super) fn start(domain: &str, host: &impl HostWriter) -> HostResult<()> {
    unless_it_runs(host.start(domain), host, domain, |state| !state.is_active())
}

/// A guest that suspended itself to memory.
pub(super) fn wake(domain: &str, host: &impl HostWriter) -> HostResult<()> {
    unless_it_runs(host.wake(domain), host, domain, |state| {
        state == DomainState::Suspended
    })
}

pub(super) fn resume(domain: &str, host: &impl HostWriter) -> HostResult<()> {
    unless_it_runs(host.resume(domain), host, domain, |state| {
        state == DomainState::Paused
    })
}

/// It is not a failure if the guest runs. If its state is not the one planned for, or was not at
/// the moment of the call (a guest that another lbctl restarts is off, and paused for a moment),
/// another run changed it.
fn unless_it_runs(
    result: HostResult<()>,
    host: &impl HostWriter,
    domain: &str,
    as_planned: impl Fn(DomainState) -> bool,
) -> HostResult<()> {
    match result {
        Err(error) if matches!(error.kind, HostErrorKind::State | HostErrorKind::Other) => {
            match host.run_state(domain)? {
                Some(now) if now.state == DomainState::Running => Ok(()),
                Some(now) if !as_planned(now.state) || error.kind == HostErrorKind::State => {
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

/// The new definition does not start: the previous one must, because clients of a database depend
/// on it.
pub(super) fn fall_back(
    domain: &str,
    fallback: &Secret,
    error: HostError,
    host: &impl HostWriter,
) -> HostResult<()> {
    let back = host
        .define(domain, fallback.expose())
        .and_then(|()| host.start(domain));
    let outcome = match back {
        Ok(()) => "the previous definition was restored and the guest runs with it; nothing else was changed"
            .to_owned(),
        Err(second) => format!("restoring the previous definition failed, too: {second}"),
    };
    Err(HostError {
        hint: Some(outcome),
        ..error
    })
}

/// The state of a domain that runs, and which run it is.
pub(super) fn active(host: &impl HostWriter, domain: &str) -> HostResult<Option<RunState>> {
    Ok(host.run_state(domain)?.filter(|now| now.state.is_active()))
}

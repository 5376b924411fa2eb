//! The domain's definition and its start. What the plan relied on is checked after libvirt accepted
//! the definition: libvirt itself accepts any number of domains with one MAC address or one disk,
//! and disks that do not exist.

use super::seed::{ensure_seed_exists, whole_seed};
use crate::host::{
    DomainState, HostError, HostErrorKind, HostResult, HostWriter, Operation, Source, VolumeFacts,
    VolumeState,
};
use crate::reconcile::plan::{DefineStep, RootRef};
use crate::render::domain::{self, DomainSpec, RootDisk};

pub(super) fn define(step: &DefineStep, host: &impl HostWriter) -> HostResult<()> {
    let DefineStep {
        spec,
        uuid,
        ownership,
        root,
        known,
    } = step;
    let doing = Operation::Define(spec.name.clone());
    let facts = root_disk(root, host)?;
    let Some(VolumeFacts { source, format, .. }) = facts.present().cloned() else {
        return Err(HostError::new(
            HostErrorKind::NotFound,
            doing,
            "its root disk does not exist any more",
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

/// libvirt accepts any number of domains with one MAC address or one disk. So after defining a new
/// one lbctl checks whether another was defined concurrently: of two runs at least one sees the
/// other, and removes its own domain, which has not started.
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
            "domain {} has concurrently claimed {what}",
            other.domain
        ))
    });
    let Some(shared) = shared else { return Ok(()) };
    host.undefine(&spec.name)?;
    let doing = Operation::Define(spec.name.clone());
    Err(HostError::new(HostErrorKind::Exists, doing, shared))
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

/// The new definition does not start: the previous one must, because clients of a database depend
/// on it.
pub(super) fn fall_back(
    domain: &str,
    fallback: &str,
    error: HostError,
    host: &impl HostWriter,
) -> HostResult<()> {
    let back = host
        .define(domain, fallback)
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
pub(super) fn active(
    host: &impl HostWriter,
    domain: &str,
) -> HostResult<Option<(DomainState, Option<u32>)>> {
    let facts = host.domain(domain)?.filter(|f| f.state.is_active());
    Ok(facts.map(|f| (f.state, f.live.and_then(|live| live.run))))
}

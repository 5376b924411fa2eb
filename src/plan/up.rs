//! The plan of `up`: what differs, and the steps that end it.

use super::network::NetworkPart;
use super::step::DefineStep;
use super::disk::DiskPart;
use super::seeds::SeedPart;
use super::{Change, Class, Objection, Plan, Refusal, RefusalKind, Restart, Step, disk, network, seeds};
use crate::config::VolumeRef;
use crate::desired::Desired;
use crate::domain_xml::DomainSpec;
use crate::host::{Definition, DomainFacts, DomainState, NicFacts, Source};
use crate::mark::{LAYOUT, Mark, SeedMark};
use crate::observe::Observed;

/// Compares desired with observed. With [`Restart::Later`] no step disturbs a running guest.
pub fn plan_up(desired: &Desired, observed: &Observed, restart: Restart) -> Result<Plan, Refusal> {
    let name = &desired.domain.name;
    if let Some(objection) = foreign(name, observed.domain.as_ref()) {
        return Err(Refusal { objections: vec![objection] });
    }
    let creating = observed.domain.is_none();
    let parts = (
        network::plan(desired, observed, creating),
        disk::plan(desired, observed),
        seeds::plan(desired, observed),
    );
    let (network, disk, seed) = match parts {
        (Ok(network), Ok(disk), Ok(seed)) => (network, disk, seed),
        (network, disk, seed) => {
            let all = [network.err(), disk.err(), seed.err()];
            return Err(Refusal { objections: all.into_iter().flatten().flatten().collect() });
        }
    };
    let mark = Mark {
        layout: LAYOUT,
        seed: SeedMark { volume: seed.at.clone(), fingerprint: desired.seed.fingerprint.clone() },
        stale_seeds: seed.stale.clone(),
        disk: disk.mark.clone(),
        reservations: network.marks.clone(),
    };
    let parts = Parts { network, disk, seed, mark };
    Ok(match &observed.domain {
        None => create(desired, parts),
        Some(domain) => update(desired, observed, domain, parts, restart),
    })
}

struct Parts {
    network: NetworkPart,
    disk: DiskPart,
    seed: SeedPart,
    mark: Mark,
}

impl Parts {
    fn define(&self, spec: &DomainSpec, uuid: Option<String>) -> Step {
        let (mark, root) = (self.mark.clone(), self.disk.root.clone());
        Step::Define(Box::new(DefineStep { spec: spec.clone(), uuid, mark, root }))
    }

    fn cleaning(&self) -> impl Iterator<Item = Step> {
        let delete = self.seed.stale.iter().map(|at| Step::DeleteSeed { at: at.clone() });
        delete.chain(self.network.release.clone())
    }
}

pub(super) fn foreign(name: &str, domain: Option<&DomainFacts>) -> Option<Objection> {
    let domain = domain?;
    if domain.config.mark.is_some() || domain.live.as_ref().is_some_and(|live| live.mark.is_some()) {
        return (domain.state == DomainState::ShuttingDown).then(|| {
            Objection::new(
                RefusalKind::Unfit,
                format!("domain {name} is shutting down"),
                "run lbctl again when it has stopped (`virsh domstate`)",
            )
        });
    }
    Some(Objection::new(
        RefusalKind::NotOurs,
        format!("domain {name} ({}, uuid {}) is there already, and lbctl did not make it", domain.state, domain.uuid),
        "choose another `name`, or remove that domain yourself if nobody needs it",
    ))
}

fn create(desired: &Desired, parts: Parts) -> Plan {
    let spec = &desired.domain;
    let name = spec.name.clone();
    let mut changes: Vec<Change> = parts.network.changes.iter().chain(&parts.disk.changes).cloned().collect();
    changes.push(Change::new("client certificate", "", certificate(desired), Class::Create));
    changes.push(Change::new("seed", "", parts.seed.at.to_string(), Class::Create));
    let shape = format!("{} MiB, {} vcpus, {}", spec.memory_mib, spec.vcpus, spec.kind);
    changes.push(Change::new("domain", "", format!("{name} ({shape})"), Class::Create));
    let mut steps = parts.network.reserve.clone();
    steps.extend(parts.disk.steps.clone());
    steps.extend(parts.seed.write.clone());
    steps.push(parts.define(spec, None));
    steps.push(Step::SetAutostart { domain: name.clone(), on: true });
    steps.push(Step::Start { domain: name.clone() });
    steps.extend(parts.cleaning());
    Plan { name, changes, steps, notes: parts.disk.notes }
}

fn update(desired: &Desired, observed: &Observed, domain: &DomainFacts, parts: Parts, restart: Restart) -> Plan {
    let name = desired.domain.name.clone();
    let seed_source = observed.seeds.iter().find(|s| s.at == parts.seed.at).and_then(|s| s.volume.present()).map(|v| &v.source);
    let written = !parts.seed.write.is_empty();
    let in_drive = |d: &Definition| !written && holds(d, seed_source, &parts.seed.at);
    let facts = facts_changes(desired, domain);
    let in_every_drive = in_drive(&domain.config) && domain.live.as_ref().is_none_or(in_drive);
    let seed = seed_changes(desired, domain, &parts, in_every_drive);

    let wants_define = !domain.persistent
        || facts.define
        || !in_drive(&domain.config)
        || domain.config.root_disk().is_none()
        || domain.config.mark.as_ref().is_none_or(|mark| !covers(mark, &parts.mark));
    let mut changes: Vec<Change> = parts.network.changes.iter().chain(&parts.disk.changes).cloned().collect();
    changes.extend(address_changes(desired, domain));
    changes.extend(facts.changes);
    changes.extend(seed);
    if !domain.persistent {
        changes.push(Change::new("definition", "none, the domain would be gone with its stop", "saved", Class::Live));
    }
    if wants_define && changes.is_empty() {
        changes.push(Change::new("definition", "as edited or written by another lbctl", "as lbctl writes it", Class::Live));
    }
    if !written && in_drive(&domain.config) {
        changes.extend(parts.seed.stale.iter().map(|at| Change::new("leftover seed", at.to_string(), "deleted", Class::Live)));
    }
    let needs_restart = changes.iter().any(|c| c.class == Class::Restart);

    let mut steps = parts.network.reserve.clone();
    steps.extend(parts.disk.steps.clone());
    steps.extend(parts.seed.write.clone());
    if wants_define {
        steps.push(parts.define(&desired.domain, Some(domain.uuid.clone())));
    }
    if !domain.autostart {
        changes.push(Change::new("autostart", "off", "on", Class::Live));
        steps.push(Step::SetAutostart { domain: name.clone(), on: true });
    }
    match (&domain.live, needs_restart, restart) {
        (None, _, _) => {
            changes.push(Change::new("state", domain.state.to_string(), "running", Class::Live));
            steps.push(Step::Start { domain: name.clone() });
        }
        (Some(_), true, Restart::Now { deadline }) => {
            let fallback = domain.config_xml.clone();
            steps.push(Step::Restart { domain: name.clone(), deadline, fallback });
        }
        (Some(live), _, _) => {
            if !in_drive(live) {
                steps.push(Step::SwapMedium { domain: name.clone(), seed: parts.seed.at.clone() });
            }
            if matches!(domain.state, DomainState::Paused | DomainState::Suspended) {
                changes.push(Change::new("state", domain.state.to_string(), "running", Class::Live));
                steps.push(Step::Resume { domain: name.clone() });
            }
        }
    }
    steps.extend(parts.cleaning());
    Plan { name, changes, steps, notes: parts.disk.notes }
}

/// Whether the definition's drive holds the seed.
fn holds(definition: &Definition, source: Option<&Source>, at: &VolumeRef) -> bool {
    definition.cdroms().filter_map(|d| d.source.as_ref()).any(|s| Some(s) == source || *s == Source::Volume(at.clone()))
}

/// Whether the domain's mark says all that it should. What it names beyond that is of before and does no harm.
fn covers(mark: &Mark, wanted: &Mark) -> bool {
    let Mark { layout, seed, stale_seeds: _, disk, reservations } = wanted;
    mark.layout == *layout
        && mark.seed == *seed
        && mark.disk == *disk
        && reservations.iter().all(|r| mark.reservations.contains(r))
}

struct FactsPart {
    changes: Vec<Change>,
    define: bool,
}

/// Compares the facts of the definition, for the next start and for the guest that runs.
fn facts_changes(desired: &Desired, domain: &DomainFacts) -> FactsPart {
    let DomainSpec { name: _, kind, architecture: _, machine, memory_mib, vcpus, interfaces } = &desired.domain;
    let mut part = FactsPart { changes: Vec::new(), define: false };
    let mib = |kib: u64| format!("{} MiB", kib / 1024);
    let mut compare = |what: &str, to: String, read: &dyn Fn(&Definition) -> String| {
        let config = read(&domain.config);
        let live = domain.live.as_ref().map(read);
        part.define |= config != to;
        match live {
            Some(live) if live != to => part.changes.push(Change::new(what, live, to, Class::Restart)),
            _ if config != to => part.changes.push(Change::new(what, config, to, Class::Live)),
            _ => {}
        }
    };
    compare("memory", mib(memory_mib * 1024), &|d| mib(d.memory_kib));
    compare("vcpus", vcpus.to_string(), &|d| d.vcpus.to_string());
    compare("domain type", kind.to_string(), &|d| d.domain_type.clone());
    if desired.machine_given {
        compare("machine", machine.clone(), &|d| machine_family(&d.machine, machine));
    }
    compare("interfaces", nics(interfaces), &|d| nics(&d.interfaces));
    compare("guest agent channel", "there".into(), &|d| if d.agent_channel { "there" } else { "missing" }.into());
    // The balloon of a running guest moves by itself and is not compared.
    if domain.config.current_memory_kib != domain.config.memory_kib {
        let from = mib(domain.config.current_memory_kib);
        part.define = true;
        part.changes.push(Change::new("current memory", from, mib(memory_mib * 1024), Class::Live));
    }
    part
}

/// A guest keeps the address that it asked for at its start; left alone it would change it when its lease ends, at a time
/// that nobody chose. What it started with is in the mark of the definition it runs with.
fn address_changes(desired: &Desired, domain: &DomainFacts) -> Vec<Change> {
    let mark = domain.live.as_ref().and_then(|live| live.mark.as_ref());
    let mut changes = Vec::new();
    for wanted in desired.reservations.iter().map(|r| &r.entry) {
        let of_card = mark.into_iter().flat_map(|m| &m.reservations).filter(|r| r.entry.mac == wanted.mac);
        let started_with: Vec<_> = of_card.map(|r| r.entry.ip).collect();
        if let Some(before) = started_with.first().filter(|_| !started_with.contains(&wanted.ip)) {
            changes.push(Change::new("address", before.to_string(), wanted.ip.to_string(), Class::Restart));
        }
    }
    changes
}

/// libvirt turns `q35` into `pc-q35-7.2`: it is the same machine as asked for.
fn machine_family(is: &str, wanted: &str) -> String {
    let versioned = |prefix: String| is.strip_prefix(&prefix).is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()));
    if versioned(format!("pc-{wanted}-")) || versioned(format!("{wanted}-")) { wanted.to_owned() } else { is.to_owned() }
}

fn nics(nics: &[NicFacts]) -> String {
    if nics.is_empty() {
        return "none".into();
    }
    nics.iter().map(|NicFacts { mac, source }| format!("{mac} on {source}")).collect::<Vec<_>>().join(", ")
}

fn seed_changes(desired: &Desired, domain: &DomainFacts, parts: &Parts, in_drive: bool) -> Vec<Change> {
    let fingerprint = &desired.seed.fingerprint;
    let of = |d: &Definition| d.mark.as_ref().is_some_and(|m| m.seed.fingerprint == *fingerprint);
    let class = match &domain.live {
        Some(live) if !of(live) => Class::Restart,
        _ => Class::Live,
    };
    let mut changes = Vec::new();
    if desired.certificate.issued.is_some() {
        changes.push(Change::new("client certificate", "", certificate(desired), class));
    }
    if !parts.seed.write.is_empty() && !parts.seed.differing.is_empty() {
        let of_cloud_init: Vec<&str> =
            parts.seed.differing.iter().map(String::as_str).filter(|f| *f != "client.pem").collect();
        changes.push(Change::new("seed", "", format!("new {}", of_cloud_init.join(", ")), class));
    } else if !parts.seed.write.is_empty() || !in_drive {
        changes.push(Change::new("seed", "not in the drive", parts.seed.at.to_string(), class));
    } else if class == Class::Restart {
        changes.push(Change::new("seed", "of the guest's last start", "written, waits for a restart", class));
    }
    changes
}

fn certificate(desired: &Desired) -> String {
    let facts = &desired.certificate.facts;
    match &desired.certificate.issued {
        Some(reason) => format!("new, until {} ({reason})", facts.not_after.date()),
        None => format!("kept, until {}", facts.not_after.date()),
    }
}

//! What differs between a domain of lbctl's and the desired one, and the steps that end it.

use super::guest::GuestPart;
use super::parts::Parts;
use super::{Change, Class, Condition, OwnershipKind, Plan, Restart, Step, Subject, Value, guest};
use crate::guest::Extent;
use crate::host::ownership::{LAYOUT, Ownership};
use crate::host::{Definition, DomainFacts, DomainState, NicFacts, Scope};
use crate::reconcile::desired::{Desired, current_seed};
use crate::reconcile::observe::Observed;
use crate::render::domain::DomainSpec;

pub(super) fn update(
    desired: &Desired,
    observed: &Observed,
    domain: &DomainFacts,
    parts: Parts,
    restart: Restart,
) -> Plan {
    let at = &parts.seed.at;
    let written = !parts.seed.write.is_empty();
    let seeds = observed.seeds.iter();
    let source = seeds
        .filter(|s| s.at == *at)
        .find_map(|s| s.volume.present());
    let in_drive = |d: &Definition| !written && d.holds(at, source.map(|v| &v.source));
    let guest = guest::plan(
        &desired.seed,
        &desired.certificate,
        current_seed(observed),
        domain,
        &observed.availability,
    );
    let mut update = Update {
        domain,
        guest: &guest,
        parts: &parts,
        changes: [&parts.network.changes[..], &parts.disk.changes].concat(),
        define: !domain.persistent
            || !in_drive(&domain.config)
            || domain.config.root_disk().is_none()
            || !covered(domain, &parts.ownership),
        in_config_drive: in_drive(&domain.config),
        in_live_drive: domain.live.as_ref().is_none_or(in_drive),
    };
    update.facts(desired);
    update.seed(desired);
    update.leftovers(desired);
    update.state();
    Plan {
        name: domain.name.clone(),
        steps: update.steps(desired, restart),
        changes: update.changes,
        notes: parts.disk.notes.into_iter().chain(guest.notes).collect(),
    }
}

/// The differences as they are found, and which steps they need.
struct Update<'a> {
    domain: &'a DomainFacts,
    parts: &'a Parts,
    guest: &'a GuestPart,
    changes: Vec<Change>,
    /// Whether the domain is to be redefined.
    define: bool,
    /// Whether the seed wanted is in the drive at the next start.
    in_config_drive: bool,
    /// And in that of the running guest.
    in_live_drive: bool,
}

impl Update<'_> {
    fn push(
        &mut self,
        subject: Subject,
        from: impl Into<Value>,
        to: impl Into<Value>,
        class: Class,
    ) {
        self.changes.push(Change::new(subject, from, to, class));
    }

    /// Compares the facts of the definition, for the next start and for the guest that runs.
    fn facts(&mut self, desired: &Desired) {
        let DomainSpec {
            name: _,
            kind,
            architecture: _,
            machine,
            memory_mib,
            vcpus,
            interfaces,
        } = &desired.domain;
        self.changes.extend(address_changes(desired, self.domain));
        let memory = Value::Memory(*memory_mib);
        self.compare(Subject::Memory, &memory, &|d| mib(d.memory_kib));
        self.compare(Subject::Vcpus, &count(*vcpus), &|d| count(d.vcpus));
        self.compare(Subject::DomainType, &kind.as_str().into(), &|d| {
            d.domain_type.as_str().into()
        });
        if desired.machine_given {
            self.compare(Subject::Machine, &machine.as_str().into(), &|d| {
                machine_family(&d.machine, machine).into()
            });
        }
        let interfaces = interfaces.iter().map(NicFacts::from).collect();
        let interfaces = Value::Interfaces(interfaces);
        self.compare(Subject::Interfaces, &interfaces, &|d| {
            Value::Interfaces(d.interfaces.clone())
        });
        self.compare(Subject::AgentChannel, &Condition::There.into(), &|d| {
            if d.agent_channel {
                Condition::There.into()
            } else {
                Condition::Missing.into()
            }
        });
        // The balloon of a running guest changes by itself and is not compared.
        let config = &self.domain.config;
        if config.current_memory_kib != config.memory_kib {
            self.define = true;
            let from = mib(config.current_memory_kib);
            self.push(Subject::CurrentMemory, from, memory, Class::Live);
        }
    }

    fn compare(&mut self, subject: Subject, to: &Value, read: &dyn Fn(&Definition) -> Value) {
        let config = read(&self.domain.config);
        let live = self.domain.live.as_ref().map(read);
        self.define |= config != *to;
        match live {
            Some(live) if live != *to => self.push(subject, live, to.clone(), Class::Restart),
            _ if config != *to => self.push(subject, config, to.clone(), Class::Live),
            _ => {}
        }
    }

    /// What the seed brings: to the running guest, at its next boot, or only to the drive.
    fn seed(&mut self, desired: &Desired) {
        self.changes.extend(self.guest.changes.iter().cloned());
        let live = self.domain.live.as_ref();
        let booted_otherwise = live.is_some_and(|live| {
            let ownership = live.ownership.as_ref();
            ownership.is_none_or(|m| m.seed.parts.boot != desired.seed.parts.boot)
        });
        let at_next = self
            .domain
            .config
            .ownership
            .as_ref()
            .map(|m| &m.seed.parts.boot);
        let class = if booted_otherwise {
            Some(Class::Restart)
        } else if live.is_none() && at_next != Some(&desired.seed.parts.boot) {
            Some(Class::Live)
        } else {
            None
        };
        if let Some(class) = class {
            let subject = Subject::NetworkConfiguration;
            self.push(subject, Value::Nothing, Condition::Changed, class);
        }
        let at = &self.parts.seed.at;
        if !self.parts.seed.write.is_empty() && self.changes.is_empty() {
            let to = Value::WrittenTo(at.clone());
            self.push(Subject::Seed, Value::Nothing, to, Class::Live);
        } else if self.parts.seed.write.is_empty() && !(self.in_config_drive && self.in_live_drive)
        {
            self.push(Subject::Seed, Condition::NotInDrive, at, Class::Live);
        }
    }

    /// What no other difference shows.
    fn leftovers(&mut self, desired: &Desired) {
        if !self.domain.persistent {
            let (from, to) = (Condition::Unsaved, Condition::Saved);
            self.push(Subject::Definition, from, to, Class::Live);
        }
        // The definition is changed now, without a word to the guest, which gets its devices when
        // it next starts: by itself that is no reason to restart it.
        let ownership = self.domain.config.ownership.as_ref();
        if ownership.is_some_and(|ownership| ownership.layout < LAYOUT) {
            let to = if desired.domain.is_x86() {
                Condition::WithWatchdogAtNextStart
            } else {
                Condition::WrittenByLbctl
            };
            self.push(
                Subject::Definition,
                Condition::OfAnEarlierLayout,
                to,
                Class::Live,
            );
        }
        if self.define && self.changes.is_empty() {
            let (from, to) = (Condition::WrittenByAnother, Condition::WrittenByLbctl);
            self.push(Subject::Definition, from, to, Class::Live);
        }
        if self.in_config_drive {
            for at in &self.parts.seed.stale {
                self.push(Subject::LeftoverSeed, at, Condition::Deleted, Class::Live);
            }
        }
    }

    fn state(&mut self) {
        if !self.domain.autostart {
            let (from, to) = (Condition::Off, Condition::On);
            self.push(Subject::Autostart, from, to, Class::Live);
        }
        if self.domain.live.is_none() || self.is_paused() {
            let from = Value::State(self.domain.state);
            let to = Value::State(DomainState::Running);
            self.push(Subject::State, from, to, Class::Live);
        }
    }

    /// The running definition's ownership record after a live change: what the guest booted with
    /// stays in it until it boots again.
    fn noted(&self) -> Option<Step> {
        if !self.guest.converge {
            return None;
        }
        let mut ownership = self.parts.ownership.clone();
        if let Some(live) = self.domain.live.as_ref().and_then(|l| l.ownership.as_ref()) {
            ownership.layout = live.layout;
            ownership.seed.parts.boot.clone_from(&live.seed.parts.boot);
            ownership.reservations.clone_from(&live.reservations);
        }
        Some(Step::SetOwnership {
            domain: self.domain.name.clone(),
            ownership: Box::new(ownership),
            note: OwnershipKind::Guest,
        })
    }

    fn is_paused(&self) -> bool {
        matches!(
            self.domain.state,
            DomainState::Paused | DomainState::Suspended
        )
    }

    fn steps(&self, desired: &Desired, restart: Restart) -> Vec<Step> {
        let (domain, parts) = (self.domain.name.clone(), self.parts);
        let mut steps = parts.before_definition();
        let needs_restart = self.changes.iter().any(|c| c.class == Class::Restart);
        let restarts = needs_restart && matches!(restart, Restart::Now { .. });
        if !restarts {
            // Before anything refers to the new seed: a guest that refuses leaves everything
            // unchanged.
            let new_seed = (!parts.seed.write.is_empty()).then(|| parts.seed.at.clone());
            if self.guest.converge {
                let seed = &desired.seed;
                steps.extend(guest::converge(self.domain, seed, Extent::All, new_seed));
            }
        }
        if self.define {
            let uuid = Some(self.domain.uuid.clone());
            steps.push(parts.define(&desired.domain, uuid, Vec::new()));
        }
        if !self.domain.autostart {
            let domain = domain.clone();
            steps.push(Step::SetAutostart { domain, on: true });
        }
        match restart {
            _ if self.domain.live.is_none() => steps.push(Step::Start { domain }),
            Restart::Now { deadline } if restarts => {
                let fallback = self.domain.config_xml.clone();
                steps.push(Step::Restart {
                    domain,
                    run: self.domain.live.as_ref().and_then(|live| live.run),
                    deadline,
                    fallback,
                });
            }
            Restart::Now { .. } | Restart::Later => {
                if !self.in_live_drive {
                    steps.push(Step::SwapMedium {
                        domain: domain.clone(),
                        seed: parts.ownership.seed.clone(),
                        scope: LIVE,
                    });
                }
                steps.extend(self.noted());
                if self.is_paused() {
                    steps.push(Step::Resume { domain });
                }
            }
        }
        steps.extend(parts.cleaning(&self.domain.name));
        steps
    }
}

const LIVE: Scope = Scope {
    config: false,
    live: true,
};

/// Whether the domain's ownership record names all that it should. What it names beyond that is
/// from earlier and does no harm.
fn covered(domain: &DomainFacts, wanted: &Ownership) -> bool {
    let Ownership {
        layout,
        seed,
        stale_seeds: _,
        disk,
        reservations,
    } = wanted;
    domain.config.ownership.as_ref().is_some_and(|ownership| {
        ownership.layout == *layout
            && ownership.seed == *seed
            && ownership.disk == *disk
            && reservations
                .iter()
                .all(|r| ownership.reservations.contains(r))
    })
}

fn mib(kib: u64) -> Value {
    Value::Memory(kib / 1024)
}

fn count(number: u32) -> Value {
    Value::Count(number.into())
}

/// A guest keeps the address that it asked for at its start; without a restart it would change it
/// when its lease ends, at a time that nobody chose. What it started with is in the ownership
/// record of the definition it runs with.
fn address_changes(desired: &Desired, domain: &DomainFacts) -> Vec<Change> {
    let ownership = domain
        .live
        .as_ref()
        .and_then(|live| live.ownership.as_ref());
    let mut changes = Vec::new();
    for wanted in desired.reservations.iter().map(|r| &r.entry) {
        let of_interface = ownership
            .into_iter()
            .flat_map(|m| &m.reservations)
            .filter(|r| r.entry.mac == wanted.mac);
        let started_with: Vec<_> = of_interface.map(|r| r.entry.ip).collect();
        if let Some(before) = started_with
            .first()
            .filter(|_| !started_with.contains(&wanted.ip))
        {
            changes.push(Change::new(
                Subject::Address,
                Value::Address(*before),
                Value::Address(wanted.ip),
                Class::Restart,
            ));
        }
    }
    changes
}

/// libvirt turns `q35` into `pc-q35-7.2`: it is the same machine as asked for.
fn machine_family(is: &str, wanted: &str) -> String {
    let versioned = |prefix: String| {
        is.strip_prefix(&prefix)
            .is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()))
    };
    if versioned(format!("pc-{wanted}-")) || versioned(format!("{wanted}-")) {
        wanted.to_owned()
    } else {
        is.to_owned()
    }
}

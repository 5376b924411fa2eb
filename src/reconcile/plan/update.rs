//! What differs between a domain of lbctl's and the desired one, and the steps that end it.

use super::guest::GuestPart;
use super::parts::Parts;
use super::{
    Change, Class, Condition, Drives, OwnershipKind, Plan, Restart, Step, Subject, Value, adopt,
    guest, links, seeds, shared,
};
use crate::guest::{AgentAvailability, Extent};
use crate::host::ownership::{LAYOUT, Ownership};
use crate::host::{Definition, DomainFacts, DomainState, Drive, NicFacts, SavedState, StateReason};
use crate::reconcile::desired::{Desired, current_seed};
use crate::reconcile::observe::{Observed, ObservedMachine, same_machine};
use crate::render::domain::DomainSpec;
use crate::render::domain::edit::{self, Existing};

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
    let seed_drive = |d: &Definition, other: Option<&Definition>| SeedDrive {
        drive: seeds::drive(d, other, observed).map(Drive::from),
        holds: !written && d.holds(at, source),
    };
    // A guest that stands still answers nothing: it goes on first, and is asked then.
    let resume_first = is_paused(domain) && guest::guest_differs(&desired.seed, Some(domain));
    let availability = if resume_first {
        &AgentAvailability::Ready
    } else {
        &observed.availability
    };
    let guest = guest::plan(
        &desired.seed,
        desired.certificate.as_ref(),
        current_seed(observed),
        domain,
        availability,
    );
    let lost = links::lost_links(observed, domain);
    let live = domain.live.as_ref();
    let config_drive = seed_drive(&domain.config, live);
    let mut update = Update {
        domain,
        machine: &observed.machine,
        guest: &guest,
        parts: &parts,
        changes: [&parts.network.changes[..], &parts.disk.changes].concat(),
        define: !domain.persistent
            || !config_drive.holds
            || parts.disk.target.is_none()
            || parts.disk.anew && (live.is_none() || restart != Restart::Later)
            || !covered(domain, &parts.ownership),
        config_drive,
        live_drive: live.map(|live| seed_drive(live, Some(&domain.config))),
        other_machine: false,
    };
    update.facts(desired, observed);
    update.changes.extend(lost.changes);
    update.seed(desired);
    update.leftovers(desired);
    update.losses(desired);
    update.state();
    if shared::passes(desired, observed) {
        update.hand_over();
    }
    let step_back = shared::step_back(desired, observed, domain);
    let boots = update.changes.iter().any(|change| change.class.boots());
    let no_spare = boots && step_back.is_some() && shared::nobody_takes_it(observed);
    let steps = if resume_first {
        vec![update.resume()]
    } else {
        update.steps(desired, restart, step_back)
    };
    let changes = update.changes;
    let mut notes = parts.disk.notes;
    notes.extend(guest.notes);
    notes.extend(parts.seed.notes());
    notes.extend(lost.notes);
    notes.extend(stands_still(domain));
    notes.extend(no_spare.then(|| NO_SPARE.to_owned()));
    Plan {
        name: domain.name.clone(),
        steps,
        changes,
        notes,
        continues: resume_first,
        no_spare,
    }
}

const NO_SPARE: &str = "no other VM would take the shared address now, as far as is known: a stop of the guest is refused \
                        without `--alone`, with which every session through it is cut";

/// A guest whose memory is saved is resumed, and does not boot: it goes on with the definition and
/// the seed of then. So that comes first, and what differs is done to the running guest.
pub(super) fn from_saved(
    desired: &Desired,
    observed: &Observed,
    domain: &DomainFacts,
    saved: &SavedState,
    parts: Parts,
) -> Plan {
    let resumed = DomainFacts {
        state: DomainState::Running,
        reason: None,
        live: saved.definition.clone(),
        saved: None,
        ..domain.clone()
    };
    let answering = Observed {
        availability: AgentAvailability::Ready,
        ..observed.clone()
    };
    let mut plan = match resumed.live {
        Some(_) => update(desired, &answering, &resumed, parts, Restart::Later),
        // What it goes on with is seen then.
        None => Plan {
            name: domain.name.clone(),
            changes: Vec::new(),
            steps: Vec::new(),
            notes: Vec::new(),
            continues: false,
            no_spare: false,
        },
    };
    plan.continues = !plan.changes.is_empty() || saved.definition.is_none();
    if plan.continues {
        plan.notes.push(
            "the guest's memory is saved, so its start resumes it with the definition and the seed of then; the other \
             changes are planned again after that"
                .into(),
        );
    }
    plan.steps = vec![Step::Start {
        domain: domain.name.clone(),
    }];
    let (from, to) = (
        Value::State(domain.state, domain.reason),
        Value::State(DomainState::Running, None),
    );
    let state = Change::new(Subject::State, from, to, Class::Live);
    plan.changes.push(state);
    plan
}

fn is_paused(domain: &DomainFacts) -> bool {
    matches!(domain.state, DomainState::Paused | DomainState::Suspended)
}

/// Why a guest stands still, where resuming it may not be enough.
fn stands_still(domain: &DomainFacts) -> Option<String> {
    let name = &domain.name;
    let why = match domain.reason? {
        StateReason::IoError => {
            let ownership = domain.config.ownership.as_ref();
            let pool = ownership.and_then(|o| Some(&o.disk.as_ref()?.volume.pool));
            let room = pool.map_or_else(String::new, |pool| {
                format!(", `virsh pool-info {pool}` the space that is left")
            });
            format!(
                "the storage gave an error, and QEMU paused the guest; a full pool is the usual reason. `virsh domblkerror \
                 {name}` shows the disk{room}. Resumed before that is mended, it pauses again"
            )
        }
        StateReason::Panicked => {
            "the guest's kernel panicked; the definition keeps its memory for whoever examines it"
                .into()
        }
        StateReason::Watchdog => "the watchdog of the guest paused it".into(),
        StateReason::Crashed
        | StateReason::StartFailed
        | StateReason::Saved
        | StateReason::Migrated
        | StateReason::StartingUp
        | StateReason::Saving
        | StateReason::Migrating
        | StateReason::Dumping
        | StateReason::Snapshotting => return None,
    };
    Some(why)
}

/// Where a definition has the seed.
struct SeedDrive {
    /// `None`: there is no drive for it.
    drive: Option<Drive>,
    /// Whether the seed that is wanted is in it.
    holds: bool,
}

/// The differences as they are found, and which steps they need.
struct Update<'a> {
    domain: &'a DomainFacts,
    machine: &'a ObservedMachine,
    parts: &'a Parts,
    guest: &'a GuestPart,
    changes: Vec<Change>,
    /// Whether the domain is to be redefined.
    define: bool,
    /// At the next start.
    config_drive: SeedDrive,
    /// Of the running guest; `None`: it does not run.
    live_drive: Option<SeedDrive>,
    /// Whether the saved definition is to have another machine.
    other_machine: bool,
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
    fn facts(&mut self, desired: &Desired, observed: &Observed) {
        let DomainSpec {
            name: _,
            kind,
            architecture: _,
            machine,
            memory_mib,
            vcpus,
            interfaces,
        } = &desired.domain;
        let moves = adopt::address_changes(desired, observed, self.domain);
        self.changes.extend(if moves.is_empty() {
            address_changes(desired, self.domain)
        } else {
            moves
        });
        let memory = Value::Memory(*memory_mib);
        self.compare(Subject::Memory, &memory, &|d| mib(d.memory_kib));
        self.compare(Subject::Vcpus, &count(*vcpus), &|d| count(d.vcpus));
        self.compare(Subject::DomainType, &kind.as_str().into(), &|d| {
            d.domain_type.as_str().into()
        });
        if let (true, ObservedMachine::Named(full)) = (desired.machine_given, self.machine) {
            self.other_machine = !same_machine(&self.domain.config.machine, machine, full);
            self.compare(Subject::Machine, &machine.as_str().into(), &|d| {
                if same_machine(&d.machine, machine, full) {
                    machine.as_str().into()
                } else {
                    d.machine.as_str().into()
                }
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
        } else if self.parts.seed.write.is_empty()
            && !(self.config_drive.holds && self.live_drive.as_ref().is_none_or(|d| d.holds))
        {
            // A drive cannot be added to a running guest.
            let class = match &self.live_drive {
                Some(SeedDrive { drive: None, .. }) => Class::Restart,
                _ => Class::Live,
            };
            self.push(Subject::Seed, Condition::NotInDrive, at, class);
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
        if self.config_drive.holds {
            for at in &self.parts.seed.stale {
                self.push(Subject::LeftoverSeed, at, Condition::Deleted, Class::Live);
            }
        }
    }

    /// What somebody added, and the new definition cannot keep.
    fn losses(&mut self, desired: &Desired) {
        if self.define {
            for edit::Loss { what, was } in edit::losses(&self.existing(), &desired.domain) {
                let subject = Subject::Edited(what);
                self.push(subject, was, Condition::Removed, Class::Live);
            }
        }
    }

    /// What the domain has and is changed.
    fn existing(&self) -> Existing {
        Existing {
            xml: self.domain.config_xml.clone(),
            root: self.parts.disk.target.clone(),
            drive: self.config_drive.drive.as_ref().map(|d| d.target.clone()),
            other_machine: self.other_machine,
        }
    }

    fn state(&mut self) {
        if !self.domain.autostart {
            let (from, to) = (Condition::Off, Condition::On);
            self.push(Subject::Autostart, from, to, Class::Live);
        }
        let class = match self.domain.state {
            DomainState::Running | DomainState::ShuttingDown => return,
            // Whoever wants its memory kept has said so in the definition.
            DomainState::Crashed => Class::Restart,
            DomainState::Paused | DomainState::Suspended | DomainState::ShutOff => Class::Live,
        };
        let from = Value::State(self.domain.state, self.domain.reason);
        let to = Value::State(DomainState::Running, None);
        self.push(Subject::State, from, to, class);
    }

    /// The guest that stands still goes on.
    fn resume(&self) -> Step {
        let domain = self.domain.name.clone();
        if self.domain.state == DomainState::Suspended {
            Step::Wake { domain }
        } else {
            Step::Resume { domain }
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

    /// Another VM takes the shared address before the guest is restarted, so that cuts nobody.
    fn hand_over(&mut self) {
        for change in &mut self.changes {
            if matches!(change.class, Class::Restart | Class::Replace) {
                change.class = Class::Handover;
            }
        }
    }

    /// A guest that runs keeps its disk until it may be stopped.
    fn disk_steps(&self, restart: Restart) -> DiskSteps {
        let disk = &self.parts.disk;
        if !disk.anew {
            return DiskSteps {
                of_any: disk.steps.clone(),
                ..DiskSteps::default()
            };
        }
        let stop = match (&self.domain.live, restart) {
            (None, _) => None,
            (Some(_), Restart::Later) => return DiskSteps::default(),
            (Some(live), Restart::Now { deadline }) => Some(Step::Stop {
                domain: self.domain.name.clone(),
                run: live.run,
                deadline,
            }),
        };
        let is_image = |step: &Step| matches!(step, Step::BringImage(_));
        let (image, anew) = disk.steps.iter().cloned().partition(is_image);
        DiskSteps {
            image,
            stop,
            anew,
            of_any: Vec::new(),
        }
    }

    /// `step_back`: what comes before a restart, where the guest shares an address.
    fn steps(&self, desired: &Desired, restart: Restart, step_back: Option<Step>) -> Vec<Step> {
        let (domain, parts) = (self.domain.name.clone(), self.parts);
        let needs_restart = self.changes.iter().any(|c| c.class.boots());
        let restarts = needs_restart && matches!(restart, Restart::Now { .. });
        let run = self.domain.live.as_ref().map(|live| live.run);
        let disk = self.disk_steps(restart);
        // What is brought may take longer than a VM stays back.
        let mut steps = disk.image;
        // Before anything is written: where no other VM takes the address, nothing is changed.
        steps.extend(step_back.filter(|_| restarts));
        steps.extend(disk.of_any);
        steps.extend(parts.seed.write.iter().cloned());
        steps.extend(disk.stop);
        steps.extend(disk.anew);
        if !restarts {
            // Before anything refers to the new seed: a guest that refuses leaves everything
            // unchanged.
            let new_seed = (!parts.seed.write.is_empty()).then(|| parts.seed.at.clone());
            if self.guest.converge {
                let seed = &desired.seed;
                steps.extend(guest::converge(
                    self.domain,
                    seed,
                    Extent::All,
                    &[],
                    new_seed,
                ));
            }
        }
        if self.define {
            let existing = Some(self.existing());
            steps.push(parts.define(&desired.domain, existing, Vec::new()));
        }
        // Its record names each entry by now, so lbctl knows it again.
        steps.extend(parts.network.reserve.clone());
        if !self.domain.autostart {
            let domain = domain.clone();
            steps.push(Step::SetAutostart { domain, on: true });
        }
        match restart {
            _ if run.is_none() || parts.disk.anew && restarts => {
                steps.push(Step::Start { domain });
            }
            Restart::Now { deadline } if restarts => {
                let fallback = self.domain.config_xml.clone();
                steps.push(Step::Restart {
                    domain,
                    run: run.flatten(),
                    deadline,
                    fallback,
                });
            }
            Restart::Now { .. } | Restart::Later => {
                if let Some(SeedDrive {
                    drive: Some(drive),
                    holds: false,
                }) = &self.live_drive
                {
                    steps.push(Step::SwapMedium {
                        domain: domain.clone(),
                        seed: parts.ownership.seed.clone(),
                        drives: Drives {
                            config: None,
                            live: Some(drive.clone()),
                        },
                    });
                }
                steps.extend(self.noted());
                if is_paused(self.domain) {
                    steps.push(self.resume());
                }
            }
        }
        steps.extend(parts.cleaning(&self.domain.name));
        steps
    }
}

/// What is done to the disk, and when.
#[derive(Default)]
struct DiskSteps {
    image: Vec<Step>,
    /// Whether the guest runs or not.
    of_any: Vec<Step>,
    stop: Option<Step>,
    /// While the guest is off.
    anew: Vec<Step>,
}

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

//! A libvirt host in memory, with a switch that stops it after a number of changes, as a killed
//! lbctl would. It judges nothing: what libvirt would refuse (a name that is taken, a volume that
//! is not there) it refuses too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lbctl::testing::config::{NetworkRef, VolumeRef};
use lbctl::testing::host::ownership::Ownership;
use lbctl::testing::host::{
    AgentChannel, Claims, CloneSpec, Definition, DomainFacts, DomainState, HostEntry, HostError,
    HostErrorKind, HostReader, HostResult, HostWriter, Lease, NetworkFacts, NetworkId, Scope,
    Source, StopBy, Subnet, VolumeFacts, VolumeState,
};
use lbctl::testing::render::GuestSpec;
use lbctl::testing::seed::{FoundSeed, SeedContent, recognise};
use serde_json::{Value, json};

use super::unpacked;

pub const NETWORK: &str = "lab";
const UUID: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Debug, Clone, PartialEq)]
struct Volume {
    capacity: u64,
    format: String,
    backing: Option<String>,
    content: Vec<u8>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Domain {
    config: String,
    live: Option<String>,
    /// The spec that the running guest follows, as JSON.
    guest: Option<String>,
    autostart: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct State {
    volumes: BTreeMap<VolumeRef, Volume>,
    domains: BTreeMap<String, Domain>,
    saved: Vec<HostEntry>,
    live: Vec<HostEntry>,
}

/// Somebody else who works on the host.
pub type Visitor = fn(&MemoryHost);

#[derive(Debug)]
pub struct MemoryHost {
    state: RefCell<State>,
    changes: Cell<usize>,
    stop_at: Cell<Option<usize>>,
    /// Somebody who comes before a change.
    visit: Cell<Option<(usize, Visitor)>>,
    /// What the guest answers to every change; `None`: it does it.
    refusal: RefCell<Option<String>>,
}

impl PartialEq for MemoryHost {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

/// Where a volume of a directory pool is.
pub fn path(at: &VolumeRef) -> String {
    format!("/pools/{at}")
}

impl MemoryHost {
    /// With a base image, and nothing else.
    pub fn new() -> Self {
        let base = Volume {
            capacity: 2 << 30,
            format: "qcow2".into(),
            backing: None,
            content: Vec::new(),
        };
        let at = VolumeRef {
            pool: "os".into(),
            name: "base".into(),
        };
        let state = State {
            volumes: BTreeMap::from([(at, base)]),
            ..State::default()
        };
        Self {
            state: RefCell::new(state),
            changes: Cell::new(0),
            stop_at: Cell::new(None),
            visit: Cell::new(None),
            refusal: RefCell::new(None),
        }
    }

    /// The guest refuses every change from now on.
    pub fn refuse(&self, why: &str) {
        *self.refusal.borrow_mut() = Some(why.into());
    }

    /// Another host in the same state.
    pub fn clone_state(&self) -> Self {
        let copy = Self::new();
        copy.state.replace(self.state.borrow().clone());
        copy
    }

    /// Changes made so far.
    pub fn changes(&self) -> usize {
        self.changes.get()
    }

    /// Fails every change after that many more.
    pub fn stop_after(&self, more: usize) {
        self.stop_at.set(Some(self.changes.get() + more));
    }

    /// Lets another run change the host after that many more changes, before the next.
    pub fn visit_after(&self, more: usize, visitor: Visitor) {
        self.visit.set(Some((self.changes.get() + more, visitor)));
    }

    pub fn go_on(&self) {
        self.stop_at.set(None);
    }

    /// What the running guest follows.
    pub fn guest(&self, name: &str) -> Option<String> {
        self.state.borrow().domains.get(name)?.guest.clone()
    }

    /// What it would follow after a restart.
    pub fn seed_of_next_boot(&self, name: &str) -> Option<FoundSeed> {
        let state = self.state.borrow();
        seed_in_drive(&state.domains.get(name)?.config, &state.volumes)
    }

    /// Another base image.
    pub fn add_base(&self, at: VolumeRef) {
        let mut state = self.state.borrow_mut();
        let base = state.volumes.values().next().unwrap().clone();
        state.volumes.insert(at, base);
    }

    pub fn volumes(&self) -> usize {
        self.state.borrow().volumes.len()
    }

    fn change<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut State) -> Result<T, &'static str>,
    ) -> HostResult<T> {
        let failed = |said: &str| HostError::new(HostErrorKind::Other, what, said);
        if self
            .stop_at
            .get()
            .is_some_and(|at| self.changes.get() >= at)
        {
            return Err(failed("stopped here"));
        }
        if let Some((at, visitor)) = self.visit.get()
            && at == self.changes.get()
        {
            self.visit.set(None);
            visitor(self);
        }
        let done = work(&mut self.state.borrow_mut()).map_err(failed)?;
        self.changes.set(self.changes.get() + 1);
        Ok(done)
    }

    fn domain_change(
        &self,
        name: &str,
        work: impl FnOnce(&mut Domain) -> Result<(), &'static str>,
    ) -> HostResult<()> {
        self.change("changing a domain", |s| {
            work(s.domains.get_mut(name).ok_or("no domain")?)
        })
    }
}

fn facts(at: &VolumeRef, volume: &Volume) -> VolumeFacts {
    VolumeFacts {
        at: at.clone(),
        key: path(at),
        source: Source::File(path(at)),
        capacity: volume.capacity,
        allocation: 0,
        format: volume.format.clone(),
        backing: volume.backing.clone(),
        mode: Some(0o600),
    }
}

impl HostReader for MemoryHost {
    fn architecture(&self) -> HostResult<String> {
        Ok("x86_64".into())
    }

    fn offers_kvm(&self, _: &str) -> HostResult<bool> {
        Ok(true)
    }

    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>> {
        let state = self.state.borrow();
        Ok(state.domains.get(name).map(|domain| DomainFacts {
            name: name.into(),
            uuid: UUID.into(),
            state: if domain.live.is_some() {
                DomainState::Running
            } else {
                DomainState::ShutOff
            },
            autostart: domain.autostart,
            persistent: true,
            config: Definition::parse(&domain.config).unwrap(),
            config_xml: domain.config.clone(),
            live: domain
                .live
                .as_ref()
                .map(|xml| Definition::parse(xml).unwrap()),
        }))
    }

    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>> {
        let state = self.state.borrow();
        let others = state.domains.iter().filter(|(name, _)| !but.contains(name));
        let claims = others.map(|(name, domain)| {
            let read = Definition::parse(&domain.config).unwrap();
            Claims {
                domain: name.clone(),
                macs: read.interfaces.iter().map(|i| i.mac).collect(),
                disks: read.disks.into_iter().filter_map(|d| d.source).collect(),
            }
        });
        Ok(claims.collect())
    }

    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState> {
        let state = self.state.borrow();
        let found = state
            .volumes
            .get(at)
            .map(|volume| Box::new(facts(at, volume)));
        Ok(found.map_or(VolumeState::Absent, VolumeState::Present))
    }

    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState> {
        let (pool, name) = id.split_once('/').unwrap();
        let (pool, name) = (pool.into(), name.into());
        self.volume(&VolumeRef { pool, name })
    }

    fn read_volume(&self, at: &VolumeRef, _: u64) -> HostResult<Vec<u8>> {
        let state = self.state.borrow();
        let found = state.volumes.get(at).map(|volume| volume.content.clone());
        found.ok_or_else(|| HostError::new(HostErrorKind::NotFound, "reading", "no volume"))
    }

    fn network(&self, _: &NetworkRef) -> HostResult<Option<NetworkFacts>> {
        let state = self.state.borrow();
        Ok(Some(NetworkFacts {
            id: NetworkId {
                name: NETWORK.into(),
                uuid: UUID.into(),
            },
            active: true,
            persistent: true,
            subnets: vec![Subnet {
                address: "192.0.2.1".parse().unwrap(),
                prefix_length: 24,
                dhcp: true,
            }],
            reservations: state.saved.clone(),
            live_reservations: state.live.clone(),
        }))
    }

    fn leases(&self, _: &NetworkId) -> HostResult<Vec<Lease>> {
        Ok(Vec::new())
    }

    fn has_device(&self, _: &str) -> HostResult<Option<bool>> {
        Ok(None)
    }
}

impl HostWriter for MemoryHost {
    fn add_reservation(&self, _: &NetworkId, entry: &HostEntry, scope: Scope) -> HostResult<()> {
        self.change("reserving", |s| {
            for (wanted, list) in [(scope.config, &mut s.saved), (scope.live, &mut s.live)] {
                if wanted && list.iter().any(|e| e.ip == entry.ip || e.mac == entry.mac) {
                    return Err("there is such an entry");
                }
                list.extend(wanted.then(|| entry.clone()));
            }
            Ok(())
        })
    }

    fn remove_reservation(&self, _: &NetworkId, entry: &HostEntry, scope: Scope) -> HostResult<()> {
        self.change("releasing", |s| {
            for (wanted, list) in [(scope.config, &mut s.saved), (scope.live, &mut s.live)] {
                if wanted && !list.contains(entry) {
                    return Err("there is no such entry");
                }
                list.retain(|e| !wanted || e != entry);
            }
            Ok(())
        })
    }

    fn clone_volume(&self, spec: &CloneSpec) -> HostResult<()> {
        self.change("cloning", |s| {
            let volume = Volume {
                capacity: spec.capacity,
                format: spec.format.into(),
                backing: Some(path(&spec.base)),
                content: Vec::new(),
            };
            match s.volumes.insert(spec.volume.clone(), volume) {
                Some(_) => Err("there is such a volume"),
                None => Ok(()),
            }
        })
    }

    fn grow_volume(&self, at: &VolumeRef, capacity: u64) -> HostResult<()> {
        self.change("growing", |s| {
            s.volumes.get_mut(at).ok_or("no volume")?.capacity = capacity;
            Ok(())
        })
    }

    fn grow_live_disk(&self, _: &str, _: &str, _: u64) -> HostResult<()> {
        self.change("growing", |_| Ok(()))
    }

    fn create_volume(&self, at: &VolumeRef, content: &[u8]) -> HostResult<()> {
        self.change("uploading", |s| {
            let volume = Volume {
                capacity: content.len() as u64,
                format: "raw".into(),
                backing: None,
                content: content.to_vec(),
            };
            match s.volumes.insert(at.clone(), volume) {
                Some(_) => Err("there is such a volume"),
                None => Ok(()),
            }
        })
    }

    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()> {
        self.change("deleting", |s| {
            s.volumes.remove(at).map(drop).ok_or("no volume")
        })
    }

    fn define(&self, name: &str, xml: &str) -> HostResult<()> {
        self.change("defining", |s| {
            if s.domains.contains_key(name) && !xml.contains("<uuid>") {
                return Err("there is such a domain");
            }
            let before = s.domains.remove(name);
            let before = before.unwrap_or_default();
            let config = xml.to_owned();
            s.domains.insert(name.into(), Domain { config, ..before });
            Ok(())
        })
    }

    fn undefine(&self, name: &str) -> HostResult<()> {
        self.change("undefining", |s| {
            s.domains.remove(name).map(drop).ok_or("no domain")
        })
    }

    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()> {
        self.domain_change(name, |d| {
            d.autostart = on;
            Ok(())
        })
    }

    fn start(&self, name: &str) -> HostResult<()> {
        self.change("starting", |s| {
            let domain = s.domains.get_mut(name).ok_or("no domain")?;
            if domain.live.is_some() {
                return Err("it runs");
            }
            domain.live = Some(domain.config.clone());
            let booted = seed_in_drive(&domain.config, &s.volumes).ok_or("no whole seed")?;
            domain.guest = Some(booted.guest.unwrap().to_json().expose().to_owned());
            Ok(())
        })
    }

    fn resume(&self, name: &str) -> HostResult<()> {
        self.domain_change(name, |_| Ok(()))
    }

    fn request_shutdown(&self, name: &str, _: StopBy) -> HostResult<()> {
        self.power_off(name)
    }

    fn power_off(&self, name: &str) -> HostResult<()> {
        self.domain_change(name, |d| {
            d.guest = None;
            d.live.take().map(drop).ok_or("it does not run")
        })
    }

    fn update_device(&self, name: &str, xml: &str, scope: Scope) -> HostResult<()> {
        self.domain_change(name, |d| {
            let live = d.live.as_mut().filter(|_| scope.live);
            for definition in live
                .into_iter()
                .chain(scope.config.then_some(&mut d.config))
            {
                *definition = with_drive(definition, xml);
            }
            Ok(())
        })
    }

    fn set_ownership(&self, name: &str, ownership: &Ownership, scope: Scope) -> HostResult<()> {
        self.domain_change(name, |d| {
            let live = d.live.as_mut().filter(|_| scope.live);
            for definition in live
                .into_iter()
                .chain(scope.config.then_some(&mut d.config))
            {
                let (start, end) = (
                    definition.find("<lbctl:mark").unwrap(),
                    definition.find("</lbctl:mark>").unwrap() + "</lbctl:mark>".len(),
                );
                definition.replace_range(start..end, &ownership.to_xml());
            }
            Ok(())
        })
    }
}

/// What the drive of a definition holds.
fn seed_in_drive(definition: &str, volumes: &BTreeMap<VolumeRef, Volume>) -> Option<FoundSeed> {
    let definition = Definition::parse(definition).unwrap();
    let source = definition.cdroms().next()?.source.as_ref()?.to_string();
    let (_, volume) = volumes.iter().find(|(at, _)| path(at) == source)?;
    match recognise(&volume.content, "lb-1") {
        SeedContent::Ours(found) => Some(*found),
        _ => None,
    }
}

/// A definition with another CD-ROM drive.
fn with_drive(definition: &str, drive: &str) -> String {
    let start = definition.find(r#"<disk type="file" device="cdrom">"#);
    let start = start.unwrap_or_else(|| panic!("no drive in {definition}"));
    let end = start + definition[start..].find("</disk>").unwrap() + "</disk>".len();
    format!("{}{drive}{}", &definition[..start], &definition[end..])
}

/// The spec that a guest follows after a task: all of the new one, or only the files named.
fn followed(before: &str, task: &Value) -> String {
    let wanted = &task["spec"];
    let only = task["only"].as_array().unwrap();
    let mut spec: Value = serde_json::from_str(before).unwrap();
    if only.is_empty() {
        spec = wanted.clone();
    }
    for file in spec["files"].as_array_mut().unwrap() {
        let new = wanted["files"].as_array().unwrap().iter();
        let mut new = new.filter(|f| f["path"] == file["path"] && only.contains(&f["path"]));
        if let Some(new) = new.next() {
            *file = new.clone();
        }
    }
    GuestSpec::from_json(spec.to_string().as_bytes())
        .unwrap()
        .to_json()
        .expose()
        .to_owned()
}

/// A guest agent whose guest does what lbctl's program there does: it follows the spec. One command
/// runs at a time.
impl AgentChannel for MemoryHost {
    fn agent(&self, domain: &str, command: &str, _: Duration) -> HostResult<String> {
        let command: Value = serde_json::from_str(command).unwrap();
        let answer = match command["execute"].as_str().unwrap() {
            "guest-info" => json!({"supported_commands": [
                {"name": "guest-exec", "enabled": true},
                {"name": "guest-exec-status", "enabled": true},
            ]}),
            "guest-exec" => {
                let input = command["arguments"]["input-data"].as_str().unwrap();
                let task = unpacked(input);
                if self.refusal.borrow().is_none() {
                    self.domain_change(domain, |d| {
                        d.guest = Some(followed(d.guest.as_deref().unwrap(), &task));
                        Ok(())
                    })?;
                }
                json!({"pid": 1})
            }
            "guest-exec-status" => {
                let answer = match &*self.refusal.borrow() {
                    None => json!({"ok": true}),
                    Some(why) => json!({"ok": false, "error": why, "restored": true}),
                };
                json!({"exited": true, "exitcode": 0, "out-data": BASE64.encode(answer.to_string())})
            }
            other => panic!("the guest agent was asked to {other}"),
        };
        Ok(json!({ "return": answer }).to_string())
    }
}

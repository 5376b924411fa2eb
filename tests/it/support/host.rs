//! A libvirt host in memory, with a switch that stops it after a number of changes, as a killed
//! lbctl would. It judges nothing: what libvirt would refuse (a name that is taken, a volume that
//! is not there) it refuses too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lbctl::testing::config::{MacAddr, NetworkRef, VolumeRef};
use lbctl::testing::host::ownership::Ownership;
use lbctl::testing::host::{
    AgentChannel, BridgeFacts, Claims, CloneSpec, Definition, DeviceState, DomainFacts,
    DomainState, HostEntry, HostError, HostErrorKind, HostReader, HostResult, HostWriter, Lease,
    Listed, NetworkFacts, NetworkId, Node, RunState, SavedState, Scope, Snapshot, Source,
    StateReason, StopBy, Subnet, VolumeFacts, VolumeState,
};
use lbctl::testing::image::Image;
use lbctl::testing::render::GuestSpec;
use lbctl::testing::secret::Secret;
use lbctl::testing::seed::{FoundSeed, SeedContent, recognise};
use serde_json::{Value, json};

use super::unpacked;

pub const NETWORK: &str = "lab";
/// What no lbctl has written.
pub const FOREIGN_SEED: &[u8] = b"a seed of somebody else's";
/// A pool of logical volumes: block devices of whole extents, whose size never changes.
pub const LVM: &str = "vg";
/// Larger than any seed. Bytes.
const EXTENT: u64 = 32 << 20;
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
    /// The live definition in a managed save.
    saved: Option<String>,
    /// The live definition in each snapshot, by its name.
    snapshots: BTreeMap<String, String>,
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

/// What one host has otherwise than another, in the form in which its libvirt shows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Site {
    /// Aliases of machines, each with the name that libvirt writes in its place. Where there is
    /// one, the host has no other machine.
    pub machines: &'static [(&'static str, &'static str)],
    /// An interface of the network while a guest runs: type, and what stands in the place of its
    /// source. `None`: as it is defined.
    pub running: Option<(&'static str, &'static str)>,
    /// The devices of the network.
    pub devices: &'static [&'static str],
}

impl Site {
    fn machine(&self, name: &str) -> Option<&'static str> {
        let named = |(alias, full): &&(&str, &str)| *alias == name || *full == name;
        self.machines.iter().find(named).map(|(_, full)| *full)
    }

    fn defined(&self, xml: String) -> String {
        let named = |xml: String, (alias, full): &(&str, &str)| {
            xml.replace(
                &format!("machine=\"{alias}\""),
                &format!("machine=\"{full}\""),
            )
        };
        self.machines.iter().fold(xml, named)
    }

    fn running(&self, xml: &str) -> String {
        let Some((kind, source)) = self.running else {
            return xml.to_owned();
        };
        let defined = format!("<source network=\"{NETWORK}\"/>");
        assert!(xml.contains(&defined), "{xml}");
        xml.replace(&defined, source).replace(
            "<interface type=\"network\"",
            &format!("<interface type=\"{kind}\""),
        )
    }
}

/// Somebody else who works on the host.
pub type Visitor = fn(&MemoryHost);

#[derive(Debug)]
pub struct MemoryHost {
    state: RefCell<State>,
    site: Cell<Site>,
    changes: Cell<usize>,
    stop_at: Cell<Option<usize>>,
    /// Of two things that are done at the same time, the second is done first.
    backwards: Cell<bool>,
    /// Somebody who comes before a change.
    visit: Cell<Option<(usize, Visitor)>>,
    /// What the guest answers to every change; `None`: it does it.
    refusal: RefCell<Option<String>>,
    /// A volume that is listed before its file is there, and for how many more looks.
    unwritten: RefCell<Option<(VolumeRef, usize)>>,
    /// For how many more looks a domain that runs is just being started.
    starting: Cell<usize>,
    /// Another VM that takes the shared address when the guest steps back; `None`: none does.
    taker: RefCell<Option<String>>,
    /// Whether the guest has the shared address, which it gives away and may get back so many
    /// times.
    held: Cell<bool>,
    returns: Cell<usize>,
    /// Of clients that came by the shared address.
    sessions: Cell<u64>,
    /// What the guest's program was asked, in this order.
    asked: RefCell<Vec<String>>,
}

impl PartialEq for MemoryHost {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

/// Where a volume is.
pub fn path(at: &VolumeRef) -> String {
    let folder = if at.pool == LVM { "/dev" } else { "/pools" };
    format!("{folder}/{at}")
}

/// What libvirt says of a size that something was made with.
fn made_of(at: &VolumeRef, size: u64) -> u64 {
    if at.pool == LVM {
        size.next_multiple_of(EXTENT)
    } else {
        size
    }
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
            site: Cell::default(),
            changes: Cell::new(0),
            stop_at: Cell::new(None),
            backwards: Cell::new(false),
            visit: Cell::new(None),
            refusal: RefCell::new(None),
            unwritten: RefCell::new(None),
            starting: Cell::new(0),
            taker: RefCell::new(None),
            held: Cell::new(true),
            returns: Cell::new(0),
            sessions: Cell::new(0),
            asked: RefCell::new(Vec::new()),
        }
    }

    /// Which VM takes the shared address from the guest, by its own address.
    pub fn takes_the_address(&self, taker: Option<&str>) {
        *self.taker.borrow_mut() = taker.map(str::to_owned);
    }

    /// So many clients are connected by the shared address, and stay.
    pub fn has_sessions(&self, sessions: u64) {
        self.sessions.set(sessions);
    }

    /// The VM that takes the address loses it again, so many times.
    pub fn gets_the_address_back(&self, times: usize) {
        self.returns.set(times);
    }

    pub fn asked_of_the_guest(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    /// What lbctl's program in the guest answers.
    fn said(&self, asked: &str) -> Value {
        let taker = self.taker.borrow();
        match (asked, taker.as_deref()) {
            ("yield", Some(_)) => self.held.set(false),
            ("status", _) if !self.held.get() && self.returns.get() > 0 => {
                self.returns.set(self.returns.get() - 1);
                self.held.set(true);
            }
            _ => {}
        }
        match (asked, taker.as_deref()) {
            ("status", _) => json!({"virtual_ip": {
                "address": "192.0.2.30", "held": self.held.get(), "weight": 0, "sessions": self.sessions.get(), "peers": [],
            }}),
            ("unyield", _) => json!({"ok": true}),
            ("yield", Some(taker)) => json!({"ok": true, "holder": taker}),
            ("yield", None) => json!({"ok": false, "error": "192.0.2.21 is not heard of"}),
            (other, _) => panic!("lbctl's program was asked to {other}"),
        }
    }

    /// What there is stays, and looks so from now on.
    pub fn is_at(&self, site: Site) {
        self.site.set(site);
    }

    /// The guest refuses every change from now on.
    pub fn refuse(&self, why: &str) {
        *self.refusal.borrow_mut() = Some(why.into());
    }

    /// A volume is listed, and its file is not there for so many looks, and when it is read.
    pub fn list_without_file(&self, at: &VolumeRef, looks: usize) {
        *self.unwritten.borrow_mut() = Some((at.clone(), looks));
    }

    /// What runs is just being started, for so many looks.
    pub fn start_slowly(&self, looks: usize) {
        self.starting.set(looks);
    }

    /// Another host in the same state.
    pub fn clone_state(&self) -> Self {
        let copy = Self::new();
        copy.state.replace(self.state.borrow().clone());
        copy.site.set(self.site.get());
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

    /// Somebody reserves the address for a machine of his.
    pub fn reserve_for_another(&self, ip: &str) {
        let entry = HostEntry {
            mac: Some(MacAddr::parse("52:54:00:aa:bb:cc").unwrap()),
            ip: ip.parse().unwrap(),
            name: Some("another".into()),
        };
        let mut state = self.state.borrow_mut();
        state.saved.push(entry.clone());
        state.live.push(entry);
    }

    /// What is done at the same time is done in the other order.
    pub fn backwards(&self) {
        self.backwards.set(true);
    }

    /// Somebody else's VM, which runs: its disk is a clone of the base volume, and its address is
    /// reserved.
    pub fn add_foreign(&self, xml: &str, disk: VolumeRef, seed: VolumeRef, entry: HostEntry) {
        let mut state = self.state.borrow_mut();
        let base = state.volumes.keys().next().unwrap().clone();
        let volume = |format: &str, backing, content: &[u8]| Volume {
            capacity: 10 << 30,
            format: format.into(),
            backing,
            content: content.to_vec(),
        };
        let clone = volume("qcow2", Some(path(&base)), b"what the guest has written");
        state.volumes.insert(disk, clone);
        state
            .volumes
            .insert(seed, volume("raw", None, FOREIGN_SEED));
        state.saved.push(entry.clone());
        state.live.push(entry);
        let domain = Domain {
            config: xml.into(),
            live: Some(xml.into()),
            autostart: true,
            ..Domain::default()
        };
        state.domains.insert("lb-1".into(), domain);
    }

    /// An operator saves the guest's memory.
    pub fn managed_save(&self, name: &str) {
        self.domain_change(name, |d| {
            d.saved = d.live.take();
            Ok(())
        })
        .unwrap();
    }

    /// An operator makes a snapshot of the running guest.
    pub fn take_snapshot(&self, name: &str, snapshot: &str) {
        self.domain_change(name, |d| {
            let live = d.live.clone().ok_or("it does not run")?;
            d.snapshots.insert(snapshot.to_owned(), live);
            Ok(())
        })
        .unwrap();
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

fn state_of(domain: &Domain) -> DomainState {
    if domain.live.is_some() {
        DomainState::Running
    } else {
        DomainState::ShutOff
    }
}

fn snapshot((name, xml): (&String, &String)) -> Snapshot {
    let disks = Definition::parse(xml).unwrap().disks.into_iter();
    Snapshot {
        name: name.clone(),
        disks: disks.filter_map(|d| d.source).collect(),
        files: Vec::new(),
    }
}

fn facts(at: &VolumeRef, volume: &Volume) -> VolumeFacts {
    let source = if at.pool == LVM {
        Source::Block(path(at))
    } else {
        Source::File(path(at))
    };
    VolumeFacts {
        at: at.clone(),
        key: path(at),
        source,
        capacity: volume.capacity,
        allocation: 0,
        format: volume.format.clone(),
        physical: None,
        backing: volume.backing.clone(),
        mode: Some(if volume.content == FOREIGN_SEED {
            0o644
        } else {
            0o600
        }),
    }
}

impl HostReader for MemoryHost {
    fn node(&self) -> HostResult<Node> {
        Ok(Node {
            architecture: "x86_64".into(),
            memory_kib: 64 << 20,
        })
    }

    fn machine(&self, _: &str, _: &str, name: &str) -> HostResult<Option<String>> {
        let site = self.site.get();
        let found = site.machine(name).map(String::from);
        Ok(found.or_else(|| site.machines.is_empty().then(|| name.into())))
    }

    fn would_accept(&self, xml: &str) -> HostResult<Result<(), String>> {
        Ok(Definition::parse(xml).map(drop))
    }

    fn names(&self, _: &Listed) -> Vec<String> {
        Vec::new()
    }

    fn offers_kvm(&self, _: &str) -> HostResult<bool> {
        Ok(true)
    }

    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>> {
        let state = self.state.borrow();
        let starting = self.starting.get() > 0;
        self.starting.set(self.starting.get().saturating_sub(1));
        Ok(state.domains.get(name).map(|domain| DomainFacts {
            name: name.into(),
            uuid: UUID.into(),
            state: match state_of(domain) {
                DomainState::Running if starting => DomainState::Paused,
                state => state,
            },
            reason: match &domain.saved {
                Some(_) => Some(StateReason::Saved),
                None => starting.then_some(StateReason::StartingUp),
            },
            autostart: domain.autostart,
            persistent: true,
            config: Definition::parse(&domain.config).unwrap(),
            config_xml: Secret::new(domain.config.clone()),
            live: domain
                .live
                .as_ref()
                .map(|xml| Definition::parse(xml).unwrap()),
            saved: domain.saved.as_ref().map(|xml| SavedState {
                definition: Some(Definition::parse(xml).unwrap()),
            }),
            snapshots: domain.snapshots.iter().map(snapshot).collect(),
        }))
    }

    fn run_state(&self, name: &str) -> HostResult<Option<RunState>> {
        let state = self.state.borrow();
        Ok(state.domains.get(name).map(|domain| RunState {
            state: state_of(domain),
            run: None,
        }))
    }

    fn checkpoints(&self, _: &str) -> HostResult<Vec<String>> {
        Ok(Vec::new())
    }

    fn saved_definition(&self, name: &str) -> HostResult<Option<Secret>> {
        let state = self.state.borrow();
        let domain = state.domains.get(name);
        Ok(domain.map(|domain| Secret::new(domain.config.clone())))
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
        if let Some((unwritten, looks)) = &mut *self.unwritten.borrow_mut()
            && unwritten == at
            && *looks > 0
        {
            *looks -= 1;
            return Ok(VolumeState::Vanished);
        }
        let state = self.state.borrow();
        let found = state
            .volumes
            .get(at)
            .map(|volume| Box::new(facts(at, volume)));
        Ok(found.map_or(VolumeState::Absent, VolumeState::Present))
    }

    fn pool_folder(&self, pool: &str) -> HostResult<Option<String>> {
        Ok(Some(format!("/pools/{pool}")))
    }

    fn pool_type(&self, name: &str) -> HostResult<Option<String>> {
        let kind = if name == LVM { "logical" } else { "dir" };
        Ok(Some(kind.into()))
    }

    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState> {
        let path = ["/pools/", "/dev/"].iter().find_map(|p| id.strip_prefix(p));
        let id = path.unwrap_or(id);
        let (pool, name) = id.split_once('/').unwrap();
        let (pool, name) = (pool.into(), name.into());
        self.volume(&VolumeRef { pool, name })
    }

    fn read_volume(&self, at: &VolumeRef, length: u64) -> HostResult<Vec<u8>> {
        let without_file = self.unwritten.borrow();
        let has_file = without_file.as_ref().is_none_or(|(gone, _)| gone != at);
        let state = self.state.borrow();
        let found = state.volumes.get(at).filter(|_| has_file).map(|volume| {
            let mut content = volume.content.clone();
            if at.pool == LVM {
                let whole = length.min(volume.capacity);
                content.resize(usize::try_from(whole).unwrap(), 0);
            }
            content
        });
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
            // The second one is that of the lab which the demo shows.
            subnets: ["192.0.2.1", "192.168.150.1"]
                .map(|address| Subnet {
                    address: address.parse().unwrap(),
                    prefix_length: 24,
                    dhcp: true,
                    ranges: Vec::new(),
                })
                .into(),
            own_bridge: self.site.get().running.is_none(),
            devices: self
                .site
                .get()
                .devices
                .iter()
                .map(|d| (*d).into())
                .collect(),
            mac: None,
            ports: None,
            reservations: state.saved.clone(),
            live_reservations: state.live.clone(),
        }))
    }

    fn leases(&self, _: &NetworkId) -> HostResult<Vec<Lease>> {
        Ok(Vec::new())
    }

    fn device(&self, _: &str) -> HostResult<DeviceState> {
        Ok(DeviceState::Unknown)
    }

    fn bridge(&self, _: &str) -> HostResult<BridgeFacts> {
        Ok(BridgeFacts::default())
    }
}

impl HostWriter for MemoryHost {
    fn together<A: Send, B>(
        &self,
        one: impl FnOnce(&Self) -> A + Send,
        other: impl FnOnce(&Self) -> B,
    ) -> (A, B) {
        if self.backwards.get() {
            let other = other(self);
            return (one(self), other);
        }
        (one(self), other(self))
    }

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
                capacity: made_of(&spec.volume, spec.capacity),
                format: spec.format.into(),
                backing: (spec.format == "qcow2").then(|| path(&spec.base)),
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
            if at.pool == LVM {
                return Err("storage pool does not support changing of volume capacity");
            }
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
                capacity: made_of(at, content.len() as u64),
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

    fn upload_image(
        &self,
        at: &VolumeRef,
        image: &mut Image,
        part: &mut dyn FnMut(u64) -> bool,
    ) -> HostResult<()> {
        let mut body = vec![0; usize::try_from(image.body().1).unwrap()];
        let mut filled = 0;
        while filled < body.len() && part(filled as u64) {
            filled += image.read(&mut body[filled..]).unwrap();
        }
        let mut content = image.head().map_err(|error| {
            HostError::new(HostErrorKind::Other, "uploading", error.to_string())
        })?;
        let content = [std::mem::take(&mut content), &body[..]].concat();
        let capacity = image.capacity();
        self.change("uploading", |s| {
            let volume = Volume {
                capacity,
                format: "qcow2".into(),
                backing: None,
                content,
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
            let name_ends = "</name>";
            let config = if xml.contains("<uuid>") {
                xml.to_owned()
            } else {
                xml.replace(name_ends, &format!("{name_ends}\n  <uuid>{UUID}</uuid>"))
            };
            let config = self.site.get().defined(config);
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
            if let Some(saved) = domain.saved.take() {
                // It goes on as it was, and opens what it had open.
                seed_in_drive(&saved, &s.volumes).ok_or("no file of the saved state's seed")?;
                domain.live = Some(saved);
                return Ok(());
            }
            domain.live = Some(self.site.get().running(&domain.config));
            let booted = seed_in_drive(&domain.config, &s.volumes).ok_or("no whole seed")?;
            domain.guest = Some(booted.guest.unwrap().to_json().expose().to_owned());
            Ok(())
        })
    }

    fn resume(&self, name: &str) -> HostResult<()> {
        self.domain_change(name, |_| Ok(()))
    }

    fn wake(&self, name: &str) -> HostResult<()> {
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
                let record = ownership.to_xml();
                let Some(start) = definition.find("<lbctl:mark") else {
                    let metadata = format!("</name><metadata>{record}</metadata>");
                    *definition = definition.replacen("</name>", &metadata, 1);
                    continue;
                };
                let end = "</lbctl:mark>";
                let end = definition.find(end).unwrap() + end.len();
                definition.replace_range(start..end, &record);
            }
            Ok(())
        })
    }
}

/// What the drive of a definition holds.
fn seed_in_drive(definition: &str, volumes: &BTreeMap<VolumeRef, Volume>) -> Option<FoundSeed> {
    let (_, name) = definition.split_once("<name>")?;
    let (name, _) = name.split_once("</name>")?;
    let definition = Definition::parse(definition).unwrap();
    let source = definition.cdroms().next()?.source.as_ref()?.to_string();
    let (_, volume) = volumes.iter().find(|(at, _)| path(at) == source)?;
    match recognise(&volume.content, name) {
        SeedContent::Ours(found) => Some(*found),
        _ => None,
    }
}

/// A definition with another CD-ROM drive.
fn with_drive(definition: &str, drive: &str) -> String {
    let device = definition.find(r#" device="cdrom">"#);
    let device = device.unwrap_or_else(|| panic!("no drive in {definition}"));
    let start = definition[..device].rfind("<disk ").unwrap();
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
            "guest-exec" if command["arguments"].get("input-data").is_none() => {
                let asked = command["arguments"]["arg"][0].as_str().unwrap();
                self.asked.borrow_mut().push(asked.to_owned());
                json!({"pid": 2})
            }
            "guest-exec-status" if command["arguments"]["pid"] == 2 => {
                let answer = self.said(self.asked.borrow().last().unwrap());
                json!({"exited": true, "exitcode": 0, "out-data": BASE64.encode(answer.to_string())})
            }
            "guest-exec" => {
                let input = command["arguments"]["input-data"].as_str().unwrap();
                let task = unpacked(input);
                if self.refusal.borrow().is_none() {
                    self.domain_change(domain, |d| {
                        let all = task["spec"].to_string();
                        let before = d.guest.take().unwrap_or(all);
                        d.guest = Some(followed(&before, &task));
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

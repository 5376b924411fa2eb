//! A libvirt host in memory, with a switch that stops it after a number of changes, as a killed lbctl would. It judges
//! nothing: what libvirt would refuse (a name that is taken, a volume that is not there) it refuses too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use lbctl::config::VolumeRef;
use lbctl::host::{
    Change, Claims, CloneSpec, Definition, DomainFacts, DomainState, HostEntry, HostError,
    HostErrorKind, HostResult, Lease, NetworkFacts, NetworkId, NetworkRef, Observe, Scope, Source,
    Subnet, VolumeFacts, VolumeState,
};

pub const NETWORK: &str = "lab";
const UUID: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Debug, Clone, PartialEq)]
struct Volume {
    capacity: u64,
    format: String,
    backing: Option<String>,
    content: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
struct Domain {
    config: String,
    live: Option<String>,
    autostart: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct State {
    volumes: BTreeMap<VolumeRef, Volume>,
    domains: BTreeMap<String, Domain>,
    saved: Vec<HostEntry>,
    live: Vec<HostEntry>,
}

#[derive(Debug)]
pub struct MemoryHost {
    state: RefCell<State>,
    changes: Cell<usize>,
    stop_at: Cell<Option<usize>>,
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
        }
    }

    /// Changes made so far.
    pub fn changes(&self) -> usize {
        self.changes.get()
    }

    /// Fails every change after that many more.
    pub fn stop_after(&self, more: usize) {
        self.stop_at.set(Some(self.changes.get() + more));
    }

    pub fn go_on(&self) {
        self.stop_at.set(None);
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

impl Observe for MemoryHost {
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

    fn claims(&self, _: &str) -> HostResult<Vec<Claims>> {
        Ok(Vec::new())
    }

    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState> {
        let state = self.state.borrow();
        let found = state
            .volumes
            .get(at)
            .map(|volume| Box::new(facts(at, volume)));
        Ok(found.map_or(VolumeState::Absent, VolumeState::Present))
    }

    fn volume_by_id(&self, _: &str) -> HostResult<VolumeState> {
        Ok(VolumeState::Absent)
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

impl Change for MemoryHost {
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
            let before = s.domains.remove(name);
            let (live, autostart) = before.map_or((None, false), |d| (d.live, d.autostart));
            let config = xml.to_owned();
            s.domains.insert(
                name.into(),
                Domain {
                    config,
                    live,
                    autostart,
                },
            );
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
        self.domain_change(name, |d| {
            if d.live.is_some() {
                return Err("it runs");
            }
            d.live = Some(d.config.clone());
            Ok(())
        })
    }

    fn resume(&self, name: &str) -> HostResult<()> {
        self.domain_change(name, |_| Ok(()))
    }

    fn request_shutdown(&self, name: &str) -> HostResult<()> {
        self.power_off(name)
    }

    fn power_off(&self, name: &str) -> HostResult<()> {
        self.domain_change(name, |d| d.live.take().map(drop).ok_or("it does not run"))
    }

    fn update_live_device(&self, name: &str, _: &str) -> HostResult<()> {
        self.domain_change(name, |_| Ok(()))
    }
}

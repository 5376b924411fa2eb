//! A fault switch in front of a real libvirt: lbctl is stopped before, after, or within one of the
//! calls that change something, as by `kill -9`. From then on every call fails.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use lbctl::testing::config::{NetworkRef, VolumeRef};
use lbctl::testing::host::libvirt::LibvirtHost;
use lbctl::testing::host::ownership::Ownership;
use lbctl::testing::host::{
    AgentChannel, BridgeFacts, Claims, CloneSpec, DeviceState, DomainFacts, HostEntry, HostError,
    HostErrorKind, HostReader, HostResult, HostWriter, Lease, Listed, NetworkFacts, NetworkId,
    Node, RunState, Scope, StopBy, VolumeState,
};
use lbctl::testing::image::Image;
use lbctl::testing::secret::Secret;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
    /// Within an upload: the volume is there, nothing is in it yet.
    Created,
    /// Half of it is.
    Half,
}

/// Where lbctl is stopped: at the call of that number, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    pub call: usize,
    pub moment: Moment,
}

pub struct Faulty<'h> {
    inner: &'h LibvirtHost,
    stop: Option<Stop>,
    dead: Cell<bool>,
    /// The names of the changing calls.
    pub calls: RefCell<Vec<&'static str>>,
}

impl<'h> Faulty<'h> {
    pub fn new(inner: &'h LibvirtHost, stop: Option<Stop>) -> Self {
        Self {
            inner,
            stop,
            dead: Cell::new(false),
            calls: RefCell::default(),
        }
    }

    /// Every place where a run that made these calls can be stopped.
    pub fn stops(calls: &[&'static str]) -> Vec<Stop> {
        let moments = |name: &str| match name {
            "create_volume" => vec![Moment::Before, Moment::Created, Moment::Half, Moment::After],
            _ => vec![Moment::Before, Moment::After],
        };
        let all = calls.iter().enumerate();
        all.flat_map(|(call, name)| {
            moments(name)
                .into_iter()
                .map(move |moment| Stop { call, moment })
        })
        .collect()
    }

    fn dies<T>(&self) -> HostResult<T> {
        self.dead.set(true);
        Err(HostError::new(
            HostErrorKind::Connection,
            "being killed",
            "killed",
        ))
    }

    fn read<T>(&self, call: impl FnOnce(&LibvirtHost) -> HostResult<T>) -> HostResult<T> {
        if self.dead.get() {
            return self.dies();
        }
        call(self.inner)
    }

    fn change<T>(
        &self,
        name: &'static str,
        call: impl FnOnce(&LibvirtHost, Option<Moment>) -> HostResult<T>,
    ) -> HostResult<T> {
        if self.dead.get() {
            return self.dies();
        }
        let number = self.calls.borrow().len();
        self.calls.borrow_mut().push(name);
        let moment = self.stop.filter(|s| s.call == number).map(|s| s.moment);
        if moment == Some(Moment::Before) {
            return self.dies();
        }
        let done = call(self.inner, moment)?;
        if moment.is_some() {
            return self.dies();
        }
        Ok(done)
    }
}

impl HostReader for Faulty<'_> {
    fn node(&self) -> HostResult<Node> {
        self.read(HostReader::node)
    }
    fn machine(&self, architecture: &str, kind: &str, name: &str) -> HostResult<Option<String>> {
        self.read(|h| h.machine(architecture, kind, name))
    }
    fn would_accept(&self, xml: &str) -> HostResult<Result<(), String>> {
        self.read(|h| h.would_accept(xml))
    }
    fn names(&self, which: &Listed) -> Vec<String> {
        self.inner.names(which)
    }
    fn offers_kvm(&self, architecture: &str) -> HostResult<bool> {
        self.read(|h| h.offers_kvm(architecture))
    }
    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>> {
        self.read(|h| h.domain(name))
    }
    fn run_state(&self, name: &str) -> HostResult<Option<RunState>> {
        self.read(|h| h.run_state(name))
    }
    fn checkpoints(&self, name: &str) -> HostResult<Vec<String>> {
        self.read(|h| h.checkpoints(name))
    }

    fn saved_definition(&self, name: &str) -> HostResult<Option<Secret>> {
        self.read(|h| h.saved_definition(name))
    }
    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>> {
        self.read(|h| h.claims(but))
    }
    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState> {
        self.read(|h| h.volume(at))
    }
    fn pool_folder(&self, pool: &str) -> HostResult<Option<String>> {
        self.read(|h| h.pool_folder(pool))
    }
    fn pool_type(&self, name: &str) -> HostResult<Option<String>> {
        self.read(|h| h.pool_type(name))
    }
    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState> {
        self.read(|h| h.volume_by_id(id))
    }
    fn read_volume(&self, at: &VolumeRef, limit: u64) -> HostResult<Vec<u8>> {
        self.read(|h| h.read_volume(at, limit))
    }
    fn network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>> {
        self.read(|h| h.network(which))
    }
    fn leases(&self, network: &NetworkId) -> HostResult<Vec<Lease>> {
        self.read(|h| h.leases(network))
    }
    fn device(&self, name: &str) -> HostResult<DeviceState> {
        self.read(|h| h.device(name))
    }

    fn bridge(&self, name: &str) -> HostResult<BridgeFacts> {
        self.read(|h| h.bridge(name))
    }
}

impl HostWriter for Faulty<'_> {
    fn add_reservation(&self, to: &NetworkId, entry: &HostEntry, scope: Scope) -> HostResult<()> {
        self.change("add_reservation", |h, _| {
            h.add_reservation(to, entry, scope)
        })
    }
    fn remove_reservation(
        &self,
        from: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()> {
        self.change("remove_reservation", |h, _| {
            h.remove_reservation(from, entry, scope)
        })
    }
    fn clone_volume(&self, spec: &CloneSpec) -> HostResult<()> {
        self.change("clone_volume", |h, _| h.clone_volume(spec))
    }
    fn grow_volume(&self, at: &VolumeRef, capacity: u64) -> HostResult<()> {
        self.change("grow_volume", |h, _| h.grow_volume(at, capacity))
    }
    fn grow_live_disk(&self, name: &str, target: &str, capacity: u64) -> HostResult<()> {
        self.change("grow_live_disk", |h, _| {
            h.grow_live_disk(name, target, capacity)
        })
    }
    fn create_volume(&self, at: &VolumeRef, content: &[u8]) -> HostResult<()> {
        self.change("create_volume", |h, moment| {
            let sent = match moment {
                Some(Moment::Created) => 0,
                Some(Moment::Half) => content.len() / 2,
                _ => content.len(),
            };
            let mut arrived = content.to_vec();
            arrived[sent..].fill(0);
            h.create_volume(at, &arrived)
        })
    }
    fn upload_image(
        &self,
        at: &VolumeRef,
        image: &mut Image,
        part: &mut dyn FnMut(u64) -> bool,
    ) -> HostResult<()> {
        self.change("upload_image", |h, moment| match moment {
            Some(Moment::Created | Moment::Half) => h.upload_image(at, image, &mut |_| false),
            _ => h.upload_image(at, image, part),
        })
    }
    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()> {
        self.change("delete_volume", |h, _| h.delete_volume(at))
    }
    fn define(&self, name: &str, xml: &str) -> HostResult<()> {
        self.change("define", |h, _| h.define(name, xml))
    }
    fn undefine(&self, name: &str) -> HostResult<()> {
        self.change("undefine", |h, _| h.undefine(name))
    }
    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()> {
        self.change("set_autostart", |h, _| h.set_autostart(name, on))
    }
    fn start(&self, name: &str) -> HostResult<()> {
        self.change("start", |h, _| h.start(name))
    }
    fn wake(&self, name: &str) -> HostResult<()> {
        self.change("wake", |h, _| h.wake(name))
    }
    fn resume(&self, name: &str) -> HostResult<()> {
        self.change("resume", |h, _| h.resume(name))
    }
    fn request_shutdown(&self, name: &str, by: StopBy) -> HostResult<()> {
        self.change("request_shutdown", |h, _| h.request_shutdown(name, by))
    }
    fn power_off(&self, name: &str) -> HostResult<()> {
        self.change("power_off", |h, _| h.power_off(name))
    }
    fn update_device(&self, name: &str, xml: &str, scope: Scope) -> HostResult<()> {
        self.change("update_device", |h, _| h.update_device(name, xml, scope))
    }
    fn set_ownership(&self, name: &str, ownership: &Ownership, scope: Scope) -> HostResult<()> {
        self.change("set_ownership", |h, _| {
            h.set_ownership(name, ownership, scope)
        })
    }
}

impl AgentChannel for Faulty<'_> {
    fn agent(&self, domain: &str, command: &str, timeout: Duration) -> HostResult<String> {
        self.read(|h| h.agent(domain, command, timeout))
    }
}

//! The libvirt host: what can be asked of it ([`HostReader`]), what can be done to it
//! ([`HostWriter`]), and the facts that come back. No decision is taken here.
//!
//! Invariant: only this folder uses the `virt` crate. Everything else sees these traits, so a fake
//! can replace it. Invariant: *absent* is a value (`None`); every other libvirt answer is an error.
//! "Cannot connect" is never "not found".

pub(crate) mod definition;
mod error;
mod inspect;
pub mod libvirt;
mod operation;
pub mod ownership;
mod stream;
mod sys;
pub mod xml;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

pub use inspect::Inspect;

pub use definition::{Definition, NicFacts, ObservedNicSource, Source};
pub use operation::Operation;

use crate::config::{MacAddr, NetworkRef, VolumeRef};
use crate::host::ownership::Ownership;

/// What went wrong, by libvirt's error code and never by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostErrorKind {
    /// libvirt cannot be reached, or the connection broke.
    Connection,
    /// libvirt or the system refuses: polkit, socket permissions, `AppArmor`, `SELinux`.
    Permission,
    /// The thing is not there (any more).
    NotFound,
    /// It already exists, perhaps made by another run.
    Exists,
    /// The state that it is in does not allow it (`VIR_ERR_OPERATION_INVALID`): a domain that does
    /// not run (any more), a pool that is not active.
    State,
    /// The guest agent does not answer, or not in time.
    Agent,
    Other,
}

/// A call to the host that failed: what was being done, what libvirt said, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    pub kind: HostErrorKind,
    /// What was being done, and to what.
    pub doing: Box<Operation>,
    /// libvirt's or the system's own words.
    pub said: String,
    pub hint: Option<String>,
}

impl HostError {
    #[must_use]
    pub fn new(kind: HostErrorKind, doing: impl Into<Operation>, said: impl Into<String>) -> Self {
        Self {
            kind,
            doing: Box::new(doing.into()),
            said: said.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.said)
    }
}

impl std::error::Error for HostError {}

pub type HostResult<T> = Result<T, HostError>;

/// `virDomainState`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    Running,
    Paused,
    /// Asked to stop and not stopped yet.
    ShuttingDown,
    ShutOff,
    Crashed,
    /// Suspended to memory by the guest itself.
    Suspended,
}

impl DomainState {
    /// Whether it has a qemu process.
    #[must_use]
    pub fn is_active(self) -> bool {
        !matches!(self, Self::ShutOff | Self::Crashed)
    }
}

impl fmt::Display for DomainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ShuttingDown => "shutting down",
            Self::ShutOff => "shut off",
            Self::Crashed => "crashed",
            Self::Suspended => "suspended",
        })
    }
}

/// A domain as libvirt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFacts {
    pub name: String,
    pub uuid: String,
    pub state: DomainState,
    pub autostart: bool,
    /// A transient domain has no definition that survives its stop.
    pub persistent: bool,
    /// What the next start will use (`VIR_DOMAIN_XML_INACTIVE`).
    pub config: Definition,
    /// The text it was read from, to put back when its successor does not start.
    pub config_xml: String,
    /// What the guest runs with now; `None` while it is off.
    pub live: Option<Definition>,
}

/// What another domain claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub domain: String,
    pub macs: Vec<MacAddr>,
    pub disks: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFacts {
    pub at: VolumeRef,
    pub key: String,
    /// How a domain refers to it: by file path wherever the pool has one (`AppArmor` labels those
    /// and not pool volumes).
    pub source: Source,
    /// Bytes the guest sees.
    pub capacity: u64,
    /// Bytes in use in the pool.
    pub allocation: u64,
    /// `raw`, `qcow2`, …
    pub format: String,
    pub backing: Option<String>,
    /// Whole permission bits, for instance `0o600`.
    pub mode: Option<u32>,
}

/// A storage pool and a volume of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeState {
    NoPool,
    PoolInactive,
    Absent,
    Present(Box<VolumeFacts>),
}

impl VolumeState {
    #[must_use]
    pub fn present(&self) -> Option<&VolumeFacts> {
        match self {
            Self::Present(facts) => Some(facts),
            Self::NoPool | Self::PoolInactive | Self::Absent => None,
        }
    }
}

/// A DHCP host entry of a libvirt network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostEntry {
    pub mac: Option<MacAddr>,
    pub ip: Ipv4Addr,
    pub name: Option<String>,
}

impl fmt::Display for HostEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)?;
        if let Some(mac) = self.mac {
            write!(f, " for {mac}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        Ok(())
    }
}

/// An IPv4 subnet that a libvirt network serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The host's own address in it.
    pub address: Ipv4Addr,
    pub prefix_length: u8,
    pub dhcp: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFacts {
    pub id: NetworkId,
    pub active: bool,
    pub persistent: bool,
    pub subnets: Vec<Subnet>,
    /// Of the persistent definition.
    pub reservations: Vec<HostEntry>,
    /// Of the running network; differs where only one of both was updated.
    pub live_reservations: Vec<HostEntry>,
}

/// Which of the two definitions of a network or domain an update is for (`virNetworkUpdateFlags`,
/// `virDomainModificationImpact`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The saved one.
    pub config: bool,
    /// The running one. Asking for it on an inactive network is an error.
    pub live: bool,
}

impl Scope {
    #[must_use]
    pub fn is_empty(self) -> bool {
        !self.config && !self.live
    }
}

impl NetworkFacts {
    /// Where the entry is now.
    #[must_use]
    pub fn holding(&self, entry: &HostEntry) -> Scope {
        Scope {
            config: self.persistent && self.reservations.contains(entry),
            live: self.active && self.live_reservations.contains(entry),
        }
    }

    /// Where the entry should be and is not.
    #[must_use]
    pub fn lacking(&self, entry: &HostEntry) -> Scope {
        let holding = self.holding(entry);
        Scope {
            config: self.persistent && !holding.config,
            live: self.active && !holding.live,
        }
    }

    /// Every entry, saved or running, once.
    #[must_use]
    pub fn all_reservations(&self) -> Vec<&HostEntry> {
        let more = self
            .live_reservations
            .iter()
            .filter(|e| !self.reservations.contains(e));
        self.reservations.iter().chain(more).collect()
    }
}

/// A DHCP lease handed out by a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub mac: MacAddr,
    pub ip: Ipv4Addr,
    pub hostname: Option<String>,
    /// Seconds since the Unix epoch.
    pub expires: i64,
}

/// A network that was found: its uuid for calls, its name for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId {
    pub name: String,
    pub uuid: String,
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How to clone a root disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSpec {
    pub volume: VolumeRef,
    pub base: VolumeRef,
    /// Bytes.
    pub capacity: u64,
    /// `qcow2`: copy on write. `raw`: a full copy.
    pub format: &'static str,
}

/// What is asked of a host. Nothing here changes anything.
pub trait HostReader {
    /// The architecture of the host, as the kernel names it: `x86_64`, `aarch64`.
    fn architecture(&self) -> HostResult<String>;
    /// Whether libvirt offers kvm for that architecture. It may still fail at start.
    fn offers_kvm(&self, architecture: &str) -> HostResult<bool>;
    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>>;
    /// What every domain claims but those named.
    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>>;
    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState>;
    /// Finds a volume by key, by path, or by `pool/name`; only of the last can be said what its
    /// pool lacks.
    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState>;
    /// At most `limit` bytes from the volume's beginning.
    fn read_volume(&self, at: &VolumeRef, limit: u64) -> HostResult<Vec<u8>>;
    fn network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>>;
    fn leases(&self, network: &NetworkId) -> HostResult<Vec<Lease>>;
    /// Whether the host has the network device; `None` where libvirt does not say.
    fn has_device(&self, name: &str) -> HostResult<Option<bool>>;
}

/// How a guest is asked to stop. libvirt's own order, the agent first, would wait a minute for an
/// agent that hangs or lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopBy {
    /// ACPI's, which asks nothing of the guest and returns at once.
    PowerButton,
    /// For a guest that ignores the power button. An agent that takes the request gives no answer
    /// to it.
    Agent,
}

/// What is done to a host. Each call is one change, named in its error.
pub trait HostWriter: HostReader {
    fn add_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()>;
    fn remove_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()>;
    fn clone_volume(&self, spec: &CloneSpec) -> HostResult<()>;
    /// Grows a volume that no running guest has open.
    fn grow_volume(&self, at: &VolumeRef, capacity: u64) -> HostResult<()>;
    /// Grows the disk of a running guest, which sees the new size at once.
    fn grow_live_disk(&self, name: &str, target: &str, capacity: u64) -> HostResult<()>;
    /// Creates the volume, mode 0600, of exactly the size of `content`, and fills it. On failure
    /// the volume is deleted again.
    fn create_volume(&self, at: &VolumeRef, content: &[u8]) -> HostResult<()>;
    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()>;
    /// Defines or redefines; the text carries the uuid of the one it replaces.
    fn define(&self, name: &str, xml: &str) -> HostResult<()>;
    fn undefine(&self, name: &str) -> HostResult<()>;
    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()>;
    fn start(&self, name: &str) -> HostResult<()>;
    fn resume(&self, name: &str) -> HostResult<()>;
    /// Asks the guest to stop and returns at once.
    fn request_shutdown(&self, name: &str, by: StopBy) -> HostResult<()>;
    /// Cuts its power.
    fn power_off(&self, name: &str) -> HostResult<()>;
    /// Replaces a device of the domain (the medium of its CD-ROM).
    fn update_device(&self, name: &str, xml: &str, scope: Scope) -> HostResult<()>;
    /// Replaces lbctl's ownership record in the domain's metadata (`virDomainSetMetadata`).
    fn set_ownership(&self, name: &str, ownership: &Ownership, scope: Scope) -> HostResult<()>;
}

/// The guest agent's channel. Only the `guest` module uses it.
pub trait AgentChannel {
    fn agent(&self, domain: &str, command: &str, timeout: Duration) -> HostResult<String>;
}

/// A host that can be connected to again: its daemon may be restarted while lbctl waits.
pub trait Reconnect {
    fn reconnect(&mut self) -> HostResult<()>;
}

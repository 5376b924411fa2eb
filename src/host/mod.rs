//! The libvirt host: what can be asked of it ([`HostReader`]), what can be done to it
//! ([`HostWriter`]), and the facts that come back. No decision is taken here.
//!
//! Invariant: only this folder uses the `virt` crate. Everything else sees these traits, so a fake
//! can replace it. Invariant: *absent* is a value (`None`); every other libvirt answer is an error.
//! "Cannot connect" is never "not found".

mod census;
pub(crate) mod definition;
mod error;
mod far;
mod handles;
mod header;
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

pub use census::DomainEntry;
pub use inspect::Inspect;
pub use sys::leave;

#[cfg(test)]
pub use definition::NicLink;
pub use definition::{Definition, Drive, NicFacts, ObservedNicSource, Source};
pub use header::{HEADER, Header, has_a_fixed_size};
pub use operation::Operation;

use crate::config::{MacAddr, NetworkRef, Switch, VolumeRef};
use crate::host::ownership::Ownership;
use crate::image::Image;
use crate::secret::Secret;

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
    /// Its QEMU process is kept for whoever examines the crash.
    Crashed,
    /// Suspended to memory by the guest itself.
    Suspended,
}

impl DomainState {
    /// Whether it has a qemu process.
    #[must_use]
    pub fn is_active(self) -> bool {
        self != Self::ShutOff
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

/// Why a domain is in its state, where that says more than the state itself (`virDomainGetState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateReason {
    /// The storage of a disk gave an error, and QEMU stopped the guest.
    IoError,
    Watchdog,
    /// The kernel of the guest panicked.
    Panicked,
    /// QEMU ended by itself, or was killed.
    Crashed,
    StartFailed,
    /// Its memory is in a managed save.
    Saved,
    Migrated,
    /// libvirt is starting it.
    StartingUp,
    /// libvirt stopped it for a moment, and resumes it by itself.
    Saving,
    Migrating,
    Dumping,
    Snapshotting,
}

impl StateReason {
    /// Whether an operation of libvirt's is going on, which must not be disturbed.
    #[must_use]
    pub fn is_an_operation(self) -> bool {
        match self {
            Self::Saving | Self::Migrating | Self::Dumping | Self::Snapshotting => true,
            Self::IoError
            | Self::Watchdog
            | Self::Panicked
            | Self::Crashed
            | Self::StartFailed
            | Self::Saved
            | Self::Migrated
            | Self::StartingUp => false,
        }
    }
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoError => "I/O error",
            Self::Watchdog => "watchdog",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
            Self::StartFailed => "failed to start",
            Self::Saved => "saved",
            Self::Migrated => "migrated",
            Self::StartingUp => "starting up",
            Self::Saving => "being saved",
            Self::Migrating => "being migrated",
            Self::Dumping => "being dumped",
            Self::Snapshotting => "being snapshotted",
        })
    }
}

/// A managed save: what the next start resumes, instead of booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedState {
    /// What the guest goes on with; `None`: libvirt cannot read it.
    pub definition: Option<Definition>,
}

/// A snapshot that libvirt knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub name: String,
    /// Every disk and medium that a revert to it needs.
    pub disks: Vec<Source>,
    /// Files of its own: overlays and memory. What is inside the disk has none.
    pub files: Vec<String>,
}

/// A block job, and the disk that it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskJob {
    /// `vda`
    pub target: String,
    /// In libvirt's words.
    pub kind: String,
}

/// Which run of a domain, and in what state: the cheapest question about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunState {
    pub state: DomainState,
    /// As [`Definition::run`]; `None`: it is off.
    pub run: Option<u32>,
}

/// A domain as libvirt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFacts {
    pub name: String,
    pub uuid: String,
    pub state: DomainState,
    /// `None`: the state says it all.
    pub reason: Option<StateReason>,
    pub autostart: bool,
    /// A transient domain has no definition that survives its stop.
    pub persistent: bool,
    /// What the next start will use (`VIR_DOMAIN_XML_INACTIVE`).
    pub config: Definition,
    /// The text it was read from, passwords of devices included: to be changed, and to be put back
    /// when its successor does not start.
    pub config_xml: Secret,
    /// What the guest runs with now; `None` while it is off.
    pub live: Option<Definition>,
    /// Of a domain that is off.
    pub saved: Option<SavedState>,
    pub snapshots: Vec<Snapshot>,
}

impl DomainFacts {
    /// Every definition that it has or may return to.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        let saved = self.saved.as_ref().and_then(|s| s.definition.as_ref());
        std::iter::once(&self.config).chain(&self.live).chain(saved)
    }

    /// Whether lbctl made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.definitions().any(|d| d.ownership.is_some())
    }

    /// Whether a drive refers to the volume: at the next start, now, or after a return to the saved
    /// state or a snapshot.
    #[must_use]
    pub fn refers_to(&self, at: &VolumeRef, facts: Option<&VolumeFacts>) -> bool {
        let is = |s: &Source| s.is(at, facts);
        self.definitions().any(|d| d.holds(at, facts))
            || self.snapshots.iter().any(|s| s.disks.iter().any(is))
    }
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
    /// What libvirt finds in it: `raw`, `qcow2`, … A guest that has the disk as raw decides that,
    /// and so it decides nothing that a guest could write.
    pub format: String,
    /// Bytes of the file or block device, whatever is in it.
    pub physical: Option<u64>,
    pub backing: Option<String>,
    /// Whole permission bits, for instance `0o600`.
    pub mode: Option<u32>,
}

impl VolumeFacts {
    /// Whether a volume that is named after an image holds all of it: until then it has no header.
    #[must_use]
    pub fn is_whole_image(&self) -> bool {
        self.format == "qcow2" && self.backing.is_none()
    }

    /// Bytes that a guest sees which has it in that format.
    #[must_use]
    pub fn capacity_as(&self, format: &str) -> u64 {
        match self.physical {
            Some(physical) if format == "raw" && self.format != "raw" => physical,
            _ => self.capacity,
        }
    }

    /// Whether a domain's disk is this volume, whether it names a file, a block device or pool and
    /// volume.
    #[must_use]
    pub fn is(&self, source: &Source) -> bool {
        match (source, source.path()) {
            (Source::Volume(at), _) => *at == self.at,
            (_, Some(path)) => self.source.path() == Some(path) || self.key == path,
            (_, None) => *source == self.source,
        }
    }
}

/// A storage pool and a volume of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeState {
    NoPool,
    PoolInactive,
    Absent,
    /// libvirt lists it, but its file was removed by others: nothing of it can be read, and its
    /// name stays in use until the volume is deleted or the pool refreshed.
    Vanished,
    Present(Box<VolumeFacts>),
}

impl VolumeState {
    #[must_use]
    pub fn present(&self) -> Option<&VolumeFacts> {
        match self {
            Self::Present(facts) => Some(facts),
            Self::NoPool | Self::PoolInactive | Self::Absent | Self::Vanished => None,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The host's own address in it.
    pub address: Ipv4Addr,
    pub prefix_length: u8,
    pub dhcp: bool,
    /// First and last address of each range that DHCP gives addresses from.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl Subnet {
    #[must_use]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        let (first, last) = self.bounds();
        (first..=last).contains(&ip)
    }

    /// The address of the network itself and its broadcast address, which no machine can have.
    #[must_use]
    pub fn bounds(&self) -> (Ipv4Addr, Ipv4Addr) {
        let hosts = u32::MAX.checked_shr(self.prefix_length.into()).unwrap_or(0);
        let address = u32::from(self.address);
        ((address & !hosts).into(), (address | hosts).into())
    }

    /// Whether a machine in it can have the address. Networks of two or one address have neither
    /// broadcast nor network address (RFC 3021).
    #[must_use]
    pub fn is_usable(&self, ip: Ipv4Addr) -> bool {
        let (first, last) = self.bounds();
        self.prefix_length >= 31 || (ip != first && ip != last)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFacts {
    pub id: NetworkId,
    pub active: bool,
    pub persistent: bool,
    /// Whether libvirt makes its bridge, and takes it away when the network stops. The bridge or
    /// device of another network stays.
    pub own_bridge: bool,
    /// The PCI devices that it gives to guests (forward mode hostdev), by their addresses.
    pub devices: Vec<String>,
    /// Of the bridge that libvirt makes.
    pub mac: Option<MacAddr>,
    /// UUIDs of the ports, one for each interface that is connected; `None`: not known.
    pub ports: Option<Vec<String>>,
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

/// What the host says of a device that is to be a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeFacts {
    /// `None`: libvirt does not say.
    pub exists: Option<bool>,
    /// `None`: libvirt does not say.
    pub switch: Option<Switch>,
    /// Whether this libvirt gives ports of the kernel's bridges a VLAN.
    pub kernel_takes_vlan: bool,
    /// The libvirt network that made it: then libvirt knows its addresses and to whom they are
    /// reserved.
    pub network: Option<Box<NetworkFacts>>,
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

/// A network device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// Not asked, or libvirt does not say.
    Unknown,
    Absent,
    Present {
        /// Whether it carries traffic; `None`: it does not say.
        up: Option<bool>,
        /// The bridge that it is a port of.
        bridge: Option<String>,
    },
}

/// The host itself (`virNodeGetInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As the kernel names it: `x86_64`, `aarch64`.
    pub architecture: String,
    pub memory_kib: u64,
}

/// A list of names that the host has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listed {
    Pools,
    Networks,
    Devices,
    /// The volumes of that pool.
    Volumes(String),
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

impl CloneSpec {
    /// Whether it is made in a moment, for nothing is copied.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        self.format == "qcow2"
    }
}

/// What will be asked for next, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen<'a> {
    pub domain: &'a str,
    pub networks: Vec<&'a NetworkRef>,
    /// Each once.
    pub pools: Vec<&'a str>,
}

/// What is asked of a host. Nothing here changes anything.
pub trait HostReader {
    /// A host that is far away looks all of it up at once. This says nothing: what fails here fails
    /// again where it is asked for.
    fn foresee(&self, _: &Foreseen<'_>) {}
    fn node(&self) -> HostResult<Node>;
    /// The full name of a machine type, which may be an alias: `q35` is `pc-q35-7.2`. `None`: there
    /// is no such machine.
    fn machine(&self, architecture: &str, kind: &str, name: &str) -> HostResult<Option<String>>;
    /// Whether libvirt could run a domain of that definition, whose disks need not exist; else its
    /// words. Nothing is defined.
    fn would_accept(&self, xml: &str) -> HostResult<Result<(), String>>;
    /// The names that there are, for messages. What cannot be listed is empty.
    fn names(&self, which: &Listed) -> Vec<String>;
    /// Whether libvirt offers kvm for that architecture. It may still fail at start.
    fn offers_kvm(&self, architecture: &str) -> HostResult<bool>;
    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>>;
    /// The text of its saved definition alone, as in [`DomainFacts::config_xml`].
    fn saved_definition(&self, name: &str) -> HostResult<Option<Secret>>;
    /// `None`: there is no such domain.
    fn run_state(&self, name: &str) -> HostResult<Option<RunState>>;
    /// The names of the domain's checkpoints, which backup tools make.
    fn checkpoints(&self, name: &str) -> HostResult<Vec<String>>;
    /// What every domain claims but those named.
    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>>;
    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState>;
    /// The same of several, in their order: a host that is far away is asked about all at once.
    fn volumes(&self, all: &[VolumeRef]) -> HostResult<Vec<VolumeState>> {
        all.iter().map(|at| self.volume(at)).collect()
    }
    /// The folder that the pool keeps its files in; `None`: it has none, or is not there.
    fn pool_folder(&self, pool: &str) -> HostResult<Option<String>>;
    /// The type of a pool, such as `dir` or `logical`; `None`: there is no such pool.
    fn pool_type(&self, name: &str) -> HostResult<Option<String>>;
    /// Finds a volume by key, by path, or by `pool/name`; only of the last can be said what its
    /// pool lacks.
    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState>;
    /// So many bytes from the volume's beginning, fewer where it has not as many.
    fn read_volume(&self, at: &VolumeRef, length: u64) -> HostResult<Vec<u8>>;
    fn network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>>;
    fn leases(&self, network: &NetworkId) -> HostResult<Vec<Lease>>;
    /// Whether the host has the bridge, and of what kind it is.
    fn bridge(&self, name: &str) -> HostResult<BridgeFacts>;
    fn device(&self, name: &str) -> HostResult<DeviceState>;
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
    /// Does both, at the same time where the host can do two things at a time. A host that cannot
    /// does the one before the other.
    fn together<A: Send, B>(
        &self,
        one: impl FnOnce(&Self) -> A + Send,
        other: impl FnOnce(&Self) -> B,
    ) -> (A, B)
    where
        Self: Sized,
    {
        (one(self), other(self))
    }
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
    /// Creates the volume, mode 0600, and fills it with the image, its first bytes last: so what is
    /// not whole is no image. `part` is told how many bytes there are; false: stop. On failure the
    /// volume is deleted again.
    fn upload_image(
        &self,
        at: &VolumeRef,
        image: &mut Image,
        part: &mut dyn FnMut(u64) -> bool,
    ) -> HostResult<()>;
    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()>;
    /// Defines or redefines; the text carries the uuid of the one it replaces.
    fn define(&self, name: &str, xml: &str) -> HostResult<()>;
    fn undefine(&self, name: &str) -> HostResult<()>;
    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()>;
    fn start(&self, name: &str) -> HostResult<()>;
    fn resume(&self, name: &str) -> HostResult<()>;
    /// Of a guest that suspended itself to memory; `resume` is refused there.
    fn wake(&self, name: &str) -> HostResult<()>;
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

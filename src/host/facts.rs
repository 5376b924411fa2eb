//! What a host is found to have: domains, volumes, networks and devices, as values.

use std::fmt;
use std::net::Ipv4Addr;

use super::definition::{Definition, Source};
use crate::config::{MacAddr, NetworkRef, Switch, VolumeRef};
use crate::secret::Secret;

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

//! The facts of a domain's XML that lbctl compares or needs, and how they are read. libvirt
//! rewrites what it is given (MiB become KiB, controllers and addresses appear), so facts are
//! compared and never the text.

use std::fmt;

use roxmltree::{Document, Node};

use super::xml::{attribute, child, number, pci_address, text};
use crate::config::{MacAddr, NetworkRef, NicSource, Switch, VolumeRef};
use crate::host::ownership::Ownership;
use crate::host::{NetworkFacts, Snapshot, VolumeFacts};

/// Where a disk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    File(String),
    Block(String),
    Volume(VolumeRef),
    /// A kind that lbctl never makes, such as a network disk.
    Other(String),
}

impl Source {
    /// Whether it is the volume, in whatever way it is named.
    #[must_use]
    pub fn is(&self, at: &VolumeRef, facts: Option<&VolumeFacts>) -> bool {
        match self {
            Self::Volume(named) => named == at,
            other => facts.is_some_and(|facts| facts.is(other)),
        }
    }

    /// Its path on the host, where it has one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::File(path) | Self::Block(path) => Some(path),
            Self::Volume(_) | Self::Other(_) => None,
        }
    }

    /// The path by which a clone refers to it as its base (`backingStore` in libvirt's XML).
    #[must_use]
    pub fn backing_path(&self) -> String {
        match self {
            Self::File(path) | Self::Block(path) | Self::Other(path) => path.clone(),
            Self::Volume(at) => format!("{}/{}", at.pool, at.name),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Block(path) => f.write_str(path),
            Self::Volume(at) => write!(f, "{at}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskDevice {
    Disk,
    Cdrom,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    pub device: DiskDevice,
    /// `vda`, `sda`
    pub target: String,
    pub bus: String,
    /// `None`: an empty drive.
    pub source: Option<Source>,
    /// What the domain reads it as, whatever is found in it.
    pub format: Option<String>,
    /// What the source is an overlay on, one after the other, as far as libvirt says.
    pub backing: Vec<Source>,
    /// An operation that copies the disk's bytes to another file, or commits them; of a running
    /// domain.
    pub job: Option<BlockJob>,
}

impl DiskFacts {
    /// Neither a CD-ROM drive nor a floppy.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        self.device == DiskDevice::Disk
    }
}

/// A block job that shows in the definition: a copy, or a commit of the active overlay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlockJob {
    /// In libvirt's words: `copy`, `active-commit`.
    pub kind: String,
    /// Where the bytes are written; `None`: not a file.
    pub to: Option<Source>,
}

/// Where in a domain a CD-ROM drive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    pub target: String,
    pub bus: String,
}

impl Drive {
    /// Where lbctl makes it: virtio-scsi, for Debian's cloud kernel has no AHCI driver and q35 has
    /// no IDE.
    #[must_use]
    pub fn new() -> Self {
        Self {
            target: "sda".into(),
            bus: "scsi".into(),
        }
    }
}

impl From<&DiskFacts> for Drive {
    fn from(disk: &DiskFacts) -> Self {
        Self {
            target: disk.target.clone(),
            bus: disk.bus.clone(),
        }
    }
}

/// What a network interface was found attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObservedNicSource {
    /// A network always by its name: libvirt keeps no other reference.
    Known(NicSource),
    /// A PCI device of the host, by its address. Of a network of such devices (forward mode
    /// hostdev) libvirt shows, while the guest runs, only the device that it gave:
    /// [`Definition::name_networks`].
    Device(String),
    /// A kind that lbctl never makes.
    Other(String),
}

impl fmt::Display for ObservedNicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(source) => write!(f, "{source}"),
            Self::Device(address) => write!(f, "device {address} of the host"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NicFacts {
    pub mac: MacAddr,
    pub source: ObservedNicSource,
}

/// How a network interface is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicLink {
    pub mac: MacAddr,
    /// UUID of its port in its network; of a running domain.
    pub port: Option<String>,
    /// Whether its link is up, as `virsh domif-setlink` sets it.
    pub up: bool,
}

/// A domain's definition, inactive or live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// `kvm` or `qemu`.
    pub domain_type: String,
    pub architecture: String,
    /// As libvirt canonicalised it: `pc-q35-7.2`.
    pub machine: String,
    pub memory_kib: u64,
    /// What the balloon is set to.
    pub current_memory_kib: u64,
    pub vcpus: u32,
    pub disks: Vec<DiskFacts>,
    pub interfaces: Vec<NicFacts>,
    /// Of the same interfaces.
    pub links: Vec<NicLink>,
    /// Whether the guest agent has its channel.
    pub agent_channel: bool,
    pub ownership: Option<Ownership>,
    /// Of a running domain: which run it is. A domain that was stopped and started has another.
    pub run: Option<u32>,
}

impl Definition {
    /// Reads a `<domain>` document. Unknown content is passed over; what is needed and missing is
    /// named.
    pub fn parse(xml: &str) -> Result<Self, String> {
        let document =
            Document::parse(xml).map_err(|e| format!("the domain's XML cannot be read: {e}"))?;
        Self::of_element(document.root_element())
    }

    fn of_element(domain: Node<'_, '_>) -> Result<Self, String> {
        let os_type = child(domain, "os").and_then(|os| child(os, "type"));
        let devices = child(domain, "devices").ok_or("the domain's XML has no <devices>")?;
        let memory = |name| child(domain, name).and_then(kib);
        let memory_kib = memory("memory").ok_or("the domain's XML has no <memory>")?;
        Ok(Self {
            domain_type: attribute(domain, "type"),
            architecture: os_type.map(|t| attribute(t, "arch")).unwrap_or_default(),
            machine: os_type.map(|t| attribute(t, "machine")).unwrap_or_default(),
            memory_kib,
            current_memory_kib: memory("currentMemory").unwrap_or(memory_kib),
            vcpus: child(domain, "vcpu").and_then(vcpus).unwrap_or(1),
            disks: elements(devices, "disk").map(disk).collect(),
            interfaces: elements(devices, "interface")
                .filter_map(interface)
                .collect(),
            links: elements(devices, "interface").filter_map(link).collect(),
            agent_channel: elements(devices, "channel").any(is_agent_channel),
            ownership: Ownership::find(domain),
            run: domain.attribute("id").and_then(|id| id.parse().ok()),
        })
    }

    /// Puts the network in the place of each device that it gave to the running guest.
    pub fn name_networks(&mut self, networks: &[&NetworkFacts]) {
        for nic in &mut self.interfaces {
            let ObservedNicSource::Device(address) = &nic.source else {
                continue;
            };
            let mut networks = networks.iter();
            if let Some(network) = networks.find(|facts| facts.devices.contains(address)) {
                let name = NetworkRef::Name(network.id.name.clone());
                nic.source = ObservedNicSource::Known(NicSource::Network(name));
            }
        }
    }

    /// The CD-ROM drives, which is where the seed is.
    pub fn cdroms(&self) -> impl Iterator<Item = &DiskFacts> {
        self.disks.iter().filter(|d| d.device == DiskDevice::Cdrom)
    }

    /// Whether a CD-ROM drive holds the volume.
    #[must_use]
    pub fn holds(&self, at: &VolumeRef, facts: Option<&VolumeFacts>) -> bool {
        self.drive_with(at, facts).is_some()
    }

    /// The CD-ROM drive that holds the volume.
    #[must_use]
    pub fn drive_with(&self, at: &VolumeRef, facts: Option<&VolumeFacts>) -> Option<&DiskFacts> {
        self.cdroms()
            .find(|drive| drive.source.as_ref().is_some_and(|s| s.is(at, facts)))
    }

    /// The disk that is the volume, in whatever way it is named.
    #[must_use]
    pub fn disk_of(&self, volume: &VolumeFacts) -> Option<&DiskFacts> {
        let mut disks = self.disks.iter();
        disks.find(|d| {
            let source = d.source.as_ref().filter(|_| d.device == DiskDevice::Disk);
            source.is_some_and(|source| volume.is(source))
        })
    }

    /// The first disk that is not a CD-ROM: the root disk.
    #[must_use]
    pub fn root_disk(&self) -> Option<&DiskFacts> {
        self.disks.iter().find(|d| d.device == DiskDevice::Disk)
    }
}

fn elements<'a, 'd: 'a>(parent: Node<'a, 'd>, name: &'a str) -> impl Iterator<Item = Node<'a, 'd>> {
    parent.children().filter(move |n| n.has_tag_name(name))
}

/// An amount of memory, such as `<memory>`, in KiB.
pub(crate) fn kib(node: Node<'_, '_>) -> Option<u64> {
    kib_of(node, node.text()?)
}

/// An amount that the element's `unit` is for.
pub(crate) fn kib_of(node: Node<'_, '_>, amount: &str) -> Option<u64> {
    let amount: u64 = amount.trim().parse().ok()?;
    // libvirt's XML is in KiB unless it says otherwise (formatdomain.html, "Memory Allocation").
    Some(match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => amount / 1024,
        "MiB" | "M" => amount.saturating_mul(1024),
        "GiB" | "G" => amount.saturating_mul(1024 * 1024),
        _ => amount,
    })
}

/// The CPUs that are switched on: `<vcpu current='1'>4</vcpu>` has one.
fn vcpus(node: Node<'_, '_>) -> Option<u32> {
    node.attribute("current")
        .and_then(|current| current.parse().ok())
        .or_else(|| number(node))
}

pub(crate) fn disk(node: Node<'_, '_>) -> DiskFacts {
    let target = child(node, "target");
    DiskFacts {
        device: match node.attribute("device").unwrap_or("disk") {
            "disk" => DiskDevice::Disk,
            "cdrom" => DiskDevice::Cdrom,
            _ => DiskDevice::Other,
        },
        target: target.map(|t| attribute(t, "dev")).unwrap_or_default(),
        bus: target.map(|t| attribute(t, "bus")).unwrap_or_default(),
        source: child(node, "source").and_then(|source| disk_source(node, source)),
        format: child(node, "driver")
            .and_then(|d| d.attribute("type"))
            .map(String::from),
        backing: backing(node),
        job: child(node, "mirror").map(|mirror| BlockJob {
            kind: attribute(mirror, "job"),
            to: child(mirror, "source").and_then(|source| disk_source(mirror, source)),
        }),
    }
}

fn backing(disk: Node<'_, '_>) -> Vec<Source> {
    let mut chain = Vec::new();
    let mut next = child(disk, "backingStore");
    while let Some(store) = next {
        chain.extend(child(store, "source").and_then(|source| disk_source(store, source)));
        next = child(store, "backingStore");
    }
    chain
}

fn disk_source(disk: Node<'_, '_>, source: Node<'_, '_>) -> Option<Source> {
    match attribute(disk, "type").as_str() {
        "file" => source
            .attribute("file")
            .map(|path| Source::File(path.into())),
        "block" => source
            .attribute("dev")
            .map(|path| Source::Block(path.into())),
        "volume" => Some(Source::Volume(VolumeRef {
            pool: attribute(source, "pool"),
            name: attribute(source, "volume"),
        })),
        other => Some(Source::Other(format!(
            "{other} disk {}",
            attribute(source, "name")
        ))),
    }
}

pub(crate) fn interface(node: Node<'_, '_>) -> Option<NicFacts> {
    use ObservedNicSource::{Device, Known, Other};
    let mac = MacAddr::parse(child(node, "mac")?.attribute("address")?).ok()?;
    let source = child(node, "source");
    let kind = attribute(node, "type");
    let named = |name: &str| source.map(|s| attribute(s, name)).unwrap_or_default();
    // An interface in a network is shown, while it runs, by the kind of device that the network
    // gave it: its source still names the network.
    let network = source.and_then(|s| s.attribute("network"));
    let source = match kind.as_str() {
        _ if network.is_some() => Known(NicSource::Network(NetworkRef::Name(named("network")))),
        "direct" if named("mode") == "bridge" => Known(NicSource::Macvtap {
            device: named("dev"),
        }),
        "direct" => Other(format!(
            "macvtap on {} in mode {}",
            named("dev"),
            named("mode")
        )),
        "bridge" => bridge_port(node, named("bridge")),
        "hostdev" => {
            let address = source.and_then(|s| child(s, "address"));
            let address = address.and_then(pci_address);
            address.map_or_else(|| Other(kind), Device)
        }
        _ => Other(kind),
    };
    Some(NicFacts { mac, source })
}

/// `Other`: of a form that lbctl does not make, such as a trunk.
fn bridge_port(node: Node<'_, '_>, bridge: String) -> ObservedNicSource {
    let port = child(node, "virtualport").map(|port| attribute(port, "type"));
    let switch = match port.as_deref() {
        None => Switch::Linux,
        Some("openvswitch") => Switch::OpenVswitch,
        Some(other) => return ObservedNicSource::Other(format!("bridge {bridge} by {other}")),
    };
    let vlan = child(node, "vlan");
    let mut tags = vlan.into_iter().flat_map(|vlan| elements(vlan, "tag"));
    let tag = tags.next();
    let native = tag.is_some_and(|tag| tag.attribute("nativeMode").is_some());
    let trunk = vlan.is_some_and(|vlan| attribute(vlan, "trunk") == "yes");
    if trunk || native || tags.next().is_some() {
        return ObservedNicSource::Other(format!("bridge {bridge}, a trunk of VLANs"));
    }
    let vlan = tag.and_then(|tag| tag.attribute("id")?.parse().ok());
    ObservedNicSource::Known(NicSource::Bridge {
        bridge,
        vlan,
        switch,
    })
}

fn link(node: Node<'_, '_>) -> Option<NicLink> {
    let mac = MacAddr::parse(child(node, "mac")?.attribute("address")?).ok()?;
    let port = child(node, "source").and_then(|s| s.attribute("portid"));
    let state = child(node, "link").and_then(|l| l.attribute("state"));
    Some(NicLink {
        mac,
        port: port.map(str::to_ascii_lowercase),
        up: state != Some("down"),
    })
}

pub(crate) fn is_agent_channel(node: Node<'_, '_>) -> bool {
    child(node, "target").is_some_and(|t| attribute(t, "name") == "org.qemu.guest_agent.0")
}

/// What a `<domainsnapshot>` document says: the disks that a revert needs, and the files that the
/// snapshot made. Both definitions in it count: a snapshot of a running guest returns to the live
/// one, and leaves the other for the next start.
pub(super) fn snapshot(xml: &str, name: &str) -> Result<Snapshot, String> {
    let document =
        Document::parse(xml).map_err(|e| format!("the snapshot's XML cannot be read: {e}"))?;
    let root = document.root_element();
    let mut disks: Vec<Source> = Vec::new();
    for definition in ["domain", "inactiveDomain"] {
        let Some(domain) = child(root, definition) else {
            continue;
        };
        let sources = Definition::of_element(domain)?
            .disks
            .into_iter()
            .filter_map(|d| d.source);
        for source in sources {
            if !disks.contains(&source) {
                disks.push(source);
            }
        }
    }
    let memory = child(root, "memory").and_then(|m| m.attribute("file"));
    let overlays = child(root, "disks")
        .into_iter()
        .flat_map(|disks| disks.children().filter(|n| n.has_tag_name("disk")))
        .filter(|disk| disk.attribute("snapshot") == Some("external"))
        .filter_map(|disk| child(disk, "source")?.attribute("file"));
    Ok(Snapshot {
        name: name.to_owned(),
        disks,
        files: memory
            .into_iter()
            .chain(overlays)
            .map(String::from)
            .collect(),
    })
}

/// The uuid of a `<domain>` or `<network>` document.
pub(super) fn uuid(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    child(document.root_element(), "uuid").map(|n| text(n).to_ascii_lowercase())
}

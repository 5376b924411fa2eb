//! The facts of a domain's XML that lbctl compares or needs, and how they are read. libvirt
//! rewrites what it is given (MiB become KiB, controllers and addresses appear), so facts are
//! compared and never the text.

use std::fmt;

use roxmltree::{Document, Node};

use super::xml::{attribute, child, number, text};
use crate::config::{MacAddr, NetworkRef, NicSource, VolumeRef};
use crate::host::ownership::Ownership;

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
    pub format: Option<String>,
}

/// What a network interface was found attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObservedNicSource {
    /// A network always by its name: libvirt keeps no other reference.
    Known(NicSource),
    /// A kind that lbctl never makes.
    Other(String),
}

impl fmt::Display for ObservedNicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(source) => write!(f, "{source}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NicFacts {
    pub mac: MacAddr,
    pub source: ObservedNicSource,
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
        let domain = document.root_element();
        let os_type = child(domain, "os").and_then(|os| child(os, "type"));
        let devices = child(domain, "devices").ok_or("the domain's XML has no <devices>")?;
        let memory_kib = memory(domain, "memory").ok_or("the domain's XML has no <memory>")?;
        Ok(Self {
            domain_type: attribute(domain, "type"),
            architecture: os_type.map(|t| attribute(t, "arch")).unwrap_or_default(),
            machine: os_type.map(|t| attribute(t, "machine")).unwrap_or_default(),
            memory_kib,
            current_memory_kib: memory(domain, "currentMemory").unwrap_or(memory_kib),
            vcpus: child(domain, "vcpu").and_then(vcpus).unwrap_or(1),
            disks: elements(devices, "disk").map(disk).collect(),
            interfaces: elements(devices, "interface")
                .filter_map(interface)
                .collect(),
            agent_channel: elements(devices, "channel").any(is_agent_channel),
            ownership: Ownership::find(domain),
            run: domain.attribute("id").and_then(|id| id.parse().ok()),
        })
    }

    /// The CD-ROM drives, which is where the seed is.
    pub fn cdroms(&self) -> impl Iterator<Item = &DiskFacts> {
        self.disks.iter().filter(|d| d.device == DiskDevice::Cdrom)
    }

    /// Whether a CD-ROM drive holds the volume, whose path is `source`.
    #[must_use]
    pub fn holds(&self, at: &VolumeRef, source: Option<&Source>) -> bool {
        self.cdroms()
            .filter_map(|d| d.source.as_ref())
            .any(|s| Some(s) == source || *s == Source::Volume(at.clone()))
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

fn memory(domain: Node<'_, '_>, name: &str) -> Option<u64> {
    let node = child(domain, name)?;
    let amount: u64 = number(node)?;
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

fn disk(node: Node<'_, '_>) -> DiskFacts {
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
    }
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

fn interface(node: Node<'_, '_>) -> Option<NicFacts> {
    use ObservedNicSource::{Known, Other};
    let mac = MacAddr::parse(child(node, "mac")?.attribute("address")?).ok()?;
    let source = child(node, "source");
    let kind = attribute(node, "type");
    let named = |name: &str| source.map(|s| attribute(s, name)).unwrap_or_default();
    let source = match kind.as_str() {
        "network" => Known(NicSource::Network(NetworkRef::Name(named("network")))),
        "direct" if named("mode") == "bridge" => Known(NicSource::Macvtap {
            device: named("dev"),
        }),
        "direct" => Other(format!(
            "macvtap on {} in mode {}",
            named("dev"),
            named("mode")
        )),
        "bridge" => Other(format!("bridge {}", named("bridge"))),
        other => Other(other.into()),
    };
    Some(NicFacts { mac, source })
}

fn is_agent_channel(node: Node<'_, '_>) -> bool {
    child(node, "target").is_some_and(|t| attribute(t, "name") == "org.qemu.guest_agent.0")
}

/// The uuid of a `<domain>` or `<network>` document.
pub(super) fn uuid(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    child(document.root_element(), "uuid").map(|n| text(n).to_ascii_lowercase())
}

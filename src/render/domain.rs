//! The domain's XML, from a [`DomainSpec`]: of a new domain here, of one that is there in [`edit`].
//! Pure. What libvirt makes of it is read back in `host::Definition`.

pub mod edit;

use std::fmt;

use askama::Template;

use crate::config::{MacAddr, NicSource, Switch, VolumeRef};
use crate::host::ownership::{LAYOUT, Ownership, PartPrints, SeedRecord};
use crate::host::{Drive, NicFacts, ObservedNicSource, Source};
use crate::text::xml::escape;

/// What the domain is to be, without the paths that only the host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    pub name: String,
    pub kind: DomainKind,
    /// As `uname -m` says it.
    pub architecture: String,
    pub machine: String,
    pub memory_mib: u64,
    pub vcpus: u32,
    pub interfaces: Vec<NicSpec>,
}

impl DomainSpec {
    /// The architectures with the watchdog and panic devices that lbctl uses.
    #[must_use]
    pub fn is_x86(&self) -> bool {
        matches!(self.architecture.as_str(), "x86_64" | "i686")
    }
}

/// A network interface that the domain is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicSpec {
    pub mac: MacAddr,
    /// A network by its name: libvirt would not keep a UUID.
    pub source: NicSource,
    /// Whether it is given addresses of IPv6.
    pub ipv6: bool,
}

/// As it is found once the domain has it.
impl From<&NicSpec> for NicFacts {
    fn from(spec: &NicSpec) -> Self {
        Self {
            mac: spec.mac,
            source: ObservedNicSource::Known(spec.source.clone()),
        }
    }
}

/// libvirt's domain type, chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainKind {
    Kvm,
    Qemu,
}

impl DomainKind {
    /// As it is in the domain's XML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }

    /// `maximum` is what TCG can emulate; host-passthrough needs kvm (formatdomain.html, "CPU model
    /// and topology").
    fn cpu_mode(self) -> &'static str {
        match self {
            Self::Kvm => "host-passthrough",
            Self::Qemu => "maximum",
        }
    }
}

impl fmt::Display for DomainKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The root disk as the domain refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDisk {
    pub source: Source,
    /// `qcow2` or `raw`.
    pub format: String,
}

#[derive(Template)]
#[template(path = "domain.xml", escape = "none")]
struct DomainTemplate<'a> {
    domain_type: DomainKind,
    name: String,
    ownership: String,
    memory: u64,
    vcpus: u32,
    architecture: String,
    machine: String,
    efi: bool,
    x86: bool,
    cpu_mode: &'static str,
    root_disk: String,
    seed_disk: String,
    interfaces: Vec<NicXml<'a>>,
    channel: &'static str,
    controller: &'static str,
    watchdog: &'static str,
    panic: &'static str,
}

const AGENT_CHANNEL: &str = "<channel type=\"unix\">
      <target type=\"virtio\" name=\"org.qemu.guest_agent.0\"/>
    </channel>";
const SCSI_CONTROLLER: &str = "<controller type=\"scsi\" model=\"virtio-scsi\"/>";
const WATCHDOG: &str = "<watchdog model=\"i6300esb\" action=\"reset\"/>";
const PANIC: &str = "<panic model=\"isa\"/>";
const FILTERS: &str = "trustGuestRxFilters";

/// An element within a network interface's, if it is to have one.
type NicPart<'a> = fn(&NicXml<'a>) -> Option<String>;

/// A network interface as an element.
struct NicXml<'a>(&'a NicSpec);

impl<'a> NicXml<'a> {
    /// The elements beside the source that say where it is attached.
    const PARTS: [(&'static str, NicPart<'a>); 2] =
        [("vlan", Self::vlan), ("virtualport", Self::virtualport)];

    /// Whether the host lets the guest say which groups it listens to. Without that a macvtap
    /// passes on only those that the host's own end is in: the guest does not hear who asks for
    /// an address of IPv6 that is not made from its MAC address (seen with libvirt 9.0;
    /// libvirt-ref: trustGuestRxFilters).
    fn says_what_it_listens_to(&self) -> bool {
        self.0.ipv6 && matches!(self.0.source, NicSource::Macvtap { .. })
    }

    fn kind(&self) -> &'static str {
        match self.0.source {
            NicSource::Network(_) => "network",
            NicSource::Macvtap { .. } => "direct",
            NicSource::Bridge { .. } => "bridge",
        }
    }

    fn source(&self) -> String {
        match &self.0.source {
            NicSource::Network(network) => {
                format!("<source network=\"{}\"/>", escape(network.as_str()))
            }
            NicSource::Macvtap { device } => {
                format!("<source dev=\"{}\" mode=\"bridge\"/>", escape(device))
            }
            NicSource::Bridge { bridge, .. } => {
                format!("<source bridge=\"{}\"/>", escape(bridge))
            }
        }
    }

    fn vlan(&self) -> Option<String> {
        match &self.0.source {
            NicSource::Bridge {
                vlan: Some(vlan), ..
            } => Some(format!(
                "<vlan>\n        <tag id=\"{vlan}\"/>\n      </vlan>"
            )),
            NicSource::Bridge { vlan: None, .. }
            | NicSource::Network(_)
            | NicSource::Macvtap { .. } => None,
        }
    }

    /// What makes it a port of a switch that is none of Linux's own.
    fn virtualport(&self) -> Option<String> {
        match &self.0.source {
            NicSource::Bridge {
                switch: Switch::OpenVswitch,
                ..
            } => Some("<virtualport type=\"openvswitch\"/>".into()),
            NicSource::Bridge {
                switch: Switch::Linux,
                ..
            }
            | NicSource::Network(_)
            | NicSource::Macvtap { .. } => None,
        }
    }

    /// Where it is attached, one element after the other.
    fn attachment(&self) -> String {
        let rest = Self::PARTS.iter().filter_map(|(_, part)| part(self));
        let all: Vec<String> = std::iter::once(self.source()).chain(rest).collect();
        all.join("\n      ")
    }
}

impl fmt::Display for NicXml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters = if self.says_what_it_listens_to() {
            format!(" {FILTERS}=\"yes\"")
        } else {
            String::new()
        };
        write!(
            f,
            "<interface type=\"{}\"{filters}>\n      {}\n      <mac address=\"{}\"/>\n      <model type=\"virtio\"/>\n    \
             </interface>",
            self.kind(),
            self.attachment(),
            self.0.mac
        )
    }
}

/// Renders the whole definition of a new domain.
pub fn render(
    spec: &DomainSpec,
    ownership: &Ownership,
    root: &RootDisk,
    seed: &Source,
) -> Result<String, askama::Error> {
    DomainTemplate {
        domain_type: spec.kind,
        name: escape(&spec.name),
        ownership: ownership.to_xml(),
        memory: spec.memory_mib,
        vcpus: spec.vcpus,
        architecture: escape(&spec.architecture),
        machine: escape(&spec.machine),
        // ARM machines have no BIOS.
        efi: spec.architecture == "aarch64",
        x86: spec.is_x86(),
        cpu_mode: spec.kind.cpu_mode(),
        root_disk: disk(
            &root.source,
            "disk",
            &root.format,
            "<target dev=\"vda\" bus=\"virtio\"/>",
        ),
        seed_disk: seed_cdrom(seed, &Drive::new()),
        interfaces: spec.interfaces.iter().map(NicXml).collect(),
        channel: AGENT_CHANNEL,
        controller: SCSI_CONTROLLER,
        watchdog: WATCHDOG,
        panic: PANIC,
    }
    .render()
}

/// The definition with disks that need not exist and without network interfaces: only to ask
/// libvirt whether it accepts one like it. For the answer libvirt would make each interface a
/// device in its network and take it out again (`qemuConnectDomainXMLToNative`, seen with 9.0): a
/// host must not be changed by a question, and that takes ten times as long as all the rest.
pub fn sketch(spec: &DomainSpec) -> Result<String, askama::Error> {
    let spec = &DomainSpec {
        interfaces: Vec::new(),
        ..spec.clone()
    };
    let nowhere = Source::File("/nonexistent".into());
    let none = || String::new();
    let ownership = Ownership {
        layout: LAYOUT,
        seed: SeedRecord {
            volume: VolumeRef {
                pool: none(),
                name: none(),
            },
            fingerprint: none(),
            parts: PartPrints {
                guest: none(),
                start: none(),
                boot: none(),
            },
        },
        stale_seeds: Vec::new(),
        disk: None,
        reservations: Vec::new(),
    };
    let root = RootDisk {
        source: nowhere.clone(),
        format: "raw".into(),
    };
    render(spec, &ownership, &root, &nowhere)
}

/// A CD-ROM drive with the seed, also for changing its medium in the running domain.
#[must_use]
pub fn seed_cdrom(seed: &Source, drive: &Drive) -> String {
    let (target, bus) = (escape(&drive.target), escape(&drive.bus));
    disk(
        seed,
        "cdrom",
        "raw",
        &format!("<target dev=\"{target}\" bus=\"{bus}\"/><readonly/>"),
    )
}

fn disk(source: &Source, device: &str, format: &str, rest: &str) -> String {
    let (kind, element) = (disk_kind(source), source_element(source));
    let format = escape(format);
    format!(
        "<disk type=\"{kind}\" device=\"{device}\"><driver name=\"qemu\" type=\"{format}\"/>{element}{rest}</disk>"
    )
}

fn disk_kind(source: &Source) -> &'static str {
    match source {
        Source::File(_) | Source::Other(_) => "file",
        Source::Block(_) => "block",
        Source::Volume(_) => "volume",
    }
}

fn source_element(source: &Source) -> String {
    match source {
        Source::File(path) | Source::Other(path) => {
            format!("<source file=\"{}\"/>", escape(path))
        }
        Source::Block(path) => format!("<source dev=\"{}\"/>", escape(path)),
        Source::Volume(at) => format!(
            "<source pool=\"{}\" volume=\"{}\"/>",
            escape(&at.pool),
            escape(&at.name)
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::one_of_each_kind;
    use crate::host::Definition;

    fn written(interfaces: Vec<NicSpec>) -> String {
        written_for("x86_64", interfaces)
    }

    fn spec(architecture: &str, interfaces: Vec<NicSpec>) -> DomainSpec {
        DomainSpec {
            name: "lb-1".into(),
            kind: DomainKind::Kvm,
            architecture: architecture.into(),
            machine: "q35".into(),
            memory_mib: 1024,
            vcpus: 2,
            interfaces,
        }
    }

    fn written_for(architecture: &str, interfaces: Vec<NicSpec>) -> String {
        let at = VolumeRef {
            pool: "default".into(),
            name: "lb-1".into(),
        };
        let spec = spec(architecture, interfaces);
        let ownership = Ownership {
            layout: LAYOUT,
            seed: SeedRecord {
                volume: at.clone(),
                fingerprint: String::new(),
                parts: PartPrints {
                    guest: String::new(),
                    start: String::new(),
                    boot: String::new(),
                },
            },
            stale_seeds: Vec::new(),
            disk: None,
            reservations: Vec::new(),
        };
        let root = RootDisk {
            source: Source::Volume(at.clone()),
            format: "qcow2".into(),
        };
        render(&spec, &ownership, &root, &Source::Volume(at)).unwrap()
    }

    #[test]
    fn what_libvirt_is_asked_about_needs_no_device_of_the_host() {
        let mac = MacAddr([0x52, 0x54, 0, 1, 2, 3]);
        let nics = one_of_each_kind().into_iter();
        let nics = nics.map(|source| NicSpec {
            mac,
            source,
            ipv6: false,
        });
        let xml = sketch(&spec("x86_64", nics.collect())).unwrap();
        assert!(!xml.contains("<interface"), "{xml}");
        assert!(!Definition::parse(&xml).unwrap().disks.is_empty());
    }

    #[test]
    fn a_guest_that_hangs_or_panics_is_started_again() {
        let devices = "    <watchdog model=\"i6300esb\" action=\"reset\"/>\n    <panic model=\"isa\"/>\n  </devices>";
        for (architecture, has) in [("x86_64", true), ("i686", true), ("aarch64", false)] {
            let xml = written_for(architecture, Vec::new());
            assert!(xml.contains("<on_crash>restart</on_crash>"), "{xml}");
            assert_eq!(xml.contains(devices), has, "{xml}");
            assert!(has || !xml.contains("<watchdog"), "{xml}");
        }
    }

    #[test]
    fn every_kind_of_network_interface_is_read_back_as_written() {
        let mac = MacAddr([0x52, 0x54, 0, 1, 2, 3]);
        let specs = one_of_each_kind().into_iter();
        let specs: Vec<NicSpec> = specs
            .map(|source| NicSpec {
                mac,
                source,
                ipv6: true,
            })
            .collect();
        let wanted: Vec<NicFacts> = specs.iter().map(NicFacts::from).collect();
        let xml = written(specs);
        let read = Definition::parse(&xml).unwrap();
        assert_eq!(read.interfaces, wanted);
        let trusting = "<interface type=\"direct\" trustGuestRxFilters=\"yes\">";
        assert!(xml.contains(trusting), "{xml}");
        assert_eq!(xml.matches("trustGuestRxFilters").count(), 1, "{xml}");
    }
}

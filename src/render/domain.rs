//! The domain's XML, from a [`DomainSpec`]. Pure. What libvirt makes of it is read back in
//! `host::Definition`.

use std::fmt;

use askama::Template;

use crate::config::{MacAddr, NicSource};
use crate::host::ownership::Ownership;
use crate::host::{NicFacts, ObservedNicSource, Source};
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
    uuid: Option<String>,
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
    interfaces: &'a [NicSpec],
}

/// Text in an attribute of the template.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.0))
    }
}

/// Renders the whole definition. `uuid` is that of the domain it replaces.
pub fn render(
    spec: &DomainSpec,
    uuid: Option<&str>,
    ownership: &Ownership,
    root: &RootDisk,
    seed: &Source,
) -> Result<String, askama::Error> {
    DomainTemplate {
        domain_type: spec.kind,
        name: escape(&spec.name),
        uuid: uuid.map(escape),
        ownership: ownership.to_xml(),
        memory: spec.memory_mib,
        vcpus: spec.vcpus,
        architecture: escape(&spec.architecture),
        machine: escape(&spec.machine),
        // ARM machines have no BIOS.
        efi: spec.architecture == "aarch64",
        x86: spec.is_x86(),
        // `maximum` is what TCG can emulate; host-passthrough needs kvm (formatdomain.html, "CPU
        // model and topology").
        cpu_mode: match spec.kind {
            DomainKind::Kvm => "host-passthrough",
            DomainKind::Qemu => "maximum",
        },
        root_disk: disk(
            &root.source,
            "disk",
            &root.format,
            "<target dev=\"vda\" bus=\"virtio\"/>",
        ),
        seed_disk: seed_cdrom(seed),
        interfaces: &spec.interfaces,
    }
    .render()
}

/// The CD-ROM drive with the seed, also for changing its medium in the running domain.
///
/// virtio-scsi, for Debian's cloud kernel has no AHCI driver and q35 has no IDE.
#[must_use]
pub fn seed_cdrom(seed: &Source) -> String {
    disk(
        seed,
        "cdrom",
        "raw",
        "<target dev=\"sda\" bus=\"scsi\"/><readonly/>",
    )
}

fn disk(source: &Source, device: &str, format: &str, rest: &str) -> String {
    let (kind, element) = match source {
        Source::File(path) | Source::Other(path) => {
            ("file", format!("<source file=\"{}\"/>", escape(path)))
        }
        Source::Block(path) => ("block", format!("<source dev=\"{}\"/>", escape(path))),
        Source::Volume(at) => (
            "volume",
            format!(
                "<source pool=\"{}\" volume=\"{}\"/>",
                escape(&at.pool),
                escape(&at.name)
            ),
        ),
    };
    let format = escape(format);
    format!(
        "<disk type=\"{kind}\" device=\"{device}\"><driver name=\"qemu\" type=\"{format}\"/>{element}{rest}</disk>"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{VolumeRef, one_of_each_kind};
    use crate::host::Definition;
    use crate::host::ownership::{LAYOUT, PartPrints, SeedRecord};

    fn written(interfaces: Vec<NicSpec>) -> String {
        written_for("x86_64", interfaces)
    }

    fn written_for(architecture: &str, interfaces: Vec<NicSpec>) -> String {
        let at = VolumeRef {
            pool: "default".into(),
            name: "lb-1".into(),
        };
        let spec = DomainSpec {
            name: "lb-1".into(),
            kind: DomainKind::Kvm,
            architecture: architecture.into(),
            machine: "q35".into(),
            memory_mib: 1024,
            vcpus: 2,
            interfaces,
        };
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
        render(&spec, None, &ownership, &root, &Source::Volume(at)).unwrap()
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
        let specs: Vec<NicSpec> = specs.map(|source| NicSpec { mac, source }).collect();
        let wanted: Vec<NicFacts> = specs.iter().map(NicFacts::from).collect();
        let read = Definition::parse(&written(specs)).unwrap();
        assert_eq!(read.interfaces, wanted);
    }
}

//! The domain's XML, from a [`DomainSpec`]. Pure. What libvirt makes of it is read back in `host::Definition`.

use std::fmt;

use askama::Template;

use crate::config::MacAddr;
use crate::host::ownership::Ownership;
use crate::host::{NicFacts, NicSource, Source};
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
    pub interfaces: Vec<NicFacts>,
}

/// libvirt's domain type, chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainKind {
    Kvm,
    Qemu,
}

impl fmt::Display for DomainKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        })
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
struct DomainTemplate {
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
    interfaces: Vec<NicTemplate>,
}

struct NicTemplate {
    macvtap: bool,
    source: String,
    mac: MacAddr,
}

/// Renders the whole definition. `uuid` is that of the domain it replaces.
pub fn render(
    spec: &DomainSpec,
    uuid: Option<&str>,
    ownership: &Ownership,
    root: &RootDisk,
    seed: &Source,
) -> Result<String, askama::Error> {
    let x86 = matches!(spec.architecture.as_str(), "x86_64" | "i686");
    DomainTemplate {
        domain_type: spec.kind,
        name: escape(&spec.name),
        uuid: uuid.map(escape),
        ownership: ownership.to_xml(),
        memory: spec.memory_mib,
        vcpus: spec.vcpus,
        architecture: escape(&spec.architecture),
        machine: escape(&spec.machine),
        // ARM machines have no BIOS to fall back on.
        efi: spec.architecture == "aarch64",
        x86,
        // `maximum` is what TCG can emulate; host-passthrough needs kvm (formatdomain.html, "CPU model and topology").
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
        interfaces: spec.interfaces.iter().map(nic).collect(),
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

fn nic(facts: &NicFacts) -> NicTemplate {
    let (macvtap, source) = match &facts.source {
        NicSource::Macvtap(device) => (true, device),
        NicSource::Network(name) | NicSource::Other(name) => (false, name),
    };
    NicTemplate {
        macvtap,
        source: escape(source),
        mac: facts.mac,
    }
}

//! The checked configuration: what every other module gets. Nothing here can be wrong any more, and
//! nothing here reads a file, the environment or the clock. Values "not given" (absent, empty
//! string, empty list) are already `None` or their default.

mod haproxy;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::cloud_config::CloudConfig;
use super::nic::NicSource;
use super::types::{
    CpuCount, DomainName, ImageUrl, InterfaceAddress, IpNetwork, MacAddr, MemoryMib, Name, Port,
    Sha256, VolumeRef,
};
use crate::secret::Secret;

pub use haproxy::*;

/// One load balancer, as its TOML file describes it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that describes it, as it was named: for messages, and for what lies beside it.
    pub file: String,
    /// What it refers to and is not there, in words. Empty, unless the command needs less than all
    /// of it ([`super::Needs`]).
    pub unread: Vec<String>,
    pub name: Name,
    pub vcpus: CpuCount,
    pub memory: MemoryMib,
    pub disk: Disk,
    /// Never empty. The first one's address is the one advertised and reported.
    pub interfaces: Vec<Interface>,
    /// Where the seed is put. Default name: `<name>-cloud-init.iso`.
    pub seed_volume: VolumeRef,
    pub admin: Admin,
    pub haproxy: Haproxy,
    /// The address that it shares with other VMs. `None`: clients come by its own alone.
    pub virtual_ip: Option<VirtualIp>,
    pub chrony: Option<Chrony>,
    pub fluentd: Option<Fluentd>,
    pub node_exporter: bool,
    pub container_registry: Option<ContainerRegistry>,
    /// Whether cloud-init may install packages and download anything at all.
    pub install_dependencies: bool,
    pub first_boot: FirstBoot,
    pub libvirt: Libvirt,
}

impl Config {
    /// The address that clients are told: the first interface's first. `None`: a DHCP server gives
    /// it, and only the guest knows it.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.interfaces.first()?.ip()
    }

    /// Whether an interface has an address that only the guest knows.
    #[must_use]
    pub fn has_unknown_address(&self) -> bool {
        self.interfaces.iter().any(|i| i.ip().is_none())
    }
}

/// The root disk: one that exists, or one that lbctl clones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// `volume_id`: a libvirt volume key, a path, or `pool/name`. Never created, grown or deleted
    /// by lbctl.
    Existing {
        id: String,
        /// What it is to be read as. `None`: as the domain reads it already; before that, what
        /// cannot harm the host.
        format: Option<DiskFormat>,
    },
    /// `[volume]`: a copy-on-write clone of a base volume.
    Clone(CloneVolume),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneVolume {
    pub volume: VolumeRef,
    /// Bytes. `None`: the size of the base. Grown to, never shrunk.
    pub size: Option<u64>,
    pub base: VolumeRef,
    /// What the base volume is made from where it is not there. `None`: somebody else made it.
    pub image: Option<BaseImage>,
    pub format: DiskFormat,
}

/// An image of an operating system, which lbctl brings into the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    pub source: ImageSource,
    pub sha256: Sha256,
}

impl BaseImage {
    /// Of the base volume: the same for every load balancer of that image.
    #[must_use]
    pub fn volume_name(&self) -> String {
        format!("lbctl-{}.qcow2", self.sha256.short())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageSource {
    File(PathBuf),
    Url(ImageUrl),
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "image {}", path.display()),
            Self::Url(url) => write!(f, "image {url}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    Qcow2,
    /// A full copy: raw has no backing file.
    Raw,
}

impl DiskFormat {
    /// libvirt's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// One network interface of the guest, in the order of the keys of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// As given, or derived from the VM's name and the interface's place, in the 52:54:00 range.
    pub mac: MacAddr,
    pub mac_derived: bool,
    pub source: NicSource,
    pub addressing: Addressing,
    /// `None`: the guest's own, or what its DHCP server says.
    pub mtu: Option<u16>,
}

impl Interface {
    /// The address that it is known by. `None`: a DHCP server that lbctl does not know gives it.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ips().next()
    }

    /// Every address of it that is known.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let (reserved, fixed) = match &self.addressing {
            Addressing::DhcpReservation(ip) => (Some(IpAddr::V4(*ip)), &[][..]),
            Addressing::Dhcp => (None, &[][..]),
            Addressing::Static(fixed) => (None, fixed.addresses.as_slice()),
        };
        reserved
            .into_iter()
            .chain(fixed.iter().map(InterfaceAddress::ip))
    }

    /// The address that is to be reserved in its libvirt network.
    #[must_use]
    pub fn reserved(&self) -> Option<Ipv4Addr> {
        match self.addressing {
            Addressing::DhcpReservation(ip) => Some(ip),
            Addressing::Dhcp | Addressing::Static(_) => None,
        }
    }
}

/// How the guest comes by the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing {
    /// By a DHCP reservation in the libvirt network (`libvirt_network`).
    DhcpReservation(Ipv4Addr),
    /// By a DHCP server that lbctl does not know.
    Dhcp,
    /// Written into network-config.
    Static(StaticAddressing),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddressing {
    /// Never empty. The first one is that which the interface is known by.
    pub addresses: Vec<InterfaceAddress>,
    /// At most one for IPv4 and one for IPv6.
    pub gateways: Vec<Hop>,
    pub routes: Vec<Route>,
    pub dns_servers: Vec<IpAddr>,
    pub search: Vec<DomainName>,
}

/// A router on the interface's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    pub via: IpAddr,
    /// In none of the interface's networks: the guest must be told that it is there.
    pub on_link: bool,
}

/// A way to a network other than by the default gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub to: IpNetwork,
    pub hop: Hop,
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub user: String,
    pub password: Option<Secret>,
    /// What crypt(3) makes of it, once somebody has asked: it takes milliseconds, and each plan
    /// needs it. Clones of the configuration have it together.
    pub password_hash: Arc<OnceLock<PasswordHash>>,
    /// One line in `authorized_keys` form. Empty: nobody can log in by ssh.
    pub public_keys: Vec<String>,
}

/// A password as a hash, with what that was made from.
#[derive(Debug)]
pub struct PasswordHash {
    pub password: Secret,
    pub salt: String,
    pub hash: Secret,
}

/// What the guest needs at its first boot where it has no plain way out: `[guest]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirstBoot {
    /// For packages and container images.
    pub http_proxy: Option<String>,
    /// That of the distribution, and that of its security updates. Empty: the image's own.
    pub apt_mirrors: Vec<String>,
    /// PEM, each with one certificate.
    pub ca_certificates: Vec<String>,
    pub timezone: Option<String>,
    pub cloud_config: Option<CloudConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chrony {
    pub servers: Vec<TimeSource>,
    pub pools: Vec<TimeSource>,
    pub makestep: Option<MakeStep>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeSource {
    pub url: String,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MakeStep {
    /// Seconds.
    pub threshold: f64,
    /// Number of clock updates; negative: no limit.
    pub limit: i64,
}

impl Eq for MakeStep {}

#[derive(Debug, Clone)]
pub struct Fluentd {
    pub load_balancer_tag: String,
    pub node_exporter_tag: String,
    pub forward: FluentdForward,
    /// A whole `<buffer>` section, where customised.
    pub buffer: Option<String>,
}

#[derive(Debug, Clone)]
pub struct FluentdForward {
    /// IP address or domain name.
    pub domain: String,
    pub port: Port,
    pub hostname: String,
    pub shared_key: Secret,
    pub ca_cert: String,
}

#[derive(Debug, Clone)]
pub struct ContainerRegistry {
    /// With its protocol, as given.
    pub url: String,
    pub username: String,
    pub password: Secret,
    /// PEM. `None`: signed by one that the guest trusts anyway.
    pub ca_certificate: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libvirt {
    pub uri: Option<String>,
    pub domain_type: DomainType,
    /// Machine type, for instance `q35` or `virt`. `None`: what libvirt gives for the
    /// architecture.
    pub machine: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainType {
    /// kvm where the host can run it, qemu otherwise.
    Auto,
    Kvm,
    Qemu,
}

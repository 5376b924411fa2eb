//! The checked configuration: what every other module gets. Nothing here can be wrong any more, and
//! nothing here reads a file, the environment or the clock. Values "not given" (absent, empty
//! string, empty list) are already `None` or their default.

use std::net::{IpAddr, Ipv4Addr};

use super::nic::NicSource;
use super::types::{
    CpuCount, DomainName, HaproxyTime, HaproxyVersion, HourSpan, IpNetwork, MacAddr, MemoryMib,
    Name, Port, VolumeRef,
};
use crate::cert::{Ca, KeyAlgorithm};
use crate::secret::Secret;

/// One load balancer, as its TOML file describes it.
#[derive(Debug, Clone)]
pub struct Config {
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
    pub chrony: Option<Chrony>,
    pub fluentd: Option<Fluentd>,
    pub node_exporter: bool,
    pub container_registry: Option<ContainerRegistry>,
    /// Whether cloud-init may install packages and download anything at all.
    pub install_dependencies: bool,
    pub libvirt: Libvirt,
}

impl Config {
    /// The address that clients are told: the first interface's.
    #[must_use]
    pub fn address(&self) -> String {
        self.interfaces
            .first()
            .map(|i| i.ip.to_string())
            .unwrap_or_default()
    }
}

/// The root disk: one that exists, or one that lbctl clones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// `volume_id`: a libvirt volume key, a path, or `pool/name`. Never created, grown or deleted
    /// by lbctl.
    Existing { id: String },
    /// `[volume]`: a copy-on-write clone of a base volume.
    Clone(CloneVolume),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneVolume {
    pub volume: VolumeRef,
    /// Bytes. `None`: the size of the base. Grown to, never shrunk.
    pub size: Option<u64>,
    pub base: VolumeRef,
    pub format: DiskFormat,
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
    pub ip: Ipv4Addr,
    pub source: NicSource,
    pub addressing: Addressing,
}

/// How the guest comes by the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing {
    /// By a DHCP reservation of `ip` in the libvirt network (`libvirt_network`).
    DhcpReservation,
    /// Written into network-config: all that is not reserved.
    Static {
        prefix_length: u8,
        gateway: Option<Ipv4Addr>,
        dns_servers: Vec<IpAddr>,
    },
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub user: String,
    pub password: Option<Secret>,
    /// One line in `authorized_keys` form. Empty: nobody can log in by ssh.
    pub public_keys: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Haproxy {
    pub postgres_nodes_max_count: u16,
    /// Never empty.
    pub postgres_nameserver_ips: Vec<IpAddr>,
    pub postgres_domain: DomainName,
    pub patroni_client: PatroniClient,
    pub timeouts: Timeouts,
    pub runtime: Runtime,
    /// The version whose syntax the configuration is written for.
    pub version: HaproxyVersion,
    /// Container image without tag and digest.
    pub image: String,
    /// `sha256:…`
    pub image_digest: Option<String>,
    /// Name that the nodes' certificates must carry. `None`: only their CA is verified.
    pub verify_host: Option<DomainName>,
    /// Of each port for PostgreSQL.
    pub max_connections: u32,
    /// `None`: as many as all have.
    pub max_connections_per_client: Option<u32>,
    /// How long a new connection waits for the primary. 0: it does not.
    pub hold: HaproxyTime,
    /// How many sessions the primary gets; others wait. `None`: all.
    pub primary_connections: Option<u32>,
    /// Where clients reach the primary.
    pub port: Port,
    /// To listen on, except for the metrics. Unspecified: all of the VM's.
    pub address: Ipv4Addr,
    /// Who may connect to PostgreSQL's ports. Empty: everybody.
    pub allow: Vec<IpNetwork>,
    pub metrics: Option<Metrics>,
    /// Port where read-only sessions are spread over the replicas. `None`: off.
    pub replicas: Option<Replicas>,
    /// Of Patroni's REST API on the nodes.
    pub patroni_port: Port,
    /// The port of the VM that leads to the primary's REST API. `None`: there is none.
    pub patroni_passthrough: Option<Port>,
    /// Who may connect to it. Empty: everybody.
    pub patroni_allow: Vec<IpNetwork>,
    pub check: Check,
    /// How long an old worker may live on after a reload.
    pub hard_stop_after: HaproxyTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    pub port: Port,
    /// Patroni's `/replica?lag=`: for instance `16MB`.
    pub max_lag: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Container,
    Package,
}

#[derive(Debug, Clone)]
pub struct Timeouts {
    pub connect: HaproxyTime,
    pub check: HaproxyTime,
    pub idle: HaproxyTime,
}

#[derive(Debug, Clone)]
pub struct Check {
    pub interval: HaproxyTime,
    pub fast: HaproxyTime,
    pub down: HaproxyTime,
    pub rise: u16,
    pub fall: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub address: IpAddr,
    pub port: Port,
}

/// How the certificate for the health checks is made.
#[derive(Debug, Clone)]
pub struct PatroniClient {
    /// Key and certificate, already checked against each other.
    pub ca: Ca,
    pub validity: HourSpan,
    pub early_renewal: HourSpan,
    pub key_algorithm: KeyAlgorithm,
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

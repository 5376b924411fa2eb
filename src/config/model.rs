//! The checked configuration: what every other module gets. Nothing here can be wrong any more, and
//! nothing here reads a file, the environment or the clock. Values "not given" (absent, empty
//! string, empty list) are already `None` or their default.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::cloud_config::CloudConfig;
use super::nic::NicSource;
use super::patroni_client::CaKey;
use super::types::{
    CpuCount, DomainName, HaproxyTime, HaproxyVersion, HourSpan, ImageUrl, InterfaceAddress,
    IpNetwork, MacAddr, MemoryMib, Name, Port, Sha256, VolumeRef,
};
use super::words::Word as _;
use crate::cert::{CaCertificates, ClientPair, KeyAlgorithm};
use crate::secret::Secret;

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

#[derive(Debug, Clone)]
pub struct Haproxy {
    pub nodes: Nodes,
    pub patroni_tls: PatroniTls,
    pub timeouts: Timeouts,
    pub runtime: Runtime,
    /// The version whose syntax the configuration is written for.
    pub version: HaproxyVersion,
    /// Container image without tag and digest.
    pub image: String,
    /// `sha256:…`
    pub image_digest: Option<String>,
    /// Name that the nodes' certificates must carry. `None`: only their CA is verified, unless a
    /// listed node has a name of its own.
    pub verify_host: Option<DomainName>,
    /// Of each port for PostgreSQL.
    pub max_connections: u32,
    /// `None`: as many as all have.
    pub max_connections_per_client: Option<u32>,
    /// How long a new connection waits for the primary. 0: it does not.
    pub hold: HaproxyTime,
    /// How many sessions the primary gets; others wait. `None`: all.
    pub primary_connections: Option<u32>,
    /// Where clients reach the node of `role`.
    pub port: Port,
    pub role: MainRole,
    /// On the nodes.
    pub postgres_port: Port,
    /// To listen on, except for the metrics. Unspecified: all of the VM's; of IPv4 alone where it
    /// is that of IPv4.
    pub address: IpAddr,
    /// Who may connect to PostgreSQL's ports. Empty: everybody.
    pub allow: Vec<IpNetwork>,
    pub metrics: Option<Metrics>,
    /// Port where read-only sessions are spread over the replicas. `None`: off.
    pub replicas: Option<Replicas>,
    /// Further ports, each with a name of its own.
    pub services: Vec<ClientService>,
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

impl Haproxy {
    /// The name by which the cluster is asked over HTTP, where a name is needed.
    #[must_use]
    pub fn cluster_host(&self) -> &str {
        match (&self.nodes, &self.verify_host) {
            (Nodes::Named { domain, .. }, _) => domain.as_str(),
            (Nodes::Listed { .. }, Some(name)) => name.as_str(),
            (Nodes::Listed { .. }, None) => "patroni",
        }
    }

    /// The name that the certificate of a listed node must carry. `None`: only its CA is verified.
    #[must_use]
    pub fn verify_host_of<'a>(&'a self, node: &'a Node) -> Option<&'a DomainName> {
        let own = match &node.address {
            NodeAddress::Host(name) => Some(name),
            NodeAddress::Ip(_) => None,
        };
        let name = node.verify_host.as_ref();
        let name = name.or(self.verify_host.as_ref()).or(own);
        // Without TLS there is none.
        name.filter(|_| self.patroni_tls.ca_pem().is_some())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    pub port: Port,
    /// Patroni's `/replica?lag=`: for instance `16MB`.
    pub max_lag: Option<String>,
}

/// Who a node of the cluster is, as Patroni says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    /// The leader of a standby cluster, which follows another cluster.
    StandbyLeader,
    /// Either of the two.
    Leader,
    Replica,
    Sync,
    Async,
    /// Every node that runs.
    Any,
}

impl Role {
    /// Of which a cluster has one at most.
    #[must_use]
    pub fn is_single(self) -> bool {
        match self {
            Self::Primary | Self::StandbyLeader | Self::Leader => true,
            Self::Replica | Self::Sync | Self::Async | Self::Any => false,
        }
    }

    /// Whether each node of the other role is one of this role.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Leader => other.is_single(),
            Self::Replica => matches!(other, Self::Replica | Self::Sync | Self::Async),
            Self::Primary | Self::StandbyLeader | Self::Sync | Self::Async => self == other,
        }
    }

    /// As the configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

/// Whom the main port leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainRole {
    Primary,
    StandbyLeader,
    Leader,
}

impl From<MainRole> for Role {
    fn from(role: MainRole) -> Self {
        match role {
            MainRole::Primary => Self::Primary,
            MainRole::StandbyLeader => Self::StandbyLeader,
            MainRole::Leader => Self::Leader,
        }
    }
}

/// A further port for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientService {
    pub name: String,
    pub port: Port,
    pub role: Role,
    /// Who takes new sessions where no node of that role is left.
    pub fallback: Option<Role>,
    /// Patroni's `lag=`, of replicas.
    pub max_lag: Option<String>,
    /// Patroni's `tag_NAME=`, of nodes that are not leaders.
    pub tags: Vec<(String, String)>,
    pub balance: Balance,
    /// Whether the nodes are told the client's address, by version 2 of the PROXY protocol.
    pub proxy_protocol: bool,
    /// On the nodes. `None`: that of the node.
    pub postgres_port: Option<Port>,
}

/// How sessions are spread over several nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastConn,
    RoundRobin,
    StaticRoundRobin,
    First,
    Source,
    Random,
}

impl ClientService {
    /// The name of the backend that has its nodes of that role.
    #[must_use]
    pub fn backend(&self, role: Role) -> String {
        format!("{}-{}", self.name, role.as_str())
    }
}

impl Balance {
    /// HAProxy's word, and the configuration's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

/// An address that several VMs share, of which one has it: `[virtual_ip]`. What is in it of the
/// others may come from their own configurations, or from one that describes all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    pub address: Ipv4Addr,
    /// Which of the VM's network interfaces carries it, in their order.
    pub interface: usize,
    /// The VM's own address there, by which the peers know it.
    pub own: Ipv4Addr,
    /// The other VMs. Never empty.
    pub peers: Vec<Peer>,
    /// VRRP's. From 1 on.
    pub router_id: u8,
    /// How long a VM may be silent until another one takes the address.
    pub detection: HaproxyTime,
    /// How long sessions may stay on a VM that has given the address away on request. 0: they are
    /// cut as the address moves.
    pub drain: HaproxyTime,
}

/// Another VM that shares the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: Ipv4Addr,
    /// `None`: the guest learns it.
    pub mac: Option<MacAddr>,
    /// Whether it is known to be on another host: both are in one file, with different
    /// `libvirt.uri`.
    pub elsewhere: bool,
}

impl VirtualIp {
    /// VRRP's advertisements that may be missed. Three are too few for a machine that is busy.
    pub const DOWN_TIMER_ADVERTS: u64 = 6;

    /// Between two advertisements, in hundredths of a second: so many that a VM that is silent for
    /// `detection` has missed all that it may miss.
    #[must_use]
    pub fn advert_centis(&self) -> u64 {
        (self.detection.millis() / 10 / Self::DOWN_TIMER_ADVERTS).max(1)
    }
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

/// Where the cluster's nodes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nodes {
    /// At every address of one name.
    Named {
        domain: DomainName,
        /// Never empty.
        nameservers: Vec<IpAddr>,
        /// The most that there will be.
        most: u16,
    },
    /// One by one. Never empty; no two have one name.
    Listed {
        nodes: Vec<Node>,
        /// Who resolves their host names. Empty: the guest does, once at HAProxy's start.
        nameservers: Vec<IpAddr>,
    },
}

impl Nodes {
    /// The most that there will be.
    #[must_use]
    pub fn most(&self) -> u16 {
        match self {
            Self::Named { most, .. } => *most,
            Self::Listed { nodes, .. } => u16::try_from(nodes.len()).unwrap_or(u16::MAX),
        }
    }

    /// Whether HAProxy asks nameservers for addresses while it runs.
    #[must_use]
    pub fn are_resolved_at_run_time(&self) -> bool {
        match self {
            Self::Named { .. } => true,
            Self::Listed { nodes, nameservers } => {
                let by_name = |node: &Node| matches!(node.address, NodeAddress::Host(_));
                !nameservers.is_empty() && nodes.iter().any(by_name)
            }
        }
    }

    #[must_use]
    pub fn nameservers(&self) -> &[IpAddr] {
        match self {
            Self::Named { nameservers, .. } | Self::Listed { nameservers, .. } => nameservers,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As HAProxy names its server.
    pub name: String,
    pub address: NodeAddress,
    /// Of PostgreSQL. `None`: as all others.
    pub port: Option<Port>,
    /// Of Patroni's REST API. `None`: as all others.
    pub patroni_port: Option<Port>,
    /// Name that its certificate must carry. `None`: as all others.
    pub verify_host: Option<DomainName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAddress {
    Ip(IpAddr),
    Host(DomainName),
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Host(name) => name.fmt(f),
        }
    }
}

/// How Patroni's REST API is asked.
#[derive(Debug, Clone)]
pub enum PatroniTls {
    /// By TLS: both sides show a certificate.
    Mutual(Box<PatroniClient>),
    /// By TLS: the nodes alone show one, which must be of these.
    Server(CaCertificates),
    /// By plain HTTP.
    Off,
}

impl PatroniTls {
    /// How the certificate for the health checks is made, where there is one.
    #[must_use]
    pub fn client(&self) -> Option<&PatroniClient> {
        match self {
            Self::Mutual(client) => Some(client),
            Self::Server(_) | Self::Off => None,
        }
    }

    /// As the configuration writes it. The guest's program knows these words.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mutual(_) => "mutual",
            Self::Server(_) => "server",
            Self::Off => "off",
        }
    }

    /// The CAs that the nodes' certificates are verified with, PEM. `None`: they have none.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        match self {
            Self::Mutual(client) => Some(client.ca.pem()),
            Self::Server(ca) => Some(ca.pem()),
            Self::Off => None,
        }
    }
}

/// The certificate for the health checks, and whom the nodes are verified with.
#[derive(Debug, Clone)]
pub struct PatroniClient {
    pub ca: CaCertificates,
    pub source: CertificateSource,
}

/// Where the client certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// lbctl issues it.
    Issued(Issuing),
    /// Somebody else does, key and all.
    Given(GivenCertificate),
    /// Somebody else signs what lbctl requests.
    Requested(RequestedCertificate),
}

#[derive(Debug, Clone)]
pub struct Issuing {
    /// Read by what issues alone.
    pub ca_key: CaKey,
    pub validity: HourSpan,
    pub early_renewal: HourSpan,
    pub key_algorithm: KeyAlgorithm,
}

#[derive(Debug, Clone)]
pub struct GivenCertificate {
    /// `None`: it is not there, and nobody needs it.
    pub pair: Option<ClientPair>,
    /// How long before its end it is reported.
    pub early_renewal: HourSpan,
}

#[derive(Debug, Clone)]
pub struct RequestedCertificate {
    /// The last one that was signed; `None`: none was, or it is kept on another machine.
    pub pair: Option<ClientPair>,
    pub early_renewal: HourSpan,
    /// Of the next key.
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

//! `[haproxy]` and what is in it: nodes, ports, services, the shared address, Patroni's TLS and the
//! client's certificate.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::cert::{CaCertificates, ClientPair, KeyAlgorithm};
use crate::config::patroni_client::CaKey;
use crate::config::types::{
    DomainName, HaproxyTime, HaproxyVersion, HourSpan, IpNetwork, MacAddr, Port,
};
use crate::config::words::Word as _;

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

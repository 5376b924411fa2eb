//! The backends of `haproxy.cfg`: which nodes are in each, how they are asked, and who may use it.
//! Two kinds: of which one node at most is up (a leader), and of which several may be.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use askama::Template;

use super::{has_init_state, socket};
use crate::config::{
    ClientService, DomainName, Haproxy, HaproxyTime, Node, NodeAddress, Nodes, PatroniTls, Port,
    Replicas, Role,
};
use crate::render::{CA_PEM, CLIENT_PEM};

/// That a check takes, on a busy machine.
const CHECK_MILLIS: u64 = 150;
/// An inspection that ends before the hold does makes HAProxy call it an internal error.
const AFTER_HOLD_MILLIS: u64 = 10_000;
/// For servers that HAProxy resolves while it runs.
const RESOLVED: &str = "init-addr last,none resolvers dns resolve-prefer ipv4";
/// For servers that are resolved once. A reload, which must not wait for DNS, takes what is known.
const RESOLVED_AT_START: &str = "init-addr last,libc,none";

/// A backend of which one server at most is up.
#[derive(Template)]
#[template(path = "haproxy-single.cfg", escape = "none")]
pub(super) struct Single<'a> {
    name: String,
    lua: bool,
    hold: Option<HoldView>,
    /// Empty, or a further condition of a new connection. Begins with a space.
    settled: String,
    has_room: String,
    check: CheckView<'a>,
    /// Empty, or the keyword that tells the server the client's address. Begins with a space.
    proxy: &'static str,
    servers: String,
}

/// A backend whose servers share the sessions.
#[derive(Template)]
#[template(path = "haproxy-several.cfg", escape = "none")]
pub(super) struct Several<'a> {
    name: String,
    lua: bool,
    balance: &'static str,
    check: CheckView<'a>,
    proxy: &'static str,
    servers: String,
}

struct HoldView {
    millis: u64,
    /// Sessions that the primary may have; 0: any number.
    room: u32,
    /// For how many milliseconds a primary must be the only one: where there was none, and where
    /// there were several.
    sure: u64,
    sure_after_several: u64,
    inspect_delay: String,
    retries: u64,
    /// Where a connection waits for its next turn.
    places: RangeInclusive<u16>,
}

/// How the nodes are asked for their role.
struct CheckView<'a> {
    uri: String,
    /// HTTP 1.1 demands one; Patroni does not look at it.
    host: &'a str,
    /// The roles that the answer may name, as a regular expression. Empty: any.
    roles: &'static str,
    /// Whether the role changes later than the status does.
    promotes: bool,
    /// Behind `check`: begins with a space.
    tls: &'a str,
    rhythm: &'a str,
}

/// Where a server gets its port from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// The client's connection has it, except on nodes with a port of their own.
    OfClient,
    /// That of the service, or the node's.
    OfServers(Option<Port>),
}

/// A server for Patroni's REST API, which follows the one of the same name.
pub(super) struct RestServer<'a> {
    pub name: &'a str,
    /// As it stands in the file.
    pub line: String,
}

/// What all backends have in common.
pub(super) struct Backends<'a> {
    haproxy: &'a Haproxy,
    pub lua: bool,
    tls: String,
    rhythm: String,
}

impl<'a> Backends<'a> {
    pub fn new(haproxy: &'a Haproxy, lua: bool) -> Self {
        Self {
            haproxy,
            lua,
            tls: tls(haproxy),
            rhythm: rhythm(haproxy),
        }
    }

    /// Whether a node has a port of PostgreSQL that is not everybody's.
    pub fn has_own_ports(&self) -> bool {
        match &self.haproxy.nodes {
            Nodes::Named { .. } => false,
            Nodes::Listed { nodes, .. } => nodes.iter().any(|node| self.own_port(node).is_some()),
        }
    }

    fn own_port(&self, node: &Node) -> Option<Port> {
        node.port.filter(|port| *port != self.haproxy.postgres_port)
    }

    /// Whether the main port's backend serves that role of the service, too: it checks each node
    /// once, and both ports always agree.
    pub fn shares_primary(&self, service: &ClientService, role: Role) -> bool {
        let same_ports = service.postgres_port.is_none() || !self.has_own_ports();
        role == self.haproxy.role.into() && !service.proxy_protocol && same_ports
    }

    pub fn single(&self, name: String, role: Role, ports: Ports, proxy: bool) -> Single<'_> {
        let main = name == super::PRIMARY;
        let haproxy = self.haproxy;
        // PostgreSQL's own limit: a pooler in front of it has another one.
        let room = haproxy.primary_connections.filter(|_| main);
        Single {
            lua: self.lua,
            hold: hold(haproxy, room),
            settled: if has_init_state(haproxy.version) {
                String::new()
            } else {
                format!(" {{ nbsrv({name}.settled) eq 1 }}")
            },
            has_room: room.map_or_else(String::new, |most| format!(" {{ be_conn le {most} }}")),
            check: self.check(role, None, &[]),
            proxy: proxy_word(proxy),
            servers: self.servers("node", ports, main),
            name,
        }
    }

    pub fn several(&self, name: String, role: Role, service: &ClientService) -> Several<'_> {
        Several {
            name,
            lua: self.lua,
            balance: service.balance.as_str(),
            check: self.check(role, service.max_lag.as_deref(), &service.tags),
            proxy: proxy_word(service.proxy_protocol),
            servers: self.servers("node", Ports::OfServers(service.postgres_port), false),
        }
    }

    /// The short form of a service.
    pub fn standbys(&self, replicas: &Replicas) -> Several<'_> {
        Several {
            name: "standbys".to_owned(),
            lua: self.lua,
            balance: "leastconn",
            check: self.check(Role::Replica, replicas.max_lag.as_deref(), &[]),
            proxy: "",
            servers: self.servers("replica", Ports::OfServers(None), false),
        }
    }

    fn check(&self, role: Role, lag: Option<&str>, tags: &[(String, String)]) -> CheckView<'_> {
        let (path, roles) = match role {
            Role::Primary => ("/primary", "primary|master"),
            // In a standby cluster its leader is called a replica until Patroni has looked again.
            Role::StandbyLeader => ("/standby-leader", "standby_leader|replica"),
            Role::Leader => ("/leader", "primary|master|standby_leader"),
            Role::Replica => ("/replica", "replica"),
            Role::Sync => ("/synchronous", "replica"),
            Role::Async => ("/asynchronous", "replica"),
            Role::Any => ("/read-only", ""),
        };
        CheckView {
            uri: uri(path, lag, tags),
            host: self.haproxy.cluster_host(),
            roles,
            promotes: matches!(role, Role::Primary | Role::Leader),
            tls: &self.tls,
            rhythm: &self.rhythm,
        }
    }

    /// The lines that name the nodes. `prefix`: of the names of those that DNS names.
    fn servers(&self, prefix: &str, ports: Ports, explained: bool) -> String {
        let lines = match &self.haproxy.nodes {
            Nodes::Named { domain, most, .. } => {
                let places = most.saturating_mul(2);
                let port = match ports {
                    Ports::OfClient => String::new(),
                    Ports::OfServers(port) => {
                        format!(":{}", port.unwrap_or(self.haproxy.postgres_port))
                    }
                };
                let mut lines = vec![format!("default-server {RESOLVED}")];
                if explained {
                    let why = "# Twice the nodes: one that moves gets a place at once, though its old address keeps \
                               one for a day.";
                    lines.push(why.to_owned());
                }
                lines.push(format!(
                    "server-template {prefix} 1-{places} {domain}{port}"
                ));
                lines
            }
            Nodes::Listed { nodes, .. } => {
                nodes.iter().map(|node| self.server(node, ports)).collect()
            }
        };
        let lines: Vec<String> = lines.iter().map(|line| format!("    {line}")).collect();
        lines.join("\n")
    }

    fn server(&self, node: &Node, ports: Ports) -> String {
        let port = match ports {
            Ports::OfClient => self.own_port(node),
            Ports::OfServers(port) => {
                Some(port.or(node.port).unwrap_or(self.haproxy.postgres_port))
            }
        };
        let mut words = vec![format!("server {} {}", node.name, address(node, port))];
        let other_port = node
            .patroni_port
            .filter(|port| *port != self.haproxy.patroni_port);
        words.extend(other_port.map(|port| format!("port {port}")));
        let name = self.haproxy.verify_host_of(node);
        let own_name = name.filter(|name| self.haproxy.verify_host.as_ref() != Some(name));
        words.extend(own_name.map(tls_name));
        words.extend(self.resolution(node).map(str::to_owned));
        words.join(" ")
    }

    fn resolution(&self, node: &Node) -> Option<&'static str> {
        match node.address {
            NodeAddress::Ip(_) => None,
            NodeAddress::Host(_) if self.haproxy.nodes.nameservers().is_empty() => {
                Some(RESOLVED_AT_START)
            }
            NodeAddress::Host(_) => Some(RESOLVED),
        }
    }

    /// Servers for Patroni's REST API that are up when those of a backend are, without checks of
    /// their own. Empty where DNS names the nodes.
    pub fn rest(&self, followed: &str) -> Vec<RestServer<'a>> {
        let Nodes::Listed { nodes, .. } = &self.haproxy.nodes else {
            return Vec::new();
        };
        let server = |node: &'a Node| {
            let port = node.patroni_port.unwrap_or(self.haproxy.patroni_port);
            let at = address(node, Some(port));
            let mut words = vec![
                format!("server {} {at}", node.name),
                format!("track {followed}/{} maxconn 2", node.name),
            ];
            words.extend(self.resolution(node).map(str::to_owned));
            RestServer {
                name: &node.name,
                line: words.join(" "),
            }
        };
        nodes.iter().map(server).collect()
    }
}

fn address(node: &Node, port: Option<Port>) -> String {
    match (&node.address, port) {
        (NodeAddress::Ip(ip), Some(port)) => socket(*ip, port.get()),
        (NodeAddress::Ip(IpAddr::V6(ip)), None) => format!("[{ip}]"),
        (NodeAddress::Ip(IpAddr::V4(ip)), None) => ip.to_string(),
        (NodeAddress::Host(name), Some(port)) => format!("{name}:{port}"),
        (NodeAddress::Host(name), None) => name.to_string(),
    }
}

fn proxy_word(proxy: bool) -> &'static str {
    if proxy { " send-proxy-v2" } else { "" }
}

/// Behind `check`.
fn tls(haproxy: &Haproxy) -> String {
    let port = haproxy.patroni_port;
    let client = match haproxy.patroni_tls {
        PatroniTls::Off => return format!(" port {port}"),
        PatroniTls::Server(_) => String::new(),
        PatroniTls::Mutual(_) => format!(" crt {CLIENT_PEM}"),
    };
    let name = haproxy.verify_host.as_ref().map(tls_name);
    let name = name.map_or_else(String::new, |words| format!(" {words}"));
    format!(" check-ssl port {port} verify required ca-file {CA_PEM}{client}{name}")
}

fn tls_name(name: &DomainName) -> String {
    format!("verifyhost {name} check-sni {name}")
}

fn rhythm(haproxy: &Haproxy) -> String {
    let check = &haproxy.check;
    let init_state = if has_init_state(haproxy.version) {
        " init-state down"
    } else {
        ""
    };
    let (interval, fast, down) = (&check.interval, &check.fast, &check.down);
    let (rise, fall) = (check.rise, check.fall);
    format!(
        "inter {interval} fastinter {fast} downinter {down} rise {rise} fall {fall}{init_state}"
    )
}

fn hold(haproxy: &Haproxy, room: Option<u32>) -> Option<HoldView> {
    let millis = Some(haproxy.hold.millis()).filter(|millis| *millis > 0)?;
    let (up, down): (&HaproxyTime, &HaproxyTime) = (&haproxy.check.interval, &haproxy.check.down);
    Some(HoldView {
        millis,
        sure: down.millis() + CHECK_MILLIS,
        sure_after_several: up.millis().max(down.millis()) + CHECK_MILLIS,
        room: room.unwrap_or(0),
        inspect_delay: format!("{}ms", millis + AFTER_HOLD_MILLIS),
        // Each takes a second.
        retries: millis.div_ceil(1000).max(3),
        places: 1..=haproxy.nodes.most().saturating_add(1),
    })
}

/// With what Patroni is to know beyond the role.
fn uri(path: &str, lag: Option<&str>, tags: &[(String, String)]) -> String {
    let lag = lag.map(|lag| format!("lag={}", percent_encoded(lag)));
    let tag = |(name, value): &(String, String)| {
        format!("tag_{}={}", percent_encoded(name), percent_encoded(value))
    };
    let words: Vec<String> = lag.into_iter().chain(tags.iter().map(tag)).collect();
    if words.is_empty() {
        return path.to_owned();
    }
    format!("{path}?{}", words.join("&"))
}

/// Everything but RFC 3986's unreserved characters, so that no value can end its word or its line.
fn percent_encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

//! `haproxy.cfg` for the version of HAProxy that reads it. What each line is for is explained in
//! the templates or in docs/dataplane.md; here is only what differs between configurations and
//! versions. The backends are in `backends`.

mod backends;

use std::net::IpAddr;

use askama::Template;

use crate::config::{
    ClientService, Config, Haproxy, HaproxyVersion, IpNetwork, Metrics, Nodes, PatroniTls, Port,
    Role, Runtime,
};
use backends::{Backends, Ports, RestServer, Several, Single};

/// Strangers that say nothing have these for two seconds each; the backend behind has far fewer.
const PATRONI_CONNECTIONS: u32 = 64;
const METRICS_CONNECTIONS: u32 = 64;
/// Beyond the limits of all frontends, so that none of them ever waits for the process's.
const SPARE_CONNECTIONS: u32 = 32;
/// A word of HAProxy's configuration, of which a line has 64 at most.
const NETWORKS_IN_A_LINE: usize = 32;
/// The backend of the main port.
const PRIMARY: &str = "primary";

/// `/etc/haproxy/lbctl.lua`, the same for every configuration.
pub(super) const LUA: &str = include_str!("../../templates/lbctl.lua");

// Each of them switches a line of the file.
#[allow(clippy::struct_excessive_bools)]
#[derive(Template)]
#[template(path = "haproxy.cfg", escape = "none")]
struct HaproxyCfg<'a> {
    /// What stands in the file as it is in the configuration.
    haproxy: &'a Haproxy,
    /// The package starts as root and becomes `haproxy`; the image is never root.
    own_user: bool,
    /// Whether the version has what the Lua needs. HAProxy itself leaves it out where it was built
    /// without Lua.
    lua: bool,
    global_maxconn: u32,
    /// Where each port is listened on: what stands behind `bind`.
    postgres: Vec<String>,
    patroni: Vec<String>,
    /// Networks, as many as a line takes.
    allow: &'a [String],
    patroni_allow: Vec<String>,
    /// With port. Empty: HAProxy resolves no name while it runs.
    nameservers: Vec<String>,
    /// Whether the REST API speaks HTTP without TLS.
    plain: bool,
    /// Whether all servers of the main port take the port that the client came to.
    portless: bool,
    primary: Single<'a>,
    /// Servers of the backend of Patroni's own port that follow those of the main port. Empty: the
    /// Lua knows the address.
    rest: Vec<RestServer<'a>>,
    services: Vec<ServiceView<'a>>,
    /// Address and port.
    metrics: Option<String>,
}

/// A further port for clients, and the backends that are its own.
struct ServiceView<'a> {
    frontend: Frontend<'a>,
    single: Vec<Single<'a>>,
    several: Vec<Several<'a>>,
}

#[derive(Template)]
#[template(path = "haproxy-port.cfg", escape = "none")]
struct Frontend<'a> {
    name: &'a str,
    /// What stands behind `bind`.
    listen: Vec<String>,
    limits: &'a Limits,
    /// Where servers take the port that the client came to, and that is another one.
    set_port: Option<Port>,
    lua: bool,
    fallback: Option<Fallback>,
    backend: String,
}

/// Where a port leads when the role that it is for has no server.
struct Fallback {
    backend: String,
    condition: String,
    /// What is to be added to the condition with Lua: a worker that is about to end counts no
    /// server of any backend.
    of_old_worker: String,
}

/// What all ports for clients have in common.
struct Limits {
    most: u32,
    most_per_client: Option<u32>,
    /// Networks, as many as a line takes.
    allow: Vec<String>,
}

/// The whole of `/etc/haproxy/haproxy.cfg`. It holds no secret.
#[must_use]
pub fn haproxy_cfg(config: &Config) -> String {
    let haproxy = &config.haproxy;
    let lua = has_lua_actions(haproxy.version);
    let backends = Backends::new(haproxy, lua);
    let limits = Limits {
        most: haproxy.max_connections,
        most_per_client: haproxy.max_connections_per_client,
        allow: lines_of(&haproxy.allow),
    };
    super::render(&HaproxyCfg {
        haproxy,
        own_user: haproxy.runtime == Runtime::Package,
        lua,
        global_maxconn: global_maxconn(config),
        postgres: listen(haproxy.address, haproxy.port),
        patroni: haproxy
            .patroni_passthrough
            .map_or_else(Vec::new, |port| listen(haproxy.address, port)),
        allow: &limits.allow,
        patroni_allow: lines_of(&haproxy.patroni_allow),
        nameservers: nameservers(&haproxy.nodes),
        plain: matches!(haproxy.patroni_tls, PatroniTls::Off),
        portless: !backends.has_own_ports(),
        primary: backends.single(
            PRIMARY.to_owned(),
            haproxy.role.into(),
            Ports::OfClient,
            false,
        ),
        rest: match haproxy.patroni_passthrough {
            Some(_) => backends.rest(PRIMARY),
            None => Vec::new(),
        },
        services: services(haproxy, &backends, &limits),
        metrics: haproxy
            .metrics
            .as_ref()
            .map(|Metrics { address, port }| socket(*address, port.get())),
    })
}

/// The number of connections HAProxy sizes its tables for: what all frontends may have.
pub(super) fn global_maxconn(config: &Config) -> u32 {
    let haproxy = &config.haproxy;
    let frontends = [
        Some(haproxy.max_connections),
        haproxy.replicas.as_ref().map(|_| haproxy.max_connections),
        haproxy.patroni_passthrough.map(|_| PATRONI_CONNECTIONS),
        haproxy.metrics.as_ref().map(|_| METRICS_CONNECTIONS),
    ];
    let limits = frontends.into_iter().flatten();
    let services = haproxy.services.iter().map(|_| haproxy.max_connections);
    let limits = limits.chain(services);
    limits.fold(SPARE_CONNECTIONS, u32::saturating_add)
}

/// `init-state` came with 3.1; before it, a server is up from the moment in which DNS names it, and
/// the Lua says whether it was checked.
fn has_init_state(version: HaproxyVersion) -> bool {
    version >= HaproxyVersion { major: 3, minor: 1 }
}

fn has_lua_actions(version: HaproxyVersion) -> bool {
    version >= HaproxyVersion::WITH_HOLD
}

/// Sockets of IPv6 take IPv6 alone: HAProxy compares the addresses of clients, and those of IPv4
/// would be written otherwise there.
fn listen(address: IpAddr, port: Port) -> Vec<String> {
    match address {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![format!("*:{port}")],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![format!("*:{port}"), format!("[::]:{port} v6only")]
        }
        address => vec![socket(address, port.get())],
    }
}

fn lines_of(networks: &[IpNetwork]) -> Vec<String> {
    let line = |some: &[IpNetwork]| {
        let words: Vec<String> = some.iter().map(IpNetwork::to_string).collect();
        words.join(" ")
    };
    networks.chunks(NETWORKS_IN_A_LINE).map(line).collect()
}

fn nameservers(nodes: &Nodes) -> Vec<String> {
    if !nodes.are_resolved_at_run_time() {
        return Vec::new();
    }
    let servers = nodes.nameservers().iter();
    servers.map(|ip| socket(*ip, 53)).collect()
}

fn socket(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

// ---- further ports

fn services<'a>(
    haproxy: &'a Haproxy,
    backends: &'a Backends<'a>,
    limits: &'a Limits,
) -> Vec<ServiceView<'a>> {
    let short_form = haproxy.replicas.as_ref().map(|replicas| ServiceView {
        frontend: Frontend {
            name: "replicas",
            listen: listen(haproxy.address, replicas.port),
            limits,
            set_port: None,
            lua: backends.lua,
            fallback: None,
            backend: "standbys".to_owned(),
        },
        single: Vec::new(),
        several: vec![backends.standbys(replicas)],
    });
    let services = haproxy.services.iter();
    let services = services.map(|service| view(service, haproxy, backends, limits));
    short_form.into_iter().chain(services).collect()
}

fn view<'a>(
    service: &'a ClientService,
    haproxy: &'a Haproxy,
    backends: &'a Backends<'a>,
    limits: &'a Limits,
) -> ServiceView<'a> {
    let (mut single, mut several) = (Vec::new(), Vec::new());
    let mut backend = |role: Role| {
        if backends.shares_primary(service, role) {
            return PRIMARY.to_owned();
        }
        let name = service.backend(role);
        if role.is_single() {
            let ports = Ports::OfServers(service.postgres_port);
            single.push(backends.single(name.clone(), role, ports, service.proxy_protocol));
        } else {
            several.push(backends.several(name.clone(), role, service));
        }
        name
    };
    let first = backend(service.role);
    let fallback = service.fallback.map(|role| {
        let other = backend(role);
        // Where connections can wait, there are servers that are always up: see docs/dataplane.md.
        let still_up = format!("{{ lua.still_up({first}) -m bool }}");
        let (condition, of_old_worker) = if service.role.is_single() {
            (
                format!("unless {{ nbsrv({first}) eq 1 }}"),
                format!("|| {still_up}"),
            )
        } else {
            (
                format!("if {{ nbsrv({first}) eq 0 }}"),
                format!("!{still_up}"),
            )
        };
        Fallback {
            backend: other,
            condition,
            of_old_worker,
        }
    });
    let takes_clients_port = [Some(service.role), service.fallback]
        .into_iter()
        .flatten()
        .any(|role| backends.shares_primary(service, role));
    let port = service.postgres_port.unwrap_or(haproxy.postgres_port);
    let frontend = Frontend {
        name: &service.name,
        listen: listen(haproxy.address, service.port),
        limits,
        set_port: (takes_clients_port && port != service.port).then_some(port),
        lua: backends.lua,
        fallback,
        backend: first,
    };
    ServiceView {
        frontend,
        single,
        several,
    }
}

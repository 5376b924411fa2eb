//! `haproxy.cfg` for the version of HAProxy that reads it. What each line is for is explained in
//! the template or in docs/dataplane.md; here is only what differs between configurations and
//! versions.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use askama::Template;

use crate::config::{Config, Haproxy, HaproxyVersion, IpNetwork, Metrics, Port, Replicas, Runtime};

/// PostgreSQL's on the nodes.
const POSTGRES_PORT: u16 = 5432;
/// Strangers that say nothing have these for two seconds each; the backend behind has far fewer.
const PATRONI_CONNECTIONS: u32 = 64;
const METRICS_CONNECTIONS: u32 = 64;
/// Beyond the limits of all frontends, so that none of them ever waits for the process's.
const SPARE_CONNECTIONS: u32 = 32;
/// That a check takes.
const CHECK_MILLIS: u64 = 100;
/// An inspection that ends before the hold does makes HAProxy call it an internal error.
const AFTER_HOLD_MILLIS: u64 = 10_000;
/// A word of HAProxy's configuration, of which a line has 64 at most.
const NETWORKS_IN_A_LINE: usize = 32;

/// `/etc/haproxy/lbctl.lua`, the same for every configuration.
pub(super) const LUA: &str = include_str!("../../templates/lbctl.lua");

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
    /// In front of a port.
    listen: String,
    /// Networks, as many as a line takes.
    allow: Vec<String>,
    patroni_allow: Vec<String>,
    hold: Option<HoldView>,
    /// Empty, or a further condition of a new connection. Begins with a space.
    settled: &'static str,
    has_room: String,
    /// For servers that DNS names.
    places: u16,
    /// With port.
    nameservers: Vec<String>,
    /// Empty, or the keywords that bind the nodes' certificates to a name. Begins with a space.
    tls_name: String,
    /// Empty, or the keyword that keeps a server down until its first check. Begins with a space.
    init_state: &'static str,
    replicas: Option<ReplicasView>,
    /// Address and port.
    metrics: Option<String>,
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

struct ReplicasView {
    port: Port,
    uri: String,
}

/// The whole of `/etc/haproxy/haproxy.cfg`. It holds no secret.
#[must_use]
pub fn haproxy_cfg(config: &Config) -> String {
    let haproxy = &config.haproxy;
    let init_state = has_init_state(haproxy.version);
    super::render(&HaproxyCfg {
        haproxy,
        own_user: haproxy.runtime == Runtime::Package,
        lua: has_lua_actions(haproxy.version),
        global_maxconn: global_maxconn(config),
        listen: listen(haproxy.address),
        allow: lines_of(&haproxy.allow),
        patroni_allow: lines_of(&haproxy.patroni_allow),
        hold: hold_view(haproxy),
        settled: if init_state {
            ""
        } else {
            " { lua.settled -m int 1 }"
        },
        has_room: haproxy
            .primary_connections
            .map_or_else(String::new, |most| format!(" {{ be_conn le {most} }}")),
        places: haproxy.postgres_nodes_max_count.saturating_mul(2),
        nameservers: haproxy
            .postgres_nameserver_ips
            .iter()
            .map(|ip| socket(*ip, 53))
            .collect(),
        tls_name: haproxy
            .verify_host
            .as_ref()
            .map_or_else(String::new, |name| {
                format!(" verifyhost {name} check-sni {name}")
            }),
        init_state: if init_state { " init-state down" } else { "" },
        replicas: haproxy.replicas.as_ref().map(replicas_view),
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

fn listen(address: Ipv4Addr) -> String {
    if address.is_unspecified() {
        "*".to_owned()
    } else {
        address.to_string()
    }
}

fn lines_of(networks: &[IpNetwork]) -> Vec<String> {
    let line = |some: &[IpNetwork]| {
        let words: Vec<String> = some.iter().map(IpNetwork::to_string).collect();
        words.join(" ")
    };
    networks.chunks(NETWORKS_IN_A_LINE).map(line).collect()
}

fn hold_view(haproxy: &Haproxy) -> Option<HoldView> {
    let millis = Some(haproxy.hold.millis()).filter(|millis| *millis > 0)?;
    let (up, down) = (&haproxy.check.interval, &haproxy.check.down);
    Some(HoldView {
        millis,
        sure: down.millis() + CHECK_MILLIS,
        sure_after_several: up.millis().max(down.millis()) + CHECK_MILLIS,
        room: haproxy.primary_connections.unwrap_or(0),
        inspect_delay: format!("{}ms", millis + AFTER_HOLD_MILLIS),
        // Each takes a second.
        retries: millis.div_ceil(1000).max(3),
        places: 1..=haproxy.postgres_nodes_max_count.saturating_add(1),
    })
}

fn socket(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

fn replicas_view(replicas: &Replicas) -> ReplicasView {
    let uri = match &replicas.max_lag {
        Some(lag) => format!("/replica?lag={}", percent_encoded(lag)),
        None => "/replica".to_owned(),
    };
    ReplicasView {
        port: replicas.port,
        uri,
    }
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

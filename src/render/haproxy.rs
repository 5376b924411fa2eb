//! `haproxy.cfg` for the version of HAProxy that reads it. What each line is for is explained in
//! the template or in docs/dataplane.md; here is only what differs between configurations and
//! versions.

use std::net::IpAddr;

use askama::Template;

use crate::config::{Check, Config, HaproxyVersion, Metrics, Replicas, Runtime, Timeouts};

/// Kept free beyond what clients may use, so that metrics and readiness answer when clients have taken everything.
const RESERVED_CONNECTIONS: u32 = 64;

#[derive(Template)]
#[template(path = "haproxy.cfg", escape = "none")]
struct HaproxyCfg<'a> {
    version: HaproxyVersion,
    /// The package starts as root and becomes `haproxy`; the image is never root.
    own_user: bool,
    global_maxconn: u32,
    max_connections: u32,
    hard_stop_after: &'a str,
    timeouts: &'a Timeouts,
    /// With port.
    nameservers: Vec<String>,
    patroni_port: u16,
    domain: &'a str,
    nodes: u16,
    /// Empty, or the keywords that bind the nodes' certificates to a name. Begins with a space.
    tls_name: String,
    check: &'a Check,
    /// Empty, or the keyword that keeps a server down until its first check. Begins with a space.
    init_state: &'static str,
    replicas: Option<ReplicasView>,
    /// Address and port.
    metrics: Option<String>,
}

struct ReplicasView {
    port: u16,
    uri: String,
}

/// The whole of `/etc/haproxy/haproxy.cfg`. It holds no secret.
#[must_use]
pub fn haproxy_cfg(config: &Config) -> String {
    let haproxy = &config.haproxy;
    super::render(&HaproxyCfg {
        version: haproxy.version,
        own_user: haproxy.runtime == Runtime::Package,
        global_maxconn: global_maxconn(config),
        max_connections: haproxy.max_connections,
        hard_stop_after: haproxy.hard_stop_after.as_str(),
        timeouts: &haproxy.timeouts,
        nameservers: haproxy
            .postgres_nameserver_ips
            .iter()
            .map(|ip| socket(*ip, 53))
            .collect(),
        patroni_port: haproxy.patroni_port,
        domain: haproxy.postgres_domain.as_str(),
        nodes: haproxy.postgres_nodes_max_count,
        tls_name: haproxy
            .verify_host
            .as_ref()
            .map_or_else(String::new, |name| {
                format!(" verifyhost {name} check-sni {name}")
            }),
        check: &haproxy.check,
        init_state: if has_init_state(haproxy.version) {
            " init-state down"
        } else {
            ""
        },
        replicas: haproxy.replicas.as_ref().map(replicas_view),
        metrics: haproxy
            .metrics
            .as_ref()
            .map(|Metrics { address, port }| socket(*address, *port)),
    })
}

/// The number of connections HAProxy sizes its tables for.
pub(super) fn global_maxconn(config: &Config) -> u32 {
    config
        .haproxy
        .max_connections
        .saturating_add(RESERVED_CONNECTIONS)
}

/// `init-state` came with 3.1; before it the guard on two primaries covers the moment before the first checks.
fn has_init_state(version: HaproxyVersion) -> bool {
    version >= HaproxyVersion { major: 3, minor: 1 }
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

//! `haproxy.cfg` for the version of HAProxy that reads it. What each line is for is explained in
//! the template or in docs/dataplane.md; here is only what differs between configurations and
//! versions.

use std::net::IpAddr;

use askama::Template;

use crate::config::{Config, Haproxy, HaproxyVersion, Metrics, Port, Replicas, Runtime};

/// Kept free beyond what clients may use, so that metrics and readiness answer when clients have taken everything.
const RESERVED_CONNECTIONS: u32 = 64;

#[derive(Template)]
#[template(path = "haproxy.cfg", escape = "none")]
struct HaproxyCfg<'a> {
    /// What stands in the file as it is in the configuration.
    haproxy: &'a Haproxy,
    /// The package starts as root and becomes `haproxy`; the image is never root.
    own_user: bool,
    global_maxconn: u32,
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

struct ReplicasView {
    port: Port,
    uri: String,
}

/// The whole of `/etc/haproxy/haproxy.cfg`. It holds no secret.
#[must_use]
pub fn haproxy_cfg(config: &Config) -> String {
    let haproxy = &config.haproxy;
    super::render(&HaproxyCfg {
        haproxy,
        own_user: haproxy.runtime == Runtime::Package,
        global_maxconn: global_maxconn(config),
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
        init_state: if has_init_state(haproxy.version) {
            " init-state down"
        } else {
            ""
        },
        replicas: haproxy.replicas.as_ref().map(replicas_view),
        metrics: haproxy
            .metrics
            .as_ref()
            .map(|Metrics { address, port }| socket(*address, port.get())),
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

//! The files that the guest gets, as one list: the seed's script and cloud-init's `write_files` are
//! rendered from it, and a live change sends the same list through the guest agent. What is in the
//! files of a service is in `services`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::guest_file::{GuestFile, HAPROXY_LUA, Owner, Service};
use super::programs::{self, GUEST_PROGRAM, is_program, programs};
use super::services::{OnChange, SERVICES, VIP_PORT, client_ports, open_files, wanted};
use super::{CheckTls, Secrets, image_reference, registry_host};
use crate::config::{
    Check, Config, DomainName, Haproxy, Node, NodeAddress, Nodes, Peer, Port, Runtime,
};

/// Every file of the guest, in the order they are to be written.
pub(super) fn files(config: &Config, tls: &CheckTls, secrets: Secrets) -> Vec<GuestFile> {
    let mut files: Vec<GuestFile> = programs(config.virtual_ip.is_some()).map(program).collect();
    files.extend(OWN.map(|(path, text)| GuestFile::public(path, text, Service::Guest)));
    files.extend(wanted(config).flat_map(|service| (service.files)(config, tls, secrets)));
    let settings = settings(config, &files);
    files.push(GuestFile::public(
        "/etc/lbctl/guest.json",
        settings,
        Service::Guest,
    ));
    files
}

/// lbctl's own units, and what the kernel and systemd are told so that the guest stays up.
const OWN: [(&str, &str); 6] = [
    (
        "/etc/systemd/system/lbctl-save-state.service",
        include_str!("../../templates/lbctl-save-state.service"),
    ),
    (
        "/etc/systemd/system/lbctl-save-state.timer",
        include_str!("../../templates/lbctl-save-state.timer"),
    ),
    (
        "/etc/systemd/system/lbctl-liveness.service",
        include_str!("../../templates/lbctl-liveness.service"),
    ),
    (
        "/etc/sysctl.d/90-lbctl.conf",
        include_str!("../../templates/sysctl.conf"),
    ),
    (
        "/etc/systemd/system.conf.d/50-lbctl.conf",
        include_str!("../../templates/watchdog.conf"),
    ),
    (
        "/etc/udev/rules.d/70-lbctl-watchdog.rules",
        include_str!("../../templates/watchdog.rules"),
    ),
];

/// Whether a file in the guest is the same in every VM: a program, HAProxy's Lua, or one of `OWN`.
pub(super) fn is_fixed(path: &str) -> bool {
    is_program(path) || path == HAPROXY_LUA || OWN.iter().any(|(own, _)| *own == path)
}

fn program((name, text): (&str, &'static str)) -> GuestFile {
    let path = programs::path(name);
    let mode = if path == GUEST_PROGRAM { 0o755 } else { 0o644 };
    GuestFile::public(path, text, Service::Guest).with_mode(mode)
}

/// What the guest program must know beyond the files themselves. Not secret.
#[derive(Serialize)]
struct Settings<'a> {
    schema: u32,
    name: &'a str,
    runtime: &'static str,
    /// Container runtime only.
    image: Option<String>,
    /// The registry whose CA is among the files, as Docker names the folder of its certificates.
    registry: Option<&'a str>,
    /// Whether an image that the guest lacks may be fetched.
    pull_image: bool,
    /// File descriptors HAProxy may open.
    nofile: u64,
    install: bool,
    /// What `boot` applies, in this order.
    services: Vec<Service>,
    /// All that lbctl knows, also those that are not wanted: one of these may have to be removed.
    service_table: BTreeMap<Service, ServiceFacts>,
    admin: AdminSettings<'a>,
    probe: Probe<'a>,
    /// Host names of nodes that nobody resolves later.
    resolved_at_start: Vec<&'a str>,
    /// After how many seconds HAProxy must have noticed that its nodes refuse it.
    settle_s: f64,
    /// `None`: it has its own addresses alone.
    virtual_ip: Option<VirtualIpSettings>,
    files: Vec<FileSettings<'a>>,
}

/// The shared address.
#[derive(Serialize)]
struct VirtualIpSettings {
    address: Ipv4Addr,
    own: Ipv4Addr,
    /// Of the network interface that carries it.
    mac: String,
    /// Of UDP.
    port: u16,
    /// Where clients come.
    ports: Vec<u16>,
    peers: Vec<PeerSettings>,
    router_id: u8,
    detection_ms: u64,
    drain_ms: u64,
}

#[derive(Serialize)]
struct PeerSettings {
    address: Ipv4Addr,
    /// `None`: the guest learns it.
    mac: Option<String>,
}

#[derive(Serialize)]
struct ServiceFacts {
    unit: &'static str,
    on_change: OnChange,
}

#[derive(Serialize)]
struct AdminSettings<'a> {
    user: &'a str,
    /// All that lbctl puts into `authorized_keys`; what others put there stays.
    keys: &'a [String],
}

/// How to ask a node whether it accepts a certificate.
#[derive(Serialize)]
struct Probe<'a> {
    port: u16,
    host: &'a str,
    verify_host: Option<&'a str>,
    tls: &'static str,
    /// Empty: those that HAProxy knows.
    nodes: Vec<ProbeNode<'a>>,
}

#[derive(Serialize)]
struct ProbeNode<'a> {
    name: &'a str,
    address: String,
    port: u16,
    verify_host: Option<&'a str>,
}

#[derive(Serialize)]
struct FileSettings<'a> {
    path: &'a str,
    /// Octal.
    mode: String,
    owner: Owner,
    affects: Service,
}

#[expect(clippy::expect_used, reason = "plain data with string keys")]
fn settings(config: &Config, files: &[GuestFile]) -> String {
    let container = config.haproxy.runtime == Runtime::Container;
    let settings = Settings {
        schema: 1,
        name: config.name.as_str(),
        runtime: if container { "container" } else { "package" },
        image: container.then(|| image_reference(config)),
        registry: config
            .container_registry
            .as_ref()
            .filter(|registry| container && registry.ca_certificate.is_some())
            .and_then(registry_host),
        // A guest that installs nothing may still pull from a registry of one's own.
        pull_image: config.install_dependencies || config.container_registry.is_some(),
        nofile: open_files(config),
        install: config.install_dependencies,
        services: wanted(config).map(|service| service.name).collect(),
        service_table: SERVICES
            .iter()
            .map(|service| {
                let (unit, on_change) = (service.unit, service.on_change);
                (service.name, ServiceFacts { unit, on_change })
            })
            .collect(),
        admin: AdminSettings {
            user: &config.admin.user,
            keys: &config.admin.public_keys,
        },
        probe: probe(&config.haproxy),
        resolved_at_start: resolved_at_start(&config.haproxy.nodes),
        settle_s: settling_time(&config.haproxy.check),
        virtual_ip: virtual_ip(config),
        files: files.iter().map(file_settings).collect(),
    };
    let mut text = serde_json::to_string_pretty(&settings).expect("settings become JSON");
    text.push('\n');
    text
}

fn virtual_ip(config: &Config) -> Option<VirtualIpSettings> {
    let virtual_ip = config.virtual_ip.as_ref()?;
    let peer = |peer: &Peer| PeerSettings {
        address: peer.address,
        mac: peer.mac.map(|mac| mac.to_string()),
    };
    Some(VirtualIpSettings {
        address: virtual_ip.address,
        own: virtual_ip.own,
        mac: config.interfaces.get(virtual_ip.interface)?.mac.to_string(),
        port: VIP_PORT,
        ports: client_ports(&config.haproxy).map(Port::get).collect(),
        peers: virtual_ip.peers.iter().map(peer).collect(),
        router_id: virtual_ip.router_id,
        detection_ms: virtual_ip.detection.millis(),
        drain_ms: virtual_ip.drain.millis(),
    })
}

fn probe(haproxy: &Haproxy) -> Probe<'_> {
    let nodes = match &haproxy.nodes {
        Nodes::Named { .. } => Vec::new(),
        Nodes::Listed { nodes, .. } => nodes.iter().map(|n| probe_node(haproxy, n)).collect(),
    };
    Probe {
        port: haproxy.patroni_port.get(),
        host: haproxy.cluster_host(),
        verify_host: haproxy.verify_host.as_ref().map(DomainName::as_str),
        tls: haproxy.patroni_tls.as_str(),
        nodes,
    }
}

fn probe_node<'a>(haproxy: &'a Haproxy, node: &'a Node) -> ProbeNode<'a> {
    ProbeNode {
        name: &node.name,
        address: node.address.to_string(),
        port: node.patroni_port.unwrap_or(haproxy.patroni_port).get(),
        verify_host: haproxy.verify_host_of(node).map(DomainName::as_str),
    }
}

fn resolved_at_start(nodes: &Nodes) -> Vec<&str> {
    match nodes {
        Nodes::Listed { nodes, nameservers } if nameservers.is_empty() => {
            let names = nodes.iter().filter_map(|node| match &node.address {
                NodeAddress::Host(name) => Some(name.as_str()),
                NodeAddress::Ip(_) => None,
            });
            names.collect()
        }
        Nodes::Listed { .. } | Nodes::Named { .. } => Vec::new(),
    }
}

/// Two seconds with the default check intervals, by when `fall` checks have failed, if they fail.
fn settling_time(check: &Check) -> f64 {
    let millis = check.interval.millis() * 2 + check.fast.millis() * 2 * u64::from(check.fall);
    #[allow(clippy::cast_precision_loss)] // some seconds
    let seconds = millis as f64 / 1000.0;
    seconds.max(2.0)
}

fn file_settings(file: &GuestFile) -> FileSettings<'_> {
    FileSettings {
        path: &file.path,
        mode: format!("{:04o}", file.mode),
        owner: file.owner,
        affects: file.affects,
    }
}

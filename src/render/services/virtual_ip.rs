//! The address that several VMs share: keepalived decides by VRRP which of them has it,
//! `lbctl-vip.service` says how fit this one is, and nft passes the sessions that another one still
//! has on to it. docs/dataplane.md says why each of it is as it is.

use std::net::Ipv4Addr;

use askama::Template;

use super::{GuestService, OnChange};
use crate::config::{Addressing, Config, Haproxy, Peer, Port, VirtualIp};
use crate::render::guest_file::{GuestFile, Service};
use crate::render::{CheckTls, Secrets};

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::VirtualIp,
    unit: "keepalived.service",
    on_change: OnChange::Reload,
    is_wanted: |config| config.virtual_ip.is_some(),
    packages: |_| &["keepalived", "nftables"],
    files,
};

/// Of UDP, where the VMs tell each other how they are.
pub(in crate::render) const PORT: u16 = 8406;

fn files(config: &Config, _: &CheckTls, _: Secrets) -> Vec<GuestFile> {
    let Some(virtual_ip) = &config.virtual_ip else {
        return Vec::new();
    };
    let service =
        |path: &'static str, text: String| GuestFile::public(path, text, Service::VirtualIp);
    vec![
        service(
            "/etc/keepalived/keepalived.conf",
            keepalived_conf(config, virtual_ip),
        ),
        service("/etc/lbctl/vip.nft", vip_nft(config, virtual_ip)),
        service(
            "/etc/systemd/system/keepalived.service.d/50-lbctl.conf",
            include_str!("../../../templates/keepalived-unit.conf").to_owned(),
        ),
        GuestFile::public(
            "/etc/systemd/system/lbctl-vip.service",
            include_str!("../../../templates/lbctl-vip.service"),
            Service::Guest,
        ),
        // systemd looks for what follows a stop when it comes to it: no restart is needed.
        GuestFile::public(
            "/etc/systemd/system/haproxy.service.d/60-lbctl-vip.conf",
            include_str!("../../../templates/haproxy-vip.conf"),
            Service::Guest,
        ),
        keep_address(config, virtual_ip),
    ]
}

#[derive(Template)]
#[template(path = "keepalived.conf", escape = "none")]
struct KeepalivedConf<'a> {
    name: &'a str,
    router_id: u8,
    /// Seconds, with two decimals: VRRP 3 counts hundredths.
    advert_int: String,
    down_timer_adverts: u64,
    own: Ipv4Addr,
    address: Ipv4Addr,
    peers: &'a [Peer],
}

fn keepalived_conf(config: &Config, virtual_ip: &VirtualIp) -> String {
    let centis = virtual_ip.advert_centis();
    crate::render::render(&KeepalivedConf {
        name: config.name.as_str(),
        router_id: virtual_ip.router_id,
        advert_int: format!("{}.{:02}", centis / 100, centis % 100),
        down_timer_adverts: VirtualIp::DOWN_TIMER_ADVERTS,
        own: virtual_ip.own,
        address: virtual_ip.address,
        peers: &virtual_ip.peers,
    })
}

#[derive(Template)]
#[template(path = "vip.nft", escape = "none")]
struct VipNft<'a> {
    address: Ipv4Addr,
    peers: &'a [Peer],
    port: u16,
    /// Whether sessions stay where they are when the address moves.
    drains: bool,
    /// Where clients come, separated by commas.
    ports: String,
}

fn vip_nft(config: &Config, virtual_ip: &VirtualIp) -> String {
    let ports: Vec<String> = client_ports(&config.haproxy)
        .map(|port| port.to_string())
        .collect();
    crate::render::render(&VipNft {
        address: virtual_ip.address,
        peers: &virtual_ip.peers,
        port: PORT,
        drains: virtual_ip.drain.millis() > 0,
        ports: ports.join(", "),
    })
}

/// Of each frontend whose sessions last.
pub(in crate::render) fn client_ports(haproxy: &Haproxy) -> impl Iterator<Item = Port> {
    let replicas = haproxy.replicas.as_ref().map(|replicas| replicas.port);
    let services = haproxy.services.iter().map(|service| service.port);
    let ports = std::iter::once(haproxy.port).chain(replicas);
    ports.chain(services).chain(haproxy.patroni_passthrough)
}

#[derive(Template)]
#[template(path = "keep-address.conf", escape = "none")]
struct KeepAddress {
    keep: &'static str,
}

/// For systemd-networkd, where netplan writes its files: it names them by what network-config calls
/// the interface.
fn keep_address(config: &Config, virtual_ip: &VirtualIp) -> GuestFile {
    let number = virtual_ip.interface;
    let by_dhcp = config
        .interfaces
        .get(number)
        .is_some_and(|i| match i.addressing {
            Addressing::DhcpReservation(_) | Addressing::Dhcp => true,
            Addressing::Static(_) => false,
        });
    let text = crate::render::render(&KeepAddress {
        keep: if by_dhcp { "yes" } else { "static" },
    });
    let path = format!("/etc/systemd/network/10-netplan-card{number}.network.d/60-lbctl.conf");
    GuestFile::public(path, text, Service::Guest)
}

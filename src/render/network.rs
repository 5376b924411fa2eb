//! `network-config`, version 2, for the renderers of cloud-init from 22.4 on (netplan, networkd,
//! ifupdown).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use askama::Template;

use super::yaml::Quoted;
use crate::config::{Addressing, Config, DomainName, Hop, Interface, StaticAddressing};

#[derive(Template)]
#[template(path = "network-config.yaml", escape = "none")]
struct NetworkConfig {
    interfaces: Vec<NetworkInterface>,
}

struct NetworkInterface {
    mac: String,
    fixed: Option<Fixed>,
    mtu: Option<u16>,
    /// The earlier interface's gateway wins where several are given; the later ones are used when
    /// it is removed.
    metric: usize,
    /// The boot waits only for the first interface, which has the advertised address.
    optional: bool,
}

struct Fixed {
    addresses: Vec<String>,
    routes: Vec<Route>,
    dns_servers: Vec<IpAddr>,
    search: Vec<DomainName>,
}

struct Route {
    to: String,
    via: IpAddr,
    on_link: bool,
    /// `None`: the kernel's.
    metric: Option<usize>,
    /// Why its destination is written so. As lbctl 0.1.0 wrote it: another text would be another
    /// network for guests that are there.
    explained: bool,
}

/// The seed's `network-config`. It holds no secret.
#[must_use]
pub fn network_config(config: &Config) -> String {
    let interfaces = config
        .interfaces
        .iter()
        .enumerate()
        .map(|(place, interface)| network_interface(place, interface))
        .collect();
    super::render(&NetworkConfig { interfaces })
}

fn network_interface(place: usize, interface: &Interface) -> NetworkInterface {
    let metric = 100 * (place + 1);
    NetworkInterface {
        mac: interface.mac.to_string(),
        fixed: match &interface.addressing {
            Addressing::DhcpReservation(_) | Addressing::Dhcp => None,
            Addressing::Static(fixed) => Some(self::fixed(fixed, metric)),
        },
        mtu: interface.mtu,
        metric,
        optional: place > 0,
    }
}

fn fixed(fixed: &StaticAddressing, metric: usize) -> Fixed {
    // Not the word `default`: cloud-init 22.4 refuses it unless netplan reads it.
    let everything = |via: IpAddr| match via {
        IpAddr::V4(_) => format!("{}/0", Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => format!("{}/0", Ipv6Addr::UNSPECIFIED),
    };
    let route = |to: String, hop: &Hop, metric: Option<usize>| Route {
        to,
        via: hop.via,
        on_link: hop.on_link,
        metric,
        explained: metric.is_some() && hop.via.is_ipv4(),
    };
    let gateways = fixed.gateways.iter();
    let gateways = gateways.map(|hop| route(everything(hop.via), hop, Some(metric)));
    let others = fixed.routes.iter();
    let others = others.map(|other| route(other.to.to_string(), &other.hop, None));
    Fixed {
        addresses: fixed.addresses.iter().map(ToString::to_string).collect(),
        routes: gateways.chain(others).collect(),
        dns_servers: fixed.dns_servers.clone(),
        search: fixed.search.clone(),
    }
}

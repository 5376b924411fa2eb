//! `network-config`, version 2, for the renderers of cloud-init from 22.4 on (netplan, networkd,
//! ifupdown).

use std::net::{IpAddr, Ipv4Addr};

use askama::Template;

use super::yaml::Quoted;
use crate::config::{Addressing, Config, Interface};

#[derive(Template)]
#[template(path = "network-config.yaml", escape = "none")]
struct NetworkConfig {
    interfaces: Vec<NetworkInterface>,
}

struct NetworkInterface {
    mac: String,
    fixed: Option<Fixed>,
    /// The earlier interface's gateway wins where several are given; the later ones are used when
    /// it is removed.
    metric: usize,
    /// The boot waits only for the first interface, which has the advertised address.
    optional: bool,
}

struct Fixed {
    address: String,
    gateway: Option<Ipv4Addr>,
    dns_servers: Vec<IpAddr>,
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
    let fixed = match &interface.addressing {
        Addressing::DhcpReservation => None,
        Addressing::Static {
            prefix_length,
            gateway,
            dns_servers,
        } => Some(Fixed {
            address: format!("{}/{prefix_length}", interface.ip),
            gateway: *gateway,
            dns_servers: dns_servers.clone(),
        }),
    };
    NetworkInterface {
        mac: interface.mac.to_string(),
        fixed,
        metric: 100 * (place + 1),
        optional: place > 0,
    }
}

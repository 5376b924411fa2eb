//! What `lbctl init --from-host` finds on a libvirt host, and the ssh key of who runs it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::{Draft, Slot};
use crate::config::{NetworkRef, VolumeRef};
use crate::host::libvirt::LibvirtHost;
use crate::host::{HostReader, HostResult, Lease, Listed, NetworkFacts, Subnet, VolumeState};

/// What follows the name of a network that is not started.
const INACTIVE: &str = " (inactive)";
const NO_POOL: &str = "this host has none: `virsh pool-define-as default dir --target /var/lib/libvirt/images`, then \
                       `virsh pool-start default`";

impl Draft {
    /// What the host has, which is only read.
    pub(super) fn from_host(host: &LibvirtHost, given: Option<&str>) -> HostResult<Self> {
        let pools = host.names(&Listed::Pools);
        let volumes = volumes(host, &pools);
        let images = images(host, &volumes)?;
        let pool = if pools.is_empty() {
            Slot::new("", NO_POOL)
        } else {
            Slot::of("pools", &pools, Some("default"))
        };
        let networks = networks(host)?;
        let names: Vec<String> = images.iter().map(|at| at.name.clone()).collect();
        let base_pool = images.first().map(|at| at.pool.clone());
        let architecture = host.node()?.architecture;
        let mut draft = Self {
            uri: given.map(str::to_owned),
            base_pool: Slot::new(&base_pool.unwrap_or_else(|| pool.value.clone()), ""),
            base: if images.is_empty() {
                Slot::new(
                    "",
                    "no pool has an image that nothing uses: lbctl.toml(5), base_image",
                )
            } else {
                Slot::of("images", &names, None)
            },
            images,
            volumes,
            pools,
            networks: networks.names,
            addresses: networks.addresses,
            pool,
            network: networks.usual,
            emulated: !host.offers_kvm(&architecture)?,
            ssh_key: own_ssh_key(),
            ..Self::new()
        };
        draft.ip = draft.address_in(&draft.network.value);
        Ok(draft)
    }

    /// The one that was found in that network.
    pub(super) fn address_in(&self, network: &str) -> Slot {
        let mut found = self.addresses.iter().filter(|(name, _)| name == network);
        found.next().map(|(_, ip)| ip.clone()).unwrap_or_default()
    }
}

/// A public ssh key of who runs this.
fn own_ssh_key() -> Slot {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let folder = home.map(|home| home.join(".ssh"));
    // Without the folder there is none.
    let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
    let mut found: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "pub"))
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    let comment = match found.len() {
        0 => "no *.pub is in ~/.ssh: `ssh-keygen -t ed25519` makes one".to_owned(),
        1 => String::new(),
        n => format!("the first of {n} in ~/.ssh"),
    };
    Slot::new(found.first().map_or("", String::as_str), &comment)
}

fn volumes(host: &LibvirtHost, pools: &[String]) -> Vec<VolumeRef> {
    let of_pool = |pool: &String| {
        let names = host.names(&Listed::Volumes(pool.clone())).into_iter();
        let pool = pool.clone();
        names.map(move |name| VolumeRef {
            pool: pool.clone(),
            name,
        })
    };
    pools.iter().flat_map(of_pool).collect()
}

/// Those that a disk could be cloned from: qcow2, with no backing file, and no domain's disk.
fn images(host: &LibvirtHost, volumes: &[VolumeRef]) -> HostResult<Vec<VolumeRef>> {
    let claims = host.claims(&[])?;
    let mut found = Vec::new();
    for at in volumes {
        // What cannot be read is no image; the list is a help and decides nothing.
        let Ok(VolumeState::Present(facts)) = host.volume(at) else {
            continue;
        };
        let mut disks = claims.iter().flat_map(|claim| &claim.disks);
        let used = disks.any(|disk| disk.is(at, Some(&*facts)));
        if facts.format == "qcow2" && facts.backing.is_none() && !used {
            found.push(at.clone());
        }
    }
    Ok(found)
}

struct Networks {
    /// Of all that are there.
    names: Vec<String>,
    /// One that serves DHCP.
    usual: Slot,
    /// In each such network an address that nobody has.
    addresses: Vec<(String, Slot)>,
}

fn networks(host: &LibvirtHost) -> HostResult<Networks> {
    let mut names = Vec::new();
    let mut shown = Vec::new();
    let mut addresses: Vec<(String, Slot)> = Vec::new();
    for name in host.names(&Listed::Networks) {
        let Some(facts) = host.network(&NetworkRef::Name(name.clone()))? else {
            continue;
        };
        names.push(name.clone());
        if !facts.active {
            shown.push(format!("{name}{INACTIVE}"));
            continue;
        }
        shown.push(name.clone());
        if let Some(subnet) = facts.subnets.iter().find(|subnet| subnet.dhcp) {
            let leases = host.leases(&facts.id)?;
            let ip = free_address(subnet, &facts, &leases);
            addresses.push((name, address(subnet, ip)));
        }
    }
    let default = addresses.iter().find(|(name, _)| name == "default");
    let value = default.or_else(|| addresses.first());
    let mut usual = Slot {
        value: value.map(|(name, _)| name.clone()).unwrap_or_default(),
        ..Slot::of("networks", &shown, None)
    };
    let inactive = shown.iter().find_map(|name| name.strip_suffix(INACTIVE));
    if let Some(name) = inactive.filter(|_| usual.value.is_empty()) {
        let start = format!("; `virsh net-start {name}` starts that");
        usual.comment.push_str(&start);
    }
    Ok(Networks {
        names,
        usual,
        addresses,
    })
}

fn address(subnet: &Subnet, ip: Option<Ipv4Addr>) -> Slot {
    let ranges: Vec<String> = subnet
        .ranges
        .iter()
        .map(|(first, last)| format!("{first}-{last}"))
        .collect();
    match ip {
        None => Slot::new("", "every address of the network is in use"),
        Some(ip) if subnet.ranges.iter().any(|range| is_in(*range, ip)) => Slot::new(
            &ip.to_string(),
            "free; it is reserved, so it may be in the DHCP range",
        ),
        Some(ip) => Slot::new(
            &ip.to_string(),
            &format!("free, and outside the DHCP range {}", ranges.join(", ")),
        ),
    }
}

fn is_in((first, last): (Ipv4Addr, Ipv4Addr), ip: Ipv4Addr) -> bool {
    (first..=last).contains(&ip)
}

/// An address that is neither reserved nor leased, outside the DHCP ranges where there is one.
fn free_address(subnet: &Subnet, network: &NetworkFacts, leases: &[Lease]) -> Option<Ipv4Addr> {
    let (first, last) = subnet.bounds();
    // Of a large network its first part is enough.
    let last = u32::from(last).min(u32::from(first).saturating_add(4096));
    let reserved = network
        .reservations
        .iter()
        .chain(&network.live_reservations);
    let taken: Vec<Ipv4Addr> = reserved
        .map(|entry| entry.ip)
        .chain(leases.iter().map(|lease| lease.ip))
        .chain([subnet.address])
        .collect();
    let free = |ip: &Ipv4Addr| subnet.is_usable(*ip) && !taken.contains(ip);
    let outside = |ip: &Ipv4Addr| !subnet.ranges.iter().any(|range| is_in(*range, *ip));
    let all = || (u32::from(first)..=last).map(Ipv4Addr::from).filter(free);
    // The first ones are often routers' and other machines', which libvirt does not know.
    let later = u32::from(first).saturating_add(20);
    all()
        .find(|ip| outside(ip) && u32::from(*ip) >= later)
        .or_else(|| all().find(outside))
        .or_else(|| all().next_back())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::{HostEntry, NetworkId};

    fn subnet(ranges: &[(&str, &str)]) -> Subnet {
        let ip = |text: &str| text.parse().unwrap();
        Subnet {
            address: ip("192.168.150.1"),
            prefix_length: 24,
            dhcp: true,
            ranges: ranges.iter().map(|(a, b)| (ip(a), ip(b))).collect(),
        }
    }

    fn network(reserved: &[&str]) -> NetworkFacts {
        let entry = |ip: &&str| HostEntry {
            mac: None,
            ip: ip.parse().unwrap(),
            name: None,
        };
        NetworkFacts {
            id: NetworkId {
                name: "lab".into(),
                uuid: String::new(),
            },
            active: true,
            persistent: true,
            own_bridge: true,
            devices: Vec::new(),
            mac: None,
            ports: None,
            subnets: Vec::new(),
            reservations: reserved.iter().map(entry).collect(),
            live_reservations: Vec::new(),
        }
    }

    #[test]
    fn the_address_is_free_and_outside_the_dhcp_range_where_it_can_be() {
        for (ranges, reserved, free) in [
            (
                &[("192.168.150.100", "192.168.150.199")][..],
                &[][..],
                "192.168.150.20",
            ),
            (
                &[("192.168.150.100", "192.168.150.199")],
                &["192.168.150.20"],
                "192.168.150.21",
            ),
            (
                &[("192.168.150.10", "192.168.150.254")],
                &[],
                "192.168.150.2",
            ),
            (
                &[("192.168.150.2", "192.168.150.254")],
                &["192.168.150.254"],
                "192.168.150.253",
            ),
        ] {
            let ip = free_address(&subnet(ranges), &network(reserved), &[]);
            assert_eq!(ip, Some(free.parse().unwrap()), "{ranges:?} {reserved:?}");
        }
    }
}

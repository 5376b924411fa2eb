//! The VM's network cards: what they are plugged into, their addresses, and what they must not share.

use std::net::{IpAddr, Ipv4Addr};

use aws_lc_rs::digest;

use super::checks;
use super::model::{Addressing, Interface};
use super::nic::{NetworkRef, NicSource};
use super::reader::{Given, Section};
use super::report::ProblemId;
use super::types::{MacAddr, Name, Wrong};

/// A card as far as it could be read. What was given stays with its place, to be held against the other cards.
struct Card {
    ip: Option<Given<Ipv4Addr>>,
    mac: Option<Given<MacAddr>>,
    mac_derived: bool,
    gateway: Option<Given<Ipv4Addr>>,
    attach: Option<NicSource>,
    addressing: Option<Addressing>,
}

/// All cards, in the order of the model. Two default gateways are refused: the guest would take either of the two routes
/// and nobody could say which.
pub(super) fn interfaces(root: &Section<'_>, name: Option<&Given<Name>>) -> Option<Vec<Interface>> {
    let mut cards = Vec::new();
    if let Some(section) = root.section("libvirt_network") {
        let attach = network(&section);
        let ip = section.parsed("ip", checks::host_address);
        let (mac, mac_derived) = mac(&section, name, "libvirt_network");
        cards.push(Card {
            ip,
            mac,
            mac_derived,
            gateway: None,
            attach,
            addressing: Some(Addressing::DhcpReservation),
        });
    }
    for (place, section) in root.sections("libvirt_networks").iter().enumerate() {
        let attach = network(section);
        cards.push(static_card(
            section,
            attach,
            name,
            &format!("libvirt_networks/{place}"),
        ));
    }
    for (place, section) in root.sections("macvtap_interfaces").iter().enumerate() {
        let attach = section
            .parsed("interface", checks::device)
            .map(|device| NicSource::Macvtap {
                device: device.value,
            });
        cards.push(static_card(
            section,
            attach,
            name,
            &format!("macvtap_interfaces/{place}"),
        ));
    }
    if cards.is_empty()
        && ["libvirt_network", "libvirt_networks", "macvtap_interfaces"]
            .iter()
            .all(|key| !root.gives(key))
    {
        let help = "add [libvirt_network], [[libvirt_networks]] or [[macvtap_interfaces]]";
        root.notes().problem(
            ProblemId::MissingKey,
            "libvirt_network",
            None,
            "no network card is given, so nothing could reach the load balancer",
            help,
        );
    }
    unlike(root, &cards);
    let interfaces: Option<Vec<Interface>> = cards.into_iter().map(interface).collect();
    interfaces.filter(|interfaces| !interfaces.is_empty())
}

fn interface(card: Card) -> Option<Interface> {
    let Card {
        ip,
        mac,
        mac_derived,
        gateway: _,
        attach,
        addressing,
    } = card;
    Some(Interface {
        mac: mac?.value,
        mac_derived,
        ip: ip?.value,
        source: attach?,
        addressing: addressing?,
    })
}

/// No two cards may have the same address, MAC address or both a default gateway.
fn unlike(root: &Section<'_>, cards: &[Card]) {
    let notes = root.notes();
    let earlier = |place: usize| cards[..place].iter();
    for (place, card) in cards.iter().enumerate() {
        if let Some(ip) = &card.ip
            && let Some(other) = earlier(place)
                .filter_map(|other| other.ip.as_ref())
                .find(|other| other.value == ip.value)
        {
            notes.conflict(
                ip,
                other,
                &format!("is {}, which another card has", ip.value),
                "the same address",
                "give each card an address of its own",
            );
        }
        if let Some(mac) = &card.mac
            && let Some(other) = earlier(place)
                .filter_map(|other| other.mac.as_ref())
                .find(|other| other.value == mac.value)
        {
            notes.conflict(
                mac,
                other,
                &format!("is {}, which another card has", mac.value),
                "the same MAC address",
                "give each card one of its own, or leave mac out",
            );
        }
        if let Some(gateway) = &card.gateway
            && let Some(other) = earlier(place).find_map(|other| other.gateway.as_ref())
        {
            let help =
                "leave gateway out on all cards but the one that leads to the rest of the world";
            notes.conflict(
                gateway,
                other,
                "is a second default gateway, and the VM has one default route",
                "the first",
                help,
            );
        }
    }
}

fn network(section: &Section<'_>) -> Option<NicSource> {
    let id = section.parsed("network_id", checks::uuid);
    let name = section.parsed("network_name", checks::libvirt_name);
    match (section.text("network_id"), section.text("network_name")) {
        (Some(id), Some(name)) => {
            section.notes().conflict(
                &id,
                &name,
                "and `network_name` are both given",
                "the other one",
                "keep one of the two",
            );
            None
        }
        (None, None) => {
            if !section.gives("network_id") && !section.gives("network_name") {
                let what = "names no network: neither `network_name` nor `network_id` is given";
                section.notes().refuse(
                    &section.here(),
                    &Wrong::new(what, "add a line such as: network_name = \"default\""),
                );
            }
            None
        }
        _ => id
            .map(|id| NetworkRef::Id(id.value))
            .or(name.map(|name| NetworkRef::Name(name.value)))
            .map(NicSource::Network),
    }
}

fn static_card(
    section: &Section<'_>,
    attach: Option<NicSource>,
    name: Option<&Given<Name>>,
    place: &str,
) -> Card {
    let notes = section.notes();
    let prefix = section.integer(
        "prefix_length",
        1..=32,
        "give the length of the network's prefix, such as 24",
    );
    let prefix = prefix.and_then(|given| u8::try_from(given.value).ok());
    let ip = section.parsed("ip", checks::host_address);
    let gateway_given = section.gives("gateway");
    let gateway = section.parsed("gateway", checks::host_address);
    let servers = section.texts("dns_servers");
    let dns_servers: Vec<IpAddr> = servers
        .iter()
        .filter_map(|server| notes.check(Some(server.clone()), |text| checks::server_address(text)))
        .map(|server| server.value)
        .collect();

    let mut fits = true;
    if let (Some(ip), Some(prefix)) = (&ip, prefix) {
        fits &= notes
            .check(Some(ip.clone()), |ip| usable(*ip, prefix))
            .is_some();
        if let Some(gateway) = &gateway {
            fits &= notes
                .check(Some(gateway.clone()), |gateway| {
                    reachable(*gateway, ip.value, prefix)
                })
                .is_some();
        }
    }
    let complete = fits && gateway_given == gateway.is_some() && dns_servers.len() == servers.len();
    let addressing = prefix
        .filter(|_| complete)
        .map(|prefix_length| Addressing::Static {
            prefix_length,
            gateway: gateway.as_ref().map(|gateway| gateway.value),
            dns_servers,
        });
    let (mac, mac_derived) = mac(section, name, place);
    Card {
        ip,
        mac,
        mac_derived,
        gateway,
        attach,
        addressing,
    }
}

/// First and last address of a network.
fn bounds(ip: Ipv4Addr, prefix: u8) -> (Ipv4Addr, Ipv4Addr) {
    let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let bits = u32::from(ip);
    (Ipv4Addr::from(bits & !host), Ipv4Addr::from(bits | host))
}

/// Neither the network's own address nor its broadcast address, where it has them (prefix below 31).
fn usable(ip: Ipv4Addr, prefix: u8) -> Result<(), Wrong> {
    let (first, last) = bounds(ip, prefix);
    let next = |ip: Ipv4Addr, by: i32| Ipv4Addr::from(u32::from(ip).wrapping_add_signed(by));
    let help = format!(
        "give an address from {} to {}, or correct prefix_length",
        next(first, 1),
        next(last, -1)
    );
    match ip {
        _ if prefix >= 31 => Ok(()),
        ip if ip == first => Err(Wrong::new(
            format!("is {ip}, the address of the network {first}/{prefix} itself"),
            help,
        )),
        ip if ip == last => Err(Wrong::new(
            format!("is {ip}, the broadcast address of the network {first}/{prefix}"),
            help,
        )),
        _ => Ok(()),
    }
}

fn reachable(gateway: Ipv4Addr, ip: Ipv4Addr, prefix: u8) -> Result<(), Wrong> {
    let (first, last) = bounds(ip, prefix);
    if gateway == ip {
        return Err(Wrong::new(
            format!("is {gateway}, the VM's own address"),
            "give the address of the network's router",
        ));
    }
    if !(first..=last).contains(&gateway) {
        let what = format!("is {gateway}, which is outside {first}/{prefix}, the network of `ip`");
        return Err(Wrong::new(what, "correct gateway, ip or prefix_length"));
    }
    usable(gateway, prefix)
}

fn mac(
    section: &Section<'_>,
    name: Option<&Given<Name>>,
    place: &str,
) -> (Option<Given<MacAddr>>, bool) {
    if section.gives("mac") {
        return (section.parsed("mac", MacAddr::parse), false);
    }
    let here = section.here();
    let mac = name.map(|name| Given {
        key: format!("{}.mac", here.key),
        ..here.with(derived(&name.value, place))
    });
    (mac, true)
}

/// The MAC address of a card that is given none: the same for ever for the same VM and place. Changing this function
/// changes the MAC of every VM that has no `mac` in its file.
fn derived(name: &Name, place: &str) -> MacAddr {
    let hash = digest::digest(&digest::SHA256, format!("{name}/{place}").as_bytes());
    let &[a, b, c, ..] = hash.as_ref() else {
        return MacAddr([0x52, 0x54, 0, 0, 0, 0]);
    };
    MacAddr([0x52, 0x54, 0x00, a, b, c])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn derived_macs_never_change() {
        let name = Name::parse("postgres-lb-1").unwrap();
        let macs = [
            "libvirt_network",
            "libvirt_networks/0",
            "macvtap_interfaces/0",
            "macvtap_interfaces/1",
        ];
        let macs: Vec<String> = macs
            .iter()
            .map(|place| derived(&name, place).to_string())
            .collect();
        assert_eq!(
            macs,
            [
                "52:54:00:31:56:32",
                "52:54:00:58:5b:d8",
                "52:54:00:67:6e:b2",
                "52:54:00:0f:6e:e2"
            ]
        );
    }
}

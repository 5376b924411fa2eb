//! The VM's network interfaces: what they are attached to, their addresses, and what they must not
//! share.

use std::net::{IpAddr, Ipv4Addr};

use aws_lc_rs::digest;

use super::checks;
use super::diagnostics::{Read, Refused, Spanned};
use super::model::{Addressing, Interface};
use super::nic::{NetworkRef, NicSource};
use super::reader::Section;
use super::report::ProblemId;
use super::types::{InvalidValue, MacAddr, Name};

/// A network interface as far as it could be read, with places, to be held against the others.
struct InterfaceDraft {
    ip: Read<Spanned<Ipv4Addr>>,
    mac: Read<Spanned<MacAddr>>,
    mac_derived: bool,
    gateway: Option<Spanned<Ipv4Addr>>,
    source: Read<NicSource>,
    addressing: Read<Addressing>,
}

/// All network interfaces, in the order of the model. Two default gateways are refused: the guest
/// would take either of the two routes and nobody could say which.
pub(super) fn interfaces(root: &Section<'_>, name: &Read<Spanned<Name>>) -> Read<Vec<Interface>> {
    let mut drafts = Vec::new();
    if let Some(section) = root.section("libvirt_network") {
        let source = network(&section);
        let ip = section.parsed("ip", checks::host_address);
        let (mac, mac_derived) = mac(&section, name, "libvirt_network");
        drafts.push(InterfaceDraft {
            ip,
            mac,
            mac_derived,
            gateway: None,
            source,
            addressing: Ok(Addressing::DhcpReservation),
        });
    }
    for (place, section) in root.sections("libvirt_networks").iter().enumerate() {
        let source = network(section);
        let place = format!("libvirt_networks/{place}");
        drafts.push(static_interface(section, source, name, &place));
    }
    for (place, section) in root.sections("macvtap_interfaces").iter().enumerate() {
        let source = section
            .parsed("interface", checks::device)
            .map(|device| NicSource::Macvtap {
                device: device.value,
            });
        let place = format!("macvtap_interfaces/{place}");
        drafts.push(static_interface(section, source, name, &place));
    }
    if drafts.is_empty() {
        return Err(none(root));
    }
    let distinct = distinct(root, &drafts);
    let interfaces: Read<Vec<Interface>> = drafts.into_iter().map(interface).collect();
    distinct.and(interfaces)
}

fn none(root: &Section<'_>) -> Refused {
    let kinds = ["libvirt_network", "libvirt_networks", "macvtap_interfaces"];
    if kinds.iter().any(|kind| root.gives(kind)) {
        return Refused::BY_SCHEMA;
    }
    root.diagnostics().problem(
        ProblemId::MissingKey,
        kinds[0],
        None,
        "no network interface is given, so nothing could reach the load balancer",
        "add [libvirt_network], [[libvirt_networks]] or [[macvtap_interfaces]]",
    )
}

fn interface(draft: InterfaceDraft) -> Read<Interface> {
    let InterfaceDraft {
        ip,
        mac,
        mac_derived,
        gateway: _,
        source,
        addressing,
    } = draft;
    Ok(Interface {
        mac: mac?.value,
        mac_derived,
        ip: ip?.value,
        source: source?,
        addressing: addressing?,
    })
}

/// No two interfaces may have the same address, MAC address or both a default gateway.
fn distinct(root: &Section<'_>, drafts: &[InterfaceDraft]) -> Read<()> {
    let diagnostics = root.diagnostics();
    let mut distinct = Ok(());
    for (place, draft) in drafts.iter().enumerate() {
        let earlier = || drafts[..place].iter();
        if let Ok(ip) = &draft.ip
            && let Some(other) = earlier()
                .filter_map(|other| other.ip.as_ref().ok())
                .find(|other| other.value == ip.value)
        {
            let what = format!("is {}, which another network interface has", ip.value);
            let help = "give each network interface an address of its own";
            distinct = Err(diagnostics.conflict(ip, other, &what, "the same address", help));
        }
        if let Ok(mac) = &draft.mac
            && let Some(other) = earlier()
                .filter_map(|other| other.mac.as_ref().ok())
                .find(|other| other.value == mac.value)
        {
            let what = format!("is {}, which another network interface has", mac.value);
            let help = "give each network interface one of its own, or leave mac out";
            distinct = Err(diagnostics.conflict(mac, other, &what, "the same MAC address", help));
        }
        if let Some(gateway) = &draft.gateway
            && let Some(other) = earlier().find_map(|other| other.gateway.as_ref())
        {
            let what = "is a second default gateway, and the VM has one default route";
            let help = "leave gateway out on all network interfaces but the one that leads to the rest of the world";
            distinct = Err(diagnostics.conflict(gateway, other, what, "the first", help));
        }
    }
    distinct
}

fn network(section: &Section<'_>) -> Read<NicSource> {
    let id = section.optional("network_id", |s, k| s.parsed(k, checks::uuid));
    let name = section.optional("network_name", |s, k| s.parsed(k, checks::libvirt_name));
    if let (Some(id), Some(name)) = (section.given("network_id"), section.given("network_name")) {
        let what = "and `network_name` are both given";
        let help = "keep one of the two";
        let diagnostics = section.diagnostics();
        return Err(diagnostics.conflict(&id, &name, what, "the other one", help));
    }
    match (id?, name?) {
        (Some(id), _) => Ok(NicSource::Network(NetworkRef::Id(id.value))),
        (None, Some(name)) => Ok(NicSource::Network(NetworkRef::Name(name.value))),
        (None, None) => {
            let what = "names no network: neither `network_name` nor `network_id` is given";
            let help = "add a line such as: network_name = \"default\"";
            let diagnostics = section.diagnostics();
            Err(diagnostics.refuse(&section.here(), what, help))
        }
    }
}

fn static_interface(
    section: &Section<'_>,
    source: Read<NicSource>,
    name: &Read<Spanned<Name>>,
    place: &str,
) -> InterfaceDraft {
    let help = "give the length of the network's prefix, such as 24";
    let prefix = section.integer("prefix_length", help);
    let ip = section.parsed("ip", checks::host_address);
    let gateway = section.optional("gateway", |s, k| s.parsed(k, checks::host_address));
    let dns_servers = section.texts("dns_servers", checks::server_address);
    let addressing = addressing(section, prefix, &ip, &gateway, dns_servers);
    let (mac, mac_derived) = mac(section, name, place);
    InterfaceDraft {
        ip,
        mac,
        mac_derived,
        gateway: gateway.ok().flatten(),
        source,
        addressing,
    }
}

fn addressing(
    section: &Section<'_>,
    prefix: Read<Spanned<u8>>,
    ip: &Read<Spanned<Ipv4Addr>>,
    gateway: &Read<Option<Spanned<Ipv4Addr>>>,
    dns_servers: Read<Vec<Spanned<IpAddr>>>,
) -> Read<Addressing> {
    let diagnostics = section.diagnostics();
    let prefix_length = prefix?.value;
    if let Ok(ip) = ip {
        let own = diagnostics.check(ip, |ip| usable(*ip, prefix_length));
        if let Ok(Some(gateway)) = gateway {
            diagnostics.check(gateway, |gateway| {
                reachable(*gateway, ip.value, prefix_length)
            })?;
        }
        own?;
    }
    let gateway = gateway.as_ref().map_err(|refused| *refused)?;
    Ok(Addressing::Static {
        prefix_length,
        gateway: gateway.as_ref().map(|gateway| gateway.value),
        dns_servers: dns_servers?.into_iter().map(Spanned::into_value).collect(),
    })
}

/// First and last address of a network.
fn bounds(ip: Ipv4Addr, prefix: u8) -> (Ipv4Addr, Ipv4Addr) {
    let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let bits = u32::from(ip);
    (Ipv4Addr::from(bits & !host), Ipv4Addr::from(bits | host))
}

/// Neither the network's own address nor its broadcast address, where it has them (prefix below
/// 31).
fn usable(ip: Ipv4Addr, prefix: u8) -> Result<(), InvalidValue> {
    let (first, last) = bounds(ip, prefix);
    let next = |ip: Ipv4Addr, by: i32| Ipv4Addr::from(u32::from(ip).wrapping_add_signed(by));
    let help = format!(
        "give an address from {} to {}, or correct prefix_length",
        next(first, 1),
        next(last, -1)
    );
    match ip {
        _ if prefix >= 31 => Ok(()),
        ip if ip == first => Err(InvalidValue::new(
            format!("is {ip}, the address of the network {first}/{prefix} itself"),
            help,
        )),
        ip if ip == last => Err(InvalidValue::new(
            format!("is {ip}, the broadcast address of the network {first}/{prefix}"),
            help,
        )),
        _ => Ok(()),
    }
}

fn reachable(gateway: Ipv4Addr, ip: Ipv4Addr, prefix: u8) -> Result<(), InvalidValue> {
    let (first, last) = bounds(ip, prefix);
    if gateway == ip {
        return Err(InvalidValue::new(
            format!("is {gateway}, the VM's own address"),
            "give the address of the network's router",
        ));
    }
    if !(first..=last).contains(&gateway) {
        let what = format!("is {gateway}, which is outside {first}/{prefix}, the network of `ip`");
        return Err(InvalidValue::new(
            what,
            "correct gateway, ip or prefix_length",
        ));
    }
    usable(gateway, prefix)
}

fn mac(
    section: &Section<'_>,
    name: &Read<Spanned<Name>>,
    place: &str,
) -> (Read<Spanned<MacAddr>>, bool) {
    if section.gives("mac") {
        return (section.parsed("mac", MacAddr::parse), false);
    }
    let here = section.here();
    let derive = |name: &Spanned<Name>| Spanned {
        key: format!("{}.mac", here.key),
        ..here.with(derived(&name.value, place))
    };
    (name.as_ref().map(derive).map_err(|refused| *refused), true)
}

/// The MAC address of an interface that is given none: the same for ever for the same VM and place.
/// Changing this function changes the MAC of every VM that has no `mac` in its file.
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

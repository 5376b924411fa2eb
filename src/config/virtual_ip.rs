//! `[virtual_ip]`: the address that this VM shares with others. What of it can be judged from one
//! of them; those that are in the same file are made known to each other in the end
//! ([`introduce`]).

use std::net::{IpAddr, Ipv4Addr};

use super::diagnostics::{Diagnostics, Read, Refused, Spanned, all};
use super::keys::{self, DEFAULT_URI, Key};
use super::model::{Addressing, Config, Haproxy, Interface, NodeAddress, Nodes, Peer, VirtualIp};
use super::reader::Section;
use super::types::{HaproxyTime, InterfaceAddress, InvalidValue, host_address};
use super::vms::{Claim, Claims, Unique};

/// A VM that waits for its processor as long as that counts as dead where `detection` is shorter.
const SHORT_DETECTION_MILLIS: u64 = 600;

/// What else the configuration says. What could not be read is `None`.
pub(super) struct Others<'a> {
    pub interfaces: Option<&'a [Interface]>,
    pub haproxy: Option<&'a Haproxy>,
}

pub(super) fn virtual_ip(root: &Section<'_>, others: &Others<'_>) -> Read<Option<VirtualIp>> {
    let Some(section) = root.section("virtual_ip") else {
        if let Some(empty) = root.left_blank("virtual_ip") {
            let help = "give `address`, or remove the section";
            let diagnostics = &root.reader.diagnostics;
            diagnostics.warn(&empty, "is empty, so the VM shares no address", help);
        }
        return Ok(None);
    };
    let address = section.parsed("address", shared_address);
    let peers = peers(&section);
    let router_id = router_id(&section, address.as_ref().ok());
    let detection = detection(&section);
    let drain = section.time("drain");
    let listens = listens_everywhere(root, &section);
    let known = address.as_ref().map_err(|refused| *refused);
    let carrier = known.and_then(|address| {
        let carrier = carrier(&section, address, others.interfaces)?;
        free(&section, address, others)?;
        Ok(carrier)
    });
    let peers = peers.and_then(|peers| {
        let network = carrier.as_ref().ok().and_then(|carrier| carrier.network);
        fit(&section, &peers, address.as_ref().ok(), network, others)?;
        Ok(peers)
    });
    listens?;
    let Carrier { interface, own, .. } = carrier?;
    let peer = |peer: Spanned<Ipv4Addr>| Peer {
        address: peer.value,
        mac: None,
        elsewhere: false,
    };
    Ok(Some(VirtualIp {
        address: address?.value,
        interface,
        own,
        peers: peers?.into_iter().map(peer).collect(),
        router_id: router_id?,
        detection: detection?.value,
        drain: drain?.value,
    }))
}

/// Those that the file cannot know by itself: with `[[vms]]` the others of the list are added
/// later.
fn peers(section: &Section<'_>) -> Read<Vec<Spanned<Ipv4Addr>>> {
    let is_alone = section.reader.vm.is_none_or(|own| own.others == 0);
    if is_alone && !section.gives("peers") {
        return Err(section.missing("peers", &[]));
    }
    section.texts("peers", shared_address)
}

/// Makes the VMs of one file known to each other. Their MAC addresses are left to the guests, which
/// learn them: what the file says may be that of the next start only, and a VM that refuses what
/// another one sends now would have the address beside it.
pub(super) fn introduce(vms: &mut [Config], claims: &[Claims], diagnostics: &Diagnostics) {
    let owns: Vec<Option<Ipv4Addr>> = vms
        .iter()
        .map(|vm| vm.virtual_ip.as_ref().map(|shared| shared.own))
        .collect();
    ensure_reachable(&owns, claims, diagnostics);
    for (number, vm) in vms.iter_mut().enumerate() {
        let Some(shared) = &mut vm.virtual_ip else {
            continue;
        };
        let others = owns.iter().enumerate();
        let others = others.filter(|(other, _)| *other != number);
        let peer = |(other, own): (usize, &Option<Ipv4Addr>)| {
            Some(Peer {
                address: (*own)?,
                mac: None,
                elsewhere: host_of(claims, other) != host_of(claims, number),
            })
        };
        let mut peers: Vec<Peer> = others.filter_map(peer).collect();
        peers.append(&mut shared.peers);
        shared.peers = peers;
        let most = keys::find("virtual_ip.peers").map_or(usize::MAX, Key::most);
        let name = claims
            .get(number)
            .and_then(|claims| claims.first(Unique::Name));
        if let (Some(name), true) = (name, shared.peers.len() > most) {
            let what = format!(
                "is one of {} VMs that share {}",
                shared.peers.len() + 1,
                shared.address
            );
            let help = format!("give at most {}", most + 1);
            diagnostics.refuse(&name.place, &what, help);
            return;
        }
    }
}

fn host_of(claims: &[Claims], vm: usize) -> &str {
    let host = claims.get(vm).and_then(|claims| claims.host.as_deref());
    host.unwrap_or(DEFAULT_URI)
}

/// VMs on different hosts may have the same address elsewhere, but not where they share one.
fn ensure_reachable(owns: &[Option<Ipv4Addr>], claims: &[Claims], diagnostics: &Diagnostics) {
    for (number, own) in owns.iter().enumerate() {
        let Some(own) = own else { continue };
        let mut earlier = owns.iter().take(number);
        let Some(other) = earlier.position(|other| other.as_ref() == Some(own)) else {
            continue;
        };
        // What two have on one host is said already.
        if host_of(claims, number) == host_of(claims, other) {
            continue;
        }
        let claim = |vm: usize| -> Option<&Claim> {
            let text = own.to_string();
            let mut all = claims.get(vm)?.all.iter();
            all.find(|claim| claim.of == Unique::Address && claim.value == text)
        };
        if let (Some(here), Some(there)) = (claim(number), claim(other)) {
            let what =
                format!("is {own}, which another VM has on the segment of the shared address");
            let (label, help) = ("the same address", "give each VM an address of its own");
            diagnostics.conflict(&here.place, &there.place, &what, label, help);
        }
    }
}

/// Of IPv4: neighbour discovery goes by multicast, which does not reach a guest on macvtap.
fn shared_address(text: &str) -> Result<Ipv4Addr, InvalidValue> {
    let help = "give an IPv4 address without its prefix, such as 192.168.150.20";
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        let what = match text.parse::<IpAddr>() {
            Ok(_) => "an IPv6 address: the VMs share one of IPv4",
            Err(_) if text.contains('/') => "an address with its prefix",
            Err(_) => "which is not an IPv4 address",
        };
        return Err(InvalidValue::quoting(text, format_args!(", {what}"), help));
    };
    host_address(address.into()).map(|()| address)
}

fn detection(section: &Section<'_>) -> Read<Spanned<HaproxyTime>> {
    let detection = section.time("detection")?;
    if detection.value.millis() < SHORT_DETECTION_MILLIS {
        let what = format!(
            "is {}: a VM that is only busy may count as dead, and every move of the address shows",
            detection.value
        );
        section
            .diagnostics()
            .warn(&detection, &what, "give 600ms or more");
    }
    Ok(detection)
}

/// The last part of the address, unless it is given: it matters among these VMs alone.
fn router_id(section: &Section<'_>, address: Option<&Spanned<Ipv4Addr>>) -> Read<u8> {
    let help = "give a number from 1 to 255, the same for each VM that shares the address";
    if let Some(given) = section.optional("router_id", |s, k| s.integer::<u8>(k, help))? {
        return Ok(given.value);
    }
    let Some(address) = address else {
        return Err(Refused::BY_SCHEMA);
    };
    let [.., last] = address.value.octets();
    if last == 0 {
        let what = format!(
            "is {}, whose last part, 0, is not a router_id",
            address.value
        );
        let help = "add a line such as: router_id = 20";
        return Err(section.diagnostics().refuse(address, &what, help));
    }
    Ok(last)
}

/// Where clients come by the shared address, HAProxy must listen on it, whoever has it.
fn listens_everywhere(root: &Section<'_>, section: &Section<'_>) -> Read<()> {
    let haproxy = root.section("haproxy");
    let address = haproxy.and_then(|haproxy| haproxy.given("address"));
    let specific = address.filter(|found| {
        let ip = found.value.as_str().and_then(|text| text.parse().ok());
        ip.is_some_and(|ip: IpAddr| !ip.is_unspecified())
    });
    match specific {
        None => Ok(()),
        Some(given) => {
            let what = "is one address, and clients come by the shared one, too";
            let help = "remove it, or give \"0.0.0.0\": haproxy.allow says who may connect";
            let diagnostics = section.diagnostics();
            Err(diagnostics.conflict(&given, &section.here(), what, "the shared one", help))
        }
    }
}

/// The network interface that carries the shared address.
struct Carrier {
    /// In the order of the configuration.
    interface: usize,
    /// The VM's own address there, which the peers know it by.
    own: Ipv4Addr,
    /// `None`: only libvirt's network knows its prefix.
    network: Option<InterfaceAddress>,
}

fn carrier(
    section: &Section<'_>,
    address: &Spanned<Ipv4Addr>,
    interfaces: Option<&[Interface]>,
) -> Read<Carrier> {
    let Some(interfaces) = interfaces else {
        return Err(Refused::BY_SCHEMA);
    };
    let diagnostics = section.diagnostics();
    let networks: Vec<(usize, InterfaceAddress)> = interfaces
        .iter()
        .enumerate()
        .flat_map(|(number, interface)| networks(interface).map(move |network| (number, network)))
        .collect();
    let ip = IpAddr::V4(address.value);
    if let Some((interface, own)) = networks.iter().find(|(_, own)| own.network().contains(ip)) {
        diagnostics.check(address, |_| own.neighbour(ip))?;
        if let IpAddr::V4(own_ip) = own.ip() {
            return Ok(Carrier {
                interface: *interface,
                own: own_ip,
                network: Some(*own),
            });
        }
    }
    let reserved = interfaces.iter().enumerate();
    let mut reserved = reserved.filter_map(|(number, i)| Some((number, i.reserved()?)));
    if let Some((interface, own)) = reserved.next() {
        return Ok(Carrier {
            interface,
            own,
            network: None,
        });
    }
    let networks: Vec<String> = networks
        .iter()
        .map(|(_, own)| own.network().to_string())
        .collect();
    if networks.is_empty() {
        let what = "needs a network interface whose address this file knows: the other VMs know this one by it";
        let help = "give the network interface ip and prefix_length in the place of dhcp";
        return Err(diagnostics.refuse(&section.here(), what, help));
    }
    let what = format!(
        "is {}, which is outside {}, the network of the VM",
        address.value,
        networks.join(" and ")
    );
    let help = "give a free address of that network: the VMs take it over from each other by ARP";
    Err(diagnostics.refuse(address, &what, help))
}

/// Its networks of IPv4 that have room for others.
fn networks(interface: &Interface) -> impl Iterator<Item = InterfaceAddress> {
    let addresses = match &interface.addressing {
        Addressing::Static(fixed) => fixed.addresses.as_slice(),
        Addressing::DhcpReservation(_) | Addressing::Dhcp => &[],
    };
    let addresses = addresses.iter().copied();
    addresses.filter(|address| address.ip().is_ipv4() && !address.is_alone())
}

/// Whose an address is, by what else the configuration says.
fn owner(ip: Ipv4Addr, others: &Others<'_>) -> Option<&'static str> {
    let ip = IpAddr::V4(ip);
    let interfaces = others.interfaces.unwrap_or_default();
    if interfaces.iter().any(|i| i.ips().any(|own| own == ip)) {
        return Some("an address of the VM itself");
    }
    let fixed = interfaces.iter().filter_map(|i| match &i.addressing {
        Addressing::Static(fixed) => Some(fixed),
        Addressing::DhcpReservation(_) | Addressing::Dhcp => None,
    });
    for fixed in fixed {
        let routers = fixed.gateways.iter().map(|hop| hop.via);
        let mut routers = routers.chain(fixed.routes.iter().map(|route| route.hop.via));
        if routers.any(|router| router == ip) {
            return Some("the address of a router");
        }
        if fixed.dns_servers.contains(&ip) {
            return Some("the address of a DNS server");
        }
    }
    let nodes = &others.haproxy?.nodes;
    if nodes.nameservers().contains(&ip) {
        return Some("the address of a DNS server");
    }
    match nodes {
        Nodes::Listed { nodes, .. } => nodes
            .iter()
            .any(|node| matches!(node.address, NodeAddress::Ip(of_node) if of_node == ip))
            .then_some("the address of a node"),
        Nodes::Named { .. } => None,
    }
}

fn free(section: &Section<'_>, address: &Spanned<Ipv4Addr>, others: &Others<'_>) -> Read<()> {
    match owner(address.value, others) {
        None => Ok(()),
        Some(whose) => {
            let what = format!("is {}, {whose}", address.value);
            let help = "give an address that nobody has: clients connect to it";
            Err(section.diagnostics().refuse(address, &what, help))
        }
    }
}

/// Whether each of the peers can be another VM on the same segment.
fn fit(
    section: &Section<'_>,
    peers: &[Spanned<Ipv4Addr>],
    address: Option<&Spanned<Ipv4Addr>>,
    network: Option<InterfaceAddress>,
    others: &Others<'_>,
) -> Read<()> {
    let diagnostics = section.diagnostics();
    let most = section.most("peers");
    if let (Some(first), true) = (peers.first(), peers.len() > most) {
        let what = format!("is the first of {} peers", peers.len());
        return Err(diagnostics.refuse(first, &what, format!("give at most {most}")));
    }
    let fits = peers.iter().enumerate().map(|(number, peer)| {
        if let Some(address) = address.filter(|address| address.value == peer.value) {
            let what = format!(
                "is {}, the shared address, which is nobody's own",
                peer.value
            );
            let help = "give the other VM's own address";
            return Err(diagnostics.conflict(peer, address, &what, "the shared one", help));
        }
        let before = peers.iter().take(number);
        if let Some(other) = { before }.find(|other| other.value == peer.value) {
            let what = format!("is {}, which is given already", peer.value);
            let help = "give each peer once";
            return Err(diagnostics.conflict(peer, other, &what, "the same address", help));
        }
        if let Some(whose) = owner(peer.value, others) {
            let what = format!("is {}, {whose}", peer.value);
            let help = if section.reader.vm.is_some_and(|own| own.others > 0) {
                "give the own address of a VM that shares this one and is not in this file: those of [[vms]] know each \
                 other"
            } else {
                "give the own address of the other VM that shares this one"
            };
            return Err(diagnostics.refuse(peer, &what, help));
        }
        let ip = IpAddr::V4(peer.value);
        match network {
            Some(own) if !own.network().contains(ip) => {
                let what = format!(
                    "is {}, which is outside {}, where the shared address is",
                    peer.value,
                    own.network()
                );
                let help =
                    "give the other VM's address in that network: the VMs must share a segment";
                Err(diagnostics.refuse(peer, &what, help))
            }
            Some(own) => diagnostics.check(peer, |_| own.neighbour(ip)).map(drop),
            None => Ok(()),
        }
    });
    all(fits).map(drop)
}

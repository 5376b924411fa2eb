//! The VM's network interfaces: what they are attached to, their addresses, and what they must not
//! share.

use std::net::IpAddr;

use aws_lc_rs::digest;

use super::addresses::{StaticDraft, fixed};
use super::checks;
use super::diagnostics::{Read, Refused, Spanned};
use super::model::{Addressing, Interface};
use super::nic::{NetworkRef, NicSource, Switch};
use super::reader::Section;
use super::report::ProblemId;
use super::types::{MacAddr, Name};
use super::vms::Unique;

/// RFC 8200, section 5.
const SMALLEST_OF_IPV6: u16 = 1280;

/// A network interface as far as it could be read, with places, to be held against the others.
struct InterfaceDraft {
    ips: Vec<Spanned<IpAddr>>,
    mac: Read<Spanned<MacAddr>>,
    mac_derived: bool,
    gateways: Vec<Spanned<IpAddr>>,
    source: Read<NicSource>,
    addressing: Read<Addressing>,
    mtu: Read<Option<u16>>,
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
            ips: ip.iter().map(|ip| ip.with(ip.value.into())).collect(),
            mac,
            mac_derived,
            gateways: Vec::new(),
            source,
            addressing: ip.map(|ip| Addressing::DhcpReservation(ip.value)),
            mtu: Ok(None),
        });
    }
    for list in &LISTS {
        for (place, section) in root.sections(list.key).iter().enumerate() {
            let place = format!("{}/{place}", list.key);
            drafts.push(interface_of(section, list, name, &place));
        }
    }
    if drafts.is_empty() {
        return Err(none(root));
    }
    for draft in &drafts {
        for ip in &draft.ips {
            root.reader.claim(Unique::Address, &ip.value, ip);
        }
        // Two derived ones are the same where the names are, and that is said of them.
        if let (Ok(mac), false) = (&draft.mac, draft.mac_derived) {
            root.reader.claim(Unique::Mac, &mac.value, mac);
        }
    }
    let distinct = distinct(root, &drafts);
    let interfaces: Read<Vec<Interface>> = drafts.into_iter().map(interface).collect();
    distinct.and(interfaces)
}

/// The lists of network interfaces, in the order of the model.
const LISTS: [InterfaceList; 3] = [
    InterfaceList {
        key: "libvirt_networks",
        source: network,
        takes_dhcp: false,
    },
    InterfaceList {
        key: "macvtap_interfaces",
        source: macvtap,
        takes_dhcp: false,
    },
    InterfaceList {
        key: "bridge_interfaces",
        source: bridge,
        takes_dhcp: true,
    },
];

struct InterfaceList {
    key: &'static str,
    /// What each is attached to.
    source: fn(&Section<'_>) -> Read<NicSource>,
    takes_dhcp: bool,
}

fn none(root: &Section<'_>) -> Refused {
    let lists = LISTS.iter().map(|list| list.key);
    if std::iter::once("libvirt_network")
        .chain(lists)
        .any(|kind| root.gives(kind))
    {
        return Refused::BY_SCHEMA;
    }
    root.diagnostics().problem(
        ProblemId::MissingKey,
        "libvirt_network",
        None,
        "no network interface is given, so nothing could reach the load balancer",
        "add [libvirt_network], [[libvirt_networks]], [[macvtap_interfaces]] or [[bridge_interfaces]]",
    )
}

fn interface(draft: InterfaceDraft) -> Read<Interface> {
    let InterfaceDraft {
        ips: _,
        mac,
        mac_derived,
        gateways: _,
        source,
        addressing,
        mtu,
    } = draft;
    Ok(Interface {
        mac: mac?.value,
        mac_derived,
        source: source?,
        addressing: addressing?,
        mtu: mtu?,
    })
}

/// No two interfaces may have the same address, MAC address or both a default gateway.
fn distinct(root: &Section<'_>, drafts: &[InterfaceDraft]) -> Read<()> {
    let diagnostics = root.diagnostics();
    let mut distinct = Ok(());
    for (place, draft) in drafts.iter().enumerate() {
        let earlier = || drafts[..place].iter();
        for (number, ip) in draft.ips.iter().enumerate() {
            let before = earlier().flat_map(|other| &other.ips);
            let mut before = before.chain(draft.ips.iter().take(number));
            if let Some(other) = before.find(|other| other.value == ip.value) {
                let what = format!("is {}, which is given already", ip.value);
                let help = "give each address once";
                distinct = Err(diagnostics.conflict(ip, other, &what, "the same address", help));
            }
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
        for gateway in &draft.gateways {
            let mut before = earlier().flat_map(|other| &other.gateways);
            let alike = |other: &&Spanned<IpAddr>| other.value.is_ipv4() == gateway.value.is_ipv4();
            if let Some(other) = before.find(alike) {
                let what = "is a second default gateway, and the VM has one default route";
                let help = "leave gateway out on all network interfaces but the one that leads to the rest of the world";
                distinct = Err(diagnostics.conflict(gateway, other, what, "the first", help));
            }
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

fn macvtap(section: &Section<'_>) -> Read<NicSource> {
    let device = section.parsed("interface", checks::device)?.value;
    Ok(NicSource::Macvtap { device })
}

fn bridge(section: &Section<'_>) -> Read<NicSource> {
    let bridge = section.parsed("bridge", checks::device);
    let help = "give the number of a VLAN, such as 42";
    let vlan = section.optional("vlan", |s, k| s.integer(k, help));
    Ok(NicSource::Bridge {
        bridge: bridge?.value,
        vlan: vlan?.map(Spanned::into_value),
        switch: Switch::Linux,
    })
}

fn interface_of(
    section: &Section<'_>,
    list: &InterfaceList,
    name: &Read<Spanned<Name>>,
    place: &str,
) -> InterfaceDraft {
    let source = (list.source)(section);
    let by_dhcp = list.takes_dhcp.then(|| section.boolean("dhcp"));
    let draft = match by_dhcp {
        Some(Ok(Spanned { value: true, .. })) => dynamic(section),
        Some(Err(refused)) => nothing(Err(refused)),
        Some(Ok(_)) | None => fixed(section),
    };
    let (mac, mac_derived) = mac(section, name, place);
    InterfaceDraft {
        mtu: mtu(section, &draft.ips),
        ips: draft.ips,
        mac,
        mac_derived,
        gateways: draft.gateways,
        source,
        addressing: draft.addressing,
    }
}

fn nothing(addressing: Read<Addressing>) -> StaticDraft {
    StaticDraft {
        ips: Vec::new(),
        gateways: Vec::new(),
        addressing,
    }
}

/// `dhcp = true`: what the DHCP server says is not said a second time.
fn dynamic(section: &Section<'_>) -> StaticDraft {
    let fixed = [
        "ip",
        "prefix_length",
        "addresses",
        "gateway",
        "routes",
        "dns_servers",
        "search",
    ];
    let mut addressing = Ok(Addressing::Dhcp);
    for given in fixed.iter().filter_map(|key| section.given(key)) {
        let what = "is given, and dhcp = true: the DHCP server says it";
        let help = "remove it, or dhcp";
        addressing = Err(section.diagnostics().refuse(&given, what, help));
    }
    nothing(addressing)
}

fn mtu(section: &Section<'_>, ips: &[Spanned<IpAddr>]) -> Read<Option<u16>> {
    let help = "give the largest packet of the network in bytes, such as 9000";
    let mtu = section.optional("mtu", |s, k| s.integer::<u16>(k, help))?;
    match mtu {
        Some(mtu) if mtu.value < SMALLEST_OF_IPV6 && ips.iter().any(|ip| ip.value.is_ipv6()) => {
            let what = format!(
                "is {}, and IPv6 needs {SMALLEST_OF_IPV6} or more",
                mtu.value
            );
            Err(section.diagnostics().refuse(&mtu, &what, help))
        }
        mtu => Ok(mtu.map(Spanned::into_value)),
    }
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
            "bridge_interfaces/0",
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
                "52:54:00:0f:6e:e2",
                "52:54:00:21:e8:f4"
            ]
        );
    }
}

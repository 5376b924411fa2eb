//! The addresses of a network interface that has them from the configuration, and the ways out of
//! its networks.

use std::net::IpAddr;

use super::checks;
use super::diagnostics::{Read, Refused, Spanned, all};
use super::model::{Addressing, Hop, Route, StaticAddressing};
use super::reader::Section;
use super::types::{DomainName, InterfaceAddress, InvalidValue, IpNetwork};

/// Each of one interface. Far more than anybody has.
const MOST: usize = 64;

/// What of an interface is held against the others, and all of it.
pub(super) struct StaticDraft {
    pub ips: Vec<Spanned<IpAddr>>,
    pub gateways: Vec<Spanned<IpAddr>>,
    pub addressing: Read<Addressing>,
}

pub(super) fn fixed(section: &Section<'_>) -> StaticDraft {
    let own = own(section);
    let further = section.texts("addresses", InterfaceAddress::parse);
    let gateway = section.texts("gateway", checks::router);
    let routes = routes(section);
    let dns_servers = section.texts("dns_servers", checks::server_address);
    let search = section.texts("search", DomainName::parse);

    let addresses = addresses(section, own, further);
    let known = addresses.as_deref().ok();
    let gateways = gateways(section, &gateway, known);
    let routes = routes.and_then(|routes| reachable(section, routes, known));
    let ips = known.into_iter().flatten();
    StaticDraft {
        ips: ips
            .map(|address| address.with(address.value.ip()))
            .collect(),
        gateways: gateway.unwrap_or_default(),
        addressing: addressing(addresses, gateways, routes, dns_servers, search),
    }
}

fn addressing(
    addresses: Read<Vec<Spanned<InterfaceAddress>>>,
    gateways: Read<Vec<Hop>>,
    routes: Read<Vec<Route>>,
    dns_servers: Read<Vec<Spanned<IpAddr>>>,
    search: Read<Vec<Spanned<DomainName>>>,
) -> Read<Addressing> {
    Ok(Addressing::Static(StaticAddressing {
        addresses: values(addresses?),
        gateways: gateways?,
        routes: routes?,
        dns_servers: values(dns_servers?),
        search: values(search?),
    }))
}

fn values<T>(given: Vec<Spanned<T>>) -> Vec<T> {
    given.into_iter().map(Spanned::into_value).collect()
}

/// `ip` with its `prefix_length`.
fn own(section: &Section<'_>) -> Read<Option<Spanned<InterfaceAddress>>> {
    let diagnostics = section.diagnostics();
    let help = "give the length of the network's prefix, such as 24";
    let prefix = section.optional("prefix_length", |s, k| s.integer::<u8>(k, help));
    let ip = section.optional("ip", |s, k| s.parsed(k, checks::host_address));
    match (ip?, prefix?) {
        (Some(ip), Some(prefix)) => {
            let address = |ip: &_| InterfaceAddress::new(IpAddr::V4(*ip), prefix.value);
            diagnostics.check(&ip, address).map(Some)
        }
        (Some(ip), None) => {
            let what = "is given, and the length of its network's prefix is not";
            Err(diagnostics.refuse(&ip, what, "add a line such as: prefix_length = 24"))
        }
        (None, Some(prefix)) => {
            let what = "is given, and no `ip` that it belongs to";
            Err(diagnostics.refuse(&prefix, what, "add ip, or remove it"))
        }
        (None, None) => Ok(None),
    }
}

fn addresses(
    section: &Section<'_>,
    own: Read<Option<Spanned<InterfaceAddress>>>,
    further: Read<Vec<Spanned<InterfaceAddress>>>,
) -> Read<Vec<Spanned<InterfaceAddress>>> {
    let diagnostics = section.diagnostics();
    let mut addresses: Vec<Spanned<InterfaceAddress>> = own?.into_iter().collect();
    addresses.extend(further?);
    match addresses.first() {
        None => {
            let what = "has no address: neither `ip` nor `addresses` is given";
            let help = "add ip and prefix_length, or addresses = [\"192.0.2.5/24\"]";
            Err(diagnostics.refuse(&section.here(), what, help))
        }
        Some(first) => within(section, first, addresses.len(), "addresses").map(|()| addresses),
    }
}

fn within<T>(section: &Section<'_>, first: &Spanned<T>, count: usize, what: &str) -> Read<()> {
    if count <= MOST {
        return Ok(());
    }
    let what = format!("is the first of {count} {what}");
    let help = format!("give one network interface at most {MOST}");
    Err(section.diagnostics().refuse(first, &what, help))
}

/// One of each kind of address.
fn gateways(
    section: &Section<'_>,
    routers: &Read<Vec<Spanned<IpAddr>>>,
    addresses: Option<&[Spanned<InterfaceAddress>]>,
) -> Read<Vec<Hop>> {
    let diagnostics = section.diagnostics();
    let routers = routers.as_ref().map_err(|refused| *refused)?;
    let hops = routers.iter().enumerate().map(|(place, router)| {
        let alike = |other: &&Spanned<IpAddr>| other.value.is_ipv4() == router.value.is_ipv4();
        if let Some(other) = routers.iter().take(place).find(alike) {
            let what = "is a second default gateway for the same kind of address";
            let help = "give one for IPv4 and one for IPv6 at most";
            return Err(diagnostics.conflict(router, other, what, "the first", help));
        }
        let hop = diagnostics.check(router, |router| hop(*router, addresses.unwrap_or_default()));
        // Of addresses that are wrong themselves nothing follows.
        if addresses.is_none() {
            return Err(Refused::BY_SCHEMA);
        }
        hop.map(Spanned::into_value)
    });
    match addresses {
        None => Err(Refused::BY_SCHEMA),
        Some(_) => all(hops),
    }
}

/// How a router is reached from an interface with these addresses.
fn hop(via: IpAddr, addresses: &[Spanned<InterfaceAddress>]) -> Result<Hop, InvalidValue> {
    let alike: Vec<InterfaceAddress> = addresses
        .iter()
        .map(|address| address.value)
        .filter(|address| address.ip().is_ipv4() == via.is_ipv4())
        .collect();
    let kind = if via.is_ipv4() { "IPv4" } else { "IPv6" };
    if alike.is_empty() {
        let what = format!("is {via}, and this network interface has no {kind} address");
        return Err(InvalidValue::new(what, "add one to addresses"));
    }
    if alike.iter().any(|address| address.ip() == via) {
        let what = format!("is {via}, the VM's own address");
        let help = "give the address of the network's router";
        return Err(InvalidValue::new(what, help));
    }
    if let Some(own) = alike.iter().find(|own| own.network().contains(via)) {
        let hop = Hop {
            via,
            on_link: false,
        };
        // A router may have the first address of an IPv6 network.
        return if via.is_ipv4() {
            own.neighbour(via).map(|_| hop)
        } else {
            Ok(hop)
        };
    }
    let link_local = matches!(via, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if link_local || alike.iter().any(InterfaceAddress::is_alone) {
        let on_link = !link_local;
        return Ok(Hop { via, on_link });
    }
    let networks: Vec<String> = alike.iter().map(|a| a.network().to_string()).collect();
    let what = format!(
        "is {via}, which is outside {}, the network of this interface",
        networks.join(" and ")
    );
    let alone = if via.is_ipv4() { 32 } else { 128 };
    let help = format!(
        "correct it, or the address and its prefix; a router outside is reached from an address with prefix {alone}"
    );
    Err(InvalidValue::new(what, help))
}

type GivenRoute = (Spanned<IpNetwork>, Spanned<IpAddr>);

fn routes(section: &Section<'_>) -> Read<Vec<GivenRoute>> {
    let sections = section.sections("routes");
    if let Some(first) = sections.first() {
        within(section, &first.here(), sections.len(), "routes")?;
    }
    all(sections.iter().map(|route| {
        let to = route.parsed("to", IpNetwork::parse);
        let to = to.and_then(|to| {
            if to.value.is_everything() {
                let what = format!("is {}, which is the default route", to.value);
                let help = "write the router as `gateway`";
                return Err(route.diagnostics().refuse(&to, &what, help));
            }
            Ok(to)
        });
        let via = route.parsed("via", checks::router);
        Ok((to?, via?))
    }))
}

fn reachable(
    section: &Section<'_>,
    routes: Vec<GivenRoute>,
    addresses: Option<&[Spanned<InterfaceAddress>]>,
) -> Read<Vec<Route>> {
    let diagnostics = section.diagnostics();
    let Some(addresses) = addresses else {
        return Err(Refused::BY_SCHEMA);
    };
    let mut seen: Vec<Spanned<IpNetwork>> = Vec::new();
    let mut routes = routes.into_iter();
    all(std::iter::from_fn(|| {
        let (to, via) = routes.next()?;
        let route = if to.value.is_ipv4() != via.value.is_ipv4() {
            let what = format!(
                "is {}, and a way to {} is another kind of address",
                via.value, to.value
            );
            Err(diagnostics.refuse(&via, &what, "give the router's address of the same kind"))
        } else if let Some(other) = seen.iter().find(|other| other.value == to.value) {
            let what = format!("is {}, to which there is a way already", to.value);
            Err(diagnostics.conflict(&to, other, &what, "the first", "keep one of the two"))
        } else {
            let hop = diagnostics.check(&via, |via| hop(*via, addresses));
            let to = to.value;
            hop.map(|hop| Route { to, hop: hop.value })
        };
        seen.push(to);
        Some(route)
    }))
}

//! What clients may do: on which address and port, who, how many, and how long they wait for the
//! primary.

use std::net::{IpAddr, Ipv6Addr};

use super::checks;
use super::diagnostics::{Read, Refused, Spanned};
use super::haproxy::Machine;
use super::model::Interface;
use super::reader::Section;
use super::types::{HaproxyTime, HaproxyVersion, IpNetwork, MemoryMib, Port};

/// So much longer than the hold a client must be allowed to be silent.
const BEYOND_HOLD_MILLIS: u64 = 5000;
/// A hold that is shorter ends before HAProxy is certain of a new primary.
const SHORTEST_HOLD_MILLIS: u64 = 1000;
/// Two buffers of 16 KiB, the stream, and both sockets in the kernel: what a session costs, in KiB.
const SESSION_KIB: u64 = 64;

/// The keys of `[haproxy]` that are about them.
pub(super) struct Clients {
    pub port: Port,
    pub address: IpAddr,
    pub allow: Vec<IpNetwork>,
    pub max_connections: u32,
    pub max_connections_per_client: Option<u32>,
    pub hold: HaproxyTime,
    pub primary_connections: Option<u32>,
}

/// What could not be read of the rest is `None`.
pub(super) fn clients(
    section: &Section<'_>,
    machine: &Machine<'_>,
    version: Option<HaproxyVersion>,
    idle: Option<&Spanned<HaproxyTime>>,
) -> Read<Clients> {
    let port = section.port("port");
    let address = address(section, machine.interfaces);
    let allow = networks(section, "allow", address.ok());
    let most = max_connections(section, machine.memory);
    let help = "give the most connections of one client, such as 100";
    let per_client = below(section, "max_connections_per_client", most.as_ref(), help);
    let help = "give some less than PostgreSQL's own max_connections, such as 80";
    let primary = below(section, "primary_connections", most.as_ref(), help);
    let hold = hold(section, version, idle);
    if let (Ok(hold), Ok(Some(primary))) = (&hold, &primary) {
        room_needs_hold(section, hold, primary)?;
    }
    Ok(Clients {
        port: port?.value,
        address: address?,
        allow: allow?,
        max_connections: most?.value,
        max_connections_per_client: per_client?.map(Spanned::into_value),
        hold: hold?.value,
        primary_connections: primary?.map(Spanned::into_value),
    })
}

fn max_connections(section: &Section<'_>, memory: Option<MemoryMib>) -> Read<Spanned<u32>> {
    let help = "give the most sessions at one time, such as 2000";
    let most: Spanned<u32> = section.integer("max_connections", help)?;
    let services = section.sections("services").len();
    let ports = 1 + usize::from(section.gives("replicas_port")) + services;
    let all = u64::from(most.value) * ports as u64;
    let needed = all * SESSION_KIB / 1024;
    if let Some(memory) = memory.filter(|memory| needed > memory.get() / 2) {
        let what = format!(
            "allows {all} connections, which may need {needed} MiB, more than half of the VM's {memory} MiB"
        );
        let help = "raise memory, or lower max_connections";
        section.diagnostics().warn(&most, &what, help);
    }
    Ok(most)
}

/// A limit of a part, held against that of all.
fn below(
    section: &Section<'_>,
    name: &str,
    most: Result<&Spanned<u32>, &Refused>,
    help: &str,
) -> Read<Option<Spanned<u32>>> {
    let Some(given) = section.optional(name, |s, k| s.integer::<u32>(k, help))? else {
        return Ok(None);
    };
    match most {
        Ok(most) if given.value > most.value => {
            let what = format!(
                "is {}, a larger number than the {} of all clients together",
                given.value, most.value
            );
            let help = "lower it, or raise max_connections";
            let label = "of all together";
            Err(section
                .diagnostics()
                .conflict(&given, most, &what, label, help))
        }
        _ => Ok(Some(given)),
    }
}

/// Not shorter than it takes to be certain, and shorter than the silence that ends a connection.
/// One that is not given is left out where it does not fit: lbctl 0.1 had none.
fn hold(
    section: &Section<'_>,
    version: Option<HaproxyVersion>,
    idle: Option<&Spanned<HaproxyTime>>,
) -> Read<Spanned<HaproxyTime>> {
    let diagnostics = section.diagnostics();
    let hold = section.time("hold")?;
    let millis = hold.value.millis();
    if millis == 0 {
        return Ok(hold);
    }
    if millis < SHORTEST_HOLD_MILLIS {
        let what = format!("is {}, too short to find a new primary in", hold.value);
        let help = "give one second or more, or \"0s\" to let nobody wait";
        return Err(diagnostics.refuse(&hold, &what, help));
    }
    let short = idle.filter(|idle| idle.value.millis() <= millis + BEYOND_HOLD_MILLIS);
    if let Some(idle) = short {
        let help = "make idle longer than hold by more than 5 s, or give hold = \"0s\"";
        if section.gives("hold") {
            let what = format!(
                "is {}, and timeouts.idle, which ends a connection in which nothing moves, is {}",
                hold.value, idle.value
            );
            let label = "ends those that wait";
            return Err(diagnostics.conflict(&hold, idle, &what, label, help));
        }
        let what = format!(
            "is {}, too short to let new connections wait for a primary: haproxy.hold is {} by default",
            idle.value, hold.value
        );
        diagnostics.warn(idle, &what, help);
        return Ok(hold.with(HaproxyTime::zero()));
    }
    if version.is_some_and(|version| version < HaproxyVersion::WITH_HOLD) && section.gives("hold") {
        let what = format!(
            "is not used: HAProxy has what it needs from {} on",
            HaproxyVersion::WITH_HOLD
        );
        diagnostics.warn(&hold, &what, "give a newer version");
    }
    Ok(hold)
}

/// Who finds no room waits for it.
fn room_needs_hold(
    section: &Section<'_>,
    hold: &Spanned<HaproxyTime>,
    primary: &Spanned<u32>,
) -> Read<()> {
    if hold.value.millis() > 0 {
        return Ok(());
    }
    let what = "is given, but no connection may wait for its turn";
    let help = "remove it, or give hold = \"10s\"";
    let label = "nobody waits";
    Err(section
        .diagnostics()
        .conflict(primary, hold, what, label, help))
}

/// An address of the VM: with another one HAProxy would not start.
fn address(section: &Section<'_>, interfaces: Option<&[Interface]>) -> Read<IpAddr> {
    let address = section.parsed("address", checks::own_address)?;
    of_the_vm(section, &address, interfaces)?;
    Ok(address.value)
}

/// Whether the VM has it. What a DHCP server gives it is not known, nor what it makes itself of a
/// router's advertisement.
pub(super) fn of_the_vm(
    section: &Section<'_>,
    address: &Spanned<IpAddr>,
    interfaces: Option<&[Interface]>,
) -> Read<()> {
    let (ip, Some(interfaces)) = (address.value, interfaces) else {
        return Ok(());
    };
    let own: Vec<IpAddr> = interfaces.iter().flat_map(Interface::ips).collect();
    let unknown = interfaces.iter().any(|i| i.ip().is_none())
        || (ip.is_ipv6() && !own.iter().any(IpAddr::is_ipv6));
    if ip.is_unspecified() || ip.is_loopback() || unknown || own.contains(&ip) {
        return Ok(());
    }
    let own: Vec<String> = own.iter().map(IpAddr::to_string).collect();
    let what = format!("is {ip}, which the VM does not have: HAProxy would not start");
    let help = format!(
        "give one of the VM's own ({}), or {} for all of them",
        own.join(", "),
        if ip.is_ipv4() { "0.0.0.0" } else { "::" }
    );
    Err(section.diagnostics().refuse(address, &what, help))
}

/// Who may connect. Empty: everybody.
pub(super) fn networks(
    section: &Section<'_>,
    name: &str,
    listening: Option<IpAddr>,
) -> Read<Vec<IpNetwork>> {
    let diagnostics = section.diagnostics();
    let given = section.texts(name, IpNetwork::parse)?;
    let Some(first) = given.first() else {
        return Ok(Vec::new());
    };
    let most = section.most(name);
    if given.len() > most {
        let what = format!("is the first of {} networks", given.len());
        let help = format!("give at most {most}: each connection is compared with all");
        return Err(diagnostics.refuse(first, &what, help));
    }
    let listening = listening.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    if !given.iter().any(|n| n.value.has_clients_of(listening)) {
        let what = if listening.is_ipv4() {
            "leaves nobody who could connect: clients come by IPv4, and from other machines"
        } else {
            "leaves nobody who could connect: clients come to haproxy.address, and from other machines"
        };
        let help = "add their network, or remove the list to let everybody in";
        return Err(diagnostics.refuse(first, what, help));
    }
    Ok(given.into_iter().map(Spanned::into_value).collect())
}

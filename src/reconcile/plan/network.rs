//! Networks and DHCP reservations: whether an address can be reserved, and the steps to reserve it.

use std::net::Ipv4Addr;

use time::OffsetDateTime;

use super::{
    Change, Class, Condition, Objection, ObjectionSubject, RefusalKind, Step, Subject, Value,
};
use crate::config::{Addressing, HostLink, NetworkRef};
use crate::exit::MessageId;
use crate::host::ownership::{Ownership, ReservationRecord};
use crate::host::{HostEntry, Lease, NetworkFacts, NetworkId};
use crate::reconcile::desired::{Desired, DesiredReservation};
use crate::reconcile::observe::Observed;

/// What the networks need.
#[derive(Debug, Default)]
pub(super) struct NetworkPart {
    pub changes: Vec<Change>,
    /// To come first: an entry of ours that conflicts is replaced.
    pub reserve: Vec<Step>,
    /// To come last: entries of ours that are not wanted any more.
    pub release: Vec<Step>,
    /// For the ownership record: wanted, and still to be released.
    pub records: Vec<ReservationRecord>,
}

pub(super) fn plan(
    desired: &Desired,
    observed: &Observed,
    creating: bool,
) -> Result<NetworkPart, Vec<Objection>> {
    let mut objections = fitness(desired, observed);
    objections.extend(mac_conflicts(desired, observed));
    let mut part = NetworkPart::default();
    let mut kept: Vec<(String, HostEntry)> = Vec::new();
    for wanted in &desired.reservations {
        let Some(facts) = observed.network(&wanted.network) else {
            continue;
        }; // reported by `fitness`
        if let Err(objection) = reserve(wanted, facts, observed, creating, &mut part) {
            objections.push(objection);
        }
        kept.push((facts.id.uuid.clone(), wanted.entry.clone()));
        part.records.push(ReservationRecord {
            network: facts.id.uuid.clone(),
            entry: wanted.entry.clone(),
        });
    }
    for (id, entry, facts) in our_entries(&desired.domain.name, &macs(desired), observed) {
        let wanted = kept
            .iter()
            .any(|(uuid, kept)| *uuid == id.uuid && *kept == entry);
        let replaced = part.reserve.iter().any(|s| matches!(s, Step::Release { network, entry: e, .. } if *network == id && *e == entry));
        if !wanted && !replaced {
            part.records.push(ReservationRecord {
                network: id.uuid.clone(),
                entry: entry.clone(),
            });
            part.changes.push(Change::new(
                Subject::Reservation,
                Value::Entry(entry.clone()),
                Condition::Released,
                Class::Live,
            ));
            part.release.push(Step::Release {
                scope: facts.holding(&entry),
                network: id,
                entry,
            });
        }
    }
    if objections.is_empty() {
        Ok(part)
    } else {
        Err(objections)
    }
}

fn reserve(
    wanted: &DesiredReservation,
    facts: &NetworkFacts,
    observed: &Observed,
    creating: bool,
    part: &mut NetworkPart,
) -> Result<(), Objection> {
    let entry = &wanted.entry;
    let lacking = facts.lacking(entry);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut from = Value::Nothing;
    for other in facts
        .all_reservations()
        .into_iter()
        .filter(|other| clashes(other, entry))
    {
        if !is_ours(
            other,
            entry.name.as_deref(),
            &[entry.mac],
            &facts.id,
            observed,
        ) {
            return Err(taken(entry, other, &facts.id));
        }
        from = Value::Entry(other.clone());
        part.reserve.push(Step::Release {
            network: facts.id.clone(),
            entry: other.clone(),
            scope: facts.holding(other),
        });
    }
    check_leases(entry, &wanted.network, &facts.id, observed)?;
    let class = if creating { Class::Create } else { Class::Live };
    let to = Value::Reserved {
        entry: entry.clone(),
        network: facts.id.clone(),
    };
    part.changes
        .push(Change::new(Subject::Reservation, from, to, class));
    part.reserve.push(Step::Reserve {
        network: facts.id.clone(),
        entry: entry.clone(),
        scope: lacking,
    });
    Ok(())
}

/// Whether libvirt would call both the same host: one of mac, ip and name is equal, and they are
/// not one entry.
fn clashes(other: &HostEntry, entry: &HostEntry) -> bool {
    other != entry
        && (other.ip == entry.ip
            || (other.mac.is_some() && other.mac == entry.mac)
            || (other.name.is_some() && other.name == entry.name))
}

fn taken(entry: &HostEntry, other: &HostEntry, network: &NetworkId) -> Objection {
    let owner = other
        .name
        .clone()
        .or_else(|| other.mac.map(|m| m.to_string()))
        .unwrap_or_else(|| "another machine".into());
    let address = ObjectionSubject::Address(entry.ip);
    let (id, about, what) = match entry.mac {
        _ if other.ip == entry.ip => (
            MessageId::AddressReserved,
            address,
            format!("address {}", entry.ip),
        ),
        Some(mac) if other.mac == entry.mac => (
            MessageId::MacReserved,
            ObjectionSubject::Mac(mac),
            format!("MAC address {mac}"),
        ),
        _ => (
            MessageId::HostNameReserved,
            address,
            format!("host name {owner}"),
        ),
    };
    Objection::new(
        id,
        RefusalKind::NotOurs,
        about,
        format!("{what} is reserved in network {network} for {owner}: {other}"),
        format!(
            "choose another one, or remove that entry if it is a leftover: `virsh net-update {network} delete ip-dhcp-host …`"
        ),
    )
}

fn check_leases(
    entry: &HostEntry,
    which: &NetworkRef,
    id: &NetworkId,
    observed: &Observed,
) -> Result<(), Objection> {
    let network = observed.networks.get(which);
    let leases = network.map(|n| n.leases.as_slice()).unwrap_or_default();
    let theirs = |lease: &&Lease| lease.ip == entry.ip && Some(lease.mac) != entry.mac;
    let Some(Lease {
        mac,
        ip,
        hostname,
        expires,
    }) = leases.iter().find(theirs)
    else {
        return Ok(());
    };
    let name = hostname.as_deref().unwrap_or("no host name");
    let until = OffsetDateTime::from_unix_timestamp(*expires).map_or_else(
        |_| "without an end".to_owned(),
        |at| {
            format!(
                "until {} {:02}:{:02} UTC",
                at.date(),
                at.hour(),
                at.minute()
            )
        },
    );
    // dnsmasq gives a leased address to nobody else, whatever is reserved: the guest would come up
    // with another one.
    Err(Objection::new(
        MessageId::AddressLeased,
        RefusalKind::NotOurs,
        ObjectionSubject::Address(*ip),
        format!("address {ip} is in use in network {id}: leased to {mac} ({name}) {until}"),
        "choose another `ip`; or stop that machine and wait for the end of its lease; or, if that machine was this VM \
         under another name, set `mac` to its MAC address",
    ))
}

/// An entry is ours if the ownership record lists it, or if MAC and host name are both this VM's
/// and no other domain has that MAC: so it is found again after a crash that came before the domain
/// was defined.
fn is_ours(
    other: &HostEntry,
    name: Option<&str>,
    macs: &[Option<crate::config::MacAddr>],
    network: &NetworkId,
    observed: &Observed,
) -> bool {
    let in_a_record = records(observed).any(|m| {
        m.reservations
            .iter()
            .any(|r| r.network == network.uuid && r.entry == *other)
    });
    let by_identity =
        other.mac.is_some() && macs.contains(&other.mac) && other.name.as_deref() == name;
    in_a_record || by_identity
}

fn records(observed: &Observed) -> impl Iterator<Item = &Ownership> {
    let domain = observed.domain.iter();
    domain
        .flat_map(|d| [Some(&d.config), d.live.as_ref()])
        .flatten()
        .filter_map(|d| d.ownership.as_ref())
}

/// Every entry of ours in every network that was observed.
pub(super) fn our_entries<'o>(
    name: &str,
    macs: &[Option<crate::config::MacAddr>],
    observed: &'o Observed,
) -> Vec<(NetworkId, HostEntry, &'o NetworkFacts)> {
    let facts = observed.networks.values().filter_map(|n| n.facts.as_ref());
    let mut found: Vec<(NetworkId, HostEntry, &NetworkFacts)> = Vec::new();
    for network in facts {
        for entry in network.all_reservations() {
            let known = found
                .iter()
                .any(|(id, e, _)| *id == network.id && e == entry);
            if !known && is_ours(entry, Some(name), macs, &network.id, observed) {
                found.push((network.id.clone(), entry.clone(), network));
            }
        }
    }
    found
}

fn macs(desired: &Desired) -> Vec<Option<crate::config::MacAddr>> {
    desired.interfaces.iter().map(|i| Some(i.mac)).collect()
}

/// Networks and devices that are missing, not active, or of another subnet.
fn fitness(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let mut objections: Vec<Objection> = Vec::new();
    for interface in &desired.interfaces {
        let (link, key) = (interface.source.host_link(), interface.source.key());
        let unfit = |id: MessageId, message: String, hint: String| {
            let about = ObjectionSubject::Link(link.name().to_owned());
            let kind = RefusalKind::Unfit;
            Some(Objection::new(id, kind, about, message, hint))
        };
        let objection = match link {
            HostLink::Device(device) if observed.devices.get(device) == Some(&Some(false)) => {
                unfit(
                    MessageId::DeviceMissing,
                    format!("the host has no network device {device}"),
                    format!("`ip link` on the host lists them; set {key} to one of them"),
                )
            }
            HostLink::Device(_) => None,
            HostLink::Network(which) => match observed.network(which) {
                None => unfit(
                    MessageId::NetworkMissing,
                    format!("the host has no network {which}"),
                    format!("`virsh net-list --all` lists them; set {key} to one of them"),
                ),
                Some(facts) if !facts.active => unfit(
                    MessageId::NetworkInactive,
                    format!("network {} is not active", facts.id),
                    format!(
                        "start it: `virsh net-start {0}` (and `virsh net-autostart {0}`)",
                        facts.id
                    ),
                ),
                Some(facts) if interface.addressing == Addressing::DhcpReservation => {
                    subnet_objection(interface.ip, facts)
                }
                Some(_) => None,
            },
        };
        objections.extend(objection.filter(|o| !objections.contains(o)));
    }
    objections
}

fn subnet_objection(ip: Ipv4Addr, facts: &NetworkFacts) -> Option<Objection> {
    let id = &facts.id;
    let unfit = |id: MessageId, message: String, hint: &str| {
        let about = ObjectionSubject::Address(ip);
        let kind = RefusalKind::Unfit;
        Some(Objection::new(id, kind, about, message, hint))
    };
    let served = facts
        .subnets
        .iter()
        .find(|s| in_subnet(ip, s.address, s.prefix_length));
    match served {
        None if facts.subnets.is_empty() => unfit(
            MessageId::NetworkWithoutAddresses,
            format!("network {id} has no addresses of its own, so {ip} cannot be reserved in it"),
            "configure the address statically: use [[libvirt_networks]] with prefix_length and gateway",
        ),
        None => {
            let subnets: Vec<String> = facts
                .subnets
                .iter()
                .map(|s| format!("{}/{}", s.address, s.prefix_length))
                .collect();
            unfit(
                MessageId::AddressOutsideNetwork,
                format!(
                    "address {ip} is outside of network {id} ({})",
                    subnets.join(", ")
                ),
                "set `ip` of libvirt_network to a free address of that subnet",
            )
        }
        Some(subnet) if subnet.address == ip => unfit(
            MessageId::AddressOfHost,
            format!("address {ip} belongs to the host in network {id}"),
            "set `ip` of libvirt_network to a free address of that subnet",
        ),
        Some(subnet) if !subnet.dhcp => unfit(
            MessageId::NetworkWithoutDhcp,
            format!("network {id} serves no DHCP, so {ip} cannot be reserved in it"),
            "configure the address statically: use [[libvirt_networks]] with prefix_length and gateway",
        ),
        Some(_) => None,
    }
}

fn in_subnet(ip: Ipv4Addr, network: Ipv4Addr, prefix_length: u8) -> bool {
    let shift = 32 - u32::from(prefix_length.min(32));
    let cut = |a: Ipv4Addr| u32::from(a).checked_shr(shift).unwrap_or(0);
    cut(ip) == cut(network)
}

fn mac_conflicts(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let owner = |mac| observed.claims.iter().find(|c| c.macs.contains(mac));
    let taken = desired
        .interfaces
        .iter()
        .filter_map(|i| owner(&i.mac).map(|claims| (i, claims)));
    taken
        .map(|(interface, claims)| {
            Objection::new(
                MessageId::MacClaimed,
                RefusalKind::NotOurs,
                ObjectionSubject::Mac(interface.mac),
                format!(
                    "MAC address {} belongs to domain {}",
                    interface.mac, claims.domain
                ),
                "give another `mac`, or leave it out and let lbctl derive one",
            )
        })
        .collect()
}

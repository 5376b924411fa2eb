//! Networks and DHCP reservations: whether an address can be reserved, and the steps to reserve it.

use time::OffsetDateTime;

use super::{
    Change, Class, Condition, Objection, ObjectionSubject, RefusalKind, Step, Subject, Value,
    fitness, made, shared,
};
use crate::config::MacAddr;
use crate::exit::MessageId;
use crate::host::ownership::ReservationRecord;
use crate::host::{HostEntry, Lease, NetworkFacts, NetworkId, Scope};
use crate::reconcile::desired::{Desired, DesiredReservation};
use crate::reconcile::observe::{Observed, ObservedNetwork};

/// What the networks need.
#[derive(Debug, Default)]
pub(super) struct NetworkPart {
    pub changes: Vec<Change>,
    /// An entry of ours that conflicts is replaced.
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
    let mut objections = fitness::links(desired, observed);
    objections.extend(mac_conflicts(desired, observed));
    objections.extend(shared::objection(desired, observed));
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
            made: is_made(&wanted.entry, facts, observed),
        });
    }
    for (id, entry, facts) in our_entries(observed) {
        let wanted = kept
            .iter()
            .any(|(uuid, kept)| *uuid == id.uuid && *kept == entry);
        let replaced = part.reserve.iter().any(|s| matches!(s, Step::Release { network, entry: e, .. } if *network == id && *e == entry));
        if wanted {
            continue;
        }
        // One that stands for the wanted one needs no record of its own to be known as lbctl's.
        let known = |r: &ReservationRecord| {
            r.made && r.network == id.uuid && made::same_interface(&r.entry, &entry)
        };
        if !(replaced && part.records.iter().any(known)) {
            part.records.push(ReservationRecord {
                network: id.uuid.clone(),
                entry: entry.clone(),
                made: true,
            });
        }
        if !replaced {
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
    let class = if creating { Class::Create } else { Class::Live };
    let lacking = facts.lacking(entry);
    if lacking.is_empty() {
        if !is_made(entry, facts, observed) && !is_known(entry, facts, observed) {
            let to = Value::ReservedAlready {
                entry: entry.clone(),
                network: facts.id.clone(),
            };
            let reservation = Change::new(Subject::Reservation, Value::Nothing, to, class);
            part.changes.push(reservation);
        }
        return Ok(());
    }
    let mut from = Value::Nothing;
    for other in facts
        .all_reservations()
        .into_iter()
        .filter(|other| clashes(other, entry))
    {
        if !made::entry(observed, facts, other) {
            return Err(taken(entry, other, facts));
        }
        from = Value::Entry(other.clone());
        part.reserve.push(Step::Release {
            network: facts.id.clone(),
            entry: other.clone(),
            scope: facts.holding(other),
        });
    }
    check_leases(entry, &facts.id, observed)?;
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

pub(super) fn taken(entry: &HostEntry, other: &HostEntry, facts: &NetworkFacts) -> Objection {
    let network = &facts.id;
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
            "choose another one, or remove that entry if it is a leftover: {}",
            removal(facts, other)
        ),
    )
}

pub(super) fn check_leases(
    entry: &HostEntry,
    id: &NetworkId,
    observed: &Observed,
) -> Result<(), Objection> {
    let of_it = |n: &&ObservedNetwork| n.facts.as_ref().is_some_and(|facts| facts.id == *id);
    let mut leases = observed
        .networks
        .values()
        .filter(of_it)
        .flat_map(|n| &n.leases);
    let theirs = |lease: &&Lease| lease.ip == entry.ip && Some(lease.mac) != entry.mac;
    let Some(Lease {
        mac,
        ip,
        hostname,
        expires,
    }) = leases.find(theirs)
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

/// The command that removes an entry, from where it is: libvirt refuses to remove one from where
/// it is not.
pub(super) fn removal(network: &NetworkFacts, entry: &HostEntry) -> String {
    let mac = entry
        .mac
        .map(|mac| format!(" mac='{mac}'"))
        .unwrap_or_default();
    let Scope { config, live } = network.holding(entry);
    format!(
        "`virsh net-update {} delete ip-dhcp-host \"<host{mac} ip='{}'/>\"{}{}`",
        network.id,
        entry.ip,
        if live { " --live" } else { "" },
        if config { " --config" } else { "" }
    )
}

/// Whether the entry is lbctl's, or will be: what is nowhere is made by this plan.
fn is_made(entry: &HostEntry, facts: &NetworkFacts, observed: &Observed) -> bool {
    facts.holding(entry).is_empty() || made::entry(observed, facts, entry)
}

/// Whether the domain's record already says that the entry is somebody's.
fn is_known(entry: &HostEntry, facts: &NetworkFacts, observed: &Observed) -> bool {
    let domain = observed.domain.as_ref();
    let record = domain.and_then(|d| d.config.ownership.as_ref());
    let mut reservations = record.into_iter().flat_map(|record| &record.reservations);
    reservations.any(|r| !r.made && r.network == facts.id.uuid && r.entry == *entry)
}

/// Every entry of ours in every network that was observed.
pub(super) fn our_entries(observed: &Observed) -> Vec<(NetworkId, HostEntry, &NetworkFacts)> {
    entries(observed)
        .filter(|(network, entry)| made::entry(observed, network, entry))
        .map(|(network, entry)| (network.id.clone(), entry.clone(), network))
        .collect()
}

/// Entries with a MAC address of the VM that are somebody else's.
pub(super) fn others_entries<'o>(
    macs: &[MacAddr],
    observed: &'o Observed,
) -> impl Iterator<Item = (&'o NetworkFacts, &'o HostEntry)> {
    entries(observed).filter(|(network, entry)| {
        let of_vm = entry.mac.is_some_and(|mac| macs.contains(&mac));
        of_vm && !made::entry(observed, network, entry)
    })
}

/// A network may be asked for by its name and by its uuid: each once.
fn entries(observed: &Observed) -> impl Iterator<Item = (&NetworkFacts, &HostEntry)> {
    let mut seen = Vec::new();
    let networks = observed.networks.values().filter_map(|n| n.facts.as_ref());
    let once: Vec<_> = networks
        .filter(|facts| {
            let new = !seen.contains(&&facts.id.uuid);
            seen.push(&facts.id.uuid);
            new
        })
        .collect();
    once.into_iter().flat_map(|facts| {
        facts
            .all_reservations()
            .into_iter()
            .map(move |entry| (facts, entry))
    })
}

fn mac_conflicts(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let bridges = desired.interfaces.iter().filter_map(|interface| {
        let facts = observed.network_of(&interface.source)?;
        (facts.mac == Some(interface.mac)).then(|| {
            Objection::new(
                MessageId::MacOfNetwork,
                RefusalKind::Unfit,
                ObjectionSubject::Mac(interface.mac),
                format!(
                    "MAC address {} is that of the bridge of network {}",
                    interface.mac, facts.id
                ),
                "give another `mac`, or leave it out and let lbctl derive one",
            )
        })
    });
    let owner = |mac| observed.claims.iter().find(|c| c.macs.contains(mac));
    let taken = desired
        .interfaces
        .iter()
        .filter_map(|i| owner(&i.mac).map(|claims| (i, claims)));
    let claimed = taken.map(|(interface, claims)| {
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
    });
    bridges.chain(claimed).collect()
}

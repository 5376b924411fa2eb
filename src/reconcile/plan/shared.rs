//! The address that the VM shares with others: whether the libvirt network leaves it to them, and
//! how it goes to another one before the guest is stopped.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::network::taken;
use super::{Objection, ObjectionSubject, RefusalKind, Remark, Step, subnets};
use crate::config::VirtualIp;
use crate::exit::MessageId;
use crate::guest::AgentAvailability;
use crate::host::ownership::changing_to;
use crate::host::{DomainFacts, DomainState, HostEntry, NetworkFacts};
use crate::reconcile::desired::{Desired, current_seed};
use crate::reconcile::observe::Observed;
use crate::render::SharedAddress;

/// For a guest that shares an address, of which the configuration says nothing any more: the
/// default of `virtual_ip.drain`.
const DRAIN: Duration = Duration::from_secs(600);

/// What the seed in use says.
fn shared_so_far(observed: &Observed) -> Option<&SharedAddress> {
    current_seed(observed)?.guest.as_ref()?.virtual_ip.as_ref()
}

/// Whether the running guest may have a shared address: one was written for it, or it is being
/// changed.
#[must_use]
pub fn may_share(observed: &Observed) -> bool {
    let live = observed.domain.as_ref().and_then(|d| d.live.as_ref());
    let record = live.and_then(|live| live.ownership.as_ref());
    let changing =
        record.is_some_and(|record| record.seed.parts.guest.starts_with(&changing_to("")));
    changing || shared_so_far(observed).is_some()
}

/// Whether a restart of the guest cuts nobody who came by the shared address: another VM is ready
/// for it, sessions may stay until they end, and it is still the same address.
pub(super) fn passes(desired: &Desired, observed: &Observed) -> bool {
    let drains = |shared: &VirtualIp| shared.drain.millis() > 0;
    observed.spare
        && !desired.alone
        && desired.virtual_ip.as_ref().is_some_and(drains)
        && shared_so_far(observed) == desired.seed.guest.virtual_ip.as_ref()
}

/// Whether the guest would refuse to step back, as far as is known: it shares an address, or does
/// not say, and no other VM would take that.
pub(super) fn nobody_takes_it(observed: &Observed) -> bool {
    let silent = matches!(observed.availability, AgentAvailability::Out(_));
    !observed.spare && (silent || shared_so_far(observed).is_some())
}

/// What comes before a restart.
pub(super) fn step_back(
    desired: &Desired,
    observed: &Observed,
    domain: &DomainFacts,
) -> Option<Step> {
    let step = before_stop(desired.virtual_ip.as_ref(), observed, domain);
    step.filter(|_| !desired.alone)
}

/// What comes before the guest is stopped. One that does not run has nothing to give away, and one
/// that stands still is taken for dead by the others. `wanted`: what the configuration says.
#[must_use]
pub fn before_stop(
    wanted: Option<&VirtualIp>,
    observed: &Observed,
    domain: &DomainFacts,
) -> Option<Step> {
    let shares = wanted.is_some() || shared_so_far(observed).is_some();
    let runs = domain.live.is_some() && domain.state == DomainState::Running;
    (shares && runs).then(|| Step::StepBack {
        domain: domain.name.clone(),
        drain: wanted.map_or(DRAIN, |shared| Duration::from_millis(shared.drain.millis())),
    })
}

/// Of the libvirt network that carries it, by its name or by its bridge; of what is behind another
/// bridge or a device nothing is known here.
pub(super) fn objection(desired: &Desired, observed: &Observed) -> Option<Objection> {
    let shared = desired.virtual_ip.as_ref()?;
    let interface = desired.interfaces.get(shared.interface)?;
    let facts = observed.network_of(&interface.source)?;
    let apart = apart(shared, facts);
    apart
        .or_else(|| unfit(shared.address, facts))
        .or_else(|| reserved(shared.address, facts))
}

/// A bridge that libvirt makes for a network is a segment of that host alone: VMs on two of them
/// hear nothing of each other, and each takes the address.
fn apart(shared: &VirtualIp, facts: &NetworkFacts) -> Option<Objection> {
    let peer = shared.peers.iter().find(|peer| peer.elsewhere)?;
    let (address, network) = (shared.address, &facts.id);
    facts.own_bridge.then(|| {
        Objection::new(
            MessageId::SharedAddressApart,
            RefusalKind::Unfit,
            ObjectionSubject::Address(address),
            format!(
                "shared address {address} is in network {network}, which this host has for itself, and {} is on another \
                 host: each VM would have the address",
                peer.address
            ),
            "connect the VMs to one segment: by macvtap, by a bridge of the host, or by a network of forward mode bridge",
        )
    })
}

/// What may keep it from the VM, or lead clients past it, and is not known well enough for a
/// refusal.
pub(super) fn remark(desired: &Desired, observed: &Observed) -> Option<Remark> {
    let shared = desired.virtual_ip.as_ref()?;
    let domain = observed.domain.as_ref()?;
    let xml = domain.config_xml.expose();
    xml.contains("<filterref").then(|| Remark {
        about: ObjectionSubject::Address(shared.address),
        message: format!(
            "a network interface of domain {name} has a filter of libvirt's (`virsh dumpxml {name}` shows its filterref): \
             one that keeps a guest to its own address, such as clean-traffic or no-ip-spoofing, keeps shared address {} \
             from it",
            shared.address,
            name = domain.name
        ),
    })
}

fn unfit(address: Ipv4Addr, facts: &NetworkFacts) -> Option<Objection> {
    let network = &facts.id;
    let refuse = |id: MessageId, message: String, hint: &str| {
        let about = ObjectionSubject::Address(address);
        Some(Objection::new(id, RefusalKind::Unfit, about, message, hint))
    };
    let hint =
        "set `address` of [virtual_ip], in the file of each VM, to a free address of that subnet";
    let Some(subnet) = facts.subnets.iter().find(|s| s.contains(address)) else {
        if facts.subnets.is_empty() {
            return None;
        }
        return refuse(
            MessageId::AddressOutsideNetwork,
            format!(
                "shared address {address} is outside of network {network} ({})",
                subnets(facts)
            ),
            hint,
        );
    };
    if subnet.address == address {
        return refuse(
            MessageId::AddressOfHost,
            format!("shared address {address} belongs to the host in network {network}"),
            hint,
        );
    }
    if !subnet.is_usable(address) {
        return refuse(
            MessageId::AddressUnusable,
            format!(
                "shared address {address} is an address of network {network} that no VM can have"
            ),
            hint,
        );
    }
    let range = subnet
        .ranges
        .iter()
        .find(|(first, last)| (*first..=*last).contains(&address));
    range.and_then(|(first, last)| {
        refuse(
            MessageId::SharedAddressInRange,
            format!(
                "shared address {address} is in a DHCP range of network {network} ({first} to {last}), which may give \
                 it to another machine"
            ),
            "set `address` of [virtual_ip], in the file of each VM, to an address outside of the range, or narrow the \
             range (`virsh net-edit`, then a restart of the network)",
        )
    })
}

/// A DHCP entry that gives it to one machine.
fn reserved(address: Ipv4Addr, facts: &NetworkFacts) -> Option<Objection> {
    let mut entries = facts.all_reservations().into_iter();
    let other = entries.find(|other| other.ip == address)?;
    let shared = HostEntry {
        mac: None,
        ip: address,
        name: None,
    };
    Some(taken(&shared, other, facts))
}

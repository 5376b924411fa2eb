//! Whether the host can give what the configuration asks of it, as far as libvirt says before the
//! first step: its networks, devices and addresses, its memory, and what it accepts as a domain.

use std::net::{IpAddr, Ipv4Addr};

use super::network::{check_leases, taken};
use super::{Objection, ObjectionSubject, RefusalKind, shared};
use crate::config::{
    Addressing, HostLink, Interface, InterfaceAddress, NetworkRef, NicSource, Switch,
};
use crate::exit::MessageId;
use crate::host::{BridgeFacts, DeviceState, HostEntry, Listed, NetworkFacts, Subnet};
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::{Observed, ObservedMachine};
use crate::render::domain::{DomainKind, DomainSpec};

/// What libvirt would say of the domain only when it is defined or started. Nothing is asked of a
/// domain that has all of it already.
pub(super) fn domain(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let unfit = |id: MessageId, message: String, hint: String| {
        Objection::new(
            id,
            RefusalKind::Unfit,
            ObjectionSubject::Domain,
            message,
            hint,
        )
    };
    let spec = &desired.domain;
    let mut objections = Vec::new();
    // Without kvm no machine is found for kvm guests: that is the reason then.
    let of_kvm = |said: &&String| spec.kind == DomainKind::Kvm && said.contains("kvm");
    if let Some(said) = observed.rejected.as_ref().filter(of_kvm) {
        objections.push(Objection::new(
            MessageId::KvmMissing,
            RefusalKind::Unfit,
            ObjectionSubject::Kvm,
            format!("this host cannot run kvm guests now: {said}"),
            "check that virtualisation is on in its firmware, the kvm module is loaded and /dev/kvm exists \
             (`virt-host-validate qemu`); `domain_type = \"qemu\"` in [libvirt] emulates, many times slower",
        ));
    } else if observed.machine == ObservedMachine::Missing {
        objections.push(unfit(
            MessageId::DomainRejected,
            format!(
                "the host has no machine {} for {} guests of {}",
                spec.machine,
                spec.kind.as_str(),
                spec.architecture
            ),
            "leave `machine` out of [libvirt], or set it to one that `virsh capabilities` lists"
                .into(),
        ));
    } else if let Some(said) = &observed.rejected {
        objections.push(unfit(
            MessageId::DomainRejected,
            format!("libvirt does not accept this domain: {said}"),
            rejection_hint(said, spec),
        ));
    }
    let has = observed.domain.as_ref().map(|d| d.config.memory_kib);
    let wanted = spec.memory_mib.saturating_mul(1024);
    if has != Some(wanted) && wanted > observed.memory_kib {
        let host = observed.memory_kib / 1024;
        objections.push(unfit(
            MessageId::MemoryExceedsHost,
            format!(
                "memory is {} MiB, and the host has {host} MiB in all",
                spec.memory_mib
            ),
            "lower `memory`".into(),
        ));
    }
    objections
}

/// By libvirt's words, which decide nothing else.
fn rejection_hint(said: &str, spec: &DomainSpec) -> String {
    let DomainSpec { machine, vcpus, .. } = spec;
    let said = said.to_ascii_lowercase();
    if said.contains("cpu") {
        format!("lower `vcpus`, which is {vcpus}")
    } else if said.contains("pci") || said.contains("machine") {
        format!("machine {machine} cannot carry lbctl's devices: leave `machine` out of [libvirt]")
    } else {
        "correct [libvirt], `vcpus` or `memory`".into()
    }
}

/// Networks and devices that are missing, not active, or of another subnet; addresses that the
/// guest cannot have.
pub(super) fn links(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let mut objections: Vec<Objection> = Vec::new();
    for interface in &desired.interfaces {
        let objection = match interface.source.host_link() {
            HostLink::Device(device) => device_objection(device, interface, observed),
            HostLink::Bridge(bridge) => observed
                .bridges
                .get(bridge)
                .and_then(|facts| bridge_objection(bridge, interface, facts))
                .or_else(|| static_objections(interface, observed)),
            HostLink::Network(which) => network_objection(which, interface, observed),
        };
        objections.extend(objection.filter(|o| !objections.contains(o)));
    }
    objections
}

fn device_objection(device: &str, interface: &Interface, observed: &Observed) -> Option<Objection> {
    let key = interface.source.key();
    let unfit = |id: MessageId, message: String, hint: String| {
        let about = ObjectionSubject::Link(device.to_owned());
        Some(Objection::new(id, RefusalKind::Unfit, about, message, hint))
    };
    match observed.devices.get(device)? {
        DeviceState::Absent => unfit(
            MessageId::DeviceMissing,
            format!("the host has no network device {device}"),
            format!(
                "{}; set {key} to one of them",
                listed(observed, &Listed::Devices, "interfaces", device)
                    .unwrap_or_else(|| "`ip link` on the host lists them".into())
            ),
        ),
        DeviceState::Present {
            bridge: Some(bridge),
            ..
        } => unfit(
            MessageId::DeviceInBridge,
            format!(
                "network device {device} is a port of bridge {bridge}, so that no macvtap can be made on it"
            ),
            format!(
                "use a libvirt network on that bridge (`<forward mode='bridge'/><bridge name='{bridge}'/>`) with \
                 [[libvirt_networks]]; or set {key} to a device that is in no bridge"
            ),
        ),
        DeviceState::Present { bridge: None, .. } | DeviceState::Unknown => None,
    }
}

/// A bridge that is not there, or that gives its ports no VLAN.
fn bridge_objection(name: &str, interface: &Interface, facts: &BridgeFacts) -> Option<Objection> {
    let unfit = |id: MessageId, message: String, hint: String| {
        let about = ObjectionSubject::Link(name.to_owned());
        Some(Objection::new(id, RefusalKind::Unfit, about, message, hint))
    };
    let tagged = matches!(interface.source, NicSource::Bridge { vlan: Some(_), .. });
    let of_the_kernel = facts.switch == Some(Switch::Linux);
    if facts.exists == Some(false) {
        return unfit(
            MessageId::BridgeMissing,
            format!("the host has no bridge {name}"),
            format!(
                "`ip link show type bridge` or `ovs-vsctl list-br` on the host lists them; set {} to one of them",
                interface.source.key()
            ),
        );
    }
    if tagged && of_the_kernel && !facts.kernel_takes_vlan {
        return unfit(
            MessageId::VlanUnsupported,
            format!("{name} is a bridge of the kernel, and its libvirt gives such ports no VLAN"),
            "take a bridge of Open vSwitch, or libvirt 11.0 or later with vlan_filtering on the bridge; or a bridge on \
             the VLAN's own interface, without `vlan`"
                .to_owned(),
        );
    }
    None
}

/// Its addresses that the guest is told by network-config: those of IPv4, for libvirt's networks
/// are looked at for no other.
fn static_ips(interface: &Interface) -> impl Iterator<Item = Ipv4Addr> {
    let fixed = match &interface.addressing {
        Addressing::Static(fixed) => fixed.addresses.as_slice(),
        Addressing::DhcpReservation(_) | Addressing::Dhcp => &[],
    };
    fixed.iter().filter_map(|address| match address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

fn network_objection(
    which: &NetworkRef,
    interface: &Interface,
    observed: &Observed,
) -> Option<Objection> {
    let key = interface.source.key();
    let unfit = |id: MessageId, message: String, hint: String| {
        let about = ObjectionSubject::Link(interface.source.host_link().name().to_owned());
        Some(Objection::new(id, RefusalKind::Unfit, about, message, hint))
    };
    let name = which.to_string();
    match observed.network(which) {
        None => unfit(
            MessageId::NetworkMissing,
            format!("the host has no network {which}"),
            format!(
                "{}; set {key} to one of them",
                listed(observed, &Listed::Networks, "networks", &name)
                    .unwrap_or_else(|| "`virsh net-list --all` lists them".into())
            ),
        ),
        Some(facts) if !facts.active => unfit(
            MessageId::NetworkInactive,
            format!("network {} is not active", facts.id),
            format!(
                "start it: `virsh net-start {0}` (and `virsh net-autostart {0}`)",
                facts.id
            ),
        ),
        Some(facts) => match interface.reserved() {
            Some(ip) => subnet_objection(ip, facts),
            None => static_objections(interface, observed),
        },
    }
}

/// The names that the host has instead, and the most similar one; `None`: they are not known.
pub(super) fn listed(
    observed: &Observed,
    which: &Listed,
    what: &str,
    wanted: &str,
) -> Option<String> {
    let names = observed
        .listed
        .get(which)
        .filter(|names| !names.is_empty())?;
    let similar = names
        .iter()
        .map(|name| (strsim::jaro_winkler(name, wanted), name))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let meant = similar.map_or_else(String::new, |(_, name)| format!("did you mean `{name}`? "));
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    Some(format!("{meant}{what} here: {}{more}", shown.join(", ")))
}

/// How alike two names must be for "did you mean" (Jaro-Winkler; 1.0 is equal).
const SIMILAR: f64 = 0.8;
/// So many names are shown.
const SHOWN: usize = 12;

fn subnet_objection(ip: Ipv4Addr, facts: &NetworkFacts) -> Option<Objection> {
    let id = &facts.id;
    let unfit = |id: MessageId, message: String, hint: &str| {
        let about = ObjectionSubject::Address(ip);
        let kind = RefusalKind::Unfit;
        Some(Objection::new(id, kind, about, message, hint))
    };
    match facts.subnets.iter().find(|s| s.contains(ip)) {
        None if facts.subnets.is_empty() => unfit(
            MessageId::NetworkWithoutAddresses,
            format!("network {id} has no addresses of its own, so {ip} cannot be reserved in it"),
            "configure the address statically: use [[libvirt_networks]] with prefix_length and gateway",
        ),
        None => unfit(
            MessageId::AddressOutsideNetwork,
            format!(
                "address {ip} is outside of network {id} ({})",
                subnets(facts)
            ),
            "set `ip` of libvirt_network to a free address of that subnet",
        ),
        Some(subnet) => address_objection(ip, subnet, facts).or_else(|| {
            if subnet.dhcp {
                return None;
            }
            unfit(
                MessageId::NetworkWithoutDhcp,
                format!("network {id} serves no DHCP, so {ip} cannot be reserved in it"),
                "configure the address statically: use [[libvirt_networks]] with prefix_length and gateway",
            )
        }),
    }
}

/// An address of the subnet that no guest can have, however it comes by it.
fn address_objection(ip: Ipv4Addr, subnet: &Subnet, facts: &NetworkFacts) -> Option<Objection> {
    let id = &facts.id;
    let (kind, message) = if subnet.address == ip {
        (
            MessageId::AddressOfHost,
            format!("address {ip} belongs to the host in network {id}"),
        )
    } else if subnet.is_usable(ip) {
        return None;
    } else {
        let (first, _) = subnet.bounds();
        let what = if ip == first { "network" } else { "broadcast" };
        (
            MessageId::AddressUnusable,
            format!(
                "address {ip} is the {what} address of {first}/{} in network {id}",
                subnet.prefix_length
            ),
        )
    };
    let about = ObjectionSubject::Address(ip);
    let hint = "set `ip` to a free address of that subnet";
    Some(Objection::new(
        kind,
        RefusalKind::Unfit,
        about,
        message,
        hint,
    ))
}

/// libvirt knows of static addresses only what it gave to others, and what its bridge has.
fn static_objections(interface: &Interface, observed: &Observed) -> Option<Objection> {
    let facts = observed.network_of(&interface.source)?;
    static_ips(interface).find_map(|ip| static_objection((interface, ip), facts, observed))
}

fn static_objection(
    (interface, ip): (&Interface, Ipv4Addr),
    facts: &NetworkFacts,
    observed: &Observed,
) -> Option<Objection> {
    let subnet = facts.subnets.iter().find(|s| s.contains(ip))?;
    let entry = HostEntry {
        mac: Some(interface.mac),
        ip,
        name: None,
    };
    let others = facts.all_reservations().into_iter();
    let other = others
        .filter(|other| other.ip == ip && other.mac != entry.mac)
        .map(|other| taken(&entry, other, facts))
        .next();
    address_objection(ip, subnet, facts)
        .or(other)
        .or_else(|| check_leases(&entry, &facts.id, observed).err())
}

pub(crate) fn subnets(facts: &NetworkFacts) -> String {
    let all: Vec<String> = facts
        .subnets
        .iter()
        .map(|s| format!("{}/{}", s.address, s.prefix_length))
        .collect();
    all.join(", ")
}

/// What does not keep a guest from starting, and may keep it from being reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub about: ObjectionSubject,
    pub message: String,
}

/// What is to be said of the configured interfaces on that host.
#[must_use]
pub fn remarks(desired: &Desired, observed: &Observed) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = Vec::new();
    for interface in &desired.interfaces {
        match interface.source.host_link() {
            HostLink::Device(device) => {
                if let Some(DeviceState::Present {
                    up: Some(false), ..
                }) = observed.devices.get(device)
                {
                    remarks.push(Remark {
                        about: ObjectionSubject::Link(device.to_owned()),
                        message: format!(
                            "network device {device} is down: the guest has no connection until it is up (`ip link set \
                             {device} up`)"
                        ),
                    });
                }
            }
            HostLink::Network(_) | HostLink::Bridge(_) => {
                let Some(facts) = observed.network_of(&interface.source) else {
                    continue;
                };
                for ip in static_ips(interface) {
                    let messages = static_remarks(interface, ip, facts);
                    remarks.extend(messages.into_iter().map(|message| Remark {
                        about: ObjectionSubject::Address(ip),
                        message,
                    }));
                }
            }
        }
    }
    remarks.extend(shared::remark(desired, observed));
    remarks
}

fn static_remarks(interface: &Interface, ip: Ipv4Addr, facts: &NetworkFacts) -> Vec<String> {
    let id = &facts.id;
    let Addressing::Static(fixed) = &interface.addressing else {
        return Vec::new();
    };
    let given = fixed.addresses.iter().find(|a| a.ip() == IpAddr::V4(ip));
    let Some(prefix_length) = given.map(InterfaceAddress::prefix_length) else {
        return Vec::new();
    };
    if facts.subnets.is_empty() {
        return Vec::new();
    }
    let gateway = fixed.gateways.iter().find_map(|hop| match hop.via {
        IpAddr::V4(via) => Some(via),
        IpAddr::V6(_) => None,
    });
    let Some(subnet) = facts.subnets.iter().find(|s| s.contains(ip)) else {
        return vec![format!(
            "static address {ip} is outside of network {id} ({}): the host itself cannot reach it there",
            subnets(facts)
        )];
    };
    let mut remarks = Vec::new();
    if subnet
        .ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&ip))
    {
        remarks.push(format!(
            "static address {ip} is in a DHCP range of network {id}, which may give it to another machine"
        ));
    }
    if prefix_length != subnet.prefix_length {
        remarks.push(format!(
            "static address {ip} has prefix_length {prefix_length}, and network {id} is a /{}",
            subnet.prefix_length
        ));
    }
    if let Some(gateway) = gateway.filter(|gateway| *gateway != subnet.address) {
        remarks.push(format!(
            "the gateway {gateway} of static address {ip} is not the host's own address in network {id} ({})",
            subnet.address
        ));
    }
    remarks
}

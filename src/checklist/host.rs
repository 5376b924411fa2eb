//! What the libvirt host is asked. The verdicts on disks, networks and names are the plan's own
//! objections, so the list and `up` cannot differ.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::{Checklist, Outcome};
use crate::config::{Addressing, Config, Disk, DiskFormat, DomainType, HostLink, Interface};
use crate::exit::MessageId;
use crate::host::{DomainFacts, HostResult, Inspect, NetworkFacts, VolumeState};
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::{Ask, Observed, ObservedDisk, observe};
use crate::reconcile::plan::{Objection, ObjectionSubject, Refusal, RefusalKind, Restart, plan_up};
use crate::text::size::Bytes;

/// A seed is some 200 KiB; two of them exist while one replaces the other.
const SEEDS: u64 = 2 * 1024 * 1024;

/// The result.
#[derive(Debug)]
pub struct Host {
    pub list: Checklist,
    /// Whether something is another's, so that `up` would refuse rather than fail.
    pub is_about_ownership: bool,
}

/// Asks a host that is connected; an error is a host that does not answer.
pub fn inspect(config: &Config, host: &impl Inspect, uri: &str) -> HostResult<Host> {
    let mut list = Checklist::default();
    let versions = host.versions()?;
    list.ok(
        "libvirt",
        format!(
            "{} with QEMU {}, at {uri}",
            versions.libvirt, versions.hypervisor
        ),
    );
    let observed = observe(config, host, Ask::Everything)?;
    kvm(config, host, &observed, &mut list)?;
    let objections = objections(config, &observed);
    let is_about_ownership = objections.iter().any(|o| o.kind != RefusalKind::Unfit);
    let mut host_list = HostList {
        config,
        observed: &observed,
        objections,
        list,
    };
    host_list.domain();
    host_list.disk();
    host_list.seed();
    let mut list = host_list.links();
    for (pool, needed) in pools(config, &observed) {
        if let Some(available) = host.available(pool)? {
            space(pool, available, needed, &mut list);
        }
    }
    Ok(Host {
        list,
        is_about_ownership,
    })
}

/// What `up` would object to. An objection to the domain ends the plan early: so it is asked again
/// without the domain.
fn objections(config: &Config, observed: &Observed) -> Vec<Objection> {
    let refused = |observed: &Observed| {
        // A certificate that cannot be issued is reported when the configuration is read.
        let desired = Desired::from_config(config, observed, OffsetDateTime::now_utc()).ok()?;
        let refusal: Refusal = plan_up(&desired, observed, Restart::Later).err()?;
        Some(refusal.objections)
    };
    let mut all = refused(observed).unwrap_or_default();
    if all.iter().any(|o| o.about == ObjectionSubject::Domain) {
        let without = Observed {
            domain: None,
            ..observed.clone()
        };
        all.extend(refused(&without).unwrap_or_default());
    }
    all
}

fn kvm(
    config: &Config,
    host: &impl Inspect,
    observed: &Observed,
    list: &mut Checklist,
) -> HostResult<()> {
    let what = "kvm";
    let emulated = "the guest is emulated, many times slower";
    if config.libvirt.domain_type == DomainType::Qemu {
        let help = "leave domain_type out of [libvirt] where the host has kvm";
        list.add(
            Outcome::Warning,
            what,
            format!("not used, domain_type is \"qemu\": {emulated}"),
            help,
        );
        return Ok(());
    }
    let architecture = &observed.architecture;
    let help = "check that virtualisation is on in its firmware, the kvm module is loaded and /dev/kvm exists \
                (`virt-host-validate qemu`)";
    match (host.kvm(architecture)?, config.libvirt.domain_type) {
        (Ok(()), _) => list.ok(
            what,
            format!(
                "offered for {architecture}; only the first start of a guest shows that it works"
            ),
        ),
        (Err(said), DomainType::Kvm) => list.add(
            Outcome::Fails(MessageId::KvmMissing),
            what,
            format!("{said}, and domain_type is \"kvm\""),
            format!("{help}; `domain_type = \"qemu\"` emulates, many times slower"),
        ),
        (Err(said), _) => list.add(Outcome::Warning, what, format!("{said}: {emulated}"), help),
    }
    Ok(())
}

struct HostList<'a> {
    config: &'a Config,
    observed: &'a Observed,
    objections: Vec<Objection>,
    list: Checklist,
}

impl HostList<'_> {
    /// What `up` objects to there; if nothing, the text given.
    fn report(&mut self, about: &ObjectionSubject, what: &str, well: String) {
        let mut found = self
            .objections
            .iter()
            .filter(|o| o.about == *about)
            .peekable();
        if found.peek().is_none() {
            return self.list.ok(what, well);
        }
        for objection in found {
            let Objection {
                id, message, hint, ..
            } = objection;
            self.list.add(Outcome::Fails(*id), what, message, hint);
        }
    }

    fn domain(&mut self) {
        let name = &self.config.name;
        let ours =
            |domain: &DomainFacts| format!("{name} was made by lbctl, and is {}", domain.state);
        let free = || format!("the name {name} is free");
        let well = self.observed.domain.as_ref().map_or_else(free, ours);
        self.report(&ObjectionSubject::Domain, "domain", well);
    }

    fn disk(&mut self) {
        let (volume, clone) = match &self.observed.disk {
            ObservedDisk::Existing { volume, .. } => (volume, None),
            ObservedDisk::Clone {
                wanted,
                volume,
                base,
            } => (volume, Some((wanted, base))),
        };
        if let Some((clone, base)) = clone {
            let facts = base.present().map_or_else(
                || format!("{}: does not exist, and is not needed any more", clone.base),
                |facts| {
                    let (size, format) = (Bytes(facts.capacity), &facts.format);
                    format!("{}, {format}, {size}", clone.base)
                },
            );
            self.report(&ObjectionSubject::Base, "base volume", facts);
        }
        let well = match (volume, &self.config.disk) {
            (VolumeState::Present(facts), _) => {
                let (at, size) = (&facts.at, Bytes(facts.capacity));
                format!("{at} exists, {}, {size}", facts.format)
            }
            (_, Disk::Clone(clone)) => {
                let size = clone.size.map_or_else(
                    || "of the base's size".to_owned(),
                    |size| format!("of {}", Bytes(size)),
                );
                let format = clone.format.as_str();
                format!("{} would be created, {format}, {size}", clone.volume)
            }
            (_, Disk::Existing { id }) => id.clone(),
        };
        self.report(&ObjectionSubject::RootDisk, "root disk", well);
    }

    fn seed(&mut self) {
        let at = &self.config.seed_volume;
        let there = self.observed.seeds.iter().any(|s| s.content.is_some());
        let well = if there {
            format!("{at} was made by lbctl")
        } else {
            format!("{at} is free")
        };
        self.report(&ObjectionSubject::Seed, "seed", well);
    }

    /// Networks and devices of the host, addresses and MACs of each network interface.
    fn links(mut self) -> Checklist {
        let mut named = BTreeSet::new();
        for interface in &self.config.interfaces {
            let link = interface.source.host_link();
            if named.insert(link) {
                self.link(link);
            }
            self.address(interface);
            let mac = ObjectionSubject::Mac(interface.mac);
            self.report(&mac, &format!("mac {}", interface.mac), "free".into());
        }
        self.list
    }

    fn link(&mut self, link: HostLink<'_>) {
        let about = ObjectionSubject::Link(link.name().to_owned());
        match link {
            HostLink::Network(network) => {
                self.report(&about, &format!("network {network}"), "active".into());
            }
            HostLink::Device(device) => {
                let what = format!("interface {device}");
                if self.observed.devices.get(device) == Some(&Some(true)) {
                    return self.report(&about, &what, "there".into());
                }
                if self.objections.iter().any(|o| o.about == about) {
                    return self.report(&about, &what, String::new());
                }
                self.list.add(
                    Outcome::Unknown,
                    what,
                    "libvirt does not say whether the host has it",
                    "`ip link` on the host shows it",
                );
            }
        }
    }

    fn address(&mut self, interface: &Interface) {
        let what = format!("address {}", interface.ip);
        let about = ObjectionSubject::Address(interface.ip);
        let network = interface.source.network();
        let network = network.and_then(|which| self.observed.network(which));
        let reserved = interface.addressing == Addressing::DhcpReservation;
        match network {
            Some(facts) if reserved => {
                let well = format!("free in {}", subnets(facts));
                self.report(&about, &what, well);
            }
            // The network's own line reports it; nothing is known of the address then.
            None if reserved => {
                self.list
                    .add(Outcome::Unknown, what, "its network does not exist", "");
            }
            _ => self.list.add(
                Outcome::Unknown,
                what,
                "static: whether another machine uses it is known only in its network",
                "",
            ),
        }
    }
}

fn subnets(facts: &NetworkFacts) -> String {
    let all: Vec<String> = facts
        .subnets
        .iter()
        .map(|s| format!("{}/{}", s.address, s.prefix_length))
        .collect();
    all.join(", ")
}

/// What is needed of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Needed {
    /// At once, or `up` fails. Bytes.
    now: u64,
    /// When the disk has grown to its size. Bytes.
    later: u64,
}

/// The pools, each once, in the order of their names.
fn pools<'c>(config: &'c Config, observed: &'c Observed) -> Vec<(&'c str, Needed)> {
    let seed = config.seed_volume.pool.as_str();
    let mut all = vec![(
        seed,
        Needed {
            now: SEEDS,
            later: SEEDS,
        },
    )];
    if let ObservedDisk::Clone {
        wanted: clone,
        volume,
        base,
    } = &observed.disk
    {
        let of_base = base.present().map_or(0, |facts| facts.capacity);
        let size = clone.size.unwrap_or(of_base);
        let used = volume.present().map(|facts| facts.allocation);
        let later = size.saturating_sub(used.unwrap_or(0));
        let now = match (used, clone.format) {
            (None, DiskFormat::Raw) => size,
            _ => 0,
        };
        match all.iter_mut().find(|(pool, _)| *pool == clone.volume.pool) {
            Some((_, needed)) => {
                needed.now += now;
                needed.later += later;
            }
            None => all.push((&clone.volume.pool, Needed { now, later })),
        }
    }
    all
}

fn space(pool: &str, available: u64, needed: Needed, list: &mut Checklist) {
    let what = format!("pool {pool}");
    let free = Bytes(available);
    let help = format!("`virsh pool-info {pool}` shows its space");
    if available < needed.now {
        let said = format!("{free} free, {} are needed", Bytes(needed.now));
        list.add(Outcome::Fails(MessageId::PoolFull), what, said, help);
    } else if available < needed.later {
        let said = format!(
            "{free} free; the disk needs {} when it has grown to its full size",
            Bytes(needed.later)
        );
        list.add(Outcome::Warning, what, said, help);
    } else {
        list.ok(what, format!("active, {free} free"));
    }
}

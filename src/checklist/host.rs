//! What the libvirt host is asked. The verdicts on disks, networks and names are the plan's own
//! objections, so the list and `up` cannot differ.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use time::OffsetDateTime;

use super::{Checklist, Outcome};
use crate::cert::ClientPair;
use crate::config::{
    BaseImage, CloneVolume, Config, Disk, DiskFormat, DomainType, HostLink, ImageSource, Interface,
    Switch,
};
use crate::exit::MessageId;
use crate::host::{DeviceState, DomainFacts, HostResult, Inspect, VolumeState};
use crate::image::ImageFacts;
use crate::reconcile::desired::{Desired, Intent, current_seed};
use crate::reconcile::observe::{Ask, Observed, ObservedDisk, observe};
use crate::reconcile::plan::{
    Objection, ObjectionSubject, Refusal, RefusalKind, Remark, Restart, base_is_lost, plan_up,
    remarks, subnets,
};
use crate::text::size::Bytes;

/// A seed is some 200 KiB; two of them exist while one replaces the other.
const SEEDS: u64 = 2 * 1024 * 1024;

/// The result.
#[derive(Debug)]
pub struct Host {
    pub list: Checklist,
    /// Whether something is another's, so that `up` would refuse rather than fail.
    pub is_about_ownership: bool,
    /// The client certificate of the load balancer that is there.
    pub in_use: Option<ClientPair>,
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
    let mut observed = observe(config, host, Ask::Everything)?;
    observed.look_at_image();
    kvm(config, host, &observed, &mut list)?;
    let (objections, remarks) = opinion(config, &observed, &mut list);
    let is_about_ownership = objections.iter().any(|o| o.kind != RefusalKind::Unfit);
    let mut host_list = HostList {
        config,
        observed: &observed,
        objections,
        remarks,
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
    let in_use = current_seed(&observed).and_then(|seed| seed.client_pem.as_ref());
    Ok(Host {
        list,
        is_about_ownership,
        in_use: in_use.and_then(|pem| ClientPair::from_pem(pem.expose()).ok()),
    })
}

/// What `up` would object to, and what it would say beside. What it would miss is noted.
fn opinion(
    config: &Config,
    observed: &Observed,
    list: &mut Checklist,
) -> (Vec<Objection>, Vec<Remark>) {
    let now = OffsetDateTime::now_utc();
    // A certificate that cannot be issued is reported when the configuration is read.
    let Ok(desired) = Desired::from_config(config, observed, now, Intent::Show) else {
        return (Vec::new(), Vec::new());
    };
    let certificate = desired.certificate.as_ref();
    if let Some(missing) = certificate.and_then(|certificate| certificate.keyless.as_ref()) {
        list.add(
            Outcome::Fails(MessageId::CaKeyUnavailable),
            "CA's key",
            format!(
                "{}: `lbctl up` issues the client certificate with it",
                missing.message
            ),
            missing.hint.clone(),
        );
    }
    let refusal: Option<Refusal> = plan_up(&desired, observed, Restart::Later).err();
    let objections = refusal.map(|refusal| refusal.objections);
    (objections.unwrap_or_default(), remarks(&desired, observed))
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
    remarks: Vec<Remark>,
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
            let mut remarks = self.remarks.iter().filter(|r| r.about == *about).peekable();
            if remarks.peek().is_none() {
                return self.list.ok(what, well);
            }
            for remark in remarks {
                self.list.add(Outcome::Warning, what, &remark.message, "");
            }
            return;
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
                image,
                pool: _,
            } => (volume, Some((wanted, base, image))),
        };
        if let Some((clone, base, image)) = clone {
            match (image.as_deref(), &clone.image) {
                (Some(Ok(found)), Some(image)) => {
                    let facts = made_of(clone, image, found);
                    self.report(&ObjectionSubject::Base, "base volume", facts);
                }
                _ => self.base(clone, base, volume),
            }
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
            (_, Disk::Existing { id, .. }) => id.clone(),
        };
        self.report(&ObjectionSubject::RootDisk, "root disk", well);
    }

    /// A clone that shares its bytes with the base needs it for ever; a copy does not.
    fn base(&mut self, clone: &CloneVolume, base: &VolumeState, disk: &VolumeState) {
        let (what, about, at) = ("base volume", ObjectionSubject::Base, &clone.base);
        let shares = disk.present().is_some_and(|facts| facts.backing.is_some());
        let lost = disk
            .present()
            .is_some_and(|facts| base_is_lost(clone, facts, self.observed));
        let objected = self.objections.iter().any(|o| o.about == about);
        if lost && !objected {
            // The guest runs, and has its file open.
            let said = format!("{at} does not exist any more, and the root disk is a clone of it");
            let help = "put the image back under its name before the guest stops: it cannot start without it";
            let outcome = Outcome::Fails(MessageId::BackingVolumeMissing);
            return self.list.add(outcome, what, said, help);
        }
        let well = match base {
            VolumeState::Present(facts) => {
                format!("{at}, {}, {}", facts.format, Bytes(facts.capacity))
            }
            VolumeState::PoolInactive | VolumeState::NoPool if shares && !objected => {
                let pool = &at.pool;
                let said = format!("{at} cannot be looked at, because pool {pool} is not active");
                let help = format!("`virsh pool-start {pool}` starts it; the root disk is a clone");
                return self.list.add(Outcome::Unknown, what, said, help);
            }
            // Then nobody knows whether a clone is there already.
            _ if matches!(disk, VolumeState::PoolInactive | VolumeState::NoPool) && !objected => {
                let said = format!("{at} was not found");
                let help = format!(
                    "a root disk in pool {} would be cloned from it, if none is there already",
                    clone.volume.pool
                );
                return self.list.add(Outcome::Unknown, what, said, help);
            }
            VolumeState::NoPool
            | VolumeState::PoolInactive
            | VolumeState::Absent
            | VolumeState::Vanished => {
                format!("{at}: does not exist, and is not needed any more")
            }
        };
        self.report(&about, what, well);
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
            self.addresses(interface);
            let mac = ObjectionSubject::Mac(interface.mac);
            self.report(&mac, &format!("mac {}", interface.mac), "free".into());
        }
        let shared = self.config.virtual_ip.as_ref();
        let carried = shared.and_then(|s| Some((s, self.config.interfaces.get(s.interface)?)));
        if let Some((shared, interface)) = carried {
            self.shared_address(shared.address, interface);
        }
        self.list
    }

    fn shared_address(&mut self, address: Ipv4Addr, interface: &Interface) {
        let what = format!("shared address {address}");
        let about = ObjectionSubject::Address(address);
        let is_remarked = self.remarks.iter().any(|remark| remark.about == about);
        match self.observed.network_of(&interface.source) {
            Some(facts) => {
                let well = format!("in no DHCP range of network {}", facts.id);
                self.report(&about, &what, well);
            }
            None if is_remarked => self.report(&about, &what, String::new()),
            None => self.list.add(
                Outcome::Unknown,
                what,
                "whether another machine has it, or DHCP may give it away, is known only in its network",
                "",
            ),
        }
    }

    fn link(&mut self, link: HostLink<'_>) {
        let about = ObjectionSubject::Link(link.name().to_owned());
        match link {
            HostLink::Network(network) => {
                self.report(&about, &format!("network {network}"), "active".into());
            }
            HostLink::Device(device) => {
                let what = format!("interface {device}");
                let exists = match self.observed.devices.get(device) {
                    Some(DeviceState::Present { .. }) => Some(true),
                    Some(DeviceState::Absent) => Some(false),
                    Some(DeviceState::Unknown) | None => None,
                };
                self.device(&about, what, exists, "there".into());
            }
            HostLink::Bridge(bridge) => {
                let facts = self.observed.bridges.get(bridge);
                let kind = match facts.and_then(|facts| facts.switch) {
                    Some(Switch::Linux) => "there, of the kernel",
                    Some(Switch::OpenVswitch) => "there, not of the kernel: taken for Open vSwitch",
                    None => "there; libvirt does not say of what kind: taken for the kernel's",
                };
                let exists = facts.and_then(|facts| facts.exists);
                self.device(&about, format!("bridge {bridge}"), exists, kind.into());
            }
        }
    }

    fn device(
        &mut self,
        about: &ObjectionSubject,
        what: String,
        exists: Option<bool>,
        well: String,
    ) {
        if exists == Some(true) || self.objections.iter().any(|o| o.about == *about) {
            return self.report(about, &what, well);
        }
        self.list.add(
            Outcome::Unknown,
            what,
            "libvirt does not say whether the host has it",
            "`ip link` on the host shows it",
        );
    }

    fn addresses(&mut self, interface: &Interface) {
        if let Some(ip) = interface.reserved() {
            return self.reservation(ip, interface);
        }
        for ip in interface.ips() {
            let what = format!("address {ip}");
            if let IpAddr::V4(ip) = ip {
                let about = ObjectionSubject::Address(ip);
                let objected = self.objections.iter().any(|o| o.about == about);
                if objected || self.remarks.iter().any(|r| r.about == about) {
                    self.report(&about, &what, String::new());
                    continue;
                }
            }
            self.list.add(
                Outcome::Unknown,
                what,
                "static: whether another machine uses it is known only in its network",
                "",
            );
        }
        if interface.ip().is_none() {
            self.list.add(
                Outcome::Unknown,
                format!("address on {}", interface.source),
                "a DHCP server gives it: `lbctl status` shows it when the guest runs",
                "",
            );
        }
    }

    fn reservation(&mut self, ip: Ipv4Addr, interface: &Interface) {
        let what = format!("address {ip}");
        let network = interface.source.network();
        match network.and_then(|which| self.observed.network(which)) {
            Some(facts) => {
                let well = format!("free in {}", subnets(facts));
                self.report(&ObjectionSubject::Address(ip), &what, well);
            }
            // The network's own line reports it; nothing is known of the address then.
            None => {
                self.list
                    .add(Outcome::Unknown, what, "its network does not exist", "");
            }
        }
    }
}

/// The base volume that `up` would bring.
fn made_of(clone: &CloneVolume, image: &BaseImage, found: &ImageFacts) -> String {
    let size = found.size.map_or_else(
        || "of a size that its server does not say".to_owned(),
        |size| Bytes(size).to_string(),
    );
    let digest = match image.source {
        ImageSource::File(_) => "its digest is right",
        ImageSource::Url(_) => "its digest is known when it is fetched",
    };
    format!(
        "{} would be made from {}, {size}, for {}; {digest}",
        clone.base,
        image.source,
        Bytes(found.capacity)
    )
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
        image,
        pool: _,
    } = &observed.disk
    {
        let found = image.as_deref().and_then(|image| image.as_ref().ok());
        let of_image = found.map(|facts| facts.capacity);
        let of_base = base.present().map(|facts| facts.capacity);
        let of_base = of_image.or(of_base).unwrap_or(0);
        if let Some(size) = found.and_then(|facts| facts.size) {
            add(
                &mut all,
                &clone.base.pool,
                Needed {
                    now: size,
                    later: size,
                },
            );
        }
        let size = clone.size.unwrap_or(of_base);
        let used = volume.present().map(|facts| facts.allocation);
        let later = size.saturating_sub(used.unwrap_or(0));
        let now = match (used, clone.format) {
            (None, DiskFormat::Raw) => size,
            _ => 0,
        };
        add(&mut all, &clone.volume.pool, Needed { now, later });
    }
    all
}

fn add<'c>(all: &mut Vec<(&'c str, Needed)>, pool: &'c str, more: Needed) {
    match all.iter_mut().find(|(known, _)| *known == pool) {
        Some((_, needed)) => {
            needed.now += more.now;
            needed.later += more.later;
        }
        None => all.push((pool, more)),
    }
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

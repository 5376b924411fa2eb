//! Taking over a domain that something else made. What stands against it is said all at once; then
//! the domain is planned with as if it had a record: a seed that is not lbctl's, a disk that lbctl
//! never deletes, and no reservation. From the first definition on there is no special kind of
//! domain, only a record.

use std::net::{IpAddr, Ipv4Addr};

use roxmltree::{Document, Node};

use super::up::{busy, jobs};
use super::{Change, Class, Objection, ObjectionSubject, RefusalKind, Subject, Value};
use crate::config::{Addressing, Interface, VolumeRef};
use crate::exit::MessageId;
use crate::host::ownership::{
    DiskRecord, LAYOUT, Ownership, PartPrints, ReservationRecord, SeedRecord,
};
use crate::host::xml::{attribute, child};
use crate::host::{Definition, DomainFacts, HostEntry, NicFacts};
use crate::reconcile::desired::{Adoption, Desired};
use crate::reconcile::observe::{Observed, ObservedDisk};

/// Managers of VMs that put back what they know of one, by what their metadata's namespace holds.
const JEALOUS: [&str; 4] = [
    "openstack.org",
    "ovirt.org",
    "kubevirt.io",
    "opennebula.org",
];
/// Tools that leave a VM alone until somebody runs them: kcli, providers of Terraform, Vagrant.
const OTHERS: [&str; 3] = ["kvirt", "terraform", "vagrant"];
/// Devices that lbctl never makes, by which a guest may need more than a load balancer's.
const UNUSUAL: [(&str, &str); 4] = [
    ("hostdev", "a device of the host"),
    ("filesystem", "a folder of the host"),
    ("tpm", "a TPM"),
    ("shmem", "shared memory"),
];

/// The host with the domain, and the guest that runs, as lbctl's own from now on; `None`: there is
/// nothing to take over, or it is not to be.
pub(super) fn adopted(desired: &Desired, observed: &Observed) -> Option<Observed> {
    let domain = observed.domain.as_ref()?;
    let runs_as_before = |live: &Definition| live.ownership.is_none();
    let is_to_be = is_foreign(domain) || domain.live.as_ref().is_some_and(runs_as_before);
    if desired.adoption == Adoption::Refused || !is_to_be {
        return None;
    }
    let parts = PartPrints {
        guest: String::new(),
        // No HAProxy of lbctl's runs there that was started otherwise: that is no reason to restart
        // the guest.
        start: desired.seed.parts.start.clone(),
        // Nor is a configuration of its network that gives it the same addresses.
        boot: if moves(desired, observed).any(|one| !one.is_reserved()) {
            String::new()
        } else {
            desired.seed.parts.boot.clone()
        },
    };
    let next = PartPrints {
        start: String::new(),
        boot: String::new(),
        ..parts.clone()
    };
    let owned = |definition: &Definition, parts: PartPrints, started_with| Definition {
        ownership: definition.ownership.clone().or_else(|| {
            Some(Ownership {
                reservations: started_with,
                ..record(observed, domain, parts)
            })
        }),
        ..definition.clone()
    };
    let live = domain.live.as_ref();
    Some(Observed {
        domain: Some(DomainFacts {
            config: owned(&domain.config, next, Vec::new()),
            live: live.map(|live| owned(live, parts, started_with(desired, observed))),
            ..domain.clone()
        }),
        ..observed.clone()
    })
}

/// An interface that has another address than the configuration gives it.
struct Move<'d> {
    interface: &'d Interface,
    from: Ipv4Addr,
    to: Ipv4Addr,
}

impl Move<'_> {
    fn is_reserved(&self) -> bool {
        matches!(self.interface.addressing, Addressing::DhcpReservation(_))
    }
}

/// Those of which it is known. Only what an interface is known by is compared.
fn moves<'d>(desired: &'d Desired, observed: &'d Observed) -> impl Iterator<Item = Move<'d>> {
    desired.interfaces.iter().filter_map(|interface| {
        let (Some(IpAddr::V4(to)), Some(has)) =
            (interface.ip(), observed.addresses.get(&interface.mac))
        else {
            return None;
        };
        let has = has.iter().filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let has: Vec<Ipv4Addr> = has.collect();
        let from = *has.first().filter(|_| !has.contains(&to))?;
        Some(Move {
            interface,
            from,
            to,
        })
    })
}

/// For the record of the guest that runs: with which addresses it does.
fn started_with(desired: &Desired, observed: &Observed) -> Vec<ReservationRecord> {
    let reserved = moves(desired, observed).filter(Move::is_reserved);
    let records = reserved.filter_map(|one| {
        let network = observed.network(one.interface.source.network()?)?;
        Some(ReservationRecord {
            network: network.id.uuid.clone(),
            entry: HostEntry {
                mac: Some(one.interface.mac),
                ip: one.from,
                name: None,
            },
            made: false,
        })
    });
    records.collect()
}

/// The address that the VM has and loses, which nobody but its clients knows it by.
pub(super) fn address_changes(
    desired: &Desired,
    observed: &Observed,
    domain: &DomainFacts,
) -> Vec<Change> {
    let class = match domain.live {
        Some(_) => Class::Restart,
        None => Class::Live,
    };
    let changes = moves(desired, observed).map(|Move { from, to, .. }| {
        let (from, to) = (Value::Address(from), Value::Address(to));
        Change::new(Subject::Address, from, to, class)
    });
    changes.collect()
}

/// What that means for its clients.
pub(super) fn remarks(desired: &Desired, observed: &Observed) -> Vec<String> {
    let remarks = moves(desired, observed).map(|one| {
        let Move { from, to, .. } = one;
        let when = if one.is_reserved() {
            "at its next start, or when it renews a DHCP lease"
        } else {
            "at its next start"
        };
        format!(
            "the VM has {from} now, and the configuration {to}: it moves {when}, and clients must follow; if it is to \
             stay, give {from} as its `ip`"
        )
    });
    remarks.collect()
}

/// Whether lbctl has no record in it.
pub(super) fn is_foreign(domain: &DomainFacts) -> bool {
    domain.definitions().all(|d| d.ownership.is_none())
}

/// Of what lbctl made: nothing.
fn record(observed: &Observed, domain: &DomainFacts, parts: PartPrints) -> Ownership {
    let mut in_drive = observed
        .seeds
        .iter()
        .filter(|seed| domain.config.holds(&seed.at, seed.volume.present()));
    let volume = in_drive.next().map_or_else(
        || VolumeRef {
            pool: String::new(),
            name: String::new(),
        },
        |seed| seed.at.clone(),
    );
    let disk = match &observed.disk {
        ObservedDisk::Clone { volume, .. } => volume.present(),
        ObservedDisk::Existing { .. } => None,
    };
    let disk = disk.filter(|facts| domain.config.disk_of(facts).is_some());
    Ownership {
        layout: LAYOUT,
        seed: SeedRecord {
            volume,
            fingerprint: String::new(),
            parts,
        },
        stale_seeds: Vec::new(),
        disk: disk.map(|facts| DiskRecord {
            volume: facts.at.clone(),
            cloned: false,
        }),
        reservations: Vec::new(),
    }
}

/// Everything that stands against taking the domain over, apart from what stands against any plan.
pub(super) fn objections(desired: &Desired, observed: &Observed) -> Vec<Objection> {
    let Some(domain) = observed.domain.as_ref().filter(|domain| is_foreign(domain)) else {
        return Vec::new();
    };
    let mut objections: Vec<Objection> = busy(&domain.name, domain).into_iter().collect();
    objections.extend(in_xml(desired.adoption, domain));
    objections.extend(states(domain));
    objections.extend(disk(observed, domain));
    objections.extend(interfaces(desired, domain));
    objections
}

fn objection(id: MessageId, kind: RefusalKind, message: String, hint: String) -> Objection {
    Objection::new(id, kind, ObjectionSubject::Domain, message, hint)
}

/// Who else looks after the domain, and what lbctl would not have made so.
fn in_xml(adoption: Adoption, domain: &DomainFacts) -> Vec<Objection> {
    let Ok(document) = Document::parse(domain.config_xml.expose()) else {
        return Vec::new(); // the definition fails with the reason
    };
    let (root, name) = (document.root_element(), &domain.name);
    let mut found = Vec::new();
    for namespace in namespaces(root) {
        if JEALOUS.iter().any(|of| namespace.contains(of)) {
            found.push(objection(
                MessageId::DomainManaged,
                RefusalKind::NotOurs,
                format!("domain {name} belongs to another manager of VMs ({namespace}), which would undo lbctl's changes"),
                "take it out of that manager first".into(),
            ));
        } else if adoption != Adoption::Forced && OTHERS.iter().any(|of| namespace.contains(of)) {
            found.push(objection(
                MessageId::DomainNoted,
                RefusalKind::NeedsConsent,
                format!("another tool has its notes in domain {name} ({namespace}), and may change or remove it"),
                "make that tool forget the VM; `--force` takes it over all the same, and leaves the notes".into(),
            ));
        }
    }
    let unusual = unusual(root);
    if adoption != Adoption::Forced && !unusual.is_empty() {
        found.push(objection(
            MessageId::DomainUnusual,
            RefusalKind::NeedsConsent,
            format!("domain {name} has what lbctl never makes: {}", unusual.join(", ")),
            "`--force` takes it over all the same, and leaves that as it is; it is not in the configuration".into(),
        ));
    }
    found
}

fn namespaces<'a>(domain: Node<'a, '_>) -> impl Iterator<Item = &'a str> {
    let metadata = domain.children().filter(|n| n.has_tag_name("metadata"));
    metadata
        .flat_map(|metadata| metadata.children())
        .filter_map(|node| node.tag_name().namespace())
}

/// In words, each once.
fn unusual(domain: Node<'_, '_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let os = child(domain, "os");
    let firmware = os.is_some_and(|os| {
        os.attribute("firmware").is_some()
            || child(os, "nvram").is_some()
            || child(os, "loader").is_some_and(|loader| attribute(loader, "type") == "pflash")
    });
    // lbctl's own are so on ARM, where there is no BIOS.
    let arm = os
        .and_then(|os| child(os, "type"))
        .is_some_and(|kind| attribute(kind, "arch") == "aarch64");
    if firmware && !arm {
        found.push("UEFI firmware".into());
    }
    let Some(devices) = child(domain, "devices") else {
        return found;
    };
    let is_disk = |node: &Node<'_, '_>| {
        node.has_tag_name("disk") && matches!(node.attribute("device"), None | Some("disk"))
    };
    let disks = devices.children().filter(is_disk).count();
    if disks > 1 {
        found.push(format!("{disks} disks"));
    }
    for (device, what) in UNUSUAL {
        if child(devices, device).is_some() {
            found.push(what.into());
        }
    }
    found
}

/// What would be lost, or would come back.
fn states(domain: &DomainFacts) -> Vec<Objection> {
    let name = &domain.name;
    let mut found = Vec::new();
    let mut push = |id, message: String, hint: String| {
        found.push(objection(id, RefusalKind::NeedsConsent, message, hint));
    };
    if domain.saved.is_some() {
        push(
            MessageId::GuestSaved,
            format!(
                "the memory of guest {name} is saved, and its start resumes it with the definition of then"
            ),
            format!(
                "start it (`virsh start {name}`), or discard the memory (`virsh managedsave-remove {name}`)"
            ),
        );
    }
    if let Some(snapshot) = domain.snapshots.first() {
        push(
            MessageId::SnapshotInTheWay,
            format!(
                "domain {name} has the snapshot {}: a revert to it would bring back the VM of before lbctl",
                snapshot.name
            ),
            format!("`virsh snapshot-delete {name} {}`", snapshot.name),
        );
    }
    if !domain.persistent {
        push(
            MessageId::DomainTransient,
            format!("domain {name} has no saved definition, so there would be no way back"),
            format!("`virsh dumpxml {name} > {name}.xml; virsh define {name}.xml` saves one"),
        );
    }
    for (target, kind) in jobs(domain) {
        push(
            MessageId::BlockJobRunning,
            format!("a block job ({kind}) runs on disk {target} of domain {name}"),
            format!("wait for its end (`virsh blockjob {name} {target}` shows it)"),
        );
    }
    found
}

/// The configuration's root disk is the domain's own, on virtio.
fn disk(observed: &Observed, domain: &DomainFacts) -> Option<Objection> {
    let name = &domain.name;
    let root = domain.config.root_disk();
    let differs = |message: String, hint: &str| {
        let (id, about) = (MessageId::DiskDiffers, ObjectionSubject::RootDisk);
        Some(Objection::new(
            id,
            RefusalKind::NotOurs,
            about,
            message,
            hint,
        ))
    };
    let is_wanted = observed.disk.volume().present().is_some_and(|volume| {
        let source = root.and_then(|root| root.source.as_ref());
        source.is_some_and(|source| volume.is(source))
    });
    if !is_wanted {
        let wanted = match &observed.disk {
            ObservedDisk::Clone { wanted, .. } => wanted.volume.to_string(),
            ObservedDisk::Existing { id, .. } => id.clone(),
        };
        let is = root.and_then(|root| root.source.as_ref());
        let is = is.map_or_else(|| "missing".to_owned(), ToString::to_string);
        return differs(
            format!("the root disk of domain {name} is {is}, and the configuration has {wanted}"),
            "set [volume] or volume_id to the domain's own; `lbctl import` writes them so",
        );
    }
    let bus = root
        .map(|root| root.bus.as_str())
        .filter(|bus| *bus != "virtio")?;
    differs(
        format!("the root disk of domain {name} is on {bus}, and lbctl's are on virtio"),
        "change it by `virsh edit`, and see whether the guest boots, before lbctl takes it over",
    )
}

/// By MAC addresses and their order a guest knows its network interfaces.
fn interfaces(desired: &Desired, domain: &DomainFacts) -> Option<Objection> {
    let wanted = desired.domain.interfaces.iter().map(NicFacts::from);
    let wanted: Vec<NicFacts> = wanted.collect();
    let is = &domain.config.interfaces;
    if wanted == *is {
        return None;
    }
    let list = |nics: &[NicFacts]| {
        let nics = nics
            .iter()
            .map(|nic| format!("{} on {}", nic.mac, nic.source));
        nics.collect::<Vec<_>>().join(", ")
    };
    Some(objection(
        MessageId::InterfacesDiffer,
        RefusalKind::NotOurs,
        format!(
            "the network interfaces of domain {} are {}, and the configuration has {}",
            domain.name,
            list(is),
            list(&wanted)
        ),
        "`lbctl import` writes the domain's own into the configuration; change them when it is lbctl's".into(),
    ))
}

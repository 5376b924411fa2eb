//! What a libvirt host knows of one VM: its definition, its disk, its address, and the seed from
//! which it booted first. Nothing is changed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roxmltree::{Document, Node};

use super::cards::{self, Attachment, Card};
use super::found::{Found, Value};
use super::guest;
use super::user_data::{UserData, ethernets};
use crate::config::{MacAddr, NetworkRef, NicSource, VolumeRef};
use crate::host::{
    Definition, DomainFacts, HostErrorKind, HostReader, HostResult, NicFacts, ObservedNicSource,
    Source, VolumeFacts,
};
use crate::seed::{MAX_SIZE, iso};

const NETWORK_CONFIG: &str = "network-config";

/// The values that the host has for the domain.
pub fn found(host: &dyn HostReader, domain: &DomainFacts) -> HostResult<Found> {
    let mut found = Found::default();
    let definition = &domain.config;
    if definition.ownership.is_some() {
        found.note("lbctl made this VM: its configuration is the file that it was made from, and lbctl's own seed is not read here");
    }
    found.text("", "name", &domain.name);
    found.put("", "vcpus", Value::Whole(definition.vcpus.into()));
    let mib = i64::try_from(definition.memory_kib / 1024).unwrap_or(i64::MAX);
    found.put("", "memory", Value::Whole(mib));
    found.text("libvirt", "machine", &definition.machine);
    if definition.domain_type == "qemu" {
        found.text("libvirt", "domain_type", "qemu");
    }
    beyond(domain, &mut found);
    disk(host, domain, &mut found)?;
    let files = match seed(host, definition, &mut found) {
        Err(error) if error.kind == HostErrorKind::NotFound => {
            found.note(
                "the image in the CD-ROM drive is not there any more, so what is in the guest is not known",
            );
            Vec::new()
        }
        read => read?,
    };
    guest::read(&UserData::read(data(&files, "user-data")), &mut found);
    let (ethernets, unread) = ethernets(data(&files, NETWORK_CONFIG));
    if let Some(unread) = unread {
        found.note(unread);
    }
    let mut all = Vec::new();
    for nic in &definition.interfaces {
        let mac = nic.mac.to_string();
        let is_fixed = ethernets.get(&mac).is_some_and(|e| e.first().is_some());
        all.push(card(host, nic, is_fixed)?);
    }
    cards::read(&all, &ethernets, &mut found);
    Ok(found)
}

/// The addresses that the interfaces of the domain have, or had last: those that its seed sets,
/// else those that libvirt's DHCP server has given. An interface of which neither is known is not
/// in it.
pub fn addresses(
    host: &dyn HostReader,
    domain: &DomainFacts,
) -> HostResult<BTreeMap<MacAddr, Vec<IpAddr>>> {
    let definition = domain.live.as_ref().unwrap_or(&domain.config);
    let files = seed(host, definition, &mut Found::default())?;
    let (ethernets, _) = ethernets(data(&files, NETWORK_CONFIG));
    let mut found = BTreeMap::new();
    for nic in &definition.interfaces {
        let fixed = ethernets.get(&nic.mac.to_string());
        let fixed = fixed.into_iter().flat_map(|fixed| &fixed.addresses);
        let fixed = fixed.filter_map(|address| address.split('/').next()?.parse().ok());
        let mut all: Vec<IpAddr> = fixed.collect();
        if let (ObservedNicSource::Known(NicSource::Network(which)), true) =
            (&nic.source, all.is_empty())
        {
            all = leased(host, which, nic.mac)?;
        }
        if !all.is_empty() {
            found.insert(nic.mac, all);
        }
    }
    Ok(found)
}

fn leased(host: &dyn HostReader, which: &NetworkRef, mac: MacAddr) -> HostResult<Vec<IpAddr>> {
    let Some(network) = host.network(which)?.filter(|network| network.active) else {
        return Ok(Vec::new());
    };
    let leases = host.leases(&network.id)?.into_iter();
    let own = leases.filter(|lease| lease.mac == mac);
    Ok(own.map(|lease| IpAddr::V4(lease.ip)).collect())
}

fn data<'f>(files: &'f [iso::File], name: &str) -> &'f [u8] {
    let file = files.iter().find(|file| file.name == name);
    file.map(|file| &*file.data).unwrap_or_default()
}

/// The volume behind a disk; `None`: none that libvirt knows.
fn volume(host: &dyn HostReader, source: &Source) -> HostResult<Option<VolumeFacts>> {
    let state = match source {
        Source::Volume(at) => host.volume(at)?,
        Source::File(path) | Source::Block(path) => host.volume_by_id(path)?,
        Source::Other(_) => return Ok(None),
    };
    Ok(state.present().cloned())
}

fn disk(host: &dyn HostReader, domain: &DomainFacts, found: &mut Found) -> HostResult<()> {
    const TABLE: &str = "volume";
    let Some(disk) = domain.config.root_disk() else {
        return Ok(());
    };
    let Some(source) = &disk.source else {
        return Ok(());
    };
    let Some(facts) = volume(host, source)? else {
        match source.path() {
            Some(path) => {
                found.text("", "volume_id", path);
                found.remark("", "volume_id", "it is in no pool of libvirt's");
            }
            None => found.note(format!(
                "the root disk is of a kind that lbctl has no key for: {source}"
            )),
        }
        return Ok(());
    };
    let VolumeRef { pool, name } = &facts.at;
    let format = disk.format.as_deref().unwrap_or(&facts.format);
    let Some(backing) = &facts.backing else {
        super::disk_without_base(Some(pool), Some(name), Some(format), found);
        return Ok(());
    };
    for (key, value) in [("name", name.as_str()), ("pool", pool), ("format", format)] {
        found.text(TABLE, key, value);
    }
    let size = i64::try_from(facts.capacity).unwrap_or(i64::MAX);
    found.put(TABLE, "size", Value::Whole(size));
    match host.volume_by_id(backing)?.present() {
        Some(base) => {
            found.text(TABLE, "base_volume_name", &base.at.name);
            found.text(TABLE, "base_volume_pool", &base.at.pool);
        }
        None => found.note(format!(
            "the disk's base {backing} is in no pool of libvirt's: make a pool of its folder (`virsh pool-create-as`)"
        )),
    }
    Ok(())
}

/// The files of the image in the CD-ROM drive.
fn seed(
    host: &dyn HostReader,
    definition: &Definition,
    found: &mut Found,
) -> HostResult<Vec<iso::File>> {
    let Some(source) = definition.cdroms().find_map(|drive| drive.source.as_ref()) else {
        found
            .note("the domain has no seed in a CD-ROM drive, so what is in the guest is not known");
        return Ok(Vec::new());
    };
    let Some(facts) = volume(host, source)? else {
        found.note(format!(
            "the image in the CD-ROM drive, {source}, is in no pool of libvirt's, and is not read"
        ));
        return Ok(Vec::new());
    };
    super::seed_volume(Some(&facts.at.pool), Some(&facts.at.name), found);
    let bytes = host.read_volume(&facts.at, MAX_SIZE)?;
    match iso::read(&bytes) {
        Ok(image) => Ok(image.files),
        Err(error) => {
            found.note(format!(
                "the image in the CD-ROM drive, {}, is {error}",
                facts.at
            ));
            Ok(Vec::new())
        }
    }
}

fn card(host: &dyn HostReader, nic: &NicFacts, is_fixed: bool) -> HostResult<Card> {
    let mac = nic.mac.to_string();
    let at = match &nic.source {
        ObservedNicSource::Known(NicSource::Network(NetworkRef::Name(name))) => {
            Attachment::Network {
                name: Some(name.clone()),
                id: None,
            }
        }
        ObservedNicSource::Known(NicSource::Network(NetworkRef::Id(id))) => Attachment::Network {
            name: None,
            id: Some(id.clone()),
        },
        ObservedNicSource::Known(NicSource::Macvtap { device }) => {
            Attachment::Macvtap(device.clone())
        }
        ObservedNicSource::Known(NicSource::Bridge { bridge, vlan, .. }) => Attachment::Bridge {
            bridge: bridge.clone(),
            vlan: vlan.map(i64::from),
        },
        other @ (ObservedNicSource::Device(_) | ObservedNicSource::Other(_)) => {
            Attachment::Other(other.to_string())
        }
    };
    let ip = match &nic.source {
        ObservedNicSource::Known(NicSource::Network(which)) if !is_fixed => {
            address(host, which, nic.mac)?
        }
        _ => None,
    };
    Ok(Card {
        mac: Some(mac),
        at,
        ip,
    })
}

/// What DHCP gives to the MAC address: by its host entry, else by a lease.
fn address(host: &dyn HostReader, which: &NetworkRef, mac: MacAddr) -> HostResult<Option<String>> {
    let Some(network) = host.network(which)? else {
        return Ok(None);
    };
    let entries = network.all_reservations();
    let reserved = entries.iter().find(|entry| entry.mac == Some(mac));
    if let Some(entry) = reserved {
        return Ok(Some(entry.ip.to_string()));
    }
    if !network.active {
        return Ok(None);
    }
    let leases = host.leases(&network.id)?;
    let lease = leases.iter().find(|lease| lease.mac == mac);
    Ok(lease.map(|lease| lease.ip.to_string()))
}

/// What the definition has, and lbctl has no key for.
fn beyond(domain: &DomainFacts, found: &mut Found) {
    const DEVICES: [(&str, &str); 7] = [
        ("hostdev", "a device of the host (hostdev)"),
        ("filesystem", "a folder of the host (filesystem)"),
        ("tpm", "a TPM"),
        ("shmem", "shared memory (shmem)"),
        ("memory", "memory modules"),
        ("redirdev", "redirected USB devices"),
        ("vsock", "a vsock device"),
    ];
    if domain
        .config
        .disks
        .iter()
        .filter(|disk| disk.is_disk())
        .count()
        > 1
    {
        found.note(super::MORE_DISKS);
    }
    if !domain.snapshots.is_empty() {
        found.note("the domain has snapshots: what belongs to them is not lbctl's");
    }
    // It was read once already.
    let Ok(document) = Document::parse(domain.config_xml.expose()) else {
        return;
    };
    let root = document.root_element();
    let child = |node: Node<'_, '_>, name: &str| node.children().any(|n| n.has_tag_name(name));
    let under = |name: &str| root.children().find(|n| n.has_tag_name(name));
    let mut extra: Vec<&str> = Vec::new();
    if let Some(devices) = under("devices") {
        let there = DEVICES.iter().filter(|(name, _)| child(devices, name));
        extra.extend(there.map(|(_, what)| *what));
    }
    if child(root, "memoryBacking") {
        extra.push("backing of its memory");
    }
    if child(root, "cputune") {
        extra.push("tuning of its CPUs");
    }
    for what in extra {
        found.note(format!("the domain has {what}, for which lbctl has no key: a new VM of this configuration has none"));
    }
    if let Some(os) = under("os")
        && (os.attribute("firmware").is_some() || child(os, "loader") || child(os, "nvram"))
    {
        found.note(super::FIRMWARE);
    }
    let managers = under("metadata")
        .into_iter()
        .flat_map(|metadata| metadata.children());
    for namespace in managers.filter_map(|node| node.tag_name().namespace()) {
        // virt-install only notes there which system the guest is.
        if !namespace.contains("libosinfo") {
            found.note(format!("another program has notes of its own in the domain's metadata ({namespace}): it may look after this VM"));
        }
    }
}

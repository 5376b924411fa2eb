//! The definition that a domain has, changed to what is wanted of it. Pure.
//!
//! What lbctl does not know stays byte for byte: devices, tuning, comments, metadata of others. So
//! nobody loses by a change of the memory what they added by `virsh edit`. What cannot stay beside
//! the change is named by [`losses`], before anything is done.

mod hardware;
mod interfaces;

use roxmltree::{Document, Node};

use super::{
    AGENT_CHANNEL, DomainSpec, RootDisk, SCSI_CONTROLLER, disk, disk_kind, seed_cdrom,
    source_element,
};
use crate::host::Source;
use crate::host::definition::{self, DiskDevice, Drive};
use crate::host::ownership::{NAMESPACE, Ownership};
use crate::host::xml::{attribute, child};
use crate::secret::Secret;
use crate::text::edit::Edits;
use crate::text::xml::escape;

use hardware::hardware;
use interfaces::{order, sources};

/// The definition that a domain has, and what of it is lbctl's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// As libvirt has it, with the passwords of its devices.
    pub xml: Secret,
    /// Targets of the root disk and of the drive for the seed; `None`: to be added.
    pub root: Option<String>,
    pub drive: Option<String>,
    /// Whether the machine is to be another one.
    pub other_machine: bool,
}

/// What the domain is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub spec: &'a DomainSpec,
    pub ownership: &'a Ownership,
    pub root: &'a RootDisk,
    pub seed: &'a Source,
}

/// Something that somebody added, and that a change takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub what: &'static str,
    pub was: String,
}

/// Changes what lbctl knows, and nothing else.
pub fn edit(existing: &Existing, wanted: Wanted<'_>) -> Result<String, String> {
    let xml = pass(existing.xml.expose(), |domain, edits| {
        record(domain, wanted.ownership, edits);
        hardware(domain, wanted.spec, existing.other_machine, edits);
        upgrade(domain, wanted.spec, edits);
    })?;
    let xml = pass(&xml, |domain, edits| {
        let Some(devices) = child(domain, "devices") else {
            return;
        };
        disks(devices, existing, wanted, edits);
        sources(devices, &wanted.spec.interfaces, edits);
        let mut channels = elements(devices, "channel");
        if !channels.any(definition::is_agent_channel) {
            edits.append(devices, AGENT_CHANNEL);
        }
    })?;
    pass(&xml, |domain, edits| {
        if let Some(devices) = child(domain, "devices") {
            order(devices, &wanted.spec.interfaces, &xml, edits);
        }
    })
}

/// What somebody added and [`edit`] would take away.
#[must_use]
pub fn losses(existing: &Existing, spec: &DomainSpec) -> Vec<Loss> {
    let xml = existing.xml.expose();
    let Ok(document) = Document::parse(xml) else {
        return Vec::new(); // `edit` fails with the reason
    };
    let domain = document.root_element();
    hardware(domain, spec, existing.other_machine, &mut Edits::new(xml))
}

fn pass(xml: &str, edit: impl FnOnce(Node<'_, '_>, &mut Edits<'_>)) -> Result<String, String> {
    let document =
        Document::parse(xml).map_err(|e| format!("the domain's XML cannot be read: {e}"))?;
    let mut edits = Edits::new(xml);
    edit(document.root_element(), &mut edits);
    Ok(edits.finish())
}

fn elements<'a, 'd: 'a>(parent: Node<'a, 'd>, name: &'a str) -> impl Iterator<Item = Node<'a, 'd>> {
    parent.children().filter(move |n| n.has_tag_name(name))
}

fn record(domain: Node<'_, '_>, ownership: &Ownership, edits: &mut Edits<'_>) {
    let xml = ownership.to_xml();
    let Some(metadata) = child(domain, "metadata") else {
        let metadata = format!("<metadata>\n{xml}\n  </metadata>");
        if let Some(name) = child(domain, "name") {
            edits.insert_after(name, &metadata);
        }
        return;
    };
    let mark = metadata
        .children()
        .find(|n| n.has_tag_name((NAMESPACE, "mark")));
    match mark {
        Some(mark) => edits.replace(mark, xml),
        None => edits.append(metadata, &xml),
    }
}

/// What a domain of an earlier layout has not got yet. A device of the kind that is there, of
/// whatever model, is somebody's choice.
fn upgrade(domain: Node<'_, '_>, spec: &DomainSpec, edits: &mut Edits<'_>) {
    let layout = Ownership::find(domain).map(|ownership| ownership.layout);
    let Some(devices) = child(domain, "devices") else {
        return;
    };
    if layout.is_none_or(|layout| layout >= 2) || !spec.is_x86() {
        return;
    }
    for (name, device) in [("watchdog", super::WATCHDOG), ("panic", super::PANIC)] {
        if child(devices, name).is_none() {
            edits.append(devices, device);
        }
    }
}

fn disks(devices: Node<'_, '_>, existing: &Existing, wanted: Wanted<'_>, edits: &mut Edits<'_>) {
    let Existing {
        xml: _,
        root,
        drive,
        other_machine,
    } = existing;
    let taken: Vec<String> = elements(devices, "disk")
        .map(|node| definition::disk(node).target)
        .collect();
    let free = |prefix: &str| {
        let names = ('a'..='z').map(|letter| format!("{prefix}{letter}"));
        names
            .into_iter()
            .find(|name| !taken.contains(name))
            .unwrap_or_default()
    };
    if root.is_none() {
        let target = format!("<target dev=\"{}\" bus=\"virtio\"/>", free("vd"));
        let RootDisk { source, format } = wanted.root;
        edits.append(devices, &disk(source, "disk", format, &target));
    }
    let is_drive = |node: &Node<'_, '_>| {
        let facts = definition::disk(*node);
        facts.device == DiskDevice::Cdrom && Some(&facts.target) == drive.as_ref()
    };
    let serial = match elements(devices, "disk").find(is_drive) {
        // The other machine may have no such bus.
        Some(node) if *other_machine && definition::disk(node).bus == "ide" => {
            edits.remove(node);
            child(node, "serial").and_then(|serial| serial.text())
        }
        Some(node) => return insert_medium(node, wanted.seed, edits),
        None => None,
    };
    let drive = Drive {
        target: free("sd"),
        bus: "scsi".into(),
    };
    let mut cdrom = seed_cdrom(wanted.seed, &drive);
    if let Some(serial) = serial {
        // By it Terraform's provider passes over the drive: without it a VM that was not taken out
        // of the state is destroyed by the next apply.
        let end = format!("<serial>{}</serial></disk>", escape(serial));
        cdrom = cdrom.replace("</disk>", &end);
    }
    edits.append(devices, &cdrom);
    let mut controllers = elements(devices, "controller");
    if !controllers.any(|node| attribute(node, "type") == "scsi") {
        edits.append(devices, SCSI_CONTROLLER);
    }
}

/// Another medium in a drive, which stays as it is otherwise.
fn insert_medium(drive: Node<'_, '_>, medium: &Source, edits: &mut Edits<'_>) {
    let facts = definition::disk(drive);
    let raw = facts.format.as_deref() == Some("raw");
    if facts.source.as_ref() == Some(medium) && raw {
        return;
    }
    let driver = child(drive, "driver");
    if let Some(driver) = driver.filter(|_| !raw) {
        edits.set_attribute(driver, "type", "raw");
    }
    if facts.source.as_ref() == Some(medium) {
        return;
    }
    let (kind, element) = (disk_kind(medium), source_element(medium));
    if attribute(drive, "type") != kind {
        edits.set_attribute(drive, "type", kind);
    }
    match (child(drive, "source"), driver) {
        (Some(source), _) => edits.replace(source, element),
        (None, Some(driver)) => edits.insert_after(driver, &element),
        (None, None) => edits.append(drive, &element),
    }
    if let Some(chain) = child(drive, "backingStore") {
        edits.remove(chain);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{DomainKind, NicSpec};
    use super::*;
    use crate::config::{MacAddr, NetworkRef, NicSource, Switch, VolumeRef};
    use crate::host::NicFacts;
    use crate::host::ownership::{LAYOUT, PartPrints, SeedRecord};

    const MACS: [MacAddr; 2] = [
        MacAddr([0x52, 0x54, 0, 0, 0, 1]),
        MacAddr([0x52, 0x54, 0, 0, 0, 2]),
    ];

    /// As libvirt shows it, with what people add; MARK is lbctl's record.
    const THERE: &str = "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>lb-1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <metadata>
    <b:backup xmlns:b=\"urn:example\"><!-- > --></b:backup>
    MARK
  </metadata>
  <memory unit='KiB'>1048576</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <cpu mode='host-passthrough' check='none'/>
  <devices>
    <sound model='ich9'/>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/data'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='default' volume='lb-1'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/old.iso' startupPolicy='optional'/><target dev='hdd' bus='ide'/><serial>cloudinit</serial><address type='drive' controller='0'/></disk>
    <controller type='ide' index='0'/>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab'/><model type='e1000'/><address type='pci' slot='0x03'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
  </devices>
  <qemu:commandline><qemu:env name='A' value='1'/></qemu:commandline>
</domain>";

    fn ownership(fingerprint: &str) -> Ownership {
        let empty = String::new;
        Ownership {
            layout: LAYOUT,
            seed: SeedRecord {
                volume: VolumeRef {
                    pool: "default".into(),
                    name: "s.iso".into(),
                },
                fingerprint: fingerprint.into(),
                parts: PartPrints {
                    guest: empty(),
                    start: empty(),
                    boot: empty(),
                },
            },
            stale_seeds: Vec::new(),
            disk: None,
            reservations: Vec::new(),
        }
    }

    fn nic(mac: MacAddr, network: &str) -> NicSpec {
        let source = NicSource::Network(NetworkRef::Name(network.into()));
        NicSpec {
            mac,
            source,
            ipv6: false,
        }
    }

    fn spec() -> DomainSpec {
        DomainSpec {
            name: "lb-1".into(),
            kind: DomainKind::Kvm,
            architecture: "x86_64".into(),
            machine: "q35".into(),
            memory_mib: 1024,
            vcpus: 2,
            interfaces: vec![nic(MACS[0], "lab")],
        }
    }

    fn existing(xml: &str) -> Existing {
        Existing {
            xml: Secret::new(xml.replace("MARK", &ownership("old").to_xml())),
            root: Some("vda".into()),
            drive: Some("hdd".into()),
            other_machine: false,
        }
    }

    fn edited(existing: &Existing, spec: &DomainSpec, seed: &str) -> String {
        let root = RootDisk {
            source: Source::File("/lb-1".into()),
            format: "qcow2".into(),
        };
        let wanted = Wanted {
            spec,
            ownership: &ownership("new"),
            root: &root,
            seed: &Source::File(seed.into()),
        };
        edit(existing, wanted).unwrap()
    }

    /// With these pairs replaced it is what was there.
    #[track_caller]
    fn check(
        change: impl Fn(&mut DomainSpec, &mut Existing),
        pairs: &[(&str, &str)],
        lost: &[&str],
    ) {
        let (mut spec, mut existing) = (spec(), existing(THERE));
        change(&mut spec, &mut existing);
        let mut expected = THERE.replace("MARK", &ownership("new").to_xml());
        for (from, to) in pairs {
            assert!(expected.contains(from), "{from} is not in {expected}");
            expected = expected.replace(from, to);
        }
        assert_eq!(edited(&existing, &spec, "/old.iso"), expected);
        let told = losses(&existing, &spec);
        let told: Vec<String> = told
            .iter()
            .map(|l| format!("{}: {}", l.what, l.was))
            .collect();
        assert_eq!(told, lost);
    }

    #[test]
    fn every_byte_stays_but_those_of_the_change() {
        check(|_, _| {}, &[], &[]);
        check(|s, _| s.memory_mib = 512, &[(">1048576<", ">524288<")], &[]);
        check(|s, _| s.vcpus = 4, &[(">2</vcpu>", ">4</vcpu>")], &[]);
        check(
            |s, _| s.kind = DomainKind::Qemu,
            &[
                ("type='kvm'", "type='qemu'"),
                ("host-passthrough", "maximum"),
            ],
            &[],
        );
        check(
            |s, _| s.interfaces = vec![nic(MACS[0], "other")],
            &[("<source network='lab'/>", "<source network=\"other\"/>")],
            &[],
        );
    }

    #[test]
    fn a_macvtap_that_gets_ipv6_says_what_it_listens_to() {
        let network =
            "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab'/>";
        let written = |attribute: &str, ipv6| {
            let direct = format!(
                "<interface type='direct'{attribute}><mac address='52:54:00:00:00:01'/><source dev='eno1' mode='bridge'/>"
            );
            let mut spec = spec();
            let device = "eno1".into();
            spec.interfaces[0] = NicSpec {
                mac: MACS[0],
                source: NicSource::Macvtap { device },
                ipv6,
            };
            edited(
                &existing(&THERE.replace(network, &direct)),
                &spec,
                "/old.iso",
            )
        };
        let yes = " trustGuestRxFilters='yes'";
        assert!(written("", true).contains(yes));
        assert!(!written("", false).contains("trustGuestRxFilters"));
        // What somebody has decided stays.
        assert!(written(" trustGuestRxFilters='no'", true).contains("trustGuestRxFilters='no'"));
        assert!(written(yes, false).contains(yes));
    }

    #[test]
    fn a_port_of_a_bridge_keeps_what_is_not_changed() {
        let bridge = |vlan, switch| NicSpec {
            mac: MACS[0],
            source: NicSource::Bridge {
                bridge: "br0".into(),
                vlan,
                switch,
            },
            ipv6: false,
        };
        let port = |place: &str| {
            let network = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab'/>";
            let mac = "<mac address='52:54:00:00:00:01'/>";
            let rest = "<target dev='lb0'/><mtu size='9000'/>";
            existing(&THERE.replace(
                network,
                &format!("<interface type='bridge'>{mac}{place}{rest}"),
            ))
        };
        let ovs = "<virtualport type='openvswitch'><parameters profileid='p'/></virtualport>";
        let tag = "<vlan><tag id='7'/></vlan>";
        let new_tag = "<vlan>\n        <tag id=\"8\"/>\n      </vlan>";
        let written = |from: &Existing, nic: NicSpec| {
            let mut spec = spec();
            spec.interfaces = vec![nic];
            let xml = edited(from, &spec, "/old.iso");
            let read = definition::Definition::parse(&xml).unwrap();
            let wanted: Vec<_> = spec.interfaces.iter().map(NicFacts::from).collect();
            assert_eq!(read.interfaces, wanted, "{xml}");
            xml
        };
        let from = port(&format!("<source bridge='br1'/>{tag}{ovs}"));
        let xml = written(&from, bridge(Some(7), Switch::OpenVswitch));
        assert!(xml.contains(tag) && xml.contains(ovs), "{xml}");
        let xml = written(&from, bridge(Some(8), Switch::OpenVswitch));
        assert!(
            !xml.contains(tag) && xml.contains(new_tag) && xml.contains(ovs),
            "{xml}"
        );
        let xml = written(&from, bridge(None, Switch::Linux));
        assert!(
            !xml.contains("<vlan") && !xml.contains("<virtualport"),
            "{xml}"
        );
        let xml = written(&from, nic(MACS[0], "lab"));
        assert!(
            !xml.contains("<vlan") && !xml.contains("<virtualport"),
            "{xml}"
        );
        assert!(
            xml.contains("<target dev='lb0'/><mtu size='9000'/>"),
            "{xml}"
        );

        let trunk = "<vlan trunk='yes'><tag id='7'/><tag id='8'/></vlan>";
        let from = port(&format!("<source bridge='br0'/>{trunk}{ovs}"));
        let xml = written(&from, bridge(Some(8), Switch::OpenVswitch));
        assert!(!xml.contains(trunk) && xml.contains(new_tag), "{xml}");
        written(&existing(THERE), bridge(Some(8), Switch::OpenVswitch));
        // A network's own port may have what lbctl does not know.
        let of_network = THERE.replace(
            "<source network='lab'/>",
            &format!("<source network='lab'/>{tag}"),
        );
        let xml = written(&existing(&of_network), nic(MACS[0], "other"));
        assert!(xml.contains(tag), "{xml}");
    }

    #[test]
    fn another_board_gets_its_own_buses() {
        let other = |s: &mut DomainSpec, e: &mut Existing| {
            (s.machine, e.other_machine) = ("q35".into(), true);
        };
        let (mut spec, mut there) = (spec(), existing(THERE));
        other(&mut spec, &mut there);
        let xml = edited(&there, &spec, "/old.iso");
        assert!(
            xml.contains("machine='q35'") && xml.contains("<sound model='ich9'/>"),
            "{xml}"
        );
        assert!(xml.contains("<serial>cloudinit</serial></disk>"), "{xml}");
        for gone in ["ide", "type='pci'", "hdd", "controller='0'"] {
            assert!(!xml.contains(gone), "{gone} is in {xml}");
        }
        let lost = losses(&there, &spec);
        assert_eq!(lost[0].was, "as on pc-i440fx-7.2");
        // Another version of the same board has the same buses.
        spec.machine = "pc-i440fx-8.0".into();
        assert!(losses(&there, &spec).is_empty());
    }

    #[test]
    fn another_medium_and_other_interfaces() {
        let (mut spec, mut there) = (spec(), existing(THERE));
        let xml = edited(&there, &spec, "/new.iso");
        let drive =
            "<source file=\"/new.iso\"/><target dev='hdd' bus='ide'/><serial>cloudinit</serial>";
        assert!(
            xml.contains(drive) && xml.contains("<source file='/data'/>"),
            "{xml}"
        );

        spec.interfaces = vec![nic(MACS[1], "lab"), nic(MACS[0], "lab")];
        let xml = edited(&there, &spec, "/old.iso");
        let at = |text: &str| xml.find(text).unwrap();
        assert!(at("52:54:00:00:00:02") < at("52:54:00:00:00:01"), "{xml}");
        assert!(xml.contains("<model type='e1000'/>"), "{xml}");
        spec.interfaces = Vec::new();
        assert!(!edited(&there, &spec, "/old.iso").contains("<interface"));

        (there.root, there.drive) = (None, None);
        let xml = edited(&there, &spec, "/old.iso");
        for added in [
            "<target dev=\"vdc\" bus=\"virtio\"/>",
            "<target dev=\"sda\" bus=\"scsi\"/>",
            SCSI_CONTROLLER,
        ] {
            assert!(xml.contains(added), "{added} is not in {xml}");
        }
    }

    #[test]
    fn an_earlier_layout_gets_what_it_lacks() {
        let earlier = |devices: &str| {
            let xml = THERE.replace("<sound model='ich9'/>", devices);
            let mut there = existing(&xml);
            let text = there
                .xml
                .expose()
                .replace(&format!("layout=\"{LAYOUT}\""), "layout=\"1\"");
            there.xml = Secret::new(text);
            edited(&there, &spec(), "/old.iso")
        };
        for device in [super::super::WATCHDOG, super::super::PANIC] {
            assert!(earlier("").contains(device));
            assert!(!edited(&existing(THERE), &spec(), "/old.iso").contains(device));
        }
        let own = "<watchdog model='ib700' action='poweroff'/>";
        let xml = earlier(own);
        assert!(
            xml.contains(own) && xml.matches("<watchdog").count() == 1,
            "{xml}"
        );
    }
}

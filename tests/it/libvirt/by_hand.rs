//! What an operator adds to the domain with `virsh edit` is still there after each change that
//! lbctl makes: random additions in random places, before random changes.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::figures::count;
use super::sandbox::Sandbox;

/// Something that somebody adds to a definition.
struct Addition {
    /// A child of `<domain>`, or of its `<devices>`.
    to: &'static str,
    xml: &'static str,
    /// How it is found in what libvirt makes of it.
    seen: &'static [&'static str],
}

const fn device(xml: &'static str, seen: &'static [&'static str]) -> Addition {
    let to = "devices";
    Addition { to, xml, seen }
}

const fn setting(xml: &'static str, seen: &'static [&'static str]) -> Addition {
    let to = "domain";
    Addition { to, xml, seen }
}

const ADDITIONS: &[Addition] = &[
    device("<sound model='ich9'/>", &["<sound model='ich9'>"]),
    device(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='@dir/data'/>\
         <target dev='vdb' bus='virtio'/><serial>data-disk</serial></disk>",
        &[
            "<source file='@dir/data'/>",
            "cache='none'",
            "<serial>data-disk</serial>",
        ],
    ),
    device(
        "<disk type='file' device='cdrom'><source file='@dir/rescue.iso'/><target dev='sdc' bus='scsi'/><readonly/></disk>",
        &[
            "<source file='@dir/rescue.iso'/>",
            "<target dev='sdc' bus='scsi'/>",
        ],
    ),
    device(
        "<hostdev mode='subsystem' type='usb'><source startupPolicy='optional'><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
        &["<vendor id='0x1234'/>", "<product id='0xbeef'/>"],
    ),
    device(
        "<graphics type='vnc' port='-1' autoport='yes' passwd='x9Kw2'><listen type='address' address='127.0.0.1'/></graphics>",
        &["<graphics type='vnc'", "passwd='x9Kw2'"],
    ),
    device(
        "<video><model type='virtio' heads='1'/></video>",
        &["<model type='virtio' heads='1'"],
    ),
    device(
        "<input type='tablet' bus='usb'/>",
        &["<input type='tablet' bus='usb'>"],
    ),
    device(
        "<channel type='unix'><target type='virtio' name='org.example.backup.0'/></channel>",
        &["name='org.example.backup.0'"],
    ),
    device(
        "<vsock model='virtio'><cid auto='yes'/></vsock>",
        &["<vsock model='virtio'>"],
    ),
    device(
        "<filesystem type='mount' accessmode='mapped'><source dir='@dir'/><target dir='share'/></filesystem>",
        &["<source dir='@dir'/>", "<target dir='share'/>"],
    ),
    device(
        "<tpm model='tpm-crb'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        &["<tpm model='tpm-crb'>"],
    ),
    setting(
        "<title>the load balancer: \"main\" &amp; only</title>",
        &["the load balancer:", "&amp; only"],
    ),
    setting(
        "<description>do not touch &lt;ask ops&gt;</description>",
        &["do not touch &lt;ask ops&gt;"],
    ),
    setting(
        "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
        &["<source type='memfd'/>", "<access mode='shared'/>"],
    ),
    setting(
        "<cputune><shares>2048</shares><vcpupin vcpu='0' cpuset='0'/></cputune>",
        &["<shares>2048</shares>", "<vcpupin vcpu='0' cpuset='0'/>"],
    ),
    setting(
        "<blkiotune><weight>700</weight></blkiotune>",
        &["<weight>700</weight>"],
    ),
    setting(
        "<numatune><memory mode='preferred' nodeset='0'/></numatune>",
        &["<memory mode='preferred' nodeset='0'/>"],
    ),
    setting("<iothreads>2</iothreads>", &["<iothreads>2</iothreads>"]),
    setting(
        "<pm><suspend-to-mem enabled='no'/></pm>",
        &["<suspend-to-mem enabled='no'/>"],
    ),
    setting(
        "<sysinfo type='smbios'><system><entry name='serial'>A-77</entry></system></sysinfo>",
        &["<entry name='serial'>A-77</entry>"],
    ),
    setting("<seclabel type='none'/>", &["<seclabel type='none'"]),
    setting(
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:env name='SOME' value='1>0'/></qemu:commandline>",
        &["<qemu:env name='SOME' value='1&gt;0'/>"],
    ),
    setting(
        "<metadata-of-others/>",
        &["urn:example:backup", "<!-- nightly -->", "keep"],
    ),
];

/// Changes by the configuration, and what shows them.
/// Any of them may come together: each has values of its own.
const CHANGES: &[(&str, &str)] = &[
    ("memory = 320", "<memory unit='KiB'>327680</memory>"),
    ("vcpus = 3", ">3</vcpu>"),
    ("libvirt_network.mac = '@mac2'", "<mac address='@mac2'/>"),
    (
        "[[libvirt_networks]]\nnetwork_name = '@net'\nip = '@subnet.77'\nprefix_length = 24\nmac = '52:54:00:99:ff:02'",
        "<mac address='52:54:00:99:ff:02'/>",
    ),
    ("volume.size = '96 MiB'", "<source file='@dir/@vm'/>"),
    ("haproxy.max_connections = 77", "cloud-init"),
    (
        "cloud_init_volume_name = '@other.iso'",
        "<source file='@dir/@other.iso'/>",
    ),
];

impl Addition {
    /// At that place among the children that are there.
    fn add(&self, xml: &str, place: usize) -> String {
        if self.xml == "<metadata-of-others/>" {
            let element = "<metadata>\n    <b:backup xmlns:b=\"urn:example:backup\"><!-- nightly --><b:keep days=\"7\"/></b:backup>";
            return xml.replacen("<metadata>", element, 1);
        }
        let document = roxmltree::Document::parse(xml).unwrap();
        let root = document.root_element();
        let devices = || root.children().find(|n| n.has_tag_name("devices")).unwrap();
        let parent = if self.to == "domain" { root } else { devices() };
        let children: Vec<_> = parent
            .children()
            .filter(roxmltree::Node::is_element)
            .collect();
        let at = children[place % children.len()].range().start;
        format!("{}{}\n    {}", &xml[..at], self.xml, &xml[at..])
    }
}

/// What `virsh edit` would show and write.
fn edit(vm: &Sandbox, additions: &[(usize, usize)]) {
    let mut xml = vm
        .virsh("dumpxml @vm --inactive --security-info")
        .ok()
        .stdout;
    for (which, place) in additions {
        xml = ADDITIONS[*which].add(&xml, *place);
    }
    vm.write("edited.xml", &vm.fill(&xml));
    vm.virsh("define @home/edited.xml").ok();
}

fn is_there(vm: &Sandbox, additions: &[(usize, usize)], after: &str) {
    let xml = vm
        .virsh("dumpxml @vm --inactive --security-info")
        .ok()
        .stdout;
    for seen in additions
        .iter()
        .flat_map(|(which, _)| ADDITIONS[*which].seen)
    {
        let seen = vm.fill(seen);
        assert!(xml.contains(&seen), "{seen} is gone after {after}:\n{xml}");
    }
}

/// The lines of the definition that none of lbctl's changes should touch.
fn rest(vm: &Sandbox) -> Vec<String> {
    let xml = vm
        .virsh("dumpxml @vm --inactive --security-info")
        .ok()
        .stdout;
    let own = [
        "lbctl:",
        "<memory unit",
        "currentMemory",
        "</vcpu>",
        vm.name.as_str(),
        "@other.iso",
    ];
    let is_own = |line: &&str| own.iter().any(|word| line.contains(&vm.fill(word)));
    let lines = xml.lines().filter(|line| !is_own(line));
    lines.map(str::to_owned).collect()
}

#[test]
fn additions_survive_every_change() {
    let additions = prop::sample::subsequence((0..ADDITIONS.len()).collect::<Vec<_>>(), 1..9);
    let places = prop::collection::vec(0..40_usize, ADDITIONS.len());
    let changes = prop::sample::subsequence((0..CHANGES.len()).collect::<Vec<_>>(), 1..4);
    let cases = u32::try_from(count("BY_HAND", 6, 60)).unwrap();
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    });
    let told = runner.run(&(additions, places, changes), |(which, places, changes)| {
        let additions: Vec<_> = which.into_iter().zip(places).collect();
        eprintln!("additions and their places {additions:?}, changes {changes:?}");
        let mut vm = Sandbox::new();
        vm.up();
        vm.virsh("destroy @vm; vol-create-as @pool data 8M; vol-create-as @pool rescue.iso 1M")
            .ok();
        edit(&vm, &additions);
        is_there(&vm, &additions, "the edit itself");
        for change in changes {
            let (toml, shown) = CHANGES[change];
            vm.change(toml);
            // Some of the devices do not exist here, so the guest cannot start; what it would start
            // with is written before.
            eprintln!("{}", vm.lbctl("up --restart later"));
            is_there(&vm, &additions, toml);
            let xml = vm.inactive_xml();
            assert!(xml.contains(&vm.fill(shown)), "{toml} is not in\n{xml}");
        }
        Ok(())
    });
    told.unwrap_or_else(|failed| panic!("{failed}"));
}

/// What limits, isolates or filters a network interface is in the interface itself, which is the
/// configuration's.
#[test]
fn what_is_added_to_an_interface_stays() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("destroy @vm").ok();
    let added = "<bandwidth><inbound average='1000'/></bandwidth><port isolated='yes'/>\
                 <filterref filter='clean-traffic'><parameter name='IP' value='@ip'/></filterref>";
    let model = "<model type='virtio'/>";
    let xml = vm.inactive_xml();
    assert_eq!(xml.matches(model).count(), 1, "{xml}");
    vm.write(
        "edited.xml",
        &vm.fill(&xml.replace(model, &format!("{model}{added}"))),
    );
    vm.virsh("define @home/edited.xml").ok();
    for change in [
        "memory = 320",
        "admin_user_password = 'another battery staple'",
        "libvirt_network.ip = '@ip2'",
    ] {
        vm.change(change);
        // The lab has no such filter, so the guest cannot start.
        eprintln!("{}", vm.lbctl("up --restart later"));
        let xml = vm.inactive_xml();
        for seen in [
            "<inbound average='1000'/>",
            "<port isolated='yes'/>",
            "<filterref filter='clean-traffic'>",
            "<parameter name='IP' value='@ip'/>",
        ] {
            assert!(xml.contains(&vm.fill(seen)), "{change}: {seen} in\n{xml}");
        }
    }
}

/// An edit that undoes what lbctl set is drift; it is corrected, and the addition beside it stays.
#[test]
fn an_edit_of_our_own_values_is_corrected_beside_additions() {
    let vm = Sandbox::new();
    vm.up();
    vm.virsh("destroy @vm; vol-create-as @pool data 8M").ok();
    let additions: Vec<_> = [0, 1, 6, 7, 13, 14, 21, 22].map(|which| (which, 3)).into();
    edit(&vm, &additions);
    vm.up();
    vm.lbctl("plan --exit-code").ok();
    let before = rest(&vm);
    for by_hand in [
        "setmaxmem @vm 512M --config; setmem @vm 512M --config",
        "setvcpus @vm 3 --config --maximum; setvcpus @vm 3 --config",
        "change-media @vm sda --eject --config",
        "metadata @vm urn:lbctl:mark:1 --config --remove",
    ] {
        vm.virsh(by_hand).ok();
        vm.lbctl("plan --exit-code").ended(3);
        vm.up();
        vm.lbctl("plan --exit-code").ok();
        is_there(&vm, &additions, by_hand);
        assert_eq!(rest(&vm), before, "after {by_hand}");
    }
}

/// What cannot stay beside a change is named before it happens.
#[test]
fn what_a_change_cannot_keep_is_named_in_the_plan() {
    let mut vm = Sandbox::new();
    vm.change("vcpus = 4");
    vm.up();
    vm.virsh("destroy @vm").ok();
    let xml = vm.inactive_xml();
    let cpu = "<cpu mode='maximum'><topology sockets='1' dies='1' cores='2' threads='2'/>\
               <numa><cell id='0' cpus='0-1' memory='128' unit='MiB'/><cell id='1' cpus='2-3' memory='128' unit='MiB'/></numa></cpu>\
               <cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='3' cpuset='1'/></cputune>";
    let (start, end) = (xml.find("<cpu mode").unwrap(), xml.find("<clock").unwrap());
    vm.write(
        "edited.xml",
        &format!("{}{cpu}{}", &xml[..start], &xml[end..]),
    );
    vm.virsh("define @home/edited.xml").ok();

    // The memory is the sum of the cells: each keeps its share.
    vm.change("memory = 512");
    vm.lbctl("up").ok().does_not_say(&["as edited"]);
    vm.lbctl("plan --exit-code").ok();
    let xml = vm.inactive_xml();
    assert_eq!(xml.matches("memory='262144'").count(), 2, "{xml}");

    vm.change("vcpus = 2");
    let lost = [
        "CPU topology, as edited: 1 sockets, 1 dies, 2 cores, 2 threads -> removed",
        "NUMA cells, as edited: cpus 0-1 and 2-3 -> removed",
        "CPU pinning, as edited: vcpu 3 on 1 -> removed",
    ];
    vm.lbctl("plan --exit-code")
        .ended(3)
        .says(&lost)
        .says(&["vcpus: 4 -> 2"]);
    vm.lbctl("up --restart now --stop-timeout=1s")
        .ok()
        .says(&lost);
    vm.lbctl("plan --exit-code").ok();
    let xml = vm.inactive_xml();
    assert!(xml.contains("<vcpupin vcpu='0' cpuset='0'/>"), "{xml}");
}

/// The room for CPUs that an operator left stays.
#[test]
fn a_limit_of_vcpus_above_those_that_are_on_stays() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("setvcpus @vm 4 --config --maximum; setvcpus @vm 1 --config")
        .ok();
    vm.lbctl("plan --exit-code").ok();
    vm.change("vcpus = 2");
    vm.lbctl("up --restart later").ok();
    let xml = vm.inactive_xml();
    assert!(xml.contains("current='2'>4</vcpu>"), "{xml}");
}

/// A domain on another board than lbctl would choose, with a drive on IDE and its disk by pool and
/// volume, as Terraform's provider makes it.
#[test]
fn a_domain_of_another_shape_is_changed_as_it_is() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("destroy @vm").ok();
    let record = vm
        .virsh("metadata @vm urn:lbctl:mark:1 --config")
        .ok()
        .stdout;
    let record = record.replace("<mark ", "<mark xmlns='urn:lbctl:mark:1' ");
    let uuid = vm.virsh("domuuid @vm").ok().stdout;
    let xml = format!(
        "<domain type='qemu'><name>@vm</name><uuid>{}</uuid><metadata>{record}</metadata>
         <memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type>hvm</type></os><features><pae/><acpi/><apic/></features><devices>
         <disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='@pool' volume='@vm'/><target dev='vda' bus='virtio'/></disk>
         <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='@dir/@seed'/><target dev='hdd' bus='ide'/><serial>cloudinit</serial></disk>
         <interface type='network'><mac address='@mac'/><source network='@net'/><model type='virtio'/></interface>
         <console><target type='serial' port='0'/></console><console><target type='virtio' port='1'/></console>
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>",
        uuid.trim()
    );
    vm.write("domain.xml", &vm.fill(&xml));
    vm.virsh("define @home/domain.xml").ok();
    vm.up();
    vm.lbctl("plan --exit-code").ok();
    // While it runs: another seed, in the drive that it has.
    vm.change("memory = 320\nhaproxy.max_connections = 77");
    vm.lbctl("up --restart later").ok();
    vm.lbctl("renew --force").ended(4);
    vm.lbctl("up --restart now --stop-timeout=1s").ok();
    vm.lbctl("plan --exit-code").ok();
    for xml in [vm.inactive_xml(), vm.live_xml()] {
        for kept in [
            "machine='pc-i440fx",
            "<pae/>",
            "<target dev='hdd' bus='ide'/>",
            "<serial>cloudinit</serial>",
            "<source pool='@pool' volume='@vm'",
            "@seed2",
            ">327680</memory>",
        ] {
            assert!(xml.contains(&vm.fill(kept)), "{kept} is not in\n{xml}");
        }
    }
    // The medium is changed in the drive that is there while the guest runs, too.
    vm.virsh("change-media @vm hdd --eject --live").ok();
    vm.up().says(&["seed: not in the drive"]);
    assert!(
        vm.live_xml()
            .contains(&vm.fill("<source file='@dir/@seed2'"))
    );
    vm.lbctl("plan --exit-code").ok();
}

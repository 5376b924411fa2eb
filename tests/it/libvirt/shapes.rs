//! The shapes that a configuration can ask for: network interfaces, disks, and how a volume is
//! named.

use super::sandbox::Sandbox;
use crate::support::run;

#[test]
fn a_macvtap_interface_in_bridge_mode() {
    let mut vm = Sandbox::new();
    vm.leave_out("libvirt_network");
    vm.change(
        "[[macvtap_interfaces]]\ninterface = '@macvtap'\nip = '10.77.0.20'\nprefix_length = 24\ngateway = '10.77.0.1'\nmac = '@mac'",
    );
    let before = vm.snapshot();
    vm.up()
        .says(&["@vm: running, address 10.77.0.20"])
        .does_not_say(&["reserve"]);
    for xml in [vm.live_xml(), vm.inactive_xml()] {
        for text in [
            "<interface type='direct'>",
            "dev='@macvtap' mode='bridge'",
            "<mac address='@mac'/>",
        ] {
            assert!(xml.contains(&vm.fill(text)), "{text} in\n{xml}");
        }
    }
    let links = run(
        "ip",
        [
            "-n",
            &vm.lab["LAB_NETNS"],
            "-d",
            "-br",
            "link",
            "show",
            "type",
            "macvtap",
        ],
    )
    .ok();
    assert!(links.stdout.contains(&vm.fill("@mac")), "{links}");
    vm.up().says(&["nothing to do"]);
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_port_of_a_bridge() {
    let mut vm = Sandbox::new();
    vm.leave_out("libvirt_network");
    vm.change(
        "[[bridge_interfaces]]\nbridge = '@bridge'\naddresses = ['@ip/24', '2001:db8::20/64']\nmac = '@mac'",
    );
    let before = vm.snapshot();
    vm.up().says(&["@vm: running, address @ip"]);
    for xml in [vm.live_xml(), vm.inactive_xml()] {
        for text in ["<interface type='bridge'>", "<source bridge='@bridge'/>"] {
            assert!(xml.contains(&vm.fill(text)), "{text} in\n{xml}");
        }
        assert!(!xml.contains("<virtualport"), "{xml}");
    }
    let ports = run(
        "ip",
        [
            "-n",
            &vm.lab["LAB_NETNS"],
            "-br",
            "link",
            "show",
            "master",
            &vm.fill("@bridge"),
        ],
    )
    .ok();
    let tap = vm.fill("@mac").replacen("52:54", "fe:54", 1);
    assert!(ports.stdout.contains(&tap), "{ports}");
    vm.up().says(&["nothing to do"]);
    // By DHCP instead: the guest, which is none here, would tell the address.
    vm.change("[[bridge_interfaces]]\nbridge = '@bridge'\ndhcp = true\nmac = '@mac'");
    vm.lbctl("up --restart=now --stop-timeout=1s")
        .ok()
        .says(&["@vm: running, its address comes from a DHCP server: `lbctl status` shows it"]);
    vm.lbctl("status")
        .says(&["from a DHCP server, and the guest does not say which (bridge @bridge)"]);
    // libvirt before 11.0 has no VLAN for it, which is known before the guest is stopped, or said
    // by libvirt where it does not say what the bridge is; then the guest runs as before.
    vm.change("[[bridge_interfaces]]\nbridge = '@bridge'\nvlan = 42\ndhcp = true\nmac = '@mac'");
    let ran = vm.lbctl("up --restart=now --stop-timeout=1s");
    assert_ne!(ran.code, 0, "{ran}");
    assert!(vm.live_xml().contains("<interface type='bridge'>"));
    vm.change("[[bridge_interfaces]]\nbridge = '@bridge'\ndhcp = true\nmac = '@mac'");
    vm.lbctl("up --restart=now --stop-timeout=1s").ok();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

/// What libvirt calls an interface and no bridge is taken for one of Open vSwitch. The lab's
/// libvirtd has a stand-in for its program.
#[test]
fn a_port_of_open_vswitch() {
    let mut vm = Sandbox::new();
    vm.leave_out("libvirt_network");
    let ip = |vm: &Sandbox, words: &str| {
        let words = vm.fill(&format!("-n @netns {words}").replace("@netns", &vm.lab["LAB_NETNS"]));
        run("ip", words.split_whitespace()).ok();
    };
    ip(&vm, "link add @bridge-x type veth peer name @bridge-y");
    let port = |tag: u16| {
        format!(
            "[[bridge_interfaces]]\nbridge = '@bridge-x'\nvlan = {tag}\naddresses = ['192.0.2.20/24']\nmac = '@mac'"
        )
    };
    let before = vm.snapshot();
    vm.change(&port(42));
    vm.lbctl("check --host")
        .ok()
        .says(&["there, not of the kernel: taken for Open vSwitch"]);
    vm.up().says(&["@vm: running, address 192.0.2.20"]);
    let has = |vm: &Sandbox, xml: &str, tag: u16| {
        for text in [
            "<source bridge='@bridge-x'/>".to_owned(),
            "<virtualport type='openvswitch'>".to_owned(),
            format!("<tag id='{tag}'/>"),
        ] {
            assert!(xml.contains(&vm.fill(&text)), "{text} in\n{xml}");
        }
    };
    for xml in [vm.live_xml(), vm.inactive_xml()] {
        has(&vm, &xml, 42);
    }
    vm.up().says(&["nothing to do"]);
    vm.change(&port(43));
    vm.lbctl("plan").ok().says(&["interfaces: "]);
    vm.lbctl("up --restart=now --stop-timeout=1s").ok();
    has(&vm, &vm.live_xml(), 43);
    vm.up().says(&["nothing to do"]);
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
    ip(&vm, "link del @bridge-x");
}

#[test]
fn several_interfaces_in_the_order_of_the_configuration() {
    let mut vm = Sandbox::new();
    vm.write(
        "net2.xml",
        &vm.network_xml("@net2", "@bridge-b", "@subnet2"),
    );
    vm.virsh("net-define @home/net2.xml; net-start @net2").ok();
    let before = vm.snapshot();
    vm.change(
        "[[libvirt_networks]]\nnetwork_name = '@net2'\nip = '@subnet2.20'\nprefix_length = 24\nmac = '@mac2'\n
         [[macvtap_interfaces]]\ninterface = '@macvtap'\nip = '10.77.0.21'\nprefix_length = 24",
    );
    vm.up().says(&["running, address @ip"]);
    let xml = vm.inactive_xml();
    let at = |text: &str| {
        xml.find(&vm.fill(text))
            .unwrap_or_else(|| panic!("{text} in\n{xml}"))
    };
    assert!(at("network='@net'/>") < at("network='@net2'/>"));
    assert!(at("network='@net2'/>") < at("dev='@macvtap'"));
    // The static address is the guest's business: nothing is reserved for it.
    vm.virsh("net-dumpxml @net2").ok().does_not_say(&["<host"]);
    vm.up().says(&["nothing to do"]);
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_network_by_its_uuid() {
    let mut vm = Sandbox::new();
    let uuid = vm.virsh("net-uuid @net").ok().stdout;
    for uuid in [uuid.trim().to_owned(), uuid.trim().to_uppercase()] {
        vm.start_over();
        vm.leave_out("libvirt_network");
        vm.change(&format!(
            "libvirt_network = {{ network_id = '{uuid}', ip = '@ip', mac = '@mac' }}"
        ));
        vm.up();
        assert!(
            vm.inactive_xml()
                .contains(&vm.fill("<source network='@net'/>"))
        );
        vm.up().says(&["nothing to do"]);
    }
}

#[test]
fn a_mac_address_that_is_not_given_is_derived_and_stays() {
    let mut vm = Sandbox::new();
    vm.leave_out_of("libvirt_network", "mac");
    vm.up();
    let mac = |vm: &Sandbox| {
        let xml = vm.inactive_xml();
        xml.split("<mac address='").nth(1).unwrap()[..17].to_owned()
    };
    let derived = mac(&vm);
    assert!(derived.starts_with("52:54:00:"), "{derived}");
    vm.down();
    vm.lbctl("up --reuse-disk").ok();
    assert_eq!(mac(&vm), derived);
    vm.up().says(&["nothing to do"]);
}

#[test]
fn a_volume_by_key_by_path_and_by_pool_and_name() {
    let mut vm = Sandbox::new();
    vm.virsh("vol-create-as @pool data 64M --format qcow2").ok();
    let key = vm.virsh("vol-key data --pool @pool").ok().stdout;
    for id in ["@pool/data", "@dir/data", key.trim()] {
        vm.start_over();
        vm.leave_out("volume");
        vm.change(&format!("volume_id = '{id}'"));
        vm.up();
        let xml = vm.inactive_xml();
        let disk = vm.fill("<source file='@dir/data'/>");
        assert!(
            xml.contains("<driver name='qemu' type='qcow2'/>") && xml.contains(&disk),
            "{xml}"
        );
        vm.up().says(&["nothing to do"]);
    }
}

#[test]
fn a_clone_refers_to_its_base_and_has_the_size_asked_for() {
    let mut vm = Sandbox::new();
    vm.change("volume.size = '96 MiB'");
    vm.up();
    let info = run(
        "qemu-img",
        ["info", "-U", "--output=json", &vm.fill("@dir/@vm")],
    )
    .ok()
    .json();
    assert_eq!(info["format"], "qcow2");
    assert_eq!(info["virtual-size"], 96 * 1024 * 1024);
    let base = format!("{}/pools/os/{}", vm.lab["LAB_STATE"], vm.lab["BASE_VOLUME"]);
    assert_eq!(info["backing-filename"], base.as_str());
    assert_eq!(info["backing-filename-format"], "qcow2");
    vm.up().says(&["nothing to do"]);
}

#[test]
fn a_raw_disk_is_a_whole_copy() {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    vm.change("volume.size = '96 MiB'\nvolume.format = 'raw'");
    vm.up();
    let info = run(
        "qemu-img",
        ["info", "-U", "--output=json", &vm.fill("@dir/@vm")],
    )
    .ok()
    .json();
    assert_eq!(info["format"], "raw");
    assert_eq!(info["virtual-size"], 96 * 1024 * 1024);
    assert!(
        vm.inactive_xml()
            .contains("<driver name='qemu' type='raw'/>")
    );
    vm.up().says(&["nothing to do"]);
    vm.down();
    vm.lbctl("up")
        .ended(4)
        .says(&["volume @pool/@vm already exists, a raw disk of 96 MiB"]);
    vm.lbctl("up --reuse-disk").ok();
    vm.down();
    vm.virsh("vol-delete @vm --pool @pool").ok();
    before.assert_same(&vm.snapshot());
}

/// A size that is not a whole number of sectors is rounded up by qcow2, and that is not a
/// difference.
#[test]
fn a_size_that_is_not_a_whole_number_of_sectors() {
    let mut vm = Sandbox::new();
    vm.change("volume.size = 100000001");
    vm.up();
    vm.up().says(&["nothing to do"]);
}

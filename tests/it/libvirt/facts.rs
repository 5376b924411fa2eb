//! What lbctl compares with the host is what libvirt itself says: for every kind of network and
//! every machine the plan after `up` is empty, and what libvirt can say before the first step is
//! said before it, by `plan` and by `check --host`.

use std::fs;

use super::sandbox::Sandbox;
use crate::support::run;

const NOW: &str = "up --restart now --stop-timeout=1s";

/// Runs `ip` where the lab's libvirtd is; the words are filled.
fn ip(vm: &Sandbox, command: &str) {
    let words = vm.fill(command);
    let inside = ["netns", "exec", &vm.lab["LAB_NETNS"], "ip"].map(str::to_owned);
    let words = words.split_whitespace().map(str::to_owned);
    run("ip", inside.into_iter().chain(words)).ok();
}

/// A second card in network `@net2`, with a static address.
pub(super) fn with_second_network(vm: &mut Sandbox, network: &str) {
    vm.write(
        "second.xml",
        &vm.fill(&format!("<network><name>@net2</name>{network}</network>")),
    );
    vm.virsh("net-define @home/second.xml; net-start @net2")
        .ok();
    vm.change(SECOND);
}

pub(super) const SECOND: &str = "[[libvirt_networks]]\nnetwork_name = '@net2'\nip = '@subnet2.20'\nprefix_length = 24\nmac = '@mac2'";

#[test]
fn an_interface_is_in_the_network_that_its_source_names() {
    const BRIDGE: &str = "link add @bridge-x type bridge";
    const DEVICE: &str = "link add @bridge-x type veth peer name @bridge-y";
    for (network, device) in [
        (
            "<forward mode='bridge'/><bridge name='@bridge-x'/>",
            Some(BRIDGE),
        ),
        // The lab's libvirtd has a stand-in for Open vSwitch.
        (
            "<forward mode='bridge'/><bridge name='@bridge-x'/><virtualport type='openvswitch'/>",
            Some(BRIDGE),
        ),
        (
            "<forward mode='bridge'/><bridge name='@bridge-x'/><virtualport type='openvswitch'/>\
             <portgroup name='db' default='yes'><vlan><tag id='42'/></vlan></portgroup>",
            Some(BRIDGE),
        ),
        (
            "<forward mode='bridge'><interface dev='@macvtap'/></forward>",
            None,
        ),
        (
            "<forward mode='private'><interface dev='@macvtap'/></forward>",
            None,
        ),
        (
            "<forward mode='vepa'><interface dev='@macvtap'/></forward>",
            None,
        ),
        (
            "<forward mode='passthrough'><interface dev='@bridge-x'/></forward>",
            Some(DEVICE),
        ),
        (
            "<forward mode='route'/><bridge name='@bridge-x'/><ip address='@subnet2.1' prefix='24'/>",
            None,
        ),
        (
            "<bridge name='@bridge-x'/><ip address='@subnet2.1' prefix='24'/>",
            None,
        ),
    ] {
        eprintln!("--- {network}");
        let mut vm = Sandbox::new();
        if let Some(device) = device {
            ip(&vm, device);
        }
        with_second_network(&mut vm, network);
        vm.up();
        vm.lbctl("plan --exit-code").ok().says(&["nothing to do"]);
        vm.change("memory = 300");
        vm.lbctl(NOW).ok();
        vm.lbctl("plan --exit-code").ok();
        vm.down();
        if device.is_some() {
            ip(&vm, "link del @bridge-x");
        }
    }
}

/// The machines of the host, each with the name that it is an alias of.
fn machines(vm: &Sandbox) -> Vec<(String, Option<String>)> {
    let xml = vm.virsh("capabilities").ok().stdout;
    let start = xml.find("<arch name='x86_64'>").expect("x86_64 guests");
    let arch = &xml[start..];
    let arch = &arch[..arch.find("</arch>").unwrap()];
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for line in arch.lines().filter(|l| l.trim().starts_with("<machine")) {
        let name = line.split(['>', '<']).nth(2).unwrap().to_owned();
        let canonical = line.split("canonical='").nth(1);
        let canonical = canonical.map(|rest| rest.split('\'').next().unwrap().to_owned());
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, canonical));
        }
    }
    found
}

#[test]
fn the_plan_after_up_is_empty_for_every_machine() {
    let mut vm = Sandbox::new();
    let bare = vm.snapshot();
    let machines = machines(&vm);
    let mut wanted: Vec<Option<String>> = vec![None];
    for (name, canonical) in &machines {
        if canonical.is_some() {
            wanted.extend([Some(name.clone()), canonical.clone()]);
        }
    }
    // And the oldest of each family.
    for family in ["pc-q35-", "pc-i440fx-"] {
        let mut of: Vec<&String> = machines.iter().map(|(name, _)| name).collect();
        of.retain(|name| name.starts_with(family));
        of.sort();
        wanted.extend(of.first().map(|name| Some((*name).clone())));
    }
    let mut carried = 0;
    for machine in wanted {
        eprintln!("--- {machine:?}");
        vm.start_over();
        if let Some(machine) = &machine {
            vm.change(&format!("libvirt.machine = '{machine}'"));
        }
        let first = vm.lbctl("up");
        if first.code == 0 {
            carried += 1;
            vm.lbctl("plan --exit-code").ok().says(&["nothing to do"]);
            // Another change keeps the machine.
            let has = vm.inactive_xml();
            vm.change("memory = 300");
            vm.lbctl(NOW).ok();
            let machine_of = |xml: &str| {
                let rest = xml.split("machine='").nth(1).unwrap();
                rest.split('\'').next().unwrap().to_owned()
            };
            assert_eq!(machine_of(&vm.inactive_xml()), machine_of(&has));
            vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
                .ok();
        } else {
            first
                .ended(1)
                .says(&["libvirt does not accept this domain"]);
        }
        bare.assert_same(&vm.snapshot());
    }
    assert!(carried >= 5, "{carried} machines");
}

#[test]
fn what_libvirt_would_refuse_is_said_before_the_first_step() {
    let mut vm = Sandbox::new();
    let bare = vm.snapshot();
    // QEMU 7.2 has 288 at most, and 256 need more than lbctl gives. QEMU 10 has more than a
    // configuration may ask for, and libvirt 11.3 adds what they need.
    let able = vm
        .virsh("domcapabilities --virttype qemu --machine q35")
        .ok();
    let mut cases = Vec::new();
    if able.stdout.contains("<vcpu max='288'/>") {
        cases.extend([
            (
                "vcpus = 300",
                "greater than specified machine type limit 288",
            ),
            (
                "vcpus = 256",
                "more than 255 vCPUs require extended interrupt mode",
            ),
        ]);
    }
    cases.extend([
        (
            "libvirt.machine = 'nonsense'",
            "the host has no machine nonsense for qemu guests of x86_64",
        ),
        (
            "libvirt.machine = 'virt'",
            "the host has no machine virt for qemu guests of x86_64",
        ),
        (
            "libvirt.machine = 'microvm'",
            "libvirt does not accept this domain: XML error: No PCI buses available",
        ),
        (
            "memory = 16000000",
            "memory is 16000000 MiB, and the host has",
        ),
        (
            "libvirt_network = { ip = '@subnet.255' }",
            "address @subnet.255 is the broadcast address of @subnet.0/24",
        ),
        (
            "libvirt_network = { ip = '@subnet.0' }",
            "address @subnet.0 is the network address of @subnet.0/24",
        ),
        (
            "libvirt_network = { network_name = 't' }",
            "networks here: ",
        ),
        (
            "volume = { pool = '@poolx' }",
            "did you mean `@pool`? storage pools here: ",
        ),
        (
            "volume = { base_volume_name = 'debian-13' }",
            "did you mean `@base`? volumes here: ",
        ),
    ]);
    for (change, says) in cases {
        eprintln!("--- {change}");
        vm.start_over();
        vm.change(change);
        vm.lbctl("check --host").ended(1).says(&[says]);
        vm.lbctl("plan").ended(1).says(&[says]);
        vm.lbctl("up").ended(1).says(&[says]);
        bare.assert_same(&vm.snapshot());
    }
}

#[test]
fn static_addresses_and_macs_are_held_against_what_the_network_says() {
    let mut vm = Sandbox::new();
    vm.virsh("net-update @net add ip-dhcp-host \"<host mac='52:54:00:aa:bb:cc' name='other' ip='@subnet.77'/>\" --live --config")
        .ok();
    let bare = vm.snapshot();
    let bridge = vm.virsh("net-dumpxml @net").ok().stdout;
    let bridge = bridge.split("<mac address='").nth(1).unwrap()[..17].to_owned();
    let card = |ip: &str| {
        format!(
            "[[libvirt_networks]]\nnetwork_name = '@net'\nip = '{ip}'\nprefix_length = 24\nmac = '@mac2'"
        )
    };
    for (change, exit, says) in [
        (
            card("@subnet.1"),
            1,
            "address @subnet.1 belongs to the host in network @net",
        ),
        (
            card("@subnet.77"),
            4,
            "address @subnet.77 is reserved in network @net for other",
        ),
        (
            format!("libvirt_network = {{ mac = '{bridge}' }}"),
            1,
            "is that of the bridge of network @net",
        ),
    ] {
        eprintln!("--- {change}");
        vm.start_over();
        vm.change(&change);
        vm.lbctl("check --host").ended(exit).says(&[says]);
        vm.lbctl("up").ended(exit).says(&[says]);
        bare.assert_same(&vm.snapshot());
    }
    // What the network has given to another machine.
    let leases = format!(
        "{}/libvirt/var/lib/libvirt/dnsmasq/{}.status",
        vm.lab["LAB_STATE"],
        vm.fill("@bridge")
    );
    let lease = r#"[{"ip-address": "@subnet.60", "mac-address": "52:54:00:aa:bb:cc", "hostname": "laptop", "expiry-time": 4102444800}]"#;
    fs::write(&leases, vm.fill(lease)).unwrap();
    vm.start_over();
    vm.change(&card("@subnet.60"));
    let says =
        ["address @subnet.60 is in use in network @net: leased to 52:54:00:aa:bb:cc (laptop)"];
    vm.lbctl("check --host").ended(4).says(&says);
    vm.lbctl("up").ended(4).says(&says);
    fs::remove_file(leases).unwrap();
    let alone = card("@subnet.61");
    let other_prefix = alone.replace("prefix_length = 24", "prefix_length = 16");
    for (change, says) in [
        (
            card("@subnet.150"),
            "static address @subnet.150 is in a DHCP range of network @net",
        ),
        (
            card("198.51.100.5"),
            "static address 198.51.100.5 is outside of network @net",
        ),
        (
            other_prefix,
            "static address @subnet.61 has prefix_length 16, and network @net is a /24",
        ),
        (
            format!("{alone}\ngateway = '@subnet.9'"),
            "the gateway @subnet.9 of static address @subnet.61 is not the host's own address in network @net (@subnet.1)",
        ),
    ] {
        eprintln!("--- {change}");
        vm.start_over();
        vm.change(&change);
        let list = vm.lbctl("check --host");
        list.says(&[says, "warning"]);
        vm.lbctl("plan").ok().says(&[says]);
    }
}

#[test]
fn a_device_that_carries_no_macvtap_is_named() {
    let mut vm = Sandbox::new();
    ip(&vm, "link add @bridge-a type veth peer name @bridge-b");
    ip(&vm, "link add @bridge-x type bridge");
    vm.change("[[macvtap_interfaces]]\ninterface = '@bridge-a'\nip = '192.0.2.20'\nprefix_length = 24\nmac = '@mac2'");
    vm.lbctl("check --host")
        .says(&["network device @bridge-a is down"]);
    ip(&vm, "link set @bridge-a master @bridge-x");
    let before = vm.snapshot();
    let says = ["network device @bridge-a is a port of bridge @bridge-x"];
    vm.lbctl("check --host").ended(1).says(&says);
    vm.lbctl("up").ended(1).says(&says);
    before.assert_same(&vm.snapshot());
    ip(&vm, "link del @bridge-a");
    vm.lbctl("up").ended(1).says(&[
        "the host has no network device @bridge-a",
        "interfaces here: ",
    ]);
    ip(&vm, "link del @bridge-x");
}

#[test]
fn a_guest_whose_network_was_restarted_is_seen_and_mended() {
    let vm = Sandbox::new();
    vm.up();
    vm.virsh("net-destroy @net; net-start @net").ok();
    let says = ["link of @mac: not connected to network @net -> connected (restart)"];
    vm.lbctl("plan")
        .ok()
        .says(&says)
        .says(&["network @net was restarted under the guest"]);
    vm.lbctl("status").ended(1).says(&says);
    vm.lbctl("up").ended(4).says(&says);
    vm.lbctl(NOW).ok();
    vm.lbctl("plan --exit-code").ok();

    vm.virsh("domif-setlink @vm @mac down").ok();
    vm.lbctl("plan").ok().says(&[
        "link of @mac: down -> up (restart)",
        "`virsh domif-setlink @vm @mac up` sets it up without a restart",
    ]);
    vm.lbctl("status")
        .ended(1)
        .says(&["link of @mac: down -> up"]);
    vm.virsh("domif-setlink @vm @mac up").ok();
    vm.lbctl("plan --exit-code").ok();
    vm.virsh("domif-setlink @vm @mac down").ok();
    vm.lbctl(NOW).ok();
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_disk_is_the_same_in_whatever_form_it_is_named() {
    let vm = Sandbox::new();
    vm.up();
    let xml = vm.inactive_xml();
    let (file, volume) = (
        vm.fill("<source file='@dir/@vm'/>"),
        vm.fill("<source pool='@pool' volume='@vm'/>"),
    );
    assert!(xml.contains(&file), "{xml}");
    let disk = xml.find("<disk type='file' device='disk'>").unwrap();
    let other = format!(
        "{}{}",
        &xml[..disk],
        xml[disk..]
            .replacen("type='file'", "type='volume'", 1)
            .replacen(&file, &volume, 1)
    );
    vm.write("other.xml", &other);
    vm.virsh("destroy @vm; define @home/other.xml; start @vm")
        .ok();
    vm.lbctl("plan").ok().does_not_say(&["replace"]);
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_restart_that_is_to_wait_is_pending_and_no_drift() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.change("memory = 300");
    vm.lbctl("up --restart later")
        .ok()
        .says(&["saved for the next start of the guest: memory"]);
    let before = vm.snapshot();
    for command in ["up --restart later", "up"] {
        vm.lbctl(command)
            .ok()
            .says(&["@vm: up to date; restart pending: memory"])
            .does_not_say(&["written", "saved for"]);
    }
    vm.lbctl("status").ended(1).says(&["pending      restart"]);
    assert_eq!(
        vm.lbctl("--json status").ended(1).document()["restart_pending"],
        true
    );
    before.assert_same(&vm.snapshot());
    vm.lbctl(NOW).ok();
    vm.lbctl("plan --exit-code").ok();

    // What needs no restart waits with what does, and is named.
    vm.virsh("net-update @net delete ip-dhcp-host \"<host ip='@ip'/>\" --live --config")
        .ok();
    vm.change("memory = 320");
    vm.lbctl("up").ended(4).says(&[
        "this change needs a restart of the guest, and nothing was changed",
        "what needs no restart waits, too: reservation; `lbctl up --restart later` does that now",
    ]);
}

#[test]
fn a_file_that_the_pool_has_not_seen_is_named_before_anything_is_made() {
    let mut vm = Sandbox::new();
    let bare = vm.snapshot();
    let put = || fs::write(vm.pool_dir.join(&vm.name), vec![0; 1 << 20]).unwrap();
    put();
    // Nobody's. The upload of the seed makes libvirt read the pool again, and if it has done so by
    // then, it is a volume, and what was made before it is taken back; or else libvirt's own error.
    let ran = vm.lbctl("up").says(&["already exists"]);
    let ran = ran.does_not_say(&["another lbctl", "nothing was changed"]);
    if ran.code == 4 {
        ran.says(&["or its file was in the pool's folder before libvirt read the pool again"]);
    } else {
        ran.ended(1)
            .says(&["2 steps were done before it", "virsh pool-refresh @pool"]);
        vm.down();
    }
    vm.virsh("pool-refresh @pool").ok();
    assert_eq!(vm.volumes(), [vm.name.as_str()]);
    vm.lbctl("up").ended(4).says(&["already exists"]);
    fs::remove_file(vm.pool_dir.join(&vm.name)).unwrap();
    vm.virsh("pool-refresh @pool").ok();
    bare.assert_same(&vm.snapshot());
    put();
    vm.write(
        "other.xml",
        &vm.fill(
            "<domain type='qemu'><name>@other</name><memory unit='MiB'>64</memory>
             <os><type arch='x86_64' machine='q35'>hvm</type></os>
             <devices><disk type='file'><source file='@dir/@vm'/><target dev='vda'/></disk></devices></domain>",
        ),
    );
    vm.virsh("define @home/other.xml").ok();
    let before = vm.snapshot();
    let says =
        ["volume @pool/@vm is a disk of domain @other, although pool @pool does not list it"];
    vm.lbctl("check --host").ended(4).says(&says);
    vm.lbctl("up").ended(4).says(&says);
    before.assert_same(&vm.snapshot());
    vm.change("vcpus = 1");
}

#[test]
fn a_base_that_the_disk_needs_is_not_called_superfluous() {
    let mut vm = Sandbox::new();
    vm.virsh(
        "pool-create-as @other dir --target @home; vol-create-as @other base 64M --format qcow2",
    )
    .ok();
    vm.change("volume = { base_volume_pool = '@other', base_volume_name = 'base' }");
    vm.up();
    vm.keep_pool("@other");
    vm.virsh("pool-destroy @other").ok();
    vm.lbctl("check --host")
        .says(&["base cannot be looked at, because pool @other is not active"]);
    vm.virsh("pool-start @other; vol-delete base --pool @other")
        .ok();
    vm.lbctl("check --host")
        .ended(1)
        .says(&["base does not exist any more, and the root disk is a clone of it"]);
    vm.virsh("destroy @vm").ok();
    vm.lbctl("up")
        .ended(1)
        .says(&["the guest cannot start without it"]);
    vm.lbctl("down --yes --delete-volume").ok();
}

//! `lbctl adopt` of a domain as the libvirt provider of Terraform makes it. Its guest has no agent,
//! so that it takes a restart.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::import::{terraform, typed};
use super::sandbox::Sandbox;
use crate::support::{Ran, run};

/// With the imported configuration in `new`.
fn imported() -> Sandbox {
    let vm = terraform();
    typed(
        &vm,
        "--connect @uri import --domain @vm --state @home/state --out @home/new",
    )
    .ok();
    vm
}

fn lbctl(vm: &Sandbox, arguments: &str) -> Ran {
    typed(vm, &format!("-c @home/new/lbctl.toml {arguments}"))
}

fn adopt(vm: &Sandbox, arguments: &str) -> Ran {
    lbctl(vm, &format!("adopt --save @home/old.xml {arguments}"))
}

#[test]
fn a_domain_of_terraform_is_taken_over_with_its_uuid_and_disk() {
    let vm = imported();
    let before = vm.snapshot();
    let uuid = vm.virsh("domuuid @vm").ok().stdout;
    let disk = fs::read(vm.fill("@dir/@vm")).unwrap();
    let seed = fs::read(vm.fill("@dir/@seed")).unwrap();

    lbctl(&vm, "plan").ended(4).says(&["`lbctl adopt`"]);
    lbctl(&vm, "plan --adopt --exit-code")
        .ended(3)
        .says(&["a restart"]);
    adopt(&vm, "").ended(4).says(&["no terminal to ask on"]);
    adopt(&vm, "--yes --state @home/state")
        .ended(4)
        .says(&["the state still has domain @vm"]);
    before.assert_same(&vm.snapshot());
    assert!(!vm.home.path().join("old.xml").exists());

    adopt(&vm, "--yes --restart later").ok().says(&[
        "stays: uuid",
        "with a guest agent it needs no restart",
        "never deleted by lbctl: volume @pool/@vm",
        "which everybody on the host may read",
        "the way back: `virsh define @home/old.xml`",
        "saved for the next start",
    ]);
    let kept = vm.home.path().join("old.xml");
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    assert!(
        fs::read_to_string(&kept)
            .unwrap()
            .contains("<serial>cloudinit</serial>")
    );
    assert!(vm.inactive_xml().contains("<serial>cloudinit</serial>"));
    // The same command goes on, and does not ask again.
    adopt(&vm, "--restart now --stop-timeout=1s").ok();
    lbctl(&vm, "plan --exit-code").ok();
    lbctl(&vm, "up").ok().says(&["nothing to do"]);

    assert_eq!(vm.virsh("domuuid @vm").ok().stdout, uuid);
    let xml = vm.inactive_xml();
    for stays in ["@mac", "<serial>cloudinit</serial>", "machine='pc-i440fx-"] {
        assert!(xml.contains(&vm.fill(stays)), "{stays}: {xml}");
    }
    assert_eq!(fs::read(vm.fill("@dir/@seed")).unwrap(), seed);

    lbctl(&vm, "down --yes --delete-volume --stop-timeout=1s")
        .ended(4)
        .says(&["@pool/@vm"]);
    lbctl(&vm, "down --yes --stop-timeout=1s").ok();
    assert_eq!(fs::read(vm.fill("@dir/@vm")).unwrap(), disk);
    assert_eq!(fs::read(vm.fill("@dir/@seed")).unwrap(), seed);
    vm.virsh("net-dumpxml @net").ok().says(&["ip='@ip'"]);
}

#[test]
fn the_definition_of_before_brings_the_old_vm_back() {
    let vm = imported();
    let old = vm.snapshot().without_live();
    adopt(&vm, "--yes --restart now --stop-timeout=1s").ok();
    vm.virsh("define @home/old.xml; destroy @vm; start @vm")
        .ok();
    // What lbctl wrote beside it is its seed.
    let again = vm.virsh("vol-list @pool").ok();
    let new_seed = vm.fill("@vm-cloud-init.2.iso");
    assert!(again.stdout.contains(&new_seed), "{again}");
    vm.virsh(&format!("vol-delete --pool @pool {new_seed}"))
        .ok();
    old.assert_same(&vm.snapshot().without_live());
    lbctl(&vm, "plan").ended(4);
}

#[test]
fn everything_against_it_is_said_at_once_and_nothing_is_touched() {
    let vm = imported();
    vm.virsh("metadata @vm kvirt --key k --set '<plan/>' --config; managedsave @vm")
        .ok();
    let before = vm.snapshot();
    for command in ["plan --adopt", "adopt --yes --save @home/old.xml"] {
        lbctl(&vm, command).ended(4).says(&[
            "the memory of guest @vm is saved",
            "another tool has its notes in domain @vm (kvirt)",
        ]);
    }
    before.assert_same(&vm.snapshot());
    assert!(!vm.home.path().join("old.xml").exists());

    vm.virsh("managedsave-remove @vm").ok();
    adopt(&vm, "--yes --force").ok();
    assert!(vm.inactive_xml().contains("kvirt"), "the notes stay");
    lbctl(&vm, "plan --exit-code").ok();
}

/// By a lease that nobody has reserved, or by the seed of before: the VM moves when it next starts,
/// and is said to.
#[test]
fn an_address_that_is_not_the_configurations_is_named() {
    let vm = imported();
    let entry = "net-update @net delete ip-dhcp-host \"<host mac='@mac'/>\" --live --config";
    vm.virsh(entry).ok();
    let leases = format!(
        "{}/libvirt/var/lib/libvirt/dnsmasq/{}.status",
        vm.lab["LAB_STATE"],
        vm.fill("@bridge")
    );
    let lease = r#"[{"ip-address": "@subnet.60", "mac-address": "@mac", "hostname": "old", "expiry-time": 4102444800}]"#;
    fs::write(&leases, vm.fill(lease)).unwrap();
    let before = vm.snapshot();
    let named = [
        "address: @subnet.60 -> @ip (restart)",
        "the VM has @subnet.60 now, and the configuration @ip",
    ];
    lbctl(&vm, "plan --adopt").ok().says(&named);
    adopt(&vm, "")
        .ended(4)
        .says(&["goes: address: @subnet.60 -> @ip (restart)"]);
    before.assert_same(&vm.snapshot());
    // As imported now, it stays where it is.
    let config = vm.home.path().join("new/lbctl.toml");
    let text = fs::read_to_string(&config).unwrap();
    let stays = text.replace(&vm.fill("\"@ip\""), &vm.fill("\"@subnet.60\""));
    fs::write(&config, stays).unwrap();
    lbctl(&vm, "plan --adopt").ok().does_not_say(&["address: "]);
    fs::remove_file(&leases).unwrap();

    // The seed of before sets another one than the configuration.
    let network = "version: 2\nethernets:\n  eth0:\n    match: {macaddress: '@mac'}\n    addresses: ['@subnet.61/24']\n";
    vm.write("network-config", &vm.fill(network));
    vm.write("user-data", "#cloud-config\n");
    vm.write("meta-data", "");
    let file = |name: &str| vm.home.path().join(name).display().to_string();
    let image = file("static.iso");
    let files = ["user-data", "meta-data", "network-config"].map(file);
    let words = [
        "-quiet", "-output", &image, "-volid", "cidata", "-joliet", "-rock",
    ];
    let files = files.iter().map(String::as_str);
    run("genisoimage", words.into_iter().chain(files)).ok();
    vm.virsh("vol-resize --pool @pool @seed 1M; vol-upload --pool @pool @seed @home/static.iso")
        .ok();
    fs::write(&config, &text).unwrap();
    lbctl(&vm, "plan --adopt")
        .ok()
        .says(&["address: @subnet.61 -> @ip (restart)"]);
    adopt(&vm, "--yes --restart now --stop-timeout=1s").ok();
    lbctl(&vm, "plan --exit-code").ok();
}

#[test]
fn another_disk_another_card_and_another_file() {
    let vm = imported();
    let before = vm.snapshot();
    let config = vm.home.path().join("new/lbctl.toml");
    let text = fs::read_to_string(&config).unwrap();
    let other = text
        .replace(&vm.fill("mac = \"@mac\""), "mac = \"52:54:00:00:00:77\"")
        .replace(
            &vm.fill("[volume]\nname = \"@vm\""),
            &vm.fill("[volume]\nname = \"@vm-other\""),
        );
    fs::write(&config, other).unwrap();
    lbctl(&vm, "plan --adopt").ended(4).says(&[
        "the root disk of domain @vm is",
        "the network interfaces of domain @vm are",
    ]);
    fs::write(&config, &text).unwrap();
    vm.write("old.xml", "something of an operator's");
    adopt(&vm, "--yes --restart later")
        .ended(4)
        .says(&["is there already, with another content", "--save"]);
    before.assert_same(&vm.snapshot());
    typed(&vm, "-c @home/new/lbctl.toml adopt --force")
        .ended(4)
        .says(&["--yes"]);
}

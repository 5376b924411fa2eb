//! What lbctl did not make it takes over only when told, and then neither deletes nor releases.

use super::sandbox::Sandbox;

const CLONE: &str =
    "vol-create-as @pool @vm 64M --format qcow2 --backing-vol @basefile --backing-vol-format qcow2";

/// Another tool clones the base under the disk's name. Its file has libvirt's own mode, 0600, or
/// one that other tools set.
fn clone_by_another(vm: &Sandbox) {
    let base = format!("{}/pools/os/{}", vm.lab["LAB_STATE"], vm.lab["BASE_VOLUME"]);
    vm.virsh(&CLONE.replace("@basefile", &base)).ok();
}

fn record(vm: &Sandbox) -> String {
    vm.virsh("metadata @vm urn:lbctl:mark:1 --config")
        .ok()
        .stdout
}

#[test]
fn a_disk_that_another_tool_cloned() {
    let mut vm = Sandbox::new();
    clone_by_another(&vm);
    let before = vm.snapshot();
    let refused = [
        "volume @pool/@vm already exists, a clone of @base_pool/@base, and nothing says that lbctl made it",
        "`lbctl up --reuse-disk` uses it unchanged",
        "virsh vol-delete @vm --pool @pool",
    ];
    for command in ["plan", "up", "check --host"] {
        vm.lbctl(command).ended(4).says(&refused);
    }
    vm.lbctl("down --yes --delete-volume")
        .ended(4)
        .says(&["volume @pool/@vm is not deleted: it is not known whether lbctl made it"]);
    before.assert_same(&vm.snapshot());

    let taken = ["disk: @pool/@vm, taken over: lbctl did not make it and never deletes it"];
    vm.lbctl("plan --reuse-disk").ok().says(&taken);
    vm.lbctl("up --reuse-disk").ok();
    assert!(record(&vm).contains("cloned=\"no\""), "{}", record(&vm));
    vm.lbctl("plan --exit-code").ok();
    // For ever: also after changes that redefine the domain.
    vm.change("memory = 320\nvolume.size = '80 MiB'");
    vm.lbctl("up --restart now --stop-timeout=1s").ok();
    assert!(record(&vm).contains("cloned=\"no\""), "{}", record(&vm));
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ended(4)
        .says(&[
            "not deleted: lbctl took it over",
            "virsh vol-delete @vm --pool @pool",
        ]);
    assert_eq!(vm.dominfo("State"), "running");
    vm.down()
        .says(&["note: volume @pool/@vm is kept: lbctl did not make it"]);
    assert_eq!(vm.volumes(), [vm.name.as_str()]);
}

#[test]
fn a_reservation_that_somebody_made() {
    let vm = Sandbox::new();
    let entry = "\"<host mac='@mac' name='@vm' ip='@ip'/>\" --live --config";
    vm.virsh(&format!("net-update @net add ip-dhcp-host {entry}"))
        .ok();
    let network = |vm: &Sandbox| vm.virsh("net-dumpxml @net --inactive").ok().stdout;
    let before = network(&vm);
    let taken =
        ["reservation: @ip for @mac (@vm) in network @net, taken over: lbctl did not make it"];
    vm.lbctl("plan").ok().says(&taken);
    vm.up().does_not_say(&["reserve @ip"]);
    vm.lbctl("plan --exit-code").ok();
    assert!(record(&vm).contains("used-reservation"), "{}", record(&vm));
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok()
        .says(&["note: reservation @ip for @mac (@vm) in network @net is kept"])
        .does_not_say(&["release @ip"]);
    assert_eq!(network(&vm), before);

    // With another address it is in the way, and the command that clears it is named.
    vm.virsh(&format!("net-update @net delete ip-dhcp-host {entry}"))
        .ok();
    let other = entry.replace("@ip", "@ip2");
    vm.virsh(&format!("net-update @net add ip-dhcp-host {other}"))
        .ok();
    vm.lbctl("up").ended(4).says(&[
        "MAC address @mac is reserved in network @net for @vm: @ip2",
        "`virsh net-update @net delete ip-dhcp-host \"<host mac='@mac' ip='@ip2'/>\" --live --config`",
    ]);
}

/// lbctl's own entry, when its owner's record names it, is lbctl's after an edit and a loss too.
#[test]
fn a_reservation_that_is_taken_over_and_then_lost_is_made() {
    let vm = Sandbox::new();
    let entry = "\"<host mac='@mac' name='@vm' ip='@ip'/>\" --live --config";
    let without = vm.virsh("net-dumpxml @net --inactive").ok().stdout;
    vm.virsh(&format!("net-update @net add ip-dhcp-host {entry}"))
        .ok();
    vm.up();
    vm.virsh(&format!("net-update @net delete ip-dhcp-host {entry}"))
        .ok();
    vm.up()
        .says(&["reserve @ip for @mac (@vm) in network @net"]);
    vm.lbctl("plan --exit-code").ok();
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok()
        .says(&["release @ip"]);
    assert_eq!(vm.virsh("net-dumpxml @net --inactive").ok().stdout, without);
}

//! `down`: what lbctl made is removed, everything else is left unchanged.

use super::sandbox::Sandbox;

#[test]
fn down_leaves_the_host_as_it_was_before() {
    let vm = Sandbox::new();
    // Somebody else's things, which look like lbctl's as much as they can.
    vm.virsh("vol-create-as @pool @vm-cloud-init 1M; vol-create-as @pool @vm-2 1M")
        .ok();
    vm.virsh("net-update @net add ip-dhcp-host \"<host mac='@mac2' name='@vm-2' ip='@ip2'/>\" --live --config").ok();
    let before = vm.snapshot();
    vm.up();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok()
        .says(&[
            "@vm did not stop within 1 s: its power is cut",
            "undefine domain @vm",
            "delete seed @pool/@seed",
            "delete volume @pool/@vm",
            "release @ip for @mac (@vm) in network @net",
            "@vm: removed",
        ]);
    before.assert_same(&vm.snapshot());
    let again = vm.down();
    assert_eq!(
        again.stderr,
        vm.fill("@vm: does not exist, nothing to do\n")
    );
    before.assert_same(&vm.snapshot());
}

#[test]
fn down_asks_and_without_a_terminal_refuses() {
    let vm = Sandbox::new();
    vm.up();
    let before = vm.snapshot();
    for command in ["down", "down --delete-volume"] {
        vm.lbctl(command).ended(4).says(&[
            "error: @vm would be removed, and there is no terminal to ask on: nothing was changed",
            "help: `lbctl down --yes` removes it without asking",
        ]);
    }
    before.assert_same(&vm.snapshot());
}

#[test]
fn the_disk_is_kept_and_the_next_up_uses_it_again() {
    let vm = Sandbox::new();
    let network = vm.virsh("net-dumpxml @net --inactive").stdout;
    vm.up();
    let written = vm.pool_dir.join(&vm.name);
    let disk = std::fs::read(&written).unwrap();
    vm.down().says(&[
        "note: volume @pool/@vm is kept, with its data",
        "`lbctl up --reuse-disk` uses it again, `virsh vol-delete @vm --pool @pool` deletes it",
    ]);
    assert_eq!(vm.volumes(), [vm.name.as_str()]);
    assert_eq!(vm.virsh("net-dumpxml @net --inactive").stdout, network);

    vm.lbctl("up")
        .ended(4)
        .says(&["nothing says that lbctl made it"]);
    vm.lbctl("plan --reuse-disk")
        .ok()
        .says(&["5 steps", "disk: @pool/@vm, taken over"]);
    vm.lbctl("up --reuse-disk")
        .ok()
        .does_not_say(&["clone volume @pool"]);
    assert_eq!(vm.dominfo("State"), "running");
    assert!(std::fs::read(&written).unwrap() == disk, "the disk's bytes");
}

#[test]
fn the_disk_that_was_kept_is_nobodys_afterwards() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    vm.up();
    vm.down();
    let says = [
        "volume @pool/@vm is not deleted: it is not known whether lbctl made it",
        "virsh vol-delete @vm --pool @pool",
    ];
    vm.lbctl("down --yes --delete-volume").ended(4).says(&says);
    vm.virsh("vol-delete @vm --pool @pool").ok();
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_volume_that_lbctl_did_not_clone_is_never_deleted() {
    let mut vm = Sandbox::new();
    vm.virsh("vol-create-as @pool data 64M --format qcow2").ok();
    let before = vm.snapshot();
    vm.leave_out("volume");
    vm.change("volume_id = '@pool/data'");
    vm.up();
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok()
        .says(&["lbctl did not make the disk (volume_id): it is kept"]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_disk_that_another_domain_uses_is_not_deleted() {
    let vm = Sandbox::new();
    vm.up();
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
    let says = ["error: @vm: volume @pool/@vm is not deleted: it is a disk of domain @other"];
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ended(4)
        .says(&says);
    before.assert_same(&vm.snapshot());
}

/// What belongs to the load balancer is known from its ownership record, also when the
/// configuration has moved on.
#[test]
fn down_after_the_configuration_changed() {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    vm.up();
    vm.change("libvirt_network = { ip = '@ip2', mac = '@mac2' }\ncloud_init_volume_name = '@vm-new.iso'\nmemory = 512");
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

#[test]
fn down_of_a_guest_that_is_off_paused_or_undefined() {
    for by_hand in [
        "destroy @vm",
        "suspend @vm",
        "undefine @vm",
        "managedsave @vm",
    ] {
        eprintln!("{by_hand}");
        let vm = Sandbox::new();
        let before = vm.snapshot();
        vm.up();
        vm.virsh(by_hand).ok();
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        before.assert_same(&vm.snapshot());
    }
}

//! A disk that is made anew by `lbctl up --replace-disk`: another base volume, a smaller size, and
//! a disk that was lost. The domain stays, with what somebody added to it.

use super::sandbox::Sandbox;
use super::several::{BESIDE, two};

/// A VM that runs, and is to have another base.
fn with_another_base() -> Sandbox {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("vol-create-as @pool newer 64M --format qcow2")
        .ok();
    vm.change("volume.base_volume_pool = '@pool'\nvolume.base_volume_name = 'newer'");
    vm
}

#[track_caller]
fn has_it(vm: &Sandbox, name: &str) {
    vm.virsh(&format!("vol-dumpxml {name} @pool"))
        .ok()
        .says(&["<path>@dir/newer</path>"]);
    let state = vm.virsh(&format!("domstate {name}")).ok().stdout;
    assert_eq!(state.trim(), "running");
}

#[test]
fn another_base_is_taken_by_one_command() {
    let vm = with_another_base();
    let edited = "--title by-hand --config";
    vm.virsh(&format!("desc @vm {edited}")).ok();
    let (uuid, volumes) = (vm.virsh("domuuid @vm").ok().stdout, vm.volumes());
    let before = vm.snapshot();
    let says = [
        "-> made anew (64 MiB), a clone of @pool/newer (replace)",
        "would be lost: the guest's logs",
    ];
    vm.lbctl("plan")
        .ended(4)
        .says(&["`lbctl up --replace-disk`"]);
    vm.lbctl("plan --replace-disk").ok().says(&says);
    let document = vm.lbctl("plan --replace-disk --json").ok().document();
    assert_eq!(document["changes"][0]["class"], "replace");
    assert_eq!(document["restart"], true);
    for (more, code, says) in [
        (
            "--replace-disk",
            4,
            "`lbctl up --replace-disk --restart now`",
        ),
        ("--replace-disk --restart never", 4, "made anew"),
        ("--replace-disk --restart later", 2, "one of both"),
        ("--restart now --yes", 4, "contains data"),
    ] {
        vm.lbctl(&format!("up {more}")).ended(code).says(&[says]);
        before.assert_same(&vm.snapshot());
    }

    let up = vm.lbctl("up --replace-disk --restart now --stop-timeout=1s");
    up.ok().says(&[
        "remake volume @pool/@vm (64 MiB) from @pool/newer",
        "@vm: running",
    ]);
    has_it(&vm, "@vm");
    assert_eq!(vm.virsh("domuuid @vm").ok().stdout, uuid);
    assert!(vm.inactive_xml().contains("by-hand"));
    assert_eq!(vm.volumes(), volumes);
    vm.lbctl("plan --exit-code").ok();
    // There is no other disk to be made any more.
    vm.lbctl("up --replace-disk").ok().says(&["nothing to do"]);
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok();
}

#[test]
fn a_guest_that_is_off_and_a_disk_that_was_lost() {
    let mut vm = with_another_base();
    vm.virsh("destroy @vm").ok();
    vm.lbctl("up --replace-disk")
        .ok()
        .says(&["remake volume", "start domain"]);
    has_it(&vm, "@vm");

    vm.virsh("destroy @vm; vol-delete @vm @pool").ok();
    vm.lbctl("up")
        .ended(4)
        .says(&["does not exist any more", "`lbctl up --replace-disk`"]);
    vm.lbctl("up --replace-disk").ok();
    has_it(&vm, "@vm");

    vm.change("volume.size = '96 MiB'");
    vm.up();
    vm.change("volume.size = '64 MiB'");
    vm.lbctl("up").ended(4).says(&["(replace)"]);
    vm.lbctl("up --replace-disk --yes --stop-timeout=1s")
        .ok()
        .says(&["made anew (64 MiB)"]);
    has_it(&vm, "@vm");
}

#[test]
fn what_lbctl_did_not_make_is_not_made_anew() {
    let mut vm = Sandbox::new();
    vm.up();
    // Kept by `down`, and taken over: it is nobody's.
    vm.lbctl("down --yes --stop-timeout=1s").ok();
    vm.lbctl("up --reuse-disk").ok();
    vm.virsh("vol-create-as @pool newer 64M --format qcow2")
        .ok();
    vm.change("volume.base_volume_pool = '@pool'\nvolume.base_volume_name = 'newer'");
    let before = vm.snapshot();
    vm.lbctl("up --replace-disk --restart now")
        .ended(4)
        .says(&["lbctl took the disk over and never deletes it"]);
    before.assert_same(&vm.snapshot());
}

/// One after the other, and neither while no other one is ready.
#[test]
fn of_two_vms_none_is_stopped_while_the_other_is_not_ready() {
    let mut vm = Sandbox::new();
    two(&mut vm, BESIDE);
    vm.lbctl("up").ok();
    vm.virsh("vol-create-as @pool newer 64M --format qcow2")
        .ok();
    vm.change("volume.base_volume_pool = '@pool'\nvolume.base_volume_name = 'newer'");
    let before = vm.snapshot().without_bytes();
    let replace = "up --replace-disk --restart now --stop-timeout=1s";
    vm.lbctl(replace).ended(4).says(&[
        "@vm: its sessions would be cut while no other VM is ready",
        "@vm2: its sessions would be cut while no other VM is ready",
    ]);
    before.assert_same(&vm.snapshot().without_bytes());
    for name in ["@vm", "@vm2"] {
        vm.lbctl(&format!("{replace} --only {name}")).ok();
        has_it(&vm, name);
    }
    vm.lbctl("up")
        .ok()
        .says(&["@vm: up to date", "@vm2: up to date"]);
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok();
}

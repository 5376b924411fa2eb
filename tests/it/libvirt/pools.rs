//! Kinds of pools: in each that this machine can have the plan after `up` is empty, and what
//! libvirt does not do in the others is said before the first step.

use std::fs;

use super::sandbox::Sandbox;
use crate::support::run;

const NOW: &str = "up --restart now --stop-timeout=1s";

/// A device of the kernel in front of a file; given back when dropped.
struct Loop(String);

impl Loop {
    /// `None`: this machine has none that is free.
    fn new(vm: &Sandbox, size: u64) -> Option<Self> {
        let image = vm.home.path().join("device.img");
        let file = fs::File::create(&image).unwrap();
        file.set_len(size).unwrap();
        let image = image.to_str().unwrap();
        let made = run("losetup", ["--find", "--show", image]);
        (made.code == 0).then(|| Self(made.stdout.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", ["--detach", &self.0]);
    }
}

/// Disk, seed and base in that pool, and the disk as a copy, too.
fn all_in(vm: &mut Sandbox, pool: &str) {
    vm.virsh(&format!(
        "vol-create-as {pool} base 32M --format qcow2; vol-create-as {pool} other 1M"
    ))
    .ok();
    let before = vm.virsh(&format!("vol-list {pool}")).ok().stdout;
    for format in ["qcow2", "raw"] {
        eprintln!("--- {pool}, {format}");
        vm.start_over();
        vm.change(&format!(
            "cloud_init_volume_pool = '{pool}'\n\
             volume = {{ pool = '{pool}', base_volume_pool = '{pool}', base_volume_name = 'base', format = '{format}', size = '48 MiB' }}"
        ));
        vm.up();
        vm.lbctl("plan --exit-code").ok().says(&["nothing to do"]);
        vm.change("memory = 300\nhaproxy.timeouts.idle = '31m'");
        vm.lbctl(NOW).ok();
        vm.lbctl("plan --exit-code").ok();
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        assert_eq!(vm.virsh(&format!("vol-list {pool}")).ok().stdout, before);
    }
}

#[test]
fn all_of_it_in_a_folder() {
    let mut vm = Sandbox::new();
    all_in(&mut vm, "@pool");
}

#[test]
fn all_of_it_in_a_filesystem_of_its_own() {
    let mut vm = Sandbox::new();
    let Some(device) = Loop::new(&vm, 256 << 20) else {
        eprintln!("no loop device is free: not tested");
        return;
    };
    run("mkfs.ext4", ["-q", &device.0]).ok();
    let mount = vm.home.path().join("mount");
    fs::create_dir(&mount).unwrap();
    vm.virsh(&format!(
        "pool-define-as @other fs --source-dev {} --target {}; pool-start @other",
        device.0,
        mount.display()
    ))
    .ok();
    vm.keep_pool("@other");
    all_in(&mut vm, "@other");
    vm.virsh("pool-destroy @other; pool-undefine @other").ok();
}

/// Every type that this libvirt knows, where it can be defined without what it is made of; but for
/// multipath devices, of which a host has one pool.
#[test]
fn a_pool_that_is_defined_and_not_started_is_named_whatever_its_type() {
    let mut vm = Sandbox::new();
    let known = vm.virsh("pool-capabilities").ok().stdout;
    let known: Vec<&str> = known
        .lines()
        .filter(|line| line.contains("<pool type=") && line.contains("supported='yes'"))
        .filter_map(|line| line.split('\'').nth(1))
        .collect();
    let mut tried = 0;
    for (kind, source) in [
        ("dir", "--target /nowhere"),
        ("fs", "--source-dev /dev/nowhere --target /nowhere"),
        (
            "netfs",
            "--source-host 192.0.2.9 --source-path /x --target /nowhere",
        ),
        ("logical", "--source-name vg --target /dev/vg"),
        (
            "disk",
            "--source-dev /dev/nowhere --source-format gpt --target /dev",
        ),
        (
            "iscsi",
            "--source-host 192.0.2.9 --source-dev iqn.2026-01.example:x --target /dev/disk/by-path",
        ),
        (
            "scsi",
            "--adapter-name scsi_host0 --target /dev/disk/by-path",
        ),
        ("rbd", "--source-host 192.0.2.9 --source-name x"),
        ("zfs", "--source-name x --target /dev/zvol/x"),
    ] {
        if !known.contains(&kind) {
            continue;
        }
        eprintln!("--- {kind}");
        tried += 1;
        vm.start_over();
        vm.virsh(&format!("pool-define-as @other {kind} {source}"))
            .ok();
        let before = vm.snapshot();
        for (key, command) in [("volume.pool", "plan"), ("cloud_init_volume_pool", "up")] {
            vm.start_over();
            vm.change(&format!("{key} = '@other'"));
            vm.lbctl(command).ended(1).says(&[
                "storage pool @other is not active",
                "virsh pool-start @other",
            ]);
        }
        before.assert_same(&vm.snapshot());
        vm.virsh("pool-undefine @other").ok();
    }
    assert!(tried >= 2, "{tried} types of pools");
}

/// A pool of multipath devices starts on any machine, and is empty where there are none.
#[test]
fn a_pool_in_which_libvirt_makes_no_volumes() {
    let mut vm = Sandbox::new();
    let started = vm.virsh("pool-define-as @other mpath --target /dev/mapper; pool-start @other");
    if started.code != 0 {
        eprintln!("no pool of multipath devices here: not tested");
        return;
    }
    let before = vm.snapshot();
    for (change, says) in [
        (
            "volume.pool = '@other'",
            "pool @other is of type mpath: libvirt makes no volumes there",
        ),
        (
            "volume = { pool = '@other', format = 'raw' }",
            "pool @other is of type mpath: libvirt makes no volumes there",
        ),
        (
            "cloud_init_volume_pool = '@other'",
            "pool @other is of type mpath: libvirt makes no volumes there, and the seed is written so",
        ),
    ] {
        vm.start_over();
        vm.change(change);
        vm.lbctl("check --host").ended(1).says(&[says]);
        vm.lbctl("plan").ended(1).says(&[says]);
        vm.lbctl("up").ended(1).says(&[says]);
        before.assert_same(&vm.snapshot());
    }
    vm.virsh("pool-destroy @other; pool-undefine @other").ok();
}

//! What a guest writes into its disk decides nothing on the host: the disk is read as it was at
//! first, whatever libvirt finds in it later.

use std::fs;
use std::os::unix::fs::FileExt;

use super::sandbox::Sandbox;
use crate::support::run;

/// A guest that has its disk as raw writes a qcow2 header over it, which refers to a file of the
/// host, and then the pool is read again.
fn write_header(vm: &Sandbox, disk: &str, size: &str) {
    let header = vm.fill("@home/header");
    let arguments = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "/etc/hostname",
        "-F",
        "raw",
    ];
    run(
        "qemu-img",
        arguments.into_iter().chain([header.as_str(), size]),
    )
    .ok();
    let disk = fs::OpenOptions::new()
        .write(true)
        .open(vm.fill(disk))
        .unwrap();
    disk.write_all_at(&fs::read(header).unwrap(), 0).unwrap();
    vm.virsh("pool-refresh @pool").ok();
}

fn is_raw(vm: &Sandbox) {
    for xml in [vm.inactive_xml(), vm.live_xml()] {
        let read = xml.contains("<driver name='qemu' type='raw'/>");
        assert!(read && !xml.contains("type='qcow2'"), "{xml}");
    }
}

#[test]
fn a_header_over_a_raw_disk_that_lbctl_did_not_make() {
    let mut vm = Sandbox::new();
    vm.virsh("vol-create-as @pool data 64M --format raw").ok();
    vm.leave_out("volume");
    vm.change("volume_id = '@pool/data'");
    vm.up();
    is_raw(&vm);
    write_header(&vm, "@dir/data", "1P");
    let note =
        ["note: libvirt finds qcow2 in volume @pool/data, which the guest has as a raw disk"];
    vm.lbctl("plan --exit-code").ok().says(&note);
    vm.change("vcpus = 2\nmemory = 320");
    vm.lbctl("up --restart now --stop-timeout=1s")
        .ok()
        .says(&note);
    is_raw(&vm);
    vm.lbctl("plan --exit-code").ok();

    // Once the domain is gone, nobody knows any more that it was raw.
    vm.lbctl("down --yes --stop-timeout=1s").ok();
    let before = vm.snapshot();
    let refused = [
        "volume @pool/data is qcow2 with backing file /etc/hostname, by what is written in it",
        "volume_format = \"raw\" if it is a raw disk",
    ];
    vm.lbctl("up").ended(4).says(&refused);
    vm.lbctl("check --host").ended(4).says(&refused[..1]);
    before.assert_same(&vm.snapshot());
    vm.change("volume_format = 'raw'");
    vm.up();
    is_raw(&vm);
    vm.change("volume_format = 'qcow2'");
    vm.lbctl("up --restart now --yes").ended(4).says(&[
        "disk format: raw -> qcow2 (replace)",
        "set volume_format back",
    ]);
}

#[test]
fn a_header_over_a_raw_disk_that_lbctl_made() {
    let mut vm = Sandbox::new();
    vm.change("volume.format = 'raw'\nvolume.size = '64 MiB'");
    vm.up();
    // Neither another format nor a size that the guest invents stops anything.
    for size in ["1M", "1P"] {
        write_header(&vm, "@dir/@vm", size);
        vm.lbctl("plan --exit-code").ok();
    }
    vm.change("memory = 320\nvolume.size = '72 MiB'");
    vm.lbctl("up --restart now --stop-timeout=1s")
        .ok()
        .says(&["disk size: 64 MiB -> 72 MiB (live)"]);
    is_raw(&vm);
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn what_a_qcow2_volume_refers_to_needs_a_word() {
    let base = |vm: &Sandbox| format!("{}/pools/os/{}", vm.lab["LAB_STATE"], vm.lab["BASE_VOLUME"]);
    let mut vm = Sandbox::new();
    let made = format!(
        "vol-create-as @pool backed 64M --format qcow2 --backing-vol {} --backing-vol-format qcow2",
        base(&vm)
    );
    vm.virsh(&made).ok();
    vm.virsh(
        "vol-create-as @pool alone 64M --format qcow2; vol-create-as @pool raw 64M --format raw",
    )
    .ok();
    let elsewhere = vm.fill("data_file=@dir/raw,data_file_raw=on");
    let split = vm.fill("@dir/split");
    run(
        "qemu-img",
        [
            "create", "-q", "-f", "qcow2", "-o", &elsewhere, &split, "64M",
        ],
    )
    .ok();
    vm.virsh("pool-refresh @pool").ok();
    vm.leave_out("volume");
    for (volume, given, refused, read) in [
        ("alone", "", None, "qcow2"),
        ("raw", "", None, "raw"),
        (
            "backed",
            "",
            Some("volume @pool/backed is qcow2 with backing file"),
            "qcow2",
        ),
        (
            "split",
            "",
            Some("volume @pool/split is qcow2, by what is written in it"),
            "qcow2",
        ),
        (
            "raw",
            "qcow2",
            Some("volume @pool/raw is raw by what libvirt finds in it"),
            "raw",
        ),
        ("backed", "qcow2", None, "qcow2"),
        ("alone", "raw", None, "raw"),
    ] {
        eprintln!("{volume} {given}");
        let format = match given {
            "" => String::new(),
            given => format!("volume_format = '{given}'\n"),
        };
        vm.change(&format!("volume_id = '@pool/{volume}'\n{format}"));
        if let Some(refused) = refused {
            let code = if given.is_empty() { 4 } else { 1 };
            vm.lbctl("up").ended(code).says(&[refused]);
        } else {
            vm.up();
            let driver = format!("<driver name='qemu' type='{read}'/>\n      <source file=");
            assert!(vm.inactive_xml().contains(&driver), "{}", vm.inactive_xml());
            vm.lbctl("plan --exit-code").ok();
            vm.down();
        }
        if !given.is_empty() {
            vm.leave_out("volume_format");
        }
    }
}

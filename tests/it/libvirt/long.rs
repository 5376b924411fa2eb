//! One libvirtd over a long time of up, change, renew and down: nothing grows.

use std::fs;

use super::figures::{count, tell};
use super::sandbox::Sandbox;
use super::spare::Spare;

/// What must not grow.
struct Size {
    descriptors: usize,
    /// Resident, in KiB.
    memory: u64,
    temporary: Vec<String>,
}

impl Size {
    fn new(spare: &Spare) -> Self {
        let pid = spare.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = resident.unwrap().trim().trim_end_matches(" kB");
        let own = |path: std::path::PathBuf| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            name.contains("lbctl").then_some(name)
        };
        let temporary = fs::read_dir(std::env::temp_dir()).unwrap();
        Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            memory: kib.parse().unwrap(),
            temporary: temporary.filter_map(|e| own(e.unwrap().path())).collect(),
        }
    }
}

#[test]
fn nothing_grows_over_many_cycles() {
    let spare = Spare::up();
    let mut vm = Sandbox::in_lab(spare.lab.clone());
    let before = vm.snapshot();
    let cycles = count("CYCLES", 2, 100);
    let mut first = None;
    for number in 0..cycles {
        vm.start_over();
        vm.up();
        vm.change("memory = 384\nhaproxy.timeouts.idle = '31m'");
        vm.lbctl("up --restart now --stop-timeout=1s").ok();
        vm.virsh("destroy @vm").ok();
        vm.lbctl("renew --force").ok();
        vm.up();
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        before.assert_same(&vm.snapshot());
        // What libvirtd takes at its first use it may keep.
        let size = Size::new(&spare);
        eprintln!(
            "{number}: {} KiB, {} descriptors",
            size.memory, size.descriptors
        );
        first.get_or_insert(size);
    }
    let (first, last) = (first.unwrap(), Size::new(&spare));
    assert!(
        last.descriptors <= first.descriptors + 3,
        "{} descriptors, {} at first",
        last.descriptors,
        first.descriptors
    );
    assert_eq!(last.temporary, first.temporary);
    tell(format_args!(
        "{cycles} cycles of up, change, renew, down | volumes, reservations, domains as before after each | libvirtd: {} descriptors after the first, {} in the end; {} KiB resident after the first, {} in the end",
        first.descriptors, last.descriptors, first.memory, last.memory
    ));
}

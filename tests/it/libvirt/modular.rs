//! A host whose libvirt is several daemons (`virtqemud`, `virtnetworkd`, …), each of which may be
//! down by itself. Debian has no packages of them, so the lab compiles them, which takes minutes at
//! its first time: `./dev soak` runs this, and the core of the other suites there.

use super::sandbox::Sandbox;
use super::spare::{Spare, within};
use crate::support::run;

/// Ends one of the daemons, as a crash would.
fn kill(vm: &Sandbox, daemon: &str) {
    let file = format!("{}/root/run/{daemon}.pid", vm.lab["LAB_STATE"]);
    let pid = std::fs::read_to_string(file).unwrap().trim().to_owned();
    run("kill", ["-9", &pid]).ok();
    let gone = || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists();
    within(10, "the end of the daemon", gone);
}

#[test]
#[ignore = "compiles daemons of libvirt: ./dev soak"]
fn a_daemon_that_is_down_is_named() {
    let spare = Spare::modular();
    let vm = Sandbox::in_lab(spare.lab.clone());
    vm.up();
    let before = vm.snapshot();
    for daemon in ["virtnetworkd", "virtstoraged"] {
        kill(&vm, daemon);
        for command in ["plan", "up", "status", "down --yes"] {
            vm.lbctl(command)
                .ended(1)
                .says(&[
                    &format!("help: libvirt is several daemons there, and {daemon} does not run"),
                    &format!("`systemctl status {daemon}.socket {daemon}`"),
                ])
                .does_not_say(&["libvirtd", "another lbctl", "was done"]);
        }
        vm.lbctl("check --host")
            .ended(1)
            .says(&[&format!("{daemon} does not run")]);
        // What is down is started, and the others run on.
        spare.restart();
        before.assert_same(&vm.snapshot());
        vm.lbctl("plan --exit-code").ok();
    }
}

#[test]
#[ignore = "compiles daemons of libvirt: ./dev soak"]
fn a_restart_of_virtqemud_connects_the_guest_to_its_network_again() {
    let spare = Spare::modular();
    let vm = Sandbox::in_lab(spare.lab.clone());
    vm.up();
    vm.virsh("net-destroy @net; net-start @net").ok();
    vm.lbctl("plan")
        .ok()
        .says(&["or one of libvirt's daemon (`systemctl restart libvirtd`, or virtqemud), which cuts nothing"]);
    spare.restart();
    vm.lbctl("plan --exit-code").ok();
}

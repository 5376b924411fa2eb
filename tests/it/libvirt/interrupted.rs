//! Ctrl-C, and libvirt's own restart, while lbctl waits for a guest.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::sandbox::Sandbox;

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_guest() {
    let vm = Sandbox::new();
    let lbctl = Command::new(env!("CARGO_BIN_EXE_lbctl"))
        .args(["-c", &vm.fill("@home/lbctl.toml"), "up", "--wait=100s"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while vm.virsh("domstate @vm").stdout.trim() != "running" {
        std::thread::sleep(Duration::from_millis(200));
    }
    // A little for what follows the start.
    std::thread::sleep(Duration::from_secs(2));
    let pid = lbctl.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let output = lbctl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the guest is booting"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("the VM continues by itself. `lbctl up --wait` waits again"),
        "{said}"
    );
    assert_eq!(vm.dominfo("State"), "running");
    vm.up().says(&["nothing to do"]);
}

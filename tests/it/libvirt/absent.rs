//! Files that the configuration refers to, and that are not there: a command that does not use them
//! works as if they were, and one that does names the first of them.

use std::fs;

use super::sandbox::Sandbox;
use crate::support::lbctl;

const ADMIN: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f admin\n";

#[test]
fn no_command_needs_a_file_that_it_does_not_use() {
    let mut vm = Sandbox::new();
    vm.write("admin.pub", ADMIN);
    vm.write("password", "correct horse battery staple\n");
    vm.change(
        "ssh_admin_public_key = { file = 'admin.pub' }\nadmin_user_password = { file = 'password' }",
    );
    vm.up();
    let ca = fs::read(vm.home.path().join("ca.crt")).unwrap();
    for file in ["admin.pub", "password", "ca.crt", "ca.key"] {
        fs::remove_file(vm.home.path().join(file)).unwrap();
    }
    let before = vm.snapshot();
    let unread = "from file \"admin.pub\": No such file or directory";
    for (command, code, says) in [
        ("status", 1, "not ready: the guest does not answer"),
        ("status", 1, "unknown: `admin_user_password` ("),
        ("status --json", 1, "\"not_after\""),
        ("logs", 1, "the journal cannot be read"),
        ("handover", 2, "shares no address"),
        ("restart", 4, "there is no terminal to ask on"),
        // These use them.
        ("check", 2, unread),
        ("plan", 2, unread),
        ("up", 2, unread),
        ("render", 2, unread),
        (
            "renew",
            2,
            "from file \"ca.crt\": No such file or directory",
        ),
    ] {
        vm.lbctl(command).ended(code).says(&[says]);
    }
    let (uri, file) = (vm.fill("@uri"), vm.fill("@home/lbctl.toml"));
    let listed = lbctl(["--connect", &uri, "list", &file]).with_words(vm.words());
    listed.ok().says(&["@vm", "running"]);
    before.assert_same(&vm.snapshot());

    // Not due, so nothing is signed.
    fs::write(vm.home.path().join("ca.crt"), ca).unwrap();
    vm.lbctl("renew").ok().says(&["is not due"]);
    fs::remove_file(vm.home.path().join("ca.crt")).unwrap();
    vm.lbctl("restart --yes --stop-timeout=1s")
        .ok()
        .says(&["@vm: restarted"]);
    vm.down();
    assert!(
        vm.volumes().iter().all(|name| name == &vm.name),
        "{:?}",
        vm.volumes()
    );

    vm.leave_out_of("haproxy", "patroni_client");
    vm.change("haproxy.patroni_client.ca_certificate = { file = 'ca.crt' }");
    vm.lbctl("csr").ok().says(&["BEGIN CERTIFICATE REQUEST"]);
}

//! The client certificate of a VM on a real libvirtd, renewed by itself. Its guest stays in its
//! firmware, so it runs without an agent, or is off.

use super::sandbox::Sandbox;

/// A certificate that was issued for ten days is due at once for who wants it to last for hundreds.
fn due(vm: &mut Sandbox) {
    vm.change(
        "haproxy.patroni_client.certificate_validity_period = 10000\n\
         haproxy.patroni_client.certificate_early_renewal_period = 9000",
    );
}

fn serial(vm: &Sandbox) -> String {
    let status = vm.lbctl("status --json").document();
    status["certificate"]["serial"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_not_due_stays_and_what_is_due_is_reported() {
    let mut vm = Sandbox::new();
    vm.lbctl("renew").ended(1).says(&["lbctl up"]);
    vm.up();
    let before = vm.snapshot();
    vm.lbctl("renew").ok().says(&["not due"]);
    vm.lbctl("renew --check").ok().says(&["not due"]);
    due(&mut vm);
    vm.lbctl("renew --check").ended(3).says(&["is due"]);
    let told = vm.lbctl("renew --check --json").ended(3).document();
    assert_eq!(
        (&told["due"], &told["renewed"]),
        (&true.into(), &false.into())
    );
    assert_eq!(told["certificate"]["serial"], serial(&vm).as_str());
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_guest_without_an_agent_is_refused_and_nothing_is_changed() {
    let mut vm = Sandbox::new();
    vm.up();
    due(&mut vm);
    let before = vm.snapshot();
    vm.lbctl("renew")
        .ended(4)
        .says(&["cannot take a new certificate", "agent", "--restart now"]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_guest_that_is_off_has_it_at_its_next_boot_and_edits_wait() {
    let mut vm = Sandbox::new();
    vm.up();
    let old = serial(&vm);
    vm.virsh("destroy @vm").ok();
    vm.change("haproxy.timeouts = { connect = '7s' }\nmemory = 384");
    vm.lbctl("renew --force").ok().says(&["renewed"]);
    assert_ne!(serial(&vm), old);
    assert_eq!(vm.volumes().len(), 2, "the disk and one seed");
    vm.lbctl("renew").ok().says(&["not due"]);
    // What was edited and not applied is still to be done, and keeps the new certificate.
    let renewed = serial(&vm);
    vm.lbctl("plan --exit-code")
        .ended(3)
        .says(&["memory", "/etc/haproxy/haproxy.cfg"]);
    vm.up();
    assert_eq!(serial(&vm), renewed);
    vm.lbctl("plan --exit-code").ok();
    vm.down();
}

//! The client certificate of a VM on a real libvirtd, renewed by itself. Its guest stays in its
//! firmware, so it runs without an agent, or is off.

use std::collections::BTreeMap;
use std::fs;

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

/// The values that `lbctl status --textfile` writes, by the names of the metrics.
fn metrics(vm: &Sandbox) -> BTreeMap<String, i64> {
    let file = vm.home.path().join("lbctl.prom");
    let ran = vm
        .lbctl(&format!("status --textfile {}", file.display()))
        .ok();
    assert!(ran.stdout.is_empty(), "{ran}");
    let text = fs::read_to_string(file).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.split_once('{').unwrap();
            let (_, value) = value.split_once("\"} ").unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn certificate_and_drift_are_metrics() {
    let mut vm = Sandbox::new();
    let absent = metrics(&vm);
    assert_eq!(absent["lbctl_status_success"], 1);
    assert_eq!(absent["lbctl_ready"], 0);
    assert!(!absent.contains_key("lbctl_certificate_not_after_seconds"));
    vm.up();
    let up = metrics(&vm);
    let days = vm.lbctl("status --json").document()["certificate"]["days_left"].clone();
    // A day may end between one look and the next.
    let days_of = |seen: &BTreeMap<String, i64>| {
        (seen["lbctl_certificate_not_after_seconds"] - seen["lbctl_status_time_seconds"]) / 86_400
    };
    let possible = days_of(&metrics(&vm))..=days_of(&up);
    assert!(
        possible.contains(&days.as_i64().unwrap()),
        "{days} of {possible:?}"
    );
    assert_eq!(
        (up["lbctl_drift_changes"], up["lbctl_certificate_due"]),
        (0, 0)
    );
    due(&mut vm);
    vm.change("memory = 384");
    let later = metrics(&vm);
    assert_eq!(later["lbctl_certificate_due"], 1);
    assert!(later["lbctl_drift_changes"] > 0, "{later:?}");
    assert_eq!(later["lbctl_restart_pending"], 0);
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

//! `check --host`: one list of everything that would make a first `up` fail, each line with its
//! verdict in a word.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sandbox::Sandbox;

/// Verdicts by what was checked.
fn verdicts(document: &Value) -> BTreeMap<String, String> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = document["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|f| (text(f, "what"), text(f, "verdict")))
        .collect()
}

#[test]
fn a_host_where_up_can_work_is_listed_item_by_item() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    let listed = vm.lbctl("check --host").ok().says(&[
        "@vm: nothing prevents `lbctl up` (",
        "  ok       configuration ",
        "  ok       libvirt ",
        "  warning  kvm ",
        "  ok       domain                  the name @vm is free",
        "  ok       base volume             @base_pool/@base, ",
        "  ok       root disk               @pool/@vm would be created, qcow2, ",
        "  ok       network @net",
        "free in ",
        "  ok       pool @pool",
    ]);
    // No node could be asked, so nothing was verified.
    listed
        .says(&["  unknown  node "])
        .does_not_say(&["nodes' TLS"]);
    let document = vm.lbctl("check --host --json").ok().document();
    assert_eq!(
        (&document["ok"], &document["host"]),
        (&true.into(), &true.into())
    );
    before.assert_same(&vm.snapshot());
}

#[test]
fn what_fails_is_listed_beside_what_does_not() {
    let mut vm = Sandbox::new();
    vm.change("volume.base_volume_name = 'nosuch'\nlibvirt.domain_type = 'kvm'\n[[macvtap_interfaces]]\ninterface = 'nosuch0'\nip = '10.77.0.20'\nprefix_length = 24");
    let document = vm.lbctl("check --host --json").ended(1).document();
    let verdicts = verdicts(&document);
    for (what, verdict) in [
        ("libvirt", "ok"),
        ("kvm", "fails"),
        ("base volume", "fails"),
        ("interface nosuch0", "fails"),
        ("address 10.77.0.20", "unknown"),
        ("domain", "ok"),
        ("seed", "ok"),
    ] {
        assert_eq!(verdicts[what], verdict, "{what} in {verdicts:#?}");
    }
    assert_eq!(document["ok"], false);
}

/// Of a pool that is not started nobody knows what is in it, nor how much room it has.
#[test]
fn of_a_pool_that_sleeps_nothing_is_guessed() {
    let mut vm = Sandbox::new();
    vm.change("volume.pool = '@sleeping_pool'\nvolume.base_volume_name = 'nosuch'");
    vm.lbctl("check --host")
        .ended(1)
        .says(&[
            "  unknown  base volume             @base_pool/nosuch was not found",
            "  FAILED   root disk               storage pool @sleeping_pool is not active",
        ])
        .does_not_say(&["not needed any more", "0 bytes free"]);
}

#[test]
fn a_disk_without_space_fails_and_one_that_may_outgrow_its_pool_warns() {
    for (format, code, verdict) in [("raw", 1, "fails"), ("qcow2", 0, "warning")] {
        let mut vm = Sandbox::new();
        vm.change(&format!(
            "volume.size = '100 TiB'\nvolume.format = '{format}'"
        ));
        let document = vm.lbctl("check --host --json").ended(code).document();
        let pool = vm.fill("pool @pool");
        assert_eq!(verdicts(&document)[&pool], verdict, "{document:#}");
    }
}

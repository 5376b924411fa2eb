//! `[[vms]]`: a file of several VMs means the same as a file for each.

use std::collections::BTreeMap;

use lbctl::testing::config::{Config, Loaded, parse};
use proptest::prelude::*;
use toml::{Table, Value};

use crate::support::inputs::{inputs, now};

/// What all share, in each place where a VM's own key may stand beside it.
const SHARED: &str = r#"
ssh_admin_public_key = { file = "admin.pub" }
vcpus = 3
memory = 2048
[volume]
base_volume_pool = "os"
base_volume_name = "debian-12"
[libvirt]
domain_type = "qemu"
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.168.150.1"]
postgres_domain = "server.postgres.local"
[haproxy.patroni_client]
ca_key = { file = "ca.key" }
ca_certificate = { file = "ca.crt" }
certificate_validity_period = 8760
certificate_early_renewal_period = 720
[fluentd]
enabled = true
load_balancer_tag = "lb"
node_exporter_tag = "ne"
forward = { domain = "192.0.2.30", port = 24224, shared_key = { file = "fluentd-shared-key" }, ca_cert = { file = "fluentd-ca.crt" } }
"#;

/// A VM's own keys, by their paths.
type Own = BTreeMap<&'static str, Value>;

fn value(toml: &str) -> Value {
    let table: Table = format!("x = {toml}").parse().unwrap();
    table["x"].clone()
}

/// What the VM in that place has. `alike`: which of the keys that may be the same for all are.
fn own(place: usize, card: usize, alike: &[bool]) -> Own {
    let of = |number: usize, same: &str, different: String| {
        let text = if alike[number] {
            same.to_owned()
        } else {
            different
        };
        value(&text)
    };
    let ip = place + 20;
    let mut own = Own::from([
        ("name", value(&format!("\"lb-{place}\""))),
        ("volume.name", value(&format!("\"disk-{place}\""))),
        (
            "volume.pool",
            of(0, "\"default\"", format!("\"pool-{place}\"")),
        ),
        (
            "volume.size",
            of(1, "\"10 GiB\"", format!("\"{} GiB\"", place + 10)),
        ),
        (
            "cloud_init_volume_pool",
            of(2, "\"default\"", format!("\"seeds-{place}\"")),
        ),
        (
            "libvirt.uri",
            of(
                3,
                "\"qemu:///system\"",
                format!("\"qemu+ssh://root@kvm{place}/system\""),
            ),
        ),
        (
            "fluentd.forward.hostname",
            of(4, "\"lb\"", format!("\"lb-{place}\"")),
        ),
        (
            "haproxy.address",
            of(5, "\"0.0.0.0\"", format!("\"192.168.150.{ip}\"")),
        ),
    ]);
    let fixed = format!("ip = \"192.168.150.{ip}\", prefix_length = 24");
    let cards = match card {
        0 => (
            "macvtap_interfaces",
            format!("[{{ interface = \"eno1\", {fixed} }}]"),
        ),
        1 => (
            "bridge_interfaces",
            format!("[{{ bridge = \"br0\", {fixed} }}]"),
        ),
        _ => (
            "libvirt_networks",
            format!("[{{ network_name = \"lab\", {fixed} }}]"),
        ),
    };
    own.insert(cards.0, value(&cards.1));
    if card == 3 {
        own.remove("libvirt_networks");
        own.insert(
            "libvirt_network.ip",
            value(&format!("\"192.168.150.{ip}\"")),
        );
        own.insert(
            "libvirt_network.network_name",
            of(6, "\"lab\"", format!("\"lab-{place}\"")),
        );
    }
    own
}

fn set(table: &mut Table, path: &str, value: Value) {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = table;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        let entry = table.entry(parent).or_insert_with(|| Table::new().into());
        table = entry.as_table_mut().unwrap();
    }
    table.insert(name.to_owned(), value);
}

/// Without the places in the file, which differ.
fn shown(config: &Config) -> String {
    let text = format!("{config:?}");
    let mut shown = String::new();
    let mut parts = text.split(", line ");
    shown += parts.next().unwrap_or_default();
    for part in parts {
        shown += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    shown
}

fn read(table: &Table) -> Loaded {
    let text = table.to_string();
    parse(&text, "lbctl.toml", &inputs(), now()).unwrap_or_else(|report| panic!("{text}\n{report}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_file_of_several_is_a_file_for_each(
        count in 1usize..5,
        card in 0usize..4,
        alike in prop::collection::vec(any::<bool>(), 7),
        above in prop::collection::vec(any::<bool>(), 12),
    ) {
        let all: Vec<Own> = (0..count).map(|place| own(place, card, &alike)).collect();
        let shared: Table = SHARED.parse().unwrap();
        let mut together = shared.clone();
        let mut list = vec![Table::new(); count];
        for (number, (path, first)) in all[0].iter().enumerate() {
            let same = all.iter().all(|own| own[path] == *first);
            // A MAC address and an address are no two VMs'.
            if *path != "name" && same && count > 1 && above[number % above.len()] {
                set(&mut together, path, first.clone());
                continue;
            }
            for (own, vm) in all.iter().zip(&mut list) {
                set(vm, path, own[path].clone());
            }
        }
        together.insert("vms".into(), list.into_iter().map(Value::Table).collect::<Vec<_>>().into());
        let loaded = read(&together);
        let found: Vec<String> = std::iter::once(&loaded.config)
            .chain(loaded.others.as_ref().unwrap())
            .map(shown)
            .collect();
        let alone = all.iter().map(|own| {
            let mut table = shared.clone();
            for (path, value) in own {
                set(&mut table, path, value.clone());
            }
            let loaded = read(&table);
            assert!(loaded.others.is_none());
            shown(&loaded.config)
        });
        let alone: Vec<String> = alone.collect();
        prop_assert_eq!(found, alone);
    }
}

#[test]
fn a_disk_without_a_name_has_that_of_its_vm() {
    let mut table: Table = SHARED.parse().unwrap();
    let list = (0..2).map(|place| {
        let mut own = own(place, 0, &[true; 7]);
        own.remove("volume.name");
        let mut vm = Table::new();
        for (path, value) in own {
            set(&mut vm, path, value);
        }
        Value::Table(vm)
    });
    table.insert("vms".into(), list.collect::<Vec<_>>().into());
    let loaded = read(&table);
    let text = shown(&loaded.others.unwrap()[0]);
    assert!(text.contains("pool: \"default\", name: \"lb-1\""), "{text}");
}

/// The example of two is what the page on operations tells, and it is accepted without a word.
#[test]
fn the_example_of_two_is_accepted() {
    const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pair.toml"));
    let loaded = parse(EXAMPLE, "pair.toml", &inputs(), now()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.name.as_str(), "postgres-lb-1");
    assert_eq!(loaded.others.unwrap()[0].name.as_str(), "postgres-lb-2");
}

//! What the table of effects says of each key is what `plan` says when its value changes: every key
//! of the configuration is changed, one at a time, below a guest that runs and answers.

use std::time::Duration;

use lbctl::testing::config::{Config, Effect, KEYS, Key, MemoryInputs, VolumeRef, parse};
use lbctl::testing::guest::Guest;
use lbctl::testing::reconcile::apply::{Progress, apply};
use lbctl::testing::reconcile::desired::Desired;
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{
    Class, Plan, Refusal, RefusalKind, Restart, Step, guest_differs, plan_up,
};
use time::OffsetDateTime;
use toml::{Table, Value};

use crate::support::host::{MemoryHost, NETWORK};

struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

/// Every table is there, so that every key has a place.
fn base() -> Table {
    let text = format!(
        r#"name = "lb-1"
cloud_init_volume_pool = "default"
ssh_admin_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvrSjWPyZNhw2rwGTTeCxLQgDBLaB3c0qXkG8OrP3fA one@example"
admin_user_password = "one"
[volume]
name = "lb-1"
pool = "default"
size = "10 GiB"
base_volume_pool = "os"
base_volume_name = "base"
[libvirt_network]
network_name = "{NETWORK}"
ip = "192.0.2.20"
[[libvirt_networks]]
network_name = "{NETWORK}"
ip = "192.0.2.21"
prefix_length = 24
[[macvtap_interfaces]]
interface = "eno1"
ip = "198.51.100.20"
prefix_length = 24
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.0.2.1"]
postgres_domain = "pg.example.org"
replicas_port = 5433
[haproxy.patroni_client]
ca_key = {{ file = "ca.key" }}
ca_certificate = {{ file = "ca.crt" }}
certificate_validity_period = 240
certificate_early_renewal_period = 24
[haproxy.timeouts]
[haproxy.check]
[haproxy.metrics]
[chrony]
enabled = true
servers = [{{ url = "ntp1.example.org", options = ["iburst"] }}]
pools = [{{ url = "pool.example.org", options = ["iburst"] }}]
makestep = {{ threshold = 1.0, limit = 3 }}
[fluentd]
enabled = true
load_balancer_tag = "lb"
node_exporter_tag = "ne"
forward = {{ domain = "192.0.2.30", port = 24224, hostname = "lb-1", shared_key = "k", ca_cert = {{ file = "ca.crt" }} }}
buffer = {{ customized = true, custom_value = "<buffer>\n  @type memory\n</buffer>" }}
[node_exporter]
[container_registry]
url = "https://registry.example.org"
username = "puller"
password = "one"
[libvirt]
"#
    );
    text.parse().unwrap()
}

/// Another value for a key, as TOML; `None`: nothing to change by itself.
#[rustfmt::skip]
#[allow(clippy::match_same_arms)] // in the order of the keys
fn other(path: &str) -> Option<&'static str> {
    Some(match path {
        "name" => "'lb-2'",
        "vcpus" => "4",
        "memory" => "4096",
        // It replaces [volume], so both cannot be given: see the test below.
        "volume_id" => return None,
        "cloud_init_volume_pool" => "'os'",
        "cloud_init_volume_name" => "'other.iso'",
        "ssh_admin_user" => "'operator'",
        "admin_user_password" => "'two'",
        "ssh_admin_public_key" => "'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvrSjWPyZNhw2rwGTTeCxLQgDBLaB3c0qXkG8OrP3fA two@example'",
        "install_dependencies" => "false",
        "libvirt_network.ip" => "'192.0.2.77'",
        "libvirt_networks[].ip" => "'192.0.2.78'",
        "macvtap_interfaces[].ip" => "'198.51.100.79'",
        "libvirt_network.mac" => "'52:54:00:de:e3:6b'",
        "libvirt_networks[].mac" => "'52:54:00:de:e3:6c'",
        "macvtap_interfaces[].mac" => "'52:54:00:de:e3:6d'",
        // There is one network on this host, and it is named by its name.
        "libvirt_network.network_name" | "libvirt_network.network_id" => return None,
        "libvirt_networks[].network_name" | "libvirt_networks[].network_id" => return None,
        "libvirt_networks[].prefix_length" | "macvtap_interfaces[].prefix_length" => "25",
        "libvirt_networks[].gateway" => "'192.0.2.1'",
        "macvtap_interfaces[].gateway" => "'198.51.100.1'",
        "libvirt_networks[].dns_servers" | "macvtap_interfaces[].dns_servers" => "['192.0.2.53']",
        "macvtap_interfaces[].interface" => "'eno2'",
        "volume.name" => "'other'",
        "volume.pool" => "'os'",
        "volume.size" => "'20 GiB'",
        "volume.base_volume_pool" => "'default'",
        "volume.base_volume_name" => "'other'",
        "volume.format" => "'raw'",
        "haproxy.postgres_nodes_max_count" => "5",
        "haproxy.postgres_nameserver_ips" => "['192.0.2.2', '2001:db8::1']",
        "haproxy.postgres_domain" => "'other.example.org'",
        "haproxy.runtime" => "'package'",
        "haproxy.version" => "'3.0'",
        "haproxy.image" => "'team/haproxy'",
        "haproxy.image_digest" => "'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'",
        "haproxy.verify_host" => "'pg.example.org'",
        "haproxy.max_connections" => "3000",
        "haproxy.port" => "6432",
        "haproxy.address" => "'192.0.2.20'",
        "haproxy.allow" | "haproxy.patroni_allow" => "['192.0.2.0/24']",
        "haproxy.max_connections_per_client" => "50",
        "haproxy.hold" => "'20s'",
        "haproxy.primary_connections" => "80",
        "haproxy.patroni_port" => "8008",
        "haproxy.patroni_passthrough" => "false",
        "haproxy.replicas_port" => "5434",
        "haproxy.replicas_max_lag" => "'16MB'",
        "haproxy.hard_stop_after" => "'2h'",
        "haproxy.patroni_client.ca_key" => return None, // with ca_certificate
        "haproxy.patroni_client.ca_certificate" => "{ file = 'other.crt' }",
        "haproxy.patroni_client.certificate_validity_period" => "300",
        "haproxy.patroni_client.certificate_early_renewal_period" => "30",
        "haproxy.patroni_client.key_algorithm" => "'rsa-4096'",
        "haproxy.timeouts.connect" | "haproxy.timeouts.check" => "'7s'",
        "haproxy.timeouts.idle" => "'7h'",
        "haproxy.check.interval" | "haproxy.check.fast" | "haproxy.check.down" => "'700ms'",
        "haproxy.check.rise" | "haproxy.check.fall" => "3",
        "haproxy.metrics.enabled" | "chrony.enabled" | "fluentd.enabled" | "node_exporter.enabled" => "false",
        "haproxy.metrics.address" => "'127.0.0.1'",
        "haproxy.metrics.port" => "9405",
        "chrony.servers[].url" | "chrony.pools[].url" => "'other.example.org'",
        "chrony.servers[].options" | "chrony.pools[].options" => "['minpoll 4']",
        "chrony.makestep.threshold" => "2.0",
        "chrony.makestep.limit" => "4",
        "fluentd.load_balancer_tag" | "fluentd.node_exporter_tag" => "'tag'",
        "fluentd.forward.domain" => "'192.0.2.31'",
        "fluentd.forward.port" => "24225",
        "fluentd.forward.hostname" => "'lb-one'",
        "fluentd.forward.shared_key" => "'other'",
        "fluentd.forward.ca_cert" => "{ file = 'other.crt' }",
        "fluentd.buffer.customized" => "false",
        "fluentd.buffer.custom_value" => "\"<buffer>\\n  @type file\\n</buffer>\"",
        "container_registry.url" => "'https://other.example.org'",
        "container_registry.username" | "container_registry.password" => "'two'",
        "container_registry.ca_certificate" => "{ file = 'ca.crt' }",
        "libvirt.uri" => "'qemu:///session'",
        "libvirt.domain_type" => "'qemu'",
        "libvirt.machine" => "'pc'",
        _ => panic!("{path}: say here what it may change to"),
    })
}

fn set(document: &mut Table, path: &str, value: Value) {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = document;
    for parent in parents.split('.').filter(|p| !p.is_empty()) {
        let found = table.get_mut(parent.trim_end_matches("[]")).unwrap();
        table = match found {
            Value::Array(list) => list[0].as_table_mut().unwrap(),
            found => found.as_table_mut().unwrap(),
        };
    }
    table.insert(name.into(), value);
}

fn load(document: &Table) -> Config {
    let text = toml::to_string(document).unwrap();
    let loaded = parse(&text, "lbctl.toml", inputs(), OffsetDateTime::now_utc());
    loaded
        .unwrap_or_else(|report| panic!("{}", report.render(false, None)))
        .config
}

/// Two certificates of one CA key.
fn inputs() -> &'static MemoryInputs {
    static INPUTS: std::sync::OnceLock<MemoryInputs> = std::sync::OnceLock::new();
    INPUTS.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |name: &str| {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            parameters
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            parameters.self_signed(&key).unwrap().pem()
        };
        let mut inputs = MemoryInputs::default();
        for (name, pem) in [
            ("ca.key", key.serialize_pem()),
            ("ca.crt", certificate("one")),
            ("other.crt", certificate("two")),
        ] {
            inputs.files.insert(name.into(), Ok(pem.into_bytes()));
        }
        inputs
    })
}

fn plan(config: &Config, host: &MemoryHost) -> Result<Plan, Refusal> {
    let mut observed = observe(config, host, Ask::Everything).unwrap();
    let desired = Desired::from_config(config, &observed, OffsetDateTime::now_utc()).unwrap();
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        observed.availability = Guest::new(host, "lb-1").availability(Duration::from_secs(5));
    }
    plan_up(&desired, &observed, Restart::Later)
}

fn running() -> MemoryHost {
    let host = MemoryHost::new();
    let first = plan(&load(&base()), &host).unwrap();
    apply(&first.steps, &host, &mut Quiet).unwrap();
    for (pool, name) in [("os", "other"), ("default", "base")] {
        let (pool, name) = (pool.into(), name.into());
        host.add_base(VolumeRef { pool, name });
    }
    host
}

fn found(plan: Result<Plan, Refusal>) -> Effect {
    match plan {
        Err(refusal) => {
            let objection = &refusal.objections[0];
            if objection.kind == RefusalKind::NotOurs {
                // The disk and the address are those of the VM of the old name.
                return Effect::Another;
            }
            let message = &objection.message;
            assert!(message.contains("(replace)"), "{message}");
            Effect::Replace
        }
        Ok(plan) if plan.is_empty() => Effect::Nothing,
        Ok(plan) if plan.creates() => Effect::Another,
        Ok(plan) => match plan.changes.iter().map(|c| c.class).max().unwrap() {
            Class::Live => Effect::Live,
            Class::Restart => Effect::Restart,
            class => panic!("{class}"),
        },
    }
}

#[test]
fn every_key_has_the_effect_that_the_table_says() {
    let host = running();
    assert!(plan(&load(&base()), &host).unwrap().is_empty());
    let wrong: Vec<String> = KEYS
        .iter()
        .filter(|key| !key.is_table())
        .filter_map(|key: &Key| {
            let value = other(key.path)?;
            let value: Table = format!("x = {value}").parse().unwrap();
            let mut document = base();
            set(&mut document, key.path, value["x"].clone());
            let effect = found(plan(&load(&document), &host));
            // What is used at the next issue changes nothing now.
            let as_listed = match key.effect() {
                Effect::NextCertificate => Effect::Nothing,
                other => other,
            };
            (effect != as_listed).then(|| format!("{}: {effect:?}, not {as_listed:?}", key.path))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn another_root_disk_is_refused() {
    let mut document = base();
    document.remove("volume");
    document.insert("volume_id".into(), Value::String("os/base".into()));
    assert_eq!(found(plan(&load(&document), &running())), Effect::Replace);
}

//! What the table of effects says of each key is what `plan` says when its value changes: every key
//! of the configuration is changed, one at a time, below a guest that runs and answers.

use std::time::Duration;

use lbctl::testing::config::{Config, Effect, KEYS, Key, MemoryInputs, Sha256, VolumeRef, parse};
use lbctl::testing::guest::Guest;
use lbctl::testing::reconcile::apply::{Progress, apply};
use lbctl::testing::reconcile::desired::{Desired, Intent};
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
[[libvirt_networks.routes]]
to = "10.0.0.0/8"
via = "192.0.2.100"
[[macvtap_interfaces.routes]]
to = "10.0.0.0/8"
via = "198.51.100.100"
[[bridge_interfaces]]
bridge = "br0"
addresses = ["203.0.113.20/24"]
[[bridge_interfaces.routes]]
to = "10.0.0.0/8"
via = "203.0.113.100"
[guest]
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
[[haproxy.services]]
name = "reports"
port = 5434
role = "replica"
[virtual_ip]
address = "198.51.100.30"
peers = ["198.51.100.21"]
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

/// The same with nodes that are listed.
fn listed() -> Table {
    let mut document = base();
    let haproxy = document["haproxy"].as_table_mut().unwrap();
    for key in [
        "postgres_nodes_max_count",
        "postgres_nameserver_ips",
        "postgres_domain",
    ] {
        haproxy.remove(key);
    }
    let nodes: Table = "nodes = [{ name = 'pg-1', address = '192.0.2.40' }, { name = 'pg-2', address = 'pg2.example.org' }]"
        .parse()
        .unwrap();
    haproxy.insert("nodes".into(), nodes["nodes"].clone());
    document
}

/// Another value for a key, as TOML; `None`: nothing to change by itself.
#[rustfmt::skip]
#[allow(clippy::match_same_arms, clippy::too_many_lines)] // in the order of the keys, one a line
fn other(path: &str) -> Option<&'static str> {
    Some(match path {
        "extends" => return None, // its keys have their effects
        "name" => "'lb-2'",
        "vcpus" => "4",
        "memory" => "4096",
        // It replaces [volume], so both cannot be given: see the test below.
        "volume_id" | "volume_format" => return None,
        "cloud_init_volume_pool" => "'os'",
        "cloud_init_volume_name" => "'other.iso'",
        "ssh_admin_user" => "'operator'",
        "admin_user_password" => "'two'",
        "ssh_admin_public_key" => "'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvrSjWPyZNhw2rwGTTeCxLQgDBLaB3c0qXkG8OrP3fA two@example'",
        "install_dependencies" => "false",
        "libvirt_network.ip" => "'192.0.2.77'",
        "libvirt_networks[].ip" => "'192.0.2.78'",
        "macvtap_interfaces[].ip" => "'198.51.100.79'",
        "bridge_interfaces[].ip" | "bridge_interfaces[].prefix_length" => return None, // both, or none
        "bridge_interfaces[].addresses" => "['203.0.113.21/24', '2001:db8::21/64']",
        "bridge_interfaces[].bridge" => "'br1'",
        "bridge_interfaces[].vlan" => "42",
        // It takes the place of the addresses: see the test below.
        "bridge_interfaces[].dhcp" => return None,
        "bridge_interfaces[].gateway" => "'203.0.113.1'",
        "libvirt_networks[].addresses" | "macvtap_interfaces[].addresses" => "['2001:db8::22/64']",
        "libvirt_networks[].search" | "macvtap_interfaces[].search" | "bridge_interfaces[].search" => "['example.org']",
        "libvirt_networks[].mtu" | "macvtap_interfaces[].mtu" | "bridge_interfaces[].mtu" => "9000",
        "libvirt_networks[].routes[].to" | "macvtap_interfaces[].routes[].to" | "bridge_interfaces[].routes[].to" => "'10.1.0.0/16'",
        "libvirt_networks[].routes[].via" => "'192.0.2.101'",
        "macvtap_interfaces[].routes[].via" => "'198.51.100.101'",
        "bridge_interfaces[].routes[].via" => "'203.0.113.101'",
        "bridge_interfaces[].dns_servers" => "['203.0.113.53']",
        "bridge_interfaces[].mac" => "'52:54:00:de:e3:6e'",
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
        // In the place of base_volume_name: see the test below.
        "volume.base_image.file" | "volume.base_image.url" | "volume.base_image.sha256" => return None,
        "volume.format" => "'raw'",
        "guest.http_proxy" => "'http://proxy.example.org:3128'",
        "guest.apt_mirror" => "['http://mirror.example.org/debian']",
        "guest.ca_certificates" => "{ file = 'ca.crt' }",
        "guest.timezone" => "'Europe/Berlin'",
        "guest.cloud_config" => "'packages: [vim]'",
        // Instead of the three below: see `listed`.
        "haproxy.nodes[].name" => "'pg-9'",
        "haproxy.nodes[].address" => "'192.0.2.41'",
        "haproxy.nodes[].port" | "haproxy.services[].postgres_port" => "6432",
        "haproxy.nodes[].patroni_port" => "8010",
        "haproxy.nodes[].verify_host" => "'pg-1.example.org'",
        "haproxy.services[].name" => "'other'",
        "haproxy.services[].port" => "5444",
        "haproxy.services[].role" => "'sync'",
        "haproxy.services[].fallback" => "'primary'",
        "haproxy.services[].max_lag" => "'16MB'",
        "haproxy.services[].tags" => "{ ssd = true }",
        "haproxy.services[].balance" => "'first'",
        "haproxy.services[].proxy_protocol" => "'v2'",
        "haproxy.role" => "'leader'",
        "haproxy.postgres_port" => "5433",
        // It changes what else may be given: see the test below.
        "haproxy.patroni_tls" => return None,
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
        // One address does not go together with a shared one.
        "haproxy.address" => "'::'",
        "haproxy.allow" | "haproxy.patroni_allow" => "['192.0.2.0/24']",
        "haproxy.max_connections_per_client" => "50",
        "haproxy.hold" => "'20s'",
        "haproxy.primary_connections" => "80",
        "haproxy.patroni_port" => "8008",
        "haproxy.patroni_passthrough" => "false",
        "haproxy.replicas_port" => "5435",
        "haproxy.replicas_max_lag" => "'16MB'",
        "haproxy.hard_stop_after" => "'2h'",
        "haproxy.patroni_client.ca_key" => return None, // with ca_certificate
        // Instead of ca_key, and both at once: see the test below.
        "haproxy.patroni_client.certificate" | "haproxy.patroni_client.key" => return None,
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
        "virtual_ip.address" => "'198.51.100.31'",
        "virtual_ip.peers" => "['198.51.100.22']",
        "virtual_ip.router_id" => "77",
        "virtual_ip.detection" => "'1s'",
        "virtual_ip.drain" => "'5m'",
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
        let client = rcgen::KeyPair::generate().unwrap();
        let given = rcgen::CertificateParams::default()
            .self_signed(&client)
            .unwrap();
        let mut inputs = MemoryInputs::default();
        for (name, pem) in [
            ("client.key", client.serialize_pem()),
            ("client.crt", given.pem()),
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
    observed.look_at_image();
    let now = OffsetDateTime::now_utc();
    let desired = Desired::from_config(config, &observed, now, Intent::Apply).unwrap();
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        observed.availability = Guest::new(host, "lb-1").availability(Duration::from_secs(5));
    }
    plan_up(&desired, &observed, Restart::Later)
}

fn running(document: &Table) -> MemoryHost {
    let host = MemoryHost::new();
    let first = plan(&load(document), &host).unwrap();
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
    let (host, of_a_list) = (running(&base()), running(&listed()));
    assert!(plan(&load(&base()), &host).unwrap().is_empty());
    assert!(plan(&load(&listed()), &of_a_list).unwrap().is_empty());
    let wrong: Vec<String> = KEYS
        .iter()
        .filter(|key| !key.is_table())
        .filter_map(|key: &Key| {
            let value = other(key.path)?;
            let value: Table = format!("x = {value}").parse().unwrap();
            let mut document = base();
            let mut host = &host;
            if key.path.starts_with("haproxy.nodes[]") {
                (document, host) = (listed(), &of_a_list);
            }
            set(&mut document, key.path, value["x"].clone());
            let effect = found(plan(&load(&document), host));
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
fn addresses_by_dhcp_need_a_restart() {
    let mut document = base();
    let bridge = document["bridge_interfaces"][0].as_table_mut().unwrap();
    bridge.remove("addresses");
    bridge.remove("routes");
    bridge.insert("dhcp".into(), Value::Boolean(true));
    assert_eq!(
        found(plan(&load(&document), &running(&base()))),
        Effect::Restart
    );
}

#[test]
fn the_image_of_the_base_volume() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.qcow2");
    let mut image = vec![0; 1 << 20];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    image[23] = 16;
    image[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    std::fs::write(&file, &image).unwrap();
    let of = |source: (&str, &str), digest: &str| {
        let mut document = base();
        let volume = document["volume"].as_table_mut().unwrap();
        volume.remove("base_volume_name");
        let image = Table::from_iter(
            [source, ("sha256", digest)].map(|(k, v)| (k.to_owned(), Value::String(v.into()))),
        );
        volume.insert("base_image".into(), Value::Table(image));
        load(&document)
    };
    let (file, digest) = (file.display().to_string(), Sha256::of(&image).to_string());
    let wanted = of(("file", &file), &digest);
    let host = MemoryHost::new();
    let first = plan(&wanted, &host).unwrap();
    let brings = |plan: &Plan| plan.steps.iter().any(|s| matches!(s, Step::BringImage(_)));
    // The longest step, and the one that fails most, leaves nothing that is the VM's.
    assert!(matches!(first.steps[0], Step::BringImage(_)) && brings(&first));
    apply(&first.steps, &host, &mut Quiet).unwrap();
    assert_eq!(found(plan(&wanted, &host)), Effect::Nothing);
    let elsewhere = of(("file", "/nowhere"), &digest);
    assert_eq!(found(plan(&elsewhere, &host)), Effect::Nothing);
    let url = of(("url", "https://nowhere.example/image"), &digest);
    assert_eq!(found(plan(&url, &host)), Effect::Nothing);
    let another = of(("file", &file), &"0".repeat(64));
    assert_eq!(found(plan(&another, &host)), Effect::Replace);
}

#[test]
fn another_root_disk_is_refused() {
    let mut document = base();
    document.remove("volume");
    document.insert("volume_id".into(), Value::String("os/base".into()));
    let host = running(&base());
    assert_eq!(found(plan(&load(&document), &host)), Effect::Replace);
}

#[test]
fn another_way_of_asking_patroni_is_live_and_brings_and_removes_certificates() {
    let client = |document: &mut Table, keys: &[&str]| {
        let haproxy = document["haproxy"].as_table_mut().unwrap();
        let client = haproxy["patroni_client"].as_table_mut().unwrap();
        client.retain(|key, _| keys.contains(&key));
    };
    let mode = |word: &str| {
        let mut document = base();
        set(
            &mut document,
            "haproxy.patroni_tls",
            Value::String(word.into()),
        );
        match word {
            "mutual" => {}
            "server" => client(&mut document, &["ca_certificate"]),
            _ => client(&mut document, &[]),
        }
        document
    };
    let files = |document: &Table| {
        let host = MemoryHost::new();
        let observed = observe(&load(document), &host, Ask::Everything).unwrap();
        let now = OffsetDateTime::now_utc();
        let seed = Desired::from_config(&load(document), &observed, now, Intent::Apply)
            .unwrap()
            .seed;
        let guest: Vec<String> = seed
            .guest
            .files
            .iter()
            .map(|f| f.path.to_string())
            .collect();
        let own = seed.files().iter().any(|file| file.name == "client.pem");
        let has = |path: &str| guest.iter().any(|p| p == path);
        (
            own,
            has("/etc/haproxy/client.pem"),
            has("/etc/haproxy/ca.pem"),
        )
    };
    for (from, there) in [
        ("mutual", (true, true, true)),
        ("server", (false, false, true)),
        ("off", (false, false, false)),
    ] {
        let host = running(&mode(from));
        assert_eq!(files(&mode(from)), there, "{from}");
        for to in ["mutual", "server", "off"]
            .into_iter()
            .filter(|to| *to != from)
        {
            let plan = plan(&load(&mode(to)), &host).unwrap();
            let issues = plan
                .changes
                .iter()
                .any(|c| c.to_string().contains("client certificate"));
            assert_eq!(found(Ok(plan)), Effect::Live, "{from} to {to}");
            assert_eq!(issues, to == "mutual", "{from} to {to}");
        }
    }
}

#[test]
fn a_certificate_from_elsewhere_is_exchanged_live_and_back() {
    let (host, mut document) = (running(&base()), base());
    let client = document["haproxy"]["patroni_client"]
        .as_table_mut()
        .unwrap();
    for key in [
        "ca_key",
        "certificate_validity_period",
        "certificate_early_renewal_period",
    ] {
        client.remove(key);
    }
    for (key, file) in [("certificate", "client.crt"), ("key", "client.key")] {
        let file: Table = format!("file = '{file}'").parse().unwrap();
        client.insert(key.into(), Value::Table(file));
    }
    let given = load(&document);
    let plan = plan(&given, &host).unwrap();
    assert!(
        plan.changes
            .iter()
            .all(|change| change.class == Class::Live),
        "{:?}",
        plan.changes
    );
    let words: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert!(
        words.join("; ").contains("another one is configured"),
        "{words:?}"
    );
}

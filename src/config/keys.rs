//! Every key there is, declared once: where it stands, what it takes, what a change of it does, its
//! default, its bounds and what it means. From here its reader takes default and bounds; from here
//! are made the JSON Schema, the reference, lbctl.toml(5), and the finding of unknown, misplaced,
//! mistyped and missing keys. `config.example.toml` and tests/it/effects.rs are held against it.
//! What a value must be beyond its bounds is decided where it is read.

use super::model::{DiskFormat, DomainType, Runtime};
use super::types::MAX_HAPROXY_MILLIS;
use super::words::Word as _;
use crate::cert::KeyAlgorithm;

pub use super::key::{Bounds, Effect, Key, Kind, Literal, Need};

use Effect::{Another, Live, NextCertificate, Nothing, Replace, Restart};
use Kind::{
    Boolean, Integer, LongText, Number, Secret, Size, SwitchOrPort, Text, TextOrTexts, Texts, Time,
};
use Literal::{Bool, Int, Str};
use Need::{Optional, Required};

/// More than any machine QEMU makes has use for in front of a database.
const MOST_CPUS: i64 = 512;
/// 16 TiB, in MiB.
const MOST_MEMORY: i64 = 16 * 1024 * 1024;
/// Smallest disk that is taken for meant so, in bytes. Less is a number whose unit was forgotten.
const SMALLEST_DISK: i64 = 1 << 20;
/// 1 PiB, in bytes.
const LARGEST_DISK: i64 = 1 << 50;
/// Each node is a slot of a server-template that is checked and resolved for ever.
const MOST_NODES: i64 = 100;
/// 500 years of 8766 hours.
const LONGEST_VALIDITY: i64 = 500 * 8766;
/// Where neither the configuration nor `LIBVIRT_DEFAULT_URI` names another.
pub const DEFAULT_URI: &str = "qemu:///system";
const LAST_PORT: i64 = 65_535;
const MOST_CONNECTIONS: i64 = 1_000_000;
const LONGEST_TIME: i64 = MAX_HAPROXY_MILLIS.cast_signed();

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// In the order of `config.example.toml`. Each line: path, kind, effect of a change, example or
/// default, meaning; then the bounds.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    Key::required("name", Text, Another, "\"postgres-lb-1\"", "Name of the VM and its hostname"),
    Key::default("vcpus", Integer, Restart, Int(2), "Number of virtual CPUs").within(1, MOST_CPUS),
    Key::default("memory", Integer, Restart, Int(8192), "Memory in MiB").within(256, MOST_MEMORY),
    Key::optional("volume_id", Text, Replace, "\"default/postgres-lb-1\"", "An existing volume as root disk: its key, its path, or pool/name. Instead of [volume]"),
    Key::required("cloud_init_volume_pool", Text, Live, "\"default\"", "Pool of the cloud-init volume"),
    Key::optional("cloud_init_volume_name", Text, Live, "\"postgres-lb-1-cloud-init.iso\"", "Name of the cloud-init volume; by default the VM's name and -cloud-init.iso"),
    Key::default("ssh_admin_user", Text, Restart, Str("ubuntu"), "The image's default user, who may use sudo"),
    Key::optional("admin_user_password", Secret, Live, "{ file = \"admin-password\" }", "Password of that user for the console; ssh never takes it"),
    Key::optional("ssh_admin_public_key", LongText, Live, "{ file = \"admin.pub\" }", "Public ssh key of that user; several may be given, one a line"),
    Key::default("install_dependencies", Boolean, Live, Bool(true), "Whether cloud-init may install packages and download anything"),

    Key::table("libvirt_network", Optional, "A network interface in a libvirt network that gives the address by DHCP"),
    Key::required("libvirt_network.ip", Text, Restart, "\"192.168.122.162\"", "Address, reserved for this VM in the network's DHCP"),
    Key::optional("libvirt_network.mac", Text, Restart, "\"52:54:00:de:e3:6b\"", "MAC address; derived from the name where left out"),
    Key::optional("libvirt_network.network_name", Text, Restart, "\"default\"", "Name of the network; this or network_id"),
    Key::optional("libvirt_network.network_id", Text, Restart, "\"b10c1bda-f608-4780-9cfb-574c2271a193\"", "UUID of the network; this or network_name"),

    Key::tables("libvirt_networks", "Network interfaces in libvirt networks, with static addresses"),
    Key::required("libvirt_networks[].ip", Text, Restart, "\"192.168.123.10\"", "Address, written into the guest's network configuration"),
    Key::required("libvirt_networks[].prefix_length", Integer, Restart, "24", "Length of the network's prefix").within(1, 32),
    Key::optional("libvirt_networks[].gateway", Text, Restart, "\"192.168.123.1\"", "Default gateway; on one network interface at most"),
    Key::optional("libvirt_networks[].dns_servers", Texts, Restart, "[\"192.168.123.1\"]", "DNS servers the guest asks through this interface"),
    Key::optional("libvirt_networks[].mac", Text, Restart, "\"52:54:00:de:e3:6c\"", "MAC address; derived from the name where left out"),
    Key::optional("libvirt_networks[].network_name", Text, Restart, "\"internal\"", "Name of the network; this or network_id"),
    Key::optional("libvirt_networks[].network_id", Text, Restart, "\"6d8e9b7c-3a53-4f0e-8a86-2b5ac7a9b0fd\"", "UUID of the network; this or network_name"),

    Key::tables("macvtap_interfaces", "Network interfaces on interfaces of the host by macvtap, with static addresses"),
    Key::required("macvtap_interfaces[].interface", Text, Restart, "\"eno1\"", "Host interface"),
    Key::required("macvtap_interfaces[].ip", Text, Restart, "\"192.168.1.20\"", "Address, written into the guest's network configuration"),
    Key::required("macvtap_interfaces[].prefix_length", Integer, Restart, "24", "Length of the network's prefix").within(1, 32),
    Key::optional("macvtap_interfaces[].gateway", Text, Restart, "\"192.168.1.1\"", "Default gateway; on one network interface at most"),
    Key::optional("macvtap_interfaces[].dns_servers", Texts, Restart, "[\"192.168.1.1\"]", "DNS servers the guest asks through this interface"),
    Key::optional("macvtap_interfaces[].mac", Text, Restart, "\"52:54:00:de:e3:6d\"", "MAC address; derived from the name where left out"),

    Key::table("volume", Optional, "Root disk that lbctl clones from a base volume. Instead of volume_id"),
    Key::required("volume.name", Text, Replace, "\"postgres-lb-1\"", "Name of the volume to make"),
    Key::required("volume.pool", Text, Replace, "\"default\"", "Pool to make it in"),
    Key::optional("volume.size", Size, Live, "\"10 GiB\"", "Size, in bytes or with a unit; by default that of the base").within(SMALLEST_DISK, LARGEST_DISK),
    Key::optional("volume.base_volume_pool", Text, Replace, "\"os\"", "Pool of the base volume; by default that of the volume"),
    Key::required("volume.base_volume_name", Text, Replace, "\"debian-12\"", "Name of the base volume"),
    Key::default("volume.format", Text, Replace, Str("qcow2"), "qcow2: copy-on-write clone; raw: full copy").words(DiskFormat::WORDS),

    Key::table("haproxy", Required, "The load balancer itself"),
    Key::required("haproxy.postgres_nodes_max_count", Integer, Live, "3", "Most nodes the Patroni cluster will have").within(1, MOST_NODES),
    Key::required("haproxy.postgres_nameserver_ips", Texts, Live, "[\"192.168.122.161\"]", "Nameservers that resolve postgres_domain"),
    Key::required("haproxy.postgres_domain", Text, Live, "\"server.postgres.local\"", "Name that resolves to all nodes"),
    Key::default("haproxy.runtime", Text, Restart, Str("container"), "container: an image run by Docker; package: the distribution's haproxy").words(Runtime::WORDS),
    Key::default("haproxy.version", Text, Restart, Str("3.2"), "Release line whose syntax is written, and the image's tag; 2.6 by default under runtime = \"package\""),
    Key::default("haproxy.image", Text, Restart, Str("haproxy"), "Container image, without tag"),
    Key::optional("haproxy.image_digest", Text, Restart, "\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"", "Digest the image must have"),
    Key::optional("haproxy.verify_host", Text, Live, "\"server.postgres.local\"", "Name the nodes' certificates must carry; without it only their CA is verified"),
    Key::default("haproxy.port", Integer, Live, Int(5432), "Port where clients reach the primary").within(1, LAST_PORT),
    Key::default("haproxy.address", Text, Live, Str("0.0.0.0"), "Address of the VM to listen on; 0.0.0.0: all of them. The metrics have one of their own"),
    Key::optional("haproxy.allow", Texts, Live, "[\"192.168.122.0/24\"]", "Networks whose clients may connect to PostgreSQL's ports; by default all"),
    Key::default("haproxy.max_connections", Integer, Live, Int(2000), "Most connections at one time, on each port for PostgreSQL").within(10, MOST_CONNECTIONS),
    Key::optional("haproxy.max_connections_per_client", Integer, Live, "100", "Most connections of one client's address at one time; by default as many as of all").within(1, MOST_CONNECTIONS),
    Key::default("haproxy.hold", Time, Live, Str("10s"), "How long a new connection waits while there is no primary; \"0s\": not at all").within(0, 5 * MINUTE),
    Key::optional("haproxy.primary_connections", Integer, Live, "80", "Most sessions on the primary, less than its own max_connections: further ones wait, as long as hold says; by default no limit").within(1, MOST_CONNECTIONS),
    Key::default("haproxy.patroni_port", Integer, Live, Int(4443), "Port of Patroni's REST API on the nodes").within(1, LAST_PORT),
    Key::default("haproxy.patroni_passthrough", SwitchOrPort, Live, Bool(true), "Whether the primary's REST API is reached through the VM too: true: on patroni_port; false: no; a number: on that port").within(1, LAST_PORT),
    Key::optional("haproxy.patroni_allow", Texts, Live, "[\"192.168.122.0/24\"]", "Networks that may use it; by default all"),
    Key::optional("haproxy.replicas_port", Integer, Live, "5433", "Port that spreads read-only sessions over the replicas; off by default").within(1, LAST_PORT),
    Key::optional("haproxy.replicas_max_lag", Text, Live, "\"16MB\"", "How far a replica may lag behind and still be used"),
    Key::default("haproxy.hard_stop_after", Time, Live, Str("1h"), "How long sessions opened before a reload may live on in the old worker").within(SECOND, LONGEST_TIME),
    Key::table("haproxy.patroni_client", Required, "The client certificate for the health checks"),
    Key::required("haproxy.patroni_client.ca_key", Secret, Live, "{ file = \"patroni-ca.key\" }", "Private key of the CA that signs it"),
    Key::required("haproxy.patroni_client.ca_certificate", LongText, Live, "{ file = \"patroni-ca.crt\" }", "Certificate of that CA"),
    Key::required("haproxy.patroni_client.certificate_validity_period", Integer, NextCertificate, "8760", "How long the client certificate lasts, in hours").within(1, LONGEST_VALIDITY),
    Key::required("haproxy.patroni_client.certificate_early_renewal_period", Integer, NextCertificate, "720", "How long before its end it is renewed, in hours").within(1, LONGEST_VALIDITY),
    Key::default("haproxy.patroni_client.key_algorithm", Text, Live, Str("ecdsa-p256"), "ecdsa-p256 or rsa-4096").words(KeyAlgorithm::WORDS),
    Key::table("haproxy.timeouts", Optional, "Timeouts"),
    Key::default("haproxy.timeouts.connect", Time, Live, Str("5s"), "To open a connection to a node").within(100, 10 * MINUTE),
    Key::default("haproxy.timeouts.check", Time, Live, Str("2s"), "For the answer to a health check").within(100, 10 * MINUTE),
    Key::default("haproxy.timeouts.idle", Time, Live, Str("24h"), "For a session in which nothing moves").within(SECOND, LONGEST_TIME),
    Key::table("haproxy.check", Optional, "Health checks"),
    Key::default("haproxy.check.interval", Time, Live, Str("500ms"), "Between checks of a node whose state is settled").within(50, HOUR),
    Key::default("haproxy.check.fast", Time, Live, Str("50ms"), "Between checks of a node whose state is changing").within(50, HOUR),
    Key::default("haproxy.check.down", Time, Live, Str("250ms"), "Between checks of a node that is down").within(50, HOUR),
    Key::default("haproxy.check.rise", Integer, Live, Int(1), "Good checks until a node is used").within(1, 100),
    Key::default("haproxy.check.fall", Integer, Live, Int(5), "Bad checks until a node is given up: no new sessions").within(1, 100),
    Key::table("haproxy.metrics", Optional, "/metrics for Prometheus and /ready for health checks of the load balancer, over HTTP"),
    Key::default("haproxy.metrics.enabled", Boolean, Live, Bool(true), "Whether they are served"),
    Key::default("haproxy.metrics.address", Text, Live, Str("0.0.0.0"), "Address in the guest to listen on"),
    Key::default("haproxy.metrics.port", Integer, Live, Int(8405), "Port to listen on").within(1, LAST_PORT),

    Key::table("chrony", Optional, "Clock set by chrony"),
    Key::default("chrony.enabled", Boolean, Live, Bool(false), "Whether chrony is set up"),
    Key::tables("chrony.servers", "Time servers"),
    Key::required("chrony.servers[].url", Text, Live, "\"ntp1.example.com\"", "Name or address of the server"),
    Key::optional("chrony.servers[].options", TextOrTexts, Live, "[\"iburst\"]", "As in chrony.conf behind the server"),
    Key::tables("chrony.pools", "Pools of time servers"),
    Key::required("chrony.pools[].url", Text, Live, "\"pool.ntp.org\"", "Name of the pool"),
    Key::optional("chrony.pools[].options", TextOrTexts, Live, "\"iburst maxsources 4\"", "As in chrony.conf behind the pool"),
    Key::table("chrony.makestep", Optional, "When the clock may jump rather than drift"),
    Key::required("chrony.makestep.threshold", Number, Live, "1.0", "Offset in seconds from which it jumps").strictly_between(0, 1_000_000_000),
    Key::required("chrony.makestep.limit", Integer, Live, "3", "In how many first updates; negative: in all").within(-1, 1_000_000),

    Key::table("fluentd", Optional, "Logs sent to a fluentd node by its forward protocol over TLS"),
    Key::default("fluentd.enabled", Boolean, Live, Bool(false), "Whether fluentd is set up"),
    Key::required("fluentd.load_balancer_tag", Text, Live, "\"postgres-lb.haproxy\"", "Tag of HAProxy's logs"),
    Key::required("fluentd.node_exporter_tag", Text, Live, "\"postgres-lb.node-exporter\"", "Tag of the node exporter's logs"),
    Key::table("fluentd.forward", Required, "The node that takes the logs"),
    Key::required("fluentd.forward.domain", Text, Live, "\"logs.example.com\"", "Its address or name"),
    Key::required("fluentd.forward.port", Integer, Live, "24224", "Its port").within(1, LAST_PORT),
    Key::required("fluentd.forward.hostname", Text, Live, "\"postgres-lb-1\"", "The name by which this VM is known to it"),
    Key::required("fluentd.forward.shared_key", Secret, Live, "{ file = \"fluentd-shared-key\" }", "Key shared with it"),
    Key::required("fluentd.forward.ca_cert", LongText, Live, "{ file = \"fluentd-ca.crt\" }", "CA that signed its certificate"),
    Key::table("fluentd.buffer", Optional, "Buffer of the logs to be sent"),
    Key::default("fluentd.buffer.customized", Boolean, Live, Bool(false), "Whether custom_value takes the place of the default"),
    Key::optional("fluentd.buffer.custom_value", Text, Live, "'''\n<buffer>\n  @type memory\n</buffer>\n'''", "A whole <buffer> section"),

    Key::table("node_exporter", Optional, "Prometheus's node exporter"),
    Key::default("node_exporter.enabled", Boolean, Live, Bool(true), "Whether it runs"),

    Key::table("container_registry", Optional, "A registry with a password, to take the haproxy image from"),
    Key::required("container_registry.url", Text, Restart, "\"https://registry.example.com\"", "Its URL"),
    Key::required("container_registry.username", Text, Live, "\"puller\"", "User"),
    Key::required("container_registry.password", Secret, Live, "{ env = \"REGISTRY_PASSWORD\" }", "The user's password"),
    Key::optional("container_registry.ca_certificate", LongText, Live, "{ file = \"registry-ca.crt\" }", "CA that signed its certificate; left out: one of those the guest trusts anyway"),

    Key::table("libvirt", Optional, "The host's libvirt"),
    Key::default("libvirt.uri", Text, Nothing, Str(DEFAULT_URI), "Connection URI; --connect comes first, then this, then LIBVIRT_DEFAULT_URI"),
    Key::default("libvirt.domain_type", Text, Restart, Str("auto"), "auto, kvm or qemu (emulation, slow)").words(DomainType::WORDS),
    Key::optional("libvirt.machine", Text, Restart, "\"q35\"", "Machine type; by default what libvirt gives for the architecture"),
];

/// The key at a path of this table's form.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The keys that stand directly in a table; `""` is the top level.
pub fn children(parent: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.parent() == parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::{HaproxyTime, HaproxyVersion};

    #[test]
    fn every_path_stands_once_and_in_a_table_that_stands_before_it() {
        for (place, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS.iter()
                    .skip(place + 1)
                    .all(|other| other.path != key.path),
                "{} stands twice",
                key.path
            );
            let parent = key.parent().trim_end_matches("[]");
            let found = KEYS[..place]
                .iter()
                .any(|other| other.path == parent && other.is_table());
            assert!(parent.is_empty() || found, "{} has no table", key.path);
            assert_eq!(
                key.is_table(),
                key.example().is_empty(),
                "{}: an example for all but tables",
                key.path
            );
            assert_eq!(
                key.is_table(),
                key.effect() == Effect::OfItsKeys,
                "{}: an effect for all but tables",
                key.path
            );
        }
    }

    #[test]
    fn every_default_fits_its_kind_and_its_bounds() {
        for key in KEYS {
            let Some(default) = key.default else {
                continue;
            };
            let number = match (key.kind, default) {
                (Kind::Text, Str(word)) => {
                    if let Bounds::Words(words) = key.bounds {
                        assert!(words.contains(&word), "{}", key.path);
                    }
                    continue;
                }
                (Kind::Boolean | Kind::SwitchOrPort, Bool(_)) => continue,
                (Kind::Integer, Int(number)) => Some(number),
                (Kind::Time, Str(time)) => HaproxyTime::parse(time)
                    .ok()
                    .and_then(|time| i64::try_from(time.millis()).ok()),
                _ => None,
            };
            assert!(
                number.is_some_and(|number| key.range().contains(&number)),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn the_version_of_packages_is_told_where_the_version_is_declared() {
        let meaning = find("haproxy.version").map(|key| key.meaning);
        let of_packages = format!("{} by default under", HaproxyVersion::OF_PACKAGES);
        assert!(meaning.is_some_and(|meaning| meaning.contains(&of_packages)));
    }
}

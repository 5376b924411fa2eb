//! Every key there is, once: where it stands, what it takes, its default, and what it means. Drives the finding of
//! unknown, misplaced, mistyped and missing keys, the test that `config.example.toml` shows each, the
//! README's table and lbctl.toml(5). What a value must
//! be beyond its type is decided where it is read.

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text, `{ file = … }` or `{ env = … }`.
    LongText,
    /// As `LongText`, and never shown.
    Secret,
    Integer,
    /// An integer or a float.
    Number,
    Boolean,
    /// A list of texts.
    Texts,
    /// A text or a list of texts.
    TextOrTexts,
    /// A text in HAProxy's syntax, or an integer of milliseconds.
    Time,
    /// A text with a unit, or an integer of bytes.
    Size,
    Table,
    /// A list of tables.
    Tables,
}

impl Kind {
    /// What it takes, in a document's words.
    #[must_use]
    pub fn takes(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::LongText => "text, file or env",
            Self::Secret => "secret: text, file or env",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "true or false",
            Self::Texts => "list of texts",
            Self::TextOrTexts => "text or list of texts",
            Self::Time => "time",
            Self::Size => "size",
            Self::Table => "table",
            Self::Tables => "list of tables",
        }
    }
}

/// Whether a key must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Wherever the table that it stands in is given (and is not switched off by its `enabled`).
    Required,
    Optional,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted; `[]` behind a list of tables.
    pub path: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// As it would be written in TOML. Empty: none, or told in `meaning`.
    pub default: &'static str,
    /// A value as it would be written in TOML; for tables empty.
    pub example: &'static str,
    pub meaning: &'static str,
}

impl Key {
    /// The last part of the path: what stands before the `=`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the table it stands in; empty for the top level.
    #[must_use]
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// Its default as in TOML, `required`, or nothing: in a document's words.
    #[must_use]
    pub fn default_or_need(&self) -> &'static str {
        match (self.default, self.need) {
            ("", Need::Required) => "required",
            (default, _) => default,
        }
    }

    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::Tables)
    }
}

const fn required(
    path: &'static str,
    kind: Kind,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        need: Need::Required,
        default: "",
        example,
        meaning,
    }
}

const fn optional(
    path: &'static str,
    kind: Kind,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        need: Need::Optional,
        default: "",
        example,
        meaning,
    }
}

/// Optional, with a default that serves as the example.
const fn default(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        need: Need::Optional,
        default,
        example: default,
        meaning,
    }
}

use Kind::{
    Boolean, Integer, LongText, Number, Secret, Size, Table, Tables, Text, TextOrTexts, Texts, Time,
};

/// In the order of `config.example.toml`.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    required("name", Text, "\"postgres-lb-1\"", "Name of the VM and its hostname"),
    default("vcpus", Integer, "2", "Number of virtual CPUs"),
    default("memory", Integer, "8192", "Memory in MiB"),
    optional("volume_id", Text, "\"default/postgres-lb-1\"", "An existing volume as root disk: its key, its path, or pool/name. Instead of [volume]"),
    required("cloud_init_volume_pool", Text, "\"default\"", "Pool of the cloud-init volume"),
    optional("cloud_init_volume_name", Text, "\"postgres-lb-1-cloud-init.iso\"", "Name of the cloud-init volume; by default the VM's name and -cloud-init.iso"),
    default("ssh_admin_user", Text, "\"ubuntu\"", "The image's default user, who may use sudo"),
    optional("admin_user_password", Secret, "{ file = \"admin-password\" }", "Password of that user for the console; ssh never takes it"),
    optional("ssh_admin_public_key", LongText, "{ file = \"admin.pub\" }", "Public ssh key of that user; several may be given, one a line"),
    default("install_dependencies", Boolean, "true", "Whether cloud-init may install packages and download anything"),

    optional("libvirt_network", Table, "", "A card in a libvirt network that gives the address by DHCP"),
    required("libvirt_network.ip", Text, "\"192.168.122.162\"", "Address, reserved for this VM in the network's DHCP"),
    optional("libvirt_network.mac", Text, "\"52:54:00:de:e3:6b\"", "MAC address; derived from the name where left out"),
    optional("libvirt_network.network_name", Text, "\"default\"", "Name of the network; this or network_id"),
    optional("libvirt_network.network_id", Text, "\"b10c1bda-f608-4780-9cfb-574c2271a193\"", "UUID of the network; this or network_name"),

    optional("libvirt_networks", Tables, "", "Cards in libvirt networks, with static addresses"),
    required("libvirt_networks[].ip", Text, "\"192.168.123.10\"", "Address, written into the guest's network configuration"),
    required("libvirt_networks[].prefix_length", Integer, "24", "Length of the network's prefix"),
    optional("libvirt_networks[].gateway", Text, "\"192.168.123.1\"", "Default gateway; on one card at most"),
    optional("libvirt_networks[].dns_servers", Texts, "[\"192.168.123.1\"]", "DNS servers the guest asks through this card"),
    optional("libvirt_networks[].mac", Text, "\"52:54:00:de:e3:6c\"", "MAC address; derived from the name where left out"),
    optional("libvirt_networks[].network_name", Text, "\"internal\"", "Name of the network; this or network_id"),
    optional("libvirt_networks[].network_id", Text, "\"6d8e9b7c-3a53-4f0e-8a86-2b5ac7a9b0fd\"", "UUID of the network; this or network_name"),

    optional("macvtap_interfaces", Tables, "", "Cards on host interfaces by macvtap, with static addresses"),
    required("macvtap_interfaces[].interface", Text, "\"eno1\"", "Host interface"),
    required("macvtap_interfaces[].ip", Text, "\"192.168.1.20\"", "Address, written into the guest's network configuration"),
    required("macvtap_interfaces[].prefix_length", Integer, "24", "Length of the network's prefix"),
    optional("macvtap_interfaces[].gateway", Text, "\"192.168.1.1\"", "Default gateway; on one card at most"),
    optional("macvtap_interfaces[].dns_servers", Texts, "[\"192.168.1.1\"]", "DNS servers the guest asks through this card"),
    optional("macvtap_interfaces[].mac", Text, "\"52:54:00:de:e3:6d\"", "MAC address; derived from the name where left out"),

    optional("volume", Table, "", "Root disk that lbctl clones from a base volume. Instead of volume_id"),
    required("volume.name", Text, "\"postgres-lb-1\"", "Name of the volume to make"),
    required("volume.pool", Text, "\"default\"", "Pool to make it in"),
    optional("volume.size", Size, "\"10 GiB\"", "Size, in bytes or with a unit; by default that of the base"),
    optional("volume.base_volume_pool", Text, "\"os\"", "Pool of the base volume; by default that of the volume"),
    required("volume.base_volume_name", Text, "\"debian-12\"", "Name of the base volume"),
    default("volume.format", Text, "\"qcow2\"", "qcow2: copy-on-write clone; raw: full copy"),

    required("haproxy", Table, "", "The load balancer itself"),
    required("haproxy.postgres_nodes_max_count", Integer, "3", "Most nodes the Patroni cluster will have"),
    required("haproxy.postgres_nameserver_ips", Texts, "[\"192.168.122.161\"]", "Nameservers that resolve postgres_domain"),
    required("haproxy.postgres_domain", Text, "\"server.postgres.local\"", "Name that resolves to all nodes"),
    default("haproxy.runtime", Text, "\"container\"", "container: an image run by Docker; package: the distribution's haproxy"),
    default("haproxy.version", Text, "\"3.2\"", "Release line whose syntax is written, and the image's tag; 2.6 by default under runtime = \"package\""),
    default("haproxy.image", Text, "\"haproxy\"", "Container image, without tag"),
    optional("haproxy.image_digest", Text, "\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"", "Digest the image must have"),
    optional("haproxy.verify_host", Text, "\"server.postgres.local\"", "Name the nodes' certificates must carry; without it only their CA is verified"),
    default("haproxy.max_connections", Integer, "2000", "Most connections at one time"),
    default("haproxy.patroni_port", Integer, "4443", "Port of Patroni's REST API on the nodes, and passed through here"),
    optional("haproxy.replicas_port", Integer, "5433", "Port that spreads read-only sessions over the replicas; off by default"),
    optional("haproxy.replicas_max_lag", Text, "\"16MB\"", "How far a replica may lag behind and still be used"),
    default("haproxy.hard_stop_after", Time, "\"1h\"", "How long sessions opened before a reload may live on in the old worker"),
    required("haproxy.patroni_client", Table, "", "The client certificate for the health checks"),
    required("haproxy.patroni_client.ca_key", Secret, "{ file = \"patroni-ca.key\" }", "Private key of the CA that signs it"),
    required("haproxy.patroni_client.ca_certificate", LongText, "{ file = \"patroni-ca.crt\" }", "Certificate of that CA"),
    required("haproxy.patroni_client.certificate_validity_period", Integer, "8760", "How long the client certificate lasts, in hours"),
    required("haproxy.patroni_client.certificate_early_renewal_period", Integer, "720", "How long before its end it is renewed, in hours"),
    default("haproxy.patroni_client.key_algorithm", Text, "\"ecdsa-p256\"", "ecdsa-p256 or rsa-4096"),
    optional("haproxy.timeouts", Table, "", "Timeouts"),
    default("haproxy.timeouts.connect", Time, "\"5s\"", "To open a connection to a node"),
    default("haproxy.timeouts.check", Time, "\"2s\"", "For the answer to a health check"),
    default("haproxy.timeouts.idle", Time, "\"24h\"", "For a session in which nothing moves"),
    optional("haproxy.check", Table, "", "Health checks"),
    default("haproxy.check.interval", Time, "\"500ms\"", "Between checks of a node whose state is settled"),
    default("haproxy.check.fast", Time, "\"200ms\"", "Between checks of a node whose state is changing"),
    default("haproxy.check.down", Time, "\"250ms\"", "Between checks of a node that is down"),
    default("haproxy.check.rise", Integer, "1", "Good checks until a node is used"),
    default("haproxy.check.fall", Integer, "2", "Bad checks until a node is given up, its sessions closed"),
    optional("haproxy.metrics", Table, "", "/metrics for Prometheus and /ready for whoever wants to know, over HTTP"),
    default("haproxy.metrics.enabled", Boolean, "true", "Whether they are served"),
    default("haproxy.metrics.address", Text, "\"0.0.0.0\"", "Address in the guest to listen on"),
    default("haproxy.metrics.port", Integer, "8405", "Port to listen on"),

    optional("chrony", Table, "", "Clock set by chrony"),
    default("chrony.enabled", Boolean, "false", "Whether chrony is set up"),
    optional("chrony.servers", Tables, "", "Time servers"),
    required("chrony.servers[].url", Text, "\"ntp1.example.com\"", "Name or address of the server"),
    optional("chrony.servers[].options", TextOrTexts, "[\"iburst\"]", "As in chrony.conf behind the server"),
    optional("chrony.pools", Tables, "", "Pools of time servers"),
    required("chrony.pools[].url", Text, "\"pool.ntp.org\"", "Name of the pool"),
    optional("chrony.pools[].options", TextOrTexts, "\"iburst maxsources 4\"", "As in chrony.conf behind the pool"),
    optional("chrony.makestep", Table, "", "When the clock may jump rather than drift"),
    required("chrony.makestep.threshold", Number, "1.0", "Offset in seconds from which it jumps"),
    required("chrony.makestep.limit", Integer, "3", "In how many first updates; negative: in all"),

    optional("fluentd", Table, "", "Logs sent to a fluentd node by its forward protocol over TLS"),
    default("fluentd.enabled", Boolean, "false", "Whether fluentd is set up"),
    required("fluentd.load_balancer_tag", Text, "\"postgres-lb.haproxy\"", "Tag of HAProxy's logs"),
    required("fluentd.node_exporter_tag", Text, "\"postgres-lb.node-exporter\"", "Tag of the node exporter's logs"),
    required("fluentd.forward", Table, "", "The node that takes the logs"),
    required("fluentd.forward.domain", Text, "\"logs.example.com\"", "Its address or name"),
    required("fluentd.forward.port", Integer, "24224", "Its port"),
    required("fluentd.forward.hostname", Text, "\"postgres-lb-1\"", "The name by which this VM is known to it"),
    required("fluentd.forward.shared_key", Secret, "{ file = \"fluentd-shared-key\" }", "Key shared with it"),
    required("fluentd.forward.ca_cert", LongText, "{ file = \"fluentd-ca.crt\" }", "CA that signed its certificate"),
    optional("fluentd.buffer", Table, "", "Buffer of the logs to be sent"),
    default("fluentd.buffer.customized", Boolean, "false", "Whether custom_value takes the place of the default"),
    optional("fluentd.buffer.custom_value", Text, "'''\n<buffer>\n  @type memory\n</buffer>\n'''", "A whole <buffer> section"),

    optional("node_exporter", Table, "", "Prometheus's node exporter"),
    default("node_exporter.enabled", Boolean, "true", "Whether it runs"),

    optional("container_registry", Table, "", "A registry with a password, to take the haproxy image from"),
    required("container_registry.url", Text, "\"https://registry.example.com\"", "Its URL"),
    required("container_registry.username", Text, "\"puller\"", "User"),
    required("container_registry.password", Secret, "{ env = \"REGISTRY_PASSWORD\" }", "The user's password"),
    optional("container_registry.ca_certificate", LongText, "{ file = \"registry-ca.crt\" }", "CA that signed its certificate; left out: one of those the guest trusts anyway"),

    optional("libvirt", Table, "", "The host's libvirt"),
    default("libvirt.uri", Text, "\"qemu:///system\"", "Connection URI; --connect comes first, then this, then LIBVIRT_DEFAULT_URI"),
    default("libvirt.domain_type", Text, "\"auto\"", "auto, kvm or qemu (emulation, slow)"),
    optional("libvirt.machine", Text, "\"q35\"", "Machine type; by default what libvirt gives for the architecture"),
];

/// How a change of a key's value reaches a load balancer that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Now, without a restart, and no session is cut.
    Live,
    /// With the next restart of the guest, for which lbctl asks.
    Restart,
    /// With a new disk only: refused.
    Replace,
    /// It is another load balancer then; the one of the old name stays.
    Another,
    /// Used when the next certificate is issued.
    NextCertificate,
    /// Nothing of the load balancer depends on it.
    Nothing,
}

impl Effect {
    /// In a document's words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Another => "another VM",
            Self::NextCertificate => "next certificate",
            Self::Nothing => "none",
        }
    }
}

/// The effect of each key, by the beginning of its path: the longest one that fits counts. Held against what `plan`
/// really says by tests/it/effects.rs, and shown in the README and in lbctl.toml(5).
#[rustfmt::skip]
const EFFECTS: &[(&str, Effect)] = &[
    ("name", Effect::Another),
    ("vcpus", Effect::Restart),
    ("memory", Effect::Restart),
    ("volume_id", Effect::Replace),
    ("cloud_init_volume_", Effect::Live),
    ("ssh_admin_user", Effect::Restart),
    ("ssh_admin_public_key", Effect::Live),
    ("admin_user_password", Effect::Live),
    ("install_dependencies", Effect::Live),
    ("libvirt_network", Effect::Restart),
    ("macvtap_interfaces", Effect::Restart),
    ("volume", Effect::Replace),
    ("volume.size", Effect::Live),
    ("haproxy", Effect::Live),
    ("haproxy.runtime", Effect::Restart),
    ("haproxy.version", Effect::Restart),
    ("haproxy.image", Effect::Restart),
    ("haproxy.patroni_client.certificate_", Effect::NextCertificate),
    ("chrony", Effect::Live),
    ("fluentd", Effect::Live),
    ("node_exporter", Effect::Live),
    ("container_registry", Effect::Live),
    ("container_registry.url", Effect::Restart),
    ("libvirt.uri", Effect::Nothing),
    ("libvirt.domain_type", Effect::Restart),
    ("libvirt.machine", Effect::Restart),
    ("libvirt", Effect::Nothing),
];

impl Key {
    /// How a change of its value reaches a load balancer that is there.
    #[must_use]
    pub fn effect(&self) -> Effect {
        let fitting = EFFECTS
            .iter()
            .filter(|(start, _)| self.path.starts_with(start));
        let longest = fitting.max_by_key(|(start, _)| start.len());
        longest.map_or(Effect::Nothing, |(_, effect)| *effect)
    }
}

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
                key.example.is_empty(),
                "{}: an example for all but tables",
                key.path
            );
            assert!(
                key.need == Need::Optional || key.default.is_empty(),
                "{}: required, so no default",
                key.path
            );
        }
    }
}

//! Every key there is, declared once: where it stands, what it takes, what a change of it does, its
//! default, its bounds and what it means. From here its reader takes default and bounds; from here
//! are made the JSON Schema, the reference, lbctl.toml(5), and the finding of unknown, misplaced,
//! mistyped and missing keys. `config.example.toml` and tests/it/effects.rs are held against it.
//! What a value must be beyond its bounds is decided where it is read.

use super::forms;
use super::model::{Balance, DiskFormat, DomainType, MainRole, Role, Runtime};
use super::patroni::TlsMode;
use super::types::MAX_HAPROXY_MILLIS;
use super::words::Word as _;
use crate::cert::KeyAlgorithm;

pub use super::key::{Bounds, Effect, Key, Kind, Literal, Need};

use Effect::{Another, Live, NextCertificate, Nothing, Replace, Restart};
use Kind::{
    Boolean, Hours, Integer, LongText, LongTexts, Memory, Number, Pairs, Secret, Size,
    SwitchOrPort, Text, TextOrTexts, Texts, Time,
};
use Literal::{Bool, Int, Str};
use Need::{Conditional, Optional, Required};

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
/// Each connection is compared with all.
const MOST_NETWORKS: i64 = 256;
/// Each asks every node twice a second, and Patroni has five workers.
const MOST_SERVICES: i64 = 16;
/// Each is told ten times a second that a VM lives.
const MOST_PEERS: i64 = 7;
/// 500 years of 8766 hours.
const LONGEST_VALIDITY: i64 = 500 * 8766;
/// Where neither the configuration nor `LIBVIRT_DEFAULT_URI` names another.
pub const DEFAULT_URI: &str = "qemu:///system";
const LAST_PORT: i64 = 65_535;
/// IEEE 802.1Q has these for use.
const LAST_VLAN: i64 = 4094;
/// What every host must take (RFC 791), and the most that an interface of virtio can.
const SMALLEST_MTU: i64 = 576;
const LARGEST_MTU: i64 = 65_535;
const MOST_CONNECTIONS: i64 = 1_000_000;
const LONGEST_TIME: i64 = MAX_HAPROXY_MILLIS.cast_signed();

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// In the order of `config.example.toml`. Each line: path, kind, effect of a change, example or
/// default, meaning; then the bounds.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    Key::optional("extends", Text, Nothing, "\"base.toml\"", "Another configuration, whose keys this one has, but for those that it gives itself"),
    Key::required("name", Text, Another, "\"postgres-lb-1\"", "Name of the VM and its hostname").form(forms::NAME),
    Key::default("vcpus", Integer, Restart, Int(2), "Number of virtual CPUs").within(1, MOST_CPUS),
    Key::default("memory", Memory, Restart, Int(8192), "Memory: a number is MiB, as in 2048, and a text has a unit, as in \"2 GiB\"").within(256, MOST_MEMORY),
    Key::optional("volume_id", Text, Replace, "\"default/postgres-lb-1\"", "An existing volume as root disk: its key, its path, or pool/name. Instead of [volume]").form(forms::LINE),
    Key::optional("volume_format", Text, Replace, "\"qcow2\"", "What the volume of volume_id is read as; by default as the domain has it, and at first raw, or a qcow2 that refers to no other file").words(DiskFormat::WORDS),
    Key::required("cloud_init_volume_pool", Text, Live, "\"default\"", "Pool of the cloud-init volume").form(forms::LIBVIRT_NAME),
    Key::optional("cloud_init_volume_name", Text, Live, "\"postgres-lb-1-cloud-init.iso\"", "Name of the cloud-init volume; by default the VM's name and -cloud-init.iso").form(forms::LIBVIRT_NAME),
    Key::default("ssh_admin_user", Text, Restart, Str("ubuntu"), "Administrator in the VM, who may use sudo; made where the image has no user of that name").form(forms::USER),
    Key::optional("admin_user_password", Secret, Live, "{ file = \"admin-password\" }", "Password of that user for the console; ssh never takes it"),
    Key::optional("ssh_admin_public_key", LongTexts, Live, "{ file = \"admin.pub\" }", "Public ssh key of that user; several may be given, one a line or as a list"),
    Key::default("install_dependencies", Boolean, Live, Bool(true), "Whether cloud-init may install packages and download anything"),

    Key::table("libvirt_network", Optional, "A network interface in a libvirt network that gives the address by DHCP"),
    Key::required("libvirt_network.ip", Text, Restart, "\"192.168.122.162\"", "Address, reserved for this VM in the network's DHCP").form(forms::HOST_ADDRESS),
    Key::optional("libvirt_network.mac", Text, Restart, "\"52:54:00:de:e3:6b\"", "MAC address; derived from the name where left out").form(forms::MAC),
    Key::optional("libvirt_network.network_name", Text, Restart, "\"default\"", "Name of the network; this or network_id").form(forms::LIBVIRT_NAME),
    Key::optional("libvirt_network.network_id", Text, Restart, "\"b10c1bda-f608-4780-9cfb-574c2271a193\"", "UUID of the network; this or network_name").form(forms::UUID),

    Key::tables("libvirt_networks", "Network interfaces in libvirt networks, with static addresses"),
    Key::optional("libvirt_networks[].ip", Text, Restart, "\"192.168.123.10\"", "Address, written into the guest's network configuration").form(forms::HOST_ADDRESS),
    Key::optional("libvirt_networks[].prefix_length", Integer, Restart, "24", "Length of the network's prefix").within(1, 32),
    Key::optional("libvirt_networks[].addresses", Texts, Restart, "[\"2001:db8:123::10/64\"]", "Addresses with their prefix, IPv4 or IPv6: further ones, or all of them in the place of ip").form(forms::INTERFACE_ADDRESS),
    Key::optional("libvirt_networks[].gateway", TextOrTexts, Restart, "\"192.168.123.1\"", "Default gateway, or a list of one for IPv4 and one for IPv6; on one network interface at most").form(forms::IP).at_most(2),
    Key::optional("libvirt_networks[].dns_servers", Texts, Restart, "[\"192.168.123.1\"]", "DNS servers the guest asks through this interface").form(forms::IP),
    Key::optional("libvirt_networks[].search", Texts, Restart, "[\"example.com\"]", "Domains in which names without a dot are looked for").form(forms::DOMAIN),
    Key::optional("libvirt_networks[].mtu", Integer, Restart, "9000", "Largest packet in bytes; by default what the network says").within(SMALLEST_MTU, LARGEST_MTU),
    Key::optional("libvirt_networks[].mac", Text, Restart, "\"52:54:00:de:e3:6c\"", "MAC address; derived from the name where left out").form(forms::MAC),
    Key::optional("libvirt_networks[].network_name", Text, Restart, "\"internal\"", "Name of the network; this or network_id").form(forms::LIBVIRT_NAME),
    Key::optional("libvirt_networks[].network_id", Text, Restart, "\"6d8e9b7c-3a53-4f0e-8a86-2b5ac7a9b0fd\"", "UUID of the network; this or network_name").form(forms::UUID),
    Key::tables("libvirt_networks[].routes", "Ways to networks by another router than the default gateway"),
    Key::required("libvirt_networks[].routes[].to", Text, Restart, "\"10.0.0.0/8\"", "Network that it leads to").form(forms::NETWORK),
    Key::required("libvirt_networks[].routes[].via", Text, Restart, "\"192.168.123.254\"", "Router, in a network of this interface").form(forms::IP),

    Key::tables("macvtap_interfaces", "Network interfaces on interfaces of the host by macvtap, with static addresses"),
    Key::required("macvtap_interfaces[].interface", Text, Restart, "\"eno1\"", "Host interface").form(forms::DEVICE),
    Key::optional("macvtap_interfaces[].ip", Text, Restart, "\"192.168.1.20\"", "Address, written into the guest's network configuration").form(forms::HOST_ADDRESS),
    Key::optional("macvtap_interfaces[].prefix_length", Integer, Restart, "24", "Length of the network's prefix").within(1, 32),
    Key::optional("macvtap_interfaces[].addresses", Texts, Restart, "[\"2001:db8:1::20/64\"]", "Addresses with their prefix, IPv4 or IPv6: further ones, or all of them in the place of ip").form(forms::INTERFACE_ADDRESS),
    Key::optional("macvtap_interfaces[].gateway", TextOrTexts, Restart, "\"192.168.1.1\"", "Default gateway, or a list of one for IPv4 and one for IPv6; on one network interface at most").form(forms::IP).at_most(2),
    Key::optional("macvtap_interfaces[].dns_servers", Texts, Restart, "[\"192.168.1.1\"]", "DNS servers the guest asks through this interface").form(forms::IP),
    Key::optional("macvtap_interfaces[].search", Texts, Restart, "[\"example.com\"]", "Domains in which names without a dot are looked for").form(forms::DOMAIN),
    Key::optional("macvtap_interfaces[].mtu", Integer, Restart, "9000", "Largest packet in bytes; by default what the network says").within(SMALLEST_MTU, LARGEST_MTU),
    Key::optional("macvtap_interfaces[].mac", Text, Restart, "\"52:54:00:de:e3:6d\"", "MAC address; derived from the name where left out").form(forms::MAC),
    Key::tables("macvtap_interfaces[].routes", "Ways to networks by another router than the default gateway"),
    Key::required("macvtap_interfaces[].routes[].to", Text, Restart, "\"10.0.0.0/8\"", "Network that it leads to").form(forms::NETWORK),
    Key::required("macvtap_interfaces[].routes[].via", Text, Restart, "\"192.168.1.254\"", "Router, in a network of this interface").form(forms::IP),

    Key::tables("bridge_interfaces", "Network interfaces that are ports of bridges of the host"),
    Key::required("bridge_interfaces[].bridge", Text, Restart, "\"br0\"", "Bridge of the host: the kernel's, or one of Open vSwitch").form(forms::DEVICE),
    Key::optional("bridge_interfaces[].vlan", Integer, Restart, "42", "VLAN of the port, where the bridge takes it: Open vSwitch; from libvirt 11 on also the kernel's with vlan_filtering").within(1, LAST_VLAN),
    Key::default("bridge_interfaces[].dhcp", Boolean, Restart, Bool(false), "Whether a DHCP server gives the address; then the guest tells it"),
    Key::optional("bridge_interfaces[].ip", Text, Restart, "\"192.168.2.30\"", "Address, written into the guest's network configuration").form(forms::HOST_ADDRESS),
    Key::optional("bridge_interfaces[].prefix_length", Integer, Restart, "24", "Length of the network's prefix").within(1, 32),
    Key::optional("bridge_interfaces[].addresses", Texts, Restart, "[\"2001:db8:2::30/64\"]", "Addresses with their prefix, IPv4 or IPv6: further ones, or all of them in the place of ip").form(forms::INTERFACE_ADDRESS),
    Key::optional("bridge_interfaces[].gateway", TextOrTexts, Restart, "\"192.168.2.1\"", "Default gateway, or a list of one for IPv4 and one for IPv6; on one network interface at most").form(forms::IP).at_most(2),
    Key::optional("bridge_interfaces[].dns_servers", Texts, Restart, "[\"192.168.2.1\"]", "DNS servers the guest asks through this interface").form(forms::IP),
    Key::optional("bridge_interfaces[].search", Texts, Restart, "[\"example.com\"]", "Domains in which names without a dot are looked for").form(forms::DOMAIN),
    Key::optional("bridge_interfaces[].mtu", Integer, Restart, "9000", "Largest packet in bytes; by default what the network says").within(SMALLEST_MTU, LARGEST_MTU),
    Key::optional("bridge_interfaces[].mac", Text, Restart, "\"52:54:00:de:e3:6e\"", "MAC address; derived from the name where left out").form(forms::MAC),
    Key::tables("bridge_interfaces[].routes", "Ways to networks by another router than the default gateway"),
    Key::required("bridge_interfaces[].routes[].to", Text, Restart, "\"10.0.0.0/8\"", "Network that it leads to").form(forms::NETWORK),
    Key::required("bridge_interfaces[].routes[].via", Text, Restart, "\"192.168.2.254\"", "Router, in a network of this interface").form(forms::IP),

    Key::table("volume", Optional, "Root disk that lbctl clones from a base volume. Instead of volume_id"),
    Key::required("volume.name", Text, Replace, "\"postgres-lb-1\"", "Name of the volume to make").form(forms::LIBVIRT_NAME),
    Key::required("volume.pool", Text, Replace, "\"default\"", "Pool to make it in").form(forms::LIBVIRT_NAME),
    Key::optional("volume.size", Size, Live, "\"10 GiB\"", "Size, in bytes or with a unit; by default that of the base").within(SMALLEST_DISK, LARGEST_DISK),
    Key::optional("volume.base_volume_pool", Text, Replace, "\"os\"", "Pool of the base volume; by default that of the volume").form(forms::LIBVIRT_NAME),
    Key::optional("volume.base_volume_name", Text, Replace, "\"debian-12\"", "Name of the base volume; this or base_image").form(forms::LIBVIRT_NAME),
    Key::default("volume.format", Text, Replace, Str("qcow2"), "qcow2: copy-on-write clone; raw: full copy").words(DiskFormat::WORDS),
    Key::table("volume.base_image", Optional, "An image that lbctl brings into the pool as base volume, in the place of base_volume_name"),
    Key::optional("volume.base_image.file", Text, Nothing, "\"debian-12-genericcloud-amd64.qcow2\"", "Path of the image, qcow2; this or url").form(forms::PATH),
    Key::optional("volume.base_image.url", Text, Nothing, "\"https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2\"", "Where to fetch it, over HTTPS; this or file").form(forms::IMAGE_URL),
    Key::optional("volume.base_image.sha256", Text, Replace, "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"", "Its SHA-256, without which it is not taken; the volume is named after it, and all VMs of the image share it").form(forms::SHA256),

    Key::table("guest", Optional, "The guest's first boot, where it has no plain way out"),
    Key::optional("guest.http_proxy", Text, Restart, "\"http://proxy.example.com:3128\"", "Proxy for packages and container images").form(forms::PLAIN_URL),
    Key::optional("guest.apt_mirror", TextOrTexts, Restart, "[\"http://mirror.example.com/debian\", \"http://mirror.example.com/debian-security\"]", "Mirror of the distribution, or a list of it and that of security updates").form(forms::PLAIN_URL).at_most(2),
    Key::optional("guest.ca_certificates", LongText, Restart, "{ file = \"company-ca.crt\" }", "CAs that the guest trusts beside its image's"),
    Key::optional("guest.timezone", Text, Restart, "\"Europe/Berlin\"", "Time zone").form(forms::TIMEZONE),
    Key::optional("guest.cloud_config", Secret, Restart, "{ file = \"cloud-config.yaml\" }", "A cloud-config that is added to lbctl's, and may not touch what is lbctl's own"),

    Key::table("haproxy", Required, "The load balancer itself"),
    Key::conditional("haproxy.postgres_nodes_max_count", Integer, Live, "3", "Most nodes the Patroni cluster will have; required with postgres_domain").within(1, MOST_NODES),
    Key::conditional("haproxy.postgres_nameserver_ips", Texts, Live, "[\"192.168.122.161\"]", "Nameservers that resolve postgres_domain, which requires them, or the host names of nodes").form(forms::IP),
    Key::conditional("haproxy.postgres_domain", Text, Live, "\"server.postgres.local\"", "Name that resolves to all nodes; required where nodes are not listed").form(forms::DOMAIN),
    Key::default("haproxy.runtime", Text, Restart, Str("container"), "container: an image run by Docker; package: the distribution's haproxy").words(Runtime::WORDS),
    Key::default("haproxy.version", Text, Restart, Str("3.2"), "Release line whose syntax is written, and the image's tag; 2.6 by default under runtime = \"package\"").form(forms::VERSION),
    Key::default("haproxy.image", Text, Restart, Str("haproxy"), "Container image, without tag").form(forms::IMAGE),
    Key::optional("haproxy.image_digest", Text, Restart, "\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"", "Digest the image must have").form(forms::DIGEST),
    Key::optional("haproxy.verify_host", Text, Live, "\"server.postgres.local\"", "Name the nodes' certificates must carry; without it only their CA is verified, and the host name of a listed node that has one").form(forms::DOMAIN),
    Key::default("haproxy.port", Integer, Live, Int(5432), "Port where clients reach the primary").within(1, LAST_PORT),
    Key::default("haproxy.role", Text, Live, Str("primary"), "Whom it leads to: primary; standby_leader: the leader of a standby cluster; leader: either of the two").words(MainRole::WORDS),
    Key::default("haproxy.postgres_port", Integer, Live, Int(5432), "Port of PostgreSQL, or of a pooler before it, on the nodes").within(1, LAST_PORT),
    Key::default("haproxy.address", Text, Live, Str("0.0.0.0"), "Address of the VM to listen on; 0.0.0.0 is all of IPv4, :: all of them with those of IPv6. The metrics have one of their own").form(forms::OWN_ADDRESS),
    Key::optional("haproxy.allow", Texts, Live, "[\"192.168.122.0/24\"]", "Networks whose clients may connect to PostgreSQL's ports; by default all").form(forms::NETWORK).at_most(MOST_NETWORKS),
    Key::default("haproxy.max_connections", Integer, Live, Int(2000), "Most connections at one time, on each port for PostgreSQL").within(10, MOST_CONNECTIONS),
    Key::optional("haproxy.max_connections_per_client", Integer, Live, "100", "Most connections of one client's address at one time; by default as many as of all").within(1, MOST_CONNECTIONS),
    Key::default("haproxy.hold", Time, Live, Str("10s"), "How long a new connection waits while there is no primary; \"0s\": not at all").within(0, 5 * MINUTE),
    Key::optional("haproxy.primary_connections", Integer, Live, "80", "Most sessions on the primary, less than its own max_connections: further ones wait, as long as hold says; by default no limit").within(1, MOST_CONNECTIONS),
    Key::default("haproxy.patroni_tls", Text, Live, Str("mutual"), "How Patroni's REST API is asked. mutual: by TLS, with a client certificate; server: by TLS without one; off: by plain HTTP").words(TlsMode::WORDS),
    Key::default("haproxy.patroni_port", Integer, Live, Int(4443), "Port of Patroni's REST API on the nodes; 8008 by default with patroni_tls = \"off\"").within(1, LAST_PORT),
    Key::default("haproxy.patroni_passthrough", SwitchOrPort, Live, Bool(true), "Whether the primary's REST API is reached through the VM too: true: on patroni_port; false: no; a number: on that port").within(1, LAST_PORT),
    Key::optional("haproxy.patroni_allow", Texts, Live, "[\"192.168.122.0/24\"]", "Networks that may use it; by default all").form(forms::NETWORK).at_most(MOST_NETWORKS),
    Key::optional("haproxy.replicas_port", Integer, Live, "5433", "Port that spreads read-only sessions over the replicas; off by default").within(1, LAST_PORT),
    Key::optional("haproxy.replicas_max_lag", Text, Live, "\"16MB\"", "How far a replica may lag behind and still be used").form(forms::LAG),
    Key::default("haproxy.hard_stop_after", Time, Live, Str("1h"), "How long sessions opened before a reload may live on in the old worker").within(SECOND, LONGEST_TIME),
    Key::tables("haproxy.nodes", "The nodes of the cluster, listed. Instead of postgres_domain and postgres_nodes_max_count").at_most(MOST_NODES),
    Key::required("haproxy.nodes[].name", Text, Live, "\"pg-1\"", "Its name in status, logs and metrics").form(forms::SERVER_NAME),
    Key::required("haproxy.nodes[].address", Text, Live, "\"192.168.122.171\"", "Its IPv4 or IPv6 address, or its host name, which postgres_nameserver_ips resolve, or else the VM at HAProxy's start").form(forms::NODE_ADDRESS),
    Key::optional("haproxy.nodes[].port", Integer, Live, "5433", "Port of PostgreSQL on this node; by default postgres_port").within(1, LAST_PORT),
    Key::optional("haproxy.nodes[].patroni_port", Integer, Live, "8009", "Port of Patroni's REST API on this node; by default patroni_port of [haproxy]").within(1, LAST_PORT),
    Key::optional("haproxy.nodes[].verify_host", Text, Live, "\"pg-1.example.com\"", "Name its certificate must carry; by default verify_host of [haproxy], or else its host name").form(forms::DOMAIN),
    Key::tables("haproxy.services", "Further ports for clients, each for nodes of one role").at_most(MOST_SERVICES),
    Key::required("haproxy.services[].name", Text, Live, "\"reports\"", "Its name in status, logs and metrics").form(forms::SERVICE_NAME),
    Key::required("haproxy.services[].port", Integer, Live, "5434", "Port where clients reach it").within(1, LAST_PORT),
    Key::required("haproxy.services[].role", Text, Live, "\"replica\"", "primary, standby_leader, leader (either of the two), replica, sync, async (synchronous and asynchronous replicas), or any").words(Role::WORDS),
    Key::optional("haproxy.services[].fallback", Text, Live, "\"primary\"", "The role that takes new sessions where no node of the first one is left").words(Role::WORDS),
    Key::optional("haproxy.services[].max_lag", Text, Live, "\"16MB\"", "How far a replica may lag behind and still be used").form(forms::LAG),
    Key::optional("haproxy.services[].tags", Pairs, Live, "{ region = \"eu\" }", "Tags that a node must have in Patroni's configuration; Patroni does not look at those of a leader").at_most(8),
    Key::default("haproxy.services[].balance", Text, Live, Str("leastconn"), "How sessions are spread over several nodes: leastconn, roundrobin, static-rr, first, source or random, as in HAProxy").words(Balance::WORDS),
    Key::optional("haproxy.services[].proxy_protocol", Text, Live, "\"v2\"", "Tells the node the client's address, for a pooler that expects it. v2: the PROXY protocol of that version").words(&["v2"]),
    Key::optional("haproxy.services[].postgres_port", Integer, Live, "6432", "Port on the nodes; by default that of the node").within(1, LAST_PORT),
    Key::table("haproxy.patroni_client", Conditional, "The client certificate for the health checks, and the CA the nodes are verified with. Required, except with patroni_tls = \"off\""),
    Key::optional("haproxy.patroni_client.ca_key", Secret, Live, "{ file = \"patroni-ca.key\" }", "Private key of the CA that signs it, read only when lbctl issues; left out where it is signed elsewhere"),
    Key::required("haproxy.patroni_client.ca_certificate", LongText, Live, "{ file = \"patroni-ca.crt\" }", "Certificate of that CA, and those above it up to the root"),
    Key::optional("haproxy.patroni_client.certificate", LongText, Live, "{ file = \"patroni-client.crt\" }", "Client certificate that somebody else issues, with those of its issuers; instead of ca_key"),
    Key::optional("haproxy.patroni_client.key", Secret, Live, "{ file = \"patroni-client.key\" }", "Private key of that certificate"),
    Key::conditional("haproxy.patroni_client.certificate_validity_period", Hours, NextCertificate, "8760", "How long the client certificate lasts: a number is hours, and a text has a unit, as in \"365d\"; required with ca_key").within(1, LONGEST_VALIDITY),
    Key::optional("haproxy.patroni_client.certificate_early_renewal_period", Hours, NextCertificate, "720", "How long before its end it is renewed, or reported as due: as certificate_validity_period, in hours or \"30d\"; required with ca_key, otherwise 720 by default").within(1, LONGEST_VALIDITY),
    Key::default("haproxy.patroni_client.key_algorithm", Text, Live, Str("ecdsa-p256"), "ecdsa-p256 or rsa-4096").words(KeyAlgorithm::WORDS),
    Key::table("haproxy.timeouts", Optional, "Timeouts"),
    Key::default("haproxy.timeouts.connect", Time, Live, Str("5s"), "To open a connection to a node").within(100, 10 * MINUTE),
    Key::default("haproxy.timeouts.check", Time, Live, Str("2s"), "For the answer to a health check").within(100, 10 * MINUTE),
    Key::default("haproxy.timeouts.idle", Time, Live, Str("24h"), "For a session in which nothing moves").within(SECOND, LONGEST_TIME),
    Key::table("haproxy.check", Optional, "Health checks"),
    Key::default("haproxy.check.interval", Time, Live, Str("500ms"), "Between checks of a node whose state is settled").within(50, HOUR),
    Key::default("haproxy.check.fast", Time, Live, Str("50ms"), "Between checks of a node whose state is changing").within(50, HOUR),
    Key::default("haproxy.check.down", Time, Live, Str("150ms"), "Between checks of a node that is down").within(50, HOUR),
    Key::default("haproxy.check.rise", Integer, Live, Int(1), "Good checks until a node is used").within(1, 100),
    Key::default("haproxy.check.fall", Integer, Live, Int(5), "Bad checks until a node is given up: no new sessions").within(1, 100),
    Key::table("haproxy.metrics", Optional, "/metrics for Prometheus and /ready for health checks of the load balancer, over HTTP"),
    Key::default("haproxy.metrics.enabled", Boolean, Live, Bool(true), "Whether they are served"),
    Key::default("haproxy.metrics.address", Text, Live, Str("0.0.0.0"), "Address in the guest to listen on").form(forms::IP),
    Key::default("haproxy.metrics.port", Integer, Live, Int(8405), "Port to listen on").within(1, LAST_PORT),

    Key::table("virtual_ip", Optional, "An address that this VM shares with others: the one that has it gives it up when it cannot serve, or is to be changed"),
    Key::required("virtual_ip.address", Text, Restart, "\"192.168.1.30\"", "The shared address, of IPv4, in the network of one of the VM's interfaces and of no DHCP range").form(forms::HOST_ADDRESS),
    Key::conditional("virtual_ip.peers", Texts, Live, "[\"192.168.1.21\"]", "Own addresses of the other VMs, on the same segment; with [[vms]] only of those that are not in this file").form(forms::HOST_ADDRESS).at_most(MOST_PEERS),
    Key::optional("virtual_ip.router_id", Integer, Restart, "30", "VRRP's number of these VMs; the same for each, by default the last part of the address").within(1, 255),
    Key::default("virtual_ip.detection", Time, Live, Str("600ms"), "How long a VM may be silent until another one takes the address; the same for each").within(300, 10 * SECOND),
    Key::default("virtual_ip.drain", Time, Live, Str("10m"), "How long sessions may stay on a VM that has given the address away on request; 0s: they are cut as it moves").within(0, 24 * HOUR),

    Key::table("chrony", Optional, "Clock set by chrony"),
    Key::default("chrony.enabled", Boolean, Live, Bool(false), "Whether chrony is set up"),
    Key::tables("chrony.servers", "Time servers"),
    Key::required("chrony.servers[].url", Text, Live, "\"ntp1.example.com\"", "Name or address of the server").form(forms::HOST),
    Key::optional("chrony.servers[].options", TextOrTexts, Live, "[\"iburst\"]", "As in chrony.conf behind the server").form(forms::CHRONY_OPTIONS),
    Key::tables("chrony.pools", "Pools of time servers"),
    Key::required("chrony.pools[].url", Text, Live, "\"pool.ntp.org\"", "Name of the pool").form(forms::HOST),
    Key::optional("chrony.pools[].options", TextOrTexts, Live, "\"iburst maxsources 4\"", "As in chrony.conf behind the pool").form(forms::CHRONY_OPTIONS),
    Key::table("chrony.makestep", Optional, "When the clock may jump rather than drift"),
    Key::required("chrony.makestep.threshold", Number, Live, "1.0", "Offset in seconds from which it jumps").strictly_between(0, 1_000_000_000),
    Key::required("chrony.makestep.limit", Integer, Live, "3", "In how many first updates; negative: in all").within(-1, 1_000_000),

    Key::table("fluentd", Optional, "Logs sent to a fluentd node by its forward protocol over TLS"),
    Key::default("fluentd.enabled", Boolean, Live, Bool(false), "Whether fluentd is set up"),
    Key::required("fluentd.load_balancer_tag", Text, Live, "\"postgres-lb.haproxy\"", "Tag of HAProxy's logs").form(forms::FLUENTD_TAG),
    Key::required("fluentd.node_exporter_tag", Text, Live, "\"postgres-lb.node-exporter\"", "Tag of the node exporter's logs").form(forms::FLUENTD_TAG),
    Key::table("fluentd.forward", Required, "The node that takes the logs"),
    Key::required("fluentd.forward.domain", Text, Live, "\"logs.example.com\"", "Its address or name").form(forms::HOST),
    Key::required("fluentd.forward.port", Integer, Live, "24224", "Its port").within(1, LAST_PORT),
    Key::required("fluentd.forward.hostname", Text, Live, "\"postgres-lb-1\"", "The name by which this VM is known to it").form(forms::WORD),
    Key::required("fluentd.forward.shared_key", Secret, Live, "{ file = \"fluentd-shared-key\" }", "Key shared with it"),
    Key::required("fluentd.forward.ca_cert", LongText, Live, "{ file = \"fluentd-ca.crt\" }", "CA that signed its certificate"),
    Key::table("fluentd.buffer", Optional, "Buffer of the logs to be sent"),
    Key::default("fluentd.buffer.customized", Boolean, Live, Bool(false), "Whether custom_value takes the place of the default"),
    Key::optional("fluentd.buffer.custom_value", Text, Live, "'''\n<buffer>\n  @type memory\n</buffer>\n'''", "A whole <buffer> section").form(forms::BUFFER),

    Key::table("node_exporter", Optional, "Prometheus's node exporter"),
    Key::default("node_exporter.enabled", Boolean, Live, Bool(true), "Whether it runs"),

    Key::table("container_registry", Optional, "A registry with a password, to take the haproxy image from"),
    Key::required("container_registry.url", Text, Restart, "\"https://registry.example.com\"", "Its URL").form(forms::REGISTRY_URL),
    Key::required("container_registry.username", Text, Live, "\"puller\"", "User").form(forms::LINE),
    Key::required("container_registry.password", Secret, Live, "{ env = \"REGISTRY_PASSWORD\" }", "The user's password"),
    Key::optional("container_registry.ca_certificate", LongText, Live, "{ file = \"registry-ca.crt\" }", "CA that signed its certificate; left out: one of those the guest trusts anyway"),

    Key::table("libvirt", Optional, "The host's libvirt"),
    Key::default("libvirt.uri", Text, Nothing, Str(DEFAULT_URI), "Connection URI; --connect comes first, then this, then LIBVIRT_DEFAULT_URI").form(forms::CONNECTION_URI),
    Key::default("libvirt.domain_type", Text, Restart, Str("auto"), "auto, kvm or qemu (emulation, slow)").words(DomainType::WORDS),
    Key::optional("libvirt.machine", Text, Restart, "\"q35\"", "Machine type; by default what libvirt gives for the architecture").form(forms::MACHINE),

    Key::tables("vms", "Several VMs of one load balancer: each has its name, and its own of volumes, network interfaces and [libvirt], written as at the top level; all else is shared"),
];

/// Whether the key's text is a path on this machine. Keys that take `{ file = … }` are none.
pub(super) fn is_path(key: &Key) -> bool {
    key.path == "volume.base_image.file"
}

/// The list of VMs.
pub const VMS: &str = "vms";

/// What each VM of a list has of its own, in the place of the whole file: what names it, its host,
/// and what it has there. Of a table all keys.
const OF_A_VM: [&str; 14] = [
    "name",
    "volume_id",
    "volume_format",
    "volume",
    "cloud_init_volume_pool",
    "cloud_init_volume_name",
    "libvirt_network",
    "libvirt_networks",
    "macvtap_interfaces",
    "bridge_interfaces",
    "haproxy.address",
    "haproxy.metrics.address",
    "fluentd.forward.hostname",
    "libvirt",
];

/// Whether a path is that of `above`, or of something in it.
fn is_below(above: &str, path: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether each VM of a list has the key of its own, with all that is in it.
pub(super) fn is_own(key: &Key) -> bool {
    OF_A_VM.iter().any(|own| is_below(own, key.path))
}

/// Whether the key may stand in a VM of a list, too: it is such a key, or a table that holds one.
#[must_use]
pub fn of_a_vm(key: &Key) -> bool {
    let holds = |own: &str| key.is_table() && is_below(key.path, own);
    is_own(key) || OF_A_VM.iter().any(|own| holds(own))
}

/// The path without the list of VMs, if it leads into that.
fn in_a_vm(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(VMS)?.strip_prefix("[]")?;
    rest.strip_prefix('.').or(rest.is_empty().then_some(rest))
}

/// The key at a path of this table's form. What a VM of a list has of its own is declared once, and
/// found in both places.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    let (path, own) = in_a_vm(path).map_or((path, false), |path| (path, true));
    let found = KEYS.iter().find(|key| key.path == path);
    found.filter(|key| !own || of_a_vm(key))
}

/// The keys that stand directly in a table; `""` is the top level.
pub fn children(parent: &str) -> impl Iterator<Item = &'static Key> {
    let (parent, own) = in_a_vm(parent).map_or((parent, false), |parent| (parent, true));
    KEYS.iter()
        .filter(move |key| key.parent() == parent && (!own || of_a_vm(key)))
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
                (Kind::Integer | Kind::Memory | Kind::Hours, Int(number)) => Some(number),
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

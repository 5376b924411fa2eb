//! One whole configuration to start from, `sample.toml`. What is tested here is what becomes of it,
//! not how it is read.

use std::net::IpAddr;

use lbctl::testing::config::{
    self, Config, HaproxyTime, HaproxyVersion, Interface, MemoryInputs, Metrics, Name, Nodes, Port,
    Runtime,
};
use lbctl::testing::render::{self, CheckTls, GuestFile, GuestSpec, SeedFiles};
use lbctl::testing::secret::Secret;

pub const CA: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/tls/ca.pem"
));
const CA_KEY: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/tls/ca.key"
));
const SAMPLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/sample.toml"
));
pub const CLIENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/tls/client.pem"
));

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn time(text: &str) -> HaproxyTime {
    HaproxyTime::parse(text).unwrap()
}

pub fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub fn tls() -> CheckTls {
    CheckTls {
        client_pem: Some(Secret::new(CLIENT)),
        ca_pem: Some(CA.to_owned()),
    }
}

fn read(text: &str) -> Config {
    let mut inputs = MemoryInputs::default();
    for (file, text) in [("ca.key", CA_KEY), ("ca.pem", CA)] {
        inputs.files.insert(file.into(), Ok(text.into()));
    }
    let loaded = config::parse(text, "sample.toml", &inputs, None);
    loaded.unwrap_or_else(|report| panic!("{report}")).config
}

/// The network interfaces of such tables, in the place of those of the sample, and without the
/// address that the sample shares in one of its networks.
pub fn with_interfaces(tables: &str) -> Vec<Interface> {
    let (before, rest) = SAMPLE.split_once("[libvirt_network]").unwrap();
    let (_, after) = rest.split_once("[haproxy]").unwrap();
    let (kept, rest) = after.split_once("[virtual_ip]").unwrap();
    let (_, others) = rest.split_once("[chrony]").unwrap();
    let after = format!("{kept}[chrony]{others}");
    read(&format!("{before}{tables}\n[haproxy]{after}")).interfaces
}

/// The sample with `[guest]`.
pub fn with_first_boot() -> Config {
    let cloud_config = r#"#cloud-config
packages: [vim, "a b"]
users:
  - name: monitoring
    ssh_authorized_keys: ["ssh-ed25519 AAAA me"]
write_files:
  - path: /etc/motd
    permissions: "0644"
    content: |
      a: b
      "c"
runcmd:
  - [sh, -c, "echo a, b"]
  - 'echo "x: y" > /run/z'
bootcmd: [[touch, /run/x]]
locale: de_DE.UTF-8
"#;
    let guest = format!(
        "[guest]\nhttp_proxy = \"http://192.0.2.3:3128\"\napt_mirror = [\"http://192.0.2.4/debian\", \"http://192.0.2.4/debian-security\"]\n\
         ca_certificates = \"\"\"\n{CA}{CA}\"\"\"\ntimezone = \"Europe/Berlin\"\ncloud_config = '''\n{cloud_config}'''\n\n[haproxy]\n"
    );
    let mut config = read(&SAMPLE.replacen("[haproxy]\n", &guest, 1));
    config.admin.public_keys = sample_config().admin.public_keys;
    config
}

/// For a HAProxy of that version that runs here, before fake nodes: these have the same ports, on
/// other addresses of the same machine.
pub fn before_fake_nodes((major, minor): (u8, u8)) -> Config {
    let mut config = sample_config();
    config.haproxy.runtime = Runtime::Package;
    config.haproxy.version = HaproxyVersion { major, minor };
    *nameservers(&mut config) = vec![[127, 0, 0, 2].into()];
    config.haproxy.address = [127, 0, 0, 1].into();
    config.haproxy.metrics = Some(Metrics {
        address: [127, 0, 0, 1].into(),
        port: port(8405),
    });
    config
}

/// Everything is switched on.
pub fn sample_config() -> Config {
    let mut config = read(SAMPLE);
    // Too short to be a key, but short.
    config.admin.public_keys = vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvr me@example".into()];
    config
}

/// The sample's nodes have a name.
pub fn nameservers(config: &mut Config) -> &mut Vec<IpAddr> {
    match &mut config.haproxy.nodes {
        Nodes::Named { nameservers, .. } | Nodes::Listed { nameservers, .. } => nameservers,
    }
}

pub fn most(config: &mut Config) -> &mut u16 {
    match &mut config.haproxy.nodes {
        Nodes::Named { most, .. } => most,
        Nodes::Listed { .. } => panic!("they are listed"),
    }
}

/// The seed's files, as `Seed::build` makes them.
pub fn seed_files(config: &Config, tls: &CheckTls) -> SeedFiles {
    render::seed_files(
        &GuestSpec::from_config(config, tls),
        render::network_config(config),
    )
}

/// As they may be shown.
pub fn masked(config: &Config, tls: &CheckTls) -> SeedFiles {
    render::seed_files(
        &GuestSpec::masked(config, tls),
        render::network_config(config),
    )
}

pub fn guest_files(config: &Config, tls: &CheckTls) -> Vec<GuestFile> {
    GuestSpec::from_config(config, tls).files
}

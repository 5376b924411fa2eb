//! One whole configuration to start from, `sample.toml`. What is tested here is what becomes of it,
//! not how it is read.

use lbctl::testing::config::{self, Config, HaproxyTime, MemoryInputs, Name, Port};
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
        client_pem: Secret::new(CLIENT),
        ca_pem: CA.to_owned(),
    }
}

/// Everything is switched on.
pub fn sample_config() -> Config {
    let mut inputs = MemoryInputs::default();
    for (file, text) in [("ca.key", CA_KEY), ("ca.pem", CA)] {
        inputs.files.insert(file.into(), Ok(text.into()));
    }
    let loaded = config::parse(SAMPLE, "sample.toml", &inputs, None);
    let mut config = loaded.unwrap_or_else(|report| panic!("{report}")).config;
    // Too short to be a key, but short.
    config.admin.public_keys = vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvr me@example".into()];
    config
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

//! The seed: cloud-init's user-data, meta-data and network-config, and the fingerprint that tells whether they changed.

use std::fmt::Write;

use askama::Template;
use aws_lc_rs::digest::{Context, SHA256};

use super::files::{GUEST_SCRIPT, files};
use super::network::network_config;
use super::password::admin_password_hash;
use super::yaml::{Block, Quoted};
use super::{CheckTls, Secrets};
use crate::config::{Config, Runtime};
use crate::secret::Secret;

/// The three files of the NoCloud seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFiles {
    pub user_data: Secret,
    pub meta_data: String,
    pub network_config: String,
    /// SHA-256 of everything above but the instance-id, which is made from it. 64 hexadecimal digits.
    pub fingerprint: String,
}

#[derive(Template)]
#[template(path = "user-data.yaml", escape = "none")]
struct UserData<'a> {
    name: Quoted<'a>,
    user: Quoted<'a>,
    password_hash: Option<Quoted<'a>>,
    public_keys: Vec<Quoted<'a>>,
    /// Nothing is installed or fetched when empty.
    packages: Vec<&'static str>,
    files: Vec<FileView<'a>>,
    guest_script: &'static str,
}

struct FileView<'a> {
    path: &'static str,
    mode: String,
    content: Block<'a>,
}

#[derive(Template)]
#[template(path = "meta-data.yaml", escape = "none")]
struct MetaData<'a> {
    instance_id: Quoted<'a>,
    name: Quoted<'a>,
}

/// The seed as the guest gets it.
#[must_use]
pub fn seed_files(config: &Config, tls: &CheckTls) -> SeedFiles {
    let user_data = Secret::new(user_data(config, tls, Secrets::Exposed));
    let network_config = network_config(config);
    let fingerprint = fingerprint([
        ("user-data", user_data.expose().as_bytes()),
        ("network-config", network_config.as_bytes()),
        ("local-hostname", config.name.as_str().as_bytes()),
    ]);
    let meta_data = meta_data(config, &fingerprint);
    SeedFiles {
        user_data,
        meta_data,
        network_config,
        fingerprint,
    }
}

/// The seed as it may be shown: the same text, each secret replaced by [`crate::secret::MASK`]. The instance-id and the
/// fingerprint are those of the real one.
#[must_use]
pub fn masked(config: &Config, tls: &CheckTls) -> SeedFiles {
    SeedFiles {
        user_data: Secret::new(user_data(config, tls, Secrets::Masked)),
        ..seed_files(config, tls)
    }
}

/// SHA-256 over named contents, in hexadecimal. Lengths are hashed too, so that none can pass for a part of another.
pub fn fingerprint<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut context = Context::new(&SHA256);
    for part in files
        .into_iter()
        .flat_map(|(name, data)| [name.as_bytes(), data])
    {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn user_data(config: &Config, tls: &CheckTls, secrets: Secrets) -> String {
    let hash = match secrets {
        Secrets::Exposed => admin_password_hash(config),
        // Hashing is what costs most here, and nobody would see it.
        Secrets::Masked => config.admin.password.clone(),
    };
    let files = files(config, tls, secrets);
    super::render(&UserData {
        name: Quoted(config.name.as_str()),
        user: Quoted(&config.admin.user),
        password_hash: hash.as_ref().map(|hash| Quoted(secrets.show(hash))),
        public_keys: config
            .admin
            .public_keys
            .iter()
            .map(|key| Quoted(key))
            .collect(),
        packages: packages(config),
        files: files
            .iter()
            .map(|file| FileView {
                path: file.path,
                mode: format!("{:04o}", file.mode),
                content: Block {
                    text: file.content.expose(),
                    indent: 6,
                },
            })
            .collect(),
        guest_script: GUEST_SCRIPT,
    })
}

/// A changed instance-id makes cloud-init run everything again, so a guest that was off during a change has it after its
/// next boot.
fn meta_data(config: &Config, fingerprint: &str) -> String {
    let name = config.name.as_str();
    let instance_id = format!("{name}-{}", fingerprint.get(..16).unwrap_or(fingerprint));
    super::render(&MetaData {
        instance_id: Quoted(&instance_id),
        name: Quoted(name),
    })
}

/// Packages of the distribution, by the names Debian and Ubuntu share.
fn packages(config: &Config) -> Vec<&'static str> {
    if !config.install_dependencies {
        return Vec::new();
    }
    let mut packages = vec!["qemu-guest-agent"];
    match config.haproxy.runtime {
        // Docker starts no container without AppArmor's tools where the kernel has AppArmor; its package only recommends
        // them, and not every image installs what is recommended.
        Runtime::Container => packages.extend(["docker.io", "apparmor"]),
        Runtime::Package => packages.push("haproxy"),
    }
    if config.node_exporter {
        packages.push("prometheus-node-exporter");
    }
    if config.chrony.is_some() {
        packages.push("chrony");
    }
    packages
}

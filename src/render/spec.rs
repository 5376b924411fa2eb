//! What the guest is to be, as one value: its administrator, its packages, its files, and how
//! HAProxy is started. The seed's user-data is rendered from it, it is in the seed as JSON so that
//! the next lbctl can see what changed, and a live change sends the same JSON through the guest
//! agent. So the three cannot differ.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::exposed;
use super::files::files;
use super::guest_file::{CA_PEM, CLIENT_PEM, GuestFile, Service, tidy_pem};
use super::password::admin_password_hash;
use super::services::{open_files, wanted};
use super::{CheckTls, Secrets, fingerprint, image_reference};
use crate::config::{Config, FirstBoot, Runtime};
use crate::secret::{MASK, Secret};
use crate::text::yaml::Quoted;

/// Generation of the JSON. An lbctl that meets another one renders the seed again.
const SCHEMA: u32 = 1;

/// Everything of the guest but its hardware and its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    schema: u32,
    /// The hostname.
    pub name: String,
    pub admin: AdminSpec,
    /// Of the distribution. Nothing is installed or fetched when empty.
    pub packages: Vec<String>,
    pub start: Start,
    /// In the order they are to be written.
    pub files: Vec<GuestFile>,
    #[serde(default, skip_serializing_if = "FirstBootSpec::is_empty")]
    pub first_boot: FirstBootSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_ip: Option<SharedAddress>,
}

/// By what the VMs that share an address know each other. Whoever is connected to another address
/// is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedAddress {
    pub address: Ipv4Addr,
    pub router_id: u8,
}

/// What cloud-init is told beside all that. A difference takes a boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FirstBootSpec {
    pub http_proxy: Option<String>,
    pub apt_mirrors: Vec<String>,
    /// PEM, one certificate each.
    pub ca_certificates: Vec<String>,
    pub timezone: Option<String>,
    /// Of the operator's own cloud-config.
    pub added: Vec<AddedKey>,
}

/// A key of the top level of user-data. It may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedKey {
    pub key: String,
    /// YAML in flow style, each value on a line: the elements that a list of lbctl's gets, or the
    /// one value.
    #[serde(with = "exposed")]
    pub values: Secret,
}

impl FirstBootSpec {
    /// A spec of 0.1.0 has nothing of it, and one with nothing of it is the same as that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn with(boot: &FirstBoot, secrets: Secrets) -> Self {
        let entries = boot.cloud_config.iter().flat_map(|c| &c.entries);
        let added = entries.map(|entry| {
            let values = entry.values.iter();
            let values = values.map(|value| match secrets {
                Secrets::Exposed => value.expose().to_owned(),
                Secrets::Masked => Quoted(MASK).to_string(),
            });
            AddedKey {
                key: entry.key.clone(),
                values: Secret::new(values.collect::<Vec<_>>().join("\n")),
            }
        });
        Self {
            http_proxy: boot.http_proxy.clone(),
            apt_mirrors: boot.apt_mirrors.clone(),
            ca_certificates: boot.ca_certificates.clone(),
            timezone: boot.timezone.clone(),
            added: added.collect(),
        }
    }
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminSpec {
    pub user: String,
    /// As crypt(5) writes it. `None`: the account has no password and is locked.
    #[serde(with = "exposed::option")]
    pub password_hash: Option<Secret>,
    /// Lines of `authorized_keys`.
    pub public_keys: Vec<String>,
}

/// What HAProxy's process is born with: a difference takes a new process, which has none of the old
/// one's sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The container's image; `None`: the distribution's package.
    pub image: Option<String>,
    /// File descriptors it may open.
    pub nofile: u64,
}

impl GuestSpec {
    /// As the configuration and the certificate given want it.
    #[must_use]
    pub fn from_config(config: &Config, tls: &CheckTls) -> Self {
        Self::with(config, tls, Secrets::Exposed)
    }

    /// The same with a mask in each secret's place.
    #[must_use]
    pub fn masked(config: &Config, tls: &CheckTls) -> Self {
        Self::with(config, tls, Secrets::Masked)
    }

    fn with(config: &Config, tls: &CheckTls, secrets: Secrets) -> Self {
        let container = config.haproxy.runtime == Runtime::Container;
        let password_hash = match secrets {
            Secrets::Exposed => admin_password_hash(config),
            // Hashing takes most of the time here, and its result is not used.
            Secrets::Masked => config
                .admin
                .password
                .as_ref()
                .map(|p| Secret::new(secrets.show(p))),
        };
        Self {
            schema: SCHEMA,
            name: config.name.as_str().to_owned(),
            admin: AdminSpec {
                user: config.admin.user.clone(),
                password_hash,
                public_keys: config.admin.public_keys.clone(),
            },
            packages: packages(config),
            start: Start {
                image: container.then(|| image_reference(config)),
                nofile: open_files(config),
            },
            files: files(config, tls, secrets),
            first_boot: FirstBootSpec::with(&config.first_boot, secrets),
            virtual_ip: config.virtual_ip.as_ref().map(|shared| SharedAddress {
                address: shared.address,
                router_id: shared.router_id,
            }),
        }
    }

    /// The same guest with another certificate and CA for the health checks.
    #[must_use]
    pub fn with_tls(mut self, tls: &CheckTls) -> Self {
        for file in &mut self.files {
            let pem = match file.path.as_ref() {
                CLIENT_PEM => tls.client_pem.as_ref().map(Secret::expose),
                CA_PEM => tls.ca_pem.as_deref(),
                _ => None,
            };
            if let Some(pem) = pem {
                file.content = tidy_pem(pem);
            }
        }
        self
    }

    /// Fingerprint of what cannot change under a running HAProxy's sessions: how its process is
    /// started, the account that cloud-init makes, what else it is told, and the shared address.
    #[must_use]
    pub fn start_print(&self) -> String {
        let shared = self.virtual_ip.as_ref();
        let shared = shared.map(|s| format!("{} {}", s.address, s.router_id));
        self.print_of_start(shared.as_deref())
    }

    /// That of the same guest before it had a shared address, which it gets without harm to
    /// anybody. `None`: it has none.
    #[must_use]
    pub fn start_print_unshared(&self) -> Option<String> {
        let _shared = self.virtual_ip.as_ref()?;
        Some(self.print_of_start(None))
    }

    #[expect(clippy::expect_used, reason = "plain data with string keys")]
    fn print_of_start(&self, shared: Option<&str>) -> String {
        let Start { image, nofile } = &self.start;
        let nofile = nofile.to_string();
        let mut parts = vec![
            ("image", image.as_deref().unwrap_or_default().as_bytes()),
            ("nofile", nofile.as_bytes()),
            ("user", self.admin.user.as_bytes()),
        ];
        let units = self
            .files
            .iter()
            .filter(|f| f.affects == Service::HaproxyUnit);
        parts.extend(units.map(|f| (&*f.path, f.content.expose().as_bytes())));
        let first_boot = serde_json::to_vec(&self.first_boot).expect("it becomes JSON");
        if !self.first_boot.is_empty() {
            parts.push(("first boot", &first_boot));
        }
        parts.extend(shared.map(|shared| ("shared address", shared.as_bytes())));
        fingerprint(parts)
    }

    /// JSON, secrets and all: for the seed and for the guest.
    ///
    /// # Panics
    ///
    /// Never: it is plain data with string keys.
    #[must_use]
    #[expect(clippy::expect_used, reason = "plain data with string keys")]
    pub fn to_json(&self) -> Secret {
        Secret::new(serde_json::to_string(self).expect("a spec becomes JSON"))
    }

    /// What a seed holds. `None`: of another generation of lbctl, or damaged.
    #[must_use]
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let spec: Self = serde_json::from_slice(text).ok()?;
        (spec.schema == SCHEMA).then_some(spec)
    }
}

/// Packages of the distribution: the guest agent's, and those of the services that are wanted.
fn packages(config: &Config) -> Vec<String> {
    if !config.install_dependencies {
        return Vec::new();
    }
    let services = wanted(config).flat_map(|service| (service.packages)(config));
    ["qemu-guest-agent"]
        .iter()
        .chain(services)
        .map(|&package| package.to_owned())
        .collect()
}

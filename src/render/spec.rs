//! What the guest is to be, as one value: its administrator, its packages, its files, and how
//! HAProxy is started. The seed's user-data is rendered from it, it is in the seed as JSON so that
//! the next lbctl can see what changed, and a live change sends the same JSON through the guest
//! agent. So the three cannot differ.

use serde::{Deserialize, Serialize};

use super::exposed;
use super::files::files;
use super::guest_file::{CA_PEM, CLIENT_PEM, GuestFile, Service, tidy_pem};
use super::password::admin_password_hash;
use super::services::{open_files, wanted};
use super::{CheckTls, Secrets, fingerprint, image_reference};
use crate::config::{Config, Runtime};
use crate::secret::Secret;

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
        }
    }

    /// The same guest with another certificate and CA for the health checks.
    #[must_use]
    pub fn with_tls(mut self, tls: &CheckTls) -> Self {
        for file in &mut self.files {
            match file.path.as_ref() {
                CLIENT_PEM => file.content = tidy_pem(tls.client_pem.expose()),
                CA_PEM => file.content = tidy_pem(&tls.ca_pem),
                _ => {}
            }
        }
        self
    }

    /// Fingerprint of what cannot change under a running HAProxy's sessions: how its process is
    /// started, and the account that cloud-init makes.
    #[must_use]
    pub fn start_print(&self) -> String {
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

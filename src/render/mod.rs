//! What the guest gets, as text: the seed's four files, `haproxy.cfg`, and the list of files in
//! the guest they are made from. Pure: the same input gives the same bytes, and nothing here reads
//! a file, the environment or the clock.
//!
//! Not here: the domain's XML (beside the planner), the ISO image, the making of certificates.
//!
//! Invariants: the templates under `templates/` read like the file they become, and decide nothing
//! but repetition and presence; every string of the configuration enters YAML through
//! [`yaml::Quoted`] or [`yaml::Block`] and never bare; a secret is read only through
//! [`Secrets::show`], so that the masked text has the same shape as the real one.

pub mod domain;
mod exposed;
mod files;
mod guest_file;
mod haproxy;
mod image;
mod network;
mod password;
mod programs;
mod seed;
mod services;
mod spec;

pub use guest_file::{CA_PEM, CLIENT_PEM, GuestFile, HAPROXY_SANDBOX, Owner, Service};
pub use haproxy::haproxy_cfg;
pub use image::{image_reference, registry_host};
pub use network::network_config;
pub use password::hash_password;
pub use programs::{path as program_path, programs};
pub use seed::{SeedFiles, fingerprint, seed_files, user_data, vendor_data};
pub use spec::{GuestSpec, SharedAddress, Start};

use crate::text::yaml;

use crate::secret::{MASK, Secret};

/// What HAProxy shows to the nodes and whom it trusts when it checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTls {
    /// Private key and certificate in one PEM text: HAProxy's `crt`. `None`: it shows none.
    pub client_pem: Option<Secret>,
    /// One or more certificates, PEM: HAProxy's `ca-file`. While the CA is being changed it holds
    /// the old and the new. `None`: the nodes are asked without TLS.
    pub ca_pem: Option<String>,
}

/// Whether secrets are written or masked. One renderer for both, so that they cannot drift apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    Exposed,
    Masked,
}

impl Secrets {
    pub(crate) fn show(self, secret: &Secret) -> &str {
        match self {
            Self::Exposed => secret.expose(),
            Self::Masked => MASK,
        }
    }
}

/// The template's text. No input can make this fail: writing to a `String` cannot fail, and no
/// template calls anything that can. An empty text in its place would be an empty configuration for
/// HAProxy.
#[expect(clippy::expect_used, reason = "rendering into a String cannot fail")]
fn render(template: &impl askama::Template) -> String {
    // askama drops the line break at a template's end, and HAProxy refuses a file that has none.
    template.render().expect("a template renders into a String") + "\n"
}

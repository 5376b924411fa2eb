//! One file in the guest: its path, its owner, and what a change of it concerns. Which files there
//! are is said in `files`, what is in them in `services`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::exposed;
use crate::secret::Secret;

/// HAProxy's `crt`: certificate and key for the health checks.
pub const CLIENT_PEM: &str = "/etc/haproxy/client.pem";
/// HAProxy's `ca-file`: the CAs that the nodes' certificates must be signed by.
pub const CA_PEM: &str = "/etc/haproxy/ca.pem";
pub const HAPROXY_CFG: &str = "/etc/haproxy/haproxy.cfg";
/// What systemd allows HAProxy's process. It begins with HAProxy's next start.
pub const HAPROXY_SANDBOX: &str = "/etc/systemd/system/haproxy.service.d/50-lbctl.conf";
/// What `HAPROXY_CFG` loads. Beside it, so that HAProxy can judge both before they are in place.
pub const HAPROXY_LUA: &str = "/etc/haproxy/lbctl.lua";

/// One file in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute.
    pub path: Cow<'static, str>,
    /// Masked in `Debug` whether secret or not.
    #[serde(with = "exposed")]
    pub content: Secret,
    /// Whether the content must not be shown.
    pub secret: bool,
    /// Permission bits.
    pub mode: u32,
    pub owner: Owner,
    pub affects: Service,
}

/// Who owns a file. cloud-init writes every file as root, because the other users may not exist
/// yet; the guest program changes the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    Root,
    /// Who HAProxy is when it reads its files: root with the package, uid 99 in the container.
    Haproxy,
    /// root, readable by the group `fluentd`.
    Fluentd,
}

/// What the change of a file concerns: a service, or one of two classes that are not services.
/// The names are those in the seed and in the guest, and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Not a service: the guest program, its settings and timers, which are read each time.
    Guest,
    /// By socket or reload: no session is cut.
    Haproxy,
    /// Not a service: how HAProxy is started. A restart, which cuts sessions.
    HaproxyUnit,
    /// keepalived and what belongs to it. By reload.
    VirtualIp,
    Docker,
    NodeExporter,
    Chrony,
    Fluentd,
}

/// Text that may be secret already.
pub(super) trait IntoContent {
    fn into_content(self) -> Secret;
}

impl IntoContent for Secret {
    fn into_content(self) -> Secret {
        self
    }
}

impl IntoContent for String {
    fn into_content(self) -> Secret {
        Secret::new(self)
    }
}

impl IntoContent for &'static str {
    fn into_content(self) -> Secret {
        Secret::fixed(self)
    }
}

impl GuestFile {
    pub(super) fn public(
        path: impl Into<Cow<'static, str>>,
        content: impl IntoContent,
        affects: Service,
    ) -> Self {
        Self {
            path: path.into(),
            content: content.into_content(),
            secret: false,
            mode: 0o644,
            owner: Owner::Root,
            affects,
        }
    }

    pub(super) fn secret(
        path: impl Into<Cow<'static, str>>,
        content: impl IntoContent,
        affects: Service,
    ) -> Self {
        Self {
            secret: true,
            mode: 0o600,
            ..Self::public(path, content, affects)
        }
    }

    pub(super) fn owned_by(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    pub(super) fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// An empty line in a PEM ends the payload of HAProxy's `set ssl cert`, and a missing last line
/// break joins two blocks.
pub(super) fn tidy_pem(pem: &str) -> Secret {
    let lines = pem.lines().map(str::trim).filter(|line| !line.is_empty());
    Secret::new(lines.fold(String::new(), |text, line| text + line + "\n"))
}

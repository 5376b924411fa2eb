//! What the guest says of itself, as types. Its other side is `templates/guest`'s `status.py`.
//! These are wire types: what lbctl's own `--json` promises (`output/json`) does not follow them.

use serde::Deserialize;

/// What the guest says of itself. Every field may be false, and one that is missing does no harm.
/// Its texts are cleaned.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct GuestStatus {
    pub boot_id: String,
    /// Seconds since the guest's kernel started.
    pub uptime_s: f64,
    pub cloud_init: CloudInit,
    pub haproxy: HaproxyStatus,
    pub certificate: Certificates,
    /// Exactly one server is up.
    pub ready: bool,
}

/// cloud-init's verdict, from its own JSON files.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CloudInit {
    /// `not started`, `running`, `done`, `error`, `disabled`.
    pub status: String,
    pub stage: Option<String>,
    pub errors: Vec<String>,
}

/// The client certificate in the guest.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Certificates {
    pub on_disk: Option<CertificateFacts>,
    /// What HAProxy shows to the nodes.
    pub in_use: Option<CertificateFacts>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// Lower-case hexadecimal.
    pub serial: String,
    /// RFC 3339.
    pub not_after: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct HaproxyStatus {
    pub active: bool,
    pub version: Option<String>,
    pub sessions: Option<u64>,
    /// Of the whole process.
    pub max_connections: Option<u64>,
    /// Clients that wait for a primary. `None`: it has not loaded lbctl's Lua, so none can wait.
    pub held: Option<u64>,
    pub servers: Vec<Server>,
    pub servers_up: u32,
    /// Address of the one server that is up.
    pub primary: Option<String>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    pub backend: String,
    pub name: String,
    pub address: Option<String>,
    pub state: String,
    pub check: Option<String>,
    /// The status of the answer, such as HTTP's 503.
    pub check_code: Option<i64>,
    pub check_detail: Option<String>,
    pub last_change_s: Option<u64>,
    pub sessions: Option<u64>,
}

//! How a VM is, and what it has.

use schemars::JsonSchema;
use serde::Serialize;

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct CertificateDocument {
    pub subject: String,
    /// Hexadecimal.
    pub serial: String,
    /// RFC 3339.
    pub not_after: Option<String>,
    /// Whole days, negative when it has ended.
    pub days_left: i64,
}

/// `lbctl status`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StatusDocument {
    pub name: String,
    /// When the state was read, RFC 3339.
    pub time: Option<String>,
    /// Whether psql through it works.
    pub ready: bool,
    /// `null`: it is ready.
    pub not_ready_because: Option<String>,
    /// Of the libvirt daemon.
    pub uri: String,
    pub domain: DomainDocument,
    /// The address that clients use. `null`: a DHCP server gives it, and the guest does not tell
    /// it.
    pub address: Option<String>,
    /// All that are known.
    pub addresses: Vec<String>,
    /// `null`: there is no seed.
    pub certificate: Option<StatusCertificateDocument>,
    /// Why the guest does not say more; `null`: it does, or it is off.
    pub guest: Option<String>,
    /// Changes with each boot of the guest.
    pub boot_id: Option<String>,
    pub uptime_seconds: Option<u64>,
    pub cloud_init: Option<CloudInitDocument>,
    pub haproxy: Option<HaproxyDocument>,
    /// `null`: the VM shares no address, or the guest does not say.
    pub virtual_ip: Option<VirtualIpDocument>,
    /// How the nodes are asked for their role: `mutual`, `server` or `off`.
    pub patroni_tls: String,
    /// The name that the nodes' certificates must carry; `null`: any, only their CA is verified.
    pub verify_host: Option<String>,
    /// What `up` would change; `null`: it is unknown.
    pub drift: Option<Vec<String>>,
    /// Why it is unknown.
    pub drift_unknown_because: Option<String>,
    /// Whether all of `drift` is written for the next start of the guest, and only that is
    /// missing.
    pub restart_pending: bool,
    /// What the plan says beside its changes.
    pub notes: Vec<String>,
    /// Why it is unknown whether there is a seed, and so a certificate; `null`: it is known.
    pub seed_unknown_because: Option<String>,
}

/// The address that the VM shares with others.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct VirtualIpDocument {
    pub address: String,
    /// Whether this VM has it.
    pub held: bool,
    /// The own address of the VM that has it; `null`: none has it, or several have.
    pub holder: Option<String>,
    /// Whether another VM would take it from the one that has it.
    pub spare: bool,
    /// 0: this VM is ready; -20: it sees no primary; -50: it has stepped back; -254: its HAProxy
    /// does not run.
    pub weight: Option<i64>,
    /// Of clients that came by it, in this VM.
    pub sessions: Option<u64>,
    /// The MAC address of a machine that is none of the VMs and has the address, for which this VM
    /// does not take it; `null`: none was found when keepalived started.
    pub taken_by: Option<String>,
    pub peers: Vec<PeerDocument>,
    /// Why nothing is known of the other VMs.
    pub error: Option<String>,
}

/// Another VM that shares the address, as this one hears of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PeerDocument {
    pub address: String,
    /// Whether it is heard of.
    pub alive: bool,
    pub held: bool,
    pub weight: Option<i64>,
    /// Whether its configuration has the same address, `router_id` and detection.
    pub agrees: bool,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DomainDocument {
    /// `running`, `paused`, `shutting down`, `shut off`, `crashed`, `suspended`, or `absent`.
    pub state: String,
    /// Why it is in that state, in libvirt's words: `saved`, `I/O error`, `crashed`…; `null`: the
    /// state says it all.
    pub reason: Option<String>,
}

/// The certificate in the seed, beside what the guest has.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StatusCertificateDocument {
    /// `null`: the one there cannot be read.
    #[serde(flatten)]
    pub facts: Option<CertificateDocument>,
    /// Whether it is to be renewed.
    pub due: bool,
    pub reason: Option<String>,
    /// On the guest's disk; `null`: not known.
    pub serial_on_disk: Option<String>,
    /// With which HAProxy checks the nodes; `null`: not known.
    pub serial_in_use: Option<String>,
    pub on_disk_is_seeds: Option<bool>,
    pub in_use_is_seeds: Option<bool>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CloudInitDocument {
    /// In cloud-init's own words: `done`, `running`, `error`…
    pub status: String,
    pub errors: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct HaproxyDocument {
    /// Whether its service is active.
    pub active: bool,
    pub version: Option<String>,
    /// Address of the node that takes the sessions; `null`: none, or more than one.
    pub primary: Option<String>,
    pub sessions: Option<u64>,
    pub max_connections: Option<u64>,
    /// Clients whose new connection waits for a primary; `null`: unknown, or this HAProxy lets
    /// none wait.
    pub held_clients: Option<u64>,
    pub servers: Vec<ServerDocument>,
    /// Why HAProxy does not say more.
    pub error: Option<String>,
}

/// HAProxy's view of one node (HAProxy management guide, section 9.1, statistics).
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ServerDocument {
    pub backend: String,
    pub name: String,
    pub address: Option<String>,
    /// What it is, by its state and its check.
    pub role: ServerRole,
    /// `UP`, `DOWN`, `MAINT`…
    pub state: String,
    /// Result of the last check: `L7OK`, `L4TOUT`…
    pub check: Option<String>,
    /// The status of its answer, such as HTTP's 503.
    pub check_code: Option<i64>,
    pub check_detail: Option<String>,
    /// Since the state changed.
    pub last_change_seconds: Option<u64>,
    pub sessions: Option<u64>,
}

/// What a node is for a backend of HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerRole {
    /// Of the main port: it takes the sessions. It is the primary, or the leader that
    /// `haproxy.role` names.
    Primary,
    /// Of the main port: it works and is not the primary.
    Replica,
    /// Of the main port: it works, and neither it nor any other node is the primary.
    NoLeader,
    /// Of a further port: it takes sessions.
    Serving,
    /// Of a further port: it works and does not have the role of that port.
    OtherRole,
    /// It accepts connections, and has no time to answer its check.
    Slow,
    /// Its check fails.
    Failed,
    /// It is being promoted, or comes up.
    Changing,
    /// PostgreSQL stops there.
    Stopping,
    /// Somebody disabled it in HAProxy.
    Disabled,
    /// It was not checked so far.
    Unknown,
}

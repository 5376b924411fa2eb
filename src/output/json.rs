//! What `--json` prints, as types: their fields are the documents, their comments the descriptions
//! in `lbctl schema`. Ids and kinds are declared where they belong, and published from there. How a
//! plan becomes a document is in `plan`.
//!
//! They stay apart from the types of what the guest says (`guest/status`), although many fields are
//! alike. Those change with the guest's program, and nothing in them is believed; these are what
//! lbctl promises. `status/json` alone makes one from the other.
//!
//! Invariant: within one [`SCHEMA`] nothing that is here is removed, renamed or given another type
//! or meaning; what is added is optional for the reader. tests/it/schema.rs holds this against the
//! schema that was published first.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::ProblemId;
use crate::exit::MessageId;
use crate::reconcile::plan::{OwnershipKind, StepKind, SubjectKind};

/// Version of every document that lbctl prints.
pub const SCHEMA: u32 = 1;

/// What lbctl prints on standard output with `--json`: one document, and with `status --watch` one
/// a line.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "Output of lbctl --json")]
pub struct Document {
    /// Version of the document. It is raised when something described here is removed or changes
    /// its meaning. It is not raised for what is new: readers ignore keys that they do not know.
    #[schemars(range(min = SCHEMA, max = SCHEMA))]
    pub schema: u32,
    #[serde(flatten)]
    pub body: Body,
}

impl Document {
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self {
            schema: SCHEMA,
            body,
        }
    }
}

/// The JSON Schema (draft 2020-12) of [`Document`].
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Document>()
        .to_value()
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Body {
    /// The command did what it is for.
    Answer(Answer),
    /// It did not: there is an `error`.
    Failure(FailureDocument),
}

impl From<Answer> for Body {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// One kind of document per command.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Answer {
    Check(CheckDocument),
    Render(RenderDocument),
    Plan(PlanDocument),
    Up(UpDocument),
    Down(PlanDocument),
    Status(Box<StatusDocument>),
    Renew(RenewDocument),
}

/// How a command ended that did not do what it was asked.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FailureDocument {
    /// The command that was given.
    pub command: String,
    /// Of the load balancer; with `status --watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// RFC 3339; with `status --watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub error: ErrorDocument,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ErrorDocument {
    /// What lbctl ends with. `null` with `status --watch`, which continues.
    pub exit_code: Option<u8>,
    /// What is wrong with the configuration (exit code 2); empty for every other failure.
    pub problems: Vec<ProblemDocument>,
    /// What happened; empty where it is the configuration.
    pub messages: Vec<MessageDocument>,
}

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ProblemDocument {
    /// What is wrong, for programs: compare this and not the words.
    pub id: ProblemId,
    /// Dotted path of the key; empty where it is none.
    pub key: String,
    /// Counted from 1; `null` where there is no such place.
    pub line: Option<usize>,
    /// Counted in characters from 1.
    pub column: Option<usize>,
    pub message: String,
    /// What to do about it.
    pub help: String,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MessageDocument {
    /// What it says, for programs: compare this and not the words.
    pub id: MessageId,
    /// What was being done, to what, and what libvirt or the system said.
    pub message: String,
    /// What to do about it; empty where there is nothing.
    pub help: String,
    /// Lines shown as they were found, such as the last ones of the console.
    pub detail: Vec<String>,
    /// Worth knowing beside the error, but not an error.
    pub note: bool,
}

/// `lbctl check`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CheckDocument {
    /// The configuration file.
    pub file: String,
    pub name: String,
    /// Whether nothing fails.
    pub ok: bool,
    /// Whether the host was checked, too (`--host`).
    pub host: bool,
    /// What was checked with `--host`, in the order of the list that people see.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Finding {
    /// What was checked: `libvirt`, `root disk`, `address 192.168.122.162`…
    pub what: String,
    pub verdict: Verdict,
    pub said: String,
    /// What to do about it; empty where there is nothing.
    pub help: String,
    /// What fails, for programs; `null`: nothing does.
    pub id: Option<MessageId>,
}

/// The result of one check of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// A first `up` would succeed, but there is something to know.
    Warning,
    /// A first `up` would fail here.
    Fails,
    /// It is unknown from here.
    Unknown,
}

/// `lbctl render`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RenderDocument {
    pub name: String,
    /// Whether secrets are masked.
    pub masked: bool,
    /// Text of each file by its name; empty with `--out`.
    pub files: BTreeMap<String, String>,
    /// Paths of the files that were written; empty without `--out`.
    pub written: Vec<String>,
}

/// `lbctl plan`, and what `lbctl down` did
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PlanDocument {
    pub name: String,
    /// Whether there is nothing to do.
    pub empty: bool,
    pub changes: Vec<ChangeDocument>,
    /// In the words that people see; not for parsing: `step_details` has them for programs.
    pub steps: Vec<String>,
    /// The same steps in the same order, for programs.
    pub step_details: Vec<StepDocument>,
    /// What is left unchanged and is worth mentioning.
    pub notes: Vec<String>,
    /// Whether a change needs a restart of the guest.
    pub restart: bool,
}

/// One difference.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChangeDocument {
    /// What differs, for programs.
    pub kind: SubjectKind,
    /// `memory`, `vcpus`, `reservation`, the path of a file in the guest…
    pub what: String,
    /// Empty where there was nothing.
    pub from: String,
    pub to: String,
    pub class: ClassDocument,
    /// Unified diff of a file in the guest; empty where there is none, or where the file holds a
    /// secret.
    pub diff: String,
}

/// One step.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StepDocument {
    pub kind: StepKind,
    pub target: TargetDocument,
    /// As in `steps`.
    pub text: String,
}

/// What a step is done to. Each kind of step has some of these.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(default)]
pub struct TargetDocument {
    /// Name of the domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// As `pool/name`: the root disk, or a seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The base volume, as `pool/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The disk in the running guest, such as `vda`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The size that the disk has afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Name of the libvirt network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Of the DHCP host entry, as the two below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// What the ownership record is written for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<OwnershipKind>,
}

/// How a difference reaches the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClassDocument {
    /// There is nothing yet that could be disturbed.
    Create,
    /// Now, and no session is dropped.
    Live,
    /// With a restart of the guest.
    Restart,
    /// With a new disk only.
    Replace,
}

/// `lbctl up`, when it succeeded
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct UpDocument {
    /// What was done.
    #[serde(flatten)]
    pub plan: PlanDocument,
    /// `true`: psql through it works. `null`: lbctl did not wait for it (`--wait`).
    pub ready: Option<bool>,
    /// The address that clients use.
    pub address: String,
    /// How long it took.
    pub seconds: f64,
    /// How many calls it made to libvirt.
    pub libvirt_calls: u32,
}

/// `lbctl renew`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RenewDocument {
    pub name: String,
    /// Whether a renewal is due now.
    pub due: bool,
    /// Why it is or was; `null`: it is not.
    pub reason: Option<String>,
    /// Whether it was renewed just now.
    pub renewed: bool,
    /// The certificate in use; `null` where none can be read.
    pub certificate: Option<CertificateDocument>,
}

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
    pub domain: DomainDocument,
    /// The address that clients use.
    pub address: Option<String>,
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
    /// The name that the nodes' certificates must carry; `null`: any, only their CA is verified.
    pub verify_host: Option<String>,
    /// What `up` would change; `null`: it is unknown.
    pub drift: Option<Vec<String>>,
    /// Why it is unknown.
    pub drift_unknown_because: Option<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DomainDocument {
    /// `running`, `paused`, `shutting down`, `shut off`, `crashed`, `suspended`, or `absent`.
    pub state: String,
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

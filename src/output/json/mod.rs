//! What `--json` prints, as types: their fields are the documents, their comments the descriptions
//! in `lbctl schema`. Ids and kinds are declared where they belong, and published from there. How a
//! plan becomes a document is in `output/plan`.
//!
//! They stay apart from the types of what the guest says (`guest/status`), although many fields are
//! alike. Those change with the guest's program, and nothing in them is believed; these are what
//! lbctl promises. `status/json` alone makes one from the other.
//!
//! Invariant: within one [`SCHEMA`] nothing that is here is removed, renamed or given another type
//! or meaning; what is added is optional for the reader. tests/it/schema.rs holds this against the
//! schema that was published first.

mod list;
mod plan;
mod status;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Problem, ProblemId};
use crate::exit::{Message, MessageId};
use crate::reconcile::plan::StepKind;

pub use list::{
    LeftoverDocument, ListDocument, ListedDocument, ListedFileDocument, ListedHostDocument,
    Relation,
};
pub use plan::{
    AdoptDocument, ChangeDocument, ClassDocument, PlanDocument, RenewDocument, StepDocument,
    StepState, TargetDocument, UpDocument,
};
pub use status::{
    CertificateDocument, CloudInitDocument, DomainDocument, HaproxyDocument, PeerDocument,
    ServerDocument, ServerRole, StatusCertificateDocument, StatusDocument, VirtualIpDocument,
};

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
    schema_of::<Document>("urn:lbctl:output:1")
}

/// The JSON Schema of [`EventLine`].
#[must_use]
pub fn events_schema() -> serde_json::Value {
    schema_of::<EventLine>("urn:lbctl:events:1")
}

/// `id`: its name for ever, by which others refer to it.
fn schema_of<T: JsonSchema>(id: &str) -> serde_json::Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), id.into());
    schema.to_value()
}

/// A line of `--events`: one of these while lbctl works, and the document of `--json` as the last
/// one, which has `command` and no `type`. Readers pass over types that they do not know.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "A line of lbctl --events, but the last one")]
pub struct EventLine {
    /// As of the documents.
    #[schemars(range(min = SCHEMA, max = SCHEMA))]
    pub schema: u32,
    /// RFC 3339, in UTC.
    pub time: Option<String>,
    /// Of the load balancer; empty before its configuration was read.
    pub name: String,
    /// For people.
    pub message: String,
    #[serde(flatten)]
    pub event: Event,
}

/// What happens.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// What is going to be done.
    Plan {
        changes: Vec<ChangeDocument>,
        steps: Vec<StepDocument>,
    },
    StepBegin {
        /// The step's number in this run, from 1.
        id: usize,
        kind: StepKind,
        target: Box<TargetDocument>,
    },
    StepEnd {
        id: usize,
        kind: StepKind,
        seconds: f64,
    },
    /// The guest is that far; with `--wait`.
    Phase { phase: PhaseDocument },
    /// Worth knowing: the plan is made again, libvirt does not answer…
    Note,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Body {
    /// The command did what it is for.
    Answer(Answer),
    /// It did not: there is an `error`.
    Failure(FailureDocument),
    /// The configuration has `[[vms]]`: there is a list of `vms`.
    Several(SeveralDocument),
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
    Adopt(AdoptDocument),
    Down(PlanDocument),
    Restart(UpDocument),
    Status(Box<StatusDocument>),
    Renew(RenewDocument),
    Csr(CsrDocument),
    List(ListDocument),
    Logs(LogsDocument),
    Handover(HandoverDocument),
    Import(ImportDocument),
}

/// Any command, where the configuration has `[[vms]]` or is a folder.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SeveralDocument {
    /// The command that was given.
    pub command: String,
    /// What lbctl ends with.
    pub exit_code: u8,
    /// One for each VM that the command was for: of `plan` in the order in which `up` works on
    /// them, otherwise in the order of the file.
    pub vms: Vec<VmDocument>,
    /// Of `status`, where the VMs share an address: what all of them together say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_ip: Option<SharedDocument>,
    /// Of `status` of a folder, where some VMs share one address and some another: what each of
    /// them is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub virtual_ips: Vec<SharedDocument>,
}

/// The address that several VMs share. They are named as in the file; those that are not in it by
/// their own addresses.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SharedDocument {
    pub address: String,
    /// Those that have it: one, where all is well.
    pub holders: Vec<String>,
    /// Those that would take it.
    pub spares: Vec<String>,
    /// Those of which nothing is known.
    pub unknown: Vec<String>,
}

/// What the command would print for that VM alone, without `schema`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum VmDocument {
    Answer(Answer),
    /// There is an `error`. Of a VM that was not touched because of another one it is a note.
    Failure(FailureDocument),
}

impl From<&Message> for MessageDocument {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id,
            message: message.text.clone(),
            help: message.hint.clone(),
            detail: message.detail.clone(),
            note: message.note,
        }
    }
}

/// How a command ended that did not do what it was asked.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FailureDocument {
    /// The command that was given.
    pub command: String,
    /// Of the VM, as soon as its configuration was read; not where the failure is of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// RFC 3339; with `status --watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Of the libvirt daemon, as soon as it was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What was planned and done before it failed, as in the document of a success; nothing where
    /// there was no plan.
    #[serde(flatten)]
    pub work: Option<WorkDocument>,
    pub error: ErrorDocument,
}

/// What a command planned, and what became of it before it failed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "what was published stays")]
pub struct WorkDocument {
    /// Whether a step was done.
    pub changed: bool,
    /// Whether there was nothing to do.
    pub empty: bool,
    pub changes: Vec<ChangeDocument>,
    /// As in the document of a success.
    pub steps: Vec<String>,
    /// The same steps, each with its `state`.
    pub step_details: Vec<StepDocument>,
    pub notes: Vec<String>,
    /// Whether a change needs a restart of the guest.
    pub restart: bool,
    pub continues: bool,
    /// `false`: it was waited for (`--wait`), and is not ready. `null`: lbctl did not wait.
    pub ready: Option<bool>,
    /// How far the guest was.
    pub phase: Option<PhaseDocument>,
    /// The address that clients use; `null`: it is unknown.
    pub address: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// How many calls it made to libvirt; `null`: it was not counted.
    pub libvirt_calls: Option<u32>,
}

/// How far the guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseDocument {
    /// Its agent does not answer yet.
    Booting,
    /// cloud-init is running.
    CloudInit,
    /// HAProxy waits for exactly one primary.
    Checks,
    /// psql through it works.
    Ready,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ErrorDocument {
    /// What lbctl ends with; of one of several VMs, what it would end with for that one. `null`
    /// with `status --watch`, which continues, and of a VM that was not touched.
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
    /// The file that it is in: the configuration, or one that it extends.
    pub file: String,
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

impl From<&Problem> for ProblemDocument {
    fn from(problem: &Problem) -> Self {
        let place = |count: usize| (count > 0).then_some(count);
        Self {
            id: problem.id,
            file: problem.file.clone(),
            key: problem.key.clone(),
            line: place(problem.line),
            column: place(problem.column),
            message: problem.message.clone(),
            help: problem.help.clone(),
        }
    }
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
    /// Of the libvirt daemon, with `--host`; `null`: it was not reached, or not asked.
    pub uri: Option<String>,
    /// What was checked with `--host`, in the order of the list that people see.
    pub findings: Vec<Finding>,
    /// With `--verbose`: where each key has its value from, in the order of the reference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyDocument>,
}

/// Where a key of the configuration has its value from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyDocument {
    /// As in a file of one VM: `haproxy.check.rise`, `macvtap_interfaces[0].ip`.
    pub key: String,
    pub from: KeySource,
    /// The file that gives the value; `null`: none does.
    pub file: Option<String>,
    /// Its line there, the first is 1.
    pub line: Option<usize>,
    /// What lbctl takes where no file gives a value, as TOML writes it; `null`: a file does.
    pub default: Option<String>,
}

/// What gives a key its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// The configuration.
    File,
    /// One that it extends.
    Extends,
    /// What all VMs of `[[vms]]` share.
    SharedByVms,
    /// The VM's own table in `[[vms]]`.
    Vm,
    /// lbctl.
    Default,
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

/// `lbctl logs`; with `--follow` one a line, each with the lines since the one before
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LogsDocument {
    pub name: String,
    /// As journalctl writes them, with their time; cleaned.
    pub lines: Vec<String>,
}

/// `lbctl csr`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CsrDocument {
    pub name: String,
    /// Where the private key is that belongs to the request.
    pub key_file: String,
    /// PKCS #10, PEM.
    pub request: String,
}

/// `lbctl handover`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct HandoverDocument {
    pub name: String,
    /// Of the libvirt daemon.
    pub uri: String,
    /// Whether the address went to another VM, as of every command that may change something.
    pub changed: bool,
    /// The shared address.
    pub address: String,
    /// The own address of the VM that has it now.
    pub holder: String,
    /// Whether this VM had it before.
    pub moved: bool,
    /// Of clients that came by it and are still in this VM; `null`: it does not say.
    pub sessions: Option<u64>,
}

/// `lbctl import`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImportDocument {
    /// Of the VM; empty where it is not known.
    pub name: String,
    /// Whether the VM is a load balancer of the Terraform module's.
    pub of_module: bool,
    /// Whether the configuration is whole and valid.
    pub valid: bool,
    /// What is required and is not known.
    pub missing: Vec<MissingDocument>,
    /// What is wrong with the configuration as it is.
    pub problems: Vec<ProblemDocument>,
    /// What has no key, or was not read.
    pub notes: Vec<String>,
    /// Where the state says otherwise than the host.
    pub differences: Vec<String>,
    /// Text of lbctl.toml, without any secret; `null` with `--out`.
    pub config: Option<String>,
    /// Paths of the files that were written; empty without `--out`.
    pub written: Vec<String>,
    /// How the VM leaves Terraform; `null` without a state.
    pub terraform: Option<LeavingDocument>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MissingDocument {
    /// Dotted path of the key.
    pub key: String,
    pub why: String,
}

/// What is to be done before the next `terraform apply`, where the VM is to stay.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LeavingDocument {
    /// A command for a shell; `null`: an address cannot be shown.
    pub state_rm: Option<String>,
    /// The same as blocks for the .tf files, of Terraform 1.7 and newer.
    pub removed: Vec<String>,
    /// What must leave the .tf files.
    pub take_out: Vec<String>,
    pub notes: Vec<String>,
}

//! Plans, and what was done of them.

use schemars::JsonSchema;
use serde::Serialize;

use super::CertificateDocument;
use crate::reconcile::plan::{OwnershipKind, StepKind, SubjectKind};

/// `lbctl plan`, and what `lbctl down` did
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "what was published stays")]
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
    /// Whether a change needs a restart of the guest that cuts sessions.
    pub restart: bool,
    /// Whether the steps are the first ones only: the others depend on what these bring about, and
    /// are planned after them.
    pub continues: bool,
    /// Of the libvirt daemon.
    pub uri: String,
    /// Whether something was done; always `false` of `plan`.
    pub changed: bool,
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
    pub state: StepState,
    /// How long it took; `null`: it is not done.
    pub seconds: Option<f64>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It would be done.
    Planned,
    Done,
    /// It was begun and is not done.
    Failed,
    /// It was never begun, because one before it failed.
    Skipped,
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
    /// Where the image of the base volume comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The disk in the running guest, such as `vda`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The size that the disk has afterwards; of an image, the size of its file.
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
    /// With a restart of the guest, after another VM has taken the address that they share.
    Handover,
    /// With a restart of the guest.
    Restart,
    /// With a new disk only.
    Replace,
}

/// `lbctl up` and `lbctl restart`, when they succeeded
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct UpDocument {
    /// What was done.
    #[serde(flatten)]
    pub plan: PlanDocument,
    /// `true`: psql through it works. `null`: lbctl did not wait for it (`--wait`).
    pub ready: Option<bool>,
    /// The address that clients use. Empty: a DHCP server gives it, and the guest has not told it
    /// yet.
    pub address: String,
    /// How long it took.
    pub seconds: f64,
    /// How many calls it made to libvirt.
    pub libvirt_calls: u32,
}

/// `lbctl adopt`, when it succeeded
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AdoptDocument {
    #[serde(flatten)]
    pub done: UpDocument,
    /// The file that holds the definition of before. `null`: the domain was lbctl's already, by an
    /// earlier run.
    pub saved: Option<String>,
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
    /// The same, as of every command that may change something.
    pub changed: bool,
    /// Of the libvirt daemon.
    pub uri: String,
    /// The certificate in use; `null` where none can be read.
    pub certificate: Option<CertificateDocument>,
}

//! What `lbctl list` found.

use schemars::JsonSchema;
use serde::Serialize;

use super::{MessageDocument, ProblemDocument};

/// `lbctl list`
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ListDocument {
    /// Whether every configuration could be read and every host was reached. If not, a VM may have
    /// a configuration that is not known here.
    pub complete: bool,
    /// In the order of the hosts, and of the names.
    pub vms: Vec<ListedDocument>,
    /// Seeds of lbctl's that no domain has, with the secrets of a guest in them.
    pub seeds_without_domain: Vec<LeftoverDocument>,
    pub hosts: Vec<ListedHostDocument>,
    /// The configurations that were read.
    pub files: Vec<ListedFileDocument>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ListedDocument {
    pub name: String,
    /// Of the libvirt daemon.
    pub uri: String,
    pub relation: Relation,
    /// As in `status`; `null`: the host was not reached.
    pub state: Option<String>,
    /// Why it is in that state, in libvirt's words; `null`: the state says it all.
    pub reason: Option<String>,
    /// The address that clients use, by the configuration or by what is reserved; `null`: a DHCP
    /// server gives it.
    pub address: Option<String>,
    /// The version of the lbctl that wrote its definition last; `null`: there is none of lbctl's,
    /// or it is not recorded, as by lbctl 0.1.0.
    pub version: Option<String>,
    /// The generation of the definition that lbctl wrote; `null`: there is none of lbctl's.
    pub layout: Option<u32>,
    /// Whether that is this lbctl's generation.
    pub layout_is_current: Option<bool>,
    /// The configurations that describe it.
    pub files: Vec<String>,
    /// Where none does: those that describe a VM of this name on another host.
    pub elsewhere: Vec<String>,
}

/// How a domain and its configuration belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// lbctl made the domain, and a configuration describes it.
    Managed,
    /// lbctl made the domain, and no configuration that was read describes it.
    Orphaned,
    /// A configuration describes it, and there is no domain.
    Absent,
    /// A configuration describes it, and lbctl did not make the domain.
    Foreign,
    /// A configuration describes it, and its host was not reached.
    Unknown,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LeftoverDocument {
    /// The VM whose seed it is.
    pub name: String,
    /// Of the libvirt daemon.
    pub uri: String,
    /// As `pool/name`.
    pub volume: String,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ListedHostDocument {
    /// Of the libvirt daemon.
    pub uri: String,
    /// Why it was not reached, or did not say what it has; `null`: it did.
    pub error: Option<MessageDocument>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ListedFileDocument {
    pub file: String,
    /// What is wrong with it: then its VMs are not listed.
    pub problems: Vec<ProblemDocument>,
}

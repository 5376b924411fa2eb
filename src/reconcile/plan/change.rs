//! What differs, and what it is about. Its words are made by `Display` only, and nothing compares
//! them. What a subject was and becomes is in `value`.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::step::{Action, StepKind, Target};
use super::value::Value;
use crate::config::{MacAddr, VolumeRef};
use crate::host::{HostEntry, NetworkId};

/// How a difference reaches the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing of the guest is there yet that could be disturbed.
    Create,
    /// Now, and no session is dropped.
    Live,
    /// By a restart of the guest, after another VM has taken the address that they share: sessions
    /// that came by it have ended, or have had their time.
    Handover,
    /// At the next start of the guest.
    Restart,
    /// With a new disk only: what is on the present one is lost, and the guest is stopped for it.
    Replace,
}

impl Class {
    /// Whether the guest is stopped and started for it.
    #[must_use]
    pub fn boots(self) -> bool {
        matches!(self, Self::Handover | Self::Restart | Self::Replace)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Live => "live",
            Self::Handover => "handover",
            Self::Restart => "restart",
            Self::Replace => "replace",
        })
    }
}

/// One difference between what is desired and what was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub subject: Subject,
    pub from: Value,
    pub to: Value,
    pub class: Class,
    /// Of a file, line by line. Empty: there is nothing more to show, or it is secret.
    pub diff: String,
}

impl Change {
    pub(crate) fn new(
        subject: Subject,
        from: impl Into<Value>,
        to: impl Into<Value>,
        class: Class,
    ) -> Self {
        Self {
            subject,
            from: from.into(),
            to: to.into(),
            class,
            diff: String::new(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            from,
            to,
            class,
            diff: _,
        } = self;
        match from {
            Value::Nothing => write!(f, "{subject}: {to}")?,
            from => write!(f, "{subject}: {from} -> {to}")?,
        }
        match class {
            Class::Create => Ok(()),
            class => write!(f, " ({class})"),
        }
    }
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    ClientCertificate,
    Seed,
    Domain,
    Reservation,
    Disk,
    DiskSize,
    Memory,
    Vcpus,
    DomainType,
    Machine,
    Interfaces,
    /// The link of the interface with that MAC address.
    Link(MacAddr),
    AgentChannel,
    CurrentMemory,
    NetworkConfiguration,
    Definition,
    LeftoverSeed,
    Autostart,
    State,
    Address,
    Guest,
    AdminUser,
    FirstBoot,
    Packages,
    HaproxyProcess,
    AdminPassword,
    SshKeys,
    OwnFiles,
    /// What somebody added to the definition, in a word of libvirt's documentation.
    Edited(&'static str),
    /// A file of the guest, by its path.
    File(String),
    /// What `down` removes.
    Removed(Removed),
}

/// What `down` removes, each thing in the words of the step that removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The running guest of the domain.
    Guest(String),
    Domain(String),
    Seed(VolumeRef),
    Disk(VolumeRef),
    Reservation {
        network: NetworkId,
        entry: HostEntry,
    },
}

/// What a change is about, for programs. What `down` removes has the kind of the thing itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// The client certificate for the health checks.
    ClientCertificate,
    /// The cloud-init volume.
    Seed,
    /// The domain.
    Domain,
    /// The DHCP entry of the address in a libvirt network.
    Reservation,
    /// The root disk.
    Disk,
    /// The size of the root disk.
    DiskSize,
    /// The memory of the domain.
    Memory,
    /// The virtual CPUs.
    Vcpus,
    /// kvm or qemu.
    DomainType,
    /// The machine type.
    Machine,
    /// The network interfaces of the domain.
    Interfaces,
    /// The link of a network interface; `what` names its MAC address.
    Link,
    /// The channel of the guest agent.
    GuestAgentChannel,
    /// The memory that the guest gets at its next start, where that is not all of its memory.
    CurrentMemory,
    /// The guest's network configuration, which is read at boot.
    NetworkConfiguration,
    /// The saved definition of the domain.
    Definition,
    /// A seed that nothing refers to any more.
    LeftoverSeed,
    /// Whether the domain starts with the host.
    Autostart,
    /// Whether the guest runs.
    State,
    /// The address that the running guest started with.
    Address,
    /// The running guest, where nothing more precise is known.
    Guest,
    /// The user who administers the guest.
    SshAdminUser,
    /// What `[guest]` says of the guest's first boot.
    FirstBoot,
    /// The packages of the guest.
    Packages,
    /// How HAProxy's process is started.
    HaproxyProcess,
    /// The password of the administrator.
    AdminPassword,
    /// The ssh keys of the administrator.
    SshKeys,
    /// lbctl's own files in the guest.
    OwnFiles,
    /// What somebody added to the definition, and a change cannot keep.
    EditedByHand,
    /// A file in the guest; `what` is its path.
    File,
}

impl Subject {
    #[must_use]
    pub fn kind(&self) -> SubjectKind {
        match self {
            Self::ClientCertificate => SubjectKind::ClientCertificate,
            Self::Seed | Self::Removed(Removed::Seed(_)) => SubjectKind::Seed,
            Self::Domain | Self::Removed(Removed::Domain(_)) => SubjectKind::Domain,
            Self::Reservation | Self::Removed(Removed::Reservation { .. }) => {
                SubjectKind::Reservation
            }
            Self::Disk | Self::Removed(Removed::Disk(_)) => SubjectKind::Disk,
            Self::DiskSize => SubjectKind::DiskSize,
            Self::Memory => SubjectKind::Memory,
            Self::Vcpus => SubjectKind::Vcpus,
            Self::DomainType => SubjectKind::DomainType,
            Self::Machine => SubjectKind::Machine,
            Self::Interfaces => SubjectKind::Interfaces,
            Self::Link(_) => SubjectKind::Link,
            Self::AgentChannel => SubjectKind::GuestAgentChannel,
            Self::CurrentMemory => SubjectKind::CurrentMemory,
            Self::NetworkConfiguration => SubjectKind::NetworkConfiguration,
            Self::Definition => SubjectKind::Definition,
            Self::LeftoverSeed => SubjectKind::LeftoverSeed,
            Self::Autostart => SubjectKind::Autostart,
            Self::State | Self::Removed(Removed::Guest(_)) => SubjectKind::State,
            Self::Address => SubjectKind::Address,
            Self::Guest => SubjectKind::Guest,
            Self::AdminUser => SubjectKind::SshAdminUser,
            Self::FirstBoot => SubjectKind::FirstBoot,
            Self::Packages => SubjectKind::Packages,
            Self::HaproxyProcess => SubjectKind::HaproxyProcess,
            Self::AdminPassword => SubjectKind::AdminPassword,
            Self::SshKeys => SubjectKind::SshKeys,
            Self::OwnFiles => SubjectKind::OwnFiles,
            Self::Edited(_) => SubjectKind::EditedByHand,
            Self::File(_) => SubjectKind::File,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientCertificate => "client certificate",
            Self::Seed => "seed",
            Self::Domain => "domain",
            Self::Reservation => "reservation",
            Self::Disk => "disk",
            Self::DiskSize => "disk size",
            Self::Memory => "memory",
            Self::Vcpus => "vcpus",
            Self::DomainType => "domain type",
            Self::Machine => "machine",
            Self::Interfaces => "interfaces",
            Self::Link(mac) => return write!(f, "link of {mac}"),
            Self::AgentChannel => "guest agent channel",
            Self::CurrentMemory => "current memory",
            Self::NetworkConfiguration => "network configuration",
            Self::Definition => "definition",
            Self::LeftoverSeed => "leftover seed",
            Self::Autostart => "autostart",
            Self::State => "state",
            Self::Address => "address",
            Self::Guest => "guest",
            Self::AdminUser => "ssh_admin_user",
            Self::FirstBoot => "[guest]",
            Self::Packages => "packages",
            Self::HaproxyProcess => "HAProxy's process",
            Self::AdminPassword => "admin password",
            Self::SshKeys => "ssh keys",
            Self::OwnFiles => "lbctl's own files in the guest",
            Self::Edited(what) => return write!(f, "{what}, as edited"),
            Self::File(path) => path,
            Self::Removed(removed) => return removed.fmt(f),
        })
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, target) = match self.clone() {
            Self::Guest(domain) => (StepKind::Stop, Target::Domain(domain)),
            Self::Domain(domain) => (StepKind::Undefine, Target::Domain(domain)),
            Self::Seed(at) => (StepKind::DeleteSeed, Target::Seed(at)),
            Self::Disk(at) => (StepKind::DeleteVolume, Target::Volume(at)),
            Self::Reservation { network, entry } => {
                (StepKind::Release, Target::Entry { network, entry })
            }
        };
        Action { kind, target }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::plan::Condition;

    #[test]
    fn a_change_shows_the_old_value_where_there_was_one() {
        for (from, to, class, words) in [
            (
                Value::Memory(1024),
                Value::Memory(2048),
                Class::Restart,
                "memory: 1024 MiB -> 2048 MiB (restart)",
            ),
            (Value::from(""), Value::Count(2), Class::Create, "memory: 2"),
            (
                Condition::None.into(),
                Value::Interfaces(Vec::new()),
                Class::Live,
                "memory: none -> none (live)",
            ),
            (
                Value::words(&[]),
                Value::words(&["a".into(), "b".into()]),
                Class::Live,
                "memory: a b (live)",
            ),
            (
                Value::Lines {
                    added: 1,
                    removed: 0,
                },
                Value::Lines {
                    added: 1,
                    removed: 2,
                },
                Class::Live,
                "memory: +1 -0 line -> +1 -2 lines (live)",
            ),
        ] {
            let change = Change::new(Subject::Memory, from, to, class);
            assert_eq!(change.to_string(), words);
        }
    }

    #[test]
    fn what_down_removes_has_the_kind_of_the_thing() {
        let at = VolumeRef {
            pool: "default".into(),
            name: "lb-1".into(),
        };
        for (removed, kind, words) in [
            (
                Removed::Guest("lb-1".into()),
                SubjectKind::State,
                "stop domain lb-1",
            ),
            (
                Removed::Domain("lb-1".into()),
                SubjectKind::Domain,
                "undefine domain lb-1",
            ),
            (
                Removed::Seed(at.clone()),
                SubjectKind::Seed,
                "delete seed default/lb-1",
            ),
            (
                Removed::Disk(at),
                SubjectKind::Disk,
                "delete volume default/lb-1",
            ),
        ] {
            let subject = Subject::Removed(removed);
            assert_eq!(
                (subject.kind(), subject.to_string().as_str()),
                (kind, words)
            );
        }
    }
}

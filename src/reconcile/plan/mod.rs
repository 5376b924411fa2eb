//! What `up` and `down` would do, as values. Pure: no I/O, no clock, no randomness. Text is only in
//! `Display`.
//!
//! Invariant: every prefix of the steps is safe. On the way up: reserve → volume → seed → define →
//! autostart → start; on the way down the reverse. A seed is never replaced in place under a domain
//! that points at it: the new one is whole before anything refers to it, and the old one is deleted
//! when nothing does.

mod adopt;
mod change;
mod disk;
mod down;
mod fitness;
mod guest;
mod links;
mod made;
mod network;
mod parts;
mod renew;
mod seeds;
mod shared;
mod step;
#[cfg(test)]
mod tests;
mod up;
mod update;
mod value;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::MacAddr;
use crate::exit::MessageId;

pub use change::{Change, Class, Removed, Subject, SubjectKind};
pub(crate) use disk::base_is_lost;
pub use down::{DownOptions, plan_down};
pub(crate) use fitness::subnets;
pub use fitness::{Remark, remarks};
pub use guest::guest_differs;
pub use renew::plan_renew;
pub use seeds::ensure_seed_pool;
pub use shared::{before_stop, may_share};
pub use step::{
    Action, ConvergeStep, DefineStep, Drives, ImageStep, OwnershipKind, RemakeStep, RootRef, Step,
    StepKind, Target,
};
pub use up::{ensure_ours, plan_restart, plan_up};
pub use value::{Condition, Value};

/// What is done about changes that need a restart of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// The guest has `deadline` to stop by itself; then its power is cut.
    Now { deadline: Duration },
    /// Written for the next boot.
    Later,
}

/// The way from observed to desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub name: String,
    pub changes: Vec<Change>,
    pub steps: Vec<Step>,
    /// What is left unchanged and is worth mentioning.
    pub notes: Vec<String>,
    /// These steps are the first part: what comes after them depends on what they bring about, and
    /// is planned then. The changes are all that is known of now.
    pub continues: bool,
    /// The guest would be stopped, and no other VM would take the address that they share: that is
    /// refused without consent to it, unless one is ready by then.
    pub no_spare: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.steps.is_empty()
    }

    /// The changes for which the guest is stopped, and every session through it cut.
    #[must_use]
    pub fn needing_restart(&self) -> Vec<&Change> {
        let cuts = |c: &&Change| matches!(c.class, Class::Restart | Class::Replace);
        self.changes.iter().filter(cuts).collect()
    }

    /// The changes for which the guest is stopped, whether that cuts sessions or another VM takes
    /// the shared address first.
    #[must_use]
    pub fn needing_boot(&self) -> Vec<&Change> {
        self.changes.iter().filter(|c| c.class.boots()).collect()
    }

    /// Whether the disk is made anew, so that what is on it is lost.
    #[must_use]
    pub fn replaces_disk(&self) -> bool {
        let anew = |c: &Change| matches!(c.to, Value::MadeAnew { .. });
        self.changes.iter().any(anew)
    }

    /// Whether the guest is to be restarted, and sessions have time to end in before.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.needing_restart().is_empty() && !self.needing_boot().is_empty()
    }

    /// Whether everything is written for the next start of the guest, and only that is missing. A
    /// lost link, a crashed guest or a new disk is not written anywhere: nobody has agreed to wait
    /// with it.
    #[must_use]
    pub fn awaits_restart(&self) -> bool {
        let written = |c: &Change| {
            matches!(c.class, Class::Handover | Class::Restart)
                && !matches!(c.subject, Subject::Link(_) | Subject::State)
                && !matches!(c.to, Value::MadeAnew { .. })
        };
        self.steps.is_empty() && !self.changes.is_empty() && self.changes.iter().all(written)
    }

    /// The first step that would end a block job of the running guest, or fail beside it.
    #[must_use]
    pub fn ending_jobs(&self) -> Option<&Step> {
        let ends = |step: &&Step| {
            let stops = matches!(step, Step::Restart { .. } | Step::Stop { .. });
            stops || matches!(step, Step::GrowLiveDisk { .. })
        };
        self.steps.iter().find(ends)
    }

    /// Whether the VM is made by this plan, so that nothing can be disturbed.
    #[must_use]
    pub fn creates(&self) -> bool {
        self.changes.iter().any(|c| c.class == Class::Create)
    }
}

/// Why a plan is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The host lacks something: no such network, an inactive pool, an address outside the subnet.
    Unfit,
    /// It would touch what lbctl did not make.
    NotOurs,
    /// It would destroy data, which was not requested.
    NeedsConsent,
}

/// What of the host an objection is about: a line of `check --host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectionSubject {
    /// Whether the host runs kvm guests.
    Kvm,
    Domain,
    /// The base volume, to be cloned.
    Base,
    RootDisk,
    Seed,
    /// A libvirt network or a host interface, by its name in the configuration.
    Link(String),
    Address(Ipv4Addr),
    Mac(MacAddr),
}

/// One reason, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    pub id: MessageId,
    pub kind: RefusalKind,
    pub about: ObjectionSubject,
    pub message: String,
    pub hint: String,
}

impl Objection {
    pub(crate) fn new(
        id: MessageId,
        kind: RefusalKind,
        about: ObjectionSubject,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            id,
            kind,
            about,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// All the reasons together, so that one run reports all. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub objections: Vec<Objection>,
}

impl Refusal {
    /// Whether consent or another's property is among the reasons (exit code 4, not 1).
    #[must_use]
    pub fn is_about_ownership(&self) -> bool {
        self.objections.iter().any(|o| o.kind != RefusalKind::Unfit)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool of the disk may be that of the seed, and is named once.
        let mut said: Vec<&str> = Vec::new();
        for objection in &self.objections {
            if !said.contains(&objection.message.as_str()) {
                said.push(&objection.message);
            }
        }
        f.write_str(&said.join("; "))
    }
}

impl std::error::Error for Refusal {}

//! What `up` and `down` would do, as values. Pure: no I/O, no clock, no randomness. Text is only in
//! `Display`.
//!
//! Invariant: every prefix of the steps is safe. On the way up: reserve → volume → seed → define →
//! autostart → start; on the way down the reverse. A seed is never replaced in place under a domain
//! that points at it: the new one is whole before anything refers to it, and the old one is deleted
//! when nothing does.

mod change;
mod disk;
mod down;
mod guest;
mod network;
mod parts;
mod renew;
mod seeds;
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
pub use down::{DownOptions, plan_down};
pub use guest::guest_differs;
pub use renew::plan_renew;
pub use step::{Action, ConvergeStep, DefineStep, OwnershipKind, RootRef, Step, StepKind, Target};
pub use up::plan_up;
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
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.steps.is_empty()
    }

    /// The changes that only a restart of the guest brings about.
    #[must_use]
    pub fn needing_restart(&self) -> Vec<&Change> {
        self.changes
            .iter()
            .filter(|c| c.class == Class::Restart)
            .collect()
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
        for (place, objection) in self.objections.iter().enumerate() {
            let between = if place == 0 { "" } else { "; " };
            write!(f, "{between}{}", objection.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

//! How each module's error is reported: the words, the hint and the exit code. The values are in
//! `exit`.

use crate::cert::CertError;
use crate::config::DEVICE_KEYS;
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::{HostError, HostErrorKind};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::desired::DesireError;
use crate::reconcile::plan::{Refusal, Step};

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let hint = error
            .hint
            .clone()
            .or_else(|| hint_for(&error))
            .unwrap_or_default();
        Self::new(Exit::Failed, id_of(&error), error.to_string(), hint)
    }
}

/// The id of an error of the host, by its kind.
#[must_use]
pub fn id_of(error: &HostError) -> MessageId {
    match error.kind {
        HostErrorKind::Connection => MessageId::LibvirtUnreachable,
        HostErrorKind::Permission => MessageId::LibvirtDenied,
        HostErrorKind::NotFound => MessageId::NotFound,
        HostErrorKind::Exists => MessageId::AlreadyExists,
        HostErrorKind::State => MessageId::WrongState,
        HostErrorKind::Agent => MessageId::AgentError,
        HostErrorKind::Other => MessageId::LibvirtError,
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let (step, done, error) = match error {
            ApplyError::Failed {
                step,
                done,
                beside,
                error,
            } => (step, done + usize::from(beside.is_some()), error),
            ApplyError::Stopped { next, exit } => {
                return Self::stopped(
                    exit,
                    format!(
                        "stopped before this step: {next}; run the same command again: it continues from here"
                    ),
                );
            }
        };
        let hint = error
            .hint
            .clone()
            .or_else(|| hint_for(&error))
            .unwrap_or_default();
        // The guest refused, and what had been prepared for it was removed again.
        let undone = matches!(*step, Step::Converge(_));
        let alone = matches!(*step, Step::StepBack { .. }) && error.kind == HostErrorKind::Other;
        let (exit, id) = match error.kind {
            HostErrorKind::Other if undone => (Exit::Failed, MessageId::GuestRefused),
            // No other VM takes the address.
            HostErrorKind::Other if alone => (Exit::Refused, MessageId::NoSpare),
            _ => (Exit::Failed, id_of(&error)),
        };
        // "start domain x" and "starting domain x" are the same, and said once.
        let said = if step.is_done_by(&error.doing) {
            error.said.clone()
        } else {
            error.to_string()
        };
        let mut failure = Self::new(exit, id, format!("cannot {step}: {said}"), hint);
        if undone {
            return failure;
        }
        if alone && done == 0 {
            let note = Message::note(MessageId::StepsDone, "nothing was changed");
            failure.messages.push(note);
            return failure;
        }
        let progress = match done {
            0 => "nothing was changed; ".to_owned(),
            1 => "1 step was done before it; ".to_owned(),
            n => format!("{n} steps were done before it; "),
        };
        let text = format!("{progress}run the same command again: it continues from here");
        let note = Message::note(MessageId::StepsDone, text);
        failure.messages.push(note);
        failure
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = if refusal.is_about_ownership() {
            Exit::Refused
        } else {
            Exit::Failed
        };
        let mut messages: Vec<Message> = Vec::new();
        for o in refusal.objections {
            // What two parts of the VM lack alike is said once.
            let message = Message::new(o.id, o.message, o.hint);
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
        Self { exit, messages }
    }
}

impl From<DesireError> for Failure {
    fn from(error: DesireError) -> Self {
        let id = match &error {
            DesireError::Unread(_) => MessageId::FileUnreadable,
            DesireError::Certificate(CertError::Ca(_)) => MessageId::CaNotInForce,
            DesireError::Certificate(CertError::NoValidity | CertError::Issuing(_)) => {
                MessageId::CertificateNotIssued
            }
            DesireError::Certificate(CertError::Key { .. }) => MessageId::CaKeyUnavailable,
            DesireError::Certificate(CertError::NoneGiven) => MessageId::CertificateMissing,
            DesireError::SeedOutdated => MessageId::SeedOutdated,
            DesireError::WithoutCertificate => MessageId::WithoutCertificate,
            DesireError::Seed(_) => MessageId::SeedNotMade,
        };
        let exit = match &error {
            // It is the configuration that has to be completed.
            DesireError::Unread(_)
            | DesireError::Certificate(CertError::Key { .. } | CertError::NoneGiven) => Exit::Usage,
            _ => Exit::Failed,
        };
        let hint = error.hint().unwrap_or_default().to_owned();
        Self::new(exit, id, error.to_string(), hint)
    }
}

/// What libvirt's and QEMU's words mean for an operator. Hints only: no decision depends on words.
fn hint_for(error: &HostError) -> Option<String> {
    let said = error.said.to_ascii_lowercase();
    let has = |words: &str| said.contains(words);
    let pool = error.doing.pool().unwrap_or("POOL");
    let hint = if error.kind == HostErrorKind::Connection {
        "the connection to libvirt broke, which does not affect the guest: check that its daemon runs (`systemctl \
         status libvirtd`, or virtqemud), then run the same command again: it continues from here"
    } else if has("failed to initialize kvm")
        || has("could not access kvm")
        || has("/dev/kvm")
        || has("does not support virt type 'kvm'")
    {
        "this host cannot run kvm guests now: check that virtualisation is on in its firmware and the kvm module is \
         loaded. Without kvm, `domain_type = \"qemu\"` in [libvirt] emulates (many times slower)"
    } else if has("no space left") || has("enospc") {
        return Some(format!(
            "the pool is full: `virsh pool-info {pool}` shows its space; free some and run the same command again"
        ));
    } else if has("cannot allocate memory") || has("cannot set up guest memory") {
        "the host does not have enough free memory for the guest: lower `memory`, or free some"
    } else if has("permission denied") || has("could not open") {
        "QEMU may not open that file: check its owner and mode (`ls -lZ`), and look for AppArmor or SELinux denials in \
         the host's journal (`journalctl -k -g DENIED`, `ausearch -m avc`)"
    } else if has("is not active") || has("network is not") {
        "`virsh net-list --all` and `virsh pool-list --all` show what is not active; `virsh net-start NAME` or `virsh \
         pool-start NAME` starts it"
    } else if has("existing dhcp host entry") || has("already exists") {
        return Some(match error.doing.pool() {
            Some(pool) => format!(
                "if a file of that name lies in the pool and libvirt does not list it, `virsh pool-refresh {pool}` makes \
                 libvirt see it; otherwise run the same command again"
            ),
            None => "run the same command again: it plans from what is there now".into(),
        });
    } else if has("cannot find device") || has("no such device") || has("unable to get index") {
        return Some(format!(
            "`ip link` on the host lists its network devices; set {DEVICE_KEYS} to one of them"
        ));
    } else {
        return None;
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Operation;

    fn failed(step: Step, doing: Operation) -> Failure {
        let error = HostError::new(HostErrorKind::Other, doing, "no");
        let step = Box::new(step);
        let done = 1;
        ApplyError::Failed {
            step,
            done,
            beside: None,
            error,
        }
        .into()
    }

    fn start() -> Step {
        let domain = "lb-1".into();
        Step::Start { domain }
    }

    #[test]
    fn what_the_step_is_itself_is_said_once() {
        for (doing, said) in [
            (
                Operation::Start("lb-1".into()),
                "cannot start domain lb-1: no",
            ),
            (
                Operation::Start("lb-2".into()),
                "cannot start domain lb-1: starting domain lb-2: no",
            ),
            (
                Operation::from("starting domain lb-1"),
                "cannot start domain lb-1: starting domain lb-1: no",
            ),
        ] {
            assert_eq!(failed(start(), doing).messages[0].text, said);
        }
    }

    #[test]
    fn where_nobody_takes_the_shared_address_it_is_a_refusal() {
        let step = || Step::StepBack {
            domain: "lb-1".into(),
            drain: std::time::Duration::ZERO,
        };
        let doing = || Operation::StepBack("lb-1".into());
        for (kind, done, exit, id) in [
            (HostErrorKind::Other, 0, Exit::Refused, MessageId::NoSpare),
            (HostErrorKind::Other, 2, Exit::Refused, MessageId::NoSpare),
            (HostErrorKind::Agent, 0, Exit::Failed, MessageId::AgentError),
        ] {
            let error = HostError::new(kind, doing(), "no other VM");
            let step = Box::new(step());
            let failure = Failure::from(ApplyError::Failed {
                step,
                done,
                beside: None,
                error,
            });
            assert_eq!((failure.exit, failure.messages[0].id), (exit, id));
            assert_eq!(
                failure.messages[0].text,
                "cannot hand over the shared address of lb-1 to another VM: no other VM"
            );
            let note = &failure.messages[1].text;
            assert_eq!(note.starts_with("nothing was changed"), done == 0, "{note}");
        }
    }

    #[test]
    fn a_failed_step_has_its_errors_id_and_a_note_of_those_before() {
        let failure = failed(start(), Operation::Start("lb-1".into()));
        let ids: Vec<MessageId> = failure.messages.iter().map(|m| m.id).collect();
        assert_eq!(ids, [MessageId::LibvirtError, MessageId::StepsDone]);
    }
}

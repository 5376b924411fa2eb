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
            ApplyError::Failed { step, done, error } => (step, done, error),
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
        let id = if undone && error.kind == HostErrorKind::Other {
            MessageId::GuestRefused
        } else {
            id_of(&error)
        };
        // "start domain x" and "starting domain x" are the same, and said once.
        let said = if step.is_done_by(&error.doing) {
            error.said.clone()
        } else {
            error.to_string()
        };
        let mut failure = Self::new(Exit::Failed, id, format!("cannot {step}: {said}"), hint);
        if undone {
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
        let messages = refusal
            .objections
            .into_iter()
            .map(|o| Message::new(o.id, o.message, o.hint))
            .collect();
        Self { exit, messages }
    }
}

impl From<DesireError> for Failure {
    fn from(error: DesireError) -> Self {
        let id = match &error {
            DesireError::Certificate(CertError::Ca(_)) => MessageId::CaNotInForce,
            DesireError::Certificate(CertError::NoValidity | CertError::Issuing(_)) => {
                MessageId::CertificateNotIssued
            }
            DesireError::SeedOutdated => MessageId::SeedOutdated,
            DesireError::Seed(_) => MessageId::SeedNotMade,
        };
        let hint = error.hint().unwrap_or_default().to_owned();
        Self::new(Exit::Failed, id, error.to_string(), hint)
    }
}

/// What libvirt's and QEMU's words mean for an operator. Hints only: no decision depends on words.
fn hint_for(error: &HostError) -> Option<String> {
    let said = error.said.to_ascii_lowercase();
    let has = |words: &str| said.contains(words);
    let hint = if error.kind == HostErrorKind::Connection {
        "the connection to libvirt broke, which does not affect the guest: check that its daemon runs (`systemctl \
         status libvirtd`), then run the same command again: it continues from here"
    } else if has("failed to initialize kvm")
        || has("could not access kvm")
        || has("/dev/kvm")
        || has("does not support virt type 'kvm'")
    {
        "this host cannot run kvm guests now: check that virtualisation is on in its firmware and the kvm module is \
         loaded. Without kvm, `domain_type = \"qemu\"` in [libvirt] emulates (many times slower)"
    } else if has("no space left") || has("enospc") {
        "the pool is full: `virsh pool-info POOL` shows its space; free some and run the same command again"
    } else if has("cannot allocate memory") || has("cannot set up guest memory") {
        "the host does not have enough free memory for the guest: lower `memory`, or free some"
    } else if has("permission denied") || has("could not open") {
        "QEMU may not open that file: check its owner and mode (`ls -lZ`), and look for AppArmor or SELinux denials in \
         the host's journal (`journalctl -k -g DENIED`, `ausearch -m avc`)"
    } else if has("is not active") || has("network is not") {
        "`virsh net-list --all` and `virsh pool-list --all` show what is not active; `virsh net-start NAME` or `virsh \
         pool-start NAME` starts it"
    } else if has("existing dhcp host entry") || has("already exists") {
        "perhaps another lbctl run changed it: run the same command again. If a volume's file still exists, `virsh \
         pool-refresh POOL` makes libvirt see it"
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
        ApplyError::Failed { step, done, error }.into()
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
    fn a_failed_step_has_its_errors_id_and_a_note_of_those_before() {
        let failure = failed(start(), Operation::Start("lb-1".into()));
        let ids: Vec<MessageId> = failure.messages.iter().map(|m| m.id).collect();
        assert_eq!(ids, [MessageId::LibvirtError, MessageId::StepsDone]);
    }
}

//! What becomes of each module's error at the edge: the words, the hint and the exit code. The values are `exit`'s.

use crate::exit::{Exit, Failure, Message};
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
        Self::new(Exit::Failed, error.to_string(), hint)
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let (step, done, error) = match error {
            ApplyError::Failed { step, done, error } => (step, done, error),
            ApplyError::Stopped { next, exit } => {
                return Self::stopped(
                    exit,
                    format!("stopped, next was: {next}; the same command goes on from here"),
                );
            }
        };
        let hint = error
            .hint
            .clone()
            .or_else(|| hint_for(&error))
            .unwrap_or_default();
        // The guest refused, and what had been prepared for it was taken away again.
        let undone = matches!(*step, Step::Converge(_));
        let step = step.to_string();
        // "start domain x" and "starting domain x" are one thing, and said once.
        let rest = |text: &str| text.split_once(' ').map(|(_, rest)| rest.to_owned());
        let said = if rest(&step) == rest(&error.doing) {
            error.said.clone()
        } else {
            error.to_string()
        };
        let mut failure = Self::new(Exit::Failed, format!("cannot {step}: {said}"), hint);
        if undone {
            return failure;
        }
        let progress = match done {
            0 => "nothing was changed; ".to_owned(),
            1 => "1 step was done before it; ".to_owned(),
            n => format!("{n} steps were done before it; "),
        };
        failure.messages.push(Message {
            note: true,
            ..Message::new(format!("{progress}the same command goes on from here"), "")
        });
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
            .map(|o| Message::new(o.message, o.hint))
            .collect();
        Self { exit, messages }
    }
}

impl From<DesireError> for Failure {
    fn from(error: DesireError) -> Self {
        let hint = error.hint().unwrap_or_default().to_owned();
        Self::new(Exit::Failed, error.to_string(), hint)
    }
}

/// What libvirt's and QEMU's words mean for an operator. Hints only: no decision hangs on words.
fn hint_for(error: &HostError) -> Option<String> {
    let said = error.said.to_ascii_lowercase();
    let has = |words: &str| said.contains(words);
    let hint = if error.kind == HostErrorKind::Connection {
        "the connection to libvirt broke, which does not touch the guest: is its daemon running (`systemctl status \
         libvirtd`)? The same command goes on from here"
    } else if has("failed to initialize kvm")
        || has("could not access kvm")
        || has("/dev/kvm")
        || has("does not support virt type 'kvm'")
    {
        "this host cannot run kvm guests now: is virtualisation on in its firmware, is the kvm module loaded? \
         Without it, `domain_type = \"qemu\"` in [libvirt] emulates (many times slower)"
    } else if has("no space left") || has("enospc") {
        "the pool is full: `virsh pool-info POOL` shows its space; free some and run the same command again"
    } else if has("cannot allocate memory") || has("cannot set up guest memory") {
        "the host has not enough free memory for the guest: lower `memory`, or free some"
    } else if has("permission denied") || has("could not open") {
        "QEMU may not open that file: look at its owner and mode (`ls -lZ`), and for AppArmor or SELinux denials in the \
         host's journal (`journalctl -k -g DENIED`, `ausearch -m avc`)"
    } else if has("is not active") || has("network is not") {
        "`virsh net-list --all` and `virsh pool-list --all` show what is asleep; `virsh net-start NAME` wakes it"
    } else if has("existing dhcp host entry") || has("already exists") {
        "somebody was faster, perhaps another lbctl: run the same command again. If a volume's file is in the way still, \
         `virsh pool-refresh POOL` lets libvirt see it"
    } else if has("cannot find device") || has("no such device") || has("unable to get index") {
        "`ip link` on the host lists its network devices; set `interface` of macvtap_interfaces to one of them"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

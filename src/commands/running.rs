//! What a command that needs a running guest says where there is none.

use crate::exit::{Exit, Failure, MessageId};
use crate::host::{DomainFacts, DomainState};
use crate::reconcile::observe::Observed;

/// The domain, if it has a QEMU process. `so` follows in the message where it has none, as in "so
/// it has no console".
pub(super) fn running<'a>(
    name: &str,
    observed: &'a Observed,
    so: &str,
) -> Result<&'a DomainFacts, Failure> {
    match &observed.domain {
        None => Err(absent(name, so)),
        Some(domain) if domain.live.is_none() => {
            let text = format!("{name}: the domain is {}, {so}", domain.state);
            Err(wrong_state(text, "`lbctl up --wait` starts it"))
        }
        Some(domain) => Ok(domain),
    }
}

/// The domain, if its guest can answer: a guest that is paused says nothing.
pub(super) fn answering<'a>(
    name: &str,
    observed: &'a Observed,
    so: &str,
) -> Result<&'a DomainFacts, Failure> {
    let domain = running(name, observed, so)?;
    match domain.state {
        DomainState::Paused | DomainState::Suspended => {
            let text = format!("{name}: the domain is {}, {so}", domain.state);
            Err(wrong_state(
                text,
                "`lbctl status` says why; `lbctl up` resumes it",
            ))
        }
        _ => Ok(domain),
    }
}

pub(super) fn absent(name: &str, so: &str) -> Failure {
    let text = format!("{name}: the domain does not exist, {so}");
    let hint = "`lbctl up --wait` creates it";
    Failure::new(Exit::Failed, MessageId::DomainMissing, text, hint)
}

fn wrong_state(text: String, hint: &str) -> Failure {
    Failure::new(Exit::Failed, MessageId::WrongState, text, hint)
}

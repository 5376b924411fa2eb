//! Carrying out a plan where another lbctl may be changing the same host. libvirt has no lock, and
//! a lock of lbctl's own could outlive its holder. So a plan describes one moment: each step that
//! makes something makes it only where it does not exist, and a run that loses a race plans again
//! from the present state. The last plan is empty.
//!
//! Not here: how a command observes, and what it prints (`commands`).

use crate::exit::{Exit, Failure, MessageId};
use crate::host::HostErrorKind;
use crate::reconcile::apply::ApplyError;
use crate::reconcile::plan::{Action, Plan, Step};

/// How often another run may change the state before this one gives up.
const ROUNDS: usize = 12;
/// How often the same step may fail because of what already exists.
const SAME: usize = 3;

/// The result of planning again.
pub struct Remaining {
    pub plan: Plan,
    /// Nothing of the plan is to be done now.
    pub done: bool,
}

/// A command, as far as it may have to be done again.
pub trait Reconciler {
    fn replan(&mut self) -> Result<Remaining, Failure>;
    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError>;
    /// Another run is changing it; `why` says how that shows. Reports it, and waits a moment.
    fn back_off(&mut self, round: usize, why: &str);
    /// Every step was done, and this is left.
    fn unfinished(&self, left: &Plan) -> Failure;
}

/// Carries out the plan, and what is left of it until nothing is.
pub fn in_rounds(first: Plan, work: &mut dyn Reconciler) -> Result<(), Failure> {
    let mut plan = first;
    let mut same = 0;
    for round in 1.. {
        let why = match work.carry_out(&plan.steps) {
            Ok(()) => {
                let left = work.replan()?;
                if left.done {
                    return Ok(());
                }
                if round >= ROUNDS || same_work(&left.plan.steps, &plan.steps) {
                    return Err(work.unfinished(&left.plan));
                }
                plan = left.plan;
                "the state changed since it was read".to_owned()
            }
            Err(failed) => {
                let Some((step, why)) = perhaps_overtaken(&failed) else {
                    return Err(failed.into());
                };
                let Remaining { plan: again, done } = work.replan()?;
                same = if again.steps.first().map(Step::action) == Some(step) {
                    same + 1
                } else {
                    0
                };
                let there_already = matches!(&failed, ApplyError::Failed { error, .. } if error.kind != HostErrorKind::Other);
                if same > if there_already { SAME } else { 0 } {
                    return Err(failed.into());
                }
                if done {
                    work.back_off(round, &why);
                    return Ok(());
                }
                if round >= ROUNDS {
                    return Err(outrun(&plan.name, &why));
                }
                plan = again;
                why
            }
        };
        work.back_off(round, &why);
    }
    Ok(())
}

/// The step that failed, and how, if a concurrent change may be the reason. What stops or changes a
/// guest is not tried again automatically: each time costs sessions.
fn perhaps_overtaken(failed: &ApplyError) -> Option<(Action, String)> {
    let ApplyError::Failed { step, error, .. } = failed else {
        return None;
    };
    let tried_once = error.kind != HostErrorKind::Exists
        && matches!(**step, Step::Restart { .. } | Step::Converge(_));
    let of_the_host = matches!(
        error.kind,
        HostErrorKind::Connection | HostErrorKind::Permission | HostErrorKind::Agent
    );
    (!tried_once && !of_the_host).then(|| (step.action(), error.to_string()))
}

/// Whether both do the same things to the same targets. The steps themselves may differ: a plan
/// made again may have issued another certificate.
fn same_work(one: &[Step], other: &[Step]) -> bool {
    one.iter()
        .map(Step::action)
        .eq(other.iter().map(Step::action))
}

fn outrun(name: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        MessageId::Overtaken,
        format!(
            "another lbctl run is changing {name}: its state changed {ROUNDS} times while this run worked, the \
                 last time: {why}"
        ),
        "wait until the other run has ended, then run the same command again: it continues from there",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::host::{HostError, Operation};

    fn stop(domain: &str, seconds: u64) -> Step {
        Step::Stop {
            domain: domain.into(),
            deadline: Duration::from_secs(seconds),
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan {
            name: "lb-1".into(),
            changes: Vec::new(),
            steps,
            notes: Vec::new(),
        }
    }

    /// Plans as they are made one after the other; the last one is empty. How often steps were
    /// carried out is counted.
    struct Scripted {
        plans: VecDeque<Vec<Step>>,
        fail: Option<HostErrorKind>,
        rounds: usize,
    }

    impl Reconciler for Scripted {
        fn replan(&mut self) -> Result<Remaining, Failure> {
            let steps = self.plans.pop_front().unwrap_or_default();
            let done = steps.is_empty();
            let plan = plan(steps);
            Ok(Remaining { plan, done })
        }

        fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
            self.rounds += 1;
            match self.fail {
                None => Ok(()),
                Some(kind) => Err(ApplyError::Failed {
                    step: Box::new(steps.first().unwrap().clone()),
                    done: 0,
                    error: HostError::new(kind, Operation::PowerOff("lb-1".into()), "no"),
                }),
            }
        }

        fn back_off(&mut self, _: usize, _: &str) {}

        fn unfinished(&self, _: &Plan) -> Failure {
            Failure::new(Exit::Failed, MessageId::StateDiffers, "unfinished", "")
        }
    }

    fn settled(plans: &[Vec<Step>], fail: Option<HostErrorKind>) -> (Option<MessageId>, usize) {
        let mut work = Scripted {
            plans: plans[1..].iter().cloned().collect(),
            fail,
            rounds: 0,
        };
        let ended = in_rounds(plan(plans[0].clone()), &mut work);
        let id = ended.err().map(|failure| failure.messages[0].id);
        (id, work.rounds)
    }

    #[test]
    fn steps_that_are_the_same_work_are_not_progress() {
        // The steps differ, and what they do to what does not.
        let again = [vec![stop("lb-1", 1)], vec![stop("lb-1", 2)]];
        assert_eq!(settled(&again, None), (Some(MessageId::StateDiffers), 1));
        let another = [vec![stop("lb-1", 1)], vec![stop("lb-2", 1)]];
        assert_eq!(settled(&another, None), (None, 2));
    }

    #[test]
    fn a_step_that_fails_again_and_again_ends_it() {
        let exists = Some(HostErrorKind::Exists);
        let same: Vec<_> = (1..20).map(|seconds| vec![stop("lb-1", seconds)]).collect();
        assert_eq!(
            settled(&same, exists),
            (Some(MessageId::AlreadyExists), SAME + 1)
        );
        let others: Vec<_> = (1..20)
            .map(|number| vec![stop(&format!("lb-{number}"), 1)])
            .collect();
        assert_eq!(
            settled(&others, exists),
            (Some(MessageId::Overtaken), ROUNDS)
        );
    }
}

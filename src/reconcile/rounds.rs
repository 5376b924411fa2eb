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
/// How often the same step may fail with the same words, whatever else changes.
const SAME: usize = 3;

/// The result of planning again.
pub struct Remaining {
    pub plan: Plan,
    /// Nothing of the plan is to be done now.
    pub done: bool,
}

/// Why a plan is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again<'a> {
    /// A step failed, and the state had changed since it was read. The words are the error's.
    Overtaken(&'a str),
    /// Every step was done, and something still differs.
    Left,
    /// A step failed, nothing had changed, and what failed may have been for a moment.
    Unchanged,
}

/// A command, as far as it may have to be done again.
pub trait Reconciler {
    fn replan(&mut self) -> Result<Remaining, Failure>;
    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError>;
    /// Reports why the plan is made again, and waits a moment.
    fn back_off(&mut self, round: usize, why: Again<'_>);
    /// Every step was done, and this is left.
    fn unfinished(&self, left: &Plan) -> Failure;
}

/// Carries out the plan, and what is left of it until nothing is.
pub fn in_rounds(first: Plan, work: &mut dyn Reconciler) -> Result<(), Failure> {
    let mut plan = first;
    let mut done_before = 0;
    let mut failures = Failures::default();
    for round in 1.. {
        match work.carry_out(&plan.steps) {
            Ok(()) => {
                done_before += plan.steps.len();
                let left = work.replan()?;
                if left.done && (!plan.continues || left.plan.steps.is_empty()) {
                    return Ok(());
                }
                if round >= ROUNDS || same_work(&left.plan.steps, &plan.steps) {
                    return Err(work.unfinished(&left.plan));
                }
                if !plan.continues {
                    work.back_off(round, Again::Left);
                }
                plan = left.plan;
            }
            Err(failed) => {
                let here = failed.done();
                let beside = failed.beside().map(Step::action);
                let failed = failed.after(done_before);
                let Some((step, why)) = perhaps_overtaken(&failed) else {
                    return Err(failed.into());
                };
                done_before += here + usize::from(beside.is_some());
                let Remaining { plan: again, done } = work.replan()?;
                let undone = plan.steps.get(here..).unwrap_or_default();
                let undone = undone.iter().map(Step::action);
                let undone = undone.filter(|action| Some(action) != beside.as_ref());
                let changed = done || !again.steps.iter().map(Step::action).eq(undone);
                if failures.is_to_be_reported(&failed, step, &why, changed) {
                    return Err(failed.into());
                }
                work.back_off(
                    round,
                    if changed {
                        Again::Overtaken(&why)
                    } else {
                        Again::Unchanged
                    },
                );
                if done {
                    return Ok(());
                }
                if round >= ROUNDS {
                    return Err(outrun(&plan.name, &why));
                }
                plan = again;
            }
        }
    }
    Ok(())
}

/// What failed so far, and how.
#[derive(Default)]
struct Failures {
    last: Option<(Action, String)>,
    same: usize,
}

impl Failures {
    /// Whether the error is the result: it came back although nothing had changed, or again and
    /// again.
    fn is_to_be_reported(
        &mut self,
        failed: &ApplyError,
        step: Action,
        why: &str,
        changed: bool,
    ) -> bool {
        let this = Some((step, why.to_owned()));
        self.same = if self.last == this { self.same + 1 } else { 0 };
        self.last = this;
        let for_a_moment = matches!(failed, ApplyError::Failed { error, .. } if error.kind != HostErrorKind::Other);
        match (changed, for_a_moment) {
            (true, true) => self.same >= SAME,
            (true, false) | (false, true) => self.same >= 1,
            // libvirt says no, and would say it again.
            (false, false) => true,
        }
    }
}

/// The step that failed, and how, if a concurrent change may be the reason. What stops or changes a
/// guest is not tried again automatically: each time costs sessions.
fn perhaps_overtaken(failed: &ApplyError) -> Option<(Action, String)> {
    let ApplyError::Failed { step, error, .. } = failed else {
        return None;
    };
    let tried_once = error.kind != HostErrorKind::Exists
        && matches!(
            **step,
            Step::Restart { .. } | Step::StepBack { .. } | Step::Converge(_)
        );
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
            run: None,
            deadline: Duration::from_secs(seconds),
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan {
            name: "lb-1".into(),
            changes: Vec::new(),
            steps,
            notes: Vec::new(),
            continues: false,
            no_spare: false,
        }
    }

    /// Plans as they are made one after the other; the last one is empty. How often steps were
    /// carried out is counted.
    struct Scripted {
        plans: VecDeque<Vec<Step>>,
        fail: Option<HostErrorKind>,
        /// The second step is done at the same time as the first, which fails.
        beside: bool,
        rounds: usize,
        blamed: usize,
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
                    beside: self.beside.then(|| Box::new(steps[1].clone())),
                    error: HostError::new(kind, Operation::PowerOff("lb-1".into()), "no"),
                }),
            }
        }

        fn back_off(&mut self, _: usize, why: Again<'_>) {
            self.blamed += usize::from(matches!(why, Again::Overtaken(_)));
        }

        fn unfinished(&self, _: &Plan) -> Failure {
            Failure::new(Exit::Failed, MessageId::StateDiffers, "unfinished", "")
        }
    }

    fn settled(plans: &[Vec<Step>], fail: Option<HostErrorKind>) -> (Option<MessageId>, usize) {
        let mut work = Scripted {
            plans: plans[1..].iter().cloned().collect(),
            fail,
            beside: false,
            rounds: 0,
            blamed: 0,
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
        // Each time something else is planned after it: the state changes.
        let same: Vec<_> = (1..20)
            .map(|number| vec![stop("lb-1", 1), stop(&format!("lb-{number}"), 1)])
            .collect();
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

    #[test]
    fn an_error_that_comes_back_unchanged_is_reported_and_blames_nobody() {
        for (kind, rounds) in [(HostErrorKind::Exists, 2), (HostErrorKind::Other, 1)] {
            let plans = VecDeque::from(vec![vec![stop("lb-1", 1)]; 5]);
            let mut work = Scripted {
                plans,
                fail: Some(kind),
                beside: false,
                rounds: 0,
                blamed: 0,
            };
            let failure = in_rounds(plan(vec![stop("lb-1", 1)]), &mut work).unwrap_err();
            assert_eq!((work.rounds, work.blamed), (rounds, 0), "{failure}");
            assert!(
                failure.to_string().contains("cannot stop domain lb-1"),
                "{failure}"
            );
        }
    }

    #[test]
    fn what_was_done_beside_a_step_that_failed_is_nobody_elses_doing() {
        let (first, second) = (stop("lb-1", 1), stop("lb-2", 1));
        let mut work = Scripted {
            plans: VecDeque::from(vec![vec![first.clone()]; 5]),
            fail: Some(HostErrorKind::Other),
            beside: true,
            rounds: 0,
            blamed: 0,
        };
        let failure = in_rounds(plan(vec![first, second]), &mut work).unwrap_err();
        assert_eq!((work.rounds, work.blamed), (1, 0), "{failure}");
        assert!(
            failure.to_string().contains("1 step was done before it"),
            "{failure}"
        );
    }
}

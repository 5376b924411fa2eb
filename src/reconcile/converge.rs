//! Carrying out a plan where another lbctl may be at work on the same host. libvirt has no lock, and one of lbctl's own
//! could outlive its holder. So a plan is what was seen at one moment: each step that makes something makes it only where
//! it is not there, and whoever loses looks again and goes on from what is there. The last look finds nothing left to do.
//!
//! What belongs elsewhere: how a command looks, and what it says (`commands`).

use crate::exit::{Exit, Failure};
use crate::host::HostErrorKind;
use crate::reconcile::apply::ApplyError;
use crate::reconcile::plan::{Plan, Step};

/// How often another may be faster before this one gives way.
const ROUNDS: usize = 12;
/// How often the same step may fail because of what is there already.
const SAME: usize = 3;

/// What a look finds.
pub struct Remaining {
    pub plan: Plan,
    /// Nothing of the plan is to be done now.
    pub done: bool,
}

/// A command, as far as it may have to be done again.
pub trait Reconciler {
    fn replan(&mut self) -> Result<Remaining, Failure>;
    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError>;
    /// Another is at work, which is told by `why`: says so, and waits a moment.
    fn back_off(&mut self, round: usize, why: &str);
    /// Every step was done, and this is left.
    fn unfinished(&self, left: &Plan) -> Failure;
}

/// Carries out the plan, and what is left of it until nothing is.
pub fn settle(first: Plan, work: &mut dyn Reconciler) -> Result<(), Failure> {
    let mut plan = first;
    let mut same = 0;
    for round in 1.. {
        let why = match work.carry_out(&plan.steps) {
            Ok(()) => {
                let left = work.replan()?;
                if left.done {
                    return Ok(());
                }
                if round >= ROUNDS || texts(&left.plan.steps) == texts(&plan.steps) {
                    return Err(work.unfinished(&left.plan));
                }
                plan = left.plan;
                "something is other than it was left".to_owned()
            }
            Err(failed) => {
                let Some((step, why)) = perhaps_overtaken(&failed) else {
                    return Err(failed.into());
                };
                let Remaining { plan: again, done } = work.replan()?;
                same = if again.steps.first().map(ToString::to_string) == Some(step) {
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

/// The step that failed, and how, if that may be because something else was done meanwhile. What stops or changes a guest
/// is not tried again by itself: each time costs sessions.
fn perhaps_overtaken(failed: &ApplyError) -> Option<(String, String)> {
    let ApplyError::Failed { step, error, .. } = failed else {
        return None;
    };
    let tried_once = error.kind != HostErrorKind::Exists
        && matches!(**step, Step::Restart { .. } | Step::Converge(_));
    let of_the_host = matches!(
        error.kind,
        HostErrorKind::Connection | HostErrorKind::Permission | HostErrorKind::Agent
    );
    (!tried_once && !of_the_host).then(|| (step.to_string(), error.to_string()))
}

fn texts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

fn outrun(name: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("another lbctl is at work on {name} and was faster {ROUNDS} times, at last: {why}"),
        "let it come to its end, then run the same command again: it goes on from what is there",
    )
}

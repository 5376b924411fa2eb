//! What a command has done so far: the plan, each step, how far the guest is. It is kept while the
//! work goes on, so that a failure has it in its document too, and reported line by line with
//! `--events`.

use std::time::{Duration, Instant};

use super::json::{ChangeDocument, PhaseDocument, StepDocument, StepState, WorkDocument};
use crate::reconcile::plan::{Plan, Step};

/// The record of one run.
#[derive(Debug)]
pub(super) struct Work {
    started: Instant,
    plan: Option<Planned>,
    /// In the order in which they were begun; a step that is done again is there again.
    steps: Vec<StepDocument>,
    pub phase: Option<PhaseDocument>,
    pub address: Option<String>,
    pub libvirt_calls: Option<u32>,
    pub uri: Option<String>,
}

/// The first plan: what was to be done.
#[derive(Debug)]
struct Planned {
    changes: Vec<ChangeDocument>,
    steps: Vec<StepDocument>,
    notes: Vec<String>,
    restart: bool,
    continues: bool,
    empty: bool,
}

impl Work {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            plan: None,
            steps: Vec::new(),
            phase: None,
            address: None,
            libvirt_calls: None,
            uri: None,
        }
    }

    /// Keeps the first plan. Later ones are for what is left of it.
    pub fn planned(&mut self, plan: &Plan) {
        if self.plan.is_none() {
            let document = super::json::PlanDocument::from(plan);
            self.plan = Some(Planned {
                changes: document.changes,
                steps: document.step_details,
                notes: document.notes,
                restart: document.restart,
                continues: document.continues,
                empty: document.empty,
            });
        }
    }

    /// A step begins; its number in this run.
    pub fn begin(&mut self, step: &Step) -> usize {
        self.steps.push(StepDocument {
            // Until its end it may fail.
            state: StepState::Failed,
            ..step.into()
        });
        self.steps.len()
    }

    /// The step that was begun last is done.
    pub fn end(&mut self, took: Duration) -> usize {
        if let Some(step) = self.steps.last_mut() {
            step.state = StepState::Done;
            step.seconds = Some(took.as_secs_f64());
        }
        self.steps.len()
    }

    /// The steps of a plan, each with what became of it. `otherwise`: of one that was never begun.
    pub fn outcome(&self, steps: Vec<StepDocument>, otherwise: StepState) -> Vec<StepDocument> {
        let outcome = |step: StepDocument| {
            let is = |done: &&StepDocument| done.kind == step.kind && done.text == step.text;
            let last = self.steps.iter().rfind(is);
            let (state, seconds) = last.map_or((otherwise, None), |s| (s.state, s.seconds));
            StepDocument {
                state,
                seconds,
                ..step
            }
        };
        steps.into_iter().map(outcome).collect()
    }

    pub fn has_changed(&self) -> bool {
        self.steps.iter().any(|step| step.state == StepState::Done)
    }

    /// For the document of a failure; `None`: there was no plan.
    pub fn document(&self) -> Option<WorkDocument> {
        let plan = self.plan.as_ref()?;
        let details = self.outcome(plan.steps.clone(), StepState::Skipped);
        Some(WorkDocument {
            changed: self.has_changed(),
            empty: plan.empty,
            changes: plan.changes.clone(),
            steps: details.iter().map(|step| step.text.clone()).collect(),
            step_details: details,
            notes: plan.notes.clone(),
            restart: plan.restart,
            continues: plan.continues,
            ready: self.phase.map(|phase| phase == PhaseDocument::Ready),
            phase: self.phase,
            address: self.address.clone(),
            seconds: self.started.elapsed().as_secs_f64(),
            libvirt_calls: self.libvirt_calls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let domain = || "lb-1".to_owned();
        Plan {
            name: domain(),
            changes: Vec::new(),
            steps: vec![
                Step::Start { domain: domain() },
                Step::Undefine { domain: domain() },
                Step::SetAutostart {
                    domain: domain(),
                    on: true,
                },
            ],
            notes: Vec::new(),
            continues: false,
            no_spare: false,
        }
    }

    #[test]
    fn a_failure_says_of_each_step_what_became_of_it() {
        let mut work = Work::new();
        assert!(work.document().is_none());
        let plan = plan();
        work.planned(&plan);
        assert_eq!(work.begin(&plan.steps[0]), 1);
        work.end(Duration::from_millis(20));
        work.begin(&plan.steps[1]);
        let document = work
            .document()
            .map(|d| serde_json::to_value(d).unwrap_or_default());
        let document = document.unwrap_or_default();
        let states: Vec<_> = (0..3)
            .map(|at| document["step_details"][at]["state"].clone())
            .collect();
        assert_eq!(states, ["done", "failed", "skipped"]);
        assert_eq!(document["step_details"][0]["seconds"], 0.02);
        assert_eq!(document["changed"], true);
        assert_eq!(document["ready"], serde_json::Value::Null);
    }
}

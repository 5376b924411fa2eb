//! What is going to be done, and each step of it as it is done: for people, and as events.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::json::{
    Event, EventLine, PhaseDocument, PlanDocument, SCHEMA, StepDocument, StepState, WorkDocument,
};
use super::terminal::Limit;
use super::{Output, seconds};
use crate::reconcile::plan::{Plan, Step};

impl Output {
    /// What is going to be done, for programs.
    pub fn planned(&self, plan: &Plan, summary: &str) {
        self.found(plan);
        let PlanDocument {
            changes,
            step_details,
            ..
        } = plan.into();
        let steps = step_details;
        self.event(Event::Plan { changes, steps }, summary);
    }

    /// What the document of a failure after this has of the plan; nothing is said of it. The first
    /// plan counts.
    pub fn found(&self, plan: &Plan) {
        self.work().planned(plan);
    }

    /// A step begins: it is shown until [`Output::step_ends`].
    pub fn step_begins(&self, step: &Step) {
        let id = self.work().begin(step);
        let StepDocument { kind, target, .. } = step.into();
        let target = Box::new(target);
        let text = step.to_string();
        self.event(Event::StepBegin { id, kind, target }, &text);
        if !self.live(&text, None) {
            if matches!(step, Step::BringImage(_)) {
                self.say(format!("  {step}: this may take minutes"));
            } else {
                self.after_silence(format!("  waiting: {text}"));
            }
        }
    }

    pub fn step_ends(&self, step: &Step, took: Duration) {
        let id = self.work().end(took);
        let (kind, text) = (step.kind(), step.to_string());
        let seconds_taken = took.as_secs_f64();
        self.end_live();
        if took < Duration::from_millis(100) {
            self.say(format!("  {text}"));
        } else {
            self.say(format!("  {text} ({})", seconds(took)));
        }
        let seconds = seconds_taken;
        self.event(Event::StepEnd { id, kind, seconds }, &text);
    }

    /// How far the guest is. `limit`: for how long it is waited for.
    pub fn phase(&self, phase: PhaseDocument, text: &str, limit: Duration) {
        self.work().phase = Some(phase);
        self.event(Event::Phase { phase }, text);
        // What ends the waiting says so itself.
        if phase != PhaseDocument::Ready && !self.live(text, Some(Limit::Of(limit))) {
            self.say(format!("  waiting: {text}"));
        }
    }

    /// Worth knowing while the work goes on.
    pub fn note(&self, text: &str) {
        self.event(Event::Note, text);
        self.say(format!("  {text}"));
    }

    /// Whose libvirt was reached, and what was planned and done so far, for the document of a
    /// failure.
    #[must_use]
    pub fn so_far(&self) -> (Option<String>, Option<WorkDocument>) {
        let work = self.work();
        (work.uri.clone(), work.document())
    }

    fn event(&self, event: Event, message: &str) {
        let now = OffsetDateTime::now_utc();
        let whole = now.replace_nanosecond(0).unwrap_or(now);
        let line = EventLine {
            schema: SCHEMA,
            time: whole.format(&Rfc3339).ok(),
            name: self.name.get().cloned().unwrap_or_default(),
            message: message.to_owned(),
            event,
        };
        if let Some(line) = self.format.event(&line) {
            // A reader that has ended is seen at the document.
            let _ = Self::document_line(&line);
        }
    }

    /// The document of a plan that was carried out: each step with what became of it.
    #[must_use]
    pub fn carried_out(&self, plan: &Plan) -> PlanDocument {
        let work = self.work();
        let mut document = PlanDocument::from(plan);
        document.step_details = work.outcome(document.step_details, StepState::Done);
        document.changed = work.has_changed();
        document.uri = work.uri.clone().unwrap_or_default();
        document
    }
}

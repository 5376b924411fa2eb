//! `lbctl plan`: what `up` would do.

use super::{CommandResult, connect, load, observe_and_desire};
use crate::cli::Cli;
use crate::exit::Exit;
use crate::output::Output;
use crate::output::json::Answer;
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::observe::Ask;
use crate::reconcile::plan::{Plan, Restart, plan_up};

const RESTART: &str = "note: `lbctl up --restart now` restarts the guest for them, which cuts every session; \
                       `--restart later` applies them at its next start";

pub(super) fn run(cli: &Cli, out: &Output, exit_code: bool) -> CommandResult {
    let config = load(cli, out)?;
    let host = connect(cli, &config)?;
    let (observed, desired) = observe_and_desire(&config, &host, Ask::WhatIsNeeded)?;
    let plan = plan_up(&desired, &observed, Restart::Later)?;
    Ok(Box::new(PlanReport { plan, exit_code }))
}

struct PlanReport {
    plan: Plan,
    /// Whether something to do has an exit code of its own.
    exit_code: bool,
}

impl CommandReport for PlanReport {
    fn exit(&self) -> Exit {
        if self.exit_code && !self.plan.is_empty() {
            Exit::Pending
        } else {
            Exit::Done
        }
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Plan((&self.plan).into()))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let Plan {
            name,
            changes,
            steps: _,
            notes,
        } = &self.plan;
        let mut text = Vec::new();
        if self.plan.is_empty() {
            text.push(TextPart::Line(format!("{name}: nothing to do")));
        } else {
            let heading = format!("{name}: {}", summary(&self.plan));
            text.push(TextPart::Heading(heading));
            for change in changes {
                text.push(TextPart::Line(format!("  {change}")));
                if options.verbose {
                    let diff = change.diff.lines();
                    text.extend(diff.map(|line| TextPart::LongLine(format!("    {line}"))));
                }
            }
            text.extend(steps(&self.plan).into_iter().map(TextPart::Line));
        }
        text.extend(
            notes
                .iter()
                .map(|note| TextPart::Line(format!("note: {note}"))),
        );
        text
    }
}

fn steps(plan: &Plan) -> Vec<String> {
    let put_off = !plan.needing_restart().is_empty();
    let mut lines = Vec::new();
    if !plan.steps.is_empty() {
        let how = if put_off {
            ", with the restart postponed"
        } else {
            ""
        };
        lines.push(format!("steps{how}:"));
    }
    let numbered = plan.steps.iter().enumerate();
    lines.extend(numbered.map(|(at, step)| format!("  {}. {step}", at + 1)));
    if put_off {
        lines.push(RESTART.to_owned());
    }
    lines
}

/// `3 changes: 1 live, 2 need a restart of the guest`
pub(super) fn summary(plan: &Plan) -> String {
    if plan.creates() {
        return format!("to be created, in {} steps", plan.steps.len());
    }
    let count = plan.changes.len();
    let restart = plan.needing_restart().len();
    let noun = if count == 1 { "change" } else { "changes" };
    match restart {
        0 => format!("{count} {noun}, no session is cut"),
        1 => format!("{count} {noun}, 1 needs a restart of the guest"),
        n => format!("{count} {noun}, {n} need a restart of the guest"),
    }
}

//! `lbctl plan`: what `up` would do.

use super::{CommandResult, connect, load, observe_and_desire};
use crate::cli::Cli;
use crate::exit::Exit;
use crate::output::Output;
use crate::output::json::{Answer, ChangeDocument, ClassDocument, PlanDocument};
use crate::reconcile::observe::Ask;
use crate::reconcile::plan::{Change, Class, Plan, Restart, plan_up};

const RESTART: &str = "note: `lbctl up --restart now` restarts the guest for them, which cuts every session; \
                       `--restart later` leaves them to its next start";

pub(super) fn run(cli: &Cli, out: &Output, exit_code: bool) -> CommandResult {
    let config = load(cli, out)?;
    let host = connect(cli, &config)?;
    let (observed, desired) = observe_and_desire(&config, &host, Ask::WhatIsNeeded)?;
    let plan = plan_up(&desired, &observed, Restart::Later)?;
    if out.json {
        out.answer(Answer::Plan(document(&plan)));
    } else {
        show(&plan, out);
    }
    Ok(if exit_code && !plan.is_empty() {
        Exit::Pending
    } else {
        Exit::Done
    })
}

/// The plan for a person, as data.
fn show(plan: &Plan, out: &Output) {
    let Plan {
        name,
        changes,
        steps,
        notes,
    } = plan;
    if plan.is_empty() {
        out.line(&format!("{name}: nothing to do"));
    } else {
        out.heading(&format!("{name}: {}", summary(plan)));
        for change in changes {
            out.line(&format!("  {change}"));
            if out.verbose > 0 {
                change
                    .diff
                    .lines()
                    .for_each(|line| out.data_line(&format!("    {line}")));
            }
        }
        let put_off = !plan.needing_restart().is_empty();
        if !steps.is_empty() {
            let how = if put_off {
                ", with the restart put off"
            } else {
                ""
            };
            out.line(&format!("steps{how}:"));
        }
        for (number, step) in steps.iter().enumerate() {
            out.line(&format!("  {}. {step}", number + 1));
        }
        if put_off {
            out.line(RESTART);
        }
    }
    for note in notes {
        out.line(&format!("note: {note}"));
    }
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
        0 => format!("{count} {noun}, none disturbs a session"),
        1 => format!("{count} {noun}, 1 needs a restart of the guest"),
        n => format!("{count} {noun}, {n} need a restart of the guest"),
    }
}

/// The plan for a program.
pub(super) fn document(plan: &Plan) -> PlanDocument {
    let Plan {
        name,
        changes,
        steps,
        notes,
    } = plan;
    PlanDocument {
        name: name.clone(),
        empty: plan.is_empty(),
        changes: changes.iter().map(change).collect(),
        steps: steps.iter().map(ToString::to_string).collect(),
        notes: notes.clone(),
        restart: changes.iter().any(|c| c.class == Class::Restart),
    }
}

fn change(change: &Change) -> ChangeDocument {
    let Change {
        what,
        from,
        to,
        class,
        diff,
    } = change;
    ChangeDocument {
        what: what.clone(),
        from: from.clone(),
        to: to.clone(),
        class: match class {
            Class::Create => ClassDocument::Create,
            Class::Live => ClassDocument::Live,
            Class::Restart => ClassDocument::Restart,
            Class::Replace => ClassDocument::Replace,
        },
        diff: diff.clone(),
    }
}

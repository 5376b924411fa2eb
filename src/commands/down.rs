//! `lbctl down`: removes what carries lbctl's mark.

use super::plan::document;
use super::{Ended, carry_out, connect, load};
use crate::cli::Cli;
use crate::documents::Answer;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::observe::{Ask, observe};
use crate::output::Output;
use crate::plan::{DownOptions, plan_down};

pub(super) fn run(cli: &Cli, out: &Output, options: DownOptions) -> Ended {
    let config = load(cli, out)?;
    let interrupt = Interrupt::listen(
        out,
        &format!("{}: stopped, nothing was changed", config.name),
    );
    let host = connect(cli, &config)?;
    let ask = if options.delete_volume {
        Ask::Everything
    } else {
        Ask::WhatIsNeeded
    };
    let plan = plan_down(&config, &observe(&config, &host, ask)?, options)?;
    let name = &plan.name;
    if plan.is_empty() {
        out.say(&format!("{name}: not there, nothing to do"));
    } else {
        if !cli.global.yes {
            consent(
                name,
                &plan
                    .steps
                    .iter()
                    .map(|s| format!("  {s}"))
                    .collect::<Vec<_>>(),
                out,
            )?;
        }
        out.say(&format!("{name}: going down"));
        carry_out(&plan.steps, &host, out, &interrupt)?;
        let left = plan_down(&config, &observe(&config, &host, ask)?, options)?;
        if !left.is_empty() {
            let steps: Vec<String> = left.steps.iter().map(ToString::to_string).collect();
            let text = format!(
                "every step was done, and yet something of {name} is there: {}",
                steps.join("; ")
            );
            let hint = "is another lbctl bringing it up at the same time? Run `lbctl down` again";
            return Err(Failure::new(Exit::Failed, text, hint).into());
        }
        out.say(&format!("{name}: gone"));
    }
    for note in &plan.notes {
        out.say(&format!("note: {note}"));
    }
    if out.json {
        out.answer(Answer::Down(document(&plan)));
    }
    Ok(Exit::Done)
}

/// Scripts say `--yes`; people are asked.
fn consent(name: &str, steps: &[String], out: &Output) -> Result<(), Failure> {
    let question = format!(
        "{}\nRemove {name}, and cut every session through it?",
        steps.join("\n")
    );
    match out.ask(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(
            Exit::Refused,
            format!("{name} stays: nothing was changed"),
            "",
        )),
        None => Err(Failure::new(
            Exit::Refused,
            format!(
                "{name} would be removed, and there is no terminal to ask on: nothing was changed"
            ),
            "`lbctl down --yes` removes it without asking; `lbctl status` shows what it does now",
        )),
    }
}

//! `lbctl down`: removes what carries lbctl's ownership record.

use super::{CommandResult, Session, connect, load};
use crate::cli::Cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, MessageId};
use crate::output::Output;
use crate::output::interrupt::Interrupt;
use crate::output::json::Answer;
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::observe::{Ask, observe};
use crate::reconcile::plan::{DownOptions, Plan, Step, plan_down};
use crate::reconcile::rounds::{Reconciler, Remaining, in_rounds};

pub(super) fn run(cli: &Cli, out: &Output, options: DownOptions) -> CommandResult {
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
        out.say(&format!("{name}: does not exist, nothing to do"));
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
        out.say(&format!("{name}: removing it"));
        let mut removal = Removal {
            config: &config,
            ask,
            options,
            working: Session {
                host: &host,
                out,
                interrupt: &interrupt,
            },
        };
        in_rounds(plan.clone(), &mut removal)?;
        out.say(&format!("{name}: removed"));
    }
    for note in &plan.notes {
        out.say(&format!("note: {note}"));
    }
    Ok(Box::new(DownReport { plan }))
}

/// What a successful `down` has done.
struct DownReport {
    plan: Plan,
}

impl CommandReport for DownReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Down((&self.plan).into()))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        Vec::new()
    }
}

struct Removal<'a> {
    config: &'a Config,
    ask: Ask,
    options: DownOptions,
    working: Session<'a>,
}

impl Reconciler for Removal<'_> {
    fn replan(&mut self) -> Result<Remaining, Failure> {
        self.working.asked()?;
        let observed = observe(self.config, self.working.host, self.ask)?;
        let plan = plan_down(self.config, &observed, self.options)?;
        let done = plan.is_empty();
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        self.working.carry_out(steps)
    }

    fn back_off(&mut self, round: usize, why: &str) {
        self.working.back_off(self.config.name.as_str(), round, why);
    }

    fn unfinished(&self, left: &Plan) -> Failure {
        let steps: Vec<String> = left.steps.iter().map(ToString::to_string).collect();
        let text = format!(
            "every step was done, but something of {} still exists: {}",
            self.config.name,
            steps.join("; ")
        );
        let hint = "perhaps another lbctl run created it concurrently: run `lbctl down` again";
        Failure::new(Exit::Failed, MessageId::StateDiffers, text, hint)
    }
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
            MessageId::Declined,
            format!("{name} was not removed: nothing was changed"),
            "",
        )),
        None => Err(Failure::new(
            Exit::Refused,
            MessageId::ConsentNeeded,
            format!(
                "{name} would be removed, and there is no terminal to ask on: nothing was changed"
            ),
            "`lbctl down --yes` removes it without asking; `lbctl status` shows what it does now",
        )),
    }
}

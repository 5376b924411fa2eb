//! `lbctl up`: observe, plan, apply, verify, and wait if asked to.

use std::time::{Duration, Instant};

use super::plan::summary;
use super::wait::until_ready;
use super::{CommandResult, Session, connect, load, not_so_before, observe_and_desire};
use crate::cli::{Cli, RestartPolicy, UpArgs};
use crate::config::{Config, Disk};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::Inspect;
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, UpDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, seconds};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::{Ask, Observed};
use crate::reconcile::plan::{Change, Class, DownOptions, Plan, Restart, Step, plan_down, plan_up};
use crate::reconcile::rounds::{Reconciler, Remaining, in_rounds};

pub(super) fn run(cli: &Cli, out: &Output, args: &UpArgs) -> CommandResult {
    let started = Instant::now();
    let config = load(cli, out)?;
    let name = config.name.as_str();
    let interrupt = Interrupt::listen(out, &format!("{name}: stopped, nothing was changed"));
    let mut host = connect(cli, &config)?;
    let (observed, desired) = observe_and_desire(&config, &host, Ask::WhatIsNeeded)?;
    if let Some(clamp) = &desired.certificate.clamp {
        out.warn(&clamp.to_string());
    }
    let mut making = UpRun {
        config: &config,
        args,
        yes: cli.global.yes,
        restart: None,
        made: false,
        cloned: false,
        access: Vec::new(),
        working: Session {
            host: &host,
            out,
            interrupt: &interrupt,
        },
    };
    let plan = making.plan(&desired, &observed)?;
    reconcile(&plan, &mut making)?;

    if let Some(deadline) = args.wait {
        interrupt.at_once(&format!(
            "{name}: lbctl stopped waiting; the VM continues by itself. `lbctl up --wait` waits again, `lbctl status` \
             shows how far it is"
        ));
        until_ready(&config, &mut host, deadline, out)?;
    }
    tracing::info!("{} calls to libvirt", host.calls());
    Ok(Box::new(UpReport {
        ready: args.wait.map(|_| true),
        address: config.address(),
        took: started.elapsed(),
        libvirt_calls: host.calls(),
        plan,
    }))
}

/// What a successful `up` has done.
struct UpReport {
    plan: Plan,
    /// `None`: lbctl did not wait for it.
    ready: Option<bool>,
    address: String,
    took: Duration,
    libvirt_calls: u32,
}

impl CommandReport for UpReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Up(UpDocument {
            plan: (&self.plan).into(),
            ready: self.ready,
            address: self.address.clone(),
            seconds: self.took.as_secs_f64(),
            libvirt_calls: self.libvirt_calls,
        }))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        Vec::new()
    }
}

/// Applies the plan and plans again: what remains is an error, unless it was postponed.
fn reconcile(plan: &Plan, making: &mut UpRun<'_>) -> Result<(), Failure> {
    let (name, config, out) = (&plan.name, making.config, making.working.out);
    if plan.is_empty() {
        out.say(&format!("{name}: up to date, nothing to do"));
        return Ok(());
    }
    let started = Instant::now();
    out.say(&format!("{name}: {}", summary(plan)));
    if !plan.creates() {
        for change in &plan.changes {
            out.say(&format!("  {change}"));
        }
    }
    for note in &plan.notes {
        out.say(&format!("  note: {note}"));
    }
    if !plan.steps.is_empty() {
        in_rounds(plan.clone(), making).map_err(|mut failure| {
            failure.messages.append(&mut making.access);
            failure
        })?;
    }
    let waiting: Vec<String> = match making.restart {
        Some(Restart::Later) => plan
            .needing_restart()
            .iter()
            .map(|c| c.subject.to_string())
            .collect(),
        _ => Vec::new(),
    };
    if waiting.is_empty() {
        out.say(&format!(
            "{name}: running, address {} ({})",
            config.address(),
            seconds(started.elapsed())
        ));
    } else {
        out.say(&format!(
            "{name}: saved for the next start of the guest: {}. `lbctl up --restart now` restarts it",
            waiting.join(", ")
        ));
    }
    Ok(())
}

/// An `up` that is being carried out.
struct UpRun<'a> {
    config: &'a Config,
    args: &'a UpArgs,
    yes: bool,
    /// What was consented to; `None` while nothing needs a restart.
    restart: Option<Restart>,
    /// Whether this run has made something, and the disk too.
    made: bool,
    cloned: bool,
    /// Who may open the volumes, where one could not be opened.
    access: Vec<Message>,
    working: Session<'a>,
}

impl UpRun<'_> {
    fn plan(&mut self, desired: &Desired, observed: &Observed) -> Result<Plan, Failure> {
        let gentle = plan_up(desired, observed, Restart::Later)?;
        if self.restart.is_none() && !gentle.needing_restart().is_empty() {
            self.restart = Some(decide(
                &gentle,
                self.args,
                self.yes,
                self.made,
                self.working.out,
            )?);
        }
        Ok(match self.restart {
            Some(now @ Restart::Now { .. }) => plan_up(desired, observed, now)?,
            _ => gentle,
        })
    }

    /// Who may open each volume of the guest, where libvirt still answers.
    fn volumes(&self) -> Vec<Message> {
        let disk = match &self.config.disk {
            Disk::Clone(clone) => Some(&clone.volume),
            Disk::Existing { .. } => None,
        };
        let volumes = disk.into_iter().chain([&self.config.seed_volume]);
        let reported = volumes.filter_map(|at| {
            let access = self.working.host.access(at).ok()??;
            let text = format!("volume {at} is {access}");
            Some(Message::note(MessageId::VolumeAccess, text))
        });
        reported.collect()
    }

    /// Another load balancer has claimed what this one was to have: what this run made for it is
    /// removed again.
    fn take_back(&self, observed: &Observed) -> Result<(), Failure> {
        if observed.domain.is_some() || !self.made {
            return Ok(());
        }
        let options = DownOptions {
            stop_deadline: Duration::ZERO,
            delete_volume: self.cloned,
        };
        let plan = plan_down(self.config, observed, options)?;
        Ok(self.working.carry_out(&plan.steps)?)
    }
}

impl Reconciler for UpRun<'_> {
    fn replan(&mut self) -> Result<Remaining, Failure> {
        self.working.asked()?;
        let (observed, desired) =
            observe_and_desire(self.config, self.working.host, Ask::WhatIsNeeded)?;
        let plan = match self.plan(&desired, &observed) {
            Ok(plan) => plan,
            Err(refused) => {
                self.take_back(&observed)?;
                return Err(if self.made {
                    not_so_before(&self.config.name, refused)
                } else {
                    refused
                });
            }
        };
        let later = self.restart == Some(Restart::Later);
        let put_off = |c: &Change| later && c.class == Class::Restart;
        let done = plan.changes.iter().all(put_off);
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        let ended = self.working.carry_out(steps);
        let done = match &ended {
            Err(ApplyError::Failed { done, .. }) => steps.get(..*done).unwrap_or_default(),
            _ => steps,
        };
        self.made |= !done.is_empty();
        if ended.as_ref().is_err_and(ApplyError::is_denied) {
            self.access = self.volumes();
        }
        self.cloned |= done.iter().any(|s| matches!(s, Step::CloneVolume(_)));
        ended
    }

    fn back_off(&mut self, round: usize, why: &str) {
        self.working.back_off(self.config.name.as_str(), round, why);
    }

    fn unfinished(&self, left: &Plan) -> Failure {
        let left: Vec<String> = left.changes.iter().map(ToString::to_string).collect();
        Failure::new(
            Exit::Failed,
            MessageId::StateDiffers,
            format!(
                "every step was done, but {} still differs: {}",
                self.config.name,
                left.join("; ")
            ),
            "perhaps something else changes it at the same time: `lbctl plan` shows the difference, `lbctl up` \
             continues",
        )
    }
}

/// Whether the guest may be restarted for the changes that need it; there are some.
fn decide(
    plan: &Plan,
    args: &UpArgs,
    yes: bool,
    made: bool,
    out: &Output,
) -> Result<Restart, Failure> {
    let now = Restart::Now {
        deadline: args.stop_timeout,
    };
    match args.restart {
        RestartPolicy::Now => Ok(now),
        RestartPolicy::Later => Ok(Restart::Later),
        RestartPolicy::Ask if yes => Ok(now),
        RestartPolicy::Ask => {
            let mut list: Vec<String> = plan
                .needing_restart()
                .iter()
                .map(|c| format!("  {c}"))
                .collect();
            list.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
            let question = format!(
                "{}\nThese need a restart of {}, which cuts every session through it. Restart it now?",
                list.join("\n"),
                plan.name
            );
            match out.ask(&question) {
                Some(true) => Ok(now),
                Some(false) | None => Err(restart_refused(plan, made)),
            }
        }
        RestartPolicy::Never => Err(restart_refused(plan, made)),
    }
}

/// `made`: steps were done before it.
fn restart_refused(plan: &Plan, made: bool) -> Failure {
    let mut message = Message::new(
        MessageId::RestartNeeded,
        format!(
            "{}: {} restart of the guest, and {}",
            plan.name,
            match plan.needing_restart().len() {
                1 => "this change needs a".to_owned(),
                n => format!("{n} changes need a"),
            },
            if made {
                "the steps done before it remain"
            } else {
                "nothing was changed"
            }
        ),
        "`lbctl up --restart now` restarts it now (every session through it is cut); \
         `--restart later` saves them for its next start",
    );
    message.detail = plan
        .needing_restart()
        .iter()
        .map(ToString::to_string)
        .collect();
    // Why they do, where that is not obvious: the guest's agent does not answer, for instance.
    let notes = plan.notes.iter();
    let why = notes.map(|note| Message::note(MessageId::PlanNote, note));
    Failure {
        exit: Exit::Refused,
        messages: std::iter::once(message).chain(why).collect(),
    }
}

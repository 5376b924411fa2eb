//! `lbctl restart`: stop the guest and start it from its saved definition and its present seed.
//! What waits for a restart comes with it; nothing else is changed.

use std::time::Instant;

use time::OffsetDateTime;

use super::plan::{Told, asked};
use super::rolling::{Roll, Rolling, look};
use super::running::running;
use super::up::address_of;
use super::vms::{Groups, Vms, ask_all, joined};
use super::wait::until_ready;
use super::{CommandResult, Session, asking, beside_jobs, connect, load, spare};
use crate::cli::{Cli, RestartArgs};
use crate::config::{Config, VirtualIp};
use crate::exit::{Exit, Failure, MessageId};
use crate::host::DomainFacts;
use crate::host::libvirt::LibvirtHost;
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, PlanDocument, UpDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, done, seconds};
use crate::reconcile::desired::{Desired, Intent};
use crate::reconcile::observe::{Ask, Observed, observe};
use crate::reconcile::plan::{
    Plan, Restart, Step, Subject, before_stop, ensure_ours, plan_restart, plan_up,
};
use crate::reconcile::turns::{Shares, Work};

pub(super) fn run(cli: &Cli, out: &Output, args: &RestartArgs) -> CommandResult {
    let started = Instant::now();
    let config = match load(cli, out)? {
        Vms::One(config) => config,
        Vms::Several(vms) => return several(cli, out, args, &vms),
    };
    let name = config.name.as_str();
    let interrupt = Interrupt::listen(out, &format!("{name}: stopped, nothing was changed"));
    let mut host = connect(cli, &config, out)?;
    let restart = planned(&config, &host, args, out)?;
    if !cli.global.yes {
        consent(&[(name, &restart)], out)?;
    }
    let working = Session {
        host: &host,
        out,
        interrupt: &interrupt,
    };
    let plan = carry_out(name, restart, working)?;
    if let Some(deadline) = args.wait {
        out.set_facts(address_of(&config, &host), host.calls());
        interrupt.at_once(&format!(
            "{name}: lbctl stopped waiting; the VM continues by itself. `lbctl status` shows how far it is"
        ));
        until_ready(&config, &mut host, deadline, out)?;
    }
    let ready = args.wait.map(|_| true);
    Ok(Box::new(RestartReport::new(
        &config, &host, out, &plan, ready, started,
    )))
}

/// One after the other, each while another one is ready.
fn several(cli: &Cli, out: &Output, args: &RestartArgs, vms: &[Config]) -> CommandResult {
    let interrupt = Interrupt::listen(out, "stopped, nothing was changed");
    let asked = args.clone();
    let found = ask_all(vms, cli, out, move |config, host, out| {
        planned(config, host, &asked, out)
    });
    let looked = match look(Roll::Restart, vms, found, out) {
        Ok(looked) => looked,
        Err(report) => return Ok(Box::new(report)),
    };
    let restarts = looked
        .seen
        .iter()
        .map(|vm| (vm.config.name.as_str(), &vm.found));
    let restarts: Vec<(&str, &PlannedRestart)> = restarts.collect();
    if !restarts.is_empty() && !cli.global.yes {
        consent(&restarts, out)?;
    }
    let groups = Groups::of(vms);
    let rolling = Rolling {
        roll: Roll::Restart,
        groups: &groups,
        wait: args.wait,
        interrupt: &interrupt,
        out,
    };
    let turns = looked.seen.into_iter().map(|vm| {
        let turn = (Work::Cut, vm.found.shares);
        rolling.turn(vm.config, vm.host, turn, move |config, working| {
            // What was seen is as old as the turns before it.
            let restart = planned(config, working.host, args, working.out)?;
            carry_out(config.name.as_str(), restart, working)
        })
    });
    Ok(Box::new(rolling.carry_out(
        turns.collect(),
        looked.away,
        vms,
    )))
}

/// A restart that is to be done.
struct PlannedRestart {
    plan: Plan,
    shares: Shares,
    /// Whether another VM is ready for the shared address, and sessions have time to end.
    hands_over: bool,
    /// What comes with it.
    waiting: Vec<String>,
    /// Why that is unknown.
    unknown: Option<String>,
}

fn planned(
    config: &Config,
    host: &LibvirtHost,
    args: &RestartArgs,
    out: &Output,
) -> Result<PlannedRestart, Failure> {
    let _working = asking(out, host);
    let observed = observe(config, host, Ask::WhatIsNeeded)?;
    let name = config.name.as_str();
    ensure_ours(name, &observed)?;
    let domain = restartable(config, &observed)?;
    let step_back = before_stop(config.virtual_ip.as_ref(), &observed, domain);
    let mut plan = beside_jobs(&observed, host, |observed| {
        plan_restart(domain, observed, args.stop_timeout)
    })?;
    if let Some(step) = step_back.filter(|_| !args.alone) {
        plan.steps.insert(0, step);
    }
    let shared = config.virtual_ip.as_ref();
    let has_step = matches!(plan.steps.first(), Some(Step::StepBack { .. }));
    Ok(PlannedRestart {
        hands_over: has_step && shared.is_some_and(|shared| passes(shared, name, host)),
        plan,
        shares: shared.map_or_else(Shares::default, |shared| {
            asked(shared, config, host, Told::All)
        }),
        waiting: waiting(config, &observed),
        unknown: config.unread.first().cloned(),
    })
}

/// What the guest that runs says: it may not know yet of the address that the configuration gives
/// it.
fn passes(shared: &VirtualIp, name: &str, host: &LibvirtHost) -> bool {
    shared.drain.millis() > 0 && spare::takes(shared, name, host)
}

/// Restarts it, and says so.
fn carry_out(name: &str, restart: PlannedRestart, working: Session<'_>) -> Result<Plan, Failure> {
    let started = Instant::now();
    let PlannedRestart { plan, waiting, .. } = restart;
    working.out.planned(&plan, "to be restarted");
    working.carry_out_or(
        &plan.steps,
        &format!("{name}: stopped within the restart; `lbctl up` starts the guest if it is off"),
    )?;
    let rest = if waiting.is_empty() {
        String::new()
    } else {
        format!(", with what waited for it: {}", waiting.join(", "))
    };
    let took = seconds(started.elapsed());
    working
        .out
        .say(done(name, "restarted", &format!("{rest} ({took})")));
    // The same command would restart it again.
    working.interrupt.asked().map_or(Ok(plan), |exit| {
        let text = format!("{name}: restarted; `lbctl status` shows how far it is");
        Err(Failure::stopped(exit, text))
    })
}

/// The domain, if there is something to restart.
fn restartable<'a>(config: &Config, observed: &'a Observed) -> Result<&'a DomainFacts, Failure> {
    let name = config.name.as_str();
    let domain = running(name, observed, "so there is nothing to restart")?;
    if domain.persistent {
        return Ok(domain);
    }
    let text = format!("{name}: the domain has no saved definition to start from");
    Err(Failure::new(
        Exit::Failed,
        MessageId::WrongState,
        text,
        "`lbctl up` saves one",
    ))
}

/// What is written for the next start. What is not, stays for `up`.
fn waiting(config: &Config, observed: &Observed) -> Vec<String> {
    let now = OffsetDateTime::now_utc();
    let desired = Desired::from_config(config, observed, now, Intent::Show);
    let plan = desired
        .ok()
        .and_then(|desired| plan_up(&desired, observed, Restart::Later).ok());
    let plan = plan.filter(Plan::awaits_restart);
    let changes = plan.into_iter().flat_map(|plan| plan.changes);
    changes
        .map(|change| change.subject)
        .filter(|subject| !matches!(subject, Subject::State))
        .map(|subject| subject.to_string())
        .collect()
}

fn consent(restarts: &[(&str, &PlannedRestart)], out: &Output) -> Result<(), Failure> {
    let mut question: Vec<String> = Vec::new();
    for (name, restart) in restarts.iter().filter(|(_, vm)| !vm.waiting.is_empty()) {
        let waiting = restart.waiting.join(", ");
        question.push(if restarts.len() == 1 {
            format!("It comes with what waits for it: {waiting}.")
        } else {
            format!("{name}: it comes with what waits for it: {waiting}.")
        });
    }
    for (name, restart) in restarts {
        if let Some(why) = &restart.unknown {
            question.push(format!("{name}: what comes with it is unknown: {why}."));
        }
    }
    let names: Vec<&str> = restarts.iter().map(|(name, _)| *name).collect();
    let name = joined(&names);
    let hands_over = restarts.iter().all(|(_, vm)| vm.hands_over);
    let (how, were, them) = match (names.len(), hands_over) {
        (1, true) => (
            ", after another VM has taken the shared address",
            "was",
            "it",
        ),
        (1, false) => (", and cut every session through it", "was", "it"),
        (_, true) => (
            ", one after the other, each after another one has taken the shared address",
            "were",
            "them",
        ),
        (_, false) => (
            ", one after the other, and cut every session through each",
            "were",
            "them",
        ),
    };
    let costs = if hands_over {
        ", after another VM has taken the shared address".to_owned()
    } else {
        format!(", which cuts every session through {them}")
    };
    question.push(format!("Restart {name}{how}?"));
    match out.ask(&question.join("\n")) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(
            Exit::Refused,
            MessageId::Declined,
            format!("{name} {were} not restarted: nothing was changed"),
            "",
        )),
        None => Err(Failure::new(
            Exit::Refused,
            MessageId::ConsentNeeded,
            format!(
                "{name} would be restarted, and there is no terminal to ask on: nothing was changed"
            ),
            format!("`lbctl restart --yes` restarts {them} without asking{costs}"),
        )),
    }
}

/// What a successful `restart` has done.
pub(super) struct RestartReport(UpDocument);

impl RestartReport {
    /// `ready`: whether it is known to be.
    pub fn new(
        config: &Config,
        host: &LibvirtHost,
        out: &Output,
        plan: &Plan,
        ready: Option<bool>,
        started: Instant,
    ) -> Self {
        Self(UpDocument {
            plan: PlanDocument {
                restart: true,
                empty: false,
                ..out.carried_out(plan)
            },
            ready,
            address: address_of(config, host).unwrap_or_default(),
            seconds: started.elapsed().as_secs_f64(),
            libvirt_calls: host.calls(),
        })
    }
}

impl CommandReport for RestartReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Restart(self.0.clone()))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        Vec::new()
    }
}

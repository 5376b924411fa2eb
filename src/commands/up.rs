//! `lbctl up`: observe, plan, apply, verify, and wait if asked to.

use std::time::Instant;

use super::plan::{document, summary};
use super::wait::until_ready;
use super::{Ended, carry_out, connect, load, look};
use crate::cli::{Cli, RestartPolicy, UpArgs};
use crate::config::Config;
use crate::documents::{Answer, UpDocument};
use crate::failure::{Exit, Failure, Message};
use crate::host::libvirt::LibvirtHost;
use crate::interrupt::Interrupt;
use crate::observe::Ask;
use crate::output::{Output, seconds};
use crate::plan::{Class, Plan, Restart, plan_up};

pub(super) fn run(cli: &Cli, out: &Output, args: &UpArgs) -> Ended {
    let started = Instant::now();
    let config = load(cli, out)?;
    let name = config.name.as_str();
    let interrupt = Interrupt::listen(out, &format!("{name}: stopped, nothing was changed"));
    let mut host = connect(cli, &config)?;
    let (observed, desired) = look(&config, &host, Ask::WhatIsNeeded)?;
    if let Some(clamp) = &desired.certificate.clamp {
        out.warn(&clamp.to_string());
    }
    let gentle = plan_up(&desired, &observed, Restart::Later)?;
    let restart = decide(&gentle, args, cli.global.yes, out)?;
    let plan = match restart {
        Restart::Now { .. } => plan_up(&desired, &observed, restart)?,
        Restart::Later => gentle,
    };
    make_so(&plan, restart, &config, &host, out, &interrupt)?;

    if let Some(deadline) = args.wait {
        interrupt.at_once(&format!(
            "{name}: no longer waited for, the VM goes on by itself. `lbctl up --wait` waits again, `lbctl status` shows how far it is"
        ));
        until_ready(&config, &mut host, deadline, out)?;
    }
    tracing::info!("{} calls to libvirt", host.calls());
    if out.json {
        out.answer(Answer::Up(UpDocument {
            plan: document(&plan),
            ready: args.wait.map(|_| true),
            address: address(&config),
            seconds: started.elapsed().as_secs_f64(),
            libvirt_calls: host.calls(),
        }));
    }
    Ok(Exit::Done)
}

/// Applies the plan and plans again: what remains is an error, unless it was put off.
fn make_so(
    plan: &Plan,
    restart: Restart,
    config: &Config,
    host: &LibvirtHost,
    out: &Output,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let name = &plan.name;
    if plan.is_empty() {
        out.say(&format!("{name}: already so, nothing to do"));
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
    carry_out(&plan.steps, host, out, interrupt)?;
    if !plan.steps.is_empty() {
        verify(config, host, restart)?;
    }
    let waiting: Vec<String> = match restart {
        Restart::Later => plan
            .needing_restart()
            .iter()
            .map(|c| c.what.clone())
            .collect(),
        Restart::Now { .. } => Vec::new(),
    };
    if waiting.is_empty() {
        out.say(&format!(
            "{name}: running, address {} ({})",
            address(config),
            seconds(started.elapsed())
        ));
    } else {
        out.say(&format!(
            "{name}: written for the next start of the guest: {}. `lbctl up --restart now` restarts it",
            waiting.join(", ")
        ));
    }
    Ok(())
}

fn verify(config: &Config, host: &LibvirtHost, restart: Restart) -> Result<(), Failure> {
    let (observed, desired) = look(config, host, Ask::WhatIsNeeded)?;
    let again = plan_up(&desired, &observed, Restart::Later)?;
    let put_off = |class| restart == Restart::Later && class == Class::Restart;
    let left: Vec<String> = again
        .changes
        .iter()
        .filter(|c| !put_off(c.class))
        .map(ToString::to_string)
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!(
            "every step was done, and yet {} differs: {}",
            config.name,
            left.join("; ")
        ),
        "is somebody else changing it at the same time? `lbctl plan` shows what it is, `lbctl up` goes on",
    ))
}

/// Whether the guest may be restarted for the changes that need it.
fn decide(plan: &Plan, args: &UpArgs, yes: bool, out: &Output) -> Result<Restart, Failure> {
    let needing = plan.needing_restart();
    if needing.is_empty() {
        return Ok(Restart::Later);
    }
    let now = Restart::Now {
        deadline: args.stop_timeout,
    };
    match args.restart {
        RestartPolicy::Now => Ok(now),
        RestartPolicy::Later => Ok(Restart::Later),
        RestartPolicy::Ask if yes => Ok(now),
        RestartPolicy::Ask => {
            let mut list: Vec<String> = needing.iter().map(|c| format!("  {c}")).collect();
            list.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
            let question = format!(
                "{}\nThese need a restart of {}, which cuts every session through it. Restart it now?",
                list.join("\n"),
                plan.name
            );
            match out.ask(&question) {
                Some(true) => Ok(now),
                Some(false) | None => Err(restart_refused(plan)),
            }
        }
        RestartPolicy::Never => Err(restart_refused(plan)),
    }
}

fn restart_refused(plan: &Plan) -> Failure {
    let mut message = Message::new(
        format!(
            "{}: {} restart of the guest, and nothing was changed",
            plan.name,
            match plan.needing_restart().len() {
                1 => "this change needs a".to_owned(),
                n => format!("{n} changes need a"),
            }
        ),
        "`lbctl up --restart now` restarts it now (every session through it is cut); \
         `--restart later` writes them for its next start",
    );
    message.detail = plan
        .needing_restart()
        .iter()
        .map(ToString::to_string)
        .collect();
    // Why they do, where that is not plain: the guest's agent is silent, for instance.
    let why = plan.notes.iter().map(|note| Message {
        note: true,
        ..Message::new(note, "")
    });
    Failure {
        exit: Exit::Refused,
        messages: std::iter::once(message).chain(why).collect(),
    }
}

/// The address that clients are told.
pub(super) fn address(config: &Config) -> String {
    config
        .interfaces
        .first()
        .map(|i| i.ip.to_string())
        .unwrap_or_default()
}

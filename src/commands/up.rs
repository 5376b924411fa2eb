//! `lbctl up`: observe, plan, apply, verify, and wait if asked to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::plan::{document, summary};
use super::{Ended, connect, load, look};
use crate::apply::apply;
use crate::cli::{Cli, RestartPolicy, UpArgs};
use crate::config::Config;
use crate::failure::{Exit, Failure, Message};
use crate::guest::{Guest, clean};
use crate::host::libvirt::LibvirtHost;
use crate::observe::Ask;
use crate::output::{Output, seconds};
use crate::plan::{Class, Plan, Restart, plan_up};
use crate::wait::{Outcome, wait};

/// Of the console, what is worth showing.
const CONSOLE_LINES: usize = 12;
const CLOUD_INIT_LOG: &str = "/var/log/cloud-init-output.log";

pub(super) fn run(cli: &Cli, out: &Output, args: &UpArgs) -> Ended {
    let started = Instant::now();
    let config = load(cli, out)?;
    let host = connect(cli, &config)?;
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
    make_so(&plan, restart, &config, &host, out)?;

    let mut report = document("up", &plan);
    let ready = match args.wait {
        None => Ok(Value::Null),
        Some(deadline) => wait_until_ready(&config, &host, deadline, out),
    };
    tracing::info!("{} calls to libvirt", host.calls());
    match ready {
        Ok(ready) => {
            if let Some(object) = report.as_object_mut() {
                object.insert("ready".into(), ready);
                object.insert("address".into(), address(&config).into());
                object.insert("seconds".into(), started.elapsed().as_secs_f64().into());
                object.insert("libvirt_calls".into(), host.calls().into());
            }
            if out.json {
                out.document(report);
            }
            Ok(Exit::Done)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Applies the plan and plans again: what remains is an error, unless it was put off.
fn make_so(
    plan: &Plan,
    restart: Restart,
    config: &Config,
    host: &LibvirtHost,
    out: &Output,
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
    apply(&plan.steps, host, &mut &*out)?;
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
            let list: Vec<String> = needing.iter().map(|c| format!("  {c}")).collect();
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
    Failure {
        exit: Exit::Refused,
        messages: vec![message],
    }
}

/// Waits, shows the phases, and explains the end where it is not the good one.
fn wait_until_ready(
    config: &Config,
    host: &LibvirtHost,
    deadline: Duration,
    out: &Output,
) -> Result<Value, Failure> {
    let name = config.name.as_str();
    let console = ConsoleTail::follow(host.uri(), name);
    let outcome = wait(host, name, deadline, |phase, elapsed| {
        out.say(&format!("  {phase} ({})", seconds(elapsed)));
    })?;
    let failure = match outcome {
        Outcome::Ready(status) => {
            let primary = status
                .haproxy
                .primary
                .map(|p| clean(&p, 60))
                .unwrap_or_default();
            out.say(&format!(
                "{name}: ready, psql -h {} reaches the primary {primary}",
                address(config)
            ));
            return Ok(true.into());
        }
        Outcome::Died(state) => Failure {
            exit: Exit::Failed,
            messages: vec![with_detail(
                format!("{name} stopped while lbctl waited for it: it is {state}"),
                "the console's last lines tell why; `lbctl up --wait` starts it again",
                console.lines(),
            )],
        },
        Outcome::CloudInitFailed(verdict) => {
            let mut detail: Vec<String> = verdict.errors.iter().map(|e| clean(e, 300)).collect();
            detail.push(format!("--- last lines of {CLOUD_INIT_LOG} ---"));
            detail.extend(Guest::new(host, name).tail(
                CLOUD_INIT_LOG,
                CONSOLE_LINES,
                Duration::from_secs(10),
            ));
            Failure {
                exit: Exit::Failed,
                messages: vec![with_detail(
                    format!("cloud-init failed in {name}"),
                    format!(
                        "`virsh console {name}` or ssh leads in; after a change of the configuration run `lbctl up --restart now --wait`"
                    ),
                    detail,
                )],
            }
        }
        Outcome::TimeOut {
            phase,
            seen,
            silent,
        } => {
            let mut detail: Vec<String> = seen
                .map(|status| nodes(&status.haproxy))
                .unwrap_or_default();
            detail.extend(silent.map(|said| format!("the guest agent: {}", clean(&said, 200))));
            detail.push("--- last lines of the console ---".into());
            detail.extend(console.lines());
            Failure {
                exit: Exit::NotReady,
                messages: vec![with_detail(
                    format!(
                        "{name} runs, and was not ready within {}: {phase}",
                        seconds(deadline)
                    ),
                    "`lbctl status` shows how it goes on; `lbctl up --wait=30m` waits longer",
                    detail,
                )],
            }
        }
    };
    Err(failure)
}

fn with_detail(text: impl Into<String>, hint: impl Into<String>, detail: Vec<String>) -> Message {
    Message {
        detail,
        ..Message::new(text, hint)
    }
}

/// HAProxy's view of each node, a line each.
pub(super) fn nodes(haproxy: &crate::guest::Haproxy) -> Vec<String> {
    let text = |t: &Option<String>| clean(t.as_deref().unwrap_or("-"), 60);
    let line = |s: &crate::guest::Server| {
        let check = format!("{} {}", text(&s.check), text(&s.check_detail));
        format!(
            "{:<8} {:<22} {:<10} {}",
            clean(&s.name, 20),
            text(&s.address),
            clean(&s.state, 12),
            check.trim()
        )
    };
    haproxy.servers.iter().take(100).map(line).collect()
}

/// The address that clients are told.
pub(super) fn address(config: &Config) -> String {
    config
        .interfaces
        .first()
        .map(|i| i.ip.to_string())
        .unwrap_or_default()
}

/// The end of the guest's serial console, read beside everything else over a connection of its own.
struct ConsoleTail(Arc<Mutex<VecDeque<u8>>>);

impl ConsoleTail {
    const KEPT: usize = 16 * 1024;

    /// Where somebody else has the console open there is nothing to show, and nothing is taken from them.
    fn follow(uri: &str, domain: &str) -> Self {
        let buffer = Arc::new(Mutex::new(VecDeque::new()));
        let (shared, uri, domain) = (Arc::clone(&buffer), uri.to_owned(), domain.to_owned());
        // The thread ends with the process: a blocked read has no other end.
        std::thread::spawn(move || {
            let Ok(console) = LibvirtHost::connect(&uri).and_then(|host| host.console(&domain))
            else {
                return;
            };
            let mut chunk = [0; 4096];
            while let Some(count) = console.read(&mut chunk) {
                let Ok(mut kept) = shared.lock() else { return };
                kept.extend(&chunk[..count]);
                let surplus = kept.len().saturating_sub(Self::KEPT);
                kept.drain(..surplus);
            }
        });
        Self(buffer)
    }

    fn lines(&self) -> Vec<String> {
        let Ok(kept) = self.0.lock() else {
            return Vec::new();
        };
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .lines()
            .map(|l| clean(l, 160))
            .filter(|l| !l.is_empty())
            .collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].to_vec()
    }
}

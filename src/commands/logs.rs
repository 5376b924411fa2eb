//! `lbctl logs`: what HAProxy wrote into the guest's journal, through the guest's agent.

use std::time::Duration;

use super::running::{absent, answering};
use super::{CommandResult, asking, connect, load};
use crate::cli::{Cli, LogsArgs, LogsOf};
use crate::exit::{Exit, Failure, MessageId};
use crate::guest::{Guest, GuestError, Journal, JournalSource};
use crate::host::HostReader as _;
use crate::host::libvirt::LibvirtHost;
use crate::output::Output;
use crate::output::interrupt::{Interrupt, Manner};
use crate::output::json::{Answer, LogsDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart, TextReport};
use crate::reconcile::observe::{Ask, observe};
use crate::reconcile::plan::ensure_ours;

/// For one answer of the agent.
const ANSWER: Duration = Duration::from_secs(20);
/// What follows from a guest that does not run.
const NO_JOURNAL: &str = "so its journal cannot be read";
/// Between two questions while it is followed.
const POLL: Duration = Duration::from_secs(1);
/// Lines that are asked for at once while it is followed.
const BATCH: u16 = 1000;

pub(super) fn run(cli: &Cli, out: &Output, args: &LogsArgs) -> CommandResult {
    let config = load(cli, out)?.one("lbctl logs", out)?;
    let name = config.name.as_str();
    let host = connect(cli, &config, out)?;
    {
        let _working = asking(out, &host);
        let observed = observe(&config, &host, Ask::WhatIsNeeded)?;
        ensure_ours(name, &observed)?;
        answering(name, &observed, NO_JOURNAL)?;
    }
    let source = match args.of {
        LogsOf::Haproxy => JournalSource::Haproxy,
        LogsOf::Lbctl => JournalSource::Lbctl,
        LogsOf::All => JournalSource::All,
    };
    let guest = Guest::new(&host, name);
    let first = guest
        .journal(source, args.lines, None, ANSWER)
        .map_err(|error| unreadable(name, &host, error))?;
    if !args.follow {
        return Ok(Box::new(LogsReport {
            name: name.to_owned(),
            lines: first.lines,
        }));
    }
    let interrupt = Interrupt::listen(out, "");
    interrupt.set(Manner::AtOnce {
        words: String::new(),
        exit: Some(Exit::Done),
    });
    follow(name, &host, source, first, out)?;
    Ok(Box::new(TextReport::done(Vec::new())))
}

/// Until Ctrl-C, or until nobody reads it any more. A guest that reboots is waited for.
fn follow(
    name: &str,
    host: &LibvirtHost,
    source: JournalSource,
    first: Journal,
    out: &Output,
) -> Result<(), Failure> {
    let guest = Guest::new(host, name);
    let mut cursor = first.cursor;
    let mut lines = first.lines;
    let mut silent = false;
    loop {
        let document = LogsDocument {
            name: name.to_owned(),
            lines: lines.clone(),
        };
        if !lines.is_empty() && !out.next_lines(&lines, Answer::Logs(document).into()) {
            return Ok(());
        }
        std::thread::sleep(POLL);
        lines = match guest.journal(source, BATCH, cursor.as_deref(), ANSWER) {
            Ok(next) => {
                silent = false;
                cursor = next.cursor.or(cursor);
                next.lines
            }
            Err(error @ GuestError::Host(_)) => return Err(unreadable(name, host, error)),
            Err(error) => {
                if !std::mem::replace(&mut silent, true) {
                    out.note(&format!(
                        "{name}: the guest does not answer ({error}); lbctl tries again"
                    ));
                }
                Vec::new()
            }
        };
    }
}

fn unreadable(name: &str, host: &LibvirtHost, error: GuestError) -> Failure {
    // What libvirt said of the agent says nothing of a guest that stopped in between.
    let runs = match host.run_state(name) {
        Ok(None) => return absent(name, NO_JOURNAL),
        Ok(Some(now)) => now.run.is_some(),
        Err(_) => true,
    };
    let hint = if runs {
        "a guest that boots has no agent yet; `lbctl console` needs none"
    } else {
        "the guest is not running: `lbctl status` says why"
    };
    match error {
        GuestError::Host(error) => error.into(),
        error => Failure::new(
            Exit::Failed,
            MessageId::AgentError,
            format!("{name}: the journal cannot be read: {error}"),
            hint,
        ),
    }
}

struct LogsReport {
    name: String,
    lines: Vec<String>,
}

impl CommandReport for LogsReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Logs(LogsDocument {
            name: self.name.clone(),
            lines: self.lines.clone(),
        }))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        let lines = self.lines.iter();
        lines.map(|line| TextPart::LongLine(line.into())).collect()
    }
}

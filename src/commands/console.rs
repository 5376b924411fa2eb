//! `lbctl console`: the serial console of the guest, on this terminal, through libvirt's stream. It
//! needs neither ssh nor an agent nor a network. What the guest writes reaches the terminal as it
//! is: without that no login and no editor would work.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use super::running::running;
use super::{CommandResult, asking, connect, load};
use crate::cli::{Cli, ConsoleArgs};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::libvirt::{Console, LibvirtHost};
use crate::host::{DomainState, HostError, HostErrorKind, HostReader as _, RunState};
use crate::output::Output;
use crate::output::interrupt::Interrupt;
use crate::output::report::TextReport;
use crate::reconcile::observe::{Ask, observe};
use crate::reconcile::plan::ensure_ours;

/// Ctrl-], as virsh and telnet have it.
const LEAVE: u8 = 0x1d;
const CHUNK: usize = 4096;
/// How long libvirt may take to notice the end of a QEMU, and how often it is asked for it.
const NOTICED: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);

pub(super) fn run(cli: &Cli, out: &Output, args: &ConsoleArgs) -> CommandResult {
    if !out.is_conversation() {
        let text = "`lbctl console` needs a terminal for its input and its output";
        let hint = "`lbctl logs` prints HAProxy's lines, and `lbctl logs all` the whole journal of the guest";
        return Err(Failure::new(Exit::Usage, MessageId::UsageWrong, text, hint).into());
    }
    let config = load(cli, out)?.one("lbctl console", out)?;
    let name = config.name.as_str();
    let host = connect(cli, &config, out)?;
    {
        let _working = asking(out, &host);
        let observed = observe(&config, &host, Ask::WhatIsNeeded)?;
        ensure_ours(name, &observed)?;
        let domain = running(name, &observed, "so it has no console")?;
        if matches!(domain.state, DomainState::Paused | DomainState::Suspended) {
            out.note(&format!(
                "{name}: the domain is {}: its console says nothing until `lbctl up` resumes it",
                domain.state
            ));
        }
    }
    let console = host
        .console(name, args.force)
        .map_err(|error| not_opened(name, error))?;
    // A signal restores the terminal, too.
    let _interrupt = Interrupt::listen(out, "");
    out.say(format!("{name}: on its console; Ctrl-] leaves it"));
    let end = {
        let _raw = out.raw_terminal().map_err(|error| no_terminal(&error))?;
        talk(&Arc::new(console))
    };
    match end {
        End::Left => out.say(format!("{name}: left its console")),
        End::Closed => closed(name, &host, out)?,
    }
    Ok(Box::new(TextReport::done(Vec::new())))
}

fn not_opened(name: &str, error: HostError) -> Failure {
    if error.kind != HostErrorKind::Exists {
        return error.into();
    }
    let mut message = Message::new(
        MessageId::ConsoleBusy,
        format!("{name}: another program has its console open"),
        "`lbctl console --force` takes it over. `lbctl up --wait` and `lbctl restart --wait` read it while they wait",
    );
    message.detail = vec![error.said];
    Failure {
        exit: Exit::Refused,
        messages: vec![message],
    }
}

fn no_terminal(error: &io::Error) -> Failure {
    let text = format!("the terminal cannot be set to pass on each key: {error}");
    Failure::new(Exit::Failed, MessageId::UsageWrong, text, "")
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By Ctrl-], or there is no more input.
    Left,
    /// By the guest, by libvirt, or by another program that has taken the console.
    Closed,
}

enum News {
    Typed(Vec<u8>),
    End(End),
}

/// Passes on what is typed and what comes, each in a thread of its own. Both threads end with the
/// process: a blocked read has no other end.
fn talk(console: &Arc<Console>) -> End {
    let (send, news) = channel();
    let (typed, shown) = (send.clone(), send);
    let reading = Arc::clone(console);
    spawn(move || {
        read_typed(&typed);
    });
    spawn(move || {
        show(&reading);
        let _ = shown.send(News::End(End::Closed));
    });
    for news in news {
        let typed = match news {
            News::End(end) => return end,
            News::Typed(typed) => typed,
        };
        let (passed_on, leaves) = until_leave(&typed);
        if console.write(passed_on).is_err() {
            return End::Closed;
        }
        if leaves {
            return End::Left;
        }
    }
    End::Closed
}

/// What stands before the key that leaves, and whether it is there.
fn until_leave(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|byte| *byte == LEAVE) {
        Some(at) => (&typed[..at], true),
        None => (typed, false),
    }
}

fn read_typed(news: &Sender<News>) {
    let mut chunk = [0; CHUNK];
    loop {
        let read = io::stdin().lock().read(&mut chunk);
        let next = match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => News::End(End::Left),
            Ok(count) => News::Typed(chunk.get(..count).unwrap_or_default().to_vec()),
        };
        let is_last = matches!(next, News::End(_));
        if news.send(next).is_err() || is_last {
            return;
        }
    }
}

fn show(console: &Console) {
    let mut chunk = [0; CHUNK];
    while let Some(count) = console.read(&mut chunk) {
        if !Output::pass_on(chunk.get(..count).unwrap_or_default()) {
            return;
        }
    }
}

/// Says why the console has ended.
fn closed(name: &str, host: &LibvirtHost, out: &Output) -> Result<(), Failure> {
    let runs = |state: &Option<RunState>| state.as_ref().is_some_and(|now| now.run.is_some());
    // QEMU closes its consoles before libvirt notices that it has ended.
    let deadline = Instant::now() + NOTICED;
    let mut state = host.run_state(name)?;
    while runs(&state) && Instant::now() < deadline {
        sleep(AGAIN);
        state = host.run_state(name)?;
    }
    match state {
        Some(now) if now.run.is_some() => Err(Failure::new(
            Exit::Failed,
            MessageId::ConsoleBusy,
            format!(
                "{name}: its console has ended, and the domain is {}",
                now.state
            ),
            "another program has taken it over, or the guest was started again: `lbctl console` opens it again",
        )),
        Some(now) => {
            out.say(format!(
                "{name}: its console has ended: the domain is {}",
                now.state
            ));
            Ok(())
        }
        None => {
            out.say(format!(
                "{name}: its console has ended: the domain does not exist any more"
            ));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_before_the_key_that_leaves_is_passed_on() {
        assert_eq!(until_leave(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_leave(b"ls\x1dno"), (&b"ls"[..], true));
        assert_eq!(until_leave(b"\x1d"), (&b""[..], true));
    }
}

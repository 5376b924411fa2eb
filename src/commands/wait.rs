//! Waiting for the load balancer, for people: shows the phases, and explains the end where it is
//! not success.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::Config;
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::guest::ready::{News, Outcome, Patience, Phase, wait};
use crate::guest::{CloudInit, Guest, HaproxyStatus, Server};
use crate::host::HostErrorKind;
use crate::host::libvirt::LibvirtHost;
use crate::output::json::PhaseDocument;
use crate::output::{Output, done, seconds};
use crate::status::address;
use crate::text::sanitize::sanitize_line;

/// How much of the console is shown.
const CONSOLE_LINES: usize = 12;
const CLOUD_INIT_LOG: &str = "/var/log/cloud-init-output.log";
/// For the log's last lines.
const LOG: Duration = Duration::from_secs(10);
/// How long libvirt may be unreachable, during a restart or an upgrade, before waiting ends.
const AWAY: Duration = Duration::from_secs(60);

/// Waits until psql works, at most so long.
pub(super) fn until_ready(
    config: &Config,
    host: &mut LibvirtHost,
    ready: Duration,
    out: &Output,
) -> Result<(), Failure> {
    let name = config.name.as_str();
    let console = ConsoleTail::follow(host.uri(), name);
    let patience = Patience { ready, away: AWAY };
    let mut waited = Duration::ZERO;
    let outcome = wait(host, name, patience, |news, elapsed| {
        waited = elapsed;
        show(news, ready, out);
    });
    out.end_live();
    out.set_calls(host.calls());
    let failure = match outcome? {
        Outcome::Ready(status) => {
            let primary = status.haproxy.primary.unwrap_or_default();
            let address = address(config, host)
                .map_or_else(|| "(its address)".to_owned(), |ip| ip.to_string());
            let rest = format!(
                " after {}, psql -h {address} reaches the primary {primary}",
                seconds(waited)
            );
            out.say(done(name, "ready", &rest));
            return Ok(());
        }
        Outcome::Died(state) => failure(
            Exit::Failed,
            MessageId::DomainStopped,
            format!("{name}: stopped while lbctl waited for it: it is {state}"),
            "the last lines of the console show why; `lbctl up --wait` starts it again",
            console.lines(),
        ),
        Outcome::CloudInitFailed(verdict) => cloud_init_failed(name, &verdict, host),
        Outcome::TimeOut {
            phase,
            seen,
            silent,
        } => {
            let mut detail: Vec<String> = seen
                .map(|status| nodes(&status.haproxy))
                .unwrap_or_default();
            detail.extend(silent.map(|said| format!("no answer: {}", sanitize_line(&said, 200))));
            let lines = console.lines();
            if !lines.is_empty() {
                detail.push("--- last lines of the console ---".into());
                detail.extend(lines);
            }
            failure(
                Exit::NotReady,
                MessageId::NotReady,
                format!(
                    "{name}: running, but not ready within {}: {phase}",
                    seconds(ready)
                ),
                "`lbctl status` shows its progress; `lbctl up --wait=30m` waits longer",
                detail,
            )
        }
    };
    Err(failure)
}

/// On a terminal the phase is one line with its time; elsewhere each one is a line that stays.
fn show(news: &News<'_>, ready: Duration, out: &Output) {
    match news {
        News::Phase(phase) => {
            let (named, text) = match phase {
                Phase::Booting => (
                    PhaseDocument::Booting,
                    format!("{phase}; a first boot takes minutes"),
                ),
                Phase::CloudInit(_) => (PhaseDocument::CloudInit, phase.to_string()),
                Phase::Checks(_) => (PhaseDocument::Checks, phase.to_string()),
                Phase::Ready => (PhaseDocument::Ready, phase.to_string()),
            };
            out.phase(named, &text, ready);
        }
        News::Away(said) => out.note(&format!(
            "libvirt does not answer ({said}); lbctl tries for {} to reach it, the guest keeps running",
            seconds(AWAY)
        )),
        News::Back => out.note("libvirt answers again"),
    }
}

fn cloud_init_failed(name: &str, verdict: &CloudInit, host: &LibvirtHost) -> Failure {
    let mut detail: Vec<String> = verdict.errors.clone();
    detail.push(format!("--- last lines of {CLOUD_INIT_LOG} ---"));
    detail.extend(Guest::new(host, name).tail(CLOUD_INIT_LOG, CONSOLE_LINES, LOG));
    failure(
        Exit::Failed,
        MessageId::CloudInitFailed,
        format!("cloud-init failed in {name}"),
        "log in with `lbctl console` or ssh; after correcting the configuration run `lbctl up --restart now --wait`",
        detail,
    )
}

fn failure(
    exit: Exit,
    id: MessageId,
    text: impl Into<String>,
    hint: impl Into<String>,
    detail: Vec<String>,
) -> Failure {
    let message = Message {
        detail,
        ..Message::new(id, text, hint)
    };
    Failure {
        exit,
        messages: vec![message],
    }
}

/// HAProxy's view of each node, a line each.
fn nodes(haproxy: &HaproxyStatus) -> Vec<String> {
    let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "-".into());
    let line = |s: &Server| {
        let check = format!("{} {}", text(&s.check), text(&s.check_detail));
        let (name, state) = (&s.name, &s.state);
        format!("{name:<8} {:<22} {state:<10} {check}", text(&s.address))
    };
    haproxy.servers.iter().map(line).collect()
}

/// The end of the guest's serial console, read beside everything else over a connection of its own.
struct ConsoleTail(Arc<Mutex<VecDeque<u8>>>);

impl ConsoleTail {
    const KEPT: usize = 16 * 1024;
    /// Before it is opened again.
    const AGAIN: Duration = Duration::from_secs(2);

    /// If another program has the console open there is nothing to show, and lbctl does not take it
    /// over.
    fn follow(uri: &str, domain: &str) -> Self {
        let buffer = Arc::new(Mutex::new(VecDeque::new()));
        let (shared, uri, domain) = (Arc::clone(&buffer), uri.to_owned(), domain.to_owned());
        // The thread ends with the process: a blocked read has no other end.
        std::thread::spawn(move || {
            loop {
                match LibvirtHost::connect(&uri).and_then(|host| host.console(&domain, false)) {
                    Ok(console) => {
                        let mut chunk = [0; 4096];
                        while let Some(count) = console.read(&mut chunk) {
                            let Ok(mut kept) = shared.lock() else { return };
                            kept.extend(&chunk[..count]);
                            let surplus = kept.len().saturating_sub(Self::KEPT);
                            kept.drain(..surplus);
                        }
                    }
                    Err(error) if error.kind == HostErrorKind::Connection => {}
                    Err(_) => return,
                }
                // libvirt may be restarting; a guest that has stopped ends it.
                std::thread::sleep(Self::AGAIN);
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
            .map(|l| sanitize_line(l, 160))
            .filter(|l| !l.is_empty())
            .collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].to_vec()
    }
}

//! `lbctl status`: domain, address, certificate, cloud-init's verdict, HAProxy's view of each node,
//! drift; once, or again and again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{CommandResult, connect, load};
use crate::cli::Cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::host::libvirt::LibvirtHost;
use crate::host::{HostError, HostErrorKind, HostResult, Reconnect};
use crate::output::Output;
use crate::output::failure::id_of;
use crate::output::interrupt::{Interrupt, Manner};
use crate::output::json::{Answer, Body, ErrorDocument, FailureDocument, MessageDocument};
use crate::output::report::{CommandReport, TextReport, WatchReport};
use crate::status::{Status, ago};
use crate::text::width::wrap;

pub(super) fn run(cli: &Cli, out: &Output, interval: Option<Duration>) -> CommandResult {
    let config = load(cli, out)?;
    let host = connect(cli, &config)?;
    match interval {
        // Each update has printed its own report.
        Some(interval) => Ok(Box::new(TextReport {
            exit: watch(config, host, interval, out),
            text: Vec::new(),
        })),
        None => Ok(Box::new(fetch_status(&config, &host)?)),
    }
}

fn fetch_status(config: &Config, host: &LibvirtHost) -> HostResult<Status> {
    Status::fetch(config, host, host.uri(), OffsetDateTime::now_utc())
}

type Seen = HostResult<Status>;

/// Until Ctrl-C, or until nobody reads it any more. The exit code is that of the last update.
fn watch(config: Config, host: LibvirtHost, interval: Duration, out: &Output) -> Exit {
    let interrupt = Interrupt::listen(out, "");
    let name = config.name.to_string();
    let updates = keep_fetching(host, interval, move |host| fetch_status(&config, host));
    let mut shown = Shown {
        name,
        interval,
        last: None,
        broken: None,
    };
    let mut exit = Exit::Failed;
    while let Some(new) = next(&updates, out.has_screen()) {
        if let New::Status(seen) = new {
            exit = seen.as_ref().as_ref().map_or(Exit::Failed, Status::exit);
            shown.take(*seen);
            interrupt.set(Manner::AtOnce {
                words: String::new(),
                exit: Some(exit),
            });
        }
        if !out.next_report(&shown) {
            break;
        }
    }
    exit
}

/// Why there is something to show.
enum New {
    Status(Box<Seen>),
    /// What is shown has grown older.
    Age,
}

/// The next reason; the age is shown on a screen only.
fn next(updates: &Receiver<Seen>, screen: bool) -> Option<New> {
    let fetch = |seen| Some(New::Status(Box::new(seen)));
    if !screen {
        return updates.recv().ok().and_then(fetch);
    }
    match updates.recv_timeout(Duration::from_secs(1)) {
        Ok(seen) => fetch(seen),
        Err(RecvTimeoutError::Timeout) => Some(New::Age),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Asks again and again, in a thread of its own: a guest may take seconds to answer. The connection
/// is kept; a broken one is opened again, for as long as it takes.
fn keep_fetching<H: Reconnect + Send + 'static>(
    mut host: H,
    interval: Duration,
    fetch: impl Fn(&H) -> Seen + Send + 'static,
) -> Receiver<Seen> {
    let (send, updates) = sync_channel(1);
    std::thread::spawn(move || {
        let mut connected = true;
        loop {
            let started = Instant::now();
            let seen = if connected {
                fetch(&host)
            } else {
                host.reconnect().and_then(|()| fetch(&host))
            };
            let broken = |e: &HostError| e.kind == HostErrorKind::Connection;
            connected = !seen.as_ref().is_err_and(broken);
            if send.send(seen).is_err() {
                return;
            }
            std::thread::sleep(interval.saturating_sub(started.elapsed()));
        }
    });
    updates
}

/// What the watcher sees.
struct Shown {
    name: String,
    interval: Duration,
    last: Option<Status>,
    /// Why there is nothing newer, and since when.
    broken: Option<(HostError, Instant)>,
}

impl Shown {
    fn take(&mut self, seen: Seen) {
        match seen {
            Ok(status) => (self.last, self.broken) = (Some(status), None),
            Err(error) => {
                let since = self
                    .broken
                    .as_ref()
                    .map_or_else(Instant::now, |(_, at)| *at);
                self.broken = Some((error, since));
            }
        }
    }
}

impl WatchReport for Shown {
    /// What was seen last.
    fn screen(&self, columns: Option<usize>) -> Vec<String> {
        match &self.last {
            Some(status) => status.lines(columns),
            None => vec![format!("{}: waiting for the first answer", self.name)],
        }
    }

    /// How old it is, and why there is nothing newer.
    fn foot(&self, columns: Option<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |text: &str| lines.extend(wrap(text, columns.unwrap_or(80)));
        if let Some((error, since)) = &self.broken {
            let since = ago(since.elapsed().as_secs());
            add(&format!(
                "no answer for {since}: {error}; lbctl tries again"
            ));
        }
        let every = ago(self.interval.as_secs());
        let seen = self.last.as_ref().map_or_else(String::new, |status| {
            let age = (OffsetDateTime::now_utc() - status.at).whole_seconds();
            format!("seen {} ago, ", ago(u64::try_from(age).unwrap_or(0)))
        });
        add(&format!("{seen}every {every}; Ctrl-C ends this"));
        lines
    }

    fn block(&self) -> Vec<String> {
        match (&self.broken, &self.last) {
            (None, Some(status)) => {
                let mut lines = status.lines(None);
                if let Some(heading) = lines.first_mut() {
                    *heading = format!("{} {heading}", time(status.at));
                }
                lines
            }
            (broken, _) => {
                let at = time(OffsetDateTime::now_utc());
                let said = broken
                    .as_ref()
                    .map_or_else(String::new, |(e, _)| e.to_string());
                vec![
                    format!("{at} {}: unknown", self.name),
                    format!("  libvirt      {said}; lbctl tries again"),
                ]
            }
        }
    }

    fn document(&self) -> Body {
        match (&self.broken, &self.last) {
            (None, Some(status)) => Answer::Status(Box::new(status.to_document())).into(),
            (broken, _) => Body::Failure(FailureDocument {
                command: "status".into(),
                name: Some(self.name.clone()),
                time: Some(time(OffsetDateTime::now_utc())),
                error: ErrorDocument {
                    exit_code: None,
                    problems: Vec::new(),
                    messages: broken.iter().map(|(e, _)| silence(e)).collect(),
                },
            }),
        }
    }
}

fn silence(error: &HostError) -> MessageDocument {
    MessageDocument {
        id: id_of(error),
        message: error.to_string(),
        help: error.hint.clone().unwrap_or_default(),
        detail: Vec::new(),
        note: false,
    }
}

fn time(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::status::GuestAnswer;

    fn status() -> Status {
        Status {
            name: "lb-1".into(),
            at: OffsetDateTime::now_utc(),
            uri: "qemu:///system".into(),
            state: "shut off".into(),
            addresses: Vec::new(),
            certificate: None,
            verify_host: None,
            holds: true,
            guest: GuestAnswer::Off,
            drift: Ok(Vec::new()),
        }
    }

    fn broken() -> HostError {
        let said = "client socket is closed";
        HostError::new(HostErrorKind::Connection, "looking up domain lb-1", said)
    }

    /// libvirt that is there at each third call only.
    struct Unreliable(u32);

    impl Unreliable {
        fn call(&mut self) -> HostResult<()> {
            self.0 += 1;
            if self.0 == 3 { Ok(()) } else { Err(broken()) }
        }
    }

    impl Reconnect for Unreliable {
        fn reconnect(&mut self) -> HostResult<()> {
            self.call()
        }
    }

    #[test]
    fn the_connection_is_kept_and_a_broken_one_opened_again() {
        let fetch = |host: &Unreliable| {
            if host.0 == 0 {
                Err(broken())
            } else {
                Ok(status())
            }
        };
        let updates = keep_fetching(Unreliable(0), Duration::from_millis(1), fetch);
        let found: Vec<bool> = updates.iter().take(6).map(|seen| seen.is_ok()).collect();
        // The first answer, then two attempts to connect; then the test ends.
        assert_eq!(found, [false, false, false, true, true, true]);
    }

    #[test]
    fn without_libvirt_the_last_status_is_shown_with_its_age() {
        let mut shown = Shown {
            name: "lb-1".into(),
            interval: Duration::from_secs(2),
            last: None,
            broken: None,
        };
        assert_eq!(
            shown.screen(Some(80)),
            ["lb-1: waiting for the first answer"]
        );
        shown.take(Ok(status()));
        assert_eq!(
            shown.foot(Some(80)),
            ["seen 0 s ago, every 2 s; Ctrl-C ends this"]
        );
        shown.take(Err(broken()));
        assert_eq!(
            shown.screen(Some(80))[0],
            "lb-1: not ready: the domain is shut off"
        );
        let foot = shown.foot(Some(80)).join(" ");
        assert!(
            foot.starts_with("no answer for 0 s: looking up domain lb-1: client socket"),
            "{foot}"
        );
        assert!(
            shown.block()[0].ends_with("Z lb-1: unknown"),
            "{:?}",
            shown.block()
        );
        let document = serde_json::to_value(shown.document()).unwrap();
        assert!(
            document["error"]["messages"][0]["message"]
                .as_str()
                .unwrap()
                .contains("socket")
        );
        shown.take(Ok(status()));
        assert_eq!(shown.foot(Some(80)).len(), 1);
    }
}

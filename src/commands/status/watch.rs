//! `lbctl status --watch`: each host is asked again and again by a thread of its own, and what
//! comes is shown at once.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{fetch_status, together};
use crate::config::{Config, VirtualIp};
use crate::exit::Exit;
use crate::host::libvirt::LibvirtHost;
use crate::host::{HostError, HostErrorKind, HostResult, Reconnect};
use crate::output::Output;
use crate::output::failure::id_of;
use crate::output::interrupt::{Interrupt, Manner};
use crate::output::json::{Answer, Body, ErrorDocument, FailureDocument, MessageDocument};
use crate::output::report::{CommandReport, TextReport, WatchReport};
use crate::status::together::Together;
use crate::status::{Status, ago};
use crate::text::styled::Styled;
use crate::text::width::wrap;

/// Each update has printed its own report.
pub(super) fn watch_all(
    vms: Vec<(Config, Watched)>,
    interval: Duration,
    verbose: bool,
    out: &Output,
) -> Box<dyn CommandReport> {
    Box::new(TextReport {
        exit: watch(vms, interval, verbose, out),
        text: Vec::new(),
    })
}

type Seen = HostResult<Status>;

/// A host that is looked at again and again.
pub(super) struct Watched {
    uri: String,
    /// `None`: it was not reached so far.
    host: Option<LibvirtHost>,
}

impl Watched {
    pub(super) fn new(host: LibvirtHost) -> Self {
        Self {
            uri: host.uri().to_owned(),
            host: Some(host),
        }
    }

    pub(super) fn later(uri: String) -> Self {
        Self { uri, host: None }
    }

    fn fetch(&self, config: &Config) -> Seen {
        match &self.host {
            Some(host) => fetch_status(config, host),
            None => Err(HostError::new(
                HostErrorKind::Connection,
                format!("connecting to libvirt at {}", self.uri),
                "no connection so far",
            )),
        }
    }
}

impl Reconnect for Watched {
    fn reconnect(&mut self) -> HostResult<()> {
        if let Some(host) = &mut self.host {
            return host.reconnect();
        }
        self.host = Some(LibvirtHost::connect(&self.uri)?);
        Ok(())
    }
}

/// Until Ctrl-C, or until nobody reads it any more. The exit code is that of the last update; of
/// several VMs, of the last of each.
fn watch(vms: Vec<(Config, Watched)>, interval: Duration, verbose: bool, out: &Output) -> Exit {
    let interrupt = Interrupt::listen(out, "");
    let (send, updates) = sync_channel(1);
    let mut shown = ShownAll::default();
    for (place, (config, host)) in vms.into_iter().enumerate() {
        shown.vms.push(Shown {
            name: config.name.to_string(),
            shared: config.virtual_ip.clone(),
            interval,
            verbose,
            last: None,
            broken: None,
        });
        let connected = host.host.is_some();
        let fetch = move |host: &Watched| host.fetch(&config);
        keep_fetching(host, connected, interval, fetch, (place, send.clone()));
    }
    drop(send);
    let mut exit = Exit::Failed;
    while let Some(new) = next(&updates, out.has_screen()) {
        if let New::Status(place, seen) = new {
            shown.take(place, *seen);
            exit = shown.exit();
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
    /// Of the VM in that place.
    Status(usize, Box<Seen>),
    /// What is shown has grown older.
    Age,
}

/// The next reason; the age is shown on a screen only.
fn next(updates: &Receiver<(usize, Seen)>, screen: bool) -> Option<New> {
    let fetch = |(place, seen)| Some(New::Status(place, Box::new(seen)));
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
/// is kept; a broken one is opened again, for as long as it takes. `connected`: whether there is
/// one to begin with; `to`: who is told, with what belongs to the answer.
fn keep_fetching<H: Reconnect + Send + 'static>(
    mut host: H,
    mut connected: bool,
    interval: Duration,
    fetch: impl Fn(&H) -> Seen + Send + 'static,
    to: (usize, SyncSender<(usize, Seen)>),
) {
    let (place, send) = to;
    std::thread::spawn(move || {
        loop {
            let started = Instant::now();
            let seen = if connected {
                fetch(&host)
            } else {
                host.reconnect().and_then(|()| fetch(&host))
            };
            let broken = |e: &HostError| e.kind == HostErrorKind::Connection;
            connected = !seen.as_ref().is_err_and(broken);
            if send.send((place, seen)).is_err() {
                return;
            }
            std::thread::sleep(interval.saturating_sub(started.elapsed()));
        }
    });
}

/// What the watcher sees of several, or of one.
#[derive(Default)]
struct ShownAll {
    vms: Vec<Shown>,
    /// Whose update was the last.
    newest: usize,
}

impl ShownAll {
    fn take(&mut self, place: usize, seen: Seen) {
        self.newest = place;
        if let Some(vm) = self.vms.get_mut(place) {
            vm.take(seen);
        }
    }

    fn exit(&self) -> Exit {
        let well = self.together().iter().all(Together::is_well);
        if well && self.vms.iter().all(Shown::is_ready) {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    fn together(&self) -> Vec<Together> {
        let vms = self.vms.iter().map(|vm| {
            let last = vm.last.as_ref().filter(|_| vm.broken.is_none());
            let said = last.and_then(Status::shared);
            ((vm.name.as_str(), vm.shared.as_ref()), said)
        });
        together(vms)
    }

    fn newest(&self) -> Option<&Shown> {
        self.vms.get(self.newest)
    }
}

impl WatchReport for ShownAll {
    fn screen(&self, columns: Option<usize>) -> Vec<Styled> {
        let each: Vec<Vec<Styled>> = self.vms.iter().map(|vm| vm.screen(columns)).collect();
        each.join(&Styled::default())
    }

    fn foot(&self, columns: Option<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        for vm in &self.vms {
            let name = (self.vms.len() > 1).then(|| format!("{}: ", vm.name));
            let broken = vm.silent(&name.unwrap_or_default());
            lines.extend(broken.iter().flat_map(|text| folded(text, columns)));
        }
        // Until each has been asked once nothing is missed.
        let asked = self
            .vms
            .iter()
            .all(|vm| vm.last.is_some() || vm.broken.is_some());
        if asked {
            let together = self.together();
            let said = together.iter().map(Together::line);
            lines.extend(said.flat_map(|line| folded(&line, columns)));
        }
        // How old the oldest is.
        let oldest = self
            .vms
            .iter()
            .min_by_key(|vm| vm.last.as_ref().map(|last| last.at));
        lines.extend(oldest.iter().flat_map(|vm| folded(&vm.age(), columns)));
        lines
    }

    fn block(&self) -> Vec<Styled> {
        self.newest().map(Shown::block).unwrap_or_default()
    }

    fn document(&self) -> Body {
        match self.newest() {
            Some(vm) => vm.document(),
            None => Body::Failure(FailureDocument {
                command: "status".into(),
                name: None,
                time: None,
                uri: None,
                work: None,
                error: ErrorDocument {
                    exit_code: None,
                    problems: Vec::new(),
                    messages: Vec::new(),
                },
            }),
        }
    }
}

fn folded(text: &str, columns: Option<usize>) -> Vec<String> {
    wrap(text, columns.unwrap_or(80))
}

/// What the watcher sees.
struct Shown {
    name: String,
    /// The address that it shares with others.
    shared: Option<VirtualIp>,
    interval: Duration,
    verbose: bool,
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

impl Shown {
    fn is_ready(&self) -> bool {
        self.broken.is_none() && self.last.as_ref().is_some_and(Status::is_ready)
    }

    /// What was seen last.
    fn screen(&self, columns: Option<usize>) -> Vec<Styled> {
        match &self.last {
            Some(status) => status.lines(columns, self.verbose),
            None => vec![format!("{}: waiting for the first answer", self.name).into()],
        }
    }

    /// Why there is nothing newer.
    fn silent(&self, name: &str) -> Option<String> {
        let (error, since) = self.broken.as_ref()?;
        let since = ago(since.elapsed().as_secs());
        Some(format!(
            "{name}no answer for {since}: {error}; lbctl tries again"
        ))
    }

    /// How old it is.
    fn age(&self) -> String {
        let every = ago(self.interval.as_secs());
        let seen = self.last.as_ref().map_or_else(String::new, |status| {
            let age = (OffsetDateTime::now_utc() - status.at).whole_seconds();
            format!("seen {} ago, ", ago(u64::try_from(age).unwrap_or(0)))
        });
        format!("{seen}every {every}; Ctrl-C ends this")
    }

    fn block(&self) -> Vec<Styled> {
        match (&self.broken, &self.last) {
            (None, Some(status)) => {
                let mut lines = status.lines(None, self.verbose);
                if let Some(heading) = lines.first_mut() {
                    *heading = Styled::from(format!("{} ", time(status.at))).join(heading);
                }
                lines
            }
            (broken, _) => {
                let at = time(OffsetDateTime::now_utc());
                let said = broken
                    .as_ref()
                    .map_or_else(String::new, |(e, _)| e.to_string());
                vec![
                    format!("{at} {}: unknown", self.name).into(),
                    format!("  libvirt      {said}; lbctl tries again").into(),
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
                uri: None,
                work: None,
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
            reason: None,
            addresses: Vec::new(),
            certificate: None,
            patroni_tls: "mutual",
            seed_unknown: None,
            verify_host: None,
            verified: String::new(),
            holds: true,
            known_as: None,
            leader: "primary",
            is_ours: true,
            guest: GuestAnswer::Off,
            drift: Ok(Vec::new()),
            restart_pending: false,
            notes: Vec::new(),
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
        let (send, updates) = sync_channel(1);
        let interval = Duration::from_millis(1);
        keep_fetching(Unreliable(0), true, interval, fetch, (0, send));
        let seen = updates.iter().take(6);
        let found: Vec<bool> = seen.map(|(_, seen)| seen.is_ok()).collect();
        // The first answer, then two attempts to connect; then the test ends.
        assert_eq!(found, [false, false, false, true, true, true]);
    }

    #[test]
    fn without_libvirt_the_last_status_is_shown_with_its_age() {
        let mut shown = watched(&["lb-1"]);
        assert_eq!(
            shown.screen(Some(80)),
            [Styled::from("lb-1: waiting for the first answer")]
        );
        shown.take(0, Ok(status()));
        assert_eq!(
            shown.foot(Some(80)),
            ["seen 0 s ago, every 2 s; Ctrl-C ends this"]
        );
        shown.take(0, Err(broken()));
        assert_eq!(
            shown.screen(Some(80))[0].text(),
            "lb-1: not ready: the domain is shut off"
        );
        let foot = shown.foot(Some(80)).join(" ");
        assert!(
            foot.starts_with("no answer for 0 s: looking up domain lb-1: client socket"),
            "{foot}"
        );
        assert!(
            shown.block()[0].text().ends_with("Z lb-1: unknown"),
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
        shown.take(0, Ok(status()));
        assert_eq!(shown.foot(Some(80)).len(), 1);
    }

    fn watched(names: &[&str]) -> ShownAll {
        let shown = |name: &&str| Shown {
            name: (*name).to_owned(),
            shared: None,
            interval: Duration::from_secs(2),
            verbose: false,
            last: None,
            broken: None,
        };
        ShownAll {
            vms: names.iter().map(shown).collect(),
            newest: 0,
        }
    }

    #[test]
    fn of_several_all_are_on_the_screen_and_each_update_is_of_one() {
        let mut shown = watched(&["lb-1", "lb-2"]);
        shown.take(0, Ok(status()));
        shown.take(1, Err(broken()));
        let screen = shown.screen(Some(80));
        let screen: Vec<&str> = screen.iter().map(Styled::text).collect();
        assert_eq!(screen[0], "lb-1: not ready: the domain is shut off");
        let last = &screen[screen.len() - 2..];
        assert_eq!(last, ["", "lb-2: waiting for the first answer"]);
        let foot = shown.foot(Some(200));
        assert!(foot[0].starts_with("lb-2: no answer for 0 s: "), "{foot:?}");
        assert_eq!(foot.len(), 2);
        assert!(shown.block()[0].text().ends_with("Z lb-2: unknown"));
        let document = serde_json::to_value(shown.document()).unwrap();
        assert_eq!(document["name"], "lb-2");
        assert_eq!(shown.exit(), Exit::Failed);
    }
}

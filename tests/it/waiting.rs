//! Waiting for a guest, told as stories: what each look at it finds, and what is told of it. On a
//! host in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lbctl::testing::config::{NetworkRef, VolumeRef};
use lbctl::testing::guest::ready::{News, Outcome, Patience, wait};
use lbctl::testing::host::{
    AgentChannel, BridgeFacts, Claims, DeviceState, DomainFacts, DomainState, HostError,
    HostErrorKind, HostReader, HostResult, Lease, Listed, NetworkFacts, NetworkId, Node, Reconnect,
    RunState, VolumeState,
};
use lbctl::testing::secret::Secret;
use serde_json::{Value, json};

/// The result of planning again. Each is found once, in order; the last one stays.
#[derive(Clone)]
enum Moment {
    /// No agent.
    Unresponsive,
    /// cloud-init's file names this stage.
    Stage(&'static str),
    /// cloud-init has come to its end.
    Finished,
    /// The process in the guest watches, and has nothing to report.
    Looking,
    /// It ends, and has printed this.
    Tells(Value),
    /// The guest was rebooted: it knows of no such process.
    Forgotten,
    /// The guest has stopped.
    Off,
    /// libvirt does not answer, until that attempt.
    Broken(u32),
}

use Moment::{Broken, Finished, Forgotten, Looking, Off, Stage, Tells, Unresponsive};

struct Story {
    moments: RefCell<VecDeque<Moment>>,
    file: Cell<Option<&'static str>>,
    finished: Cell<bool>,
    /// Attempts to connect that will fail still.
    away: Cell<u32>,
    started: Cell<i64>,
    told: Cell<Option<Instant>>,
}

impl Story {
    fn new(moments: &[Moment]) -> Self {
        Self {
            moments: RefCell::new(moments.iter().cloned().collect()),
            file: Cell::new(None),
            finished: Cell::new(false),
            away: Cell::new(0),
            started: Cell::new(0),
            told: Cell::new(None),
        }
    }

    fn next(&self) -> Moment {
        let mut moments = self.moments.borrow_mut();
        if moments.len() > 1 {
            moments.pop_front().unwrap()
        } else {
            moments[0].clone()
        }
    }

    fn is_next(&self, of_kind: impl Fn(&Moment) -> bool) -> bool {
        of_kind(&self.moments.borrow()[0])
    }

    fn connected(&self) -> HostResult<()> {
        if self.away.get() == 0 {
            return Ok(());
        }
        Err(error(HostErrorKind::Connection, "client socket is closed"))
    }

    /// A call to the daemon: the connection may break, the guest may be off.
    fn reach(&self) -> HostResult<()> {
        self.connected()?;
        if let Broken(attempts) = self.moments.borrow()[0] {
            self.away.set(attempts);
        }
        if self.is_next(|m| matches!(m, Broken(_))) {
            self.next();
        }
        self.connected()?;
        if self.is_next(|m| matches!(m, Off)) {
            return Err(error(HostErrorKind::Other, "domain is not running"));
        }
        Ok(())
    }

    fn open(&self, path: &str) -> HostResult<Value> {
        if path.ends_with("disabled") {
            return Err(error(HostErrorKind::Agent, "No such file or directory"));
        }
        if self.is_next(|m| matches!(m, Unresponsive | Stage(_) | Finished)) {
            match self.next() {
                Unresponsive => return Err(error(HostErrorKind::Agent, "agent is not connected")),
                Stage(stage) => self.file.set(Some(stage)),
                _ => self.finished.set(true),
            }
        }
        match (self.file.get(), self.finished.get()) {
            (None, false) => Err(error(HostErrorKind::Agent, "No such file or directory")),
            _ => Ok(json!(1)),
        }
    }

    fn status_file(&self) -> Value {
        let finished = self.finished.get().then_some(1.5);
        let file = json!({"v1": {
            "stage": self.file.get(), "modules-final": {"errors": [], "finished": finished},
        }});
        json!({"buf-b64": BASE64.encode(file.to_string())})
    }

    fn process(&self, pid: &Value) -> HostResult<Value> {
        assert_eq!(pid, &json!(self.started.get()), "the last one is asked for");
        if !self.is_next(|m| matches!(m, Looking | Tells(_) | Forgotten)) {
            return Ok(json!({"exited": false}));
        }
        match self.next() {
            Tells(said) => {
                self.told.set(Some(Instant::now()));
                let said = BASE64.encode(said.to_string());
                Ok(json!({"exited": true, "exitcode": 0, "out-data": said}))
            }
            Forgotten => {
                self.file.set(None);
                self.finished.set(false);
                Err(error(HostErrorKind::Agent, "PID 7 does not exist"))
            }
            _ => Ok(json!({"exited": false})),
        }
    }
}

fn error(kind: HostErrorKind, said: &str) -> HostError {
    HostError::new(kind, "calling the guest", said)
}

impl AgentChannel for Story {
    fn agent(&self, _: &str, command: &str, _: Duration) -> HostResult<String> {
        self.reach()?;
        let command: Value = serde_json::from_str(command).unwrap();
        let arguments = &command["arguments"];
        let answer = match command["execute"].as_str().unwrap() {
            "guest-file-open" => self.open(arguments["path"].as_str().unwrap())?,
            "guest-file-read" => self.status_file(),
            "guest-file-close" => json!({}),
            "guest-exec" => {
                self.started.set(self.started.get() + 1);
                json!({"pid": self.started.get()})
            }
            "guest-exec-status" => self.process(&arguments["pid"])?,
            other => panic!("the guest agent was asked to {other}"),
        };
        Ok(json!({"return": answer}).to_string())
    }
}

impl Reconnect for Story {
    fn reconnect(&mut self) -> HostResult<()> {
        self.away.set(self.away.get().saturating_sub(1));
        self.connected()
    }
}

impl HostReader for Story {
    fn node(&self) -> HostResult<Node> {
        unreachable!()
    }
    fn machine(&self, _: &str, _: &str, _: &str) -> HostResult<Option<String>> {
        unreachable!()
    }
    fn would_accept(&self, _: &str) -> HostResult<Result<(), String>> {
        unreachable!()
    }
    fn names(&self, _: &Listed) -> Vec<String> {
        unreachable!()
    }
    fn offers_kvm(&self, _: &str) -> HostResult<bool> {
        unreachable!()
    }
    fn domain(&self, _: &str) -> HostResult<Option<DomainFacts>> {
        unreachable!()
    }
    fn run_state(&self, _: &str) -> HostResult<Option<RunState>> {
        self.connected()?;
        let state = if self.is_next(|m| matches!(m, Off)) {
            DomainState::Crashed
        } else {
            DomainState::Running
        };
        Ok(Some(RunState { state, run: None }))
    }
    fn checkpoints(&self, _: &str) -> HostResult<Vec<String>> {
        unreachable!()
    }
    fn saved_definition(&self, _: &str) -> HostResult<Option<Secret>> {
        unreachable!()
    }
    fn claims(&self, _: &[String]) -> HostResult<Vec<Claims>> {
        unreachable!()
    }
    fn volume(&self, _: &VolumeRef) -> HostResult<VolumeState> {
        unreachable!()
    }
    fn pool_folder(&self, _: &str) -> HostResult<Option<String>> {
        unreachable!()
    }
    fn pool_type(&self, _: &str) -> HostResult<Option<String>> {
        unreachable!()
    }
    fn volume_by_id(&self, _: &str) -> HostResult<VolumeState> {
        unreachable!()
    }
    fn read_volume(&self, _: &VolumeRef, _: u64) -> HostResult<Vec<u8>> {
        unreachable!()
    }
    fn network(&self, _: &NetworkRef) -> HostResult<Option<NetworkFacts>> {
        unreachable!()
    }
    fn leases(&self, _: &NetworkId) -> HostResult<Vec<Lease>> {
        unreachable!()
    }
    fn device(&self, _: &str) -> HostResult<DeviceState> {
        unreachable!()
    }

    fn bridge(&self, _: &str) -> HostResult<BridgeFacts> {
        unreachable!()
    }
}

fn up(count: u32) -> Moment {
    Tells(json!({
        "cloud_init": {"status": "done"}, "ready": count == 1,
        "haproxy": {"servers_up": count, "primary": (count == 1).then_some("10.0.0.2")},
    }))
}

const LONG: Duration = Duration::from_secs(30);

/// Waits through a story: how it ends, and what was told.
fn through(story: &mut Story, ready: Duration) -> (HostResult<Outcome>, Vec<String>) {
    let mut told = Vec::new();
    let away = Duration::from_millis(1200);
    let outcome = wait(story, "lb", Patience { ready, away }, |news, _| {
        told.push(match news {
            News::Phase(phase) => phase.to_string(),
            News::Away(said) => format!("away: {said}"),
            News::Back => "back".into(),
        });
    });
    (outcome, told)
}

#[test]
fn a_first_boot_is_reported_by_phase_until_it_is_ready() {
    let mut story = Story::new(&[
        Unresponsive,
        Stage("init"),
        Stage("modules-final"),
        Looking,
        Finished,
        Looking,
        up(1),
    ]);
    let (outcome, told) = through(&mut story, LONG);
    let late = story.told.get().unwrap().elapsed();
    let Ok(Outcome::Ready(status)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(status.haproxy.primary.as_deref(), Some("10.0.0.2"));
    assert!(late < Duration::from_millis(500), "{late:?}");
    assert_eq!(
        story.started.get(),
        1,
        "one process does for the whole wait"
    );
    assert_eq!(
        told,
        [
            "the guest is booting",
            "cloud-init is running (init)",
            "cloud-init is running (modules-final)",
            "HAProxy has no primary yet",
            "ready",
        ]
    );
}

#[test]
fn a_stage_that_a_hostile_guest_invents_controls_no_terminal() {
    let stage = "\u{9b}2J\u{1b}]0;title\u{7}\r\nready\u{202e}\u{200b}x";
    let mut story = Story::new(&[Stage(stage), Finished, up(1)]);
    let (_, told) = through(&mut story, LONG);
    assert_eq!(told[0], "cloud-init is running (2J ]0;title   ready  x)");
}

#[test]
fn a_guest_that_is_ready_already_is_reported_as_ready() {
    let mut story = Story::new(&[Finished, up(1)]);
    let begun = Instant::now();
    let (outcome, told) = through(&mut story, LONG);
    assert!(matches!(outcome, Ok(Outcome::Ready(_))), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(told, ["HAProxy has no primary yet", "ready"]);
}

#[test]
fn two_primaries_are_reported_until_there_is_one() {
    let mut story = Story::new(&[Finished, up(2), up(1)]);
    let (outcome, told) = through(&mut story, LONG);
    assert!(matches!(outcome, Ok(Outcome::Ready(_))), "{outcome:?}");
    assert_eq!(
        told[1],
        "HAProxy sees 2 primaries, and waits until there is exactly one"
    );
}

#[test]
fn a_failed_cloud_init_and_a_stopped_guest_end_it_at_once() {
    let failed = Tells(json!({"cloud_init": {"status": "error", "errors": ["no \u{1b}[2Jspace"]}}));
    let mut story = Story::new(&[Stage("modules-final"), failed]);
    let (outcome, _) = through(&mut story, LONG);
    let Ok(Outcome::CloudInitFailed(verdict)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(verdict.errors, ["no  [2Jspace"]);

    for story in [
        vec![Off],
        vec![Unresponsive, Off],
        vec![Finished, Looking, Off],
    ] {
        let begun = Instant::now();
        let (outcome, _) = through(&mut Story::new(&story), LONG);
        let died = Ok(Outcome::Died(DomainState::Crashed));
        assert_eq!(outcome, died);
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_guest_that_reboots_while_waiting_is_observed_again() {
    let mut story = Story::new(&[
        Finished,
        Looking,
        Forgotten,
        Unresponsive,
        Stage("init"),
        Finished,
        up(1),
    ]);
    let (outcome, told) = through(&mut story, LONG);
    assert!(matches!(outcome, Ok(Outcome::Ready(_))), "{outcome:?}");
    assert_eq!(story.started.get(), 2);
    assert_eq!(told[1], "cloud-init is running (init)");
}

#[test]
fn a_libvirt_that_restarts_is_waited_for() {
    // The process in the guest continues, and is asked again.
    let mut story = Story::new(&[Finished, Looking, Broken(2), Looking, up(1)]);
    let (outcome, told) = through(&mut story, LONG);
    assert!(matches!(outcome, Ok(Outcome::Ready(_))), "{outcome:?}");
    assert_eq!(story.started.get(), 1);
    assert_eq!(
        told,
        [
            "HAProxy has no primary yet",
            "away: calling the guest: client socket is closed",
            "back",
            "ready",
        ]
    );
    // Also while nothing but the boot is going on.
    let mut story = Story::new(&[Unresponsive, Broken(1), Unresponsive, Finished, up(1)]);
    let (outcome, _) = through(&mut story, LONG);
    assert!(matches!(outcome, Ok(Outcome::Ready(_))), "{outcome:?}");
}

#[test]
fn a_libvirt_that_stays_away_ends_it() {
    let mut story = Story::new(&[Finished, Broken(u32::MAX)]);
    let begun = Instant::now();
    let (outcome, _) = through(&mut story, LONG);
    assert_eq!(outcome.unwrap_err().kind, HostErrorKind::Connection);
    assert!(begun.elapsed() >= Duration::from_millis(1200));

    // The time for all of it is over first.
    let mut story = Story::new(&[Finished, Broken(u32::MAX)]);
    let (outcome, _) = through(&mut story, Duration::from_secs(1));
    let Ok(Outcome::TimeOut { silent, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(silent.unwrap().contains("client socket is closed"));
}

#[test]
fn a_timeout_says_what_was_seen() {
    // At the end the whole status is asked for, by a process of its own.
    let mut story = Story::new(&[Finished, Looking, Looking, Looking, Looking, up(0)]);
    let (outcome, _) = through(&mut story, Duration::from_millis(600));
    let Ok(Outcome::TimeOut { phase, seen, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(phase.to_string(), "HAProxy has no primary yet");
    assert_eq!(seen.unwrap().haproxy.servers_up, 0);
    let (outcome, _) = through(&mut Story::new(&[Unresponsive]), Duration::from_millis(300));
    let Ok(Outcome::TimeOut { silent, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(silent.as_deref(), Some("agent is not connected"));
}

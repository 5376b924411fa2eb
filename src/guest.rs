//! The guest, through its agent: the only module that speaks to it. What comes back was written by the guest and is
//! trusted in nothing: bounded, decoded, and kept from the terminal until it is cleaned.
//!
//! The protocol is QEMU's (qemu-ga-ref: guest-exec, guest-exec-status).

mod tidy;
mod watch;

use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::host::{AgentDoor, HostError, HostErrorKind};
use crate::plan::Extent;
use crate::render::{CA_PEM, CLIENT_PEM, GuestSpec, programs};
use crate::secret::Secret;
use crate::shown::clean;

pub use watch::Watch;

/// lbctl's own program in the guest, put there by the seed.
const PROGRAM: &str = "/usr/local/lib/lbctl/lbctl-guest";
/// What a program in the guest may say, before it is decoded; a status is some KiB, and 60 of 200 nodes.
const MAX_OUTPUT: usize = 512 * 1024;
/// One answer of the agent: what a program says on both its outputs, and some room. libvirt lets through 4 MiB, and as a
/// tree in memory that would be a hundred.
const MAX_ANSWER: usize = 3 * MAX_OUTPUT;
/// Of a file of the guest, what is read.
const MAX_FILE: usize = 128 * 1024;
/// Between looks at a command that still runs.
const POLL: Duration = Duration::from_millis(100);

/// What the guest says of itself. Every field may be a lie; none may be missing in a way that hurts. Its texts are cleaned.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct GuestStatus {
    pub boot_id: String,
    /// Seconds since the guest's kernel started.
    pub uptime_s: f64,
    pub cloud_init: CloudInit,
    pub haproxy: Haproxy,
    pub certificate: Certificates,
    /// Exactly one server is up.
    pub ready: bool,
}

/// cloud-init's verdict, from its own JSON files.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CloudInit {
    /// `not started`, `running`, `done`, `error`, `disabled`.
    pub status: String,
    pub stage: Option<String>,
    pub errors: Vec<String>,
}

/// The client certificate in the guest.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Certificates {
    pub on_disk: Option<CertificateFacts>,
    /// What HAProxy shows to the nodes.
    pub in_use: Option<CertificateFacts>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// Lower-case hexadecimal.
    pub serial: String,
    /// RFC 3339.
    pub not_after: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Haproxy {
    pub active: bool,
    pub version: Option<String>,
    pub sessions: Option<u64>,
    /// Of the whole process.
    pub max_connections: Option<u64>,
    pub servers: Vec<Server>,
    pub servers_up: u32,
    /// Address of the one server that is up.
    pub primary: Option<String>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    pub backend: String,
    pub name: String,
    pub address: Option<String>,
    pub state: String,
    pub check: Option<String>,
    /// The status of the answer, such as HTTP's 503.
    pub check_code: Option<i64>,
    pub check_detail: Option<String>,
    pub last_change_s: Option<u64>,
    pub sessions: Option<u64>,
}

/// How far cloud-init is, told by the file that it writes: reading it starts no process in a guest that is busy booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootProgress {
    NotStarted,
    /// In the stage named.
    Running(String),
    /// It is at its end, or has met an error: its verdict is worth asking for.
    Decided,
}

/// cloud-init's `status.json`, as far as it is needed here (cloud-init documentation, "Exported error data").
#[derive(Deserialize)]
struct StatusFile {
    v1: serde_json::Map<String, Value>,
}

/// Why the guest gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestError {
    /// The agent does not answer: not there yet, stopped, or blocked.
    Silent(String),
    /// The agent runs, and the program or file is not there (yet).
    Absent,
    /// An answer that makes no sense.
    Nonsense(String),
    /// libvirt itself is the matter.
    Host(HostError),
}

/// Whether a running guest can be changed through its agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reach {
    /// Nobody needed to know.
    #[default]
    NotAsked,
    Ready,
    /// Why not, fit for a terminal.
    Out(String),
}

/// What the guest did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Converged {
    pub notes: Vec<String>,
}

/// Why the guest is not as desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConvergeError {
    /// It answered no, and is as it was before, or says what is not.
    Refused { said: String, restored: bool },
    /// No answer that lbctl could read: what became of the change is not known.
    Unknown(GuestError),
}

impl ConvergeError {
    /// As the failed step's error.
    #[must_use]
    pub fn into_host_error(self, doing: &str) -> HostError {
        let (kind, said, hint) = match self {
            Self::Refused {
                said,
                restored: true,
            } => (
                HostErrorKind::Other,
                said,
                "the guest runs on as it was, and nothing else was changed; correct the configuration and run it again",
            ),
            Self::Refused { said, .. } => (
                HostErrorKind::Other,
                said,
                "the guest could not put everything back: look at it now (`lbctl status`, `virsh console`); `lbctl up` tries again",
            ),
            Self::Unknown(GuestError::Host(error)) => return error,
            Self::Unknown(error) => (
                HostErrorKind::Agent,
                error.to_string(),
                "the change may be half done in the guest, which goes on working; the same command takes it to its end, \
                 or `--restart now` does by a restart",
            ),
        };
        HostError {
            hint: Some(hint.into()),
            ..HostError::new(kind, doing, said)
        }
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(said) => write!(f, "its agent does not answer: {said}"),
            Self::Absent => {
                f.write_str("its agent answers; cloud-init has not put lbctl's program there yet")
            }
            Self::Nonsense(said) => write!(f, "its agent answers what lbctl cannot read: {said}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

/// The answer of lbctl's program to `converge`.
#[derive(Deserialize)]
struct ConvergeAnswer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    restored: bool,
    #[serde(default)]
    notes: Vec<String>,
}

/// A running guest.
pub struct Guest<'a> {
    door: &'a dyn AgentDoor,
    domain: &'a str,
}

#[derive(Debug, Clone)]
struct Output {
    exit_code: i64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl<'a> Guest<'a> {
    #[must_use]
    pub fn new(door: &'a dyn AgentDoor, domain: &'a str) -> Self {
        Self { door, domain }
    }

    /// Asks lbctl's program in the guest for its view. Takes no longer than the deadline.
    pub fn status(&self, deadline: Duration) -> Result<GuestStatus, GuestError> {
        let output = self.run(PROGRAM, &["status"], deadline)?;
        if output.exit_code != 0 {
            let said = clean(&String::from_utf8_lossy(&output.stderr), 400);
            return Err(GuestError::Nonsense(format!(
                "its status ended with exit {}: {said}",
                output.exit_code
            )));
        }
        serde_json::from_slice::<GuestStatus>(&output.stdout)
            .map(GuestStatus::cleaned)
            .map_err(|e| GuestError::Nonsense(clean(&format!("its status is no status: {e}"), 400)))
    }

    /// Whether it can be changed: the agent answers, and may run programs.
    #[must_use]
    pub fn reach(&self, deadline: Duration) -> Reach {
        let info = json!({"execute": "guest-info"});
        let info = match self.ask(&info, Instant::now() + deadline) {
            Ok(info) => info,
            Err(error) => return Reach::Out(error.to_string()),
        };
        let enabled = |name: &str| {
            let commands = info.get("supported_commands").and_then(Value::as_array);
            commands.into_iter().flatten().any(|command| {
                let is = |field, wanted: Value| command.get(field) == Some(&wanted);
                is("name", name.into()) && is("enabled", true.into())
            })
        };
        let needed = ["guest-exec", "guest-exec-status"];
        match needed.into_iter().find(|name| !enabled(name)) {
            None => Reach::Ready,
            Some(name) => Reach::Out(format!(
                "its agent is forbidden to run programs ({name} is switched off in the guest's qemu-ga configuration)"
            )),
        }
    }

    /// Brings the guest to the spec. The program that does it is sent along: what stands in the guest may be older.
    pub fn converge(
        &self,
        spec: &GuestSpec,
        extent: Extent,
        deadline: Duration,
    ) -> Result<Converged, ConvergeError> {
        let only: &[&str] = match extent {
            Extent::All => &[],
            Extent::Tls => &[CLIENT_PEM, CA_PEM],
        };
        // Put together as text: a JSON value in between would leave copies of secrets in memory.
        let input = Secret::new(format!(
            r#"{{"programs": {}, "only": {}, "spec": {}}}"#,
            programs().collect::<Value>(),
            json!(only),
            spec.to_json().expose()
        ));
        let args = [
            "-I",
            "-B",
            "-c",
            include_str!("../templates/guest/receive.py"),
        ];
        let output = self
            .run_with("/usr/bin/python3", &args, Some(&input), deadline)
            .map_err(ConvergeError::Unknown)?;
        let Ok(answer) = serde_json::from_slice::<ConvergeAnswer>(&output.stdout) else {
            let said = clean(&String::from_utf8_lossy(&output.stderr), 600);
            let said = format!("exit {}: {said}", output.exit_code);
            return Err(ConvergeError::Unknown(GuestError::Nonsense(said)));
        };
        if answer.ok {
            let notes = answer.notes.iter().take(20);
            return Ok(Converged {
                notes: notes.map(|note| clean(note, 400)).collect(),
            });
        }
        Err(ConvergeError::Refused {
            said: clean(&answer.error, 2000),
            restored: answer.restored,
        })
    }

    /// Looks at cloud-init's file.
    pub fn boot_progress(&self, deadline: Duration) -> Result<BootProgress, GuestError> {
        let end = Instant::now() + deadline;
        let text = match self.read_file("/run/cloud-init/status.json", end) {
            Err(GuestError::Absent) => {
                return Ok(match self.read_file("/run/cloud-init/disabled", end) {
                    Err(GuestError::Absent) => BootProgress::NotStarted,
                    other => other.map(|_| BootProgress::Decided)?,
                });
            }
            other => other?,
        };
        // It is rewritten in place at times: half a file is no news.
        let Ok(StatusFile { v1 }) = serde_json::from_slice(&text) else {
            return Ok(BootProgress::Running(String::new()));
        };
        let has_errors = |stage: &Value| {
            stage
                .get("errors")
                .and_then(Value::as_array)
                .is_some_and(|e| !e.is_empty())
        };
        if v1.values().any(has_errors) {
            return Ok(BootProgress::Decided);
        }
        let finished = v1
            .get("modules-final")
            .and_then(|stage| stage.get("finished"))
            .is_some_and(Value::is_number);
        if finished {
            return Ok(BootProgress::Decided);
        }
        let stage = v1.get("stage").and_then(Value::as_str).unwrap_or_default();
        Ok(BootProgress::Running(clean(stage, 40)))
    }

    /// The beginning of a small file of the guest (qemu-ga-ref: guest-file-open, guest-file-read).
    fn read_file(&self, path: &str, end: Instant) -> Result<Vec<u8>, GuestError> {
        let handle = self.ask(
            &json!({"execute": "guest-file-open", "arguments": {"path": path, "mode": "r"}}),
            end,
        )?;
        let arguments = json!({"handle": handle, "count": MAX_FILE});
        let read = self.ask(
            &json!({"execute": "guest-file-read", "arguments": arguments}),
            end,
        );
        let closed = self.ask(
            &json!({"execute": "guest-file-close", "arguments": {"handle": handle}}),
            end,
        );
        let content = decode(&read?, "buf-b64")?;
        closed.map(|_| content)
    }

    /// The last lines of a file of the guest, for an error message.
    #[must_use]
    pub fn tail(&self, path: &str, lines: usize, deadline: Duration) -> Vec<String> {
        let count = lines.to_string();
        let output = self.run("/usr/bin/tail", &["-n", &count, path], deadline);
        let text = output
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        let text: Vec<String> = text.lines().map(|line| clean(line, 200)).collect();
        text[text.len().saturating_sub(lines)..].to_vec()
    }

    fn run(&self, path: &str, args: &[&str], deadline: Duration) -> Result<Output, GuestError> {
        self.run_with(path, args, None, deadline)
    }

    /// Secrets go by standard input: arguments are for all of the guest to see.
    fn run_with(
        &self,
        path: &str,
        args: &[&str],
        input: Option<&Secret>,
        deadline: Duration,
    ) -> Result<Output, GuestError> {
        let end = Instant::now() + deadline;
        let mut arguments = json!({"path": path, "arg": args, "capture-output": true});
        if let (Some(input), Some(object)) = (input, arguments.as_object_mut()) {
            object.insert("input-data".into(), BASE64.encode(input.expose()).into());
        }
        let started = self.ask(
            &json!({"execute": "guest-exec", "arguments": arguments}),
            end,
        )?;
        let pid = started
            .get("pid")
            .and_then(Value::as_i64)
            .ok_or_else(|| nonsense("guest-exec gave no pid"))?;
        loop {
            let status = self.ask(
                &json!({"execute": "guest-exec-status", "arguments": {"pid": pid}}),
                end,
            )?;
            if status.get("exited").and_then(Value::as_bool) == Some(true) {
                return Ok(Output {
                    exit_code: status.get("exitcode").and_then(Value::as_i64).unwrap_or(-1),
                    stdout: decode(&status, "out-data")?,
                    stderr: decode(&status, "err-data")?,
                });
            }
            if Instant::now() >= end {
                return Err(GuestError::Silent(format!(
                    "{path} did not end within {} s",
                    deadline.as_secs()
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    fn ask(&self, command: &Value, end: Instant) -> Result<Value, GuestError> {
        let rest = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1));
        let answer = self
            .door
            .agent(self.domain, &command.to_string(), rest)
            .map_err(agent_error)?;
        if answer.len() > MAX_ANSWER {
            return Err(nonsense("it says more than lbctl asked for"));
        }
        let answer: Value = serde_json::from_str(&answer).map_err(|e| nonsense(&e.to_string()))?;
        answer
            .get("return")
            .cloned()
            .ok_or_else(|| nonsense("the answer has no `return`"))
    }
}

fn agent_error(error: HostError) -> GuestError {
    let said = error.said.to_ascii_lowercase();
    match error.kind {
        // The agent's own error: the file to run is not there. It has no code of its own.
        HostErrorKind::Agent | HostErrorKind::State | HostErrorKind::Other
            if said.contains("no such file") =>
        {
            GuestError::Absent
        }
        HostErrorKind::Connection | HostErrorKind::NotFound | HostErrorKind::Permission => {
            GuestError::Host(error)
        }
        HostErrorKind::Agent
        | HostErrorKind::State
        | HostErrorKind::Exists
        | HostErrorKind::Other => GuestError::Silent(clean(&error.said, 200)),
    }
}

fn decode(status: &Value, field: &str) -> Result<Vec<u8>, GuestError> {
    let text = status
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default();
    if text.len() > MAX_OUTPUT {
        return Err(nonsense("it says more than a status has to say"));
    }
    BASE64.decode(text).map_err(|e| nonsense(&e.to_string()))
}

fn nonsense(said: &str) -> GuestError {
    GuestError::Nonsense(clean(said, 200))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::cell::RefCell;

    use super::*;
    use crate::host::HostResult;

    struct Scripted(RefCell<Vec<HostResult<String>>>);

    impl AgentDoor for Scripted {
        fn agent(&self, _: &str, _: &str, _: Duration) -> HostResult<String> {
            self.0.borrow_mut().remove(0)
        }
    }

    fn status(answers: Vec<HostResult<String>>) -> Result<GuestStatus, GuestError> {
        Guest::new(&Scripted(RefCell::new(answers)), "lb").status(Duration::from_secs(5))
    }

    fn ended(out: &str) -> String {
        json!({"return": {"exited": true, "exitcode": 0, "out-data": BASE64.encode(out)}})
            .to_string()
    }

    const STARTED: &str = r#"{"return": {"pid": 7}}"#;

    #[test]
    fn a_status_is_read_even_where_fields_are_missing() {
        let running = Ok(r#"{"return": {"exited": false}}"#.to_owned());
        let said = r#"{"ready": true, "cloud_init": {"status": "done"}, "haproxy": {"servers_up": 1, "new": 3}}"#;
        let found = status(vec![Ok(STARTED.into()), running, Ok(ended(said))]).unwrap();
        assert!(found.ready);
        assert_eq!(
            (found.cloud_init.status.as_str(), found.haproxy.servers_up),
            ("done", 1)
        );
    }

    #[test]
    fn lies_and_noise_are_nonsense_and_never_a_panic() {
        let too_much =
            json!({"return": {"exited": true, "out-data": "A".repeat(MAX_OUTPUT + 4)}}).to_string();
        for answers in [
            vec![Ok("not json".into())],
            vec![Ok("{}".into())],
            vec![Ok("[".repeat(100_000))],
            vec![Ok(format!(
                "{{\"return\": [{}0]}}",
                "0,".repeat(MAX_ANSWER)
            ))],
            vec![Ok(r#"{"return": {"pid": "seven"}}"#.into())],
            vec![
                Ok(STARTED.into()),
                Ok(r#"{"return": {"exited": true, "out-data": "***"}}"#.into()),
            ],
            vec![Ok(STARTED.into()), Ok(too_much)],
            vec![Ok(STARTED.into()), Ok(ended("[1, 2"))],
        ] {
            assert!(matches!(status(answers), Err(GuestError::Nonsense(_))));
        }
    }

    #[test]
    fn an_agent_that_may_not_run_programs_is_told_apart_from_one_that_may() {
        let reach = |exec: bool| {
            let info = json!({"return": {"supported_commands": [
                {"name": "guest-exec", "enabled": exec},
                {"name": "guest-exec-status", "enabled": true},
            ]}});
            let door = Scripted(RefCell::new(vec![Ok(info.to_string())]));
            Guest::new(&door, "lb").reach(Duration::from_secs(5))
        };
        assert_eq!(reach(true), Reach::Ready);
        let Reach::Out(why) = reach(false) else {
            panic!("it may not run programs")
        };
        assert!(why.contains("guest-exec is switched off"), "{why}");
    }

    #[test]
    fn a_silent_agent_and_a_broken_connection_are_told_apart() {
        let error = |kind, said: &str| vec![Err(HostError::new(kind, "asking", said))];
        assert!(matches!(
            status(error(HostErrorKind::Agent, "not connected")),
            Err(GuestError::Silent(_))
        ));
        assert!(matches!(
            status(error(HostErrorKind::Connection, "gone")),
            Err(GuestError::Host(_))
        ));
        let absent = "Failed to execute child process “/usr/local/lib/lbctl/lbctl-guest” (No such file or directory)";
        assert_eq!(
            status(error(HostErrorKind::Other, absent)),
            Err(GuestError::Absent)
        );
    }
}

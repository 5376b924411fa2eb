//! The guest, through its agent: the only module that uses it. What comes back was written by the
//! guest and is never trusted: it is bounded, decoded, and cleaned before it is printed.
//!
//! The protocol is QEMU's (qemu-ga-ref: guest-exec, guest-exec-status).

use std::fmt;
use std::io::Read as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bzip2::Compression;
use bzip2::read::BzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::status::GuestStatus;
use crate::host::{AgentChannel, HostError, HostErrorKind, Operation};
use crate::render::{CA_PEM, CLIENT_PEM, GuestSpec, program_path, programs};
use crate::secret::Secret;
use crate::text::sanitize::sanitize_line;

/// lbctl's own program in the guest, put there by the seed.
const PROGRAM: &str = "/usr/local/lib/lbctl/lbctl-guest";
/// What a program in the guest may say, before it is decoded; a status is some KiB, and 60 of 200
/// nodes.
const MAX_OUTPUT: usize = 512 * 1024;
/// One answer of the agent: what a program says on both its outputs, and some room. libvirt lets
/// through 4 MiB, and as a tree in memory that would be a hundred.
const MAX_ANSWER: usize = 3 * MAX_OUTPUT;
/// What a program in the guest may be given, in base64. libvirt writes a command to a socket of
/// QEMU's that does not wait; where the socket takes only a part of it, libvirt 9.0.0 begins again
/// at its start, for ever, and neither the guest's agent nor this call comes back (seen with a
/// command of 259 KiB, of which the socket took 178 each time).
const MAX_INPUT: usize = 160 * 1024;
/// Of a file of the guest, what is read.
const MAX_FILE: usize = 128 * 1024;
/// Between two questions about a command that still runs.
const POLL: Duration = Duration::from_millis(100);

/// How much of a spec the guest is to follow now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    All,
    /// The certificate and the CA for the health checks, whatever else waits for a restart.
    Tls,
}

/// How far cloud-init is, by the file that it writes: reading it starts no process in a guest that
/// is busy booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootProgress {
    NotStarted,
    /// In the stage named.
    Running(String),
    /// It has ended, or has met an error: its result can be asked for.
    Decided,
}

/// cloud-init's `status.json`, as far as it is needed here (cloud-init documentation, "Exported
/// error data").
#[derive(Deserialize)]
struct StatusFile {
    v1: serde_json::Map<String, Value>,
}

/// Why the guest gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestError {
    /// The agent does not answer: not there yet, stopped, or blocked.
    Unresponsive(String),
    /// The agent runs, and the program or file is not there (yet).
    NotInstalled,
    /// An answer that makes no sense.
    Malformed(String),
    /// An error of libvirt itself.
    Host(HostError),
}

/// Whether a running guest can be changed through its agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentAvailability {
    /// It was not asked.
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
    /// It refused, and is unchanged, or says what is not.
    Refused { said: String, restored: bool },
    /// No answer that lbctl could read: whether the change was made is unknown.
    Unknown(GuestError),
}

impl ConvergeError {
    /// As the failed step's error.
    #[must_use]
    pub fn into_host_error(self, doing: impl Into<Operation>) -> HostError {
        let (kind, said, hint) = match self {
            Self::Refused {
                said,
                restored: true,
            } => (
                HostErrorKind::Other,
                said,
                "the guest keeps running unchanged, and nothing else was changed; correct the cause, in \
                 the configuration, the cluster or the guest, and run the same command again",
            ),
            Self::Refused { said, .. } => (
                HostErrorKind::Other,
                said,
                "the guest could not restore everything: check it now (`lbctl status`, `lbctl console`); `lbctl up` \
                 tries again",
            ),
            Self::Unknown(GuestError::Host(error)) => return error,
            Self::Unknown(error) => (
                HostErrorKind::Agent,
                error.to_string(),
                "the change may be incomplete in the guest, which keeps working; run the same command again to \
                 complete it, or complete it by a restart with `--restart now`",
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
            Self::Unresponsive(said) => write!(f, "its agent does not answer: {said}"),
            Self::NotInstalled => {
                f.write_str("its agent answers; cloud-init has not installed lbctl's program yet")
            }
            Self::Malformed(said) => write!(f, "the answer of its agent cannot be read: {said}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for GuestError {}

/// Those of the programs, by their names, that are not among the spec's files.
fn programs_beside(spec: &GuestSpec) -> Value {
    let is_in_spec = |name: &str, text: &str| {
        let path = program_path(name);
        spec.files
            .iter()
            .any(|file| file.path == path && file.content.expose() == text)
    };
    let has = |name: &str| {
        spec.files
            .iter()
            .any(|file| file.path == program_path(name))
    };
    let shares = has("lbctl_guest/vip_watch.py");
    let sent = programs(shares).filter(|(name, text)| !is_in_spec(name, text));
    sent.map(|(name, text)| (name.to_owned(), Value::from(text)))
        .collect()
}

/// As `receive.py` unpacks it. bzip2, for it sees all of a task at once: 240 KiB of text, whose
/// parts are alike and far from each other, become 54 KiB, where zlib leaves 66. In blocks of 300
/// kB, which take no more memory than needed.
fn packed(task: &Secret) -> std::io::Result<Secret> {
    let mut bytes = Vec::new();
    BzEncoder::new(task.expose().as_bytes(), Compression::new(3)).read_to_end(&mut bytes)?;
    Ok(Secret::new(BASE64.encode(bytes)))
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
    channel: &'a dyn AgentChannel,
    domain: &'a str,
}

#[derive(Debug, Clone)]
pub(super) struct ProgramOutput {
    pub exit_code: i64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl<'a> Guest<'a> {
    #[must_use]
    pub fn new(channel: &'a dyn AgentChannel, domain: &'a str) -> Self {
        Self { channel, domain }
    }

    /// Asks lbctl's program in the guest for its view. Takes no longer than the deadline.
    pub fn status(&self, deadline: Duration) -> Result<GuestStatus, GuestError> {
        let output = self.program(&["status"], deadline)?;
        if output.exit_code != 0 {
            let said = sanitize_line(&String::from_utf8_lossy(&output.stderr), 400);
            return Err(GuestError::Malformed(format!(
                "`lbctl-guest status` ended with exit code {}: {said}",
                output.exit_code
            )));
        }
        serde_json::from_slice::<GuestStatus>(&output.stdout)
            .map(GuestStatus::cleaned)
            .map_err(|e| {
                GuestError::Malformed(sanitize_line(
                    &format!("the answer of `lbctl-guest status` cannot be read: {e}"),
                    400,
                ))
            })
    }

    /// Whether it can be changed: the agent answers, and may run programs.
    #[must_use]
    pub fn availability(&self, deadline: Duration) -> AgentAvailability {
        let info = json!({"execute": "guest-info"});
        let info = match self.ask(&info, Instant::now() + deadline) {
            Ok(info) => info,
            Err(error) => return AgentAvailability::Out(error.to_string()),
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
            None => AgentAvailability::Ready,
            Some(name) => AgentAvailability::Out(format!(
                "its agent is forbidden to run programs ({name} is switched off in the guest's qemu-ga configuration)"
            )),
        }
    }

    /// Brings the guest to the spec. The program that does it is sent along: the one in the guest
    /// may be older. `despite`: addresses of nodes that have no vote on a new certificate.
    pub fn converge(
        &self,
        spec: &GuestSpec,
        extent: Extent,
        despite: &[String],
        deadline: Duration,
    ) -> Result<Converged, ConvergeError> {
        let only: &[&str] = match extent {
            Extent::All => &[],
            Extent::Tls => &[CLIENT_PEM, CA_PEM],
        };
        // Put together as text: a JSON value in between would leave copies of secrets in memory.
        let input = Secret::new(format!(
            r#"{{"programs": {}, "only": {}, "despite": {}, "spec": {}}}"#,
            programs_beside(spec),
            json!(only),
            json!(despite),
            spec.to_json().expose()
        ));
        let args = [
            "-I",
            "-S",
            "-B",
            "-c",
            include_str!("../../templates/guest/receive.py"),
        ];
        let refused = |said| ConvergeError::Refused {
            said,
            restored: true,
        };
        let packed = packed(&input)
            .map_err(|e| refused(format!("this change cannot be packed to be sent: {e}")))?;
        let size = packed.expose().len();
        if size > MAX_INPUT {
            let said = format!(
                "this change is {} KiB, packed, and libvirt may hang with more than {}",
                size / 1024,
                MAX_INPUT / 1024
            );
            return Err(refused(said));
        }
        let output = self
            .run_with("/usr/bin/python3", &args, Some(&packed), deadline)
            .map_err(ConvergeError::Unknown)?;
        let Ok(answer) = serde_json::from_slice::<ConvergeAnswer>(&output.stdout) else {
            let said = sanitize_line(&String::from_utf8_lossy(&output.stderr), 600);
            let said = format!("exit {}: {said}", output.exit_code);
            return Err(ConvergeError::Unknown(GuestError::Malformed(said)));
        };
        if answer.ok {
            let notes = answer.notes.iter().take(20);
            return Ok(Converged {
                notes: notes.map(|note| sanitize_line(note, 400)).collect(),
            });
        }
        Err(ConvergeError::Refused {
            said: sanitize_line(&answer.error, 2000),
            restored: answer.restored,
        })
    }

    /// Reads cloud-init's file.
    pub fn boot_progress(&self, deadline: Duration) -> Result<BootProgress, GuestError> {
        let end = Instant::now() + deadline;
        let text = match self.read_file("/run/cloud-init/status.json", end) {
            Err(GuestError::NotInstalled) => {
                return Ok(match self.read_file("/run/cloud-init/disabled", end) {
                    Err(GuestError::NotInstalled) => BootProgress::NotStarted,
                    other => other.map(|_| BootProgress::Decided)?,
                });
            }
            other => other?,
        };
        // cloud-init rewrites it in place: half a file is ignored.
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
        Ok(BootProgress::Running(sanitize_line(stage, 40)))
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
        let text: Vec<String> = text.lines().map(|line| sanitize_line(line, 200)).collect();
        text[text.len().saturating_sub(lines)..].to_vec()
    }

    /// Runs lbctl's own program there.
    pub(super) fn program(
        &self,
        args: &[&str],
        deadline: Duration,
    ) -> Result<ProgramOutput, GuestError> {
        self.run(PROGRAM, args, deadline)
    }

    pub(super) fn run(
        &self,
        path: &str,
        args: &[&str],
        deadline: Duration,
    ) -> Result<ProgramOutput, GuestError> {
        self.run_with(path, args, None, deadline)
    }

    /// Secrets go by standard input, which is given in base64: everybody in the guest can see
    /// arguments.
    fn run_with(
        &self,
        path: &str,
        args: &[&str],
        input: Option<&Secret>,
        deadline: Duration,
    ) -> Result<ProgramOutput, GuestError> {
        let end = Instant::now() + deadline;
        let mut arguments = json!({"path": path, "arg": args, "capture-output": true});
        if let (Some(input), Some(object)) = (input, arguments.as_object_mut()) {
            object.insert("input-data".into(), input.expose().into());
        }
        let started = self.ask(
            &json!({"execute": "guest-exec", "arguments": arguments}),
            end,
        )?;
        let pid = started
            .get("pid")
            .and_then(Value::as_i64)
            .ok_or_else(|| malformed("guest-exec returned no pid"))?;
        loop {
            let status = self.ask(
                &json!({"execute": "guest-exec-status", "arguments": {"pid": pid}}),
                end,
            )?;
            if status.get("exited").and_then(Value::as_bool) == Some(true) {
                return Ok(ProgramOutput {
                    exit_code: status.get("exitcode").and_then(Value::as_i64).unwrap_or(-1),
                    stdout: decode(&status, "out-data")?,
                    stderr: decode(&status, "err-data")?,
                });
            }
            if Instant::now() >= end {
                return Err(GuestError::Unresponsive(format!(
                    "{path} did not end within {} s",
                    deadline.as_secs()
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    pub(super) fn ask(&self, command: &Value, end: Instant) -> Result<Value, GuestError> {
        let rest = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1));
        let answer = self
            .channel
            .agent(self.domain, &command.to_string(), rest)
            .map_err(agent_error)?;
        if answer.len() > MAX_ANSWER {
            return Err(malformed("the answer is longer than lbctl asked for"));
        }
        let answer: Value = serde_json::from_str(&answer).map_err(|e| malformed(&e.to_string()))?;
        answer
            .get("return")
            .cloned()
            .ok_or_else(|| malformed("the answer has no `return`"))
    }
}

fn agent_error(error: HostError) -> GuestError {
    let said = error.said.to_ascii_lowercase();
    match error.kind {
        // The agent's own error: the file to run is not there. It has no code of its own.
        HostErrorKind::Agent | HostErrorKind::State | HostErrorKind::Other
            if said.contains("no such file") =>
        {
            GuestError::NotInstalled
        }
        HostErrorKind::Connection | HostErrorKind::NotFound | HostErrorKind::Permission => {
            GuestError::Host(error)
        }
        HostErrorKind::Agent
        | HostErrorKind::State
        | HostErrorKind::Exists
        | HostErrorKind::Other => GuestError::Unresponsive(sanitize_line(&error.said, 200)),
    }
}

pub(super) fn decode(status: &Value, field: &str) -> Result<Vec<u8>, GuestError> {
    let text = status
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default();
    if text.len() > MAX_OUTPUT {
        return Err(malformed("the answer is too long for a status"));
    }
    BASE64.decode(text).map_err(|e| malformed(&e.to_string()))
}

pub(super) fn malformed(said: &str) -> GuestError {
    GuestError::Malformed(sanitize_line(said, 200))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::cell::RefCell;

    use super::*;
    use crate::host::HostResult;

    struct Scripted(RefCell<Vec<HostResult<String>>>);

    impl AgentChannel for Scripted {
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
            assert!(matches!(status(answers), Err(GuestError::Malformed(_))));
        }
    }

    #[test]
    fn an_agent_that_may_not_run_programs_is_recognised() {
        let availability = |exec: bool| {
            let info = json!({"return": {"supported_commands": [
                {"name": "guest-exec", "enabled": exec},
                {"name": "guest-exec-status", "enabled": true},
            ]}});
            let channel = Scripted(RefCell::new(vec![Ok(info.to_string())]));
            Guest::new(&channel, "lb").availability(Duration::from_secs(5))
        };
        assert_eq!(availability(true), AgentAvailability::Ready);
        let AgentAvailability::Out(why) = availability(false) else {
            panic!("it may not run programs")
        };
        assert!(why.contains("guest-exec is switched off"), "{why}");
    }

    #[test]
    fn a_silent_agent_and_a_broken_connection_are_different_errors() {
        let error = |kind, said: &str| vec![Err(HostError::new(kind, "asking", said))];
        assert!(matches!(
            status(error(HostErrorKind::Agent, "not connected")),
            Err(GuestError::Unresponsive(_))
        ));
        assert!(matches!(
            status(error(HostErrorKind::Connection, "gone")),
            Err(GuestError::Host(_))
        ));
        let absent = "Failed to execute child process “/usr/local/lib/lbctl/lbctl-guest” (No such file or directory)";
        assert_eq!(
            status(error(HostErrorKind::Other, absent)),
            Err(GuestError::NotInstalled)
        );
    }
}

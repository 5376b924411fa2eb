//! What tests on a lab share: the lab's facts, and running programs with an end that can be
//! asserted. Nothing here knows what is tested.
//!
//! A lab that is not there is a failure, never a skipped test.

pub mod endings;
pub mod host;
pub mod https;
pub mod inputs;
pub mod search;
pub mod transcript;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::Index;
use std::process::{Command, Stdio};
use std::{env, fs};

/// Longer than anything a test waits for, shorter than the patience of who waits for the tests.
const LONGEST: u64 = 300;

/// A lab that is up (`tests/lab/write-env` explains each key).
#[derive(Clone)]
pub struct Lab(BTreeMap<String, String>);

impl Lab {
    /// libvirtd, pools and networks only.
    pub fn bare() -> Self {
        Self::new("LBCTL_LAB_BARE", "bare")
    }

    /// And a guest image, and a real Patroni.
    pub fn full() -> Self {
        Self::new("LBCTL_LAB_FULL", "full")
    }

    fn new(variable: &str, profile: &str) -> Self {
        let help = format!(
            "`./dev test` brings the labs up by itself; by hand: {variable}=$(tests/lab/up {profile}), and in the end tests/lab/down"
        );
        let Ok(path) = env::var(variable) else {
            panic!("{variable} is not set, and this test needs a lab. {help}")
        };
        assert!(
            fs::exists(&path).unwrap(),
            "the lab's {path} cannot be read. {help}"
        );
        Self::at(&path)
    }

    /// Of an env file.
    pub fn at(path: &str) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    pub fn virsh(&self, command: &str) -> Ran {
        run("virsh", ["-q", "-c", &self["LIBVIRT_URI"], command])
    }
}

impl Index<&str> for Lab {
    type Output = String;

    fn index(&self, key: &str) -> &String {
        self.0
            .get(key)
            .unwrap_or_else(|| panic!("the lab's env file has no {key}"))
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    line: String,
    /// Words of the expectations and their values here.
    words: Vec<(&'static str, String)>,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end, without a terminal.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Ran {
    run_for(LONGEST, program, arguments)
}

/// Runs a program that may take that many seconds.
pub fn run_for<A: AsRef<OsStr>>(
    seconds: u64,
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Ran {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string(), program]);
    finish(command.args(arguments))
}

/// The lbctl under test, with what the caller's own environment says of libvirt and configurations
/// taken away.
pub fn lbctl<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    run(env!("CARGO_BIN_EXE_lbctl"), arguments)
}

fn finish(command: &mut Command) -> Ran {
    for variable in ["LIBVIRT_DEFAULT_URI", "LBCTL_CONFIG", "RUST_LOG"] {
        command.env_remove(variable);
    }
    let words = command.get_args().skip(2);
    let line: Vec<_> = words.map(|a| a.to_string_lossy().into_owned()).collect();
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ran {
        line: line.join(" "),
        words: Vec::new(),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: without_waiting(&String::from_utf8_lossy(&output.stderr)),
    }
}

/// Without what lbctl says only because this machine was busy: that it has waited for libvirt, or
/// for a step, for some seconds.
fn without_waiting(said: &str) -> String {
    let is_waiting = |line: &&str| {
        let Some(rest) = line.trim_end().strip_prefix("  waiting: ") else {
            return false;
        };
        let done = |other: &str| {
            other
                .strip_prefix("  ")
                .is_some_and(|o| o.starts_with(rest))
        };
        rest.starts_with("asking ")
            || rest.starts_with("connecting to libvirt")
            || said.lines().any(done)
    };
    let lines = said.split_inclusive('\n');
    lines.filter(|line| !is_waiting(line)).collect()
}

impl Ran {
    /// Puts each word's value for the word in what is expected from now on.
    pub fn with_words(mut self, words: Vec<(&'static str, String)>) -> Self {
        self.words = words;
        self
    }

    fn has(&self, text: &str) -> bool {
        let text = fill(text, &self.words);
        self.stdout.contains(&text) || self.stderr.contains(&text)
    }

    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert!(self.code == code, "exit {code} was expected of {self}");
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.ended(0)
    }

    /// Asserts that each of the texts is there, on standard output or standard error.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.has(text), "`{text}` was expected of {self}");
        }
        self
    }

    #[track_caller]
    pub fn does_not_say(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(!self.has(text), "`{text}` was not expected of {self}");
        }
        self
    }

    /// What lbctl printed with `--json`, which is as `lbctl schema output` describes it.
    #[track_caller]
    pub fn document(&self) -> serde_json::Value {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let schema = lbctl(["schema", "output"]).ok().stdout;
        fs::write(path("schema"), schema).unwrap();
        fs::write(path("document"), &self.stdout).unwrap();
        let judge = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/judge.py");
        let arguments = ["-B", judge, &path("schema"), &path("document")];
        let said = run("/usr/bin/python3", arguments).ok().stdout;
        assert!(said.is_empty(), "{said}was said of {self}");
        self.json()
    }

    /// The lines that lbctl printed with `--events`, each as `lbctl schema events` describes it,
    /// and the document that is the last one.
    #[track_caller]
    pub fn events(&self) -> (Vec<serde_json::Value>, serde_json::Value) {
        let (events, document) = match self.stdout.trim_end().rsplit_once('\n') {
            Some((events, document)) => (events, document),
            None => ("", self.stdout.as_str()),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let judge = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/judge.py");
        for (of, lines) in [("events", events), ("output", document)] {
            fs::write(path(of), lbctl(["schema", of]).ok().stdout).unwrap();
            let mut words = vec!["-B".to_owned(), judge.to_owned(), path(of)];
            for (number, line) in lines.lines().enumerate() {
                let name = path(&format!("{of}-{number}"));
                fs::write(&name, line).unwrap();
                words.push(name);
            }
            let said = run("/usr/bin/python3", words).ok().stdout;
            assert!(said.is_empty(), "{said}was said of {self}");
        }
        let read = |line: &str| serde_json::from_str(line).unwrap();
        (events.lines().map(read).collect(), read(document))
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("JSON was expected ({e}) of {self}"))
    }
}

/// The task that is sent to a guest, from a command's `input-data`.
pub fn unpacked(input: &str) -> serde_json::Value {
    use base64::Engine as _;
    let packed = base64::engine::general_purpose::STANDARD.decode(input);
    serde_json::from_reader(bzip2::read::BzDecoder::new(&*packed.unwrap())).unwrap()
}

/// Puts each word's value for the word, in their order.
pub fn fill(text: &str, words: &[(&str, String)]) -> String {
    let put = |text: String, (word, value): &(&str, String)| text.replace(word, value);
    words.iter().fold(text.to_owned(), put)
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            line,
            words: _,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{line}`, which ended with {code}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

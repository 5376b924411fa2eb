//! Everything that is printed. Data goes to standard output, all else to standard error. Colour only on a terminal and
//! never alone: what a colour says, a word says too.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::apply::Progress;
use crate::cli::ColorChoice;
use crate::config::Report;
use crate::failure::Failure;
use crate::plan::Step;

/// Version of every JSON document that lbctl prints.
pub const SCHEMA: u32 = 1;

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const CYAN: &str = "\u{1b}[36m";
const RESET: &str = "\u{1b}[0m";

pub struct Output {
    pub json: bool,
    pub verbose: u8,
    color_stdout: bool,
    color_stderr: bool,
}

impl Output {
    #[must_use]
    pub fn new(json: bool, verbose: u8, color: ColorChoice) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let wanted = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color,
        };
        Self {
            json,
            verbose,
            color_stdout: wanted(io::stdout().is_terminal()),
            color_stderr: wanted(io::stderr().is_terminal()),
        }
    }

    /// Whether what goes to standard error is coloured.
    #[must_use]
    pub fn colored(&self) -> bool {
        self.color_stderr
    }

    /// Writes data. A reader that has gone away (`| head`) is no error.
    pub fn data(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    pub fn data_line(&self, text: &str) {
        self.data(&format!("{text}\n"));
    }

    /// A heading in data for people.
    pub fn heading(&self, text: &str) {
        self.data_line(&if self.color_stdout {
            format!("{BOLD}{text}{RESET}")
        } else {
            text.to_owned()
        });
    }

    /// The one JSON document of a command.
    pub fn document(&self, mut value: Value) {
        if let Some(object) = value.as_object_mut() {
            object.insert("schema".into(), SCHEMA.into());
        }
        self.data_line(&serde_json::to_string_pretty(&value).unwrap_or_default());
    }

    /// What is going on, for people.
    pub fn say(&self, text: &str) {
        Self::stderr(text);
    }

    pub fn warn(&self, text: &str) {
        Self::stderr(&format!("{}: {text}", self.paint(YELLOW, "warning")));
    }

    pub fn report(&self, report: &Report) {
        Self::stderr(report.render(self.color_stderr).trim_end());
        if self.json {
            let problems: Vec<Value> = report
                .problems
                .iter()
                .map(|p| {
                    let (key, message, help) = (&p.key, &p.message, &p.help);
                    serde_json::json!({"key": key, "line": p.line, "column": p.column, "message": message, "help": help})
                })
                .collect();
            self.document(serde_json::json!({"error": {"exit_code": 2, "problems": problems}}));
        }
    }

    pub fn failure(&self, failure: &Failure) {
        for message in &failure.messages {
            let label = if message.note {
                self.paint(CYAN, "note")
            } else {
                self.paint(RED, "error")
            };
            Self::stderr(&format!("{label}: {}", message.text));
            if !message.hint.is_empty() {
                Self::stderr(&format!("  {}: {}", self.paint(CYAN, "help"), message.hint));
            }
            for line in &message.detail {
                Self::stderr(&format!("  | {line}"));
            }
        }
        if self.json {
            let messages: Vec<Value> = failure
                .messages
                .iter()
                .map(|m| serde_json::json!({"message": m.text, "help": m.hint, "detail": m.detail}))
                .collect();
            self.document(serde_json::json!({"error": {"exit_code": failure.exit as u8, "messages": messages}}));
        }
    }

    /// Asks on the terminal; `None` where there is none.
    #[must_use]
    pub fn ask(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "y" | "yes"
        ))
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.color_stderr {
            format!("{color}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    fn stderr(text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

impl Progress for &Output {
    fn begin(&mut self, step: &Step) {
        tracing::info!("{step}");
    }

    fn end(&mut self, step: &Step, took: Duration) {
        self.say(&format!("  {step} ({})", seconds(took)));
    }

    fn note(&mut self, text: &str) {
        self.say(&format!("  {text}"));
    }
}

/// `0.04 s`, `12 s`, `3 min 5 s`
#[must_use]
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.2} s", time.as_secs_f64()),
        10..=119 => format!("{} s", time.as_secs()),
        long => format!("{} min {} s", long / 60, long % 60),
    }
}

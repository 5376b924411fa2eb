//! Everything that is printed. Data goes to standard output, all else to standard error. Colour only on a terminal and
//! never alone: what a colour says, a word says too.

pub mod failure;
pub mod interrupt;
pub mod json;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::cli::ColorChoice;
use crate::config::{Problem, Report, render_warnings};
use crate::exit::{Exit, Failure, Message};
use crate::output::json::{
    Answer, Body, Document, ErrorDocument, FailureDocument, MessageDocument, ProblemDocument,
};
use crate::text::sanitize::{escape_json, sanitize_for_terminal};
use crate::text::width::hang;

use terminal::{Pictures, can_draw, columns};

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const CYAN: &str = "\u{1b}[36m";
const RESET: &str = "\u{1b}[0m";

#[derive(Clone)]
pub struct Output {
    /// The command that was given, for a JSON document of its failure.
    command: String,
    pub json: bool,
    pub verbose: u8,
    color_stdout: bool,
    color_stderr: bool,
    pictures: Pictures,
}

impl Output {
    #[must_use]
    pub fn new(command: &str, json: bool, verbose: u8, color: ColorChoice) -> Self {
        Self {
            command: command.to_owned(),
            json,
            verbose,
            color_stdout: colored(color, &io::stdout()),
            color_stderr: colored(color, &io::stderr()),
            pictures: Pictures::default(),
        }
    }

    /// Writes data. A reader that has gone away (`| head`) is no error.
    pub fn data(&self, text: &str) {
        // A file or a pipe gets what was asked for, to the byte.
        let _ = if io::stdout().is_terminal() {
            Self::written(&sanitize_for_terminal(text))
        } else {
            Self::written(text)
        };
    }

    /// Writes data, if somebody reads it.
    fn written(text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    pub fn data_line(&self, text: &str) {
        self.data(&format!("{}\n", sanitize_for_terminal(text)));
    }

    /// A heading in data for people.
    pub fn heading(&self, text: &str) {
        self.block(&[hang(text, self.columns())]);
    }

    /// A line of data for people, broken to the terminal's width if it goes to one.
    pub fn line(&self, text: &str) {
        self.data_line(&hang(text, self.columns()));
    }

    /// Data for people: the first line is its heading.
    pub fn block(&self, lines: &[String]) {
        self.data(&self.with_heading(lines));
    }

    /// One of many blocks. Whether somebody reads them still.
    #[must_use]
    pub fn next_block(&self, lines: &[String]) -> bool {
        Self::written(&format!("{}\n", self.with_heading(lines))).is_ok()
    }

    fn with_heading(&self, lines: &[String]) -> String {
        let mut text = lines.join("\n");
        if let (true, Some(heading)) = (self.color_stdout, lines.first()) {
            text.replace_range(..heading.len(), &format!("{BOLD}{heading}{RESET}"));
        }
        sanitize_for_terminal(&text).into_owned() + "\n"
    }

    /// Columns for data for people; `None`: as many as it takes.
    #[must_use]
    pub fn columns(&self) -> Option<usize> {
        columns(&io::stdout())
    }

    /// Whether [`Output::screen`] can draw.
    #[must_use]
    pub fn has_screen(&self) -> bool {
        !self.json && self.verbose == 0 && can_draw(&io::stdout())
    }

    /// Draws the whole screen anew, until [`Output::leave`], which lets `lines` stand and not the foot. The first line is
    /// the heading.
    pub fn screen(&self, lines: &[String], foot: &[String]) {
        let foot: Vec<String> = foot
            .iter()
            .map(|line| sanitize_for_terminal(line).into_owned())
            .collect();
        self.pictures.screen(self.with_heading(lines), &foot);
    }

    /// The one JSON document of a command that did what it is for.
    pub fn answer(&self, answer: Answer) {
        self.document(answer.into());
    }

    fn document(&self, body: Body) {
        let text = serde_json::to_string_pretty(&Document::new(body)).unwrap_or_default();
        self.data_line(&escape_json(&text));
    }

    /// One of many JSON documents, a line each. Whether somebody reads them still.
    #[must_use]
    pub fn next_document(&self, body: Body) -> bool {
        let text = serde_json::to_string(&Document::new(body)).unwrap_or_default();
        Self::written(&format!("{}\n", escape_json(&text))).is_ok()
    }

    /// What is going on, for people.
    pub fn say(&self, text: &str) {
        self.stderr(&hang(text, columns(&io::stderr())));
    }

    /// A line on standard error that begins with a word in its colour.
    fn labelled(&self, indent: &str, color: &str, label: &str, text: &str) {
        let line = hang(&format!("{indent}{label}: {text}"), columns(&io::stderr()));
        self.stderr(&line.replacen(label, &self.paint(color, label), 1));
    }

    /// What is going on just now. On a terminal it is one line that tells the time it takes, until another one takes its
    /// place or [`Output::end_live`]. Elsewhere: whether it is to be told in another way.
    #[must_use]
    pub fn live(&self, text: &str) -> bool {
        // What is traced would get in between.
        let drawn = self.verbose == 0 && can_draw(&io::stderr());
        if drawn {
            self.pictures.line(&sanitize_for_terminal(text));
        }
        drawn
    }

    pub fn end_live(&self) {
        self.pictures.end_line();
    }

    /// Puts the terminal back as it was, before the last words.
    pub fn leave(&self) {
        self.pictures.leave();
    }

    pub fn warn(&self, text: &str) {
        self.labelled("", YELLOW, "warning", text);
    }

    /// What the author of a configuration should know.
    pub fn warnings(&self, warnings: &[Problem]) {
        if !warnings.is_empty() {
            let text = render_warnings(warnings, self.color_stderr, columns(&io::stderr()));
            self.stderr(text.trim_end());
        }
    }

    pub fn report(&self, report: &Report) {
        let text = report.render(self.color_stderr, columns(&io::stderr()));
        self.stderr(text.trim_end());
        if self.json {
            let place = |count: usize| (count > 0).then_some(count);
            let problem = |p: &Problem| ProblemDocument {
                key: p.key.clone(),
                line: place(p.line),
                column: place(p.column),
                message: p.message.clone(),
                help: p.help.clone(),
            };
            self.error(
                Exit::Usage,
                report.problems.iter().map(problem).collect(),
                Vec::new(),
            );
        }
    }

    pub fn failure(&self, failure: &Failure) {
        self.end_live();
        for message in &failure.messages {
            let (color, label) = if message.note {
                (CYAN, "note")
            } else {
                (RED, "error")
            };
            self.labelled("", color, label, &message.text);
            if !message.hint.is_empty() {
                self.labelled("  ", CYAN, "help", &message.hint);
            }
            for line in &message.detail {
                self.stderr(&format!("  | {line}"));
            }
        }
        if self.json {
            let message = |m: &Message| MessageDocument {
                message: m.text.clone(),
                help: m.hint.clone(),
                detail: m.detail.clone(),
                note: m.note,
            };
            self.error(
                failure.exit,
                Vec::new(),
                failure.messages.iter().map(message).collect(),
            );
        }
    }

    fn error(&self, exit: Exit, problems: Vec<ProblemDocument>, messages: Vec<MessageDocument>) {
        self.document(Body::Failure(FailureDocument {
            command: self.command.clone(),
            name: None,
            time: None,
            error: ErrorDocument {
                exit_code: Some(exit as u8),
                problems,
                messages,
            },
        }));
    }

    /// Asks on the terminal; `None` where there is none.
    #[must_use]
    pub fn ask(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let question = hang(
            &format!("{} [y/N]", sanitize_for_terminal(question)),
            columns(&io::stderr()),
        );
        eprint!("{question} ");
        let mut answer = String::new();
        self.pictures.asking(true);
        let read = io::stdin().read_line(&mut answer);
        self.pictures.asking(false);
        read.ok()?;
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

    fn stderr(&self, text: &str) {
        self.pictures.say(&sanitize_for_terminal(text));
    }
}

/// Whether what is written there has colours: as was asked for, or on a terminal of somebody who has not refused them
/// (no-color.org).
#[must_use]
pub fn colored(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    let refused = || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => stream.is_terminal() && !refused(),
    }
}

/// Where the log goes: to standard error, as everything that is no data.
pub struct Log;

impl Write for Log {
    /// An event at a time, which is a line of text.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr()
            .lock()
            .write_all(sanitize_for_terminal(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
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

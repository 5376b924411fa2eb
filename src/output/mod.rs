//! Everything that is printed. Data goes to standard output, all else to standard error. Colour
//! only on a terminal and never alone: what a colour shows, a word says, too.

pub mod failure;
mod format;
pub mod interrupt;
pub mod json;
mod plan;
pub mod report;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::cli::{ColorChoice, Global};
use crate::config::{Problem, Report, render_warnings};
use crate::exit::{Exit, Failure, Message};
use crate::output::json::{Body, ErrorDocument, FailureDocument, MessageDocument, ProblemDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart, WatchReport};
use crate::text::sanitize::sanitize_for_terminal;
use crate::text::width::hang;

use format::Format;
use terminal::{Pictures, can_draw, columns};

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const CYAN: &str = "\u{1b}[36m";
const RESET: &str = "\u{1b}[0m";

#[derive(Clone)]
pub struct Output {
    /// The command that was given, for the document of its failure.
    command: String,
    format: Format,
    verbose: u8,
    color_stdout: bool,
    color_stderr: bool,
    pictures: Pictures,
}

impl Output {
    #[must_use]
    pub fn new(command: &str, global: &Global) -> Self {
        Self {
            command: command.to_owned(),
            format: Format::new(global),
            verbose: global.verbose,
            color_stdout: colored(global.color, &io::stdout()),
            color_stderr: colored(global.color, &io::stderr()),
            pictures: Pictures::default(),
        }
    }

    /// Prints a command's report in the format that was asked for, and gives its exit code.
    pub fn report(&self, report: &dyn CommandReport) -> Exit {
        let body = report.document().map(Body::from);
        if let Some(document) = body.and_then(|body| self.format.document(body)) {
            Self::data_line(&document);
        } else {
            let options = TextOptions {
                columns: Self::stdout_columns(),
                verbose: self.verbose > 0,
            };
            for part in report.text(options) {
                self.part(&part);
            }
        }
        report.exit()
    }

    /// Prints the report of one update of many. Returns whether somebody still reads them.
    #[must_use]
    pub fn next_report(&self, report: &dyn WatchReport) -> bool {
        if let Some(line) = self.format.line(report.document()) {
            return Self::written(&format!("{line}\n")).is_ok();
        }
        if !self.has_screen() {
            let text = self.with_heading(&report.block());
            return Self::written(&format!("{text}\n")).is_ok();
        }
        let columns = Self::stdout_columns();
        self.screen(&report.screen(columns), &report.foot(columns));
        true
    }

    fn part(&self, part: &TextPart) {
        match part {
            TextPart::Heading(text) => self.block(&[hang(text, Self::stdout_columns())]),
            TextPart::Line(text) => Self::data_line(&hang(text, Self::stdout_columns())),
            TextPart::LongLine(text) => Self::data_line(text),
            TextPart::Block(lines) => self.block(lines),
            TextPart::Data(text) => Self::data(text),
            TextPart::Said(text) => self.say(text),
        }
    }

    /// Writes data. A reader that has ended (`| head`) is not an error.
    fn data(text: &str) {
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

    fn data_line(text: &str) {
        Self::data(&format!("{}\n", sanitize_for_terminal(text)));
    }

    /// Data for people: the first line is its heading.
    fn block(&self, lines: &[String]) {
        Self::data(&self.with_heading(lines));
    }

    fn with_heading(&self, lines: &[String]) -> String {
        let mut text = lines.join("\n");
        if let (true, Some(heading)) = (self.color_stdout, lines.first()) {
            text.replace_range(..heading.len(), &format!("{BOLD}{heading}{RESET}"));
        }
        sanitize_for_terminal(&text).into_owned() + "\n"
    }

    /// Columns for data for people; `None`: as many as it takes.
    fn stdout_columns() -> Option<usize> {
        columns(&io::stdout())
    }

    /// Whether a report is drawn on the whole screen, and so can show how old it is.
    #[must_use]
    pub fn has_screen(&self) -> bool {
        self.format.is_text() && self.verbose == 0 && can_draw(&io::stdout())
    }

    /// Draws the whole screen again, until [`Output::leave`], which keeps `lines` on the screen and
    /// not the foot. The first line is the heading.
    fn screen(&self, lines: &[String], foot: &[String]) {
        let foot: Vec<String> = foot
            .iter()
            .map(|line| sanitize_for_terminal(line).into_owned())
            .collect();
        self.pictures.screen(self.with_heading(lines), &foot);
    }

    /// What lbctl is doing, for people.
    pub fn say(&self, text: &str) {
        self.stderr(&hang(text, columns(&io::stderr())));
    }

    /// A line on standard error that begins with a word in its colour.
    fn labelled(&self, indent: &str, color: &str, label: &str, text: &str) {
        let line = hang(&format!("{indent}{label}: {text}"), columns(&io::stderr()));
        self.stderr(&line.replacen(label, &self.paint(color, label), 1));
    }

    /// What lbctl is doing now. On a terminal it is one line with the time it has taken, until
    /// another one replaces it or [`Output::end_live`]. Elsewhere it returns that it must be
    /// printed in another way.
    #[must_use]
    pub fn live(&self, text: &str) -> bool {
        // Lines of the log would get in between.
        let drawn = self.verbose == 0 && can_draw(&io::stderr());
        if drawn {
            self.pictures.line(&sanitize_for_terminal(text));
        }
        drawn
    }

    pub fn end_live(&self) {
        self.pictures.end_line();
    }

    /// Restores the terminal, before the last words.
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

    /// What is wrong with the configuration.
    pub fn problems(&self, report: &Report) {
        let text = report.render(self.color_stderr, columns(&io::stderr()));
        self.stderr(text.trim_end());
        let place = |count: usize| (count > 0).then_some(count);
        let problem = |p: &Problem| ProblemDocument {
            id: p.id,
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
        let message = |m: &Message| MessageDocument {
            id: m.id,
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

    /// The document of a failure, for programs; people have read its text on standard error.
    fn error(&self, exit: Exit, problems: Vec<ProblemDocument>, messages: Vec<MessageDocument>) {
        let body = Body::Failure(FailureDocument {
            command: self.command.clone(),
            name: None,
            time: None,
            error: ErrorDocument {
                exit_code: Some(exit as u8),
                problems,
                messages,
            },
        });
        if let Some(document) = self.format.document(body) {
            Self::data_line(&document);
        }
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

/// Whether what is written there has colours: as was asked for, or on a terminal where `NO_COLOR`
/// is not set (no-color.org).
#[must_use]
pub fn colored(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    let refused = || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => stream.is_terminal() && !refused(),
    }
}

/// Where the log is written: to standard error, as everything that is not data.
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

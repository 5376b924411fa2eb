//! Everything that is printed. Data goes to standard output, all else to standard error. Colour
//! only on a terminal and never alone: what a colour shows, a word says, too.

mod asking;
pub mod failure;
mod format;
pub mod interrupt;
pub mod json;
mod plan;
mod problems;
mod progress;
pub mod report;
mod terminal;
mod work;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::cli::{ColorChoice, Global};
use crate::exit::Exit;
use crate::output::json::Body;
use crate::output::report::{CommandReport, TextOptions, TextPart, WatchReport};
use crate::text::sanitize::sanitize_for_terminal;
use crate::text::styled::{Style, Styled};

pub use asking::When;
use format::Format;
pub use plan::{change_line, diff_line};
use terminal::{Limit, Pictures, can_draw, columns, span};
use work::Work;

/// After which silence something is said where nothing can be drawn.
const SILENCE: Duration = Duration::from_secs(3);

/// The streams of this process, and what is said on them of one load balancer. Each VM of several
/// has one of its own ([`Output::of_vm`]); the streams, and what moves on them, are the same.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct Output {
    /// The command that was given, for the document of its failure.
    command: String,
    format: Format,
    verbose: u8,
    quiet: bool,
    color_stdout: bool,
    color_stderr: bool,
    pictures: Pictures,
    /// Others are waited for at the same time, and one line says so for all of them.
    beside: bool,
    /// Of the load balancer, once its configuration was read. Of several VMs: none.
    name: Arc<OnceLock<String>>,
    work: Arc<Mutex<Work>>,
    /// Dropping it ends the wait for [`SILENCE`].
    silence: Arc<Mutex<Option<Sender<()>>>>,
    /// What usually comes next, which is said below the report.
    next: Arc<Mutex<Option<String>>>,
}

/// Something that takes a moment; it is over when this is dropped.
pub struct Working<'a>(&'a Output);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.end_live();
    }
}

/// A terminal that passes on each key; it is as it was when this is dropped.
pub struct RawTerminal<'a>(&'a Output);

impl Drop for RawTerminal<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Output {
    #[must_use]
    pub fn new(command: &str, global: &Global) -> Self {
        Self {
            command: command.to_owned(),
            format: Format::new(global),
            verbose: global.verbose,
            quiet: global.quiet,
            color_stdout: colored(global.color, &io::stdout()),
            color_stderr: colored(global.color, &io::stderr()),
            pictures: Pictures::default(),
            beside: false,
            name: Arc::default(),
            work: Arc::new(Mutex::new(Work::new())),
            silence: Arc::default(),
            next: Arc::default(),
        }
    }

    /// From now on every message and every document says whose it is.
    pub fn set_name(&self, name: &str) {
        let _ = self.name.set(name.to_owned());
    }

    /// For one of several VMs: with its name, and a record of its own that begins now.
    #[must_use]
    pub fn of_vm(&self, name: &str) -> Self {
        Self {
            name: Arc::new(OnceLock::from(name.to_owned())),
            work: Arc::new(Mutex::new(Work::new())),
            ..self.clone()
        }
    }

    /// The same for what is done beside the same of other VMs: it says nothing of its own waiting.
    #[must_use]
    pub fn beside_others(&self) -> Self {
        Self {
            beside: true,
            ..self.clone()
        }
    }

    /// A message with the load balancer's name before it.
    fn named(&self, text: &str) -> String {
        self.name
            .get()
            .map_or_else(|| text.to_owned(), |name| named(name, text))
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose libvirt daemon is asked.
    pub fn set_uri(&self, uri: &str) {
        self.work().uri = Some(uri.to_owned());
    }

    /// What a failure after this has in its document.
    pub fn set_facts(&self, address: Option<String>, libvirt_calls: u32) {
        self.work().address = address;
        self.set_calls(libvirt_calls);
    }

    /// How many calls were made to libvirt so far.
    pub fn set_calls(&self, libvirt_calls: u32) {
        self.work().libvirt_calls = Some(libvirt_calls);
    }

    /// Shows what takes a moment, if it takes longer than that.
    #[must_use]
    pub fn working(&self, text: &str, most: Option<Duration>) -> Working<'_> {
        let limit = most.map_or(Limit::Soon, Limit::AtMost);
        if !self.live(text, Some(limit)) {
            let most = most.map_or_else(String::new, |most| format!(", at most {}", span(most)));
            self.after_silence(format!("  waiting: {text}{most}"));
        }
        Working(self)
    }

    /// Says it unless [`Output::end_live`] comes before.
    fn after_silence(&self, text: String) {
        if self.quiet {
            return;
        }
        let (send, receive) = channel();
        let out = self.clone();
        std::thread::spawn(move || {
            if receive.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                out.say(text);
            }
        });
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        *silence = Some(send);
    }

    /// Prints a command's report in the format that was asked for, and gives its exit code. A
    /// report that was not written whole is a failure: a file that was to hold it is cut short.
    pub fn report(&self, report: &dyn CommandReport) -> Exit {
        let options = TextOptions {
            columns: Self::stdout_columns(),
            verbose: self.verbose > 0,
            signs: io::stdout().is_terminal() && speaks_utf8(|name| std::env::var(name).ok()),
        };
        let document = report.body().and_then(|body| self.format.document(body));
        let written = if let Some(document) = document {
            for part in report.text(options) {
                // As of any failure, people read on standard error what programs read in the
                // document.
                if let TextPart::Messages(messages) = part {
                    self.messages(&messages);
                }
            }
            Self::document_line(&document)
        } else {
            let parts = report.text(options);
            parts.iter().try_for_each(|part| self.part(part))
        };
        match written {
            // A reader that has ended (`| head`) has what it wanted.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let text = format!("writing to standard output: {error}");
                self.labelled("", Style::Bad, "error", &text);
                Exit::Failed
            }
            _ => {
                self.say_hint();
                report.exit()
            }
        }
    }

    /// Prints the report of one update of many. Returns whether somebody still reads them.
    #[must_use]
    pub fn next_report(&self, report: &dyn WatchReport) -> bool {
        if let Some(line) = self.format.line(report.document()) {
            return Self::written(&format!("{line}\n")).is_ok();
        }
        if !self.has_screen() {
            let text = self.with_heading(report.block());
            return Self::written(&format!("{text}\n")).is_ok();
        }
        let columns = Self::stdout_columns();
        self.screen(report.screen(columns), &report.foot(columns));
        true
    }

    /// Prints lines of many, or their document. Returns whether somebody still reads them.
    #[must_use]
    pub fn next_lines(&self, lines: &[String], document: Body) -> bool {
        let text = match self.format.line(document) {
            Some(line) => line,
            None => sanitize_for_terminal(&lines.join("\n")).into_owned(),
        };
        Self::written(&format!("{text}\n")).is_ok()
    }

    fn part(&self, part: &TextPart) -> io::Result<()> {
        if let Some(line) = part.shaped(Self::stdout_columns()) {
            return self.data_line(&line);
        }
        match part {
            TextPart::Heading(_) | TextPart::Line(_) | TextPart::LongLine(_) => Ok(()),
            TextPart::Block(lines) => Self::written(&self.with_heading(lines.clone())),
            TextPart::Data(text) => Self::data(text),
            TextPart::Said(text) => {
                self.say(text.clone());
                Ok(())
            }
            TextPart::SaidLong(text) => {
                if !self.quiet {
                    self.stderr(text);
                }
                Ok(())
            }
            TextPart::Messages(messages) => {
                self.messages(messages);
                Ok(())
            }
        }
    }

    fn data(text: &str) -> io::Result<()> {
        // A file or a pipe gets what was asked for, to the byte.
        if io::stdout().is_terminal() {
            Self::written(&sanitize_for_terminal(text))
        } else {
            Self::written(text)
        }
    }

    fn written(text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    fn document_line(text: &str) -> io::Result<()> {
        Self::data(&format!("{}\n", sanitize_for_terminal(text)))
    }

    fn data_line(&self, text: &Styled) -> io::Result<()> {
        Self::written(&(painted(text, self.color_stdout) + "\n"))
    }

    /// Lines for people: the first one is their heading.
    fn with_heading(&self, lines: Vec<Styled>) -> String {
        let mut text = String::new();
        for (index, line) in lines.into_iter().enumerate() {
            let line = if index == 0 {
                line.into_heading()
            } else {
                line
            };
            text.push_str(&painted(&line, self.color_stdout));
            text.push('\n');
        }
        text
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
    fn screen(&self, lines: Vec<Styled>, foot: &[String]) {
        let foot: Vec<String> = foot
            .iter()
            .map(|line| sanitize_for_terminal(line).into_owned())
            .collect();
        self.pictures.screen(self.with_heading(lines), &foot);
    }

    /// What lbctl is doing, for people.
    pub fn say(&self, text: impl Into<Styled>) {
        if self.quiet {
            return;
        }
        self.stderr(&text.into().hang(columns(&io::stderr())));
    }

    /// A line on standard error that begins with a word in its colour.
    fn labelled(&self, indent: &str, style: Style, label: &str, text: &str) {
        let line = Styled::from(indent).and(style, label);
        let line = line.plus(": ").plus(text);
        self.stderr(&line.hang(columns(&io::stderr())));
    }

    /// What usually comes next, for people at a terminal: it is said when the report is printed.
    pub fn hint(&self, text: &str) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(text.to_owned());
    }

    fn say_hint(&self) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(text) = next.take() else {
            return;
        };
        if !self.quiet && self.format.is_text() && io::stderr().is_terminal() {
            self.labelled("", Style::Calm, "hint", &text);
        }
    }

    /// What lbctl is doing now. On a terminal it is one line with the time it has taken, until
    /// another one replaces it or [`Output::end_live`]. Elsewhere it returns that it must be
    /// printed in another way.
    #[must_use]
    fn live(&self, text: &str, limit: Option<Limit>) -> bool {
        if self.quiet || self.beside {
            return true;
        }
        // Lines of the log would get in between.
        let drawn = self.verbose == 0 && can_draw(&io::stderr());
        if drawn {
            self.pictures.line(&sanitize_for_terminal(text), limit);
        }
        drawn
    }

    /// How far it is: other words in that line, at its next turn.
    pub fn progress(&self, text: &str) {
        self.pictures.progress(&sanitize_for_terminal(text));
    }

    pub fn end_live(&self) {
        if self.beside {
            return;
        }
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.pictures.end_line();
    }

    /// Whether somebody types here and reads here, and no program does.
    #[must_use]
    pub fn is_conversation(&self) -> bool {
        self.format.is_text() && io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Passes on each key as it is typed, until what is returned is dropped, or [`Output::leave`].
    pub fn raw_terminal(&self) -> io::Result<RawTerminal<'_>> {
        self.end_live();
        self.pictures.pass_on_keys()?;
        Ok(RawTerminal(self))
    }

    /// Writes to standard output what is not lbctl's own, as it is. Returns whether somebody reads
    /// it.
    #[must_use]
    pub fn pass_on(bytes: &[u8]) -> bool {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// Restores the terminal, before the last words.
    pub fn leave(&self) {
        self.pictures.leave();
    }

    fn stderr(&self, text: &Styled) {
        self.pictures.say(&painted(text, self.color_stderr));
    }

    /// A text with its colours in it.
    fn written_to_stderr(&self, text: &str) {
        self.pictures.say(&sanitize_for_terminal(text));
    }
}

/// A message with the load balancer's name before it, unless it begins with that already.
#[must_use]
pub fn named(name: &str, text: &str) -> String {
    match text.strip_prefix(name) {
        Some(rest) if rest.starts_with([':', ' ', ',', '\'']) => text.to_owned(),
        _ => format!("{name}: {text}"),
    }
}

/// How a command ended well: the VM, the verdict in its colour, and what else there is to say.
#[must_use]
pub fn done(name: &str, verdict: &str, rest: &str) -> Styled {
    Styled::from(format!("{name}: "))
        .and(Style::Good, verdict)
        .plus(rest)
}

/// A text as it is printed.
fn painted(text: &Styled, colored: bool) -> String {
    let clean = sanitize_for_terminal(text.text());
    if colored {
        text.reshaped(clean.into_owned()).colored()
    } else {
        clean.into_owned()
    }
}

/// Whether what is not ASCII can be shown, by what the locale says (POSIX, Environment Variables).
fn speaks_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = names
        .filter_map(variable)
        .find(|value| !value.is_empty())
        .unwrap_or_default()
        .to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Whether what is written there has colours: as was asked for, or on a terminal that has them and
/// where `NO_COLOR` is not set (no-color.org).
#[must_use]
pub fn colored(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    let refused = || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => can_draw(stream) && !refused(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_of_several_has_its_name_and_its_record() {
        let out = Output::new("up", &Global::for_json());
        let (first, second) = (out.of_vm("lb-1"), out.of_vm("lb-2"));
        first.set_uri("qemu:///system");
        assert_eq!(first.so_far().0.as_deref(), Some("qemu:///system"));
        assert!(second.so_far().0.is_none() && out.so_far().0.is_none());
        // Its next turn begins anew.
        assert!(first.of_vm("lb-1").so_far().0.is_none());
        assert_eq!(out.named("busy"), "busy");
        for (text, said) in [
            ("busy", "lb-2: busy"),
            ("lb-2: busy", "lb-2: busy"),
            ("lb-2 is busy", "lb-2 is busy"),
            ("lb-20 is busy", "lb-2: lb-20 is busy"),
        ] {
            assert_eq!(second.named(text), said);
            assert_eq!(second.beside_others().named(text), said);
        }
    }

    #[test]
    fn signs_are_for_locales_that_have_them() {
        for (set, signs) in [
            (&[][..], false),
            (&[("LANG", "C")][..], false),
            (&[("LANG", "C.UTF-8")][..], true),
            (&[("LANG", "de_DE.utf8")][..], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")][..], false),
            (&[("LC_ALL", ""), ("LANG", "en_US.UTF-8")][..], true),
            (&[("LC_CTYPE", "C.UTF-8"), ("LANG", "C")][..], true),
        ] {
            let variable = |name: &str| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(speaks_utf8(variable), signs, "{set:?}");
        }
    }
}

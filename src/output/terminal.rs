//! What moves on a terminal: the one live line of a long step on standard error, and the whole
//! screen of `status --watch` on standard output. Each picture is written in one piece, so nothing
//! flickers, and is removed at every end of lbctl except a kill. The arithmetic of columns is in
//! `text/width`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthStr;

use crate::text::width::fit;

/// Where a terminal does not report its size.
const COLUMNS: usize = 80;
const ROWS: usize = 24;
/// Between pictures of the live line.
const TURN: Duration = Duration::from_millis(200);
const WHEEL: [char; 4] = ['-', '\\', '|', '/'];

/// Back to the line's beginning, and empty it.
const EMPTY_LINE: &str = "\r\u{1b}[K";
/// The other screen and no cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// What a program on the other side may have left behind: the other screen, which an editor had;
/// keys for its mouse and around what is pasted; another character set, colours, no cursor (soft
/// reset, DECSTR).
const RESET: &str = "\u{1b}[?1047l\u{1b}[?1000l\u{1b}[?1002l\u{1b}[?1003l\u{1b}[?1006l\u{1b}[?2004l\
                     \u{1b}[!p\u{1b}[0m\u{1b}[?25h\r\n";
/// One picture, if the terminal supports that: shown when it is complete (synchronized output, mode
/// 2026).
const BEGIN: &str = "\u{1b}[?2026h\u{1b}[H";
const END: &str = "\u{1b}[J\u{1b}[?2026l";

/// Whether pictures can be drawn there.
pub(super) fn can_draw(stream: &impl IsTerminal) -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    stream.is_terminal() && !dumb
}

/// What moves now.
#[derive(Clone, Default)]
pub(super) struct Pictures(Arc<Mutex<PictureState>>);

#[derive(Default)]
struct PictureState {
    line: Option<Line>,
    /// A thread redraws the line.
    turning: bool,
    /// The last picture on the other screen.
    screen: Option<String>,
    /// A question is on the line.
    asking: bool,
    /// How the terminal treats keys, while it passes each of them on.
    keys: Option<Termios>,
}

struct Line {
    text: String,
    since: Instant,
    /// How long it may take; `None`: nobody says.
    limit: Option<Limit>,
    turn: usize,
}

/// How long something may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It is waited for until then.
    Of(Duration),
    /// It ends by itself, at the latest then. It takes a moment as a rule, and is not shown before
    /// it has taken a second.
    AtMost(Duration),
    /// As that, and nobody says how long it may take.
    Soon,
}

impl Pictures {
    fn state(&self) -> MutexGuard<'_, PictureState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other words for the line that is there, if one is: what is being done is the same.
    pub(super) fn progress(&self, text: &str) {
        if let Some(line) = &mut self.state().line {
            text.clone_into(&mut line.text);
        }
    }

    /// Shows the live line, or another text on it.
    pub(super) fn line(&self, text: &str, limit: Option<Limit>) {
        let mut state = self.state();
        state.line = Some(Line {
            text: text.to_owned(),
            since: Instant::now(),
            limit,
            turn: 0,
        });
        state.draw_line();
        if !std::mem::replace(&mut state.turning, true) {
            let pictures = self.clone();
            std::thread::spawn(move || pictures.keep_turning());
        }
    }

    fn keep_turning(&self) {
        loop {
            std::thread::sleep(TURN);
            let mut state = self.state();
            let Some(line) = &mut state.line else {
                state.turning = false;
                return;
            };
            line.turn += 1;
            state.draw_line();
        }
    }

    pub(super) fn end_line(&self) {
        let mut state = self.state();
        if state.line.take().is_some() {
            let _ = io::stderr().lock().write_all(EMPTY_LINE.as_bytes());
        }
    }

    /// Writes lines to standard error, above the live line if there is one.
    pub(super) fn say(&self, text: &str) {
        let state = self.state();
        let empty = state.line.as_ref().map_or("", |_| EMPTY_LINE);
        let _ = writeln!(io::stderr().lock(), "{empty}{text}");
        state.draw_line();
    }

    /// Draws the whole screen; the first time, on a screen of its own. The foot is always seen;
    /// what does not fit above it stays out, and is counted.
    pub(super) fn screen(&self, text: String, foot: &[String]) {
        let mut state = self.state();
        let enter = if state.screen.is_none() { ENTER } else { "" };
        let picture = picture(&text, foot, size(&io::stdout()));
        let mut out = io::stdout().lock();
        let _ = write!(out, "{enter}{picture}").and_then(|()| out.flush());
        state.screen = Some(text);
    }

    /// Until [`Pictures::leave`].
    pub(super) fn pass_on_keys(&self) -> io::Result<()> {
        let mut state = self.state();
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        state.keys = Some(before);
        Ok(())
    }

    pub(super) fn asking(&self, asking: bool) {
        self.state().asking = asking;
    }

    /// Removes everything. The last picture of the screen is written where the cursor was before
    /// it.
    pub(super) fn leave(&self) {
        self.end_line();
        if let Some(before) = self.state().keys.take() {
            let mut out = io::stdout().lock();
            let _ = out.write_all(RESET.as_bytes()).and_then(|()| out.flush());
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
        }
        if self.state().asking {
            let _ = io::stderr().lock().write_all(b"\n");
        }
        if let Some(last) = self.state().screen.take() {
            let mut out = io::stdout().lock();
            let _ = write!(out, "{LEAVE}{last}").and_then(|()| out.flush());
        }
    }
}

fn picture(text: &str, foot: &[String], (columns, rows): (usize, usize)) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // A word that is longer than a row goes on in the next one.
    let taken = |line: &String| columns_of(line).div_ceil(columns).max(1);
    let of_foot: usize = foot.iter().map(taken).sum();
    // The last row stays free for the cursor.
    let room = rows.saturating_sub(of_foot + 2);
    if lines.iter().map(taken).sum::<usize>() > room {
        let mut left = room.saturating_sub(1);
        let fitting = lines.iter().take_while(|line| {
            let rest = left.checked_sub(taken(line));
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        let fitting = fitting.count();
        let rest = lines.split_off(fitting).len();
        lines.push(fit(&format!("  ... and {rest} more lines"), columns));
    }
    lines.push(String::new());
    let mut picture = String::from(BEGIN);
    for line in lines.iter().chain(foot) {
        let _ = write!(picture, "{line}\u{1b}[K\r\n");
    }
    picture + END
}

/// What a line takes on the terminal, without the colours in it.
fn columns_of(line: &str) -> usize {
    let mut pieces = line.split("\u{1b}[");
    let first = pieces.next().map_or(0, UnicodeWidthStr::width);
    // A colour ends with its first letter.
    let after = |piece: &str| {
        let text = piece.split_once(|c: char| c.is_ascii_alphabetic());
        text.map_or(0, |(_, text)| text.width())
    };
    first + pieces.map(after).sum::<usize>()
}

impl PictureState {
    fn draw_line(&self) {
        let Some(line) = &self.line else { return };
        let (columns, _) = size(&io::stderr());
        let picture = line.picture(columns);
        let _ = io::stderr().lock().write_all(picture.as_bytes());
    }
}

impl Line {
    fn picture(&self, columns: usize) -> String {
        let whole = Duration::from_secs(self.since.elapsed().as_secs());
        let time = match (self.limit, whole.as_secs()) {
            (Some(Limit::AtMost(_) | Limit::Soon), 0) => return String::new(),
            (None, 0) => String::new(),
            (None | Some(Limit::Soon), _) => format!(" ({})", span(whole)),
            (Some(Limit::Of(limit)), _) => format!(" ({} of {})", span(whole), span(limit)),
            (Some(Limit::AtMost(limit)), _) => {
                format!(" ({}, at most {})", span(whole), span(limit))
            }
        };
        let wheel = WHEEL[self.turn % WHEEL.len()];
        // The last column stays free: a terminal that has filled it may go to the next line.
        let room = columns.saturating_sub(time.len() + 5);
        format!("\r  {wheel} {}{time}\u{1b}[K", fit(&self.text, room))
    }
}

/// Whole seconds: `4 s`, `10 min`, `3 min 5 s`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 60, seconds % 60) {
        (0 | 1, _) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, rest) => format!("{minutes} min {rest} s"),
    }
}

/// Columns and rows.
fn size(stream: &impl std::os::fd::AsFd) -> (usize, usize) {
    terminal_size_of(stream).map_or((COLUMNS, ROWS), |(Width(w), Height(h))| {
        (usize::from(w).max(20), usize::from(h).max(4))
    })
}

/// Columns of a terminal; `None`: it is not a terminal, and lines may be as long as they are.
pub(super) fn columns(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    stream.is_terminal().then(|| size(stream).0.min(100))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_picture_counts_the_rows_that_its_lines_take() {
        let foot = ["foot".to_owned()];
        let long = format!("\u{1b}[32m{}\u{1b}[0m", "x".repeat(25));
        let shown = |text: &str| {
            let picture = picture(text, &foot, (10, 7));
            let lines = picture.trim_start_matches(BEGIN).split("\u{1b}[K\r\n");
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown("a\nb\nc\nd"), ["a", "b", "c", "d", "", "foot", END]);
        assert_eq!(shown(&format!("a\n{long}")), ["a", &long, "", "foot", END]);
        let cut = shown(&format!("a\nb\n{long}\nd"));
        assert_eq!(cut, ["a", "b", "  ... a...", "", "foot", END]);
    }

    #[test]
    fn the_live_line_fits_one_line_and_shows_the_time() {
        let since = Instant::now().checked_sub(Duration::from_secs(75)).unwrap();
        let line = |limit| Line {
            text: "cloud-init runs ".repeat(9),
            since,
            limit,
            turn: 1,
        };
        let most = Duration::from_secs(600);
        let picture = line(Some(Limit::Of(most))).picture(80);
        assert!(picture.contains("... (75 s of 10 min)"), "{picture}");
        let picture = line(Some(Limit::AtMost(most))).picture(80);
        assert!(picture.contains("... (75 s, at most 10 min)"), "{picture}");
        let picture = line(None).picture(80);
        assert!(picture.contains("... (75 s)"), "{picture}");
        let shown = picture
            .trim_start_matches('\r')
            .trim_end_matches("\u{1b}[K");
        assert!(
            shown.width() < 80 && shown.starts_with("  \\ cloud-init"),
            "{picture}"
        );
    }
}

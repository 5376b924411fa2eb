//! What moves on a terminal: the one live line of a long step on standard error, and the whole
//! screen of `status --watch` on standard output. Each picture is written in one piece, so nothing
//! flickers, and is removed at every end of lbctl except a kill. The arithmetic of columns is in
//! `text/width`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use terminal_size::{Height, Width, terminal_size_of};

use super::seconds;
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
}

struct Line {
    text: String,
    since: Instant,
    turn: usize,
}

impl Pictures {
    fn state(&self) -> MutexGuard<'_, PictureState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the live line, or another text on it.
    pub(super) fn line(&self, text: &str) {
        let mut state = self.state();
        state.line = Some(Line {
            text: text.to_owned(),
            since: Instant::now(),
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

    pub(super) fn asking(&self, asking: bool) {
        self.state().asking = asking;
    }

    /// Removes everything. The last picture of the screen is written where the cursor was before
    /// it.
    pub(super) fn leave(&self) {
        self.end_line();
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
    // The last row stays free for the cursor.
    let room = rows.saturating_sub(foot.len() + 2);
    if lines.len() > room {
        let rest = lines.split_off(room.saturating_sub(1)).len();
        lines.push(fit(&format!("  ... and {rest} more lines"), columns));
    }
    lines.push(String::new());
    let mut picture = String::from(BEGIN);
    for line in lines.iter().chain(foot) {
        let _ = write!(picture, "{line}\u{1b}[K\r\n");
    }
    picture + END
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
        let time = match whole.as_secs() {
            0 => String::new(),
            1..=9 => format!(" ({} s)", whole.as_secs()),
            _ => format!(" ({})", seconds(whole)),
        };
        let wheel = WHEEL[self.turn % WHEEL.len()];
        // The last column stays free: a terminal that has filled it may go to the next line.
        let room = columns.saturating_sub(time.len() + 5);
        format!("\r  {wheel} {}{time}\u{1b}[K", fit(&self.text, room))
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
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    #[test]
    fn the_live_line_fits_one_line_and_shows_the_time() {
        let since = Instant::now().checked_sub(Duration::from_secs(75)).unwrap();
        let (text, turn) = ("cloud-init runs ".repeat(9), 1);
        let picture = Line { text, since, turn }.picture(80);
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

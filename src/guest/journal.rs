//! What the guest's programs wrote into its journal, read through its agent. What comes back is the
//! guest's own word: it is cleaned and bounded, and decides nothing.

use std::time::Duration;

use super::agent::{Guest, GuestError, malformed};
use crate::text::sanitize::sanitize_line;

const PROGRAM: &str = "/usr/bin/journalctl";
/// What journalctl writes before its place (`--show-cursor`, journalctl(1)).
const CURSOR: &str = "-- cursor: ";
/// Of one line.
const LINE: usize = 2000;

/// Whose lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// HAProxy's own, of the package or of the container, and systemd's about it.
    Haproxy,
    /// Of lbctl's own units in the guest.
    Lbctl,
    /// Everything, cloud-init's too.
    All,
}

impl Source {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Haproxy => &[
                "_SYSTEMD_UNIT=haproxy.service",
                "+",
                "UNIT=haproxy.service",
                "+",
                "CONTAINER_NAME=haproxy",
            ],
            Self::Lbctl => &["--unit", "lbctl-*"],
            Self::All => &[],
        }
    }
}

/// Lines, and where the next ones begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    pub lines: Vec<String>,
    /// `None`: the journal has none yet.
    pub cursor: Option<String>,
}

impl Guest<'_> {
    /// The last lines; with the place of earlier ones, those after it.
    pub fn journal(
        &self,
        source: Source,
        lines: u16,
        after: Option<&str>,
        deadline: Duration,
    ) -> Result<Journal, GuestError> {
        let lines = lines.to_string();
        let mut arguments = vec![
            "--no-pager",
            "--quiet",
            "--output=short-iso",
            "--show-cursor",
            "--lines",
            &lines,
        ];
        if let Some(cursor) = after {
            arguments.extend(["--after-cursor", cursor]);
        }
        arguments.extend(source.arguments());
        let output = self.run(PROGRAM, &arguments, deadline)?;
        if output.exit_code != 0 && output.stdout.is_empty() && !output.stderr.is_empty() {
            let said = sanitize_line(&String::from_utf8_lossy(&output.stderr), 400);
            return Err(malformed(&format!(
                "journalctl ended with exit code {}: {said}",
                output.exit_code
            )));
        }
        Ok(read(&String::from_utf8_lossy(&output.stdout)))
    }
}

fn read(text: &str) -> Journal {
    let mut journal = Journal::default();
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        match line.strip_prefix(CURSOR) {
            Some(cursor) => journal.cursor = Some(sanitize_line(cursor, 400)),
            None => journal.lines.push(sanitize_line(line, LINE)),
        }
    }
    journal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cleaned_and_the_place_is_kept() {
        let text =
            "2026-11-26T10:00:00+00:00 lb haproxy[7]: up\n\u{1b}[2Jevil\n-- cursor: s=ab;i=1\n";
        let journal = read(text);
        assert_eq!(
            journal.lines,
            ["2026-11-26T10:00:00+00:00 lb haproxy[7]: up", "[2Jevil"]
        );
        assert_eq!(journal.cursor.as_deref(), Some("s=ab;i=1"));
        assert_eq!(read(""), Journal::default());
    }
}

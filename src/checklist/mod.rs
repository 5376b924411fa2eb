//! `check --host`: everything that would make a first `up` fail, or keep the load balancer from
//! being ready, as one list. What the host lacks is what `plan` objects to, line by line; the rest
//! is asked of the DNS server and the nodes, where they can be reached from here. Nothing is
//! changed.

pub mod dns;
mod host;
pub mod nodes;
mod outside;

pub use host::inspect;
pub use outside::inspect_outside;

use crate::exit::MessageId;
use crate::output::json::{Finding, Verdict};
use crate::text::width::wrap;

/// Columns of the words before each result.
const VERDICT: usize = 9;
const WHAT: usize = 24;

/// What was checked, in order.
#[derive(Debug, Default)]
pub struct Checklist {
    pub findings: Vec<Finding>,
}

/// The result of one check: the verdict, and of a failure its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Warning,
    Fails(MessageId),
    Unknown,
}

impl Checklist {
    pub fn add(
        &mut self,
        outcome: Outcome,
        what: impl Into<String>,
        said: impl Into<String>,
        help: impl Into<String>,
    ) {
        let (verdict, id) = match outcome {
            Outcome::Ok => (Verdict::Ok, None),
            Outcome::Warning => (Verdict::Warning, None),
            Outcome::Fails(id) => (Verdict::Fails, Some(id)),
            Outcome::Unknown => (Verdict::Unknown, None),
        };
        self.findings.push(Finding {
            what: what.into(),
            verdict,
            said: said.into(),
            help: help.into(),
            id,
        });
    }

    pub fn ok(&mut self, what: impl Into<String>, said: impl Into<String>) {
        self.add(Outcome::Ok, what, said, "");
    }

    #[must_use]
    pub fn fails(&self) -> bool {
        self.count(Verdict::Fails) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings
            .iter()
            .filter(|f| f.verdict == verdict)
            .count()
    }

    /// `12 ok, 1 warning, 1 unknown`
    #[must_use]
    pub fn summary(&self) -> String {
        let verdicts = [
            Verdict::Ok,
            Verdict::Warning,
            Verdict::Fails,
            Verdict::Unknown,
        ];
        let counts: Vec<String> = verdicts
            .into_iter()
            .map(|verdict| (self.count(verdict), word(verdict)))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        counts.join(", ")
    }

    /// A line for each finding, and more where it does not fit or there is help. `columns`: no line
    /// is longer.
    #[must_use]
    pub fn lines(&self, columns: Option<usize>) -> Vec<String> {
        self.findings
            .iter()
            .flat_map(|finding| lines(finding, columns))
            .collect()
    }
}

fn lines(finding: &Finding, columns: Option<usize>) -> Vec<String> {
    let Finding {
        what,
        verdict,
        said,
        help,
        id: _,
    } = finding;
    let indent = 2 + VERDICT + WHAT;
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent));
    let mut texts = wrap(said, room);
    if !help.is_empty() {
        texts.extend(wrap(&format!("help: {help}"), room));
    }
    let head = format!("  {:<VERDICT$}{what:<WHAT$}", word(*verdict));
    // A name that is longer than its column moves only its own line.
    let head = if what.chars().count() < WHAT {
        head
    } else {
        format!("{head}\n{:indent$}", "")
    };
    let more = texts
        .iter()
        .skip(1)
        .map(|text| format!("{:indent$}{text}", ""));
    let first = texts.first().map(String::as_str).unwrap_or_default();
    let first = format!("{head}{first}");
    first.lines().map(str::to_owned).chain(more).collect()
}

/// The verdict in one word, which needs no colour.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Fails => "FAILED",
        Verdict::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Checklist {
        let mut list = Checklist::default();
        list.ok("libvirt", "9.0.0");
        list.add(
            Outcome::Fails(MessageId::AddressReserved),
            "address 192.168.122.162",
            "reserved for another machine, not for this load balancer",
            "choose another one",
        );
        list.add(
            Outcome::Unknown,
            "interface with-a-long-name0",
            "not known",
            "",
        );
        list
    }

    #[test]
    fn each_line_begins_with_its_verdict_in_a_word() {
        assert_eq!(
            list().lines(None),
            [
                "  ok       libvirt                 9.0.0",
                "  FAILED   address 192.168.122.162 reserved for another machine, not for this load balancer",
                "                                   help: choose another one",
                "  unknown  interface with-a-long-name0",
                "                                   not known",
            ]
        );
        assert_eq!(list().summary(), "1 ok, 1 FAILED, 1 unknown");
        assert!(list().fails());
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let lines = list().lines(Some(70));
        assert!(lines.iter().all(|line| line.len() <= 70), "{lines:#?}");
        assert_eq!(lines.len(), 6);
    }
}

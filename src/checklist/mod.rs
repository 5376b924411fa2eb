//! `check --host`: everything that would make a first `up` fail, or keep the load balancer from
//! being ready, as one list. What the host lacks is what `plan` objects to, line by line; the rest
//! is asked of the DNS server and the nodes, where they can be reached from here. Nothing is
//! changed.

pub mod dns;
mod host;
pub mod nodes;
pub mod outside;

pub use host::{Host as Inspected, inspect};
pub use outside::inspect_outside;

use crate::exit::MessageId;
use crate::output::json::{Finding, Verdict};
use crate::text::styled::{Style, Styled};
use crate::text::width::wrap;

/// Columns of the words before each result.
const SIGN: usize = 2;
const VERDICT: usize = 9;
const WHAT: usize = 24;
/// Where the result is below what was checked, as the terminal has few columns.
const NARROW: usize = 72;
const NARROW_INDENT: usize = 4;

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
    /// is longer. `signs`: with a sign that is not ASCII before each verdict.
    #[must_use]
    pub fn lines(&self, columns: Option<usize>, signs: bool) -> Vec<Styled> {
        self.findings
            .iter()
            .flat_map(|finding| lines(finding, columns, signs))
            .collect()
    }
}

fn lines(finding: &Finding, columns: Option<usize>, signs: bool) -> Vec<Styled> {
    let Finding {
        what,
        verdict,
        said,
        help,
        id: _,
    } = finding;
    let is_narrow = columns.is_some_and(|columns| columns < NARROW);
    let indent = match (is_narrow, signs) {
        (true, _) => NARROW_INDENT,
        (false, true) => 2 + SIGN + VERDICT + WHAT,
        (false, false) => 2 + VERDICT + WHAT,
    };
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent));
    let style = style(*verdict);
    let mut head = Styled::from("  ");
    if signs {
        head = head.and(style, sign(*verdict)).plus(" ");
    }
    let pad = VERDICT - word(*verdict).len();
    head = head.and(style, word(*verdict)).plus(&" ".repeat(pad));
    let below = |text: &String| Styled::from(format!("{:indent$}{text}", ""));
    let mut texts = wrap(said, room);
    let first = texts.remove(0);
    let mut lines = Vec::new();
    if is_narrow {
        lines.extend(columns.map(|columns| head.plus(what).fit(columns)));
        lines.push(below(&first));
    } else if what.chars().count() < WHAT {
        lines.push(head.plus(&format!("{what:<WHAT$}{first}")));
    } else {
        // A name that is longer than its column moves only its own line.
        lines.push(head.plus(what));
        lines.push(below(&first));
    }
    lines.extend(texts.iter().map(below));
    if !help.is_empty() {
        let label = "help";
        let help = Styled::all(Style::Calm, label).plus(": ").plus(help);
        let before = Styled::from(" ".repeat(indent));
        let broken = help.wrap(room);
        lines.extend(broken.iter().map(|line| before.clone().join(line)));
    }
    lines
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "\u{2713}",
        Verdict::Warning => "!",
        Verdict::Fails => "\u{2717}",
        Verdict::Unknown => "?",
    }
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Ok => Style::Good,
        Verdict::Warning => Style::Caution,
        Verdict::Fails => Style::Bad,
        Verdict::Unknown => Style::Dim,
    }
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

    fn texts(columns: Option<usize>, signs: bool) -> Vec<String> {
        let lines = list().lines(columns, signs);
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_line_begins_with_its_verdict_in_a_word() {
        assert_eq!(
            texts(None, false),
            [
                "  ok       libvirt                 9.0.0",
                "  FAILED   address 192.168.122.162 reserved for another machine, not for this load balancer",
                "                                   help: choose another one",
                "  unknown  interface with-a-long-name0",
                "                                   not known",
            ]
        );
        assert_eq!(
            texts(None, true)[0],
            "  \u{2713} ok       libvirt                 9.0.0"
        );
        assert_eq!(list().summary(), "1 ok, 1 FAILED, 1 unknown");
        assert!(list().fails());
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        for signs in [false, true] {
            let lines = texts(Some(70), signs);
            let long = lines.iter().any(|line| line.chars().count() > 70);
            assert!(!long, "{lines:#?}");
        }
        // A narrow one has the words below what was checked.
        assert_eq!(
            texts(Some(40), false)[..5],
            [
                "  ok       libvirt",
                "    9.0.0",
                "  FAILED   address 192.168.122.162",
                "    reserved for another machine, not",
                "    for this load balancer",
            ]
        );
    }
}

//! The little of roff that the pages need, by the macros of man(7) that groff and mandoc share.
//! Text in, escaped; nothing here knows what a page says.

use std::fmt::Write as _;

/// As roff's own checkers like it.
const LONGEST_LINE: usize = 78;

/// A part of a line in one font.
pub(super) struct Inline {
    font: Option<char>,
    text: String,
}

pub(super) fn plain(text: &str) -> Inline {
    Inline {
        font: None,
        text: text.into(),
    }
}

pub(super) fn bold(text: &str) -> Inline {
    Inline {
        font: Some('B'),
        text: text.into(),
    }
}

pub(super) fn italic(text: &str) -> Inline {
    Inline {
        font: Some('I'),
        text: text.into(),
    }
}

/// Text as it is, with roff's special characters escaped: dashes, quotes and backslashes stay those
/// of ASCII, so that what is copied from a page works.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '"' => out.push_str("\\(dq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            c => out.push(c),
        }
    }
    out
}

/// A page in the making.
pub(super) struct Roff(String);

impl Roff {
    pub fn titled(name: &str, section: &str, date: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let title = escaped(&name.to_uppercase());
        Self(format!(
            ".TH \"{title}\" \"{section}\" \"{date}\" \"lbctl {version}\" \"lbctl Manual\"\n.ad l\n"
        ))
    }

    pub fn end(self) -> String {
        self.0
    }

    /// A line of roff as it is.
    pub fn raw(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub fn section(&mut self, title: &str) {
        self.raw(&format!(".SH \"{title}\""));
    }

    /// The section that `whatis` reads.
    pub fn name(&mut self, name: &str, summary: &str) {
        self.section("NAME");
        self.raw(&format!("{} \\-", escaped(name)));
        self.text(summary);
    }

    pub fn subsection(&mut self, title: &str) {
        self.raw(&format!(".SS \"{}\"", escaped(title)));
    }

    pub fn paragraph(&mut self) {
        self.raw(".PP");
    }

    /// A further paragraph of what a tag explains.
    pub fn paragraph_in_tag(&mut self) {
        self.raw(".IP");
    }

    /// The head of an explanation that is indented below it.
    pub fn tag(&mut self, inlines: &[Inline]) {
        self.raw(".TP");
        self.line(inlines);
    }

    pub fn line(&mut self, inlines: &[Inline]) {
        let mut line = String::new();
        for Inline { font, text } in inlines {
            let text = escaped(text);
            let _ = match font {
                Some(font) => write!(line, "\\f{font}{text}\\fR"),
                None => write!(line, "{text}"),
            };
        }
        self.running(&line);
    }

    /// Running text; what is between backquotes is bold.
    pub fn text(&mut self, text: &str) {
        let mut line = String::new();
        let mut is_bold = false;
        let mut at_end = false;
        for word in text.split_whitespace() {
            // Names and values are not hyphenated.
            let of_letters = |c: char| c.is_ascii_alphabetic() || ".,;:".contains(c);
            let guard = if word.chars().all(of_letters) {
                ""
            } else {
                "\\%"
            };
            let mut shown = guard.to_owned();
            for (place, part) in word.split('`').enumerate() {
                if place > 0 {
                    is_bold = !is_bold;
                    shown.push_str(if is_bold { "\\fB" } else { "\\fR" });
                }
                shown.push_str(&escaped(part));
            }
            // A sentence begins on a line of its own, so that roff knows where one ends.
            if at_end || line.len() + 1 + shown.len() > LONGEST_LINE {
                self.running(&line);
                line.clear();
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&shown);
            at_end = word.ends_with(['.', '?']);
        }
        self.running(&line);
    }

    fn running(&mut self, line: &str) {
        if !line.is_empty() {
            // A line that begins so would be a request.
            let guard = if line.starts_with('.') { "\\&" } else { "" };
            self.raw(&format!("{guard}{line}"));
        }
    }

    pub fn paragraphs<T: AsRef<str>>(&mut self, texts: &[T]) {
        for text in texts {
            let after_heading = self
                .0
                .lines()
                .last()
                .is_some_and(|l| l.starts_with(".SH") || l.starts_with(".SS"));
            if !after_heading {
                self.paragraph();
            }
            self.text(text.as_ref());
        }
    }

    pub fn indented(&mut self, inner: impl FnOnce(&mut Self)) {
        self.raw(".RS");
        inner(self);
        self.raw(".RE");
    }

    /// The name of a page, which is never broken, and what comes after it.
    pub fn page(&mut self, name: &str, section: &str, after: &str) {
        self.raw(&format!("\\%\\fB{}\\fR({section}){after}", escaped(name)));
    }

    /// Lines as they are typed.
    pub fn literal(&mut self, lines: &[&str]) {
        self.indented(|roff| {
            roff.raw(".PP");
            roff.raw(".EX");
            for line in lines {
                roff.line(&[plain(line)]);
            }
            roff.raw(".EE");
        });
    }
}

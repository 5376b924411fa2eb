//! Text with colours beside it, and not in it: what a text says is the same with and without them,
//! and columns are counted in the text alone. Whether there are colours is `output`'s to decide.
//!
//! Only colours that each terminal has in its palette, and no background: they are readable on
//! light and dark grounds.

use std::fmt;
use std::ops::Range;

use super::sanitize::drives_terminal;
use super::width::{fit, hang, wrap};

/// What a piece of text is. It never shows anything that no word shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Strong,
    /// All is well; something is created.
    Good,
    /// What failed, or is lost.
    Bad,
    /// What waits, or is due.
    Caution,
    /// What cuts sessions.
    Grave,
    /// What disturbs nobody; advice.
    Calm,
    /// What was removed.
    Removed,
    /// What is unknown.
    Dim,
}

const RESET: &str = "\u{1b}[0m";

impl Style {
    fn begin(self) -> &'static str {
        match self {
            Self::Strong => "\u{1b}[1m",
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[1;31m",
            Self::Caution => "\u{1b}[33m",
            Self::Grave => "\u{1b}[1;33m",
            Self::Calm => "\u{1b}[36m",
            Self::Removed => "\u{1b}[31m",
            Self::Dim => "\u{1b}[2m",
        }
    }
}

/// A text, and the pieces of it that have a style.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Styled {
    text: String,
    /// In the order of the text, in bytes; none overlaps another.
    spans: Vec<(Range<usize>, Style)>,
}

impl Styled {
    /// The whole text in one style.
    #[must_use]
    pub fn all(style: Style, text: &str) -> Self {
        Self::default().and(style, text)
    }

    /// With more text.
    #[must_use]
    pub fn plus(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// With more text, in a style.
    #[must_use]
    pub fn and(mut self, style: Style, text: &str) -> Self {
        let start = self.text.len();
        self.text.push_str(text);
        if start < self.text.len() {
            self.spans.push((start..self.text.len(), style));
        }
        self
    }

    /// With another text behind it.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        let start = self.text.len();
        self.text.push_str(&other.text);
        let moved = other.spans.iter();
        let moved = moved.map(|(span, style)| (span.start + start..span.end + start, *style));
        self.spans.extend(moved);
        self
    }

    /// As a heading, unless a part of it has a style already.
    #[must_use]
    pub fn into_heading(self) -> Self {
        if self.spans.is_empty() {
            Self::all(Style::Strong, &self.text)
        } else {
            self
        }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same text in another shape: wrapped, cut or cleaned. Styles follow the characters, which
    /// come in the same order.
    #[must_use]
    pub fn reshaped(&self, shape: String) -> Self {
        if self.spans.is_empty() || shape == self.text {
            let spans = self.spans.clone();
            return Self { text: shape, spans };
        }
        let mut spans: Vec<(Range<usize>, Style)> = Vec::new();
        // What controls a terminal becomes a space when it is cleaned.
        let is_seen = |(_, c): &(usize, char)| !c.is_whitespace() && !drives_terminal(*c);
        let mut old = self.text.char_indices().filter(is_seen);
        let mut of_last = None;
        for (at, c) in shape.char_indices().filter(is_seen) {
            // What was put in the place of what was cut has no style.
            let found = old.next().filter(|(_, old)| *old == c);
            let index = found.and_then(|(place, _)| {
                self.spans
                    .iter()
                    .position(|(span, _)| span.contains(&place))
            });
            let end = at + c.len_utf8();
            match (index, spans.last_mut()) {
                (Some(index), Some((span, _)))
                    if of_last == Some(index) && !shape[span.end..at].contains('\n') =>
                {
                    span.end = end;
                }
                (Some(index), _) => spans.push((at..end, self.spans[index].1)),
                (None, _) => {}
            }
            of_last = index;
        }
        Self { text: shape, spans }
    }

    /// See [`wrap`].
    #[must_use]
    pub fn wrap(&self, columns: usize) -> Vec<Self> {
        let joined = self.reshaped(wrap(&self.text, columns).join("\n"));
        joined.lines()
    }

    /// See [`hang`].
    #[must_use]
    pub fn hang(&self, columns: Option<usize>) -> Self {
        self.reshaped(hang(&self.text, columns))
    }

    /// See [`fit`].
    #[must_use]
    pub fn fit(&self, columns: usize) -> Self {
        self.reshaped(fit(&self.text, columns))
    }

    /// Its lines; no style goes over the end of one in a text that was reshaped.
    fn lines(&self) -> Vec<Self> {
        let mut start = 0;
        let mut lines = Vec::new();
        for line in self.text.split('\n') {
            let end = start + line.len();
            let inside = self
                .spans
                .iter()
                .filter(|(span, _)| start <= span.start && span.end <= end);
            let spans = inside.map(|(span, style)| (span.start - start..span.end - start, *style));
            lines.push(Self {
                text: line.to_owned(),
                spans: spans.collect(),
            });
            start = end + 1;
        }
        lines
    }

    /// With the escapes of a terminal.
    #[must_use]
    pub fn colored(&self) -> String {
        let mut painted = String::with_capacity(self.text.len() + 16 * self.spans.len());
        let mut from = 0;
        for (span, style) in &self.spans {
            painted.push_str(&self.text[from..span.start]);
            painted.push_str(style.begin());
            painted.push_str(&self.text[span.clone()]);
            painted.push_str(RESET);
            from = span.end;
        }
        painted.push_str(&self.text[from..]);
        painted
    }
}

impl fmt::Display for Styled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Styled {
    fn from(text: String) -> Self {
        let spans = Vec::new();
        Self { text, spans }
    }
}

impl From<&String> for Styled {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&str> for Styled {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<` and `>` stand for the ends of a style.
    fn shown(text: &Styled) -> String {
        text.colored()
            .replace(RESET, ">")
            .replace(Style::Bad.begin(), "<")
            .replace(Style::Good.begin(), "{")
    }

    fn text() -> Styled {
        Styled::from("lb-1: ")
            .and(Style::Bad, "not ready: it is off")
            .plus(" at ")
            .and(Style::Good, "home")
    }

    #[test]
    fn a_style_follows_its_words_through_every_shape() {
        assert_eq!(shown(&text()), "lb-1: <not ready: it is off> at {home>");
        let wrapped: Vec<String> = text().wrap(14).iter().map(shown).collect();
        assert_eq!(
            wrapped,
            ["lb-1: <not>", "<ready: it is>", "<off> at {home>"]
        );
        assert_eq!(shown(&text().fit(18)), "lb-1: <not ready>...");
        let hung = text().hang(Some(16));
        assert_eq!(
            shown(&hung),
            "lb-1: <not>\n  <ready: it is>\n  <off> at {home>"
        );
        // The dot is one of the text and one of the ellipsis.
        let evil = Styled::from("a\u{1b}b ").and(Style::Bad, "c");
        assert_eq!(shown(&evil.reshaped("a b c".into())), "a b <c>");
        let dotted = Styled::all(Style::Bad, "a.b.c.d.e");
        assert_eq!(dotted.fit(5).text(), "a....");
    }

    #[test]
    fn without_its_escapes_it_is_the_text() {
        for shape in [text(), text().fit(9), text().hang(Some(8))] {
            let mut plain = shape.colored();
            for style in [Style::Bad, Style::Good] {
                plain = plain.replace(style.begin(), "");
            }
            assert_eq!(plain.replace(RESET, ""), shape.text());
        }
    }

    #[test]
    fn texts_are_put_together() {
        let joined = Styled::from("x ").join(&Styled::all(Style::Bad, "y"));
        assert_eq!(shown(&joined), "x <y>");
        assert_eq!(
            Styled::from("x").into_heading().colored(),
            "\u{1b}[1mx\u{1b}[0m"
        );
        assert_eq!(shown(&joined.into_heading()), "x <y>");
        assert_eq!(Styled::all(Style::Bad, ""), Styled::from(""));
    }
}

//! Text in columns of a terminal: cut to fit, or broken into lines. Where the columns come from is
//! `output`'s.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text in at most that many columns; what was cut is marked.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut width = 3;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > columns {
            break;
        }
        kept.push(c);
    }
    let ellipsis = ".".repeat(columns.min(3));
    format!("{}{ellipsis}", kept.trim_end())
}

/// The text in lines of at most that many columns, broken between words. A word that is longer (a
/// URI, a path) has a line of its own and stays whole: a terminal continues it in its next row, and
/// gives it back in one piece to who copies it.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Each line in lines of at most that many columns, as [`wrap`] does, what follows a first one
/// indented more than it: so that a list stays a list.
#[must_use]
pub fn hang(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else {
        return text.to_owned();
    };
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let bare = line.trim_start_matches(' ');
        let indent = line.len() - bare.len();
        if line.width() <= columns {
            lines.push(line.to_owned());
            continue;
        }
        // Of a terminal too narrow for the indent, the right half at least is for words.
        let indent = indent.min(columns / 2);
        let more = (indent + 2).min(columns / 2);
        let mut folded = wrap(bare, columns - more).into_iter();
        lines.extend(folded.next().map(|first| format!("{:indent$}{first}", "")));
        lines.extend(folded.map(|next| format!("{:more$}{next}", "")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_broken_by_their_width_on_a_terminal() {
        for (text, columns, cut) in [
            ("short", 5, "short"),
            ("too long", 7, "too..."),
            ("too long", 6, "too..."),
            // Each of these takes two columns.
            ("高可用性", 8, "高可用性"),
            ("高可用性", 7, "高可..."),
            ("abcdef", 2, ".."),
            ("", 0, ""),
        ] {
            assert_eq!(fit(text, columns), cut, "{text} in {columns}");
            assert!(fit(text, columns).width() <= columns);
        }
        for (text, columns, lines) in [
            ("one two three", 7, vec!["one two", "three"]),
            (
                "a-word-longer-than-that",
                10,
                vec!["a-word-longer-than-that"],
            ),
            (
                "see a-word-longer than all",
                10,
                vec!["see", "a-word-longer", "than all"],
            ),
            ("", 10, vec![""]),
        ] {
            assert_eq!(wrap(text, columns), lines, "{text} in {columns}");
        }
    }

    #[test]
    fn what_follows_a_line_is_indented_below_it() {
        for (text, columns, lines) in [
            ("  one two three", Some(11), "  one two\n    three"),
            ("one two three", Some(8), "one\n  two\n  three"),
            (
                "short\n  - one two three",
                Some(12),
                "short\n  - one\n    two\n    three",
            ),
            ("            deep words", Some(10), "     deep\n     words"),
            (
                "at qemu+unix:///system and so on",
                Some(14),
                "at\n  qemu+unix:///system\n  and so on",
            ),
            ("  as long as it is", None, "  as long as it is"),
        ] {
            assert_eq!(hang(text, columns), lines, "{text} in {columns:?}");
        }
    }
}

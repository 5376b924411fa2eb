//! Whether text may be shown: guests, libvirt and configurations hold what others wrote, and some
//! of it controls a terminal. Every text is cleaned where it comes in; [`sanitize_for_terminal`]
//! cleans once more where everything is printed.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// How many characters without a width of their own may follow one that has: enough for accents on
/// any letter, too few to cover the lines above.
const MOST_MARKS: usize = 2;

/// Whether a terminal would do anything but show it: control characters (C0, DEL and C1, with which
/// escape sequences begin), and those that are invisible, break lines, or turn the direction of
/// writing.
#[must_use]
pub fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Text of others, on one line and of at most `limit` characters, as it may be used in a message.
#[must_use]
pub fn sanitize_line(text: &str, limit: usize) -> String {
    let mut marks = 0;
    let visible = |c: char| if drives_terminal(c) { ' ' } else { c };
    let bearable = |c: &char| {
        marks = if c.width() == Some(0) { marks + 1 } else { 0 };
        marks <= MOST_MARKS
    };
    let kept: String = text
        .chars()
        .take(limit)
        .map(visible)
        .filter(bearable)
        .collect();
    kept.trim().to_owned()
}

/// What is about to be printed, without anything that controls the terminal except line breaks,
/// tabs and colours.
#[must_use]
pub fn sanitize_for_terminal(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| drives_terminal(c) && c != '\n' && c != '\t';
    if !text.chars().any(harmful) {
        return text.into();
    }
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(harmful) {
        let (before, after) = rest.split_at(at);
        tamed.push_str(before);
        let colour = colour(after);
        let length = if colour > 0 {
            tamed.push_str(&after[..colour]);
            colour
        } else {
            tamed.push(' ');
            after.chars().next().map_or(1, char::len_utf8)
        };
        rest = &after[length..];
    }
    tamed.push_str(rest);
    tamed.into()
}

/// Bytes of the colour (SGR) that the text begins with; 0: it begins with none.
fn colour(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    match parameters.find(|c: char| !c.is_ascii_digit() && c != ';') {
        Some(end) if end <= 20 && parameters[end..].starts_with('m') => end + "\u{1b}[m".len(),
        _ => 0,
    }
}

/// A JSON document whose texts are the same and control no terminal: JSON itself leaves C1 and the
/// like as they are.
#[must_use]
pub fn escape_json(document: &str) -> Cow<'_, str> {
    // Outside of texts there are no such characters but line breaks; within, JSON has escaped
    // those.
    let harmful = |c: char| drives_terminal(c) && c != '\n';
    if !document.chars().any(harmful) {
        return document.into();
    }
    let mut escaped = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_others_write_cannot_control_the_terminal() {
        for (text, limit, expected) in [
            ("\u{1b}[31mred\u{7}\n\u{202e}evil", 100, "[31mred   evil"),
            ("abcdef", 3, "abc"),
            // A C1 control begins a sequence without ESC.
            ("\u{9b}2J \u{9d}0;title\u{9c}x", 100, "2J  0;title x"),
            ("a\u{61c}b\u{ad}c\u{fff9}d\u{e0041}e", 100, "a b c d e"),
            ("two\r\nlines\u{2028}three", 100, "two  lines three"),
            // Accents stay; long stacks of them do not.
            ("re\u{301}sume\u{301}", 100, "re\u{301}sume\u{301}"),
            ("e\u{301}\u{301}\u{301}\u{301}x", 100, "e\u{301}\u{301}x"),
            ("高可用性", 3, "高可用"),
        ] {
            assert_eq!(sanitize_line(text, limit), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_keeps_lines_and_colours_and_nothing_else() {
        for (text, expected) in [
            ("plain\n\ttext", "plain\n\ttext"),
            (
                "\u{1b}[1;31merror\u{1b}[0m: x",
                "\u{1b}[1;31merror\u{1b}[0m: x",
            ),
            ("a\u{1b}[2Jb\u{1b}]0;t\u{7}c", "a [2Jb ]0;t c"),
            ("\u{9b}31m \u{202e}x\u{1b}", " 31m  x "),
            ("\u{1b}[", " ["),
            ("\u{1b}[31", " [31"),
            ("over\rwritten", "over written"),
        ] {
            assert_eq!(sanitize_for_terminal(text), expected, "{text:?}");
            assert_eq!(
                sanitize_for_terminal(&sanitize_for_terminal(text)),
                expected
            );
        }
    }

    #[test]
    fn json_says_the_same_and_controls_no_terminal() {
        let nasty = "\u{1b}[2J\u{9b}2J\u{202e}\u{e0041}é高\n\u{7f}";
        let value = serde_json::json!({nasty: [nasty]});
        for text in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let escaped = escape_json(&text);
            assert!(
                !escaped.chars().any(|c| drives_terminal(c) && c != '\n'),
                "{escaped:?}"
            );
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
                value
            );
        }
    }
}

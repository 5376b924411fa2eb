//! YAML text from values, such that PyYAML (cloud-init's reader, YAML 1.1) reads back exactly what
//! went in. Only scalars: the structure of a document is in its template. Reading what others wrote
//! is in `read`.

mod read;

use std::fmt::{self, Write};

pub use read::{Node, YamlError, read};

/// A double-quoted scalar on one line. Pure ASCII: everything else is escaped, so that no reader's
/// idea of line breaks (NEL, U+2028), byte order marks or printable characters matters.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                ' '..='~' => f.write_char(c)?,
                '\0'..='\u{ff}' => write!(f, "\\x{:02x}", u32::from(c))?,
                '\u{100}'..='\u{ffff}' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => write!(f, "\\U{:08x}", u32::from(c))?,
            }
        }
        f.write_char('"')
    }
}

/// The content of a file: a literal block where that is exact, a double-quoted scalar otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    pub text: &'a str,
    /// Columns before each line of the block.
    pub indent: usize,
}

impl Block<'_> {
    /// A literal block keeps a text exactly when it ends in one line break, its first line shows
    /// its indentation, and it holds no character that a reader may refuse or take for a line
    /// break.
    fn literal_is_exact(&self) -> bool {
        let plain = |b: u8| matches!(b, b'\n' | b'\t' | b' '..=b'~');
        self.text.bytes().all(plain)
            && self.text.ends_with('\n')
            && !self.text.ends_with("\n\n")
            && !self.text.starts_with(['\n', ' ', '\t'])
    }
}

impl fmt::Display for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.literal_is_exact() {
            return Quoted(self.text).fmt(f);
        }
        f.write_char('|')?;
        for line in self.text.lines() {
            f.write_char('\n')?;
            if !line.is_empty() {
                write!(f, "{:indent$}{line}", "", indent = self.indent)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(Quoted(text).to_string(), expected);
    }

    #[test]
    fn quoted_scalars_are_ascii_on_one_line() {
        check("", r#""""#);
        check("yes", r#""yes""#);
        check(r#"a"b\c"#, r#""a\"b\\c""#);
        check("a\r\n\tb\0\u{7f}", r#""a\x0d\n\tb\x00\x7f""#);
        check(
            "\u{85}\u{2028}\u{feff}é\u{10ffff}",
            r#""\x85\u2028\ufeff\xe9\U0010ffff""#,
        );
    }

    #[test]
    fn a_block_is_literal_only_where_that_is_exact() {
        let block = |text| Block { text, indent: 2 }.to_string();
        assert_eq!(block("a\n\n  b\n"), "|\n  a\n\n    b");
        for inexact in [
            "", "a", "a\n\n", " a\n", "\na\n", "\ta\n", "a\r\n", "é\n", "\u{85}\n",
        ] {
            assert!(block(inexact).starts_with('"'), "{inexact:?}");
        }
    }
}

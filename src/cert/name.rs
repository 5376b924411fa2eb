//! Names as OpenSSL compares them (`x509_name_canon`): letters of ASCII in one case, spaces at the
//! ends left out and inner ones joined, whichever string type holds the text.

use x509_parser::x509::X509Name;

/// A name's parts, outermost first. A part with several attributes has them sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CanonicalName(Vec<Vec<Attribute>>);

/// Object identifier, tag (0: a text in UTF-8) and content.
type Attribute = (Vec<u8>, u32, Vec<u8>);

impl CanonicalName {
    pub(super) fn new(name: &X509Name<'_>) -> Self {
        let parts = name.iter().map(|part| {
            let mut attributes: Vec<Attribute> = part
                .iter()
                .map(|attribute| {
                    let value = attribute.attr_value();
                    let tag = value.header.tag().0;
                    let (tag, content) = match text(tag, value.data) {
                        Some(text) => (0, fold(&text).into_bytes()),
                        None => (tag, value.data.to_vec()),
                    };
                    (attribute.attr_type().as_bytes().to_vec(), tag, content)
                })
                .collect();
            attributes.sort();
            attributes
        });
        Self(parts.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the name is this one or lies below it.
    pub(super) fn holds(&self, name: &Self) -> bool {
        name.0.starts_with(&self.0)
    }
}

/// The text of a string type (X.680, section 8.6); `None`: another type.
fn text(tag: u32, bytes: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, PrintableString, IA5String, VisibleString.
        12 | 19 | 22 | 26 => Some(String::from_utf8_lossy(bytes).into_owned()),
        // T61String, which OpenSSL reads as ISO 8859-1.
        20 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString, UniversalString.
        30 => {
            let units = bytes
                .chunks_exact(2)
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            let chars = char::decode_utf16(units);
            Some(
                chars
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            )
        }
        28 => Some(
            bytes
                .chunks_exact(4)
                .map(|unit| u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]]))
                .map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        ),
        _ => None,
    }
}

fn fold(text: &str) -> String {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    let words: Vec<&str> = text.split(is_space).filter(|w| !w.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_spaces_of_a_name_do_not_count() {
        for (given, folded) in [
            ("Patroni CA", "patroni ca"),
            ("  Patroni \t  CA ", "patroni ca"),
            ("Größe", "größe"),
            ("", ""),
        ] {
            assert_eq!(fold(given), folded);
        }
    }

    #[test]
    fn every_string_type_is_read() {
        for (tag, bytes) in [
            (12, "é".as_bytes()),
            (20, &[0xe9][..]),
            (30, &[0, 0xe9]),
            (28, &[0, 0, 0, 0xe9]),
        ] {
            assert_eq!(text(tag, bytes).as_deref(), Some("é"), "{tag}");
        }
        assert_eq!(text(4, b"x"), None);
    }
}

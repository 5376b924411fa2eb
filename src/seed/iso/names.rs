//! Names: which ones are written, and what they become in the primary tree, where only `A-Z 0-9 _`,
//! one dot and a version are legal (section 7.5).

use super::IsoError;

/// Characters, so that each name fits a Joliet record (64) and its Rock Ridge record with all its
/// fields (255 bytes).
const NAME_MAX: usize = 64;
const STEM_MAX: usize = 17;
const EXTENSION_MAX: usize = 8;

pub(super) fn check_file(name: &str) -> Result<(), IsoError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let dotted = name.starts_with('.') || name.ends_with('.');
    let fit = (1..=NAME_MAX).contains(&name.len()) && !dotted && name.bytes().all(legal);
    if fit {
        Ok(())
    } else {
        Err(IsoError::Name(name.to_owned()))
    }
}

pub(super) fn check_label(label: &str) -> Result<(), IsoError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let fit = (1..=16).contains(&label.len()) && label.bytes().all(legal);
    if fit {
        Ok(())
    } else {
        Err(IsoError::Label(label.to_owned()))
    }
}

/// Level-2 identifiers for the names, in their order and all different: `user-data` becomes
/// `USER_DATA.;1`.
pub(super) fn primary(names: &[&str]) -> Vec<String> {
    let mut taken: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let (stem, extension) = (legal(stem, STEM_MAX), legal(extension, EXTENSION_MAX));
        let mut identifier = format!("{stem}.{extension};1");
        let mut number = 0;
        while taken.contains(&identifier) {
            number += 1;
            identifier = format!("{stem}_{number}.{extension};1");
        }
        taken.push(identifier);
    }
    taken
}

fn legal(part: &str, most: usize) -> String {
    part.chars()
        .take(most)
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// The key by which a directory is sorted (section 9.3): the stem, then the extension.
pub(super) fn sort_key(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_become_legal_and_stay_different() {
        for (names, expected) in [
            (
                &["user-data", "meta-data", "client.pem"][..],
                &["USER_DATA.;1", "META_DATA.;1", "CLIENT.PEM;1"][..],
            ),
            (&["a-b", "a_b", "A.b"], &["A_B.;1", "A_B_1.;1", "A.B;1"]),
            (&["a.b.c", "a_b.c", "x"], &["A_B.C;1", "A_B_1.C;1", "X.;1"]),
        ] {
            assert_eq!(primary(names), expected);
        }
        let long: Vec<String> = (0..super::super::FILES_MAX)
            .map(|i| format!("{}{i}.extension", "n".repeat(40)))
            .collect();
        let made = primary(&long.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(
            made.iter().all(|n| n.len() <= 33),
            "at most 31 characters with the dot, and the version"
        );
    }

    #[test]
    fn names_and_labels_that_readers_would_change_are_refused() {
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a b",
            "ä",
            "a\0",
            &"n".repeat(65),
        ] {
            check_file(name).unwrap_err();
        }
        for label in ["", "a.b", "a b", "seventeen-letters", "é"] {
            check_label(label).unwrap_err();
        }
        check_file("user-data").unwrap();
        check_file(&"n".repeat(64)).unwrap();
        check_label("cidata").unwrap();
    }
}

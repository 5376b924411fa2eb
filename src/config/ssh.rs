//! The shape of public ssh keys, as `authorized_keys` has them. Nothing here connects or signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::report::quoted;
use super::types::{InvalidValue, character};
use crate::text::sanitize::drives_terminal;

const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
const HELP: &str = "give the line of a .pub file, such as: ssh-ed25519 AAAA... somebody@somewhere";

/// The keys of a text, one a line; empty lines and comments are left out. Options before a key
/// (`from="…"`) are let through, for cloud-init writes the lines as they are.
pub(super) fn public_keys(text: &str) -> Result<Vec<String>, InvalidValue> {
    if text.contains("PRIVATE KEY") {
        return Err(InvalidValue::new(
            "is a private key, which must not leave its owner",
            "give the public key, which is the line in the .pub file",
        ));
    }
    if text.contains("BEGIN SSH2 PUBLIC KEY")
        || text.contains("BEGIN PUBLIC KEY")
        || text.contains("BEGIN RSA PUBLIC KEY")
    {
        return Err(InvalidValue::new(
            "is a public key, but not in OpenSSH's form",
            "convert it: ssh-keygen -i -f FILE (with -m PKCS8 for BEGIN PUBLIC KEY)",
        ));
    }
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines
        .map(|line| public_key(line).map(|()| line.to_owned()))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(InvalidValue::new("has no key in it", HELP));
    }
    Ok(keys)
}

fn public_key(line: &str) -> Result<(), InvalidValue> {
    // Not only what ends a line: what cannot be seen in a key has no place in a list of who may log
    // in.
    if let Some(bad) = line.chars().find(|&c| drives_terminal(c) && c != '\t') {
        return Err(InvalidValue::new(
            format!("has {} in it", character(bad)),
            HELP,
        ));
    }
    let words = words(line);
    let Some(place) = words.iter().take(2).position(|word| TYPES.contains(word)) else {
        return Err(no_type(&words));
    };
    let kind = words[place];
    let Some(blob) = words
        .get(place + 1)
        .and_then(|word| STANDARD.decode(word).ok())
    else {
        return Err(InvalidValue::new(
            format!("has no whole key behind {kind}: the text there is not base64"),
            "copy the whole line of the .pub file",
        ));
    };
    match inner_kind(&blob) {
        Some(inner) if inner == kind.as_bytes() && blob.len() > kind.len() + 4 + 32 => Ok(()),
        Some(inner) if inner == kind.as_bytes() => Err(InvalidValue::new(
            "has a key in it that is cut short",
            "copy the whole line of the .pub file",
        )),
        Some(inner) if TYPES.iter().any(|known| known.as_bytes() == inner) => {
            let inner = String::from_utf8_lossy(inner);
            Err(InvalidValue::new(
                format!("says {kind}, but the key behind it is of type {inner}"),
                "copy the whole line of the .pub file",
            ))
        }
        _ => Err(InvalidValue::new(
            format!("has something behind {kind} that is not such a key"),
            "copy the whole line of the .pub file",
        )),
    }
}

fn no_type(words: &[&str]) -> InvalidValue {
    match words.first() {
        Some(&"ssh-dss") => InvalidValue::new(
            "is a DSA key, which OpenSSH no longer accepts",
            "make another: ssh-keygen -t ed25519",
        ),
        Some(word) if word.contains("-cert-v01@") => {
            InvalidValue::new("is a certificate, not a key", HELP)
        }
        // A long word may be anything, even something secret.
        Some(word) if word.len() <= 24 => InvalidValue::new(
            format!(
                "has a line that begins with {}, which is not a type of ssh key",
                quoted(word)
            ),
            HELP,
        ),
        _ => InvalidValue::new("has a line that is not a public ssh key", HELP),
    }
}

/// Split at spaces that are not within quotes, as options have them.
fn words(line: &str) -> Vec<&str> {
    let (mut within, mut escaped) = (false, false);
    line.split(|c: char| {
        let split = !within && (c == ' ' || c == '\t');
        within ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        split
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// The type that the key itself names: a length of four bytes, then the name.
fn inner_kind(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

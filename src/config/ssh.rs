//! The shape of public ssh keys, as sshd reads them in `authorized_keys`: a line that it would skip
//! lets nobody log in. Nothing here connects or signs.

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
/// The options of sshd(8) for a line of authorized keys that have no value. Any of the
/// first may have `no-` in front.
const SWITCHES: [&str; 5] = [
    "agent-forwarding",
    "port-forwarding",
    "pty",
    "user-rc",
    "x11-forwarding",
];
const FLAGS: [&str; 4] = [
    "restrict",
    "cert-authority",
    "no-touch-required",
    "verify-required",
];
/// Those with a value in double quotes.
const WITH_VALUE: [&str; 8] = [
    "command",
    "environment",
    "expiry-time",
    "from",
    "permitlisten",
    "permitopen",
    "principals",
    "tunnel",
];
const HELP: &str = "give the line of a .pub file, such as: ssh-ed25519 AAAA... somebody@somewhere";

/// The keys of a text, one a line; empty lines and comments are left out. Options before a key
/// (`from="…"`) stay, for cloud-init writes the lines as they are.
pub(super) fn public_keys(text: &str) -> Result<Vec<String>, InvalidValue> {
    let begins = |line: &str| line.trim_start().starts_with("-----BEGIN");
    if text
        .lines()
        .any(|line| begins(line) && line.contains("PRIVATE KEY"))
    {
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
    if place == 1 {
        options(words[0])?;
    }
    let kind = words[place];
    let rest = words.get(place + 1..).unwrap_or_default();
    if joined(rest) {
        return Err(InvalidValue::new(
            "has two keys on one line, of which sshd takes one at most",
            "begin a new line before the second key",
        ));
    }
    let Some(blob) = rest.first().and_then(|word| STANDARD.decode(word).ok()) else {
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

/// Whether sshd takes them: it skips the whole line for one that it does not know.
fn options(text: &str) -> Result<(), InvalidValue> {
    split(text, &[',']).try_for_each(option)
}

fn option(text: &str) -> Result<(), InvalidValue> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let lower = name.to_ascii_lowercase();
    let switch = lower.strip_prefix("no-").unwrap_or(&lower);
    let bare = SWITCHES.contains(&switch) || FLAGS.contains(&lower.as_str());
    match value {
        None if name.is_empty() => Err(InvalidValue::new(
            "has a comma too many in the options before the key: sshd would skip the line",
            "put one comma between two options, and none at the end",
        )),
        None if bare => Ok(()),
        Some(value) if WITH_VALUE.contains(&lower.as_str()) => in_quotes(name, value),
        None if WITH_VALUE.contains(&lower.as_str()) => Err(InvalidValue::new(
            format!("has the option {name} without a value before the key"),
            format!("write {name}=\"...\", or remove it"),
        )),
        Some(_) if bare => Err(InvalidValue::new(
            format!("has the option {name} with a value, which takes none"),
            format!("write {name} alone"),
        )),
        // A long word may be anything, even something secret.
        _ if name.len() <= 24 => Err(InvalidValue::new(
            format!(
                "has {} before the key, which is no option of sshd: it would skip the line",
                quoted(name)
            ),
            HELP,
        )),
        _ => Err(InvalidValue::new(
            "has something before the key that is no option of sshd: it would skip the line",
            HELP,
        )),
    }
}

fn in_quotes(name: &str, value: &str) -> Result<(), InvalidValue> {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let open = |inner: &str| inner.replace("\\\"", "").contains('"') || inner.ends_with('\\');
    match inner {
        Some(inner) if !open(inner) => Ok(()),
        _ => Err(InvalidValue::new(
            format!("has the option {name} before the key, and its value is not in double quotes"),
            format!("write {name}=\"...\""),
        )),
    }
}

/// Whether a second key follows in the comment, as when two files were put together without a line
/// break: its type stands at the end of the first one's comment, or of its base64.
fn joined(rest: &[&str]) -> bool {
    rest.windows(2).any(|pair| {
        let kind = TYPES.iter().find(|kind| pair[0].ends_with(*kind));
        let blob = STANDARD.decode(pair[1]).unwrap_or_default();
        kind.is_some_and(|kind| inner_kind(&blob) == Some(kind.as_bytes()))
    })
}

/// The words of a line, where spaces within quotes, as options have them, are no end.
fn words(line: &str) -> Vec<&str> {
    split(line, &[' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect()
}

/// Split at any of `at` that is not within double quotes. As in sshd, a backslash takes the meaning
/// of a quote behind it, and of nothing else.
fn split<'t>(text: &'t str, at: &[char]) -> impl Iterator<Item = &'t str> {
    let (mut within, mut escaped) = (false, false);
    text.split(move |c: char| {
        let end = !within && at.contains(&c);
        within ^= c == '"' && !escaped;
        escaped = c == '\\';
        end
    })
}

/// The type that the key itself names: a length of four bytes, then the name.
fn inner_kind(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

//! Reading and writing PEM: which blocks a text holds, and in words for a person why it does not
//! hold what was asked. No error carries a piece of the text, for the text may be a key:
//! rustls-pemfile's own errors quote lines.
//!
//! rustls-pemfile splits a text into its blocks here and nowhere else; all other reading of PEM is
//! rustls-pki-types'.

use std::fmt::Write as _;

use base64::Engine as _;
use rustls_pemfile::Item;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize as _, Zeroizing};

/// What is wrong with a text, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, hint: &str) -> Self {
        Self {
            message: message.into(),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        }
    }
}

/// A private key's DER, wiped when dropped.
pub(super) struct KeyDer(pub(super) PrivateKeyDer<'static>);

impl Drop for KeyDer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The key kinds lbctl can sign with, as a hint.
pub(super) const SUPPORTED: &str =
    "use a key of RSA (2048 to 8192 bits), of EC on P-256, P-384 or P-521, or Ed25519";

/// Whose key and certificate a text should hold, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The CA's: `ca_key`, `ca_certificate`.
    Ca,
    /// The client's: `key`, `certificate`.
    Client,
}

impl Whose {
    fn who(self) -> &'static str {
        match self {
            Self::Ca => "the CA's",
            Self::Client => "the client's",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Client => "client",
        }
    }

    fn keys(self) -> [&'static str; 2] {
        match self {
            Self::Ca => ["ca_key", "ca_certificate"],
            Self::Client => ["key", "certificate"],
        }
    }

    fn decrypt(self) -> String {
        let file = self.file();
        format!(
            "decrypt it once and give lbctl the result: openssl pkey -in ENCRYPTED.key -out {file}.key && chmod 600 {file}.key"
        )
    }

    fn expected_key(self) -> String {
        format!(
            "give {} private key in PEM: PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY between BEGIN and END lines",
            self.who()
        )
    }

    fn expected_certificate(self) -> String {
        format!(
            "give {} certificate in PEM: between BEGIN CERTIFICATE and END CERTIFICATE lines",
            self.who()
        )
    }

    fn swapped(self) -> String {
        let [key, certificate] = self.keys();
        format!("if the two are exchanged, swap {key} and {certificate}")
    }
}

/// The one private key in `text`. Certificates and EC PARAMETERS beside it are passed over.
pub(super) fn private_key(text: &str, whose: Whose) -> Result<KeyDer, Fault> {
    let text = clean(text);
    let labels = labels(&text);
    if is_encrypted(&text, &labels) {
        return Err(Fault::new(
            "an encrypted private key: lbctl has no way to ask for its passphrase",
            &whose.decrypt(),
        ));
    }
    let items = items(&text).map_err(|()| broken(&text, &whose.expected_key()))?;
    let mut keys: Vec<KeyDer> = items.into_iter().filter_map(key_of).collect();
    let begun = labels.iter().filter(|l| l.ends_with("PRIVATE KEY")).count();
    match (keys.pop(), begun) {
        (Some(key), 1) => Ok(key),
        (Some(_), 0) => Err(broken(&text, &whose.expected_key())),
        (Some(_), several) => Err(Fault::new(
            format!("{several} private keys, where one is expected"),
            &format!("leave only {} key in it", whose.who()),
        )),
        (None, _) => Err(no_key(&text, &labels, whose)),
    }
}

/// The certificates in `text`, in their order; at least one, and as many as it begins: a reader
/// that passes over what it cannot read would lose the next CA of a rotation. Keys beside them are
/// passed over (and wiped).
pub(super) fn certificates(
    text: &str,
    whose: Whose,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = clean(text);
    let expected = whose.expected_certificate();
    let items = items(&text).map_err(|()| broken(&text, &expected))?;
    let mut certificates = Vec::new();
    for item in items {
        match item {
            Item::X509Certificate(certificate) => certificates.push(certificate),
            other => drop(key_of(other)),
        }
    }
    let labels = labels(&text);
    if certificates.is_empty() {
        return Err(no_certificate(&text, &labels, whose));
    }
    if labels.iter().any(|label| is_openssls(label)) {
        return Err(openssls());
    }
    let begun = labels.iter().filter(|l| **l == "CERTIFICATE").count();
    if begun != certificates.len() {
        return Err(Fault::new(
            format!(
                "a damaged PEM text: it begins {begun} certificates, and {} can be read",
                certificates.len()
            ),
            "put each BEGIN and END line on a line of its own, with five dashes on both sides of its words",
        ));
    }
    Ok(certificates)
}

/// The certificates in a text for other programs, which read it as it is, or as it is returned
/// here: without a byte order mark, which OpenSSL takes for a part of the first line. The error:
/// what is wrong, and what to do.
pub fn certificates_for_others(text: &str) -> Result<String, (String, String)> {
    let found = certificates(text, Whose::Ca).map_err(|fault| {
        let hint = fault.hint.unwrap_or_default();
        (fault.message, hint)
    })?;
    if found.iter().any(|der| super::ca::parse(der).is_none()) {
        return Err((
            "a PEM block that is not a certificate".into(),
            "give the PEM text of the CA's certificate: it begins with -----BEGIN CERTIFICATE-----"
                .into(),
        ));
    }
    if !text.contains('\u{feff}') {
        return Ok(text.to_owned());
    }
    let blocks = found.iter().map(|der| encode("CERTIFICATE", der));
    Ok(blocks.map(|block| block.to_string()).collect())
}

/// One PEM block of 64-character lines, ended by a newline. Wiped when dropped, and grown in place
/// once only.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    let mut out = Zeroizing::new(String::with_capacity(
        body.len() + body.len() / 64 + 2 * label.len() + 40,
    ));
    // Writing to a String cannot fail.
    let _ = writeln!(out, "-----BEGIN {label}-----");
    let mut rest: &str = &body;
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    let _ = writeln!(out, "-----END {label}-----");
    out
}

/// The lines without indentation, byte order marks, empty lines and carriage returns: a block
/// pasted into an indented TOML string is still the block.
fn clean(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text
        .split(['\n', '\r'])
        .map(|line| line.trim().trim_start_matches('\u{feff}').trim())
        .filter(|l| !l.is_empty())
    {
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn items(text: &str) -> Result<Vec<Item>, ()> {
    let mut found = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((item, tail)) = rustls_pemfile::read_one_from_slice(rest).map_err(drop)? {
        found.push(item);
        rest = tail;
    }
    Ok(found)
}

fn key_of(item: Item) -> Option<KeyDer> {
    match item {
        Item::Pkcs1Key(key) => Some(KeyDer(key.into())),
        Item::Pkcs8Key(key) => Some(KeyDer(key.into())),
        Item::Sec1Key(key) => Some(KeyDer(key.into())),
        _ => None,
    }
}

/// What the BEGIN marks announce, also those that are not whole or not on a line of their own.
fn labels(text: &str) -> Vec<&str> {
    let marks = text.match_indices("-BEGIN ");
    let labels = marks.filter_map(|(at, mark)| {
        let rest = text.get(at + mark.len()..)?;
        let label = rest.split(['-', '\n']).next()?;
        // A comment, not a mark.
        let of_marks = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
        label.chars().all(of_marks).then(|| label.trim_end())
    });
    labels.collect()
}

fn is_openssls(label: &str) -> bool {
    matches!(label, "TRUSTED CERTIFICATE" | "X509 CERTIFICATE")
}

fn openssls() -> Fault {
    Fault::new(
        "a certificate in OpenSSL's own format",
        "convert it: openssl x509 -in FILE -out FILE.pem",
    )
}

fn is_encrypted(text: &str, labels: &[&str]) -> bool {
    labels.contains(&"ENCRYPTED PRIVATE KEY")
        || text
            .lines()
            .any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
}

/// What is wrong with a text which has a BEGIN line but cannot be read, or which rustls-pemfile
/// found nothing in.
fn broken(text: &str, expected: &str) -> Fault {
    if text.contains("\\n") {
        return Fault::new(
            "a PEM text whose line breaks are written as \\n",
            "put real line breaks in it (in TOML: a \"\"\"…\"\"\" string, or { file = \"…\" })",
        );
    }
    Fault::new(
        "a damaged PEM text: a BEGIN or END line or the base64 between them is not whole",
        expected,
    )
}

/// What is wrong with a text without any block.
fn shapeless(text: &str, expected: &str) -> Fault {
    if text.trim().is_empty() {
        return Fault::new("empty", expected);
    }
    if text.contains("-BEGIN ") {
        return broken(text, expected);
    }
    if text.starts_with('0')
        && text
            .chars()
            .take(16)
            .any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
    {
        return Fault::new(
            "binary (DER), not PEM",
            "convert it: openssl x509 (or pkey) -inform DER -in FILE -out FILE.pem",
        );
    }
    Fault::new("not a PEM text: it has no BEGIN line", expected)
}

fn no_key(text: &str, labels: &[&str], whose: Whose) -> Fault {
    let (who, expected) = (whose.who(), whose.expected_key());
    let has = |label: &str| labels.contains(&label);
    if has("OPENSSH PRIVATE KEY") {
        Fault::new(
            "a key in OpenSSH's own format",
            "convert a copy of it: ssh-keygen -p -N '' -m PKCS8 -f COPY.key",
        )
    } else if has("DSA PRIVATE KEY") {
        Fault::new(
            "a DSA key, which cannot sign a certificate that today's TLS accepts",
            SUPPORTED,
        )
    } else if has("PUBLIC KEY") || has("RSA PUBLIC KEY") {
        Fault::new(
            format!("a public key, where {who} private key is expected"),
            &expected,
        )
    } else if labels.iter().any(|l| l.ends_with("CERTIFICATE")) {
        Fault::new(
            format!("a certificate, where {who} private key is expected"),
            &whose.swapped(),
        )
    } else if labels.is_empty() {
        shapeless(text, &expected)
    } else {
        Fault::new("a PEM text without a private key", &expected)
    }
}

fn no_certificate(text: &str, labels: &[&str], whose: Whose) -> Fault {
    let (who, expected) = (whose.who(), whose.expected_certificate());
    let has = |label: &str| labels.contains(&label);
    if labels.iter().any(|l| l.ends_with("PRIVATE KEY")) {
        Fault::new(
            format!("a private key, where {who} certificate is expected"),
            &whose.swapped(),
        )
    } else if labels.iter().any(|l| l.ends_with("CERTIFICATE REQUEST")) {
        Fault::new(
            format!("a signing request, where {who} certificate is expected"),
            &expected,
        )
    } else if labels.iter().any(|label| is_openssls(label)) {
        openssls()
    } else if has("PUBLIC KEY") {
        Fault::new(
            format!("a public key, where {who} certificate is expected"),
            &expected,
        )
    } else if labels.is_empty() {
        shapeless(text, &expected)
    } else {
        Fault::new("a PEM text without a certificate", &expected)
    }
}

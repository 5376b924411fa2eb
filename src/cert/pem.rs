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
    "use a CA key of RSA (2048 to 8192 bits), of EC on P-256, P-384 or P-521, or Ed25519";

const DECRYPT: &str = "decrypt it once and give lbctl the result: openssl pkey -in ENCRYPTED.key -out ca.key && chmod 600 ca.key";
const EXPECTED_KEY: &str = "give the CA's private key in PEM: PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY between BEGIN and END lines";
const EXPECTED_CERTIFICATE: &str =
    "give the CA's certificate in PEM: between BEGIN CERTIFICATE and END CERTIFICATE lines";

/// The one private key in `text`. Certificates and EC PARAMETERS beside it are passed over.
pub(super) fn private_key(text: &str) -> Result<KeyDer, Fault> {
    let text = clean(text);
    let labels = labels(&text);
    if is_encrypted(&text, &labels) {
        return Err(Fault::new(
            "an encrypted private key: lbctl has no way to ask for its passphrase",
            DECRYPT,
        ));
    }
    let items = items(&text).map_err(|()| broken(&text, EXPECTED_KEY))?;
    let mut keys: Vec<KeyDer> = items.into_iter().filter_map(key_of).collect();
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), more) => Err(Fault::new(
            format!("{} private keys, where one is expected", more + 1),
            "leave only the CA's key in it",
        )),
        (None, _) => Err(no_key(&text, &labels)),
    }
}

/// The certificates in `text`, in their order; at least one. Keys beside them are passed over (and
/// wiped).
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = clean(text);
    let items = items(&text).map_err(|()| broken(&text, EXPECTED_CERTIFICATE))?;
    let mut certificates = Vec::new();
    for item in items {
        match item {
            Item::X509Certificate(certificate) => certificates.push(certificate),
            other => drop(key_of(other)),
        }
    }
    if certificates.is_empty() {
        return Err(no_certificate(&text, &labels(&text)));
    }
    Ok(certificates)
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

/// The lines without indentation, empty lines and carriage returns: a block pasted into an indented
/// TOML string is still the block.
fn clean(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text
        .trim_start_matches('\u{feff}')
        .split(['\n', '\r'])
        .map(str::trim)
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

fn labels(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect()
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
    if text.contains("-----BEGIN ") {
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

fn no_key(text: &str, labels: &[&str]) -> Fault {
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
            "a public key, where the CA's private key is expected",
            EXPECTED_KEY,
        )
    } else if labels.iter().any(|l| l.ends_with("CERTIFICATE")) {
        Fault::new(
            "a certificate, where the CA's private key is expected",
            "if the two are exchanged, swap ca_key and ca_certificate",
        )
    } else if labels.is_empty() {
        shapeless(text, EXPECTED_KEY)
    } else {
        Fault::new("a PEM text without a private key", EXPECTED_KEY)
    }
}

fn no_certificate(text: &str, labels: &[&str]) -> Fault {
    let has = |label: &str| labels.contains(&label);
    if labels.iter().any(|l| l.ends_with("PRIVATE KEY")) {
        Fault::new(
            "a private key, where the CA's certificate is expected",
            "if the two are exchanged, swap ca_key and ca_certificate",
        )
    } else if labels.iter().any(|l| l.ends_with("CERTIFICATE REQUEST")) {
        Fault::new(
            "a signing request, where the CA's certificate is expected",
            EXPECTED_CERTIFICATE,
        )
    } else if has("TRUSTED CERTIFICATE") || has("X509 CERTIFICATE") {
        Fault::new(
            "a certificate in OpenSSL's own format",
            "convert it: openssl x509 -in FILE -out FILE.pem",
        )
    } else if has("PUBLIC KEY") {
        Fault::new(
            "a public key, where the CA's certificate is expected",
            EXPECTED_CERTIFICATE,
        )
    } else if labels.is_empty() {
        shapeless(text, EXPECTED_CERTIFICATE)
    } else {
        Fault::new("a PEM text without a certificate", EXPECTED_CERTIFICATE)
    }
}

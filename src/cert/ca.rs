//! The certificate authority: reading the pair, refusing every pair that could not issue a
//! certificate which verifies, and asking whether a certificate is its own. rcgen accepts a key of
//! another CA and a certificate that is not one of a CA without an error, so all of it is checked
//! here.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::x509::X509Version;
use zeroize::Zeroize as _;

use super::pem::{self, Fault, KeyDer, SUPPORTED, Whose};
use super::trust::{CaCertificates, TrustError};
use crate::secret::Secret;
use crate::text::sanitize::drives_terminal;

/// Which of the CA's two inputs is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `ca_key`
    Key,
    /// `ca_certificate`
    Certificate,
    /// Both are sound, but they do not belong together.
    Pair,
}

/// Why a CA cannot be used. The message fits behind the key's name and never holds a piece of the
/// input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaError {
    pub part: Part,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CaError {
    fn new(part: Part, message: impl Into<String>, hint: &str) -> Self {
        Self::from_fault(part, Fault::new(message, hint))
    }

    fn from_fault(part: Part, fault: Fault) -> Self {
        Self {
            part,
            message: fault.message,
            hint: fault.hint,
        }
    }
}

impl From<TrustError> for CaError {
    fn from(error: TrustError) -> Self {
        Self {
            part: Part::Certificate,
            message: error.message,
            hint: error.hint,
        }
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.part {
            Part::Key => "the CA's key",
            Part::Certificate => "the CA's certificate",
            Part::Pair => "the CA's key and certificate",
        };
        write!(f, "{subject}: {}", self.message)
    }
}

impl std::error::Error for CaError {}

/// A certificate authority whose key and certificate belong together and which may issue client
/// certificates.
#[derive(Clone)]
pub struct Ca {
    inner: Arc<Inner>,
}

struct Inner {
    signer: Signer,
    certificates: CaCertificates,
    /// Which of them is the key's.
    own: usize,
    /// The subject as the certificate has it, byte for byte: issuer of what is issued.
    subject_der: Vec<u8>,
    subject: String,
    subject_key_id: Option<Vec<u8>>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// rcgen's key pair, whose DER is wiped when dropped.
pub(super) struct Signer(pub(super) KeyPair);

impl Drop for Signer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Ca {
    /// Reads and checks the pair. Of several certificates, the one that belongs to the key
    /// issues; the others (a chain, or the next CA during a rotation) are kept for
    /// [`Ca::certificates`]. No clock is read: see [`Ca::check_time`].
    pub fn load(key_pem: &Secret, certificate_pem: &str) -> Result<Self, CaError> {
        // A key that is damaged is reported whatever the certificates are.
        let signer = Self::signer(key_pem)?;
        Self::with_signer(signer, &CaCertificates::load(certificate_pem)?)
    }

    /// The same with certificates that are read already.
    pub fn new(key_pem: &Secret, certificates: &CaCertificates) -> Result<Self, CaError> {
        Self::with_signer(Self::signer(key_pem)?, certificates)
    }

    fn signer(key_pem: &Secret) -> Result<Signer, CaError> {
        pem::private_key(key_pem.expose(), Whose::Ca)
            .and_then(|der| signer(&der))
            .map_err(|fault| CaError::from_fault(Part::Key, fault))
    }

    fn with_signer(signer: Signer, certificates: &CaCertificates) -> Result<Self, CaError> {
        let parsed: Vec<_> = certificates.parsed().collect();
        let own = parsed
            .iter()
            .enumerate()
            .filter(|(_, c)| is_key_of(&signer.0, c))
            // Of a CA that was renewed, the certificate that lasts longest, and of equals the
            // first.
            .max_by_key(|(at, c)| (c.validity().not_after.timestamp(), std::cmp::Reverse(*at)))
            .map(|(at, _)| at)
            .ok_or_else(|| mismatch(&parsed))?;
        drop(parsed);
        if let Some(fault) = certificates.issuer_fault(own, None) {
            return Err(CaError::from_fault(Part::Certificate, fault));
        }
        Self::of(signer, certificates, own)
    }

    /// Without the check that the key belongs to the certificate.
    pub(super) fn of(
        signer: Signer,
        certificates: &CaCertificates,
        own: usize,
    ) -> Result<Self, CaError> {
        let certificate = certificates
            .at(own)
            .ok_or_else(|| CaError::new(Part::Certificate, "a text without a certificate", ""))?;
        let validity = certificate.validity();
        let inner = Inner {
            subject_der: certificate.subject().as_raw().to_vec(),
            subject: printable(&certificate.subject().to_string()),
            subject_key_id: subject_key_id(&certificate),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            signer,
            own,
            certificates: certificates.clone(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.inner.not_before
    }

    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.inner.not_after
    }

    /// The subject as text, for people.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// Every certificate of the input. This is what the nodes' certificates are verified with.
    #[must_use]
    pub fn certificates(&self) -> &CaCertificates {
        &self.inner.certificates
    }

    /// SHA-256 of the issuing certificate's DER, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.inner.certificates.ders()[self.inner.own])
    }

    /// Whether a root that is given stands above it: a node's certificate of this CA verifies.
    #[must_use]
    pub fn leads_to_root(&self) -> bool {
        self.inner.certificates.leads_to_root(self.inner.own)
    }

    /// Why nodes with strict rules refuse what it issues; `None`: they do not.
    #[must_use]
    pub fn strict_fault(&self) -> Option<&'static str> {
        strict_fault(&self.inner.certificates.at(self.inner.own)?)
    }

    /// Refuses a CA that is expired or not yet valid.
    pub fn check_time(&self, now: OffsetDateTime) -> Result<(), CaError> {
        if now > self.inner.not_after {
            return Err(CaError::new(
                Part::Certificate,
                format!(
                    "a CA certificate that expired on {}",
                    stamp(self.inner.not_after)
                ),
                "renew the CA's certificate, on this side and on the Patroni nodes (and look at this machine's clock)",
            ));
        }
        if now < self.inner.not_before {
            return Err(CaError::new(
                Part::Certificate,
                format!(
                    "a CA certificate that is not valid before {}",
                    stamp(self.inner.not_before)
                ),
                "look at this machine's clock, or wait",
            ));
        }
        // A CA above it may have ended before.
        let fault = self
            .inner
            .certificates
            .issuer_fault(self.inner.own, Some(now));
        fault.map_or(Ok(()), |fault| {
            Err(CaError::from_fault(Part::Certificate, fault))
        })
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.inner.signer.0
    }

    pub(super) fn subject_der(&self) -> &[u8] {
        &self.inner.subject_der
    }

    pub(super) fn subject_key_id(&self) -> Option<&[u8]> {
        self.inner.subject_key_id.as_deref()
    }

    /// Whether it has the same key as that certificate.
    pub(super) fn has_key_of(&self, certificate: &X509Certificate<'_>) -> bool {
        is_key_of(self.key(), certificate)
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("subject", &self.inner.subject)
            .field("not_before", &self.inner.not_before)
            .field("not_after", &self.inner.not_after)
            .field("fingerprint", &self.fingerprint())
            .field("key", &crate::secret::MASK)
            .finish()
    }
}

/// Reads a key of any kind that rcgen signs with, or says which kind it is instead.
pub(super) fn signer(der: &KeyDer) -> Result<Signer, Fault> {
    if let Some(kind) = unsupported_kind(der.0.secret_der()) {
        return Err(Fault::new(
            format!("{kind}, which lbctl cannot sign with"),
            SUPPORTED,
        ));
    }
    KeyPair::try_from(&der.0)
        .map(Signer)
        .map_err(|_| Fault::new(why_rejected(&der.0), SUPPORTED))
}

/// Object identifiers, tag and length included, of keys that are valid, but that lbctl cannot use.
const UNSUPPORTED: [(&[u8], &str); 14] = [
    (b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
    (
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
        "an RSA key bound to PSS signatures",
    ),
    (b"\x06\x03\x2b\x65\x71", "an Ed448 key"),
    (b"\x06\x03\x2b\x65\x6e", "an X25519 key"),
    (b"\x06\x03\x2b\x65\x6f", "an X448 key"),
    (
        b"\x06\x05\x2b\x81\x04\x00\x0a",
        "an EC key on the curve secp256k1",
    ),
    (
        b"\x06\x05\x2b\x81\x04\x00\x21",
        "an EC key on the curve P-224",
    ),
    (
        b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01",
        "an EC key on the curve P-192",
    ),
    (
        b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x07",
        "an EC key on a Brainpool curve",
    ),
    (
        b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x0b",
        "an EC key on a Brainpool curve",
    ),
    (
        b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x0d",
        "an EC key on a Brainpool curve",
    ),
    (
        b"\x06\x08\x2a\x81\x1c\xcf\x55\x01\x82\x2d",
        "an EC key on the curve SM2",
    ),
    (
        b"\x06\x07\x2a\x86\x48\xce\x3d\x01\x01",
        "an EC key whose curve is spelt out instead of named",
    ),
    (
        b"\x06\x07\x2a\x86\x48\xce\x3d\x01\x02",
        "an EC key on a binary curve",
    ),
];

/// The kind of a key that none of our signers takes, by an object identifier in it. The short
/// identifiers are searched at the beginning only, where PKCS#8 has its algorithm: further in, five
/// bytes may be there by chance.
fn unsupported_kind(der: &[u8]) -> Option<&'static str> {
    let find = |needle: &[u8]| der.windows(needle.len()).position(|w| w == needle);
    UNSUPPORTED
        .iter()
        .find(|(oid, _)| find(oid).is_some_and(|at| oid.len() > 5 || at < 12))
        .map(|(_, kind)| *kind)
}

fn why_rejected(key: &PrivateKeyDer<'_>) -> String {
    use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
    let rejected = match key {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).err(),
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).err(),
        _ => None,
    };
    // SEC's other curves, for which the table has no name of their own.
    let sec_curve: &[u8] = b"\x06\x05\x2b\x81\x04\x00";
    if key
        .secret_der()
        .windows(sec_curve.len() + 1)
        .any(|w| w.starts_with(sec_curve) && !matches!(w.last(), Some(0x22 | 0x23)))
    {
        return "an EC key on a curve that lbctl cannot sign with".into();
    }
    match rejected.map(|e| e.to_string()).as_deref() {
        Some("TooSmall") => "an RSA key of less than 2048 bits, which today's TLS refuses".into(),
        Some("TooLarge") => "an RSA key of more than 8192 bits".into(),
        _ => "a private key that cannot be read: damaged, or of an unknown kind".into(),
    }
}

/// The certificate in `der`, if it is one and nothing follows it.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    x509_parser::parse_x509_certificate(der)
        .ok()
        .filter(|(rest, _)| rest.is_empty())
        .map(|(_, certificate)| certificate)
}

/// Whether the certificate's public key is that of `key`.
pub(super) fn is_key_of(key: &KeyPair, certificate: &X509Certificate<'_>) -> bool {
    let ours = key.public_key_raw();
    let theirs: &[u8] = &certificate.public_key().subject_public_key.data;
    ours == theirs || is_compressed(ours, theirs)
}

/// Whether `theirs` is the compressed form (SEC 1, section 2.3.3) of the EC point `ours`.
fn is_compressed(ours: &[u8], theirs: &[u8]) -> bool {
    let (Some((4, point)), Some((form @ (2 | 3), x))) = (split_first(ours), split_first(theirs))
    else {
        return false;
    };
    point.len() == 2 * x.len()
        && point.starts_with(x)
        && point.last().is_some_and(|y| y & 1 == form & 1)
}

fn split_first(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest))
}

fn mismatch(certificates: &[X509Certificate<'_>]) -> CaError {
    let whose = match certificates {
        [one] => format!(
            "the key does not belong to the certificate of {}",
            printable(&one.subject().to_string())
        ),
        many => format!("the key belongs to none of the {} certificates", many.len()),
    };
    let hint = "these two print the same for a pair that fits: openssl pkey -in ca.key -pubout; openssl x509 -in ca.crt -noout -pubkey";
    CaError::new(Part::Pair, whose, hint)
}

fn is_version_1_root(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() == X509Version::V1 && certificate.subject() == certificate.issuer()
}

/// Why nodes whose Python is 3.13 or newer refuse client certificates of this CA: its `ssl` sets
/// OpenSSL's `X509_V_FLAG_X509_STRICT`. `None`: they do not.
pub(super) fn strict_fault(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    let constraints = certificate.basic_constraints().ok().flatten();
    match constraints {
        None => Some("it has no basicConstraints"),
        Some(constraints) if !constraints.critical => Some("its basicConstraints are not critical"),
        _ if certificate.key_usage().ok().flatten().is_none() => Some("it has no keyUsage"),
        _ if subject_key_id(certificate).is_none() => Some("it has no subject key identifier"),
        _ => None,
    }
}

/// Whether OpenSSL accepts client certificates under this one (RFC 5280, sections 4.2.1.3, 4.2.1.9,
/// 4.2.1.12; `X509_check_ca`).
pub(super) fn check_may_issue(certificate: &X509Certificate<'_>) -> Result<(), Fault> {
    const REMEDY: &str = "give the certificate of a CA: basicConstraints CA:TRUE, and keyUsage (where present) with keyCertSign";
    let damaged = |_| {
        Fault::new(
            "a certificate with damaged or repeated extensions",
            "issue the CA's certificate again",
        )
    };
    match certificate.basic_constraints().map_err(damaged)? {
        Some(constraints) if constraints.value.ca => {}
        // OpenSSL accepts roots of version 1, and CAs whose only sign is keyCertSign.
        None if is_version_1_root(certificate)
            || certificate.key_usage().ok().flatten().is_some() => {}
        Some(_) => {
            return Err(Fault::new(
                "not a certificate of a CA (basicConstraints says CA:FALSE)",
                REMEDY,
            ));
        }
        None => {
            return Err(Fault::new(
                "not a certificate of a CA (it has no basicConstraints)",
                REMEDY,
            ));
        }
    }
    if certificate
        .key_usage()
        .map_err(damaged)?
        .is_some_and(|usage| !usage.value.key_cert_sign())
    {
        return Err(Fault::new(
            "a CA certificate that may not sign certificates (keyUsage lacks keyCertSign)",
            REMEDY,
        ));
    }
    if certificate
        .extended_key_usage()
        .map_err(damaged)?
        .is_some_and(|usage| !usage.value.client_auth)
    {
        // OpenSSL takes anyExtendedKeyUsage for neither use of TLS.
        return Err(Fault::new(
            "a CA certificate that may not issue client certificates (extendedKeyUsage lacks clientAuth)",
            "use a CA without extendedKeyUsage, or with clientAuth in it",
        ));
    }
    if certificate.public_key().algorithm.algorithm
        == x509_parser::oid_registry::OID_PKCS1_RSASSAPSS
    {
        return Err(Fault::new(
            "a CA certificate whose RSA key is bound to PSS signatures",
            SUPPORTED,
        ));
    }
    Ok(())
}

pub(super) fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

pub(super) fn authority_key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate
        .iter_extensions()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

/// SHA-256 of `der`, in lower-case hexadecimal.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// A name out of a certificate, without characters that control a terminal.
pub(super) fn printable(name: &str) -> String {
    name.chars()
        .map(|c| {
            if drives_terminal(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// `2031-04-05 06:07:08 UTC`
pub(super) fn stamp(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time.to_offset(time::UtcOffset::UTC)
        .format(format)
        .unwrap_or_else(|_| time.unix_timestamp().to_string())
}

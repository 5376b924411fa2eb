//! The client's key and certificate as one thing: as a file for HAProxy, and read back from it.

use std::fmt;

use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;

use super::COMMON_NAME;
use super::ca::{Ca, fingerprint, hex, is_key_of, parse, printable, signer};
use super::pem;
use crate::secret::Secret;

/// The kinds of key that lbctl makes for a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    EcdsaP256,
    Rsa4096,
}

/// A client certificate and its key, which belong together.
#[derive(Clone)]
pub struct ClientPair {
    der: Vec<u8>,
    certificate_pem: String,
    key_pem: Secret,
    algorithm: Option<KeyAlgorithm>,
    facts: Facts,
}

/// What `status` shows of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `CN=patroni-client`
    pub subject: String,
    pub issuer: String,
    /// Lower-case hexadecimal, without separators.
    pub serial: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// For people: `ECDSA P-256`, `RSA 4096`.
    pub key_algorithm: String,
    /// SHA-256 of the certificate's DER, in lower-case hexadecimal.
    pub fingerprint: String,
}

/// Why a text is not a client pair. Holds no piece of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairError(pub(super) String);

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PairError {}

impl ClientPair {
    /// Reads what [`ClientPair::pem`] wrote: one private key and the client certificate, in any
    /// order. Further certificates are passed over. Errors: no key or certificate, the two do
    /// not belong together, or the certificate is not one of lbctl's (name and client
    /// authentication).
    pub fn from_pem(text: &str) -> Result<Self, PairError> {
        let key = pem::private_key(text)
            .map_err(|_| PairError("its private key cannot be read".into()))?;
        let certificates = pem::certificates(text)
            .map_err(|_| PairError("its certificate cannot be read".into()))?;
        let certificate = certificates.first().map(AsRef::as_ref).unwrap_or_default();
        let signer =
            signer(&key).map_err(|_| PairError("its private key cannot be read".into()))?;
        Self::new(&key.0, &signer.0, certificate)
    }

    /// Joins the two after checking that they belong together. `der` is the form of `key` that is
    /// written out.
    pub(super) fn new(
        der: &PrivateKeyDer<'_>,
        key: &KeyPair,
        certificate: &[u8],
    ) -> Result<Self, PairError> {
        let parsed =
            parse(certificate).ok_or_else(|| PairError("its certificate cannot be read".into()))?;
        if !is_key_of(key, &parsed) {
            return Err(PairError(
                "its key does not belong to its certificate".into(),
            ));
        }
        if !is_ours(&parsed) {
            return Err(PairError(format!(
                "its certificate is not a client certificate of {COMMON_NAME}"
            )));
        }
        let label = match der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let (algorithm, name) = algorithm(key, &parsed);
        Ok(Self {
            certificate_pem: pem::encode("CERTIFICATE", certificate).to_string(),
            key_pem: Secret::new(std::mem::take(&mut *pem::encode(label, der.secret_der()))),
            algorithm,
            facts: Facts {
                subject: printable(&parsed.subject().to_string()),
                issuer: printable(&parsed.issuer().to_string()),
                serial: hex(&parsed.serial.to_bytes_be()),
                not_before: parsed.validity().not_before.to_datetime(),
                not_after: parsed.validity().not_after.to_datetime(),
                key_algorithm: name,
                fingerprint: fingerprint(certificate),
            },
            der: certificate.to_vec(),
        })
    }

    /// The file for HAProxy's `crt`: key and certificate, without empty lines, for an empty line
    /// ends a payload on HAProxy's runtime socket (management guide, section 9.3).
    #[must_use]
    pub fn pem(&self) -> Secret {
        let key = self.key_pem.expose();
        let mut text = String::with_capacity(key.len() + self.certificate_pem.len());
        text.push_str(key);
        text.push_str(&self.certificate_pem);
        Secret::new(text)
    }

    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    #[must_use]
    pub fn key_pem(&self) -> &Secret {
        &self.key_pem
    }

    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.facts.not_before
    }

    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.facts.not_after
    }

    /// `None`: a kind of key that lbctl does not make.
    #[must_use]
    pub fn key_algorithm(&self) -> Option<KeyAlgorithm> {
        self.algorithm
    }

    /// Whether `ca` signed the certificate and a verifier finds from it to `ca`.
    #[must_use]
    pub fn is_issued_by(&self, ca: &Ca) -> bool {
        parse(&self.der).is_some_and(|certificate| ca.issued(&certificate))
    }
}

impl fmt::Debug for ClientPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPair")
            .field("facts", &self.facts)
            .field("key_pem", &self.key_pem)
            .finish_non_exhaustive()
    }
}

fn is_ours(certificate: &X509Certificate<'_>) -> bool {
    let named = certificate
        .subject()
        .iter_common_name()
        .any(|cn| cn.as_str() == Ok(COMMON_NAME));
    let client = certificate
        .extended_key_usage()
        .ok()
        .flatten()
        .is_some_and(|usage| usage.value.client_auth);
    named && client
}

fn algorithm(key: &KeyPair, certificate: &X509Certificate<'_>) -> (Option<KeyAlgorithm>, String) {
    let algorithm = key.algorithm();
    let ec = |curve: &str| (None, format!("ECDSA {curve}"));
    if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        (Some(KeyAlgorithm::EcdsaP256), "ECDSA P-256".into())
    } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
        ec("P-384")
    } else if *algorithm == rcgen::PKCS_ECDSA_P521_SHA512 {
        ec("P-521")
    } else if *algorithm == rcgen::PKCS_ED25519 {
        (None, "Ed25519".into())
    } else {
        let bits = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(rsa)) => rsa.key_size(),
            _ => 0,
        };
        (
            (bits == 4096).then_some(KeyAlgorithm::Rsa4096),
            format!("RSA {bits}"),
        )
    }
}

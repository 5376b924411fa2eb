//! The client's key and certificate as one thing: as a file for HAProxy, and read back from it.

use std::fmt;

use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;

use super::ca::{Part, fingerprint, hex, is_key_of, parse, printable, signer, stamp};
use super::path::{self, PathVerdict, Purpose, Rules};
use super::pem::{self, Fault, Whose};
use super::trust::CaCertificates;
use super::{COMMON_NAME, CertError, issue};
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
    /// From its issuer upwards, without the root.
    chain: Vec<Vec<u8>>,
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
    /// Reads what [`ClientPair::pem`] wrote: one private key, the client certificate and its chain.
    /// Errors: no key or certificate, or the two do not belong together.
    pub fn from_pem(text: &str) -> Result<Self, PairError> {
        let key = pem::private_key(text, Whose::Client)
            .map_err(|_| PairError("its private key cannot be read".into()))?;
        let unreadable = || PairError("its certificate cannot be read".into());
        let certificates = pem::certificates(text, Whose::Client).map_err(|_| unreadable())?;
        let (certificate, chain) = certificates.split_first().ok_or_else(unreadable)?;
        let signer =
            signer(&key).map_err(|_| PairError("its private key cannot be read".into()))?;
        let pair = Self::new(&key.0, &signer.0, certificate)?;
        Ok(pair.with_chain(chain.iter().map(|der| der.to_vec()).collect()))
    }

    /// A pair that was issued elsewhere: the key, and the certificate with those of its issuers, in
    /// any order. What is missing in between is taken from `ca`. No clock is read: see
    /// [`ClientPair::check_time`].
    pub fn given(
        key: &Secret,
        certificates: &str,
        ca: &CaCertificates,
    ) -> Result<Self, GivenError> {
        let of_key = |fault| GivenError::new(Part::Key, fault);
        let of_certificate = |fault| GivenError::new(Part::Certificate, fault);
        let der = pem::private_key(key.expose(), Whose::Client).map_err(of_key)?;
        let signer = signer(&der).map_err(of_key)?;
        let all = pem::certificates(certificates, Whose::Client).map_err(of_certificate)?;
        let all: Vec<Vec<u8>> = all.iter().map(|der| der.to_vec()).collect();
        let parsed: Option<Vec<_>> = all.iter().map(|der| parse(der)).collect();
        let parsed = parsed.ok_or_else(|| {
            of_certificate(Fault::new(
                "a PEM block that holds no X.509 certificate",
                "export the client's certificate again",
            ))
        })?;
        let own = parsed.iter().position(|c| is_key_of(&signer.0, c));
        let own = own.ok_or_else(|| {
            let of = parsed.first().map(|c| printable(&c.subject().to_string()));
            GivenError::new(
                Part::Pair,
                Fault::new(
                    format!(
                        "the key does not belong to the certificate of {}",
                        of.unwrap_or_default()
                    ),
                    "these two print the same for a pair that fits: openssl pkey -in client.key -pubout; openssl x509 -in client.crt -noout -pubkey",
                ),
            )
        })?;
        check_is_client(&parsed[own]).map_err(of_certificate)?;
        let pair = Self::new(&der.0, &signer.0, &all[own])
            .map_err(|e| of_certificate(Fault::new(e.to_string(), "")))?;
        let chain = ca.chain_of(&all[own], &all);
        Ok(pair.with_chain(chain))
    }

    /// Refuses a certificate that has expired or is not yet valid.
    pub fn check_time(&self, now: OffsetDateTime) -> Result<(), GivenError> {
        let (from, to) = (self.not_before(), self.not_after());
        let fault = if now > to {
            let said = format!("a client certificate that expired on {}", stamp(to));
            Fault::new(
                said,
                "have it issued again (and look at this machine's clock)",
            )
        } else if now < from {
            let said = format!(
                "a client certificate that is not valid before {}",
                stamp(from)
            );
            Fault::new(said, "look at this machine's clock, or wait")
        } else {
            return Ok(());
        };
        Err(GivenError::new(Part::Certificate, fault))
    }

    /// Refuses what the nodes would refuse: out of its time, or against the rules of its CAs, as
    /// far as their certificates are given.
    pub fn check(&self, ca: &CaCertificates, now: OffsetDateTime) -> Result<(), GivenError> {
        self.check_time(now)?;
        let given: Vec<Vec<u8>> = ca.ders().iter().chain(&self.chain).cloned().collect();
        if self.chain.is_empty() && self.issuer_in(ca).is_none() {
            return Ok(());
        }
        let rules = Rules {
            purpose: Purpose::Client,
            now: Some(now),
            partial: !path::leads_to_root(&self.der, &given),
            leaf_signature: true,
        };
        match path::verify_by(&self.der, &self.chain, &given, rules) {
            PathVerdict::Bad(said) => Err(GivenError::new(
                Part::Certificate,
                Fault::new(
                    format!("a certificate that every node would refuse: {said}"),
                    "have it issued otherwise; `openssl verify -purpose sslclient` says the same",
                ),
            )),
            PathVerdict::Good | PathVerdict::Unsure(_) => Ok(()),
        }
    }

    pub(super) fn with_chain(self, chain: Vec<Vec<u8>>) -> Self {
        Self { chain, ..self }
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
            chain: Vec::new(),
        })
    }

    /// The file for HAProxy's `crt`: key, certificate and its chain, without empty lines, for an
    /// empty line ends a payload on HAProxy's runtime socket (management guide, section 9.3).
    #[must_use]
    pub fn pem(&self) -> Secret {
        let (key, certificates) = (self.key_pem.expose(), self.chain_pem());
        let mut text = String::with_capacity(key.len() + certificates.len());
        text.push_str(key);
        text.push_str(&certificates);
        Secret::new(text)
    }

    /// The certificate and those that are sent with it.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        let chain = self.chain.iter().map(|der| pem::encode("CERTIFICATE", der));
        chain.fold(self.certificate_pem.clone(), |text, block| text + &block)
    }

    /// What is sent with the certificate, DER.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
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

    /// Whether one of these signed the certificate and a verifier finds from it to that one.
    #[must_use]
    pub fn is_issued_by(&self, ca: &CaCertificates) -> bool {
        self.issuer_in(ca).is_some()
    }

    pub(super) fn issuer_in(&self, ca: &CaCertificates) -> Option<usize> {
        ca.issuer_of(&parse(&self.der)?)
    }

    /// Whether it is like those that lbctl issues: by name and by client authentication.
    pub(super) fn is_like_ours(&self) -> bool {
        parse(&self.der).is_some_and(|certificate| is_ours(&certificate))
    }

    /// A request to have a certificate issued for the key, PEM.
    pub fn request_for(key: &Secret) -> Result<String, GivenError> {
        let of_key = |fault| GivenError::new(Part::Key, fault);
        let der = pem::private_key(key.expose(), Whose::Client).map_err(of_key)?;
        let signer = signer(&der).map_err(of_key)?;
        issue::request(&signer.0).map_err(|e| of_key(Fault::new(e.to_string(), "")))
    }
}

/// A new private key, PEM.
pub fn new_key(algorithm: KeyAlgorithm) -> Result<Secret, CertError> {
    let key = issue::generate(algorithm)?;
    let der = zeroize::Zeroizing::new(key.0.serialize_der());
    let mut text = pem::encode("PRIVATE KEY", &der);
    Ok(Secret::new(std::mem::take(&mut *text)))
}

/// Why a pair that was issued elsewhere cannot be used. The message fits behind the key's name and
/// never holds a piece of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenError {
    /// The key or the certificate, or that they do not belong together.
    pub part: Part,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl GivenError {
    fn new(part: Part, fault: Fault) -> Self {
        Self {
            part,
            message: fault.message,
            hint: fault.hint,
        }
    }
}

impl fmt::Display for GivenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for GivenError {}

/// That OpenSSL takes it for a TLS client's (`check_purpose_ssl_client`).
fn check_is_client(certificate: &X509Certificate<'_>) -> Result<(), Fault> {
    let extended = certificate.extended_key_usage().ok().flatten();
    if extended.is_some_and(|usage| !usage.value.client_auth) {
        return Err(Fault::new(
            "a certificate that is not for clients (extendedKeyUsage lacks clientAuth)",
            "have one issued with clientAuth in its extendedKeyUsage, or without extendedKeyUsage",
        ));
    }
    let usage = certificate.key_usage().ok().flatten();
    if usage.is_some_and(|u| !u.value.digital_signature() && !u.value.key_agreement()) {
        return Err(Fault::new(
            "a certificate that may not be used for TLS by a client (keyUsage lacks digitalSignature)",
            "have one issued with digitalSignature in its keyUsage, or without keyUsage",
        ));
    }
    Ok(())
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

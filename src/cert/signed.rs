//! Whether one certificate's key signed another one, for every algorithm that today's OpenSSL
//! accepts without a change of its settings. What is weaker is "unknown": HAProxy's security level
//! decides.

use aws_lc_rs::signature::{self, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The result of verifying a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Yes,
    No,
    /// lbctl cannot verify it, for the reason given.
    Unknown(&'static str),
}

/// RSA keys of fewer bits are refused at OpenSSL's security level 2, Debian's.
const LEAST_RSA_BITS: usize = 2048;

pub(super) fn signed(by: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> Signed {
    let key = by.public_key();
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let algorithm = match algorithm(&oid, key) {
        Ok(algorithm) => algorithm,
        Err(why) => return Signed::Unknown(why),
    };
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Signed::Unknown("it names two algorithms");
    }
    let verified = signature::UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        );
    if verified.is_ok() {
        Signed::Yes
    } else {
        Signed::No
    }
}

/// Why a key is weaker than OpenSSL's defaults want; `None`: it is not.
pub(super) fn weak_key(key: &SubjectPublicKeyInfo<'_>) -> Option<&'static str> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() < LEAST_RSA_BITS => {
            Some("its RSA key has less than 2048 bits")
        }
        Ok(PublicKey::DSA(_)) => Some("its key is a DSA key"),
        _ => None,
    }
}

fn algorithm(
    oid: &str,
    key: &SubjectPublicKeyInfo<'_>,
) -> Result<&'static dyn VerificationAlgorithm, &'static str> {
    const OTHER: &str = "it is signed by an algorithm that lbctl does not verify";
    const WEAK: &str = "it is signed by an algorithm that OpenSSL's defaults refuse";
    if let Some(why) = weak_key(key) {
        return Err(why);
    }
    let curve = key.algorithm.parameters.as_ref();
    let curve = curve
        .and_then(|any| any.as_oid().ok())
        .map(|oid| oid.to_id_string());
    let by_curve: [&'static dyn VerificationAlgorithm; 3] = match oid {
        // ecdsa-with-SHA256, -384, -512 (RFC 5758, section 3.2).
        "1.2.840.10045.4.3.2" => [
            &signature::ECDSA_P256_SHA256_ASN1,
            &signature::ECDSA_P384_SHA256_ASN1,
            &signature::ECDSA_P521_SHA256_ASN1,
        ],
        "1.2.840.10045.4.3.3" => [
            &signature::ECDSA_P256_SHA384_ASN1,
            &signature::ECDSA_P384_SHA384_ASN1,
            &signature::ECDSA_P521_SHA384_ASN1,
        ],
        "1.2.840.10045.4.3.4" => [
            &signature::ECDSA_P256_SHA512_ASN1,
            &signature::ECDSA_P384_SHA512_ASN1,
            &signature::ECDSA_P521_SHA512_ASN1,
        ],
        // sha256WithRSAEncryption, 384, 512 (RFC 8017, appendix C).
        "1.2.840.113549.1.1.11" => return Ok(&signature::RSA_PKCS1_2048_8192_SHA256),
        "1.2.840.113549.1.1.12" => return Ok(&signature::RSA_PKCS1_2048_8192_SHA384),
        "1.2.840.113549.1.1.13" => return Ok(&signature::RSA_PKCS1_2048_8192_SHA512),
        // Ed25519 (RFC 8410, section 3).
        "1.3.101.112" => return Ok(&signature::ED25519),
        // MD5 and SHA-1, with RSA and ECDSA.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => {
            return Err(WEAK);
        }
        _ => return Err(OTHER),
    };
    let at = match curve.as_deref() {
        Some("1.2.840.10045.3.1.7") => 0,
        Some("1.3.132.0.34") => 1,
        Some("1.3.132.0.35") => 2,
        _ => return Err(OTHER),
    };
    Ok(by_curve[at])
}

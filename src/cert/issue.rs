//! Making a client certificate. rcgen builds it; its issuer is then replaced by the CA's subject as
//! the CA's certificate has it, byte for byte, and the result is signed. Reason: rcgen keeps a name
//! as a map, so that of two OU or two DC one is lost, and it refuses multi-valued attributes; a
//! verifier compares the whole name.

use aws_lc_rs::rand;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RsaKeySize, SerialNumber,
    SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{OffsetDateTime, UtcOffset};

use super::ca::{Ca, Signer};
use super::pair::{ClientPair, KeyAlgorithm};
use super::path::{PathVerdict, Purpose, Rules, verify_by};
use super::{COMMON_NAME, CertError, der};

/// A fresh key and a certificate for it. Times are cut to whole seconds.
pub(super) fn issue(
    ca: &Ca,
    algorithm: KeyAlgorithm,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<ClientPair, CertError> {
    let key = generate(algorithm)?;
    let certificate = sign(ca, &key.0, not_before, not_after)?;
    let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.serialized_der()));
    let pair = ClientPair::new(&pkcs8, &key.0, &certificate)
        .map_err(|e| CertError::Issuing(e.to_string()))?;
    Ok(pair.with_chain(ca.certificates().chain_of(&certificate, &[])))
}

/// Whether OpenSSL will accept what was issued, as far as the CA's own certificates say.
pub(super) fn verify(ca: &Ca, pair: &ClientPair, now: OffsetDateTime) -> Result<(), CertError> {
    let rules = Rules {
        purpose: Purpose::Client,
        now: Some(now),
        partial: !ca.leads_to_root(),
        leaf_signature: true,
    };
    match verify_by(pair.der(), pair.chain(), ca.certificates().ders(), rules) {
        PathVerdict::Bad(said) => Err(CertError::Issuing(format!(
            "the nodes would refuse the new certificate: {said}"
        ))),
        PathVerdict::Good | PathVerdict::Unsure(_) => Ok(()),
    }
}

/// What the CA would issue, for as long as it lasts: to see whether it would verify.
pub(super) fn sample(ca: &Ca) -> Result<Vec<u8>, CertError> {
    let key = generate_p256()?;
    sign(ca, &key.0, ca.not_before(), ca.not_after())
}

/// A request for a certificate of that key (PKCS #10), PEM.
pub(super) fn request(key: &KeyPair) -> Result<String, CertError> {
    let request = client_params().serialize_request(key);
    let request = request.and_then(|request| request.pem());
    request.map_err(|e| crypto(&e))
}

/// What a client certificate says of itself.
fn client_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, COMMON_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn sign(
    ca: &Ca,
    key: &KeyPair,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<Vec<u8>, CertError> {
    let mut params = client_params();
    // rcgen writes the time's digits and ignores its offset.
    params.not_before = not_before.to_offset(UtcOffset::UTC);
    params.not_after = not_after.to_offset(UtcOffset::UTC);
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let draft = params.signed_by(key, &issuer(ca)).map_err(|e| crypto(&e))?;
    name_issuer(draft.der(), ca)
}

pub(super) fn generate_p256() -> Result<Signer, CertError> {
    generate(KeyAlgorithm::EcdsaP256)
}

pub(super) fn generate(algorithm: KeyAlgorithm) -> Result<Signer, CertError> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyAlgorithm::Rsa4096 => {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096)
        }
    }
    .map(Signer)
    .map_err(|e| crypto(&e))
}

/// 126 random bits below a set one: positive, never shorter than 16 bytes (RFC 5280, section
/// 4.1.2.2).
fn serial() -> Result<SerialNumber, CertError> {
    let mut bytes = [0u8; 16];
    rand::fill(&mut bytes)
        .map_err(|_| CertError::Issuing("no randomness from the system".into()))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// rcgen's issuer with an empty name (it is replaced) and a signer that leaves the signature empty
/// (it is made after).
fn issuer(ca: &Ca) -> Issuer<'static, Unsigned<'_>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(id) = ca.subject_key_id() {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id.to_vec());
    }
    Issuer::new(params, Unsigned(ca.key()))
}

/// The algorithm and the public part of the CA's key.
struct Unsigned<'a>(&'a KeyPair);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// The draft with the CA's subject as its issuer, signed (RFC 5280, section 4.1).
fn name_issuer(draft: &[u8], ca: &Ca) -> Result<Vec<u8>, CertError> {
    let parts = || {
        let (tbs, rest) = der::split(der::content(draft)?)?;
        let (signature_algorithm, _) = der::split(rest)?;
        let fields = der::content(tbs)?;
        let (_version, rest) = der::split(fields)?;
        let (_serial, rest) = der::split(rest)?;
        let (_signature, rest) = der::split(rest)?;
        let (_issuer, after) = der::split(rest)?;
        let before = fields.get(..fields.len() - rest.len())?;
        Some((signature_algorithm, before, after))
    };
    let (signature_algorithm, before, after) = parts().ok_or_else(|| {
        CertError::Issuing("rcgen built a certificate of an unknown shape".into())
    })?;
    let tbs = der::sequence(&[before, ca.subject_der(), after]);
    let signature = ca.key().sign(&tbs).map_err(|e| crypto(&e))?;
    Ok(der::sequence(&[
        &tbs,
        signature_algorithm,
        &der::bit_string(&signature),
    ]))
}

fn crypto(error: &rcgen::Error) -> CertError {
    CertError::Issuing(error.to_string())
}

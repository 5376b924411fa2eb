//! Inputs that nobody means well with: whatever they are, an answer without a panic and without a
//! piece of the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lbctl::testing::cert::{Ca, ClientPair};
use lbctl::testing::secret::Secret;
use proptest::prelude::*;
use time::OffsetDateTime;

use super::workshop::{CaSpec, MadeCa, Workshop};
use super::{issued, policy};

/// The block's base64 lines as one, so that each piece of it can be searched.
fn body(pem: &str) -> String {
    pem.lines()
        .filter(|line| !line.starts_with("-----"))
        .collect()
}

/// Loads and reads the texts; where they are refused, nothing of `secret` may be in the words.
fn answer(key: &str, certificate: &str, secret: &str) {
    let body = body(secret);
    // Any leak of 24 characters holds one of these whole. Base64 is ASCII, so every offset is a
    // character's.
    let pieces: Vec<&str> = (16..=body.len())
        .step_by(8)
        .map(|end| &body[end - 16..end])
        .collect();
    let said = [
        format!(
            "{:?}",
            Ca::load(&Secret::new(key), certificate).map_err(|e| (e.to_string(), e))
        ),
        format!("{:?}", ClientPair::from_pem(&format!("{key}{certificate}"))),
        format!("{:?}", ClientPair::from_pem(key)),
    ];
    for words in said {
        let leaks = pieces.iter().any(|piece| words.contains(piece));
        assert!(!leaks, "a piece of the key is in: {words}");
    }
}

/// The PEM with one byte of its DER changed.
fn with_changed_byte(pem: &str, at: usize, to: u8) -> String {
    let mut der = STANDARD.decode(body(pem)).unwrap();
    let at = at % der.len();
    der[at] = to;
    let label = pem.lines().next().unwrap();
    format!(
        "{label}\n{}\n{}\n",
        STANDARD.encode(der),
        label.replace("BEGIN", "END")
    )
}

fn cast() -> (Workshop, Vec<MadeCa>) {
    let shop = Workshop::new();
    let cas = ["p256", "p384-sec1", "rsa-pkcs1", "ed25519"].map(|key| {
        shop.ca(&CaSpec {
            key,
            ..CaSpec::default()
        })
    });
    (shop, cas.into())
}

#[test]
fn a_changed_byte_is_reported_without_the_key() {
    let (_shop, cas) = cast();
    for MadeCa { key, certificate } in &cas {
        // The structure is at the head; of the numbers behind it, samples do.
        let places = |pem: &str| {
            (0..STANDARD.decode(body(pem)).unwrap().len()).filter(|at| *at < 48 || at % 29 == 0)
        };
        for at in places(key) {
            for to in [0, 0x30, 0xff] {
                answer(&with_changed_byte(key, at, to), certificate, key);
            }
        }
        for at in places(certificate) {
            for to in [0, 0x30, 0xff] {
                answer(key, &with_changed_byte(certificate, at, to), key);
            }
        }
    }
}

#[test]
fn a_cut_anywhere_is_refused() {
    let shop = Workshop::new();
    let made = shop.ca(&CaSpec::default());
    let pem = issued(None, policy(&made.load()), OffsetDateTime::now_utc())
        .0
        .pem();
    for length in (0..pem.expose().len() - "-----END CERTIFICATE-----\n".len()).step_by(5) {
        ClientPair::from_pem(&pem.expose()[..length]).unwrap_err();
        answer(&pem.expose()[..length], &made.certificate, pem.expose());
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>(), other in "[-A-Za-z \n=+/]{0,200}") {
        answer(&text, &other, "");
        answer(&format!("-----BEGIN PRIVATE KEY-----\n{other}\n-----END PRIVATE KEY-----\n"), &text, "");
        answer(&other, &format!("-----BEGIN CERTIFICATE-----\n{other}\n-----END CERTIFICATE-----\n"), "");
    }

    #[test]
    fn any_der_is_answered(der in prop::collection::vec(any::<u8>(), 0..300), label in "(RSA |EC |)PRIVATE KEY") {
        let body = STANDARD.encode(der);
        let key = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        answer(&key, &format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"), "");
    }
}

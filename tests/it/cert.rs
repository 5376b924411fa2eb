//! The certificate module against OpenSSL: a zoo of CAs made by `openssl`, each asked for a client
//! certificate that `openssl verify` must accept. What is refused is in `refusals`, keeping and
//! renewing in `keeping`.

mod hostile;
mod keeping;
mod offline;
mod refusals;
mod workshop;
mod zoo;

use lbctl::testing::cert::KeyAlgorithm;
use lbctl::testing::cert::{Ca, ClientPair, IssueReason, Policy, Resolution, resolve};
use lbctl::testing::secret::Secret;
use time::OffsetDateTime;
use workshop::{CaSpec, Workshop, run};

/// Hours.
const DAY: u64 = 24;

/// 30 days, due 10 days before, ECDSA.
fn policy(ca: &Ca) -> Policy<'_> {
    Policy {
        ca: ca.certificates(),
        source: ca,
        draft: false,
        validity_hours: 30 * DAY,
        early_renewal_hours: 10 * DAY,
        key_algorithm: KeyAlgorithm::EcdsaP256,
    }
}

/// The new pair and its reason, where one is issued.
fn issued(
    current: Option<&str>,
    policy: Policy<'_>,
    now: OffsetDateTime,
) -> (ClientPair, IssueReason) {
    match resolve(current, policy, now, false).unwrap() {
        Resolution::Issue { pair, reason, .. } => (pair, reason),
        Resolution::Keep(_) => panic!("kept where a new one was expected"),
    }
}

/// Issues from the CA and lets OpenSSL judge the result.
fn check(shop: &Workshop, spec: &CaSpec) {
    let made = shop.ca(spec);
    let ca = Ca::load(&Secret::new(made.key.clone()), &made.certificate)
        .unwrap_or_else(|e| panic!("{spec:?}: {e}"));
    let now = OffsetDateTime::now_utc();
    let (pair, reason) = issued(None, policy(&ca), now);
    assert_eq!(reason, IssueReason::First);
    let (ca_file, cert_file) = (
        shop.write("zoo-ca.crt", &made.certificate),
        shop.write("zoo.crt", pair.certificate_pem()),
    );
    let mut verify = vec![
        "openssl",
        "verify",
        "-purpose",
        "sslclient",
        "-CAfile",
        &ca_file,
    ];
    // Strict mode refuses a CA without key identifiers, which is the CA's fault.
    if spec.ski {
        verify.push("-x509_strict");
    }
    verify.push(&cert_file);
    let verdict = run(&verify);
    assert!(verdict.contains(": OK"), "{spec:?}: {verdict}");
    let server = run(&["openssl", "x509", "-in", &cert_file, "-noout", "-purpose"]);
    assert!(
        server.contains("SSL client : Yes") && server.contains("SSL server : No"),
        "{spec:?}: {server}"
    );
    assert!(server.contains("SSL client CA : No"), "{spec:?}: {server}");
    assert!(pair.is_issued_by(ca.certificates()), "{spec:?}");

    let again = ClientPair::from_pem(pair.pem().expose()).unwrap();
    assert_eq!(again.pem(), pair.pem());
    assert_eq!(again.facts(), pair.facts());
    assert!(
        matches!(
            resolve(Some(pair.pem().expose()), policy(&ca), now, false).unwrap(),
            Resolution::Keep(_)
        ),
        "{spec:?}"
    );
}

#[test]
fn every_kind_of_ca_key_issues_a_certificate_that_verifies() {
    let shop = Workshop::new();
    for key in workshop::KEYS {
        for ski in [true, false] {
            check(
                &shop,
                &CaSpec {
                    key,
                    ski,
                    ..CaSpec::default()
                },
            );
        }
    }
}

#[test]
fn every_kind_of_ca_subject_issues_a_certificate_that_verifies() {
    let shop = Workshop::new();
    let long = format!(
        "/O={}/OU={}/CN={}",
        "o".repeat(64),
        "u".repeat(64),
        "c".repeat(64)
    );
    let subjects = [
        "/CN=plain",
        "/O=Example/OU=Databases/OU=Patroni/CN=two units",
        "/DC=example/DC=org/CN=two components",
        "/C=CA/O=Example+OU=Patroni+CN=multi-valued",
        "/O=Exämple Größe/CN=証明書 ✓",
        "/CN=with \\/ slash, comma; \"quotes\" <and> more\\+",
        "/emailAddress=ca@example.org/L=Montréal/ST=Québec/street=1 rue/CN=mail",
        "/O=only an organisation",
        &long,
    ];
    for subject in subjects {
        for ski in [true, false] {
            check(
                &shop,
                &CaSpec {
                    subject,
                    ski,
                    ..CaSpec::default()
                },
            );
        }
    }
}

#[test]
fn the_certificate_says_what_it_is_for_and_nothing_more() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    let (pair, _) = issued(None, policy(&ca), OffsetDateTime::now_utc());
    let file = shop.write("shape.crt", pair.certificate_pem());
    let text = run(&[
        "openssl", "x509", "-in", &file, "-noout", "-text", "-nameopt", "RFC2253",
    ]);
    for line in [
        "Version: 3 (0x2)",
        "Subject: CN=patroni-client",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
        "id-ecPublicKey",
        "NIST CURVE: P-256",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert_eq!(text.matches("X509v3 ").count(), 6, "{text}");
    let ca_file = shop.write("shape-ca.crt", ca.certificates().pem());
    let ext = |file: &str, name: &str| {
        let text = run(&["openssl", "x509", "-in", file, "-noout", "-ext", name]);
        text.lines().nth(1).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(
        ext(&file, "authorityKeyIdentifier"),
        ext(&ca_file, "subjectKeyIdentifier")
    );
    let facts = pair.facts();
    assert_eq!(facts.subject, "CN=patroni-client");
    assert_eq!(facts.issuer, ca.subject());
    assert_eq!(facts.key_algorithm, "ECDSA P-256");
    assert_eq!(facts.serial.len(), 32, "{}", facts.serial);
    let serial = run(&["openssl", "x509", "-in", &file, "-noout", "-serial"]);
    assert_eq!(
        serial.trim().trim_start_matches("serial=").to_lowercase(),
        facts.serial
    );
    let print = run(&[
        "openssl",
        "x509",
        "-in",
        &file,
        "-noout",
        "-fingerprint",
        "-sha256",
    ]);
    assert_eq!(
        print
            .trim()
            .rsplit('=')
            .next()
            .unwrap()
            .replace(':', "")
            .to_lowercase(),
        facts.fingerprint
    );
}

#[test]
fn the_pem_is_one_file_for_haproxy_without_empty_lines() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    for key_algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa4096] {
        let policy = Policy {
            key_algorithm,
            ..policy(&ca)
        };
        let (pair, _) = issued(None, policy, OffsetDateTime::now_utc());
        assert_eq!(pair.key_algorithm(), Some(key_algorithm));
        let pem = pair.pem();
        assert!(
            pem.expose()
                .lines()
                .all(|l| !l.trim().is_empty() && l.len() <= 64),
            "{key_algorithm:?}"
        );
        assert!(
            pem.expose().ends_with("-----END CERTIFICATE-----\n") && !pem.expose().contains('\r')
        );
        let file = shop.write("pair.pem", pem.expose());
        let from_key = run(&["openssl", "pkey", "-in", &file, "-pubout"]);
        let from_certificate = run(&["openssl", "x509", "-in", &file, "-noout", "-pubkey"]);
        assert_eq!(from_key, from_certificate);
        let checked = run(&["openssl", "pkey", "-in", &file, "-noout", "-check"]);
        assert!(checked.contains("Key is valid"), "{checked}");
        assert!(
            !format!("{pair:?} {ca:?}").contains("PRIVATE"),
            "Debug shows a key"
        );
    }
}

#[test]
fn serials_and_keys_differ_each_time() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    let now = OffsetDateTime::now_utc();
    let pairs: Vec<ClientPair> = (0..8).map(|_| issued(None, policy(&ca), now).0).collect();
    for (i, a) in pairs.iter().enumerate() {
        for b in &pairs[i + 1..] {
            assert_ne!(a.facts().serial, b.facts().serial);
            assert_ne!(a.key_pem(), b.key_pem());
        }
    }
}

#[test]
fn the_first_certificate_of_the_key_issues_and_all_are_kept() {
    let shop = Workshop::new();
    let [own, other] = ["/CN=own", "/CN=other"].map(|subject| {
        shop.ca(&CaSpec {
            subject,
            ..CaSpec::default()
        })
    });
    let text = format!(
        "subject=other\n  {}\r\n\n# ours:\n{}",
        other.certificate.replace('\n', "\r\n  "),
        own.certificate
    );
    let ca = Ca::load(&Secret::new(own.key.clone()), &text).unwrap();
    assert_eq!(ca.subject(), "CN=own");
    assert_eq!(
        ca.certificates().pem(),
        format!("{}{}", other.certificate, own.certificate)
    );
    assert_eq!(ca.fingerprint(), own.load().fingerprint());
    let with_key = Ca::load(
        &Secret::new(own.key.clone()),
        &format!("{}{}", own.key, own.certificate),
    )
    .unwrap();
    assert_eq!(
        with_key.certificates().pem(),
        own.certificate,
        "a key beside the certificate must not reach the guest"
    );
}

#[test]
fn an_intermediate_ca_issues_too() {
    let shop = Workshop::new();
    let root = shop.ca(&CaSpec {
        subject: "/CN=root",
        ..CaSpec::default()
    });
    let middle = shop.ca(&CaSpec {
        subject: "/OU=a/OU=b/CN=middle",
        issuer: Some(&root),
        ..CaSpec::default()
    });
    let ca = Ca::load(
        &Secret::new(middle.key.clone()),
        &format!("{}{}", middle.certificate, root.certificate),
    )
    .unwrap();
    let (pair, _) = issued(None, policy(&ca), OffsetDateTime::now_utc());
    let all = shop.write("chain.crt", ca.certificates().pem());
    let leaf = shop.write("chain-leaf.crt", pair.certificate_pem());
    let verdict = run(&[
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        &all,
        &leaf,
    ]);
    assert!(verdict.contains(": OK"), "{verdict}");
}

#[test]
fn a_tls_server_that_wants_client_certificates_accepts_ours_alone() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec {
        subject: "/OU=a/OU=b/CN=ca",
        ..CaSpec::default()
    });
    let stranger = shop.ca(&CaSpec {
        subject: "/OU=a/OU=b/CN=ca",
        ..CaSpec::default()
    });
    let now = OffsetDateTime::now_utc();
    let server = shop.tls_server(&ca);
    let ca = ca.load();
    let (ours, _) = issued(None, policy(&ca), now);
    let (theirs, _) = issued(None, policy(&stranger.load()), now);
    assert_eq!(server.handshake(ours.pem().expose()), Ok(()));
    assert!(server.handshake(theirs.pem().expose()).is_err());
    let rsa = Policy {
        key_algorithm: KeyAlgorithm::Rsa4096,
        ..policy(&ca)
    };
    assert_eq!(
        server.handshake(issued(None, rsa, now).0.pem().expose()),
        Ok(())
    );
}

//! Every CA that cannot be used, with the input at fault, the message and what to do.

use lbctl::testing::cert::{Ca, CaError, Part};
use lbctl::testing::secret::Secret;

use super::workshop::{CaSpec, Workshop, run};

/// No error may quote its input: each line of key material is searched in everything the error
/// says.
fn assert_tells_nothing(error: &CaError, inputs: &[&str]) {
    let said = format!("{error} {error:?} {:?}", error.hint);
    for line in inputs
        .iter()
        .flat_map(|text| text.lines())
        .filter(|l| l.len() > 8 && !l.contains("-----"))
    {
        assert!(
            !said.contains(line.trim()),
            "the error quotes its input: {said}"
        );
    }
}

fn refused(name: &str, key: &str, certificate: &str, part: Part, message: &str) {
    let Err(error) = Ca::load(&Secret::new(key), certificate) else {
        panic!("{name}: accepted")
    };
    assert_eq!(error.part, part, "{name}: {error}");
    assert!(error.message.contains(message), "{name}: {error}");
    assert!(
        error.hint.as_deref().is_some_and(|h| h.len() > 10),
        "{name}: no hint: {error:?}"
    );
    assert_tells_nothing(&error, &[key]);
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_what_to_do() {
    let shop = Workshop::new();
    let made = shop.ca(&CaSpec::default());
    let (key, cert) = (made.key.as_str(), made.certificate.as_str());
    let file = shop.write("good.key", key);
    let public = run(&["openssl", "pkey", "-in", &file, "-pubout"]);
    let other = shop.ca(&CaSpec::default()).key;
    #[rustfmt::skip]
    let table = [
        ("empty", String::new(), "empty"),
        ("blank", " \n\t\n".into(), "empty"),
        ("garbage", "hunter2hunter2hunter2".into(), "no BEGIN line"),
        ("cut in the base64", key[..key.len() / 2].into(), "damaged"),
        ("no end line", key.replace("-----END PRIVATE KEY-----", ""), "damaged"),
        ("damaged base64", key.replace("\nM", "\n!M"), "damaged"),
        ("written newlines", key.replace('\n', "\\n"), "written as \\n"),
        ("flipped content", key.replacen("MI", "MJ", 1), "cannot be read"),
        ("public key", public, "a public key"),
        ("certificate", cert.into(), "a certificate, where"),
        ("two keys", format!("{key}{other}"), "2 private keys"),
        ("openssh", openssh_key(&shop), "OpenSSH"),
        ("DER", String::from_utf8_lossy(b"0\x82\x01\x02\x02\x01\0").into_owned(), "binary (DER)"),
        ("other block", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".into(), "without a private key"),
    ];
    for (name, bad, message) in table {
        refused(name, &bad, cert, Part::Key, message);
    }
}

#[test]
fn encrypted_keys_are_refused_with_how_to_decrypt_them() {
    let shop = Workshop::new();
    for (ca_key, command) in [
        ("p256", &["pkcs8", "-topk8"][..]),
        ("p256", &["ec", "-aes128"][..]),
        ("rsa-pkcs1", &["rsa", "-traditional", "-aes256"][..]),
        ("rsa-pkcs8", &["rsa", "-aes256"][..]),
    ] {
        let made = shop.ca(&CaSpec {
            key: ca_key,
            ..CaSpec::default()
        });
        let file = shop.write("plain.key", &made.key);
        let encrypted = run(&[
            &["openssl"],
            command,
            &["-in", &file, "-passout", "pass:secret"],
        ]
        .concat());
        assert!(encrypted.contains("ENCRYPTED"), "{command:?}");
        refused(
            &format!("{command:?}"),
            &encrypted,
            &made.certificate,
            Part::Key,
            "encrypted",
        );
        let error = Ca::load(&Secret::new(encrypted), &made.certificate).unwrap_err();
        assert!(
            error.hint.unwrap().contains("openssl pkey -in"),
            "{command:?}"
        );
    }
}

fn openssh_key(shop: &Workshop) -> String {
    let path = shop.path("openssh.key");
    run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path]);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn keys_of_other_kinds_are_named() {
    let shop = Workshop::new();
    let cert = shop.ca(&CaSpec::default()).certificate;
    let params = shop.path("dsa.params");
    run(&["openssl", "dsaparam", "-out", &params, "1024"]);
    let genpkey_dsa = format!("genpkey -paramfile {params}");
    let gendsa = format!("gendsa {params}");
    #[rustfmt::skip]
    let table = [
        (genpkey_dsa.as_str(), "a DSA key"),
        (&gendsa, "a DSA key"),
        ("genpkey -algorithm ed448", "an Ed448 key"),
        ("genpkey -algorithm x25519", "an X25519 key"),
        ("genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "bound to PSS"),
        ("genrsa 1024", "less than 2048 bits"),
        ("genrsa -traditional 1024", "less than 2048 bits"),
        ("ecparam -name secp256k1 -genkey -noout", "secp256k1"),
        ("ecparam -name secp224r1 -genkey", "P-224"),
        ("ecparam -name brainpoolP256r1 -genkey -noout", "Brainpool"),
        ("ecparam -name sect283k1 -genkey -noout", "on a curve that"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "spelt out"),
    ];
    for (command, message) in table {
        let words: Vec<&str> = std::iter::once("openssl")
            .chain(command.split(' '))
            .collect();
        refused(command, &run(&words), &cert, Part::Key, message);
    }
}

#[test]
fn certificates_that_cannot_be_used_are_refused_with_what_to_do() {
    let shop = Workshop::new();
    let made = shop.ca(&CaSpec::default());
    let (key, cert) = (made.key.as_str(), made.certificate.as_str());
    let file = shop.write("good.key", key);
    let public = run(&["openssl", "pkey", "-in", &file, "-pubout"]);
    let request = run(&[
        "openssl",
        "req",
        "-new",
        "-key",
        &file,
        "-subj",
        "/CN=request",
    ]);
    let trusted = run(&[
        "openssl",
        "x509",
        "-in",
        &shop.write("good.crt", cert),
        "-trustout",
    ]);
    #[rustfmt::skip]
    let table = [
        ("empty", String::new(), "empty"),
        ("garbage", "not a certificate".into(), "no BEGIN line"),
        ("cut", cert[..cert.len() / 2].into(), "damaged"),
        ("key", key.into(), "a private key, where"),
        ("public key", public, "a public key"),
        ("request", request, "a signing request"),
        ("trusted", trusted, "OpenSSL's own format"),
        ("no certificate in it", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), "no X.509"),
    ];
    for (name, bad, message) in table {
        refused(name, key, &bad, Part::Certificate, message);
    }
}

#[test]
fn certificates_that_may_not_issue_clients_are_refused() {
    const CA: &str = "basicConstraints=critical,CA:TRUE";
    let shop = Workshop::new();
    let made = shop.ca(&CaSpec::default());
    let file = shop.write("good.key", &made.key);
    #[rustfmt::skip]
    let table: [(&[&str], Option<&str>); 9] = [
        (&["keyUsage=critical,keyCertSign"], None),
        (&["subjectKeyIdentifier=hash"], Some("no basicConstraints")),
        (&["basicConstraints=critical,CA:FALSE"], Some("CA:FALSE")),
        (&[CA, "keyUsage=critical,cRLSign,digitalSignature"], Some("keyCertSign")),
        (&[CA, "extendedKeyUsage=serverAuth"], Some("clientAuth")),
        (&[CA], None),
        (&["basicConstraints=CA:TRUE,pathlen:0", "keyUsage=keyCertSign"], None),
        (&[CA, "extendedKeyUsage=clientAuth,serverAuth"], None),
        (&[CA, "extendedKeyUsage=anyExtendedKeyUsage"], Some("clientAuth")),
    ];
    for (extensions, message) in table {
        let certificate = shop.self_signed(&file, extensions);
        if let Some(message) = message {
            refused(
                &extensions.join(" "),
                &made.key,
                &certificate,
                Part::Certificate,
                message,
            );
        } else {
            let loaded = Ca::load(&Secret::new(made.key.clone()), &certificate);
            assert!(loaded.is_ok(), "{extensions:?}: {loaded:?}");
        }
    }
}

#[test]
fn a_pair_that_does_not_belong_together_is_refused() {
    let shop = Workshop::new();
    for (a, b) in [
        ("p256", "p256"),
        ("rsa-pkcs8", "rsa-pkcs1"),
        ("ed25519", "ed25519"),
        ("p256", "rsa-pkcs8"),
        ("p521", "p384"),
    ] {
        let [a, b] = [a, b].map(|key| {
            shop.ca(&CaSpec {
                key,
                ..CaSpec::default()
            })
        });
        refused(
            "exchanged",
            &a.key,
            &b.certificate,
            Part::Pair,
            "does not belong",
        );
        refused(
            "none of two",
            &a.key,
            &format!("{}{}", b.certificate, b.certificate),
            Part::Pair,
            "none of the 2",
        );
    }
}

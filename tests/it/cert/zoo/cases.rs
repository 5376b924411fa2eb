//! The animals: each a CA, what it issued, and what nodes and configuration make of it.

use time::OffsetDateTime;

use super::super::workshop::{self, Workshop, run};

const CA_EXT: &[&str] = &[
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
];
const NODE_EXT: &[&str] = &[
    "subjectAltName=DNS:pg1.example.org",
    "extendedKeyUsage=serverAuth",
];

/// A key and its certificate, PEM.
#[derive(Clone)]
pub(super) struct Made {
    pub key: String,
    pub crt: String,
}

/// What is unusual of a certificate.
#[derive(Clone, Copy)]
pub(super) struct Spec<'a> {
    pub key: &'a str,
    pub ext: &'a [&'a str],
    /// Hours from now.
    pub life: (i64, i64),
}

pub(super) const SPEC: Spec<'static> = Spec {
    key: "p256",
    ext: CA_EXT,
    life: (-24, 24 * 300),
};
const NODE: Spec<'static> = Spec {
    ext: NODE_EXT,
    ..SPEC
};

pub(super) struct Maker {
    pub shop: Workshop,
}

impl Maker {
    /// Signed by `issuer`, or by itself. Without extensions it is of version 1.
    pub fn make(&self, subject: &str, spec: Spec<'_>, issuer: Option<&Made>) -> Made {
        self.make_with(subject, spec, issuer, &workshop::key(spec.key))
    }

    fn make_with(&self, subject: &str, spec: Spec<'_>, issuer: Option<&Made>, key: &str) -> Made {
        let shop = &self.shop;
        let key_file = shop.write("z.key", key);
        let config = shop.path("req.cnf");
        let csr = run(&[
            "openssl", "req", "-new", "-config", &config, "-key", &key_file, "-utf8", "-subj",
            subject,
        ]);
        let csr = shop.write("z.csr", &csr);
        let identified = |issuer: &Made| {
            let file = shop.write("z.issuer", &issuer.crt);
            let text = run(&["openssl", "x509", "-in", &file, "-noout", "-text"]);
            text.contains("Subject Key Identifier")
        };
        let aki = if !spec.ext.is_empty() && issuer.is_some_and(identified) {
            "\nauthorityKeyIdentifier=keyid"
        } else {
            ""
        };
        let ext = shop.write("z.ext", &format!("[e]\n{}{aki}\n", spec.ext.join("\n")));
        let (by_crt, by_key) = match issuer {
            Some(issuer) => (
                shop.write("by.crt", &issuer.crt),
                shop.write("by.key", &issuer.key),
            ),
            None => (String::new(), key_file.clone()),
        };
        let crt = if spec.life == SPEC.life {
            let mut args = vec!["openssl", "x509", "-req", "-in", &csr, "-days", "300"];
            if issuer.is_some() {
                args.extend(["-CA", &by_crt, "-CAkey", &by_key]);
            } else {
                args.extend(["-signkey", &by_key]);
            }
            if !spec.ext.is_empty() {
                args.extend(["-extfile", &ext, "-extensions", "e"]);
            }
            run(&args)
        } else {
            self.by_ca(&csr, &ext, spec.life, (&by_crt, &by_key))
        };
        Made {
            key: key.to_owned(),
            crt,
        }
    }

    /// `openssl ca` takes dates, `openssl x509` does not.
    fn by_ca(&self, csr: &str, ext: &str, life: (i64, i64), (crt, key): (&str, &str)) -> String {
        let shop = &self.shop;
        let dir = shop.path("");
        let config = shop.write(
            "ca.cnf",
            &format!(
                "[ca]\ndefault_ca=d\n[d]\ndatabase={dir}/index\nserial={dir}/serial\nnew_certs_dir={dir}\npolicy=p\ndefault_md=sha256\n\
                 unique_subject=no\npreserve=yes\n[p]\ncommonName=optional\norganizationName=optional\n"
            ),
        );
        shop.write("index", "");
        let random = run(&["openssl", "rand", "-hex", "8"]);
        shop.write("serial", &format!("7f{random}"));
        let at = |hours: i64| {
            let at = OffsetDateTime::now_utc() + time::Duration::hours(hours);
            let format =
                time::macros::format_description!("[year][month][day][hour][minute][second]Z");
            at.format(format).unwrap()
        };
        let (from, to) = (at(life.0), at(life.1));
        let mut args = vec![
            "openssl",
            "ca",
            "-batch",
            "-notext",
            "-config",
            &config,
            "-in",
            csr,
            "-keyfile",
            key,
            "-startdate",
            &from,
            "-enddate",
            &to,
            "-extfile",
            ext,
            "-extensions",
            "e",
        ];
        if crt.is_empty() {
            args.push("-selfsign");
        } else {
            args.extend(["-cert", crt]);
        }
        run(&args)
    }
}

/// One row of the table.
pub(super) struct Case {
    pub name: &'static str,
    /// `ca_certificate`.
    pub ca: String,
    /// The CA that signs clients: `ca_key`.
    pub issuer: Made,
    /// `key` and `certificate`, instead.
    pub given: Option<Made>,
    /// With its chain.
    pub node: Made,
    /// `restapi.cafile`.
    pub trusts: String,
    pub verify_host: Option<&'static str>,
    /// lbctl refuses the text, for what HAProxy makes of it depends on its version, or loses a CA.
    pub damaged: bool,
}

fn case(name: &'static str, ca: &str, issuer: &Made, node: &Made) -> Case {
    Case {
        name,
        ca: ca.to_owned(),
        issuer: issuer.clone(),
        given: None,
        node: node.clone(),
        trusts: ca.to_owned(),
        verify_host: None,
        damaged: false,
    }
}

fn with_chain(node: &Made, chain: &[&Made]) -> Made {
    let chain: String = chain.iter().map(|made| made.crt.as_str()).collect();
    Made {
        key: node.key.clone(),
        crt: format!("{}{chain}", node.crt),
    }
}

// One list: each case is read beside its neighbours.
#[allow(clippy::too_many_lines)]
pub(super) fn cases(maker: &Maker) -> Vec<Case> {
    let root = maker.make("/O=Zoo/CN=root", SPEC, None);
    let int = maker.make("/O=Zoo/CN=intermediate", SPEC, Some(&root));
    let of_root = maker.make("/CN=node", NODE, Some(&root));
    let of_int = maker.make("/CN=node", NODE, Some(&int));
    let chained = with_chain(&of_int, &[&int]);
    let both = format!("{}{}", int.crt, root.crt);
    let swapped = format!("{}{}", root.crt, int.crt);
    let node = |ext: &[&str]| maker.make("/CN=node", Spec { ext, ..SPEC }, Some(&root));
    let lives = |life| maker.make("/CN=node", Spec { life, ..NODE }, Some(&root));

    let mut all = vec![
        case("one root", &root.crt, &root, &of_root),
        Case {
            trusts: root.crt.clone(),
            ..case(
                "intermediate and root, nodes trust the root",
                &both,
                &int,
                &chained,
            )
        },
        Case {
            trusts: root.crt.clone(),
            ..case("root before intermediate", &swapped, &int, &chained)
        },
        case("nodes trust intermediate and root", &both, &int, &chained),
        Case {
            trusts: int.crt.clone(),
            ..case("nodes trust the intermediate alone", &both, &int, &chained)
        },
        case("intermediate without its root", &int.crt, &int, &chained),
        Case {
            trusts: root.crt.clone(),
            ..case(
                "node sends no intermediate, the file has it",
                &both,
                &int,
                &of_int,
            )
        },
        case(
            "node sends no intermediate, the file has none",
            &root.crt,
            &root,
            &of_int,
        ),
    ];
    all.extend(constrained(maker));
    all.extend(texts(maker, &root, &of_root));

    let v1_root = maker.make("/CN=root of version 1", Spec { ext: &[], ..SPEC }, None);
    let of_v1 = maker.make("/CN=node", NODE, Some(&v1_root));
    all.extend([
        case(
            "node's certificate of version 1",
            &root.crt,
            &root,
            &node(&[]),
        ),
        case("root of version 1", &v1_root.crt, &v1_root, &of_v1),
        case(
            "node without extendedKeyUsage",
            &root.crt,
            &root,
            &node(&NODE_EXT[..1]),
        ),
        case(
            "node for clients only",
            &root.crt,
            &root,
            &node(&[
                "subjectAltName=DNS:pg1.example.org",
                "extendedKeyUsage=clientAuth",
            ]),
        ),
        case(
            "node with anyExtendedKeyUsage alone",
            &root.crt,
            &root,
            &node(&[
                "subjectAltName=DNS:pg1.example.org",
                "extendedKeyUsage=anyExtendedKeyUsage",
            ]),
        ),
        case(
            "node with keyUsage keyAgreement alone",
            &root.crt,
            &root,
            &node(&[
                "subjectAltName=DNS:pg1.example.org",
                "keyUsage=keyAgreement",
            ]),
        ),
        case(
            "node with keyUsage cRLSign alone",
            &root.crt,
            &root,
            &node(&["subjectAltName=DNS:pg1.example.org", "keyUsage=cRLSign"]),
        ),
        case(
            "node with an unknown critical extension",
            &root.crt,
            &root,
            &node(&[
                "subjectAltName=DNS:pg1.example.org",
                "1.2.3.4=critical,ASN1:UTF8String:x",
            ]),
        ),
        case(
            "node's certificate expired",
            &root.crt,
            &root,
            &lives((-48, -24)),
        ),
        case(
            "node's certificate not yet valid",
            &root.crt,
            &root,
            &lives((24, 48)),
        ),
        case(
            "node's certificate is that of a CA",
            &root.crt,
            &root,
            &node(&[
                "subjectAltName=DNS:pg1.example.org",
                "basicConstraints=critical,CA:TRUE",
            ]),
        ),
    ]);
    for (name, key) in [
        ("RSA keys", "rsa-pkcs8"),
        ("EC keys on P-384", "p384"),
        ("Ed25519 keys", "ed25519"),
    ] {
        let root = maker.make("/CN=root", Spec { key, ..SPEC }, None);
        let node = maker.make("/CN=node", Spec { key, ..NODE }, Some(&root));
        all.push(case(name, &root.crt, &root, &node));
    }
    all.extend(named(maker, &root));
    all.extend(several(maker, &root, &of_root));
    all.extend(elsewhere(maker, &root, &of_root));
    all
}

/// CAs that may not issue everything.
fn constrained(maker: &Maker) -> Vec<Case> {
    let mut all = Vec::new();
    for (name, extra) in [
        (
            "nameConstraints permit O=Example alone",
            "nameConstraints=critical,permitted;dirName:dn_o",
        ),
        (
            "nameConstraints exclude CN=patroni-client",
            "nameConstraints=critical,excluded;dirName:dn_cn",
        ),
        (
            "nameConstraints permit DNS .example.org",
            "nameConstraints=critical,permitted;DNS:.example.org",
        ),
        (
            "nameConstraints permit DNS .example.com alone",
            "nameConstraints=critical,permitted;DNS:.example.com",
        ),
        (
            "CA with extendedKeyUsage clientAuth alone",
            "extendedKeyUsage=clientAuth",
        ),
        (
            "CA with extendedKeyUsage serverAuth alone",
            "extendedKeyUsage=serverAuth",
        ),
        (
            "CA with anyExtendedKeyUsage alone",
            "extendedKeyUsage=anyExtendedKeyUsage",
        ),
    ] {
        let mut ext = CA_EXT.to_vec();
        ext.extend([extra, "[dn_o]", "O=Example", "[dn_cn]", "CN=patroni-client"]);
        let root = maker.make("/CN=root", Spec { ext: &ext, ..SPEC }, None);
        let node = maker.make("/CN=node", NODE, Some(&root));
        all.push(case(name, &root.crt, &root, &node));
    }
    let short = [
        "basicConstraints=critical,CA:TRUE,pathlen:0",
        CA_EXT[1],
        CA_EXT[2],
    ];
    let short = Spec {
        ext: &short,
        ..SPEC
    };
    let root = maker.make("/CN=root", SPEC, None);
    let int = maker.make("/CN=intermediate", short, Some(&root));
    let node = with_chain(&maker.make("/CN=node", NODE, Some(&int)), &[&int]);
    let both = format!("{}{}", int.crt, root.crt);
    all.push(case("intermediate with pathlen:0", &both, &int, &node));
    let root = maker.make("/CN=root", short, None);
    let int = maker.make("/CN=intermediate", SPEC, Some(&root));
    let node = with_chain(&maker.make("/CN=node", NODE, Some(&int)), &[&int]);
    let both = format!("{}{}", int.crt, root.crt);
    all.push(case(
        "root with pathlen:0 above an intermediate",
        &both,
        &int,
        &node,
    ));
    let old = maker.make(
        "/CN=root",
        Spec {
            life: (-48, -1),
            ..SPEC
        },
        None,
    );
    let int = maker.make("/CN=intermediate", SPEC, Some(&old));
    let node = with_chain(&maker.make("/CN=node", NODE, Some(&int)), &[&int]);
    let both = format!("{}{}", int.crt, old.crt);
    all.push(case(
        "intermediate under an expired root",
        &both,
        &int,
        &node,
    ));
    all
}

/// One CA and its next one, written in ways that readers disagree about.
fn texts(maker: &Maker, root: &Made, node: &Made) -> Vec<Case> {
    let next = maker.make("/O=Zoo/CN=next root", SPEC, None);
    let file = maker.shop.write("z.crt", &next.crt);
    let trusted = run(&["openssl", "x509", "-in", &file, "-trustout"]);
    let both = format!("{}{}", root.crt, next.crt);
    let plain = |name, text: &str| Case {
        trusts: both.clone(),
        ..case(name, text, root, node)
    };
    let damaged = |name, text: &str| Case {
        damaged: true,
        ..plain(name, text)
    };
    let bad_dashes = next.crt.replace("-----BEGIN", "----BEGIN");
    vec![
        plain("two CAs of a rotation", &both),
        plain("CRLF line ends", &both.replace('\n', "\r\n")),
        plain("UTF-8 byte order mark", &format!("\u{feff}{both}")),
        plain(
            "text between the certificates",
            &format!("# old\n{}\n# next\n{}", root.crt, next.crt),
        ),
        damaged(
            "two CAs joined without a line break",
            &format!("{}{}", root.crt.trim_end(), next.crt),
        ),
        damaged(
            "BEGIN line with four dashes",
            &format!("{}{bad_dashes}", root.crt),
        ),
        damaged(
            "TRUSTED CERTIFICATE beside a plain one",
            &format!("{}{trusted}", root.crt),
        ),
    ]
}

/// By `verify_host`.
fn named(maker: &Maker, root: &Made) -> Vec<Case> {
    let node = |subject: &str, ext: &[&str]| maker.make(subject, Spec { ext, ..SPEC }, Some(root));
    let only = |name, wanted, node: &Made| Case {
        verify_host: Some(wanted),
        ..case(name, &root.crt, root, node)
    };
    let san = &[
        "subjectAltName=DNS:pg1.example.org",
        "extendedKeyUsage=serverAuth",
    ];
    let wild = &[
        "subjectAltName=DNS:*.example.org",
        "extendedKeyUsage=serverAuth",
    ];
    let eku = &["extendedKeyUsage=serverAuth"];
    vec![
        only(
            "verify_host is an alternative name",
            "pg1.example.org",
            &node("/CN=node", san),
        ),
        only(
            "verify_host matches a wildcard",
            "pg1.example.org",
            &node("/CN=node", wild),
        ),
        only(
            "verify_host is deeper than a wildcard",
            "a.pg1.example.org",
            &node("/CN=node", wild),
        ),
        only(
            "verify_host is the CN, no alternative names",
            "pg1.example.org",
            &node("/CN=pg1.example.org", eku),
        ),
        only(
            "verify_host is the CN beside alternative names",
            "pg2.example.org",
            &node("/CN=pg2.example.org", san),
        ),
        only(
            "verify_host is none of the names",
            "pg3.example.org",
            &node("/CN=pg2.example.org", san),
        ),
    ]
}

/// More than one path.
fn several(maker: &Maker, root: &Made, of_root: &Made) -> Vec<Case> {
    let second = maker.make("/O=Zoo/CN=second", SPEC, None);
    let crossed = maker.make_with("/O=Zoo/CN=second", SPEC, Some(root), &second.key);
    let node = maker.make("/CN=node", NODE, Some(&second));
    let all = format!("{}{}{}", second.crt, crossed.crt, root.crt);
    let expired = Spec {
        life: (-48, -1),
        ..SPEC
    };
    let renewed = maker.make_with("/O=Zoo/CN=root", expired, None, &root.key);
    let plain = Spec {
        ext: &[CA_EXT[0], CA_EXT[1], "subjectKeyIdentifier=none"],
        ..SPEC
    };
    let (first, again) = (
        maker.make("/CN=same name", plain, None),
        maker.make("/CN=same name", plain, None),
    );
    let plain_node = Spec {
        ext: &[
            "subjectAltName=DNS:pg1.example.org",
            "authorityKeyIdentifier=none",
        ],
        ..SPEC
    };
    let of_again = maker.make("/CN=node", plain_node, Some(&again));
    vec![
        Case {
            trusts: root.crt.clone(),
            ..case(
                "cross-signed CA, nodes trust the other root",
                &all,
                &second,
                &node,
            )
        },
        Case {
            trusts: second.crt.clone(),
            ..case(
                "cross-signed CA, nodes trust its own root",
                &all,
                &second,
                &node,
            )
        },
        case(
            "renewed CA beside its expired certificate",
            &format!("{}{}", renewed.crt, root.crt),
            root,
            of_root,
        ),
        case(
            "two CAs of one name without key identifiers",
            &format!("{}{}", first.crt, again.crt),
            &first,
            &of_again,
        ),
    ]
}

/// Certificates that somebody else issued.
fn elsewhere(maker: &Maker, root: &Made, of_root: &Made) -> Vec<Case> {
    let clients = maker.make("/O=Zoo/CN=clients", SPEC, None);
    let int = maker.make("/O=Zoo/CN=clients below", SPEC, Some(&clients));
    let client = |ext: &[&str], issuer| maker.make("/CN=lb", Spec { ext, ..SPEC }, Some(issuer));
    let eku = &["keyUsage=digitalSignature", "extendedKeyUsage=clientAuth"];
    let chained = with_chain(&client(eku, &int), &[&int]);
    let swapped = client(eku, &int);
    let swapped = Made {
        crt: format!("{}{}{}", clients.crt, int.crt, swapped.crt),
        ..swapped
    };
    let given = |name, given: &Made| Case {
        given: Some(given.clone()),
        trusts: clients.crt.clone(),
        ..case(name, &root.crt, root, of_root)
    };
    vec![
        given(
            "given certificate of a CA for clients, with its chain",
            &chained,
        ),
        given(
            "given certificate, chain before it and with the root",
            &swapped,
        ),
        given("given certificate without its chain", &client(eku, &int)),
        given("given certificate of version 1", &client(&[], &clients)),
        given(
            "given certificate for servers only",
            &client(
                &["keyUsage=digitalSignature", "extendedKeyUsage=serverAuth"],
                &clients,
            ),
        ),
        given(
            "given certificate, expired",
            &maker.make(
                "/CN=lb",
                Spec {
                    ext: eku,
                    life: (-48, -1),
                    ..SPEC
                },
                Some(&clients),
            ),
        ),
    ]
}

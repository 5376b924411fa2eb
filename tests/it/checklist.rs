//! What `check --host` asks of the nodes, with fake ones on loopback that use real TLS; the rest of
//! the list is tried on a real libvirt (tests/it/libvirt/checklist.rs).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use lbctl::testing::cert::KeyAlgorithm;
use lbctl::testing::cert::{Ca, ClientPair, Policy, resolve};
use lbctl::testing::checklist::nodes::{CertVerdict, NodeAnswer, Question, Reply};
use lbctl::testing::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use time::OffsetDateTime;

/// A CA and what it signs.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

/// How long certificates last, in years.
type Years = (i32, i32);
const NOW: Years = (2020, 2200);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = dates(NOW);
        let key = KeyPair::generate().unwrap();
        Self { params, key }
    }

    fn pem(&self) -> String {
        self.params.clone().self_signed(&self.key).unwrap().pem()
    }

    fn loaded(&self) -> Ca {
        Ca::load(&Secret::new(self.key.serialize_pem()), &self.pem()).unwrap()
    }

    /// A client certificate, as `check --host` makes it.
    fn pair(&self) -> ClientPair {
        let ca = self.loaded();
        let policy = Policy {
            ca: ca.certificates(),
            source: &ca,
            draft: false,
            validity_hours: 1,
            early_renewal_hours: 0,
            key_algorithm: KeyAlgorithm::EcdsaP256,
        };
        let now = OffsetDateTime::now_utc();
        resolve(None, policy, now, true).unwrap().pair().clone()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let der = self.params.clone().self_signed(&self.key).unwrap();
        roots.add(der.der().clone()).unwrap();
        roots
    }
}

fn dates((from, to): Years) -> (OffsetDateTime, OffsetDateTime) {
    (
        rcgen::date_time_ymd(from, 1, 1),
        rcgen::date_time_ymd(to, 1, 1),
    )
}

/// What a node holds out and wants.
struct Node<'a> {
    ca: &'a Authority,
    common_name: &'a str,
    alternative: &'a [&'a str],
    years: Years,
    /// Whose client certificates it takes; `None`: it asks for none.
    clients: Option<&'a Authority>,
    reply: &'static str,
}

impl<'a> Node<'a> {
    fn new(ca: &'a Authority) -> Self {
        Self {
            ca,
            common_name: "node1",
            alternative: &["node1.example.org", "pg.example.org"],
            years: NOW,
            clients: Some(ca),
            reply: "HTTP/1.0 200 OK\r\nServer: fake\r\n\r\n{\"role\": \"primary\"}",
        }
    }

    /// Answers one connection on loopback.
    fn listen(&self) -> SocketAddr {
        let names: Vec<String> = self.alternative.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        (params.not_before, params.not_after) = dates(self.years);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.ca.params, &self.ca.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reply = self.reply;
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let tls = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            // A client that is refused, or refuses the server, closes the connection and reports
            // why.
            let mut asked = [0; 256];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(reply.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        address
    }
}

fn ask(ca: &Authority, verify_host: Option<&str>, node: SocketAddr) -> NodeAnswer {
    let question = Question::tls(ca.loaded().certificates().pem(), Some(&ca.pair())).unwrap();
    question.ask(node, verify_host)
}

#[test]
fn a_valid_node_is_shown_with_its_role() {
    let ca = Authority::new("Patroni CA");
    for (reply, code) in [
        ("HTTP/1.0 200 OK\r\n\r\n{}", 200),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n{}", 503),
    ] {
        let node = Node {
            reply,
            ..Node::new(&ca)
        };
        let answer = ask(&ca, Some("pg.example.org"), node.listen());
        let good = NodeAnswer {
            certificate: CertVerdict::Good,
            asked: true,
            reply: Reply::Status(code),
        };
        assert_eq!(answer, good);
    }
}

#[test]
fn a_node_of_another_ca_or_of_another_time_is_reported() {
    let (ca, other) = (Authority::new("Patroni CA"), Authority::new("Other CA"));
    let foreign = Node {
        clients: Some(&ca),
        ..Node::new(&other)
    };
    let old = Node {
        years: (2010, 2020),
        ..Node::new(&ca)
    };
    for (node, word) in [(foreign, "CN=Other CA, is not given"), (old, "expired")] {
        match ask(&ca, None, node.listen()).certificate {
            CertVerdict::Bad(said) => assert!(said.contains(word), "{said}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_refused_client_certificate_is_reported_in_the_words_of_tls() {
    let (ca, other) = (Authority::new("Patroni CA"), Authority::new("Other CA"));
    let node = Node {
        clients: Some(&other),
        ..Node::new(&ca)
    };
    let answer = ask(&ca, None, node.listen());
    assert!(matches!(&answer.reply, Reply::RefusesUs(_)), "{answer:?}");
    assert_eq!(answer.certificate, CertVerdict::Good);
}

#[test]
fn a_node_that_asks_for_no_certificate_is_reported() {
    let ca = Authority::new("Patroni CA");
    let node = Node {
        clients: None,
        ..Node::new(&ca)
    };
    let answer = ask(&ca, None, node.listen());
    assert_eq!((answer.asked, answer.reply), (false, Reply::Status(200)));
}

#[test]
fn names_are_judged_as_haproxy_does() {
    let ca = Authority::new("Patroni CA");
    let only_common = |common_name| Node {
        common_name,
        alternative: &[],
        ..Node::new(&ca)
    };
    for (node, wanted, good) in [
        (Node::new(&ca), None, true),
        (Node::new(&ca), Some("node1.example.org"), true),
        (Node::new(&ca), Some("node2.example.org"), false),
        // The common name counts beside alternative names, too.
        (Node::new(&ca), Some("node1"), true),
        (only_common("pg.example.org"), Some("pg.example.org"), true),
        (only_common("node1"), Some("pg.example.org"), false),
    ] {
        let answer = ask(&ca, wanted, node.listen());
        let expected = match wanted {
            Some(name) if !good => CertVerdict::OtherName(name.to_owned()),
            _ => CertVerdict::Good,
        };
        assert_eq!(answer.certificate, expected, "{wanted:?}");
    }
}

#[test]
fn what_is_not_a_rest_api_is_reported() {
    let ca = Authority::new("Patroni CA");
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(matches!(
        ask(&ca, None, closed).reply,
        Reply::Unreachable(_)
    ));
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let answer = ask(&ca, None, address);
    assert_eq!(answer.reply, Reply::Strange("it does not use TLS".into()));
    let node = Node {
        reply: "SSH-2.0-OpenSSH_9.2\r\n",
        ..Node::new(&ca)
    };
    let answer = ask(&ca, None, node.listen());
    assert_eq!(
        answer.reply,
        Reply::Strange("the answer is not HTTP".into())
    );
}

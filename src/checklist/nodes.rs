//! One question to a node's REST API, as HAProxy's check asks it: `GET /primary`, or the like for
//! another role, over TLS with a client certificate of the configured CA, without one, or by plain
//! HTTP. The verdict on the node's own certificate is noted and
//! does not end the connection: nothing secret is sent over it, and the operator wants to know all
//! that is wrong at once.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, RootCertStore, SignatureScheme, StreamOwned,
};

use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Version;

use crate::cert::{self, ClientPair};

/// For each of connecting, sending and every part of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer, in bytes. Patroni's are some hundred.
const LARGEST: u64 = 64 * 1024;

const PRIMARY: &str = "/primary";

/// What a node is asked with.
pub struct Question {
    /// Path of the URL.
    path: &'static str,
    /// `None`: by plain HTTP.
    tls: Option<Tls>,
}

struct Tls {
    config: Arc<ClientConfig>,
    ca: Vec<CertificateDer<'static>>,
    /// `None`: lbctl shows none.
    pair: Option<Arc<CertifiedKey>>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAnswer {
    pub certificate: CertVerdict,
    /// Whether it asked for a client certificate.
    pub asked: bool,
    pub reply: Reply,
}

/// The verdict on the node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertVerdict {
    /// None was seen.
    None,
    /// Of the CA, and of the name where one is wanted.
    Good,
    /// Not of the CA, or not of this time.
    Bad(String),
    OtherName(String),
    /// Whether OpenSSL, which HAProxy uses, accepts it is unknown here.
    Unsure(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The status of the answer to `GET /primary`: 200 of the primary, 503 of any other.
    Status(u16),
    /// It ended the connection because of the client certificate: TLS's own word for the reason.
    RefusesUs(String),
    /// It answers, but not as expected.
    Strange(String),
    /// The TLS library here and the node do not agree, and HAProxy's may.
    Unclear(String),
    /// No connection was made.
    Unreachable(String),
}

impl Question {
    /// By plain HTTP.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            path: PRIMARY,
            tls: None,
        }
    }

    /// Whether the node has another role than that of the primary.
    #[must_use]
    pub fn of(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// By TLS, with the CAs in `ca_pem`. `pair` is the client certificate to show.
    pub fn tls(ca_pem: &str, pair: Option<&ClientPair>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pem = |e: rustls::pki_types::pem::Error| e.to_string();
        let ca: Vec<_> = CertificateDer::pem_slice_iter(ca_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(pem)?;
        let certified = |pair: &ClientPair| {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.chain_pem().as_bytes())
                .collect::<Result<_, _>>()
                .map_err(pem)?;
            let key =
                PrivateKeyDer::from_pem_slice(pair.key_pem().expose().as_bytes()).map_err(pem)?;
            // Not from_der, which reads the certificate as this library would verify it.
            let key = provider.key_provider.load_private_key(key);
            let key = key.map_err(|e| e.to_string())?;
            Ok::<_, String>(CertifiedKey::new(chain, key))
        };
        let pair = pair.map(certified).transpose()?;
        let verifier = Arc::new(RecordingVerifier::new(Arc::clone(&provider)));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let tls = Tls {
            config: Arc::new(config),
            ca,
            pair: pair.map(Arc::new),
        };
        Ok(Self {
            path: PRIMARY,
            tls: Some(tls),
        })
    }

    /// Asks; takes some seconds at most. `verify_host`: the name that the node's certificate must
    /// carry, if any.
    #[must_use]
    pub fn ask(&self, node: SocketAddr, verify_host: Option<&str>) -> NodeAnswer {
        match &self.tls {
            None => NodeAnswer {
                certificate: CertVerdict::None,
                asked: false,
                reply: connected(node, |stream| talk(stream, self.path)),
            },
            Some(tls) => tls.ask(node, self.path, verify_host),
        }
    }
}

impl Tls {
    fn ask(&self, node: SocketAddr, path: &str, verify_host: Option<&str>) -> NodeAnswer {
        let witness = Arc::new(RecordingVerifier::new(Arc::clone(
            self.config.crypto_provider(),
        )));
        let resolver = Arc::new(ClientCertResolver {
            pair: self.pair.clone(),
            asked: AtomicBool::new(false),
        });
        let mut config = (*self.config).clone();
        let verifier: Arc<RecordingVerifier> = Arc::clone(&witness);
        config.dangerous().set_certificate_verifier(verifier);
        config.client_auth_cert_resolver = Arc::<ClientCertResolver>::clone(&resolver);
        // The verifier checks the name; an address is sent to nobody (RFC 6066, section 3).
        let name = ServerName::IpAddress(node.ip().into());
        let reply = connected(node, |stream| {
            let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
            talk(StreamOwned::new(tls, stream), path)
        });
        NodeAnswer {
            certificate: witness.judge(&self.ca, verify_host),
            asked: resolver.asked.load(Ordering::Relaxed),
            reply,
        }
    }
}

fn talk(mut stream: impl Read + Write, path: &str) -> io::Result<Vec<u8>> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(LARGEST).read_to_end(&mut answer) {
        // Patroni closes without a TLS `close_notify`.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        result => result.map(|_| answer),
    }
}

fn connected(node: SocketAddr, talk: impl FnOnce(TcpStream) -> io::Result<Vec<u8>>) -> Reply {
    let stream = match TcpStream::connect_timeout(&node, PATIENCE) {
        Ok(stream) => stream,
        Err(e) => return Reply::Unreachable(e.to_string()),
    };
    let patient = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    match patient.and_then(|()| talk(stream)) {
        Ok(answer) => status(&answer).map_or_else(
            || Reply::Strange("the answer is not HTTP".into()),
            Reply::Status,
        ),
        Err(e) => failed(&e),
    }
}

fn failed(error: &io::Error) -> Reply {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match tls {
        // With TLS 1.3 a client learns of it after its own part of the handshake.
        Some(Error::AlertReceived(alert)) if is_about_certificates(*alert) => {
            Reply::RefusesUs(format!("{alert:?}"))
        }
        Some(Error::InvalidMessage(_)) => Reply::Strange("it does not use TLS".into()),
        Some(other) => Reply::Unclear(other.to_string()),
        None if error.kind() == io::ErrorKind::WouldBlock => {
            Reply::Strange(format!("no answer within {} s", PATIENCE.as_secs()))
        }
        None => Reply::Strange(error.to_string()),
    }
}

/// RFC 8446, section 6.2.
fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
            | A::CertificateRequired
    )
}

/// Of `HTTP/1.0 503 Service Unavailable`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (protocol, rest) = line.split_once(' ')?;
    let code = rest.split(' ').next()?.parse().ok()?;
    protocol.starts_with("HTTP/").then_some(code)
}

/// Gives the client certificate, and notes whether the node asked for it.
#[derive(Debug)]
struct ClientCertResolver {
    pair: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for ClientCertResolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.pair.clone()
    }

    fn has_certs(&self) -> bool {
        self.pair.is_some()
    }
}

/// Keeps the node's certificates, to be verified when the connection has ended.
#[derive(Debug)]
struct RecordingVerifier {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
    /// Whether nobody has verified that the node has the key of its certificate.
    unproven: AtomicBool,
}

impl RecordingVerifier {
    fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            seen: Mutex::new(Vec::new()),
            unproven: AtomicBool::new(false),
        }
    }

    fn judge(&self, ca: &[CertificateDer<'static>], verify_host: Option<&str>) -> CertVerdict {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((leaf, others)) = seen.split_first() else {
            return CertVerdict::None;
        };
        let now = OffsetDateTime::now_utc();
        match cert::verify(leaf, others, ca, cert::Purpose::Server, now) {
            cert::PathVerdict::Bad(said) => return CertVerdict::Bad(said),
            cert::PathVerdict::Unsure(said) => return CertVerdict::Unsure(said),
            cert::PathVerdict::Good => {}
        }
        if self.unproven.load(Ordering::Relaxed) {
            let said = "this version of TLS gives no way to verify here that the node has its key";
            return CertVerdict::Unsure(said.into());
        }
        if let Err(said) = self.second_opinion(leaf, others, ca) {
            return CertVerdict::Unsure(said);
        }
        match verify_host {
            Some(name) if !is_named(leaf, name) => CertVerdict::OtherName(name.to_owned()),
            _ => CertVerdict::Good,
        }
    }

    /// What this library says, which follows other rules than OpenSSL. Where it refuses what
    /// OpenSSL is taken to accept, nobody is believed, except in what is known to differ.
    fn second_opinion(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        ca: &[CertificateDer<'static>],
    ) -> Result<(), String> {
        if is_beyond_webpki(leaf) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(ca.iter().cloned());
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = ParsedCertificate::try_from(leaf).map_err(|e| e.to_string())?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &roots,
            others,
            UnixTime::now(),
            algorithms,
        )
        .map_err(|e| e.to_string())
    }
}

/// Certificates that OpenSSL accepts as a server's, and this library does not read as one: of
/// version 1, or those of a CA.
fn is_beyond_webpki(leaf: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
        return false;
    };
    let constraints = certificate.basic_constraints().ok().flatten();
    certificate.version() != X509Version::V3 || constraints.is_some_and(|c| c.value.ca)
}

/// By its alternative names or its common names, as HAProxy does (`ssl_sock_srv_verifycbk`).
fn is_named(leaf: &CertificateDer<'_>, wanted: &str) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
        return false;
    };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative
        .iter()
        .flat_map(|names| &names.value.general_names);
    let mut names = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let mut common = certificate.subject().iter_common_name();
    names.any(|name| matches_host(name, wanted))
        || common.any(|cn| cn.as_str().is_ok_and(|cn| matches_host(cn, wanted)))
}

/// As `ssl_sock_srv_hostcheck`: equal, or with one `*` in the first label, which stands for a part
/// of one label.
fn matches_host(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some((label, rest)), Some((first, others))) =
        (pattern.split_once('.'), host.split_once('.'))
    else {
        return false;
    };
    let Some((before, after)) = label.split_once('*') else {
        return false;
    };
    let (first, before, after) = (
        first.to_ascii_lowercase(),
        before.to_ascii_lowercase(),
        after.to_ascii_lowercase(),
    );
    !after.contains('*')
        && rest.eq_ignore_ascii_case(others)
        && first.len() >= before.len() + after.len()
        && first.starts_with(&before)
        && first.ends_with(&after)
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            all.cloned().map(CertificateDer::into_owned).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_beyond_webpki(cert) {
            // Nothing secret is sent, and the verdict says that nobody knows.
            self.unproven.store(true, Ordering::Relaxed);
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if is_beyond_webpki(cert) {
            let (_, certificate) = x509_parser::parse_x509_certificate(cert)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
            return verify_tls13_signature_with_raw_key(message, &key, dss, algorithms);
        }
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Where a node's REST API is.
#[must_use]
pub fn rest_api(ip: IpAddr, port: u16) -> SocketAddr {
    (ip, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_haproxy_matches_them() {
        for (pattern, host, matches) in [
            ("pg1.example.org", "PG1.example.org", true),
            ("*.example.org", "pg1.example.org", true),
            ("pg*.example.org", "pg1.example.org", true),
            ("*1.example.org", "pg1.example.org", true),
            ("pg*1.example.org", "pg1.example.org", true),
            ("pg1*1.example.org", "pg1.example.org", false),
            ("*.example.org", "a.pg1.example.org", false),
            ("*.*.org", "pg1.example.org", false),
            ("*", "pg1", false),
            ("pg1", "pg1.example.org", false),
        ] {
            assert_eq!(matches_host(pattern, host), matches, "{pattern} {host}");
        }
    }
}

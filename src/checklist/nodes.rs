//! One question to a node's REST API, as HAProxy's check asks it: `GET /primary` over TLS with a
//! client certificate of the configured CA. The verdict on the node's own certificate is noted and
//! does not end the connection: nothing secret is sent over it, and the operator wants to know all
//! that is wrong at once.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};

use crate::cert::{Ca, ClientPair};

/// For each of connecting, sending and every part of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer, in bytes. Patroni's are some hundred.
const LARGEST: u64 = 64 * 1024;

/// What a node is asked with.
pub struct Question {
    config: Arc<ClientConfig>,
    ca: Vec<CertificateDer<'static>>,
    pair: Arc<CertifiedKey>,
    /// The name its certificate must carry, if any.
    verify_host: Option<String>,
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
    /// This library refuses it, and OpenSSL, which HAProxy uses, may not.
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
    /// No connection was made.
    Unreachable(String),
}

impl Question {
    /// `pair` is a client certificate of that CA.
    pub fn new(ca: &Ca, pair: &ClientPair, verify_host: Option<&str>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pem = |e: rustls::pki_types::pem::Error| e.to_string();
        let ca: Vec<_> = CertificateDer::pem_slice_iter(ca.certificate_pem().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(pem)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.certificate_pem().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(pem)?;
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem().expose().as_bytes()).map_err(pem)?;
        let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|e| e.to_string())?;
        let verifier = Arc::new(RecordingVerifier::new(Arc::clone(&provider)));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            ca,
            pair: Arc::new(pair),
            verify_host: verify_host.map(str::to_owned),
        })
    }

    /// Asks; takes some seconds at most.
    #[must_use]
    pub fn ask(&self, node: SocketAddr) -> NodeAnswer {
        let witness = Arc::new(RecordingVerifier::new(Arc::clone(
            self.config.crypto_provider(),
        )));
        let resolver = Arc::new(ClientCertResolver {
            pair: Arc::clone(&self.pair),
            asked: AtomicBool::new(false),
        });
        let mut config = (*self.config).clone();
        let verifier: Arc<RecordingVerifier> = Arc::clone(&witness);
        config.dangerous().set_certificate_verifier(verifier);
        config.client_auth_cert_resolver = Arc::<ClientCertResolver>::clone(&resolver);
        let reply = match TcpStream::connect_timeout(&node, PATIENCE) {
            Ok(stream) => talk(stream, config, node),
            Err(e) => Reply::Unreachable(e.to_string()),
        };
        NodeAnswer {
            certificate: witness.judge(&self.ca, self.verify_host.as_deref()),
            asked: resolver.asked.load(Ordering::Relaxed),
            reply,
        }
    }
}

fn talk(stream: TcpStream, config: ClientConfig, node: SocketAddr) -> Reply {
    // The verifier checks the name; an address is sent to nobody (RFC 6066, section 3).
    let name = ServerName::IpAddress(node.ip().into());
    let said = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, stream);
        stream.write_all(b"GET /primary HTTP/1.0\r\n\r\n")?;
        stream.flush()?;
        let mut answer = Vec::new();
        match stream.take(LARGEST).read_to_end(&mut answer) {
            // Patroni closes without a TLS `close_notify`.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
            result => result.map(|_| answer),
        }
    };
    match said() {
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
        Some(Error::AlertReceived(alert)) => Reply::RefusesUs(format!("{alert:?}")),
        Some(Error::InvalidMessage(_)) => Reply::Strange("it does not use TLS".into()),
        Some(other) => Reply::Strange(other.to_string()),
        None if error.kind() == io::ErrorKind::WouldBlock => {
            Reply::Strange(format!("no answer within {} s", PATIENCE.as_secs()))
        }
        None => Reply::Strange(error.to_string()),
    }
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
    pair: Arc<CertifiedKey>,
    asked: AtomicBool,
}

impl ResolvesClientCert for ClientCertResolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.pair))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Keeps the node's certificates, to be verified when the connection has ended.
#[derive(Debug)]
struct RecordingVerifier {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl RecordingVerifier {
    fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            seen: Mutex::new(Vec::new()),
        }
    }

    fn judge(&self, ca: &[CertificateDer<'static>], verify_host: Option<&str>) -> CertVerdict {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((leaf, others)) = seen.split_first() else {
            return CertVerdict::None;
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(ca.iter().cloned());
        let algorithms = self.provider.signature_verification_algorithms.all;
        let chain = ParsedCertificate::try_from(leaf).and_then(|leaf| {
            let now = UnixTime::now();
            verify_server_cert_signed_by_trust_anchor(&leaf, &roots, others, now, algorithms)
                .map(|()| leaf)
        });
        match (chain, verify_host) {
            (Err(error), _) => verdict(&error),
            (Ok(_), None) => CertVerdict::Good,
            (Ok(parsed), Some(name)) => {
                if is_named(&parsed, leaf, name) {
                    CertVerdict::Good
                } else {
                    CertVerdict::OtherName(name.to_owned())
                }
            }
        }
    }
}

/// By its alternative names, or, where it has none, by its common name, as HAProxy does
/// (`verifyhost`).
fn is_named(parsed: &ParsedCertificate<'_>, der: &CertificateDer<'_>, name: &str) -> bool {
    let by_alternative = ServerName::try_from(name.to_owned())
        .is_ok_and(|wanted| verify_server_name(parsed, &wanted).is_ok());
    by_alternative || common_name_alone(der).is_some_and(|cn| cn.eq_ignore_ascii_case(name))
}

fn common_name_alone(der: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    if certificate.subject_alternative_name().ok()?.is_some() {
        return None;
    }
    let cn = certificate.subject().iter_common_name().next()?;
    cn.as_str().ok().map(str::to_owned)
}

fn verdict(error: &Error) -> CertVerdict {
    use CertificateError as E;
    let said = error.to_string();
    match error {
        Error::InvalidCertificate(
            E::UnknownIssuer
            | E::BadSignature
            | E::Expired
            | E::ExpiredContext { .. }
            | E::NotValidYet
            | E::NotValidYetContext { .. },
        ) => CertVerdict::Bad(said),
        _ => CertVerdict::Unsure(said),
    }
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
pub fn rest_api(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

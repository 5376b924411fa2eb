//! A server of HTTPS on this machine, which answers as a test tells it to.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    /// The first and the last byte.
    pub range: Option<(usize, Option<usize>)>,
}

/// What the server says to it.
pub struct Says {
    /// With what follows it: `200 OK`.
    pub status: String,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    /// Says that there would be so much more.
    pub missing: usize,
}

impl Says {
    pub fn status(status: &str) -> Self {
        Self {
            status: status.into(),
            headers: Vec::new(),
            body: Vec::new(),
            missing: 0,
        }
    }

    pub fn page(text: &str) -> Self {
        Self {
            body: text.into(),
            ..Self::status("200 OK")
        }
    }

    /// The part that was asked for.
    pub fn part(asked: &Asked, whole: &[u8]) -> Self {
        let Some((begin, end)) = asked.range else {
            return Self {
                body: whole.to_vec(),
                ..Self::status("200 OK")
            };
        };
        if begin >= whole.len() {
            return Self::status("416 Range Not Satisfiable");
        }
        let end = end.map_or(whole.len(), |end| (end + 1).min(whole.len()));
        Self {
            headers: vec![format!(
                "Content-Range: bytes {begin}-{}/{}",
                end - 1,
                whole.len()
            )],
            body: whole[begin..end].to_vec(),
            ..Self::status("206 Partial Content")
        }
    }

    /// It breaks off after so many bytes.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.missing = self.body.len().saturating_sub(bytes);
        self.body.truncate(bytes);
        self
    }
}

pub struct Https {
    /// Without a slash at its end.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Https {
    /// Answers until the test ends. Its CA is written into the folder as `https.pem`.
    pub fn serve(folder: &Path, answer: impl Fn(&Asked, usize) -> Says + Send + 'static) -> Self {
        let (config, pem) = tls();
        fs::write(folder.join("https.pem"), pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                serve(connection.unwrap(), &config, &noted, &answer);
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn tls() -> (Arc<ServerConfig>, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, &ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Arc::new(config), ca_certificate.pem())
}

/// One question for each connection. Whoever goes away is left.
fn serve(
    connection: TcpStream,
    config: &Arc<ServerConfig>,
    noted: &Mutex<Vec<Asked>>,
    answer: &impl Fn(&Asked, usize) -> Says,
) -> Option<()> {
    let server = ServerConnection::new(Arc::clone(config)).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(server, connection));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let range = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let range = name.eq_ignore_ascii_case("range").then_some(value)?;
        let (begin, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((begin.parse().ok()?, end.parse().ok()))
    });
    let asked = Asked { path, range };
    let number = {
        let mut noted = noted.lock().unwrap();
        noted.push(asked.clone());
        noted.len() - 1
    };
    let says = answer(&asked, number);
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", says.status);
    for header in &says.headers {
        let _ = write!(head, "{header}\r\n");
    }
    let length = says.body.len() + says.missing;
    let _ = write!(head, "Content-Length: {length}\r\n\r\n");
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&says.body).ok()?;
    stream.flush().ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

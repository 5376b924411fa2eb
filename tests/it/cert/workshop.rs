//! Makes CAs of every kind with `openssl` in a temporary directory, and a TLS server that asks for
//! their certificates.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lbctl::testing::cert::Ca;
use lbctl::testing::secret::Secret;
use tempfile::TempDir;

/// Every kind of CA key, by the names that [`CaSpec::key`] takes.
pub const KEYS: [&str; 16] = [
    "rsa-pkcs1",
    "rsa-pkcs8",
    "p256",
    "p384",
    "p521",
    "p256-sec1",
    "p384-sec1",
    "p521-sec1",
    "p256-sec1-block",
    "p384-sec1-block",
    "p521-sec1-block",
    "p256-sec1-bare",
    "p384-sec1-bare",
    "p521-sec1-bare",
    "p384-compressed",
    "ed25519",
];

#[derive(Debug, Clone)]
pub struct CaSpec<'a> {
    pub key: &'a str,
    /// As `openssl req -subj` takes it.
    pub subject: &'a str,
    /// With a subject key identifier.
    pub ski: bool,
    pub days: u32,
    /// `None`: signed by itself.
    pub issuer: Option<&'a MadeCa>,
}

impl Default for CaSpec<'_> {
    fn default() -> Self {
        Self {
            key: "p256",
            subject: "/O=Example/CN=Test CA",
            ski: true,
            days: 7300,
            issuer: None,
        }
    }
}

#[derive(Debug)]
pub struct MadeCa {
    pub key: String,
    pub certificate: String,
}

impl MadeCa {
    pub fn load(&self) -> Ca {
        Ca::load(&Secret::new(self.key.clone()), &self.certificate).unwrap()
    }
}

pub struct Workshop {
    dir: TempDir,
}

impl Workshop {
    pub fn new() -> Self {
        let shop = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        shop.write("req.cnf", "[req]\ndistinguished_name = dn\n[dn]\n");
        shop
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The path of the file written.
    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn ca(&self, spec: &CaSpec<'_>) -> MadeCa {
        let key = key(spec.key);
        let certificate = self.certificate(&key, spec);
        // OpenSSL itself cannot use such a key, so it is made bare after its certificate.
        let key = if spec.key.ends_with("-bare") {
            bare(&key)
        } else {
            key
        };
        MadeCa { key, certificate }
    }

    /// Another certificate for the same key.
    pub fn again(&self, made: &MadeCa, subject: &str, days: u32) -> MadeCa {
        let key = made.key.clone();
        let certificate = self.certificate(
            &key,
            &CaSpec {
                subject,
                days,
                ..CaSpec::default()
            },
        );
        MadeCa { key, certificate }
    }

    fn certificate(&self, key: &str, spec: &CaSpec<'_>) -> String {
        let (file, config, days) = (
            self.write("ca.key", key),
            self.path("req.cnf"),
            spec.days.to_string(),
        );
        let ski = if spec.ski { "hash" } else { "none" };
        let extensions = format!(
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier={ski}\n"
        );
        let mut request = vec![
            "openssl",
            "req",
            "-new",
            "-config",
            &config,
            "-key",
            &file,
            "-utf8",
            "-subj",
            spec.subject,
        ];
        let Some(issuer) = spec.issuer else {
            request.extend(["-x509", "-days", &days]);
            for extension in extensions.lines() {
                request.extend(["-addext", extension]);
            }
            return run(&request);
        };
        let request = self.write("ca.csr", &run(&request));
        let with = self.write(
            "ca.ext",
            &format!("{extensions}authorityKeyIdentifier=keyid\n"),
        );
        let (by_key, by) = (
            self.write("by.key", &issuer.key),
            self.write("by.crt", &issuer.certificate),
        );
        run(&[
            "openssl", "x509", "-req", "-in", &request, "-CA", &by, "-CAkey", &by_key, "-extfile",
            &with, "-days", &days,
        ])
    }

    /// A certificate of the key in the file, with just these extensions.
    pub fn self_signed(&self, key_file: &str, extensions: &[&str]) -> String {
        let config = self.path("req.cnf");
        let mut args = vec![
            "openssl", "req", "-x509", "-new", "-config", &config, "-key", key_file, "-subj",
            "/CN=x", "-days", "9",
        ];
        for extension in extensions {
            args.extend(["-addext", extension]);
        }
        run(&args)
    }

    /// On loopback, until it is dropped: answers only clients with a certificate of `ca`.
    pub fn tls_server(&self, ca: &MadeCa) -> TlsServer<'_> {
        let key_file = self.write("server.key", &key("p256"));
        let certificate = self.self_signed(&key_file, &["extendedKeyUsage=serverAuth"]);
        let (cert_file, ca_file) = (
            self.write("server.crt", &certificate),
            self.write("clients.crt", &ca.certificate),
        );
        let mut child = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-www",
                "-Verify",
                "1",
                "-verify_return_error",
            ])
            .args(["-cert", &cert_file, "-key", &key_file, "-CAfile", &ca_file])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("package openssl is needed");
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let address = lines
            .find_map(|l| l.strip_prefix("ACCEPT ").map(str::to_owned))
            .expect("s_server says where it listens");
        // Its output must be read on, or it stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        TlsServer {
            shop: self,
            child,
            address,
        }
    }
}

pub struct TlsServer<'a> {
    shop: &'a Workshop,
    child: Child,
    address: String,
}

impl TlsServer<'_> {
    /// Asks for a page with the client certificate in `pem`; the error is what the client saw.
    pub fn handshake(&self, pem: &str) -> Result<(), String> {
        let file = self.shop.write("client.pem", pem);
        let mut client = Command::new("timeout")
            .args([
                "20",
                "openssl",
                "s_client",
                "-connect",
                &self.address,
                "-ign_eof",
                "-cert",
                &file,
                "-key",
                &file,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Refused clients may have lost the pipe by now.
        let _ = client
            .stdin
            .take()
            .unwrap()
            .write_all(b"GET / HTTP/1.0\r\n\r\n");
        let output = client.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("HTTP/1.0 200") {
            Ok(())
        } else {
            Err(text.into_owned())
        }
    }
}

impl Drop for TlsServer<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the command wrote, both streams; a test whose tool is missing fails with the package's
/// name.
pub fn run(command: &[&str]) -> String {
    let package = if command[0] == "ssh-keygen" {
        "openssh-client"
    } else {
        command[0]
    };
    let output = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}: install the package {package}", command[0]));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}:\n{out}{err}");
    // What openssl says while it generates or converts is not a part of the PEM.
    if out.contains("-----BEGIN ") {
        out.into_owned()
    } else {
        format!("{out}{err}")
    }
}

pub fn key(kind: &str) -> String {
    let (curve, form) = kind.split_once('-').unwrap_or((kind, ""));
    let curve = match curve {
        "p256" => "P-256",
        "p384" => "P-384",
        "p521" => "P-521",
        other => other,
    };
    let pkcs8 = format!("ec_paramgen_curve:{curve}");
    match form {
        "pkcs1" => run(&["openssl", "genrsa", "-traditional", "2048"]),
        "pkcs8" => run(&[
            "openssl",
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ]),
        "compressed" => {
            let (format, form) = ("ec_param_enc:named_curve", "point-format:compressed");
            run(&[
                "openssl",
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                &pkcs8,
                "-pkeyopt",
                format,
                "-pkeyopt",
                form,
            ])
        }
        "sec1" | "sec1-bare" => run(&["openssl", "ecparam", "-name", curve, "-genkey", "-noout"]),
        "sec1-block" => run(&["openssl", "ecparam", "-name", curve, "-genkey"]),
        _ if curve == "ed25519" => run(&["openssl", "genpkey", "-algorithm", "ed25519"]),
        _ => run(&["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", &pkcs8]),
    }
}

/// A SEC1 key without the name of its curve inside, as the standard allows where it is known from
/// elsewhere.
fn bare(pem: &str) -> String {
    let body: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    let der = STANDARD.decode(body).unwrap();
    let fields = element(&der).1;
    let mut kept = Vec::new();
    let mut rest = fields;
    while !rest.is_empty() {
        let (whole, _) = element(rest);
        if whole[0] != 0xa0 {
            kept.extend_from_slice(whole);
        }
        rest = &rest[whole.len()..];
    }
    let length = u8::try_from(kept.len()).unwrap();
    let mut out = if length < 128 {
        vec![0x30, length]
    } else {
        vec![0x30, 0x81, length]
    };
    out.extend(kept);
    format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(out)
    )
}

/// The first DER element of `bytes`, whole and its content.
fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = if bytes[1] < 128 {
        (2, bytes[1])
    } else {
        (3, bytes[2])
    };
    let end = header + usize::from(length);
    (&bytes[..end], &bytes[header..end])
}

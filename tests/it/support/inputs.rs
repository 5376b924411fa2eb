//! What the cases refer to: CAs made on the spot (no private key is kept in the repository), files
//! and variables in memory, and a fixed time.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::OnceLock;

use lbctl::testing::config::MemoryInputs;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use time::macros::datetime;

pub const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f admin@example.com";

/// The time at which all cases are judged.
pub fn now() -> OffsetDateTime {
    datetime!(2026-06-01 12:00 UTC)
}

/// The files and variables that the cases may refer to.
pub fn inputs() -> MemoryInputs {
    static INPUTS: OnceLock<MemoryInputs> = OnceLock::new();
    INPUTS.get_or_init(make).clone()
}

fn make() -> MemoryInputs {
    let (ca_key, ca) = certificate(IsCa::Ca(BasicConstraints::Unconstrained), 2020, 2200);
    let (other_key, other) = certificate(IsCa::Ca(BasicConstraints::Unconstrained), 2020, 2200);
    let (old_key, old) = certificate(IsCa::Ca(BasicConstraints::Unconstrained), 2010, 2025);
    let (short_key, short) = certificate(IsCa::Ca(BasicConstraints::Unconstrained), 2020, 2027);
    let (leaf_key, leaf) = certificate(IsCa::ExplicitNoCa, 2020, 2200);
    let encrypted = ca_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let clients = Authority::new(2020, 2200);
    let for_clients = [ExtendedKeyUsagePurpose::ClientAuth];
    let (client_key, client) = clients.issue(&for_clients, 2020, 2100);
    let (late_key, late) = clients.issue(&for_clients, 2020, 2025);
    let (server_key, server) = clients.issue(&[ExtendedKeyUsagePurpose::ServerAuth], 2020, 2100);
    let client_encrypted = client_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let (below_key, below) = clients.authority(2020, 2100);
    let joined = format!("{}{}", ca.trim_end(), other);
    let texts = [
        ("ca.key", ca_key.as_str()),
        ("ca.crt", &ca),
        ("patroni-ca.key", &ca_key),
        ("patroni-ca.crt", &ca),
        ("fluentd-ca.crt", &ca),
        ("registry-ca.crt", &ca),
        ("company-ca.crt", &ca),
        ("cloud-config.yaml", "#cloud-config\npackages: [vim]\n"),
        ("other.key", &other_key),
        ("other.crt", &other),
        ("expired.key", &old_key),
        ("expired.crt", &old),
        ("short.key", &short_key),
        ("short.crt", &short),
        ("leaf.key", &leaf_key),
        ("leaf.crt", &leaf),
        ("encrypted.key", &encrypted),
        ("patroni-client.key", &client_key),
        ("patroni-client.crt", &client),
        ("client-encrypted.key", &client_encrypted),
        ("late.key", &late_key),
        ("late.crt", &late),
        ("server.key", &server_key),
        ("server.crt", &server),
        ("intermediate.key", &below_key),
        ("intermediate.crt", &below),
        ("joined.crt", &joined),
        ("open.key", &ca_key),
        ("open-password", "correct horse\n"),
        // What the example extends; it need not be whole.
        ("base.toml", "vcpus = 2\n"),
        ("admin.pub", PUBLIC_KEY),
        ("admin-password", "correct horse\n"),
        ("fluentd-shared-key", "shared\n"),
        ("two-lines", "first\nsecond\n"),
        ("empty", "\n"),
    ];
    let mut inputs = MemoryInputs::default();
    for (path, text) in texts {
        inputs
            .files
            .insert(PathBuf::from(path), Ok(text.as_bytes().to_vec()));
    }
    inputs.files.insert(
        PathBuf::from("ca.der"),
        Ok(vec![0x30, 0x82, 0x01, 0xff, 0xfe]),
    );
    inputs
        .files
        .insert(PathBuf::from("huge"), Ok(vec![b'x'; 1024 * 1024 + 1]));
    inputs
        .files
        .insert(PathBuf::from("forbidden"), Err(ErrorKind::PermissionDenied));
    inputs
        .files
        .insert(PathBuf::from("folder"), Err(ErrorKind::IsADirectory));
    inputs.open_to_all = ["open.key", "open-password"].map(PathBuf::from).into();
    for (name, value) in [
        ("REGISTRY_PASSWORD", "hunter2"),
        ("EMPTY", ""),
        ("LB_NAME", "lb-1"),
        ("LB_IP", "192.168.122.162"),
        ("LB_MEMORY", "2 GiB"),
        ("LB_VCPUS", "4"),
        ("LB_METRICS", "false"),
    ] {
        inputs.env.insert(name.to_owned(), value.to_owned());
    }
    inputs
}

/// A CA and what it signs.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(from: i32, to: i32) -> Self {
        let mut params = named("clients' CA", from, to);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self { params, key }
    }

    fn issue(&self, usage: &[ExtendedKeyUsagePurpose], from: i32, to: i32) -> (String, String) {
        let mut params = named("lb-1", from, to);
        params.extended_key_usages = usage.to_vec();
        self.sign(&params)
    }

    fn authority(&self, from: i32, to: i32) -> (String, String) {
        let mut params = named("CA below", from, to);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (key.serialize_pem(), certificate.pem())
    }
}

fn named(name: &str, from: i32, to: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    params
}

/// A self-signed certificate and its key, in PEM, valid from the first day of one year to that of
/// another.
fn certificate(is_ca: IsCa, from: i32, to: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "test CA");
    params.is_ca = is_ca;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (key.serialize_pem(), certificate.pem())
}

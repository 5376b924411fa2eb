//! `lbctl csr` and `renew --certificate`: a certificate that is signed elsewhere, with the commands
//! of docs/operations.md, and everything that is refused. On a machine without a load balancer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::{Ran, lbctl, run};

struct Place(tempfile::TempDir);

impl Place {
    /// With a root, `ca.key` and `ca.crt`, and an intermediate, `int.key` and `int.crt`.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.sh(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=root -days 3650 \
             -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.crt
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=int -keyout int.key -out int.csr
             printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign\\nsubjectKeyIdentifier=hash\\n' > ca.ext
             openssl x509 -req -in int.csr -CA ca.crt -CAkey ca.key -days 365 -extfile ca.ext -out int.crt
             cat int.crt ca.crt > patroni-ca.crt",
        );
        place.configure("");
        place
    }

    fn configure(&self, more: &str) {
        let text = format!(
            r#"name = "lb-csr"
cloud_init_volume_pool = "default-pool"
ssh_admin_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@b"
[libvirt]
uri = "test:///default"
[volume]
name = "lb-csr"
pool = "default-pool"
base_volume_name = "debian-12"
[[macvtap_interfaces]]
interface = "eno1"
ip = "192.168.122.9"
prefix_length = 24
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.0.2.53"]
postgres_domain = "server.postgres.local"
[haproxy.patroni_client]
ca_certificate = {{ file = "patroni-ca.crt" }}
{more}
"#
        );
        fs::write(self.path("lbctl.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sh(&self, script: &str) {
        let script = format!("set -e; cd {}; {script}", self.0.path().display());
        run("sh", ["-c", &script]).ok();
    }

    /// As the CA's machine does it: the commands that the page has for it.
    fn sign(&self, out: &str) {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let page = fs::read_to_string(page).unwrap();
        let (_, block) = page
            .split_once("<!-- run: tests/it/csr.rs -->\n```sh\n")
            .unwrap();
        let (block, _) = block.split_once("```").unwrap();
        self.sh(&block
            .replace("lb-1.csr", "lb-csr.csr")
            .replace("lb-1.crt", out));
    }

    fn lbctl(&self, arguments: &[&str]) -> Ran {
        let config = self.path("lbctl.toml");
        let mut all = vec!["-c", config.to_str().unwrap()];
        all.extend(arguments);
        lbctl(all)
    }

    fn request(&self) -> Ran {
        let ran = self.lbctl(&["csr"]);
        fs::write(self.path("lb-csr.csr"), &ran.stdout).unwrap();
        ran
    }

    fn take(&self, file: &str) -> Ran {
        let file = self.path(file);
        self.lbctl(&["renew", "--certificate", file.to_str().unwrap()])
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }
}

#[test]
fn a_certificate_is_signed_elsewhere() {
    let place = Place::new();
    let asked = place.request();
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(!asked.stdout.contains("PRIVATE") && !asked.stderr.contains("PRIVATE"));
    assert!(
        asked
            .stdout
            .starts_with("-----BEGIN CERTIFICATE REQUEST-----\n")
    );
    assert_eq!(place.mode("lb-csr.client.key"), 0o600);
    // The same request again: a signature that is under way is not lost.
    let key = fs::read(place.path("lb-csr.client.key")).unwrap();
    place.request();
    assert_eq!(fs::read(place.path("lb-csr.client.key")).unwrap(), key);
    let request = place.path("lb-csr.csr");
    let text = run(
        "openssl",
        [
            "req",
            "-in",
            request.to_str().unwrap(),
            "-noout",
            "-text",
            "-verify",
        ],
    )
    .ok();
    assert!(
        text.stdout.contains("CN = patroni-client")
            && text.stdout.contains("TLS Web Client Authentication")
    );

    place.sign("signed.crt");
    let taken = place.take("signed.crt");
    assert_eq!(taken.code, 0, "{taken:?}");
    assert!(taken.stderr.contains("`lbctl up` creates it"), "{taken:?}");
    assert_eq!(place.mode("lb-csr.client.pem"), 0o600);
    assert!(!place.path("lb-csr.client.key").exists());
    let pem = fs::read_to_string(place.path("lb-csr.client.pem")).unwrap();
    // Key, certificate and intermediate; not the root.
    assert_eq!(
        pem.matches("-----BEGIN").count(),
        3,
        "{}",
        pem.matches("-----BEGIN").count()
    );
    assert!(place.lbctl(&["check"]).ok().stderr.contains("is valid"));
    let rendered = place.lbctl(&["render", "--show-secrets"]).ok().stdout;
    assert!(rendered.contains("/etc/haproxy/client.pem"));

    // The next one, in time: another key, and the one before stays until it is signed.
    place.request();
    assert!(place.path("lb-csr.client.pem").exists());
    place.sign("next.crt");
    assert_eq!(place.take("next.crt").code, 0);
    assert_ne!(
        fs::read_to_string(place.path("lb-csr.client.pem")).unwrap(),
        pem
    );
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    let place = Place::new();
    let none = place.take("int.crt");
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("no request is open") && none.stderr.contains("lbctl csr"));
    place.request();
    let nowhere = place.take("nowhere.crt");
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    let other = place.take("int.crt");
    assert!(
        other.code == 2 && other.stderr.contains("does not belong"),
        "{other:?}"
    );
    place.sh(
        "printf 'extendedKeyUsage=serverAuth\\n' > s.ext
         openssl x509 -req -in lb-csr.csr -CA int.crt -CAkey int.key -days 90 -extfile s.ext -out server.crt",
    );
    let server = place.take("server.crt");
    assert!(
        server.code == 2 && server.stderr.contains("lacks clientAuth"),
        "{server:?}"
    );
    assert!(place.path("lb-csr.client.key").exists() && !place.path("lb-csr.client.pem").exists());

    // Whoever has the key elsewhere, or the CA's, needs no request.
    let periods = "certificate_validity_period = 8760\ncertificate_early_renewal_period = 720\n";
    place.configure(&format!("ca_key = {{ file = \"int.key\" }}\n{periods}"));
    for arguments in [&["csr"][..], &["renew", "--certificate", "int.crt"]] {
        let ran = place.lbctl(arguments);
        assert!(
            ran.code == 2 && ran.stderr.contains("remove ca_key"),
            "{ran:?}"
        );
    }
    place.sign("signed.crt");
    fs::copy(place.path("lb-csr.client.key"), place.path("given.key")).unwrap();
    place.configure("certificate = { file = \"signed.crt\" }\nkey = { file = \"given.key\" }\n");
    let given = place.lbctl(&["csr"]);
    assert!(
        given.code == 2 && given.stderr.contains("come from elsewhere"),
        "{given:?}"
    );
}

#[test]
fn commands_that_issue_nothing_work_without_the_cas_key() {
    let place = Place::new();
    let periods = "certificate_validity_period = 8760\ncertificate_early_renewal_period = 720\n";
    place.configure(&format!(
        "ca_key = {{ file = \"on-a-stick.key\" }}\n{periods}"
    ));
    let check = place.lbctl(&["check"]);
    assert!(
        check.code == 0 && check.stderr.contains("needs it when it issues"),
        "{check:?}"
    );
    for arguments in [
        &["render"][..],
        &["down", "--yes"],
        &["status"],
        &["renew", "--check"],
    ] {
        let ran = place.lbctl(arguments);
        assert!(
            ran.code != 2 && !ran.stderr.contains("on-a-stick"),
            "{arguments:?}: {ran:?}"
        );
    }
    let secrets = place.lbctl(&["render", "--show-secrets"]);
    assert_eq!(secrets.code, 2, "{secrets:?}");
    for words in [
        "a client certificate must be issued (there is none yet)",
        "`haproxy.patroni_client.ca_key`",
        "line 20",
        "on-a-stick.key",
    ] {
        assert!(secrets.stderr.contains(words), "{words}: {secrets:?}");
    }
}

//! The command itself, as a person or a script meets it, on a machine without libvirt: what it prints where, how it
//! ends, and what it leaves on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::{Ran, lbctl, run};

const PASSWORD: &str = "sesame-0p3n";

/// A directory with a configuration that is valid, and whose libvirt is not there.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let (key, certificate) = (place.path("ca.key"), place.path("ca.crt"));
        run(
            "openssl",
            [
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                "/CN=CLI CA",
                "-days",
                "3650",
                "-keyout",
                key.to_str().unwrap(),
                "-out",
                certificate.to_str().unwrap(),
            ],
        )
        .ok();
        place.write(&place.config());
        place
    }

    fn config(&self) -> String {
        format!(
            r#"name = "lb-cli"
cloud_init_volume_pool = "default"
admin_user_password = "{PASSWORD}"
[libvirt]
uri = "qemu+unix:///system?socket={socket}"
domain_type = "kvm"
[volume]
name = "lb-cli"
pool = "default"
base_volume_name = "debian-12"
[libvirt_network]
network_name = "default"
ip = "192.168.122.9"
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.168.122.1"]
postgres_domain = "pg.example.org"
[haproxy.patroni_client]
ca_key = {{ file = "ca.key" }}
ca_certificate = {{ file = "ca.crt" }}
certificate_validity_period = 240
certificate_early_renewal_period = 24
"#,
            socket = self.path("no-such-socket").display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("lbctl.toml"), text).unwrap();
    }

    fn lbctl(&self, arguments: &[&str]) -> Ran {
        let config = self.path("lbctl.toml");
        lbctl([&["-c", config.to_str().unwrap()], arguments].concat())
    }
}

#[test]
fn help_and_version_are_on_standard_output() {
    for arguments in [
        vec!["--help"],
        vec!["help", "up"],
        vec!["up", "--help"],
        vec!["--version"],
    ] {
        let ran = lbctl(&arguments).ok();
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran}");
        assert!(ran.stdout.lines().all(|line| line.len() <= 100), "{ran}");
    }
    lbctl(["--help"]).ok().says(&[
        "Exit codes",
        "init",
        "check",
        "render",
        "plan",
        "up",
        "down",
        "status",
    ]);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for (arguments, word) in [
        (vec![], "Usage"),
        (vec!["upp"], "upp"),
        (vec!["up", "--restart", "perhaps"], "perhaps"),
        (vec!["up", "--wait=soon"], "duration"),
        (vec!["plan", "--exit-cod"], "--exit-code"),
    ] {
        lbctl(&arguments).ended(2).says(&[word]);
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_before_anything_else() {
    let place = Place::new();
    for (wrong, words) in [
        ("", vec!["lbctl init"]),
        ("name = ", vec!["lbctl.toml:1"]),
        ("nmae = \"x\"", vec!["nmae", "name", "lbctl.toml:1"]),
    ] {
        place.write(wrong);
        for command in [
            &["check"][..],
            &["render"],
            &["plan"],
            &["up"],
            &["down", "--yes"],
            &["status"],
        ] {
            let ran = place.lbctl(command).ended(2).says(&words);
            assert!(ran.stdout.is_empty(), "{ran}");
        }
    }
    let json = place.lbctl(&["check", "--json"]).ended(2).json();
    assert_eq!(
        (json["schema"].as_u64(), json["error"]["exit_code"].as_u64()),
        (Some(1), Some(2))
    );
    let problems = json["error"]["problems"].as_array().unwrap();
    let misspelled = problems.iter().find(|p| p["line"] == 1).unwrap();
    assert!(misspelled["help"].as_str().unwrap().contains("name"));
    let missing = place.path("nowhere.toml");
    lbctl(["-c", missing.to_str().unwrap(), "check"])
        .ended(2)
        .says(&["nowhere.toml", "lbctl init"]);
}

#[test]
fn a_valid_configuration_is_said_to_be() {
    let place = Place::new();
    place.lbctl(&["check"]).ok().says(&["is valid"]);
    assert_eq!(place.lbctl(&["check", "--json"]).ok().json()["ok"], true);
}

#[test]
fn without_libvirt_what_needs_it_fails_by_name() {
    let place = Place::new();
    for command in [
        &["plan"][..],
        &["up"],
        &["down", "--yes"],
        &["status"],
        &["check", "--host"],
    ] {
        place.lbctl(command).ended(1).says(&[
            "connecting to libvirt at qemu+unix://",
            "no-such-socket",
            "help:",
        ]);
    }
    place
        .lbctl(&["plan", "--connect", "qemuu:///system"])
        .ended(1)
        .says(&["qemuu:///system", "help:"]);
    place
        .lbctl(&["plan", "--connect", "qemu+tcp://127.0.0.1:1/system"])
        .ended(1)
        .says(&["127.0.0.1", "help:"]);
}

#[test]
fn render_needs_no_libvirt_and_masks_what_is_secret() {
    let place = Place::new();
    let listed = place.lbctl(&["render"]).ok();
    for name in [
        "user-data",
        "meta-data",
        "network-config",
        "haproxy.cfg",
        "domain.xml",
        "seed.iso",
    ] {
        assert!(
            listed.stdout.contains(&format!("==> {name} <==")),
            "{name} in {listed}"
        );
    }
    assert!(
        !listed.stdout.contains("PRIVATE KEY") && !listed.stdout.contains("$6$"),
        "{listed}"
    );

    let directory = place.path("out");
    let out = directory.to_str().unwrap();
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    let has = |name: &str, text: &str| String::from_utf8_lossy(&read(name)).contains(text);
    place
        .lbctl(&["render", "--out", out])
        .ok()
        .says(&["masked"]);
    for name in ["user-data", "seed.iso"] {
        assert!(
            !has(name, "PRIVATE KEY") && !has(name, "$6$") && has(name, "********"),
            "{name}"
        );
    }
    // The same directory again, this time whole.
    place
        .lbctl(&["render", "--out", out, "--show-secrets"])
        .ok();
    for name in ["user-data", "seed.iso"] {
        assert!(has(name, "PRIVATE KEY") && has(name, "$6$"), "{name}");
    }
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
        let text = fs::read(entry.path()).unwrap();
        assert!(
            !String::from_utf8_lossy(&text).contains(PASSWORD),
            "{entry:?}: the password itself is in no file"
        );
    }
    let json = place.lbctl(&["render", "--json"]).ok().json();
    assert!(
        json["files"]["haproxy.cfg"]
            .as_str()
            .unwrap()
            .contains("backend")
    );
}

#[test]
fn render_says_where_it_cannot_write() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let out = place.path("file");
    place
        .lbctl(&["render", "--out", out.to_str().unwrap()])
        .ended(1)
        .says(&["creating directory", "file"]);
}

#[test]
fn the_example_is_a_configuration_and_the_texts_about_lbctl_are_there() {
    lbctl(["init"])
        .ok()
        .says(&["postgres_domain", "[haproxy.patroni_client]"]);
    for (shell, word) in [
        ("bash", "complete"),
        ("zsh", "#compdef lbctl"),
        ("fish", "complete -c lbctl"),
    ] {
        lbctl(["completions", shell]).ok().says(&[word]);
    }
    lbctl(["man"]).ok().says(&[".TH", "status"]);
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_lbctl");
    let config = place.path("lbctl.toml");
    for command in ["init", "render", "man"] {
        let line = format!(
            "set -o pipefail; {program} -c {} {command} | head -n 1 >/dev/null",
            config.display()
        );
        run("bash", ["-c", &line]).does_not_say(&["panicked", "RUST_BACKTRACE"]);
    }
}

#[test]
fn colour_only_where_it_is_wanted() {
    let place = Place::new();
    place.write("nmae = 1");
    place.lbctl(&["check"]).ended(2).does_not_say(&["\u{1b}["]);
    place
        .lbctl(&["check", "--color", "always"])
        .ended(2)
        .says(&["\u{1b}["]);
}

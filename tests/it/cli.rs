//! The command itself, as a person or a script meets it, on a machine without libvirt: what it
//! prints where, how it ends, and what it leaves on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Ran, lbctl, run};

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
postgres_nameserver_ips = ["127.0.0.1"]
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
        (vec!["up", "--wait=soon"], "1h30m"),
        (vec!["status", "--watch=0"], "at least 1s"),
        (vec!["status", "--watch", "5s"], "5s"),
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
    let json = place.lbctl(&["check", "--json"]).ended(2).document();
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
    assert_eq!(
        place.lbctl(&["check", "--json"]).ok().document()["ok"],
        true
    );
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
    let json = place.lbctl(&["render", "--json"]).ok().document();
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
fn the_example_and_the_texts_about_lbctl_are_printed() {
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

/// libvirt's own driver for tests is enough for a load balancer that is not there.
const NOT_THERE: [&str; 3] = ["--connect", "test:///default", "status"];

impl Place {
    fn without_network(self) -> Self {
        let config = self.config();
        let (before, rest) = config.split_once("[libvirt_network]").unwrap();
        let (_, after) = rest.split_once("[haproxy]").unwrap();
        let interface =
            "[[macvtap_interfaces]]\ninterface = \"eth0\"\nip = \"10.0.0.9\"\nprefix_length = 24\n";
        self.write(&format!("{before}{interface}[haproxy]{after}"));
        self
    }

    /// One shell line, in which `$STATUS` is `lbctl status` of this place.
    fn shell(&self, line: &str) -> Ran {
        let config = self.path("lbctl.toml");
        let status = NOT_THERE.join(" ");
        let lbctl = env!("CARGO_BIN_EXE_lbctl");
        let line = format!("STATUS='{lbctl} -c {} {status}'; {line}", config.display());
        run("bash", ["-c", &line])
    }
}

#[test]
fn status_of_what_does_not_exist() {
    let place = Place::new().without_network();
    place.lbctl(&NOT_THERE).ended(1).says(&[
        "lb-cli: not ready: the domain does not exist\n",
        "  domain       absent at test:///default\n",
        "  address      10.0.0.9 (macvtap on eth0)\n",
    ]);
    let json = place
        .lbctl(&[&NOT_THERE[..], &["--json"]].concat())
        .ended(1);
    assert_eq!(json.document()["domain"]["state"], "absent");
}

#[test]
fn a_watched_status_off_a_terminal_is_a_block_or_a_document() {
    let place = Place::new().without_network();
    // Ctrl-C is its end, with the exit code of the last look.
    let two = place.shell("timeout -s INT 3 $STATUS --watch=1s; echo ended with $? >&2");
    two.says(&["ended with 124"]);
    let ended = place
        .shell("$STATUS --watch=1s & sleep 2.5; kill -INT $!; wait $!")
        .ended(1);
    let heading = "Z lb-cli: not ready: the domain does not exist\n";
    assert!(ended.stdout.matches(heading).count() >= 2, "{ended}");
    assert!(!ended.stdout.contains('\u{1b}'), "{ended}");

    // So is a reader that has enough.
    let two = place
        .shell("set -o pipefail; $STATUS --watch=1s --json | head -n 2")
        .ended(1);
    let documents: Vec<serde_json::Value> = two
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(documents.len(), 2, "{two}");
    for document in documents {
        assert_eq!(
            (document["schema"].as_u64(), &document["ready"]),
            (Some(1), &false.into())
        );
    }
}

#[test]
fn a_watched_status_on_a_terminal_restores_it() {
    let place = Place::new().without_network();
    let record = place.path("record");
    for (colour, heading) in [
        ("", "\u{1b}[1mlb-cli: not ready"),
        ("NO_COLOR=1", "\u{1b}[Hlb-cli: not ready"),
    ] {
        let line = format!(
            "export STATUS; TERM=xterm {colour} script -qefc 'stty cols 80 rows 10; $STATUS --watch=1s & \
             sleep 3; kill -INT $!; wait $!' {} </dev/null >/dev/null",
            record.display()
        );
        place.shell(&line).ended(1);
        let seen = fs::read_to_string(&record).unwrap();
        let (enter, leave) = ("\u{1b}[?1049h\u{1b}[?25l", "\u{1b}[?25h\u{1b}[?1049l");
        let at = |text: &str| {
            seen.find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {seen}"))
        };
        assert!(
            at(enter) < at(heading) && at(heading) < at(leave),
            "{seen:?}"
        );
        assert_eq!(seen.matches(enter).count(), 1);
        assert!(at("seen ") < at("Ctrl-C ends this"), "{seen:?}");
        // After it, the last picture is where the prompt will be, without what is drawn.
        let (_, after) = seen.split_once(leave).unwrap();
        assert!(
            after.contains("lb-cli: not ready") && !after.contains("\u{1b}[K"),
            "{after:?}"
        );
    }
}

#[test]
fn a_reader_that_ends_is_not_a_crash() {
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

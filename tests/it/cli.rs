//! The command itself, as a person or a script meets it, on a machine without libvirt: what it
//! prints where, how it ends, and what it leaves on disk.

mod folder;

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

/// The folder is a monitoring system's: nothing but the whole file comes into it, for everybody to
/// read.
#[test]
fn metrics_say_that_libvirt_is_not_there() {
    let place = Place::new();
    let folder = place.path("metrics");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("lbctl.prom");
    let name = file.to_str().unwrap();
    fs::write(&file, "old").unwrap();
    let line = "umask 0077; exec \"$@\"";
    let config = place.path("lbctl.toml");
    let program = env!("CARGO_BIN_EXE_lbctl");
    let config = config.to_str().unwrap();
    let words = ["-c", line, "sh", program, "-c", config];
    let write = |name| run("sh", [&words[..], &["status", "--textfile", name]].concat());
    let ran = write(name).ended(1).says(&["no-such-socket"]);
    assert!(ran.stdout.is_empty(), "{ran}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("lbctl_status_success{name=\"lb-cli\"} 0\n"),
        "{text}"
    );
    assert!(!text.contains("lbctl_ready"), "{text}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    let nowhere = place.path("nowhere/lbctl.prom");
    write(nowhere.to_str().unwrap())
        .ended(1)
        .says(&["nowhere/lbctl.prom", "the folder must exist"]);
    lbctl(["status", "--watch", "--textfile", name]).ended(2);
    // A configuration that is wrong leaves the old file, whose time grows old.
    place.write("name = 1");
    write(name).ended(2);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn the_version_is_one_line_or_what_a_report_of_a_problem_needs() {
    let version = format!("lbctl {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(lbctl(["-V"]).ok().stdout, version);
    let long = lbctl(["--version"]).ok();
    let lines: Vec<&str> = long.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{long}");
    assert_eq!(format!("{}\n", lines[0]), version);
    assert!(lines[1].starts_with("commit:          "), "{long}");
    let library = lines[2].strip_prefix("libvirt library: ").unwrap();
    let numbers: Vec<u32> = library.split('.').map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 3, "{long}");
}

#[test]
fn help_and_version_are_on_standard_output() {
    for arguments in [
        vec!["--help"],
        vec!["help", "up"],
        vec!["up", "--help"],
        vec!["--version"],
        vec!["-V"],
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
        (vec!["status", "--textfile", "lb.txt"], "ends in .prom"),
        (vec!["up", "--wait", "10m"], "write --wait=10m"),
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
    let pinned = ["haproxy.image_digest"];
    let said = place.lbctl(&["check"]).ok().says(&["is valid"]);
    said.does_not_say(&pinned);
    place.lbctl(&["-v", "check"]).ok().says(&pinned);
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
fn an_image_by_its_tag_is_named_on_request() {
    let place = Place::new();
    let says = ["is an image by its tag", "haproxy.image_digest pins one"];
    place.lbctl(&["check", "-v"]).ok().says(&says);
    place.lbctl(&["check"]).ok().does_not_say(&says);
    let digest = format!("[haproxy]\nimage_digest = \"sha256:{}\"\n", "0a".repeat(32));
    place.write(&place.config().replacen("[haproxy]\n", &digest, 1));
    place.lbctl(&["check", "-v"]).ok().does_not_say(&says);
}

#[test]
fn render_needs_no_libvirt_and_masks_what_is_secret() {
    let place = Place::new();
    let listed = place.lbctl(&["render"]).ok();
    for name in [
        "user-data",
        "vendor-data",
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
    // Of files that are somebody else's nothing is written.
    fs::remove_file(directory.join("seed.iso")).unwrap();
    let before = read("user-data");
    let refused = place.lbctl(&["render", "--out", out]).ended(4);
    refused.says(&["user-data is there already, and nothing is overwritten"]);
    assert_eq!(read("user-data"), before);
    assert!(!directory.join("seed.iso").exists());
    fs::write(directory.join("seed.iso"), vec![0; 65536]).unwrap();
    place.lbctl(&["render", "--out", out]).ended(4);
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
    for arguments in [&["init"][..], &["init", "--full"]] {
        lbctl(arguments)
            .ok()
            .says(&["postgres_domain", "[haproxy.patroni_client]"]);
    }
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
        "  hint         `lbctl up --wait` creates it\n",
    ]);
    let json = place
        .lbctl(&[&NOT_THERE[..], &["--json"]].concat())
        .ended(1);
    assert_eq!(json.document()["domain"]["state"], "absent");
}

#[test]
fn what_has_no_guests_of_qemu_is_refused_in_words() {
    let place = Place::new();
    let says = "test:///default is of libvirt's driver for tests, which runs nothing";
    for command in [
        &["plan"][..],
        &["up"],
        &["up", "--restart=now"],
        &["check", "--host"],
        &["status"],
        &["restart", "--yes"],
        &["logs"],
        &["renew"],
        &["down", "--yes"],
        &["import", "--domain", "lb"],
    ] {
        let words = [&["--connect", "test:///default"], command].concat();
        place
            .lbctl(&words)
            .ended(1)
            .says(&[says, "qemu:///system"])
            .does_not_say(&["unsupported flags"]);
    }
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
        ("", "\u{1b}[1mlb-cli: \u{1b}[0m\u{1b}[1;31mnot ready"),
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
            after.contains("lb-cli: ")
                && after.contains("not ready")
                && !after.contains("\u{1b}[K"),
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

/// A file that was to hold it would be cut short, and a script would go on with it.
#[test]
fn what_was_not_written_is_a_failure() {
    let place = Place::new();
    let (program, config) = (env!("CARGO_BIN_EXE_lbctl"), place.path("lbctl.toml"));
    for command in [
        "init",
        "man",
        "completions bash",
        "schema config",
        "render",
        "render --json",
        "check --json",
    ] {
        let line = format!("{program} -c {} {command} >/dev/full", config.display());
        run("bash", ["-c", &line]).ended(1).says(&[
            "error: writing to standard output",
            "No space left on device",
        ]);
    }
}

/// What is to be filled in is found, and nothing else is wrong; filled in, it is valid.
#[test]
fn what_init_leaves_open_is_what_check_reports() {
    let place = Place::new();
    let file = place.path("new.toml");
    let path = file.to_str().unwrap();
    lbctl(["init", "-o", path])
        .ok()
        .says(&["new.toml: written; 7 values are to be filled in (FILL IN)"]);
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    lbctl(["init", "-o", path])
        .ended(4)
        .says(&["new.toml already exists, and was not changed"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), written);

    let checked = lbctl(["-c", path, "check", "--json"]).ended(2);
    let document = checked.document();
    let problems = document["error"]["problems"].as_array().unwrap();
    let mut places: Vec<u64> = problems.iter().filter_map(|p| p["line"].as_u64()).collect();
    places.dedup();
    let lines = written.lines().zip(1..);
    let open: Vec<u64> = lines
        .filter(|(line, _)| line.contains("\"FILL IN\""))
        .map(|(_, number)| number)
        .collect();
    assert_eq!(places, open, "{checked}");
}

#[test]
fn a_wrong_command_line_has_a_document_too() {
    for (arguments, command, word) in [
        (&["--json", "up", "--frob"][..], "up", "--frob"),
        (&["up", "--wait=soon", "--json"], "up", "1h30m"),
        (&["--json", "upp"], "", "upp"),
        (&["--json"], "", "Usage"),
        // As of a variable that is not set: not the host of somewhere else.
        (&["--json", "--connect", "", "down"], "down", "--connect"),
    ] {
        let ran = lbctl(arguments).ended(2);
        let document = ran.document();
        assert_eq!(document["command"], command, "{ran}");
        assert_eq!(document["error"]["exit_code"], 2, "{ran}");
        let message = &document["error"]["messages"][0];
        assert_eq!(message["id"], "usage-wrong", "{ran}");
        let said = message["message"].as_str().unwrap();
        assert!(said.contains(word) && !said.contains('\u{1b}'), "{ran}");
        assert!(ran.stderr.contains(word), "{ran}");
    }
    let help = lbctl(["--json", "up", "--help"]).ok();
    assert!(help.stdout.starts_with("Create or update"), "{help}");
    let after = lbctl(["man", "--", "--json"]).ended(2);
    assert!(after.stdout.is_empty(), "{after}");
}

#[test]
fn a_terminal_without_colours_gets_none_and_no_source_of_a_manual_page() {
    let place = Place::new();
    place.write("name = ");
    let (program, record) = (env!("CARGO_BIN_EXE_lbctl"), place.path("record"));
    for (variable, coloured) in [("TERM=xterm", true), ("TERM=dumb", false), ("TERM=", false)] {
        let line = format!(
            "{variable} script -qec '{program} -c {} check' {} </dev/null >/dev/null",
            place.path("lbctl.toml").display(),
            record.display()
        );
        run("bash", ["-c", &line]);
        let seen = fs::read_to_string(&record).unwrap();
        assert!(seen.contains("not valid TOML"), "{seen}");
        assert_eq!(seen.contains("\u{1b}["), coloured, "{variable}: {seen:?}");
    }
    let line = format!(
        "TERM=xterm script -qec '{program} man renew' {} </dev/null >/dev/null",
        record.display()
    );
    run("bash", ["-c", &line]);
    let seen = fs::read_to_string(&record).unwrap();
    assert!(
        seen.contains("lbctl man renew | man -l -") && !seen.contains(".TH"),
        "{seen}"
    );
}

#[test]
fn the_configuration_may_come_from_standard_input() {
    let place = Place::new();
    let file = place.path("lbctl.toml").display().to_string();
    let line = format!(
        "cd {} && {} -c - check < {file}",
        place.0.path().display(),
        env!("CARGO_BIN_EXE_lbctl")
    );
    run("sh", ["-c", &line]).ok();
    // What is wrong has its line, and the file its name.
    let line = format!(
        "echo 'name = 1' | {} -c - check",
        env!("CARGO_BIN_EXE_lbctl")
    );
    run("sh", ["-c", &line])
        .ended(2)
        .says(&["--> standard input:1:8"]);
}

#[test]
fn what_could_not_be_reached_or_read_is_listed_as_unknown() {
    let place = Place::new();
    let folder = place.0.path().display().to_string();
    let listed = lbctl(["list", &folder]).ended(1);
    let listed = listed.says(&["name", "lb-cli", "unknown", "lbctl.toml"]);
    assert!(!listed.stdout.contains("no configuration"), "{listed}");
    let document = lbctl(["list", "--json", &folder]).ended(1).document();
    assert_eq!(document["vms"][0]["relation"], "unknown");
    assert_eq!(document["complete"], false);
    assert_eq!(document["hosts"][0]["error"]["id"], "libvirt-unreachable");
    // A file that is not there is one that is wrong.
    let nowhere = "qemu+unix:///system?socket=/nonexistent";
    lbctl(["--connect", nowhere, "list", "nowhere.toml"])
        .ended(2)
        .says(&["error: reading the configuration nowhere.toml: No such file"]);
}

//! What a person sees of each command on a machine without libvirt: its help, its success, and its
//! errors. The kept texts are in tests/transcripts; those that need a libvirt are made by
//! tests/it/libvirt/transcripts.rs.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use clap::CommandFactory;
use lbctl::testing::cli::Cli;
use tempfile::TempDir;

use crate::support::transcript::{
    COLUMNS, NARROW, Transcript, WIDE, on_a_terminal, same_at, same_on_a_terminal,
    same_without_its_colours,
};
use crate::support::{Ran, lbctl, run};

/// A folder with a CA and a good configuration, `lbctl.toml`.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        // Its name is as long everywhere: lines are broken by it.
        let desk = Self(tempfile::tempdir_in("/tmp").unwrap());
        let (key, certificate) = (desk.at("patroni-ca.key"), desk.at("patroni-ca.crt"));
        let shape = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let name = ["-subj", "/CN=Patroni CA", "-days", "3650"];
        let files = ["-keyout", &key, "-out", &certificate];
        run("openssl", [&shape[..], &name, &files].concat()).ok();
        fs::write(desk.at("admin-password"), "sesame-0p3n\n").unwrap();
        fs::write(desk.at("lbctl.toml"), GOOD.replace("@home", &desk.home())).unwrap();
        desk
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn home(&self) -> String {
        self.0.path().display().to_string()
    }

    fn words(&self) -> Vec<(&'static str, String)> {
        vec![("@home", self.home())]
    }

    fn lbctl(&self, typed: &str) -> Ran {
        lbctl(self.arguments(typed).split(' '))
    }

    /// The configuration is named in each, for tests may not go to a folder.
    fn arguments(&self, typed: &str) -> String {
        let rest = typed.strip_prefix("lbctl ").unwrap();
        let rest = rest.replace("@home", &self.home());
        if rest.contains("-c ") {
            rest
        } else {
            format!("-c {} {rest}", self.at("lbctl.toml"))
        }
    }
}

const GOOD: &str = r#"name = "lb-1"
cloud_init_volume_pool = "default"
admin_user_password = { file = "admin-password" }
[libvirt]
uri = "qemu+unix:///system?socket=@home/no-such-socket"
[volume]
name = "lb-1"
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
ca_key = { file = "patroni-ca.key" }
ca_certificate = { file = "patroni-ca.crt" }
certificate_validity_period = 240
certificate_early_renewal_period = 24
"#;

const BAD: &str = r#"name = "LB 1"
cloud_init_volume_pool = "default"
admin_user_pasword = "sesame-0p3n"
[volume]
name = "lb-1"
pool = "default"
base_volume_name = "debian-12"
[libvirt_network]
network_name = "default"
ip = "192.168.122.256"
[haproxy]
postgres_nodes_max_count = "three"
postgres_nameserver_ips = ["192.168.122.1"]
postgres_domain = "pg.example.org"
"#;

/// Two VMs, on two hosts that are not there.
const PAIR: &str = r#"cloud_init_volume_pool = "default"
admin_user_password = { file = "admin-password" }
[volume]
pool = "default"
base_volume_name = "debian-12"
[libvirt_network]
network_name = "default"
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["127.0.0.1"]
postgres_domain = "pg.example.org"
[haproxy.patroni_client]
ca_key = { file = "patroni-ca.key" }
ca_certificate = { file = "patroni-ca.crt" }
certificate_validity_period = 240
certificate_early_renewal_period = 24
[[vms]]
name = "lb-1"
libvirt = { uri = "qemu+unix:///system?socket=@home/no-such-socket" }
libvirt_network = { ip = "192.168.122.9" }
[[vms]]
name = "lb-2"
libvirt = { uri = "qemu+unix:///system?socket=@home/another-socket" }
libvirt_network = { ip = "192.168.122.10" }
"#;

#[test]
fn help_of_every_command() {
    let mut transcript = Transcript::new("help.txt", Vec::new());
    let mut pages = vec!["lbctl --help".to_owned()];
    for command in Cli::command().get_subcommands() {
        pages.push(format!("lbctl {} --help", command.get_name()));
    }
    for typed in pages {
        let ran = lbctl(typed.split(' ').skip(1)).ok();
        let long: Vec<_> = ran
            .stdout
            .lines()
            .filter(|l| l.chars().count() > COLUMNS)
            .collect();
        assert!(long.is_empty(), "{typed}: {long:#?}");
        transcript.note(&typed, &ran);
    }
    transcript.compare();
}

/// Each story is one file.
fn story(file: &str, lines: &[&str]) {
    let desk = Desk::new();
    fs::write(desk.at("bad.toml"), BAD).unwrap();
    fs::write(desk.at("pair.toml"), PAIR.replace("@home", &desk.home())).unwrap();
    let mut transcript = Transcript::new(file, desk.words());
    for typed in lines {
        let ran = desk.lbctl(typed);
        // clap shows the options that were given, and so `--color` too.
        if !ran.stderr.contains("\nUsage: ") {
            let coloured = [&desk.arguments(typed), "--color always"].join(" ");
            same_without_its_colours(&ran, &lbctl(coloured.split(' ')));
        }
        // A document is for programs: its lines are as long as they are.
        if !typed.contains("--json") && !typed.contains("--events") {
            let program = env!("CARGO_BIN_EXE_lbctl");
            let command = format!("{program} {}", desk.arguments(typed));
            // clap breaks no line of what it says of a wrong command line.
            if ran.stderr.contains("try '--help'") {
                same_at(&command, COLUMNS, &ran);
            } else {
                same_on_a_terminal(&command, &ran);
            }
        }
        transcript.note(typed, &ran);
    }
    transcript.compare();
}

#[test]
fn check() {
    let lines = [
        "lbctl check",
        "lbctl -c @home/bad.toml check",
        "lbctl -c @home/nowhere.toml check",
        "lbctl check --hosts",
    ];
    story("check.txt", &lines);
}

/// On a narrow and on a wide terminal, as it is seen there. That all other commands fit, and say
/// the same, each story tries.
#[test]
fn on_a_narrow_and_on_a_wide_terminal() {
    for (columns, file) in [(NARROW, "narrow.txt"), (WIDE, "wide.txt")] {
        let desk = Desk::new();
        fs::write(desk.at("bad.toml"), BAD).unwrap();
        fs::write(desk.at("pair.toml"), PAIR.replace("@home", &desk.home())).unwrap();
        let mut transcript = Transcript::new(file, desk.words());
        for typed in [
            "lbctl --help",
            "lbctl up --help",
            "lbctl check -v",
            "lbctl -c @home/bad.toml check",
            "lbctl check --host",
            "lbctl plan",
            "lbctl -c @home/pair.toml up",
            "lbctl -c @home/pair.toml status",
            "lbctl list @home/pair.toml",
            "lbctl render --out @home/lbctl.toml",
        ] {
            let program = env!("CARGO_BIN_EXE_lbctl");
            let line = format!("{program} {}", desk.arguments(typed));
            transcript.note_on_a_terminal(columns, typed, &line);
            // No colour says or moves anything.
            let plain = format!("NO_COLOR=1 {line}");
            assert_eq!(
                on_a_terminal(&plain, columns),
                on_a_terminal(&line, columns)
            );
        }
        transcript.compare();
    }
}

/// The last line is the document, and each line is one.
#[test]
fn events_of_a_command_that_fails_end_with_its_document() {
    let desk = Desk::new();
    let ran = desk.lbctl("lbctl plan --events").ended(1);
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["command"], &last["name"]),
        (&"plan".into(), &"lb-1".into())
    );
    assert_eq!(last["error"]["messages"][0]["id"], "libvirt-unreachable");
    let wrong = lbctl(["plan", "--events", "--frob"]).ended(2);
    assert_eq!(wrong.json()["error"]["messages"][0]["id"], "usage-wrong");
}

/// Nothing but what went wrong.
#[test]
fn quiet_says_errors_and_nothing_else() {
    let desk = Desk::new();
    fs::set_permissions(
        desk.at("admin-password"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let quiet = desk.lbctl("lbctl check -q").ok();
    assert!(!quiet.stderr.contains("is valid"), "{quiet}");
    desk.lbctl("lbctl plan --quiet")
        .ended(1)
        .says(&["error: lb-1: connecting to libvirt"]);
    desk.lbctl("lbctl plan -q -v").ended(2);
}

#[test]
fn check_as_json() {
    story(
        "check-json.txt",
        &["lbctl check --json", "lbctl -c @home/bad.toml check --json"],
    );
}

/// What needs libvirt, without it.
#[test]
fn no_libvirt() {
    let lines = [
        "lbctl plan",
        "lbctl up",
        "lbctl down --yes",
        "lbctl status",
        "lbctl renew",
        "lbctl plan --json",
        "lbctl plan --connect qemu+tcp://127.0.0.1:1/system",
    ];
    story("no-libvirt.txt", &lines);
}

/// Two VMs in one file, whose hosts are not there.
#[test]
fn several_vms() {
    let lines = [
        "lbctl -c @home/pair.toml check",
        "lbctl -c @home/pair.toml check --only lb-2",
        "lbctl -c @home/pair.toml check --only lb2",
        "lbctl --only lb-2 check",
        "lbctl -c @home/pair.toml check --json",
        "lbctl -c @home/pair.toml plan",
        "lbctl -c @home/pair.toml plan --only lb-1 --json",
        "lbctl -c @home/pair.toml up",
        "lbctl -c @home/pair.toml up --connect qemu:///system",
        "lbctl -c @home/pair.toml status",
        "lbctl -c @home/pair.toml renew",
        "lbctl -c @home/pair.toml down --yes",
        "lbctl -c @home/pair.toml csr",
        "lbctl -c @home/pair.toml csr --only lb-2",
        "lbctl -c @home/pair.toml restart --yes",
        "lbctl -c @home/pair.toml logs",
        "lbctl -c @home/pair.toml logs --only lb-2",
        "lbctl -c @home/pair.toml plan --out @home/plan",
        "lbctl -c @home/pair.toml up @home/plan",
        "lbctl -c @home/pair.toml down --yes --quiet --events --only lb-2",
        "lbctl -c @home/pair.toml render --out @home/out",
    ];
    story("several.txt", &lines);
}

/// It is asked for by its name, before any host is.
#[test]
fn one_of_several_is_adopted_at_a_time() {
    let desk = Desk::new();
    fs::write(desk.at("pair.toml"), PAIR.replace("@home", &desk.home())).unwrap();
    for command in ["adopt", "plan --adopt"] {
        desk.lbctl(&format!("lbctl -c @home/pair.toml {command}"))
            .ended(2)
            .says(&[command, "is for one VM", "--only NAME"]);
        desk.lbctl(&format!("lbctl -c @home/pair.toml {command} --only lb-2"))
            .ended(1)
            .says(&["Failed to connect socket"]);
    }
}

/// Those that do not answer may have the address, so each is named with the reason.
#[test]
fn a_handover_says_which_vms_were_not_reached() {
    let desk = Desk::new();
    let pair = PAIR.replace("@home", &desk.home()).replace(
        "[[vms]]\nname = \"lb-1\"",
        "[virtual_ip]\naddress = \"192.168.122.8\"\n[[vms]]\nname = \"lb-1\"",
    );
    fs::write(desk.at("pair.toml"), pair).unwrap();
    let ran = desk.lbctl("lbctl -c @home/pair.toml handover").ended(1);
    ran.says(&[
        "error: no VM that answers has the shared address",
        "error: lb-1: not reached (connecting to libvirt",
        "error: lb-2: not reached (connecting to libvirt",
    ])
    .does_not_say(&["not reached (lb-1"]);
}

/// A libvirtd that takes the connection and says nothing is given up, and the other VM is not.
#[test]
fn a_host_of_several_that_says_nothing_is_not_waited_for() {
    let desk = Desk::new();
    let silent = UnixListener::bind(desk.at("another-socket")).unwrap();
    fs::write(desk.at("pair.toml"), PAIR.replace("@home", &desk.home())).unwrap();
    let begun = Instant::now();
    let ran = desk.lbctl("lbctl -c @home/pair.toml plan").ended(1);
    ran.says(&[
        "lb-1: not reached (connecting to libvirt",
        "lb-2: not reached (connecting to libvirt",
        "no answer within 10 s)",
    ]);
    let took = begun.elapsed().as_secs();
    assert!((10..25).contains(&took), "{took} s");
    drop(silent);
}

#[test]
fn check_of_a_host_that_does_not_exist() {
    story("check-no-host.txt", &["lbctl check --host"]);
}

#[test]
fn wrong_command_lines() {
    let lines = [
        "lbctl upp",
        "lbctl up --restart perhaps",
        "lbctl up --wait=soon",
        "lbctl down --delete",
        "lbctl render --out",
        "lbctl renew --check --force",
        "lbctl status --watch=0",
        "lbctl schema configuration",
        "lbctl completions tcsh",
        "lbctl man upp",
        "lbctl plan now",
        "lbctl init now",
    ];
    story("wrong.txt", &lines);
}

#[test]
fn render_lists_and_writes() {
    let desk = Desk::new();
    let mut transcript = Transcript::new("render.txt", desk.words());
    let mut listed = desk.lbctl("lbctl render").ok();
    // What is in the files is for other tests; here is how they are shown.
    let heads = |line: &&str| line.starts_with("==>") || line.starts_with('(');
    let lines: Vec<&str> = listed.stdout.lines().filter(heads).collect();
    // The image's size is what is in it.
    let size = |line: &str| {
        line.chars()
            .map(|c| {
                if c.is_ascii_digit() && line.starts_with('(') {
                    '9'
                } else {
                    c
                }
            })
            .collect::<String>()
    };
    listed.stdout = lines.iter().map(|line| size(line) + "\n").collect();
    transcript.note("lbctl render | grep -e '^==>' -e '^('", &listed);
    for typed in [
        "lbctl render --out @home/out",
        "lbctl render --out @home/out --show-secrets",
        "lbctl -c @home/nowhere.toml render",
        "lbctl render --out @home/lbctl.toml",
    ] {
        transcript.note(typed, &desk.lbctl(typed));
    }
    assert!(Path::new(&desk.at("out/seed.iso")).exists());
    transcript.compare();
}

/// What is printed for other programs is not compared here: each has a test of its own. It comes
/// whole, and a reader that has seen enough ends it without a word.
#[test]
fn data_for_other_programs() {
    for typed in [
        "init",
        "schema config",
        "schema output",
        "schema events",
        "completions bash",
        "completions zsh",
        "completions fish",
        "man",
        "man up",
    ] {
        let ran = lbctl(typed.split(' ')).ok();
        assert!(
            ran.stdout.lines().count() > 10 && ran.stderr.is_empty(),
            "{ran}"
        );
        let line = format!(
            "{} {typed} | head -1; echo \"${{PIPESTATUS[0]}}\"",
            env!("CARGO_BIN_EXE_lbctl")
        );
        let piped = run("bash", ["-c", &line]).ok();
        let lines: Vec<&str> = piped.stdout.lines().collect();
        assert_eq!(lines, [ran.stdout.lines().next().unwrap(), "0"], "{piped}");
        assert!(piped.stderr.is_empty(), "{piped}");
    }
}

#[test]
fn colour_is_for_terminals_only_and_never_where_it_is_not_wanted() {
    let desk = Desk::new();
    fs::write(desk.at("bad.toml"), BAD).unwrap();
    // A report, and the log of a command that finds no libvirt.
    let bad = format!("-c {} check", desk.at("bad.toml"));
    let log = desk.arguments("lbctl -vv --connect qemu:///system?socket=@home/none plan");
    for (typed, code) in [(bad, 2), (log, 1)] {
        let words = |more: &[&'static str]| -> Vec<String> {
            let more = more.iter().map(ToString::to_string);
            typed.split(' ').map(str::to_owned).chain(more).collect()
        };
        let piped = lbctl(words(&[])).ended(code);
        assert!(!piped.stderr.contains('\u{1b}'), "{piped}");
        assert_eq!(piped.stderr.contains("DEBUG"), code == 1, "{piped}");
        let always = lbctl(words(&["--color", "always"])).ended(code);
        assert!(always.stderr.contains('\u{1b}'), "{always}");
        for (environment, coloured) in [("", true), ("NO_COLOR=1", false), ("NO_COLOR=", true)] {
            let line = format!("{environment} {} {typed}", env!("CARGO_BIN_EXE_lbctl"));
            let ran = run("env", ["TERM=xterm", "script", "-qefc", &line, "/dev/null"]).ended(code);
            assert_eq!(
                ran.stdout.contains('\u{1b}'),
                coloured,
                "{environment}: {ran}"
            );
        }
    }
}

//! What a person sees of each command on a machine without libvirt: its help, its success, and its
//! errors. The kept texts are in tests/transcripts; those that need a libvirt are made by
//! tests/it/libvirt/transcripts.rs.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use lbctl::testing::cli::Cli;
use tempfile::TempDir;

use crate::support::transcript::{COLUMNS, Transcript, same_on_a_terminal};
use crate::support::{Ran, lbctl, run};

/// A folder with a CA and a good configuration, `lbctl.toml`.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
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
    let mut transcript = Transcript::new(file, desk.words());
    for typed in lines {
        let ran = desk.lbctl(typed);
        // A document is for programs: its lines are as long as they are.
        if !typed.contains("--json") {
            same_on_a_terminal(
                &format!("{} {}", env!("CARGO_BIN_EXE_lbctl"), desk.arguments(typed)),
                &ran,
            );
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

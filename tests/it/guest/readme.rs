//! From nothing to `ready` by the commands of the README's first screen, as they stand there: with
//! a configuration that is filled in by hand, and, in a soak, with the one that `lbctl init` writes
//! from its answers.

use std::fs;
use std::path::Path;

use super::listed::Asks;
use super::{BOOT, Guest, Kind};
use crate::support::{Lab, Ran, run, run_for};

/// What a value looks like that the operator is to fill in.
const FILL_IN: &str = "\"FILL IN\"";

/// The README's first block of commands, without its comments.
fn commands() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, block) = text.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let lines = block.lines().map(|line| line.split('#').next().unwrap());
    lines.map(|line| line.trim().to_owned()).collect()
}

impl Guest {
    /// A command line in the folder of the configuration, from the host's place in the network.
    fn types(&self, line: &str) -> Ran {
        let program = Path::new(env!("CARGO_BIN_EXE_lbctl"));
        let script = format!(
            "cd {}; export PATH={}:$PATH LIBVIRT_DEFAULT_URI={}; {line}",
            self.directory.path().display(),
            program.parent().unwrap().display(),
            self.lab["LIBVIRT_URI"],
        );
        let words = [
            "netns",
            "exec",
            &self.lab["LAB_NETNS"],
            "sh",
            "-ec",
            &script,
        ];
        run_for(BOOT, "ip", words)
    }

    pub(super) fn begins_as_the_readme_says(&self) {
        let file = self.directory.path().join("lbctl.toml");
        let filled_in = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let commands = commands();
        assert_eq!(commands.len(), 5, "{commands:?}");
        for line in &commands {
            let began = std::time::Instant::now();
            let mut ran = self.types(line);
            // Emulated, a guest may take longer than `up --wait` has patience, and says so.
            if ran.code == 5 {
                ran = self.types(line);
            }
            let ran = ran.ok();
            self.notes(line, began);
            if line.starts_with("lbctl init") {
                let made = fs::read_to_string(&file).unwrap();
                let network = format!("\"{}\"", self.lab["NETWORK_NAME"]);
                assert!(made.contains(FILL_IN) && made.contains(&network), "{made}");
                fs::write(&file, &filled_in).unwrap();
            }
            if line.starts_with("lbctl up") || line.starts_with("lbctl status") {
                ran.says(&[&format!("{}: ready", self.name)]);
            }
        }
    }

    /// `lbctl init`, its questions answered on a terminal.
    fn answers(&self, line: &str, answers: &[(&str, &str)]) {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/on-a-terminal");
        let steps = answers.iter().map(|(question, answer)| {
            assert!(!answer.contains('\''), "{answer}");
            format!("'see {question}' 'type {answer}\\n'")
        });
        let steps = steps.collect::<Vec<_>>().join(" ");
        self.types(&format!("{program} '{line}' {steps} 'see written'"))
            .ok()
            .says(&["`lbctl check --host` says whether it works here"]);
    }

    /// What the README says of an image, of the package and of an installation, and what an
    /// emulated guest needs: more patience with its handshakes.
    fn edits(&self, made: &str) -> String {
        let (pool, base) = (&self.lab["BASE_POOL"], &self.lab["BASE_VOLUME"]);
        let virsh = ["-q", "-c", &self.lab["LIBVIRT_URI"]];
        let path = run(
            "virsh",
            virsh.into_iter().chain(["vol-path", "--pool", pool, base]),
        );
        let path = path.ok().stdout;
        let digest = run_for(300, "sha256sum", [path.trim()]).ok().stdout;
        let image = format!(
            "base_image = {{ file = \"{}\", sha256 = \"{}\" }}",
            path.trim(),
            digest.split(' ').next().unwrap()
        );
        let mut lines: Vec<String> = Vec::new();
        for line in made.lines() {
            match line.split([' ', '#']).next() {
                Some("base_volume_name") => lines.push(image.clone()),
                Some("memory") => {
                    lines.extend([line.into(), "install_dependencies = false".into()]);
                }
                Some("[haproxy]") => lines.extend([line.into(), "runtime = \"package\"".into()]),
                _ => lines.push(line.into()),
            }
        }
        let patience = "[haproxy.check]\ninterval = \"1s\"\nfast = \"1s\"\ndown = \"1s\"\n[haproxy.timeouts]\ncheck = \"10s\"";
        lines.push(patience.into());
        lines.join("\n") + "\n"
    }
}

/// A newcomer with Patroni as it comes, by plain HTTP, its nodes by their addresses, and an image
/// in a file: the file that `lbctl init` wrote is the one that is used.
#[test]
#[ignore = "a guest of its own, in a soak"]
fn what_init_wrote_from_its_answers_gets_ready() {
    let lab = Lab::full();
    let (gateway, network) = (lab["NETWORK_GATEWAY"].clone(), lab["NETWORK_NAME"].clone());
    // Neither in the DHCP range nor another guest's.
    let ip = format!("{}.40", gateway.rsplit_once('.').unwrap().0);
    let kind = Kind {
        asks: Asks::Plain,
        ..Kind::package()
    };
    let interface = format!("[libvirt_network]\nnetwork_name = \"{network}\"\nip = \"{ip}\"");
    let guest = Guest::new("guest-newcomer", ip.clone(), kind, &interface);
    let file = guest.directory.path().join("lbctl.toml");
    fs::remove_file(&file).unwrap();
    let ssh_key = format!("{}.pub", lab["SSH_KEY"]);
    let answers = [
        ("name of the load balancer", guest.name),
        ("image, as a volume", ""),
        ("pool of the disk", &lab["POOL"]),
        ("libvirt network", &network),
        ("address in it", &ip),
        ("public ssh key", &ssh_key),
        ("addresses with commas between", &lab["PG_NODES"]),
        ("off, server or mutual", "off"),
    ];
    for line in commands() {
        let began = std::time::Instant::now();
        if line.starts_with("lbctl init") {
            guest.answers(&line, &answers);
            let made = fs::read_to_string(&file).unwrap();
            assert!(!made.contains(FILL_IN), "{made}");
            fs::write(&file, guest.edits(&made)).unwrap();
            continue;
        }
        let mut ran = guest.types(&line);
        // Emulated, a guest may take longer than `up --wait` has patience, and says so.
        if ran.code == 5 {
            ran = guest.types(&line);
        }
        let ran = ran.ok();
        guest.notes(&line, began);
        if line.starts_with("lbctl up") {
            ran.says(&["guest-newcomer: ready"]);
            let first = guest.query().ok();
            assert_eq!(first.stdout.trim(), format!("f|{}", guest.primary()));
        }
    }
    // The file names no libvirt: the one that is meant is the operator's default.
    let removed = guest.types("lbctl down --yes --delete-volume").ok();
    removed.says(&["removed"]);
    guest.is_gone();
}

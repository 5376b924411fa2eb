//! What an operator sees of a load balancer's life on a real libvirt, kept in
//! tests/transcripts/life.txt and refusals.txt; and that it is the same on terminals of 60, 80 and
//! 120 columns, where a command that only shows changes nothing.

use super::sandbox::Sandbox;
use crate::support::transcript::{
    Transcript, WIDTHS, fits_a_terminal, same_on_a_terminal, same_without_its_colours,
};

struct Teller {
    vm: Sandbox,
    transcript: Transcript,
}

impl Teller {
    fn new(file: &str) -> Self {
        let vm = Sandbox::new();
        // Names of the lab itself are the same everywhere; pool and network of a sandbox share one.
        let of_lab = ["@base", "@sleeping", "@pool", "@net2", "@macvtap"];
        let mut words = vm.words();
        words.retain(|(word, _)| !of_lab.iter().any(|w| word.starts_with(w)));
        let transcript = Transcript::new(file, words);
        Self { vm, transcript }
    }

    /// What changes something is run once.
    fn does(&mut self, typed: &str) {
        let ran = self.vm.lbctl(typed.strip_prefix("lbctl ").unwrap());
        self.transcript.note(typed, &ran);
    }

    /// A command that only shows is run on a terminal, too.
    fn shows(&mut self, typed: &str) {
        let arguments = typed.strip_prefix("lbctl ").unwrap();
        let piped = self.vm.lbctl(arguments);
        let coloured = self.vm.lbctl(&format!("{arguments} --color always"));
        same_without_its_colours(&piped, &coloured);
        let line = format!(
            "{} -c {} {arguments}",
            env!("CARGO_BIN_EXE_lbctl"),
            self.vm.fill("@home/lbctl.toml")
        );
        // Of a status, what does not fit is cut, and a list becomes blocks.
        if arguments == "status" || arguments.starts_with("list") {
            for columns in WIDTHS {
                fits_a_terminal(&line, columns, &piped);
            }
        } else {
            same_on_a_terminal(&line, &piped);
        }
        self.transcript.note(typed, &piped);
    }
}

#[test]
fn a_life() {
    let mut teller = Teller::new("life.txt");
    teller.shows("lbctl status");
    teller.shows("lbctl plan");
    teller.does("lbctl up");
    teller.does("lbctl up");
    teller.shows("lbctl plan --exit-code");
    teller.shows("lbctl status");
    teller.shows("lbctl renew --check");
    teller.does("lbctl renew");
    teller.does("lbctl renew --force");
    teller.vm.change("memory = 384\nvcpus = 2");
    teller.shows("lbctl plan --exit-code");
    teller.does("lbctl up --restart never");
    teller.does("lbctl up --restart later");
    teller.shows("lbctl plan");
    teller.does("lbctl up --restart now --stop-timeout 1s");
    teller.does("lbctl down");
    teller.does("lbctl down --yes --stop-timeout 1s");
    teller.does("lbctl down --yes");
    teller.does("lbctl renew");
    teller.transcript.compare();
}

#[test]
fn refusals_and_failures() {
    let mut teller = Teller::new("refusals.txt");
    teller
        .vm
        .change("libvirt_network.ip = '10.1.2.3'\nvolume.base_volume_name = 'nosuch'");
    teller.shows("lbctl plan");
    teller.does("lbctl up --json");
    teller.vm.start_over();
    teller.vm.change(
        "cloud_init_volume_pool = '@sleeping_pool'\nlibvirt_network.network_name = '@sleeping_net'",
    );
    teller.shows("lbctl plan");
    teller.vm.start_over();
    teller.vm.change("libvirt.domain_type = 'kvm'");
    teller.does("lbctl up");
    teller.does("lbctl down --yes");
    teller.transcript.compare();
}

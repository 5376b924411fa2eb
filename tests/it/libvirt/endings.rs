//! The documents of every command for every exit code that needs a host, held against the published
//! schemas.

use super::sandbox::Sandbox;
use crate::support::endings::{
    Ending, OF_A_CHANGE, OF_OTHERS, ON_A_HOST, STOPPED, ended_as_published,
};
use crate::support::run;

fn all(vm: &Sandbox, endings: &[Ending]) {
    for ending in endings {
        let (_, _, typed) = *ending;
        ended_as_published(*ending, "--events", vm.lbctl(&format!("{typed} --events")));
    }
}

#[test]
fn each_document_is_as_it_is_published() {
    let mut vm = Sandbox::new();
    all(&vm, ON_A_HOST);
    for ending in STOPPED {
        let (_, _, signal) = *ending;
        let config = vm.fill("@home/lbctl.toml");
        let program = env!("CARGO_BIN_EXE_lbctl");
        let words = [
            "--preserve-status",
            "-s",
            signal,
            "3",
            program,
            "-c",
            config.as_str(),
        ];
        let words = words.iter().copied().chain(["up", "--wait", "--events"]);
        ended_as_published(*ending, "--events", run("timeout", words));
    }
    vm.change("memory = 320\nhaproxy.patroni_client.certificate_early_renewal_period = 8761\nhaproxy.patroni_client.certificate_validity_period = 17520");
    all(&vm, OF_A_CHANGE);
    vm.write(
        "foreign.xml",
        &vm.fill("<domain type='qemu'><name>@vm</name><memory>65536</memory><os><type>hvm</type></os></domain>"),
    );
    vm.virsh("define @home/foreign.xml").ok();
    all(&vm, OF_OTHERS);
}

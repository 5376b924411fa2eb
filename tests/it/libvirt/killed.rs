//! A run that was killed half-way: whatever it left, the next `up` finishes and `down` removes. The
//! states are made with virsh, as they are between two steps of an `up`.

use super::sandbox::Sandbox;
use crate::support::run;

const RESERVED: &str =
    "net-update @net add ip-dhcp-host \"<host mac='@mac' name='@vm' ip='@ip'/>\" --live --config;";
const CLONED: &str =
    "vol-create-as @pool @vm 64M --format qcow2 --backing-vol BASE --backing-vol-format qcow2;";

const SEED: &str = "vol-create-as @pool @seed SIZE; vol-upload @seed @home/whole --pool @pool;";

/// The states that an `up` goes through, each with what is there then.
const STATES: [(&str, &str); 6] = [
    (
        "seed created, nothing of it written",
        "vol-create-as @pool @seed SIZE",
    ),
    (
        "seed half-written",
        "vol-create-as @pool @seed SIZE; vol-upload @seed @home/half --pool @pool",
    ),
    ("seed written", "SEED"),
    (
        "reserved in the saved network only",
        "SEED net-update @net add ip-dhcp-host \"<host mac='@mac' name='@vm' ip='@ip'/>\" --config",
    ),
    ("reserved", "SEED RESERVED"),
    ("cloned", "SEED RESERVED CLONED"),
];

/// Puts each of the states in place, one after the other, and hands it over; it is `down` again in
/// the end.
fn in_each_state(check: impl Fn(&Sandbox)) {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    // A whole seed of this very VM, to put back what there was of it.
    vm.up();
    let seed = std::fs::read(vm.pool_dir.join(vm.fill("@seed"))).unwrap();
    std::fs::write(vm.home.path().join("whole"), &seed).unwrap();
    std::fs::write(vm.home.path().join("half"), &seed[..seed.len() / 2]).unwrap();
    let base = format!("{}/pools/os/{}", vm.lab["LAB_STATE"], vm.lab["BASE_VOLUME"]);
    for (what, state) in STATES {
        eprintln!("{what}");
        vm.virsh("destroy @vm");
        vm.lbctl("down --yes --delete-volume").ok();
        before.assert_same(&vm.snapshot());
        let commands = state
            .replace("SEED", SEED)
            .replace("RESERVED", RESERVED)
            .replace("CLONED", CLONED)
            .replace("BASE", &base)
            .replace("SIZE", &seed.len().to_string());
        vm.virsh(&commands).ok();
        check(&vm);
    }
}

#[test]
fn up_finishes_what_a_killed_up_began() {
    in_each_state(|vm| {
        vm.lbctl("plan --exit-code").ended(3);
        vm.up();
        assert_eq!(vm.dominfo("State"), "running");
        // What was half-written may still be in use by another run: the new one gets another name,
        // and the half-written one is removed in the end.
        let volumes = vm.volumes();
        assert!(
            volumes == [vm.fill("@vm"), vm.fill("@seed")]
                || volumes == [vm.fill("@vm"), vm.fill("@seed2")],
            "{volumes:?}"
        );
        vm.lbctl("plan --exit-code").ok();
    });
}

#[test]
fn down_removes_what_a_killed_up_began() {
    in_each_state(|vm| {
        vm.lbctl("down --yes --delete-volume")
            .ok()
            .says(&["removed"]);
        assert!(vm.volumes().is_empty(), "{:?}", vm.volumes());
        for which in ["", "--inactive"] {
            vm.virsh(&format!("net-dumpxml @net {which}"))
                .ok()
                .does_not_say(&["<host"]);
        }
    });
}

#[test]
fn a_domain_defined_and_not_started_is_started_or_removed() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    for autostart in ["autostart @vm", "autostart @vm --disable"] {
        vm.up();
        vm.virsh("destroy @vm").ok();
        vm.virsh(autostart).ok();
        vm.up().says(&["start domain @vm"]).does_not_say(&[
            "clone volume",
            "write seed",
            "define domain",
        ]);
        assert_eq!(vm.dominfo("State"), "running");
        assert_eq!(vm.dominfo("Autostart"), "enable");
        vm.virsh("destroy @vm").ok();
        vm.virsh(autostart).ok();
        vm.lbctl("down --yes --delete-volume").ok();
        before.assert_same(&vm.snapshot());
    }
}

/// Killed between the redefinition and the end of an update: both seeds are there, or the new one
/// in half.
#[test]
fn an_update_that_was_killed_is_finished_or_reverted() {
    for (what, by_hand) in [
        (
            "half of the new seed",
            "vol-create-as @pool @seed2 360448; vol-upload @seed2 @home/half --pool @pool",
        ),
        (
            "nothing of the new seed",
            "vol-create-as @pool @seed2 360448",
        ),
    ] {
        eprintln!("{what}");
        let mut vm = Sandbox::new();
        let before = vm.snapshot();
        vm.up();
        let seed = std::fs::read(vm.pool_dir.join(vm.fill("@seed"))).unwrap();
        std::fs::write(vm.home.path().join("half"), &seed[..seed.len() / 2]).unwrap();
        vm.virsh(by_hand).ok();
        // Reverted: the configuration is the previous one, and the leftover is removed.
        vm.up().says(&["delete seed @pool/@seed2"]);
        assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@seed")]);

        vm.virsh(by_hand).ok();
        vm.change("haproxy.timeouts.idle = '31m'");
        vm.lbctl("up --restart now --stop-timeout=1s").ok();
        vm.lbctl("plan --exit-code").ok();
        assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@seed3")]);

        vm.virsh(&by_hand.replace("@seed2", "@seed")).ok();
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        before.assert_same(&vm.snapshot());
    }
}

/// The real thing, at times all over an `up`, from its first call to the start of the domain.
#[test]
fn an_up_killed_at_any_time_is_finished_or_removed() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    for milliseconds in [60, 90, 120, 150, 180, 210, 250, 300, 400, 600] {
        eprintln!("killed after {milliseconds} ms");
        let after = format!("0.{milliseconds:03}");
        let words = [
            "-s",
            "KILL",
            &after,
            env!("CARGO_BIN_EXE_lbctl"),
            "-c",
            "@home/lbctl.toml",
            "up",
        ];
        let killed = run("timeout", words.map(|word| vm.fill(word)));
        eprintln!("{killed}");
        if milliseconds % 20 == 0 {
            vm.up();
            assert_eq!(vm.dominfo("State"), "running");
            vm.lbctl("plan --exit-code").ok();
        }
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        before.assert_same(&vm.snapshot());
    }
}

/// Two at once: at worst one of them fails, and nothing is left that one more run does not put
/// right.
#[test]
fn two_at_the_same_time() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    let codes = std::thread::scope(|scope| {
        let runs = [
            scope.spawn(|| vm.lbctl("up")),
            scope.spawn(|| vm.lbctl("up")),
        ];
        runs.map(|run| {
            let ran = run.join().unwrap();
            eprintln!("{ran}");
            ran.code
        })
    });
    assert!(codes.contains(&0), "{codes:?}");
    vm.up();
    vm.lbctl("plan --exit-code").ok();
    assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@seed")]);
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

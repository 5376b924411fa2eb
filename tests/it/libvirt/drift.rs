//! An operator changes things with virsh: `plan` shows it and `up` repairs it, without a restart of
//! the guest where none is needed.

use super::sandbox::Sandbox;

struct Drift {
    /// What the operator does: virsh commands.
    by_hand: &'static str,
    /// What `plan` says of it.
    seen: &'static [&'static str],
}

/// One VM drifts again and again; each time `up` brings back what was there before, to the byte.
fn is_seen_and_repaired(drifts: &[Drift]) {
    let vm = Sandbox::new();
    vm.up();
    let before = vm.snapshot().without_live();
    for Drift { by_hand, seen } in drifts {
        eprintln!("by hand: {by_hand}");
        vm.virsh(by_hand).ok();
        vm.lbctl("plan --exit-code").ended(3).says(seen);
        vm.up().says(seen);
        vm.lbctl("plan --exit-code").ok();
        assert_eq!(vm.dominfo("State"), "running");
        assert_eq!(vm.dominfo("Autostart"), "enable");
        before.assert_same(&vm.snapshot().without_live());
    }
}

#[test]
fn of_the_definition_while_the_guest_runs() {
    is_seen_and_repaired(&[
        Drift {
            by_hand: "setmaxmem @vm 512M --config; setmem @vm 512M --config",
            seen: &["memory: 512 MiB -> 256 MiB (live)"],
        },
        Drift {
            by_hand: "setmem @vm 128M --config",
            seen: &["current memory: 128 MiB -> 256 MiB (live)"],
        },
        Drift {
            by_hand: "setvcpus @vm 3 --config --maximum; setvcpus @vm 3 --config",
            seen: &["vcpus: 3 -> 1 (live)"],
        },
        Drift {
            by_hand: "detach-interface @vm network --mac @mac --config",
            seen: &["interfaces: none -> @mac on network @net (live)"],
        },
        Drift {
            by_hand: "attach-interface @vm network @net --mac @mac2 --model virtio --config",
            seen: &[
                "interfaces: @mac on network @net, @mac2 on network @net -> @mac on network @net (live)",
            ],
        },
        Drift {
            by_hand: "detach-disk @vm vda --config",
            seen: &["disk: none -> @dir/@vm (live)"],
        },
        Drift {
            by_hand: "change-media @vm sda --eject --config",
            seen: &["seed: not in the drive -> @pool/@seed (live)"],
        },
        Drift {
            by_hand: "change-media @vm sda --eject --live",
            seen: &["seed: not in the drive -> @pool/@seed (live)"],
        },
        Drift {
            by_hand: "change-media @vm sda --eject --live --config",
            seen: &["seed: not in the drive -> @pool/@seed (live)"],
        },
        Drift {
            by_hand: "metadata @vm urn:lbctl:mark:1 --config --remove",
            seen: &[
                "definition: as edited or written by another lbctl -> as lbctl writes it (live)",
            ],
        },
    ]);
}

#[test]
fn of_the_state() {
    is_seen_and_repaired(&[
        Drift {
            by_hand: "autostart @vm --disable",
            seen: &["autostart: off -> on (live)"],
        },
        Drift {
            by_hand: "suspend @vm",
            seen: &["state: paused -> running (live)"],
        },
        Drift {
            by_hand: "destroy @vm",
            seen: &["state: shut off -> running (live)"],
        },
        Drift {
            by_hand: "destroy @vm; detach-disk @vm vda --config; change-media @vm sda --eject --config",
            seen: &[
                "disk: none -> @dir/@vm (live)",
                "seed: not in the drive -> @pool/@seed (live)",
                "state: shut off -> running (live)",
            ],
        },
        Drift {
            by_hand: "undefine @vm",
            seen: &[
                "definition: none, the domain would cease to exist when it stops -> saved (live)",
                "autostart: off -> on (live)",
            ],
        },
    ]);
}

#[test]
fn of_the_reservation() {
    const EDITED: &[&str] =
        &["reservation: @ip2 for @mac (@vm) -> @ip for @mac (@vm) in network @net (live)"];
    const SEEN: &[&str] = &["reservation: @ip for @mac (@vm) in network @net (live)"];
    is_seen_and_repaired(&[
        Drift {
            by_hand: "net-update @net delete ip-dhcp-host \"<host ip='@ip'/>\" --config",
            seen: SEEN,
        },
        Drift {
            by_hand: "net-update @net delete ip-dhcp-host \"<host ip='@ip'/>\" --live",
            seen: SEEN,
        },
        Drift {
            by_hand: "net-update @net delete ip-dhcp-host \"<host ip='@ip'/>\" --live --config",
            seen: SEEN,
        },
        Drift {
            by_hand: "net-update @net modify ip-dhcp-host \"<host mac='@mac' name='@vm' ip='@ip2'/>\" --live --config",
            seen: EDITED,
        },
        Drift {
            by_hand: "net-update @net modify ip-dhcp-host \"<host mac='@mac' name='@vm' ip='@ip2'/>\" --live",
            seen: EDITED,
        },
        Drift {
            by_hand: "net-update @net modify ip-dhcp-host \"<host mac='@mac' name='@vm' ip='@ip2'/>\" --config",
            seen: EDITED,
        },
    ]);
}

/// The certificate in use was in the seed, so the new seed has a new one, and the guest gets it by
/// a restart.
#[test]
fn of_the_seed_volume_itself() {
    for (by_hand, place, left) in [
        ("vol-delete @seed --pool @pool", "@seed", None),
        (
            "vol-upload @seed @home/other.iso --pool @pool",
            "@seed2",
            Some("@seed"),
        ),
    ] {
        let vm = Sandbox::new();
        vm.up();
        vm.write("other.iso", &"not a seed ".repeat(9000));
        vm.virsh(by_hand).ok();
        let seen = ["client certificate: new", "restart"];
        vm.lbctl("plan --exit-code").ended(3).says(&seen);
        let before = vm.snapshot();
        vm.lbctl("up").ended(4).says(&seen).says(&["--restart now"]);
        before.assert_same(&vm.snapshot());

        vm.lbctl("up --restart now --stop-timeout=1s").ok();
        vm.lbctl("plan --exit-code").ok();
        let drive = vm.fill(&format!("<source file='@dir/{place}'"));
        assert!(vm.live_xml().contains(&drive), "{drive}");
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        // What somebody else wrote is somebody else's.
        let left: Vec<String> = left.iter().map(|name| vm.fill(name)).collect();
        assert_eq!(vm.volumes(), left);
    }
}

#[test]
fn a_domain_without_its_ownership_record_is_refused() {
    let vm = Sandbox::new();
    vm.up();
    vm.virsh("metadata @vm urn:lbctl:mark:1 --config --live --remove")
        .ok();
    let before = vm.snapshot();
    let refused = ["domain @vm (running, uuid", "lbctl did not make it"];
    vm.lbctl("plan --exit-code").ended(4).says(&refused);
    vm.lbctl("up --restart now --yes").ended(4).says(&refused);
    vm.lbctl("down --yes --stop-timeout=1s")
        .ended(4)
        .says(&refused);
    before.assert_same(&vm.snapshot());
}

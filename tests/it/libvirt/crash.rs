//! lbctl is stopped at every call that changes something, and killed at any moment. What it leaves
//! starts no guest from a torn seed; the next `up` ends it, or `down` takes it all away.

use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use lbctl::testing::reconcile::plan::Restart;

use super::faulty::{Faulty, Moment, Stop};
use super::figures::{Dice, count, soaking, tell};
use super::inside::{Command, Inside, NOW, a_booting_guest_finds_a_whole_seed};
use super::sandbox::Sandbox;

/// A way of lbctl's from one state to another.
struct Way {
    what: &'static str,
    /// From nothing to where the way begins, with the configuration it ends with.
    prepare: fn(&mut Sandbox),
    command: Command,
    /// The calls that change something.
    calls: &'static [&'static str],
}

const WAYS: [Way; 9] = [
    Way {
        what: "first up",
        prepare: |_| {},
        command: Command::Up(NOW),
        calls: &[
            "create_volume",
            "add_reservation",
            "clone_volume",
            "define",
            "set_autostart",
            "start",
        ],
    },
    Way {
        what: "update with a restart and a new seed",
        prepare: |vm| {
            Inside::new(vm).up();
            vm.change("haproxy.timeouts.idle = '31m'\nmemory = 384");
        },
        command: Command::Up(NOW),
        calls: &[
            "create_volume",
            "define",
            "request_shutdown",
            "power_off",
            "start",
            "delete_volume",
        ],
    },
    Way {
        what: "update saved for the next start",
        prepare: |vm| {
            Inside::new(vm).up();
            vm.change("haproxy.timeouts.idle = '31m'");
        },
        command: Command::Up(Restart::Later),
        calls: &["create_volume", "define", "update_device", "delete_volume"],
    },
    Way {
        what: "update of a running guest's hardware",
        prepare: |vm| {
            Inside::new(vm).up();
            vm.virsh("autostart @vm --disable; setmem @vm 200M --config")
                .ok();
            vm.change("volume.size = '80 MiB'");
        },
        command: Command::Up(NOW),
        calls: &["grow_live_disk", "define", "set_autostart"],
    },
    Way {
        what: "another address",
        prepare: |vm| {
            Inside::new(vm).up();
            vm.change("libvirt_network.ip = '@ip2'");
        },
        command: Command::Up(NOW),
        calls: &[
            "define",
            "remove_reservation",
            "add_reservation",
            "request_shutdown",
            "power_off",
            "start",
        ],
    },
    Way {
        what: "update of a domain that is off",
        prepare: |vm| {
            Inside::new(vm).up();
            vm.virsh("destroy @vm").ok();
            vm.change("haproxy.timeouts.idle = '31m'\nvolume.size = '80 MiB'");
        },
        command: Command::Up(NOW),
        calls: &[
            "grow_volume",
            "create_volume",
            "define",
            "start",
            "delete_volume",
        ],
    },
    Way {
        what: "renewal for a domain that is off",
        prepare: |vm| {
            Inside::new(vm).up();
            vm.virsh("destroy @vm").ok();
        },
        command: Command::Renew,
        calls: &[
            "create_volume",
            "update_device",
            "set_ownership",
            "delete_volume",
        ],
    },
    Way {
        what: "down",
        prepare: |vm| Inside::new(vm).up(),
        command: Command::Down,
        calls: &[
            "request_shutdown",
            "power_off",
            "undefine",
            "delete_volume",
            "remove_reservation",
            "delete_volume",
        ],
    },
    Way {
        what: "another base image",
        prepare: |vm| {
            Inside::new(vm).up();
            // They are there after the first time.
            vm.virsh("pool-create-as @other dir --target @home; vol-create-as @other newer 64M --format qcow2");
            vm.change("volume.base_volume_pool = '@other'\nvolume.base_volume_name = 'newer'");
        },
        command: Command::Up(NOW),
        calls: &[
            "request_shutdown",
            "power_off",
            "delete_volume",
            "clone_volume",
            "define",
            "start",
        ],
    },
];

/// Stops one way at each of its calls, and lets the next `up` end it, or `down`, or both in turn.
fn stop_everywhere(way: &Way) {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    (way.prepare)(&mut vm);
    let inside = Inside::new(&vm);
    let whole = Faulty::new(&inside.host, None);
    inside.run(way.command, &whole).unwrap();
    assert_eq!(*whole.calls.borrow(), way.calls, "{}", way.what);
    inside.down();
    before.assert_same(&vm.snapshot());

    let stops = stops(way.calls);
    for (number, stop) in stops.iter().enumerate() {
        let ends: &[bool] = match (soaking(), number % 2) {
            (true, _) => &[true, false],
            (false, 0) => &[true],
            (false, _) => &[false],
        };
        for then_up in ends {
            eprintln!("{}: {stop:?}, then up: {then_up}", way.what);
            vm.start_over();
            (way.prepare)(&mut vm);
            let inside = Inside::new(&vm);
            let killed = Faulty::new(&inside.host, Some(*stop));
            inside.run(way.command, &killed).unwrap_err();
            a_booting_guest_finds_a_whole_seed(&vm, &inside.host);
            if *then_up {
                inside.up();
                assert_eq!(vm.volumes().len(), 2, "{:?}", vm.volumes());
            }
            inside.down();
            before.assert_same(&vm.snapshot());
        }
    }
    let ends = if soaking() {
        "up, and down"
    } else {
        "up, or down"
    };
    tell(format_args!(
        "crash at a step | {} | {} faults | all survived ({ends})",
        way.what,
        stops.len(),
    ));
}

/// All of them under `./dev soak`. CI, where the same is done to a host in memory
/// (`tests/it/steps.rs`), takes some of each way, and leaves out what is the same for the host:
/// before a call is after the one before.
fn stops(calls: &[&'static str]) -> Vec<Stop> {
    let mut stops = Faulty::stops(calls);
    if !soaking() {
        stops.retain(|s| s.moment != Moment::After);
    }
    let (all, some) = (stops.len(), count("FAULTS", 2, usize::MAX).min(stops.len()));
    (0..some)
        .map(|n| stops[(2 * n + 1) * all / (2 * some)])
        .collect()
}

#[test]
fn a_first_up_may_stop_anywhere() {
    stop_everywhere(&WAYS[0]);
}

#[test]
fn an_update_with_a_restart_may_stop_anywhere() {
    stop_everywhere(&WAYS[1]);
}

#[test]
fn an_update_for_the_next_start_may_stop_anywhere() {
    stop_everywhere(&WAYS[2]);
    stop_everywhere(&WAYS[3]);
}

#[test]
fn a_move_to_another_address_may_stop_anywhere() {
    stop_everywhere(&WAYS[4]);
}

#[test]
fn what_is_done_to_a_domain_that_is_off_may_stop_anywhere() {
    stop_everywhere(&WAYS[5]);
    stop_everywhere(&WAYS[6]);
}

#[test]
fn a_way_down_may_stop_anywhere() {
    stop_everywhere(&WAYS[7]);
}

#[test]
fn a_new_disk_may_stop_anywhere() {
    stop_everywhere(&WAYS[8]);
}

/// The real thing, killed from outside, while it does one thing after the other to one VM.
#[test]
fn killed_at_random_moments() {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    let mut dice = Dice::new("killed at random moments");
    let kills = count("KILLS", 10, 200);
    let (mut done, mut ended) = (0, 0);
    let mut there = false;
    while done < kills {
        let arguments = next(&mut vm, &mut dice, there, done);
        // Longer than any of them takes here, so that some end before they are killed, and some at
        // once after the start.
        let moment = Duration::from_millis(dice.below(if there { 900 } else { 700 }));
        eprintln!("{}: `lbctl {arguments}` for {moment:?}", done + 1);
        if kill_after(&vm, arguments, moment) {
            ended += 1;
        } else {
            done += 1;
        }
        let inside = Inside::new(&vm);
        a_booting_guest_finds_a_whole_seed(&vm, &inside.host);
        there = dice.below(3) > 0;
        if there {
            inside.up();
            assert_eq!(vm.volumes().len(), 2, "{:?}", vm.volumes());
        } else {
            inside.down();
            before.assert_same(&vm.snapshot());
        }
    }
    tell(format_args!(
        "kill -9 at a random moment | {done} kills | 0 wrong | {ended} runs ended before their kill"
    ));
}

/// Something that lbctl can do to the VM as it is now.
fn next(vm: &mut Sandbox, dice: &mut Dice, there: bool, number: usize) -> &'static str {
    if !there {
        return "up";
    }
    vm.change(&format!("haproxy.timeouts.idle = '{}m'", 31 + number));
    match dice.below(4) {
        0 => "up --restart later",
        1 => "up --restart now --stop-timeout=1s",
        2 => "down --yes --stop-timeout=1s --delete-volume",
        _ => {
            vm.virsh("destroy @vm").ok();
            "renew --force"
        }
    }
}

/// Whether it had ended before.
fn kill_after(vm: &Sandbox, arguments: &str, moment: Duration) -> bool {
    let mut lbctl = Process::new(env!("CARGO_BIN_EXE_lbctl"))
        .args(["-c", &vm.fill("@home/lbctl.toml")])
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let kill_at = Instant::now() + moment;
    while Instant::now() < kill_at {
        if let Some(ended) = lbctl.try_wait().unwrap() {
            assert!(ended.success(), "it ended by itself, {ended}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    lbctl.kill().unwrap();
    lbctl.wait().unwrap();
    false
}

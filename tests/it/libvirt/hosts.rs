//! Two VMs in one file on two hosts: the lab's libvirtd, and that of a spare lab, which is reached
//! by ssh as another machine is. What an operator meets there: a host that goes away and comes
//! back, a run that is killed, and another operator at work.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::figures::{Dice, count, tell};
use super::sandbox::{Sandbox, Snapshot};
use super::several::two;
use super::spare::Spare;
use crate::support::{Lab, Ran, run};

const GOES_ON: &str = "the same command goes on from here";
const DOWN: &str = "down --yes --delete-volume --stop-timeout=1s";

/// `@vm` here, and `@vm2` on the other host. Both may have the same number, in labs of their own.
struct Hosts {
    vm: Sandbox,
    far: Sandbox,
    spare: Spare,
}

/// What there is on both hosts.
struct Both([Snapshot; 2]);

impl Both {
    #[track_caller]
    fn assert_same(&self, later: &Self) {
        for (before, after) in self.0.iter().zip(&later.0) {
            before.assert_same(after);
        }
    }
}

impl Hosts {
    fn up() -> Self {
        let spare = Spare::up();
        let far = Sandbox::in_lab(spare.lab.clone());
        let mut vm = Sandbox::in_lab(Lab::bare());
        let of = |key: &str| spare.lab[key].as_str();
        let uri = format!(
            "qemu+ssh://root@{}:{}/system?command={}&keyfile={}",
            of("SSH_HOST"),
            of("SSH_PORT"),
            of("SSH_COMMAND"),
            of("SSH_KEY")
        );
        let second = format!(
            "{{ name = '@vm2', libvirt = {{ uri = '{uri}' }}, cloud_init_volume_pool = '@pool', \
             volume = {{ pool = '@pool' }}, libvirt_network = {{ network_name = '@net', ip = '@ip2', mac = '@mac2' }} }}"
        );
        two(&mut vm, &far.fill(&second));
        Self { vm, far, spare }
    }

    fn names(&self) -> [String; 2] {
        [self.vm.name.clone(), self.far.fill("@vm2")]
    }

    /// lbctl from where the other host's sshd is reached, without a terminal that ssh could ask on.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.spare.lab["CLIENT_NETNS"]])
            .args(["setsid", "-w", env!("CARGO_BIN_EXE_lbctl"), "-c"])
            .arg(self.vm.home.path().join("lbctl.toml"))
            .args(self.words(arguments));
        command
    }

    /// `@vm2` is the far one.
    fn words(&self, arguments: &str) -> Vec<String> {
        let words = arguments.replace("@vm2", &self.far.fill("@vm2"));
        let words = words.split_whitespace();
        words.map(|word| self.vm.fill(word)).collect()
    }

    fn lbctl(&self, arguments: &str) -> Ran {
        let command = self.command(arguments);
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let [near, far] = self.names();
        run("ip", arguments).with_words(vec![("@vm2", far), ("@vm", near)])
    }

    fn snapshot(&self) -> Both {
        Both([self.vm.snapshot(), self.far.snapshot()])
    }

    fn run(&self) -> [bool; 2] {
        let runs = |host: &Sandbox, name: &str| {
            let said = host.virsh(&format!("domstate {name}")).stdout;
            said.trim() == "running"
        };
        [runs(&self.vm, "@vm"), runs(&self.far, "@vm2")]
    }

    /// Each VM has its disk and one seed.
    #[track_caller]
    fn are_two_vms(&self) {
        assert_eq!(self.run(), [true, true]);
        for host in [&self.vm, &self.far] {
            assert_eq!(host.volumes().len(), 2, "{:?}", host.volumes());
        }
        self.lbctl("plan --exit-code").ok();
    }

    /// Runs lbctl and kills it after that many of its events; whether it had ended before.
    fn killed_after(&self, arguments: &str, events: usize) -> bool {
        let mut lbctl = self
            .command(&format!("{arguments} --events --quiet"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(lbctl.stdout.take().unwrap()).lines();
        let seen = lines.map_while(Result::ok).take(events).count();
        let ended = seen < events;
        if !ended {
            lbctl.kill().unwrap();
        }
        lbctl.wait().unwrap();
        ended
    }
}

#[test]
fn two_hosts_have_one_vm_each() {
    let mut hosts = Hosts::up();
    let before = hosts.snapshot();
    let plan = hosts.lbctl("plan --exit-code").ended(3);
    plan.says(&["@vm: to be created", "@vm2: to be created"]);
    hosts.lbctl("check --host").ok();
    before.assert_same(&hosts.snapshot());

    hosts.lbctl("up --only @vm2").ok().says(&["@vm2: running"]);
    assert_eq!(hosts.run(), [false, true]);
    let up = hosts.lbctl("up").ok();
    up.says(&["@vm: running", "@vm2: up to date"]);
    hosts.are_two_vms();
    let status = hosts.lbctl("status").ended(1);
    status.says(&["@vm: not ready", "@vm2: not ready"]);
    let listed = hosts.lbctl("status --json").ended(1).document();
    assert!(listed["vms"][1]["uri"].as_str().unwrap().contains("+ssh"));

    hosts.vm.change("volume.size = '80 MiB'");
    let live = "1 change, no session is cut";
    let up = hosts.lbctl("up").ok();
    up.says(&[&format!("@vm: {live}"), &format!("@vm2: {live}")]);

    // Neither is ready, so neither is restarted, whoever asks for it; one alone is.
    hosts.vm.change("memory = 300");
    let memory = |host: &Sandbox, name: &str| {
        let xml = host.virsh(&format!("dumpxml {name}")).ok().stdout;
        xml.contains("<memory unit='KiB'>307200<")
    };
    let held = hosts
        .lbctl("up --restart now --stop-timeout=1s --json")
        .ended(4);
    let document = held.document();
    for vm in document["vms"].as_array().unwrap() {
        assert_eq!(vm["error"]["messages"][0]["id"], "no-other-ready", "{vm}");
    }
    assert!(!memory(&hosts.vm, "@vm") && !memory(&hosts.far, "@vm2"));
    hosts
        .lbctl("up --restart now --stop-timeout=1s --only @vm2")
        .ok();
    assert!(!memory(&hosts.vm, "@vm") && memory(&hosts.far, "@vm2"));
    hosts.lbctl("up --restart later").ok();

    hosts.lbctl(&format!("{DOWN} --only @vm2")).ok();
    assert_eq!(hosts.run(), [true, false]);
    let down = hosts.lbctl(DOWN).ok();
    down.says(&["@vm: removed", "@vm2: does not exist"]);
    before.assert_same(&hosts.snapshot());
}

/// Its libvirtd ends; and its cable is out, so that nobody answers at all.
#[test]
fn two_hosts_and_one_of_them_goes() {
    let mut hosts = Hosts::up();
    let before = hosts.snapshot();
    hosts.lbctl("up").ok();
    let (netns, mut size) = (hosts.spare.lab["LAB_NETNS"].clone(), 80);
    let cable = |state: &str| {
        run("ip", ["-n", &netns, "link", "set", "seg0", state]).ok();
    };
    for silent in [false, true] {
        if silent {
            cable("down");
        } else {
            hosts.spare.kill();
        }
        hosts.vm.change(&format!("volume.size = '{size} MiB'"));
        size += 16;
        let up = hosts.lbctl("up").ended(1);
        up.says(&[
            "@vm: 1 change",
            "@vm: running",
            "@vm2: not reached (",
            GOES_ON,
        ]);
        hosts.lbctl("up --only @vm").ok().says(&["up to date"]);
        hosts
            .lbctl("status")
            .ended(1)
            .says(&["@vm: not ready", "@vm2: not reached"]);
        hosts.vm.change("memory = 300");
        let held = hosts.lbctl("up --restart now").ended(1);
        held.says(&["@vm: its sessions would be cut", "@vm2: not reached)"]);
        hosts.vm.change("memory = 256");
        if silent {
            cable("up");
        } else {
            hosts.spare.start();
        }
        assert_eq!(hosts.run(), [true, true]);
        let up = hosts.lbctl("up").ok();
        up.says(&["@vm: up to date", "@vm2: 1 change, no session is cut"]);
        hosts.are_two_vms();
    }
    hosts.spare.kill();
    let down = hosts.lbctl(DOWN).ended(1);
    down.says(&["@vm: removed", "@vm2: not reached"]);
    hosts.spare.start();
    let down = hosts.lbctl(DOWN).ok();
    down.says(&["@vm: does not exist", "@vm2: removed"]);
    before.assert_same(&hosts.snapshot());
}

/// A way from one state of both VMs to another: what is done first, the change of the file, the
/// command.
struct Way {
    first: &'static [&'static str],
    change: &'static str,
    command: &'static str,
}

const WAYS: [Way; 4] = [
    Way {
        first: &[],
        change: "",
        command: "up",
    },
    Way {
        first: &["up"],
        change: "volume.size = '80 MiB'",
        command: "up",
    },
    Way {
        first: &["up"],
        change: "memory = 300",
        command: "up --restart later",
    },
    Way {
        first: &["up"],
        change: "",
        command: DOWN,
    },
];

/// After each event of lbctl's, of which a step has two; CI takes some.
#[test]
fn two_hosts_and_lbctl_is_killed_anywhere() {
    let mut hosts = Hosts::up();
    let before = hosts.snapshot();
    let mut kills = 0;
    for way in &WAYS {
        let mut dice = Dice::repeated(way.command, 7);
        let stops = count("HOSTS", 2, usize::MAX);
        let (mut last, mut at) = (usize::MAX, 1);
        for number in 0..stops {
            hosts.vm.change("volume.size = '64 MiB'\nmemory = 256");
            for first in way.first {
                hosts.lbctl(first).ok();
            }
            let ran = !way.first.is_empty();
            hosts.vm.change(way.change);
            let ended = hosts.killed_after(way.command, at);
            eprintln!("`lbctl {}`, killed after {at} events: {ended}", way.command);
            let removes = way.command == DOWN;
            assert!(!ran || removes || hosts.run() == [true, true]);
            if removes && number % 2 == 0 {
                hosts.lbctl(DOWN).ok();
            } else {
                hosts.lbctl(way.command.replace(DOWN, "up").as_str()).ok();
                if !way.command.ends_with("later") {
                    hosts.are_two_vms();
                }
                hosts.lbctl(DOWN).ok();
            }
            before.assert_same(&hosts.snapshot());
            if ended {
                last = at;
                break;
            }
            kills += 1;
            at = if stops == usize::MAX {
                at + 1
            } else {
                // Of the twenty or so that an `up` has.
                1 + usize::try_from(dice.below(20)).unwrap()
            };
        }
        eprintln!("`lbctl {}` has ended after {last} events", way.command);
    }
    tell(format_args!(
        "`lbctl` over two hosts, killed after its events | {kills} kills | 0 wrong, neither VM stopped"
    ));
}

/// In the end it is as if one after the other had been at work.
#[test]
fn two_hosts_and_two_operators() {
    let mut hosts = Hosts::up();
    let before = hosts.snapshot();
    let rounds = count("RACES", 1, 10);
    let mut dice = Dice::new("two operators");
    let fights: [(&str, [&str; 2]); 4] = [
        ("", ["up", "up"]),
        ("up", ["up", "up"]),
        (
            "up",
            ["up --restart later", "up --restart now --stop-timeout=1s"],
        ),
        ("up", [DOWN, "up"]),
    ];
    let mut runs = 0;
    for round in 0..rounds {
        for (place, (first, commands)) in fights.iter().enumerate() {
            hosts.vm.change("volume.size = '64 MiB'\nmemory = 256");
            if !first.is_empty() {
                hosts.lbctl(first).ok();
            }
            match place {
                1 => hosts.vm.change("volume.size = '80 MiB'"),
                2 => hosts.vm.change("memory = 300"),
                _ => {}
            }
            let late = dice.below(300);
            let both = &hosts;
            let codes = std::thread::scope(|scope| {
                let at_work = [(commands[0], 0), (commands[1], late)].map(|(command, delay)| {
                    scope.spawn(move || {
                        std::thread::sleep(std::time::Duration::from_millis(delay));
                        let ran = both.lbctl(command);
                        assert!([0, 1, 4].contains(&ran.code), "{ran}");
                        assert!(ran.code == 0 || ran.stderr.contains("error: "), "{ran}");
                        ran.code
                    })
                });
                at_work.map(|one| one.join().unwrap())
            });
            eprintln!("round {round}, {commands:?}: {codes:?}");
            runs += 2;
            if place != 3 && !first.is_empty() {
                assert_eq!(hosts.run(), [true, true], "a VM was stopped");
            }
            if place == 2 {
                hosts.vm.change("memory = 256");
            }
            hosts.lbctl("up").ok();
            hosts.are_two_vms();
            hosts.lbctl(DOWN).ok();
            before.assert_same(&hosts.snapshot());
        }
    }
    tell(format_args!(
        "two operators over two hosts | {runs} runs | 0 wrong, neither VM stopped"
    ));
}

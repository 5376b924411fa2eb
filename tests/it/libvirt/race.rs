//! Several lbctl at once, which share nothing but libvirtd: in the end it is as if one after the
//! other had been run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use lbctl::testing::host::{Definition, HostReader};
use lbctl::testing::seed::{SeedContent, places, recognise};

use super::figures::{Dice, count, tell};
use super::inside::{Inside, a_booting_guest_finds_a_whole_seed};
use super::proxy::{Fate, Message, proxy};
use super::sandbox::Sandbox;
use crate::support::{Ran, run};

/// Who runs lbctl: root at libvirt's own socket, over one form of the URI or another, or nobody, by
/// way of a proxy.
fn run_as(vm: &Sandbox, number: usize, arguments: &str) -> Ran {
    let (user, uri) = match number % 3 {
        0 => ("0", vm.fill("@uri")),
        1 => ("0", vm.fill("@uri").replace("qemu+unix", "qemu")),
        _ => ("65534", vm.fill("qemu+unix:///system?socket=@home/proxy")),
    };
    let line = vm.fill(&format!(
        "--reuid={user} --regid={user} --clear-groups @home/lbctl -c @home/lbctl.toml --connect {uri} {arguments}"
    ));
    run("setpriv", line.split(' ')).with_words(vm.words())
}

/// A sandbox that every user may work in: its configuration, an lbctl, and a way to its libvirt.
fn for_everybody() -> Sandbox {
    for_everybody_with(|_| Fate::Pass)
}

fn for_everybody_with(judge: impl FnMut(Message) -> Fate + Send + 'static) -> Sandbox {
    let vm = Sandbox::new();
    let socket = vm.home.path().join("proxy");
    let libvirtd = format!("{}/libvirt-sock", vm.lab["LAB_RUN"]);
    proxy(&socket, &libvirtd, judge);
    let home = vm.home.path();
    for (path, mode) in [
        (socket.clone(), 0o777),
        (home.to_owned(), 0o755),
        (home.join("lbctl.toml"), 0o644),
        (home.join("ca.key"), 0o644),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_lbctl"), vm.fill("@home/lbctl")).unwrap();
    vm
}

/// Each one succeeds, or says that another run is changing it and what to do.
fn at_once(vm: &Sandbox, commands: &[&str], dice: &mut Dice) -> Vec<i32> {
    // Which of them is whose changes from time to time.
    let shift = usize::try_from(dice.below(3)).unwrap();
    let runs: Vec<(usize, &str, u64)> = (0..commands.len())
        .map(|n| (n + shift, commands[n], dice.below(150)))
        .collect();
    std::thread::scope(|scope| {
        let rivals: Vec<_> = runs
            .iter()
            .map(|(number, command, delay)| {
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(*delay));
                    run_as(vm, *number, command)
                })
            })
            .collect();
        let ended = rivals.into_iter().zip(commands).map(|(rival, command)| {
            let ran = rival.join().unwrap();
            if ran.code != 0 {
                eprintln!("{ran}");
                assert!([1, 4].contains(&ran.code), "{ran}");
                let tells = ["another lbctl", "somebody else", "shutting down", "claimed"];
                // To one that begins late the guest simply runs, and has no agent.
                let late = match *command {
                    "renew --force" => "the running guest cannot take a new certificate",
                    "up" => "this change needs a restart of the guest, and nothing was changed",
                    _ => "another lbctl",
                };
                let mut tells = tells.iter().chain([&late]);
                assert!(tells.any(|text| ran.stderr.contains(text)), "{ran}");
                assert!(ran.stderr.contains("help: "), "{ran}");
            }
            ran.code
        });
        ended.collect()
    })
}

/// Another lbctl may remove a domain between the look at it and the question which jobs a step
/// would end.
#[test]
fn a_domain_that_ended_has_no_block_jobs() {
    let vm = Sandbox::new();
    vm.up();
    let inside = Inside::new(&vm);
    let jobs = || inside.host.block_jobs(&vm.name, &["vda".to_owned()]);
    assert_eq!(jobs().unwrap(), []);
    vm.virsh("destroy @vm").ok();
    assert_eq!(jobs().unwrap(), []);
    vm.virsh("undefine @vm").ok();
    assert_eq!(jobs().unwrap(), []);
}

/// One VM, one seed, one reservation; the ownership records, the drives and the seed agree.
#[track_caller]
fn is_one_vm(vm: &Sandbox) {
    let inside = Inside::new(vm);
    a_booting_guest_finds_a_whole_seed(vm, &inside.host);
    let domain = inside.host.domain(&vm.name).unwrap().expect("a domain");
    assert_eq!(vm.volumes().len(), 2, "{:?}", vm.volumes());
    let live = domain.live.as_ref().expect("it runs");
    let ownership = |d: &Definition| d.ownership.clone().expect("an ownership record").seed;
    assert_eq!(
        ownership(&domain.config).fingerprint,
        ownership(live).fingerprint
    );
    let at = ownership(&domain.config).volume;
    assert!(places(&inside.config.seed_volume).contains(&at));
    let seed = fs::read(vm.pool_dir.join(&at.name)).unwrap();
    let SeedContent::Ours(seed) = recognise(&seed, &vm.name) else {
        panic!("{at} is not a seed");
    };
    assert_eq!(seed.fingerprint, ownership(live).fingerprint);
    for definition in [&domain.config, live] {
        let path = definition.cdroms().find_map(|d| d.source.clone());
        let path = path.expect("a medium").to_string();
        assert!(path.ends_with(&format!("/{}", at.name)), "{path}");
    }
    for which in ["", "--inactive"] {
        let xml = vm.virsh(&format!("net-dumpxml @net {which}")).ok().stdout;
        assert_eq!(xml.matches("<host mac=").count(), 1, "{xml}");
    }
}

#[test]
fn many_ups_of_one_configuration_make_one_vm() {
    let (mut dice, rounds) = (Dice::new("many ups"), count("RACES", 1, 20));
    let rivals = count("RIVALS", 8, 8);
    let mut vm = for_everybody();
    let before = vm.snapshot();
    let (mut runs, mut gave_up) = (0, 0);
    for round in 0..rounds {
        vm.start_over();
        for change in ["", "haproxy.timeouts.idle = '31m'\nmemory = 384"] {
            vm.change(change);
            let up = "up --restart now --stop-timeout=1s";
            let codes = at_once(&vm, &vec![up; rivals], &mut dice);
            eprintln!("round {round}: {codes:?}");
            assert!(codes.contains(&0), "{codes:?}");
            runs += codes.len();
            gave_up += codes.iter().filter(|code| **code != 0).count();
            vm.up().says(&["up to date, nothing to do"]);
            is_one_vm(&vm);
        }
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        before.assert_same(&vm.snapshot());
    }
    tell(format_args!(
        "{rivals} `up` at once | {runs} runs | {} VMs, one each time | {gave_up} runs gave up, with exit 1",
        2 * rounds
    ));
}

#[test]
fn up_against_down_and_renew_against_up() {
    fight("against", for_everybody());
}

/// One of them works from far away, so that what it has begun stays so for a while.
#[test]
fn up_against_down_and_renew_against_up_from_far_away() {
    let late = Duration::from_millis(200);
    let judge = move |message: Message| match message {
        Message {
            asks: true,
            stream: false,
            ..
        } => Fate::Late(late),
        _ => Fate::Pass,
    };
    fight("far away", for_everybody_with(judge));
}

fn fight(what: &str, mut vm: Sandbox) {
    let (mut dice, rounds) = (Dice::new(what), count("RACES", 1, 20));
    let before = vm.snapshot();
    let (mut runs, mut gave_up) = (0, 0);
    for round in 0..rounds {
        let fights: [(&str, &[&str]); 3] = [
            (
                "",
                &["up", "down --yes --stop-timeout=1s --delete-volume", "up"],
            ),
            (
                "up",
                &[
                    "down --yes --stop-timeout=1s --delete-volume",
                    "up",
                    "down --yes --stop-timeout=1s --delete-volume",
                ],
            ),
            // A guest without an agent takes no certificate while it runs.
            ("up; off", &["renew --force", "up", "renew --force", "up"]),
        ];
        for (there, commands) in fights {
            vm.start_over();
            if there.starts_with("up") {
                vm.up();
            }
            if there.ends_with("off") {
                vm.virsh("destroy @vm").ok();
                vm.change("memory = 384");
            }
            let codes = at_once(&vm, commands, &mut dice);
            eprintln!("round {round}, {commands:?}: {codes:?}");
            runs += codes.len();
            gave_up += codes.iter().filter(|code| **code != 0).count();
            vm.lbctl("up --restart now --stop-timeout=1s").ok();
            vm.lbctl("up").ok().says(&["up to date, nothing to do"]);
            is_one_vm(&vm);
            vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
                .ok();
            before.assert_same(&vm.snapshot());
        }
    }
    tell(format_args!(
        "`up` against `down`, `renew` against `up` | {runs} runs | 0 wrong | {gave_up} runs gave up"
    ));
}

/// Two load balancers that both want one address, one MAC address, or one disk.
#[test]
fn of_two_configurations_that_claim_one_thing_one_is_refused() {
    let rounds = count("RACES", 1, 20);
    let mut dice = Dice::new("claims");
    let mut vm = for_everybody();
    let before = vm.snapshot();
    let other = "name = '@other'\ncloud_init_volume_name = '@other-seed.iso'\n";
    let mut refused = 0;
    for _ in 0..rounds {
        for (what, shares) in [
            (
                "address",
                "volume.name = '@other'\nlibvirt_network.mac = '@mac2'",
            ),
            ("MAC", "volume.name = '@other'\nlibvirt_network.ip = '@ip2'"),
            (
                "disk",
                "libvirt_network.ip = '@ip2'\nlibvirt_network.mac = '@mac2'",
            ),
        ] {
            vm.start_over();
            fs::copy(vm.fill("@home/lbctl.toml"), vm.fill("@home/first.toml")).unwrap();
            vm.change(&format!("{other}{shares}"));
            let delays = [dice.below(100), dice.below(100)];
            let (vm, delays) = (&vm, &delays);
            let ran = std::thread::scope(|scope| {
                let run_with = |n: usize, file: &'static str| {
                    scope.spawn(move || {
                        std::thread::sleep(Duration::from_millis(delays[n]));
                        let (lbctl, file) = (vm.fill("@home/lbctl"), vm.fill(file));
                        run(&lbctl, ["-c", &file, "up"]).with_words(vm.words())
                    })
                };
                let rivals = [
                    run_with(0, "@home/first.toml"),
                    run_with(1, "@home/lbctl.toml"),
                ];
                rivals.map(|rival| rival.join().unwrap())
            });
            let codes = [ran[0].code, ran[1].code];
            assert!(
                codes == [0, 4] || codes == [4, 0],
                "{what}: {} {}",
                ran[0],
                ran[1]
            );
            let (lost, owner) = if codes[0] == 4 {
                (&ran[0], vm.fill("@other"))
            } else {
                (&ran[1], vm.name.clone())
            };
            assert!(lost.stderr.contains(&owner), "{what}: {lost}");
            eprintln!("{what}: {lost}");
            refused += 1;
            // Nothing is left of the one that was refused.
            let domains = vm.virsh("list --all --name").ok().stdout;
            let loser = if codes[0] == 4 {
                &vm.name
            } else {
                &vm.fill("@other")
            };
            assert!(!domains.lines().any(|d| d == loser), "{domains}");
            assert_eq!(vm.volumes().len(), 2, "{:?}", vm.volumes());
            let winner = if codes[0] == 0 { "first" } else { "lbctl" };
            run(
                &vm.fill("@home/lbctl"),
                format!(
                    "-c {}/{winner}.toml down --yes --stop-timeout=1s --delete-volume",
                    vm.fill("@home")
                )
                .split(' '),
            )
            .ok();
            before.assert_same(&vm.snapshot());
        }
    }
    tell(format_args!(
        "two configurations that claim one address, MAC address or disk | {refused} pairs | {refused} times exactly one refused, by its owner's name"
    ));
}

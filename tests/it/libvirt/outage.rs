//! libvirt stops, is slow, or has no space, at the worst moments: lbctl ends clearly, and the next
//! `up` does what is left.

use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::figures::{count, soaking, tell};
use super::inside::{Inside, a_booting_guest_finds_a_whole_seed};
use super::proxy::{DOMAIN_CREATE, Fate, Message, NETWORK_UPDATE, proxy};
use super::sandbox::{Sandbox, Snapshot};
use super::spare::{Spare, within};
use crate::support::Ran;

/// `up` by way of a proxy.
fn up_through(
    vm: &Sandbox,
    arguments: &str,
    judge: impl FnMut(Message) -> Fate + Send + 'static,
) -> (Ran, Duration) {
    let socket: PathBuf = vm.home.path().join("proxy");
    proxy(
        &socket,
        &format!("{}/libvirt-sock", vm.lab["LAB_RUN"]),
        judge,
    );
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let started = Instant::now();
    let ran = vm.lbctl(&format!("--connect {uri} {arguments}"));
    (ran, started.elapsed())
}

/// The run ended with an error that says what to do; what it left is whole, and the next one
/// completes it.
#[track_caller]
fn ends_clearly_and_goes_on(vm: &Sandbox, ran: Ran, before: &Snapshot) {
    eprintln!("{ran}");
    ran.ended(1).says(&["error: ", "help: "]);
    a_booting_guest_finds_a_whole_seed(vm, &Inside::new(vm).host);
    vm.up();
    vm.lbctl("plan --exit-code").ok();
    assert_eq!(vm.dominfo("State"), "running");
    assert_eq!(vm.volumes().len(), 2, "{:?}", vm.volumes());
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

#[test]
fn libvirtd_is_killed_during_the_upload_and_before_the_start() {
    let spare = Arc::new(Spare::up());
    let vm = Sandbox::in_lab(spare.lab.clone());
    let before = vm.snapshot();
    for at_upload in [true, false] {
        let (daemon, mut killed) = (Arc::clone(&spare), false);
        let (ran, _) = up_through(&vm, "up", move |m| {
            let now = if at_upload {
                m.asks && m.stream
            } else {
                m.asks && m.procedure == DOMAIN_CREATE
            };
            if now && !killed {
                killed = true;
                daemon.restart();
            }
            Fate::Pass
        });
        spare.answers();
        ends_clearly_and_goes_on(&vm, ran, &before);
    }
    tell(
        "libvirtd killed and restarted during upload, before start | 2 of 2 ended clearly, and the next `up` converged",
    );
}

#[test]
fn libvirtd_restarts_while_lbctl_waits() {
    let spare = Spare::up();
    let vm = Sandbox::in_lab(spare.lab.clone());
    let lbctl = Process::new(env!("CARGO_BIN_EXE_lbctl"))
        .args(["-c", &vm.fill("@home/lbctl.toml"), "up", "--wait=12s"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let running = || vm.virsh("domstate @vm").stdout.trim() == "running";
    within(60, "the start", running);
    // For what follows the start.
    std::thread::sleep(Duration::from_secs(2));
    spare.restart();
    let output = lbctl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("libvirt answers again"), "{said}");
    vm.up().says(&["nothing to do"]);
    tell("libvirtd restarted during --wait | reported, waited for, exit 5 in time");
}

/// After any number of libvirt's answers.
#[test]
fn the_connection_is_cut_anywhere() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    let counted = Arc::new(AtomicUsize::new(0));
    let all = Arc::clone(&counted);
    let (ran, _) = up_through(&vm, "up", move |m| {
        if !m.asks {
            all.fetch_max(m.number + 1, Ordering::Relaxed);
        }
        Fate::Pass
    });
    ran.ok();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    let answers = counted.load(Ordering::Relaxed);
    let cuts = count("OUTAGES", 2, 60).min(answers);
    let mut done = 0;
    for cut in 0..cuts {
        let last = (2 * cut + 1) * answers / (2 * cuts);
        let happened = Arc::new(AtomicUsize::new(0));
        let happens = Arc::clone(&happened);
        let (ran, _) = up_through(&vm, "up", move |m| match m {
            Message {
                asks: false,
                number,
                ..
            } if number == last => {
                happens.fetch_add(1, Ordering::Relaxed);
                Fate::Cut
            }
            _ => Fate::Pass,
        });
        eprintln!("cut after {last} of {answers} answers");
        // How often a start is asked after differs from run to run: the last place may lie behind
        // this one's end, or where it has nothing to say any more but good-bye.
        let late = happened.load(Ordering::Relaxed) == 0 && last * 10 >= answers * 9;
        let behind = late || last + 2 >= answers;
        if behind && ran.code == 0 {
            vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
                .ok();
        } else {
            done += 1;
            ends_clearly_and_goes_on(&vm, ran, &before);
        }
    }
    assert!(done * 10 >= cuts * 9, "{done} of {cuts} cuts happened");
    tell(format_args!(
        "connection cut after N of {answers} answers | {done} cuts | 0 wrong"
    ));
}

#[test]
fn slow_answers_are_waited_for() {
    let vm = Sandbox::new();
    let delay = Duration::from_millis(count("DELAY", 300, 10_000) as u64);
    // Each eighth, or the test lasts as long as all of them together.
    let (ran, took) = up_through(&vm, "up", move |m| {
        if !m.asks && m.number % 8 == 7 {
            Fate::Late(delay)
        } else {
            Fate::Pass
        }
    });
    ran.ok();
    vm.lbctl("plan --exit-code").ok();
    tell(format_args!(
        "each eighth answer {delay:?} late | up done after {:.0} s",
        took.as_secs_f64()
    ));
}

/// A peer that says nothing any more, with its connection open, is given up.
#[test]
fn a_silent_libvirt_is_not_waited_for_without_an_end() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    // From its first answer on, which no keep-alive watches over, and later.
    let moments: &[usize] = if soaking() { &[0, 40] } else { &[40] };
    for moment in moments {
        let (ran, took) = up_through(&vm, "up", |m| {
            if !m.asks && m.number == *moment {
                Fate::Lost
            } else {
                Fate::Pass
            }
        });
        assert!(took < Duration::from_secs(60), "{took:?}");
        ends_clearly_and_goes_on(&vm, ran, &before);
        tell(format_args!(
            "libvirt silent after {moment} answers, connection open | given up after {:.0} s, exit 1",
            took.as_secs_f64()
        ));
    }
}

/// Something vanishes between the look and the step that needs it.
#[test]
fn what_was_observed_is_removed_before_it_is_used() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    for (procedure, meanwhile, afterwards, code) in [
        (NETWORK_UPDATE, "net-destroy @net", "net-start @net", 1),
        // It is written again.
        (DOMAIN_CREATE, "vol-delete @seed --pool @pool", "version", 0),
        (DOMAIN_CREATE, "net-destroy @net", "net-start @net", 1),
    ] {
        eprintln!("{meanwhile}");
        let (lab, command) = (vm.lab.clone(), vm.fill(meanwhile));
        let done = Mutex::new(false);
        let (ran, _) = up_through(&vm, "up", move |m| {
            if m.asks && m.procedure == procedure && !*done.lock().unwrap() {
                *done.lock().unwrap() = true;
                lab.virsh(&command).ok();
            }
            Fate::Pass
        });
        eprintln!("{ran}");
        let ran = ran.ended(code);
        if code != 0 {
            ran.says(&["error: ", "help: "]);
        }
        vm.virsh(afterwards).ok();
        vm.up();
        vm.lbctl("plan --exit-code").ok();
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok();
        before
            .clone()
            .without_live()
            .assert_same(&vm.snapshot().without_live());
    }
    tell(
        "network destroyed, seed deleted between observation and step | 3 of 3: two said what to do, one was repaired \
         by the same run; the next `up` converged",
    );
}

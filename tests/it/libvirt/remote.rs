//! libvirt of another machine, over `qemu+ssh`: from where the lab's clients are, through the sshd
//! of its host. libvirt runs the program ssh, as it does for `virsh`, with the user's own settings;
//! the lab's command for it takes nothing of the machine's.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::figures::{soaking, tell};
use super::image::{digest, with_image};
use super::sandbox::Sandbox;
use super::spare::within;
use crate::support::{Ran, run};

/// Where a URI leads.
struct Way {
    user: &'static str,
    host: String,
    port: String,
    command: String,
    key: String,
    more: &'static str,
}

impl Way {
    /// The way that works.
    fn of(vm: &Sandbox) -> Self {
        Self {
            user: "root",
            host: vm.lab["SSH_HOST"].clone(),
            port: vm.lab["SSH_PORT"].clone(),
            command: vm.lab["SSH_COMMAND"].clone(),
            key: vm.lab["SSH_KEY"].clone(),
            more: "",
        }
    }

    fn uri(&self) -> String {
        let Self {
            user,
            host,
            port,
            command,
            key,
            more,
        } = self;
        format!("qemu+ssh://{user}@{host}:{port}/system?command={command}&keyfile={key}{more}")
    }

    /// lbctl in the clients' place, without a terminal that ssh could ask somebody on.
    fn command(&self, vm: &Sandbox, arguments: &str) -> Vec<String> {
        let inside = ["netns", "exec", &vm.lab["CLIENT_NETNS"], "setsid", "-w"];
        let program = [env!("CARGO_BIN_EXE_lbctl"), "--connect"];
        let config = ["-c".to_owned(), vm.fill("@home/lbctl.toml")];
        let words = arguments.split_whitespace().map(|word| vm.fill(word));
        let begins = inside.into_iter().chain(program).map(str::to_owned);
        begins
            .chain([self.uri()])
            .chain(config)
            .chain(words)
            .collect()
    }

    fn lbctl(&self, vm: &Sandbox, arguments: &str) -> Ran {
        run("ip", self.command(vm, arguments)).with_words(vm.words())
    }
}

/// The program that is called for ssh, with other known hosts.
fn ssh_that_knows(vm: &Sandbox, known: &str) -> String {
    vm.write("known_hosts", known);
    let text = fs::read_to_string(&vm.lab["SSH_COMMAND"]).unwrap();
    let own = format!("{}/ssh/known_hosts", vm.lab["LAB_RUN"]);
    assert!(text.contains(&own), "{text}");
    vm.write("ssh", &text.replace(&own, &vm.fill("@home/known_hosts")));
    let path = vm.fill("@home/ssh");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn a_whole_life_over_ssh() {
    let (mut vm, image) = with_image();
    vm.change(&format!(
        "volume.base_image = {{ file = 'image.qcow2', sha256 = '{}' }}",
        digest(&image)
    ));
    let way = Way::of(&vm);
    let far = |arguments: &str| way.lbctl(&vm, arguments);
    let calls = |arguments: &str| {
        far(arguments).ok().document()["libvirt_calls"]
            .as_u64()
            .unwrap()
    };
    let before = vm.snapshot();
    far("plan").ok().says(&["bring image", "2. write seed"]);
    far("check --host").says(&["qemu+ssh://root@", "its digest is right"]);

    // The image goes the same way, by libvirt's upload.
    let first = calls("--json up");
    let base = vm
        .volumes()
        .into_iter()
        .find(|name| name.starts_with("lbctl-"));
    let base = vm.pool_dir.join(base.unwrap());
    assert_eq!(fs::read(base).unwrap(), image);
    assert_eq!(vm.dominfo("State"), "running");
    far("up").ok().says(&["nothing to do"]);
    let noop = calls("--json up");
    far("plan --exit-code").ok();
    far("status").says(&["@vm", "running"]);

    // Live changes: a lost reservation, and a grown disk.
    let id = vm.dominfo("Id");
    let entry = "<host mac='@mac' name='@vm' ip='@ip'/>";
    vm.write("entry", &vm.fill(entry));
    vm.virsh("net-update @net delete ip-dhcp-host @home/entry --live --config")
        .ok();
    far("up").ok().says(&["reserve @ip for @mac"]);
    vm.virsh("net-dumpxml @net").ok().says(&[entry]);
    vm.change("volume.size = '128 MiB'");
    far_up_grows(&way, &vm);
    assert_eq!(vm.dominfo("Id"), id);

    way.lbctl(&vm, "down --yes --stop-timeout=1s --delete-volume")
        .ok();
    // The image stays, for others.
    assert_eq!(vm.volumes().len(), 1, "{:?}", vm.volumes());
    fs::remove_file(vm.pool_dir.join(&vm.volumes()[0])).unwrap();
    vm.virsh("pool-refresh @pool").ok();
    before.assert_same(&vm.snapshot());
    // Measured: 66, with 9 for the image, and 27.
    assert!(first <= 72, "a first up with an image took {first} calls");
    assert!(noop <= 30, "an up with nothing to do took {noop} calls");
}

fn far_up_grows(way: &Way, vm: &Sandbox) {
    way.lbctl(vm, "up")
        .ok()
        .says(&["disk size: 64 MiB -> 128 MiB (live)"]);
    vm.virsh("domblkinfo @vm vda")
        .ok()
        .says(&["Capacity:       134217728"]);
}

/// `@home/other`: a key that neither side knows.
fn another_key(vm: &Sandbox) {
    let key = vm.fill("@home/other");
    let keygen = ["-q", "-t", "ed25519", "-N", "", "-f", &key];
    run("ssh-keygen", keygen).ok();
}

/// Each with what helps, and none of them waits for somebody who could answer.
#[test]
fn who_does_not_get_there_is_told_why() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    another_key(&vm);
    let good = || Way::of(&vm);
    let cases: Vec<(&str, Way, Vec<String>)> = vec![
        (
            "a key that the host does not know",
            Way {
                key: vm.fill("@home/other"),
                ..good()
            },
            vec![
                "Permission denied (publickey)".into(),
                vm.fill("`ssh -i @home/other"),
                "must work without a password".into(),
            ],
        ),
        (
            "a key file that is not there",
            Way {
                key: vm.fill("@home/missing"),
                ..good()
            },
            vec!["(`keyfile`) cannot be read".into()],
        ),
        (
            "a user who may not log in",
            Way {
                user: "nobody",
                ..good()
            },
            vec!["help: ".into()],
        ),
        (
            "nobody listens",
            Way {
                port: "2299".into(),
                ..good()
            },
            vec![
                "Connection refused".into(),
                "is it up, and is its sshd?".into(),
            ],
        ),
        (
            "no such host",
            Way {
                host: "kvm1.invalid".into(),
                ..good()
            },
            vec![
                "Could not resolve".into(),
                "this machine cannot resolve the name kvm1.invalid".into(),
            ],
        ),
        (
            "a socket that is not there",
            Way {
                more: "&socket=/nowhere&proxy=netcat",
                ..good()
            },
            vec!["ssh works, but".into()],
        ),
    ];
    for (case, way, words) in cases {
        told_why(case, &vm, &way, &words);
    }
    before.assert_same(&vm.snapshot());
}

/// The other half: the host's key, and ssh itself.
#[test]
fn who_does_not_know_the_host_is_told_why() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    another_key(&vm);
    let other_host = fs::read_to_string(vm.fill("@home/other.pub")).unwrap();
    let place = format!("[{}]:{}", vm.lab["SSH_HOST"], vm.lab["SSH_PORT"]);
    let changed = format!("{place} {other_host}");
    let good = || Way::of(&vm);
    let port = vm.lab["SSH_PORT"].clone();
    for known in ["", changed.as_str()] {
        let command = ssh_that_knows(&vm, known);
        // With and without being told that nobody is there to answer.
        for more in ["", "&no_tty=1"] {
            let words = match known {
                "" => vec![
                    "Host key verification failed".to_owned(),
                    "does not know this host yet".to_owned(),
                    format!("-p {port} -l root"),
                ],
                _ => vec![format!("`ssh-keygen -R '{place}'`")],
            };
            let way = Way {
                command: command.clone(),
                more,
                ..good()
            };
            told_why("an unknown host", &vm, &way, &words);
        }
    }
    // libvirt cannot run ssh at all.
    let way = Way {
        command: "/nonexistent".into(),
        ..good()
    };
    told_why("no ssh", &vm, &way, &["help: ".into()]);
    before.assert_same(&vm.snapshot());
}

#[track_caller]
fn told_why(case: &str, vm: &Sandbox, way: &Way, words: &[String]) {
    for command in ["up", "status", "down --yes"] {
        let began = Instant::now();
        let ran = way.lbctl(vm, command);
        eprintln!("{case}\n{ran}");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        ran.ended(1)
            .says(&["connecting to libvirt at qemu+ssh://", "help: "])
            .says(&words)
            .does_not_say(&["of the group libvirt"]);
        assert!(began.elapsed() < Duration::from_secs(20), "{case}");
    }
}

/// A line of its own to the host's sshd, on which everything takes so long each way.
struct Line {
    way: Way,
    proxy: Child,
}

impl Line {
    fn of(vm: &Sandbox, each_way: Duration, port: u16) -> Self {
        let good = Way::of(vm);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/delay.py");
        let mut proxy = Command::new("ip")
            .args([
                "netns",
                "exec",
                &vm.lab["CLIENT_NETNS"],
                "/usr/bin/python3",
                "-B",
                script,
            ])
            .arg(format!("127.0.0.1:{port}"))
            .arg(format!("{}:{}", good.host, good.port))
            .arg(each_way.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut from = BufReader::new(proxy.stdout.take().unwrap());
        from.read_line(&mut said).unwrap();
        assert_eq!(said, "listening\n");
        let known = fs::read_to_string(format!("{}/ssh/known_hosts", vm.lab["LAB_RUN"])).unwrap();
        let key = known.split_once(' ').unwrap().1;
        let command = ssh_that_knows(vm, &format!("* {key}"));
        let way = Way {
            host: "127.0.0.1".into(),
            port: port.to_string(),
            command,
            ..good
        };
        Self { way, proxy }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn timed(ran: impl FnOnce() -> Ran) -> Duration {
    let began = Instant::now();
    ran().ok();
    began.elapsed()
}

/// How often something goes there and back, from how much longer it takes on a long line. Only on a
/// machine that does nothing else: what is counted everywhere are calls.
#[test]
fn a_long_line_is_gone_along_a_few_times() {
    if !soaking() {
        return;
    }
    let vm = Sandbox::new();
    let each_way = Duration::from_millis(50);
    let near = Line::of(&vm, Duration::ZERO, 2301);
    let far = Line::of(&vm, each_way, 2302);
    // As often as it takes to see past what else the machine does.
    let least = |of: &dyn Fn() -> Duration| (0..2).map(|_| of()).min().unwrap();
    let down = || {
        vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
            .ok()
    };
    let first = |line: &Line| {
        let took = timed(|| line.way.lbctl(&vm, "up"));
        down();
        took
    };
    let (first_near, first_far) = (least(&|| first(&near)), least(&|| first(&far)));
    vm.up();
    let noop = |line: &Line| timed(|| line.way.lbctl(&vm, "up").says(&["nothing to do"]));
    let (noop_near, noop_far) = (least(&|| noop(&near)), least(&|| noop(&far)));
    let trips = |far: Duration, near: Duration| {
        far.saturating_sub(near).as_secs_f64() / (2.0 * each_way.as_secs_f64())
    };
    let (first_trips, noop_trips) = (trips(first_far, first_near), trips(noop_far, noop_near));
    tell(format_args!(
        "libvirt over ssh, {each_way:?} away each way | first up {:.1} s ({first_trips:.0} times there and back), \
         no-op {:.1} s ({noop_trips:.0})",
        first_far.as_secs_f64(),
        noop_far.as_secs_f64()
    ));
    // Measured: 60 and 27, of which ssh and libvirt's own greeting are 17.
    assert!(first_trips <= 70.0, "a first up: {first_trips:.0} times");
    assert!(noop_trips <= 30.0, "a no-op: {noop_trips:.0} times");
    assert!(first_far <= Duration::from_secs(10), "{first_far:?}");
    assert!(noop_far <= Duration::from_secs(3), "{noop_far:?}");
}

/// The line is cut in the middle of the work.
#[test]
fn a_host_that_goes_away_is_told_of_and_the_next_up_goes_on() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    let mut line = Line::of(&vm, Duration::from_millis(20), 2303);
    let lbctl = Command::new("ip")
        .args(line.way.command(&vm, "up"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    within(30, "the seed", || !vm.volumes().is_empty());
    line.proxy.kill().unwrap();
    let output = lbctl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["error: ", "the connection to libvirt broke"] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    Way::of(&vm).lbctl(&vm, "up").ok();
    vm.lbctl("plan --exit-code").ok();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    before.assert_same(&vm.snapshot());
}

/// One that takes the connection and says nothing: without a terminal nobody could be typing a
/// passphrase, so it is given up soon.
#[test]
fn a_silent_host_is_given_up() {
    if !soaking() {
        return;
    }
    let vm = Sandbox::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let way = Way {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port().to_string(),
        ..Way::of(&vm)
    };
    let began = Instant::now();
    // In this machine's own namespace, where it listens.
    let command = way.command(&vm, "up");
    let ran = run("setsid", &command[3..]);
    ran.ended(1)
        .says(&["no answer within 30 s", "ssh does not reach 127.0.0.1"]);
    assert!(began.elapsed() < Duration::from_secs(40));
    drop(listener);
}

//! Two guests on macvtap that share an address, before a real Patroni, in one file: planned changes
//! cut no session and fail no connect, and when one of them dies, stands still or is shut down,
//! clients reach the other one. `./dev soak` runs it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::inside::shell;
use super::{BOOT, newer_debian};
use crate::support::{Lab, Ran, run, run_for};

const NAMES: [&str; 2] = ["guest-pair-1", "guest-pair-2"];
/// Of the segment, and nobody's own.
const SHARED: &str = "10.77.0.30";
const SESSIONS: u32 = 50;
/// Seconds that a session lives, as those of a pool do: less than `drain`.
const LIFE: u32 = 60;
const DRAIN: &str = "3m";
/// As long as an emulated guest, beside another one on two cores, may say nothing at all; a real
/// one has the default of 0.6 s.
const DETECTION: &str = "4s";
/// Seconds, for another VM to have the address, beside that.
const MOVES: u64 = 30;
/// Seconds in which two may answer for the address at the same time: `detection` and one more.
const MOST_BOTH: f64 = 5.0;

struct Pair {
    lab: Lab,
    directory: tempfile::TempDir,
    begun: Instant,
}

impl Pair {
    fn new() -> Self {
        let pair = Self {
            lab: Lab::full(),
            directory: tempfile::tempdir().unwrap(),
            begun: Instant::now(),
        };
        pair.configure(704, "BASE_VOLUME");
        pair.lbctl(600, "down --yes --delete-volume --stop-timeout=1s")
            .ok();
        pair
    }

    /// `base`: its key in the lab's facts.
    fn configure(&self, memory: u32, base: &str) {
        let of = |key: &str| self.lab[key].as_str();
        let vms = NAMES.iter().map(|name| {
            format!(
                "[[vms]]\nname = \"{name}\"\n[[vms.macvtap_interfaces]]\ninterface = \"{}\"\nip = \"{}\"\n\
                 prefix_length = {}\ngateway = \"{}\"\ndns_servers = [\"{}\"]\n",
                of("MACVTAP_INTERFACE"),
                self.own(name),
                of("MACVTAP_PREFIX"),
                of("MACVTAP_GATEWAY"),
                of("MACVTAP_DNS"),
            )
        });
        let vms: String = vms.collect();
        let text = format!(
            r#"vcpus = 1
memory = {memory}
cloud_init_volume_pool = "{pool}"
ssh_admin_user = "{user}"
admin_user_password = "it's \"a\" secret: #1"
install_dependencies = false
[libvirt]
uri = "{uri}"
domain_type = "qemu"
[volume]
pool = "{pool}"
size = "4 GiB"
base_volume_pool = "{base_pool}"
base_volume_name = "{base}"
[virtual_ip]
address = "{SHARED}"
detection = "{DETECTION}"
drain = "{DRAIN}"
[haproxy]
runtime = "package"
hold = "1m"
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["{dns}"]
postgres_domain = "{domain}"
[haproxy.check] # an emulated guest takes longer for a TLS handshake than a second allows
interval = "1s"
fast = "1s"
down = "1s"
[haproxy.timeouts]
check = "10s"
[haproxy.patroni_client]
ca_key = {{ file = "{ca_key}" }}
ca_certificate = {{ file = "{ca}" }}
certificate_validity_period = 8760
certificate_early_renewal_period = 720
{vms}"#,
            pool = of("POOL"),
            user = of("IMAGE_USER"),
            uri = of("LIBVIRT_URI"),
            base_pool = of("BASE_POOL"),
            base = of(base),
            dns = of("MACVTAP_DNS"),
            domain = of("POSTGRES_DOMAIN"),
            ca_key = of("CA_KEY"),
            ca = of("CA_CERT"),
        );
        fs::write(self.directory.path().join("lbctl.toml"), text).unwrap();
    }

    fn own(&self, name: &str) -> &str {
        let key = ["MACVTAP_GUEST_IP", "MACVTAP_GUEST_IP_2"][usize::from(name == NAMES[1])];
        &self.lab[key]
    }

    fn lbctl(&self, seconds: u64, arguments: &str) -> Ran {
        let file = self.directory.path().join("lbctl.toml");
        let words = ["-c", file.to_str().unwrap()].into_iter();
        let began = Instant::now();
        let words = words.chain(arguments.split(' '));
        let ran = run_for(seconds, env!("CARGO_BIN_EXE_lbctl"), words);
        self.notes(&format!("lbctl {arguments}"), began);
        ran
    }

    fn notes(&self, what: &str, began: Instant) {
        let (at, took) = (self.begun.elapsed(), began.elapsed());
        println!("{:4} {:4}  {what}", at.as_secs(), took.as_secs());
    }

    fn virsh(&self, command: &str) {
        self.lab.virsh(command).ok();
        println!("{:4}       virsh {command}", self.begun.elapsed().as_secs());
    }

    /// Who has the address, and who would take it.
    fn shared(&self) -> [Vec<String>; 2] {
        let said = self.lbctl(120, "status --json").document();
        ["holders", "spares"].map(|of| {
            let names = said["virtual_ip"][of].as_array().unwrap().iter();
            names
                .map(|name| name.as_str().unwrap().to_owned())
                .collect()
        })
    }

    /// Waits until one has it and, where `whole`, the other one would take it: the one that has it.
    fn holder(&self, whole: bool) -> String {
        let end = Instant::now() + Duration::from_secs(BOOT / 2);
        loop {
            let [holders, spares] = self.shared();
            if holders.len() == 1 && (!whole || spares.len() == 1) {
                return holders[0].clone();
            }
            let said = format!("{holders:?} have it, {spares:?} would take it");
            assert!(Instant::now() < end, "{said}");
            // Each question starts a program in both guests.
            sleep(Duration::from_secs(5));
        }
    }

    fn up(&self, more: &str) -> Ran {
        self.lbctl(3 * BOOT, format!("up --wait={BOOT}s {more}").trim_end())
    }

    fn inside(&self, name: &str, script: &str) -> String {
        shell(&self.lab, name, script)
    }

    /// The host's end of a guest's card, and its MAC address.
    fn card(&self, name: &str) -> (String, String) {
        let list = self.lab.virsh(&format!("domiflist {name}")).ok().stdout;
        let fields: Vec<&str> = list.lines().last().unwrap().split_whitespace().collect();
        (fields[0].to_owned(), fields[4].to_owned())
    }
}

fn other(name: &str) -> &'static str {
    NAMES[usize::from(name == NAMES[0])]
}

/// Who uses the address all the time, and sees who answers for it.
struct Clients {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// What they saw since the report before (`tests/guest/busy.py`).
struct Seen(Value);

impl Clients {
    fn begin(pair: &Pair) -> Self {
        let lab = &pair.lab;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/busy.py");
        let names = NAMES.map(|name| format!("{}={name}", pair.card(name).1));
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &lab["MACVTAP_CLIENT_NETNS"]])
            .args([&lab["PG_PYTHON"], "-B", script, SHARED])
            .args([SESSIONS.to_string(), LIFE.to_string()])
            .args(names)
            .env("PGUSER", &lab["PG_SUPERUSER"])
            .env("PGPASSWORD", &lab["PG_PASSWORD"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut clients = Self { child, answers };
        // All are connected, and what an emulated guest takes for that is not counted.
        sleep(Duration::from_secs(20));
        clients.report("at first");
        clients
    }

    fn report(&mut self, when: &str) -> Seen {
        writeln!(self.child.stdin.as_mut().unwrap(), "report").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        println!("           clients {when}: {}", line.trim());
        let seen = Seen(serde_json::from_str(&line).unwrap());
        let both = seen.seconds("both");
        assert!(both <= MOST_BOTH, "{when}: two had it for {both} s");
        seen
    }

    /// Nothing was cut and no connection failed since the last report.
    #[track_caller]
    fn notice_nothing(&mut self, when: &str) -> Seen {
        sleep(Duration::from_secs(3));
        let seen = self.report(when);
        assert_eq!(seen.count("cut"), 0, "{when}");
        assert_eq!(seen.count("failed"), 0, "{when}");
        assert!(seen.count("connects") > 0, "{when}");
        seen
    }
}

impl Seen {
    fn count(&self, what: &str) -> u64 {
        self.0[what].as_u64().unwrap()
    }

    fn seconds(&self, what: &str) -> f64 {
        self.0[what].as_f64().unwrap()
    }

    /// The VMs that answered for the address.
    fn holders(&self) -> Vec<&str> {
        let spans = self.0["holders"].as_array().unwrap().iter();
        let mut names: Vec<&str> = spans.map(|span| span[0].as_str().unwrap()).collect();
        names.dedup();
        names
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "it boots two guests several times: ./dev soak"]
fn what_is_planned_cuts_no_session() {
    told_of_two(&[
        is_handed_over,
        have_another_memory,
        have_another_base,
        sees_its_primary_move,
    ]);
}

#[test]
#[ignore = "it boots two guests several times: ./dev soak"]
fn one_of_two_may_be_lost() {
    told_of_two(&[
        stays_where_it_is,
        loses_its_programs,
        dies,
        stands_still,
        is_cut_off,
        is_shut_down,
    ]);
}

/// One story after the other, of two that are ready.
fn told_of_two(stories: &[fn(&Pair, &mut Clients)]) {
    let pair = Pair::new();
    pair.up("").ok().says(&["ready", "psql"]);
    pair.holder(true);
    let mut clients = Clients::begin(&pair);
    clients.notice_nothing("while nothing happens");
    for story in stories {
        story(&pair, &mut clients);
    }
    drop(clients);
    pair.lbctl(900, "down --yes --delete-volume").ok();
}

/// The one that has the address keeps it and its sessions while systemd-networkd starts again;
/// under four busy loops it keeps the address.
fn stays_where_it_is(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before systemd-networkd starts again");
    pair.inside(&holder, "systemctl restart systemd-networkd");
    let seen = clients.notice_nothing("when systemd-networkd starts again");
    assert_eq!(seen.holders(), [holder.as_str()]);
    let loops = "for n in 1 2 3 4; do timeout 60 sh -c 'while :; do :; done' & done; wait";
    pair.inside(&holder, loops);
    let seen = clients.report("under four busy loops");
    assert_eq!(seen.holders(), [holder.as_str()]);
}

fn is_handed_over(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before the handover");
    let new = format!("{} has {SHARED} now", pair.own(other(&holder)));
    let ran = pair.lbctl(600, "handover").ok();
    ran.says(&[&new, "no session is left"]);
    let seen = clients.notice_nothing("during the handover");
    assert_eq!(seen.holders().last(), Some(&other(&holder)));
    assert_eq!(pair.holder(true), other(&holder));
}

/// The one that has the address comes last.
fn have_another_memory(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before another memory");
    pair.configure(736, "BASE_VOLUME");
    let plan = pair.lbctl(120, "plan --json").ok().document();
    let order = plan["vms"].as_array().unwrap().iter();
    let order: Vec<&str> = order.map(|vm| vm["name"].as_str().unwrap()).collect();
    assert_eq!(order, [other(&holder), holder.as_str()], "{plan:#}");
    for vm in plan["vms"].as_array().unwrap() {
        assert_eq!(vm["changes"][0]["class"], "handover", "{vm:#}");
    }
    pair.up("").ok();
    clients.notice_nothing("during another memory of both");
    assert_eq!(pair.holder(true), other(&holder));
    pair.lbctl(120, "up").ok().says(&["up to date"]);
}

fn have_another_base(pair: &Pair, clients: &mut Clients) {
    pair.holder(true);
    clients.report("before another base image");
    pair.configure(736, newer_debian().base);
    pair.lbctl(120, "up")
        .ended(4)
        .says(&["--replace-disk", "contains data"]);
    pair.up("--replace-disk").ok().says(&["remake volume"]);
    clients.notice_nothing("during another base image of both");
    pair.holder(true);
}

/// Patroni's switchover and its failover are matters of HAProxy's: the address stays where it is.
fn sees_its_primary_move(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before Patroni moves its primary");
    let began = Instant::now();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dataplane/promise.py");
    let env = format!("{}/env", pair.lab["LAB_RUN"]);
    let space = &pair.lab["MACVTAP_CLIENT_NETNS"];
    let words = ["-B", script, &env, space, SHARED, "switchovers=1", "killed"];
    let ran = run_for(1200, "/usr/bin/python3", words);
    println!("{ran}");
    pair.notes("promise.py", began);
    let seen = clients.report("while Patroni moves its primary");
    assert_eq!(seen.holders(), [holder.as_str()]);
    ran.ok();
    assert_eq!(pair.holder(true), holder);
}

/// New connections succeed within some seconds, and the other one has the address.
#[track_caller]
fn moves_from(clients: &mut Clients, holder: &str, what: &str) {
    sleep(Duration::from_secs(MOVES));
    let seen = clients.report(what);
    let longest = seen.seconds("longest");
    assert!(seen.count("connects") > 0, "{what}");
    let within = Duration::from_secs(MOVES).as_secs_f64();
    assert!(longest < within, "{what}: {longest} s without a connection");
    assert_eq!(seen.holders().last(), Some(&other(holder)), "{what}");
}

/// What is down is started again, and nobody notices.
#[track_caller]
fn comes_back(pair: &Pair, clients: &mut Clients, holder: &str) {
    sleep(Duration::from_secs(5));
    clients.report("before its return");
    pair.up("").ok();
    assert_eq!(pair.holder(true), other(holder));
    let seen = clients.notice_nothing("during its return");
    assert_eq!(seen.holders(), [other(holder)]);
}

/// HAProxy is killed in the one that has the address, and keepalived in the other one, which has it
/// then.
fn loses_its_programs(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before the end of HAProxy");
    pair.inside(&holder, "systemctl kill --signal=KILL haproxy");
    moves_from(clients, &holder, "after the end of HAProxy");
    assert_eq!(pair.holder(false), other(&holder));
    let holder = pair.holder(true);
    clients.report("before the end of keepalived");
    pair.inside(&holder, "systemctl kill --signal=KILL keepalived");
    sleep(Duration::from_secs(MOVES));
    let seen = clients.report("after the end of keepalived");
    assert!(seen.seconds("longest") < 15.0);
    pair.holder(true);
}

fn dies(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before the end of a machine");
    pair.virsh(&format!("destroy {holder}"));
    moves_from(clients, &holder, "after the end of its machine");
    assert_eq!(pair.holder(false), other(&holder));
    comes_back(pair, clients, &holder);
}

fn stands_still(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before it stands still");
    pair.virsh(&format!("suspend {holder}"));
    moves_from(clients, &holder, "while it stands still");
    assert_eq!(pair.holder(false), other(&holder));
    pair.virsh(&format!("resume {holder}"));
    sleep(Duration::from_secs(MOVES));
    // The one with the higher address keeps it, and one of them has it.
    let seen = clients.report("after it went on");
    assert!(seen.seconds("longest") < 15.0);
    pair.holder(true);
}

/// The network does not carry what it says, and it does not notice. It sees no primary and steps
/// down, so nobody notices when it is back.
fn is_cut_off(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before it is cut off");
    let (card, _) = pair.card(&holder);
    let link = |state: &str| {
        let host = pair.lab["LAB_NETNS"].as_str();
        run("ip", ["-n", host, "link", "set", &card, state]).ok();
        println!(
            "{:4}       {card} is {state}",
            pair.begun.elapsed().as_secs()
        );
    };
    link("down");
    moves_from(clients, &holder, "while it is cut off");
    // By its own word it has it still.
    assert_eq!(pair.shared()[0], NAMES);
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let weight = pair.inside(&holder, "cat /run/lbctl/vip-weight");
        if weight.trim() == "-20" {
            break;
        }
        assert!(Instant::now() < end, "{holder} has the weight {weight}");
        sleep(Duration::from_secs(2));
    }
    clients.report("before it is back");
    link("up");
    sleep(Duration::from_secs(MOVES));
    clients.notice_nothing("when it is back");
    assert_eq!(pair.holder(true), other(&holder));
}

fn is_shut_down(pair: &Pair, clients: &mut Clients) {
    let holder = pair.holder(true);
    clients.report("before it is shut down");
    pair.virsh(&format!("shutdown {holder}"));
    let off = || pair.lab.virsh(&format!("domstate {holder}")).stdout;
    let end = Instant::now() + Duration::from_secs(300);
    while off().trim() != "shut off" {
        assert!(Instant::now() < end, "{holder} is {}", off());
        sleep(Duration::from_secs(2));
    }
    moves_from(clients, &holder, "after it was shut down");
    assert_eq!(pair.holder(false), other(&holder));
    comes_back(pair, clients, &holder);
}

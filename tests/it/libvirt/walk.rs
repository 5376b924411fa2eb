//! An operator works on the host between lbctl's commands, at random: saves, snapshots, edits,
//! stops, removes, restores. Whatever the way leads to, nothing that lbctl did not make is touched,
//! no data is lost, each command ends with a true sentence, and the commands that its help names
//! lead back to a guest that runs as configured.

use std::collections::BTreeSet;
use std::fs;

use super::figures::{Dice, count, tell};
use super::sandbox::{Sandbox, Snapshot};
use super::spare::within;
use crate::support::{Ran, run};

/// What the operator types. Most of it is possible in some states only, and fails in others; `@n`
/// is a number.
const BY_HAND: &[&str] = &[
    "managedsave @vm",
    "managedsave-remove @vm",
    "start @vm",
    "start @vm",
    "destroy @vm",
    "suspend @vm",
    "resume @vm",
    "reset @vm",
    "snapshot-create-as @vm s@n",
    "snapshot-create-as @vm e@n --disk-only",
    "snapshot-create-as @vm o@n --disk-only --no-metadata",
    "snapshot-revert @vm s@n",
    "snapshot-revert @vm s@n --running",
    "snapshot-delete @vm s@n",
    "checkpoint-create-as @vm c@n",
    "checkpoint-delete @vm c@n",
    "blockcommit @vm vda --base @dir/@vm --active --pivot --wait",
    "blockcopy @vm vda --dest @home/copy.qcow2 --format qcow2 --transient-job --wait",
    "blockpull @vm vda --wait",
    "blockjob @vm vda --abort",
    "pool-destroy @pool",
    "pool-start @pool",
    "pool-refresh @pool",
    "net-destroy @net",
    "net-start @net",
    "vol-delete @seed --pool @pool",
    "net-update @net delete ip-dhcp-host \"<host ip='@ip'/>\" --live --config",
    "net-update @net delete ip-dhcp-host \"<host ip='@ip'/>\" --config",
    "domif-setlink @vm @mac down",
    "domif-setlink @vm @mac up",
    "change-media @vm sda --eject --live",
    "change-media @vm sda --eject --config",
    "autostart @vm --disable",
    "undefine @vm",
    "setmem @vm 200M --config",
    "setvcpus @vm 2 --config --maximum",
];

/// And what takes more than one command.
#[derive(Debug, Clone, Copy)]
enum Hand {
    Virsh(&'static str),
    /// `virsh edit`: one of [`ADDITIONS`].
    Add(usize),
    KillQemu,
    RemoveSeedFile,
    /// The guest writes something worth keeping.
    WriteData,
    /// The configuration is edited.
    Configure(usize),
}

/// Before which element of a definition, and what shows it.
const ADDITIONS: &[(&str, &str, &str)] = &[
    (
        "</devices>",
        "<sound model='ich9'/>",
        "<sound model='ich9'>",
    ),
    (
        "</devices>",
        "<input type='tablet' bus='usb'/>",
        "<input type='tablet' bus='usb'>",
    ),
    (
        "</devices>",
        "<channel type='unix'><target type='virtio' name='org.example.backup.0'/></channel>",
        "org.example.backup.0",
    ),
    (
        "<os>",
        "<cputune><shares>2048</shares></cputune>",
        "<shares>2048</shares>",
    ),
    ("<metadata>", "<title>ours</title>", "<title>ours</title>"),
    (
        "</devices>",
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='@home/more'/>\
         <target dev='vdq' bus='virtio'/></disk>",
        "@home/more",
    ),
];

const CONFIGURATIONS: &[&str] = &[
    "memory = 300",
    "vcpus = 2",
    "admin_user_password = 'another battery staple'",
    "haproxy.max_connections = 77",
    "volume.size = '80 MiB'",
    "memory = 256\nvcpus = 1",
];

const NOW: &str = "up --restart now --stop-timeout=1s";
const DELETE: &str = "down --yes --stop-timeout=1s --delete-volume";

/// What is typed of lbctl, the frequent ones more than once. The help of `check --host` is that of
/// `plan`.
const LBCTL: &[&str] = &[
    "up",
    "up",
    "up --reuse-disk",
    "up --restart later",
    NOW,
    NOW,
    "plan",
    "plan --exit-code",
    "status",
    "check --host",
    "renew --check",
    "renew --force",
    "down --yes --stop-timeout=1s",
    DELETE,
];

const DATA: &str = "read -P 0x5a 40M 512";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Domain {
    Absent,
    Running,
    Saved,
    /// Off, paused, suspended.
    Idle,
}

/// Everything that a command may change, and what it must not.
struct Look {
    /// Networks, domains, and the files of the pool, by their bytes.
    all: Snapshot,
    beside: String,
    /// Files that the operator made: overlays, and what belongs to another domain.
    files: BTreeSet<String>,
    snapshots: BTreeSet<String>,
    domain: Domain,
    additions: BTreeSet<usize>,
    /// The domain has a disk that it took over.
    taken_over: bool,
    others: Vec<String>,
}

struct Walk {
    vm: Sandbox,
    dice: Dice,
    /// Whether the disk holds [`DATA`].
    data: bool,
    number: usize,
}

impl Walk {
    fn new() -> Self {
        let vm = Sandbox::new();
        vm.keep_pool("@pool");
        fs::write(vm.home.path().join("more"), vec![7; 1 << 20]).unwrap();
        vm.virsh("vol-create-as @pool @other-disk 1M; vol-create-as @pool @vm-data 1M")
            .ok();
        vm.write(
            "other.xml",
            &vm.fill(
                "<domain type='qemu'><name>@other</name><memory unit='MiB'>64</memory>
                 <os><type arch='x86_64' machine='q35'>hvm</type></os>
                 <devices><disk type='file'><source file='@dir/@other-disk'/><target dev='vda'/></disk>
                 <interface type='network'><source network='@net'/><mac address='@mac2'/></interface></devices></domain>",
            ),
        );
        vm.virsh("define @home/other.xml").ok();
        vm.virsh("net-update @net add ip-dhcp-host \"<host mac='@mac2' name='@other' ip='@ip2'/>\" --live --config")
            .ok();
        Self {
            vm,
            dice: Dice::repeated("a walk", 1_795_730_839),
            data: false,
            number: 0,
        }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.dice.below(of.len() as u64)).unwrap()]
    }

    fn out(&self, command: &str) -> String {
        self.vm.virsh(command).stdout
    }

    fn disk(&self) -> String {
        self.vm.fill("@dir/@vm")
    }

    fn look(&self) -> Look {
        let info = self.out("dominfo @vm");
        let fact = |line: &&str| !line.starts_with("CPU time") && !line.starts_with("Id:");
        let lines: Vec<&str> = info.lines().filter(fact).collect();
        let listed = self.out("snapshot-list @vm --name");
        let beside = format!(
            "{}\n{listed}\n{}\n{}",
            lines.join("\n"),
            self.out("checkpoint-list @vm --name"),
            self.out("pool-info @pool")
                .lines()
                .nth(2)
                .unwrap_or_default(),
        );
        let xml = self.out("dumpxml @vm --inactive");
        let additions = (0..ADDITIONS.len())
            .filter(|n| xml.contains(&self.vm.fill(ADDITIONS[*n].2)))
            .collect();
        let own = |name: &String| {
            ["@vm", "@seed", "@seed2", "@seed3"]
                .iter()
                .any(|own| self.vm.fill(own) == *name)
        };
        let mut files: BTreeSet<String> = self.vm.volumes().into_iter().collect();
        files.retain(|name| !own(name));
        if self.vm.home.path().join("copy.qcow2").exists() {
            files.insert("the copy".into());
        }
        Look {
            all: self.vm.snapshot(),
            beside,
            files,
            snapshots: listed.split_whitespace().map(str::to_owned).collect(),
            domain: match info.lines().find(|l| l.starts_with("State:")) {
                None => Domain::Absent,
                Some(state) if state.ends_with("running") => Domain::Running,
                Some(_) if self.is_saved() => Domain::Saved,
                Some(_) => Domain::Idle,
            },
            additions,
            taken_over: xml.contains("cloned=\"no\"") || xml.contains("cloned='no'"),
            others: self.others(),
        }
    }

    fn is_saved(&self) -> bool {
        self.out("list --all --with-managed-save --name")
            .lines()
            .any(|name| name == self.vm.name)
    }

    /// What belongs to others, byte for byte.
    fn others(&self) -> Vec<String> {
        let vm = &self.vm;
        let mut all = vec![self.out("dumpxml @other --inactive")];
        for name in ["@dir/@other-disk", "@dir/@vm-data", "@home/more"] {
            let bytes = fs::read(vm.fill(name)).unwrap();
            all.push(format!("{name}: {}", String::from_utf8_lossy(&bytes)));
        }
        let network = self.out("net-dumpxml @net --inactive");
        let ours = vm.fill("ip='@ip'");
        let lines = network.lines().filter(|line| !line.contains(&ours));
        all.extend(lines.map(str::to_owned));
        all
    }

    /// The operator's turn.
    fn by_hand(&mut self) {
        let what = match self.dice.below(12) {
            0 | 1 => Hand::Add(self.pick(&[0, 1, 2, 3, 4, 5])),
            2 => Hand::KillQemu,
            3 => Hand::RemoveSeedFile,
            4 => Hand::WriteData,
            5 | 6 => Hand::Configure(self.pick(&[0, 1, 2, 3, 4, 5])),
            _ => Hand::Virsh(self.pick(BY_HAND)),
        };
        match what {
            Hand::Virsh(command) => {
                let number = (self.dice.below(3) + 1).to_string();
                let command = command.replace("@n ", &format!("{number} "));
                let command = match command.strip_suffix("@n") {
                    Some(start) => format!("{start}{number}"),
                    None => command,
                };
                self.virsh(&command);
            }
            Hand::Add(which) => self.add(which),
            Hand::KillQemu => self.kill(),
            Hand::RemoveSeedFile => {
                let gone = fs::remove_file(self.vm.fill("@dir/@seed")).is_ok();
                eprintln!("{}: the seed's file is removed: {gone}", self.number);
            }
            Hand::WriteData => self.write_data(),
            Hand::Configure(which) => {
                eprintln!("{}: {}", self.number, CONFIGURATIONS[which]);
                self.vm.change(CONFIGURATIONS[which]);
            }
        }
    }

    fn virsh(&self, command: &str) -> Ran {
        let ran = self.vm.virsh(command);
        let said = ran.stderr.lines().next().unwrap_or_default();
        eprintln!("{}: virsh {command}: {} {said}", self.number, ran.code);
        ran
    }

    fn add(&self, which: usize) {
        let (before, addition, seen) = ADDITIONS[which];
        let (addition, seen) = (self.vm.fill(addition), self.vm.fill(seen));
        let xml = self.out("dumpxml @vm --inactive --security-info");
        if xml.contains(&seen) {
            return;
        }
        self.vm.write(
            "edited.xml",
            &xml.replacen(before, &format!("{addition}{before}"), 1),
        );
        eprintln!("{}: {addition}", self.number);
        self.virsh("define @home/edited.xml");
    }

    fn kill(&self) {
        let file = format!(
            "{}/libvirt/run/libvirt/qemu/{}.pid",
            self.vm.lab["LAB_STATE"], self.vm.name
        );
        let Ok(pid) = fs::read_to_string(file) else {
            return;
        };
        eprintln!("{}: kill -9 QEMU", self.number);
        run("kill", ["-9", pid.trim()]);
        let ended = || {
            let state = self.out("domstate @vm");
            !state.contains("running") && !state.contains("paused")
        };
        within(10, "the end of QEMU", ended);
    }

    /// Only while nobody else has the disk, and nothing is on top of it.
    fn write_data(&mut self) {
        let off = self.out("domstate @vm").trim() == "shut off";
        let xml = self.out("dumpxml @vm --inactive");
        let on_it = xml.contains(&format!("<source file='{}'/>", self.disk()));
        if off && on_it && !self.is_saved() && fs::exists(self.disk()).unwrap() {
            let write = ["-f", "qcow2", "-c", "write -P 0x5a 40M 512", &self.disk()];
            run("qemu-io", write.map(str::to_owned)).ok();
            eprintln!("{}: data is written", self.number);
            self.data = true;
        }
    }

    #[track_caller]
    fn data_is_there(&self, ran: &Ran) {
        let read = ["-U", "-r", "-f", "qcow2", "-c", DATA, &self.disk()];
        let read = run("qemu-io", read.map(str::to_owned));
        assert!(
            read.code == 0 && !read.stdout.contains("Pattern verification failed"),
            "the data is gone: {read}, after {ran}"
        );
    }

    /// lbctl's turn.
    #[track_caller]
    fn lbctl(&mut self, command: &str) -> Ran {
        let before = self.look();
        let ran = self.vm.lbctl(command);
        let after = self.look();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let first = ran.stderr.lines().next().unwrap_or_default();
        eprintln!("{}: lbctl {command}: {} {first}", self.number, ran.code);

        // The sentences.
        for never in [
            "another lbctl",
            "somebody else",
            "as a fault of lbctl",
            "panicked",
        ] {
            assert!(!said.contains(never), "{ran}");
        }
        assert!([0, 1, 3, 4].contains(&ran.code), "{ran}");
        let looks = ["plan", "status", "check", "renew --check"];
        let only_looks = looks.iter().any(|only| command.starts_with(only));
        let same = ["nothing was changed", "nothing to do", "unchanged"];
        if only_looks
            || ran.code == 4 && !said.contains("before it") && !said.contains("remain")
            || same.iter().any(|text| said.contains(text))
        {
            before.all.assert_same(&after.all);
            assert_eq!(before.beside, after.beside, "{ran}");
        }
        if ran.code != 0 && !command.starts_with("status") && !command.contains("--exit-code") {
            assert!(said.contains("help: "), "{ran}");
        }
        // What others made.
        assert_eq!(before.others, after.others, "{ran}");
        let lost: Vec<_> = before.files.difference(&after.files).collect();
        assert!(lost.is_empty(), "{lost:?} is gone: {ran}");
        let removed = command.starts_with("down") && ran.code == 0;
        if !removed {
            let lost: Vec<_> = before.snapshots.difference(&after.snapshots).collect();
            assert!(lost.is_empty(), "snapshots {lost:?} are gone: {ran}");
            let lost: Vec<_> = before.additions.difference(&after.additions).collect();
            assert!(lost.is_empty(), "additions {lost:?} are gone: {ran}");
            let absent = |look: &Look| look.domain == Domain::Absent;
            assert!(
                !absent(&after) || absent(&before),
                "the domain is gone: {ran}"
            );
            let resumed = after.domain == Domain::Running && command.starts_with("up");
            let kept = after.domain == Domain::Saved || resumed;
            assert!(
                before.domain != Domain::Saved || kept,
                "its memory is gone: {ran}"
            );
        }
        // The data.
        let deletes = removed && command == DELETE && !before.taken_over;
        if deletes && !fs::exists(self.disk()).unwrap() {
            self.data = false;
        }
        if self.data {
            self.data_is_there(&ran);
        }
        // What is promised.
        if removed {
            assert_eq!(after.domain, Domain::Absent, "{ran}");
            for seed in ["@seed", "@seed2", "@seed3"] {
                let path = self.vm.fill(&format!("@dir/{seed}"));
                assert!(!fs::exists(&path).unwrap(), "{path} remains: {ran}");
            }
        }
        if command.starts_with("up") && ran.code == 0 && !said.contains("later") {
            let pending = said.contains("saved for the next start") || said.contains("pending");
            if !pending {
                assert_eq!(after.domain, Domain::Running, "{ran}");
                self.vm.lbctl("plan --exit-code").ok();
            }
        }
        ran
    }

    /// Follows the help, as an operator does who wants it to run, until it does.
    fn recover(&mut self) {
        let mut tried: Vec<String> = Vec::new();
        let mut up = NOW.to_owned();
        for _ in 0..12 {
            let ran = self.lbctl(&up);
            if ran.code == 0 {
                self.vm.lbctl("plan --exit-code").ok();
                return;
            }
            if ran.stderr.contains("holds snapshots") && !ran.stderr.contains("NAME") {
                self.vm.leave_out_of("volume", "size");
                continue;
            }
            // Only its owner can say that a disk of which nothing is known may go.
            if ran.stderr.contains("and it is not a clone of") {
                self.virsh("vol-delete @vm --pool @pool");
                self.data = false;
                continue;
            }
            let Some(cure) = self.cure(&ran, &tried) else {
                panic!("no help leads out of it, after {tried:?}: {ran}");
            };
            match cure.strip_prefix("virsh ") {
                Some(command) => drop(self.virsh(command)),
                None => up = format!("{NOW} --reuse-disk"),
            }
            tried.push(cure);
        }
        panic!("the help leads nowhere: {tried:?}");
    }

    /// The first command of the help that can be typed as it is and deletes no data.
    fn cure(&self, ran: &Ran, tried: &[String]) -> Option<String> {
        let words = ran.stderr.split('`').skip(1).step_by(2);
        let mut cures = words.filter_map(|quoted| {
            let name = quoted.contains("NAME").then(|| {
                let list = self.out("snapshot-list @vm --name");
                list.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            });
            let command = quoted.replace("NAME", &name.unwrap_or_default());
            let is_virsh = command.starts_with("virsh ") && command.split(' ').count() > 2;
            let deletes = [
                "vol-delete",
                "undefine",
                "destroy",
                "list",
                "edit",
                "domblkerror",
            ];
            let harmless = is_virsh && !deletes.iter().any(|word| command.contains(word));
            (harmless || command == "lbctl up --reuse-disk").then_some(command)
        });
        cures.find(|cure| tried.iter().filter(|t| *t == cure).count() < 3)
    }
}

#[test]
fn nothing_is_lost_whatever_an_operator_does_in_between() {
    let steps = count("WALK", 10, 200);
    let mut walk = Walk::new();
    let bare = walk.others();
    walk.lbctl("up");
    let mut refused = 0;
    let mut ran = 0;
    for number in 1..=steps {
        walk.number = number;
        for _ in 0..=walk.dice.below(2) {
            walk.by_hand();
        }
        let command = walk.pick(LBCTL);
        refused += usize::from(walk.lbctl(command).code != 0);
        ran += 1;
        if number % 10 == 0 {
            walk.recover();
        }
    }
    walk.recover();
    assert_eq!(walk.others(), bare);
    tell(format_args!(
        "an operator between lbctl's commands | {ran} commands, {refused} of them refused or failed with their reason | nothing lost, nothing of others touched; {} ways back by the help's own commands",
        steps / 10 + 1
    ));
}

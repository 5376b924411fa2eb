//! The promise, on a real guest with a real Patroni: psql through the load balancer works when
//! `lbctl up --wait` returns. A guest takes minutes to boot here, so there are three, and each has
//! one long test.

mod adopted;
mod cards;
mod container;
mod former;
mod hostile;
mod inside;
mod listed;
mod live;
mod modes;
mod pair;
mod promise;
mod readme;
mod sessions;

use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};

use self::listed::Asks;
use crate::support::{Lab, Ran, run_for};

/// Seconds that a guest may take until it is ready. Emulated, beside another one, on two cores:
/// minutes.
const BOOT: u64 = 1200;

struct Guest {
    lab: Lab,
    name: &'static str,
    ip: String,
    client: String,
    kind: Kind,
    directory: tempfile::TempDir,
    begun: Instant,
    /// Keys with another value than in the text below, or that are not in it at all.
    changed: RefCell<Vec<(&'static str, String)>>,
}

/// What a guest is made from, and what runs in it.
#[derive(Clone)]
struct Kind {
    /// The base image's key in the lab's facts.
    base: &'static str,
    install: bool,
    runtime: &'static str,
    asks: Asks,
    /// Whole tables of the configuration.
    tables: String,
}

impl Kind {
    /// The image has everything.
    fn package() -> Self {
        Self {
            base: "BASE_VOLUME",
            install: false,
            runtime: "package",
            asks: Asks::OneName,
            tables: String::new(),
        }
    }
}

impl Guest {
    /// A guest of that name, with the table of its network interface. What an earlier run left
    /// behind is removed first.
    fn new(name: &'static str, ip: String, kind: Kind, interface: &str) -> Self {
        Self::with_files(name, ip, kind, interface, &[])
    }

    /// With files beside the configuration, which names them.
    fn with_files(
        name: &'static str,
        ip: String,
        kind: Kind,
        interface: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let lab = Lab::full();
        let client = lab["CLIENT_NETNS"].clone();
        let guest = Self {
            lab,
            name,
            ip,
            client,
            kind,
            directory: tempfile::tempdir().unwrap(),
            begun: Instant::now(),
            changed: RefCell::default(),
        };
        for (name, text) in files {
            fs::write(guest.directory.path().join(name), text).unwrap();
        }
        guest.configure(interface, "");
        guest
            .lbctl(
                300,
                &["down", "--yes", "--delete-volume", "--stop-timeout=1s"],
            )
            .ok();
        guest
    }

    fn configure(&self, interface: &str, haproxy: &str) {
        let Self {
            lab, name, kind, ..
        } = self;
        let (nodes, client) = kind.asks.lines(lab);
        let text = format!(
            r#"name = "{name}"
vcpus = 1
memory = 768
cloud_init_volume_pool = "{pool}"
ssh_admin_user = "{user}"
admin_user_password = "it's \"a\" secret: #1"
install_dependencies = {install}
[libvirt]
uri = "{uri}"
domain_type = "qemu"
[volume]
name = "{name}"
pool = "{pool}"
size = "4 GiB"
base_volume_pool = "{base_pool}"
base_volume_name = "{base}"
{interface}
[haproxy]
runtime = "{runtime}"
hold = "1m"
{nodes}
{haproxy}
[haproxy.check] # an emulated guest takes longer for a TLS handshake than a second allows
interval = "1s"
fast = "1s"
down = "1s"
[haproxy.timeouts]
check = "10s"
{client}
{tables}
"#,
            install = kind.install,
            runtime = kind.runtime,
            tables = kind.tables,
            pool = lab["POOL"],
            user = lab["IMAGE_USER"],
            uri = lab["LIBVIRT_URI"],
            base_pool = lab["BASE_POOL"],
            base = lab[kind.base],
        );
        let changed = self.changed.borrow();
        let text = changed.iter().fold(text, |text, (key, value)| {
            let line = format!("{key} = {value}");
            let own = |l: &&str| l.starts_with(&format!("{key} = "));
            match text.lines().find(own) {
                Some(old) => text.replace(old, &line),
                None => format!("{line}\n{text}"),
            }
        });
        fs::write(self.directory.path().join("lbctl.toml"), text).unwrap();
    }

    /// From the next `configure` on, until it is unset.
    fn set(&self, key: &'static str, value: impl Into<String>) {
        self.unset(key);
        self.changed.borrow_mut().push((key, value.into()));
    }

    fn unset(&self, key: &str) {
        self.changed.borrow_mut().retain(|(k, _)| *k != key);
    }

    fn lbctl(&self, seconds: u64, arguments: &[&str]) -> Ran {
        let config = self.directory.path().join("lbctl.toml");
        let config = config.to_str().unwrap();
        let words = [&["-c", config], arguments].concat();
        let began = Instant::now();
        let ran = run_for(seconds, env!("CARGO_BIN_EXE_lbctl"), words);
        self.notes(&format!("lbctl {}", arguments.join(" ")), began);
        ran
    }

    /// `lbctl status` where all is well. The Patroni of a busy machine may say for a moment that
    /// its PostgreSQL does not run.
    fn status_when_ready(&self, more: &[&str]) -> Ran {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let ran = self.lbctl(60, &[&["status"], more].concat());
            if ran.code == 0 || Instant::now() > end {
                return ran.ok();
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Where the time goes: a guest's test takes minutes, and each of its parts is printed with its
    /// end and what it took, in seconds.
    fn notes(&self, what: &str, began: Instant) {
        let (at, took) = (self.begun.elapsed(), began.elapsed());
        println!("{:4} {:4}  {what}", at.as_secs(), took.as_secs());
    }

    /// `check --host`, from the host's place in the network: DNS and a real Patroni's REST API say
    /// what they should.
    fn assert_the_cluster_is_seen_from_the_host(&self) {
        let config = self.directory.path().join("lbctl.toml");
        let arguments = [
            "netns",
            "exec",
            &self.lab["LAB_NETNS"],
            env!("CARGO_BIN_EXE_lbctl"),
            "-c",
            config.to_str().unwrap(),
            "check",
            "--host",
            "--json",
        ];
        let listed = run_for(60, "ip", arguments).ok().document();
        let findings = listed["findings"].as_array().unwrap();
        let of = |what: &str| -> Vec<(&str, &str)> {
            let text = |f: &'_ serde_json::Value| f["what"].as_str().unwrap().starts_with(what);
            let found = findings.iter().filter(|f| text(f));
            found
                .map(|f| (f["verdict"].as_str().unwrap(), f["said"].as_str().unwrap()))
                .collect()
        };
        assert!(
            of("DNS ").iter().all(|(verdict, _)| *verdict == "ok"),
            "{listed:#}"
        );
        assert_eq!(of("nodes' TLS").len(), usize::from(self.kind.asks.is_tls()));
        let nodes = of("node ");
        let primaries = nodes
            .iter()
            .filter(|(_, said)| said.starts_with("the primary;"));
        assert_eq!((nodes.len(), primaries.count()), (3, 1), "{listed:#}");
        let how = self.kind.asks.seen_from_the_host();
        assert!(
            nodes
                .iter()
                .all(|(verdict, said)| *verdict == "ok" && said.ends_with(how)),
            "{listed:#}"
        );
    }

    fn dsn(&self) -> String {
        let Self { lab, ip, .. } = self;
        format!(
            "host={ip} user={} password={} dbname=postgres connect_timeout=5",
            lab["PG_SUPERUSER"], lab["PG_PASSWORD"]
        )
    }

    /// What one query through the load balancer's port 5432 says: `in recovery|server's address`.
    fn query(&self) -> Ran {
        let Self { lab, client, .. } = self;
        let dsn = self.dsn();
        let sql = "select pg_is_in_recovery(), host(inet_server_addr())";
        run_for(
            20,
            "ip",
            ["netns", "exec", client, &lab["PSQL"], &dsn, "-Atc", sql],
        )
    }

    fn primary(&self) -> String {
        let list = run_for(30, &self.lab["PATRONICTL"], ["list", "-f", "json"])
            .ok()
            .json();
        let leader = list
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["Role"] == "Leader")
            .expect("a leader");
        leader["Host"].as_str().unwrap().to_owned()
    }

    /// New sessions reach the primary, at the latest after some seconds.
    fn reaches_the_primary(&self) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let ran = self.query();
            let expected = format!("f|{}", self.primary());
            if ran.stdout.trim() == expected {
                return;
            }
            assert!(Instant::now() < end, "`{expected}` was expected of {ran}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn domain_xml(&self) -> String {
        let virsh = [
            "-q",
            "-c",
            &self.lab["LIBVIRT_URI"],
            "dumpxml",
            "--inactive",
            self.name,
        ];
        run_for(30, "virsh", virsh).ok().stdout
    }

    fn goes_away(&self) {
        self.lbctl(300, &["down", "--yes", "--delete-volume"])
            .ok()
            .says(&["removed"]);
        self.is_gone();
    }

    fn is_gone(&self) {
        let virsh = |command: &[&str]| {
            run_for(
                30,
                "virsh",
                [&["-q", "-c", self.lab["LIBVIRT_URI"].as_str()], command].concat(),
            )
            .ok()
            .stdout
        };
        assert!(
            !virsh(&["list", "--all", "--name"])
                .lines()
                .any(|l| l.trim() == self.name)
        );
        assert!(!virsh(&["vol-list", &self.lab["POOL"]]).contains(self.name));
        assert!(!virsh(&["net-dumpxml", &self.lab["NETWORK_NAME"]]).contains(self.name));
    }
}

/// Tries again for a while: the other test moves the primary of the cluster that both guests serve,
/// and for some seconds there is none.
fn across_a_switchover(what: impl Fn() -> Ran) -> Ran {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let ran = what();
        if ran.code == 0 || Instant::now() >= end {
            return ran.ok();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn is_soak() -> bool {
    std::env::var_os("LBCTL_SOAK").is_some()
}

/// A newer Debian than that of the other guests: 13, and in a soak the unstable one.
fn newer_debian() -> Kind {
    Kind {
        base: ["BASE_VOLUME_TRIXIE", "BASE_VOLUME_SID"][usize::from(is_soak())],
        ..Kind::package()
    }
}

#[test]
fn on_a_libvirt_network() {
    let lab = Lab::full();
    let ip = lab["NETWORK_GUEST_IP"].clone();
    let interface = format!(
        "[libvirt_network]\nnetwork_name = \"{}\"\nip = \"{ip}\"",
        lab["NETWORK_NAME"]
    );
    let kind = Kind {
        tables: inside::chrony(&lab),
        ..Kind::package()
    };
    let guest = Guest::new("guest-network", ip, kind, &interface);

    // Up, and what was promised holds the moment it returns.
    guest.begins_as_the_readme_says();
    let peace = guest.peace();
    let first = guest.query().ok();
    assert_eq!(first.stdout.trim(), format!("f|{}", guest.primary()));
    guest.rest_api("/primary").ok().says(&["\"role\""]);
    guest.shows_metrics();
    guest.runs_in_sandboxes();
    guest.survives_a_haproxy_that_hangs();
    guest.reaches_the_primary();
    guest.keeps_time_and_logs("_SYSTEMD_UNIT=haproxy.service");

    // Again, and nothing happens.
    let before = guest.domain_xml();
    guest
        .lbctl(120, &["up", "--wait"])
        .ok()
        .says(&["up to date"]);
    guest
        .lbctl(60, &["plan", "--exit-code"])
        .ok()
        .says(&["nothing to do"]);
    assert_eq!(guest.domain_xml(), before);
    guest.assert_the_cluster_is_seen_from_the_host();
    let status = guest.status_when_ready(&["--json"]).document();
    assert_eq!(status["ready"], true);
    assert_eq!(status["cloud_init"]["status"], "done");
    assert_eq!(status["domain"]["state"], "running");
    assert_eq!(status["drift"], serde_json::json!([]));
    let servers = status["haproxy"]["servers"].as_array().unwrap();
    assert_eq!(
        servers
            .iter()
            .filter(|s| s["state"].as_str().unwrap().starts_with("UP"))
            .count(),
        1,
        "{servers:?}"
    );
    drop(peace);

    guest.keeps_the_promise(&["strangers", "switchovers"]);
    live::story(&guest, &interface);
    guest.goes_away();
}

#[test]
fn on_macvtap() {
    let lab = Lab::full();
    let ip = lab["MACVTAP_GUEST_IP"].clone();
    let interfaces = cards::tables(&lab);
    let kind = Kind {
        asks: [Asks::OneName, Asks::Plain][usize::from(is_soak())],
        ..newer_debian()
    };
    let mut guest = Guest::new("guest-macvtap", ip, kind, &interfaces);
    guest.client.clone_from(&lab["MACVTAP_CLIENT_NETNS"]);
    guest.set("hold", "\"1m\"\naddress = \"::\"");
    guest.configure(&interfaces, "");
    guest
        .lbctl(BOOT, &["up", &format!("--wait={}", BOOT - 60)])
        .ok()
        .says(&["ready", "psql"]);
    guest.reaches_the_primary();
    guest.has_started_early();
    guest.lbctl(60, &["up"]).ok().says(&["up to date"]);
    guest.runs_in_sandboxes();
    guest.starts_the_hosts_renewal();
    cards::are_as_configured(&guest);
    if is_soak() {
        listed::story(&mut guest, &interfaces);
        guest.keeps_the_promise(&["strangers", "switchovers", "restart", "killed"]);
    }
    hostile::story(&guest, &interfaces);
    guest.goes_away();
}

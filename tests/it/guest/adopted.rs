//! A guest that was there before lbctl is taken over: HAProxy with the Terraform module's
//! configuration, of Debian's package or in the module's container, on a disk, with a seed and in a
//! domain as the module makes them. While twenty sessions go through it, and somebody connects all
//! the time. `./dev soak` runs it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::container::{outside, registry};
use super::inside::chrony;
use super::sessions::Sessions;
use super::{BOOT, Guest, Kind};
use crate::support::{Lab, Ran, run, run_for};

const MAC: &str = "52:54:00:77:18:01";

/// The module's, for the nodes of the lab, but for its `inter` of a second: within that a check
/// must be connected, which takes an emulated guest longer.
const HAPROXY: &str = "global
  log @log local0 info
defaults
  mode tcp
  log global
  timeout connect 15s
  timeout check 15s
  timeout client 1h
  timeout server 1h
resolvers internal_dns
  nameserver dns @dns:53
  resolve_retries 3
  timeout retry 1s
  hold other 5s
  hold valid 5s
backend postgres_servers
  mode tcp
  balance roundrobin
  option httpchk
  http-check connect port 4443 ssl
  http-check send meth OPTIONS uri /master
  http-check expect status 200
  default-server inter 20s fastinter 5s rise 1 fall 1
  server-template postgres_nodes 3 @domain:5432 check check-ssl verify required ca-file /opt/patroni/ca.pem crt /opt/patroni/client.pem resolvers internal_dns init-addr none
frontend postgres
  mode tcp
  bind *:5432
  default_backend postgres_servers
";

const DOMAIN: &str = r#"<domain type="qemu"><name>@name</name><memory unit="MiB">768</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><features><pae/><acpi/><apic/></features><cpu mode="maximum"/>
<devices>
  <disk type="volume" device="disk"><driver name="qemu" type="qcow2"/><source pool="@pool" volume="@name"/>
    <target dev="vda" bus="virtio"/></disk>
  <disk type="volume" device="cdrom"><driver name="qemu" type="raw"/><source pool="@pool" volume="@name-cloud-init.iso"/>
    <target dev="hdd" bus="ide"/><serial>cloudinit</serial></disk>
  <interface type="network"><mac address="@mac"/><source network="@net"/><model type="virtio"/></interface>
  <console><target type="serial" port="0"/></console><console><target type="virtio" port="1"/></console>
  <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
  <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
</devices></domain>"#;

/// Seconds in which connects fail while one container takes the place of another.
const GAP: f64 = 1.0;

/// Who connects all the time.
struct Connects(Child);

impl Connects {
    fn begin(guest: &Guest) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/connects.py");
        let words = [
            "netns",
            "exec",
            &guest.client,
            "/usr/bin/python3",
            "-B",
            script,
        ];
        let mut command = Command::new("ip");
        command.args(words).args([guest.ip.as_str(), "5432"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(child.spawn().unwrap())
    }

    fn end(mut self) -> Value {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// What HAProxy was in.
#[derive(Clone, Copy, PartialEq)]
enum Old {
    Package,
    /// With all else of the module's: a node exporter, and a chrony.conf that reads no other file.
    Container,
}

impl Old {
    /// What lbctl makes of it.
    fn kind(self, lab: &Lab) -> Kind {
        match self {
            Self::Package => Kind::package(),
            Self::Container => Kind {
                runtime: "container",
                tables: registry(lab) + &chrony(lab),
                ..Kind::package()
            },
        }
    }
}

/// The guest as it was, and lbctl's configuration of it, which `lbctl import` would write.
struct Before {
    guest: Guest,
    key: String,
}

impl Before {
    fn new(name: &'static str, old: Old) -> Self {
        let lab = Lab::full();
        if old == Old::Container {
            outside(&lab, "start");
        }
        let ip = lab["NETWORK_GUEST_IP_2"].clone();
        clear(&lab, name);
        let interface = format!(
            "[libvirt_network]\nnetwork_name = \"{}\"\nip = \"{ip}\"\nmac = \"{MAC}\"",
            lab["NETWORK_NAME"]
        );
        let guest = Guest::new(name, ip, old.kind(&lab), &interface);
        let key = guest.directory.path().join("key").display().to_string();
        run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &key]).ok();
        let before = Self { guest, key };
        before.make(old);
        before
    }

    fn make(&self, old: Old) {
        let Guest {
            lab,
            name,
            ip,
            directory,
            ..
        } = &self.guest;
        let home = directory.path();
        let (pool, net) = (&lab["POOL"], &lab["NETWORK_NAME"]);
        write_seed(
            home,
            lab,
            &fs::read_to_string(format!("{}.pub", self.key)).unwrap(),
            old,
        );
        let seed = home.join("seed.iso").display().to_string();
        let size = fs::metadata(&seed).unwrap().len().to_string();
        let words = [
            ("@name", *name),
            ("@pool", pool),
            ("@net", net),
            ("@mac", MAC),
        ];
        let put = |text: String, (word, value): (&str, &str)| text.replace(word, value);
        let domain = words.into_iter().fold(DOMAIN.to_owned(), put);
        fs::write(home.join("domain.xml"), domain).unwrap();
        let entry = format!("<host mac='{MAC}' name='{name}' ip='{ip}'/>");
        let volume = format!("{name}-cloud-init.iso");
        let base = virsh(
            lab,
            &["vol-path", "--pool", &lab["BASE_POOL"], &lab["BASE_VOLUME"]],
        );
        let base = base.ok().stdout;
        let xml = home.join("domain.xml").display().to_string();
        for command in [
            &[
                "vol-create-as",
                pool,
                name,
                "4G",
                "--format",
                "qcow2",
                "--backing-vol",
                base.trim(),
                "--backing-vol-format",
                "qcow2",
            ][..],
            &["vol-create-as", pool, &volume, &size, "--format", "raw"],
            &["vol-upload", "--pool", pool, &volume, &seed],
            &[
                "net-update",
                net,
                "add",
                "ip-dhcp-host",
                &entry,
                "--live",
                "--config",
            ],
            &["define", &xml],
            &["start", name],
        ] {
            virsh(lab, command).ok();
        }
        let end = Instant::now() + Duration::from_secs(BOOT);
        while self.guest.query().code != 0 {
            assert!(Instant::now() < end, "the old load balancer does not serve");
            sleep(Duration::from_secs(2));
        }
        self.guest
            .notes("the old load balancer serves", self.guest.begun);
    }

    /// The line of docs/terraform.md that brings an agent, which this image has.
    fn gets_its_agent(&self) {
        let Guest {
            lab, ip, client, ..
        } = &self.guest;
        let login = format!("{}@{ip}", lab["IMAGE_USER"]);
        let words = [
            "netns",
            "exec",
            client,
            "ssh",
            "-i",
            &self.key,
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            &login,
            "sudo systemctl start qemu-guest-agent",
        ];
        run_for(120, "ip", words).ok();
    }

    fn adopt(&self, more: &[&str]) -> Ran {
        let save = self.guest.directory.path().join("old.xml");
        let arguments = [&["adopt", "--yes", "--save", save.to_str().unwrap()], more].concat();
        self.guest.lbctl(BOOT, &arguments)
    }

    fn goes_away(self) {
        let guest = &self.guest;
        guest
            .lbctl(60, &["down", "--yes", "--delete-volume"])
            .ended(4);
        guest
            .lbctl(300, &["down", "--yes", "--stop-timeout=1s"])
            .ok();
        for kept in [
            guest.name.to_owned(),
            format!("{}-cloud-init.iso", guest.name),
        ] {
            virsh(
                &guest.lab,
                &["vol-info", "--pool", &guest.lab["POOL"], &kept],
            )
            .ok();
        }
        clear(&guest.lab, guest.name);
    }
}

fn virsh(lab: &Lab, command: &[&str]) -> Ran {
    let words = ["-q", "-c", lab["LIBVIRT_URI"].as_str()];
    run("virsh", [&words[..], command].concat())
}

/// What an earlier run has left, and this one leaves.
fn clear(lab: &Lab, name: &str) {
    let entry = format!("<host mac='{MAC}'/>");
    let (pool, seed) = (&lab["POOL"], format!("{name}-cloud-init.iso"));
    for command in [
        &["destroy", name][..],
        &["undefine", name],
        &["vol-delete", "--pool", pool, name],
        &["vol-delete", "--pool", pool, &seed],
        &[
            "net-update",
            &lab["NETWORK_NAME"],
            "delete",
            "ip-dhcp-host",
            &entry,
            "--live",
            "--config",
        ],
    ] {
        virsh(lab, command);
    }
}

/// No agent answers, as in a guest that has none.
fn write_seed(home: &Path, lab: &Lab, key: &str, old: Old) {
    let user = json!({
        "name": lab["IMAGE_USER"], "ssh_authorized_keys": [key.trim()],
        "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash",
    });
    let (packages, begins) = match old {
        Old::Package => (json!([]), package_begins()),
        Old::Container => (json!(["docker.io", "apparmor"]), container_begins(lab)),
    };
    let mut commands = vec![json!("systemctl stop qemu-guest-agent")];
    commands.extend(begins);
    let data = json!({
        "users": ["default", user],
        "write_files": files(lab, old),
        "package_update": old == Old::Container,
        "packages": packages,
        "runcmd": commands,
    });
    fs::write(home.join("user-data"), format!("#cloud-config\n{data}\n")).unwrap();
    fs::write(home.join("meta-data"), "").unwrap();
    let path = |name: &str| home.join(name).display().to_string();
    let (image, user, meta) = (path("seed.iso"), path("user-data"), path("meta-data"));
    run(
        "genisoimage",
        [
            "-quiet", "-output", &image, "-volid", "cidata", "-joliet", "-rock", &user, &meta,
        ],
    )
    .ok();
}

fn files(lab: &Lab, old: Old) -> Vec<Value> {
    let read = |key: &str| fs::read_to_string(&lab[key]).unwrap();
    let haproxy = HAPROXY
        .replace("@dns", &lab["NETWORK_DNS"])
        .replace("@domain", &lab["POSTGRES_DOMAIN"]);
    let of_package = haproxy.replace("@log", "/dev/log");
    let pair = read("CLIENT_CERT") + &read("CLIENT_KEY");
    let mut files = vec![
        ("/opt/patroni/ca.pem".to_owned(), read("CA_CERT")),
        ("/opt/patroni/client.pem".to_owned(), pair),
    ];
    match old {
        Old::Package => files.extend([
            ("/opt/haproxy/haproxy.cfg".into(), of_package.clone()),
            ("/etc/haproxy/haproxy.cfg".into(), of_package),
        ]),
        Old::Container => {
            let registry = registry_host(lab);
            let login = format!("{}:{}", lab["REGISTRY_USER"], lab["REGISTRY_PASSWORD"]);
            let login = json!({"auths": {&registry: {"auth": BASE64.encode(login)}}});
            let time = format!(
                "server {} iburst\ndriftfile /var/lib/chrony/drift\n",
                lab["NTP_HOST"]
            );
            let ca = read("REGISTRY_CA");
            files.extend([
                (
                    "/opt/haproxy/haproxy.cfg".into(),
                    haproxy.replace("@log", "stdout"),
                ),
                ("/opt/docker/config.json".into(), login.to_string()),
                (format!("/etc/docker/certs.d/{registry}/ca.crt"), ca),
                ("/opt/chrony.conf".into(), time),
                (
                    "/etc/systemd/system/node-exporter.service".into(),
                    EXPORTER.into(),
                ),
            ]);
        }
    }
    let files = files.into_iter();
    files
        .map(|(path, content)| json!({"path": path, "content": content}))
        .collect()
}

/// Has the port of the module's.
const EXPORTER: &str = "[Service]\nExecStart=/usr/bin/python3 -m http.server 9100\n\
                        [Install]\nWantedBy=multi-user.target\n";

fn package_begins() -> Vec<Value> {
    vec![
        json!("systemctl enable --now haproxy"),
        json!("systemctl restart haproxy"),
    ]
}

fn registry_host(lab: &Lab) -> String {
    lab["REGISTRY_URL"].replace("https://", "")
}

/// Its HAProxy starts as root, as that of the module's image does.
fn container_begins(lab: &Lab) -> Vec<Value> {
    let image = format!("{}/haproxy:3.2", registry_host(lab));
    let container = format!(
        "docker run -d --restart=always --name=postgres_load_balancer --network=host --user 0 \
         -v /opt/haproxy:/usr/local/etc/haproxy:ro -v /opt/patroni:/opt/patroni:ro {image} \
         -W -db -f /usr/local/etc/haproxy/haproxy.cfg"
    );
    vec![
        json!(
            "cp /opt/chrony.conf /etc/chrony/chrony.conf && systemctl enable chrony && systemctl restart chrony"
        ),
        json!("systemctl daemon-reload && systemctl enable --now node-exporter"),
        json!(format!("docker --config /opt/docker pull --quiet {image}")),
        json!(container),
    ]
}

#[test]
#[ignore = "it boots a guest twice: ./dev soak"]
fn from_its_package_nobody_notices() {
    let before = Before::new("guest-adopted", Old::Package);
    let guest = &before.guest;
    let without = guest.lbctl(60, &["plan", "--adopt"]).ok();
    without.says(&["a restart", "--restart now"]);
    before.gets_its_agent();
    guest
        .lbctl(60, &["plan", "--adopt"])
        .ok()
        .does_not_say(&["--restart now"]);

    let mut sessions = Sessions::open(guest);
    let connects = Connects::begin(guest);
    before.adopt(&[]).ok();
    sleep(Duration::from_secs(3));
    sessions.none_was_cut("by the takeover");
    let seen = connects.end();
    println!("package, with an agent: 0 of 20 sessions cut, connections: {seen}");
    assert_eq!(seen["failed"], 0, "{seen}");
    drop(sessions);
    guest.reaches_the_primary();
    let status = guest.lbctl(60, &["status", "--json"]).document();
    assert_eq!(status["ready"], true, "{status:#}");
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    // The one of before has ended with its last session, and is not started again.
    sleep(Duration::from_secs(5));
    let masters = guest.inside("pgrep -P 1 -x haproxy | wc -l");
    assert_eq!(masters.trim(), "1");
    assert!(!guest.inside("ls /opt/patroni").contains("client.pem"));

    // What comes at its next start: the seed is lbctl's.
    for command in ["destroy", "start"] {
        virsh(&guest.lab, &[command, guest.name]).ok();
    }
    let wait = format!("--wait={}", BOOT - 60);
    guest.lbctl(BOOT, &["up", &wait]).ok();
    guest.reaches_the_primary();
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    before.goes_away();
}

#[test]
#[ignore = "it boots a guest twice: ./dev soak"]
fn from_its_container_no_session_is_cut() {
    let before = Before::new("guest-contained", Old::Container);
    let guest = &before.guest;
    before.gets_its_agent();
    let mut sessions = Sessions::open(guest);
    let connects = Connects::begin(guest);
    before.adopt(&[]).ok();
    sleep(Duration::from_secs(3));
    sessions.none_was_cut("by the takeover");
    let seen = connects.end();
    println!("container, with an agent: 0 of 20 sessions cut, connections: {seen}");
    assert!(seen["failing"].as_f64().unwrap() < GAP, "{seen}");
    drop(sessions);
    guest.reaches_the_primary();
    let status = guest.lbctl(60, &["status", "--json"]).document();
    assert_eq!(status["ready"], true, "{status:#}");
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    // The one of before has ended with its last session, and is not started again.
    guest.comes_to("docker ps --format '{{.Names}}'", |said| {
        said == "haproxy\n"
    });
    guest.shows_metrics();
    guest.keeps_time_and_logs("CONTAINER_NAME=haproxy");
    let secrets = "ls -d /opt/patroni/client.pem /opt/docker/config.json 2>/dev/null || true";
    assert_eq!(guest.inside(secrets), "");

    for command in ["destroy", "start"] {
        virsh(&guest.lab, &[command, guest.name]).ok();
    }
    let wait = format!("--wait={}", BOOT - 60);
    guest.lbctl(BOOT, &["up", &wait]).ok();
    guest.reaches_the_primary();
    assert_eq!(
        guest.inside("docker ps --all --format '{{.Names}}'"),
        "haproxy\n"
    );
    guest.shows_metrics();
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    before.goes_away();
}

#[test]
#[ignore = "it boots a guest twice: ./dev soak"]
fn without_an_agent_one_restart_takes_it_over() {
    let before = Before::new("guest-restarted", Old::Package);
    let guest = &before.guest;
    let connects = Connects::begin(guest);
    let wait = format!("--wait={}", BOOT - 60);
    before
        .adopt(&["--restart=now", &wait])
        .ok()
        .says(&["ready"]);
    guest.reaches_the_primary();
    let seen = connects.end();
    println!("without an agent: one restart, connections: {seen}");
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    before.goes_away();
}

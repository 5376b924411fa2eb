//! A place of its own for each test: a network, a pool and a configuration for one VM, all named
//! after a number that no other test has. They are removed when the test ends, also when it panics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use toml::{Table, Value};

use crate::support::{Lab, Ran, fill, lbctl, run};

/// What every test starts from. A word with `@` is replaced by something of the sandbox: see
/// [`Sandbox::fill`].
const CONFIG: &str = r#"
name = "@vm"
vcpus = 1
memory = 256
cloud_init_volume_pool = "@pool"
admin_user_password = "correct horse battery staple"
ssh_admin_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f admin@example.com"

[libvirt]
uri = "@uri"
domain_type = "qemu"

[volume]
name = "@vm"
pool = "@pool"
base_volume_pool = "@base_pool"
base_volume_name = "@base"

[libvirt_network]
network_name = "@net"
ip = "@ip"
mac = "@mac"

[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["10.77.0.2"]
postgres_domain = "server.postgres.lab"

[haproxy.patroni_client]
ca_key = { file = "ca.key" }
ca_certificate = { file = "ca.crt" }
certificate_validity_period = 8760
certificate_early_renewal_period = 720
"#;

pub struct Sandbox {
    pub lab: Lab,
    number: u8,
    /// Of the VM: `t7-lb`. Whatever else a test defines begins with `t7`, too.
    pub name: String,
    /// Where the pool keeps its files.
    pub pool_dir: PathBuf,
    /// The configuration, its CA and whatever else a test writes.
    pub home: TempDir,
    config: Table,
}

impl Sandbox {
    #[track_caller]
    pub fn new() -> Self {
        Self::in_lab(Lab::bare())
    }

    #[track_caller]
    pub fn in_lab(lab: Lab) -> Self {
        let number = claim(&lab);
        // Where a libvirtd in a root of its own sees it, too.
        let home = TempDir::new_in(&lab["LAB_STATE"]).unwrap();
        let (key, certificate) = ca();
        write_secret(&home.path().join("ca.key"), &key);
        fs::write(home.path().join("ca.crt"), certificate).unwrap();
        let pool_dir = Path::new(&lab["LAB_STATE"]).join(format!("pools/t{number}"));
        fs::create_dir(&pool_dir).unwrap();
        let name = format!("t{number}-lb");
        let mut sandbox = Self {
            lab,
            number,
            name,
            pool_dir,
            home,
            config: Table::new(),
        };
        sandbox.write(
            "net.xml",
            &sandbox.network_xml("@net", "@bridge", "@subnet"),
        );
        sandbox
            .virsh(
                "net-define @home/net.xml; net-start @net; pool-create-as @pool dir --target @dir",
            )
            .ok();
        sandbox.change(CONFIG);
        sandbox
    }

    /// A network with a DHCP server; `subnet` is the first three numbers of its addresses.
    pub fn network_xml(&self, name: &str, bridge: &str, subnet: &str) -> String {
        self.fill(&format!(
            "<network><name>{name}</name><forward mode='open'/><bridge name='{bridge}' stp='off' delay='0'/>\
             <ip address='{subnet}.1' prefix='24'><dhcp><range start='{subnet}.100' end='{subnet}.199'/></dhcp></ip></network>"
        ))
    }

    /// Puts the sandbox's own names for the words that begin with `@`.
    pub fn fill(&self, text: &str) -> String {
        fill(text, &self.words())
    }

    /// A word that begins with another comes before it.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let n = self.number;
        vec![
            ("@vm2", format!("{}2", self.name)),
            ("@vm", self.name.clone()),
            ("@net2", format!("t{n}-second")),
            ("@net", format!("t{n}")),
            ("@bridge", format!("vbt{n}")),
            ("@pool", format!("t{n}")),
            ("@other", format!("t{n}-other")),
            ("@dir", self.pool_dir.display().to_string()),
            ("@home", self.home.path().display().to_string()),
            ("@subnet2", format!("10.98.{n}")),
            ("@subnet", format!("10.99.{n}")),
            ("@ip2", format!("10.99.{n}.21")),
            ("@ip", format!("10.99.{n}.20")),
            ("@macvtap", self.lab["MACVTAP_INTERFACE"].clone()),
            ("@mac2", format!("52:54:00:99:{n:02x}:02")),
            ("@mac", format!("52:54:00:99:{n:02x}:01")),
            ("@seed3", format!("{}-cloud-init.3.iso", self.name)),
            ("@seed2", format!("{}-cloud-init.2.iso", self.name)),
            ("@seed", format!("{}-cloud-init.iso", self.name)),
            ("@uri", self.lab["LIBVIRT_URI"].clone()),
            ("@base_pool", self.lab["BASE_POOL"].clone()),
            ("@base", self.lab["BASE_VOLUME"].clone()),
            ("@sleeping_pool", self.lab["SLEEPING_POOL"].clone()),
            ("@sleeping_net", self.lab["SLEEPING_NETWORK"].clone()),
        ]
    }

    /// Lays a piece of TOML over the configuration: tables are merged, everything else is replaced.
    pub fn change(&mut self, toml: &str) {
        let over: Table = self.fill(toml).parse().unwrap();
        merge(&mut self.config, over);
        self.write_config();
    }

    /// Puts the configuration back to what every test starts from.
    pub fn start_over(&mut self) {
        self.config.clear();
        self.change(CONFIG);
    }

    /// Takes a key of the top level, or a table, out of the configuration.
    #[track_caller]
    pub fn leave_out(&mut self, key: &str) {
        self.config.remove(key).expect("a key of the configuration");
        self.write_config();
    }

    /// Takes a key out of a table of the configuration.
    #[track_caller]
    pub fn leave_out_of(&mut self, table: &str, key: &str) {
        let table = self.config[table].as_table_mut().expect("a table");
        table.remove(key).expect("a key of the table");
        self.write_config();
    }

    fn write_config(&self) {
        self.write("lbctl.toml", &self.config.to_string());
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, content: &str) {
        write_secret(&self.home.path().join(name), content);
    }

    /// Runs lbctl with this configuration; the arguments are separated by blanks.
    pub fn lbctl(&self, arguments: &str) -> Ran {
        let config = self.home.path().join("lbctl.toml");
        let words = arguments.split_whitespace().map(|word| self.fill(word));
        let words = ["-c".to_owned(), config.display().to_string()]
            .into_iter()
            .chain(words);
        // It asks DNS and nodes: in the lab's network, and never in the machine's.
        let ran = if arguments.contains("--host") {
            let inside = ["netns", "exec", &self.lab["LAB_NETNS"]].map(str::to_owned);
            let program = env!("CARGO_BIN_EXE_lbctl").to_owned();
            run("ip", inside.into_iter().chain([program]).chain(words))
        } else {
            lbctl(words)
        };
        ran.with_words(self.words())
    }

    /// Saves a pool's definition: a pool of a sandbox ceases to exist when it stops.
    #[track_caller]
    pub fn keep_pool(&self, pool: &str) {
        let xml = self.virsh(&format!("pool-dumpxml {pool}")).ok().stdout;
        self.write("pool.xml", &xml);
        self.virsh("pool-define @home/pool.xml").ok();
    }

    /// Runs virsh commands, separated by semicolons as virsh takes them.
    pub fn virsh(&self, commands: &str) -> Ran {
        self.lab
            .virsh(&self.fill(commands))
            .with_words(self.words())
    }

    #[track_caller]
    pub fn up(&self) -> Ran {
        self.lbctl("up").ok()
    }

    #[track_caller]
    pub fn down(&self) -> Ran {
        self.lbctl("down --yes --stop-timeout=1s").ok()
    }

    /// One fact that `virsh dominfo` shows.
    #[track_caller]
    pub fn dominfo(&self, fact: &str) -> String {
        let shown = self.virsh("dominfo @vm").ok().stdout;
        let line = shown
            .lines()
            .find_map(|l| l.strip_prefix(fact)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("dominfo shows no {fact}:\n{shown}"))
            .trim()
            .to_owned()
    }

    /// The domain's definition for its next start.
    #[track_caller]
    pub fn inactive_xml(&self) -> String {
        self.virsh("dumpxml @vm --inactive").ok().stdout
    }

    /// What the domain runs with.
    #[track_caller]
    pub fn live_xml(&self) -> String {
        self.virsh("dumpxml @vm").ok().stdout
    }

    /// The names in the pool, as its folder has them.
    pub fn volumes(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.pool_dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Every network, domain and volume that lbctl could have touched here.
    pub fn snapshot(&self) -> Snapshot {
        let mut items = BTreeMap::new();
        let prefix = format!("t{}", self.number);
        let ours = |list: &Ran| -> Vec<String> {
            let begins = |l: &&str| **l == prefix || l.starts_with(&format!("{prefix}-"));
            list.stdout
                .lines()
                .map(str::trim)
                .filter(begins)
                .map(String::from)
                .collect()
        };
        for state in [
            "--state-running",
            "--state-other",
            "--autostart",
            "--persistent",
        ] {
            let list = format!("list --all --name {state}");
            let names = ours(&self.virsh(&list)).join(" ");
            items.insert(format!("domains with {state}"), names.into_bytes());
        }
        let mut xml = |item: String, command: String| {
            items.insert(item, self.virsh(&command).stdout.into_bytes());
        };
        for network in ours(&self.virsh("net-list --all --name")) {
            xml(
                format!("network {network}, live"),
                format!("net-dumpxml {network}"),
            );
            xml(
                format!("network {network}, saved"),
                format!("net-dumpxml {network} --inactive"),
            );
        }
        for domain in ours(&self.virsh("list --all --name")) {
            xml(
                format!("domain {domain}, live"),
                format!("dumpxml {domain}"),
            );
            xml(
                format!("domain {domain}, saved"),
                format!("dumpxml {domain} --inactive --security-info"),
            );
        }
        xml("volumes".into(), "vol-list @pool --details".into());
        for name in self.volumes() {
            let path = self.pool_dir.join(&name);
            let mode = fs::metadata(&path).unwrap().mode();
            items.insert(
                format!("volume {name}, mode {mode:o}"),
                fs::read(path).unwrap(),
            );
        }
        let base = format!(
            "{}/pools/os/{}",
            self.lab["LAB_STATE"], self.lab["BASE_VOLUME"]
        );
        items.insert("base volume".into(), fs::read(base).unwrap());
        Snapshot(items)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for domain in self.virsh("list --all --name").stdout.lines() {
            if domain.starts_with(&format!("t{}-", self.number)) {
                self.virsh(&format!(
                    "destroy {domain}; undefine {domain} --nvram --managed-save --snapshots-metadata \
                     --checkpoints-metadata"
                ));
            }
        }
        for network in ["@net", "@net2"] {
            self.virsh(&format!("net-destroy {network}; net-undefine {network}"));
        }
        for pool in ["@pool", "@other"] {
            self.virsh(&format!("pool-destroy {pool}; pool-undefine {pool}"));
        }
        let _ = fs::remove_dir_all(&self.pool_dir);
        let _ = fs::remove_dir(slot(&self.lab, self.number));
    }
}

/// The state of things, to be compared with a later one.
#[derive(PartialEq, Eq, Clone)]
pub struct Snapshot(BTreeMap<String, Vec<u8>>);

impl Snapshot {
    /// Leaves out what a guest or a block job writes into the volumes.
    pub fn without_bytes(mut self) -> Self {
        self.0.retain(|item, _| !item.starts_with("volume"));
        self
    }

    /// Leaves out what a start of the domain changes (its id, its taps, its sockets), and the order
    /// of elements, which a redefinition changes.
    pub fn without_live(mut self) -> Self {
        self.0.retain(|item, _| !item.ends_with(", live"));
        for (item, content) in &mut self.0 {
            if item.ends_with(", saved") {
                let text = String::from_utf8_lossy(content).into_owned();
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                *content = lines.join("\n").into_bytes();
            }
        }
        self
    }

    #[track_caller]
    pub fn assert_same(&self, later: &Self) {
        let mut told = String::new();
        for item in self
            .0
            .keys()
            .chain(later.0.keys().filter(|k| !self.0.contains_key(*k)))
        {
            let (before, after) = (self.0.get(item), later.0.get(item));
            if before != after {
                let _ = writeln!(told, "== {item}\n{}", difference(before, after));
            }
        }
        assert!(told.is_empty(), "something changed:\n{told}");
    }
}

/// The lines that only one of both has.
fn difference(before: Option<&Vec<u8>>, after: Option<&Vec<u8>>) -> String {
    let text = |content: Option<&Vec<u8>>| match content {
        None => "(absent)".into(),
        Some(bytes) if bytes.contains(&0) => format!("({} bytes)", bytes.len()),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    let (before, after) = (text(before), text(after));
    let only = |sign: char, of: &str, other: &str| -> String {
        let lines = of.lines().filter(|line| !other.lines().any(|l| l == *line));
        let lines: Vec<String> = lines.map(|line| format!("{sign} {line}\n")).collect();
        lines.concat()
    };
    only('-', &before, &after) + &only('+', &after, &before)
}

fn slot(lab: &Lab, number: u8) -> PathBuf {
    Path::new(&lab["LAB_RUN"]).join(format!("sandbox-{number}"))
}

/// The first number that no other test has: making a folder is atomic.
fn claim(lab: &Lab) -> u8 {
    (1..=250)
        .find(|n| fs::create_dir(slot(lab, *n)).is_ok())
        .expect("a free sandbox in the lab: killed tests may have left all of them, so take the lab down and up again")
}

fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(over)) => merge(into, over),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// A CA of this test's own: key and certificate, in PEM.
fn ca() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2200, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (key.serialize_pem(), certificate.pem())
}

/// What an error says, as `check --host` lists it.
pub fn as_listed<'s>(says: &[&'s str]) -> Vec<&'s str> {
    let listed = says
        .iter()
        .map(|text| text.strip_prefix("error: @vm: ").unwrap_or(text));
    listed.collect()
}

/// As an operator keeps it, for lbctl warns of what every user can read. A file that is there keeps
/// its mode.
fn write_secret(path: &Path, content: &str) {
    let is_new = !path.exists();
    fs::write(path, content).unwrap();
    if is_new {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
}

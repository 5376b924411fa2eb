//! The seed's documents as their readers see them, how they depend on the configuration, and golden
//! files to look at.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use lbctl::testing::config::{
    Addressing, Config, FirstBoot, HaproxyVersion, Hop, InterfaceAddress, MacAddr, Runtime,
    StaticAddressing,
};
use lbctl::testing::render::{SeedFiles, haproxy_cfg};
use lbctl::testing::secret::Secret;
use serde_json::{Value, json};

use super::oracle::{must, pyyaml, run, scratch, words, write};
use super::sample::{
    guest_files, masked, name, sample_config, seed_files, tls, with_first_boot, with_interfaces,
};

/// Nothing optional, as in the module's own example.
pub(super) fn least() -> Config {
    let mut config = sample_config();
    config.admin.password = None;
    config.admin.public_keys = Vec::new();
    config.interfaces.truncate(1);
    config.haproxy.runtime = Runtime::Package;
    config.haproxy.version = HaproxyVersion { major: 2, minor: 6 };
    config.haproxy.verify_host = None;
    config.haproxy.replicas = None;
    config.haproxy.metrics = None;
    config.chrony = None;
    config.fluentd = None;
    config.node_exporter = false;
    config.container_registry = None;
    config.install_dependencies = false;
    config
}

pub(super) fn seed(config: &Config) -> SeedFiles {
    seed_files(config, &tls())
}

fn user_data(config: &Config) -> Value {
    pyyaml(&[seed(config).user_data.expose().to_owned()]).remove(0)
}

#[test]
fn cloud_init_accepts_the_user_data() {
    for config in [sample_config(), least(), with_first_boot()] {
        let dir = scratch();
        let file = dir.path().join("user-data");
        write(&file, seed(&config).user_data.expose());
        let output = run(
            "cloud-init",
            Command::new("cloud-init")
                .args(["schema", "--config-file"])
                .arg(&file),
            "",
        );
        let said = words(&output);
        assert!(
            output.status.success() && said.contains("Valid cloud-config"),
            "{said}"
        );
        assert!(!said.to_lowercase().contains("deprecat"), "{said}");
    }
}

#[test]
fn netplan_and_cloud_inits_own_renderers_accept_the_network() {
    for config in [
        sample_config(),
        least(),
        many_interfaces(),
        every_shape(),
        on_link(),
    ] {
        let text = seed(&config).network_config;
        let dir = scratch();
        let netplan = pyyaml(std::slice::from_ref(&text)).remove(0);
        let document = json!({ "network": netplan }).to_string();
        let file = dir.path().join("etc/netplan/50-cloud-init.yaml");
        write(&file, &document);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let output = run(
            "netplan.io",
            Command::new("netplan")
                .args(["generate", "--root-dir"])
                .arg(dir.path()),
            "",
        );
        assert!(
            output.status.success() && words(&output).trim().is_empty(),
            "{}",
            words(&output)
        );
        let units = std::fs::read_dir(dir.path().join("run/systemd/network")).unwrap();
        let network = |name: &Path| name.extension().is_some_and(|e| e == "network");
        let units = units.filter(|unit| network(&unit.as_ref().unwrap().path()));
        let units = units.count();
        assert_eq!(units, config.interfaces.len());
        for kind in ["networkd", "eni", "netplan"] {
            let file = dir.path().join("network-config");
            write(&file, &text);
            let out = dir.path().join(kind);
            let mut convert = Command::new("cloud-init");
            convert
                .args([
                    "devel",
                    "net-convert",
                    "-k",
                    "yaml",
                    "-D",
                    "debian",
                    "-O",
                    kind,
                    "-p",
                ])
                .arg(&file);
            must("cloud-init", convert.arg("-d").arg(&out), "");
        }
    }
}

fn many_interfaces() -> Config {
    let mut config = sample_config();
    for n in 0..6 {
        let mut interface = config.interfaces[1].clone();
        interface.mac = MacAddr([0x52, 0x54, 0, 0, 0, n]);
        let gateway = Hop {
            via: [10, 1, n, 1].into(),
            on_link: false,
        };
        interface.addressing = Addressing::Static(StaticAddressing {
            addresses: vec![InterfaceAddress::new([10, 1, n, 2].into(), 24).unwrap()],
            gateways: (n % 2 == 0).then_some(gateway).into_iter().collect(),
            routes: Vec::new(),
            dns_servers: Vec::new(),
            search: Vec::new(),
        });
        config.interfaces.push(interface);
    }
    config
}

/// What people have: bridges, several addresses of both kinds, routers that no network of the
/// interface holds, jumbo frames.
fn every_shape() -> Config {
    let mut config = sample_config();
    config.interfaces = with_interfaces(
        r#"
[[libvirt_networks]]
network_name = "lab"
addresses = ["192.0.2.5/24", "192.0.2.6/24", "2001:db8::5/64"]
gateway = ["192.0.2.1", "fe80::1"]
dns_servers = ["192.0.2.53", "2001:db8::53"]
search = ["example.com", "db.example.com"]
mtu = 9000
mac = "52:54:00:00:00:01"
routes = [{ to = "10.0.0.0/8", via = "192.0.2.254" }, { to = "2001:db8:a::/48", via = "2001:db8::fe" }]

[[bridge_interfaces]]
bridge = "br0"
dhcp = true
mtu = 1400
mac = "52:54:00:00:00:02"

[[bridge_interfaces]]
bridge = "br1"
vlan = 42
ip = "10.2.0.5"
prefix_length = 16
search = ["example.org"]
mac = "52:54:00:00:00:03"
"#,
    );
    config
}

/// A hoster's: one address, and a router outside.
fn on_link() -> Config {
    let mut config = sample_config();
    config.interfaces = with_interfaces(
        r#"
[[macvtap_interfaces]]
interface = "eno1"
addresses = ["198.51.100.7/32", "2001:db8:7::7/128"]
gateway = ["203.0.113.1", "2001:db8:8::1"]
mac = "52:54:00:00:00:01"
"#,
    );
    config
}

#[test]
fn the_network_is_what_was_asked_for() {
    let network = pyyaml(&[seed(&sample_config()).network_config]).remove(0);
    assert_eq!(
        network,
        json!({ "version": 2, "ethernets": {
            "card0": { "match": { "macaddress": "52:54:00:de:e3:6b" }, "dhcp4": true, "dhcp-identifier": "mac",
                       "dhcp4-overrides": { "route-metric": 100 } },
            "card1": { "match": { "macaddress": "52:54:00:12:34:56" }, "dhcp4": false, "addresses": ["10.0.0.2/24"],
                       "routes": [{ "to": "0.0.0.0/0", "via": "10.0.0.1", "metric": 200 }],
                       "nameservers": { "addresses": ["10.0.0.1", "fd00::53"] }, "optional": true },
        }})
    );
}

#[test]
fn every_shape_of_addresses_is_what_was_asked_for() {
    let network = pyyaml(&[seed(&every_shape()).network_config]).remove(0);
    assert_eq!(
        network["ethernets"],
        json!({
            "card0": { "match": { "macaddress": "52:54:00:00:00:01" }, "dhcp4": false,
                       "addresses": ["192.0.2.5/24", "192.0.2.6/24", "2001:db8::5/64"],
                       "routes": [{ "to": "0.0.0.0/0", "via": "192.0.2.1", "metric": 100 },
                                  { "to": "::/0", "via": "fe80::1", "metric": 100 },
                                  { "to": "10.0.0.0/8", "via": "192.0.2.254" },
                                  { "to": "2001:db8:a::/48", "via": "2001:db8::fe" }],
                       "nameservers": { "addresses": ["192.0.2.53", "2001:db8::53"],
                                        "search": ["example.com", "db.example.com"] },
                       "mtu": 9000 },
            "card1": { "match": { "macaddress": "52:54:00:00:00:02" }, "dhcp4": true, "dhcp-identifier": "mac",
                       "dhcp4-overrides": { "route-metric": 200 }, "mtu": 1400, "optional": true },
            "card2": { "match": { "macaddress": "52:54:00:00:00:03" }, "dhcp4": false, "addresses": ["10.2.0.5/16"],
                       "nameservers": { "search": ["example.org"] }, "optional": true },
        })
    );
    let network = pyyaml(&[seed(&on_link()).network_config]).remove(0);
    assert_eq!(
        network["ethernets"]["card0"]["routes"],
        json!([{ "to": "0.0.0.0/0", "via": "203.0.113.1", "on-link": true, "metric": 100 },
               { "to": "::/0", "via": "2001:db8:8::1", "on-link": true, "metric": 100 }])
    );
}

#[test]
fn what_the_first_boot_needs_is_added_and_nothing_else_changes() {
    let mut bare = with_first_boot();
    bare.first_boot = FirstBoot::default();
    assert_eq!(seed(&bare), seed(&sample_config()));
    let (with, without) = (user_data(&with_first_boot()), user_data(&bare));
    assert_eq!(
        with["apt"],
        json!({
            "primary": [{ "arches": ["default"], "uri": "http://192.0.2.4/debian" }],
            "security": [{ "arches": ["default"], "uri": "http://192.0.2.4/debian-security" }],
            "http_proxy": "http://192.0.2.3:3128", "https_proxy": "http://192.0.2.3:3128",
        })
    );
    let trusted = with["ca_certs"]["trusted"].as_array().unwrap();
    assert_eq!(trusted.len(), 2);
    for pem in trusted {
        assert_eq!(pem.as_str().unwrap(), super::sample::CA);
    }
    assert_eq!(with["timezone"], "Europe/Berlin");
    assert_eq!(
        (&with["locale"], &with["bootcmd"]),
        (&json!("de_DE.UTF-8"), &json!([["touch", "/run/x"]]))
    );
    let added = |key: &str| {
        let (with, without) = (
            with[key].as_array().unwrap(),
            without[key].as_array().unwrap(),
        );
        let own = without.iter().filter(|own| !with.contains(own)).count();
        assert!(own <= 1, "{key}"); // the settings name all files
        json!(with[without.len()..])
    };
    assert_eq!(added("packages"), json!(["vim", "a b"]));
    assert_eq!(
        added("users"),
        json!([{ "name": "monitoring", "ssh_authorized_keys": ["ssh-ed25519 AAAA me"] }])
    );
    assert_eq!(
        added("runcmd"),
        json!([["sh", "-c", "echo a, b"], "echo \"x: y\" > /run/z"])
    );
    let files = with["write_files"].as_array().unwrap();
    assert_eq!(
        files.last().unwrap(),
        &json!({ "path": "/etc/motd", "permissions": "0644", "content": "a: b\n\"c\"\n" })
    );
    let proxy = "/etc/systemd/system/docker.service.d/60-lbctl-proxy.conf";
    let file = files.iter().find(|file| file["path"] == proxy).unwrap();
    assert_eq!(
        file["content"],
        "[Service]\nEnvironment=\"HTTP_PROXY=http://192.0.2.3:3128\" \"HTTPS_PROXY=http://192.0.2.3:3128\" \
         \"NO_PROXY=localhost,127.0.0.1,registry.example\"\n"
    );
    let shown = masked(&with_first_boot(), &tls());
    let shown = shown.user_data.expose();
    assert!(!shown.contains("monitoring") && !shown.contains("echo a, b"));
}

#[test]
fn the_account_is_the_module_s() {
    let full = user_data(&sample_config());
    let user = &full["users"][0];
    assert_eq!(
        (&user["name"], &user["lock_passwd"], &user["shell"]),
        (&json!("ubuntu"), &json!(false), &json!("/bin/bash"))
    );
    assert_eq!(user["sudo"], "ALL=(ALL) NOPASSWD:ALL");
    assert_eq!(full["chpasswd"]["expire"], false);
    assert_eq!(full["chpasswd"]["users"][0]["type"], "hash");
    assert_eq!(
        full["chpasswd"]["users"][0]["password"],
        user["hashed_passwd"]
    );
    assert_eq!(
        (&full["ssh_pwauth"], &full["ssh_deletekeys"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        (&full["hostname"], &full["preserve_hostname"]),
        (&json!("postgres-lb-1"), &json!(false))
    );

    let bare = user_data(&least());
    assert_eq!(bare["users"][0]["lock_passwd"], true);
    assert_eq!(bare.get("chpasswd"), None);
    assert_eq!(bare["users"][0].get("ssh_authorized_keys"), None);
}

#[test]
fn nothing_is_installed_unless_asked() {
    let bare = user_data(&least());
    assert_eq!(
        (
            bare.get("packages"),
            bare.get("package_update"),
            bare.get("apt")
        ),
        (None, None, None)
    );
    let packages = &user_data(&sample_config())["packages"];
    assert_eq!(
        packages,
        &json!([
            "qemu-guest-agent",
            "docker.io",
            "apparmor",
            "keepalived",
            "nftables",
            "prometheus-node-exporter",
            "chrony"
        ])
    );
}

#[test]
fn a_registry_of_ones_own_is_put_before_the_image() {
    let image = |url: &str, image: &str| {
        let mut config = sample_config();
        config.container_registry.as_mut().unwrap().url = url.into();
        config.haproxy.image = image.into();
        lbctl::testing::render::image_reference(&config)
    };
    assert_eq!(
        image("https://registry.example:5000", "haproxy"),
        "registry.example:5000/haproxy:3.2"
    );
    assert_eq!(
        image("http://registry.example/mirror/", "haproxy"),
        "registry.example/mirror/haproxy:3.2"
    );
    assert_eq!(
        image("https://registry-1.docker.io", "haproxy"),
        "haproxy:3.2"
    );
    assert_eq!(
        image("https://index.docker.io/v1/", "haproxy"),
        "haproxy:3.2"
    );
    assert_eq!(
        image("https://registry.example", "other.example/haproxy"),
        "other.example/haproxy:3.2"
    );
    assert_eq!(
        image("https://registry.example", "team/haproxy"),
        "registry.example/team/haproxy:3.2"
    );
}

#[test]
fn the_same_configuration_gives_the_same_bytes() {
    let first = seed(&sample_config());
    assert_eq!(first, seed(&sample_config()));
    let meta = pyyaml(std::slice::from_ref(&first.meta_data)).remove(0);
    assert_eq!(meta["local-hostname"], "postgres-lb-1");
    let instance = meta["instance-id"].as_str().unwrap();
    assert!(instance.starts_with("postgres-lb-1-"), "{instance}");

    let changes: [fn(&mut Config); 5] = [
        |c| c.admin.password = Some(Secret::new("other")),
        |c| c.haproxy.max_connections += 1,
        |c| {
            if let Addressing::Static(fixed) = &mut c.interfaces[1].addressing {
                fixed.addresses[0] = InterfaceAddress::new([10, 0, 0, 3].into(), 24).unwrap();
            }
        },
        |c| c.name = name("postgres-lb-2"),
        |c| c.admin.public_keys.clear(),
    ];
    for change in changes {
        let mut config = sample_config();
        change(&mut config);
        let other = seed(&config);
        assert_ne!(other.meta_data, first.meta_data);
    }
    let mut renewed = tls();
    renewed.client_pem = Some(Secret::new("another"));
    assert_ne!(
        seed_files(&sample_config(), &renewed).meta_data,
        first.meta_data
    );
}

#[test]
fn chrony_reads_its_snippets() {
    let dir = scratch();
    let files = guest_files(&sample_config(), &tls());
    let content = |path: &str| {
        files
            .iter()
            .find(|f| f.path == path)
            .unwrap()
            .content
            .expose()
            .to_owned()
    };
    let sources = content("/etc/chrony/sources.d/lbctl.sources");
    write(&dir.path().join("sources.d/lbctl.sources"), &sources);
    write(
        &dir.path().join("conf.d/lbctl.conf"),
        &content("/etc/chrony/conf.d/lbctl.conf"),
    );
    let at = dir.path().display();
    // A source file's lines are a configuration's own, so the same parser judges both.
    write(
        &dir.path().join("chrony.conf"),
        &format!("confdir {at}/conf.d\ninclude {at}/sources.d/lbctl.sources\n"),
    );
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/chronyd");
    let chronyd = if tools.exists() {
        tools
    } else {
        "/usr/sbin/chronyd".into()
    };
    let read = must(
        "chrony",
        Command::new(chronyd)
            .arg("-p")
            .arg("-f")
            .arg(dir.path().join("chrony.conf")),
        "",
    );
    for line in [
        "server ntp.example iburst minpoll 4",
        "pool pool.example",
        "makestep 0.5 -1",
    ] {
        assert!(read.lines().any(|l| l == line), "{line:?} in\n{read}");
    }
}

/// Look at the difference, then run with `LBCTL_BLESS=1` to accept it.
fn golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/render/golden")
        .join(file);
    if std::env::var_os("LBCTL_BLESS").is_some() {
        write(&path, text);
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{file} differs from its golden file; LBCTL_BLESS=1 accepts:\n{text}"
    );
}

#[test]
fn golden_files() {
    for (label, config) in [("full", sample_config()), ("least", least())] {
        let shown = masked(&config, &tls());
        golden(&format!("{label}.user-data.yaml"), shown.user_data.expose());
        golden(
            &format!("{label}.network-config.yaml"),
            &shown.network_config,
        );
        golden(&format!("{label}.haproxy.cfg"), &haproxy_cfg(&config));
    }
}

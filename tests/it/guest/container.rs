//! HAProxy as a container, in a guest that has nothing and installs all of it at its first boot, as
//! `[guest]` says: packages from a mirror, by a proxy, the image from a registry with a password
//! and a CA of its own. Then the outside network is removed, and the guest comes back without it.

use std::fs;

use super::inside::chrony;
use super::listed::Asks;
use super::{BOOT, Guest, Kind, across_a_switchover};
use crate::support::{Lab, Ran, run_for};

/// Starts or stops the repository, the registry and the time server.
pub(super) fn outside(lab: &Lab, verb: &str) -> Ran {
    let name = format!("LAB_NAME={}", lab["LAB_NAME"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/outside");
    run_for(300, "env", [&name, script, verb]).ok()
}

/// The table of the lab's registry.
pub(super) fn registry(lab: &Lab) -> String {
    format!(
        "[container_registry]\nurl = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n\
         ca_certificate = {{ file = \"{}\" }}\n",
        lab["REGISTRY_URL"], lab["REGISTRY_USER"], lab["REGISTRY_PASSWORD"], lab["REGISTRY_CA"]
    )
}

fn container(lab: &Lab) -> Kind {
    let first_boot = format!(
        "[guest]\nhttp_proxy = \"{}\"\napt_mirror = [\"{}\", \"{}\"]\nca_certificates = {{ file = \"{}\" }}\n\
         timezone = \"Europe/Berlin\"\ncloud_config = {{ file = \"cloud-config.yaml\" }}\n",
        lab["HTTP_PROXY_URL"], lab["APT_MIRROR"], lab["APT_SECURITY"], lab["REGISTRY_CA"]
    );
    Kind {
        base: "BASE_VOLUME_PLAIN",
        install: true,
        runtime: "container",
        asks: Asks::OneName,
        tables: first_boot + &registry(lab) + &fluentd(lab) + &chrony(lab),
    }
}

/// Its server has the registry's address: that is TLS which the CA given verifies.
fn fluentd(lab: &Lab) -> String {
    let server = lab["REGISTRY_URL"].replace("https://", "");
    let (domain, port) = server.split_once(':').unwrap();
    format!(
        "[fluentd]\nenabled = true\nload_balancer_tag = \"lb.haproxy\"\nnode_exporter_tag = \"lb.node\"\n[fluentd.forward]\ndomain = \"{domain}\"\nport = {port}\nhostname = \"lb\"\n\
         shared_key = \"a secret\"\nca_cert = {{ file = \"{}\" }}\n",
        lab["REGISTRY_CA"]
    )
}

/// No distribution has a package of fluentd: this does what it does, and says so, in its sandbox.
const FLUENTD: &str = r#"#!/usr/bin/python3
import socket, ssl, subprocess, sys, time
assert "forward" in open(sys.argv[sys.argv.index("-c") + 1]).read()
with open("/var/lib/fluentd/buffer", "w") as buffer:
    subprocess.run(["journalctl", "-n", "3", "-u", "haproxy"], stdout=buffer, check=True)
server = ("registry.postgres.lab", 5000)
trust = ssl.create_default_context(cafile="/etc/fluentd/ca.crt")
trust.wrap_socket(socket.create_connection(server), server_hostname=server[0]).close()
print("as fluentd does", flush=True)
time.sleep(10 ** 9)
"#;

/// What the operator adds: the key of the mirror, without which apt takes nothing from it, and
/// fluentd.
fn cloud_config(lab: &Lab) -> String {
    let block = |text: &str| -> String {
        let lines = text.lines().map(|line| format!("      {line}\n"));
        lines.collect()
    };
    let key = block(&fs::read_to_string(&lab["APT_KEY"]).unwrap());
    let fluentd = block(FLUENTD);
    format!(
        "#cloud-config\nwrite_files:\n  - path: /etc/apt/trusted.gpg.d/lab.asc\n    content: |\n{key}\
         \x20 - path: /usr/local/bin/fluentd\n    permissions: \"0755\"\n    content: |\n{fluentd}\
         runcmd:\n  - [touch, /root/of-the-operator]\n"
    )
}

/// All that was installed came from the mirror, and by the proxy.
fn came_by_the_proxy(guest: &Guest) {
    let lab = &guest.lab;
    let log =
        |name: &str| fs::read_to_string(format!("{}/log/{name}.log", lab["LAB_STATE"])).unwrap();
    let by_proxy = log("proxy");
    let of_guest = |path: &str, end: &str| {
        let request = format!("{} GET {path}", guest.ip);
        let found = by_proxy
            .lines()
            .filter(|line| line.starts_with(&request) && line.ends_with(end));
        found.count()
    };
    for suite in ["bookworm", "bookworm-updates", "bookworm-backports"] {
        let release = format!("{}/dists/{suite}/InRelease", lab["APT_MIRROR"]);
        assert!(of_guest(&release, " 200") > 0, "{release}: {by_proxy}");
    }
    let security = format!("{}/dists/bookworm-security/InRelease", lab["APT_SECURITY"]);
    assert!(of_guest(&security, " 200") > 0, "{security}: {by_proxy}");
    let packages = of_guest(&format!("{}/pool/", lab["APT_MIRROR"]), ".deb 200");
    println!("{packages} packages by the proxy");
    assert!(packages > 10, "{by_proxy}");
    let straight = log("packages");
    let straight = straight.lines().find(|line| line.starts_with(&guest.ip));
    assert_eq!(straight, None, "without the proxy");
}

/// What `[guest]` says is so in the guest.
fn is_as_the_first_boot_was_told(guest: &Guest) {
    let lab = &guest.lab;
    came_by_the_proxy(guest);
    assert_eq!(
        guest.inside("timedatectl show --property=Timezone --value"),
        "Europe/Berlin\n"
    );
    guest.inside("test -e /root/of-the-operator");
    let sources = guest.inside("cat /etc/apt/sources.list");
    assert!(
        sources.contains(&format!("deb {} bookworm main", lab["APT_MIRROR"])),
        "{sources}"
    );
    // The CA is one of the system's: 401 is the registry's answer to nobody in particular.
    let asked = format!(
        "curl -s -o /dev/null -w '%{{http_code}}' --noproxy '*' {}/v2/",
        lab["REGISTRY_URL"]
    );
    assert_eq!(guest.inside(&asked), "401");
    let docker = guest.inside("systemctl show --property=Environment docker");
    for wanted in [lab["HTTP_PROXY_URL"].as_str(), "registry.postgres.lab"] {
        assert!(docker.contains(wanted), "{wanted}: {docker}");
    }
}

/// What a second run of everything must leave alone.
const STATE: &str = "systemctl show --property=MainPID,ActiveEnterTimestampMonotonic haproxy docker chrony \
     prometheus-node-exporter; docker inspect --format '{{.Id}} {{.State.StartedAt}}' haproxy";

#[test]
fn in_a_container() {
    let lab = Lab::full();
    let digest = outside(&lab, "start").stdout.trim().to_owned();
    let ip = lab["NETWORK_GUEST_IP_2"].clone();
    let interface = format!(
        "[libvirt_network]\nnetwork_name = \"{}\"\nip = \"{ip}\"",
        lab["NETWORK_NAME"]
    );
    let key = cloud_config(&lab);
    let mut guest = Guest::with_files(
        "guest-container",
        ip,
        container(&lab),
        &interface,
        &[("cloud-config.yaml", &key)],
    );
    let up = ["up", &format!("--wait={}", BOOT - 60)];
    guest.lbctl(BOOT, &up).ok().says(&["ready", "psql"]);
    guest.reaches_the_primary();
    is_as_the_first_boot_was_told(&guest);
    across_a_switchover(|| guest.rest_api("/primary"));
    guest.lbctl(60, &["up"]).ok().says(&["up to date"]);
    across_a_switchover(|| guest.http(8405, "/ready"));
    guest.shows_metrics();
    guest.runs_in_sandboxes();
    guest.runs_fluentd_in_its_sandbox();
    guest.survives_a_haproxy_that_hangs();
    guest.reaches_the_primary();
    guest.keeps_the_promise(&["restart", "switchovers=1"]);
    guest.keeps_time_and_logs("CONTAINER_NAME=haproxy");

    // HAProxy is nobody in particular, and nobody else reads what is secret.
    let said = guest.inside("ps -C haproxy -o uid=,gid= | sort -u");
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["99", "99"],
        "{said}"
    );
    let owners = guest.inside(
        "stat -c '%a %u:%g' /etc/lbctl/docker/config.json /etc/haproxy/client.pem /run/haproxy/admin.sock",
    );
    assert_eq!(owners, "600 0:0\n600 99:99\n600 99:99\n");
    let image = format!(
        "{}/haproxy:3.2",
        lab["REGISTRY_URL"].replace("https://", "")
    );
    let running = "docker inspect --format '{{.Config.Image}}' haproxy";
    assert_eq!(guest.inside(running).trim(), image);
    // By its digest too, which takes the same login and the same CA.
    guest.inside(&format!(
        "docker --config /etc/lbctl/docker pull --quiet {image}@{digest}"
    ));

    // All that the first boot did is done again, and nothing happens.
    let before = guest.inside(STATE);
    guest.inside("/usr/local/lib/lbctl/lbctl-guest boot");
    assert_eq!(guest.inside(STATE), before);

    // With nothing outside but the nodes and the DNS it comes back from a restart.
    outside(&lab, "stop");
    let before = guest.lbctl(60, &["status", "--json"]).json();
    guest.kind.install = false;
    guest.configure(&interface, &format!("image_digest = \"{digest}\""));
    // Nor is the agent there: then it takes a restart, and lbctl says so.
    guest.loses_its_agent();
    guest
        .lbctl(120, &["up"])
        .ended(4)
        .says(&["restart", "--restart now", "agent"]);
    guest.reaches_the_primary();
    let restart = ["up", "--restart=now", &format!("--wait={}", BOOT - 120)];
    guest.lbctl(BOOT, &restart).ok().says(&["ready"]);
    guest.reaches_the_primary();
    let after = guest.lbctl(60, &["status", "--json"]).json();
    assert_ne!(before["boot_id"], after["boot_id"]);
    assert_eq!(guest.inside(running).trim(), format!("{image}@{digest}"));
    guest.goes_away();
}

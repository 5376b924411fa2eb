//! HAProxy as a container, in a guest that has nothing and installs all of it at its first boot:
//! packages from a repository, the image from a registry with a password and a CA of its own. Then
//! the outside network is removed, and the guest comes back without it.

use super::inside::chrony;
use super::{BOOT, Guest, Kind, across_a_switchover};
use crate::support::{Lab, Ran, run_for};

/// Starts or stops the repository, the registry and the time server.
fn outside(lab: &Lab, verb: &str) -> Ran {
    let name = format!("LAB_NAME={}", lab["LAB_NAME"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/outside");
    run_for(300, "env", [&name, script, verb]).ok()
}

fn container(lab: &Lab) -> Kind {
    let registry = format!(
        "[container_registry]\nurl = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n\
         ca_certificate = {{ file = \"{}\" }}\n",
        lab["REGISTRY_URL"], lab["REGISTRY_USER"], lab["REGISTRY_PASSWORD"], lab["REGISTRY_CA"]
    );
    Kind {
        base: "BASE_VOLUME_PLAIN",
        install: true,
        runtime: "container",
        tables: registry + &chrony(lab),
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
    let mut guest = Guest::new("guest-container", ip, container(&lab), &interface);
    let up = ["up", &format!("--wait={}", BOOT - 60)];
    guest.lbctl(BOOT, &up).ok().says(&["ready", "psql"]);
    guest.reaches_the_primary();
    across_a_switchover(|| guest.rest_api("/primary"));
    guest.lbctl(60, &["up"]).ok().says(&["up to date"]);
    across_a_switchover(|| guest.http(8405, "/ready"));
    guest.shows_metrics();
    guest.runs_in_sandboxes();
    guest.survives_a_haproxy_that_hangs();
    guest.reaches_the_primary();
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
    let restart = ["up", "--restart=now", &format!("--wait={}", BOOT - 120)];
    guest.lbctl(BOOT, &restart).ok().says(&["ready"]);
    guest.reaches_the_primary();
    let after = guest.lbctl(60, &["status", "--json"]).json();
    assert_ne!(before["boot_id"], after["boot_id"]);
    assert_eq!(guest.inside(running).trim(), format!("{image}@{digest}"));
    guest.goes_away();
}

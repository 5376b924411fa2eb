//! A guest that lbctl 0.1.0 has made gets all of the present lbctl by one `up`, while it serves.
//! `./dev soak` builds 0.1.0 from this repository's history.

use std::fs;
use std::time::Instant;

use super::sessions::Sessions;
use super::{BOOT, Guest, Kind};
use crate::support::{Lab, run_for};

#[test]
#[ignore = "lbctl 0.1.0 is built by ./dev soak only"]
fn of_0_1_0_gets_all_by_one_up() {
    let former = std::env::var("LBCTL_FORMER").expect("LBCTL_FORMER: the path of lbctl 0.1.0");
    let lab = Lab::full();
    let ip = lab["NETWORK_GUEST_IP"].clone();
    let interface = format!(
        "[libvirt_network]\nnetwork_name = \"{}\"\nip = \"{ip}\"",
        lab["NETWORK_NAME"]
    );
    let guest = Guest::new("guest-former", ip, Kind::package(), &interface);
    let config = guest.directory.path().join("lbctl.toml");
    let text = fs::read_to_string(&config).unwrap();
    // A key that 0.1.0 does not have.
    fs::write(&config, text.replace("hold = \"1m\"\n", "")).unwrap();
    let wait = format!("--wait={}", BOOT - 60);
    let words = ["-c", config.to_str().unwrap(), "up", &wait];
    let began = Instant::now();
    run_for(BOOT, &former, words).ok().says(&["ready"]);
    guest.notes("up of 0.1.0", began);
    guest.reaches_the_primary();
    assert!(
        !guest
            .inside("cat /etc/haproxy/haproxy.cfg")
            .contains("lua-load")
    );

    let boot = guest.boot_id();
    let mut sessions = Sessions::open(&guest);
    // What waits for its next start is said.
    guest.lbctl(60, &["plan"]).ok().says(&[
        "lbctl's own files in the guest",
        "(live)",
        "with a watchdog and a panic device, from the next start of the guest on",
        "HAProxy's process goes on as it was started",
    ]);
    guest.lbctl(300, &["up"]).ok();
    sessions.none_was_cut("by the upgrade");
    assert_eq!(guest.boot_id(), boot, "without a restart");
    assert!(
        guest
            .inside("cat /etc/haproxy/haproxy.cfg")
            .contains("lua-load")
    );
    guest
        .lbctl(300, &["renew", "--force"])
        .ok()
        .says(&["renewed"]);
    sessions.none_was_cut("by a renewal");
    drop(sessions);

    // From its next start on it has what a running guest cannot get, and what this one has it
    // keeps.
    guest.configure(&interface, "");
    guest.lbctl(300, &["up"]).ok();
    guest.keeps_the_promise(&["switchovers=1"]);
    assert!(guest.domain_xml().contains("<watchdog "));
    let serial = guest.status()["certificate"]["serial"].clone();
    // What it gets at its next start is no reason for one.
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    guest.set("memory", "800");
    guest.configure(&interface, "");
    let restart = ["up", "--restart=now", &format!("--wait={}", BOOT - 60)];
    guest.lbctl(BOOT, &restart).ok().says(&["ready"]);
    guest.reaches_the_primary();
    assert_ne!(guest.boot_id(), boot);
    guest.runs_in_sandboxes();
    assert_eq!(guest.status()["certificate"]["serial"], serial);
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    guest.goes_away();
}

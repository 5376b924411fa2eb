//! A rendered configuration and the guest script, run by the HAProxy of each suite before fake
//! Patroni nodes. Where nobody waits for a primary, and where new connections do (`hold.py`).

use std::path::Path;
use std::process::Command;

use lbctl::testing::config::{HaproxyVersion, Metrics, Runtime};
use lbctl::testing::render::haproxy_cfg;

use super::oracle::{haproxy_root, run, scratch, words, write};
use super::sample::{port, sample_config, time};

fn behaves(program: &str, suite: &str, (major, minor): (u8, u8)) {
    let mut config = sample_config();
    config.haproxy.runtime = Runtime::Package;
    config.haproxy.version = HaproxyVersion { major, minor };
    config.haproxy.postgres_nameserver_ips = vec![[127, 0, 0, 2].into()];
    // The nodes have the same ports, on other addresses of the same machine.
    config.haproxy.address = [127, 0, 0, 1].into();
    config.haproxy.metrics = Some(Metrics {
        address: [127, 0, 0, 1].into(),
        port: port(8405),
    });
    match program {
        "live.py" => config.haproxy.hold = time("0s"),
        "hold.py" => config.haproxy.max_connections_per_client = Some(100),
        _ => {}
    }
    let dir = scratch();
    let cfg = dir.path().join("haproxy.cfg");
    write(&cfg, &haproxy_cfg(&config));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "/usr/bin/python3",
    ]);
    unshare
        .arg(here.join("tests/render").join(program))
        .arg(haproxy_root(suite))
        .arg(&cfg);
    let output = run(
        "util-linux",
        unshare.arg(here.join("templates/guest/lbctl-guest.py")),
        "",
    );
    println!("{}", words(&output));
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn haproxy_2_6() {
    behaves("live.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_0() {
    behaves("live.py", "trixie", (3, 0));
}

#[test]
fn haproxy_3_2() {
    behaves("live.py", "sid", (3, 2));
}

#[test]
fn haproxy_2_6_holds() {
    behaves("hold.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_0_holds() {
    behaves("hold.py", "trixie", (3, 0));
}

#[test]
fn haproxy_3_2_holds() {
    behaves("hold.py", "sid", (3, 2));
}

#[test]
fn haproxy_2_6_takes_changes() {
    behaves("change.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_0_takes_changes() {
    behaves("change.py", "trixie", (3, 0));
}

#[test]
fn haproxy_3_2_takes_changes() {
    behaves("change.py", "sid", (3, 2));
}

/// Also with the configuration for 2.6: it is the default for HAProxy's package, and Debian 13 has
/// 3.0.
#[test]
fn haproxy_3_0_leaves_no_client_waiting() {
    behaves("hang.py", "trixie", (3, 0));
    behaves("hang.py", "trixie", (2, 6));
}

#[test]
fn haproxy_2_6_leaves_no_client_waiting() {
    behaves("hang.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_2_leaves_no_client_waiting() {
    behaves("hang.py", "sid", (3, 2));
}

//! `haproxy -c` on what each version is given: accepted, and without a word.

use std::process::Command;

use lbctl::testing::config::{Config, HaproxyVersion, IpNetwork, Replicas, Runtime};
use lbctl::testing::render::haproxy_cfg;

use super::oracle::{haproxy_root, run, words, write};
use super::sample::{most, nameservers, port, sample_config, time};

/// The suites whose HAProxy can be had, and versions whose syntax it reads: an older version's
/// configuration must be good for a newer program too, for `haproxy.version` may be wrong about the
/// image.
const READERS: [(&str, &[(u8, u8)]); 3] = [
    ("bookworm", &[(2, 4), (2, 6)]),
    ("trixie", &[(2, 4), (2, 6), (2, 8), (3, 0)]),
    ("sid", &[(2, 8), (3, 0), (3, 2), (3, 4)]),
];

const LUA: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/lbctl.lua"));

type Variation = (&'static str, fn(&mut Config));

fn variants() -> Vec<(&'static str, Config)> {
    let changes: [Variation; 18] = [
        ("all", |_| {}),
        ("package", |c| c.haproxy.runtime = Runtime::Package),
        ("no name", |c| c.haproxy.verify_host = None),
        ("no metrics", |c| c.haproxy.metrics = None),
        ("metrics by IPv6", |c| {
            c.haproxy.metrics.as_mut().unwrap().address = "::1".parse().unwrap();
        }),
        ("no replicas", |c| c.haproxy.replicas = None),
        ("replicas, any lag", |c| {
            c.haproxy.replicas = Some(Replicas {
                port: port(5433),
                max_lag: None,
            });
        }),
        ("one node", |c| {
            *most(c) = 1;
            nameservers(c).truncate(1);
        }),
        ("nameservers by IPv6 alone", |c| {
            nameservers(c).remove(0);
        }),
        ("other ports", |c| {
            c.haproxy.patroni_port = port(8008);
            c.haproxy.replicas.as_mut().unwrap().port = port(6432);
            c.haproxy.metrics.as_mut().unwrap().port = port(9404);
        }),
        ("nobody waits", |c| c.haproxy.hold = time("0s")),
        ("all wait, for long", |c| {
            c.haproxy.hold = time("5m");
            c.haproxy.primary_connections = Some(80);
        }),
        ("limits, lists, an address", |c| {
            c.haproxy.max_connections_per_client = Some(100);
            c.haproxy.address = [127, 0, 0, 1].into();
            c.haproxy.port = port(6432);
            let networks = (0..256).map(|n| IpNetwork::parse(&format!("10.{n}.0.0/16")).unwrap());
            c.haproxy.allow = networks.collect();
            c.haproxy.patroni_allow = vec![IpNetwork::parse("2001:db8::/32").unwrap()];
        }),
        ("everywhere, IPv6 too", |c| {
            c.haproxy.address = "::".parse().unwrap();
        }),
        ("an address of IPv6", |c| {
            c.haproxy.address = "::1".parse().unwrap();
        }),
        ("another port for Patroni", |c| {
            c.haproxy.patroni_passthrough = Some(port(8008));
        }),
        ("no port for Patroni", |c| {
            c.haproxy.patroni_passthrough = None;
        }),
        ("many nodes, other times", |c| {
            *most(c) = 100;
            c.haproxy.max_connections = 100_000;
            c.haproxy.timeouts.idle = time("7d");
            c.haproxy.check.interval = time("1s");
            c.haproxy.check.rise = 3;
            c.haproxy.hard_stop_after = time("90s");
        }),
    ];
    let build = |(label, change): Variation| {
        let mut config = sample_config();
        change(&mut config);
        (label, config)
    };
    changes.into_iter().map(build).collect()
}

#[test]
fn every_version_accepts_its_configuration_without_a_warning() {
    for (suite, versions) in READERS {
        let root = haproxy_root(suite);
        for ((label, mut config), &(major, minor)) in variants()
            .into_iter()
            .flat_map(|v| versions.iter().map(move |n| (v.clone(), n)))
        {
            config.haproxy.version = HaproxyVersion { major, minor };
            let path = format!("/tmp/{}.cfg", std::process::id());
            let text = haproxy_cfg(&config);
            let file = root.join(&path[1..]);
            // At its place in the guest, which the configuration names.
            write(&root.join("etc/haproxy/lbctl.lua"), LUA);
            // As a HAProxy reads it that was built without Lua: none of these has a device
            // detection.
            let without_lua = text.replace("feature(LUA)", "feature(51DEGREES)");
            for text in [text, without_lua] {
                write(&file, &text);
                // -V makes it say that the file is valid; nothing else may be said.
                let mut check = Command::new("chroot");
                let output = run(
                    "coreutils",
                    check
                        .arg(&root)
                        .args(["/usr/sbin/haproxy", "-c", "-V", "-f", &path]),
                    "",
                );
                let said = words(&output);
                assert_eq!(
                    said.trim(),
                    "Configuration file is valid",
                    "{label}, {major}.{minor} on {suite}"
                );
            }
            std::fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn what_a_version_lacks_is_left_out() {
    let text = |major, minor| {
        let mut config = sample_config();
        config.haproxy.version = HaproxyVersion { major, minor };
        haproxy_cfg(&config)
    };
    assert!(!text(3, 0).contains("init-state"));
    assert!(text(3, 1).contains("init-state down"));
}

#[test]
fn the_container_never_needs_root() {
    let mut config = sample_config();
    assert!(!haproxy_cfg(&config).contains("\n    user "));
    config.haproxy.runtime = Runtime::Package;
    assert!(haproxy_cfg(&config).contains("\n    user haproxy\n    group haproxy\n    chroot "));
}

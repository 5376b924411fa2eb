//! Public set-ups of HAProxy before Patroni, as configurations of lbctl (tests/setups): each is
//! valid, HAProxy takes what becomes of it, and up before nodes that behave as those do it leads to
//! the right ones (`live`, by story.py).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lbctl::testing::config::{self, Config, HaproxyVersion, Runtime};
use lbctl::testing::render::haproxy_cfg;

use super::oracle::{haproxy_root, run, scratch, tell, words, write};
use crate::support::inputs::{inputs, now};

const LUA: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/lbctl.lua"));

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setups")
}

/// By name: those that have a configuration.
fn setups() -> Vec<(String, Config)> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("lbctl.toml").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 14, "{names:?}");
    names
        .into_iter()
        .map(|name| {
            let config = configuration(&name);
            (name, config)
        })
        .collect()
}

fn configuration(name: &str) -> Config {
    let text = fs::read_to_string(folder().join(name).join("lbctl.toml")).unwrap();
    let loaded = config::parse(&text, name, &inputs(), now());
    loaded.unwrap_or_else(|report| panic!("{report}")).config
}

/// For the HAProxy of a suite. The set-ups are of no version and no runtime.
fn rendered(config: &Config, (major, minor): (u8, u8)) -> String {
    let mut config = config.clone();
    config.haproxy.runtime = Runtime::Package;
    config.haproxy.version = HaproxyVersion { major, minor };
    haproxy_cfg(&config)
}

#[test]
fn haproxy_takes_every_setup_without_a_warning() {
    for (suite, version) in [
        ("bookworm", (2, 6)),
        ("trixie", (3, 0)),
        ("sid", (3, 2)),
        ("sid", (2, 6)),
    ] {
        let root = haproxy_root(suite);
        let path = format!("/tmp/setups-{}.cfg", std::process::id());
        let file = root.join(&path[1..]);
        // Who is known by name alone is resolved when HAProxy reads its file.
        let hosts = (1..=3).map(|n| format!("192.0.2.3{n} n{n}.zone1.example.net\n"));
        write(&root.join("etc/hosts"), &hosts.collect::<String>());
        write(&root.join("etc/haproxy/lbctl.lua"), LUA);
        for (name, config) in setups() {
            write(&file, &rendered(&config, version));
            let mut check = Command::new("chroot");
            check
                .arg(&root)
                .args(["/usr/sbin/haproxy", "-c", "-V", "-f", &path]);
            let said = words(&run("coreutils", &mut check, ""));
            assert_eq!(
                said.trim(),
                "Configuration file is valid",
                "{name} on {suite}"
            );
        }
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn the_table_has_each_setup() {
    let table = fs::read_to_string(folder().join("README.md")).unwrap();
    for (name, _) in setups() {
        let row = format!("| [{name}]({name}/lbctl.toml) |");
        assert!(
            table.contains(&row),
            "tests/setups/README.md: no row `{row}`"
        );
    }
}

/// Each of them up before its nodes.
pub(super) fn serve(suite: &str, version: (u8, u8)) {
    let given = scratch();
    for (name, config) in setups() {
        let at = given.path().join(&name);
        write(&at.join("haproxy.cfg"), &rendered(&config, version));
        let nodes = fs::read_to_string(folder().join(&name).join("cluster.toml")).unwrap();
        let nodes: toml::Value = toml::from_str(&nodes).unwrap();
        write(
            &at.join("cluster.json"),
            &serde_json::to_string(&nodes).unwrap(),
        );
    }
    tell("setups/story.py", suite, &[given.path().as_ref()]);
}

/// A real pgbouncer, reached by the set-up whose pooler takes a PROXY header.
pub(super) fn pooler(suite: &str, version: (u8, u8)) {
    let given = scratch();
    let cfg = given.path().join("haproxy.cfg");
    write(
        &cfg,
        &rendered(&configuration("pooler-with-proxy-header"), version),
    );
    tell("setups/pooler.py", suite, &[cfg.as_ref()]);
}

//! systemd's judgement of the units: that it reads each line of them, and how much of the machine a
//! service is exposed to (`systemd-analyze security`; 10 is everything).

use std::path::Path;
use std::process::Command;

use lbctl::testing::config::{Config, Runtime};

use super::oracle::{must, run, scratch, words, write};
use super::sample::{guest_files, sample_config, tls};

/// The most that a unit may reach, in tenths: 4.0.
const MOST: &str = "40";
const UNITS: &str = "etc/systemd/system";
/// As Debian and Ubuntu have it, as far as it matters.
const NODE_EXPORTER: &str =
    "[Service]\nUser=prometheus\nExecStart=/usr/bin/prometheus-node-exporter\n";

const KEEPALIVED: &str =
    "[Service]\nType=notify\nExecStart=/usr/sbin/keepalived --dont-fork $DAEMON_ARGS\n";

fn with_runtime(runtime: Runtime) -> Config {
    let mut config = sample_config();
    config.haproxy.runtime = runtime;
    config
}

/// A root with everything that is systemd's, and the names of the services in it.
fn units_of(config: &Config, root: &Path) -> Vec<String> {
    let folder = root.join(UNITS);
    let mut services = Vec::new();
    let mut put = |name: &str, text: &str| {
        write(&folder.join(name), text);
        if name.ends_with(".service") {
            services.push(name.to_owned());
        }
    };
    for file in guest_files(config, &tls()) {
        if let Some(name) = file.path.strip_prefix(&format!("/{UNITS}/")) {
            put(name, file.content.expose());
        }
    }
    put("prometheus-node-exporter.service", NODE_EXPORTER);
    if config.virtual_ip.is_some() {
        put("keepalived.service", KEEPALIVED);
    }
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let ending = path.extension().and_then(std::ffi::OsStr::to_str);
        if matches!(ending, Some("service" | "timer")) {
            put(&name, &std::fs::read_to_string(&path).unwrap());
        }
    }
    // Of a template an instance is judged.
    for service in &mut services {
        *service = service.replace("@.", "@lb-1.");
    }
    services
}

#[test]
fn no_unit_is_exposed_to_more_than_it_needs() {
    for runtime in [Runtime::Package, Runtime::Container] {
        let root = scratch();
        let mut services = units_of(&with_runtime(runtime), root.path());
        // The distribution's own unit, of a program that sets addresses and speaks for them.
        services.retain(|service| service != "keepalived.service");
        assert_eq!(services.len(), 10, "{services:?}");
        for service in services {
            let mut judge = Command::new("systemd-analyze");
            judge
                .args(["security", "--offline=yes", "--no-pager", "--threshold"])
                .arg(MOST)
                .arg("--root")
                .args([root.path(), Path::new(&service)]);
            let said = must("systemd", &mut judge, "");
            assert!(said.contains("Overall exposure level"), "{said}");
        }
    }
}

#[test]
fn the_judge_of_exposure_sees_drop_ins_and_refuses() {
    let root = scratch();
    units_of(&with_runtime(Runtime::Package), root.path());
    let drop_in = root
        .path()
        .join(UNITS)
        .join("haproxy.service.d/50-lbctl.conf");
    std::fs::remove_file(drop_in).unwrap();
    let mut judge = Command::new("systemd-analyze");
    judge
        .args(["security", "--offline=yes", "--threshold", MOST, "--root"])
        .args([root.path(), Path::new("haproxy.service")]);
    assert!(!run("systemd", &mut judge, "").status.success());
}

#[test]
fn systemd_reads_every_line_of_the_units() {
    for runtime in [Runtime::Package, Runtime::Container] {
        let root = scratch();
        let mut services = units_of(&with_runtime(runtime), root.path());
        services.push("lbctl-save-state.timer".into());
        services.push("lbctl-renew.timer".into());
        services.push("lbctl-renew@lb-1.timer".into());
        services.push("lbctl-metrics@lb-1.timer".into());
        for program in [
            "usr/local/lib/lbctl/lbctl-guest",
            "usr/sbin/haproxy",
            "usr/bin/prometheus-node-exporter",
            "usr/sbin/keepalived",
            "bin/kill",
            "usr/bin/lbctl",
            "bin/echo",
            "bin/rm",
            "bin/sh",
        ] {
            let path = root.path().join(program);
            write(&path, "#!/bin/sh\n");
            must("coreutils", Command::new("chmod").arg("+x").arg(path), "");
        }
        for target in ["sysinit", "basic", "shutdown", "multi-user", "timers"] {
            let unit = root.path().join(UNITS).join(format!("{target}.target"));
            write(&unit, "[Unit]\nDescription=There\n");
        }
        let mut judge = Command::new("systemd-analyze");
        judge
            .args(["verify", "--man=no", "--recursive-errors=no", "--root"])
            .arg(root.path())
            .args(&services);
        let output = run("systemd", &mut judge, "");
        assert!(
            output.status.success() && words(&output).trim().is_empty(),
            "{}",
            words(&output)
        );
    }
}

/// A running guest with another unit has HAProxy started again, which cuts every session: by an
/// upgrade of lbctl nothing of that kind may come. These are the units of 0.1.0.
#[test]
fn the_unit_of_haproxy_is_that_of_0_1_0() {
    for (runtime, expected) in [
        (
            Runtime::Package,
            "aa6e7365ad486efbf6971363cd8ca924675ad081aac6fffedfe2ed0c97c1c97c",
        ),
        (
            Runtime::Container,
            "ed89729b182125e8d863b27c6aa6eda5bd01f9bd17ecb009e9df0bcb3b08f5bb",
        ),
    ] {
        let files = guest_files(&with_runtime(runtime), &tls());
        let unit = files
            .iter()
            .find(|f| f.path == "/etc/systemd/system/haproxy.service");
        let text = unit.unwrap().content.expose();
        let digest = must("coreutils", &mut Command::new("sha256sum"), text);
        assert_eq!(digest.split(' ').next(), Some(expected));
    }
}

/// systemd 252 makes folders on the disk for some settings, and starts nothing where it cannot
/// (seen in a guest with a full and with a read-only disk).
#[test]
fn no_sandbox_needs_a_disk_that_can_be_written() {
    for runtime in [Runtime::Package, Runtime::Container] {
        for file in guest_files(&with_runtime(runtime), &tls()) {
            // fluentd's buffers are on the disk.
            if !file.path.contains(UNITS) || file.path.ends_with("/fluentd.service") {
                continue;
            }
            let text = file.content.expose();
            for setting in ["PrivateDevices=", "PrivateTmp=", "DynamicUser="] {
                let has = text.lines().any(|line| line.starts_with(setting));
                assert!(!has, "{}: {setting}", file.path);
            }
        }
    }
    let old_workers = include_str!("../../../templates/guest/lbctl_guest/haproxy.py");
    assert!(!old_workers.contains("\"PrivateDevices") && !old_workers.contains("\"PrivateTmp"));
}

#[test]
fn what_prepares_haproxy_is_outside_of_its_sandbox() {
    for (runtime, start) in [
        // HAProxy starts whatever becomes of it.
        (Runtime::Package, "ExecStartPre=-+"),
        // Without the image there is nothing to start.
        (Runtime::Container, "ExecStartPre=+"),
    ] {
        let files = guest_files(&with_runtime(runtime), &tls());
        let drop_in = files
            .iter()
            .find(|f| f.path.ends_with("/haproxy.service.d/50-lbctl.conf"));
        let text = drop_in.unwrap().content.expose();
        let program = "/usr/local/lib/lbctl/lbctl-guest";
        for line in [
            &format!(
                "ExecStartPre=\n{start}{program} prepare\nExecStartPre=+/bin/sh -c '{program} ports; test $$? -ne 3'\n"
            ),
            &format!("ExecReload=\nExecReload=+{program} reload\n"),
            &format!("ExecStop=\nExecStop=-+{program} save-state\n"),
        ] {
            assert!(text.contains(line.as_str()), "{line} is not in:\n{text}");
        }
    }
}

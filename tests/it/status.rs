//! What `lbctl status` shows, as a value becomes lines and a document. Nothing is asked of anybody
//! here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lbctl::testing::cert::Facts;
use lbctl::testing::guest::{Guest, GuestStatus};
use lbctl::testing::host::{AgentChannel, HostResult};
use lbctl::testing::status::{Address, Certificate, GuestAnswer, Status};
use serde_json::{Value, json};
use time::macros::datetime;
use unicode_width::UnicodeWidthStr;

use crate::support::run;

/// A guest agent whose guest says this.
struct Says(Value);

impl AgentChannel for Says {
    fn agent(&self, _: &str, command: &str, _: Duration) -> HostResult<String> {
        let answer = if command.contains("guest-exec-status") {
            json!({"exited": true, "exitcode": 0, "out-data": BASE64.encode(self.0.to_string())})
        } else {
            json!({"pid": 1})
        };
        Ok(json!({"return": answer}).to_string())
    }
}

fn document(status: &Status) -> Value {
    serde_json::to_value(status.to_document()).unwrap()
}

fn said(status: Value) -> GuestStatus {
    let channel = Says(status);
    Guest::new(&channel, "lb")
        .status(Duration::from_secs(5))
        .unwrap()
}

fn node(name: &str, address: &str, state: &str, check: &str, code: u32, words: &str) -> Value {
    json!({
        "backend": "primary", "name": name, "address": address, "state": state, "check": check,
        "check_code": code, "check_detail": (!words.is_empty()).then_some(words),
        "last_change_s": 772, "sessions": 12,
    })
}

pub fn guest() -> Value {
    json!({
        "boot_id": "a04ed582-cad0-486f-95f8-018e56d7a80b", "uptime_s": 1647.99, "ready": true,
        "cloud_init": {"status": "done", "errors": []},
        "certificate": {"on_disk": {"serial": "4781365d", "not_after": "2026-12-02T19:36:58Z"},
                        "in_use": {"serial": "4781365d", "not_after": "2026-12-02T19:36:58Z"}},
        "haproxy": {"active": true, "version": "2.6.12-1+deb12u4", "sessions": 13, "max_connections": 2064, "held": 0,
                    "servers_up": 1, "primary": "10.77.0.12", "servers": [
            node("node1", "10.77.0.11", "DOWN", "* L7STS", 0, ""),
            node("node2", "10.77.0.12", "UP", "L7OK", 200, ""),
            node("node3", "10.77.0.13", "DOWN", "L7STS", 503, "Service Unavailable"),
        ]},
    })
}

fn status(answer: GuestAnswer) -> Status {
    let not_after = datetime!(2026-12-02 19:36:58 UTC);
    Status {
        name: "lb-1".into(),
        at: datetime!(2026-11-22 19:49:20.5 UTC),
        uri: "qemu:///system".into(),
        state: "running".into(),
        reason: None,
        addresses: vec![
            Address {
                ip: Some("192.168.150.20".parse().unwrap()),
                at: "network lab".into(),
            },
            Address {
                ip: Some("10.0.0.7".parse().unwrap()),
                at: "macvtap on eth1".into(),
            },
        ],
        certificate: Some(Certificate {
            facts: Some(Facts {
                subject: "CN=patroni-client".into(),
                issuer: "CN=ca".into(),
                serial: "4781365d".into(),
                not_before: datetime!(2026-11-22 19:36:58 UTC),
                not_after,
                key_algorithm: "ECDSA P-256".into(),
                fingerprint: String::new(),
            }),
            due: None,
            elsewhere: false,
        }),
        seed_unknown: None,
        guest: answer,
        patroni_tls: "mutual",
        verify_host: Some("server.postgres.local".into()),
        verified: "verified by CA and by name (server.postgres.local)".into(),
        holds: true,
        known_as: None,
        leader: "primary",
        is_ours: true,
        drift: Ok(Vec::new()),
        restart_pending: false,
        notes: Vec::new(),
    }
}

pub fn answers(guest: Value) -> Status {
    status(GuestAnswer::Status(Box::new(said(guest))))
}

fn lines(status: &Status, columns: Option<usize>) -> Vec<String> {
    let lines = status.lines(columns, false);
    lines.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(status: &Status, expected: &str) {
    let lines = lines(status, Some(80));
    assert!(lines.iter().all(|l| l.width() <= 80), "{lines:#?}");
    let shown = lines.join("\n");
    assert!(
        shown == expected.trim(),
        "shown is\n{shown}\nexpected was\n{}",
        expected.trim()
    );
}

#[test]
fn all_is_well() {
    check(
        &answers(guest()),
        "
lb-1: ready
  domain       running at qemu:///system
  address      192.168.150.20 (network lab)
               10.0.0.7 (macvtap on eth1)
  uptime       27 min
  cloud-init   done
  certificate  CN=patroni-client, until 2026-12-02, 9 days left
               serial 4781365d
               on the guest's disk and in use by HAProxy: this one
  nodes' TLS   verified by CA and by name (server.postgres.local)
  haproxy      version 2.6.12-1+deb12u4, 13 of 2064 connections
  primary      10.77.0.12 (node2)
  nodes        name   address     role     since   sessions
               node1  10.77.0.11  replica  12 min  12
               node2  10.77.0.12  primary  12 min  12
               node3  10.77.0.13  replica  12 min  12
  drift        none",
    );
}

#[test]
fn a_guest_that_is_off_and_one_that_is_silent() {
    let mut off = status(GuestAnswer::Off);
    off.state = "absent".into();
    off.certificate = None;
    off.addresses.truncate(1);
    off.drift = Ok(vec!["lb-1: to be created".into()]);
    check(
        &off,
        "
lb-1: not ready: the domain does not exist
  domain       absent at qemu:///system
  hint         `lbctl up --wait` creates it",
    );

    let mut silent = status(GuestAnswer::None(
        "its agent does not answer: not connected".into(),
    ));
    silent.addresses.truncate(1);
    silent.certificate.as_mut().unwrap().due = Some("the one in use expires in 9 days".into());
    silent.drift = Ok(["memory: 512 MiB -> 768 MiB (restart)"; 3]
        .map(String::from)
        .to_vec());
    check(
        &silent,
        "
lb-1: not ready: the guest does not answer
  domain       running at qemu:///system
  address      192.168.150.20 (network lab)
  guest        its agent does not answer: not connected
  certificate  CN=patroni-client, until 2026-12-02, 9 days left, renewal due
               serial 4781365d
               due: the one in use expires in 9 days; `lbctl renew` renews it
  nodes' TLS   verified by CA and by name (server.postgres.local)
  drift        3 changes (see `lbctl plan`): memory: 512 MiB -> 768 MiB (rest...",
    );
}

#[test]
fn the_reason_why_it_is_not_ready_is_in_the_first_line() {
    let with = |path: &str, value: Value| {
        let mut guest = guest();
        guest["ready"] = json!(false);
        guest["haproxy"]["servers_up"] = json!(0);
        *guest.pointer_mut(path).unwrap() = value;
        answers(guest)
    };
    for (status, why) in [
        (
            with("/cloud_init/status", json!("running")),
            "cloud-init is running",
        ),
        (
            with("/cloud_init/status", json!("error")),
            "cloud-init failed",
        ),
        (
            with("/haproxy/servers_up", json!(0)),
            "no node is the primary",
        ),
        (
            with("/haproxy/servers_up", json!(2)),
            "2 nodes are primaries",
        ),
        (
            with("/haproxy/active", json!(false)),
            "HAProxy is not running",
        ),
    ] {
        assert_eq!(
            lines(&status, Some(80))[0],
            format!("lb-1: not ready: {why}")
        );
        assert_eq!(document(&status)["ready"], false);
        assert_eq!(document(&status)["not_ready_because"], why);
    }
}

#[test]
fn a_slow_node_is_not_one_that_says_no_and_those_who_wait_are_counted() {
    let mut guest = guest();
    guest["ready"] = json!(false);
    guest["haproxy"]["servers_up"] = json!(0);
    guest["haproxy"]["primary"] = Value::Null;
    guest["haproxy"]["held"] = json!(12);
    guest["haproxy"]["servers"] = json!([
        node("node1", "10.77.0.11", "DOWN", "* L6TOUT", 0, ""),
        node("node2", "10.77.0.12", "NOLB 5/5", "L7OKC", 200, ""),
        node("node3", "10.77.0.13", "DOWN", "L4CON", 0, ""),
    ]);
    let seen = lines(&answers(guest.clone()), None);
    let from = |start: &str| seen.iter().position(|l| l.contains(start)).unwrap();
    let text = seen[from("primary ")..from("drift ")].join("\n");
    let expected = "
  primary      none: 0 nodes are up, but exactly one is required
               12 clients wait for a primary
  nodes        name   address     role      since   sessions
               node1  10.77.0.11  slow      12 min  12        too slow for TLS (L6TOUT)
               node2  10.77.0.12  stopping  12 min  12        PostgreSQL stops there (L7OKC)
               node3  10.77.0.13  FAILED    12 min  12        Patroni's port is not reached (L4CON)
  hint         the node, Patroni's service, firewall, route";
    assert_eq!(text, &expected[1..]);
    assert_eq!(
        document(&answers(guest.clone()))["haproxy"]["held_clients"],
        12
    );

    guest["haproxy"]["held"] = Value::Null;
    let mut status = answers(guest);
    let missing = "no client can wait for one: this HAProxy has not loaded lbctl's Lua";
    assert!(lines(&status, None).join("\n").contains(missing));
    status.holds = false;
    assert!(!lines(&status, None).join("\n").contains(missing));
}

/// Each row: what HAProxy says of three nodes, the first line, the role and words of the last node,
/// and the advice.
#[test]
fn each_role_has_its_word_and_trouble_has_its_advice() {
    let no = ("DOWN", "L7STS", 503);
    let up = ("UP", "L7OK", 200);
    let rows = [
        ([up, no, no], "ready", "replica", ""),
        (
            [no, no, no],
            "not ready: the cluster has no leader",
            "no leader",
            "`patronictl list`, etcd",
        ),
        (
            [no, no, ("DOWN", "L7RSP", 200)],
            "not ready: no node is the primary",
            "changing  12 min  12        is being promoted, or PostgreSQL stops (L7RSP)",
            "",
        ),
        (
            [up, no, ("DOWN", "SOCKERR", 0)],
            "ready",
            "FAILED   12 min  12        refuses the client certificate (SOCKERR)",
            "`lbctl renew --check`, `restapi.cafile`, the clocks",
        ),
        (
            [up, no, ("DOWN", "L7STS", 500)],
            "ready",
            "FAILED   12 min  12        L7STS 500",
            "",
        ),
        (
            [up, up, up],
            "not ready: 3 nodes are primaries",
            "primary",
            "`patronictl list`: stop the wrong one",
        ),
        ([up, no, ("MAINT", "L7OK", 200)], "ready", "disabled", ""),
        ([up, no, ("DOWN", "", 0)], "ready", "unknown", ""),
        ([up, no, ("DOWN 1/3", "L7OK", 200)], "ready", "changing", ""),
        (
            [up, no, ("DOWN", "L4TOUT", 0)],
            "ready",
            "FAILED",
            "the node, Patroni's service, firewall, route",
        ),
    ];
    for (nodes, first, role, advice) in rows {
        let mut guest = guest();
        let servers = nodes
            .iter()
            .enumerate()
            .map(|(index, (state, check, code))| {
                let address = format!("10.77.0.1{index}");
                node(&format!("node{index}"), &address, state, check, *code, "")
            });
        guest["haproxy"]["servers"] = servers.collect();
        let count = nodes.iter().filter(|node| **node == up).count();
        guest["haproxy"]["servers_up"] = json!(count);
        guest["ready"] = json!(count == 1);
        let lines = lines(&answers(guest), None);
        assert_eq!(lines[0], format!("lb-1: {first}"));
        let last = lines.iter().rfind(|line| line.contains("node2")).unwrap();
        assert!(last.contains(&format!("10.77.0.12  {role}")), "{last}");
        let hint = lines
            .iter()
            .find_map(|line| line.strip_prefix("  hint         "));
        assert_eq!(hint.unwrap_or_default(), advice, "{lines:#?}");
    }
}

#[test]
fn a_further_port_has_nodes_that_serve_it() {
    let mut guest = guest();
    for server in guest["haproxy"]["servers"].as_array_mut().unwrap() {
        server["backend"] = json!("reports");
    }
    let status = answers(guest);
    let text = lines(&status, None).join("\n");
    for row in ["node1  10.77.0.11  other role", "node2  10.77.0.12  serves"] {
        assert!(text.contains(row), "{text}");
    }
    assert_eq!(
        document(&status)["haproxy"]["servers"][1]["role"],
        "serving"
    );
}

#[test]
fn a_domain_of_others_is_not_judged() {
    let mut status = answers(guest());
    status.is_ours = false;
    check(
        &status,
        "
lb-1: not ready: a domain of this name exists, and lbctl did not make it
  domain       running at qemu:///system
  hint         `lbctl plan` says what is in the way",
    );
}

#[test]
fn a_narrow_terminal_has_labels_above_their_values() {
    let lines = lines(&answers(guest()), Some(40));
    let text = lines.join("\n");
    for piece in [
        "\n  domain\n    running at qemu:///system\n",
        "\n  drift\n    none",
    ] {
        assert!(text.contains(piece), "{text}");
    }
    assert!(lines.iter().all(|line| line.width() <= 40), "{text}");
}

/// What waits for a restart was agreed on.
#[test]
fn what_waits_for_a_restart_is_no_drift() {
    let mut status = answers(guest());
    status.drift = Ok(vec!["memory: 256 MiB -> 384 MiB (restart)".into()]);
    status.restart_pending = true;
    let lines = lines(&status, None);
    let end = &lines[lines.len() - 2..];
    assert_eq!(
        end,
        [
            "  drift        none",
            "  pending      restart (`lbctl restart`): memory: 256 MiB -> 384 MiB (restart)"
        ]
    );
}

#[test]
fn another_certificate_in_the_guest_is_said() {
    let mut guest = guest();
    guest["certificate"]["in_use"]["serial"] = json!("99");
    let status = answers(guest);
    let text = lines(&status, None).join("\n");
    assert!(text.contains("on the guest's disk: this one"), "{text}");
    assert!(
        text.contains("in use by HAProxy: another one, serial 99"),
        "{text}"
    );
    let certificate = &document(&status)["certificate"];
    assert_eq!(certificate["on_disk_is_seeds"], true);
    assert_eq!(certificate["in_use_is_seeds"], false);
}

#[test]
fn off_a_terminal_no_line_is_broken_or_cut() {
    let mut status = answers(guest());
    status.drift = Ok(vec!["x".repeat(100), "y".repeat(100)]);
    let lines = lines(&status, None);
    assert!(lines.last().unwrap().ends_with(&"y".repeat(100)));
    let raw = status.lines(None, true);
    assert!(
        raw.iter()
            .any(|l| l.text().ends_with("L7STS 503 Service Unavailable"))
    );
}

/// A guest that lies in every field can neither drive the terminal nor fill it.
#[test]
fn a_hostile_guest_is_shown_and_no_more() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}\u{200b}高".repeat(4);
    let long = evil.repeat(40);
    let server = json!({
        "backend": evil, "name": evil, "address": evil, "state": evil, "check": evil, "check_detail": evil,
        "check_code": -7, "last_change_s": u64::MAX, "sessions": u64::MAX,
    });
    let status = answers(json!({
        "boot_id": evil, "uptime_s": 1e300, "ready": true,
        "cloud_init": {"status": long, "stage": evil, "errors": vec![evil.clone(); 400]},
        "certificate": {"on_disk": {"serial": evil, "not_after": evil}},
        "haproxy": {"version": long, "sessions": u64::MAX, "max_connections": u64::MAX, "servers_up": u32::MAX,
                    "primary": evil, "error": long, "servers": vec![server; 250]},
    }));
    let text = document(&status).to_string();
    for columns in [Some(40), Some(80), None] {
        let lines = lines(&status, columns);
        assert!(lines.len() < 1000, "{}", lines.len());
        for line in &lines {
            assert!(line.width() <= columns.unwrap_or(usize::MAX), "{line}");
            assert!(
                !line
                    .chars()
                    .any(|c| c.is_control() || "\u{202e}\u{200b}".contains(c)),
                "{line:?}"
            );
        }
    }
    assert!(
        !text.contains("\\u001b") && text.len() < 500_000,
        "{}",
        text.len()
    );
    assert_eq!(document(&status)["uptime_seconds"], Value::Null);
}

#[test]
fn the_document_has_what_the_lines_have() {
    let document = document(&answers(guest()));
    for (pointer, expected) in [
        ("/ready", json!(true)),
        ("/not_ready_because", Value::Null),
        ("/time", json!("2026-11-22T19:49:20Z")),
        ("/domain/state", json!("running")),
        ("/address", json!("192.168.150.20")),
        ("/addresses", json!(["192.168.150.20", "10.0.0.7"])),
        ("/uptime_seconds", json!(1647)),
        ("/cloud_init/status", json!("done")),
        ("/certificate/serial", json!("4781365d")),
        ("/certificate/not_after", json!("2026-12-02T19:36:58Z")),
        ("/certificate/days_left", json!(9)),
        ("/certificate/due", json!(false)),
        ("/certificate/reason", Value::Null),
        ("/certificate/in_use_is_seeds", json!(true)),
        ("/haproxy/primary", json!("10.77.0.12")),
        ("/haproxy/sessions", json!(13)),
        ("/uri", json!("qemu:///system")),
        ("/haproxy/servers/1/role", json!("primary")),
        ("/haproxy/servers/2/role", json!("replica")),
        ("/haproxy/servers/2/check", json!("L7STS")),
        ("/haproxy/servers/2/last_change_seconds", json!(772)),
        ("/drift", json!([])),
    ] {
        assert_eq!(
            document.pointer(pointer),
            Some(&expected),
            "{pointer} of {document:#}"
        );
    }
}

/// The example for a monitor, with an lbctl that prints this status.
#[track_caller]
fn monitor_says(status: &Status, code: i32, said: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("document"), document(status).to_string()).unwrap();
    let program = format!("#!/bin/sh\ncat {}\n", at("document").display());
    fs::write(at("lbctl"), program).unwrap();
    fs::set_permissions(at("lbctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!(
        "PATH={}:$PATH sh {}/examples/check_lbctl lbctl.toml",
        folder.path().display(),
        env!("CARGO_MANIFEST_DIR")
    );
    let ran = run("sh", ["-c", &line]).ended(code);
    assert_eq!(ran.stdout.trim(), said, "{ran}");
}

#[test]
fn a_monitor_hears_of_the_primary_of_drift_and_of_the_certificate() {
    let mut status = answers(guest());
    status
        .certificate
        .as_mut()
        .unwrap()
        .facts
        .as_mut()
        .unwrap()
        .not_after += Duration::from_secs(90 * 24 * 60 * 60);
    monitor_says(
        &status,
        0,
        "OK: primary 10.77.0.12, the certificate ends in 99 days",
    );
    // A text of several lines stays one text.
    status.drift = Ok(vec!["memory: 512 MiB -> 768 MiB".into(), "a\nb".into()]);
    monitor_says(
        &status,
        1,
        "WARNING: differs from its file: memory: 512 MiB -> 768 MiB; a\nb",
    );
    status.certificate = None;
    status.drift = Ok(Vec::new());
    monitor_says(&status, 0, "OK: primary 10.77.0.12");
    let due = answers(guest());
    monitor_says(&due, 1, "WARNING: the certificate ends in 9 days");
}

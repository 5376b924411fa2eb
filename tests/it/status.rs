//! What `lbctl status` shows, as a value becomes lines and a document. Nothing is asked of anybody
//! here.

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

fn guest() -> Value {
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
        addresses: vec![
            Address {
                ip: "192.168.150.20".into(),
                at: "network lab".into(),
            },
            Address {
                ip: "10.0.0.7".into(),
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
        }),
        guest: answer,
        verify_host: Some("server.postgres.local".into()),
        holds: true,
        drift: Ok(Vec::new()),
    }
}

fn answers(guest: Value) -> Status {
    status(GuestAnswer::Status(Box::new(said(guest))))
}

#[track_caller]
fn check(status: &Status, expected: &str) {
    let lines = status.lines(Some(80));
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
  certificate  CN=patroni-client, until 2026-12-02, 9 days left, not due
               serial 4781365d
               on the guest's disk and in use by HAProxy: this one
  nodes' TLS   verified by CA and by name (server.postgres.local)
  haproxy      version 2.6.12-1+deb12u4, 13 of 2064 connections
  primary      10.77.0.12 (node2)
  nodes        name   address     state  since   sessions  check
               node1  10.77.0.11  DOWN   12 min  12        L7STS
               node2  10.77.0.12  UP     12 min  12        L7OK 200
               node3  10.77.0.13  DOWN   12 min  12        L7STS 503 Service...
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
  address      192.168.150.20 (network lab)
  certificate  none: there is no seed
  nodes' TLS   verified by CA and by name (server.postgres.local)
  drift        lb-1: to be created",
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
  certificate  CN=patroni-client, until 2026-12-02, 9 days left, due
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
        assert_eq!(status.lines(Some(80))[0], format!("lb-1: not ready: {why}"));
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
    let lines = answers(guest.clone()).lines(None);
    let from = |start: &str| lines.iter().position(|l| l.contains(start)).unwrap();
    let text = lines[from("primary ")..from("drift ")].join("\n");
    let expected = "
  primary      none: 0 nodes are up, but exactly one is required
               12 clients wait for a primary
  nodes        name   address     state     since   sessions  check
               node1  10.77.0.11  slow      12 min  12        L6TOUT
               node2  10.77.0.12  stopping  12 min  12        L7OKC 200
               node3  10.77.0.13  DOWN      12 min  12        L4CON";
    assert_eq!(text, &expected[1..]);
    assert_eq!(
        document(&answers(guest.clone()))["haproxy"]["held_clients"],
        12
    );

    guest["haproxy"]["held"] = Value::Null;
    let mut status = answers(guest);
    let missing = "no client can wait for one: this HAProxy has not loaded lbctl's Lua";
    assert!(status.lines(None).join("\n").contains(missing));
    status.holds = false;
    assert!(!status.lines(None).join("\n").contains(missing));
}

#[test]
fn another_certificate_in_the_guest_is_said() {
    let mut guest = guest();
    guest["certificate"]["in_use"]["serial"] = json!("99");
    let status = answers(guest);
    let text = status.lines(None).join("\n");
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
    let lines = status.lines(None);
    assert!(lines.last().unwrap().ends_with(&"y".repeat(100)));
    assert!(lines.iter().any(|l| l.ends_with("Service Unavailable")));
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
        let lines = status.lines(columns);
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

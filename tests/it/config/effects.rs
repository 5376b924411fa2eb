//! What the keys of `[haproxy]` do: from a line of the file to the line that HAProxy, or Docker,
//! reads.

use lbctl::testing::config::{self, Config};
use lbctl::testing::render::{haproxy_cfg, image_reference};

use crate::support::inputs::{inputs, now};

const MINIMAL: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/config/minimal/lbctl.toml"
));

/// The minimal file with more lines in `[haproxy]`, or with other values for its own.
fn with(lines: &str) -> Config {
    let mut text = MINIMAL.to_owned();
    for line in lines.lines() {
        let key = line.split(' ').next().unwrap();
        let own = |l: &&str| l.split(' ').next() == Some(key);
        match MINIMAL.lines().find(own) {
            Some(old) => text = text.replace(old, line),
            None => text = text.replace("[haproxy]\n", &format!("[haproxy]\n{line}\n")),
        }
    }
    match config::parse(&text, "lbctl.toml", &inputs(), now()) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    }
}

/// Each of the texts is in the configuration; none of those with a `!` in front does.
#[track_caller]
fn gives(lines: &str, texts: &[&str]) {
    let cfg = haproxy_cfg(&with(lines));
    for text in texts {
        match text.strip_prefix('!') {
            Some(absent) => assert!(!cfg.contains(absent), "{lines}: {absent} in\n{cfg}"),
            None => assert!(cfg.contains(text), "{lines}: no {text} in\n{cfg}"),
        }
    }
}

#[test]
fn the_defaults() {
    gives(
        "",
        &[
            "nameserver ns1 192.168.122.161:53\n",
            "\n    maxconn 2000\n",
            "bind *:5432 ",
            "bind *:4443 ",
            " port 4443 verify required ca-file ",
            "inter 500ms fastinter 50ms downinter 250ms rise 1 fall 5 init-state down\n",
            "hard-stop-after 1h\n",
            "bind 0.0.0.0:8405\n",
            "lua.hold 10000 0 350 600 unless { nbsrv eq 1 }\n",
            "server-template node 1-6 ",
            "hold obsolete 24h\n",
            "!allowed",
            "!stick-table",
            "!set-dst-port",
            "!verifyhost",
            "!standbys",
        ],
    );
}

#[test]
fn the_checks() {
    gives(
        r#"verify_host = "node.example.com""#,
        &["crt /etc/haproxy/client.pem verifyhost node.example.com check-sni node.example.com\n"],
    );
    gives(
        r#"check = { interval = "2s", fast = "300ms", down = 400, rise = 3, fall = 4 }"#,
        &["inter 2s fastinter 300ms downinter 400ms rise 3 fall 4"],
    );
    gives(
        r#"timeouts = { connect = "3s", check = "1s", idle = "2h" }"#,
        &[
            "timeout connect 3s\n",
            "timeout check 1s\n",
            "timeout client 2h\n",
            "timeout server 2h\n",
        ],
    );
}

#[test]
fn the_ports() {
    gives(
        "patroni_port = 8008",
        &[
            "bind *:8008 ",
            " check-ssl port 8008 ",
            "server primary 0.0.0.0:8008 ",
            "bind *:5432 ",
            "!4443",
        ],
    );
    gives(
        "port = 6432",
        &[
            "bind *:6432 tcp-ut 20s\n    maxconn ",
            "set-dst-port int(5432)",
            "!bind *:5432",
        ],
    );
    gives(
        "address = \"192.168.122.162\"\nreplicas_port = 5433",
        &[
            "bind 192.168.122.162:5432 ",
            "bind 192.168.122.162:4443 ",
            "bind 192.168.122.162:5433 ",
            "bind 0.0.0.0:8405\n",
            "!bind *",
        ],
    );
    gives(
        "patroni_passthrough = false",
        &["check-ssl port 4443 ", "!bind *:4443", "!backend rest"],
    );
    gives(
        "patroni_passthrough = 8008",
        &[
            "bind *:8008 ",
            "set-dst-port int(4443)",
            "server primary 0.0.0.0:4443 ",
            "!bind *:4443",
        ],
    );
    gives(
        "replicas_port = 5433",
        &[
            "bind *:5433 ",
            "uri /replica ver",
            "server-template replica 1-6 server.postgres.local:5432\n",
        ],
    );
    gives(
        "replicas_port = 5433\nreplicas_max_lag = \"16MB\"",
        &["uri /replica?lag=16MB ver"],
    );
    gives(
        r#"metrics = { address = "127.0.0.1", port = 9404 }"#,
        &["bind 127.0.0.1:9404\n", "!8405"],
    );
    gives(
        r#"metrics = { address = "fd00::2" }"#,
        &["bind [fd00::2]:8405\n"],
    );
    gives("metrics = { enabled = false }", &["!metrics", "!/ready"]);
}

#[test]
fn nameservers_of_both_kinds() {
    gives(
        r#"postgres_nameserver_ips = ["10.0.0.53", "2001:db8::53"]"#,
        &[
            "nameserver ns1 10.0.0.53:53\n",
            "nameserver ns2 [2001:db8::53]:53\n",
        ],
    );
    gives(
        r#"postgres_nameserver_ips = ["2001:db8::53"]"#,
        &["nameserver ns1 [2001:db8::53]:53\n", "!ns2"],
    );
}

#[test]
fn the_limits() {
    gives(
        "max_connections = 500\nhard_stop_after = \"10m\"",
        &[
            "\n    maxconn 500\n",
            // Of the port for PostgreSQL, Patroni's and the metrics', and some more.
            "\n    maxconn 660\n",
            "hard-stop-after 10m\n",
        ],
    );
}

#[test]
fn who_may_connect() {
    gives(
        "allow = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]\npatroni_allow = [\"10.1.0.0/16\"]\nreplicas_port = 5433",
        &[
            "tcp-ut 20s\n    maxconn 2000\n    acl allowed src 10.0.0.0/8 2001:db8::/32 192.0.2.7/32\n    tcp-request connection reject unless allowed\n",
            "timeout client 5s\n    acl allowed src 10.1.0.0/16\n    tcp-request connection reject unless allowed\n",
        ],
    );
    gives(
        "max_connections_per_client = 50\nreplicas_port = 5433",
        &[
            "tcp-request connection reject if { sc0_conn_cur gt 50 }\n",
            "tcp-request connection reject if { sc0_conn_cur(postgres) gt 50 }\n",
        ],
    );
}

#[test]
fn who_waits() {
    gives(
        "hold = \"1m\"\nprimary_connections = 80\ncheck = { interval = \"2s\", down = \"1s\" }",
        &[
            "tcp-request inspect-delay 70000ms\n",
            "lua.hold 60000 80 1100 2100 unless { nbsrv eq 1 } { be_conn le 80 }\n",
            "retries 60\n",
            "server later4 127.0.0.1:1 backup\n",
            "!later5",
        ],
    );
    gives(
        "hold = \"0s\"",
        &[
            "lua-load",
            "tcp-request content reject unless { nbsrv eq 1 }\n",
            "!lua.hold",
            "!later",
        ],
    );
    gives(
        "runtime = \"package\"",
        &["unless { nbsrv eq 1 } { lua.settled -m int 1 }\n"],
    );
    gives(
        "version = \"2.5\"",
        &[
            "on-marked-down shutdown-sessions",
            "reject if { nbsrv gt 1 }",
            "default_backend primary",
            "!lua",
            "!later",
        ],
    );
}

#[test]
fn each_runtime_has_a_version_of_its_own() {
    gives("", &["# HAProxy 3.2,", "init-state", "!    user "]);
    gives(
        "runtime = \"package\"",
        &[
            "# HAProxy 2.6,",
            "!init-state",
            "    user haproxy\n    group haproxy\n",
        ],
    );
    gives(
        "runtime = \"package\"\nversion = \"3.2\"",
        &["# HAProxy 3.2,", "init-state"],
    );
}

#[test]
fn the_image() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    assert_eq!(image_reference(&with("")), "haproxy:3.2");
    assert_eq!(
        image_reference(&with("version = \"2.8\"\nimage = \"haproxytech/haproxy\"")),
        "haproxytech/haproxy:2.8"
    );
    assert_eq!(
        image_reference(&with(&format!("image_digest = \"{digest}\""))),
        format!("haproxy:3.2@{digest}")
    );
}

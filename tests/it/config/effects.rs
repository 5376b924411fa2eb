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

/// The minimal file with another `[haproxy]`, and `client` as `[haproxy.patroni_client]`.
fn with_haproxy(haproxy: &str, client: &str) -> String {
    let head = MINIMAL.split("[haproxy]").next().unwrap();
    let text = format!("{head}[haproxy]\n{client}{haproxy}");
    match config::parse(&text, "lbctl.toml", &inputs(), now()) {
        Ok(loaded) => haproxy_cfg(&loaded.config),
        Err(report) => panic!("{report}"),
    }
}

/// As `gives`.
#[track_caller]
fn has(cfg: &str, texts: &[&str]) {
    for text in texts {
        match text.strip_prefix('!') {
            Some(absent) => assert!(!cfg.contains(absent), "{absent} in\n{cfg}"),
            None => assert!(cfg.contains(text), "no {text} in\n{cfg}"),
        }
    }
}

const CLIENT: &str = "patroni_client = { ca_key = { file = \"ca.key\" }, ca_certificate = { file = \"ca.crt\" }, \
                      certificate_validity_period = 8760, certificate_early_renewal_period = 720 }\n";
const CA_ALONE: &str =
    "patroni_tls = \"server\"\npatroni_client = { ca_certificate = { file = \"ca.crt\" } }\n";
const OFF: &str = "patroni_tls = \"off\"\n";
const DOMAIN: &str = "postgres_nodes_max_count = 2\npostgres_nameserver_ips = [\"192.168.122.161\"]\npostgres_domain = \
                      \"server.postgres.local\"\n";
const ADDRESSES: &str = "nodes = [{ name = \"a\", address = \"192.0.2.1\" }, { name = \"b\", address = \"2001:db8::2\" }]\n";

#[test]
fn how_patroni_is_asked() {
    has(
        &with_haproxy(DOMAIN, CA_ALONE),
        &[
            "default-server check check-ssl port 4443 verify required ca-file /etc/haproxy/ca.pem\n",
            "accept if { req.ssl_hello_type 1 }\n",
            "!client.pem",
        ],
    );
    has(
        &with_haproxy(DOMAIN, OFF),
        &[
            "default-server check port 8008\n",
            "bind *:8008 ",
            "accept if { req.proto_http }\n",
            "server primary 0.0.0.0:8008 maxconn 2\n",
            "!ssl",
            "!/etc/haproxy/ca.pem",
        ],
    );
    has(
        &with_haproxy(&format!("patroni_port = 8443\n{DOMAIN}"), OFF),
        &["default-server check port 8443\n", "bind *:8443 "],
    );
}

#[test]
fn nodes_that_are_listed() {
    let cfg = with_haproxy(ADDRESSES, OFF);
    has(
        &cfg,
        &[
            "    server a 192.0.2.1\n    server b [2001:db8::2]\n",
            "server a 192.0.2.1:8008 track primary/a maxconn 2\n",
            "server b [2001:db8::2]:8008 track primary/b maxconn 2\n",
            "hdr Host patroni\n",
            "server later3 127.0.0.1:1 backup\n",
            "!later4",
            "!resolvers",
            "!server-template",
            "!set-dst-port",
        ],
    );
    // A port that all have is the client's; one that a node has alone is the server's.
    let other = "postgres_port = 6432\nreplicas_port = 5433\nnodes = [{ name = \"a\", address = \"192.0.2.1\" }, { name \
                 = \"b\", address = \"192.0.2.2\", port = 5432, patroni_port = 8009 }]\n";
    has(
        &with_haproxy(other, OFF),
        &[
            "set-dst-port int(6432)\n",
            "    server a 192.0.2.1\n    server b 192.0.2.2:5432 port 8009\n",
            "    server a 192.0.2.1:6432\n    server b 192.0.2.2:5432 port 8009\n",
            "server b 192.0.2.2:8009 track primary/b maxconn 2\n",
        ],
    );
    let names = "nodes = [{ name = \"a\", address = \"a.example.com\" }, { name = \"b\", address = \"192.0.2.2\" }, { name = \
                 \"c\", address = \"c.example.com\", verify_host = \"x.example.com\" }]\n";
    has(
        &with_haproxy(names, CLIENT),
        &[
            "server a a.example.com verifyhost a.example.com check-sni a.example.com init-addr last,libc,none\n",
            "server b 192.0.2.2\n",
            "server c c.example.com verifyhost x.example.com check-sni x.example.com init-addr last,libc,none\n",
            "!resolvers",
        ],
    );
    let resolved = format!(
        "postgres_nameserver_ips = [\"192.0.2.53\"]\nverify_host = \"all.example.com\"\n{names}"
    );
    has(
        &with_haproxy(&resolved, CLIENT),
        &[
            "crt /etc/haproxy/client.pem verifyhost all.example.com check-sni all.example.com\n",
            "server a a.example.com init-addr last,none resolvers dns resolve-prefer ipv4\n",
            "server b 192.0.2.2\n",
            "resolvers dns\n    nameserver ns1 192.0.2.53:53\n",
            "hdr Host all.example.com\n",
        ],
    );
}

#[test]
fn the_main_ports_role() {
    for (role, uri, roles) in [
        ("primary", "/primary", "(primary|master)"),
        (
            "standby_leader",
            "/standby-leader",
            "(standby_leader|replica)",
        ),
        ("leader", "/leader", "(primary|master|standby_leader)"),
    ] {
        let (uri, roles) = (format!("uri {uri} ver"), format!("\\s*\"{roles}\"'"));
        gives(&format!("role = \"{role}\""), &[&uri, &roles]);
    }
}

#[test]
fn services_by_role() {
    let one = |rest: &str| {
        let service = format!("services = [{{ name = \"x\", port = 5434, {rest} }}]\n");
        with_haproxy(&format!("{service}{DOMAIN}"), OFF)
    };
    for (role, uri, expected) in [
        ("replica", "/replica", r#"rstring '"role":\s*"replica"'"#),
        ("sync", "/synchronous", r#"rstring '"role":\s*"replica"'"#),
        ("async", "/asynchronous", r#"rstring '"role":\s*"replica"'"#),
        ("any", "/read-only", "L7OKC"),
        ("standby_leader", "/standby-leader", "lua.hold"),
        ("leader", "/leader", "lua.hold"),
    ] {
        let backend = format!("\nbackend x-{role}\n");
        let uri = format!("uri {uri} ver");
        let cfg = one(&format!("role = \"{role}\""));
        let own = cfg
            .split(&backend)
            .nth(1)
            .unwrap()
            .split("\n\n")
            .next()
            .unwrap();
        has(
            own,
            &[&uri, expected, "-6 server.postgres.local:5432"].map(|t| t.trim_start_matches("-6 ")),
        );
        has(
            &cfg,
            &[&format!("default_backend x-{role}\n"), "!set-dst-port"],
        );
        assert_eq!(
            own.contains("balance leastconn"),
            !own.contains("lua.hold"),
            "{own}"
        );
    }
    // What the main port's backend has needs no other.
    has(
        &one("role = \"primary\", postgres_port = 6432"),
        &[
            "set-dst-port int(6432)\n",
            "!backend x",
            "default_backend primary\n",
        ],
    );
    has(
        &one("role = \"primary\", proxy_protocol = \"v2\", postgres_port = 6432"),
        &[
            "\nbackend x-primary\n",
            "default-server tcp-ut 20s send-proxy-v2\n",
            "server-template node 1-4 server.postgres.local:6432\n",
        ],
    );
    has(
        &one(
            "role = \"replica\", fallback = \"primary\", max_lag = \"1MB\", tags = { \"a b\" = \"c&d\", e = true }",
        ),
        &[
            ".if feature(LUA)\n    use_backend primary if { nbsrv(x-replica) eq 0 } !{ lua.still_up(x-replica) -m bool }\n\
             .else\n    use_backend primary if { nbsrv(x-replica) eq 0 }\n.endif\n    default_backend x-replica\n",
            "uri /replica?lag=1MB&tag_a%20b=c%26d&tag_e=true ver",
            "set-dst-port int(5432)\n",
        ],
    );
    has(
        &one("role = \"primary\", fallback = \"any\", balance = \"first\""),
        &[
            "    use_backend x-any unless { nbsrv(primary) eq 1 } || { lua.still_up(primary) -m bool }\n",
            "    use_backend x-any unless { nbsrv(primary) eq 1 }\n.endif\n    default_backend primary\n",
            "balance first\n",
        ],
    );
    // Each port has its own share of the process's connections.
    has(
        &one("role = \"any\""),
        &[
            "\n    maxconn 4160\n",
            "frontend x\n    bind *:5434 tcp-ut 20s\n    maxconn 2000\n",
        ],
    );
    let limited = "allow = [\"192.0.2.0/24\"]\nmax_connections_per_client = 9\nservices = [{ name = \"x\", port = 5434, \
                   role = \"any\" }]\n";
    let cfg = with_haproxy(&format!("{limited}{DOMAIN}"), OFF);
    let own = cfg
        .split("frontend x\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    has(
        own,
        &[
            "reject unless allowed",
            "track-sc0 src table postgres\n",
            "sc0_conn_cur(postgres) gt 9",
        ],
    );
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
            "inter 500ms fastinter 50ms downinter 150ms rise 1 fall 5 init-state down\n",
            "hard-stop-after 1h\n",
            "bind 0.0.0.0:8405\n",
            "content accept if { nbsrv eq 1 }\n",
            "lua.hold 10000 0 300 650\n",
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
        "address = \"::\"\nreplicas_port = 5433",
        &[
            "    bind *:5432 tcp-ut 20s\n    bind [::]:5432 v6only tcp-ut 20s\n",
            "    bind *:4443 tcp-ut 20s\n    bind [::]:4443 v6only tcp-ut 20s\n",
            "    bind *:5433 tcp-ut 20s\n    bind [::]:5433 v6only tcp-ut 20s\n",
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
            "content accept if { nbsrv eq 1 } { be_conn le 80 }\n",
            "content accept if { lua.still_up(primary) -m bool }\n",
            "lua.hold 60000 80 1150 2150\n",
            "retries 60\n",
            "server later4 127.0.0.1:1 backup\n",
            "!later5",
        ],
    );
    gives(
        "hold = \"0s\"",
        &[
            "lua-load",
            "content accept if { nbsrv eq 1 } || { lua.still_up(primary) -m bool }\n",
            "tcp-request content reject unless { nbsrv eq 1 }\n",
            "!lua.hold",
            "!later",
        ],
    );
    gives(
        "runtime = \"package\"",
        &[
            "accept if { nbsrv eq 1 } { nbsrv(primary.settled) eq 1 }\n",
            "unless { nbsrv eq 1 } { nbsrv(primary.settled) eq 1 }\n",
            "backend primary.settled\n",
        ],
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

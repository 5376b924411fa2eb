//! A rendered configuration and the guest script, run by the HAProxy of each suite before fake
//! Patroni nodes. Where nobody waits for a primary, and where new connections do (`hold.py`).

use std::ffi::OsStr;
use std::thread;

use lbctl::testing::cert::CaCertificates;
use lbctl::testing::config::{
    Balance, ClientService, Config, DomainName, MainRole, Node, NodeAddress, Nodes, PatroniTls,
    Role, Runtime,
};
use lbctl::testing::render::haproxy_cfg;
use serde_json::json;

use super::oracle::{scratch, tell, write};
use super::sample::{CA, before_fake_nodes, port, time};
use super::setups;

/// On each port for clients, where there are many.
const MOST_OF_MANY: u32 = 800;

/// How the nodes are found and asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SetUp {
    /// By one name, with mutual TLS.
    Named,
    /// Each by its host name, which DNS resolves, by TLS without a client certificate. The main
    /// port leads to a leader of either kind.
    HostNames,
    /// Each by its address, by plain HTTP. One has ports of its own.
    Addresses,
}

impl SetUp {
    fn apply(self, config: &mut Config) {
        let role = match self {
            Self::Named => return,
            Self::HostNames => MainRole::Leader,
            Self::Addresses => MainRole::Primary,
        };
        let node = |number: u8| Node {
            name: format!("pg-{number}"),
            address: match self {
                Self::Addresses => NodeAddress::Ip([127, 0, 0, 10 + number].into()),
                _ => NodeAddress::Host(
                    DomainName::parse(&format!("pg-{number}.example.com")).unwrap(),
                ),
            },
            port: (self == Self::Addresses && number == 2).then(|| port(5433)),
            patroni_port: (self == Self::Addresses && number == 2).then(|| port(8009)),
            verify_host: None,
        };
        let haproxy = &mut config.haproxy;
        haproxy.role = role;
        haproxy.verify_host = None;
        haproxy.replicas = None;
        haproxy.nodes = Nodes::Listed {
            nodes: (1..=3).map(node).collect(),
            nameservers: haproxy.nodes.nameservers().to_vec(),
        };
        haproxy.services = services(role.into());
        // All of them together stay below the limit of open files that a test has.
        haproxy.max_connections = MOST_OF_MANY;
        if self == Self::Addresses {
            haproxy.patroni_tls = PatroniTls::Off;
            haproxy.patroni_port = port(8008);
            haproxy.patroni_passthrough = Some(port(8008));
        } else {
            haproxy.patroni_tls = PatroniTls::Server(CaCertificates::load(CA).unwrap());
        }
    }

    /// What the fake nodes must know of it.
    fn facts(self) -> Option<serde_json::Value> {
        match self {
            Self::Named => None,
            Self::HostNames => {
                Some(json!({"tls": "server", "role": "leader", "max_connections": MOST_OF_MANY}))
            }
            Self::Addresses => {
                let other = json!({"127.0.0.12": {"rest": [8009], "postgres": [5433]}});
                let most = MOST_OF_MANY;
                Some(
                    json!({"tls": "off", "role": "primary", "ports": other, "max_connections": most}),
                )
            }
        }
    }
}

/// On ports from 5501 on, in the order that `hold.py` knows.
fn services(main: Role) -> Vec<ClientService> {
    let service = |name: &str, number: u16, role: Role| ClientService {
        name: name.to_owned(),
        port: port(5500 + number),
        role,
        fallback: None,
        max_lag: None,
        tags: Vec::new(),
        balance: Balance::RoundRobin,
        proxy_protocol: false,
        postgres_port: None,
    };
    vec![
        ClientService {
            fallback: Some(main),
            max_lag: Some("16MB".into()),
            ..service("reports", 1, Role::Replica)
        },
        ClientService {
            fallback: Some(Role::Async),
            ..service("safe", 2, Role::Sync)
        },
        service("fast", 3, Role::Async),
        service("all", 4, Role::Any),
        ClientService {
            proxy_protocol: true,
            postgres_port: Some(port(6432)),
            ..service("pool", 5, main)
        },
        service("dr", 6, Role::StandbyLeader),
        ClientService {
            tags: vec![("ssd".into(), "true".into())],
            ..service("tagged", 7, Role::Replica)
        },
    ]
}

fn behaves(program: &str, suite: &str, version: (u8, u8)) {
    behaves_with(SetUp::Named, program, suite, version);
}

fn behaves_with(set_up: SetUp, program: &str, suite: &str, version: (u8, u8)) {
    behaves_in(set_up, program, &[], suite, version);
}

/// In these of the program's stories, or in all. With two of the services alone, whose checks are
/// what a node is asked beside those of the main port; `services.cfg` has them all.
fn behaves_in(set_up: SetUp, program: &str, stories: &[&str], suite: &str, version: (u8, u8)) {
    let mut config = before_fake_nodes(version);
    match program {
        "live.py" => config.haproxy.hold = time("0s"),
        "hold.py" => config.haproxy.max_connections_per_client = Some(100),
        _ => {}
    }
    set_up.apply(&mut config);
    let dir = scratch();
    let cfg = dir.path().join("haproxy.cfg");
    write(&dir.path().join("services.cfg"), &haproxy_cfg(&config));
    if set_up != SetUp::Named {
        let few = ["reports", "pool"];
        let services = &mut config.haproxy.services;
        services.retain(|service| few.contains(&service.name.as_str()));
    }
    write(&cfg, &haproxy_cfg(&config));
    if let Some(facts) = set_up.facts() {
        write(&dir.path().join("setup.json"), &facts.to_string());
    }
    for other in [SetUp::HostNames, SetUp::Addresses] {
        let (name, text) = changed(other, &config);
        write(&dir.path().join(name), &text);
    }
    if program == "handover.py" {
        let mut container = config.clone();
        container.haproxy.runtime = Runtime::Container;
        write(&dir.path().join("container.cfg"), &haproxy_cfg(&container));
    }
    let named = stories.iter().map(OsStr::new);
    let arguments: Vec<&OsStr> = std::iter::once(cfg.as_os_str()).chain(named).collect();
    tell(&format!("render/{program}"), suite, &arguments);
}

/// What `change.py` changes to.
fn changed(set_up: SetUp, config: &Config) -> (&'static str, String) {
    let mut other = config.clone();
    set_up.apply(&mut other);
    let name = match set_up {
        SetUp::HostNames => "host-names.cfg",
        SetUp::Named | SetUp::Addresses => "addresses.cfg",
    };
    (name, haproxy_cfg(&other))
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
fn haproxy_2_6_with_listed_nodes() {
    behaves_with(SetUp::Addresses, "live.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_2_with_listed_nodes() {
    behaves_with(SetUp::HostNames, "live.py", "sid", (3, 2));
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
fn haproxy_2_6_holds_with_listed_host_names_and_tls_without_a_client_certificate() {
    behaves_with(SetUp::HostNames, "hold.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_0_holds_with_listed_addresses_and_plain_http() {
    behaves_with(SetUp::Addresses, "hold.py", "trixie", (3, 0));
}

#[test]
fn haproxy_3_2_holds_with_listed_nodes() {
    behaves_with(SetUp::HostNames, "hold.py", "sid", (3, 2));
    behaves_with(SetUp::Addresses, "hold.py", "sid", (3, 2));
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

#[test]
fn haproxy_2_6_takes_over_from_one_that_serves() {
    behaves("handover.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_2_takes_over_from_one_that_serves() {
    behaves("handover.py", "sid", (3, 2));
}

/// More than half a minute passes in each story, in which there is nothing to do: so they are told
/// at the same time.
#[test]
fn each_haproxy_holds_for_long() {
    let soak = std::env::var_os("LBCTL_SOAK").is_some();
    let set_ups = [SetUp::Named, SetUp::HostNames, SetUp::Addresses];
    thread::scope(|scope| {
        for (suite, version) in [("bookworm", (2, 6)), ("trixie", (3, 0)), ("sid", (3, 2))] {
            for set_up in &set_ups[..if soak { 3 } else { 1 }] {
                let stories = &["long_hold", "long_refusal"];
                scope.spawn(move || behaves_in(*set_up, "hold.py", stories, suite, version));
            }
        }
    });
}

/// Also with the configuration for 2.6: it is the default for HAProxy's package, and Debian 13 has
/// 3.0.
#[test]
fn haproxy_3_0_leaves_no_client_waiting() {
    thread::scope(|scope| {
        scope.spawn(|| behaves("hang.py", "trixie", (3, 0)));
        scope.spawn(|| behaves("hang.py", "trixie", (2, 6)));
        scope.spawn(|| behaves_with(SetUp::Addresses, "hang.py", "trixie", (2, 6)));
    });
}

#[test]
fn haproxy_2_6_leaves_no_client_waiting() {
    behaves("hang.py", "bookworm", (2, 6));
}

#[test]
fn haproxy_3_2_leaves_no_client_waiting() {
    behaves("hang.py", "sid", (3, 2));
}

#[test]
fn haproxy_2_6_serves_every_setup() {
    setups::serve("bookworm", (2, 6));
}

#[test]
fn haproxy_3_0_serves_every_setup() {
    setups::serve("trixie", (3, 0));
}

#[test]
fn haproxy_3_2_serves_every_setup() {
    setups::serve("sid", (3, 2));
}

#[test]
fn a_pgbouncer_behind_the_proxy_header_sees_its_client() {
    setups::pooler("bookworm", (2, 6));
}

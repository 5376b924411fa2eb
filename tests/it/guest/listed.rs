//! How a guest finds its nodes and asks Patroni's REST API: by one name and mutual TLS, as the
//! Terraform module does, or node by node, in each kind of TLS that the API can have. A guest that
//! runs goes from one kind to the next, and serves its clients in each.

use super::sessions::Sessions;
use super::{Guest, across_a_switchover};
use crate::support::{Lab, Ran, run_for};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// All addresses of a name; mutual TLS.
    OneName,
    Plain,
    Tls,
    MutualTls,
}

impl Asks {
    /// Lines of `[haproxy]`, and the table of the client's certificate.
    pub(super) fn lines(self, lab: &Lab) -> (String, String) {
        let name = &lab["POSTGRES_DOMAIN"];
        let ca = format!("ca_certificate = {{ file = \"{}\" }}\n", lab["CA_CERT"]);
        let verified = format!("verify_host = \"{name}\"\n");
        let nodes = match self {
            Self::OneName => format!(
                "postgres_nodes_max_count = 3\npostgres_nameserver_ips = [\"{}\"]\n\
                 postgres_domain = \"{name}\"\n",
                lab["NETWORK_DNS"]
            ),
            Self::Plain | Self::Tls | Self::MutualTls => {
                let listed = |(place, address): (usize, &str)| {
                    format!("{{ name = \"pg{}\", address = \"{address}\" }}", place + 1)
                };
                let nodes: Vec<_> = lab["PG_NODES"].split(',').enumerate().map(listed).collect();
                let (mode, port) = (self.mode(), self.port(lab));
                format!(
                    "nodes = [{}]\npatroni_tls = \"{mode}\"\npatroni_port = {port}\n",
                    nodes.join(", ")
                )
            }
        };
        let client = match self {
            Self::Plain => return (nodes, String::new()),
            Self::Tls => ca,
            Self::OneName | Self::MutualTls => format!(
                "ca_key = {{ file = \"{}\" }}\n{ca}certificate_validity_period = 240\n\
                 certificate_early_renewal_period = 24\n",
                lab["CA_KEY"]
            ),
        };
        (
            nodes + &verified,
            format!("[haproxy.patroni_client]\n{client}"),
        )
    }

    /// The word of `haproxy.patroni_tls`.
    fn mode(self) -> &'static str {
        match self {
            Self::OneName | Self::MutualTls => "mutual",
            Self::Tls => "server",
            Self::Plain => "off",
        }
    }

    fn port(self, lab: &Lab) -> &str {
        match self {
            Self::OneName | Self::MutualTls => &lab["PATRONI_PORT"],
            Self::Tls => &lab["PATRONI_TLS_PORT"],
            Self::Plain => &lab["PATRONI_PLAIN_PORT"],
        }
    }

    pub(super) fn is_tls(self) -> bool {
        self != Self::Plain
    }

    /// The end of what `check --host` says of each node.
    pub(super) fn seen_from_the_host(self) -> &'static str {
        match self {
            Self::OneName | Self::MutualTls => {
                "accepts a client certificate of this CA, and its own certificate is valid"
            }
            Self::Tls => "its certificate is valid, and it demands none of the VM",
            Self::Plain => "answers by plain HTTP",
        }
    }

    /// What `status` says of the nodes' TLS.
    fn verified(self) -> &'static str {
        match self {
            Self::OneName | Self::MutualTls => {
                "nodes' TLS   verified by CA and by name (server.postgres.lab)\n"
            }
            Self::Tls => {
                "nodes' TLS   verified by CA and by name (server.postgres.lab); without a client certificate\n"
            }
            Self::Plain => {
                "nodes' TLS   off: plain HTTP, so nothing proves who answers the health checks\n"
            }
        }
    }
}

/// On a guest that asks by plain HTTP and is ready. In the end it asks by mutual TLS.
pub(super) fn story(guest: &mut Guest, interface: &str) {
    for asks in [Asks::Plain, Asks::Tls, Asks::MutualTls] {
        if guest.kind.asks != asks {
            guest.kind.asks = asks;
            guest.configure(interface, "");
            let mut sessions = Sessions::open(guest);
            guest.lbctl(300, &["up"]).ok();
            sessions.none_was_cut(&format!("by the change to {asks:?}"));
            guest.lbctl(60, &["plan", "--exit-code"]).ok();
        }
        shows_how_it_asks(guest);
        guest.keeps_the_promise(&["switchovers=1"]);
    }
}

fn shows_how_it_asks(guest: &Guest) {
    let asks = guest.kind.asks;
    let _peace = guest.peace();
    guest.reaches_the_primary();
    across_a_switchover(|| guest.rest_api("/primary")).says(&["\"role\""]);
    guest.assert_the_cluster_is_seen_from_the_host();
    let said = guest.status_when_ready(&[]);
    said.says(&[
        "ready\n",
        asks.verified(),
        "pg1",
        "pg2",
        "pg3",
        "UP",
        "L7OK",
    ]);
    let status = guest.status_when_ready(&["--json"]).document();
    assert_eq!(status["patroni_tls"], asks.mode(), "{status:#}");
    let certificate = status["certificate"].is_object();
    assert_eq!(certificate, asks == Asks::MutualTls, "{status:#}");
    let servers = status["haproxy"]["servers"].as_array().unwrap();
    // While one is asked, a star stands before its last answer.
    let answers: Vec<_> = servers.iter().map(|server| &server["check"]).collect();
    assert!(
        answers.len() == 3
            && answers
                .iter()
                .all(|said| said.as_str().unwrap().contains("L7")),
        "{status:#}"
    );
}

impl Guest {
    /// The answer of the REST API of the node behind the load balancer, its certificate verified by
    /// name.
    pub(super) fn rest_api(&self, path: &str) -> Ran {
        let Self {
            lab,
            ip,
            client,
            kind,
            ..
        } = self;
        let (domain, port) = (&lab["POSTGRES_DOMAIN"], kind.asks.port(lab));
        let to = format!("{domain}:{port}:{ip}:{port}");
        let curl = "netns exec CLIENT curl -sS -f -m 10 --connect-to".split(' ');
        let curl = curl.map(|word| if word == "CLIENT" { client } else { word });
        let mut words: Vec<&str> = curl.chain([to.as_str()]).collect();
        if kind.asks != Asks::Plain {
            words.extend(["--cacert", &lab["CA_CERT"]]);
        }
        if matches!(kind.asks, Asks::OneName | Asks::MutualTls) {
            words.extend(["--cert", &lab["CLIENT_CERT"], "--key", &lab["CLIENT_KEY"]]);
        }
        let scheme = if kind.asks == Asks::Plain {
            "http"
        } else {
            "https"
        };
        let url = format!("{scheme}://{domain}:{port}{path}");
        words.push(&url);
        run_for(20, "ip", words)
    }
}

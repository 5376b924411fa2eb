//! What a new configuration says of Patroni: where its nodes are, how they are asked, and the CA.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Slot, quoted};
use crate::cli::PatroniMode;

/// Where the nodes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nodes {
    /// Behind one DNS name; empty: it is to be filled in.
    Named(String),
    /// One by one, each with its name. Never empty.
    Listed(Vec<(String, String)>),
}

impl Default for Nodes {
    fn default() -> Self {
        Self::Named(String::new())
    }
}

impl Nodes {
    /// What was given as nodes. One name alone is that of all nodes.
    pub fn parse<'a>(given: impl IntoIterator<Item = &'a str>) -> Self {
        let given: Vec<&str> = given
            .into_iter()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect();
        match given.as_slice() {
            [] => Self::default(),
            [one] if !one.contains('=') && one.parse::<IpAddr>().is_err() => {
                Self::Named((*one).to_owned())
            }
            all => {
                let named = all.iter().zip(1..).map(|(text, number)| {
                    let (name, address) = match text.split_once('=') {
                        Some((name, address)) => (name.trim().to_owned(), address.trim()),
                        None => (format!("node{number}"), *text),
                    };
                    (name, address.to_owned())
                });
                Self::Listed(named.collect())
            }
        }
    }
}

/// What is known of the cluster.
#[derive(Debug, Default, Clone)]
pub(super) struct Patroni {
    pub nodes: Nodes,
    pub nameserver: Slot,
    /// How the REST API is asked; `None`: nobody has said it.
    pub tls: Option<PatroniMode>,
    pub ca_key: Slot,
    pub ca_certificate: Slot,
}

impl Patroni {
    /// `[haproxy]`.
    pub fn to_toml(&self) -> String {
        let (how, table) = self.asked();
        let mut text = format!("\n[haproxy]\n{}{how}", self.behind_one_name());
        // The names of listed nodes are verified one by one.
        let is_named = matches!(self.nodes, Nodes::Named(_));
        if is_named && self.tls != Some(PatroniMode::Off) {
            text.push_str(
                "#verify_host = \"\"                         # a name that all nodes' certificates carry: set it if they have one\n",
            );
        }
        text + &table + &self.listed()
    }

    fn behind_one_name(&self) -> String {
        let Nodes::Named(name) = &self.nodes else {
            return String::new();
        };
        let name = Slot::new(name, "").text();
        let nameserver = self.nameserver.text();
        format!(
            "# Patroni's nodes by one DNS name of all of them; or each by its address: `lbctl init --nodes 192.0.2.11,192.0.2.12`\n\
             postgres_domain = {name}\n\
             postgres_nameserver_ips = [{nameserver}]\n\
             postgres_nodes_max_count = 3\n"
        )
    }

    fn listed(&self) -> String {
        let mut text = String::new();
        if let Nodes::Listed(nodes) = &self.nodes {
            for (name, address) in nodes {
                let (name, address) = (quoted(name), quoted(address));
                let _ = write!(
                    text,
                    "\n[[haproxy.nodes]]\nname = {name}\naddress = {address}\n"
                );
            }
        }
        text
    }

    /// The lines of `[haproxy]` and the table of its own that say how the REST API is asked.
    fn asked(&self) -> (&'static str, String) {
        let file = |slot: &Slot| format!("{{ file = {} }}", slot.text());
        let (key, certificate) = (file(&self.ca_key), file(&self.ca_certificate));
        match self.tls {
            Some(PatroniMode::Off) => (
                "patroni_tls = \"off\"                       # Patroni's REST API is plain HTTP, as Patroni comes\n\
                 #patroni_port = 8008\n",
                String::new(),
            ),
            Some(PatroniMode::Server) => (
                "patroni_tls = \"server\"                    # Patroni's REST API has TLS, and asks for no client certificate\n\
                 #patroni_port = 4443                      # of the REST API\n",
                format!("\n[haproxy.patroni_client]\nca_certificate = {certificate}\n"),
            ),
            mutual => {
                let unsaid = if mutual.is_none() {
                    "# Patroni's REST API with TLS and client certificates. As Patroni comes it is plain HTTP: then give\n\
                     # patroni_tls = \"off\" above, and remove this table.\n"
                } else {
                    ""
                };
                (
                    "#patroni_port = 4443                      # of Patroni's REST API\n",
                    format!(
                        "\n{unsaid}[haproxy.patroni_client]\n\
                         ca_key = {key}\n\
                         ca_certificate = {certificate}\n\
                         certificate_validity_period = 8760        # hours\n\
                         certificate_early_renewal_period = 720\n"
                    ),
                )
            }
        }
    }
}

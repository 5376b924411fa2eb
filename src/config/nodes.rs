//! Where the nodes of the cluster are: all addresses of one name, or a list.

use std::net::IpAddr;

use super::checks;
use super::diagnostics::{Read, Spanned, all};
use super::model::{Node, NodeAddress, Nodes};
use super::reader::Section;
use super::report::ProblemId;
use super::types::{DomainName, Port};

/// Each once: one that is given twice is asked once.
const MOST_NAMESERVERS: usize = 8;

/// The ports of a node that has none of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub postgres: Option<Port>,
    pub patroni: Option<Port>,
}

/// `section` is `[haproxy]`. `defaults`: what could not be read is `None`.
pub(super) fn nodes(section: &Section<'_>, defaults: Defaults) -> Read<Nodes> {
    if section.gives("nodes") {
        listed(section, defaults)
    } else {
        named(section)
    }
}

const NAMED: [&str; 3] = [
    "postgres_domain",
    "postgres_nameserver_ips",
    "postgres_nodes_max_count",
];

fn named(section: &Section<'_>) -> Read<Nodes> {
    if section.is_there() && !NAMED.iter().any(|name| section.has(name)) {
        let message = "[haproxy] does not say where the nodes are";
        let help = format!(
            "add {}, or [[haproxy.nodes]] for each node",
            NAMED.join(", ")
        );
        let (id, here) = (ProblemId::MissingKey, section.here());
        let diagnostics = section.diagnostics();
        return Err(diagnostics.problem(id, NAMED[0], Some(here.span), message, help));
    }
    let help = "give the number of nodes the cluster may grow to, such as 3";
    let count = "postgres_nodes_max_count";
    let most = needed(section, count, |s, k| s.integer::<u16>(k, help));
    let nameservers = nameservers(section).and_then(|servers| {
        if servers.is_empty() {
            return Err(section.missing("postgres_nameserver_ips", &[]));
        }
        Ok(servers)
    });
    let domain = needed(section, "postgres_domain", |s, k| {
        s.parsed(k, DomainName::parse)
    });
    Ok(Nodes::Named {
        domain: domain?,
        nameservers: nameservers?,
        most: most?,
    })
}

fn needed<T>(
    section: &Section<'_>,
    name: &str,
    read: impl FnOnce(&Section<'_>, &str) -> Read<Spanned<T>>,
) -> Read<T> {
    match section.optional(name, read)? {
        Some(given) => Ok(given.value),
        None => Err(section.missing(name, &[])),
    }
}

fn nameservers(section: &Section<'_>) -> Read<Vec<IpAddr>> {
    let diagnostics = section.diagnostics();
    let given = section.texts("postgres_nameserver_ips", checks::server_address)?;
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in &given {
        if servers.contains(&server.value) {
            diagnostics.warn(
                server,
                "is given twice, which adds no safety",
                "give another nameserver, or this one once",
            );
        } else {
            servers.push(server.value);
        }
    }
    match given.first() {
        Some(first) if servers.len() > MOST_NAMESERVERS => {
            let what = format!("is the first of {} nameservers", servers.len());
            let help = format!("give at most {MOST_NAMESERVERS}: HAProxy asks all of them at once");
            Err(diagnostics.refuse(first, &what, help))
        }
        Some(_) | None => Ok(servers),
    }
}

// ---- a list

/// A node as it was read.
struct Given {
    name: Spanned<String>,
    address: Spanned<NodeAddress>,
    port: Option<Port>,
    patroni_port: Option<Port>,
    verify_host: Option<DomainName>,
}

fn listed(section: &Section<'_>, defaults: Defaults) -> Read<Nodes> {
    let diagnostics = section.diagnostics();
    let instead = instead_of_domain(section);
    let sections = section.sections("nodes");
    let most = section.most("nodes");
    if let (Some(first), true) = (sections.first(), sections.len() > most) {
        let what = format!("is the first of {} nodes", sections.len());
        let help = format!("give at most {most}: each is checked for ever");
        return Err(diagnostics.refuse(&first.here(), &what, help));
    }
    let given = all(sections.iter().map(node));
    let nameservers = nameservers(section);
    let (given, nameservers) = (given?, nameservers?);
    apart(section, &given, defaults)?;
    instead?;
    let by_name = |node: &Given| matches!(node.address.value, NodeAddress::Host(_));
    if !nameservers.is_empty()
        && !given.iter().any(by_name)
        && let Some(servers) = section.given("postgres_nameserver_ips")
    {
        let what = "is not used: every node has an address";
        diagnostics.warn(&servers, what, "remove it");
    }
    let nodes = given.into_iter().map(|node| Node {
        name: node.name.value,
        address: node.address.value,
        port: node.port,
        patroni_port: node.patroni_port,
        verify_host: node.verify_host,
    });
    Ok(Nodes::Listed {
        nodes: nodes.collect(),
        nameservers,
    })
}

/// A list and a name would be two answers to one question.
fn instead_of_domain(section: &Section<'_>) -> Read<()> {
    let Some(list) = section.given("nodes") else {
        return Ok(());
    };
    let refused = |name: &str, what: &str, help: &str| match section.given(name) {
        None => Ok(()),
        Some(given) => Err(section
            .diagnostics()
            .conflict(&given, &list, what, "the list", help)),
    };
    let domain = refused(
        "postgres_domain",
        "and a list of nodes are both given, and each says where the nodes are",
        "remove one of them",
    );
    let count = refused(
        "postgres_nodes_max_count",
        "is given beside a list of nodes, which says itself how many there are",
        "remove it, or the list",
    );
    domain.and(count)
}

fn node(section: &Section<'_>) -> Read<Given> {
    let name = section.parsed("name", checks::server_name);
    let address = section.parsed("address", checks::node_address);
    let port = section.optional("port", Section::port);
    let patroni_port = section.optional("patroni_port", Section::port);
    let verify_host = section.optional("verify_host", |s, k| s.parsed(k, DomainName::parse));
    Ok(Given {
        name: name?,
        address: address?,
        port: port?.map(Spanned::into_value),
        patroni_port: patroni_port?.map(Spanned::into_value),
        verify_host: verify_host?.map(Spanned::into_value),
    })
}

/// Whether no two have one name, or are one process: each would count twice, as two primaries.
fn apart(section: &Section<'_>, nodes: &[Given], defaults: Defaults) -> Read<()> {
    let diagnostics = section.diagnostics();
    let mut apart = Ok(());
    for (place, node) in nodes.iter().enumerate() {
        let before = &nodes[..place];
        if let Some(other) = before.iter().find(|b| b.name.value == node.name.value) {
            let what = format!("is \"{}\", the name of another node", node.name.value);
            let help = "give each node a name of its own";
            let label = "the same name";
            let refused = diagnostics.conflict(&node.name, &other.name, &what, label, help);
            apart = Err(refused);
        }
        let twin = before.iter().find_map(|other| {
            let port = same_port(node, other, defaults)?;
            is_same(&node.address.value, &other.address.value).then_some((other, port))
        });
        if let Some((other, (what, key))) = twin {
            let what = format!(
                "is {}, which is another node's, with the same port of {what}",
                node.address.value
            );
            let help = format!("remove one of the two, or give each {key} of its own");
            let refused =
                diagnostics.conflict(&node.address, &other.address, &what, "the same", &help);
            apart = Err(refused);
        }
    }
    apart
}

/// Which of the two ports both nodes have.
fn same_port(
    one: &Given,
    other: &Given,
    defaults: Defaults,
) -> Option<(&'static str, &'static str)> {
    let same = |one: Option<Port>, other: Option<Port>, default: Option<Port>| {
        one.or(default) == other.or(default)
    };
    if same(one.patroni_port, other.patroni_port, defaults.patroni) {
        Some(("Patroni", "a patroni_port"))
    } else if same(one.port, other.port, defaults.postgres) {
        Some(("PostgreSQL", "a port"))
    } else {
        None
    }
}

fn is_same(one: &NodeAddress, other: &NodeAddress) -> bool {
    match (one, other) {
        (NodeAddress::Ip(one), NodeAddress::Ip(other)) => one == other,
        (NodeAddress::Host(one), NodeAddress::Host(other)) => {
            one.as_str().eq_ignore_ascii_case(other.as_str())
        }
        (NodeAddress::Ip(_), NodeAddress::Host(_)) | (NodeAddress::Host(_), NodeAddress::Ip(_)) => {
            false
        }
    }
}

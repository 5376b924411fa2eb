//! What lies outside of the libvirt host: DNS and the nodes, asked from here. The guest asks the
//! same questions from its own network, so what cannot be reached from here is unknown and not a
//! failure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::thread;

use time::OffsetDateTime;

use super::nodes::{CertVerdict, NodeAnswer, Question, Reply, rest_api};
use super::{Checklist, Outcome, dns};
use crate::cert::{self, CertError, ClientPair};
use crate::config::{
    CertificateSource, Config, DomainName, Haproxy, MainRole, Node, NodeAddress, Nodes,
    PatroniClient, PatroniTls,
};
use crate::exit::MessageId;

const DNS_PORT: u16 = 53;
const FROM_HERE: &str =
    "the guest may reach it from its own network; `lbctl status` shows what the guest sees";
const PORT_OR_PLACE: &str = "is that the port of restapi.listen (8008, as Patroni comes)? patroni_port sets it. The guest \
                             may reach it from its own network; `lbctl status` shows what the guest sees";

/// The result.
#[derive(Debug, Default)]
pub struct Outside {
    pub list: Checklist,
    /// Whether a node's certificate was verified.
    pub verified: bool,
}

/// Asks all DNS servers at once, and then all nodes that they name at once: some seconds in all.
/// `in_use`: the certificate of the load balancer that is there.
#[must_use]
pub fn inspect_outside(config: &Config, in_use: Option<&ClientPair>) -> Outside {
    let haproxy = &config.haproxy;
    let mut list = Checklist::default();
    let mut verified = false;
    let nodes = match &haproxy.nodes {
        Nodes::Named {
            domain,
            nameservers,
            most,
        } => {
            let found = named(domain.as_str(), nameservers, *most, &mut list);
            let port = haproxy.patroni_port.get();
            let name = haproxy.verify_host.as_ref().map(DomainName::as_str);
            let node = |ip| AskedNode {
                label: format!("node {ip}:{port}"),
                at: rest_api(ip, port),
                verify_host: name,
            };
            found.into_iter().map(node).collect()
        }
        Nodes::Listed { nodes, nameservers } => listed(haproxy, nodes, nameservers, &mut list),
    };
    match question(config, in_use) {
        Ok(question) => verified = ask_nodes(&nodes, &question, haproxy, &mut list),
        Err(said) => list.add(Outcome::Unknown, "nodes", said, FROM_HERE),
    }
    Outside { list, verified }
}

/// A node, where it is and what its certificate must be called.
struct AskedNode<'a> {
    label: String,
    at: SocketAddr,
    verify_host: Option<&'a str>,
}

/// Those of a list that have an address.
fn listed<'a>(
    haproxy: &'a Haproxy,
    nodes: &'a [Node],
    nameservers: &[IpAddr],
    list: &mut Checklist,
) -> Vec<AskedNode<'a>> {
    let found = at_once(nodes, |node| match &node.address {
        NodeAddress::Ip(ip) => Ok(*ip),
        NodeAddress::Host(name) => resolved(name.as_str(), nameservers),
    });
    let mut asked = Vec::new();
    for (node, ip) in nodes.iter().zip(found) {
        let port = node.patroni_port.unwrap_or(haproxy.patroni_port).get();
        let name = &node.name;
        match ip {
            Ok(ip) => asked.push(AskedNode {
                label: format!("node {name}, {}", SocketAddr::new(ip, port)),
                at: rest_api(ip, port),
                verify_host: haproxy.verify_host_of(node).map(DomainName::as_str),
            }),
            Err((outcome, said)) => {
                let help = "check its address in [[haproxy.nodes]], and the zone on those servers";
                let help = if outcome == Outcome::Unknown {
                    FROM_HERE
                } else {
                    help
                };
                list.add(outcome, format!("node {name}"), said, help);
            }
        }
    }
    asked
}

/// The address of a host name: what the nameservers say, or this machine's resolver.
fn resolved(name: &str, nameservers: &[IpAddr]) -> Result<IpAddr, (Outcome, String)> {
    let mut failed = None;
    for server in nameservers {
        match dns::ask(SocketAddr::new(*server, DNS_PORT), name) {
            dns::DnsAnswer::Addresses(all) => {
                if let Some(ip) = all.first() {
                    return Ok(IpAddr::V4(*ip));
                }
                let said = format!("{name} has no IPv4 address, says DNS server {server}");
                failed = Some((Outcome::Fails(MessageId::DnsNoAddress), said));
            }
            dns::DnsAnswer::Refused(said) => {
                let said = format!("{name}: {said}, says DNS server {server}");
                failed = Some((Outcome::Fails(MessageId::DnsError), said));
            }
            dns::DnsAnswer::Silent(said) => {
                let said = format!("DNS server {server} is not reached from here: {said}");
                failed.get_or_insert((Outcome::Unknown, said));
            }
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    let unknown = |said: String| {
        (
            Outcome::Unknown,
            format!("{name} is not known here: {said}"),
        )
    };
    let mut found = (name, 0)
        .to_socket_addrs()
        .map_err(|e| unknown(e.to_string()))?;
    let first = found.next().ok_or_else(|| unknown("no address".into()))?;
    Ok(first.ip())
}

/// The nodes that DNS names.
fn named(domain: &str, servers: &[IpAddr], most: u16, list: &mut Checklist) -> Vec<IpAddr> {
    let answers = at_once(servers, |ip| {
        dns::ask(SocketAddr::new(*ip, DNS_PORT), domain)
    });
    let mut nodes = BTreeSet::new();
    let most = usize::from(most);
    for (server, answer) in servers.iter().zip(answers) {
        if let dns::DnsAnswer::Addresses(addresses) = &answer {
            nodes.extend(addresses.iter().copied());
        }
        let (outcome, said, help) = of_dns(&answer, domain, most);
        list.add(outcome, format!("DNS {server}"), said, help);
    }
    // HAProxy does not ask more of them either.
    let nodes = nodes.into_iter().take(most.min(dns::MOST));
    nodes.map(IpAddr::V4).collect()
}

fn question(config: &Config, in_use: Option<&ClientPair>) -> Result<Question, String> {
    let question = match &config.haproxy.patroni_tls {
        PatroniTls::Mutual(client) => with_certificate(client, in_use),
        PatroniTls::Server(ca) => Question::tls(ca.pem(), None),
        PatroniTls::Off => Ok(Question::plain()),
    };
    question.map(|question| match config.haproxy.role {
        MainRole::Primary => question,
        MainRole::StandbyLeader => question.of("/standby-leader"),
        MainRole::Leader => question.of("/leader"),
    })
}

/// With the certificate that will be used: one that is made for this and kept nowhere, where the
/// CA's key is at hand; else the one in use.
fn with_certificate(
    client: &PatroniClient,
    in_use: Option<&ClientPair>,
) -> Result<Question, String> {
    let made = match &client.source {
        CertificateSource::Issued(issuing) => {
            let brief = cert::Policy {
                validity_hours: 1,
                early_renewal_hours: 0,
                ..issuing.policy(&client.ca, false)
            };
            let now = OffsetDateTime::now_utc();
            cert::resolve(None, brief, now, true).map(|made| made.pair().clone())
        }
        CertificateSource::Given(_) | CertificateSource::Requested(_) => {
            client.given().cloned().ok_or(CertError::NoneGiven)
        }
    };
    let pair = match (made, in_use) {
        (Ok(pair), _) => pair,
        (Err(_), Some(in_use)) => in_use.clone(),
        (Err(error), None) => return Err(format!("not asked: {error}")),
    };
    Question::tls(client.ca.pem(), Some(&pair))
}

/// Whether the certificate of one was verified.
fn ask_nodes(
    nodes: &[AskedNode<'_>],
    question: &Question,
    haproxy: &Haproxy,
    list: &mut Checklist,
) -> bool {
    let answers = at_once(nodes, |node| question.ask(node.at, node.verify_host));
    let primaries = answers
        .iter()
        .filter(|answer| answer.reply == Reply::Status(200))
        .count();
    let answered = answers
        .iter()
        .all(|answer| matches!(answer.reply, Reply::Status(_)));
    for (node, answer) in nodes.iter().zip(&answers) {
        let (outcome, said, help) = judge(answer, haproxy);
        list.add(outcome, node.label.clone(), said, help);
    }
    if !nodes.is_empty() && answered && primaries != 1 {
        list.add(
            Outcome::Warning,
            "primary",
            format!("{primaries} nodes report that they are {}", sought(haproxy)),
            "sessions are accepted only while there is exactly one; `patronictl list` on a node shows the cluster",
        );
    }
    let verified = |answer: &NodeAnswer| answer.certificate == CertVerdict::Good;
    answers.iter().any(verified)
}

fn of_dns(answer: &dns::DnsAnswer, name: &str, most: usize) -> (Outcome, String, String) {
    match answer {
        dns::DnsAnswer::Addresses(all) if all.is_empty() => (
            Outcome::Fails(MessageId::DnsNoAddress),
            format!("{name} has no IPv4 address"),
            "it must resolve to all nodes of the cluster".to_owned(),
        ),
        dns::DnsAnswer::Addresses(all) => {
            let list: Vec<String> = all.iter().map(ToString::to_string).collect();
            let said = format!("{name}: {}", list.join(", "));
            if all.len() > most {
                let help = format!(
                    "postgres_nodes_max_count is {most}: nodes beyond it get no check and no session"
                );
                (Outcome::Fails(MessageId::DnsTooManyNodes), said, help)
            } else {
                (Outcome::Ok, said, String::new())
            }
        }
        dns::DnsAnswer::Refused(said) => (
            Outcome::Fails(MessageId::DnsError),
            format!("{name}: {said}"),
            "check postgres_domain, and the zone on that server".to_owned(),
        ),
        dns::DnsAnswer::Silent(said) => (
            Outcome::Unknown,
            format!("not reached from here: {said}"),
            FROM_HERE.to_owned(),
        ),
    }
}

/// Whom the main port leads to.
fn sought(haproxy: &Haproxy) -> &'static str {
    match haproxy.role {
        MainRole::Primary => "the primary",
        MainRole::StandbyLeader => "the leader of a standby cluster",
        MainRole::Leader => "the leader",
    }
}

#[must_use]
pub fn judge(answer: &NodeAnswer, haproxy: &Haproxy) -> (Outcome, String, &'static str) {
    const TRUST: &str = "HAProxy verifies the nodes with that CA: patroni_client.ca_certificate must contain the CA \
                         that signed restapi.certfile";
    match (&answer.reply, &answer.certificate) {
        (Reply::Unreachable(said), _) => (
            Outcome::Unknown,
            format!("not reached from here: {said}"),
            PORT_OR_PLACE,
        ),
        (_, CertVerdict::Bad(said)) => (
            Outcome::Fails(MessageId::NodeCertificateInvalid),
            format!("its certificate does not verify with the configured CA: {said}"),
            TRUST,
        ),
        (_, CertVerdict::OtherName(name)) => (
            Outcome::Fails(MessageId::NodeCertificateName),
            format!("its certificate does not contain the name {name}"),
            "set verify_host to a name that it contains, or leave it out: then only the CA is verified",
        ),
        (Reply::RefusesUs(said), _) if haproxy.patroni_tls.client().is_none() => (
            Outcome::Fails(MessageId::NodeRefusesClient),
            format!("it demands a client certificate: {said}"),
            "give patroni_tls = \"mutual\", or set restapi.verify_client = none on that node",
        ),
        (Reply::RefusesUs(said), _) => (
            Outcome::Fails(MessageId::NodeRefusesClient),
            format!("it refuses a client certificate of the configured CA: {said}"),
            "restapi.cafile on that node must contain the root above this CA; what stands between the two, lbctl sends",
        ),
        (Reply::Unclear(said), _) => (
            Outcome::Unknown,
            format!("lbctl's TLS library does not agree with it: {said}"),
            "HAProxy's OpenSSL may; `lbctl status` shows whether it does",
        ),
        (Reply::Strange(said), _) => (
            Outcome::Fails(MessageId::NodeNotPatroni),
            said.clone(),
            match haproxy.patroni_tls {
                PatroniTls::Off => {
                    "check that this port is Patroni's REST API without TLS; if Patroni has restapi.certfile, give \
                     patroni_tls = \"server\" or \"mutual\""
                }
                PatroniTls::Mutual(_) | PatroniTls::Server(_) => {
                    "check that this port is Patroni's REST API with TLS (restapi.certfile); patroni_port sets it, and \
                     patroni_tls = \"off\" asks by plain HTTP"
                }
            },
        ),
        (_, CertVerdict::Unsure(said)) => (
            Outcome::Unknown,
            format!("its certificate cannot be verified here: {said}"),
            "HAProxy's OpenSSL may accept it; `lbctl status` shows whether it does",
        ),
        (Reply::Status(code), _) => role(*code, answer.asked, haproxy),
    }
}

fn role(code: u16, asked: bool, haproxy: &Haproxy) -> (Outcome, String, &'static str) {
    let sought = sought(haproxy);
    let role = match code {
        200 => sought.to_owned(),
        503 => format!("not {sought}"),
        code => {
            format!("answers the health check with {code}, which is not the answer of any role")
        }
    };
    match (code, asked) {
        (200 | 503, _) if haproxy.patroni_tls.ca_pem().is_none() => {
            (Outcome::Ok, format!("{role}; answers by plain HTTP"), "")
        }
        (200 | 503, _) if haproxy.patroni_tls.client().is_none() => (
            Outcome::Ok,
            format!("{role}; its certificate is valid, and it demands none of the VM"),
            "",
        ),
        (200 | 503, true) => (
            Outcome::Ok,
            format!(
                "{role}; accepts a client certificate of this CA, and its own certificate is valid"
            ),
            "",
        ),
        (200 | 503, false) => (
            Outcome::Warning,
            format!("{role}; it does not ask for a client certificate"),
            "anybody who can reach it may call it: set restapi.verify_client = required on that node",
        ),
        _ => (
            Outcome::Warning,
            role,
            "check that this port is Patroni's REST API; patroni_port sets it",
        ),
    }
}

/// The answer of `ask` for each, all asked at the same time.
fn at_once<T: Sync, A: Send>(all: &[T], ask: impl Fn(&T) -> A + Sync) -> Vec<A> {
    thread::scope(|scope| {
        let ask = &ask;
        let asked: Vec<_> = all
            .iter()
            .map(|one| scope.spawn(move || ask(one)))
            .collect();
        asked
            .into_iter()
            .filter_map(|one| one.join().ok())
            .collect()
    })
}

//! What lies outside of the libvirt host: DNS and the nodes, asked from here. The guest asks the
//! same questions from its own network, so what cannot be reached from here is unknown and not a
//! failure.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use time::OffsetDateTime;

use super::nodes::{CertVerdict, NodeAnswer, Question, Reply, rest_api};
use super::{Checklist, Outcome, dns};
use crate::cert;
use crate::config::{Config, DomainName, Haproxy};
use crate::exit::MessageId;
use crate::reconcile::desired::policy;

const DNS_PORT: u16 = 53;
const FROM_HERE: &str =
    "the guest may reach it from its own network; `lbctl status` shows what the guest sees";

/// Asks all DNS servers at once, and then all nodes that they name at once: some seconds in all.
#[must_use]
pub fn inspect_outside(config: &Config) -> Checklist {
    let haproxy = &config.haproxy;
    let mut list = Checklist::default();
    let servers = &haproxy.postgres_nameserver_ips;
    let name = haproxy.postgres_domain.as_str();
    let answers = at_once(servers, |ip| dns::ask(SocketAddr::new(*ip, DNS_PORT), name));
    let mut nodes = BTreeSet::new();
    for (server, answer) in servers.iter().zip(answers) {
        if let dns::DnsAnswer::Addresses(addresses) = &answer {
            nodes.extend(addresses.iter().copied());
        }
        let (outcome, said, help) = of_dns(&answer, haproxy);
        list.add(outcome, format!("DNS {server}"), said, help);
    }
    // HAProxy does not ask more of them either.
    let most = usize::from(haproxy.postgres_nodes_max_count);
    let nodes: Vec<Ipv4Addr> = nodes.into_iter().take(most.min(dns::MOST)).collect();
    match question(config) {
        Ok(question) => ask_nodes(&nodes, &question, haproxy, &mut list),
        Err(said) => list.add(Outcome::Unknown, "nodes", said, FROM_HERE),
    }
    list
}

/// With a certificate that is made for this and kept nowhere.
fn question(config: &Config) -> Result<Question, String> {
    let brief = cert::Policy {
        validity_hours: 1,
        early_renewal_hours: 0,
        ..policy(config)
    };
    let made =
        cert::resolve(None, brief, OffsetDateTime::now_utc(), true).map_err(|e| e.to_string())?;
    let name = config.haproxy.verify_host.as_ref().map(DomainName::as_str);
    Question::new(&config.haproxy.patroni_client.ca, made.pair(), name)
}

fn ask_nodes(nodes: &[Ipv4Addr], question: &Question, haproxy: &Haproxy, list: &mut Checklist) {
    let port = haproxy.patroni_port.get();
    let answers = at_once(nodes, |ip| question.ask(rest_api(*ip, port)));
    let primaries = answers
        .iter()
        .filter(|answer| answer.reply == Reply::Status(200))
        .count();
    let answered = answers
        .iter()
        .all(|answer| matches!(answer.reply, Reply::Status(_)));
    for (ip, answer) in nodes.iter().zip(&answers) {
        let (outcome, said, help) = judge(answer);
        list.add(outcome, format!("node {ip}:{port}"), said, help);
    }
    if !nodes.is_empty() && answered && primaries != 1 {
        list.add(
            Outcome::Warning,
            "primary",
            format!("{primaries} nodes report that they are the primary"),
            "sessions are accepted only while there is exactly one; `patronictl list` on a node shows the cluster",
        );
    }
}

fn of_dns(answer: &dns::DnsAnswer, haproxy: &Haproxy) -> (Outcome, String, String) {
    let name = haproxy.postgres_domain.as_str();
    let most = usize::from(haproxy.postgres_nodes_max_count);
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

fn judge(answer: &NodeAnswer) -> (Outcome, String, &'static str) {
    const TRUST: &str = "HAProxy verifies the nodes with that CA: patroni_client.ca_certificate must contain the CA \
                         that signed restapi.certfile";
    match (&answer.reply, &answer.certificate) {
        (Reply::Unreachable(said), _) => (
            Outcome::Unknown,
            format!("not reached from here: {said}"),
            FROM_HERE,
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
        (Reply::RefusesUs(said), _) => (
            Outcome::Fails(MessageId::NodeRefusesClient),
            format!("it refuses a client certificate of the configured CA: {said}"),
            "restapi.cafile on that node must contain this CA",
        ),
        (Reply::Strange(said), _) => (
            Outcome::Fails(MessageId::NodeNotPatroni),
            said.clone(),
            "check that this port is Patroni's REST API with TLS (restapi.certfile); patroni_port sets it",
        ),
        (_, CertVerdict::Unsure(said)) => (
            Outcome::Unknown,
            format!("its certificate cannot be verified here: {said}"),
            "HAProxy's OpenSSL may accept it; `lbctl status` shows whether it does",
        ),
        (Reply::Status(code), _) => role(*code, answer.asked),
    }
}

fn role(code: u16, asked: bool) -> (Outcome, String, &'static str) {
    let role = match code {
        200 => "the primary".to_owned(),
        503 => "not the primary".to_owned(),
        code => format!("answers /primary with {code}, which is not the answer of any role"),
    };
    match (code, asked) {
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

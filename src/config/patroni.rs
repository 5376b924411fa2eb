//! How Patroni's REST API on the nodes is asked: by TLS with or without a client certificate, or by
//! plain HTTP.

use super::diagnostics::{Read, Spanned};
use super::keys;
use super::model::PatroniTls;
use super::patroni_client::{ca_certificates, patroni_client};
use super::reader::Section;
use super::types::{DomainName, Port};

/// As `haproxy.patroni_tls` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    Mutual,
    Server,
    Off,
}

/// Patroni's own default for its REST API.
pub(super) const PLAIN_PORT: Port = match Port::new(8008) {
    Some(port) => port,
    None => panic!("a port"),
};

const CLIENT: &str = "patroni_client";
const CA: &str = "ca_certificate";

/// `section` is `[haproxy]`. `verify_host`: what is given of it; `vm`: the name.
pub(super) fn patroni_tls(
    section: &Section<'_>,
    mode: &Spanned<TlsMode>,
    verify_host: Option<&Spanned<DomainName>>,
    vm: Option<&str>,
) -> Read<PatroniTls> {
    match mode.value {
        TlsMode::Mutual if section.gives(CLIENT) => {
            let client = patroni_client(&section.section_or_defaults(CLIENT), vm)?;
            Ok(PatroniTls::Mutual(Box::new(client)))
        }
        TlsMode::Mutual => {
            let needs = [
                "ca_key",
                CA,
                "certificate_validity_period",
                "certificate_early_renewal_period",
            ];
            let instead = "; or, where Patroni's REST API asks for no client certificate, give patroni_tls = \"server\" \
                           and ca_certificate alone, and where it has no TLS, patroni_tls = \"off\"";
            Err(section.missing_or(CLIENT, &needs, instead))
        }
        TlsMode::Server if section.gives(CLIENT) => {
            server(&section.section_or_defaults(CLIENT), mode)
        }
        TlsMode::Server => Err(section.missing(CLIENT, &[CA])),
        TlsMode::Off => off(section, mode, verify_host),
    }
}

/// The mode, where it is given and a word that is known.
pub(super) fn is_off(section: &Section<'_>) -> bool {
    let given = section.given("patroni_tls");
    given.is_some_and(|given| given.value.as_str() == Some("off"))
}

/// Of the REST API, on the nodes. By default Patroni's own, or with TLS that of the Terraform
/// module.
pub(super) fn patroni_port(section: &Section<'_>) -> Read<Spanned<Port>> {
    if is_off(section) && !section.gives("patroni_port") {
        return Ok(section.here().with(PLAIN_PORT));
    }
    section.port("patroni_port")
}

pub(super) fn default_patroni_port(section: &Section<'_>) -> Option<Port> {
    if is_off(section) {
        return Some(PLAIN_PORT);
    }
    section.default_port("patroni_port")
}

fn server(client: &Section<'_>, mode: &Spanned<TlsMode>) -> Read<PatroniTls> {
    let diagnostics = client.diagnostics();
    let mut unused = Ok(());
    for key in keys::children("haproxy.patroni_client").filter(|key| key.name() != CA) {
        if let Some(given) = client.given(key.name()) {
            let what = "is given, but the nodes are shown no client certificate";
            let help = "remove it, or give patroni_tls = \"mutual\"";
            let refused = diagnostics.conflict(&given, mode, what, "asks for none", help);
            unused = Err(refused);
        }
    }
    let ca = ca_certificates(client);
    unused?;
    Ok(PatroniTls::Server(ca?.value))
}

fn off(
    section: &Section<'_>,
    mode: &Spanned<TlsMode>,
    verify_host: Option<&Spanned<DomainName>>,
) -> Read<PatroniTls> {
    let diagnostics = section.diagnostics();
    let label = "asks by plain HTTP";
    let mut unused = Ok(());
    if let Some(client) = section.section(CLIENT) {
        let what = "is given, but plain HTTP has no certificates";
        let help =
            "remove [haproxy.patroni_client], or give patroni_tls = \"mutual\" or \"server\"";
        unused = Err(diagnostics.conflict(&client.here(), mode, what, label, help));
    }
    let nodes = section.sections("nodes");
    let of_nodes: Vec<_> = nodes
        .iter()
        .filter_map(|n| n.given("verify_host"))
        .collect();
    let all = verify_host.map(|given| given.with(()));
    for given in all.into_iter().chain(of_nodes.iter().map(|g| g.with(()))) {
        let what = "is given, but plain HTTP has no certificate that could carry a name";
        let help = "remove it, or give patroni_tls = \"mutual\" or \"server\"";
        unused = Err(diagnostics.conflict(&given, mode, what, label, help));
    }
    unused?;
    diagnostics.warn(
        mode,
        "is \"off\": nothing proves that a node answers the health checks",
        "whoever can change packets between the VM and the nodes decides which machine gets all sessions: keep that \
         network to yourself; or give Patroni a certificate (restapi.certfile) and set \"server\" here",
    );
    Ok(PatroniTls::Off)
}

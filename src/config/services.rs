//! What else runs in the VM (chrony, fluentd, node exporter), where images come from, and the host's libvirt. A service
//! that is switched off is `None` and its values are not judged.

use super::checks;
use super::model::{
    Chrony, ContainerRegistry, DomainType, Fluentd, FluentdForward, Libvirt, MakeStep, Runtime,
    TimeSource,
};
use super::reader::{Given, Section};
use super::report::quoted;
use super::types::{Wrong, character};
use crate::secret::Secret;

/// The section, where it is given and switched on. Says so where it is filled in but off by default.
fn enabled<'a>(root: &Section<'a>, name: &str) -> Option<Section<'a>> {
    let section = root.section(name)?;
    if !section.gives("enabled") {
        section.notes().warn(
            &section.here(),
            "is filled in but not switched on",
            "add enabled = true, or enabled = false to keep it for later",
        );
    }
    section
        .boolean("enabled")
        .is_some_and(|given| given.value)
        .then_some(section)
}

pub(super) fn node_exporter(root: &Section<'_>) -> bool {
    root.section("node_exporter")
        .and_then(|section| section.boolean("enabled"))
        .is_none_or(|given| given.value)
}

/// The outer `None`: something is wrong with it.
#[allow(clippy::option_option)]
pub(super) fn chrony(root: &Section<'_>) -> Option<Option<Chrony>> {
    let Some(section) = enabled(root, "chrony") else {
        return Some(None);
    };
    let servers = time_sources(&section, "servers");
    let pools = time_sources(&section, "pools");
    let makestep = match section.section("makestep") {
        Some(section) => makestep(&section).map(Some),
        None => Some(None),
    };
    if !section.gives("servers") && !section.gives("pools") {
        let what = "is switched on, but has neither servers nor pools to take the time from";
        section.notes().refuse(
            &section.here(),
            &Wrong::new(
                what,
                "add [[chrony.servers]] or [[chrony.pools]], each with a url",
            ),
        );
    }
    Some(Some(Chrony {
        servers: servers?,
        pools: pools?,
        makestep: makestep?,
    }))
}

fn time_sources(section: &Section<'_>, name: &str) -> Option<Vec<TimeSource>> {
    // Collected first, so that every one is looked at even where the first is wrong.
    let sources: Vec<Option<TimeSource>> = section.sections(name).iter().map(time_source).collect();
    sources.into_iter().collect()
}

fn time_source(section: &Section<'_>) -> Option<TimeSource> {
    let url = section.parsed("url", checks::host);
    let given = section.texts("options");
    let checked: Vec<_> = given
        .iter()
        .filter_map(|text| {
            section
                .notes()
                .check(Some(text.clone()), |text| options(text))
        })
        .collect();
    let whole = checked.len() == given.len();
    let options = checked
        .into_iter()
        .flat_map(|options| options.value)
        .collect();
    whole.then_some(TimeSource {
        url: url?.value,
        options,
    })
}

/// The words of an option with its value, or of several.
fn options(text: &str) -> Result<Vec<String>, Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '_' | '+' | '-');
    match text.chars().find(|c| !fine(*c)) {
        Some(bad) => Err(Wrong::new(
            format!(
                "is {}: {} is in no option of chrony",
                quoted(text),
                character(bad)
            ),
            "see `man chrony.conf`, directive server",
        )),
        None => Ok(text.split_whitespace().map(str::to_owned).collect()),
    }
}

fn makestep(section: &Section<'_>) -> Option<MakeStep> {
    let threshold = section.notes().check(section.number("threshold"), |value| {
        let help = "give a number of seconds such as 1.0";
        if *value > 0.0 && *value < 1e9 {
            Ok(*value)
        } else {
            Err(Wrong::new(
                format!("is {value}, which is no offset to step at"),
                help,
            ))
        }
    });
    let limit = section.integer(
        "limit",
        -1..=1_000_000,
        "give a number of clock updates, or -1 for all of them",
    );
    Some(MakeStep {
        threshold: threshold?.value,
        limit: limit?.value,
    })
}

#[allow(clippy::option_option)]
pub(super) fn fluentd(root: &Section<'_>) -> Option<Option<Fluentd>> {
    let Some(section) = enabled(root, "fluentd") else {
        return Some(None);
    };
    let load_balancer_tag = section.parsed("load_balancer_tag", checks::fluentd_tag);
    let node_exporter_tag = section.parsed("node_exporter_tag", checks::fluentd_tag);
    let forward = section
        .section("forward")
        .and_then(|section| forward(&section));
    let buffer = match section.section("buffer") {
        Some(section) => buffer(&section),
        None => Some(None),
    };
    Some(Some(Fluentd {
        load_balancer_tag: load_balancer_tag?.value,
        node_exporter_tag: node_exporter_tag?.value,
        forward: forward?,
        buffer: buffer?,
    }))
}

fn forward(section: &Section<'_>) -> Option<FluentdForward> {
    let notes = section.notes();
    let domain = section.parsed("domain", checks::host);
    let port = section.port("port");
    let hostname = section.parsed("hostname", checks::one_word);
    let shared_key = notes.check(section.secret("shared_key"), one_line_secret);
    let ca_cert = notes.check(section.secret("ca_cert"), |text| {
        certificates(text.expose())
    });
    Some(FluentdForward {
        domain: domain?.value,
        port: port?.value,
        hostname: hostname?.value,
        shared_key: shared_key?.value,
        ca_cert: ca_cert?.value,
    })
}

#[allow(clippy::option_option)]
fn buffer(section: &Section<'_>) -> Option<Option<String>> {
    if !section
        .boolean("customized")
        .is_some_and(|given| given.value)
    {
        return Some(None);
    }
    if !section.gives("custom_value") {
        let what = "is customized, but `custom_value` is missing";
        section.notes().refuse(
            &section.here(),
            &Wrong::new(
                what,
                "add custom_value with a whole <buffer> section, or set customized = false",
            ),
        );
    }
    section
        .parsed("custom_value", checks::buffer)
        .map(|given| Some(given.value))
}

fn one_line_secret(text: &Secret) -> Result<Secret, Wrong> {
    match text.expose().chars().find(|c| c.is_control()) {
        Some(bad) => Err(Wrong::new(
            format!("has {} in it", character(bad)),
            "give it on one line, without control characters",
        )),
        None => Ok(text.clone()),
    }
}

/// A PEM text of certificates, as it was given.
fn certificates(text: &str) -> Result<String, Wrong> {
    let help =
        "give the PEM text of the CA's certificate: it begins with -----BEGIN CERTIFICATE-----";
    if text.contains("PRIVATE KEY") {
        return Err(Wrong::new(
            "has a private key in it, where a certificate is expected",
            help,
        ));
    }
    let certificates: Result<Vec<_>, _> = rustls_pemfile::certs(&mut text.as_bytes()).collect();
    let certificates = certificates.map_err(|_| Wrong::new("is a damaged PEM text", help))?;
    if certificates.is_empty() {
        return Err(Wrong::new("has no certificate in PEM form in it", help));
    }
    if certificates
        .iter()
        .any(|der| x509_parser::parse_x509_certificate(der).is_err())
    {
        return Err(Wrong::new(
            "has a PEM block in it that is not a certificate",
            help,
        ));
    }
    Ok(text.to_owned())
}

#[allow(clippy::option_option)]
pub(super) fn container_registry(
    root: &Section<'_>,
    runtime: Option<Runtime>,
) -> Option<Option<ContainerRegistry>> {
    let Some(section) = root.section("container_registry") else {
        return Some(None);
    };
    let notes = section.notes();
    let url = section.parsed("url", checks::registry_url);
    let username = section.parsed("username", checks::one_line);
    let password = notes.check(section.secret("password"), one_line_secret);
    let ca_certificate = notes.check(section.secret("ca_certificate"), |text| {
        certificates(text.expose())
    });
    let plain = url.as_ref().filter(|url| url.value.starts_with("http://"));
    if let Some(url) = plain {
        notes.warn(
            url,
            "begins with http://: the password goes over the network for all to read, and whoever stands between can give \
             the VM another image",
            "begin it with https://; the certificate of a CA of your own goes into ca_certificate",
        );
    }
    if section.gives("ca_certificate") && plain.is_some() {
        notes.warn(
            &section.here(),
            "has a ca_certificate, but its url begins with http://, so there is no certificate to verify",
            "begin the url with https://, or remove ca_certificate",
        );
    }
    if runtime == Some(Runtime::Package) {
        notes.warn(
            &section.here(),
            "is not used: haproxy.runtime is \"package\", so no image is taken",
            "remove it",
        );
    }
    Some(Some(ContainerRegistry {
        url: url?.value,
        username: username?.value,
        password: password?.value,
        ca_certificate: ca_certificate.map(|given| given.value),
    }))
}

pub(super) fn libvirt(root: &Section<'_>) -> Option<Libvirt> {
    let Some(section) = root.section("libvirt") else {
        return Some(Libvirt {
            uri: None,
            domain_type: DomainType::Auto,
            machine: None,
        });
    };
    let uri = section.parsed("uri", checks::connection_uri);
    let domain_type = section.parsed("domain_type", checks::domain_type);
    let machine = section.parsed("machine", checks::machine);
    let whole = |key: &str, read: bool| read || !section.gives(key);
    let fine = whole("uri", uri.is_some())
        && whole("domain_type", domain_type.is_some())
        && whole("machine", machine.is_some());
    let text = |given: Option<Given<String>>| given.map(|given| given.value);
    fine.then(|| Libvirt {
        uri: text(uri),
        domain_type: domain_type.map_or(DomainType::Auto, |given| given.value),
        machine: text(machine),
    })
}

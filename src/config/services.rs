//! What else runs in the VM (chrony, fluentd, node exporter), where images come from, and the
//! host's libvirt. A service that is switched off is `None` and its values are not judged.

use super::checks;
use super::diagnostics::{Read, Spanned, all};
use super::model::{
    Chrony, ContainerRegistry, DomainType, Fluentd, FluentdForward, Libvirt, MakeStep, Runtime,
    TimeSource,
};
use super::reader::Section;
use super::types::{InvalidValue, character};
use crate::secret::Secret;

/// The section, where it is given and switched on. Says so where it is filled in but off by
/// default.
fn enabled<'a>(root: &Section<'a>, name: &str) -> Read<Option<Section<'a>>> {
    let Some(section) = root.section(name) else {
        return Ok(None);
    };
    if !section.gives("enabled") {
        section.diagnostics().warn(
            &section.here(),
            "is filled in but not switched on",
            "add enabled = true, or enabled = false to keep it for later",
        );
    }
    let enabled = section.boolean("enabled")?;
    Ok(enabled.value.then_some(section))
}

pub(super) fn node_exporter(root: &Section<'_>) -> Read<bool> {
    let section = root.section_or_defaults("node_exporter");
    section.boolean("enabled").map(Spanned::into_value)
}

pub(super) fn chrony(root: &Section<'_>) -> Read<Option<Chrony>> {
    let Some(section) = enabled(root, "chrony")? else {
        return Ok(None);
    };
    let servers = all(section.sections("servers").iter().map(time_source));
    let pools = all(section.sections("pools").iter().map(time_source));
    let makestep = section
        .section("makestep")
        .map(|section| makestep(&section))
        .transpose();
    if !section.gives("servers") && !section.gives("pools") {
        let what = "is switched on, but has neither servers nor pools to take the time from";
        let help = "add [[chrony.servers]] or [[chrony.pools]], each with a url";
        let diagnostics = section.diagnostics();
        return Err(diagnostics.refuse(&section.here(), what, help));
    }
    Ok(Some(Chrony {
        servers: servers?,
        pools: pools?,
        makestep: makestep?,
    }))
}

fn time_source(section: &Section<'_>) -> Read<TimeSource> {
    let url = section.parsed("url", checks::host);
    let options = section.texts("options", options)?;
    Ok(TimeSource {
        url: url?.value,
        options: options.into_iter().flat_map(Spanned::into_value).collect(),
    })
}

/// The words of an option with its value, or of several.
fn options(text: &str) -> Result<Vec<String>, InvalidValue> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '_' | '+' | '-');
    match text.chars().find(|c| !fine(*c)) {
        Some(bad) => Err(InvalidValue::quoting(
            text,
            format_args!(": {} is not allowed in an option of chrony", character(bad)),
            "see `man chrony.conf`, directive server",
        )),
        None => Ok(text.split_whitespace().map(str::to_owned).collect()),
    }
}

fn makestep(section: &Section<'_>) -> Read<MakeStep> {
    let threshold = section.number(
        "threshold",
        "an offset to step at",
        "give a number of seconds such as 1.0",
    );
    let limit = section.integer(
        "limit",
        "give a number of clock updates, or -1 for all of them",
    );
    Ok(MakeStep {
        threshold: threshold?.value,
        limit: limit?.value,
    })
}

pub(super) fn fluentd(root: &Section<'_>) -> Read<Option<Fluentd>> {
    let Some(section) = enabled(root, "fluentd")? else {
        return Ok(None);
    };
    let load_balancer_tag = section.parsed("load_balancer_tag", checks::fluentd_tag);
    let node_exporter_tag = section.parsed("node_exporter_tag", checks::fluentd_tag);
    let forward = forward(&section.section_or_defaults("forward"));
    let buffer = buffer(&section.section_or_defaults("buffer"));
    Ok(Some(Fluentd {
        load_balancer_tag: load_balancer_tag?.value,
        node_exporter_tag: node_exporter_tag?.value,
        forward: forward?,
        buffer: buffer?,
    }))
}

fn forward(section: &Section<'_>) -> Read<FluentdForward> {
    let domain = section.parsed("domain", checks::host);
    let port = section.port("port");
    let hostname = section.parsed("hostname", checks::one_word);
    let shared_key = section.secret_as("shared_key", one_line_secret);
    let ca_cert = section.secret_as("ca_cert", certificates);
    Ok(FluentdForward {
        domain: domain?.value,
        port: port?.value,
        hostname: hostname?.value,
        shared_key: shared_key?.value,
        ca_cert: ca_cert?.value,
    })
}

fn buffer(section: &Section<'_>) -> Read<Option<String>> {
    if !section.boolean("customized")?.value {
        return Ok(None);
    }
    if !section.gives("custom_value") {
        let what = "is customized, but `custom_value` is missing";
        let help = "add custom_value with a whole <buffer> section, or set customized = false";
        let diagnostics = section.diagnostics();
        return Err(diagnostics.refuse(&section.here(), what, help));
    }
    let buffer = section.parsed("custom_value", checks::buffer)?;
    if let Some(path) = path_of_buffer(&buffer.value).filter(|path| !is_of_fluentd(path)) {
        let what = format!(
            "has its files at {path}, where fluentd may not write: its unit lets it into {FLUENTD_FOLDER} alone"
        );
        let help = format!("give a path in {FLUENTD_FOLDER}, such as {FLUENTD_FOLDER}/buffer");
        section.diagnostics().warn(&buffer, &what, &help);
    }
    Ok(Some(buffer.value))
}

/// Of `StateDirectory` in `templates/fluentd.service`.
const FLUENTD_FOLDER: &str = "/var/lib/fluentd";

fn path_of_buffer(section: &str) -> Option<&str> {
    let value = section.lines().find_map(|line| {
        let (word, value) = line.trim().split_once([' ', '\t'])?;
        (word == "path").then(|| value.trim())
    })?;
    Some(value.trim_matches(['"', '\'']))
}

/// What fluentd itself is to put in the place of `#{…}` or `${…}` is not known here.
fn is_of_fluentd(path: &str) -> bool {
    path.contains(['#', '$'])
        || path
            .strip_prefix(FLUENTD_FOLDER)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn one_line_secret(text: &Secret) -> Result<Secret, InvalidValue> {
    match text.expose().chars().find(|c| c.is_control()) {
        Some(bad) => Err(InvalidValue::new(
            format!("has {} in it", character(bad)),
            "give it on one line, without control characters",
        )),
        None => Ok(text.clone()),
    }
}

/// A PEM text of certificates, as it was given: as many as it begins, for what others cannot read
/// would be lost.
pub(super) fn certificates(text: &Secret) -> Result<String, InvalidValue> {
    let text = text.expose();
    let help =
        "give the PEM text of the CA's certificate: it begins with -----BEGIN CERTIFICATE-----";
    if text.contains("PRIVATE KEY") {
        return Err(InvalidValue::new(
            "has a private key in it, where a certificate is expected",
            help,
        ));
    }
    crate::cert::certificates_for_others(text)
        .map_err(|(message, hint)| InvalidValue::new(format!("is {message}"), hint))
}

pub(super) fn container_registry(
    root: &Section<'_>,
    runtime: Option<Runtime>,
) -> Read<Option<ContainerRegistry>> {
    let Some(section) = root.section("container_registry") else {
        return Ok(None);
    };
    let diagnostics = section.diagnostics();
    let url = section.parsed("url", checks::registry_url);
    let username = section.parsed("username", checks::one_line);
    let password = section.secret_as("password", one_line_secret);
    let ca_certificate = section.optional_secret("ca_certificate", certificates);
    let plain = url
        .as_ref()
        .ok()
        .filter(|url| url.value.starts_with("http://"));
    if let Some(url) = plain {
        diagnostics.warn(
            url,
            "begins with http://: the password goes over the network for all to read, and whoever is between can give \
             the VM another image",
            "begin it with https://; the certificate of a CA of your own goes into ca_certificate",
        );
    }
    if section.gives("ca_certificate") && plain.is_some() {
        diagnostics.warn(
            &section.here(),
            "has a ca_certificate, but its url begins with http://, so there is no certificate to verify",
            "begin the url with https://, or remove ca_certificate",
        );
    }
    if runtime == Some(Runtime::Package) {
        diagnostics.warn(
            &section.here(),
            "is not used: haproxy.runtime is \"package\", so no image is taken",
            "remove it",
        );
    }
    Ok(Some(ContainerRegistry {
        url: url?.value,
        username: username?.value,
        password: password?.value,
        ca_certificate: ca_certificate?.map(Spanned::into_value),
    }))
}

/// The URI has no default here: `LIBVIRT_DEFAULT_URI` comes between.
pub(super) fn libvirt(root: &Section<'_>) -> Read<Libvirt> {
    let section = root.section_or_defaults("libvirt");
    let uri = section.optional("uri", |s, k| s.parsed(k, checks::connection_uri));
    let domain_type: Read<Spanned<DomainType>> = section.word("domain_type");
    let machine = section.optional("machine", |s, k| s.parsed(k, checks::machine));
    if let Ok(Some(uri)) = &uri {
        root.reader.claims.borrow_mut().host = Some(uri.value.clone());
    }
    Ok(Libvirt {
        uri: uri?.map(Spanned::into_value),
        domain_type: domain_type?.value,
        machine: machine?.map(Spanned::into_value),
    })
}

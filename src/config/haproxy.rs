//! The load balancer: where the nodes are, how they are checked, the ports it takes and the CA its
//! certificate is from.

use std::net::IpAddr;

use super::checks;
use super::clients::{clients, networks, of_the_vm};
use super::diagnostics::{Read, Refused, Spanned};
use super::model::{
    Check, Haproxy, Interface, Metrics, PatroniClient, Replicas, Runtime, Timeouts,
};
use super::ports;
use super::reader::{Section, SwitchOrPort};
use super::report::ProblemId;
use super::types::{
    DomainName, HaproxyTime, HaproxyVersion, HourSpan, InvalidValue, MemoryMib, Port,
};
use crate::cert::{Ca, Part, Policy};

const MOST_NAMESERVERS: usize = 8;

/// The rest of the VM, as far as the load balancer must fit it. What could not be read is `None`.
pub(super) struct Machine<'a> {
    pub memory: Option<MemoryMib>,
    pub interfaces: Option<&'a [Interface]>,
    /// It has a port.
    pub node_exporter: bool,
}

pub(super) fn haproxy(root: &Section<'_>, machine: &Machine<'_>) -> Read<Haproxy> {
    let section = root.section_or_defaults("haproxy");
    let nodes = section.integer(
        "postgres_nodes_max_count",
        "give the number of nodes the cluster may grow to, such as 3",
    );
    let nameservers = nameservers(&section);
    let domain = section.parsed("postgres_domain", DomainName::parse);
    let patroni_client = patroni_client(&section.section_or_defaults("patroni_client"));
    let timeouts = section.section_or_defaults("timeouts");
    let idle = timeouts.time("idle");
    let timeouts = self::timeouts(&timeouts, idle.clone());
    let check = check(&section.section_or_defaults("check"));
    let runtime: Read<Spanned<Runtime>> = section.word("runtime");
    let runtime = runtime.map(Spanned::into_value);
    let version = version(&section, runtime.ok());
    let image = section.parsed("image", checks::image);
    let image_digest = section.optional("image_digest", |s, k| s.parsed(k, checks::digest));
    let verify_host = section.optional("verify_host", |s, k| s.parsed(k, DomainName::parse));
    let interfaces = machine.interfaces;
    let clients = clients(&section, machine, version.ok(), idle.as_ref().ok());
    let hard_stop_after = section.time("hard_stop_after");
    let metrics = metrics(&section.section_or_defaults("metrics"), interfaces);
    let patroni_port = section.port("patroni_port");
    let patroni_passthrough = passthrough(&section, patroni_port.as_ref().ok());
    let patroni_allow = networks(&section, "patroni_allow");
    let replicas = replicas(&section);
    let apart = ports::apart(&section, runtime.ok(), machine.node_exporter);
    unused(&section, runtime.ok());
    apart?;
    let clients = clients?;
    Ok(Haproxy {
        postgres_nodes_max_count: nodes?.value,
        postgres_nameserver_ips: nameservers?,
        postgres_domain: domain?.value,
        patroni_client: patroni_client?,
        timeouts: timeouts?,
        runtime: runtime?,
        version: version?,
        image: image?.value,
        image_digest: image_digest?.map(Spanned::into_value),
        verify_host: verify_host?.map(Spanned::into_value),
        max_connections: clients.max_connections,
        max_connections_per_client: clients.max_connections_per_client,
        hold: clients.hold,
        primary_connections: clients.primary_connections,
        port: clients.port,
        address: clients.address,
        allow: clients.allow,
        metrics: metrics?,
        replicas: replicas?,
        patroni_port: patroni_port?.value,
        patroni_passthrough: patroni_passthrough?,
        patroni_allow: patroni_allow?,
        check: check?,
        hard_stop_after: hard_stop_after?.value,
    })
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
        None => Err(Refused::BY_SCHEMA),
        Some(first) if servers.len() > MOST_NAMESERVERS => {
            let what = format!("is the first of {} nameservers", servers.len());
            let help = format!("give at most {MOST_NAMESERVERS}: HAProxy asks all of them at once");
            Err(diagnostics.refuse(first, &what, help))
        }
        Some(_) => Ok(servers),
    }
}

fn version(section: &Section<'_>, runtime: Option<Runtime>) -> Read<HaproxyVersion> {
    if runtime == Some(Runtime::Package) && !section.gives("version") {
        return Ok(HaproxyVersion::OF_PACKAGES);
    }
    let version = section.parsed("version", HaproxyVersion::parse)?;
    Ok(version.value)
}

fn timeouts(section: &Section<'_>, idle: Read<Spanned<HaproxyTime>>) -> Read<Timeouts> {
    let connect = section.time("connect");
    let check = section.time("check");
    Ok(Timeouts {
        connect: connect?.value,
        check: check?.value,
        idle: idle?.value,
    })
}

fn check(section: &Section<'_>) -> Read<Check> {
    let interval = section.time("interval");
    let fast = section.time("fast");
    let down = section.time("down");
    let rise = section.integer("rise", "give a number of checks, such as 2");
    let fall = section.integer("fall", "give a number of checks, such as 2");
    let check = Check {
        interval: interval?.value,
        fast: fast?.value,
        down: down?.value,
        rise: rise?.value,
        fall: fall?.value,
    };
    if check.fast.millis() > check.interval.millis() {
        let what = format!(
            "has fast = {}, longer than interval = {}: changes would be seen later, not sooner",
            check.fast, check.interval
        );
        let help = "make fast the shorter one";
        section.diagnostics().warn(&section.here(), &what, help);
    }
    Ok(check)
}

fn metrics(section: &Section<'_>, interfaces: Option<&[Interface]>) -> Read<Option<Metrics>> {
    let enabled = section.boolean("enabled");
    let address = section.parsed("address", checks::listen_address);
    if let Ok(address) = &address {
        of_the_vm(section, address, interfaces)?;
    }
    let port = section.port("port");
    let metrics = Metrics {
        address: address?.value,
        port: port?.value,
    };
    Ok(enabled?.value.then_some(metrics))
}

/// The port of the VM that leads to Patroni's REST API.
fn passthrough(section: &Section<'_>, patroni_port: Option<&Spanned<Port>>) -> Read<Option<Port>> {
    let given = section.switch_or_port("patroni_passthrough")?;
    if let (SwitchOrPort::Switch(false), Some(allow)) =
        (&given.value, section.given("patroni_allow"))
    {
        section.diagnostics().warn(
            &allow,
            "is not used: haproxy.patroni_passthrough is false",
            "remove it",
        );
    }
    match given.value {
        SwitchOrPort::Switch(false) => Ok(None),
        SwitchOrPort::Switch(true) => match patroni_port {
            Some(port) => Ok(Some(port.value)),
            None => Err(Refused::BY_SCHEMA),
        },
        SwitchOrPort::Port(port) => Ok(Some(port)),
    }
}

fn replicas(section: &Section<'_>) -> Read<Option<Replicas>> {
    let lag = section.optional("replicas_max_lag", |s, k| s.parsed(k, checks::lag));
    let Some(port) = section.optional("replicas_port", Section::port)? else {
        return match section.given("replicas_max_lag") {
            None => Ok(None),
            Some(given) => {
                let what = "is given, but no port for the replicas is";
                let help = "add replicas_port = 5433, or remove it";
                Err(section.diagnostics().refuse(&given, what, help))
            }
        };
    };
    Ok(Some(Replicas {
        port: port.value,
        max_lag: lag?.map(Spanned::into_value),
    }))
}

/// Keys that mean nothing under the chosen runtime.
fn unused(section: &Section<'_>, runtime: Option<Runtime>) {
    if runtime != Some(Runtime::Package) {
        return;
    }
    for given in ["image", "image_digest"]
        .iter()
        .filter_map(|key| section.given(key))
    {
        section.diagnostics().warn(
            &given,
            "is not used: haproxy.runtime is \"package\", so no image is taken",
            "remove it",
        );
    }
}

fn patroni_client(section: &Section<'_>) -> Read<PatroniClient> {
    let diagnostics = section.diagnostics();
    let help = "give a number of hours, such as 8760 for a year";
    let validity = section.integer("certificate_validity_period", help);
    let early_renewal = section.integer("certificate_early_renewal_period", help);
    let key_algorithm = section.word("key_algorithm");
    let ca = ca(section);

    let (validity, early_renewal): (Spanned<HourSpan>, Spanned<HourSpan>) =
        (validity?, early_renewal?);
    if early_renewal.value >= validity.value {
        let what = format!(
            "is {} hours, not less than the {} for which the certificate is valid",
            early_renewal.value, validity.value
        );
        let help = "lower it: otherwise every run would issue another certificate";
        let label = "how long it is valid";
        return Err(diagnostics.conflict(&early_renewal, &validity, &what, label, help));
    }
    let client = PatroniClient {
        ca: ca?,
        validity: validity.value,
        early_renewal: early_renewal.value,
        key_algorithm: key_algorithm?.value,
    };
    let policy = Policy {
        ca: &client.ca,
        validity_hours: client.validity.get(),
        early_renewal_hours: client.early_renewal.get(),
        key_algorithm: client.key_algorithm,
    };
    if let Some(clamp) = section.reader.now.and_then(|now| policy.clamp(now)) {
        diagnostics.warn(
            &validity,
            &format!("is longer than the CA lasts: {clamp}"),
            "shorten it, or renew the CA in time",
        );
    }
    Ok(client)
}

/// The CA, fit to issue and valid now.
fn ca(section: &Section<'_>) -> Read<Ca> {
    let diagnostics = section.diagnostics();
    let (key, certificate) = (section.secret("ca_key"), section.secret("ca_certificate"));
    let (key, certificate) = (key?, certificate?);
    let invalid = |error| (ProblemId::InvalidValue, error);
    let not_in_force = |error| (ProblemId::CaNotInForce, error);
    let loaded = Ca::load(&key.value, certificate.value.expose()).map_err(invalid);
    let loaded = loaded.and_then(|ca| match section.reader.now {
        Some(now) => ca.check_time(now).map(|()| ca).map_err(not_in_force),
        None => Ok(ca),
    });
    loaded.map_err(|(id, error)| {
        let help = error.hint.unwrap_or_default();
        let invalid = InvalidValue::new(format!("is {}", error.message), &*help).with_id(id);
        match error.part {
            Part::Key => diagnostics.invalid(&key, invalid),
            Part::Certificate => diagnostics.invalid(&certificate, invalid),
            Part::Pair => {
                let what = format!("and `ca_certificate` are not a pair: {}", error.message);
                diagnostics.conflict(&key, &certificate, &what, "the certificate", &help)
            }
        }
    })
}

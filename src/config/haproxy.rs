//! The load balancer: where the nodes are, how they are checked, the ports it takes and the CA its
//! certificate is from.

use super::checks;
use super::clients::{clients, networks, of_the_vm};
use super::diagnostics::{Read, Refused, Spanned};
use super::listeners::{replicas, services};
use super::model::{Check, Haproxy, Interface, MainRole, Metrics, Runtime, Timeouts};
use super::nodes::{Defaults, nodes};
use super::pace;
use super::patroni::{TlsMode, patroni_port, patroni_tls};
use super::ports;
use super::reader::{Section, SwitchOrPort};
use super::types::{DomainName, HaproxyTime, HaproxyVersion, MemoryMib, Port};

/// The rest of the VM, as far as the load balancer must fit it. What could not be read is `None`.
pub(super) struct Machine<'a> {
    pub memory: Option<MemoryMib>,
    pub interfaces: Option<&'a [Interface]>,
    /// It has a port.
    pub node_exporter: bool,
}

pub(super) fn haproxy(root: &Section<'_>, machine: &Machine<'_>) -> Read<Haproxy> {
    let section = root.section_or_defaults("haproxy");
    let postgres_port = section.port("postgres_port");
    let patroni_port = patroni_port(&section);
    let value = |port: &Read<Spanned<Port>>| port.as_ref().ok().map(|port| port.value);
    let defaults = Defaults {
        postgres: value(&postgres_port),
        patroni: value(&patroni_port),
    };
    let nodes = nodes(&section, defaults);
    let verify_host = section.optional("verify_host", |s, k| s.parsed(k, DomainName::parse));
    let given_host = verify_host.as_ref().ok().and_then(Option::as_ref);
    let vm = root.given("name").and_then(|name| name.value.as_str());
    let patroni_tls = section
        .word::<TlsMode>("patroni_tls")
        .and_then(|mode| patroni_tls(&section, &mode, given_host, vm));
    let timeouts = section.section_or_defaults("timeouts");
    let idle = timeouts.time("idle");
    let timeouts = self::timeouts(&timeouts, idle.clone());
    let check = check(&section.section_or_defaults("check"));
    if let (Ok(timeouts), Ok(check)) = (&timeouts, &check) {
        pace::failover(&section, timeouts, check);
    }
    pace::certificate(&section.section_or_defaults("patroni_client"));
    let runtime: Read<Spanned<Runtime>> = section.word("runtime");
    let runtime = runtime.map(Spanned::into_value);
    let version = version(&section, runtime.ok());
    let image = section.parsed("image", checks::image);
    let image_digest = section.optional("image_digest", |s, k| s.parsed(k, checks::digest));
    let interfaces = machine.interfaces;
    let clients = clients(&section, machine, version.ok(), idle.as_ref().ok());
    let hard_stop_after = section.time("hard_stop_after");
    let metrics = metrics(&section.section_or_defaults("metrics"), interfaces);
    let role: Read<Spanned<MainRole>> = section.word("role");
    let patroni_passthrough = passthrough(&section, patroni_port.as_ref().ok());
    let listening = clients.as_ref().ok().map(|clients| clients.address);
    let patroni_allow = networks(&section, "patroni_allow", listening);
    let replicas = replicas(&section);
    let services = services(&section);
    let apart = ports::apart(&section, runtime.ok(), machine.node_exporter);
    unused(&section, runtime.ok());
    apart?;
    let clients = clients?;
    Ok(Haproxy {
        nodes: nodes?,
        patroni_tls: patroni_tls?,
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
        role: role?.value,
        postgres_port: postgres_port?.value,
        address: clients.address,
        allow: clients.allow,
        metrics: metrics?,
        replicas: replicas?,
        services: services?,
        patroni_port: patroni_port?.value,
        patroni_passthrough: patroni_passthrough?,
        patroni_allow: patroni_allow?,
        check: check?,
        hard_stop_after: hard_stop_after?.value,
    })
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

//! The load balancer: where the nodes are, how they are checked, the ports it takes and the CA its certificate is from.

use std::net::{IpAddr, Ipv4Addr};

use super::checks;
use super::model::{Check, Haproxy, Metrics, PatroniClient, Replicas, Runtime, Timeouts};
use super::ports;
use super::reader::{Given, Section};
use super::report::ProblemId;
use super::types::{DomainName, HaproxyTime, HaproxyVersion, MAX_HAPROXY_MILLIS, MemoryMib, Wrong};
use crate::cert::{Ca, KeyAlgorithm, Part, Policy};

/// Each node is a slot of a server-template that is checked and resolved for ever.
const MOST_NODES: i64 = 100;
const MOST_NAMESERVERS: usize = 8;
/// Two buffers of 16 KiB, the stream, and both sockets in the kernel: what a session costs, in KiB.
const SESSION_KIB: u64 = 64;
/// 500 years of 8766 hours.
const LONGEST_VALIDITY: i64 = 500 * 8766;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// `memory` (MiB) is that of the VM, which the sessions must fit in; with `node_exporter` its port is taken.
pub(super) fn haproxy(
    root: &Section<'_>,
    memory: Option<MemoryMib>,
    node_exporter: bool,
) -> Option<Haproxy> {
    let section = root.section("haproxy")?;
    let nodes = nodes(&section);
    let nameservers = nameservers(&section);
    let domain = section.parsed("postgres_domain", DomainName::parse);
    let patroni_client = section
        .section("patroni_client")
        .and_then(|section| patroni_client(&section));
    let timeouts = timeouts(&section);
    let check = check(&section);
    let runtime = section.or("runtime", Runtime::Container, |s, k| {
        s.parsed(k, checks::runtime)
    });
    let version = version(&section, runtime);
    let image = section.or("image", "haproxy".to_owned(), |s, k| {
        s.parsed(k, checks::image)
    });
    let image_digest = section.or("image_digest", None, |s, k| {
        s.parsed(k, |text| checks::digest(text).map(Some))
    });
    let verify_host = section.or("verify_host", None, |s, k| {
        s.parsed(k, |text| DomainName::parse(text).map(Some))
    });
    let max_connections = max_connections(&section, memory);
    let hard_stop_after = time(
        &section,
        "hard_stop_after",
        "1h",
        SECOND..=MAX_HAPROXY_MILLIS,
    );
    let metrics = metrics(&section);
    let patroni_port = section.or("patroni_port", 4443, Section::port);
    let replicas = replicas(&section);
    let apart = ports::apart(&section, runtime, node_exporter);
    unused(&section, runtime);
    Some(Haproxy {
        postgres_nodes_max_count: nodes?,
        postgres_nameserver_ips: nameservers?,
        postgres_domain: domain?.value,
        patroni_client: patroni_client?,
        timeouts: timeouts?,
        runtime: runtime?,
        version: version?,
        image: image?,
        image_digest: image_digest?,
        verify_host: verify_host?,
        max_connections: max_connections?,
        metrics: metrics?,
        replicas: replicas?,
        patroni_port: patroni_port.filter(|_| apart)?,
        check: check?,
        hard_stop_after: hard_stop_after?,
    })
}

fn nodes(section: &Section<'_>) -> Option<u16> {
    let help = "give the number of nodes the cluster may grow to, such as 3";
    let nodes = section.integer("postgres_nodes_max_count", 1..=MOST_NODES, help)?;
    u16::try_from(nodes.value).ok()
}

fn time(
    section: &Section<'_>,
    key: &str,
    default: &str,
    bounds: std::ops::RangeInclusive<u64>,
) -> Option<HaproxyTime> {
    if section.gives(key) {
        section.time(key, bounds).map(|given| given.value)
    } else {
        HaproxyTime::parse(default).ok()
    }
}

fn nameservers(section: &Section<'_>) -> Option<Vec<IpAddr>> {
    let notes = section.notes();
    let given = section.texts("postgres_nameserver_ips");
    let checked: Vec<Given<IpAddr>> = given
        .iter()
        .filter_map(|text| notes.check(Some(text.clone()), |text| checks::server_address(text)))
        .collect();
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in &checked {
        if servers.contains(&server.value) {
            notes.warn(
                server,
                "is given twice, which adds no safety",
                "give another nameserver, or this one once",
            );
        } else {
            servers.push(server.value);
        }
    }
    if servers.len() > MOST_NAMESERVERS {
        let help = format!("give at most {MOST_NAMESERVERS}: HAProxy asks all of them at once");
        notes.refuse(
            &checked[0],
            &Wrong::new(
                format!("is the first of {} nameservers", servers.len()),
                help,
            ),
        );
        return None;
    }
    (checked.len() == given.len() && !servers.is_empty()).then_some(servers)
}

fn version(section: &Section<'_>, runtime: Option<Runtime>) -> Option<HaproxyVersion> {
    // A distribution's package is at least as old as the oldest of those supported (Debian 12); the syntax of a release
    // is understood by those after it.
    let minor = if runtime == Some(Runtime::Package) {
        (2, 6)
    } else {
        (3, 2)
    };
    let default = HaproxyVersion {
        major: minor.0,
        minor: minor.1,
    };
    section.or("version", default, |s, k| {
        s.parsed(k, HaproxyVersion::parse)
    })
}

fn max_connections(section: &Section<'_>, memory: Option<MemoryMib>) -> Option<u32> {
    let count = |given: Given<i64>| {
        u32::try_from(given.value)
            .ok()
            .map(|value| given.with(value))
    };
    let bounded = |s: &Section<'_>, k: &str| {
        s.integer(
            k,
            10..=1_000_000,
            "give the most sessions at one time, such as 2000",
        )
    };
    let most = if section.gives("max_connections") {
        bounded(section, "max_connections").and_then(count)?
    } else {
        section.here().with(2000)
    };
    let needed = u64::from(most.value) * SESSION_KIB / 1024;
    if let Some(memory) = memory.filter(|memory| needed > memory / 2) {
        let what = format!(
            "allows {} connections, which may need {needed} MiB, more than half of the VM's {memory} MiB",
            most.value
        );
        section
            .notes()
            .warn(&most, &what, "raise memory, or lower max_connections");
    }
    Some(most.value)
}

fn timeouts(section: &Section<'_>) -> Option<Timeouts> {
    let timeouts = section.section("timeouts");
    let read = |key: &str, default: &str, bounds| match &timeouts {
        Some(timeouts) => time(timeouts, key, default, bounds),
        None => HaproxyTime::parse(default).ok(),
    };
    let connect = read("connect", "5s", 100..=10 * MINUTE);
    let check = read("check", "2s", 100..=10 * MINUTE);
    let idle = read("idle", "24h", SECOND..=MAX_HAPROXY_MILLIS);
    Some(Timeouts {
        connect: connect?,
        check: check?,
        idle: idle?,
    })
}

fn check(section: &Section<'_>) -> Option<Check> {
    let Some(section) = section.section("check") else {
        let time = |text: &str| HaproxyTime::parse(text).ok();
        return Some(Check {
            interval: time("500ms")?,
            fast: time("200ms")?,
            down: time("250ms")?,
            rise: 1,
            fall: 2,
        });
    };
    let bounds = 50..=HOUR;
    let interval = time(&section, "interval", "500ms", bounds.clone());
    let fast = time(&section, "fast", "200ms", bounds.clone());
    let down = time(&section, "down", "250ms", bounds);
    let count = |key: &str, default: i64| {
        let value = section.or(key, default, |s, k| {
            s.integer(k, 1..=100, "give a number of checks, such as 2")
        })?;
        u16::try_from(value).ok()
    };
    let (rise, fall) = (count("rise", 1), count("fall", 2));
    let check = Check {
        interval: interval?,
        fast: fast?,
        down: down?,
        rise: rise?,
        fall: fall?,
    };
    if check.fast.millis() > check.interval.millis() {
        let what = format!(
            "has fast = {}, longer than interval = {}: changes would be seen later, not sooner",
            check.fast, check.interval
        );
        section
            .notes()
            .warn(&section.here(), &what, "make fast the shorter one");
    }
    Some(check)
}

/// The outer `None`: something is wrong with it.
#[allow(clippy::option_option)]
fn metrics(section: &Section<'_>) -> Option<Option<Metrics>> {
    let metrics = Metrics {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: 8405,
    };
    let Some(section) = section.section("metrics") else {
        return Some(Some(metrics));
    };
    let enabled = section.boolean("enabled").is_none_or(|given| given.value);
    let address = section.or("address", metrics.address, |s, k| {
        s.parsed(k, checks::listen_address)
    });
    let port = section.or("port", metrics.port, Section::port);
    let metrics = Metrics {
        address: address?,
        port: port?,
    };
    Some(enabled.then_some(metrics))
}

#[allow(clippy::option_option)]
fn replicas(section: &Section<'_>) -> Option<Option<Replicas>> {
    let lag = section.parsed("replicas_max_lag", checks::lag);
    let lag_given = section.text("replicas_max_lag");
    if !section.gives("replicas_port") {
        if let Some(lag) = lag_given {
            section.notes().refuse(
                &lag,
                &Wrong::new(
                    "is given, but no port for the replicas is",
                    "add replicas_port = 5433, or remove it",
                ),
            );
            return None;
        }
        return Some(None);
    }
    let port = section.port("replicas_port")?;
    (lag.is_some() == lag_given.is_some()).then(|| {
        Some(Replicas {
            port: port.value,
            max_lag: lag.map(|lag| lag.value),
        })
    })
}

/// Keys that mean nothing under the chosen runtime.
fn unused(section: &Section<'_>, runtime: Option<Runtime>) {
    if runtime != Some(Runtime::Package) {
        return;
    }
    for given in ["image", "image_digest"]
        .iter()
        .filter_map(|key| section.text(key))
    {
        section.notes().warn(
            &given,
            "is not used: haproxy.runtime is \"package\", so no image is taken",
            "remove it",
        );
    }
}

fn patroni_client(section: &Section<'_>) -> Option<PatroniClient> {
    let notes = section.notes();
    let hours = |key: &str| {
        section.integer(
            key,
            1..=LONGEST_VALIDITY,
            "give a number of hours, such as 8760 for a year",
        )
    };
    let validity = hours("certificate_validity_period");
    let early_renewal = hours("certificate_early_renewal_period");
    let key_algorithm = section.or("key_algorithm", KeyAlgorithm::EcdsaP256, |s, k| {
        s.parsed(k, checks::key_algorithm)
    });
    let ca = ca(section);

    let (validity, early_renewal) = (validity?, early_renewal?);
    if early_renewal.value >= validity.value {
        let what = format!(
            "is {} hours, not less than the {} for which the certificate is valid",
            early_renewal.value, validity.value
        );
        let help = "lower it: otherwise every run would issue another certificate";
        notes.conflict(
            &early_renewal,
            &validity,
            &what,
            "how long it is valid",
            help,
        );
        return None;
    }
    let client = PatroniClient {
        ca: ca?,
        validity: u64::try_from(validity.value).ok()?,
        early_renewal: u64::try_from(early_renewal.value).ok()?,
        key_algorithm: key_algorithm?,
    };
    let policy = Policy {
        ca: &client.ca,
        validity_hours: client.validity,
        early_renewal_hours: client.early_renewal,
        key_algorithm: client.key_algorithm,
    };
    if let Some(clamp) = section.reader.now.and_then(|now| policy.clamp(now)) {
        notes.warn(
            &validity,
            &format!("is longer than the CA lasts: {clamp}"),
            "shorten it, or renew the CA in time",
        );
    }
    Some(client)
}

/// The CA, fit to issue and valid now.
fn ca(section: &Section<'_>) -> Option<Ca> {
    let (key, certificate) = (section.secret("ca_key"), section.secret("ca_certificate"));
    let (key, certificate) = (key?, certificate?);
    let invalid = |error| (ProblemId::InvalidValue, error);
    let loaded = Ca::load(&key.value, certificate.value.expose()).map_err(invalid);
    let loaded = loaded.and_then(|ca| match section.reader.now {
        Some(now) => ca
            .check_time(now)
            .map(|()| ca)
            .map_err(|error| (ProblemId::CaNotInForce, error)),
        None => Ok(ca),
    });
    let (id, error) = match loaded {
        Ok(ca) => return Some(ca),
        Err(error) => error,
    };
    let what = format!("is {}", error.message);
    let help = error.hint.unwrap_or_default();
    match error.part {
        Part::Key => section
            .notes()
            .refuse(&key, &Wrong::new(what, help).with_id(id)),
        Part::Certificate => section
            .notes()
            .refuse(&certificate, &Wrong::new(what, help).with_id(id)),
        Part::Pair => {
            let what = format!("and `ca_certificate` are no pair: {}", error.message);
            let label = "the certificate";
            section
                .notes()
                .conflict(&key, &certificate, &what, label, &help);
        }
    }
    None
}

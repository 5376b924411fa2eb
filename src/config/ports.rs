//! The TCP ports of the VM, held against one another: what listens where, and whether it may.

use super::model::Runtime;
use super::reader::{Given, Section};
use super::types::{Port, Wrong};

const NODE_EXPORTER_PORT: Port = 9100;

/// A port that something in the VM listens on.
struct Listener {
    port: Port,
    /// Behind "which is".
    what: &'static str,
    /// `None`: by default, or for ever.
    given: Option<Given<Port>>,
}

impl Listener {
    fn fixed(port: Port, what: &'static str) -> Self {
        Self {
            port,
            what,
            given: None,
        }
    }

    /// A port of the configuration. `None`: neither given nor one by default.
    fn of(given: Option<Given<Port>>, default: Option<Port>, what: &'static str) -> Option<Self> {
        let port = given.as_ref().map(|given| given.value).or(default)?;
        Some(Self { port, what, given })
    }
}

/// Whether no two listeners of the VM take one port, and each may take its own. `section` is `[haproxy]`.
pub(super) fn apart(section: &Section<'_>, runtime: Option<Runtime>, node_exporter: bool) -> bool {
    let mut listeners = fixed(node_exporter);
    let mut apart = true;
    for listener in chosen(section) {
        if let Some(given) = &listener.given {
            let other = listeners.iter().find(|other| other.port == listener.port);
            apart &= fits(section, given, other, runtime);
        }
        listeners.push(listener);
    }
    apart
}

fn fixed(node_exporter: bool) -> Vec<Listener> {
    let mut listeners = vec![
        Listener::fixed(5432, "PostgreSQL's own port"),
        Listener::fixed(22, "the port of ssh"),
    ];
    if node_exporter {
        listeners.push(Listener::fixed(
            NODE_EXPORTER_PORT,
            "the node exporter's port",
        ));
    }
    listeners
}

/// Those of the configuration. What is given comes last, so that a clash with a default is laid to it.
fn chosen(section: &Section<'_>) -> Vec<Listener> {
    let metrics = section.section("metrics");
    let serves = metrics
        .as_ref()
        .and_then(|metrics| metrics.boolean("enabled"))
        .is_none_or(|given| given.value);
    let metrics_port = metrics
        .as_ref()
        .and_then(|metrics| metrics.given_port("port"));
    let listeners = [
        Listener::of(
            section.given_port("patroni_port"),
            Some(4443),
            "also `haproxy.patroni_port`",
        ),
        Listener::of(metrics_port, Some(8405), "also `haproxy.metrics.port`").filter(|_| serves),
        Listener::of(
            section.given_port("replicas_port"),
            None,
            "also `haproxy.replicas_port`",
        ),
    ];
    let mut listeners: Vec<Listener> = listeners.into_iter().flatten().collect();
    listeners.sort_by_key(|listener| listener.given.is_some());
    listeners
}

fn fits(
    section: &Section<'_>,
    given: &Given<Port>,
    other: Option<&Listener>,
    runtime: Option<Runtime>,
) -> bool {
    let notes = section.notes();
    let port = given.value;
    if let Some(other) = other {
        let message = format!("is {port}, which is {}", other.what);
        match &other.given {
            Some(other) => notes.conflict(
                given,
                other,
                &message,
                "the same port",
                "give each a port of its own",
            ),
            None => notes.refuse(given, &Wrong::new(message, "choose another port")),
        }
        return false;
    }
    if port < 1024 && runtime == Some(Runtime::Container) {
        let what = format!(
            "is {port}, below 1024, where HAProxy's container may not listen, for it runs without privileges"
        );
        notes.refuse(given, &Wrong::new(what, "choose a port from 1024 on"));
        return false;
    }
    true
}

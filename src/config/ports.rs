//! The TCP ports of the VM, held against one another: what listens where, and whether it may.

use std::borrow::Cow;

use super::diagnostics::{Read, Spanned};
use super::model::Runtime;
use super::patroni::default_patroni_port;
use super::reader::Section;
use super::types::Port;

const NODE_EXPORTER_PORT: u16 = 9100;
const FIRST_UNPRIVILEGED: u16 = 1024;

/// A port that something in the VM listens on.
struct Listener {
    port: Port,
    /// Behind "which is".
    what: Cow<'static, str>,
    /// `None`: by default, or for ever.
    given: Option<Spanned<Port>>,
}

impl Listener {
    fn fixed(port: u16, what: &'static str) -> Option<Self> {
        Some(Self {
            port: Port::new(port)?,
            what: what.into(),
            given: None,
        })
    }

    /// A port of the configuration. `None`: neither given nor one by default.
    fn configured(
        section: &Section<'_>,
        name: &str,
        what: impl Into<Cow<'static, str>>,
    ) -> Option<Self> {
        Self::with_default(section, name, section.default_port(name), what)
    }

    fn with_default(
        section: &Section<'_>,
        name: &str,
        default: Option<Port>,
        what: impl Into<Cow<'static, str>>,
    ) -> Option<Self> {
        let given = section.given_port(name);
        Some(Self {
            port: given.as_ref().map(|given| given.value).or(default)?,
            what: what.into(),
            given,
        })
    }
}

/// Whether no two listeners of the VM take one port, and each may take its own. `section` is
/// `[haproxy]`.
pub(super) fn apart(
    section: &Section<'_>,
    runtime: Option<Runtime>,
    node_exporter: bool,
) -> Read<()> {
    let mut listeners = fixed(node_exporter);
    let mut apart = Ok(());
    for listener in chosen(section) {
        if let Some(given) = &listener.given {
            let other = listeners.iter().find(|other| other.port == listener.port);
            apart = apart.and(fits(section, given, other, runtime));
        }
        listeners.push(listener);
    }
    apart
}

fn fixed(node_exporter: bool) -> Vec<Listener> {
    let listeners = [
        Listener::fixed(22, "the port of ssh"),
        Listener::fixed(NODE_EXPORTER_PORT, "the node exporter's port").filter(|_| node_exporter),
    ];
    listeners.into_iter().flatten().collect()
}

/// Those of the configuration. What is given comes last, so that a conflict with a default is
/// reported at what is given.
fn chosen(section: &Section<'_>) -> Vec<Listener> {
    let metrics = section.section_or_defaults("metrics");
    let serves = metrics.boolean("enabled").map(Spanned::into_value);
    let port = if section.gives("port") {
        "also `haproxy.port`"
    } else {
        "PostgreSQL's own port"
    };
    let listeners = [
        Listener::configured(section, "port", port),
        patroni(section),
        Listener::configured(&metrics, "port", "also `haproxy.metrics.port`")
            .filter(|_| serves != Ok(false)),
        Listener::configured(section, "replicas_port", "also `haproxy.replicas_port`"),
    ];
    let mut listeners: Vec<Listener> = listeners.into_iter().flatten().collect();
    for service in section.sections("services") {
        let what = format!("also `{}.port`", service.here().key);
        listeners.extend(Listener::configured(&service, "port", what));
    }
    listeners.sort_by_key(|listener| listener.given.is_some());
    listeners
}

/// Where Patroni's REST API is passed through.
fn patroni(section: &Section<'_>) -> Option<Listener> {
    let own = "patroni_passthrough";
    let switch = section.given(own).map(|given| given.value.as_bool());
    match switch {
        Some(Some(false)) => None,
        Some(None) => Listener::configured(section, own, "also `haproxy.patroni_passthrough`"),
        Some(Some(true)) | None => {
            let default = default_patroni_port(section);
            let what = "also `haproxy.patroni_port`";
            Listener::with_default(section, "patroni_port", default, what)
        }
    }
}

fn fits(
    section: &Section<'_>,
    given: &Spanned<Port>,
    other: Option<&Listener>,
    runtime: Option<Runtime>,
) -> Read<()> {
    let diagnostics = section.diagnostics();
    let port = given.value;
    if let Some(other) = other {
        let what = format!("is {port}, which is {}", other.what);
        return Err(match &other.given {
            Some(other) => {
                let help = "give each a port of its own";
                diagnostics.conflict(given, other, &what, "the same port", help)
            }
            None => diagnostics.refuse(given, &what, "choose another port"),
        });
    }
    if port.get() < FIRST_UNPRIVILEGED && runtime == Some(Runtime::Container) {
        let what = format!(
            "is {port}, below {FIRST_UNPRIVILEGED}, where HAProxy's container may not listen, for it runs without privileges"
        );
        let help = format!("choose a port from {FIRST_UNPRIVILEGED} on");
        return Err(diagnostics.refuse(given, &what, help));
    }
    Ok(())
}

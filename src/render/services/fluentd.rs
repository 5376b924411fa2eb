//! Fluentd's configuration: the journal of HAProxy and of the node exporter, forwarded over TLS.

use std::fmt;

use askama::Template;

use crate::config::{Fluentd, Port, Runtime};
use crate::render::Secrets;

#[derive(Template)]
#[template(path = "fluent.conf", escape = "none")]
struct FluentConf<'a> {
    /// JSON: which entries of the journal are HAProxy's.
    haproxy_entries: &'static str,
    load_balancer_tag: Text<'a>,
    node_exporter_tag: Text<'a>,
    hostname: Text<'a>,
    shared_key: Text<'a>,
    host: Text<'a>,
    port: Port,
    /// A whole `<buffer>` section, as the user wrote it: it is meant to be configuration.
    buffer: Option<&'a str>,
}

pub(in crate::render) fn config(fluentd: &Fluentd, runtime: Runtime, secrets: Secrets) -> String {
    let forward = &fluentd.forward;
    crate::render::render(&FluentConf {
        haproxy_entries: match runtime {
            Runtime::Package => r#"[{"_SYSTEMD_UNIT": "haproxy.service"}]"#,
            Runtime::Container => {
                r#"[{"CONTAINER_NAME": "haproxy"}, {"_SYSTEMD_UNIT": "haproxy.service"}]"#
            }
        },
        load_balancer_tag: Text(&fluentd.load_balancer_tag),
        node_exporter_tag: Text(&fluentd.node_exporter_tag),
        hostname: Text(&forward.hostname),
        shared_key: Text(secrets.show(&forward.shared_key)),
        host: Text(&forward.domain),
        port: forward.port,
        buffer: fluentd.buffer.as_deref().map(str::trim),
    })
}

/// A double-quoted string of fluentd's, in which `#{…}` would be Ruby to run.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' | '#' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

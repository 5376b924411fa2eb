//! Fluentd: the journal of HAProxy and of the node exporter, forwarded over TLS. The guest program
//! installs it, because not every distribution has a package of it.

use std::fmt;

use askama::Template;

use super::{GuestService, OnChange};
use crate::config::{Config, Fluentd, Port, Runtime};
use crate::render::guest_file::{GuestFile, Owner, Service, tidy_pem};
use crate::render::{CheckTls, Secrets};

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::Fluentd,
    unit: "fluentd.service",
    on_change: OnChange::Restart,
    is_wanted: |config| config.fluentd.is_some(),
    packages: |_| &[],
    files,
};

fn files(config: &Config, _: &CheckTls, secrets: Secrets) -> Vec<GuestFile> {
    let Some(fluentd) = &config.fluentd else {
        return Vec::new();
    };
    let text = conf(fluentd, config.haproxy.runtime, secrets);
    vec![
        GuestFile::public(
            "/etc/fluentd/ca.crt",
            tidy_pem(&fluentd.forward.ca_cert),
            Service::Fluentd,
        ),
        GuestFile::secret("/etc/fluentd/fluent.conf", text, Service::Fluentd)
            .owned_by(Owner::Fluentd)
            .with_mode(0o640),
        GuestFile::public(
            "/etc/systemd/system/fluentd.service",
            include_str!("../../../templates/fluentd.service"),
            Service::Fluentd,
        ),
    ]
}

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
    /// A whole `<buffer>` section, as the user wrote it: it is configuration by intention.
    buffer: Option<&'a str>,
}

fn conf(fluentd: &Fluentd, runtime: Runtime, secrets: Secrets) -> String {
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

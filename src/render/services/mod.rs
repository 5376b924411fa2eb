//! The configuration of what runs beside HAProxy in the guest, and the unit HAProxy runs in.

pub(super) mod chrony;
pub(super) mod docker;
pub(super) mod fluentd;

use askama::Template;

use super::haproxy::global_maxconn;
use crate::config::{Config, Runtime};

#[derive(Template)]
#[template(path = "haproxy-package.service", escape = "none")]
struct PackageUnit {
    nofile: u64,
}

/// The unit overrides the distribution's, so that both runtimes answer to one name.
pub(super) fn haproxy_unit(config: &Config) -> String {
    match config.haproxy.runtime {
        Runtime::Package => super::render(&PackageUnit {
            nofile: open_files(config),
        }),
        Runtime::Container => {
            include_str!("../../../templates/haproxy-container.service").to_owned()
        }
    }
}

/// Two descriptors a connection, and room for listeners, checks and resolvers. In large steps: another number takes a new
/// process, which has none of the sessions, and a limit that is not reached costs nothing.
pub(super) fn open_files(config: &Config) -> u64 {
    let needed = u64::from(global_maxconn(config)) * 2 + 1024;
    needed.next_power_of_two().max(65_536)
}

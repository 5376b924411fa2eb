//! What runs in the guest, one file for each service: its name, whether the configuration wants it,
//! its packages, its files, its unit, and how it applies a change. A service that needs no more
//! than that has no code in the guest program, which gets name, unit and `on_change` in its
//! settings.

mod chrony;
mod docker;
mod fluentd;
mod haproxy;
mod node_exporter;
mod virtual_ip;

pub(super) use haproxy::open_files;
pub(super) use virtual_ip::{PORT as VIP_PORT, client_ports};

use serde::Serialize;

use super::guest_file::{GuestFile, Service};
use super::{CheckTls, Secrets};
use crate::config::Config;

/// All that lbctl knows, in the order of starting: HAProxy as early as possible, because clients
/// wait for it.
pub(super) const SERVICES: [GuestService; 6] = [
    docker::SERVICE,
    haproxy::SERVICE,
    virtual_ip::SERVICE,
    node_exporter::SERVICE,
    chrony::SERVICE,
    fluentd::SERVICE,
];

/// One of them.
pub(super) struct GuestService {
    /// As it is in JSON.
    pub name: Service,
    /// Of systemd.
    pub unit: &'static str,
    pub on_change: OnChange,
    pub is_wanted: fn(&Config) -> bool,
    /// Of the distribution, by the names that Debian and Ubuntu share.
    pub packages: fn(&Config) -> &'static [&'static str],
    /// In the order they are to be written.
    pub files: fn(&Config, &CheckTls, Secrets) -> Vec<GuestFile>,
}

/// How a running service learns that its files changed.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnChange {
    Reload,
    Restart,
}

/// Those that the configuration wants.
pub(super) fn wanted(config: &Config) -> impl Iterator<Item = &'static GuestService> {
    const ALL: &[GuestService] = &SERVICES;
    ALL.iter().filter(|service| (service.is_wanted)(config))
}

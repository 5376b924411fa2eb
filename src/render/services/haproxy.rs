//! HAProxy: its files and the unit it runs in, which is the same name for both runtimes. What is in
//! `haproxy.cfg` is in `render/haproxy.rs`.

use askama::Template;

use super::{GuestService, OnChange};
use crate::config::{Config, Runtime};
use crate::render::guest_file::{
    CA_PEM, CLIENT_PEM, GuestFile, HAPROXY_CFG, HAPROXY_LUA, HAPROXY_SANDBOX, Owner, Service,
    tidy_pem,
};
use crate::render::haproxy::{LUA, global_maxconn, haproxy_cfg};
use crate::render::{CheckTls, Secrets};

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::Haproxy,
    unit: "haproxy.service",
    on_change: OnChange::Reload,
    is_wanted: |_| true,
    packages: |config| match config.haproxy.runtime {
        Runtime::Package => &["haproxy"],
        Runtime::Container => &[],
    },
    files,
};

fn files(config: &Config, tls: &CheckTls, secrets: Secrets) -> Vec<GuestFile> {
    let ca = tls
        .ca_pem
        .as_ref()
        .map(|pem| GuestFile::public(CA_PEM, tidy_pem(pem), Service::Haproxy));
    let client = tls.client_pem.as_ref().map(|pem| {
        let pem = tidy_pem(secrets.show(pem));
        GuestFile::secret(CLIENT_PEM, pem, Service::Haproxy).owned_by(Owner::Haproxy)
    });
    let mut files = vec![
        GuestFile::public(HAPROXY_CFG, haproxy_cfg(config), Service::Haproxy),
        GuestFile::public(HAPROXY_LUA, LUA, Service::Haproxy),
    ];
    files.extend(ca);
    files.extend(client);
    files.extend([
        GuestFile::public(
            "/etc/systemd/system/haproxy.service",
            unit(config),
            Service::HaproxyUnit,
        ),
        // Of the class that is read when it is needed, which for this one is HAProxy's next start.
        GuestFile::public(HAPROXY_SANDBOX, sandbox(config), Service::Guest),
    ]);
    files
}

fn sandbox(config: &Config) -> &'static str {
    match config.haproxy.runtime {
        Runtime::Package => include_str!("../../../templates/haproxy-package.conf"),
        Runtime::Container => include_str!("../../../templates/haproxy-container.conf"),
    }
}

#[derive(Template)]
#[template(path = "haproxy-package.service", escape = "none")]
struct PackageUnit {
    nofile: u64,
}

/// It overrides the distribution's. What may wait for HAProxy's next start stands in the drop-in
/// beside it: each guest of lbctl 0.1.0 runs with this text, and another one restarts it.
fn unit(config: &Config) -> String {
    match config.haproxy.runtime {
        Runtime::Package => crate::render::render(&PackageUnit {
            nofile: open_files(config),
        }),
        Runtime::Container => {
            include_str!("../../../templates/haproxy-container.service").to_owned()
        }
    }
}

/// Two descriptors a connection, and room for listeners, checks and resolvers. In large steps:
/// another number takes a new process, which has none of the sessions, and a limit that is not
/// reached costs nothing.
pub(in crate::render) fn open_files(config: &Config) -> u64 {
    let needed = u64::from(global_maxconn(config)) * 2 + 1024;
    needed.next_power_of_two().max(65_536)
}

//! The files that the guest gets, as one list: cloud-init's `write_files` is rendered from it at
//! boot, and a live change sends the same list through the guest agent. What is in the files of a
//! service is in `services`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::guest_file::{GuestFile, Owner, Service};
use super::programs::{self, GUEST_PROGRAM, programs};
use super::services::{OnChange, SERVICES, open_files, wanted};
use super::{CheckTls, Secrets, image_reference, registry_host};
use crate::config::{Check, Config, DomainName, Runtime};

/// Every file of the guest, in the order they are to be written.
pub(super) fn files(config: &Config, tls: &CheckTls, secrets: Secrets) -> Vec<GuestFile> {
    let mut files: Vec<GuestFile> = programs().map(program).collect();
    files.extend([
        GuestFile::public(
            "/etc/systemd/system/lbctl-save-state.service",
            include_str!("../../templates/lbctl-save-state.service"),
            Service::Guest,
        ),
        GuestFile::public(
            "/etc/systemd/system/lbctl-save-state.timer",
            include_str!("../../templates/lbctl-save-state.timer"),
            Service::Guest,
        ),
    ]);
    files.extend(wanted(config).flat_map(|service| (service.files)(config, tls, secrets)));
    let settings = settings(config, &files);
    files.push(GuestFile::public(
        "/etc/lbctl/guest.json",
        settings,
        Service::Guest,
    ));
    files
}

fn program((name, text): (&str, &str)) -> GuestFile {
    let path = programs::path(name);
    let mode = if path == GUEST_PROGRAM { 0o755 } else { 0o644 };
    GuestFile::public(path, text, Service::Guest).with_mode(mode)
}

/// What the guest program must know beyond the files themselves. Not secret.
#[derive(Serialize)]
struct Settings<'a> {
    schema: u32,
    name: &'a str,
    runtime: &'static str,
    /// Container runtime only.
    image: Option<String>,
    /// The registry whose CA is among the files, as Docker names the folder of its certificates.
    registry: Option<&'a str>,
    /// Whether an image that the guest lacks may be fetched.
    pull_image: bool,
    /// File descriptors HAProxy may open.
    nofile: u64,
    install: bool,
    /// What `boot` applies, in this order.
    services: Vec<Service>,
    /// All that lbctl knows, also those that are not wanted: one of these may have to be removed.
    service_table: BTreeMap<Service, ServiceFacts>,
    admin: AdminSettings<'a>,
    probe: Probe<'a>,
    /// After how many seconds HAProxy must have noticed that its nodes refuse it.
    settle_s: f64,
    files: Vec<FileSettings<'a>>,
}

#[derive(Serialize)]
struct ServiceFacts {
    unit: &'static str,
    on_change: OnChange,
}

#[derive(Serialize)]
struct AdminSettings<'a> {
    user: &'a str,
    /// All that lbctl puts into `authorized_keys`; what others put there stays.
    keys: &'a [String],
}

/// How to ask a node whether it accepts a certificate.
#[derive(Serialize)]
struct Probe<'a> {
    port: u16,
    host: &'a str,
    verify_host: Option<&'a str>,
}

#[derive(Serialize)]
struct FileSettings<'a> {
    path: &'a str,
    /// Octal.
    mode: String,
    owner: Owner,
    affects: Service,
}

#[expect(clippy::expect_used, reason = "plain data with string keys")]
fn settings(config: &Config, files: &[GuestFile]) -> String {
    let container = config.haproxy.runtime == Runtime::Container;
    let verify_host = config.haproxy.verify_host.as_ref();
    let settings = Settings {
        schema: 1,
        name: config.name.as_str(),
        runtime: if container { "container" } else { "package" },
        image: container.then(|| image_reference(config)),
        registry: config
            .container_registry
            .as_ref()
            .filter(|registry| container && registry.ca_certificate.is_some())
            .and_then(registry_host),
        // A guest that installs nothing may still pull from a registry of one's own.
        pull_image: config.install_dependencies || config.container_registry.is_some(),
        nofile: open_files(config),
        install: config.install_dependencies,
        services: wanted(config).map(|service| service.name).collect(),
        service_table: SERVICES
            .iter()
            .map(|service| {
                let (unit, on_change) = (service.unit, service.on_change);
                (service.name, ServiceFacts { unit, on_change })
            })
            .collect(),
        admin: AdminSettings {
            user: &config.admin.user,
            keys: &config.admin.public_keys,
        },
        probe: Probe {
            port: config.haproxy.patroni_port.get(),
            host: config.haproxy.postgres_domain.as_str(),
            verify_host: verify_host.map(DomainName::as_str),
        },
        settle_s: settling_time(&config.haproxy.check),
        files: files.iter().map(file_settings).collect(),
    };
    let mut text = serde_json::to_string_pretty(&settings).expect("settings become JSON");
    text.push('\n');
    text
}

/// Two seconds with the default check intervals, by when `fall` checks have failed, if they fail.
fn settling_time(check: &Check) -> f64 {
    let millis = check.interval.millis() * 2 + check.fast.millis() * 2 * u64::from(check.fall);
    #[allow(clippy::cast_precision_loss)] // some seconds
    let seconds = millis as f64 / 1000.0;
    seconds.max(2.0)
}

fn file_settings(file: &GuestFile) -> FileSettings<'_> {
    FileSettings {
        path: &file.path,
        mode: format!("{:04o}", file.mode),
        owner: file.owner,
        affects: file.affects,
    }
}

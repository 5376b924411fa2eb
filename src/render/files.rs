//! The files the guest gets, as one list: cloud-init's `write_files` is rendered from it at boot, and a live change sends
//! the same list through the guest agent. Their content is made elsewhere; here is where it goes and whom it concerns.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::exposed;
use super::services::{chrony, docker, fluentd};
use super::{CheckTls, Secrets, haproxy_cfg, image_reference, registry_host, services};
use crate::config::{Check, Config, Runtime};
use crate::secret::Secret;

/// The script that installs, checks and applies in the guest, and answers for it.
pub(super) const GUEST_SCRIPT: &str = "/usr/local/lib/lbctl/lbctl-guest";

/// HAProxy's `crt`: certificate and key for the health checks.
pub const CLIENT_PEM: &str = "/etc/haproxy/client.pem";
/// HAProxy's `ca-file`: whom the nodes' certificates must come from.
pub const CA_PEM: &str = "/etc/haproxy/ca.pem";
pub const HAPROXY_CFG: &str = "/etc/haproxy/haproxy.cfg";

/// One file in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute.
    pub path: Cow<'static, str>,
    /// Masked in `Debug` whether secret or not.
    #[serde(with = "exposed::one")]
    pub content: Secret,
    /// Whether the content must not be shown.
    pub secret: bool,
    /// Permission bits.
    pub mode: u32,
    pub owner: Owner,
    pub affects: Service,
}

/// Who owns a file. cloud-init writes every file as root, for the users may not exist yet; the guest script gives it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    Root,
    /// Who HAProxy is when it reads its files: root with the package, uid 99 in the container.
    Haproxy,
    /// root, readable by the group `fluentd`.
    Fluentd,
}

/// What has to be told when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The script, its settings and timers: read anew each time.
    Guest,
    /// By socket or reload: no session is cut.
    Haproxy,
    /// How HAProxy is started: a restart, which cuts sessions.
    HaproxyUnit,
    Docker,
    NodeExporter,
    Chrony,
    Fluentd,
}

/// Text that may be secret already.
trait IntoContent {
    fn into_content(self) -> Secret;
}

impl IntoContent for Secret {
    fn into_content(self) -> Secret {
        self
    }
}

impl IntoContent for String {
    fn into_content(self) -> Secret {
        Secret::new(self)
    }
}

impl IntoContent for &str {
    fn into_content(self) -> Secret {
        Secret::new(self)
    }
}

impl GuestFile {
    fn public(path: &'static str, content: impl IntoContent, affects: Service) -> Self {
        let content = content.into_content();
        Self {
            path: path.into(),
            content,
            secret: false,
            mode: 0o644,
            owner: Owner::Root,
            affects,
        }
    }

    fn secret(path: &'static str, content: impl IntoContent, affects: Service) -> Self {
        Self {
            secret: true,
            mode: 0o600,
            ..Self::public(path, content, affects)
        }
    }

    fn owned_by(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// lbctl's programs in the guest.
const PROGRAMS: [(&str, &str); 9] = [
    (
        "/usr/local/lib/lbctl/guest_tools.py",
        include_str!("../../templates/guest_tools.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_status.py",
        include_str!("../../templates/guest_status.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_haproxy.py",
        include_str!("../../templates/guest_haproxy.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_services.py",
        include_str!("../../templates/guest_services.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_probe.py",
        include_str!("../../templates/guest_probe.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_boot.py",
        include_str!("../../templates/guest_boot.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_old_workers.py",
        include_str!("../../templates/guest_old_workers.py"),
    ),
    (
        "/usr/local/lib/lbctl/guest_converge.py",
        include_str!("../../templates/guest_converge.py"),
    ),
    (GUEST_SCRIPT, include_str!("../../templates/lbctl-guest.py")),
];

/// Path in the guest and text of each of this lbctl's programs there.
pub fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.into_iter()
}

/// Every file of the guest, in the order they are to be written.
pub(super) fn files(config: &Config, tls: &CheckTls, secrets: Secrets) -> Vec<GuestFile> {
    let program = |(path, text)| {
        let mode = if path == GUEST_SCRIPT { 0o755 } else { 0o644 };
        GuestFile::public(path, text, Service::Guest).with_mode(mode)
    };
    let mut files: Vec<GuestFile> = PROGRAMS.into_iter().map(program).collect();
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
        GuestFile::public(HAPROXY_CFG, haproxy_cfg(config), Service::Haproxy),
        GuestFile::public(CA_PEM, tidy_pem(&tls.ca_pem), Service::Haproxy),
        GuestFile::secret(
            CLIENT_PEM,
            tidy_pem(secrets.show(&tls.client_pem)),
            Service::Haproxy,
        )
        .owned_by(Owner::Haproxy),
        GuestFile::public(
            "/etc/systemd/system/haproxy.service",
            services::haproxy_unit(config),
            Service::HaproxyUnit,
        ),
    ]);
    if config.haproxy.runtime == Runtime::Container {
        files.extend(docker_files(config, secrets));
    }
    if let Some(wanted) = &config.chrony {
        let sources = chrony::sources(wanted);
        files.push(GuestFile::public(
            "/etc/chrony/sources.d/lbctl.sources",
            sources,
            Service::Chrony,
        ));
        files.push(GuestFile::public(
            "/etc/chrony/conf.d/lbctl.conf",
            chrony::settings(wanted),
            Service::Chrony,
        ));
    }
    files.extend(fluentd_files(config, secrets));
    let settings = settings(config, &files);
    files.push(GuestFile::public(
        "/etc/lbctl/guest.json",
        settings,
        Service::Guest,
    ));
    files
}

fn docker_files(config: &Config, secrets: Secrets) -> Vec<GuestFile> {
    let registry = config.container_registry.as_ref();
    let mut files = vec![GuestFile::public(
        "/etc/lbctl/docker-daemon.json",
        docker::daemon(registry),
        Service::Docker,
    )];
    if let Some(ca) = registry.and_then(|r| r.ca_certificate.as_deref()) {
        files.push(GuestFile::public(
            "/etc/lbctl/docker/registry-ca.crt",
            tidy_pem(ca),
            Service::Docker,
        ));
    }
    if let Some(registry) = registry {
        let login = docker::login(registry, secrets);
        files.push(GuestFile::secret(
            "/etc/lbctl/docker/config.json",
            login,
            Service::Docker,
        ));
    }
    files
}

fn fluentd_files(config: &Config, secrets: Secrets) -> Vec<GuestFile> {
    let Some(wanted) = &config.fluentd else {
        return Vec::new();
    };
    let runtime = config.haproxy.runtime;
    vec![
        GuestFile::public(
            "/etc/fluentd/ca.crt",
            tidy_pem(&wanted.forward.ca_cert),
            Service::Fluentd,
        ),
        GuestFile::secret(
            "/etc/fluentd/fluent.conf",
            fluentd::config(wanted, runtime, secrets),
            Service::Fluentd,
        )
        .owned_by(Owner::Fluentd)
        .with_mode(0o640),
        GuestFile::public(
            "/etc/systemd/system/fluentd.service",
            include_str!("../../templates/fluentd.service"),
            Service::Fluentd,
        ),
    ]
}

/// An empty line in a PEM ends the payload of HAProxy's `set ssl cert`, and a missing last line break joins two blocks.
pub(super) fn tidy_pem(pem: &str) -> Secret {
    let lines = pem.lines().map(str::trim).filter(|line| !line.is_empty());
    Secret::new(lines.fold(String::new(), |text, line| text + line + "\n"))
}

/// What the guest script must know beyond the files themselves. Not secret.
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
    admin: AdminSettings<'a>,
    probe: Probe<'a>,
    /// After how many seconds HAProxy must have noticed that its nodes refuse it.
    settle_s: f64,
    files: Vec<FileSettings<'a>>,
}

#[derive(Serialize)]
struct AdminSettings<'a> {
    user: &'a str,
    /// All that lbctl puts into `authorized_keys`; what others put there stays.
    keys: &'a [String],
}

/// How to ask a node whether it takes a certificate.
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

fn settings(config: &Config, files: &[GuestFile]) -> String {
    let container = config.haproxy.runtime == Runtime::Container;
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
        // A registry of one's own is there to be pulled from, also by a guest that installs nothing.
        pull_image: config.install_dependencies || config.container_registry.is_some(),
        nofile: services::open_files(config),
        install: config.install_dependencies,
        services: services_of(config),
        admin: AdminSettings {
            user: &config.admin.user,
            keys: &config.admin.public_keys,
        },
        probe: Probe {
            port: config.haproxy.patroni_port.get(),
            host: config.haproxy.postgres_domain.as_str(),
            verify_host: config
                .haproxy
                .verify_host
                .as_ref()
                .map(crate::config::DomainName::as_str),
        },
        settle_s: settle(&config.haproxy.check),
        files: files.iter().map(file_settings).collect(),
    };
    let mut text = serde_json::to_string_pretty(&settings).unwrap_or_default();
    text.push('\n');
    text
}

/// Two seconds with the default check intervals, by when `fall` checks have failed that were bound to.
fn settle(check: &Check) -> f64 {
    let millis = check.interval.millis() * 2 + check.fast.millis() * 2 * u64::from(check.fall);
    #[allow(clippy::cast_precision_loss)] // some seconds
    let seconds = millis as f64 / 1000.0;
    seconds.max(2.0)
}

/// `HAProxy` as early as may be: it is what everyone waits for.
fn services_of(config: &Config) -> Vec<Service> {
    let wanted = [
        (
            Service::Docker,
            config.haproxy.runtime == Runtime::Container,
        ),
        (Service::Haproxy, true),
        (Service::NodeExporter, config.node_exporter),
        (Service::Chrony, config.chrony.is_some()),
        (Service::Fluentd, config.fluentd.is_some()),
    ];
    wanted
        .into_iter()
        .filter_map(|(service, on)| on.then_some(service))
        .collect()
}

fn file_settings(file: &GuestFile) -> FileSettings<'_> {
    FileSettings {
        path: &file.path,
        mode: format!("{:04o}", file.mode),
        owner: file.owner,
        affects: file.affects,
    }
}

//! Docker, where HAProxy runs in a container: its daemon's settings, and the login for a registry,
//! kept out of arguments and environment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{GuestService, OnChange};
use crate::config::{Config, ContainerRegistry, Runtime};
use crate::render::guest_file::{GuestFile, Service, tidy_pem};
use crate::render::image::{is_plain_http, registry_host};
use crate::render::{CheckTls, Secrets};
use crate::secret::MASK;

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::Docker,
    unit: "docker.service",
    on_change: OnChange::Reload,
    is_wanted: |config| config.haproxy.runtime == Runtime::Container,
    // Docker starts no container without AppArmor's tools where the kernel has AppArmor; its
    // package only recommends them, and not every image installs what is recommended.
    packages: |_| &["docker.io", "apparmor"],
    files,
};

fn files(config: &Config, _: &CheckTls, secrets: Secrets) -> Vec<GuestFile> {
    let registry = config.container_registry.as_ref();
    let mut files = vec![GuestFile::public(
        "/etc/lbctl/docker-daemon.json",
        daemon(registry),
        Service::Docker,
    )];
    if let Some(proxy) = &config.first_boot.http_proxy {
        files.push(GuestFile::public(
            "/etc/systemd/system/docker.service.d/60-lbctl-proxy.conf",
            by_proxy(proxy, registry),
            Service::Docker,
        ));
    }
    if let Some(ca) = registry.and_then(|r| r.ca_certificate.as_deref()) {
        files.push(GuestFile::public(
            "/etc/lbctl/docker/registry-ca.crt",
            tidy_pem(ca),
            Service::Docker,
        ));
    }
    if let Some(registry) = registry {
        files.push(GuestFile::secret(
            "/etc/lbctl/docker/config.json",
            login(registry, secrets),
            Service::Docker,
        ));
    }
    files
}

/// The key under which Docker looks up the login for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Merged into `/etc/docker/daemon.json` by the guest program. `live-restore` lets the load
/// balancer outlive an upgrade of Docker.
fn daemon(registry: Option<&ContainerRegistry>) -> String {
    let mut settings = json!({ "live-restore": true });
    if let Some(host) = registry
        .filter(|r| is_plain_http(r))
        .and_then(registry_host)
    {
        settings["insecure-registries"] = json!([host]);
    }
    format!("{settings:#}\n")
}

/// Docker reads its proxy from the environment that it is started in. A registry of one's own is
/// reached directly.
fn by_proxy(proxy: &str, registry: Option<&ContainerRegistry>) -> String {
    let host = registry.and_then(registry_host);
    let host = host.and_then(|host| host.split([':', '/']).next());
    let direct: Vec<&str> = ["localhost", "127.0.0.1"].into_iter().chain(host).collect();
    let direct = direct.join(",");
    format!(
        "[Service]\nEnvironment=\"HTTP_PROXY={proxy}\" \"HTTPS_PROXY={proxy}\" \"NO_PROXY={direct}\"\n"
    )
}

/// The `config.json` of a Docker client that has logged in.
fn login(registry: &ContainerRegistry, secrets: Secrets) -> String {
    let auth = match secrets {
        Secrets::Exposed => STANDARD.encode(format!(
            "{}:{}",
            registry.username,
            registry.password.expose()
        )),
        Secrets::Masked => MASK.to_owned(),
    };
    let host = registry_host(registry).unwrap_or(HUB_KEY);
    format!("{:#}\n", json!({ "auths": { host: { "auth": auth } } }))
}

//! Docker's settings: what its daemon is told, and the login for a registry, kept out of arguments and environment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::config::ContainerRegistry;
use crate::render::Secrets;
use crate::render::image::{is_plain_http, registry_host};
use crate::secret::MASK;

/// The key under which Docker looks up the login for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Merged into `/etc/docker/daemon.json` by the guest script. `live-restore` lets the load balancer outlive an upgrade of
/// Docker.
pub(in crate::render) fn daemon(registry: Option<&ContainerRegistry>) -> String {
    let mut settings = json!({ "live-restore": true });
    if let Some(host) = registry
        .filter(|r| is_plain_http(r))
        .and_then(registry_host)
    {
        settings["insecure-registries"] = json!([host]);
    }
    format!("{settings:#}\n")
}

/// The `config.json` of a Docker client that has logged in.
pub(in crate::render) fn login(registry: &ContainerRegistry, secrets: Secrets) -> String {
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

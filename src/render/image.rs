//! Which container image the guest runs, and from which registry.

use crate::config::{Config, ContainerRegistry};

/// Hosts by which people mean Docker Hub. Images from there are named without a host.
const DOCKER_HUB: [&str; 5] = [
    "docker.io",
    "hub.docker.com",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];

/// The registry's `host[:port]`, as an image's name begins with it. `None`: Docker Hub.
#[must_use]
pub fn registry_host(registry: &ContainerRegistry) -> Option<&str> {
    let host = host_and_path(registry)
        .split('/')
        .next()
        .unwrap_or_default();
    (!host.is_empty() && !DOCKER_HUB.contains(&host.to_ascii_lowercase().as_str())).then_some(host)
}

/// The image as Docker is given it: `[registry/]name:version[@digest]`.
#[must_use]
pub fn image_reference(config: &Config) -> String {
    let haproxy = &config.haproxy;
    let prefix = match &config.container_registry {
        Some(registry) if registry_host(registry).is_some() && !names_a_host(&haproxy.image) => {
            format!("{}/", host_and_path(registry))
        }
        _ => String::new(),
    };
    let digest = haproxy
        .image_digest
        .as_ref()
        .map_or_else(String::new, |digest| format!("@{digest}"));
    format!("{prefix}{}:{}{digest}", haproxy.image, haproxy.version)
}

/// Whether the registry is used without TLS, which Docker must know.
pub(super) fn is_plain_http(registry: &ContainerRegistry) -> bool {
    registry.url.to_ascii_lowercase().starts_with("http://")
}

fn host_and_path(registry: &ContainerRegistry) -> &str {
    let url = registry.url.as_str();
    url.split_once("://")
        .map_or(url, |(_, rest)| rest)
        .trim_end_matches('/')
}

/// Docker's own rule: the first part is a host when it has a dot or a port, or is `localhost`.
fn names_a_host(image: &str) -> bool {
    image
        .split_once('/')
        .is_some_and(|(first, _)| first == "localhost" || first.contains(['.', ':']))
}

//! What the guest needs at its first boot, and whether that boot can succeed.

use std::net::IpAddr;

use super::checks;
use super::cloud_config;
use super::diagnostics::{Diagnostics, Read, Spanned};
use super::model::{Addressing, FirstBoot, Haproxy, Interface, Runtime};
use super::reader::Section;
use super::services::certificates;
use super::types::InvalidValue;

pub(super) fn first_boot(root: &Section<'_>, admin: Option<&str>) -> Read<FirstBoot> {
    let section = root.section_or_defaults("guest");
    let http_proxy = section.optional("http_proxy", |s, k| s.parsed(k, checks::plain_url));
    let apt_mirrors = mirrors(&section);
    let ca_certificates = section.optional_secret("ca_certificates", certificates);
    let timezone = section.optional("timezone", |s, k| s.parsed(k, timezone));
    let cloud_config =
        section.optional_secret("cloud_config", |text| cloud_config::parse(text, admin));
    Ok(FirstBoot {
        http_proxy: http_proxy?.map(Spanned::into_value),
        apt_mirrors: apt_mirrors?,
        ca_certificates: ca_certificates?.map_or_else(Vec::new, |all| each(&all.value)),
        timezone: timezone?.map(Spanned::into_value),
        cloud_config: cloud_config?.map(Spanned::into_value),
    })
}

fn mirrors(section: &Section<'_>) -> Read<Vec<String>> {
    let given = section.texts("apt_mirror", checks::plain_url)?;
    match given.get(section.most("apt_mirror")) {
        Some(third) => {
            let what = "is a third mirror";
            let help = "give that of the distribution, and that of its security updates";
            Err(section.diagnostics().refuse(third, what, help))
        }
        None => Ok(given.into_iter().map(Spanned::into_value).collect()),
    }
}

/// The certificates of a text, one by one: `update-ca-certificates` takes one from each file.
fn each(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .filter_map(|part| {
            let begin = part.find("-----BEGIN CERTIFICATE-----")?;
            Some(format!("{}\n", part.get(begin..)?.trim_end()))
        })
        .collect()
}

/// The name of a file below `/usr/share/zoneinfo`. Whether the guest has it, it says itself.
fn timezone(text: &str) -> Result<String, InvalidValue> {
    let part = |part: &str| {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-');
        !part.is_empty() && part.bytes().all(fine)
    };
    if text.len() > 64 || !text.split('/').all(part) {
        let help =
            "give a name that `timedatectl list-timezones` shows, such as Europe/Berlin or UTC";
        return Err(InvalidValue::quoting(
            text,
            ", which is not the name of a time zone",
            help,
        ));
    }
    Ok(text.to_owned())
}

/// Warns of a first boot that must fail: it is to fetch something, and has no way to where that is.
/// What a DHCP server says is not known.
pub(super) fn ways_out(
    diagnostics: &Diagnostics,
    install: Option<&Spanned<bool>>,
    interfaces: Option<&[Interface]>,
    guest: &FirstBoot,
    haproxy: Option<&Haproxy>,
) {
    let (Some(install), Some(interfaces)) = (install.filter(|i| i.value), interfaces) else {
        return;
    };
    let mut fixed = Vec::new();
    for interface in interfaces {
        let Addressing::Static(addresses) = &interface.addressing else {
            return;
        };
        fixed.push(addresses);
    }
    // Whoever has a proxy asks nothing else, and it asks DNS itself.
    let container = haproxy.is_none_or(|haproxy| haproxy.runtime == Runtime::Container);
    let asked: Vec<&String> = match &guest.http_proxy {
        Some(proxy) => vec![proxy],
        None => guest.apt_mirrors.iter().collect(),
    };
    let straight = container && guest.http_proxy.is_none();
    let known = !asked.is_empty() && !straight;
    let addresses: Vec<IpAddr> = asked.iter().filter_map(|url| address(url)).collect();
    let help = "add it to the network interface; or set install_dependencies = false where the image has everything; \
                [guest] has keys for a proxy and a mirror";
    let warn = |what: &str| {
        let message = format!("the first boot installs packages, and {what}");
        diagnostics.warn_whole(&install.key, &message, help);
    };
    let names = !known || addresses.len() < asked.len();
    if names && fixed.iter().all(|fixed| fixed.dns_servers.is_empty()) {
        warn("no network interface has dns_servers: no name of a server can be resolved");
    }
    let near = |ip: &IpAddr| {
        fixed.iter().any(|fixed| {
            let own = fixed
                .addresses
                .iter()
                .any(|own| own.network().contains(*ip));
            own || fixed.routes.iter().any(|route| route.to.contains(*ip))
        })
    };
    let far = !known || (!addresses.is_empty() && !addresses.iter().all(near));
    if far && fixed.iter().all(|fixed| fixed.gateways.is_empty()) {
        warn("no network interface has a gateway: no server outside of its network can be reached");
    }
}

/// Of a URL whose host is one.
fn address(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok();
    }
    authority.split(':').next()?.parse().ok()
}

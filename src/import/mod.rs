//! `lbctl import`: from what there is of a VM to a configuration. Two sources are read, and nothing
//! is changed:
//!
//! ```text
//! Terraform state ─json─▶ state ─choose─▶ from_state ─┐
//!                                user_data ─▶ guest ──┼─▶ Found (values by key) ─merge─▶ toml
//! host: domain, volumes, seed ──────────▶ from_host ──┘
//! ```
//!
//! Everything that is read may be hostile: states, seeds and names come from others. Readers are
//! bounded in size, depth and number; secrets leave only as files of their own.

mod cards;
mod found;
mod from_host;
mod from_state;
mod guest;
mod json;
mod leaving;
mod state;
mod toml;
mod user_data;

pub use found::{Content, Found};
pub use from_host::addresses;
pub use from_state::{ChoiceError, Chosen, Wanted, choose};
pub use leaving::Leaving;
pub use state::{MAX_STATE, State, StateError, shown};
pub use toml::{Missing, Written};
pub use user_data::{UserData, ethernets};

use leaving::leaving;

use crate::host::{DomainFacts, HostReader, HostResult};

/// Said in the same words of both sources.
const MORE_DISKS: &str = "the domain has more than one disk: lbctl makes the root disk alone";
const FIRMWARE: &str = "the domain boots by UEFI, for which lbctl has no key: a new VM of this configuration boots by BIOS";

/// All that was found, as text.
#[derive(Debug)]
pub struct Imported {
    pub name: String,
    pub written: Written,
    pub is_load_balancer: bool,
    pub notes: Vec<String>,
    pub differences: Vec<String>,
    pub leaving: Option<Leaving>,
}

/// What the host knows of the domain.
pub fn from_host(host: &dyn HostReader, domain: &DomainFacts) -> HostResult<Found> {
    from_host::found(host, domain)
}

/// Puts together what was found. `about` says where, for the first line; `uri` is written where it
/// was given.
#[must_use]
pub fn import(
    host: Option<Found>,
    state: Option<(&State, &Chosen<'_>)>,
    about: &str,
    uri: Option<&str>,
) -> Imported {
    let of_state = state.map(|(state, chosen)| from_state::found(state, chosen));
    let (mut found, differences) = match (host, of_state) {
        (Some(host), Some(state)) => found::merge(host, state),
        (Some(one), None) | (None, Some(one)) => (one, Vec::new()),
        (None, None) => (Found::default(), Vec::new()),
    };
    if found.is_load_balancer {
        let certificate = guest::ca_certificate(&found);
        let key = state.and_then(|(s, chosen)| from_state::ca_key(s, chosen, certificate));
        guest::ca_key(key, &mut found);
    } else {
        found.note("no configuration of HAProxy by the Terraform module was found in the VM's seed: [haproxy] is to be filled in");
        guest::periods(None, None, &mut found);
    }
    if let Some(uri) = uri {
        found.text("libvirt", "uri", uri);
    }
    let mut paragraphs = vec![format!("Made by `lbctl import` from {about}.")];
    for (heading, sentences) in [
        ("Not taken over, or to be known:", &found.notes),
        (
            "Where the state says otherwise than the host, the host's value is here:",
            &differences,
        ),
    ] {
        if !sentences.is_empty() {
            paragraphs.extend([String::new(), heading.to_owned()]);
            paragraphs.extend(sentences.iter().map(|sentence| format!("- {sentence}")));
        }
    }
    let name = match found.get("", "name") {
        Some(found::Value::Text(name)) => name.clone(),
        _ => String::new(),
    };
    Imported {
        name,
        written: toml::write(&found, &paragraphs),
        is_load_balancer: found.is_load_balancer,
        leaving: state.map(|(state, chosen)| leaving(state, chosen)),
        notes: found.notes,
        differences,
    }
}

/// The volume of the seed: its name only where it is not the usual one.
fn seed_volume(pool: Option<&str>, name: Option<&str>, found: &mut Found) {
    if let Some(pool) = pool {
        found.text("", "cloud_init_volume_pool", pool);
    }
    let usual = match found.get("", "name") {
        Some(found::Value::Text(vm)) => format!("{vm}-cloud-init.iso"),
        _ => String::new(),
    };
    if let Some(name) = name.filter(|name| *name != usual) {
        found.text("", "cloud_init_volume_name", name);
    }
}

/// A disk that is no clone can be used as it is, and not be made again.
fn disk_without_base(
    pool: Option<&str>,
    name: Option<&str>,
    format: Option<&str>,
    found: &mut Found,
) {
    let (Some(pool), Some(name)) = (pool, name) else {
        return;
    };
    found.text("", "volume_id", format!("{pool}/{name}"));
    found.remark(
        "",
        "volume_id",
        "it has no base volume, so lbctl could not make it again",
    );
    if let Some(format) = format {
        found.text("", "volume_format", format);
    }
}

//! What a Terraform state knows of one VM: which of its domains is meant, the values of the
//! configuration's keys, and the CA's private key.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::cards::{self, Attachment, Card};
use super::found::{Found, Value};
use super::guest;
use super::json::Json;
use super::state::{Resource, State, shown};
use super::user_data::{UserData, ethernets};
use crate::cert::Ca;
use crate::config::MacAddr;
use crate::secret::Secret;
use crate::text::sanitize::sanitize_line;

/// More keys of a state are not tried with a CA's certificate.
const MOST_KEYS: usize = 256;

/// Which domain of a state is meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// That address, or within that module.
    pub address: Option<&'a str>,
    /// As the host has it.
    pub name: Option<&'a str>,
    pub uuid: Option<&'a str>,
}

/// A domain of a state, and what belongs to it.
#[derive(Debug)]
pub struct Chosen<'s> {
    pub domain: &'s Resource,
    pub seed: Option<&'s Resource>,
    pub volume: Option<&'s Resource>,
    user_data: UserData,
}

/// Why none was chosen; each by its address.
#[derive(Debug, PartialEq, Eq)]
pub enum ChoiceError {
    /// The domains that there are.
    None(Vec<String>),
    /// Those that are as was asked for.
    Several(Vec<String>),
}

/// Chooses the domain whose seed is a load balancer's of the module; another one only where it is
/// named and alone.
pub fn choose<'s>(state: &'s State, wanted: &Wanted<'_>) -> Result<Chosen<'s>, ChoiceError> {
    let seeds = by_id(state, "libvirt_cloudinit_disk");
    let balancing: HashSet<&str> = seeds
        .iter()
        .filter(|(_, seed)| {
            let user_data = seed.values.text("user_data").unwrap_or_default();
            user_data.contains(guest::HAPROXY_CFG)
        })
        .map(|(id, _)| *id)
        .collect();
    let is_wanted = |domain: &&Resource| {
        let values = &domain.values;
        let of_address = wanted
            .address
            .is_none_or(|address| domain.address.is_within(address));
        let is_uuid = wanted.uuid.zip(values.text("id"));
        let of_host = match is_uuid {
            Some((uuid, id)) => uuid.eq_ignore_ascii_case(id),
            None => wanted
                .name
                .is_none_or(|name| values.text("name") == Some(name)),
        };
        of_address && of_host
    };
    let meant: Vec<&Resource> = state.of("libvirt_domain").filter(is_wanted).collect();
    let balancers: Vec<&Resource> = meant
        .iter()
        .filter(|domain| seed_of(domain).is_some_and(|id| balancing.contains(id)))
        .copied()
        .collect();
    let is_named = wanted.address.is_some() || wanted.name.is_some();
    let domain = match (&balancers[..], &meant[..]) {
        ([domain], _) => domain,
        ([], [domain]) if is_named => domain,
        ([], []) => return Err(ChoiceError::None(addresses(state.of("libvirt_domain")))),
        ([], _) if !is_named => {
            return Err(ChoiceError::None(addresses(state.of("libvirt_domain"))));
        }
        ([], several) | (several, _) => {
            return Err(ChoiceError::Several(addresses(several.iter().copied())));
        }
    };
    let seed = seed_of(domain).and_then(|id| seeds.get(id).copied());
    let volumes = by_id(state, "libvirt_volume");
    let disk = domain.values.list("disk").first();
    let volume = disk.and_then(|disk| disk.text("volume_id"));
    let user_data = seed.and_then(|seed| seed.values.text("user_data"));
    Ok(Chosen {
        domain,
        seed,
        volume: volume.and_then(|id| volumes.get(id).copied()),
        user_data: UserData::read(user_data.unwrap_or_default().as_bytes()),
    })
}

fn seed_of(domain: &Resource) -> Option<&str> {
    domain.values.text("cloudinit")
}

fn by_id<'s>(state: &'s State, kind: &str) -> HashMap<&'s str, &'s Resource> {
    let of_kind = state.resources.iter().filter(|r| r.address.kind == kind);
    of_kind
        .filter_map(|resource| Some((resource.values.text("id")?, resource)))
        .collect()
}

/// For a message, the first of them.
fn addresses<'s>(resources: impl Iterator<Item = &'s Resource>) -> Vec<String> {
    const MOST: usize = 50;
    resources
        .take(MOST)
        .map(|resource| shown(&resource.address))
        .collect()
}

/// The values that the state has for the chosen domain.
#[must_use]
pub fn found(state: &State, chosen: &Chosen<'_>) -> Found {
    let mut found = Found::default();
    let domain = &chosen.domain.values;
    if let Some(name) = domain.text("name") {
        found.text("", "name", name);
    }
    for (key, attribute) in [("vcpus", "vcpu"), ("memory", "memory")] {
        if let Some(number) = domain.whole(attribute) {
            found.put("", key, Value::Whole(number));
        }
    }
    if let Some(machine) = domain.text("machine") {
        found.text("libvirt", "machine", machine);
    }
    if domain.text("type") == Some("qemu") {
        found.text("libvirt", "domain_type", "qemu");
    }
    if domain.text("firmware").is_some() {
        found.note(super::FIRMWARE);
    }
    if let Some(seed) = chosen.seed.map(|seed| &seed.values) {
        super::seed_volume(seed.text("pool"), seed.text("name"), &mut found);
    }
    disk(state, chosen, &mut found);
    guest::read(&chosen.user_data, &mut found);
    let network_config = chosen
        .seed
        .and_then(|seed| seed.values.text("network_config"));
    let (ethernets, unread) = ethernets(network_config.unwrap_or_default().as_bytes());
    if let Some(unread) = unread {
        found.note(unread);
    }
    let interfaces = domain.list("network_interface");
    let all: Vec<Card> = interfaces.iter().map(card).collect();
    cards::read(&all, &ethernets, &mut found);
    if let (true, Some(certificate)) = (found.is_load_balancer, certificate(state, chosen)) {
        let of = |key| certificate.values.whole(key);
        let (validity, early) = (of("validity_period_hours"), of("early_renewal_hours"));
        guest::periods(validity, early, &mut found);
    }
    found
}

fn disk(state: &State, chosen: &Chosen<'_>, found: &mut Found) {
    const TABLE: &str = "volume";
    let disks = chosen.domain.values.list("disk");
    if disks.len() > 1 {
        found.note(super::MORE_DISKS);
    }
    let Some(volume) = chosen.volume.map(|volume| &volume.values) else {
        let id = disks
            .first()
            .and_then(|disk| disk.text("volume_id").or_else(|| disk.text("file")));
        if let Some(id) = id {
            found.text("", "volume_id", id);
            found.remark("", "volume_id", "the state has no libvirt_volume of it");
        }
        return;
    };
    let base_id = volume.text("base_volume_id");
    let named = volume.text("base_volume_name").map(|name| {
        let pool = volume
            .text("base_volume_pool")
            .or_else(|| volume.text("pool"));
        (name, pool)
    });
    let base = named.or_else(|| {
        let mut volumes = state.of("libvirt_volume");
        let base = volumes.find(|other| base_id.is_some() && other.values.text("id") == base_id)?;
        Some((base.values.text("name")?, base.values.text("pool")))
    });
    let (pool, name) = (volume.text("pool"), volume.text("name"));
    if base.is_none() && base_id.is_none() {
        super::disk_without_base(pool, name, volume.text("format"), found);
        return;
    }
    for (key, value) in [
        ("name", name),
        ("pool", pool),
        ("format", volume.text("format")),
    ] {
        if let Some(value) = value {
            found.text(TABLE, key, value);
        }
    }
    if let Some(size) = volume.whole("size") {
        found.put(TABLE, "size", Value::Whole(size));
    }
    match base {
        Some((name, pool)) => {
            found.text(TABLE, "base_volume_name", name);
            if let Some(pool) = pool {
                found.text(TABLE, "base_volume_pool", pool);
            }
        }
        None => found.note(format!(
            "the base volume {} is not in the state, so its name and pool are not known",
            sanitize_line(base_id.unwrap_or_default(), 100)
        )),
    }
}

fn card(interface: &Json) -> Card {
    let text = |key: &str| interface.text(key).map(String::from);
    let network = (text("network_name"), text("network_id"));
    let at = match (text("macvtap"), text("bridge"), network) {
        (Some(device), ..) => Attachment::Macvtap(device),
        // A network of libvirt's has its bridge beside its name.
        (None, _, (name, id)) if name.is_some() || id.is_some() => Attachment::Network { name, id },
        (None, Some(bridge), _) => Attachment::Bridge { bridge, vlan: None },
        (None, None, _) => {
            let kinds = ["passthrough", "vepa"];
            let kind = kinds.into_iter().find(|kind| text(kind).is_some());
            Attachment::Other(kind.unwrap_or("unknown").to_owned())
        }
    };
    let addresses = interface.list("addresses").iter();
    let ip = addresses
        .filter_map(Json::secret)
        .map(|ip| ip.expose().to_owned())
        .find(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok());
    Card {
        mac: text("mac").map(|mac| match MacAddr::parse(&mac) {
            Ok(mac) => mac.to_string(),
            Err(_) => mac,
        }),
        at,
        ip,
    }
}

/// The resource of the client's certificate that is in the seed; else the one of the module.
fn certificate<'s>(state: &'s State, chosen: &Chosen<'_>) -> Option<&'s Resource> {
    let client = chosen.user_data.file(guest::CLIENT).unwrap_or_default();
    let all = || state.of("tls_locally_signed_cert");
    let is_in_seed = |resource: &&Resource| {
        let pem = resource.values.text("cert_pem").map(str::trim);
        pem.is_some_and(|pem| !pem.is_empty() && client.contains(pem))
    };
    // A hostile state may have very many, and each search reads all of the seed.
    if let Some(found) = all().take(MOST_KEYS).find(is_in_seed) {
        return Some(found);
    }
    let module = &chosen.domain.address.module;
    let mut of_module = all().filter(|resource| resource.address.module == *module);
    let first = of_module.next()?;
    of_module.next().is_none().then_some(first)
}

/// The private key of the CA that signed the client's certificate: as its resource has it, or by
/// its SHA-1, which the tls provider kept before 4.0; else any key of the state that fits the CA's
/// certificate.
#[must_use]
pub fn ca_key(state: &State, chosen: &Chosen<'_>, ca_certificate: Option<&str>) -> Option<Secret> {
    let named = certificate(state, chosen)
        .and_then(|resource| resource.values.get("ca_private_key_pem"))
        .and_then(Json::secret);
    let keys = || {
        let keys = state.of("tls_private_key");
        keys.filter_map(|key| key.values.get("private_key_pem")?.secret())
    };
    let by_name = match named {
        Some(pem) if pem.expose().trim_start().starts_with("-----") => Some(pem),
        Some(print) => keys().find(|key| sha1(key.expose()) == print.expose()),
        None => None,
    };
    let fits = |key: &&Secret| {
        let ca = ca_certificate.map(|certificate| Ca::load(key, certificate));
        ca.is_some_and(|ca| ca.is_ok())
    };
    by_name
        .or_else(|| keys().take(MOST_KEYS).find(fits))
        .cloned()
}

/// Of a PEM, as the tls provider makes it (v3.4.0, hashForState).
fn sha1(pem: &str) -> String {
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, pem.trim().as_bytes());
    sum.as_ref().iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

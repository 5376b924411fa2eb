//! Asking the host for everything that a plan needs, and nothing more: where nothing differs the
//! fewest calls are made. Nothing here changes or decides anything.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use crate::config::{
    CloneVolume, Config, Disk, DomainType, HostLink, NetworkRef, NicSource, VolumeRef,
};
use crate::guest::AgentAvailability;
use crate::host::{
    Claims, DomainFacts, HostError, HostErrorKind, HostReader, HostResult, Lease, NetworkFacts,
    VolumeState,
};
use crate::seed::{self, SeedContent};

/// How often a host that changes while it is observed is observed again.
pub const OBSERVE_AGAIN: u32 = 3;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(150);

/// The host, as far as one load balancer is concerned.
#[derive(Debug, Clone)]
pub struct Observed {
    pub architecture: String,
    /// `None`: not asked, because the answer would change nothing.
    pub offers_kvm: Option<bool>,
    pub domain: Option<DomainFacts>,
    /// What the host's other domains claim. Asked only where something is about to be claimed;
    /// empty otherwise.
    pub claims: Vec<Claims>,
    pub networks: BTreeMap<NetworkRef, ObservedNetwork>,
    /// Of the network devices that are named: whether the host has them. `None`: libvirt does not
    /// say.
    pub devices: BTreeMap<String, Option<bool>>,
    pub disk: ObservedDisk,
    /// Every volume name that a seed of this VM may have.
    pub seeds: Vec<ObservedSeed>,
    /// Whether the running guest can be changed: asked last, and only where it is to be.
    pub availability: AgentAvailability,
}

impl Observed {
    /// A network that was asked about; `None`: the host does not have it.
    #[must_use]
    pub fn network(&self, which: &NetworkRef) -> Option<&NetworkFacts> {
        self.networks.get(which)?.facts.as_ref()
    }

    /// As a definition has it, which names a network by its name and never by its UUID. A network
    /// that does not exist stays as configured: the plan refuses before anything is made of it.
    #[must_use]
    pub fn by_name(&self, source: &NicSource) -> NicSource {
        let facts = source.network().and_then(|which| self.network(which));
        facts.map_or_else(
            || source.clone(),
            |facts| NicSource::Network(NetworkRef::Name(facts.id.name.clone())),
        )
    }
}

#[derive(Debug, Clone)]
pub struct ObservedNetwork {
    /// `None`: there is no such network.
    pub facts: Option<NetworkFacts>,
    /// Asked only while a reservation is lacking.
    pub leases: Vec<Lease>,
}

/// The root disk that the configuration asks for, and what the host has of it. Both are one value,
/// so that no plan can compare one disk with what was observed of another.
#[derive(Debug, Clone)]
pub enum ObservedDisk {
    /// `volume_id`
    Existing { id: String, volume: VolumeState },
    /// `[volume]`
    Clone {
        wanted: CloneVolume,
        volume: VolumeState,
        base: VolumeState,
    },
}

#[derive(Debug, Clone)]
pub struct ObservedSeed {
    pub at: VolumeRef,
    pub volume: VolumeState,
    /// `None` where there is no volume.
    pub content: Option<SeedContent>,
}

/// How much to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The claims of other domains only where something is about to be claimed.
    WhatIsNeeded,
    Everything,
}

/// Asks the host. What was listed may not exist any more, or not be ready, when it is read, because
/// another lbctl changes it: then it is observed again.
pub fn observe(config: &Config, host: &impl HostReader, ask: Ask) -> HostResult<Observed> {
    let mut rounds = 0;
    loop {
        match observe_once(config, host, ask) {
            Err(HostError {
                kind: HostErrorKind::NotFound | HostErrorKind::State | HostErrorKind::Other,
                ..
            }) if rounds < OBSERVE_AGAIN => {
                rounds += 1;
                sleep(BETWEEN_ROUNDS);
            }
            other => return other,
        }
    }
}

fn observe_once(config: &Config, host: &impl HostReader, ask: Ask) -> HostResult<Observed> {
    let name = config.name.as_str();
    let architecture = host.architecture()?;
    let domain = host.domain(name)?;
    let claiming = ask == Ask::Everything || claims_something_new(config, domain.as_ref());
    let undecided = domain.is_none() && config.libvirt.domain_type == DomainType::Auto;
    let offers_kvm = if undecided {
        Some(host.offers_kvm(&architecture)?)
    } else {
        None
    };
    let claims = if claiming {
        host.claims(&[name.to_owned()])?
    } else {
        Vec::new()
    };
    let mut networks = BTreeMap::new();
    let mut devices = BTreeMap::new();
    for interface in &config.interfaces {
        match interface.source.host_link() {
            HostLink::Network(network) if networks.contains_key(network) => {} // several on one
            HostLink::Network(network) => {
                let facts = host.network(network)?;
                let leases = match &facts {
                    Some(facts) if claiming && facts.active => host.leases(&facts.id)?,
                    _ => Vec::new(),
                };
                networks.insert(network.clone(), ObservedNetwork { facts, leases });
            }
            HostLink::Device(device) => {
                let has = if claiming {
                    host.has_device(device)?
                } else {
                    None
                };
                devices.insert(device.to_owned(), has);
            }
        }
    }
    add_recorded_networks(domain.as_ref(), host, &mut networks)?;
    let disk = match &config.disk {
        Disk::Existing { id } => ObservedDisk::Existing {
            id: id.clone(),
            volume: host.volume_by_id(id)?,
        },
        Disk::Clone(clone) => ObservedDisk::Clone {
            wanted: clone.clone(),
            volume: host.volume(&clone.volume)?,
            base: host.volume(&clone.base)?,
        },
    };
    let seeds = seed_places(config, domain.as_ref())
        .into_iter()
        .map(|at| observe_seed(at, name, host))
        .collect::<HostResult<_>>()?;
    Ok(Observed {
        architecture,
        offers_kvm,
        domain,
        claims,
        networks,
        devices,
        disk,
        seeds,
        availability: AgentAvailability::NotAsked,
    })
}

/// Whether `up` may have to claim an address, a MAC or a disk, so that the claims of others matter.
/// Where the domain has its network interfaces already, and its own ownership record lists its
/// reservations, nothing new is claimed.
fn claims_something_new(config: &Config, domain: Option<&DomainFacts>) -> bool {
    let Some(domain) = domain else { return true };
    let Some(ownership) = &domain.config.ownership else {
        return true;
    };
    config.interfaces.iter().any(|interface| {
        let known = domain
            .config
            .interfaces
            .iter()
            .any(|nic| nic.mac == interface.mac);
        let reserved = interface.addressing != crate::config::Addressing::DhcpReservation
            || ownership
                .reservations
                .iter()
                .any(|r| r.entry.mac == Some(interface.mac) && r.entry.ip == interface.ip);
        !known || !reserved
    })
}

/// Networks that have an earlier reservation and are not in the configuration any more.
fn add_recorded_networks(
    domain: Option<&DomainFacts>,
    host: &impl HostReader,
    networks: &mut BTreeMap<NetworkRef, ObservedNetwork>,
) -> HostResult<()> {
    let recorded = domain
        .and_then(|d| d.config.ownership.as_ref())
        .map(|m| m.reservations.as_slice())
        .unwrap_or_default();
    for reservation in recorded {
        let known = networks.values().any(|n| {
            n.facts
                .as_ref()
                .is_some_and(|f| f.id.uuid == reservation.network)
        });
        let which = NetworkRef::Id(reservation.network.clone());
        if !known && !networks.contains_key(&which) {
            let facts = host.network(&which)?;
            networks.insert(
                which,
                ObservedNetwork {
                    facts,
                    leases: Vec::new(),
                },
            );
        }
    }
    Ok(())
}

/// The configured place and its alternates, and those that the domain's ownership record names.
fn seed_places(config: &Config, domain: Option<&DomainFacts>) -> Vec<VolumeRef> {
    let mut places = seed::places(&config.seed_volume);
    let records = domain
        .into_iter()
        .flat_map(|d| [Some(&d.config), d.live.as_ref()])
        .flatten()
        .filter_map(|d| d.ownership.as_ref());
    for ownership in records {
        for at in std::iter::once(&ownership.seed.volume).chain(&ownership.stale_seeds) {
            if !places.contains(at) {
                places.push(at.clone());
            }
        }
    }
    places
}

fn observe_seed(at: VolumeRef, vm: &str, host: &impl HostReader) -> HostResult<ObservedSeed> {
    let volume = host.volume(&at)?;
    let content = match volume.present() {
        None => None,
        Some(facts) if facts.capacity > seed::MAX_SIZE => Some(SeedContent::Foreign),
        Some(facts) => match seed::recognise(&host.read_volume(&at, seed::MAX_SIZE)?, vm) {
            // lbctl's volumes are 0600 from the first moment; an empty volume of somebody else is
            // not.
            SeedContent::Unfinished if facts.mode.is_some_and(|mode| mode != 0o600) => {
                Some(SeedContent::Foreign)
            }
            content => Some(content),
        },
    };
    Ok(ObservedSeed {
        at,
        volume,
        content,
    })
}

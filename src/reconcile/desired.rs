//! What the configuration asks for on this host at this time. The last place where the clock and randomness are used (a
//! fresh certificate); what comes out is a value that a plan compares.

use std::fmt;

use time::OffsetDateTime;

use crate::cert::{self, CertError, Clamp, ClientPair, Facts, IssueReason, Policy, Resolution};
use crate::config::{Addressing, Attach, Config, Disk, DomainType, Interface, VolumeRef};
use crate::host::{HostEntry, NetworkRef, NicFacts, NicSource};
use crate::reconcile::observe::{Observed, network_ref};
use crate::render::domain::{DomainKind, DomainSpec};
use crate::secret::Secret;
use crate::seed::{FoundSeed, Seed, SeedContent};

/// Everything that `up` makes so.
#[derive(Debug, Clone)]
pub struct Desired {
    pub domain: DomainSpec,
    /// Whether the configuration names a machine type; otherwise the one a domain has stays.
    pub machine_given: bool,
    pub disk: Disk,
    pub seed: Seed,
    pub seed_volume: VolumeRef,
    pub interfaces: Vec<Interface>,
    pub reservations: Vec<DesiredReservation>,
    pub certificate: DesiredCertificate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredReservation {
    pub network: NetworkRef,
    pub entry: HostEntry,
}

/// The client certificate in the desired seed, and how it came there.
#[derive(Debug, Clone)]
pub struct DesiredCertificate {
    pub facts: Facts,
    /// `None`: the one in use stays.
    pub issued: Option<IssueReason>,
    /// Shorter than asked for, because the CA ends earlier.
    pub clamp: Option<Clamp>,
}

/// Another certificate for a load balancer that otherwise stays as its seed has it.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub seed: Seed,
    pub seed_volume: VolumeRef,
    pub certificate: DesiredCertificate,
}

impl Renewal {
    /// `None`: the one in use stays. `force`: it does not, whether due or not.
    pub fn from_config(
        config: &Config,
        found: &FoundSeed,
        now: OffsetDateTime,
        force: bool,
    ) -> Result<Option<Self>, DesireError> {
        let (pair, certificate) = resolve(config, Some(found), now, force)?;
        if certificate.issued.is_none() {
            return Ok(None);
        }
        let seed = Seed::renewed(found, config, &pair)
            .ok_or_else(|| DesireError::Seed("the seed was written by another version of lbctl: `lbctl up` brings it up to date first, and renews what is due".into()))?
            .map_err(DesireError::Seed)?;
        Ok(Some(Self {
            seed,
            seed_volume: config.seed_volume.clone(),
            certificate,
        }))
    }
}

/// Why there is nothing to aim for.
#[derive(Debug)]
pub enum DesireError {
    Certificate(CertError),
    Seed(String),
}

impl fmt::Display for DesireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "issuing the client certificate: {error}"),
            Self::Seed(said) => f.write_str(said),
        }
    }
}

impl DesireError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Certificate(error) => error.hint(),
            Self::Seed(_) => None,
        }
    }
}

impl Desired {
    pub fn from_config(
        config: &Config,
        observed: &Observed,
        now: OffsetDateTime,
    ) -> Result<Self, DesireError> {
        let (seed, certificate) = seed(config, current_seed(observed), now)?;
        Ok(Self {
            domain: domain(config, observed),
            machine_given: config.libvirt.machine.is_some(),
            disk: config.disk.clone(),
            seed,
            seed_volume: config.seed_volume.clone(),
            interfaces: config.interfaces.clone(),
            reservations: reservations(config),
            certificate,
        })
    }
}

/// Renders the seed with the certificate in use, or a fresh one where it is due.
pub fn seed(
    config: &Config,
    current: Option<&FoundSeed>,
    now: OffsetDateTime,
) -> Result<(Seed, DesiredCertificate), DesireError> {
    let (pair, certificate) = resolve(config, current, now, false)?;
    let seed = Seed::build(config, &pair).map_err(DesireError::Seed)?;
    Ok((seed, certificate))
}

/// How certificates are to be.
#[must_use]
pub fn policy(config: &Config) -> Policy<'_> {
    let client = &config.haproxy.patroni_client;
    Policy {
        ca: &client.ca,
        validity_hours: client.validity.get(),
        early_renewal_hours: client.early_renewal.get(),
        key_algorithm: client.key_algorithm,
    }
}

fn resolve(
    config: &Config,
    current: Option<&FoundSeed>,
    now: OffsetDateTime,
    force: bool,
) -> Result<(ClientPair, DesiredCertificate), DesireError> {
    let pem = current.and_then(|seed| seed.client_pem.as_ref());
    let resolution = cert::resolve(pem.map(Secret::expose), policy(config), now, force)
        .map_err(DesireError::Certificate)?;
    let pair = resolution.pair().clone();
    let facts = pair.facts().clone();
    let (issued, clamp) = match resolution {
        Resolution::Keep(_) => (None, None),
        Resolution::Issue { reason, clamp, .. } => (Some(reason), clamp),
    };
    let certificate = DesiredCertificate {
        facts,
        issued,
        clamp,
    };
    Ok((pair, certificate))
}

/// The seed in use: the one the domain's definition points at, else one that an earlier `up` left before it was killed.
#[must_use]
pub fn current_seed(observed: &Observed) -> Option<&FoundSeed> {
    let marked = observed
        .domain
        .as_ref()
        .and_then(|d| d.config.ownership.as_ref())
        .map(|m| &m.seed.volume);
    let ours = |seed: &'_ &crate::reconcile::observe::ObservedSeed| {
        matches!(seed.content, Some(SeedContent::Ours(_)))
    };
    let in_use = observed
        .seeds
        .iter()
        .find(|seed| Some(&seed.at) == marked && ours(seed));
    match &in_use.or_else(|| observed.seeds.iter().find(ours))?.content {
        Some(SeedContent::Ours(found)) => Some(found),
        _ => None,
    }
}

fn domain(config: &Config, observed: &Observed) -> DomainSpec {
    let architecture = observed.architecture.clone();
    let existing = observed
        .domain
        .as_ref()
        .map(|d| d.config.domain_type.as_str());
    let kind = match config.libvirt.domain_type {
        DomainType::Kvm => DomainKind::Kvm,
        // What a domain is, it stays, unless it is told to change.
        DomainType::Auto if existing == Some("kvm") => DomainKind::Kvm,
        DomainType::Auto if existing.is_none() && observed.offers_kvm == Some(true) => {
            DomainKind::Kvm
        }
        DomainType::Auto | DomainType::Qemu => DomainKind::Qemu,
    };
    DomainSpec {
        name: config.name.as_str().to_owned(),
        kind,
        machine: config
            .libvirt
            .machine
            .clone()
            .unwrap_or_else(|| default_machine(&architecture).to_owned()),
        architecture,
        memory_mib: config.memory.get(),
        vcpus: config.vcpus.get(),
        interfaces: config.interfaces.iter().map(|i| nic(i, observed)).collect(),
    }
}

/// The machine type where the configuration names none.
#[must_use]
pub fn default_machine(architecture: &str) -> &'static str {
    match architecture {
        "x86_64" | "i686" => "q35",
        "s390x" => "s390-ccw-virtio",
        "ppc64le" => "pseries",
        _ => "virt",
    }
}

fn nic(interface: &Interface, observed: &Observed) -> NicFacts {
    let source = match (&interface.attach, network_ref(&interface.attach)) {
        (Attach::Macvtap(device), _) => NicSource::Macvtap(device.clone()),
        (_, Err(device)) => NicSource::Macvtap(device.to_owned()),
        (_, Ok(network)) => {
            let facts = observed
                .networks
                .get(&network)
                .and_then(|n| n.facts.as_ref());
            // A network that is not there has no name; the plan refuses before anything is made of it.
            NicSource::Network(facts.map_or_else(|| network.to_string(), |f| f.id.name.clone()))
        }
    };
    NicFacts {
        mac: interface.mac,
        source,
    }
}

fn reservations(config: &Config) -> Vec<DesiredReservation> {
    let by_dhcp = config
        .interfaces
        .iter()
        .filter(|i| i.addressing == Addressing::DhcpReservation);
    by_dhcp
        .filter_map(|interface| {
            Some(DesiredReservation {
                network: network_ref(&interface.attach).ok()?,
                entry: HostEntry {
                    mac: Some(interface.mac),
                    ip: interface.ip,
                    name: Some(config.name.as_str().to_owned()),
                },
            })
        })
        .collect()
}

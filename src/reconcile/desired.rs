//! What the configuration asks for on this host at this time. The last place where the clock and
//! randomness are used (a fresh certificate); what comes out is a value that a plan compares.

use std::fmt;

use time::OffsetDateTime;

use crate::cert::{self, CertError, Clamp, ClientPair, Facts, IssueReason, Policy, Resolution};
use crate::config::{Addressing, Config, DomainType, Interface, NetworkRef, VolumeRef};
use crate::host::HostEntry;
use crate::reconcile::observe::Observed;
use crate::render::domain::{DomainKind, DomainSpec, NicSpec};
use crate::secret::Secret;
use crate::seed::{FoundSeed, Seed, SeedContent, SeedError};

/// Everything that `up` brings about, except the root disk: what is asked of it is kept with what
/// was observed of it ([`crate::reconcile::observe::ObservedDisk`]).
#[derive(Debug, Clone)]
pub struct Desired {
    pub domain: DomainSpec,
    /// Whether the configuration names a machine type; otherwise the one a domain has stays.
    pub machine_given: bool,
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

/// The client certificate in the desired seed, and whether it is new.
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
            .ok_or(DesireError::SeedOutdated)?
            .map_err(DesireError::Seed)?;
        Ok(Some(Self {
            seed,
            seed_volume: config.seed_volume.clone(),
            certificate,
        }))
    }
}

/// Why there is no desired state.
#[derive(Debug)]
pub enum DesireError {
    Certificate(CertError),
    /// The seed in use was written by another version of lbctl, and cannot be written again.
    SeedOutdated,
    Seed(SeedError),
}

impl std::error::Error for DesireError {}

impl fmt::Display for DesireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "issuing the client certificate: {error}"),
            Self::SeedOutdated => f.write_str(
                "the seed was written by another version of lbctl: `lbctl up` updates it first, and renews the \
                 certificate if it is due",
            ),
            Self::Seed(error) => write!(f, "{error}"),
        }
    }
}

impl DesireError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Certificate(error) => error.hint(),
            Self::SeedOutdated | Self::Seed(_) => None,
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
            domain: domain(config, Some(observed)),
            machine_given: config.libvirt.machine.is_some(),
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

/// The seed in use: the one the domain's definition points at, else one that an earlier `up` left
/// before it was killed.
#[must_use]
pub fn current_seed(observed: &Observed) -> Option<&FoundSeed> {
    let recorded = observed
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
        .find(|seed| Some(&seed.at) == recorded && ours(seed));
    match &in_use.or_else(|| observed.seeds.iter().find(ours))?.content {
        Some(SeedContent::Ours(found)) => Some(found),
        _ => None,
    }
}

/// The domain as the configuration wants it on that host. Without a host: on a machine like this
/// one, with kvm, in networks as the configuration names them.
#[must_use]
pub fn domain(config: &Config, observed: Option<&Observed>) -> DomainSpec {
    let architecture = observed.map_or(std::env::consts::ARCH, |o| &o.architecture);
    DomainSpec {
        name: config.name.as_str().to_owned(),
        kind: kind(config.libvirt.domain_type, observed),
        machine: config
            .libvirt
            .machine
            .clone()
            .unwrap_or_else(|| default_machine(architecture).to_owned()),
        architecture: architecture.to_owned(),
        memory_mib: config.memory.get(),
        vcpus: config.vcpus.get(),
        interfaces: config
            .interfaces
            .iter()
            .map(|i| NicSpec {
                mac: i.mac,
                source: observed.map_or_else(|| i.source.clone(), |o| o.by_name(&i.source)),
            })
            .collect(),
    }
}

fn kind(wanted: DomainType, observed: Option<&Observed>) -> DomainKind {
    match (wanted, observed) {
        (DomainType::Kvm, _) | (DomainType::Auto, None) => DomainKind::Kvm,
        (DomainType::Qemu, _) => DomainKind::Qemu,
        (DomainType::Auto, Some(observed)) => match &observed.domain {
            // A domain keeps its type, unless the configuration names another.
            Some(domain) if domain.config.domain_type == "kvm" => DomainKind::Kvm,
            None if observed.offers_kvm == Some(true) => DomainKind::Kvm,
            Some(_) | None => DomainKind::Qemu,
        },
    }
}

/// The machine type where the configuration names none.
fn default_machine(architecture: &str) -> &'static str {
    match architecture {
        "x86_64" | "i686" => "q35",
        "s390x" => "s390-ccw-virtio",
        "ppc64le" => "pseries",
        _ => "virt",
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
                network: interface.source.network()?.clone(),
                entry: HostEntry {
                    mac: Some(interface.mac),
                    ip: interface.ip,
                    name: Some(config.name.as_str().to_owned()),
                },
            })
        })
        .collect()
}

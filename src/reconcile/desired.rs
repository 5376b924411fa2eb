//! What the configuration asks for on this host at this time. The last place where the clock and
//! randomness are used (a fresh certificate); what comes out is a value that a plan compares.

use std::fmt;

use time::OffsetDateTime;

use crate::cert::{self, CertError, Clamp, ClientPair, Facts, IssueReason, KeyError, Resolution};
use crate::config::{
    CertificateSource, Config, DomainType, Interface, NetworkRef, PatroniClient, VirtualIp,
    VolumeRef,
};
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
    /// The address that the VM is to share.
    pub virtual_ip: Option<VirtualIp>,
    /// `None`: the nodes are asked without one.
    pub certificate: Option<DesiredCertificate>,
    /// What was consented to for the disk.
    pub disk: DiskConsent,
    /// Consent to take over a domain of that name that something else made.
    pub adoption: Adoption,
    /// Consent to stop the guest though no other VM takes the address that they share.
    pub alone: bool,
}

/// What was consented to for the root disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskConsent {
    /// To use a volume of the disk's name that is there, and that lbctl did not make.
    pub reuse: bool,
    /// To make the disk anew, without what is on it.
    pub replace: bool,
}

/// Consent to take over a domain that something else made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adoption {
    #[default]
    Refused,
    /// One that is like lbctl's own.
    Careful,
    /// Also one that another tool has notes in, or with devices that lbctl never makes.
    Forced,
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
    /// It is only shown, and who applies it will miss the CA's key.
    pub keyless: Option<KeyError>,
}

/// What the desired state is for. A certificate that is only shown is signed by nobody's key: the
/// CA's is opened for one that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    Show,
    Apply,
}

/// Another certificate for a load balancer that otherwise stays as its seed has it.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub seed: Seed,
    pub seed_volume: VolumeRef,
    pub certificate: DesiredCertificate,
    /// Nodes that have no vote on it, by address or name.
    pub despite: Vec<String>,
}

impl Renewal {
    /// `None`: the one in use stays. `force`: it does not, whether due or not.
    pub fn from_config(
        config: &Config,
        found: &FoundSeed,
        now: OffsetDateTime,
        force: bool,
    ) -> Result<Option<Self>, DesireError> {
        let Some(client) = config.haproxy.patroni_tls.client() else {
            return Ok(None);
        };
        if found.guest.is_some() && found.client_pem.is_none() {
            return Err(DesireError::WithoutCertificate);
        }
        let (pair, certificate) = resolve(client, Some(found), now, force, Intent::Apply)?;
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
            despite: Vec::new(),
        }))
    }
}

/// Why there is no desired state.
#[derive(Debug)]
pub enum DesireError {
    /// What the configuration refers to is not there, in words.
    Unread(String),
    Certificate(CertError),
    /// The seed in use was written by another version of lbctl, and cannot be written again.
    SeedOutdated,
    /// The guest asks its nodes without a client certificate, and the configuration that wants one
    /// was not applied yet.
    WithoutCertificate,
    Seed(SeedError),
}

impl std::error::Error for DesireError {}

impl fmt::Display for DesireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(what) => f.write_str(what),
            Self::Certificate(error) => write!(f, "{error}"),
            Self::SeedOutdated => f.write_str(
                "the seed was written by another version of lbctl: `lbctl up` updates it first, and renews the \
                 certificate if it is due",
            ),
            Self::WithoutCertificate => f.write_str(
                "the load balancer asks its nodes without a client certificate so far: `lbctl up` issues one and has it \
                 used",
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
            Self::Unread(_) | Self::SeedOutdated | Self::WithoutCertificate | Self::Seed(_) => None,
        }
    }
}

impl Desired {
    pub fn from_config(
        config: &Config,
        observed: &Observed,
        now: OffsetDateTime,
        intent: Intent,
    ) -> Result<Self, DesireError> {
        if let Some(unread) = config.unread.first() {
            return Err(DesireError::Unread(unread.clone()));
        }
        let (seed, certificate) = seed(config, current_seed(observed), now, intent)?;
        Ok(Self {
            domain: domain(config, Some(observed)),
            machine_given: config.libvirt.machine.is_some(),
            seed,
            seed_volume: config.seed_volume.clone(),
            interfaces: config.interfaces.clone(),
            reservations: reservations(config),
            virtual_ip: config.virtual_ip.clone(),
            certificate,
            disk: DiskConsent::default(),
            adoption: Adoption::Refused,
            alone: false,
        })
    }
}

/// Renders the seed with the certificate in use, or a fresh one where it is due.
pub fn seed(
    config: &Config,
    current: Option<&FoundSeed>,
    now: OffsetDateTime,
    intent: Intent,
) -> Result<(Seed, Option<DesiredCertificate>), DesireError> {
    let client = config.haproxy.patroni_tls.client();
    let resolved = client
        .map(|client| resolve(client, current, now, false, intent))
        .transpose()?;
    let (pair, certificate) = resolved.unzip();
    let seed = Seed::build(config, pair.as_ref()).map_err(DesireError::Seed)?;
    Ok((seed, certificate))
}

fn resolve(
    client: &PatroniClient,
    current: Option<&FoundSeed>,
    now: OffsetDateTime,
    force: bool,
    intent: Intent,
) -> Result<(ClientPair, DesiredCertificate), DesireError> {
    let pem = current.and_then(|seed| seed.client_pem.as_ref());
    let pem = pem.map(Secret::expose);
    let resolution = match &client.source {
        CertificateSource::Issued(issuing) => {
            let policy = issuing.policy(&client.ca, intent == Intent::Show);
            cert::resolve(pem, policy, now, force)
        }
        CertificateSource::Given(_) | CertificateSource::Requested(_) => {
            let resolved = cert::resolve_given(pem, client.given(), &client.ca);
            match resolved {
                Err(CertError::NoneGiven) if intent == Intent::Show => {
                    cert::sample(&client.ca, now)
                }
                resolved => resolved,
            }
        }
    };
    let resolution = resolution.map_err(DesireError::Certificate)?;
    let pair = resolution.pair().clone();
    let facts = pair.facts().clone();
    let (issued, clamp) = match resolution {
        Resolution::Keep(_) => (None, None),
        Resolution::Issue { reason, clamp, .. } => (Some(reason), clamp),
    };
    let keyless = match &client.source {
        CertificateSource::Issued(issuing) if issued.is_some() && intent == Intent::Show => {
            issuing.ca_key.ensure_there().err()
        }
        _ => None,
    };
    let certificate = DesiredCertificate {
        facts,
        issued,
        clamp,
        keyless,
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
        machine: machine(config, observed, architecture),
        architecture: architecture.to_owned(),
        memory_mib: config.memory.get(),
        vcpus: config.vcpus.get(),
        interfaces: config
            .interfaces
            .iter()
            .map(|i| NicSpec {
                mac: i.mac,
                source: observed.map_or_else(|| i.source.clone(), |o| o.by_name(&i.source)),
                ipv6: i.ips().any(|ip| ip.is_ipv6()),
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

/// A domain keeps its machine, unless the configuration names another.
fn machine(config: &Config, observed: Option<&Observed>, architecture: &str) -> String {
    let has = observed.and_then(|o| o.domain.as_ref());
    let has = has
        .map(|d| d.config.machine.clone())
        .filter(|m| !m.is_empty());
    let given = config.libvirt.machine.clone();
    given
        .or(has)
        .unwrap_or_else(|| default_machine(architecture).to_owned())
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
    let interfaces = config.interfaces.iter();
    interfaces
        .filter_map(|interface| {
            Some(DesiredReservation {
                network: interface.source.network()?.clone(),
                entry: HostEntry {
                    mac: Some(interface.mac),
                    ip: interface.reserved()?,
                    name: Some(config.name.as_str().to_owned()),
                },
            })
        })
        .collect()
}

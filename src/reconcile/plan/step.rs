//! The steps: everything that lbctl ever does to a host. Applying them is one `match` in `apply`.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{BaseImage, ImageSource, VolumeRef};
use crate::guest::Extent;
use crate::host::ownership::{Ownership, SeedRecord};
use crate::host::{CloneSpec, Drive, HostEntry, NetworkId, Operation, Scope, VolumeFacts};
use crate::render::GuestSpec;
use crate::render::domain::DomainSpec;
use crate::render::domain::edit::Existing;
use crate::secret::Secret;
use crate::seed::Seed;
use crate::text::size::Bytes;

/// One change to the host. `Display` is the text in the plan, in progress and in errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Reserve {
        network: NetworkId,
        entry: HostEntry,
        scope: Scope,
    },
    Release {
        network: NetworkId,
        entry: HostEntry,
        scope: Scope,
    },
    /// Makes the base volume from an image.
    BringImage(ImageStep),
    CloneVolume(CloneSpec),
    /// Deletes the root disk of a domain that is off, and makes it anew.
    RemakeVolume(Box<RemakeStep>),
    GrowVolume {
        at: VolumeRef,
        capacity: u64,
    },
    GrowLiveDisk {
        domain: String,
        target: String,
        capacity: u64,
    },
    /// The disk of a domain that does not exist any more.
    DeleteVolume {
        at: VolumeRef,
        domain: String,
    },
    /// A seed of the domain that nothing refers to: unfinished, or a previous one.
    DeleteSeed {
        at: VolumeRef,
        domain: String,
    },
    WriteSeed {
        at: VolumeRef,
        seed: Box<Seed>,
    },
    /// Brings the running guest to what is desired, by its agent, without a restart.
    Converge(Box<ConvergeStep>),
    Define(Box<DefineStep>),
    /// Puts the seed into the drive, for the next boot.
    SwapMedium {
        domain: String,
        seed: SeedRecord,
        drives: Drives,
    },
    /// Writes down what the guest has now, or will have.
    SetOwnership {
        domain: String,
        ownership: Box<Ownership>,
        note: OwnershipKind,
    },
    SetAutostart {
        domain: String,
        on: bool,
    },
    Start {
        domain: String,
    },
    Resume {
        domain: String,
    },
    /// Of a guest that suspended itself to memory.
    Wake {
        domain: String,
    },
    /// Has the guest give the address that it shares to another VM, and waits until the sessions
    /// that came by it have ended. It is refused where no other VM takes it.
    StepBack {
        domain: String,
        /// How long they may take. What is left then is cut by the step that follows.
        drain: Duration,
    },
    /// Asks the guest to stop, waits, and cuts its power at the deadline.
    Stop {
        domain: String,
        /// The run that is to end, and no later one; `None`: whichever it is.
        run: Option<u32>,
        deadline: Duration,
    },
    /// Stop and start. If the new definition does not start, `fallback` is restored and started.
    Restart {
        domain: String,
        /// The run that is to end ([`crate::host::Definition::run`]), and no later one.
        run: Option<u32>,
        deadline: Duration,
        fallback: Secret,
    },
    Undefine {
        domain: String,
    },
}

/// What an ownership record is written for, and so in which definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OwnershipKind {
    /// In the running definition: the guest is being changed, and its state is unknown until the
    /// next record. Even if lbctl is killed now, the next `up` sees it.
    Changing,
    /// In the running definition: what the guest has.
    Guest,
    /// In the saved definition: what the next boot brings.
    NextBoot,
}

impl OwnershipKind {
    #[must_use]
    pub fn scope(self) -> Scope {
        Scope {
            config: self == Self::NextBoot,
            live: self != Self::NextBoot,
        }
    }
}

/// The guest checks all of it first, and restores everything if that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvergeStep {
    pub domain: String,
    pub guest: GuestSpec,
    pub extent: Extent,
    /// Nodes that have no vote on a new certificate, by address or name.
    pub despite: Vec<String>,
    /// The seed written for it, which is removed again when the guest refuses.
    pub new_seed: Option<VolumeRef>,
    /// The running definition's previous ownership record, which is restored then.
    pub ownership: Option<Ownership>,
}

/// It is refused if the disk is not the one that was seen: another run has made it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemakeStep {
    pub domain: String,
    /// `None`: there was none.
    pub was: Option<VolumeFacts>,
    pub spec: CloneSpec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageStep {
    pub at: VolumeRef,
    pub image: BaseImage,
    /// Bytes that the guest sees of it: what was planned with.
    pub capacity: u64,
    /// Bytes to bring; `None`: the server does not say.
    pub size: Option<u64>,
}

/// The drives for the seed in the two definitions of a domain; `None`: unchanged there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drives {
    /// Of the saved definition.
    pub config: Option<Drive>,
    /// Of the running guest.
    pub live: Option<Drive>,
}

/// Paths of volumes are known only once the volumes are there, so the definition is rendered when
/// it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineStep {
    pub spec: DomainSpec,
    /// What the domain has and is changed; `None`: it is a new domain.
    pub existing: Option<Existing>,
    pub ownership: Ownership,
    pub root: RootRef,
    /// What the root disk is read as.
    pub format: String,
    /// Of a new domain: the others whose claims are known. Newer claims are checked once it is
    /// defined.
    pub known: Vec<String>,
}

/// The root disk as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootRef {
    Volume(VolumeRef),
    /// `volume_id`
    Id(String),
}

/// What a step does, to what: two steps are the same work if these are equal. Steps themselves are
/// not compared for that: a plan made again may have issued another certificate, and then two
/// `WriteSeed` of one volume differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Action {
    pub kind: StepKind,
    pub target: Target,
}

/// What a step does, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Adds a DHCP host entry to a network.
    Reserve,
    /// Removes a DHCP host entry from a network.
    Release,
    /// Makes the base volume from an image of a file or from the net.
    BringImage,
    /// Makes the root disk from the base volume.
    CloneVolume,
    /// Deletes the root disk of a domain that is off, and makes it anew from the base volume.
    RemakeVolume,
    /// Grows the root disk of a domain that is off.
    GrowVolume,
    /// Grows the root disk of the running guest.
    GrowDisk,
    /// Deletes the root disk.
    DeleteVolume,
    /// Deletes a seed that nothing refers to.
    DeleteSeed,
    /// Writes a seed.
    WriteSeed,
    /// Changes the running guest through its agent.
    ChangeGuest,
    /// Gives the running guest another client certificate through its agent.
    ExchangeCertificate,
    /// Defines a new domain.
    Define,
    /// Defines the domain again.
    Redefine,
    /// Puts a seed into the CD-ROM drive of the domain.
    SwapMedium,
    /// Writes lbctl's ownership record into the domain.
    SetOwnership,
    /// Lets the domain start with the host.
    SetAutostart,
    /// Does not let the domain start with the host.
    ClearAutostart,
    /// Starts the domain.
    Start,
    /// Resumes the paused domain.
    Resume,
    /// Wakes the guest that suspended itself to memory.
    Wake,
    /// Gives the shared address to another VM, and waits until the sessions have ended.
    StepBack,
    /// Shuts the guest down; at its deadline its power is cut.
    Stop,
    /// Stops and starts the domain.
    Restart,
    /// Removes the definition of the domain.
    Undefine,
}

/// What a step is done to, with everything that distinguishes it from another step of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Domain(String),
    Volume(VolumeRef),
    Seed(VolumeRef),
    /// `size` in bytes, where it is known.
    Image {
        volume: VolumeRef,
        source: ImageSource,
        size: Option<u64>,
    },
    Entry {
        network: NetworkId,
        entry: HostEntry,
    },
    /// `capacity` in bytes, here and below.
    CloneOf {
        volume: VolumeRef,
        base: VolumeRef,
        capacity: u64,
    },
    SizeOf {
        volume: VolumeRef,
        capacity: u64,
    },
    /// A disk of the running guest, such as `vda`.
    LiveDisk {
        domain: String,
        device: String,
        capacity: u64,
    },
    /// The running guest of the domain.
    Guest(String),
    CertificateOf(String),
    /// The domain's CD-ROM drive.
    Drive {
        domain: String,
        seed: VolumeRef,
    },
    Ownership {
        domain: String,
        note: OwnershipKind,
    },
    AutostartOf(String),
    /// The address that the guest of the domain shares.
    AddressOf(String),
}

impl Step {
    /// What it does, to what.
    #[must_use]
    pub fn action(&self) -> Action {
        Action {
            kind: self.kind(),
            target: self.target(),
        }
    }

    #[must_use]
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Reserve { .. } => StepKind::Reserve,
            Self::Release { .. } => StepKind::Release,
            Self::BringImage(_) => StepKind::BringImage,
            Self::CloneVolume(_) => StepKind::CloneVolume,
            Self::RemakeVolume(_) => StepKind::RemakeVolume,
            Self::GrowVolume { .. } => StepKind::GrowVolume,
            Self::GrowLiveDisk { .. } => StepKind::GrowDisk,
            Self::DeleteVolume { .. } => StepKind::DeleteVolume,
            Self::DeleteSeed { .. } => StepKind::DeleteSeed,
            Self::WriteSeed { .. } => StepKind::WriteSeed,
            Self::Converge(step) => match step.extent {
                Extent::All => StepKind::ChangeGuest,
                Extent::Tls => StepKind::ExchangeCertificate,
            },
            Self::Define(step) => match step.existing {
                None => StepKind::Define,
                Some(_) => StepKind::Redefine,
            },
            Self::SwapMedium { .. } => StepKind::SwapMedium,
            Self::SetOwnership { .. } => StepKind::SetOwnership,
            Self::SetAutostart { on: true, .. } => StepKind::SetAutostart,
            Self::SetAutostart { on: false, .. } => StepKind::ClearAutostart,
            Self::Start { .. } => StepKind::Start,
            Self::Resume { .. } => StepKind::Resume,
            Self::Wake { .. } => StepKind::Wake,
            Self::StepBack { .. } => StepKind::StepBack,
            Self::Stop { .. } => StepKind::Stop,
            Self::Restart { .. } => StepKind::Restart,
            Self::Undefine { .. } => StepKind::Undefine,
        }
    }

    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Reserve { network, entry, .. } | Self::Release { network, entry, .. } => {
                Target::Entry {
                    network: network.clone(),
                    entry: entry.clone(),
                }
            }
            Self::BringImage(step) => Target::Image {
                volume: step.at.clone(),
                source: step.image.source.clone(),
                size: step.size,
            },
            Self::CloneVolume(spec) => clone_of(spec),
            Self::RemakeVolume(step) => clone_of(&step.spec),
            Self::GrowVolume { at, capacity } => Target::SizeOf {
                volume: at.clone(),
                capacity: *capacity,
            },
            Self::GrowLiveDisk {
                domain,
                target,
                capacity,
            } => Target::LiveDisk {
                domain: domain.clone(),
                device: target.clone(),
                capacity: *capacity,
            },
            Self::DeleteVolume { at, .. } => Target::Volume(at.clone()),
            Self::DeleteSeed { at, .. } | Self::WriteSeed { at, .. } => Target::Seed(at.clone()),
            Self::Converge(step) => match step.extent {
                Extent::All => Target::Guest(step.domain.clone()),
                Extent::Tls => Target::CertificateOf(step.domain.clone()),
            },
            Self::Define(step) => Target::Domain(step.spec.name.clone()),
            Self::SwapMedium { domain, seed, .. } => Target::Drive {
                domain: domain.clone(),
                seed: seed.volume.clone(),
            },
            Self::SetOwnership { domain, note, .. } => Target::Ownership {
                domain: domain.clone(),
                note: *note,
            },
            Self::SetAutostart { domain, .. } => Target::AutostartOf(domain.clone()),
            Self::StepBack { domain, .. } => Target::AddressOf(domain.clone()),
            Self::Start { domain }
            | Self::Resume { domain }
            | Self::Wake { domain }
            | Self::Stop { domain, .. }
            | Self::Restart { domain, .. }
            | Self::Undefine { domain } => Target::Domain(domain.clone()),
        }
    }

    /// Whether that operation is this step itself, so that it need not be printed beside the step.
    #[must_use]
    pub fn is_done_by(&self, operation: &Operation) -> bool {
        self.operations().contains(operation)
    }

    fn operations(&self) -> Vec<Operation> {
        use Operation as O;
        match self {
            Self::Reserve { network, entry, .. } => vec![O::Reserve {
                network: network.name.clone(),
                entry: entry.clone(),
            }],
            Self::Release { network, entry, .. } => vec![O::Release {
                network: network.name.clone(),
                entry: entry.clone(),
            }],
            Self::BringImage(step) => vec![O::BringImage {
                at: step.at.clone(),
                source: step.image.source.clone(),
            }],
            Self::CloneVolume(spec) => vec![O::CloneVolume {
                volume: spec.volume.clone(),
                base: spec.base.clone(),
            }],
            Self::GrowVolume { at, capacity } => vec![O::GrowVolume {
                at: at.clone(),
                capacity: *capacity,
            }],
            Self::GrowLiveDisk {
                domain,
                target,
                capacity,
            } => vec![O::GrowLiveDisk {
                domain: domain.clone(),
                target: target.clone(),
                capacity: *capacity,
            }],
            Self::DeleteVolume { at, .. } => vec![O::DeleteVolume(at.clone())],
            Self::DeleteSeed { at, .. } => {
                vec![O::DeleteSeed(at.clone()), O::DeleteVolume(at.clone())]
            }
            Self::WriteSeed { at, .. } => vec![O::WriteSeed(at.clone())],
            Self::Converge(step) => vec![match step.extent {
                Extent::All => O::ChangeGuest(step.domain.clone()),
                Extent::Tls => O::ExchangeCertificate(step.domain.clone()),
            }],
            Self::Define(step) => vec![O::Define(step.spec.name.clone())],
            Self::SwapMedium { domain, seed, .. } => vec![
                O::ChangeMedium(domain.clone()),
                O::InsertSeed(seed.volume.clone()),
            ],
            Self::SetOwnership { domain, .. } => vec![O::SetOwnership(domain.clone())],
            Self::SetAutostart { domain, .. } => vec![O::SetAutostart(domain.clone())],
            Self::Start { domain } => vec![O::Start(domain.clone())],
            Self::Resume { domain } => vec![O::Resume(domain.clone())],
            Self::Wake { domain } => vec![O::Wake(domain.clone())],
            Self::StepBack { domain, .. } => vec![O::StepBack(domain.clone())],
            // How it was to be stopped is worth saying, and which half of a new disk failed.
            Self::Stop { .. } | Self::RemakeVolume(_) => Vec::new(),
            Self::Restart { domain, .. } => {
                vec![O::Restart(domain.clone()), O::Start(domain.clone())]
            }
            Self::Undefine { domain } => vec![O::Undefine(domain.clone())],
        }
    }
}

fn clone_of(spec: &CloneSpec) -> Target {
    Target::CloneOf {
        volume: spec.volume.clone(),
        base: spec.base.clone(),
        capacity: spec.capacity,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action().fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.verb(), self.target)
    }
}

impl StepKind {
    fn verb(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::BringImage => "bring",
            Self::CloneVolume => "clone",
            Self::RemakeVolume => "remake",
            Self::GrowVolume | Self::GrowDisk => "grow",
            Self::DeleteVolume | Self::DeleteSeed => "delete",
            Self::WriteSeed => "write",
            Self::ChangeGuest => "change",
            Self::ExchangeCertificate => "exchange",
            Self::Define => "define",
            Self::Redefine => "redefine",
            Self::SwapMedium => "put",
            Self::SetOwnership => "note",
            Self::SetAutostart => "set",
            Self::ClearAutostart => "clear",
            Self::Start => "start",
            Self::Resume => "resume",
            Self::Wake => "wake",
            Self::StepBack => "hand over",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Undefine => "undefine",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => write!(f, "domain {name}"),
            Self::Volume(at) => write!(f, "volume {at}"),
            Self::Seed(at) => write!(f, "seed {at}"),
            Self::Entry { network, entry } => write!(f, "{entry} in network {network}"),
            Self::Image {
                volume,
                source,
                size,
            } => {
                write!(f, "{source} into volume {volume}")?;
                size.map_or(Ok(()), |size| write!(f, " ({})", Bytes(size)))
            }
            Self::CloneOf {
                volume,
                base,
                capacity,
            } => write!(f, "volume {volume} ({}) from {base}", Bytes(*capacity)),
            Self::SizeOf { volume, capacity } => {
                write!(f, "volume {volume} to {}", Bytes(*capacity))
            }
            Self::LiveDisk {
                device, capacity, ..
            } => write!(
                f,
                "disk {device} of the running guest to {}",
                Bytes(*capacity)
            ),
            Self::Guest(name) => write!(f, "the running guest {name}"),
            Self::CertificateOf(name) => {
                write!(f, "the certificate in the running guest {name}")
            }
            Self::Drive { domain, seed } => write!(f, "seed {seed} into the drive of {domain}"),
            Self::Ownership { domain, note } => {
                write!(f, "in domain {domain} ")?;
                f.write_str(match note {
                    OwnershipKind::Changing => "that its guest is being changed",
                    OwnershipKind::Guest => "what its guest has now",
                    OwnershipKind::NextBoot => "what its next boot brings",
                })
            }
            Self::AutostartOf(name) => write!(f, "autostart of domain {name}"),
            Self::AddressOf(name) => write!(f, "the shared address of {name} to another VM"),
        }
    }
}

//! The steps: everything that lbctl ever does to a host. Applying them is one `match` in `apply`.

use std::fmt;
use std::time::Duration;

use crate::config::VolumeRef;
use crate::guest::Extent;
use crate::host::ownership::{Ownership, SeedRecord};
use crate::host::{CloneSpec, HostEntry, NetworkId, Scope};
use crate::render::GuestSpec;
use crate::render::domain::DomainSpec;
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
    CloneVolume(CloneSpec),
    GrowVolume {
        at: VolumeRef,
        capacity: u64,
    },
    GrowLiveDisk {
        domain: String,
        target: String,
        capacity: u64,
    },
    /// The disk of a domain that is gone.
    DeleteVolume {
        at: VolumeRef,
        domain: String,
    },
    /// A seed of the domain that nothing refers to: unfinished, or of before.
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
        scope: Scope,
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
    /// Asks the guest to stop, waits, and pulls the plug at the deadline.
    Stop {
        domain: String,
        deadline: Duration,
    },
    /// Stop and start. If the new definition does not start, `fallback` is put back and started.
    Restart {
        domain: String,
        /// The run that is to end ([`crate::host::Definition::run`]), and no later one.
        run: Option<u32>,
        deadline: Duration,
        fallback: String,
    },
    Undefine {
        domain: String,
    },
}

/// What a ownership record is written for, and so which definition it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnershipKind {
    /// The running one: its guest is being changed, and may be anything until the next note. Whatever stops lbctl now, the
    /// next `up` looks after it.
    Changing,
    /// The running one: what its guest has.
    Guest,
    /// The saved one: what its next boot brings.
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

/// The guest checks all of it first, and puts everything back if it does not work out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvergeStep {
    pub domain: String,
    pub guest: GuestSpec,
    pub extent: Extent,
    /// The seed written for it, which goes again when the guest refuses.
    pub new_seed: Option<VolumeRef>,
    /// The running definition's ownership record before, which comes back then.
    pub ownership: Option<Ownership>,
}

/// Paths of volumes are known only once the volumes are there, so the definition is rendered when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineStep {
    pub spec: DomainSpec,
    /// Of the domain it replaces.
    pub uuid: Option<String>,
    pub ownership: Ownership,
    pub root: RootRef,
    /// Of a new domain: the others whose claims are known. What has come since is looked at once it is defined.
    pub known: Vec<String>,
}

/// The root disk as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootRef {
    Volume(VolumeRef),
    /// `volume_id`
    Id(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve { network, entry, .. } => {
                write!(f, "reserve {entry} in network {network}")
            }
            Self::Release { network, entry, .. } => {
                write!(f, "release {entry} in network {network}")
            }
            Self::CloneVolume(CloneSpec {
                volume,
                base,
                capacity,
                ..
            }) => {
                write!(
                    f,
                    "clone volume {volume} ({}) from {base}",
                    Bytes(*capacity)
                )
            }
            Self::GrowVolume { at, capacity } => {
                write!(f, "grow volume {at} to {}", Bytes(*capacity))
            }
            Self::GrowLiveDisk {
                target, capacity, ..
            } => {
                write!(
                    f,
                    "grow disk {target} of the running guest to {}",
                    Bytes(*capacity)
                )
            }
            Self::DeleteVolume { at, .. } => write!(f, "delete volume {at}"),
            Self::DeleteSeed { at, .. } => write!(f, "delete seed {at}"),
            Self::WriteSeed { at, .. } => write!(f, "write seed {at}"),
            Self::Converge(step) => match step.extent {
                Extent::All => write!(f, "change the running guest {}", step.domain),
                Extent::Tls => write!(
                    f,
                    "exchange the certificate in the running guest {}",
                    step.domain
                ),
            },
            Self::Define(define) => match define.uuid {
                None => write!(f, "define domain {}", define.spec.name),
                Some(_) => write!(f, "redefine domain {}", define.spec.name),
            },
            Self::SwapMedium { domain, seed, .. } => {
                write!(f, "put seed {} into the drive of {domain}", seed.volume)
            }
            Self::SetOwnership { domain, note, .. } => {
                write!(f, "note in domain {domain} ")?;
                f.write_str(match note {
                    OwnershipKind::Changing => "that its guest is being changed",
                    OwnershipKind::Guest => "what its guest has now",
                    OwnershipKind::NextBoot => "what its next boot brings",
                })
            }
            Self::SetAutostart { domain, on: true } => {
                write!(f, "set autostart of domain {domain}")
            }
            Self::SetAutostart { domain, on: false } => {
                write!(f, "clear autostart of domain {domain}")
            }
            Self::Start { domain } => write!(f, "start domain {domain}"),
            Self::Resume { domain } => write!(f, "resume domain {domain}"),
            Self::Stop { domain, .. } => write!(f, "stop domain {domain}"),
            Self::Restart { domain, .. } => write!(f, "restart domain {domain}"),
            Self::Undefine { domain } => write!(f, "undefine domain {domain}"),
        }
    }
}

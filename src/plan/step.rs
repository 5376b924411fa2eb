//! The steps: everything that lbctl ever does to a host. Applying them is one `match` in `apply`.

use std::fmt;
use std::time::Duration;

use crate::config::VolumeRef;
use crate::domain_xml::DomainSpec;
use crate::host::{CloneSpec, HostEntry, NetworkId, Scope};
use crate::mark::Mark;
use crate::seed::Seed;

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
    DeleteVolume {
        at: VolumeRef,
    },
    /// A seed that nothing refers to: unfinished, or of before.
    DeleteSeed {
        at: VolumeRef,
    },
    WriteSeed {
        at: VolumeRef,
        seed: Seed,
    },
    Define(Box<DefineStep>),
    /// Puts the seed into the drive of the running guest, for its next boot.
    SwapMedium {
        domain: String,
        seed: VolumeRef,
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
        deadline: Duration,
        fallback: String,
    },
    Undefine {
        domain: String,
    },
}

/// Paths of volumes are known only once the volumes are there, so the definition is rendered when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineStep {
    pub spec: DomainSpec,
    /// Of the domain it replaces.
    pub uuid: Option<String>,
    pub mark: Mark,
    pub root: RootRef,
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
            Self::DeleteVolume { at } => write!(f, "delete volume {at}"),
            Self::DeleteSeed { at } => write!(f, "delete seed {at}"),
            Self::WriteSeed { at, .. } => write!(f, "write seed {at}"),
            Self::Define(define) => match define.uuid {
                None => write!(f, "define domain {}", define.spec.name),
                Some(_) => write!(f, "redefine domain {}", define.spec.name),
            },
            Self::SwapMedium { domain, seed } => {
                write!(f, "put seed {seed} into the drive of {domain}")
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

/// A size for people: whole binary units where they fit, bytes where not.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        for (unit, shift) in [("GiB", 30u32), ("MiB", 20), ("KiB", 10)] {
            if bytes >= 1 << shift {
                #[allow(clippy::cast_precision_loss)] // for the eye only
                let amount = bytes as f64 / f64::from(1u32 << shift);
                return if bytes % (1 << shift) == 0 {
                    write!(f, "{amount:.0} {unit}")
                } else {
                    write!(f, "{amount:.1} {unit}")
                };
            }
        }
        write!(f, "{bytes} bytes")
    }
}

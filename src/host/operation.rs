//! What is done to a host, and to what: a value to compare. Its words are made by `Display` only.

use std::fmt;

use super::HostEntry;
use crate::config::{ImageSource, VolumeRef};

/// What is done to a host, each kind with its object. `Display` is a lower-case gerund that names
/// the object: `starting domain lb-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `network` is its name.
    Reserve {
        network: String,
        entry: HostEntry,
    },
    Release {
        network: String,
        entry: HostEntry,
    },
    CloneVolume {
        volume: VolumeRef,
        base: VolumeRef,
    },
    /// `capacity` in bytes.
    GrowVolume {
        at: VolumeRef,
        capacity: u64,
    },
    GrowLiveDisk {
        domain: String,
        target: String,
        capacity: u64,
    },
    BringImage {
        at: VolumeRef,
        source: ImageSource,
    },
    DeleteVolume(VolumeRef),
    DeleteSeed(VolumeRef),
    WriteSeed(VolumeRef),
    ChangeGuest(String),
    ExchangeCertificate(String),
    Define(String),
    /// Of the domain's CD-ROM drive.
    ChangeMedium(String),
    /// Whether the seed in the drive is there.
    InsertSeed(VolumeRef),
    SetOwnership(String),
    SetAutostart(String),
    Start(String),
    Resume(String),
    Wake(String),
    /// Of the address that the guest shares.
    StepBack(String),
    RequestShutdown(String),
    PowerOff(String),
    Restart(String),
    Undefine(String),
    /// A question, which changes nothing, as text: nothing compares it.
    Ask(String),
}

impl Operation {
    /// The pool whose volume it makes, grows or deletes.
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::CloneVolume { volume: at, .. }
            | Self::GrowVolume { at, .. }
            | Self::DeleteVolume(at)
            | Self::DeleteSeed(at)
            | Self::WriteSeed(at)
            | Self::InsertSeed(at) => Some(&at.pool),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve { network, entry } => write!(f, "reserving {entry} in network {network}"),
            Self::Release { network, entry } => write!(
                f,
                "removing the reservation of {entry} from network {network}"
            ),
            Self::CloneVolume { volume, base } => write!(f, "cloning volume {volume} from {base}"),
            Self::GrowVolume { at, capacity } => {
                write!(f, "growing volume {at} to {capacity} bytes")
            }
            Self::GrowLiveDisk {
                domain,
                target,
                capacity,
            } => write!(
                f,
                "growing disk {target} of domain {domain} to {capacity} bytes"
            ),
            Self::BringImage { at, source } => write!(f, "bringing {source} into volume {at}"),
            Self::DeleteVolume(at) => write!(f, "deleting volume {at}"),
            Self::DeleteSeed(at) => write!(f, "deleting seed {at}"),
            Self::WriteSeed(at) => write!(f, "uploading seed {} to pool {}", at.name, at.pool),
            Self::ChangeGuest(domain) => write!(f, "changing the running guest {domain}"),
            Self::ExchangeCertificate(domain) => {
                write!(f, "replacing the certificate in the running guest {domain}")
            }
            Self::Define(domain) => write!(f, "defining domain {domain}"),
            Self::ChangeMedium(domain) => write!(
                f,
                "changing the medium in the CD-ROM drive of domain {domain}"
            ),
            Self::InsertSeed(at) => write!(f, "putting seed {at} into the drive"),
            Self::SetOwnership(domain) => {
                write!(f, "writing lbctl's ownership record into domain {domain}")
            }
            Self::SetAutostart(domain) => write!(f, "setting autostart of domain {domain}"),
            Self::Start(domain) => write!(f, "starting domain {domain}"),
            Self::Resume(domain) => write!(f, "resuming domain {domain}"),
            Self::Wake(domain) => write!(f, "waking domain {domain}"),
            Self::StepBack(domain) => write!(
                f,
                "handing over the shared address of {domain} to another VM"
            ),
            Self::RequestShutdown(domain) => write!(f, "asking domain {domain} to shut down"),
            Self::PowerOff(domain) => write!(f, "powering off domain {domain}"),
            Self::Restart(domain) => write!(f, "restarting domain {domain}"),
            Self::Undefine(domain) => write!(f, "undefining domain {domain}"),
            Self::Ask(words) => f.write_str(words),
        }
    }
}

impl From<String> for Operation {
    fn from(words: String) -> Self {
        Self::Ask(words)
    }
}

impl From<&String> for Operation {
    fn from(words: &String) -> Self {
        Self::Ask(words.clone())
    }
}

impl From<&str> for Operation {
    fn from(words: &str) -> Self {
        Self::Ask(words.to_owned())
    }
}

impl From<&Operation> for Operation {
    fn from(operation: &Operation) -> Self {
        operation.clone()
    }
}

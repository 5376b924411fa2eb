//! What a subject was, or becomes: values to compare. Their words are made by `Display` only.

use std::fmt;
use std::net::Ipv4Addr;

use time::Date;

use crate::cert::IssueReason;
use crate::config::VolumeRef;
use crate::host::{DomainState, HostEntry, NetworkId, NicFacts, Source, StateReason};
use crate::reconcile::desired::DesiredCertificate;
use crate::render::Start;
use crate::render::domain::{DomainKind, DomainSpec};
use crate::text::size::Bytes;

/// What a subject was, or becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// There was nothing, or there is nothing to say of it.
    Nothing,
    /// A word of the configuration or of libvirt.
    Text(String),
    /// Several of them.
    Words(Vec<String>),
    Count(u64),
    /// Bytes of a disk.
    Size(u64),
    /// MiB.
    Memory(u64),
    Address(Ipv4Addr),
    Volume(VolumeRef),
    Source(Source),
    /// With its reason, where that says more.
    State(DomainState, Option<StateReason>),
    Interfaces(Vec<NicFacts>),
    Entry(HostEntry),
    Reserved {
        entry: HostEntry,
        network: NetworkId,
    },
    /// An entry that somebody made, and that is as it is to be.
    ReservedAlready {
        entry: HostEntry,
        network: NetworkId,
    },
    /// A volume that somebody made.
    TakenOver(VolumeRef),
    /// A disk made from a base volume; `capacity` in bytes.
    CloneOf {
        volume: VolumeRef,
        capacity: u64,
        base: VolumeRef,
    },
    /// The same, in the place of a disk that was there.
    MadeAnew {
        capacity: u64,
        base: VolumeRef,
    },
    Domain {
        name: String,
        memory_mib: u64,
        vcpus: u32,
        kind: DomainKind,
    },
    /// `issued`: why it is a new one; `None`: the one in use stays.
    Certificate {
        until: Date,
        issued: Option<IssueReason>,
    },
    /// How HAProxy is started.
    Process(Start),
    /// Of a list of ssh keys.
    Keys {
        added: usize,
        removed: usize,
    },
    /// Of a text file.
    Lines {
        added: usize,
        removed: usize,
    },
    /// The seed is written to that volume.
    WrittenTo(VolumeRef),
    Is(Condition),
}

/// What is said of a subject that has no value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    None,
    There,
    Missing,
    On,
    Off,
    Set,
    Another,
    New,
    Changed,
    ChangedSecret,
    ModeOrOwner,
    Renewed,
    Removed,
    Deleted,
    Released,
    NotInDrive,
    Unsaved,
    Saved,
    WrittenByAnother,
    WrittenByLbctl,
    OfAnEarlierLayout,
    WithWatchdogAtNextStart,
    AsBooted,
    AsSeedAtRestart,
    PerhapsNotAsSeed,
    AsSeed,
}

impl Value {
    /// Words in a row; none are nothing.
    pub(crate) fn words(words: &[String]) -> Self {
        match words {
            [] => Self::Nothing,
            words => Self::Words(words.to_vec()),
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        if text.is_empty() {
            Self::Nothing
        } else {
            Self::Text(text)
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Condition> for Value {
    fn from(condition: Condition) -> Self {
        Self::Is(condition)
    }
}

impl From<&VolumeRef> for Value {
    fn from(at: &VolumeRef) -> Self {
        Self::Volume(at.clone())
    }
}

impl From<&DomainSpec> for Value {
    fn from(spec: &DomainSpec) -> Self {
        Self::Domain {
            name: spec.name.clone(),
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
            kind: spec.kind,
        }
    }
}

/// Whether the client certificate of the desired seed is new, and why.
impl From<&DesiredCertificate> for Value {
    fn from(certificate: &DesiredCertificate) -> Self {
        Self::Certificate {
            until: certificate.facts.not_after.date(),
            issued: certificate.issued.clone(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Words(words) => f.write_str(&words.join(" ")),
            Self::Count(count) => write!(f, "{count}"),
            Self::Size(bytes) => write!(f, "{}", Bytes(*bytes)),
            Self::Memory(mib) => write!(f, "{mib} MiB"),
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Volume(at) => write!(f, "{at}"),
            Self::Source(source) => write!(f, "{source}"),
            Self::State(state, None) => write!(f, "{state}"),
            Self::State(state, Some(reason)) => write!(f, "{state} ({reason})"),
            Self::Interfaces(nics) => interfaces(nics, f),
            Self::Entry(entry) => write!(f, "{entry}"),
            Self::Reserved { entry, network } => write!(f, "{entry} in network {network}"),
            Self::ReservedAlready { entry, network } => write!(
                f,
                "{entry} in network {network}, taken over: lbctl did not make it and never releases it"
            ),
            Self::TakenOver(at) => {
                write!(
                    f,
                    "{at}, taken over: lbctl did not make it and never deletes it"
                )
            }
            Self::CloneOf {
                volume,
                capacity,
                base,
            } => write!(f, "{volume} ({}), a clone of {base}", Bytes(*capacity)),
            Self::MadeAnew { capacity, base } => {
                write!(f, "made anew ({}), a clone of {base}", Bytes(*capacity))
            }
            Self::Domain {
                name,
                memory_mib,
                vcpus,
                kind,
            } => write!(f, "{name} ({memory_mib} MiB, {vcpus} vcpus, {kind})"),
            Self::Certificate {
                until,
                issued: Some(reason),
            } => write!(f, "new, until {until} ({reason})"),
            Self::Certificate {
                until,
                issued: None,
            } => write!(f, "kept, until {until}"),
            Self::Process(Start { image, nofile }) => {
                let what = image.as_deref().unwrap_or("the distribution's package");
                write!(f, "{what}, {nofile} descriptors")
            }
            Self::Keys { added, removed } => write!(f, "{added} added, {removed} removed"),
            Self::Lines { added, removed } => {
                let noun = if *added.max(removed) == 1 {
                    "line"
                } else {
                    "lines"
                };
                write!(f, "+{added} -{removed} {noun}")
            }
            Self::WrittenTo(at) => write!(f, "written again to {at}"),
            Self::Is(condition) => write!(f, "{condition}"),
        }
    }
}

fn interfaces(nics: &[NicFacts], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if nics.is_empty() {
        return f.write_str("none");
    }
    for (place, NicFacts { mac, source }) in nics.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        write!(f, "{comma}{mac} on {source}")?;
    }
    Ok(())
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::There => "there",
            Self::Missing => "missing",
            Self::On => "on",
            Self::Off => "off",
            Self::Set => "set",
            Self::Another => "another",
            Self::New => "new",
            Self::Changed => "changed",
            Self::ChangedSecret => "changed (secret, not shown)",
            Self::ModeOrOwner => "another mode or owner",
            Self::Renewed => "renewed",
            Self::Removed => "removed",
            Self::Deleted => "deleted",
            Self::Released => "released",
            Self::NotInDrive => "not in the drive",
            Self::Unsaved => "none, the domain would cease to exist when it stops",
            Self::Saved => "saved",
            Self::WrittenByAnother => "as edited or written by another lbctl",
            Self::WrittenByLbctl => "as lbctl writes it",
            Self::OfAnEarlierLayout => "as an earlier lbctl wrote it",
            Self::WithWatchdogAtNextStart => {
                "with a watchdog and a panic device, from the next start of the guest on"
            }
            Self::AsBooted => "as it booted",
            Self::AsSeedAtRestart => "as its seed, except what waits for a restart",
            Self::PerhapsNotAsSeed => "perhaps not as its seed",
            Self::AsSeed => "as its seed",
        })
    }
}

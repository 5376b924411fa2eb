//! The libvirt host: what can be asked of it ([`HostReader`]), what can be done to it
//! ([`HostWriter`]), and the facts that come back. No decision is taken here.
//!
//! Invariant: only this folder uses the `virt` crate. Everything else sees these traits, so a fake
//! can replace it. Invariant: *absent* is a value (`None`); every other libvirt answer is an error.
//! "Cannot connect" is never "not found".

mod census;
pub(crate) mod definition;
mod error;
mod facts;
mod far;
mod handles;
mod header;
mod inspect;
pub mod libvirt;
mod operation;
pub mod ownership;
mod stream;
mod sys;
pub mod xml;

use std::fmt;
use std::time::Duration;

pub use census::DomainEntry;
pub use facts::*;
pub use inspect::Inspect;
pub use sys::leave;

#[cfg(test)]
pub use definition::NicLink;
pub use definition::{Definition, Drive, NicFacts, ObservedNicSource, Source};
pub use header::{HEADER, Header, has_a_fixed_size};
pub use operation::Operation;

use crate::config::{NetworkRef, VolumeRef};
use crate::host::ownership::Ownership;
use crate::image::Image;
use crate::secret::Secret;

/// What went wrong, by libvirt's error code and never by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostErrorKind {
    /// libvirt cannot be reached, or the connection broke.
    Connection,
    /// libvirt or the system refuses: polkit, socket permissions, `AppArmor`, `SELinux`.
    Permission,
    /// The thing is not there (any more).
    NotFound,
    /// It already exists, perhaps made by another run.
    Exists,
    /// The state that it is in does not allow it (`VIR_ERR_OPERATION_INVALID`): a domain that does
    /// not run (any more), a pool that is not active.
    State,
    /// The guest agent does not answer, or not in time.
    Agent,
    Other,
}

/// A call to the host that failed: what was being done, what libvirt said, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    pub kind: HostErrorKind,
    /// What was being done, and to what.
    pub doing: Box<Operation>,
    /// libvirt's or the system's own words.
    pub said: String,
    pub hint: Option<String>,
}

impl HostError {
    #[must_use]
    pub fn new(kind: HostErrorKind, doing: impl Into<Operation>, said: impl Into<String>) -> Self {
        Self {
            kind,
            doing: Box::new(doing.into()),
            said: said.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.said)
    }
}

impl std::error::Error for HostError {}

pub type HostResult<T> = Result<T, HostError>;

/// What is asked of a host. Nothing here changes anything.
pub trait HostReader {
    /// A host that is far away looks all of it up at once. This says nothing: what fails here fails
    /// again where it is asked for.
    fn foresee(&self, _: &Foreseen<'_>) {}
    fn node(&self) -> HostResult<Node>;
    /// The full name of a machine type, which may be an alias: `q35` is `pc-q35-7.2`. `None`: there
    /// is no such machine.
    fn machine(&self, architecture: &str, kind: &str, name: &str) -> HostResult<Option<String>>;
    /// Whether libvirt could run a domain of that definition, whose disks need not exist; else its
    /// words. Nothing is defined.
    fn would_accept(&self, xml: &str) -> HostResult<Result<(), String>>;
    /// The names that there are, for messages. What cannot be listed is empty.
    fn names(&self, which: &Listed) -> Vec<String>;
    /// Whether libvirt offers kvm for that architecture. It may still fail at start.
    fn offers_kvm(&self, architecture: &str) -> HostResult<bool>;
    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>>;
    /// The text of its saved definition alone, as in [`DomainFacts::config_xml`].
    fn saved_definition(&self, name: &str) -> HostResult<Option<Secret>>;
    /// `None`: there is no such domain.
    fn run_state(&self, name: &str) -> HostResult<Option<RunState>>;
    /// The names of the domain's checkpoints, which backup tools make.
    fn checkpoints(&self, name: &str) -> HostResult<Vec<String>>;
    /// What every domain claims but those named.
    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>>;
    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState>;
    /// The same of several, in their order: a host that is far away is asked about all at once.
    fn volumes(&self, all: &[VolumeRef]) -> HostResult<Vec<VolumeState>> {
        all.iter().map(|at| self.volume(at)).collect()
    }
    /// The folder that the pool keeps its files in; `None`: it has none, or is not there.
    fn pool_folder(&self, pool: &str) -> HostResult<Option<String>>;
    /// The type of a pool, such as `dir` or `logical`; `None`: there is no such pool.
    fn pool_type(&self, name: &str) -> HostResult<Option<String>>;
    /// Finds a volume by key, by path, or by `pool/name`; only of the last can be said what its
    /// pool lacks.
    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState>;
    /// So many bytes from the volume's beginning, fewer where it has not as many.
    fn read_volume(&self, at: &VolumeRef, length: u64) -> HostResult<Vec<u8>>;
    fn network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>>;
    fn leases(&self, network: &NetworkId) -> HostResult<Vec<Lease>>;
    /// Whether the host has the bridge, and of what kind it is.
    fn bridge(&self, name: &str) -> HostResult<BridgeFacts>;
    fn device(&self, name: &str) -> HostResult<DeviceState>;
}

/// How a guest is asked to stop. libvirt's own order, the agent first, would wait a minute for an
/// agent that hangs or lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopBy {
    /// ACPI's, which asks nothing of the guest and returns at once.
    PowerButton,
    /// For a guest that ignores the power button. An agent that takes the request gives no answer
    /// to it.
    Agent,
}

/// What is done to a host. Each call is one change, named in its error.
pub trait HostWriter: HostReader {
    /// Does both, at the same time where the host can do two things at a time. A host that cannot
    /// does the one before the other.
    fn together<A: Send, B>(
        &self,
        one: impl FnOnce(&Self) -> A + Send,
        other: impl FnOnce(&Self) -> B,
    ) -> (A, B)
    where
        Self: Sized,
    {
        (one(self), other(self))
    }
    fn add_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()>;
    fn remove_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()>;
    fn clone_volume(&self, spec: &CloneSpec) -> HostResult<()>;
    /// Grows a volume that no running guest has open.
    fn grow_volume(&self, at: &VolumeRef, capacity: u64) -> HostResult<()>;
    /// Grows the disk of a running guest, which sees the new size at once.
    fn grow_live_disk(&self, name: &str, target: &str, capacity: u64) -> HostResult<()>;
    /// Creates the volume, mode 0600, of exactly the size of `content`, and fills it. On failure
    /// the volume is deleted again.
    fn create_volume(&self, at: &VolumeRef, content: &[u8]) -> HostResult<()>;
    /// Creates the volume, mode 0600, and fills it with the image, its first bytes last: so what is
    /// not whole is no image. `part` is told how many bytes there are; false: stop. On failure the
    /// volume is deleted again.
    fn upload_image(
        &self,
        at: &VolumeRef,
        image: &mut Image,
        part: &mut dyn FnMut(u64) -> bool,
    ) -> HostResult<()>;
    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()>;
    /// Defines or redefines; the text carries the uuid of the one it replaces.
    fn define(&self, name: &str, xml: &str) -> HostResult<()>;
    fn undefine(&self, name: &str) -> HostResult<()>;
    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()>;
    fn start(&self, name: &str) -> HostResult<()>;
    fn resume(&self, name: &str) -> HostResult<()>;
    /// Of a guest that suspended itself to memory; `resume` is refused there.
    fn wake(&self, name: &str) -> HostResult<()>;
    /// Asks the guest to stop and returns at once.
    fn request_shutdown(&self, name: &str, by: StopBy) -> HostResult<()>;
    /// Cuts its power.
    fn power_off(&self, name: &str) -> HostResult<()>;
    /// Replaces a device of the domain (the medium of its CD-ROM).
    fn update_device(&self, name: &str, xml: &str, scope: Scope) -> HostResult<()>;
    /// Replaces lbctl's ownership record in the domain's metadata (`virDomainSetMetadata`).
    fn set_ownership(&self, name: &str, ownership: &Ownership, scope: Scope) -> HostResult<()>;
}

/// The guest agent's channel. Only the `guest` module uses it.
pub trait AgentChannel {
    fn agent(&self, domain: &str, command: &str, timeout: Duration) -> HostResult<String>;
}

/// A host that can be connected to again: its daemon may be restarted while lbctl waits.
pub trait Reconnect {
    fn reconnect(&mut self) -> HostResult<()>;
}

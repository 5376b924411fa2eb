//! The guest, as lbctl reaches it from outside: through its agent alone, never over the network,
//! for over macvtap a host cannot reach its own guest. What comes back was written by the guest and
//! is never trusted.

mod addresses;
pub mod agent;
mod journal;
pub mod ready;
mod sanitize;
pub mod status;
mod step_back;
mod watch;

pub use agent::{AgentAvailability, BootProgress, ConvergeError, Extent, Guest, GuestError};
pub use journal::{Journal, Source as JournalSource};
pub use status::{
    CertificateFacts, Certificates, CloudInit, GuestStatus, HaproxyStatus, PeerStatus, Server,
    VirtualIpStatus,
};
pub use step_back::SteppedBack;
pub use watch::Watch;

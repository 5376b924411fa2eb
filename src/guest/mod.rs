//! The guest, as lbctl reaches it from outside: through its agent alone, never over the network,
//! for over macvtap a host cannot reach its own guest. What comes back was written by the guest and
//! is never trusted.

pub mod agent;
pub mod ready;
mod sanitize;
pub mod status;
mod watch;

pub use agent::{AgentAvailability, BootProgress, ConvergeError, Extent, Guest, GuestError};
pub use status::{CertificateFacts, Certificates, CloudInit, GuestStatus, HaproxyStatus, Server};
pub use watch::Watch;

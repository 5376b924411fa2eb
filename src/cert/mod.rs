//! The client certificate for Patroni's health checks: loading the CA, issuing, and deciding
//! whether the one in use stays. Pure but for the randomness of new keys and serials; the time is
//! always an argument, and nothing is read from or written to anywhere.

mod ca;
mod der;
mod issue;
mod pair;
mod pem;
mod resolve;

pub use ca::{Ca, CaError, Part};
pub use pair::{ClientPair, Facts, KeyAlgorithm};
pub use resolve::{CertError, Clamp, IssueReason, Policy, Resolution, due, resolve};

/// The name in every client certificate, as the Terraform module has it.
pub const COMMON_NAME: &str = "patroni-client";

//! The client certificate for Patroni's health checks: loading the CA, issuing, deciding whether
//! the one in use stays, and whether OpenSSL accepts a certificate. Pure but for the randomness of
//! new keys and serials; the time is always an argument, and nothing is read from or written to
//! anywhere.

mod ca;
mod der;
mod issue;
mod name;
mod pair;
mod path;
mod pem;
mod resolve;
mod signed;
mod trust;

pub use ca::{Ca, CaError, Part};
pub use pair::{ClientPair, Facts, GivenError, KeyAlgorithm, new_key};
pub use path::{PathVerdict, Purpose, verify};
pub use pem::certificates_for_others;
pub use resolve::{
    CaSource, CertError, Clamp, IssueReason, KeyError, Policy, Resolution, due, due_given, resolve,
    resolve_given, sample,
};
pub use trust::CaCertificates;

/// The name in every client certificate, as the Terraform module has it.
pub const COMMON_NAME: &str = "patroni-client";

//! lbctl: one TOML file in, one working HAProxy load balancer in front of Patroni out.
//!
//! The way of the data (DESIGN section 4):
//!
//! ```text
//! TOML text ─config─▶ Config (PEMs and keys read)      file and environment reads end here
//! host.observe ─▶ Observed ─────────────┐
//!              cert::resolve(now) ──────┤               clock and randomness end here
//!                                       ▼
//!                                    Desired
//!          plan(Desired, Observed) ─▶ Plan | Refusal    pure: no I/O, no clock
//!          apply(Plan, Host) ─▶ Report;  observe + plan again must be empty
//! ```

pub mod cert;
pub mod checklist;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
pub mod guest;
pub mod host;
pub mod manual;
pub mod output;
pub mod reconcile;
pub mod render;
pub mod secret;
pub mod seed;
pub mod status;
pub mod text;

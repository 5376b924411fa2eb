//! lbctl: one TOML file in, one working HAProxy load balancer in front of Patroni out.
//!
//! The way of the data (docs/architecture.md has it with its reasons):
//!
//! ```text
//! TOML text ─config─▶ Config (PEMs and keys read)      file and environment reads end here
//! host.observe ─▶ Observed ─────────────┐
//!              cert::resolve(now) ──────┤               clock and randomness end here
//!                                       ▼
//!                                    Desired
//!          plan(Desired, Observed) ─▶ Plan | Refusal    pure: no I/O, no clock
//!          apply(Plan, Host) ─▶ done | the step that failed;  observe + plan again must be empty
//! ```
//!
//! The order of the layers; a module uses itself and those before it (`tests/it/layers.rs`):
//!
//! ```text
//! text  secret  exit  release  cli
//!                              use no other module
//! cert  config                 what is wanted, as checked values
//! image                        an operating system's, fetched and verified
//! host                         libvirt: facts and calls
//! render  manual               files from values
//! seed  guest                  the cloud-init volume; the guest through its agent
//! import                       a configuration from a VM that somebody else made
//! reconcile                    desired, observed, plan, apply, again until nothing differs
//! output                       the only place that prints
//! status  checklist  commands  what an operator asks for
//! ```

mod cert;
mod checklist;
mod cli;
mod commands;
mod config;
mod exit;
mod guest;
mod host;
mod image;
mod import;
mod manual;
mod output;
mod reconcile;
mod release;
mod render;
mod secret;
mod seed;
mod status;
#[doc(hidden)]
pub mod testing;
mod text;

pub use cli::Cli;
pub use commands::{asks_for_json, run, usage, values, version};
pub use host::leave;
pub use output::{Log, colored};

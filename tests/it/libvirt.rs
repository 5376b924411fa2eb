//! lbctl on a real libvirtd, without waiting for a guest: the guests have an empty disk and stay in their firmware. Each
//! test has a network and a pool of its own (see `sandbox`), so all of them run side by side in one lab.
//!
//! `LBCTL_LAB_BARE` names the env file of a lab that is up: `./dev test` sees to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "libvirt/checklist.rs"]
mod checklist;
#[path = "libvirt/crash.rs"]
mod crash;
#[path = "libvirt/down.rs"]
mod down;
#[path = "libvirt/drift.rs"]
mod drift;
#[path = "libvirt/faulty.rs"]
mod faulty;
#[path = "libvirt/figures.rs"]
mod figures;
#[path = "libvirt/first.rs"]
mod first;
#[path = "libvirt/foreign.rs"]
mod foreign;
#[path = "libvirt/inside.rs"]
mod inside;
#[path = "libvirt/interrupted.rs"]
mod interrupted;
#[path = "libvirt/killed.rs"]
mod killed;
#[path = "libvirt/long.rs"]
mod long;
#[path = "libvirt/outage.rs"]
mod outage;
#[path = "libvirt/proxy.rs"]
mod proxy;
#[path = "libvirt/race.rs"]
mod race;
#[path = "libvirt/refused.rs"]
mod refused;
#[path = "libvirt/renew.rs"]
mod renew;
#[path = "libvirt/sandbox.rs"]
mod sandbox;
#[path = "secrets/search.rs"]
mod search;
#[path = "libvirt/secrets.rs"]
mod secrets;
#[path = "libvirt/shapes.rs"]
mod shapes;
#[path = "libvirt/spare.rs"]
mod spare;
#[path = "libvirt/transcripts.rs"]
mod transcripts;
#[path = "libvirt/unfit.rs"]
mod unfit;
#[path = "libvirt/update.rs"]
mod update;

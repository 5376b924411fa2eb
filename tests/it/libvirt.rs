//! lbctl on a real libvirtd, without waiting for a guest: the guests have an empty disk and stay in
//! their firmware. Each test has a network and a pool of its own (see `sandbox`), so all of them
//! run side by side in one lab.
//!
//! `LBCTL_LAB_BARE` names the env file of a lab that is up: `./dev test` sees to it.

mod checklist;
mod crash;
mod down;
mod drift;
mod faulty;
mod figures;
mod first;
mod foreign;
mod inside;
mod interrupted;
mod killed;
mod long;
mod outage;
mod proxy;
mod race;
mod refused;
mod renew;
mod sandbox;
mod secrets;
mod shapes;
mod spare;
mod transcripts;
mod unfit;
mod update;

//! lbctl on a real libvirtd, without waiting for a guest: the guests have an empty disk and stay in
//! their firmware. Each test has a network and a pool of its own (see `sandbox`), so all of them
//! run side by side in one lab.
//!
//! `LBCTL_LAB_BARE` names the env file of a lab that is up: `./dev test` sees to it.

mod absent;
mod adopt;
mod anew;
mod by_hand;
mod checklist;
mod crash;
mod down;
mod drift;
mod endings;
mod facts;
mod faulty;
mod figures;
mod first;
mod foreign;
mod formats;
mod hosts;
mod image;
mod import;
mod inside;
mod interrupted;
mod killed;
mod long;
mod modular;
mod night;
mod outage;
mod ownership;
mod pools;
mod proxy;
mod race;
mod refused;
mod remote;
mod renew;
mod sandbox;
mod scripts;
mod secrets;
mod several;
mod shapes;
mod spare;
mod states;
mod surface;
mod terraform_page;
mod transcripts;
mod unfit;
mod update;
mod walk;

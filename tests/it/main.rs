//! The tests from outside of lbctl. They are one binary, because each binary links the whole of
//! lbctl. A module is a suite, chosen by the path of its tests: `cargo nextest run --test it
//! -E 'test(/^cert::/)'`. `libvirt` and `guest` need a lab, the others do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod bad_input;
mod cert;
mod checklist;
mod cli;
mod config;
mod csr;
mod demo;
mod docs;
mod effects;
mod endings;
mod guest;
mod import;
mod iso;
mod layers;
mod libvirt;
mod manual;
mod pair;
mod render;
mod schema;
mod secrets;
mod status;
mod steps;
mod transcripts;
mod waiting;
mod watch;

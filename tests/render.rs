//! What the guest is given, judged by those who will read it: PyYAML, cloud-init, netplan, HAProxy and chrony.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "render/contract.rs"]
mod contract;
#[path = "render/documents.rs"]
mod documents;
#[path = "render/fluentd.rs"]
mod fluentd;
#[path = "render/haproxy.rs"]
mod haproxy;
#[path = "render/live.rs"]
mod live;
#[path = "render/nasty.rs"]
mod nasty;
#[path = "render/oracle.rs"]
mod oracle;
#[path = "render/round_trip.rs"]
mod round_trip;
#[path = "render/sample.rs"]
mod sample;

//! What the guest is given, judged by those who will read it: PyYAML, cloud-init, netplan, HAProxy
//! and chrony.

mod boothook;
mod contract;
mod documents;
mod fluentd;
mod haproxy;
mod live;
mod nasty;
pub mod oracle;
mod round_trip;
pub mod sample;
mod setups;
mod units;
mod virtual_ip;

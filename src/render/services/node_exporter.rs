//! The node exporter, as its package configures it, in a sandbox.

use super::{GuestService, OnChange};
use crate::render::guest_file::{GuestFile, Service};

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::NodeExporter,
    unit: "prometheus-node-exporter.service",
    on_change: OnChange::Restart,
    is_wanted: |config| config.node_exporter,
    packages: |_| &["prometheus-node-exporter"],
    files: |_, _, _| {
        vec![GuestFile::public(
            "/etc/systemd/system/prometheus-node-exporter.service.d/50-lbctl.conf",
            include_str!("../../../templates/node-exporter.conf"),
            Service::NodeExporter,
        )]
    },
};

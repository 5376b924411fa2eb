//! The node exporter, as its package configures it.

use super::{GuestService, OnChange};
use crate::render::guest_file::Service;

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::NodeExporter,
    unit: "prometheus-node-exporter.service",
    on_change: OnChange::Nothing,
    is_wanted: |config| config.node_exporter,
    packages: |_| &["prometheus-node-exporter"],
    files: |_, _, _| Vec::new(),
};

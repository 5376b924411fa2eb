//! Networks and network devices.

use virt::error::ErrorNumber;
use virt::network::Network;
use virt::sys;

use super::LibvirtHost;
use crate::host::error::error;
use crate::host::sys as unwrapped;
use crate::host::{
    DeviceState, HostEntry, HostError, HostErrorKind, HostReader as _, HostResult, NetworkFacts,
    NetworkId, NetworkRef, Operation, Scope, xml,
};

impl LibvirtHost {
    pub(super) fn find_network(&self, which: &NetworkRef) -> HostResult<Option<Network>> {
        if let Some(foreseen) = self.handles.next_network.take(which) {
            return Ok(foreseen);
        }
        let doing = format!("looking up network {which}");
        self.find(&doing, ErrorNumber::NoNetwork, || match which {
            NetworkRef::Name(name) => self.connection.lookup_network_by_name(name),
            NetworkRef::Id(id) => self.connection.lookup_network_by_uuid_string(id),
        })
    }

    pub(super) fn need_network(
        &self,
        network: &NetworkId,
        doing: impl Into<Operation>,
    ) -> HostResult<Network> {
        if let Some(kept) = self.handles.networks.get(&network.uuid) {
            return Ok(kept);
        }
        self.call(doing, || {
            self.connection.lookup_network_by_uuid_string(&network.uuid)
        })
    }

    /// Its definitions and what libvirt says of it now.
    pub(super) fn read_network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>> {
        let Some(network) = self.find_network(which)? else {
            return Ok(None);
        };
        let doing = format!("reading network {which}");
        let read = |flags| {
            let text = self.call(&doing, || network.xml_desc(flags))?;
            xml::network(&text).map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))
        };
        let pace = self.pace;
        let ((active, persistent), (live, (saved, ports))) = pace.together(
            || {
                pace.together(
                    || self.call(&doing, || network.is_active()),
                    || self.call(&doing, || network.is_persistent()),
                )
            },
            || {
                pace.together(
                    || read(0),
                    || {
                        pace.together(
                            || read(sys::VIR_NETWORK_XML_INACTIVE),
                            || {
                                self.begin(&doing);
                                // A libvirt without ports (before 5.5) does not say.
                                unwrapped::network_ports(&network).ok()
                            },
                        )
                    },
                )
            },
        );
        let (active, persistent, live) = (active?, persistent?, live?);
        let ports = ports.filter(|_| active && live.own_bridge);
        let saved = if persistent && active {
            saved?.reservations
        } else {
            live.reservations.clone()
        };
        let uuid = network.uuid_string().map_err(|e| error(&doing, &e))?;
        let uuid = uuid.to_ascii_lowercase();
        self.handles.networks.keep(&uuid, &network);
        Ok(Some(NetworkFacts {
            id: NetworkId {
                name: network.name().map_err(|e| error(&doing, &e))?,
                uuid,
            },
            active,
            persistent,
            own_bridge: live.own_bridge,
            devices: live.devices,
            mac: live.mac,
            ports,
            subnets: live.subnets,
            reservations: saved,
            live_reservations: live.reservations,
        }))
    }

    /// The network that made the bridge.
    pub(super) fn network_with(&self, bridge: &str) -> HostResult<Option<NetworkFacts>> {
        let doing = format!("looking for the network of bridge {bridge}");
        self.begin(&doing);
        // Where libvirt has no networks, none of them made it.
        let listed = self.connection.list_all_networks(0).unwrap_or_default();
        let uuids = self.pace.each(&listed, |network| {
            self.begin(&doing);
            // One of another kind has none.
            let has = network.bridge_name().is_ok_and(|name| name == bridge);
            let uuid = has.then(|| network.uuid_string());
            uuid.transpose().map_err(|e| error(&doing, &e))
        })?;
        for uuid in uuids.into_iter().flatten() {
            let facts = self.network(&NetworkRef::Id(uuid))?;
            if let Some(facts) = facts.filter(|facts| facts.own_bridge) {
                return Ok(Some(facts));
            }
        }
        Ok(None)
    }

    pub(super) fn node_device(&self, name: &str) -> HostResult<DeviceState> {
        let doing = "listing the host's network devices";
        self.begin(doing);
        // Hosts without a node device driver (no udev in a container) do not say; then the start of
        // the domain shows it.
        let devices = self
            .connection
            .list_all_node_devices(sys::VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET)
            .unwrap_or_default();
        if devices.is_empty() {
            return Ok(DeviceState::Unknown);
        }
        for device in devices {
            // `net_<device>_<mac with underscores>`, with other characters of the device's name
            // replaced by underscores.
            let label = device.name().map_err(|e| error(doing, &e))?;
            let flat: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            if !label.starts_with(&format!("net_{flat}_")) {
                continue;
            }
            self.begin(doing);
            if let Ok(text) = device.xml_desc(0)
                && xml::device_interface(&text).as_deref() == Some(name)
            {
                return Ok(DeviceState::Present {
                    up: xml::link_is_up(&text),
                    bridge: None,
                });
            }
        }
        Ok(DeviceState::Absent)
    }

    pub(super) fn update_network(
        &self,
        network: &NetworkId,
        command: sys::virNetworkUpdateCommand,
        entry: &HostEntry,
        scope: Scope,
        doing: &Operation,
    ) -> HostResult<()> {
        let found = self.need_network(network, doing)?;
        // Never restart a network that is not ours: every VM on it would lose its link.
        let config = if scope.config {
            sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG
        } else {
            0
        };
        let live = if scope.live {
            sys::VIR_NETWORK_UPDATE_AFFECT_LIVE
        } else {
            0
        };
        let section = sys::VIR_NETWORK_SECTION_IP_DHCP_HOST;
        self.call(doing, || {
            found.update(command, section, -1, &xml::host_xml(entry), config | live)
        })
    }
}

//! What a network interface of the guest is attached to: one enum from the configuration to the
//! domain and back. What each kind needs of the host is a [`HostLink`]: a kind that needs nothing
//! new changes neither planning nor checks.

use std::fmt;

/// A libvirt network, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetworkRef {
    Name(String),
    /// Its UUID, lower case, with dashes.
    Id(String),
}

impl NetworkRef {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(text) | Self::Id(text) => text,
        }
    }
}

impl fmt::Display for NetworkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a network interface is attached to on the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NicSource {
    Network(NetworkRef),
    /// A network device of the host, by macvtap in bridge mode.
    Macvtap {
        device: String,
    },
    /// A port of a bridge of the host.
    Bridge {
        bridge: String,
        /// The port's VLAN; `None`: the bridge's own.
        vlan: Option<u16>,
        switch: Switch,
    },
}

/// What kind of bridge it is: libvirt must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Switch {
    /// The kernel's. What the configuration says until the host was asked.
    Linux,
    OpenVswitch,
}

/// What must be there on the host for a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostLink<'a> {
    /// A libvirt network that is active.
    Network(&'a NetworkRef),
    /// A network device of the host.
    Device(&'a str),
    /// A bridge of the host.
    Bridge(&'a str),
}

/// The keys that name a network device of the host, for those who do not know which of them it was.
pub const DEVICE_KEYS: &str = "`interface` of macvtap_interfaces, or `bridge` of bridge_interfaces";

impl NicSource {
    #[must_use]
    pub fn host_link(&self) -> HostLink<'_> {
        match self {
            Self::Network(network) => HostLink::Network(network),
            Self::Macvtap { device } => HostLink::Device(device),
            Self::Bridge { bridge, .. } => HostLink::Bridge(bridge),
        }
    }

    /// The libvirt network that it is in.
    #[must_use]
    pub fn network(&self) -> Option<&NetworkRef> {
        match self.host_link() {
            HostLink::Network(network) => Some(network),
            HostLink::Device(_) | HostLink::Bridge(_) => None,
        }
    }

    /// The key of the configuration that names it, in a message's words.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Network(_) => "`network_name` (or `network_id`)",
            Self::Macvtap { .. } => "`interface` of macvtap_interfaces",
            Self::Bridge { .. } => "`bridge` of bridge_interfaces",
        }
    }
}

impl fmt::Display for NicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "network {network}"),
            Self::Macvtap { device } => write!(f, "macvtap on {device}"),
            Self::Bridge {
                bridge,
                vlan,
                switch,
            } => {
                if *switch == Switch::OpenVswitch {
                    f.write_str("Open vSwitch ")?;
                }
                write!(f, "bridge {bridge}")?;
                vlan.map_or(Ok(()), |vlan| write!(f, ", VLAN {vlan}"))
            }
        }
    }
}

impl HostLink<'_> {
    /// As the configuration has it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Network(network) => network.as_str(),
            Self::Device(device) | Self::Bridge(device) => device,
        }
    }
}

/// One of each kind, for tests that must hold for all.
#[cfg(test)]
pub(crate) fn one_of_each_kind() -> Vec<NicSource> {
    let kinds = [
        NicSource::Network(NetworkRef::Name("a & b".into())),
        NicSource::Macvtap {
            device: "eno1".into(),
        },
        NicSource::Bridge {
            bridge: "br0".into(),
            vlan: None,
            switch: Switch::Linux,
        },
        NicSource::Bridge {
            bridge: "ovs0".into(),
            vlan: Some(42),
            switch: Switch::OpenVswitch,
        },
    ];
    for kind in &kinds {
        // Does not compile with a kind that is not named here: put it above, too.
        match kind {
            NicSource::Network(_) | NicSource::Macvtap { .. } | NicSource::Bridge { .. } => {}
        }
    }
    kinds.into()
}

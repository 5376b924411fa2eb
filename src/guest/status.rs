//! What the guest says of itself, as types. Its other side is `templates/guest`'s `status.py`.
//! These are wire types: what lbctl's own `--json` promises (`output/json`) does not follow them.

use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::config::VirtualIp;

/// What the guest says of itself. Every field may be false, and one that is missing does no harm.
/// Its texts are cleaned.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct GuestStatus {
    pub boot_id: String,
    /// Seconds since the guest's kernel started.
    pub uptime_s: f64,
    pub cloud_init: CloudInit,
    pub haproxy: HaproxyStatus,
    pub certificate: Certificates,
    /// `None`: the VM shares no address, or its program is of lbctl 0.1.
    pub virtual_ip: Option<VirtualIpStatus>,
    /// Exactly one server is up.
    pub ready: bool,
}

/// The address that the VM shares with others, as it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct VirtualIpStatus {
    pub address: String,
    /// Whether the VM has it.
    pub held: bool,
    /// 0: ready; -20: no primary is seen; -50: stepped back; -254: HAProxy does not run.
    pub weight: Option<i64>,
    /// Of clients that came by it, in this VM.
    pub sessions: Option<u64>,
    /// Whether it has been told to give it away, and not yet to be ready for it again.
    pub stepped_back: bool,
    /// The MAC address of a machine that is none of the VMs and has the address, for which this
    /// one does not take it.
    pub taken_by: Option<String>,
    pub peers: Vec<PeerStatus>,
    /// Why nothing is known of the others.
    pub error: Option<String>,
}

impl VirtualIpStatus {
    /// Whether this VM would take it from another one.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.error.is_none() && self.weight == Some(0) && self.taken_by.is_none()
    }

    /// Whether it was told of all the VMs that are to share the address.
    #[must_use]
    pub fn knows_all(&self, wanted: &VirtualIp) -> bool {
        let mut wanted = wanted.peers.iter().map(|peer| peer.address.to_string());
        wanted.all(|address| self.peers.iter().any(|peer| peer.address == address))
    }

    /// Whether another VM would take that address, and serve. The guest that is asked to step back
    /// judges by the same.
    #[must_use]
    pub fn has_spare(&self, address: Ipv4Addr) -> bool {
        let ready = PeerStatus::would_take_it;
        self.error.is_none() && self.address == address.to_string() && self.peers.iter().any(ready)
    }
}

/// Another VM, as this one hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PeerStatus {
    pub address: String,
    /// Whether it is heard of.
    pub alive: bool,
    pub held: bool,
    pub weight: Option<i64>,
    /// Whether its configuration has the same address, `router_id` and detection.
    pub agrees: bool,
}

impl PeerStatus {
    /// Whether it is ready for the address, or has it.
    #[must_use]
    pub fn would_take_it(&self) -> bool {
        self.alive && self.agrees && self.weight == Some(0)
    }
}

/// cloud-init's verdict, from its own JSON files.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CloudInit {
    /// `not started`, `running`, `done`, `error`, `disabled`.
    pub status: String,
    pub stage: Option<String>,
    pub errors: Vec<String>,
}

/// The client certificate in the guest.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Certificates {
    pub on_disk: Option<CertificateFacts>,
    /// What HAProxy shows to the nodes.
    pub in_use: Option<CertificateFacts>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// Lower-case hexadecimal.
    pub serial: String,
    /// RFC 3339.
    pub not_after: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct HaproxyStatus {
    pub active: bool,
    pub version: Option<String>,
    pub sessions: Option<u64>,
    /// Of the whole process.
    pub max_connections: Option<u64>,
    /// Clients that wait for a primary. `None`: it has not loaded lbctl's Lua, so none can wait.
    pub held: Option<u64>,
    pub servers: Vec<Server>,
    pub servers_up: u32,
    /// Address of the one server that is up.
    pub primary: Option<String>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    pub backend: String,
    pub name: String,
    pub address: Option<String>,
    pub state: String,
    pub check: Option<String>,
    /// The status of the answer, such as HTTP's 503.
    pub check_code: Option<i64>,
    pub check_detail: Option<String>,
    pub last_change_s: Option<u64>,
    pub sessions: Option<u64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{HaproxyTime, Peer};

    fn peer(address: &str) -> PeerStatus {
        PeerStatus {
            address: address.into(),
            alive: true,
            held: false,
            weight: Some(0),
            agrees: true,
        }
    }

    fn known() -> VirtualIpStatus {
        VirtualIpStatus {
            address: "192.0.2.30".into(),
            held: true,
            weight: Some(0),
            peers: vec![peer("192.0.2.21"), peer("192.0.2.22")],
            ..VirtualIpStatus::default()
        }
    }

    #[test]
    fn a_spare_is_another_vm_that_lives_agrees_and_is_ready() {
        let address = "192.0.2.30".parse().unwrap();
        assert!(known().has_spare(address) && known().is_fit());
        assert!(!known().has_spare("192.0.2.31".parse().unwrap()));
        let turns: [fn(&mut PeerStatus); 4] = [
            |peer| peer.alive = false,
            |peer| peer.agrees = false,
            |peer| peer.weight = Some(-20),
            |peer| peer.weight = None,
        ];
        for turn in turns {
            let mut known = known();
            turn(&mut known.peers[0]);
            assert!(known.has_spare(address), "the other one would");
            turn(&mut known.peers[1]);
            assert!(!known.has_spare(address), "{known:?}");
        }
        let silent = VirtualIpStatus {
            error: Some("lbctl-vip.service does not run".into()),
            ..known()
        };
        assert!(!silent.has_spare(address) && !silent.is_fit());
    }

    #[test]
    fn a_vm_that_it_was_not_told_of_is_not_known() {
        let wanted = |peers: &[&str]| VirtualIp {
            address: "192.0.2.30".parse().unwrap(),
            interface: 0,
            own: "192.0.2.20".parse().unwrap(),
            peers: peers
                .iter()
                .map(|address| Peer {
                    address: address.parse().unwrap(),
                    mac: None,
                    elsewhere: false,
                })
                .collect(),
            router_id: 30,
            detection: HaproxyTime::zero(),
            drain: HaproxyTime::zero(),
        };
        assert!(known().knows_all(&wanted(&["192.0.2.22"])));
        assert!(!known().knows_all(&wanted(&["192.0.2.22", "192.0.2.23"])));
    }
}

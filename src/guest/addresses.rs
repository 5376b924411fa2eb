//! The addresses that a guest has: those that a DHCP server has given it are known nowhere else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::{Guest, GuestError, malformed};
use crate::config::MacAddr;

/// Of one interface. A guest may say what it likes.
const MOST: usize = 16;

impl Guest<'_> {
    /// By the MAC address of each interface, without those that every interface makes itself
    /// (qemu-ga-ref: guest-network-get-interfaces).
    pub fn addresses(
        &self,
        deadline: Duration,
    ) -> Result<BTreeMap<MacAddr, Vec<IpAddr>>, GuestError> {
        let command = json!({"execute": "guest-network-get-interfaces"});
        let answer = self.ask(&command, Instant::now() + deadline)?;
        let Some(interfaces) = answer.as_array() else {
            return Err(malformed("guest-network-get-interfaces returned no list"));
        };
        Ok(interfaces.iter().filter_map(interface).collect())
    }
}

fn interface(said: &Value) -> Option<(MacAddr, Vec<IpAddr>)> {
    let mac = said.get("hardware-address")?.as_str()?;
    let mac = MacAddr::parse(mac).ok()?;
    let addresses = said.get("ip-addresses").and_then(Value::as_array);
    let addresses = addresses
        .into_iter()
        .flatten()
        .filter_map(|address| address.get("ip-address")?.as_str()?.parse().ok())
        .filter(reaches_others);
    Some((mac, addresses.take(MOST).collect()))
}

fn reaches_others(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::host::{AgentChannel, HostResult};

    struct Says(Value);

    impl AgentChannel for Says {
        fn agent(&self, _: &str, _: &str, _: Duration) -> HostResult<String> {
            Ok(json!({ "return": self.0 }).to_string())
        }
    }

    fn said(answer: Value) -> Result<BTreeMap<MacAddr, Vec<IpAddr>>, GuestError> {
        Guest::new(&Says(answer), "lb").addresses(Duration::from_secs(1))
    }

    #[test]
    fn addresses_are_found_by_the_mac_address() {
        let found = said(json!([
            {"name": "lo", "hardware-address": "00:00:00:00:00:00",
             "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8, "ip-address-type": "ipv4"}]},
            {"name": "ens3", "hardware-address": "52:54:00:DE:e3:6b", "ip-addresses": [
                {"ip-address": "fe80::1", "prefix": 64, "ip-address-type": "ipv6"},
                {"ip-address": "192.0.2.9", "prefix": 24, "ip-address-type": "ipv4"},
                {"ip-address": "2001:db8::9", "prefix": 64, "ip-address-type": "ipv6"}]},
            {"name": "ens4", "hardware-address": "52:54:00:de:e3:6c"},
        ]));
        let mac = |last| MacAddr([0x52, 0x54, 0, 0xde, 0xe3, last]);
        let ips = vec!["192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        let wanted = BTreeMap::from([(mac(0x6b), ips), (mac(0x6c), Vec::new())]);
        assert_eq!(found.unwrap(), wanted);
    }

    #[test]
    fn what_makes_no_sense_is_no_address() {
        assert!(said(json!({"x": 1})).is_err());
        let many: Vec<Value> = (0..999)
            .map(|n| json!({"ip-address": format!("10.0.{}.{}", n / 250, n % 250)}))
            .collect();
        let found = said(json!([
            7, {"hardware-address": 3}, {"hardware-address": "\u{1b}[2J"},
            {"hardware-address": "52:54:00:00:00:01", "ip-addresses": "x"},
            {"hardware-address": "52:54:00:00:00:02", "ip-addresses": [1, {"ip-address": "\u{1b}[2J"}]},
            {"hardware-address": "52:54:00:00:00:03", "ip-addresses": many},
        ]));
        let counts: Vec<usize> = found.unwrap().values().map(Vec::len).collect();
        assert_eq!(counts, [0, 0, MOST]);
    }
}

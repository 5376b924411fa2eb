//! Network interfaces, from either source, to the configuration's tables.

use std::collections::BTreeMap;

use super::found::{Found, Value};
use super::user_data::Ethernet;

/// A network interface as a source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// In lower case; `None`: not known.
    pub mac: Option<String>,
    pub at: Attachment,
    /// That DHCP gives it.
    pub ip: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    Network {
        name: Option<String>,
        id: Option<String>,
    },
    Macvtap(String),
    Bridge {
        bridge: String,
        vlan: Option<i64>,
    },
    /// A kind for which lbctl has no key.
    Other(String),
}

/// In the order in which lbctl makes them, whatever the order of the file.
const ORDER: [&str; 4] = [
    "libvirt_network",
    "libvirt_networks",
    "macvtap_interfaces",
    "bridge_interfaces",
];

/// Takes them in their order.
pub fn read(cards: &[Card], ethernets: &BTreeMap<String, Ethernet>, found: &mut Found) {
    let mut count = [0; ORDER.len()];
    let mut last = 0;
    for card in cards {
        let ethernet = card.mac.as_ref().and_then(|mac| ethernets.get(mac));
        let fixed = ethernet.filter(|ethernet| ethernet.first().is_some());
        let place = match (&card.at, fixed) {
            (Attachment::Network { .. }, None) => 0,
            (Attachment::Network { .. }, Some(_)) => 1,
            (Attachment::Macvtap(_), _) => 2,
            (Attachment::Bridge { .. }, _) => 3,
            (Attachment::Other(what), _) => {
                found.note(format!(
                    "a network interface of a kind for which lbctl has no key: {what}"
                ));
                continue;
            }
        };
        let (Some(table), Some(index)) = (ORDER.get(place).copied(), count.get_mut(place)) else {
            continue;
        };
        if place == 0 && *index > 0 {
            found.note("a further network interface whose address a libvirt network gives by DHCP: lbctl has a key for one");
            continue;
        }
        if place < last {
            found.note("the network interfaces have another order than lbctl makes them in");
        }
        last = last.max(place);
        attachment(card, table, *index, found);
        match fixed {
            Some(fixed) => addresses(fixed, table, *index, found),
            None => by_dhcp(card, table, *index, found),
        }
        if let Some(mac) = &card.mac {
            found.put_at(table, *index, "mac", Value::Text(mac.clone()));
        }
        *index += 1;
    }
}

fn attachment(card: &Card, table: &'static str, index: usize, found: &mut Found) {
    let mut text = |key, text: &str| found.put_at(table, index, key, Value::Text(text.into()));
    match &card.at {
        Attachment::Network {
            name: Some(name), ..
        } => text("network_name", name),
        Attachment::Network { id: Some(id), .. } => text("network_id", id),
        Attachment::Macvtap(device) => text("interface", device),
        Attachment::Bridge { bridge, vlan } => {
            text("bridge", bridge);
            if let Some(vlan) = vlan {
                found.put_at(table, index, "vlan", Value::Whole(*vlan));
            }
        }
        Attachment::Network { .. } | Attachment::Other(_) => {}
    }
}

fn by_dhcp(card: &Card, table: &'static str, index: usize, found: &mut Found) {
    match (table, &card.ip) {
        ("libvirt_network", Some(ip)) => {
            found.put_at(table, index, "ip", Value::Text(ip.clone()));
        }
        ("bridge_interfaces", _) => {
            found.put_at(table, index, "dhcp", Value::Truth(true));
        }
        _ => {}
    }
}

fn addresses(ethernet: &Ethernet, table: &'static str, index: usize, found: &mut Found) {
    let mut put = |key, value| found.put_at(table, index, key, value);
    let list = |texts: &[String]| match texts {
        [one] => Value::Text(one.clone()),
        several => Value::Texts(several.to_vec()),
    };
    if let Some((ip, prefix_length, others)) = ethernet.first() {
        put("ip", Value::Text(ip.to_owned()));
        put("prefix_length", Value::Whole(prefix_length));
        if !others.is_empty() {
            put("addresses", Value::Texts(others));
        }
    }
    if !ethernet.gateways.is_empty() {
        put("gateway", list(&ethernet.gateways));
    }
    for (key, texts) in [
        ("dns_servers", &ethernet.dns_servers),
        ("search", &ethernet.search),
    ] {
        if !texts.is_empty() {
            put(key, Value::Texts(texts.clone()));
        }
    }
    for key in &ethernet.unread {
        found.note(format!(
            "network-config has {key} for {table}, which is not taken over"
        ));
    }
}

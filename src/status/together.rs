//! The address that several VMs of one file share, by what all of them say. Two that do not hear
//! each other both have it and each takes itself for the only one: that is seen only here.

use std::net::Ipv4Addr;

use super::virtual_ip::another_machine;
use crate::guest::{PeerStatus, VirtualIpStatus};
use crate::output::json::SharedDocument;

/// A VM of the file.
pub struct One<'a> {
    pub name: &'a str,
    /// Its own address, by which the others know it.
    pub own: Ipv4Addr,
    /// What its guest says; `None`: it was not reached, or says nothing of an address.
    pub said: Option<&'a VirtualIpStatus>,
}

/// Who has the address, by their names in the file; those that are not in it by their own
/// addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    address: Ipv4Addr,
    holders: Vec<String>,
    /// Those that would take it.
    spares: Vec<String>,
    /// Those of which neither they nor others say anything.
    unknown: Vec<String>,
    /// The MAC address of another machine that has it.
    taken_by: Option<String>,
}

impl Together {
    #[must_use]
    pub fn of(address: Ipv4Addr, vms: &[One<'_>]) -> Self {
        let mut found = Self {
            address,
            holders: Vec::new(),
            spares: Vec::new(),
            unknown: Vec::new(),
            taken_by: None,
        };
        // A guest may share another one until it is restarted.
        let text = address.to_string();
        let this = |said: &&VirtualIpStatus| said.address == text;
        let said: Vec<Option<&VirtualIpStatus>> =
            vms.iter().map(|vm| vm.said.filter(this)).collect();
        let mut taken = said
            .iter()
            .flatten()
            .filter_map(|said| said.taken_by.clone());
        found.taken_by = taken.next();
        let of_peers = || said.iter().flatten().flat_map(|said| &said.peers);
        for (vm, said) in vms.iter().zip(&said) {
            let own = vm.own.to_string();
            let heard: Vec<&PeerStatus> = of_peers().filter(|peer| peer.address == own).collect();
            let name = vm.name.to_owned();
            match said {
                Some(said) if said.held => found.holders.push(name),
                Some(said) if said.is_fit() && heard.iter().all(|peer| peer.agrees) => {
                    found.spares.push(name);
                }
                Some(_) => {}
                None => found.add(name, &heard),
            }
        }
        let mut others: Vec<String> = of_peers().map(|peer| peer.address.clone()).collect();
        others.sort();
        others.dedup();
        others.retain(|other| vms.iter().all(|vm| vm.own.to_string() != *other));
        for other in others {
            let heard: Vec<&PeerStatus> = of_peers().filter(|peer| peer.address == other).collect();
            found.add(other.clone(), &heard);
        }
        if found.holders.is_empty() && found.taken_by.is_some() {
            found.spares.clear();
        }
        found
    }

    /// One that does not say itself how it is.
    fn add(&mut self, name: String, heard: &[&PeerStatus]) {
        if heard.iter().any(|peer| peer.held) {
            self.holders.push(name);
        } else if heard.iter().any(|peer| peer.would_take_it()) {
            self.spares.push(name);
        } else if !heard.iter().any(|peer| peer.alive) {
            self.unknown.push(name);
        }
    }

    /// Whether one VM has it, as it should be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.holders.len() == 1
    }

    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let who = match self.holders.as_slice() {
            [] => match &self.taken_by {
                Some(mac) => format!("{} has it", another_machine(mac)),
                None if self.unknown.is_empty() => "no VM has it".to_owned(),
                None => "no VM that answers has it".to_owned(),
            },
            [one] => format!("{one} has it"),
            several => format!("{} have it at once", several.join(" and ")),
        };
        let next = match self.spares.as_slice() {
            [] => ", and no other VM would take it".to_owned(),
            [one, ..] => format!("; {one} would take it"),
        };
        let unknown = match self.unknown.as_slice() {
            [] => String::new(),
            some => format!("; of {} nothing is known", some.join(" and ")),
        };
        format!("virtual ip {}: {who}{next}{unknown}", self.address)
    }

    #[must_use]
    pub fn document(&self) -> SharedDocument {
        SharedDocument {
            address: self.address.to_string(),
            holders: self.holders.clone(),
            spares: self.spares.clone(),
            unknown: self.unknown.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8, held: bool, alive: bool) -> PeerStatus {
        PeerStatus {
            address: format!("192.0.2.{last}"),
            alive,
            held,
            weight: alive.then_some(0),
            agrees: true,
        }
    }

    fn says(held: bool, weight: i64, peers: Vec<PeerStatus>) -> VirtualIpStatus {
        VirtualIpStatus {
            address: "192.0.2.20".into(),
            held,
            weight: Some(weight),
            peers,
            ..VirtualIpStatus::default()
        }
    }

    fn judged(first: Option<&VirtualIpStatus>, second: Option<&VirtualIpStatus>) -> (bool, String) {
        let one = |name, last, said| One {
            name,
            own: Ipv4Addr::new(192, 0, 2, last),
            said,
        };
        let vms = [one("lb-1", 21, first), one("lb-2", 22, second)];
        let found = Together::of(Ipv4Addr::new(192, 0, 2, 20), &vms);
        (found.is_well(), found.line())
    }

    #[test]
    fn one_has_it_and_the_other_one_would_take_it() {
        let has = says(true, 0, vec![peer(22, false, true)]);
        let other = says(false, 0, vec![peer(21, true, true)]);
        let words = "virtual ip 192.0.2.20: lb-1 has it; lb-2 would take it";
        assert_eq!(judged(Some(&has), Some(&other)), (true, words.to_owned()));
        // The second one's host is not reached: the first one hears of it.
        assert_eq!(judged(Some(&has), None), (true, words.to_owned()));
        assert_eq!(judged(None, Some(&other)), (true, words.to_owned()));
        let unfit = says(false, -20, vec![peer(21, true, true)]);
        let words = "virtual ip 192.0.2.20: lb-1 has it, and no other VM would take it";
        assert_eq!(judged(Some(&has), Some(&unfit)), (true, words.to_owned()));
    }

    #[test]
    fn an_address_that_another_machine_has_is_taken_by_none() {
        let mut said = says(false, 0, vec![peer(22, false, true)]);
        said.taken_by = Some("52:54:00:aa:bb:0c".into());
        let words = "virtual ip 192.0.2.20: another machine (MAC address 52:54:00:aa:bb:0c) has it, and no other VM \
                     would take it";
        assert_eq!(judged(Some(&said), None), (false, words.to_owned()));
    }

    #[test]
    fn two_that_do_not_hear_each_other_both_have_it() {
        let alone = |last| says(true, 0, vec![peer(last, false, false)]);
        assert_eq!(
            judged(Some(&alone(22)), Some(&alone(21))),
            (
                false,
                "virtual ip 192.0.2.20: lb-1 and lb-2 have it at once, and no other VM would take it".to_owned()
            )
        );
    }

    #[test]
    fn where_none_has_it_or_nobody_answers_it_is_not_well() {
        let fault = |last| says(false, -254, vec![peer(last, false, false)]);
        assert_eq!(
            judged(Some(&fault(22)), Some(&fault(21))),
            (
                false,
                "virtual ip 192.0.2.20: no VM has it, and no other VM would take it".to_owned()
            )
        );
        let (well, words) = judged(Some(&fault(22)), None);
        assert!(!well);
        assert_eq!(
            words,
            "virtual ip 192.0.2.20: no VM that answers has it, and no other VM would take it; of lb-2 nothing is known"
        );
    }

    #[test]
    fn one_that_is_not_in_the_file_is_named_by_its_address() {
        let has = says(false, 0, vec![peer(22, false, true), peer(23, true, true)]);
        let (well, words) = judged(Some(&has), None);
        assert!(well);
        assert_eq!(
            words,
            "virtual ip 192.0.2.20: 192.0.2.23 has it; lb-1 would take it"
        );
    }
}

//! Which of the VMs that share an address has it, and which would take it, as far as one of them
//! says.

use crate::guest::{PeerStatus, VirtualIpStatus};
use crate::output::json::{PeerDocument, VirtualIpDocument};

const READY: i64 = 0;

/// Why clients may not be served by the shared address; `None`: they are.
pub(super) fn why_not(shared: &VirtualIpStatus) -> Option<String> {
    let address = &shared.address;
    if let Some(error) = &shared.error {
        return Some(format!("the shared address {address}: {error}"));
    }
    match holders(shared).len() {
        0 => Some(match &shared.taken_by {
            Some(mac) => format!("{} has the shared address {address}", another_machine(mac)),
            None => format!("no VM has the shared address {address}"),
        }),
        1 => None,
        several => Some(format!("{several} VMs have the shared address {address}")),
    }
}

/// The VMs that have it; `None` is this one.
fn holders(shared: &VirtualIpStatus) -> Vec<Option<&PeerStatus>> {
    let own = shared.held.then_some(None);
    let others = shared.peers.iter().filter(|peer| peer.held).map(Some);
    own.into_iter().chain(others).collect()
}

/// One that is none of the VMs that share the address.
pub(super) fn another_machine(mac: &str) -> String {
    format!("another machine (MAC address {mac})")
}

/// Those that are not the holder and would take it; `None` is this one.
fn spares(shared: &VirtualIpStatus) -> Vec<Option<&PeerStatus>> {
    if shared.taken_by.is_some() {
        // The others find that machine, too.
        return Vec::new();
    }
    let own = (!shared.held && shared.is_fit()).then_some(None);
    let others = shared.peers.iter();
    let others = others.filter(|peer| !peer.held && peer.would_take_it());
    own.into_iter().chain(others.map(Some)).collect()
}

fn name(vm: Option<&PeerStatus>) -> &str {
    vm.map_or("this VM", |peer| &peer.address)
}

/// For people: the first line, and one for each VM that is not as it should be.
pub(super) fn lines(shared: &VirtualIpStatus) -> Vec<String> {
    let address = &shared.address;
    if shared.error.is_some() {
        let has = if shared.held {
            "has it"
        } else {
            "does not have it"
        };
        return vec![format!(
            "{address}: this VM {has}; of the others nothing is known"
        )];
    }
    let who = match holders(shared).as_slice() {
        [] => "no VM has it".to_owned(),
        [one] => format!("{} has it", name(*one)),
        several => {
            let names: Vec<&str> = several.iter().map(|vm| name(*vm)).collect();
            format!("{} have it at once", names.join(" and "))
        }
    };
    let next = match spares(shared).as_slice() {
        [] => ", and no other VM would take it".to_owned(),
        [one, ..] => format!("; {} would take it", name(*one)),
    };
    let mut lines = vec![format!("{address}: {who}{next}")];
    lines.extend(shared.taken_by.iter().map(|mac| {
        let other = another_machine(mac);
        format!("{other} has it: this VM takes it when that one has given it up")
    }));
    let own = shared.weight.filter(|weight| *weight != READY);
    lines.extend(own.map(|weight| format!("this VM {}", unfit(weight))));
    lines.extend(shared.peers.iter().filter_map(of_peer));
    lines
}

fn of_peer(peer: &PeerStatus) -> Option<String> {
    let address = &peer.address;
    if !peer.alive {
        return Some(format!("{address} is not heard of"));
    }
    if !peer.agrees {
        return Some(format!(
            "{address} has another address, router_id or detection in its configuration"
        ));
    }
    match peer.weight {
        Some(READY) => None,
        Some(weight) => Some(format!("{address} {}", unfit(weight))),
        None => Some(format!("{address} does not say how it is")),
    }
}

/// What keeps a VM from taking the address, by its weight.
fn unfit(weight: i64) -> &'static str {
    match weight {
        ..-100 => "has no HAProxy that runs",
        -100..=-50 => "has stepped back",
        _ => "sees no primary",
    }
}

/// `own`: this VM's address, by which the others know it.
pub(super) fn document(shared: &VirtualIpStatus, own: Option<&str>) -> VirtualIpDocument {
    let holder = match holders(shared).as_slice() {
        [None] => own.map(str::to_owned),
        [Some(peer)] => Some(peer.address.clone()),
        _ => None,
    };
    let peer = |peer: &PeerStatus| PeerDocument {
        address: peer.address.clone(),
        alive: peer.alive,
        held: peer.held,
        weight: peer.weight,
        agrees: peer.agrees,
    };
    VirtualIpDocument {
        address: shared.address.clone(),
        held: shared.held,
        holder,
        spare: shared.error.is_none() && !spares(shared).is_empty(),
        weight: shared.weight,
        sessions: shared.sessions,
        taken_by: shared.taken_by.clone(),
        peers: shared.peers.iter().map(peer).collect(),
        error: shared.error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(held: bool, weight: i64, peer: PeerStatus) -> VirtualIpStatus {
        VirtualIpStatus {
            address: "192.0.2.20".into(),
            held,
            weight: Some(weight),
            peers: vec![peer],
            ..VirtualIpStatus::default()
        }
    }

    fn peer(held: bool, weight: i64) -> PeerStatus {
        PeerStatus {
            address: "192.0.2.22".into(),
            alive: true,
            held,
            weight: Some(weight),
            agrees: true,
        }
    }

    #[test]
    fn who_has_it_and_who_would_take_it() {
        for (said, why, words) in [
            (
                shared(true, 0, peer(false, 0)),
                None,
                "192.0.2.20: this VM has it; 192.0.2.22 would take it",
            ),
            (
                shared(false, 0, peer(true, 0)),
                None,
                "192.0.2.20: 192.0.2.22 has it; this VM would take it",
            ),
            (
                shared(true, 0, peer(false, -20)),
                None,
                "192.0.2.20: this VM has it, and no other VM would take it\n192.0.2.22 sees no primary",
            ),
            (
                shared(false, -50, peer(true, 0)),
                None,
                "192.0.2.20: 192.0.2.22 has it, and no other VM would take it\nthis VM has stepped back",
            ),
            (
                shared(
                    true,
                    0,
                    PeerStatus {
                        alive: false,
                        ..peer(false, 0)
                    },
                ),
                None,
                "192.0.2.20: this VM has it, and no other VM would take it\n192.0.2.22 is not heard of",
            ),
            (
                shared(
                    true,
                    0,
                    PeerStatus {
                        agrees: false,
                        ..peer(false, 0)
                    },
                ),
                None,
                "192.0.2.20: this VM has it, and no other VM would take it\n192.0.2.22 has another address, \
                 router_id or detection in its configuration",
            ),
            (
                shared(true, 0, peer(true, 0)),
                Some("2 VMs have the shared address 192.0.2.20"),
                "192.0.2.20: this VM and 192.0.2.22 have it at once, and no other VM would take it",
            ),
            (
                shared(false, -254, peer(false, -254)),
                Some("no VM has the shared address 192.0.2.20"),
                "192.0.2.20: no VM has it, and no other VM would take it\nthis VM has no HAProxy that runs\n\
                 192.0.2.22 has no HAProxy that runs",
            ),
        ] {
            assert_eq!(why_not(&said).as_deref(), why);
            assert_eq!(lines(&said).join("\n"), words);
        }
    }

    #[test]
    fn an_address_that_another_machine_has_is_taken_by_none() {
        let said = VirtualIpStatus {
            taken_by: Some("52:54:00:aa:bb:0c".into()),
            ..shared(false, 0, peer(false, 0))
        };
        let why =
            "another machine (MAC address 52:54:00:aa:bb:0c) has the shared address 192.0.2.20";
        assert_eq!(why_not(&said).as_deref(), Some(why));
        assert_eq!(
            lines(&said),
            [
                "192.0.2.20: no VM has it, and no other VM would take it",
                "another machine (MAC address 52:54:00:aa:bb:0c) has it: this VM takes it when that one has given it up",
            ]
        );
        let document = document(&said, None);
        assert_eq!(document.taken_by.as_deref(), Some("52:54:00:aa:bb:0c"));
        assert!(!document.spare);
    }

    #[test]
    fn without_the_service_the_others_are_unknown() {
        let said = VirtualIpStatus {
            error: Some("lbctl-vip.service does not run".into()),
            ..shared(true, 0, peer(false, 0))
        };
        assert!(why_not(&said).is_some_and(|why| why.ends_with("does not run")));
        assert_eq!(
            lines(&said),
            ["192.0.2.20: this VM has it; of the others nothing is known"]
        );
        assert!(!document(&said, None).spare);
    }

    #[test]
    fn the_document_names_the_holder_by_its_own_address() {
        let own = Some("192.0.2.21");
        let of = |said: &VirtualIpStatus| document(said, own).holder;
        assert_eq!(of(&shared(true, 0, peer(false, 0))).as_deref(), own);
        assert_eq!(
            of(&shared(false, 0, peer(true, 0))).as_deref(),
            Some("192.0.2.22")
        );
        assert_eq!(of(&shared(true, 0, peer(true, 0))), None);
        assert!(document(&shared(false, 0, peer(true, 0)), own).spare);
    }
}

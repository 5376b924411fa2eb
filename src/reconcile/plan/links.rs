//! Whether the interfaces of the running guest are connected.

use super::{Change, Class, Subject};
use crate::config::{NetworkRef, NicSource};
use crate::host::{DomainFacts, NetworkFacts, NicFacts, ObservedNicSource};
use crate::reconcile::observe::Observed;

/// Interfaces of the running guest that are connected to nothing.
#[derive(Debug, Default)]
pub(super) struct LostLinks {
    pub changes: Vec<Change>,
    pub notes: Vec<String>,
}

/// A network that is stopped loses its bridge, and started again it has another one: the taps of
/// the guests that run hang in no bridge then. Their ports are gone with the network's first life.
pub(super) fn lost_links(observed: &Observed, domain: &DomainFacts) -> LostLinks {
    let mut lost = LostLinks::default();
    let Some(live) = &domain.live else {
        return lost;
    };
    for link in &live.links {
        let network = observed.networks.values().filter_map(|n| n.facts.as_ref());
        let name = live.interfaces.iter().find(|i| i.mac == link.mac);
        let network = network
            .filter(|facts| name.is_some_and(|nic| is_in(nic, facts)))
            .find(|facts| facts.own_bridge && facts.active);
        let gone = network.filter(|facts| match (&facts.ports, &link.port) {
            (Some(ports), Some(port)) => !ports.iter().any(|p| p.eq_ignore_ascii_case(port)),
            _ => false,
        });
        let saved_down = domain
            .config
            .links
            .iter()
            .any(|saved| saved.mac == link.mac && !saved.up);
        let (from, to) = if let Some(facts) = gone {
            lost.notes.push(format!(
                "network {0} was restarted under the guest: a restart of the guest connects it again, or one of \
                 libvirt's daemon (`systemctl restart libvirtd`, or virtqemud), which cuts nothing",
                facts.id
            ));
            (
                format!("not connected to network {}", facts.id),
                "connected".to_owned(),
            )
        } else if !link.up && saved_down {
            lost.notes.push(format!(
                "the link of {} is down in the definition: `virsh domif-setlink {} {} up --config` (and without \
                 --config for the running guest) sets it up",
                link.mac, domain.name, link.mac
            ));
            continue;
        } else if !link.up {
            lost.notes.push(format!(
                "somebody set the link of {1} down: `virsh domif-setlink {0} {1} up` sets it up without a restart",
                domain.name, link.mac
            ));
            ("down".to_owned(), "up".to_owned())
        } else {
            continue;
        };
        let subject = Subject::Link(link.mac);
        lost.changes
            .push(Change::new(subject, from, to, Class::Restart));
    }
    lost
}

fn is_in(nic: &NicFacts, network: &NetworkFacts) -> bool {
    matches!(
        &nic.source,
        ObservedNicSource::Known(NicSource::Network(NetworkRef::Name(name))) if *name == network.id.name
    )
}

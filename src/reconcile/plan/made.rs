//! What lbctl made: the ownership record says so. Before there is a record, and after it is gone,
//! the tag of a seed does, which is written before anything else of the VM and deleted after it.
//! Likeness (the same name, base or MAC address) says nothing: others make such things, too.

use crate::config::{DiskFormat, VolumeRef};
use crate::host::ownership::{DiskRecord, Ownership};
use crate::host::{HostEntry, NetworkFacts};
use crate::reconcile::observe::{Observed, ObservedDisk};
use crate::seed::{SeedContent, print_of_entry, print_of_volume};

/// For the tag of a seed: what the record names as made.
pub(super) fn prints(ownership: &Ownership) -> Vec<String> {
    let disk = ownership.disk.iter().filter(|disk| disk.cloned);
    let entries = ownership.reservations.iter().filter(|r| r.made);
    disk.map(|disk| print_of_volume(&disk.volume))
        .chain(entries.map(|r| print_of_entry(&r.network, &r.entry)))
        .collect()
}

/// Whether lbctl made the volume; `None`: nothing says so or otherwise.
pub(super) fn volume(observed: &Observed, at: &VolumeRef) -> Option<bool> {
    let recorded = disk_record(observed).filter(|disk| disk.volume == *at);
    let in_a_tag = is_named(observed, at) && looks_made(observed, at);
    recorded
        .map(|disk| disk.cloned)
        .or(in_a_tag.then_some(true))
}

/// Whether a seed names the volume as one that lbctl was about to make, or made.
pub(super) fn is_named(observed: &Observed, at: &VolumeRef) -> bool {
    tagged(observed, &print_of_volume(at))
}

/// A tag is written before the volume is made. So somebody's volume that came first is not lbctl's,
/// though a tag names it.
fn looks_made(observed: &Observed, at: &VolumeRef) -> bool {
    let ObservedDisk::Clone {
        wanted,
        volume,
        base,
        image: _,
        pool: _,
    } = &observed.disk
    else {
        return false;
    };
    let Some(facts) = volume.present().filter(|_| wanted.volume == *at) else {
        return false;
    };
    match (&facts.backing, base.present()) {
        (None, _) => wanted.format == DiskFormat::Raw && facts.format == "raw",
        (Some(backing), Some(base)) => *backing == base.source.backing_path(),
        (Some(_), None) => false,
    }
}

/// The root disk by the domain's record.
pub(super) fn disk_record(observed: &Observed) -> Option<&DiskRecord> {
    records(observed).find_map(|record| record.disk.as_ref())
}

/// Whether lbctl made the entry. One that somebody edited is still the one that lbctl made for that
/// MAC address, for a network has one for each, saved and running.
pub(super) fn entry(observed: &Observed, network: &NetworkFacts, entry: &HostEntry) -> bool {
    let lists = [&network.reservations, &network.live_reservations];
    let is_instead = |recorded: &HostEntry| {
        let mut lists = lists.iter();
        lists.any(|list| list.contains(entry) && !list.contains(recorded))
    };
    let mut recorded = records(observed)
        .flat_map(|record| &record.reservations)
        .filter(|r| r.made && r.network == network.id.uuid)
        .map(|r| &r.entry);
    recorded.any(|r| r == entry || same_interface(r, entry) && is_instead(r))
        || tagged(observed, &print_of_entry(&network.id.uuid, entry))
}

/// Whether one may be the other, edited.
pub(super) fn same_interface(one: &HostEntry, other: &HostEntry) -> bool {
    one.mac.is_some() && one.mac == other.mac && one.name == other.name
}

fn records(observed: &Observed) -> impl Iterator<Item = &Ownership> {
    let domain = observed.domain.iter();
    domain
        .flat_map(|d| [Some(&d.config), d.live.as_ref()])
        .flatten()
        .filter_map(|d| d.ownership.as_ref())
}

/// While there is a domain, its record says more than a seed of some earlier time.
fn tagged(observed: &Observed, print: &String) -> bool {
    let seeds = observed.seeds.iter().filter(|_| observed.domain.is_none());
    seeds.into_iter().any(|seed| {
        matches!(&seed.content, Some(SeedContent::Ours(found)) if found.made.contains(print))
    })
}

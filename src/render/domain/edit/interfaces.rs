//! Network interfaces of a domain that is there.

use roxmltree::Node;

use super::super::{FILTERS, NicSpec, NicXml};
use super::elements;
use crate::host::definition;
use crate::host::xml::child;
use crate::host::{NicFacts, ObservedNicSource};
use crate::text::edit::Edits;

/// What each network interface that stays is attached to. Those that are not wanted go: which ones
/// there are is the configuration's.
pub(super) fn sources(devices: Node<'_, '_>, wanted: &[NicSpec], edits: &mut Edits<'_>) {
    for node in elements(devices, "interface") {
        let Some(is) = definition::interface(node) else {
            continue;
        };
        let Some(nic) = wanted.iter().find(|nic| nic.mac == is.mac) else {
            edits.remove(node);
            continue;
        };
        if NicFacts::from(nic) != is {
            attach(node, is, nic, edits);
        }
        if NicXml(nic).says_what_it_listens_to() && node.attribute(FILTERS).is_none() {
            edits.set_attribute(node, FILTERS, "yes");
        }
    }
}

/// Another place to attach a network interface to. A VLAN and the kind of port stay where lbctl
/// wants them as they are, with all that is in them, and go where they belong to the other place.
fn attach(node: Node<'_, '_>, is: NicFacts, wanted: &NicSpec, edits: &mut Edits<'_>) {
    let was = match is.source {
        ObservedNicSource::Known(source) => Some(NicSpec {
            mac: is.mac,
            source,
            ipv6: wanted.ipv6,
        }),
        ObservedNicSource::Device(_) | ObservedNicSource::Other(_) => None,
    };
    let xml = NicXml(wanted);
    let was = was
        .as_ref()
        .map(NicXml)
        .filter(|was| was.kind() == xml.kind());
    edits.set_attribute(node, "type", xml.kind());
    let mut written = vec![xml.source()];
    for (name, part) in NicXml::PARTS {
        let wanted = part(&xml);
        if was.as_ref().is_some_and(|was| part(was) == wanted) {
            continue;
        }
        if let Some(old) = child(node, name) {
            edits.remove(old);
        }
        written.extend(wanted);
    }
    let written = written.join("\n      ");
    match (child(node, "source"), child(node, "mac")) {
        (Some(source), _) => edits.replace(source, written),
        (None, Some(mac)) => edits.insert_after(mac, &written),
        (None, None) => edits.append(node, &written),
    }
}

/// Network interfaces in the order of the configuration, and those that are new.
pub(super) fn order(devices: Node<'_, '_>, wanted: &[NicSpec], xml: &str, edits: &mut Edits<'_>) {
    let there: Vec<_> = elements(devices, "interface")
        .filter_map(|node| Some((definition::interface(node)?.mac, node)))
        .collect();
    let in_order = there
        .iter()
        .map(|(mac, _)| *mac)
        .eq(wanted.iter().map(|nic| nic.mac));
    if in_order {
        return;
    }
    let written = wanted.iter().map(|nic| {
        let node = there.iter().find(|(mac, _)| *mac == nic.mac);
        let text = node.and_then(|(_, node)| xml.get(node.range()));
        text.map_or_else(|| NicXml(nic).to_string(), str::to_owned)
    });
    let mut new = Vec::new();
    for (place, text) in written.enumerate() {
        match there.get(place) {
            Some((_, node)) => edits.replace(*node, text),
            None => new.push(text),
        }
    }
    for (_, twice) in there.iter().skip(wanted.len()) {
        edits.remove(*twice);
    }
    let new = new.join("\n    ");
    match there.last() {
        _ if new.is_empty() => {}
        Some((_, node)) => edits.insert_after(*node, &new),
        None => edits.append(devices, &new),
    }
}

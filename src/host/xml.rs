//! Reading libvirt's XML: small helpers, and the documents of networks, volumes and pools. Domains
//! are in `definition`.

use std::net::Ipv4Addr;
use std::str::FromStr;

use roxmltree::{Document, Node};

use super::{CloneSpec, HostEntry, Source, Subnet, VolumeFacts};
use crate::config::{MacAddr, VolumeRef};
use crate::text::xml::escape;

pub(crate) fn child<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Option<Node<'a, 'd>> {
    node.children().find(|n| n.has_tag_name(name))
}

/// The attribute's value; empty where it is missing.
pub(crate) fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

pub(super) fn text(node: Node<'_, '_>) -> String {
    node.text().unwrap_or_default().trim().to_owned()
}

pub(crate) fn number<T: FromStr>(node: Node<'_, '_>) -> Option<T> {
    node.text()?.trim().parse().ok()
}

/// `0000:04:10.1`, of an `<address type='pci'>`, whose numbers are hexadecimal.
pub(super) fn pci_address(node: Node<'_, '_>) -> Option<String> {
    let part = |name| {
        let text = node.attribute(name)?;
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let is_pci = node.attribute("type").is_none_or(|kind| kind == "pci");
    let (bus, slot, function) = (part("bus")?, part("slot")?, part("function")?);
    let domain = part("domain").unwrap_or(0);
    is_pci.then(|| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}

/// What lbctl needs of a `<network>` document.
#[derive(Debug, PartialEq, Eq)]
pub struct NetworkXml {
    pub own_bridge: bool,
    /// Of the running network, which lists the functions of a device that its definition names.
    pub devices: Vec<String>,
    pub mac: Option<MacAddr>,
    pub subnets: Vec<Subnet>,
    pub reservations: Vec<HostEntry>,
}

/// Reads a `<network>` document: its IPv4 subnets and their DHCP host entries.
pub fn network(xml: &str) -> Result<NetworkXml, String> {
    let document =
        Document::parse(xml).map_err(|e| format!("the network's XML cannot be read: {e}"))?;
    let root = document.root_element();
    let forward = child(root, "forward");
    let mode = forward.map(|f| f.attribute("mode").unwrap_or("nat"));
    let given = forward.into_iter().flat_map(|f| f.children());
    let mut found = NetworkXml {
        // formatnetwork.html, "Connectivity": the other modes use what the host has.
        own_bridge: matches!(mode, None | Some("nat" | "route" | "open")),
        devices: given
            .filter(|n| n.has_tag_name("address"))
            .filter_map(pci_address)
            .collect(),
        mac: child(root, "mac")
            .and_then(|m| m.attribute("address"))
            .and_then(|m| MacAddr::parse(m).ok()),
        subnets: Vec::new(),
        reservations: Vec::new(),
    };
    for ip in document
        .root_element()
        .children()
        .filter(|n| n.has_tag_name("ip"))
    {
        let Some(address) = ip
            .attribute("address")
            .and_then(|a| a.parse::<Ipv4Addr>().ok())
        else {
            continue; // IPv6
        };
        let dhcp = child(ip, "dhcp");
        let prefix_length = ip
            .attribute("prefix")
            .and_then(|p| p.parse().ok())
            .or_else(|| netmask(ip))
            .unwrap_or(24);
        found.subnets.push(Subnet {
            address,
            prefix_length,
            dhcp: dhcp.is_some(),
            ranges: dhcp.map(ranges).unwrap_or_default(),
        });
        let hosts = dhcp.into_iter().flat_map(|d| {
            d.children()
                .filter(|n| n.has_tag_name("host"))
                .collect::<Vec<_>>()
        });
        found.reservations.extend(hosts.filter_map(host_entry));
    }
    Ok(found)
}

fn ranges(dhcp: Node<'_, '_>) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let ranges = dhcp.children().filter(|n| n.has_tag_name("range"));
    let end = |range: Node<'_, '_>, name| range.attribute(name)?.parse().ok();
    ranges
        .filter_map(|range| Some((end(range, "start")?, end(range, "end")?)))
        .collect()
}

fn netmask(ip: Node<'_, '_>) -> Option<u8> {
    let mask: Ipv4Addr = ip.attribute("netmask")?.parse().ok()?;
    u8::try_from(u32::from(mask).leading_ones()).ok()
}

fn host_entry(node: Node<'_, '_>) -> Option<HostEntry> {
    Some(HostEntry {
        mac: node.attribute("mac").and_then(|m| MacAddr::parse(m).ok()),
        ip: node.attribute("ip")?.parse().ok()?,
        name: node.attribute("name").map(String::from),
    })
}

/// What lbctl needs of a `<volume>` document.
#[derive(Debug, PartialEq, Eq)]
pub struct VolumeXml {
    pub kind: String,
    pub key: String,
    pub capacity: u64,
    pub allocation: u64,
    pub format: String,
    pub physical: Option<u64>,
    pub path: String,
    pub backing: Option<String>,
    pub mode: Option<u32>,
}

/// Reads a `<volume>` document; sizes are in bytes there.
pub fn volume(xml: &str) -> Result<VolumeXml, String> {
    let document =
        Document::parse(xml).map_err(|e| format!("the volume's XML cannot be read: {e}"))?;
    let root = document.root_element();
    let target = child(root, "target");
    let bytes = |name| child(root, name).and_then(number).unwrap_or(0);
    Ok(VolumeXml {
        kind: root.attribute("type").unwrap_or("file").to_owned(),
        key: child(root, "key").map(text).unwrap_or_default(),
        capacity: bytes("capacity"),
        allocation: bytes("allocation"),
        format: target
            .and_then(|t| child(t, "format"))
            .map_or_else(|| "raw".into(), |f| attribute(f, "type")),
        physical: child(root, "physical").and_then(number),
        path: target
            .and_then(|t| child(t, "path"))
            .map(text)
            .unwrap_or_default(),
        backing: child(root, "backingStore")
            .and_then(|b| child(b, "path"))
            .map(text)
            .filter(|p| !p.is_empty()),
        mode: target
            .and_then(|t| child(t, "permissions"))
            .and_then(|p| child(p, "mode"))
            .and_then(|m| u32::from_str_radix(&text(m), 8).ok()),
    })
}

/// Where a `<pool>` document says that its files are.
pub(super) fn pool_folder(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let target = child(document.root_element(), "target")?;
    child(target, "path")
        .map(text)
        .filter(|path| !path.is_empty())
}

/// The type of a `<pool>`.
pub(super) fn pool_type(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    document.root_element().attribute("type").map(String::from)
}

/// Who may open a volume, for people: path, owner, mode and label as libvirt has them.
pub(super) fn access(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let target = child(document.root_element(), "target")?;
    let permissions = child(target, "permissions")?;
    let of = |name| child(permissions, name).map(text);
    let owner = [of("owner")?, of("group")?].join(":");
    let label = of("label").map_or_else(String::new, |label| format!(", label {label}"));
    Some(format!(
        "{}, owner {owner}, mode {}{label}",
        child(target, "path").map(text)?,
        of("mode")?
    ))
}

/// How a domain should refer to a volume of this kind.
pub(super) fn source(volume: &VolumeXml, at: &VolumeRef) -> Source {
    match volume.kind.as_str() {
        "file" => Source::File(volume.path.clone()),
        "block" => Source::Block(volume.path.clone()),
        _ => Source::Volume(at.clone()),
    }
}

/// Whether a `<capabilities>` document offers a kvm domain for the architecture.
pub fn offers_kvm(xml: &str, architecture: &str) -> Result<bool, String> {
    let document =
        Document::parse(xml).map_err(|e| format!("the host's capabilities cannot be read: {e}"))?;
    Ok(document
        .root_element()
        .children()
        .filter(|n| n.has_tag_name("guest"))
        .filter_map(|guest| child(guest, "arch"))
        .filter(|arch| arch.attribute("name") == Some(architecture))
        .any(|arch| {
            arch.children()
                .any(|n| n.has_tag_name("domain") && n.attribute("type") == Some("kvm"))
        }))
}

/// The full name of the machine that a `<domainCapabilities>` document is about.
pub fn capable_machine(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    child(document.root_element(), "machine").map(text)
}

/// Of a `<interface>` document of the host: whether its link is up.
pub(super) fn link_is_up(xml: &str) -> Option<bool> {
    let document = Document::parse(xml).ok()?;
    let link = document
        .root_element()
        .descendants()
        .find(|n| n.has_tag_name("link"))?;
    match link.attribute("state")? {
        "up" => Some(true),
        "down" | "lowerlayerdown" | "notpresent" => Some(false),
        _ => None,
    }
}

/// Whether the `<interface>` document of a bridge of the host names that device as its port.
pub(super) fn has_port(xml: &str, device: &str) -> bool {
    let Ok(document) = Document::parse(xml) else {
        return false;
    };
    child(document.root_element(), "bridge").is_some_and(|bridge| {
        bridge
            .children()
            .any(|n| n.has_tag_name("interface") && n.attribute("name") == Some(device))
    })
}

/// The name of the network device that a `<device>` document of a node device describes.
pub fn device_interface(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    document
        .root_element()
        .descendants()
        .find(|n| n.has_tag_name("interface"))
        .map(text)
}

/// Of a document of libvirt's interface driver: `bridge`, `ethernet`, `bond`, `vlan`.
pub(super) fn interface_type(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let kind = document.root_element().attribute("type")?;
    Some(kind.to_owned())
}

/// A DHCP host entry, as `virNetworkUpdate` takes it (formatnetwork.html, "Addressing").
pub(super) fn host_xml(entry: &HostEntry) -> String {
    let mac = entry
        .mac
        .map(|mac| format!(" mac='{mac}'"))
        .unwrap_or_default();
    let name = entry
        .name
        .as_ref()
        .map(|name| format!(" name='{}'", escape(name)))
        .unwrap_or_default();
    format!("<host{mac}{name} ip='{}'/>", entry.ip)
}

/// A volume to be cloned from its base (formatstorage.html, "Storage volume XML").
pub(super) fn clone_xml(spec: &CloneSpec, base: &VolumeFacts) -> String {
    let backing = if spec.format == "raw" {
        String::new()
    } else {
        let path = escape(&base.source.backing_path());
        format!(
            "<backingStore><path>{path}</path><format type='{}'/></backingStore>",
            escape(&base.format)
        )
    };
    format!(
        "<volume><name>{}</name><capacity unit='bytes'>{}</capacity><allocation unit='bytes'>0</allocation>\
         <target><format type='{}'/></target>{backing}</volume>",
        escape(&spec.volume.name),
        spec.capacity,
        spec.format
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_open_a_volume_is_shown_in_one_line() {
        let xml = "<volume><target><path>/p/lb-1</path><permissions><mode>0600</mode><owner>64055</owner>\
                   <group>64055</group><label>system_u:object_r:virt_image_t:s0</label></permissions></target></volume>";
        let shown =
            "/p/lb-1, owner 64055:64055, mode 0600, label system_u:object_r:virt_image_t:s0";
        assert_eq!(access(xml).as_deref(), Some(shown));
        let bare = xml.replace("<label>system_u:object_r:virt_image_t:s0</label>", "");
        assert_eq!(access(&bare).as_deref(), shown.split(", label").next());
        assert_eq!(access("<volume/>"), None);
    }
}

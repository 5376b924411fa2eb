//! lbctl's ownership record in a domain's `<metadata>`: by it lbctl knows what it made. It holds
//! names and fingerprints, nothing secret.
//!
//! The lists may hold more than exists (a step that takes something away runs after the definition
//! that still names it, so that a crash in between loses nothing), but never less: what lbctl made
//! is always named here or recognised by its own ownership record (the seed's first bytes).

use std::fmt::Write as _;

use roxmltree::Node;

use super::HostEntry;
use crate::config::{MacAddr, VolumeRef};
use crate::release::VERSION;
use crate::text::xml::escape;

/// Namespace of the ownership record. A new one would make older ownership records foreign, so it
/// never changes.
pub const NAMESPACE: &str = "urn:lbctl:mark:1";

/// Generation of the domain's layout: raised when the XML that lbctl writes changes in a way a
/// guest should get. 2: with watchdog and panic device.
pub const LAYOUT: u32 = 2;

/// The version of the lbctl that wrote the record. It says nothing about what is recorded, so it is
/// no part of [`Ownership`]: another version alone makes no difference. lbctl 0.1.0 wrote none.
const WRITER: &str = "written-by";

/// A reservation that lbctl made,
const MADE: &str = "reservation";
/// and one that was there: under a name that lbctl 0.1.0 passes over, for it would release it.
const USED: &str = "used-reservation";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    pub layout: u32,
    pub seed: SeedRecord,
    /// Previous seeds, which may still exist.
    pub stale_seeds: Vec<VolumeRef>,
    pub disk: Option<DiskRecord>,
    pub reservations: Vec<ReservationRecord>,
}

/// The seed that the domain's CD-ROM holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRecord {
    pub volume: VolumeRef,
    /// SHA-256 over the seed's files, in hexadecimal.
    pub fingerprint: String,
    /// Of its parts: in the saved definition what the next boot brings, in the running one what
    /// the guest has. Empty: not known.
    pub parts: PartPrints,
}

/// Fingerprints of what a seed gives the guest, by how it gets there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPrints {
    /// Of the guest's specification (`render::GuestSpec`): a running guest can follow it,
    pub guest: String,
    /// but for this part of it, which takes a restart.
    pub start: String,
    /// Of hostname and network configuration: read at boot only.
    pub boot: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRecord {
    pub volume: VolumeRef,
    /// Whether lbctl cloned it, and so may delete it when asked.
    pub cloned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationRecord {
    /// uuid of the network.
    pub network: String,
    pub entry: HostEntry,
    /// Whether lbctl made it, and so releases it.
    pub made: bool,
}

/// In place of the fingerprint of what a guest has, while it is being changed to what the seed of
/// this fingerprint gives.
#[must_use]
pub fn changing_to(seed: &str) -> String {
    format!("changing to {seed}")
}

impl Ownership {
    /// The ownership record's element, for `<metadata>`.
    #[must_use]
    pub fn to_xml(&self) -> String {
        self.write("lbctl:", &format!(" xmlns:lbctl=\"{NAMESPACE}\""))
    }

    /// The same without its namespace, which `virDomainSetMetadata` adds by itself.
    #[must_use]
    pub fn to_bare_xml(&self) -> String {
        self.write("", "")
    }

    fn write(&self, prefix: &str, namespace: &str) -> String {
        let Self {
            layout,
            seed,
            stale_seeds,
            disk,
            reservations,
        } = self;
        let mut xml = format!(
            "<{prefix}mark{namespace} layout=\"{layout}\" {WRITER}=\"{}\">\n",
            escape(VERSION)
        );
        let volume =
            |v: &VolumeRef| format!("pool=\"{}\" name=\"{}\"", escape(&v.pool), escape(&v.name));
        let _ = writeln!(
            xml,
            "  <{prefix}seed {} fingerprint=\"{}\" guest=\"{}\" start=\"{}\" boot=\"{}\"/>",
            volume(&seed.volume),
            escape(&seed.fingerprint),
            escape(&seed.parts.guest),
            escape(&seed.parts.start),
            escape(&seed.parts.boot),
        );
        for stale in stale_seeds {
            let _ = writeln!(xml, "  <{prefix}stale-seed {}/>", volume(stale));
        }
        if let Some(DiskRecord {
            volume: disk,
            cloned,
        }) = disk
        {
            let cloned = if *cloned { "yes" } else { "no" };
            let _ = writeln!(
                xml,
                "  <{prefix}disk {} cloned=\"{cloned}\"/>",
                volume(disk)
            );
        }
        for ReservationRecord {
            network,
            entry,
            made,
        } in reservations
        {
            let name = if *made { MADE } else { USED };
            let _ = write!(
                xml,
                "  <{prefix}{name} network=\"{}\" ip=\"{}\"",
                escape(network),
                entry.ip
            );
            if let Some(mac) = entry.mac {
                let _ = write!(xml, " mac=\"{mac}\"");
            }
            if let Some(name) = &entry.name {
                let _ = write!(xml, " name=\"{}\"", escape(name));
            }
            xml.push_str("/>\n");
        }
        let _ = write!(xml, "</{prefix}mark>");
        xml
    }

    /// The version of the lbctl that wrote the record of a definition; `None` where it says none.
    pub(crate) fn writer(definition: &str) -> Option<String> {
        let document = roxmltree::Document::parse(definition).ok()?;
        let version = element(document.root_element())?.attribute(WRITER)?;
        let of_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        let is_one = (1..=40).contains(&version.len()) && version.chars().all(of_version);
        is_one.then(|| version.to_owned())
    }

    /// The ownership record in a `<domain>` element; `None` where there is none that this lbctl can
    /// read.
    pub(crate) fn find(domain: Node<'_, '_>) -> Option<Self> {
        let ownership = element(domain)?;
        let all = |name: &'static str| {
            ownership
                .children()
                .filter(move |n| n.has_tag_name((NAMESPACE, name)))
        };
        let seed = all("seed").next()?;
        let part = |name: &str| seed.attribute(name).unwrap_or_default().to_owned();
        Some(Self {
            layout: ownership.attribute("layout")?.parse().ok()?,
            seed: SeedRecord {
                volume: volume(seed)?,
                fingerprint: seed.attribute("fingerprint")?.to_owned(),
                parts: PartPrints {
                    guest: part("guest"),
                    start: part("start"),
                    boot: part("boot"),
                },
            },
            stale_seeds: all("stale-seed").filter_map(volume).collect(),
            disk: all("disk").next().and_then(|n| {
                Some(DiskRecord {
                    volume: volume(n)?,
                    cloned: n.attribute("cloned") == Some("yes"),
                })
            }),
            reservations: [(MADE, true), (USED, false)]
                .into_iter()
                .flat_map(|(name, made)| all(name).map(move |node| (node, made)))
                .filter_map(|(node, made)| reservation(node, made))
                .collect(),
        })
    }
}

fn element<'a, 'd>(domain: Node<'a, 'd>) -> Option<Node<'a, 'd>> {
    let metadata = domain.children().find(|n| n.has_tag_name("metadata"))?;
    metadata
        .children()
        .find(|n| n.has_tag_name((NAMESPACE, "mark")))
}

fn volume(node: Node<'_, '_>) -> Option<VolumeRef> {
    Some(VolumeRef {
        pool: node.attribute("pool")?.to_owned(),
        name: node.attribute("name")?.to_owned(),
    })
}

fn reservation(node: Node<'_, '_>, made: bool) -> Option<ReservationRecord> {
    Some(ReservationRecord {
        network: node.attribute("network")?.to_owned(),
        entry: HostEntry {
            mac: node.attribute("mac").and_then(|m| MacAddr::parse(m).ok()),
            ip: node.attribute("ip")?.parse().ok()?,
            name: node.attribute("name").map(String::from),
        },
        made,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ownership_record_is_read_as_it_was_written() {
        let volume = |name: &str| VolumeRef {
            pool: "a<b".into(),
            name: name.into(),
        };
        let ownership = Ownership {
            layout: 7,
            seed: SeedRecord {
                volume: volume("s & \"q\".iso"),
                fingerprint: "ab12".into(),
                parts: PartPrints {
                    guest: "cd34".into(),
                    start: "01".into(),
                    boot: "ef56".into(),
                },
            },
            stale_seeds: vec![volume("old.iso")],
            disk: Some(DiskRecord {
                volume: volume("disk"),
                cloned: true,
            }),
            reservations: [true, false]
                .map(|made| ReservationRecord {
                    network: "uuid".into(),
                    entry: HostEntry {
                        mac: Some(MacAddr([0x52, 0x54, 0, 1, 2, 3])),
                        ip: "192.0.2.7".parse().unwrap(),
                        name: Some("lb-1".into()),
                    },
                    made,
                })
                .into(),
        };
        let xml = format!(
            "<domain><metadata>{}</metadata></domain>",
            ownership.to_xml()
        );
        let document = roxmltree::Document::parse(&xml).unwrap();
        assert_eq!(
            Ownership::find(document.root_element()),
            Some(ownership.clone())
        );
        assert_eq!(Ownership::writer(&xml).as_deref(), Some(VERSION));
        // That of 0.1.0, and one that was written by hand.
        let own = format!(" {WRITER}=\"{VERSION}\"");
        for (written, read) in [
            (String::new(), None),
            (format!(" {WRITER}=\"9.8.7-rc.1+a\""), Some("9.8.7-rc.1+a")),
            (format!(" {WRITER}=\"a b\""), None),
        ] {
            let xml = xml.replace(&own, &written);
            let document = roxmltree::Document::parse(&xml).unwrap();
            let found = Ownership::find(document.root_element());
            assert_eq!(found, Some(ownership.clone()));
            assert_eq!(Ownership::writer(&xml).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn foreign_metadata_is_not_an_ownership_record() {
        let xml = "<domain><metadata><mark xmlns='urn:other' layout='1'/></metadata></domain>";
        let document = roxmltree::Document::parse(xml).unwrap();
        assert_eq!(Ownership::find(document.root_element()), None);
    }
}

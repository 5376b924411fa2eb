//! Which VM of which configuration is on which host: configurations held against the domains that
//! were found. Pure: what is read and asked is `list`'s.

use std::net::IpAddr;

use crate::config::VolumeRef;
use crate::host::DomainEntry;
use crate::host::ownership::LAYOUT;
use crate::output::json::{ListedDocument, Relation};

/// A VM that a configuration describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub name: String,
    pub file: String,
    /// Of the host that is asked for it.
    pub uri: String,
    /// Whether its configuration names that host, or nothing does: `--connect` names another one
    /// otherwise.
    pub is_its_host: bool,
    pub address: Option<IpAddr>,
    pub seed: VolumeRef,
}

/// What one host has; `None`: it was not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostDomains {
    pub uri: String,
    pub domains: Option<Vec<DomainEntry>>,
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub name: String,
    pub uri: String,
    pub relation: Relation,
    /// `None`: there is no domain, or it is not known.
    pub domain: Option<DomainEntry>,
    pub address: Option<String>,
    /// Generation of what lbctl wrote for it.
    pub layout: Option<u32>,
    /// The version of that lbctl.
    pub version: Option<String>,
    /// The configurations that describe it.
    pub files: Vec<String>,
    /// Those that describe a VM of that name on another host.
    pub elsewhere: Vec<String>,
}

/// In the order of the hosts, and of the names.
pub(super) fn rows(described: &[Described], hosts: &[HostDomains]) -> Vec<Row> {
    let mut rows = Vec::new();
    for host in hosts {
        let of_host: Vec<&Described> = described.iter().filter(|vm| vm.uri == host.uri).collect();
        let mut found: Vec<Row> = Vec::new();
        for domain in host.domains.iter().flatten() {
            let configured = of_host.iter().filter(|vm| vm.name == domain.name);
            let configured: Vec<&Described> = configured.copied().collect();
            if domain.ownership.is_some() || !configured.is_empty() {
                found.push(of_domain(host, domain, &configured, described));
            }
        }
        for vm in of_host {
            let known = found.iter_mut().find(|row| row.name == vm.name);
            match (known, &host.domains) {
                (Some(row), _) => {
                    if !row.files.contains(&vm.file) {
                        row.files.push(vm.file.clone());
                    }
                }
                // One that is on its own host, which is not asked, is left out.
                (None, Some(_)) => {
                    if vm.is_its_host {
                        found.push(without_domain(vm, Relation::Absent));
                    }
                }
                (None, None) if vm.is_its_host => {
                    found.push(without_domain(vm, Relation::Unknown));
                }
                (None, None) => {}
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        rows.append(&mut found);
    }
    rows
}

fn of_domain(
    host: &HostDomains,
    domain: &DomainEntry,
    configured: &[&Described],
    all: &[Described],
) -> Row {
    let relation = match (&domain.ownership, configured.is_empty()) {
        (None, _) => Relation::Foreign,
        (Some(_), true) => Relation::Orphaned,
        (Some(_), false) => Relation::Managed,
    };
    let recorded = domain.ownership.iter().flat_map(|o| &o.reservations);
    let mut recorded = recorded.map(|record| IpAddr::V4(record.entry.ip));
    let address = configured.iter().find_map(|vm| vm.address);
    let mut elsewhere: Vec<String> = Vec::new();
    if configured.is_empty() {
        let same = all.iter().filter(|vm| vm.name == domain.name);
        elsewhere.extend(same.map(|vm| vm.file.clone()));
        elsewhere.dedup();
    }
    let mut files: Vec<String> = configured.iter().map(|vm| vm.file.clone()).collect();
    files.dedup();
    Row {
        name: domain.name.clone(),
        uri: host.uri.clone(),
        relation,
        address: match relation {
            // Of somebody else's domain nothing is known.
            Relation::Foreign => None,
            _ => address.or_else(|| recorded.next()).map(|ip| ip.to_string()),
        },
        layout: domain.ownership.as_ref().map(|ownership| ownership.layout),
        version: domain.writer.clone(),
        domain: Some(domain.clone()),
        files,
        elsewhere,
    }
}

fn without_domain(vm: &Described, relation: Relation) -> Row {
    Row {
        name: vm.name.clone(),
        uri: vm.uri.clone(),
        relation,
        domain: None,
        address: vm.address.map(|ip| ip.to_string()),
        layout: None,
        version: None,
        files: vec![vm.file.clone()],
        elsewhere: Vec::new(),
    }
}

impl Row {
    /// Whether the definition is of this lbctl's generation; `None`: there is none of lbctl's.
    pub fn is_current(&self) -> Option<bool> {
        self.layout.map(|layout| layout == LAYOUT)
    }

    /// Which lbctl wrote its definition last: its version, or where that is not recorded the
    /// generation; `None`: none did.
    pub fn written_by(&self) -> Option<String> {
        let layout = || self.layout.map(|layout| format!("layout {layout}"));
        self.version.clone().or_else(layout)
    }

    /// In libvirt's words, with the reason where there is one.
    pub fn state(&self) -> String {
        match (&self.domain, self.relation) {
            (None, Relation::Unknown) => "unknown".to_owned(),
            (None, _) => "absent".to_owned(),
            (Some(domain), _) => match domain.reason {
                Some(reason) => format!("{} ({reason})", domain.state),
                None => domain.state.to_string(),
            },
        }
    }

    pub fn to_document(&self) -> ListedDocument {
        let domain = self.domain.as_ref();
        ListedDocument {
            name: self.name.clone(),
            uri: self.uri.clone(),
            relation: self.relation,
            state: match self.relation {
                Relation::Unknown => None,
                _ => Some(domain.map_or_else(|| "absent".into(), |d| d.state.to_string())),
            },
            reason: domain
                .and_then(|d| d.reason)
                .map(|reason| reason.to_string()),
            address: self.address.clone(),
            version: self.version.clone(),
            layout: self.layout,
            layout_is_current: self.is_current(),
            files: self.files.clone(),
            elsewhere: self.elsewhere.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VolumeRef;
    use crate::host::DomainState;
    use crate::host::ownership::{Ownership, PartPrints, SeedRecord};

    fn domain(name: &str, is_ours: bool) -> DomainEntry {
        let nothing = String::new;
        let ownership = Ownership {
            layout: LAYOUT - 1,
            seed: SeedRecord {
                volume: VolumeRef {
                    pool: "default".into(),
                    name: format!("{name}.iso"),
                },
                fingerprint: nothing(),
                parts: PartPrints {
                    guest: nothing(),
                    start: nothing(),
                    boot: nothing(),
                },
            },
            stale_seeds: Vec::new(),
            disk: None,
            reservations: Vec::new(),
        };
        DomainEntry {
            name: name.into(),
            state: DomainState::Running,
            reason: None,
            ownership: is_ours.then_some(ownership),
            writer: None,
            sources: Vec::new(),
        }
    }

    fn described(name: &str, uri: &str, file: &str) -> Described {
        Described {
            name: name.into(),
            file: file.into(),
            uri: uri.into(),
            is_its_host: true,
            address: None,
            seed: VolumeRef {
                pool: "default".into(),
                name: format!("{name}.iso"),
            },
        }
    }

    fn host(uri: &str, domains: Vec<DomainEntry>) -> HostDomains {
        HostDomains {
            uri: uri.into(),
            domains: Some(domains),
        }
    }

    #[test]
    fn each_vm_has_its_configuration_and_what_has_none_is_said() {
        let hosts = [
            host(
                "a",
                vec![
                    domain("lb-1", true),
                    domain("lb-2", false),
                    domain("orphan", true),
                    domain("moved", true),
                    domain("somebody's", false),
                ],
            ),
            host("b", Vec::new()),
            HostDomains {
                uri: "c".into(),
                domains: None,
            },
        ];
        let described = [
            described("lb-1", "a", "1.toml"),
            described("lb-1", "a", "copy.toml"),
            described("lb-2", "a", "2.toml"),
            described("moved", "b", "moved.toml"),
            described("far", "c", "far.toml"),
        ];
        let rows = rows(&described, &hosts);
        let seen: Vec<(&str, Relation, usize, usize)> = rows
            .iter()
            .map(|row| {
                let (files, elsewhere) = (row.files.len(), row.elsewhere.len());
                (row.name.as_str(), row.relation, files, elsewhere)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("lb-1", Relation::Managed, 2, 0),
                ("lb-2", Relation::Foreign, 1, 0),
                ("moved", Relation::Orphaned, 0, 1),
                ("orphan", Relation::Orphaned, 0, 0),
                ("moved", Relation::Absent, 1, 0),
                ("far", Relation::Unknown, 1, 0),
            ]
        );
        assert_eq!(rows[0].is_current(), Some(false));
        assert_eq!(rows[5].to_document().state, None);
    }

    #[test]
    fn with_another_host_given_what_is_not_there_is_not_listed() {
        let elsewhere = Described {
            is_its_host: false,
            ..described("lb-1", "a", "1.toml")
        };
        let there = host("a", vec![domain("lb-1", true)]);
        assert_eq!(
            rows(std::slice::from_ref(&elsewhere), &[there])[0].relation,
            Relation::Managed
        );
        assert!(rows(&[elsewhere], &[host("a", Vec::new())]).is_empty());
    }
}

//! What only `lbctl list` asks: every domain of a host in a few words, and what could be a seed in
//! its pools. Nothing here changes anything.

use virt::error::ErrorNumber;
use virt::sys;

use super::definition::{Definition, Source};
use super::libvirt::LibvirtHost;
use super::ownership::Ownership;
use super::{
    DomainState, HostError, HostErrorKind, HostReader as _, HostResult, Listed, StateReason,
    VolumeFacts, VolumeState,
};
use crate::config::VolumeRef;

/// A domain as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainEntry {
    pub name: String,
    pub state: DomainState,
    /// `None`: the state says it all.
    pub reason: Option<StateReason>,
    /// `None`: lbctl did not make it.
    pub ownership: Option<Ownership>,
    /// The version of the lbctl that wrote that last; `None`: it says none.
    pub writer: Option<String>,
    /// Of its disks and drives, now and at the next start.
    pub sources: Vec<Source>,
}

impl DomainEntry {
    /// Whether lbctl's record of the domain names it: the seed in use, or one of before.
    #[must_use]
    pub fn has_seed(&self, at: &VolumeRef) -> bool {
        let mut recorded = self.ownership.iter();
        recorded.any(|o| o.seed.volume == *at || o.stale_seeds.contains(at))
    }
}

impl LibvirtHost {
    /// Every domain, in the order of their names.
    pub fn domains(&self) -> HostResult<Vec<DomainEntry>> {
        let doing = "listing the host's domains";
        let listed = self.call(doing, || self.connection.list_all_domains(0))?;
        let entries = self.pace.each(&listed, |domain| {
            let name = domain.name().map_err(|e| super::error::error(doing, &e))?;
            let doing = format!("reading the definition of domain {name}");
            // One that was removed since it was listed is not there.
            let gone = ErrorNumber::NoDomain;
            let mut writer = None;
            let mut read = |flags| {
                let text = self.find(&doing, gone, || domain.xml_desc(flags))?;
                // That of the saved definition, which is read last: the running one is older.
                writer = text
                    .as_deref()
                    .and_then(Ownership::writer)
                    .or(writer.take());
                let parsed = text.map(|text| Definition::parse(&text));
                parsed
                    .transpose()
                    .map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))
            };
            let mut definitions = Vec::new();
            definitions.extend(read(0)?);
            if domain.id().is_some() {
                definitions.extend(read(sys::VIR_DOMAIN_XML_INACTIVE)?);
            }
            let state = match self.state_of(domain, &doing) {
                Err(error) if error.kind == HostErrorKind::NotFound => return Ok(None),
                state => state?,
            };
            let entry = (!definitions.is_empty()).then(|| entry(name, state, definitions, writer));
            Ok::<_, HostError>(entry)
        })?;
        let mut entries: Vec<DomainEntry> = entries.into_iter().flatten().collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The volumes of all active pools whose name ends so and which are not larger than that. What
    /// cannot be read is left out.
    pub fn volumes_like(&self, end: &str, most: u64) -> Vec<VolumeFacts> {
        let mut candidates = Vec::new();
        for pool in self.names(&Listed::Pools) {
            let names = self.names(&Listed::Volumes(pool.clone())).into_iter();
            let fitting = names.filter(|name| name.ends_with(end));
            candidates.extend(fitting.map(|name| VolumeRef {
                pool: pool.clone(),
                name,
            }));
        }
        let found = self.pace.each(&candidates, |at| {
            Ok::<_, HostError>(match self.volume(at) {
                Ok(VolumeState::Present(facts)) if facts.capacity <= most => Some(*facts),
                _ => None,
            })
        });
        found.unwrap_or_default().into_iter().flatten().collect()
    }
}

fn entry(
    name: String,
    (state, reason): (DomainState, Option<StateReason>),
    definitions: Vec<Definition>,
    writer: Option<String>,
) -> DomainEntry {
    let mut ownership = None;
    let mut sources = Vec::new();
    for definition in definitions {
        ownership = ownership.or(definition.ownership);
        let disks = definition.disks.into_iter();
        sources.extend(disks.filter_map(|disk| disk.source));
    }
    DomainEntry {
        name,
        state,
        reason,
        writer: writer.filter(|_| ownership.is_some()),
        ownership,
        sources,
    }
}

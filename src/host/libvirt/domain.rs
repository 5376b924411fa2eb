//! What a domain is: its definitions, its state, and what is beside them.

use std::ffi::CString;

use virt::domain::{Domain, DomainStateReason, DomainStateReasonEnum};
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::sys;

use super::LibvirtHost;
use crate::host::definition::Definition;
use crate::host::error::{domain_state, error, state_reason};
use crate::host::sys as unwrapped;
use crate::host::{
    DiskJob, DomainFacts, DomainState, HostError, HostErrorKind, HostResult, SavedState, Snapshot,
    StateReason, definition,
};
use crate::secret::Secret;

impl LibvirtHost {
    /// The block jobs of a running domain that no definition shows: a pull, a commit below the top,
    /// a backup. `targets`: the disks to ask about. None where the domain, or its run, has ended
    /// meanwhile: another lbctl may have seen to that.
    pub fn block_jobs(&self, name: &str, targets: &[String]) -> HostResult<Vec<DiskJob>> {
        let doing = format!("asking for block jobs of domain {name}");
        match self.running_jobs(name, targets, &doing) {
            Err(HostError {
                kind: HostErrorKind::NotFound | HostErrorKind::State,
                ..
            }) => Ok(Vec::new()),
            asked => asked,
        }
    }

    fn running_jobs(
        &self,
        name: &str,
        targets: &[String],
        doing: &str,
    ) -> HostResult<Vec<DiskJob>> {
        let domain = self.lookup(name, doing)?;
        let mut jobs = Vec::new();
        for target in targets {
            let Ok(disk) = CString::new(target.as_str()) else {
                continue;
            };
            let kind = self.call(doing, || unwrapped::block_job(&domain, &disk))?;
            jobs.extend(kind.map(|kind| DiskJob {
                target: target.clone(),
                kind: kind.to_owned(),
            }));
        }
        Ok(jobs)
    }

    /// Its definitions, its state, and what is beside them.
    pub(super) fn read_domain(&self, name: &str) -> HostResult<Option<DomainFacts>> {
        let doing = format!("looking up domain {name}");
        let Some(domain) = self.find_domain(name, &doing)? else {
            return Ok(None);
        };
        let doing = format!("reading the state of domain {name}");
        let reading = format!("reading the definition of domain {name}");
        let saving = format!("reading the managed save of domain {name}");
        // As of the look-up, which decides only what is asked at once.
        let ran = domain.id().is_some();
        let live_text = || self.call(&reading, || domain.xml_desc(0));
        let is_saved = || self.call(&saving, || domain.has_managed_save(0));
        let pace = self.pace;
        let ((state, (persistent, autostart)), (text, (beside, snapshots))) = pace.together(
            || {
                pace.together(
                    || self.state_of(&domain, &doing),
                    || {
                        pace.together(
                            || self.call(&doing, || domain.is_persistent()),
                            || self.call(&doing, || domain.autostart()),
                        )
                    },
                )
            },
            || {
                pace.together(
                    || self.saved_text(&domain, name),
                    || {
                        pace.together(
                            || {
                                if ran {
                                    live_text().map(|text| (Some(text), None))
                                } else {
                                    is_saved().map(|saved| (None, Some(saved)))
                                }
                            },
                            || self.snapshots(&domain, name),
                        )
                    },
                )
            },
        );
        let ((state, reason), persistent, text) = (state?, persistent?, text?);
        let (live, saved) = beside?;
        let config = Self::parsed(&text, name)?;
        let live = match (state.is_active(), live) {
            (true, Some(text)) => Some(Self::parsed(&text, name)?),
            (true, None) => Some(Self::parsed(&live_text()?, name)?),
            (false, _) => None,
        };
        let autostart = persistent && autostart?;
        let uuid = definition::uuid(&text).unwrap_or_default();
        let saved = match (live.is_none() && persistent, saved) {
            (true, Some(saved)) => saved,
            (true, None) => is_saved()?,
            (false, _) => false,
        };
        let saved = saved.then(|| self.saved_state(&domain, name));
        let snapshots = snapshots?;
        // The reason is lost when the daemon is restarted; a saved state that was removed leaves
        // it.
        let reason = match (&saved, reason) {
            (Some(_), _) => Some(StateReason::Saved),
            (None, Some(StateReason::Saved)) => None,
            (None, reason) => reason,
        };
        Ok(Some(DomainFacts {
            name: name.to_owned(),
            uuid,
            state,
            reason,
            autostart,
            persistent,
            config,
            config_xml: Secret::new(text),
            live,
            saved,
            snapshots,
        }))
    }

    /// State, reason, and whether it has a QEMU process: a crashed domain may have one.
    pub(in crate::host) fn state_of(
        &self,
        domain: &Domain,
        doing: &str,
    ) -> HostResult<(DomainState, Option<StateReason>)> {
        let (state, reason) = self.call(doing, || domain.state())?;
        let raw = state.to_raw();
        let reason = state_reason(raw, raw_reason(&reason));
        Ok((domain_state(raw, domain.id().is_some()), reason))
    }

    /// Of a domain that has a managed save: the next start resumes from it.
    pub(super) fn saved_state(&self, domain: &Domain, name: &str) -> SavedState {
        self.begin(format_args!("reading the managed save of domain {name}"));
        // One that cannot be read is there all the same.
        let text = unwrapped::managed_save_xml(domain).ok();
        let definition = text.and_then(|text| Definition::parse(&text).ok());
        SavedState { definition }
    }

    pub(super) fn snapshots(&self, domain: &Domain, name: &str) -> HostResult<Vec<Snapshot>> {
        let doing = format!("listing the snapshots of domain {name}");
        let mut snapshots = Vec::new();
        for snapshot in self.call(&doing, || domain.list_all_snapshots(0))? {
            let of = snapshot.name().map_err(|e| error(&doing, &e))?;
            let doing = format!("reading snapshot {of} of domain {name}");
            // One that was deleted since it was listed names nothing.
            let absent = ErrorNumber::NoDomainSnapshot;
            let Some(text) = self.find(&doing, absent, || snapshot.xml_desc(0))? else {
                continue;
            };
            let read = definition::snapshot(&text, &of)
                .map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))?;
            snapshots.push(read);
        }
        Ok(snapshots)
    }

    /// With the passwords of its devices, as `virsh edit` reads it: without them they would be lost
    /// by the next definition.
    pub(super) fn saved_text(&self, domain: &Domain, name: &str) -> HostResult<String> {
        let doing = format!("reading the definition of domain {name}");
        let flags = sys::VIR_DOMAIN_XML_INACTIVE;
        match self.call(&doing, || {
            domain.xml_desc(flags | sys::VIR_DOMAIN_XML_SECURE)
        }) {
            // Rules of polkit may allow all but that.
            Err(error) if error.kind == HostErrorKind::Permission => {
                self.call(&doing, || domain.xml_desc(flags))
            }
            read => read,
        }
    }

    pub(super) fn parsed(text: &str, name: &str) -> HostResult<Definition> {
        Definition::parse(text).map_err(|said| {
            let doing = format!("reading the definition of domain {name}");
            HostError::new(HostErrorKind::Other, doing, said)
        })
    }
}

/// The number beside a state, whose meaning depends on the state.
fn raw_reason(reason: &DomainStateReasonEnum) -> u32 {
    match reason {
        Enum::Known(DomainStateReason::Paused(reason)) => reason.to_raw(),
        Enum::Known(DomainStateReason::Shutoff(reason)) => reason.to_raw(),
        Enum::Known(DomainStateReason::Crashed(reason)) => reason.to_raw(),
        _ => 0,
    }
}

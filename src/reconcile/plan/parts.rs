//! What the parts of a plan found, and the steps before and after a definition.

use super::Step;
use super::disk::DiskPart;
use super::network::NetworkPart;
use super::seeds::{SeedPart, delete_seed};
use super::step::DefineStep;
use crate::host::ownership::Ownership;
use crate::render::domain::DomainSpec;
use crate::render::domain::edit::Existing;

/// What the parts of the plan found.
pub(super) struct Parts {
    pub network: NetworkPart,
    pub disk: DiskPart,
    pub seed: SeedPart,
    pub ownership: Ownership,
}

impl Parts {
    pub fn define(
        &self,
        spec: &DomainSpec,
        existing: Option<Existing>,
        known: Vec<String>,
    ) -> Step {
        let (ownership, root) = (self.ownership.clone(), self.disk.root.clone());
        Step::Define(Box::new(DefineStep {
            spec: spec.clone(),
            existing,
            ownership,
            root,
            format: self.disk.format.clone(),
            known,
        }))
    }

    /// What nothing refers to any more after all other steps.
    pub fn cleaning(&self, domain: &str) -> impl Iterator<Item = Step> {
        let stale = self.seed.stale.iter();
        let delete = stale.map(|at| delete_seed(domain, at.clone()));
        delete.chain(self.network.release.clone())
    }
}

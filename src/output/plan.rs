//! A plan as a document, for programs.

use super::json::{ChangeDocument, ClassDocument, PlanDocument, StepDocument, TargetDocument};
use crate::reconcile::plan::{Change, Class, Plan, Step, Target};

impl From<&Plan> for PlanDocument {
    fn from(plan: &Plan) -> Self {
        let Plan {
            name,
            changes,
            steps,
            notes,
        } = plan;
        Self {
            name: name.clone(),
            empty: plan.is_empty(),
            changes: changes.iter().map(ChangeDocument::from).collect(),
            steps: steps.iter().map(ToString::to_string).collect(),
            step_details: steps.iter().map(StepDocument::from).collect(),
            notes: notes.clone(),
            restart: changes.iter().any(|c| c.class == Class::Restart),
        }
    }
}

impl From<&Change> for ChangeDocument {
    fn from(change: &Change) -> Self {
        let Change {
            subject,
            from,
            to,
            class,
            diff,
        } = change;
        Self {
            kind: subject.kind(),
            what: subject.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            class: match class {
                Class::Create => ClassDocument::Create,
                Class::Live => ClassDocument::Live,
                Class::Restart => ClassDocument::Restart,
                Class::Replace => ClassDocument::Replace,
            },
            diff: diff.clone(),
        }
    }
}

impl From<&Step> for StepDocument {
    fn from(step: &Step) -> Self {
        Self {
            kind: step.kind(),
            target: step.target().into(),
            text: step.to_string(),
        }
    }
}

impl From<Target> for TargetDocument {
    fn from(target: Target) -> Self {
        let none = Self::default();
        match target {
            Target::Domain(domain)
            | Target::Guest(domain)
            | Target::CertificateOf(domain)
            | Target::AutostartOf(domain) => Self {
                domain: Some(domain),
                ..none
            },
            Target::Volume(at) | Target::Seed(at) => Self {
                volume: Some(at.to_string()),
                ..none
            },
            Target::Entry { network, entry } => Self {
                network: Some(network.name),
                address: Some(entry.ip.to_string()),
                mac: entry.mac.map(|mac| mac.to_string()),
                host_name: entry.name,
                ..none
            },
            Target::CloneOf {
                volume,
                base,
                capacity,
            } => Self {
                volume: Some(volume.to_string()),
                base: Some(base.to_string()),
                bytes: Some(capacity),
                ..none
            },
            Target::SizeOf { volume, capacity } => Self {
                volume: Some(volume.to_string()),
                bytes: Some(capacity),
                ..none
            },
            Target::LiveDisk {
                domain,
                device,
                capacity,
            } => Self {
                domain: Some(domain),
                device: Some(device),
                bytes: Some(capacity),
                ..none
            },
            Target::Drive { domain, seed } => Self {
                domain: Some(domain),
                volume: Some(seed.to_string()),
                ..none
            },
            Target::Ownership { domain, note } => Self {
                domain: Some(domain),
                record: Some(note),
                ..none
            },
        }
    }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::config::{MacAddr, VolumeRef};
    use crate::host::{CloneSpec, HostEntry, NetworkId, Scope};
    use crate::reconcile::plan::{Condition, Subject, Value};

    fn volume(pool: &str, name: &str) -> VolumeRef {
        VolumeRef {
            pool: pool.into(),
            name: name.into(),
        }
    }

    fn change(subject: Subject, from: Value, to: Value) -> Change {
        Change {
            subject,
            from,
            to,
            class: Class::Live,
            diff: String::new(),
        }
    }

    #[test]
    fn programs_get_kinds_and_targets_beside_the_words() {
        let path = "/etc/haproxy/haproxy.cfg";
        let reserve = Step::Reserve {
            network: NetworkId {
                name: "lab".into(),
                uuid: "net-uuid".into(),
            },
            entry: HostEntry {
                mac: Some(MacAddr([0x52, 0x54, 0, 1, 2, 3])),
                ip: "192.0.2.20".parse().unwrap(),
                name: None,
            },
            scope: Scope {
                config: true,
                live: false,
            },
        };
        let clone = Step::CloneVolume(CloneSpec {
            volume: volume("default", "lb-1"),
            base: volume("os", "base"),
            capacity: 1 << 30,
            format: "qcow2",
        });
        let plan = Plan {
            name: "lb-1".into(),
            changes: vec![
                change(Subject::Memory, Value::Memory(1024), Value::Memory(2048)),
                change(
                    Subject::File(path.into()),
                    Value::Nothing,
                    Condition::New.into(),
                ),
            ],
            steps: vec![reserve, clone],
            notes: Vec::new(),
        };
        let document: Json = serde_json::to_value(PlanDocument::from(&plan)).unwrap();
        let change = |kind: &str, what: &str, from: &str, to: &str| json!({"kind": kind, "what": what, "from": from, "to": to, "class": "live", "diff": ""});
        let changes = [
            change("memory", "memory", "1024 MiB", "2048 MiB"),
            change("file", path, "", "new"),
        ];
        assert_eq!(document["changes"], json!(changes));
        let texts = [
            "reserve 192.0.2.20 for 52:54:00:01:02:03 in network lab",
            "clone volume default/lb-1 (1 GiB) from os/base",
        ];
        assert_eq!(document["steps"], json!(texts));
        assert_eq!(
            document["step_details"],
            json!([
                {
                    "kind": "reserve",
                    "target": {
                        "network": "lab", "address": "192.0.2.20", "mac": "52:54:00:01:02:03",
                    },
                    "text": texts[0],
                },
                {
                    "kind": "clone-volume",
                    "target": {"volume": "default/lb-1", "base": "os/base", "bytes": 1 << 30},
                    "text": texts[1],
                },
            ])
        );
    }
}

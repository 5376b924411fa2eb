//! A plan as a document, for programs, and its changes as lines, for people.

use super::json::{
    ChangeDocument, ClassDocument, PlanDocument, StepDocument, StepState, TargetDocument,
};
use crate::reconcile::plan::{Change, Class, Plan, Step, Target, Value};
use crate::text::styled::{Style, Styled};

/// A change as a line: a sign for its class, what changes, and the class in a word.
#[must_use]
pub fn change_line(change: &Change) -> Styled {
    let (sign, style) = match change.class {
        // What is on it is lost, whoever takes the sessions.
        _ if matches!(change.to, Value::MadeAnew { .. }) => ("-/+", Style::Bad),
        Class::Create => ("+", Style::Good),
        Class::Live => ("~", Style::Calm),
        Class::Handover => ("~", Style::Caution),
        Class::Restart => ("!", Style::Grave),
        Class::Replace => ("-/+", Style::Bad),
    };
    let text = change.to_string();
    let word = format!("({})", change.class);
    let line = Styled::from("  ").and(style, sign).plus(" ");
    match text.strip_suffix(&word) {
        Some(before) => line.plus(before).and(style, &word),
        None => line.plus(&text),
    }
}

/// A line of a unified diff.
#[must_use]
pub fn diff_line(line: &str) -> Styled {
    let style = match line.chars().next() {
        Some('+') => Style::Good,
        Some('-') => Style::Removed,
        Some('@') => Style::Calm,
        _ => return format!("    {line}").into(),
    };
    Styled::from("    ").and(style, line)
}

impl From<&Plan> for PlanDocument {
    fn from(plan: &Plan) -> Self {
        let Plan {
            name,
            changes,
            steps,
            notes,
            continues,
            no_spare: _,
        } = plan;
        Self {
            name: name.clone(),
            empty: plan.is_empty(),
            changes: changes.iter().map(ChangeDocument::from).collect(),
            steps: steps.iter().map(ToString::to_string).collect(),
            step_details: steps.iter().map(StepDocument::from).collect(),
            notes: notes.clone(),
            continues: *continues,
            uri: String::new(),
            changed: false,
            restart: !plan.needing_restart().is_empty(),
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
                Class::Handover => ClassDocument::Handover,
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
            state: StepState::Planned,
            seconds: None,
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
            | Target::AddressOf(domain)
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
            Target::Image {
                volume,
                source,
                size,
            } => Self {
                volume: Some(volume.to_string()),
                image: Some(source.to_string()),
                bytes: size,
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
            continues: false,
            no_spare: false,
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
                    "text": texts[0], "state": "planned", "seconds": null,
                },
                {
                    "kind": "clone-volume",
                    "target": {"volume": "default/lb-1", "base": "os/base", "bytes": 1 << 30},
                    "text": texts[1], "state": "planned", "seconds": null,
                },
            ])
        );
    }
}

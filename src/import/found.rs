//! What was found out about a VM, as values of the configuration's keys. Two sources that know the
//! same VM are held against each other key by key.

use std::collections::BTreeMap;

use crate::config::KEYS;
use crate::secret::Secret;
use crate::text::sanitize::sanitize_line;

/// A key of the configuration: the path of its table as `config::keys` declares it (`""` at the
/// top, `chrony.servers` for a list of tables), which table of a list, and its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub table: &'static str,
    pub index: usize,
    pub key: &'static str,
}

impl Place {
    /// As messages name it: `libvirt_networks[0].ip`.
    #[must_use]
    pub fn path(&self) -> String {
        let Self { table, index, key } = self;
        match *table {
            "" => (*key).to_owned(),
            table if is_list(table) => format!("{table}[{index}].{key}"),
            table => format!("{table}.{key}"),
        }
    }
}

/// Whether the table is one of a list.
#[must_use]
pub fn is_list(table: &str) -> bool {
    KEYS.iter().any(|key| key.parent() == format!("{table}[]"))
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Whole(i64),
    Real(f64),
    Truth(bool),
    Texts(Vec<String>),
    /// In a file beside the configuration.
    File {
        name: &'static str,
        /// `None`: nobody knows it.
        content: Option<Content>,
    },
}

/// What a file beside the configuration holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Open(String),
    Secret(Secret),
}

impl Content {
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Open(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

impl Value {
    /// For a message; nothing of a file's content.
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{}\"", sanitize_line(text, 60)),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Texts(texts) => sanitize_line(&texts.join(", "), 60),
            Self::File { .. } => "another content".to_owned(),
        }
    }
}

/// A value, and what its reader should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub value: Value,
    pub remark: Option<String>,
}

/// What one source, or both together, know.
#[derive(Debug, Default)]
pub struct Found {
    pub values: BTreeMap<Place, Entry>,
    /// What has no key, or was not read: one sentence each.
    pub notes: Vec<String>,
    /// The configuration of HAProxy was found, and so what is in the guest is known.
    pub is_load_balancer: bool,
}

impl Found {
    pub fn put(&mut self, table: &'static str, key: &'static str, value: Value) {
        self.put_at(table, 0, key, value);
    }

    pub fn put_at(&mut self, table: &'static str, index: usize, key: &'static str, value: Value) {
        let remark = None;
        self.values
            .insert(Place { table, index, key }, Entry { value, remark });
    }

    pub fn text(&mut self, table: &'static str, key: &'static str, text: impl Into<String>) {
        self.put(table, key, Value::Text(text.into()));
    }

    /// Says something behind a value that is there.
    pub fn remark(&mut self, table: &'static str, key: &'static str, words: impl Into<String>) {
        let place = Place {
            table,
            index: 0,
            key,
        };
        if let Some(entry) = self.values.get_mut(&place) {
            entry.remark = Some(words.into());
        }
    }

    pub fn note(&mut self, words: impl AsRef<str>) {
        let words = sanitize_line(words.as_ref(), 300);
        if !self.notes.contains(&words) {
            self.notes.push(words);
        }
    }

    #[must_use]
    pub fn get(&self, table: &'static str, key: &'static str) -> Option<&Value> {
        let place = Place {
            table,
            index: 0,
            key,
        };
        self.values.get(&place).map(|entry| &entry.value)
    }

    /// Whether any key of the table is known.
    #[must_use]
    pub fn has(&self, table: &str) -> bool {
        self.values.keys().any(|place| place.table == table)
    }
}

/// Tables that one source describes whole: what the other one adds to them is another VM's, or
/// older.
const WHOLE: [&[&str]; 2] = [
    &[
        "libvirt_network",
        "libvirt_networks",
        "macvtap_interfaces",
        "bridge_interfaces",
    ],
    &["volume"],
];

/// Both sources together. The host says what there is now, so it wins; where the state says
/// otherwise, the third list has it, a sentence for each key.
#[must_use]
pub fn merge(host: Found, state: Found) -> (Found, Vec<String>) {
    let mut merged = host;
    let mut differences = Vec::new();
    let known: Vec<bool> = WHOLE
        .iter()
        .map(|tables| tables.iter().any(|table| merged.has(table)))
        .collect();
    let has_disk = merged.has("volume") || merged.get("", "volume_id").is_some();
    for (place, entry) in state.values {
        let is_disk = matches!(place.key, "volume_id" | "volume_format");
        match merged.values.get(&place) {
            Some(own) if is_same(&place, &own.value, &entry.value) => {
                let own_remark = own.remark.is_none();
                if let (true, Some(own)) = (own_remark, merged.values.get_mut(&place)) {
                    own.remark = entry.remark;
                }
            }
            Some(own) => {
                let (own, other) = (own.value.shown(), entry.value.shown());
                let path = place.path();
                differences.push(if own == other {
                    format!("{path} differs in the state")
                } else {
                    format!("{path} is {own} on the host, and {other} in the state")
                });
            }
            None => {
                // The same in other words: the host's are a volume by pool and name, and names.
                if is_disk && has_disk || place.key == "network_id" && merged.has(place.table) {
                    continue;
                }
                let whole = WHOLE.iter().zip(&known);
                let of_host = whole
                    .into_iter()
                    .any(|(tables, known)| *known && tables.contains(&place.table));
                if of_host {
                    let (path, other) = (place.path(), entry.value.shown());
                    differences.push(format!(
                        "{path} is {other} in the state, and not on the host"
                    ));
                } else {
                    merged.values.insert(place, entry);
                }
            }
        }
    }
    for note in state.notes {
        merged.note(note);
    }
    merged.is_load_balancer |= state.is_load_balancer;
    (merged, differences)
}

/// Whether two sources say the same, in the words of each.
fn is_same(place: &Place, host: &Value, state: &Value) -> bool {
    match (place.key, host, state) {
        // libvirt makes a version of what was asked for.
        ("machine", Value::Text(host), Value::Text(state)) => {
            host == state
                || host
                    .strip_prefix("pc-")
                    .is_some_and(|rest| match state.as_str() {
                        "pc" => rest.starts_with("i440fx-"),
                        "q35" => rest.starts_with("q35-"),
                        _ => false,
                    })
        }
        _ => host == state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_wins_and_what_it_does_not_know_is_taken() {
        let (mut host, mut state) = (Found::default(), Found::default());
        host.put("", "vcpus", Value::Whole(2));
        state.put("", "vcpus", Value::Whole(4));
        host.text("libvirt", "machine", "pc-i440fx-7.2");
        state.text("libvirt", "machine", "pc");
        host.text("libvirt_network", "network_name", "lab");
        state.put_at(
            "libvirt_networks",
            0,
            "ip",
            Value::Text("192.0.2.1\u{1b}".into()),
        );
        let key = |text: &str| Value::File {
            name: "ca.key",
            content: Some(Content::Secret(Secret::new(text))),
        };
        state.put("haproxy.patroni_client", "ca_key", key("hunter2"));
        let (merged, differences) = merge(host, state);
        assert_eq!(merged.get("", "vcpus"), Some(&Value::Whole(2)));
        assert_eq!(
            merged.get("haproxy.patroni_client", "ca_key"),
            Some(&key("hunter2"))
        );
        assert_eq!(
            differences,
            [
                "vcpus is 2 on the host, and 4 in the state",
                "libvirt_networks[0].ip is \"192.0.2.1\" in the state, and not on the host",
            ]
        );
        assert!(!format!("{merged:?}").contains("hunter2"));
    }
}

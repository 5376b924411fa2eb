//! The configuration's text, from what was found. What is required and was not found stands there
//! as a comment to be filled in.

use std::collections::BTreeSet;

use super::found::{Content, Entry, Found, Place, Value, is_list};
use crate::config::keys::find;
use crate::config::{KEYS, Key, Need};
use crate::text::sanitize::{drives_terminal, sanitize_line};
use crate::text::width::wrap;

/// Columns of a comment.
const COLUMNS: usize = 100;

/// Required in a configuration of the module's kind; elsewhere something else may take their place.
const NEEDED: [&str; 4] = [
    "haproxy.postgres_nodes_max_count",
    "haproxy.postgres_nameserver_ips",
    "haproxy.postgres_domain",
    "haproxy.patroni_client.ca_key",
];
/// Tables that a configuration has always.
const ALWAYS: [&str; 3] = ["", "haproxy", "haproxy.patroni_client"];
const FIXED_CARDS: [&str; 2] = ["libvirt_networks", "macvtap_interfaces"];

/// What is required and is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// As messages name it.
    pub key: String,
    pub why: String,
}

/// A configuration, and the files that it refers to.
#[derive(Debug)]
pub struct Written {
    pub text: String,
    pub files: Vec<(&'static str, Content)>,
    pub missing: Vec<Missing>,
}

/// Writes all of it; `about` stands at the top, a paragraph each.
#[must_use]
pub fn write(found: &Found, about: &[String]) -> Written {
    let mut written = Written {
        text: String::new(),
        files: Vec::new(),
        missing: Vec::new(),
    };
    for paragraph in about {
        written.comment(paragraph);
    }
    let mut seen = BTreeSet::new();
    for key in KEYS.iter().filter(|key| !key.is_table()) {
        let table = key.parent();
        if seen.insert(table) {
            written.tables(found, table);
        }
    }
    written
}

impl Written {
    fn comment(&mut self, text: &str) {
        for line in wrap(&sanitize_line(text, 2000), COLUMNS - 2) {
            self.line(format!("# {line}").trim_end());
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The tables of a path, as many as there are.
    fn tables(&mut self, found: &Found, path: &'static str) {
        let table = path.strip_suffix("[]").unwrap_or(path);
        let of_table = found.values.keys().filter(|place| place.table == table);
        let mut indices: BTreeSet<usize> = of_table.map(|place| place.index).collect();
        if ALWAYS.contains(&table) {
            indices.insert(0);
        }
        for index in indices {
            if table.is_empty() {
                if !self.text.is_empty() {
                    self.line("");
                }
            } else {
                let (open, close) = if is_list(table) {
                    ("[[", "]]")
                } else {
                    ("[", "]")
                };
                self.line(&format!("\n{open}{table}{close}"));
            }
            for key in KEYS
                .iter()
                .filter(|key| key.parent() == path && !key.is_table())
            {
                let place = Place {
                    table,
                    index,
                    key: key.name(),
                };
                match found.values.get(&place) {
                    Some(entry) => self.entry(&place, entry),
                    None if is_needed(found, key, &place) => {
                        self.todo(key, &place, "neither the host nor a state says it");
                    }
                    None => {}
                }
            }
            if table.is_empty() {
                self.alternatives(found);
            }
        }
    }

    fn entry(&mut self, place: &Place, entry: &Entry) {
        let mut remark = entry.remark.clone();
        let value = match &entry.value {
            Value::Text(value) => quoted(value),
            Value::Whole(value) => value.to_string(),
            Value::Real(value) => toml::Value::from(*value).to_string(),
            Value::Truth(value) => value.to_string(),
            Value::Texts(values) => {
                let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                format!("[{}]", values.join(", "))
            }
            Value::File { name, content } => {
                if let Some(content) = content {
                    self.files.push((*name, content.clone()));
                } else {
                    let why = format!("put it into the file {name}, mode 0600");
                    remark = Some(format!("TODO: {why}"));
                    let key = place.path();
                    self.missing.push(Missing { key, why });
                }
                format!("{{ file = {} }}", quoted(name))
            }
        };
        let remark = remark.map(|remark| format!("  # {}", sanitize_line(&remark, 200)));
        let key = place.key;
        self.line(&format!("{key} = {value}{}", remark.unwrap_or_default()));
    }

    fn todo(&mut self, key: &Key, place: &Place, why: &str) {
        self.missing.push(Missing {
            key: place.path(),
            why: why.to_owned(),
        });
        let example = key.example();
        self.line(&format!(
            "# TODO: {} = {example}  # {}",
            place.key, key.meaning
        ));
    }

    /// What a configuration has one of: a root disk, and network interfaces.
    fn alternatives(&mut self, found: &Found) {
        let has_disk = found.get("", "volume_id").is_some() || found.has("volume");
        let cards = [
            "libvirt_network",
            "libvirt_networks",
            "macvtap_interfaces",
            "bridge_interfaces",
        ];
        let has_card = cards.iter().any(|table| found.has(table));
        if !has_disk && let Some(key) = find("volume_id") {
            let place = Place {
                table: "",
                index: 0,
                key: "volume_id",
            };
            self.todo(key, &place, "no root disk was found");
        }
        if !has_card {
            self.missing.push(Missing {
                key: "libvirt_network".into(),
                why: "no network interface was found for which lbctl has a key".into(),
            });
            self.line("# TODO: [libvirt_network], [[libvirt_networks]], [[macvtap_interfaces]] or [[bridge_interfaces]]");
        }
    }
}

/// A text of TOML on one line, in which nothing is left that a terminal obeys or a reader cannot
/// see.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match (c, u32::from(c)) {
            ('"' | '\\', _) => quoted.extend(['\\', c]),
            (c, code) if c.is_control() || drives_terminal(c) => {
                let escaped = if code <= 0xffff {
                    format!("\\u{code:04X}")
                } else {
                    format!("\\U{code:08X}")
                };
                quoted.push_str(&escaped);
            }
            (c, _) => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether the key must be there, where its table is.
fn is_needed(found: &Found, key: &Key, place: &Place) -> bool {
    let at = |name| {
        let place = Place {
            key: name,
            ..*place
        };
        found.values.contains_key(&place)
    };
    // A static address is `ip` with its prefix, or a list.
    let is_address = matches!(key.name(), "ip" | "prefix_length");
    if FIXED_CARDS.contains(&place.table) && is_address {
        return !at("ip") && !at("addresses");
    }
    // The base volume, by its name or an image.
    if key.path == "volume.base_volume_name" {
        return true;
    }
    if key.name() == "network_name" {
        return !at("network_id");
    }
    key.need == Need::Required || NEEDED.contains(&key.path)
}

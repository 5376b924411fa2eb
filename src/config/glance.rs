//! The names in a configuration, for completions: as far as they can be read, however wrong the
//! rest of it is. Nothing is reported, and no variable is read.

use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::extends::Sources;
use super::folder::configurations;
use super::inputs::{MAX_INPUT, SystemInputs};
use super::keys::VMS;
use super::syntax;

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Glance {
    pub vms: Vec<String>,
    /// Of the nodes that are listed, names and addresses.
    pub nodes: Vec<String>,
}

/// Of a file with what it extends, or of all files of a folder.
#[must_use]
pub fn glance(path: &Path) -> Glance {
    let mut seen = Glance::default();
    if path.is_dir() {
        for file in configurations(path).unwrap_or_default() {
            seen.file(&file);
        }
    } else {
        seen.file(path);
    }
    seen
}

impl Glance {
    fn file(&mut self, path: &Path) {
        // A regular file, of a size that people write: nobody waits for a pipe.
        let facts = fs::metadata(path);
        if !facts.is_ok_and(|facts| facts.is_file() && facts.len() <= MAX_INPUT) {
            return;
        }
        let Ok(text) = fs::read_to_string(path) else {
            return;
        };
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        let name = syntax::shown(path);
        let sources = Sources::read(&text, &name, &SystemInputs { base }, false);
        if let Some(tree) = sources
            .as_ref()
            .ok()
            .and_then(|sources| sources.tree().ok())
        {
            self.tree(&tree);
        } else if let Ok(tree) = syntax::tree(&text, &name) {
            // What it extends cannot be read.
            self.tree(tree.get_ref());
        }
    }

    fn tree(&mut self, root: &DeTable<'_>) {
        let vms = tables(root, VMS);
        if vms.is_empty() {
            add(&mut self.vms, text(root, "name"));
        }
        for vm in vms {
            add(&mut self.vms, text(vm, "name"));
        }
        let haproxy = root.get("haproxy");
        let nodes = haproxy.and_then(|haproxy| haproxy.get_ref().as_table());
        for node in nodes
            .map(|haproxy| tables(haproxy, "nodes"))
            .unwrap_or_default()
        {
            for key in ["name", "address"] {
                add(&mut self.nodes, text(node, key));
            }
        }
    }
}

fn add(all: &mut Vec<String>, found: Option<&str>) {
    if let Some(found) = found.filter(|found| !all.iter().any(|known| known == found)) {
        all.push(found.to_owned());
    }
}

fn text<'t>(table: &'t DeTable<'_>, key: &str) -> Option<&'t str> {
    table.get(key)?.get_ref().as_str()
}

fn tables<'t, 'd>(table: &'t DeTable<'d>, key: &str) -> Vec<&'t DeTable<'d>> {
    match table.get(key).map(toml::Spanned::get_ref) {
        Some(DeValue::Array(items)) => items
            .iter()
            .filter_map(|item| item.get_ref().as_table())
            .collect(),
        _ => Vec::new(),
    }
}

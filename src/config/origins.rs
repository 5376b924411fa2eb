//! Where each key of a VM has its value from: a file of a chain of `extends`, the part that all VMs
//! of `[[vms]]` share, the VM's own table, or lbctl's default. Values are not part of it, but for
//! the defaults: many are secret.

use toml::Spanned as InFile;
use toml::de::{DeTable, DeValue};

use super::extends::{EXTENDS, Sources};
use super::keys::{self, Key, Kind, Need};
use super::patroni::PLAIN_PORT;
use super::reader::{blank, join};
use super::types::HaproxyVersion;
use super::vms::{Own, View};

/// Who gives a key its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The configuration itself.
    File,
    /// A file that it extends.
    Base,
    /// The part that all VMs of `[[vms]]` share.
    Shared,
    /// The VM's own table in `[[vms]]`.
    Vm,
    /// Nobody: lbctl's default.
    Default,
}

/// Where one key has its value from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrigin {
    /// As in a file of one VM: `haproxy.check.rise`, `macvtap_interfaces[0].ip`.
    pub key: String,
    pub giver: Giver,
    /// File and line of the value; `None`: it is the default.
    pub place: Option<(String, usize)>,
    /// The default as TOML writes it, where it is that.
    pub default: Option<String>,
}

/// Of every key that a VM has, in the order of the reference.
pub(super) fn of(view: &View<'_>, sources: &Sources) -> Vec<KeyOrigin> {
    let mut finder = Finder {
        own: view.own.as_ref(),
        sources,
        found: Vec::new(),
    };
    finder.table(Some(&*view.table), "", "");
    finder.found
}

struct Finder<'a> {
    own: Option<&'a Own>,
    sources: &'a Sources,
    found: Vec<KeyOrigin>,
}

impl Finder<'_> {
    /// `declared`: the path of the table in `keys`; `shown`: for people. Without a table there are
    /// the defaults of it.
    fn table(&mut self, table: Option<&DeTable<'_>>, declared: &str, shown: &str) {
        for key in keys::children(declared).filter(|key| key.path != EXTENDS) {
            let name = key.name().trim_end_matches("[]");
            let path = join(shown, name);
            let given = table.and_then(|table| table.get(name));
            let given = given.filter(|value| !blank(value.get_ref()));
            match (key.kind, given.map(|value| (value, value.get_ref()))) {
                (Kind::Table, Some((_, DeValue::Table(inner)))) => {
                    self.table(Some(inner), key.path, &path);
                }
                (Kind::Table, None) if has_only_defaults(key) => {
                    self.table(None, key.path, &path);
                }
                (Kind::Tables, Some((_, DeValue::Array(items)))) => {
                    for (number, item) in items.iter().enumerate() {
                        let inner = item.get_ref().as_table();
                        let path = format!("{path}[{number}]");
                        self.table(inner, &format!("{}[]", key.path), &path);
                    }
                }
                (Kind::Table | Kind::Tables, _) => {}
                (_, Some((value, _))) => self.given(path, value),
                (_, None) => self.default(path, key, table),
            }
        }
    }

    fn given(&mut self, key: String, value: &InFile<DeValue<'_>>) {
        let span = value.span();
        let is_base = self
            .sources
            .file_at(span.start)
            .is_some_and(|file| file.name != self.sources.first());
        let giver = match self.own {
            Some(own) if own.has(&span) => Giver::Vm,
            _ if is_base => Giver::Base,
            Some(_) => Giver::Shared,
            None => Giver::File,
        };
        self.found.push(KeyOrigin {
            key,
            giver,
            place: self.sources.line_at(span.start),
            default: None,
        });
    }

    fn default(&mut self, path: String, key: &Key, table: Option<&DeTable<'_>>) {
        let Some(default) = default_of(key, table) else {
            return;
        };
        self.found.push(KeyOrigin {
            key: path,
            giver: Giver::Default,
            place: None,
            default: Some(default),
        });
    }
}

/// As TOML writes it. `table`: the one that the key is not in. `None`: it has none, or what decides
/// about it is not in the files.
fn default_of(key: &Key, table: Option<&DeTable<'_>>) -> Option<String> {
    let beside = |name: &str| {
        table
            .and_then(|table| table.get(name))
            .map(InFile::get_ref)
            .filter(|value| !blank(value))
    };
    let (decides, value, other) = match key.path {
        // The command line and the environment decide, too.
        "libvirt.uri" => return None,
        "haproxy.patroni_port" => ("patroni_tls", "off", PLAIN_PORT.to_string()),
        "haproxy.version" => (
            "runtime",
            "package",
            format!("{:?}", HaproxyVersion::OF_PACKAGES.to_string()),
        ),
        _ => return key.default.map(|default| default.to_string()),
    };
    match beside(decides) {
        Some(DeValue::String(given)) if given == value => Some(other),
        None | Some(DeValue::String(_)) => key.default.map(|default| default.to_string()),
        Some(_) => None,
    }
}

/// Whether a table that is not given means its defaults, and not that there is none of it.
fn has_only_defaults(table: &Key) -> bool {
    table.need == Need::Optional
        && keys::children(table.path)
            .all(|key| key.need == Need::Optional && (key.default.is_some() || key.is_table()))
}

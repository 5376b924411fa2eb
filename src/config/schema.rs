//! Holds the TOML tree against the table of keys: unknown, misplaced and missing keys, wrong types.
//! Also finds what must not be shown in a report. Judges no value.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostics::{Diagnostics, Refused};
use super::keys::{self, Key, Kind, Literal, Need};
use super::reader::{blank, is_variable, join};
use super::report::{ProblemId, may_hold_secret, quoted};
use super::vms::{self, Own};

/// How alike two keys must be for "did you mean" (Jaro-Winkler; 1.0 is equal).
const ALIKE: f64 = 0.85;
/// How alike they must be in another table: the part of letters that are right and in their place.
const SPELLED_ALIKE: f64 = 0.75;

/// Keys that people look for and that are not there, each with what there is instead.
const INSTEAD: &[(&[&str], &str)] = &[
    (
        &["client", "server", "timeout_client", "timeout_server"],
        "lbctl has one time for both sides of a session: `idle` in [haproxy.timeouts]",
    ),
    (
        &["queue", "tunnel", "http_request"],
        "lbctl sets this time itself; [haproxy.timeouts] has connect, check and idle",
    ),
    (
        &["listen_port", "bind_port", "frontend_port", "listen"],
        "where clients connect is `port` in [haproxy], and `address` there says on which address",
    ),
    (
        &["maxconn", "max_conn"],
        "the limit is `max_connections` in [haproxy]",
    ),
    (
        &["cpu", "cpus", "cores"],
        "the number of processors is `vcpus` at the top level",
    ),
    (
        &["ram", "mem", "memory_mb"],
        "the memory is `memory` at the top level, in MiB",
    ),
    (
        &[
            "priority",
            "preempt",
            "nopreempt",
            "auth_pass",
            "advert_int",
        ],
        "lbctl sets this of VRRP itself; [virtual_ip] has router_id and detection",
    ),
    (
        &["runcmd", "write_files", "packages", "user_data"],
        "lbctl writes cloud-init's user-data itself; what is to be added is in the file of `cloud_config` in [guest]",
    ),
    (
        &["vip", "cluster_vip", "virtual_address", "floating_ip"],
        "the address that several VMs share is `address` in [virtual_ip]",
    ),
    (
        &["running", "autostart"],
        "a load balancer runs, and starts with its host; `virsh shutdown NAME` stops it until the next `lbctl up`",
    ),
    (
        &["data_volume_id", "data_volume"],
        "there is no second disk: nothing on the VM is worth keeping",
    ),
    (
        &["server_group", "anti_affinity"],
        "lbctl chooses no host: `libvirt.uri` of each VM in [[vms]] does",
    ),
    (
        &["fluentbit", "fluent_bit", "vault_agent"],
        "lbctl has none in the guest; logs go by [fluentd], and a certificate from elsewhere is `certificate` in \
         [haproxy.patroni_client]",
    ),
    (
        &["proxy", "proxy_env", "https_proxy"],
        "a proxy for the first boot is `http_proxy` in [guest]",
    ),
    (
        &["disk", "disk_size"],
        "the size of the root disk is `size` in [volume]",
    ),
    (
        &["user", "username", "ssh_user", "admin_user"],
        "the administrator is `ssh_admin_user` at the top level",
    ),
];

/// The walk over one tree.
pub(super) struct Schema<'a> {
    diagnostics: &'a Diagnostics,
    hidden: Vec<Range<usize>>,
    /// The walk over what one of several VMs has, in search of what is missing; all else was found
    /// in the file.
    vm: Option<&'a Own>,
}

/// The table the walk is in.
struct Place<'p> {
    /// In the form of `keys`.
    schema: &'p str,
    /// As shown in messages.
    shown: &'p str,
    /// `None`: the top level.
    span: Option<Range<usize>>,
    /// False under a table that is switched off, where nothing is missed.
    needed: bool,
}

/// Notes everything wrong with the keys and types of a file. Returns the byte ranges that no report
/// may show.
pub(super) fn check(root: &DeTable<'_>, diagnostics: &Diagnostics) -> Vec<Range<usize>> {
    let mut schema = Schema {
        diagnostics,
        hidden: Vec::new(),
        vm: None,
    };
    let place = Place {
        schema: "",
        shown: "",
        span: None,
        // What each of several VMs needs may be given in two places.
        needed: !vms::are_in(root),
    };
    schema.table(root, &place);
    schema.hidden
}

/// Notes what is missing of what one of several VMs has.
pub(super) fn check_vm(table: &DeTable<'_>, own: &Own, diagnostics: &Diagnostics) {
    let mut schema = Schema {
        diagnostics,
        hidden: Vec::new(),
        vm: Some(own),
    };
    let place = Place {
        schema: "",
        shown: "",
        span: None,
        needed: true,
    };
    schema.table(table, &place);
}

impl Schema<'_> {
    fn table(&mut self, table: &DeTable<'_>, place: &Place<'_>) {
        let needed = place.needed && switched_on(table, place.schema);
        for (name, value) in table {
            let path = join(place.schema, name.get_ref());
            let shown = match self.vm {
                Some(own) => own.path_of(place.shown, name.get_ref(), &value.span()),
                None => join(place.shown, name.get_ref()),
            };
            if let Some(key) = keys::find(&path) {
                let span = Some(value.span());
                let inner = Place {
                    schema: &path,
                    shown: &shown,
                    span,
                    needed,
                };
                self.value(key, value.get_ref(), &inner);
            } else if self.vm.is_none() {
                self.hide(value.get_ref(), value.span());
                self.unknown(name.get_ref(), name.span(), value.get_ref(), place);
            }
        }
        if needed {
            self.missing(table, place);
        }
    }

    fn value(&mut self, key: &Key, value: &DeValue<'_>, place: &Place<'_>) {
        let span = place.span.clone().unwrap_or_default();
        let reference = matches!(
            (key.kind, value),
            (
                Kind::LongText | Kind::LongTexts | Kind::Secret,
                DeValue::Table(_)
            )
        );
        if reference {
            self.reference(value);
        } else if key.kind == Kind::Secret || holds_secret(value) {
            self.hide(value, span.clone());
        }
        match (key.kind, value) {
            _ if reference => {}
            // Blank optional tables are as good as absent, so nothing is missing in them.
            (Kind::Table, DeValue::Table(table)) => {
                let needed = place.needed && (key.need == Need::Required || !blank(value));
                self.table(
                    table,
                    &Place {
                        needed,
                        span: place.span.clone(),
                        ..*place
                    },
                );
            }
            (Kind::Tables, DeValue::Array(array)) => {
                self.tables(key, array, place);
            }
            (Kind::Texts | Kind::TextOrTexts, DeValue::Array(array)) => {
                self.texts(key, array, place);
            }
            (Kind::Pairs, DeValue::Table(table)) => self.pairs(key, table, place),
            (Kind::LongTexts, DeValue::Array(array)) => self.long_texts(key, array, place),
            _ if fits(key.kind, value) => {}
            _ => {
                if key.kind.is_plain() && value.is_table() {
                    self.reference(value);
                } else if key.is_table() || value.is_table() || value.is_array() {
                    self.hide(value, span);
                }
                self.mistyped(key, value, place);
            }
        }
    }

    fn tables(&mut self, key: &Key, array: &DeArray<'_>, place: &Place<'_>) {
        let schema = format!("{}[]", place.schema);
        for (number, item) in array.iter().enumerate() {
            let shown = format!("{}[{number}]", place.shown);
            let place = Place {
                schema: &schema,
                shown: &shown,
                span: Some(item.span()),
                needed: place.needed,
            };
            if let DeValue::Table(table) = item.get_ref() {
                self.table(table, &place);
            } else {
                self.hide(item.get_ref(), item.span());
                self.mistyped(key, item.get_ref(), &place);
            }
        }
    }

    fn texts(&self, key: &Key, array: &DeArray<'_>, place: &Place<'_>) {
        for (number, item) in array.iter().enumerate() {
            if !item.get_ref().is_str() {
                let shown = format!("{}[{number}]", place.shown);
                let place = Place {
                    schema: place.schema,
                    shown: &shown,
                    span: Some(item.span()),
                    needed: false,
                };
                self.mistyped(key, item.get_ref(), &place);
            }
        }
    }

    fn pairs(&mut self, key: &Key, table: &DeTable<'_>, place: &Place<'_>) {
        for (name, value) in table {
            let scalar = matches!(
                value.get_ref(),
                DeValue::String(_) | DeValue::Integer(_) | DeValue::Boolean(_)
            );
            if scalar {
                continue;
            }
            self.hide(value.get_ref(), value.span());
            if self.vm.is_some() {
                continue;
            }
            let path = join(place.shown, &short(name.get_ref()));
            let message = format!(
                "`{path}` must be a text, a whole number, true or false, not {}",
                type_name(value.get_ref())
            );
            let help = wanted(key).1;
            let (id, span) = (ProblemId::WrongType, Some(value.span()));
            self.diagnostics.problem(id, &path, span, message, help);
        }
    }

    fn long_texts(&mut self, key: &Key, array: &DeArray<'_>, place: &Place<'_>) {
        for (number, item) in array.iter().enumerate() {
            match item.get_ref() {
                DeValue::String(_) => {}
                table @ DeValue::Table(_) => self.reference(table),
                other => {
                    let shown = format!("{}[{number}]", place.shown);
                    let place = Place {
                        schema: place.schema,
                        shown: &shown,
                        span: Some(item.span()),
                        needed: false,
                    };
                    self.mistyped(key, other, &place);
                }
            }
        }
    }

    /// Hides what in `{ file = … }` or `{ env = … }` may be the secret itself, written in the wrong
    /// place.
    fn reference(&mut self, value: &DeValue<'_>) {
        let entries = value.as_table().into_iter().flatten();
        for (name, value) in entries {
            let text = value.get_ref().as_str().unwrap_or_default();
            let shown = match name.get_ref().as_ref() {
                "file" => !text.contains(char::is_control),
                "env" => is_variable(text),
                _ => false,
            };
            if !shown {
                self.hide(value.get_ref(), value.span());
            }
        }
    }

    /// Every scalar in a value, for the value may be a secret under a key that is misspelled.
    fn hide(&mut self, value: &DeValue<'_>, span: Range<usize>) {
        match value {
            DeValue::Table(table) => table
                .iter()
                .for_each(|(_, value)| self.hide(value.get_ref(), value.span())),
            DeValue::Array(array) => array
                .iter()
                .for_each(|value| self.hide(value.get_ref(), value.span())),
            _ if blank(value) => {}
            _ => self.hidden.push(span),
        }
    }

    fn mistyped(&self, key: &Key, value: &DeValue<'_>, place: &Place<'_>) {
        if self.vm.is_some() {
            return;
        }
        let element = place.shown.ends_with(']');
        let (wanted, mut help) = if element {
            element_wanted(key)
        } else {
            wanted(key)
        };
        if value.get("file").is_some() {
            help = "write the value itself, or { env = \"VARIABLE\" }: only secrets, keys and certificates come from files"
                .into();
        } else if value.get("env").is_some() {
            help = match key.kind {
                Kind::Texts => "write it for each element: [{ env = \"VARIABLE\" }]".into(),
                Kind::Table | Kind::Tables | Kind::Pairs => {
                    "write the table itself: a variable stands for a single value".into()
                }
                _ => "write { env = \"VARIABLE\" } and nothing else in it, or the value itself"
                    .into(),
            };
        }
        let message = format!(
            "`{}` must be {wanted}, not {}",
            place.shown,
            type_name(value)
        );
        let id = ProblemId::WrongType;
        self.diagnostics
            .problem(id, place.shown, place.span.clone(), message, help);
    }

    fn missing(&self, table: &DeTable<'_>, place: &Place<'_>) {
        for key in keys::children(place.schema).filter(|key| key.need == Need::Required) {
            let found = table.iter().find(|(name, _)| name.get_ref() == key.name());
            let value = found.map(|(_, value)| value.get_ref());
            if value.is_some_and(|value| !blank(value) || (value.is_table() && !key.is_table())) {
                continue;
            }
            // A VM of a list has the disk of its name, so what is missing is that name.
            if self.vm.is_some() && key.path == "volume.name" {
                continue;
            }
            // One mistake, one problem: the misspelled key is reported as unknown.
            if misspelled(key, table, place.schema) {
                continue;
            }
            let needs: Vec<&str> = keys::children(key.path)
                .filter(|k| k.need != Need::Optional)
                .map(Key::name)
                .collect();
            let otherwise = if key.path == "haproxy" {
                "; or with [[haproxy.nodes]] and patroni_tls"
            } else {
                ""
            };
            let help = format!("add it, with {}{otherwise}", needs.join(", "));
            let span = found.map(|(_, value)| value.span());
            let is_there = span.is_some();
            // A name is missing in the VM, and not in what all share.
            let (parent, span) = match self.vm {
                Some(own) if key.path == "name" => {
                    (own.path.as_str(), span.or(Some(own.span.clone())))
                }
                _ => (place.shown, span.or(place.span.clone())),
            };
            report_missing(self.diagnostics, key, parent, is_there, span, help);
        }
    }

    fn unknown(&self, name: &str, span: Range<usize>, value: &DeValue<'_>, place: &Place<'_>) {
        let path = join(place.shown, &short(name));
        let homes: Vec<&Key> = keys::KEYS
            .iter()
            .filter(|key| key.name() == name && key.is_table() == value.is_table())
            .collect();
        let alike = most_alike(name, keys::children(place.schema));
        let instead = INSTEAD.iter().find(|(names, _)| names.contains(&name));
        let of_all = place.schema.strip_prefix(keys::VMS);
        let of_all = of_all.and_then(|rest| rest.strip_prefix("[]"));
        let of_all = of_all.map(|rest| join(rest.trim_start_matches('.'), name));
        let of_all = of_all.and_then(|path| keys::find(&path));
        let help = match (&homes[..], alike) {
            _ if let Some(key) = of_all => {
                format!("`{name}` is the same for all VMs: write it {}", home(key))
            }
            ([], _) if instead.is_some() => instead.map_or("", |(_, help)| help).to_owned(),
            (_, Some(key)) => format!("did you mean `{}`? ({})", key.name(), key.meaning),
            // Of other tables only what is spelled alike: a word in common says nothing of meaning.
            ([], None) => match most_alike_spelled(name, keys::KEYS.iter()) {
                Some(key) => format!(
                    "did you mean `{}`, which belongs {}?",
                    key.name(),
                    home(key)
                ),
                None => "remove it; `lbctl init --full` prints every key there is".to_owned(),
            },
            ([key], None) => format!("`{name}` belongs {}", home(key)),
            (homes, None) => {
                let tables: Vec<String> = homes.iter().map(|key| home(key)).collect();
                format!("`{name}` belongs {}", tables.join(" or "))
            }
        };
        let table = if place.shown.is_empty() {
            "at the top level".to_owned()
        } else {
            format!("in [{}]", place.shown)
        };
        self.diagnostics.problem(
            ProblemId::UnknownKey,
            &path,
            Some(span),
            format!("unknown key {} {table}", quoted(name)),
            help,
        );
    }
}

/// That a key or a table is missing in the table `parent`, or is there and empty. `help_of_table`:
/// what to do about a table.
pub(super) fn report_missing(
    diagnostics: &Diagnostics,
    key: &Key,
    parent: &str,
    is_there: bool,
    span: Option<Range<usize>>,
    help_of_table: String,
) -> Refused {
    let path = join(parent, key.name());
    let (message, help) = if key.is_table() {
        (format!("the section [{path}] is missing"), help_of_table)
    } else {
        let empty = if is_there { "empty" } else { "missing" };
        (
            format!("`{path}` is {empty}"),
            format!("add a line such as: {} = {}", key.name(), key.example()),
        )
    };
    diagnostics.problem(ProblemId::MissingKey, &path, span, message, help)
}

/// Whether the table has, in the place of the key, an unknown one that is like it.
pub(super) fn misspelled(key: &Key, table: &DeTable<'_>, parent: &str) -> bool {
    let names = table.iter().map(|(name, _)| name.get_ref());
    let mut unknown = names.filter(|name| keys::find(&join(parent, name)).is_none());
    unknown.any(|name| {
        most_alike(name, keys::children(parent)).is_some_and(|like| like.path == key.path)
    })
}

/// Whether a table is in use: it has no `enabled`, or that is true (or true by default).
fn switched_on(table: &DeTable<'_>, path: &str) -> bool {
    let Some(key) = keys::find(&join(path, "enabled")) else {
        return true;
    };
    let given = table.iter().find(|(name, _)| name.get_ref() == "enabled");
    given.map_or(key.default == Some(Literal::Bool(true)), |(_, value)| {
        value.get_ref().as_bool().unwrap_or(false)
    })
}

fn holds_secret(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => may_hold_secret(text),
        DeValue::Array(array) => array.iter().any(|value| holds_secret(value.get_ref())),
        _ => false,
    }
}

fn fits(kind: Kind, value: &DeValue<'_>) -> bool {
    match kind {
        Kind::Text | Kind::LongText | Kind::LongTexts | Kind::Secret | Kind::TextOrTexts => {
            value.is_str()
        }
        Kind::Integer => value.is_integer(),
        Kind::Number => value.is_integer() || matches!(value, DeValue::Float(_)),
        Kind::Boolean => value.is_bool(),
        Kind::SwitchOrPort => value.is_bool() || value.is_integer(),
        Kind::Texts | Kind::Tables => value.is_array() || (kind == Kind::Texts && blank(value)),
        Kind::Time | Kind::Size | Kind::Memory | Kind::Hours => {
            value.is_str() || value.is_integer()
        }
        Kind::Table | Kind::Pairs => value.is_table(),
    }
}

/// What a key takes, and how to write it.
fn wanted(key: &Key) -> (&'static str, String) {
    let line = format!("{} = {}", key.name(), key.example());
    match key.kind {
        Kind::Text => ("a text", format!("write it in quotes, such as: {line}")),
        Kind::LongTexts => (
            "a text or a list of texts",
            "write it in quotes, or { file = \"path\" }, or { env = \"VARIABLE\" }, or a list of such".to_owned(),
        ),
        Kind::LongText | Kind::Secret => (
            "a text",
            "write it in quotes, or { file = \"path\" }, or { env = \"VARIABLE\" }".to_owned(),
        ),
        Kind::Integer => (
            "a whole number",
            format!("write it without quotes and without a point, such as: {line}"),
        ),
        Kind::Number => (
            "a number",
            format!("write it without quotes, such as: {line}"),
        ),
        Kind::Boolean => (
            "true or false",
            "write true or false without quotes".to_owned(),
        ),
        Kind::SwitchOrPort => (
            "true, false or a port",
            "write true, false or the number of a port, without quotes".to_owned(),
        ),
        Kind::Texts => (
            "a list of texts",
            format!("write it in square brackets, such as: {line}"),
        ),
        Kind::TextOrTexts => (
            "a text or a list of texts",
            format!("write it such as: {line}"),
        ),
        Kind::Time => (
            "a time",
            format!("write a number with its unit in quotes, such as: {line}"),
        ),
        Kind::Size => (
            "a size",
            format!("write a number of bytes, or one with its unit in quotes, such as: {line}"),
        ),
        Kind::Memory => (
            "a number of MiB or a size",
            format!("write such as {line}, or {} = \"2 GiB\"", key.name()),
        ),
        Kind::Hours => (
            "a number of hours or a time",
            format!("write such as {line}, or {} = \"365d\"", key.name()),
        ),
        Kind::Pairs => (
            "a table of names and values",
            format!("write it in curly brackets, such as: {line}"),
        ),
        Kind::Table => (
            "a table",
            format!(
                "write [{}] on a line of its own and its keys below it",
                key.path.replace("[]", "")
            ),
        ),
        Kind::Tables => (
            "a list of tables",
            format!(
                "write [[{}]] for each, and its keys below it",
                key.path.replace("[]", "")
            ),
        ),
    }
}

fn element_wanted(key: &Key) -> (&'static str, String) {
    match key.kind {
        Kind::Tables => ("a table", wanted(key).1),
        _ => ("a text", "write it in quotes".to_owned()),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time of day",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Where a key belongs, to stand behind "belongs".
fn home(key: &Key) -> String {
    match key.parent() {
        "" if key.is_table() => format!("in a section of its own, [{}]", key.path),
        "" => "at the top level, above the first line in square brackets".to_owned(),
        parent if parent.ends_with("[]") => format!("in [[{}]]", parent.replace("[]", "")),
        parent => format!("in [{parent}]"),
    }
}

/// The key most like a name that is none, if any is like it: spelled alike, or the one contained in
/// the other.
fn most_alike<'k>(name: &str, candidates: impl Iterator<Item = &'k Key>) -> Option<&'k Key> {
    let name = short(name).to_lowercase().replace('-', "_");
    let part = |key: &str| {
        (name.len() >= 4 && key.contains(&name)) || (key.len() >= 6 && name.contains(key))
    };
    let score = |key: &Key| {
        let part = if part(key.name()) { ALIKE } else { 0.0 };
        strsim::jaro_winkler(&name, key.name()).max(part)
    };
    let scored = candidates.map(|key| (score(key), key));
    scored
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// The key spelled most like a name that is none, if any is.
fn most_alike_spelled<'k>(
    name: &str,
    candidates: impl Iterator<Item = &'k Key>,
) -> Option<&'k Key> {
    let name = short(name).to_lowercase().replace('-', "_");
    candidates
        .map(|key| {
            (
                strsim::normalized_damerau_levenshtein(&name, key.name()),
                key,
            )
        })
        .filter(|(score, _)| *score >= SPELLED_ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

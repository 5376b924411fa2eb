//! Holds the TOML tree against the table of keys: unknown, misplaced and missing keys, wrong types.
//! Also finds what must not be shown in a report. Judges no value.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostics::Diagnostics;
use super::keys::{self, Key, Kind, Literal, Need};
use super::reader::{blank, is_variable, join};
use super::report::{ProblemId, may_hold_secret, quoted};

/// How alike two keys must be for "did you mean" (Jaro-Winkler; 1.0 is equal).
const ALIKE: f64 = 0.85;

/// The walk over one tree.
pub(super) struct Schema<'a> {
    diagnostics: &'a Diagnostics,
    hidden: Vec<Range<usize>>,
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
    };
    schema.table(
        root,
        &Place {
            schema: "",
            shown: "",
            span: None,
            needed: true,
        },
    );
    schema.hidden
}

impl Schema<'_> {
    fn table(&mut self, table: &DeTable<'_>, place: &Place<'_>) {
        let needed = place.needed && switched_on(table, place.schema);
        for (name, value) in table {
            let path = join(place.schema, name.get_ref());
            let shown = join(place.shown, name.get_ref());
            if let Some(key) = keys::find(&path) {
                let span = Some(value.span());
                let inner = Place {
                    schema: &path,
                    shown: &shown,
                    span,
                    needed,
                };
                self.value(key, value.get_ref(), &inner);
            } else {
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
            (Kind::LongText | Kind::Secret, DeValue::Table(_))
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
            _ if fits(key.kind, value) => {}
            _ => {
                if key.is_table() || value.is_table() || value.is_array() {
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
        let element = place.shown.ends_with(']');
        let (wanted, mut help) = if element {
            element_wanted(key)
        } else {
            wanted(key)
        };
        if value.get("file").or(value.get("env")).is_some() {
            help = "write the value itself: only secrets, keys and certificates come from files or variables".into();
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
            // One mistake, one problem: the misspelled key is reported as unknown.
            if misspelled(key, table, place.schema) {
                continue;
            }
            let path = join(place.shown, key.name());
            let (message, help) = if key.is_table() {
                let needs: Vec<&str> = keys::children(key.path)
                    .filter(|k| k.need == Need::Required)
                    .map(Key::name)
                    .collect();
                (
                    format!("the section [{path}] is missing"),
                    format!("add it, with {}", needs.join(", ")),
                )
            } else {
                let empty = if found.is_some() { "empty" } else { "missing" };
                (
                    format!("`{path}` is {empty}"),
                    format!("add a line such as: {} = {}", key.name(), key.example()),
                )
            };
            let span = found.map(|(_, value)| value.span());
            let (id, span) = (ProblemId::MissingKey, span.or(place.span.clone()));
            self.diagnostics.problem(id, &path, span, message, help);
        }
    }

    fn unknown(&self, name: &str, span: Range<usize>, value: &DeValue<'_>, place: &Place<'_>) {
        let path = join(place.shown, &short(name));
        let homes: Vec<&Key> = keys::KEYS
            .iter()
            .filter(|key| key.name() == name && key.is_table() == value.is_table())
            .collect();
        let alike = most_alike(name, keys::children(place.schema));
        let help = match (&homes[..], alike) {
            (_, Some(key)) => format!("did you mean `{}`? ({})", key.name(), key.meaning),
            ([], None) => match most_alike(name, keys::KEYS.iter()) {
                Some(key) => format!(
                    "did you mean `{}`, which belongs {}?",
                    key.name(),
                    home(key)
                ),
                None => "remove it; `lbctl init` prints every key there is".to_owned(),
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

/// Whether the table has, in the place of the key, an unknown one that is like it.
fn misspelled(key: &Key, table: &DeTable<'_>, parent: &str) -> bool {
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
        Kind::Text | Kind::LongText | Kind::Secret | Kind::TextOrTexts => value.is_str(),
        Kind::Integer => value.is_integer(),
        Kind::Number => value.is_integer() || matches!(value, DeValue::Float(_)),
        Kind::Boolean => value.is_bool(),
        Kind::SwitchOrPort => value.is_bool() || value.is_integer(),
        Kind::Texts | Kind::Tables => value.is_array() || (kind == Kind::Texts && blank(value)),
        Kind::Time | Kind::Size => value.is_str() || value.is_integer(),
        Kind::Table => value.is_table(),
    }
}

/// What a key takes, and how to write it.
fn wanted(key: &Key) -> (&'static str, String) {
    let line = format!("{} = {}", key.name(), key.example());
    match key.kind {
        Kind::Text => ("a text", format!("write it in quotes, such as: {line}")),
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

fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

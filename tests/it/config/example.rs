//! `config.example.toml`: every key is in it, its defaults are the true ones, and it works both as
//! it stands and with every optional line taken in. A `#` before anything but a space makes a line
//! optional (but for the editors' `#:schema`).

use lbctl::testing::config::keys::{Bounds, KEYS, Key, Kind, Literal};
use lbctl::testing::config::{self, Config, Disk};
use toml::{Table, Value};

use crate::support::inputs::{inputs, now};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml"));

fn everything() -> Table {
    let optional = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with([' ', '-', ':']) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = EXAMPLE.lines().map(optional).collect();
    text.parse().unwrap()
}

fn accepted(text: &str) -> Config {
    match config::parse(text, "config.example.toml", &inputs(), now()) {
        Ok(loaded) => {
            assert!(
                loaded.warnings.is_empty(),
                "{}",
                config::render_warnings(&loaded.warnings, false, None)
            );
            loaded.config
        }
        Err(report) => panic!("{report}"),
    }
}

/// The value at a key's path; of lists, in the first element.
fn value<'t>(table: &'t Table, key: &Key) -> Option<&'t Value> {
    let mut parts = key.path.split('.').peekable();
    let mut table = table;
    loop {
        let part = parts.next()?;
        let value = table.get(part.trim_end_matches("[]"))?;
        if parts.peek().is_none() {
            return Some(value);
        }
        table = match value {
            Value::Table(table) => table,
            Value::Array(array) => array.first()?.as_table()?,
            _ => return None,
        };
    }
}

/// Writes a value at a key's path; into lists, in the first element.
fn set(table: &mut Table, key: &Key, value: Value) {
    let mut table = table;
    for parent in key.parent().split('.').filter(|parent| !parent.is_empty()) {
        let entry = table
            .entry(parent.trim_end_matches("[]"))
            .or_insert_with(|| Value::Table(Table::new()));
        table = match entry {
            Value::Array(array) => array[0].as_table_mut().unwrap(),
            entry => entry.as_table_mut().unwrap(),
        };
    }
    table.insert(key.name().to_owned(), value);
}

fn remove(table: &mut Table, section: &str, key: &str) {
    let section = match table.get_mut(section) {
        Some(Value::Table(section)) => section,
        Some(Value::Array(array)) => array[0].as_table_mut().unwrap(),
        _ => panic!("no [{section}]"),
    };
    assert!(section.remove(key).is_some(), "{key}");
}

/// The sections that have a key of that name: an `ip` makes it a network interface.
fn sections_with(name: &str) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.name() == name);
    keys.map(|key| key.parent().trim_end_matches("[]"))
        .collect()
}

/// A VM has one default gateway.
fn keep_gateway(table: &mut Table, kept: &str) {
    for section in sections_with("gateway") {
        if section != kept {
            remove(table, section, "gateway");
        }
    }
}

#[test]
fn it_works_as_it_stands() {
    let config = accepted(EXAMPLE);
    assert_eq!(config.name.as_str(), "postgres-lb-1");
}

#[test]
fn it_works_with_every_optional_line() {
    // Of what excludes one another, each is tried once.
    let mut first = everything();
    first.remove("volume_id").unwrap();
    remove(&mut first, "libvirt_network", "network_id");
    remove(&mut first, "libvirt_networks", "network_id");
    let gateways = sections_with("gateway");
    keep_gateway(&mut first, gateways[0]);
    let config = accepted(&first.to_string());
    assert!(matches!(config.disk, Disk::Clone(_)));
    assert_eq!(config.interfaces.len(), sections_with("ip").len());
    assert!(
        config.chrony.is_some() && config.fluentd.is_some() && config.container_registry.is_some()
    );

    let mut second = everything();
    second.remove("volume").unwrap();
    remove(&mut second, "libvirt_network", "network_name");
    remove(&mut second, "libvirt_networks", "network_name");
    for kept in &gateways[1..] {
        let mut second = second.clone();
        keep_gateway(&mut second, kept);
        assert!(matches!(
            accepted(&second.to_string()).disk,
            Disk::Existing { .. }
        ));
    }
}

#[test]
fn it_has_every_key() {
    let everything = everything();
    for key in KEYS {
        assert!(
            value(&everything, key).is_some(),
            "{} is not in the example",
            key.path
        );
    }
}

#[test]
fn it_shows_the_defaults() {
    let everything = everything();
    for key in KEYS {
        let Some(default) = key.default else {
            continue;
        };
        let shown = value(&everything, key).unwrap();
        // Services that are off by default are shown switched on, and say so.
        if default == Literal::Bool(false) {
            let (_, table) = EXAMPLE
                .split_once(&format!("#[{}]\n", key.parent()))
                .unwrap();
            let (before, _) = table
                .split_once(&format!("\n#{} = true", key.name()))
                .unwrap();
            assert!(
                before.lines().last().unwrap().ends_with("Default false."),
                "{}",
                key.path
            );
        } else {
            assert_eq!(shown.to_string(), default.to_string(), "{}", key.path);
        }
    }
}

#[test]
fn the_defaults_shown_are_those_of_the_code() {
    // A file in which every default is written out is the same as one in which none is.
    let mut bare: Table = EXAMPLE.parse().unwrap();
    let plain = format!("{:?}", accepted(&bare.to_string()));
    for key in KEYS {
        let Some(default) = key.default else {
            continue;
        };
        let given: Table = format!("value = {default}").parse().unwrap();
        set(&mut bare, key, given["value"].clone());
    }
    // The URI has no default of its own: LIBVIRT_DEFAULT_URI comes between. A service that is off
    // needs nothing else.
    remove(&mut bare, "libvirt", "uri");
    assert_eq!(format!("{:?}", accepted(&bare.to_string())), plain);
}

/// A number of a key's own kind, as the file has it.
fn number(key: &Key, number: i64) -> Value {
    match key.kind {
        Kind::Number => Value::Float(f64::from(i32::try_from(number).unwrap())),
        Kind::Time => Value::String(format!("{number}ms")),
        _ => Value::Integer(number),
    }
}

#[test]
fn every_declared_bound_is_held() {
    let mut whole = everything();
    whole.remove("volume_id").unwrap();
    let mut tried = 0;
    for key in KEYS {
        let (inside, outside) = match key.bounds {
            Bounds::Unbounded => continue,
            Bounds::Words(words) => {
                let words = words.iter().map(|word| Value::String((*word).into()));
                (words.collect(), vec![Value::String("neither".into())])
            }
            Bounds::Range { min, max } => (
                vec![number(key, min), number(key, max)],
                vec![number(key, min - 1), number(key, max + 1)],
            ),
            Bounds::Between { above, below } => (
                vec![number(key, above + 1), number(key, below - 1)],
                vec![number(key, above), number(key, below)],
            ),
        };
        let refused = |value: Value| {
            let mut document = whole.clone();
            set(&mut document, key, value);
            let read = config::parse(&document.to_string(), "lbctl.toml", &inputs(), now());
            let problems = read.map_or_else(|report| report.problems, |_| Vec::new());
            let path = key.path.replace("[]", "[0]");
            // Two values that do not go together are another matter.
            let words = [
                "is too",
                "not in the range",
                "not a choice",
                ", less than",
                ", more than",
                "which is not",
                "longer than HAProxy",
            ];
            problems
                .iter()
                .any(|p| p.key == path && words.iter().any(|w| p.message.contains(w)))
        };
        let sound: Vec<Value> = inside.into_iter().filter(|v| refused(v.clone())).collect();
        assert!(sound.is_empty(), "{}: {sound:?} refused", key.path);
        let unsound: Vec<Value> = outside
            .into_iter()
            .filter(|v| !refused(v.clone()))
            .collect();
        assert!(unsound.is_empty(), "{}: {unsound:?} accepted", key.path);
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
}

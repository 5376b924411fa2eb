//! `config.example.toml`: every key is in it, its defaults are the true ones, and it works both as
//! it stands and with every optional line taken in. A `#` before anything but a space makes a line
//! optional (but for the editors' `#:schema`).

use lbctl::testing::config::keys::{Bounds, KEYS, Key, Kind, Literal};
use lbctl::testing::config::{self, Config, Disk};
use toml::{Table, Value};

use crate::schema::{objections, of_key, schema};
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

/// The line above the keys of a table.
fn header(key: &Key) -> String {
    match key.parent().strip_suffix("[]") {
        Some(list) => format!("#[[{list}]]"),
        None => format!("#[{}]", key.parent()),
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

/// The nodes have one name, or are listed.
fn keep_name_of_nodes(table: &mut Table) {
    remove(table, "haproxy", "nodes");
}

fn keep_list_of_nodes(table: &mut Table) {
    remove(table, "haproxy", "postgres_domain");
    remove(table, "haproxy", "postgres_nodes_max_count");
    // All nodes of the example have an address.
    remove(table, "haproxy", "postgres_nameserver_ips");
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

/// A certificate is issued by lbctl or by somebody else.
fn keep_of_client(table: &mut Table, issued: bool) {
    let client = table["haproxy"]["patroni_client"].as_table_mut().unwrap();
    let others: &[&str] = if issued {
        &["certificate", "key"]
    } else {
        &["ca_key", "certificate_validity_period", "key_algorithm"]
    };
    for key in others {
        assert!(client.remove(*key).is_some(), "{key}");
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
    keep_of_client(&mut first, true);
    first.remove("volume_id").unwrap();
    first.remove("volume_format").unwrap();
    remove(&mut first, "libvirt_network", "network_id");
    remove(&mut first, "libvirt_networks", "network_id");
    let gateways = sections_with("gateway");
    keep_gateway(&mut first, gateways[0]);
    remove(&mut first, "bridge_interfaces", "dhcp");
    keep_name_of_nodes(&mut first);
    let of_an_image = |source: &str| {
        let mut document = first.clone();
        remove(&mut document, "volume", "base_volume_name");
        let volume = document["volume"].as_table_mut().unwrap();
        remove(volume, "base_image", source);
        accepted(&document.to_string())
    };
    for source in ["file", "url"] {
        let Disk::Clone(clone) = of_an_image(source).disk else {
            panic!("not a clone")
        };
        assert_eq!(clone.base.name, "lbctl-0123456789ab.qcow2");
    }
    remove(&mut first, "volume", "base_image");
    let config = accepted(&first.to_string());
    assert!(matches!(config.disk, Disk::Clone(_)));
    assert_eq!(config.interfaces.len(), sections_with("ip").len());
    assert!(
        config.chrony.is_some() && config.fluentd.is_some() && config.container_registry.is_some()
    );

    let mut second = everything();
    keep_of_client(&mut second, false);
    second.remove("volume").unwrap();
    remove(&mut second, "libvirt_network", "network_name");
    remove(&mut second, "libvirt_networks", "network_name");
    keep_list_of_nodes(&mut second);
    for kept in &gateways[1..] {
        let mut second = second.clone();
        keep_gateway(&mut second, kept);
        remove(&mut second, "bridge_interfaces", "dhcp");
        assert!(matches!(
            accepted(&second.to_string()).disk,
            Disk::Existing { .. }
        ));
    }
}

#[test]
fn it_has_every_key() {
    let everything = everything();
    // It is of one VM; of several there is another example.
    for key in KEYS.iter().filter(|key| key.path != "vms") {
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
            let (_, table) = EXAMPLE.split_once(&format!("{}\n", header(key))).unwrap();
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
        // Of a list there is none.
        let Some(default) = key.default.filter(|_| !key.path.contains("[]")) else {
            continue;
        };
        let given: Table = format!("value = {default}").parse().unwrap();
        set(&mut bare, key, given["value"].clone());
    }
    // The URI has no default of its own: LIBVIRT_DEFAULT_URI comes between. A service that is off
    // needs nothing else.
    remove(&mut bare, "libvirt", "uri");
    // Without an address nothing is shared, and the other keys of the table have no meaning.
    bare.remove("virtual_ip");
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

/// Texts with a unit at both bounds: the numbers just inside and just outside, in each unit.
fn in_each_unit(key: &Key) -> Vec<Value> {
    let Bounds::Range { min, max } = key.bounds else {
        return Vec::new();
    };
    let (bound, units): (u64, &[(&str, u64)]) = match key.kind {
        Kind::Time => (
            1000,
            &[
                ("us", 1),
                ("", 1000),
                ("s", 1_000_000),
                ("d", 86_400_000_000),
            ],
        ),
        Kind::Size => (
            1,
            &[
                ("", 1),
                ("B", 1),
                (" kB", 1000),
                ("K", 1 << 10),
                (" TiB ", 1 << 40),
            ],
        ),
        Kind::Memory => (
            1 << 20,
            &[
                ("", 1),
                ("MiB", 1 << 20),
                (" G", 1 << 30),
                ("tb", 1_000_000_000_000),
            ],
        ),
        Kind::Hours => (
            3600,
            &[
                ("s", 1),
                ("min", 60),
                ("h", 3600),
                (" D", 86_400),
                ("w", 604_800),
            ],
        ),
        _ => return Vec::new(),
    };
    let mut texts = Vec::new();
    for (unit, worth) in units {
        let (min, max) = (min.unsigned_abs() * bound, max.unsigned_abs() * bound);
        let (first, last) = (min.div_ceil(*worth), max / worth);
        for number in [first.saturating_sub(1), first, last, last + 1] {
            texts.push(format!("{number}{unit}").into());
        }
    }
    texts
}

/// What each document has at its key, and whether the schema objects to it.
fn refused_by_schema(given: &[(&Key, Value)]) -> Vec<bool> {
    let whole = schema("config");
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut properties = serde_json::Map::new();
    for (number, (key, value)) in given.iter().enumerate() {
        properties.insert(key.path.to_owned(), of_key(&whole, key).clone());
        let file = folder.path().join(format!("{number}.json"));
        let document = serde_json::json!({key.path: value});
        std::fs::write(&file, document.to_string()).unwrap();
        files.push(file.display().to_string());
    }
    let schema = serde_json::json!({"properties": properties, "$defs": whole["$defs"]});
    let objections = objections(&schema, &files);
    files
        .iter()
        .map(|file| objections.contains_key(file))
        .collect()
}

/// By lbctl and by the schema, which an editor reads.
#[test]
fn every_declared_bound_is_held() {
    let mut whole = everything();
    whole.remove("volume_id").unwrap();
    remove(&mut whole, "bridge_interfaces", "dhcp");
    whole.remove("volume_format").unwrap();
    let mut tried = 0;
    let mut given: Vec<(&Key, Value)> = Vec::new();
    let mut is_refused = Vec::new();
    for key in KEYS {
        let (inside, outside) = match key.bounds {
            Bounds::Unbounded | Bounds::Form(_) => continue,
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
        let problem = |value: Value| {
            let mut document = whole.clone();
            if key.path == "haproxy.postgres_nodes_max_count" {
                keep_name_of_nodes(&mut document);
            }
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
            let mut problems = problems.into_iter().map(|p| (p.key, p.message));
            problems.find(|(key, message)| {
                *key == path && words.iter().any(|word| message.contains(word))
            })
        };
        let is_inside = |inside: bool| move |value: Value| (value, Some(inside));
        let inside = inside.into_iter().map(is_inside(true));
        let outside = outside.into_iter().map(is_inside(false));
        let in_units = in_each_unit(key).into_iter().map(|value| (value, None));
        for (value, is_inside) in inside.chain(outside).chain(in_units) {
            let problem = problem(value.clone());
            assert_ne!(Some(problem.is_some()), is_inside, "{}: {value}", key.path);
            // How many bytes make a whole MiB is not a question of form.
            let whole = "not a whole number of";
            if problem
                .as_ref()
                .is_none_or(|(_, message)| !message.contains(whole))
            {
                given.push((key, value));
                is_refused.push(problem.is_some());
            }
        }
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
    let by_schema = refused_by_schema(&given);
    let all = given.iter().zip(is_refused).zip(by_schema);
    let differ: Vec<_> = all
        .filter(|((_, by_lbctl), by_schema)| by_lbctl != by_schema)
        .map(|(((key, value), by_lbctl), _)| (key.path, value, by_lbctl))
        .collect();
    assert!(
        differ.is_empty(),
        "lbctl and its schema differ: {differ:#?}"
    );
}

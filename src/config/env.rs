//! `{ env = "NAME" }` in the place of a plain value: before the tree is held against the keys, the
//! value of the variable stands there, with the place of the variable's name. Texts, keys and
//! secrets that may come from a file as well are `reader`'s: they are not shown, and not kept.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned as InFile;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostics::{Diagnostics, Spanned};
use super::inputs::Inputs;
use super::keys::{self, Kind};
use super::reader::{Referred, join};

/// What the variables hold that the tree refers to.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// By the place of the table; a line of TOML that gives the value to [`KEY`].
    lines: BTreeMap<(usize, usize), (Range<usize>, String)>,
    /// The places of the tables whose variable is not there.
    pub failed: Vec<Range<usize>>,
}

const KEY: &str = "v";

/// Reads every variable, and notes what is wrong with one.
pub(super) fn read(
    root: &DeTable<'_>,
    inputs: &dyn Inputs,
    diagnostics: &Diagnostics,
) -> Variables {
    let mut variables = Variables::default();
    walk(root, "", "", &mut |kind, value, path| {
        let Some((name, span)) = variable(value.get_ref()) else {
            return;
        };
        let place = Spanned {
            value: (),
            key: path.to_owned(),
            span: span.clone(),
        };
        let table = value.span();
        match Referred::Env(name.to_owned(), span.clone()).read(inputs) {
            Ok(text) => {
                let line = line(kind, text.expose());
                let at = (table.start, table.end);
                variables.lines.insert(at, (span, line));
            }
            Err(invalid) => {
                diagnostics.invalid(&place, invalid);
                variables.failed.push(table);
            }
        }
    });
    variables
}

/// Puts what was read in the place of what refers to it.
pub(super) fn put<'t>(root: &mut DeTable<'t>, variables: &'t Variables) {
    for (_, value) in root.iter_mut() {
        put_value(value, variables);
    }
}

fn put_value<'t>(value: &mut InFile<DeValue<'t>>, variables: &'t Variables) {
    let span = value.span();
    if let Some((place, line)) = variables.lines.get(&(span.start, span.end)) {
        let read = DeTable::parse(line).ok();
        if let Some(read) = read.and_then(|table| table.into_inner().remove(KEY)) {
            *value = InFile::new(place.clone(), read.into_inner());
        }
        return;
    }
    match value.get_mut() {
        DeValue::Table(table) => put(table, variables),
        DeValue::Array(array) => {
            for item in array.iter_mut() {
                put_value(item, variables);
            }
        }
        _ => {}
    }
}

/// Of `{ env = "NAME" }` and nothing else: the name, and its place.
fn variable<'v>(value: &'v DeValue<'_>) -> Option<(&'v str, Range<usize>)> {
    let mut entries = value.as_table()?.iter();
    let (key, target) = entries.next()?;
    let alone = entries.next().is_none() && key.get_ref() == "env";
    let name = target.get_ref().as_str().filter(|_| alone)?;
    Some((name, target.span()))
}

/// A value as TOML has it: a number or a switch is one where the key takes such.
fn line(kind: Kind, text: &str) -> String {
    let trimmed = text.trim();
    let is_number = trimmed.parse::<i64>().is_ok() || trimmed.parse::<f64>().is_ok();
    let is_bare = match kind {
        Kind::Integer | Kind::Number | Kind::Boolean | Kind::SwitchOrPort => {
            is_number || matches!(trimmed, "true" | "false")
        }
        Kind::Time | Kind::Size | Kind::Memory | Kind::Hours => trimmed.parse::<i64>().is_ok(),
        _ => false,
    };
    let bare = format!("{KEY} = {trimmed}");
    // What Rust takes for a number and TOML does not is a text, as it is in the variable.
    if is_bare && DeTable::parse(&bare).is_ok() {
        return bare;
    }
    format!("{KEY} = {}", toml::Value::from(text))
}

/// Every value that may come from a variable: of a list each element. `shown`: the path in
/// messages.
fn walk<'t>(
    table: &'t DeTable<'t>,
    path: &str,
    shown: &str,
    found: &mut impl FnMut(Kind, &'t InFile<DeValue<'t>>, &str),
) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        let shown = join(shown, name.get_ref());
        let Some(key) = keys::find(&path) else {
            continue;
        };
        match (key.kind, value.get_ref()) {
            (Kind::Table, DeValue::Table(inner)) => walk(inner, &path, &shown, found),
            (Kind::Tables, DeValue::Array(items)) => {
                for (number, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        let shown = format!("{shown}[{number}]");
                        walk(inner, &format!("{path}[]"), &shown, found);
                    }
                }
            }
            (Kind::Texts | Kind::TextOrTexts, DeValue::Array(items)) => {
                elements(items, &shown, found);
            }
            (kind, DeValue::Table(_)) if kind.is_plain() => found(kind, value, &shown),
            _ => {}
        }
    }
}

fn elements<'t>(
    items: &'t DeArray<'t>,
    shown: &str,
    found: &mut impl FnMut(Kind, &'t InFile<DeValue<'t>>, &str),
) {
    for (number, item) in items.iter().enumerate() {
        found(Kind::Text, item, &format!("{shown}[{number}]"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_gives_what_the_key_takes() {
        for (kind, text, expected) in [
            (Kind::Text, "lb-1", "v = \"lb-1\""),
            (Kind::Text, "5", "v = \"5\""),
            (Kind::Text, "a \"b\"", "v = 'a \"b\"'"),
            (Kind::Integer, " 5", "v = 5"),
            (Kind::Integer, "five", "v = \"five\""),
            // Neither more than a number, nor one of Rust's alone.
            (
                Kind::Integer,
                "5\nname = 1",
                "v = \"\"\"\n5\nname = 1\"\"\"",
            ),
            (Kind::Number, "1.5", "v = 1.5"),
            (Kind::Number, "infinity", "v = \"infinity\""),
            (Kind::Boolean, "true", "v = true"),
            (Kind::SwitchOrPort, "8008", "v = 8008"),
            (Kind::Time, "5s", "v = \"5s\""),
            (Kind::Time, "500", "v = 500"),
            (Kind::Memory, "2 GiB", "v = \"2 GiB\""),
        ] {
            let line = line(kind, text);
            assert_eq!(line, expected);
            assert!(DeTable::parse(&line).is_ok_and(|table| table.get_ref().len() == 1));
        }
    }
}

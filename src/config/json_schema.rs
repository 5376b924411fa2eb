//! The configuration's JSON Schema (draft 2020-12), for editors: which keys there are, what they
//! mean, what they take. Made from [`keys::KEYS`] alone, so it cannot miss one. It is looser than
//! `lbctl check`: it knows the form of a text (`forms`, `units`), and whether an address lies in
//! its network is not a question of form.

use serde_json::{Map, Value, json};

use super::keys::{self, Bounds, Key, Kind, Literal, Need, VMS};
use super::{FILL_IN, units};

/// The schema of the whole file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table("");
    // What each VM of a list has of its own is missed only where there is no list.
    let list = json!({"required": [VMS], "properties": {VMS: {"minItems": 1}}});
    add(
        &mut schema,
        json!({"if": list, "then": {}, "else": required_of_a_vm("")}),
    );
    if let Some(object) = schema.as_object_mut() {
        let head = [
            ("$schema", "https://json-schema.org/draft/2020-12/schema"),
            ("$id", "urn:lbctl:config:1"),
            ("title", "Configuration of lbctl"),
        ];
        for (key, text) in head {
            object.insert(key.into(), text.into());
        }
        object.insert("$defs".into(), definitions());
    }
    schema
}

/// A table, whose path is that of its key; a list's element has `[]` behind it.
fn table(path: &str) -> Value {
    let vm = path.strip_prefix(VMS).is_some_and(|p| p.starts_with("[]"));
    let properties: Map<String, Value> = keys::children(path)
        .map(|key| (key.name().to_owned(), property(key, vm)))
        .collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    match switch(path) {
        // Above it, a switch says when its keys are needed.
        _ if above(path).any(|parent| switch(parent).is_some()) => {}
        None => add(&mut schema, required(path)),
        Some(default) => {
            schema["if"] = on(default);
            schema["then"] = required_below(path);
        }
    }
    schema
}

/// `vm`: of a VM in a list.
fn property(key: &Key, vm: bool) -> Value {
    let path = if vm {
        format!("{VMS}[].{}", key.path)
    } else {
        key.path.to_owned()
    };
    let mut schema = match key.kind {
        Kind::Text => text(key.bounds),
        Kind::LongText | Kind::Secret => json!({"$ref": "#/$defs/long_text"}),
        Kind::LongTexts => json!({"anyOf": [
            {"$ref": "#/$defs/long_text"},
            {"type": "array", "items": {"$ref": "#/$defs/long_text"}},
        ]}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::SwitchOrPort => json!({"type": ["boolean", "integer"]}),
        Kind::Texts => texts(key.bounds),
        Kind::TextOrTexts => json!({"anyOf": [text(key.bounds), texts(key.bounds)]}),
        Kind::Time | Kind::Size | Kind::Memory | Kind::Hours => quantity(key),
        Kind::Pairs => json!({"$ref": "#/$defs/pairs"}),
        Kind::Table => table(&path),
        Kind::Tables => json!({"type": "array", "items": table(&format!("{path}[]"))}),
    };
    if key.kind.is_plain() {
        schema = json!({"anyOf": [schema, {"$ref": "#/$defs/env"}]});
    }
    if path == VMS {
        schema["items"]["required"] = json!(["name"]);
    }
    // A validator holds these against numbers alone.
    match key.bounds {
        Bounds::Unbounded | Bounds::Words(_) | Bounds::Form(_) => {}
        Bounds::Range { min, max } => add(&mut schema, json!({"minimum": min, "maximum": max})),
        Bounds::Between { above, below } => {
            let bounds = json!({"exclusiveMinimum": above, "exclusiveMaximum": below});
            add(&mut schema, bounds);
        }
    }
    if let Some(most) = key.most {
        let of = if key.kind == Kind::Pairs {
            "maxProperties"
        } else {
            "maxItems"
        };
        schema[of] = most.into();
    }
    schema["description"] = key.meaning.into();
    match key.default {
        None => {}
        Some(Literal::Bool(value)) => schema["default"] = value.into(),
        Some(Literal::Int(value)) => schema["default"] = value.into(),
        Some(Literal::Str(value)) => schema["default"] = value.into(),
    }
    schema
}

/// Empty texts mean "not given", whatever the key takes.
fn text(bounds: Bounds) -> Value {
    match bounds {
        Bounds::Words(words) => json!({"anyOf": [{"enum": words}, {"const": ""}]}),
        Bounds::Form(form) => json!({"type": "string", "pattern": format!("^(?:{form})?$")}),
        _ => json!({"type": "string"}),
    }
}

/// A list of texts, or the empty text.
fn texts(bounds: Bounds) -> Value {
    let item = match bounds {
        Bounds::Form(form) => json!({"type": "string", "pattern": format!("^(?:{form})$")}),
        _ => json!({"type": "string"}),
    };
    json!({"anyOf": [
        {"type": "array", "items": {"anyOf": [item, {"$ref": "#/$defs/env"}]}},
        {"const": ""},
    ]})
}

/// A number, or a text with a unit. The form stands apart from the bounds in each unit, so that a
/// validator can say which of the two is wrong.
fn quantity(key: &Key) -> Value {
    let form = units::form(key.kind);
    let mut schema = json!({"type": ["string", "integer"], "pattern": format!("^(?:{form})?$")});
    if let Bounds::Range { .. } = key.bounds {
        let bounds = units::form_within(key.kind, &key.range());
        schema["allOf"] = json!([{"pattern": format!("^(?:{bounds})?$")}]);
    }
    schema
}

fn definitions() -> Value {
    let one = |name: &str, meaning: &str| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": [name],
            "properties": {name: {
                "type": "string",
                "description": meaning,
                "not": {"const": FILL_IN},
            }},
        })
    };
    json!({
        "long_text": {"anyOf": [
            {"type": "string"},
            one("file", "Path of a file that holds the text; relative to the configuration"),
            one("env", "Name of an environment variable that holds the text"),
        ]},
        "env": one("env", "Name of an environment variable that holds the value"),
        "pairs": {"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean"]}},
    })
}

/// The default of a table's `enabled`, where it has one.
fn switch(path: &str) -> Option<bool> {
    let enabled = keys::children(path).find(|key| key.name() == "enabled")?;
    Some(enabled.default == Some(Literal::Bool(true)))
}

/// The tables that a table stands in.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(at, _)| &path[..at])
}

/// `{"required": [...]}`, or nothing.
fn required(path: &str) -> Value {
    // An element of a list is whole: only tables are put together from two places.
    let is_whole = path.strip_prefix(VMS).unwrap_or(path);
    let is_whole = is_whole
        .strip_prefix("[]")
        .unwrap_or(is_whole)
        .contains("[]");
    names(keys::children(path).filter(|key| is_whole || !keys::is_own(key)))
}

/// The keys that are needed, as `required`.
fn names(keys: impl Iterator<Item = &'static Key>) -> Value {
    let needed = keys.filter(|key| key.need == Need::Required);
    let needed: Vec<&str> = needed.map(Key::name).collect();
    if needed.is_empty() {
        json!({})
    } else {
        json!({"required": needed})
    }
}

/// What is needed, in a table and below it, of that which each VM of a list has of its own.
fn required_of_a_vm(path: &str) -> Value {
    let mut schema = names(keys::children(path).filter(|key| keys::is_own(key)));
    let tables: Map<String, Value> = keys::children(path)
        .filter(|key| key.kind == Kind::Table && keys::of_a_vm(key))
        .map(|key| (key.name().to_owned(), required_of_a_vm(key.path)))
        .filter(|(_, needed)| *needed != json!({}))
        .collect();
    if !tables.is_empty() {
        schema["properties"] = tables.into();
    }
    match switch(path) {
        Some(default) if schema != json!({}) => json!({"if": on(default), "then": schema}),
        _ => schema,
    }
}

/// Whether a table with `enabled` is switched on.
fn on(default: bool) -> Value {
    let mut on = json!({"properties": {"enabled": {"const": true}}});
    if !default {
        on["required"] = json!(["enabled"]);
    }
    on
}

/// What is needed in a table and in the tables below it.
fn required_below(path: &str) -> Value {
    let mut schema = required(path);
    let tables: Map<String, Value> = keys::children(path)
        .filter(|key| key.kind == Kind::Table)
        .map(|key| (key.name().to_owned(), required_below(key.path)))
        .collect();
    if !tables.is_empty() {
        schema["properties"] = tables.into();
    }
    schema
}

fn add(schema: &mut Value, more: Value) {
    if let (Some(schema), Value::Object(more)) = (schema.as_object_mut(), more) {
        schema.extend(more);
    }
}

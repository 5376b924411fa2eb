//! The configuration's JSON Schema (draft 2020-12), for editors: which keys there are, what they mean, what they take. Made
//! from [`KEYS`] alone, so it cannot miss one. It is looser than `lbctl check`: whether an address lies in its network is
//! not a question of shape.

use serde_json::{Map, Value, json};

use super::checks::{DOMAIN_TYPES, FORMATS, KEY_ALGORITHMS, RUNTIMES};
use super::keys::{self, Key, Kind, Need};

/// The schema of the whole file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table("");
    if let Some(object) = schema.as_object_mut() {
        let head = [
            ("$schema", "https://json-schema.org/draft/2020-12/schema"),
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
    let properties: Map<String, Value> = keys::children(path)
        .map(|key| (key.name().to_owned(), property(key)))
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
            let mut on = json!({"properties": {"enabled": {"const": true}}});
            if !default {
                on["required"] = json!(["enabled"]);
            }
            schema["if"] = on;
            schema["then"] = required_below(path);
        }
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text => text(key.path),
        Kind::LongText | Kind::Secret => json!({"$ref": "#/$defs/long_text"}),
        Kind::Integer if is_port(key) => json!({"type": "integer", "minimum": 1, "maximum": 65535}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Texts => json!({"$ref": "#/$defs/texts"}),
        Kind::TextOrTexts => json!({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/texts"}]}),
        Kind::Time | Kind::Size => json!({"type": ["string", "integer"]}),
        Kind::Table => table(key.path),
        Kind::Tables => json!({"type": "array", "items": table(&format!("{}[]", key.path))}),
    };
    schema["description"] = key.meaning.into();
    if let Some(default) = as_json(key.default) {
        schema["default"] = default;
    }
    schema
}

/// Empty texts mean "not given", whatever the key takes.
fn text(path: &str) -> Value {
    let words = match path {
        "volume.format" => words(FORMATS),
        "haproxy.runtime" => words(RUNTIMES),
        "haproxy.patroni_client.key_algorithm" => words(KEY_ALGORITHMS),
        "libvirt.domain_type" => words(DOMAIN_TYPES),
        _ => return json!({"type": "string"}),
    };
    json!({"anyOf": [{"enum": words}, {"const": ""}]})
}

fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

fn is_port(key: &Key) -> bool {
    key.name() == "port" || key.name().ends_with("_port")
}

fn definitions() -> Value {
    let one = |name: &str, meaning: &str| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": [name],
            "properties": {name: {"type": "string", "description": meaning}},
        })
    };
    json!({
        "long_text": {"anyOf": [
            {"type": "string"},
            one("file", "Path of a file that holds the text; relative to the configuration"),
            one("env", "Name of an environment variable that holds the text"),
        ]},
        "texts": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"const": ""}]},
    })
}

/// The default of a table's `enabled`, where it has one.
fn switch(path: &str) -> Option<bool> {
    let enabled = keys::children(path).find(|key| key.name() == "enabled")?;
    Some(enabled.default == "true")
}

/// The tables that a table stands in.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(at, _)| &path[..at])
}

/// `{"required": [...]}`, or nothing.
fn required(path: &str) -> Value {
    let needed: Vec<&str> = keys::children(path)
        .filter(|key| key.need == Need::Required)
        .map(Key::name)
        .collect();
    if needed.is_empty() {
        json!({})
    } else {
        json!({"required": needed})
    }
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

/// A default as JSON writes it; `None`: there is none.
fn as_json(default: &str) -> Option<Value> {
    let written: toml::Table = toml::from_str(&format!("value = {default}")).ok()?;
    serde_json::to_value(written.get("value")?).ok()
}

//! The configuration's JSON Schema (draft 2020-12), for editors: which keys there are, what they
//! mean, what they take. Made from [`keys::KEYS`] alone, so it cannot miss one. It is looser than
//! `lbctl check`: whether an address lies in its network is not a question of shape.

use serde_json::{Map, Value, json};

use super::keys::{self, Bounds, Key, Kind, Literal, Need};

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
        Kind::Text => text(key.bounds),
        Kind::LongText | Kind::Secret => json!({"$ref": "#/$defs/long_text"}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::SwitchOrPort => json!({"type": ["boolean", "integer"]}),
        Kind::Texts => json!({"$ref": "#/$defs/texts"}),
        Kind::TextOrTexts => json!({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/texts"}]}),
        Kind::Time | Kind::Size => json!({"type": ["string", "integer"]}),
        Kind::Table => table(key.path),
        Kind::Tables => json!({"type": "array", "items": table(&format!("{}[]", key.path))}),
    };
    // A validator holds these against numbers alone: of a time or a size against one without a
    // unit.
    match key.bounds {
        Bounds::Unbounded | Bounds::Words(_) => {}
        Bounds::Range { min, max } => add(&mut schema, json!({"minimum": min, "maximum": max})),
        Bounds::Between { above, below } => {
            let bounds = json!({"exclusiveMinimum": above, "exclusiveMaximum": below});
            add(&mut schema, bounds);
        }
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
        _ => json!({"type": "string"}),
    }
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
    Some(enabled.default == Some(Literal::Bool(true)))
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

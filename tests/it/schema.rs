//! The JSON Schemas that lbctl prints: they describe what lbctl takes and prints, and one that was
//! published is kept. To publish what is new in them: `UPDATE_DOCS=1 cargo test --test it
//! schema::`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lbctl::testing::config::{KEYS, Key, Need};
use serde_json::{Value, json};

use crate::support::{lbctl, run};

pub fn schema(of: &str) -> Value {
    lbctl(["schema", of]).ok().json()
}

/// What Python's jsonschema objects to, by file.
pub fn objections(schema: &Value, files: &[String]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schema.json");
    fs::write(&path, schema.to_string()).unwrap();
    let judge = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/judge.py");
    let mut arguments = vec![
        "-B".to_owned(),
        judge.to_owned(),
        path.display().to_string(),
    ];
    arguments.extend_from_slice(files);
    let said = run("/usr/bin/python3", arguments).ok().stdout;
    let pairs = said.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(f, s)| (f.to_owned(), s.to_owned())).collect()
}

/// Whether `check` says of a wrong shape, and not of a wrong value or of what one key means for
/// another.
fn is_about_shape(line: &str) -> bool {
    let words = ["unknown key", "must be a", "must be true"];
    let between = |start: &str, end: &str| {
        let rest = line.strip_suffix(&format!("{end} is missing"))?;
        rest.rsplit_once(start).map(|(_, path)| path)
    };
    let missing = between("`", "`").or_else(|| between("[", "]"));
    let required = |path: &str| {
        KEYS.iter()
            .any(|k| k.path == path && k.need == Need::Required)
    };
    line.starts_with("error")
        && (words.iter().any(|w| line.contains(w)) || missing.is_some_and(required))
}

#[test]
fn the_configurations_schema_agrees_with_lbctl_about_shape() {
    let mut files = Vec::new();
    let mut accepted = Vec::new();
    let mut misshapen = Vec::new();
    for case in fs::read_dir("tests/config").unwrap() {
        let folder = case.unwrap().path();
        let Ok(expected) = fs::read_to_string(folder.join("expected")) else {
            continue;
        };
        let file = folder.join("lbctl.toml").display().to_string();
        // What each VM of a list needs may stand in two places, which the schema does not know.
        let in_two_places = file.contains("/vms-missing-");
        if expected.starts_with("accepted") {
            accepted.push(file.clone());
        } else if !in_two_places && expected.lines().any(is_about_shape) {
            misshapen.push(file.clone());
        }
        files.push(file);
    }
    for example in ["config.example.toml", "examples/pair.toml"] {
        files.push(example.into());
        accepted.push(example.into());
    }
    let objections = objections(&schema("config"), &files);
    let refused: Vec<_> = accepted.iter().filter_map(|f| objections.get(f)).collect();
    assert!(
        refused.is_empty(),
        "valid, and refused by the schema: {refused:#?}"
    );
    let passed: Vec<_> = misshapen
        .iter()
        .filter(|f| !objections.contains_key(*f))
        .collect();
    assert!(
        passed.is_empty(),
        "misshapen, and accepted by the schema: {passed:#?}"
    );
    assert!(
        accepted.len() > 10 && misshapen.len() > 20,
        "{} {}",
        accepted.len(),
        misshapen.len()
    );
}

/// Of the configurations that lbctl refuses, those that the schema accepts are known by name: what
/// is wrong in each is not the form of one value. It is in two values, in a file, in a key or a
/// certificate, or it is what a text means.
#[test]
fn the_configurations_schema_refuses_what_is_wrong_in_one_value() {
    let mut files = Vec::new();
    for case in fs::read_dir("tests/config").unwrap() {
        let folder = case.unwrap().path();
        let expected = fs::read_to_string(folder.join("expected")).unwrap_or_default();
        if expected.starts_with("error") {
            files.push(folder.join("lbctl.toml").display().to_string());
        }
    }
    let objections = objections(&schema("config"), &files);
    let mut passed: Vec<&str> = files
        .iter()
        .filter(|file| !objections.contains_key(*file))
        .map(|file| file.split('/').nth_back(1).unwrap())
        .collect();
    passed.sort_unstable();
    let (path, found) = ("tests/schema/accepted.txt", passed.join("\n") + "\n");
    if std::env::var_os("LBCTL_BLESS").is_some() {
        fs::write(path, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(path).unwrap_or_default());
}

#[test]
fn the_configurations_schema_has_every_key_and_what_it_means() {
    let schema = schema("config");
    for key in KEYS {
        let place = of_key(&schema, key);
        assert_eq!(place["description"], key.meaning, "{}", key.path);
    }
}

/// What the schema says of a key.
pub fn of_key<'a>(schema: &'a Value, key: &Key) -> &'a Value {
    let mut place = schema;
    for part in key.path.split('.') {
        place = &place["properties"][part.trim_end_matches("[]")];
        if part.ends_with("[]") {
            place = &place["items"];
        }
    }
    place
}

/// What a reader of the old documents could not read in the new ones.
fn breaks(old: &Value, new: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, was) in old {
                let at = format!("{at}/{key}");
                match new.get(key) {
                    // Words for people may change.
                    _ if key == "description" || key == "title" => {}
                    None => found.push(format!("{at} was removed")),
                    // What was always there stays so; what may be said may become more.
                    Some(is) if key == "required" || key == "enum" => {
                        let gone = list(was).into_iter().filter(|w| !list(is).contains(w));
                        found.extend(gone.map(|w| format!("{at} does not have {w} any more")));
                    }
                    Some(is) if key == "oneOf" || key == "anyOf" => {
                        let gone = list(was)
                            .into_iter()
                            .filter(|w| !list(is).iter().any(|i| breaks(w, i, "").is_empty()));
                        found.extend(gone.map(|w| format!("{at} does not have {w} any more")));
                    }
                    Some(is) => found.extend(breaks(was, is, &at)),
                }
            }
        }
        _ if old == new => {}
        _ => found.push(format!("{at} was {old} and is {new}")),
    }
    found
}

#[test]
fn what_was_published_of_the_output_is_kept() {
    let path = Path::new("docs/output.schema.json");
    let new = schema("output");
    if let Ok(text) = fs::read_to_string(path) {
        let published: Value = serde_json::from_str(&text).unwrap();
        let broken = breaks(&published, &new, "");
        assert!(
            broken.is_empty(),
            "programs that read lbctl's output would break; take another number for SCHEMA, or leave it: {broken:#?}"
        );
    }
    publish(path, &new);
}

#[test]
fn what_was_published_of_the_events_is_kept() {
    let path = Path::new("docs/events.schema.json");
    let new = schema("events");
    if let Ok(text) = fs::read_to_string(path) {
        let published: Value = serde_json::from_str(&text).unwrap();
        let broken = breaks(&published, &new, "");
        assert!(
            broken.is_empty(),
            "programs that read lbctl's events would break: {broken:#?}"
        );
    }
    publish(path, &new);
}

#[test]
fn the_published_schema_of_the_configuration_is_the_present_one() {
    publish(Path::new("docs/config.schema.json"), &schema("config"));
}

fn publish(path: &Path, schema: &Value) {
    let text = format!("{schema:#}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == text,
        "{} is behind: UPDATE_DOCS=1 cargo test --test it schema::",
        path.display()
    );
}

#[test]
fn a_break_is_found_and_an_addition_is_none() {
    let old = schema("output");
    let status = "/$defs/StatusDocument";
    for (place, with) in [
        ("/properties/ready", None),
        ("/properties/ready/type", Some(json!("string"))),
        ("/properties/address/type", Some(json!("string"))),
        ("/required", Some(json!(["name"]))),
    ] {
        let mut new = old.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = new.pointer_mut(&format!("{status}{parent}")).unwrap();
        match with {
            Some(value) => parent[key] = value,
            None => _ = parent.as_object_mut().unwrap().remove(key),
        }
        assert!(!breaks(&old, &new, "").is_empty(), "{place}");
    }
    let mut more = old.clone();
    more.pointer_mut(&format!("{status}/properties")).unwrap()["weather"] =
        json!({"type": "string"});
    more.pointer_mut("/$defs/Verdict/oneOf")
        .unwrap()
        .as_array_mut()
        .unwrap()
        .push(json!({"const": "perhaps"}));
    assert_eq!(breaks(&old, &more, ""), Vec::<String>::new());
}

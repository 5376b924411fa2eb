//! A state of Terraform or OpenTofu: its resources with their addresses, out of the file itself
//! (version 4, from Terraform 0.12 on) or out of `terraform show -json`.
//!
//! A state holds every secret in plain text, and may come from anybody.

use std::fmt;

use super::json::{Json, JsonError};
use crate::text::sanitize::sanitize_line;

/// Longest state that is read, in bytes: a thousand times one load balancer's.
pub const MAX_STATE: u64 = 16 * 1024 * 1024;

/// How deep modules may be in one another.
const DEEPEST_MODULE: usize = 16;

/// What a state knows.
#[derive(Debug)]
pub struct State {
    /// Those that Terraform made; what it only reads ("data") is left out.
    pub resources: Vec<Resource>,
}

#[derive(Debug)]
pub struct Resource {
    pub address: Address,
    pub values: Json,
    /// Terraform destroys it at its next apply, and makes it again.
    pub tainted: bool,
}

/// Where a resource is, as `terraform state list` prints it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Such as `module.lbs["a"]`; empty for the root module.
    pub module: String,
    /// Such as `libvirt_domain`.
    pub kind: String,
    pub name: String,
    /// Such as `["a"]` or `[0]`, from count or `for_each`.
    pub key: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.module.is_empty() {
            write!(f, "{}.", self.module)?;
        }
        write!(f, "{}.{}{}", self.kind, self.name, self.key)
    }
}

impl Address {
    /// Whether it is that address, or in that module or resource.
    #[must_use]
    pub fn is_within(&self, address: &str) -> bool {
        let own = self.to_string();
        own.strip_prefix(address)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// Why a text is no state that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateError {
    TooLong,
    Json(JsonError),
    Encrypted,
    /// Another version of the format.
    Version(i64),
    /// What `terraform show -json` says of a saved plan.
    Plan,
    /// JSON, and something else.
    Unknown,
    ModulesTooDeep,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "is longer than {} MiB", MAX_STATE / 1024 / 1024),
            Self::Json(error) => error.fmt(f),
            Self::Encrypted => f.write_str("is an encrypted state (it has encryption_version)"),
            Self::Version(version) => {
                write!(
                    f,
                    "is a state of version {version}, and lbctl reads version 4"
                )
            }
            Self::Plan => f.write_str("is a plan and not a state"),
            Self::Unknown => f.write_str("is no state of Terraform"),
            Self::ModulesTooDeep => {
                write!(
                    f,
                    "has modules within each other more than {DEEPEST_MODULE} times"
                )
            }
        }
    }
}

impl std::error::Error for StateError {}

impl StateError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Encrypted => {
                "`tofu state pull` prints it decrypted: give it that, with --state -"
            }
            Self::Version(_) | Self::Unknown | Self::Plan => {
                "`terraform state pull` of Terraform 0.12 or newer prints version 4, for every backend: give it that, with --state -"
            }
            Self::TooLong | Self::ModulesTooDeep => {
                "give --domain alone: the host knows all but the CA's private key"
            }
            Self::Json(_) => {
                "`terraform state pull` prints the state for every backend: give it that, with --state -"
            }
        }
    }
}

impl State {
    /// Reads a text of either form.
    pub fn parse(text: &[u8]) -> Result<Self, StateError> {
        if text.len() as u64 > MAX_STATE {
            return Err(StateError::TooLong);
        }
        let document = Json::parse(text).map_err(StateError::Json)?;
        let has = |key| document.get(key).is_some();
        if has("encryption_version") || has("encrypted_data") {
            return Err(StateError::Encrypted);
        }
        if has("planned_values") {
            return Err(StateError::Plan);
        }
        if has("format_version") {
            return Self::shown(document);
        }
        match document.whole("version") {
            Some(4) => Ok(Self::version_4(document)),
            Some(other) => Err(StateError::Version(other)),
            None => Err(StateError::Unknown),
        }
    }

    fn version_4(document: Json) -> Self {
        let mut resources = Vec::new();
        for resource in items(take(document, "resources")) {
            if resource.text("mode").is_some_and(|mode| mode != "managed") {
                continue;
            }
            let of = |key| resource.text(key).unwrap_or_default().to_owned();
            let (module, kind, name) = (of("module"), of("type"), of("name"));
            for instance in items(take(resource, "instances")) {
                let address = Address {
                    module: module.clone(),
                    kind: kind.clone(),
                    name: name.clone(),
                    key: key(instance.get("index_key")),
                };
                resources.push(Resource {
                    address,
                    tainted: instance.text("status") == Some("tainted"),
                    values: take(instance, "attributes"),
                });
            }
        }
        Self { resources }
    }

    fn shown(document: Json) -> Result<Self, StateError> {
        let mut resources = Vec::new();
        // A state without resources has no values at all.
        let root = take(take(document, "values"), "root_module");
        module(root, &mut resources, 0)?;
        Ok(Self { resources })
    }

    /// Those of a type.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = &Resource> {
        self.resources
            .iter()
            .filter(move |resource| resource.address.kind == kind)
    }
}

fn module(shown: Json, into: &mut Vec<Resource>, depth: usize) -> Result<(), StateError> {
    if depth > DEEPEST_MODULE {
        return Err(StateError::ModulesTooDeep);
    }
    let Json::Map(entries) = shown else {
        return Ok(());
    };
    let path = entries.iter().find(|(key, _)| key == "address");
    let path = path.and_then(|(_, address)| address.secret());
    let path = path.map_or_else(String::new, |path| path.expose().to_owned());
    for (name, value) in entries {
        match name.as_str() {
            "resources" => into.extend(items(value).filter_map(|shown| resource(shown, &path))),
            "child_modules" => {
                for child in items(value) {
                    module(child, into, depth + 1)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn resource(shown: Json, module: &str) -> Option<Resource> {
    if shown.text("mode").is_some_and(|mode| mode != "managed") {
        return None;
    }
    let address = Address {
        module: module.to_owned(),
        kind: shown.text("type")?.to_owned(),
        name: shown.text("name")?.to_owned(),
        key: key(shown.get("index")),
    };
    let tainted = matches!(shown.get("tainted"), Some(Json::Bool(true)));
    Some(Resource {
        address,
        tainted,
        values: take(shown, "values"),
    })
}

/// The value of a key, taken out of its map.
fn take(from: Json, key: &str) -> Json {
    let Json::Map(entries) = from else {
        return Json::Null;
    };
    let mut from_last = entries.into_iter().rev();
    from_last
        .find(|(name, _)| name == key)
        .map_or(Json::Null, |(_, value)| value)
}

fn items(list: Json) -> impl Iterator<Item = Json> {
    let items = match list {
        Json::List(items) => items,
        _ => Vec::new(),
    };
    items.into_iter()
}

/// As Terraform writes it in an address: what would begin an expression in HCL is doubled.
fn key(index: Option<&Json>) -> String {
    match index {
        Some(Json::Whole(number)) => format!("[{number}]"),
        Some(Json::Text(text)) => {
            let quoted = serde_json::Value::from(text.expose()).to_string();
            format!("[{}]", quoted.replace("${", "$${").replace("%{", "%%{"))
        }
        _ => String::new(),
    }
}

/// An address for a message.
#[must_use]
pub fn shown(address: &Address) -> String {
    sanitize_line(&address.to_string(), 200)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        let state = State::parse(text.as_bytes()).unwrap();
        let addresses = state.resources.iter().map(|r| r.address.to_string());
        addresses.collect()
    }

    #[test]
    fn addresses_are_as_terraform_prints_them() {
        let text = r#"{"version": 4, "resources": [
            {"mode": "managed", "type": "libvirt_volume", "name": "lb", "instances": [
                {"index_key": 0, "attributes": {}}, {"index_key": "a\"b${c}", "attributes": {}}]},
            {"module": "module.lbs[\"x.y\"]", "mode": "managed", "type": "libvirt_domain", "name": "n",
             "instances": [{"attributes": {}, "status": "tainted"}]},
            {"mode": "data", "type": "libvirt_domain", "name": "n", "instances": [{"attributes": {}}]}]}"#;
        assert_eq!(
            addresses(text),
            [
                "libvirt_volume.lb[0]",
                r#"libvirt_volume.lb["a\"b$${c}"]"#,
                r#"module.lbs["x.y"].libvirt_domain.n"#,
            ]
        );
        let state = State::parse(text.as_bytes()).unwrap();
        let tainted: Vec<bool> = state.resources.iter().map(|r| r.tainted).collect();
        assert_eq!(tainted, [false, false, true]);
    }

    #[test]
    fn what_show_prints_has_the_same_addresses() {
        let text = r#"{"format_version": "1.0", "values": {"root_module": {
            "resources": [{"address": "x", "mode": "managed", "type": "t", "name": "n", "index": "k", "values": {}}],
            "child_modules": [{"address": "module.a[0]", "child_modules": [{"address": "module.a[0].module.b",
                "resources": [{"mode": "managed", "type": "t", "name": "n", "values": {}, "tainted": true},
                              {"mode": "data", "type": "t", "name": "d", "values": {}}]}]}]}}}"#;
        assert_eq!(addresses(text), [r#"t.n["k"]"#, "module.a[0].module.b.t.n"]);
        assert_eq!(addresses(r#"{"format_version": "1.0"}"#), [""; 0]);
    }

    #[test]
    fn an_address_covers_what_is_within_it() {
        let address = Address {
            module: r#"module.lb["a"]"#.into(),
            kind: "libvirt_domain".into(),
            name: "n".into(),
            key: String::new(),
        };
        for whole in [r#"module.lb["a"]"#, "module.lb", &address.to_string()] {
            assert!(address.is_within(whole), "{whole}");
        }
        for other in ["module.l", r#"module.lb["a"#, r#"module.lb["b"]"#, "n"] {
            assert!(!address.is_within(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_state_is_named() {
        let deep = format!(
            r#"{{"format_version": "1.0", "values": {{"root_module": {}{{}}{}}}}}"#,
            r#"{"child_modules": ["#.repeat(20),
            "]}".repeat(20)
        );
        let long = " ".repeat(usize::try_from(MAX_STATE).unwrap() + 1);
        for (text, expected) in [
            ("{}", StateError::Unknown),
            (r#"{"version": 3, "modules": []}"#, StateError::Version(3)),
            (r#"{"version": 5}"#, StateError::Version(5)),
            (
                r#"{"serial": 1, "encrypted_data": "x", "encryption_version": "v0"}"#,
                StateError::Encrypted,
            ),
            (
                r#"{"format_version": "1.2", "planned_values": {}}"#,
                StateError::Plan,
            ),
            (&deep, StateError::ModulesTooDeep),
            (&long, StateError::TooLong),
            ("", StateError::Json(JsonError::Cut)),
        ] {
            assert_eq!(State::parse(text.as_bytes()).unwrap_err(), expected);
        }
    }
}

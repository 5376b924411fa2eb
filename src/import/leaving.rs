//! How a VM leaves Terraform: what to take out of its state, and what out of its files. Printed
//! only; lbctl writes no state.

use super::from_state::Chosen;
use super::state::{Address, Resource, State};
use crate::text::sanitize::drives_terminal;

/// What is to be done before the next `terraform apply`, where the VM is to stay.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// One command.
    pub state_rm: Option<String>,
    /// For the .tf files of Terraform 1.7 and newer, in the place of the command.
    pub removed: Vec<String>,
    /// What must leave the .tf files.
    pub take_out: Vec<String>,
    /// What is to be known beside it.
    pub notes: Vec<String>,
}

/// Types that the module makes beside the domain, and that nothing else needs.
const OF_MODULE: [&str; 4] = [
    "libvirt_cloudinit_disk",
    "tls_private_key",
    "tls_cert_request",
    "tls_locally_signed_cert",
];

#[must_use]
pub fn leaving(state: &State, chosen: &Chosen<'_>) -> Leaving {
    let mut leaving = Leaving::default();
    let module = &chosen.domain.address.module;
    let domain = &chosen.domain.address;
    let mut addresses: Vec<(String, Option<&Address>)> = Vec::new();
    if is_of_one_vm(state, chosen) {
        addresses.push((module.clone(), None));
    } else {
        addresses.push((domain.to_string(), Some(domain)));
        if let Some(seed) = chosen.seed {
            addresses.push((seed.address.to_string(), Some(&seed.address)));
        }
    }
    if let Some(volume) = chosen.volume {
        let is_covered = addresses
            .iter()
            .any(|(address, of)| of.is_none() && volume.address.is_within(address));
        if !is_covered {
            addresses.push((volume.address.to_string(), Some(&volume.address)));
        }
    }
    if chosen.domain.tainted {
        leaving.notes.push("THE DOMAIN IS TAINTED: Terraform destroys it at its next apply, whatever the .tf files say, until it has left the state".into());
    }
    if addresses
        .iter()
        .any(|(address, _)| address.chars().any(drives_terminal))
    {
        leaving.notes.push("an address has characters in it that cannot be shown: take the resources out of the state by `terraform state list`".into());
        return leaving;
    }
    let quoted: Vec<String> = addresses
        .iter()
        .map(|(address, _)| in_shell(address))
        .collect();
    leaving.state_rm = Some(format!("terraform state rm {}", quoted.join(" ")));
    for (address, resource) in &addresses {
        let module = steps(resource.map_or(module.as_str(), |of| of.module.as_str()));
        let has_key = resource.is_some_and(|of| !of.key.is_empty())
            || module.iter().any(|step| step.key.is_some());
        if has_key {
            let words = format!(
                "a removed block names no single instance, so there is none for {address}: use the command above"
            );
            leaving.notes.push(words);
        } else {
            leaving.removed.push(format!(
                "removed {{\n  from = {address}\n  lifecycle {{\n    destroy = false\n  }}\n}}"
            ));
        }
        leaving.take_out.push(block(*resource, &module));
    }
    if chosen.volume.is_some_and(|volume| has_base(state, volume)) {
        leaving.notes.push("the disk's base volume is Terraform's, too, and stays: the disk is a clone of it, so do not let Terraform destroy it".into());
    }
    leaving
}

/// Whether Terraform made the base volume, too.
fn has_base(state: &State, volume: &Resource) -> bool {
    let of = |key| volume.values.text(key);
    let pool = of("base_volume_pool").or_else(|| of("pool"));
    state.of("libvirt_volume").any(|other| {
        let values = &other.values;
        let is_named = values.text("name").is_some()
            && values.text("name") == of("base_volume_name")
            && values.text("pool") == pool;
        is_named || values.text("id").is_some() && values.text("id") == of("base_volume_id")
    })
}

/// Whether a module holds one VM and no more, so that it can go as a whole.
fn is_of_one_vm(state: &State, chosen: &Chosen<'_>) -> bool {
    let module = &chosen.domain.address.module;
    let disk = chosen.volume.map(|volume| &volume.address);
    if module.is_empty() {
        return false;
    }
    let inner: Vec<&Address> = state
        .resources
        .iter()
        .map(|resource| &resource.address)
        .filter(|address| address.is_within(module))
        .collect();
    let is_known = |address: &&Address| match address.kind.as_str() {
        "libvirt_volume" => Some(*address) == disk,
        "libvirt_domain" => *address == &chosen.domain.address,
        kind => OF_MODULE.contains(&kind),
    };
    inner.iter().all(is_known)
}

/// One module of a path of modules.
struct Step {
    name: String,
    key: Option<String>,
}

/// `module.a["x"].module.b` as its steps.
fn steps(module: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = module;
    while let Some(step) = rest.trim_start_matches('.').strip_prefix("module.") {
        let end = step.find(['.', '[']).unwrap_or(step.len());
        let (name, mut behind) = step.split_at(end);
        let mut key = None;
        if let Some(inner) = behind.strip_prefix('[') {
            let end = end_of_key(inner);
            key = Some(inner[..end].to_owned());
            behind = inner[end..].strip_prefix(']').unwrap_or_default();
        }
        steps.push(Step {
            name: name.to_owned(),
            key,
        });
        rest = behind;
    }
    steps
}

/// Where the key of an address ends; a text may have brackets in it.
fn end_of_key(text: &str) -> usize {
    if !text.starts_with('"') {
        return text.find(']').unwrap_or(text.len());
    }
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// What stands for it in the .tf files.
fn block(resource: Option<&Address>, module: &[Step]) -> String {
    let called = |step: &Step| {
        let of = step
            .key
            .as_ref()
            .map(|key| format!("the instance {key} of "));
        format!("{}module \"{}\"", of.unwrap_or_default(), step.name)
    };
    let mut from: Vec<String> = module.iter().rev().map(called).collect();
    if let Some(Address {
        kind, name, key, ..
    }) = resource
    {
        let key = key.trim_start_matches('[').trim_end_matches(']');
        let of = if key.is_empty() {
            String::new()
        } else {
            format!("the instance {key} of ")
        };
        from.insert(0, format!("{of}resource \"{kind}\" \"{name}\""));
    }
    from.join(", in ")
}

/// As one word of a shell.
fn in_shell(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell() {
        assert_eq!(in_shell("module.lb"), "module.lb");
        assert_eq!(in_shell(r#"module.lbs["a"]"#), r#"'module.lbs["a"]'"#);
        assert_eq!(in_shell("a'b"), r"'a'\''b'");
        assert_eq!(in_shell("a\\!b"), r"'a\!b'");
    }

    #[test]
    fn a_path_of_modules_is_read_with_keys_of_all_kinds() {
        let steps = steps(r#"module.a["x.]\"module.z"].module.b[0].module.c"#);
        let read: Vec<(&str, Option<&str>)> = steps
            .iter()
            .map(|step| (step.name.as_str(), step.key.as_deref()))
            .collect();
        let expected = [
            ("a", Some(r#""x.]\"module.z""#)),
            ("b", Some("0")),
            ("c", None),
        ];
        assert_eq!(read, expected);
        assert_eq!(
            block(None, &steps),
            r#"module "c", in the instance 0 of module "b", in the instance "x.]\"module.z" of module "a""#
        );
    }
}

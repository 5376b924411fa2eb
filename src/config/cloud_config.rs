//! A cloud-config of the operator's own, which is added to lbctl's user-data: it may add, and never
//! undo what lbctl needs. What is read here is written again word by word, for cloud-init reads
//! YAML 1.1 and no other reader would take each word for what it does.

use super::report::quoted;
use super::types::InvalidValue;
use crate::secret::Secret;
use crate::text::yaml::{self, Node, YamlError};

/// In bytes. All of it is in the seed, and goes through the guest agent.
const LONGEST: usize = 64 * 1024;
const DEEPEST: usize = 24;

/// Lists of lbctl's own, to which more may be added.
pub const ADDED_LISTS: [&str; 4] = ["packages", "runcmd", "users", "write_files"];
/// What lbctl says itself, and what would undo it.
const OWN: [&str; 33] = [
    "allow_public_ssh_keys",
    "apt",
    "ca-certs",
    "ca_certs",
    "chpasswd",
    "cloud_config_modules",
    "cloud_final_modules",
    "cloud_init_modules",
    "create_hostname_file",
    "datasource",
    "datasource_list",
    "fqdn",
    "growpart",
    "hostname",
    "launch-index",
    "manage_etc_hosts",
    "merge_how",
    "merge_type",
    "network",
    "package_reboot_if_required",
    "package_update",
    "password",
    "power_state",
    "prefer_fqdn_over_hostname",
    "preserve_hostname",
    "resize_rootfs",
    "ssh_deletekeys",
    "ssh_pwauth",
    "system_info",
    "timezone",
    "user",
    "vendor_data",
    "vendor_data2",
];
/// Where lbctl's files are, and those of what it runs.
const OWN_FOLDERS: [&str; 7] = [
    "/etc/chrony/",
    "/etc/docker/",
    "/etc/fluentd/",
    "/etc/haproxy/",
    "/etc/lbctl/",
    "/usr/local/lib/lbctl/",
    "/var/lib/cloud/",
];

/// Keys of the top level, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudConfig {
    pub entries: Vec<CloudEntry>,
}

/// Of one of the lists each element is one text, of every other key all of it: YAML in flow style
/// on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEntry {
    pub key: String,
    pub values: Vec<Secret>,
}

/// Reads a cloud-config, whose keys and files do not touch those of lbctl.
pub(super) fn parse(text: &Secret, admin: Option<&str>) -> Result<CloudConfig, InvalidValue> {
    let text = text.expose();
    let help = "give a cloud-config: YAML, whose first line is #cloud-config";
    let refused = |what: &str| Err(InvalidValue::new(what, help));
    if text.len() > LONGEST {
        return refused("is longer than 64 KiB");
    }
    if text.contains('\t') && text.lines().any(|line| line.starts_with('\t')) {
        return refused("is indented with tabs, which YAML does not take");
    }
    let first = text.lines().next().unwrap_or_default();
    let kinds = [
        ("#!", "is a script and not a cloud-config"),
        (
            "## template:",
            "is a template, which cloud-init does not fill in here",
        ),
        ("#include", "is a list of addresses and not a cloud-config"),
        ("#cloud-boothook", "is a boothook and not a cloud-config"),
        (
            "Content-Type:",
            "is a message of several parts and not a cloud-config",
        ),
        (
            "MIME-Version:",
            "is a message of several parts and not a cloud-config",
        ),
    ];
    if let Some((_, what)) = kinds.iter().find(|(begin, _)| first.starts_with(begin)) {
        return refused(what);
    }
    let Node::Map(entries) = document(text)? else {
        return refused("is not a list of keys and values");
    };
    let entries = entries.into_iter().map(|(key, value)| {
        let Node::Scalar { text: key, .. } = key else {
            return Err(InvalidValue::new("has a key that is no word", help));
        };
        entry(key, value, admin)
    });
    Ok(CloudConfig {
        entries: entries.collect::<Result<_, _>>()?,
    })
}

fn entry(key: String, value: Node, admin: Option<&str>) -> Result<CloudEntry, InvalidValue> {
    let clash = |what: String, help: &str| Err(InvalidValue::new(what, help));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
        let what = format!(
            "has the key {}, which cloud-init does not know",
            quoted(&key)
        );
        return clash(what, "correct it");
    }
    if OWN.contains(&key.as_str()) {
        let what = format!("sets `{key}`, which is lbctl's own");
        let help = "take it out; lbctl.toml has keys for what may be chosen: name, ssh_admin_user, and [guest]";
        return clash(what, help);
    }
    if !ADDED_LISTS.contains(&key.as_str()) {
        let values = vec![Secret::new(value.to_string())];
        return Ok(CloudEntry { key, values });
    }
    let Node::List(items) = value else {
        return clash(
            format!("has `{key}`, which is not a list"),
            "write it as a list",
        );
    };
    for item in &items {
        match key.as_str() {
            "write_files" => file(item)?,
            "users" => user(item, admin)?,
            _ => {}
        }
    }
    let values = items.iter().map(|item| Secret::new(item.to_string()));
    Ok(CloudEntry {
        key,
        values: values.collect(),
    })
}

fn file(item: &Node) -> Result<(), InvalidValue> {
    let Some(path) = item.text_of("path") else {
        let what = "has a file in `write_files` without a path";
        return Err(InvalidValue::new(what, "give each file a path"));
    };
    let own = OWN_FOLDERS.iter().any(|folder| path.starts_with(folder));
    let roundabout = path.split('/').any(|part| matches!(part, "." | "..")) || path.contains("//");
    let named = path
        .rsplit('/')
        .next()
        .is_some_and(|name| name.contains("lbctl"));
    let units = path.starts_with("/etc/systemd/system/haproxy.service");
    if !path.starts_with('/') || roundabout {
        let what = format!("writes the file {}, which is no whole path", quoted(path));
        return Err(InvalidValue::new(
            what,
            "write a path that begins with / and has no .. in it",
        ));
    }
    if own || named || units {
        let what = format!("writes the file {}, which is lbctl's own", quoted(path));
        let help = "take it out, or write another file: lbctl keeps those of HAProxy, Docker, chrony, fluentd and its own";
        return Err(InvalidValue::new(what, help));
    }
    Ok(())
}

fn user(item: &Node, admin: Option<&str>) -> Result<(), InvalidValue> {
    let name = match item {
        Node::Scalar { text, .. } => Some(text.as_str()),
        item => item.text_of("name"),
    };
    match name {
        Some(name) if Some(name) == admin || matches!(name, "default" | "root" | "haproxy") => {
            let what = format!("sets the user {}, which is lbctl's own", quoted(name));
            let help = "take it out; the administrator is ssh_admin_user in lbctl.toml";
            Err(InvalidValue::new(what, help))
        }
        Some(_) => Ok(()),
        None => {
            let what = "has a user without a name";
            Err(InvalidValue::new(what, "give each user a name"))
        }
    }
}

/// Reads one document, and says what keeps it from being taken.
fn document(text: &str) -> Result<Node, InvalidValue> {
    yaml::read(text, DEEPEST).map_err(|error| {
        let help = match &error {
            YamlError::Syntax { .. } => {
                "correct it: `cloud-init schema --config-file FILE` shows where"
            }
            YamlError::Empty => "put keys into it, or remove the line",
            YamlError::Several => "give one: cloud-init reads the first alone",
            YamlError::TooDeep | YamlError::Tag | YamlError::Alias | YamlError::Merge => {
                "write it out"
            }
            YamlError::Twice(_) => "keep one of the two",
        };
        let what = match &error {
            YamlError::Twice(key) => format!("has the key {} twice", quoted(key)),
            YamlError::Tag | YamlError::Alias | YamlError::Merge => {
                format!("{error}, which lbctl does not take")
            }
            _ => error.to_string(),
        };
        InvalidValue::new(what, help)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let parsed = parse(&Secret::new(text), Some("admin"));
        let entries = parsed.map_err(|invalid| invalid.what)?.entries;
        let texts = |entry: CloudEntry| {
            let values = entry.values.iter().map(|v| v.expose().to_owned());
            (entry.key, values.collect())
        };
        Ok(entries.into_iter().map(texts).collect())
    }

    #[track_caller]
    fn gives(text: &str, key: &str, values: &[&str]) {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        assert_eq!(read(text), Ok(vec![(key.to_owned(), values)]));
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let said = read(text).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn lists_are_added_to_and_other_keys_are_kept() {
        gives("packages: [vim, tmux]", "packages", &["vim", "tmux"]);
        gives(
            "#cloud-config\nruncmd:\n  - [sh, -c, 'echo a, b']\n  - echo \"x\" > /tmp/y\n",
            "runcmd",
            &["[sh, -c, \"echo a, b\"]", "\"echo \\\"x\\\" > /tmp/y\""],
        );
        gives(
            "write_files:\n- path: /etc/motd\n  permissions: 0644\n  content: |\n    a\n    b\n",
            "write_files",
            &["{path: \"/etc/motd\", permissions: 0644, content: \"a\\nb\\n\"}"],
        );
        gives("locale: de_DE.UTF-8", "locale", &["de_DE.UTF-8"]);
        gives(
            "ntp: {enabled: yes, x: ~}",
            "ntp",
            &["{enabled: yes, x: ~}"],
        );
        gives(
            "swap: {size: '1', y: no, z: 1:30}",
            "swap",
            &["{size: \"1\", y: no, z: 1:30}"],
        );
        gives("bootcmd:\n- 'a: b'\n", "bootcmd", &["[\"a: b\"]"]);
        gives("disk_setup: {a: }", "disk_setup", &["{a: ~}"]);
    }

    #[test]
    fn what_is_lbctls_own_is_refused_by_its_name() {
        for key in OWN {
            refused(
                &format!("{key}: x"),
                &format!("`{key}`, which is lbctl's own"),
            );
        }
        for path in [
            "/etc/haproxy/haproxy.cfg",
            "/etc/lbctl/guest.json",
            "/etc/sysctl.d/90-lbctl.conf",
            "/etc/systemd/system/haproxy.service.d/x.conf",
        ] {
            refused(
                &format!("write_files: [{{path: {path}}}]"),
                "which is lbctl's own",
            );
        }
        refused("write_files: [{path: /etc/x/../lbctl/a}]", "no whole path");
        refused("write_files: [{content: x}]", "without a path");
        refused("write_files: {path: x}", "not a list");
        for user in ["default", "{name: admin}", "root", "admin"] {
            refused(&format!("users: [{user}]"), "which is lbctl's own");
        }
    }

    #[test]
    fn what_is_no_cloud_config_is_named() {
        refused("#!/bin/sh\n", "a script");
        refused("## template: jinja\n#cloud-config\n", "a template");
        refused("Content-Type: multipart/mixed\n", "several parts");
        refused("", "is empty");
        refused("- a\n", "not a list of keys");
        refused("a: [\n", "cannot be read as YAML: line");
        refused("a: b\n---\nc: d\n", "more than one document");
        refused("a: &x b\nc: *x\n", "an alias");
        refused("a: !!binary x\n", "a tag");
        refused("a: {<<: {b: c}}\n", "a merge key");
        refused("a: 1\na: 2\n", "twice");
        refused(&format!("a: {}", "[".repeat(100)), "nested too deep");
        refused(&"a".repeat(LONGEST + 1), "64 KiB");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_answered(text in "(\\PC|\n|\t|\r|[-:?!&*#{},\\[\\]|>%@`\"'<=~ ]){0,200}") {
            let _ = read(&text);
            let _ = read(&format!("write_files:\n- path: /x\n  content: {text}\n"));
        }

        #[test]
        fn any_text_stays_in_its_value(text in "\\PC{0,40}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let Ok(read) = read(&format!("locale: {quoted}")) else { return Ok(()) };
            let shown = &read[0].1[0];
            proptest::prop_assert!(shown.is_ascii() && !shown.contains('\n'));
            proptest::prop_assert!(shown.starts_with('"') && shown.ends_with('"'));
        }
    }

    #[test]
    fn nothing_gets_out_of_its_value() {
        for nasty in [
            "x\nruncmd: [touch]",
            "a: b",
            "]",
            "}",
            ", b: c",
            "#",
            "\u{85}y",
            "'\"",
        ] {
            let text = serde_json::to_string(nasty).unwrap();
            let shown = read(&format!("locale: {text}"))
                .unwrap()
                .remove(0)
                .1
                .remove(0);
            assert!(shown.starts_with('"') && shown.is_ascii() && !shown.contains('\n'));
        }
    }
}

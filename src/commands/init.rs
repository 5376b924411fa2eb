//! `lbctl init`: a configuration to begin with. Short, with what must be filled in; or with what a
//! libvirt host has, which is only read; or with every key.

mod host;
mod patroni;
mod questions;

use std::fmt::Write as _;
use std::path::Path;

use self::patroni::{Nodes, Patroni};
use super::files::create_new;
use super::{CommandResult, asking, connect_to, text, uri_or};
use crate::cli::{Cli, InitArgs};
use crate::config::{FILL_IN, VolumeRef};
use crate::exit::{Exit, Failure, MessageId};
use crate::output::report::TextPart;
use crate::output::{Output, done};

const EXAMPLE: &str = include_str!("../../config.example.toml");
/// A comment lists no more names than this.
const LISTED: usize = 6;

pub(super) fn run(cli: &Cli, out: &Output, args: &InitArgs) -> CommandResult {
    if let Some(file) = &args.out
        && file.exists()
    {
        return Err(exists(file).into());
    }
    let written = if args.full {
        EXAMPLE.to_owned()
    } else {
        let mut draft = Draft::new();
        if args.from_host {
            let host = connect_to(&uri_or(cli, None), out)?;
            let _working = asking(out, &host);
            draft = Draft::from_host(&host, cli.global.connect.as_deref())?;
        }
        draft.patroni.nodes = Nodes::parse(args.nodes.iter().map(String::as_str));
        draft.patroni.tls = args.patroni_tls;
        if args.from_host && !cli.global.yes {
            let folder = args.out.as_deref().and_then(Path::parent);
            draft.ask(out, folder.unwrap_or(Path::new("")).to_owned());
        }
        draft.to_toml()
    };
    let Some(file) = &args.out else {
        return Ok(text(TextPart::Data(written)));
    };
    create_new(file, written.as_bytes()).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(file),
        _ => Failure::new(
            Exit::Failed,
            MessageId::FileNotWritten,
            format!("writing {}: {error}", file.display()),
            "",
        ),
    })?;
    let left = written.matches(FILL_IN).count();
    let rest = match left {
        0 => "; `lbctl check --host` says whether it works here".to_owned(),
        1 => format!("; 1 value is to be filled in ({FILL_IN}), `lbctl check` shows it"),
        n => format!("; {n} values are to be filled in ({FILL_IN}), `lbctl check` shows them"),
    };
    Ok(text(TextPart::Said(done(
        &file.display().to_string(),
        "written",
        &rest,
    ))))
}

fn exists(file: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        MessageId::FileExists,
        format!("{} already exists, and was not changed", file.display()),
        "choose another file for -o, or remove this one",
    )
}

/// A value, and what there is to say beside it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Slot {
    /// Empty: it is to be filled in.
    value: String,
    comment: String,
}

impl Slot {
    fn new(value: &str, comment: &str) -> Self {
        Self {
            value: value.to_owned(),
            comment: comment.to_owned(),
        }
    }

    /// The first of what was found, and all of it in the comment.
    fn of(what: &str, found: &[String], preferred: Option<&str>) -> Self {
        let is_preferred = |name: &&String| Some(name.as_str()) == preferred;
        let first = found.iter().find(is_preferred).or_else(|| found.first());
        let more = found.len().saturating_sub(LISTED);
        let shown = found.iter().take(LISTED).cloned().collect::<Vec<_>>();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Self {
            value: first.cloned().unwrap_or_default(),
            comment: if found.is_empty() {
                format!("this host has no {what}")
            } else {
                format!("{what} here: {}{more}", shown.join(", "))
            },
        }
    }

    fn text(&self) -> String {
        if self.value.is_empty() {
            quoted(FILL_IN)
        } else {
            quoted(&self.value)
        }
    }
}

/// What is known of the values.
#[derive(Debug, Default, Clone)]
struct Draft {
    uri: Option<String>,
    name: Slot,
    ssh_key: Slot,
    pool: Slot,
    base_pool: Slot,
    base: Slot,
    network: Slot,
    ip: Slot,
    patroni: Patroni,
    /// The host cannot run kvm guests.
    emulated: bool,
    /// What an answer may name: the host's pools, networks and volumes, and of these the images.
    pools: Vec<String>,
    networks: Vec<String>,
    volumes: Vec<VolumeRef>,
    images: Vec<VolumeRef>,
    /// For each network that serves DHCP.
    addresses: Vec<(String, Slot)>,
}

impl Draft {
    /// What is so on most hosts.
    fn new() -> Self {
        let usual = Slot::new("default", "");
        Self {
            name: Slot::new("postgres-lb-1", ""),
            pool: usual.clone(),
            base_pool: usual.clone(),
            network: usual,
            ..Self::default()
        }
    }

    fn to_toml(&self) -> String {
        let uri = self.uri.as_ref();
        let uri = uri.map_or_else(String::new, |uri| format!("uri = {}\n", quoted(uri)));
        let emulated = if self.emulated {
            "# This host has no kvm: the guest is emulated, many times slower.\ndomain_type = \"qemu\"\n"
        } else {
            ""
        };
        let libvirt = if uri.is_empty() && emulated.is_empty() {
            String::new()
        } else {
            format!("\n[libvirt]\n{uri}{emulated}")
        };
        let line = |key: &str, slot: &Slot, comment: &str| {
            let comment = [comment, &slot.comment];
            let comment = comment.into_iter().filter(|c| !c.is_empty());
            let comment = comment.collect::<Vec<_>>().join("; ");
            let set = format!("{key} = {}", slot.text());
            if comment.is_empty() {
                format!("{set}\n")
            } else {
                format!("{set:<41} # {}\n", one_line(&comment))
            }
        };
        let file = |key: &str, slot: &Slot| {
            let set = format!("{key} = {{ file = {} }}", slot.text());
            if slot.comment.is_empty() {
                format!("{set}\n")
            } else {
                format!("{set:<41} # {}\n", one_line(&slot.comment))
            }
        };
        [
            "#:schema ./lbctl.schema.json\n\
             # What a load balancer needs. Every other key with its meaning: `lbctl init --full`, lbctl.toml(5).\n",
            &line("name", &self.name, ""),
            "memory = 1024                             # MiB\n",
            &file("ssh_admin_public_key", &self.ssh_key),
            &line("cloud_init_volume_pool", &self.pool, ""),
            "\n[volume]\n",
            &line("name", &self.name, ""),
            &line("pool", &Slot::new(&self.pool.value, ""), ""),
            "size = \"10 GiB\"\n",
            &line("base_volume_pool", &self.base_pool, ""),
            &line(
                "base_volume_name",
                &self.base,
                if self.base.value.is_empty() {
                    "Debian 12 or newer, Ubuntu 22.04 or newer, as a volume"
                } else {
                    ""
                },
            ),
            "\n[libvirt_network]\n",
            &line("network_name", &self.network, ""),
            &line("ip", &self.ip, ""),
            &self.patroni.to_toml(),
            &libvirt,
        ]
        .concat()
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Names of the host in a comment.
fn one_line(text: &str) -> String {
    crate::text::sanitize::sanitize_line(text, 400)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::PatroniMode;

    #[test]
    fn every_text_is_one_of_toml() {
        for text in ["plain", "a \"b\" \\c", "line\nbreak \u{7f}", "ümlaut"] {
            let table: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }

    #[test]
    fn what_was_found_is_in_the_file_and_the_rest_is_to_be_filled_in() {
        let mut draft = Draft::new();
        let empty = draft.to_toml();
        assert_eq!(empty.matches(FILL_IN).count(), 7, "{empty}");
        let pools = ["os".to_owned(), "default".to_owned()];
        draft.pool = Slot::of("pools", &pools, Some("default"));
        draft.emulated = true;
        draft.patroni.nodes = Nodes::parse(["192.0.2.11", " pg2=192.0.2.12"]);
        draft.patroni.tls = Some(PatroniMode::Off);
        let text = draft.to_toml();
        assert_eq!(text.matches(FILL_IN).count(), 3, "{text}");
        let listed = "[[haproxy.nodes]]\nname = \"pg2\"\naddress = \"192.0.2.12\"\n";
        assert!(text.contains(listed), "{text}");
        assert!(
            text.contains("\"default\"        # pools here: os, default\n"),
            "{text}"
        );
        assert!(text.contains("domain_type = \"qemu\""), "{text}");
        text.parse::<toml::Table>().unwrap();
    }
}

//! What holds for any text at all.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use lbctl::testing::config::{
    self, Addressing, CertificateSource, Config, Interface, MemoryInputs,
};
use proptest::prelude::*;

use crate::support::inputs::{inputs, now};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml"));
const PAIR: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pair.toml"));
const FLUENTD: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/config/fluentd/lbctl.toml"
));
/// Stands in the place of every secret. No word of the reports has it.
const MARKER: &str = "zq7Kx9";

/// A valid file in which every secret is written out, marked.
fn marked() -> String {
    format!(
        "admin_user_password = \"{MARKER}pw\"\n{}\n[container_registry]\nurl = \"https://r.example.com\"\nusername = \"u\"\npassword = '{MARKER}reg'\n",
        FLUENTD
            .replace("{ file = \"fluentd-shared-key\" }", &format!("\"{MARKER}key\""))
            .replace("{ file = \"ca.key\" }", &format!("\"\"\"\n-----BEGIN PRIVATE KEY-----\n{MARKER}AAAA\n{MARKER}BBBB\n-----END PRIVATE KEY-----\n\"\"\""))
    )
}

/// What is put in at any place.
const PIECES: &[&str] = &[
    "\"", "'", "\"\"\"", "=", "[", "]", "[[x]]\n", "{", "}", "\n", "#", "\\", "\u{0}", "é", "0",
    "-", ",", "a.b", "\r\n", " = 1\n",
];

/// Changes such as people and editors make.
#[derive(Debug, Clone)]
enum Edit {
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    Swap(prop::sample::Index, prop::sample::Index),
    Double(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![
        prop::sample::select(PIECES).prop_map(str::to_owned),
        "\\PC{0,8}"
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), 1usize..40)
            .prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<prop::sample::Index>(), piece).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(a, b)| Edit::Swap(a, b)),
        any::<prop::sample::Index>().prop_map(Edit::Double),
    ]
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut text = text.to_owned();
    for edit in edits {
        match edit {
            Edit::Remove(at, length) => {
                let at = at.index(text.chars().count().max(1));
                text = text
                    .chars()
                    .enumerate()
                    .filter(|(place, _)| !(at..at + length).contains(place))
                    .map(|(_, c)| c)
                    .collect();
            }
            Edit::Insert(at, piece) => {
                let at = at.index(text.chars().count() + 1);
                let split = text
                    .char_indices()
                    .nth(at)
                    .map_or(text.len(), |(place, _)| place);
                text.insert_str(split, piece);
            }
            Edit::Swap(a, b) => {
                let mut lines: Vec<&str> = text.lines().collect();
                if !lines.is_empty() {
                    let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                    lines.swap(a, b);
                }
                text = lines.join("\n");
            }
            Edit::Double(at) => {
                let mut lines: Vec<&str> = text.lines().collect();
                if !lines.is_empty() {
                    let at = at.index(lines.len());
                    lines.insert(at, lines[at]);
                }
                text = lines.join("\n");
            }
        }
    }
    text
}

/// All that would be printed of a text, in either form.
fn printed(text: &str, inputs: &MemoryInputs) -> String {
    match config::parse(text, "lbctl.toml", inputs, now()) {
        Ok(loaded) => {
            holds(&loaded.config);
            loaded.others.iter().flatten().for_each(holds);
            format!(
                "{:?}{:?}{}",
                loaded.config,
                loaded.others,
                config::render_warnings(&loaded.warnings, false, None)
            )
        }
        Err(report) => {
            assert!(!report.problems.is_empty());
            format!(
                "{}{}{report:?}",
                report.render(false, None),
                report.render(true, None)
            )
        }
    }
}

/// What every accepted configuration keeps.
fn holds(config: &Config) {
    assert!(config.vcpus.get() >= 1 && config.memory.get() >= 256);
    assert!((1..=63).contains(&config.name.as_str().len()));
    assert!(!config.interfaces.is_empty());
    let macs: BTreeSet<_> = config
        .interfaces
        .iter()
        .map(|interface| interface.mac)
        .collect();
    let ips: Vec<_> = config.interfaces.iter().flat_map(Interface::ips).collect();
    let addresses: BTreeSet<_> = ips.iter().collect();
    assert_eq!(macs.len(), config.interfaces.len());
    assert_eq!(addresses.len(), ips.len());
    let mut gateways = Vec::new();
    for interface in &config.interfaces {
        assert_eq!(interface.mac.0[0] & 1, 0);
        let Addressing::Static(fixed) = &interface.addressing else {
            continue;
        };
        assert!(!fixed.addresses.is_empty());
        let of_kind = |via: IpAddr| {
            let alike = fixed.addresses.iter();
            alike.filter(move |own| own.ip().is_ipv4() == via.is_ipv4())
        };
        let routers = fixed.gateways.iter();
        for hop in routers.chain(fixed.routes.iter().map(|route| &route.hop)) {
            let near = of_kind(hop.via).any(|own| own.network().contains(hop.via));
            let link_local = matches!(hop.via, IpAddr::V6(ip) if ip.is_unicast_link_local());
            assert!(near || link_local || hop.on_link);
            assert!(of_kind(hop.via).all(|own| own.ip() != hop.via));
        }
        gateways.extend(fixed.gateways.iter().map(|hop| hop.via.is_ipv4()));
        assert!(interface.mtu.is_none_or(|mtu| mtu >= 576));
    }
    assert!(gateways.len() <= 2 && (gateways.len() < 2 || gateways[0] != gateways[1]));
    let haproxy = &config.haproxy;
    assert!(haproxy.nodes.most() >= 1);
    if let Some(client) = haproxy.patroni_tls.client()
        && let CertificateSource::Issued(issuing) = &client.source
    {
        assert!(issuing.early_renewal < issuing.validity);
    }
    let mut ports = vec![haproxy.port];
    ports.extend(haproxy.patroni_passthrough);
    ports.extend(haproxy.metrics.as_ref().map(|metrics| metrics.port));
    ports.extend(haproxy.replicas.as_ref().map(|replicas| replicas.port));
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    for name in [&config.seed_volume.name, &config.seed_volume.pool] {
        assert!(!name.is_empty() && !name.contains(['/', '\n', '\0']));
    }
}

#[test]
fn the_marked_file_is_read_to_its_last_secret() {
    let report = config::parse(&marked(), "lbctl.toml", &inputs(), now()).unwrap_err();
    let keys: Vec<&str> = report
        .problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(keys, ["haproxy.patroni_client.ca_key"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "(\\PC|\n|\t|\r|\"|=|\\[|\\]){0,200}") {
        printed(&text, &inputs());
    }

    #[test]
    fn any_value_of_any_key_is_answered(key in prop::sample::select(config::keys::KEYS), value in "\\PC{0,70}", list in any::<bool>()) {
        let value = toml::Value::String(value);
        let value = if list { toml::Value::Array(vec![value]) } else { value };
        let parent = key.parent();
        let header = match parent {
            "" => String::new(),
            list if list.ends_with("[]") => format!("[[{}]]\n", list.trim_end_matches("[]")),
            table => format!("[{table}]\n"),
        };
        printed(&format!("{header}{} = {value}\n", key.name()), &inputs());
    }

    #[test]
    fn a_mutated_example_is_answered(edits in prop::collection::vec(edit(), 1..6)) {
        printed(&apply(EXAMPLE, &edits), &inputs());
    }

    #[test]
    fn a_mutated_file_of_two_is_answered(edits in prop::collection::vec(edit(), 1..6)) {
        printed(&apply(PAIR, &edits), &inputs());
    }

    #[test]
    fn a_mutated_file_shows_no_secret(edits in prop::collection::vec(edit(), 0..5)) {
        let text = apply(&marked(), &edits);
        // A secret broken out of its quotes by hand may become a key, a comment or another value; what is tested is that
        // values are never shown, so only such texts count in which the marker still stands on the lines of its keys.
        let stands = text.lines().filter(|line| line.contains(MARKER)).all(|line| {
            let line = line.trim_start();
            let in_a_pem = line.starts_with(MARKER) && !line.contains('=');
            in_a_pem || ["admin_user_password = ", "shared_key = ", "password = "].iter().any(|start| line.starts_with(start))
        });
        prop_assume!(stands);
        let shown = printed(&text, &inputs());
        prop_assert!(!shown.contains(MARKER), "{}\n----\n{}", text, shown);
    }

    #[test]
    fn secrets_from_files_are_not_shown(secret in "\\PC{0,20}", place in 0usize..4) {
        let mut inputs = inputs();
        let text = format!("{MARKER}{secret}");
        let names = ["ca.key", "fluentd-shared-key", "admin-password", "ca.crt"];
        inputs.files.insert(PathBuf::from(names[place]), Ok(text.into_bytes()));
        let config = format!("admin_user_password = {{ file = \"admin-password\" }}\n{FLUENTD}");
        prop_assert!(!printed(&config, &inputs).contains(MARKER));
    }
}

#[test]
fn depth_does_not_overflow() {
    for depth in [100, 20_000] {
        let dotted = format!("{}=1", vec!["a"; depth].join("."));
        let header = format!("[{}]", vec!["a"; depth].join("."));
        for text in [
            "[".repeat(depth),
            format!("a={}", "[".repeat(depth)),
            format!("a={}", "{a=".repeat(depth)),
            dotted,
            header,
        ] {
            printed(&text, &inputs());
        }
    }
}

//! Every place where a string of the configuration can be, filled with strings that break careless
//! quoting: PyYAML must read back exactly what went in, and nothing may appear that was not there
//! before.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lbctl::testing::config::{Config, TimeSource};
use lbctl::testing::render::GuestFile as File;
use lbctl::testing::secret::{MASK, Secret};
use serde_json::Value;

use super::nasty::nasty;
use super::oracle::pyyaml;
use super::sample::{guest_files, masked, sample_config, seed_files, tls};

/// The sample with `text` wherever the types allow any string at all.
fn filled_with(text: &str) -> Config {
    let mut config = sample_config();
    let owned = || text.to_owned();
    config.admin.user = owned();
    config.admin.password = Some(Secret::new(text));
    config.admin.public_keys = vec![owned(), format!("ssh-ed25519 AAAA {text}")];
    config.haproxy.image = owned();
    config.haproxy.image_digest = Some(owned());
    config.haproxy.replicas.as_mut().unwrap().max_lag = Some(owned());
    let registry = config.container_registry.as_mut().unwrap();
    registry.url = format!("https://registry.example/{text}");
    registry.username = owned();
    registry.password = Secret::new(text);
    let chrony = config.chrony.as_mut().unwrap();
    chrony.servers = vec![TimeSource {
        url: format!("u{text}"),
        options: vec![owned()],
    }];
    chrony.pools = vec![TimeSource {
        url: format!("u{text}"),
        options: vec![owned()],
    }];
    let fluentd = config.fluentd.as_mut().unwrap();
    fluentd.load_balancer_tag = owned();
    fluentd.node_exporter_tag = owned();
    fluentd.buffer = Some(owned());
    fluentd.forward.domain = owned();
    fluentd.forward.hostname = owned();
    fluentd.forward.shared_key = Secret::new(text);
    fluentd.forward.ca_cert = owned();
    config
}

/// A string, the configuration filled with it, and PyYAML's reading of the user-data.
type Case = (String, Config, Value);

fn read_back(texts: Vec<String>) -> Vec<Case> {
    let configs: Vec<Config> = texts.iter().map(|text| filled_with(text)).collect();
    let user_data = |config| seed_files(config, &tls()).user_data.expose().to_owned();
    let read = pyyaml(&configs.iter().map(user_data).collect::<Vec<_>>());
    texts
        .into_iter()
        .zip(configs)
        .zip(read)
        .map(|((text, config), read)| (text, config, read))
        .collect()
}

/// Read once for all tests: PyYAML takes its time.
fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| read_back(nasty()))
}

fn plain() -> Value {
    read_back(vec!["plain".to_owned()]).remove(0).2
}

/// Paths, modes, owners and everything else that no string of the configuration may change.
fn skeleton(document: &Value) -> Value {
    let mut bare = document.clone();
    for file in bare["write_files"].as_array_mut().unwrap() {
        file["content"] = Value::Null;
    }
    for place in [
        "/users/0/name",
        "/users/0/hashed_passwd",
        "/chpasswd/users/0/name",
        "/chpasswd/users/0/password",
    ] {
        *bare.pointer_mut(place).unwrap() = Value::Null;
    }
    bare["users"][0]["ssh_authorized_keys"] = Value::Null;
    bare
}

#[test]
fn every_string_comes_out_of_pyyaml_as_it_went_in() {
    assert!(cases().len() >= 100);
    let expected_skeleton = skeleton(&plain());
    let sample = filled_with("plain");
    let plain_files = guest_files(&sample, &tls());
    let vendor_data = seed_files(&sample, &tls()).vendor_data;
    for (text, config, document) in cases() {
        assert_eq!(document["users"][0]["name"], *text);
        assert_eq!(document["chpasswd"]["users"][0]["name"], *text);
        assert_eq!(
            document["users"][0]["ssh_authorized_keys"],
            serde_json::json!(config.admin.public_keys)
        );
        let hash = document["chpasswd"]["users"][0]["password"]
            .as_str()
            .unwrap();
        assert!(hash.starts_with("$6$rounds="), "{hash}");
        let files = guest_files(config, &tls());
        let written = document["write_files"].as_array().unwrap();
        let in_user_data = |path: &str| written.iter().any(|written| written["path"] == path);
        let (files, fixed): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| in_user_data(&file.path));
        assert_eq!(written.len(), files.len());
        for file in fixed {
            let same = |plain: &File| plain.path == file.path && plain.content == file.content;
            assert!(plain_files.iter().any(same), "{} with {text:?}", file.path);
            let put = format!(" >{}\n", file.path);
            assert!(vendor_data.contains(&put), "{} is lost", file.path);
        }
        for (file, written) in files.iter().zip(written) {
            assert_eq!(written["path"], *file.path);
            assert_eq!(written["permissions"], format!("{:04o}", file.mode));
            assert!(
                written["content"] == file.content.expose(),
                "{} with {text:?}",
                file.path
            );
        }
        assert_eq!(skeleton(document), expected_skeleton, "with {text:?}");
    }
}

fn content<'a>(document: &'a Value, path: &str) -> &'a str {
    let files = document["write_files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).unwrap()["content"]
        .as_str()
        .unwrap()
}

#[test]
fn inside_the_files_every_string_stays_in_its_place() {
    let plain = plain();
    let lines = |document: &Value, path: &str| content(document, path).lines().count();
    for (text, _, document) in cases() {
        for path in [
            "/etc/haproxy/haproxy.cfg",
            "/etc/chrony/sources.d/lbctl.sources",
            "/etc/chrony/conf.d/lbctl.conf",
        ] {
            assert_eq!(
                lines(document, path),
                lines(&plain, path),
                "{path} with {text:?}"
            );
        }
        let login: Value =
            serde_json::from_str(content(document, "/etc/lbctl/docker/config.json")).unwrap();
        let auth = login["auths"]["registry.example"]["auth"].as_str().unwrap();
        assert_eq!(
            STANDARD.decode(auth).unwrap(),
            format!("{text}:{text}").as_bytes()
        );
        let settings: Value =
            serde_json::from_str(content(document, "/etc/lbctl/guest.json")).unwrap();
        assert!(
            settings["image"]
                .as_str()
                .unwrap()
                .ends_with(&format!("{text}:3.2@{text}"))
        );
        let fluentd = content(document, "/etc/fluentd/fluent.conf");
        for (key, times) in [
            ("tag", 2),
            ("self_hostname", 1),
            ("shared_key", 1),
            ("host", 1),
        ] {
            let found: Vec<String> = fluentd
                .lines()
                .filter_map(|line| fluentd_string(line, key))
                .collect();
            assert!(
                found.len() >= times && found[..times].iter().all(|f| f == text),
                "{key} {text:?}: {found:?}"
            );
        }
    }
}

/// The value of `key "…"` as fluentd's `scan_double_quoted_string` reads it. Embedded Ruby fails
/// the test.
fn fluentd_string(line: &str, key: &str) -> Option<String> {
    let quoted = line
        .trim_start_matches(' ')
        .strip_prefix(key)?
        .strip_prefix(" \"")?;
    let mut value = String::new();
    let mut chars = quoted.chars().peekable();
    loop {
        match chars.next().expect("the string ends on its line") {
            '"' => return chars.next().is_none().then_some(value),
            '\\' => value.push(match chars.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                c if c.is_ascii_alphanumeric() => panic!("fluentd refuses \\{c}"),
                c => c,
            }),
            '#' if chars.peek() == Some(&'{') => panic!("fluentd would run Ruby: {line}"),
            c => value.push(c),
        }
    }
}

#[test]
fn the_masked_text_is_the_same_document_without_the_secrets() {
    let config = sample_config();
    let shown = masked(&config, &tls());
    let real = seed_files(&config, &tls());
    let text = shown.user_data.expose();
    let hash_start = real.user_data.expose().find("$6$rounds=").unwrap();
    let hash = real.user_data.expose()[hash_start..]
        .split('"')
        .next()
        .unwrap();
    let auth = STANDARD.encode("lb:registry-password");
    let key_line = super::sample::CLIENT.lines().nth(1).unwrap();
    for secret in [
        "mockpass",
        "registry-password",
        "fluentd-shared-key",
        hash,
        &auth,
        key_line,
        "PRIVATE KEY",
    ] {
        assert!(
            real.user_data.expose().contains(secret)
                || secret == "mockpass"
                || secret == "registry-password"
        );
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains(MASK));
    assert_eq!(shown.network_config, real.network_config);
    let documents = pyyaml(&[text.to_owned(), real.user_data.expose().to_owned()]);
    assert_eq!(skeleton(&documents[0]), skeleton(&documents[1]));
    assert!(!format!("{real:?}").contains("fluentd-shared-key"));
}

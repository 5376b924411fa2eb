//! What a VM was told at its first boot: user-data of cloud-init, as one cloud-config or as a MIME
//! message of several, and its network-config. Whoever wrote them may be hostile.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::MacAddr;
use crate::secret::Secret;
use crate::text::yaml::{self, Node};

/// Longest user-data that is read, in bytes.
pub const MAX_USER_DATA: usize = 1024 * 1024;
const DEEPEST: usize = 24;
/// How deep a message may be in another one.
const DEEPEST_MESSAGE: usize = 4;
/// Parts of a message, and network interfaces.
const MOST: usize = 64;

/// What is known of it. No `Debug` of a secret.
#[derive(Debug, Default)]
pub struct UserData {
    /// By path, from `write_files`.
    pub files: BTreeMap<String, Secret>,
    /// Who may log in by ssh, with the public keys: the first who has any.
    pub admin: Option<(String, Vec<String>)>,
    /// By user, in plain text.
    pub passwords: Vec<(String, Secret)>,
    /// Users whose password is there as a hash only.
    pub hashed: Vec<String>,
    /// Whether any part installs packages.
    pub has_packages: bool,
    /// What was not read, and why.
    pub unread: Vec<String>,
}

impl UserData {
    /// Reads what can be read.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let mut found = Self::default();
        match std::str::from_utf8(text) {
            _ if text.len() > MAX_USER_DATA => {
                found.unread.push("user-data is longer than 1 MiB".into());
            }
            _ if text.starts_with(&[0x1f, 0x8b]) => {
                found.unread.push("user-data is compressed".into());
            }
            Ok(text) => found.message(text),
            Err(_) => found.unread.push("user-data is not text".into()),
        }
        found
    }

    #[must_use]
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(Secret::expose)
    }

    fn message(&mut self, text: &str) {
        let begins = |with: &str| {
            let start = text.as_bytes().get(..with.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        if begins("Content-Type:") || begins("MIME-Version:") {
            self.part(&Part::parse(text), 0);
        } else {
            self.cloud_config(text);
        }
    }

    fn part(&mut self, part: &Part<'_>, depth: usize) {
        if let Some(boundary) = part.boundary() {
            if depth == DEEPEST_MESSAGE {
                let what = "user-data has messages within each other too often";
                return self.unread.push(what.into());
            }
            let mut inner = parts(part.body, &boundary);
            for inner in inner.by_ref().take(MOST) {
                self.part(&Part::parse(inner), depth + 1);
            }
            if inner.next().is_some() {
                let what = format!("user-data has more than {MOST} parts");
                self.unread.push(what);
            }
            return;
        }
        match part.decoded() {
            Some(text) => self.cloud_config(text.expose()),
            None => self
                .unread
                .push("a part of user-data has an encoding that lbctl does not read".into()),
        }
    }

    fn cloud_config(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        if !text.trim_start().starts_with("#cloud-config") {
            let what = "a part of user-data is no cloud-config, but a script or the like";
            return self.unread.push(what.into());
        }
        match yaml::read(text, DEEPEST) {
            Ok(config) => self.take(&config),
            Err(yaml::YamlError::Empty) => {}
            Err(error) => self.unread.push(format!("a part of user-data {error}")),
        }
    }

    fn take(&mut self, config: &Node) {
        for file in items(config, "write_files") {
            let Some(path) = file.text_of("path") else {
                continue;
            };
            match content(file) {
                Some(content) => drop(self.files.insert(path.to_owned(), content)),
                None => self
                    .unread
                    .push("a file of user-data has an encoding that lbctl does not read".into()),
            }
        }
        for user in items(config, "users") {
            let keys = items(user, "ssh_authorized_keys").iter();
            let keys: Vec<String> = keys
                .filter_map(Node::text)
                .map(|key| key.trim().to_owned())
                .collect();
            if let (Some(name), false, None) = (user.text_of("name"), keys.is_empty(), &self.admin)
            {
                self.admin = Some((name.to_owned(), keys));
            }
        }
        if let Some(chpasswd) = config.get("chpasswd") {
            self.passwords(chpasswd);
        }
        self.has_packages |= config.get("packages").is_some();
    }

    fn passwords(&mut self, chpasswd: &Node) {
        for user in items(chpasswd, "users") {
            let (name, password) = (user.text_of("name"), user.text_of("password"));
            let (Some(name), Some(password)) = (name, password) else {
                continue;
            };
            // Without a type it is a hash (cloud-init, "Set Passwords").
            let plain = user.text_of("type") == Some("text");
            self.password(name, password, plain);
        }
        let lines: Vec<&str> = match chpasswd.get("list") {
            Some(Node::Scalar { text, .. }) => text.lines().collect(),
            Some(list) => list.items().iter().filter_map(Node::text).collect(),
            None => Vec::new(),
        };
        for line in lines {
            if let Some((name, password)) = line.trim().split_once(':') {
                self.password(name, password.trim(), true);
            }
        }
    }

    fn password(&mut self, name: &str, password: &str, plain: bool) {
        let is_hash = password.starts_with('$') && password.matches('$').count() >= 3;
        if plain && !is_hash {
            self.passwords
                .push((name.to_owned(), Secret::new(password)));
        } else {
            self.hashed.push(name.to_owned());
        }
    }
}

fn items<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.get(key).map(Node::items).unwrap_or_default()
}

/// The content of an entry of `write_files`; `None`: in an encoding that is not read.
fn content(file: &Node) -> Option<Secret> {
    let content = file.text_of("content").unwrap_or_default();
    match file.text_of("encoding").unwrap_or("text/plain") {
        "text/plain" => Some(Secret::new(content)),
        "b64" | "base64" => from_base64(content),
        _ => None,
    }
}

pub(super) fn from_base64(text: &str) -> Option<Secret> {
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let decoded = BASE64.decode(plain).ok()?;
    String::from_utf8(decoded).ok().map(Secret::new)
}

/// A part of a MIME message (RFC 2045), or a whole one.
struct Part<'t> {
    headers: &'t str,
    body: &'t str,
}

impl<'t> Part<'t> {
    fn parse(text: &'t str) -> Self {
        // A part may have no headers at all.
        if let Some(body) = ["\r\n", "\n"].iter().find_map(|end| text.strip_prefix(end)) {
            return Self { headers: "", body };
        }
        let ends = ["\r\n\r\n", "\n\n"].map(|end| text.find(end).map(|at| (at, at + end.len())));
        let end = ends.into_iter().flatten().min();
        let (headers, body) = end.map_or((text, ""), |(at, next)| (&text[..at], &text[next..]));
        Self { headers, body }
    }

    /// The value of a header, on one line.
    fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.headers.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            if !key.trim().eq_ignore_ascii_case(name) {
                continue;
            }
            let mut value = value.trim().to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(more.trim());
            }
            return Some(value);
        }
        None
    }

    /// What parts its parts; `None`: it has none.
    fn boundary(&self) -> Option<String> {
        let kind = self.header("Content-Type")?;
        let multipart = kind.get(..10)?;
        if !multipart.eq_ignore_ascii_case("multipart/") {
            return None;
        }
        let parameters = kind.split(';').skip(1);
        let boundary = parameters.filter_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            let is = key.trim().eq_ignore_ascii_case("boundary");
            is.then(|| value.trim().trim_matches('"').to_owned())
        });
        boundary.into_iter().find(|boundary| !boundary.is_empty())
    }

    fn decoded(&self) -> Option<Secret> {
        let encoding = self.header("Content-Transfer-Encoding");
        match encoding.map(|e| e.to_ascii_lowercase()).as_deref() {
            None | Some("7bit" | "8bit" | "binary") => Some(Secret::new(self.body)),
            Some("base64") => from_base64(self.body),
            Some(_) => None,
        }
    }
}

/// The parts of a body; what stands before the first and behind the last is passed over.
fn parts<'t>(body: &'t str, boundary: &str) -> impl Iterator<Item = &'t str> + use<'t> {
    let (line, last) = (format!("--{boundary}"), format!("--{boundary}--"));
    let mut edges = Vec::new();
    let mut at = 0;
    for text in body.split_inclusive('\n') {
        let bare = text.trim_end();
        if bare == line || bare == last {
            edges.push((at, at + text.len()));
        }
        at += text.len();
        if bare == last {
            break;
        }
    }
    let ends: Vec<usize> = edges.iter().skip(1).map(|(at, _)| *at).collect();
    let begins = edges.into_iter().map(|(_, next)| next);
    // The line break before a boundary belongs to it.
    begins.zip(ends).map(move |(begin, end)| {
        let part = &body[begin..end];
        part.strip_suffix('\n').unwrap_or(part)
    })
}

/// What network-config says of one network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ethernet {
    /// With their prefix, as they are written.
    pub addresses: Vec<String>,
    pub gateways: Vec<String>,
    pub dns_servers: Vec<String>,
    pub search: Vec<String>,
    /// Keys for which lbctl has none.
    pub unread: Vec<String>,
}

/// The `ethernets` of a network-config (version 2), by MAC address; and what was not read.
#[must_use]
pub fn ethernets(text: &[u8]) -> (BTreeMap<String, Ethernet>, Option<String>) {
    let unread = |why: &str| (BTreeMap::new(), Some(format!("network-config {why}")));
    let Ok(text) = std::str::from_utf8(text) else {
        return unread("is not text");
    };
    if text.len() > MAX_USER_DATA {
        return unread("is longer than 1 MiB");
    }
    if text.trim().is_empty() {
        return (BTreeMap::new(), None);
    }
    let config = match yaml::read(text, DEEPEST) {
        Ok(config) => config,
        Err(yaml::YamlError::Empty) => return (BTreeMap::new(), None),
        Err(error) => return unread(&error.to_string()),
    };
    // Some tools wrap it in one more key.
    let config = config.get("network").unwrap_or(&config);
    if config.text_of("version") == Some("1") {
        return unread("is of version 1, which lbctl does not read");
    }
    let Some(Node::Map(entries)) = config.get("ethernets") else {
        return (BTreeMap::new(), None);
    };
    let named = entries.iter().take(MOST).filter_map(|(_, entry)| {
        let mac = entry.get("match")?.text_of("macaddress")?;
        // A MAC address of digits alone may be written without quotes, and is text all the same.
        let mac = MacAddr::parse(mac).ok()?.to_string();
        Some((mac, ethernet(entry)))
    });
    (named.collect(), None)
}

fn ethernet(entry: &Node) -> Ethernet {
    const READ: [&str; 9] = [
        "match",
        "set-name",
        "dhcp4",
        "dhcp-identifier",
        "addresses",
        "gateway4",
        "gateway6",
        "nameservers",
        "optional",
    ];
    let texts = |node: Option<&Node>| -> Vec<String> {
        let items = node.map(Node::items).unwrap_or_default();
        items
            .iter()
            .filter_map(Node::text)
            .map(String::from)
            .collect()
    };
    let nameservers = entry.get("nameservers");
    let keys = match entry {
        Node::Map(entries) => entries.iter().filter_map(|(key, _)| key.text()).collect(),
        _ => Vec::new(),
    };
    Ethernet {
        addresses: texts(entry.get("addresses")),
        gateways: ["gateway4", "gateway6"]
            .into_iter()
            .filter_map(|key| entry.text_of(key))
            .map(String::from)
            .collect(),
        dns_servers: texts(nameservers.and_then(|n| n.get("addresses"))),
        search: texts(nameservers.and_then(|n| n.get("search"))),
        unread: keys
            .into_iter()
            .filter(|key| !READ.contains(key))
            .map(String::from)
            .collect(),
    }
}

impl Ethernet {
    /// The first address of IPv4 with its prefix, and the other ones.
    #[must_use]
    pub fn first(&self) -> Option<(&str, i64, Vec<String>)> {
        let first = self.addresses.iter().position(|address| {
            let ip = address.split_once('/').map(|(ip, _)| ip.parse());
            matches!(ip, Some(Ok(IpAddr::V4(_))))
        })?;
        let (ip, prefix) = self.addresses.get(first)?.split_once('/')?;
        let others = self.addresses.iter().enumerate();
        let others = others.filter(|(place, _)| *place != first);
        Some((
            ip,
            prefix.parse().ok()?,
            others.map(|(_, address)| address.clone()).collect(),
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PART: &str =
        "#cloud-config\nwrite_files:\n- {path: /a, content: \"x\\n\"}\npackages: [a]\n";

    #[test]
    fn a_message_of_several_parts() {
        let text = format!(
            "Content-Type: multipart/mixed;\n boundary=\"B\"\nMIME-Version: 1.0\n\nahead\n--B\n\
             Content-Type: text/cloud-config\n\n{PART}--B\r\nContent-Transfer-Encoding: base64\n\n{}\n--B\n\
             Content-Type: multipart/mixed; boundary=C\n\n--C\n\n#cloud-config\nchpasswd: {{list: \"u:p:q\"}}\n--C--\n--B\n\
             Content-Type: text/x-shellscript\n\n#!/bin/sh\n--B--\nbehind\n",
            BASE64
                .encode("#cloud-config\nwrite_files: [{path: /b, encoding: b64, content: eQ==}]\n")
        );
        let found = UserData::read(text.as_bytes());
        assert_eq!(found.file("/a"), Some("x\n"));
        assert_eq!(found.file("/b"), Some("y"));
        assert!(found.has_packages);
        let (user, password) = &found.passwords[0];
        assert_eq!((user.as_str(), password.expose()), ("u", "p:q"));
        assert_eq!(
            found.unread,
            ["a part of user-data is no cloud-config, but a script or the like"]
        );
    }

    #[test]
    fn users_and_passwords_of_both_kinds() {
        let text = "#cloud-config\nchpasswd:\n  list: |\n    ubuntu: mockpass\n    other:$6$a$b\n  users:\n\
                    \x20 - {name: a, password: b, type: text}\n  - {name: c, password: d}\nusers:\n- default\n\
                    - name: node-exporter\n- name: ubuntu\n  ssh_authorized_keys: [\"ssh-ed25519 A x\", \"ssh-ed25519 B \"]\n";
        let found = UserData::read(text.as_bytes());
        let plain: Vec<_> = found
            .passwords
            .iter()
            .map(|(u, p)| (u.as_str(), p.expose()))
            .collect();
        assert_eq!(plain, [("a", "b"), ("ubuntu", "mockpass")]);
        assert_eq!(found.hashed, ["c", "other"]);
        let (name, keys) = found.admin.unwrap();
        assert_eq!((name.as_str(), keys.len()), ("ubuntu", 2));
        assert_eq!(keys[1], "ssh-ed25519 B");
        assert_eq!(found.unread, [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let long = vec![b'a'; MAX_USER_DATA + 1];
        let mut nested = "#cloud-config\na: b\n".to_owned();
        for round in 0..10 {
            nested = format!(
                "Content-Type: multipart/x; boundary=b{round}\n\n--b{round}\n{nested}\n--b{round}--\n"
            );
        }
        for (text, words) in [
            (&long[..], "longer than 1 MiB"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"\xff", "not text"),
            (b"#!/bin/sh", "no cloud-config"),
            (b"#cloud-config\na: [", "cannot be read as YAML"),
            (b"#cloud-config\na: &x b\nc: *x", "alias"),
            (nested.as_bytes(), "within each other"),
            (
                b"#cloud-config\nwrite_files: [{path: /a, encoding: gz+b64, content: a}]",
                "an encoding",
            ),
        ] {
            let found = UserData::read(text);
            assert!(found.unread[0].contains(words), "{:?}", found.unread);
        }
        assert_eq!(UserData::read(b"").unread, [""; 0]);
    }

    #[test]
    fn network_interfaces_by_their_mac_address() {
        let text = b"version: 2\nrenderer: networkd\nethernets:\n  eth0:\n    set-name: eth0\n    dhcp4: no\n    match:\n\
            \x20     macaddress: 52:54:00:12:34:56\n    addresses:\n      - 2001:db8::1/64\n      - 192.0.2.20/24\n    gateway4: 192.0.2.1\n\
            \x20   nameservers:\n      addresses: [192.0.2.53,192.0.2.54]\n    mtu: 9000\n";
        let (found, unread) = ethernets(text);
        assert_eq!(unread, None);
        let ethernet = &found["52:54:00:12:34:56"];
        assert_eq!(
            ethernet.first(),
            Some(("192.0.2.20", 24, vec!["2001:db8::1/64".to_owned()]))
        );
        assert_eq!(ethernet.gateways, ["192.0.2.1"]);
        assert_eq!(ethernet.dns_servers.len(), 2);
        assert_eq!(ethernet.unread, ["mtu"]);
        assert_eq!(ethernets(b"").1, None);
        assert!(ethernets(b"version: 1\n").1.is_some());
        assert!(ethernets(b"{").1.is_some());
    }
}

//! From what a guest of the Terraform module was told at its first boot to the configuration's
//! keys. The files that are read: haproxy.cfg, chrony.conf, fluentd's, Docker's login, and the
//! certificates.

use super::found::{Content, Found, Value};
use super::json::Json;
use super::user_data::UserData;
use crate::cert::ClientPair;
use crate::config::HaproxyTime;
use crate::config::keys::{Literal, find};
use crate::secret::Secret;
use crate::text::sanitize::sanitize_line;

/// By which a load balancer of the module's is known.
pub const HAPROXY_CFG: &str = "/opt/haproxy/haproxy.cfg";
const CA: &str = "/opt/patroni/ca.pem";
pub const CLIENT: &str = "/opt/patroni/client.pem";
const CHRONY: &str = "/opt/chrony.conf";
const FLUENTD: &str = "/opt/fluentd.conf";
const FLUENTD_CA: &str = "/opt/fluentd_ca.crt";
const LOGIN: &str = "/opt/docker/config.json";

/// What is written for them, in hours: a year, and a month before its end.
const VALIDITY: i64 = 8760;
const EARLY_RENEWAL: i64 = 720;
/// As the module had them at first; another value of lbctl's own is not written.
const POSTGRES_PORT: u16 = 5432;
const PATRONI_PORT: u16 = 4443;

const CLIENT_TABLE: &str = "haproxy.patroni_client";
const TIMES: &str = "haproxy.timeouts";

/// Takes what the guest was told.
pub fn read(user_data: &UserData, found: &mut Found) {
    for unread in &user_data.unread {
        found.note(unread);
    }
    admin(user_data, found);
    let Some(cfg) = user_data.file(HAPROXY_CFG) else {
        return;
    };
    found.is_load_balancer = true;
    haproxy(cfg, found);
    client(user_data, found);
    if !user_data.has_packages {
        found.put("", "install_dependencies", Value::Truth(false));
    }
    if let Some(conf) = user_data.file(CHRONY) {
        chrony(conf, found);
    }
    if let Some(conf) = user_data.file(FLUENTD) {
        fluentd(conf, user_data.file(FLUENTD_CA), found);
    }
    if let Some(login) = user_data.file(LOGIN) {
        registry(login, found);
    }
}

fn admin(user_data: &UserData, found: &mut Found) {
    let name = user_data.admin.as_ref().map(|(name, _)| name.as_str());
    if let Some((name, keys)) = &user_data.admin {
        if name != "ubuntu" {
            found.text("", "ssh_admin_user", name);
        }
        let content = keys.join("\n") + "\n";
        found.put("", "ssh_admin_public_key", file("admin.pub", content));
    }
    let of_admin = |user: &str| name.is_none_or(|name| name == user);
    let mut passwords = user_data.passwords.iter();
    if let Some((_, password)) = passwords.find(|(user, _)| of_admin(user)) {
        found.put(
            "",
            "admin_user_password",
            secret("admin-password", password.clone()),
        );
    } else if user_data.hashed.iter().any(|user| of_admin(user)) {
        found.note("the administrator's password is there as a hash only, so admin_user_password is left out");
    }
}

fn file(name: &'static str, text: String) -> Value {
    let content = Some(Content::Open(text));
    Value::File { name, content }
}

fn secret(name: &'static str, secret: Secret) -> Value {
    let content = Some(Content::Secret(secret));
    Value::File { name, content }
}

/// A PEM as files have it: ended by one line break.
fn pem(text: &str) -> String {
    format!("{}\n", text.trim())
}

fn client(user_data: &UserData, found: &mut Found) {
    if let Some(ca) = user_data.file(CA) {
        found.put(CLIENT_TABLE, "ca_certificate", file("ca.crt", pem(ca)));
    }
    let pair = user_data.file(CLIENT).map(ClientPair::from_pem);
    let hours = pair.and_then(Result::ok).map(|pair| {
        let life = pair.not_after() - pair.not_before();
        life.whole_hours()
    });
    periods(hours, None, found);
}

/// What Terraform had them at is said behind what is written.
pub fn periods(validity: Option<i64>, early_renewal: Option<i64>, found: &mut Found) {
    for (key, own, old) in [
        ("certificate_validity_period", VALIDITY, validity),
        (
            "certificate_early_renewal_period",
            EARLY_RENEWAL,
            early_renewal,
        ),
    ] {
        found.put(CLIENT_TABLE, key, Value::Whole(own));
        if let Some(old) = old.filter(|old| *old != own) {
            found.remark(CLIENT_TABLE, key, format!("Terraform's: {old}"));
        }
    }
}

/// The private key of the CA; `None`: neither source has it.
pub fn ca_key(key: Option<Secret>, found: &mut Found) {
    let content = key.map(|key| Content::Secret(Secret::new(pem(key.expose()))));
    let name = "ca.key";
    found.put(CLIENT_TABLE, "ca_key", Value::File { name, content });
}

/// The certificate of the CA, where it was found.
pub fn ca_certificate(found: &Found) -> Option<&str> {
    match found.get(CLIENT_TABLE, "ca_certificate") {
        Some(Value::File {
            content: Some(content),
            ..
        }) => Some(content.text()),
        _ => None,
    }
}

/// A directive of haproxy.cfg by its words, and whether the module writes it in such a section.
/// What differs in values that have a key is read, so it is the module's all the same.
fn is_modules(section: &str, words: &[&str]) -> bool {
    match section {
        "global" => matches!(
            words,
            ["user" | "group", "www-data"] | ["log", "stdout", ..]
        ),
        "defaults" => matches!(
            words,
            ["mode", "tcp"]
                | ["log", "global"]
                | ["timeout", "client" | "server" | "connect" | "check", _]
        ),
        "resolvers" => matches!(
            words,
            ["nameserver", _, _]
                | ["resolve_retries", _]
                | ["timeout", "retry", _]
                | ["hold", "other" | "refused" | "nx" | "timeout" | "valid", _]
        ),
        "backend" => match words {
            ["server-template", _, _, _, rest @ ..] => {
                rest.contains(&"check-ssl") && rest.contains(&"resolvers")
            }
            _ => matches!(
                words,
                ["mode", "tcp"]
                    | ["balance", "roundrobin"]
                    | ["option", "httpchk"]
                    | ["default-server", ..]
                    | ["http-check", "connect", "port", "4443", "ssl"]
                    | ["http-check", "send", "meth", "OPTIONS", "uri", "/master"]
                    | ["http-check", "expect", "status", "200"]
            ),
        },
        "frontend" => matches!(
            words,
            ["mode", "tcp"] | ["bind", "*:5432" | "*:4443"] | ["default_backend", _]
        ),
        _ => false,
    }
}

fn haproxy(cfg: &str, found: &mut Found) {
    const TABLE: &str = "haproxy";
    let mut section = String::new();
    let (mut nameservers, mut others) = (Vec::new(), Vec::new());
    let mut has_template = false;
    let mut passes_patroni = false;
    for line in cfg.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(first) = words.first().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        // Sections begin at the margin, and the module indents everything else.
        if matches!(
            *first,
            "global" | "defaults" | "resolvers" | "backend" | "frontend"
        ) {
            (*first).clone_into(&mut section);
            continue;
        }
        match (section.as_str(), &words[..]) {
            ("defaults", ["timeout", kind, time]) => {
                let key = match *kind {
                    "connect" => Some("connect"),
                    "check" => Some("check"),
                    "client" => Some("idle"),
                    _ => None,
                };
                match key {
                    Some("check") => check_timeout(time, found),
                    Some(key) => found.text(TIMES, key, *time),
                    None => {}
                }
            }
            ("resolvers", ["nameserver", _, address]) => {
                let (ip, port) = address.rsplit_once(':').unwrap_or((address, "53"));
                if port == "53" {
                    nameservers.push(ip.to_owned());
                } else {
                    found.note(format!(
                        "the name server {address} is asked at another port than 53, for which lbctl has no key"
                    ));
                }
            }
            ("backend", ["server-template", _, count, at, ..]) => {
                let (name, port) = at.rsplit_once(':').unwrap_or((at, ""));
                if !has_template && port != "4443" {
                    has_template = true;
                    if let Ok(count) = count.parse() {
                        found.put(TABLE, "postgres_nodes_max_count", Value::Whole(count));
                    }
                    found.text(TABLE, "postgres_domain", name);
                    if let Some(port) = port
                        .parse()
                        .ok()
                        .filter(|port: &u16| *port != POSTGRES_PORT)
                    {
                        found.put(TABLE, "postgres_port", Value::Whole(port.into()));
                    }
                }
            }
            ("frontend", ["bind", address, ..]) => {
                let port = address
                    .rsplit(':')
                    .next()
                    .and_then(|port| port.parse().ok());
                passes_patroni |= port == Some(PATRONI_PORT);
            }
            _ => {}
        }
        if !is_modules(&section, &words) {
            // No more of it: what follows may be a password.
            let begin = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
            others.push(format!("{section}: {}", sanitize_line(&begin, 60)));
        }
    }
    if !nameservers.is_empty() {
        found.put(TABLE, "postgres_nameserver_ips", Value::Texts(nameservers));
    }
    if !passes_patroni {
        found.put(TABLE, "patroni_passthrough", Value::Truth(false));
        found.remark(
            TABLE,
            "patroni_passthrough",
            "its HAProxy does not listen on 4443",
        );
    }
    others_of_haproxy(others, found);
}

/// The module gave a node up after one check, and lbctl does after several: with the module's
/// patience for each, a node that stands still would be used many times longer than before.
fn check_timeout(time: &str, found: &mut Found) {
    let own = find("haproxy.timeouts.check").and_then(|key| key.default);
    let millis = |text: &str| HaproxyTime::parse(text).map(|time| time.millis()).ok();
    match own {
        Some(Literal::Str(own)) if millis(time) > millis(own) => {
            found.text(TIMES, "check", own);
            let words = format!("Terraform's: {time}, after one such check; here it takes several");
            found.remark(TIMES, "check", words);
        }
        _ => found.text(TIMES, "check", time),
    }
}

fn others_of_haproxy(others: Vec<String>, found: &mut Found) {
    const MOST: usize = 20;
    let count = others.len();
    for other in others.into_iter().take(MOST) {
        found.note(format!("haproxy.cfg has a line that the module does not write, and it is not taken over: {other} ..."));
    }
    if count > MOST {
        found.note(format!("and {} such lines more", count - MOST));
    }
}

fn chrony(conf: &str, found: &mut Found) {
    found.put("chrony", "enabled", Value::Truth(true));
    let (mut servers, mut pools) = (0, 0);
    for line in conf.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            [kind @ ("server" | "pool"), url, options @ ..] => {
                let (table, index) = match *kind {
                    "server" => ("chrony.servers", &mut servers),
                    _ => ("chrony.pools", &mut pools),
                };
                found.put_at(table, *index, "url", Value::Text((*url).to_owned()));
                if !options.is_empty() {
                    let options = options.iter().map(|o| (*o).to_owned()).collect();
                    found.put_at(table, *index, "options", Value::Texts(options));
                }
                *index += 1;
            }
            ["makestep", threshold, limit] => {
                if let (Ok(threshold), Ok(limit)) = (threshold.parse::<f64>(), limit.parse())
                    && threshold.is_finite()
                {
                    found.put("chrony.makestep", "threshold", Value::Real(threshold));
                    found.put("chrony.makestep", "limit", Value::Whole(limit));
                }
            }
            [] | ["driftfile" | "rtcsync", ..] => {}
            [first, ..] if first.starts_with('#') => {}
            [first, ..] => found.note(format!(
                "chrony.conf has a line that the module does not write, and it is not taken over: {first} ..."
            )),
        }
    }
}

/// A section of fluentd's configuration that is open, and what it said so far.
#[derive(Default)]
struct Source {
    kind: String,
    tag: String,
    matches: String,
}

fn fluentd(conf: &str, ca: Option<&str>, found: &mut Found) {
    const TABLE: &str = "fluentd";
    const FORWARD: &str = "fluentd.forward";
    found.put(TABLE, "enabled", Value::Truth(true));
    let mut open: Vec<String> = Vec::new();
    let mut source = Source::default();
    let mut has_buffer = false;
    for line in conf.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix("</") {
            open.pop();
            if section.starts_with("source") {
                let tag = std::mem::take(&mut source);
                let key = if tag.matches.contains("node-exporter.service") {
                    "node_exporter_tag"
                } else {
                    "load_balancer_tag"
                };
                if tag.kind == "forward" || !tag.matches.is_empty() {
                    found.text(TABLE, key, tag.tag);
                }
            }
            continue;
        }
        if let Some(section) = line.strip_prefix('<') {
            let name = section.trim_end_matches('>').split_whitespace().next();
            open.push(name.unwrap_or_default().to_owned());
            has_buffer |= name == Some("buffer");
            // What is nested deeper says nothing that has a key.
            if open.len() > 8 {
                return;
            }
            continue;
        }
        let Some((key, value)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let value = value.trim();
        match (open.last().map_or("", String::as_str), key) {
            ("source", "@type") => value.clone_into(&mut source.kind),
            ("source", "tag") => value.clone_into(&mut source.tag),
            ("source", "matches") => value.clone_into(&mut source.matches),
            ("server", "host") => found.text(FORWARD, "domain", value),
            ("server", "port") => {
                if let Ok(port) = value.parse() {
                    found.put(FORWARD, "port", Value::Whole(port));
                }
            }
            ("security", "self_hostname") => found.text(FORWARD, "hostname", value),
            ("security", "shared_key") => {
                let key = Secret::new(value);
                found.put(FORWARD, "shared_key", secret("fluentd-shared-key", key));
            }
            _ => {}
        }
    }
    if let Some(ca) = ca {
        found.put(FORWARD, "ca_cert", file("fluentd-ca.crt", pem(ca)));
    }
    if has_buffer {
        found.note("the <buffer> section of fluentd is not taken over: lbctl has one of its own, and fluentd.buffer for another one");
    }
}

fn registry(login: &str, found: &mut Found) {
    const TABLE: &str = "container_registry";
    let unread = "Docker's login has another form than the module's, and is not taken over";
    let Ok(document) = Json::parse(login.as_bytes()) else {
        return found.note(unread);
    };
    let Some(Json::Map(registries)) = document.get("auths") else {
        return found.note(unread);
    };
    // A login in the address would be shown with it.
    let [(url, entry)] = &registries[..] else {
        return found.note(unread);
    };
    if url.contains('@') {
        return found.note(unread);
    }
    let decoded = entry.text("auth").and_then(super::user_data::from_base64);
    let pair = decoded
        .as_ref()
        .and_then(|auth| auth.expose().split_once(':'));
    let Some((user, password)) = pair else {
        return found.note(unread);
    };
    found.text(TABLE, "url", url);
    found.text(TABLE, "username", user);
    let password = Secret::new(password);
    found.put(TABLE, "password", secret("registry-password", password));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Found {
        let mut user_data = UserData::default();
        for (path, content) in files {
            user_data
                .files
                .insert((*path).to_owned(), Secret::new(*content));
        }
        let mut found = Found::default();
        read(&user_data, &mut found);
        found
    }

    #[test]
    fn lines_that_the_module_does_not_write_are_named_and_their_ends_are_not() {
        let cfg = "global\n  user www-data\n  stats socket /run/x level admin\nuserlist people\n\
                   \x20 user a insecure-password hunter2\nfrontend f\n  bind *:5432\n";
        let found = found(&[(HAPROXY_CFG, cfg)]);
        let text = found.notes.join("\n");
        assert!(text.contains("global: stats socket ..."), "{text}");
        assert!(text.contains("user a ..."), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("www-data"),
            "{text}"
        );
    }

    #[test]
    fn fluentd_and_a_registry() {
        let conf = "<source>\n  @type systemd\n  tag lb.node\n  matches [{ \"_SYSTEMD_UNIT\": \"node-exporter.service\" }]\n\
                    \x20 <storage>\n    @type local\n  </storage>\n</source>\n<source>\n  @type forward\n  tag lb.haproxy\n</source>\n\
                    <match *>\n  @type forward\n  <server>\n    host logs.example.org\n    port 24224\n  </server>\n  <security>\n\
                    \x20   self_hostname lb-1\n    shared_key a b\n  </security>\n  <buffer>\n    @type memory\n  </buffer>\n</match>\n";
        let login = r#"{"auths": {"https://registry.example.org": {"auth": "bGI6cGE6c3M="}}}"#;
        let found = found(&[
            (HAPROXY_CFG, ""),
            (FLUENTD, conf),
            (FLUENTD_CA, "x"),
            (LOGIN, login),
        ]);
        let text = |table, key| match found.get(table, key) {
            Some(Value::Text(text)) => text.clone(),
            Some(Value::File {
                content: Some(content),
                ..
            }) => content.text().to_owned(),
            other => panic!("{table}.{key}: {other:?}"),
        };
        assert_eq!(text("fluentd", "load_balancer_tag"), "lb.haproxy");
        assert_eq!(text("fluentd", "node_exporter_tag"), "lb.node");
        assert_eq!(text("fluentd.forward", "domain"), "logs.example.org");
        assert_eq!(text("fluentd.forward", "shared_key"), "a b");
        assert_eq!(text("container_registry", "username"), "lb");
        assert_eq!(text("container_registry", "password"), "pa:ss");
        assert!(found.notes.iter().any(|note| note.contains("<buffer>")));
    }

    #[test]
    fn a_login_of_another_form_is_not_taken() {
        for login in [
            "",
            "{}",
            r#"{"auths": {"a": {}, "b": {}}}"#,
            r#"{"auths": {"a": {"auth": "!"}}}"#,
        ] {
            let found = found(&[(HAPROXY_CFG, ""), (LOGIN, login)]);
            assert!(!found.has("container_registry"), "{login}");
            assert!(found.notes.iter().any(|note| note.contains("another form")));
        }
    }
}

//! What makes single values fit for their place: pool and volume names, addresses, URLs and the
//! like. Pure: text in, value or [`InvalidValue`] out. What two values have to do with one another
//! is checked where they are read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::FILL_IN;
use super::keys::{Key, Kind};
use super::model::NodeAddress;
use super::report::quoted;
use super::types::{self, DomainName, InvalidValue, character};
use super::units;
use crate::text::sanitize::drives_terminal;

/// In bytes.
const SECTOR: u64 = 512;
/// Users below uid 1000 in the guests' distributions, and those of the services that lbctl installs.
#[rustfmt::skip]
const SYSTEM_USERS: &[&str] = &[
    "backup", "bin", "chrony", "daemon", "dnsmasq", "docker", "fluent", "fluentd", "games", "gnats",
    "haproxy", "irc", "landscape", "libuuid", "libvirt-qemu", "list", "lp", "mail", "man",
    "messagebus", "news", "nobody", "node-exporter", "node_exporter", "ntp", "polkitd", "pollinate",
    "postfix", "postgres", "prometheus", "proxy", "root", "sshd", "sync", "sys", "syslog",
    "tcpdump", "td-agent", "tss", "uucp", "uuidd", "www-data",
];

/// Whether it has no place in a value on one line: what ends a line, cannot be seen, or cannot be
/// written in XML (U+FFFE, U+FFFF).
fn unfit(c: char) -> bool {
    drives_terminal(c) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Text without line breaks and other characters that are not seen.
pub(super) fn one_line(text: &str) -> Result<String, InvalidValue> {
    match text.chars().find(|c| unfit(*c)) {
        Some(bad) => Err(InvalidValue::quoting(
            text,
            format_args!(", with {} in it", character(bad)),
            "write it on one line, without characters that cannot be seen",
        )),
        None => Ok(text.to_owned()),
    }
}

/// Text without white space and control characters.
pub(super) fn one_word(text: &str) -> Result<String, InvalidValue> {
    match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(bad) => Err(InvalidValue::quoting(
            text,
            format_args!(", with {} in it", character(bad)),
            "write it without spaces and line breaks",
        )),
        None => Ok(text.to_owned()),
    }
}

/// The name of a libvirt pool, volume or network: a file name, as far as it matters.
pub(super) fn libvirt_name(text: &str) -> Result<String, InvalidValue> {
    let help =
        "give the name as `virsh pool-list`, `virsh vol-list POOL` or `virsh net-list` shows it";
    let refused = |what: &str| Err(InvalidValue::quoting(text, what, help));
    if let Some(bad) = text.chars().find(|c| *c == '/' || unfit(*c)) {
        let bad = character(bad);
        return refused(&format!(": {bad} is not allowed in a libvirt name"));
    }
    match text {
        FILL_IN => refused(", which is to be filled in"),
        "." | ".." => refused(", which is a folder and not a name"),
        _ if text.trim() != text => refused(", with a space at its end or beginning"),
        _ if text.len() > 250 => refused(": at most 250 bytes fit in a file name with its ending"),
        _ => Ok(text.to_owned()),
    }
}

/// A volume's key, path or pool/name.
pub(super) fn volume_id(text: &str) -> Result<String, InvalidValue> {
    let id = one_line(text)?;
    if id.len() > 4096 {
        return Err(InvalidValue::quoting(
            text,
            ", longer than any path",
            "give a volume's key, path, or pool/name",
        ));
    }
    Ok(id)
}

/// In any case, with dashes or without, as libvirt takes it; returned in lower case with dashes.
pub(super) fn uuid(text: &str) -> Result<String, InvalidValue> {
    let help =
        "give the UUID as `virsh net-uuid NAME` shows it, or the network's name as network_name";
    let hex: String = text
        .chars()
        .filter(|c| *c != '-')
        .collect::<String>()
        .to_ascii_lowercase();
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    let shaped = hex.len() == 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && (dashes.is_empty() || dashes == [8, 13, 18, 23]);
    if !shaped {
        return Err(InvalidValue::quoting(text, ", which is not a UUID", help));
    }
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

/// The path of a file on the machine that lbctl runs on.
pub(super) fn path(text: &str) -> Result<PathBuf, InvalidValue> {
    let help = "give the path of a file, which starts at the folder of the configuration";
    match one_line(text)? {
        path if path.len() > 4096 => {
            Err(InvalidValue::quoting(text, ", longer than any path", help))
        }
        path if path.starts_with("~/") => Err(InvalidValue::quoting(
            text,
            ": `~` is not replaced here",
            "write the whole path",
        )),
        path => Ok(PathBuf::from(path)),
    }
}

/// A network device of the host, by the kernel's own rule (`dev_valid_name`).
pub(super) fn device(text: &str) -> Result<String, InvalidValue> {
    let help = "give the name of a host interface as `ip link` shows it, such as eno1";
    let refused = |what: &str| Err(InvalidValue::quoting(text, what, help));
    let bad = |c: &char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    if text.len() > 15 {
        return refused(": a network interface's name has at most 15 characters");
    }
    if let Some(bad) = text.chars().find(bad) {
        let bad = character(bad);
        return refused(&format!(": {bad} is not allowed in an interface's name"));
    }
    match text {
        "." | ".." => refused(", which is not an interface's name"),
        _ => Ok(text.to_owned()),
    }
}

/// An IPv4 address that a host can have.
pub(super) fn host_address(text: &str) -> Result<Ipv4Addr, InvalidValue> {
    let help = "give an IPv4 address without its prefix, such as 192.168.122.162";
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        let what = match text.parse::<IpAddr>() {
            Ok(_) => "an IPv6 address, which only `addresses` of a static network interface takes",
            Err(_) if text.contains('/') => "an address with its prefix",
            Err(_) => "which is not an IPv4 address",
        };
        return Err(InvalidValue::quoting(text, format_args!(", {what}"), help));
    };
    types::host_address(address.into()).map(|()| address)
}

/// A router on the link of a network interface. In IPv6 that is mostly a link-local address.
pub(super) fn router(text: &str) -> Result<IpAddr, InvalidValue> {
    let help = "give the router's address without a prefix, such as 192.168.122.1";
    let Ok(address) = text.parse::<IpAddr>() else {
        let what = ", which is not an IP address";
        return Err(InvalidValue::quoting(text, what, help));
    };
    match address {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Ok(address),
        _ => types::host_address(address).map(|()| address),
    }
}

/// An address of a server, IPv4 or IPv6.
pub(super) fn server_address(text: &str) -> Result<IpAddr, InvalidValue> {
    let help = "give an IPv4 or IPv6 address, without port and brackets";
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(InvalidValue::quoting(
            text,
            ", which is not an IP address",
            help,
        ));
    };
    if address.is_unspecified() || address.is_multicast() {
        return Err(InvalidValue::new(
            format!("is {address}, at which no server can be asked"),
            help,
        ));
    }
    Ok(address)
}

/// An address to listen on.
pub(super) fn listen_address(text: &str) -> Result<IpAddr, InvalidValue> {
    let help = "give an address of the VM, 0.0.0.0 or :: for all of them, or 127.0.0.1 for none but itself";
    text.parse()
        .map_err(|_| InvalidValue::quoting(text, ", which is not an IP address", help))
}

/// An address by which other machines can reach the VM; 0.0.0.0 is all of them that are IPv4, ::
/// all of them.
pub(super) fn own_address(text: &str) -> Result<IpAddr, InvalidValue> {
    let help = "give one of the VM's addresses, or 0.0.0.0 for all of them (:: with those of IPv6)";
    let Ok(address) = text.parse::<IpAddr>() else {
        let what = ", which is not an IP address";
        return Err(InvalidValue::quoting(text, what, help));
    };
    if address.is_loopback() {
        let what = format!("is {address}, where no client reaches the VM");
        return Err(InvalidValue::new(what, help));
    }
    Ok(address)
}

/// An IP address or a DNS name.
pub(super) fn host(text: &str) -> Result<String, InvalidValue> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    DomainName::parse(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|wrong| {
            InvalidValue::new(
                wrong.what,
                "give an IP address or a DNS name, without protocol and port",
            )
        })
}

/// A login name, by the rule of shadow's `useradd`.
pub(super) fn user(text: &str) -> Result<String, InvalidValue> {
    let help = "give a name such as ubuntu or debian";
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !first || !rest || text.len() > 32 {
        return Err(InvalidValue::quoting(
            text,
            ", which is not a login name of Linux (a to z, 0 to 9, _ and -, a letter first, at most 32)",
            help,
        ));
    }
    // Names with a line in front are Debian's and systemd's for their own services.
    if SYSTEM_USERS.contains(&text) || text.starts_with('_') || text.starts_with("systemd-") {
        return Err(InvalidValue::quoting(
            text,
            ", which is a user of the system: it would be locked when another admin takes its place",
            help,
        ));
    }
    Ok(text.to_owned())
}

/// Bytes: a whole number, with or without a unit. Rounded up to whole sectors. `key` has the
/// bounds.
pub(super) fn size(text: &str, key: &Key) -> Result<u64, InvalidValue> {
    let help = "give a whole number of bytes, or one with a unit, such as \"10 GiB\" or \"10G\"";
    let refused = |what: &str| InvalidValue::quoting(text, format_args!(", {what}"), help);
    let (number, factor) =
        units::split(text, Kind::Size).ok_or_else(|| refused("which is not a size"))?;
    let range = key.range();
    let (min, max) = (range.start().unsigned_abs(), range.end().unsigned_abs());
    match number.checked_mul(factor) {
        Some(bytes) if bytes < min => {
            let min = key.kind.quantity(*range.start());
            Err(refused(&format!("less than {min}: is its unit missing?")))
        }
        Some(bytes) if bytes <= max => Ok(bytes.next_multiple_of(SECTOR)),
        _ => {
            let max = key.kind.quantity(*range.end());
            Err(refused(&format!("more than {max}")))
        }
    }
}

/// MiB of a memory, or hours: a whole number of them, with its unit. Units of bytes as in [`size`].
pub(super) fn counted(text: &str, key: &Key) -> Result<i64, InvalidValue> {
    let (unit, name, example) = match key.kind {
        Kind::Memory => (1 << 20, "MiB", "\"2 GiB\""),
        _ => (3600, "hours", "\"365d\" or \"720h\""),
    };
    let help = format!(
        "give a whole number of {name} without quotes, or one with its unit, such as {example}"
    );
    let refused = |what: &str| InvalidValue::quoting(text, format_args!(", {what}"), help.clone());
    let wrong = || match key.kind {
        Kind::Memory => refused("which is not a size"),
        _ => refused("which is not a time"),
    };
    let (number, factor) = units::split(text, key.kind).ok_or_else(wrong)?;
    let all = number
        .checked_mul(factor)
        .and_then(|all| i64::try_from(all).ok());
    let all = all.ok_or_else(|| refused("which is too much"))?;
    if all % unit == 0 {
        Ok(all / unit)
    } else {
        Err(refused(&format!("which is not a whole number of {name}")))
    }
}

/// A container image without tag and digest, by the registries' grammar.
pub(super) fn image(text: &str) -> Result<String, InvalidValue> {
    let refused =
        |what: &str, help: &str| Err(InvalidValue::quoting(text, format_args!(", {what}"), help));
    if text.contains('@') {
        return refused(
            "with a digest",
            "give the image alone, and its digest as image_digest",
        );
    }
    let mut parts = text.split('/');
    let last = parts.next_back().unwrap_or("");
    if last.contains(':') {
        return refused(
            "with a tag",
            "give the image alone, and its release line as version",
        );
    }
    let registry = |part: &str| {
        let (host, port) = part.split_once(':').unwrap_or((part, "0"));
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            && port.parse::<u16>().is_ok()
    };
    let fine = image_component(last)
        && parts
            .enumerate()
            .all(|(place, part)| image_component(part) || (place == 0 && registry(part)));
    if !fine || text.len() > 255 {
        return refused(
            "which is not the name of a container image",
            "give a name such as haproxy or library/haproxy, in lower case",
        );
    }
    Ok(text.to_owned())
}

/// A part between slashes, by the grammar of image references: words of small letters and digits,
/// and between two of them a dot, one or two underscores, or any number of dashes.
fn image_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator =
        |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|byte| byte == b'-');
    part.starts_with(word) && part.ends_with(word) && part.split(word).all(separator)
}

pub(super) fn digest(text: &str) -> Result<String, InvalidValue> {
    let hex = text
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let help = "give it as `docker images --digests` shows it: sha256: and 64 hexadecimal digits";
    hex.map(|_| text.to_ascii_lowercase())
        .ok_or_else(|| InvalidValue::quoting(text, ", which is not a digest", help))
}

/// The URL of a proxy or a mirror, of characters that mean nothing in YAML, apt's and systemd's
/// files.
pub(super) fn plain_url(text: &str) -> Result<String, InvalidValue> {
    let help = "write it with its protocol, such as http://proxy.example.com:3128";
    let refused = |what: &str| Err(InvalidValue::new(what, help));
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        return refused("does not begin with http:// or https://");
    };
    if rest.contains('@') {
        return Err(InvalidValue::new(
            "has a login in it, which everybody in the guest could read",
            "let the proxy or the mirror know the VM by its address",
        ));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
    if !text.bytes().all(plain) {
        return refused("has a character in it that is not taken here");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (name, port) = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
        .unwrap_or((authority, "80"));
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let named = bare.map_or_else(
        || !name.contains(['[', ']', ':']) && host(name).is_ok(),
        |bare| bare.parse::<Ipv6Addr>().is_ok(),
    );
    if !named || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return refused("has no host name, or no proper port, behind its protocol");
    }
    Ok(text.to_owned())
}

/// A registry's URL, without anything of a login in it. Not shown in messages, for a login may be.
pub(super) fn registry_url(text: &str) -> Result<String, InvalidValue> {
    let help = "write it with its protocol, such as https://registry.example.com";
    let url = one_word(text)
        .map_err(|_| InvalidValue::new("has white space or a control character in it", help))?;
    let Some(rest) = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
    else {
        return Err(InvalidValue::new(
            "does not begin with https:// or http://",
            help,
        ));
    };
    if rest.contains('@') {
        return Err(InvalidValue::new(
            "has a login in it",
            "put it in username and password",
        ));
    }
    let rest = rest.trim_end_matches('/');
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
        .unwrap_or((authority, "443"));
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    if host(address).is_err() || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(InvalidValue::new(
            "has no host name, or no proper port, behind its protocol",
            help,
        ));
    }
    // What follows the protocol is the beginning of each image's name.
    if name.starts_with('[') {
        return Err(InvalidValue::new(
            "has an IPv6 address, which cannot stand in the name of an image",
            "give the registry's host name",
        ));
    }
    if !path.is_empty() && !path.split('/').all(image_component) {
        return Err(InvalidValue::new(
            "has a path that cannot stand in the name of an image",
            "give a path of small letters and digits, with . _ or - between them, or none",
        ));
    }
    Ok(url)
}

/// A libvirt connection. Only the form: whether something answers there is for the host to tell.
pub(super) fn connection_uri(text: &str) -> Result<String, InvalidValue> {
    let help = "give one such as qemu:///system or qemu+ssh://root@host/system";
    let uri = one_word(text)?;
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| {
        InvalidValue::quoting(text, ", which is not a connection URI of libvirt", help)
    })?;
    let driver = scheme.split('+').next().unwrap_or(scheme);
    if !matches!(driver, "qemu" | "test") {
        return Err(InvalidValue::new(
            format!(
                "names libvirt's driver {}, and lbctl works with qemu alone",
                quoted(driver)
            ),
            help,
        ));
    }
    let login = rest
        .split('/')
        .next()
        .and_then(|authority| authority.rsplit_once('@'));
    if login.is_some_and(|(login, _)| login.contains(':')) {
        return Err(InvalidValue::new(
            "has a password in it, which libvirt does not take",
            "let ssh log in by key",
        ));
    }
    Ok(uri)
}

/// A machine type as QEMU names it.
pub(super) fn machine(text: &str) -> Result<String, InvalidValue> {
    let fine = text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let help = "give one that `virsh domcapabilities` knows, such as q35, or leave it out";
    if fine {
        Ok(text.to_owned())
    } else {
        Err(InvalidValue::quoting(
            text,
            ", which is not a machine type",
            help,
        ))
    }
}

/// An address of a node, or its host name.
pub(super) fn node_address(text: &str) -> Result<NodeAddress, InvalidValue> {
    let help = "give the node's IPv4 or IPv6 address or its host name, without port and brackets";
    let Ok(address) = text.parse::<IpAddr>() else {
        let shaped = DomainName::parse(text).map(NodeAddress::Host);
        return shaped.map_err(|_| {
            let what = ", which is neither an IP address nor a host name";
            InvalidValue::quoting(text, what, help)
        });
    };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        let what = format!("is {address}, at which the VM reaches no other machine");
        return Err(InvalidValue::new(what, help));
    }
    if matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        let what = format!("is {address}, which means another machine on each network");
        return Err(InvalidValue::new(what, help));
    }
    Ok(NodeAddress::Ip(address))
}

/// A name for a server in haproxy.cfg.
pub(super) fn server_name(text: &str) -> Result<String, InvalidValue> {
    let help =
        "give letters, digits, -, _ and ., at most 63, a letter or digit first, such as pg-1";
    let name = haproxy_name(text, 63, help)?;
    // Places where connections wait, and what HAProxy calls the sums of its servers.
    if name.starts_with("later") || matches!(&*name, "FRONTEND" | "BACKEND") {
        let what = ", which haproxy.cfg has for something else";
        return Err(InvalidValue::quoting(text, what, help));
    }
    Ok(name)
}

/// A name for a frontend in haproxy.cfg, and for the backends behind it.
pub(super) fn service_name(text: &str) -> Result<String, InvalidValue> {
    let help =
        "give letters, digits, -, _ and ., at most 40, a letter or digit first, such as reports";
    let name = haproxy_name(text, 40, help)?;
    let own = [
        "postgres", "patroni", "replicas", "metrics", "primary", "standbys", "rest", "GLOBAL",
        "MASTER",
    ];
    if own.contains(&&*name) {
        let what = ", which haproxy.cfg has for something else";
        return Err(InvalidValue::quoting(text, what, help));
    }
    Ok(name)
}

fn haproxy_name(text: &str, longest: usize, help: &str) -> Result<String, InvalidValue> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || text.len() > longest || !text.bytes().all(fine) {
        return Err(InvalidValue::quoting(
            text,
            ", which cannot be a name in haproxy.cfg",
            help,
        ));
    }
    Ok(text.to_owned())
}

/// The version of the PROXY protocol.
pub(super) fn proxy_v2(text: &str) -> Result<(), InvalidValue> {
    if text == "v2" {
        return Ok(());
    }
    let help = "write \"v2\", or leave it out";
    Err(InvalidValue::quoting(
        text,
        ", which is not a choice here",
        help,
    ))
}

/// Patroni's form of a lag: a number of bytes with or without B, kB, MB, GB, TB.
pub(super) fn lag(text: &str) -> Result<String, InvalidValue> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty()
        || number.len() > 15
        || !matches!(unit, "" | "B" | "kB" | "MB" | "GB" | "TB")
    {
        return Err(InvalidValue::quoting(
            text,
            ", which is not a lag for Patroni",
            "give a number with B, kB, MB, GB or TB, such as \"16MB\"",
        ));
    }
    Ok(text.to_owned())
}

/// A fluentd tag: parts of plain characters with dots between them, so that no pattern takes it for
/// something else.
pub(super) fn fluentd_tag(text: &str) -> Result<String, InvalidValue> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if text.len() > 200 || !text.split('.').all(part) {
        let help = "use letters, digits, _ and -, in parts with dots between them, such as postgres-lb.haproxy";
        return Err(InvalidValue::quoting(
            text,
            ", which is not a tag of fluentd",
            help,
        ));
    }
    Ok(text.to_owned())
}

/// A whole `<buffer>` section.
pub(super) fn buffer(text: &str) -> Result<String, InvalidValue> {
    let trimmed = text.trim();
    let opened = trimmed
        .strip_prefix("<buffer")
        .is_some_and(|rest| rest.starts_with([' ', '>']));
    let help = "begin with <buffer> and end with </buffer>, each on a line of its own";
    // A carriage return ends a line too, for whoever reads it.
    let sections = trimmed
        .split(['\n', '\r'])
        .filter(|line| line.trim_start().starts_with('<'))
        .count();
    if !opened || sections != 2 || trimmed.lines().next_back().map(str::trim) != Some("</buffer>") {
        return Err(InvalidValue::new("is not one whole <buffer> section", help));
    }
    if let Some(bad) = trimmed
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
    {
        return Err(InvalidValue::new(
            format!("has {} in it", character(bad)),
            help,
        ));
    }
    Ok(trimmed.to_owned())
}

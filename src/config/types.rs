//! Small types for what strings and numbers hide. Each is made by a `parse` that says what is
//! wrong, in words that fit behind the key's name.

mod addresses;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::{NonZero, TryFromIntError};

use aws_lc_rs::digest;

use super::key::Kind;
use super::report::{ProblemId, quoted};
use super::units;

pub(super) use addresses::host_address;
pub use addresses::{InterfaceAddress, IpNetwork};

/// Why a value is refused: `what` stands behind the key's name ("is not …"), `help` says what to
/// do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    pub id: ProblemId,
    pub what: String,
    pub help: String,
}

impl InvalidValue {
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            id: ProblemId::InvalidValue,
            what: what.into(),
            help: help.into(),
        }
    }

    /// Where it is not the value itself that is wrong.
    pub(super) fn with_id(self, id: ProblemId) -> Self {
        Self { id, ..self }
    }

    /// `is "text"`, and then `what`, which begins with a comma or a colon.
    pub(super) fn quoting(text: &str, what: impl fmt::Display, help: impl Into<String>) -> Self {
        Self::new(format!("is {}{what}", quoted(text)), help)
    }
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for InvalidValue {}

/// A MAC address, unicast. Shown in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `52:54:00:de:e3:6b`, in any case.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help = "write six pairs of hexadecimal digits, as in 52:54:00:de:e3:6b, or leave it out: lbctl derives one that stays";
        let refused =
            |what: String| Err(InvalidValue::quoting(text, format_args!(", {what}"), help));
        let parts: Vec<&str> = text.split(':').collect();
        let mut octets = [0u8; 6];
        let shaped = parts.len() == 6
            && parts
                .iter()
                .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        if !shaped {
            return refused("which is not a MAC address".into());
        }
        for (octet, part) in octets.iter_mut().zip(&parts) {
            *octet = u8::from_str_radix(part, 16)
                .map_err(|e| InvalidValue::quoting(text, format_args!(": {e}"), help))?;
        }
        if octets[0] & 1 == 1 {
            return refused(
                "a multicast address: the first pair of a network interface's own address is even"
                    .into(),
            );
        }
        if octets == [0; 6] {
            return refused("the null address, which no network interface may have".into());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

/// A volume, by the name of its pool and its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeRef {
    pub pool: String,
    pub name: String,
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(super) String);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// The VM's name, which is its hostname too: one RFC 1123 label, at most 63 characters.
    Name
);
text_type!(
    /// A DNS name of RFC 1123 labels, at most 253 characters, without a final dot.
    DomainName
);
text_type!(
    /// A time as HAProxy writes it (configuration manual, section 2.5): digits and `us`, `ms`, `s`,
    /// `m`, `h` or `d`.
    HaproxyTime
);

impl Name {
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help =
            "use lower-case letters, digits and dashes, at most 63 in all, such as postgres-lb-1";
        label(text).map_err(|what| InvalidValue::new(what, help))?;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidValue::quoting(
                text,
                ": virsh takes a name of digits only for a domain's number",
                help,
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// One RFC 1123 label; the error stands behind the key's name.
fn label(text: &str) -> Result<(), String> {
    let shown = quoted(text);
    if let Some(bad) = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
    {
        return Err(format!(
            "is {shown}, which cannot be a hostname: {} is not allowed in one",
            character(bad)
        ));
    }
    if text.is_empty() || text.len() > 63 {
        return Err(format!(
            "is {shown}: a part of a hostname has 1 to 63 characters, not {}",
            text.len()
        ));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(format!(
            "is {shown}: a hostname neither begins nor ends with a dash"
        ));
    }
    Ok(())
}

/// A character as it may be named in a message.
pub(super) fn character(c: char) -> String {
    match c {
        '\n' => "a line break".into(),
        '\t' => "a tab".into(),
        '\0' => "a NUL character".into(),
        ' ' => "a space".into(),
        c if c.is_control() => format!("the control character U+{:04X}", u32::from(c)),
        c if c.is_ascii_graphic() => format!("`{c}`"),
        c if c.is_alphanumeric() => format!("`{c}` (U+{:04X})", u32::from(c)),
        c => format!("the character U+{:04X}", u32::from(c)),
    }
}

impl DomainName {
    /// Underscores are let through, for names such as `_postgresql._tcp.db.local` exist in DNS. A
    /// final dot is cut.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help = "give a DNS name such as server.postgres.local";
        let refused = |what: &str| Err(InvalidValue::quoting(text, what, help));
        let name = text.strip_suffix('.').unwrap_or(text);
        if text.parse::<std::net::IpAddr>().is_ok() {
            return refused(", which is an address and not a name");
        }
        if name.len() > 253 {
            return refused(": a DNS name has at most 253 characters");
        }
        for part in name.split('.') {
            if part.is_empty() {
                return refused(", which has an empty part between its dots");
            }
            label(&part.replace('_', "x"))
                .map_err(|_| InvalidValue::new(bad_part(text, part), help))?;
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return refused(": the last part of a DNS name is not a number");
        }
        Ok(Self(name.to_owned()))
    }
}

fn bad_part(text: &str, part: &str) -> String {
    let shown = quoted(text);
    match part
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
    {
        Some(bad) => format!(
            "is {shown}, which is not a DNS name: {} is not allowed in one",
            character(bad)
        ),
        None if part.len() > 63 => format!(
            "is {shown}: between two dots of a DNS name are at most 63 characters, not {}",
            part.len()
        ),
        None => format!("is {shown}: no part of a DNS name begins or ends with a dash"),
    }
}

/// Longest time HAProxy takes: 2^31 - 1 milliseconds, 24.8 days.
pub const MAX_HAPROXY_MILLIS: u64 = 2_147_483_647;

impl HaproxyTime {
    /// No time at all.
    #[must_use]
    pub fn zero() -> Self {
        Self("0s".to_owned())
    }

    /// `500ms`, `5s`, `24h`; a bare number is milliseconds, as in haproxy.cfg.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let time = Self(text.to_owned());
        let Some(micros) = time.micros() else {
            return Err(InvalidValue::quoting(
                text,
                ", which is not a time HAProxy can read",
                "write one whole number and one unit of us, ms, s, m, h, d: \"500ms\", \"90m\", \"24h\"",
            ));
        };
        if micros > u128::from(MAX_HAPROXY_MILLIS) * 1000 {
            return Err(InvalidValue::quoting(
                text,
                ", longer than HAProxy's longest time of 24.8 days",
                "write \"24d\" or less",
            ));
        }
        Ok(time)
    }

    /// Rounded up to whole milliseconds.
    #[must_use]
    pub fn millis(&self) -> u64 {
        let millis = self.micros().map_or(0, |micros| micros.div_ceil(1000));
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    fn micros(&self) -> Option<u128> {
        let (number, worth) = units::split(&self.0, Kind::Time)?;
        Some(u128::from(number) * u128::from(worth))
    }
}

/// A SHA-256, as 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sha256(String);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Sha256 {
    /// With or without `sha256:` in front, as the publishers of images write it.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self(hex.to_ascii_lowercase()));
        }
        let what = if hex.len() == 128 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            ", a SHA-512"
        } else {
            ", which is not a SHA-256"
        };
        let help = "give the 64 hexadecimal digits that `sha256sum FILE` prints";
        Err(InvalidValue::quoting(text, what, help))
    }

    /// Of a digest that was made.
    #[must_use]
    pub fn from_bytes(digest: &[u8]) -> Self {
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(pairs.concat())
    }

    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self::from_bytes(digest::digest(&digest::SHA256, content).as_ref())
    }

    /// Enough of it to tell one image from another.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// The address of something to fetch over HTTPS. Shown without what may be a signature.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImageUrl(String);

impl fmt::Display for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.split(['?', '#']).next().unwrap_or_default();
        f.write_str(shown)
    }
}

impl fmt::Debug for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ImageUrl {
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help = "give an address such as https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2";
        let refused = |what: &str| Err(InvalidValue::new(what, help));
        if text.chars().any(|c| !c.is_ascii_graphic()) {
            return refused("has white space or a character in it that no URL has");
        }
        let Some(rest) = text.strip_prefix("https://") else {
            return match text.split_once("://") {
                Some(("http", _)) => Err(InvalidValue::new(
                    "begins with http://: it would be fetched without TLS",
                    "write https://, or fetch the image yourself and give it as `file`",
                )),
                _ => refused("does not begin with https://"),
            };
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(InvalidValue::new(
                "has a login in it",
                "fetch the image yourself and give it as `file`",
            ));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, "443"),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let named = bare.map_or_else(
            || host.parse::<Ipv4Addr>().is_ok() || DomainName::parse(host).is_ok(),
            |address| address.parse::<Ipv6Addr>().is_ok(),
        );
        if !named || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return refused("has no host name, or no proper port, behind its protocol");
        }
        Ok(Self(text.to_owned()))
    }

    /// All of it, for whoever fetches.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(NonZero<$inner>);

        impl $name {
            /// `None` of 0.
            #[must_use]
            pub const fn new(value: $inner) -> Option<Self> {
                match NonZero::new(value) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            #[must_use]
            pub const fn get(self) -> $inner {
                self.0.get()
            }
        }

        impl TryFrom<i64> for $name {
            type Error = TryFromIntError;

            fn try_from(value: i64) -> Result<Self, TryFromIntError> {
                let value = <$inner>::try_from(value)?;
                NonZero::try_from(value).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type!(
    /// Number of virtual CPUs.
    CpuCount(u32)
);
number_type!(
    /// Memory in MiB.
    MemoryMib(u64)
);
number_type!(
    /// A TCP port.
    Port(u16)
);
number_type!(
    /// Whole hours.
    HourSpan(u64)
);

/// A release line of HAProxy, such as 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HaproxyVersion {
    pub major: u8,
    pub minor: u8,
}

impl fmt::Display for HaproxyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl HaproxyVersion {
    /// What a distribution's package is at least: that of the oldest of those supported (Debian
    /// 12). The syntax of a release is understood by those after it.
    pub const OF_PACKAGES: Self = Self { major: 2, minor: 6 };
    /// The oldest whose Lua can let connections wait, and close sessions only on proof.
    pub const WITH_HOLD: Self = Self { major: 2, minor: 6 };

    /// `3.2`; 2.4 is the oldest whose official image runs without root.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help = "give a release line, 2.4 or later, such as \"3.2\"";
        let parts: Option<Vec<u8>> = text
            .split('.')
            .map(|p| {
                p.parse()
                    .ok()
                    .filter(|_| p.bytes().all(|b| b.is_ascii_digit()))
            })
            .collect();
        let Some(&[major, minor]) = parts.as_deref() else {
            return Err(InvalidValue::quoting(
                text,
                ", which is not a release line of HAProxy",
                help,
            ));
        };
        let version = Self { major, minor };
        if version < (Self { major: 2, minor: 4 }) {
            return Err(InvalidValue::new(
                format!("is {version}, which lbctl does not write configurations for"),
                help,
            ));
        }
        Ok(version)
    }
}

//! Small types for what strings and numbers hide. Each is made by a `parse` that says what is wrong, in words that fit
//! behind the key's name.

use std::fmt;

use super::report::{ProblemId, quoted};

/// Why a value is refused: `what` stands behind the key's name ("is not …"), `help` says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub id: ProblemId,
    pub what: String,
    pub help: String,
}

impl Wrong {
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
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Wrong {}

/// A MAC address, unicast. Shown in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `52:54:00:de:e3:6b`, in any case.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let help = "write six pairs of hexadecimal digits, as in 52:54:00:de:e3:6b, or leave it out: lbctl derives one that stays";
        let refused = |what: String| Err(Wrong::new(format!("is {}, {what}", quoted(text)), help));
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
                .map_err(|e| Wrong::new(format!("is {}: {e}", quoted(text)), help))?;
        }
        if octets[0] & 1 == 1 {
            return refused(
                "a multicast address: the first pair of a network card's own address is even"
                    .into(),
            );
        }
        if octets == [0; 6] {
            return refused("the null address, which no network card may have".into());
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
    /// A time as HAProxy writes it (configuration manual, section 2.5): digits and `us`, `ms`, `s`, `m`, `h` or `d`.
    HaproxyTime
);

impl Name {
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let help =
            "use lower-case letters, digits and dashes, at most 63 in all, such as postgres-lb-1";
        label(text).map_err(|what| Wrong::new(what, help))?;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Wrong::new(
                format!(
                    "is {}: virsh takes a name of digits only for a domain's number",
                    quoted(text)
                ),
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
    /// Underscores are let through, for names such as `_postgresql._tcp.db.local` exist in DNS. A final dot is cut.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let help = "give a DNS name such as server.postgres.local";
        let name = text.strip_suffix('.').unwrap_or(text);
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(Wrong::new(
                format!("is {}, which is an address and not a name", quoted(text)),
                help,
            ));
        }
        if name.len() > 253 {
            return Err(Wrong::new(
                format!("is {}: a DNS name has at most 253 characters", quoted(text)),
                help,
            ));
        }
        for part in name.split('.') {
            if part.is_empty() {
                return Err(Wrong::new(
                    format!(
                        "is {}, which has an empty part between its dots",
                        quoted(text)
                    ),
                    help,
                ));
            }
            label(&part.replace('_', "x")).map_err(|_| Wrong::new(bad_part(text, part), help))?;
        }
        if name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(Wrong::new(
                format!(
                    "is {}: the last part of a DNS name is not a number",
                    quoted(text)
                ),
                help,
            ));
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
    /// `500ms`, `5s`, `24h`; a bare number is milliseconds, as in haproxy.cfg.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let time = Self(text.to_owned());
        let Some(micros) = time.micros() else {
            let what = format!("is {}, which is not a time HAProxy can read", quoted(text));
            return Err(Wrong::new(
                what,
                "write one whole number and one unit of us, ms, s, m, h, d: \"500ms\", \"90m\", \"24h\"",
            ));
        };
        if micros > u128::from(MAX_HAPROXY_MILLIS) * 1000 {
            let what = format!(
                "is {}, longer than HAProxy's longest time of 24.8 days",
                quoted(text)
            );
            return Err(Wrong::new(what, "write \"24d\" or less"));
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
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = self.0.split_at(digits);
        let factor: u128 = match unit {
            "us" => 1,
            "ms" | "" => 1000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return None,
        };
        number.parse::<u64>().ok().map(|n| u128::from(n) * factor)
    }
}

/// Number of virtual CPUs, at least 1.
pub type CpuCount = u32;
/// Memory in MiB, at least 256.
pub type MemoryMib = u64;
/// A TCP port, never 0.
pub type Port = u16;
/// Whole hours.
pub type HourSpan = u64;

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
    /// `3.2`; 2.4 is the oldest whose official image runs without root.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
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
            let what = format!(
                "is {}, which is not a release line of HAProxy",
                quoted(text)
            );
            return Err(Wrong::new(what, help));
        };
        let version = Self { major, minor };
        if version < (Self { major: 2, minor: 4 }) {
            return Err(Wrong::new(
                format!("is {version}, which lbctl does not write configurations for"),
                help,
            ));
        }
        Ok(version)
    }
}

//! Small types for what strings and numbers hide. Each is made by a `parse` that says what is
//! wrong, in words that fit behind the key's name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZero, TryFromIntError};

use aws_lc_rs::digest;

use super::key::Kind;
use super::report::{ProblemId, quoted};
use super::units;

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

/// Addresses with a common beginning, as in `192.168.122.0/24`. An address alone is a network of
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    address: IpAddr,
    prefix_length: u8,
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

impl IpNetwork {
    /// With or without the length of the prefix.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help = "give a network such as 192.168.122.0/24, or one address";
        let refused = || InvalidValue::quoting(text, ", which is not a network", help);
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let digits = |length: &str| length.bytes().all(|b| b.is_ascii_digit());
        let prefix_length = match length {
            None => bits,
            Some(length) => length
                .parse()
                .ok()
                .filter(|n| *n <= bits && digits(length))
                .ok_or_else(refused)?,
        };
        let given = Self {
            address,
            prefix_length,
        };
        let whole = given.masked();
        if whole != given {
            return Err(InvalidValue::quoting(
                text,
                format_args!(", an address inside of network {whole}"),
                format!("write {whole} for the network, or {address} for this address alone"),
            ));
        }
        Ok(given)
    }

    /// The network that the address lies in.
    fn masked(self) -> Self {
        let host = |bits: u32| bits - u32::from(self.prefix_length);
        let address = match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(host(32)).unwrap_or(0);
                IpAddr::V4((ip.to_bits() & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(host(128)).unwrap_or(0);
                IpAddr::V6((ip.to_bits() & mask).into())
            }
        };
        Self { address, ..self }
    }

    /// The network of that many bits that the address lies in.
    fn around(address: IpAddr, prefix_length: u8) -> Self {
        let whole = Self {
            address,
            prefix_length,
        };
        whole.masked()
    }

    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4() && Self::around(ip, self.prefix_length) == *self
    }

    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether it is every address of its kind.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.prefix_length == 0
    }

    /// Whether a client on another machine may have an address of it and reach the VM, which
    /// listens on that address.
    #[must_use]
    pub fn has_clients_of(&self, listening: IpAddr) -> bool {
        match (listening, self.address) {
            (IpAddr::V4(_), IpAddr::V4(_)) => self.has_clients(),
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
            (IpAddr::V6(all), IpAddr::V4(_)) => all.is_unspecified() && self.has_clients(),
            (IpAddr::V6(_), IpAddr::V6(ip)) => !ip.is_loopback() && !ip.is_multicast(),
        }
    }

    fn has_clients(&self) -> bool {
        match self.address {
            // 0.0.0.0/0 begins with 0, but is everybody.
            IpAddr::V4(ip) => {
                let nowhere = ip.octets()[0] == 0 && self.prefix_length >= 8;
                !nowhere && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
            }
            IpAddr::V6(_) => false,
        }
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

/// An address of a network interface with the length of its network's prefix: `192.0.2.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    ip: IpAddr,
    prefix_length: u8,
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_length)
    }
}

impl InterfaceAddress {
    /// An address that a host can have in a network of that prefix.
    pub fn new(ip: IpAddr, prefix_length: u8) -> Result<Self, InvalidValue> {
        let address = Self { ip, prefix_length };
        host_address(ip)?;
        address.apart_from_its_network().map(|()| address)
    }

    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let help = "give an address with the length of its network's prefix, such as 192.0.2.5/24 or 2001:db8::5/64";
        let refused = |what: &str| InvalidValue::quoting(text, what, help);
        let (ip, length) = text.split_once('/').unwrap_or((text, ""));
        let ip: IpAddr = ip
            .parse()
            .map_err(|_| refused(", which is not an IP address with its prefix"))?;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse::<u8>().ok().filter(|_| digits);
        match length {
            Some(length) if (1..=bits).contains(&length) => Self::new(ip, length),
            Some(_) => Err(refused(&format!(
                ", whose prefix is not in the range of 1 to {bits}"
            ))),
            None => Err(refused(", an address without its prefix")),
        }
    }

    #[must_use]
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Another host's address in the same network.
    pub fn neighbour(&self, ip: IpAddr) -> Result<Self, InvalidValue> {
        Self::new(ip, self.prefix_length)
    }

    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    #[must_use]
    pub fn network(&self) -> IpNetwork {
        IpNetwork::around(self.ip, self.prefix_length)
    }

    /// Whether there is no other address in its network, so that any router is outside.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.prefix_length == if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// Neither its network's own address nor the broadcast address, where there are such (in IPv6
    /// the first address is that of all routers: RFC 4291, 2.6.1).
    fn apart_from_its_network(&self) -> Result<(), InvalidValue> {
        let network = self.network();
        let (ip, first) = (self.ip, network.address);
        let first_host = match first {
            IpAddr::V4(ip) => IpAddr::from(Ipv4Addr::from(ip.to_bits().saturating_add(1))),
            IpAddr::V6(ip) => IpAddr::from(Ipv6Addr::from(ip.to_bits().saturating_add(1))),
        };
        let broadcast = match first {
            IpAddr::V4(first) if self.prefix_length < 31 => {
                let hosts = u32::MAX
                    .checked_shr(u32::from(self.prefix_length))
                    .unwrap_or(0);
                Some(Ipv4Addr::from(first.to_bits() | hosts))
            }
            _ => None,
        };
        let has_own = broadcast.is_some() || (ip.is_ipv6() && self.prefix_length < 127);
        let help = match broadcast {
            Some(last) => {
                let last = Ipv4Addr::from(last.to_bits().saturating_sub(1));
                format!("give an address from {first_host} to {last}, or correct the prefix")
            }
            None => format!("give an address from {first_host} on, or correct the prefix"),
        };
        if has_own && ip == first {
            let what = format!("is {ip}, the address of the network {network} itself");
            return Err(InvalidValue::new(what, help));
        }
        if broadcast.is_some_and(|broadcast| ip == broadcast) {
            let what = format!("is {ip}, the broadcast address of the network {network}");
            return Err(InvalidValue::new(what, help));
        }
        Ok(())
    }
}

/// Refuses an address that no host can be given.
pub(super) fn host_address(ip: IpAddr) -> Result<(), InvalidValue> {
    let kind = match ip {
        ip if ip.is_loopback() => "a loopback address",
        ip if ip.is_multicast() => "a multicast address",
        IpAddr::V4(ip) if ip.octets()[0] == 0 => "an address that means no host",
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => "a reserved or broadcast address",
        IpAddr::V6(ip) if ip.is_unspecified() => "an address that means no host",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            "a link-local address, which every interface makes itself"
        }
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => "an IPv4 address written as IPv6",
        _ => return Ok(()),
    };
    let help = if ip.is_ipv4() {
        "give an IPv4 address without its prefix, such as 192.168.122.162"
    } else {
        "give an address of the network, such as 2001:db8::5"
    };
    Err(InvalidValue::new(format!("is {ip}, {kind}"), help))
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

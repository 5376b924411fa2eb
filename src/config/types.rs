//! Small types for what strings and numbers hide. Each is made by a `parse` that says what is wrong, in words that fit
//! behind the key's name.

use std::fmt;

/// A MAC address, unicast. Shown in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `52:54:00:de:e3:6b`, in any case.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let mut octets = [0u8; 6];
        let shaped = parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        if !shaped {
            return Err("not a MAC address: six pairs of hexadecimal digits with colons are expected, as in 52:54:00:de:e3:6b".into());
        }
        for (octet, part) in octets.iter_mut().zip(&parts) {
            *octet = u8::from_str_radix(part, 16).map_err(|e| e.to_string())?;
        }
        if octets[0] & 1 == 1 {
            return Err("a multicast address: a network card needs a unicast one, whose first octet is even".into());
        }
        if octets == [0; 6] {
            return Err("the null address: a network card needs one of its own".into());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
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

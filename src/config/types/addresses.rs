//! Addresses of hosts and networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::InvalidValue;

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
pub(in crate::config) fn host_address(ip: IpAddr) -> Result<(), InvalidValue> {
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

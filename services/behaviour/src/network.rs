//! Which addresses are ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Its bits beyond the length are ignored.
    pub address: IpAddr,
    /// Number of bits; more than the address has count as all.
    pub length: u8,
}

impl Prefix {
    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let shift = 32_u32.saturating_sub(u32::from(self.length));
                let differ = ours.to_bits() ^ other.to_bits();
                differ.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let shift = 128_u32.saturating_sub(u32::from(self.length));
                let differ = ours.to_bits() ^ other.to_bits();
                differ.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Networks of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    internal: Vec<Prefix>,
}

impl Default for Networks {
    /// RFC 1918, RFC 3927, RFC 4193 and link-local IPv6: what RITA and Zeek take to be local.
    fn default() -> Self {
        let v4 = |a, b, length| Prefix { address: Ipv4Addr::new(a, b, 0, 0).into(), length };
        let v6 = |first, length| Prefix {
            address: Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0).into(),
            length,
        };
        Self {
            internal: vec![
                v4(10, 0, 8),
                v4(172, 16, 12),
                v4(192, 168, 16),
                v4(169, 254, 16),
                v6(0xfc00, 7),
                v6(0xfe80, 10),
            ],
        }
    }
}

impl Networks {
    /// The default ones and those of the site.
    #[must_use]
    pub fn with(more: impl IntoIterator<Item = Prefix>) -> Self {
        let mut networks = Self::default();
        networks.internal.extend(more);
        networks
    }

    /// Whether the address is the site's.
    #[must_use]
    pub fn is_internal(&self, address: IpAddr) -> bool {
        self.internal.iter().any(|prefix| prefix.contains(address))
    }

    /// Whether it is one host elsewhere: not ours, not a group, not this host.
    #[must_use]
    pub fn is_external(&self, address: IpAddr) -> bool {
        is_unicast(address) && !self.is_internal(address)
    }
}

/// Whether packets to it go to one host elsewhere.
#[must_use]
pub fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(is_broadcast || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

/// What a detector remembers instead of an address where a provider moves services around: the /24
/// of IPv4, the /48 of IPv6.
#[must_use]
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_internal() {
        let networks = Networks::default();
        let is = |text: &str| networks.is_internal(text.parse().unwrap());
        for text in ["10.255.0.1", "172.31.0.1", "192.168.4.4", "fd12::1", "fe80::1", "fc00::"] {
            assert!(is(text), "{text}");
        }
        for text in ["11.0.0.1", "172.32.0.1", "192.169.0.1", "2001:db8::1", "fe00::1"] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn lengths_at_the_ends() {
        let every = Prefix { address: "0.0.0.0".parse().unwrap(), length: 0 };
        assert!(every.contains("203.0.113.7".parse().unwrap()));
        assert!(!every.contains("::1".parse().unwrap()));
        let one = Prefix { address: "2001:db8::7".parse().unwrap(), length: 128 };
        assert!(one.contains("2001:db8::7".parse().unwrap()));
        assert!(!one.contains("2001:db8::6".parse().unwrap()));
    }
}

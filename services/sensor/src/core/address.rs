//! Addresses of records, as the rest of the world writes them.

use std::net::{IpAddr, Ipv6Addr};

use hookprobe_abi::Address;

/// TEST-NET-2 (RFC 5737), 198.51.100.0/24: sources of the drill, never seen on a real network.
const DRILL_SOURCES: [u8; 3] = [198, 51, 100];

/// The address for people and for the wire.
#[must_use]
pub fn to_ip(address: &Address) -> IpAddr {
    Ipv6Addr::from(*address).to_canonical()
}

/// The address as the maps have it.
#[must_use]
pub fn from_ip(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Whether the drill may use this source.
#[must_use]
pub fn is_drill_source(address: &Address) -> bool {
    match to_ip(address) {
        IpAddr::V4(v4) => v4.octets().starts_with(&DRILL_SOURCES),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_round_trip() {
        for text in ["192.0.2.7", "2001:db8::1", "::", "::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(to_ip(&from_ip(ip)), ip, "{text}");
        }
    }

    #[test]
    fn only_test_net_2_is_a_drill() {
        let is = |text: &str| is_drill_source(&from_ip(text.parse().unwrap()));
        assert!(is("198.51.100.7"));
        assert!(!is("198.51.101.7"));
        assert!(!is("2001:db8::c633:6407"));
    }
}

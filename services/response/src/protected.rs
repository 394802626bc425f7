//! The protected set: addresses that can't be blocked, and why.
//!
//! Pure. Every question is asked with the address as it came and answered for its canonical form,
//! so that `::ffff:10.0.0.1` is `10.0.0.1`. Built by [`crate::sources`], asked by [`crate::core`],
//! and copied into the XDP map `PROTECTED` by [`crate::enforce::xdp`].

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hookprobe_wire::response::Protected;

/// Most addresses that a set holds besides the fixed ranges. Four times what a box with sixteen
/// interfaces and a full administrators list has; the XDP map takes 1024.
pub const ADDRESSES_MAX: usize = 512;

/// Why an address can't be blocked. The order is the precedence when several apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The box itself.
    Own,
    /// Next hop of a default route, or named in the site configuration.
    Gateway,
    /// Answers the box's or its clients' DNS questions.
    Resolver,
    /// Named in the site configuration.
    Administrator,
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// 224.0.0.0/4, `ff00::/8`.
    Multicast,
    /// 0.0.0.0/8, `::`.
    Unspecified,
    /// 255.255.255.255 and the broadcast address of every interface.
    Broadcast,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Own,
        Self::Gateway,
        Self::Resolver,
        Self::Administrator,
        Self::Loopback,
        Self::LinkLocal,
        Self::Multicast,
        Self::Unspecified,
        Self::Broadcast,
    ];

    /// Word shown to people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Gateway => "gateway",
            Self::Resolver => "resolver",
            Self::Administrator => "administrator",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Broadcast => "broadcast",
        }
    }

    /// Stable code of the refusal.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Own => "HP-RS-010",
            Self::Gateway => "HP-RS-011",
            Self::Resolver => "HP-RS-012",
            Self::Administrator => "HP-RS-013",
            Self::Loopback => "HP-RS-014",
            Self::LinkLocal => "HP-RS-015",
            Self::Multicast => "HP-RS-016",
            Self::Unspecified => "HP-RS-017",
            Self::Broadcast => "HP-RS-018",
        }
    }
}

/// Ranges that are protected on every box: address, prefix length, why.
const RANGES: [(IpAddr, u8, Why); 8] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, Why::Loopback),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, Why::Loopback),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16, Why::LinkLocal),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, Why::LinkLocal),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, Why::Multicast),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, Why::Multicast),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, Why::Unspecified),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, Why::Unspecified),
];

/// Addresses that can't be blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedSet {
    addresses: BTreeMap<IpAddr, Why>,
}

impl Default for ProtectedSet {
    fn default() -> Self {
        let mut set = Self { addresses: BTreeMap::new() };
        set.add(IpAddr::V4(Ipv4Addr::BROADCAST), Why::Broadcast);
        set
    }
}

impl ProtectedSet {
    /// Adds one address; the stronger reason stays.
    pub fn add(&mut self, address: IpAddr, why: Why) {
        let slot = self.addresses.entry(address.to_canonical()).or_insert(why);
        *slot = why.min(*slot);
    }

    /// Why `address` can't be blocked; `None` when it can.
    #[must_use]
    pub fn why(&self, address: IpAddr) -> Option<Why> {
        let address = address.to_canonical();
        let fixed = || {
            RANGES
                .iter()
                .find(|(network, prefix, _)| within(address, *network, *prefix))
                .map(|(_, _, why)| *why)
        };
        self.addresses.get(&address).copied().or_else(fixed)
    }

    /// The single addresses, for enforcers.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.keys().copied()
    }

    /// How many single addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Never: the broadcast address is always in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// For people: single addresses by reason, then the fixed ranges.
    #[must_use]
    pub fn listing(&self) -> Vec<Protected> {
        let single = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let mut addresses: Vec<_> = self.addresses.iter().map(|(a, w)| (*w, *a)).collect();
        addresses.sort_unstable();
        addresses
            .into_iter()
            .map(|(why, address)| (address, single(address), why))
            .chain(RANGES)
            .map(|(address, prefix, why)| Protected { address, prefix, why: why.word().into() })
            .collect()
    }
}

fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let shift = 32 - u32::from(prefix.min(32));
            (address.to_bits() ^ network.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let shift = 128 - u32::from(prefix.min(128));
            (address.to_bits() ^ network.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_its_mapped_form() {
        let mut set = ProtectedSet::default();
        for (address, why) in [
            ("10.0.0.2", Why::Own),
            ("10.0.0.1", Why::Gateway),
            ("10.0.0.53", Why::Resolver),
            ("10.0.0.9", Why::Administrator),
            ("10.0.0.255", Why::Broadcast),
            ("2001:db8::1", Why::Gateway),
        ] {
            set.add(address.parse().unwrap(), why);
        }
        let check = |address: &str, expect: Option<Why>| {
            assert_eq!(set.why(address.parse().unwrap()), expect, "{address}");
        };
        check("10.0.0.2", Some(Why::Own));
        check("::ffff:10.0.0.2", Some(Why::Own));
        check("10.0.0.1", Some(Why::Gateway));
        check("2001:db8::1", Some(Why::Gateway));
        check("10.0.0.53", Some(Why::Resolver));
        check("10.0.0.9", Some(Why::Administrator));
        check("10.0.0.255", Some(Why::Broadcast));
        check("255.255.255.255", Some(Why::Broadcast));
        check("127.1.2.3", Some(Why::Loopback));
        check("::ffff:127.0.0.1", Some(Why::Loopback));
        check("::1", Some(Why::Loopback));
        check("169.254.7.7", Some(Why::LinkLocal));
        check("febf::1", Some(Why::LinkLocal));
        check("224.0.0.251", Some(Why::Multicast));
        check("239.255.255.250", Some(Why::Multicast));
        check("ff02::1", Some(Why::Multicast));
        check("0.0.0.0", Some(Why::Unspecified));
        check("0.1.2.3", Some(Why::Unspecified));
        check("::", Some(Why::Unspecified));
        for free in ["10.0.0.3", "128.0.0.1", "240.0.0.1", "2001:db8::2", "::2", "fec0::1"] {
            check(free, None);
        }
    }

    #[test]
    fn the_stronger_reason_stays_and_the_listing_is_ordered() {
        let mut set = ProtectedSet::default();
        set.add("10.0.0.1".parse().unwrap(), Why::Resolver);
        set.add("10.0.0.1".parse().unwrap(), Why::Gateway);
        set.add("10.0.0.1".parse().unwrap(), Why::Administrator);
        assert_eq!(set.why("10.0.0.1".parse().unwrap()), Some(Why::Gateway));
        let listing = set.listing();
        assert_eq!(listing[0].why, "gateway");
        assert_eq!(listing[0].prefix, 32);
        assert_eq!(listing.len(), 2 + RANGES.len());
    }

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::BTreeSet<_> = Why::ALL.iter().map(|why| why.code()).collect();
        assert_eq!(codes.len(), Why::ALL.len());
    }
}

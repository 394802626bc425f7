//! Who talks with whom, as every log names it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hookprobe_traffic::Direction;

use super::log::Value;

/// Digits of a unique name.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Length of a name without its first letter: 17 digits hold what two 64-bit words do.
const DIGITS_MAX: usize = 17;

/// The first columns of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    /// Unique name.
    pub uid: String,
    /// Who began.
    pub orig_h: IpAddr,
    /// Its port.
    pub orig_p: u16,
    /// The other.
    pub resp_h: IpAddr,
    /// Its port.
    pub resp_p: u16,
}

impl Ident {
    /// Time, name and tuple, in the order of the columns.
    #[must_use]
    pub fn columns(&self, first_ns: u64) -> [Value<'_>; 6] {
        [
            Value::Time(first_ns),
            Value::word(&self.uid),
            Value::Addr(self.orig_h),
            Value::Port(self.orig_p),
            Value::Addr(self.resp_h),
            Value::Port(self.resp_p),
        ]
    }

    /// The other way round.
    #[must_use]
    pub fn flipped(self) -> Self {
        Self {
            orig_h: self.resp_h,
            orig_p: self.resp_p,
            resp_h: self.orig_h,
            resp_p: self.orig_p,
            ..self
        }
    }

    /// Whether the originator is on a private network.
    #[must_use]
    pub fn is_orig_local(&self) -> bool {
        is_local(self.orig_h)
    }

    /// Whether the responder is on a private network.
    #[must_use]
    pub fn is_resp_local(&self) -> bool {
        is_local(self.resp_h)
    }
}

/// Networks that no route leads to from outside, as Zeek has them: what `local_orig` and
/// `local_resp` are about. Address and how many bits count.
const LOCAL_V4: [(Ipv4Addr, u32); 14] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 24),
    (Ipv4Addr::new(239, 0, 0, 0), 8),
];
/// The same for IPv6.
const LOCAL_V6: [(Ipv6Addr, u32); 9] = [
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Whether an address is in one of them. 240.0.0.0/4 and an IPv4 address in 6to4 count as well.
#[must_use]
pub(super) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => {
            let [0x2002, high, low, ..] = address.segments() else {
                let is_in = |(network, bits): &(Ipv6Addr, u32)| {
                    (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0)
                        == 0
                };
                return LOCAL_V6.iter().any(is_in);
            };
            is_local_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    let is_in = |(network, bits): &(Ipv4Addr, u32)| {
        (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
    };
    address.octets().first().is_some_and(|first| *first >= 240) || LOCAL_V4.iter().any(is_in)
}

/// A unique name: a letter and digits, as Zeek's `C...` for connections and `F...` for files. The
/// same flow of the same input always has the same name.
#[must_use]
pub(super) fn unique(letter: char, words: [u64; 2]) -> String {
    let mut number =
        u128::from(mix(words[0] ^ 0x5bd1_e995)) << 64 | u128::from(mix(words[1] ^ words[0]));
    let mut out = String::with_capacity(DIGITS_MAX + 1);
    out.push(letter);
    for _ in 0..DIGITS_MAX {
        let digit = usize::try_from(number % 62).unwrap_or(0);
        out.push(char::from(*DIGITS.get(digit).unwrap_or(&b'0')));
        number /= 62;
    }
    out
}

/// Spreads the bits (the finalizer of SplitMix64).
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The name of a file in a transaction.
#[must_use]
pub(super) fn file_id(ident: &Ident, tx_id: u64, direction: Direction, index: usize) -> String {
    let connection = ident.uid.bytes().fold(0, |sum: u64, byte| mix(sum ^ u64::from(byte)));
    let place = (tx_id << 16) + ((direction.index() as u64) << 15) + index as u64;
    unique('F', [connection, place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_stay() {
        let one = unique('C', [1, 2]);
        assert_eq!(one, unique('C', [1, 2]));
        assert_eq!((one.len(), one.as_bytes()[0]), (18, b'C'));
        assert_ne!(one, unique('C', [2, 1]));
        assert_ne!(one, unique('C', [1, 3]));
    }

    #[test]
    fn local_networks() {
        let check = |address: &str, expect| {
            assert_eq!(is_local(address.parse().unwrap()), expect, "{address}");
        };
        check("10.0.0.1", true);
        check("172.32.0.1", false);
        check("100.64.0.1", true);
        check("fe80::1", true);
        check("ff02::fb", false);
        check("224.0.0.251", true);
        check("224.2.127.254", false);
        check("255.255.255.255", true);
        check("2001:4978:f:4c::2", false);
        check("2002:c0a8:1::1", true);
    }
}

//! Community ID, version 1: one name for a flow in the logs of every tool.
//!
//! SHA-1 over seed, addresses, protocol and ports, the smaller end first, in base64 behind `1:`.
//! For ICMP the type stands for the port and its counterpart for the other.

use std::net::IpAddr;

use base64ct::{Base64, Encoding as _};
use sha1::{Digest as _, Sha1};

/// Types of ICMP and ICMPv6 that ask, and the types that answer.
const ICMP: [(u16, u16); 10] =
    [(0, 8), (8, 0), (9, 10), (10, 9), (13, 14), (14, 13), (15, 16), (16, 15), (17, 18), (18, 17)];
const ICMP6: [(u16, u16); 10] = [
    (128, 129),
    (129, 128),
    (130, 131),
    (131, 130),
    (133, 134),
    (134, 133),
    (135, 136),
    (136, 135),
    (139, 140),
    (140, 139),
];

/// The name of a flow; `ports` are type and code where the protocol is ICMP.
#[must_use]
pub fn community_id(
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
    protocol: u8,
) -> String {
    let (ports, is_one_way) = settle(ports, protocol);
    let (mut first, mut second) = ((source, ports.0), (destination, ports.1));
    if !is_one_way && (octets(second.0), second.1) < (octets(first.0), first.1) {
        (first, second) = (second, first);
    }
    let mut digest = Sha1::new();
    digest.update([0, 0]);
    digest.update(octets(first.0));
    digest.update(octets(second.0));
    digest.update([protocol, 0]);
    if matches!(protocol, 1 | 6 | 17 | 58 | 132) {
        digest.update(first.1.to_be_bytes());
        digest.update(second.1.to_be_bytes());
    }
    format!("1:{}", Base64::encode_string(&digest.finalize()))
}

/// Ports, and whether they must stay in order: a kind of ICMP that nothing answers has one way.
fn settle(ports: (u16, u16), protocol: u8) -> ((u16, u16), bool) {
    let table: &[(u16, u16)] = match protocol {
        1 => &ICMP,
        58 => &ICMP6,
        _ => return (ports, false),
    };
    match table.iter().find(|(kind, _)| *kind == ports.0) {
        Some((kind, answer)) => ((*kind, *answer), false),
        None => (ports, true),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_as_other_tools() {
        let check = |source: &str, destination: &str, ports, protocol, expect: &str| {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(community_id(source, destination, ports, protocol), expect);
        };
        let (a, b) = ("141.142.220.118", "208.80.152.118");
        let tcp = "1:QagqZ1d75cwm/S9i9uBmRU4FLKw=";
        check(a, b, (48649, 80), 6, tcp);
        check(b, a, (80, 48649), 6, tcp);
        check("10.10.1.4", "10.10.1.1", (56166, 53), 17, "1:YTbTe7RlJn3vRzfb9CL6qkrcSZ8=");
        // The specification's example of an echo and its answer.
        let echo = "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=";
        check("192.168.0.89", "192.168.0.1", (8, 0), 1, echo);
        check("192.168.0.1", "192.168.0.89", (0, 8), 1, echo);
    }
}

//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

use crate::packet::Ip;

/// Sum of 16 bit words over all parts, each part but the last of even length; 0 if a checksum
/// within them is right.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    // In the machine's byte order, eight bytes at a time: the end-around carry makes both orders the same
    // sum with its bytes exchanged (RFC 1071, section 2).
    let mut total: u64 = 0;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            let word = u64::from_ne_bytes(*word);
            total += (word & 0xffff_ffff) + (word >> 32);
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        let last = u64::from_ne_bytes(last);
        total += (last & 0xffff_ffff) + (last >> 32);
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    // Folded to 16 bits above.
    !u16::from_be_bytes((total as u16).to_ne_bytes())
}

/// The same with the pseudo header of `ip` in front.
pub(crate) fn transport(ip: &Ip<'_>, bytes: &[u8]) -> u16 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let protocol = [0, 0, 0, ip.protocol];
    match (ip.source, ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sum(&[&source.octets(), &destination.octets(), &protocol, &length, bytes])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            sum(&[&source.octets(), &destination.octets(), &protocol, &length, bytes])
        }
        _ => u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn example_of_rfc_1071() {
        assert_eq!(super::sum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(super::sum(&[&[0xff, 0xff, 0x01], &[]]), !0x0100);
    }

    #[test]
    fn every_length_sums_up_as_by_hand() {
        let bytes: Vec<u8> = (0..100u8).map(|at| at.wrapping_mul(151)).collect();
        for length in 0..bytes.len() {
            let bytes = &bytes[..length];
            let mut total = 0u32;
            for pair in bytes.chunks(2) {
                let [high, low] = [pair[0], pair.get(1).copied().unwrap_or(0)];
                total += u32::from(u16::from_be_bytes([high, low]));
                total = (total & 0xffff) + (total >> 16);
            }
            assert_eq!(super::sum(&[bytes]), !u16::try_from(total).unwrap(), "{length}");
        }
    }
}

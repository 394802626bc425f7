//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

use crate::packet::Ip;

/// Sum of 16 bit words over all parts, each part but the last of even length; 0 if a checksum
/// within them is right.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let mut total: u64 = 0;
    for part in parts {
        let (words, rest) = part.as_chunks::<4>();
        for word in words {
            total += u64::from(u32::from_be_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        total += u64::from(u32::from_be_bytes(last));
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    // Folded to 16 bits above.
    !(total as u16)
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
}

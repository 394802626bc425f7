//! Bytes of peers as text in JSON.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Digits of base 16, in lower case.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// As it is where it is UTF-8; else what is printable ASCII, and `\xHH` for the rest.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        if byte.is_ascii_graphic() || *byte == b' ' {
            out.push(char::from(*byte));
        } else {
            // A `String` takes everything.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// `payload_printable`: line ends and printable ASCII, a dot for each other byte.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| match byte {
        b'\n' | b'\r' | b' '..=b'~' => char::from(*byte),
        _ => '.',
    };
    bytes.iter().map(shown).collect()
}

/// Lower-case hex with a separator between bytes.
#[must_use]
pub fn hex(bytes: &[u8], separator: &str) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// An IPv6 address with every digit, as EVE has it in the data of DNS records and in tuples.
#[must_use]
pub fn ipv6(address: Ipv6Addr) -> String {
    // Two or four in every event: `format!` takes several times as long, here and below.
    let mut out = String::with_capacity(39);
    for (index, group) in address.segments().into_iter().enumerate() {
        if index > 0 {
            out.push(':');
        }
        for shift in [12, 8, 4, 0] {
            let digit = HEX.get(usize::from(group >> shift & 15)).copied();
            out.push(char::from(digit.unwrap_or(b'0')));
        }
    }
    out
}

/// An IPv4 address.
#[must_use]
pub fn ipv4(address: Ipv4Addr) -> String {
    let mut out = String::with_capacity(15);
    for (index, byte) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        for (least, value) in [(100, byte / 100), (10, byte / 10 % 10), (0, byte % 10)] {
            if byte >= least {
                out.push(char::from(b'0' + value));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_fmt() {
        for word in (0..=u32::MAX).step_by(65_537).chain([0, u32::MAX, 0x0109_0a63, 0x6465_0001]) {
            let address = Ipv4Addr::from_bits(word);
            assert_eq!(ipv4(address), address.to_string());
        }
        let address = "2001:db8::a:1fff".parse().unwrap();
        assert_eq!(ipv6(address), "2001:0db8:0000:0000:0000:0000:000a:1fff");
    }

    #[test]
    fn what_is_no_text_is_shown_by_its_bytes() {
        assert_eq!(text("\u{fc}\n".as_bytes()), "\u{fc}\n");
        assert_eq!(text(b"a\xff\n"), "a\\xff\\x0a");
        assert_eq!(printable(b"GET /\r\n\t\xff"), "GET /\r\n..");
        assert_eq!(hex(&[0, 0xab], ":"), "00:ab");
        assert_eq!(
            ipv6("2607:fb28::4".parse().unwrap()),
            "2607:fb28:0000:0000:0000:0000:0000:0004"
        );
    }
}

//! Data connections that FTP announces (RFC 959, 2428): Zeek names their service `ftp-data`.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
};

/// Announcements that are remembered; the oldest makes room. 1024: far more transfers than begin
/// within the minutes that one is waited for.
const EXPECTED_MAX: usize = 1024;
/// Bytes of a packet that are looked at: commands and answers are short lines.
const LINES_BYTES_MAX: usize = 2048;

/// Ends that a data connection is expected at.
#[derive(Debug, Default)]
pub(super) struct Expected {
    ends: VecDeque<(IpAddr, u16)>,
}

impl Expected {
    /// Looks at what goes over a control connection.
    pub(super) fn control(&mut self, payload: &[u8], server: IpAddr) {
        let payload = payload.get(..LINES_BYTES_MAX).unwrap_or(payload);
        for line in payload.split(|byte| *byte == b'\n') {
            if let Some(end) = announced(line.trim_ascii(), server) {
                self.expect(end);
            }
        }
    }

    fn expect(&mut self, end: (IpAddr, u16)) {
        if self.ends.contains(&end) {
            return;
        }
        if self.ends.len() >= EXPECTED_MAX {
            self.ends.pop_front();
        }
        self.ends.push_back(end);
    }

    /// Whether a connection to this end was announced; it is expected no longer.
    pub(super) fn take(&mut self, end: (IpAddr, u16)) -> bool {
        let place = self.ends.iter().position(|expected| *expected == end);
        place.and_then(|place| self.ends.remove(place)).is_some()
    }
}

/// The end that a command or an answer announces.
fn announced(line: &[u8], server: IpAddr) -> Option<(IpAddr, u16)> {
    let (word, rest) = (line.get(..4)?, line.get(4..)?);
    if word.eq_ignore_ascii_case(b"PORT") {
        return six(rest);
    }
    if word.eq_ignore_ascii_case(b"EPRT") {
        return extended(rest.trim_ascii());
    }
    let code = line.get(..3)?;
    if code == b"227" {
        // Some servers leave the parentheses out.
        let from = line.iter().skip(4).position(u8::is_ascii_digit)? + 4;
        return six(line.get(from..)?);
    }
    if code == b"229" {
        let from = line.iter().position(|byte| *byte == b'(')?;
        let port = number(line.get(from + 1..)?.strip_prefix(b"|||")?)?;
        return Some((server, u16::try_from(port).ok()?));
    }
    None
}

/// `h1,h2,h3,h4,p1,p2`.
fn six(text: &[u8]) -> Option<(IpAddr, u16)> {
    let mut bytes = [0u8; 6];
    let mut parts = text.trim_ascii_start().split(|byte| *byte == b',');
    for byte in &mut bytes {
        *byte = u8::try_from(number(parts.next()?)?).ok()?;
    }
    let [a, b, c, d, high, low] = bytes;
    Some((IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low])))
}

/// `|1|132.235.1.2|6275|`, `|2|2001:db8::1|5282|`.
fn extended(text: &[u8]) -> Option<(IpAddr, u16)> {
    let mut parts = text.split(|byte| Some(byte) == text.first()).skip(2);
    let address = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    Some((address, u16::try_from(number(parts.next()?)?).ok()?))
}

/// The number that a text begins with.
fn number(text: &[u8]) -> Option<u32> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(text.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_ways() {
        let server: IpAddr = "2001:db8::9".parse().unwrap();
        let check = |line: &str, expect: Option<(&str, u16)>| {
            let expect = expect.map(|(address, port)| (address.parse().unwrap(), port));
            assert_eq!(announced(line.as_bytes(), server), expect, "{line}");
        };
        check("PORT 10,0,0,1,4,1", Some(("10.0.0.1", 1025)));
        check("EPRT |2|2001:db8::1|5282|", Some(("2001:db8::1", 5282)));
        check("227 Entering Passive Mode (10,0,0,2,200,3).", Some(("10.0.0.2", 51203)));
        check("227 =10,0,0,2,200,3", Some(("10.0.0.2", 51203)));
        check("229 Entering Extended Passive Mode (|||57086|)", Some(("2001:db8::9", 57086)));
        check("PORT 10,0,0,1,4", None);
        check("PORT 10,0,0,256,4,1", None);
        check("229 (|||99999|)", None);
        check("USER x", None);
        check("", None);
    }

    #[test]
    fn one_announcement_is_one_connection() {
        let mut expected = Expected::default();
        let server = "10.0.0.2".parse().unwrap();
        expected.control(b"227 ok (10,0,0,2,1,0)\r\n", server);
        assert!(expected.take((server, 256)));
        assert!(!expected.take((server, 256)));
        for port in 0..u16::MAX {
            expected.expect((server, port));
        }
        assert_eq!(expected.ends.len(), EXPECTED_MAX);
    }
}

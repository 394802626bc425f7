//! ICMP (RFC 792) and ICMPv6 (RFC 4443 and those that added types).

use super::{Decoder, be16, ip4::embedded4, ip6::embedded6};
use crate::{
    event::Event,
    packet::{Icmp, Transport},
};

impl<'a> Decoder<'a, '_> {
    pub(super) fn icmp4(&mut self, bytes: &'a [u8]) {
        let (Some(header), Some(body)) = (bytes.get(..8), bytes.get(8..)) else {
            return self.reject(Event::Icmpv4PktTooSmall);
        };
        let (kind, code) = kind_and_code(header);
        // The greatest code each type has; 0 for most.
        let code_max = match kind {
            3 => 15,
            5 => 3,
            11 => 1,
            9 => u8::MAX,
            0 | 4 | 8 | 12..=18 => 0,
            _ => {
                self.note(Event::Icmpv4UnknownType);
                u8::MAX
            }
        };
        if code > code_max {
            self.note(Event::Icmpv4UnknownCode);
        }
        let mut about = None;
        let mut payload = body;
        match kind {
            3 | 4 | 5 | 11 | 12 if code <= code_max && !body.is_empty() => {
                if body.len() < 20 {
                    self.reject(Event::Icmpv4Ipv4TruncPkt);
                } else if body.first().is_some_and(|first| first >> 4 != 4) {
                    self.reject(Event::Icmpv4Ipv4UnknownVer);
                } else {
                    about = embedded4(body);
                }
            }
            // Three time stamps belong to the header.
            13 | 14 => match body.get(12..) {
                Some(rest) => payload = rest,
                None => self.note(Event::Icmpv4Ipv4TruncPkt),
            },
            9 => {
                let size = |at: usize| usize::from(header.get(at).copied().unwrap_or(0));
                match body.get(size(4) * size(5) * 4..) {
                    Some(rest) => payload = rest,
                    None => self.note(Event::Icmpv4Ipv4TruncPkt),
                }
            }
            _ => {}
        }
        self.packet.transport = Transport::Icmp(icmp(header, about));
        self.packet.payload = payload;
    }

    pub(super) fn icmp6(&mut self, bytes: &'a [u8]) {
        let (Some(header), Some(body)) = (bytes.get(..8), bytes.get(8..)) else {
            return self.reject(Event::Icmpv6PktTooSmall);
        };
        let (kind, code) = kind_and_code(header);
        let code_max = match kind {
            1 => 6,
            3 => 1,
            4 => 3,
            2 | 128..=137 | 141..=149 | 154 | 156..=159 => 0,
            138 if code == u8::MAX => u8::MAX,
            138..=140 => 2,
            _ => u8::MAX,
        };
        if code > code_max || (kind == 155 && matches!(code, 4..128 | 133..)) {
            self.note(Event::Icmpv6UnknownCode);
        }
        let hops = self.packet.ip.map_or(0, |ip| ip.ttl);
        if matches!(kind, 130..=132) && hops != 1 {
            self.note(Event::Icmpv6MldMessageWithInvalidHl);
        }
        match kind {
            100 | 101 | 200 | 201 => self.note(Event::Icmpv6ExperimentationType),
            5..=126 | 160..=255 => self.note(Event::Icmpv6UnassignedType),
            0 | 127 => self.note(Event::Icmpv6UnknownType),
            _ => {}
        }
        let is_error = matches!(kind, 1..=4) && code <= code_max;
        let mut about = None;
        if is_error {
            if body.len() < 40 {
                self.note(Event::Icmpv6Ipv6TruncPkt);
            } else if body.first().is_some_and(|first| first >> 4 != 6) {
                self.reject(Event::Icmpv6Ipv6UnknownVersion);
            } else {
                about = embedded6(body);
            }
        }
        let has_full_header = is_error || (matches!(kind, 128 | 129) && code == 0);
        self.packet.transport = Transport::Icmp6(icmp(header, about));
        self.packet.payload =
            if has_full_header { body } else { bytes.get(4..).unwrap_or_default() };
    }
}

fn kind_and_code(header: &[u8]) -> (u8, u8) {
    match header {
        [kind, code, ..] => (*kind, *code),
        _ => (0, 0),
    }
}

fn icmp(header: &[u8], about: Option<crate::packet::Embedded>) -> Icmp<'_> {
    let (kind, code) = kind_and_code(header);
    let field = |at| be16(header, at).unwrap_or(0);
    Icmp { kind, code, id: field(4), seq: field(6), header, about }
}

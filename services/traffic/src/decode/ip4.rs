//! IPv4 (RFC 791) with its options.

use std::net::{IpAddr, Ipv4Addr};

use super::{Decoder, be16, be32};
use crate::{
    event::Event,
    packet::{Ip, Link, Transport, Tunnel},
};

/// Protocol numbers of IP.
pub(super) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const IP4: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IP6: u8 = 41;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const ICMP6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
}

/// Option kinds.
mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const RECORD_ROUTE: u8 = 7;
    pub(super) const QUICK_START: u8 = 25;
    pub(super) const TIMESTAMP: u8 = 68;
    pub(super) const SECURITY: u8 = 130;
    pub(super) const LOOSE_ROUTE: u8 = 131;
    pub(super) const EXTENDED_SECURITY: u8 = 133;
    pub(super) const CIPSO: u8 = 134;
    pub(super) const STREAM_ID: u8 = 136;
    pub(super) const STRICT_ROUTE: u8 = 137;
    pub(super) const ROUTER_ALERT: u8 = 148;
}

impl<'a> Decoder<'a, '_> {
    pub(super) fn ip4(&mut self, bytes: &'a [u8]) {
        let Some(fixed) = bytes.first_chunk::<20>() else {
            return self.reject(Event::Ipv4PktTooSmall);
        };
        let [first, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, source @ .., d0, d1, d2, d3] =
            *fixed;
        if first >> 4 != 4 {
            return self.reject(Event::Ipv4WrongIpVersion);
        }
        let (header_bytes, total) = (usize::from(first & 15) * 4, u16::from_be_bytes([l0, l1]));
        if header_bytes < 20 {
            return self.reject(Event::Ipv4HlenTooSmall);
        }
        if usize::from(total) < header_bytes {
            return self.reject(Event::Ipv4IplenSmallerThanHlen);
        }
        let Some((header, payload)) =
            bytes.get(..usize::from(total)).and_then(|whole| whole.split_at_checked(header_bytes))
        else {
            return self.reject(Event::Ipv4TruncPkt);
        };
        let options = header.get(20..).unwrap_or_default();
        if !options.is_empty() && !self.ip4_options(options) {
            return;
        }
        let fragment = u16::from_be_bytes([f0, f1]);
        let ip = Ip {
            source: IpAddr::V4(Ipv4Addr::from(source)),
            destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
            ttl,
            tos,
            id: u32::from(u16::from_be_bytes([i0, i1])),
            flags: f0 >> 5,
            fragment_offset: (fragment & 0x1fff) << 3,
            flow_label: 0,
            protocol,
            total_bytes: u32::from(total),
            header,
            options,
            extensions: 0,
            payload,
        };
        self.packet.ip = Some(ip);
        self.packet.transport = Transport::Other(protocol);
        self.packet.payload = payload;
        if !ip.is_fragment() {
            self.above_ip4(protocol, payload);
        }
    }

    fn above_ip4(&mut self, protocol: u8, payload: &'a [u8]) {
        match protocol {
            protocol::TCP => self.tcp(payload),
            protocol::UDP => self.udp(payload),
            protocol::ICMP => self.icmp4(payload),
            protocol::SCTP => self.sctp(payload),
            protocol::GRE => self.gre(payload),
            protocol::IP4 | protocol::IP6 => self.tunnel(Tunnel::Ip4, Link::Raw, payload),
            protocol::ICMP6 => self.reject(Event::Ipv4Icmpv6),
            protocol::IGMP => self.igmp(payload),
            protocol::ESP => self.esp(payload),
            0 => {}
            _ => self.note(Event::Ipv4UnknownProtocol),
        }
    }

    /// False if the packet can't be trusted any more.
    fn ip4_options(&mut self, mut options: &[u8]) -> bool {
        if !options.len().is_multiple_of(8) {
            self.note(Event::Ipv4OptPadRequired);
        }
        // Kinds seen, for duplicates: by their position.
        let mut seen = 0u16;
        while let [kind, rest @ ..] = options {
            match *kind {
                option::END => break,
                option::NOP => {
                    options = rest;
                    continue;
                }
                _ => {}
            }
            let Some(length) = rest.first() else {
                self.note(Event::Ipv4OptEolRequired);
                break;
            };
            let length = usize::from(*length);
            let Some((whole, behind)) = options.split_at_checked(length).filter(|_| length >= 2)
            else {
                self.reject(Event::Ipv4OptInvalidLen);
                return false;
            };
            match KINDS.iter().position(|known| known == kind) {
                None => self.note(Event::Ipv4OptInvalid),
                Some(at) if seen >> at & 1 == 1 => self.note(Event::Ipv4OptDuplicate),
                Some(at) => match option_fault(*kind, whole) {
                    None => seen |= 1 << at,
                    Some(event) => self.reject(event),
                },
            }
            options = behind;
        }
        true
    }
}

/// Whether an option is as its kind wants it; those of unknown kinds are.
#[must_use]
pub fn is_ip4_option_right(whole: &[u8]) -> bool {
    let Some(kind) = whole.first() else { return false };
    !KINDS.contains(kind) || option_fault(*kind, whole).is_none()
}

/// Kinds of which duplicates are noted.
const KINDS: [u8; 10] = [
    option::TIMESTAMP,
    option::RECORD_ROUTE,
    option::QUICK_START,
    option::SECURITY,
    option::LOOSE_ROUTE,
    option::EXTENDED_SECURITY,
    option::CIPSO,
    option::STREAM_ID,
    option::STRICT_ROUTE,
    option::ROUTER_ALERT,
];

/// What is wrong with an option of a known kind.
fn option_fault(kind: u8, whole: &[u8]) -> Option<Event> {
    let length = whole.len();
    let pointer = usize::from(whole.get(2).copied().unwrap_or(0));
    let (too_short, malformed) = match kind {
        option::QUICK_START => (length < 8, false),
        option::SECURITY | option::EXTENDED_SECURITY => (length < 3, false),
        option::STREAM_ID | option::ROUTER_ALERT => (length != 4, false),
        option::TIMESTAMP => {
            let flag = whole.get(3).copied().unwrap_or(0) & 15;
            let record = if matches!(flag, 1 | 3) { 8 } else { 4 };
            let fits = pointer >= 5 && (pointer - 5) % record == 0 && pointer <= length + 1;
            (length < 5, !fits)
        }
        option::CIPSO => (length < 10, !cipso_tags(whole.get(6..).unwrap_or_default())),
        _ => (length < 3, pointer < 4 || pointer % 4 != 0 || pointer > length + 1),
    };
    if too_short {
        Some(Event::Ipv4OptInvalidLen)
    } else {
        malformed.then_some(Event::Ipv4OptMalformed)
    }
}

/// Whether the tags of a CIPSO option (FIPS 188) fit into it.
fn cipso_tags(mut tags: &[u8]) -> bool {
    while !tags.is_empty() {
        let [kind, length, rest @ ..] = tags else { return false };
        if usize::from(*length) > tags.len() {
            return false;
        }
        let is_fine = match kind {
            1 | 2 | 5 | 6 => *length >= 4 && rest.first() == Some(&0),
            7 => *length >= 4,
            _ => *length >= 2,
        };
        if !is_fine {
            return false;
        }
        tags = tags.get(usize::from(*length)..).unwrap_or_default();
    }
    true
}

/// The addresses, protocol and ports of the packet that an ICMP error quotes.
pub(super) fn embedded4(bytes: &[u8]) -> Option<crate::packet::Embedded> {
    let header = usize::from(bytes.first()? & 15) * 4;
    let protocol = *bytes.get(9)?;
    let address = |at| be32(bytes, at).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let with_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    let ports = be16(bytes, header).zip(be16(bytes, header + 2)).filter(|_| with_ports);
    Some(crate::packet::Embedded {
        source: address(12)?,
        destination: address(16)?,
        protocol,
        ports,
    })
}

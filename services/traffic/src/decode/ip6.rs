//! IPv6 (RFC 8200) with its extension headers.

use std::net::{IpAddr, Ipv6Addr};

use super::{Decoder, be16, be32, ip4::protocol};
use crate::{
    event::Event,
    packet::{Ip, Link, Transport, Tunnel, extension},
};

/// Extension headers.
mod next {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const NONE: u8 = 59;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// What the walk over extension headers keeps.
struct Walk<'a> {
    next: u8,
    rest: &'a [u8],
    seen: u8,
    destinations: u8,
    fragment: Option<Fragment>,
}

/// The fragment header.
#[derive(Clone, Copy)]
struct Fragment {
    offset: u16,
    has_more: bool,
    id: u32,
}

/// How a step of the walk ended.
enum Step {
    Again,
    Upper,
    Stop,
}

impl<'a> Decoder<'a, '_> {
    pub(super) fn ip6(&mut self, bytes: &'a [u8]) {
        let Some(fixed) = bytes.first_chunk::<40>() else {
            return self.reject(Event::Ipv6PktTooSmall);
        };
        let word = be32(fixed, 0).unwrap_or(0);
        if word >> 28 != 6 {
            return self.reject(Event::Ipv6WrongIpVersion);
        }
        let stated = be16(fixed, 4).unwrap_or(0);
        let total = 40 + usize::from(stated);
        let Some(whole) = bytes.get(..total) else {
            return self.reject(Event::Ipv6TruncPkt);
        };
        let address = |at: usize| {
            let bytes = fixed.get(at..).and_then(<[u8]>::first_chunk::<16>);
            IpAddr::V6(Ipv6Addr::from(bytes.copied().unwrap_or_default()))
        };
        let first = fixed.get(6).copied().unwrap_or(0);
        let rest = whole.get(40..).unwrap_or_default();
        let mut walk = Walk { next: first, rest, seen: 0, destinations: 0, fragment: None };
        let is_upper = self.extensions(&mut walk);
        let header_bytes = total - walk.rest.len();
        let (header, payload) = whole.split_at_checked(header_bytes).unwrap_or((whole, &[]));
        let fragment = walk.fragment;
        let ip = Ip {
            source: address(8),
            destination: address(24),
            ttl: fixed.get(7).copied().unwrap_or(0),
            // Eight bits of the 32, by the mask.
            tos: (word >> 20 & 0xff) as u8,
            id: fragment.map_or(0, |fragment| fragment.id),
            flags: u8::from(fragment.is_some_and(|fragment| fragment.has_more)),
            fragment_offset: fragment.map_or(0, |fragment| fragment.offset),
            flow_label: word & 0x000f_ffff,
            protocol: walk.next,
            total_bytes: u32::from(stated) + 40,
            header,
            options: header.get(40..).unwrap_or_default(),
            extensions: walk.seen,
            payload,
        };
        self.packet.ip = Some(ip);
        self.packet.transport = Transport::Other(walk.next);
        self.packet.payload = payload;
        if is_upper && !ip.is_fragment() {
            self.above_ip6(walk.next, payload);
        }
    }

    fn above_ip6(&mut self, protocol: u8, payload: &'a [u8]) {
        match protocol {
            protocol::TCP => self.tcp(payload),
            protocol::UDP => self.udp(payload),
            protocol::ICMP6 => self.icmp6(payload),
            protocol::SCTP => self.sctp(payload),
            protocol::GRE => self.gre(payload),
            protocol::ESP => self.esp(payload),
            protocol::IP4 => match payload.first().map(|first| first >> 4) {
                _ if payload.len() < 20 => self.reject(Event::Ipv6Ipv4InIpv6TooSmall),
                Some(4) => self.tunnel(Tunnel::Ip6, Link::Raw, payload),
                _ => self.reject(Event::Ipv6Ipv4InIpv6WrongVersion),
            },
            protocol::IP6 => match payload.first().map(|first| first >> 4) {
                _ if payload.len() < 40 => self.reject(Event::Ipv6Ipv6InIpv6TooSmall),
                Some(6) => self.tunnel(Tunnel::Ip6, Link::Raw, payload),
                _ => self.reject(Event::Ipv6Ipv6InIpv6WrongVersion),
            },
            protocol::ICMP => self.note(Event::Ipv6Icmpv4),
            _ => self.note(Event::Ipv6UnknownNextHeader),
        }
    }

    /// Whether what is left is the upper layer.
    fn extensions(&mut self, walk: &mut Walk<'a>) -> bool {
        // Each step but the last takes at least eight bytes of at most 65,535.
        loop {
            match self.extension(walk) {
                Step::Again => {}
                Step::Upper => return true,
                Step::Stop => return false,
            }
        }
    }

    fn extension(&mut self, walk: &mut Walk<'a>) -> Step {
        let is_extension = matches!(
            walk.next,
            next::HOP_BY_HOP
                | next::ROUTING
                | next::FRAGMENT
                | next::AUTHENTICATION
                | next::DESTINATION
                | next::MOBILITY
                | next::HIP
                | next::SHIM6
        );
        if walk.next == next::NONE {
            if !walk.rest.is_empty() {
                self.note(Event::Ipv6DataAfterNoneHeader);
            }
            return Step::Stop;
        }
        if !is_extension {
            return Step::Upper;
        }
        let (Some(following), Some(length)) = (walk.rest.first(), walk.rest.get(1)) else {
            self.reject(Event::Ipv6TruncExthdr);
            return Step::Stop;
        };
        let length = usize::from(*length);
        let bytes = match walk.next {
            next::FRAGMENT => 8,
            next::AUTHENTICATION => 12 + length.saturating_sub(1) * 4,
            _ => 8 + length * 8,
        };
        let Some((header, rest)) = walk.rest.split_at_checked(bytes) else {
            self.reject(Event::Ipv6TruncExthdr);
            return Step::Stop;
        };
        let kind = walk.next;
        walk.next = *following;
        walk.rest = rest;
        match kind {
            next::ROUTING => self.routing(header, walk),
            next::HOP_BY_HOP => {
                if walk.seen & extension::HOP_BY_HOP != 0 {
                    self.note(Event::Ipv6ExthdrDuplHh);
                } else {
                    walk.seen |= extension::HOP_BY_HOP;
                    self.ip6_options(header, true);
                }
            }
            next::DESTINATION => {
                if walk.destinations == 2 {
                    self.note(Event::Ipv6ExthdrDuplDh);
                } else {
                    walk.destinations += 1;
                    walk.seen |= extension::DESTINATION;
                    self.ip6_options(header, false);
                }
            }
            next::AUTHENTICATION => {
                if be16(header, 2) != Some(0) {
                    self.note(Event::Ipv6ExthdrAhResNotNull);
                }
                if walk.seen & extension::AUTHENTICATION != 0 {
                    self.note(Event::Ipv6ExthdrDuplAh);
                }
                walk.seen |= extension::AUTHENTICATION;
            }
            next::FRAGMENT => return self.fragment_header(header, walk),
            _ => {}
        }
        Step::Again
    }

    fn routing(&mut self, header: &[u8], walk: &mut Walk<'_>) {
        if walk.seen & extension::ROUTING != 0 {
            return self.note(Event::Ipv6ExthdrDuplRh);
        }
        walk.seen |= extension::ROUTING;
        if header.get(2) == Some(&0) {
            self.note(Event::Ipv6RhType0);
        }
    }

    fn fragment_header(&mut self, header: &[u8], walk: &mut Walk<'_>) -> Step {
        if header.get(1) != Some(&0) {
            self.note(Event::Ipv6FhNonZeroReservedField);
        }
        if walk.seen & extension::FRAGMENT != 0 {
            self.note(Event::Ipv6ExthdrDuplFh);
            return Step::Again;
        }
        walk.seen |= extension::FRAGMENT;
        let field = be16(header, 2).unwrap_or(0);
        let fragment = Fragment {
            offset: field & 0xfff8,
            has_more: field & 1 == 1,
            id: be32(header, 4).unwrap_or(0),
        };
        walk.fragment = Some(fragment);
        if !fragment.has_more && fragment.offset == 0 {
            self.note(Event::Ipv6ExthdrUselessFh);
            return Step::Again;
        }
        if fragment.has_more && !walk.rest.len().is_multiple_of(8) {
            self.note(Event::Ipv6FragInvalidLength);
        }
        Step::Stop
    }

    fn ip6_options(&mut self, header: &[u8], is_hop_by_hop: bool) {
        let (unknown, only_padding) = if is_hop_by_hop {
            (Event::Ipv6HopoptsUnknownOpt, Event::Ipv6HopoptsOnlyPadding)
        } else {
            (Event::Ipv6DstoptsUnknownOpt, Event::Ipv6DstoptsOnlyPadding)
        };
        let mut options = header.get(2..).unwrap_or_default();
        let (mut padding, mut others) = (0, 0);
        while let [kind, rest @ ..] = options {
            if *kind == 0 {
                padding += 1;
                options = rest;
                continue;
            }
            let Some((length, rest)) = rest.split_first() else {
                self.reject(Event::Ipv6ExthdrInvalidOptlen);
                break;
            };
            let Some(behind) = rest.get(usize::from(*length)..) else {
                self.reject(Event::Ipv6ExthdrInvalidOptlen);
                break;
            };
            // Router alert, jumbo payload, home address: with the least length of each.
            let least = match *kind {
                0x05 => 2,
                0xc2 => 4,
                0xc9 => 16,
                _ => 0,
            };
            if *length < least {
                self.reject(Event::Ipv6ExthdrInvalidOptlen);
                break;
            }
            match *kind {
                1 => {
                    padding += 1;
                    if *length == 0 {
                        self.note(Event::Ipv6ZeroLenPadn);
                    }
                }
                0x05 | 0xc9 => others += 1,
                0xc2 => {}
                _ => {
                    self.note(unknown);
                    others += 1;
                }
            }
            options = behind;
        }
        if padding > 0 && others == 0 {
            self.note(only_padding);
        }
    }
}

/// As `embedded4`; extension headers of the quoted packet are not followed.
pub(super) fn embedded6(bytes: &[u8]) -> Option<crate::packet::Embedded> {
    let protocol = *bytes.get(6)?;
    let address = |at: usize| {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>)?;
        Some(IpAddr::V6(Ipv6Addr::from(*bytes)))
    };
    let with_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    let ports = be16(bytes, 40).zip(be16(bytes, 42)).filter(|_| with_ports);
    Some(crate::packet::Embedded {
        source: address(8)?,
        destination: address(24)?,
        protocol,
        ports,
    })
}

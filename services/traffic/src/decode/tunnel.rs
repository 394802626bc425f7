//! GRE (RFC 2784, 1701, 2637), VXLAN (RFC 7348), Geneve (RFC 8926), Teredo (RFC 4380), ERSPAN.

use super::{Decoder, be16, link::ether_type};
use crate::{
    event::Event,
    packet::{Link, Tunnel},
};

/// Source route entries of GRE that are followed.
const ROUTES_MAX: usize = 32;

/// Bits of the first two bytes of GRE.
mod gre {
    pub(super) const CHECKSUM: u16 = 0x8000;
    pub(super) const ROUTE: u16 = 0x4000;
    pub(super) const KEY: u16 = 0x2000;
    pub(super) const SEQUENCE: u16 = 0x1000;
    pub(super) const STRICT: u16 = 0x0800;
    pub(super) const RECURSION: u16 = 0x0700;
    pub(super) const ACK: u16 = 0x0080;
    pub(super) const FLAGS: u16 = 0x0078;
    pub(super) const FLAGS_0: u16 = 0x00f8;
    pub(super) const VERSION: u16 = 0x0007;
}

impl<'a> Decoder<'a, '_> {
    pub(super) fn gre(&mut self, bytes: &'a [u8]) {
        let (Some(bits), Some(kind)) = (be16(bytes, 0), be16(bytes, 2)) else {
            return self.reject(Event::GrePktTooSmall);
        };
        let rest = match bits & gre::VERSION {
            0 => self.gre_0(bits, bytes),
            1 => self.gre_1(bits, kind, bytes),
            _ => {
                self.reject(Event::GreWrongVersion);
                None
            }
        };
        let Some(rest) = rest else { return };
        match kind {
            ether_type::IP4 | ether_type::IP6 => self.tunnel(Tunnel::Gre, Link::Raw, rest),
            ether_type::BRIDGE => self.tunnel(Tunnel::Gre, Link::Ethernet, rest),
            ether_type::PPP if !rest.is_empty() => self.tunnel(Tunnel::Gre, Link::Ppp, rest),
            ether_type::ERSPAN => self.erspan(bits & gre::SEQUENCE != 0, rest),
            _ => {}
        }
    }

    fn gre_0(&mut self, bits: u16, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if bits & gre::RECURSION != 0 {
            self.reject(Event::GreVersion0Recur);
            return None;
        }
        if bits & gre::FLAGS_0 != 0 {
            self.reject(Event::GreVersion0Flags);
            return None;
        }
        let field = |mask: u16| if bits & mask != 0 { 4 } else { 0 };
        let length = 4 + field(gre::KEY) + field(gre::SEQUENCE) + field(gre::CHECKSUM | gre::ROUTE);
        let Some(mut rest) = bytes.get(length..) else {
            self.reject(Event::GreVersion0HdrTooBig);
            return None;
        };
        if bits & gre::ROUTE == 0 {
            return Some(rest);
        }
        for _ in 0..ROUTES_MAX {
            let [f0, f1, _, length, behind @ ..] = rest else { break };
            if [*f0, *f1, *length] == [0, 0, 0] {
                return Some(behind);
            }
            let Some(behind) = behind.get(usize::from(*length)..) else { break };
            rest = behind;
        }
        self.reject(Event::GreVersion0MalformedSreHdr);
        None
    }

    fn gre_1(&mut self, bits: u16, kind: u16, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let fault = match bits {
            _ if bits & gre::CHECKSUM != 0 => Some(Event::GreVersion1Chksum),
            _ if bits & gre::ROUTE != 0 => Some(Event::GreVersion1Route),
            _ if bits & gre::STRICT != 0 => Some(Event::GreVersion1Ssr),
            _ if bits & gre::RECURSION != 0 => Some(Event::GreVersion1Recur),
            _ if bits & gre::FLAGS != 0 => Some(Event::GreVersion1Flags),
            _ if kind != ether_type::PPP => Some(Event::GreVersion1WrongProtocol),
            _ if bits & gre::KEY == 0 => Some(Event::GreVersion1NoKey),
            _ => None,
        };
        if let Some(event) = fault {
            self.reject(event);
            return None;
        }
        let field = |mask: u16| if bits & mask != 0 { 4 } else { 0 };
        let Some(rest) = bytes.get(8 + field(gre::SEQUENCE) + field(gre::ACK)..) else {
            self.reject(Event::GreVersion1HdrTooBig);
            return None;
        };
        // An acknowledgement without a payload.
        if be16(bytes, 4) == Some(0) { None } else { Some(rest) }
    }

    /// Type I has no header of its own, type II has eight bytes.
    fn erspan(&mut self, is_type_2: bool, bytes: &'a [u8]) {
        if !is_type_2 {
            return self.tunnel(Tunnel::Erspan, Link::Ethernet, bytes);
        }
        let (Some(version), Some(_)) = (be16(bytes, 0), bytes.get(..8)) else {
            return self.reject(Event::ErspanHeaderTooSmall);
        };
        if version >> 12 == 1 {
            // The header is read with the frame behind it: its VLAN is one of that.
            self.tunnel(Tunnel::Erspan, Link::Erspan2, bytes);
        }
        // Another version is no tunnel; Suricata notes that with a packet that nobody sees.
    }

    pub(super) fn udp_tunnel(&mut self, source: u16, destination: u16, payload: &'a [u8]) {
        let is_one = |ports: &[u16]| ports.contains(&source) || ports.contains(&destination);
        let teredo = &self.config.teredo_ports;
        if self.config.is_teredo_on && (teredo.is_empty() || is_one(teredo)) {
            self.teredo(payload);
        }
        if self.inner.is_none() && is_one(&self.config.geneve_ports) {
            self.geneve(payload);
        }
        if self.inner.is_none() && self.config.vxlan_ports.contains(&destination) {
            self.vxlan(payload);
        }
        if self.inner.is_none() && is_one(&self.config.gtp_ports) {
            self.gtp(payload);
        }
        if self.inner.is_none() && destination == self.config.gre_port && destination != 0 {
            self.gre(payload);
        }
        let ayiya = self.config.ayiya_port;
        if self.inner.is_none() && ayiya != 0 && [source, destination].contains(&ayiya) {
            self.ayiya(payload);
        }
    }

    /// Version 1 (3GPP TS 29.281), user data only.
    fn gtp(&mut self, bytes: &'a [u8]) {
        let (Some([first, 0xff]), Some(stated)) =
            (bytes.first_chunk::<2>().copied(), be16(bytes, 2))
        else {
            return;
        };
        if first & 0xf0 != 0x30 || bytes.len() != 8 + usize::from(stated) {
            return;
        }
        let mut rest = bytes.get(8..).unwrap_or_default();
        if first & 0x07 != 0 {
            // Sequence number, N-PDU number, type of the first extension.
            let Some((&[_, _, _, mut next], behind)) = rest.split_first_chunk::<4>() else {
                return;
            };
            rest = behind;
            while next != 0 {
                let Some(length) = rest.first().map(|words| usize::from(*words) * 4) else {
                    return;
                };
                let Some((header, behind)) = rest.split_at_checked(length) else { return };
                let Some(following) = header.last() else { return };
                (next, rest) = (*following, behind);
            }
        }
        if rest.first().is_some_and(|first| matches!(first >> 4, 4 | 6)) {
            self.tunnel(Tunnel::Gtp, Link::Raw, rest);
        }
    }

    /// Only packets that carry others (draft-massar-v6ops-ayiya-02).
    fn ayiya(&mut self, bytes: &'a [u8]) {
        let Some([identity, signature, operation, next]) = bytes.first_chunk::<4>() else { return };
        let length = 8 + (1usize << (identity >> 4)) + usize::from(signature >> 4) * 4;
        let Some(rest) = bytes.get(length..) else { return };
        if operation & 15 == 1 && matches!(next, 4 | 41) {
            self.tunnel(Tunnel::Ayiya, Link::Raw, rest);
        }
    }

    fn vxlan(&mut self, bytes: &'a [u8]) {
        let (Some(header), Some(frame)) = (bytes.get(..8), bytes.get(8..)) else { return };
        // One bit says that the identifier is valid; all else is reserved.
        let is_vxlan = if self.config.is_vxlan_strict {
            // Of the reserved bits Suricata asks the last byte alone.
            matches!(header, [flags, .., 0] if flags & 0x08 != 0)
        } else {
            header.first().is_some_and(|flags| flags & 0x08 != 0)
        };
        let Some(kind) = be16(frame, 12).filter(|_| is_vxlan) else { return };
        match kind {
            // The Ethernet header inside is not counted.
            ether_type::IP4 | ether_type::IP6 => {
                let packet = frame.get(14..).unwrap_or_default();
                self.tunnel(Tunnel::Vxlan, Link::Raw, packet);
            }
            ether_type::ARP | ether_type::VLAN | ether_type::QINQ | ether_type::OLD_QINQ => {
                self.tunnel(Tunnel::Vxlan, Link::Ethernet, frame)
            }
            _ => self.reject(Event::VxlanUnknownPayloadType),
        }
    }

    fn geneve(&mut self, bytes: &'a [u8]) {
        let Some([first, second, t0, t1, _, _, _, reserved]) = bytes.first_chunk::<8>() else {
            return;
        };
        let options = usize::from(first & 0x3f) * 4;
        if first >> 6 != 0 || second & 0x3f != 0 || *reserved != 0 {
            return;
        }
        let (Some(mut left), Some(rest)) = (bytes.get(8..8 + options), bytes.get(8 + options..))
        else {
            return;
        };
        while let [_, _, _, length, behind @ ..] = left {
            let Some(behind) = behind.get(usize::from(length & 0x1f) * 4..) else { return };
            left = behind;
        }
        let link = match u16::from_be_bytes([*t0, *t1]) {
            ether_type::IP4 | ether_type::IP6 => Link::Raw,
            ether_type::BRIDGE => Link::Ethernet,
            _ => return self.reject(Event::GeneveUnknownPayloadType),
        };
        self.tunnel(Tunnel::Geneve, link, rest);
    }

    fn teredo(&mut self, bytes: &'a [u8]) {
        // An origin indication may come first.
        let bytes = match bytes {
            [0, 0, ..] => bytes.get(8..).unwrap_or_default(),
            _ => bytes,
        };
        let Some(header) = bytes.first_chunk::<40>() else { return };
        let [first, _, _, _, l0, l1, next, hops, ..] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let is_plausible = first >> 4 == 6
            && hops != 0
            && bytes.len() == 40 + length
            && (next != 0 || length >= 8);
        if is_plausible {
            self.tunnel(Tunnel::Teredo, Link::Raw, bytes);
        }
    }
}

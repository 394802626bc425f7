//! What is below IP: Ethernet, VLAN tags, MPLS, PPPoE, PPP, cooked captures; and ARP.

use std::net::Ipv4Addr;

use super::{Decoder, be16, be32};
use crate::{
    event::Event,
    packet::{Arp, Ether, Link, Mac},
};

/// Ethernet types.
pub(super) mod ether_type {
    pub(crate) const IP4: u16 = 0x0800;
    pub(crate) const IP6: u16 = 0x86dd;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const VLAN: u16 = 0x8100;
    pub(crate) const QINQ: u16 = 0x88a8;
    pub(crate) const OLD_QINQ: u16 = 0x9100;
    pub(crate) const MPLS: u16 = 0x8847;
    pub(crate) const PPPOE_DISCOVERY: u16 = 0x8863;
    pub(crate) const PPPOE_SESSION: u16 = 0x8864;
    pub(crate) const BACKBONE: u16 = 0x88e7;
    pub(crate) const BRIDGE: u16 = 0x6558;
    pub(crate) const ERSPAN: u16 = 0x88be;
    pub(crate) const PPP: u16 = 0x880b;
    pub(crate) const VNTAG: u16 = 0x8926;
    pub(crate) const ETAG: u16 = 0x893f;
    pub(crate) const NSH: u16 = 0x894f;
}

/// VLAN tags that are followed, as in Suricata; more make the frame opaque.
const VLANS_MAX: u8 = 3;
/// Labels of MPLS that are followed.
const LABELS_MAX: usize = 16;
/// Headers below IP that are followed in one frame: keeps a hostile frame from nesting forever.
const LAYERS_MAX: usize = 16;

/// Where decoding goes on.
pub(super) enum Next<'a> {
    /// With the payload of this Ethernet type.
    Type(u16, &'a [u8]),
    /// With a PPP protocol field.
    Ppp(&'a [u8]),
    /// With an IP header of whatever version.
    Ip(&'a [u8]),
    /// Nowhere.
    End,
}

impl<'a> Decoder<'a, '_> {
    pub(super) fn link(&mut self, link: Link, bytes: &'a [u8]) {
        let mut next = match link {
            Link::Ethernet => self.ethernet(bytes),
            Link::Raw | Link::RawIp4 | Link::RawIp6 => Next::Ip(bytes),
            Link::Erspan2 => self.erspan_2(bytes),
            Link::Null => self.null(bytes),
            Link::LinuxSll => self.cooked(bytes, 16, 14, Event::SllPktTooSmall),
            Link::LinuxSll2 => self.cooked(bytes, 20, 0, Event::Sll2PktTooSmall),
            Link::Ppp => Next::Ppp(bytes),
            Link::Wlan => Self::wlan(bytes),
            Link::Radiotap => Self::radiotap(bytes),
            Link::CiscoHdlc => self.cooked(bytes, 4, 2, Event::ChdlcPktTooSmall),
        };
        for _ in 0..LAYERS_MAX {
            next = match next {
                Next::Type(kind, bytes) => self.network(kind, bytes),
                Next::Ppp(bytes) => self.ppp(bytes),
                Next::Ip(bytes) => {
                    self.ip(bytes);
                    return;
                }
                Next::End => return,
            };
        }
        self.reject(Event::TooManyLayers);
    }

    fn ip(&mut self, bytes: &'a [u8]) {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => self.ip4(bytes),
            Some(6) => self.ip6(bytes),
            _ => self.reject(Event::IprawInvalidIpVersion),
        }
    }

    fn ethernet(&mut self, bytes: &'a [u8]) -> Next<'a> {
        let Some((header, rest)) = bytes.split_first_chunk::<14>() else {
            self.reject(Event::EthernetPktTooSmall);
            return Next::End;
        };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let ether_type = u16::from_be_bytes([t0, t1]);
        self.packet.ether = Some(Ether {
            source: Mac([s0, s1, s2, s3, s4, s5]),
            destination: Mac([d0, d1, d2, d3, d4, d5]),
            ether_type,
        });
        Next::Type(ether_type, rest)
    }

    fn network(&mut self, kind: u16, bytes: &'a [u8]) -> Next<'a> {
        if let Some(ether) = &mut self.packet.ether {
            ether.ether_type = kind;
        }
        match kind {
            ether_type::IP4 => self.ip4(bytes),
            ether_type::IP6 => self.ip6(bytes),
            ether_type::ARP => self.arp(bytes),
            ether_type::VLAN | ether_type::QINQ | ether_type::OLD_QINQ => return self.vlan(bytes),
            ether_type::MPLS => return self.mpls(bytes),
            ether_type::PPPOE_SESSION => return self.pppoe_session(bytes),
            ether_type::PPPOE_DISCOVERY => {
                if bytes.len() < 6 {
                    self.reject(Event::PppoePktTooSmall);
                }
            }
            ether_type::BACKBONE => {
                // Service tag and the customer's Ethernet header.
                let Some(rest) = bytes.get(18..) else {
                    self.reject(Event::Ieee8021ahHeaderTooSmall);
                    return Next::End;
                };
                return Next::Type(be16(bytes, 16).unwrap_or(0), rest);
            }
            ether_type::BRIDGE => return self.ethernet(bytes),
            ether_type::VNTAG => return self.tag(bytes, 4, Event::VntagHeaderTooSmall),
            ether_type::NSH => return self.nsh(bytes),
            ether_type::ETAG => return self.tag(bytes, 6, Event::EtagHeaderTooSmall),
            // Below 1536 it is a length: LLC, no Ethernet II.
            0..1536 if self.config.is_llc_on => return Self::llc(bytes),
            _ if self.packet.vlans.count > 0 => self.reject(Event::VlanUnknownType),
            _ => self.note(Event::EthernetUnknownEthertype),
        }
        Next::End
    }

    fn vlan(&mut self, bytes: &'a [u8]) -> Next<'a> {
        let (Some(tag), Some(kind), Some(rest)) = (be16(bytes, 0), be16(bytes, 2), bytes.get(4..))
        else {
            self.reject(Event::VlanHeaderTooSmall);
            return Next::End;
        };
        let vlans = &mut self.packet.vlans;
        if vlans.count >= VLANS_MAX {
            self.note(Event::VlanTooManyLayers);
            return Next::End;
        }
        if let Some(id) = vlans.ids.get_mut(usize::from(vlans.count)) {
            *id = tag & 0x0fff;
        }
        vlans.count += 1;
        Next::Type(kind, rest)
    }

    /// A tag that is skipped: VN-tag of adapters, E-tag of IEEE 802.1BR.
    fn tag(&mut self, bytes: &'a [u8], length: usize, short: Event) -> Next<'a> {
        match (be16(bytes, length), bytes.get(length + 2..)) {
            (Some(kind), Some(rest)) => Next::Type(kind, rest),
            _ => {
                self.reject(short);
                Next::End
            }
        }
    }

    /// The header of ERSPAN type II, whose VLAN is one more of the frame behind it.
    fn erspan_2(&mut self, bytes: &'a [u8]) -> Next<'a> {
        let (Some(word), Some(rest)) = (be16(bytes, 0), bytes.get(8..)) else {
            self.note(Event::ErspanHeaderTooSmall);
            return Next::End;
        };
        let vlans = &mut self.packet.vlans;
        if word & 0x0fff != 0 {
            match vlans.ids.get_mut(usize::from(vlans.count)) {
                Some(id) => *id = word & 0x0fff,
                None => {
                    self.note(Event::ErspanTooManyVlanLayers);
                    return Next::End;
                }
            }
            vlans.count += 1;
        }
        self.ethernet(rest)
    }

    /// Network service header (RFC 8300).
    fn nsh(&mut self, bytes: &'a [u8]) -> Next<'a> {
        let Some([v0, v1, kind, next, ..]) = bytes.first_chunk::<8>().copied() else {
            self.reject(Event::NshHeaderTooSmall);
            return Next::End;
        };
        let word = u16::from_be_bytes([v0, v1]);
        if word >> 14 != 0 {
            self.note(Event::NshUnsupportedVersion);
            return Next::End;
        }
        let length = usize::from(word & 0x3f) * 4;
        let rest = bytes.get(length..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else {
            self.reject(Event::NshBadHeaderLength);
            return Next::End;
        };
        match kind & 0x0f {
            0 | 0x0f => {
                self.note(Event::NshReservedType);
                return Next::End;
            }
            1 if length != 24 => {
                self.reject(Event::NshBadHeaderLength);
                return Next::End;
            }
            1 | 2 => {}
            _ => {
                self.note(Event::NshUnsupportedType);
                return Next::End;
            }
        }
        match next {
            1 => Next::Type(ether_type::IP4, rest),
            2 => Next::Type(ether_type::IP6, rest),
            3 => self.ethernet(rest),
            5 => self.mpls(rest),
            _ => {
                self.note(Event::NshUnknownPayload);
                Next::End
            }
        }
    }

    fn mpls(&mut self, mut bytes: &'a [u8]) -> Next<'a> {
        for _ in 0..LABELS_MAX {
            let Some((entry, rest)) = bytes.split_first_chunk::<4>() else {
                self.reject(Event::MplsHeaderTooSmall);
                return Next::End;
            };
            let entry = u32::from_be_bytes(*entry);
            let (label, is_last) = (entry >> 12, entry & 0x100 != 0);
            bytes = rest;
            if !is_last {
                continue;
            }
            return match label {
                0 => Next::Type(ether_type::IP4, bytes),
                2 => Next::Type(ether_type::IP6, bytes),
                1 => self.bad_label(Event::MplsBadLabelRouterAlert),
                3 => self.bad_label(Event::MplsBadLabelImplicitNull),
                4..16 => self.bad_label(Event::MplsBadLabelReserved),
                _ => self.mpls_payload(bytes),
            };
        }
        self.reject(Event::TooManyLayers);
        Next::End
    }

    const fn bad_label(&mut self, event: Event) -> Next<'a> {
        self.reject(event);
        Next::End
    }

    /// No label says what follows: the first half byte has to.
    fn mpls_payload(&mut self, bytes: &'a [u8]) -> Next<'a> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Next::Type(ether_type::IP4, bytes),
            Some(6) => Next::Type(ether_type::IP6, bytes),
            // A pseudo wire's control word, then Ethernet.
            Some(0) => bytes.get(4..).map_or(Next::End, |bytes| self.ethernet(bytes)),
            Some(_) => {
                self.note(Event::MplsUnknownPayloadType);
                Next::End
            }
            None => {
                self.reject(Event::MplsPktTooSmall);
                Next::End
            }
        }
    }

    fn pppoe_session(&mut self, bytes: &'a [u8]) -> Next<'a> {
        let Some((header, rest)) = bytes.split_first_chunk::<6>() else {
            self.reject(Event::PppoePktTooSmall);
            return Next::End;
        };
        if header[1] != 0 {
            self.reject(Event::PppoeWrongCode);
        }
        Next::Ppp(rest)
    }

    fn ppp(&mut self, bytes: &'a [u8]) -> Next<'a> {
        // Address and control are left out where both ends agreed to.
        let bytes = bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes);
        let (kind, rest) = match bytes {
            // A compressed protocol field is one odd byte.
            [kind, rest @ ..] if kind & 1 == 1 => (u16::from(*kind), rest),
            [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
            _ => {
                self.reject(Event::PppPktTooSmall);
                return Next::End;
            }
        };
        match kind {
            0x0021 if rest.len() < 20 => self.reject(Event::PppIp4PktTooSmall),
            0x0057 if rest.len() < 40 => self.reject(Event::PppIp6PktTooSmall),
            0x0021 => return Next::Type(ether_type::IP4, rest),
            0x0057 => return Next::Type(ether_type::IP6, rest),
            0x0281 => return self.mpls(rest),
            // Control protocols and the network protocols that nobody uses any more.
            0xc021
            | 0xc023
            | 0xc025
            | 0xc223
            | 0x8021
            | 0x8057
            | 0x80fd
            | 0x00fd
            | 0x002d
            | 0x002f
            | 0x0023..0x0030
            | 0x8023..0x8030 => self.reject(Event::PppUnsupProto),
            _ => self.reject(Event::PppWrongType),
        }
        Next::End
    }

    fn null(&mut self, bytes: &'a [u8]) -> Next<'a> {
        let Some((family, rest)) = bytes.split_first_chunk::<4>() else {
            self.reject(Event::LtnullPktTooSmall);
            return Next::End;
        };
        // In the byte order of the machine that captured; families are small numbers.
        let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
        match family {
            2 => Next::Type(ether_type::IP4, rest),
            10 | 24 | 28 | 30 => Next::Type(ether_type::IP6, rest),
            _ => {
                self.note(Event::LtnullUnsupportedType);
                Next::End
            }
        }
    }

    fn cooked(&mut self, bytes: &'a [u8], header: usize, kind: usize, short: Event) -> Next<'a> {
        let (Some(kind), Some(rest)) = (be16(bytes, kind), bytes.get(header..)) else {
            self.reject(short);
            return Next::End;
        };
        Next::Type(kind, rest)
    }

    fn arp(&mut self, bytes: &[u8]) {
        let (Some(hardware), Some(protocol), Some(operation)) =
            (be16(bytes, 0), be16(bytes, 2), be16(bytes, 6))
        else {
            return self.reject(Event::ArpPktTooSmall);
        };
        if hardware != 1 {
            return self.reject(Event::ArpUnsupportedHardware);
        }
        if protocol != ether_type::IP4 {
            return self.reject(Event::ArpUnsupportedProtocol);
        }
        let (Some(sizes), Some(body)) =
            (bytes.get(4..6), bytes.get(8..).and_then(<[u8]>::first_chunk::<20>))
        else {
            return self.reject(Event::ArpInvalidPkt);
        };
        match sizes {
            [6, 4] => {}
            [6, _] => return self.reject(Event::ArpInvalidProtocolSize),
            _ => return self.reject(Event::ArpInvalidHardwareSize),
        }
        if !(1..=4).contains(&operation) {
            return self.reject(Event::ArpUnsupportedOpcode);
        }
        let mac = |at: usize| {
            Mac(body.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
        };
        self.packet.arp = Some(Arp {
            operation,
            sender_mac: mac(0),
            sender: Ipv4Addr::from_bits(be32(body, 6).unwrap_or(0)),
            target_mac: mac(10),
            target: Ipv4Addr::from_bits(be32(body, 16).unwrap_or(0)),
        });
    }
}

//! Headers, as far as the records need them: Ethernet, up to two VLAN tags, IPv4 with options,
//! IPv6 with a bounded number of extension headers, TCP, UDP, ICMP.
//!
//! One source for both sides: the eBPF programs and the sensor's replay of captures call it, so
//! that they can't disagree about a packet. The bytes are hostile. Nothing here reads but through
//! [`Packet`], loops without a bound, or decides anything.

use crate::{kind, Address};

/// A packet that can be read.
pub trait Packet {
    /// Length on the wire.
    fn bytes(&self) -> u32;

    /// Copies `N` bytes at `offset`, `None` when the packet ends before.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// The same for `W` words of four bytes, in the order of the machine; for places where nearly
    /// every packet has the header that is asked for.
    #[inline(always)]
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        let mut words = [0; W];
        for (place, word) in words.iter_mut().enumerate() {
            *word = u32::from_ne_bytes(self.load(offset + place * 4)?);
        }
        Some(words)
    }
}

/// An address as four words that stand in memory like its sixteen bytes. Inside of the kernel it is
/// never taken apart: sixteen bytes in sixteen registers made parsing twice as slow.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words(pub [u32; 4]);

impl Words {
    /// `::ffff:` and the four bytes of `word`.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), word])
    }

    /// From sixteen bytes.
    #[inline(always)]
    pub const fn from_bytes(bytes: Address) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// Its bytes.
    #[inline(always)]
    pub const fn bytes(self) -> Address {
        let [first, second, third, fourth] = self.0;
        let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
        let ([i, j, k, l], [m, n, o, p]) = (third.to_ne_bytes(), fourth.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Most IPv6 extension headers that are followed; RFC 8200 names six, each once.
const EXTENSIONS_MAX: usize = 6;
/// Most VLAN tags that are followed (IEEE 802.1ad).
const VLAN_TAGS_MAX: usize = 2;

const FLAG_SYN: u8 = 0x02;
const FLAG_RST: u8 = 0x04;
const FLAG_ACK: u8 = 0x10;

/// ICMP "destination unreachable".
const ICMP_UNREACHABLE: u8 = 3;
/// Its code "fragmentation needed": about the size, not about the destination.
const ICMP_TOO_BIG: u8 = 4;
/// ICMPv6 "destination unreachable".
const ICMPV6_UNREACHABLE: u8 = 1;
/// Length of an ICMP header before the packet that it is about.
const ICMP_BYTES: usize = 8;

/// What could be said about the network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network<A = Address> {
    /// Neither IPv4 nor IPv6.
    Other,
    /// A header that is cut short or contradicts itself.
    Malformed,
    /// IPv4 or IPv6.
    Ip(Ip<A>),
}

/// What IP says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<A = Address> {
    /// From.
    pub source: A,
    /// To.
    pub destination: A,
    /// Where the transport header starts.
    pub offset: usize,
    /// Where the packet ends by its own word; what follows is padding of the link.
    pub end: usize,
    /// Transport protocol.
    pub protocol: u8,
    /// Version 6 rather than 4.
    pub v6: bool,
    /// A fragment other than the first: there is no transport header.
    pub fragment: bool,
}

/// What the transport header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// From port or ICMP type.
    pub source_port: u16,
    /// To port or ICMP code.
    pub destination_port: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// One of [`kind`] or 0.
    pub kind: u8,
    /// Where the payload of TCP or UDP starts, else 0.
    pub payload: usize,
}

/// The packet that an ICMP error is about, reversed.
pub struct About {
    /// Who could not be reached.
    pub source: Address,
    /// Who tried.
    pub destination: Address,
    /// Port that could not be reached.
    pub source_port: u16,
    /// Port from which it was tried.
    pub destination_port: u16,
    /// Its protocol.
    pub protocol: u8,
}

impl From<Network<Words>> for Network {
    #[inline(always)]
    fn from(network: Network<Words>) -> Self {
        match network {
            Network::Other => Network::Other,
            Network::Malformed => Network::Malformed,
            Network::Ip(ip) => Network::Ip(Ip {
                source: ip.source.bytes(),
                destination: ip.destination.bytes(),
                offset: ip.offset,
                end: ip.end,
                protocol: ip.protocol,
                v6: ip.v6,
                fragment: ip.fragment,
            }),
        }
    }
}

/// Reads Ethernet, VLAN tags and the IP header.
#[inline(always)]
pub fn network<P: Packet>(packet: &P) -> Network {
    network_words(packet).into()
}

/// As [`network`], with addresses as words.
#[inline(always)]
pub fn network_words<P: Packet>(packet: &P) -> Network<Words> {
    // Four bytes from the middle of the header: the last two of them are the EtherType.
    let Some([word]) = packet.words::<1>(ETHERNET - 4) else {
        return Network::Malformed;
    };
    let [_, _, high, low] = word.to_ne_bytes();
    network_at_words(packet, u16::from_be_bytes([high, low]), ETHERNET)
}

/// Reads VLAN tags and the IP header, `ethertype` says which comes first at `offset`.
#[inline(always)]
pub fn network_at<P: Packet>(packet: &P, ethertype: u16, offset: usize) -> Network {
    network_at_words(packet, ethertype, offset).into()
}

#[inline(always)]
fn network_at_words<P: Packet>(
    packet: &P,
    mut ethertype: u16,
    mut offset: usize,
) -> Network<Words> {
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        let Some([_, _, high, low]) = packet.load::<4>(offset) else {
            return Network::Malformed;
        };
        ethertype = u16::from_be_bytes([high, low]);
        offset += 4;
    }
    let ip = match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, offset),
        ETHERTYPE_IPV6 => ipv6(packet, offset),
        _ => return Network::Other,
    };
    match ip {
        Some(ip) => Network::Ip(ip),
        None => Network::Malformed,
    }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Words>> {
    let [first, second, third, source, destination] = packet.words::<5>(offset)?;
    let [first, _, t0, t1] = first.to_ne_bytes();
    let [_, _, f0, f1] = second.to_ne_bytes();
    let [_, protocol, _, _] = third.to_ne_bytes();
    let header_bytes = usize::from(first & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([t0, t1]));
    if first >> 4 != 4 || header_bytes < 20 {
        return None;
    }
    let bytes = packet.bytes() as usize;
    // A total of 0 is segmentation offload with more than 64 KiB.
    if total != 0 && (total < header_bytes || offset + total > bytes) {
        return None;
    }
    Some(Ip {
        source: Words::v4(source),
        destination: Words::v4(destination),
        offset: offset + header_bytes,
        end: if total == 0 { bytes } else { offset + total },
        protocol,
        v6: false,
        fragment: u16::from_be_bytes([f0, f1]) & 0x1fff != 0,
    })
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Words>> {
    let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = packet.words::<10>(offset)?;
    let [first, ..] = first.to_ne_bytes();
    let [l0, l1, next, _] = second.to_ne_bytes();
    // A payload of 0 is a jumbogram or segmentation offload with more than 64 KiB.
    let payload = usize::from(u16::from_be_bytes([l0, l1]));
    let bytes = packet.bytes() as usize;
    if first >> 4 != 6 || offset + 40 + payload > bytes {
        return None;
    }
    let mut ip = Ip {
        source: Words([s0, s1, s2, s3]),
        destination: Words([d0, d1, d2, d3]),
        offset: offset + 40,
        end: if payload == 0 { bytes } else { offset + 40 + payload },
        protocol: next,
        v6: true,
        fragment: false,
    };
    for _ in 0..EXTENSIONS_MAX {
        let is_extension = matches!(
            ip.protocol,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
        );
        if !is_extension || ip.fragment {
            return Some(ip);
        }
        let [next, length, f0, f1] = packet.load::<4>(ip.offset)?;
        let length = usize::from(length);
        ip.offset += match ip.protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        if ip.protocol == FRAGMENT {
            ip.fragment = u16::from_be_bytes([f0, f1]) & 0xfff8 != 0;
        }
        ip.protocol = next;
    }
    Some(ip)
}

/// Reads the transport header; `None` when it is cut short or contradicts itself.
#[inline(always)]
pub fn transport<P: Packet, A>(packet: &P, ip: &Ip<A>) -> Option<Transport> {
    match ip.protocol {
        TCP => tcp(packet, ip.offset),
        UDP => {
            let [ports, length] = packet.words::<2>(ip.offset)?;
            let ([s0, s1, d0, d1], [l0, l1, _, _]) = (ports.to_ne_bytes(), length.to_ne_bytes());
            let length = u16::from_be_bytes([l0, l1]);
            if length != 0 && length < 8 {
                return None;
            }
            Some(Transport {
                source_port: u16::from_be_bytes([s0, s1]),
                destination_port: u16::from_be_bytes([d0, d1]),
                tcp_flags: 0,
                kind: 0,
                payload: ip.offset + 8,
            })
        }
        ICMP | ICMPV6 => {
            let [icmp_type, code, ..] = packet.load::<ICMP_BYTES>(ip.offset)?;
            let unreachable = if ip.protocol == ICMP {
                icmp_type == ICMP_UNREACHABLE && code != ICMP_TOO_BIG
            } else {
                icmp_type == ICMPV6_UNREACHABLE
            };
            Some(Transport {
                source_port: u16::from(icmp_type),
                destination_port: u16::from(code),
                tcp_flags: 0,
                kind: if unreachable { kind::UNREACHABLE } else { 0 },
                payload: 0,
            })
        }
        _ => Some(Transport::default()),
    }
}

#[inline(always)]
fn tcp<P: Packet>(packet: &P, offset: usize) -> Option<Transport> {
    let [ports, _, _, fourth, _] = packet.words::<5>(offset)?;
    let ([s0, s1, d0, d1], [words, flags, _, _]) = (ports.to_ne_bytes(), fourth.to_ne_bytes());
    if words >> 4 < 5 {
        return None;
    }
    let kind = if flags & FLAG_RST != 0 {
        kind::RST
    } else {
        match flags & (FLAG_SYN | FLAG_ACK) {
            FLAG_SYN => kind::SYN,
            both if both == FLAG_SYN | FLAG_ACK => kind::SYN_ACK,
            _ => 0,
        }
    };
    Some(Transport {
        source_port: u16::from_be_bytes([s0, s1]),
        destination_port: u16::from_be_bytes([d0, d1]),
        tcp_flags: flags,
        kind,
        payload: offset + usize::from(words >> 4) * 4,
    })
}

/// Reads the packet that an "unreachable" is about: its addresses, and its ports when it is TCP
/// or UDP. `None` when too little of it was sent back.
#[inline(always)]
pub fn about<P: Packet, A>(packet: &P, error: &Ip<A>) -> Option<About> {
    let offset = error.offset + ICMP_BYTES;
    let (tried_by, tried, protocol, ports) = if error.v6 {
        let header = packet.load::<40>(offset)?;
        let (&[first, _, _, _, _, _, next, _], addresses) = header.split_first_chunk::<8>()?;
        let (&source, rest) = addresses.split_first_chunk::<16>()?;
        let &destination = rest.first_chunk::<16>()?;
        if first >> 4 != 6 {
            return None;
        }
        (source, destination, next, offset + 40)
    } else {
        let [first, _, _, _, _, _, _, _, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
            packet.load::<20>(offset)?;
        if first >> 4 != 4 {
            return None;
        }
        let source = mapped([s0, s1, s2, s3]);
        let destination = mapped([d0, d1, d2, d3]);
        let ports = offset + usize::from(first & 0x0f) * 4;
        (source, destination, protocol, ports)
    };
    let mut about = About {
        source: tried,
        destination: tried_by,
        source_port: 0,
        destination_port: 0,
        protocol,
    };
    if protocol == TCP || protocol == UDP {
        let [s0, s1, d0, d1] = packet.load::<4>(ports)?;
        about.source_port = u16::from_be_bytes([d0, d1]);
        about.destination_port = u16::from_be_bytes([s0, s1]);
    }
    Some(about)
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
pub const fn mapped([a, b, c, d]: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether the first packet of such a flow is told as [`kind::FLOW`]; TCP has its own records.
#[inline(always)]
pub fn tells_flow(protocol: u8) -> bool {
    protocol != TCP
}

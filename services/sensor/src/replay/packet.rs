//! A captured packet to the records that the eBPF programs would have sent for it.
//!
//! The same rules as `ebpf/programs/src/parse.rs`: a test replays frames through both. Packets
//! that were cut by the snapshot length are used as far as they go.

use etherparse::{
    EtherType, LaxNetSlice, LaxSlicedPacket, TcpHeaderSlice, UdpHeaderSlice, ip_number,
};
use hookprobe_abi::{Address, FlowKey, Record, kind};
use pcap_parser::Linktype;

use super::capture::Packet;

const ICMP_BYTES: usize = 8;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_TOO_BIG: u8 = 4;
const ICMPV6_UNREACHABLE: u8 = 1;

const FLAG_SYN: u8 = 0x02;
const FLAG_RST: u8 = 0x04;
const FLAG_ACK: u8 = 0x10;

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Neither IPv4 nor IPv6, or a link type that is not read.
    Other,
    /// A header that is cut short or contradicts itself.
    Malformed,
    /// Something to count.
    Ip(Observed),
}

/// What the records are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Its direction.
    pub key: FlowKey,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Bytes on the wire.
    pub bytes: u32,
    /// Record that it makes whether or not its flow is new.
    pub record: Option<Record>,
}

impl Observed {
    /// The record for the first packet of a flow, if such a flow has one.
    #[must_use]
    pub fn first_of_flow(&self, packet: &Packet<'_>) -> Option<Record> {
        let told_already = self.record.is_some() || self.key.protocol == ip_number::TCP.0;
        (!told_already).then(|| self.to_record(packet, kind::FLOW))
    }

    fn to_record(self, packet: &Packet<'_>, kind: u8) -> Record {
        Record {
            time_ns: packet.time_ns,
            source: self.key.source,
            destination: self.key.destination,
            source_port: self.key.source_port,
            destination_port: self.key.destination_port,
            bytes: self.bytes,
            interface: packet.interface,
            protocol: self.key.protocol,
            kind,
            flags: 0,
            tcp_flags: self.tcp_flags,
        }
    }
}

/// Reads the headers of one packet.
#[must_use]
pub fn parse(packet: &Packet<'_>) -> Parsed {
    let Some(sliced) = slice(packet.link, packet.data) else {
        return Parsed::Other;
    };
    let (source, destination, fragment) = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ipv4)) => {
            let header = ipv4.header();
            (
                mapped(header.source()),
                mapped(header.destination()),
                header.fragments_offset().value() != 0,
            )
        }
        Some(LaxNetSlice::Ipv6(ipv6)) => {
            let header = ipv6.header();
            let later = ipv6.extensions().clone().into_iter().any(|extension| {
                matches!(extension, etherparse::Ipv6ExtensionSlice::Fragment(fragment)
                    if fragment.fragment_offset().value() != 0)
            });
            (header.source(), header.destination(), later)
        }
        Some(LaxNetSlice::Arp(_)) => return Parsed::Other,
        None if sliced.stop_err.is_some() => return Parsed::Malformed,
        None => return Parsed::Other,
    };
    let Some(payload) = sliced.ip_payload() else {
        return Parsed::Malformed;
    };
    let mut observed = Observed {
        key: FlowKey { source, destination, protocol: payload.ip_number.0, ..FlowKey::default() },
        tcp_flags: 0,
        bytes: packet.wire_bytes,
        record: None,
    };
    if !fragment && transport(packet, payload.payload, &mut observed).is_none() {
        return Parsed::Malformed;
    }
    Parsed::Ip(observed)
}

/// Cuts the link header off; `None` for link types that are not read.
fn slice(link: Linktype, data: &[u8]) -> Option<LaxSlicedPacket<'_>> {
    let ether_type = |at: usize, bytes: usize| {
        let field = data.get(at..)?.first_chunk::<2>()?;
        let ether_type = EtherType(u16::from_be_bytes(*field));
        Some(LaxSlicedPacket::from_ether_type(ether_type, data.get(bytes..)?))
    };
    match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => {
            LaxSlicedPacket::from_ip(data).ok()
        }
        // Four bytes of address family in the order of some machine; IP says its version itself.
        Linktype::NULL | Linktype::LOOP => LaxSlicedPacket::from_ip(data.get(4..)?).ok(),
        Linktype::LINUX_SLL => ether_type(14, 16),
        Linktype::LINUX_SLL2 => ether_type(0, 20),
        _ => None,
    }
}

/// Fills in ports, flags and the record; `None` when the header is cut short.
fn transport(packet: &Packet<'_>, payload: &[u8], observed: &mut Observed) -> Option<()> {
    match etherparse::IpNumber(observed.key.protocol) {
        ip_number::TCP => {
            let header = TcpHeaderSlice::from_slice(payload).ok()?;
            observed.key.source_port = header.source_port();
            observed.key.destination_port = header.destination_port();
            observed.tcp_flags = *payload.get(13)?;
            observed.record =
                tcp_kind(observed.tcp_flags).map(|kind| observed.to_record(packet, kind));
        }
        ip_number::UDP => {
            let header = UdpHeaderSlice::from_slice(payload).ok()?;
            observed.key.source_port = header.source_port();
            observed.key.destination_port = header.destination_port();
        }
        ip_number::ICMP | ip_number::IPV6_ICMP => {
            let [icmp_type, code, ..] = *payload.first_chunk::<ICMP_BYTES>()?;
            observed.key.source_port = u16::from(icmp_type);
            observed.key.destination_port = u16::from(code);
            let unreachable = if observed.key.protocol == ip_number::ICMP.0 {
                icmp_type == ICMP_UNREACHABLE && code != ICMP_TOO_BIG
            } else {
                icmp_type == ICMPV6_UNREACHABLE
            };
            if unreachable {
                let about = payload.get(ICMP_BYTES..).and_then(reversed);
                observed.record = about.map(|about| {
                    let record = observed.to_record(packet, kind::UNREACHABLE);
                    Record {
                        source: about.source,
                        destination: about.destination,
                        source_port: about.source_port,
                        destination_port: about.destination_port,
                        protocol: about.protocol,
                        ..record
                    }
                });
            }
        }
        _ => {}
    }
    Some(())
}

fn tcp_kind(flags: u8) -> Option<u8> {
    if flags & FLAG_RST != 0 {
        return Some(kind::RST);
    }
    match flags & (FLAG_SYN | FLAG_ACK) {
        FLAG_SYN => Some(kind::SYN),
        both if both == FLAG_SYN | FLAG_ACK => Some(kind::SYN_ACK),
        _ => None,
    }
}

/// The packet that an ICMP error is about, its ends exchanged.
fn reversed(inner: &[u8]) -> Option<FlowKey> {
    let sliced = LaxSlicedPacket::from_ip(inner).ok()?;
    let (tried_by, tried) = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ipv4)) => {
            (mapped(ipv4.header().source()), mapped(ipv4.header().destination()))
        }
        Some(LaxNetSlice::Ipv6(ipv6)) => (ipv6.header().source(), ipv6.header().destination()),
        Some(LaxNetSlice::Arp(_)) | None => return None,
    };
    let payload = sliced.ip_payload()?;
    let mut key = FlowKey {
        source: tried,
        destination: tried_by,
        protocol: payload.ip_number.0,
        ..FlowKey::default()
    };
    if matches!(payload.ip_number, ip_number::TCP | ip_number::UDP) {
        // RFC 792 promises eight bytes of it, too few for a whole TCP header.
        let [s0, s1, d0, d1] = *payload.payload.first_chunk::<4>()?;
        key.source_port = u16::from_be_bytes([d0, d1]);
        key.destination_port = u16::from_be_bytes([s0, s1]);
    }
    Some(key)
}

fn mapped([a, b, c, d]: [u8; 4]) -> Address {
    std::net::Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets()
}

//! A captured packet to the records that the eBPF programs would have sent for it.
//!
//! The headers are read by the very source that the programs are compiled from
//! ([`hookprobe_abi::parse`]); only link types that no interface of the box has are known here.
//! Packets that were cut by the snapshot length are used as far as they go.

use hookprobe_abi::{
    FlowKey, Record, kind,
    parse::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, Network, Transport},
};
use pcap_parser::Linktype;

use super::capture::Packet;

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
    /// Whether the first packet of its flow is told.
    tells_flow: bool,
}

impl Observed {
    /// The record for the first packet of a flow, if such a flow has one.
    #[must_use]
    pub fn first_of_flow(&self, packet: &Packet<'_>) -> Option<Record> {
        self.tells_flow.then(|| self.to_record(packet, kind::FLOW))
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

impl parse::Packet for Packet<'_> {
    fn bytes(&self) -> u32 {
        self.wire_bytes
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.data.get(offset..)?.first_chunk().copied()
    }
}

/// Reads the headers of one packet.
#[must_use]
pub fn parse(packet: &Packet<'_>) -> Parsed {
    let ip = match network(packet) {
        Network::Ip(ip) => ip,
        Network::Other => return Parsed::Other,
        Network::Malformed => return Parsed::Malformed,
    };
    let transport =
        if ip.fragment { Some(Transport::default()) } else { parse::transport(packet, &ip) };
    match transport {
        Some(transport) => Parsed::Ip(observe(packet, &ip, &transport)),
        None => Parsed::Malformed,
    }
}

/// Skips the link header.
fn network(packet: &Packet<'_>) -> Network {
    let ether_type = |at: usize, header_bytes: usize| match parse::Packet::load::<2>(packet, at)
        .map(u16::from_be_bytes)
    {
        Some(ether_type) => parse::network_at(packet, ether_type, header_bytes),
        None => Network::Malformed,
    };
    // IP says its version itself.
    let version = |at: usize| match packet.data.get(at).map(|first| first >> 4) {
        Some(4) => parse::network_at(packet, ETHERTYPE_IPV4, at),
        Some(6) => parse::network_at(packet, ETHERTYPE_IPV6, at),
        Some(_) | None => Network::Malformed,
    };
    match packet.link {
        Linktype::ETHERNET => parse::network(packet),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => version(0),
        // Four bytes of address family in the order of some machine.
        Linktype::NULL | Linktype::LOOP => version(4),
        Linktype::LINUX_SLL => ether_type(14, 16),
        Linktype::LINUX_SLL2 => ether_type(0, 20),
        _ => Network::Other,
    }
}

/// As `observe` of `ebpf/programs/src/main.rs`, but that the caller knows whether a flow is new.
fn observe(packet: &Packet<'_>, ip: &Ip, transport: &Transport) -> Observed {
    let mut observed = Observed {
        key: FlowKey {
            source: ip.source,
            destination: ip.destination,
            source_port: transport.source_port,
            destination_port: transport.destination_port,
            protocol: ip.protocol,
            ..FlowKey::default()
        },
        tcp_flags: transport.tcp_flags,
        bytes: packet.wire_bytes,
        record: None,
        tells_flow: transport.kind == 0 && parse::tells_flow(ip.protocol),
    };
    observed.record = match transport.kind {
        0 => None,
        kind::UNREACHABLE => parse::about(packet, ip).map(|about| Record {
            source: about.source,
            destination: about.destination,
            source_port: about.source_port,
            destination_port: about.destination_port,
            protocol: about.protocol,
            ..observed.to_record(packet, kind::UNREACHABLE)
        }),
        kind => Some(observed.to_record(packet, kind)),
    };
    observed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `link` with these bytes is; addresses are `2001:db8::1` to `2001:db8::2`.
    fn ipv6(next: u8, payload: &[u8]) -> Parsed {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, payload.len() as u8, next, 64]);
        for last in [1, 2] {
            frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        frame.extend(payload);
        whole(Linktype::ETHERNET, &frame)
    }

    fn whole(link: Linktype, data: &[u8]) -> Parsed {
        let wire_bytes = u32::try_from(data.len()).unwrap();
        parse(&Packet { time_ns: 7, interface: 0, link, wire_bytes, data })
    }

    fn key(parsed: &Parsed) -> FlowKey {
        match parsed {
            Parsed::Ip(observed) => observed.key,
            Parsed::Other | Parsed::Malformed => FlowKey::default(),
        }
    }

    #[test]
    fn extension_headers_that_are_cut_off_are_malformed() {
        // Hop-by-hop says that destination options follow, of which no byte is there.
        assert_eq!(ipv6(0, &[60, 0, 1, 4, 0, 0, 0, 0]), Parsed::Malformed);
        // One that says it is longer than the packet.
        assert_eq!(ipv6(0, &[60, 255, 1, 4, 0, 0, 0, 0]), Parsed::Malformed);
        for cut in 0..3 {
            assert_eq!(ipv6(44, &[17, 0, 0, 0][..cut]), Parsed::Malformed, "{cut}");
        }
    }

    #[test]
    fn the_walk_over_extension_headers_is_bounded() {
        // Seven headers: six are followed, the seventh counts as the protocol.
        let parsed = ipv6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(7));
        assert_eq!(key(&parsed).protocol, 60);
    }

    #[test]
    fn later_ipv6_fragments_have_no_ports() {
        let udp = [0x13, 0x88, 0, 53, 0, 8, 0, 0];
        let first = ipv6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9], &udp[..]].concat());
        assert_eq!((key(&first).source_port, key(&first).destination_port), (5000, 53));
        let later = ipv6(44, &[&[17, 0, 0, 9, 0, 0, 0, 9], &udp[..]].concat());
        assert_eq!((key(&later).protocol, key(&later).source_port), (17, 0));
    }

    #[test]
    fn unreachable_about_nothing_tells_nothing() {
        let Parsed::Ip(observed) = ipv6(58, &[1, 4, 0, 0, 0, 0, 0, 0]) else { unreachable!() };
        assert_eq!(observed.record, None);
        assert!(!observed.tells_flow, "the program sends no record for it either");
    }

    #[test]
    fn every_link_type_leads_to_the_same_packet() {
        let ip = [
            &[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2][..],
            &[0x13, 0x88, 0, 53, 0, 8, 0, 0],
        ]
        .concat();
        let with = |front: &[u8]| [front, &ip].concat();
        let mut sll = [0; 16];
        sll[14] = 0x08;
        let mut sll2 = [0; 20];
        sll2[0] = 0x08;
        let expect = key(&whole(Linktype::RAW, &ip));
        assert_eq!((expect.source_port, expect.destination_port), (5000, 53));
        for (link, data) in [
            (Linktype::IPV4, with(&[])),
            (Linktype::NULL, with(&[2, 0, 0, 0])),
            (Linktype::LINUX_SLL, with(&sll)),
            (Linktype::LINUX_SLL2, with(&sll2)),
            (Linktype::ETHERNET, with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0])),
        ] {
            assert_eq!(key(&whole(link, &data)), expect, "{link:?}");
            for cut in 0..data.len() {
                assert!(!matches!(whole(link, &data[..cut]), Parsed::Ip(_)), "{link:?} {cut}");
            }
        }
        assert_eq!(whole(Linktype(9999), &ip), Parsed::Other);
    }
}

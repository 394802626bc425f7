//! Frames made by hand, and bytes that are none.

use proptest::prelude::*;

use super::{decode, decode_inner};
use crate::{
    config,
    event::Event,
    packet::{Frame, Link, Packet, Transport, Tunnel},
    testing::{Tcp, address, ethernet, ip4, ip4_packet, ip6_packet, udp},
};

fn settings() -> config::Decode {
    config::Decode::default()
}

/// The outermost and what it carries, if anything.
fn layers(bytes: &[u8]) -> Vec<Packet<'_>> {
    let (packet, mut inner) = decode(&ethernet(bytes, 1), 1, &settings());
    let mut packets = vec![packet];
    while let Some(carried) = inner {
        let outer = *packets.last().unwrap();
        let (packet, next) = decode_inner(&outer, &carried, &settings());
        packets.push(packet);
        inner = next;
    }
    packets
}

fn events(bytes: &[u8]) -> Vec<&'static str> {
    layers(bytes)
        .iter()
        .flat_map(|packet| packet.events.iter().collect::<Vec<_>>())
        .map(Event::name)
        .collect()
}

#[test]
fn tcp_over_ip4() {
    let frame =
        Tcp { ports: (1000, 80), flags: 0x18, seq: 7, ack: 9, payload: b"hello" }.frame(1, 2);
    let (packet, inner) = decode(&ethernet(&frame, 5), 3, &settings());
    assert!(inner.is_none() && !packet.is_invalid && packet.events.is_empty());
    let ip = packet.ip.unwrap();
    assert_eq!((ip.source, ip.destination, ip.ttl), (address(1), address(2), 64));
    let Transport::Tcp(tcp) = packet.transport else { panic!("no TCP") };
    assert_eq!((tcp.source, tcp.destination, tcp.seq, tcp.ack), (1000, 80, 7, 9));
    assert_eq!(packet.payload, b"hello");
    assert_eq!(packet.is_transport_checksum_right(), Some(true));
    assert_eq!(ip.is_checksum_right(), Some(true));
    let mut wrong = frame.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let (packet, _) = decode(&ethernet(&wrong, 5), 3, &settings());
    assert_eq!(packet.is_transport_checksum_right(), Some(false));
}

#[test]
fn padding_of_ethernet_is_no_payload() {
    let mut frame = ip4(1, 2, 17, &udp(53, 99, b"x"));
    frame.resize(60, 0xee);
    assert_eq!(layers(&frame)[0].payload, b"x");
}

#[test]
fn vlans_up_to_three() {
    let plain = ip4(1, 2, 17, &udp(5, 6, b"x"));
    let tagged = |count: usize| {
        let mut frame = plain[..12].to_vec();
        for id in 1..=count {
            frame.extend([0x81, 0, 0x20, id as u8]);
        }
        frame.extend(&plain[12..]);
        frame
    };
    let frame = tagged(3);
    let packet = layers(&frame)[0];
    assert_eq!(packet.vlans.iter().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(packet.ports(), Some((5, 6)));
    assert_eq!(events(&tagged(4)), ["decoder.vlan.too_many_layers"]);
}

#[test]
fn tunnels_are_followed() {
    let inner_frame = ip4(3, 4, 17, &udp(7, 8, b"in"));
    let inner_ip = ip4_packet([10, 0, 0, 3], [10, 0, 0, 4], 17, 0, &udp(7, 8, b"in"));
    let six = ip6_packet(17, &udp(7, 8, b"in"));
    let with = |head: &[u8], rest: &[u8]| [head, rest].concat();
    let gre = with(&[0, 0, 8, 0], &inner_ip);
    // Its flags are more than the one that is needed.
    let vxlan = udp(9, 4789, &with(&[0x0c, 1, 0, 3, 0, 0, 1, 0], &inner_frame));
    let geneve = udp(9, 6081, &with(&[0, 0, 0x65, 0x58, 0, 0, 1, 0], &inner_frame));
    let teredo = udp(9, 3544, &six);
    let length = u16::try_from(inner_ip.len()).unwrap().to_be_bytes();
    let gtp = udp(9, 2152, &with(&[0x30, 0xff, length[0], length[1], 0, 0, 0, 1], &inner_ip));
    let cases = [
        (47, gre, Tunnel::Gre),
        (17, vxlan, Tunnel::Vxlan),
        (17, geneve, Tunnel::Geneve),
        (17, teredo, Tunnel::Teredo),
        (17, gtp, Tunnel::Gtp),
        (41, six, Tunnel::Ip4),
        (4, inner_ip, Tunnel::Ip4),
    ];
    for (protocol, payload, tunnel) in cases {
        let frame = ip4(1, 2, protocol, &payload);
        let packets = layers(&frame);
        let [_, inner] = packets[..] else { panic!("{tunnel:?}: {packets:?}") };
        assert_eq!(inner.origin, crate::packet::Origin::Tunnel(tunnel));
        assert_eq!((inner.ports(), inner.payload), (Some((7, 8)), b"in".as_slice()), "{tunnel:?}");
        assert_eq!(inner.tunnel_depth, 1);
    }
}

#[test]
fn lies_are_named() {
    let good = ip4(1, 2, 17, &udp(5, 6, b"xyz"));
    let edit = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    assert_eq!(events(&edit(14, 0x55)), ["decoder.ipv4.wrong_ip_version"]);
    assert_eq!(events(&edit(14, 0x44)), ["decoder.ipv4.hlen_too_small"]);
    assert_eq!(events(&edit(17, 10)), ["decoder.ipv4.iplen_smaller_than_hlen"]);
    assert_eq!(events(&edit(16, 1)), ["decoder.ipv4.trunc_pkt"]);
    assert_eq!(events(&edit(39, 200)), ["decoder.udp.pkt_too_small"]);
    assert_eq!(events(&edit(39, 3)), ["decoder.udp.len_invalid"]);
    assert_eq!(events(&good[..10]), ["decoder.ethernet.pkt_too_small"]);
    assert!(layers(&edit(16, 1))[0].is_invalid);
}

#[test]
fn ip6_extension_headers() {
    let datagram = udp(5, 6, b"x");
    let routing = [&[17, 0, 0, 0, 0, 0, 0, 0], datagram.as_slice()].concat();
    let hop = [&[43, 0, 1, 4, 0, 0, 0, 0], routing.as_slice()].concat();
    let packet = ip6_packet(0, &hop);
    let frame = Frame { time_ns: 0, wire_bytes: 0, link: Link::Raw, bytes: &packet };
    let (packet, _) = decode(&frame, 1, &settings());
    assert_eq!(packet.ports(), Some((5, 6)));
    assert!(packet.events.has(Event::Ipv6RhType0));
    assert!(packet.events.has(Event::Ipv6HopoptsOnlyPadding));
    assert_eq!(packet.ip.unwrap().options.len(), 16);
}

#[test]
fn icmp_errors_quote_their_flow() {
    let quoted = ip4_packet([10, 0, 0, 2], [10, 0, 0, 1], 17, 0, &udp(5, 6, b""));
    let error = [&[3, 3, 0, 0, 0, 0, 0, 0], quoted.as_slice()].concat();
    let frame = ip4(1, 2, 1, &error);
    let Transport::Icmp(icmp) = layers(&frame)[0].transport else { panic!("no ICMP") };
    let about = icmp.about.unwrap();
    assert_eq!(
        (about.source, about.destination, about.ports),
        (address(2), address(1), Some((5, 6)))
    );
}

/// Everything that a packet refers to lies within the frame.
fn check_bounds(packet: &Packet<'_>) {
    let whole = packet.data.as_ptr_range();
    let within = |part: &[u8]| {
        part.is_empty() || {
            let range = part.as_ptr_range();
            whole.start <= range.start && range.end <= whole.end
        }
    };
    assert!(within(packet.payload));
    if let Some(ip) = packet.ip {
        assert!(within(ip.header) && within(ip.options) && within(ip.payload));
    }
    let _ = packet.is_transport_checksum_right();
}

proptest! {
    #[test]
    fn any_bytes_decode_to_something(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        link in prop::sample::select(&Link::ALL),
    ) {
        let frame = Frame { time_ns: 0, wire_bytes: 0, link, bytes: &bytes };
        check_bounds(&decode(&frame, 1, &settings()).0);
    }

    #[test]
    fn a_flipped_byte_or_a_cut_changes_no_bound(
        which in 0..5usize, at in any::<prop::sample::Index>(), value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let inner = ip4(3, 4, 6, &[0; 20]);
        let mut frame = match which {
            0 => Tcp { ports: (1, 2), flags: 2, seq: 1, ack: 0, payload: b"abc" }.frame(1, 2),
            1 => ip4(1, 2, 17, &udp(1, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0], inner.as_slice()].concat())),
            2 => ip4(1, 2, 47, &[&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &inner[14..]].concat()),
            3 => ip4(1, 2, 41, &ip6_packet(0, &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 5, 2, 0, 0, 1, 0])),
            _ => ip4(1, 2, 1, &[3, 1, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 28, 0, 0]),
        };
        let place = at.index(frame.len());
        frame[place] = value;
        frame.truncate(cut.index(frame.len() + 1).max(frame.len() / 2));
        for packet in layers(&frame) {
            check_bounds(&packet);
        }
    }
}

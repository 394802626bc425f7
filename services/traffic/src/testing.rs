//! Frames for tests, built by hand: checksums are right, lengths can be made to lie afterwards.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    checksum,
    packet::{Frame, Link},
};

/// Ethernet, IPv4 from 10.0.0.`from` to 10.0.0.`to`, and `payload` of `protocol`.
pub(crate) fn ip4(from: u8, to: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0];
    frame.extend(ip4_packet([10, 0, 0, from], [10, 0, 0, to], protocol, 0, payload));
    frame
}

/// An IPv4 packet; `fragment` is the field of flags and offset.
pub(crate) fn ip4_packet(
    from: [u8; 4],
    to: [u8; 4],
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let mut header = vec![0x45, 0, total[0], total[1], 0, 7, f0, f1, 64, protocol, 0, 0];
    header.extend(from);
    header.extend(to);
    let sum = checksum::sum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header.extend(payload);
    header
}

/// An IPv6 packet from 2001:db8::1 to ::2.
pub(crate) fn ip6_packet(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
    for last in [1, 2] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum.
pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = Vec::new();
    for field in [source, destination, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// A TCP segment with a checksum for [`ip4`].
pub(crate) struct Tcp<'p> {
    pub(crate) ports: (u16, u16),
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) payload: &'p [u8],
}

impl Tcp<'_> {
    /// The frame.
    pub(crate) fn frame(&self, from: u8, to: u8) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.ports.0.to_be_bytes());
        segment.extend(self.ports.1.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(self.payload);
        let length = u32::try_from(segment.len()).unwrap().to_be_bytes();
        let [source, destination] = [from, to].map(|last| [10, 0, 0, last]);
        let sum = checksum::sum(&[&source, &destination, &[0, 0, 0, 6], &length, &segment]);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        ip4(from, to, 6, &segment)
    }
}

/// A frame of Ethernet at a time in milliseconds.
pub(crate) fn ethernet(bytes: &[u8], time_ms: u64) -> Frame<'_> {
    let wire_bytes = u32::try_from(bytes.len()).unwrap();
    Frame { time_ns: time_ms * 1_000_000, wire_bytes, link: Link::Ethernet, bytes }
}

/// 10.0.0.`last`.
pub(crate) const fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

//! Which payload is worth a look in user space, and how it is sent there.
//!
//! The choice is made by the first eight bytes: what begins like a protocol that is read for names
//! and fingerprints is copied, bounded, and everything is decided in user space. Nothing here
//! loops.

use crate::Address;

/// Packets with payload that are looked at in each direction of a flow: a ClientHello with
/// post-quantum keys has two, a QUIC Initial may come in three.
pub const PACKETS_PER_FLOW: u8 = 4;
/// Most bytes of one sample: the payload of an Ethernet frame.
pub const BYTES_MAX: usize = 1500;
/// Least payload that is looked at.
pub const BYTES_MIN: usize = 8;

/// What a sample is.
pub mod kind {
    /// Nothing that is sent.
    pub const NONE: u8 = 0;
    /// A TLS handshake record, and the segments after it.
    pub const TLS: u8 = 1;
    /// A QUIC Initial, version 1 or 2.
    pub const QUIC: u8 = 2;
    /// DNS, multicast DNS, LLMNR.
    pub const DNS: u8 = 3;
    /// An HTTP/1 request.
    pub const HTTP: u8 = 4;
    /// An SSH banner, and what follows it (the key exchange).
    pub const SSH: u8 = 5;
}

/// Before the bytes of a sample.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
    /// From.
    pub source: Address,
    /// To.
    pub destination: Address,
    /// From port in host order.
    pub source_port: u16,
    /// To port in host order.
    pub destination_port: u16,
    /// Interface index.
    pub interface: u32,
    /// Bytes of the payload on the wire.
    pub payload_bytes: u16,
    /// Bytes that follow.
    pub bytes: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// [`crate::FLAG_EGRESS`].
    pub flags: u8,
    /// Which packet with payload of this direction, from 0.
    pub number: u8,
}

/// Bytes of a [`Header`].
pub const HEADER_BYTES: usize = 56;
const _: () = assert!(core::mem::size_of::<Header>() == HEADER_BYTES);

const TCP: u8 = 6;
const UDP: u8 = 17;
const PORT_DNS: u16 = 53;
const PORT_MDNS: u16 = 5353;
const PORT_LLMNR: u16 = 5355;
/// RFC 9000: a client's first datagram has at least as many bytes.
const QUIC_INITIAL_BYTES: usize = 1200;
const QUIC_VERSION_1: [u8; 4] = [0, 0, 0, 1];
/// RFC 9369.
const QUIC_VERSION_2: [u8; 4] = [0x6b, 0x33, 0x43, 0xcf];

/// What payload that begins with `first` is.
#[inline(always)]
pub fn classify(first: &[u8; 8], protocol: u8, ports: (u16, u16), payload_bytes: usize) -> u8 {
    let is_port = |port: u16| ports.0 == port || ports.1 == port;
    if is_port(PORT_DNS) || protocol == UDP && (is_port(PORT_MDNS) || is_port(PORT_LLMNR)) {
        return kind::DNS;
    }
    if protocol == UDP {
        let [head, v0, v1, v2, v3, ..] = *first;
        let version = [v0, v1, v2, v3];
        let is_initial = head & 0xf0 == 0xc0 && version == QUIC_VERSION_1
            || head & 0xf0 == 0xd0 && version == QUIC_VERSION_2;
        let is_quic = is_initial && payload_bytes >= QUIC_INITIAL_BYTES;
        return if is_quic { kind::QUIC } else { kind::NONE };
    }
    if protocol != TCP {
        return kind::NONE;
    }
    match first {
        // Handshake, version 3.x, type ClientHello or ServerHello.
        [0x16, 3, 0..=4, _, _, 1 | 2, _, _] => kind::TLS,
        b"SSH-2.0-" | b"SSH-1.99" | b"SSH-1.5-" => kind::SSH,
        [b'G', b'E', b'T', b' ', ..]
        | [b'P', b'O' | b'U', b'S' | b'T', b'T' | b' ', ..]
        | [b'H', b'E', b'A', b'D', b' ', ..]
        | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', _]
        | [b'O', b'P', b'T', b'I', b'O', b'N', b'S', b' ']
        | [b'C', b'O', b'N', b'N', b'E', b'C', b'T', b' ']
        | [b'P', b'A', b'T', b'C', b'H', b' ', ..] => kind::HTTP,
        _ => kind::NONE,
    }
}

/// What the packet after the first one is, `first` being what the first one was.
#[inline(always)]
pub fn continues(first: u8) -> u8 {
    match first {
        kind::HTTP => kind::NONE,
        other => other,
    }
}

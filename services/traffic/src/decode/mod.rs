//! Bytes to packets. One call decodes one layer of IP (with what is below and above it); what a
//! tunnel carries is handed back as [`Inner`] and decoded by another call.
//!
//! Which oddities make a packet invalid and which are only noted follows Suricata, so that
//! `decode-event` rules and flow tables agree with it.
//!
//! What must never happen here: a read beyond the bytes, a loop that does not end, an allocation.
//! Caller: `engine`; tools that need no flows may call it directly.

mod icmp;
mod ip4;
mod ip6;
mod link;
mod tcp;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;
mod wlan;

pub use ip4::is_ip4_option_right;

use crate::{
    config,
    event::{Event, Events},
    packet::{Frame, Link, Origin, Packet, Transport, Tunnel, Vlans},
};

/// What a packet carries if it is a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Inner<'a> {
    /// How to read it.
    pub link: Link,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Which tunnel.
    pub tunnel: Tunnel,
}

/// Decodes a frame.
#[must_use]
pub fn decode<'a>(
    frame: &Frame<'a>,
    number: u64,
    config: &config::Decode,
) -> (Packet<'a>, Option<Inner<'a>>) {
    let mut packet = empty(frame.time_ns, number, frame.bytes);
    packet.wire_bytes = frame.wire_bytes;
    packet.link = frame.link;
    Decoder { packet, inner: None, config }.run(frame.link)
}

/// Decodes what `outer` carries.
#[must_use]
pub fn decode_inner<'a>(
    outer: &Packet<'_>,
    inner: &Inner<'a>,
    config: &config::Decode,
) -> (Packet<'a>, Option<Inner<'a>>) {
    let mut packet = empty(outer.time_ns, outer.number, inner.bytes);
    packet.origin = Origin::Tunnel(inner.tunnel);
    packet.tunnel_depth = outer.tunnel_depth.saturating_add(1);
    packet.is_outside_wrong = outer.is_outside_wrong;
    Decoder { packet, inner: None, config }.run(inner.link)
}

/// Decodes an IP packet that was put together from fragments; `last` is the one that came last.
#[must_use]
pub fn decode_rebuilt<'a>(
    last: &Packet<'_>,
    bytes: &'a [u8],
    config: &config::Decode,
) -> (Packet<'a>, Option<Inner<'a>>) {
    let mut packet = empty(last.time_ns, last.number, bytes);
    packet.origin = Origin::Rebuilt;
    packet.tunnel_depth = last.tunnel_depth;
    packet.is_outside_wrong = last.is_outside_wrong;
    packet.link = last.link;
    packet.vlans = last.vlans;
    packet.ether = last.ether;
    // Counted with what was before its fragments.
    let address = |bytes: &[u8]| bytes.as_ptr().addr();
    let before = last.ip.map_or(0, |ip| address(ip.header).saturating_sub(address(last.data)));
    packet.wire_bytes += u32::try_from(before).unwrap_or(0);
    Decoder { packet, inner: None, config }.run(Link::Raw)
}

/// Decodes a packet once more from other bytes of the same length.
#[must_use]
pub fn decode_again<'a>(
    packet: &Packet<'_>,
    bytes: &'a [u8],
    config: &config::Decode,
) -> Packet<'a> {
    let mut again = empty(packet.time_ns, packet.number, bytes);
    again.wire_bytes = packet.wire_bytes;
    again.link = packet.link;
    again.origin = packet.origin;
    again.tunnel_depth = packet.tunnel_depth;
    let mut link = packet.link;
    if packet.origin == Origin::Rebuilt {
        (again.vlans, again.ether, link) = (packet.vlans, packet.ether, Link::Raw);
    }
    let mut again = Decoder { packet: again, inner: None, config }.run(link).0;
    again.events = packet.events;
    again
}

/// A packet of which nothing is known yet.
pub(crate) fn empty(time_ns: u64, number: u64, data: &[u8]) -> Packet<'_> {
    Packet {
        time_ns,
        number,
        wire_bytes: u32::try_from(data.len()).unwrap_or(u32::MAX),
        data,
        link: Link::Raw,
        ether: None,
        vlans: Vlans::default(),
        ip: None,
        transport: Transport::None,
        payload: &[],
        arp: None,
        events: Events::default(),
        origin: Origin::Wire,
        tunnel_depth: 0,
        is_checksum_wrong: false,
        is_outside_wrong: false,
        is_invalid: false,
        is_carrier: false,
        is_flush: false,
    }
}

/// The packet being made.
struct Decoder<'a, 'c> {
    packet: Packet<'a>,
    inner: Option<Inner<'a>>,
    config: &'c config::Decode,
}

impl<'a> Decoder<'a, '_> {
    fn run(mut self, link: Link) -> (Packet<'a>, Option<Inner<'a>>) {
        self.link(link, self.packet.data);
        (self.packet, self.inner)
    }

    /// Odd, but it can be decoded further.
    const fn note(&mut self, event: Event) {
        self.packet.events.set(event);
    }

    /// Broken: it belongs to no flow.
    const fn reject(&mut self, event: Event) {
        self.packet.events.set(event);
        self.packet.is_invalid = true;
    }

    const fn tunnel(&mut self, tunnel: Tunnel, link: Link, bytes: &'a [u8]) {
        self.inner = Some(Inner { link, bytes, tunnel });
    }
}

/// Two bytes at `at`.
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

/// Four bytes at `at`.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

//! The packet that Suricata makes up where a flow of TCP ends with something left to inspect: alerts
//! of that moment show it.

use std::net::IpAddr;

use hookprobe_traffic::{
    Direction,
    event::Events,
    flow::Flow,
    packet::{Link, Origin, Packet, Transport},
};

const TCP: u8 = 6;
/// Length of a header of TCP without options.
const TCP_BYTES: u16 = 20;
const TTL: u8 = 64;

/// IP and TCP, without a link in front and without a payload; none for other flows.
#[must_use]
pub(super) fn packet(flow: &Flow, direction: Direction) -> Option<Vec<u8>> {
    let session = flow.tcp.as_ref()?;
    let key = match direction {
        Direction::ToServer => flow.key,
        Direction::ToClient => flow.key.reversed(),
    };
    let mut tcp = Vec::with_capacity(usize::from(TCP_BYTES));
    tcp.extend_from_slice(&key.client_port.to_be_bytes());
    tcp.extend_from_slice(&key.server_port.to_be_bytes());
    tcp.extend_from_slice(&session.half(direction).next_seq().to_be_bytes());
    // Nothing is acknowledged, no flag is set, and the window lies the wrong way round.
    tcp.extend_from_slice(&[0, 0, 0, 0, 0x50, 0, 10, 0, 0, 0, 0, 0]);
    let [high, low] = TCP_BYTES.to_be_bytes();
    let (mut out, ends) = match (key.client, key.server) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            let mut out = vec![0x45, 0, 0, 40, 0, 0, 0, 0, TTL, TCP, 0, 0];
            out.extend_from_slice(&ends);
            let sum = checksum(&[&out]);
            put(&mut out, 10, sum);
            (out, ends)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            let mut out = vec![0x60, 0, 0, 0, high, low, TCP, TTL];
            out.extend_from_slice(&ends);
            (out, ends)
        }
        _ => return None,
    };
    let sum = checksum(&[&ends, &[0, TCP, high, low], &tcp]);
    put(&mut tcp, 16, sum);
    out.append(&mut tcp);
    Some(out)
}

fn put(bytes: &mut [u8], at: usize, sum: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.as_chunks::<2>().0);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A packet that stands for the end of a flow.
pub(super) fn end_of(flow: &Flow, now_ns: u64) -> Packet<'static> {
    Packet {
        time_ns: now_ns.max(flow.last_ns),
        number: 0,
        wire_bytes: 0,
        data: &[],
        link: Link::Raw,
        ether: None,
        vlans: flow.vlans,
        ip: None,
        transport: Transport::None,
        payload: &[],
        arp: None,
        events: Events::default(),
        origin: Origin::FlowEnd,
        tunnel_depth: flow.key.tunnel_depth,
        is_checksum_wrong: false,
        is_outside_wrong: false,
        is_invalid: false,
        is_carrier: false,
        is_flush: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum() {
        let header = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
        assert_eq!(checksum(&[&header]), 0x74cb);
    }
}

//! What is counted of one direction of a flow, in as few bytes as it takes: every flow has two.

use super::Side;
use crate::{packet::Packet, zeek::Far};

/// A [`Side`] as it is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    packets: Far,
    bytes: Far,
    ip_bytes: Far,
    payload_bytes: Far,
    ttl: u8,
    ttl_min: u8,
    ttl_max: u8,
}

/// Two for each flow.
const _: () = assert!(size_of::<Counts>() <= 28);

impl Counts {
    /// A packet came.
    pub(super) const fn any(&self) -> bool {
        self.packets.get() > 0
    }

    /// Counts a packet.
    pub(super) fn add(&mut self, packet: &Packet<'_>) {
        if let Some(ip) = &packet.ip {
            self.ip_bytes.add(u64::from(ip.total_bytes));
            self.ttl = ip.ttl;
            self.ttl_min = if self.any() { self.ttl_min.min(ip.ttl) } else { ip.ttl };
            self.ttl_max = self.ttl_max.max(ip.ttl);
        }
        self.packets.add(1);
        self.bytes.add(u64::from(packet.wire_bytes));
        self.payload_bytes.add(packet.payload.len() as u64);
    }

    /// For who asks.
    pub(super) const fn side(&self) -> Side {
        Side {
            packets: self.packets.count(),
            bytes: self.bytes.count(),
            ip_bytes: self.ip_bytes.count(),
            payload_bytes: self.payload_bytes.count(),
            ttl: self.ttl,
            ttl_min: self.ttl_min,
            ttl_max: self.ttl_max,
        }
    }
}

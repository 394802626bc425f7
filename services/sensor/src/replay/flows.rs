//! Conversations of a capture, both directions together, for EVE.

use hookprobe_abi::FlowKey;

use super::packet::Observed;
use crate::core::table::Table;

/// Most conversations at once; the one longest without a packet is written out early.
const FLOWS_MAX: usize = 32_768;

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Direction of its first packet.
    pub key: FlowKey,
    /// Packets there and back.
    pub packets: [u64; 2],
    /// Bytes there and back.
    pub bytes: [u64; 2],
    /// Time of its first packet.
    pub first_ns: u64,
    /// Time of its last packet.
    pub last_ns: u64,
    /// TCP flags, ORed.
    pub tcp_flags: u8,
}

/// All conversations that are not over.
#[derive(Debug)]
pub struct Flows {
    table: Table<Key, Flow>,
}

/// Ordered form of a [`FlowKey`].
type Key = ([u8; 16], [u8; 16], u16, u16, u8);

fn ordered(key: &FlowKey) -> Key {
    (key.source, key.destination, key.source_port, key.destination_port, key.protocol)
}

fn reversed(key: &FlowKey) -> Key {
    (key.destination, key.source, key.destination_port, key.source_port, key.protocol)
}

impl Default for Flows {
    fn default() -> Self {
        Self { table: Table::new(FLOWS_MAX) }
    }
}

impl Flows {
    /// Counts a packet. Whether it is the first in its direction, and a conversation that had to
    /// make room.
    pub fn observe(&mut self, time_ns: u64, observed: &Observed) -> (bool, Option<Flow>) {
        let (there, back) = (ordered(&observed.key), reversed(&observed.key));
        let (key, way) = if !self.table.contains(&there) && self.table.contains(&back) {
            (back, 1)
        } else {
            (there, 0)
        };
        if let Some(flow) = self.table.touch(&key) {
            let is_first = flow.packets.get(way) == Some(&0);
            flow.count(way, time_ns, observed);
            return (is_first, None);
        }
        let mut flow = Flow {
            key: observed.key,
            packets: [0; 2],
            bytes: [0; 2],
            first_ns: time_ns,
            last_ns: time_ns,
            tcp_flags: 0,
        };
        flow.count(way, time_ns, observed);
        let evicted = self.table.insert(key, flow);
        (true, evicted.map(|(_, flow)| flow))
    }

    /// Takes the conversation out that is longest without a packet.
    pub fn pop(&mut self) -> Option<Flow> {
        self.table.pop_oldest().map(|(_, flow)| flow)
    }
}

impl Flow {
    fn count(&mut self, way: usize, time_ns: u64, observed: &Observed) {
        if let (Some(packets), Some(bytes)) = (self.packets.get_mut(way), self.bytes.get_mut(way)) {
            *packets += 1;
            *bytes += u64::from(observed.bytes);
        }
        self.first_ns = self.first_ns.min(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
        self.tcp_flags |= observed.tcp_flags;
    }
}

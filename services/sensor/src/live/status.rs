//! What clients are told: counters, losses, the most active flows, what is wrong.

use hookprobe_abi::{self as abi, FlowKey, FlowStat};
use hookprobe_wire::sensor::{Counter, FLOWS_MAX, Flow};

use crate::{
    clock::{boot_ns, monotonic_ns},
    core::{TimeNs, address::to_ip},
    object::Maps,
};

/// How long a list of flows is used again. 1 s: reading the table costs thousands of system calls,
/// and consoles draw twice a second.
const FLOWS_AGE_NS_MAX: TimeNs = 1_000_000_000;
/// A flow without a packet for this long is not active. 30 s: keep-alives come that often.
const IDLE_NS_MAX: TimeNs = 30_000_000_000;
/// Most entries read at once, against a table that changes while it is read: all of it, twice.
const READ4_MAX: usize = 2 * abi::FLOW_ENTRIES_MAX as usize;
/// The same of the other table.
const READ6_MAX: usize = 2 * abi::FLOW6_ENTRIES_MAX as usize;

/// The most active flows, remembered for a moment.
#[derive(Debug, Default)]
pub struct TopFlows {
    read_ns: TimeNs,
    flows: Vec<Flow>,
}

impl TopFlows {
    /// At most [`FLOWS_MAX`], most packets first.
    pub fn get(&mut self, maps: &Maps) -> Vec<Flow> {
        let now_ns = boot_ns();
        if self.read_ns == 0 || now_ns.saturating_sub(self.read_ns) >= FLOWS_AGE_NS_MAX {
            let v4 = maps.flows4.iter().take(READ4_MAX).filter_map(|entry| {
                let (key, copies) = entry.ok()?;
                Some((FlowKey::from(key), merge(&copies)))
            });
            let v6 = maps.flows6.iter().take(READ6_MAX).filter_map(|entry| {
                let (key, copies) = entry.ok()?;
                Some((key, merge(&copies)))
            });
            self.flows = top(v4.chain(v6), monotonic_ns());
            self.read_ns = now_ns;
        }
        self.flows.clone()
    }
}

/// The copies of all CPUs as one.
fn merge(copies: &[FlowStat]) -> FlowStat {
    let mut whole = FlowStat::default();
    for copy in copies.iter().filter(|copy| copy.packets > 0) {
        whole.first_ns =
            if whole.packets == 0 { copy.first_ns } else { whole.first_ns.min(copy.first_ns) };
        whole.packets = whole.packets.saturating_add(copy.packets);
        whole.bytes = whole.bytes.saturating_add(copy.bytes);
        whole.last_coarse_ns = whole.last_coarse_ns.max(copy.last_coarse_ns);
        whole.tcp_flags |= copy.tcp_flags;
    }
    whole
}

fn top(entries: impl Iterator<Item = (FlowKey, FlowStat)>, now_ns: TimeNs) -> Vec<Flow> {
    let mut active: Vec<(FlowKey, FlowStat)> = entries
        .filter(|(_, stat)| now_ns.saturating_sub(stat.last_coarse_ns) < IDLE_NS_MAX)
        .collect();
    active.sort_by_key(|(_, stat)| std::cmp::Reverse((stat.packets, stat.bytes)));
    active.truncate(FLOWS_MAX);
    let flow = |(key, stat): (FlowKey, FlowStat)| Flow {
        source: to_ip(&key.source),
        destination: to_ip(&key.destination),
        protocol: key.protocol,
        source_port: key.source_port,
        destination_port: key.destination_port,
        packets: stat.packets,
        bytes: stat.bytes,
        idle_ms: now_ns.saturating_sub(stat.last_coarse_ns) / 1_000_000,
    };
    active.into_iter().map(flow).collect()
}

/// The counters of the eBPF programs, by name.
#[must_use]
pub fn kernel_counters(maps: &Maps) -> Vec<Counter> {
    let values = maps.counters().unwrap_or([0; abi::COUNTERS]);
    abi::Counter::ALL.iter().zip(values).map(|((_, name), value)| named(name, value)).collect()
}

/// A named number for the wire.
#[must_use]
pub fn named(name: &str, value: u64) -> Counter {
    Counter { name: name.into(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(packets: u64, first_ns: TimeNs, last_coarse_ns: TimeNs) -> FlowStat {
        FlowStat { packets, bytes: packets * 100, first_ns, last_coarse_ns, ..FlowStat::default() }
    }

    #[test]
    fn cpus_are_added_and_the_unused_ones_ignored() {
        let whole = merge(&[stat(2, 50, 60), FlowStat::default(), stat(3, 40, 45)]);
        assert_eq!(whole, stat(5, 40, 60));
    }

    #[test]
    fn most_packets_first_idle_left_out() {
        let key = |port| FlowKey { source_port: port, ..FlowKey::default() };
        let now_ns = 60_000_000_000;
        let entries = (0..100_u16).map(|port| (key(port), stat(u64::from(port), 0, now_ns)));
        let idle = std::iter::once((key(999), stat(1_000_000, 0, 1)));
        let flows = top(entries.chain(idle), now_ns);
        assert_eq!(flows.len(), FLOWS_MAX);
        assert_eq!(flows[0].source_port, 99);
    }
}

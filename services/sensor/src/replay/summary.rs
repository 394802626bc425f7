//! What a replay saw.

use std::fmt;

use crate::outputs::time;

/// Counters that say that something was lost.
const LOSSES: &[&str] = &[
    "packets_invalid",
    "packets_too_deep",
    "defrag_timeouts",
    "defrag_evicted",
    "defrag_dropped",
    "flows_evicted",
    "flows_given_up",
    "checksum_wrong",
    "stream_refused",
    "stream_no_session",
    "gaps",
    "gap_bytes",
    "reassembly_memory",
    "reassembly_limit",
    "app_cut_bytes",
    "app_dropped",
    "history_cut",
    "zeek_weird_unwritten",
    "eve_flows_incomplete",
    "alert_queue_overflow",
    "host_bits_dropped",
    "members_dropped",
    "tags_dropped",
    "findings_dropped",
    "rules_failed",
];

/// Numbers of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Packets that are neither IPv4 nor IPv6, or of a link type that is not read.
    pub other: u64,
    /// Packets with headers that are cut short or contradict themselves.
    pub malformed: u64,
    /// Records that the eBPF programs would have sent.
    pub records: u64,
    /// Flows that have ended.
    pub flows: u64,
    /// Alerts of rules and detectors.
    pub alerts: u64,
    /// Time of the first packet.
    pub first_ns: Option<u64>,
    /// Time of the last packet.
    pub last_ns: u64,
    /// Every counter, by group.
    pub groups: Vec<(&'static str, Vec<(&'static str, u64)>)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} packets ({} not IP, {} malformed), {} records, {} flows, {} alerts",
            self.packets, self.other, self.malformed, self.records, self.flows, self.alerts
        )?;
        if let Some(first_ns) = self.first_ns {
            writeln!(f, "{} to {}", time::eve(first_ns), time::eve(self.last_ns))?;
        }
        let all = || self.groups.iter().flat_map(|(_, numbers)| numbers).filter(|(_, n)| *n > 0);
        let is_loss = |name: &str| LOSSES.contains(&name) || name.contains("evicted");
        for (title, wants_losses) in [("seen", false), ("lost", true)] {
            write!(f, "{title}:")?;
            for (name, number) in all().filter(|(name, _)| is_loss(name) == wants_losses) {
                write!(f, " {name}={number}")?;
            }
            if wants_losses && !all().any(|(name, _)| is_loss(name)) {
                write!(f, " nothing")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_their_own_line() {
        let mut summary = Summary { packets: 3, ..Summary::default() };
        assert!(summary.to_string().ends_with("seen:\nlost: nothing\n"), "{summary}");
        summary.groups =
            vec![("engine", vec![("frames", 3), ("gaps", 2), ("flows", 0), ("peers_evicted", 1)])];
        assert!(
            summary.to_string().ends_with("seen: frames=3\nlost: gaps=2 peers_evicted=1\n"),
            "{summary}"
        );
    }
}

//! `scan.sweep`: who asks many hosts whether they are there.
//!
//! Method. Distinct hosts that a source sent ICMP or ICMPv6 requests to (echo; for IPv4 timestamp
//! and address mask as well, which nmap -sn uses) in a sliding window of at most
//! [`Limits::window_ns`]. Not the walk: a sweep of a full network gets many answers. A monitor that
//! asks the same hosts day after day sweeps too; it is told once, then its hosts are known and
//! only new ones count.
//!
//! Reference: nmap, "Host Discovery"; Slips reports a sweep from 5 hosts on, here it is 10 because
//! a phone that looks for its friends asks a handful.

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count},
    observation::{Connection, DAY_NS, MINUTE_NS, Observation, Protocol, TimeNs},
    sketch::Distinct,
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Distinct hosts that make a sweep.
    pub hosts_min: u64,
    /// Time in which they must be asked. 5 min, as Zeek's scan windows.
    pub window_ns: TimeNs,
    /// How long hosts that were asked are known. A day.
    pub memory_ns_max: TimeNs,
    /// Sources; the one longest silent is forgotten. At most 1.2 KB each: 2.4 MB.
    pub sources_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hosts_min: 10, window_ns: 5 * MINUTE_NS, memory_ns_max: DAY_NS, sources_max: 2048 }
    }
}

#[derive(Debug, Clone, Default)]
struct Source {
    /// All hosts that were asked since `known_ns`.
    known: Distinct,
    known_ns: TimeNs,
    /// New hosts in this window.
    fresh: u64,
    answered: u64,
    window_ns: TimeNs,
    told_ns: Option<TimeNs>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Sweeps {
    limits: Limits,
    sources: Table<IpAddr, Source>,
    requests: u64,
    suppressed: u64,
    findings: u64,
}

impl Sweeps {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        let sources = Table::new(seed, limits.sources_max);
        Self { limits, sources, requests: 0, suppressed: 0, findings: 0 }
    }

    /// Takes one fact.
    pub fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>) {
        match fact {
            Observation::Started(connection) if is_request(connection) => {
                self.asked(now_ns, connection, out);
            }
            Observation::Answered(connection, _) if is_request(connection) => {
                if let Some(source) = self.sources.get_mut(&connection.source) {
                    source.answered += 1;
                }
            }
            // A connection log has no begins.
            Observation::Ended(connection) if is_request(connection) => {
                self.asked(now_ns, connection, out);
            }
            _ => {}
        }
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("sweep_requests", self.requests),
            ("sweep_suppressed", self.suppressed),
            ("sweep_findings", self.findings),
            ("sweep_sources", count(self.sources.len())),
            ("sweep_sources_evicted", self.sources.evicted()),
        ]
    }

    fn asked(&mut self, now_ns: TimeNs, connection: &Connection<'_>, out: &mut Vec<Finding>) {
        self.requests += 1;
        let limits = self.limits;
        let begin = || Source { known_ns: now_ns, window_ns: now_ns, ..Source::default() };
        let Some(source) = self.sources.entry(&connection.source, begin) else {
            return;
        };
        if now_ns.saturating_sub(source.known_ns) >= limits.memory_ns_max {
            *source = begin();
        }
        if now_ns.saturating_sub(source.window_ns) >= limits.window_ns {
            (source.fresh, source.answered, source.window_ns) = (0, 0, now_ns);
        }
        if !source.known.add(&connection.destination) {
            return;
        }
        source.fresh += 1;
        if source.fresh < limits.hosts_min {
            return;
        }
        if source.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < limits.memory_ns_max) {
            self.suppressed += 1;
            return;
        }
        source.told_ns = Some(now_ns);
        self.findings += 1;
        let span_ns = now_ns.saturating_sub(source.window_ns);
        let summary = format!(
            "{} sweeps the network: asked {} hosts by ICMP in {} s",
            connection.source,
            source.fresh,
            span_ns.div_ceil(crate::observation::SECOND_NS),
        );
        let evidence = vec![
            ("distinct_hosts", source.fresh),
            ("answered", source.answered),
            ("hosts_min", limits.hosts_min),
            ("span_ms", span_ns / 1_000_000),
        ];
        out.push(
            Finding::new("scan.sweep", "T1018", Weight::Suspicion, connection.source, summary)
                .by(connection.source_mac)
                .during(source.window_ns, now_ns)
                .because(evidence),
        );
    }
}

/// Echo, timestamp and mask requests; echo requests of ICMPv6.
fn is_request(connection: &Connection<'_>) -> bool {
    let types: &[u16] = if connection.source.is_ipv4() { &[8, 13, 17] } else { &[128] };
    connection.protocol == Protocol::Icmp && types.contains(&connection.source_port)
}

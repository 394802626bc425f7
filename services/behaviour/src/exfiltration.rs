//! `exfiltration`: a host sends far more to one place than it usually sends to all.
//!
//! Method. Payload to each external peer in 24 hours, judged when it is at least
//! [`Limits::bytes_min`], when the exchange is one-sided (producer/consumer ratio, (sent - received)
//! / (sent + received), at least [`Limits::ratio_min`]) and when it is [`Limits::factor`] times what
//! the host sent altogether on its busiest of the days before. A host that is not known for
//! [`Limits::days_min`] days needs [`Limits::unknown_factor`] times as many bytes. A peer that half
//! of the network uses (a backup, a file share) is no news.
//!
//! A suspicion: moving into a new cloud looks the same. Slow leaks below the threshold, and those
//! that hide in an exchange of both directions, are not found.
//!
//! References: Bullard, Gerth, "PCR: A New Flow Metric", FloCon 2014 (0.4 to 1 is a sender);
//! MITRE ATT&CK T1048.

use std::net::IpAddr;

use crate::{
    baseline::Baseline,
    finding::{Finding, Weight, count, thousandths},
    network::Networks,
    observation::{Connection, DAY_NS, Observation, TimeNs},
    peer::{self, Peer},
    prevalence::Prevalence,
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes to one peer in a day. 200 MB: photographs of an evening are less.
    pub bytes_min: u64,
    /// Producer/consumer ratio.
    pub ratio_min: f64,
    /// Times the busiest day.
    pub factor: f64,
    /// Days after which a host is known.
    pub days_min: u32,
    /// Times `bytes_min` for a host that is not known.
    pub unknown_factor: u64,
    /// Pairs; the one longest silent is forgotten. About 130 bytes each: 2 MB.
    pub pairs_max: usize,
    /// Hosts; the one longest silent is forgotten. About 130 bytes each.
    pub hosts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_min: 200_000_000,
            ratio_min: 0.6,
            factor: 5.0,
            days_min: 3,
            unknown_factor: 10,
            pairs_max: 16_384,
            hosts_max: 4096,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Pair {
    begin_ns: TimeNs,
    sent_bytes: u64,
    received_bytes: u64,
    is_told: bool,
}

#[derive(Debug, Clone, Default)]
struct Host {
    begin_ns: TimeNs,
    sent_bytes: u64,
    days: Baseline,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Exfiltrations {
    limits: Limits,
    pairs: Table<(IpAddr, Peer), Pair>,
    hosts: Table<IpAddr, Host>,
    findings: u64,
}

impl Exfiltrations {
    /// Knows nobody.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        let (pairs, hosts) =
            (Table::new(seed, limits.pairs_max), Table::new(seed, limits.hosts_max));
        Self { limits, pairs, hosts, findings: 0 }
    }

    /// Takes one fact.
    pub fn handle(
        &mut self,
        now_ns: TimeNs,
        fact: &Observation<'_>,
        networks: &Networks,
        prevalence: &Prevalence,
        out: &mut Vec<Finding>,
    ) {
        let (Observation::Ended(connection) | Observation::Continued(connection)) = fact else {
            return;
        };
        let is_outbound =
            networks.is_internal(connection.source) && networks.is_external(connection.destination);
        let new = connection.sent_bytes_new.saturating_add(connection.received_bytes_new);
        if !is_outbound || new == 0 {
            return;
        }
        let peer = Peer::of(connection);
        let make = || Host { begin_ns: now_ns, ..Host::default() };
        let Some(host) = self.hosts.entry(&connection.source, make) else {
            return;
        };
        host.send(now_ns, connection.sent_bytes_new);
        let key = (connection.source, peer);
        let make = || Pair { begin_ns: now_ns, ..Pair::default() };
        let Some(pair) = self.pairs.entry(&key, make) else {
            return;
        };
        pair.add(now_ns, connection);
        if pair.is_told || prevalence.is_common(peer) || !pair.is_much(host, &self.limits) {
            return;
        }
        pair.is_told = true;
        self.findings += 1;
        out.push(pair.finding(now_ns, connection, host));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("exfiltration_pairs", count(self.pairs.len())),
            ("exfiltration_findings", self.findings),
            ("exfiltration_pairs_evicted", self.pairs.evicted()),
            ("exfiltration_hosts_evicted", self.hosts.evicted()),
        ]
    }
}

impl Host {
    fn send(&mut self, now_ns: TimeNs, bytes: u64) {
        if now_ns.saturating_sub(self.begin_ns) >= DAY_NS {
            self.days.learn(self.sent_bytes as f64);
            (self.begin_ns, self.sent_bytes) = (now_ns, 0);
        }
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
    }
}

impl Pair {
    fn add(&mut self, now_ns: TimeNs, connection: &Connection<'_>) {
        if now_ns.saturating_sub(self.begin_ns) >= DAY_NS {
            *self = Self { begin_ns: now_ns, ..Self::default() };
        }
        self.sent_bytes = self.sent_bytes.saturating_add(connection.sent_bytes_new);
        self.received_bytes = self.received_bytes.saturating_add(connection.received_bytes_new);
    }

    fn ratio(&self) -> f64 {
        let (sent, received) = (self.sent_bytes as f64, self.received_bytes as f64);
        (sent - received) / (sent + received).max(1.0)
    }

    fn is_much(&self, host: &Host, limits: &Limits) -> bool {
        let is_known = host.days.periods() >= limits.days_min;
        let unusual = if is_known {
            self.sent_bytes as f64 >= limits.factor * host.days.highest()
        } else {
            self.sent_bytes >= limits.bytes_min.saturating_mul(limits.unknown_factor)
        };
        self.sent_bytes >= limits.bytes_min && self.ratio() >= limits.ratio_min && unusual
    }

    fn finding(&self, now_ns: TimeNs, connection: &Connection<'_>, host: &Host) -> Finding {
        let source = connection.source;
        let megabytes = self.sent_bytes / 1_000_000;
        let summary = format!("{source} sent {megabytes} MB to {}", peer::word(connection));
        let finding = Finding::new("exfiltration", "T1048", Weight::Suspicion, source, summary)
            .by(connection.source_mac)
            .against(Some(connection.destination), Some(connection.destination_port))
            .during(self.begin_ns, now_ns)
            .because(vec![
                ("sent_bytes", self.sent_bytes),
                ("received_bytes", self.received_bytes),
                ("ratio_x1000", thousandths(self.ratio())),
                ("busiest_day_bytes", host.days.highest().round() as u64),
                ("known_days", u64::from(host.days.periods())),
            ]);
        match connection.server_name {
            Some(_) => finding.about(peer::word(connection)),
            None => finding,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observation::HOUR_NS, prevalence, testing::connection};

    /// Megabytes sent and received in each hour; the findings.
    fn run(hours: impl IntoIterator<Item = (u64, u64)>) -> Vec<Finding> {
        let mut detector = Exfiltrations::new(Seed(1), Limits::default());
        let prevalence = Prevalence::new(Seed(1), prevalence::Limits::default());
        let mut out = Vec::new();
        for (hour, (sent, received)) in hours.into_iter().enumerate() {
            let mut upload = connection("10.0.0.5", "203.0.113.9", 443);
            upload.sent_bytes_new = sent * 1_000_000;
            upload.received_bytes_new = received * 1_000_000;
            let fact = Observation::Ended(upload);
            let networks = Networks::default();
            detector.handle(count(hour) * HOUR_NS, &fact, &networks, &prevalence, &mut out);
        }
        out
    }

    #[test]
    fn a_night_of_uploads_is_told_once() {
        let usual = (0..24 * 5).map(|_| (1, 5));
        let found = run(usual.chain((0..8).map(|_| (100, 1))));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].weight, Weight::Suspicion);
    }

    #[test]
    fn downloads_and_what_is_done_each_day_are_nobody() {
        assert_eq!(run((0..24 * 10).map(|_| (2, 500))), []);
        assert_eq!(
            run((0..24 * 10).map(|hour| if hour % 24 == 3 { (900, 1) } else { (0, 0) })),
            []
        );
    }
}

//! `beacon`: a host that reports to the same place like a clock.
//!
//! Method. The connections of each pair (internal host, external peer by name or address) of the
//! last 24 hours are scored by RITA version 5's formulas, see [`score`]; the score becomes a threat
//! by RITA's steps (50 %, 70 %, 90 % of a perfect score are 0.2, 0.4, 0.6 of a threat, 100 % is 0.8),
//! to which [`crate::prevalence`] adds or takes 0.15 each for how many hosts talk to the peer and
//! since when. From [`Limits::threat_min`] on it is told, once per pair and day.
//!
//! The window is RITA's: from the full hour 24 hours before the last connection of anybody, or from
//! the first connection seen if that is later; so a short capture is scored by its own length. A
//! pair is scored when its connections have doubled and at most once an hour, so a busy network has
//! no hour at which everything stands still; [`Beacons::finish`] scores what is left.
//!
//! What it can't know: regular is not malicious. Updates, telemetry and mail clients are clocks as
//! well, therefore a beacon is a suspicion and never blocks alone. Name service, NTP and DHCP are
//! left out.

pub mod score;

use std::{collections::VecDeque, net::IpAddr};

use self::score::{Sample, Score, score};
use crate::{
    finding::{Finding, Weight, count, thousandths},
    network::Networks,
    observation::{Connection, DAY_NS, HOUR_NS, Observation, Protocol, SECOND_NS, Service, TimeNs},
    peer::{self, Peer},
    prevalence::Prevalence,
    table::{Seed, Table},
};

const HOUR_S: u32 = 3600;
const DAY_S: u32 = 24 * HOUR_S;

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections before a pair is scored. RITA: 4; 32 here because a finding is told at once, not
    /// listed for an analyst.
    pub connections_min: usize,
    /// Time that the window must span. 10 min: less is a page that reloads itself.
    pub window_s_min: u32,
    /// Threat from which a pair is told. 0.6: RITA's "high".
    pub threat_min: f64,
    /// Whether connections from outside to inside are judged. Off, as RITA's default filter: they
    /// are monitors and crawlers.
    pub is_inbound_judged: bool,
    /// Pairs; the one longest without a connection is forgotten.
    pub pairs_max: usize,
    /// Connections kept per pair; the oldest goes and the pair's window begins at the next one. A
    /// connection each 21 s for a day. 48 KB at most.
    pub samples_max: usize,
    /// Connections kept in all pairs together; the oldest pair goes. 12 bytes each: 6 MB.
    pub samples_total_max: usize,
    /// Open connections of a pair whose length counts.
    pub open_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_min: 32,
            window_s_min: 600,
            threat_min: 0.6,
            is_inbound_judged: false,
            // About 250 bytes each: 4 MB.
            pairs_max: 16_384,
            samples_max: 4096,
            samples_total_max: 524_288,
            open_max: 8,
        }
    }
}

/// An open connection: ports, begin, length so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    ports: (u16, u16),
    began_ns: TimeNs,
    duration_ns: TimeNs,
}

#[derive(Debug, Clone)]
struct Pair {
    samples: VecDeque<Sample>,
    open: Vec<Open>,
    /// The oldest sample had to go: the window begins with what is left.
    is_cut: bool,
    next_count: usize,
    next_ns: TimeNs,
    told_ns: Option<TimeNs>,
    destination: IpAddr,
    port: u16,
    name: Option<Box<str>>,
}

/// What is known about a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Connections in the window.
    pub connections: usize,
    /// Their lengths, open ones included, in seconds.
    pub duration_s: f64,
    /// Their score, if there are enough.
    pub score: Option<Score>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Beacons {
    limits: Limits,
    pairs: Table<(IpAddr, Peer), Pair>,
    samples: usize,
    /// Begin of the earliest and of the latest connection of anybody.
    span_s: Option<(u32, u32)>,
    scored: u64,
    cut: u64,
    findings: u64,
    pairs_evicted: u64,
}

impl Beacons {
    /// Knows no pair yet.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self {
            pairs: Table::new(seed, limits.pairs_max),
            samples: 0,
            span_s: None,
            scored: 0,
            cut: 0,
            findings: 0,
            pairs_evicted: 0,
            limits,
        }
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
        let (connection, is_over) = match fact {
            Observation::Ended(connection) => (connection, true),
            Observation::Continued(connection) => (connection, false),
            _ => return,
        };
        if !self.is_judged(connection, networks) {
            return;
        }
        let began_s = seconds(connection.first_ns);
        if is_over {
            let (first, last) = self.span_s.unwrap_or((began_s, began_s));
            self.span_s = Some((first.min(began_s), last.max(began_s)));
        }
        let key = (connection.source, Peer::of(connection));
        self.keep(&key, connection, is_over);
        self.shrink(&key);
        if is_over && self.is_due(now_ns, &key) {
            self.judge(now_ns, &key, prevalence, out);
        }
    }

    /// Scores every pair: the input is over.
    pub fn finish(&mut self, now_ns: TimeNs, prevalence: &Prevalence, out: &mut Vec<Finding>) {
        let keys: Vec<_> = self.pairs.iter().map(|(key, _)| *key).collect();
        for key in keys {
            self.judge(now_ns, &key, prevalence, out);
        }
    }

    /// What is known about a pair.
    #[must_use]
    pub fn summary(&self, source: IpAddr, peer: Peer) -> Option<Summary> {
        let pair = self.pairs.get(&(source, peer))?;
        let (begin_s, window_s) = self.window(pair)?;
        let samples: Vec<Sample> =
            pair.samples.iter().copied().filter(|sample| sample.at_s >= begin_s).collect();
        let closed_ms: u64 = samples.iter().map(|sample| u64::from(sample.duration_ms)).sum();
        let open_ns: u64 = pair.open.iter().map(|open| open.duration_ns).sum();
        Some(Summary {
            connections: samples.len(),
            duration_s: closed_ms as f64 / 1e3 + open_ns as f64 / SECOND_NS as f64,
            score: score(&samples, window_s),
        })
    }

    /// Named counters since the start, losses included.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("beacon_pairs", count(self.pairs.len())),
            ("beacon_samples", count(self.samples)),
            ("beacon_scored", self.scored),
            ("beacon_findings", self.findings),
            ("beacon_pairs_cut", self.cut),
            ("beacon_pairs_evicted", self.pairs_evicted),
        ]
    }

    fn is_judged(&self, connection: &Connection<'_>, networks: &Networks) -> bool {
        let is_clockwork =
            matches!(
                connection.service,
                Service::Dns | Service::Mdns | Service::Ntp | Service::Dhcp
            ) || matches!(connection.destination_port, 53 | 67 | 68 | 123 | 853 | 5353 | 5355);
        let inside = networks.is_internal(connection.source);
        let direction = if inside {
            networks.is_external(connection.destination)
        } else {
            self.limits.is_inbound_judged && networks.is_internal(connection.destination)
        };
        let is_transport = matches!(connection.protocol, Protocol::Tcp | Protocol::Udp);
        is_transport && !is_clockwork && direction
    }

    /// Adds a connection to its pair.
    fn keep(&mut self, key: &(IpAddr, Peer), connection: &Connection<'_>, is_over: bool) {
        if !self.pairs.contains(key) {
            if self.pairs.len() >= self.limits.pairs_max {
                self.forget_oldest();
            }
            self.pairs.insert(*key, Pair::new(connection, self.limits.connections_min));
        }
        let limits = self.limits;
        let Some(pair) = self.pairs.touch(key) else {
            return;
        };
        let open = Open::of(connection);
        if !is_over {
            if let Some(held) = pair.open.iter_mut().find(|held| held.is(&open)) {
                *held = open;
            } else if pair.open.len() < limits.open_max {
                pair.open.push(open);
            }
            return;
        }
        pair.open.retain(|held| !held.is(&open));
        pair.samples.push_back(Sample {
            at_s: seconds(connection.first_ns),
            sent_bytes: u32::try_from(connection.sent.ip_bytes).unwrap_or(u32::MAX),
            duration_ms: u32::try_from(open.duration_ns.saturating_add(500_000) / 1_000_000)
                .unwrap_or(u32::MAX),
        });
        self.samples += 1;
        if pair.samples.len() > limits.samples_max {
            pair.samples.pop_front();
            self.samples -= 1;
            self.cut += u64::from(!pair.is_cut);
            pair.is_cut = true;
        }
    }

    /// Drops what left the window of this pair, and the oldest pairs when all are too many.
    fn shrink(&mut self, key: &(IpAddr, Peer)) {
        if let Some((_, last_s)) = self.span_s
            && let Some(pair) = self.pairs.get_mut(key)
        {
            let begin_s = hour(last_s.saturating_sub(DAY_S));
            while pair.samples.front().is_some_and(|sample| sample.at_s < begin_s) {
                pair.samples.pop_front();
                self.samples -= 1;
            }
        }
        while self.samples > self.limits.samples_total_max && self.pairs.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, pair)) = self.pairs.pop_oldest() {
            self.samples -= pair.samples.len();
            self.pairs_evicted += 1;
        }
    }

    fn is_due(&mut self, now_ns: TimeNs, key: &(IpAddr, Peer)) -> bool {
        let connections_min = self.limits.connections_min;
        let Some(pair) = self.pairs.get_mut(key) else {
            return false;
        };
        let kept = pair.samples.len();
        let is_due = kept >= connections_min && (kept >= pair.next_count || now_ns >= pair.next_ns);
        if is_due {
            pair.next_count = kept.saturating_mul(2);
            pair.next_ns = now_ns.saturating_add(HOUR_NS);
        }
        is_due
    }

    /// First second that counts, and the window of the histogram.
    fn window(&self, pair: &Pair) -> Option<(u32, (u32, u32))> {
        let (first_s, last_s) = self.span_s?;
        let day_s = last_s.saturating_sub(DAY_S);
        if pair.is_cut {
            let kept_s = pair.samples.iter().map(|sample| sample.at_s).min()?;
            return Some((kept_s, (kept_s.max(day_s), last_s)));
        }
        Some((hour(day_s), (first_s.max(day_s), last_s)))
    }

    fn judge(
        &mut self,
        now_ns: TimeNs,
        key: &(IpAddr, Peer),
        prevalence: &Prevalence,
        out: &mut Vec<Finding>,
    ) {
        let (source, peer) = *key;
        let Some(pair) = self.pairs.get(key) else {
            return;
        };
        let is_told = pair.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < DAY_NS);
        if is_told || pair.samples.len() < self.limits.connections_min {
            return;
        }
        let Some((_, (begin_s, end_s))) = self.window(pair) else {
            return;
        };
        if end_s.saturating_sub(begin_s) < self.limits.window_s_min {
            return;
        }
        let Some(summary) = self.summary(source, peer) else {
            return;
        };
        self.scored += 1;
        let Some(score) = summary.score else {
            return;
        };
        let prevalent = prevalence.step(peer);
        let age = prevalence.age_step(now_ns, peer);
        let threat = threat(score.total) + prevalent + age;
        if summary.connections < self.limits.connections_min || threat < self.limits.threat_min {
            return;
        }
        let share = prevalence.share(peer);
        let finding = pair.finding(source, &summary, &score, (begin_s, end_s), now_ns);
        let mut evidence = finding.evidence.clone();
        evidence.extend([
            ("threat_x1000", thousandths(threat)),
            ("prevalence_x1000", thousandths(share.unwrap_or(0.0))),
            ("network_hosts", prevalence.hosts()),
        ]);
        out.push(finding.because(evidence));
        self.findings += 1;
        if let Some(pair) = self.pairs.get_mut(key) {
            pair.told_ns = Some(now_ns);
        }
    }
}

impl Open {
    fn of(connection: &Connection<'_>) -> Self {
        Self {
            ports: (connection.source_port, connection.destination_port),
            began_ns: connection.first_ns,
            duration_ns: connection.last_ns.saturating_sub(connection.first_ns),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.ports == other.ports && self.began_ns == other.began_ns
    }
}

impl Pair {
    fn new(connection: &Connection<'_>, connections_min: usize) -> Self {
        Self {
            samples: VecDeque::new(),
            open: Vec::new(),
            is_cut: false,
            next_count: connections_min,
            next_ns: 0,
            told_ns: None,
            destination: connection.destination,
            port: connection.destination_port,
            name: connection.server_name.map(|_| peer::word(connection).into_boxed_str()),
        }
    }

    fn finding(
        &self,
        source: IpAddr,
        summary: &Summary,
        score: &Score,
        (begin_s, end_s): (u32, u32),
        now_ns: TimeNs,
    ) -> Finding {
        let whom = self.name.as_deref().map_or_else(|| self.destination.to_string(), String::from);
        let text = format!(
            "{source} reports to {whom} every {} s: {} connections, score {:.3}",
            score.interval_s, summary.connections, score.total,
        );
        let finding = Finding::new("beacon", "T1071", Weight::Suspicion, source, text)
            .against(Some(self.destination), Some(self.port))
            .during(u64::from(begin_s) * SECOND_NS, now_ns)
            .because(vec![
                ("score_x1000", thousandths(score.total)),
                ("timestamp_x1000", thousandths(score.timestamp)),
                ("data_size_x1000", thousandths(score.data_size)),
                ("histogram_x1000", thousandths(score.histogram)),
                ("duration_x1000", thousandths(score.duration)),
                ("connections", count(summary.connections)),
                ("interval_ms", thousandths(score.interval_s)),
                ("jitter_ms", thousandths(score.jitter_s)),
                ("size_bytes", score.size_bytes.round() as u64),
                ("total_duration_s", summary.duration_s.round() as u64),
                ("window_s", u64::from(end_s.saturating_sub(begin_s))),
            ]);
        match &self.name {
            Some(name) => finding.about(name.to_string()),
            None => finding,
        }
    }
}

/// RITA's steps from a score to a threat.
fn threat(score: f64) -> f64 {
    const STEPS: [(f64, f64); 4] = [(0.5, 0.2), (0.7, 0.4), (0.9, 0.6), (1.0, 0.8)];
    let mut below: Option<(f64, f64)> = None;
    for (at, threat) in STEPS {
        if score < at {
            return below
                .map_or(0.0, |(low, base)| base + (score - low) / (at - low) * (threat - base));
        }
        below = Some((at, threat));
    }
    0.8
}

fn seconds(at_ns: TimeNs) -> u32 {
    u32::try_from(at_ns / SECOND_NS).unwrap_or(u32::MAX)
}

fn hour(at_s: u32) -> u32 {
    at_s / HOUR_S * HOUR_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ritas_steps() {
        for (score, expected) in [
            (0.0, 0.0),
            (0.49, 0.0),
            (0.5, 0.2),
            (0.6, 0.3),
            (0.9, 0.6),
            (0.963, 0.726),
            (1.0, 0.8),
        ] {
            assert!((threat(score) - expected).abs() < 1e-9, "{score}: {}", threat(score));
        }
    }
}

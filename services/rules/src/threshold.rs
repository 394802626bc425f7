//! Limits on alerts: `threshold`, `detection_filter`, and `threshold.config` (suppress, event_filter,
//! rate_filter).
//!
//! Counters are kept by what is tracked, in one table with a cap: when it is full the oldest quarter
//! goes and is counted.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::{address::Addresses, rule::Action};

/// Counters that are kept. Suricata's host table holds 32 MiB of them by default.
const COUNTERS_MAX: usize = 1 << 17;
const SECOND_NS: u64 = 1_000_000_000;

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Limit,
    Threshold,
    Both,
    /// `backoff`: at `count`, then every `multiplier` times as many.
    Backoff(u32),
    Filter,
    Rate,
}

/// By what a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Track {
    Source,
    Destination,
    Pair,
    Rule,
    Flow,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) kind: Kind,
    pub(crate) track: Track,
    pub(crate) count: u32,
    pub(crate) seconds: u32,
    /// Rate filters: what becomes of the action, and for how long.
    pub(crate) action: Option<Action>,
    pub(crate) timeout_s: u32,
    /// Different ports are counted instead of packets.
    pub(crate) distinct: Option<Distinct>,
}

/// What must differ to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distinct {
    SourcePort,
    DestinationPort,
}

/// What a limit says of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Alert,
    /// Act, but tell nobody.
    Silent,
    No,
    /// Alert with another action.
    Changed(Action),
}

/// Who suppresses.
#[derive(Clone, Debug)]
pub(crate) struct Suppress {
    pub(crate) gid: u32,
    pub(crate) sid: u32,
    pub(crate) side: SuppressSide,
    pub(crate) addresses: Addresses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SuppressSide {
    Always,
    Source,
    Destination,
    Either,
}

/// Where a limit in `threshold.config` applies; 0 is any.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    pub(crate) gid: u32,
    pub(crate) sid: u32,
    pub(crate) limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    rule: (u32, u32),
    kind: Kind,
    track: Track,
    first: Option<IpAddr>,
    second: Option<IpAddr>,
    flow: u64,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    since_ns: u64,
    count: u32,
    /// Rate filters: until when the changed action holds.
    until_ns: u64,
    next: u32,
    ports: Vec<u16>,
}

/// What a packet says to a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) now_ns: u64,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) flow: u64,
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    table: HashMap<Key, Counter>,
    pub(crate) evicted: u64,
}

impl Counters {
    pub(crate) fn ask(&mut self, rule: (u32, u32), limit: &Limit, subject: &Subject) -> Answer {
        let (source, destination) = (subject.source, subject.destination);
        let (first, second) = match limit.track {
            Track::Source => (source, None),
            Track::Destination => (destination, None),
            Track::Pair => (source.min(destination), source.max(destination)),
            Track::Rule | Track::Flow => (None, None),
        };
        // What has no address is not counted.
        if limit.track != Track::Flow && source.is_none() {
            return Answer::Alert;
        }
        let flow = if limit.track == Track::Flow { subject.flow } else { 0 };
        let key = Key { rule, kind: limit.kind, track: limit.track, first, second, flow };
        self.make_room(&key);
        let is_new = !self.table.contains_key(&key);
        let counter = self.table.entry(key).or_default();
        counter.ask(limit, subject, is_new)
    }

    fn make_room(&mut self, key: &Key) {
        if self.table.len() < COUNTERS_MAX || self.table.contains_key(key) {
            return;
        }
        let mut times: Vec<u64> = self.table.values().map(|counter| counter.since_ns).collect();
        times.sort_unstable();
        let edge = times.get(times.len() / 4).copied().unwrap_or(0);
        let before = self.table.len();
        self.table.retain(|_, counter| counter.since_ns > edge);
        self.evicted += (before - self.table.len()) as u64;
    }
}

impl Counter {
    fn ask(&mut self, limit: &Limit, subject: &Subject, is_new: bool) -> Answer {
        let now = subject.now_ns;
        if let Some(distinct) = limit.distinct {
            return self.distinct(limit, subject, distinct, is_new);
        }
        let window = u64::from(limit.seconds) * SECOND_NS;
        let is_within = !is_new && now.saturating_sub(self.since_ns) <= window;
        let is_expired = !is_new && !is_within;
        match limit.kind {
            Kind::Backoff(multiplier) => return self.backoff(limit, multiplier, now),
            Kind::Rate => return self.rate(limit, now, is_new),
            Kind::Limit | Kind::Threshold | Kind::Both | Kind::Filter => {}
        }
        if is_new || is_expired {
            self.since_ns = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        match limit.kind {
            Kind::Limit if self.count <= limit.count => Answer::Alert,
            Kind::Limit => Answer::Silent,
            // What a flow counted too long ago it counts anew, and that is all.
            Kind::Threshold if is_expired && limit.track == Track::Flow => Answer::No,
            Kind::Threshold if self.count >= limit.count => {
                self.count = 0;
                Answer::Alert
            }
            Kind::Both if self.count == limit.count => Answer::Alert,
            Kind::Both if self.count > limit.count => Answer::Silent,
            Kind::Filter if self.count > limit.count => Answer::Alert,
            _ => Answer::No,
        }
    }

    fn backoff(&mut self, limit: &Limit, multiplier: u32, now: u64) -> Answer {
        if self.next == 0 {
            self.since_ns = now;
            self.next = limit.count;
        }
        self.count = self.count.saturating_add(1);
        if self.count == self.next {
            self.next = self.next.saturating_mul(multiplier.max(1));
            Answer::Alert
        } else {
            Answer::Silent
        }
    }

    fn rate(&mut self, limit: &Limit, now: u64, is_new: bool) -> Answer {
        let changed = limit.action.map_or(Answer::Alert, Answer::Changed);
        if is_new {
            self.since_ns = now;
            self.count = 1;
            return Answer::Alert;
        }
        if self.until_ns > 0 {
            // Suricata counts this in whole seconds.
            let gone_s = (now / SECOND_NS).saturating_sub(self.until_ns / SECOND_NS);
            if gone_s > u64::from(limit.timeout_s) {
                // This one ends it, the next begins to count.
                self.until_ns = 0;
                return Answer::Alert;
            }
            return changed;
        }
        if now.saturating_sub(self.since_ns) <= u64::from(limit.seconds) * SECOND_NS {
            self.count = self.count.saturating_add(1);
            if self.count > limit.count {
                if limit.timeout_s == 0 {
                    self.count = 0;
                } else {
                    self.until_ns = now;
                }
                return changed;
            }
        } else {
            self.since_ns = now;
            self.count = 1;
        }
        Answer::Alert
    }

    fn distinct(
        &mut self,
        limit: &Limit,
        subject: &Subject,
        distinct: Distinct,
        is_new: bool,
    ) -> Answer {
        let window = u64::from(limit.seconds) * SECOND_NS;
        if is_new || subject.now_ns.saturating_sub(self.since_ns) >= window {
            self.since_ns = subject.now_ns;
            self.ports.clear();
        }
        let port = subject.ports.map(|(source, destination)| match distinct {
            Distinct::SourcePort => source,
            Distinct::DestinationPort => destination,
        });
        if let Some(port) = port
            && self.ports.len() <= limit.count as usize
            && let Err(at) = self.ports.binary_search(&port)
        {
            self.ports.insert(at, port);
        }
        if self.ports.len() > limit.count as usize { Answer::Alert } else { Answer::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(kind: Kind, count: u32, seconds: u32) -> Limit {
        Limit {
            kind,
            track: Track::Source,
            count,
            seconds,
            action: None,
            timeout_s: 0,
            distinct: None,
        }
    }

    fn at(seconds: u64, source: u8) -> Subject {
        Subject {
            now_ns: seconds * SECOND_NS,
            source: Some(IpAddr::from([10, 0, 0, source])),
            destination: Some(IpAddr::from([10, 0, 1, 1])),
            ports: Some((1_000 + u16::from(source), 80)),
            flow: u64::from(source),
        }
    }

    /// The answers to one packet a second.
    fn answers(limit: &Limit, seconds: u64) -> String {
        let mut counters = Counters::default();
        let letter = |answer| match answer {
            Answer::Alert => 'a',
            Answer::Silent => 's',
            Answer::No => '-',
            Answer::Changed(_) => 'c',
        };
        (0..seconds).map(|second| letter(counters.ask((1, 1), limit, &at(second, 1)))).collect()
    }

    #[test]
    fn kinds_of_limits() {
        assert_eq!(answers(&limit(Kind::Limit, 2, 5), 8), "aassssaa");
        assert_eq!(answers(&limit(Kind::Threshold, 3, 60), 7), "--a--a-");
        assert_eq!(answers(&limit(Kind::Both, 2, 5), 8), "-assss-a");
        assert_eq!(answers(&limit(Kind::Filter, 2, 4), 8), "--aaa--a");
        assert_eq!(answers(&limit(Kind::Backoff(2), 1, 1), 9), "aasasssas");
    }

    #[test]
    fn a_rate_changes_the_action_for_a_while() {
        let action = Some(Action::Drop);
        let rate = Limit { action, timeout_s: 2, ..limit(Kind::Rate, 2, 10) };
        assert_eq!(answers(&rate, 8), "aacccacc");
    }

    #[test]
    fn what_is_tracked() {
        let mut counters = Counters::default();
        let by_source = limit(Kind::Limit, 1, 60);
        assert_eq!(counters.ask((1, 1), &by_source, &at(1, 1)), Answer::Alert);
        assert_eq!(counters.ask((1, 1), &by_source, &at(1, 2)), Answer::Alert, "another host");
        assert_eq!(counters.ask((1, 2), &by_source, &at(1, 1)), Answer::Alert, "another rule");
        assert_eq!(counters.ask((1, 1), &by_source, &at(1, 1)), Answer::Silent);
        let by_rule = Limit { track: Track::Rule, ..by_source.clone() };
        assert_eq!(counters.ask((1, 1), &by_rule, &at(1, 1)), Answer::Alert);
        assert_eq!(counters.ask((1, 1), &by_rule, &at(1, 2)), Answer::Silent);
        let nobody = Subject { source: None, ..at(1, 1) };
        assert_eq!(counters.ask((1, 1), &by_source, &nobody), Answer::Alert, "nothing to count by");
        let ports = Limit { distinct: Some(Distinct::SourcePort), ..by_rule };
        assert_eq!(counters.ask((1, 9), &ports, &at(1, 1)), Answer::No);
        assert_eq!(counters.ask((1, 9), &ports, &at(1, 1)), Answer::No, "the same port");
        assert_eq!(counters.ask((1, 9), &ports, &at(1, 2)), Answer::Alert);
    }

    #[test]
    fn a_full_table_loses_its_oldest_quarter() {
        let mut counters = Counters::default();
        let limit = limit(Kind::Limit, 1, 60);
        for rule in 0..=u32::try_from(COUNTERS_MAX).unwrap() {
            counters.ask((1, rule), &limit, &at(u64::from(rule), 1));
            assert!(counters.table.len() <= COUNTERS_MAX);
        }
        assert!(counters.evicted >= COUNTERS_MAX as u64 / 4);
    }
}

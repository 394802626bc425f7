//! `spread.mail` and `spread.lateral`: one host, the same service of many hosts, and it works.
//!
//! Method. Distinct hosts that accepted a connection of one source to one kind of service in a
//! window: mail exchangers outside (port 25), which only mail servers talk to, and the services by
//! which one computer is administered from another (22, 23, 135, 445, 3389, 5985) inside. Scans are
//! about what fails, see [`crate::scan`]; this is about what succeeds. A suspicion: a new mail
//! server and an administrator's tool do the same, so a source is told once a day.
//!
//! References: Zeek's and Snort's worm policies (fan-out); Kim, Karp, "Autograph", USENIX Security
//! 2004; for mail Xie et al., "Spamming Botnets", SIGCOMM 2008.

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count},
    network::Networks,
    observation::{Answer, Connection, DAY_NS, HOUR_NS, Observation, Protocol, TimeNs},
    sketch::Distinct,
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Mail exchangers outside that one host speaks to. 10: a client speaks to its provider's.
    pub mail_hosts_min: u64,
    /// Hosts inside that one host administers.
    pub lateral_hosts_min: u64,
    /// In this time.
    pub window_ns: TimeNs,
    /// Sources; the one longest silent is forgotten. At most 700 bytes each: 1.4 MB.
    pub sources_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mail_hosts_min: 10, lateral_hosts_min: 20, window_ns: HOUR_NS, sources_max: 2048 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Mail,
    Lateral(u16),
}

#[derive(Debug, Clone, Default)]
struct Source {
    begin_ns: TimeNs,
    hosts: Distinct,
    told_ns: Option<TimeNs>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Spreads {
    limits: Limits,
    sources: Table<(IpAddr, Kind), Source>,
    findings: u64,
}

impl Spreads {
    /// Knows nobody.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self { limits, sources: Table::new(seed, limits.sources_max), findings: 0 }
    }

    /// Takes one fact.
    pub fn handle(
        &mut self,
        now_ns: TimeNs,
        fact: &Observation<'_>,
        networks: &Networks,
        out: &mut Vec<Finding>,
    ) {
        let Observation::Ended(connection) = fact else {
            return;
        };
        let Some(kind) = kind(connection, networks) else {
            return;
        };
        let limits = self.limits;
        let make = || Source { begin_ns: now_ns, ..Source::default() };
        let Some(source) = self.sources.entry(&(connection.source, kind), make) else {
            return;
        };
        if now_ns.saturating_sub(source.begin_ns) >= limits.window_ns {
            *source = Source { told_ns: source.told_ns, ..make() };
        }
        let hosts_min = match kind {
            Kind::Mail => limits.mail_hosts_min,
            Kind::Lateral(_) => limits.lateral_hosts_min,
        };
        let is_new = source.hosts.add(&connection.destination);
        let is_told = source.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < DAY_NS);
        if !is_new || is_told || source.hosts.count() < hosts_min {
            return;
        }
        source.told_ns = Some(now_ns);
        self.findings += 1;
        let hosts = source.hosts.count();
        out.push(finding(now_ns, connection, kind, hosts, hosts_min, source.begin_ns));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("spread_findings", self.findings),
            ("spread_sources", count(self.sources.len())),
            ("spread_sources_evicted", self.sources.evicted()),
        ]
    }
}

fn kind(connection: &Connection<'_>, networks: &Networks) -> Option<Kind> {
    let is_accepted = connection.protocol == Protocol::Tcp
        && connection.state.outcome() == Some(Answer::Accepted)
        && networks.is_internal(connection.source);
    if !is_accepted {
        return None;
    }
    match connection.destination_port {
        25 if networks.is_external(connection.destination) => Some(Kind::Mail),
        port @ (22 | 23 | 135 | 445 | 3389 | 5985)
            if networks.is_internal(connection.destination) =>
        {
            Some(Kind::Lateral(port))
        }
        _ => None,
    }
}

fn finding(
    now_ns: TimeNs,
    connection: &Connection<'_>,
    kind: Kind,
    hosts: u64,
    hosts_min: u64,
    begin_ns: TimeNs,
) -> Finding {
    let source = connection.source;
    let (detector, technique, summary) = match kind {
        Kind::Mail => (
            "spread.mail",
            "T1071.003",
            format!("{source} delivers mail to {hosts} mail exchangers itself"),
        ),
        Kind::Lateral(port) => (
            "spread.lateral",
            "T1021",
            format!("{source} is let in by {hosts} hosts of the site at port {port}"),
        ),
    };
    Finding::new(detector, technique, Weight::Suspicion, source, summary)
        .by(connection.source_mac)
        .against(None, Some(connection.destination_port))
        .during(begin_ns, now_ns)
        .because(vec![("distinct_hosts", hosts), ("hosts_min", hosts_min)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observation::State, testing::connection};

    fn run(port: u16, prefix: &str, hosts: u8) -> Vec<&'static str> {
        let (mut detector, mut out) = (Spreads::new(Seed(1), Limits::default()), Vec::new());
        let networks = Networks::default();
        for n in 1..=hosts {
            let mut session = connection("10.0.0.5", &format!("{prefix}.{n}"), port);
            session.state = State::Sf;
            let fact = Observation::Ended(session);
            detector.handle(u64::from(n), &fact, &networks, &mut out);
        }
        out.iter().map(|finding| finding.detector).collect()
    }

    #[test]
    fn fan_out_of_mail_and_of_administration_is_told_once() {
        assert_eq!(run(25, "203.0.113", 50), ["spread.mail"]);
        assert_eq!(run(445, "10.0.7", 50), ["spread.lateral"]);
    }

    #[test]
    fn few_hosts_and_other_services_are_nobody() {
        assert!(run(25, "203.0.113", 9).is_empty());
        assert!(run(25, "10.0.7", 50).is_empty(), "inside");
        assert!(run(443, "203.0.113", 50).is_empty());
    }
}

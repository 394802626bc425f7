//! `scan.*`: who tries doors.
//!
//! Method. Threshold Random Walk (see [`walk`]) over the first contacts of each source: one
//! experiment per (source, destination, destination port). Beside it, distinct counts: failed
//! hosts per port (`scan.horizontal`) and failed ports per host (`scan.vertical`), which find the
//! scanner whose many successes keep the walk down; both at once is `scan.block`. The walk does not
//! know time, so a scan that takes days is found by the same experiments (`scan.slow` when the
//! first and the last are half an hour apart); memory is what bounds it: [`Limits::memory_ns_max`].
//! `scan.sweep` is its own module, [`sweep`].
//!
//! A contact begins with [`Observation::Started`]; it succeeds or fails with `Answered`, or with
//! no answer in [`Limits::answer_ns_max`]. `Ended` alone (a connection log) decides by Zeek's state.
//! TCP counts in the walk; UDP only with its ICMP errors, its silence only by breadth.
//!
//! One incident, one finding: a decided source is quiet until it was quiet itself for
//! [`Limits::quiet_ns_min`], or [`Limits::told_ns_max`] is over.
//!
//! What looks like a scanner without being one: a host that lost its way out while it opens
//! connections to many hosts; a client of a peer-to-peer network; everybody when only one
//! direction is seen. Breadth without a failed walk is therefore a suspicion, not a conviction.
//!
//! References: Jung et al., IEEE S&P 2004 (the walk); Staniford, Hoagland, McAlerney, "Practical
//! Automated Detection of Stealthy Portscans", JCS 2002 (breadth, slow scans); Snort's and Zeek's
//! defaults for the orders of magnitude (Zeek scan.zeek: 25 hosts, 15 ports in 5 min).

pub mod sweep;
mod tally;
pub mod walk;

use std::{collections::HashMap, net::IpAddr};

use self::tally::{Contact, Tally, Verdict};
use crate::{
    finding::{Finding, count},
    network::is_unicast,
    observation::{
        Answer, Connection, DAY_NS, HOUR_NS, MINUTE_NS, Observation, Protocol, SECOND_NS, TimeNs,
    },
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an answer may take. 3 s: the first retransmission of a lost SYN comes after 1 s
    /// (RFC 6298, section 2) and its answer fits, whatever the path.
    pub answer_ns_max: TimeNs,
    /// How long a told source must make no new contact for the next scan to be a new incident.
    /// 10 min: twice the slowest pause of common scanners (nmap -T0: 5 min).
    pub quiet_ns_min: TimeNs,
    /// How long a source is remembered after its last contact. A day: finds two tries an hour.
    pub memory_ns_max: TimeNs,
    /// How long an incident may go on until it is told again. 1 h: a scan of a day is 24 alerts.
    pub told_ns_max: TimeNs,
    /// From when on a scan is called slow. Half an hour: Zeek's and Snort's windows are 5 min.
    pub slow_ns_min: TimeNs,
    /// Failed hosts that convict together with the walk. 4: what the walk needs anyway.
    pub hosts_min: u64,
    /// Failed contacts that convict on fewer hosts. 8: an application knows a handful of ports of
    /// a server, whose failures say that the server is down.
    pub failures_min: u64,
    /// Distinct hosts of one port that failed and suffice without the walk. 8: twice what the walk
    /// needs when nothing succeeds.
    pub port_hosts_min: u64,
    /// Distinct ports of one host that failed and suffice without the walk (Zeek: 15).
    pub host_ports_min: u64,
    /// As `port_hosts_min` for silent UDP. 32: games and peer-to-peer try that many at most.
    pub udp_hosts_min: u64,
    /// As `host_ports_min` for silent UDP. 24: holes punched by calls are fewer.
    pub udp_ports_min: u64,
    /// First and last UDP port of traceroute, never a scan (traceroute(8): 33434 and up, 3 for each of 30 hops).
    pub traceroute_ports: (u16, u16),
    /// Ports and hosts that are counted apart, per source.
    pub groups_max: usize,
    /// Attempts that wait for an answer; the oldest is given up, counted, and never a failure.
    pub pending_max: usize,
    /// Attempts of one source that wait; more are not watched, counted. A fast scanner then can't
    /// push its own attempts, or others', out before their wait is over.
    pub pending_per_source_max: u32,
    /// Sources with one outcome; the oldest is forgotten. A flood of forged sources stays here.
    pub newcomers_max: usize,
    /// Sources with more than one outcome; the one longest without a contact is forgotten.
    pub sources_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer_ns_max: 3 * SECOND_NS,
            quiet_ns_min: 10 * MINUTE_NS,
            memory_ns_max: DAY_NS,
            told_ns_max: HOUR_NS,
            slow_ns_min: 30 * MINUTE_NS,
            hosts_min: 4,
            failures_min: 8,
            port_hosts_min: 8,
            host_ports_min: 15,
            udp_hosts_min: 32,
            udp_ports_min: 24,
            traceroute_ports: (33_434, 33_534),
            groups_max: 8,
            // About 150 bytes each: 2.5 MB.
            pending_max: 16_384,
            pending_per_source_max: 64,
            // About 1.5 KB each with two groups: 6 MB.
            newcomers_max: 4096,
            // At most 13 KB each with full counters: 13 MB.
            sources_max: 1024,
        }
    }
}

#[derive(Debug, Clone)]
struct Source {
    tally: Tally,
    last_ns: TimeNs,
    /// When its last incident was told.
    told_ns: Option<TimeNs>,
    /// Until when its contacts belong to that incident.
    settled_ns: TimeNs,
    /// That incident goes on.
    is_open: bool,
}

/// Losses and decisions.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    attempts: u64,
    repeated: u64,
    suppressed: u64,
    saturated: u64,
    benign: u64,
    findings: u64,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Scans {
    limits: Limits,
    pending: Table<Contact, TimeNs>,
    /// Number of entries of `pending` by source; never more keys than those.
    waiting: HashMap<IpAddr, u32, Seed>,
    newcomers: Table<IpAddr, Source>,
    sources: Table<IpAddr, Source>,
    counts: Counts,
}

impl Scans {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self {
            pending: Table::new(seed, limits.pending_max),
            waiting: HashMap::with_hasher(seed),
            newcomers: Table::new(seed, limits.newcomers_max),
            sources: Table::new(seed, limits.sources_max),
            counts: Counts::default(),
            limits,
        }
    }

    /// Takes one fact.
    pub fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>) {
        self.tick(now_ns, out);
        match fact {
            Observation::Started(connection) => self.started(connection),
            Observation::Answered(connection, answer) => {
                self.answered(now_ns, connection, *answer, out);
            }
            Observation::Ended(connection) => self.ended(now_ns, connection, out),
            Observation::Continued(_)
            | Observation::Dns(_)
            | Observation::TlsHello(_)
            | Observation::Dhcp(_)
            | Observation::Arp(_)
            | Observation::RouterAdvertisement(_)
            | Observation::Named(_)
            | Observation::Request(_)
            | Observation::LoginFailed(_) => {}
        }
    }

    /// Ends every wait that is over and forgets who was quiet for long enough.
    pub fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Finding>) {
        while let Some((contact, began_ns)) = self.pending.oldest().map(|(key, at)| (*key, *at))
            && now_ns.saturating_sub(began_ns) >= self.limits.answer_ns_max
        {
            self.stop_waiting(&contact);
            let decided_ns = began_ns.saturating_add(self.limits.answer_ns_max);
            self.outcome(decided_ns, &contact, began_ns, Answer::Silent, out);
        }
        for table in [&mut self.newcomers, &mut self.sources] {
            while let Some((_, source)) = table.oldest()
                && now_ns.saturating_sub(source.last_ns) >= self.limits.memory_ns_max
            {
                table.pop_oldest();
            }
        }
    }

    /// Named counters since the start, losses included.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("scan_attempts", self.counts.attempts),
            ("scan_repeated", self.counts.repeated),
            ("scan_suppressed", self.counts.suppressed),
            ("scan_saturated", self.counts.saturated),
            ("scan_benign", self.counts.benign),
            ("scan_findings", self.counts.findings),
            ("scan_pending", count(self.pending.len())),
            ("scan_sources", count(self.newcomers.len() + self.sources.len())),
            ("scan_pending_evicted", self.pending.evicted()),
            ("scan_newcomers_evicted", self.newcomers.evicted()),
            ("scan_sources_evicted", self.sources.evicted()),
        ]
    }

    fn started(&mut self, connection: &Connection<'_>) {
        let Some(contact) = contact(connection) else {
            return;
        };
        if self.pending.contains(&contact) {
            self.counts.repeated += 1;
            return;
        }
        let waiting = self.waiting.entry(contact.source).or_default();
        if *waiting >= self.limits.pending_per_source_max {
            self.counts.saturated += 1;
            return;
        }
        *waiting += 1;
        self.counts.attempts += 1;
        if let Some((evicted, _)) = self.pending.insert(contact, connection.first_ns) {
            self.waits_less(evicted.source);
        }
    }

    fn answered(
        &mut self,
        now_ns: TimeNs,
        connection: &Connection<'_>,
        answer: Answer,
        out: &mut Vec<Finding>,
    ) {
        let Some(contact) = contact(connection) else {
            return;
        };
        if let Some(began_ns) = self.stop_waiting(&contact) {
            self.outcome(now_ns, &contact, began_ns, answer, out);
        }
    }

    /// Decides what still waits, and what was never announced.
    fn ended(&mut self, now_ns: TimeNs, connection: &Connection<'_>, out: &mut Vec<Finding>) {
        let Some(contact) = contact(connection) else {
            return;
        };
        let began_ns = self.stop_waiting(&contact).unwrap_or(connection.first_ns);
        if let Some(answer) = connection.state.outcome() {
            self.outcome(now_ns, &contact, began_ns, answer, out);
        }
    }

    /// Takes an attempt out of the table.
    fn stop_waiting(&mut self, contact: &Contact) -> Option<TimeNs> {
        let began_ns = self.pending.remove(contact)?;
        self.waits_less(contact.source);
        Some(began_ns)
    }

    fn waits_less(&mut self, source: IpAddr) {
        if let Some(waiting) = self.waiting.get_mut(&source) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                self.waiting.remove(&source);
            }
        }
    }

    /// One experiment is over.
    fn outcome(
        &mut self,
        now_ns: TimeNs,
        contact: &Contact,
        began_ns: TimeNs,
        answer: Answer,
        out: &mut Vec<Finding>,
    ) {
        let limits = self.limits;
        self.admit(contact.source, now_ns);
        let Some(source) = touch(&mut self.sources, &mut self.newcomers, &contact.source) else {
            return;
        };
        let told_ns = source.told_ns.unwrap_or(0);
        // The late end of a contact that began while the incident went on is part of it.
        if source.told_ns.is_some() && began_ns <= source.settled_ns {
            self.counts.suppressed += 1;
            return;
        }
        let quiet_ns = now_ns.saturating_sub(source.last_ns);
        source.last_ns = source.last_ns.max(now_ns);
        if source.is_open {
            let is_over = quiet_ns >= limits.quiet_ns_min
                || now_ns.saturating_sub(told_ns) >= limits.told_ns_max;
            if !is_over {
                source.settled_ns = source.last_ns;
                self.counts.suppressed += 1;
                return;
            }
            source.is_open = false;
            source.tally = Tally::default();
        }
        if !source.tally.is_new(contact) {
            self.counts.repeated += 1;
            return;
        }
        match source.tally.take(contact, began_ns, now_ns, answer, &limits) {
            Verdict::Pending => {}
            Verdict::Benign => self.counts.benign += 1,
            Verdict::Scanner(finding) => {
                (source.told_ns, source.is_open) = (Some(now_ns), true);
                source.settled_ns = source.last_ns;
                source.tally = Tally::default();
                self.counts.findings += 1;
                out.push(*finding);
            }
        }
    }

    /// Makes sure that the source has a place: a new one among the newcomers, one that is there
    /// already among the sources.
    fn admit(&mut self, address: IpAddr, now_ns: TimeNs) {
        if self.sources.contains(&address) {
            return;
        }
        if let Some(known) = self.newcomers.remove(&address) {
            self.sources.insert(address, known);
            return;
        }
        let source = Source {
            tally: Tally::default(),
            last_ns: now_ns,
            told_ns: None,
            settled_ns: 0,
            is_open: false,
        };
        self.newcomers.insert(address, source);
    }
}

fn touch<'a>(
    sources: &'a mut Table<IpAddr, Source>,
    newcomers: &'a mut Table<IpAddr, Source>,
    address: &IpAddr,
) -> Option<&'a mut Source> {
    match sources.touch(address) {
        Some(source) => Some(source),
        None => newcomers.touch(address),
    }
}

/// The door, if trying it says something.
fn contact(connection: &Connection<'_>) -> Option<Contact> {
    let is_judged = matches!(connection.protocol, Protocol::Tcp | Protocol::Udp)
        && is_unicast(connection.destination)
        && is_unicast(connection.source);
    is_judged.then_some(Contact {
        source: connection.source,
        destination: connection.destination,
        port: connection.destination_port,
        protocol: connection.protocol,
    })
}

#[cfg(test)]
mod tests;

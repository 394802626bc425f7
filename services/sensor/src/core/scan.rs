//! `scan.trw`: who tries doors. Threshold Random Walk (see [`super::walk`]) over first contacts.
//!
//! The paper counts one contact per (source, destination); here it is one per (source,
//! destination, destination port), so that many ports of one host count as well as one port of
//! many hosts. A contact begins with a SYN; it succeeds with a SYN-ACK and fails with a RST, an
//! ICMP "unreachable" or no answer in time. The answers that the box itself sends count the same.
//!
//! Two things are not in the paper. The walk alone would convict after four closed ports of one
//! server, which a misconfigured client reaches too: see [`Limits::hosts_min`]. And a decided
//! source is quiet until it was quiet itself or [`Limits::told_ns_max`] is over: one incident, one
//! alert.
//!
//! What it can't know: whether a source address is forged. Somebody on the same network can make
//! another host look like a scanner; `response` keeps the hosts that matter from being blocked.
//! And these look like a scanner without being one:
//! - a host that loses its uplink, or has an IPv6 address without a way out, while it opens
//!   connections to four new hosts;
//! - a client of a peer-to-peer network: most peers that it is told of are gone by the time it
//!   tries them. Name it an administrator, or leave the mode at observe or suggest;
//! - everybody, when the box sees one direction only (a tap or mirror port of one side, answers
//!   that come in on an interface that is not watched): no answer ever comes. Mirror both.
//!
//! UDP is not judged: multicast discovery (mDNS, SSDP, DHCP) is never a failed contact, and a UDP
//! scan is never found.

use std::collections::{BTreeMap, VecDeque};

use hookprobe_abi::{Address, Record, kind};

use super::{
    Detector, Effect, Finding, TimeNs,
    address::to_ip,
    table::Table,
    walk::{Decision, Outcome, Walk},
};

/// Name in alerts.
pub const DETECTOR: &str = "scan.trw";
/// Counter of alerts held back by [`Limits::alerts_per_minute_max`].
pub const HELD_BACK: &str = "scan_held_back";

const TCP: u8 = 6;
const SECOND_NS: TimeNs = 1_000_000_000;
const MINUTE_NS: TimeNs = 60 * SECOND_NS;

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an answer may take. 3 s: the first retransmission of a lost SYN or SYN-ACK comes
    /// after 1 s (RFC 6298, section 2) and its answer fits, whatever the path.
    pub answer_ns_max: TimeNs,
    /// How long a source must make no new contact to be forgotten, and an alerted one to be
    /// alerted again. 10 min: twice the slowest pause of common scanners (5 min).
    pub quiet_ns_min: TimeNs,
    /// How long an incident may go on until it is told again. 1 h: a block that was refused, not
    /// seen here (nft alone) or over gets its second chance, and a scan of a day is 24 alerts.
    pub told_ns_max: TimeNs,
    /// Alerts in a minute; more are held back, counted, and decided at the next contact. 120: as
    /// many as `response` blocks. Forged sources must not fill the disk of the ledger.
    pub alerts_per_minute_max: usize,
    /// How long after the first dropped packet a passed one still belongs to the time before the
    /// block. 1 s: records of two CPUs are never further apart.
    pub block_settle_ns: TimeNs,
    /// Failed hosts that convict together with the walk. 4: what the walk needs anyway.
    pub hosts_min: usize,
    /// Failed contacts that convict on fewer hosts. 8: an application knows a handful of ports of
    /// a server, whose failures say that the server is down.
    pub failures_min: u64,
    /// Attempts that wait for an answer; the oldest is given up, counted, and never a failure.
    pub pending_max: usize,
    /// Attempts of one source that wait; more are not watched, counted. 64: enough to convict, and
    /// a fast scanner can't push its own attempts out before their wait is over.
    pub pending_per_source_max: u32,
    /// Sources with one outcome; the oldest is forgotten. A flood of forged sources stays in here.
    pub newcomers_max: usize,
    /// Sources with more than one outcome; the one longest without a contact is forgotten.
    pub sources_max: usize,
    /// Contacts remembered per source; the oldest is forgotten and would count again.
    pub contacts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer_ns_max: 3 * SECOND_NS,
            quiet_ns_min: 600 * SECOND_NS,
            told_ns_max: 3600 * SECOND_NS,
            alerts_per_minute_max: 120,
            block_settle_ns: SECOND_NS,
            hosts_min: 4,
            failures_min: 8,
            // About 200 bytes each: 3 MiB.
            pending_max: 16_384,
            pending_per_source_max: 64,
            // About 300 bytes each: 1 MiB.
            newcomers_max: 4096,
            // At most 6 KiB each, with full contacts: 12 MiB.
            sources_max: 2048,
            contacts_max: 128,
        }
    }
}

/// Who tried which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Contact {
    source: Address,
    destination: Address,
    port: u16,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    began_ns: TimeNs,
    interface: u32,
}

/// How a contact ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    Refused,
    Unreachable,
    Unanswered,
}

/// The last few distinct values.
#[derive(Debug, Clone)]
struct Recent<T> {
    values: VecDeque<T>,
}

// Not derived: that would ask for T: Default.
impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { values: VecDeque::new() }
    }
}

impl<T: PartialEq> Recent<T> {
    /// Remembers a value; `true` when the oldest had to go.
    fn remember(&mut self, value: T, values_max: usize) -> bool {
        if self.values.contains(&value) {
            return false;
        }
        let full = self.values.len() >= values_max;
        if full {
            self.values.pop_front();
        }
        self.values.push_back(value);
        full
    }
}

/// What counts towards the next decision.
#[derive(Debug, Clone, Default)]
struct Tally {
    walk: Walk,
    attempts: u64,
    refused: u64,
    unreachable: u64,
    unanswered: u64,
    failed_hosts: Recent<Address>,
    failed_ports: Recent<u16>,
    first_ns: Option<TimeNs>,
}

impl Tally {
    fn failures(&self) -> u64 {
        self.refused + self.unreachable + self.unanswered
    }
}

#[derive(Debug, Clone)]
enum State {
    /// Not decided.
    Watched(Tally),
    /// Decided and told at `told_ns`; `dropped_ns`: since when its packets are dropped.
    Alerted { told_ns: TimeNs, dropped_ns: Option<TimeNs> },
}

#[derive(Debug, Clone)]
struct Source {
    state: State,
    contacts: Recent<(Address, u16)>,
    last_ns: TimeNs,
}

/// Losses and decisions.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    attempts: u64,
    repeated: u64,
    suppressed: u64,
    saturated: u64,
    benign: u64,
    alerts: u64,
    held_back: u64,
    pending_evicted: u64,
    newcomers_evicted: u64,
    sources_evicted: u64,
    contacts_evicted: u64,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct ScanDetector {
    limits: Limits,
    pending: Table<Contact, Attempt>,
    /// Number of entries of `pending` by source.
    waiting: BTreeMap<Address, u32>,
    newcomers: Table<Address, Source>,
    sources: Table<Address, Source>,
    /// When alerts were made, at most [`Limits::alerts_per_minute_max`].
    told: VecDeque<TimeNs>,
    counts: Counts,
}

impl Detector for ScanDetector {
    fn handle(&mut self, now_ns: TimeNs, record: &Record, out: &mut Vec<Effect>) {
        self.expire(now_ns, out);
        match record.kind {
            kind::SYN => self.attempt(now_ns, record),
            kind::SYN_ACK => self.answer(now_ns, record, End::Accepted, out),
            kind::RST => self.answer(now_ns, record, End::Refused, out),
            kind::UNREACHABLE if record.protocol == TCP => {
                self.answer(now_ns, record, End::Unreachable, out);
            }
            kind::FIRST_DROP => self.dropped(now_ns, record),
            _ => {}
        }
    }

    fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Effect>) {
        self.expire(now_ns, out);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let gauge = |table_len: usize| u64::try_from(table_len).unwrap_or(u64::MAX);
        vec![
            ("scan_attempts", self.counts.attempts),
            ("scan_repeated", self.counts.repeated),
            ("scan_suppressed", self.counts.suppressed),
            ("scan_saturated", self.counts.saturated),
            ("scan_benign", self.counts.benign),
            ("scan_alerts", self.counts.alerts),
            (HELD_BACK, self.counts.held_back),
            ("scan_pending", gauge(self.pending.len())),
            ("scan_sources", gauge(self.newcomers.len() + self.sources.len())),
            ("scan_pending_evicted", self.counts.pending_evicted),
            ("scan_newcomers_evicted", self.counts.newcomers_evicted),
            ("scan_sources_evicted", self.counts.sources_evicted),
            ("scan_contacts_evicted", self.counts.contacts_evicted),
        ]
    }
}

impl ScanDetector {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending: Table::new(limits.pending_max),
            waiting: BTreeMap::new(),
            newcomers: Table::new(limits.newcomers_max),
            sources: Table::new(limits.sources_max),
            told: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Ends every wait that is over and forgets who was quiet for long enough.
    fn expire(&mut self, now_ns: TimeNs, out: &mut Vec<Effect>) {
        let waited_max = self.limits.answer_ns_max;
        while let Some((contact, attempt)) = self.pending.oldest()
            && now_ns.saturating_sub(attempt.began_ns) >= waited_max
        {
            let (contact, attempt) = (*contact, *attempt);
            self.stop_waiting(&contact);
            // The wait was over then, however late this is noticed.
            let decided_ns = attempt.began_ns.saturating_add(waited_max);
            self.outcome(decided_ns, &contact, &attempt, End::Unanswered, out);
        }
        for table in [&mut self.newcomers, &mut self.sources] {
            while let Some((_, source)) = table.oldest()
                && now_ns.saturating_sub(source.last_ns) >= self.limits.quiet_ns_min
            {
                table.pop_oldest();
            }
        }
    }

    /// A SYN.
    fn attempt(&mut self, now_ns: TimeNs, record: &Record) {
        if self.is_suppressed(now_ns, &record.source) {
            self.counts.suppressed += 1;
            return;
        }
        let contact = Contact {
            source: record.source,
            destination: record.destination,
            port: record.destination_port,
        };
        if self.pending.contains(&contact) || self.knows(&contact) {
            self.counts.repeated += 1;
            return;
        }
        let waiting = self.waiting.get(&contact.source).copied().unwrap_or(0);
        if waiting >= self.limits.pending_per_source_max {
            self.counts.saturated += 1;
            return;
        }
        self.counts.attempts += 1;
        let attempt = Attempt { began_ns: now_ns, interface: record.interface };
        if let Some((evicted, _)) = self.pending.insert(contact, attempt) {
            self.counts.pending_evicted += 1;
            self.waits_less(&evicted.source);
        }
        *self.waiting.entry(contact.source).or_default() += 1;
    }

    /// Takes an attempt out of the table.
    fn stop_waiting(&mut self, contact: &Contact) -> Option<Attempt> {
        let attempt = self.pending.remove(contact)?;
        self.waits_less(&contact.source);
        Some(attempt)
    }

    fn waits_less(&mut self, source: &Address) {
        if let Some(waiting) = self.waiting.get_mut(source) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                self.waiting.remove(source);
            }
        }
    }

    /// Whether the source was alerted and its incident goes on; keeps the incident open.
    fn is_suppressed(&mut self, now_ns: TimeNs, address: &Address) -> bool {
        let Some(source) = self.sources.get_mut(address) else {
            return false;
        };
        let State::Alerted { told_ns, dropped_ns } = source.state else {
            return false;
        };
        let settle_ns = self.limits.block_settle_ns;
        let passes_again =
            dropped_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) > settle_ns);
        if passes_again || now_ns.saturating_sub(told_ns) >= self.limits.told_ns_max {
            // It was blocked and now its packets pass: the block is over and this is the next
            // incident. So it is when the last one is long ago.
            self.sources.remove(address);
            return false;
        }
        if let Some(source) = self.sources.touch(address) {
            source.last_ns = now_ns;
        }
        true
    }

    fn knows(&self, contact: &Contact) -> bool {
        self.sources
            .get(&contact.source)
            .or_else(|| self.newcomers.get(&contact.source))
            .is_some_and(|source| {
                let door = (contact.destination, contact.port);
                source.contacts.values.contains(&door)
            })
    }

    /// A SYN-ACK, RST or "unreachable": the record's source is who was tried.
    fn answer(&mut self, now_ns: TimeNs, record: &Record, end: End, out: &mut Vec<Effect>) {
        let contact = Contact {
            source: record.destination,
            destination: record.source,
            port: record.source_port,
        };
        if let Some(attempt) = self.stop_waiting(&contact) {
            self.outcome(now_ns, &contact, &attempt, end, out);
        }
    }

    /// The first packet of a source that a block entry dropped.
    fn dropped(&mut self, now_ns: TimeNs, record: &Record) {
        if let Some(source) = self.sources.get_mut(&record.source)
            && let State::Alerted { dropped_ns, .. } = &mut source.state
        {
            *dropped_ns = Some(now_ns);
        }
    }

    /// One experiment is over.
    fn outcome(
        &mut self,
        now_ns: TimeNs,
        contact: &Contact,
        attempt: &Attempt,
        end: End,
        out: &mut Vec<Effect>,
    ) {
        let limits = self.limits;
        let may_tell = self.may_tell(now_ns);
        self.admit(&contact.source, now_ns);
        let source = match self.sources.touch(&contact.source) {
            Some(source) => source,
            None => match self.newcomers.touch(&contact.source) {
                Some(source) => source,
                None => return,
            },
        };
        source.last_ns = source.last_ns.max(now_ns);
        let State::Watched(tally) = &mut source.state else {
            self.counts.suppressed += 1;
            return;
        };
        let door = (contact.destination, contact.port);
        if source.contacts.remember(door, limits.contacts_max) {
            self.counts.contacts_evicted += 1;
        }
        match tally.take(contact, attempt, end, &limits) {
            Decision::Pending => {}
            Decision::Benign => {
                *tally = Tally::default();
                self.counts.benign += 1;
            }
            Decision::Scanner if !may_tell => self.counts.held_back += 1,
            Decision::Scanner => {
                out.push(Effect::Alert(tally.finding(contact, attempt, now_ns)));
                self.counts.alerts += 1;
                self.told.push_back(now_ns);
                source.state = State::Alerted { told_ns: now_ns, dropped_ns: None };
                source.contacts = Recent::default();
            }
        }
    }

    /// Whether there is room for one more alert in the last minute.
    fn may_tell(&mut self, now_ns: TimeNs) -> bool {
        while let Some(told_ns) = self.told.front()
            && now_ns.saturating_sub(*told_ns) >= MINUTE_NS
        {
            self.told.pop_front();
        }
        self.told.len() < self.limits.alerts_per_minute_max
    }

    /// Makes sure that the source has a place: a new one among the newcomers, one that is there
    /// already among the sources.
    fn admit(&mut self, address: &Address, now_ns: TimeNs) {
        if self.sources.contains(address) {
            return;
        }
        if let Some(known) = self.newcomers.remove(address) {
            if self.sources.insert(*address, known).is_some() {
                self.counts.sources_evicted += 1;
            }
            return;
        }
        let source = Source {
            state: State::Watched(Tally::default()),
            contacts: Recent::default(),
            last_ns: now_ns,
        };
        if self.newcomers.insert(*address, source).is_some() {
            self.counts.newcomers_evicted += 1;
        }
    }
}

impl Tally {
    /// Adds one outcome.
    fn take(
        &mut self,
        contact: &Contact,
        attempt: &Attempt,
        end: End,
        limits: &Limits,
    ) -> Decision {
        self.attempts += 1;
        let began_ns = attempt.began_ns;
        self.first_ns = Some(self.first_ns.map_or(began_ns, |first| first.min(began_ns)));
        let outcome = match end {
            End::Accepted => Outcome::Success,
            End::Refused => {
                self.refused += 1;
                Outcome::Failure
            }
            End::Unreachable => {
                self.unreachable += 1;
                Outcome::Failure
            }
            End::Unanswered => {
                self.unanswered += 1;
                Outcome::Failure
            }
        };
        if outcome == Outcome::Failure {
            self.failed_hosts.remember(contact.destination, limits.contacts_max);
            self.failed_ports.remember(contact.port, limits.contacts_max);
        }
        match self.walk.step(outcome) {
            Decision::Scanner if !self.is_broad(limits) => Decision::Pending,
            decision => decision,
        }
    }

    /// Whether enough different doors failed for one dead server not to explain it.
    fn is_broad(&self, limits: &Limits) -> bool {
        self.failed_hosts.values.len() >= limits.hosts_min || self.failures() >= limits.failures_min
    }

    fn finding(&self, contact: &Contact, attempt: &Attempt, decided_ns: TimeNs) -> Finding {
        let (hosts, ports) = (self.failed_hosts.values.len(), self.failed_ports.values.len());
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let one_host = hosts == 1;
        let whom = if one_host {
            to_ip(&contact.destination).to_string()
        } else {
            format!("{hosts} hosts")
        };
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        Finding {
            detector: DETECTOR,
            source: contact.source,
            destination: one_host.then_some(contact.destination),
            interface: attempt.interface,
            summary: format!(
                "{} scans {ports} port{} of {whom}: {} of {} first contacts failed",
                to_ip(&contact.source),
                plural(ports),
                self.failures(),
                self.attempts,
            ),
            evidence: vec![
                ("attempts", self.attempts),
                ("failures", self.failures()),
                ("refused", self.refused),
                ("unreachable", self.unreachable),
                ("unanswered", self.unanswered),
                ("distinct_ports", count(ports)),
                ("distinct_hosts", count(hosts)),
                ("likelihood_x1000", self.walk.ratio_x1000()),
            ],
            first_ns: self.first_ns.unwrap_or(decided_ns),
            decided_ns,
        }
    }
}

#[cfg(test)]
mod tests;

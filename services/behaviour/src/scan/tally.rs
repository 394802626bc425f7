//! What is counted about one source, and what that makes of it.

use std::net::IpAddr;

use super::{
    Limits,
    walk::{Decision, Outcome, Walk},
};
use crate::{
    finding::{Finding, Weight},
    observation::{Answer, Protocol, TimeNs},
    sketch::Distinct,
};

/// Who tried which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Contact {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

/// Distinct things behind one key: hosts of a port, or ports of a host.
#[derive(Debug, Clone)]
struct Group<K> {
    key: K,
    tried: Distinct,
    failed: Distinct,
    silent: Distinct,
}

/// The last few groups; the one longest unused goes.
#[derive(Debug, Clone)]
struct Groups<K> {
    held: Vec<Group<K>>,
}

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Self { held: Vec::new() }
    }
}

impl<K: PartialEq> Groups<K> {
    fn at(&mut self, key: K, groups_max: usize) -> Option<&mut Group<K>> {
        if let Some(at) = self.held.iter().position(|group| group.key == key) {
            let group = self.held.remove(at);
            self.held.push(group);
        } else {
            if self.held.len() >= groups_max.max(1) {
                self.held.remove(0);
            }
            let (tried, failed, silent) = Default::default();
            self.held.push(Group { key, tried, failed, silent });
        }
        self.held.last_mut()
    }
}

/// What a source turned out to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One port or few of many hosts.
    Horizontal,
    /// Many ports of one host.
    Vertical,
    /// Both.
    Block,
}

/// What counts towards the next decision about port scans.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    walk: Walk,
    contacts: Distinct,
    attempts: u64,
    accepted: u64,
    refused: u64,
    unreachable: u64,
    silent: u64,
    failed_hosts: Distinct,
    failed_ports: Distinct,
    ports: Groups<(Protocol, u16)>,
    hosts: Groups<(Protocol, IpAddr)>,
    first_ns: Option<TimeNs>,
}

/// The outcome of a tally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Pending,
    Benign,
    Scanner(Box<Finding>),
}

impl Tally {
    /// Remembers the door; `false` when it was tried before. Forgets all doors once they are too
    /// many to tell apart.
    pub(super) fn is_new(&mut self, contact: &Contact) -> bool {
        if matches!(self.contacts, Distinct::Estimated(_)) {
            self.contacts = Distinct::default();
        }
        self.contacts.add(&(contact.destination, contact.port, contact.protocol))
    }

    fn failures(&self) -> u64 {
        self.refused + self.unreachable + self.silent
    }

    /// Adds the outcome of one first contact.
    pub(super) fn take(
        &mut self,
        contact: &Contact,
        began_ns: TimeNs,
        now_ns: TimeNs,
        answer: Answer,
        limits: &Limits,
    ) -> Verdict {
        self.attempts += 1;
        self.first_ns = Some(self.first_ns.map_or(began_ns, |first| first.min(began_ns)));
        let is_failed = answer != Answer::Accepted;
        match answer {
            Answer::Accepted => self.accepted += 1,
            Answer::Refused => self.refused += 1,
            Answer::Unreachable => self.unreachable += 1,
            Answer::Silent => self.silent += 1,
        }
        if is_failed {
            self.failed_hosts.add(&contact.destination);
            self.failed_ports.add(&(contact.protocol, contact.port));
        }
        let breadth = self.group(contact, answer, limits);
        // The silence of UDP is no failed experiment: most of it is multicast or one-way.
        let decision = match (contact.protocol, answer) {
            (Protocol::Tcp, _) | (_, Answer::Refused | Answer::Unreachable) => {
                self.walk.step(if is_failed { Outcome::Failure } else { Outcome::Success })
            }
            _ => Decision::Pending,
        };
        if breadth || (decision == Decision::Scanner && self.is_broad(limits)) {
            return Verdict::Scanner(Box::new(self.finding(contact, now_ns, limits)));
        }
        match decision {
            // A walk that forgets must not forget how many hosts of one port were silent.
            Decision::Benign => {
                self.walk = Walk::default();
                Verdict::Benign
            }
            Decision::Pending | Decision::Scanner => Verdict::Pending,
        }
    }

    /// Counts by port and by host; whether one of them convicts by its breadth.
    fn group(&mut self, contact: &Contact, answer: Answer, limits: &Limits) -> bool {
        let is_failed = answer != Answer::Accepted;
        let is_udp = contact.protocol == Protocol::Udp;
        let (first, last) = limits.traceroute_ports;
        if is_udp && (first..=last).contains(&contact.port) {
            return false;
        }
        let port = (contact.protocol, contact.port);
        let mut convicts = false;
        if let Some(group) = self.ports.at(port, limits.groups_max) {
            group.take(&contact.destination, is_failed, answer);
            let failed_min = if is_udp { limits.udp_hosts_min } else { limits.port_hosts_min };
            convicts |= group.is_scan(failed_min, is_udp, is_failed);
        }
        let host = (contact.protocol, contact.destination);
        if let Some(group) = self.hosts.at(host, limits.groups_max) {
            group.take(&contact.port, is_failed, answer);
            let failed_min = if is_udp { limits.udp_ports_min } else { limits.host_ports_min };
            convicts |= group.is_scan(failed_min, is_udp, is_failed);
        }
        convicts
    }

    /// Whether enough different doors failed for one dead server not to explain it.
    fn is_broad(&self, limits: &Limits) -> bool {
        self.failed_hosts.count() >= limits.hosts_min || self.failures() >= limits.failures_min
    }

    fn kind(&self, limits: &Limits) -> Kind {
        let (hosts, ports) = (self.failed_hosts.count(), self.failed_ports.count());
        if hosts <= 1 {
            Kind::Vertical
        } else if ports >= limits.host_ports_min && hosts >= limits.hosts_min {
            Kind::Block
        } else if ports > 4 * hosts {
            Kind::Vertical
        } else {
            Kind::Horizontal
        }
    }

    fn finding(&self, contact: &Contact, now_ns: TimeNs, limits: &Limits) -> Finding {
        let (hosts, ports) = (self.failed_hosts.count(), self.failed_ports.count());
        let first_ns = self.first_ns.unwrap_or(now_ns);
        let span_ns = now_ns.saturating_sub(first_ns);
        let is_slow = span_ns >= limits.slow_ns_min;
        let detector = match self.kind(limits) {
            _ if is_slow => "scan.slow",
            Kind::Horizontal => "scan.horizontal",
            Kind::Vertical => "scan.vertical",
            Kind::Block => "scan.block",
        };
        let whom =
            if hosts == 1 { contact.destination.to_string() } else { format!("{hosts} hosts") };
        let door = if ports == 1 {
            format!("{} port {}", contact.protocol.word(), contact.port)
        } else {
            format!("{ports} ports")
        };
        // Breadth without a failed walk has harmless explanations: crawlers, dead mirrors.
        let is_convinced = self.walk.ratio_x1000() >= super::walk::SCANNER_AT as u64 * 1000;
        let weight = if is_convinced { Weight::Conviction } else { Weight::Suspicion };
        let summary = format!(
            "{} scans {door} of {whom}: {} of {} first contacts failed",
            contact.source,
            self.failures(),
            self.attempts,
        );
        Finding::new(detector, "T1046", weight, contact.source, summary)
            .against(
                (hosts == 1).then_some(contact.destination),
                (ports == 1).then_some(contact.port),
            )
            .during(first_ns, now_ns)
            .because(vec![
                ("attempts", self.attempts),
                ("failures", self.failures()),
                ("accepted", self.accepted),
                ("refused", self.refused),
                ("unreachable", self.unreachable),
                ("unanswered", self.silent),
                ("distinct_hosts", hosts),
                ("distinct_ports", ports),
                ("likelihood_x1000", self.walk.ratio_x1000()),
                ("span_ms", span_ns / 1_000_000),
                ("hosts_min", limits.hosts_min),
                ("port_hosts_min", limits.port_hosts_min),
            ])
    }
}

impl<K> Group<K> {
    fn take(&mut self, value: &impl std::hash::Hash, is_failed: bool, answer: Answer) {
        self.tried.add(value);
        if is_failed {
            self.failed.add(value);
        }
        if answer == Answer::Silent {
            self.silent.add(value);
        }
    }

    /// Enough distinct failures, and at least a quarter of what was tried. Of UDP only silence
    /// counts, and nearly all must be silent.
    fn is_scan(&self, failed_min: u64, is_udp: bool, is_failed: bool) -> bool {
        let (tried, failed) = (self.tried.count(), self.failed.count());
        let share_min = if is_udp { (9, 10) } else { (1, 4) };
        let (part, whole) = share_min;
        is_failed && failed >= failed_min && failed * whole >= tried * part
    }
}

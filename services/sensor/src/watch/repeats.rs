//! One incident, one alert: what was told already is counted, not told again.
//!
//! The ledger writes each alert to disk for good and people read it. A rule that matches each packet
//! of a download, or a scan that two detectors see, must not bury what else there is. What could not
//! be handed on is forgotten again, so that it is told when there is room.

use std::{collections::VecDeque, net::IpAddr};

use hookprobe_wire::Severity;

use crate::core::{TimeNs, table::Table};

const SECOND_NS: TimeNs = 1_000_000_000;

/// Bounds of [`Repeats`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long the same rule about the same source is one incident. 1 h, as long as a scan is.
    pub again_ns: TimeNs,
    /// Alerts in a minute. 120: as many as `response` can act on.
    pub per_minute_max: usize,
    /// More of them for the worst class of rules, which forged packets for another rule must not keep
    /// out.
    pub critical_more: usize,
    /// Alerts of one rule in a minute: somebody who forges sources for it leaves room for others.
    pub per_rule_max: usize,
    /// Incidents that are remembered; the oldest would be told again.
    pub incidents_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            again_ns: 3600 * SECOND_NS,
            per_minute_max: 120,
            critical_more: 30,
            per_rule_max: 20,
            incidents_max: 8192,
        }
    }
}

/// Which rule about whom.
type Incident = (u32, u32, IpAddr);

/// Decides about alerts of rules.
#[derive(Debug)]
pub struct Repeats {
    limits: Limits,
    known: Table<Incident, TimeNs>,
    /// When, and of which rule.
    told: VecDeque<(TimeNs, u32, u32)>,
    repeated: u64,
    held_back: u64,
}

impl Repeats {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let known = Table::new(limits.incidents_max);
        Self { limits, known, told: VecDeque::new(), repeated: 0, held_back: 0 }
    }

    /// Whether the alert of this rule about this source is to be told now.
    pub fn is_news(
        &mut self,
        now_ns: TimeNs,
        (gid, sid): (u32, u32),
        severity: Severity,
        source: IpAddr,
    ) -> bool {
        let incident = (gid, sid, source);
        let is_over = |since: &TimeNs| now_ns.saturating_sub(*since) >= self.limits.again_ns;
        match self.known.get(&incident) {
            Some(since) if !is_over(since) => {
                self.repeated += 1;
                return false;
            }
            Some(_) => {
                self.known.remove(&incident);
            }
            None => {}
        }
        while self.told.front().is_some_and(|told| now_ns.saturating_sub(told.0) >= 60 * SECOND_NS)
        {
            self.told.pop_front();
        }
        let more = if severity == Severity::Critical { self.limits.critical_more } else { 0 };
        let own = self.told.iter().filter(|told| (told.1, told.2) == (gid, sid)).count();
        let is_full = self.told.len() >= self.limits.per_minute_max.saturating_add(more);
        if is_full || own >= self.limits.per_rule_max {
            // Not remembered, so that it is told when there is room.
            self.held_back += 1;
            return false;
        }
        self.told.push_back((now_ns, gid, sid));
        self.known.insert(incident, now_ns);
        true
    }

    /// What was to be told could not be.
    pub fn forget(&mut self, gid: u32, sid: u32, source: IpAddr) {
        self.known.remove(&(gid, sid, source));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, u64); 2] {
        [("alerts_repeated", self.repeated), ("alerts_held_back", self.held_back)]
    }
}

/// How long a scanner that one detector told of is not told of by another. 60 s: they see the same
/// packets, and a block that ends must be renewed by whichever sees the scan go on.
const SCANNER_NS: TimeNs = 60 * SECOND_NS;
/// Scanners that are remembered; the oldest may be told of twice.
const SCANNERS_MAX: usize = 4096;

/// What was told about a scanner.
#[derive(Debug)]
struct Told {
    by: Box<str>,
    severity: Severity,
    at_ns: TimeNs,
}

/// The detector over records of the kernel and those over flows see the same scans: the first to be
/// convinced tells, the others are counted, unless they think it worse.
#[derive(Debug)]
pub struct Scanners {
    known: Table<IpAddr, Told>,
    doubles: u64,
}

impl Default for Scanners {
    fn default() -> Self {
        Self { known: Table::new(SCANNERS_MAX), doubles: 0 }
    }
}

impl Scanners {
    /// Whether what this detector found about the source is to be told. Only detectors whose names
    /// begin with `scan.` are held against each other.
    pub fn is_news(
        &mut self,
        now_ns: TimeNs,
        detector: &str,
        severity: Severity,
        source: IpAddr,
    ) -> bool {
        if !detector.starts_with("scan.") {
            return true;
        }
        if let Some(told) = self.known.get(&source)
            && *told.by != *detector
            && told.severity >= severity
            && now_ns.saturating_sub(told.at_ns) < SCANNER_NS
        {
            self.doubles += 1;
            return false;
        }
        self.known.remove(&source);
        self.known.insert(source, Told { by: detector.into(), severity, at_ns: now_ns });
        true
    }

    /// What was to be told could not be.
    pub fn forget(&mut self, source: IpAddr) {
        self.known.remove(&source);
    }

    /// Scans that were told by another detector already.
    #[must_use]
    pub fn doubles(&self) -> u64 {
        self.doubles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn the_same_incident_is_told_once_an_hour() {
        let mut repeats = Repeats::new(Limits::default());
        let warn = Severity::Warn;
        assert!(repeats.is_news(0, (1, 10), warn, WHO));
        assert!(!repeats.is_news(1, (1, 10), warn, WHO));
        assert!(repeats.is_news(1, (1, 11), warn, WHO));
        assert!(repeats.is_news(1, (1, 10), warn, [192, 0, 2, 8].into()));
        assert!(repeats.is_news(3600 * SECOND_NS, (1, 10), warn, WHO));
        assert_eq!(repeats.counters()[0].1, 1);
        repeats.forget(1, 10, WHO);
        assert!(repeats.is_news(3600 * SECOND_NS + 1, (1, 10), warn, WHO));
    }

    #[test]
    fn a_flood_is_held_back_and_told_when_there_is_room() {
        let limits = Limits { per_minute_max: 2, critical_more: 1, ..Limits::default() };
        let mut repeats = Repeats::new(limits);
        let news = |repeats: &mut Repeats, at_s: u64, sid| {
            repeats.is_news(at_s * SECOND_NS, (1, sid), Severity::Warn, WHO)
        };
        assert_eq!([1, 2, 3].map(|sid| news(&mut repeats, 0, sid)), [true, true, false]);
        assert!(!news(&mut repeats, 59, 3));
        // What is worst has room that others can't take.
        assert!(repeats.is_news(59 * SECOND_NS, (1, 4), Severity::Critical, WHO));
        assert!(news(&mut repeats, 60, 3));
        assert_eq!(repeats.counters()[1].1, 2);
    }

    #[test]
    fn forged_sources_for_one_rule_leave_room_for_others() {
        let mut repeats = Repeats::new(Limits::default());
        let mut told = 0;
        for last in 0..200 {
            let source = [203, 0, 113, last].into();
            told += usize::from(repeats.is_news(1, (1, 10), Severity::Warn, source));
        }
        assert_eq!(told, Limits::default().per_rule_max);
        assert!(repeats.is_news(1, (1, 11), Severity::Info, WHO));
    }

    #[test]
    fn a_scan_has_one_teller_and_may_be_told_again_by_it() {
        let mut scanners = Scanners::default();
        let warn = Severity::Warn;
        assert!(scanners.is_news(0, "scan.trw", warn, WHO));
        assert!(!scanners.is_news(5, "scan.vertical", warn, WHO));
        assert!(scanners.is_news(6, "scan.trw", warn, WHO));
        assert!(scanners.is_news(7, "beacon", warn, WHO));
        assert!(scanners.is_news(6 + SCANNER_NS, "scan.vertical", warn, WHO));
        assert_eq!(scanners.doubles(), 1);
    }

    #[test]
    fn a_conviction_is_told_after_a_suspicion_of_another() {
        let mut scanners = Scanners::default();
        assert!(scanners.is_news(0, "scan.vertical", Severity::Info, WHO));
        assert!(scanners.is_news(1, "scan.trw", Severity::Warn, WHO));
        assert!(!scanners.is_news(2, "scan.vertical", Severity::Info, WHO));
    }
}

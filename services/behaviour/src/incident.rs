//! From findings to incidents: what is said once, and how much is said at all.
//!
//! Each detector tells its incident once; here is what holds for all of them together:
//! - the same detector about the same source and target: once in [`Limits::again_ns_min`];
//! - anomalies: one per device and day, whichever detector found it;
//! - all findings: [`Limits::per_minute_max`] a minute. Forged sources must not fill a disk.
//!
//! What is held back is counted by reason, never lost silently.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    finding::{Finding, Weight},
    inventory::{DeviceId, Inventory},
    observation::{DAY_NS, HOUR_NS, MINUTE_NS, TimeNs},
    table::{Seed, Table},
};

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Before this the same is not told again.
    pub again_ns_min: TimeNs,
    /// Findings a minute. 120: as many as a response blocks.
    pub per_minute_max: usize,
    /// Incidents and devices that are remembered; the oldest is forgotten. 60 bytes each.
    pub entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { again_ns_min: HOUR_NS, per_minute_max: 120, entries_max: 16_384 }
    }
}

/// The gate.
#[derive(Debug, Clone)]
pub struct Gate {
    limits: Limits,
    told: Table<u64, (TimeNs, Weight)>,
    anomalies: Table<DeviceId, TimeNs>,
    minute: VecDeque<TimeNs>,
    passed: u64,
    repeated: u64,
    anomalies_held_back: u64,
    held_back: u64,
}

impl Gate {
    /// Has told nothing.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self {
            limits,
            told: Table::new(seed, limits.entries_max),
            anomalies: Table::new(seed, limits.entries_max),
            minute: VecDeque::new(),
            passed: 0,
            repeated: 0,
            anomalies_held_back: 0,
            held_back: 0,
        }
    }

    /// Whether this finding is told.
    pub fn passes(&mut self, now_ns: TimeNs, finding: &Finding, inventory: &Inventory) -> bool {
        let key = key(finding);
        let is_repeated = self.told.get(&key).is_some_and(|(told_ns, weight)| {
            now_ns.saturating_sub(*told_ns) < self.limits.again_ns_min && finding.weight <= *weight
        });
        if is_repeated {
            self.repeated += 1;
            return false;
        }
        let device = match finding.source_mac {
            Some(mac) => DeviceId::Mac(mac),
            None => inventory.id(finding.source),
        };
        let is_anomaly = finding.weight == Weight::Anomaly;
        if is_anomaly {
            let told = self.anomalies.get(&device);
            if told.is_some_and(|told_ns| now_ns.saturating_sub(*told_ns) < DAY_NS) {
                self.anomalies_held_back += 1;
                return false;
            }
        }
        while self.minute.front().is_some_and(|at| now_ns.saturating_sub(*at) >= MINUTE_NS) {
            self.minute.pop_front();
        }
        if self.minute.len() >= self.limits.per_minute_max {
            self.held_back += 1;
            return false;
        }
        self.minute.push_back(now_ns);
        self.told.insert(key, (now_ns, finding.weight));
        if is_anomaly {
            self.anomalies.insert(device, now_ns);
        }
        self.passed += 1;
        true
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("findings", self.passed),
            ("findings_repeated", self.repeated),
            ("findings_held_back", self.held_back),
            ("anomalies_held_back", self.anomalies_held_back),
        ]
    }
}

fn key(finding: &Finding) -> u64 {
    let mut hasher = DefaultHasher::new();
    finding.detector.hash(&mut hasher);
    finding.source.hash(&mut hasher);
    finding.source_mac.hash(&mut hasher);
    finding.destination.hash(&mut hasher);
    finding.name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(detector: &'static str, weight: Weight, last: u8) -> Finding {
        Finding::new(detector, "T0000", weight, [10, 0, 0, last].into(), String::new())
    }

    fn passed(findings: impl IntoIterator<Item = (TimeNs, Finding)>) -> usize {
        let mut gate = Gate::new(Seed(1), Limits::default());
        let inventory = Inventory::new(Seed(1));
        findings.into_iter().filter(|(at_ns, it)| gate.passes(*at_ns, it, &inventory)).count()
    }

    #[test]
    fn one_anomaly_per_device_and_day() {
        let names = ["novelty.destination", "novelty.port", "novelty.volume"];
        let hourly = |hour: u64| {
            let name = names[usize::try_from(hour % 3).unwrap()];
            (hour * HOUR_NS, finding(name, Weight::Anomaly, 5))
        };
        assert_eq!(passed((0..48).map(hourly)), 2);
    }

    #[test]
    fn a_flood_is_cut() {
        let flood = (0..1000_u64).map(|n| {
            let last = u8::try_from(n % 250).unwrap();
            let name = ["a", "b", "c", "d"][usize::try_from(n / 250).unwrap()];
            (n, finding(name, Weight::Suspicion, last))
        });
        assert_eq!(passed(flood), 120);
    }

    #[test]
    fn heavier_news_about_the_same_passes() {
        let twice = [Weight::Suspicion, Weight::Suspicion, Weight::Conviction];
        assert_eq!(passed(twice.map(|weight| (0, finding("a", weight, 1)))), 2);
    }
}

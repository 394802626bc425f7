//! The detectors: records in, findings out.
//!
//! Pure: no clock, no I/O, no randomness, no iteration order that depends on any; the same records
//! give the same findings live and in a replay. Nothing here may panic, whatever the records say,
//! and every table has a cap, an eviction rule and a counter. The live shell and the replay call it.

pub mod address;
pub mod scan;
pub mod table;
// The walk itself is the behaviour crate's, which judges flows by it.
pub use hookprobe_behaviour::scan::walk;

use hookprobe_abi::{Address, Record};

/// Nanoseconds on the clock of the records (CLOCK_BOOTTIME live, capture time in a replay).
pub type TimeNs = u64;

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell the ledger and people.
    Alert(Finding),
}

/// A detector is convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which detector, e.g. `scan.trw`.
    pub detector: &'static str,
    /// Who does it.
    pub source: Address,
    /// Against whom, when it is one only.
    pub destination: Option<Address>,
    /// Interface index of the packet that decided.
    pub interface: u32,
    /// One sentence for people.
    pub summary: String,
    /// Named numbers that led to the decision.
    pub evidence: Vec<(&'static str, u64)>,
    /// First packet that counted.
    pub first_ns: TimeNs,
    /// Packet, or end of a wait, that decided.
    pub decided_ns: TimeNs,
}

/// One way to be convinced. A new detector is one more implementation in [`Core::new`].
pub trait Detector {
    /// Takes one record; `now_ns` never goes back.
    fn handle(&mut self, now_ns: TimeNs, record: &Record, out: &mut Vec<Effect>);
    /// Time passed without a record.
    fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Effect>);
    /// Named counters since the start, losses included.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// All detectors and their common clock.
pub struct Core {
    detectors: Vec<Box<dyn Detector>>,
    now_ns: TimeNs,
    records: u64,
    findings: u64,
}

impl Default for Core {
    fn default() -> Self {
        Self::new()
    }
}

impl Core {
    /// With the detectors of the product.
    #[must_use]
    pub fn new() -> Self {
        Self {
            detectors: vec![Box::new(scan::ScanDetector::new(scan::Limits::default()))],
            now_ns: 0,
            records: 0,
            findings: 0,
        }
    }

    /// Takes one record that was made at `now_ns`. Records of two CPUs may come in slightly wrong
    /// order: time never goes back for it.
    pub fn handle(&mut self, now_ns: TimeNs, record: &Record, out: &mut Vec<Effect>) {
        self.advance(now_ns);
        self.records += 1;
        let before = out.len();
        for detector in &mut self.detectors {
            detector.handle(self.now_ns, record, out);
        }
        self.count(before, out);
    }

    /// Lets waits end. Call it only when every record older than `now_ns` was handled, else an
    /// answer that is still in the queue counts as missing.
    pub fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Effect>) {
        self.advance(now_ns);
        let before = out.len();
        for detector in &mut self.detectors {
            detector.tick(self.now_ns, out);
        }
        self.count(before, out);
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = vec![("core_records", self.records), ("core_findings", self.findings)];
        for detector in &self.detectors {
            counters.extend(detector.counters());
        }
        counters
    }

    fn advance(&mut self, now_ns: TimeNs) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    fn count(&mut self, before: usize, out: &[Effect]) {
        let made = out.len().saturating_sub(before);
        self.findings += u64::try_from(made).unwrap_or(u64::MAX);
    }
}

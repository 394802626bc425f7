//! What `attest` said: how the box's verification stands, and the measurements of this boot.
//!
//! Part of the model's data. Cleaned before it is kept; at most [`LOG_LINES_MAX`] measurements.

use hookprobe_wire::attest::{Measurement, Status, Verdict};

use crate::{clean, look::Mark, model::Model, model::Source};

/// A verification older than that is stale: `attest` verifies every 60 s, so three were missed.
pub const VERIFIED_S_MAX: u64 = 180;
/// Measurements that are kept: ten boots' worth; how many there are is shown.
pub const LOG_LINES_MAX: usize = 1024;

/// Why nothing can be asked of it.
pub const DISCONNECTED: &str = "HP-CO-020 attest is disconnected; see 7 Services";

/// What is asked of `attest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Every second.
    Status,
    /// While the boot log is looked at.
    Log,
    /// Short evidence.
    Evidence,
    /// The recovery key, or that it was noted.
    Recovery,
}

/// What `attest` said.
#[derive(Debug, Clone, Default)]
pub struct Attest {
    /// Its last status.
    pub status: Option<Status>,
    /// When that came, on the console's own clock.
    status_ms: u64,
    /// Measurements in order of extension.
    pub log: Vec<Measurement>,
    /// How many there are; none while nobody said.
    pub log_total: Option<u32>,
    /// Why there are none.
    pub log_refused: Option<String>,
}

impl Attest {
    /// Keeps a status.
    pub fn hear(&mut self, now_ms: u64, mut status: Status) {
        clean::attest_status(&mut status);
        self.status = Some(status);
        self.status_ms = now_ms;
    }

    /// Keeps measurements that continue those that are known.
    pub fn hear_log(&mut self, total: u32, lines: Vec<Measurement>) {
        self.log_refused = None;
        if usize::try_from(total).is_ok_and(|total| total < self.log.len()) {
            // Another log than the one that was begun: from the start, next time.
            self.log.clear();
        } else {
            let room = LOG_LINES_MAX.saturating_sub(self.log.len());
            for mut line in lines.into_iter().take(room) {
                clean::measurement(&mut line);
                self.log.push(line);
            }
        }
        self.log_total = Some(total);
    }

    /// A new connection may be to a new process: its log is read from the start.
    pub fn forget_log(&mut self) {
        (self.log, self.log_total, self.log_refused) = (Vec::new(), None, None);
    }

    /// Number of the first measurement that is not known yet; none when no more are kept.
    #[must_use]
    pub fn log_next(&self) -> Option<u32> {
        let room = self.log.len() < LOG_LINES_MAX;
        u32::try_from(self.log.len()).ok().filter(|_| room)
    }

    /// Seconds since the last verification; none without one.
    #[must_use]
    pub fn verified_ago_s(&self, now_ms: u64) -> Option<u64> {
        let status = self.status.as_ref().filter(|status| status.verified_s != 0)?;
        Some(self.later_s(now_ms, status.verified_ago_s))
    }

    /// Seconds since the last challenge of somebody else; none without one.
    #[must_use]
    pub fn challenged_ago_s(&self, now_ms: u64) -> Option<u64> {
        let (count, ago_s) = self.status.as_ref()?.challenges;
        (count > 0).then(|| self.later_s(now_ms, ago_s))
    }

    /// An age that the status gave, now.
    fn later_s(&self, now_ms: u64, ago_s: u64) -> u64 {
        ago_s.saturating_add(now_ms.saturating_sub(self.status_ms) / 1000)
    }

    /// A recovery key waits to be noted.
    #[must_use]
    pub fn recovery_waiting(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.recovery_waiting)
    }
}

/// Whether the last verification is of now.
#[must_use]
pub fn verified_now(model: &Model) -> bool {
    let ago_s = model.data().attest.verified_ago_s(model.now.mono_ms);
    model.fresh(Source::Attest) && ago_s.is_some_and(|ago_s| ago_s <= VERIFIED_S_MAX)
}

/// Green is for what was verified lately: it is plain on what is stale.
#[must_use]
pub fn mark(model: &Model, mark: Mark) -> Mark {
    match mark {
        Mark::Good if !verified_now(model) => Mark::Plain,
        mark => mark,
    }
}

/// Word and mark of the last verification. Says who found what, never that the box is fine.
#[must_use]
pub fn verdict(model: &Model, status: &Status) -> (Mark, &'static str) {
    match status.verdict {
        Verdict::None | Verdict::Warning => (Mark::Warn, "WARN"),
        Verdict::Affirming if verified_now(model) => (Mark::Good, "[ OK ]"),
        Verdict::Affirming if model.is_frozen() => (Mark::Plain, "[ OK ]"),
        Verdict::Affirming => (Mark::Warn, "STALE"),
        Verdict::Contraindicated => (Mark::Bad, "[FAIL]"),
    }
}

/// Word and mark of a measurement against the reference manifest.
#[must_use]
pub fn measured(verdict: &str) -> (Mark, &'static str) {
    match verdict {
        "match" => (Mark::Good, "[ OK ]"),
        "differs" => (Mark::Bad, "[DIFF]"),
        _ => (Mark::Plain, " n/a  "),
    }
}

/// What is measured into a register (TCG PC Client Platform Firmware Profile, section 3.3.4; UAPI
/// Linux TPM PCR Registry), in 15 characters.
#[must_use]
pub fn register(index: u8) -> &'static str {
    match index {
        0 => "firmware",
        1 => "firmware setup",
        2 => "option ROMs",
        3 => "option ROM data",
        4 => "boot loader",
        5 => "partitions",
        6 => "maker's own",
        7 => "secure boot",
        9 => "kernel's loads",
        10 => "kernel's IMA",
        11 => "kernel (UKI)",
        12 => "site config",
        13 => "services",
        14 => "shim",
        15 => "state volume",
        16 => "debug",
        17..=22 => "late launch",
        _ => "not used",
    }
}

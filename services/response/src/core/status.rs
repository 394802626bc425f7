//! What the core says about itself.

use hookprobe_wire::{
    Diagnostic, Hash, Severity,
    event::{Action, Mode},
    response::{self, STATUS_ACTIVE_MAX, Status},
};

use super::{Core, MS};
use crate::Now;

/// Most protected entries in one status, so that it fits a frame.
const STATUS_PROTECTED_MAX: usize = 256;

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Alerts that policy does not answer.
    pub not_wanted: u64,
    /// In mode observe: alerts that would have been answered with a block.
    pub would_block: u64,
    /// In mode observe: alerts that would have been refused.
    pub would_refuse: u64,
    /// Alerts older than a block lasts when they could have been answered.
    pub too_late: u64,
    /// Alerts dropped because too many were waiting.
    pub alerts_dropped: u64,
    /// Mitigations of the ledger not taken over because too many were in force.
    pub not_adopted: u64,
    /// Blocks without a readable payload.
    pub unreadable: u64,
    /// Blocks that did not follow the one before.
    pub lane_changes: u64,
    /// Refusals written.
    pub refused: u64,
    /// Lifts written.
    pub lifted: u64,
}

fn diagnostic(
    code: &str,
    severity: Severity,
    object: &str,
    cause: String,
    remedy: &str,
) -> Diagnostic {
    Diagnostic { code: code.into(), severity, object: object.into(), cause, remedy: remedy.into() }
}

impl Core {
    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether a connection is followed to the present.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// How it is; `enforcers` and `faults` come from the engine.
    #[must_use]
    pub fn status(&self, now: Now, enforcers: Vec<String>, faults: Vec<Diagnostic>) -> Status {
        let mut active: Vec<response::Active> = self
            .active
            .iter()
            .filter(|(_, active)| active.is_block())
            .map(|(subject, active)| response::Active {
                hash: active.record.unwrap_or_else(Hash::zero),
                cause: active.cause,
                subject: *subject,
                action: Action::BlockSource,
                remaining_ms: active.expires_boot_ns.saturating_sub(now.boot_ns) / MS,
                packets_dropped: active.packets(),
            })
            .collect();
        active.sort_by_key(|active| (active.remaining_ms, active.subject));
        let active_total = u32::try_from(active.len()).unwrap_or(u32::MAX);
        active.truncate(STATUS_ACTIVE_MAX);
        let mut protected = self.protected.clone().unwrap_or_default().listing();
        protected.truncate(STATUS_PROTECTED_MAX);
        let mut diagnostics = faults;
        diagnostics.extend(self.diagnostics());
        Status {
            mode: self.policy.mode,
            active,
            active_total,
            protected,
            refused: self.counters.refused,
            lifted: self.counters.lifted,
            enforcers,
            diagnostics,
        }
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let counters = &self.counters;
        let lost = counters.alerts_dropped + counters.not_adopted;
        let observed = self.policy.mode == Mode::Observe && counters.would_block > 0;
        let ledger = (!self.live).then(|| {
            let cause = format!("not followed to its present, {} appends wait", self.outbox.len());
            let remedy = "see the service ledger; blocks in force end by themselves";
            diagnostic("HP-RS-001", Severity::Warn, "ledger", cause, remedy)
        });
        let rejected = self.rejected.as_ref().map(|why| {
            let cause = format!("refused an append: {why}");
            let remedy = "follow the ledger's own remedy; it is tried again every second";
            diagnostic("HP-RS-002", Severity::Warn, "ledger", cause, remedy)
        });
        let protected = self.protected_error.as_ref().map(|why| {
            let cause = format!("can't be read: {why}");
            let remedy = "nothing new is blocked until it can be; restart the box if it stays";
            diagnostic("HP-RS-003", Severity::Critical, "protected set", cause, remedy)
        });
        let lane = (counters.lane_changes > 0).then(|| {
            let cause = format!("{} blocks did not follow the one before", counters.lane_changes);
            let remedy = "verify the ledger; it was read again from its first block";
            diagnostic("HP-RS-007", Severity::Critical, "ledger", cause, remedy)
        });
        let lost = (lost > 0).then(|| {
            let cause = format!("{lost} not handled, the tables are full");
            let remedy = "look for a flood of alerts in the ledger";
            diagnostic("HP-RS-008", Severity::Warn, "alerts", cause, remedy)
        });
        let observed = observed.then(|| {
            let cause = format!("{} alerts would have led to a block", counters.would_block);
            let remedy = "set response.mode in hookprobe.toml to autonomous";
            diagnostic("HP-RS-009", Severity::Info, "mode observe", cause, remedy)
        });
        [ledger, rejected, protected, lane, lost, observed].into_iter().flatten().collect()
    }
}

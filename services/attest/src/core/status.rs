//! What people are shown.

use hookprobe_wire::{
    Diagnostic, Severity,
    attest::{PCRS_MAX, Status, Verdict},
};

use super::{Core, Now, Phase, Stage};
use crate::{code, identity::BootPin, job::Condition};

impl Core {
    /// How the box's identity and its last verification stand.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let ago = |since: u64| now.mono_ms.saturating_sub(since) / 1000;
        let enrolled = self.enrolled();
        let pin = enrolled.map(|enrolled| &enrolled.pin);
        let of_pin = |field: fn(&BootPin) -> u32| pin.map(field).unwrap_or_default();
        let verified = self.own.verified_ms.is_some();
        Status {
            level: self.own.level.0.clone(),
            level_text: self.own.level.1.clone(),
            verdict: self.own.verdict,
            divergence: self.divergence(),
            verified_by: if verified { "self".into() } else { String::new() },
            verified_s: self.own.verified_s,
            verified_ago_s: self.own.verified_ms.map(ago).unwrap_or_default(),
            challenges: (
                self.counts.answered,
                self.counts.answered_ms.map(ago).unwrap_or_default(),
            ),
            ak_name: enrolled.map(|enrolled| enrolled.ak_name.clone()).unwrap_or_default(),
            ek: enrolled.map(|enrolled| enrolled.ek.clone()).unwrap_or_default(),
            node: self.bound.or_else(|| self.head.as_ref().map(|head| head.node)),
            key: self.origin,
            epoch: self.epoch_number(),
            reset_count: of_pin(|pin| pin.reset_count),
            restart_count: of_pin(|pin| pin.restart_count),
            boot_id: self.boot_id.clone(),
            quotes: (self.counts.quotes, self.counts.retries, self.counts.refused),
            quote_us: self.own.us,
            pcrs: self.own.pcrs.iter().take(PCRS_MAX).cloned().collect(),
            recovery_waiting: self.recovery.is_some(),
            diagnostics: self.all_diagnostics(),
        }
    }

    fn divergence(&self) -> String {
        match (self.own.verdict, &self.phase) {
            (Verdict::Affirming, _) => String::new(),
            (_, Phase::Starting { .. }) => "the identity is being set up".into(),
            (Verdict::None, Phase::Running(_)) if self.own.divergence.is_empty() => {
                "no verification was made yet".into()
            }
            (Verdict::None | Verdict::Warning | Verdict::Contraindicated, Phase::Running(_)) => {
                self.own.divergence.clone()
            }
        }
    }

    fn all_diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = self.diagnostics.clone();
        let mut add = |fault: &code::Fault, severity| {
            let (cause, remedy) = fault.reason.rsplit_once("; ").unwrap_or((&fault.reason, ""));
            let (object, cause) = cause.split_once(": ").unwrap_or(("attest", cause));
            all.push(code::diagnostic(&fault.code, severity, object, cause, remedy));
        };
        match &self.phase {
            Phase::Running(Condition::None(fault)) => add(fault, Severity::Info),
            Phase::Running(Condition::Failed(fault)) => add(fault, Severity::Critical),
            Phase::Starting { .. } | Phase::Running(Condition::Enrolled(_)) => {
                if matches!(self.stage, Stage::Silent(_)) {
                    add(&super::silent(super::TPM_MS_MAX), Severity::Critical);
                }
            }
        }
        if let Some(fault) = &self.reset {
            add(fault, Severity::Critical);
        }
        if let Some(fault) = self.other_ledger() {
            add(&fault, Severity::Warn);
        }
        let dropped = self.outbox.dropped();
        if dropped > 0 {
            all.push(code::diagnostic(
                code::EVENTS_LOST,
                Severity::Warn,
                "ledger",
                format!("{dropped} events were dropped because it did not take them"),
                "look at the ledger's diagnostics",
            ));
        }
        all
    }
}

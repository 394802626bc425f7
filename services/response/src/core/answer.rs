//! From alert to answer, and from block to lift.

use std::net::IpAddr;

use hookprobe_wire::{
    Event, Hash, Seq,
    event::{Action, Alert, Lift, Mitigation, Mode, Refusal},
    ledger::RequestId,
    response::ACTIVE_MAX,
    site::BLOCK_S_MAX,
};

use super::{
    ANSWER, Active, Core, ENDING_MS, Effect, KERNEL_GRACE_MS, LIFT, MS, Note, RATE_BLOCKS_MAX,
    RATE_WINDOW_MS, REFRESH_MS, RETRY_MS, State, Stuck, WAITING_MAX, Waiting, request_id,
};
use crate::{Now, protected::ProtectedSet};

/// What is decided about an alert.
enum Verdict {
    /// Nothing is written.
    Nothing,
    /// Look again later.
    Wait(Stuck),
    /// Write why not.
    Refuse(&'static str, String),
    /// Write what would be done.
    Suggest,
    /// Do it.
    Block,
}

impl Core {
    pub(super) fn on_alert(
        &mut self,
        now: Now,
        (seq, hash): (Seq, Hash),
        written_ns: u64,
        alert: &Alert,
        out: &mut Vec<Effect>,
    ) {
        if !self.policy.wants(alert) {
            self.counters.not_wanted += 1;
            return;
        }
        if self.waiting.len() >= WAITING_MAX
            && let Some((_, oldest)) = self.waiting.pop_first()
        {
            if self.is_late(now, &oldest) {
                self.counters.too_late += 1;
            } else {
                self.counters.alerts_dropped += 1;
            }
        }
        let waiting = Waiting {
            hash,
            subject: alert.source.to_canonical(),
            detector: hookprobe_wire::text::escape(&alert.detector, 40),
            written_ns,
            retry_boot_ns: 0,
            stuck: None,
        };
        self.waiting.insert(seq, waiting);
        if self.live {
            out.push(Effect::ReadProtected);
        }
    }

    /// An answer is in the ledger.
    pub(super) fn answered(&mut self, cause: Hash) {
        // Newest first: an answer mostly follows its alert closely.
        let found = self.waiting.iter().rev().find(|(_, waiting)| waiting.hash == cause);
        if let Some(seq) = found.map(|(seq, _)| *seq) {
            self.waiting.remove(&seq);
        }
    }

    /// A mitigation of an earlier life.
    pub(super) fn adopt(&mut self, now: Now, hash: Hash, written_ns: u64, mitigation: &Mitigation) {
        let asked_ns = mitigation.expires_ns.saturating_sub(written_ns);
        let left_ns = mitigation.expires_ns.saturating_sub(now.real_ns);
        let left_ns = left_ns.min(asked_ns).min(BLOCK_S_MAX * 1000 * MS);
        let suggested = mitigation.enforced_by.is_empty();
        if suggested && left_ns == 0 {
            return;
        }
        if self.active.len() >= ACTIVE_MAX {
            self.counters.not_adopted += 1;
            return;
        }
        let state = if suggested { State::Suggested } else { State::Held };
        let mut active = Active::new(mitigation.cause, now.boot_ns.saturating_add(left_ns), state);
        active.record = Some(hash);
        self.active.insert(mitigation.subject.to_canonical(), active);
        let age_ns = now.real_ns.saturating_sub(written_ns);
        if !suggested && age_ns < RATE_WINDOW_MS * MS {
            self.recent.push_back(now.boot_ns.saturating_sub(age_ns));
        }
    }

    pub(super) fn end_what_mode_forbids(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.policy.mode != Mode::Autonomous {
            self.end_where(now, "operator", out, |_, active| active.state == State::Held);
        }
    }

    pub(super) fn end_what_is_over(&mut self, now: Now, out: &mut Vec<Effect>) {
        let over = |active: &Active| active.expires_boot_ns <= now.boot_ns;
        self.active.retain(|_, active| active.state != State::Suggested || !over(active));
        self.end_where(now, "expired", out, |_, active| {
            active.state == State::Held && over(active)
        });
        for (subject, active) in &mut self.active {
            if let State::Releasing { retry_boot_ns, .. } = &mut active.state
                && *retry_boot_ns <= now.boot_ns
            {
                *retry_boot_ns = now.boot_ns + RETRY_MS * MS;
                out.push(Effect::Release { subject: *subject });
            }
        }
    }

    fn end_where(
        &mut self,
        now: Now,
        reason: &'static str,
        out: &mut Vec<Effect>,
        which: impl Fn(IpAddr, &Active) -> bool,
    ) {
        if !self.complete {
            return; // A lift may still be on its way.
        }
        for (subject, active) in &mut self.active {
            if which(*subject, active) {
                let retry_boot_ns = now.boot_ns + RETRY_MS * MS;
                active.state = State::Releasing { reason, retry_boot_ns };
                out.push(Effect::Release { subject: *subject });
            }
        }
    }

    pub(super) fn on_protected(
        &mut self,
        now: Now,
        set: Result<ProtectedSet, String>,
        out: &mut Vec<Effect>,
    ) {
        self.refresh_boot_ns = now.boot_ns + REFRESH_MS * MS;
        let known = match set {
            Ok(set) => {
                self.end_where(now, "protected", out, |subject, active| {
                    active.state == State::Held && set.why(subject).is_some()
                });
                self.sync_due |= self.protected.as_ref() != Some(&set);
                self.protected = Some(set);
                self.protected_error = None;
                true
            }
            Err(why) => {
                self.protected_error = Some(why);
                false
            }
        };
        // Without the set nothing is put back either: what the kernel holds ends by itself.
        if known && self.complete && self.sync_due {
            self.sync_due = false;
            out.push(Effect::Sync);
        }
        if self.live {
            self.decide_all(now, known, out);
        }
    }

    fn decide_all(&mut self, now: Now, known: bool, out: &mut Vec<Effect>) {
        let due = |(_, waiting): &(&Seq, &Waiting)| waiting.retry_boot_ns <= now.boot_ns;
        let due: Vec<Seq> = self.waiting.iter().filter(due).map(|(seq, _)| *seq).collect();
        for seq in due {
            let Some(mut waiting) = self.waiting.remove(&seq) else {
                continue;
            };
            match self.verdict(now, &waiting, known) {
                Verdict::Nothing => {}
                Verdict::Wait(stuck) => {
                    waiting.stuck = Some(stuck);
                    waiting.retry_boot_ns = now.boot_ns + RETRY_MS * MS;
                    self.waiting.insert(seq, waiting);
                }
                Verdict::Refuse(code, reason) => self.refuse(now, &waiting, code, reason),
                Verdict::Suggest => {
                    self.track(now, &waiting, State::Suggested);
                    self.record_mitigation(now, &waiting, Vec::new());
                }
                Verdict::Block => {
                    let expires_boot_ns = self.track(now, &waiting, State::Enforcing);
                    out.push(Effect::Enforce { subject: waiting.subject, expires_boot_ns });
                    // Stays until it is enforced; [`Core::on_enforced`] takes it out.
                    waiting.retry_boot_ns = u64::MAX;
                    self.waiting.insert(seq, waiting);
                }
            }
        }
    }

    fn is_late(&self, now: Now, waiting: &Waiting) -> bool {
        now.real_ns.saturating_sub(waiting.written_ns) > self.policy.block_ns
    }

    fn verdict(&mut self, now: Now, waiting: &Waiting, known: bool) -> Verdict {
        let mode = self.policy.mode;
        if self.is_late(now, waiting) {
            return match waiting.stuck {
                Some(Stuck::NoEnforcer) => {
                    Verdict::Refuse("HP-RS-023", "no enforcer accepted the block in time".into())
                }
                Some(Stuck::Unprotected) => Verdict::Refuse(
                    "HP-RS-024",
                    "the protected set could not be read in time".into(),
                ),
                Some(Stuck::Ending) => {
                    Verdict::Refuse("HP-RS-020", "the block before did not end in time".into())
                }
                None => {
                    self.counters.too_late += 1;
                    Verdict::Nothing
                }
            };
        }
        let protected = self.protected.as_ref().filter(|_| known);
        let Some(protected) = protected else {
            return Verdict::Wait(Stuck::Unprotected);
        };
        let why = protected.why(waiting.subject);
        if mode == Mode::Observe {
            match why {
                Some(_) => self.counters.would_refuse += 1,
                None => self.counters.would_block += 1,
            }
            return Verdict::Nothing;
        }
        if let Some(why) = why {
            let reason = format!("protected: {} is {}", waiting.subject, why.word());
            return Verdict::Refuse(why.code(), reason);
        }
        self.refused_by_limits(now, waiting).unwrap_or(match mode {
            Mode::Observe => Verdict::Nothing,
            Mode::Suggest => Verdict::Suggest,
            Mode::Autonomous => Verdict::Block,
        })
    }

    fn refused_by_limits(&mut self, now: Now, waiting: &Waiting) -> Option<Verdict> {
        let blocks = self.policy.mode == Mode::Autonomous;
        if let Some(active) = self.active.get(&waiting.subject)
            && (active.is_block() || !blocks)
        {
            let left_ns = active.expires_boot_ns.saturating_sub(now.boot_ns);
            if left_ns <= ENDING_MS * MS || !active.is_current() {
                return Some(Verdict::Wait(Stuck::Ending));
            }
            let left_s = left_ns / (1000 * MS);
            let reason = format!("answered already, for another {left_s} s");
            return Some(Verdict::Refuse("HP-RS-020", reason));
        }
        if self.active.len() >= ACTIVE_MAX {
            let reason = format!("{ACTIVE_MAX} mitigations are in force, no more are allowed");
            return Some(Verdict::Refuse("HP-RS-021", reason));
        }
        let window = now.boot_ns.saturating_sub(RATE_WINDOW_MS * MS);
        while self.recent.front().is_some_and(|made| *made <= window) {
            self.recent.pop_front();
        }
        let asked = self.active.values().filter(|active| active.state == State::Enforcing).count();
        (blocks && self.recent.len() + asked >= RATE_BLOCKS_MAX).then(|| {
            let reason = format!("{RATE_BLOCKS_MAX} new blocks in a minute, no more are allowed");
            Verdict::Refuse("HP-RS-022", reason)
        })
    }

    fn track(&mut self, now: Now, waiting: &Waiting, state: State) -> u64 {
        let expires_boot_ns = now.boot_ns.saturating_add(self.policy.block_ns);
        let active = Active::new(waiting.hash, expires_boot_ns, state);
        self.active.insert(waiting.subject, active);
        expires_boot_ns
    }

    fn refuse(&mut self, now: Now, waiting: &Waiting, code: &str, reason: String) {
        let refusal =
            Refusal { cause: waiting.hash, subject: waiting.subject, code: code.into(), reason };
        let id = request_id(ANSWER, waiting.hash);
        self.outbox.push(id, Event::Refusal(refusal), now.real_ns, 0);
    }

    fn record_mitigation(&mut self, now: Now, waiting: &Waiting, enforced_by: Vec<String>) {
        let Some(active) = self.active.get(&waiting.subject) else {
            return;
        };
        let left_ns = active.expires_boot_ns.saturating_sub(now.boot_ns);
        let enforced_ns = if enforced_by.is_empty() { 0 } else { now.real_ns };
        // Back from the end, so that the time the enforcers took is visible.
        let decided_ns = (now.real_ns + left_ns).saturating_sub(self.policy.block_ns);
        let mitigation = Mitigation {
            cause: waiting.hash,
            action: Action::BlockSource,
            subject: waiting.subject,
            mode: self.policy.mode,
            expires_ns: now.real_ns.saturating_add(left_ns),
            enforced_by,
            reason: format!("{} raised an alert about {}", waiting.detector, waiting.subject),
        };
        let id = request_id(ANSWER, waiting.hash);
        self.outbox.push(id, Event::Mitigation(mitigation), decided_ns, enforced_ns);
    }

    pub(super) fn on_enforced(&mut self, now: Now, subject: IpAddr, by: &[&'static str]) {
        let Some(active) = self.active.get_mut(&subject) else {
            return;
        };
        if active.state != State::Enforcing {
            return;
        }
        let cause = active.cause;
        let found = self.waiting.iter().rev().find(|(_, waiting)| waiting.hash == cause);
        let Some(seq) = found.map(|(seq, _)| *seq) else {
            return;
        };
        if by.is_empty() {
            self.active.remove(&subject);
            if let Some(waiting) = self.waiting.get_mut(&seq) {
                waiting.stuck = Some(Stuck::NoEnforcer);
                waiting.retry_boot_ns = now.boot_ns + RETRY_MS * MS;
            }
            return;
        }
        active.state = State::Held;
        self.recent.push_back(now.boot_ns);
        if let Some(waiting) = self.waiting.remove(&seq) {
            let by = by.iter().map(|name| (*name).to_owned()).collect();
            self.record_mitigation(now, &waiting, by);
        }
    }

    pub(super) fn on_released(&mut self, now: Now, subject: IpAddr, clean: bool) {
        let Some(active) = self.active.get_mut(&subject) else {
            return;
        };
        let State::Releasing { reason, .. } = active.state else {
            return;
        };
        let kernel_end_ns = active.expires_boot_ns.saturating_add(KERNEL_GRACE_MS * MS);
        if !clean && now.boot_ns <= kernel_end_ns {
            return; // Asked again when its retry is due.
        }
        active.state = State::Released { reason };
        self.lift_if_recorded(now, subject);
    }

    /// Writes the lift of a block that is taken back, as soon as its mitigation has a name.
    fn lift_if_recorded(&mut self, now: Now, subject: IpAddr) {
        let Some(active) = self.active.get(&subject) else {
            return;
        };
        let (State::Released { reason }, Some(cause)) = (active.state, active.record) else {
            return;
        };
        let packets_dropped = active.packets();
        self.active.remove(&subject);
        let lift = Lift { cause, subject, reason: reason.into(), packets_dropped };
        self.outbox.push(request_id(LIFT, cause), Event::Lift(lift), now.real_ns, 0);
    }

    /// An append of ours is in the ledger, whoever said so first: the answer or the stream.
    pub(super) fn confirm(
        &mut self,
        now: Now,
        id: RequestId,
        at: (Seq, Hash),
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(outgoing) = self.outbox.take(id) else {
            return false;
        };
        let note = match outgoing.event {
            Event::Mitigation(Mitigation { cause, subject, enforced_by, .. }) => {
                if let Some(active) = self.active.get_mut(&subject)
                    && active.cause == cause
                {
                    active.record = Some(at.1);
                    self.lift_if_recorded(now, subject);
                }
                let times_ns = [outgoing.decided_ns, outgoing.enforced_ns, now.real_ns];
                Note::Mitigation { at, cause, subject, enforced_by, times_ns }
            }
            Event::Lift(Lift { cause, subject, reason, packets_dropped }) => {
                self.counters.lifted += 1;
                Note::Lift { at, cause, subject, reason, packets_dropped }
            }
            Event::Refusal(Refusal { cause, subject, code, reason }) => {
                self.counters.refused += 1;
                Note::Refusal { at, cause, subject, code, reason }
            }
            // Not ours to write.
            Event::Boot(_)
            | Event::Service(_)
            | Event::Binding(_)
            | Event::Attestation(_)
            | Event::Alert(_) => return true,
        };
        out.push(Effect::Note(note));
        true
    }
}

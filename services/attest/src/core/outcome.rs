//! What came of a job: identity, verdicts, the epoch's binding, and a TPM that was reset.

use hookprobe_evidence::quote::ClockInfo;
use hookprobe_wire::{
    Event, NodeId, Severity,
    attest::{Reply, Verdict},
    event::{Attestation, BINDING_BYTES_MAX, Binding},
    ledger::{QUEUE_FULL_CODE, RequestId},
};

use super::{Cause, Core, Effect, Now, OWN_MS, Own, Phase, Stage, Work, request_id};
use crate::{
    code::{self, Fault},
    job::{Appraisal, Attested, Condition, Done, Started, Ticket},
};

impl Core {
    pub(super) fn on_done(&mut self, now: Now, ticket: Ticket, done: Done, out: &mut Vec<Effect>) {
        if let Done::Started(started) = done {
            let expected = matches!(self.phase, Phase::Starting { ticket: of, .. } if of == ticket);
            if expected {
                self.on_started(*started, out);
            } else {
                // Another seed is in use by now, and an identity is not changed in the middle.
                let text = "the TPM answered too late for this boot; restart the box";
                out.push(Effect::Log(Severity::Warn, format!("{} tpm: {text}", code::TPM_SILENT)));
            }
            return;
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Busy(work, of, _) if of == ticket => self.on_work_done(now, work, done, out),
            Stage::Silent(of) if of == ticket => {
                let text = "tpm answers again".to_owned();
                out.push(Effect::Log(Severity::Info, text));
                self.own_due_ms = now.mono_ms;
            }
            // Of a job that was never given: nothing waits for it.
            other => self.stage = other,
        }
    }

    fn on_started(&mut self, started: Started, out: &mut Vec<Effect>) {
        self.origin = started.origin;
        self.node = started.node;
        self.recovery = started.recovery;
        self.log = started.log;
        for diagnostic in started.diagnostics {
            out.push(Effect::Log(diagnostic.severity, diagnostic.to_string()));
            self.note(diagnostic);
        }
        match &started.condition {
            Condition::Enrolled(enrolled) => {
                self.own.level = enrolled.level.clone();
                let (ak, epoch) = (&enrolled.ak_name, enrolled.pin.epoch);
                let (level, commands) = (&enrolled.level.0, enrolled.commands);
                let line =
                    format!("enrolled ak={ak} epoch={epoch} level={level} commands={commands}");
                out.push(Effect::Log(Severity::Info, line));
            }
            Condition::None(fault) => {
                self.own.level = ("L0".into(), "no TPM: nothing about this box is attested".into());
                self.own.divergence = fault.to_string();
                out.push(Effect::Log(Severity::Warn, fault.to_string()));
            }
            Condition::Failed(fault) => {
                let text = "the TPM gave no identity: nothing about this box is attested";
                self.own.level = ("L0".into(), text.into());
                self.own.divergence = fault.to_string();
                out.push(Effect::Log(Severity::Critical, fault.to_string()));
            }
        }
        self.phase = Phase::Running(started.condition);
        if let Some(enrolled) = self.enrolled() {
            let (clock, change) = (enrolled.clock, enrolled.change.clone());
            if let Some((change, detail)) = change {
                self.record(change, detail);
            }
            self.check_clock(clock, out);
        }
        out.push(Effect::Ready);
    }

    fn on_work_done(&mut self, now: Now, work: Work, done: Done, out: &mut Vec<Effect>) {
        match (work, done) {
            (Work::Own(cause), Done::Quoted(Ok(attested))) => {
                self.on_own(now, &cause, *attested, out);
            }
            (Work::Own(_), Done::Quoted(Err(fault))) => self.fail(now, &fault, out),
            (Work::Epoch, Done::Quoted(Ok(attested))) => self.on_epoch(now, *attested, out),
            (Work::Epoch, Done::Quoted(Err(fault))) => {
                self.epoch_due_ms = now.mono_ms.saturating_add(OWN_MS);
                out.push(Effect::Log(Severity::Warn, format!("epoch not bound: {fault}")));
            }
            (Work::Quote { client, source, .. }, Done::Quoted(Ok(attested))) => {
                self.count(&attested, out);
                self.counts.answered += 1;
                self.counts.answered_ms = Some(now.mono_ms);
                let us = attested.us;
                let line = format!("challenge answered source={source} us={us}");
                out.push(Effect::Log(Severity::Info, line));
                out.push(Effect::Evidence(client, attested.evidence));
            }
            (Work::Activate { client, source, .. }, Done::Activated(Ok(secret))) => {
                let line = format!("credential activated source={source}");
                out.push(Effect::Log(Severity::Info, line));
                let secret = secret.to_vec().into();
                out.push(Effect::Reply(client, Reply::Activated { secret }));
            }
            (Work::Forget { client }, Done::Forgotten(Ok(()))) => {
                self.recovery = None;
                out.push(Effect::Log(Severity::Info, "recovery key noted and forgotten".into()));
                out.push(Effect::Reply(client, Reply::Recovery(None)));
            }
            (
                work,
                Done::Quoted(Err(fault))
                | Done::Activated(Err(fault))
                | Done::Forgotten(Err(fault)),
            ) => self.answer_failed(&work, &fault, out),
            // The thread answered another question than the one asked: nothing of it is used.
            (
                work,
                Done::Quoted(Ok(_))
                | Done::Activated(Ok(_))
                | Done::Forgotten(Ok(()))
                | Done::Started(_),
            ) => {
                let fault = Fault::new(
                    code::MIXED_UP,
                    "tpm: another answer than was asked for; restart the box",
                );
                self.answer_failed(&work, &fault, out);
            }
        }
    }

    /// The box looked at itself.
    fn on_own(&mut self, now: Now, cause: &Cause, attested: Attested, out: &mut Vec<Effect>) {
        self.count(&attested, out);
        let Some(appraisal) = attested.appraisal else {
            return;
        };
        let Appraisal { verdict, divergence, level, pcrs, log } = appraisal;
        self.log = log;
        let (verdict, divergence) = match &self.reset {
            Some(fault) => (Verdict::Contraindicated, fault.to_string()),
            None => (verdict, divergence),
        };
        let line = format!(
            "attested verdict={} level={} us={} retries={} cause={cause}",
            verdict.word(),
            level.0,
            attested.us,
            attested.retries
        );
        out.push(Effect::Log(Severity::Info, line));
        self.own = Own {
            verdict,
            divergence,
            level,
            pcrs,
            verified_s: now.real_s,
            verified_ms: Some(now.mono_ms),
            us: attested.us,
        };
        self.settle_verdict(out);
    }

    /// It could not look at itself.
    pub(super) fn fail(&mut self, now: Now, fault: &Fault, out: &mut Vec<Effect>) {
        self.own.verdict = match &self.reset {
            Some(_) => Verdict::Contraindicated,
            None => Verdict::None,
        };
        self.own.divergence = fault.to_string();
        self.own.level =
            ("L0".into(), "the TPM vouches for nothing now; what it said before is over".into());
        self.own.pcrs.clear();
        self.own_due_ms = now.mono_ms.saturating_add(OWN_MS);
        self.settle_verdict(out);
    }

    /// Records a verdict that is another than the last one.
    fn settle_verdict(&mut self, out: &mut Vec<Effect>) {
        let verdict = self.own.verdict;
        if self.recorded == Some(verdict) {
            return;
        }
        self.recorded = Some(verdict);
        let (change, severity) = match verdict {
            Verdict::Affirming => ("verified", Severity::Info),
            Verdict::Warning => ("warning", Severity::Warn),
            Verdict::None | Verdict::Contraindicated => ("failed", Severity::Critical),
        };
        let detail = match verdict {
            Verdict::Affirming => "as the reference manifest of the image says".to_owned(),
            Verdict::None | Verdict::Warning | Verdict::Contraindicated => {
                self.own.divergence.clone()
            }
        };
        out.push(Effect::Log(severity, format!("verdict={}: {detail}", verdict.word())));
        self.record(change, detail);
    }

    /// The TPM vouched for the ledger's key.
    fn on_epoch(&mut self, now: Now, attested: Attested, out: &mut Vec<Effect>) {
        self.count(&attested, out);
        let node = attested.quote.binding.node.as_ref().and_then(|node| {
            let bytes: [u8; 32] = node.as_slice().try_into().ok()?;
            Some(NodeId::new(bytes))
        });
        let Some(node) = node else {
            return; // The ledger went away in between; again when it is back.
        };
        if attested.evidence.len() > BINDING_BYTES_MAX {
            self.epoch_due_ms = now.mono_ms.saturating_add(OWN_MS);
            let length = attested.evidence.len();
            let line = format!(
                "{} binding: {length} bytes, at most {BINDING_BYTES_MAX}; the epoch is not in the ledger",
                code::TOO_LONG
            );
            out.push(Effect::Log(Severity::Critical, line));
            return;
        }
        self.bound = Some(node);
        self.epoch = Some(attested.quote);
        let epoch = self.epoch_number();
        let line = format!("epoch bound epoch={epoch} node={} us={}", node.short(), attested.us);
        out.push(Effect::Log(Severity::Info, line));
        // Once per boot and key, however often this service starts: the name says nothing else.
        let name = Event::Binding(Binding { epoch, evidence: node.as_bytes().to_vec().into() });
        let id = request_id(&self.boot_id, 0, &name);
        let event = Event::Binding(Binding { epoch, evidence: attested.evidence.into() });
        self.outbox.push(id, event);
    }

    fn count(&mut self, attested: &Attested, out: &mut Vec<Effect>) {
        self.counts.quotes += 1;
        self.counts.retries += u64::from(attested.retries);
        self.own.us = attested.us;
        self.check_clock(attested.clock, out);
    }

    /// A TPM that was reset while the kernel ran forgot every measurement: whatever its registers say
    /// from then on was put there by somebody.
    fn check_clock(&mut self, clock: ClockInfo, out: &mut Vec<Effect>) {
        let Some(enrolled) = self.enrolled() else {
            return;
        };
        let pin = &enrolled.pin;
        let same = clock.reset_count == pin.reset_count && clock.restart_count == pin.restart_count;
        if same || self.reset.is_some() {
            return;
        }
        let reason = format!(
            "tpm: reset under the running box (resets {} then {}, restarts {} then {}); power the box off and on, look for tampering",
            pin.reset_count, clock.reset_count, pin.restart_count, clock.restart_count
        );
        let fault = Fault::new(code::TPM_RESET, reason);
        out.push(Effect::ForgetSeed);
        self.own.verdict = Verdict::Contraindicated;
        self.own.divergence = fault.to_string();
        self.reset = Some(fault);
        self.settle_verdict(out);
    }

    pub(super) fn record(&mut self, change: &str, detail: String) {
        let ak_name = self.enrolled().map(|enrolled| enrolled.ak_name.clone()).unwrap_or_default();
        let level = self.own.level.0.clone();
        let event =
            Event::Attestation(Attestation { change: change.into(), level, ak_name, detail });
        let number = self.outbox.number();
        self.outbox.push(request_id(&self.boot_id, number, &event), event);
    }

    pub(super) fn on_rejected(
        &mut self,
        now: Now,
        id: RequestId,
        fault: &Fault,
        out: &mut Vec<Effect>,
    ) {
        // Its queue is full: later. Anything else will not become better.
        if fault.code == QUEUE_FULL_CODE {
            self.outbox.postpone(now.mono_ms, id);
            return;
        }
        self.outbox.settle(id);
        out.push(Effect::Log(Severity::Warn, format!("the ledger refused an event: {fault}")));
    }
}

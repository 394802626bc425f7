//! Requests: who may ask what, and the seed's way to the ledger.

use hookprobe_wire::{
    CONSOLE_UID, LEDGER_UID, Severity,
    attest::{
        CREDENTIAL_BYTES_MAX, KeyOrigin, LOG_MAX, NONCE_BYTES_MAX, NONCE_BYTES_MIN, Reply, Request,
    },
};

use super::{
    CONTROL_MS, Caller, Cause, ClientId, Core, Effect, Now, Phase, Running, SEED_WAITING_MAX,
    SeedWaiter, Seen, Source, Stage, Work, silent,
};
use crate::{
    code::{self, Fault},
    core::TPM_MS_MAX,
    job::Condition,
};

/// Name of the ledger in PID 1's status.
const LEDGER: &str = "ledger";
/// Clients that wait for the recovery key to be off the disk: every console the box has.
const FORGET_WAITING_MAX: usize = 4;

impl Core {
    pub(super) fn on_request(
        &mut self,
        now: Now,
        client: ClientId,
        caller: Caller,
        request: Request,
        out: &mut Vec<Effect>,
    ) {
        match request {
            Request::Status => out.push(Effect::Reply(client, Reply::Status(self.status(now)))),
            Request::Log { from } => out.push(Effect::Reply(client, self.log_from(from))),
            Request::Evidence { nonce, exporter, full } => {
                let source = source_of(caller);
                if !(NONCE_BYTES_MIN..=NONCE_BYTES_MAX).contains(&nonce.len()) {
                    let reason = format!(
                        "nonce: {} bytes, {NONCE_BYTES_MIN} to {NONCE_BYTES_MAX} can be quoted",
                        nonce.len()
                    );
                    return refuse(client, caller, &Fault::new(code::LENGTH, reason), out);
                }
                let work = Work::Quote { client, source, nonce, exporter, full };
                self.queue(now, client, caller, work, out);
            }
            // It decrypts with the endorsement key: nothing that another service has a use for.
            Request::Activate { .. } if !is_console(caller) && caller != Caller::Port => {
                let reason = "credential: taken from who enrols the box, by its port or console";
                refuse(client, caller, &Fault::new(rights(caller), reason), out);
            }
            Request::Activate { credential, secret } => {
                let source = source_of(caller);
                if credential.len().max(secret.len()) > CREDENTIAL_BYTES_MAX {
                    let reason = format!("credential: at most {CREDENTIAL_BYTES_MAX} bytes");
                    return refuse(client, caller, &Fault::new(code::LENGTH, reason), out);
                }
                let (credential, secret) = (credential.to_vec(), secret.to_vec());
                let work = Work::Activate { client, source, credential, secret };
                self.queue(now, client, caller, work, out);
            }
            Request::Seed => self.on_seed(now, client, caller, out),
            Request::Recovery | Request::RecoveryNoted if !is_console(caller) => {
                let reason = "recovery key: shown on the box's own console only";
                refuse(client, caller, &Fault::new(rights(caller), reason), out);
            }
            Request::Recovery => {
                let key = self.recovery.as_ref().map(|key| key.to_string());
                out.push(Effect::Reply(client, Reply::Recovery(key)));
            }
            Request::RecoveryNoted => self.on_noted(client, out),
        }
    }

    fn on_noted(&mut self, client: ClientId, out: &mut Vec<Effect>) {
        if self.recovery.is_none() {
            out.push(Effect::Reply(client, Reply::Recovery(None)));
        } else if matches!(self.phase, Phase::Starting { .. })
            || matches!(self.stage, Stage::Silent(_))
        {
            // The file can't be written without the thread that owns it.
            out.push(reply_error(client, &self.unavailable()));
        } else if self.forget.len() >= FORGET_WAITING_MAX {
            let reason = "recovery key: it is being forgotten; ask again in a second";
            out.push(reply_error(client, &Fault::new(code::TOO_MANY, reason)));
        } else {
            self.forget.push_back(client);
        }
    }

    /// A challenge: waits for the TPM, or is refused at once.
    fn queue(
        &mut self,
        now: Now,
        client: ClientId,
        caller: Caller,
        work: Work,
        out: &mut Vec<Effect>,
    ) {
        if self.enrolled().is_none() || matches!(self.stage, Stage::Silent(_)) {
            return refuse(client, caller, &self.unavailable(), out);
        }
        let source = source_of(caller);
        if !self.limits.take(now.mono_ms, source) || self.waiting.push(source, work).is_err() {
            self.counts.refused += 1;
            let reason = "challenge: too many at once; ask again in a second";
            refuse(client, caller, &Fault::new(code::TOO_MANY, reason), out);
        }
    }

    /// Why the TPM can't be used now.
    fn unavailable(&self) -> Fault {
        match &self.phase {
            Phase::Starting { .. } => {
                Fault::new(code::STARTING, "identity: not set up yet; ask again in a few seconds")
            }
            Phase::Running(Condition::None(fault) | Condition::Failed(fault)) => fault.clone(),
            Phase::Running(Condition::Enrolled(_)) => silent(TPM_MS_MAX),
        }
    }

    pub(super) fn answer_failed(&mut self, work: &Work, fault: &Fault, out: &mut Vec<Effect>) {
        if let Some(client) = work.client() {
            out.push(Effect::Log(Severity::Warn, format!("request failed: {fault}")));
            out.push(reply_error(client, fault));
        }
    }

    fn on_seed(&mut self, now: Now, client: ClientId, caller: Caller, out: &mut Vec<Effect>) {
        let Caller::Process { uid: LEDGER_UID, pid } = caller else {
            let reason = "seed: for the ledger's user only";
            return refuse_seed(client, caller, Fault::new(rights(caller), reason), out);
        };
        let Some(pid) = pid else {
            let reason = "seed: the kernel does not say which process asks (SO_PEERPIDFD needs Linux 6.5), or it ended";
            return refuse_seed(client, caller, Fault::new(code::NOT_THE_LEDGER, reason), out);
        };
        if matches!(self.phase, Phase::Starting { .. }) {
            out.push(Effect::SeedLater(client));
            return;
        }
        if let Some(fault) = self.seed_withheld() {
            return refuse_seed(client, caller, fault, out);
        }
        if self.seeds.len() >= SEED_WAITING_MAX {
            out.push(Effect::SeedLater(client));
            return;
        }
        // PID 1's answer has to be later than the request.
        self.ask_control(now, out);
        let since_ms = now.mono_ms;
        self.seeds.push(SeedWaiter { client, pid, round: self.round, since_ms });
    }

    fn seed_withheld(&self) -> Option<Fault> {
        if let Some(fault) = &self.reset {
            return Some(Fault::new(code::SEED_WITHHELD, format!("seed: withheld, {fault}")));
        }
        (self.origin == KeyOrigin::None).then(|| {
            Fault::new(code::SEED_WITHHELD, "seed: there is none; see the diagnostics of attest")
        })
    }

    pub(super) fn ask_control(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.round += 1;
        self.control_due_ms = now.mono_ms.saturating_add(CONTROL_MS);
        out.push(Effect::AskControl(self.round));
    }

    pub(super) fn on_control_lost(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.seeds.drain(..).map(|waiter| Effect::SeedLater(waiter.client)));
    }

    pub(super) fn on_control(
        &mut self,
        now: Now,
        round: u64,
        services: &[Seen],
        out: &mut Vec<Effect>,
    ) {
        let (answered, rest) =
            std::mem::take(&mut self.seeds).into_iter().partition(|waiter| waiter.round <= round);
        self.seeds = rest;
        let ledger = services.iter().find(|seen| seen.name == LEDGER);
        for waiter in answered {
            self.decide_seed(&waiter, ledger, out);
        }
        let running: Vec<_> =
            services.iter().map(|seen| (seen.name.clone(), seen.pid, seen.restarts)).collect();
        let changed = self.services.as_ref().is_some_and(|known| *known != running);
        if changed {
            let known = self.services.as_deref().unwrap_or_default();
            self.own_cause = started_again(known, &running).map_or(Cause::Services, Cause::Restart);
            self.own_due_ms = now.mono_ms;
        }
        self.services = Some(running);
    }

    fn decide_seed(&self, waiter: &SeedWaiter, ledger: Option<&Seen>, out: &mut Vec<Effect>) {
        let SeedWaiter { client, pid, .. } = *waiter;
        let caller = Caller::Process { uid: LEDGER_UID, pid: Some(pid) };
        // The box may have changed while PID 1 was asked.
        if let Some(fault) = self.seed_withheld() {
            return refuse_seed(client, caller, fault, out);
        }
        let why = match ledger {
            // It is being started, or was just reaped: the ledger takes a no for final.
            None | Some(Seen { pid: 0, .. }) => {
                out.push(Effect::SeedLater(client));
                return;
            }
            Some(seen) if seen.pid != pid => {
                format!("process {pid} is not the ledger {}", seen.pid)
            }
            Some(seen) if !seen.matches => "its binary is not the manifest's".to_owned(),
            Some(_) => {
                let (epoch, origin) = (self.epoch_number(), self.origin);
                out.push(Effect::HandSeed { client, pid, epoch, origin });
                return;
            }
        };
        let fault =
            Fault::new(code::NOT_THE_LEDGER, format!("seed: {why}; see the services screen"));
        refuse_seed(client, caller, fault, out);
    }

    fn log_from(&self, from: u32) -> Reply {
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        let lines = self.log.iter().skip(start).take(LOG_MAX).cloned().collect();
        Reply::Log { total: u32::try_from(self.log.len()).unwrap_or(u32::MAX), lines }
    }
}

/// The first service that has more restarts than it had.
fn started_again(known: &[Running], running: &[Running]) -> Option<String> {
    let more = |(name, _, restarts): &&Running| {
        let before = known.iter().find(|(known, ..)| known == name);
        before.is_some_and(|(.., before)| restarts > before)
    };
    running.iter().find(more).map(|(name, ..)| name.clone())
}

fn is_console(caller: Caller) -> bool {
    matches!(caller, Caller::Process { uid: CONSOLE_UID, .. })
}

fn source_of(caller: Caller) -> Source {
    match caller {
        Caller::Process { uid, .. } => Source::Uid(uid),
        Caller::Port => Source::Port,
    }
}

fn rights(caller: Caller) -> &'static str {
    match caller {
        Caller::Process { .. } => code::NOT_ALLOWED,
        Caller::Port => code::NOT_ON_PORT,
    }
}

fn reply_error(client: ClientId, fault: &Fault) -> Effect {
    let Fault { code, reason } = fault.clone();
    Effect::Reply(client, Reply::Error { code, reason })
}

fn refuse(client: ClientId, caller: Caller, fault: &Fault, out: &mut Vec<Effect>) {
    let source = source_of(caller);
    out.push(Effect::Log(Severity::Warn, format!("refused source={source}: {fault}")));
    out.push(reply_error(client, fault));
}

fn refuse_seed(client: ClientId, caller: Caller, fault: Fault, out: &mut Vec<Effect>) {
    let source = source_of(caller);
    out.push(Effect::Log(Severity::Warn, format!("refused source={source}: {fault}")));
    out.push(Effect::RefuseSeed(client, fault));
}

//! What the service decides, and nothing else: no clock, no I/O, no randomness, no secret.
//!
//! ```text
//! requests, PID 1, ledger, TPM results, ticks --Input--> Core --Effect--> the shell
//! ```
//!
//! One job at a time is with the TPM. Before a quote the ledger is asked for its head, so that the
//! quote vouches for it; then the job goes out with a deadline. A TPM that does not answer by then is
//! called silent: waiting challenges are refused, the level is L0, and the loop goes on.
//!
//! Must never happen here: a seed for a process that PID 1 does not name as the ledger *after* the
//! request; a seed or a good verdict once the TPM was reset under the running box; a quote that vouches for
//! a ledger whose key is not that of the seed; a challenge that keeps the box from appraising itself. Called by [`crate::serve`].

mod answer;
mod limit;
mod outbox;
mod outcome;
mod status;

use std::{collections::VecDeque, fmt};

use hookprobe_evidence::{
    bundle::{EpochQuote, boot_nonce},
    quote::Binding as QuoteBinding,
};
use hookprobe_wire::{
    Diagnostic, Event, Hash, NodeId, Severity,
    attest::{KeyOrigin, Measurement, Reply, Request, Verdict},
    control::PcrValue,
    ledger::{Head, RequestId},
};
use minicbor::bytes::ByteVec;
use zeroize::Zeroizing;

pub use self::{
    limit::{BURST, PER_SOURCE_MAX, REFILL_MS, SOURCES_MAX, Source, WAITING_MAX},
    outbox::{EVENTS_MAX, request_id},
};
use self::{
    limit::{Limits, Waiting},
    outbox::Outbox,
};
use crate::{
    code::{self, Fault},
    job::{Ask, Condition, Done, Enrolled, Job, Ticket, Want},
};

/// The box appraises itself this often: a changed register is on the screen within a minute.
pub const OWN_MS: u64 = 60_000;
/// PID 1 is asked this often whether a service was started again.
pub const CONTROL_MS: u64 = 2000;
/// Longest wait for the ledger's head before a quote is made without it: its writer may be in the
/// middle of a commit, the challenger should not notice.
pub const HEAD_MS_MAX: u64 = 500;
/// Longest wait for the start: an RSA primary key takes a discrete TPM up to a minute, and the box's
/// other services wait behind this one.
pub const START_MS_MAX: u64 = 150_000;
/// Longest wait for a quote with its retries; a discrete TPM needs half a second for each.
pub const TPM_MS_MAX: u64 = 30_000;
/// Longest wait of a seed request for PID 1's answer; the ledger asks again after that.
pub const SEED_MS_MAX: u64 = 3000;
/// Seed requests that wait; there is one ledger.
const SEED_WAITING_MAX: usize = 4;
/// Diagnostics kept, half of what a status takes: the rest is made when asked.
const DIAGNOSTICS_MAX: usize = 32;

/// Reads of the two clocks that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Never steps, milliseconds.
    pub mono_ms: u64,
    /// Seconds since 1970: for people.
    pub real_s: u64,
}

/// A connection; a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A process.
    Process {
        /// SO_PEERCRED.
        uid: u32,
        /// Of the descriptor that SO_PEERPIDFD gave; none where the kernel has none, or it ended.
        pid: Option<u32>,
    },
    /// The hypervisor, or whoever has its end of the port.
    Port,
}

/// A service as PID 1 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name.
    pub name: String,
    /// Process, 0 without one.
    pub pid: u32,
    /// Starts after the first.
    pub restarts: u32,
    /// Its binary is the measured one.
    pub matches: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A client asks.
    Request(ClientId, Caller, Request),
    /// A client is gone.
    Gone(ClientId),
    /// The TPM's thread is done.
    Done(Ticket, Done),
    /// PID 1 answered the question with this number.
    Control(u64, Vec<Seen>),
    /// PID 1 can't be asked.
    ControlLost,
    /// The connection to the ledger is new.
    LedgerUp,
    /// It is gone.
    LedgerLost,
    /// State of the lane.
    Head(Head),
    /// An event is in the ledger.
    Appended(RequestId),
    /// An event is not, and why.
    Rejected(RequestId, Fault),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Work for the TPM's thread.
    Tpm(Ticket, Job),
    /// Answer.
    Reply(ClientId, Reply),
    /// Answer with evidence, in parts.
    Evidence(ClientId, Vec<u8>),
    /// Hand the seed over if the process of this connection still lives.
    HandSeed {
        /// To whom.
        client: ClientId,
        /// For the log.
        pid: u32,
        /// Of this boot.
        epoch: u64,
        /// Where it comes from.
        origin: KeyOrigin,
    },
    /// Refuse the seed.
    RefuseSeed(ClientId, Fault),
    /// The seed is not there yet.
    SeedLater(ClientId),
    /// Wipe the seed.
    ForgetSeed,
    /// Draw a seed for this boot: the TPM's thread did not come back with one.
    DrawSeed,
    /// Ask the ledger for its head.
    AskHead,
    /// Append.
    Append(RequestId, Event),
    /// Ask PID 1 for its status; the answer comes with the same number.
    AskControl(u64),
    /// Tell PID 1 that the start takes longer.
    Extend,
    /// Tell PID 1 that the service is ready.
    Ready,
    /// One line.
    Log(Severity, String),
}

/// Why the box looks at itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Cause {
    /// For the first time.
    #[default]
    Start,
    /// A minute has passed.
    Minute,
    /// A service was started again; which.
    Restart(String),
    /// Another process runs than did, or one is gone.
    Services,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Minute => f.write_str("minute"),
            Self::Restart(service) => write!(f, "restart service={service}"),
            Self::Services => f.write_str("services"),
        }
    }
}

/// What the TPM is to be used for next.
#[derive(Debug, Clone)]
enum Work {
    Own(Cause),
    Epoch,
    Quote { client: ClientId, source: Source, nonce: ByteVec, exporter: Option<Hash>, full: bool },
    Activate { client: ClientId, source: Source, credential: Vec<u8>, secret: Vec<u8> },
    Forget { client: ClientId },
}

impl Work {
    fn client(&self) -> Option<ClientId> {
        match self {
            Self::Own(_) | Self::Epoch => None,
            Self::Quote { client, .. }
            | Self::Activate { client, .. }
            | Self::Forget { client } => Some(*client),
        }
    }
}

/// What the TPM's thread does.
#[derive(Debug)]
enum Stage {
    Idle,
    /// The ledger is asked for its head first.
    Asking(Work, u64),
    Busy(Work, Ticket, u64),
    /// It did not come back in time; nothing is sent until it does.
    Silent(Ticket),
}

#[derive(Debug)]
enum Phase {
    Starting { since_ms: u64, ticket: Ticket },
    Running(Condition),
}

#[derive(Debug)]
struct SeedWaiter {
    client: ClientId,
    pid: u32,
    /// The first question to PID 1 that was asked after the request.
    round: u64,
    since_ms: u64,
}

/// The last appraisal of the box by itself.
#[derive(Debug)]
struct Own {
    verdict: Verdict,
    divergence: String,
    level: (String, String),
    pcrs: Vec<PcrValue>,
    verified_s: u64,
    verified_ms: Option<u64>,
    us: u64,
}

/// A service as it was last seen: name, process, restarts.
type Running = (String, u32, u32);

#[derive(Debug, Default)]
struct Counts {
    quotes: u64,
    retries: u64,
    refused: u64,
    answered: u64,
    answered_ms: Option<u64>,
}

/// The service's state.
#[derive(Debug)]
pub struct Core {
    boot_id: String,
    phase: Phase,
    stage: Stage,
    next_ticket: u64,
    origin: KeyOrigin,
    /// Public key of the seed.
    node: Option<NodeId>,
    recovery: Option<Zeroizing<String>>,
    diagnostics: Vec<Diagnostic>,
    log: Vec<Measurement>,
    own: Own,
    own_due_ms: u64,
    own_cause: Cause,
    recorded: Option<Verdict>,
    reset: Option<Fault>,
    limits: Limits,
    waiting: Waiting<Work>,
    forget: VecDeque<ClientId>,
    seeds: Vec<SeedWaiter>,
    services: Option<Vec<Running>>,
    round: u64,
    control_due_ms: u64,
    ledger: bool,
    /// What the ledger said last, and whether that was since it was asked last.
    head: Option<Head>,
    head_fresh: bool,
    epoch: Option<EpochQuote>,
    bound: Option<NodeId>,
    epoch_due_ms: u64,
    outbox: Outbox,
    counts: Counts,
}

impl Core {
    /// At the start: the first job goes out.
    pub fn new(now: Now, boot_id: &str, out: &mut Vec<Effect>) -> Self {
        let ticket = Ticket(0);
        out.push(Effect::Tpm(ticket, Job::Start));
        out.push(Effect::Extend);
        Self {
            boot_id: boot_id.into(),
            phase: Phase::Starting { since_ms: now.mono_ms, ticket },
            stage: Stage::Idle,
            next_ticket: 1,
            origin: KeyOrigin::None,
            node: None,
            recovery: None,
            diagnostics: Vec::new(),
            log: Vec::new(),
            own: Own {
                verdict: Verdict::None,
                divergence: String::new(),
                level: ("L0".into(), "the identity is not set up yet".into()),
                pcrs: Vec::new(),
                verified_s: 0,
                verified_ms: None,
                us: 0,
            },
            own_due_ms: now.mono_ms,
            own_cause: Cause::Start,
            recorded: None,
            reset: None,
            limits: Limits::default(),
            waiting: Waiting::default(),
            forget: VecDeque::new(),
            seeds: Vec::new(),
            services: None,
            round: 0,
            control_due_ms: now.mono_ms,
            ledger: false,
            head: None,
            head_fresh: false,
            epoch: None,
            bound: None,
            epoch_due_ms: 0,
            outbox: Outbox::default(),
            counts: Counts::default(),
        }
    }

    /// One input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Request(client, caller, request) => {
                self.on_request(now, client, caller, request, out);
            }
            Input::Gone(client) => {
                self.waiting.retain(|work| work.client() != Some(client));
                self.seeds.retain(|waiter| waiter.client != client);
                self.forget.retain(|waiting| *waiting != client);
            }
            Input::Done(ticket, done) => self.on_done(now, ticket, done, out),
            Input::Control(round, services) => self.on_control(now, round, &services, out),
            Input::ControlLost => self.on_control_lost(out),
            Input::LedgerUp => {
                self.ledger = true;
                self.outbox.restart();
                // Who it is decides whether the epoch has to be bound.
                out.push(Effect::AskHead);
            }
            Input::LedgerLost => self.ledger = false,
            Input::Head(head) => self.on_head(head, out),
            Input::Appended(id) => self.outbox.settle(id),
            Input::Rejected(id, fault) => self.on_rejected(now, id, &fault, out),
        }
        self.advance(now, out);
        if self.ledger
            && let Some((id, event)) = self.outbox.next(now.mono_ms)
        {
            out.push(Effect::Append(id, event));
        }
    }

    fn on_head(&mut self, head: Head, out: &mut Vec<Effect>) {
        let known = self.head.as_ref().is_some_and(|last| last.node == head.node);
        self.head = Some(head);
        self.head_fresh = true;
        if let Some(fault) = self.other_ledger().filter(|_| !known) {
            out.push(Effect::Log(Severity::Warn, fault.to_string()));
        }
    }

    /// A ledger that does not sign with the seed: it took a key of its own, or is another process.
    fn other_ledger(&self) -> Option<Fault> {
        let (node, wanted) = (self.head.as_ref()?.node, self.node?);
        (self.enrolled().is_some() && node != wanted).then(|| {
            let reason = format!(
                "ledger: signs with key {}, not with the one of its seed ({}), no quote vouches for it; restart the box",
                node.short(),
                wanted.short()
            );
            Fault::new(code::OTHER_LEDGER, reason)
        })
    }

    fn enrolled(&self) -> Option<&Enrolled> {
        match &self.phase {
            Phase::Running(Condition::Enrolled(enrolled)) => Some(enrolled),
            Phase::Running(Condition::None(_) | Condition::Failed(_)) | Phase::Starting { .. } => {
                None
            }
        }
    }

    fn epoch_number(&self) -> u64 {
        self.enrolled().map_or(0, |enrolled| enrolled.pin.epoch)
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        let passed = |since: u64, limit: u64| now.mono_ms.saturating_sub(since) >= limit;
        if let Phase::Starting { since_ms, ticket } = self.phase {
            if passed(since_ms, START_MS_MAX) {
                self.stage = Stage::Silent(ticket);
                self.origin = KeyOrigin::Boot;
                out.push(Effect::DrawSeed);
                self.phase = Phase::Running(Condition::Failed(silent(START_MS_MAX)));
                self.fail(now, &silent(START_MS_MAX), out);
                out.push(Effect::Ready);
            } else {
                out.push(Effect::Extend);
            }
        }
        if let Stage::Busy(work, ticket, since_ms) = &self.stage
            && passed(*since_ms, TPM_MS_MAX)
        {
            let (work, ticket) = (work.clone(), *ticket);
            self.stage = Stage::Silent(ticket);
            let fault = silent(TPM_MS_MAX);
            self.answer_failed(&work, &fault, out);
            self.fail(now, &fault, out);
        }
        if matches!(self.stage, Stage::Silent(_)) {
            while let Some(work) = self.waiting.pop() {
                self.answer_failed(&work, &silent(TPM_MS_MAX), out);
            }
            while let Some(client) = self.forget.pop_front() {
                self.answer_failed(&Work::Forget { client }, &silent(TPM_MS_MAX), out);
            }
        }
        let (late, rest) = std::mem::take(&mut self.seeds)
            .into_iter()
            .partition(|waiter| passed(waiter.since_ms, SEED_MS_MAX));
        self.seeds = rest;
        out.extend(late.iter().map(|waiter: &SeedWaiter| Effect::SeedLater(waiter.client)));
        if now.mono_ms >= self.control_due_ms {
            self.ask_control(now, out);
        }
    }

    /// Starts what can be started.
    fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Idle)
            && matches!(self.phase, Phase::Running(_))
            && let Some(work) = self.choose(now)
        {
            let asks = match work {
                Work::Own(_) | Work::Epoch | Work::Quote { .. } => self.ledger,
                Work::Activate { .. } | Work::Forget { .. } => false,
            };
            if asks {
                self.head_fresh = false;
                out.push(Effect::AskHead);
            }
            self.stage = Stage::Asking(work, now.mono_ms);
        }
        let Stage::Asking(work, since_ms) = &self.stage else {
            return;
        };
        let late = now.mono_ms.saturating_sub(*since_ms) >= HEAD_MS_MAX;
        let asks = !matches!(work, Work::Activate { .. } | Work::Forget { .. });
        if !asks || late || self.head_fresh || !self.ledger {
            let work = work.clone();
            self.dispatch(now, work, out);
        }
    }

    /// The epoch's binding first, then what an operator asked for, then the box itself, then others.
    /// Without an identity only the identity file is written.
    fn choose(&mut self, now: Now) -> Option<Work> {
        let enrolled = self.enrolled().is_some();
        let unbound = self
            .head
            .as_ref()
            .is_some_and(|head| Some(head.node) == self.node && self.node != self.bound);
        if enrolled && unbound && self.ledger && now.mono_ms >= self.epoch_due_ms {
            return Some(Work::Epoch);
        }
        if let Some(client) = self.forget.pop_front() {
            return Some(Work::Forget { client });
        }
        if !enrolled {
            return None;
        }
        if now.mono_ms >= self.own_due_ms {
            return Some(Work::Own(std::mem::replace(&mut self.own_cause, Cause::Minute)));
        }
        self.waiting.pop()
    }

    fn dispatch(&mut self, now: Now, work: Work, out: &mut Vec<Effect>) {
        let own_nonce = || ByteVec::from(boot_nonce(&self.boot_id));
        let epoch = self.epoch.clone();
        let job = match &work {
            Work::Own(_) => {
                let binding = self.binding(own_nonce(), None, false);
                Job::Quote(Want::Own, Box::new(Ask { binding, epoch }))
            }
            Work::Epoch => {
                let binding = self.binding(own_nonce(), None, true);
                Job::Quote(Want::Epoch, Box::new(Ask { binding, epoch: None }))
            }
            Work::Quote { nonce, exporter, full, .. } => {
                let binding = self.binding(nonce.clone(), *exporter, false);
                let want = Want::Challenge { full: *full };
                Job::Quote(want, Box::new(Ask { binding, epoch }))
            }
            Work::Activate { credential, secret, .. } => {
                Job::Activate { credential: credential.clone(), secret: secret.clone() }
            }
            Work::Forget { .. } => Job::ForgetRecovery,
        };
        match work {
            Work::Own(_) => self.own_due_ms = now.mono_ms.saturating_add(OWN_MS),
            // Without a head there is nobody to bind: later.
            Work::Epoch => self.epoch_due_ms = now.mono_ms.saturating_add(CONTROL_MS),
            Work::Quote { .. } | Work::Activate { .. } | Work::Forget { .. } => {}
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.stage = Stage::Busy(work, ticket, now.mono_ms);
        out.push(Effect::Tpm(ticket, job));
    }

    /// What a quote vouches for. The ledger is in it once its key was certified, with the head that
    /// is known: a ledger that is just starting again has not become another one. Only the key of the
    /// seed is ever certified.
    fn binding(&self, nonce: ByteVec, exporter: Option<Hash>, certifies: bool) -> QuoteBinding {
        let bytes = |hash: &[u8; 32]| ByteVec::from(hash.to_vec());
        let certified = if certifies { self.node } else { self.bound };
        let head = self.head.as_ref().filter(|head| Some(head.node) == certified);
        let filled = head.filter(|head| head.length > 0);
        QuoteBinding {
            nonce,
            exporter: exporter.map(|hash| bytes(hash.as_bytes())),
            node: head.map(|head| bytes(head.node.as_bytes())),
            epoch: self.epoch_number(),
            length: head.map_or(0, |head| head.length),
            head: filled.map(|head| bytes(head.hash.as_bytes())),
            root: filled.map(|head| bytes(head.root.as_bytes())),
        }
    }

    fn note(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < DIAGNOSTICS_MAX {
            self.diagnostics.push(diagnostic);
        }
    }
}

fn silent(limit_ms: u64) -> Fault {
    let reason = format!(
        "tpm: no answer within {} s; power the box off and on, replace the TPM if it happens again",
        limit_ms / 1000
    );
    Fault::new(code::TPM_SILENT, reason)
}

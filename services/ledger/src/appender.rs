//! The pure core: who may append, in which order, exactly once.
//!
//! `handle(now, input, &mut effects)` is all there is. It holds the queue, the table of request
//! ids and the chain; time and salt come with the input; disk, keys and sockets are elsewhere.
//! At most one batch is being written at any time, and everything that queued up meanwhile is the
//! next one: the slower the disk, the larger the batches.
//!
//! ```text
//! Append -> [queue, QUEUE_MAX] --Tick--> Effect::Commit(batch) --> writer
//!                                  Committed: answer all, publish     |
//!                                  NotWritten: reject all, wait       |  one of
//!                                  Down: hold the batch, ask again  <-'
//! ```
//!
//! What must never happen here: an answer before `Committed`; a second block for a known request
//! id; a request that gets no answer. Called by [`crate::serve`] and by the simulation.

use std::collections::{HashMap, HashSet, VecDeque};

use hookprobe_wire::{
    Event, EventType, Hash, Seq,
    block::{Header, SALT_BYTES, payload_hash},
    ledger::{Head, PAYLOAD_BYTES_MAX, Reply, RequestId, may_append},
};

use crate::{
    chain::{Lane, Tip},
    code,
};

/// Appends that may wait; more are rejected and counted. With the largest payload, 16 MiB.
pub const QUEUE_MAX: usize = 1024;
/// Blocks in one batch: bounds how long a commit takes (signing 256 blocks is some 20 ms on the
/// slowest board).
pub const BATCH_BLOCKS_MAX: usize = 256;
/// Payload bytes in one batch, at least one block.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Request ids that are remembered, oldest forgotten first: a client that lost an answer asks
/// again within seconds, and this many appends take longer than that on any disk we run on.
pub const REQUESTS_MAX: u64 = 16 * 1024;
/// How long nothing is tried after the disk was full or failed: a full disk does not get emptier
/// by asking, and every try costs a reopened database.
pub const RETRY_NS: u64 = 1_000_000_000;

/// Who waits for an answer; chosen by the caller, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(pub u64);

/// Why the disk did not take a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No space.
    Full,
    /// Anything else that may pass.
    Error,
}

impl Cause {
    fn code(self) -> &'static str {
        match self {
            Self::Full => code::DISK_FULL,
            Self::Error => code::DISK_ERROR,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Full => {
                "ledger: disk full, nothing was written; free space on the state disk, appends then work again by themselves"
            }
            Self::Error => {
                "ledger: the state disk does not take writes, nothing was written; check the disk, the ledger keeps trying"
            }
        }
    }
}

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// A client wants an event appended.
    Append(Append),
    /// All input there was has been given; also comes at least once a second.
    Tick,
    /// The batch is on disk.
    Committed,
    /// The batch is not on disk and never will be; the store works again.
    NotWritten(Cause),
    /// Whether the batch is on disk is not known; the store is closed.
    Down(Cause),
}

/// A wish to append.
#[derive(Debug)]
pub struct Append {
    /// Who waits.
    pub client: Client,
    /// May append anything whatever its uid is: only for tests and benchmarks, by command line.
    pub trusted: bool,
    /// Uid of its process.
    pub uid: u32,
    /// Its name for the append.
    pub id: RequestId,
    /// What.
    pub event: Event,
    /// Fresh random bytes.
    pub salt: [u8; SALT_BYTES],
}

/// What has to be done.
#[derive(Debug)]
pub enum Effect {
    /// Tell the client.
    Reply {
        /// Whom.
        client: Client,
        /// What.
        reply: Reply,
    },
    /// Sign and write this, then come back with how it went.
    Commit(Batch),
    /// Open the store again and find out about the last batch, then come back as for `Commit`.
    Recover,
    /// Blocks before this one can be read.
    Published(Seq),
}

/// Blocks that are written together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In order, at least one.
    pub drafts: Vec<Draft>,
    /// The chain after them.
    pub after: Lane,
}

/// An unsigned block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its header.
    pub header: Header,
    /// Hash of that.
    pub hash: Hash,
    /// Salt of the payload.
    pub salt: [u8; SALT_BYTES],
    /// The payload.
    pub payload: Vec<u8>,
    /// Name of the append.
    pub id: RequestId,
}

#[derive(Debug)]
struct Queued {
    client: Client,
    id: RequestId,
    kind: EventType,
    payload: Vec<u8>,
    salt: [u8; SALT_BYTES],
}

/// What the store is doing.
#[derive(Debug)]
enum Disk {
    Idle,
    Writing(InFlight),
    /// Closed; the batch's fate is open.
    Down {
        flight: InFlight,
        cause: Cause,
        retry_at_ns: u64,
        asked: bool,
    },
    /// Works, but did not take the last batch.
    Refusing {
        cause: Cause,
        until_ns: u64,
    },
}

#[derive(Debug)]
struct InFlight {
    /// Every client of every draft; a draft that was asked for twice has two.
    waiters: Vec<(Client, RequestId, Seq, Hash)>,
    ids: HashSet<RequestId>,
    after: Lane,
}

/// Numbers for `Head` and the status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Blocks written.
    pub appended: u64,
    /// Batches written.
    pub batches: u64,
    /// Appends whose id was known.
    pub duplicates: u64,
    /// Rejected because the queue was full.
    pub queue_full: u64,
    /// Rejected by policy or size.
    pub refused: u64,
    /// Rejected because the disk did not take them.
    pub disk: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Appender {
    lane: Lane,
    disk: Disk,
    queue: VecDeque<Queued>,
    requests: RequestTable,
    counters: Counters,
    queue_max: usize,
}

impl Appender {
    /// With the chain and the request ids as they are on disk, oldest id first.
    #[must_use]
    pub fn new(lane: Lane, requests: impl IntoIterator<Item = (RequestId, Seq, Hash)>) -> Self {
        let mut table = RequestTable::default();
        for (id, seq, hash) in requests {
            table.insert(id, seq, hash);
        }
        Self {
            lane,
            disk: Disk::Idle,
            queue: VecDeque::new(),
            requests: table,
            counters: Counters::default(),
            queue_max: QUEUE_MAX,
        }
    }

    /// The same with another bound on the queue, for tests.
    #[must_use]
    pub fn with_queue_max(mut self, queue_max: usize) -> Self {
        self.queue_max = queue_max;
        self
    }

    /// Where the chain stands on disk.
    #[must_use]
    pub fn tip(&self) -> &Tip {
        &self.lane.tip
    }

    /// Numbers since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Nothing waits and nothing is being written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && !matches!(self.disk, Disk::Writing(_) | Disk::Down { .. })
    }

    /// What is wrong with the disk now.
    #[must_use]
    pub fn trouble(&self) -> Option<Cause> {
        match self.disk {
            Disk::Idle | Disk::Writing(_) => None,
            Disk::Down { cause, .. } | Disk::Refusing { cause, .. } => Some(cause),
        }
    }

    /// The answer to `Request::Head`; where the key comes from is not known here.
    #[must_use]
    pub fn head(&self, verified_at_start: u64, volatile: bool) -> Head {
        Head {
            node: self.lane.epoch.node,
            epoch: self.lane.epoch.number,
            length: self.lane.tip.next().0,
            hash: self.lane.tip.hash,
            root: self.lane.tip.tree.root(),
            verified_at_start,
            volatile,
            queue: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            rejected: self.counters.queue_full,
            key: None,
        }
    }

    /// Takes one input; what has to be done is added to `out`. `now_ns` is the wall clock.
    pub fn handle(&mut self, now_ns: u64, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Append(wish) => self.append(now_ns, wish, out),
            Input::Tick => self.tick(now_ns, out),
            Input::Committed => {
                self.committed(out);
                self.tick(now_ns, out);
            }
            Input::NotWritten(cause) => self.not_written(now_ns, cause, out),
            Input::Down(cause) => self.down(now_ns, cause),
        }
    }

    fn append(&mut self, now_ns: u64, wish: Append, out: &mut Vec<Effect>) {
        let Append { client, uid, id, event, .. } = wish;
        let kind = event.event_type();
        if !wish.trusted && !may_append(uid, kind) {
            self.counters.refused += 1;
            let reason = format!(
                "append: uid {uid} may not write {}; only the service that owns this kind may",
                kind.word()
            );
            return reject(client, id, code::NOT_ALLOWED, reason, out);
        }
        if let Some((seq, hash)) = self.requests.get(&id) {
            self.counters.duplicates += 1;
            return out.push(appended(client, id, seq, hash));
        }
        let payload = event.to_cbor();
        if payload.len() > PAYLOAD_BYTES_MAX {
            self.counters.refused += 1;
            let reason = format!(
                "append: payload of {} bytes, at most {PAYLOAD_BYTES_MAX} are taken; shorten its texts",
                payload.len()
            );
            return reject(client, id, code::PAYLOAD_TOO_LARGE, reason, out);
        }
        if let Some(cause) = self.refuses(now_ns, &id) {
            self.counters.disk += 1;
            return reject(client, id, cause.code(), cause.reason().into(), out);
        }
        if self.queue.len() >= self.queue_max {
            self.counters.queue_full += 1;
            let reason = format!(
                "append: {} appends wait already; try again with the same id in a moment",
                self.queue.len()
            );
            return reject(client, id, code::QUEUE_FULL, reason, out);
        }
        self.queue.push_back(Queued { client, id, kind, payload, salt: wish.salt });
    }

    /// Whether the disk's state alone decides. An id of the batch whose fate is open waits for it:
    /// "not in the ledger" could be a lie.
    fn refuses(&self, now_ns: u64, id: &RequestId) -> Option<Cause> {
        match &self.disk {
            Disk::Idle | Disk::Writing(_) => None,
            Disk::Down { flight, cause, .. } => (!flight.ids.contains(id)).then_some(*cause),
            Disk::Refusing { cause, until_ns } => (now_ns < *until_ns).then_some(*cause),
        }
    }

    fn tick(&mut self, now_ns: u64, out: &mut Vec<Effect>) {
        match &mut self.disk {
            Disk::Writing(_) => return,
            Disk::Down { retry_at_ns, asked, .. } => {
                if now_ns >= *retry_at_ns && !*asked {
                    *asked = true;
                    out.push(Effect::Recover);
                }
                return;
            }
            Disk::Refusing { until_ns, .. } if now_ns < *until_ns => return,
            Disk::Idle | Disk::Refusing { .. } => {}
        }
        self.begin_batch(now_ns, out);
    }

    /// Makes one batch of what waits, within the bounds.
    fn begin_batch(&mut self, now_ns: u64, out: &mut Vec<Effect>) {
        let mut lane = self.lane.clone();
        let mut waiters = Vec::new();
        let mut places: HashMap<RequestId, (Seq, Hash)> = HashMap::new();
        let mut drafts = Vec::new();
        let mut bytes = 0;
        while drafts.len() < BATCH_BLOCKS_MAX {
            let fits = |queued: &&Queued| {
                drafts.is_empty() || bytes + queued.payload.len() <= BATCH_BYTES_MAX
            };
            if self.queue.front().filter(fits).is_none() {
                break;
            }
            let Some(next) = self.queue.pop_front() else {
                break;
            };
            if let Some((seq, hash)) = self.requests.get(&next.id) {
                self.counters.duplicates += 1;
                out.push(appended(next.client, next.id, seq, hash));
                continue;
            }
            if let Some((seq, hash)) = places.get(&next.id) {
                self.counters.duplicates += 1;
                waiters.push((next.client, next.id, *seq, *hash));
                continue;
            }
            bytes += next.payload.len();
            let commitment = payload_hash(&next.salt, &next.payload);
            let (header, hash) = lane.append(now_ns, next.kind, commitment);
            places.insert(next.id, (header.seq, hash));
            waiters.push((next.client, next.id, header.seq, hash));
            drafts.push(Draft {
                header,
                hash,
                salt: next.salt,
                payload: next.payload,
                id: next.id,
            });
        }
        if drafts.is_empty() {
            return;
        }
        self.disk = Disk::Writing(InFlight {
            waiters,
            ids: places.into_keys().collect(),
            after: lane.clone(),
        });
        out.push(Effect::Commit(Batch { drafts, after: lane }));
    }

    /// Takes the batch out of the disk state, which becomes `next`.
    fn land(&mut self, next: Disk) -> Option<InFlight> {
        match std::mem::replace(&mut self.disk, next) {
            Disk::Writing(flight) | Disk::Down { flight, .. } => Some(flight),
            Disk::Idle | Disk::Refusing { .. } => None,
        }
    }

    fn committed(&mut self, out: &mut Vec<Effect>) {
        let Some(flight) = self.land(Disk::Idle) else {
            return;
        };
        self.counters.batches += 1;
        self.counters.appended += flight.ids.len() as u64;
        for (client, id, seq, hash) in flight.waiters {
            self.requests.insert(id, seq, hash);
            out.push(appended(client, id, seq, hash));
        }
        self.lane = flight.after;
        out.push(Effect::Published(self.lane.tip.next()));
    }

    fn not_written(&mut self, now_ns: u64, cause: Cause, out: &mut Vec<Effect>) {
        let until_ns = now_ns.saturating_add(RETRY_NS);
        let flight = self.land(Disk::Refusing { cause, until_ns });
        let waiting = self.queue.drain(..).map(|queued| (queued.client, queued.id));
        let flying = flight.into_iter().flat_map(|flight| flight.waiters);
        for (client, id) in flying.map(|(client, id, ..)| (client, id)).chain(waiting) {
            self.counters.disk += 1;
            reject(client, id, cause.code(), cause.reason().into(), out);
        }
    }

    fn down(&mut self, now_ns: u64, cause: Cause) {
        let retry_at_ns = now_ns.saturating_add(RETRY_NS);
        if let Some(flight) = self.land(Disk::Idle) {
            self.disk = Disk::Down { flight, cause, retry_at_ns, asked: false };
        }
    }
}

fn appended(client: Client, id: RequestId, seq: Seq, hash: Hash) -> Effect {
    Effect::Reply { client, reply: Reply::Appended { id, seq, hash } }
}

fn reject(client: Client, id: RequestId, code: &str, reason: String, out: &mut Vec<Effect>) {
    out.push(Effect::Reply { client, reply: Reply::Rejected { id, code: code.into(), reason } });
}

/// Request ids of the last [`REQUESTS_MAX`] blocks. Every block has exactly one, so the order of
/// forgetting is the order of the chain, in memory as on disk.
#[derive(Debug, Default)]
struct RequestTable {
    places: HashMap<RequestId, (Seq, Hash)>,
    order: VecDeque<RequestId>,
}

impl RequestTable {
    fn get(&self, id: &RequestId) -> Option<(Seq, Hash)> {
        self.places.get(id).copied()
    }

    fn insert(&mut self, id: RequestId, seq: Seq, hash: Hash) {
        if self.places.insert(id, (seq, hash)).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() as u64 > REQUESTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.places.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Decides what is done about alerts. Pure: `handle(now, input, &mut out)`.
//!
//! State is what the ledger says: on every start the lane is read from block 0, mitigations
//! without a lift become the blocks in force, alerts without an answer become the work to do. An
//! answer is a `Mitigation` or a `Refusal` that names the alert; its request id is derived from the
//! alert's hash, so that a retry after a crash gets the first answer back instead of a second block.
//!
//! ```text
//! alert --WARN, scan.*--> waiting --protected set read--> refused      --> Refusal
//!                            ^                       \--> suggested    --> Mitigation, enforced_by []
//!                            |                        \-> enforcing --some--> held --> Mitigation
//!                            +-------- retry in 1 s ------ none
//! held --end, protected, operator--> releasing --clean--> Lift
//! ```
//!
//! Must never happen here: I/O, a clock, randomness; a decision on a protected set that could not
//! be read; a mitigation that says `enforced_by` before the engine said so. Called by
//! [`crate::engine`] only.

mod active;
mod answer;
mod outbox;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::IpAddr,
};

use hookprobe_wire::{
    Event, Hash, NodeId, Seq, Severity,
    event::{Alert, Mode},
    ledger::{Head, Record, RequestId},
    site,
};

pub use self::{
    active::{Active, State},
    outbox::{ANSWER, LIFT, request_id},
    status::Counters,
};
use crate::{Now, protected::ProtectedSet};
use outbox::Outbox;

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
/// How often the protected set is read and the enforcers are compared with what should be there.
/// Half of the two seconds that are promised, so that one late turn keeps the promise.
pub const REFRESH_MS: u64 = 1000;
/// Pause before an enforcement, a release or an append is tried again: long enough not to spin on a
/// permanent fault, short against a block of the default ten minutes.
pub const RETRY_MS: u64 = 1000;
/// How much longer the kernel keeps an entry than its block lasts, so that its counter can be read
/// at the end; when this process is dead, a block ends this much late.
pub const KERNEL_GRACE_MS: u64 = 1000;
/// A block that ends this soon is no answer to a new alert any more: its packets may pass already,
/// because an entry that an enforcer took over may end 2.5 s early. The alert waits for the end.
pub const ENDING_MS: u64 = 3000;
/// Most new blocks in [`RATE_WINDOW_MS`]: a spoofed flood can't fill the table in one go.
pub const RATE_BLOCKS_MAX: usize = 120;
/// Window of [`RATE_BLOCKS_MAX`].
pub const RATE_WINDOW_MS: u64 = 60_000;
/// Most unanswered alerts; the oldest is dropped and counted.
pub const WAITING_MAX: usize = 4096;

/// What the site configuration says about answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How much may be done.
    pub mode: Mode,
    /// How long a source is blocked, nanoseconds.
    pub block_ns: u64,
}

impl From<&site::Response> for Policy {
    fn from(site: &site::Response) -> Self {
        let block_s = site.block_s.clamp(1, site::BLOCK_S_MAX);
        Self { mode: site.mode, block_ns: block_s * 1000 * MS }
    }
}

impl Policy {
    /// Whether an alert is answered at all.
    #[must_use]
    pub fn wants(&self, alert: &Alert) -> bool {
        alert.severity >= Severity::Warn && alert.detector.starts_with("scan.")
    }
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A connection to the ledger exists and this is its lane.
    Head(Head),
    /// A block.
    Record(Box<Record>),
    /// The present is reached.
    CaughtUp,
    /// The connection is gone.
    Disconnected,
    /// An append is on disk.
    Appended {
        /// Name given.
        id: RequestId,
        /// Its place.
        seq: Seq,
        /// Its hash.
        hash: Hash,
    },
    /// An append is not in the ledger.
    Rejected {
        /// Name given.
        id: RequestId,
        /// Stable code of the ledger.
        code: String,
        /// Why.
        reason: String,
    },
    /// Answer to [`Effect::ReadProtected`].
    Protected(Result<ProtectedSet, String>),
    /// Answer to [`Effect::Enforce`].
    Enforced {
        /// Against whom.
        subject: IpAddr,
        /// Enforcers that accepted it.
        by: Vec<&'static str>,
    },
    /// Answer to [`Effect::Release`].
    Released {
        /// Against whom it was.
        subject: IpAddr,
        /// No enforcer holds it any more.
        clean: bool,
    },
    /// An enforcer's counters.
    Counted {
        /// Which.
        enforcer: &'static str,
        /// Packets dropped by subject, since its entry was made.
        packets: Vec<(IpAddr, u64)>,
    },
    /// Time went by.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Stream the lane from here.
    Follow(Seq),
    /// Drop the connection and connect again: the lane is not the one that was followed.
    Reconnect,
    /// Read the protected set and answer with [`Input::Protected`].
    ReadProtected,
    /// Make the enforcers hold exactly [`Core::wanted`].
    Sync,
    /// Block; answer with [`Input::Enforced`].
    Enforce {
        /// Against whom.
        subject: IpAddr,
        /// End, CLOCK_BOOTTIME nanoseconds.
        expires_boot_ns: u64,
    },
    /// Unblock; answer with [`Input::Counted`], then [`Input::Released`].
    Release {
        /// Against whom it was.
        subject: IpAddr,
    },
    /// Write to the ledger.
    Append {
        /// Name.
        id: RequestId,
        /// What.
        event: Event,
    },
    /// Tell the log.
    Note(Note),
}

/// Lines of the log that programs read; their form is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A mitigation is on disk.
    Mitigation {
        /// Place and name of its block.
        at: (Seq, Hash),
        /// Alert.
        cause: Hash,
        /// Against whom.
        subject: IpAddr,
        /// Enforcers.
        enforced_by: Vec<String>,
        /// Decided, enforced (0: not), acknowledged; nanoseconds since 1970.
        times_ns: [u64; 3],
    },
    /// A lift is on disk.
    Lift {
        /// Place and name of its block.
        at: (Seq, Hash),
        /// Mitigation.
        cause: Hash,
        /// Against whom it was.
        subject: IpAddr,
        /// Why.
        reason: String,
        /// Packets.
        packets_dropped: u64,
    },
    /// A refusal is on disk.
    Refusal {
        /// Place and name of its block.
        at: (Seq, Hash),
        /// Alert.
        cause: Hash,
        /// Against whom it would have been.
        subject: IpAddr,
        /// Stable code.
        code: String,
        /// Why, escaped.
        reason: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mitigation { at: (seq, hash), cause, subject, enforced_by, times_ns } => {
                let [decided, enforced, acked] = times_ns;
                write!(
                    f,
                    "mitigation seq={seq} hash={hash} cause={cause} subject={subject} \
                     enforced_by={} decided_ns={decided} enforced_ns={enforced} acked_ns={acked}",
                    enforced_by.join(",")
                )
            }
            Self::Lift { at: (seq, hash), cause, subject, reason, packets_dropped } => write!(
                f,
                "lift seq={seq} hash={hash} cause={cause} subject={subject} reason={reason} \
                 packets_dropped={packets_dropped}"
            ),
            Self::Refusal { at: (seq, hash), cause, subject, code, reason } => write!(
                f,
                "refusal seq={seq} hash={hash} cause={cause} subject={subject} code={code} \
                 reason={reason}"
            ),
        }
    }
}

/// What the enforcers should hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Subject and end, CLOCK_BOOTTIME nanoseconds.
    pub blocks: BTreeMap<IpAddr, u64>,
    /// Addresses that an enforcer that can should pass unseen.
    pub protected: BTreeSet<IpAddr>,
}

/// An alert that has no answer yet.
#[derive(Debug, Clone)]
struct Waiting {
    hash: Hash,
    subject: IpAddr,
    detector: String,
    written_ns: u64,
    /// Not before this.
    retry_boot_ns: u64,
    /// Why it was not answered when it was last looked at.
    stuck: Option<Stuck>,
}

/// Why an alert could not be answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    Unprotected,
    NoEnforcer,
    Ending,
}

/// Where the lane was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: NodeId,
    epoch: u64,
    next: Seq,
    last: Hash,
}

/// The core. See the module.
#[derive(Debug)]
pub struct Core {
    policy: Policy,
    place: Option<Place>,
    /// The ledger is connected and the present is reached: appends may be sent.
    live: bool,
    /// The present was reached once: the state below is complete.
    complete: bool,
    protected: Option<ProtectedSet>,
    protected_error: Option<String>,
    waiting: BTreeMap<Seq, Waiting>,
    active: BTreeMap<IpAddr, Active>,
    outbox: Outbox,
    /// Places of blocks that this process wrote and the stream has not shown yet.
    own: BTreeSet<Seq>,
    /// When blocks were made, CLOCK_BOOTTIME, at most [`RATE_BLOCKS_MAX`].
    recent: VecDeque<u64>,
    refresh_boot_ns: u64,
    sync_due: bool,
    rejected: Option<String>,
    counters: Counters,
}

impl Core {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            place: None,
            live: false,
            complete: false,
            protected: None,
            protected_error: None,
            waiting: BTreeMap::new(),
            active: BTreeMap::new(),
            outbox: Outbox::default(),
            own: BTreeSet::new(),
            recent: VecDeque::new(),
            refresh_boot_ns: 0,
            sync_due: false,
            rejected: None,
            counters: Counters::default(),
        }
    }

    /// One step.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Head(head) => self.on_head(&head, out),
            Input::Record(record) => self.on_record(now, &record, out),
            Input::CaughtUp => self.on_caught_up(now, out),
            Input::Disconnected => {
                self.live = false;
                self.outbox.forget_sent();
            }
            Input::Appended { id, seq, hash } => self.on_appended(now, id, (seq, hash), out),
            Input::Rejected { id, code, reason } => {
                let reason = hookprobe_wire::text::escape(&reason, 200);
                self.rejected = Some(format!("{code}: {reason}"));
                self.outbox.postpone(id, now.boot_ns + RETRY_MS * MS);
            }
            Input::Protected(set) => self.on_protected(now, set, out),
            Input::Enforced { subject, by } => self.on_enforced(now, subject, &by),
            Input::Released { subject, clean } => self.on_released(now, subject, clean),
            Input::Counted { enforcer, packets } => {
                for (subject, packets) in packets {
                    if let Some(active) = self.active.get_mut(&subject) {
                        active.count(enforcer, packets);
                    }
                }
            }
            Input::Tick => self.on_tick(now, out),
        }
        if self.live {
            self.outbox.send(now.boot_ns, out);
        }
    }

    /// What the enforcers should hold now.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let blocks = self.active.iter().filter(|(_, active)| active.holds());
        Wanted {
            blocks: blocks.map(|(subject, active)| (*subject, active.expires_boot_ns)).collect(),
            protected: self.protected.iter().flat_map(ProtectedSet::addresses).collect(),
        }
    }

    /// Whether the lane was read to its present once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn on_head(&mut self, head: &Head, out: &mut Vec<Effect>) {
        let same = self.place.is_some_and(|place| {
            (place.node, place.epoch) == (head.node, head.epoch)
                && place.next.0 <= head.length
                && (place.next.0 != head.length || place.last == head.hash)
        });
        if !same {
            self.reset();
            let (node, epoch) = (head.node, head.epoch);
            self.place = Some(Place { node, epoch, next: Seq(0), last: Hash::zero() });
        }
        let next = self.place.map_or(Seq(0), |place| place.next);
        out.push(Effect::Follow(next));
    }

    /// Another lane: everything that was derived from the old one goes.
    fn reset(&mut self) {
        self.place = None;
        self.live = false;
        self.complete = false;
        self.waiting.clear();
        self.active.clear();
        self.outbox = Outbox::default();
        self.own.clear();
        self.recent.clear();
    }

    fn on_record(&mut self, now: Now, record: &Record, out: &mut Vec<Effect>) {
        let Some(place) = &mut self.place else { return };
        let header = &record.block.header;
        if header.seq < place.next {
            return; // Shown before.
        }
        let fits = header.seq == place.next
            && header.prev_hash == place.last
            && header.node_identity == place.node
            && record.block.hash() == record.hash;
        if !fits {
            self.counters.lane_changes += 1;
            self.reset();
            out.push(Effect::Reconnect);
            return;
        }
        place.next = Seq(header.seq.0.saturating_add(1));
        place.last = record.hash;
        if self.own.remove(&header.seq) {
            return; // Known since it was acknowledged.
        }
        let at = (header.seq, record.hash);
        let written_ns = header.timestamp_ns;
        let Some(event) = record.event() else {
            self.counters.unreadable += 1;
            return;
        };
        match event {
            Event::Boot(_) | Event::Service(_) | Event::Binding(_) | Event::Attestation(_) => {}
            Event::Alert(alert) => self.on_alert(now, at, written_ns, &alert, out),
            Event::Mitigation(mitigation) => {
                self.answered(mitigation.cause);
                if !self.confirm(now, request_id(ANSWER, mitigation.cause), at, out) {
                    self.adopt(now, at.1, written_ns, &mitigation);
                }
            }
            Event::Refusal(refusal) => {
                self.answered(refusal.cause);
                self.confirm(now, request_id(ANSWER, refusal.cause), at, out);
            }
            Event::Lift(lift) => {
                if !self.confirm(now, request_id(LIFT, lift.cause), at, out) {
                    self.active.retain(|_, active| active.record != Some(lift.cause));
                }
            }
        }
    }

    fn on_caught_up(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.place.is_none() {
            return; // A stream that was given up.
        }
        self.live = true;
        if !self.complete {
            self.complete = true;
            self.end_what_mode_forbids(now, out);
        }
        self.end_what_is_over(now, out);
        self.sync_due = true;
        out.push(Effect::ReadProtected);
    }

    fn on_appended(&mut self, now: Now, id: RequestId, at: (Seq, Hash), out: &mut Vec<Effect>) {
        let unseen = self.place.is_some_and(|place| at.0 >= place.next);
        if self.confirm(now, id, at, out) && unseen {
            self.own.insert(at.0);
        }
        self.rejected = None;
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.end_what_is_over(now, out);
        let retry = self.live && self.waiting.values().any(|w| w.retry_boot_ns <= now.boot_ns);
        if now.boot_ns >= self.refresh_boot_ns {
            self.sync_due = self.complete;
            out.push(Effect::ReadProtected);
        } else if retry {
            out.push(Effect::ReadProtected);
        }
    }
}

//! The last blocks of the ledger, checked as they come.
//!
//! The console recomputes every block's hash, its link to the block before and its payload
//! commitment. It does not check signatures: it has no key to check them against, and says so.
//! Nothing here may keep more than [`HISTORY_BLOCKS_MAX`] blocks; the oldest go and are counted.

use std::collections::VecDeque;

use hookprobe_wire::{
    block::{Hash, Header, payload_hash},
    event::{Alert, Event, Severity},
    ledger::Record,
};

use crate::clean;

/// Blocks that are kept.
pub const HISTORY_BLOCKS_MAX: usize = 512;
/// How far behind the head following begins: leaves room for blocks that come while the first
/// ones are read.
pub const FOLLOW_BACK_BLOCKS: u64 = 500;

/// How a block continues the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The first that is kept: nothing to compare with.
    First,
    /// Its hash is right and it names the hash of the block before.
    Holds,
    /// It does not.
    Broken,
}

/// How the payload is to its commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitment {
    /// The payload matches and is the kind of event that the header says.
    Matches,
    /// The payload is another one.
    Differs,
    /// The payload matches and this version can't read it.
    Unreadable,
    /// The payload was erased; the chain still verifies.
    Erased,
}

/// A block and what was found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Computed here, not believed.
    pub hash: Hash,
    /// As signed.
    pub header: Header,
    /// Who signed, the node itself first.
    pub signers: Vec<String>,
    /// See [`Link`].
    pub link: Link,
    /// See [`Commitment`].
    pub commitment: Commitment,
    /// The event, cleaned; only when the commitment matches.
    pub event: Option<Event>,
    /// One sentence.
    pub summary: String,
}

impl Entry {
    /// Seconds since 1970.
    #[must_use]
    pub fn time_s(&self) -> u64 {
        self.header.timestamp_ns / 1_000_000_000
    }

    /// Block that it answers.
    #[must_use]
    pub fn cause(&self) -> Option<Hash> {
        match self.event.as_ref()? {
            Event::Mitigation(mitigation) => Some(mitigation.cause),
            Event::Lift(lift) => Some(lift.cause),
            Event::Refusal(refusal) => Some(refusal.cause),
            Event::Boot(_)
            | Event::Service(_)
            | Event::Binding(_)
            | Event::Attestation(_)
            | Event::Alert(_) => None,
        }
    }

    /// The alert, when it is one.
    #[must_use]
    pub fn alert(&self) -> Option<&Alert> {
        match &self.event {
            Some(Event::Alert(alert)) => Some(alert),
            _ => None,
        }
    }
}

/// What became of an alert, as far as the kept blocks tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// Nothing was done.
    Open,
    /// Something would have been done in another mode.
    Suggested,
    /// Something was asked for and refused.
    Refused,
    /// Its source is blocked.
    Blocked,
    /// What was done has ended.
    Ended,
}

impl AlertState {
    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Suggested => "suggested",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::Ended => "ended",
        }
    }
}

/// Alerts that have not ended, by severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenAlerts {
    /// CRIT.
    pub critical: usize,
    /// WARN.
    pub warn: usize,
    /// INFO.
    pub info: usize,
}

impl OpenAlerts {
    /// All of them.
    #[must_use]
    pub fn total(self) -> usize {
        self.critical + self.warn + self.info
    }
}

/// The last blocks.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    /// Blocks that were dropped to keep the limit.
    pub dropped: u64,
    /// The present was reached.
    pub caught_up: bool,
}

impl History {
    /// Nothing kept.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Checks and keeps a block; drops the oldest beyond the limit.
    pub fn push(&mut self, record: Record) {
        let entry = check(self.entries.back(), record);
        self.entries.push_back(entry);
        if self.entries.len() > HISTORY_BLOCKS_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
    }

    /// Links that were checked, and how many of them do not hold.
    #[must_use]
    pub fn links(&self) -> (usize, usize) {
        let count = |link| self.iter().filter(|entry| entry.link == link).count();
        let broken = count(Link::Broken);
        (count(Link::Holds) + broken, broken)
    }

    /// The block with that hash.
    #[must_use]
    pub fn find(&self, hash: Hash) -> Option<&Entry> {
        self.iter().find(|entry| entry.hash == hash)
    }

    /// What was done about the block `cause` and what came of it, oldest first.
    #[must_use]
    pub fn consequences(&self, cause: Hash) -> Vec<&Entry> {
        let mut causes = vec![cause];
        let mut out = Vec::new();
        // Blocks only name earlier ones, so one pass in order finds the whole chain.
        for entry in self.iter() {
            if entry.cause().is_some_and(|cause| causes.contains(&cause)) {
                causes.push(entry.hash);
                out.push(entry);
            }
        }
        out
    }

    /// What became of an alert.
    #[must_use]
    pub fn alert_state(&self, alert: Hash) -> AlertState {
        let mut state = AlertState::Open;
        for entry in self.consequences(alert) {
            state = match &entry.event {
                Some(Event::Mitigation(mitigation)) if mitigation.enforced_by.is_empty() => {
                    AlertState::Suggested
                }
                Some(Event::Mitigation(_)) => AlertState::Blocked,
                Some(Event::Lift(_)) => AlertState::Ended,
                Some(Event::Refusal(_)) if state == AlertState::Open => AlertState::Refused,
                _ => state,
            };
        }
        state
    }

    /// Alerts that have not ended.
    #[must_use]
    pub fn open_alerts(&self) -> OpenAlerts {
        let mut open = OpenAlerts::default();
        for entry in self.iter() {
            let Some(alert) = entry.alert() else { continue };
            if self.alert_state(entry.hash) == AlertState::Ended {
                continue;
            }
            match alert.severity {
                Severity::Critical => open.critical += 1,
                Severity::Warn => open.warn += 1,
                Severity::Info => open.info += 1,
            }
        }
        open
    }
}

fn check(before: Option<&Entry>, record: Record) -> Entry {
    let header = record.block.header.clone();
    let hash = header.hash();
    let link = if hash != record.hash {
        Link::Broken
    } else {
        match before {
            None => Link::First,
            Some(before) if follows(before, &header) => Link::Holds,
            Some(_) => Link::Broken,
        }
    };
    let mut event = record.event();
    if let Some(event) = &mut event {
        clean::event(event);
    }
    let commitment = match &record.payload {
        None => Commitment::Erased,
        Some(payload) if payload_hash(&payload.salt, &payload.bytes) != header.payload_hash => {
            Commitment::Differs
        }
        Some(_) if event.is_some() => Commitment::Matches,
        Some(_) => Commitment::Unreadable,
    };
    let signers = record.block.signatures.iter().take(clean::ITEMS_MAX);
    Entry {
        hash,
        signers: signers.map(|signature| signature.signer.short()).collect(),
        link,
        commitment,
        summary: summary(commitment, event.as_ref()),
        header,
        event,
    }
}

fn follows(before: &Entry, header: &Header) -> bool {
    header.prev_hash == before.hash
        && header.seq.0.checked_sub(1) == Some(before.header.seq.0)
        && header.epoch == before.header.epoch
        && header.node_identity == before.header.node_identity
        && header.timestamp_ns >= before.header.timestamp_ns
}

fn summary(commitment: Commitment, event: Option<&Event>) -> String {
    match (commitment, event) {
        (_, Some(event)) => sentence(event),
        (Commitment::Erased, None) => "payload erased".into(),
        (Commitment::Differs, None) => "payload differs from its commitment".into(),
        (_, None) => "payload of a newer version".into(),
    }
}

/// One sentence about an event.
#[must_use]
pub fn sentence(event: &Event) -> String {
    match event {
        Event::Boot(boot) => format!(
            "HookProbe OS {} started at {}, {} diagnostics",
            boot.version,
            boot.level,
            boot.diagnostics.len()
        ),
        Event::Service(change) => {
            format!("{} {} {}", change.service, change.change, change.detail).trim_end().into()
        }
        Event::Binding(binding) => {
            format!("epoch {}: the TPM vouches for the ledger's key", binding.epoch)
        }
        Event::Attestation(attestation) => {
            format!("{} at {}: {}", attestation.change, attestation.level, attestation.detail)
        }
        Event::Alert(alert) => {
            let drill = if alert.drill { "drill: " } else { "" };
            format!("{drill}{}: {}", alert.source, alert.summary)
        }
        Event::Mitigation(mitigation) => {
            let by = if mitigation.enforced_by.is_empty() {
                format!("not enforced, mode is {}", mitigation.mode.word())
            } else {
                format!("by {}", mitigation.enforced_by.join(", "))
            };
            format!("{} {} {by}", mitigation.action.word(), mitigation.subject)
        }
        Event::Lift(lift) => format!(
            "{} lifted: {}, {} packets dropped",
            lift.subject, lift.reason, lift.packets_dropped
        ),
        Event::Refusal(refusal) => {
            format!("{} {}: {}", refusal.code, refusal.subject, refusal.reason)
        }
    }
}

//! Events for the ledger that it has not acknowledged: at most [`EVENTS_MAX`], the oldest is dropped
//! and counted.
//!
//! An event's name is made of the boot and of what it says, so that the same event after a restart
//! of this service is the same block. Used by [`super::Core`].

use std::collections::VecDeque;

use hookprobe_wire::{Event, ledger::RequestId};
use minicbor::bytes::ByteArray;
use sha2::{Digest, Sha256};

/// A verdict changes a few times a day; this many mean that the ledger is gone for good.
pub const EVENTS_MAX: usize = 32;
/// Pause after the ledger refused for lack of room.
const RETRY_MS: u64 = 2000;
/// Longest wait for an answer: a commit on a worn SD card takes seconds, not this.
const ANSWER_MS_MAX: u64 = 30_000;
const DOMAIN: &[u8] = b"hookprobe.attest.v1\0";

/// Name of the append of an event, `number` being its place among the events of this process.
#[must_use]
pub fn request_id(boot_id: &str, number: u64, event: &Event) -> RequestId {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(boot_id)
        .chain_update([0])
        .chain_update(number.to_be_bytes())
        .chain_update(event.to_cbor())
        .finalize()
        .into();
    RequestId(ByteArray::from(digest.first_chunk().copied().unwrap_or_default()))
}

#[derive(Debug)]
struct Entry {
    id: RequestId,
    event: Event,
    due_ms: u64,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    pushed: u64,
    dropped: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, id: RequestId, event: Event) {
        if self.entries.iter().any(|entry| entry.id == id) {
            return;
        }
        if self.entries.len() >= EVENTS_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(Entry { id, event, due_ms: 0 });
    }

    /// Number of the next event of this process.
    pub(super) fn number(&mut self) -> u64 {
        self.pushed += 1;
        self.pushed
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// It is in the ledger, or never will be.
    pub(super) fn settle(&mut self, id: RequestId) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// Again, later.
    pub(super) fn postpone(&mut self, mono_ms: u64, id: RequestId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.id == id) {
            entry.due_ms = mono_ms.saturating_add(RETRY_MS);
        }
    }

    /// The connection is new: nothing is in flight.
    pub(super) fn restart(&mut self) {
        for entry in &mut self.entries {
            entry.due_ms = 0;
        }
    }

    /// The oldest, when it is due: one in flight keeps their order.
    pub(super) fn next(&mut self, mono_ms: u64) -> Option<(RequestId, Event)> {
        let entry = self.entries.front_mut().filter(|entry| entry.due_ms <= mono_ms)?;
        entry.due_ms = mono_ms.saturating_add(ANSWER_MS_MAX);
        Some((entry.id, entry.event.clone()))
    }
}

#[cfg(test)]
mod tests {
    use hookprobe_wire::event::Attestation;

    use super::*;

    fn event(change: &str) -> Event {
        Event::Attestation(Attestation {
            change: change.into(),
            level: "T".into(),
            ak_name: String::new(),
            detail: String::new(),
        })
    }

    #[test]
    fn ids_are_stable_and_distinct() {
        let id = |boot, number, change| request_id(boot, number, &event(change));
        assert_eq!(id("b", 1, "verified"), id("b", 1, "verified"));
        assert_ne!(id("b", 1, "verified"), id("c", 1, "verified"));
        assert_ne!(id("b", 1, "verified"), id("b", 2, "verified"));
        assert_ne!(id("b", 1, "verified"), id("b", 1, "failed"));
    }

    #[test]
    fn order_is_kept_and_the_oldest_goes_when_it_is_full() {
        let mut outbox = Outbox::default();
        for number in 0..EVENTS_MAX as u64 + 2 {
            let event = event(&number.to_string());
            outbox.push(request_id("b", number, &event), event);
        }
        assert_eq!(outbox.dropped(), 2);
        let (id, first) = outbox.next(0).unwrap();
        assert_eq!(first, event("2"));
        assert_eq!(outbox.next(0), None, "one in flight");
        outbox.postpone(0, id);
        assert_eq!(outbox.next(RETRY_MS - 1), None);
        assert_eq!(outbox.next(RETRY_MS).unwrap().0, id);
        outbox.restart();
        assert_eq!(outbox.next(RETRY_MS).unwrap().0, id);
        outbox.settle(id);
        assert_eq!(outbox.next(RETRY_MS).unwrap().1, event("3"));
    }
}

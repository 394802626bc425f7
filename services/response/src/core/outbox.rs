//! What is to be written to the ledger and is not acknowledged yet.
//!
//! Bounded by what it is about: at most one answer per waiting alert or block, one lift per block.

use std::collections::VecDeque;

use hookprobe_wire::{Event, Hash, ledger::RequestId};
use minicbor::bytes::ByteArray;
use sha2::{Digest, Sha256};

use super::Effect;

/// Kind of [`request_id`] for mitigations and refusals: an alert gets one of them.
pub const ANSWER: &str = "answer";
/// Kind of [`request_id`] for lifts: a mitigation gets one.
pub const LIFT: &str = "lift";

/// Appends sent and not acknowledged. More would let this side and the ledger wait for each other
/// with full socket buffers.
const IN_FLIGHT_MAX: usize = 16;

const DOMAIN: &[u8] = b"hookprobe.response.v1\0";

/// Name of the append of `kind` about `cause`: the same after every restart.
#[must_use]
pub fn request_id(kind: &str, cause: Hash) -> RequestId {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(kind)
        .chain_update([0])
        .chain_update(cause.as_bytes())
        .finalize()
        .into();
    let head = digest.first_chunk().copied().unwrap_or_default();
    RequestId(ByteArray::from(head))
}

/// One append.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) id: RequestId,
    pub(super) event: Event,
    pub(super) decided_ns: u64,
    pub(super) enforced_ns: u64,
    sent: bool,
    retry_boot_ns: u64,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Outgoing>,
}

impl Outbox {
    pub(super) fn push(&mut self, id: RequestId, event: Event, decided_ns: u64, enforced_ns: u64) {
        if self.entries.iter().any(|entry| entry.id == id) {
            return; // Asked for already; the first stays.
        }
        let (sent, retry_boot_ns) = (false, 0);
        let entry = Outgoing { id, event, decided_ns, enforced_ns, sent, retry_boot_ns };
        self.entries.push_back(entry);
    }

    /// Takes the entry out: it is in the ledger.
    pub(super) fn take(&mut self, id: RequestId) -> Option<Outgoing> {
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        self.entries.remove(at)
    }

    /// The connection is gone: nothing is in flight.
    pub(super) fn forget_sent(&mut self) {
        for entry in &mut self.entries {
            entry.sent = false;
        }
    }

    /// The ledger did not take it: again, not before `retry_boot_ns`.
    pub(super) fn postpone(&mut self, id: RequestId, retry_boot_ns: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.id == id) {
            entry.sent = false;
            entry.retry_boot_ns = retry_boot_ns;
        }
    }

    /// Sends what may be sent now.
    pub(super) fn send(&mut self, boot_ns: u64, out: &mut Vec<Effect>) {
        let in_flight = self.entries.iter().filter(|entry| entry.sent).count();
        let room = IN_FLIGHT_MAX.saturating_sub(in_flight);
        let due = |entry: &&mut Outgoing| !entry.sent && entry.retry_boot_ns <= boot_ns;
        for entry in self.entries.iter_mut().filter(due).take(room) {
            entry.sent = true;
            out.push(Effect::Append { id: entry.id, event: entry.event.clone() });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_distinct() {
        let cause = Hash::new([7; 32]);
        assert_eq!(request_id(ANSWER, cause), request_id(ANSWER, cause));
        assert_ne!(request_id(ANSWER, cause), request_id(LIFT, cause));
        assert_ne!(request_id(ANSWER, cause), request_id(ANSWER, Hash::zero()));
        let hex: String =
            request_id(ANSWER, cause).0.iter().map(|byte| format!("{byte:02x}")).collect();
        // A golden value: another id would let a retry after an update write a second block.
        assert_eq!(hex, "8d8cc594e5804e077b0c47e8fd3cfd4c");
    }
}

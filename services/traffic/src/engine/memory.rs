//! One bound on what streams and application layers of all flows hold together.
//!
//! Limits for one flow do not bound a thousand of them: whoever leaves many connections in the middle
//! of a message makes each hold what it may. Beyond the bound the flows that have been quiet longest
//! lose theirs, those that hold far more than others before all: their bytes are followed no more,
//! their transactions are gone, their packets are still seen and counted.
//!
//! What must never happen here: a packet that costs a walk over all flows each time. A walk frees an
//! eighth of the bound, so that the next one is as many new bytes away.

use super::{Engine, Inspector};

impl Engine {
    /// Counts what the application layer in `slot` holds now; after every packet of the flow.
    pub(super) fn count_app(&mut self, slot: u32) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        let held = u32::try_from(flow.app.held_bytes()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut flow.app_bytes, held);
        self.app_bytes = self.app_bytes.saturating_sub(before as usize) + held as usize;
    }

    /// The application layer in `slot` is gone or about to go.
    pub(super) fn forget_app(&mut self, slot: u32) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let before = std::mem::take(&mut entry.flow.app_bytes);
        self.app_bytes = self.app_bytes.saturating_sub(before as usize);
    }

    /// Makes room when there is none; after every frame.
    pub(super) fn bound(&mut self, inspector: &mut dyn Inspector) {
        let most = self.config.held_bytes_max;
        if self.followed_bytes() <= most {
            return;
        }
        let goal = most - most / 8;
        let slots = self.table.by_idleness();
        // Whoever makes decoders unpack gigabytes shall not cost others their place.
        let is_large = |own: &Self, slot| {
            own.table.get(slot).is_some_and(|it| it.flow.app_bytes as usize > most / 64)
        };
        let large: Vec<u32> = slots.iter().copied().filter(|slot| is_large(self, *slot)).collect();
        for slot in large.into_iter().chain(slots) {
            if self.followed_bytes() <= goal {
                break;
            }
            self.give_up(slot, inspector);
        }
    }

    /// Bytes that streams and application layers hold now.
    const fn followed_bytes(&self) -> usize {
        self.memory.used + self.app_bytes
    }

    fn give_up(&mut self, slot: u32, inspector: &mut dyn Inspector) {
        let Some(entry) = self.table.get(slot) else { return };
        let has_stream =
            entry.flow.tcp.iter().flat_map(|session| &session.halves).any(|half| half.is_holding());
        if entry.flow.app_bytes == 0 && !has_stream {
            return;
        }
        self.counters.flows_given_up += 1;
        self.abandon(slot);
        self.forget_app(slot);
        if let Some(entry) = self.table.get_mut(slot) {
            inspector.app_lost(&entry.flow);
        }
    }
}

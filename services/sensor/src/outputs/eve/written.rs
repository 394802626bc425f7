//! Which transactions of a flow have their event.

/// Transactions that are remembered as written before one that waits. More than a flow has at once:
/// those that are gone are forgotten when room is needed.
const AHEAD_MAX: usize = 512;

/// Every transaction before one is written, and some behind it.
#[derive(Debug, Default)]
pub(super) struct Written {
    next: u64,
    ahead: Vec<u64>,
    /// An open transaction was seen in this round, so that `next` stays where it is.
    is_waiting: bool,
}

impl Written {
    /// The transactions of the flow are offered from the first on.
    pub(super) const fn begin(&mut self) {
        self.is_waiting = false;
    }

    /// Whether an event was written for it.
    pub(super) fn has(&self, id: u64) -> bool {
        id < self.next || self.ahead.contains(&id)
    }

    /// Whether the event of a transaction is to be written now; `None` if it can't be remembered and
    /// so is lost. `live` are those that may be offered again.
    pub(super) fn offer(
        &mut self,
        id: u64,
        is_taken: bool,
        is_due: bool,
        live: impl FnOnce() -> Vec<u64>,
    ) -> Option<bool> {
        self.is_waiting |= !is_taken && !is_due;
        if !self.is_waiting {
            self.next = self.next.max(id.saturating_add(1));
        }
        if is_taken || !is_due {
            return Some(false);
        }
        if self.is_waiting {
            if self.ahead.len() >= AHEAD_MAX {
                let live = live();
                self.ahead.retain(|id| live.contains(id));
            }
            if self.ahead.len() >= AHEAD_MAX {
                return None;
            }
            self.ahead.push(id);
        }
        Some(true)
    }

    /// All were offered: what is before the first that waits needs no list.
    pub(super) fn end(&mut self) {
        let next = self.next;
        self.ahead.retain(|id| *id >= next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers `txs` (number, whether it is due) as one packet does; those that are written.
    fn round(written: &mut Written, txs: &[(u64, bool)]) -> Vec<u64> {
        let live = || txs.iter().map(|(id, _)| *id).collect();
        written.begin();
        let mut out = Vec::new();
        for (id, is_due) in txs {
            if written.offer(*id, written.has(*id), *is_due, live) == Some(true) {
                out.push(*id);
            }
        }
        written.end();
        out
    }

    #[test]
    fn a_transaction_that_waits_holds_nothing_back() {
        let mut written = Written::default();
        // One stays open while thousands come and go.
        for id in 1..3_000 {
            assert_eq!(round(&mut written, &[(0, false), (id, true)]), [id]);
            assert!(round(&mut written, &[(0, false), (id, true)]).is_empty());
            assert!(written.ahead.len() <= AHEAD_MAX);
        }
        assert_eq!(round(&mut written, &[(0, true), (2_999, true), (3_000, true)]), [0, 3_000]);
        assert!(written.ahead.is_empty());
        assert!(round(&mut written, &[(2_999, true), (3_000, true)]).is_empty());
    }

    #[test]
    fn what_is_not_remembered_is_lost_and_told() {
        let mut written = Written::default();
        let count = u64::try_from(AHEAD_MAX).unwrap();
        let txs: Vec<(u64, bool)> = (0..=count + 1).map(|id| (id, id > 0)).collect();
        assert_eq!(round(&mut written, &txs).len(), AHEAD_MAX);
        let live = || txs.iter().map(|(id, _)| *id).collect();
        assert_eq!(written.offer(count + 1, false, true, live), None);
        // Nobody waits at the end of the flow: what is left is written, and needs no room.
        assert_eq!(round(&mut written, &[(0, true), (count + 1, true)]), [0, count + 1]);
    }
}

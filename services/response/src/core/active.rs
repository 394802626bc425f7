//! One block in force.

use std::collections::BTreeMap;

use hookprobe_wire::Hash;

/// How far a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Recorded as what would be done; nothing is enforced.
    Suggested,
    /// The enforcers were asked.
    Enforcing,
    /// In force.
    Held,
    /// Being taken back.
    Releasing {
        /// Word for the lift.
        reason: &'static str,
        /// When to ask again, should the enforcers not answer cleanly.
        retry_boot_ns: u64,
    },
    /// Taken back before its mitigation was acknowledged; the lift waits for that.
    Released {
        /// Word for the lift.
        reason: &'static str,
    },
}

/// A block and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Alert that it answers.
    pub cause: Hash,
    /// Its mitigation block, once that is on disk.
    pub record: Option<Hash>,
    /// End, CLOCK_BOOTTIME nanoseconds.
    pub expires_boot_ns: u64,
    /// How far it is.
    pub state: State,
    meters: BTreeMap<&'static str, Meter>,
}

/// Counter of an enforcer whose entry may be made anew, starting from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Meter {
    carried: u64,
    last: u64,
}

impl Active {
    pub(super) fn new(cause: Hash, expires_boot_ns: u64, state: State) -> Self {
        Self { cause, record: None, expires_boot_ns, state, meters: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, enforcer: &'static str, packets: u64) {
        let meter = self.meters.entry(enforcer).or_default();
        if packets < meter.last {
            meter.carried = meter.carried.saturating_add(meter.last);
        }
        meter.last = packets;
    }

    /// Packets that all enforcers dropped so far.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let meters = self.meters.values();
        meters.fold(0, |sum, meter| sum.saturating_add(meter.carried).saturating_add(meter.last))
    }

    /// Whether the enforcers should hold it.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.state {
            State::Enforcing | State::Held => true,
            State::Suggested | State::Releasing { .. } | State::Released { .. } => false,
        }
    }

    /// Whether it is not on its way out.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.holds() || self.state == State::Suggested
    }

    /// Whether it is, or would be, a block: what counts for the cap and for people.
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.state != State::Suggested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_survive_a_new_entry() {
        let mut active = Active::new(Hash::zero(), 0, State::Held);
        for packets in [3, 10, 2, 5] {
            active.count("xdp", packets);
        }
        active.count("nft", 1);
        assert_eq!(active.packets(), 10 + 5 + 1);
    }
}

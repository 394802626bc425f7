//! Challenges that wait, and who may add one.
//!
//! A quote takes a discrete TPM 100 to 400 ms, and nothing else can use it meanwhile. So a source (a
//! uid, or the hypervisor's port) may have [`PER_SOURCE_MAX`] waiting and ask [`BURST`] at once, then
//! one each [`REFILL_MS`]; all together [`WAITING_MAX`]. What is too much is refused and counted: a
//! challenger asks again, a queue that grows only makes every answer late. The box's own appraisal
//! and the epoch's binding never wait here.

use std::collections::VecDeque;

/// Challenges that wait; at 400 ms each the last one is answered within seven seconds.
pub const WAITING_MAX: usize = 16;
/// Of one source.
pub const PER_SOURCE_MAX: usize = 4;
/// Challenges that a source may ask at once.
pub const BURST: u32 = 8;
/// After which it may ask one more.
pub const REFILL_MS: u64 = 500;
/// Sources that are remembered: every client uid of the box and the port, twice over.
pub const SOURCES_MAX: usize = 16;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A process of this uid.
    Uid(u32),
    /// The hypervisor's port.
    Port,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Port => f.write_str("port"),
        }
    }
}

/// Tokens of the sources.
#[derive(Debug, Default)]
pub(super) struct Limits {
    buckets: Vec<(Source, u32, u64)>,
}

impl Limits {
    /// Takes a token of `source`; `false` when there is none.
    pub(super) fn take(&mut self, mono_ms: u64, source: Source) -> bool {
        for (_, tokens, since_ms) in &mut self.buckets {
            let gained = mono_ms.saturating_sub(*since_ms) / REFILL_MS;
            *tokens = tokens.saturating_add(u32::try_from(gained).unwrap_or(BURST)).min(BURST);
            *since_ms = since_ms.saturating_add(gained.saturating_mul(REFILL_MS));
        }
        if let Some((_, tokens, _)) = self.buckets.iter_mut().find(|(of, ..)| *of == source) {
            let has = *tokens > 0;
            *tokens = tokens.saturating_sub(1);
            return has;
        }
        // A full bucket remembers nothing.
        self.buckets.retain(|(_, tokens, _)| *tokens < BURST);
        if self.buckets.len() >= SOURCES_MAX {
            return false;
        }
        self.buckets.push((source, BURST - 1, mono_ms));
        true
    }
}

/// What waits, oldest first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    entries: VecDeque<(Source, T)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<T> Waiting<T> {
    /// Gives the entry back when there is no room for it.
    pub(super) fn push(&mut self, source: Source, entry: T) -> Result<(), T> {
        let own = self.entries.iter().filter(|(of, _)| *of == source).count();
        if self.entries.len() >= WAITING_MAX || own >= PER_SOURCE_MAX {
            return Err(entry);
        }
        self.entries.push_back((source, entry));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.entries.pop_front().map(|(_, entry)| entry)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|(_, entry)| keep(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_half_second_and_nobody_pays_for_another() {
        let mut limits = Limits::default();
        let flood =
            |limits: &mut Limits, ms| (0..100).filter(|_| limits.take(ms, Source::Uid(1))).count();
        assert_eq!(flood(&mut limits, 0), BURST as usize);
        assert_eq!(flood(&mut limits, REFILL_MS - 1), 0);
        assert_eq!(flood(&mut limits, REFILL_MS), 1);
        assert!(limits.take(REFILL_MS, Source::Port));
        assert_eq!(flood(&mut limits, 3_600_000), BURST as usize);
    }

    #[test]
    fn sources_are_bounded_and_idle_ones_forgotten() {
        let mut limits = Limits::default();
        let ask = |limits: &mut Limits, ms| {
            (0..1000).filter(|uid| limits.take(ms, Source::Uid(*uid))).count()
        };
        assert_eq!(ask(&mut limits, 0), SOURCES_MAX);
        assert!(limits.buckets.len() <= SOURCES_MAX);
        assert!(limits.take(10 * REFILL_MS, Source::Uid(5000)));
    }

    #[test]
    fn waiting_is_bounded_in_all_and_per_source() {
        let mut waiting = Waiting::default();
        let taken = (0..100).filter(|n| waiting.push(Source::Uid(1), *n).is_ok()).count();
        assert_eq!(taken, PER_SOURCE_MAX);
        let taken = (2..100).filter(|n| waiting.push(Source::Uid(*n), 0).is_ok()).count();
        assert_eq!(taken, WAITING_MAX - PER_SOURCE_MAX);
        assert_eq!(waiting.pop(), Some(0));
    }
}

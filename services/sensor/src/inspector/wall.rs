//! From the engine's time to the clock on the wall, when that is set while the box runs. Pure.
//!
//! The engine's time began with the wall clock of its start and never jumps since: flows would end, and
//! waits of detectors with them, when somebody sets the clock. What people read (EVE, the ledger)
//! follows the clock as it is set now: the whole life of a flow is told by one clock, the one in force
//! when the line is written, so that ages and differences within a line are right; the start of a flow
//! that is told of twice may differ by what the clock was set by in between.
//!
//! - A clock that was set forward is followed at once.
//! - One that was set back by less than [`SLEW_NS_MAX`] (a time server's correction) is followed by a
//!   tenth of the time that passes: lines stay in order.
//! - One that was set back by more (a wrong clock at the start) is followed at once: lines after it are
//!   earlier than those before. The log says so, with by how much, and the steps are counted; holding
//!   all lines at one moment, for hours, would tell nobody when anything happened.
//!
//! Nights of the model keep the clock of the start: an hour that comes twice or never would teach it a
//! day that is none.

use crate::core::TimeNs;

/// What a correction is at most; more is a clock that was wrong. 1 s: time servers correct by less once
/// they have agreed.
pub const SLEW_NS_MAX: i64 = 1_000_000_000;
/// Of the time that passed, by how much lines may fall behind it: one tenth.
const SLEW_PART: u64 = 10;

/// What the wall clock is ahead of the engine's time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    shift_ns: i64,
    seen_ns: TimeNs,
    steps: u64,
}

impl Wall {
    /// As of now, by both clocks. By how much it was set, when that was more than a correction.
    pub fn look(&mut self, engine_ns: TimeNs, real_ns: u64) -> Option<i64> {
        let passed_ns = engine_ns.saturating_sub(self.seen_ns);
        self.seen_ns = engine_ns;
        let wanted_ns = i64::try_from(i128::from(real_ns) - i128::from(engine_ns)).ok()?;
        let by_ns = wanted_ns.saturating_sub(self.shift_ns);
        if (-SLEW_NS_MAX + 1..0).contains(&by_ns) {
            let most_ns = i64::try_from(passed_ns / SLEW_PART).unwrap_or(i64::MAX);
            self.shift_ns = self.shift_ns.saturating_sub(most_ns.min(by_ns.saturating_neg()));
            return None;
        }
        self.shift_ns = wanted_ns;
        let is_step = by_ns.saturating_abs() >= SLEW_NS_MAX;
        self.steps += u64::from(is_step);
        is_step.then_some(by_ns)
    }

    /// What is added to the engine's time.
    #[must_use]
    pub const fn shift_ns(&self) -> i64 {
        self.shift_ns
    }

    /// A moment of the engine by the clock on the wall.
    #[must_use]
    pub const fn real(&self, engine_ns: TimeNs) -> u64 {
        engine_ns.saturating_add_signed(self.shift_ns)
    }

    /// How often the clock was set since the start.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const START: u64 = 1_700_000_000 * S;

    #[test]
    fn a_clock_that_is_right_changes_nothing() {
        let mut wall = Wall::default();
        for second in 0..10 {
            assert_eq!(wall.look(START + second * S, START + second * S), None);
        }
        assert_eq!((wall.shift_ns(), wall.steps()), (0, 0));
    }

    #[test]
    fn a_clock_that_was_years_behind_is_followed_at_once_and_a_flow_keeps_its_age() {
        let mut wall = Wall::default();
        let wrong = 1_000 * S;
        wall.look(wrong, wrong);
        assert_eq!(wall.look(wrong + S, START), Some((START - wrong - S) as i64));
        assert_eq!(wall.steps(), 1);
        // Begun before the clock was set.
        assert_eq!(wall.real(wrong + S) - wall.real(wrong), S);
        assert_eq!(wall.real(wrong + S), START);
        assert_eq!(wall.look(wrong + 2 * S, START + S), None);
    }

    #[test]
    fn small_corrections_keep_lines_in_order() {
        let mut wall = Wall::default();
        wall.look(START, START);
        let (mut last, behind) = (START, 400_000_000);
        for second in 1..20 {
            let now = START + second * S;
            assert_eq!(wall.look(now, now - behind), None);
            assert!(wall.real(now) > last, "{second}");
            last = wall.real(now);
        }
        assert_eq!((wall.shift_ns(), wall.steps()), (-400_000_000, 0));
        // Forward again, by less than a step.
        assert_eq!(wall.look(START + 20 * S, START + 20 * S), None);
        assert_eq!(wall.shift_ns(), 0);
    }

    #[test]
    fn a_clock_that_was_hours_ahead_is_followed_at_once_and_said() {
        let mut wall = Wall::default();
        wall.look(START, START);
        let hour = 3600 * S;
        assert_eq!(wall.look(START + S, START + S - hour), Some(-(hour as i64)));
        assert_eq!(wall.real(START + S), START + S - hour);
        assert_eq!(wall.look(START + 2 * S, START + 2 * S - hour), None);
        assert_eq!(wall.steps(), 1);
    }

    #[test]
    fn no_clock_makes_it_fail() {
        let mut wall = Wall::default();
        for (engine, real) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX), (0, 0)] {
            wall.look(engine, real);
            let _ = (wall.real(0), wall.real(u64::MAX));
        }
    }
}

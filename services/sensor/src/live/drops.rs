//! When the number of dropped packets is worth a line of the log.
//!
//! Pure. A blocked scanner may go on for a day, and a line a second would push everything else out
//! of PID 1's memory: the first drops are told at once, the next ones after pauses that double.
//! Called once a second by [`super::sensor`].

use crate::core::TimeNs;

/// First pause. 1 s: that often the counter is read.
const PAUSE_NS_MIN: TimeNs = 1_000_000_000;
/// Longest pause, and how long nothing must be dropped for the next drop to be told at once. 60 s:
/// a person who watches still sees that it goes on.
const PAUSE_NS_MAX: TimeNs = 60_000_000_000;

/// What was told.
#[derive(Debug)]
pub struct Drops {
    total: u64,
    told: u64,
    grew_ns: TimeNs,
    told_ns: Option<TimeNs>,
    pause_ns: TimeNs,
}

impl Default for Drops {
    fn default() -> Self {
        Self { total: 0, told: 0, grew_ns: 0, told_ns: None, pause_ns: PAUSE_NS_MIN }
    }
}

impl Drops {
    /// Takes the counter as it is now; what to tell, if anything.
    pub fn counted(&mut self, now_ns: TimeNs, total: u64) -> Option<u64> {
        if total > self.total {
            if now_ns.saturating_sub(self.grew_ns) >= PAUSE_NS_MAX {
                self.pause_ns = PAUSE_NS_MIN;
            }
            self.grew_ns = now_ns;
        }
        self.total = total;
        let waits =
            self.told_ns.is_some_and(|told_ns| now_ns.saturating_sub(told_ns) < self.pause_ns);
        if total <= self.told || waits {
            return None;
        }
        if self.told_ns.is_some() {
            self.pause_ns = (self.pause_ns * 2).min(PAUSE_NS_MAX);
        }
        self.told = total;
        self.told_ns = Some(now_ns);
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: TimeNs = 1_000_000_000;

    #[test]
    fn a_day_of_drops_is_a_line_a_minute_and_the_end_is_told() {
        let mut drops = Drops::default();
        assert_eq!(drops.counted(100 * SECOND, 0), None);
        let tell = |second: &u64| drops.counted((100 + second) * SECOND, *second).is_some();
        let told: Vec<u64> = (1..=86_400).filter(tell).collect();
        assert_eq!(told[..5], [1, 2, 4, 8, 16]);
        assert!(told.len() < 86_400 / 60 + 10, "{}", told.len());
        let end = (86_401..86_470).filter_map(|s| drops.counted((100 + s) * SECOND, 86_400));
        assert!(end.eq([86_400]), "the last number is told, once");
    }

    #[test]
    fn after_a_quiet_minute_the_next_drop_is_told_at_once() {
        let mut drops = Drops::default();
        for second in 0..300 {
            drops.counted(second * SECOND, second);
        }
        for second in 300..400 {
            drops.counted(second * SECOND, 300);
        }
        assert_eq!(drops.counted(400 * SECOND, 301), Some(301));
        assert_eq!(drops.counted(401 * SECOND, 302), None);
        assert_eq!(drops.counted(402 * SECOND, 303), Some(303));
    }
}

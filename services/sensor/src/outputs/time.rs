//! Moments as text, from nanoseconds since 1970. Only UTC: a box and a capture have no place.
//!
//! A capture has one clock. Live, the clock may be set while flows go on; the thread that writes lines
//! says then what has to be added to their times ([`correct`]). It is the thread's, because a line is
//! put together in many places that need not know, and nothing else runs in that thread.

use std::cell::Cell;

thread_local! {
    /// Added to every moment that this thread writes.
    static CORRECTION_NS: Cell<i64> = const { Cell::new(0) };
}

/// From now on this thread writes moments that are later by so much.
pub fn correct(by_ns: i64) {
    CORRECTION_NS.set(by_ns);
}

const NS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// A moment in the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    micros: u64,
}

impl Civil {
    fn of(ns: u64) -> Self {
        let seconds = ns / NS_PER_SECOND;
        let in_day = seconds % SECONDS_PER_DAY;
        // Days since 0000-03-01, so that a leap day is the last of its year; eras of 400 years.
        let days = seconds / SECONDS_PER_DAY + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: of_year - (153 * shifted + 2) / 5 + 1,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
            micros: ns % NS_PER_SECOND / 1000,
        }
    }
}

/// EVE's: `2026-01-02T03:04:05.678901+0000`.
#[must_use]
pub fn eve(ns: u64) -> String {
    let at = Civil::of(ns.saturating_add_signed(CORRECTION_NS.get()));
    // Two in every event: digit by digit, `format!` takes several times as long.
    let mut text = *b"0000-00-00T00:00:00.000000+0000";
    for (place, number) in [
        (0..4, at.year),
        (5..7, at.month),
        (8..10, at.day),
        (11..13, at.hour),
        (14..16, at.minute),
        (17..19, at.second),
        (20..26, at.micros),
    ] {
        digits(text.get_mut(place).unwrap_or_default(), number);
    }
    // Digits and signs: it is text.
    String::from_utf8(text.into()).unwrap_or_default()
}

/// The last digits of a number, as many as there is room for.
fn digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Certificates' in EVE: `2026-01-02T03:04:05`.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    let at = Civil::of(seconds.saturating_mul(NS_PER_SECOND));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    )
}

/// Zeek's, in the first and the last lines of a log: `2026-01-02-03-04-05`.
#[must_use]
pub fn zeek(ns: u64) -> String {
    let at = Civil::of(ns);
    format!(
        "{:04}-{:02}-{:02}-{:02}-{:02}-{:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_shows_in_lines_of_that_thread_alone() {
        let hour = 3600 * 1_000_000_000;
        correct(hour);
        assert_eq!(eve(0), "1970-01-01T01:00:00.000000+0000");
        let elsewhere = std::thread::spawn(|| eve(0)).join().unwrap();
        assert_eq!(elsewhere, "1970-01-01T00:00:00.000000+0000");
        // Times that peers wrote into certificates are not ours to correct.
        assert_eq!(seconds(0), "1970-01-01T00:00:00");
        correct(0);
    }

    #[test]
    fn dates() {
        assert_eq!(eve(0), "1970-01-01T00:00:00.000000+0000");
        let check = |seconds: u64, expect: &str| {
            assert_eq!(eve(seconds * NS_PER_SECOND + 1999), expect);
        };
        check(951_782_400, "2000-02-29T00:00:00.000001+0000");
        check(1_709_251_199, "2024-02-29T23:59:59.000001+0000");
        check(1_735_689_599, "2024-12-31T23:59:59.000001+0000");
        assert_eq!(eve(u64::MAX), "2554-07-21T23:34:33.709551+0000");
        assert_eq!(zeek(1_735_689_599 * NS_PER_SECOND), "2024-12-31-23-59-59");
        assert_eq!(seconds(1_735_689_600), "2025-01-01T00:00:00");
    }
}

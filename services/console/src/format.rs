//! Numbers and sentences in a fixed number of cells.

/// `14:22:07` (UTC).
#[must_use]
pub fn clock(unix_s: u64) -> String {
    let day_s = unix_s % 86_400;
    format!("{:02}:{:02}:{:02}", day_s / 3600, day_s / 60 % 60, day_s % 60)
}

/// `2026-03-01 14:22:07Z`.
#[must_use]
pub fn date_time(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    format!("{year:04}-{month:02}-{day:02} {}Z", clock(unix_s))
}

/// Year, month, day of the proleptic Gregorian calendar, from days since 1970-01-01. Counted in
/// years that begin in March, so that the leap day is the last day of a year.
pub fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_400_YEARS: u64 = 146_097;
    const MARCH_0000_TO_1970: u64 = 719_468;
    let days = days.saturating_add(MARCH_0000_TO_1970);
    let cycle = days / DAYS_400_YEARS;
    let day = days % DAYS_400_YEARS;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let after_december = u64::from(month >= 10);
    (
        cycle * 400 + year + after_december,
        if month < 10 { month + 3 } else { month - 9 },
        day_of_month,
    )
}

/// At most six characters: `17s`, `4m12s`, `3h05m`, `12d04h`, `123d`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        86_400..8_640_000 => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
        8_640_000..864_000_000 => format!("{}d", s / 86_400),
        _ => "years".into(),
    }
}

/// `17 s ago`, `4m12s ago`.
#[must_use]
pub fn ago(s: u64) -> String {
    match s {
        0..60 => format!("{s} s ago"),
        _ => format!("{} ago", duration(s.saturating_mul(1000))),
    }
}

/// At most six characters: `123456`, `12.3M`, `4.5G`.
#[must_use]
pub fn count(value: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if value < 1_000_000 {
        return value.to_string();
    }
    let (mut rest, mut unit) = (value, "");
    let mut tenths = 0;
    for name in UNITS {
        if rest < 1000 {
            break;
        }
        tenths = rest % 1000 / 100;
        rest /= 1000;
        unit = name;
    }
    if rest < 100 { format!("{rest}.{tenths}{unit}") } else { format!("{rest}{unit}") }
}

/// KiB as `812K`, `41M`, `1.9G`.
#[must_use]
pub fn kib(kib: u64) -> String {
    match kib {
        0..1024 => format!("{kib}K"),
        1024..1_048_576 => format!("{}M", kib / 1024),
        _ => format!("{}.{}G", kib / 1_048_576, kib % 1_048_576 * 10 / 1_048_576),
    }
}

/// `9d02..7b61`; text of ten characters or less as it is.
#[must_use]
pub fn ends(hex: &str) -> String {
    match (hex.get(..4), hex.get(hex.len().saturating_sub(4)..)) {
        (Some(first), Some(last)) if hex.len() > 10 => format!("{first}..{last}"),
        _ => hex.into(),
    }
}

/// At most `width` characters; a cut is marked with `~`, and is made between words when there is
/// a gap near the end.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    if width == 0 {
        return String::new();
    }
    let head: String = text.chars().take(width - 1).collect();
    // A word that would end exactly at the cut is whole.
    let whole = text.chars().nth(width - 1) == Some(' ');
    match head.rfind(' ') {
        Some(gap) if !whole && gap * 3 >= width * 2 => {
            format!("{} ~", head.get(..gap).unwrap_or_default())
        }
        _ => format!("{head}~"),
    }
}

/// Lines of at most `width` characters, broken between words; longer words are broken anywhere.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let chars: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + chars.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        for char in chars {
            if length == width {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            line.push(char);
            length += 1;
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |unix_s, expect: &str| assert_eq!(date_time(unix_s), expect);
        check(0, "1970-01-01 00:00:00Z");
        check(951_782_400, "2000-02-29 00:00:00Z");
        check(1_709_164_800, "2024-02-29 00:00:00Z");
        check(1_772_374_927, "2026-03-01 14:22:07Z");
        check(4_102_444_799, "2099-12-31 23:59:59Z");
        let _ = date_time(u64::MAX);
    }

    #[test]
    fn durations_and_counts_fit_six_cells() {
        let check = |ms, expect: &str| assert_eq!(duration(ms), expect);
        check(999, "0s");
        check(252_000, "4m12s");
        check(11_100_000, "3h05m");
        check(1_051_200_000, "12d04h");
        for shift in 0..64 {
            assert!(duration(1 << shift).len() <= 6, "{shift}");
            assert!(count(1 << shift).len() <= 6, "{shift}");
        }
        assert_eq!(count(12_345_678), "12.3M");
        assert_eq!(kib(42_000), "41M");
        assert_eq!(kib(2_000_000), "1.9G");
    }

    #[test]
    fn cuts_are_between_words_and_marked() {
        let check = |text: &str, width, expect: &str| assert_eq!(fit(text, width), expect);
        check("whole", 5, "whole");
        check("port scan of the network", 16, "port scan of ~");
        check("port scan of the network", 14, "port scan of ~");
        check("abcdefgh", 4, "abc~");
        check("abc", 0, "");
    }

    #[test]
    fn wrapped_lines_lose_no_word() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn hex_ends() {
        assert_eq!(ends("9d02aabbccdd7b61"), "9d02..7b61");
        assert_eq!(ends("9d02"), "9d02");
    }
}

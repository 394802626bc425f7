//! Comparisons of numbers as keywords write them: `>5`, `10<>20`, `!3`, `&0x10`.

use std::fmt;

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessEqual(u64),
    Greater(u64),
    GreaterEqual(u64),
    /// Both ends are out.
    Between(u64, u64),
    NotBetween(u64, u64),
    /// `value & mask == expected`.
    Mask(u64, u64),
    /// `value & mask != expected`.
    NotMask(u64, u64),
}

impl Compare {
    pub(crate) const fn fits(self, value: u64) -> bool {
        match self {
            Self::Equal(other) => value == other,
            Self::NotEqual(other) => value != other,
            Self::Less(other) => value < other,
            Self::LessEqual(other) => value <= other,
            Self::Greater(other) => value > other,
            Self::GreaterEqual(other) => value >= other,
            Self::Between(low, high) => low < value && value < high,
            Self::NotBetween(low, high) => value <= low || high <= value,
            Self::Mask(mask, expected) => value & mask == expected,
            Self::NotMask(mask, expected) => value & mask != expected,
        }
    }

    /// `units`: `KB`, `MB`, `GB` may follow.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix(">=") {
            return Some(Self::GreaterEqual(integer(rest)?));
        }
        if let Some(rest) = text.strip_prefix("<=") {
            return Some(Self::LessEqual(integer(rest)?));
        }
        if let Some(rest) = text.strip_prefix("!=") {
            return Some(Self::NotEqual(integer(rest)?));
        }
        if let Some(rest) = text.strip_prefix('>') {
            return Some(Self::Greater(integer(rest)?));
        }
        if let Some(rest) = text.strip_prefix('<') {
            return Some(Self::Less(integer(rest)?));
        }
        if let Some(rest) = text.strip_prefix('&') {
            return masked(rest);
        }
        let (is_negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text.strip_prefix('=').unwrap_or(text)),
        };
        if let Some((low, high)) = rest.split_once("<>").or_else(|| rest.split_once('-')) {
            let (low, high) = (integer(low)?, integer(high)?);
            // Something has to be between.
            if low.checked_add(1)? >= high {
                return None;
            }
            return Some(if is_negated {
                Self::NotBetween(low, high)
            } else {
                Self::Between(low, high)
            });
        }
        let value = integer(rest)?;
        Some(if is_negated { Self::NotEqual(value) } else { Self::Equal(value) })
    }
}

fn masked(text: &str) -> Option<Compare> {
    if let Some((mask, expected)) = text.split_once("!=") {
        return Some(Compare::NotMask(integer(mask)?, integer(expected)?));
    }
    if let Some((mask, expected)) = text.split_once('=') {
        return Some(Compare::Mask(integer(mask)?, integer(expected)?));
    }
    Some(Compare::NotMask(integer(text)?, 0))
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Decimal or `0x`, with `kb`, `mb`, `gb` behind it.
pub(crate) fn integer(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    let lower = text.to_ascii_lowercase();
    for (unit, factor) in [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1 << 10),
        ("mb", 1 << 20),
        ("gb", 1_u64 << 30),
    ] {
        if let Some(number) = lower.strip_suffix(unit) {
            return number.trim().parse::<u64>().ok()?.checked_mul(factor);
        }
    }
    lower.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Compare;

    #[test]
    fn comparisons() {
        let fits = |text: &str, value| Compare::parse(text).unwrap().fits(value);
        assert!(fits("10<>20", 11) && !fits("10<>20", 10) && !fits("10-20", 20));
        assert!(fits("!10-20", 20));
        assert!(fits(">=3", 3) && fits("!3", 4) && fits("0x10", 16) && fits("1kb", 1024));
        assert!(fits("&4", 5) && !fits("&4", 3) && fits("&6=2", 3));
        assert_eq!(Compare::parse("20<>10"), None);
        assert_eq!(Compare::parse("x"), None);
    }
}

//! Which of thousands of patterns occur in a text, in any case.
//!
//! Not an automaton, whose table outgrows every cache with the rules, but hashed windows of the
//! text that are looked up in a few kilobytes:
//!
//! ```text
//! text    .... G E T   / i n d e x ....
//! long    ^^^^    four bytes, each fourth  -> 1 bit of 2^10..2^20: patterns of seven bytes and more
//! middle  ^^^^    four bytes, each         -> the same: those of four to six, if there are many
//! pairs   ^^      two bytes, each          -> 1 bit of 2^16: all others
//!                 what a bit lets through  -> patterns with that window -> compared in full
//! ```
//!
//! Wherever a pattern of seven bytes lies, one of the first four windows of it begins at a multiple
//! of four: all four are known. What must never happen here: a pattern that occurs and is not found. Built
//! by `prefilter`, from rules only; pure.

mod grams;
mod pairs;
mod rarity;

use grams::Grams;
use pairs::Pairs;

/// Where a window of a pattern lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    pattern: u32,
    offset: u32,
}

/// Patterns of four to six bytes up to which they are looked for by two of their bytes: as long as
/// these are rare, one pass does for all that is short.
const MIDDLE_PAIRS_MAX: usize = 64;

/// Patterns of the three kinds.
#[derive(Debug)]
pub(crate) struct Literals {
    /// In lower case, by number.
    patterns: Vec<Box<[u8]>>,
    long: Option<Grams<4>>,
    middle: Option<Grams<1>>,
    pairs: Option<Pairs>,
}

impl Literals {
    /// Patterns are numbered in their order; empty ones are never found.
    pub(crate) fn new(patterns: Vec<Vec<u8>>) -> Self {
        let patterns: Vec<Box<[u8]>> = patterns
            .into_iter()
            .map(|pattern| pattern.to_ascii_lowercase().into_boxed_slice())
            .collect();
        let is_middle = |pattern: &[u8]| {
            (Grams::<1>::PATTERN_BYTES_MIN..Grams::<4>::PATTERN_BYTES_MIN).contains(&pattern.len())
        };
        let middle = patterns.iter().filter(|pattern| is_middle(pattern)).count();
        let is_short = |pattern: &[u8]| {
            pattern.len() < Grams::<1>::PATTERN_BYTES_MIN
                || (is_middle(pattern) && middle <= MIDDLE_PAIRS_MAX)
        };
        let is_long = |pattern: &[u8]| pattern.len() >= Grams::<4>::PATTERN_BYTES_MIN;
        let numbered = || (0_u32..).zip(patterns.iter().map(AsRef::as_ref));
        let long = Grams::new(numbered().filter(|(_, pattern)| is_long(pattern)));
        let rest = |(_, pattern): &(u32, &[u8])| !is_long(pattern) && !is_short(pattern);
        let middle = Grams::new(numbered().filter(rest));
        let pairs = Pairs::new(numbered().filter(|(_, pattern)| is_short(pattern)));
        Self { long, middle, pairs, patterns }
    }

    /// Calls `found` with each pattern that occurs in `text`; with one that `is_known` already, or
    /// occurs more than once, perhaps not again.
    pub(crate) fn find(&self, text: &[u8], seen: &mut impl Seen) {
        let mut check = |place: Place, at: usize| {
            if !seen.is_known(place.pattern) && self.is_at(place, text, at) {
                seen.found(place.pattern);
            }
        };
        if let Some(long) = &self.long {
            long.find(text, &mut check);
        }
        if let Some(middle) = &self.middle {
            middle.find(text, &mut check);
        }
        if let Some(pairs) = &self.pairs {
            pairs.find(text, &mut check);
        }
    }

    /// Whether a pattern is there whose window at `place` begins at `at`.
    fn is_at(&self, place: Place, text: &[u8], at: usize) -> bool {
        let Some(pattern) = self.patterns.get(place.pattern as usize) else { return false };
        at.checked_sub(place.offset as usize)
            .and_then(|start| text.get(start..)?.get(..pattern.len()))
            .is_some_and(|here| here.eq_ignore_ascii_case(pattern))
    }
}

/// Who is told.
pub(crate) trait Seen {
    /// The pattern was found before: it need not be looked for.
    fn is_known(&self, pattern: u32) -> bool;
    /// It is there.
    fn found(&mut self, pattern: u32);
}

#[cfg(test)]
mod tests;

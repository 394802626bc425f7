//! Which of thousands of patterns occur in a text, in any case.
//!
//! Not an automaton, whose table outgrows every cache with the rules, but hashed windows of the
//! text that are looked up in a few kilobytes:
//!
//! ```text
//! text    .... G E T   / i n d e x ....
//! long    ^^^^    four bytes, each fourth  -> 1 bit of 2^10..2^20: patterns of seven bytes and more
//! middle  ^^^^    four bytes, each         -> the same: those of four to six, if there are many
//! short   ^^      two bytes, each second   -> 1 bit of 2^16: all others of three bytes and more
//! tiny    ^^      two bytes, each          -> the same: those of one and two, if they are many
//! bytes   ^       memchr                   -> a few of one and two
//!                 what a bit lets through  -> patterns with that window -> compared in full
//! ```
//!
//! Where there are few in all, those of two bytes do for the long ones, too.
//!
//! Wherever a pattern of seven bytes lies, one of the first four windows of it begins at a multiple
//! of four: all four are known. So it is with two pairs of three bytes. What must never happen here: a pattern that occurs and is not found. Built
//! by `prefilter`, from rules only; pure.

mod bytes;
mod grams;
mod pairs;
mod rarity;

use bytes::Bytes;
use grams::Grams;
use pairs::Pairs;

use crate::lists::Lists;

/// Where a window of a pattern lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    pattern: u32,
    offset: u32,
}

/// Patterns of four to six bytes up to which they are looked for by two of their bytes: as long as
/// these are rare, one pass does for all that is short.
const MIDDLE_PAIRS_MAX: usize = 64;

/// Patterns of three bytes and more up to which one pass for pairs does for all of them: so few have
/// pairs that seldom occur, and a second pass for long ones costs more than they save.
const FEW_MAX: usize = 48;

/// Patterns of the four kinds.
#[derive(Debug)]
pub(crate) struct Literals {
    /// In lower case, by number.
    patterns: Lists<u8>,
    long: Option<Grams<4>>,
    middle: Option<Grams<1>>,
    short: Option<Pairs<2>>,
    tiny: Option<Pairs<1>>,
    bytes: Option<Bytes>,
}

impl Literals {
    /// Patterns are numbered in their order; empty ones are never found.
    pub(crate) fn new(mut patterns: Vec<Vec<u8>>) -> Self {
        patterns.iter_mut().for_each(|pattern| pattern.make_ascii_lowercase());
        let count = |kind| patterns.iter().filter(|pattern| kind_of(pattern) == kind).count();
        let is_middle_short = count(Kind::Middle) <= MIDDLE_PAIRS_MAX;
        let others = count(Kind::Middle) + count(Kind::Short);
        // With long ones alone, windows that are further apart cost least.
        let is_long_short = others > 0 && others + count(Kind::Long) <= FEW_MAX;
        let of = |wanted| {
            let numbered = (0_u32..).zip(patterns.iter().map(Vec::as_slice));
            numbered.filter(move |(_, pattern)| match kind_of(pattern) {
                Kind::Middle if is_middle_short => wanted == Kind::Short,
                Kind::Long if is_long_short => wanted == Kind::Short,
                kind => wanted == kind,
            })
        };
        let (long, middle) = (Grams::new(of(Kind::Long)), Grams::new(of(Kind::Middle)));
        let (short, bytes) = (Pairs::new(of(Kind::Short)), Bytes::new(of(Kind::Tiny)));
        let tiny = if bytes.is_none() { Pairs::new(of(Kind::Tiny)) } else { None };
        Self { long, middle, short, tiny, bytes, patterns: Lists::new(&patterns) }
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
        if let Some(short) = &self.short {
            short.find(text, &mut check);
        }
        if let Some(tiny) = &self.tiny {
            tiny.find(text, &mut check);
        }
        if let Some(bytes) = &self.bytes {
            bytes.find(text, &mut check);
        }
    }

    /// Whether a pattern is there whose window at `place` begins at `at`.
    fn is_at(&self, place: Place, text: &[u8], at: usize) -> bool {
        let Some(pattern) = self.patterns.get(place.pattern) else { return false };
        at.checked_sub(place.offset as usize)
            .and_then(|start| text.get(start..)?.get(..pattern.len()))
            .is_some_and(|here| here.eq_ignore_ascii_case(pattern))
    }
}

/// How patterns are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tiny,
    Short,
    Middle,
    Long,
}

const fn kind_of(pattern: &[u8]) -> Kind {
    if pattern.len() >= Grams::<4>::PATTERN_BYTES_MIN {
        Kind::Long
    } else if pattern.len() >= Grams::<1>::PATTERN_BYTES_MIN {
        Kind::Middle
    } else if pattern.len() >= Pairs::<2>::PATTERN_BYTES_MIN {
        Kind::Short
    } else {
        Kind::Tiny
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

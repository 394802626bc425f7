//! Pairs of bytes: at every second byte of the text for patterns of three bytes and more, at every
//! byte for shorter ones.

use super::{Place, rarity};

/// One bit for each pair of bytes.
const FILTER_WORDS: usize = (1 << 16) / 64;

/// Pairs of patterns; those of the text are `STRIDE` bytes apart, 1 or 2.
#[derive(Debug)]
pub(super) struct Pairs<const STRIDE: usize> {
    filter: Box<[u64; FILTER_WORDS]>,
    /// Bits that are set in the words before each word of the filter: a pair's rank.
    ranks: Box<[u32; FILTER_WORDS]>,
    /// Begin of the places of the pair of each rank, and the end of the last.
    starts: Box<[u32]>,
    /// Places by pair.
    places: Box<[Place]>,
    /// A pattern of one byte may be the last of a text, where no pair begins.
    singles: Box<[(u8, Place)]>,
}

const fn pair(first: u8, second: u8) -> u16 {
    u16::from_le_bytes([first, second])
}

/// Both cases of a byte; the same twice for what has none.
const fn cases(byte: u8) -> [u8; 2] {
    [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]
}

impl<const STRIDE: usize> Pairs<STRIDE> {
    /// Shortest pattern that has a whole pair wherever it lies.
    pub(super) const PATTERN_BYTES_MIN: usize = 1 + STRIDE;

    /// Of patterns that have [`Self::PATTERN_BYTES_MIN`] bytes, and at every byte of any other, too;
    /// `None` if there are none.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = (u32, &'p [u8])>) -> Option<Self> {
        let mut pairs = Vec::new();
        let mut singles = Vec::new();
        for (number, pattern) in patterns {
            if let [only] = pattern {
                let place = Place { pattern: number, offset: 0 };
                let all = |byte| (0..=u8::MAX).map(move |any| (pair(byte, any), place));
                pairs.extend(cases(*only).into_iter().flat_map(all));
                singles.extend(cases(*only).map(|byte| (byte, place)));
                continue;
            }
            let from = rarity::rarest(pattern, Self::PATTERN_BYTES_MIN);
            let windows = pattern.get(from..).unwrap_or_default().windows(2).take(STRIDE);
            for (offset, window) in (from..).zip(windows) {
                let ([first, second], Ok(offset)) = (window, u32::try_from(offset)) else {
                    continue;
                };
                let place = Place { pattern: number, offset };
                let both = |first| cases(*second).map(|second| (pair(first, second), place));
                pairs.extend(cases(*first).into_iter().flat_map(both));
            }
        }
        if pairs.is_empty() {
            return None;
        }
        pairs.sort_unstable();
        pairs.dedup();
        singles.sort_unstable();
        singles.dedup();
        let (filter, ranks) = filter(&pairs);
        let groups = pairs.chunk_by(|(one, _), (other, _)| one == other);
        let ends = groups.scan(0_u32, |end, group| {
            *end += u32::try_from(group.len()).unwrap_or(0);
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        let places = pairs.iter().map(|(_, place)| *place).collect();
        Some(Self { filter, ranks, starts, places, singles: singles.into() })
    }

    /// Calls `check` for each place of a pattern that has a pair of `text`, with where that is.
    pub(super) fn find(&self, text: &[u8], check: &mut impl FnMut(Place, usize)) {
        if STRIDE == 1 {
            for (at, window) in text.windows(2).enumerate() {
                let [first, second] = window else { continue };
                self.test([*first, *second], at, check);
            }
        } else {
            for (number, window) in text.as_chunks().0.iter().enumerate() {
                self.test(*window, number * STRIDE, check);
            }
        }
        if let Some((last, before)) = text.split_last() {
            for (_, place) in self.singles.iter().filter(|(byte, _)| byte == last) {
                check(*place, before.len());
            }
        }
    }

    #[inline]
    fn test(&self, window: [u8; 2], at: usize, check: &mut impl FnMut(Place, usize)) {
        let pair = u16::from_le_bytes(window);
        let word = self.filter.get(usize::from(pair >> 6)).copied().unwrap_or(0);
        if word >> (pair & 63) & 1 != 0 {
            self.look(pair, word, at, check);
        }
    }

    /// `word` is that of the pair.
    #[cold]
    fn look(&self, pair: u16, word: u64, at: usize, check: &mut impl FnMut(Place, usize)) {
        let below = word & ((1 << (pair & 63)) - 1);
        let before = self.ranks.get(usize::from(pair >> 6)).copied().unwrap_or(0);
        let rank = (before + below.count_ones()) as usize;
        let (Some(from), Some(to)) = (self.starts.get(rank), self.starts.get(rank + 1)) else {
            return;
        };
        for place in self.places.get(*from as usize..*to as usize).unwrap_or_default() {
            check(*place, at);
        }
    }
}

/// A bit for each pair, and how many there are before each word.
fn filter(pairs: &[(u16, Place)]) -> (Box<[u64; FILTER_WORDS]>, Box<[u32; FILTER_WORDS]>) {
    let mut filter = Box::new([0_u64; FILTER_WORDS]);
    for (pair, _) in pairs {
        if let Some(word) = filter.get_mut(usize::from(pair >> 6)) {
            *word |= 1 << (pair & 63);
        }
    }
    let mut ranks = Box::new([0_u32; FILTER_WORDS]);
    let mut before = 0;
    for (rank, word) in ranks.iter_mut().zip(filter.iter()) {
        *rank = before;
        before += word.count_ones();
    }
    (filter, ranks)
}

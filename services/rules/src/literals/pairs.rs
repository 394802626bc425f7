//! Short patterns: each two bytes of the text.

use super::{Place, rarity};

/// One bit for each pair of bytes.
const FILTER_WORDS: usize = (1 << 16) / 64;

#[derive(Debug)]
pub(super) struct Pairs {
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
    u16::from_be_bytes([first, second])
}

/// Both cases of a byte; the same twice for what has none.
const fn cases(byte: u8) -> [u8; 2] {
    [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]
}

impl Pairs {
    /// Of patterns of any length; `None` if there are none.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = (u32, &'p [u8])>) -> Option<Self> {
        let mut pairs = Vec::new();
        let mut singles = Vec::new();
        for (number, pattern) in patterns {
            let from = rarity::rarest(pattern, 2);
            let place = Place { pattern: number, offset: u32::try_from(from).unwrap_or(0) };
            match pattern.get(from..).unwrap_or_default() {
                [] => {}
                [only] => {
                    let all = |byte| (0..=u8::MAX).map(move |any| (pair(byte, any), place));
                    pairs.extend(cases(*only).into_iter().flat_map(all));
                    singles.extend(cases(*only).map(|byte| (byte, place)));
                }
                [first, second, ..] => {
                    let both = |first| cases(*second).map(|second| (pair(first, second), place));
                    pairs.extend(cases(*first).into_iter().flat_map(both));
                }
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
        let Some((first, rest)) = text.split_first() else { return };
        let mut before = *first;
        for (at, byte) in rest.iter().enumerate() {
            let pair = pair(before, *byte);
            before = *byte;
            let word = self.filter.get(usize::from(pair >> 6)).copied().unwrap_or(0);
            if word >> (pair & 63) & 1 != 0 {
                self.look(pair, word, at, check);
            }
        }
        for (_, place) in self.singles.iter().filter(|(byte, _)| *byte == before) {
            check(*place, rest.len());
        }
    }

    /// `word` is that of the pair.
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

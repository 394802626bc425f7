//! A few patterns of one or two bytes: one byte of each, at the speed of `memchr`.

use super::{Place, rarity};

/// Bytes that are looked for at once.
const NEEDLES_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Bytes {
    /// Distinct; the last is repeated where there are fewer.
    needles: [u8; NEEDLES_MAX],
    places: Box<[(u8, Place)]>,
}

impl Bytes {
    /// `None` if there are no patterns, or more bytes than are looked for at once.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = (u32, &'p [u8])>) -> Option<Self> {
        let mut places = Vec::new();
        for (number, pattern) in patterns {
            let offset = rarity::rarest(pattern, 1);
            let Some(byte) = pattern.get(offset) else { continue };
            let place = Place { pattern: number, offset: u32::try_from(offset).unwrap_or(0) };
            places
                .extend([byte.to_ascii_lowercase(), byte.to_ascii_uppercase()].map(|b| (b, place)));
        }
        places.sort_unstable();
        places.dedup();
        let mut needles: Vec<u8> = places.iter().map(|(byte, _)| *byte).collect();
        needles.dedup();
        let last = *needles.last()?;
        (needles.len() <= NEEDLES_MAX).then(|| needles.resize(NEEDLES_MAX, last))?;
        Some(Self { needles: needles.try_into().ok()?, places: places.into() })
    }

    /// Calls `check` for each place of a pattern that has a byte of `text`, with where that is.
    pub(super) fn find(&self, text: &[u8], check: &mut impl FnMut(Place, usize)) {
        let [one, two, three] = self.needles;
        if one == three {
            memchr::memchr_iter(one, text).for_each(|at| self.look(text, at, check));
        } else {
            memchr::memchr3_iter(one, two, three, text).for_each(|at| self.look(text, at, check));
        }
    }

    fn look(&self, text: &[u8], at: usize, check: &mut impl FnMut(Place, usize)) {
        for (_, place) in self.places.iter().filter(|(byte, _)| text.get(at) == Some(byte)) {
            check(*place, at);
        }
    }
}

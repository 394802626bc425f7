//! Windows of four bytes, hashed: at every fourth byte of the text for long patterns, at every byte
//! for those of four to six bytes.

use super::{Place, rarity};

/// Bytes of a window.
const GRAM_BYTES: usize = 4;
/// Bits of the filter for each window, as a power of two: 1 of 16 windows of a text at most passes
/// by chance.
const SPARSE_BITS: u32 = 4;
/// The filter has 2^10 bits at least and, so that it stays in the second level of the cache,
/// 2^20 at most.
const FILTER_BITS_MIN: u32 = 10;
const FILTER_BITS_MAX: u32 = 20;
/// Bit of a byte that tells upper from lower case; without it letters of both are the same, and a
/// few others meet by chance.
const CASE: u32 = 0x2020_2020;
/// Odd, from the golden ratio: the high bits of a product depend on all bytes.
const SPREAD: u32 = 0x9e37_79b1;

/// Windows of patterns; those of the text are `STRIDE` bytes apart.
#[derive(Debug)]
pub(super) struct Grams<const STRIDE: usize> {
    /// One bit for each hash.
    filter: Box<[u64]>,
    /// The hash is what is left of 32 bits after this shift.
    filter_shift: u32,
    /// Begin of each bucket in `windows`, and the end of the last.
    buckets: Box<[u32]>,
    bucket_shift: u32,
    /// Windows by bucket.
    windows: Box<[(u32, Place)]>,
}

/// Case is no difference.
const fn folded(window: [u8; GRAM_BYTES]) -> u32 {
    u32::from_le_bytes(window) | CASE
}

const fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(SPREAD)
}

impl<const STRIDE: usize> Grams<STRIDE> {
    /// Shortest pattern that has a whole window wherever it lies.
    pub(super) const PATTERN_BYTES_MIN: usize = GRAM_BYTES + STRIDE - 1;

    /// Of patterns that have [`Self::PATTERN_BYTES_MIN`] bytes; `None` if there are none.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = (u32, &'p [u8])>) -> Option<Self> {
        let mut windows: Vec<(u32, Place)> = Vec::new();
        for (number, pattern) in patterns {
            let from = rarity::rarest(pattern, Self::PATTERN_BYTES_MIN);
            let grams = pattern.get(from..).unwrap_or_default().windows(GRAM_BYTES).take(STRIDE);
            for (offset, window) in (from..).zip(grams) {
                let (Some(window), Ok(offset)) = (window.first_chunk(), u32::try_from(offset))
                else {
                    continue;
                };
                windows.push((folded(*window), Place { pattern: number, offset }));
            }
        }
        let count = u32::try_from(windows.len()).ok().filter(|count| *count > 0)?;
        let bits = count.ilog2() + 1;
        let filter_bits = (bits + SPARSE_BITS).clamp(FILTER_BITS_MIN, FILTER_BITS_MAX);
        let (filter_shift, bucket_shift) = (32 - filter_bits, 32 - bits.min(filter_bits));
        windows.sort_unstable_by_key(|(gram, place)| (hash(*gram) >> bucket_shift, *gram, *place));
        let mut filter = vec![0_u64; 1 << (filter_bits - 6)];
        let mut buckets = vec![0_u32; (1 << (32 - bucket_shift)) + 1];
        for (gram, _) in &windows {
            let bit = hash(*gram) >> filter_shift;
            if let Some(word) = filter.get_mut((bit >> 6) as usize) {
                *word |= 1 << (bit & 63);
            }
            if let Some(count) = buckets.get_mut((hash(*gram) >> bucket_shift) as usize + 1) {
                *count += 1;
            }
        }
        let mut end = 0;
        for bucket in &mut buckets {
            end += *bucket;
            *bucket = end;
        }
        Some(Self {
            filter: filter.into(),
            filter_shift,
            buckets: buckets.into(),
            bucket_shift,
            windows: windows.into(),
        })
    }

    /// Calls `check` for each place of a pattern that has a window of `text`, with where that is.
    pub(super) fn find(&self, text: &[u8], check: &mut impl FnMut(Place, usize)) {
        if STRIDE == GRAM_BYTES {
            for (number, window) in text.as_chunks().0.iter().enumerate() {
                self.test(*window, number * STRIDE, check);
            }
        } else {
            let windows = text.windows(GRAM_BYTES).enumerate().step_by(STRIDE);
            for (at, window) in windows {
                let Some(window) = window.first_chunk() else { continue };
                self.test(*window, at, check);
            }
        }
    }

    #[inline]
    fn test(&self, window: [u8; GRAM_BYTES], at: usize, check: &mut impl FnMut(Place, usize)) {
        let gram = folded(window);
        let bit = hash(gram) >> self.filter_shift;
        let word = self.filter.get((bit >> 6) as usize).copied().unwrap_or(0);
        if word >> (bit & 63) & 1 != 0 {
            self.look(gram, at, check);
        }
    }

    #[cold]
    fn look(&self, gram: u32, at: usize, check: &mut impl FnMut(Place, usize)) {
        let bucket = (hash(gram) >> self.bucket_shift) as usize;
        let (Some(from), Some(to)) = (self.buckets.get(bucket), self.buckets.get(bucket + 1))
        else {
            return;
        };
        let windows = self.windows.get(*from as usize..*to as usize).unwrap_or_default();
        for (_, place) in windows.iter().filter(|(own, _)| *own == gram) {
            check(*place, at);
        }
    }
}

//! Seeded mutation of byte strings. The same seed always gives the same inputs.

use crate::{Outcome, Target};

/// Longest input that is made; the formats' own limits are tested by their unit tests.
pub const INPUT_BYTES_MAX: usize = 8 * 1024;
/// Most inputs that are kept; further finds replace earlier ones.
const CORPUS_MAX: usize = 512;
/// Most changes to one input.
const CHANGES_MAX: u64 = 6;

/// Numbers at the edges of lengths and counters.
const EDGES: [u64; 13] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 for 0.
    pub fn below(&mut self, bound: usize) -> usize {
        match bound as u64 {
            0 => 0,
            bound => (self.draw() % bound) as usize,
        }
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// Start and end of a part of `length` bytes.
    fn part(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        // Short parts are what fields are made of.
        let longest = if self.below(4) == 0 { length } else { 16 };
        (start, (start + self.below(longest + 1)).min(length))
    }
}

/// Inputs for one target, without end.
#[derive(Debug)]
pub struct Corpus {
    target: Target,
    rng: Rng,
    inputs: Vec<Vec<u8>>,
    outcomes: std::collections::BTreeSet<Outcome>,
    /// Seeds are given out unchanged first.
    fresh: usize,
}

impl Corpus {
    /// Starts with the target's seeds.
    #[must_use]
    pub fn new(target: Target, seed: u64) -> Self {
        Self {
            target,
            rng: Rng::new(seed ^ Outcome::of(target.name).0),
            inputs: (target.seeds)(),
            outcomes: std::collections::BTreeSet::new(),
            fresh: 0,
        }
    }

    /// Inputs kept so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// `true` without seeds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        if let Some(seed) = self.inputs.get(self.fresh) {
            self.fresh += 1;
            return seed.clone();
        }
        let mut input = self.rng.pick(&self.inputs).cloned().unwrap_or_default();
        for _ in 0..=self.rng.draw() % CHANGES_MAX {
            self.change(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        if self.rng.below(8) != 0 {
            (self.target.repair)(&mut input);
        }
        input
    }

    /// Keeps `input` when its outcome was not seen before.
    pub fn learn(&mut self, input: Vec<u8>, outcome: Outcome) {
        if !self.outcomes.insert(outcome) {
            return;
        }
        if self.inputs.len() < CORPUS_MAX {
            self.inputs.push(input);
            self.fresh = self.fresh.max(self.inputs.len());
        } else {
            let at = self.rng.below(CORPUS_MAX);
            if let Some(slot) = self.inputs.get_mut(at) {
                *slot = input;
            }
        }
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let length = input.len();
        match rng.below(11) {
            0 => {
                let at = rng.below(length);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
            1 => {
                let at = rng.below(length);
                if let Some(byte) = input.get_mut(at) {
                    *byte = rng.draw() as u8;
                }
            }
            2 => {
                let at = rng.below(length);
                if let Some(byte) = input.get_mut(at) {
                    *byte = byte.wrapping_add([1, 255][rng.below(2)]);
                }
            }
            3 | 4 => {
                let (edge, width) = (EDGES[rng.below(EDGES.len())], 1 << rng.below(4));
                let bytes = if rng.below(2) == 0 {
                    edge.to_le_bytes()[..width].to_vec()
                } else {
                    edge.to_be_bytes()[8 - width..].to_vec()
                };
                let at = rng.below(length);
                for (slot, byte) in input.iter_mut().skip(at).zip(bytes) {
                    *slot = byte;
                }
            }
            5 => {
                let (start, end) = rng.part(length);
                input.drain(start..end);
            }
            6 => {
                let (start, end) = rng.part(length);
                let copy = input[start..end].to_vec();
                insert(input, rng.below(length + 1), &copy);
            }
            7 => {
                if let Some(token) = rng.pick(self.target.dictionary) {
                    insert(input, rng.below(length + 1), token);
                }
            }
            8 => {
                // Another input's part in the place of this one's.
                let other = rng.pick(&self.inputs).cloned().unwrap_or_default();
                let (start, end) = rng.part(other.len());
                let (from, to) = rng.part(length);
                input.splice(from..to, other[start..end].iter().copied());
            }
            9 => {
                let bytes: Vec<u8> = (0..rng.below(9)).map(|_| rng.draw() as u8).collect();
                insert(input, rng.below(length + 1), &bytes);
            }
            _ => input.truncate(rng.below(length + 1)),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_inputs_and_seeds_come_first() {
        for target in crate::targets() {
            let inputs = |seed| {
                let mut corpus = Corpus::new(target, seed);
                (0..200).map(|_| corpus.next_input()).collect::<Vec<_>>()
            };
            assert_eq!(inputs(1), inputs(1), "{}", target.name);
            assert_ne!(inputs(1), inputs(2), "{}", target.name);
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            assert_eq!(inputs(1)[..seeds.len()], seeds, "{}", target.name);
        }
    }
}

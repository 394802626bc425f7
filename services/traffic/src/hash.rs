//! A fast keyed hash for tables whose keys an attacker chooses.
//!
//! Words are mixed by 64 by 64 to 128 bit multiplication, as wyhash does; without the seed nobody
//! can aim at one bucket. Not for anything that must stay secret.

use std::hash::{BuildHasher, Hasher};

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xe703_7ed1_a0b4_28db;

/// Both halves of the product, folded.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Makes [`Keyed`] hashers of one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(pub(crate) u64);

/// The state of one hash.
pub(crate) struct Keyed {
    state: u64,
    seed: u64,
}

impl BuildHasher for Seed {
    type Hasher = Keyed;

    fn build_hasher(&self) -> Keyed {
        let seed = fold(self.0 ^ A, B);
        Keyed { state: seed, seed }
    }
}

impl Keyed {
    const fn mix(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.seed ^ A);
    }
}

impl Hasher for Keyed {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.mix(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, B)
    }
}

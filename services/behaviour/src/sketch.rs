//! Distinct counting in bounded memory.
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, AofA 2007) with 256 registers: 256 bytes and a
//! standard error of 1.04 / sqrt(256) = 6.5 %. Up to [`EXACT_MAX`] values are kept as they are
//! (hashes of 32 bits), so small counts, where thresholds are, are exact.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Values that are counted exactly. 128: the thresholds of this crate are at most 100.
pub const EXACT_MAX: usize = 128;

const REGISTERS: usize = 256;
/// Bits of the hash that choose the register.
const INDEX_BITS: u32 = 8;
/// The bias constant for 256 registers, alpha = 0.7213 / (1 + 1.079 / m) (Figure 3 of the paper).
const ALPHA: f64 = 0.7213 / (1.0 + 1.079 / 256.0);

/// How many different values were added.
#[derive(Debug, Clone)]
pub enum Distinct {
    /// Sorted hashes.
    Exact(Vec<u32>),
    /// Registers.
    Estimated(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Distinct {
    /// Adds a value; `true` when the count changed (or may have).
    pub fn add(&mut self, value: &(impl Hash + ?Sized)) -> bool {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        match self {
            Self::Exact(hashes) => {
                let short = (hash >> 32) as u32;
                let Err(at) = hashes.binary_search(&short) else {
                    return false;
                };
                if hashes.len() >= EXACT_MAX {
                    let mut registers = Box::new([0; REGISTERS]);
                    for held in hashes.iter() {
                        raise(&mut registers, spread(*held));
                    }
                    raise(&mut registers, spread(short));
                    *self = Self::Estimated(registers);
                } else {
                    hashes.insert(at, short);
                }
                true
            }
            Self::Estimated(registers) => raise(registers, spread((hash >> 32) as u32)),
        }
    }

    /// The count, exact up to [`EXACT_MAX`].
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => u64::try_from(hashes.len()).unwrap_or(u64::MAX),
            Self::Estimated(registers) => estimate(registers),
        }
    }
}

/// The kept 32 bits to 64, so that a value counts the same before and after the change of form.
fn spread(short: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u32(short);
    hasher.finish()
}

fn raise(registers: &mut [u8; REGISTERS], hash: u64) -> bool {
    let at = (hash >> (64 - INDEX_BITS)) as usize;
    let rank = ((hash << INDEX_BITS) | 1).leading_zeros() + 1;
    let Some(register) = registers.get_mut(at) else {
        return false;
    };
    // At most 64 - 8 + 1.
    let rank = u8::try_from(rank).unwrap_or(u8::MAX);
    let is_raised = rank > *register;
    *register = rank.max(*register);
    is_raised
}

fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let m = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| 0.5_f64.powi(i32::from(*rank))).sum();
    let raw = ALPHA * m * m / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    // Linear counting below 5/2 m, as the paper's practical algorithm does.
    let count = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
    count.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_counts_are_exact() {
        let mut distinct = Distinct::default();
        for value in 0..100_u32 {
            assert!(distinct.add(&value));
            assert!(!distinct.add(&value));
        }
        assert_eq!(distinct.count(), 100);
    }

    #[test]
    fn large_counts_are_within_four_standard_errors() {
        for total in [200_u64, 1000, 20_000, 300_000] {
            let mut distinct = Distinct::default();
            for value in 0..total {
                distinct.add(&value);
            }
            let error = (distinct.count() as f64 - total as f64).abs() / total as f64;
            assert!(error < 4.0 * 0.065, "{total}: counted {}", distinct.count());
        }
    }

    #[test]
    fn repeated_values_never_count() {
        let mut distinct = Distinct::default();
        for value in (0..5000_u32).map(|value| value % 300) {
            distinct.add(&value);
        }
        assert!((250..350).contains(&distinct.count()), "{}", distinct.count());
    }
}

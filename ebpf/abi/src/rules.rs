//! Keys and bits of rules.

use crate::{parse::Words, Address};

/// [`crate::BlockEntry::flags`]: count what would be dropped and drop nothing.
pub const DRY_RUN: u64 = 1;
/// [`crate::BlockEntry::flags`]: let through, whatever a shorter prefix says.
pub const ALLOW: u64 = 2;

/// Entries of one list's map of single addresses.
pub const LIST_EXACT_MAX: u32 = 262_144;
/// Entries of one list's map of prefixes.
pub const LIST_PREFIX_MAX: u32 = 65_536;
/// Entries of one list's trie. It is small on purpose: the way down a large one misses the cache at
/// each step (353 ns at 100,000 prefixes against 56 ns for a hash).
pub const LIST_LPM_MAX: u32 = 1024;

/// Key of a map of prefixes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixKey {
    /// Its length in 128 bits.
    pub bits: u32,
    /// Its address, the other bits 0.
    pub prefix: Address,
}

const _: () = assert!(core::mem::size_of::<PrefixKey>() == 20);

/// The first `bits` bits of an address, the others 0.
#[inline(always)]
pub fn masked(address: &Address, bits: u8) -> Address {
    masked_words(Words::from_bytes(*address), bits).bytes()
}

/// The same. Without branches: the verifier walks each way through each of them, for each length of
/// a list.
#[inline(always)]
pub fn masked_words(address: Words, bits: u8) -> Words {
    let bits = bits as u32;
    // All ones from 64 bits on.
    let is_long = 0_u32.wrapping_sub((bits >> 6 | bits >> 7) & 1);
    let high_bits = 64 & is_long | bits & !is_long;
    let low_bits = (bits & 63 | bits >> 7 << 6) & is_long;
    let (high, low) = (ones(high_bits), ones(low_bits));
    let [first, second, third, fourth] = address.0;
    Words([
        first & ((high >> 32) as u32).to_be(),
        second & (high as u32).to_be(),
        third & ((low >> 32) as u32).to_be(),
        fourth & (low as u32).to_be(),
    ])
}

/// `bits` ones from the left, 0 to 64; in two steps, because a shift by 64 is none.
#[inline(always)]
fn ones(bits: u32) -> u64 {
    let half = bits >> 1;
    !(u64::MAX >> half >> (bits - half))
}

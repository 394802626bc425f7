//! Lists of many rules: planned in one piece, put in force in one step.
//!
//! A list goes into the slot that is not in force, in maps of its own; then one word of the
//! configuration makes it the list. At no moment is there half of a list, or none. Lengths of
//! prefixes that many rules have get a hash lookup each; the few others share a small trie, and a
//! list with too many of those is refused rather than slow.

use std::collections::BTreeMap;

use aya::maps::{HashMap, LpmTrie, MapData, lpm_trie::Key};
use hookprobe_abi::{
    Address, BlockEntry, MAP_LIST_EXACT, MAP_LIST_LPM, MAP_LIST_PREFIX,
    config::{LENGTHS_MAX, ListShape, SLOTS},
    rules::{LIST_EXACT_MAX, LIST_LPM_MAX, LIST_PREFIX_MAX, PrefixKey, masked},
};
use thiserror::Error;

use super::{Maps, ObjectError, unusable};

/// Map of single addresses.
pub type ExactMap = HashMap<MapData, Address, BlockEntry>;
/// Map of prefixes.
pub type PrefixMap = HashMap<MapData, PrefixKey, BlockEntry>;
/// Trie of prefixes.
pub type LpmMap = LpmTrie<MapData, Address, BlockEntry>;

/// BPF_F_NO_PREALLOC, as the templates in the object have it.
const NO_PREALLOC: u32 = 1;
/// Bits of an address.
const BITS: u8 = 128;
/// Bits in front of an IPv4 address.
const MAPPED_BITS: u8 = 96;

/// One rule of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Address, or any address in the prefix.
    pub address: Address,
    /// Length of the prefix in 128 bits: an IPv4 /24 is 120.
    pub bits: u8,
    /// What is done; counters are 0.
    pub entry: BlockEntry,
}

/// Why a list is refused.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum ListError {
    /// A prefix that is longer than an address, or so short that it covers a whole family.
    #[error("prefix of {bits} bits: 1 to 128 for IPv6, 97 to 128 for IPv4")]
    Length {
        /// Its length.
        bits: u8,
    },
    /// Too many of a kind.
    #[error("{count} {what}, at most {limit} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: u32,
    },
}

/// A list that fits, sorted into the maps that it will be in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    exact: BTreeMap<Address, BlockEntry>,
    prefix: BTreeMap<PrefixKey, BlockEntry>,
    lpm: BTreeMap<PrefixKey, BlockEntry>,
    shape: ListShape,
}

impl List {
    /// Sorts rules; of two for the same address the later one counts.
    ///
    /// # Errors
    /// Any [`ListError`].
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Self, ListError> {
        let mut list = Self::default();
        let mut prefixes = BTreeMap::new();
        for Rule { address, bits, entry } in rules {
            let shortest = if is_v4(&address) { MAPPED_BITS + 1 } else { 1 };
            if bits > BITS || bits < shortest {
                return Err(ListError::Length { bits });
            }
            if bits == BITS {
                list.exact.insert(address, entry);
            } else {
                let prefix = masked(&address, bits);
                prefixes.insert(PrefixKey { bits: bits.into(), prefix }, entry);
            }
        }
        list.shape.lengths4 = common_lengths(&prefixes, true);
        list.shape.lengths6 = common_lengths(&prefixes, false);
        for (key, entry) in prefixes {
            let lengths =
                if is_v4(&key.prefix) { list.shape.lengths4 } else { list.shape.lengths6 };
            let is_common = lengths.iter().any(|length| u32::from(*length) == key.bits);
            let map = if is_common { &mut list.prefix } else { &mut list.lpm };
            map.insert(key, entry);
        }
        list.shape.has_exact = u32::from(!list.exact.is_empty());
        list.shape.has_lpm = u32::from(!list.lpm.is_empty());
        for (what, count, limit) in [
            ("addresses", list.exact.len(), LIST_EXACT_MAX),
            ("prefixes", list.prefix.len(), LIST_PREFIX_MAX),
            ("prefixes of rare lengths", list.lpm.len(), LIST_LPM_MAX),
        ] {
            if u32::try_from(count).map_or(true, |count| count > limit) {
                return Err(ListError::TooMany { what, count, limit });
            }
        }
        Ok(list)
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.prefix.len() + self.lpm.len()
    }

    /// Whether there is no rule in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn is_v4(address: &Address) -> bool {
    address.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
}

/// The lengths that most rules of a family have, longest first.
fn common_lengths(prefixes: &BTreeMap<PrefixKey, BlockEntry>, v4: bool) -> [u8; LENGTHS_MAX] {
    let mut counts = BTreeMap::<u8, usize>::new();
    for key in prefixes.keys().filter(|key| is_v4(&key.prefix) == v4) {
        *counts.entry(u8::try_from(key.bits).unwrap_or(BITS)).or_default() += 1;
    }
    let mut lengths: Vec<(usize, u8)> =
        counts.into_iter().map(|(length, count)| (count, length)).collect();
    lengths.sort_unstable_by(|left, right| right.cmp(left));
    lengths.truncate(LENGTHS_MAX);
    lengths.sort_unstable_by_key(|(_, length)| std::cmp::Reverse(*length));
    let mut out = [0; LENGTHS_MAX];
    for (place, (_, length)) in out.iter_mut().zip(lengths) {
        *place = length;
    }
    out
}

impl Maps {
    /// Puts `list` in force in place of the one before.
    ///
    /// # Errors
    /// [`ObjectError::Map`]: the list before is in force still.
    pub fn swap_list(&mut self, list: &List) -> Result<(), ObjectError> {
        let mut config = self.config()?;
        let slot = if config.slot == 0 { 1 } else { 0 };
        self.fill(slot, list)?;
        if let Some(shape) = config.lists.get_mut(usize::try_from(slot).unwrap_or(0)) {
            *shape = list.shape;
        }
        // Two steps: the kernel copies field by field, and a program that runs meanwhile must see
        // the shape of a slot before the slot is in force.
        self.configure(&config)?;
        config.slot = slot;
        config.generation = config.generation.wrapping_add(1).max(1);
        self.configure(&config)
    }

    /// Gives back the memory of the list that is not in force any more. Call it a while after
    /// [`Self::swap_list`], when no program can be in the middle of it.
    ///
    /// # Errors
    /// [`ObjectError::Map`].
    pub fn release_old_list(&mut self) -> Result<(), ObjectError> {
        let slot = if self.config()?.slot == 0 { 1 } else { 0 };
        self.fill(slot, &List::default())
    }

    fn fill(&mut self, slot: u32, list: &List) -> Result<(), ObjectError> {
        debug_assert!(usize::try_from(slot).is_ok_and(|slot| slot < SLOTS));
        let room = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let failed = unusable(MAP_LIST_EXACT);
        let mut exact = || {
            let mut map = ExactMap::create(room(list.exact.len()), NO_PREALLOC)?;
            for (address, entry) in &list.exact {
                map.insert(address, entry, 0)?;
            }
            self.exact.set(slot, &map, 0)
        };
        exact().map_err(failed)?;
        let failed = unusable(MAP_LIST_PREFIX);
        let mut prefix = || {
            let mut map = PrefixMap::create(room(list.prefix.len()), NO_PREALLOC)?;
            for (key, entry) in &list.prefix {
                map.insert(key, entry, 0)?;
            }
            self.prefix.set(slot, &map, 0)
        };
        prefix().map_err(failed)?;
        let failed = unusable(MAP_LIST_LPM);
        let mut lpm = || {
            let mut map = LpmMap::create(room(list.lpm.len()), NO_PREALLOC)?;
            for (key, entry) in &list.lpm {
                map.insert(&Key::new(key.bits, key.prefix), entry, 0)?;
            }
            self.lpm.set(slot, &map, 0)
        };
        lpm().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(address: [u8; 4], bits: u8) -> Rule {
        let address = hookprobe_abi::parse::mapped(address);
        Rule { address, bits: MAPPED_BITS + bits, entry: BlockEntry::default() }
    }

    #[test]
    fn common_lengths_are_hashed_and_rare_ones_go_to_the_trie() {
        let mut rules: Vec<Rule> = (0..100).map(|host| v4([10, 0, host, 0], 24)).collect();
        for bits in 8..24 {
            rules.push(v4([10, 0, 0, 0], bits));
        }
        rules.push(v4([10, 0, 0, 1], 32));
        let list = List::new(rules).unwrap();
        assert_eq!((list.exact.len(), list.len()), (1, 117));
        assert_eq!(list.shape.lengths4[0], 96 + 24);
        assert_eq!(list.lpm.len(), 16 - (LENGTHS_MAX - 1));
        assert_eq!(list.shape.lengths6, [0; LENGTHS_MAX]);
    }

    #[test]
    fn lists_that_would_be_slow_or_cover_everything_are_refused() {
        assert_eq!(List::new([v4([0; 4], 0)]), Err(ListError::Length { bits: 96 }));
        let zero = Rule { address: [0x20; 16], bits: 0, entry: BlockEntry::default() };
        assert_eq!(List::new([zero]), Err(ListError::Length { bits: 0 }));
        let many = (0..20_000_u32).map(|number| {
            let mut address = [0x20; 16];
            address[1..5].copy_from_slice(&number.to_be_bytes());
            Rule { address, bits: 64 + u8::try_from(number % 60).unwrap(), ..zero }
        });
        assert!(matches!(
            List::new(many),
            Err(ListError::TooMany { what: "prefixes of rare lengths", .. })
        ));
    }

    proptest! {
        /// What a linear search over the rules finds, the planned lookups find.
        #[test]
        fn nothing_is_lost_in_planning(
            rules in prop::collection::vec((any::<[u8; 4]>(), 1..=32_u8), 1..200),
            address in any::<[u8; 4]>(),
        ) {
            let list = List::new(rules.iter().map(|(net, bits)| v4(*net, *bits))).unwrap();
            let address = hookprobe_abi::parse::mapped(address);
            let covers = |(net, bits): &([u8; 4], u8)| {
                let rule = v4(*net, *bits);
                masked(&rule.address, rule.bits) == masked(&address, rule.bits)
            };
            let by_length = (97..128_u8).any(|bits| {
                let key = PrefixKey { bits: bits.into(), prefix: masked(&address, bits) };
                let hashed = list.shape.lengths4.contains(&bits) && list.prefix.contains_key(&key);
                hashed || list.lpm.contains_key(&key)
            });
            let found = list.exact.contains_key(&address) || by_length;
            prop_assert_eq!(found, rules.iter().any(covers));
        }
    }
}

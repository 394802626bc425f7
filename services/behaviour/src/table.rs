//! A map with a cap that forgets what was longest untouched.
//!
//! A hash index over a slab, whose slots are a list by age. The hash is keyed by the caller, so
//! hostile keys can't be chosen to collide; it is never iterated, so the key changes no result:
//! every walk goes by age. Nothing here allocates beyond the cap.

use std::{
    collections::HashMap,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher},
};

/// Keys the hash of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seed(pub u64);

impl BuildHasher for Seed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Slot<K, V> {
    key: K,
    /// `None` in a free slot only.
    value: Option<V>,
    older: u32,
    younger: u32,
}

/// At most `entries_max` entries; age is counted from the last [`Table::insert`] or
/// [`Table::touch`].
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    index: HashMap<K, u32, Seed>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    oldest: u32,
    youngest: u32,
    entries_max: usize,
    evicted: u64,
}

impl<K: Eq + Hash + Clone, V> Table<K, V> {
    /// An empty table; a cap of 0 counts as 1.
    #[must_use]
    pub fn new(seed: Seed, entries_max: usize) -> Self {
        Self {
            index: HashMap::with_hasher(seed),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            youngest: NONE,
            entries_max: entries_max.clamp(1, (NONE - 1) as usize),
            evicted: 0,
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Entries that had to make room since the start.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    /// The entry, its age unchanged.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let at = *self.index.get(key)?;
        self.slot(at)?.value.as_ref()
    }

    /// The entry to change, its age unchanged.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.slot_mut(at)?.value.as_mut()
    }

    /// The entry to change, now the youngest.
    pub fn touch(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.unlink(at);
        self.link_youngest(at);
        self.slot_mut(at)?.value.as_mut()
    }

    /// The entry, made if it was not there, now the youngest. The oldest one makes room.
    pub fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> Option<&mut V> {
        if !self.contains(key) {
            self.insert(key.clone(), make());
        }
        self.touch(key)
    }

    /// Puts an entry in as the youngest; the oldest one when it had to make room for another key.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(held) = self.touch(&key) {
            *held = value;
            return None;
        }
        let evicted = if self.len() >= self.entries_max { self.pop_oldest() } else { None };
        self.evicted += u64::from(evicted.is_some());
        let slot = Slot { key: key.clone(), value: Some(value), older: NONE, younger: NONE };
        let at = if let Some(at) = self.free.pop() {
            if let Some(place) = self.slot_mut(at) {
                *place = slot;
            }
            at
        } else {
            self.slots.push(slot);
            // The cap is below u32::MAX.
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        };
        self.index.insert(key, at);
        self.link_youngest(at);
        evicted
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        self.unlink(at);
        self.free.push(at);
        self.slot_mut(at)?.value.take()
    }

    /// The oldest entry.
    #[must_use]
    pub fn oldest(&self) -> Option<(&K, &V)> {
        let slot = self.slot(self.oldest)?;
        Some((&slot.key, slot.value.as_ref()?))
    }

    /// Takes the oldest entry out.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let key = self.slot(self.oldest)?.key.clone();
        let value = self.remove(&key)?;
        Some((key, value))
    }

    /// All entries, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slot(at)?;
            at = slot.younger;
            Some((&slot.key, slot.value.as_ref()?))
        })
    }

    /// Calls `visit` for every entry, the oldest first.
    pub fn for_each_mut(&mut self, mut visit: impl FnMut(&K, &mut V)) {
        let mut at = self.oldest;
        while let Some(slot) = self.slot_mut(at) {
            if let Some(value) = slot.value.as_mut() {
                visit(&slot.key, value);
            }
            at = slot.younger;
        }
    }

    fn slot(&self, at: u32) -> Option<&Slot<K, V>> {
        self.slots.get(at as usize)
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(at as usize)
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slot(at) else {
            return;
        };
        let (older, younger) = (slot.older, slot.younger);
        match self.slot_mut(older) {
            Some(slot) => slot.younger = younger,
            None => self.oldest = younger,
        }
        match self.slot_mut(younger) {
            Some(slot) => slot.older = older,
            None => self.youngest = older,
        }
    }

    fn link_youngest(&mut self, at: u32) {
        let older = self.youngest;
        if let Some(slot) = self.slot_mut(at) {
            slot.older = older;
            slot.younger = NONE;
        }
        match self.slot_mut(older) {
            Some(slot) => slot.younger = at,
            None => self.oldest = at,
        }
        self.youngest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn forgets_the_oldest() {
        let mut table = Table::new(Seed(7), 2);
        assert_eq!(table.insert(1, 'a'), None);
        assert_eq!(table.insert(2, 'b'), None);
        table.touch(&1);
        assert_eq!(table.insert(3, 'c'), Some((2, 'b')));
        assert_eq!(table.oldest(), Some((&1, &'a')));
        assert_eq!(table.insert(1, 'd'), None, "same key needs no room");
        assert_eq!(table.pop_oldest(), Some((3, 'c')));
        assert_eq!(table.evicted(), 1);
    }

    proptest! {
        /// Against the obvious implementation: a queue by age.
        #[test]
        fn does_what_a_queue_would(
            seed in any::<u64>(),
            cap in 1_usize..8,
            steps in proptest::collection::vec((0_u8..5, 0_u8..16), 0..200),
        ) {
            let mut table = Table::new(Seed(seed), cap);
            let mut queue: VecDeque<(u8, u8)> = VecDeque::new();
            for (step, key) in steps {
                let held = queue.iter().position(|(k, _)| *k == key);
                match step {
                    0 | 1 => {
                        table.insert(key, step);
                        if let Some(at) = held {
                            queue.remove(at);
                        } else if queue.len() == cap {
                            queue.pop_front();
                        }
                        queue.push_back((key, step));
                    }
                    2 => {
                        prop_assert_eq!(table.remove(&key).is_some(), held.is_some());
                        if let Some(at) = held {
                            queue.remove(at);
                        }
                    }
                    3 => prop_assert_eq!(
                        table.pop_oldest().map(|(k, _)| k), queue.pop_front().map(|(k, _)| k)
                    ),
                    _ => {
                        prop_assert_eq!(table.touch(&key).is_some(), held.is_some());
                        if let Some(entry) = held.and_then(|at| queue.remove(at)) {
                            queue.push_back(entry);
                        }
                    }
                }
                let seen: Vec<_> = table.iter().map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(seen, queue.iter().copied().collect::<Vec<_>>());
                prop_assert!(table.slots.len() <= cap);
            }
        }
    }
}

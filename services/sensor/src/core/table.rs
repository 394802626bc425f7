//! A map with a cap that forgets its oldest entry first.
//!
//! Ordered trees, so that neither lookups nor evictions depend on a random hash seed, and hostile
//! keys can't make it slow.

use std::collections::BTreeMap;

/// At most `entries_max` entries; age is counted from the last [`Table::insert`] or
/// [`Table::touch`].
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    entries_max: usize,
    next_stamp: u64,
}

impl<K: Ord + Copy, V> Table<K, V> {
    /// An empty table; a cap of 0 counts as 1.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_age: BTreeMap::new(),
            entries_max: entries_max.max(1),
            next_stamp: 0,
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// The entry, its age unchanged.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry to change, its age unchanged.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// The entry to change, now the youngest.
    pub fn touch(&mut self, key: &K) -> Option<&mut V> {
        let stamp = self.stamp();
        let (old, value) = self.entries.get_mut(key)?;
        self.by_age.remove(old);
        self.by_age.insert(stamp, *key);
        *old = stamp;
        Some(value)
    }

    /// Puts an entry in as the youngest; the oldest one when it had to make room for another key.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        let evicted = if self.entries.len() >= self.entries_max && !self.contains(&key) {
            self.pop_oldest()
        } else {
            None
        };
        let stamp = self.stamp();
        if let Some((old, _)) = self.entries.insert(key, (stamp, value)) {
            self.by_age.remove(&old);
        }
        self.by_age.insert(stamp, key);
        evicted
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (stamp, value) = self.entries.remove(key)?;
        self.by_age.remove(&stamp);
        Some(value)
    }

    /// The oldest entry.
    #[must_use]
    pub fn oldest(&self) -> Option<(&K, &V)> {
        let key = self.by_age.values().next()?;
        self.get(key).map(|value| (key, value))
    }

    /// Takes the oldest entry out.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.by_age.pop_first()?;
        self.entries.remove(&key).map(|(_, value)| (key, value))
    }

    fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forgets_the_oldest() {
        let mut table = Table::new(2);
        assert_eq!(table.insert(1, 'a'), None);
        assert_eq!(table.insert(2, 'b'), None);
        table.touch(&1);
        assert_eq!(table.insert(3, 'c'), Some((2, 'b')));
        assert_eq!(table.oldest(), Some((&1, &'a')));
        assert_eq!(table.insert(1, 'd'), None, "same key needs no room");
        assert_eq!(table.pop_oldest(), Some((3, 'c')));
    }

    proptest! {
        #[test]
        fn never_more_than_its_cap_and_both_trees_agree(
            cap in 1_usize..8,
            steps in proptest::collection::vec((0_u8..4, 0_u8..16), 0..200),
        ) {
            let mut table = Table::new(cap);
            for (step, key) in steps {
                match step {
                    0 | 1 => drop(table.insert(key, key)),
                    2 => drop(table.remove(&key)),
                    _ => drop(table.touch(&key).copied()),
                }
                prop_assert!(table.len() <= cap);
                prop_assert_eq!(table.entries.len(), table.by_age.len());
                for (stamp, key) in &table.by_age {
                    prop_assert_eq!(table.entries.get(key).map(|e| e.0), Some(*stamp));
                }
            }
        }
    }
}

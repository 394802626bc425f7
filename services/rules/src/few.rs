//! Lists that most owners leave empty or with one entry: no more room than that takes.
//!
//! The detector has several such lists for each flow, a ruleset for each rule. One that becomes empty gives its room back.

use std::ops::{Deref, DerefMut};

/// A list that is mostly empty: one word then, not three.
#[derive(Clone, Debug)]
#[expect(clippy::box_collection, reason = "8 bytes where there is nothing, not 24")]
pub(crate) struct Few<T>(Option<Box<Vec<T>>>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut list: Vec<T>) -> Self {
        list.shrink_to_fit();
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T> Few<T> {
    /// Adds at the end. The first needs room for itself only: few lists get a second.
    pub(crate) fn push(&mut self, value: T) {
        self.0.get_or_insert_with(|| Box::new(Vec::with_capacity(1))).push(value);
    }

    /// Takes out what is at `at`, if there is anything.
    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        let list = self.0.as_mut().filter(|list| at < list.len())?;
        let value = list.remove(at);
        self.let_go();
        Some(value)
    }

    /// Keeps what `is_kept` says.
    pub(crate) fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(is_kept);
            self.let_go();
        }
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// All of it.
    pub(crate) fn as_slice(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    fn let_go(&mut self) {
        if self.as_slice().is_empty() {
            self.0 = None;
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_deref_mut().map_or(&mut [], Vec::as_mut_slice)
    }
}

/// Numbers of bits that are set: rules mostly set one, which needs no room elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) enum Marks {
    #[default]
    None,
    One(u32),
    #[expect(clippy::box_collection, reason = "8 bytes in every flow, not 24")]
    More(Box<Vec<u32>>),
}

impl Marks {
    /// Adds at the end.
    pub(crate) fn push(&mut self, mark: u32) {
        match self {
            Self::None => *self = Self::One(mark),
            Self::One(first) => *self = Self::More(Box::new(vec![*first, mark])),
            Self::More(list) => list.push(mark),
        }
    }

    /// Keeps what `is_kept` says.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&u32) -> bool) {
        match self {
            Self::None => {}
            Self::One(mark) => {
                if !is_kept(mark) {
                    *self = Self::None;
                }
            }
            Self::More(list) => {
                list.retain(is_kept);
                if list.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }
}

impl Deref for Marks {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(mark) => std::slice::from_ref(mark),
            Self::More(list) => list,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Few, Marks};

    #[test]
    fn one_mark_needs_no_room_elsewhere() {
        let mut marks = Marks::default();
        assert_eq!((size_of_val(&marks), marks.len()), (16, 0));
        marks.push(3);
        assert!(matches!(marks, Marks::One(3)) && marks.contains(&3));
        marks.push(5);
        assert_eq!(*marks, [3, 5]);
        marks.retain(|mark| *mark != 3);
        assert_eq!(*marks, [5]);
        marks.retain(|_| false);
        assert!(matches!(marks, Marks::None));
    }

    #[test]
    fn an_empty_list_holds_nothing() {
        let mut list = Few::default();
        assert_eq!((size_of_val(&list), list.len()), (size_of::<usize>(), 0));
        list.push(7_u32);
        list.push(9);
        assert_eq!(list.as_slice(), [7, 9]);
        assert_eq!((list.remove(0), list.remove(5)), (Some(7), None));
        list.retain(|value| *value != 9);
        assert!(list.0.is_none(), "what is empty has no room");
        list.push(1);
        list[0] = 2;
        assert_eq!(*list, [2]);
        list.clear();
        assert!(list.is_empty());
    }
}

//! Many short lists that never change, one behind the other: four bytes for each, not an allocation.

/// Lists by number.
#[derive(Debug)]
pub(crate) struct Lists<T> {
    all: Box<[T]>,
    /// Behind each list.
    ends: Box<[u32]>,
}

impl<T: Copy> Lists<T> {
    /// In their order.
    pub(crate) fn new(lists: &[Vec<T>]) -> Self {
        let all = lists.concat().into_boxed_slice();
        let ends = lists.iter().scan(0, |end, list| {
            *end += list.len();
            // Beyond 4 G entries nothing is found: no ruleset comes near.
            Some(u32::try_from(*end).unwrap_or(0))
        });
        Self { ends: ends.collect(), all }
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them.
    pub(crate) fn get(&self, number: u32) -> Option<&[T]> {
        let end = *self.ends.get(number as usize)?;
        let before = number.checked_sub(1).and_then(|before| self.ends.get(before as usize));
        self.all.get(before.map_or(0, |start| *start as usize)..end as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Lists;

    #[test]
    fn each_list_is_what_it_was() {
        let lists = [vec![1, 2], vec![], vec![3]];
        let all = Lists::new(&lists);
        for (number, list) in (0..).zip(&lists) {
            assert_eq!(all.get(number), Some(list.as_slice()));
        }
        assert_eq!((all.get(3), all.len()), (None, 3));
        assert_eq!(Lists::<u8>::new(&[]).get(0), None);
    }
}

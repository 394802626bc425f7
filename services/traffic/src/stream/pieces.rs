//! The pieces in which bytes came: most streams hold one at a time, which needs no list.

use std::ops::{Deref, Range};

/// A piece of the stream as it came: borders in stream offsets.
pub(super) type Piece = Range<u64>;

/// Pieces in the order that their owner gives them.
#[derive(Debug)]
pub(super) enum Pieces {
    One(Piece),
    More(Vec<Piece>),
}

/// As large as a list alone.
const _: () = assert!(size_of::<Pieces>() == size_of::<Vec<Piece>>());

impl Default for Pieces {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl Pieces {
    /// Puts a piece at `at`, which is at most the end.
    pub(super) fn insert(&mut self, at: usize, piece: Piece) {
        match self {
            Self::More(list) if list.capacity() == 0 => *self = Self::One(piece),
            Self::More(list) => list.insert(at, piece),
            Self::One(first) => {
                let mut list = vec![first.clone()];
                list.insert(at, piece);
                *self = Self::More(list);
            }
        }
    }

    /// Keeps what `is_kept` says.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Piece) -> bool) {
        match self {
            Self::One(piece) if is_kept(piece) => {}
            Self::One(_) => *self = Self::default(),
            Self::More(list) => list.retain(is_kept),
        }
    }

    /// Empties it, and keeps room for at most `most` pieces.
    pub(super) fn clear(&mut self, most: usize) {
        match self {
            Self::One(_) => *self = Self::default(),
            Self::More(list) => {
                list.clear();
                list.shrink_to(most);
            }
        }
    }
}

impl Deref for Pieces {
    type Target = [Piece];

    fn deref(&self) -> &[Piece] {
        match self {
            Self::One(piece) => std::slice::from_ref(piece),
            Self::More(list) => list,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pieces;

    #[test]
    fn one_piece_needs_no_list_and_more_keep_their_order() {
        let mut pieces = Pieces::default();
        pieces.insert(0, 5..9);
        assert!(matches!(pieces, Pieces::One(_)) && pieces.len() == 1);
        pieces.insert(0, 1..5);
        pieces.insert(2, 9..12);
        assert_eq!(*pieces, [1..5, 5..9, 9..12]);
        pieces.retain(|piece| piece.end > 9);
        assert_eq!((pieces.len(), pieces.first()), (1, Some(&(9..12))));
        pieces.clear(0);
        assert!(pieces.is_empty());
        pieces.insert(0, 1..2);
        pieces.retain(|_| false);
        assert!(pieces.is_empty());
    }
}

//! The Merkle tree over block hashes (RFC 6962 section 2.1), kept as its frontier.
//!
//! Only the roots of the complete subtrees are held, at most 64 hashes, largest subtree first:
//! enough to append and to compute the tree head, not enough for inclusion proofs, which are made
//! from the blocks. Pure; called by [`crate::chain`] and [`crate::verify`].

use hookprobe_wire::Hash;
use sha2::{Digest, Sha256};

/// The complete subtrees of a tree with `length` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    length: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// From stored parts; `None` when they can't belong together.
    #[must_use]
    pub fn from_parts(length: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == length.count_ones() as usize).then_some(Self { length, peaks })
    }

    /// Leaves.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Roots of the complete subtrees, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds the next block.
    pub fn push(&mut self, block: &Hash) {
        let mut hash = leaf(block);
        let mut left = self.length;
        while left & 1 == 1 {
            // A set bit of the length is a peak; from_parts and push keep it so.
            let Some(peak) = self.peaks.pop() else { break };
            hash = node(&peak, &hash);
            left >>= 1;
        }
        self.peaks.push(hash);
        self.length += 1;
    }

    /// The tree head; SHA-256 of nothing for an empty tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Hash::new(Sha256::digest([]).into());
        };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

fn leaf(block: &Hash) -> Hash {
    Hash::new(Sha256::new().chain_update([0]).chain_update(block.as_bytes()).finalize().into())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::new(
        Sha256::new()
            .chain_update([1])
            .chain_update(left.as_bytes())
            .chain_update(right.as_bytes())
            .finalize()
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MTH exactly as RFC 6962 section 2.1 writes it.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::new(Sha256::digest([]).into()),
            [one] => leaf(one),
            many => {
                let split = many.len().next_power_of_two() / 2;
                node(&by_definition(&many[..split]), &by_definition(&many[split..]))
            }
        }
    }

    fn hashes(count: usize) -> Vec<Hash> {
        (0..count).map(|index| Hash::new(Sha256::digest(index.to_le_bytes()).into())).collect()
    }

    #[test]
    fn every_length_to_130_equals_the_definition() {
        let leaves = hashes(130);
        let mut tree = Frontier::default();
        for length in 0..=130 {
            assert_eq!(tree.root(), by_definition(&leaves[..length]), "{length}");
            assert_eq!(tree.peaks().len(), length.count_ones() as usize);
            if let Some(next) = leaves.get(length) {
                tree.push(next);
            }
        }
    }

    #[test]
    fn empty_root_is_the_one_of_rfc_6962() {
        assert_eq!(
            Frontier::default().root().hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    proptest! {
        #[test]
        fn any_changed_leaf_changes_the_root(length in 1usize..70, at in 0usize..70, bit in 0usize..256) {
            let at = at % length;
            let leaves = hashes(length);
            let mut changed = leaves.clone();
            let mut bytes = *changed[at].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            changed[at] = Hash::new(bytes);
            let root = |leaves: &[Hash]| {
                let mut tree = Frontier::default();
                leaves.iter().for_each(|leaf| tree.push(leaf));
                tree.root()
            };
            prop_assert_ne!(root(&leaves), root(&changed));
        }

        #[test]
        fn parts_round_trip(length in 0usize..70) {
            let mut tree = Frontier::default();
            hashes(length).iter().for_each(|leaf| tree.push(leaf));
            let again = Frontier::from_parts(tree.length(), tree.peaks().to_vec());
            prop_assert_eq!(again, Some(tree.clone()));
            prop_assert_eq!(Frontier::from_parts(tree.length() + 1, tree.peaks().to_vec()).is_some(),
                (length + 1).count_ones() == length.count_ones());
        }
    }
}

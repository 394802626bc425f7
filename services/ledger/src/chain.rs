//! The state of the chain and how the next block header follows from it.
//!
//! Pure: time and salt come as arguments, signatures are made elsewhere ([`crate::writer`]), since
//! a block's hash, and so the chain, does not depend on them. Shapes: [`hookprobe_wire::block`].

use hookprobe_wire::{
    EventType, Hash, NodeId, Seq,
    block::{BLOCK_VERSION, Header},
};

use crate::merkle::Frontier;

/// Which key signs from which block on; see the crate documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Number; grows with every key, gaps are allowed.
    pub number: u64,
    /// The key.
    pub node: NodeId,
    /// First block that it may sign.
    pub first: Seq,
}

/// Everything that the next block depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// Hash of the last block, zero when there is none.
    pub hash: Hash,
    /// Its time, nanoseconds since 1970; 0 when there is none.
    pub timestamp_ns: u64,
    /// The tree over all blocks; its length is the next seq.
    pub tree: Frontier,
}

impl Tip {
    /// Of a chain without blocks.
    #[must_use]
    pub fn empty() -> Self {
        Self { hash: Hash::zero(), timestamp_ns: 0, tree: Frontier::default() }
    }

    /// Place of the next block.
    #[must_use]
    pub fn next(&self) -> Seq {
        Seq(self.tree.length())
    }

    /// Moves on to `header`, whose hash is `hash`. The caller made or checked both.
    pub fn push(&mut self, header: &Header, hash: Hash) {
        self.tree.push(&hash);
        self.hash = hash;
        self.timestamp_ns = header.timestamp_ns;
    }
}

/// The chain as its writer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Who signs now.
    pub epoch: Epoch,
    /// Where it stands.
    pub tip: Tip,
}

impl Lane {
    /// The header of the next block and its hash; the lane moves on to it.
    ///
    /// A clock that went back does not take the chain with it: the time of the block before is
    /// used until the clock has caught up.
    pub fn append(&mut self, now_ns: u64, kind: EventType, payload_hash: Hash) -> (Header, Hash) {
        let header = Header {
            version: BLOCK_VERSION,
            node_identity: self.epoch.node,
            epoch: self.epoch.number,
            seq: self.tip.next(),
            prev_hash: self.tip.hash,
            timestamp_ns: now_ns.max(self.tip.timestamp_ns),
            event_type: kind,
            payload_hash,
        };
        let hash = header.hash();
        self.tip.push(&header, hash);
        (header, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_links_hold() {
        let mut lane = Lane {
            epoch: Epoch { number: 3, node: NodeId::new([7; 32]), first: Seq(0) },
            tip: Tip::empty(),
        };
        let (first, first_hash) = lane.append(1_000, EventType::Boot, Hash::zero());
        let (second, _) = lane.append(10, EventType::Alert, Hash::zero());
        assert_eq!((first.seq, first.prev_hash, first.timestamp_ns), (Seq(0), Hash::zero(), 1_000));
        assert_eq!(
            (second.seq, second.prev_hash, second.timestamp_ns),
            (Seq(1), first_hash, 1_000)
        );
        assert_eq!(lane.tip.next(), Seq(2));
    }
}

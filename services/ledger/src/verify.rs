//! Full verification of a chain, block by block, in constant memory.
//!
//! Pure: records go in, the first flaw or a summary comes out. Called at every start, by
//! `hookprobe-ledger verify`, and by whoever received records from elsewhere.

use ed25519_dalek::{Signature, VerifyingKey};
use hookprobe_wire::{
    Hash, NodeId, Seq,
    block::{BLOCK_VERSION, Block, payload_hash},
    ledger::{PAYLOAD_BYTES_MAX, Record},
};
use thiserror::Error;

use crate::chain::{Epoch, Tip};

/// Signatures that a block carries: the edge's own. Cosignatures come with the consensus that
/// says whose count.
const SIGNATURES: usize = 1;

/// The first thing that is wrong with a chain.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("block {seq}: {flaw}")]
pub struct Flawed {
    /// At which block (for the tree root and the length: the first that does not exist).
    pub seq: Seq,
    /// What.
    pub flaw: Flaw,
}

/// What can be wrong with a block.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    /// Another version.
    #[error("version is {0}, expected {BLOCK_VERSION}")]
    Version(u8),
    /// Not its turn.
    #[error("seq is {0}")]
    Seq(Seq),
    /// No row of the epochs table covers it.
    #[error("no epoch covers it")]
    NoEpoch,
    /// Rows of the epochs table are out of order.
    #[error("epochs {before} and {after} are out of order")]
    EpochOrder {
        /// Number of the earlier row.
        before: u64,
        /// Number of the later row.
        after: u64,
    },
    /// Signed in another epoch than it stands in.
    #[error("epoch is {got}, expected {expected}")]
    Epoch {
        /// In the header.
        got: u64,
        /// In the table.
        expected: u64,
    },
    /// Another node's.
    #[error("node is {got}, expected {expected}")]
    Node {
        /// In the header.
        got: NodeId,
        /// In the table.
        expected: NodeId,
    },
    /// Does not follow the block before.
    #[error("previous hash is {got}, the block before has {expected}")]
    Link {
        /// In the header.
        got: Hash,
        /// Of the block before.
        expected: Hash,
    },
    /// Older than the block before.
    #[error("time is {got} ns, the block before has {before} ns")]
    Time {
        /// In the header.
        got: u64,
        /// Of the block before.
        before: u64,
    },
    /// The recorded hash is not the header's.
    #[error("recorded hash is {got}, the header has {expected}")]
    Hash {
        /// Recorded.
        got: Hash,
        /// Computed.
        expected: Hash,
    },
    /// Too many or too few signatures.
    #[error("{0} signatures, expected {SIGNATURES}")]
    SignatureCount(usize),
    /// The first signature is somebody else's.
    #[error("signed by {0}, which is not its node")]
    Signer(NodeId),
    /// The signature does not verify.
    #[error("signature of {0} does not verify")]
    Signature(NodeId),
    /// The payload is longer than allowed.
    #[error("payload has {0} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")]
    PayloadLength(usize),
    /// The payload is not the one committed to.
    #[error("payload commitment is {got}, the header has {expected}")]
    Payload {
        /// Of the payload.
        got: Hash,
        /// In the header.
        expected: Hash,
    },
    /// The payload is no event of the kind that the header names.
    #[error("payload is no event of kind {0}")]
    Kind(&'static str),
    /// Blocks are missing at the end, or there are too many.
    #[error("the chain has {got} blocks, its state says {expected}")]
    Length {
        /// Found.
        got: u64,
        /// Recorded.
        expected: u64,
    },
    /// The tree is another.
    #[error("tree root is {got}, its state says {expected}")]
    Root {
        /// Computed.
        got: Hash,
        /// Recorded.
        expected: Hash,
    },
    /// The chain is behind or beside what the witness saw.
    #[error("hash is {got}, it was {expected} when it was acknowledged")]
    Witness {
        /// Found.
        got: Hash,
        /// Recorded.
        expected: Hash,
    },
}

/// A chain that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Where it ends.
    pub tip: Tip,
    /// Blocks whose payload is not there.
    pub payloads_missing: u64,
}

/// Verifies one record after the other.
#[derive(Debug)]
pub struct Verifier<'a> {
    epochs: &'a [Epoch],
    current: Option<Epoch>,
    key: Option<VerifyingKey>,
    tip: Tip,
    payloads_missing: u64,
}

impl<'a> Verifier<'a> {
    /// For a chain that begins at seq 0 and was signed as `epochs` says.
    ///
    /// # Errors
    /// [`Flaw::EpochOrder`].
    pub fn new(epochs: &'a [Epoch]) -> Result<Self, Flawed> {
        for pair in epochs.windows(2) {
            if let [before, after] = pair
                && (before.number >= after.number || before.first > after.first)
            {
                return Err(Flawed {
                    seq: after.first,
                    flaw: Flaw::EpochOrder { before: before.number, after: after.number },
                });
            }
        }
        Ok(Self { epochs, current: None, key: None, tip: Tip::empty(), payloads_missing: 0 })
    }

    /// Where the chain stands.
    #[must_use]
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Checks the next record.
    ///
    /// # Errors
    /// The first [`Flaw`] found in it; the verifier is of no use afterwards.
    pub fn push(&mut self, record: &Record) -> Result<(), Flawed> {
        let seq = self.tip.next();
        self.check(record, seq).map_err(|flaw| Flawed { seq, flaw })?;
        self.tip.push(&record.block.header, record.hash);
        self.payloads_missing += u64::from(record.payload.is_none());
        Ok(())
    }

    fn check(&mut self, record: &Record, seq: Seq) -> Result<(), Flaw> {
        let header = &record.block.header;
        if header.version != BLOCK_VERSION {
            return Err(Flaw::Version(header.version));
        }
        if header.seq != seq {
            return Err(Flaw::Seq(header.seq));
        }
        while let Some((next, rest)) = self.epochs.split_first()
            && next.first <= seq
        {
            self.current = Some(*next);
            self.key = VerifyingKey::from_bytes(next.node.as_bytes()).ok();
            self.epochs = rest;
        }
        let epoch = self.current.ok_or(Flaw::NoEpoch)?;
        if header.epoch != epoch.number {
            return Err(Flaw::Epoch { got: header.epoch, expected: epoch.number });
        }
        if header.node_identity != epoch.node {
            return Err(Flaw::Node { got: header.node_identity, expected: epoch.node });
        }
        if header.prev_hash != self.tip.hash {
            return Err(Flaw::Link { got: header.prev_hash, expected: self.tip.hash });
        }
        if header.timestamp_ns < self.tip.timestamp_ns {
            return Err(Flaw::Time { got: header.timestamp_ns, before: self.tip.timestamp_ns });
        }
        let expected = header.hash();
        if record.hash != expected {
            return Err(Flaw::Hash { got: record.hash, expected });
        }
        self.check_signature(&record.block, epoch.node)?;
        check_payload(record)
    }

    fn check_signature(&self, block: &Block, node: NodeId) -> Result<(), Flaw> {
        let [signature] = block.signatures.as_slice() else {
            return Err(Flaw::SignatureCount(block.signatures.len()));
        };
        if signature.signer != node {
            return Err(Flaw::Signer(signature.signer));
        }
        let bytes = Signature::from_bytes(&signature.bytes);
        self.key
            .as_ref()
            .and_then(|key| key.verify_strict(&block.header.signing_bytes(), &bytes).ok())
            .ok_or(Flaw::Signature(node))
    }

    /// The chain ends here; with `expected`, its length and root have to be the recorded ones.
    ///
    /// # Errors
    /// [`Flaw::Length`], [`Flaw::Root`].
    pub fn finish(self, expected: Option<(u64, Hash)>) -> Result<Verified, Flawed> {
        let seq = self.tip.next();
        if let Some((length, root)) = expected {
            if seq.0 != length {
                return Err(Flawed { seq, flaw: Flaw::Length { got: seq.0, expected: length } });
            }
            let got = self.tip.tree.root();
            if got != root {
                return Err(Flawed { seq, flaw: Flaw::Root { got, expected: root } });
            }
        }
        Ok(Verified { tip: self.tip, payloads_missing: self.payloads_missing })
    }
}

fn check_payload(record: &Record) -> Result<(), Flaw> {
    let header = &record.block.header;
    let Some(payload) = &record.payload else {
        return Ok(());
    };
    if payload.bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Flaw::PayloadLength(payload.bytes.len()));
    }
    let got = payload_hash(&payload.salt, &payload.bytes);
    if got != header.payload_hash {
        return Err(Flaw::Payload { got, expected: header.payload_hash });
    }
    match record.event() {
        Some(_) => Ok(()),
        None => Err(Flaw::Kind(header.event_type.word())),
    }
}

/// Verifies a whole chain.
///
/// # Errors
/// The first flaw.
pub fn verify<'r>(
    epochs: &[Epoch],
    records: impl IntoIterator<Item = &'r Record>,
    expected: Option<(u64, Hash)>,
) -> Result<Verified, Flawed> {
    let mut verifier = Verifier::new(epochs)?;
    for record in records {
        verifier.push(record)?;
    }
    verifier.finish(expected)
}

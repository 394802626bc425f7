//! Where blocks are kept, behind a seam where the simulation injects crashes and faults.
//!
//! [`Store`] says what the rest needs; [`database::Database`] is the only one, over redb, and takes
//! any redb storage backend: a file, bounded memory, or a simulated disk. Recoverable trouble
//! ([`StoreError::Full`], [`StoreError::Io`]) and damage ([`StoreError::Damaged`]) are never mixed
//! up: the first is tried again, the second stops the process, and [`open`] sets the file aside.

use std::{fmt::Debug, sync::Arc};

use hookprobe_wire::{Hash, NodeId, Seq, ledger::Record, ledger::RequestId};
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::{
    chain::{Epoch, Lane, Tip},
    epoch::Mark,
    merkle::Frontier,
    verify::{Flawed, Verified, Verifier},
};

pub mod database;
pub mod guard;
pub mod memory;
pub mod open;
pub mod overlay;
pub mod rows;
pub mod witness;

/// Version of the tables and of [`State`].
pub const FORMAT: u64 = 1;
/// Blocks that are read at once: bounds memory while verifying and streaming.
pub const CHUNK_BLOCKS_MAX: usize = 128;
/// Payload bytes after which a chunk ends, at least one block.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Why the store did not do it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// No space; passes when there is space again.
    #[error("disk full")]
    Full,
    /// The disk failed; may pass.
    #[error("input or output failed: {0}")]
    Io(String),
    /// Another process has it open.
    #[error("open in another process")]
    Busy,
    /// Made by a newer version of this program.
    #[error("format {0}, this version knows {FORMAT}")]
    Newer(u64),
    /// What is stored can't be right.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl From<Flawed> for StoreError {
    fn from(flawed: Flawed) -> Self {
        Self::Damaged(flawed.to_string())
    }
}

/// The row that is written with every batch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct State {
    /// [`FORMAT`].
    #[n(0)]
    pub format: u64,
    /// Current epoch.
    #[n(1)]
    pub epoch: u64,
    /// Who signs in it.
    #[n(2)]
    pub node: NodeId,
    /// Its first block.
    #[n(3)]
    pub first: Seq,
    /// Blocks in the chain.
    #[n(4)]
    pub length: u64,
    /// Hash of the last.
    #[n(5)]
    pub hash: Hash,
    /// Time of the last, nanoseconds since 1970.
    #[n(6)]
    pub timestamp_ns: u64,
    /// Frontier of the tree.
    #[n(7)]
    pub peaks: Vec<Hash>,
}

impl State {
    /// Of a chain.
    #[must_use]
    pub fn of(lane: &Lane) -> Self {
        Self {
            format: FORMAT,
            epoch: lane.epoch.number,
            node: lane.epoch.node,
            first: lane.epoch.first,
            length: lane.tip.next().0,
            hash: lane.tip.hash,
            timestamp_ns: lane.tip.timestamp_ns,
            peaks: lane.tip.tree.peaks().to_vec(),
        }
    }

    /// The chain.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the parts don't fit together.
    pub fn lane(&self) -> Result<Lane, StoreError> {
        let tree = Frontier::from_parts(self.length, self.peaks.clone()).ok_or_else(|| {
            StoreError::Damaged(format!(
                "state: {} peaks for {} blocks",
                self.peaks.len(),
                self.length
            ))
        })?;
        Ok(Lane {
            epoch: Epoch { number: self.epoch, node: self.node, first: self.first },
            tip: Tip { hash: self.hash, timestamp_ns: self.timestamp_ns, tree },
        })
    }
}

/// A signed block on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// With payload.
    pub record: Record,
    /// Name of the append.
    pub id: RequestId,
}

/// Keeps blocks. Every write is all or nothing and on disk when the call returns.
pub trait Store: Debug + Send + Sync {
    /// The row of the last write; none in a new store.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn state(&self) -> Result<Option<State>, StoreError>;

    /// All epochs, oldest first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn epochs(&self) -> Result<Vec<Epoch>, StoreError>;

    /// Numbers of epochs with their marks, oldest first; none of epochs from before there were
    /// marks.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn marks(&self) -> Result<Vec<(u64, Mark)>, StoreError>;

    /// Names of the last appends with their places, oldest first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn requests(&self) -> Result<Vec<(RequestId, Seq, Hash)>, StoreError>;

    /// Records from `from` on, none when it is behind the head; at most [`CHUNK_BLOCKS_MAX`] and
    /// about [`CHUNK_BYTES_MAX`].
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn read(&self, from: Seq) -> Result<Vec<Record>, StoreError>;

    /// Begins the epoch that `lane` is in, at `mark`.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing was written then, or its fate is open until [`Self::reopen`].
    fn begin_epoch(&self, lane: &Lane, mark: &Mark) -> Result<(), StoreError>;

    /// Writes blocks, their request ids and the chain after them.
    ///
    /// # Errors
    /// As [`Self::begin_epoch`].
    fn commit(&self, entries: &[Entry], after: &Lane) -> Result<(), StoreError>;

    /// Closes and opens again what a failed write left unusable.
    ///
    /// # Errors
    /// Any [`StoreError`]; everything else fails until it succeeds.
    fn reopen(&self) -> Result<(), StoreError>;
}

/// A store for all threads.
pub type Shared = Arc<dyn Store>;

/// What the witness saw last: block `length - 1` had this hash.
pub type Seen = Option<(u64, Hash)>;

/// Reads and verifies everything in `store`, in constant memory. `progress` is told how many
/// blocks of how many are done.
///
/// # Errors
/// [`StoreError::Damaged`] names the first block that is wrong.
pub fn verify_all(
    store: &dyn Store,
    seen: Seen,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Option<State>, Verified), StoreError> {
    verify_each(store, seen, &mut |_| {}, progress)
}

/// As [`verify_all`]; `visit` sees every record after it has been verified.
///
/// # Errors
/// As [`verify_all`].
pub fn verify_each(
    store: &dyn Store,
    seen: Seen,
    visit: &mut dyn FnMut(&Record),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Option<State>, Verified), StoreError> {
    let state = store.state()?;
    let epochs = store.epochs()?;
    let mut verifier = Verifier::new(&epochs)?;
    let length = state.as_ref().map_or(0, |state| state.length);
    loop {
        let next = verifier.tip().next();
        let chunk = store.read(next)?;
        if chunk.is_empty() {
            break;
        }
        for record in &chunk {
            verifier.push(record)?;
            let done = verifier.tip().next().0;
            if let Some((seen_length, expected)) = seen
                && done == seen_length
                && record.hash != expected
            {
                return Err(StoreError::Damaged(format!(
                    "block {}: hash is {}, it was {expected} when it was acknowledged",
                    record.block.header.seq, record.hash
                )));
            }
            visit(record);
        }
        progress(verifier.tip().next().0, length);
    }
    let lane = state.as_ref().map(State::lane).transpose()?;
    let verified = verifier.finish(lane.as_ref().map(|lane| (length, lane.tip.tree.root())))?;
    check_state(lane.as_ref(), &epochs, &verified)?;
    match seen {
        Some((expected, _)) if verified.tip.next().0 < expected => {
            Err(StoreError::Damaged(format!(
                "the chain has {} blocks, {expected} had been acknowledged",
                verified.tip.next()
            )))
        }
        Some(_) | None => Ok((state, verified)),
    }
}

fn check_state(
    lane: Option<&Lane>,
    epochs: &[Epoch],
    verified: &Verified,
) -> Result<(), StoreError> {
    match lane {
        None if epochs.is_empty() && verified.tip == Tip::empty() => Ok(()),
        Some(lane) if epochs.last() == Some(&lane.epoch) && verified.tip == lane.tip => Ok(()),
        Some(_) | None => {
            Err(StoreError::Damaged("state: the row does not fit the blocks and epochs".into()))
        }
    }
}

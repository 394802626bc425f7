//! Signs and writes batches, one at a time, and finds out what became of one that failed.
//!
//! Runs on its own thread, because it waits for the disk; holds the signing key, because nobody
//! else needs it. Called by [`crate::serve`]'s thread and, step by step, by the simulation.

use hookprobe_wire::{
    Block,
    ledger::{Payload, Record},
};

use crate::{
    appender::{Batch, Cause},
    chain::Tip,
    key::LedgerKey,
    store::{
        Entry, Shared, State, StoreError,
        witness::{Seen, Witness},
    },
};

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// On disk.
    Committed,
    /// Not on disk, and the store works.
    NotWritten(Cause, String),
    /// Unknown; ask [`Writer::recover`] later.
    Down(Cause, String),
    /// What is stored can't be right: the process has to stop.
    Damaged(String),
}

/// Owner of the key and of all writes.
#[derive(Debug)]
pub struct Writer {
    store: Shared,
    key: LedgerKey,
    witness: Option<Witness>,
    open_fate: Option<(Tip, Batch)>,
    tip: Tip,
}

impl Writer {
    /// For a chain that stands at `tip`.
    #[must_use]
    pub fn new(store: Shared, key: LedgerKey, witness: Option<Witness>, tip: Tip) -> Self {
        Self { store, key, witness, open_fate: None, tip }
    }

    /// Signs and writes a batch.
    pub fn commit(&mut self, batch: Batch) -> Outcome {
        let span = tracing::debug_span!("ledger.commit", blocks = batch.drafts.len());
        let _entered = span.enter();
        let entries: Vec<Entry> = batch.drafts.iter().map(|draft| self.sign(draft)).collect();
        match self.store.commit(&entries, &batch.after) {
            Ok(()) => {
                self.landed(&batch);
                Outcome::Committed
            }
            Err(error) => {
                self.open_fate = Some((self.tip.clone(), batch));
                self.settle(error)
            }
        }
    }

    /// Opens the store again and finds out about the batch whose fate is open.
    pub fn recover(&mut self) -> Outcome {
        self.settle(StoreError::Io("the store was closed".into()))
    }

    fn sign(&self, draft: &crate::appender::Draft) -> Entry {
        Entry {
            record: Record {
                hash: draft.hash,
                block: Block {
                    header: draft.header.clone(),
                    signatures: vec![self.key.sign(&draft.header)],
                },
                payload: Some(Payload {
                    salt: draft.salt.into(),
                    bytes: draft.payload.clone().into(),
                }),
            },
            id: draft.id,
        }
    }

    /// After a write that failed with `error`: what is on disk decides.
    fn settle(&mut self, error: StoreError) -> Outcome {
        if let StoreError::Damaged(why) = error {
            return Outcome::Damaged(why);
        }
        let why = error.to_string();
        let state = self.store.reopen().and_then(|()| self.store.state());
        let state = match state {
            Ok(state) => state,
            Err(StoreError::Damaged(why)) => return Outcome::Damaged(why),
            Err(later) => return Outcome::Down(cause(&later), format!("{why}; then {later}")),
        };
        let Some((before, batch)) = self.open_fate.take() else {
            return Outcome::NotWritten(cause(&error), why);
        };
        let length = state.as_ref().map_or(0, |state| state.length);
        if state.as_ref() == Some(&State::of(&batch.after)) {
            self.landed(&batch);
            Outcome::Committed
        } else if length == before.next().0 {
            Outcome::NotWritten(cause(&error), why)
        } else {
            Outcome::Damaged(format!(
                "{length} blocks after a failed write, expected {} or {}",
                before.next(),
                batch.after.tip.next()
            ))
        }
    }

    fn landed(&mut self, batch: &Batch) {
        self.tip = batch.after.tip.clone();
        let Some(witness) = &mut self.witness else {
            return;
        };
        let seen = Seen {
            epoch: batch.after.epoch.number,
            length: self.tip.next().0,
            hash: self.tip.hash,
        };
        if let Err(error) = witness.note(&seen, false) {
            tracing::warn!(%error, "witness not written, a database that goes back may go unnoticed");
            self.witness = None;
        }
    }
}

fn cause(error: &StoreError) -> Cause {
    match error {
        StoreError::Full => Cause::Full,
        _ => Cause::Error,
    }
}

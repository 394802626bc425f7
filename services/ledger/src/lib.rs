//! The ledger: what happened, who says so, in an order that can't be changed unnoticed.
//!
//! One process appends events of the other services to a chain of signed blocks, keeps them in one
//! redb file, and streams them to whoever asks. It is the only crate that imports redb.
//!
//! ```text
//! socket -> serve::session -> serve (hub) -> Appender (pure) -> Writer thread -> Store (redb)
//!                   ^                                             signs, commits, fsyncs |
//!                   '------------- answers only after the commit ------------------------'
//! ```
//!
//! # What must never happen here
//! - An append is answered with `Appended` before its block is on disk.
//! - The same request id gives two blocks, also over a crash and a restart.
//! - A damaged file is deleted, repaired by guessing, or trusted.
//! - A disk error ends in a panic, or damage in a loop of restarts.
//! - The pure modules ([`merkle`], [`chain`], [`verify`], [`appender`], [`store::rows`]) read a
//!   clock, draw randomness or do I/O.
//!
//! # Epochs: one chain over many keys
//! The signing key lives in `/run` and dies with the boot, so every boot has a new node id. The
//! chain does not: `seq` counts on, `prev_hash` links across the change, the Merkle tree covers
//! all blocks, and so a follower's cursor stays good for ever. What changes is the *epoch*: a row
//! `(epoch, node, first seq)` in the table `epochs`, written before the first block of that key.
//! A block is valid when its header names the epoch and node of the last row whose first seq is
//! not behind it. Only the first block of a database has a zero `prev_hash`.
//!
//! What that proves, and what not: nobody changes, reorders or removes a block inside the chain
//! without breaking a hash or a signature. Somebody who can write the file *and* knows the
//! current key can still cut the tail and write another; and a row in `epochs` is as good as the
//! file, because nothing outside vouches for a key yet. Sealing the seed in the TPM, certifying
//! each key and taking the epoch number from an NV counter closes that; peers close the rest.
//!
//! # Files in the state directory
//! | file | what |
//! |---|---|
//! | `ledger.redb` | blocks, payloads, request ids, epochs, state |
//! | `ledger.redb.new` | a database that is being made; left over only by a kill, made anew |
//! | `ledger.witness` | epoch, length and head of the last commit: notices a file that went back |
//! | `ledger.redb.damaged-N` | a database that did not verify, set aside; at most three |
//! | `ledger.suspect` | the process stopped inside the database; it is set aside at the next start |

pub mod appender;
pub mod bench;
pub mod chain;
pub mod client;
pub mod code;
pub mod key;
pub mod log;
pub mod merkle;
pub mod offline;
pub mod serve;
pub mod store;
pub mod verify;
pub mod writer;

pub use appender::Appender;
pub use chain::{Epoch, Lane};
pub use key::LedgerKey;
pub use store::{Store, StoreError};
pub use writer::Writer;

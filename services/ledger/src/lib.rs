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
//! - A seed is printed, kept or left in memory that is not wiped.
//! - The pure modules ([`merkle`], [`chain`], [`epoch`], [`verify`], [`appender`], [`store::rows`])
//!   read a clock, draw randomness or do I/O.
//!
//! # Epochs: one chain over many keys and boots
//! The signing key comes from `attest`, which unseals it with the TPM ([`attest`](mod@attest)); where
//! there is no TPM, or no seed in time, it is drawn for this boot. The chain outlives keys and
//! boots: `seq` counts on, `prev_hash` links across the change, the Merkle tree covers all blocks,
//! and so a follower's cursor stays good for ever. What changes is the *epoch*: a row `(epoch, node,
//! first seq)` in the table `epochs`, written before the first block of that key in that boot. Its
//! number is the TPM's boot counter where that is free ([`epoch`](mod@epoch)). A block is valid when
//! its header names the epoch and node of the last row whose first seq is not behind it. Only the
//! first block of a database has a zero `prev_hash`.
//!
//! What that proves, and what not: nobody changes, reorders or removes a block inside the chain
//! without breaking a hash or a signature, and nobody without the box's TPM in an intact state has
//! the key. `Event::Binding` in each epoch is the TPM's own word for that key and that boot; a
//! verifier outside checks it. A database or a TPM that was put back to an earlier state shows in
//! the counter at the next boot. What does not show here is a tail that was cut and written anew
//! *by the running service's own key*, which takes an attacker inside it; peers close that.
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
pub mod attest;
pub mod bench;
pub mod chain;
pub mod client;
pub mod code;
pub mod epoch;
pub mod key;
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

//! Owns the TPM once the box runs, and opens the state volume before.
//!
//! ```text
//! clients, port --Request--> serve --Input--> core --Effect--> serve --> ledger, PID 1, clients
//!                                              |  ^
//!                                          Job v  | Done
//!                                worker (thread) --> attester --> hookprobe-tpm
//! ```
//!
//! [`core`] decides and is pure; [`attester`] carries out jobs on the TPM; [`worker`] is the thread
//! around it; [`serve`] owns sockets, clocks and signals. [`unlock`] is another program in the same
//! binary: PID 1 runs it once, before any service.
//!
//! What must never happen here: the ledger's seed outside this process for anybody but the measured
//! ledger; a good word about the box that a verifier with its release key would not give; a TPM that
//! hangs and takes the service with it.

pub mod anchors;
pub mod attester;
pub mod code;
pub mod core;
pub mod host;
pub mod identity;
pub mod job;
pub mod open;
pub mod serve;
pub mod store;
pub mod unlock;
pub mod worker;

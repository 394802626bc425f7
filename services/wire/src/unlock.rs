//! What the helper that opens the state volume tells PID 1, and what PID 1 gives it: two small files
//! in a directory in memory that only both of them can use.
//!
//! PID 1 runs `hookprobe-attest unlock` once, before any service, and reads [`OUTCOME_FILE`] when it
//! has ended. One CBOR value, at most [`OUTCOME_BYTES_MAX`] bytes, hostile like any other input.

use minicbor::{Decode, Encode};

use crate::block::Hash;

/// Directory in memory, 0700, owned by [`crate::ATTEST_UID`].
pub const DIRECTORY: &str = "/run/hookprobe/unlock";
/// Written by the helper: one [`Outcome`].
pub const OUTCOME_FILE: &str = "/run/hookprobe/unlock/outcome";
/// Written by PID 1 when an operator typed a recovery key; the helper reads and removes it.
pub const RECOVERY_FILE: &str = "/run/hookprobe/unlock/recovery";
/// Written by the helper when it made a recovery key; `attest` reads and removes it.
pub const FRESH_RECOVERY_FILE: &str = "/run/hookprobe/unlock/fresh-recovery";
/// Link to the state partition that PID 1 found; handed over to the helper as a device.
pub const STATE_LINK: &str = "/run/hookprobe/unlock/state";
/// Name of the opened volume below `/dev/mapper`.
pub const MAPPED: &str = "hookprobe-state";
/// Longest outcome that is read.
pub const OUTCOME_BYTES_MAX: usize = 4096;
/// Longest line that is taken as a recovery key.
pub const RECOVERY_BYTES_MAX: usize = 128;

/// What became of the state volume.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It is open below `/dev/mapper`, with a file system on it.
    #[n(0)]
    Open {
        /// UUID of the LUKS header, as text.
        #[n(0)]
        uuid: String,
        /// HMAC-SHA-256 of the volume key over the UUID: goes into PCR 15 before the volume is used.
        #[n(1)]
        key_identity: Hash,
        /// It was made by this call.
        #[n(2)]
        created: bool,
        /// It was opened by the recovery key.
        #[n(3)]
        recovered: bool,
        /// It was sealed anew: to this TPM, or to a newer generation.
        #[n(4)]
        resealed: bool,
        /// What the operator has to be told although it is open: `HP-XX-nnn object: cause; remedy`.
        #[n(5)]
        note: Option<String>,
    },
    /// The partition is used without encryption because the box has no TPM.
    #[n(1)]
    Plain {
        /// It was made by this call.
        #[n(0)]
        created: bool,
    },
    /// It can't be used.
    #[n(2)]
    Locked {
        /// `HP-XX-nnn object: cause; remedy`.
        #[n(0)]
        reason: String,
        /// A recovery key opens it.
        #[n(1)]
        recoverable: bool,
    },
}

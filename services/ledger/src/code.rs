//! Stable codes of everything the ledger tells an operator, in one place so that none is reused.

use hookprobe_wire::{Diagnostic, Severity};

/// A uid asked for what it may not.
pub const NOT_ALLOWED: &str = "HP-LD-010";
/// The payload is larger than a block takes.
pub const PAYLOAD_TOO_LARGE: &str = "HP-LD-011";
/// Too many appends wait.
pub const QUEUE_FULL: &str = hookprobe_wire::ledger::QUEUE_FULL_CODE;
/// A reader asks for a block behind the head.
pub const BEYOND_HEAD: &str = "HP-LD-013";
/// Too many connections.
pub const CONNECTIONS: &str = "HP-LD-014";
/// Nothing, or half a frame, came for too long.
pub const IDLE: &str = hookprobe_wire::ledger::IDLE_CODE;
/// The ledger is stopping.
pub const STOPPING: &str = "HP-LD-016";
/// A connection that follows sent something.
pub const FOLLOWER_SPOKE: &str = "HP-LD-017";
/// The state disk is full.
pub const DISK_FULL: &str = "HP-LD-020";
/// The state disk does not read or write.
pub const DISK_ERROR: &str = "HP-LD-021";
/// The database was damaged and has been set aside.
pub const DAMAGED: &str = "HP-LD-022";
/// The state directory is in memory.
pub const VOLATILE: &str = "HP-LD-023";
/// The state directory can't be used; blocks are kept in memory.
pub const MEMORY_ONLY: &str = "HP-LD-024";
/// Another process has the database open.
pub const BUSY: &str = "HP-LD-025";
/// The database is of a newer format.
pub const NEWER_FORMAT: &str = "HP-LD-026";
/// The database is gone although there was one.
pub const MISSING: &str = "HP-LD-027";
/// Damage was met while running; the next start decides what becomes of the database.
pub const DAMAGED_RUNNING: &str = "HP-LD-028";
/// The signing key can't be used.
pub const KEY: &str = "HP-LD-030";
/// The socket can't be opened.
pub const SOCKET: &str = "HP-LD-031";
/// The process could not be set up (runtime, threads).
pub const SETUP: &str = "HP-LD-032";
/// The signing key lies on a disk.
pub const KEY_ON_DISK: &str = "HP-LD-033";
/// `attest` gave no seed; the signing key is one of this boot.
pub const NO_SEED: &str = "HP-LD-034";
/// `verify` can't read the ledger.
pub const VERIFY_UNREADABLE: &str = "HP-LD-040";
/// `verify` found a ledger that is not right.
pub const VERIFY_WRONG: &str = "HP-LD-041";
/// `verify` could not come to a verdict.
pub const VERIFY_UNDECIDED: &str = "HP-LD-042";
/// The TPM's boot counter was used before under the same key.
pub const TPM_WENT_BACK: &str = "HP-LD-043";
/// The TPM counted boots of which the ledger knows nothing.
pub const BOOTS_MISSING: &str = "HP-LD-044";
/// `export` can't write its file.
pub const EXPORT_FILE: &str = "HP-LD-045";
/// `export` was asked for a block that does not exist.
pub const EXPORT_FROM: &str = "HP-LD-046";
/// The TPM gives another key than it gave before.
pub const NEW_IDENTITY: &str = "HP-LD-047";

/// A diagnostic about the ledger's state.
#[must_use]
pub fn diagnostic(
    code: &str,
    severity: Severity,
    object: &str,
    cause: String,
    remedy: &str,
) -> Diagnostic {
    Diagnostic { code: code.into(), severity, object: object.into(), cause, remedy: remedy.into() }
}

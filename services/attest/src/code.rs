//! Stable codes of everything `attest serve` tells an operator, in one place so that none is reused.
//! The helper `unlock` has its own from HP-AT-100 on.

use hookprobe_wire::{Diagnostic, Severity};

/// The uid may not ask this.
pub const NOT_ALLOWED: &str = "HP-AT-001";
/// The seed goes to the process that PID 1 measured and started as `ledger`, to nobody else.
pub const NOT_THE_LEDGER: &str = "HP-AT-002";
/// The seed is withheld because the box is not in the state it started in.
pub const SEED_WITHHELD: &str = "HP-AT-003";
/// A nonce or a credential of a length that can't be used.
pub const LENGTH: &str = "HP-AT-004";
/// Too many challenges.
pub const TOO_MANY: &str = "HP-AT-005";
/// There is no TPM.
pub const NO_TPM: &str = "HP-AT-006";
/// The TPM did not answer in time.
pub const TPM_SILENT: &str = "HP-AT-007";
/// The identity could not be set up.
pub const NOT_ENROLLED: &str = "HP-AT-008";
/// Asked before the identity is set up.
pub const STARTING: &str = "HP-AT-009";
/// Not served on the hypervisor's port.
pub const NOT_ON_PORT: &str = "HP-AT-010";
/// Too many connections.
pub const CONNECTIONS: &str = "HP-AT-011";
/// More evidence than fits.
pub const TOO_LONG: &str = "HP-AT-012";
/// The identity file was damaged and has been set aside.
pub const DAMAGED: &str = "HP-AT-020";
/// The identity file can't be read or written.
pub const STORE: &str = "HP-AT-021";
/// The attestation key was another TPM's: enrolled anew.
pub const OTHER_TPM: &str = "HP-AT-022";
/// The ledger signs with a key of this boot, its own key stays sealed.
pub const SEED_SEALED: &str = "HP-AT-023";
/// The sealed seed is not what this TPM sealed: a new one was made.
pub const SEED_FORGED: &str = "HP-AT-024";
/// The state is older than the TPM's boot counter says.
pub const ROLLED_BACK: &str = "HP-AT-025";
/// The release key or the signed manifest can't be used.
pub const NO_MANIFEST: &str = "HP-AT-026";
/// The kernel gave no random bytes.
pub const RANDOM: &str = "HP-AT-027";
/// The TPM was reset after the box started.
pub const TPM_RESET: &str = "HP-AT-030";
/// The box's own quote can't be verified.
pub const OWN_QUOTE: &str = "HP-AT-031";
/// The event log is not what the TPM holds.
pub const LOG_RACE: &str = "HP-AT-032";
/// The event log can't be read.
pub const LOG_UNREADABLE: &str = "HP-AT-033";
/// Events for the ledger were dropped.
pub const EVENTS_LOST: &str = "HP-AT-034";
/// The thread that owns the TPM answered something else than it was asked.
pub const MIXED_UP: &str = "HP-AT-035";
/// The ledger signs with another key than the one that it was given.
pub const OTHER_LEDGER: &str = "HP-AT-036";

/// What an operator is told.
#[must_use]
pub fn diagnostic(
    code: &str,
    severity: Severity,
    object: &str,
    cause: impl Into<String>,
    remedy: &str,
) -> Diagnostic {
    Diagnostic {
        code: code.into(),
        severity,
        object: object.into(),
        cause: cause.into(),
        remedy: remedy.into(),
    }
}

/// A code and what is said with it, as a reply carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stable code.
    pub code: String,
    /// Why and what to do.
    pub reason: String,
}

impl Fault {
    /// From its parts.
    #[must_use]
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }

    /// From a text that begins with its code, as every error of this product does.
    #[must_use]
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        let text = error.to_string();
        match text.split_once(' ') {
            Some((code, reason)) if code.starts_with("HP-") => Self::new(code, reason),
            _ => Self::new(NOT_ENROLLED, text),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

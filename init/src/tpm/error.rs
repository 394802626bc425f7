//! What can go wrong between PID 1 and the TPM.

use hookprobe_evidence::{digest::HashAlg, pcr::PcrIndex};
use rustix::io::Errno;
use thiserror::Error;

/// Why a TPM command has no result. Whatever it is, the box lowers its assurance level and says so.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TpmError {
    /// The device can't be opened.
    #[error("HP-TP-001 tpm: {path}: {errno}; enable the TPM in the firmware setup")]
    Open {
        /// Path of the device.
        path: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The device does not take the command or give the response.
    #[error("HP-TP-002 tpm: {what} {command}: {errno}; power the box off and on")]
    Io {
        /// Name of the command.
        command: &'static str,
        /// `write`, `poll` or `read`.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// No response in time.
    #[error("HP-TP-003 tpm: no response to {command} in {ms} ms; power the box off and on")]
    Timeout {
        /// Name of the command.
        command: &'static str,
        /// How long it was waited.
        ms: u64,
    },
    /// Not asked, because an earlier command had no usable end: what is read next might be its
    /// late response.
    #[error(
        "HP-TP-004 tpm: {command} not sent, an earlier command hangs; power the box off and on"
    )]
    Hung {
        /// Name of the command.
        command: &'static str,
    },
    /// The response is not what the specification says.
    #[error("HP-TP-005 tpm: malformed response to {command}: {why}; update the TPM's firmware")]
    Malformed {
        /// Name of the command.
        command: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The TPM refused the command.
    #[error(
        "HP-TP-006 tpm: {command} refused with response code {rc:#05x}; \
         clear the TPM in the firmware setup if it stays"
    )]
    Refused {
        /// Name of the command.
        command: &'static str,
        /// TPM_RC.
        rc: u32,
    },
    /// The TPM asked too often to try again.
    #[error(
        "HP-TP-007 tpm: {command} still answered with response code {rc:#05x} after {tries} tries; \
         power the box off and on"
    )]
    Busy {
        /// Name of the command.
        command: &'static str,
        /// TPM_RC of the last try.
        rc: u32,
        /// How often it was tried.
        tries: u32,
    },
    /// No bank that this code knows has the service PCR.
    #[error(
        "HP-TP-008 tpm: no known bank is active for PCR {pcr} (unknown: {unknown:04x?}); \
         enable the SHA-256 bank in the firmware setup"
    )]
    NoBank {
        /// The PCR looked for.
        pcr: PcrIndex,
        /// TPM_ALG_IDs of active banks that are not known.
        unknown: Vec<u16>,
    },
    /// Caller's bug: nothing to extend, or one bank twice.
    #[error("HP-TP-009 tpm: extend of PCR {pcr} with {got} digests, expected one per bank")]
    Digests {
        /// The PCR meant.
        pcr: PcrIndex,
        /// Digests given.
        got: usize,
    },
    /// The PCR does not exist in that bank.
    #[error("HP-TP-010 tpm: bank {alg} has no PCR {pcr}; enable it in the firmware setup")]
    NotAllocated {
        /// Bank.
        alg: HashAlg,
        /// PCR.
        pcr: PcrIndex,
    },
}

impl TpmError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "HP-TP-001",
            Self::Io { .. } => "HP-TP-002",
            Self::Timeout { .. } => "HP-TP-003",
            Self::Hung { .. } => "HP-TP-004",
            Self::Malformed { .. } => "HP-TP-005",
            Self::Refused { .. } => "HP-TP-006",
            Self::Busy { .. } => "HP-TP-007",
            Self::NoBank { .. } => "HP-TP-008",
            Self::Digests { .. } => "HP-TP-009",
            Self::NotAllocated { .. } => "HP-TP-010",
        }
    }
}

//! Why something could not be asked of the TPM.

use thiserror::Error;
use tss_esapi::{
    constants::response_code::Tss2ResponseCodeKind, interface_types::algorithm::HashingAlgorithm,
};

/// Why a TPM can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The name is not one.
    #[error(
        "HP-TP-101 tpm: {tcti:?} names no TPM; use device:/dev/tpmrm0 or \
         swtpm:host=127.0.0.1,port=2321"
    )]
    Tcti {
        /// As given.
        tcti: String,
        /// What tss-esapi said.
        source: tss_esapi::Error,
    },
    /// Nobody answers there.
    #[error("HP-TP-102 tpm: can't connect to {tcti}; check that the device or the server is there")]
    Connect {
        /// As given.
        tcti: String,
        /// What tpm2-tss said.
        source: tss_esapi::Error,
    },
}

/// Why PCRs can't be read or extended.
#[derive(Debug, Error)]
pub enum PcrError {
    /// The TPM or tpm2-tss refused.
    #[error("HP-TP-103 tpm: {command} failed; see the code with tpm2_rc_decode")]
    Tpm {
        /// Name of the command.
        command: &'static str,
        /// What tpm2-tss said.
        source: tss_esapi::Error,
    },
    /// A bank whose algorithm is not known here.
    #[error(
        "HP-TP-104 tpm: bank {algorithm:?} is active but not known; disable it in the firmware"
    )]
    UnknownBank {
        /// Which.
        algorithm: HashingAlgorithm,
    },
    /// The TPM answered another question than the one asked.
    #[error("HP-TP-105 tpm: {command} gave other PCRs than asked for; is the bank active?")]
    Selection {
        /// Name of the command.
        command: &'static str,
    },
    /// PCRs were extended while they were read.
    #[error("HP-TP-106 tpm: PCRs changed during each of {tries} reads; try again later")]
    Moving {
        /// How often it was tried.
        tries: u32,
    },
}

impl PcrError {
    pub(crate) fn tpm(command: &'static str) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |source| Self::Tpm { command, source }
    }
}

/// Why the TPM did not do what the box's trust needs.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The TPM or tpm2-tss refused.
    #[error("HP-TP-110 tpm: {command} failed; see the code with tpm2_rc_decode")]
    Tpm {
        /// Name of the command.
        command: &'static str,
        /// What tpm2-tss said.
        source: tss_esapi::Error,
    },
    /// Registers.
    #[error(transparent)]
    Pcr(#[from] PcrError),
    /// The registers are in no state that the release signed for this purpose.
    #[error(
        "HP-TP-111 tpm: PCRs are not in a state that the release signed for {purpose} (generation \
         {generation}); boot a signed image of this generation or newer, power the box off and on"
    )]
    State {
        /// For what.
        purpose: &'static str,
        /// At least which.
        generation: u32,
    },
    /// The image brings no policy for this purpose, generation and bank.
    #[error(
        "HP-TP-112 tpm: this image is not signed for {purpose} generation {generation} in an active \
         bank; boot a newer image"
    )]
    NoPolicy {
        /// For what.
        purpose: &'static str,
        /// At least which.
        generation: u32,
    },
    /// The key belongs to another TPM.
    #[error(
        "HP-TP-113 tpm: the attestation key was made by another TPM, or this one was cleared; enrol again"
    )]
    ForeignKey,
    /// A key or an answer is not what was asked for.
    #[error(
        "HP-TP-114 tpm: {what}; the TPM or the wire to it is not to be trusted, replace the board"
    )]
    Unexpected {
        /// What.
        what: &'static str,
    },
    /// An NV index with the counter's number that is not the counter.
    #[error(
        "HP-TP-116 tpm: NV index {index:#010x} is not the boot counter; remove it with \
         tpm2_nvundefine {index:#010x}"
    )]
    Index {
        /// Which.
        index: u32,
    },
    /// A fake's failure, on purpose.
    #[error("HP-TP-115 tpm: fails at step {step} by request")]
    Fake {
        /// Which.
        step: u32,
    },
}

impl TrustError {
    pub(crate) fn tpm(command: &'static str) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |source| Self::Tpm { command, source }
    }

    /// Whether the conversation failed rather than the request: a new connection may help.
    #[must_use]
    pub fn is_of_the_wire(&self) -> bool {
        matches!(self, Self::Tpm { .. } | Self::Pcr(PcrError::Tpm { .. }) | Self::Fake { .. })
    }

    /// The TPM's reason, when it is the TPM that refused.
    pub(crate) fn kind(&self) -> Option<Tss2ResponseCodeKind> {
        match self {
            Self::Tpm { source: tss_esapi::Error::Tss2Error(code), .. } => code.kind(),
            _ => None,
        }
    }
}

//! Why something could not be asked of the TPM.

use thiserror::Error;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;

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

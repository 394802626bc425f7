//! The TPM 2.0 through tpm2-tss (tss-esapi), for everything but PID 1: registers, endorsement and
//! attestation key, quotes, the boot counter, the keys that wrap secrets, and TLS with a key that
//! stays in the TPM. [`Trust`] is what `attest` sees of it; [`Context`] is the real one.
//!
//! PID 1 has its own encoder because it is static and tpm2-tss loads its transport at run time; that
//! both agree with each other and with `evidence`'s replay on a real TPM implementation is what this
//! crate's tests show.
//!
//! Must never happen here: a value that the TPM did not give in answer to exactly the question
//! asked (a short or other selection is an error, PCRs that moved between two commands are read
//! again); a session without salt; an object left in the TPM. Called by `attest`. Spec: TCG TPM 2.0
//! Library, Part 3.

#![forbid(unsafe_code)]

mod convert;
mod counter;
mod error;
#[doc(hidden)]
pub mod fake;
mod keys;
mod quoting;
mod real;
pub mod seal;
mod session;
mod structures;
pub mod tls;
pub mod trust;
mod wrap;
mod wrapping;

use std::{collections::BTreeMap, str::FromStr};

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
};
use tss_esapi::{
    constants::CapabilityType,
    interface_types::session_handles::AuthSession,
    structures::{CapabilityData, DigestValues, PcrSelectionListBuilder},
    tcti_ldr::TctiNameConf,
};

use keys::LoadedKey;

pub use counter::EPOCH_INDEX;
pub use error::{OpenError, PcrError, TrustError};
pub use trust::Trust;

/// PCRs that one TPM2_PCR_Read returns at most: the length of a TPML_DIGEST (Part 2, 10.9.5).
const READ_PCRS_MAX: usize = 8;
/// How often a read that an extend interrupted is begun again. Extends come in bursts at boot and
/// on a restart; a PCR that moves four times in a row is being flooded.
const READ_TRIES_MAX: u32 = 4;
/// How often a quote is made again because its registers moved before they were read; as for reads.
pub(crate) const QUOTE_RETRIES_MAX: u32 = 3;

/// PCR values by bank and index.
pub type PcrValues = BTreeMap<(HashAlg, PcrIndex), Digest>;

/// A connection to one TPM.
#[derive(Debug)]
pub struct Context {
    esys: tss_esapi::Context,
    /// Commands sent.
    commands: u64,
    /// Loaded at its first use; flushed when this is dropped.
    ek: Option<LoadedKey>,
    /// The attestation key; likewise.
    ak: Option<LoadedKey>,
}

impl Context {
    /// Opens the TPM that `tcti` names, in the notation of tpm2-tools: `device:/dev/tpmrm0`,
    /// `swtpm:host=127.0.0.1,port=2321`; an absolute path is a device.
    ///
    /// # Errors
    /// Any [`OpenError`].
    pub fn open(tcti: &str) -> Result<Self, OpenError> {
        let conf = if tcti.starts_with('/') { format!("device:{tcti}") } else { tcti.to_owned() };
        let name = TctiNameConf::from_str(&conf)
            .map_err(|source| OpenError::Tcti { tcti: tcti.into(), source })?;
        let esys = tss_esapi::Context::new(name)
            .map_err(|source| OpenError::Connect { tcti: tcti.into(), source })?;
        Ok(Self { esys, commands: 0, ek: None, ak: None })
    }

    /// Banks with at least one PCR, in the TPM's order.
    ///
    /// # Errors
    /// [`PcrError::Tpm`], [`PcrError::UnknownBank`], [`PcrError::Selection`].
    pub fn active_banks(&mut self) -> Result<Vec<HashAlg>, PcrError> {
        self.commands += 1;
        let (data, more) = self
            .esys
            .get_capability(CapabilityType::AssignedPcr, 0, 1)
            .map_err(PcrError::tpm("TPM2_GetCapability"))?;
        let CapabilityData::AssignedPcr(selections) = data else {
            return Err(PcrError::Selection { command: "TPM2_GetCapability" });
        };
        if more {
            return Err(PcrError::Selection { command: "TPM2_GetCapability" });
        }
        selections
            .get_selections()
            .iter()
            .filter(|selection| !selection.is_empty())
            .map(|selection| convert::bank_of(selection.hashing_algorithm()))
            .collect()
    }

    /// Values of every index in every bank, all of the same moment.
    ///
    /// # Errors
    /// [`PcrError::Tpm`], [`PcrError::Selection`] (also for a bank that is not active),
    /// [`PcrError::Moving`].
    pub fn pcr_read(
        &mut self,
        banks: &[HashAlg],
        indexes: &[PcrIndex],
    ) -> Result<PcrValues, PcrError> {
        for _ in 0..READ_TRIES_MAX {
            let mut values = PcrValues::new();
            let mut counters = Vec::new();
            for bank in banks {
                for chunk in indexes.chunks(READ_PCRS_MAX) {
                    counters.push(self.read_chunk(*bank, chunk, &mut values)?);
                }
            }
            counters.dedup();
            if counters.len() <= 1 {
                return Ok(values);
            }
        }
        Err(PcrError::Moving { tries: READ_TRIES_MAX })
    }

    /// One TPM2_PCR_Read; the result is the TPM's counter of PCR changes.
    fn read_chunk(
        &mut self,
        bank: HashAlg,
        indexes: &[PcrIndex],
        values: &mut PcrValues,
    ) -> Result<u32, PcrError> {
        const COMMAND: &str = "TPM2_PCR_Read";
        // The TPM returns digests in order of index, whatever the order asked for.
        let mut sorted = indexes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let slots = sorted
            .iter()
            .map(|index| convert::slot_of(*index))
            .collect::<Result<Vec<_>, _>>()
            .map_err(PcrError::tpm(COMMAND))?;
        let asked = PcrSelectionListBuilder::new()
            .with_selection(convert::algorithm_of(bank), &slots)
            .build()
            .map_err(PcrError::tpm(COMMAND))?;
        self.commands += 1;
        let (counter, read, digests) =
            self.esys.pcr_read(asked.clone()).map_err(PcrError::tpm(COMMAND))?;
        if read != asked || digests.len() != sorted.len() {
            return Err(PcrError::Selection { command: COMMAND });
        }
        for (index, digest) in sorted.iter().zip(digests.value()) {
            let digest = Digest::new(bank, digest.value())
                .ok_or(PcrError::Selection { command: COMMAND })?;
            values.insert((bank, *index), digest);
        }
        Ok(counter)
    }

    /// One TPM2_PCR_Extend with a digest per bank, by the empty password.
    ///
    /// # Errors
    /// [`PcrError::Tpm`].
    pub fn extend(&mut self, index: PcrIndex, digests: &[Digest]) -> Result<(), PcrError> {
        const COMMAND: &str = "TPM2_PCR_Extend";
        let mut values = DigestValues::new();
        for digest in digests {
            let bytes = digest.as_bytes().to_vec().try_into().map_err(PcrError::tpm(COMMAND))?;
            values.set(convert::algorithm_of(digest.alg()), bytes);
        }
        let handle = convert::handle_of(index).map_err(PcrError::tpm(COMMAND))?;
        self.commands += 1;
        self.esys
            .execute_with_session(Some(AuthSession::Password), |esys| {
                esys.pcr_extend(handle, values)
            })
            .map_err(PcrError::tpm(COMMAND))
    }
}

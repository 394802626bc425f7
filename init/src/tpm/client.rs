//! The client: one method per thing that PID 1 wants to know or do.

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
};
use hookprobe_wire::text::escape;

use super::{
    Transport,
    codec::{self, CommandCode, Properties, RC_AGAIN, RC_INITIALIZE, RC_SUCCESS},
    error::TpmError,
};

/// Tries of one command. With doubling pauses from [`FIRST_PAUSE_MS`] that is 2.5 s, more than a
/// full self-test takes (TPM_RC_TESTING); a TPM that needs longer is broken.
pub(super) const TRIES_MAX: u32 = 9;
/// Pause before the second try: an extend takes about this long on a discrete TPM.
const FIRST_PAUSE_MS: u64 = 10;

/// Who made the TPM, by its own claim. Only an EK certificate proves it; this serves to tell people
/// and to lower the level of a software TPM that does not hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmIdentity {
    /// TCG vendor id, e.g. `IFX`, safe to show.
    pub manufacturer: String,
    /// Vendor string, safe to show.
    pub vendor: String,
    /// Firmware version, e.g. `7.85.4555.0`: four 16-bit numbers.
    pub firmware: String,
    software: bool,
}

impl TpmIdentity {
    /// libtpms, the library under swtpm: assurance level T, never more.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.software
    }
}

impl From<Properties> for TpmIdentity {
    fn from(properties: Properties) -> Self {
        let text = |bytes: &[u8]| {
            let latin1: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            escape(latin1.trim_matches(['\0', ' ']), 64)
        };
        let version = properties.firmware;
        let part = |shift: u32| (version >> shift) & 0xffff;
        let (manufacturer, vendor) = (text(&properties.manufacturer), text(&properties.vendor));
        // libtpms pads the maker with NUL, other builds of the same reference code with a space.
        let software = manufacturer == "IBM" && vendor.starts_with("SW ");
        Self {
            manufacturer,
            vendor,
            firmware: format!("{}.{}.{}.{}", part(48), part(32), part(16), part(0)),
            software,
        }
    }
}

/// A TPM behind a [`Transport`].
#[derive(Debug)]
pub struct Tpm<T: Transport> {
    transport: T,
    unknown_banks: Vec<u16>,
    commands: u32,
}

impl<T: Transport> Tpm<T> {
    /// Nothing is sent yet.
    pub fn new(transport: T) -> Self {
        Self { transport, unknown_banks: Vec::new(), commands: 0 }
    }

    /// TPM2_Startup. A TPM that the firmware or the kernel started already is fine.
    ///
    /// # Errors
    /// Any of the transport, [`TpmError::Malformed`], [`TpmError::Refused`], [`TpmError::Busy`].
    pub fn startup(&mut self) -> Result<(), TpmError> {
        match self.run(CommandCode::Startup, &codec::startup()) {
            Ok(response) => codec::parse_startup(&response),
            Err(TpmError::Refused { rc, .. }) if rc == RC_INITIALIZE => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Banks in which the service PCR is allocated, in the TPM's order. Every one of them has to
    /// be extended; those that are not known are in [`Self::unknown_banks`].
    ///
    /// # Errors
    /// As [`Self::startup`], and [`TpmError::NoBank`].
    pub fn banks(&mut self) -> Result<Vec<HashAlg>, TpmError> {
        let pcr = PcrIndex::SERVICES;
        let response = self.run(CommandCode::GetCapability, &codec::get_banks())?;
        let banks = codec::parse_banks(&response, pcr)?;
        self.unknown_banks = banks.unknown;
        if banks.known.is_empty() {
            return Err(TpmError::NoBank { pcr, unknown: self.unknown_banks.clone() });
        }
        Ok(banks.known)
    }

    /// TPM_ALG_IDs of active banks, as of the last [`Self::banks`], that can't be extended because
    /// their algorithm is not known. Not empty: the box must say so, those banks prove nothing.
    #[must_use]
    pub fn unknown_banks(&self) -> Vec<u16> {
        self.unknown_banks.clone()
    }

    /// Who made it.
    ///
    /// # Errors
    /// As [`Self::startup`].
    pub fn identity(&mut self) -> Result<TpmIdentity, TpmError> {
        let response = self.run(CommandCode::GetCapability, &codec::get_identity())?;
        codec::parse_identity(&response).map(TpmIdentity::from)
    }

    /// One TPM2_PCR_Extend with every digest.
    ///
    /// An error does not say whether the TPM extended (a response may be lost): the PCR has to be
    /// read before anything is claimed about it.
    ///
    /// # Errors
    /// As [`Self::startup`], and [`TpmError::Digests`] before anything is sent.
    pub fn extend(&mut self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), TpmError> {
        let command = codec::pcr_extend(pcr, digests)?;
        let response = self.run(CommandCode::PcrExtend, &command)?;
        codec::parse_extend(&response)
    }

    /// Value of one PCR in one bank.
    ///
    /// # Errors
    /// As [`Self::startup`], and [`TpmError::NotAllocated`].
    pub fn read(&mut self, alg: HashAlg, pcr: PcrIndex) -> Result<Digest, TpmError> {
        let response = self.run(CommandCode::PcrRead, &codec::pcr_read(alg, pcr))?;
        codec::parse_read(&response, alg, pcr)
    }

    /// Commands handed to the transport so far, tries included.
    #[must_use]
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// Sends until the TPM no longer asks to be asked again; the result is a success by its header.
    fn run(&mut self, code: CommandCode, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.commands = self.commands.saturating_add(1);
            let response = self.transport.exchange(command)?;
            let rc = codec::response_code(code, &response)?;
            let name = code.name();
            if rc == RC_SUCCESS {
                return Ok(response);
            }
            if !RC_AGAIN.contains(&rc) {
                return Err(TpmError::Refused { command: name, rc });
            }
            if tries >= TRIES_MAX {
                return Err(TpmError::Busy { command: name, rc, tries });
            }
            self.transport.pause_ms(FIRST_PAUSE_MS << (tries - 1));
        }
    }
}

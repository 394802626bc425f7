//! The identity file: what the box has to remember to be the same box after a restart.
//!
//! ```text
//! identity = [ version=1, ak / null, seed / null, generation, enrolled_s, recovery / null, boot / null,
//!              firmware / null ]
//! ak       = [ public(bytes), private(bytes) ]
//! boot     = [ boot_id(text), epoch, reset_count, restart_count ]
//! firmware = { "bank:register": hexadecimal }
//! ```
//!
//! CBOR, at most [`IDENTITY_BYTES_MAX`] bytes. The key and the seed in it are of use in their TPM
//! only; the recovery key is plain, which is why the file stands on the encrypted volume, 0600, and
//! why an operator is asked to note and forget it. Hostile when it is read back: somebody may have
//! written the disk. Pure; [`crate::store`] does the I/O.

use hookprobe_evidence::appraise::Firmware;
use hookprobe_tpm::trust::AkBlob;
use minicbor::{Decode, Encode, bytes::ByteVec};
use thiserror::Error;
use zeroize::Zeroize;

/// Version that is written.
pub const VERSION: u8 = 1;
/// Longest file that is read: ten times what a key and a seed need.
pub const IDENTITY_BYTES_MAX: usize = 16 * 1024;

/// What is remembered.
#[derive(PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// [`VERSION`].
    #[n(0)]
    version: u8,
    /// The attestation key.
    #[n(1)]
    pub ak: Option<Ak>,
    /// The ledger's seed, sealed.
    #[n(2)]
    pub seed: Option<ByteVec>,
    /// Generation that the seed is sealed for.
    #[n(3)]
    pub generation: u32,
    /// When the attestation key was made, seconds since 1970 by the box's clock.
    #[n(4)]
    pub enrolled_s: u64,
    /// Recovery key of the state volume until somebody noted it.
    #[n(5)]
    pub recovery: Option<String>,
    /// The last boot that was seen.
    #[n(6)]
    pub boot: Option<BootPin>,
    /// Registers of the firmware at the last boot that was verified; files of before have none.
    #[n(7)]
    pub firmware: Option<Firmware>,
}

/// An attestation key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ak {
    /// TPMT_PUBLIC.
    #[n(0)]
    pub public: ByteVec,
    /// Encrypted by the TPM.
    #[n(1)]
    pub private: ByteVec,
}

impl From<&AkBlob> for Ak {
    fn from(blob: &AkBlob) -> Self {
        Self { public: blob.public.clone().into(), private: blob.private.clone().into() }
    }
}

impl From<&Ak> for AkBlob {
    fn from(ak: &Ak) -> Self {
        Self { public: ak.public.to_vec(), private: ak.private.to_vec() }
    }
}

/// What a boot is recognised by, and the TPM in it. A restart of the service keeps it, so that a
/// TPM that was reset in between is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BootPin {
    /// The kernel's identity of the boot.
    #[n(0)]
    pub boot_id: String,
    /// The TPM's boot counter in it.
    #[n(1)]
    pub epoch: u64,
    /// resetCount.
    #[n(2)]
    pub reset_count: u32,
    /// restartCount.
    #[n(3)]
    pub restart_count: u32,
}

/// Why a file is no identity.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Too long.
    #[error("{got} bytes, at most {IDENTITY_BYTES_MAX}")]
    TooLong {
        /// How long.
        got: usize,
    },
    /// Not CBOR of this shape.
    #[error("not an identity ({0})")]
    Syntax(String),
    /// Of another version.
    #[error("version {got}, this image reads {VERSION}")]
    Version {
        /// Which.
        got: u8,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            version: VERSION,
            ak: None,
            seed: None,
            generation: 0,
            enrolled_s: 0,
            recovery: None,
            boot: None,
            firmware: None,
        }
    }
}

impl Identity {
    /// Bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        // Into a Vec with infallible field encoders: there is no error to have.
        let _ = minicbor::encode(self, &mut out);
        out
    }

    /// Parses a file; every byte has to be part of it.
    ///
    /// # Errors
    /// Any [`IdentityError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > IDENTITY_BYTES_MAX {
            return Err(IdentityError::TooLong { got: bytes.len() });
        }
        let syntax = |error: minicbor::decode::Error| IdentityError::Syntax(error.to_string());
        // The version first: another one may have another shape.
        let mut decoder = minicbor::Decoder::new(bytes);
        decoder.array().map_err(syntax)?;
        let got = decoder.u8().map_err(syntax)?;
        if got != VERSION {
            return Err(IdentityError::Version { got });
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let identity: Self = decoder.decode().map_err(syntax)?;
        if decoder.position() != bytes.len() {
            return Err(IdentityError::Syntax("bytes after the end".into()));
        }
        Ok(identity)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("ak", &self.ak.is_some())
            .field("seed", &self.seed.is_some())
            .field("generation", &self.generation)
            .field("recovery", &self.recovery.is_some())
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.recovery.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Identity {
        Identity {
            version: VERSION,
            ak: Some(Ak { public: vec![1, 2].into(), private: vec![3].into() }),
            seed: Some(vec![4; 4].into()),
            generation: 2,
            enrolled_s: 1_700_000_000,
            recovery: Some("abcd".into()),
            boot: Some(BootPin { boot_id: "b".into(), epoch: 7, reset_count: 8, restart_count: 9 }),
            firmware: Some([("sha256:0".to_owned(), "ff".to_owned())].into()),
        }
    }

    /// A file of version 1 opens for ever; a field that moves shows here.
    #[test]
    fn the_golden_file_opens() {
        const BEFORE: &str = "018242010241034404040404021a6553f1006461626364846162070809";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let bytes = sample().to_bytes();
        assert_eq!(hex(&bytes), format!("88{BEFORE}a168736861{}{}", "3235363a30", "626666"));
        assert_eq!(Identity::parse(&bytes).unwrap(), sample());
        // As it was written before there was the last field.
        let digits = format!("87{BEFORE}");
        let old: Vec<u8> = (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let mut expected = sample();
        expected.firmware = None;
        assert_eq!(Identity::parse(&old).unwrap(), expected);
    }

    #[test]
    fn refusals() {
        let mut bytes = sample().to_bytes();
        bytes.push(0);
        assert!(matches!(Identity::parse(&bytes), Err(IdentityError::Syntax(_))));
        let mut other = sample().to_bytes();
        other[1] = 2;
        assert_eq!(Identity::parse(&other), Err(IdentityError::Version { got: 2 }));
        assert!(matches!(Identity::parse(&[]), Err(IdentityError::Syntax(_))));
        let long = vec![0; IDENTITY_BYTES_MAX + 1];
        assert!(matches!(Identity::parse(&long), Err(IdentityError::TooLong { .. })));
    }

    #[test]
    fn the_recovery_key_is_not_printed() {
        assert!(!format!("{:?}", sample()).contains("abcd"));
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0usize..64, byte in any::<u8>(), cut in 0usize..64) {
            let mut bytes = sample().to_bytes();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let _ = Identity::parse(&bytes);
        }
    }
}

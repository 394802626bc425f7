//! Secrets at rest: ChaCha20-Poly1305 under a key that only the TPM gives, in the state that the
//! release signed ([`Trust::wrapping_key`]).
//!
//! Nobody outside such a state has the key, so what opens was also sealed in one: a sealed blob is
//! authentic, not only secret. Must never happen here: a nonce that the caller did not draw fresh, or
//! a plaintext before its tag was verified. Called by `attest` (volume passphrase, ledger seed).
//!
//! [`Trust::wrapping_key`]: crate::Trust::wrapping_key

use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hookprobe_evidence::policy::Purpose;
use minicbor::{Decode, Encode, bytes::ByteVec};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::trust::Secret;

/// Version of [`Sealed`].
pub const VERSION: u8 = 1;
/// Most bytes that are parsed: a seed or a passphrase needs a hundred.
pub const SEALED_BYTES_MAX: usize = 4096;
/// Longest secret.
pub const PLAINTEXT_BYTES_MAX: usize = 2048;
/// Fresh random bytes per seal. 96 bits: a box seals a few secrets per generation.
pub const NONCE_BYTES: usize = 12;
/// In front of what is authenticated beside the secret.
const DOMAIN: &[u8] = b"hookprobe.seal.v1\0";

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// Word of the [`Purpose`].
    #[n(1)]
    purpose: String,
    /// Generation of the wrapping key.
    #[n(2)]
    pub generation: u32,
    /// Fresh.
    #[n(3)]
    nonce: ByteVec,
    /// Secret and tag.
    #[n(4)]
    ciphertext: ByteVec,
}

/// Why a secret can't be sealed or opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// Too long.
    #[error("HP-TP-120 sealed secret: {got} bytes, at most {max}")]
    TooLong {
        /// How long.
        got: usize,
        /// At most.
        max: usize,
    },
    /// Not CBOR of this shape.
    #[error("HP-TP-121 sealed secret: {0}; restore the file or use the recovery key")]
    Syntax(&'static str),
    /// Another version.
    #[error(
        "HP-TP-122 sealed secret: version {got}, this image reads {VERSION}; boot the image that made it"
    )]
    Version {
        /// Which.
        got: u8,
    },
    /// The tag is wrong.
    #[error(
        "HP-TP-123 sealed secret: sealed by another TPM, or changed; use the recovery key or enrol again"
    )]
    Foreign,
}

impl Sealed {
    /// What it was sealed for.
    #[must_use]
    pub fn purpose(&self) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.word() == self.purpose)
    }

    /// Bytes of it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        // Into a Vec with infallible field encoders: there is no error to have.
        let _ = minicbor::encode(self, &mut out);
        out
    }

    /// Parses; every byte has to be part of it.
    ///
    /// # Errors
    /// Any [`SealError`] but [`SealError::Foreign`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        if bytes.len() > SEALED_BYTES_MAX {
            return Err(SealError::TooLong { got: bytes.len(), max: SEALED_BYTES_MAX });
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let sealed: Self =
            decoder.decode().map_err(|_| SealError::Syntax("not CBOR of this shape"))?;
        if decoder.position() != bytes.len() {
            return Err(SealError::Syntax("bytes after the end"));
        }
        if sealed.version != VERSION {
            return Err(SealError::Version { got: sealed.version });
        }
        if sealed.nonce.len() != NONCE_BYTES {
            return Err(SealError::Syntax("nonce of another length"));
        }
        if sealed.purpose().is_none() {
            return Err(SealError::Syntax("unknown purpose"));
        }
        Ok(sealed)
    }
}

/// Seals `plaintext` under a wrapping key for `purpose` and `generation`. `nonce` is fresh from the
/// kernel's generator: the same key seals more than once.
///
/// # Errors
/// [`SealError::TooLong`].
pub fn seal(
    key: &Secret,
    purpose: Purpose,
    generation: u32,
    plaintext: &[u8],
    nonce: [u8; NONCE_BYTES],
) -> Result<Sealed, SealError> {
    let too_long = SealError::TooLong { got: plaintext.len(), max: PLAINTEXT_BYTES_MAX };
    if plaintext.len() > PLAINTEXT_BYTES_MAX {
        return Err(too_long);
    }
    let mut sealed = Sealed {
        version: VERSION,
        purpose: purpose.word().into(),
        generation,
        nonce: nonce.to_vec().into(),
        ciphertext: ByteVec::from(Vec::new()),
    };
    let aad = aad(&sealed);
    let payload = Payload { msg: plaintext, aad: &aad };
    sealed.ciphertext =
        cipher(key).encrypt(&Nonce::from(nonce), payload).map_err(|_| too_long)?.into();
    Ok(sealed)
}

/// Opens a sealed secret.
///
/// # Errors
/// [`SealError::Foreign`], [`SealError::Syntax`].
pub fn unseal(key: &Secret, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let nonce: [u8; NONCE_BYTES] = sealed
        .nonce
        .as_slice()
        .try_into()
        .map_err(|_| SealError::Syntax("nonce of another length"))?;
    let aad = aad(sealed);
    let payload = Payload { msg: &sealed.ciphertext, aad: &aad };
    cipher(key)
        .decrypt(&Nonce::from(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| SealError::Foreign)
}

fn cipher(key: &Secret) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&Key::from(*key.expose()))
}

/// Version, purpose and generation: all that is in front of the nonce.
fn aad(sealed: &Sealed) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.push(sealed.version);
    out.extend(sealed.generation.to_be_bytes());
    out.extend(sealed.purpose.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

    fn sealed() -> Sealed {
        seal(&Secret::new([1; 32]), Purpose::Ledger, 3, b"seed", NONCE).unwrap()
    }

    #[test]
    fn what_was_sealed_opens() {
        let sealed = Sealed::parse(&sealed().to_bytes()).unwrap();
        assert_eq!(sealed.purpose(), Some(Purpose::Ledger));
        assert_eq!(sealed.generation, 3);
        assert_eq!(unseal(&Secret::new([1; 32]), &sealed).unwrap().as_slice(), b"seed");
    }

    #[test]
    fn another_key_is_another_tpm() {
        let error = unseal(&Secret::new([2; 32]), &sealed()).unwrap_err();
        assert_eq!(error, SealError::Foreign);
        assert!(error.to_string().contains("sealed by another TPM, or changed"));
    }

    #[test]
    fn no_bit_can_be_changed() {
        let bytes = sealed().to_bytes();
        for at in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            let Ok(parsed) = Sealed::parse(&bytes) else { continue };
            assert_eq!(unseal(&Secret::new([1; 32]), &parsed).unwrap_err(), SealError::Foreign);
        }
    }

    #[test]
    fn bounds() {
        let bytes = sealed().to_bytes();
        for end in 0..bytes.len() {
            assert!(matches!(Sealed::parse(&bytes[..end]), Err(SealError::Syntax(_))), "{end}");
        }
        assert_eq!(
            Sealed::parse(&[bytes, vec![0]].concat()),
            Err(SealError::Syntax("bytes after the end"))
        );
        assert!(matches!(Sealed::parse(&[0; 5000]), Err(SealError::TooLong { got: 5000, .. })));
        let mut other = sealed();
        other.version = 2;
        assert_eq!(Sealed::parse(&other.to_bytes()), Err(SealError::Version { got: 2 }));
        assert!(seal(&Secret::new([1; 32]), Purpose::Volume, 1, &[0; 2049], NONCE).is_err());
    }

    #[test]
    fn format_is_fixed() {
        let hex: String = sealed().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            hex.starts_with(
                "850166 6c6564676572 03 4c070707070707070707070707 54".replace(' ', "").as_str()
            ),
            "{hex}"
        );
    }
}

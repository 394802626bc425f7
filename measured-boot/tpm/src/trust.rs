//! What the box asks of its TPM, as one trait: [`crate::Context`] answers from a real one,
//! [`crate::fake`] from memory, failing at whichever step a test names.
//!
//! Must never happen here: a key that is used before its public area was compared with the template
//! it was made from; a secret that can be had without the release's policy; an unsalted session.

use std::fmt;

use hookprobe_evidence::{
    bundle::{Endorsement, PcrClaim},
    digest::HashAlg,
    pcr::PcrIndex,
    policy::{Purpose, ReleaseKey, SignedPolicy},
    quote::{ClockInfo, Quote},
};
use zeroize::Zeroizing;

use crate::error::TrustError;

/// Registers by bank.
pub type Selection = Vec<(HashAlg, Vec<PcrIndex>)>;

/// An attestation key outside the TPM: its public area and what only this TPM can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AkBlob {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE without its size: encrypted by the TPM, no secret outside it.
    pub private: Vec<u8>,
}

/// A quote and the registers that it is about, read in the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// The quote.
    pub quote: Quote,
    /// Values; their hash is the quote's pcrDigest.
    pub pcrs: Vec<PcrClaim>,
    /// How often it was made again because a register moved.
    pub retries: u32,
}

/// Who made the TPM, by its own claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// TCG vendor id, e.g. `IFX`.
    pub manufacturer: String,
    /// Vendor string.
    pub vendor: String,
    /// libtpms or the reference code: level T, never more.
    pub software: bool,
}

/// Thirty-two secret bytes: wiped when dropped, neither cloned nor printed.
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The TPM as the box uses it.
pub trait Trust {
    /// Banks with registers, in the TPM's order.
    ///
    /// # Errors
    /// Any [`TrustError`], as every method here.
    fn banks(&mut self) -> Result<Vec<HashAlg>, TrustError>;

    /// Who made it.
    fn maker(&mut self) -> Result<Maker, TrustError>;

    /// Clock, reset and restart counters (TPM2_ReadClock).
    fn clock(&mut self) -> Result<ClockInfo, TrustError>;

    /// The endorsement key and its certificate from NV memory: RSA 2048 (TCG EK Credential Profile,
    /// template L-1), or P-256 (L-2) where the maker certified that one alone; the persistent one
    /// where the maker left it.
    fn endorsement(&mut self) -> Result<Endorsement, TrustError>;

    /// Makes a P-256 attestation key under the endorsement key, then proves to itself by
    /// TPM2_MakeCredential and TPM2_ActivateCredential that both are in this TPM. It is loaded.
    fn create_ak(&mut self) -> Result<AkBlob, TrustError>;

    /// Loads a key made by [`Self::create_ak`] of this TPM; refuses one with other attributes.
    fn load_ak(&mut self, ak: &AkBlob) -> Result<(), TrustError>;

    /// TPM2_ActivateCredential for a challenger (both without their size fields).
    fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Vec<u8>, TrustError>;

    /// Quotes registers with the loaded attestation key; begins again, a bounded number of times,
    /// when a register moved between quote and read.
    fn quote(&mut self, selection: &Selection, extra_data: &[u8; 32])
    -> Result<Quoted, TrustError>;

    /// Value of the boot counter, `None` when it was never made.
    fn epoch(&mut self) -> Result<Option<u64>, TrustError>;

    /// Makes the boot counter (NV index, counter) when it is missing, increments it, returns it.
    fn next_epoch(&mut self) -> Result<u64, TrustError>;

    /// The key that wraps secrets for `purpose` and `generation`: TPM2_HMAC under a primary key of the
    /// owner hierarchy whose policy is PolicyAuthorize(release, purpose, generation). Only a state of
    /// the registers that one of `policies` describes (in this TPM's bank) gets it.
    fn wrapping_key(
        &mut self,
        release: &ReleaseKey,
        purpose: Purpose,
        generation: u32,
        policies: &[SignedPolicy],
    ) -> Result<Secret, TrustError>;

    /// Commands sent so far.
    fn commands(&self) -> u64;
}

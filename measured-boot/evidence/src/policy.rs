//! TPM policies that a release signs: which states of the box may use which secret (TPM 2.0 Library,
//! Part 3, TPM2_PolicyPCR and TPM2_PolicyAuthorize).
//!
//! A secret is bound to the release's *key*, never to register values: its policy is
//! PolicyAuthorize(release key, reference). The image brings, for the state that it boots into, the
//! PolicyPCR digest signed by that key. The reference names the purpose and the lowest generation
//! that may use the secret, so that a box that was updated past a weakness can't be booted back
//! into it: an image of generation `g` is signed for references 1 to `g` only.
//!
//! All policy sessions and name algorithms are SHA-256. Computed by the composer, used by `tpm`.

use p256::pkcs8::DecodePublicKey as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    cursor::put_sized,
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
    public::{ALG_ECC, ALG_NULL, ALG_SHA256, CURVE_P256, SIGN, USER_WITH_AUTH, name_of},
};

/// TPM_CC_PolicyPCR
const CC_POLICY_PCR: u32 = 0x0000_017f;
/// TPM_CC_PolicyAuthorize
const CC_POLICY_AUTHORIZE: u32 = 0x0000_016a;
/// sizeofSelect of a PC Client TPM: 24 registers.
const SELECT_BYTES: usize = 3;
/// Highest generation: an image carries policies for all up to its own, in every bank.
pub const GENERATION_MAX: u32 = 1000;
/// A P-256 key in PEM has 178 bytes; comments may stand around it.
const PEM_BYTES_MAX: usize = 4096;

/// What a secret is for, and with it when in a boot it can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The state volume: in the phase `unlock` only. PCR 4 (the firmware ran this blob), 11 (the blob), 12 (nothing overrides the
    /// command line, no site configuration yet), 13 (all services), 15 (no volume opened yet).
    Volume,
    /// The ledger's seed: from the end of that phase on. PCR 4, 11 with [`PHASE_EVENT`], 13.
    Ledger,
}

/// Event that ends the phase `unlock`, extended into PCR 11: what it is about is its name's bytes.
pub const PHASE_EVENT: &str = "phase:unlocked";

impl Purpose {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Volume, Self::Ledger];

    /// Word in references and manifests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Ledger => "ledger",
        }
    }

    /// Registers that decide.
    #[must_use]
    pub fn pcrs(self) -> &'static [u8] {
        match self {
            Self::Volume => &[4, 11, 12, 13, 15],
            Self::Ledger => &[4, 11, 13],
        }
    }

    /// policyRef of TPM2_PolicyAuthorize.
    #[must_use]
    pub fn reference(self, generation: u32) -> Vec<u8> {
        format!("hookprobe/{}/{generation}", self.word()).into_bytes()
    }
}

/// A PolicyPCR digest with the release's signature for one purpose, bank and generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPolicy {
    /// For what.
    pub purpose: Purpose,
    /// Lowest generation in the reference.
    pub generation: u32,
    /// Bank whose registers are in it: `sha256`, ...
    pub bank: String,
    /// approvedPolicy, hexadecimal.
    pub digest: String,
    /// ECDSA P-256 with SHA-256 over approvedPolicy and policyRef: r and s, 32 bytes each, hexadecimal.
    pub signature: String,
}

/// Why a policy can't be made or used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Register values for another selection.
    #[error("HP-QV-020 policy: {purpose} needs PCRs {wanted:?} of one bank")]
    Selection {
        /// For what.
        purpose: &'static str,
        /// Which.
        wanted: &'static [u8],
    },
    /// The manifest lacks what a policy is made of.
    #[error("HP-QV-022 policy: the manifest predicts no PCR {pcr} in bank {bank}; compose again")]
    Prediction {
        /// Bank.
        bank: HashAlg,
        /// Register.
        pcr: u8,
    },
    /// A generation that nobody reaches.
    #[error(
        "HP-QV-023 policy: generation {0} is not 1 to {GENERATION_MAX}; see the manifest's generation"
    )]
    Generation(u32),
    /// A key that is no P-256 point.
    #[error("HP-QV-021 release key: {0}")]
    Key(&'static str),
}

/// Digest of a policy session (SHA-256) after one TPM2_PolicyPCR over `values`, which are the
/// registers of `purpose` in ascending order, all of one bank.
///
/// # Errors
/// [`PolicyError::Selection`].
pub fn pcr_policy(
    purpose: Purpose,
    values: &[(PcrIndex, Digest)],
) -> Result<[u8; 32], PolicyError> {
    let wrong = || PolicyError::Selection { purpose: purpose.word(), wanted: purpose.pcrs() };
    let bank = values.first().ok_or_else(wrong)?.1.alg();
    let indexes: Vec<u8> = values.iter().map(|(index, _)| index.get()).collect();
    if indexes != purpose.pcrs() || values.iter().any(|(_, value)| value.alg() != bank) {
        return Err(wrong());
    }
    let mut bits = [0u8; SELECT_BYTES];
    for index in &indexes {
        if let Some(byte) = bits.get_mut(usize::from(index / 8)) {
            *byte |= 1 << (index % 8);
        }
    }
    let mut registers = Sha256::new();
    for (_, value) in values {
        registers.update(value.as_bytes());
    }
    Ok(Sha256::new()
        .chain_update([0; 32])
        .chain_update(CC_POLICY_PCR.to_be_bytes())
        .chain_update(1u32.to_be_bytes())
        .chain_update((bank as u16).to_be_bytes())
        .chain_update([SELECT_BYTES as u8])
        .chain_update(bits)
        .chain_update(registers.finalize())
        .finalize()
        .into())
}

/// authPolicy of an object that only states signed by `release` for `purpose` and at least
/// `generation` may use: TPM2_PolicyAuthorize in a fresh SHA-256 session.
#[must_use]
pub fn authorized_policy(release: &ReleaseKey, purpose: Purpose, generation: u32) -> [u8; 32] {
    let signed_by = Sha256::new()
        .chain_update([0; 32])
        .chain_update(CC_POLICY_AUTHORIZE.to_be_bytes())
        .chain_update(release.name())
        .finalize();
    Sha256::new()
        .chain_update(signed_by)
        .chain_update(purpose.reference(generation))
        .finalize()
        .into()
}

/// What the release signs for a policy: SHA-256 of approvedPolicy and policyRef.
#[must_use]
pub fn signed_digest(approved: &[u8; 32], purpose: Purpose, generation: u32) -> [u8; 32] {
    Sha256::new()
        .chain_update(approved)
        .chain_update(purpose.reference(generation))
        .finalize()
        .into()
}

/// The public half of the key that signs releases: ECDSA P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseKey {
    key: p256::ecdsa::VerifyingKey,
}

impl ReleaseKey {
    /// From PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// [`PolicyError::Key`].
    pub fn from_pem(text: &str) -> Result<Self, PolicyError> {
        if text.len() > PEM_BYTES_MAX {
            return Err(PolicyError::Key("too long for a public key in PEM"));
        }
        p256::ecdsa::VerifyingKey::from_public_key_pem(text)
            .map(Self::new)
            .map_err(|_| PolicyError::Key("not a P-256 public key in PEM"))
    }

    /// From the verifying key.
    #[must_use]
    pub fn new(key: p256::ecdsa::VerifyingKey) -> Self {
        Self { key }
    }

    /// keyid in envelopes: [`Self::name`] in hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        crate::hex::hex(&self.name())
    }

    /// The verifying key.
    #[must_use]
    pub fn key(&self) -> &p256::ecdsa::VerifyingKey {
        &self.key
    }

    /// TPMT_PUBLIC of this key as it is loaded with TPM2_LoadExternal: ECC, SHA-256, sign and
    /// userWithAuth, no symmetric, scheme and kdf null, P-256. Its hash is the key's name.
    #[must_use]
    pub fn public_area(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        for word in [ALG_ECC, ALG_SHA256] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&(SIGN | USER_WITH_AUTH).to_be_bytes());
        put_sized(&mut out, &[]);
        for word in [ALG_NULL, ALG_NULL, CURVE_P256, ALG_NULL] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        // 0x04, x, y: a public key is never the point at infinity, so both are there.
        let sec1 = self.key.to_sec1_point(false);
        for coordinate in [sec1.x(), sec1.y()] {
            put_sized(&mut out, coordinate.map_or(&[][..], |bytes| bytes));
        }
        out
    }

    /// Name: 0x000b and SHA-256 of [`Self::public_area`].
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        name_of(&self.public_area()).as_bytes().to_vec()
    }
}

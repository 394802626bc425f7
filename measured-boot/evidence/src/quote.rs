//! Quotes: TPMS_ATTEST and its signature (TPM 2.0 Library, Part 2, 10.12 and 11.3), without libtss2.
//!
//! Untrusted and verified are different types: a [`Quote`] becomes a [`VerifiedQuote`] only in
//! [`Quote::verify`], which checks the signature before it looks inside. Must never happen here: a
//! value out of a quote whose signature was not verified under a key that is restricted to data
//! which the TPM itself made.

use minicbor::{Decode, Encode, bytes::ByteVec};
use p256::ecdsa::Signature;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    cursor::Cursor,
    digest::HashAlg,
    ecdsa,
    pcr::PcrIndex,
    public::{self, ALG_ECDSA, ALG_SHA256, COORDINATE_BYTES},
};

/// Longest TPMS_ATTEST, signature or public area that is looked at.
pub const STRUCTURE_BYTES_MAX: usize = 4096;
/// TPM_GENERATED_VALUE: a restricted key never signs data of others that begins with it.
const MAGIC: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE
const ATTEST_QUOTE: u16 = 0x8018;
/// Most banks in a selection: a TPM has at most one per hash algorithm (HASH_COUNT).
const BANKS_MAX: u32 = 16;
/// Longest TPM2B_NAME: algorithm and SHA-512.
const NAME_BYTES_MAX: usize = 66;
/// Longest TPM2B_DATA: algorithm and SHA-512.
const DATA_BYTES_MAX: usize = 66;
/// In front of what [`Binding::extra_data`] hashes.
pub const BINDING_DOMAIN: &[u8] = b"hookprobe.quote.v1\0";

/// Why a quote can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuoteError {
    /// Bytes that are no such structure.
    #[error("HP-QV-001 {what}: {why}; take new evidence from the box")]
    Malformed {
        /// TPMS_ATTEST, TPMT_SIGNATURE, TPMT_PUBLIC.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The key is not an attestation key.
    #[error("HP-QV-002 attestation key: {0}; enrol the box again")]
    Key(&'static str),
    /// The signature is not the key's.
    #[error(
        "HP-QV-003 quote: the signature is not of this attestation key; the evidence was changed or is another box's"
    )]
    Signature,
    /// It quotes something else than what was asked.
    #[error(
        "HP-QV-004 quote: made for another challenge (nonce, TLS session, ledger head or key differ); ask again with a fresh nonce"
    )]
    ExtraData,
}

/// What a quote is made for. Its hash is the quote's extraData, so that one signature of the TPM
/// vouches for the challenge, the session, the ledger's head and the ledger's key at once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Binding {
    /// The challenger's fresh bytes; the boot id in the binding of an epoch.
    #[n(0)]
    pub nonce: ByteVec,
    /// TLS exporter of the session, where there is one.
    #[n(1)]
    pub exporter: Option<ByteVec>,
    /// Ed25519 public key of the ledger; none when there is none yet.
    #[n(2)]
    pub node: Option<ByteVec>,
    /// Boot counter of the TPM.
    #[n(3)]
    pub epoch: u64,
    /// Blocks in the ledger.
    #[n(4)]
    pub length: u64,
    /// Hash of the last block; none when the ledger is empty or not there.
    #[n(5)]
    pub head: Option<ByteVec>,
    /// RFC 6962 root over all blocks; none likewise.
    #[n(6)]
    pub root: Option<ByteVec>,
}

impl Binding {
    /// SHA-256 of [`BINDING_DOMAIN`] and the CBOR of this.
    #[must_use]
    pub fn extra_data(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(256);
        // Into a Vec with infallible field encoders: there is no error to have.
        let _ = minicbor::encode(self, &mut bytes);
        Sha256::new().chain_update(BINDING_DOMAIN).chain_update(bytes).finalize().into()
    }
}

/// A quote as it came, nothing of it verified.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Quote {
    /// TPMS_ATTEST.
    #[n(0)]
    pub attest: ByteVec,
    /// TPMT_SIGNATURE.
    #[n(1)]
    pub signature: ByteVec,
}

/// TPMS_CLOCK_INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered in its life.
    pub clock_ms: u64,
    /// Resets (TPM2_Startup(CLEAR) after power loss or reset) in its life.
    pub reset_count: u32,
    /// Resumes and restarts since the last reset.
    pub restart_count: u32,
    /// Whether `clock_ms` never went back.
    pub safe: bool,
}

/// What a verified quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedQuote {
    /// extraData.
    pub extra_data: Vec<u8>,
    /// The TPM's clock.
    pub clock: ClockInfo,
    /// Firmware version, obfuscated for keys outside the endorsement hierarchy.
    pub firmware: u64,
    /// Banks and registers that were quoted, in the quote's order.
    pub selection: Vec<(HashAlg, Vec<PcrIndex>)>,
    /// Hash (of the signing scheme) over the registers.
    pub pcr_digest: Vec<u8>,
    /// Name of the key that signed.
    pub signer: KeyName,
    /// Its qualified name, as the TPM put it into the quote: its parents are in it.
    pub qualified_signer: KeyName,
}

/// Name of a TPM object: its name algorithm and the hash of its public area.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Vec<u8>);

impl KeyName {
    /// From raw bytes (TPM2B_NAME without its size).
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        crate::hex::hex(&self.0)
    }
}

/// An attestation key: P-256, restricted, signing, fixed to its TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey {
    name: KeyName,
    key: p256::ecdsa::VerifyingKey,
}

impl AttestationKey {
    /// From a TPMT_PUBLIC; refuses any key that could sign something that the TPM did not make.
    ///
    /// # Errors
    /// [`QuoteError::Malformed`], [`QuoteError::Key`].
    pub fn from_public(public: &[u8]) -> Result<Self, QuoteError> {
        Ok(Self { key: public::attestation_key(public)?, name: public::name_of(public) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its verifying key.
    #[must_use]
    pub fn key(&self) -> &p256::ecdsa::VerifyingKey {
        &self.key
    }
}

impl Quote {
    /// Verifies the signature, then parses, then compares extraData.
    ///
    /// # Errors
    /// Any [`QuoteError`].
    pub fn verify(
        &self,
        key: &AttestationKey,
        binding: &Binding,
    ) -> Result<VerifiedQuote, QuoteError> {
        let signature = signature(&self.signature)?;
        if self.attest.len() > STRUCTURE_BYTES_MAX {
            return Err(attest("too long"));
        }
        if !ecdsa::verifies(&key.key, &self.attest, &signature) {
            return Err(QuoteError::Signature);
        }
        let quote = parse(&self.attest, key)?;
        if quote.extra_data != binding.extra_data() {
            return Err(QuoteError::ExtraData);
        }
        Ok(quote)
    }
}

fn attest(why: &'static str) -> QuoteError {
    QuoteError::Malformed { what: "TPMS_ATTEST", why }
}

/// A TPMT_SIGNATURE of ECDSA with SHA-256.
fn signature(bytes: &[u8]) -> Result<Signature, QuoteError> {
    let malformed = |why| QuoteError::Malformed { what: "TPMT_SIGNATURE", why };
    let mut cursor = Cursor::new(bytes);
    let mut head = || Some((cursor.u16_be()?, cursor.u16_be()?));
    if head().ok_or(malformed("cut short"))? != (ALG_ECDSA, ALG_SHA256) {
        return Err(malformed("not ECDSA with SHA-256"));
    }
    let mut numbers = || {
        let r = public::padded(cursor.sized(COORDINATE_BYTES)?)?;
        Some((r, public::padded(cursor.sized(COORDINATE_BYTES)?)?))
    };
    let (r, s) = numbers().ok_or(malformed("cut short or numbers too long"))?;
    if !cursor.is_empty() {
        return Err(malformed("bytes after the end"));
    }
    Signature::from_scalars(r, s).map_err(|_| malformed("r or s outside the group"))
}

/// A TPMS_ATTEST whose signature under `key` was verified.
fn parse(bytes: &[u8], key: &AttestationKey) -> Result<VerifiedQuote, QuoteError> {
    let short = || attest("cut short");
    let mut cursor = Cursor::new(bytes);
    if cursor.u32_be().ok_or_else(short)? != MAGIC {
        return Err(attest("not made by a TPM"));
    }
    if cursor.u16_be().ok_or_else(short)? != ATTEST_QUOTE {
        return Err(attest("not a quote"));
    }
    let qualified_signer = cursor.sized(NAME_BYTES_MAX).ok_or_else(short)?;
    let extra_data = cursor.sized(DATA_BYTES_MAX).ok_or_else(short)?;
    let clock = clock(&mut cursor)?;
    let firmware = cursor.u64_be().ok_or_else(short)?;
    let selection = selection(&mut cursor)?;
    let pcr_digest = cursor.sized(HashAlg::Sha256.digest_bytes()).ok_or_else(short)?;
    if !cursor.is_empty() {
        return Err(attest("bytes after the end"));
    }
    Ok(VerifiedQuote {
        extra_data: extra_data.to_vec(),
        clock,
        firmware,
        selection,
        pcr_digest: pcr_digest.to_vec(),
        signer: key.name.clone(),
        qualified_signer: KeyName::new(qualified_signer.to_vec()),
    })
}

/// TPMS_CLOCK_INFO.
fn clock(cursor: &mut Cursor<'_>) -> Result<ClockInfo, QuoteError> {
    let mut fields = || Some((cursor.u64_be()?, cursor.u32_be()?, cursor.u32_be()?, cursor.u8()?));
    let (clock_ms, reset_count, restart_count, safe) =
        fields().ok_or_else(|| attest("cut short"))?;
    if safe > 1 {
        return Err(attest("TPMI_YES_NO that is neither"));
    }
    Ok(ClockInfo { clock_ms, reset_count, restart_count, safe: safe == 1 })
}

/// TPML_PCR_SELECTION. Empty selections of banks are left out, the others keep their order.
fn selection(cursor: &mut Cursor<'_>) -> Result<Vec<(HashAlg, Vec<PcrIndex>)>, QuoteError> {
    let short = || attest("cut short");
    let count = cursor.u32_be().ok_or_else(short)?;
    if count > BANKS_MAX {
        return Err(attest("too many banks"));
    }
    let mut out: Vec<(HashAlg, Vec<PcrIndex>)> = Vec::new();
    for _ in 0..count {
        let id = cursor.u16_be().ok_or_else(short)?;
        let bytes = usize::from(cursor.u8().ok_or_else(short)?);
        let bits = cursor.take(bytes).ok_or_else(short)?;
        let selected: Vec<usize> = (0..bytes * 8)
            .filter(|bit| bits.get(bit / 8).is_some_and(|b| b >> (bit % 8) & 1 == 1))
            .collect();
        if selected.is_empty() {
            continue;
        }
        let alg = HashAlg::from_tpm(id).ok_or_else(|| attest("a bank that is not known here"))?;
        let indexes: Option<Vec<PcrIndex>> =
            selected.iter().map(|bit| u8::try_from(*bit).ok().and_then(PcrIndex::new)).collect();
        if out.iter().any(|(known, _)| *known == alg) {
            return Err(attest("a bank twice"));
        }
        out.push((alg, indexes.ok_or_else(|| attest("a PCR above 23"))?));
    }
    Ok(out)
}

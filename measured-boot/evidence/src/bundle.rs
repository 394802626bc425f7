//! Evidence: everything that a verifier needs about one box at one moment, in one file.
//!
//! CBOR, fixed-position arrays. Nothing in it is trusted: the quote is verified under the
//! attestation key, the logs are replayed against the quote, the manifest is checked under the
//! release key that the *verifier* has. Made by `attest`, read by `appraise`.

use minicbor::{Decode, Encode, bytes::ByteVec};
use thiserror::Error;

use crate::quote::{Binding, Quote};

/// Version of [`Evidence`].
pub const VERSION: u8 = 1;
/// Most bytes that are parsed.
pub const EVIDENCE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Evidence about one box.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Evidence {
    /// [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// The quote.
    #[n(1)]
    pub quote: Quote,
    /// TPMT_PUBLIC of the attestation key.
    #[n(2)]
    pub ak_public: ByteVec,
    /// What the quote was made for.
    #[n(3)]
    pub binding: Binding,
    /// Values of the quoted registers: TPM_ALG_ID, index, digest; checked against the quote.
    #[n(4)]
    pub pcrs: Vec<PcrClaim>,
    /// The quote that certified the ledger's key when this epoch began.
    #[n(5)]
    pub epoch: Option<EpochQuote>,
    /// The kernel's identity of this boot, 32 hexadecimal digits.
    #[n(6)]
    pub boot_id: String,
    /// Seconds since 1970 by the box's clock: a claim.
    #[n(7)]
    pub taken_s: u64,
    /// Logs; none in short evidence.
    #[n(8)]
    pub logs: Option<Logs>,
    /// The signed reference manifest that came with the image (DSSE); none in short evidence.
    #[n(9)]
    pub manifest: Option<ByteVec>,
    /// The endorsement key; none in short evidence.
    #[n(10)]
    pub ek: Option<Endorsement>,
}

/// One register as the box read it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PcrClaim {
    /// TPM_ALG_ID of the bank.
    #[n(0)]
    pub alg: u16,
    /// 0 to 23.
    #[n(1)]
    pub index: u8,
    /// Its value.
    #[n(2)]
    pub digest: ByteVec,
}

/// The quote of an epoch's begin.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EpochQuote {
    /// The quote.
    #[n(0)]
    pub quote: Quote,
    /// What it was made for; its nonce is the boot id.
    #[n(1)]
    pub binding: Binding,
}

/// Event logs of this boot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Logs {
    /// TCG binary log (crypto-agile): firmware's and stub's events, then PID 1's.
    #[n(0)]
    pub tcg: ByteVec,
    /// PID 1's events in systemd's JSON-SEQ format.
    #[n(1)]
    pub userspace: ByteVec,
}

/// The endorsement key and its certificates.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Endorsement {
    /// TPMT_PUBLIC.
    #[n(0)]
    pub public: ByteVec,
    /// Its X.509 certificate (DER) from the TPM's NV memory; none where the maker stored none.
    #[n(1)]
    pub certificate: Option<ByteVec>,
}

/// Why bytes are no evidence.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BundleError {
    /// Too long.
    #[error("HP-QV-010 evidence: {got} bytes, at most {EVIDENCE_BYTES_MAX}")]
    TooLong {
        /// How long.
        got: usize,
    },
    /// Not CBOR of this shape.
    #[error("HP-QV-011 evidence: {0}; export it again from the box")]
    Syntax(String),
    /// Another version.
    #[error(
        "HP-QV-012 evidence: version {got}, this side reads {VERSION}; use the verifier of that version"
    )]
    Version {
        /// Which.
        got: u8,
    },
}

impl Evidence {
    /// Bytes of the evidence.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        // Into a Vec with infallible field encoders: there is no error to have.
        let _ = minicbor::encode(self, &mut out);
        out
    }

    /// Parses evidence; every byte has to be part of it.
    ///
    /// # Errors
    /// Any [`BundleError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(BundleError::TooLong { got: bytes.len() });
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let evidence: Self =
            decoder.decode().map_err(|error| BundleError::Syntax(error.to_string()))?;
        if decoder.position() != bytes.len() {
            return Err(BundleError::Syntax("bytes after the end".into()));
        }
        if evidence.version != VERSION {
            return Err(BundleError::Version { got: evidence.version });
        }
        Ok(evidence)
    }
}

/// Nonce of an epoch's quote: the sixteen bytes of a boot id in hexadecimal, with or without dashes;
/// empty for any other text.
#[must_use]
pub fn boot_nonce(boot_id: &str) -> Vec<u8> {
    const DIGITS: usize = 32;
    // Only what the kernel writes: else many texts would stand for one boot.
    let kernels = |(at, c): (usize, char)| match c {
        '0'..='9' | 'a'..='f' => true,
        '-' => boot_id.len() == DIGITS + 4 && [8, 13, 18, 23].contains(&at),
        _ => false,
    };
    let digits: Vec<u32> = boot_id.chars().filter_map(|c| c.to_digit(16)).collect();
    if digits.len() != DIGITS || !boot_id.chars().enumerate().all(kernels) {
        return Vec::new();
    }
    digits
        .as_chunks::<2>()
        .0
        .iter()
        .filter_map(|[high, low]| u8::try_from(high << 4 | low).ok())
        .collect()
}

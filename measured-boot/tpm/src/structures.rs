//! The few TPM structures whose bytes are made or compared here (TPM 2.0 Library, Part 2), big-endian.
//!
//! Must never happen here: parsing. tss-esapi and `evidence` parse; this writes what a key of ours
//! has to look like, so that what the TPM returns can be compared byte by byte.

use hookprobe_evidence::{digest::HashAlg, pcr::PcrIndex, quote::ClockInfo};

use crate::trust::Selection;

/// TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, noDA, sign. All keys made here have them.
const SIGNING_KEY: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 18;
/// TPMA_OBJECT: userWithAuth.
const USER_WITH_AUTH: u32 = 1 << 6;
/// TPMA_OBJECT: adminWithPolicy.
const ADMIN_WITH_POLICY: u32 = 1 << 7;
/// TPMA_OBJECT: restricted, signs only what the TPM made.
const RESTRICTED: u32 = 1 << 16;

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_CFB: u16 = 0x0043;
const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_HMAC: u16 = 0x0005;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ECC_NIST_P256: u16 = 0x0003;
/// TPM_GENERATED_VALUE.
const GENERATED: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE.
const ATTEST_QUOTE: u16 = 0x8018;
/// sizeofSelect of 24 registers.
const SELECT_BYTES: usize = 3;

/// A P-256 signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SigningKind {
    /// Restricted: quotes only.
    Attestation,
    /// Not restricted: signs the digests that it is given.
    Session,
}

/// A public area up to its unique part, which the TPM chooses.
pub(crate) type Template = Vec<u8>;

/// TPMT_PUBLIC of a P-256 key with ECDSA and SHA-256, without `unique`.
pub(crate) fn signing_template(kind: SigningKind) -> Template {
    let attributes = match kind {
        SigningKind::Attestation => SIGNING_KEY | USER_WITH_AUTH | RESTRICTED,
        SigningKind::Session => SIGNING_KEY | USER_WITH_AUTH,
    };
    let mut out = Vec::with_capacity(96);
    head(&mut out, ALG_ECC, attributes, &[]);
    for word in [ALG_NULL, ALG_ECDSA, ALG_SHA256, ECC_NIST_P256, ALG_NULL] {
        out.extend(word.to_be_bytes());
    }
    out
}

/// TPMT_PUBLIC of an HMAC-SHA-256 key that only `policy` may use, without `unique`.
pub(crate) fn wrapping_template(policy: &[u8; 32]) -> Template {
    let mut out = Vec::with_capacity(96);
    head(&mut out, ALG_KEYEDHASH, SIGNING_KEY | ADMIN_WITH_POLICY, policy);
    for word in [ALG_HMAC, ALG_SHA256] {
        out.extend(word.to_be_bytes());
    }
    out
}

fn head(out: &mut Vec<u8>, alg: u16, attributes: u32, policy: &[u8]) {
    out.extend(alg.to_be_bytes());
    out.extend(ALG_SHA256.to_be_bytes());
    out.extend(attributes.to_be_bytes());
    sized(out, policy);
}

/// A TPM2B: size and bytes. Everything put in here is shorter than 64 KiB.
pub(crate) fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(size.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(size)));
}

/// TPMT_PUBLIC of a P-256 key whose point is `x`, `y`.
pub(crate) fn signing_public(kind: SigningKind, x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut out = signing_template(kind);
    sized(&mut out, x);
    sized(&mut out, y);
    out
}

/// Whether `public` was made from `template`: the same but for the unique part, which has at most
/// `unique_bytes` (a TPM may leave out leading zeros).
pub(crate) fn is_made_from(public: &[u8], template: &[u8], unique_bytes: usize) -> bool {
    public.len() > template.len()
        && public.len() <= template.len() + unique_bytes
        && public.starts_with(template)
}

/// PolicySecret(TPM_RH_ENDORSEMENT): nobody else may use an endorsement key.
#[rustfmt::skip]
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// TPMA_OBJECT of an endorsement key: fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy,
/// restricted, decrypt.
const EK_ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | ADMIN_WITH_POLICY | RESTRICTED | 1 << 17;
/// Bytes of an RSA-2048 modulus.
pub(crate) const EK_MODULUS_BYTES: usize = 256;

/// Which endorsement key (TCG EK Credential Profile for TPM Family 2.0, 2.2.1 and B.3.3, B.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EkKind {
    /// Template L-1: RSA 2048.
    Rsa,
    /// Template L-2: P-256.
    P256,
}

impl EkKind {
    /// Of an endorsement key's public area.
    pub(crate) fn of(public: &[u8]) -> Self {
        if public.starts_with(&ALG_ECC.to_be_bytes()) { Self::P256 } else { Self::Rsa }
    }

    /// Where the maker leaves the key (TCG TPM v2.0 Provisioning Guidance, 7.8).
    pub(crate) fn handle(self) -> u32 {
        match self {
            Self::Rsa => 0x8101_0001,
            Self::P256 => 0x8101_0002,
        }
    }

    /// NV index of its certificate.
    pub(crate) fn certificate(self) -> u32 {
        match self {
            Self::Rsa => 0x01c0_0002,
            Self::P256 => 0x01c0_000a,
        }
    }

    /// TPMT_PUBLIC without `unique`.
    pub(crate) fn template(self) -> Template {
        let mut out = Vec::with_capacity(64);
        let alg = match self {
            Self::Rsa => ALG_RSA,
            Self::P256 => ALG_ECC,
        };
        head(&mut out, alg, EK_ATTRIBUTES, &EK_POLICY);
        for word in [ALG_AES, 128, ALG_CFB, ALG_NULL] {
            out.extend(word.to_be_bytes());
        }
        match self {
            // 2048 bits, exponent 65537.
            Self::Rsa => out.extend([0x08, 0x00, 0x00, 0x00, 0x00, 0x00]),
            Self::P256 => {
                for word in [ECC_NIST_P256, ALG_NULL] {
                    out.extend(word.to_be_bytes());
                }
            }
        }
        out
    }

    /// TPMT_PUBLIC to make it from: `unique` is all zero.
    pub(crate) fn public(self) -> Vec<u8> {
        let mut out = self.template();
        match self {
            Self::Rsa => sized(&mut out, &[0; EK_MODULUS_BYTES]),
            Self::P256 => {
                sized(&mut out, &[0; 32]);
                sized(&mut out, &[0; 32]);
            }
        }
        out
    }

    /// Most bytes of `unique`.
    pub(crate) fn unique_bytes(self) -> usize {
        match self {
            Self::Rsa => 2 + EK_MODULUS_BYTES,
            Self::P256 => P256_UNIQUE_BYTES,
        }
    }
}

/// `unique` of a P-256 key: two sized coordinates of 32 bytes.
pub(crate) const P256_UNIQUE_BYTES: usize = 2 * (2 + 32);
/// `unique` of a keyed-hash key: one sized SHA-256.
pub(crate) const KEYEDHASH_UNIQUE_BYTES: usize = 2 + 32;

/// Name of an object with name algorithm SHA-256.
pub(crate) fn name_of(public: &[u8]) -> Vec<u8> {
    let mut name = ALG_SHA256.to_be_bytes().to_vec();
    name.extend(HashAlg::Sha256.digest(&[public]).as_bytes());
    name
}

/// TPMT_SIGNATURE, ECDSA with SHA-256.
pub(crate) fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(72);
    out.extend(ALG_ECDSA.to_be_bytes());
    out.extend(ALG_SHA256.to_be_bytes());
    sized(&mut out, r);
    sized(&mut out, s);
    out
}

/// What a fake quotes.
#[derive(Debug)]
pub(crate) struct AttestFields<'a> {
    pub(crate) signer: &'a [u8],
    pub(crate) extra_data: &'a [u8],
    pub(crate) clock: ClockInfo,
    pub(crate) firmware: u64,
    pub(crate) selection: &'a Selection,
    pub(crate) pcr_digest: &'a [u8],
}

impl AttestFields<'_> {
    /// TPMS_ATTEST.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.extend(GENERATED.to_be_bytes());
        out.extend(ATTEST_QUOTE.to_be_bytes());
        sized(&mut out, self.signer);
        sized(&mut out, self.extra_data);
        out.extend(self.clock.clock_ms.to_be_bytes());
        out.extend(self.clock.reset_count.to_be_bytes());
        out.extend(self.clock.restart_count.to_be_bytes());
        out.push(u8::from(self.clock.safe));
        out.extend(self.firmware.to_be_bytes());
        // A TPML counts in 32 bits; there are at most four banks.
        out.extend(u32::try_from(self.selection.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (bank, indexes) in self.selection {
            out.extend((*bank as u16).to_be_bytes());
            out.push(SELECT_BYTES as u8);
            out.extend(bitmap(indexes));
        }
        sized(&mut out, self.pcr_digest);
        out
    }
}

/// TPMS_PCR_SELECT: bit `index` of a little-endian bit string.
fn bitmap(indexes: &[PcrIndex]) -> [u8; SELECT_BYTES] {
    let bits = indexes.iter().fold(0u32, |bits, index| bits | 1 << index.get());
    let [first, second, third, _] = bits.to_le_bytes();
    [first, second, third]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_little_endian_bit_strings() {
        let indexes = [0, 11, 13, 23].map(|index| PcrIndex::new(index).unwrap());
        assert_eq!(bitmap(&indexes), [0x01, 0x28, 0x80]);
    }

    #[test]
    fn another_attribute_is_another_template() {
        let attestation = signing_template(SigningKind::Attestation);
        let public = signing_public(SigningKind::Session, &[1; 32], &[2; 32]);
        assert!(is_made_from(&public, &signing_template(SigningKind::Session), P256_UNIQUE_BYTES));
        assert!(!is_made_from(&public, &attestation, P256_UNIQUE_BYTES));
        assert!(!is_made_from(&attestation, &attestation, P256_UNIQUE_BYTES));
    }
}

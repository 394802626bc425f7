//! TPMT_PUBLIC (TPM 2.0 Library, Part 2, 12.2.4) of the two kinds of keys that the box has: P-256
//! attestation keys, and endorsement keys of RSA 2048 or P-256.
//!
//! Must never happen here: a key with attributes under which it would sign, or decrypt, what others
//! chose. Constants are those of Part 2, 6 and 8.3.

use rsa::BoxedUint;
use sha2::{Digest as _, Sha256};

#[cfg(any(test, feature = "sample"))]
use crate::cursor::put_sized;
use crate::{
    cursor::Cursor,
    quote::{KeyName, QuoteError, STRUCTURE_BYTES_MAX},
};

pub(crate) const ALG_RSA: u16 = 0x0001;
pub(crate) const ALG_AES: u16 = 0x0006;
pub(crate) const ALG_SHA256: u16 = 0x000b;
pub(crate) const ALG_NULL: u16 = 0x0010;
pub(crate) const ALG_ECDSA: u16 = 0x0018;
pub(crate) const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
pub(crate) const CURVE_P256: u16 = 0x0003;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
pub(crate) const USER_WITH_AUTH: u32 = 1 << 6;
const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
pub(crate) const SIGN: u32 = 1 << 18;

/// Bytes of a coordinate of P-256.
pub(crate) const COORDINATE_BYTES: usize = 32;
const EK_MODULUS_BITS: u16 = 2048;
/// What an exponent of 0 in a public area stands for (Part 2, 12.2.3.5).
const EXPONENT_DEFAULT: u32 = 65537;

/// PolicySecret(TPM_RH_ENDORSEMENT), authPolicy of the templates L-1 and L-2 (TCG EK Credential Profile,
/// B.3.3 and B.6.2).
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

fn malformed(why: &'static str) -> QuoteError {
    QuoteError::Malformed { what: "TPMT_PUBLIC", why }
}

/// What all public areas begin with.
struct Head<'a> {
    attributes: u32,
    policy: &'a [u8],
    rest: Cursor<'a>,
}

fn head(public: &[u8], kind: u16) -> Result<Head<'_>, QuoteError> {
    let short = malformed("cut short");
    if public.len() > STRUCTURE_BYTES_MAX {
        return Err(malformed("too long"));
    }
    let mut rest = Cursor::new(public);
    let mut parse = || Some((rest.u16_be()?, rest.u16_be()?, rest.u32_be()?, rest.sized(64)?));
    let (found, name_alg, attributes, policy) = parse().ok_or(short)?;
    if found != kind {
        return Err(QuoteError::Key("of another type"));
    }
    if name_alg != ALG_SHA256 {
        return Err(QuoteError::Key("its name is not by SHA-256"));
    }
    Ok(Head { attributes, policy, rest })
}

/// 0x000b and the SHA-256 of a public area.
pub(crate) fn name_of(public: &[u8]) -> KeyName {
    let mut name = ALG_SHA256.to_be_bytes().to_vec();
    name.extend_from_slice(&Sha256::digest(public));
    KeyName::new(name)
}

/// A number of at most [`COORDINATE_BYTES`] as exactly so many: TPMs may leave out leading zeros.
pub(crate) fn padded(number: &[u8]) -> Option<[u8; COORDINATE_BYTES]> {
    let mut out = [0; COORDINATE_BYTES];
    let start = COORDINATE_BYTES.checked_sub(number.len())?;
    out.get_mut(start..)?.copy_from_slice(number);
    Some(out)
}

/// The verifying key in the public area of an attestation key.
pub(crate) fn attestation_key(public: &[u8]) -> Result<p256::ecdsa::VerifyingKey, QuoteError> {
    let Head { attributes, mut rest, .. } = head(public, ALG_ECC)?;
    let wanted = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;
    if attributes & (wanted | DECRYPT | ENCRYPTED_DUPLICATION) != wanted {
        return Err(QuoteError::Key(
            "not restricted, signing only, made in its TPM and fixed to it",
        ));
    }
    if rest.u16_be().ok_or(malformed("cut short"))? != ALG_NULL {
        return Err(QuoteError::Key("a signing key with a symmetric algorithm"));
    }
    let mut words = || Some([rest.u16_be()?, rest.u16_be()?, rest.u16_be()?, rest.u16_be()?]);
    if words().ok_or(malformed("cut short"))? != [ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL] {
        return Err(QuoteError::Key("not ECDSA with SHA-256 on P-256"));
    }
    let key = point(&mut rest)?;
    if !rest.is_empty() {
        return Err(malformed("bytes after the end"));
    }
    Ok(key)
}

/// TPMT_PUBLIC of an attestation key, as a TPM would make it.
#[cfg(any(test, feature = "sample"))]
pub(crate) fn attestation_area(key: &p256::ecdsa::VerifyingKey) -> Vec<u8> {
    let attributes =
        FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | RESTRICTED | SIGN;
    let mut out = [ALG_ECC.to_be_bytes(), ALG_SHA256.to_be_bytes()].concat();
    out.extend_from_slice(&attributes.to_be_bytes());
    put_sized(&mut out, &[]);
    for word in [ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let sec1 = key.to_sec1_point(false);
    for coordinate in [sec1.x(), sec1.y()] {
        put_sized(&mut out, coordinate.map_or(&[][..], |bytes| bytes));
    }
    out
}

/// The encrypting half of an endorsement key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncryptingKey {
    /// RSA 2048.
    Rsa(rsa::PublicKey),
    /// A point on P-256; the type is a verifying key's, it verifies nothing.
    P256(p256::ecdsa::VerifyingKey),
}

/// An endorsement key: restricted, decrypting, fixed to its TPM (TCG EK Credential Profile, templates
/// L-1: RSA 2048, and L-2: P-256).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    name: KeyName,
    key: EncryptingKey,
}

impl EndorsementKey {
    /// From a TPMT_PUBLIC; refuses what is not made by one of the templates.
    ///
    /// # Errors
    /// [`QuoteError::Malformed`], [`QuoteError::Key`].
    pub fn from_public(public: &[u8]) -> Result<Self, QuoteError> {
        let p256 = public.starts_with(&ALG_ECC.to_be_bytes());
        let Head { attributes, policy, mut rest } =
            head(public, if p256 { ALG_ECC } else { ALG_RSA })?;
        let wanted = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT;
        if attributes & (wanted | SIGN | ENCRYPTED_DUPLICATION) != wanted || policy != EK_POLICY {
            return Err(QuoteError::Key("endorsement key: not made by the template L-1 or L-2"));
        }
        let mut symmetric = || Some([rest.u16_be()?, rest.u16_be()?, rest.u16_be()?]);
        if symmetric().ok_or(malformed("cut short"))? != [ALG_AES, 128, ALG_CFB] {
            return Err(QuoteError::Key("endorsement key: not AES-128-CFB inside"));
        }
        let key = if p256 {
            EncryptingKey::P256(endorsement_point(&mut rest)?)
        } else {
            EncryptingKey::Rsa(endorsement_modulus(&mut rest)?)
        };
        if !rest.is_empty() {
            return Err(malformed("bytes after the end"));
        }
        Ok(Self { name: name_of(public), key })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its encrypting half.
    #[must_use]
    pub fn key(&self) -> &EncryptingKey {
        &self.key
    }

    /// Qualified name (Part 1, 26.5) of a key called `name` directly under this one: what a quote
    /// of that key has as its signer.
    #[must_use]
    pub fn qualified_child(&self, name: &KeyName) -> KeyName {
        /// TPM_RH_ENDORSEMENT, which is the hierarchy's name too.
        const ENDORSEMENT: [u8; 4] = 0x4000_000b_u32.to_be_bytes();
        let join = |parent: &[u8], child: &KeyName| {
            let mut bytes = parent.to_vec();
            bytes.extend_from_slice(child.as_bytes());
            name_of(&bytes)
        };
        join(join(&ENDORSEMENT, &self.name).as_bytes(), name)
    }
}

/// TPMS_RSA_PARMS behind its symmetric part, and TPM2B_PUBLIC_KEY_RSA.
fn endorsement_modulus(rest: &mut Cursor<'_>) -> Result<rsa::PublicKey, QuoteError> {
    let mut parameters = || Some(([rest.u16_be()?, rest.u16_be()?], rest.u32_be()?));
    let (scheme_bits, exponent) = parameters().ok_or(malformed("cut short"))?;
    if scheme_bits != [ALG_NULL, EK_MODULUS_BITS] || ![0, EXPONENT_DEFAULT].contains(&exponent) {
        return Err(QuoteError::Key("endorsement key: not RSA 2048 with exponent 65537"));
    }
    let bytes = usize::from(EK_MODULUS_BITS / 8);
    let modulus = rest.sized(bytes).ok_or(malformed("cut short"))?;
    if modulus.len() != bytes {
        return Err(malformed("modulus of another length"));
    }
    rsa_key(modulus)
}

/// TPMS_ECC_PARMS behind its symmetric part, and TPMS_ECC_POINT.
fn endorsement_point(rest: &mut Cursor<'_>) -> Result<p256::ecdsa::VerifyingKey, QuoteError> {
    let mut words = || Some([rest.u16_be()?, rest.u16_be()?, rest.u16_be()?]);
    if words().ok_or(malformed("cut short"))? != [ALG_NULL, CURVE_P256, ALG_NULL] {
        return Err(QuoteError::Key("endorsement key: not on P-256, or with a scheme"));
    }
    point(rest)
}

/// TPMS_ECC_POINT on P-256.
fn point(rest: &mut Cursor<'_>) -> Result<p256::ecdsa::VerifyingKey, QuoteError> {
    let mut point = || Some((rest.sized(COORDINATE_BYTES)?, rest.sized(COORDINATE_BYTES)?));
    let (x, y) = point().ok_or(malformed("cut short"))?;
    let outside = || QuoteError::Key("no point on P-256");
    let mut sec1 = vec![0x04];
    sec1.extend_from_slice(&padded(x).ok_or_else(outside)?);
    sec1.extend_from_slice(&padded(y).ok_or_else(outside)?);
    p256::ecdsa::VerifyingKey::from_sec1_bytes(&sec1).map_err(|_| outside())
}

fn rsa_key(modulus: &[u8]) -> Result<rsa::PublicKey, QuoteError> {
    let why = || QuoteError::Key("endorsement key: no RSA modulus");
    let n = BoxedUint::from_be_slice(modulus, u32::from(EK_MODULUS_BITS)).map_err(|_| why())?;
    rsa::PublicKey::new(n, BoxedUint::from(u64::from(EXPONENT_DEFAULT))).map_err(|_| why())
}

//! Certificates of endorsement keys (TCG EK Credential Profile, 3.1; RFC 5280).
//!
//! A certificate is worth something only when one of the verifier's own certificates signed it.
//! There is no path building: each certificate that the verifier gives is trusted by itself, so
//! that a chain is one signature long. Must never happen here: a maker's name that is believed
//! before the signature was verified raising anything (that a TPM calls itself software lowers).

pub mod revocation;

use std::fmt;

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::{Pkcs1v15Sign, pkcs1::DecodeRsaPublicKey as _};
use sha2::{Digest as _, Sha256, Sha384};
use thiserror::Error;
use x509_cert::{
    der::{
        Decode as _,
        asn1::{AnyRef, ObjectIdentifier},
    },
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    spki::SubjectPublicKeyInfoOwned,
};

use crate::{
    cursor::Cursor,
    public::{EncryptingKey, EndorsementKey},
    tcg,
};

/// Longest certificate; those of TPMs have 0.7 to 1.5 KiB.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// Most certificates of a verifier that are tried.
const ROOTS_MAX: usize = 256;
/// Longest part of a maker's name that is shown.
const NAME_CHARS_MAX: usize = 32;
const SEQUENCE: u8 = 0x30;

const SHA256_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// tcg-kp-EKCertificate
const EK_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
const MANUFACTURER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.1");
const MODEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.2");
const VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.3");
/// Vendor ids (TCG Vendor ID Registry) under which only software TPMs are known: IBM's number as
/// swtpm writes it and as IBM's reference implementation does, Microsoft's reference implementation.
const SOFTWARE_MAKERS: [&str; 3] = ["id:00001014", "id:49424d00", "id:4d534654"];

/// Why a certificate proves nothing.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Not X.509.
    #[error("its certificate is not X.509 ({0})")]
    Syntax(&'static str),
    /// Too early or too late.
    #[error("its certificate is not valid at this time")]
    Expired,
    /// For something else than endorsement keys.
    #[error("its certificate is not one for endorsement keys")]
    Purpose,
    /// Nobody whom the verifier trusts issued it.
    #[error("its certificate was not issued by a maker that this verifier trusts")]
    Untrusted,
    /// Not a list of revoked certificates.
    #[error("a list of revoked certificates is not one ({0})")]
    List(&'static str),
    /// Its issuer took it back; which.
    #[error("{0} was revoked by its issuer")]
    Revoked(&'static str),
    /// Whether its issuer took it back is not known; why.
    #[error("no list says whether its certificate was revoked, {0}")]
    NotListed(&'static str),
}

/// What a certificate says about the TPM. A claim as long as the certificate is not verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maker {
    /// TCG vendor id, e.g. `id:49465800`.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Firmware version.
    pub version: String,
}

impl Maker {
    /// Whether it is one of the known software TPMs.
    #[must_use]
    pub fn is_software(&self) -> bool {
        let manufacturer = self.manufacturer.to_ascii_lowercase();
        SOFTWARE_MAKERS.contains(&manufacturer.as_str())
            || self.model.to_ascii_lowercase().contains("swtpm")
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manufacturer, model, version } = self;
        write!(f, "maker {manufacturer}, model {model}, version {version}")
    }
}

/// A certificate that was parsed and not yet verified.
#[derive(Debug, Clone)]
pub struct Certificate {
    parsed: x509_cert::Certificate,
    /// What the signature is over.
    signed: Vec<u8>,
    maker: Maker,
}

impl Certificate {
    /// From DER; what the TPM's memory holds behind it (padding) is ignored.
    ///
    /// # Errors
    /// [`CertificateError::Syntax`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let not_der = || CertificateError::Syntax("not DER");
        let (whole, content) = element(der).ok_or_else(not_der)?;
        if whole.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::Syntax("too long"));
        }
        let (signed, _) = element(content).ok_or_else(not_der)?;
        let parsed = x509_cert::Certificate::from_der(whole).map_err(|_| not_der())?;
        if parsed.signature_algorithm() != parsed.tbs_certificate().signature() {
            return Err(CertificateError::Syntax("two signature algorithms"));
        }
        let maker = maker(&parsed)?;
        Ok(Self { parsed, signed: signed.to_vec(), maker })
    }

    /// Who made the TPM, by the certificate.
    #[must_use]
    pub fn maker(&self) -> &Maker {
        &self.maker
    }

    /// Whether it is about `key`.
    #[must_use]
    pub fn is_of(&self, key: &EndorsementKey) -> bool {
        let info = self.parsed.tbs_certificate().subject_public_key_info();
        match key.key() {
            EncryptingKey::Rsa(key) => rsa_key(info).is_some_and(|rsa| rsa == *key),
            EncryptingKey::P256(key) => p256_key(info).is_some_and(|p256| p256 == *key),
        }
    }

    /// Whether one of `roots` (DER) issued it, and it is valid at `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// [`CertificateError::Purpose`], [`CertificateError::Expired`], [`CertificateError::Untrusted`].
    pub fn verify(&self, roots: &[Vec<u8>], now_s: u64) -> Result<(), CertificateError> {
        let usage = self.parsed.tbs_certificate().get_extension::<ExtendedKeyUsage>();
        match usage {
            Ok(None) => {}
            Ok(Some((_, usage))) if usage.0.contains(&EK_USAGE) => {}
            _ => return Err(CertificateError::Purpose),
        }
        if !self.is_valid_at(now_s) {
            return Err(CertificateError::Expired);
        }
        let issued =
            roots.iter().take(ROOTS_MAX).filter_map(|der| Self::parse(der).ok()).any(|issuer| {
                issuer.is_valid_at(now_s) && issuer.may_issue() && issuer.issued(self)
            });
        issued.then_some(()).ok_or(CertificateError::Untrusted)
    }

    fn is_valid_at(&self, now_s: u64) -> bool {
        let validity = self.parsed.tbs_certificate().validity();
        let from = validity.not_before.to_unix_duration().as_secs();
        let to = validity.not_after.to_unix_duration().as_secs();
        (from..=to).contains(&now_s)
    }

    fn may_issue(&self) -> bool {
        let tbs = self.parsed.tbs_certificate();
        let is_ca = matches!(
            tbs.get_extension::<BasicConstraints>(),
            Ok(Some((_, BasicConstraints { ca: true, .. })))
        );
        let may_sign = match tbs.get_extension::<KeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, usage))) => usage.key_cert_sign(),
            Err(_) => false,
        };
        is_ca && may_sign
    }

    /// Whether this certificate's key signed `other` under this certificate's name.
    fn issued(&self, other: &Self) -> bool {
        let (tbs, theirs) = (self.parsed.tbs_certificate(), other.parsed.tbs_certificate());
        let Some(signature) = other.parsed.signature().as_bytes() else {
            return false;
        };
        tbs.subject() == theirs.issuer()
            && verify(
                tbs.subject_public_key_info(),
                &other.parsed.signature_algorithm().oid,
                &other.signed,
                signature,
            )
    }
}

/// One signature, by the algorithms that makers of TPMs use.
fn verify(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &ObjectIdentifier,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let sha384 = [SHA384_RSA, ECDSA_SHA384].contains(algorithm);
    let digest =
        if sha384 { Sha384::digest(message).to_vec() } else { Sha256::digest(message).to_vec() };
    match *algorithm {
        SHA256_RSA => rsa_key(key).is_some_and(|key| {
            key.verify(Pkcs1v15Sign::new::<Sha256>(), &digest, signature).is_ok()
        }),
        SHA384_RSA => rsa_key(key).is_some_and(|key| {
            key.verify(Pkcs1v15Sign::new::<Sha384>(), &digest, signature).is_ok()
        }),
        ECDSA_SHA256 | ECDSA_SHA384 => ecdsa(key, &digest, signature).unwrap_or(false),
        _ => false,
    }
}

fn curve(key: &SubjectPublicKeyInfoOwned) -> Option<ObjectIdentifier> {
    key.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()
}

fn p256_key(key: &SubjectPublicKeyInfoOwned) -> Option<p256::ecdsa::VerifyingKey> {
    let point = key.subject_public_key.as_bytes().filter(|_| curve(key) == Some(P256))?;
    p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()
}

fn ecdsa(key: &SubjectPublicKeyInfoOwned, digest: &[u8], signature: &[u8]) -> Option<bool> {
    match curve(key)? {
        P256 => {
            let key = p256_key(key)?;
            let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
            Some(key.verify_prehash(digest, &signature).is_ok())
        }
        P384 => {
            let point = key.subject_public_key.as_bytes()?;
            let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
            let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
            Some(key.verify_prehash(digest, &signature).is_ok())
        }
        _ => None,
    }
}

/// An RSA key under either of the algorithm identifiers that makers use (rsaEncryption, RSAES-OAEP).
fn rsa_key(info: &SubjectPublicKeyInfoOwned) -> Option<rsa::PublicKey> {
    rsa::PublicKey::from_pkcs1_der(info.subject_public_key.as_bytes()?).ok()
}

/// The TPM's maker in the subject's alternative name (EK Credential Profile, 3.2.9).
fn maker(certificate: &x509_cert::Certificate) -> Result<Maker, CertificateError> {
    let names = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>()
        .map_err(|_| CertificateError::Syntax("its alternative name"))?;
    let mut maker = Maker::default();
    for name in names.iter().flat_map(|(_, names)| &names.0) {
        let GeneralName::DirectoryName(name) = name else {
            continue;
        };
        for attribute in name.iter() {
            let text = AnyRef::from(&attribute.value).value();
            let text = tcg::shown(&String::from_utf8_lossy(text));
            let text = text.chars().take(NAME_CHARS_MAX).collect();
            match attribute.oid {
                MANUFACTURER => maker.manufacturer = text,
                MODEL => maker.model = text,
                VERSION => maker.version = text,
                _ => {}
            }
        }
    }
    Ok(maker)
}

/// The SEQUENCE that `bytes` begin with, and what is in it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut cursor = Cursor::new(bytes);
    if cursor.u8()? != SEQUENCE {
        return None;
    }
    let length = match usize::from(cursor.u8()?) {
        short @ 0..=0x7f => short,
        0x81 => usize::from(cursor.u8()?),
        0x82 => usize::from(cursor.u16_be()?),
        0x83 => usize::from(cursor.u8()?) << 16 | usize::from(cursor.u16_be()?),
        _ => return None,
    };
    let content = cursor.take(length)?;
    let whole = bytes.get(..bytes.len() - cursor.len())?;
    Some((whole, content))
}

//! TPM2_MakeCredential (TPM 2.0 Library, Part 1, 24) without a TPM: a secret that only the TPM of an
//! endorsement key can open, and only when a key with a certain name is in it.
//!
//! With it a verifier proves that an attestation key belongs to an endorsement key. Must never
//! happen here: randomness of its own; the caller brings fresh bytes for each credential.

use aes::cipher::KeyIvInit as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::{
    ProjectivePoint,
    ecdsa::{SigningKey, VerifyingKey},
};
use rsa::{
    Oaep,
    rand_core::{TryCryptoRng, TryRng},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    cursor::put_sized,
    public::{EncryptingKey, EndorsementKey},
    quote::KeyName,
};

/// Random bytes that one credential needs: a seed and what OAEP adds, or a number to try twice.
pub const RANDOM_BYTES: usize = SEED_BYTES + OAEP_BYTES;
/// Longest secret: a digest of the endorsement key's name algorithm.
pub const SECRET_BYTES_MAX: usize = 32;
const SEED_BYTES: usize = 32;
const OAEP_BYTES: usize = 32;
const AES_KEY_BYTES: usize = 16;
const LABEL: &[u8] = b"IDENTITY\0";

/// Why no credential can be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CredentialError {
    /// Too long.
    #[error("HP-QV-024 credential: a secret of {got} bytes, at most {SECRET_BYTES_MAX}")]
    Secret {
        /// How long.
        got: usize,
    },
    /// The key can't encrypt.
    #[error("HP-QV-025 credential: the endorsement key can't be used; enrol the box again")]
    Encrypt,
}

/// Both halves, as TPM2_ActivateCredential takes them, without their size fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// TPM2B_ID_OBJECT.
    pub credential: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET.
    pub secret: Vec<u8>,
}

/// Wraps `secret` for the TPM of `ek`, to be given out when the key called `name` is in it.
///
/// # Errors
/// Any [`CredentialError`].
pub fn make_credential(
    ek: &EndorsementKey,
    name: &KeyName,
    secret: &[u8],
    random: &[u8; RANDOM_BYTES],
) -> Result<Credential, CredentialError> {
    if secret.len() > SECRET_BYTES_MAX {
        return Err(CredentialError::Secret { got: secret.len() });
    }
    let (seed, encrypted) = match ek.key() {
        EncryptingKey::Rsa(key) => rsa_seed(key, random),
        EncryptingKey::P256(key) => p256_seed(key, random),
    }
    .ok_or(CredentialError::Encrypt)?;
    let mut identity = Vec::with_capacity(2 + SECRET_BYTES_MAX);
    put_sized(&mut identity, secret);
    let key = kdfa(&seed, b"STORAGE", name.as_bytes());
    let (key, _) = key.split_at(AES_KEY_BYTES);
    cfb_mode::Encryptor::<aes::Aes128>::new_from_slices(key, &[0; 16])
        .map_err(|_| CredentialError::Encrypt)?
        .encrypt(&mut identity);

    let integrity = hmac(&kdfa(&seed, b"INTEGRITY", &[]), &[&identity, name.as_bytes()]);
    let mut credential = Vec::with_capacity(2 + 32 + identity.len());
    put_sized(&mut credential, &integrity);
    credential.extend_from_slice(&identity);
    Ok(Credential { credential, secret: encrypted })
}

/// A seed, and what the TPM takes it from: the seed itself under OAEP (Part 1, B.4 and B.10).
fn rsa_seed(key: &rsa::PublicKey, random: &[u8; RANDOM_BYTES]) -> Option<([u8; 32], Vec<u8>)> {
    let (seed, oaep) = random.split_at(SEED_BYTES);
    let padding = Oaep::<Sha256>::new_with_label(LABEL);
    let encrypted = key.encrypt(&mut Given(oaep), padding, seed).ok()?;
    Some((seed.try_into().ok()?, encrypted))
}

/// The same of one-pass Diffie-Hellman: KDFe over the shared point, and our half (Part 1, C.6.1, C.6.4
/// and 11.4.10.3).
fn p256_seed(key: &VerifyingKey, random: &[u8; RANDOM_BYTES]) -> Option<([u8; 32], Vec<u8>)> {
    // One number in 2^32 is none of the group: then the other half.
    let ours =
        random.chunks_exact(SEED_BYTES).find_map(|half| SigningKey::from_slice(half).ok())?;
    let shared = ProjectivePoint::from(*key.as_affine()) * **ours.as_nonzero_scalar();
    let shared = VerifyingKey::from_affine(shared.to_affine()).ok()?;
    let (x, y) = coordinates(ours.verifying_key())?;
    let seed = Sha256::new()
        .chain_update(1u32.to_be_bytes())
        .chain_update(coordinates(&shared)?.0)
        .chain_update(LABEL)
        .chain_update(x)
        .chain_update(coordinates(key)?.0)
        .finalize();
    let mut point = Vec::with_capacity(2 * (2 + 32));
    put_sized(&mut point, &x);
    put_sized(&mut point, &y);
    Some((seed.into(), point))
}

fn coordinates(key: &VerifyingKey) -> Option<([u8; 32], [u8; 32])> {
    let sec1 = key.to_sec1_point(false);
    let bytes = sec1.as_bytes().get(1..)?;
    let (x, y) = bytes.split_at_checked(SEED_BYTES)?;
    Some((x.try_into().ok()?, y.try_into().ok()?))
}

/// KDFa (Part 1, 11.4.10.2) with SHA-256, one block. The block is the same for every shorter output
/// but for the bits in it: 128 with a context (a key for AES), 256 without (a key for HMAC).
fn kdfa(seed: &[u8], label: &[u8], context: &[u8]) -> [u8; 32] {
    let bits: u32 = if context.is_empty() { 256 } else { 128 };
    hmac(seed, &[&1u32.to_be_bytes(), label, b"\0", context, &bits.to_be_bytes()])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of every length: there is no error to have.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The caller's random bytes, each used once.
struct Given<'a>(&'a [u8]);

/// More was asked for than was given.
#[derive(Debug, Error)]
#[error("no random bytes left")]
struct Empty;

impl TryRng for Given<'_> {
    type Error = Empty;

    fn try_next_u32(&mut self) -> Result<u32, Empty> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Empty> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Empty> {
        let (head, tail) = self.0.split_at_checked(out.len()).ok_or(Empty)?;
        out.copy_from_slice(head);
        self.0 = tail;
        Ok(())
    }
}

impl TryCryptoRng for Given<'_> {}

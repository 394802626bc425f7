//! Hash algorithms of TPM banks (TCG Algorithm Registry) and their digests.

use std::fmt;

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::hex;

/// A bank's algorithm. The number is its TPM_ALG_ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum HashAlg {
    /// TPM_ALG_SHA1
    Sha1 = 0x0004,
    /// TPM_ALG_SHA256
    Sha256 = 0x000b,
    /// TPM_ALG_SHA384
    Sha384 = 0x000c,
    /// TPM_ALG_SHA512
    Sha512 = 0x000d,
}

impl HashAlg {
    /// All that are known, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// From a TPM_ALG_ID.
    #[must_use]
    pub fn from_tpm(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| *alg as u16 == id)
    }

    /// From the name in event logs.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    /// The name in event logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Digest of `parts`, one after the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::new(self);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }
}

impl fmt::Display for HashAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of the longest digest.
const BYTES_MAX: usize = 64;

/// A digest of one algorithm. An appraisal handles thousands: they lie in place, zeros behind them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    alg: HashAlg,
    bytes: [u8; BYTES_MAX],
}

impl Digest {
    /// From raw bytes; `None` when the length is not the algorithm's.
    #[must_use]
    pub fn new(alg: HashAlg, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == alg.digest_bytes()).then(|| Self::of(alg, bytes))
    }

    /// All zero: a PCR after reset.
    #[must_use]
    pub fn zero(alg: HashAlg) -> Self {
        Self { alg, bytes: [0; BYTES_MAX] }
    }

    /// At most [`BYTES_MAX`] bytes are taken.
    fn of(alg: HashAlg, bytes: &[u8]) -> Self {
        let mut digest = Self::zero(alg);
        for (place, byte) in digest.bytes.iter_mut().zip(bytes) {
            *place = *byte;
        }
        digest
    }

    /// From hexadecimal digits of either case.
    #[must_use]
    pub fn from_hex(alg: HashAlg, text: &str) -> Option<Self> {
        let mut digest = Self::zero(alg);
        let place = digest.bytes.get_mut(..alg.digest_bytes())?;
        hex::fill(text, place).then_some(digest)
    }

    /// Whose digest.
    #[must_use]
    pub fn alg(&self) -> HashAlg {
        self.alg
    }

    /// Raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.alg.digest_bytes()).unwrap_or_default()
    }

    /// Lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::hex(self.as_bytes())
    }

    /// Whether `text` is [`Self::hex`].
    #[must_use]
    pub fn is_hex(&self, text: &str) -> bool {
        hex::is_hex(self.as_bytes(), text)
    }

    /// The first eight hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex().chars().take(8).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.alg, self.hex())
    }
}

/// Hashes a stream in one algorithm.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-1
    Sha1(Sha1),
    /// SHA-256
    Sha256(Sha256),
    /// SHA-384
    Sha384(Sha384),
    /// SHA-512
    Sha512(Sha512),
}

impl Hasher {
    /// At the start.
    #[must_use]
    pub fn new(alg: HashAlg) -> Self {
        match alg {
            HashAlg::Sha1 => Self::Sha1(Sha1::new()),
            HashAlg::Sha256 => Self::Sha256(Sha256::new()),
            HashAlg::Sha384 => Self::Sha384(Sha384::new()),
            HashAlg::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha1(hasher) => Digest::of(HashAlg::Sha1, &hasher.finalize()),
            Self::Sha256(hasher) => Digest::of(HashAlg::Sha256, &hasher.finalize()),
            Self::Sha384(hasher) => Digest::of(HashAlg::Sha384, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::of(HashAlg::Sha512, &hasher.finalize()),
        }
    }
}

/// Hashes one stream in several algorithms at once.
#[derive(Debug, Clone)]
pub struct MultiHasher(Vec<Hasher>);

impl MultiHasher {
    /// One hasher per bank.
    #[must_use]
    pub fn new(banks: &[HashAlg]) -> Self {
        Self(banks.iter().copied().map(Hasher::new).collect())
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for hasher in &mut self.0 {
            hasher.update(bytes);
        }
    }

    /// One digest per bank, in the order given.
    #[must_use]
    pub fn finish(self) -> Vec<Digest> {
        self.0.into_iter().map(Hasher::finish).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_of_abc() {
        let check = |alg: HashAlg, expect: &str| {
            assert!(alg.digest(&[b"a", b"bc"]).hex().starts_with(expect))
        };
        check(HashAlg::Sha1, "a9993e364706816aba3e");
        check(HashAlg::Sha256, "ba7816bf8f01cfea4141");
        check(HashAlg::Sha384, "cb00753f45a35e8bb5a0");
        check(HashAlg::Sha512, "ddaf35a193617abacc41");
    }

    #[test]
    fn hex_round_trip_and_refusals() {
        let digest = HashAlg::Sha256.digest(&[b"x"]);
        assert_eq!(Digest::from_hex(HashAlg::Sha256, &digest.hex()).unwrap(), digest);
        assert!(Digest::from_hex(HashAlg::Sha384, &digest.hex()).is_none());
        assert!(Digest::from_hex(HashAlg::Sha256, &"g".repeat(64)).is_none());
        assert!(Digest::from_hex(HashAlg::Sha256, &"\u{e9}".repeat(32)).is_none());
    }
}

//! Platform configuration registers (TPM 2.0 Library, Part 1, section 17) and their replay.

use std::{collections::BTreeMap, fmt};

use crate::digest::{Digest, HashAlg};

/// Index of a PCR, 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrIndex(u8);

impl PcrIndex {
    /// Programs that the firmware started: the boot blob, the kernel in it.
    pub const LOADER: Self = Self(4);
    /// UKI sections, by systemd-stub.
    pub const UKI: Self = Self(11);
    /// Site configuration.
    pub const SITE: Self = Self(12);
    /// Service closures.
    pub const SERVICES: Self = Self(13);
    /// The state volume.
    pub const STATE: Self = Self(15);

    /// `None` above 23.
    #[must_use]
    pub fn new(index: u8) -> Option<Self> {
        (index < 24).then_some(Self(index))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `PCR := H(PCR || digest)`.
#[must_use]
pub fn extend(pcr: &Digest, digest: &Digest) -> Digest {
    pcr.alg().digest(&[pcr.as_bytes(), digest.as_bytes()])
}

/// PCRs of one or more banks, all zero at the start, as replayed from events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PcrSet(BTreeMap<(HashAlg, PcrIndex), Digest>);

impl PcrSet {
    /// Nothing extended.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Extends the bank of `digest`.
    pub fn extend(&mut self, index: PcrIndex, digest: &Digest) {
        let alg = digest.alg();
        let value = self.0.entry((alg, index)).or_insert_with(|| Digest::zero(alg));
        *value = extend(value, digest);
    }

    /// Value, `None` when nothing was extended in that bank: a PCR without events proves nothing.
    #[must_use]
    pub fn get(&self, alg: HashAlg, index: PcrIndex) -> Option<&Digest> {
        self.0.get(&(alg, index))
    }

    /// All that were extended, by bank and index.
    pub fn iter(&self) -> impl Iterator<Item = (HashAlg, PcrIndex, &Digest)> {
        self.0.iter().map(|((alg, index), digest)| (*alg, *index, digest))
    }
}

//! Assurance levels: how much stands behind a box's word, each with one sentence for people.
//!
//! A level is about the kind of proof, not about its result: an intact box with a software TPM is
//! `T`, however good its quote is. Must never happen here: a level that a claim alone can raise.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much stands behind a box's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// No TPM, or none whose quote was verified.
    L0,
    /// A key that firmware holds.
    L1,
    /// A TPM's quote, without proof of who made the TPM or of the firmware.
    L2,
    /// Measured from the firmware on, by a TPM whose maker vouches for it.
    L3,
    /// That, and the verifier would see a reset or a restored backup.
    L4,
    /// A software TPM: laboratory only.
    T,
}

impl Level {
    /// All.
    pub const ALL: [Self; 6] = [Self::L0, Self::L1, Self::L2, Self::L3, Self::L4, Self::T];

    /// Word in certificates, messages and on screens.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
            Self::T => "T",
        }
    }

    /// From its word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.word() == word)
    }

    /// What it means, in one sentence.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::L0 => "no TPM: the box's word only, never attested",
            Self::L1 => "a key held by firmware: it can be told from other boxes, not what it runs",
            Self::L2 => "a TPM vouches for what it runs; who made the TPM is not proven",
            Self::L3 => "measured from the firmware on; the TPM's maker vouches for it",
            Self::L4 => "as L3, and a reset or a restored backup would be noticed",
            Self::T => "a software TPM: laboratory only, whoever runs the host can forge it",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is known about a box's TPM, each by verification and not by claim, but for `software`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Basis {
    /// A quote was verified.
    pub quote: bool,
    /// Certificate or quote say that it is a software TPM: nobody claims that without being one.
    pub software: bool,
    /// The endorsement key's certificate leads to a maker that the verifier trusts, and the quote's
    /// key is under that endorsement key.
    pub maker: bool,
    /// Registers 0 to 7 have values, and the log explains them.
    pub firmware: bool,
    /// The verifier remembers the TPM's counters, and they only went on.
    pub memory: bool,
}

/// The level that stands on `basis`.
#[must_use]
pub fn level(basis: Basis) -> Level {
    match basis {
        Basis { quote: false, .. } => Level::L0,
        Basis { software: true, .. } => Level::T,
        Basis { maker: true, firmware: true, memory: true, .. } => Level::L4,
        Basis { maker: true, firmware: true, .. } => Level::L3,
        _ => Level::L2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        for level in Level::ALL {
            assert_eq!(Level::from_word(level.word()), Some(level));
            assert!(!level.text().is_empty());
        }
        assert_eq!(Level::from_word("L5"), None);
    }

    #[test]
    fn nothing_raises_a_software_tpm_and_nothing_but_a_quote_raises_from_zero() {
        for bits in 0u8..32 {
            let bit = |at: u8| bits >> at & 1 == 1;
            let basis = Basis {
                quote: bit(0),
                software: bit(1),
                maker: bit(2),
                firmware: bit(3),
                memory: bit(4),
            };
            let expect = match (basis.quote, basis.software, basis.maker && basis.firmware) {
                (false, ..) => Level::L0,
                (true, true, _) => Level::T,
                (true, false, false) => Level::L2,
                (true, false, true) => [Level::L3, Level::L4][usize::from(basis.memory)],
            };
            assert_eq!(level(basis), expect, "{basis:?}");
        }
    }
}

//! Every parser of hostile bytes as a plain function, with seeds to start from.
//!
//! A target must never panic, whatever the bytes. Where there is an encoder, it also holds the law
//! that what was accepted encodes to bytes that are accepted as the same value. No clock, no
//! files, no randomness of its own: the same bytes always do the same. Called by the loop in
//! [`campaign`]; a coverage-guided fuzzer can call [`Target::run`] as it is.

#![expect(clippy::panic, reason = "a panic is how a target says what it found")]

mod app;
mod behaviour;
pub mod campaign;
pub mod mutate;
pub mod mutations;
mod outputs;
mod reputation;
mod rules;
mod seeds;
mod stick;
mod targets;
mod traffic;
mod trust;
mod trust_seeds;

pub use targets::targets;

use std::hash::{DefaultHasher, Hash, Hasher};

/// What a parser did with an input, as a number: inputs that do something new are kept and
/// mutated further, which is as much guidance as stable Rust gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome(u64);

impl Outcome {
    /// From the text of an error. Digits and what stands in quotes are the input's, not the
    /// parser's, and are ignored: else every length would be a new outcome.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut quoted = false;
        Self::hash(text.chars().filter(|char| {
            quoted ^= matches!(char, '"' | '`');
            !quoted && !char.is_ascii_digit()
        }))
    }

    /// From the debug form of a value: its types and its nesting, not what is in it.
    #[must_use]
    pub fn shape(text: &str) -> Self {
        Self::hash(text.chars().filter(|char| char.is_ascii_uppercase() || "{[(,:".contains(*char)))
    }

    fn hash(chars: impl Iterator<Item = char>) -> Self {
        let mut hasher = DefaultHasher::new();
        for char in chars.take(SEEN_CHARS_MAX) {
            char.hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

/// How much of a text tells outcomes apart; more would keep every long list anew.
const SEEN_CHARS_MAX: usize = 200;

/// One parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]) -> Outcome,
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Puts lengths right again, so that mutations get past the outermost check.
    pub repair: fn(&mut [u8]),
    /// Tokens of the format.
    pub dictionary: &'static [&'static [u8]],
}

/// The target called `name`.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

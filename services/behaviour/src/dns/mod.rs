//! Detectors that read DNS: [`tunnel`] and [`dga`].

pub mod dga;
pub mod ngram;
pub mod tunnel;

use hookprobe_reputation::suffix;

/// Longest name of the protocol as text (RFC 1035, section 2.3.4); longer ones are cut.
pub const NAME_BYTES_MAX: usize = 255;

/// A name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    lower: Vec<u8>,
    /// Where the registered domain begins.
    registered_at: usize,
}

impl Name {
    /// Lower case, without a final dot; `None` when there is no registered domain (a public suffix,
    /// a single label, the root).
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        let name = name.get(name.len().saturating_sub(NAME_BYTES_MAX)..).unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let registered_at = lower.len() - suffix::registered_domain(&lower)?.len();
        Some(Self { lower, registered_at })
    }

    /// What somebody registered: the public suffix and one label.
    #[must_use]
    pub fn registered(&self) -> &[u8] {
        self.lower.get(self.registered_at..).unwrap_or_default()
    }

    /// The first label of the registered domain.
    #[must_use]
    pub fn registered_label(&self) -> &[u8] {
        let domain = self.registered();
        domain.split(|byte| *byte == b'.').next().unwrap_or_default()
    }

    /// What stands before the registered domain, without the dot between.
    #[must_use]
    pub fn below(&self) -> &[u8] {
        self.lower.get(..self.registered_at.saturating_sub(1)).unwrap_or_default()
    }

    /// The whole name.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_at_the_public_suffix() {
        let check = |name: &str, below: &str, registered: &str| {
            let name = Name::new(name.as_bytes()).unwrap();
            assert_eq!(name.below(), below.as_bytes());
            assert_eq!(name.registered(), registered.as_bytes());
        };
        check("a.b.Example.CO.UK.", "a.b", "example.co.uk");
        check("example.com", "", "example.com");
        check("x1.pirate.sea", "x1", "pirate.sea");
        for name in ["", ".", "com", "co.uk", "localhost"] {
            assert_eq!(Name::new(name.as_bytes()), None, "{name}");
        }
    }
}

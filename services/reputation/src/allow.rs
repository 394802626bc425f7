//! The box's own allow list: names that the operator never wants refused, whatever a list says.

use crate::name;

/// Most names. 10,000: a person keeps this list; it is searched at each lookup.
pub const ALLOWED_MAX: usize = 10_000;

/// A few names, exact, each with everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    names: Vec<Box<[u8]>>,
    refused: usize,
}

impl AllowList {
    /// From texts; what is no name, or comes after [`ALLOWED_MAX`], is left out and counted. A
    /// public suffix may be allowed: it refuses nothing.
    #[must_use]
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut out = Self::default();
        for text in texts {
            match name::normalise(text) {
                Ok(name) if out.names.len() < ALLOWED_MAX => out.names.push(name.as_bytes().into()),
                _ => out.refused += 1,
            }
        }
        out.names.sort_unstable();
        out.names.dedup();
        out
    }

    /// How many texts were left out.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// The listed tail of a lower-case name.
    #[must_use]
    pub fn find<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        if self.names.is_empty() {
            return None;
        }
        name::tails(name)
            .find(|tail| self.names.binary_search_by(|listed| listed.as_ref().cmp(tail)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_what_is_below() {
        let list = AllowList::new([&b"Good.Example"[..], b"nonsense!", b"a.b.example"]);
        assert_eq!(list.find(b"good.example"), Some(&b"good.example"[..]));
        assert_eq!(list.find(b"x.good.example"), Some(&b"good.example"[..]));
        assert_eq!(list.find(b"notgood.example"), None);
        assert_eq!(list.find(b"b.example"), None);
        assert_eq!(list.refused(), 1);
    }
}

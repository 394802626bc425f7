//! A search for bytes that is prepared when it is first asked.
//!
//! A prepared search is some 250 bytes, most contents of a large set of rules are never looked for:
//! what the prefilter does not find is not asked here.

use std::sync::OnceLock;

use memchr::memmem;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Finder(OnceLock<Box<memmem::Finder<'static>>>);

impl Finder {
    /// Where `pattern` first occurs in `data`; it must be the same pattern every time.
    pub(crate) fn find(&self, pattern: &[u8], data: &[u8]) -> Option<usize> {
        let prepared = self.0.get_or_init(|| Box::new(memmem::Finder::new(pattern).into_owned()));
        debug_assert_eq!(prepared.needle(), pattern, "one finder, one pattern");
        prepared.find(data)
    }
}

#[cfg(test)]
mod tests {
    use super::Finder;

    #[test]
    fn is_prepared_once_and_small_until_then() {
        let finder = Finder::default();
        assert!(size_of::<Finder>() <= 16 && finder.0.get().is_none());
        assert_eq!(finder.find(b"b", b"abab"), Some(1));
        assert_eq!(finder.find(b"b", b"aa"), None);
        assert!(finder.0.get().is_some());
    }
}

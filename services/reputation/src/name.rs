//! Names as lists and lookups see them: lower case, ASCII, no final dot.

use std::net::IpAddr;

use thiserror::Error;

/// Longest name in text (RFC 1035, 2.3.4: 255 bytes on the wire).
pub const NAME_BYTES_MAX: usize = 253;
/// Longest label.
pub const LABEL_BYTES_MAX: usize = 63;
/// Most labels of a listed name, and most suffixes of a name that a lookup tries. 16: the deepest
/// names on public lists have about ten; a hostile name of 127 labels costs no more than this.
pub const LABELS_MAX: usize = 16;

/// Why a text is no name for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("empty name")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`], a label longer than [`LABEL_BYTES_MAX`], or too many labels.
    #[error("name, label or number of labels above the limit")]
    TooLong,
    /// Two dots together, or one at the start.
    #[error("empty label")]
    EmptyLabel,
    /// Bytes outside of ASCII: lists carry the ASCII form (`xn--`).
    #[error("not in ASCII form")]
    NotAscii,
    /// Something other than letters, digits, `-` and `_`.
    #[error("character that no name has")]
    Character,
    /// An address.
    #[error("address, not a name")]
    Address,
    /// One label.
    #[error("single label")]
    SingleLabel,
}

/// A normalised name, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl Name {
    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A name for a list, checked.
///
/// # Errors
/// Any [`NameError`].
pub fn normalise(text: &[u8]) -> Result<Name, NameError> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if !text.is_ascii() {
        return Err(NameError::NotAscii);
    }
    let name = lower(text).ok_or(NameError::TooLong)?;
    let mut labels = 0;
    for label in name.as_bytes().split(|byte| *byte == b'.') {
        labels += 1;
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(NameError::Character);
        }
    }
    let digits_last = name.as_bytes().last().is_some_and(u8::is_ascii_digit);
    if digits_last && str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok()) {
        return Err(NameError::Address);
    }
    match labels {
        1 => Err(NameError::SingleLabel),
        labels if labels > LABELS_MAX => Err(NameError::TooLong),
        _ => Ok(name),
    }
}

/// A name from the wire, in lower case and without a final dot; `None` when it is too long to be
/// one. Odd characters stay: a strange label below a listed name is still below it.
#[must_use]
pub fn lower(text: &[u8]) -> Option<Name> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    let mut name = Name { bytes: [0; NAME_BYTES_MAX], length: text.len() };
    for (to, from) in name.bytes.get_mut(..text.len())?.iter_mut().zip(text) {
        *to = from.to_ascii_lowercase();
    }
    Some(name)
}

/// The name and what is above it, shortest first, from two labels on; at most [`LABELS_MAX`].
pub(crate) fn tails(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.');
    let starts = dots.map(|(at, _)| at + 1).chain([0]);
    starts.skip(1).take(LABELS_MAX).filter_map(|start| name.get(start..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_or_says_why_not() {
        let ok = |text: &str| {
            normalise(text.as_bytes())
                .map(|name| String::from_utf8(name.as_bytes().to_vec()).unwrap())
        };
        assert_eq!(ok("Evil.Example."), Ok("evil.example".into()));
        assert_eq!(ok("_a-b.example"), Ok("_a-b.example".into()));
        assert_eq!(ok(""), Err(NameError::Empty));
        assert_eq!(ok("."), Err(NameError::Empty));
        assert_eq!(ok("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(ok(".a.b"), Err(NameError::EmptyLabel));
        assert_eq!(ok("localhost"), Err(NameError::SingleLabel));
        assert_eq!(ok("192.0.2.1"), Err(NameError::Address));
        assert_eq!(ok("a b.example"), Err(NameError::Character));
        assert_eq!(ok("b\u{fc}cher.example"), Err(NameError::NotAscii));
        assert_eq!(ok(&format!("{}.example", "a".repeat(64))), Err(NameError::TooLong));
        assert_eq!(ok(&"a.".repeat(127)), Err(NameError::TooLong));
        assert_eq!(ok(&"a.".repeat(17)), Err(NameError::TooLong));
    }

    #[test]
    fn tails_from_the_shortest() {
        let all = |name: &str| -> Vec<String> {
            tails(name.as_bytes()).map(|tail| String::from_utf8_lossy(tail).into()).collect()
        };
        assert_eq!(all("a.b.c"), ["b.c", "a.b.c"]);
        assert!(all("a").is_empty());
        assert!(all("").is_empty());
        assert_eq!(all(&"x.".repeat(100)).len(), LABELS_MAX);
    }
}

//! Lines and small grammar that requests and responses share.

use super::Version;
use crate::app::{Config, Events};

/// White space of libhtp.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// Without white space at both ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(start, |at| at + 1);
    text.get(start..end).unwrap_or_default()
}

/// Splits at the first byte for which `stop` holds.
pub(super) fn split_at_first(text: &[u8], stop: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let at = text.iter().position(|byte| stop(*byte)).unwrap_or(text.len());
    text.split_at(at)
}

/// Without the line end, of however many bytes.
pub(super) fn chomp(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    line.get(..end.map_or(0, |end| end + 1)).unwrap_or_default()
}

/// What `gather` found.
pub(super) enum Gathered {
    /// A whole line, with its end.
    Line(Vec<u8>),
    /// More bytes are needed.
    More,
    /// Longer than allowed.
    TooLong,
}

/// Takes a line out of `held` and `rest`.
pub(super) fn gather(held: &mut Vec<u8>, rest: &mut &[u8], config: &Config) -> Gathered {
    let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
    let (now, later) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = later;
    if held.len() + now.len() > config.http_field_bytes_max as usize {
        return Gathered::TooLong;
    }
    held.extend_from_slice(now);
    if end.is_some() { Gathered::Line(std::mem::take(held)) } else { Gathered::More }
}

/// `HTTP/1.1`, with white space and leading zeros that libhtp forgives, but tells.
pub(super) fn version(text: &[u8], events: &mut Events) -> Version {
    let lower = trim(text).to_ascii_lowercase();
    let Some(behind) = lower.strip_prefix(b"http") else { return Version::Invalid };
    let Some(rest) = trim(behind).strip_prefix(b"/") else { return Version::Invalid };
    let start = rest.iter().position(|byte| !is_space(*byte) && *byte != b'0').unwrap_or(0);
    let version = match rest.get(start..) {
        Some(b".9") => Version::V0_9,
        Some(b"1.0") => Version::V1_0,
        Some(b"1.1") => Version::V1_1,
        _ => return Version::Invalid,
    };
    if start > 0 || !behind.starts_with(b"/") {
        events.repeat("protocol_contains_extra_data");
    }
    version
}

/// The first run of digits of a Content-Length value.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let (_, from) = split_at_first(value, |byte| byte.is_ascii_digit());
    let (digits, _) = split_at_first(from, |byte| !byte.is_ascii_digit());
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Notes what stands around the digits of a Content-Length value.
pub(super) fn note_length(value: &[u8], events: &mut Events) {
    let (before, from) = split_at_first(trim(value), |byte| byte.is_ascii_digit());
    let (_, after) = split_at_first(from, |byte| !byte.is_ascii_digit());
    if from.is_empty() {
        return;
    }
    if !before.is_empty() {
        events.repeat("content_length_extra_data_start");
    }
    if !after.is_empty() {
        events.repeat("content_length_extra_data_end");
    }
}

/// Largest chunk (libhtp's limit).
const SIZE_MAX: u64 = 0x7fff_ffff;

/// A chunk size line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Nothing but white space: look at the next line.
    Empty,
    /// A size that can't be: libhtp passes over such a line of a response.
    TooLarge,
    /// So many bytes follow; whether there is an extension.
    Size(u64, bool),
    /// No number.
    Invalid,
}

pub(super) fn chunk(line: &[u8]) -> Chunk {
    let text = trim(line);
    if text.is_empty() {
        return Chunk::Empty;
    }
    let (digits, rest) = split_at_first(text, |byte| !byte.is_ascii_hexdigit());
    let size = std::str::from_utf8(digits).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    match size {
        Some(size) if size <= SIZE_MAX => Chunk::Size(size, rest.contains(&b';')),
        // Larger ones are no sizes but attacks.
        Some(_) => Chunk::TooLarge,
        None => Chunk::Invalid,
    }
}

/// Whether a token may hold this byte (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `value` has `word`, any case.
pub(super) fn contains(value: &[u8], word: &[u8]) -> bool {
    value.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Version, chunk, content_length, version};
    use crate::app::Events;

    #[test]
    fn small_grammar() {
        let mut events = Events::default();
        assert_eq!(version(b"HTTP/1.1", &mut events), Version::V1_1);
        assert_eq!(version(b"HTTP/2.0", &mut events), Version::Invalid);
        assert!(events.is_empty());
        assert_eq!(version(b"http / 01.0", &mut events), Version::V1_0);
        assert_eq!(version(b"HTTP/0.9", &mut events), Version::V0_9);
        assert_eq!(events.iter().collect::<Vec<_>>(), ["protocol_contains_extra_data"; 2]);
        assert_eq!(content_length(b" 12, 12"), Some(12));
        assert_eq!(content_length(b"x"), None);
        assert_eq!(content_length(b"99999999999999999999999"), None);
        assert_eq!(chunk(b"1f;x=y\r\n"), Chunk::Size(31, true));
        assert_eq!(chunk(b"\r\n"), Chunk::Empty);
        assert_eq!(chunk(b"xyz\r\n"), Chunk::Invalid);
        assert_eq!(chunk(b"80000000\r\n"), Chunk::TooLarge);
        assert_eq!(chunk(b"ffffffffffffffffffff\r\n"), Chunk::Invalid);
    }
}

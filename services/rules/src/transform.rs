//! Transforms: what is done to a buffer before it is inspected.

use std::borrow::Cow;

use base64ct::Encoding as _;
use md5::Digest as _;

use crate::{number::integer, pcre, syntax};

/// One transform.
#[derive(Debug)]
pub(crate) enum Transform {
    Lowercase,
    Uppercase,
    StripWhitespace,
    CompressWhitespace,
    UrlDecode,
    Xor(Vec<u8>),
    DotPrefix,
    HeaderLowercase,
    StripPseudoHeaders,
    Pcre(pcre::Regex),
    Md5,
    Sha1,
    Sha256,
    FromBase64 { bytes: usize, offset: usize, mode: Base64 },
    Domain,
    Tld,
}

/// How strict base64 is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base64 {
    /// Up to the first byte that does not belong to it.
    Rfc4648,
    /// Bytes that do not belong to it are passed over.
    Rfc2045,
    /// Nothing but base64.
    Strict,
}

impl Transform {
    /// By keyword; `None` if `name` is no transform.
    pub(crate) fn parse(name: &str, value: Option<&str>) -> Option<Result<Self, String>> {
        Some(Ok(match name {
            "to_lowercase" => Self::Lowercase,
            "to_uppercase" => Self::Uppercase,
            "strip_whitespace" => Self::StripWhitespace,
            "compress_whitespace" => Self::CompressWhitespace,
            "url_decode" => Self::UrlDecode,
            "dotprefix" => Self::DotPrefix,
            "header_lowercase" => Self::HeaderLowercase,
            "strip_pseudo_headers" => Self::StripPseudoHeaders,
            "to_md5" => Self::Md5,
            "to_sha1" => Self::Sha1,
            "to_sha256" => Self::Sha256,
            "domain" => Self::Domain,
            "tld" => Self::Tld,
            "xor" => return Some(xor(value)),
            "pcrexform" => return Some(pcrexform(value)),
            "from_base64" => return Some(from_base64(value)),
            _ => return None,
        }))
    }

    /// The buffer afterwards.
    pub(crate) fn apply<'a>(&self, input: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        match self {
            Self::Lowercase => Cow::Owned(input.to_ascii_lowercase()),
            Self::Uppercase => Cow::Owned(input.to_ascii_uppercase()),
            Self::StripWhitespace => keep(input, |_, byte| !is_space(byte)),
            Self::CompressWhitespace => {
                keep(input, |before, byte| !(is_space(byte) && before.is_some_and(is_space)))
            }
            Self::UrlDecode => Cow::Owned(url_decode(&input)),
            Self::Xor(key) => {
                let bytes = input.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
                Cow::Owned(bytes.collect())
            }
            Self::DotPrefix => {
                let mut out = Vec::with_capacity(input.len() + 1);
                out.push(b'.');
                out.extend_from_slice(&input);
                Cow::Owned(out)
            }
            Self::HeaderLowercase => Cow::Owned(header_lowercase(&input)),
            Self::StripPseudoHeaders => Cow::Owned(strip_pseudo_headers(&input)),
            Self::Pcre(regex) => captured(regex, input),
            Self::Md5 => Cow::Owned(md5::Md5::digest(&input).to_vec()),
            Self::Sha1 => Cow::Owned(sha1::Sha1::digest(&input).to_vec()),
            Self::Sha256 => Cow::Owned(sha2::Sha256::digest(&input).to_vec()),
            Self::FromBase64 { bytes, offset, mode } => {
                let from = input.get(*offset..).unwrap_or_default();
                let from = if *bytes == 0 { from } else { from.get(..*bytes).unwrap_or(from) };
                Cow::Owned(base64(from, *mode))
            }
            Self::Domain => Cow::Owned(labels(&input, 2)),
            Self::Tld => Cow::Owned(labels(&input, 1)),
        }
    }

    /// Where of `input`, whose first `known` bytes were transformed before, this may begin so that what
    /// it gives is the end of what all of `input` gives, and begins `kept` bytes or more before what
    /// is new. `None`: nothing but the whole will do.
    pub(crate) fn resume(&self, input: &[u8], known: usize, kept: usize) -> Option<usize> {
        let front = input.get(..known)?;
        match self {
            Self::Lowercase | Self::Uppercase => Some(known.saturating_sub(kept)),
            Self::Xor(key) => {
                let from = known.saturating_sub(kept);
                Some(from - from.checked_rem(key.len())?)
            }
            Self::StripWhitespace => Some(before_kept(front, kept)),
            Self::CompressWhitespace => {
                let from = before_kept(front, kept);
                // Of a run of blanks the first is kept.
                let blanks = front.get(..from)?.iter().rev().take_while(|byte| is_space(**byte));
                Some(from - blanks.count())
            }
            Self::UrlDecode => {
                // Three bytes may give one, and the last two may have waited for more.
                let from = known.saturating_sub(kept.saturating_mul(3).saturating_add(2));
                // Behind two bytes without `%` nothing is in the middle.
                let is_inside = |from: &usize| {
                    front.get(from.saturating_sub(2)..*from).is_some_and(|two| two.contains(&b'%'))
                };
                (0..=from).rev().find(|from| !is_inside(from))
            }
            Self::DotPrefix
            | Self::HeaderLowercase
            | Self::StripPseudoHeaders
            | Self::Pcre(_)
            | Self::Md5
            | Self::Sha1
            | Self::Sha256
            | Self::FromBase64 { .. }
            | Self::Domain
            | Self::Tld => None,
        }
    }

    /// Two transforms of the same name and argument give the same.
    pub(crate) fn key(name: &str, value: Option<&str>) -> String {
        format!("{name}:{}", value.unwrap_or_default())
    }
}

fn xor(value: Option<&str>) -> Result<Transform, String> {
    let text = syntax::quoted(value.unwrap_or_default()).1;
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    match digits {
        Some(digits) if !digits.is_empty() && digits.len() % 2 == 0 && digits.len() <= 510 => {
            let bytes = digits.chunks_exact(2).map(|pair| match pair {
                [high, low] => high << 4 | low,
                _ => 0,
            });
            Ok(Transform::Xor(bytes.collect()))
        }
        _ => Err(format!("{text:?} is no key in hex")),
    }
}

fn pcrexform(value: Option<&str>) -> Result<Transform, String> {
    let text = syntax::quoted(value.unwrap_or_default()).1;
    let options = pcre::Options { wants_groups: true, ..pcre::Options::default() };
    let pattern = unescape_pattern(text);
    pcre::Regex::new(pattern.as_bytes(), options)
        .map(Transform::Pcre)
        .map_err(|error| error.to_string())
}

/// `\"` and `\;` are escapes of the rule, not of the pattern.
fn unescape_pattern(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\;", ";")
}

fn from_base64(value: Option<&str>) -> Result<Transform, String> {
    let (mut bytes, mut offset, mut mode) = (0, 0, Base64::Rfc4648);
    for part in value.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
    {
        let (name, value) = part.split_once(' ').unwrap_or((part, ""));
        let number = || {
            integer(value)
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| format!("{part:?} needs a number"))
        };
        match name {
            "bytes" => bytes = number()?,
            "offset" => offset = number()?,
            "mode" => {
                mode = match value.trim().to_ascii_lowercase().as_str() {
                    "rfc4648" => Base64::Rfc4648,
                    "rfc2045" => Base64::Rfc2045,
                    "strict" => Base64::Strict,
                    _ => return Err(format!("mode {value:?} is unknown")),
                }
            }
            _ => return Err(format!("{part:?} is unknown")),
        }
    }
    Ok(Transform::FromBase64 { bytes, offset, mode })
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// Where the last `kept` bytes of `front` that are no blanks begin.
fn before_kept(front: &[u8], kept: usize) -> usize {
    let mut others = front.iter().enumerate().rev().filter(|(_, byte)| !is_space(**byte));
    kept.checked_sub(1)
        .map_or(Some(front.len()), |kept| others.nth(kept).map(|(at, _)| at))
        .unwrap_or(0)
}

fn keep(input: Cow<'_, [u8]>, fits: impl Fn(Option<u8>, u8) -> bool) -> Cow<'_, [u8]> {
    let mut before = None;
    let mut out = vec![0; input.len()];
    let mut length = 0;
    for byte in input.iter().copied() {
        // Written over by the next byte if it is not kept.
        if let Some(slot) = out.get_mut(length) {
            *slot = byte;
        }
        length += usize::from(fits(before, byte));
        before = Some(byte);
    }
    out.truncate(length);
    if out.len() == input.len() { input } else { Cow::Owned(out) }
}

fn url_decode(input: &[u8]) -> Vec<u8> {
    let digit = |at: usize| {
        let digit = char::from(*input.get(at)?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut out = Vec::with_capacity(input.len());
    let mut at = 0;
    while let Some(byte) = input.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Names of header fields in lower case, values as they are.
fn header_lowercase(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut is_name = true;
    for byte in input {
        match byte {
            b':' => {
                // The colon of a pseudo header begins its name.
                is_name = out.last().is_none_or(|last| *last == b'\n');
                out.push(b':');
            }
            b'\n' => {
                is_name = true;
                out.push(b'\n');
            }
            byte if is_name => out.push(byte.to_ascii_lowercase()),
            byte => out.push(*byte),
        }
    }
    out
}

/// Leaves out the lines that begin with a colon.
fn strip_pseudo_headers(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if line.first() != Some(&b':') {
            out.extend_from_slice(line);
        }
    }
    out
}

fn captured<'a>(regex: &pcre::Regex, input: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    let group = regex.find(&input, 0).and_then(|found| found.groups.first().copied().flatten());
    match group {
        Some((start, end)) => Cow::Owned(input.get(start..end).unwrap_or_default().to_vec()),
        // Suricata leaves the buffer as it is when the expression does not match.
        None => input,
    }
}

fn labels(input: &[u8], count: usize) -> Vec<u8> {
    let parts: Vec<&[u8]> = input.split(|byte| *byte == b'.').collect();
    let from = parts.len().saturating_sub(count);
    parts.get(from..).unwrap_or_default().join(&b'.')
}

/// Decodes what can be decoded.
pub(crate) fn base64(input: &[u8], mode: Base64) -> Vec<u8> {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut letters: Vec<u8> = Vec::with_capacity(input.len());
    for byte in input {
        if is_letter(byte) {
            letters.push(*byte);
        } else if *byte == b'=' {
            break;
        } else {
            match mode {
                Base64::Rfc4648 => break,
                Base64::Rfc2045 => {}
                Base64::Strict => return Vec::new(),
            }
        }
    }
    let whole = match letters.len() % 4 {
        1 => letters.len() - 1,
        _ => letters.len(),
    };
    letters.truncate(whole);
    // Bits behind the last whole byte do not matter to Suricata; the decoder wants them zero.
    if let (2 | 3, Some(last)) = (whole % 4, letters.last_mut()) {
        *last = clear_rest(*last, whole % 4);
    }
    let text = String::from_utf8(letters).unwrap_or_default();
    base64ct::Base64Unpadded::decode_vec(&text).unwrap_or_default()
}

fn clear_rest(letter: u8, rest: usize) -> u8 {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mask = if rest == 2 { 0b11_0000 } else { 0b11_1100 };
    let value = LETTERS.iter().position(|known| *known == letter).unwrap_or(0);
    LETTERS.get(value & mask).copied().unwrap_or(b'A')
}

#[cfg(test)]
mod tests {
    use super::Transform;
    use std::borrow::Cow;

    fn apply(name: &str, value: Option<&str>, input: &str) -> String {
        let transform = Transform::parse(name, value).unwrap().unwrap();
        let out = transform.apply(Cow::Borrowed(input.as_bytes()));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_does_what_it_says() {
        assert_eq!(apply("strip_whitespace", None, " a\tb\r\n"), "ab");
        assert_eq!(apply("compress_whitespace", None, "a \t b"), "a b");
        assert_eq!(apply("url_decode", None, "a%2Fb+%zz%4"), "a/b %zz%4");
        assert_eq!(apply("dotprefix", None, "x.org"), ".x.org");
        assert_eq!(apply("xor", Some("\"0d\""), "a"), "l");
        assert_eq!(
            apply("header_lowercase", None, "Host: A\r\nX-B: C\r\n"),
            "host: A\r\nx-b: C\r\n"
        );
        assert_eq!(apply("strip_pseudo_headers", None, ":m: GET\r\na: b\r\n"), "a: b\r\n");
        assert_eq!(apply("pcrexform", Some(r#""(\d+)""#), "a12b"), "12");
        assert_eq!(apply("from_base64", Some("bytes 8, offset 1"), "xYWJjZGVm"), "abcdef");
        assert_eq!(apply("from_base64", None, "YWJjZ-"), "abc");
        assert_eq!(apply("from_base64", Some("mode rfc2045"), "YW Jj\nZA=="), "abcd");
    }

    #[test]
    fn the_rest_is_the_end_of_the_whole() {
        let text = b" %41+a \t %%42  b%4\r\n %2 cc  %43%4%44 \t\t+  %61%62%%% d ";
        let all = [
            ("to_lowercase", None),
            ("to_uppercase", None),
            ("strip_whitespace", None),
            ("compress_whitespace", None),
            ("url_decode", None),
            ("xor", Some("\"0d1a2b\"")),
        ];
        for (name, value) in all {
            let transform = Transform::parse(name, value).unwrap().unwrap();
            for end in 0..=text.len() {
                let input = &text[..end];
                let whole = transform.apply(Cow::Borrowed(input));
                for known in 0..=end {
                    let before = transform.apply(Cow::Borrowed(&input[..known]));
                    let same = before.iter().zip(whole.iter()).take_while(|(a, b)| a == b).count();
                    for kept in 0..9 {
                        let from = transform.resume(input, known, kept).unwrap();
                        let rest = transform.apply(Cow::Borrowed(&input[from..]));
                        assert!(whole.ends_with(&rest), "{name} {end} {known} {kept}");
                        let reach = whole.len() - rest.len() + kept;
                        assert!(reach <= same.max(kept), "{name} {end} {known} {kept}");
                    }
                }
            }
        }
        let md5 = Transform::parse("to_md5", None).unwrap().unwrap();
        assert_eq!(md5.resume(text, 5, 1), None);
    }

    #[test]
    fn faults_are_named() {
        assert!(Transform::parse("xor", Some("\"0\"")).unwrap().is_err());
        assert!(Transform::parse("from_base64", Some("mode x")).unwrap().is_err());
        assert!(Transform::parse("lua", None).is_none());
    }
}

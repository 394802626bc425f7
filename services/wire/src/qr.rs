//! Short evidence as lines of text: what stands in a QR code, and what a person can copy.
//!
//! A box without a network shows its evidence on its console; a camera or the clipboard carries
//! it to a verifier. Each line stands for itself and can come in any order:
//!
//! ```text
//! HPQ1:n:N:CRC:DATA
//!      |  |  |   base32 (RFC 4648 section 6, no padding) of this line's share of the bytes
//!      |  |  CRC-32 (IEEE 802.3) of all the bytes, 8 hexadecimal digits: which set it belongs to
//!      |  number of lines, decimal
//!      number of this line, from 1
//! ```
//!
//! All of it is in the alphabet of QR codes' alphanumeric mode (ISO/IEC 18004). The CRC finds
//! copying errors and lines of another set; it protects from nobody: what comes out of [`join`] is
//! as untrusted as any evidence. Made by the console with [`split`], read by the verifier with
//! [`join`]. Nothing here may allocate by a length that was not checked.

use std::collections::BTreeMap;

use thiserror::Error;

/// How every line begins; the 1 is the version of the format.
pub const PREFIX: &str = "HPQ1:";
/// Most bytes in one set: short evidence has under half of it.
pub const BYTES_MAX: usize = 2048;
/// Most lines in one set: more is nothing that a person scans.
pub const PARTS_MAX: usize = 99;
/// Most bytes of text that [`join`] reads: a set in the shortest lines, and what a terminal adds.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Characters before DATA in the longest line: prefix, two numbers, CRC and their colons.
pub const HEADER_CHARS: usize = PREFIX.len() + 3 + 3 + 9;
/// Bytes that become eight characters without a rest.
const GROUP_BYTES: usize = 5;
/// Characters of a group.
const GROUP_CHARS: usize = 8;

/// Why bytes can't be split into lines.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SplitError {
    /// Nothing to split, or too much.
    #[error("HP-QR-001 evidence: {got} bytes, 1 to {BYTES_MAX} fit; export it over the network")]
    Size {
        /// How many.
        got: usize,
    },
    /// The lines would be too many.
    #[error("HP-QR-002 evidence: {parts} lines, at most {PARTS_MAX}; use a larger terminal")]
    Narrow {
        /// How many it would take.
        parts: usize,
    },
}

/// Why text is no set of lines.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JoinError {
    /// Too long.
    #[error("HP-QR-010 text: {got} bytes, at most {TEXT_BYTES_MAX}; paste the lines alone")]
    TooLong {
        /// How long.
        got: usize,
    },
    /// No line of this format.
    #[error("HP-QR-011 text: no line begins with {PREFIX}; scan the codes of the console again")]
    Nothing,
    /// A line is damaged.
    #[error("HP-QR-012 text: line {line} is damaged ({why}); scan or copy it again")]
    Damaged {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Lines of two sets.
    #[error("HP-QR-013 text: line {line} belongs to another set; scan all codes of one page again")]
    Mixed {
        /// Which, from 1.
        line: usize,
    },
    /// Lines are not there.
    #[error("HP-QR-014 text: {missing} of {total} lines are missing, the first is {first}; add it")]
    Missing {
        /// How many.
        missing: usize,
        /// Of how many.
        total: usize,
        /// Number of the first that is missing.
        first: usize,
    },
    /// All lines are there and it is not what was split.
    #[error("HP-QR-015 text: CRC is {got:08X}, the lines say {said:08X}; scan or copy them again")]
    Crc {
        /// Computed.
        got: u32,
        /// Said by the lines.
        said: u32,
    },
}

/// Lines of at most `chars_max` characters that together are `bytes`.
///
/// # Errors
/// Any [`SplitError`].
pub fn split(bytes: &[u8], chars_max: usize) -> Result<Vec<String>, SplitError> {
    if bytes.is_empty() || bytes.len() > BYTES_MAX {
        return Err(SplitError::Size { got: bytes.len() });
    }
    let groups = chars_max.saturating_sub(HEADER_CHARS) / GROUP_CHARS;
    let parts = match groups {
        0 => bytes.len(),
        groups => bytes.len().div_ceil(groups * GROUP_BYTES),
    };
    if groups == 0 || parts > PARTS_MAX {
        return Err(SplitError::Narrow { parts });
    }
    // Lines of the same length: no code is denser than it has to be.
    let share = bytes.len().div_ceil(parts).next_multiple_of(GROUP_BYTES);
    let parts = bytes.len().div_ceil(share);
    let crc = crc32(bytes);
    let line = |(part, chunk): (usize, &[u8])| {
        format!("{PREFIX}{part}:{parts}:{crc:08X}:{}", base32(chunk))
    };
    Ok((1..).zip(bytes.chunks(share)).map(line).collect())
}

/// The bytes of the set of lines in `text`. What stands before and after a line in its row (the
/// frame of a screen, a scanner's prefix) is not looked at, nor are rows without a line.
///
/// # Errors
/// Any [`JoinError`].
pub fn join(text: &str) -> Result<Vec<u8>, JoinError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(JoinError::TooLong { got: text.len() });
    }
    let mut set: Option<(usize, u32)> = None;
    let mut parts: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let lines = text.lines().filter_map(|row| row.split_once(PREFIX));
    for (line, (_, rest)) in (1..).zip(lines) {
        let part = Part::parse(rest).map_err(|why| JoinError::Damaged { line, why })?;
        if *set.get_or_insert((part.total, part.crc)) != (part.total, part.crc) {
            return Err(JoinError::Mixed { line });
        }
        // Scanned twice is fine, but not with another content.
        let known = parts.entry(part.number).or_insert_with(|| part.bytes.clone());
        if *known != part.bytes {
            return Err(JoinError::Damaged { line, why: "it was there before and was another" });
        }
    }
    let (total, said) = set.ok_or(JoinError::Nothing)?;
    if let Some(first) = (1..=total).find(|number| !parts.contains_key(number)) {
        return Err(JoinError::Missing { missing: total - parts.len(), total, first });
    }
    let bytes = parts.into_values().flatten().collect::<Vec<u8>>();
    match crc32(&bytes) {
        got if got == said => Ok(bytes),
        got => Err(JoinError::Crc { got, said }),
    }
}

/// One line.
struct Part {
    number: usize,
    total: usize,
    crc: u32,
    bytes: Vec<u8>,
}

impl Part {
    /// From what follows the prefix.
    fn parse(rest: &str) -> Result<Self, &'static str> {
        let mut fields = rest.splitn(4, ':');
        let mut field = || fields.next().ok_or("a field is missing");
        let number = decimal(field()?).ok_or("its number is none")?;
        let total = decimal(field()?).ok_or("the number of lines is none")?;
        if number > total {
            return Err("its number is larger than that of the last");
        }
        let crc = field()?;
        let digit = |char: char| char.is_ascii_digit() || ('A'..='F').contains(&char);
        if crc.len() != 8 || !crc.chars().all(digit) {
            return Err("its CRC is not 8 hexadecimal digits");
        }
        let crc = u32::from_str_radix(crc, 16).map_err(|_| "its CRC is not hexadecimal")?;
        let data = field()?;
        let end = data.bytes().position(|char| five_bits(char).is_none()).unwrap_or(data.len());
        let data = data.get(..end).unwrap_or_default();
        if data.is_empty() || data.len() > BYTES_MAX * GROUP_CHARS / GROUP_BYTES + GROUP_CHARS {
            return Err("its data is empty or too long");
        }
        let bytes = from_base32(data).ok_or("its data is cut off")?;
        Ok(Self { number, total, crc, bytes })
    }
}

/// 1 to [`PARTS_MAX`], written the one way that [`split`] writes it.
fn decimal(text: &str) -> Option<usize> {
    let value: usize = text.parse().ok()?;
    ((1..=PARTS_MAX).contains(&value) && value.to_string() == text).then_some(value)
}

fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(GROUP_BYTES) * GROUP_CHARS);
    for group in bytes.chunks(GROUP_BYTES) {
        let filled = group.iter().copied().chain([0; GROUP_BYTES]).take(GROUP_BYTES);
        let bits = filled.fold(0u64, |bits, byte| bits << 8 | u64::from(byte));
        let chars = (group.len() * 8).div_ceil(5);
        out.extend((0..chars).map(|at| {
            let digit = u8::try_from(bits >> (35 - 5 * at) & 31).unwrap_or(0);
            char::from(if digit < 26 { b'A' + digit } else { b'2' + digit - 26 })
        }));
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * GROUP_BYTES / GROUP_CHARS);
    for group in text.as_bytes().chunks(GROUP_CHARS) {
        let bits = group.len() * 5;
        let (count, spare) = (bits / 8, bits % 8);
        // A rest of a whole character or more is nothing that an encoder writes.
        if spare >= 5 {
            return None;
        }
        let value =
            group.iter().try_fold(0u64, |value, char| Some(value << 5 | five_bits(*char)?))?;
        if value & ((1 << spare) - 1) != 0 {
            return None;
        }
        out.extend_from_slice((value >> spare).to_be_bytes().get(8 - count..)?);
    }
    Some(out)
}

fn five_bits(char: u8) -> Option<u64> {
    match char {
        b'A'..=b'Z' => Some(u64::from(char - b'A')),
        b'2'..=b'7' => Some(u64::from(char - b'2') + 26),
        _ => None,
    }
}

/// CRC-32 of IEEE 802.3, bit by bit: two kilobytes at most.
fn crc32(bytes: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => crc >> 1 ^ 0xedb8_8320,
        })
    };
    !bytes.iter().fold(!0, byte)
}

#[cfg(test)]
#[path = "qr_tests.rs"]
mod tests;

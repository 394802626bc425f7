//! A DER walker (ITU-T X.690): tag, length, content, nothing else.

use crate::app::bytes::Cursor;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
}

/// Reads the next element. Definite lengths of at most four bytes; tags of one byte.
pub(super) fn next<'a>(cursor: &mut Cursor<'a>) -> Option<Element<'a>> {
    let tag = cursor.u8()?;
    let first = cursor.u8()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x84 => cursor
            .take(usize::from(first & 0x7f))?
            .iter()
            .fold(0_usize, |length, byte| length << 8 | usize::from(*byte)),
        _ => return None,
    };
    Some(Element { tag, content: cursor.take(length)? })
}

/// Reads the next element if it has `tag`.
pub(super) fn expect<'a>(cursor: &mut Cursor<'a>, tag: u8) -> Option<&'a [u8]> {
    let mut ahead = *cursor;
    let element = next(&mut ahead)?;
    (element.tag == tag).then(|| {
        *cursor = ahead;
        element.content
    })
}

/// An object identifier in dots.
pub(super) fn oid_text(content: &[u8]) -> String {
    let mut text = String::new();
    let mut value = 0_u64;
    for byte in content {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            if value >> 56 != 0 {
                return text;
            }
            continue;
        }
        if text.is_empty() {
            let first = (value / 40).min(2);
            text = format!("{first}.{}", value - first * 40);
        } else {
            text.push('.');
            text.push_str(&value.to_string());
        }
        value = 0;
    }
    text
}

/// `UTCTime` or `GeneralizedTime` as seconds since 1970.
pub(super) fn time_s(element: Element<'_>) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        element.content.get(range)?.iter().try_fold(0_i64, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, at) = match element.tag {
        0x17 => {
            let year = digits(0..2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        0x18 => (digits(0..4)?, 4),
        _ => return None,
    };
    let (month, day) = (digits(at..at + 2)?, digits(at + 2..at + 4)?);
    let (hour, minute) = (digits(at + 4..at + 6)?, digits(at + 6..at + 8)?);
    let second = digits(at + 8..at + 10).unwrap_or(0);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: years begin in March, so that the
/// leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Element, next, oid_text, time_s};

    #[test]
    fn lengths_that_lie_are_refused() {
        for bytes in [&b"\x30"[..], b"\x30\x05abcd", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\0\0"] {
            assert!(next(&mut Cursor::new(bytes)).is_none());
        }
        assert_eq!(next(&mut Cursor::new(b"\x04\x81\x02hi")).unwrap().content, b"hi");
    }

    #[test]
    fn times_and_identifiers() {
        let utc = Element { tag: 0x17, content: b"700101000000Z" };
        assert_eq!(time_s(utc), Some(0));
        let general = Element { tag: 0x18, content: b"20000229120000Z" };
        assert_eq!(time_s(general), Some(951_825_600));
        assert_eq!(time_s(Element { tag: 0x17, content: b"7001" }), None);
        assert_eq!(oid_text(b"\x55\x04\x03"), "2.5.4.3");
        assert_eq!(oid_text(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"), "1.2.840.113549.1.9.1");
        assert_eq!(oid_text(&[0xff; 40]), "");
    }
}

//! Which part of a file a response carries (RFC 9110, section 14.4).

/// `bytes 0-99/1000` of a Content-Range field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First and last byte; absent in `bytes */1000`.
    pub bytes: Option<(u64, u64)>,
    /// Size of the whole; absent where it is `*`.
    pub size: Option<u64>,
}

impl ContentRange {
    /// Reads the value of a field, as strictly as Suricata does.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (unit, rest) = text.split_at_checked(5)?;
        let blanks = rest.starts_with(' ');
        if !blanks || !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, size) = rest.trim_start_matches(' ').split_once('/')?;
        let bytes = if range == "*" {
            None
        } else {
            let (first, last) = range.split_once('-')?;
            Some((number(first)?, number(last)?))
        };
        let size = if size == "*" { None } else { Some(number(size)?) };
        (bytes.is_some() || size.is_some()).then_some(Self { bytes, size })
    }

    /// The part is within the whole.
    #[must_use]
    pub fn is_within(self) -> bool {
        match (self.bytes, self.size) {
            (Some((_, last)), Some(size)) => last < size,
            _ => true,
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<i64>().ok().filter(|_| is_number).and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::ContentRange;

    #[test]
    fn ranges_are_read_strictly() {
        let read = |value: &str| ContentRange::parse(value.as_bytes());
        let range = |bytes, size| Some(ContentRange { bytes, size });
        assert_eq!(read("Bytes  0-67/68"), range(Some((0, 67)), Some(68)));
        assert_eq!(read("bytes 3-9/*"), range(Some((3, 9)), None));
        assert_eq!(read("bytes */68"), range(None, Some(68)));
        for odd in ["", "bytes", "bytes=0-67/68", "bytes 0 - 67 / 68", "bytes 0-/68", "items 0-1/2"]
        {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert_eq!(read("bytes 0-99999999999999999999/68"), None);
        assert!(!read("bytes 0-67/10").unwrap().is_within());
        assert!(read("bytes 67-0/68").unwrap().is_within());
    }
}

//! Hexadecimal digits. An appraisal writes and compares thousands of them, so it is done by hand.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let [high, low] = digits(*byte);
        text.push(char::from(high));
        text.push(char::from(low));
    }
    text
}

/// Fills `place` with the bytes that `text` names in digits of either case; `false` when it does not
/// name exactly as many.
pub(crate) fn fill(text: &str, place: &mut [u8]) -> bool {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut all = rest.is_empty() && pairs.len() == place.len();
    for ([high, low], byte) in pairs.iter().zip(place) {
        match (value(*high), value(*low)) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => all = false,
        }
    }
    all
}

const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether `text` is [`hex`] of `bytes`.
pub(crate) fn is_hex(bytes: &[u8], text: &str) -> bool {
    text.len() == 2 * bytes.len()
        && text.as_bytes().chunks_exact(2).zip(bytes).all(|(pair, byte)| pair == digits(*byte))
}

fn digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_standard_library_writes_it() {
        let all: Vec<u8> = (0..=255).collect();
        let expect: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&all), expect);
        assert!(is_hex(&all, &expect));
        for wrong in ["", "0", "00010203", &expect.to_uppercase(), &expect[2..]] {
            assert!(!is_hex(&all, wrong), "{wrong}");
        }
        assert!(is_hex(&[], "") && hex(&[]).is_empty());
        let mut read = [0; 256];
        for text in [&expect, &expect.to_uppercase()] {
            assert!(fill(text, &mut read) && read == *all);
        }
        for wrong in ["", "0", "0g", "+1", "\u{e9}", "0000"] {
            assert!(!fill(wrong, &mut [0]), "{wrong}");
        }
        assert!(fill("", &mut []));
    }
}

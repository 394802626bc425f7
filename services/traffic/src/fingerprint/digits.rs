//! Digits of numbers, without the machinery of `fmt`: a hello has a hundred of them.

/// Digits of base 16, in lower case.
const HEX: &[u8; 16] = b"0123456789abcdef";

fn digit(value: u16) -> char {
    // Always there: four bits.
    char::from(HEX.get(usize::from(value & 15)).copied().unwrap_or(b'0'))
}

/// Adds `value` in decimal.
pub(crate) fn push_decimal(text: &mut String, value: u16) {
    let mut divisor = 10_000;
    while divisor > 1 && value < divisor {
        divisor /= 10;
    }
    while divisor > 0 {
        text.push(digit(value / divisor % 10));
        divisor /= 10;
    }
}

/// Adds the four hex digits of `value`.
pub(crate) fn push_hex_word(text: &mut String, value: u16) {
    for shift in [12, 8, 4, 0] {
        text.push(digit(value >> shift));
    }
}

/// Adds the two hex digits of each byte.
pub(crate) fn push_hex(text: &mut String, bytes: impl IntoIterator<Item = u8>) {
    for byte in bytes {
        text.push(digit(u16::from(byte >> 4)));
        text.push(digit(u16::from(byte)));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_those_of_fmt() {
        for value in 0..=u16::MAX {
            let (mut decimal, mut hex) = (String::new(), String::new());
            super::push_decimal(&mut decimal, value);
            super::push_hex_word(&mut hex, value);
            assert_eq!((decimal, hex), (value.to_string(), format!("{value:04x}")));
        }
        let mut hex = String::new();
        super::push_hex(&mut hex, [0, 1, 0xab, 0xff]);
        assert_eq!(hex, "0001abff");
    }
}

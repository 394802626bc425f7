//! How often bytes occur in what rules look at, roughly.
//!
//! Only speed depends on it: a window that is rare lets less through. Text counts most (requests,
//! headers, markup), then what binary protocols are full of.

/// Weight of one byte of a text in lower case: about the logarithm of how often it occurs.
const fn weight(byte: u8) -> u32 {
    match byte {
        0 => 9,
        b' ' | b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 8,
        b'l' | b'c' | b'd' | b'h' | b'm' | b'p' | b'u' | b'/' | b'.' | b'0' | b'1' | b'-' => 7,
        b'g' | b'f' | b'w' | b'y' | b'b' | b'v' | b'2'..=b'9' | b'\n' | b'\r' | b':' | b'=' => 6,
        b'k' | b'x' | b'"' | b'<' | b'>' | b';' | b',' | b'_' | b'&' | b'?' | b'%' => 5,
        b'j' | b'q' | b'z' | 0xff | 1..=3 => 4,
        b'!'..=b'~' => 3,
        _ => 2,
    }
}

/// Weight of a window: the smaller, the rarer.
pub(super) fn weigh(window: &[u8]) -> u32 {
    window.iter().map(|byte| weight(byte.to_ascii_lowercase())).sum()
}

/// Where in `pattern` the rarest window of `width` bytes begins.
pub(super) fn rarest(pattern: &[u8], width: usize) -> usize {
    let windows = pattern.windows(width).enumerate();
    windows.min_by_key(|(_, window)| weigh(window)).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rarest_window_is_not_the_common_text() {
        assert_eq!(super::rarest(b"http://zqj", 3), 7);
        assert_eq!(super::rarest(&[0, 0, 0, 0xde, 0xad, 0, 0], 2), 3);
        assert_eq!(super::rarest(b"x", 2), 0);
    }
}

//! Characters that look like those of Windows code page 1252, as its best fit has them
//! (unicode.org, `Public/MAPPINGS/VENDORS/MICSFT/WindowsBestFit/bestfit1252.txt`): old servers take
//! them for the same, and evasions live on it. Only what becomes ASCII is here.

/// What stands for a character without equal.
const NONE: u8 = b'?';

/// First and last character, and what they become.
const RANGES: [(u32, u32, u8); 42] = [
    (0x100, 0x105, b'A'),
    (0x106, 0x10d, b'C'),
    (0x10e, 0x111, b'D'),
    (0x112, 0x11b, b'E'),
    (0x11c, 0x123, b'G'),
    (0x124, 0x127, b'H'),
    (0x128, 0x131, b'I'),
    (0x134, 0x135, b'J'),
    (0x136, 0x137, b'K'),
    (0x139, 0x142, b'L'),
    (0x143, 0x148, b'N'),
    (0x14c, 0x151, b'O'),
    (0x154, 0x159, b'R'),
    (0x15a, 0x15f, b'S'),
    (0x162, 0x167, b'T'),
    (0x168, 0x173, b'U'),
    (0x174, 0x175, b'W'),
    (0x176, 0x177, b'Y'),
    (0x179, 0x17c, b'Z'),
    (0x2000, 0x2006, b' '),
    (0x2010, 0x2011, b'-'),
    (0x2032, 0x2032, b'\''),
    (0x2035, 0x2035, b'`'),
    (0x2044, 0x2044, b'/'),
    (0x2212, 0x2212, b'-'),
    (0x2215, 0x2215, b'/'),
    (0x2216, 0x2216, b'\\'),
    (0x2217, 0x2217, b'*'),
    (0x2223, 0x2223, b'|'),
    (0x2236, 0x2236, b':'),
    (0x223c, 0x223c, b'~'),
    (0x2264, 0x2265, b'='),
    (0x2303, 0x2303, b'^'),
    (0x2320, 0x2320, b'('),
    (0x2321, 0x2321, b')'),
    (0x2329, 0x2329, b'<'),
    (0x232a, 0x232a, b'>'),
    (0x3000, 0x3000, b' '),
    (0x3008, 0x3008, b'<'),
    (0x3009, 0x3009, b'>'),
    (0x301a, 0x301a, b'['),
    (0x301b, 0x301b, b']'),
];

/// The byte for a character.
pub(super) fn byte(character: u32) -> u8 {
    if let Ok(byte) = u8::try_from(character) {
        return byte;
    }
    if (0xff01..=0xff5e).contains(&character) {
        // Full-width forms.
        return u8::try_from(character - 0xfee0).unwrap_or(NONE);
    }
    let found = RANGES.iter().find(|(from, to, _)| (*from..=*to).contains(&character));
    let Some((from, _, byte)) = found else { return NONE };
    // Latin letters come in pairs: a large one and a small one.
    let is_small = byte.is_ascii_alphabetic() && is_odd_of(character, *from);
    if is_small { byte.to_ascii_lowercase() } else { *byte }
}

const fn is_odd_of(character: u32, from: u32) -> bool {
    character.abs_diff(from) % 2 == 1
}

/// UTF-8 as bytes of the code page. Overlong forms count: servers decode them, too.
pub(super) fn from_utf8(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let (more, bits) = match first {
            0..=0x7f => (0, u32::from(*first)),
            0xc0..=0xdf => (1, u32::from(first & 0x1f)),
            0xe0..=0xef => (2, u32::from(first & 0x0f)),
            0xf0..=0xf4 => (3, u32::from(first & 0x07)),
            _ => {
                out.push(NONE);
                rest = tail;
                continue;
            }
        };
        let follow = tail.iter().take(more).take_while(|byte| **byte & 0xc0 == 0x80).count();
        let is_whole = follow == more;
        let value =
            tail.iter().take(follow).fold(bits, |value, byte| value << 6 | u32::from(byte & 0x3f));
        if !is_whole && follow == tail.len() {
            // Cut by the end: libhtp forgets the first byte.
            out.resize(out.len() + follow, NONE);
            break;
        }
        out.push(if is_whole { byte(value) } else { NONE });
        rest = tail.get(follow..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{byte, from_utf8};

    #[test]
    fn what_looks_alike() {
        assert_eq!((byte(0x41), byte(0xe9), byte(0xff21), byte(0x2215)), (b'A', 0xe9, b'A', b'/'));
        assert_eq!((byte(0x100), byte(0x101), byte(0x17c)), (b'A', b'a', b'z'));
        assert_eq!((byte(0x4e00), byte(0x1_f600)), (b'?', b'?'));
    }

    #[test]
    fn overlong_broken_and_cut_forms() {
        assert_eq!(from_utf8(b"a/b"), b"a/b");
        assert_eq!(from_utf8(b"\xc3\xa9"), b"\xe9");
        assert_eq!(from_utf8(b"\xc0\xaf|\xe0\x80\xaf|\xf0\x80\x80\xaf"), b"/|/|/");
        assert_eq!(from_utf8(b"\xff\x80|\xe0\x80|\xc3"), b"??|?|");
    }
}

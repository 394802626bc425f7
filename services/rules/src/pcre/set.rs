//! Sets of bytes: classes, shorthands, case.

/// 256 bits.
pub(super) type Set = [u64; 4];

pub(super) fn has(set: &Set, byte: u8) -> bool {
    set.get(usize::from(byte) / 64).is_some_and(|word| word >> (byte % 64) & 1 == 1)
}

pub(super) fn insert(set: &mut Set, byte: u8) {
    if let Some(word) = set.get_mut(usize::from(byte) / 64) {
        *word |= 1 << (byte % 64);
    }
}

pub(super) fn from_fn(fits: impl Fn(u8) -> bool) -> Set {
    let mut set = Set::default();
    for byte in 0..=u8::MAX {
        if fits(byte) {
            insert(&mut set, byte);
        }
    }
    set
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) fn fold(set: Set) -> Set {
    from_fn(|byte| {
        has(&set, byte)
            || has(&set, byte.to_ascii_lowercase())
            || has(&set, byte.to_ascii_uppercase())
    })
}

pub(super) fn merge(set: &mut Set, other: &Set) {
    for (word, other) in set.iter_mut().zip(other) {
        *word |= other;
    }
}

pub(super) fn shorthand(byte: u8) -> Option<Set> {
    Some(match byte {
        b'd' => from_fn(|byte| byte.is_ascii_digit()),
        b'D' => from_fn(|byte| !byte.is_ascii_digit()),
        b's' => from_fn(is_space),
        b'S' => from_fn(|byte| !is_space(byte)),
        b'w' => from_fn(is_word),
        b'W' => from_fn(|byte| !is_word(byte)),
        b'h' => from_fn(|byte| matches!(byte, b' ' | b'\t' | 0xa0)),
        b'H' => from_fn(|byte| !matches!(byte, b' ' | b'\t' | 0xa0)),
        b'v' => from_fn(|byte| matches!(byte, 0x0a..=0x0d | 0x85)),
        b'V' => from_fn(|byte| !matches!(byte, 0x0a..=0x0d | 0x85)),
        b'N' => from_fn(|byte| byte != b'\n'),
        _ => return None,
    })
}

pub(super) fn posix(name: &[u8]) -> Option<Set> {
    let (is_negated, name) = match name.strip_prefix(b"^") {
        Some(name) => (true, name),
        None => (false, name),
    };
    let set = match name {
        b"alpha" => from_fn(|byte| byte.is_ascii_alphabetic()),
        b"digit" => from_fn(|byte| byte.is_ascii_digit()),
        b"alnum" => from_fn(|byte| byte.is_ascii_alphanumeric()),
        b"upper" => from_fn(|byte| byte.is_ascii_uppercase()),
        b"lower" => from_fn(|byte| byte.is_ascii_lowercase()),
        b"space" => from_fn(is_space),
        b"blank" => from_fn(|byte| matches!(byte, b' ' | b'\t')),
        b"punct" => from_fn(|byte| byte.is_ascii_punctuation()),
        b"print" => from_fn(|byte| byte.is_ascii_graphic() || byte == b' '),
        b"graph" => from_fn(|byte| byte.is_ascii_graphic()),
        b"cntrl" => from_fn(|byte| byte.is_ascii_control()),
        b"xdigit" => from_fn(|byte| byte.is_ascii_hexdigit()),
        b"word" => from_fn(is_word),
        b"ascii" => from_fn(|byte| byte.is_ascii()),
        _ => return None,
    };
    Some(if is_negated { set.map(|word| !word) } else { set })
}

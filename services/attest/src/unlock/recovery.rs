//! Recovery keys: 200 random bits as eight groups of five characters of Crockford's base 32.
//!
//! The text in its canonical form is the passphrase of key slot 1, so that `cryptsetup open` takes
//! what is written on the operator's paper. Typed forms are forgiving: case, spaces and dashes do
//! not matter, `I` and `L` are ones, `O` is a zero.
//!
//! Must never happen here: a key that is printed by `Debug` or stays in memory when it is dropped.

use std::fmt;

use hookprobe_wire::unlock::RECOVERY_BYTES_MAX;
use thiserror::Error;
use zeroize::Zeroizing;

/// Random bytes in a key.
pub(super) const KEY_BYTES: usize = 25;
/// Characters without separators: five bits each.
const CHARACTERS: usize = KEY_BYTES * 8 / 5;
const GROUP: usize = 5;
/// Crockford, "Base 32": no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A recovery key in its canonical form.
pub(super) struct RecoveryKey(Zeroizing<String>);

/// Why what was typed is no recovery key. Says nothing of what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RecoveryError {
    /// Longer than any.
    #[error("the recovery key is longer than {RECOVERY_BYTES_MAX} bytes")]
    Long,
    /// A character that is in no key.
    #[error("the recovery key has a character that none has, at place {0}")]
    Character(usize),
    /// Too few or too many.
    #[error("the recovery key has {0} characters, not 40")]
    Length(usize),
}

impl RecoveryKey {
    /// From random bytes.
    #[must_use]
    pub(super) fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + CHARACTERS / GROUP));
        let (mut pending, mut bits, mut written) = (0u32, 0u32, 0usize);
        for byte in bytes {
            pending = (pending << 8) | u32::from(*byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                let index = usize::try_from((pending >> bits) & 31).unwrap_or(0);
                push(&mut text, &mut written, ALPHABET.get(index).copied().unwrap_or(b'0'));
            }
            pending &= (1 << bits) - 1;
        }
        Self(text)
    }

    /// From what somebody typed.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub(super) fn parse(typed: &str) -> Result<Self, RecoveryError> {
        if typed.len() > RECOVERY_BYTES_MAX {
            return Err(RecoveryError::Long);
        }
        let mut text = Zeroizing::new(String::with_capacity(RECOVERY_BYTES_MAX * 2));
        let mut written = 0;
        for (place, character) in typed.chars().enumerate() {
            if character.is_whitespace() || character == '-' {
                continue;
            }
            let upper = match character.to_ascii_uppercase() {
                'I' | 'L' => '1',
                'O' => '0',
                other => other,
            };
            match u8::try_from(upper) {
                Ok(byte) if ALPHABET.contains(&byte) => push(&mut text, &mut written, byte),
                _ => return Err(RecoveryError::Character(place + 1)),
            }
        }
        if written == CHARACTERS { Ok(Self(text)) } else { Err(RecoveryError::Length(written)) }
    }

    /// The canonical form: what is shown to the operator and what opens key slot 1.
    #[must_use]
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

fn push(text: &mut String, written: &mut usize, byte: u8) {
    if *written > 0 && written.is_multiple_of(GROUP) {
        text.push('-');
    }
    text.push(char::from(byte));
    *written += 1;
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let mut bytes = [0u8; KEY_BYTES];
        assert_eq!(
            RecoveryKey::from_bytes(&bytes).expose(),
            "00000-00000-00000-00000-00000-00000-00000-00000"
        );
        bytes.iter_mut().zip(0xE0u8..=0xFF).for_each(|(byte, value)| *byte = value);
        assert_eq!(
            RecoveryKey::from_bytes(&bytes).expose(),
            "W3GY5-RZ4WQ-KEFT7-9XBNY-SVFEX-ZRF3W-QKYKT-ZDXZR"
        );
    }

    #[test]
    fn what_people_type() {
        let key = "ABCD0-11234-56789-ABCDE-FGHJK-MNPQR-STVWX-YZ000";
        for typed in [
            key.to_owned(),
            key.to_lowercase(),
            key.replace('-', ""),
            key.replace('-', " "),
            format!("  {}\r\n", key.replace('0', "O").replacen('1', "l", 1).replacen('1', "i", 1)),
        ] {
            assert_eq!(RecoveryKey::parse(&typed).unwrap().expose(), key, "{typed}");
        }
        assert_eq!(RecoveryKey::parse("").unwrap_err(), RecoveryError::Length(0));
        assert_eq!(RecoveryKey::parse(&key[1..]).unwrap_err(), RecoveryError::Length(39));
        assert_eq!(RecoveryKey::parse("AB-U").unwrap_err(), RecoveryError::Character(4));
        assert_eq!(RecoveryKey::parse("\u{e9}").unwrap_err(), RecoveryError::Character(1));
        assert_eq!(RecoveryKey::parse(&"A".repeat(200)).unwrap_err(), RecoveryError::Long);
        assert!(!format!("{:?}", RecoveryKey::parse(key).unwrap()).contains("ABCD"));
    }

    proptest! {
        #[test]
        fn every_key_is_read_as_it_was_shown(bytes in any::<[u8; KEY_BYTES]>()) {
            let key = RecoveryKey::from_bytes(&bytes);
            let read = RecoveryKey::parse(&key.expose().to_lowercase()).unwrap();
            prop_assert_eq!(read.expose(), key.expose());
        }

        #[test]
        fn nothing_typed_is_a_fault(typed in ".{0,200}") {
            let _ = RecoveryKey::parse(&typed);
        }
    }
}

//! The history of a connection: one letter for each kind of event, capital for the originator.

/// Letters that are kept. A letter appears once for each end, repeats only at powers of ten, so this
/// is far more than real connections need; what is beyond is counted (`Counters::history_cut`).
const LETTERS_MAX: usize = 44;

/// Letters that need no room elsewhere: most histories.
const SHORT_MAX: usize = 14;

/// Text of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History(Letters);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Letters {
    Short {
        letters: [u8; SHORT_MAX],
        length: u8,
    },
    #[expect(clippy::box_collection, reason = "few connections have one: 16 bytes, not 24")]
    Long(Box<String>),
}

/// One for each flow.
const _: () = assert!(size_of::<History>() <= 16);

impl Default for History {
    fn default() -> Self {
        Self(Letters::Short { letters: [0; SHORT_MAX], length: 0 })
    }
}

impl History {
    /// As in conn.log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Letters::Short { letters, length } => {
                let bytes = letters.get(..usize::from(*length)).unwrap_or_default();
                // Only ASCII is ever pushed.
                std::str::from_utf8(bytes).unwrap_or_default()
            }
            Letters::Long(long) => long,
        }
    }

    /// Appends an ASCII `letter`; false if there is no room.
    pub(crate) fn push(&mut self, letter: u8) -> bool {
        let letter = letter & 0x7f;
        if let Letters::Short { letters, length } = &mut self.0 {
            if let Some(place) = letters.get_mut(usize::from(*length)) {
                *place = letter;
                *length += 1;
                return true;
            }
            let mut long = String::with_capacity(LETTERS_MAX);
            long.push_str(self.as_str());
            self.0 = Letters::Long(Box::new(long));
        }
        match &mut self.0 {
            Letters::Long(long) if long.len() < LETTERS_MAX => long.push(char::from(letter)),
            _ => return false,
        }
        true
    }

    /// Replaces what there is.
    pub(crate) fn set(&mut self, letters: &str) {
        *self = Self::default();
        for letter in letters.bytes() {
            self.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{History, LETTERS_MAX};

    #[test]
    fn short_and_long() {
        let mut history = History::default();
        let mut expect = String::new();
        for letter in (b'a'..=b'z').cycle().take(LETTERS_MAX) {
            assert!(history.push(letter));
            expect.push(char::from(letter));
            assert_eq!(history.as_str(), expect);
        }
        assert!(!history.push(b'x'));
        history.set("^h");
        assert_eq!(history.as_str(), "^h");
    }
}

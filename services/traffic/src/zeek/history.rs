//! The history of a connection: one letter for each kind of event, capital for the originator.

/// Letters that are kept. A letter appears once for each end, repeats only at powers of ten, so this
/// is far more than real connections need; what is beyond is counted (`Counters::history_cut`).
const LETTERS_MAX: usize = 44;

/// Letters that need no room elsewhere: most histories.
const SHORT_MAX: usize = 15;

/// Text of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    short: [u8; SHORT_MAX],
    length: u8,
    /// All of it, as soon as it is longer.
    #[expect(clippy::box_collection, reason = "few connections have one: 8 bytes, not 24")]
    long: Option<Box<String>>,
}

impl History {
    /// As in conn.log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if let Some(long) = &self.long {
            return long;
        }
        let bytes = self.short.get(..usize::from(self.length)).unwrap_or_default();
        // Only ASCII is ever pushed.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Appends an ASCII `letter`; false if there is no room.
    pub(crate) fn push(&mut self, letter: u8) -> bool {
        let letter = letter & 0x7f;
        if self.long.is_none() {
            if let Some(place) = self.short.get_mut(usize::from(self.length)) {
                *place = letter;
                self.length += 1;
                return true;
            }
            let mut long = String::with_capacity(LETTERS_MAX);
            long.push_str(self.as_str());
            self.long = Some(Box::new(long));
        }
        let Some(long) = self.long.as_mut().filter(|long| long.len() < LETTERS_MAX) else {
            return false;
        };
        long.push(char::from(letter));
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

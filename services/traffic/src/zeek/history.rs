//! The history of a connection: one letter for each kind of event, capital for the originator.

/// Letters that are kept. A letter appears once for each end, repeats only at powers of ten, so this
/// is far more than real connections need; what is beyond is counted (`Counters::history_cut`).
const LETTERS_MAX: usize = 44;

/// Text of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    letters: [u8; LETTERS_MAX],
    length: u8,
}

impl Default for History {
    fn default() -> Self {
        Self { letters: [0; LETTERS_MAX], length: 0 }
    }
}

impl History {
    /// As in conn.log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.letters.get(..usize::from(self.length)).unwrap_or_default();
        // Only ASCII is ever pushed.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Appends an ASCII `letter`; false if there is no room.
    pub(crate) fn push(&mut self, letter: u8) -> bool {
        let Some(place) = self.letters.get_mut(usize::from(self.length)) else {
            return false;
        };
        *place = letter & 0x7f;
        self.length += 1;
        true
    }

    /// Replaces what there is.
    pub(crate) fn set(&mut self, letters: &str) {
        self.length = 0;
        for letter in letters.bytes() {
            self.push(letter);
        }
    }
}

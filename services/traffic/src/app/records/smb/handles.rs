//! What is known of a session's shares and open files, and what was asked and not yet answered.

/// Entries of each table. The oldest goes first: what it named is a file without a name.
const ENTRIES_MAX: usize = 256;
/// Longest name that is kept.
const NAME_BYTES_MAX: usize = 1_024;

/// Bytes that a value holds outside of itself.
pub(super) trait Heap {
    fn heap_bytes(&self) -> usize;
}

impl Heap for Vec<u8> {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl Heap for u32 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Heap for u64 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<A: Heap, B: Heap> Heap for (A, B) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes()
    }
}

/// A small table in order of arrival.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: Vec<(K, V)>,
    /// Bytes that the entries hold elsewhere.
    bytes: usize,
    /// Entries that made room.
    pub(super) evicted: u64,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), bytes: 0, evicted: 0 }
    }
}

impl<K: PartialEq + Heap, V: Heap> Table<K, V> {
    pub(super) fn put(&mut self, key: K, value: V) {
        self.take(&key);
        if self.entries.len() >= ENTRIES_MAX {
            self.remove(0);
            self.evicted += 1;
        }
        let entry = (key, value);
        self.bytes += entry.heap_bytes();
        self.entries.push(entry);
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        Some(self.remove(at))
    }

    /// `at` is that of an entry.
    fn remove(&mut self, at: usize) -> V {
        let entry = self.entries.remove(at);
        self.bytes -= entry.heap_bytes();
        entry.1
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(K, V)>() + self.bytes
    }
}

/// A share.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) name: Vec<u8>,
    pub(super) is_pipe: bool,
}

/// What a request asked for, until its answer comes.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// A file by name.
    Open(Vec<u8>),
    /// A share by name.
    Connect(Vec<u8>),
    /// Bytes of an open file.
    Read {
        handle: Vec<u8>,
        offset: u64,
        /// An answer that comes later (async) does not state it.
        tree_id: u32,
    },
}

impl Heap for Share {
    fn heap_bytes(&self) -> usize {
        self.name.capacity()
    }
}

impl Heap for Asked {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Open(bytes) | Self::Connect(bytes) | Self::Read { handle: bytes, .. } => {
                bytes.capacity()
            }
        }
    }
}

/// Session and number of a message.
type Message = (u64, u64);

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Handles {
    /// By session and number of the open file.
    files: Table<(u64, Vec<u8>), Vec<u8>>,
    /// By session and tree.
    shares: Table<(u64, u32), Share>,
    asked: Table<Message, Asked>,
}

impl Handles {
    pub(super) fn ask(&mut self, message: Message, asked: Asked) {
        self.asked.put(message, asked);
    }

    pub(super) fn answer(&mut self, message: Message) -> Option<Asked> {
        self.asked.take(&message)
    }

    pub(super) fn open(&mut self, session_id: u64, handle: &[u8], name: Vec<u8>) {
        self.files.put((session_id, handle.to_vec()), name);
    }

    pub(super) fn name(&self, session_id: u64, handle: &[u8]) -> Option<&[u8]> {
        self.files.get(&(session_id, handle.to_vec())).map(Vec::as_slice)
    }

    pub(super) fn close(&mut self, session_id: u64, handle: &[u8]) {
        self.files.take(&(session_id, handle.to_vec()));
    }

    pub(super) fn connect(&mut self, session_id: u64, tree_id: u32, share: Share) {
        self.shares.put((session_id, tree_id), share);
    }

    pub(super) fn share(&self, session_id: u64, tree_id: u32) -> Option<&Share> {
        self.shares.get(&(session_id, tree_id))
    }

    pub(super) const fn evicted(&self) -> u64 {
        self.files.evicted + self.shares.evicted + self.asked.evicted
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.files.held_bytes() + self.shares.held_bytes() + self.asked.held_bytes()
    }
}

/// Text in two bytes a letter without the zero bytes that most of it has, or as it is.
pub(super) fn name(bytes: &[u8], is_wide: bool) -> Vec<u8> {
    let end = bytes.len().min(2 * NAME_BYTES_MAX);
    let bytes = bytes.get(..end).unwrap_or_default();
    if is_wide {
        let (units, _) = bytes.as_chunks::<2>();
        let units = units.iter().take_while(|unit| **unit != [0, 0]);
        units.flatten().copied().filter(|byte| *byte != 0).take(NAME_BYTES_MAX).collect()
    } else {
        bytes.iter().copied().take_while(|byte| *byte != 0).take(NAME_BYTES_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut handles = Handles::default();
        for number in 0..300_u64 {
            handles.open(1, &number.to_le_bytes(), vec![b'a']);
        }
        assert_eq!(handles.evicted(), 44);
        assert!(handles.name(1, &0_u64.to_le_bytes()).is_none());
        assert!(handles.name(1, &299_u64.to_le_bytes()).is_some());
        assert!(handles.name(2, &299_u64.to_le_bytes()).is_none(), "of another session");
    }

    #[test]
    fn names_are_counted_and_bounded() {
        let mut handles = Handles::default();
        let held = |handles: &Handles| handles.files.bytes + handles.asked.bytes;
        for number in 0..1_000_u64 {
            handles.open(1, &number.to_le_bytes(), vec![b'a'; 1_000]);
            handles.ask((1, number % 7), Asked::Open(vec![b'a'; 500]));
        }
        assert_eq!(held(&handles), ENTRIES_MAX * 1_008 + 7 * 500);
        assert!(handles.held_bytes() > held(&handles));
        for number in 0..1_000_u64 {
            handles.close(1, &number.to_le_bytes());
            handles.answer((1, number));
        }
        assert_eq!(held(&handles), 0);

        assert_eq!(name(&[b'a'; 9_000], true).len(), NAME_BYTES_MAX);
        assert_eq!(name(&[b'a'; 9_000], false).len(), NAME_BYTES_MAX);
        assert_eq!(name(b"\\\0a\0\0\0x\0", true), b"\\a");
        assert_eq!(name(b"ab\0c", false), b"ab");
    }
}

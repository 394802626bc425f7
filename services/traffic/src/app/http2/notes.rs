//! What the frames of a transaction say beside fields and data.

use crate::{Direction, app::bytes::Cursor};

use super::{HEADERS, PADDED, PRIORITY, RST_STREAM};

/// Frames of a transaction that are noted: a stream has a handful, a flood of them says no more.
const NOTES_MAX: usize = 64;
/// Settings of one frame that are kept.
const SETTINGS_MAX: usize = 32;

const PRIORITY_FRAME: u8 = 2;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Names of errors (RFC 9113, 7), from 0.
pub const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Who sent it.
    pub direction: Direction,
    /// Its type.
    pub kind: u8,
    /// What is in it.
    pub value: Value,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing that is noted.
    None,
    /// Numbers of settings with their values.
    Settings(Vec<(u16, u32)>),
    /// Code of a reset or of the end.
    Error(u32),
    /// Weight of a stream.
    Priority(u8),
    /// Growth of a window.
    Window(u32),
}

/// The frames of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// It is about the connection, not about a stream.
    pub is_control: bool,
    /// In the order they came.
    pub list: Vec<Note>,
}

impl Notes {
    /// Adds a frame, if there is room.
    pub(super) fn add(&mut self, direction: Direction, kind: u8, flags: u8, payload: &[u8]) {
        if self.list.len() < NOTES_MAX {
            self.list.push(Note { direction, kind, value: value(kind, flags, payload) });
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        let settings = |note: &Note| match &note.value {
            Value::Settings(list) => list.capacity() * size_of::<(u16, u32)>(),
            _ => 0,
        };
        self.list.capacity() * size_of::<Note>() + self.list.iter().map(settings).sum::<usize>()
    }
}

fn value(kind: u8, flags: u8, payload: &[u8]) -> Value {
    let mut cursor = Cursor::new(payload);
    match kind {
        SETTINGS => Value::Settings(settings(payload)),
        RST_STREAM => cursor.u32().map_or(Value::None, Value::Error),
        GOAWAY => {
            let error = cursor.u32().and_then(|_last| cursor.u32());
            error.map_or(Value::None, Value::Error)
        }
        WINDOW_UPDATE => {
            cursor.u32().map_or(Value::None, |growth| Value::Window(growth & 0x7fff_ffff))
        }
        PRIORITY_FRAME => weight(&mut cursor),
        HEADERS if flags & PRIORITY != 0 => {
            if flags & PADDED != 0 {
                cursor.u8();
            }
            weight(&mut cursor)
        }
        _ => Value::None,
    }
}

fn weight(cursor: &mut Cursor<'_>) -> Value {
    let weight = cursor.u32().and_then(|_stream| cursor.u8());
    weight.map_or(Value::None, Value::Priority)
}

/// The settings of a frame, or of the field `HTTP2-Settings` when it is decoded.
fn settings(payload: &[u8]) -> Vec<(u16, u32)> {
    let mut cursor = Cursor::new(payload);
    let mut out = Vec::new();
    while out.len() < SETTINGS_MAX
        && let (Some(number), Some(value)) = (cursor.u16(), cursor.u32())
    {
        out.push((number, value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_frames() {
        assert_eq!(value(SETTINGS, 0, &[0, 3, 0, 0, 0, 100, 9]), Value::Settings(vec![(3, 100)]));
        assert_eq!(value(GOAWAY, 0, &[0, 0, 0, 1, 0, 0, 0, 2]), Value::Error(2));
        assert_eq!(value(WINDOW_UPDATE, 0, &[0x80, 0, 0, 5]), Value::Window(5));
        assert_eq!(value(HEADERS, PRIORITY | PADDED, &[1, 0, 0, 0, 0, 7]), Value::Priority(7));
        assert_eq!(value(RST_STREAM, 0, &[1]), Value::None);
    }

    #[test]
    fn notes_are_bounded() {
        let mut notes = Notes::default();
        for _ in 0..1_000 {
            notes.add(Direction::ToServer, 8, 0, &[0; 4]);
        }
        assert_eq!(notes.list.len(), NOTES_MAX);
    }
}

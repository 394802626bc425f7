//! Files in SMB 2 and 3 (MS-SMB2, section 2.2): opened, read, written and closed, also in compounds.

use super::{
    handles::{Asked, name},
    transfer::Piece,
};
use crate::{Direction, app::bytes::Cursor};

/// Header of a message.
pub(super) const HEADER_BYTES: usize = 64;
const RESPONSE: u32 = 1;
const ASYNC: u32 = 2;
const NEGOTIATE: u16 = 0;
const CONNECT: u16 = 3;
const CREATE: u16 = 5;
const CLOSE: u16 = 6;
const READ: u16 = 8;
pub(super) const WRITE: u16 = 9;
const END_OF_FILE: u32 = 0xc000_0011;
const BUFFER_OVERFLOW: u32 = 0x8000_0005;
const HANDLE_BYTES: usize = 16;

/// The fixed header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) status: u32,
    pub(super) command: u16,
    flags: u32,
    next: u32,
    pub(super) message_id: u64,
    pub(super) tree_id: u32,
    pub(super) session_id: u64,
}

fn le16(cursor: &mut Cursor<'_>) -> Option<u16> {
    cursor.array().map(u16::from_le_bytes)
}

fn le32(cursor: &mut Cursor<'_>) -> Option<u32> {
    cursor.array().map(u32::from_le_bytes)
}

fn le64(cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.array().map(u64::from_le_bytes)
}

impl Header {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes.strip_prefix(b"\xfeSMB")?);
        cursor.take(4)?;
        let status = le32(&mut cursor)?;
        let command = le16(&mut cursor)?;
        cursor.take(2)?;
        let flags = le32(&mut cursor)?;
        let next = le32(&mut cursor)?;
        let message_id = le64(&mut cursor)?;
        cursor.take(4)?;
        let tree_id = le32(&mut cursor)?;
        let session_id = le64(&mut cursor)?;
        cursor.take(16)?;
        let tree_id = if flags & ASYNC == 0 { tree_id } else { 0 };
        Some(Self { status, command, flags, next, message_id, tree_id, session_id })
    }

    pub(super) const fn is_response(&self) -> bool {
        self.flags & RESPONSE != 0
    }

    /// Whether a message that is not whole yet carries bytes of a file.
    pub(super) const fn is_bulk(&self) -> bool {
        matches!((self.command, self.is_response()), (WRITE, false) | (READ, true))
    }
}

/// The messages of a compound, each with its bytes from its header on.
pub(super) fn compound(bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let message = rest;
        let header = Header::read(message)?;
        let next = usize::try_from(header.next).unwrap_or(usize::MAX);
        if next < HEADER_BYTES || next >= message.len() {
            rest = &[];
            return Some((header, message));
        }
        let (own, behind) = message.split_at(next);
        rest = behind;
        Some((header, own))
    })
}

/// What a message does to files.
pub(super) enum Act<'m> {
    Ask(Asked),
    Opened(&'m [u8]),
    Connected {
        is_pipe: bool,
    },
    Write(Piece<'m>),
    Read {
        bytes: &'m [u8],
        length: u64,
    },
    /// The dialect, as its number is written.
    Agreed(Vec<u8>),
    /// A read found the end.
    Ended,
    Close(&'m [u8]),
}

pub(super) fn act<'m>(header: &Header, message: &'m [u8]) -> Option<Act<'m>> {
    let cursor = Cursor::new(message.get(HEADER_BYTES..)?);
    if header.is_response() {
        response(header, message, cursor)
    } else {
        request(header, message, cursor)
    }
}

fn request<'m>(header: &Header, message: &'m [u8], mut cursor: Cursor<'m>) -> Option<Act<'m>> {
    match header.command {
        CONNECT => {
            cursor.take(4)?;
            text(message, &mut cursor).map(|name| Act::Ask(Asked::Connect(name)))
        }
        CREATE => {
            cursor.take(44)?;
            text(message, &mut cursor).map(|name| Act::Ask(Asked::Open(name)))
        }
        CLOSE => {
            cursor.take(8)?;
            cursor.take(HANDLE_BYTES).map(Act::Close)
        }
        READ => {
            cursor.take(8)?;
            let offset = le64(&mut cursor)?;
            let handle = cursor.take(HANDLE_BYTES)?.to_vec();
            Some(Act::Ask(Asked::Read { handle, offset }))
        }
        WRITE => {
            cursor.take(2)?;
            let at = usize::from(le16(&mut cursor)?);
            let length = u64::from(le32(&mut cursor)?);
            let offset = le64(&mut cursor)?;
            let handle = cursor.take(HANDLE_BYTES)?;
            cursor.take(16)?;
            // Fixed part: 48 bytes.
            let data = message.get(at.max(HEADER_BYTES + 48)..).unwrap_or_default();
            Some(Act::Write(Piece {
                direction: Direction::ToServer,
                version: 2,
                command: WRITE,
                session_id: header.session_id,
                tree_id: header.tree_id,
                handle,
                offset,
                bytes: first(data, length),
                length,
            }))
        }
        _ => None,
    }
}

fn response<'m>(header: &Header, message: &'m [u8], mut cursor: Cursor<'m>) -> Option<Act<'m>> {
    match (header.command, header.status) {
        (NEGOTIATE, 0) => {
            cursor.take(4)?;
            let [minor, major] = cursor.array::<2>()?;
            Some(Act::Agreed(format!("{major}.{minor:02x}").into_bytes()))
        }
        (CONNECT, 0) => {
            cursor.take(2)?;
            Some(Act::Connected { is_pipe: cursor.u8()? == 2 })
        }
        (CREATE, 0) => {
            cursor.take(64)?;
            cursor.take(HANDLE_BYTES).map(Act::Opened)
        }
        (READ, 0 | BUFFER_OVERFLOW) => {
            cursor.take(2)?;
            let at = usize::from(cursor.u8()?);
            cursor.take(1)?;
            let length = u64::from(le32(&mut cursor)?);
            cursor.take(8)?;
            let data = message.get(at.max(HEADER_BYTES + 16)..).unwrap_or_default();
            Some(Act::Read { bytes: first(data, length), length })
        }
        (READ, END_OF_FILE) => Some(Act::Ended),
        _ => None,
    }
}

/// Wide text whose place and length come next.
fn text(message: &[u8], cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let at = usize::from(le16(cursor)?);
    let length = usize::from(le16(cursor)?);
    let bytes = message.get(at..)?;
    Some(name(bytes.get(..length.min(bytes.len()))?, true))
}

fn first(data: &[u8], length: u64) -> &[u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(data.len());
    data.get(..length).unwrap_or_default()
}

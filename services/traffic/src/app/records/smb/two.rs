//! Files in SMB 2 and 3 (MS-SMB2, section 2.2): opened, read, written and closed, also in compounds.

use super::{
    handles::{Asked, name},
    le16, le32,
    transfer::{Data, Piece},
};
use crate::{Direction, app::bytes::Cursor};

/// Header of a message.
pub(super) const HEADER_BYTES: usize = 64;
const RESPONSE: u32 = 1;
const ASYNC: u32 = 2;
const RELATED: u32 = 4;
const NEGOTIATE: u16 = 0;
const CONNECT: u16 = 3;
const CREATE: u16 = 5;
const CLOSE: u16 = 6;
const READ: u16 = 8;
pub(super) const WRITE: u16 = 9;
const END_OF_FILE: u32 = 0xc000_0011;
const BUFFER_OVERFLOW: u32 = 0x8000_0005;
const HANDLE_BYTES: usize = 16;
/// In a compound: the file that was opened before in it.
pub(super) const JUST_OPENED: [u8; HANDLE_BYTES] = [0xff; HANDLE_BYTES];

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

    /// Whether a message that is not whole yet carries bytes of a file, and nothing else.
    pub(super) const fn is_bulk(&self) -> bool {
        self.next == 0
            && matches!((self.command, self.is_response()), (WRITE, false) | (READ, true))
    }
}

/// Of the first bytes of a message of `length` bytes: those that are read at once, and how many
/// behind them go on with the last one. What is left then are further messages of a compound.
pub(super) fn part(bytes: &[u8], length: usize) -> (&[u8], usize) {
    let all = (bytes, length.saturating_sub(bytes.len()));
    let mut at = 0;
    while bytes.len() < length {
        let rest = bytes.get(at..).unwrap_or_default();
        let header = Header::read(rest);
        if header.is_none() && rest.len() >= HEADER_BYTES {
            return all;
        }
        let next = header.map_or(0, |header| usize::try_from(header.next).unwrap_or(usize::MAX));
        let end = at.saturating_add(next);
        let is_followed = next >= HEADER_BYTES && end < length;
        if is_followed && end <= bytes.len() {
            at = end;
        } else if at > 0 {
            return (bytes.get(..at).unwrap_or_default(), 0);
        } else {
            return if is_followed { (bytes, end - bytes.len()) } else { all };
        }
    }
    all
}

/// The messages of a compound, each with its bytes from its header on. A related one is of the
/// session and the tree of the one `before` it, whatever it states (section 3.3.5.2.7.2).
pub(super) fn compound(
    bytes: &[u8],
    mut before: Option<(u64, u32)>,
) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let message = rest;
        let mut header = Header::read(message)?;
        if let Some((session_id, tree_id)) = before
            && header.flags & RELATED != 0
        {
            (header.session_id, header.tree_id) = (session_id, tree_id);
        }
        before = Some((header.session_id, header.tree_id));
        let next = usize::try_from(header.next).unwrap_or(usize::MAX);
        if next < HEADER_BYTES || next >= message.len() {
            header.next = 0;
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
    Read(Data<'m>),
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
            Some(Act::Ask(Asked::Read { handle, offset, tree_id: header.tree_id }))
        }
        WRITE => {
            cursor.take(2)?;
            let at = usize::from(le16(&mut cursor)?);
            let length = u64::from(le32(&mut cursor)?);
            let offset = le64(&mut cursor)?;
            let handle = cursor.take(HANDLE_BYTES)?;
            cursor.take(16)?;
            // Fixed part: 48 bytes.
            let data = data(header, message, at.max(HEADER_BYTES + 48), length);
            Some(Act::Write(Piece {
                direction: Direction::ToServer,
                version: 2,
                command: WRITE,
                session_id: header.session_id,
                tree_id: header.tree_id,
                handle,
                offset,
                bytes: data.bytes,
                length: data.length,
                skip: data.skip,
                is_cut: data.length < length,
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
            Some(Act::Read(data(header, message, at.max(HEADER_BYTES + 16), length)))
        }
        (READ, END_OF_FILE) => Some(Act::Ended),
        // Of a file by number, the request told it.
        (CLOSE, 0) if header.flags & RELATED != 0 => Some(Act::Close(&JUST_OPENED)),
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

/// `length` bytes that begin at `at`, as far as they are there. The last message of a compound may
/// go on behind what there is of it; the others end where the next one begins.
fn data<'m>(header: &Header, message: &'m [u8], at: usize, length: u64) -> Data<'m> {
    let data = Data::of(message, at, length);
    if header.next == 0 { data } else { Data { length: data.bytes.len() as u64, ..data } }
}

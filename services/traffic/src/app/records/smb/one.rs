//! Files in SMB 1 (MS-CIFS, section 2.2.4): opened, read, written and closed, also in chains.

use super::{
    Direction, HEADER_BYTES, Header, RESPONSE, UNICODE,
    handles::{Asked, name},
    le16, le32,
    transfer::{Data, Piece},
};
use crate::app::bytes::Cursor;

const CLOSE: u8 = 0x04;
const READ: u8 = 0x0a;
const WRITE: u8 = 0x0b;
const WRITE_AND_CLOSE: u8 = 0x2c;
const OPEN_ANDX: u8 = 0x2d;
const READ_ANDX: u8 = 0x2e;
pub(super) const WRITE_ANDX: u8 = 0x2f;
const TREE_CONNECT_ANDX: u8 = 0x75;
const CREATE_ANDX: u8 = 0xa2;
/// No command follows in the chain.
const LAST: u8 = 0xff;
/// Commands of one message: each further one must stand behind the one before it anyway.
const CHAIN_MAX: usize = 32;

/// What a command of a message does to files.
pub(super) enum Act<'m> {
    Ask(Asked),
    Opened(&'m [u8]),
    Connected {
        is_pipe: bool,
    },
    Write(Piece<'m>),
    /// Bytes that answer a read.
    Read(Data<'m>),
    Close(&'m [u8]),
}

/// One command: its number and where it begins in the message.
#[derive(Clone, Copy)]
pub(super) struct Command<'m> {
    pub(super) number: u8,
    /// The message from the header on.
    pub(super) message: &'m [u8],
    at: usize,
}

/// The commands of a message, with those chained to the first.
pub(super) fn chain<'m>(header: &Header, message: &'m [u8]) -> impl Iterator<Item = Command<'m>> {
    let first = Command { number: header.command, message, at: HEADER_BYTES };
    std::iter::successors(Some(first), |command| {
        let is_chained =
            matches!(command.number, 0x24 | OPEN_ANDX..=WRITE_ANDX | 0x73..=0x75 | CREATE_ANDX);
        let [_, number, _, low, high] = *message.get(command.at..)?.first_chunk::<5>()?;
        let at = usize::from(u16::from_le_bytes([low, high]));
        let follows = is_chained && number != LAST && at > command.at && at < message.len();
        follows.then_some(Command { number, message, at })
    })
    .take(CHAIN_MAX)
}

impl<'m> Command<'m> {
    fn body(&self) -> &'m [u8] {
        self.message.get(self.at..).unwrap_or_default()
    }

    /// Parameter words, and the data behind their count.
    fn parts(&self) -> Option<(usize, Cursor<'m>, &'m [u8])> {
        let mut cursor = Cursor::new(self.body());
        let words = usize::from(cursor.u8()?);
        let parameters = Cursor::new(cursor.take(words * 2)?);
        le16(&mut cursor)?;
        Some((words, parameters, cursor.rest()))
    }

    pub(super) fn act(&self, header: &Header) -> Option<Act<'m>> {
        if header.flags & RESPONSE == 0 { self.request(header) } else { self.response(header) }
    }

    fn request(&self, header: &Header) -> Option<Act<'m>> {
        match self.number {
            WRITE_ANDX => return self.write_andx(header),
            CLOSE | WRITE | WRITE_AND_CLOSE | READ | READ_ANDX | CREATE_ANDX | OPEN_ANDX
            | TREE_CONNECT_ANDX => {}
            _ => return None,
        }
        let (words, mut cursor, data) = self.parts()?;
        let is_wide = header.flags2 & UNICODE != 0;
        // Wide text begins at an even place of the message.
        let odd = usize::from(is_wide && (self.message.len() - data.len()) % 2 == 1);
        match self.number {
            CLOSE => cursor.take(2).map(Act::Close),
            READ | READ_ANDX => {
                if self.number == READ_ANDX {
                    cursor.take(4)?;
                }
                let handle = cursor.take(2)?.to_vec();
                if self.number == READ {
                    cursor.take(2)?;
                }
                let low = u64::from(le32(&mut cursor)?);
                let high = if self.number == READ_ANDX && words >= 12 {
                    cursor.take(10)?;
                    u64::from(le32(&mut cursor)?)
                } else {
                    0
                };
                Some(Act::Ask(Asked::Read {
                    handle,
                    offset: high << 32 | low,
                    tree_id: u32::from(header.tree_id),
                }))
            }
            WRITE | WRITE_AND_CLOSE => {
                let handle = cursor.take(2)?;
                let length = u64::from(le16(&mut cursor)?);
                let offset = u64::from(le32(&mut cursor)?);
                // A format and a length, or a byte that fills up.
                let skipped = if self.number == WRITE { 3 } else { 1 };
                let data = data.get(skipped..).unwrap_or_default();
                Some(self.written(header, handle, offset, Data::of(data, 0, length)))
            }
            CREATE_ANDX => {
                cursor.take(5)?;
                let length = usize::from(le16(&mut cursor)?);
                let text = data.get(odd..).unwrap_or_default();
                let text = text.get(..length.min(text.len())).unwrap_or_default();
                Some(Act::Ask(Asked::Open(name(text, is_wide))))
            }
            OPEN_ANDX => {
                let text = data.get(odd..).unwrap_or_default();
                Some(Act::Ask(Asked::Open(name(text, is_wide))))
            }
            TREE_CONNECT_ANDX => {
                cursor.take(6)?;
                let password = usize::from(le16(&mut cursor)?);
                let text = data.get(password..)?;
                let odd = usize::from(is_wide && (self.message.len() - text.len()) % 2 == 1);
                Some(Act::Ask(Asked::Connect(name(text.get(odd..)?, is_wide))))
            }
            _ => None,
        }
    }

    fn written(&self, header: &Header, handle: &'m [u8], offset: u64, data: Data<'m>) -> Act<'m> {
        Act::Write(Piece {
            direction: Direction::ToServer,
            version: 1,
            command: u16::from(self.number),
            session_id: u64::from(header.session_id),
            tree_id: u32::from(header.tree_id),
            handle,
            offset,
            bytes: data.bytes,
            length: data.length,
            skip: data.skip,
            is_cut: false,
        })
    }

    /// Where its data begins is stated from the header on: padding, and other commands of the
    /// chain, may stand between.
    fn write_andx(&self, header: &Header) -> Option<Act<'m>> {
        let mut cursor = Cursor::new(self.body());
        let words = cursor.u8()?;
        cursor.take(4)?;
        let handle = cursor.take(2)?;
        let low = u64::from(le32(&mut cursor)?);
        cursor.take(8)?;
        let length_high = u64::from(le16(&mut cursor)?);
        let length_low = u64::from(le16(&mut cursor)?);
        let at = usize::from(le16(&mut cursor)?);
        let high = if words >= 14 { u64::from(le32(&mut cursor)?) } else { 0 };
        le16(&mut cursor)?;
        let at = if at > self.at { at } else { self.message.len() - cursor.len() };
        let data = Data::of(self.message, at, length_high << 16 | length_low);
        Some(self.written(header, handle, high << 32 | low, data))
    }

    fn response(&self, header: &Header) -> Option<Act<'m>> {
        // Errors, with the exception of more data than there was room for.
        if header.status != 0 && header.status != 0x8000_0005 {
            return None;
        }
        match self.number {
            CREATE_ANDX => self.body().get(6..8).map(Act::Opened),
            OPEN_ANDX => self.body().get(5..7).map(Act::Opened),
            TREE_CONNECT_ANDX => {
                let (_, _, data) = self.parts()?;
                Some(Act::Connected { is_pipe: data.starts_with(b"IPC") })
            }
            READ_ANDX => {
                let mut cursor = Cursor::new(self.body());
                cursor.take(11)?;
                let low = u64::from(le16(&mut cursor)?);
                let at = usize::from(le16(&mut cursor)?);
                let high = u64::from(le16(&mut cursor)?);
                Some(Act::Read(Data::of(self.message, at.max(self.at), high << 16 | low)))
            }
            READ => {
                let (_, mut cursor, data) = self.parts()?;
                let length = u64::from(le16(&mut cursor)?);
                Some(Act::Read(Data::of(data, 3, length)))
            }
            _ => None,
        }
    }
}

/// Whether a message that is not whole yet carries bytes of a file, and nothing else: those are not
/// waited for. What is chained to the command may stand anywhere behind it.
pub(super) fn is_bulk(header: &Header, message: &[u8]) -> bool {
    let is_response = header.flags & RESPONSE != 0;
    matches!((header.command, is_response), (WRITE_ANDX, false) | (READ_ANDX, true))
        && message.get(HEADER_BYTES + 1) == Some(&LAST)
}

pub(super) const fn closes(number: u8) -> bool {
    number == WRITE_AND_CLOSE
}

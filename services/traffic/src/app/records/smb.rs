//! SMB 1 (MS-CIFS): commands with their responses, by multiplex number; files that are read and
//! written, of SMB 2 and 3 too (their other messages are passed over).

mod files;
mod handles;
mod one;
mod tell;
mod transfer;
mod two;

#[cfg(test)]
mod tests;

pub use transfer::Transfer;

use super::{Body, Field, Fields, Sink, Taken};
use crate::{Direction, app::bytes::Cursor};

/// Header of a message of SMB 1.
const HEADER_BYTES: usize = 32;
/// Longest message that is held until it is whole; of a longer one the beginning is read. Commands
/// of a chain begin in the first 64 KiB, and what they say must be there too.
const MESSAGE_BYTES_MAX: usize = 65 << 10;
/// From how many bytes on a message that carries bytes of a file is not waited for.
const PART_BYTES_MIN: usize = 512;
const RESPONSE: u8 = 0x80;
const NT_STATUS: u16 = 0x4000;
const UNICODE: u16 = 0x8000;
const SESSION_SETUP: u8 = 0x73;
const NEGOTIATE: u8 = 0x72;
const TREE_CONNECT: u8 = 0x75;
const CREATE: u8 = 0xa2;

/// A command and its response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Its number.
    pub command: u8,
    /// Dialect that was agreed upon, if that was seen.
    pub dialect: Option<Vec<u8>>,
    /// Status of the response.
    pub status: Option<Status>,
    /// User number.
    pub session_id: u16,
    /// Tree number.
    pub tree_id: u16,
    /// Dialects that the client offers.
    pub dialects: Vec<Vec<u8>>,
    /// What the client says of itself.
    pub request: Fields,
    /// What the server says of itself.
    pub response: Fields,
    /// What the command is about: share, file, logon.
    pub more: Fields,
    multiplex: u16,
}

impl Command {
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.dialect.as_ref().map_or(0, Vec::capacity)
            + texts_bytes(&self.dialects)
            + super::weight(&self.request)
            + super::weight(&self.response)
            + super::weight(&self.more)
    }
}

fn texts_bytes(texts: &[Vec<u8>]) -> usize {
    texts.iter().map(|text| size_of::<Vec<u8>>() + text.capacity()).sum()
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// NT.
    Nt(u32),
    /// DOS: class and code.
    Dos(u8, u16),
}

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Parser {
    dialects: Vec<Vec<u8>>,
    dialect: Option<Vec<u8>>,
    /// Bytes of a long message that are still to come, by direction.
    skip: [usize; 2],
    /// Bytes of a long compound behind those: its further messages.
    inside: [usize; 2],
    /// Bytes were lost: the next message has to be looked for.
    is_lost: [bool; 2],
    files: files::Files,
}

/// The fixed header.
struct Header {
    command: u8,
    status: u32,
    flags: u8,
    flags2: u16,
    tree_id: u16,
    session_id: u16,
    multiplex: u16,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes.strip_prefix(b"\xffSMB")?);
        let command = cursor.u8()?;
        let status = u32::from_le_bytes(cursor.array()?);
        let flags = cursor.u8()?;
        let flags2 = u16::from_le_bytes(cursor.array()?);
        cursor.take(12)?;
        let mut word = || cursor.array().map(u16::from_le_bytes);
        let (tree_id, _process, session_id, multiplex) = (word()?, word()?, word()?, word()?);
        Some(Self { command, status, flags, flags2, tree_id, session_id, multiplex })
    }
}

/// A session message of NetBIOS.
struct Frame<'m> {
    kind: u8,
    length: usize,
    /// What there is of the message, and what follows.
    behind: &'m [u8],
}

impl Parser {
    pub(super) fn take(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        sink: &mut Sink<'_>,
    ) -> Taken {
        let skip = direction.of_mut(&mut self.skip);
        if *skip > 0 {
            let now = (*skip).min(bytes.len());
            *skip -= now;
            self.files.go_on(direction, bytes.get(..now).unwrap_or_default(), sink);
            return Taken::Message(now);
        }
        if let Some(count) = self.lost(direction, bytes) {
            return count;
        }
        let Some(frame) = self.frame(direction, bytes) else { return Taken::More };
        let Frame { kind, length, behind } = frame;
        // Session messages and keep-alives of NetBIOS (RFC 1002, section 4.3.1).
        if !matches!(kind, 0 | 0x81..=0x85) {
            return Taken::Fault;
        }
        let held = length.min(MESSAGE_BYTES_MAX);
        let message = match behind.get(..length) {
            Some(message) => message,
            None if kind == 0 && behind.len() >= PART_BYTES_MIN && is_bulk(behind) => behind,
            None => match behind.get(..held).filter(|_| length > held) {
                Some(message) => message,
                None => return Taken::More,
            },
        };
        let is_first = *direction.of(&self.inside) == 0;
        let (message, skip) = two::part(message, length);
        *direction.of_mut(&mut self.skip) = skip;
        *direction.of_mut(&mut self.inside) = length - message.len() - skip;
        if kind == 0 {
            if let (Some(header), Some(body)) = (Header::read(message), message.get(HEADER_BYTES..))
            {
                self.message(direction, &header, body, sink);
            }
            self.files.message(direction, message, length, is_first, sink);
        }
        Taken::Message(bytes.len() - behind.len() + message.len())
    }

    /// What stands in front of a message, and nothing inside a compound.
    fn frame<'m>(&self, direction: Direction, bytes: &'m [u8]) -> Option<Frame<'m>> {
        let inside = *direction.of(&self.inside);
        if inside > 0 {
            return Some(Frame { kind: 0, length: inside, behind: bytes });
        }
        let ([kind, high, middle, low], behind) = bytes.split_first_chunk()?;
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        Some(Frame { kind: *kind, length, behind })
    }

    /// Bytes of one direction are missing, `count` of them behind those that are `held` for their
    /// message to be whole: it never is, and what there is of it is read.
    pub(super) fn lose(
        &mut self,
        direction: Direction,
        held: &[u8],
        count: u64,
        sink: &mut Sink<'_>,
    ) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        // Whether messages are lost of which it is not known what file they tell of.
        let mut is_more = false;
        if *direction.of(&self.skip) == 0
            && !*direction.of(&self.is_lost)
            && let Some(Frame { kind: 0, length, behind }) = self.frame(direction, held)
        {
            is_more = !is_bulk(behind);
            let is_first = *direction.of(&self.inside) == 0;
            self.files.message(direction, behind, length, is_first, sink);
            *direction.of_mut(&mut self.inside) = 0;
            *direction.of_mut(&mut self.skip) = length.saturating_sub(behind.len());
        }
        let skip = direction.of_mut(&mut self.skip);
        if *skip < count {
            is_more = true;
            *skip += std::mem::take(direction.of_mut(&mut self.inside));
        }
        *direction.of_mut(&mut self.is_lost) |= *skip < count;
        *skip = skip.saturating_sub(count);
        self.files.lose(direction, count, is_more, sink);
    }

    /// After a loss: what there is before the next message is passed over.
    fn lost(&mut self, direction: Direction, bytes: &[u8]) -> Option<Taken> {
        let is_lost = direction.of_mut(&mut self.is_lost);
        if !*is_lost {
            return None;
        }
        let is_message = |at: &usize| {
            let rest = bytes.get(*at..).unwrap_or_default();
            matches!(rest, [0, _, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..])
        };
        match (0..bytes.len()).find(is_message) {
            Some(0) => {
                *is_lost = false;
                None
            }
            Some(at) => Some(Taken::Message(at)),
            // The last bytes may be the first of one.
            None if bytes.len() > 8 => Some(Taken::Message(bytes.len() - 8)),
            None => Some(Taken::More),
        }
    }

    /// Nothing more comes in one direction.
    pub(super) fn end(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        self.files.end(direction, sink);
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + texts_bytes(&self.dialects)
            + self.dialect.as_ref().map_or(0, Vec::capacity)
            + self.files.held_bytes()
    }

    /// See [`super::Records::evicted`].
    pub(super) const fn evicted(&self) -> u64 {
        self.files.evicted()
    }

    fn message(&mut self, direction: Direction, header: &Header, body: &[u8], sink: &mut Sink<'_>) {
        match direction {
            Direction::ToServer if header.flags & RESPONSE == 0 => {
                self.request(header, body, sink);
            }
            Direction::ToClient if header.flags & RESPONSE != 0 => {
                self.response(header, body, sink);
            }
            // Not what this direction says.
            Direction::ToServer | Direction::ToClient => {}
        }
    }

    fn request(&mut self, header: &Header, body: &[u8], sink: &mut Sink<'_>) {
        // Reads, writes and transactions are parts of something else to Suricata.
        if matches!(header.command, 0x2e | 0x2f | 0x25 | 0x32) {
            return;
        }
        let mut command = Command {
            command: header.command,
            dialect: self.dialect.clone(),
            session_id: header.session_id,
            tree_id: header.tree_id,
            multiplex: header.multiplex,
            ..Command::default()
        };
        match header.command {
            SESSION_SETUP => {
                command.request = host(header, body, setup_names(body, 8));
                command.more.extend(tell::logon(body));
            }
            TREE_CONNECT => command.more = tell::connect(header, body),
            CREATE => command.more = tell::create(header, body),
            NEGOTIATE => {
                self.dialects = dialects(body);
                command.dialects.clone_from(&self.dialects);
            }
            _ => {}
        }
        let tx = sink.begin(Body::Smb(Box::new(command)), None);
        *Direction::ToServer.of_mut(&mut tx.is_done) = true;
    }

    fn response(&mut self, header: &Header, body: &[u8], sink: &mut Sink<'_>) {
        let is_own = |tx: &&mut super::Tx| match &tx.body {
            Body::Smb(own) => {
                own.command == header.command
                    && own.multiplex == header.multiplex
                    && own.status.is_none()
            }
            Body::Sip(_) | Body::Pgsql(_) | Body::SmbFile(_) => false,
        };
        let Some(tx) = sink.txs.iter_mut().find(is_own) else { return };
        sink.is_changed = true;
        tx.is_done = [true; 2];
        let Body::Smb(own) = &mut tx.body else { return };
        own.status = Some(if header.flags2 & NT_STATUS == 0 {
            Status::Dos(header.status as u8, (header.status >> 16) as u16)
        } else {
            Status::Nt(header.status)
        });
        own.session_id = header.session_id;
        own.tree_id = header.tree_id;
        match header.command {
            SESSION_SETUP => own.response = host(header, body, setup_names(body, 0)),
            NEGOTIATE => {
                let chosen = body.get(1..).and_then(|rest| rest.first_chunk().copied());
                let chosen = chosen.map(|bytes| usize::from(u16::from_le_bytes(bytes)));
                self.dialect = chosen.and_then(|index| self.dialects.get(index).cloned());
                own.dialect.clone_from(&self.dialect);
                self.files.dialect.clone_from(&self.dialect);
                tell::negotiated(body, &mut own.more);
            }
            TREE_CONNECT => tell::connected(body, &mut own.more),
            CREATE => {
                let is_open = header.status == 0;
                tell::created(is_open.then_some(body), &mut own.more);
            }
            _ => {}
        }
    }
}

/// Whether the message carries bytes of a file, and nothing else.
fn is_bulk(message: &[u8]) -> bool {
    match Header::read(message) {
        Some(header) => one::is_bulk(&header, message),
        None => two::Header::read(message).is_some_and(|header| header.is_bulk()),
    }
}

/// Where the names of a session setup begin: behind its words, its byte count and its security
/// blob. `skipped`: bytes between the blob's length and the byte count.
fn setup_names(body: &[u8], skipped: usize) -> Option<usize> {
    let mut cursor = Cursor::new(body);
    let words = usize::from(cursor.u8()?);
    let le16 = |cursor: &mut Cursor<'_>| cursor.array().map(u16::from_le_bytes);
    let blob = match (words, skipped) {
        // Request with a blob, response with a blob.
        (12, 8) => {
            cursor.take(14)?;
            le16(&mut cursor)?
        }
        (4, 0) => {
            cursor.take(6)?;
            le16(&mut cursor)?
        }
        // Request with two passwords.
        (13, 8) => {
            cursor.take(14)?;
            le16(&mut cursor)?.checked_add(le16(&mut cursor)?)?
        }
        _ => 0,
    };
    let at = 1 + words * 2 + 2 + usize::from(blob);
    (at <= body.len()).then_some(at)
}

/// Operating system and LAN manager.
fn host(header: &Header, body: &[u8], at: Option<usize>) -> Fields {
    let Some(at) = at else { return Fields::new() };
    let mut rest = body.get(at..).unwrap_or_default();
    let is_wide = header.flags2 & UNICODE != 0;
    // Wide text begins at an even place of the message.
    if is_wide && (HEADER_BYTES + at) % 2 == 1 {
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut out = Fields::new();
    for name in ["native_os", "native_lm"] {
        let (text, behind) = if is_wide {
            wide(rest)
        } else {
            let (text, behind) = narrow(rest);
            (text.to_vec(), behind)
        };
        rest = behind;
        out.push((name.to_owned(), Field::Text(text)));
    }
    out
}

fn narrow(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default())
}

/// Wide text without the zero bytes that most of it has.
fn wide(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let (units, _) = bytes.as_chunks::<2>();
    let end = units.iter().position(|unit| *unit == [0, 0]).unwrap_or(units.len());
    let text = units.iter().take(end).flatten().copied().filter(|byte| *byte != 0).collect();
    (text, bytes.get(end * 2 + 2..).unwrap_or_default())
}

/// Names, each with a byte in front and a zero behind.
fn dialects(body: &[u8]) -> Vec<Vec<u8>> {
    const DIALECTS_MAX: usize = 32;
    // The longest that there is has 27. Each transaction keeps them.
    const DIALECT_BYTES_MAX: usize = 64;
    let mut rest = body.get(3..).unwrap_or_default();
    let mut out = Vec::new();
    while let [2, behind @ ..] = rest {
        let (name, behind) = narrow(behind);
        rest = behind;
        out.push(name.get(..DIALECT_BYTES_MAX.min(name.len())).unwrap_or_default().to_vec());
        if out.len() >= DIALECTS_MAX {
            break;
        }
    }
    out
}

/// Whether the first bytes are those of a response, of SMB 1 or 2; `None`: it can't be told.
pub(crate) fn is_response(bytes: &[u8]) -> Option<bool> {
    match bytes.get(4..8)? {
        b"\xffSMB" => Some(bytes.get(13)? & RESPONSE != 0),
        b"\xfeSMB" => Some(bytes.get(20)? & 1 != 0),
        _ => None,
    }
}

fn le16(cursor: &mut Cursor<'_>) -> Option<u16> {
    cursor.array().map(u16::from_le_bytes)
}

fn le32(cursor: &mut Cursor<'_>) -> Option<u32> {
    cursor.array().map(u32::from_le_bytes)
}

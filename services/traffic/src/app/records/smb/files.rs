//! From messages to files: which transfer a piece belongs to, and when a transfer is over.

use std::ops::Range;

use super::{
    Direction, Header, RESPONSE,
    handles::{Asked, Handles, Share},
    one,
    transfer::{Data, Piece, Transfer},
    two,
};
use crate::app::{
    http::FileState,
    records::{Body, Sink, Tx},
};

/// Open transfers of a flow: each holds a window of its file. The oldest ends first.
const TRANSFERS_MAX: usize = 64;

/// Bytes of a long message that are still to come, and where they belong.
#[derive(Debug)]
struct Rest {
    handle: Vec<u8>,
    session_id: u64,
    offset: u64,
    /// Bytes of the message before them.
    skip: usize,
    left: u64,
}

impl Rest {
    /// The next `count` bytes of the message are passed: which of them belong to the file, and at
    /// which offset.
    fn pass(&mut self, count: usize) -> (u64, Range<usize>) {
        let from = self.skip.min(count);
        let own = usize::try_from(self.left).unwrap_or(usize::MAX).min(count - from);
        let offset = self.offset;
        self.skip -= from;
        self.offset = self.offset.saturating_add(own as u64);
        self.left -= own as u64;
        (offset, from..from + own)
    }
}

/// State of a flow.
#[derive(Debug, Default)]
pub(super) struct Files {
    handles: Handles,
    pub(super) dialect: Option<Vec<u8>>,
    /// By direction: one for each command of the message that carries bytes.
    rests: [Vec<Rest>; 2],
    /// By direction: name of the file that was opened last in the compound.
    opened: [Option<Vec<u8>>; 2],
    /// By direction: session and tree of the last message of the compound.
    before: [Option<(u64, u32)>; 2],
    /// Transfers that ended to make room, pieces that waited too long or were cut.
    given_up: u64,
}

impl Files {
    pub(super) const fn evicted(&self) -> u64 {
        self.handles.evicted() + self.given_up
    }

    pub(super) fn held_bytes(&self) -> usize {
        let rests = self.rests.iter().flatten();
        self.handles.held_bytes()
            + self.dialect.as_ref().map_or(0, Vec::capacity)
            + self.opened.iter().flatten().map(Vec::capacity).sum::<usize>()
            + rests.map(|rest| size_of::<Rest>() + rest.handle.capacity()).sum::<usize>()
    }

    /// A message of `length` bytes, or the first bytes of one; or, if not `is_first`, further ones
    /// of a compound.
    pub(super) fn message(
        &mut self,
        direction: Direction,
        message: &[u8],
        length: usize,
        is_first: bool,
        sink: &mut Sink<'_>,
    ) {
        direction.of_mut(&mut self.rests).clear();
        if let Some(header) = Header::read(message) {
            let is_response = header.flags & RESPONSE != 0;
            if is_response == (direction == Direction::ToClient) {
                let mut room = length as u64;
                for command in one::chain(&header, message) {
                    self.one(&header, command, &mut room, sink);
                }
            }
            return;
        }
        if is_first {
            // In this message the number means another file.
            *direction.of_mut(&mut self.opened) = None;
            *direction.of_mut(&mut self.before) = None;
            end_just_opened(direction, sink);
        }
        for (header, message) in two::compound(message, *direction.of(&self.before)) {
            *direction.of_mut(&mut self.before) = Some((header.session_id, header.tree_id));
            if header.is_response() == (direction == Direction::ToClient) {
                self.two(direction, &header, message, sink);
            }
        }
    }

    fn one(
        &mut self,
        header: &Header,
        command: one::Command<'_>,
        room: &mut u64,
        sink: &mut Sink<'_>,
    ) {
        let Some(act) = command.act(header) else { return };
        let session_id = u64::from(header.session_id);
        let tree_id = u32::from(header.tree_id);
        // A chain has one number: what is asked for tells its commands apart.
        let number = u64::from(command.number) << 16 | u64::from(header.multiplex);
        let message = (session_id, number);
        match act {
            one::Act::Ask(asked) => self.handles.ask(message, asked),
            one::Act::Opened(handle) => self.opened(message, handle),
            one::Act::Connected { is_pipe } => self.connected(message, tree_id, is_pipe),
            one::Act::Write(piece) => {
                self.put(&piece.cut_to(room), sink);
                if one::closes(command.number) {
                    self.close(Direction::ToServer, session_id, piece.handle, sink);
                }
            }
            one::Act::Read(data) => {
                self.read(message, (1, u16::from(command.number)), data, sink);
            }
            one::Act::Close(handle) => self.close(Direction::ToServer, session_id, handle, sink),
        }
    }

    fn two(
        &mut self,
        direction: Direction,
        header: &two::Header,
        bytes: &[u8],
        sink: &mut Sink<'_>,
    ) {
        let Some(act) = two::act(header, bytes) else { return };
        let message = (header.session_id, header.message_id);
        match act {
            two::Act::Ask(asked) => {
                if let Asked::Open(name) = &asked {
                    *direction.of_mut(&mut self.opened) = Some(name.clone());
                    end_just_opened(direction, sink);
                }
                self.handles.ask(message, asked);
            }
            two::Act::Opened(handle) => {
                self.opened(message, handle);
                let name = self.handles.name(message.0, handle).map(<[u8]>::to_vec);
                *direction.of_mut(&mut self.opened) = name;
                end_just_opened(direction, sink);
            }
            two::Act::Connected { is_pipe } => self.connected(message, header.tree_id, is_pipe),
            two::Act::Write(piece) => self.put(&piece, sink),
            two::Act::Read(data) => self.read(message, (2, header.command), data, sink),
            two::Act::Ended => {
                if let Some(Asked::Read { handle, .. }) = self.handles.answer(message) {
                    finish(header.session_id, &handle, Some(Direction::ToClient), sink);
                }
            }
            two::Act::Agreed(dialect) => self.dialect = Some(dialect),
            two::Act::Close(handle) => self.close(direction, header.session_id, handle, sink),
        }
    }

    fn opened(&mut self, message: (u64, u64), handle: &[u8]) {
        if let Some(Asked::Open(name)) = self.handles.answer(message) {
            self.handles.open(message.0, handle, name);
        }
    }

    fn connected(&mut self, message: (u64, u64), tree_id: u32, is_pipe: bool) {
        if let Some(Asked::Connect(name)) = self.handles.answer(message) {
            self.handles.connect(message.0, tree_id, Share { name, is_pipe });
        }
    }

    fn close(&mut self, direction: Direction, session_id: u64, handle: &[u8], sink: &mut Sink<'_>) {
        self.handles.close(session_id, handle);
        // What the other direction calls so is another file, of another compound.
        let only = (handle == two::JUST_OPENED).then_some(direction);
        finish(session_id, handle, only, sink);
    }

    fn read(
        &mut self,
        message: (u64, u64),
        (version, command): (u8, u16),
        data: Data<'_>,
        sink: &mut Sink<'_>,
    ) {
        let asked = self.handles.answer(message);
        let Some(Asked::Read { handle, offset, tree_id }) = asked else { return };
        let piece = Piece {
            direction: Direction::ToClient,
            version,
            command,
            session_id: message.0,
            tree_id,
            handle: &handle,
            offset,
            bytes: data.bytes,
            length: data.length,
            skip: data.skip,
            is_cut: false,
        };
        self.put(&piece, sink);
    }

    /// Bytes of a file, to the transfer that is open for it; the first ones open it.
    fn put(&mut self, piece: &Piece<'_>, sink: &mut Sink<'_>) {
        let share = self.handles.share(piece.session_id, piece.tree_id);
        if share.is_some_and(|share| share.is_pipe) {
            return;
        }
        let left = piece.length.saturating_sub(piece.bytes.len() as u64);
        if left > 0 {
            piece.direction.of_mut(&mut self.rests).push(Rest {
                handle: piece.handle.to_vec(),
                session_id: piece.session_id,
                offset: piece.offset.saturating_add(piece.bytes.len() as u64),
                skip: piece.skip,
                left,
            });
        }
        let key = (piece.session_id, piece.handle);
        if find(key, piece.direction, sink).is_none() {
            self.begin(piece, sink);
        }
        if let Some(transfer) = find(key, piece.direction, sink) {
            self.given_up += transfer.put(piece.offset, piece.bytes) + u64::from(piece.is_cut);
            if piece.is_cut {
                transfer.lose();
            }
            sink.is_changed = true;
        }
    }

    fn begin(&mut self, piece: &Piece<'_>, sink: &mut Sink<'_>) {
        let unknown: &[u8] = if piece.version == 1 { b"<unknown>" } else { b"" };
        let name = if piece.handle == two::JUST_OPENED {
            piece.direction.of(&self.opened).as_deref()
        } else {
            self.handles.name(piece.session_id, piece.handle)
        };
        let share = self.handles.share(piece.session_id, piece.tree_id);
        let mut transfer = Transfer::new(name.unwrap_or(unknown), sink.config);
        transfer.version = piece.version;
        transfer.command = piece.command;
        transfer.session_id = piece.session_id;
        transfer.tree_id = piece.tree_id;
        transfer.handle = piece.handle.to_vec();
        transfer.dialect.clone_from(&self.dialect);
        transfer.share = share.map(|share| share.name.clone()).unwrap_or_default();
        self.make_room(sink);
        sink.begin(Body::SmbFile(Box::new(transfer)), Some(piece.direction));
    }

    fn make_room(&mut self, sink: &mut Sink<'_>) {
        let open = |tx: &&mut Tx| tx.transfer().is_some() && !tx.is_complete();
        if sink.txs.iter_mut().filter(open).count() >= TRANSFERS_MAX
            && let Some(tx) = sink.txs.iter_mut().find(open)
        {
            over(tx, FileState::Truncated);
            self.given_up += 1;
        }
    }

    /// More of a message whose beginning was taken before.
    pub(super) fn go_on(&mut self, direction: Direction, bytes: &[u8], sink: &mut Sink<'_>) {
        let rests = direction.of_mut(&mut self.rests);
        for rest in rests.iter_mut() {
            let (offset, own) = rest.pass(bytes.len());
            if let Some(transfer) = find((rest.session_id, &rest.handle), direction, sink) {
                self.given_up += transfer.put(offset, bytes.get(own).unwrap_or_default());
                sink.is_changed = true;
            }
        }
        rests.retain(|rest| rest.left > 0);
    }

    /// `count` bytes were lost; `is_more`: also of messages that begin there, and of which files
    /// those told is not known.
    pub(super) fn lose(
        &mut self,
        direction: Direction,
        count: usize,
        is_more: bool,
        sink: &mut Sink<'_>,
    ) {
        let rests = direction.of_mut(&mut self.rests);
        for rest in rests.iter_mut() {
            let (_, own) = rest.pass(count);
            if !own.is_empty()
                && let Some(transfer) = find((rest.session_id, &rest.handle), direction, sink)
            {
                transfer.lose();
            }
        }
        rests.retain(|rest| rest.left > 0);
        if !is_more {
            return;
        }
        for tx in sink.txs.iter_mut().filter(|tx| tx.direction == Some(direction)) {
            if let Body::SmbFile(transfer) = &mut tx.body {
                transfer.lose();
            }
        }
    }

    #[expect(clippy::unused_self, reason = "the flow's files, wherever they are kept")]
    pub(super) fn end(&self, direction: Direction, sink: &mut Sink<'_>) {
        for tx in sink.txs.iter_mut().filter(|tx| tx.direction == Some(direction)) {
            if tx.transfer().is_some() {
                over(tx, FileState::Truncated);
            }
        }
    }
}

fn find<'s>(
    (session_id, handle): (u64, &[u8]),
    direction: Direction,
    sink: &'s mut Sink<'_>,
) -> Option<&'s mut Transfer> {
    sink.txs.iter_mut().filter(|tx| tx.direction == Some(direction)).find_map(|tx| {
        match &mut tx.body {
            Body::SmbFile(transfer) if transfer.is_of(handle, session_id) => Some(&mut **transfer),
            _ => None,
        }
    })
}

/// Ends the transfers of an open file, those of one direction or of both.
fn finish(session_id: u64, handle: &[u8], only: Option<Direction>, sink: &mut Sink<'_>) {
    for tx in sink.txs.iter_mut() {
        let is_own = tx.transfer().is_some_and(|transfer| transfer.is_of(handle, session_id))
            && only.is_none_or(|only| tx.direction == Some(only));
        if is_own {
            over(tx, FileState::Closed);
            sink.is_changed = true;
        }
    }
}

/// Ends what has no number but that of the file just opened, and was not closed: whether it was
/// whole is not known.
fn end_just_opened(direction: Direction, sink: &mut Sink<'_>) {
    for tx in sink.txs.iter_mut().filter(|tx| tx.direction == Some(direction)) {
        let is_own = tx.transfer().is_some_and(|transfer| {
            transfer.file.state == FileState::Open && transfer.handle == two::JUST_OPENED
        });
        if is_own {
            over(tx, FileState::Truncated);
            sink.is_changed = true;
        }
    }
}

fn over(tx: &mut Tx, state: FileState) {
    tx.is_done = [true; 2];
    if let Body::SmbFile(transfer) = &mut tx.body {
        transfer.finish(state);
    }
}

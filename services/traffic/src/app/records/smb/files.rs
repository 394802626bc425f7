//! From messages to files: which transfer a piece belongs to, and when a transfer is over.

use super::{
    Direction, Header, RESPONSE,
    handles::{Asked, Handles, Share},
    one,
    transfer::{Piece, Transfer},
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
    left: u64,
}

/// State of a flow.
#[derive(Debug, Default)]
pub(super) struct Files {
    handles: Handles,
    pub(super) dialect: Option<Vec<u8>>,
    rest: [Option<Rest>; 2],
    /// Transfers that ended to make room.
    ended: u64,
}

impl Files {
    pub(super) const fn evicted(&self) -> u64 {
        self.handles.evicted() + self.ended
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.handles.held_bytes()
    }

    /// A message, or the first bytes of one that carries bytes of a file.
    pub(super) fn message(&mut self, direction: Direction, message: &[u8], sink: &mut Sink<'_>) {
        *direction.of_mut(&mut self.rest) = None;
        if let Some(header) = Header::read(message) {
            let is_response = header.flags & RESPONSE != 0;
            if is_response == (direction == Direction::ToClient) {
                for command in one::chain(&header, message) {
                    self.one(&header, command, sink);
                }
            }
            return;
        }
        for (header, message) in two::compound(message) {
            if header.is_response() == (direction == Direction::ToClient) {
                self.two(&header, message, sink);
            }
        }
    }

    fn one(&mut self, header: &Header, command: one::Command<'_>, sink: &mut Sink<'_>) {
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
                self.put(&piece, sink);
                if one::closes(command.number) {
                    self.close(session_id, piece.handle, sink);
                }
            }
            one::Act::Read { bytes, length } => {
                let piece = (1, u16::from(command.number), tree_id);
                self.read(message, piece, bytes, length, sink);
            }
            one::Act::Close(handle) => self.close(session_id, handle, sink),
        }
    }

    fn two(&mut self, header: &two::Header, bytes: &[u8], sink: &mut Sink<'_>) {
        let Some(act) = two::act(header, bytes) else { return };
        let message = (header.session_id, header.message_id);
        match act {
            two::Act::Ask(asked) => self.handles.ask(message, asked),
            two::Act::Opened(handle) => self.opened(message, handle),
            two::Act::Connected { is_pipe } => self.connected(message, header.tree_id, is_pipe),
            two::Act::Write(piece) => self.put(&piece, sink),
            two::Act::Read { bytes, length } => {
                self.read(message, (2, header.command, header.tree_id), bytes, length, sink);
            }
            two::Act::Ended => {
                if let Some(Asked::Read { handle, .. }) = self.handles.answer(message) {
                    finish(header.session_id, &handle, Some(Direction::ToClient), sink);
                }
            }
            two::Act::Agreed(dialect) => self.dialect = Some(dialect),
            two::Act::Close(handle) => self.close(header.session_id, handle, sink),
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

    fn close(&mut self, session_id: u64, handle: &[u8], sink: &mut Sink<'_>) {
        self.handles.close(session_id, handle);
        finish(session_id, handle, None, sink);
    }

    fn read(
        &mut self,
        message: (u64, u64),
        (version, command, tree_id): (u8, u16, u32),
        bytes: &[u8],
        length: u64,
        sink: &mut Sink<'_>,
    ) {
        let Some(Asked::Read { handle, offset }) = self.handles.answer(message) else { return };
        let piece = Piece {
            direction: Direction::ToClient,
            version,
            command,
            session_id: message.0,
            tree_id,
            handle: &handle,
            offset,
            bytes,
            length,
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
            *piece.direction.of_mut(&mut self.rest) = Some(Rest {
                handle: piece.handle.to_vec(),
                session_id: piece.session_id,
                offset: piece.offset.saturating_add(piece.bytes.len() as u64),
                left,
            });
        }
        let key = (piece.session_id, piece.handle);
        if let Some(transfer) = find(key, piece.direction, sink) {
            transfer.put(piece.offset, piece.bytes);
            sink.is_changed = true;
            return;
        }
        let unknown: &[u8] = if piece.version == 1 { b"<unknown>" } else { b"" };
        let name = self.handles.name(piece.session_id, piece.handle).unwrap_or(unknown);
        let mut transfer = Transfer::new(name, sink.config);
        transfer.version = piece.version;
        transfer.command = piece.command;
        transfer.session_id = piece.session_id;
        transfer.tree_id = piece.tree_id;
        transfer.handle = piece.handle.to_vec();
        transfer.dialect.clone_from(&self.dialect);
        transfer.share = share.map(|share| share.name.clone()).unwrap_or_default();
        transfer.put(piece.offset, piece.bytes);
        self.make_room(sink);
        sink.begin(Body::SmbFile(Box::new(transfer)), Some(piece.direction));
    }

    fn make_room(&mut self, sink: &mut Sink<'_>) {
        let open = |tx: &&mut Tx| tx.transfer().is_some() && !tx.is_complete();
        if sink.txs.iter_mut().filter(open).count() >= TRANSFERS_MAX
            && let Some(tx) = sink.txs.iter_mut().find(open)
        {
            over(tx, FileState::Truncated);
            self.ended += 1;
        }
    }

    /// More of a message whose beginning was taken before.
    pub(super) fn go_on(&mut self, direction: Direction, bytes: &[u8], sink: &mut Sink<'_>) {
        let Some(rest) = direction.of_mut(&mut self.rest) else { return };
        let count = usize::try_from(rest.left).unwrap_or(usize::MAX).min(bytes.len());
        if let Some(transfer) = find((rest.session_id, &rest.handle), direction, sink) {
            transfer.put(rest.offset, bytes.get(..count).unwrap_or_default());
            sink.is_changed = true;
        }
        rest.offset = rest.offset.saturating_add(count as u64);
        rest.left -= count as u64;
        if rest.left == 0 {
            *direction.of_mut(&mut self.rest) = None;
        }
    }

    pub(super) fn lose(&mut self, direction: Direction, count: usize, sink: &mut Sink<'_>) {
        let Some(rest) = direction.of_mut(&mut self.rest) else { return };
        if let Some(transfer) = find((rest.session_id, &rest.handle), direction, sink) {
            transfer.lose();
        }
        let count = (count as u64).min(rest.left);
        rest.offset = rest.offset.saturating_add(count);
        rest.left -= count;
        if rest.left == 0 {
            *direction.of_mut(&mut self.rest) = None;
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

fn over(tx: &mut Tx, state: FileState) {
    tx.is_done = [true; 2];
    if let Body::SmbFile(transfer) = &mut tx.body {
        transfer.finish(state);
    }
}

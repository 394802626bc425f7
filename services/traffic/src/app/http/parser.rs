//! The connection: a reader for each direction and the queue of transactions that they share.

use super::body::Keep;
use super::coding::Limits;
use super::file::{File, FileState};
use super::inflate::Inflate;
use super::{ContentRange, Tx, progress};
use crate::Direction;
use crate::app::{Config, Fed, Meta, Step};
use std::collections::VecDeque;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Http {
    /// Transactions not yet pruned, oldest first.
    pub txs: VecDeque<Tx>,
    /// Transactions given up because too many were open.
    pub dropped_txs: u64,
    /// Bytes of bodies beyond the limits.
    pub cut_bytes: u64,
    pub(super) next_id: u64,
    pub(super) now_ns: u64,
    pub(super) request: Reader,
    pub(super) response: Reader,
    pub(super) keeps: [Option<Keep>; 2],
    /// What HTTP/2 begins with after an upgrade.
    pub(crate) upgraded: Option<Box<crate::app::http2::Http2>>,
}

/// Where a reader is in its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum At {
    /// Between messages.
    #[default]
    Idle,
    Line,
    Headers,
    /// So many bytes of a body are to come.
    Known(u64),
    /// A body that ends with the connection.
    Close,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    /// All of the message was read; what follows tells whether it was.
    Finalize,
    /// CONNECT: the response says what comes.
    WaitResponse,
    /// What follows is not HTTP, or nothing that can be read.
    Ignore,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub at: At,
    pub held: Vec<u8>,
    /// Id of the transaction that is being read.
    pub tx: u64,
    /// Content-Length of the message.
    pub length: Option<u64>,
    pub is_closed: bool,
}

/// What a reader says after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Go on.
    On,
    /// More bytes are needed, or the other direction first.
    Wait,
    /// Not HTTP any more.
    Stop(Step),
}

impl Http {
    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        self.now_ns = now_ns;
        let config = meta.config;
        self.keeps = keeps(config).map(Some);
        fed.is_changed |= !data.is_empty() || meta.eof || meta.gap > 0;
        if meta.gap > 0 {
            self.gap(direction, meta.gap);
        }
        let done = self.done(direction);
        let mut rest = data;
        let mut step = self.run(direction, &mut rest, config);
        if step == Step::Go
            && direction == Direction::ToClient
            && self.request.at == At::WaitResponse
        {
            self.connect_answered();
            let held = std::mem::take(&mut self.request.held);
            step = self.run(Direction::ToServer, &mut held.as_slice(), config);
        }
        if direction == Direction::ToServer
            && self.request.at == At::WaitResponse
            && !rest.is_empty()
        {
            let room =
                (config.http_field_bytes_max as usize).saturating_sub(self.request.held.len());
            self.request
                .held
                .extend_from_slice(rest.get(..room.min(rest.len())).unwrap_or_default());
        }
        if meta.eof {
            self.close(direction, config);
        }
        match step {
            Step::Fail => self.end(direction),
            Step::Become(_) => fed.left = rest.len(),
            _ => {}
        }
        fed.is_raw_waiting = step == Step::Go && self.done(direction) == done;
        step
    }

    /// The first bytes of a direction, held before they are read: not enough to tell what it speaks.
    pub(crate) fn hold_unsure(&mut self, direction: Direction, bytes: Vec<u8>) {
        self.reader(direction).held = bytes;
    }

    /// See [`Self::hold_unsure`]; to be asked only before anything of the direction was read.
    pub(crate) fn take_unsure(&mut self, direction: Direction) -> Vec<u8> {
        std::mem::take(&mut self.reader(direction).held)
    }

    /// Messages of a direction that are complete and still kept.
    fn done(&self, direction: Direction) -> usize {
        self.txs.iter().filter(|tx| tx.progress(direction) == progress::COMPLETE).count()
    }

    fn run(&mut self, direction: Direction, rest: &mut &[u8], config: &Config) -> Step {
        loop {
            let turn = match direction {
                Direction::ToServer => self.request_step(rest, config),
                Direction::ToClient => self.response_step(rest, config),
            };
            match turn {
                Turn::On => {}
                Turn::Wait => return Step::Go,
                Turn::Stop(step) => return step,
            }
        }
    }

    /// The transaction with this id, if it is still kept. Ids grow along the queue.
    pub(super) fn tx(&mut self, id: u64) -> Option<&mut Tx> {
        let index = self.txs.binary_search_by_key(&id, |tx| tx.id).ok()?;
        self.txs.get_mut(index)
    }

    /// Adds a transaction; the oldest goes when there are too many.
    pub(super) fn open_tx(&mut self, config: &Config) -> u64 {
        if self.txs.len() >= config.txs_max.max(1) as usize {
            self.txs.pop_front();
            self.dropped_txs += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        crate::app::add(&mut self.txs, Tx { id, at_ns: self.now_ns, ..Tx::default() });
        id
    }

    pub(super) fn event(&mut self, direction: Direction, event: &'static str) {
        let id = self.reader(direction).tx;
        if let Some(tx) = self.tx(id) {
            tx.events.add(event);
        }
    }

    pub(super) fn reader(&mut self, direction: Direction) -> &mut Reader {
        match direction {
            Direction::ToServer => &mut self.request,
            Direction::ToClient => &mut self.response,
        }
    }

    /// Lost bytes: a body of known length has a hole, and what is compressed is over. Elsewhere what
    /// comes next is read as if nothing were missing, as Suricata does, which tells so.
    fn gap(&mut self, direction: Direction, gap: u64) {
        let is_new = self.next_id == 0;
        let reader = self.reader(direction);
        let id = reader.tx;
        let lost = match reader.at {
            At::Ignore => return,
            // Before anything else.
            At::Idle if is_new => return,
            At::Known(left) if gap < left => {
                reader.at = At::Known(left - gap);
                gap
            }
            At::Known(left) => {
                reader.at = At::Finalize;
                self.event(direction, "invalid_gap");
                left
            }
            At::Close => {
                return self.tx(id).map_or((), |tx| tx.close_inflate(direction));
            }
            _ => return self.event(direction, "invalid_gap"),
        };
        let are_hashed = direction.of(&self.keeps).is_some_and(|keep| keep.are_files_hashed);
        let Some(tx) = self.tx(id) else { return };
        // What a client sends compressed is decoded on, whatever comes of it.
        if direction == Direction::ToClient && tx.inflates.iter().skip(1).any(Option::is_some) {
            return tx.close_inflate(direction);
        }
        let file = tx.next_file(direction, are_hashed).filter(|_| tx.body(direction).total == 0);
        let (body, files) = tx.body_mut(direction);
        body.has_gap = true;
        body.wire += lost;
        body.total += lost;
        files.extend(file);
        for file in files.iter_mut().filter(|file| file.state == FileState::Open) {
            file.has_gap = true;
            file.size += lost;
        }
        // Where a part ends is not known any more.
        if let Some(form) = tx.form.as_mut().filter(|_| direction == Direction::ToServer) {
            form.stop();
        }
    }

    /// Takes bytes of a body: decodes, keeps.
    pub(super) fn body(&mut self, direction: Direction, bytes: &[u8]) {
        let Some(keep) = self.keeps.get(direction.index()).copied().flatten() else { return };
        let id = self.reader(direction).tx;
        let cut = self.tx(id).map_or(0, |tx| tx.push_body(direction, bytes, keep));
        self.cut_bytes += cut;
    }

    /// The body of `direction` is at its end: decoders give what they held back.
    pub(super) fn drain(&mut self, direction: Direction) {
        let Some(keep) = self.keeps.get(direction.index()).copied().flatten() else { return };
        let id = self.reader(direction).tx;
        let cut = self.tx(id).map_or(0, |tx| tx.drain_body(direction, keep));
        self.cut_bytes += cut;
    }

    /// The message of `direction` is complete.
    pub(super) fn complete(&mut self, direction: Direction) {
        self.drain(direction);
        let id = self.reader(direction).tx;
        if let Some(tx) = self.tx(id) {
            tx.finish(direction, FileState::Closed);
        }
    }

    /// Bytes ended: what is open is complete as far as it came.
    fn close(&mut self, direction: Direction, config: &Config) {
        let reader = self.reader(direction);
        reader.is_closed = true;
        if reader.at == At::Line && !reader.held.is_empty() {
            // A line without its end counts at the end of the connection.
            let line = std::mem::take(&mut reader.held);
            match direction {
                Direction::ToServer => self.whole_request_line(&line, &[], config),
                Direction::ToClient => self.status_line(&line, &[]),
            };
        }
        let reader = self.reader(direction);
        if matches!(reader.at, At::Headers | At::Trailer) {
            let (id, is_trailer) = (reader.tx, reader.at == At::Trailer);
            let held = std::mem::take(&mut reader.held);
            if let Some(tx) = self.tx(id) {
                super::block::last_fields(&held, direction, is_trailer, tx);
            }
        }
        if direction == Direction::ToClient
            && self.response.at == At::Finalize
            && !self.response.held.is_empty()
            && self.unexpected_body() != Turn::On
        {
            return self.end(direction);
        }
        let reader = self.reader(direction);
        let at = std::mem::replace(&mut reader.at, At::Ignore);
        let id = reader.tx;
        // A response ends with the connection, whatever length was stated; but a line that tells what
        // comes is waited for, and so is all of a request's body (as libhtp has it).
        let is_cut = match direction {
            Direction::ToServer => matches!(
                at,
                At::Line | At::Known(_) | At::ChunkLine | At::ChunkData(_) | At::ChunkEnd
            ),
            Direction::ToClient => matches!(at, At::Line | At::ChunkLine | At::ChunkEnd),
        };
        let state = if is_cut { FileState::Truncated } else { FileState::Closed };
        self.drain(direction);
        if let Some(tx) = self.tx(id) {
            tx.end(direction, state, is_cut);
        }
        self.end(direction);
    }

    /// Every transaction ends in this direction.
    fn end(&mut self, direction: Direction) {
        self.reader(direction).at = At::Ignore;
        for tx in &mut self.txs {
            tx.end(direction, FileState::Truncated, true);
        }
    }

    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let readers = [&self.request, &self.response];
        size_of::<Self>()
            + readers.iter().map(|reader| reader.held.capacity()).sum::<usize>()
            + self.txs.iter().map(Tx::held_bytes).sum::<usize>()
            + self.upgraded.as_ref().map_or(0, |upgraded| upgraded.held_bytes())
    }

    /// After the inspectors: their bytes may go.
    pub(crate) fn prune(&mut self) {
        if let [Some(request), Some(response)] = self.keeps {
            self.txs.iter_mut().for_each(|tx| tx.roll([request, response]));
        }
        self.txs.retain(|tx| {
            tx.request.progress < progress::COMPLETE || tx.response.progress < progress::COMPLETE
        });
    }
}

/// How bodies of requests and of responses are kept.
pub(crate) const fn keeps(config: &Config) -> [Keep; 2] {
    [
        Keep {
            are_files_hashed: config.are_files_hashed,
            bytes_max: config.request_body_bytes_max,
            inspect_bytes_min: config.request_inspect_bytes_min,
            window_bytes: config.request_inspect_window_bytes,
        },
        Keep {
            are_files_hashed: config.are_files_hashed,
            bytes_max: config.response_body_bytes_max,
            inspect_bytes_min: config.response_inspect_bytes_min,
            window_bytes: config.response_inspect_window_bytes,
        },
    ]
}

/// Pieces of a body without a byte of what is inside before its file is not looked for any more: a
/// compressed body gives nothing for its header.
const EMPTY_PIECES_MAX: u8 = 250;

impl Tx {
    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let (request, response) = (&self.request, &self.response);
        let files = request.files.iter().chain(&response.files);
        let inflates = self.inflates.iter().flatten().map(|inflate| inflate.held_bytes());
        size_of::<Self>()
            + self.notes.as_ref().map_or(0, |notes| notes.held_bytes())
            + self.doh.as_ref().map_or(0, |doh| doh.held_bytes())
            + self.form.as_ref().map_or(0, |form| form.held_bytes())
            + request.line.capacity()
            + request.method.capacity()
            + request.protocol.capacity()
            + request.host.as_ref().map_or(0, Vec::capacity)
            + request.host_raw.as_ref().map_or(0, Vec::capacity)
            + response.line.capacity()
            + response.protocol.capacity()
            + request.uri_raw.capacity()
            + request.uri.capacity()
            + request.headers.held_bytes()
            + request.body.held_bytes()
            + response.headers.held_bytes()
            + response.body.held_bytes()
            + files.map(File::held_bytes).sum::<usize>()
            + inflates.sum::<usize>()
    }

    /// Decodes from here on as a Content-Encoding field says.
    fn start_inflate(&mut self, direction: Direction, limits: Limits) {
        let Some(encoding) = self.headers(direction).get_lenient("content-encoding") else {
            return;
        };
        let inflate = Inflate::new(&encoding, direction, limits, &mut self.events);
        // Suricata does not know LZMA in HTTP/2: such a body passes.
        let inflate = inflate.filter(|inflate| self.stream == 0 || !inflate.has_lzma());
        if let Some(slot) = self.inflates.get_mut(direction.index()) {
            *slot = inflate.map(Box::new);
        }
    }

    fn stop_inflate(&mut self, direction: Direction) {
        if let Some(slot) = self.inflates.get_mut(direction.index()) {
            *slot = None;
        }
    }

    /// Whether a decoder has come to the end of its body.
    pub(super) fn is_inflate_over(&self, direction: Direction) -> bool {
        self.inflates.get(direction.index()).and_then(Option::as_ref).is_some_and(|it| it.is_over())
    }

    /// What comes behind the end of a compressed body can't be read.
    pub(super) fn close_inflate(&mut self, direction: Direction) {
        if let Some(inflate) = self.inflates.get_mut(direction.index()).and_then(Option::as_mut) {
            inflate.end();
        }
    }

    /// The end of a body brings out what a decoder held back; returns how many bytes the limit cut.
    fn drain_body(&mut self, direction: Direction, keep: Keep) -> u64 {
        let inflate = self.inflates.get(direction.index()).and_then(Option::as_ref);
        if inflate.is_some_and(|inflate| inflate.holds_back()) {
            self.decode_body(direction, None, keep)
        } else {
            0
        }
    }

    /// Takes bytes of a body; returns how many the limit cut.
    pub(crate) fn push_body(&mut self, direction: Direction, bytes: &[u8], keep: Keep) -> u64 {
        self.decode_body(direction, Some(bytes), keep)
    }

    /// Takes bytes of a body, or its end.
    fn decode_body(&mut self, direction: Direction, bytes: Option<&[u8]>, keep: Keep) -> u64 {
        let mut inflate = self.inflates.get_mut(direction.index()).and_then(Option::take);
        let is_request = direction == Direction::ToServer;
        // Looked for once, not for each piece of a body that is cut into bytes.
        let body = self.body_mut(direction).0;
        let is_first = body.total == 0 && (body.empty_pieces < EMPTY_PIECES_MAX || bytes.is_none());
        let mut file =
            if is_first { self.next_file(direction, keep.are_files_hashed) } else { None };
        let has_file = file.is_some();
        if is_request && is_first {
            self.form = super::request::form(&self.request).map(Box::new);
        }
        let mut form = self.form.take_if(|_| is_request);
        let (body, files) = self.body_mut(direction);
        body.wire += bytes.map_or(0, <[u8]>::len) as u64;
        let mut cut = 0;
        let mut add = |piece: &[u8]| {
            cut += body.append(piece, keep);
            if !piece.is_empty() {
                files.extend(file.take());
            }
            match &mut form {
                Some(form) => cut += form.push(piece, keep.are_files_hashed, files),
                None => {
                    if let Some(file) = files.first_mut() {
                        file.push(piece);
                    }
                }
            }
        };
        let bomb = match (&mut inflate, bytes) {
            (Some(inflate), Some(bytes)) => inflate.push(bytes, &mut add),
            (Some(inflate), None) => inflate.drain(&mut add),
            (None, Some(bytes)) => {
                add(bytes);
                None
            }
            (None, None) => None,
        };
        if body.total == 0 {
            body.empty_pieces = body.empty_pieces.saturating_add(1);
        }
        if has_file && file.is_none() && !is_request {
            self.note_range();
        }
        if bomb.is_some() {
            self.events.repeat("compression_bomb");
        }
        if let Some(slot) = self.inflates.get_mut(direction.index()) {
            *slot = inflate;
        }
        if is_request {
            self.form = form;
        }
        cut
    }

    /// What is odd about the part of a file that begins.
    fn note_range(&mut self) {
        let value = self.response.headers.get("content-range");
        let is_odd = |value| ContentRange::parse(value).is_none_or(|range| !range.is_within());
        if value.is_some_and(is_odd) {
            self.events.add("range_invalid");
        }
    }

    /// The file that the first byte of a body opens.
    fn next_file(&self, direction: Direction, are_hashed: bool) -> Option<File> {
        match direction {
            Direction::ToServer if self.request.files.is_empty() => {
                super::request::file(&self.request, are_hashed)
            }
            Direction::ToClient if self.response.files.is_empty() => {
                super::response::file(self, are_hashed)
            }
            Direction::ToServer | Direction::ToClient => None,
        }
    }

    /// The body of `direction` begins: it may be encoded.
    pub(crate) fn begin_body(&mut self, direction: Direction, config: &Config) {
        let limits = Limits {
            layers_max: config.http_layers_max,
            lzma_layers_max: config.http_lzma_layers_max,
            lzma_bytes_max: config.http_lzma_bytes_max,
            bomb_bytes_min: config.http_bomb_bytes_min,
        };
        self.start_inflate(direction, limits);
    }

    /// After the inspectors.
    pub(crate) fn roll(&mut self, keeps: [Keep; 2]) {
        let [request, response] = keeps;
        self.request.body.roll(request);
        self.response.body.roll(response);
    }
    pub(super) fn body_mut(&mut self, direction: Direction) -> (&mut super::Body, &mut Vec<File>) {
        match direction {
            Direction::ToServer => (&mut self.request.body, &mut self.request.files),
            Direction::ToClient => (&mut self.response.body, &mut self.response.files),
        }
    }

    /// Marks `direction` complete, once.
    pub(crate) fn finish(&mut self, direction: Direction, state: FileState) {
        let at = match direction {
            Direction::ToServer => &mut self.request.progress,
            Direction::ToClient => &mut self.response.progress,
        };
        if *at == progress::COMPLETE {
            return;
        }
        *at = progress::COMPLETE;
        self.stop_inflate(direction);
        if let Some(mut form) = self.form.take_if(|_| direction == Direction::ToServer) {
            form.end(&mut self.request.files);
        }
        let (body, files) = self.body_mut(direction);
        body.is_finished = !body.is_broken;
        for file in files {
            file.finish(if file.has_gap { FileState::Truncated } else { state });
        }
    }

    /// The end of the flow ends `direction`, with or without what was to come.
    fn end(&mut self, direction: Direction, state: FileState, is_cut: bool) {
        let at = self.progress(direction);
        if at < progress::COMPLETE && (is_cut || at == progress::NOT_STARTED) {
            *direction.of_mut(&mut self.cut_at) = Some(at);
        }
        if (progress::LINE..=progress::BODY).contains(&at) && state == FileState::Truncated {
            self.body_mut(direction).0.is_broken = true;
        }
        self.finish(direction, state);
    }

    pub(crate) fn raise(&mut self, direction: Direction, to: u8) {
        let at = match direction {
            Direction::ToServer => &mut self.request.progress,
            Direction::ToClient => &mut self.response.progress,
        };
        *at = (*at).max(to);
    }
}

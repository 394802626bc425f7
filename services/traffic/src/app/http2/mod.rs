//! HTTP/2 in the clear (RFC 9113): streams as the transactions of `http`.
//!
//! Fields, bodies and files are where HTTP/1 has them, so that rules for `http` see both.
//! `request.line` and `response.line` are made of the pseudo-header fields; the message of a status is
//! empty. As in Suricata a frame about the connection is a transaction of its own, and the request
//! that asked for the upgrade is the first stream.

mod doh;
mod hpack;
mod notes;

pub use doh::Doh;
pub use notes::{ERRORS, Note, Notes, Value};

use super::bytes::Cursor;
use super::http::{FileState, Keep, Request, Tx, Version, keeps, progress};
use super::{Config, Fed, Meta, Step};
use crate::Direction;
use hpack::{Broken, Decoder, Field};
use std::collections::VecDeque;

/// Settings of an upgrade that are read; those that are kept have 192 bytes.
const SETTINGS_BYTES_MAX: usize = 768;
/// What a client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// Longest header block that is gathered.
const BLOCK_BYTES_MAX: usize = 65_536;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Http2 {
    /// Streams not yet pruned, in the order in which they began.
    pub txs: VecDeque<Tx>,
    /// Streams given up because too many were open.
    pub dropped_txs: u64,
    /// Bytes of bodies and blocks beyond the limits.
    pub cut_bytes: u64,
    next_id: u64,
    now_ns: u64,
    sides: [Side; 2],
    /// A stream brought a question of DNS.
    pub(crate) is_doh: bool,
    keeps: Option<[Keep; 2]>,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    held: Vec<u8>,
    frame: Option<Frame>,
    /// A header block that goes on in CONTINUATION frames.
    block: Vec<u8>,
    block_flags: u8,
    decoder: Decoder,
    has_preface: bool,
    is_over: bool,
}

/// A frame that is longer and comes in pieces is odd: Suricata holds no more of one.
const LONG_BYTES: usize = 65_536;

/// The frame that is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Bytes to come, and of them padding.
    left: usize,
    padding: usize,
    is_padding_known: bool,
}

impl Http2 {
    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        self.now_ns = now_ns;
        self.keeps = Some(keeps(meta.config));
        fed.is_changed |= !data.is_empty() || meta.eof;
        let Some(slot) = self.sides.get_mut(direction.index()) else { return Step::Go };
        let mut side = std::mem::take(slot);
        side.is_over |= meta.gap > 0;
        let mut rest = data;
        while !rest.is_empty() && !side.is_over {
            self.step(direction, &mut side, &mut rest, meta.config);
        }
        let is_over = side.is_over;
        if let Some(slot) = self.sides.get_mut(direction.index()) {
            *slot = side;
        }
        if meta.eof || is_over {
            for tx in &mut self.txs {
                tx.finish(direction, FileState::Truncated);
            }
        }
        if self.sides.iter().all(|side| side.is_over) { Step::Done } else { Step::Go }
    }

    fn step(&mut self, direction: Direction, side: &mut Side, rest: &mut &[u8], config: &Config) {
        if let Some(frame) = side.frame {
            self.payload(direction, side, frame, rest, config);
            return;
        }
        let is_preface = direction == Direction::ToServer && !side.has_preface;
        let wanted = if is_preface { PREFACE.len() } else { HEAD_BYTES };
        let (now, later) = rest.split_at((wanted - side.held.len().min(wanted)).min(rest.len()));
        side.held.extend_from_slice(now);
        *rest = later;
        if side.held.len() < wanted {
            return;
        }
        if is_preface {
            side.has_preface = true;
            side.is_over = side.held != PREFACE;
            side.held.clear();
            return;
        }
        let held = std::mem::take(&mut side.held);
        let mut cursor = Cursor::new(&held);
        let (Some(length), Some(kind), Some(flags), Some(stream)) =
            (cursor.u24(), cursor.u8(), cursor.u8(), cursor.u32())
        else {
            return;
        };
        let frame = Frame {
            kind,
            flags,
            stream: stream & 0x7fff_ffff,
            left: usize::try_from(length).unwrap_or(0),
            padding: 0,
            is_padding_known: kind != DATA || flags & PADDED == 0,
        };
        if frame.left > LONG_BYTES
            && rest.len() < frame.left
            && let Some(tx) = self.txs.back_mut()
        {
            match kind {
                DATA => tx.events.add("long_frame_data"),
                HEADERS => tx.events.add("long_frame_header"),
                _ => {}
            }
        }
        if frame.left == 0 {
            self.end(direction, side, frame, config);
        } else {
            side.frame = Some(frame);
        }
    }

    /// Bytes of a frame: data goes on at once, the rest is gathered.
    fn payload(
        &mut self,
        direction: Direction,
        side: &mut Side,
        mut frame: Frame,
        rest: &mut &[u8],
        config: &Config,
    ) {
        if !frame.is_padding_known {
            let (first, later) = rest.split_at(1);
            *rest = later;
            frame.left -= 1;
            frame.padding = first.first().map_or(0, |byte| usize::from(*byte)).min(frame.left);
            frame.is_padding_known = true;
        }
        let (now, later) = rest.split_at(frame.left.min(rest.len()));
        *rest = later;
        let left = frame.left - now.len();
        if frame.kind == DATA {
            let data = frame.left.saturating_sub(frame.padding).min(now.len());
            self.data(direction, frame.stream, now.get(..data).unwrap_or_default());
        } else {
            let room = BLOCK_BYTES_MAX.saturating_sub(side.held.len());
            side.held.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
            self.cut_bytes += now.len().saturating_sub(room) as u64;
        }
        frame.left = left;
        side.frame = (left > 0).then_some(frame);
        if left == 0 {
            self.end(direction, side, frame, config);
        }
    }

    /// A frame is complete.
    fn end(&mut self, direction: Direction, side: &mut Side, frame: Frame, config: &Config) {
        let held = std::mem::take(&mut side.held);
        self.note(direction, frame, &held, config);
        match frame.kind {
            DATA if frame.flags & END_STREAM != 0 => {
                self.finish(direction, frame.stream, FileState::Closed);
            }
            HEADERS | PUSH_PROMISE => {
                let Some(block) = block(&held, frame) else {
                    side.is_over = true;
                    return;
                };
                side.block = block.to_vec();
                side.block_flags = frame.flags;
                self.block(direction, side, frame, &held, config);
            }
            CONTINUATION => {
                let room = BLOCK_BYTES_MAX.saturating_sub(side.block.len());
                side.block.extend_from_slice(held.get(..room.min(held.len())).unwrap_or_default());
                side.block_flags |= frame.flags & END_HEADERS;
                let frame = Frame { kind: HEADERS, flags: side.block_flags, ..frame };
                self.block(direction, side, frame, &[], config);
            }
            RST_STREAM => {
                self.finish(Direction::ToServer, frame.stream, FileState::Truncated);
                self.finish(Direction::ToClient, frame.stream, FileState::Truncated);
            }
            _ => {}
        }
    }

    /// Keeps what a frame says: with its stream, or as a transaction of its own.
    fn note(&mut self, direction: Direction, frame: Frame, held: &[u8], config: &Config) {
        if frame.stream == 0 {
            // An acknowledgement is about nothing.
            if !held.is_empty() {
                self.control(direction, frame.kind, held, config);
            }
            return;
        }
        if let Some(tx) = self.txs.iter_mut().rfind(|tx| tx.stream == frame.stream) {
            let notes = tx.notes.get_or_insert_default();
            notes.add(direction, frame.kind, frame.flags, held);
        }
    }

    fn control(&mut self, direction: Direction, kind: u8, held: &[u8], config: &Config) {
        let Some(tx) = self.begin(0, config) else { return };
        let mut notes = Notes { is_control: true, list: Vec::new() };
        notes.add(direction, kind, 0, held);
        tx.notes = Some(Box::new(notes));
        (tx.request.version, tx.response.version) = (Version::V2, Version::V2);
        tx.request.line = b"  HTTP/2\r\n".to_vec();
        tx.response.line = b"HTTP/2 \r\n".to_vec();
        // It is over as it is there, to both sides.
        for own in Direction::BOTH {
            tx.finish(own, FileState::Closed);
        }
    }

    /// What an upgrade brings: the request is that of the first stream, and its settings are the
    /// client's.
    pub(crate) fn upgrade(now_ns: u64, request: &Request, config: &Config) -> Self {
        const SETTINGS: u8 = 4;
        const STREAM: u32 = 1;
        let mut new = Self { now_ns, keeps: Some(keeps(config)), ..Self::default() };
        let mut fields: Vec<Field> = vec![
            (b":method".to_vec(), request.method.clone()),
            (b":path".to_vec(), request.uri_raw.clone()),
        ];
        let mut settings = None;
        for field in &request.headers.fields {
            let name = field.name.to_ascii_lowercase();
            match name.as_slice() {
                b"host" => fields.push((b":authority".to_vec(), field.value.clone())),
                b"http2-settings" => settings = Some(field.value.as_slice()),
                _ => fields.push((field.name.clone(), field.value.clone())),
            }
        }
        new.headers(Direction::ToServer, STREAM, &fields, config);
        new.finish(Direction::ToServer, STREAM, FileState::Closed);
        if let Some(settings) = settings.and_then(|text| unbase64(text, SETTINGS_BYTES_MAX)) {
            new.control(Direction::ToServer, SETTINGS, &settings, config);
        }
        new
    }

    /// A block of fields, if it is complete; `head`: the frame's payload, in which its priority is.
    fn block(
        &mut self,
        direction: Direction,
        side: &mut Side,
        frame: Frame,
        head: &[u8],
        config: &Config,
    ) {
        if side.block_flags & END_HEADERS == 0 {
            return;
        }
        let block = std::mem::take(&mut side.block);
        let fields = side.decoder.block(&block);
        if frame.kind == PUSH_PROMISE {
            return;
        }
        let stream = frame.stream;
        match fields {
            Ok(fields) => {
                let is_new = !self.txs.iter().any(|tx| tx.stream == stream);
                self.headers(direction, stream, &fields, config);
                self.look_for_dns(direction, stream);
                if is_new {
                    self.note(direction, frame, head, config);
                }
            }
            Err(broken) => {
                side.is_over = true;
                if let Some(tx) = self.tx(stream, config) {
                    tx.events.add(match broken {
                        Broken::Overflow => "header_integer_overflow",
                        Broken::Short | Broken::Index | Broken::Huffman => "invalid_header",
                    });
                }
                return;
            }
        }
        if side.block_flags & END_STREAM != 0 {
            self.finish(direction, stream, FileState::Closed);
        } else if let Some(tx) = self.tx(stream, config)
            && tx.progress(direction) < progress::BODY
        {
            tx.begin_body(direction, config);
            tx.raise(direction, progress::BODY);
        }
    }

    /// The transaction of a stream, new if there is none.
    fn tx(&mut self, stream: u32, config: &Config) -> Option<&mut Tx> {
        let index = self.txs.iter().rposition(|tx| tx.stream == stream);
        if let Some(index) = index {
            return self.txs.get_mut(index);
        }
        self.begin(stream, config)
    }

    fn begin(&mut self, stream: u32, config: &Config) -> Option<&mut Tx> {
        if self.txs.len() >= config.txs_max.max(1) as usize {
            self.txs.pop_front();
            self.dropped_txs += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        let mut tx = Tx { id, at_ns: self.now_ns, stream, ..Tx::default() };
        tx.request.protocol = b"HTTP/2".to_vec();
        tx.response.protocol = b"HTTP/2".to_vec();
        tx.request.headers.is_exact = true;
        tx.response.headers.is_exact = true;
        super::add(&mut self.txs, tx);
        self.txs.back_mut()
    }

    fn headers(&mut self, direction: Direction, stream: u32, fields: &[Field], config: &Config) {
        let Some(tx) = self.tx(stream, config) else { return };
        let is_trailer = tx.progress(direction) >= progress::BODY;
        for (name, value) in fields {
            let raw = match direction {
                Direction::ToServer => &mut tx.request.headers.raw,
                Direction::ToClient => &mut tx.response.headers.raw,
            };
            for piece in [&name[..], b": ", value, b"\r\n"] {
                raw.extend_from_slice(piece);
            }
            if name.first() == Some(&b':') {
                pseudo(tx, name, value);
            }
            let headers = match direction {
                Direction::ToServer => &mut tx.request.headers,
                Direction::ToClient => &mut tx.response.headers,
            };
            headers.push(name, value, direction, is_trailer, &mut tx.events);
        }
        if direction == Direction::ToServer && tx.request.host.is_none() {
            tx.request.host_raw = tx.request.headers.get("host").map(<[u8]>::to_vec);
            tx.request.host = tx.request.host_raw.as_deref().map(<[u8]>::to_ascii_lowercase);
        }
        match direction {
            // What the lines of an older version would have been.
            Direction::ToServer => {
                tx.request.version = Version::V2;
                if tx.request.line.is_empty() {
                    let parts = [&tx.request.method[..], b" ", &tx.request.uri_raw, b" HTTP/2\r\n"];
                    tx.request.line = parts.concat();
                }
            }
            Direction::ToClient => {
                tx.response.version = Version::V2;
                // The last status counts: an interim one comes before it.
                tx.response.line = [&b"HTTP/2 "[..], &tx.response.status, b"\r\n"].concat();
            }
        }
    }

    /// What the fields say of DNS.
    fn look_for_dns(&mut self, direction: Direction, stream: u32) {
        let now_ns = self.now_ns;
        if let Some(tx) = self.txs.iter_mut().rfind(|tx| tx.stream == stream) {
            self.is_doh |= doh::fields(tx, direction, now_ns);
        }
    }

    fn data(&mut self, direction: Direction, stream: u32, bytes: &[u8]) {
        let Some(keep) = self.keeps.and_then(|keeps| keeps.get(direction.index()).copied()) else {
            return;
        };
        if let Some(tx) = self.txs.iter_mut().rfind(|tx| tx.stream == stream) {
            self.cut_bytes += tx.push_body(direction, bytes, keep);
            if let Some(doh) = &mut tx.doh {
                doh.body(direction, bytes);
            }
        }
    }

    fn finish(&mut self, direction: Direction, stream: u32, state: FileState) {
        if let Some(tx) = self.txs.iter_mut().rfind(|tx| tx.stream == stream) {
            if let Some(doh) = tx.doh.as_mut().filter(|_| state == FileState::Closed) {
                self.is_doh |= doh.end(direction, self.now_ns);
            }
            tx.finish(direction, state);
        }
    }

    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let side =
            |side: &Side| side.held.capacity() + side.block.capacity() + side.decoder.held_bytes();
        size_of::<Self>()
            + self.sides.iter().map(side).sum::<usize>()
            + self.txs.iter().map(Tx::held_bytes).sum::<usize>()
    }

    /// After the inspectors.
    pub(crate) fn prune(&mut self) {
        if let Some(keeps) = self.keeps {
            self.txs.iter_mut().for_each(|tx| tx.roll(keeps));
        }
        self.txs.retain(|tx| {
            tx.request.progress < progress::COMPLETE || tx.response.progress < progress::COMPLETE
        });
    }
}

/// The header block of a HEADERS or PUSH_PROMISE frame, without padding and priority.
fn block(held: &[u8], frame: Frame) -> Option<&[u8]> {
    let mut cursor = Cursor::new(held);
    let padding = if frame.flags & PADDED == 0 { 0 } else { usize::from(cursor.u8()?) };
    if frame.kind == PUSH_PROMISE {
        cursor.u32()?;
    } else if frame.flags & PRIORITY != 0 {
        cursor.take(5)?;
    }
    let length = cursor.len().checked_sub(padding)?;
    cursor.take(length)
}

/// Base64 for addresses, with or without its end (RFC 9113, section 3.2.1 of its forerunner).
fn unbase64(text: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let text_bytes_max = bytes_max.div_ceil(3) * 4;
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.iter().take(text_bytes_max).take_while(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    (!out.is_empty()).then_some(out)
}

fn pseudo(tx: &mut Tx, name: &[u8], value: &[u8]) {
    match name {
        b":method" => tx.request.method = value.to_vec(),
        b":path" => {
            tx.request.uri_raw = value.to_vec();
            tx.request.uri = value.to_vec();
            tx.request.uri_parts = super::http::UriParts::parse(value, false);
        }
        b":authority" => {
            tx.request.host_raw = Some(value.to_vec());
            tx.request.host = Some(value.to_ascii_lowercase());
        }
        b":status" => {
            tx.response.status = value.to_vec();
            let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            tx.response.status_number = number.unwrap_or(0);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Http2, PREFACE, progress};
    use crate::Direction::{ToClient, ToServer};
    use crate::app::tests::meta;
    use crate::app::{Config, Fed};

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    }

    #[test]
    fn an_upgrade_is_the_first_stream_and_control_frames_are_transactions() {
        let config = Config::default();
        let mut request = super::Request {
            method: b"GET".to_vec(),
            uri_raw: b"/a".to_vec(),
            ..super::Request::default()
        };
        let mut events = crate::app::Events::default();
        let fields: [(&[u8], &[u8]); 3] = [
            (b"Host", b"b.example"),
            (b"User-Agent", b"x"),
            (b"HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA"),
        ];
        for (name, value) in fields {
            request.headers.push(name, value, ToServer, false, &mut events);
        }
        let mut http = Http2::upgrade(1, &request, &config);
        let tx = &http.txs[0];
        assert_eq!((tx.stream, &tx.request.uri[..]), (1, &b"/a"[..]));
        assert_eq!(tx.request.host.as_deref(), Some(&b"b.example"[..]));
        assert_eq!(tx.request.headers.get("user-agent"), None, "names of HTTP/2 are lower case");
        assert_eq!(tx.request.progress, progress::COMPLETE);
        let notes = |tx: &super::Tx| tx.notes.as_ref().unwrap().list[0].value.clone();
        let settings = vec![(3, 100), (4, 1 << 30), (2, 0)];
        assert_eq!(notes(&http.txs[1]), super::Value::Settings(settings));
        // An acknowledgement is none, a window is one; it is over as it is there.
        let bytes = [frame(4, 1, 0, b""), frame(8, 0, 0, &[0, 0, 0, 9])].concat();
        http.feed(2, ToClient, &bytes, &meta(&config), &mut Fed::default());
        assert_eq!(http.txs.len(), 3);
        assert_eq!(notes(&http.txs[2]), super::Value::Window(9));
        assert_eq!(http.txs[1].response.progress, progress::COMPLETE);
        assert_eq!(http.txs[2].request.progress, progress::COMPLETE);
        http.feed(3, ToServer, PREFACE, &meta(&config), &mut Fed::default());
        http.prune();
        assert_eq!(http.txs.len(), 1, "the stream waits for its answer");
    }

    #[test]
    fn a_stream_split_anywhere() {
        let block = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let request = [
            PREFACE.to_vec(),
            frame(4, 0, 0, b""),
            frame(1, 1, 1, &block[..4]),
            frame(9, 4, 1, &block[4..]),
        ]
        .concat();
        let padded = [&[2][..], b"body", &[0, 0]].concat();
        let response = [frame(1, 4, 1, b"\x88\x40\x01X\x01y"), frame(0, 9, 1, &padded)].concat();
        let config = Config::default();
        for at in 0..request.len().max(response.len()) {
            let mut http = Http2::default();
            for (direction, bytes) in [(ToServer, &request), (ToClient, &response)] {
                let (head, tail) = bytes.split_at(at.min(bytes.len()));
                for piece in [head, tail] {
                    http.feed(1, direction, piece, &meta(&config), &mut Fed::default());
                }
            }
            let tx = &http.txs[0];
            assert_eq!((&tx.request.method[..], &tx.request.uri[..]), (&b"GET"[..], &b"/"[..]));
            assert_eq!(tx.request.host.as_deref(), Some(&b"www.example.com"[..]));
            assert_eq!((tx.stream, tx.response.status_number), (1, 200));
            assert_eq!(tx.response.headers.normalized(), b":status: 200\r\nX: y\r\n");
            assert_eq!(tx.response.body.window().1, b"body", "split at {at}");
            assert_eq!(tx.response.progress, progress::COMPLETE);
            http.prune();
            assert!(http.txs.is_empty());
        }
    }
}

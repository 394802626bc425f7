//! The server's side.

use super::file::disposition_name;
use super::line::{
    chomp, contains, content_length, is_space, note_length, split_at_first, version,
};
use super::parser::{At, Turn};
use super::request::{own_name, path_name};
use super::{File, Http, Lines, Response, Tx, Version, progress};
use crate::Direction;
use crate::app::{Config, Events, Proto, Step};

const SIDE: Direction = Direction::ToClient;
/// More white space than this behind a response goes in one turn.
const BLANK_BYTES_MAX: usize = 1024;

impl Http {
    pub(super) fn response_step(&mut self, rest: &mut &[u8], config: &Config) -> Turn {
        match self.response.at {
            At::Idle if rest.is_empty() => Turn::Wait,
            At::Idle => self.response_start(config),
            At::Line => self.response_line(rest, config),
            At::Headers | At::Trailer => self.header_block(SIDE, rest, config),
            At::Known(_) | At::ChunkLine | At::ChunkData(_) | At::ChunkEnd => {
                self.body_step(SIDE, rest, config)
            }
            At::Close => {
                let id = self.response.tx;
                if !rest.is_empty() && self.tx(id).is_some_and(|tx| tx.is_inflate_over(SIDE)) {
                    self.count_wire(SIDE, rest.len());
                    return Turn::Stop(Step::Fail);
                }
                if !rest.is_empty() {
                    self.body(SIDE, rest);
                    *rest = &[];
                }
                Turn::Wait
            }
            At::Finalize => self.response_finalize(rest, config),
            At::WaitResponse => Turn::Wait,
            At::Ignore => {
                *rest = &[];
                Turn::Wait
            }
        }
    }

    /// The first request without response, or a transaction whose request was not seen.
    fn response_start(&mut self, config: &Config) -> Turn {
        let open = self.txs.iter().find(|tx| tx.response.progress == progress::NOT_STARTED);
        let id = open.map(|tx| tx.id);
        let id = id.unwrap_or_else(|| {
            let id = self.open_tx(config);
            if let Some(tx) = self.tx(id) {
                tx.events.add("unable_to_match_response_to_request");
                tx.request.is_partial = true;
                tx.request.progress = progress::COMPLETE;
            }
            id
        });
        self.response.tx = id;
        self.raise(SIDE, progress::LINE);
        let is_09 = self.tx(id).is_some_and(|tx| {
            tx.request.version == Version::V0_9 && tx.request.protocol.is_empty()
        });
        if self.request.at == At::Line
            && self.request.tx == id
            && let Some(tx) = self.tx(id).filter(|tx| tx.request.line.is_empty())
        {
            tx.events.add("request_line_incomplete");
        }
        self.response.at = if is_09 { At::Close } else { At::Line };
        if is_09 {
            self.raise(SIDE, progress::BODY);
        }
        Turn::On
    }

    /// After a response: the next one, or bytes that are shown though nothing said so.
    fn response_finalize(&mut self, rest: &mut &[u8], config: &Config) -> Turn {
        let held = &self.response.held;
        if held.is_empty() && (rest.is_empty() || is_next_response(rest)) {
            self.complete(SIDE);
            self.response.at = At::Idle;
            return Turn::On;
        }
        let lead = rest.iter().take_while(|byte| is_space(**byte) || **byte == 0).count();
        let blank = rest.get(..lead).unwrap_or_default();
        if self.response.held.is_empty()
            && lead > BLANK_BYTES_MAX
            && let Some(last) = memchr::memrchr(b'\n', blank)
        {
            // In one turn: each looks through all white space for the next response.
            let (now, later) = rest.split_at(last + 1);
            *rest = later;
            self.event(SIDE, "response_body_unexpected");
            self.response.held = now.to_vec();
            return self.unexpected_body();
        }
        let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
        let (now, later) = rest.split_at(end.unwrap_or(rest.len()));
        *rest = later;
        self.response.held.extend_from_slice(now);
        if self.response.held.len() > config.http_field_bytes_max as usize {
            return self.too_long(SIDE);
        }
        // What a line is shows when it is whole.
        if end.is_none() {
            return Turn::Wait;
        }
        if is_next_response(&self.response.held) {
            // The next response begins with it.
            self.complete(SIDE);
            let line = std::mem::take(&mut self.response.held);
            let turn = self.response_start(config);
            if self.response.at == At::Line {
                return self.status_line(&line, rest);
            }
            self.body(SIDE, &line);
            return turn;
        }
        let id = self.response.tx;
        if let Some(tx) = self.tx(id) {
            tx.events.repeat("response_body_unexpected");
        }
        self.unexpected_body()
    }

    /// What is held is shown, though nothing said that there would be a body.
    pub(super) fn unexpected_body(&mut self) -> Turn {
        let id = self.response.tx;
        let held = std::mem::take(&mut self.response.held);
        if self.tx(id).is_none_or(|tx| tx.is_inflate_over(SIDE)) {
            self.count_wire(SIDE, held.len());
            return Turn::Stop(Step::Fail);
        }
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        tx.raise(SIDE, progress::BODY);
        self.body(SIDE, &held);
        Turn::On
    }

    fn response_line(&mut self, rest: &mut &[u8], config: &Config) -> Turn {
        // A lone carriage return ends a status line too; what follows it tells it from CR LF.
        let end = memchr::memchr2(b'\r', b'\n', rest);
        let held = &mut self.response.held;
        let take = match end.map(|at| (rest.get(at), rest.get(at + 1))) {
            _ if held.last() == Some(&b'\r') => usize::from(rest.first() == Some(&b'\n')),
            Some((Some(b'\r'), Some(b'\n'))) => end.unwrap_or(0) + 2,
            Some(_) => end.unwrap_or(0) + 1,
            None => rest.len(),
        };
        let was_cr = held.last() == Some(&b'\r') && !rest.is_empty();
        let (now, later) = rest.split_at(take);
        *rest = later;
        held.extend_from_slice(now);
        if held.len() > config.http_field_bytes_max as usize {
            return self.too_long(SIDE);
        }
        let is_cr_open = held.last() == Some(&b'\r') && rest.is_empty() && !was_cr;
        if end.is_none() && !was_cr || is_cr_open {
            return Turn::Wait;
        }
        let line = std::mem::take(held);
        // White space alone is no line.
        if line.iter().all(|byte| is_space(*byte)) {
            return Turn::On;
        }
        self.status_line(&line, rest)
    }

    /// A whole line where the status is expected.
    pub(super) fn status_line(&mut self, line: &[u8], rest: &[u8]) -> Turn {
        let (_, text) = split_at_first(line, |byte| !is_space(byte) && byte != 0);
        if !text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"http")) {
            // Browsers show such bytes; so they are the body.
            if rest.len() > 1 && (rest.first() == Some(&b'H') || chomp(line).len() <= 2) {
                return Turn::On;
            }
            self.body(SIDE, line);
            // Until a line is the status line, or nothing follows.
            if rest.is_empty() {
                self.raise(SIDE, progress::BODY);
                self.response.at = At::Finalize;
            }
            return Turn::On;
        }
        let id = self.response.tx;
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        read_line(line, &mut tx.response, &mut tx.events);
        tx.response.line = line.to_vec();
        if tx.response.version == Version::Invalid {
            tx.events.add("response_line_invalid_protocol");
        }
        if tx.response.status_number == 0 {
            tx.events.add("response_line_invalid_response_status");
        }
        let is_interim = tx.response.status_number == 100;
        self.response.at = At::Headers;
        if !is_interim {
            self.raise(SIDE, progress::HEADERS);
        }
        Turn::On
    }

    pub(super) fn response_headers_done(&mut self, config: &Config) -> Turn {
        let id = self.response.tx;
        let request_length = self.request.length;
        let is_body_awaited = matches!(self.request.at, At::Known(left) if Some(left) == request_length)
            && self.request.tx == id;
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        let status = tx.response.status_number;
        let headers = &tx.response.headers;
        let is_chunked =
            headers.get_lenient("transfer-encoding").map(|value| contains(&value, b"chunked"));
        let length = headers.field_lenient("content-length").map(|field| field.value.clone());
        if let Some(value) = length.as_deref().filter(|_| is_chunked != Some(true)) {
            note_length(value, &mut tx.events);
        }
        let length = length.map(|value| content_length(&value));
        let has_length = is_chunked.is_some() || length.is_some();
        if tx.request.method == b"CONNECT" && (200..300).contains(&status) {
            return self.tunnel(None);
        }
        if status == 101 && has_length {
            tx.events.add("switching_proto_with_content_length");
        }
        if status == 101 && !has_length {
            let upgrade = tx.response.headers.get("upgrade").unwrap_or_default();
            let proto = match upgrade {
                b"h2c" => Some(Proto::Http2),
                name if name.eq_ignore_ascii_case(b"websocket") => Some(Proto::Websocket),
                _ => None,
            };
            return self.tunnel(Some(proto));
        }
        if status == 100 && is_chunked.is_none() && !matches!(length, Some(Some(1..))) {
            return self.interim();
        }
        let gives_up = (400..500).contains(&status)
            && is_body_awaited
            && tx.request.headers.get("expect").is_some_and(|value| value == b"100-continue");
        let at = response_body(tx, is_chunked, length);
        let Some(at) = at else { return Turn::Stop(Step::Fail) };
        tx.begin_body(SIDE, config);
        if gives_up {
            self.request.at = At::Finalize;
        }
        self.response_body_starts(at)
    }

    fn response_body_starts(&mut self, at: At) -> Turn {
        self.response.at = at;
        if at == At::Finalize {
            return Turn::On;
        }
        let id = self.response.tx;
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        let headers = &tx.response.headers;
        let is_plain = headers.get("content-encoding").is_none()
            && !headers.get("connection").is_some_and(|value| contains(value, b"close"));
        if at == At::Close && is_plain {
            tx.response.body.lines = Some(Lines::default());
        }
        self.raise(SIDE, progress::BODY);
        Turn::On
    }

    /// A 100 response: the real one follows.
    fn interim(&mut self) -> Turn {
        let id = self.response.tx;
        if let Some(tx) = self.tx(id) {
            if tx.response.interim.is_some() {
                tx.events.add("100_continue_already_seen");
            }
            tx.response.interim = Some((tx.response.status_number, tx.response.message.clone()));
            tx.response.headers.clear();
        }
        self.response.at = At::Line;
        Turn::On
    }

    /// The connection becomes something else: with CONNECT whatever comes, with an upgrade what it
    /// names, if that has a name.
    fn tunnel(&mut self, upgrade: Option<Option<Proto>>) -> Turn {
        let id = self.response.tx;
        if let Some(tx) = self.tx(id) {
            tx.is_tunnel = true;
            // To libhtp an answer that ends HTTP stays without an end, and so does CONNECT, whose body
            // would be the tunnel.
            *SIDE.of_mut(&mut tx.cut_at) = Some(progress::BODY);
            if upgrade.is_none() {
                *Direction::ToServer.of_mut(&mut tx.cut_at) = Some(progress::HEADERS);
            }
        }
        self.complete(SIDE);
        self.complete(Direction::ToServer);
        self.request.at = At::Ignore;
        self.response.at = At::Ignore;
        Turn::Stop(match upgrade {
            None => Step::Change(None),
            Some(Some(proto)) => Step::Become(proto),
            Some(None) => Step::Done,
        })
    }
}

/// Whether bytes after a response are the next one, or may become it.
fn is_next_response(rest: &[u8]) -> bool {
    const START: &[u8] = b"http";
    let (_, text) = split_at_first(rest, |byte| !is_space(byte) && byte != 0);
    match text.get(..START.len()) {
        Some(word) => word.eq_ignore_ascii_case(START),
        None => {
            let is_open = !text.is_empty() && memchr::memchr(b'\n', rest).is_none();
            let start = START.get(..text.len());
            is_open && start.is_some_and(|start| text.eq_ignore_ascii_case(start))
        }
    }
}

/// Protocol, status, message.
fn read_line(line: &[u8], response: &mut Response, events: &mut Events) {
    response.status.clear();
    response.status_number = 0;
    response.message.clear();
    let (_, text) = split_at_first(line, |byte| !is_space(byte) && byte != 0);
    let (protocol, text) = split_at_first(text, is_space);
    response.protocol = protocol.to_vec();
    response.version = version(protocol, events);
    let (_, text) = split_at_first(text, |byte| !is_space(byte));
    let (status, text) = split_at_first(text, is_space);
    response.status = status.to_vec();
    let is_number = status.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(status).ok().filter(|_| is_number);
    let number = digits.and_then(|digits| digits.parse().ok());
    response.status_number = number.filter(|number| (100..=999).contains(number)).unwrap_or(0);
    let (_, message) = split_at_first(text, |byte| !is_space(byte));
    response.message = chomp(message).to_vec();
}

/// How the body is delimited (RFC 9112, section 6.3, with libhtp's tolerance); `None`: it can't be
/// read.
fn response_body(tx: &mut Tx, is_chunked: Option<bool>, length: Option<Option<u64>>) -> Option<At> {
    let status = tx.response.status_number;
    if tx.request.method == b"HEAD" {
        return Some(At::Finalize);
    }
    if (100..200).contains(&status) || status == 204 || status == 304 {
        if is_chunked.is_none() && length.is_none() {
            return Some(At::Finalize);
        }
        tx.events.add("response_body_unexpected");
    }
    if is_chunked == Some(true) {
        let field = tx.response.headers.field_lenient("transfer-encoding");
        if !field.is_some_and(|field| field.value.eq_ignore_ascii_case(b"chunked")) {
            tx.events.add("response_abnormal_transfer_encoding");
        }
        if tx.response.version != Version::V1_1 {
            tx.events.add("response_chunked_old_proto");
        }
        return Some(At::ChunkLine);
    }
    match length {
        Some(Some(0)) => Some(At::Finalize),
        Some(Some(length)) => Some(At::Known(length)),
        Some(None) => {
            tx.events.add("invalid_content_length_field_in_response");
            None
        }
        None => {
            let kind = tx.response.headers.get("content-type").unwrap_or_default();
            if contains(kind, b"multipart/byteranges") {
                tx.events.add("response_multipart_byteranges");
                return None;
            }
            Some(At::Close)
        }
    }
}

/// A response's body is a file, if anything names it.
pub(super) fn file(tx: &Tx, are_hashed: bool) -> Option<File> {
    let named = tx.response.headers.field_lenient("content-disposition");
    let named = named.and_then(|field| disposition_name(&field.value));
    let own = || match tx.stream {
        0 => own_name(&tx.request),
        // A stream of HTTP/2 is a file whatever was asked for.
        _ => Some(path_name(&tx.request).to_vec()),
    };
    Some(File::new(&named.or_else(own)?, are_hashed))
}

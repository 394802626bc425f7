//! The client's side.

use super::file::disposition_name;
use super::form::Form;
use super::headers::by_side;
use super::line::{
    Chunk, Gathered, chomp, chunk, contains, content_length, gather, is_space, note_length,
    split_at_first, trim, version,
};
use super::parser::{At, Turn};
use super::uri::{host_port, normalize};
use super::{File, Http, Request, Tx, URI_NOT_SEEN, UriParts, Version, progress};
use crate::Direction;
use crate::app::{Config, Events, Personality, Step};
use std::borrow::Cow;

const METHODS: [&[u8]; 28] = [
    b"HEAD",
    b"GET",
    b"PUT",
    b"POST",
    b"DELETE",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"VERSION-CONTROL",
    b"CHECKOUT",
    b"UNCHECKOUT",
    b"CHECKIN",
    b"UPDATE",
    b"LABEL",
    b"REPORT",
    b"MKWORKSPACE",
    b"MKACTIVITY",
    b"BASELINE-CONTROL",
    b"MERGE",
    b"INVALID",
];
/// White space behind a line without protocol that still is HTTP/0.9 (libhtp's limit).
const JUNK_BYTES_MAX: usize = 16;
const SIDE: Direction = Direction::ToServer;

impl Http {
    pub(super) fn request_step(&mut self, rest: &mut &[u8], config: &Config) -> Turn {
        match self.request.at {
            At::Idle if rest.is_empty() => Turn::Wait,
            At::Idle => {
                self.request.tx = self.open_tx(config);
                self.request.length = None;
                self.raise(SIDE, progress::LINE);
                self.request.at = At::Line;
                Turn::On
            }
            At::Line => self.request_line(rest, config),
            At::Headers | At::Trailer => self.header_block(SIDE, rest, config),
            At::Known(_) | At::ChunkLine | At::ChunkData(_) | At::ChunkEnd => {
                self.body_step(SIDE, rest, config)
            }
            At::Close | At::WaitResponse => Turn::Wait,
            At::Finalize => self.request_finalize(rest),
            At::Ignore => {
                *rest = &[];
                Turn::Wait
            }
        }
    }

    pub(super) fn raise(&mut self, direction: Direction, to: u8) {
        let id = self.reader(direction).tx;
        if let Some(tx) = self.tx(id) {
            tx.raise(direction, to);
        }
    }

    fn request_line(&mut self, rest: &mut &[u8], config: &Config) -> Turn {
        let line = match gather(&mut self.request.held, rest, config) {
            Gathered::Line(line) => line,
            Gathered::More => return Turn::Wait,
            Gathered::TooLong => return self.too_long(SIDE),
        };
        // White space alone is no line.
        if line.iter().all(|byte| is_space(*byte)) {
            return Turn::On;
        }
        self.whole_request_line(&line, rest, config)
    }

    /// A whole line where a request is expected; `rest` is what is behind it.
    pub(super) fn whole_request_line(&mut self, line: &[u8], rest: &[u8], config: &Config) -> Turn {
        let junk = rest.len() > JUNK_BYTES_MAX || rest.iter().any(|byte| !is_space(*byte));
        let id = self.request.tx;
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        read_line(chomp(line), tx, config);
        if tx.request.version == Version::V0_9 && tx.request.protocol.is_empty() {
            if !junk {
                tx.request.has_empty_line = rest.contains(&b'\n');
                // White space behind it is a body.
                self.body(SIDE, rest);
                self.request.at = At::Ignore;
                self.complete(SIDE);
                return Turn::On;
            }
            tx.request.version = Version::Unknown;
            tx.events.add("request_line_missing_protocol");
        }
        self.raise(SIDE, progress::HEADERS);
        self.request.at = At::Headers;
        Turn::On
    }

    pub(super) fn request_headers_done(&mut self, config: &Config) -> Turn {
        let id = self.request.tx;
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        host(&mut tx.request, &mut tx.events);
        credentials(&mut tx.request, &mut tx.events);
        let is_connect = tx.request.method == b"CONNECT";
        let Some((at, length)) = request_body(tx) else { return Turn::Stop(Step::Fail) };
        if matches!(at, At::Known(_) | At::ChunkLine) {
            tx.begin_body(SIDE, config);
        }
        self.request.length = length;
        self.request.at = at;
        if is_connect {
            self.request.at = At::WaitResponse;
            self.complete(SIDE);
        } else if at != At::Finalize {
            self.raise(SIDE, progress::BODY);
        }
        Turn::On
    }

    /// Bytes of a body of known length or in chunks, of either side.
    pub(super) fn body_step(
        &mut self,
        direction: Direction,
        rest: &mut &[u8],
        config: &Config,
    ) -> Turn {
        if rest.is_empty() {
            return Turn::Wait;
        }
        match self.reader(direction).at {
            At::Known(left) => {
                let id = self.reader(direction).tx;
                if self.tx(id).is_some_and(|tx| tx.is_inflate_over(direction)) {
                    let left = usize::try_from(left).unwrap_or(usize::MAX);
                    self.count_wire(direction, rest.len().min(left));
                    return Turn::Stop(Step::Fail);
                }
                let left = self.some_body(direction, rest, left);
                self.reader(direction).at = if left == 0 { At::Finalize } else { At::Known(left) };
                if left == 0 {
                    self.drain(direction);
                    if let Some(tx) = self.tx(id) {
                        tx.close_inflate(direction);
                    }
                }
                Turn::On
            }
            At::ChunkData(left) => {
                let left = self.some_body(direction, rest, left);
                self.reader(direction).at =
                    if left == 0 { At::ChunkEnd } else { At::ChunkData(left) };
                Turn::On
            }
            At::ChunkEnd => {
                let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                let (now, later) = rest.split_at(end);
                if now.ends_with(b"\n") {
                    self.reader(direction).at = At::ChunkLine;
                }
                *rest = later;
                self.count_wire(direction, now.len());
                Turn::On
            }
            _ => self.chunk_line(direction, rest, config),
        }
    }

    fn some_body(&mut self, direction: Direction, rest: &mut &[u8], left: u64) -> u64 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at(length);
        *rest = later;
        self.body(direction, now);
        left - length as u64
    }

    pub(super) fn count_wire(&mut self, direction: Direction, bytes: usize) {
        let id = self.reader(direction).tx;
        if let Some(tx) = self.tx(id) {
            tx.body_mut(direction).0.wire += bytes as u64;
        }
    }

    fn chunk_line(&mut self, direction: Direction, rest: &mut &[u8], config: &Config) -> Turn {
        // What can't become a number is no chunk line, however long it takes to end.
        let is_number = |bytes: &[u8]| trim(bytes).first().is_none_or(u8::is_ascii_hexdigit);
        let is_open = memchr::memchr(b'\n', rest).is_none();
        let reader = self.reader(direction);
        if is_open && reader.held.is_empty() && !is_number(rest) {
            return self.chunk_invalid(direction, rest, Vec::new());
        }
        let held = reader.held.len();
        let line = match gather(&mut reader.held, rest, config) {
            Gathered::Line(line) => line,
            Gathered::More => return Turn::Wait,
            Gathered::TooLong => return self.too_long(direction),
        };
        self.count_wire(direction, line.len());
        match chunk(&line) {
            Chunk::TooLarge if direction == Direction::ToServer => {
                return self.chunk_invalid(direction, rest, Vec::new());
            }
            Chunk::Empty | Chunk::TooLarge => {}
            // A whole line that is no number Suricata does not tell of.
            Chunk::Invalid if direction == Direction::ToServer => {
                *rest = &[];
                return Turn::Stop(Step::Fail);
            }
            Chunk::Invalid => {
                // What came with an earlier piece is not shown.
                let now = line.get(held..).unwrap_or_default().to_vec();
                return self.chunk_invalid(direction, rest, now);
            }
            Chunk::Size(size, has_extension) => {
                if has_extension {
                    let event =
                        by_side(direction, "request_chunk_extension", "response_chunk_extension");
                    self.event(direction, event);
                }
                self.reader(direction).at =
                    if size == 0 { At::Trailer } else { At::ChunkData(size) };
                if size == 0 {
                    // A trailer ends the body for inspectors.
                    self.drain(direction);
                }
            }
        }
        Turn::On
    }

    /// A request can't go on; a response is read as a body to the end of the connection.
    fn chunk_invalid(&mut self, direction: Direction, rest: &mut &[u8], line: Vec<u8>) -> Turn {
        match direction {
            Direction::ToServer => {
                self.event(direction, "invalid_request_chunk_len");
                *rest = &[];
                Turn::Stop(Step::Fail)
            }
            Direction::ToClient => {
                self.event(direction, "invalid_response_chunk_len");
                self.response.at = At::Close;
                self.body(direction, &line);
                Turn::On
            }
        }
    }

    /// After a request: the next one, or bytes that belong to its body though nothing said so.
    fn request_finalize(&mut self, rest: &mut &[u8]) -> Turn {
        let (_, text) = split_at_first(rest, |byte| !is_space(byte));
        let (word, behind) = split_at_first(text, is_space);
        let is_method = METHODS.contains(&word)
            || behind.is_empty() && METHODS.iter().any(|method| method.starts_with(word));
        if rest.is_empty() || text.is_empty() || is_method {
            if text.is_empty() {
                *rest = &[];
            }
            self.complete(SIDE);
            self.request.at = At::Idle;
            return Turn::On;
        }
        // All white space in one turn: it was looked through for the word above.
        let lead = rest.len() - text.len();
        let end = memchr::memchr(b'\n', text).map(|at| lead + at + 1);
        // What is no line yet may become a request.
        if end.is_some() {
            self.event(SIDE, "request_body_unexpected");
        }
        let (now, later) = rest.split_at(end.unwrap_or(rest.len()));
        *rest = later;
        self.body(SIDE, now);
        Turn::On
    }

    /// The response to a CONNECT is known: without a tunnel the next request may follow.
    pub(super) fn connect_answered(&mut self) {
        let id = self.request.tx;
        let status = self.tx(id).map_or(0, |tx| tx.response.status_number);
        if status != 0 && !(200..300).contains(&status) {
            self.request.at = At::Idle;
        }
    }
}

/// Method, URI, protocol.
fn read_line(line: &[u8], tx: &mut Tx, config: &Config) {
    let request = &mut tx.request;
    request.line = line.to_vec();
    let line = match memchr::memchr(0, line) {
        Some(end) if config.http_personality == Personality::Apache2 => {
            line.get(..end).unwrap_or_default()
        }
        _ => line,
    };
    let (lead, text) = split_at_first(line, |byte| !is_space(byte));
    if !lead.is_empty() {
        tx.events.add("request_line_leading_whitespace");
    }
    let (method, text) = split_at_first(text, is_space);
    let (gap, text) = split_at_first(text, |byte| !is_space(byte));
    if gap.iter().any(|byte| *byte != b' ') {
        tx.events.add("method_delim_non_compliant");
    }
    request.method = method.to_vec();
    let text = trim(text);
    let (mut uri, mut protocol) = rsplit(text, |byte| byte == b' ');
    if uri.iter().any(|byte| is_space(*byte) && *byte != b' ') {
        tx.events.add("uri_delim_non_compliant");
        if uri.len() == text.len() {
            (uri, protocol) = rsplit(text, is_space);
        }
    }
    request.uri_raw = uri.to_vec();
    request.protocol = protocol.to_vec();
    request.version =
        if protocol.is_empty() { Version::V0_9 } else { version(protocol, &mut tx.events) };
    request.uri_parts = UriParts::parse(uri, method == b"CONNECT");
    let (normalized, is_double) = normalize(uri, &request.uri_parts, config);
    request.uri = normalized;
    if is_double {
        tx.events.add("double_encoded_uri");
    }
}

/// URI and protocol: the last blank counts, as white space in URIs is allowed.
fn rsplit(text: &[u8], is_blank: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let at = text.iter().rposition(|byte| is_blank(*byte)).unwrap_or(text.len());
    let (uri, protocol) = text.split_at(at);
    (trim(uri), trim(protocol))
}

fn host(request: &mut Request, events: &mut Events) {
    let part = |range: &Option<std::ops::Range<usize>>| {
        range.clone().and_then(|range| request.uri_raw.get(range))
    };
    let mut from_uri = None;
    // What a CONNECT names may be anything.
    let authority = if request.method == b"CONNECT" {
        Some(Cow::Borrowed(request.uri_raw.as_slice()))
    } else {
        part(&request.uri_parts.host).map(|host| match part(&request.uri_parts.port) {
            Some(port) => Cow::Owned([host, b":", port].concat()),
            None => Cow::Borrowed(host),
        })
    };
    if let Some((mut name, port, is_valid)) = authority.map(|authority| host_port(&authority))
        && !name.is_empty()
    {
        if !is_valid {
            events.add("request_uri_host_invalid");
        }
        while name.last() == Some(&b'.') {
            name.pop();
        }
        from_uri = Some((name, port));
    }
    let Some(field) = request.headers.get("host") else {
        if request.version == Version::V1_1 {
            events.add("missing_host_header");
        }
        if let Some((name, port)) = from_uri {
            request.host_raw = Some(name.clone()).filter(|name| !name.is_empty());
            (request.host, request.port) = (request.host_raw.clone(), port);
        }
        return;
    };
    let (name, port, is_valid) = host_port(field);
    // A field without a value says nothing.
    if !is_valid && !field.is_empty() {
        events.add("request_header_host_invalid");
    }
    match from_uri {
        Some((uri_name, uri_port)) => {
            let is_port_other = uri_port.is_some() && port.is_some() && uri_port != port;
            if uri_name != name || is_port_other {
                events.add("host_header_ambiguous");
            }
            request.host_raw = Some(uri_name).filter(|name| !name.is_empty());
            (request.host, request.port) = (request.host_raw.clone(), uri_port);
        }
        None => {
            request.host_raw = Some(field.to_vec());
            // A field without a value names nobody.
            (request.host, request.port) = (Some(name).filter(|name| !name.is_empty()), port);
        }
    }
}

/// User and password of basic authorization, user of digest.
fn credentials(request: &mut Request, events: &mut Events) {
    let Some(value) = request.headers.get("authorization") else { return };
    let (scheme, rest) = split_at_first(trim(value), is_space);
    if scheme.eq_ignore_ascii_case(b"basic") {
        let plain = base64(trim(rest));
        let (user, password) = split_at_first(&plain, |byte| byte == b':');
        let password = password.get(1..).unwrap_or_default().to_vec();
        request.credentials = Some((user.to_vec(), password));
    } else if scheme.eq_ignore_ascii_case(b"digest") {
        let named = [b";", rest].concat();
        let commas: Vec<u8> =
            named.iter().map(|byte| if *byte == b',' { b';' } else { *byte }).collect();
        request.credentials = super::parameter(&commas, b"username").map(|user| (user, Vec::new()));
    } else if !scheme.eq_ignore_ascii_case(b"bearer") {
        events.add("request_auth_unrecognized");
    }
}

/// Base64 as far as it goes (RFC 4648); what is no digit is passed over.
pub(crate) fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count).to_le_bytes()[0]);
        }
    }
    out
}

/// Where a request's body starts and its length; `None`: it can't be read.
fn request_body(tx: &mut Tx) -> Option<(At, Option<u64>)> {
    let request = &tx.request;
    let length = request.headers.get_lenient("content-length");
    if let Some(coding) = request.headers.get_lenient("transfer-encoding") {
        // With another coding nobody knows where the request ends.
        return contains(&coding, b"chunked").then_some((At::ChunkLine, None));
    }
    let Some(value) = length else { return Some((At::Finalize, None)) };
    note_length(&value, &mut tx.events);
    let length = content_length(&value)?;
    Some((if length == 0 { At::Finalize } else { At::Known(length) }, Some(length)))
}

/// A form in parts that is posted.
pub(super) fn form(request: &Request) -> Option<Form> {
    let kind = request.headers.get("content-type").filter(|_| request.method == b"POST")?;
    Form::of(kind)
}

/// PUT and POST carry a file; of a form in parts that is posted each part does.
pub(super) fn file(request: &Request, are_hashed: bool) -> Option<File> {
    let is_file = match &request.method[..] {
        b"PUT" => true,
        b"POST" => form(request).is_none(),
        _ => false,
    };
    if !is_file {
        return None;
    }
    let named = request.headers.get("content-disposition").and_then(disposition_name);
    Some(File::new(&named.or_else(|| own_name(request))?, are_hashed))
}

/// The path, as Suricata does, if there is one; for a request that was not seen what stands for it.
pub(super) fn own_name(request: &Request) -> Option<Vec<u8>> {
    if request.is_partial && request.line.is_empty() {
        return Some(URI_NOT_SEEN.to_vec());
    }
    let path = request.uri_parts.path.as_ref();
    path.is_some_and(|path| !path.is_empty()).then(|| path_name(request).to_vec())
}

/// The name of a file without a name of its own: the path, as Suricata does.
pub(super) fn path_name(request: &Request) -> &[u8] {
    let parts = &request.uri_parts;
    if parts.query.is_none() && parts.fragment.is_none() {
        // What looks like the beginning of a query was encoded.
        return &request.uri;
    }
    let end = memchr::memchr2(b'?', b'#', &request.uri).unwrap_or(request.uri.len());
    request.uri.get(..end).unwrap_or_default()
}

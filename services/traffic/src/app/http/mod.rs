//! HTTP/1 and 0.9 as Suricata's libhtp sees them (personality IDS unless configured).
//!
//! Text is kept once, raw, in two vectors per side (line and header block); what is normalized
//! (URI, host, header buffer) is made when it is complete. Bodies are windows: see `Body`.

mod bestfit;
mod block;
mod body;
mod brotli;
mod coding;
mod file;
mod form;
mod grammar;
mod gzip;
mod headers;
mod inflate;
mod line;
mod lzma;
#[cfg(test)]
mod oddities;
mod parser;
mod range;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod uri;
mod window;

pub(crate) use body::Keep;
pub use body::{Body, Lines};
pub use file::{Digests, File, FileState};
pub(crate) use file::{parameter, sectioned_parameter};
pub use headers::{Field, Headers};
pub use parser::Http;
pub(crate) use parser::keeps;
pub use range::ContentRange;
pub(crate) use request::base64;
pub use uri::{UriParts, unescape};

use crate::Direction;
use crate::app::Events;
use inflate::Inflate;

/// Suricata 8's progress of a request and of a response. The value names the part that is being
/// read; whatever comes before it is complete.
pub mod progress {
    /// No byte yet.
    pub const NOT_STARTED: u8 = 0;
    /// Request or status line.
    pub const LINE: u8 = 1;
    /// Header fields.
    pub const HEADERS: u8 = 2;
    /// Body.
    pub const BODY: u8 = 3;
    /// Trailer of a chunked body.
    pub const TRAILER: u8 = 4;
    /// Complete, or the flow ended.
    pub const COMPLETE: u8 = 5;
}

/// What stands for the URI of a request that was not seen.
pub const URI_NOT_SEEN: &[u8] = b"/libhtp::request_uri_not_seen";

/// A request and its response.
#[derive(Debug, Default)]
pub struct Tx {
    /// Number within the flow, from 0.
    pub id: u64,
    /// Time of the first byte of the request (of the response if there was no request).
    pub at_ns: u64,
    /// What the client sent.
    pub request: Request,
    /// What the server sent.
    pub response: Response,
    /// Suricata's `http.*` events.
    pub events: Events,
    /// The connection became something else after this (CONNECT, upgrade).
    pub is_tunnel: bool,
    /// How far a message came that the end of the flow cut off; by direction.
    pub(crate) cut_at: [Option<u8>; 2],
    /// HTTP/2: number of the stream; 0 in HTTP/1.
    pub stream: u32,
    /// HTTP/2: what its frames say.
    pub notes: Option<Box<super::http2::Notes>>,
    /// HTTP/2: messages of DNS that it carries.
    pub doh: Option<Box<super::http2::Doh>>,
    pub(crate) inflates: [Option<Box<Inflate>>; 2],
    pub(crate) form: Option<Box<form::Form>>,
}

impl Tx {
    /// A frame of HTTP/2 about the connection: no request and no response.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.is_control)
    }

    /// See `progress`.
    #[must_use]
    pub const fn progress(&self, direction: Direction) -> u8 {
        match direction {
            Direction::ToServer => self.request.progress,
            Direction::ToClient => self.response.progress,
        }
    }

    /// How far a message really came: the end of the flow ends it, but does not bring the rest.
    #[must_use]
    pub fn reached(&self, direction: Direction) -> u8 {
        direction.of(&self.cut_at).unwrap_or_else(|| self.progress(direction))
    }

    /// The header fields of one side.
    #[must_use]
    pub const fn headers(&self, direction: Direction) -> &Headers {
        match direction {
            Direction::ToServer => &self.request.headers,
            Direction::ToClient => &self.response.headers,
        }
    }

    /// The body of one side.
    #[must_use]
    pub const fn body(&self, direction: Direction) -> &Body {
        match direction {
            Direction::ToServer => &self.request.body,
            Direction::ToClient => &self.response.body,
        }
    }

    /// `http.start`: the line (a server's with its own end, too) and the fields, as they were understood;
    /// `None` until both are complete.
    #[must_use]
    pub fn start(&self, direction: Direction) -> Option<Vec<u8>> {
        let line = match direction {
            Direction::ToServer => &self.request.line,
            Direction::ToClient => &self.response.line,
        };
        let headers = self.headers(direction);
        let is_due = self.reached(direction) > progress::HEADERS && !line.is_empty();
        is_due.then(|| {
            let mut start = Vec::with_capacity(line.len() + headers.raw.len() + 8);
            start.extend_from_slice(line);
            start.extend_from_slice(b"\r\n");
            for field in &headers.fields {
                for part in [&field.name[..], b": ", &field.value, b"\r\n"] {
                    start.extend_from_slice(part);
                }
            }
            if !headers.fields.is_empty() {
                start.extend_from_slice(b"\r\n");
            }
            start
        })
    }
}

/// Version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// No line yet, or none that can be read.
    #[default]
    Unknown,
    /// A line that has no protocol.
    V0_9,
    /// HTTP/1.0.
    V1_0,
    /// HTTP/1.1.
    V1_1,
    /// HTTP/2.
    V2,
    /// Something else after `HTTP/`.
    Invalid,
}

/// The client's side.
#[derive(Debug, Default)]
pub struct Request {
    /// See `progress`.
    pub progress: u8,
    /// `http.request_line`: without its line end.
    pub line: Vec<u8>,
    /// `http.method`.
    pub method: Vec<u8>,
    /// `http.uri.raw`: as in the line.
    pub uri_raw: Vec<u8>,
    /// `http.uri`: normalized.
    pub uri: Vec<u8>,
    /// Parts of the raw URI (scheme, user, host, port, path, query, fragment).
    pub uri_parts: UriParts,
    /// `http.protocol`: `HTTP/1.1` as sent; empty if the line has none.
    pub protocol: Vec<u8>,
    /// Version understood.
    pub version: Version,
    /// Header fields; trailer fields are added when they come.
    pub headers: Headers,
    /// `http.host`: from the URI or the Host field, lower case, without port.
    pub host: Option<Vec<u8>>,
    /// `http.host.raw`: from the URI, else the Host field as it is, port included.
    pub host_raw: Option<Vec<u8>>,
    /// Port in URI or Host field.
    pub port: Option<u16>,
    /// User of basic or digest authorization (Zeek's `username`), and password.
    pub credentials: Option<(Vec<u8>, Vec<u8>)>,
    /// `http.request_body`; unchunked, decompressed.
    pub body: Body,
    /// The file that it carries, if any: the body itself or the parts of a form.
    pub files: Vec<File>,
    /// A request without protocol: an empty line came with it.
    pub has_empty_line: bool,
    /// The response came before the end of the request or the flow was picked up late.
    pub is_partial: bool,
}

/// The server's side.
#[derive(Debug, Default)]
pub struct Response {
    /// See `progress`.
    pub progress: u8,
    /// `http.response_line`: with its line end, as Suricata has it.
    pub line: Vec<u8>,
    /// `http.protocol` to the client.
    pub protocol: Vec<u8>,
    /// Version understood.
    pub version: Version,
    /// `http.stat_code`: as sent.
    pub status: Vec<u8>,
    /// As a number, 0 if it is none.
    pub status_number: u16,
    /// `http.stat_msg`.
    pub message: Vec<u8>,
    /// Header fields.
    pub headers: Headers,
    /// `http.response_body`, `file.data`: unchunked, decompressed.
    pub body: Body,
    /// The file that it carries, if any.
    pub files: Vec<File>,
    /// The last interim response (100..199): code and message (Zeek's `info_code`, `info_msg`).
    pub interim: Option<(u16, Vec<u8>)>,
}

//! PostgreSQL's protocol, version 3: a request and its responses.

use super::{Body, Field, Fields, Sink, Taken};
use crate::{Direction, app::bytes::Cursor};

/// Longest message that is taken for one.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Fields of one direction of a transaction that are kept.
const FIELDS_MAX: usize = 256;
/// Codes where a version would stand.
const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;

/// A request and its responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// What the client said.
    pub request: Fields,
    /// What the server said.
    pub response: Fields,
    rows: u64,
    data_bytes: u64,
}

/// Which password the server wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Login {
    #[default]
    None,
    Password,
    Sasl,
    SaslOn,
}

/// Where a conversation is.
#[derive(Debug, Default)]
pub(super) struct Parser {
    is_started: bool,
    is_ssl_asked: bool,
    /// The client spoke last: the next message begins a transaction unless it answers.
    is_request: bool,
    is_copied_in: bool,
    login: Login,
}

impl Parser {
    pub(super) fn take(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        sink: &mut Sink<'_>,
    ) -> Taken {
        match direction {
            Direction::ToServer if !self.is_started => self.opening(bytes, sink),
            Direction::ToServer => self.message(bytes, sink, Self::request),
            Direction::ToClient if self.is_ssl_asked => self.ssl_answer(bytes, sink),
            Direction::ToClient => self.message(bytes, sink, Self::response),
        }
    }

    /// Messages before the first typed one: a length and a code.
    fn opening(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Taken {
        let mut cursor = Cursor::new(bytes);
        let (Some(length), Some(code)) = (cursor.u32(), cursor.u32()) else { return Taken::More };
        let length = length as usize;
        if !(8..=MESSAGE_BYTES_MAX).contains(&length) {
            return Taken::Fault;
        }
        let Some(body) = bytes.get(8..length) else { return Taken::More };
        let Some(exchange) = self.begin(sink) else { return Taken::Fault };
        match code {
            SSL_REQUEST => {
                put(&mut exchange.request, "message", Field::text("SSL Request"));
                self.is_ssl_asked = true;
            }
            CANCEL_REQUEST => {
                put(&mut exchange.request, "message", Field::text("cancel_request"));
                let mut cursor = Cursor::new(body);
                for name in ["process_id", "secret_key"] {
                    let number = cursor.u32().unwrap_or(0);
                    put(&mut exchange.request, name, Field::Number(u64::from(number)));
                }
                finish(sink);
                return Taken::Message(length);
            }
            _ => {
                startup(&mut exchange.request, code, body);
                self.is_started = true;
            }
        }
        end_of_request(sink);
        Taken::Message(length)
    }

    fn ssl_answer(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Taken {
        self.is_ssl_asked = false;
        let is_accepted = bytes.first() == Some(&b'S');
        if let Some(exchange) = exchange(sink) {
            put(&mut exchange.response, "ssl_accepted", Field::Flag(is_accepted));
        }
        finish(sink);
        if is_accepted { Taken::Tls } else { Taken::Message(1) }
    }

    /// A type, a length, and so many bytes.
    fn message(
        &mut self,
        bytes: &[u8],
        sink: &mut Sink<'_>,
        handle: fn(&mut Self, u8, &[u8], &mut Sink<'_>),
    ) -> Taken {
        let mut cursor = Cursor::new(bytes);
        let (Some(kind), Some(length)) = (cursor.u8(), cursor.u32()) else { return Taken::More };
        let length = length as usize;
        if length < 4 || !kind.is_ascii_alphanumeric() {
            sink.event("invalid_length");
            return Taken::Fault;
        }
        if length > MESSAGE_BYTES_MAX {
            return Taken::Fault;
        }
        let Some(body) = bytes.get(5..=length) else { return Taken::More };
        handle(self, kind, body, sink);
        Taken::Message(1 + length)
    }

    fn begin<'s>(&mut self, sink: &'s mut Sink<'_>) -> Option<&'s mut Exchange> {
        self.is_request = true;
        match &mut sink.begin(Body::Pgsql(Box::default()), None).body {
            Body::Pgsql(exchange) => Some(exchange),
            Body::Sip(_) | Body::Smb(_) | Body::SmbFile(_) => None,
        }
    }

    fn request(&mut self, kind: u8, body: &[u8], sink: &mut Sink<'_>) {
        match kind {
            b'Q' => {
                let Some(exchange) = self.begin(sink) else { return };
                put(&mut exchange.request, "simple_query", text(body));
            }
            b'p' => self.password(body, sink),
            b'd' => return self.copied(body, sink),
            b'c' | b'f' => {
                let Some(exchange) = exchange(sink) else { return };
                if exchange.rows > 0 {
                    let (rows, bytes) = (exchange.rows, exchange.data_bytes);
                    let fields =
                        [("msg_count", Field::Number(rows)), ("data_size", Field::Number(bytes))];
                    put(&mut exchange.request, "copy_data_in", Field::object(fields));
                    (exchange.rows, exchange.data_bytes) = (0, 0);
                }
                if kind == b'c' {
                    put(&mut exchange.request, "message", Field::text("copy_done"));
                } else {
                    put(&mut exchange.request, "copy_fail", text(body));
                }
                self.is_request = false;
                self.is_copied_in = false;
            }
            b'X' => {
                let Some(exchange) = self.begin(sink) else { return };
                put(&mut exchange.request, "message", Field::text("termination_message"));
                return finish(sink);
            }
            // Parse, bind, execute and their like are not told of.
            _ => return,
        }
        end_of_request(sink);
    }

    fn password(&mut self, body: &[u8], sink: &mut Sink<'_>) {
        let login = self.login;
        let Some(exchange) = self.begin(sink) else { return };
        match login {
            Login::Sasl => {
                let (name, rest) = string(body);
                let name = match name {
                    b"SCRAM-SHA-256" => b"scram_SHA256",
                    b"SCRAM-SHA-256-PLUS" => &b"scram_SHA256_plus"[..],
                    other => other,
                };
                put(&mut exchange.request, "sasl_authentication_mechanism", text(name));
                put(&mut exchange.request, "sasl_param", text(rest.get(4..).unwrap_or_default()));
                self.login = Login::SaslOn;
            }
            Login::SaslOn => put(&mut exchange.request, "sasl_response", text(body)),
            // Passwords are never written.
            _ => put(&mut exchange.request, "password_redacted", Field::Flag(true)),
        }
    }

    /// Rows on their way to the server.
    fn copied(&mut self, body: &[u8], sink: &mut Sink<'_>) {
        if !std::mem::replace(&mut self.is_copied_in, true) {
            self.begin(sink);
        }
        if let Some(exchange) = exchange(sink) {
            exchange.rows += 1;
            exchange.data_bytes += body.len() as u64;
        }
    }

    fn response(&mut self, kind: u8, body: &[u8], sink: &mut Sink<'_>) {
        if self.is_request && sink.txs.is_empty() {
            self.begin(sink);
        }
        let Some(exchange) = exchange(sink) else { return };
        self.is_request = false;
        let out = &mut exchange.response;
        match kind {
            b'R' if self.authentication(body, out) => finish(sink),
            b'S' => parameter(out, body),
            b'K' => {
                let mut cursor = Cursor::new(body);
                for name in ["process_id", "secret_key"] {
                    put(out, name, Field::Number(u64::from(cursor.u32().unwrap_or(0))));
                }
            }
            b'T' => {
                let count = Cursor::new(body).u16().unwrap_or(0);
                put(out, "field_count", Field::Number(u64::from(count)));
            }
            b'D' => {
                exchange.rows += 1;
                exchange.data_bytes += row_bytes(body);
            }
            b'd' => {
                exchange.rows += 1;
                exchange.data_bytes += body.len() as u64;
            }
            b'C' => {
                take_rows(exchange, false);
                put(&mut exchange.response, "command_completed", text(body));
            }
            b'c' => {
                take_rows(exchange, true);
                put(&mut exchange.response, "message", Field::text("copy_done"));
            }
            b'G' | b'H' => {
                let columns = body.get(1..).and_then(|rest| Cursor::new(rest).u16()).unwrap_or(0);
                let name = if kind == b'G' { "copy_in_response" } else { "copy_out_response" };
                put(out, name, Field::object([("columns", Field::Number(u64::from(columns)))]));
                if kind == b'G' {
                    finish(sink);
                }
            }
            b'E' | b'N' => fault(out, body),
            b'A' => {
                let mut cursor = Cursor::new(body);
                put(out, "pid", Field::Number(u64::from(cursor.u32().unwrap_or(0))));
                let (name, rest) = string(cursor.rest());
                put(out, "channel_name", text(name));
                put(out, "payload", text(rest));
            }
            b'Z' => finish(sink),
            _ => {}
        }
    }

    /// Whether it ends the transaction.
    fn authentication(&mut self, body: &[u8], out: &mut Fields) -> bool {
        let kind = Cursor::new(body).u32();
        let rest = body.get(4..).unwrap_or_default();
        let mut message = |name: &'static str| put(out, "message", Field::text(name));
        match kind {
            Some(0) => {
                message("authentication_ok");
                return false;
            }
            Some(3) => {
                message("authentication_cleartext_password");
                self.login = Login::Password;
            }
            Some(5) => {
                put(out, "authentication_md5_password", raw(rest));
                self.login = Login::Password;
            }
            Some(9) => {
                put(out, "authentication_sspi", raw(rest));
                return false;
            }
            Some(10) => {
                message("authentication_sasl");
                self.login = Login::Sasl;
            }
            Some(11) => message("authentication_sasl_continue"),
            Some(12) => put(out, "authentication_sasl_final", raw(rest)),
            _ => return false,
        }
        true
    }
}

fn exchange<'s>(sink: &'s mut Sink<'_>) -> Option<&'s mut Exchange> {
    match &mut sink.last()?.body {
        Body::Pgsql(exchange) => Some(exchange),
        Body::Sip(_) | Body::Smb(_) | Body::SmbFile(_) => None,
    }
}

fn end_of_request(sink: &mut Sink<'_>) {
    if let Some(tx) = sink.last() {
        *Direction::ToServer.of_mut(&mut tx.is_done) = true;
    }
}

fn finish(sink: &mut Sink<'_>) {
    if let Some(tx) = sink.last() {
        tx.is_done = [true; 2];
    }
}

fn put(fields: &mut Fields, name: &str, field: Field) {
    if fields.len() < FIELDS_MAX {
        fields.push((name.into(), field));
    }
}

/// Without the zero at its end.
fn text(bytes: &[u8]) -> Field {
    Field::Text(bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec())
}

fn raw(bytes: &[u8]) -> Field {
    Field::Text(bytes.to_vec())
}

/// A string up to its zero, and what follows.
fn string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default())
}

fn startup(out: &mut Fields, version: u32, body: &[u8]) {
    let version = format!("{}.{}", version >> 16, version & 0xffff);
    put(out, "protocol_version", Field::Text(version.into_bytes()));
    let (mut user, mut others) = (Vec::new(), Vec::new());
    let mut rest = body;
    while !matches!(rest, [] | [0, ..]) && others.len() < FIELDS_MAX {
        let (name, behind) = string(rest);
        let (value, behind) = string(behind);
        rest = behind;
        if name == b"user" {
            user = value.to_vec();
        } else {
            let name = String::from_utf8_lossy(name).into_owned();
            others.push(Field::Fields(vec![(name, Field::Text(value.to_vec()))]));
        }
    }
    let mut fields = vec![("user".to_owned(), Field::Text(user))];
    if !others.is_empty() {
        fields.push(("optional_parameters".to_owned(), Field::List(others)));
    }
    put(out, "startup_parameters", Field::Fields(fields));
}

/// All of them are one list.
fn parameter(out: &mut Fields, body: &[u8]) {
    let (name, rest) = string(body);
    let (value, _) = string(rest);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let entry = Field::Fields(vec![(name, Field::Text(value.to_vec()))]);
    let list = out.iter_mut().find(|(name, _)| name == "parameter_status");
    match list {
        Some((_, Field::List(list))) if list.len() < FIELDS_MAX => list.push(entry),
        Some(_) => {}
        None => put(out, "parameter_status", Field::List(vec![entry])),
    }
}

/// Bytes of the values of a row; -1 stands for none.
fn row_bytes(body: &[u8]) -> u64 {
    let mut cursor = Cursor::new(body);
    let mut total = 0;
    for _ in 0..cursor.u16().unwrap_or(0) {
        let Some(length) = cursor.u32().map(u32::cast_signed) else { break };
        let Ok(length) = usize::try_from(length) else { continue };
        if cursor.take(length).is_none() {
            break;
        }
        total += length as u64;
    }
    total
}

fn take_rows(exchange: &mut Exchange, is_copy: bool) {
    let (rows, bytes) = (exchange.rows, exchange.data_bytes);
    if rows == 0 {
        return;
    }
    (exchange.rows, exchange.data_bytes) = (0, 0);
    let out = &mut exchange.response;
    if is_copy {
        let fields = [("row_count", Field::Number(rows)), ("data_size", Field::Number(bytes))];
        put(out, "copy_data_out", Field::object(fields));
    } else {
        put(out, "data_rows", Field::Number(rows));
        put(out, "data_size", Field::Number(bytes));
    }
}

/// An error or a notice: a letter and a string for each field.
fn fault(out: &mut Fields, body: &[u8]) {
    let mut rest = body;
    while let Some((kind, behind)) = rest.split_first().filter(|(kind, _)| **kind != 0) {
        let (value, behind) = string(behind);
        rest = behind;
        let name = match kind {
            b'S' => "severity_localizable",
            b'V' => "severity_non_localizable",
            b'C' => "code",
            b'M' => "message",
            b'D' => "detail",
            b'H' => "hint",
            b'P' => "position",
            b'p' => "internal_position",
            b'q' => "internal_query",
            b'W' => "where",
            b's' => "schema_name",
            b't' => "table_name",
            b'c' => "column_name",
            b'd' => "data_type",
            b'n' => "constraint_name",
            b'F' => "file",
            b'L' => "line",
            b'R' => "routine",
            _ => "unknown_field_type",
        };
        put(out, name, Field::Text(value.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_and_summed() {
        assert_eq!(row_bytes(&[0, 2, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff]), 1);
        assert_eq!(row_bytes(&[0, 9, 0, 0, 0, 9, b'x']), 0);
        let mut out = Fields::new();
        fault(&mut out, b"SERROR\0C22012\0\0");
        let names: Vec<&str> = out.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["severity_localizable", "code"]);
    }
}

//! `http.log`: one line for a request with its response.

use hookprobe_traffic::{
    Direction,
    app::http::{Body, File, Headers, Tx, Version},
};

use super::{
    Ident,
    files::{Files, Kind},
    ident::file_id,
    log::Value,
    mime,
    multipart::{self, Part},
};

/// Headers by which a proxy shows itself.
const PROXY_HEADERS: [&str; 7] = [
    "FORWARDED",
    "X-FORWARDED-FOR",
    "X-FORWARDED-FROM",
    "CLIENT-IP",
    "VIA",
    "XROXY-CONNECTION",
    "PROXY-CONNECTION",
];

/// Bytes of a body that its kind is told from.
const SNIFF_BYTES_MAX: usize = 1024;

/// Files of one side: names and kinds.
#[derive(Default)]
struct Side {
    ids: Vec<String>,
    names: Vec<Vec<u8>>,
    kinds: Vec<&'static str>,
}

/// Writes the line of one transaction.
pub(super) fn write(ident: &Ident, tx: &Tx, files: &mut Files) {
    let (request, response) = (&tx.request, &tx.response);
    let text = |bytes: &'_ [u8]| -> bool { !bytes.is_empty() };
    let has_request = text(&request.line) || text(&request.method);
    let is_0_9 = is_0_9(tx) && response.line.is_empty() && response.body.total > 0;
    let has_response = text(&response.line) || response.status_number > 0 || is_0_9;
    let uri = unescape(uri(tx));
    let proxied = proxied(&request.headers);
    let proxied: Vec<Value<'_>> = proxied.iter().map(|text| Value::Text(text)).collect();
    let orig = side(ident, tx, Direction::ToServer, &request.files, &request.headers);
    let resp = side(ident, tx, Direction::ToClient, &response.files, &response.headers);
    let (orig_ids, orig_names, orig_kinds) = orig.values();
    let (resp_ids, resp_names, resp_kinds) = resp.values();
    let header = |name: &str| Value::maybe(request.headers.get(name));
    let [ts, uid, orig_h, orig_p, resp_h, resp_p] = ident.columns(tx.at_ns);
    let user = request.credentials.as_ref().map(|(user, _)| user.as_slice());
    let (info_code, info_msg) = match &response.interim {
        Some((code, message)) => (Value::Count(u64::from(*code)), Value::Text(message)),
        None => (Value::Unset, Value::Unset),
    };
    files.row(
        Kind::Http,
        tx.at_ns,
        &[
            ts,
            uid,
            orig_h,
            orig_p,
            resp_h,
            resp_p,
            Value::Count(tx.id + 1),
            if has_request { Value::Text(&request.method) } else { Value::Unset },
            header("host"),
            if has_request { Value::Text(&uri) } else { Value::Unset },
            header("referer"),
            version(tx, has_response),
            header("user-agent"),
            header("origin"),
            // The end of a line is no body to Zeek.
            Value::Count(if self::is_0_9(tx) { 0 } else { request.body.total }),
            Value::Count(if has_response { body_bytes(&response.body) } else { 0 }),
            if has_response {
                Value::Count(u64::from(response.status_number))
            } else {
                Value::Unset
            },
            if has_response { status_message(tx) } else { Value::Unset },
            info_code,
            info_msg,
            Value::List(&[]),
            Value::maybe(user),
            // Passwords are never written.
            Value::Unset,
            list(&proxied),
            list(&orig_ids),
            list(&orig_names),
            list(&orig_kinds),
            list(&resp_ids),
            list(&resp_names),
            list(&resp_kinds),
        ],
    );
}

/// The request is one line without a protocol.
fn is_0_9(tx: &Tx) -> bool {
    tx.request.protocol.is_empty() && !tx.request.line.is_empty()
}

/// A body that ends with the connection reaches Zeek line by line, each of which counts two bytes more
/// than its text, whatever its end was.
fn body_bytes(body: &Body) -> u64 {
    match body.lines {
        Some(lines) if body.total > 0 => {
            body.total + lines.bare + if lines.is_ended() { 0 } else { 2 }
        }
        Some(_) | None => body.total,
    }
}

/// Whether Zeek takes this for no HTTP: it reads nothing more of the connection then. An answer begins
/// with `HTTP/`, unless the request had no protocol.
pub(super) fn is_broken(tx: &Tx) -> bool {
    let is_no_answer = !tx.response.line.is_empty() && !tx.response.line.starts_with(b"HTTP/");
    is_request_broken(tx) || is_no_answer && !is_0_9(tx)
}

/// A request needs a method that is a token and something behind it, without a protocol three letters
/// and a URI.
pub(super) fn is_request_broken(tx: &Tx) -> bool {
    let line = tx.request.line.as_slice();
    if line.is_empty() {
        return false;
    }
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    let rest = line.get(method..).unwrap_or_default();
    let behind = rest.trim_ascii_start();
    let has_protocol = behind.starts_with(b"HTTP/")
        || behind.windows(6).any(|window| window == b" HTTP/" || window == b"\tHTTP/");
    let is_request = method > 0
        && behind.len() < rest.len()
        && (has_protocol || (method >= 3 && !behind.is_empty()));
    !is_request
}

/// What is odd about a transaction, by Zeek's names.
pub(super) fn oddities(tx: &Tx) -> impl Iterator<Item = &'static str> {
    let request = &tx.request;
    let all = [
        (is_request_broken(tx), "bad_HTTP_request"),
        (request.uri_raw.starts_with(b"HTTP/"), "missing_HTTP_uri"),
        (
            is_0_9(tx) && !is_request_broken(tx) && request.method != b"GET",
            "invalid_http_09_request_method",
        ),
    ];
    all.into_iter().filter(|(is_odd, _)| *is_odd).map(|(_, name)| name)
}

/// Characters of a token (RFC 2616, section 2.2); Zeek lets braces end one.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}

/// Zeek ends a request without a protocol, and without an empty line behind it, when its side of the
/// connection ends. If the answer was over before, that makes another row, which says nothing.
pub(super) fn write_late_end(ident: &Ident, tx: &Tx, history: &str, files: &mut Files) {
    let (client, server) = (history.find('F'), history.find('f'));
    let is_late = server.is_some_and(|server| client.is_some_and(|client| server < client));
    let is_open = is_0_9(tx) && !tx.request.has_empty_line;
    if is_open && tx.response.body.total > 0 && is_late {
        let mut none = Tx::default();
        (none.id, none.at_ns) = (tx.id + 1, tx.at_ns);
        write(ident, &none, files);
    }
}

/// Everything between the method and the protocol: Zeek takes spaces as part of it, and a protocol
/// where the URI should be as none.
fn uri(tx: &Tx) -> &[u8] {
    let request = &tx.request;
    let rest = request.line.strip_prefix(request.method.as_slice()).map(<[u8]>::trim_ascii_start);
    let at = rest.and_then(|rest| rest.windows(6).rposition(|window| window == b" HTTP/"));
    match rest.zip(at) {
        Some((rest, at)) => rest.get(..at).unwrap_or_default().trim_ascii_end(),
        None if request.uri_raw.starts_with(b"HTTP/") => b"",
        None => &request.uri_raw,
    }
}

/// Nothing where there is nothing.
fn list<'a>(values: &'a [Value<'a>]) -> Value<'a> {
    if values.is_empty() { Value::Unset } else { Value::List(values) }
}

/// That of the response, as Zeek has it.
fn version(tx: &Tx, has_response: bool) -> Value<'_> {
    if !has_response {
        return Value::Unset;
    }
    match tx.response.version {
        Version::Unknown if tx.response.line.is_empty() => Value::word("0.9"),
        Version::V0_9 => Value::word("0.9"),
        Version::V1_0 => Value::word("1.0"),
        Version::V1_1 => Value::word("1.1"),
        Version::V2 => Value::word("2"),
        Version::Unknown | Version::Invalid => {
            let protocol = tx.response.protocol.as_slice();
            Value::maybe(protocol.strip_prefix(b"HTTP/").filter(|rest| !rest.is_empty()))
        }
    }
}

fn status_message(tx: &Tx) -> Value<'_> {
    if tx.response.message.is_empty() {
        Value::word("<empty>")
    } else {
        Value::Text(&tx.response.message)
    }
}

fn proxied(headers: &Headers) -> Vec<Vec<u8>> {
    let fields = PROXY_HEADERS.iter().filter_map(|name| Some((name, headers.get(name)?)));
    fields.map(|(name, value)| [name.as_bytes(), b" -> ", value].concat()).collect()
}

/// Percent signs undone, as Zeek writes URIs; what is no two digits stays.
fn unescape(uri: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(uri.len());
    let mut rest = uri;
    loop {
        rest = match rest {
            [] => return out,
            [b'%', b'%', tail @ ..] => {
                out.push(b'%');
                tail
            }
            [b'%', high, low, tail @ ..] => {
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                    out.push(high << 4 | low);
                    tail
                } else {
                    out.push(b'%');
                    rest.get(1..).unwrap_or_default()
                }
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
        };
    }
}

fn side(ident: &Ident, tx: &Tx, direction: Direction, files: &[File], headers: &Headers) -> Side {
    let mut side = Side::default();
    if let Some(parts) = parts(tx, direction, headers) {
        for (index, part) in parts.into_iter().enumerate() {
            side.ids.push(file_id(ident, tx.id, direction, index));
            side.names.extend(part.name);
            side.kinds.extend(mime::sniff(part.head));
        }
        return side;
    }
    if files.is_empty()
        && let (0, bytes @ [_, ..]) = tx.body(direction).window()
    {
        // A body that is no file to Suricata is one to Zeek.
        side.ids.push(file_id(ident, tx.id, direction, 0));
        side.kinds.extend(mime::sniff(bytes.get(..SNIFF_BYTES_MAX).unwrap_or(bytes)));
    }
    for (index, file) in files.iter().enumerate().filter(|(_, file)| file.size > 0) {
        side.ids.push(file_id(ident, tx.id, direction, index));
        // A name that the path gave is none to Zeek.
        let is_named = headers
            .get("content-disposition")
            .or_else(|| headers.get("content-type").filter(|value| is_multipart(value)))
            .is_some();
        if is_named && !file.name.is_empty() {
            side.names.push(file.name.clone());
        }
        if let Some(kind) = mime::sniff(&file.head) {
            side.kinds.push(kind);
        }
    }
    side
}

/// The parts of a body that is made of parts, if its beginning is still there.
fn parts<'a>(tx: &'a Tx, direction: Direction, headers: &Headers) -> Option<Vec<Part<'a>>> {
    let kind = headers.get("content-type").filter(|value| is_multipart(value))?;
    let (0, bytes) = tx.body(direction).window() else { return None };
    let parts = multipart::parts(bytes, kind);
    (!parts.is_empty()).then_some(parts)
}

fn is_multipart(value: &[u8]) -> bool {
    value.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}

impl Side {
    fn values(&self) -> (Vec<Value<'_>>, Vec<Value<'_>>, Vec<Value<'_>>) {
        (
            self.ids.iter().map(|id| Value::word(id)).collect(),
            self.names.iter().map(|name| Value::Text(name)).collect(),
            self.kinds.iter().map(|kind| Value::word(kind)).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_unescaped_once() {
        let check = |uri: &[u8], expect: &[u8]| assert_eq!(unescape(uri), expect);
        check(b"/a%20b%2541", b"/a b%41");
        check(b"/100%", b"/100%");
        check(b"/%zz%4", b"/%zz%4");
        check(b"/%00", b"/\0");
    }
}

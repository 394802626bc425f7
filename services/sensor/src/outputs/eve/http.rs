//! HTTP transactions and the files in them.

use crate::outputs::json::{Object, Value, json};
use hookprobe_traffic::{
    Direction,
    app::{
        http::{ContentRange, File, FileState, Tx, progress},
        http2::{ERRORS, Notes, Value as Settings},
    },
};

use super::{
    Details,
    text::{hex, text},
};

/// What is written for the URL of a request that was not seen.
const UNSEEN: &str = "/libhtp::request_uri_not_seen";
/// Bytes of all fields of a message that are written where those are asked for.
const HEADERS_BYTES_MAX: usize = 32 << 10;
/// Fields of a message that are written one by one.
const FIELDS_MAX: usize = 256;
/// Bytes of a name or a value of these.
const FIELD_BYTES_MAX: usize = 255;

/// The `http` object, the extended one; `None` where Suricata has nothing to say.
#[must_use]
pub(super) fn http(tx: &Tx) -> Option<Value> {
    if tx.is_control() || tx.stream > 0 {
        return http2(tx);
    }
    let mut out = basic(tx);
    let (request, response) = (&tx.request, &tx.response);
    let mut put = |name: &'static str, bytes: Option<&[u8]>| {
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            out.insert(name.into(), json!(text(bytes)));
        }
    };
    put("http_refer", request.headers.get("referer"));
    put("http_method", Some(&request.method));
    put("protocol", Some(&request.protocol));
    if response.status_number > 0 {
        put("redirect", response.headers.get("location"));
        out.insert("status".into(), json!(response.status_number));
    } else {
        put("status_string", Some(&response.status));
        put("redirect", response.headers.get("location"));
    }
    out.insert("length".into(), json!(response.body.wire));
    Some(Value::Object(out))
}

/// What an event has that is not extended.
pub(super) fn basic(tx: &Tx) -> Object {
    let mut out = Object::new();
    let (request, response) = (&tx.request, &tx.response);
    let mut put = |name: &'static str, bytes: Option<&[u8]>| {
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            out.insert(name.into(), json!(text(bytes)));
        }
    };
    // Whose host it is, is known when all fields are.
    let is_host_known = request.progress > progress::HEADERS;
    put("hostname", request.host.as_deref().filter(|_| is_host_known));
    put("url", Some(&request.uri_raw));
    put("http_user_agent", request.headers.get("user-agent"));
    put("xff", request.headers.get("x-forwarded-for"));
    let content_type = response.headers.get("content-type");
    put("http_content_type", content_type.and_then(|value| value.split(|b| *b == b';').next()));
    if !is_request_seen(tx) {
        out.insert("url".into(), json!(UNSEEN));
    }
    if let Some(port) = request.port.filter(|_| is_host_known) {
        out.insert("http_port".into(), json!(port));
    }
    if let Some(range) = response.headers.get("content-range") {
        out.insert("content_range".into(), content_range(range));
    }
    out
}

/// The answer to a request that was never there has a transaction as well.
fn is_request_seen(tx: &Tx) -> bool {
    tx.stream > 0 || !tx.request.line.is_empty()
}

/// `custom` and `dump-all-headers` of suricata.yaml.
pub(super) fn more(tx: &Tx, details: &Details, out: &mut Object) {
    for name in &details.http_custom {
        let (field, direction) = custom(name);
        if let Some(value) = tx.headers(direction).get(&field) {
            out.insert(name.to_ascii_lowercase().replace('-', "_").into(), json!(text(value)));
        }
    }
    for (is_on, direction) in details.http_headers.into_iter().zip(Direction::BOTH) {
        if !is_on {
            continue;
        }
        let mut room = HEADERS_BYTES_MAX;
        // As a string of C: it ends with a zero byte, and one that is no UTF-8 is left out.
        let cut = |bytes: &[u8]| {
            let bytes = bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes);
            let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        };
        let mut list = Vec::new();
        for field in tx.headers(direction).fields.iter().take(FIELDS_MAX) {
            let bytes = field.name.len() + field.value.len();
            if bytes > room {
                break;
            }
            room -= bytes;
            let mut item = Object::new();
            for (key, bytes) in [("name", &field.name), ("value", &field.value)] {
                if let Some(text) = cut(bytes) {
                    item.insert(key.into(), json!(text));
                }
            }
            list.push(Value::Object(item));
        }
        let name = match direction {
            Direction::ToServer => "request_headers",
            Direction::ToClient => "response_headers",
        };
        if !list.is_empty() {
            out.insert(name.into(), json!(list));
        }
    }
}

/// The field of a custom name, and whose it is: some exist on both sides.
fn custom(name: &str) -> (String, Direction) {
    const OF_RESPONSES: [&str; 19] = [
        "accept-ranges",
        "age",
        "allow",
        "content-encoding",
        "content-language",
        "content-length",
        "content-location",
        "content-md5",
        "content-type",
        "etag",
        "expires",
        "last-modified",
        "link",
        "location",
        "retry-after",
        "server",
        "set-cookie",
        "vary",
        "www-authenticate",
    ];
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let field = lower.strip_prefix("org-src-ip").map_or(lower.as_str(), |_| "x-forwarded-for");
    let direction =
        if OF_RESPONSES.contains(&field) { Direction::ToClient } else { Direction::ToServer };
    (field.to_owned(), direction)
}

/// Streams of HTTP/2 and frames about the connection: fields as they came, then what is common
/// with HTTP/1, then what frames said.
fn http2(tx: &Tx) -> Option<Value> {
    let mut out = Object::new();
    out.insert("version".into(), Value::word("2"));
    let mut has_any = false;
    for (direction, name) in
        [(Direction::ToServer, "request_headers"), (Direction::ToClient, "response_headers")]
    {
        let list = fields(tx, direction, &mut out);
        if !list.is_empty() {
            has_any = true;
            out.insert(name.into(), json!(list));
        }
    }
    let mut http2 = Object::new();
    http2.insert("stream_id".into(), json!(tx.stream));
    for (direction, name) in [(Direction::ToServer, "request"), (Direction::ToClient, "response")] {
        let side = tx.notes.as_deref().map(|notes| frames(notes, direction));
        if let Some(side) = side.filter(|side| !side.is_empty()) {
            has_any = true;
            http2.insert(name.into(), Value::Object(side));
        }
    }
    out.insert("http2".into(), Value::Object(http2));
    has_any.then_some(Value::Object(out))
}

/// The fields of one side as a list; those that HTTP/1 has by the same name go into `out`.
fn fields(tx: &Tx, direction: Direction, out: &mut Object) -> Vec<Value> {
    let mut list = Vec::new();
    let raw = &tx.headers(direction).raw;
    for line in raw.split(|byte| *byte == b'\n').take(FIELDS_MAX) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A name may begin with a colon.
        let end = line.windows(2).skip(1).position(|pair| pair == b": ");
        let Some(end) = end.map(|end| end + 1) else { continue };
        let (name, value) = line.split_at(end);
        let value = value.get(2..).unwrap_or_default();
        list.push(json!({ "name": text(name), "value": text(value) }));
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        let (key, value) = match name {
            b":method" => ("http_method", Some(json!(text(value)))),
            b":path" => ("url", Some(json!(text(value)))),
            b":authority" | b"host" => ("hostname", Some(json!(text(value)))),
            b"user-agent" => ("http_user_agent", Some(json!(text(value)))),
            b"content-length" => ("length", number().map(|number| json!(number))),
            b":status" => ("status", number().map(|number| json!(number))),
            _ => continue,
        };
        if let Some(value) = value {
            out.insert(key.into(), value);
        }
    }
    list
}

/// What the frames of one side said beside fields and data.
fn frames(notes: &Notes, direction: Direction) -> Object {
    let mut out = Object::new();
    for note in notes.list.iter().filter(|note| note.direction == direction) {
        let (name, value) = match &note.value {
            Settings::Settings(list) => {
                let entry = |(number, value): &(u16, u32)| json!({ "settings_id": setting(*number), "settings_value": value });
                ("settings", list.iter().map(entry).collect())
            }
            Settings::Error(code) => ("error_code", json!(error(*code))),
            Settings::Priority(weight) => ("priority", json!(weight)),
            Settings::Window(_) | Settings::None => continue,
        };
        if out.contains_key(name) {
            out.insert("has_multiple".into(), json!(name));
        } else {
            out.insert(name.into(), value);
        }
    }
    out
}

fn setting(number: u16) -> String {
    match number {
        1 => "SETTINGSHEADERTABLESIZE".into(),
        2 => "SETTINGSENABLEPUSH".into(),
        3 => "SETTINGSMAXCONCURRENTSTREAMS".into(),
        4 => "SETTINGSINITIALWINDOWSIZE".into(),
        5 => "SETTINGSMAXFRAMESIZE".into(),
        6 => "SETTINGSMAXHEADERLISTSIZE".into(),
        other => format!("unknown({other})"),
    }
}

/// The name of an error in one word.
fn error(code: u32) -> String {
    let Some(name) = usize::try_from(code).ok().and_then(|code| ERRORS.get(code)) else {
        return code.to_string();
    };
    let mut out = String::new();
    for word in name.split('_') {
        let (first, rest) = word.split_at(1.min(word.len()));
        out.push_str(first);
        out.push_str(&rest.to_ascii_lowercase());
    }
    out
}

/// `bytes 0-99/1000`: what is there of start, end and size.
fn content_range(value: &[u8]) -> Value {
    let mut out = Object::new();
    if !value.is_empty() {
        out.insert("raw".into(), json!(text(value)));
    }
    if let Some(range) = ContentRange::parse(value) {
        let mut put = |name: &'static str, number: Option<u64>| {
            if let Some(number) = number {
                out.insert(name.into(), json!(number));
            }
        };
        put("start", range.bytes.map(|(start, _)| start));
        put("end", range.bytes.map(|(_, end)| end));
        put("size", range.size);
    }
    Value::Object(out)
}

/// The `fileinfo` object of a file of a transaction: a part of one says which.
pub(super) fn fileinfo_of(tx: &Tx, file: &File, direction: Direction) -> Value {
    let mut out = fileinfo(file, tx.id);
    let range = tx.response.headers.get("content-range").map(content_range);
    let range = range.filter(|_| direction == Direction::ToClient);
    if let (Some(range), Some(out)) = (range, out.as_object_mut()) {
        for name in ["start", "end"] {
            if let Some(number) = range.get(name) {
                out.insert(name.into(), number.clone());
            }
        }
    }
    // HTTP/2 has no name for what the peer does not name.
    let is_named = tx.headers(direction).get("content-disposition").is_some();
    if let (true, Some(out)) = (tx.stream > 0 && !is_named, out.as_object_mut()) {
        out.remove("filename");
    }
    out
}

/// The `fileinfo` object, and an entry of `files`.
#[must_use]
pub fn fileinfo(file: &File, tx_id: u64) -> Value {
    let mut out = Object::new();
    if !file.name.is_empty() {
        out.insert("filename".into(), json!(text(&file.name)));
    }
    out.insert("gaps".into(), json!(file.has_gap));
    let state = match file.state {
        FileState::Open => "UNKNOWN",
        FileState::Closed => "CLOSED",
        FileState::Truncated => "TRUNCATED",
        FileState::Error => "ERROR",
    };
    out.insert("state".into(), json!(state));
    if let Some(digests) = &file.digests {
        out.insert("md5".into(), json!(hex(&digests.md5, "")));
        out.insert("sha1".into(), json!(hex(&digests.sha1, "")));
        out.insert("sha256".into(), json!(hex(&digests.sha256, "")));
    }
    out.insert("stored".into(), json!(false));
    out.insert("size".into(), json!(file.size));
    out.insert("tx_id".into(), json!(tx_id));
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_about_the_connection() {
        use hookprobe_traffic::app::http2::Note;
        let note = |value| Note { direction: Direction::ToClient, kind: 4, value };
        let notes = |value| Notes { is_control: true, list: vec![note(value)] };
        let mut tx = Tx::default();
        tx.notes = Some(Box::new(notes(Settings::Settings(vec![(3, 100)]))));
        let entry = json!({
            "settings_id": "SETTINGSMAXCONCURRENTSTREAMS", "settings_value": 100,
        });
        assert_eq!(
            http(&tx).unwrap().parsed(),
            json!({ "version": "2",
                "http2": { "stream_id": 0, "response": { "settings": [entry] } } })
        );
        let end = frames(&notes(Settings::Error(11)), Direction::ToClient);
        assert_eq!(end.get("error_code"), Some(&Value::word("EnhanceYourCalm")));
        tx.notes = Some(Box::new(notes(Settings::Window(1))));
        assert_eq!(http(&tx), None, "an event that says nothing is not written");
    }

    #[test]
    fn ranges() {
        let check = |value: &str, expect: serde_json::Value| {
            assert_eq!(content_range(value.as_bytes()).parsed(), expect);
        };
        check(
            "bytes 0-99/1000",
            json!({ "raw": "bytes 0-99/1000", "start": 0, "end": 99, "size": 1000 }),
        );
        check("bytes */7", json!({ "raw": "bytes */7", "size": 7 }));
        check("lines 1-2/3", json!({ "raw": "lines 1-2/3" }));
    }
}

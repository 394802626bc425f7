//! HTTP transactions and the files in them.

use hookprobe_traffic::{
    Direction,
    app::{
        http::{File, FileState, Tx},
        http2::{ERRORS, Notes, Value as Settings},
    },
};
use serde_json::{Map, Value, json};

use super::text::{hex, text};

/// The `http` object, the extended one.
#[must_use]
pub(super) fn http(tx: &Tx) -> Value {
    if let Some(notes) = tx.notes.as_deref().filter(|notes| notes.is_control) {
        return control(notes);
    }
    let mut out = Map::new();
    let mut put = |name: &str, bytes: Option<&[u8]>| {
        if let Some(bytes) = bytes {
            out.insert(name.into(), json!(text(bytes)));
        }
    };
    let (request, response) = (&tx.request, &tx.response);
    let seen = |bytes: &'_ [u8]| -> bool { !bytes.is_empty() };
    put("hostname", request.host.as_deref());
    put("url", Some(request.uri_raw.as_slice()).filter(|bytes| seen(bytes)));
    put("http_user_agent", request.headers.get("user-agent"));
    put("xff", request.headers.get("x-forwarded-for"));
    let content_type = response.headers.get("content-type");
    put("http_content_type", content_type.and_then(|value| value.split(|b| *b == b';').next()));
    put("http_refer", request.headers.get("referer"));
    put("http_method", Some(request.method.as_slice()).filter(|bytes| seen(bytes)));
    put("protocol", Some(request.protocol.as_slice()).filter(|bytes| seen(bytes)));
    if response.status_number == 0 {
        put("status_string", Some(response.status.as_slice()).filter(|bytes| seen(bytes)));
    }
    put("redirect", response.headers.get("location"));
    if let Some(port) = request.port {
        out.insert("http_port".into(), json!(port));
    }
    if response.status_number > 0 {
        out.insert("status".into(), json!(response.status_number));
    }
    if let Some(range) = response.headers.get("content-range") {
        out.insert("content_range".into(), content_range(range));
    }
    out.insert("length".into(), json!(response.body.wire));
    Value::Object(out)
}

/// A frame of HTTP/2 about the connection.
fn control(notes: &Notes) -> Value {
    let mut http2 = Map::new();
    http2.insert("stream_id".into(), json!(0));
    for note in &notes.list {
        let side = match note.direction {
            Direction::ToServer => "request",
            Direction::ToClient => "response",
        };
        let (name, value) = match &note.value {
            Settings::Settings(list) => {
                let entry = |(number, value): &(u16, u32)| json!({ "settings_id": setting(*number), "settings_value": value });
                ("settings", list.iter().map(entry).collect())
            }
            Settings::Error(code) => ("error_code", json!(error(*code))),
            Settings::Priority(weight) => ("priority", json!(weight)),
            Settings::Window(_) | Settings::None => continue,
        };
        http2.insert(side.into(), json!({ name: value }));
    }
    json!({ "version": "2", "http2": http2 })
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

fn error(code: u32) -> String {
    let name = usize::try_from(code).ok().and_then(|code| ERRORS.get(code));
    name.map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

/// `bytes 0-99/1000`: what is there of start, end and size.
fn content_range(value: &[u8]) -> Value {
    let mut out = Map::new();
    out.insert("raw".into(), json!(text(value)));
    let parsed = std::str::from_utf8(value).ok().and_then(|value| {
        let (range, size) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
        Some((range.split_once('-'), size))
    });
    if let Some((range, size)) = parsed {
        let mut put = |name: &str, text: &str| {
            if let Ok(number) = text.trim().parse::<u64>() {
                out.insert(name.into(), json!(number));
            }
        };
        if let Some((start, end)) = range {
            put("start", start);
            put("end", end);
        }
        put("size", size);
    }
    Value::Object(out)
}

/// The `fileinfo` object, and an entry of `files`.
#[must_use]
pub fn fileinfo(file: &File, tx_id: u64) -> Value {
    let mut out = Map::new();
    out.insert("filename".into(), json!(text(&file.name)));
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
            http(&tx),
            json!({ "version": "2",
                "http2": { "stream_id": 0, "response": { "settings": [entry] } } })
        );
        let end = control(&notes(Settings::Error(11)));
        assert_eq!(end["http2"]["response"]["error_code"], "ENHANCE_YOUR_CALM");
    }

    #[test]
    fn ranges() {
        let check = |value: &str, expect: Value| {
            assert_eq!(content_range(value.as_bytes()), expect);
        };
        check(
            "bytes 0-99/1000",
            json!({ "raw": "bytes 0-99/1000", "start": 0, "end": 99, "size": 1000 }),
        );
        check("bytes */7", json!({ "raw": "bytes */7", "size": 7 }));
        check("lines 1-2/3", json!({ "raw": "lines 1-2/3" }));
    }
}

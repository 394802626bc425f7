//! The description of a session in the body of SIP (RFC 8866) as EVE has it: lines in their fixed
//! order, from the first that does not fit on the rest is left out, and without the mandatory ones
//! there is none. Pure; a body is bounded where it is kept.

use crate::outputs::json::{Object, Value, json};

use super::text::text;

/// Media, attributes and the like of one description that are written.
const LINES_MAX: usize = 256;

/// Lines that are left.
struct Lines<'b> {
    rest: Vec<&'b [u8]>,
    at: usize,
}

impl<'b> Lines<'b> {
    /// The value of the next line if it is of type `kind` and fits.
    fn take(&mut self, kind: u8, fits: impl Fn(&str) -> bool) -> Option<&'b [u8]> {
        let [own, b'=', value @ ..] = *self.rest.get(self.at)? else { return None };
        if *own != kind || value.is_empty() || !fits(std::str::from_utf8(value).ok()?) {
            return None;
        }
        self.at += 1;
        Some(value)
    }

    fn all(&mut self, kind: u8, fits: impl Fn(&str) -> bool + Copy) -> Vec<Value> {
        let mut out = Vec::new();
        while let Some(value) = self.take(kind, fits) {
            out.push(json!(text(value)));
        }
        out
    }

    /// No further line fits.
    fn stop(&mut self) {
        self.at = self.rest.len();
    }
}

/// The `sdp` object.
#[must_use]
pub(super) fn sdp(body: &[u8]) -> Option<Value> {
    let lines = body.split(|byte| *byte == b'\n').take(LINES_MAX);
    let rest = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let mut lines = Lines { rest, at: 0 };
    let mut out = Object::new();
    lines.take(b'v', |value| value == "0")?;
    put(&mut out, "origin", lines.take(b'o', is_origin)?);
    put(&mut out, "session_name", lines.take(b's', any)?);
    for (kind, name) in
        [(b'i', "session_info"), (b'u', "uri"), (b'e', "email"), (b'p', "phone_number")]
    {
        if let Some(value) = lines.take(kind, any) {
            put(&mut out, name, value);
        }
    }
    if let Some(value) = lines.take(b'c', is_connection) {
        put(&mut out, "connection_data", value);
    }
    put_all(&mut out, "bandwidths", lines.all(b'b', is_bandwidth));
    let mut times = Vec::new();
    while let Some(time) = lines.take(b't', is_time) {
        let mut entry = Object::new();
        put(&mut entry, "time", time);
        let repeat = lines.take(b'r', any).filter(|_| times.is_empty());
        if let Some(repeat) = repeat {
            put(&mut entry, "repeat_time", repeat);
            // Suricata reads no line behind it.
            lines.stop();
        }
        times.push(Value::Object(entry));
    }
    if times.is_empty() {
        return None;
    }
    out.insert("time_descriptions".into(), json!(times));
    for (kind, name) in [(b'z', "timezone"), (b'k', "encryption_key")] {
        if let Some(value) = lines.take(kind, any) {
            put(&mut out, name, value);
        }
    }
    put_all(&mut out, "attributes", lines.all(b'a', any));
    let mut media = Vec::new();
    while let Some(line) = lines.take(b'm', is_media) {
        let mut entry = Object::new();
        put(&mut entry, "media", line);
        if let Some(value) = lines.take(b'i', any) {
            put(&mut entry, "media_info", value);
        }
        if let Some(value) = lines.take(b'c', is_connection) {
            put(&mut entry, "connection_data", value);
        }
        put_all(&mut entry, "bandwidths", lines.all(b'b', is_bandwidth));
        if let Some(value) = lines.take(b'k', any) {
            put(&mut entry, "encryption_key", value);
        }
        put_all(&mut entry, "attributes", lines.all(b'a', any));
        media.push(Value::Object(entry));
    }
    put_all(&mut out, "media_descriptions", media);
    Some(Value::Object(out))
}

fn put(out: &mut Object, name: &'static str, value: &[u8]) {
    out.insert(name.into(), json!(text(value)));
}

fn put_all(out: &mut Object, name: &'static str, list: Vec<Value>) {
    if !list.is_empty() {
        out.insert(name.into(), json!(list));
    }
}

fn any(_: &str) -> bool {
    true
}

/// User, number, version, and an address.
fn is_origin(value: &str) -> bool {
    value.split(' ').count() == 6 && value.splitn(4, ' ').nth(3).is_some_and(is_connection)
}

fn is_connection(value: &str) -> bool {
    value.starts_with("IN IP4 ") || value.starts_with("IN IP6 ")
}

fn is_bandwidth(value: &str) -> bool {
    value.split_once(':').is_some_and(|(kind, number)| {
        !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic()) && is_number(number)
    })
}

fn is_time(value: &str) -> bool {
    value.split_once(' ').is_some_and(|(start, stop)| is_number(start) && is_number(stop))
}

/// What, where, how, and in which formats.
fn is_media(value: &str) -> bool {
    let mut words = value.splitn(4, ' ');
    let (Some(kind), Some(port), Some(protocol), Some(formats)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    matches!(kind, "audio" | "video" | "text" | "application" | "message" | "image")
        && port.split('/').all(is_number)
        && matches!(protocol, "udp" | "RTP/AVP" | "RTP/SAVP" | "RTP/SAVPF")
        && !formats.is_empty()
}

fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::sdp;

    #[test]
    fn lines_in_their_order() {
        let head = "v=0\r\no=a 1 2 IN IP4 10.0.0.1\r\ns=x\r\n";
        let read = |rest: &str| sdp(format!("{head}{rest}").as_bytes());
        let found = read("t=0 0\r\na=b\r\nm=audio 1 RTP/AVP 8 0\r\na=c\r\nq=d\r\n");
        let found = found.unwrap().parsed();
        assert_eq!(found["attributes"], json!(["b"]));
        assert_eq!(
            found["media_descriptions"],
            json!([{ "media": "audio 1 RTP/AVP 8 0", "attributes": ["c"] }])
        );
        assert_eq!(read("a=b\r\nt=0 0\r\n"), None, "the time comes first");
        assert_eq!(read("b=X-Y:1\r\nt=0 0\r\n"), None);
        assert_eq!(sdp(b"v=1\r\n"), None);
    }
}

//! SIP (RFC 3261): first line, headers, and a body that describes a session.

use super::{Body, Sink, Taken};
use crate::Direction;

/// Headers of one message that are kept.
const HEADERS_MAX: usize = 128;

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// First line without its end.
    pub line: Vec<u8>,
    /// `SIP/2.0`.
    pub version: Vec<u8>,
    /// Request: its method.
    pub method: Vec<u8>,
    /// Request: for whom.
    pub uri: Vec<u8>,
    /// Response: three digits.
    pub code: Vec<u8>,
    /// Response: their meaning.
    pub reason: Vec<u8>,
    /// Names, long forms, and values.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body if it is the description of a session (RFC 8866), at most 8 KiB of it.
    pub session: Vec<u8>,
}

impl Message {
    pub(super) fn held_bytes(&self) -> usize {
        let parts = [
            &self.line,
            &self.version,
            &self.method,
            &self.uri,
            &self.code,
            &self.reason,
            &self.session,
        ];
        let headers = self.headers.capacity() * size_of::<(Vec<u8>, Vec<u8>)>();
        let texts = self.headers.iter().map(|(name, value)| name.capacity() + value.capacity());
        let parts = parts.iter().map(|part| part.capacity()).sum::<usize>();
        size_of::<Self>() + parts + headers + texts.sum::<usize>()
    }

    /// Values of a header, any case.
    pub fn header<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m [u8]> {
        let is_it = |known: &[u8]| known.eq_ignore_ascii_case(name.as_bytes());
        self.headers
            .iter()
            .filter(move |(known, _)| is_it(known))
            .map(|(_, value)| value.as_slice())
    }
}

/// Bytes of a description that are kept.
const SESSION_BYTES_MAX: usize = 8 << 10;

/// Why bytes are no message.
enum Fault {
    Incomplete,
    Invalid,
}

/// Takes a message: requests come from the client, responses from the server.
pub(super) fn take(direction: Direction, bytes: &[u8], sink: &mut Sink<'_>) -> Taken {
    match parse(direction, bytes) {
        Ok((message, length)) => {
            sink.begin(Body::Sip(Box::new(message)), Some(direction)).is_done = [true; 2];
            Taken::Message(length)
        }
        Err(Fault::Incomplete) => Taken::More,
        Err(Fault::Invalid) => {
            sink.event("invalid_data");
            Taken::Fault
        }
    }
}

fn parse(direction: Direction, bytes: &[u8]) -> Result<(Message, usize), Fault> {
    let (line, mut rest) = line(bytes)?;
    let mut message = Message { line: line.to_vec(), ..Message::default() };
    let fields = match direction {
        Direction::ToServer => request(line, &mut message),
        Direction::ToClient => response(line, &mut message),
    };
    fields.ok_or(Fault::Invalid)?;
    loop {
        let (field, behind) = self::line(rest)?;
        rest = behind;
        if field.is_empty() {
            break;
        }
        if let ([b' ' | b'\t', ..], Some((_, value))) = (field, message.headers.last_mut()) {
            value.extend_from_slice(field);
            continue;
        }
        let colon = field.iter().position(|byte| *byte == b':').ok_or(Fault::Invalid)?;
        let (name, value) = (field.get(..colon), field.get(colon + 1..));
        let name = long_form(name.unwrap_or_default().trim_ascii());
        if message.headers.len() < HEADERS_MAX {
            let value = value.unwrap_or_default().trim_ascii();
            message.headers.push((name.to_vec(), value.to_vec()));
        }
    }
    let length = message.header("content-length").next();
    let length = length.and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    let length = length.unwrap_or(0);
    let body = length.min(rest.len());
    // Half a description is none.
    if rest.starts_with(b"v=") && body == length {
        let kept = rest.get(..body.min(SESSION_BYTES_MAX)).unwrap_or_default();
        message.session = kept.to_vec();
    }
    Ok((message, bytes.len() - rest.len() + body))
}

/// A line without its end, and what follows.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = memchr::memchr(b'\n', bytes).ok_or(Fault::Incomplete)?;
    let (line, rest) = bytes.split_at(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or(Fault::Invalid)?;
    Ok((line, rest))
}

fn request(line: &[u8], message: &mut Message) -> Option<()> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (method, uri, version) = (parts.next()?, parts.next()?, parts.next()?);
    if !method.iter().all(u8::is_ascii_alphabetic) || uri.is_empty() || !is_version(version) {
        return None;
    }
    message.method = method.to_vec();
    message.uri = uri.to_vec();
    message.version = version.to_vec();
    Some(())
}

fn response(line: &[u8], message: &mut Message) -> Option<()> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (version, code, reason) = (parts.next()?, parts.next()?, parts.next()?);
    if !is_version(version) || code.len() != 3 {
        return None;
    }
    message.version = version.to_vec();
    message.code = code.to_vec();
    message.reason = reason.to_vec();
    Some(())
}

fn is_version(text: &[u8]) -> bool {
    let number = text.strip_prefix(b"SIP/").unwrap_or_default();
    !number.is_empty() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// One letter stands for some headers (RFC 3261, section 20).
fn long_form(name: &[u8]) -> &[u8] {
    match name {
        b"i" => b"Call-ID",
        b"m" => b"Contact",
        b"e" => b"Content-Encoding",
        b"l" => b"Content-Length",
        b"c" => b"Content-Type",
        b"f" => b"From",
        b"s" => b"Subject",
        b"k" => b"Supported",
        b"t" => b"To",
        b"v" => b"Via",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_have_their_direction() {
        let text = b"INVITE sip:a@b SIP/2.0\r\nv: x\r\n y\r\nl: 2\r\n\r\nhiSIP";
        let (message, length) = parse(Direction::ToServer, text).ok().unwrap();
        assert_eq!((message.method.as_slice(), length), (&b"INVITE"[..], text.len() - 3));
        assert_eq!(message.header("via").next(), Some(&b"x y"[..]));
        assert!(parse(Direction::ToClient, text).is_err());
        let (message, _) = parse(Direction::ToClient, b"SIP/2.0 180 Ringing\r\n\r\n").ok().unwrap();
        assert_eq!((message.code, message.reason), (b"180".to_vec(), b"Ringing".to_vec()));
    }
}

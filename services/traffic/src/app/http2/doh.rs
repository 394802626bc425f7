//! DNS over HTTPS (RFC 8484) in streams of HTTP/2 in the clear: a question in the address of a GET or
//! in the body of a POST, an answer in a body. To Suricata such a flow is `doh2`, and its streams are
//! transactions of both protocols.

use super::unbase64;
use crate::{
    Direction,
    app::{dns, http::Tx},
};

/// The type of a body that is a message.
const MEDIA_TYPE: &[u8] = b"application/dns-message";
/// Largest message (RFC 1035, 4.2.2).
const MESSAGE_BYTES_MAX: usize = 65_535;
/// What a message takes, read, for each of its bytes on the wire.
const READ_BYTES: usize = 8;

/// The messages of a stream.
#[derive(Debug, Default)]
pub struct Doh {
    messages: [Option<dns::Tx>; 2],
    /// A body that is a message, while it comes.
    bodies: [Option<Vec<u8>>; 2],
}

impl Doh {
    /// The message that went in `direction`.
    #[must_use]
    pub fn message(&self, direction: Direction) -> Option<&dns::Tx> {
        direction.of(&self.messages).as_ref()
    }

    /// Bytes of a body; what is beyond a message's length makes it none.
    pub(super) fn body(&mut self, direction: Direction, bytes: &[u8]) {
        let Some(body) = direction.of_mut(&mut self.bodies) else { return };
        if body.len() + bytes.len() > MESSAGE_BYTES_MAX {
            *direction.of_mut(&mut self.bodies) = None;
        } else {
            body.extend_from_slice(bytes);
        }
    }

    /// The body has ended; whether it was a message.
    pub(super) fn end(&mut self, direction: Direction, now_ns: u64) -> bool {
        let body = direction.of_mut(&mut self.bodies).take();
        body.is_some_and(|body| self.read(direction, now_ns, &body))
    }

    fn read(&mut self, direction: Direction, at_ns: u64, bytes: &[u8]) -> bool {
        let Ok((message, events)) = dns::parse(bytes) else { return false };
        *direction.of_mut(&mut self.messages) =
            Some(dns::Tx { id: 0, at_ns, direction, message, events });
        true
    }

    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let read = |tx: &dns::Tx| tx.message.wire_bytes as usize * READ_BYTES;
        size_of::<Self>()
            + self.bodies.iter().flatten().map(Vec::capacity).sum::<usize>()
            + self.messages.iter().flatten().map(read).sum::<usize>()
    }
}

/// Looks at the fields of a message of HTTP; whether they bring a question.
pub(super) fn fields(tx: &mut Tx, direction: Direction, now_ns: u64) -> bool {
    let is = |name: &str| {
        let value = tx.headers(direction).get(name);
        value.is_some_and(|value| value.eq_ignore_ascii_case(MEDIA_TYPE))
    };
    let (is_sent, is_wanted) = (is("content-type"), is("accept"));
    if !(is_sent || is_wanted && direction == Direction::ToServer) {
        return false;
    }
    let question =
        if direction == Direction::ToServer { question(&tx.request.uri_raw) } else { None };
    let doh = tx.doh.get_or_insert_default();
    if is_sent {
        direction.of_mut(&mut doh.bodies).get_or_insert_default();
    }
    question.is_some_and(|question| doh.read(direction, now_ns, &question))
}

/// The message in `?dns=...`, in base64 for addresses.
fn question(uri: &[u8]) -> Option<Vec<u8>> {
    let start = uri.iter().position(|byte| *byte == b'?')?;
    let query = uri.get(start + 1..)?;
    let value = query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"dns="))?;
    unbase64(value, MESSAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::PREFACE, question};
    use crate::{
        Direction::{self, ToClient, ToServer},
        app::{App, Config, Proto, TxRef, tests::meta},
    };

    /// A frame with a kind, flags and a payload, in stream 1.
    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], payload].concat()
    }

    /// Fields as they are, without a table (RFC 7541, 6.2.2).
    fn fields(list: &[(&str, &str)]) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        list.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
    }

    const QUESTION: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";

    fn name(app: &App, direction: Direction) -> Option<String> {
        let Some(TxRef::Http(tx)) = app.tx(0) else { return None };
        let message = &tx.doh.as_ref()?.message(direction)?.message;
        Some(String::from_utf8_lossy(&message.queries.first()?.name.text).into_owned())
    }

    #[test]
    fn a_question_in_a_body_and_its_answer_in_two_pieces() {
        let config = Config::default();
        let mut app = App::default();
        let media = ("content-type", "application/DNS-message");
        let asked = [(":method", "POST"), (":path", "/dns-query"), media];
        let bytes =
            [PREFACE.to_vec(), frame(1, 4, &fields(&asked)), frame(0, 1, QUESTION)].concat();
        app.feed(1, ToServer, &bytes, meta(&config));
        assert_eq!(app.proto(), Some(Proto::Doh2));
        assert_eq!(app.original, Some(Proto::Http2));
        assert_eq!(name(&app, ToServer).as_deref(), Some("a.example"));
        let mut answer = QUESTION.to_vec();
        answer[2] |= 0x80;
        let told = frame(1, 4, &fields(&[(":status", "200"), media]));
        let (first, second) = answer.split_at(9);
        app.feed(2, ToClient, &[told, frame(0, 0, first)].concat(), meta(&config));
        assert_eq!(name(&app, ToClient), None, "it has not ended");
        app.feed(3, ToClient, &frame(0, 1, second), meta(&config));
        assert_eq!(name(&app, ToClient).as_deref(), Some("a.example"));
    }

    #[test]
    fn a_body_that_is_longer_than_a_message_is_none() {
        let mut doh = super::Doh { bodies: [Some(Vec::new()), None], ..super::Doh::default() };
        for _ in 0..5 {
            doh.body(ToServer, &[0; 16_000]);
        }
        assert!(!doh.end(ToServer, 1) && doh.message(ToServer).is_none());
        assert!(doh.bodies.iter().all(Option::is_none));
    }

    #[test]
    fn a_question_in_an_address() {
        let read = |uri: &[u8]| question(uri);
        assert_eq!(read(b"/dns-query?ct=x&dns=AAEC"), Some(vec![0, 1, 2]));
        assert_eq!(read(b"/dns-query?dns=_-8"), Some(vec![0xff, 0xef]));
        for uri in [&b"/dns-query"[..], b"/?dns=", b"/?dns=%", b"/?ddns=AAEC", b"?"] {
            assert_eq!(read(uri), None);
        }
    }
}

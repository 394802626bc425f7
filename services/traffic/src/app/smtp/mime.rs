//! Mail headers, parts, URLs.

use crate::app::http::{Body, File, FileState, Keep, base64, parameter, sectioned_parameter};
use crate::app::{Config, Events};

/// Header fields of a message, and of a part, that are kept.
const FIELDS_MAX: usize = 128;
/// Attachments, URLs and boundaries that are kept.
const ATTACHMENTS_MAX: usize = 64;
const URLS_MAX: usize = 256;
const DEPTH_MAX: usize = 16;
/// Longest field value that is kept.
const VALUE_BYTES_MAX: usize = 8_192;

/// A message.
#[derive(Debug, Default)]
pub struct Email {
    /// Header fields of the message in order: name as sent, value unfolded.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// URLs in text parts, without their scheme: `email.url`.
    pub urls: Vec<Vec<u8>>,
    /// Attachments and inline files.
    pub attachments: Vec<Attachment>,
    /// The header block is complete.
    pub are_headers_done: bool,
    /// The end of the message came.
    pub is_finished: bool,
    keep: Option<Keep>,
    are_files_hashed: bool,
    is_raw: bool,
    boundaries: Vec<Vec<u8>>,
    part: Part,
    is_line_open: bool,
    /// Bytes of a line that is not complete (BDAT).
    held: Vec<u8>,
}

/// A file of a message.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Name, size, digests.
    pub file: File,
    /// Decoded bytes: `file.data`.
    pub body: Body,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Plain,
    Base64,
    Quoted,
}

/// The part that is being read; the message itself at first.
#[derive(Debug, Default)]
struct Part {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    is_body: bool,
    coding: Coding,
    is_text: bool,
    /// Index of its attachment.
    attachment: Option<usize>,
    /// What waits for the next piece: digits of a base64 group of four, or the begin of an escape that
    /// the end of a piece cut.
    digits: Vec<u8>,
    /// What is left of a long header line belongs to the last field.
    is_field_open: bool,
    /// A line end that belongs to the body only if no boundary follows.
    has_line_end: bool,
}

impl Email {
    pub(super) fn new(config: &Config) -> Self {
        let keep = Keep {
            are_files_hashed: config.are_files_hashed,
            bytes_max: config.response_body_bytes_max,
            inspect_bytes_min: config.response_inspect_bytes_min,
            window_bytes: config.response_inspect_window_bytes,
        };
        let mut email = Self {
            keep: Some(keep),
            are_files_hashed: config.are_files_hashed,
            is_raw: config.is_smtp_raw,
            ..Self::default()
        };
        if email.is_raw {
            email.attach(b"rawmsg");
        }
        email
    }

    /// See [`crate::app::App::held_bytes`].
    pub(super) fn held_bytes(&self) -> usize {
        let attachments = self.attachments.iter().map(|attachment| {
            size_of::<Attachment>() + attachment.file.held_bytes() + attachment.body.held_bytes()
        });
        let fields = self.headers.iter().chain(&self.part.headers);
        size_of::<Self>()
            + self.held.capacity()
            + fields.map(|(name, value)| name.capacity() + value.capacity()).sum::<usize>()
            + self.urls.iter().map(Vec::capacity).sum::<usize>()
            + attachments.sum::<usize>()
    }

    /// Value of the first field called `name` (any case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        field(&self.headers, name)
    }

    /// Bytes of a BDAT chunk.
    pub(super) fn bytes(&mut self, bytes: &[u8], events: &mut Events) {
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        for piece in lines.flat_map(|line| line.chunks(VALUE_BYTES_MAX)) {
            self.held.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.held);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                self.line(line.strip_suffix(b"\r").unwrap_or(line), events);
            } else if self.held.len() >= VALUE_BYTES_MAX {
                // A line that is longer than what is held goes on in pieces; its last byte may be half
                // of its end.
                let last = self.held.split_off(self.held.len() - 1);
                let begun = std::mem::replace(&mut self.held, last);
                self.part_of_line(&begun, false, events);
            }
        }
    }

    /// A line without its end.
    pub(super) fn line(&mut self, line: &[u8], events: &mut Events) {
        self.part_of_line(line, true, events);
    }

    /// The end of the last line is still to come.
    pub(super) const fn is_line_open(&self) -> bool {
        self.is_line_open
    }

    /// A line, or a piece of one that is too long to be held.
    pub(super) fn part_of_line(&mut self, piece: &[u8], is_end: bool, events: &mut Events) {
        let goes_on = std::mem::replace(&mut self.is_line_open, !is_end);
        if self.is_raw {
            self.add(piece);
            if is_end {
                self.add(b"\r\n");
            }
        } else if !goes_on && is_end && piece.starts_with(b"--") && self.boundary(piece) {
        } else if self.part.is_body {
            self.body_line(piece, goes_on, is_end);
        } else if !goes_on {
            self.part.is_field_open = self.header_line(piece, events);
        } else if self.part.is_field_open
            && let Some((_, value)) = self.part.headers.last_mut()
        {
            let room = VALUE_BYTES_MAX.saturating_sub(value.len()).min(piece.len());
            value.extend_from_slice(piece.get(..room).unwrap_or_default());
        }
    }

    /// Whether the line is a boundary; the next part begins, or its parent goes on.
    fn boundary(&mut self, line: &[u8]) -> bool {
        let text = line.get(2..).unwrap_or_default().trim_ascii_end();
        let found = self.boundaries.iter().rposition(|boundary| {
            text.strip_prefix(&boundary[..]).is_some_and(|rest| rest.is_empty() || rest == b"--")
        });
        let Some(index) = found else { return false };
        let is_end = self.boundaries.get(index).is_some_and(|boundary| text.len() > boundary.len());
        self.end_part();
        self.boundaries.truncate(if is_end { index } else { index + 1 });
        self.part = Part { is_body: is_end, ..Part::default() };
        true
    }

    /// Whether it is in the last field now, and what is left of a long line belongs there, too.
    fn header_line(&mut self, line: &[u8], events: &mut Events) -> bool {
        if line.is_empty() {
            self.begin_body();
            return false;
        }
        let headers = &mut self.part.headers;
        if line.first().is_some_and(|first| matches!(first, b' ' | b'\t')) {
            if let Some((_, value)) = headers.last_mut()
                && value.len() + line.len() < VALUE_BYTES_MAX
            {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
                return true;
            }
            return false;
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            events.add("mime_invalid_header");
            return false;
        };
        let is_room = headers.len() < FIELDS_MAX;
        if is_room {
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            headers.push((name.trim_ascii().to_vec(), value.to_vec()));
        }
        is_room
    }

    /// The empty line behind the headers of the message or of a part.
    fn begin_body(&mut self) {
        self.part.is_body = true;
        let part = &mut self.part;
        let kind = field(&part.headers, "content-type").unwrap_or_default();
        let lower = kind.to_ascii_lowercase();
        part.is_text = kind.is_empty() || lower.starts_with(b"text/");
        let coding = field(&part.headers, "content-transfer-encoding").unwrap_or_default();
        part.coding = if coding.eq_ignore_ascii_case(b"base64") {
            Coding::Base64
        } else if coding.eq_ignore_ascii_case(b"quoted-printable") {
            Coding::Quoted
        } else {
            Coding::Plain
        };
        let name = field(&part.headers, "content-disposition")
            .and_then(|value| sectioned_parameter(value, b"filename"))
            .or_else(|| sectioned_parameter(kind, b"name"));
        if lower.starts_with(b"multipart/")
            && let Some(boundary) = parameter(kind, b"boundary")
            && self.boundaries.len() < DEPTH_MAX
            && !boundary.is_empty()
        {
            self.boundaries.push(boundary);
        }
        if !self.are_headers_done {
            self.are_headers_done = true;
            self.headers = self.part.headers.clone();
        }
        if let Some(name) = name {
            self.attach(&name);
        }
    }

    fn attach(&mut self, name: &[u8]) {
        if self.attachments.len() < ATTACHMENTS_MAX {
            self.part.attachment = Some(self.attachments.len());
            let file = File::new(name, self.are_files_hashed);
            self.attachments.push(Attachment { file, body: Body::default() });
        }
    }

    fn body_line(&mut self, line: &[u8], goes_on: bool, is_end: bool) {
        match self.part.coding {
            Coding::Base64 => {
                let part = &mut self.part;
                part.digits.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
                let whole = part.digits.len() / 4 * 4;
                let rest = part.digits.split_off(whole);
                let whole = std::mem::replace(&mut part.digits, rest);
                // What follows a group that was filled up is decoded, too.
                let plain = if whole.contains(&b'=') {
                    whole.chunks(4).flat_map(base64).collect()
                } else {
                    base64(&whole)
                };
                self.piece(&plain);
            }
            Coding::Quoted => {
                let mut text = std::mem::take(&mut self.part.digits);
                text.extend_from_slice(line);
                let mut end: &[u8] = b"";
                if is_end {
                    // A line that ends in `=` goes on in the next one.
                    end = if text.pop_if(|last| *last == b'=').is_some() { b"" } else { b"\r\n" };
                } else if let Some(back) = text.iter().rev().take(2).position(|byte| *byte == b'=')
                {
                    self.part.digits = text.split_off(text.len() - 1 - back);
                }
                let mut plain = quoted(&text);
                plain.extend_from_slice(end);
                self.piece(&plain);
            }
            Coding::Plain => {
                if !goes_on && std::mem::replace(&mut self.part.has_line_end, true) {
                    self.piece(b"\r\n");
                }
                self.piece(line);
            }
        }
    }

    fn piece(&mut self, plain: &[u8]) {
        if self.part.attachment.is_some() {
            self.add(plain);
        } else if self.part.is_text {
            self.find_urls(plain);
        }
    }

    fn add(&mut self, plain: &[u8]) {
        let (Some(index), Some(keep)) = (self.part.attachment, self.keep) else { return };
        if let Some(attachment) = self.attachments.get_mut(index) {
            attachment.body.append(plain, keep);
            attachment.file.push(plain);
        }
    }

    fn find_urls(&mut self, text: &[u8]) {
        for scheme in [&b"http://"[..], b"https://", b"ftp://"] {
            for at in memchr::memmem::find_iter(text, scheme) {
                let rest = text.get(at + scheme.len()..).unwrap_or_default();
                let end = rest
                    .iter()
                    .position(|byte| !byte.is_ascii_graphic() || b"\"<>'()".contains(byte))
                    .unwrap_or(rest.len());
                let mut url = rest.get(..end).unwrap_or_default();
                while let Some(shorter) = url.strip_suffix(b".").or_else(|| url.strip_suffix(b","))
                {
                    url = shorter;
                }
                let is_new = !self.urls.iter().any(|known| known == url);
                if !url.is_empty() && is_new && self.urls.len() < URLS_MAX {
                    self.urls.push(url.to_vec());
                }
            }
        }
    }

    fn end_part(&mut self) {
        let digits = std::mem::take(&mut self.part.digits);
        if !digits.is_empty() {
            let plain = base64(&digits);
            self.piece(&plain);
        }
        if let Some(attachment) =
            self.part.attachment.and_then(|index| self.attachments.get_mut(index))
        {
            attachment.body.is_finished = true;
            attachment.file.finish(FileState::Closed);
        }
    }

    /// The end of the message.
    pub(super) fn finish(&mut self) {
        if !self.are_headers_done {
            self.begin_body();
        }
        self.end_part();
        self.is_finished = true;
    }

    pub(super) fn roll(&mut self) {
        if let Some(keep) = self.keep {
            for attachment in &mut self.attachments {
                attachment.body.roll(keep);
            }
        }
    }
}

fn field<'a>(headers: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
}

/// Quoted-printable (RFC 2045, section 6.7) of one line without what says whether it goes on.
fn quoted(line: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'='
            && let [a, b, behind @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*a), hex(*b))
        {
            out.push(high << 4 | low);
            rest = behind;
            continue;
        }
        out.push(first);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Email, Events, VALUE_BYTES_MAX};
    use crate::app::Config;

    fn email(header: &[u8]) -> (Email, Events) {
        let (mut email, mut events) = (Email::new(&Config::default()), Events::default());
        for line in [header, b"Content-Disposition: attachment; filename=f", b""] {
            email.line(line, &mut events);
        }
        (email, events)
    }

    #[test]
    fn an_escape_that_a_piece_cuts_is_whole_again() {
        for (first, second) in [("ab=", "41c"), ("ab=4", "1c"), ("ab", "=41c")] {
            let (mut email, mut events) = email(b"Content-Transfer-Encoding: quoted-printable");
            email.part_of_line(first.as_bytes(), false, &mut events);
            email.part_of_line(second.as_bytes(), true, &mut events);
            email.line(b"d=", &mut events);
            email.line(b"e", &mut events);
            let body = email.attachments[0].body.window().1;
            assert_eq!(body, b"abAc\r\nde\r\n", "{first} {second}");
        }
    }

    #[test]
    fn a_long_line_of_a_chunk_is_read_to_its_end() {
        for length in [VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX, 3 * VALUE_BYTES_MAX + 5] {
            let (mut email, mut events) = email(b"X: y");
            let line = [&vec![b'a'; length][..], b"end\r\n"].concat();
            for piece in line.chunks(1_000) {
                email.bytes(piece, &mut events);
            }
            let body = email.attachments[0].body.window().1;
            assert_eq!((body.len(), &body[length..]), (length + 3, &b"end"[..]));
        }
    }

    #[test]
    fn what_is_left_of_a_refused_field_is_not_the_field_before() {
        let (mut email, mut events) = (Email::new(&Config::default()), Events::default());
        email.line(b"Subject: one", &mut events);
        email.part_of_line(b"no field", false, &mut events);
        email.part_of_line(b" at all", true, &mut events);
        email.part_of_line(b"X-Long: a", false, &mut events);
        email.part_of_line(b"bc", true, &mut events);
        email.line(b"", &mut events);
        assert_eq!(email.header("subject"), Some(&b"one"[..]));
        assert_eq!(email.header("x-long"), Some(&b"abc"[..]));
    }
}

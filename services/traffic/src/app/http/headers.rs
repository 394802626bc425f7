//! Header fields: one raw block, ranges into it, and the buffers that rules look at.

use super::grammar::is_odd_name;
use super::line::{content_length, trim};
use crate::Direction;
use crate::app::Events;
use std::cell::OnceCell;

/// Most fields of a side (Suricata's limit).
const FIELDS_MAX: usize = 1_024;
/// Most repetitions of fields that are joined (libhtp's limit).
const REPETITIONS_MAX: u16 = 64;

/// A field. Name and value are trimmed; folded and repeated ones are joined as libhtp joins them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name as sent.
    pub name: Vec<u8>,
    /// Value: folded lines joined by one space, repetitions by `, `.
    pub value: Vec<u8>,
    /// Occurred more than once.
    pub is_repeated: bool,
    /// It came in the trailer of a chunked body.
    pub is_trailer: bool,
}

/// The header block of one side.
#[derive(Debug, Default)]
pub struct Headers {
    /// `http.header.raw`: as sent, the empty line included.
    pub raw: Vec<u8>,
    /// In order of first occurrence.
    pub fields: Vec<Field>,
    repetitions: u16,
    /// Names are those of HTTP/2, whose case counts.
    pub(crate) is_exact: bool,
    normalized: OnceCell<Box<[u8]>>,
    names: OnceCell<Box<[u8]>>,
}

impl Headers {
    /// The block as it came, its fields, and the buffers that are made of it.
    pub(crate) fn held_bytes(&self) -> usize {
        self.raw.capacity() * 3 + self.fields.capacity() * size_of::<Field>()
    }

    /// Value of the first field called `name` (any case).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.field(name).map(|field| field.value.as_slice())
    }

    /// Value of the field called `name` (any case) with zero bytes left out of both: browsers pass
    /// over them, so what delimits a body must be read without them.
    #[must_use]
    pub fn get_lenient(&self, name: &str) -> Option<Vec<u8>> {
        let field = self.field_lenient(name)?;
        Some(field.value.iter().copied().filter(|byte| *byte != 0).collect())
    }

    /// The field called `name` (any case), zero bytes in its name passed over.
    pub(super) fn field_lenient(&self, name: &str) -> Option<&Field> {
        let is_name = |known: &[u8]| {
            let mut bytes = known.iter().filter(|byte| **byte != 0);
            let is_same = name
                .bytes()
                .all(|want| bytes.next().is_some_and(|byte| byte.eq_ignore_ascii_case(&want)));
            is_same && bytes.next().is_none()
        };
        self.fields.iter().find(|field| is_name(&field.name))
    }

    /// The field called `name` (any case).
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        let is_name = |field: &&Field| {
            if self.is_exact {
                field.name == name.as_bytes()
            } else {
                field.name.eq_ignore_ascii_case(name.as_bytes())
            }
        };
        self.fields.iter().find(is_name)
    }

    /// `http.header`: `Name: value\r\n` of each field, without Cookie and Set-Cookie. Made once.
    #[must_use]
    pub fn normalized(&self) -> &[u8] {
        self.normalized.get_or_init(|| {
            let mut buffer = Vec::with_capacity(self.raw.len());
            for field in self.fields.iter().filter(|field| !is_cookie(&field.name)) {
                buffer.extend_from_slice(&field.name);
                buffer.extend_from_slice(b": ");
                buffer.extend_from_slice(&field.value);
                buffer.extend_from_slice(b"\r\n");
            }
            buffer.into_boxed_slice()
        })
    }

    /// `http.header_names`: `\r\nName\r\nName\r\n\r\n`. Made once.
    #[must_use]
    pub fn names(&self) -> &[u8] {
        self.names.get_or_init(|| {
            let mut buffer = b"\r\n".to_vec();
            for field in &self.fields {
                buffer.extend_from_slice(&field.name);
                buffer.extend_from_slice(b"\r\n");
            }
            buffer.extend_from_slice(b"\r\n");
            buffer.into_boxed_slice()
        })
    }

    /// One item of `http.request_header` and `http.response_header`: `Name: value`.
    #[must_use]
    pub fn item(&self, index: usize) -> Option<Vec<u8>> {
        self.fields.get(index).map(|field| {
            let mut item = Vec::with_capacity(field.name.len() + field.value.len() + 2);
            item.extend_from_slice(&field.name);
            item.extend_from_slice(b": ");
            item.extend_from_slice(&field.value);
            item
        })
    }

    /// Adds a field. Returns false when there are too many.
    pub(crate) fn push(
        &mut self,
        name: &[u8],
        value: &[u8],
        direction: Direction,
        is_trailer: bool,
        events: &mut Events,
    ) -> bool {
        self.normalized.take();
        self.names.take();
        let (name, value) = (trim(name).to_vec(), trim(value).to_vec());
        let known = self.fields.iter_mut().find(|field| field.name.eq_ignore_ascii_case(&name));
        let Some(known) = known else {
            if self.fields.len() >= FIELDS_MAX {
                events.add(by_side(
                    direction,
                    "request_too_many_headers",
                    "response_too_many_headers",
                ));
                return false;
            }
            self.fields.push(Field { name, value, is_repeated: false, is_trailer });
            return true;
        };
        if known.is_repeated {
            if self.repetitions >= REPETITIONS_MAX {
                return true;
            }
            self.repetitions += 1;
        }
        if !std::mem::replace(&mut known.is_repeated, true) {
            let event =
                by_side(direction, "request_header_repetition", "response_header_repetition");
            events.repeat(event);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = content_length(&value);
            if length.is_none() || content_length(&known.value) != length {
                events.add(by_side(
                    direction,
                    "duplicate_content_length_field_in_request",
                    "duplicate_content_length_field_in_response",
                ));
            }
        } else {
            known.value.extend_from_slice(b", ");
            known.value.extend_from_slice(&value);
        }
        true
    }

    /// An interim response's fields don't count.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

pub(super) const fn by_side(
    direction: Direction,
    request: &'static str,
    response: &'static str,
) -> &'static str {
    match direction {
        Direction::ToServer => request,
        Direction::ToClient => response,
    }
}

/// Notes what is wrong with a field. Of what makes its name invalid Suricata tells the first in a
/// transaction only.
pub(super) fn note(
    name: Option<&[u8]>,
    is_deformed: bool,
    direction: Direction,
    events: &mut Events,
) {
    const REQUEST: [&str; 2] = ["request_invalid_lws_after_name", "request_header_invalid"];
    const RESPONSE: [&str; 2] =
        ["response_invalid_lws_after_name", "response_header_name_not_token"];
    if is_deformed {
        events.repeat("deformed_eol");
    }
    // A colon alone is as good as none.
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        events.add(by_side(
            direction,
            "request_field_missing_colon",
            "response_field_missing_colon",
        ));
        return;
    };
    let [after, odd] = match direction {
        Direction::ToServer => REQUEST,
        Direction::ToClient => RESPONSE,
    };
    let is_known = events.contains(after) || events.contains(odd);
    if !is_known && matches!(name, [.., b' ' | b'\t']) {
        events.add(after);
    } else if !is_known && is_odd_name(name) {
        events.add(odd);
    }
    if matches!(name, [b' ' | b'\t', ..]) {
        events.add(by_side(
            direction,
            "invalid_request_field_folding",
            "invalid_response_field_folding",
        ));
    }
}

fn is_cookie(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"cookie") || name.eq_ignore_ascii_case(b"set-cookie")
}

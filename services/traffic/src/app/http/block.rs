//! Blocks of fields, of either side: headers and trailers, as they come and at the end.

use super::grammar::{self, Field, Next};
use super::headers::{by_side, note};
use super::parser::{At, Turn};
use super::{Headers, Http, Tx, progress};
use crate::Direction;
use crate::app::{Config, Step};
use std::borrow::Cow;

impl Http {
    /// Fields of a header block or a trailer, of either side.
    pub(super) fn header_block(
        &mut self,
        direction: Direction,
        rest: &mut &[u8],
        config: &Config,
    ) -> Turn {
        if rest.is_empty() {
            return Turn::Wait;
        }
        if self.reader(direction).at == At::Trailer {
            // Not with the chunk of no length: only what follows it ends the body for inspectors.
            self.raise(direction, progress::TRAILER);
        }
        let reader = self.reader(direction);
        if memchr::memchr(b'\n', rest).is_none() {
            // Fields are read when the end of a line comes.
            if reader.held.len() + rest.len() > config.http_field_bytes_max as usize {
                return self.too_long(direction);
            }
            reader.held.extend_from_slice(rest);
            self.show_part(direction, rest);
            *rest = &[];
            return Turn::Wait;
        }
        let (id, is_trailer) = (reader.tx, reader.at == At::Trailer);
        let held = std::mem::take(&mut reader.held);
        let input = if held.is_empty() {
            Cow::Borrowed(*rest)
        } else {
            Cow::Owned([&held, *rest].concat())
        };
        let Some(tx) = self.tx(id) else { return Turn::Stop(Step::Fail) };
        if is_trailer {
            hide_part(tx, direction, held.len());
        }
        let Some((used, is_end)) = fields(&input, direction, is_trailer, tx) else {
            return Turn::Stop(Step::Fail);
        };
        let behind = input.get(used..).unwrap_or_default();
        if !is_end {
            *rest = &[];
            if behind.len() > config.http_field_bytes_max as usize {
                return self.too_long(direction);
            }
            self.reader(direction).held = behind.to_vec();
            self.show_part(direction, behind);
            return Turn::Wait;
        }
        // The end needs no look-ahead: what is behind it came with this call.
        *rest = rest.get(rest.len().saturating_sub(behind.len())..).unwrap_or_default();
        if is_trailer {
            self.reader(direction).at = At::Finalize;
            return Turn::On;
        }
        match direction {
            Direction::ToServer => self.request_headers_done(config),
            Direction::ToClient => self.response_headers_done(config),
        }
    }

    /// What came of a trailer is part of the raw block before its line has an end: the fields before
    /// it have been inspected already.
    fn show_part(&mut self, direction: Direction, bytes: &[u8]) {
        let (id, is_trailer) = {
            let reader = self.reader(direction);
            (reader.tx, reader.at == At::Trailer)
        };
        if let Some(tx) = self.tx(id).filter(|_| is_trailer) {
            headers_mut(tx, direction).raw.extend_from_slice(bytes);
        }
    }

    pub(super) fn too_long(&mut self, direction: Direction) -> Turn {
        self.event(
            direction,
            by_side(direction, "request_field_too_long", "response_field_too_long"),
        );
        Turn::Stop(Step::Fail)
    }
}

/// At the end of the connection fields count whose line has an end; nothing is known of a body.
pub(super) fn last_fields(held: &[u8], direction: Direction, is_trailer: bool, tx: &mut Tx) {
    let end = held.iter().rposition(|byte| match direction {
        Direction::ToServer => *byte == b'\n',
        Direction::ToClient => matches!(byte, b'\r' | b'\n'),
    });
    if is_trailer {
        hide_part(tx, direction, held.len());
    }
    let Some(whole) = end.and_then(|end| held.get(..=end)) else { return };
    // Of a server's trailer that is cut nothing is told.
    let told = (is_trailer && direction == Direction::ToClient).then(|| tx.events.clone());
    let before = tx.headers(direction).raw.len();
    fields(&[whole, b"\r\n"].concat(), direction, is_trailer, tx);
    if let Some(told) = told {
        tx.events = told;
    }
    // The line end that was added did not come.
    let raw = &mut headers_mut(tx, direction).raw;
    raw.truncate(before + whole.len());
    if direction == Direction::ToClient {
        // The raw block has all that came.
        raw.extend_from_slice(held.get(whole.len()..).unwrap_or_default());
    }
}

const fn headers_mut(tx: &mut Tx, direction: Direction) -> &mut Headers {
    match direction {
        Direction::ToServer => &mut tx.request.headers,
        Direction::ToClient => &mut tx.response.headers,
    }
}

/// Undoes [`Http::show_part`]: the bytes are read with what follows.
fn hide_part(tx: &mut Tx, direction: Direction, length: usize) {
    let raw = &mut headers_mut(tx, direction).raw;
    raw.truncate(raw.len().saturating_sub(length));
}

/// Takes the fields at the start of `input`: how many bytes, and whether the block ended. `None`:
/// too many fields.
fn fields(
    input: &[u8],
    direction: Direction,
    is_trailer: bool,
    tx: &mut Tx,
) -> Option<(usize, bool)> {
    let (headers, events) = match direction {
        Direction::ToServer => (&mut tx.request.headers, &mut tx.events),
        Direction::ToClient => (&mut tx.response.headers, &mut tx.events),
    };
    let mut used = 0;
    loop {
        let rest = input.get(used..).unwrap_or_default();
        let is_first = headers.raw.is_empty() && !is_trailer;
        let (length, is_end) = match grammar::next(rest, direction, is_first) {
            Next::More => return Some((used, false)),
            Next::End(length) => (length, true),
            Next::Field(Field { length, name, value, is_deformed }) => {
                note(name.as_deref(), is_deformed, direction, events);
                let name = name.unwrap_or_default();
                if !headers.push(&name, &value, direction, is_trailer, events) {
                    return None;
                }
                (length, false)
            }
        };
        headers.raw.extend_from_slice(rest.get(..length).unwrap_or_default());
        used += length;
        if is_end {
            return Some((used, true));
        }
    }
}

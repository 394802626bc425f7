//! Messages.

use super::{Message, Query, Record, name, rdata};
use crate::app::Events;
use crate::app::bytes::Cursor;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 12;
/// Most records that one message may bring: more than fit in 64 KiB with compressed names of use.
const RECORDS_MAX: usize = 4096;

/// Why bytes are no DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer than the twelve bytes of a header.
    #[error("dns message has {bytes} bytes, its header needs 12")]
    Short {
        /// What is there.
        bytes: usize,
    },
    /// A question or an answer runs out of the message.
    #[error("dns message of {bytes} bytes: {section} section can't be read")]
    Malformed {
        /// Bytes of the message.
        bytes: usize,
        /// Which section.
        section: &'static str,
    },
}

/// Reads a message. Authorities and additionals that can't be read are left out with an event, as
/// Suricata does; a question or answer that can't be read is an error.
///
/// # Errors
/// When there is no header or a question or answer runs out of the message.
pub fn parse(bytes: &[u8]) -> Result<(Message, Events), ParseError> {
    let mut events = Events::default();
    let mut message = header(bytes).ok_or(ParseError::Short { bytes: bytes.len() })?;
    message.wire_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if message.flags & 0x0040 != 0 {
        events.add("z_flag_set");
    }
    if message.opcode() >= 7 {
        events.add("invalid_opcode");
    }
    let malformed = |section| ParseError::Malformed { bytes: bytes.len(), section };
    let mut at = HEADER_BYTES;
    let [questions, answers, authorities, additionals] = message.counts;
    for _ in 0..questions {
        let (query, end) = query(bytes, at).ok_or_else(|| malformed("question"))?;
        note(&query.name, &mut events);
        at = end;
        message.queries.push(query);
    }
    for _ in 0..answers {
        let (record, end) = record(bytes, at).ok_or_else(|| malformed("answer"))?;
        note(&record.name, &mut events);
        at = end;
        if message.answers.len() < RECORDS_MAX {
            message.answers.push(record);
        }
    }
    let rest = [(authorities, "invalid_authorities"), (additionals, "invalid_additionals")];
    for (index, (count, event)) in rest.into_iter().enumerate() {
        for _ in 0..count {
            let Some((record, end)) = record(bytes, at) else {
                events.add(event);
                message.is_truncated = true;
                return Ok((message, events));
            };
            note(&record.name, &mut events);
            at = end;
            let list = if index == 0 { &mut message.authorities } else { &mut message.additionals };
            if list.len() < RECORDS_MAX {
                list.push(record);
            }
        }
    }
    Ok((message, events))
}

/// Id, flags and counts.
pub(super) fn header(bytes: &[u8]) -> Option<Message> {
    let mut cursor = Cursor::new(bytes);
    let (id, flags) = (cursor.u16()?, cursor.u16()?);
    let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
    Some(Message { id, flags, counts, ..Message::default() })
}

fn note(name: &super::Name, events: &mut Events) {
    if name.is_truncated {
        events.add("name_too_long");
    }
    if name.has_loop {
        events.add("infinite_loop");
    }
    if name.has_too_many_labels {
        events.add("too_many_labels");
    }
}

pub(super) fn query(bytes: &[u8], at: usize) -> Option<(Query, usize)> {
    let (name, end) = name::read(bytes, at)?;
    let mut cursor = Cursor::new(bytes.get(end..)?);
    let query = Query { name, rtype: cursor.u16()?, class: cursor.u16()? };
    Some((query, end + 4))
}

fn record(bytes: &[u8], at: usize) -> Option<(Record, usize)> {
    let (name, end) = name::read(bytes, at)?;
    let mut cursor = Cursor::new(bytes.get(end..)?);
    let (rtype, class, ttl_s) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
    let length = usize::from(cursor.u16()?);
    let start = end + 10;
    let behind = start + length;
    bytes.get(start..behind)?;
    let data = rdata::read(bytes, start..behind, rtype);
    Some((Record { name, rtype, class, ttl_s, data }, behind))
}

#[cfg(test)]
mod tests {
    use super::super::RData;
    use super::{ParseError, parse};

    fn answer() -> Vec<u8> {
        let mut bytes = b"\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x01".to_vec();
        bytes.extend_from_slice(b"\x02hp\x03org\x00\x00\x01\x00\x01");
        bytes.extend_from_slice(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03www\xc0\x0c");
        bytes
            .extend_from_slice(b"\xc0\x24\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01");
        bytes.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00");
        bytes
    }

    #[test]
    fn an_answer_with_alias_and_edns() {
        let (message, events) = parse(&answer()).unwrap();
        assert!(events.is_empty());
        assert!(message.is_response() && message.is_recursion_available());
        assert_eq!(message.queries[0].name.to_text(), "hp.org");
        let RData::Name(alias) = &message.answers[0].data else { panic!("no name") };
        assert_eq!(alias.to_text(), "www.hp.org");
        assert_eq!(message.answers[1].data, RData::A([10, 0, 0, 1]));
        assert_eq!(message.additionals[0].data, RData::Opt(Vec::new()));
    }

    #[test]
    fn every_prefix_is_read_or_refused() {
        let bytes = answer();
        for length in 0..bytes.len() {
            match parse(&bytes[..length]) {
                Err(ParseError::Short { .. }) => assert!(length < 12),
                Err(ParseError::Malformed { .. }) => assert!(length >= 12),
                Ok((_, events)) => assert!(events.contains("invalid_additionals")),
            }
        }
    }

    #[test]
    fn odd_headers_are_noted() {
        let (_, events) = parse(b"\0\0\x38\x40\0\0\0\0\0\0\0\0").unwrap();
        assert_eq!(events.iter().collect::<Vec<_>>(), ["z_flag_set", "invalid_opcode"]);
    }
}

//! Messages out of datagrams and streams.

use super::parse::{HEADER_BYTES, header, parse, query};
use super::{Dns, Tx};
use crate::Direction;
use crate::app::{Fed, Meta, Step, Transport};

/// A message over TCP is at most this long: its length has two bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// How many bytes in memory a byte of a message becomes, at most about.
const DECODED: usize = 4;

impl Dns {
    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.tcp.iter().map(Vec::capacity).sum::<usize>()
            + self
                .txs
                .iter()
                .map(|tx| size_of::<Tx>() + DECODED * tx.message.wire_bytes as usize)
                .sum::<usize>()
    }

    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        match meta.transport {
            Transport::Udp => {
                if !data.is_empty() {
                    self.message(now_ns, direction, data, meta, fed);
                }
            }
            Transport::Tcp => self.bytes(now_ns, direction, data, meta, fed),
        }
        Step::Go
    }

    fn bytes(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) {
        let Some(gapped) = self.is_gapped.get_mut(direction.index()) else { return };
        let Some(held) = self.tcp.get_mut(direction.index()) else { return };
        let mut held = std::mem::take(held);
        if meta.gap > 0 {
            held.clear();
            *gapped = true;
        }
        if *gapped && !data.is_empty() {
            // Behind a gap only what looks like the start of a message is one.
            *gapped = !data.get(2..).is_some_and(is_plausible);
            if *gapped {
                return;
            }
        }
        let mut rest = data;
        while let Some(length) = message_length(&held, rest) {
            let missing = (2 + length).saturating_sub(held.len());
            let Some((now, later)) = rest.split_at_checked(missing) else { break };
            if held.is_empty() {
                self.message(now_ns, direction, now.get(2..).unwrap_or_default(), meta, fed);
            } else {
                held.extend_from_slice(now);
                self.message(now_ns, direction, held.get(2..).unwrap_or_default(), meta, fed);
                held.clear();
            }
            rest = later;
        }
        held.extend_from_slice(rest);
        held.truncate(2 + MESSAGE_BYTES_MAX);
        if let Some(slot) = self.tcp.get_mut(direction.index()) {
            *slot = held;
        }
    }

    fn message(
        &mut self,
        now_ns: u64,
        direction: Direction,
        bytes: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) {
        if bytes.is_empty() {
            return;
        }
        let Ok((message, mut events)) = parse(bytes) else {
            self.note("malformed_data", fed);
            return;
        };
        let is_response = message.is_response();
        if !self.is_mdns {
            match direction {
                Direction::ToServer if is_response => return self.note("not_request", fed),
                Direction::ToClient if !is_response => events.add("not_response"),
                Direction::ToServer | Direction::ToClient => {}
            }
        }
        if self.txs.len() >= meta.config.txs_max as usize {
            self.txs.pop_front();
            self.dropped_txs += 1;
        }
        crate::app::add(
            &mut self.txs,
            Tx { id: self.next_id, at_ns: now_ns, direction, message, events },
        );
        self.next_id += 1;
        fed.is_changed = true;
    }

    /// An event belongs to the last transaction, if one is still there.
    fn note(&mut self, event: &'static str, fed: &mut Fed) {
        if let Some(tx) = self.txs.back_mut() {
            tx.events.add(event);
            fed.is_changed = true;
        }
    }
}

fn message_length(held: &[u8], rest: &[u8]) -> Option<usize> {
    let mut bytes = held.iter().chain(rest);
    let (high, low) = (*bytes.next()?, *bytes.next()?);
    Some(usize::from(u16::from_be_bytes([high, low])))
}

/// Whether `bytes` start like a DNS message: Suricata's test when it looks for the protocol.
pub(crate) fn is_plausible(bytes: &[u8]) -> bool {
    let Some(message) = header(bytes) else { return false };
    let [questions, answers, authorities, additionals] = message.counts;
    // A message can hold no more than its bytes allow: a question needs 5, a record 11.
    let least = HEADER_BYTES
        + 5 * usize::from(questions)
        + 11 * (usize::from(answers) + usize::from(authorities) + usize::from(additionals));
    if usize::from(questions) + usize::from(answers) + usize::from(authorities) == 0 {
        return message.is_response() && message.counts == [0; 4];
    }
    if least > MESSAGE_BYTES_MAX {
        return false;
    }
    questions == 0 || query(bytes, HEADER_BYTES).is_some()
}

/// Whether `bytes` start like the header of a message of which more is to come.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    header(bytes).is_some_and(|message| {
        let [questions, answers, ..] = message.counts;
        questions <= 16 && (questions > 0 || answers > 0)
    })
}

//! Records (RFC 8446, section 5.1) of one direction: handshake bytes are gathered over records,
//! application data is skipped without a copy.

use super::progress::{CLIENT_FINISHED, CLIENT_HANDSHAKE_DONE};
use super::progress::{SERVER_FINISHED, SERVER_HANDSHAKE_DONE};
use super::{Tls, Tx, handshake};
use crate::Direction;
use crate::app::{Fed, Hides, Meta, Step};

/// Longest legal record: 2^14 and what encryption may add (RFC 5246, section 6.2.3).
const RECORD_BYTES_MAX: usize = 16_384 + 2_048;
/// Most bytes of one handshake message that are gathered: chains of a dozen large certificates.
pub(super) const MESSAGE_BYTES_MAX: usize = 131_072;
/// Most bytes of an alert or heartbeat record that are looked at.
const SMALL_BYTES_MAX: usize = 3;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// Reassembly of one direction.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// An incomplete record header.
    head: Vec<u8>,
    /// Type of the record that is being read, and how many of its bytes are to come.
    kind: u8,
    pub(super) left: usize,
    length: usize,
    /// First bytes of a record that is no handshake.
    small: Vec<u8>,
    /// Handshake bytes that are not yet a whole message.
    pub(super) gathered: Vec<u8>,
    /// Bytes of a message that is too long to be gathered: to be passed over.
    pub(super) skip: usize,
    /// Handshake records of this side are encrypted from here on.
    pub(super) is_encrypted: bool,
    /// Change of cipher was seen.
    pub(super) has_changed: bool,
    has_data: bool,
    is_over: bool,
    is_lost: bool,
    is_started: bool,
    /// The rest of a record is waited for.
    is_waiting: bool,
}

impl Tls {
    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let side = |side: &Side| side.gathered.capacity() + side.small.capacity();
        let tx = &self.tx;
        let chains = tx.server_chain.iter().chain(&tx.client_chain);
        size_of::<Self>()
            + self.sides.iter().map(side).sum::<usize>()
            + chains.map(super::Certificate::held_bytes).sum::<usize>()
    }

    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        if self.tx.at_ns == 0 {
            self.tx.at_ns = now_ns;
        }
        let before = (self.tx.progress, self.tx.events.len());
        let records_before = self.records;
        let Some(side) = self.sides.get_mut(direction.index()) else { return Step::Go };
        if side.left == 0 && side.head.is_empty() && !data.is_empty() {
            // What was said before is history when a record begins.
            self.tx.stage = None;
        }
        let step = if meta.gap > 0 { side.lose(meta.gap, &mut self.tx) } else { Step::Go };
        let step = match step {
            Step::Go => side.bytes(direction, data, meta, &mut self.tx, &mut self.records),
            other => other,
        };
        if meta.eof {
            self.tx.raise(Direction::ToServer, CLIENT_FINISHED);
            self.tx.raise(Direction::ToClient, SERVER_FINISHED);
        }
        // Suricata's parser is not called again before what it waits for is there, and then once.
        let (is_within, is_further) = (side.is_within(), records_before != self.records);
        fed.is_idle = side.is_waiting && !is_further;
        side.is_waiting = is_within && (!side.is_waiting || !is_further);
        // What is lost outside of application data leaves nothing to go on with.
        fed.is_error |= meta.gap > 0 && self.sides.iter().any(|side| side.is_lost);
        self.settle(!is_within);
        fed.is_changed |= before != (self.tx.progress, self.tx.events.len()) || is_further;
        if self.sides.iter().any(|side| side.has_data) {
            fed.hides = Hides::AtOnce;
        }
        match step {
            Step::Go if self.is_silent() => Step::Done,
            other => other,
        }
    }

    /// What both sides together say.
    fn settle(&mut self, is_between: bool) {
        let [client, server] = &self.sides;
        let tx = &mut self.tx;
        let is_13 = tx.version >= 0x0304 && tx.server_hello.is_some();
        let is_over = if is_13 {
            // Zeek's rule: the handshake of 1.3 shows only as encrypted data of both.
            client.has_data && server.has_data
        } else {
            client.has_changed && server.has_changed
        };
        if is_over && tx.client_hello.is_some() && tx.server_hello.is_some() {
            tx.is_established = true;
        }
        let is_certified = match (tx.is_client_asked, tx.client_chain.first()) {
            (false, _) => tx.certificate().is_some_and(super::Certificate::is_named),
            (true, own) => own.is_some_and(super::Certificate::is_named),
        };
        if is_certified && is_between {
            // Suricata takes the handshake for done when it has what it logs.
            tx.raise(Direction::ToServer, CLIENT_HANDSHAKE_DONE);
            tx.raise(Direction::ToClient, SERVER_HANDSHAKE_DONE);
        }
        self.is_hidden =
            client.has_data && server.has_data || is_over && (client.has_data || server.has_data);
    }

    /// Nothing in the clear will come any more.
    fn is_silent(&self) -> bool {
        self.sides.iter().all(|side| side.is_over) || self.tx.is_established && self.is_hidden
    }
}

impl Side {
    /// Bytes were lost: inside application data they don't matter, elsewhere this side is over.
    fn lose(&mut self, gap: u64, tx: &mut Tx) -> Step {
        let lost = usize::try_from(gap).unwrap_or(usize::MAX);
        if self.kind == APPLICATION_DATA && self.head.is_empty() && lost <= self.left {
            self.left -= lost;
            return Step::Go;
        }
        tx.cut_bytes += gap;
        self.is_over = true;
        self.is_lost = true;
        Step::Go
    }

    /// In the middle of a record that is looked at when it is whole.
    fn is_within(&self) -> bool {
        !self.head.is_empty() || self.left > 0 && self.kind != APPLICATION_DATA
    }

    fn bytes(
        &mut self,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        tx: &mut Tx,
        records: &mut u32,
    ) -> Step {
        let mut rest = data;
        while !rest.is_empty() && !self.is_over {
            if self.left == 0 {
                match self.open(direction, &mut rest, meta, tx) {
                    Some(Step::Go) => continue,
                    Some(step) => return step,
                    None => return Step::Go,
                }
            }
            let (now, later) = rest.split_at(self.left.min(rest.len()));
            rest = later;
            self.left -= now.len();
            self.fragment(direction, now, meta, tx);
            if self.left == 0 {
                self.close(direction, tx);
                if self.kind != APPLICATION_DATA {
                    *records = records.wrapping_add(1);
                }
            }
        }
        Step::Go
    }

    /// Reads a record header; `None`: more bytes are needed.
    fn open(
        &mut self,
        direction: Direction,
        rest: &mut &[u8],
        meta: &Meta<'_>,
        tx: &mut Tx,
    ) -> Option<Step> {
        if !self.is_started {
            self.is_started = true;
            if rest.first().is_some_and(|first| first & 0x80 != 0) {
                self.is_over = true;
                handshake::version_2(direction, rest, meta, tx);
                return Some(Step::Go);
            }
        }
        let (now, later) = rest.split_at(5_usize.saturating_sub(self.head.len()).min(rest.len()));
        self.head.extend_from_slice(now);
        *rest = later;
        let [kind, major, minor, high, low] = *<&[u8; 5]>::try_from(self.head.as_slice()).ok()?;
        self.head.clear();
        let version = u16::from_be_bytes([major, minor]);
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) {
            tx.events.add("invalid_record_type");
            return Some(self.fail());
        }
        let is_known = (0x0300..=0x0304).contains(&version) || matches!(major, 0x7e | 0x7f | 0xfb);
        if !is_known {
            tx.events.add("invalid_record_version");
            return Some(self.fail());
        }
        if length > RECORD_BYTES_MAX {
            tx.events.add("invalid_record_length");
        }
        if length == 0 && kind == HANDSHAKE {
            tx.events.add("invalid_ssl_record");
        }
        if tx.version == 0 {
            tx.version = version;
        }
        if let Some(own) = tx.record_version.get_mut(direction.index()) {
            *own = version;
        }
        (self.kind, self.left, self.length) = (kind, length, length);
        self.small.clear();
        Some(Step::Go)
    }

    fn fail(&mut self) -> Step {
        self.is_over = true;
        Step::Fail
    }

    fn fragment(&mut self, direction: Direction, now: &[u8], meta: &Meta<'_>, tx: &mut Tx) {
        match self.kind {
            HANDSHAKE if !self.is_encrypted => {
                handshake::gather(self, direction, now, meta, tx);
            }
            CHANGE_CIPHER_SPEC | ALERT | HEARTBEAT => {
                let room = SMALL_BYTES_MAX - self.small.len().min(SMALL_BYTES_MAX);
                self.small.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
            }
            APPLICATION_DATA => {
                self.has_data = true;
                // Data means that the handshake is done; early data comes before any answer.
                match direction {
                    Direction::ToServer if tx.server_hello.is_some() => {
                        tx.raise(direction, CLIENT_HANDSHAKE_DONE);
                    }
                    Direction::ToClient => tx.raise(direction, SERVER_HANDSHAKE_DONE),
                    Direction::ToServer => {}
                }
            }
            _ => {}
        }
    }

    /// A record is complete.
    fn close(&mut self, direction: Direction, tx: &mut Tx) {
        match self.kind {
            CHANGE_CIPHER_SPEC => self.change_cipher(direction, tx),
            ALERT if !self.is_encrypted => self.alert(direction, tx),
            HEARTBEAT => self.heartbeat(tx),
            _ => {}
        }
    }

    fn change_cipher(&mut self, direction: Direction, tx: &mut Tx) {
        self.has_changed = true;
        let is_13 = tx.has_retry
            || tx.server_hello.as_ref().is_some_and(|hello| hello.negotiated() >= 0x0304);
        // In 1.3 the record is for show, and a second hello may follow in the clear.
        self.is_encrypted = !is_13;
        tx.mark(direction, 'I');
        if !is_13 {
            handshake::note_ticket_resumption(direction, tx);
            tx.raise(
                direction,
                match direction {
                    Direction::ToServer => CLIENT_HANDSHAKE_DONE,
                    Direction::ToClient => SERVER_HANDSHAKE_DONE,
                },
            );
        }
    }

    fn alert(&self, direction: Direction, tx: &mut Tx) {
        let (Some(level), Some(description)) = (self.small.first(), self.small.get(1)) else {
            tx.events.add("invalid_alert_message");
            return;
        };
        // Two bytes are in the clear; an encrypted alert is longer.
        if self.length == 2 {
            // That of a client ends nothing to Suricata.
            if *level == 2 && direction == Direction::ToClient {
                tx.raise(Direction::ToServer, CLIENT_FINISHED);
                tx.raise(Direction::ToClient, SERVER_FINISHED);
            }
            tx.last_alert = Some((direction, *level, *description));
            tx.mark(direction, 'L');
        }
    }

    fn heartbeat(&self, tx: &mut Tx) {
        tx.has_heartbeat = true;
        tx.events.add("heartbeat_message");
        if self.is_encrypted {
            return;
        }
        let [kind, high, low] = self.small[..] else {
            tx.events.add("invalid_heartbeat_message");
            return;
        };
        let claimed = usize::from(u16::from_be_bytes([high, low]));
        if !matches!(kind, 1 | 2) {
            tx.events.add("invalid_heartbeat_message");
        } else if claimed + 3 > self.length {
            tx.events.add("overflow_heartbeat_message");
        }
    }
}

impl Tx {
    /// Progress only grows.
    pub(super) fn raise(&mut self, direction: Direction, to: u8) {
        let end = match direction {
            Direction::ToServer => CLIENT_FINISHED,
            Direction::ToClient => SERVER_FINISHED,
        };
        if let Some(progress) = self.progress.get_mut(direction.index()) {
            *progress = (*progress).max(to.min(end));
        }
    }

    /// Adds to the history: upper case for the client. Zeek stops when the handshake is over.
    pub(super) fn mark(&mut self, direction: Direction, letter: char) {
        /// Longer histories say nothing more.
        const HISTORY_BYTES_MAX: usize = 64;
        if self.is_established || self.history.len() >= HISTORY_BYTES_MAX {
            return;
        }
        self.history.push(match direction {
            Direction::ToServer => letter,
            Direction::ToClient => letter.to_ascii_lowercase(),
        });
    }
}

/// Whether `bytes` start like TLS from `direction`: Suricata's patterns. `None`: too short to say.
pub(crate) fn probe(direction: Direction, bytes: &[u8]) -> Option<bool> {
    let kind = *bytes.first()?;
    if direction == Direction::ToServer && kind & 0x80 != 0 {
        // SSL 2: a length of two bytes, type 1, version 2 or 3.x.
        return match bytes.get(2..5) {
            Some([1, 0, 2] | [1, 3, _]) => Some(true),
            Some(_) => Some(false),
            None => None,
        };
    }
    let is_kind = match direction {
        Direction::ToServer => kind == HANDSHAKE,
        Direction::ToClient => (ALERT..=APPLICATION_DATA).contains(&kind),
    };
    if !is_kind {
        return Some(false);
    }
    match bytes.get(1..) {
        Some([3, minor, ..]) => Some(*minor <= 3),
        Some([] | [3]) | None => None,
        Some(_) => Some(false),
    }
}

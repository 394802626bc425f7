//! Protocols of which little more is asked than what a message says: SIP, PostgreSQL, SMB.
//!
//! One state for all of them: bytes that are not yet a message, and transactions in order. What is
//! between is a parser for each. Bytes that wait are bounded, transactions too; what exceeds a bound
//! ends the parser, as bytes do that it can't take.

pub mod pgsql;
pub mod sip;
pub mod smb;

use std::collections::VecDeque;

use super::{Config, Events, Fed, Meta, Proto, Step, Transport};
use crate::Direction;

/// Bytes of one direction that may wait for the rest of their message.
const HELD_BYTES_MAX: usize = 128 << 10;

/// State of a flow.
#[derive(Debug)]
pub struct Records {
    /// Transactions that inspectors have not yet seen to their end.
    pub txs: VecDeque<Tx>,
    /// Transactions given up because too many were waiting.
    pub dropped_txs: u64,
    next_id: u64,
    held: [Vec<u8>; 2],
    parser: Parser,
}

#[derive(Debug)]
enum Parser {
    Sip,
    Pgsql(pgsql::Parser),
    Smb(Box<smb::Parser>),
}

/// Names and values in order.
pub type Fields = Vec<(String, Field)>;

/// A value that a message holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// Text as sent.
    Text(Vec<u8>),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Several values with names.
    Fields(Fields),
    /// Several values.
    List(Vec<Field>),
}

/// Bytes that fields take.
fn weight(fields: &Fields) -> usize {
    fields.iter().map(|(name, field)| name.capacity() + field.held_bytes()).sum()
}

impl Field {
    fn held_bytes(&self) -> usize {
        let inner = match self {
            Self::Text(text) => text.capacity(),
            Self::Number(_) | Self::Flag(_) => 0,
            Self::Fields(fields) => weight(fields),
            Self::List(list) => list.iter().map(Self::held_bytes).sum(),
        };
        size_of::<(String, Self)>() + inner
    }

    fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    fn object<const N: usize>(fields: [(&str, Self); N]) -> Self {
        Self::Fields(fields.map(|(name, field)| (name.to_owned(), field)).into())
    }
}

/// A message, or a request and its response.
#[derive(Debug)]
pub struct Tx {
    /// Number within the flow.
    pub id: u64,
    /// When it began.
    pub at_ns: u64,
    /// The only direction that takes part, if it is one.
    pub direction: Option<Direction>,
    /// To the server, to the client: nothing more will come.
    pub is_done: [bool; 2],
    /// What is odd about it, in Suricata's words.
    pub events: Events,
    /// What it says.
    pub body: Body,
}

/// By protocol.
#[derive(Debug)]
pub enum Body {
    /// SIP.
    Sip(Box<sip::Message>),
    /// PostgreSQL.
    Pgsql(Box<pgsql::Exchange>),
    /// SMB 1.
    Smb(Box<smb::Command>),
    /// A file inside SMB, of one direction.
    SmbFile(Box<smb::Transfer>),
}

impl Tx {
    fn held_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Sip(message) => message.held_bytes(),
            Body::Pgsql(exchange) => weight(&exchange.request) + weight(&exchange.response),
            Body::Smb(command) => command.held_bytes(),
            Body::SmbFile(transfer) => transfer.held_bytes(),
        };
        size_of::<Self>() + body
    }

    /// 1 when `direction` is over.
    #[must_use]
    pub fn progress(&self, direction: Direction) -> u8 {
        u8::from(*direction.of(&self.is_done))
    }

    /// The protocol.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        match self.body {
            Body::Sip(_) => Proto::Sip,
            Body::Pgsql(_) => Proto::Pgsql,
            Body::Smb(_) | Body::SmbFile(_) => Proto::Smb,
        }
    }

    /// The file that it is.
    #[must_use]
    pub fn transfer(&self) -> Option<&smb::Transfer> {
        match &self.body {
            Body::SmbFile(transfer) => Some(transfer),
            Body::Sip(_) | Body::Pgsql(_) | Body::Smb(_) => None,
        }
    }

    fn is_complete(&self) -> bool {
        match self.direction {
            Some(direction) => *direction.of(&self.is_done),
            None => self.is_done == [true, true],
        }
    }
}

/// Where parsers put what they find.
pub(super) struct Sink<'s> {
    txs: &'s mut VecDeque<Tx>,
    next_id: &'s mut u64,
    dropped: &'s mut u64,
    now_ns: u64,
    max: usize,
    is_changed: bool,
    config: &'s Config,
}

impl Sink<'_> {
    fn begin(&mut self, body: Body, direction: Option<Direction>) -> &mut Tx {
        self.is_changed = true;
        if self.txs.len() >= self.max {
            self.txs.pop_front();
            *self.dropped += 1;
        }
        let id = *self.next_id;
        *self.next_id += 1;
        let tx = Tx {
            id,
            at_ns: self.now_ns,
            direction,
            is_done: [false; 2],
            events: Events::default(),
            body,
        };
        super::add(self.txs, tx);
        let last = self.txs.len() - 1;
        &mut self.txs[last]
    }

    fn last(&mut self) -> Option<&mut Tx> {
        self.is_changed = true;
        self.txs.back_mut()
    }

    fn event(&mut self, name: &'static str) {
        if let Some(tx) = self.txs.back_mut() {
            tx.events.add(name);
            self.is_changed = true;
        }
    }
}

/// What became of the bytes that a parser was shown.
pub(super) enum Taken {
    /// A message of so many bytes.
    Message(usize),
    /// More bytes are needed.
    More,
    /// They are no such message.
    Fault,
    /// TLS follows.
    Tls,
}

impl Records {
    /// For a protocol that is parsed here.
    pub(crate) fn of(proto: Proto) -> Option<Self> {
        let parser = match proto {
            Proto::Sip => Parser::Sip,
            Proto::Pgsql => Parser::Pgsql(pgsql::Parser::default()),
            Proto::Smb => Parser::Smb(Box::default()),
            _ => return None,
        };
        Some(Self {
            txs: VecDeque::new(),
            dropped_txs: 0,
            next_id: 0,
            held: Default::default(),
            parser,
        })
    }

    /// Which protocol.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        match self.parser {
            Parser::Sip => Proto::Sip,
            Parser::Pgsql(_) => Proto::Pgsql,
            Parser::Smb(_) => Proto::Smb,
        }
    }

    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        let mut sink = Sink {
            txs: &mut self.txs,
            next_id: &mut self.next_id,
            dropped: &mut self.dropped_txs,
            now_ns,
            max: meta.config.txs_max as usize,
            is_changed: false,
            config: meta.config,
        };
        let held = direction.of_mut(&mut self.held);
        if meta.gap > 0 {
            // Where the next message begins is not known: it may be where the next bytes do.
            if let Parser::Smb(parser) = &mut self.parser {
                parser.lose(direction, held, meta.gap, &mut sink);
            }
            held.clear();
        }
        held.extend_from_slice(data);
        let step = take_all(&mut self.parser, held, direction, meta.transport, &mut sink);
        if meta.eof {
            if let Parser::Smb(parser) = &mut self.parser {
                parser.end(direction, &mut sink);
            }
            for tx in sink.txs.iter_mut() {
                *direction.of_mut(&mut tx.is_done) = true;
                sink.is_changed = true;
            }
        }
        fed.is_changed |= sink.is_changed;
        if meta.transport == Transport::Udp {
            held.clear();
        }
        match step {
            Step::Fail if meta.transport == Transport::Udp => {
                // Each datagram stands for itself.
                fed.is_error = true;
                Step::Go
            }
            Step::Go if held.len() > HELD_BYTES_MAX => Step::Fail,
            step => step,
        }
    }

    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.held.iter().map(Vec::capacity).sum::<usize>()
            + self.txs.iter().map(Tx::held_bytes).sum::<usize>()
            + match &self.parser {
                Parser::Smb(parser) => parser.held_bytes(),
                Parser::Sip | Parser::Pgsql(_) => 0,
            }
    }

    /// What was given up because a bound was met: names forgotten, files ended, pieces of files
    /// read before what belongs in front of them, pieces cut.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        match &self.parser {
            Parser::Smb(parser) => parser.evicted(),
            Parser::Sip | Parser::Pgsql(_) => 0,
        }
    }

    /// Frees what is complete, and what was inspected of files.
    pub(crate) fn prune(&mut self) {
        self.txs.retain(|tx| !tx.is_complete());
        for tx in &mut self.txs {
            if let Body::SmbFile(transfer) = &mut tx.body {
                transfer.roll();
            }
        }
    }
}

fn take_all(
    parser: &mut Parser,
    held: &mut Vec<u8>,
    direction: Direction,
    transport: Transport,
    sink: &mut Sink<'_>,
) -> Step {
    let mut at = 0;
    let step = loop {
        let rest = held.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break Step::Go;
        }
        let taken = match parser {
            Parser::Sip => sip::take(direction, rest, sink),
            Parser::Pgsql(parser) => parser.take(direction, rest, sink),
            Parser::Smb(parser) => parser.take(direction, rest, sink),
        };
        match taken {
            Taken::Message(0) | Taken::Fault => break Step::Fail,
            Taken::Message(count) => at += count,
            Taken::More if transport == Transport::Udp => break Step::Fail,
            Taken::More => break Step::Go,
            Taken::Tls => break Step::Change(Some(Proto::Tls)),
        }
        if transport == Transport::Udp {
            break Step::Go;
        }
    };
    held.drain(..at.min(held.len()));
    step
}

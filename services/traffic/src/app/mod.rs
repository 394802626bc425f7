//! Application protocols: bytes of a flow in, transactions out.
//!
//! `App` belongs to one flow. The engine feeds it in-order TCP bytes, or one UDP payload at a time;
//! it finds the protocol by content (ports are a hint only), parses, and keeps transactions until
//! `prune` is called after every inspector has seen them. Progress values per direction are
//! Suricata 8's, so that a rule inspects a buffer when Suricata would.
//!
//! What must never happen here: an allocation by an unchecked length, memory without a cap, a
//! clock, a panic. What exceeds a cap is cut and counted (`app_cut_bytes`, `app_dropped`).

pub mod bytes;
pub mod detect;
pub mod dhcp;
pub mod dns;
pub mod event;
pub mod http;
pub mod http2;
pub mod quic;
pub mod records;
pub mod smtp;
pub mod socks;
pub mod ssh;
pub mod tls;

mod feed;
mod proto;

pub use event::{Event, Events};
pub(crate) use feed::Step;
pub use proto::Proto;

use std::collections::VecDeque;

use crate::Direction;

/// Which transport carries the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In-order bytes of a stream.
    Tcp,
    /// One datagram per call.
    Udp,
}

/// What the engine knows beside the bytes of one `App::feed`.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// Settings of the whole engine.
    pub config: &'a Config,
    /// TCP or UDP.
    pub transport: Transport,
    /// Client's and server's port.
    pub ports: (u16, u16),
    /// Bytes lost just before `data` (0: none). Data may be empty.
    pub gap: u64,
    /// This direction has ended: after `data` nothing more will come.
    pub eof: bool,
    /// The flow was picked up without its handshake.
    pub is_midstream: bool,
    /// How many bytes of this direction came before `data`.
    pub offset: u64,
    /// Nothing came from the other end.
    pub is_alone: bool,
}

/// The flow is encrypted from here on, and what becomes of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hides {
    /// It is not.
    #[default]
    No,
    /// What came until now is to be inspected, then packets show no payload (Suricata's
    /// `NO_INSPECTION`: SSH).
    AfterFlush,
    /// Neither packets nor stream show any more (`NO_INSPECTION_PAYLOAD`: TLS).
    AtOnce,
}

/// What one call of `App::feed` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// A transaction was made or made progress: inspect.
    pub is_changed: bool,
    /// The protocol became known (or known to be none) in this call.
    pub is_detected: bool,
    /// The content says that client and server are the other way round. Only at detection; the
    /// engine swaps the flow. `App` has already swapped its own view: the transactions are right.
    pub is_reversed: bool,
    /// No more bytes are wanted in this flow (encrypted, failed or not parsed): reassembly for the
    /// application may stop.
    pub is_done: bool,
    /// The parser met bytes that it can't take.
    pub is_error: bool,
    /// The parser is in the middle of a message: raw inspection need not look before its end.
    pub is_raw_waiting: bool,
    /// The parser only waits for the rest of what it began: nothing happened.
    pub is_idle: bool,
    /// Bytes at the end of the data that are of the protocol which comes now: they are to be given
    /// again with what follows, when inspectors have seen what was before the change.
    pub left: usize,
    /// Encryption has begun with this call.
    pub hides: Hides,
    /// Flow-level events of this call, Suricata's `applayer_*` names.
    pub events: Events,
}

/// HTTP server personalities that differ in how they see a request (Suricata's libhtp names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Personality {
    /// `IDS`, the default.
    #[default]
    Ids,
    /// `Generic`.
    Generic,
    /// `Apache_2`.
    Apache2,
    /// Any `IIS_*`.
    Iis,
    /// `Minimal`.
    Minimal,
}

/// Limits and switches of the application layer; the defaults are Suricata's shipped ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `libhtp.default-config.personality`.
    pub http_personality: Personality,
    /// Most bytes of a request body that are kept for inspection (0: no limit but the window).
    pub request_body_bytes_max: u64,
    /// Most bytes of a response body that are kept for inspection.
    pub response_body_bytes_max: u64,
    /// A request body is held whole until this many bytes came (`request-body-minimal-inspect-size`).
    pub request_inspect_bytes_min: u32,
    /// What stays before bytes not yet seen (`request-body-inspect-window`).
    pub request_inspect_window_bytes: u32,
    /// `response-body-minimal-inspect-size`.
    pub response_inspect_bytes_min: u32,
    /// `response-body-inspect-window`.
    pub response_inspect_window_bytes: u32,
    /// `double-decode-path`.
    pub is_path_decoded_twice: bool,
    /// `double-decode-query`.
    pub is_query_decoded_twice: bool,
    /// `query-plusspace-decode`.
    pub is_plus_space: bool,
    /// `uri-include-all`: the normalized URI holds scheme, user, host and port too.
    pub is_uri_complete: bool,
    /// `meta-field-limit`: longest line or header, then the flow fails.
    pub http_field_bytes_max: u32,
    /// Content codings over each other that are decoded (`response-body-decompress-layer-limit`).
    pub http_layers_max: u32,
    /// LZMA among the codings of a list (`lzma-enabled`); `u32::MAX`, as many as there are. Alone it
    /// is always decoded, as Suricata does whatever its manual says.
    pub http_lzma_layers_max: u32,
    /// Most that a dictionary of LZMA holds (`lzma-memlimit`).
    pub http_lzma_bytes_max: u32,
    /// A body that grows beyond this and 2,048 times is a bomb (`compression-bomb-limit`).
    pub http_bomb_bytes_min: u32,
    /// Most transactions of a flow that are kept before the oldest is given up.
    pub txs_max: u32,
    /// Digests of files in bodies (MD5, SHA-1, SHA-256) are computed.
    pub are_files_hashed: bool,
    /// `app-layer.protocols.tls.ja3-fingerprints` and JA4; off saves time.
    pub is_ja_on: bool,
    /// `app-layer.protocols.ssh.hassh`.
    pub is_hassh_on: bool,
    /// `smtp.raw-extraction`: the message itself is a file, MIME is not parsed.
    pub is_smtp_raw: bool,
    /// `app-layer.protocols.dns.{tcp,udp}.detection-ports`: DNS has no literal to know it by.
    pub dns_ports: Vec<u16>,
    /// From which offset of each direction parsers fail: a fault made on purpose, to see what follows.
    pub errors_at: [Option<u64>; 2],
    /// Parsers that are off (by `Proto`): such flows stay unknown.
    pub disabled: Vec<Proto>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http_personality: Personality::Ids,
            request_body_bytes_max: 102_400,
            response_body_bytes_max: 102_400,
            request_inspect_bytes_min: 32_768,
            request_inspect_window_bytes: 4_096,
            response_inspect_bytes_min: 40_960,
            response_inspect_window_bytes: 16_384,
            is_path_decoded_twice: false,
            is_query_decoded_twice: false,
            is_plus_space: false,
            is_uri_complete: false,
            http_field_bytes_max: 18_000,
            http_layers_max: 2,
            http_lzma_layers_max: u32::MAX,
            http_lzma_bytes_max: 1 << 20,
            http_bomb_bytes_min: 1 << 20,
            txs_max: 500,
            are_files_hashed: false,
            is_ja_on: true,
            is_hassh_on: true,
            is_smtp_raw: false,
            dns_ports: vec![53],
            errors_at: [None; 2],
            disabled: Vec::new(),
        }
    }
}

/// The application layer of one flow.
#[derive(Debug, Default)]
pub struct App {
    /// What is parsed now.
    pub state: State,
    /// The protocol before a change (CONNECT, STARTTLS, upgrade): Suricata's `app_proto_orig`.
    pub original: Option<Proto>,
    /// A protocol that must follow (STARTTLS), Suricata's `app_proto_expected`.
    pub expected: Option<Proto>,
    /// Protocol as seen from each direction: `app_proto_ts`, `app_proto_tc`.
    pub sides: [Option<Proto>; 2],
    /// Bytes that caps cut off in this flow, for counters.
    pub cut_bytes: u32,
    /// As much of [`Self::dropped`] as was counted.
    dropped_counted: u32,
    /// A change of protocol that comes with the next bytes: until then the transactions stay.
    pending: Option<feed::Change>,
    /// The parser wants nothing more.
    is_over: bool,
}

/// Protocol states. Large ones are boxed: most flows of a busy network are unknown or short.
#[derive(Debug)]
pub enum State {
    /// Not known yet: the first bytes of both directions; nothing before there are any.
    Unknown(Option<Box<detect::Detect>>),
    /// Nothing that is known: both directions were probed to the end.
    Failed,
    /// Recognised, not parsed (SMB, FTP, ...), or its parser met an error.
    Known(Proto),
    /// HTTP/1 and 0.9.
    Http(Box<http::Http>),
    /// HTTP/2 in the clear; its transactions are `http::Tx`.
    Http2(Box<http2::Http2>),
    /// DNS over UDP and TCP; mDNS has the same messages (`dns::Dns::is_mdns`).
    Dns(Box<dns::Dns>),
    /// SSL 3 to TLS 1.3.
    Tls(Box<tls::Tls>),
    /// SSH 1 and 2, to the end of the clear part.
    Ssh(Box<ssh::Ssh>),
    /// SMTP.
    Smtp(Box<smtp::Smtp>),
    /// QUIC version 1, 2 and the last drafts, Initial packets only.
    Quic(Box<quic::Quic>),
    /// DHCP for IPv4.
    Dhcp(Box<dhcp::Dhcp>),
    /// SIP, PostgreSQL, SMB.
    Records(Box<records::Records>),
    /// SOCKS 4 and 5, until the proxied protocol begins.
    Socks(Box<socks::Socks>),
}

impl Default for State {
    fn default() -> Self {
        Self::Unknown(None)
    }
}

/// One transaction of whatever protocol.
#[derive(Clone, Copy, Debug)]
pub enum TxRef<'a> {
    /// Request and response, of HTTP/1 and HTTP/2.
    Http(&'a http::Tx),
    /// One message.
    Dns(&'a dns::Tx),
    /// The handshake: one for a flow.
    Tls(&'a tls::Tx),
    /// Banner and key exchange: one for a flow.
    Ssh(&'a ssh::Tx),
    /// One mail.
    Smtp(&'a smtp::Tx),
    /// One Initial datagram.
    Quic(&'a quic::Tx),
    /// One message.
    Dhcp(&'a dhcp::Tx),
    /// A message, or a request and its response.
    Record(&'a records::Tx),
}

impl<'a> TxRef<'a> {
    /// Number within the flow, from 0, never reused.
    #[must_use]
    pub fn id(self) -> u64 {
        match self {
            Self::Http(tx) => tx.id,
            Self::Dns(tx) => tx.id,
            Self::Tls(tx) => tx.id,
            Self::Ssh(tx) => tx.id,
            Self::Smtp(tx) => tx.id,
            Self::Quic(tx) => tx.id,
            Self::Dhcp(tx) => tx.id,
            Self::Record(tx) => tx.id,
        }
    }

    /// Time of its first byte.
    #[must_use]
    pub fn at_ns(self) -> u64 {
        match self {
            Self::Http(tx) => tx.at_ns,
            Self::Dns(tx) => tx.at_ns,
            Self::Tls(tx) => tx.at_ns,
            Self::Ssh(tx) => tx.at_ns,
            Self::Smtp(tx) => tx.at_ns,
            Self::Quic(tx) => tx.at_ns,
            Self::Dhcp(tx) => tx.at_ns,
            Self::Record(tx) => tx.at_ns,
        }
    }

    /// Progress in `direction`, on the scale of its protocol (`http::progress`, `tls::progress`..).
    #[must_use]
    pub fn progress(self, direction: Direction) -> u8 {
        match self {
            Self::Http(tx) => tx.progress(direction),
            Self::Dns(tx) => tx.progress(direction),
            Self::Tls(tx) => tx.progress(direction),
            Self::Ssh(tx) => tx.progress(direction),
            Self::Smtp(tx) => tx.progress(direction),
            Self::Quic(tx) => tx.progress(direction),
            Self::Dhcp(tx) => tx.progress(direction),
            Self::Record(tx) => tx.progress(direction),
        }
    }

    /// The progress without what the end of the flow made of it.
    #[must_use]
    pub fn reached(self, direction: Direction) -> u8 {
        match self {
            Self::Http(tx) => tx.reached(direction),
            other => other.progress(direction),
        }
    }

    /// The progress that means complete in `direction`.
    #[must_use]
    pub fn progress_complete(self, direction: Direction) -> u8 {
        match self {
            Self::Http(_) => http::progress::COMPLETE,
            Self::Tls(_) => match direction {
                Direction::ToServer => tls::progress::CLIENT_FINISHED,
                Direction::ToClient => tls::progress::SERVER_FINISHED,
            },
            Self::Ssh(_) => ssh::progress::FINISHED,
            Self::Smtp(_) => smtp::progress::COMPLETE,
            Self::Dns(_) | Self::Quic(_) | Self::Dhcp(_) | Self::Record(_) => 1,
        }
    }

    /// Whether `direction` takes part in the transaction at all: a DNS message, a QUIC datagram and a
    /// DHCP message have one direction (Suricata's skip-inspect flags).
    #[must_use]
    pub fn has_direction(self, direction: Direction) -> bool {
        match self {
            Self::Dns(tx) => tx.direction == direction,
            Self::Quic(tx) => tx.direction == direction,
            Self::Dhcp(tx) => tx.direction == direction,
            Self::Record(tx) => tx.direction.is_none_or(|own| own == direction),
            Self::Http(_) | Self::Tls(_) | Self::Ssh(_) | Self::Smtp(_) => true,
        }
    }

    /// Complete in both directions: it is freed by the next `prune`.
    #[must_use]
    pub fn is_complete(self) -> bool {
        [Direction::ToServer, Direction::ToClient].into_iter().all(|direction| {
            !self.has_direction(direction)
                || self.progress(direction) >= self.progress_complete(direction)
        })
    }

    /// Anomalies, Suricata's `app-layer-event` names without the protocol.
    #[must_use]
    pub fn events(self) -> &'a Events {
        match self {
            Self::Http(tx) => &tx.events,
            Self::Dns(tx) => &tx.events,
            Self::Tls(tx) => &tx.events,
            Self::Ssh(tx) => &tx.events,
            Self::Smtp(tx) => &tx.events,
            Self::Quic(tx) => &tx.events,
            Self::Dhcp(tx) => &tx.events,
            Self::Record(tx) => &tx.events,
        }
    }
}

impl App {
    /// Another protocol must follow, and none of its bytes came: the one that is expected, if any.
    #[must_use]
    pub fn pending(&self) -> Option<Option<Proto>> {
        self.pending.as_ref().map(|change| change.expected())
    }

    /// The protocol, as soon as one side shows it.
    #[must_use]
    pub fn proto(&self) -> Option<Proto> {
        match &self.state {
            State::Unknown(_) | State::Failed => None,
            State::Known(proto) => Some(*proto),
            State::Http(_) => Some(Proto::Http1),
            State::Http2(http) if http.is_doh => Some(Proto::Doh2),
            State::Http2(_) => Some(Proto::Http2),
            State::Dns(dns) if dns.is_mdns => Some(Proto::Mdns),
            State::Dns(_) => Some(Proto::Dns),
            State::Tls(_) => Some(Proto::Tls),
            State::Ssh(_) => Some(Proto::Ssh),
            State::Smtp(_) => Some(Proto::Smtp),
            State::Quic(_) => Some(Proto::Quic),
            State::Dhcp(_) => Some(Proto::Dhcp),
            State::Records(records) => Some(records.proto()),
            State::Socks(_) => Some(Proto::Socks),
        }
    }

    /// Detection has ended without a protocol.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Transactions that are kept, oldest first.
    pub fn txs(&self) -> impl Iterator<Item = TxRef<'_>> {
        (0..self.txs_len()).filter_map(|index| self.tx(index))
    }

    /// What limits of tables made the parser give up since it was asked last: transactions, names,
    /// pieces.
    pub(crate) fn newly_dropped(&mut self) -> u64 {
        let dropped = match &self.state {
            State::Http(http) => http.dropped_txs,
            State::Http2(http) => http.dropped_txs,
            State::Dns(dns) => dns.dropped_txs,
            State::Records(records) => records.dropped_txs + records.evicted(),
            State::Unknown(_)
            | State::Failed
            | State::Known(_)
            | State::Socks(_)
            | State::Tls(_)
            | State::Ssh(_)
            | State::Smtp(_)
            | State::Quic(_)
            | State::Dhcp(_) => 0,
        };
        let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
        // After a change of protocol another parser counts from its own beginning.
        let before = std::mem::replace(&mut self.dropped_counted, dropped);
        u64::from(dropped.saturating_sub(before))
    }

    /// How many transactions are kept.
    #[must_use]
    pub fn txs_len(&self) -> usize {
        match &self.state {
            State::Unknown(_) | State::Failed | State::Known(_) | State::Socks(_) => 0,
            State::Http(http) => http.txs.len(),
            State::Http2(http) => http.txs.len(),
            State::Dns(dns) => dns.txs.len(),
            State::Tls(_) | State::Ssh(_) => 1,
            State::Smtp(smtp) => smtp.txs.len(),
            State::Quic(quic) => quic.txs.len(),
            State::Dhcp(dhcp) => dhcp.txs.len(),
            State::Records(records) => records.txs.len(),
        }
    }

    /// The transaction at `index` of those that are kept.
    #[must_use]
    pub fn tx(&self, index: usize) -> Option<TxRef<'_>> {
        match &self.state {
            State::Unknown(_) | State::Failed | State::Known(_) | State::Socks(_) => None,
            State::Http(http) => http.txs.get(index).map(TxRef::Http),
            State::Http2(http) => http.txs.get(index).map(TxRef::Http),
            State::Dns(dns) => dns.txs.get(index).map(TxRef::Dns),
            State::Tls(tls) => (index == 0).then_some(TxRef::Tls(&tls.tx)),
            State::Ssh(ssh) => (index == 0).then_some(TxRef::Ssh(&ssh.tx)),
            State::Smtp(smtp) => smtp.txs.get(index).map(TxRef::Smtp),
            State::Quic(quic) => quic.txs.get(index).map(TxRef::Quic),
            State::Dhcp(dhcp) => dhcp.txs.get(index).map(TxRef::Dhcp),
            State::Records(records) => records.txs.get(index).map(TxRef::Record),
        }
    }

    /// Bytes that it holds: what waits for more, and transactions with what makes most of them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Unknown(None) | State::Failed | State::Known(_) => 0,
            State::Unknown(Some(detect)) => detect.held_bytes(),
            State::Http(http) => http.held_bytes(),
            State::Http2(http) => http.held_bytes(),
            State::Dns(dns) => dns.held_bytes(),
            State::Tls(tls) => tls.held_bytes(),
            State::Ssh(ssh) => ssh.held_bytes(),
            State::Smtp(smtp) => smtp.held_bytes(),
            State::Quic(quic) => quic.held_bytes(),
            State::Dhcp(dhcp) => size_of_val(&**dhcp) + dhcp.txs.len() * size_of::<dhcp::Tx>(),
            State::Records(records) => records.held_bytes(),
            State::Socks(socks) => size_of_val(&**socks),
        }
    }

    /// Forgets all but the name of the protocol: nobody follows the flow any more.
    pub(crate) fn abandon(&mut self) {
        self.state = self.proto().map_or(State::Failed, State::Known);
        self.pending = None;
        self.is_over = true;
    }

    /// Frees what is complete, from the oldest on. The engine calls it after the inspectors.
    /// (One-transaction protocols keep theirs for the life of the flow.)
    pub fn prune(&mut self) {
        match &mut self.state {
            State::Http(http) => {
                http.prune();
                let_go(&mut http.txs);
            }
            State::Http2(http) => {
                http.prune();
                let_go(&mut http.txs);
            }
            State::Dns(dns) => dns.txs = VecDeque::new(),
            State::Smtp(smtp) => {
                smtp.prune();
                let_go(&mut smtp.txs);
            }
            State::Quic(quic) => quic.txs = VecDeque::new(),
            State::Dhcp(dhcp) => dhcp.txs = VecDeque::new(),
            State::Records(records) => records.prune(),
            State::Unknown(_)
            | State::Failed
            | State::Known(_)
            | State::Socks(_)
            | State::Tls(_)
            | State::Ssh(_) => {}
        }
    }
}

/// Puts a transaction at the end. The first needs room for itself only: few flows have two open, and
/// a queue would make room for four.
fn add<T>(txs: &mut VecDeque<T>, tx: T) {
    if txs.capacity() == 0 {
        txs.reserve_exact(1);
    }
    txs.push_back(tx);
}

/// Gives the room of an empty queue back: flows that wait would hold it for their whole life.
fn let_go<T>(txs: &mut VecDeque<T>) {
    if txs.is_empty() {
        *txs = VecDeque::new();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Config, Meta, Transport};

    /// A TCP flow on a port without meaning.
    pub(crate) const fn meta(config: &Config) -> Meta<'_> {
        Meta {
            config,
            transport: Transport::Tcp,
            ports: (50_000, 8_000),
            gap: 0,
            eof: false,
            is_midstream: false,
            offset: 0,
            is_alone: false,
        }
    }

    /// Calls `feed` with each piece.
    pub(crate) fn feed_all(pieces: &[&[u8]], mut feed: impl FnMut(&[u8])) {
        for piece in pieces {
            feed(piece);
        }
    }
}

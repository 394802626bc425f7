//! Bytes to the parser of the moment, and changes of protocol.

use super::detect::{self, Detect, Verdict};
use super::{App, Config, Fed, Meta, Proto, State, Transport, dns, http2, records, socks};
use crate::Direction;
use std::borrow::Cow;

/// What a parser says after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More is welcome.
    Go,
    /// Nothing more can be learnt.
    Done,
    /// The bytes are not what they were taken for.
    Fail,
    /// Another protocol follows in both directions, with the next bytes.
    Change(Option<Proto>),
    /// HTTP/2 follows.
    Become(Proto),
}

/// A change of protocol that the next bytes bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// What must follow, if anything.
    expected: Option<Proto>,
    /// It is known without a look.
    is_certain: bool,
}

impl Change {
    pub(super) const fn expected(&self) -> Option<Proto> {
        self.expected
    }
}

impl App {
    /// Takes the next in-order bytes of one direction of a TCP flow, or one UDP payload.
    ///
    /// Call it with empty data to report a gap or the end alone.
    pub fn feed(&mut self, now_ns: u64, direction: Direction, data: &[u8], meta: Meta<'_>) -> Fed {
        let mut fed = Fed::default();
        if !data.is_empty()
            && let Some(change) = self.pending.take()
        {
            self.change(change, &mut fed);
        }
        if self.has_tls_begun(direction, data) {
            let change = Change { expected: Some(Proto::Tls), is_certain: false };
            self.change(change, &mut fed);
        }
        if self.is_over && !meta.eof {
            if matches!(self.state, State::Known(_)) {
                self.note_side(direction, data, &meta, &mut fed);
            }
            fed.is_done = self.is_finished(meta.transport);
            return fed;
        }
        match std::mem::replace(&mut self.state, State::Failed) {
            // The end of a direction says nothing about what it would have been.
            State::Unknown(None) if data.is_empty() && meta.gap == 0 => {
                self.state = State::Unknown(None);
            }
            State::Unknown(detect) => {
                let detect = detect.unwrap_or_default();
                self.detect(now_ns, direction, data, meta, detect, &mut fed);
            }
            state => {
                self.state = state;
                let Some(data) = self.second_side(now_ns, direction, data, &meta, &mut fed) else {
                    return fed;
                };
                self.parse(now_ns, direction, &data, meta, &mut fed);
            }
        }
        self.note_doh();
        fed.is_done |= self.is_finished(meta.transport);
        fed
    }

    /// Nothing more is wanted. What is only named is, until both sides have said who they are.
    fn is_finished(&self, transport: Transport) -> bool {
        let is_open = transport == Transport::Tcp
            && matches!(self.state, State::Known(_))
            && self.sides.contains(&None);
        self.is_over && !is_open && !self.may_change()
    }

    /// A protocol that is not parsed here and may go over to TLS (STARTTLS and its like) has done so:
    /// the client sends a hello where its next command would be.
    fn has_tls_begun(&self, direction: Direction, data: &[u8]) -> bool {
        let is_hello = matches!(data, [0x16, 3, 0..=3, _, _, 1, ..]);
        direction == Direction::ToServer && is_hello && self.may_change()
    }

    const fn may_change(&self) -> bool {
        matches!(
            self.state,
            State::Known(
                Proto::Ftp | Proto::Imap | Proto::Ldap | Proto::Pgsql | Proto::Pop3 | Proto::Xmpp
            )
        ) || self.pending.is_some()
    }

    fn change(&mut self, change: Change, fed: &mut Fed) {
        self.original = self.original.or_else(|| self.proto());
        self.expected = change.expected;
        self.sides = [None; 2];
        self.is_over = false;
        self.state = match change.expected {
            Some(Proto::Http2) if change.is_certain => {
                fed.is_detected = true;
                let begun = match &mut self.state {
                    State::Http(http) => http.upgraded.take(),
                    _ => None,
                };
                State::Http2(begun.unwrap_or_default())
            }
            Some(proto) if change.is_certain => {
                fed.is_detected = true;
                self.is_over = true;
                State::Known(proto)
            }
            Some(_) | None => State::default(),
        };
    }

    /// HTTP/2 that brought a question of DNS goes by another name from now on.
    fn note_doh(&mut self) {
        if !matches!(&self.state, State::Http2(http) if http.is_doh) {
            return;
        }
        self.original = self.original.or(Some(Proto::Http2));
        self.sides = [Some(Proto::Doh2); 2];
    }

    /// HTTP/2 begins with the request that asked for it, which is gone when the next bytes come.
    fn upgrade(&mut self, now_ns: u64, proto: Proto, config: &Config) {
        let State::Http(http) = &mut self.state else { return };
        let asked = http.txs.iter().rev().find(|tx| tx.is_tunnel && proto == Proto::Http2);
        http.upgraded =
            asked.map(|tx| Box::new(http2::Http2::upgrade(now_ns, &tx.request, config)));
    }

    /// What the second direction gives to the parser of the first, or `None` while that is too little
    /// to tell a mismatch: HTTP waits, as a lone line end before the status is part of the same piece.
    fn second_side<'a>(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &'a [u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Option<Cow<'a, [u8]>> {
        let is_noted = direction.of(&self.sides).is_some();
        let State::Http(http) = &mut self.state else {
            self.note_side(direction, data, meta, fed);
            return Some(Cow::Borrowed(data));
        };
        if is_noted {
            return Some(Cow::Borrowed(data));
        }
        let held = http.take_unsure(direction);
        if meta.gap > 0 {
            self.note_side(direction, &held, meta, fed);
            self.parse(now_ns, direction, &held, Meta { gap: 0, eof: false, ..*meta }, fed);
            return Some(Cow::Borrowed(data));
        }
        let whole = if held.is_empty() {
            Cow::Borrowed(data)
        } else {
            Cow::Owned([held.as_slice(), data].concat())
        };
        if self.note_side(direction, &whole, meta, fed) || meta.eof {
            return Some(whole);
        }
        if let State::Http(http) = &mut self.state {
            http.hold_unsure(direction, whole.into_owned());
        }
        None
    }

    /// The second direction is looked at too, for the events that tell a mismatch. Whether its first
    /// bytes could tell one.
    fn note_side(
        &mut self,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> bool {
        let Some(known) = self.proto() else { return true };
        let Some(side) = self.sides.get_mut(direction.index()) else { return true };
        if side.is_some() || data.is_empty() || meta.transport == Transport::Udp {
            return true;
        }
        let (verdict, _) = detect::probe(meta.transport, direction, data, meta.ports, meta.config);
        if verdict == Verdict::More && known == Proto::Http1 && !meta.eof && meta.gap == 0 {
            return false;
        }
        *side = Some(known);
        match verdict {
            Verdict::Is(found) if found != known => {
                fed.events.add("applayer_mismatch_protocol_both_directions");
                *side = Some(found);
            }
            // The answer of HTTP/2 begins with a frame, which is no pattern.
            Verdict::No if matches!(known, Proto::Http2 | Proto::Doh2) => {}
            Verdict::No => {
                fed.events.add("applayer_detect_protocol_only_one_direction");
                *side = Some(Proto::Failed);
            }
            Verdict::Is(_) | Verdict::More => {}
        }
        true
    }

    fn detect(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: Meta<'_>,
        mut detect: Box<Detect>,
        fed: &mut Fed,
    ) {
        detect.add(now_ns, direction, data, &meta);
        let index = direction.index();
        let head = detect.heads.get(index).map(Vec::as_slice).unwrap_or_default();
        let (mut verdict, mut is_reversed) = match detect.is_over.get(index) {
            Some(false) if !data.is_empty() => {
                detect::probe(meta.transport, direction, head, meta.ports, meta.config)
            }
            _ => (Verdict::More, false),
        };
        if verdict == Verdict::No && meta.is_midstream && meta.transport == Transport::Tcp {
            // Picked up in the middle, the flow may be turned round.
            let ports = (meta.ports.1, meta.ports.0);
            verdict = detect::tcp(direction.reverse(), head, ports, meta.config);
            is_reversed = matches!(verdict, Verdict::Is(_));
        }
        if let (Verdict::Is(Proto::Smb), true) = (verdict, meta.is_midstream)
            && let Some(is_response) = records::smb::is_response(head)
        {
            is_reversed = is_response == (direction == Direction::ToServer);
        }
        match verdict {
            Verdict::Is(proto) => {
                if self.expected.is_some_and(|expected| expected != proto) {
                    fed.events.add(match self.expected {
                        Some(Proto::Tls) => "applayer_no_tls_after_starttls",
                        _ => "applayer_unexpected_protocol",
                    });
                }
                fed.is_detected = true;
                if proto == Proto::Tls && speaks_first(&meta, direction) {
                    // Here the client speaks first, or it is something else.
                    fed.events.add("applayer_wrong_direction_first_data");
                    self.sides[1] = Some(proto);
                    self.state = State::Failed;
                    self.is_over = true;
                    return;
                }
                fed.is_reversed = is_reversed;
                self.start(proto, direction, meta, &detect, fed);
            }
            Verdict::More | Verdict::No => {
                if verdict == Verdict::No
                    && let Some(is_over) = detect.is_over.get_mut(index)
                {
                    *is_over = true;
                }
                if detect.has_failed(&meta, fed) {
                    self.state = State::Failed;
                    self.is_over = true;
                    fed.is_detected = true;
                    if self.expected == Some(Proto::Tls) {
                        fed.events.add("applayer_no_tls_after_starttls");
                    }
                } else {
                    self.state = State::Unknown(Some(detect));
                }
            }
        }
    }

    /// The protocol is known: its parser gets what was held, in the order it came.
    fn start(
        &mut self,
        proto: Proto,
        direction: Direction,
        meta: Meta<'_>,
        detect: &Detect,
        fed: &mut Fed,
    ) {
        let turn = |direction: Direction| {
            if fed.is_reversed { direction.reverse() } else { direction }
        };
        if let Some(side) = self.sides.get_mut(turn(direction).index()) {
            *side = Some(proto);
        }
        self.state = match proto {
            Proto::Http1 => State::Http(Box::default()),
            Proto::Http2 | Proto::Doh2 => State::Http2(Box::default()),
            Proto::Dns => State::Dns(Box::default()),
            Proto::Mdns => State::Dns(Box::new(dns::Dns { is_mdns: true, ..dns::Dns::default() })),
            Proto::Tls => State::Tls(Box::default()),
            Proto::Ssh => State::Ssh(Box::default()),
            Proto::Smtp => State::Smtp(Box::default()),
            Proto::Quic => State::Quic(Box::default()),
            Proto::Dhcp => State::Dhcp(Box::default()),
            Proto::Socks => State::Socks(Box::<socks::Socks>::default()),
            other => match records::Records::of(other) {
                Some(records) => State::Records(Box::new(records)),
                None => {
                    self.is_over = true;
                    State::Known(other)
                }
            },
        };
        let first = detect.first.unwrap_or(direction);
        let order = [first, first.reverse()];
        let turned = order.map(turn);
        let current = direction;
        for (held, direction) in order.into_iter().zip(turned) {
            let total = detect.totals.get(held.index()).copied().unwrap_or(0);
            let bytes = detect.heads.get(held.index()).map(Vec::as_slice).unwrap_or_default();
            if total == 0 {
                continue;
            }
            let is_now = held == current;
            let now = Meta { gap: 0, eof: meta.eof && is_now, ..meta };
            if let Some(bytes) = self.second_side(detect.first_ns, direction, bytes, &now, fed) {
                self.parse(detect.first_ns, direction, &bytes, now, fed);
            }
            if !is_now {
                // What is left is of the other side, which is not asked for it again.
                fed.left = 0;
            }
            let lost = total - bytes.len() as u64;
            if lost > 0 {
                let cut = u32::try_from(lost).unwrap_or(u32::MAX);
                self.cut_bytes = self.cut_bytes.saturating_add(cut);
                self.parse(detect.first_ns, direction, &[], Meta { gap: lost, ..now }, fed);
            }
        }
    }

    fn parse(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: Meta<'_>,
        fed: &mut Fed,
    ) {
        let is_faulty = direction.of(&meta.config.errors_at).is_some_and(|at| meta.offset >= at);
        let step = match &mut self.state {
            _ if is_faulty && !data.is_empty() => Step::Fail,
            State::Unknown(_) | State::Failed | State::Known(_) => Step::Go,
            State::Http(http) => http.feed(now_ns, direction, data, &meta, fed),
            State::Http2(http) => http.feed(now_ns, direction, data, &meta, fed),
            State::Dns(dns) => dns.feed(now_ns, direction, data, &meta, fed),
            State::Tls(tls) => tls.feed(now_ns, direction, data, &meta, fed),
            State::Ssh(ssh) => ssh.feed(now_ns, direction, data, &meta, fed),
            State::Smtp(smtp) => smtp.feed(now_ns, direction, data, &meta, fed),
            State::Quic(quic) => quic.feed(now_ns, direction, data, &meta, fed),
            State::Dhcp(dhcp) => dhcp.feed(now_ns, direction, data, &meta, fed),
            State::Records(records) => records.feed(now_ns, direction, data, &meta, fed),
            State::Socks(socks) => socks.feed(direction, data),
        };
        match step {
            Step::Go => {}
            Step::Done => self.is_over = true,
            Step::Fail => {
                fed.is_error = true;
                self.is_over = true;
                if is_faulty {
                    self.abandon();
                }
            }
            Step::Change(expected) => {
                self.pending = Some(Change { expected, is_certain: false });
            }
            Step::Become(proto) => {
                self.upgrade(now_ns, proto, meta.config);
                self.pending = Some(Change { expected: Some(proto), is_certain: true });
            }
        }
    }
}

/// It is known which end is the server, and the client has said nothing.
fn speaks_first(meta: &Meta<'_>, direction: Direction) -> bool {
    direction == Direction::ToClient
        && meta.is_alone
        && !meta.is_midstream
        && meta.transport == Transport::Tcp
}

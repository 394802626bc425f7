//! TCP as Zeek's analyzer follows it (its `TCPSessionAdapter`): endpoint states, flips, history.

use std::num::NonZeroU64;

use super::{
    Connection, End, Seen,
    endpoint::{EndState, once},
    fact,
    far::Far,
    ports, timer,
};
use crate::packet::{Tcp, TcpFlags};

/// Jumps of sequence numbers beyond this are not believed of SYN and RST.
const JUMP_MAX: i64 = 1 << 20;
/// Payload above a hole before anything was acknowledged: then the trace lacks packets.
const ABOVE_HOLE_BYTES: i64 = 16_384;

/// A segment.
#[derive(Clone, Copy)]
struct Segment {
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    payload: i64,
    window: u16,
    window_scale: Option<u8>,
    time_ns: u64,
}

impl Segment {
    const fn has(&self, bit: u8) -> bool {
        self.flags.has(bit)
    }

    /// Sequence space it takes; payload of a RST does not count.
    fn length(&self) -> u32 {
        let control = u32::from(self.has(TcpFlags::SYN)) + u32::from(self.has(TcpFlags::FIN));
        let payload = if self.has(TcpFlags::RST) { 0 } else { self.payload as u32 };
        control + payload
    }
}

impl Connection {
    /// Whether the SYN in `tcp` begins another connection.
    pub(crate) fn is_reused_by(&self, tcp: &Tcp<'_>) -> bool {
        if !tcp.flags.has(TcpFlags::SYN) {
            return false;
        }
        let [originator, responder] = &self.ends;
        let end = if tcp.flags.has(TcpFlags::ACK) {
            if originator.state != EndState::Inactive {
                return false;
            }
            responder
        } else {
            originator
        };
        if originator.did_close || responder.did_close {
            return true;
        }
        let is_late_syn = !tcp.flags.has(TcpFlags::ACK)
            && end.state == EndState::SynAckSent
            && responder.state == EndState::Inactive
            && tcp.seq == responder.start_seq;
        tcp.seq != end.start_seq && !is_late_syn
    }

    /// The first segment may come from the responder: ports tell.
    fn guess_roles(&mut self, segment: &Segment, ports: (u16, u16)) {
        let is_syn = segment.has(TcpFlags::SYN);
        if (is_syn && !segment.has(TcpFlags::ACK)) || !ports::is_tcp(ports.0) {
            return;
        }
        if !ports::is_tcp(ports.1) || (!is_syn && ports.0 < ports.1) {
            self.flip();
        }
    }

    /// A TCP segment.
    pub(crate) fn segment(&mut self, seen: &Seen, tcp: &Tcp<'_>, is_first: bool) {
        let segment = Segment {
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags,
            payload: i64::try_from(seen.payload_bytes).unwrap_or(0),
            window: tcp.window,
            window_scale: tcp.parsed.window_scale,
            time_ns: seen.time_ns,
        };
        if is_first {
            self.guess_roles(&segment, seen.ports);
        }
        if seen.is_checksum_wrong {
            // Zeek gives it to nobody: no size counts it.
            return self.scaled(self.sender(seen.is_from_client), 2, b'C');
        }
        let end = self.count(seen);
        self.follow(seen, &segment, end);
    }

    fn follow(&mut self, seen: &Seen, segment: &Segment, end: End) {
        self.set_partial(segment, end);
        self.begin_end(segment, end);
        let own = self.own(end);
        let seq = own.relative(segment.seq, own.last.get());
        self.note_history(segment, end);
        // The history may have found that the roles are the other way round.
        let end = self.sender(seen.is_from_client);
        self.note_window(segment, end);
        let [originator, responder] = &self.ends;
        if !(originator.did_close && responder.did_close) {
            self.last_ns = self.last_ns.max(segment.time_ns);
        }
        let length = segment.length();
        if segment.has(TcpFlags::FIN) {
            let own = self.own(end);
            own.has_fin = true;
            own.rare_mut().fin = seq + i64::from(length);
        }
        let ack = self.take_ack(segment, end);
        self.take_seq(segment, end, segment.seq.wrapping_add(length));
        let do_close = self.change_state(segment, end);
        let end = self.sender(seen.is_from_client);
        if let Some(ack) = ack {
            self.acked(other(end), ack);
        }
        self.facts.set(match end {
            End::Originator => fact::ORIGINATOR_SENT,
            End::Responder => fact::RESPONDER_SENT,
        });
        if segment.payload > 0 && !segment.has(TcpFlags::RST) {
            let from = seq + i64::from(segment.has(TcpFlags::SYN));
            self.take_data(end, from, segment.payload);
        }
        if do_close {
            self.close(end);
        }
    }

    const fn own(&mut self, end: End) -> &mut super::Endpoint {
        let [originator, responder] = &mut self.ends;
        match end {
            End::Originator => originator,
            End::Responder => responder,
        }
    }

    const fn state_of(&self, end: End) -> EndState {
        let [originator, responder] = &self.ends;
        match end {
            End::Originator => originator.state,
            End::Responder => responder.state,
        }
    }

    fn set_partial(&mut self, segment: &Segment, end: End) {
        let is_syn = segment.has(TcpFlags::SYN);
        match end {
            End::Originator if !self.facts.has(fact::ORIGINATOR_SENT) => {
                self.facts.put(fact::PARTIAL, !is_syn || segment.has(TcpFlags::ACK));
            }
            End::Responder if !self.facts.has(fact::RESPONDER_SENT | fact::PARTIAL) => {
                self.facts.put(fact::PARTIAL, !is_syn);
            }
            End::Originator | End::Responder => {}
        }
    }

    /// Initial sequence numbers; a SYN later may set them anew.
    fn begin_end(&mut self, segment: &Segment, end: End) {
        let last = segment.seq.wrapping_add(segment.length());
        let is_syn = segment.has(TcpFlags::SYN);
        let own = self.own(end);
        match own.state {
            EndState::Inactive if is_syn => own.begin(segment.seq, last),
            EndState::Inactive => own.begin(segment.seq.wrapping_sub(1), segment.seq),
            EndState::SynSent | EndState::SynAckSent => {
                if is_syn && segment.seq != own.start_seq {
                    own.begin(segment.seq, last);
                }
            }
            EndState::Established | EndState::Partial if is_syn => own.begin(segment.seq, last),
            EndState::Reset if is_syn && own.before == EndState::Inactive => {
                own.begin(segment.seq, last);
            }
            EndState::Established | EndState::Partial | EndState::Closed | EndState::Reset => {}
        }
    }

    fn note_history(&mut self, segment: &Segment, end: End) {
        let (syn, fin, rst) =
            (segment.has(TcpFlags::SYN), segment.has(TcpFlags::FIN), segment.has(TcpFlags::RST));
        match u8::from(syn) + u8::from(fin) + u8::from(rst) {
            0 if segment.payload > 0 => {
                let end = self.flip_if_synack_first(end);
                self.once(end, once::DATA, b'D');
            }
            0 => {
                if segment.has(TcpFlags::ACK) {
                    let end = self.flip_if_synack_first(end);
                    self.once(end, once::ACK, b'A');
                }
            }
            1 => {
                let is_ack = segment.has(TcpFlags::ACK);
                let own = self.own(end);
                let seq = segment.seq;
                let (bit, letter, last, at) = if syn {
                    (once::SYN, if is_ack { b'H' } else { b'S' }, &mut own.last_syn, seq)
                } else if fin {
                    let end = seq.wrapping_add(segment.payload as u32);
                    (once::FIN, b'F', &mut own.rare_mut().last_fin, end)
                } else {
                    (once::RST, b'R', &mut own.rare_mut().last_rst, seq)
                };
                let is_other = *last != at;
                *last = at;
                let is_again = self.once(end, bit, letter);
                if is_again && is_other {
                    self.letter_of(end, letter);
                }
            }
            _ if fin && rst => {
                self.once(end, once::FIN_RST, b'I');
            }
            _ => {
                self.once(end, once::MULTI, b'Q');
            }
        }
    }

    /// A connection that began with a SYN ACK and goes on was no scan: its originator is the other.
    fn flip_if_synack_first(&mut self, end: End) -> End {
        if self.history.as_str() != "H" {
            return end;
        }
        self.flip();
        self.history.set("^h");
        self.facts.set(fact::ORIGINATOR_SENT);
        other(end)
    }

    fn note_window(&mut self, segment: &Segment, end: End) {
        let peer = self.state_of(other(end));
        let is_boring = segment.has(TcpFlags::RST)
            || peer == EndState::Closed
            || self.state_of(end) == EndState::Reset;
        if segment.window == 0 && !is_boring {
            self.scaled(end, 1, b'W');
        }
        if segment.has(TcpFlags::SYN) {
            self.own(end).window_scale = segment.window_scale.unwrap_or(0).min(14);
        }
    }

    /// The acknowledgement, relative to the peer's start; `None` if there is none that counts.
    fn take_ack(&mut self, segment: &Segment, end: End) -> Option<i64> {
        if !segment.has(TcpFlags::ACK) {
            return None;
        }
        let peer = self.own(other(end));
        if peer.state == EndState::Inactive {
            let start = segment.ack.wrapping_sub(1);
            peer.begin(start, start);
            return Some(1);
        }
        let acked = peer.acked.get();
        let ack = peer.relative(segment.ack, acked);
        if ack < 0 {
            return Some(0);
        }
        let is_broken = segment.ack == 0 && ack - acked > JUMP_MAX;
        if !segment.has(TcpFlags::RST) && !is_broken && ack > acked {
            peer.acked = Far::new(ack);
        }
        Some(ack)
    }

    fn take_seq(&mut self, segment: &Segment, end: End, behind: u32) {
        let own = self.own(end);
        let last = own.last.get();
        let reach = own.relative(behind, last);
        let advance = reach - last;
        let is_jump =
            advance.abs() > JUMP_MAX && (segment.has(TcpFlags::SYN) || segment.has(TcpFlags::RST));
        if is_jump {
            return;
        }
        if segment.has(TcpFlags::FIN) && last == 1 {
            own.last = Far::new(reach);
        } else if own.state == EndState::Reset {
            // What follows a reset says nothing about sizes.
        } else if advance > 0 {
            own.last = Far::new(reach);
        } else if segment.payload > 0 {
            self.scaled(end, 0, b'T');
        }
    }

    /// Whether the end closes with this segment.
    fn change_state(&mut self, segment: &Segment, end: End) -> bool {
        match self.state_of(end) {
            EndState::Inactive => self.leave_inactive(segment, end),
            EndState::SynSent | EndState::SynAckSent => {
                let is_fin = segment.has(TcpFlags::FIN);
                let is_rst = segment.has(TcpFlags::RST);
                if is_fin {
                    self.own(end).set(EndState::Closed);
                }
                if is_rst {
                    self.own(end).set(EndState::Reset);
                }
                is_fin || is_rst
            }
            EndState::Established | EndState::Partial => self.leave_established(segment, end),
            EndState::Closed => {
                let is_peer_closed = self.state_of(other(end)) == EndState::Closed;
                if !segment.has(TcpFlags::RST) || is_peer_closed {
                    return false;
                }
                let own = self.own(end);
                own.set(EndState::Reset);
                let is_new = !own.did_close;
                self.remove_ns = NonZeroU64::new(segment.time_ns + timer::CLOSE_NS);
                is_new
            }
            EndState::Reset => false,
        }
    }

    fn leave_inactive(&mut self, segment: &Segment, end: End) -> bool {
        let mut do_close = false;
        if segment.has(TcpFlags::SYN) {
            match end {
                End::Originator => {
                    let is_ack = segment.has(TcpFlags::ACK);
                    let state = if is_ack { EndState::SynAckSent } else { EndState::SynSent };
                    self.own(end).set(state);
                    self.attempt_ns = NonZeroU64::new(segment.time_ns + timer::ATTEMPT_NS);
                }
                End::Responder => self.responder_syn(segment),
            }
        }
        let end = if self.state_of(end) == EndState::Inactive || !segment.has(TcpFlags::SYN) {
            end
        } else {
            // A flip by a late SYN made it the originator.
            return do_close | self.finish_inactive(segment, end);
        };
        if segment.has(TcpFlags::FIN) || segment.has(TcpFlags::RST) {
            do_close |= self.finish_inactive(segment, end);
        }
        if self.state_of(end) == EndState::Inactive {
            self.become_partial(segment, end);
        }
        do_close
    }

    fn finish_inactive(&mut self, segment: &Segment, end: End) -> bool {
        let (fin, rst) = (segment.has(TcpFlags::FIN), segment.has(TcpFlags::RST));
        if fin {
            self.own(end).set(EndState::Closed);
        }
        if rst {
            self.own(end).set(EndState::Reset);
        }
        fin || rst
    }

    fn responder_syn(&mut self, segment: &Segment) {
        let peer = self.state_of(End::Originator);
        let is_reversed = !segment.has(TcpFlags::ACK)
            && peer == EndState::SynAckSent
            && segment.seq == self.own(End::Responder).start_seq;
        if is_reversed {
            // SYN ACK and SYN came in the wrong order.
            self.facts.put(fact::PARTIAL, false);
            self.flip();
            self.own(End::Responder).set(EndState::Established);
            self.own(End::Originator).set(EndState::Established);
            return;
        }
        if peer == EndState::SynSent {
            self.own(End::Originator).set(EndState::Established);
        }
        self.own(End::Responder).set(EndState::Established);
    }

    fn become_partial(&mut self, segment: &Segment, end: End) {
        let peer = self.state_of(other(end));
        if end == End::Responder && segment.payload == 0 && peer == EndState::SynSent {
            // Some acknowledge a SYN before they answer it.
        } else if segment.has(TcpFlags::ACK) && peer == EndState::Established {
            self.own(end).set(EndState::Established);
            self.facts.put(fact::PARTIAL, false);
        } else {
            self.own(end).set(EndState::Partial);
        }
    }

    fn leave_established(&mut self, segment: &Segment, end: End) -> bool {
        let peer_state = self.state_of(other(end));
        let (fin, rst) = (segment.has(TcpFlags::FIN), segment.has(TcpFlags::RST));
        if segment.has(TcpFlags::SYN)
            && !segment.has(TcpFlags::ACK)
            && self.state_of(end) == EndState::Partial
            && peer_state == EndState::Inactive
        {
            self.own(end).set(EndState::SynSent);
        }
        if fin && !rst {
            self.own(end).set(EndState::Closed);
            let peer = self.own(other(end));
            if peer.state == EndState::Reset && peer.before == EndState::Closed {
                // It sent a FIN and then a RST: that was a normal end after all.
                peer.set(EndState::Closed);
            }
        }
        if rst {
            self.own(end).set(EndState::Reset);
        }
        fin || rst
    }

    /// Payload of `end` up to `ack` was received by the other.
    fn acked(&mut self, end: End, ack: i64) {
        let own = self.own(end);
        let ack = own.fin().filter(|fin| ack >= *fin).map_or(ack, |fin| fin - 1);
        let is_off = self.facts.has(fact::REASSEMBLY_OFF);
        if is_off || (ack <= 2 && self.facts.has(fact::PARTIAL)) {
            return;
        }
        let [originator, responder] = &self.ends;
        let is_ending = self.ends.iter().any(|end| end.has_fin || end.state == EndState::Reset);
        let clean = |state: EndState| matches!(state, EndState::Established | EndState::Closed);
        let is_reported = (originator.state == EndState::Established
            && responder.state == EndState::Established)
            || (clean(originator.state) && clean(responder.state));
        let reassembled = self.own(end).reassembled.get();
        if reassembled < ack && reassembled == 1 && is_ending {
            self.facts.set(fact::REASSEMBLY_OFF);
            return;
        }
        while let Some((_, length)) = self.own(end).next_gap(ack) {
            if is_reported {
                self.own(end).rare_mut().missed_bytes += length.unsigned_abs();
            }
            if self.state_of(end) == EndState::Established
                && self.state_of(other(end)) == EndState::Established
            {
                self.scaled(end, 3, b'G');
            }
        }
    }

    fn take_data(&mut self, end: End, from: i64, length: i64) {
        if self.facts.has(fact::REASSEMBLY_OFF) || from < 0 {
            return;
        }
        let own = self.own(end);
        let to = from + length;
        // What was acknowledged before it came was given up already.
        let acked = own.acked.get();
        if to > acked {
            own.note_data(from.max(acked), to);
        }
        if own.has_no_ack() && own.ahead_bytes() > ABOVE_HOLE_BYTES {
            own.drop_ahead();
            self.facts.set(fact::REASSEMBLY_OFF);
        }
    }

    fn close(&mut self, end: End) {
        let own = self.own(end);
        if own.did_close {
            return;
        }
        own.did_close = true;
        let is_reset = own.state == EndState::Reset;
        let peer = self.own(other(end));
        if is_reset || peer.did_close || peer.state == EndState::Inactive {
            self.remove_ns = NonZeroU64::new(self.last_ns + timer::CLOSE_NS);
        }
    }
}

const fn other(end: End) -> End {
    match end {
        End::Originator => End::Responder,
        End::Responder => End::Originator,
    }
}

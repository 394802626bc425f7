//! From the first FIN to the end.

use super::{
    Half, Session, TcpState,
    seq::{ge, gt, le, lt},
    session::{Context, Handled, Segment},
};
use crate::{Direction, event::Event, packet::TcpFlags};

/// The events of a state: wrong sequence number of a FIN, of an acknowledgement, wrong
/// acknowledgement number.
struct Events {
    fin_seq: Event,
    ack_seq: Event,
    ack: Event,
}

const fn events(state: TcpState) -> Events {
    match state {
        TcpState::FinWait2 => Events {
            fin_seq: Event::StreamFin2FinWrongSeq,
            ack_seq: Event::StreamFin2AckWrongSeq,
            ack: Event::StreamFin2InvalidAck,
        },
        TcpState::CloseWait => Events {
            fin_seq: Event::StreamClosewaitFinOutOfWindow,
            ack_seq: Event::StreamClosewaitAckOutOfWindow,
            ack: Event::StreamClosewaitInvalidAck,
        },
        TcpState::Closing => Events {
            fin_seq: Event::StreamClosingAckWrongSeq,
            ack_seq: Event::StreamClosingAckWrongSeq,
            ack: Event::StreamClosingInvalidAck,
        },
        TcpState::LastAck => Events {
            fin_seq: Event::StreamLastackAckWrongSeq,
            ack_seq: Event::StreamLastackAckWrongSeq,
            ack: Event::StreamLastackInvalidAck,
        },
        TcpState::TimeWait => Events {
            fin_seq: Event::StreamTimewaitAckWrongSeq,
            ack_seq: Event::StreamTimewaitAckWrongSeq,
            ack: Event::StreamTimewaitInvalidAck,
        },
        _ => Events {
            fin_seq: Event::StreamFin1FinWrongSeq,
            ack_seq: Event::StreamFin1AckWrongSeq,
            ack: Event::StreamFin1InvalidAck,
        },
    }
}

impl Session {
    pub(super) fn shutdown(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        let flags = segment.tcp.flags;
        if flags.has(TcpFlags::RST) {
            return self.reset(segment, context);
        }
        let is_fin = flags.has(TcpFlags::FIN);
        if is_fin && matches!(self.state, TcpState::LastAck | TcpState::TimeWait) {
            // Both ends sent theirs. To Suricata what brings one again is nothing of the stream: its
            // payload is that of a packet.
            return Ok(());
        }
        self.check_timestamp(segment, context)?;
        if is_fin && self.state != TcpState::Closing {
            return self.second_fin(segment, context);
        }
        if flags.has(TcpFlags::SYN) {
            return context.refuse(Event::StreamShutdownSynResend);
        }
        if !flags.has(TcpFlags::ACK) {
            return Ok(());
        }
        self.closing_ack(segment, context)
    }

    /// Payload that was sent before, acknowledged or not; noted as an event.
    fn is_repeated(&self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> bool {
        let half = self.half(segment.direction);
        let end = segment.end();
        let is_partly_acked = lt(segment.tcp.seq, half.last_ack) && gt(end, half.last_ack);
        let is_repeated = segment.len() > 0
            && (is_partly_acked || le(end, half.last_ack) || le(end, half.next_seq));
        if is_repeated {
            context.events.set(Event::StreamPktRetransmission);
        }
        is_repeated
    }

    fn second_fin(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let events = events(self.state);
        let tcp = segment.tcp;
        let (own, peer) = (segment.direction, segment.direction.reverse());
        let half = self.half(own);
        // The FIN of the end that has already sent one.
        let is_own = match self.state {
            TcpState::CloseWait => own == Direction::ToServer,
            TcpState::FinWait1 | TcpState::FinWait2 => own == Direction::ToClient,
            _ => true,
        };
        let is_again = self.is_repeated(segment, context)
            || (is_own
                && (segment.end() == half.next_seq
                    || segment.end().wrapping_add(1) == half.next_seq));
        if !is_again {
            let least = half.next_seq.wrapping_sub(1);
            let most = half.last_ack.wrapping_add(half.window);
            if (lt(segment.end(), least) || gt(tcp.seq, most)) && !self.is_midstream {
                return context.refuse(events.fin_seq);
            }
        }
        if self.check_ack(segment, context).is_err() {
            return context.refuse(events.ack);
        }
        if !is_again {
            self.state = match self.state {
                TcpState::CloseWait if own == Direction::ToClient => TcpState::LastAck,
                TcpState::FinWait1 if !tcp.flags.has(TcpFlags::ACK) => TcpState::Closing,
                TcpState::FinWait1 | TcpState::FinWait2 => TcpState::TimeWait,
                other => other,
            };
            let half = self.half_mut(peer);
            if lt(half.next_seq.wrapping_sub(1), tcp.ack) && tcp.flags.has(TcpFlags::ACK) {
                half.next_seq = tcp.ack;
            }
            let half = self.half_mut(own);
            if ge(segment.end(), half.next_seq) {
                half.next_seq = segment.end();
            }
        }
        self.take_ack(segment);
        self.store(segment, context);
        Ok(())
    }

    fn closing_ack(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let events = events(self.state);
        let tcp = segment.tcp;
        let own = segment.direction;
        let is_again = self.is_repeated(segment, context);
        if self.check_ack(segment, context).is_err() {
            return context.refuse(events.ack);
        }
        let half = self.half(own);
        if self.state == TcpState::CloseWait
            && segment.len() > 0
            && le(segment.end(), half.last_ack)
            && !is_again
        {
            return context.refuse(Event::StreamClosewaitPktBeforeLastAck);
        }
        let limit = half.last_ack.wrapping_add(half.window).wrapping_add(1);
        if !is_again && gt(segment.end(), limit) && !self.is_midstream && !self.is_async {
            return context.refuse(events.ack_seq);
        }
        let acked = self.half(own.reverse());
        // The other's FIN counts one.
        let is_all_acked = tcp.ack == acked.next_seq || tcp.ack == acked.next_seq.wrapping_add(1);
        let is_behind = lt(tcp.seq, half.next_seq);
        if !is_again && !is_behind {
            let before = self.state;
            self.state = match (before, own) {
                (TcpState::FinWait1, Direction::ToServer) if is_all_acked => TcpState::FinWait2,
                (TcpState::Closing, _) if is_all_acked => TcpState::TimeWait,
                (TcpState::LastAck, Direction::ToServer) | (TcpState::TimeWait, _)
                    if is_all_acked && segment.len() == 0 =>
                {
                    TcpState::Closed
                }
                (other, _) => other,
            };
            self.is_closed_by_server |= before == TcpState::TimeWait
                && self.state == TcpState::Closed
                && own == Direction::ToClient;
        }
        let (half, peer) = self.pair(own);
        if segment.len() > 0 && ge(segment.end(), half.next_seq) {
            half.next_seq = segment.end();
        }
        if lt(peer.next_seq, tcp.ack) {
            peer.next_seq = tcp.ack;
        }
        self.take_ack(segment);
        self.store(segment, context);
        if self.state == TcpState::Closed {
            self.close(context);
        }
        Ok(())
    }

    /// What one end still sends after the other's reset is the stream's, and looked at no more.
    pub(super) fn closed(&self, segment: &Segment<'_, '_>, context: &mut Context<'_>) {
        let has_reset = |half: &Half| half.flags_seen & TcpFlags::RST != 0;
        let own = self.half(segment.direction);
        let peer = self.half(segment.direction.reverse());
        let is_inline = context.settings.is_inline;
        if segment.len() > 0 && !is_inline && has_reset(peer) && !has_reset(own) {
            context.is_in_stream = true;
        }
    }
}

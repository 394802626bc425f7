//! Established sessions: data, acknowledgements, resets, the first FIN.

use super::{
    Session, TcpState,
    seq::{ge, gt, le, lt},
    session::{Context, Handled, Refused, Segment},
};
use crate::{Direction, event::Event, packet::TcpFlags};

impl Session {
    pub(super) fn established(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        let flags = segment.tcp.flags;
        if flags.has(TcpFlags::RST) {
            return self.reset(segment, context);
        }
        if flags.has(TcpFlags::FIN) {
            self.check_timestamp(segment, context)?;
            return self.fin(segment, context);
        }
        if flags.has(TcpFlags::SYN) {
            return self.late_syn(segment, context);
        }
        if flags.has(TcpFlags::ACK) {
            self.check_timestamp(segment, context)?;
            if segment.direction == Direction::ToClient {
                if self.is_midstream && !self.is_confirmed {
                    // Nothing has told yet how much it may send: what it offers itself will do.
                    let half = self.half_mut(segment.direction);
                    half.window = u32::from(segment.tcp.window) << half.window_scale;
                    half.next_win = half.last_ack.wrapping_add(half.window);
                }
                self.is_confirmed = true;
            }
            // Suricata drops nothing for what is wrong with data and acknowledgements.
            context.is_tolerated = true;
            return self.data(segment, context);
        }
        Ok(())
    }

    /// A reset that the receiver believes.
    pub(super) fn reset(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        self.check_reset(segment, context)?;
        let tcp = segment.tcp;
        let is_acked = tcp.flags.has(TcpFlags::ACK) && self.check_ack(segment, context).is_ok();
        if is_acked {
            self.last_ack(segment.direction.reverse(), tcp.ack);
        }
        self.last_ack(segment.direction, tcp.seq);
        self.note_timestamp(segment);
        let (own, peer) = self.pair(segment.direction);
        own.next_seq = segment.end();
        // Even where the reset acknowledges nothing, as Suricata has it.
        peer.next_seq = tcp.ack;
        self.close(context);
        self.store(segment, context);
        Ok(())
    }

    /// The session is over: what is left may be read.
    pub(super) const fn close(&mut self, context: &mut Context<'_>) {
        self.state = TcpState::Closed;
        context.update = [true, true];
    }

    fn late_syn(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let tcp = segment.tcp;
        let [client, server] = &self.halves;
        if !tcp.flags.has(TcpFlags::ACK) {
            let event = if segment.direction == Direction::ToClient {
                Event::StreamEstSynToclient
            } else if tcp.seq != client.isn {
                Event::StreamEstSynResendDiffSeq
            } else {
                Event::StreamEstSynResend
            };
            return context.refuse(event);
        }
        let event = if segment.direction == Direction::ToServer {
            Event::StreamEstSynackToserver
        } else if tcp.ack != client.last_ack {
            Event::StreamEstSynackResendWithDiffAck
        } else if tcp.seq != server.isn {
            Event::StreamEstSynackResendWithDiffSeq
        } else if self.is_confirmed {
            Event::StreamEstSynackResend
        } else {
            // The last packet of the handshake got lost.
            return Ok(());
        };
        context.refuse(event)
    }

    /// Payload and acknowledgement of an established session.
    fn data(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let tcp = segment.tcp;
        let (own, other) = (segment.direction, segment.direction.reverse());
        let is_probe_acked =
            *other.of(&self.is_probed) && tcp.ack == self.half(other).next_seq.wrapping_add(1);
        *own.of_mut(&mut self.is_probed) = false;
        if is_probe_acked {
            context.events.set(Event::StreamEstAckZwpData);
        } else if self.check_ack(segment, context).is_err() {
            return context.refuse(Event::StreamEstInvalidAck);
        }
        self.check_left_edge(segment, context, Event::StreamEstPktBeforeLastAck)?;
        let is_window_free = self.is_midstream || self.is_async;
        let half = self.half_mut(own);
        if segment.len() == 1 && tcp.seq == half.next_seq && half.window == 0 {
            *own.of_mut(&mut self.is_probed) = true;
            self.store(segment, context);
            return Ok(());
        }
        if ge(segment.end(), half.next_seq) {
            half.next_seq = segment.end();
        }
        if !le(segment.end(), half.next_win) && !is_window_free {
            return context.refuse(Event::StreamEstPacketOutOfWindow);
        }
        self.take_ack(segment);
        self.store(segment, context);
        Ok(())
    }

    /// Takes over acknowledgement, window and time stamp.
    pub(super) fn take_ack(&mut self, segment: &Segment<'_, '_>) {
        let other = segment.direction.reverse();
        if segment.tcp.flags.has(TcpFlags::ACK) {
            self.last_ack(other, segment.tcp.ack);
        }
        self.note_timestamp(segment);
        let peer = self.half_mut(other);
        peer.window = u32::from(segment.tcp.window) << peer.window_scale;
        let next_win = peer.last_ack.wrapping_add(peer.window);
        if gt(next_win, peer.next_win) {
            peer.next_win = next_win;
        }
    }

    /// Nothing before what was acknowledged, but for sessions of which one side is not seen.
    fn check_left_edge(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
        event: Event,
    ) -> Handled {
        let (end, seq) = (segment.end(), segment.tcp.seq);
        let is_async = self.is_async;
        let may_be_async = context.settings.is_async_oneside && self.is_midstream;
        let half = self.half_mut(segment.direction);
        if ge(end, half.last_ack) {
            return Ok(());
        }
        let is_first = half.last_ack == half.isn.wrapping_add(1);
        if is_async || (may_be_async && (half.next_seq == seq || is_first)) {
            self.is_async = true;
            self.last_ack(segment.direction, seq);
            return Ok(());
        }
        // More was acknowledged than was seen, and this is a part of it.
        if gt(half.last_ack, half.next_seq) && gt(end, half.next_seq) {
            return Ok(());
        }
        context.refuse(event)
    }

    /// The first FIN.
    pub(super) fn fin(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let tcp = segment.tcp;
        if self.check_ack(segment, context).is_err() {
            return context.refuse(Event::StreamFinInvalidAck);
        }
        let half = self.half(segment.direction);
        let is_in_window = ge(tcp.seq, half.last_ack) && le(segment.end(), half.next_win);
        if !is_in_window && !self.is_midstream {
            return context.refuse(Event::StreamFinOutOfWindow);
        }
        if tcp.flags.has(TcpFlags::SYN) {
            context.events.set(Event::StreamFinSyn);
            return Err(Refused);
        }
        let (own, peer) = self.pair(segment.direction);
        own.next_seq = segment.end();
        if lt(peer.next_seq, tcp.ack) && tcp.flags.has(TcpFlags::ACK) {
            peer.next_seq = tcp.ack;
        }
        self.state = match segment.direction {
            Direction::ToServer => TcpState::CloseWait,
            Direction::ToClient => {
                own.next_seq = own.next_seq.wrapping_add(1);
                TcpState::FinWait1
            }
        };
        self.take_ack(segment);
        self.store(segment, context);
        Ok(())
    }
}

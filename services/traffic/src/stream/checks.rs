//! What is checked of a segment whatever the state: acknowledgements, time stamps (PAWS, RFC 7323),
//! resets, keep-alives, window updates that are none.

use super::{
    Half, Session, TcpState,
    seq::{ge, gt, le, lt},
    session::{Context, Handled, Refused, Segment},
};
use crate::{config::Policy, event::Event, packet::TcpFlags};

/// A time stamp may not be older than 24 days (RFC 7323 section 5.5); after that it is believed.
const PAWS_S: u32 = 24 * 24 * 60 * 60;
/// How far behind the last a time stamp may lie.
const TIMESTAMP_SLACK: i32 = -1;

impl Session {
    /// Whether the acknowledgement can be one of what `acked` sent.
    pub(super) fn check_ack(
        &self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        if !segment.has(TcpFlags::ACK) {
            return Ok(());
        }
        let acked = self.half(segment.direction.reverse());
        let ack = segment.tcp.ack;
        let is_fine =
            if ack == acked.last_ack || (gt(ack, acked.last_ack) && le(ack, acked.next_win)) {
                true
            } else if lt(ack, acked.last_ack) {
                acked.window == 0 || !lt(ack, acked.last_ack.wrapping_sub(acked.window))
            } else {
                let is_refusal = self.state == TcpState::SynSent
                    && segment.has(TcpFlags::RST)
                    && ack == acked.isn.wrapping_add(1);
                self.is_async || is_refusal
            };
        if is_fine { Ok(()) } else { context.refuse(Event::StreamPktInvalidAck) }
    }

    /// Whether the time stamp is not older than what came before.
    pub(super) fn check_timestamp(
        &self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        let Some((value, _)) = segment.tcp.parsed.timestamps.filter(|_| self.has_timestamps) else {
            return Ok(());
        };
        let own = self.half(segment.direction);
        if value == 0 && !takes_zero(*segment.direction.reverse().of(&segment.policies)) {
            return context.refuse(Event::StreamPktInvalidTimestamp);
        }
        if own.last_ts == 0 {
            return Ok(());
        }
        let age = segment.seconds().wrapping_sub(own.last_ts_s);
        let behind = super::seq::delta(value, own.last_ts);
        if behind < TIMESTAMP_SLACK && age < PAWS_S && own.policy != Some(Policy::HpUx11) {
            return context.refuse(Event::StreamPktInvalidTimestamp);
        }
        Ok(())
    }

    /// Takes over the time stamp of an accepted segment.
    pub(super) fn note_timestamp(&mut self, segment: &Segment<'_, '_>) {
        let seconds = segment.seconds();
        if let Some((value, _)) = segment.tcp.parsed.timestamps.filter(|_| self.has_timestamps) {
            let own = self.half_mut(segment.direction);
            if own.last_ts == 0 || ge(value, own.last_ts) {
                own.last_ts = value;
                own.last_ts_s = seconds;
            }
        }
    }

    /// Whether the receiver would believe the reset: depends on its system.
    pub(super) fn check_reset(
        &self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        if self.is_lossy {
            return Ok(());
        }
        self.check_timestamp(segment, context)?;
        if segment.len() > 0 {
            context.events.set(Event::StreamRstWithData);
        }
        if segment.tcp.ack != 0 && self.check_ack(segment, context).is_err() {
            return context.refuse(Event::StreamRstInvalidAck);
        }
        let (own, seq) = (self.half(segment.direction), segment.tcp.seq);
        if self.is_async {
            return if ge(seq, own.next_seq) { Ok(()) } else { Err(Refused) };
        }
        let receiver = *segment.direction.reverse().of(&segment.policies);
        let is_believed = match receiver {
            Policy::HpUx11 => ge(seq, own.next_seq),
            Policy::OldLinux | Policy::Linux | Policy::Solaris => {
                ge(segment.end(), own.last_ack) && lt(seq, own.next_seq.wrapping_add(own.window))
            }
            _ => seq == own.next_seq,
        };
        if is_believed { Ok(()) } else { Err(Refused) }
    }

    /// Segments that say nothing new: keep-alives and their answers, stale window updates,
    /// acknowledgements of old data. They change nothing.
    pub(super) fn is_idle(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> bool {
        let control = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        let is_pure = segment.tcp.flags.lacks(control);
        let (own, peer) = self.pair(segment.direction);
        if is_pure && is_keep_alive(own, peer, segment) {
            own.is_keep_alive = true;
            return true;
        }
        let is_answer = is_pure && peer.is_keep_alive && is_keep_alive_answer(own, peer, segment);
        peer.is_keep_alive = false;
        own.is_keep_alive = false;
        if is_answer {
            return true;
        }
        if self.is_shutdown_ack(segment) {
            return false;
        }
        if self.is_bad_window_update(segment) {
            context.events.set(Event::StreamPktBadWindowUpdate);
            return true;
        }
        self.is_outdated_ack(segment)
    }

    /// A window that shrinks by more than was acknowledged, with numbers from the future: an attempt to
    /// make the observer drop what follows.
    fn is_bad_window_update(&self, segment: &Segment<'_, '_>) -> bool {
        let control = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        if self.state < TcpState::Established
            || self.state == TcpState::Closed
            || !segment.tcp.flags.lacks(control)
        {
            return false;
        }
        let own = self.half(segment.direction);
        let peer = self.half(segment.direction.reverse());
        let window = u32::from(segment.tcp.window) << peer.window_scale;
        let Some(shrunk) = peer.window.checked_sub(window) else { return false };
        let (seq, ack) = (segment.tcp.seq, segment.tcp.ack);
        let is_ahead = gt(ack, peer.next_seq) && gt(seq, own.next_seq);
        let acked = ack.wrapping_sub(peer.last_ack);
        let allowed = if window > 1024 { acked.saturating_add(32) } else { acked };
        shrunk > segment.len() && is_ahead && shrunk > allowed
    }

    /// The acknowledgement of the other end's FIN, with the numbers behind both FINs.
    fn is_shutdown_ack(&self, segment: &Segment<'_, '_>) -> bool {
        let states = [TcpState::TimeWait, TcpState::CloseWait, TcpState::LastAck];
        states.contains(&self.state)
            && segment.tcp.flags.0 == TcpFlags::ACK
            && segment.len() == 0
            && segment.tcp.seq == self.half(segment.direction).next_seq.wrapping_add(1)
            && segment.tcp.ack == self.half(segment.direction.reverse()).next_seq.wrapping_add(1)
    }

    /// An acknowledgement that came late; its data, if it has any, is still looked at.
    fn is_outdated_ack(&self, segment: &Segment<'_, '_>) -> bool {
        if self.state < TcpState::Established
            || segment.len() > 0
            || !segment.tcp.flags.lacks(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
            || !segment.has(TcpFlags::ACK)
        {
            return false;
        }
        let own = self.half(segment.direction);
        let peer = self.half(segment.direction.reverse());
        lt(segment.tcp.ack, peer.last_ack) && segment.tcp.seq == own.next_seq
    }

    /// Notes segments that repeat what was acknowledged; true if there is nothing new to store.
    pub(super) fn is_spurious(&self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> bool {
        let own = self.half(segment.direction);
        if segment.len() == 0 {
            return false;
        }
        let is_old = !own.is_off() && own.is_before_base(segment.end());
        if is_old || le(segment.end(), own.last_ack) {
            context.events.set(Event::StreamPktSpuriousRetransmission);
        }
        is_old
    }
}

/// Systems to which 0 is a time like any other.
const fn takes_zero(receiver: Policy) -> bool {
    matches!(
        receiver,
        Policy::OldLinux | Policy::Windows | Policy::Vista | Policy::Windows2k3 | Policy::Solaris
    )
}

/// One byte, or none, just before what comes next.
fn is_keep_alive(own: &Half, peer: &Half, segment: &Segment<'_, '_>) -> bool {
    segment.len() <= 1
        && segment.tcp.seq == own.next_seq.wrapping_sub(1)
        && segment.tcp.ack == peer.last_ack
}

fn is_keep_alive_answer(own: &Half, peer: &Half, segment: &Segment<'_, '_>) -> bool {
    segment.len() == 0
        && segment.tcp.window != 0
        && segment.tcp.seq == own.next_seq
        && segment.tcp.ack == peer.last_ack
        && u32::from(segment.tcp.window) << peer.window_scale == peer.window
}

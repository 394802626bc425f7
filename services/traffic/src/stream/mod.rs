//! TCP: the state machine of a session and the bytes of its two streams in order.
//!
//! Follows Suricata: which segments belong to a session, when bytes are acknowledged (only then the
//! application layer and raw inspection see them, unless `inline`), who wins where segments
//! overlap, when a gap is given up. Memory is bounded for each direction and for all together.
//!
//! A stream offset counts bytes of one direction from its first byte, 0; it is 64 bits wide and
//! never wraps. Callers: `engine` writes, inspectors read with [`Session::raw`] or [`Half::chunk`].

mod checks;
mod closing;
mod established;
mod half;
mod handshake;
mod held;
mod memory;
mod overlap;
mod pieces;
pub(crate) mod seq;
mod session;
#[cfg(test)]
mod tests;

pub use half::Half;
pub use session::{Session, TcpState};
pub(crate) use {
    half::Next,
    handshake::Start,
    memory::Memory,
    session::{Context, Refused, Segment},
};

use crate::{event::Event, packet::TcpFlags};

/// Bytes of a stream that raw inspection may look at now.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Stream offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// What is to be given to `raw_done` afterwards.
    pub progress: u64,
}

impl Session {
    /// Takes a segment of a session that exists.
    pub(crate) fn handle(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        self.half_mut(segment.direction).flags_seen |= segment.tcp.flags.0;
        if self.is_async && self.halves.iter().all(|half| half.flags_seen != 0) {
            self.is_async = false;
        }
        if !segment.has(TcpFlags::ACK) && segment.tcp.ack != 0 {
            context.events.set(Event::StreamPktBrokenAck);
        }
        let handled = if self.is_idle(segment, context) || self.is_spurious(segment, context) {
            Ok(())
        } else {
            match self.state {
                TcpState::None | TcpState::SynSent => self.syn_sent(segment, context),
                TcpState::SynReceived => self.syn_received(segment, context),
                TcpState::Established => self.established(segment, context),
                TcpState::FinWait1
                | TcpState::FinWait2
                | TcpState::TimeWait
                | TcpState::LastAck
                | TcpState::CloseWait
                | TcpState::Closing => self.shutdown(segment, context),
                TcpState::Closed => {
                    self.closed(segment, context);
                    Ok(())
                }
            }
        };
        if self.state == TcpState::Closed {
            for half in &mut self.halves {
                half.trigger_raw();
            }
        }
        handled
    }
}

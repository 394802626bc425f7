//! From nothing to established: three-way and four-way handshakes, fast open, sessions picked up in
//! the middle, sessions of which one side is never seen.

use super::{
    Half, Session, TcpState,
    seq::{gt, le},
    session::{Context, Handled, Handshake, Segment},
};
use crate::{Direction, event::Event, packet::TcpFlags};

/// The greatest window scale (RFC 7323 section 2.3); taken for granted where the handshake was missed.
const SCALE_MAX: u8 = 14;

/// What became of a packet without a session.
#[derive(Debug)]
pub(crate) enum Start {
    /// A session; whether client and server of the flow must be exchanged, because a SYN/ACK came
    /// first.
    Session(Box<Session>, bool),
    /// None.
    Nothing,
}

fn scale(value: Option<u8>) -> u8 {
    // Greater values are taken as none at all, as Suricata does.
    value.filter(|scale| *scale <= SCALE_MAX).unwrap_or(0)
}

impl Session {
    /// The first packet of a flow, or one of a flow without a session.
    pub(crate) fn start(segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Start {
        let settings = context.settings;
        let flags = segment.tcp.flags;
        if !flags.has(TcpFlags::ACK) && segment.tcp.ack != 0 {
            context.events.set(Event::StreamPktBrokenAck);
        }
        if flags.has(TcpFlags::RST) {
            context.events.set(Event::StreamRstButNoSession);
            return Start::Nothing;
        }
        let mut session = Box::new(Self::default());
        session.is_async = settings.is_async_oneside;
        let [client, server] = &mut session.halves;
        client.set_raw_min(settings.raw_toserver_bytes_min, settings.is_inline);
        server.set_raw_min(settings.raw_toclient_bytes_min, settings.is_inline);
        let mut is_swapped = false;
        if flags.has(TcpFlags::FIN) {
            if !settings.is_midstream || segment.payload.is_empty() {
                context.events.set(Event::StreamFinButNoSession);
                return Start::Nothing;
            }
            session.pick_up(segment, context, TcpState::FinWait1);
        } else if flags.has(TcpFlags::SYN | TcpFlags::ACK) {
            if !settings.is_midstream && !settings.is_async_oneside {
                return Start::Nothing;
            }
            is_swapped = segment.direction == Direction::ToServer;
            session.pick_up_synack(segment);
        } else if flags.has(TcpFlags::SYN) {
            session.open(segment, context);
        } else if flags.has(TcpFlags::ACK) && settings.is_midstream {
            session.pick_up(segment, context, TcpState::Established);
        } else {
            return Start::Nothing;
        }
        let sender = if is_swapped { segment.direction.reverse() } else { segment.direction };
        session.half_mut(sender).flags_seen |= flags.0;
        Start::Session(session, is_swapped)
    }

    fn open(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) {
        self.state = TcpState::SynSent;
        self.apply_syn(segment);
        if segment.tcp.parsed.is_fast_open {
            self.is_fast_open = true;
            if !segment.payload.is_empty() {
                let client = self.half_mut(segment.direction);
                client.next_seq = client.next_seq.wrapping_add(segment.len());
                self.store(segment, context);
            }
        }
    }

    fn apply_syn(&mut self, segment: &Segment<'_, '_>) {
        let tcp = segment.tcp;
        let seconds = segment.seconds();
        self.has_client_scale = tcp.parsed.window_scale.is_some();
        let (client, server) = self.pair(segment.direction);
        client.set_isn(tcp.seq);
        client.next_seq = tcp.seq.wrapping_add(1);
        client.has_timestamps = tcp.parsed.timestamps.is_some();
        client.last_ts = tcp.parsed.timestamps.map_or(0, |stamps| stamps.0);
        client.last_ts_s = seconds;
        server.window = u32::from(tcp.window);
        server.window_scale = scale(tcp.parsed.window_scale);
    }

    /// Data without a handshake: whoever sends it first is the client.
    fn pick_up(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>, state: TcpState) {
        let tcp = segment.tcp;
        let seconds = segment.seconds();
        self.is_midstream = true;
        self.state = state;
        self.has_timestamps = tcp.parsed.timestamps.is_some();
        let (own, peer) = self.pair(segment.direction);
        own.window_scale = SCALE_MAX;
        peer.window_scale = SCALE_MAX;
        own.set_isn(tcp.seq.wrapping_sub(1));
        let fin = u32::from(state == TcpState::FinWait1);
        own.next_seq = segment.end().wrapping_add(fin);
        own.window = u32::from(tcp.window) << SCALE_MAX;
        own.last_ack = tcp.seq;
        own.next_win = own.last_ack.wrapping_add(own.window);
        peer.set_isn(tcp.ack.wrapping_sub(1));
        peer.next_seq = tcp.ack;
        peer.last_ack = tcp.ack;
        peer.next_win = tcp.ack;
        if let Some((value, echoed)) = tcp.parsed.timestamps {
            (own.last_ts, own.last_ts_s) = (value, seconds);
            peer.last_ts = echoed;
        }
        self.store(segment, context);
    }

    /// A SYN/ACK without its SYN: its sender is the server.
    fn pick_up_synack(&mut self, segment: &Segment<'_, '_>) {
        let tcp = segment.tcp;
        let seconds = segment.seconds();
        self.is_midstream = true;
        self.is_midstream_synack = true;
        self.state = TcpState::SynReceived;
        self.has_timestamps = tcp.parsed.timestamps.is_some();
        let [client, server] = &mut self.halves;
        server.set_isn(tcp.seq);
        server.next_seq = tcp.seq.wrapping_add(1);
        server.window = u32::from(tcp.window);
        client.set_isn(tcp.ack.wrapping_sub(1));
        client.next_seq = tcp.ack;
        client.last_ack = tcp.ack;
        client.window = u32::from(tcp.window);
        client.next_win = client.last_ack.wrapping_add(client.window);
        server.last_ack = tcp.seq;
        server.next_win = server.last_ack.wrapping_add(server.window);
        if tcp.parsed.window_scale.is_some() {
            client.window_scale = scale(tcp.parsed.window_scale);
            server.window_scale = SCALE_MAX;
        }
        if let Some((value, echoed)) = tcp.parsed.timestamps {
            (server.last_ts, server.last_ts_s) = (value, seconds);
            client.last_ts = echoed;
        }
    }

    pub(super) fn syn_sent(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        let flags = segment.tcp.flags;
        let is_to_client = segment.direction == Direction::ToClient;
        if flags.has(TcpFlags::SYN | TcpFlags::ACK) {
            return if is_to_client {
                self.synack(segment, context)
            } else {
                self.four_way_synack(segment, context)
            };
        }
        if flags.has(TcpFlags::RST) {
            self.check_reset(segment, context)?;
            let client = self.half(Direction::ToServer);
            let is_own = segment.tcp.seq == client.isn
                && segment.tcp.window == 0
                && segment.tcp.ack == client.isn.wrapping_add(1);
            if is_to_client || is_own {
                self.close(context);
            }
            return Ok(());
        }
        if flags.has(TcpFlags::FIN) {
            return Ok(());
        }
        if flags.has(TcpFlags::SYN) {
            if is_to_client {
                self.four_way_syn(segment);
            } else {
                self.syn_again(segment, context)?;
            }
            return Ok(());
        }
        if flags.has(TcpFlags::ACK) && context.settings.is_async_oneside {
            return self.async_ack(segment, context);
        }
        Ok(())
    }

    /// Another SYN: the last one is the most likely to count, but a SYN/ACK may answer an older one.
    fn syn_again(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let client = self.half(Direction::ToServer);
        if client.isn != segment.tcp.seq {
            if self.others().len() >= usize::from(context.settings.syns_max) {
                return context.refuse(Event::Stream3whsSynFlood);
            }
            let server = self.half(Direction::ToClient);
            let old = Handshake {
                seq: client.isn,
                ack: 0,
                window: u16::try_from(server.window).unwrap_or(u16::MAX),
                window_scale: self.has_client_scale.then_some(server.window_scale),
                timestamp: client.has_timestamps.then_some(client.last_ts),
            };
            self.handshakes.get_or_insert_default().push(old);
        }
        self.apply_syn(segment);
        Ok(())
    }

    fn synack(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let ack = segment.tcp.ack;
        let client = self.half(Direction::ToServer);
        let is_right =
            ack == client.isn.wrapping_add(1) || (self.is_fast_open && ack == client.next_seq);
        if self.is_fast_open && is_right && ack != client.next_seq {
            context.events.set(Event::Stream3whsSynackTfoDataIgnored);
            self.half_mut(Direction::ToServer).next_seq = ack;
        }
        if !is_right {
            // Perhaps it answers an earlier SYN.
            let found = self.others().iter().copied().find(|old| old.seq.wrapping_add(1) == ack);
            let Some(old) = found else {
                return context.refuse(Event::Stream3whsSynackWithWrongAck);
            };
            self.has_client_scale = old.window_scale.is_some();
            let [client, server] = &mut self.halves;
            client.set_isn(old.seq);
            client.next_seq = old.seq.wrapping_add(1);
            client.has_timestamps = old.timestamp.is_some();
            client.last_ts = old.timestamp.unwrap_or(0);
            server.window = u32::from(old.window);
            server.window_scale = old.window_scale.unwrap_or(0);
        }
        self.handshakes = None;
        self.apply_synack(&handshake(segment), segment.seconds());
        Ok(())
    }

    fn apply_synack(&mut self, synack: &Handshake, seconds: u32) {
        self.state = TcpState::SynReceived;
        self.is_four_way = false;
        let has_scale = self.has_client_scale && synack.window_scale.is_some();
        let [client, server] = &mut self.halves;
        server.set_isn(synack.seq);
        server.next_seq = synack.seq.wrapping_add(1);
        server.last_ack = server.next_seq;
        client.window = u32::from(synack.window);
        client.last_ack = synack.ack;
        client.window_scale = if has_scale { scale(synack.window_scale) } else { 0 };
        if !has_scale {
            server.window_scale = 0;
        }
        server.next_win = server.last_ack.wrapping_add(server.window);
        client.next_win = client.last_ack.wrapping_add(client.window);
        match synack.timestamp.filter(|_| client.has_timestamps) {
            Some(value) => {
                (server.last_ts, server.last_ts_s) = (value, seconds);
                self.has_timestamps = true;
            }
            None => {
                client.last_ts = 0;
                server.last_ts = 0;
            }
        }
    }

    /// A SYN from the other end, too: simultaneous open, or a "split handshake".
    fn four_way_syn(&mut self, segment: &Segment<'_, '_>) {
        self.is_four_way = true;
        let tcp = segment.tcp;
        let seconds = segment.seconds();
        self.has_client_scale = tcp.parsed.window_scale.is_some();
        let [_, server] = &mut self.halves;
        server.set_isn(tcp.seq);
        server.next_seq = tcp.seq.wrapping_add(1);
        server.window = u32::from(tcp.window);
        server.window_scale = scale(tcp.parsed.window_scale);
        server.has_timestamps = tcp.parsed.timestamps.is_some();
        server.last_ts = tcp.parsed.timestamps.map_or(0, |stamps| stamps.0);
        server.last_ts_s = seconds;
    }

    fn four_way_synack(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        if !self.is_four_way {
            return context.refuse(Event::Stream3whsSynackInWrongDirection);
        }
        let tcp = segment.tcp;
        let has_scale = self.has_client_scale;
        let [client, server] = &mut self.halves;
        if tcp.ack != server.isn.wrapping_add(1) {
            return context.refuse(Event::Stream4whsSynackWithWrongAck);
        }
        if tcp.seq != client.isn {
            return context.refuse(Event::Stream4whsSynackWithWrongSyn);
        }
        self.state = TcpState::SynReceived;
        client.next_seq = client.isn.wrapping_add(1);
        server.window = u32::from(tcp.window);
        server.last_ack = tcp.ack;
        client.last_ack = client.next_seq;
        server.window_scale = if has_scale { scale(tcp.parsed.window_scale) } else { 0 };
        client.next_win = client.last_ack.wrapping_add(client.window);
        server.next_win = server.last_ack.wrapping_add(server.window);
        match tcp.parsed.timestamps.filter(|_| server.has_timestamps) {
            Some((value, _)) => {
                client.last_ts = value;
                self.has_timestamps = true;
            }
            None => {
                client.last_ts = 0;
                server.last_ts = 0;
            }
        }
        Ok(())
    }

    /// SYN and then an acknowledgement by the same end: the other side is never seen.
    fn async_ack(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let tcp = segment.tcp;
        if tcp.seq != self.half(Direction::ToServer).next_seq {
            return context.refuse(Event::Stream3whsAsyncWrongSeq);
        }
        self.is_async = true;
        self.state = TcpState::Established;
        self.handshakes = None;
        let has_scale = self.has_client_scale;
        let [client, server] = &mut self.halves;
        client.window = u32::from(tcp.window);
        client.last_ack = tcp.seq;
        client.next_win = client.last_ack.wrapping_add(client.window);
        server.set_isn(tcp.ack.wrapping_sub(1));
        server.next_seq = tcp.ack;
        server.last_ack = tcp.ack;
        server.next_win = tcp.ack;
        if has_scale {
            client.window_scale = SCALE_MAX;
        }
        self.has_timestamps = tcp.parsed.timestamps.is_some() && client.has_timestamps;
        client.next_seq = client.next_seq.wrapping_add(segment.len());
        self.store(segment, context);
        Ok(())
    }

    pub(super) fn syn_received(
        &mut self,
        segment: &Segment<'_, '_>,
        context: &mut Context<'_>,
    ) -> Handled {
        let flags = segment.tcp.flags;
        let is_to_client = segment.direction == Direction::ToClient;
        if flags.has(TcpFlags::RST) {
            self.check_reset(segment, context)?;
            let receiver = *segment.direction.reverse().of(&segment.policies);
            use crate::config::Policy::{Linux, OldLinux, Solaris};
            if !(self.is_evasive && matches!(receiver, Linux | OldLinux | Solaris)) {
                self.note_timestamp(segment);
                self.close(context);
            }
            return Ok(());
        }
        if flags.has(TcpFlags::FIN) {
            self.check_timestamp(segment, context)?;
            return self.fin(segment, context);
        }
        if flags.has(TcpFlags::SYN | TcpFlags::ACK) {
            return self.synack_again(segment, context);
        }
        if flags.has(TcpFlags::SYN) {
            return if is_to_client {
                context.refuse(Event::Stream3whsSynToclientOnSynRecv)
            } else if segment.tcp.seq != self.half(Direction::ToServer).isn {
                context.refuse(Event::Stream3whsSynResendDiffSeqOnSynRecv)
            } else {
                Ok(())
            };
        }
        if !flags.has(TcpFlags::ACK) {
            return Ok(());
        }
        self.choose_synack(segment);
        self.check_timestamp(segment, context)?;
        if self.is_four_way && is_to_client {
            return self.four_way_ack(segment, context);
        }
        if is_to_client
            && context.settings.is_inline
            && !self.is_midstream_synack
            && !self.is_fast_open
        {
            let event = if segment.len() > 0
                && segment.tcp.ack == self.halves[0].last_ack
                && segment.tcp.seq == self.halves[1].next_seq
            {
                Event::Stream3whsAckDataInject
            } else {
                Event::Stream3whsAckInWrongDir
            };
            return context.refuse(event);
        }
        self.third_ack(segment, context)
    }

    fn synack_again(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        if segment.direction == Direction::ToServer {
            return context.refuse(Event::Stream3whsSynackToserverOnSynRecv);
        }
        if segment.tcp.ack != self.half(Direction::ToServer).last_ack {
            return context.refuse(Event::Stream3whsSynackResendWithDiffAck);
        }
        let is_known = segment.tcp.seq == self.half(Direction::ToClient).isn
            || self.others().iter().any(|old| old.seq == segment.tcp.seq);
        if is_known {
            return Ok(());
        }
        if self.others().len() >= usize::from(context.settings.synacks_max) {
            return context.refuse(Event::Stream3whsSynackFlood);
        }
        self.handshakes.get_or_insert_default().push(handshake(segment));
        Ok(())
    }

    /// If several SYN/ACKs came, the acknowledgement tells which one the client took.
    fn choose_synack(&mut self, segment: &Segment<'_, '_>) {
        let chosen =
            self.others().iter().copied().find(|old| {
                old.seq.wrapping_add(1) == segment.tcp.ack && old.ack == segment.tcp.seq
            });
        if let Some(chosen) = chosen {
            self.apply_synack(&chosen, segment.seconds());
        }
    }

    fn four_way_ack(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        if segment.tcp.seq != self.half(Direction::ToClient).next_seq {
            return context.refuse(Event::Stream4whsWrongSeq);
        }
        if self.check_ack(segment, context).is_err() {
            return context.refuse(Event::Stream4whsInvalidAck);
        }
        self.note_timestamp(segment);
        self.last_ack(Direction::ToServer, segment.tcp.ack);
        let (server, client) = self.pair(segment.direction);
        server.next_seq = segment.end();
        offer(client, segment);
        self.become_established(segment, context);
        Ok(())
    }

    /// The third packet of the handshake, or what comes in its place when packets were lost.
    fn third_ack(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) -> Handled {
        let tcp = segment.tcp;
        let is_to_client = segment.direction == Direction::ToClient;
        let (is_midstream, is_midstream_synack) = (self.is_midstream, self.is_midstream_synack);
        let is_fast_open = self.is_fast_open;
        let [client, server] = &mut self.halves;
        let is_right_ack = tcp.ack == server.next_seq;
        if tcp.seq == client.next_seq && is_right_ack {
            server.last_ack = tcp.ack;
            client.next_seq = segment.end();
            offer(server, segment);
            if is_midstream {
                offer(client, segment);
                if !is_midstream_synack {
                    (server.window_scale, client.window_scale) = (SCALE_MAX, SCALE_MAX);
                }
            }
        } else if context.settings.is_async_oneside && tcp.seq == server.next_seq {
            server.next_seq = server.next_seq.wrapping_add(segment.len());
            server.last_ack = tcp.seq;
            client.window = u32::from(tcp.window) << client.window_scale;
            client.last_ack = tcp.ack;
            if is_midstream {
                server.window = u32::from(tcp.window);
                server.next_win = server.last_ack.wrapping_add(server.window);
                (server.window_scale, client.window_scale) = (SCALE_MAX, SCALE_MAX);
            }
            self.is_async = true;
        } else if tcp.seq == client.next_seq {
            self.is_evasive = true;
            return context.refuse(Event::Stream3whsRightSeqWrongAckEvasion);
        } else if is_to_client
            && !context.settings.is_inline
            && gt(tcp.seq, client.next_seq)
            && gt(tcp.ack, client.last_ack)
        {
            client.last_ack = tcp.ack;
            server.next_seq = segment.end();
            offer(client, segment);
            server.next_win = server.last_ack.wrapping_add(server.window);
        } else if gt(tcp.seq, client.next_seq) && le(tcp.seq, client.next_win) && is_right_ack {
            client.next_seq = segment.end();
            server.last_ack = tcp.ack;
            offer(server, segment);
            if is_midstream {
                (server.window_scale, client.window_scale) = (SCALE_MAX, SCALE_MAX);
            }
        } else if (is_to_client || is_fast_open)
            && tcp.ack == client.last_ack
            && tcp.seq == server.next_seq
        {
            server.next_seq = segment.end();
            server.window = u32::from(tcp.window) << server.window_scale;
            server.next_win = server.last_ack.wrapping_add(server.window);
        } else {
            return context.refuse(Event::Stream3whsWrongSeqWrongAck);
        }
        self.note_timestamp(segment);
        self.become_established(segment, context);
        Ok(())
    }

    fn become_established(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) {
        self.state = TcpState::Established;
        self.handshakes = None;
        self.store(segment, context);
    }
}

/// The window that `segment` offers to the other end.
pub(super) fn offer(half: &mut Half, segment: &Segment<'_, '_>) {
    half.window = u32::from(segment.tcp.window) << half.window_scale;
    half.next_win = half.last_ack.wrapping_add(half.window);
}

fn handshake(segment: &Segment<'_, '_>) -> Handshake {
    let tcp = segment.tcp;
    Handshake {
        seq: tcp.seq,
        ack: tcp.ack,
        window: tcp.window,
        window_scale: tcp.parsed.window_scale,
        timestamp: tcp.parsed.timestamps.map(|stamps| stamps.0),
    }
}

//! Reassembly against a model, and the state machine packet by packet.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Context, Half, Memory, Next, Segment, Session, Start, TcpState, half::Next as AppNext, seq,
};
use crate::{
    Direction,
    config::{self, Policy},
    event::{Event, Events},
    packet::{Tcp, TcpFlags, TcpOptions},
};

const POLICIES: [Policy; 15] = [
    Policy::Bsd,
    Policy::BsdRight,
    Policy::OldLinux,
    Policy::Linux,
    Policy::OldSolaris,
    Policy::Solaris,
    Policy::HpUx10,
    Policy::HpUx11,
    Policy::Irix,
    Policy::MacOs,
    Policy::Windows,
    Policy::Vista,
    Policy::Windows2k3,
    Policy::First,
    Policy::Last,
];

/// Close to the wrap of sequence numbers, so that every test crosses it.
const ISN: u32 = u32::MAX - 20;

struct Stream {
    half: Half,
    memory: Memory,
    settings: config::Stream,
    events: Events,
}

impl Stream {
    fn new(policy: Policy) -> Self {
        let mut half = Half::default();
        half.set_isn(ISN);
        half.policy = Some(policy);
        half.last_ack = ISN.wrapping_add(1);
        let settings = config::Stream::default();
        Self { half, memory: Memory::default(), settings, events: Events::default() }
    }

    fn insert(&mut self, offset: u64, data: &[u8]) {
        let seq = ISN.wrapping_add(1).wrapping_add(offset as u32);
        self.half.insert(seq, data, &self.settings, &mut self.memory, &mut self.events);
    }

    fn ack(&mut self, offset: u64) {
        self.half.last_ack = ISN.wrapping_add(1).wrapping_add(offset as u32);
        self.half.next_seq = self.half.last_ack;
    }

    /// What the application layer gets; gaps as dots.
    fn read(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let (count, is_gap) = match self.half.app_next(false) {
                Some(Next::Data(bytes)) => {
                    out.extend_from_slice(bytes);
                    (bytes.len() as u64, false)
                }
                Some(AppNext::Gap(length)) => {
                    out.extend(std::iter::repeat_n(b'.', length as usize));
                    (length, true)
                }
                None => return out,
            };
            self.half.app_advance(count, is_gap, &mut self.memory);
            self.half.slide(false, false, &self.settings, &mut self.memory);
        }
    }

    fn text(policy: Policy, pieces: &[(u64, &str)]) -> String {
        let mut stream = Self::new(policy);
        for (offset, data) in pieces {
            stream.insert(*offset, data.as_bytes());
        }
        stream.ack(stream.half.end());
        String::from_utf8(stream.read()).unwrap()
    }
}

#[test]
fn overlap_that_begins_before_goes_to_the_new_or_stays() {
    for policy in POLICIES {
        let text = Stream::text(policy, &[(2, "AAAA"), (0, "bbbb")]);
        let is_new = matches!(
            policy,
            Policy::Bsd
                | Policy::HpUx10
                | Policy::Irix
                | Policy::Windows
                | Policy::Windows2k3
                | Policy::OldLinux
                | Policy::Linux
                | Policy::MacOs
                | Policy::Last
        );
        assert_eq!(text, if is_new { "bbbbAA" } else { "bbAAAA" }, "{policy:?}");
    }
}

#[test]
fn overlap_with_the_same_start_and_a_later_end() {
    for policy in POLICIES {
        let text = Stream::text(policy, &[(0, "AA"), (0, "bbbb")]);
        let is_new = matches!(
            policy,
            Policy::Linux | Policy::OldLinux | Policy::Solaris | Policy::HpUx11 | Policy::Last
        );
        assert_eq!(text, if is_new { "bbbb" } else { "AAbb" }, "{policy:?}");
    }
}

#[test]
fn an_exact_repetition_with_other_bytes() {
    for policy in POLICIES {
        let text = Stream::text(policy, &[(0, "AAAA"), (0, "bbbb")]);
        let is_new =
            matches!(policy, Policy::OldLinux | Policy::Solaris | Policy::HpUx11 | Policy::Last);
        assert_eq!(text, if is_new { "bbbb" } else { "AAAA" }, "{policy:?}");
    }
}

#[test]
fn different_bytes_are_noted_and_the_same_are_not() {
    let mut stream = Stream::new(Policy::Bsd);
    stream.insert(0, b"abcd");
    stream.insert(2, b"cdef");
    assert!(!stream.events.has(Event::StreamReassemblyOverlapDifferentData));
    stream.insert(2, b"cX");
    assert!(stream.events.has(Event::StreamReassemblyOverlapDifferentData));
}

#[test]
fn nothing_is_read_before_it_is_acknowledged() {
    let mut stream = Stream::new(Policy::Bsd);
    stream.insert(0, b"secret");
    assert_eq!(stream.read(), b"");
    stream.ack(3);
    assert_eq!(stream.read(), b"sec");
    stream.ack(6);
    assert_eq!(stream.read(), b"ret");
    assert_eq!(stream.memory.used, 0, "what is read is freed");
}

#[test]
fn what_is_acknowledged_but_never_came_is_a_gap() {
    let mut stream = Stream::new(Policy::Bsd);
    stream.insert(0, b"ab");
    stream.insert(5, b"fg");
    stream.ack(2);
    assert_eq!(stream.read(), b"ab");
    stream.ack(7);
    assert_eq!(stream.read(), b"...fg");
    assert!(stream.half.has_gap());
    assert_eq!((stream.memory.counters.gaps, stream.memory.counters.gap_bytes), (1, 3));
}

#[test]
fn raw_inspection_waits_for_a_chunk_or_a_trigger() {
    let mut stream = Stream::new(Policy::Bsd);
    stream.half.set_raw_min(8, false);
    stream.insert(0, b"abcd");
    stream.ack(4);
    assert!(stream.half.raw(false).is_none(), "too little");
    stream.half.trigger_raw();
    let raw = stream.half.raw(false).unwrap();
    assert_eq!((raw.offset, raw.bytes, raw.progress), (0, b"abcd".as_slice(), 4));
    stream.half.raw_done(4, false);
    stream.insert(4, b"efghijkl");
    stream.ack(12);
    let raw = stream.half.raw(false).unwrap();
    assert_eq!((raw.offset, raw.bytes), (4, b"efghijkl".as_slice()));
    stream.half.raw_done(raw.progress, false);
    assert!(stream.half.raw(false).is_none());
}

#[test]
fn the_depth_ends_a_stream() {
    let mut stream = Stream::new(Policy::Bsd);
    stream.settings.depth_bytes = 4;
    stream.insert(0, b"abcd");
    stream.insert(4, b"e");
    assert!(stream.half.is_depth_reached());
    assert!(stream.events.has(Event::StreamReassemblyDepthReached));
    assert_eq!(stream.memory.counters.depth, 1);
}

/// A byte stays if any piece that covers it wins over the new one; all else is new.
fn model(policy: Policy, pieces: &[(u64, Vec<u8>)]) -> BTreeMap<u64, u8> {
    let mut bytes = BTreeMap::new();
    let mut seen: Vec<std::ops::Range<u64>> = Vec::new();
    for (start, data) in pieces {
        let new = *start..start + data.len() as u64;
        for (at, byte) in (new.start..).zip(data) {
            let mut covering = seen.iter().filter(|old| old.contains(&at));
            if covering.all(|old| super::overlap::is_new_used(policy, &new, old)) {
                bytes.insert(at, *byte);
            }
        }
        seen.push(new);
    }
    bytes
}

fn pieces() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    prop::collection::vec((0..60u64, prop::collection::vec(any::<u8>(), 1..12)), 1..24)
}

proptest! {
    #[test]
    fn overlaps_are_as_in_the_model(pieces in pieces(), policy in prop::sample::select(&POLICIES)) {
        let mut stream = Stream::new(policy);
        for (start, data) in &pieces {
            stream.insert(*start, data);
        }
        let expected = model(policy, &pieces);
        let mut found = BTreeMap::new();
        let mut at = 0;
        while let Some((start, bytes)) = stream.half.chunk(at) {
            found.extend((start..).zip(bytes.iter().copied()));
            at = start + bytes.len() as u64;
            // A chunk ends where a hole begins.
            prop_assert!(!expected.contains_key(&at));
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_order_gives_the_stream(
        cuts in prop::collection::vec((0..200usize, 1..40usize), 1..80),
        acks in prop::collection::vec(0..240u64, 1..20),
    ) {
        let whole: Vec<u8> = (0..240).map(|byte| byte as u8).collect();
        let mut stream = Stream::new(Policy::Linux);
        let mut read = Vec::new();
        let mut acks = acks.into_iter();
        for (start, length) in cuts {
            let end = (start + length).min(whole.len());
            stream.insert(start as u64, &whole[start..end]);
            // Only what is there is acknowledged: no gaps.
            if let Some(ack) = acks.next()
                && ack >= stream.half.acked()
            {
                let there = stream.half.chunk(read.len() as u64)
                    .filter(|(from, _)| *from == read.len() as u64)
                    .map_or(read.len(), |(from, bytes)| from as usize + bytes.len());
                stream.ack(ack.min(there as u64).max(stream.half.acked()));
            }
            read.extend(stream.read());
            prop_assert_eq!(&read[..], &whole[..read.len()]);
        }
        let end = stream.half.end();
        stream.insert(0, &whole);
        stream.ack(240);
        read.extend(stream.read());
        prop_assert!(end <= 240);
        prop_assert_eq!(read, whole);
        prop_assert_eq!(stream.memory.used, 0);
    }

    #[test]
    fn memory_stays_within_its_limits(pieces in prop::collection::vec(
        (any::<u32>(), 0..3000usize, any::<u16>()), 1..200)
    ) {
        let mut stream = Stream::new(Policy::First);
        stream.settings = config::Stream {
            bytes_max: 20_000,
            half_bytes_max: 16_000,
            segments_max: 50,
            depth_bytes: 0,
            ..config::Stream::default()
        };
        for (offset, length, ack) in pieces {
            stream.insert(u64::from(offset % 40_000), &vec![1; length]);
            stream.half.last_ack = ISN.wrapping_add(u32::from(ack));
            stream.half.next_seq = stream.half.last_ack;
            let _ = stream.read();
            prop_assert!(stream.memory.used <= 20_000);
            prop_assert!(stream.half.segments().len() <= 50);
            prop_assert!(stream.half.held_bytes() <= 16_000);
        }
        stream.half.stop(&mut stream.memory);
        prop_assert_eq!(stream.memory.used, 0);
    }
}

#[test]
fn sequence_numbers_wrap() {
    assert!(seq::lt(u32::MAX, 0) && seq::gt(5, u32::MAX - 5));
    assert!(seq::le(7, 7) && seq::ge(7, 7));
}

/// A session and what it said.
struct Talk {
    session: Option<Box<Session>>,
    memory: Memory,
    settings: config::Stream,
    events: Events,
    is_swapped: bool,
}

impl Talk {
    fn new(settings: config::Stream) -> Self {
        let (memory, events) = (Memory::default(), Events::default());
        Self { session: None, memory, settings, events, is_swapped: false }
    }

    /// One segment: direction, flags, seq, ack, payload. True if it was taken.
    fn say(&mut self, direction: Direction, flags: u8, seq: u32, ack: u32, data: &str) -> bool {
        let tcp = Tcp {
            source: 1,
            destination: 2,
            seq,
            ack,
            reserved: 0,
            flags: TcpFlags(flags),
            window: 8192,
            urgent: 0,
            header: &[],
            options: &[],
            parsed: TcpOptions::default(),
        };
        let segment = Segment {
            time_ns: 1,
            direction,
            tcp: &tcp,
            payload: data.as_bytes(),
            policies: [Policy::Bsd; 2],
        };
        self.events = Events::default();
        let mut context = Context {
            settings: &self.settings,
            memory: &mut self.memory,
            events: &mut self.events,
            update: [false; 2],
            is_in_stream: false,
            is_tolerated: false,
        };
        match &mut self.session {
            Some(session) => session.handle(&segment, &mut context).is_ok(),
            None => match Session::start(&segment, &mut context) {
                Start::Session(session, is_swapped) => {
                    self.is_swapped = is_swapped;
                    self.session = Some(session);
                    true
                }
                Start::Nothing => false,
            },
        }
    }

    fn client(&mut self, flags: u8, seq: u32, ack: u32, data: &str) -> bool {
        self.say(Direction::ToServer, flags, seq, ack, data)
    }

    fn server(&mut self, flags: u8, seq: u32, ack: u32, data: &str) -> bool {
        self.say(Direction::ToClient, flags, seq, ack, data)
    }

    fn state(&self) -> TcpState {
        self.session.as_ref().map_or(TcpState::None, |session| session.state)
    }

    fn open(settings: config::Stream) -> Self {
        let mut talk = Self::new(settings);
        assert!(talk.client(SYN, 100, 0, ""));
        assert!(talk.server(SYN | ACK, 500, 101, ""));
        assert!(talk.client(ACK, 101, 501, ""));
        assert_eq!(talk.state(), TcpState::Established);
        talk
    }

    fn sent(&self, direction: Direction) -> &[u8] {
        let session = self.session.as_ref().unwrap();
        session.half(direction).chunk(0).map_or(&[], |(_, bytes)| bytes)
    }
}

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN;
const RST: u8 = TcpFlags::RST;

#[test]
fn from_handshake_to_end() {
    let mut talk = Talk::open(config::Stream::default());
    assert!(talk.client(ACK, 101, 501, "GET"));
    assert!(talk.server(ACK, 501, 104, "OK"));
    assert!(talk.client(ACK, 104, 503, ""));
    assert_eq!(talk.sent(Direction::ToServer), b"GET");
    assert_eq!(talk.sent(Direction::ToClient), b"OK");
    assert!(talk.client(FIN | ACK, 104, 503, ""));
    assert_eq!(talk.state(), TcpState::CloseWait);
    assert!(talk.server(FIN | ACK, 503, 105, ""));
    assert_eq!(talk.state(), TcpState::LastAck);
    assert!(talk.client(ACK, 105, 504, ""));
    assert_eq!(talk.state(), TcpState::Closed);
}

#[test]
fn the_server_may_close_first() {
    let mut talk = Talk::open(config::Stream::default());
    assert!(talk.server(FIN | ACK, 501, 101, ""));
    assert_eq!(talk.state(), TcpState::FinWait1);
    assert!(talk.client(ACK, 101, 502, ""));
    assert_eq!(talk.state(), TcpState::FinWait2);
    assert!(talk.client(FIN | ACK, 101, 502, ""));
    assert_eq!(talk.state(), TcpState::TimeWait);
    assert!(talk.server(ACK, 502, 102, ""));
    assert_eq!(talk.state(), TcpState::Closed);
}

#[test]
fn a_reset_must_have_the_right_number() {
    let mut talk = Talk::open(config::Stream::default());
    assert!(!talk.client(RST, 9999, 0, ""));
    assert_eq!(talk.state(), TcpState::Established);
    assert!(talk.client(RST, 101, 0, ""));
    assert_eq!(talk.state(), TcpState::Closed);
}

#[test]
fn what_lies_outside_the_window_is_refused() {
    let mut talk = Talk::open(config::Stream::default());
    assert!(!talk.client(ACK, 101 + 9000, 501, "far"));
    assert!(talk.events.has(Event::StreamEstPacketOutOfWindow));
    assert!(!talk.client(ACK, 101, 501 + 100_000, "x"));
    assert!(talk.events.has(Event::StreamEstInvalidAck));
}

#[test]
fn without_a_handshake_midstream_decides() {
    let mut talk = Talk::new(config::Stream::default());
    assert!(!talk.client(ACK, 7, 9, "data"));
    let mut talk = Talk::new(config::Stream { is_midstream: true, ..config::Stream::default() });
    assert!(talk.client(ACK, 7, 9, "data"));
    assert!(talk.session.as_ref().unwrap().is_midstream);
    assert_eq!(talk.state(), TcpState::Established);
    assert_eq!(talk.sent(Direction::ToServer), b"data");
    let mut talk = Talk::new(config::Stream { is_midstream: true, ..config::Stream::default() });
    assert!(talk.client(SYN | ACK, 7, 9, ""));
    assert!(talk.is_swapped, "who sends SYN ACK is the server");
}

#[test]
fn one_side_alone_is_followed_if_asked_for() {
    let settings = config::Stream { is_async_oneside: true, ..config::Stream::default() };
    let mut talk = Talk::new(settings);
    assert!(talk.client(SYN, 100, 0, ""));
    assert!(talk.client(ACK, 101, 501, "GET"));
    assert_eq!(talk.state(), TcpState::Established);
    assert!(talk.client(ACK, 104, 600, " /"));
    assert_eq!(talk.sent(Direction::ToServer), b"GET /");
}

#[test]
fn the_client_chooses_among_several_answers() {
    let mut talk = Talk::new(config::Stream::default());
    assert!(talk.client(SYN, 100, 0, ""));
    assert!(talk.server(SYN | ACK, 500, 101, ""));
    assert!(talk.server(SYN | ACK, 900, 101, ""));
    assert!(talk.client(ACK, 101, 901, ""));
    assert_eq!(talk.state(), TcpState::Established);
    assert!(talk.server(ACK, 901, 101, "hi"));
    assert_eq!(talk.sent(Direction::ToClient), b"hi");
}

#[test]
fn handshakes_that_are_wrong_say_how() {
    let mut talk = Talk::new(config::Stream::default());
    assert!(talk.client(SYN, 100, 0, ""));
    assert!(!talk.server(SYN | ACK, 500, 999, ""));
    assert!(talk.events.has(Event::Stream3whsSynackWithWrongAck));
    assert!(!talk.client(SYN | ACK, 500, 101, ""));
    assert!(talk.events.has(Event::Stream3whsSynackInWrongDirection));
    assert!(talk.server(SYN | ACK, 500, 101, ""));
    assert!(!talk.client(ACK, 101, 777, ""));
    assert!(talk.events.has(Event::Stream3whsRightSeqWrongAckEvasion));
}

proptest! {
    #[test]
    fn no_sequence_of_segments_breaks_a_session(
        segments in prop::collection::vec(
            (any::<bool>(), any::<u8>(), 0..4000u32, 0..4000u32, 0..20usize), 1..60),
        is_midstream in any::<bool>(),
        is_async_oneside in any::<bool>(),
        is_inline in any::<bool>(),
    ) {
        let settings = config::Stream {
            is_midstream, is_async_oneside, is_inline, ..config::Stream::default()
        };
        let mut talk = Talk::new(settings);
        for (is_client, flags, seq, ack, length) in segments {
            let direction = if is_client { Direction::ToServer } else { Direction::ToClient };
            let _ = talk.say(direction, flags, seq, ack, &"x".repeat(length));
            let held = talk.session.as_ref().map_or(0, |session| session.held_bytes());
            prop_assert!(held <= talk.memory.used);
        }
    }
}

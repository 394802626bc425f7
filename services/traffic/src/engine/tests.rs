//! The engine as a whole: flows, their ends, and what inspectors are shown.

use proptest::prelude::*;

use super::{Engine, Inspector, View};
use crate::{
    Direction,
    config::Config,
    event::{Event, Events},
    flow::{Flow, Reason},
    packet::{Frame, Link, Origin, TcpFlags},
    testing::{Tcp, address, ethernet, ip4, ip4_packet, udp},
    zeek::{Connection, End, State},
};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN;

#[derive(Default)]
struct Recorder {
    packets: usize,
    without_flow: usize,
    directions: Vec<Direction>,
    established: Vec<bool>,
    rebuilt: usize,
    ended: Vec<(u64, Reason)>,
    connections: Vec<(State, String, u64, u64)>,
    streams: [Vec<u8>; 2],
    requests: usize,
    slots: Vec<u32>,
    lost: Vec<u64>,
    events: Events,
}

impl Inspector for Recorder {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        self.packets += 1;
        self.rebuilt += usize::from(view.packet.is_rebuilt());
        self.events.merge(&view.packet.events);
        let Some(flow) = view.flow.as_deref_mut() else {
            self.without_flow += 1;
            return;
        };
        self.slots.push(flow.slot);
        if view.packet.origin != Origin::FlowEnd {
            self.directions.push(view.direction);
            self.established.push(view.is_established);
        }
        self.requests += flow.app.txs_len();
        let mut read = None;
        for raw in flow.raws(view.direction) {
            self.streams[view.direction.index()].extend_from_slice(raw.bytes);
            read = Some(raw.progress);
        }
        if let Some(progress) = read {
            flow.raw_done(view.direction, progress);
        }
    }

    fn connection_end(&mut self, _flow: &Flow, connection: &Connection) {
        self.connections.push((
            connection.state(),
            connection.history().as_str().into(),
            connection.sizes(End::Originator).bytes,
            connection.sizes(End::Responder).bytes,
        ));
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        self.ended.push((flow.id, reason));
    }

    fn app_lost(&mut self, flow: &Flow) {
        self.lost.push(flow.id);
    }

    fn reads_raw_streams(&self) -> bool {
        true
    }
}

struct Bench {
    engine: Engine,
    seen: Recorder,
    time_ms: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self { engine: Engine::new(config), seen: Recorder::default(), time_ms: 1 }
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.time_ms += 1;
        self.engine.handle(ethernet(bytes, self.time_ms), &mut self.seen);
    }

    fn client(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) {
        self.frame(&Tcp { ports: (4000, 80), flags, seq, ack, payload }.frame(1, 2));
    }

    fn server(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) {
        self.frame(&Tcp { ports: (80, 4000), flags, seq, ack, payload }.frame(2, 1));
    }

    fn open(&mut self) {
        self.client(SYN, 100, 0, b"");
        self.server(SYN | ACK, 500, 101, b"");
        self.client(ACK, 101, 501, b"");
    }

    fn finish(&mut self) {
        self.engine.finish(&mut self.seen);
        assert_eq!((self.engine.flows(), self.engine.buffered_bytes()), (0, 0));
    }
}

#[test]
fn a_conversation_from_begin_to_end() {
    let mut bench = Bench::new(Config::default());
    bench.open();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    bench.client(ACK, 101, 501, request);
    let after = 101 + request.len() as u32;
    bench.server(ACK, 501, after, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    bench.client(ACK, after, 539, b"");
    bench.client(FIN | ACK, after, 539, b"");
    bench.server(FIN | ACK, 539, after + 1, b"");
    bench.client(ACK, after + 1, 540, b"");
    bench.finish();
    let seen = &bench.seen;
    assert_eq!(seen.ended, [(1, Reason::Shutdown)]);
    let history = "ShADdFf".to_string();
    assert_eq!(seen.connections, [(State::Sf, history, request.len() as u64, 38)]);
    assert_eq!(seen.established[..5], [false, false, false, true, true]);
    assert_eq!(seen.streams[0], request);
    assert!(seen.streams[1].starts_with(b"HTTP/1.1 200"));
    assert!(seen.requests > 0, "HTTP was found");
    assert_eq!(bench.engine.counters().stream_refused, 0);
}

#[test]
fn what_detection_finds_odd_is_told_with_a_packet() {
    let told = |answer: &[u8]| {
        let mut bench = Bench::new(Config::default());
        bench.open();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        bench.client(ACK, 101, 501, request);
        let after = 101 + request.len() as u32;
        bench.server(ACK, 501, after, answer);
        bench.client(ACK, after, 501 + answer.len() as u32, b"");
        bench.finish();
        bench.seen.events.iter().collect::<Vec<_>>()
    };
    assert_eq!(told(b"HTTP/1.1 204 No\r\n\r\n"), []);
    assert_eq!(told(&[0; 64]), [Event::ApplayerDetectProtocolOnlyOneDirection]);
}

#[test]
fn datagrams_of_both_ends_are_one_flow() {
    let mut bench = Bench::new(Config::default());
    bench.frame(&ip4(1, 2, 17, &udp(9, 99, b"ask")));
    bench.frame(&ip4(2, 1, 17, &udp(99, 9, b"answer")));
    assert_eq!(bench.engine.counters().flows, 1);
    assert_eq!(bench.seen.directions, [Direction::ToServer, Direction::ToClient]);
    bench.finish();
    assert_eq!(bench.seen.connections, [(State::Sf, "Dd".into(), 3, 6)]);
}

#[test]
fn zeeks_connection_outlives_suricatas_flow() {
    let mut bench = Bench::new(Config::default());
    bench.frame(&ip4(1, 2, 17, &udp(9, 99, b"one")));
    bench.time_ms += 40_000;
    bench.frame(&ip4(1, 2, 17, &udp(9, 99, b"two")));
    assert_eq!(bench.seen.ended, [(1, Reason::Timeout)]);
    bench.time_ms += 70_000;
    bench.engine.tick(bench.time_ms * 1_000_000, &mut bench.seen);
    bench.engine.tick((bench.time_ms + 1000) * 1_000_000, &mut bench.seen);
    assert_eq!(bench.seen.ended.len(), 2);
    assert_eq!(bench.seen.connections, [(State::S0, "D".into(), 6, 0)]);
    assert_eq!(bench.engine.flows(), 0);
}

#[test]
fn a_syn_after_the_end_begins_a_new_flow() {
    let mut bench = Bench::new(Config::default());
    bench.open();
    bench.client(TcpFlags::RST, 101, 0, b"");
    bench.client(SYN, 7000, 0, b"");
    assert_eq!(bench.seen.ended, [(1, Reason::Reused)]);
    assert_eq!(bench.seen.connections.len(), 1);
    bench.finish();
    assert_eq!(bench.engine.counters().flows, 2);
}

#[test]
fn fragments_come_with_the_packet_they_make() {
    let mut bench = Bench::new(Config::default());
    let datagram = udp(9, 99, &[b'x'; 32]);
    let piece = |offset: usize, more: u16, data: &[u8]| {
        let field = (offset / 8) as u16 | more;
        let ip = ip4_packet([10, 0, 0, 1], [10, 0, 0, 2], 17, field, data);
        [&[0; 12], [8, 0].as_slice(), &ip].concat()
    };
    bench.frame(&piece(0, 0x2000, &datagram[..24]));
    bench.frame(&piece(24, 0, &datagram[24..]));
    assert_eq!((bench.seen.packets, bench.seen.rebuilt), (3, 1));
    assert_eq!(bench.seen.without_flow, 2, "a piece belongs to no flow, the packet does");
    assert_eq!(bench.engine.counters().flows, 1);
}

#[test]
fn an_icmp_error_belongs_to_the_flow_it_is_about() {
    let mut bench = Bench::new(Config::default());
    bench.frame(&ip4(1, 2, 17, &udp(9, 99, b"ask")));
    let quoted = ip4_packet([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, &udp(9, 99, b"ask"));
    bench.frame(&ip4(2, 1, 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], quoted.as_slice()].concat()));
    assert_eq!(bench.seen.directions, [Direction::ToServer, Direction::ToClient]);
    bench.finish();
    // For Zeek it is a connection of its own.
    assert_eq!(bench.seen.connections.len(), 2);
    assert_eq!(bench.seen.ended.len(), 1);
}

#[test]
fn wrong_checksums_are_ignored_unless_told_otherwise() {
    let mut frame = Tcp { ports: (1, 2), flags: SYN, seq: 1, ack: 0, payload: b"" }.frame(1, 2);
    frame[50] ^= 0xff;
    for (is_validated, expected) in [(true, 1), (false, 0)] {
        let mut config = Config::default();
        config.stream.is_checksum_validated = is_validated;
        let mut bench = Bench::new(config);
        bench.frame(&frame);
        assert_eq!(bench.engine.counters().checksum_wrong, expected);
    }
}

#[test]
fn a_flood_of_flows_stays_within_the_cap() {
    let mut config = Config { seed: 3, ..Config::default() };
    config.flow.flows_max = 500;
    let mut bench = Bench::new(config);
    for port in 0..20_000u16 {
        let flags = if port % 3 == 0 { SYN | ACK } else { SYN };
        let frame = Tcp { ports: (port, 80), flags, seq: 1, ack: 0, payload: b"x" }.frame(1, 2);
        bench.engine.handle(ethernet(&frame, 5), &mut bench.seen);
        assert!(bench.engine.flows() <= 500 && bench.engine.slots() <= 512);
    }
    let counters = *bench.engine.counters();
    assert_eq!(counters.flows, 20_000);
    assert_eq!(counters.flows_evicted, 19_500);
    assert!(bench.seen.slots.iter().all(|slot| *slot < 512), "slots stay dense");
    bench.finish();
    assert_eq!(bench.seen.ended.len(), 20_000);
}

#[test]
fn two_inspectors_see_the_same() {
    let mut engine = Engine::new(Config::default());
    let mut both = (Recorder::default(), Recorder::default());
    let frame = ip4(1, 2, 17, &udp(9, 99, b"ask"));
    engine.handle(ethernet(&frame, 1), &mut both);
    engine.finish(&mut both);
    assert_eq!((both.0.packets, both.1.packets), (1, 1));
    assert_eq!(both.0.ended, both.1.ended);
    assert_eq!(address(1).to_string(), "10.0.0.1");
}

#[derive(Clone, Debug)]
struct Shot {
    is_client: bool,
    host: u8,
    flags: u8,
    seq: u32,
    ack: u32,
    length: usize,
    step_ms: u64,
}

fn shots() -> impl Strategy<Value = Vec<Shot>> {
    let shot = (
        any::<bool>(),
        1..4u8,
        prop::sample::select(vec![SYN, SYN | ACK, ACK, ACK | 8, FIN | ACK, TcpFlags::RST, 0, 0xff]),
        0..3000u32,
        0..3000u32,
        0..400usize,
        prop::sample::select(vec![0, 1, 1000, 70_000]),
    );
    let shot = shot.prop_map(|(is_client, host, flags, seq, ack, length, step_ms)| Shot {
        is_client,
        host,
        flags,
        seq,
        ack,
        length,
        step_ms,
    });
    prop::collection::vec(shot, 1..80)
}

proptest! {
    #[test]
    fn whatever_comes_ends_with_nothing_held(
        shots in shots(),
        is_midstream in any::<bool>(),
        is_async in any::<bool>(),
        is_inline in any::<bool>(),
    ) {
        let mut config = Config::default();
        config.stream.is_midstream = is_midstream;
        config.stream.is_async_oneside = is_async;
        config.stream.is_inline = is_inline;
        config.stream.bytes_max = 8192;
        config.flow.flows_max = 2;
        let mut bench = Bench::new(config);
        for shot in shots {
            bench.time_ms += shot.step_ms;
            let payload = vec![b'a'; shot.length];
            let Shot { flags, seq, ack, host, .. } = shot;
            let (from, to, ports) =
                if shot.is_client { (host, 9, (5, 80)) } else { (9, host, (80, 5)) };
            bench.frame(&Tcp { ports, flags, seq, ack, payload: &payload }.frame(from, to));
            prop_assert!(bench.engine.buffered_bytes() <= 8192);
            prop_assert!(bench.engine.flows() <= 2);
        }
        bench.finish();
        let counters = bench.engine.counters();
        prop_assert_eq!(bench.seen.ended.len() as u64, counters.flows);
    }

    #[test]
    fn any_bytes_on_any_link(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..20),
        link in prop::sample::select(&Link::ALL),
    ) {
        let mut engine = Engine::new(Config::default());
        let mut seen = Recorder::default();
        for bytes in &frames {
            let frame = Frame { time_ns: 1, wire_bytes: 120, link, bytes };
            engine.handle(frame, &mut seen);
        }
        engine.finish(&mut seen);
        prop_assert!(seen.packets >= frames.len());
    }
}

/// Whoever sends errors about a flow of its own must not keep those of others from ending.
#[test]
fn errors_about_one_flow_do_not_keep_others() {
    let mut bench = Bench::new(Config::default());
    let syn = |port| Tcp { ports: (port, 80), flags: SYN, seq: 1, ack: 0, payload: b"" };
    let own = ip4_packet([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, &syn(1).frame(1, 2)[34..]);
    bench.frame(&syn(1).frame(1, 2));
    bench.frame(&syn(2).frame(1, 2));
    let mut unreachable = vec![3, 1, 0, 0, 0, 0, 0, 0];
    unreachable.extend(&own[..28]);
    for _ in 0..5 {
        bench.time_ms += 20_000;
        bench.frame(&ip4(2, 1, 1, &unreachable));
    }
    assert_eq!(bench.seen.ended, [(2, Reason::Timeout)], "the flow that nobody spoke of");
}

/// Flows that stop in the middle of a request: each holds what it may.
fn half_request(bench: &mut Bench, port: u16) {
    let payload = format!("POST / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1000));
    let to = |flags, seq, ack, payload: &[u8]| {
        Tcp { ports: (port, 80), flags, seq, ack, payload }.frame(1, 2)
    };
    let back =
        |flags, seq, ack| Tcp { ports: (80, port), flags, seq, ack, payload: b"" }.frame(2, 1);
    bench.frame(&to(SYN, 100, 0, b""));
    bench.frame(&back(SYN | ACK, 500, 101));
    bench.frame(&to(ACK, 101, 501, b""));
    bench.frame(&to(ACK, 101, 501, payload.as_bytes()));
    let ack = 101 + payload.len() as u32;
    bench.frame(&back(ACK, 501, ack));
}

#[test]
fn half_messages_of_all_flows_stay_within_one_bound() {
    let bound = 1 << 20;
    let mut bench = Bench::new(Config { held_bytes_max: bound, ..Config::default() });
    for port in 1000..4000 {
        half_request(&mut bench, port);
        let held = bench.engine.app_bytes() + bench.engine.buffered_bytes();
        assert!(held <= bound, "{held} bytes");
    }
    let given_up = bench.engine.counters().flows_given_up;
    assert!((1000..3000).contains(&given_up), "{given_up}");
    assert_eq!(given_up, bench.seen.lost.len() as u64, "inspectors are told of each");
    // The longest quiet first; and the flows themselves go on.
    assert!(bench.seen.lost.is_sorted());
    assert_eq!(bench.engine.flows(), 3000);
    bench.finish();
    assert_eq!(bench.engine.app_bytes(), 0, "what was counted is given back");
}

#[test]
fn what_fits_is_not_given_up() {
    let mut bench = Bench::new(Config::default());
    for port in 1000..1200 {
        half_request(&mut bench, port);
    }
    assert_eq!(bench.engine.counters().flows_given_up, 0);
    assert!(bench.engine.app_bytes() > 200 * 1000, "the bytes of the requests are counted");
    bench.finish();
    assert_eq!(bench.engine.app_bytes(), 0);
}

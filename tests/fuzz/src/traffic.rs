//! Frames, fragments, streams and whole conversations for the traffic core.

use hookprobe_traffic::{
    config::Config,
    counters::Counters,
    decode,
    defrag::Defragmenter,
    engine::{Engine, Inspector, View},
    flow::{Flow, Reason},
    packet::{Frame, Link, Packet},
};

use crate::{Outcome, Target};

/// One for each stage; the last is all of them.
pub(crate) const TARGETS: [Target; 4] = [
    Target { name: "decode", run: decode, seeds: frames, repair: |_| {}, dictionary: HEADERS },
    Target { name: "defrag", run: defrag, seeds: fragments, repair: |_| {}, dictionary: HEADERS },
    Target { name: "stream", run: stream, seeds: scripts, repair: |_| {}, dictionary: SEGMENTS },
    Target { name: "engine", run: engine, seeds: captures, repair: |_| {}, dictionary: HEADERS },
];

const HEADERS: &[&[u8]] = &[
    &[0x08, 0x00, 0x45],
    &[0x86, 0xdd, 0x60],
    &[0x81, 0x00],
    &[0x88, 0x47],
    &[0x88, 0x64],
    &[0x65, 0x58],
    &[0x12, 0xb5, 0, 50, 0, 0, 8, 0, 0, 0],
    &[0x17, 0xc1],
    &[0x08, 0x68],
    &[0x20, 0x00],
    &[44, 0],
    &[0x50, 0x02],
    &[0x50, 0x10],
];

const SEGMENTS: &[&[u8]] = &[&[0x02], &[0x12], &[0x10], &[0x18], &[0x11], &[0x04], &[0xff]];

/// The first byte names the link.
fn link(bytes: &[u8]) -> (Link, &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    (Link::ALL[usize::from(*first) % Link::ALL.len()], rest)
}

fn within(whole: &[u8], part: &[u8]) -> bool {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    part.is_empty() || (whole.start <= part.start && part.end <= whole.end)
}

fn check(packet: &Packet<'_>) -> String {
    assert!(within(packet.data, packet.payload), "payload beyond the frame");
    if let Some(ip) = packet.ip {
        assert!(within(packet.data, ip.header) && within(packet.data, ip.payload));
        let _ = (ip.is_checksum_right(), packet.is_transport_checksum_right());
    }
    let events: Vec<_> = packet.events.iter().map(|event| format!("{event:?}")).collect();
    format!("{}{:?}{:?}", events.concat(), packet.origin, std::mem::discriminant(&packet.transport))
}

fn decode(bytes: &[u8]) -> Outcome {
    let settings = Config::default().decode;
    let (link, bytes) = link(bytes);
    let frame = Frame { time_ns: 1, wire_bytes: 1500, link, bytes };
    let (mut packet, mut inner) = decode::decode(&frame, 1, &settings);
    let mut told = check(&packet);
    // The engine stops at a depth; the frame shrinks with each layer in any case.
    while let Some(carried) = inner {
        assert!(carried.bytes.len() < packet.data.len(), "a tunnel in itself");
        (packet, inner) = decode::decode_inner(&packet, &carried, &settings);
        told += &check(&packet);
    }
    Outcome::shape(&told)
}

/// Cuts the input into packets: a length byte before each.
fn each(mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
    while let Some((length, rest)) = bytes.split_first() {
        let (part, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        take(part);
        bytes = rest;
    }
}

fn defrag(bytes: &[u8]) -> Outcome {
    let mut config = Config::default();
    config.defrag.packets_max = 4;
    config.defrag.bytes_max = 4096;
    let mut defrag = Defragmenter::new(1);
    let mut counters = Counters::default();
    each(bytes, |part| {
        let frame = Frame { time_ns: 1, wire_bytes: 0, link: Link::Raw, bytes: part };
        let (mut packet, _) = decode::decode(&frame, 1, &config.decode);
        let policy = config.policy_of([10, 0, 0, part.len() as u8].into());
        let whole = defrag.take(&mut packet, policy, &config.defrag, &mut counters);
        assert!(whole.is_none_or(|whole| whole.len() <= 65_535));
        assert!(defrag.len() <= 4 && defrag.bytes() <= 4096);
    });
    let seen = [counters.rebuilt, counters.defrag_evicted, counters.defrag_dropped];
    Outcome::of(&seen.map(|count| "x".repeat(count.min(5) as usize)).join(" "))
}

/// Reads all there is, and checks what it is told.
#[derive(Default)]
struct Reader {
    told: u64,
    read: usize,
    open: std::collections::BTreeSet<u64>,
}

impl Inspector for Reader {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        let direction = view.direction;
        let Some(flow) = view.flow.as_deref_mut() else { return };
        self.open.insert(flow.id);
        for tx in flow.app.txs() {
            self.told ^= tx.id() << tx.progress(direction);
        }
        let mut before = 0;
        for raw in flow.raws(direction) {
            assert!(raw.offset >= before, "raw inspection went back");
            assert_eq!(raw.progress, raw.offset + raw.bytes.len() as u64);
            self.read += raw.bytes.len();
            before = raw.progress;
        }
        // What lies behind a hole may be shown again with the next packet.
        if before > 0 {
            flow.raw_done(direction, before);
        }
    }

    fn flow_end(&mut self, flow: &mut Flow, _reason: Reason) {
        self.open.remove(&flow.id);
    }

    fn reads_raw_streams(&self) -> bool {
        true
    }
}

fn small() -> Config {
    let mut config = Config::default();
    config.stream.is_checksum_validated = false;
    config.stream.bytes_max = 16 << 10;
    config.flow.flows_max = 8;
    config.defrag.bytes_max = 8 << 10;
    config
}

fn settle(mut engine: Engine, mut reader: Reader) -> Outcome {
    assert!(engine.flows() <= 8 && engine.buffered_bytes() <= 24 << 10);
    engine.finish(&mut reader);
    assert_eq!(engine.flows(), 0);
    assert!(reader.open.is_empty(), "a flow that never ended");
    let seen: Vec<_> = engine.counters().iter().map(|(_, count)| count.min(3)).collect();
    let letters: String = seen.iter().map(|count| char::from(b'a' + *count as u8)).collect();
    Outcome::of(&format!("{letters}{}", "r".repeat(reader.read.min(5))))
}

/// A conversation: each nine bytes make a segment (direction and policy bits, flags, sequence number,
/// acknowledgement, length, byte, milliseconds), numbers close to each other.
fn stream(bytes: &[u8]) -> Outcome {
    let mut config = small();
    let setting = bytes.first().copied().unwrap_or(0);
    config.stream.is_midstream = setting & 1 != 0;
    config.stream.is_async_oneside = setting & 2 != 0;
    config.stream.is_inline = setting & 4 != 0;
    let mut engine = Engine::new(config);
    let mut reader = Reader::default();
    let mut time_ns = 1;
    for script in bytes.chunks_exact(9) {
        let &[way, flags, s0, s1, a0, a1, length, byte, step] = script else { continue };
        time_ns += u64::from(step) * 50_000_000;
        let seq = u32::from(u16::from_be_bytes([s0, s1])).wrapping_sub(1000);
        let ack = u32::from(u16::from_be_bytes([a0, a1])).wrapping_sub(1000);
        let frame = segment(way & 1 == 0, flags, seq, ack, &vec![byte; usize::from(length)]);
        let frame = Frame { time_ns, wire_bytes: 0, link: Link::Raw, bytes: &frame };
        engine.handle(frame, &mut reader);
    }
    settle(engine, reader)
}

fn segment(is_client: bool, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let (from, to, ports) =
        if is_client { (1, 2, [4, 210, 0, 80]) } else { (2, 1, [0, 80, 4, 210]) };
    let mut tcp = ports.to_vec();
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.to_be_bytes());
    tcp.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    tcp.extend(payload);
    ip4(from, to, 6, 0, &tcp)
}

fn ip4(from: u8, to: u8, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = ((20 + payload.len()) as u16).to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 7, f0, f1, 64, protocol, 0, 0];
    packet.extend([10, 0, 0, from, 10, 0, 0, to]);
    packet.extend(payload);
    packet
}

fn engine(bytes: &[u8]) -> Outcome {
    let (link, bytes) = link(bytes);
    let mut engine = Engine::new(small());
    let mut reader = Reader::default();
    let mut time_ns = 1;
    each(bytes, |part| {
        time_ns += 1_000_000;
        let frame = Frame { time_ns, wire_bytes: 60, link, bytes: part };
        engine.handle(frame, &mut reader);
    });
    settle(engine, reader)
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for field in [source, destination, (8 + payload.len()) as u16, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], packet].concat()
}

fn frames() -> Vec<Vec<u8>> {
    let inner = ethernet(&ip4(3, 4, 17, 0, &udp(5, 53, b"x")));
    let packets = [
        segment(true, 2, 100, 0, b""),
        segment(false, 0x18, 500, 101, b"data"),
        ip4(1, 2, 17, 0, &udp(9, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0], inner.as_slice()].concat())),
        ip4(
            1,
            2,
            17,
            0,
            &udp(9, 6081, &[&[0, 0, 0x65, 0x58, 0, 0, 1, 0], inner.as_slice()].concat()),
        ),
        ip4(1, 2, 47, 0, &[&[0x20, 0, 8, 0, 0, 0, 0, 1], &inner[14..]].concat()),
        ip4(1, 2, 41, 0, &[0x60, 0, 0, 0, 0, 0, 59, 1]),
        ip4(1, 2, 1, 0, &[&[3, 3, 0, 0, 0, 0, 0, 0], &inner[14..]].concat()),
        ip4(1, 2, 132, 0, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4]),
    ];
    packets.iter().map(|packet| [&[0], ethernet(packet).as_slice()].concat()).collect()
}

fn fragments() -> Vec<Vec<u8>> {
    let piece = |field: u16, data: &[u8]| {
        let packet = ip4(1, 2, 17, field, data);
        [&[packet.len() as u8], packet.as_slice()].concat()
    };
    vec![
        [piece(0x2000, &[1; 16]), piece(2, &[2; 16])].concat(),
        [piece(0x2000, &[1; 16]), piece(0x2001, &[2; 16]), piece(3, &[3; 8])].concat(),
    ]
}

fn scripts() -> Vec<Vec<u8>> {
    let mut talk = Vec::new();
    let steps: [(u8, u8, u16, u16, u8); 8] = [
        (0, 0x02, 100, 1000, 0),
        (1, 0x12, 500, 101, 0),
        (0, 0x10, 101, 501, 0),
        (0, 0x18, 101, 501, 40),
        (1, 0x18, 501, 141, 60),
        (0, 0x10, 141, 561, 0),
        (1, 0x11, 561, 141, 0),
        (0, 0x11, 141, 562, 0),
    ];
    for (way, flags, seq, ack, length) in steps {
        talk.extend([way, flags]);
        talk.extend(seq.to_be_bytes());
        talk.extend(ack.to_be_bytes());
        talk.extend([length, b'a', 1]);
    }
    vec![talk.clone(), [&talk[27..45], &talk].concat()]
}

fn captures() -> Vec<Vec<u8>> {
    let mut capture = vec![1];
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let steps: [(bool, u8, u32, u32, &[u8]); 5] = [
        (true, 2, 100, 0, b""),
        (false, 0x12, 500, 101, b""),
        (true, 0x10, 101, 501, b""),
        (true, 0x18, 101, 501, request),
        (false, 0x18, 501, 128, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    ];
    for (is_client, flags, seq, ack, payload) in steps {
        let packet = segment(is_client, flags, seq, ack, payload);
        capture.push(packet.len() as u8);
        capture.extend(packet);
    }
    vec![capture]
}

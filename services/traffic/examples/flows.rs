//! Memory of many flows at a time: `cargo run --release -p hookprobe-traffic --example flows`.
//!
//! Each is an established TCP connection with a request and its answer, as a proxy sees them.

#![expect(clippy::unwrap_used, reason = "a program that measures")]

use hookprobe_traffic::{
    app::{App, http::Http},
    config::Config,
    engine::Engine,
    flow::Flow,
    packet::{Frame, Link},
    stream::Session,
    zeek::Connection,
};

/// Flows that are open together.
const FLOWS: u32 = 100_000;

const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One packet of flow `number`, in raw IPv4; checksums are not looked at.
fn packet(number: u32, is_from_client: bool, seq: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let client = [[10, 1, 0, 0], [10, 2, 0, 0]][usize::from(number >= 50_000)];
    let [_, _, high, low] = (number % 50_000).to_be_bytes();
    let client = [client[0], client[1], high, low];
    let server = [192, 0, 2, 1];
    let (from, to) = if is_from_client { (client, server) } else { (server, client) };
    let (port, peer) = if is_from_client { (40_000u16, 80u16) } else { (80, 40_000) };
    let total = u16::try_from(40 + data.len()).unwrap();
    let mut bytes = vec![0x45, 0];
    bytes.extend_from_slice(&total.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0]);
    bytes.extend_from_slice(&from);
    bytes.extend_from_slice(&to);
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&peer.to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend_from_slice(data);
    bytes
}

/// Memory that this process holds, in kB.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let mut config = Config { seed: 7, ..Config::default() };
    config.stream.is_checksum_validated = false;
    let mut engine = Engine::new(config);
    let before = resident_kb();
    let mut time_ns = 1_000_000_000;
    let mut send = |bytes: Vec<u8>| {
        time_ns += 1000;
        let wire_bytes = u32::try_from(bytes.len()).unwrap();
        engine.handle(Frame { time_ns, wire_bytes, link: Link::Raw, bytes: &bytes }, &mut ());
    };
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for number in 0..FLOWS {
        send(ack(packet(number, true, 100, SYN, b""), 0));
        send(ack(packet(number, false, 500, SYN | ACK, b""), 101));
        send(ack(packet(number, true, 101, ACK, b""), 501));
    }
    let handshakes = resident_kb() - before;
    for number in 0..FLOWS {
        let (asked, told) = (request.len() as u32, answer.len() as u32);
        send(ack(packet(number, true, 101, PSH | ACK, request), 501));
        send(ack(packet(number, false, 501, PSH | ACK, answer), 101 + asked));
        send(ack(packet(number, true, 101 + asked, ACK, b""), 501 + told));
        send(ack(packet(number, false, 501 + told, ACK, b""), 101 + asked));
    }
    let talked = resident_kb() - before;
    println!("{} flows, {} bytes held in streams", engine.flows(), engine.buffered_bytes());
    println!(
        "bytes: flow {}, connection {}, session {}, application {}, HTTP {}",
        size_of::<Flow>(),
        size_of::<Connection>(),
        size_of::<Session>(),
        size_of::<App>(),
        size_of::<Http>(),
    );
    println!(
        "after the handshake: {} MB, after request and answer: {} MB",
        handshakes / 1000,
        talked / 1000
    );
}

/// Puts in an acknowledgement.
fn ack(mut bytes: Vec<u8>, number: u32) -> Vec<u8> {
    bytes[28..32].copy_from_slice(&number.to_be_bytes());
    bytes
}

//! Payload that the programs copy for user space, and payload that they leave alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use etherparse::{PacketBuilder, VlanId};
use hookprobe_abi::{
    self as abi, Counter, FLAG_EGRESS,
    config::flag,
    sample::{BYTES_MAX, PACKETS_PER_FLOW, kind},
};
use support::kernel::{A, B, Kernel, MAC, XDP_PASS, ip};

fn tcp(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(A, B, 64);
    builder.tcp(source_port, port, 1, 9).ack(1).write(&mut out, payload).unwrap();
    out
}

fn udp(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(A, B, 64);
    builder.udp(source_port, port).write(&mut out, payload).unwrap();
    out
}

fn hello(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    bytes.resize(length, 0xab);
    bytes
}

fn quic(first: u8, version: [u8; 4], length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(version);
    bytes.resize(length, 0xcd);
    bytes
}

#[test]
fn what_begins_like_a_known_protocol_is_copied_whole() {
    let Some(mut kernel) = Kernel::new() else { return };
    let v1 = [0, 0, 0, 1];
    let v2 = [0x6b, 0x33, 0x43, 0xcf];
    let cases: [(u8, Vec<u8>, Vec<u8>); 9] = [
        (kind::TLS, tcp(1001, 443, &hello(517)), hello(517)),
        (kind::SSH, tcp(1002, 22, b"SSH-2.0-OpenSSH_9\r\n"), b"SSH-2.0-OpenSSH_9\r\n".to_vec()),
        (kind::HTTP, tcp(1003, 8080, b"GET / HTTP/1.1\r\n\r\n"), b"GET / HTTP/1.1\r\n\r\n".into()),
        (kind::HTTP, tcp(1004, 80, b"OPTIONS * HTTP/1.1"), b"OPTIONS * HTTP/1.1".to_vec()),
        (kind::DNS, udp(1005, 53, &[9; 29]), vec![9; 29]),
        (kind::DNS, udp(5353, 5353, &[9; 12]), vec![9; 12]),
        (kind::DNS, tcp(1006, 53, &[0; 31]), vec![0; 31]),
        (kind::QUIC, udp(1007, 443, &quic(0xc3, v1, 1200)), quic(0xc3, v1, 1200)),
        (kind::QUIC, udp(1008, 443, &quic(0xd3, v2, 1252)), quic(0xd3, v2, 1252)),
    ];
    for (kind, frame, payload) in cases {
        assert_eq!(kernel.ingress(&frame), XDP_PASS);
        let samples = kernel.take_samples();
        assert_eq!(samples.len(), 1, "kind {kind}");
        let (header, bytes) = &samples[0];
        assert_eq!((header.kind, header.number, header.flags), (kind, 0, 0));
        assert_eq!((header.source, header.destination), (ip("192.0.2.1"), ip("192.0.2.2")));
        assert_eq!(usize::from(header.payload_bytes), payload.len());
        assert_eq!(*bytes, payload, "kind {kind}");
    }
    assert_eq!(kernel.count(Counter::Samples), 9);
}

#[test]
fn what_does_not_is_left_alone() {
    let Some(mut kernel) = Kernel::new() else { return };
    let frames = [
        tcp(1, 443, b"\x16\x03\x01\0\0\x02"),
        tcp(2, 443, b"\x17\x03\x03\0\x20\x01\0\0\0\0"),
        tcp(3, 80, b"GETX / HTTP/1.1"),
        tcp(4, 22, b"SSX-2.0-nothing"),
        tcp(5, 80, b""),
        udp(6, 443, &quic(0xc3, [0, 0, 0, 1], 1100)),
        udp(7, 443, &quic(0xc3, [0, 0, 0, 9], 1300)),
        udp(8, 443, &quic(0x43, [0, 0, 0, 1], 1300)),
        udp(9, 9999, &[0x16, 3, 1, 2, 0, 1, 0, 0, 0]),
    ];
    for frame in frames {
        kernel.ingress(&frame);
    }
    assert!(kernel.take_samples().is_empty());
    // Padding of a short frame is no payload.
    let mut padded = tcp(10, 443, b"");
    padded.extend(hello(40));
    kernel.ingress(&padded);
    assert!(kernel.take_samples().is_empty());
}

#[test]
fn only_the_first_packets_of_a_flow_and_bounded_bytes() {
    let Some(mut kernel) = Kernel::new() else { return };
    for _ in 0..10 {
        kernel.ingress(&tcp(1, 443, &hello(1800)));
    }
    let samples = kernel.take_samples();
    let numbers: Vec<u8> = samples.iter().map(|(header, _)| header.number).collect();
    assert_eq!(numbers, (0..PACKETS_PER_FLOW).collect::<Vec<u8>>());
    for (header, bytes) in &samples {
        assert_eq!((bytes.len(), header.payload_bytes), (BYTES_MAX, 1800));
        assert_eq!(*bytes, hello(1800)[..BYTES_MAX]);
    }
    // Of a request the first packet is enough.
    for _ in 0..3 {
        kernel.ingress(&tcp(2, 80, b"POST /a HTTP/1.1\r\n"));
    }
    assert_eq!(kernel.take_samples().len(), 1);
    // Segments without payload do not use up the first ones.
    for _ in 0..5 {
        kernel.ingress(&tcp(3, 443, b""));
    }
    kernel.ingress(&tcp(3, 443, &hello(300)));
    assert_eq!(kernel.take_samples()[0].0.number, 0);
}

#[test]
fn samples_come_through_tags_and_both_ways() {
    let Some(mut kernel) = Kernel::new() else { return };
    let mut tagged = Vec::new();
    PacketBuilder::ethernet2(MAC, MAC)
        .double_vlan(VlanId::try_new(7).unwrap(), VlanId::try_new(8).unwrap())
        .ipv6(ip("2001:db8::1"), ip("2001:db8::2"), 64)
        .tcp(5, 443, 1, 1)
        .write(&mut tagged, &hello(400))
        .unwrap();
    kernel.ingress(&tagged);
    assert_eq!(kernel.take_samples()[0].1, hello(400));
    kernel.run(abi::PROGRAM_EGRESS, &tcp(6, 443, &hello(200)));
    kernel.run(abi::PROGRAM_INGRESS_TC, &tcp(7, 443, &hello(201)));
    let samples = kernel.take_samples();
    assert_eq!((samples[0].0.flags, samples[0].1.len()), (FLAG_EGRESS, 200));
    assert_eq!((samples[1].0.flags, samples[1].1.len()), (0, 201));
    kernel.configure(|config| config.flags &= !flag::SAMPLE);
    kernel.ingress(&tcp(8, 443, &hello(200)));
    assert!(kernel.take_samples().is_empty(), "switched off");
}

#[test]
fn lost_samples_are_counted() {
    let Some(mut kernel) = Kernel::new() else { return };
    let sent = 3000;
    for port in 0..sent {
        kernel.ingress(&tcp(port, 443, &hello(1400)));
    }
    let told = kernel.take_samples().len() as u64;
    let lost = kernel.count(Counter::SamplesLost);
    assert!(lost > 0 && told > 0);
    assert_eq!(told + lost, u64::from(sent));
    assert_eq!(told, kernel.count(Counter::Samples));
}

//! The eBPF programs in the kernel: the verifier takes them, and BPF_PROG_TEST_RUN shows what each
//! branch does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use etherparse::{PacketBuilder, VlanId};
use hookprobe_abi::{self as abi, Counter, FlowKey, Record, kind};
use hookprobe_sensor::{
    bench,
    object::PROGRAM_PASS,
    replay::{
        capture::Packet,
        packet::{self, Parsed},
    },
};
use pcap_parser::Linktype;
use support::kernel::{A, B, Kernel, MAC, TC_DROP, TC_NEXT, XDP_DROP, XDP_PASS, ip, syn, udp_v6};

#[test]
fn syn_passes_and_is_told() {
    let Some(mut kernel) = Kernel::new() else { return };
    let frame = syn();
    assert_eq!(kernel.ingress(&frame), XDP_PASS);
    assert_eq!(kernel.count(Counter::Packets), 1);
    assert_eq!(kernel.count(Counter::Bytes), frame.len() as u64);
    assert_eq!(kernel.count(Counter::Ipv4), 1);
    let records = kernel.take_records();
    assert_eq!(records.len(), 1);
    let record = records[0];
    assert_eq!(record.kind, kind::SYN);
    assert_eq!((record.source, record.destination), (ip("192.0.2.1"), ip("192.0.2.2")));
    assert_eq!((record.source_port, record.destination_port), (40_000, 80));
    assert_eq!((record.bytes, record.protocol, record.flags), (54, 6, 0));
    assert!(record.time_ns > 0);
}

#[test]
fn flows_are_counted_and_told_once() {
    let Some(mut kernel) = Kernel::new() else { return };
    let frame = udp_v6();
    kernel.object.test_run(abi::PROGRAM_XDP, &frame, 7).unwrap();
    assert_eq!(kernel.kinds(), [kind::FLOW]);
    assert_eq!(kernel.count(Counter::Ipv6), 7);
    let key = FlowKey {
        source: ip("2001:db8::1"),
        destination: ip("2001:db8::2"),
        source_port: 5353,
        destination_port: 53,
        protocol: 17,
        reserved: [0; 3],
    };
    let copies = kernel.maps.flows6.get(&key, 0).unwrap();
    let packets: u64 = copies.iter().map(|copy| copy.packets).sum();
    let bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
    assert_eq!((packets, bytes), (7, 7 * frame.len() as u64));
}

#[test]
fn blocked_source_is_dropped_and_told_once() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.block("192.0.2.1", 0);
    for _ in 0..5 {
        assert_eq!(kernel.ingress(&syn()), XDP_DROP);
    }
    assert_eq!(kernel.kinds(), [kind::FIRST_DROP]);
    assert_eq!(kernel.count(Counter::DroppedBlock), 5);
    let entry = kernel.maps.block.get(&ip("192.0.2.1"), 0).unwrap();
    assert_eq!((entry.packets, entry.bytes), (5, 5 * 54));
}

#[test]
fn block_ends_by_itself() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.block("192.0.2.1", 1);
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    assert_eq!(kernel.count(Counter::BlockExpired), 1);
    kernel.block("192.0.2.1", u64::MAX);
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
}

#[test]
fn protected_source_is_never_dropped() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.block("192.0.2.1", 0);
    kernel.maps.protected.insert(ip("192.0.2.1"), 1, 0).unwrap();
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    assert_eq!(kernel.count(Counter::Protected), 1);
    assert_eq!(kernel.count(Counter::DroppedBlock), 0);
    assert_eq!(kernel.kinds(), [kind::SYN]);
}

#[test]
fn blocks_see_through_vlan_tags_and_ipv6() {
    let Some(mut kernel) = Kernel::new() else { return };
    let mut tagged = Vec::new();
    PacketBuilder::ethernet2(MAC, MAC)
        .double_vlan(VlanId::try_new(7).unwrap(), VlanId::try_new(8).unwrap())
        .ipv4(A, B, 64)
        .tcp(40_000, 80, 0, 0)
        .syn()
        .write(&mut tagged, &[])
        .unwrap();
    assert_eq!(kernel.ingress(&tagged), XDP_PASS);
    assert_eq!(kernel.kinds(), [kind::SYN]);
    kernel.block("192.0.2.1", 0);
    kernel.block("2001:db8::1", 0);
    assert_eq!(kernel.ingress(&tagged), XDP_DROP);
    assert_eq!(kernel.ingress(&udp_v6()), XDP_DROP);
}

#[test]
fn cut_and_lying_headers_are_passed_and_counted() {
    let Some(mut kernel) = Kernel::new() else { return };
    let whole = syn();
    let mut malformed = 0;
    // The kernel runs nothing shorter than an Ethernet header.
    for length in 14..whole.len() {
        assert_eq!(kernel.ingress(&whole[..length]), XDP_PASS, "{length} bytes");
        malformed += 1;
        assert_eq!(kernel.count(Counter::Malformed), malformed, "{length} bytes");
    }
    // Version, length of the header, total length, length of TCP's header.
    for (at, byte) in [(14, 0x44), (14, 0x65), (16, 0xff), (46, 0x10)] {
        let mut lying = whole.clone();
        lying[at] = byte;
        assert_eq!(kernel.ingress(&lying), XDP_PASS);
        malformed += 1;
        assert_eq!(kernel.count(Counter::Malformed), malformed, "byte {at}");
    }
    assert_eq!(kernel.kinds(), [0_u8; 0]);
    // Its source is known although the rest is not.
    kernel.block("192.0.2.1", 0);
    let mut lying = whole.clone();
    lying[46] = 0x10;
    assert_eq!(kernel.ingress(&lying), XDP_DROP);
}

#[test]
fn later_fragments_have_no_ports() {
    let Some(mut kernel) = Kernel::new() else { return };
    let mut frame = syn();
    frame[20] = 0;
    frame[21] = 5;
    assert_eq!(kernel.ingress(&frame), XDP_PASS);
    assert_eq!(kernel.count(Counter::Fragments), 1);
    assert_eq!(kernel.kinds(), [0_u8; 0], "no SYN: those bytes are no TCP header");
}

#[test]
fn other_ethertypes_pass() {
    let Some(mut kernel) = Kernel::new() else { return };
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(kernel.ingress(&frame), XDP_PASS);
    assert_eq!(kernel.count(Counter::OtherEther), 1);
}

#[test]
fn full_ring_buffer_is_counted() {
    let Some(mut kernel) = Kernel::new() else { return };
    let sent = 20_000;
    kernel.object.test_run(abi::PROGRAM_XDP, &syn(), sent).unwrap();
    let told = kernel.take_records().len() as u64;
    let lost = kernel.count(Counter::RecordsLost);
    assert!(lost > 0);
    assert_eq!(told + lost, u64::from(sent), "every record is told or counted");
}

#[test]
fn egress_is_seen_and_let_through() {
    let Some(mut kernel) = Kernel::new() else { return };
    let (verdict, _) = kernel.object.test_run(abi::PROGRAM_EGRESS, &syn(), 1).unwrap();
    assert_eq!(verdict, TC_NEXT);
    assert_eq!(kernel.count(Counter::EgressPackets), 1);
    assert_eq!(kernel.count(Counter::Packets), 0);
    let records = kernel.take_records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].kind, records[0].flags), (kind::SYN, abi::FLAG_EGRESS));
}

#[test]
fn egress_to_a_blocked_destination_is_dropped_unless_it_is_protected() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.block("192.0.2.1", 0);
    assert_eq!(kernel.run(abi::PROGRAM_EGRESS, &syn()), TC_NEXT, "the source does not count");
    kernel.block("192.0.2.2", 0);
    assert_eq!(kernel.run(abi::PROGRAM_EGRESS, &syn()), TC_DROP);
    assert_eq!(kernel.count(Counter::EgressDropped), 1);
    assert_eq!(kernel.count(Counter::DroppedBlock), 1);
    kernel.maps.protected.insert(ip("192.0.2.2"), 1, 0).unwrap();
    assert_eq!(kernel.run(abi::PROGRAM_EGRESS, &syn()), TC_NEXT);
}

#[test]
fn tc_ingress_does_what_xdp_does() {
    let Some(mut kernel) = Kernel::new() else { return };
    assert_eq!(kernel.run(abi::PROGRAM_INGRESS_TC, &syn()), TC_NEXT);
    assert_eq!(kernel.count(Counter::Packets), 1);
    assert_eq!(kernel.kinds(), [kind::SYN]);
    kernel.block("192.0.2.1", 0);
    assert_eq!(kernel.run(abi::PROGRAM_INGRESS_TC, &syn()), TC_DROP);
    assert_eq!(kernel.kinds(), [kind::FIRST_DROP]);
    assert_eq!(kernel.count(Counter::DroppedBlock), 1);
}

/// Frames of every kind that the parsers tell apart.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = vec![syn(), udp_v6()];
    let (a6, b6) = (ip("2001:db8::1"), ip("2001:db8::2"));
    for flags in 0..=0x3f_u8 {
        for v6 in [false, true] {
            let mut out = Vec::new();
            let builder = PacketBuilder::ethernet2(MAC, MAC);
            let step = if v6 { builder.ipv6(a6, b6, 64) } else { builder.ipv4(A, B, 64) };
            step.tcp(1000, 2000, 0, 0).write(&mut out, &[]).unwrap();
            out[if v6 { 67 } else { 47 }] = flags;
            frames.push(out);
        }
    }
    // Unreachable: host, too big, about UDP, and what ICMPv6 says.
    for (v6, icmp_type, code) in [(false, 3, 1), (false, 3, 4), (false, 8, 0), (true, 1, 4)] {
        let inner = if v6 { &udp_v6()[14..] } else { &syn()[14..] };
        let mut icmp = vec![icmp_type, code, 0, 0, 0, 0, 0, 0];
        icmp.extend(inner);
        let mut out = Vec::new();
        let builder = PacketBuilder::ethernet2(MAC, MAC);
        if v6 {
            let builder = builder.ipv6(b6, a6, 64);
            builder.write(&mut out, etherparse::IpNumber(58), &icmp).unwrap();
        } else {
            let builder = builder.ipv4(B, A, 64);
            builder.write(&mut out, etherparse::IpNumber(1), &icmp).unwrap();
        }
        frames.push(out);
    }
    // IPv4 options: four bytes of "no operation" between header and TCP.
    let mut options = syn();
    options[14] = 0x46;
    options[17] += 4;
    options.splice(34..34, [1, 1, 1, 1]);
    frames.push(options);
    // IPv6 hop-by-hop and destination options before UDP.
    let mut extended = udp_v6();
    extended[20] = 0;
    extended[19] += 16;
    extended.splice(54..54, [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
    for cut in 54..extended.len() {
        let mut short = extended[..cut].to_vec();
        short[19] = u8::try_from(cut - 54).unwrap();
        frames.push(short);
    }
    frames.push(extended);
    // "Unreachable" that does not say about what.
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(B, A, 64);
    builder.write(&mut out, etherparse::IpNumber(1), &[3, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    frames.push(out);
    // A first fragment has ports, a later one has none.
    for offset in [0, 1] {
        let mut fragment = syn();
        fragment[20] = 0x20;
        fragment[21] = offset;
        frames.push(fragment);
    }
    frames
}

/// Each frame with one byte changed, at places and to values that are the same in every run.
fn damaged(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut out = Vec::new();
    for frame in frames.iter().cycle().take(2000) {
        let mut frame = frame.clone();
        let at = next(frame.len());
        frame[at] = u8::try_from(next(256)).unwrap();
        out.push(frame);
    }
    out
}

#[test]
fn kernel_and_replay_make_the_same_records() {
    let Some(mut kernel) = Kernel::new() else { return };
    let whole = frames();
    for frame in whole.iter().chain(&damaged(&whole)) {
        // A new table each time would be slow; a new flow is needed each time.
        kernel.forget_flows();
        kernel.ingress(frame);
        let told = kernel.take_records();
        let packet = Packet {
            time_ns: 0,
            interface: 0,
            link: Linktype::ETHERNET,
            wire_bytes: u32::try_from(frame.len()).unwrap(),
            data: frame,
        };
        let replayed = match packet::parse(&packet) {
            Parsed::Ip(observed) => observed.record.or(observed.first_of_flow(&packet)),
            Parsed::Other | Parsed::Malformed => None,
        };
        let plain = |record: &Record| Record { time_ns: 0, interface: 0, ..*record };
        let told: Vec<Record> = told.iter().map(plain).collect();
        let replayed: Vec<Record> = replayed.iter().map(plain).collect();
        assert_eq!(told, replayed, "{frame:02x?}");
    }
}

#[test]
fn bench_measures_all() {
    let Some(path) = support::object() else { return };
    let lines = bench::run(&path).unwrap();
    for line in &lines {
        println!("{line:?}");
    }
    assert_eq!(lines.len(), 7);
}

#[test]
fn the_verifier_has_room_left() {
    let Some(path) = support::object() else { return };
    for (name, bytes, walked) in bench::sizes(&path).unwrap() {
        println!("{name}: {bytes} bytes of instructions, {walked} walked by the verifier");
        // A quarter of what the verifier allows: room for kernels that walk more.
        assert!(walked < 250_000, "{name}: {walked}");
    }
}

#[test]
fn empty_program_passes() {
    let Some(mut kernel) = Kernel::new() else { return };
    let (action, _) = kernel.object.test_run(PROGRAM_PASS, &syn(), 1).unwrap();
    assert_eq!(action, XDP_PASS);
    assert_eq!(kernel.count(Counter::Packets), 0);
}

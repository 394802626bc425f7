//! Odd streams, fragments and tunnels: with which packet a rule fires, as Suricata 8 does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use hookprobe_rules::{Config, Mode, yaml};
use hookprobe_traffic::config::Urgent;
use support::{CLIENT, SERVER, at, conversation, ip4, judge, tcp};

const NONE: [u64; 0] = [];
const PORT: u16 = 9000;

fn client(flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    ip4(CLIENT, SERVER, 2, 6, &tcp((4000, PORT), flags, seq, ack, data))
}

fn server(flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    ip4(SERVER, CLIENT, 2, 6, &tcp((PORT, 4000), flags, seq, ack, data))
}

/// A handshake and what follows it: the client's next byte is 101, the server's 501.
fn after_handshake(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut out = conversation(PORT, &[]);
    out.extend(packets);
    out
}

/// With an urgent pointer.
fn urgent(mut packet: Vec<u8>, pointer: u16) -> Vec<u8> {
    packet[38..40].copy_from_slice(&pointer.to_be_bytes());
    packet
}

/// Both ends close, the client first; `seq` and `ack` are the client's.
fn goodbye(seq: u32, ack: u32) -> [Vec<u8>; 3] {
    [
        client(0x11, seq, ack, b""),
        server(0x11, ack, seq + 1, b""),
        client(0x10, seq + 1, ack + 1, b""),
    ]
}

fn inline(packets: &[Vec<u8>], rule: &str) -> Vec<u64> {
    let (head, options) = rule.split_once('|').unwrap();
    let text = format!("alert {head} any any -> any any ({options} sid:1;)");
    let judge = judge(packets, &text, Mode::Inline, |_| {});
    judge.fired.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn an_urgent_segment_leaves_its_last_byte_out_of_the_stream() {
    let mut packets = after_handshake(vec![
        client(0x18, 101, 501, b"AT"),
        urgent(client(0x38, 103, 501, b"x"), 1),
        client(0x18, 104, 501, b"TACK"),
        server(0x10, 501, 108, b""),
    ]);
    packets.extend(goodbye(108, 501));
    assert_eq!(at(&packets, "tcp|content:\"ATTACK\";"), [8]);
    assert_eq!(at(&packets, "tcp|content:\"x\";"), NONE);
    let rule = "alert tcp any any -> any any (content:\"ATxTACK\"; sid:1;)";
    let by = |urgent, mode| {
        let judge = judge(&packets, rule, mode, |config| config.stream.urgent = urgent);
        (judge.fired, judge.dropped)
    };
    assert_eq!(by(Urgent::Inline, Mode::Passive), (vec![(8, 1)], vec![]));
    assert_eq!(by(Urgent::Gap, Mode::Passive), (vec![], vec![]));
    assert_eq!(by(Urgent::Drop, Mode::Inline), (vec![], vec![5]));
}

#[test]
fn an_urgent_segment_that_comes_again_has_one_urgent_byte() {
    let packets = after_handshake(vec![
        client(0x18, 101, 501, b"AT"),
        urgent(client(0x38, 103, 501, b"x"), 1),
        urgent(client(0x38, 103, 501, b"x"), 1),
        urgent(client(0x38, 103, 501, b"x"), 1),
        client(0x18, 104, 501, b"TACK"),
        server(0x10, 501, 108, b""),
    ]);
    assert_eq!(at(&packets, "tcp|content:\"ATTACK\";"), [0], "at the end of the flow");
}

#[test]
fn what_a_reset_carries_is_not_looked_at_nor_what_the_other_end_sends_then() {
    let packets = after_handshake(vec![
        client(0x18, 101, 501, b"abc"),
        client(0x14, 104, 501, b"ATTACK"),
        server(0x18, 501, 104, b"ATTACK"),
        client(0x18, 104, 501, b"ATTACK"),
    ]);
    assert_eq!(at(&packets, "tcp|content:\"ATTACK\";"), [7]);
    assert_eq!(at(&packets, "tcp|stream_size:client,=,10;"), [5, 6, 7]);
    assert_eq!(at(&packets, "tcp|stream-event:suspected_rst_inject;"), NONE);
}

#[test]
fn inline_segments_are_looked_at_with_what_came_before() {
    let packets = after_handshake(vec![
        client(0x18, 101, 501, b"ATT"),
        client(0x18, 104, 501, b"ACK"),
        server(0x10, 501, 107, b""),
    ]);
    assert_eq!(inline(&packets, "tcp|content:\"ATTACK\";"), [5]);
    assert_eq!(inline(&packets, "tcp|content:\"ATT\";"), [4, 5]);
    // What came first counts, whatever comes then.
    let again =
        after_handshake(vec![client(0x18, 102, 501, b"TTACK"), client(0x18, 101, 501, b"Axxxxx")]);
    assert_eq!(inline(&again, "tcp|content:\"ATTACK\";"), [5]);
    let event = "tcp|stream-event:reassembly_overlap_different_data;";
    assert_eq!(at(&again, event), [5]);
    // What has the very borders of what it repeats is compared only inline.
    let again =
        after_handshake(vec![client(0x18, 101, 501, b"one"), client(0x18, 101, 501, b"two")]);
    assert_eq!((inline(&again, event), at(&again, event)), (vec![5], vec![]));
}

#[test]
fn inline_what_does_not_fit_the_session_is_dropped_but_for_data() {
    let packets = after_handshake(vec![
        client(4, 9999, 0, b""),
        client(0x18, 101 + 200_000, 501, b"ATTACK"),
        client(2, 101, 0, b""),
    ]);
    let rule = "alert tcp any any -> any any (content:\"ATTACK\"; sid:1;)";
    let judged = judge(&packets, rule, Mode::Inline, |_| {});
    assert_eq!((judged.fired, judged.dropped), (vec![(5, 1)], vec![4, 6]));
    let judged =
        judge(&packets, rule, Mode::Inline, |config| config.stream.is_invalid_dropped = false);
    assert_eq!(judged.dropped, NONE);
}

#[test]
fn behind_a_hole_is_read_again_while_the_ends_close() {
    let mut packets = after_handshake(vec![client(0x18, 111, 501, b"ATTACK")]);
    packets.push(server(0x10, 501, 117, b""));
    packets.extend(goodbye(117, 501));
    assert_eq!(at(&packets, "tcp|content:\"ATTACK\";"), [6, 8]);
    // Without anything behind it, it is no hole yet.
    let packets = after_handshake(vec![server(0x10, 501, 110, b""), server(0x10, 501, 110, b"")]);
    assert_eq!(at(&packets, "tcp|stream-event:reassembly_seq_gap;"), NONE);
}

#[test]
fn rules_that_read_xbits_come_before_those_that_write_them() {
    let packets = conversation(PORT, &[(true, b"one"), (true, b"two")]);
    let rules = |kind: &str| {
        format!(
            "alert tcp any any -> any any ({kind}:set,a,{}; flags:+P; sid:1;)\n\
             alert tcp any any -> any any ({kind}:isset,a,{}; flags:+P; sid:2;)",
            if kind == "xbits" { "track ip_src" } else { "src" },
            if kind == "xbits" { "track ip_src" } else { "src" },
        )
    };
    let fired = |kind| judge(&packets, &rules(kind), Mode::Passive, |_| {}).fired;
    assert_eq!(fired("xbits"), [(4, 1), (6, 1), (6, 2)]);
    assert_eq!(fired("hostbits"), [(4, 1), (4, 2), (6, 1), (6, 2)]);
}

#[test]
fn options_of_tcp_that_are_not_as_they_should_be() {
    let syn = |options: &[u8]| {
        let mut segment = tcp((4000, PORT), 2, 100, 0, b"");
        segment[12] = u8::try_from(5 + options.len() / 4).unwrap() << 4;
        segment.extend(options);
        ip4(CLIENT, SERVER, 2, 6, &segment)
    };
    let packets = [syn(&[3, 3, 15, 0])];
    assert_eq!(at(&packets, "tcp|decode-event:tcp.opt_wscale_over_max;"), [1]);
    assert_eq!(at(&packets, "tcp|tcp.wscale:14;"), [1]);
}

#[test]
fn fast_open_whose_data_is_not_taken_goes_on_behind_the_syn() {
    let mut first = tcp((4000, PORT), 2, 100, 0, b"");
    first[12] = 8 << 4;
    first.extend([34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);
    first.extend(b"ATTACK");
    let packets = [
        ip4(CLIENT, SERVER, 2, 6, &first),
        server(0x12, 500, 101, b""),
        client(0x10, 101, 501, b""),
        client(0x18, 101, 501, b"ATTACK"),
    ];
    assert_eq!(at(&packets, "tcp|stream-event:3whs_synack_tfo_data_ignored;"), [2]);
    assert_eq!(at(&packets, "tcp|stream-event:3whs_wrong_seq_wrong_ack;"), NONE);
    assert_eq!(at(&packets, "tcp|flow:established; dsize:>0;"), [4]);
}

#[test]
fn a_fragment_carries_nothing_and_the_whole_is_counted_with_what_was_before_it() {
    let segment = tcp((4000, PORT), 2, 100, 0, b"ATTACK!!");
    let mut second = ip4(CLIENT, SERVER, 0, 6, &segment[24..]);
    second[7] = 3;
    let packets = [ip4(CLIENT, SERVER, 1, 6, &segment[..24]), second];
    assert_eq!(at(&packets, "tcp|dsize:0;"), [1, 2]);
    assert_eq!(at(&packets, "tcp|content:\"ACK!\";"), [2]);
    assert_eq!(at(&packets, "tcp|isdataat:5;"), [2]);
}

#[test]
fn of_protocols_that_are_not_known_no_payload_is() {
    let packet = [ip4(CLIENT, SERVER, 0, 200, b"ATTACK")];
    assert_eq!(at(&packet, "ip|content:\"ATTACK\";"), NONE);
    assert_eq!(at(&packet, "ip|dsize:0;"), [1]);
    // What an ESP packet carries is behind its index and sequence number.
    let packet = [ip4(CLIENT, SERVER, 0, 50, b"\0\0\0\x01\0\0\0\x02hidden")];
    assert_eq!(at(&packet, "ip|dsize:6; content:\"hidden\"; startswith;"), [1]);
}

#[test]
fn an_option_of_ip_that_is_wrong_is_none() {
    let with = |option: [u8; 4]| {
        let mut packet = ip4(CLIENT, SERVER, 0, 17, &[0, 9, 0, 9, 0, 8, 0, 0]);
        packet[0] = 0x46;
        packet[3] += 4;
        packet.splice(20..20, option);
        [packet]
    };
    assert_eq!(at(&with([7, 3, 4, 0]), "ip|ipopts:rr;"), [1]);
    assert_eq!(at(&with([7, 3, 2, 0]), "ip|ipopts:rr;"), NONE);
    assert_eq!(at(&with([7, 3, 2, 0]), "ip|ipopts:any;"), NONE);
    assert_eq!(at(&with([1, 1, 1, 1]), "ip|ipopts:any;"), [1]);
}

#[test]
fn an_error_of_icmp_is_no_packet_of_the_flow_that_it_is_about() {
    let syn = client(2, 100, 0, b"");
    let error = |kind| {
        let quoted = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &syn[..28]].concat();
        ip4(SERVER, CLIENT, 0, 1, &quoted)
    };
    let packets = [syn.clone(), error(3), error(11)];
    assert_eq!(at(&packets, "ip|priority:1;"), [1, 3]);
    assert_eq!(at(&packets, "icmp|itype:3; flow:to_client;"), [2]);
}

#[test]
fn what_is_not_an_address_of_version_4_is_no_other_of_version_6() {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    packet.extend([0x20; 32]);
    packet.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    let fired = |source: &str| {
        let rule = format!("alert udp {source} any -> any any (dsize:0; sid:1;)");
        judge(&[packet.clone()], &rule, Mode::Passive, |_| {}).fired.len()
    };
    assert_eq!(fired("!10.0.0.1"), 0);
    assert_eq!(fired("[any,!10.0.0.1]"), 1);
    assert_eq!(fired("!2001:db8::1"), 1);
}

#[test]
fn protocols_that_are_not_known_yet() {
    let request = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let packets = conversation(80, &[(true, request), (false, b"HTTP/1.1 200 OK\r\n\r\n")]);
    let to_client = |name: &str| {
        at(&packets, &format!("tcp|app-layer-protocol:{name}; flow:to_client; flags:+A;"))
    };
    assert_eq!(to_client("unknown"), [2, 5, 6]);
    assert_eq!(to_client("unknown,final"), [2]);
    assert_eq!(to_client("http"), NONE);
    assert_eq!(to_client("http,final"), [5, 6]);
    assert_eq!(to_client("!failed"), NONE);
    assert_eq!(at(&packets, "tcp|app-layer-protocol:unknown,original; flags:+P;"), [4, 6]);
    // A datagram says at once that it is of none that is known.
    let datagram = [0, 9, 35, 40, 0, 13, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    let packets = [ip4(CLIENT, SERVER, 0, 17, &datagram)];
    assert_eq!(at(&packets, "ip|app-layer-protocol:failed;"), [1]);
    assert_eq!(at(&packets, "udp|app-layer-protocol:!dns;"), [1]);
    assert_eq!(at(&packets, "udp|app-layer-protocol:failed,to_client;"), NONE);
}

#[test]
fn questions_are_the_clients_answers_the_servers_and_any_opcode_is_dns() {
    let message = |flags: u16| {
        let mut out = vec![0, 1];
        out.extend(flags.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1]);
        out
    };
    let udp = |from, to, ports: [u8; 4], message: &[u8]| {
        let length = u8::try_from(8 + message.len()).unwrap();
        ip4(from, to, 0, 17, &[&ports[..], &[0, length, 0, 0], message].concat())
    };
    let packets = [
        udp(CLIENT, SERVER, [16, 0, 0, 53], &message(0x0100)),
        udp(SERVER, CLIENT, [0, 53, 16, 0], &message(0x8180)),
    ];
    assert_eq!(at(&packets, "dns|dns.rrtype:A;"), [1], "nothing is answered");
    let packets = [udp(CLIENT, SERVER, [16, 0, 0, 53], &message(9 << 11))];
    assert_eq!(at(&packets, "dns|dns.opcode:9;"), [1]);
    assert_eq!(at(&packets, "dns|app-layer-event:dns.invalid_opcode;"), [1]);
}

#[test]
fn a_hook_for_all_packets_is_for_streams_too() {
    let mut packets = conversation(PORT, &[(true, b"ATT"), (true, b"ACK")]);
    packets.extend(goodbye(107, 501));
    assert_eq!(at(&packets, "tcp:all|content:\"ATTACK\";"), [8]);
}

#[test]
fn ages_are_told_by_the_clock() {
    let packets = conversation(PORT, &[]);
    // The packets of a test are a millisecond apart, and begin with one.
    assert_eq!(at(&packets, "tcp|flow.age:<1;"), [1, 2, 3]);
}

#[test]
fn settings_of_suricata_yaml() {
    let traffic =
        |text: &str, is_ips| hookprobe_rules::config::traffic(&yaml::parse(text).unwrap(), is_ips);
    let text = "vars:\n  port-groups:\n    V: \"[4789, 8472]\"\n\
        decoder:\n  vxlan:\n    ports: $V\n  teredo:\n    ports: \"3544, 3545\"\n\
        stream:\n  drop-invalid: no\n  reassembly:\n    urgent:\n      policy: gap\n";
    let config = traffic(text, true);
    assert_eq!(config.decode.vxlan_ports, [4789, 8472]);
    assert_eq!(config.decode.teredo_ports, [3544, 3545]);
    assert_eq!(config.stream.urgent, Urgent::Gap);
    assert!(!config.stream.is_invalid_dropped);
    let config = traffic("decoder:\n  teredo:\n    ports: any\n", false);
    assert!(config.decode.is_teredo_on && config.decode.teredo_ports.is_empty());
    // A policy of its own holds without dropping, the master switch does not.
    let midstream = |text: &str| {
        let mut config = Config::default();
        config.read_exceptions(&yaml::parse(text).unwrap(), false);
        config.midstream.name()
    };
    assert_eq!(midstream("stream:\n  midstream-policy: drop-flow\n"), "drop_flow");
    assert_eq!(midstream("exception-policy: drop-flow\n"), "ignore");
}

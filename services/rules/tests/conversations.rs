//! Rules against small conversations: at which packet each fires, as Suricata 8 does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use hookprobe_rules::Mode;
use support::{CLIENT, SERVER, at, conversation, ip4, judge, tcp};

const NONE: [u64; 0] = [];

fn echo(from: [u8; 4], to: [u8; 4], kind: u8) -> Vec<u8> {
    ip4(from, to, 0, 1, &[&[kind, 0, 0, 0, 0, 1, 0, 1][..], b"abcdef"].concat())
}

fn web() -> Vec<Vec<u8>> {
    let request = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    conversation(80, &[(true, request), (false, response)])
}

#[test]
fn early_hooks_fire_before_flow_and_stream_and_once_more_with_the_rest() {
    let packets = web();
    assert_eq!(at(&packets, "tcp:pre_flow|dsize:>0;"), [4, 4, 6, 6]);
    // Before the flow nobody knows the direction, afterwards it counts.
    assert_eq!(at(&packets[..4], "tcp:pre_flow|flow:to_client;"), [1, 2, 2, 3, 4]);
    assert_eq!(at(&packets[..4], "tcp:pre_stream|flow:to_client; flags:SA;"), [2, 2]);
    assert_eq!(at(&[echo(CLIENT, SERVER, 8)], "icmp:pre_stream|itype:8;"), [1]);
}

#[test]
fn a_direction_alone_needs_no_flow_and_is_not_asked_of_what_a_search_found() {
    let pings = [echo(CLIENT, SERVER, 8), echo(SERVER, CLIENT, 0)];
    assert_eq!(at(&pings, "icmp|flow:to_client;"), [2]);
    assert_eq!(at(&pings, "icmp|flow:to_client; dsize:>3;"), [2]);
    assert_eq!(at(&pings, "icmp|flow:to_client; content:\"abc\";"), [1, 2]);
    // A first fragment has no flow: it counts as sent to a server.
    let fragment = ip4(CLIENT, SERVER, 1, 17, &[0; 16]);
    assert_eq!(at(std::slice::from_ref(&fragment), "ip|flow:to_server; fragbits:M;"), [1]);
    assert_eq!(at(&[fragment], "ip|flow:to_client; fragbits:M;"), NONE);
}

#[test]
fn rules_for_a_protocol_number_are_for_addresses_only() {
    let packets = web();
    assert_eq!(at(&packets, "ip|ip_proto:6;"), [1, 2]);
    assert_eq!(at(&packets, "ip|l3_proto:ipv4;"), [1, 2]);
    assert_eq!(at(&packets, "pkthdr|priority:1;"), [1, 2]);
    assert_eq!(at(&packets, "tcp:all|priority:1;"), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn sizes_of_packets_without_payload() {
    let packets = web();
    assert_eq!(at(&packets, "tcp|dsize:!40;"), [4, 6]);
    assert_eq!(at(&packets, "tcp|dsize:>1;"), [4, 6]);
    assert_eq!(at(&packets, "tcp|dsize:1<>900;"), [4, 6]);
    assert_eq!(at(&packets, "tcp|dsize:0;"), [1, 2, 3, 5, 7]);
    assert_eq!(at(&packets, "tcp|dsize:<3;"), [1, 2, 3, 5, 7]);
    // The request is acknowledged with packet 5 and shown with 7: what brings bytes of its stream
    // is not empty, if a rule for such streams looks into them.
    let empty = |other: &str| {
        let rules = format!("alert tcp any any -> any 80 (dsize:0; sid:1;)\n{other}");
        let fired = judge(&packets, &rules, Mode::Passive, |_| {}).fired;
        fired.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!(empty("alert tcp any any -> any 80 (content:\"zz\"; sid:2;)"), [1, 3]);
    assert_eq!(empty("alert tcp any any -> any 81 (content:\"zz\"; sid:2;)"), [1, 3, 7]);
}

#[test]
fn a_packet_that_brings_its_stream_is_looked_at_though_it_is_empty() {
    let packets = web();
    assert_eq!(at(&packets, "tcp|flow:to_server; content:\"GET\";"), [7]);
    assert_eq!(at(&packets, "tcp|flow:to_server; content:!\"GET\";"), [7]);
    assert_eq!(at(&packets, "tcp|flow:to_server; isdataat:!1;"), [7]);
}

#[test]
fn fragmentation_bits_and_sizes_of_streams() {
    let packets = web();
    assert_eq!(at(&packets[..1], "ip|fragbits:D;"), [1]);
    assert_eq!(at(&packets[..1], "ip|fragbits:D+;"), [1]);
    assert_eq!(at(&packets[..1], "ip|fragbits:+D;"), NONE, "others are wanted, too");
    assert_eq!(at(&packets[..3], "tcp|stream_size:both,>,0;"), [2, 3]);
    assert_eq!(at(&packets[..3], "tcp|stream_size:server,=,0;"), [1]);
    assert_eq!(at(&packets[..3], "tcp|flow.pkts:both,>0;"), [2, 3]);
}

#[test]
fn distances_that_run_over_32_bits_go_back() {
    // G is 71: the variable is less than nothing.
    let rule = "tcp|flow:to_server; byte_math:bytes 1,offset 0,oper -,rvalue 73,result v; \
                content:\"GET\"; content:\"ET\"; distance:v;";
    assert_eq!(at(&web(), rule), [7]);
}

#[test]
fn encryption_hides_the_payload_of_what_follows() {
    // Messages of the exchange of keys: length, padding, type.
    let keys = [0, 0, 0, 4, 1, 21, 0, 0];
    let packets = conversation(
        22,
        &[
            (true, b"SSH-2.0-a\r\n"),
            (false, b"SSH-2.0-b\r\n"),
            (true, &keys),
            (false, &keys),
            (true, b"secret"),
            (true, b"secret"),
        ],
    );
    assert_eq!(at(&packets, "tcp-pkt|content:\"SSH\";"), [4, 6]);
    assert_eq!(at(&packets, "tcp-pkt|content:\"secret\";"), NONE);
    assert_eq!(at(&packets, "tcp|dsize:>5;"), [4, 6, 8, 10]);
    assert_eq!(at(&packets, "tcp|dsize:>=6;"), [4, 6, 8, 10, 12, 14], "the size is still there");
    // Before that, what asks for no header is asked once more in each direction.
    let flushed = |options: &str| {
        let fired = at(&packets, &format!("tcp|{options}"));
        fired.into_iter().filter(|number| *number == 0).count()
    };
    assert_eq!((flushed("flow:established;"), flushed("flags:+A;")), (2, 0));
}

#[test]
fn states_of_http_at_the_end_of_a_flow() {
    let request = b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    let packets = conversation(80, &[(true, request)]);
    assert_eq!(at(&packets, "http1:request_headers|priority:1;"), [0]);
    // It never came to its end, and the answer not at all.
    assert_eq!(at(&packets, "http1:request_complete|priority:1;"), NONE);
    assert_eq!(at(&packets, "http1:response_started|priority:1;"), [0]);
    assert_eq!(at(&packets, "http1:response_line|priority:1;"), NONE);
}

#[test]
fn the_line_of_a_response_has_its_end_and_files_a_size_when_they_are_whole() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let request: &[u8] = b"GET /%41 HTTP/1.1\r\nHost: b\r\n\r\n";
    let packets = conversation(80, &[(true, request), (false, response), (false, b"world")]);
    let line = "http|http.response_line; content:\"OK|0d 0a|\"; endswith;";
    assert_eq!(at(&packets, line).len(), 1);
    assert_eq!(at(&packets, "http|filesize:10;").len(), 1);
    assert_eq!(at(&packets, "http|filesize:5;"), NONE);
    assert_eq!(at(&packets, "http|urilen:2;").len(), 1, "of the normalized one");
}

#[test]
fn a_fragment_of_ip_6_carries_nothing_that_is_known() {
    // The fragment header says ICMPv6, more to come.
    let mut packet = vec![0x60, 0, 0, 0, 0, 16, 44, 64];
    for last in [1, 2] {
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend([58, 0, 0, 1, 0, 0, 0, 7]);
    packet.extend(b"abcdefgh");
    let packets = [packet];
    assert_eq!(at(&packets, "ip|content:\"abc\";"), NONE);
    assert_eq!(at(&packets, "ip|dsize:0;"), [1]);
    assert_eq!(at(&packets, "ip|ip_proto:44;"), [1]);
    assert_eq!(at(&packets, "ip|fragoffset:0;"), [1]);
    packets_without_fragment();
}

fn packets_without_fragment() {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 59, 64];
    packet.extend([0; 32]);
    assert_eq!(at(&[packet], "ip|fragoffset:0;"), NONE);
}

#[test]
fn a_frame_about_the_connection_is_over_as_it_is_there() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
    let packets = conversation(80, &[(true, &[&preface[..], &settings].concat())]);
    // The acknowledgement of the server brings it, and is its own direction's packet.
    assert_eq!(at(&packets, "http2|http.protocol; content:\"HTTP/2\"; flow:to_client;"), [5]);
    assert_eq!(at(&packets, "http2|http.start; isdataat:1;"), NONE);
}

#[test]
fn bytes_behind_an_upgrade_are_of_the_new_protocol() {
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: b\r\nUpgrade: h2c\r\n\r\n";
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
    let head = &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"[..];
    let answer = [head, &settings].concat();
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let packets = conversation(80, &[(true, request), (false, &answer), (false, &window)]);
    let rule = "http2|http2.settings:SETTINGS_MAX_CONCURRENT_STREAMS=100;";
    assert!(!at(&packets, rule).is_empty());
    assert!(!at(&packets, "http2|http2.window:9;").is_empty());
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\n\r\n";
    let answer: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\n\x81\x05hello";
    let packets = conversation(80, &[(true, request), (false, answer), (true, b"\x81\x81aaaab")]);
    assert!(!at(&packets, "websocket|flow:to_server;").is_empty());
}

#[test]
fn replies_of_mail_are_looked_at_as_they_come_and_a_mail_when_it_ends() {
    let packets = conversation(
        25,
        &[
            (false, b"220 a\r\n"),
            (true, b"HELO b\r\n"),
            (false, b"250 c\r\n"),
            (true, b"DATA\r\n"),
            (false, b"354 d\r\n"),
            (true, b"Subject: e\r\n\r\nfirst\r\n"),
            (true, b"second\r\n"),
            (true, b".\r\n"),
        ],
    );
    let mail = "tcp-stream|flow:to_server; content:\"first\";";
    assert!(at(&packets, mail).iter().all(|number| *number == 0 || *number > 18));
    assert_eq!(at(&packets, mail).len(), 1);
    assert_eq!(at(&packets, "tcp-stream|flow:to_server; content:\"HELO\";"), [9]);
}

#[test]
fn events_of_http_2_load() {
    assert_eq!(at(&web(), "http2|app-layer-event:http2.invalid_header;"), NONE);
}

/// A conversation that both sides close, the server or the client first.
fn closed(is_server_first: bool, messages: &[(bool, &[u8])]) -> Vec<Vec<u8>> {
    let sent = |by_client: bool| {
        let own = messages.iter().filter(|(is_client, _)| *is_client == by_client);
        own.map(|(_, data)| u32::try_from(data.len()).unwrap()).sum::<u32>()
    };
    let (seq, ack) = (101 + sent(true), 501 + sent(false));
    let client =
        |flags, seq, ack| ip4(CLIENT, SERVER, 2, 6, &tcp((4000, 80), flags, seq, ack, b""));
    let server =
        |flags, seq, ack| ip4(SERVER, CLIENT, 2, 6, &tcp((80, 4000), flags, seq, ack, b""));
    let mut out = conversation(80, messages);
    out.extend(if is_server_first {
        [server(0x11, ack, seq), client(0x11, seq, ack + 1), server(0x10, ack + 1, seq + 1)]
    } else {
        [client(0x11, seq, ack), server(0x11, ack, seq + 1), client(0x10, seq + 1, ack + 1)]
    });
    out
}

#[test]
fn a_body_that_waits_for_its_next_chunk_depends_on_who_closes() {
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let messages: [(bool, &[u8]); 2] = [(true, request), (false, response)];
    let body = "http|file.data; content:\"hello\";";
    assert_eq!(at(&closed(true, &messages), body), NONE);
    assert_eq!(at(&closed(false, &messages), body).len(), 1);
    // Nobody knows whether it would have come.
    let absent = "http|flow:to_client; http.response_body; absent: or_else; content:\"x\";";
    assert_eq!(at(&closed(true, &messages), absent), NONE);
}

#[test]
fn buffers_of_a_response_in_pieces() {
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let pieces: [&[u8]; 3] = [
        b"HTTP/1.1 200 \r\nA: b\r\n",
        b"C: d\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n0\r\nE: f\r\n\r\n",
    ];
    let mut messages = vec![(true, request)];
    messages.extend(pieces.map(|piece| (false, piece)));
    let packets = conversation(80, &messages);
    // Not before the block is whole.
    let names = "http|flow:to_client; http.header_names; content:!\"C|0d 0a|\";";
    assert_eq!(at(&packets, names), NONE);
    assert_eq!(at(&packets, "http|flow:to_client; http.header; content:!\"C: d\";"), NONE);
    let start = "http|flow:to_client; http.start; content:\"200 |0d 0a 0d 0a|A: b|0d 0a|C: d\";";
    assert_eq!(at(&packets, start).len(), 1);
    // The trailer is added.
    let raw = "http|flow:to_client; http.header.raw; content:\"E: f\";";
    assert_eq!(at(&packets, raw).len(), 1);
    // An empty one is there, but has no digest.
    let message = "http|flow:to_client; http.stat_msg; bsize:0;";
    assert_eq!(at(&packets, message).len(), 1);
    let digest = "http|flow:to_client; http.stat_msg; to_md5; bsize:16;";
    assert_eq!(at(&packets, digest), NONE);
}

#[test]
fn the_uri_of_a_request_that_was_not_seen() {
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let response: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let packets = conversation(80, &[(true, request), (false, response), (false, response)]);
    let unseen = "http|http.uri.raw; content:\"/libhtp|3a 3a|request_uri_not_seen\";";
    assert_eq!(at(&packets, unseen).len(), 1);
    assert_eq!(at(&packets, "http|file.name; content:\"not_seen\";").len(), 1);
}

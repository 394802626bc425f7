//! Laws of the application layer: it never panics, and how a stream is cut changes nothing.

#![expect(clippy::unwrap_used, reason = "test support")]

use hookprobe_traffic::Direction::{self, ToClient, ToServer};
use hookprobe_traffic::app::{App, Config, Meta, State, Transport, TxRef};
use proptest::prelude::*;

/// A conversation: who says what, in order.
type Talk = Vec<(Direction, Vec<u8>)>;

fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[9; 32]);
    body.extend_from_slice(&[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0]);
    let mut extensions = vec![0, 0, 0, 11, 0, 9, 0, 0, 6];
    extensions.extend_from_slice(b"hp.org");
    extensions.extend_from_slice(&[0, 16, 0, 5, 0, 3, 2, b'h', b'2']);
    extensions.extend_from_slice(&[0, 43, 0, 3, 2, 3, 4]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = u16::try_from(body.len()).unwrap();
    // Two records: the hello is cut inside.
    let mut message = vec![1, 0];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&body);
    let mut bytes = Vec::new();
    for piece in [&message[..20], &message[20..]] {
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(&u16::try_from(piece.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(piece);
    }
    bytes.extend_from_slice(&[23, 3, 3, 0, 4, 1, 2, 3, 4]);
    bytes
}

fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
    let length = u8::try_from(body.len()).unwrap();
    let mut bytes = vec![22, 3, 3, 0, length + 4, 2, 0, 0, length];
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 2, 8, 8]);
    bytes
}

fn talks() -> Vec<Talk> {
    let dns = b"\0\x1d\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x02hp\x03org\0\0\x01\0\x01".to_vec();
    vec![
        vec![
            (ToServer, b"GET /a/../b?c HTTP/1.1\r\nHost: Hp.org\r\nA: b\r\n c\r\n\r\n".to_vec()),
            (
                ToClient,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec(),
            ),
            (ToClient, b"0\r\n\r\n".to_vec()),
            (ToServer, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".to_vec()),
            (ToClient, b"HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno".to_vec()),
        ],
        // Odd ends: of a response in front of the next, of a block, of a chunked form.
        vec![
            (ToServer, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            (ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab".to_vec()),
            (ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
        ],
        vec![
            (ToServer, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            (
                ToClient,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\n\nHTTP/1.1 201 OK\nContent-Length: 1\n\nb".to_vec(),
            ),
        ],
        vec![
            (
                ToServer,
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                  Transfer-Encoding: chunked\r\n\r\n4a\r\n--b\r\nContent-Disposition: form-data; \
                  filename=\"hp.txt\"\r\n\r\nhello\r\n--b--\r\n\r\n\r\n0\r\n\r\n".to_vec(),
            ),
        ],
        vec![(ToServer, client_hello()), (ToClient, server_hello())],
        vec![
            (ToServer, b"SSH-2.0-a_1\r\n".to_vec()),
            (ToClient, b"SSH-2.0-b_2 c\r\n\0\0\0\x0c\x0a\x15\0\0\0\0\0\0\0\0\0\0".to_vec()),
        ],
        vec![
            (ToServer, b"EHLO hp\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n".to_vec()),
            (ToServer, b"Subject: x\r\n\r\nhttp://hp.org/\r\n.\r\nQUIT\r\n".to_vec()),
            (ToClient, b"220 a\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n250 f\r\n221 g\r\n".to_vec()),
        ],
        vec![(ToServer, [dns.clone(), dns].concat())],
        vec![
            (ToServer, b"INVITE sip:a@b SIP/2.0\r\nv: x\r\n y\r\nl: 2\r\n\r\nhi".to_vec()),
            (ToClient, b"SIP/2.0 180 Ringing\r\nTo: c\r\n\r\n".to_vec()),
        ],
        vec![
            (ToServer, b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
            (ToClient, b"N".to_vec()),
            (ToServer, b"\0\0\0\x10\0\x03\0\0user\0a\0\0".to_vec()),
            (ToClient, b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0Z\0\0\0\x05I".to_vec()),
            (ToServer, b"Q\0\0\0\x06x\0".to_vec()),
            (ToClient, b"D\0\0\0\x0b\0\x01\0\0\0\x01yC\0\0\0\x06z\0Z\0\0\0\x05I".to_vec()),
        ],
    ]
}

/// Feeds a conversation; `cut` says at which lengths each piece is cut once more.
fn run(talk: &Talk, cut: usize, transport: Transport, ports: (u16, u16)) -> App {
    let config = Config { are_files_hashed: true, ..Config::default() };
    let meta = Meta {
        config: &config,
        transport,
        ports,
        gap: 0,
        eof: false,
        is_midstream: false,
        offset: 0,
        is_alone: false,
    };
    let mut app = App::default();
    for (direction, data) in talk {
        let (head, tail) = data.split_at(cut.min(data.len()));
        for piece in [head, tail] {
            if !piece.is_empty() {
                app.feed(1, *direction, piece, meta);
            }
        }
    }
    app
}

/// What is known of a conversation, as text.
fn summary(app: &App) -> String {
    let txs = app.txs().map(|tx| {
        let rest = match tx {
            TxRef::Http(tx) => {
                let files = tx.request.files.iter().map(|file| (&file.name, file.size, file.state));
                let body = tx.response.body.window();
                format!("{:?} {:?} {body:?}", tx.request.uri, files.collect::<Vec<_>>())
            }
            TxRef::Tls(tx) => format!("{:?} {:?} {}", tx.ja4, tx.ja3s, tx.history),
            TxRef::Ssh(tx) => format!("{:?} {:?}", tx.client.software, tx.server.comment),
            TxRef::Smtp(tx) => format!("{:?} {:?}", tx.rcpt_to, tx.email),
            TxRef::Dns(tx) => format!("{:?}", tx.message),
            TxRef::Record(tx) => format!("{:?}", tx.body),
            TxRef::Quic(_) | TxRef::Dhcp(_) => String::new(),
        };
        let progress = (tx.progress(ToServer), tx.progress(ToClient));
        format!("{} {progress:?} {:?} {rest}", tx.id(), tx.events())
    });
    format!("{:?}\n{}", app.proto(), txs.collect::<Vec<_>>().join("\n"))
}

#[test]
fn cutting_a_stream_anywhere_changes_nothing() {
    for talk in talks() {
        let whole = summary(&run(&talk, 0, Transport::Tcp, (50_000, 53)));
        assert!(!whole.starts_with("None"), "{whole}");
        let longest = talk.iter().map(|(_, data)| data.len()).max().unwrap();
        for cut in 1..longest {
            assert_eq!(summary(&run(&talk, cut, Transport::Tcp, (50_000, 53))), whole, "at {cut}");
        }
    }
}

#[test]
fn a_server_that_speaks_first_is_found_on_any_port() {
    let talk = vec![
        (ToClient, b"220 hp ESMTP\r\n".to_vec()),
        (ToServer, b"EHLO me\r\n".to_vec()),
        (ToClient, b"250 hp\r\n".to_vec()),
    ];
    let app = run(&talk, 0, Transport::Tcp, (50_000, 2_525));
    let State::Smtp(smtp) = &app.state else { panic!("{:?}", app.state) };
    assert_eq!(smtp.helo, b"me");
    assert_eq!(smtp.txs[0].replies.last().unwrap(), b"250 hp");
}

#[test]
fn what_nobody_knows_fails_only_when_both_sides_are_known_not_to_be_known() {
    let few = vec![(ToServer, b"\x01nothing".to_vec()), (ToClient, b"\x02nor this".to_vec())];
    assert!(matches!(run(&few, 0, Transport::Tcp, (1, 2)).state, State::Unknown(_)));
    let talk = vec![
        (ToServer, b"\x01nothing that is known".to_vec()),
        (ToClient, b"\x02nor is this".to_vec()),
    ];
    assert!(matches!(run(&talk[..1].to_vec(), 0, Transport::Tcp, (1, 2)).state, State::Unknown(_)));
    assert!(run(&talk, 0, Transport::Tcp, (1, 2)).is_failed());
}

#[test]
fn a_response_first_turns_the_flow_round() {
    let config = Config::default();
    let meta = Meta {
        config: &config,
        transport: Transport::Udp,
        ports: (40_000, 53),
        gap: 0,
        eof: false,
        is_midstream: false,
        offset: 0,
        is_alone: false,
    };
    let mut app = App::default();
    let response = b"\x12\x34\x81\x80\0\x01\0\0\0\0\0\0\x02hp\0\0\x01\0\x01";
    let fed = app.feed(1, ToServer, response, meta);
    assert!(fed.is_reversed && fed.is_detected);
    assert!(app.txs().all(|tx| tx.has_direction(ToClient)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn hostile_bytes_never_panic(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        port in prop::sample::select(vec![25_u16, 53, 67, 443, 5353, 8000]),
        is_udp in any::<bool>(),
    ) {
        let talk: Talk = pieces
            .into_iter()
            .map(|(is_server, data)| (if is_server { ToServer } else { ToClient }, data))
            .collect();
        let transport = if is_udp { Transport::Udp } else { Transport::Tcp };
        run(&talk, 7, transport, (40_000, port));
    }

    #[test]
    fn damaged_conversations_never_panic(
        which in 0_usize..5,
        damage in prop::collection::vec((0_usize..2_000, any::<u8>()), 1..8),
        cut in 0_usize..64,
    ) {
        let mut talk = talks().swap_remove(which);
        let total: usize = talk.iter().map(|(_, data)| data.len()).sum();
        for (at, value) in damage {
            let mut at = at % total;
            for (_, data) in &mut talk {
                if at < data.len() {
                    data[at] = value;
                    break;
                }
                at -= data.len();
            }
        }
        let mut app = run(&talk, cut, Transport::Tcp, (50_000, 53));
        app.prune();
    }
}

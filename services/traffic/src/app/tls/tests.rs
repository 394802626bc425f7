//! Handshakes by hand.

use super::{Certificate, ClientHello, ServerHello, Tls, progress};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::tests::meta;
use crate::app::{Config, Fed, Meta, Step};

fn record(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3][..], &length, data].concat()
}

fn message(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[kind, 0][..], &length, data].concat()
}

/// Session id and extensions are the caller's.
fn client_hello(session: &[u8], extensions: &[u8]) -> Vec<u8> {
    let session_length = u8::try_from(session.len()).unwrap();
    let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
    let fixed = [&[3, 3][..], &[1; 32], &[session_length], session, &[0, 2, 0xc0, 0x2f, 1, 0]];
    message(1, &[&fixed.concat()[..], &length, extensions].concat())
}

fn server_hello(random: &[u8], session: &[u8], extensions: &[u8]) -> Vec<u8> {
    let session_length = u8::try_from(session.len()).unwrap();
    let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
    let fixed = [&[3, 3][..], random, &[session_length], session, &[0xc0, 0x2f, 0]];
    message(2, &[&fixed.concat()[..], &length, extensions].concat())
}

const SNI: &[u8] = b"\0\0\0\x0b\0\x09\0\0\x06hp.org";
const VERSION_13: &[u8] = b"\0\x2b\0\x02\x03\x04";

fn run(pieces: &[(Direction, Vec<u8>)]) -> (Tls, Step) {
    let config = Config::default();
    let mut tls = Tls::default();
    let mut last = Step::Go;
    for (direction, data) in pieces {
        last = tls.feed(1, *direction, data, &meta(&config), &mut Fed::default());
    }
    (tls, last)
}

#[test]
fn version_1_2_in_full() {
    let flight = [
        record(22, &server_hello(&[2; 32], b"", b"")),
        record(22, &[message(11, &[0, 0, 0]), message(12, &[3, 0, 29, 0])].concat()),
        record(22, &message(14, b"")),
    ];
    let (tls, _) = run(&[
        (ToServer, record(22, &client_hello(b"", SNI))),
        (ToClient, flight.concat()),
        (ToServer, record(22, &message(16, b"key"))),
        (ToServer, [record(20, &[1]), record(22, &[9; 40])].concat()),
        (ToClient, [record(20, &[1]), record(22, &[9; 40])].concat()),
    ]);
    let tx = &tls.tx;
    assert_eq!((tx.sni(), tx.version_name()), (Some(&b"hp.org"[..]), "TLS 1.2"));
    assert_eq!((tx.history.as_str(), tx.curve), ("CsxknGIi", Some(29)));
    assert!(tx.is_established && !tx.is_resumed);
    assert_eq!(tx.progress, [progress::CLIENT_HANDSHAKE_DONE, progress::SERVER_HANDSHAKE_DONE]);
    let (tls, step) = run(&[
        (ToServer, record(22, &client_hello(b"", SNI))),
        (ToClient, record(22, &server_hello(&[2; 32], b"", b""))),
        (ToServer, [record(20, &[1]), record(23, b"data")].concat()),
        (ToClient, [record(20, &[1]), record(23, b"data")].concat()),
    ]);
    assert_eq!(step, Step::Done);
    let done = [progress::CLIENT_HANDSHAKE_DONE, progress::SERVER_HANDSHAKE_DONE];
    assert_eq!(tls.tx.progress, done, "finished is what the session has closed");
}

#[test]
fn a_retry_is_not_the_answer() {
    let mut retry = *b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\
        \xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
    let pieces = |random: &[u8]| {
        vec![
            (ToServer, record(22, &client_hello(b"", SNI))),
            (ToClient, record(22, &server_hello(random, b"", VERSION_13))),
            (ToServer, [record(20, &[1]), record(22, &client_hello(b"", b""))].concat()),
            (ToClient, record(22, &server_hello(&[2; 32], b"", VERSION_13))),
        ]
    };
    let (tls, _) = run(&pieces(&retry));
    assert_eq!((tls.tx.history.as_str(), tls.tx.has_retry), ("CjICs", true));
    assert_eq!(tls.tx.server_hello.as_ref().unwrap().random, [2; 32]);
    assert_eq!((tls.tx.version, tls.tx.sni()), (0x0304, Some(&b"hp.org"[..])));
    retry[31] = 0;
    assert!(!run(&pieces(&retry)).0.tx.has_retry);
}

#[test]
fn resumption_by_session_ticket_and_key() {
    let by_id = run(&[
        (ToServer, record(22, &client_hello(b"id", b""))),
        (ToClient, record(22, &server_hello(&[2; 32], b"id", b""))),
    ]);
    let by_ticket = run(&[
        (ToServer, record(22, &client_hello(b"", b"\0\x23\0\x01t"))),
        (ToClient, [record(22, &server_hello(&[2; 32], b"", b"")), record(20, &[1])].concat()),
        (ToServer, record(20, &[1])),
    ]);
    let key = [VERSION_13, b"\0\x29\0\x02\0\0"].concat();
    let by_key = run(&[
        (ToServer, record(22, &client_hello(b"", b""))),
        (ToClient, record(22, &server_hello(&[2; 32], b"", &key))),
    ]);
    for (tls, _) in [by_id, by_ticket, by_key] {
        assert!(tls.tx.is_resumed);
    }
}

#[test]
fn alerts_heartbeats_and_encrypted_hellos_show() {
    let (tls, _) = run(&[
        (ToServer, record(22, &client_hello(b"", b"\xfe\x0d\0\x01x"))),
        (ToServer, record(24, &[1, 0x40, 0, 0])),
        (ToClient, record(21, &[2, 40])),
    ]);
    assert!(tls.tx.has_ech && tls.tx.has_heartbeat);
    assert!(tls.tx.events.contains("overflow_heartbeat_message"));
    assert_eq!((tls.tx.last_alert, &tls.tx.history[..]), (Some((ToClient, 2, 40)), "Cl"));
}

#[test]
fn lying_lengths_end_and_are_noted() {
    let lying = [&[1, 0xff, 0xff, 0xff][..], &[0; 16_000]].concat();
    let (tls, _) = run(&[(ToServer, record(22, &lying)), (ToServer, record(22, &lying))]);
    assert!(tls.tx.events.contains("handshake_invalid_length"));
    assert!(tls.sides[0].gathered.is_empty());
    let (tls, step) = run(&[(ToServer, b"\x16\x03\x01\0\x01\x01\x99\x03\x03\0\0".to_vec())]);
    assert_eq!(step, Step::Fail);
    assert!(tls.tx.events.contains("invalid_record_type"));
    assert!(ClientHello::parse(&[3, 3, 0]).is_truncated);
    assert!(ServerHello::parse(&[]).is_truncated);
}

#[test]
fn lost_application_data_does_not_matter() {
    let config = Config::default();
    let mut tls = Tls::default();
    let data = [record(22, &client_hello(b"", b"")), b"\x17\x03\x03\0\x08ab".to_vec()].concat();
    tls.feed(1, ToServer, &data, &meta(&config), &mut Fed::default());
    let hole = Meta { gap: 6, ..meta(&config) };
    tls.feed(1, ToServer, &record(21, &[1, 0]), &hole, &mut Fed::default());
    assert_eq!(tls.tx.last_alert, Some((ToServer, 1, 0)));
}

#[test]
fn version_2_hello_is_read() {
    let hello = b"\x80\x1f\x01\x03\x01\0\x06\0\0\0\x10\0\xc0\x2f\x07\0\xc00123456789abcdef";
    let (tls, _) = run(&[(ToServer, hello.to_vec())]);
    let client = tls.tx.client_hello.as_ref().unwrap();
    assert_eq!((client.version, &client.ciphers[..]), (0x0301, &[0xc02f][..]));
    assert_eq!(&client.random[16..], b"0123456789abcdef");
}

#[test]
fn a_certificate_by_hand() {
    let name = b"\x30\x1a\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02US\
        \x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02hp";
    let san = b"\xa3\x1b\x30\x19\x30\x17\x06\x03\x55\x1d\x11\x04\x10\x30\x0e\x82\x06hp.org\x87\x04\x0a\0\0\x01";
    let body = [
        &b"\xa0\x03\x02\x01\x02\x02\x02\x12\xab\x30\x00"[..],
        name,
        b"\x30\x1e\x17\x0d700101000000Z\x17\x0d300101000000Z",
        name,
        b"\x30\x00",
        san,
    ]
    .concat();
    let length = u8::try_from(body.len()).unwrap();
    let der = [&[0x30, 0x81, length + 3, 0x30, 0x81, length][..], &body].concat();
    let certificate = Certificate::parse(&der);
    assert!(!certificate.is_malformed);
    assert_eq!((&certificate.subject[..], &certificate.serial[..]), ("C=US, CN=hp", "12:AB"));
    assert_eq!(certificate.sans, ["hp.org", "10.0.0.1"]);
    assert_eq!(
        (certificate.not_before_s, certificate.common_name.as_deref()),
        (Some(0), Some("hp"))
    );
    assert_eq!(certificate.fingerprint.len(), 59);
    for cut in 0..der.len() {
        assert!(Certificate::parse(&der[..cut]).is_malformed);
    }
}

#[test]
fn each_end_has_the_version_that_it_spoke() {
    // GREASE first, then 1.3; the server takes 1.2.
    let offer: &[u8] = b"\0\x2b\0\x07\x06\x1a\x1a\x03\x04\x03\x03";
    let hello = record(22, &client_hello(b"", offer));
    let (tls, _) = run(&[(ToServer, hello.clone())]);
    assert_eq!((tls.tx.spoken(ToServer), tls.tx.spoken(ToClient)), (Some(0x0304), None));
    let answer = record(22, &server_hello(&[2; 32], b"", b""));
    let (tls, _) = run(&[(ToServer, hello), (ToClient, answer)]);
    assert_eq!((tls.tx.spoken(ToServer), tls.tx.spoken(ToClient)), (Some(0x0304), Some(0x0303)));
}

#[test]
fn a_stage_lasts_until_the_next_record_of_another_call() {
    use super::Stage;
    let hello = record(22, &client_hello(b"", SNI));
    let answer = record(22, &server_hello(&[2; 32], b"", b""));
    let keys = record(22, &message(16, b"key"));
    let stage = |pieces: &[(Direction, Vec<u8>)]| run(pieces).0.tx.stage;
    assert_eq!(stage(&[(ToServer, hello.clone())]), Some(Stage::ClientHello));
    assert_eq!(stage(&[(ToServer, hello.clone()), (ToClient, answer)]), Some(Stage::ServerHello));
    assert_eq!(stage(&[(ToServer, hello.clone()), (ToServer, keys)]), Some(Stage::ClientKeys));
    assert_eq!(stage(&[(ToServer, hello), (ToServer, record(20, &[1]))]), None);
    assert_eq!(Stage::from_name("client_keyx").map(Stage::bit), Some(4));
    assert_eq!(Stage::from_name("x"), None);
}

/// Records are taken when they are whole, with a word of what is waited for.
#[test]
fn a_record_in_pieces_is_read_at_its_end() {
    let config = Config::default();
    let mut tls = Tls::default();
    let hello = record(22, &client_hello(b"", SNI));
    tls.feed(1, ToServer, &hello, &meta(&config), &mut Fed::default());
    // Two messages in one record: the first is whole long before the record is.
    let flight = [server_hello(&[2; 32], b"", b""), message(11, &[0, 0, 0]), message(14, b"")];
    let flight = record(22, &flight.concat());
    let mut idle = Vec::new();
    for piece in flight.chunks(20) {
        let mut fed = Fed::default();
        tls.feed(1, ToClient, piece, &meta(&config), &mut fed);
        idle.push(fed.is_idle);
        assert_eq!(tls.tx.server_hello.is_some(), idle.len() == flight.len().div_ceil(20));
    }
    assert_eq!(idle, [false, true, false], "the first call, and the one that ends it");
    assert_eq!(tls.tx.progress[1], progress::SERVER_HELLO_DONE);
    let end = Meta { eof: true, ..meta(&config) };
    tls.feed(1, ToServer, b"", &end, &mut Fed::default());
    assert_eq!(tls.tx.progress, [progress::CLIENT_FINISHED, progress::SERVER_FINISHED]);
}

//! Answers and requests that are odd on purpose: what libhtp makes of them.

use super::{FileState, Http, Tx, Version, progress};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::tests::meta;
use crate::app::{Config, Fed, Meta, Step};

const GET: &[u8] = b"GET /f HTTP/1.1\r\nHost: h\r\n\r\n";

/// A flow that ends after these pieces.
fn run(pieces: &[(Direction, &[u8])]) -> Http {
    let config = Config::default();
    let mut http = Http::default();
    for (direction, data) in pieces {
        http.feed(1, *direction, data, &meta(&config), &mut Fed::default());
    }
    for direction in [ToServer, ToClient] {
        let eof = Meta { eof: true, ..meta(&config) };
        http.feed(1, direction, b"", &eof, &mut Fed::default());
    }
    http
}

fn answer(bytes: &[u8]) -> Http {
    run(&[(ToServer, GET), (ToClient, bytes)])
}

fn body(tx: &Tx) -> String {
    String::from_utf8_lossy(tx.response.body.window().1).into_owned()
}

fn events(tx: &Tx) -> Vec<&'static str> {
    tx.events.iter().collect()
}

#[test]
fn chunks_that_are_none() {
    let chunked = |body: &[u8]| {
        answer(&[b"HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat())
    };
    // Lines of white space are passed over, and so is a size that can't be.
    assert_eq!(body(&chunked(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n").txs[0]), "abc");
    assert_eq!(body(&chunked(b"80000000\r\n3\r\nabc\r\n0\r\n\r\n").txs[0]), "abc");
    // Without the end of a line, what can't become a size is the body; a line end before it is none.
    let http = chunked(b"\r\nXabc");
    assert_eq!(body(&http.txs[0]), "Xabc");
    assert_eq!(events(&http.txs[0]), ["invalid_response_chunk_len"]);
    // A line that is no size is counted twice.
    let http = chunked(b"xf\nabc");
    assert_eq!((body(&http.txs[0]).as_str(), http.txs[0].response.body.wire), ("xf\nabc", 9));
    // The line of the next chunk is waited for: the file has no end.
    let file = &chunked(b"3\r\nabc\r\n").txs[0].response.files[0];
    assert_eq!((file.state, file.size), (FileState::Truncated, 3));
    let file = &chunked(b"5\r\nabc").txs[0].response.files[0];
    assert_eq!((file.state, file.size), (FileState::Closed, 3));
}

#[test]
fn a_trailer_is_raw_before_its_lines_end() {
    let config = Config::default();
    let mut http = Http::default();
    let mut feed = |direction, data: &[u8]| {
        http.feed(1, direction, data, &meta(&config), &mut Fed::default());
        let tx = &http.txs[0];
        (tx.response.progress, String::from_utf8_lossy(&tx.response.headers.raw).into_owned())
    };
    feed(ToServer, GET);
    let head = "Transfer-Encoding: chunked\r\n\r\n";
    let answer = [b"HTTP/1.1 200 ok\r\n", head.as_bytes(), b"0\r\n"].concat();
    assert_eq!(feed(ToClient, &answer), (progress::BODY, head.to_owned()));
    assert_eq!(feed(ToClient, b"A: b"), (progress::TRAILER, [head, "A: b"].concat()));
    assert_eq!(feed(ToClient, b"\r\n\r"), (progress::TRAILER, [head, "A: b\r\n\r"].concat()));
    assert_eq!(feed(ToClient, b"\n"), (progress::COMPLETE, [head, "A: b\r\n\r\n"].concat()));
}

#[test]
fn lost_bytes_are_told_and_what_follows_is_read_on() {
    let lossy = |head: &[u8], lost: u64, tail: &[u8]| {
        let config = Config::default();
        let mut http = Http::default();
        let hole = Meta { gap: lost, ..meta(&config) };
        http.feed(1, ToServer, GET, &meta(&config), &mut Fed::default());
        http.feed(1, ToClient, head, &meta(&config), &mut Fed::default());
        http.feed(1, ToClient, b"", &hole, &mut Fed::default());
        let step = http.feed(1, ToClient, tail, &meta(&config), &mut Fed::default());
        (http, step)
    };
    // In a chunk as if nothing were missing.
    let chunked = b"HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab";
    let (http, step) = lossy(chunked, 9, b"cd\r\n0\r\n\r\n");
    assert_eq!((body(&http.txs[0]).as_str(), step), ("abcd", Step::Go));
    assert_eq!(events(&http.txs[0]), ["invalid_gap"]);
    // A body of known length has a hole; one that ends with the connection has none.
    let (http, _) = lossy(b"HTTP/1.1 200 ok\r\nContent-Length: 9\r\n\r\nab", 5, b"cd");
    let file = &http.txs[0].response.files[0];
    assert_eq!((file.size, file.has_gap, events(&http.txs[0]).len()), (9, true, 0));
    let (http, _) = lossy(b"HTTP/1.1 200 ok\r\n\r\nab", 5, b"cd");
    assert_eq!((body(&http.txs[0]).as_str(), http.txs[0].response.body.has_gap), ("abcd", false));
    // What was compressed is over, and what comes of it can't be read.
    let (_, step) = lossy(
        b"HTTP/1.1 200 ok\r\nContent-Length: 99\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b",
        5,
        b"cd",
    );
    assert_eq!(step, Step::Fail);
}

#[test]
fn lines_of_white_space_are_no_status_lines() {
    let http = answer(b" \r\n\t\r\n\x0b\n \r\r\nHTTP/1.0 204 no\r\n\r\n");
    let response = &http.txs[0].response;
    assert_eq!((response.status_number, response.body.total), (204, 0));
    let http = answer(b"HTTP/0.9 +200 ok\r\r\n\r\n");
    let tx = &http.txs[0];
    assert_eq!((tx.response.version, tx.response.status_number), (Version::V0_9, 0));
    assert_eq!(
        events(tx),
        ["protocol_contains_extra_data", "response_line_invalid_response_status"]
    );
    assert_eq!(tx.response.message, b"ok");
}

#[test]
fn fields_are_odd() {
    // Zero bytes are passed over where a body is delimited, not where a length is read.
    let http =
        answer(b"HTTP/1.1 200 ok\r\nTransfer\0-Encoding: chu\0nked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(body(&http.txs[0]), "abc");
    assert_eq!(events(&http.txs[0])[1..], ["response_abnormal_transfer_encoding"]);
    let http = answer(b"HTTP/1.1 200 ok\r\nContent-Length: 2\x008\r\n\r\nabcd\n");
    assert_eq!(events(&http.txs[0]), ["content_length_extra_data_end", "response_body_unexpected"]);
    let http = answer(b"HTTP/1.1 101 ok\r\nContent-Length: 3\r\n\r\nabc");
    assert!(http.txs[0].events.contains("switching_proto_with_content_length"));
    let http = answer(b"HTTP/1.1 200 ok\r\nA: b\n\r\r\n\nabc");
    assert_eq!((body(&http.txs[0]).as_str(), events(&http.txs[0])), ("abc", vec!["deformed_eol"]));
    // Two of one kind are told twice.
    let http = answer(b"HTTP/1.1 200 ok\r\nA: b\r\nA: c\r\nA: d\r\nB: e\r\nB: f\r\n\r\n");
    assert_eq!(events(&http.txs[0]), ["response_header_repetition"; 2]);
}

#[test]
fn the_end_of_the_connection_ends_fields_whose_line_has_ended() {
    let http = answer(b"HTTP/1.1 200 ok\r\nA: b\r\nC: d");
    let tx = &http.txs[0];
    let names: Vec<_> = tx.response.headers.fields.iter().map(|field| &field.name[..]).collect();
    assert_eq!((names, tx.reached(ToClient)), (vec![&b"A"[..]], progress::COMPLETE));
    let http = run(&[(ToServer, b"GET / HTTP/1.1\r\n"), (ToClient, b"HTTP/1.1 200 ok\r\n\r\n")]);
    assert!(http.txs[0].events.is_empty());
}

#[test]
fn names_of_hosts() {
    let host = |request: &[u8]| {
        let http = run(&[(ToServer, request)]);
        let request = &http.txs[0].request;
        let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
        (text(&request.host), text(&request.host_raw), events(&http.txs[0]))
    };
    let name = |name: &str, raw: &str| (name.to_owned(), raw.to_owned(), Vec::new());
    assert_eq!(host(b"GET / HTTP/1.1\r\nHost: Hp.org.\r\n\r\n"), name("hp.org.", "Hp.org."));
    assert_eq!(host(b"GET http://Hp.org./ HTTP/1.0\r\n\r\n"), name("hp.org", "hp.org"));
    assert_eq!(host(b"GET http://h:x/ HTTP/1.0\r\n\r\n").2, ["request_uri_host_invalid"]);
}

#[test]
fn requests_without_a_known_end_end_the_flow() {
    for field in ["Transfer-Encoding: gzip", "Content-Length: abc"] {
        let request = ["POST / HTTP/1.1\r\nHost: h\r\n", field, "\r\n\r\nabc"].concat();
        let http = run(&[(ToServer, request.as_bytes())]);
        let tx = &http.txs[0];
        assert_eq!((tx.reached(ToServer), tx.request.body.total), (progress::HEADERS, 0));
    }
}

#[test]
fn behind_a_compressed_body_nothing_is_read() {
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(b"hello", 6);
    let head = format!(
        "HTTP/1.1 200 ok\r\nContent-Encoding: deflate\r\nContent-Length: {}\r\n\r\n",
        zlib.len()
    );
    let http = answer(&[head.as_bytes(), &zlib, b"more\r\n"].concat());
    let tx = &http.txs[0];
    assert_eq!((body(tx).as_str(), tx.response.body.is_broken), ("hello", true));
    assert_eq!(tx.response.files[0].state, FileState::Truncated);
    // Names are looked at though there is no body.
    let http =
        answer(b"HTTP/1.1 204 ok\r\nContent-Encoding: foo, bar\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(events(&http.txs[0])[1..], ["abnormal_ce_header"; 2]);
}

#[test]
fn parts_of_files_are_looked_at() {
    let part = |range: &str| {
        let head = ["HTTP/1.1 206 ok\r\nContent-Range: ", range, "\r\n\r\nabc"].concat();
        events(&answer(head.as_bytes()).txs[0])
    };
    assert!(part("bytes 0-2/3").is_empty());
    assert_eq!(part("bytes=0-2/3"), ["range_invalid"]);
    assert_eq!(part("bytes 0-2/2"), ["range_invalid"]);
}

#[test]
fn the_start_is_what_was_understood() {
    let http = answer(b"HTTP/1.1 200 ok\r\nA:b\r\n c\r\n\r\n");
    let start = |direction| String::from_utf8(http.txs[0].start(direction).unwrap()).unwrap();
    assert_eq!(start(ToServer), "GET /f HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(start(ToClient), "HTTP/1.1 200 ok\r\n\r\nA: b c\r\n\r\n");
}

//! Requests and responses by hand.

use super::{FileState, Http, Tx, Version, progress};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::tests::meta;
use crate::app::{Config, Fed, Meta, Proto, Step};

fn run(pieces: &[(Direction, &[u8])], config: &Config) -> (Http, Step) {
    let mut http = Http::default();
    let mut last = Step::Go;
    for (direction, data) in pieces {
        last = http.feed(1, *direction, data, &meta(config), &mut Fed::default());
    }
    (http, last)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn events(tx: &Tx) -> Vec<&'static str> {
    tx.events.iter().collect()
}

const REQUEST: &[u8] = b"POST /a/%41?x=1 HTTP/1.1\r\nHost: WWW.hp.org:81\r\nX-Fold: one\r\n two\r\n\
    Cookie: c=1\r\nX: 1\r\nx: 2\r\nTransfer-Encoding: chunked\r\n\r\n5;e\r\nhello\r\n6\r\n world\r\n0\r\n\
    T: r\r\n\r\nGET /next HTTP/1.0\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK fine\r\nServer: s\r\n\
    Content-Length: 5\r\n\r\n12345HTTP/1.0 404 No\r\n\r\nuntil the end";

fn check_both(http: &Http, at: usize) {
    assert_eq!(http.txs.len(), 2, "split at {at}");
    let (one, two) = (&http.txs[0], &http.txs[1]);
    let request = &one.request;
    assert_eq!(text(&request.line), "POST /a/%41?x=1 HTTP/1.1");
    assert_eq!((text(&request.method), text(&request.uri)), ("POST".into(), "/a/A?x=1".into()));
    assert_eq!(text(&request.uri_raw), "/a/%41?x=1");
    assert_eq!(request.version, Version::V1_1);
    assert_eq!(request.host.as_deref(), Some(&b"www.hp.org"[..]));
    assert_eq!(request.host_raw.as_deref(), Some(&b"WWW.hp.org:81"[..]));
    assert_eq!(request.port, Some(81));
    assert_eq!(request.headers.get("x-fold"), Some(&b"one two"[..]));
    assert_eq!(request.headers.get("X"), Some(&b"1, 2"[..]));
    assert!(request.headers.field("t").unwrap().is_trailer);
    assert!(!text(request.headers.normalized()).contains("Cookie"));
    assert!(text(request.headers.names()).starts_with("\r\nHost\r\nX-Fold\r\nCookie\r\n"));
    assert_eq!(text(request.body.window().1), "hello world");
    assert_eq!(request.progress, progress::COMPLETE);
    assert!(one.events.contains("request_chunk_extension"));
    assert!(one.events.contains("request_header_repetition"));
    let response = &one.response;
    assert_eq!((response.status_number, text(&response.message)), (200, "OK fine".into()));
    assert_eq!(response.interim, Some((100, b"Continue".to_vec())));
    assert_eq!(text(response.headers.normalized()), "Server: s\r\nContent-Length: 5\r\n");
    assert_eq!(text(response.body.window().1), "12345");
    assert_eq!(response.files[0].state, FileState::Closed);
    assert_eq!(text(&response.files[0].name), "/a/A");
    assert_eq!(two.response.status_number, 404);
    assert_eq!(text(two.response.body.window().1), "until the end");
    assert_eq!(two.response.progress, progress::BODY);
}

#[test]
fn two_transactions_split_anywhere() {
    let config = Config::default();
    for at in 0..REQUEST.len() {
        let (head, tail) = REQUEST.split_at(at);
        let (http, _) = run(&[(ToServer, head), (ToServer, tail), (ToClient, RESPONSE)], &config);
        check_both(&http, at);
    }
    for at in 0..RESPONSE.len() {
        let (head, tail) = RESPONSE.split_at(at);
        let (http, _) = run(&[(ToServer, REQUEST), (ToClient, head), (ToClient, tail)], &config);
        check_both(&http, at);
    }
}

#[test]
fn a_response_alone_and_the_end_of_the_flow() {
    let config = Config::default();
    let mut http = Http::default();
    let end = Meta { eof: true, ..meta(&config) };
    http.feed(1, ToClient, b"HTTP/1.1 200 OK\r\n\r\nbody", &end, &mut Fed::default());
    let tx = &http.txs[0];
    assert!(tx.request.is_partial && tx.events.contains("unable_to_match_response_to_request"));
    assert_eq!(tx.response.progress, progress::COMPLETE);
    assert_eq!(tx.response.files[0].state, FileState::Closed);
    http.prune();
    assert!(http.txs.is_empty());
}

#[test]
fn connect_waits_for_the_answer() {
    let config = Config::default();
    let request = b"CONNECT hp.org:443 HTTP/1.1\r\nHost: hp.org\r\n\r\n";
    let (http, step) = run(&[(ToServer, request), (ToClient, b"HTTP/1.1 200 ok\r\n\r\n")], &config);
    assert_eq!(step, Step::Change(None));
    assert!(http.txs[0].is_tunnel);
    assert_eq!((http.txs[0].request.port, http.txs[0].request.progress), (Some(443), 5));
    let refused = b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n";
    let next = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (http, step) = run(&[(ToServer, request), (ToServer, next), (ToClient, refused)], &config);
    assert_eq!((step, http.txs.len()), (Step::Go, 2));
    assert_eq!(text(&http.txs[1].request.method), "GET");
}

#[test]
fn upgrades_hand_over() {
    let config = Config::default();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n";
    let answer = b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n";
    let (_, step) = run(&[(ToServer, request), (ToClient, answer)], &config);
    assert_eq!(step, Step::Become(Proto::Http2));
}

#[test]
fn version_0_9_has_no_headers() {
    let config = Config::default();
    let (http, _) = run(&[(ToServer, b"GET /old\r\n"), (ToClient, b"<html>")], &config);
    let tx = &http.txs[0];
    assert_eq!((tx.request.version, tx.request.progress), (Version::V0_9, progress::COMPLETE));
    assert_eq!(text(tx.response.body.window().1), "<html>");
}

#[test]
fn oddities_are_noted() {
    let config = Config::default();
    let request = b" GET\t/ HTTP/1.1\r\nno colon\r\nBad Name: x\r\nContent-Length: x\r\n\r\n";
    let (http, _) = run(&[(ToServer, request)], &config);
    let want = [
        "request_line_leading_whitespace",
        "method_delim_non_compliant",
        "request_field_missing_colon",
        "request_header_invalid",
        "missing_host_header",
    ];
    assert_eq!(events(&http.txs[0]), want);
}

#[test]
fn endless_lines_and_wrong_chunks_end_the_flow() {
    let config = Config::default();
    let long = vec![b'a'; 20_000];
    let (http, step) = run(&[(ToServer, b"GET /"), (ToServer, &long)], &config);
    assert_eq!(step, Step::Fail);
    assert!(http.txs[0].events.contains("request_field_too_long"));
    let chunks = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz";
    let (http, step) = run(&[(ToServer, chunks)], &config);
    assert_eq!(step, Step::Fail);
    assert!(http.txs[0].events.contains("invalid_request_chunk_len"));
}

#[test]
fn bodies_are_windows_and_limits_hold() {
    let config = Config {
        response_body_bytes_max: 1_000,
        response_inspect_bytes_min: 100,
        response_inspect_window_bytes: 50,
        ..Config::default()
    };
    let mut http = Http::default();
    let feed = |http: &mut Http, direction, data: &[u8]| {
        http.feed(1, direction, data, &meta(&config), &mut Fed::default());
    };
    feed(&mut http, ToServer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    feed(&mut http, ToClient, b"HTTP/1.1 200 OK\r\n\r\n");
    feed(&mut http, ToClient, &[b'x'; 400]);
    http.prune();
    let (start, window) = http.txs[0].response.body.window();
    assert_eq!((start, window.len()), (350, 50));
    feed(&mut http, ToClient, &[b'y'; 2_000]);
    let body = &http.txs[0].response.body;
    assert!(body.is_limited && body.total == 2_400);
    assert_eq!(body.kept_end(), 1_000);
    assert_eq!(body.slice(398..402), b"xxyy");
    assert_eq!(http.cut_bytes, 1_400);
}

#[test]
fn a_hole_in_a_body_is_counted() {
    let config = Config::default();
    let mut http = Http::default();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    http.feed(
        1,
        ToServer,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &meta(&config),
        &mut Fed::default(),
    );
    http.feed(1, ToClient, head, &meta(&config), &mut Fed::default());
    let hole = Meta { gap: 5, ..meta(&config) };
    http.feed(1, ToClient, b"ij", &hole, &mut Fed::default());
    let response = &http.txs[0].response;
    assert_eq!(response.progress, progress::COMPLETE);
    assert_eq!((response.body.total, response.body.has_gap), (10, true));
    assert_eq!(response.files[0].state, FileState::Truncated);
}

/// Body, names of files and the end of a response.
fn shown(response: &[u8]) -> (String, Vec<String>) {
    let config = Config::default();
    let request = b"GET /a/b HTTP/1.1\r\nHost: hp.org\r\n\r\n";
    let mut http = Http::default();
    http.feed(1, ToServer, request, &meta(&config), &mut Fed::default());
    let end = Meta { eof: true, ..meta(&config) };
    http.feed(1, ToClient, response, &end, &mut Fed::default());
    assert_eq!(http.txs.len(), 1, "{}", text(response));
    let response = &http.txs[0].response;
    let names = response.files.iter().map(|file| text(&file.name)).collect();
    (text(response.body.window().1), names)
}

#[test]
fn bodies_that_should_not_be_there_are_files() {
    let file = |name: &str, body: &str| (body.to_owned(), vec![name.to_owned()]);
    let none = (String::new(), Vec::new());
    let named = "Content-Disposition: attachment; filename=\"x.txt\"\r\n";
    let check = |head: &str, body: &str, want: &(String, Vec<String>)| {
        assert_eq!(shown(format!("{head}\r\n{named}\r\n{body}").as_bytes()), *want, "{head}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 0", "hello", &file("x.txt", "hello"));
    check("HTTP/1.1 204 No\r\nConnection: close", "hello", &file("x.txt", "hello"));
    check("HTTP/1.1 200 OK\r\nContent-Length: 0", "\r\nhello", &file("x.txt", "\r\nhello"));
    check("HTTP/1.1 200 OK\r\nContent-Length: 2", "ok\0\0", &file("x.txt", "ok\0\0"));
    check("HTTP/1.1 200 OK\r\nContent-Length: 0", "", &none);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "0\r\n\r\n", &none);
}

#[test]
fn lines_that_are_none_and_blocks_that_begin_with_a_line_end() {
    assert_eq!(shown(b"HTTP/1.1 200 OK\n\nhello").0, "", "a field without anything, then another");
    assert_eq!(shown(b"HTTP/1.1 200 OK\n\rX: y\r\n\r\nhello").0, "hello");
    assert_eq!(shown(b"HTTP/1.1 200 OK\r\n\r\nhello").0, "hello");
    // Until a line is the status line each other is shown, but for the one before it.
    let odd = b"FOO/1.1 200 OK\r\nbar\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(shown(odd).0, "FOO/1.1 200 OK\r\nx");
}

#[test]
fn what_is_no_line_yet_waits_behind_a_response() {
    let config = Config::default();
    let mut http = Http::default();
    let mut feed = |direction, data: &[u8], eof| {
        let meta = Meta { eof, ..meta(&config) };
        http.feed(1, direction, data, &meta, &mut Fed::default());
        let tx = &http.txs[0];
        (text(tx.response.body.window().1), tx.events.contains("response_body_unexpected"))
    };
    feed(ToServer, b"GET /a HTTP/1.1\r\nHost: hp.org\r\n\r\n", false);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
    assert_eq!(feed(ToClient, head, false), ("a".into(), false));
    assert_eq!(feed(ToClient, b"c\nd", false), ("abc\n".into(), true));
    assert_eq!(feed(ToClient, b"", true), ("abc\nd".into(), true));
}

/// A mebibyte at once: looked through once for each line, it would take minutes.
#[test]
fn blank_lines_without_end_are_looked_through_once() {
    let blank = [vec![b'\n'; 1 << 20], b"x".to_vec()].concat();
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: hp.org\r\n\r\n";
    let response: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    let config = Config::default();
    run(&[(ToServer, &[request, &blank].concat())], &config);
    run(&[(ToServer, request), (ToClient, &[response, &blank].concat())], &config);
    let folds = [b"GET /a HTTP/1.1\r\n".to_vec(), b"a\n b".repeat(200_000)].concat();
    run(&[(ToServer, &folds)], &config);
}

#[test]
fn a_file_has_a_name_and_the_end_of_a_flow_brings_nothing() {
    let names = |request: &[u8]| {
        let config = Config::default();
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (http, _) = run(&[(ToServer, request), (ToClient, response)], &config);
        let files = http.txs[0].request.files.iter().chain(&http.txs[0].response.files);
        files.map(|file| text(&file.name)).collect::<Vec<_>>()
    };
    assert_eq!(names(b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n"), [""; 0]);
    assert_eq!(names(b"GET /. HTTP/1.1\r\nHost: a\r\n\r\n"), [""]);
    let form = b"PUT /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\na=b";
    assert_eq!(names(form), ["/p", "/p"]);
    let config = Config::default();
    let mut http = Http::default();
    let end = Meta { eof: true, ..meta(&config) };
    let cut = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    http.feed(1, ToServer, cut, &end, &mut Fed::default());
    let tx = &http.txs[0];
    assert_eq!((tx.progress(ToServer), tx.reached(ToServer)), (progress::COMPLETE, progress::BODY));
}

#[test]
fn names_of_what_is_wrong() {
    let config = Config::default();
    let request =
        b"GET / HTTP/1.1\r\nHost: \r\nAuthorization: foo\r\n: x\r\nA : b\r\nC d: e\r\n\r\n";
    let response = b"HTTP/7.1 2 OK\r\nC d: e\r\n\r\n";
    let (http, _) = run(&[(ToServer, request), (ToClient, response)], &config);
    let want = [
        "request_field_missing_colon",
        "request_invalid_lws_after_name",
        "request_auth_unrecognized",
        "response_line_invalid_protocol",
        "response_line_invalid_response_status",
        "response_header_name_not_token",
    ];
    assert_eq!(events(&http.txs[0]), want);
    assert_eq!(http.txs[0].request.host, None);
}

#[test]
fn forms_and_bodies_that_are_no_form_are_files() {
    const FORM: &[u8] =
        b"--b\r\nContent-Disposition: form-data; filename=\"hp.txt\"\r\n\r\nhello\r\n--b--\r\n";
    let post = |kind: &str, length: usize| {
        format!(
            "POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let config = Config::default();
    let names = |head: String, body: &[u8]| -> Vec<(String, u64)> {
        let (http, _) = run(&[(ToServer, head.as_bytes()), (ToServer, body)], &config);
        http.txs[0].request.files.iter().map(|file| (text(&file.name), file.size)).collect()
    };
    let form = "multipart/form-data; boundary=b";
    assert_eq!(names(post(form, FORM.len()), FORM), [("hp.txt".into(), 5)]);
    // Without a boundary that can be used it is a body like any other.
    let none = "multipart/form-data";
    assert_eq!(names(post(none, FORM.len()), FORM), [("/up".into(), FORM.len() as u64)]);
}

#[test]
fn a_hole_in_a_form_leaves_the_files_before_it_alone() {
    let first = b"--b\r\nContent-Disposition: form-data; filename=\"f\"\r\n\r\nabc\r\n--b\r\n";
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n";
    let config = Config::default();
    let (mut http, _) = run(&[(ToServer, head), (ToServer, first)], &config);
    http.feed(1, ToServer, &[], &Meta { gap: 100, ..meta(&config) }, &mut Fed::default());
    http.feed(1, ToServer, first, &meta(&config), &mut Fed::default());
    let [file] = http.txs[0].request.files.as_slice() else { panic!("{:?}", http.txs) };
    assert_eq!((file.size, file.has_gap, file.state), (3, false, FileState::Closed));
}

//! Application protocols: whole conversations, and the pieces that are read alone.

use hookprobe_traffic::{
    Direction,
    app::{
        App, Config, Meta, Transport, TxRef,
        dhcp::Message,
        dns,
        ssh::KexInit,
        tls::{Certificate, ClientHello, ServerHello},
    },
    fingerprint::{Ja4Transport, ja3, ja3s, ja4, ja4_raw},
};

use crate::{Outcome, Target};

/// All of them.
pub(crate) const TARGETS: [Target; 12] = [
    conversation(
        "app-http",
        http_seeds,
        &[b"\r\n\r\n", b"Content-Length: ", b"chunked", b"%u", b"\0"],
    ),
    conversation(
        "app-http-codings",
        coding_seeds,
        &[b"br", b"lzma", b"gzip, lzma", &[0x5d, 0, 0], &[0x8f, 2, 0x80], &[3], &[0xff; 8]],
    ),
    conversation("app-tls", tls_seeds, &[&[22, 3, 1], &[20, 3, 3], &[11, 0], &[0xff; 3], &[1, 0]]),
    conversation("app-ssh", ssh_seeds, &[b"SSH-2.0-", &[0, 0, 0, 12], &[20], &[21], b"\r\n"]),
    conversation("app-smtp", smtp_seeds, &[b"\r\n.\r\n", b"boundary=", b"BDAT 9 LAST", b"354 "]),
    conversation(
        "app-datagrams",
        datagram_seeds,
        &[&[0xc0, 0, 0, 0, 1], &[99, 130, 83, 99], &[0xc0]],
    ),
    conversation(
        "app-records",
        record_seeds,
        &[b"SIP/2.0", &[4, 0xd2, 0x16, 0x2f], b"\xffSMB", &[0x73, 0, 0], b"Content-Length: 9"],
    ),
    conversation(
        "app-smb",
        smb_seeds,
        &[b"\xffSMB", b"\xfeSMB", &[0x2f, 0xff, 0], &[8, 0], &[9, 0], &[0, 1, 0, 0], &[0xff; 4]],
    ),
    Target {
        name: "app-dns",
        run: |bytes| match dns::parse(bytes) {
            Ok((message, _)) => Outcome::shape(&format!("{message:?}")),
            Err(error) => Outcome::of(&error.to_string()),
        },
        seeds: || vec![DNS.to_vec()],
        repair: |_| {},
        dictionary: &[&[0xc0, 0x0c], &[0, 41], &[0, 65], &[0xff, 0xff], &[63]],
    },
    Target {
        name: "app-hello",
        run: hello,
        seeds: || vec![client_hello(), server_hello()],
        repair: |_| {},
        dictionary: &[&[0, 43], &[0, 16], &[0x0a, 0x0a], &[0, 0, 0xff]],
    },
    Target {
        name: "app-certificate",
        run: |bytes| Outcome::shape(&format!("{:?}", Certificate::parse(bytes))),
        seeds: || vec![certificate()],
        repair: |_| {},
        dictionary: &[&[0x30, 0x82], &[0x30, 0x84, 0xff], &[0x17, 13], &[0xa3], b"\x55\x1d\x11"],
    },
    Target {
        name: "app-messages",
        run: |bytes| {
            Outcome::shape(&format!("{:?}{:?}", Message::parse(bytes), KexInit::parse(bytes)))
        },
        seeds: || vec![dhcp(), [&[0; 16][..], &[0, 0, 0, 1, b'a'].repeat(10)].concat()],
        repair: |_| {},
        dictionary: &[&[99, 130, 83, 99], &[53, 1], &[55, 3], &[255], &[0, 0, 0, 0xff]],
    },
];

const DNS: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\x01\x02hp\x03org\0\0\x01\0\x01\
    \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x06\x03www\xc0\x0c\xc0\x24\0\x10\0\x01\0\0\0\x3c\0\x04\x03abc\
    \0\0\x29\x10\0\0\0\0\0\0\0";

const fn conversation(
    name: &'static str,
    seeds: fn() -> Vec<Vec<u8>>,
    dictionary: &'static [&'static [u8]],
) -> Target {
    Target { name, run: converse, seeds, repair: |_| {}, dictionary }
}

/// The first byte picks transport and port; then pieces: a byte for direction, loss and end, two
/// for the length, and the bytes.
fn converse(bytes: &[u8]) -> Outcome {
    const PORTS: [u16; 6] = [8_000, 443, 25, 53, 67, 5_353];
    let config = Config { are_files_hashed: true, txs_max: 4, ..Config::default() };
    let (first, mut rest) = bytes.split_first().unwrap_or((&0, &[]));
    let transport = if first & 0x80 == 0 { Transport::Tcp } else { Transport::Udp };
    let port = PORTS.get(usize::from(first & 7)).copied().unwrap_or(8_000);
    let mut app = App::default();
    let mut seen = String::new();
    while let [flags, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x7ff).min(behind.len());
        let (data, later) = behind.split_at(length);
        rest = later;
        let direction = if flags & 1 == 0 { Direction::ToServer } else { Direction::ToClient };
        let gap = if flags & 0x60 == 0x60 { 7 } else { 0 };
        let meta = Meta {
            config: &config,
            transport,
            ports: (40_000, port),
            gap,
            eof: flags & 0x18 == 0x18,
            is_midstream: first & 0x40 != 0,
            offset: 0,
            is_alone: false,
        };
        let fed = app.feed(1, direction, data, meta);
        app.txs().for_each(look);
        seen = format!("{fed:?}{:?}{}", app.proto(), app.txs_len());
        assert!(app.txs_len() <= 4, "more transactions than allowed");
        if flags & 2 == 0 {
            app.prune();
        }
    }
    Outcome::of(&seen)
}

/// What inspectors would look at.
fn look(tx: TxRef<'_>) {
    if let TxRef::Http(tx) = tx {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let _ = (tx.headers(direction).normalized(), tx.headers(direction).names());
            let body = tx.body(direction);
            let (start, window) = body.window();
            assert_eq!(start + window.len() as u64, body.kept_end(), "a window has one end");
            assert!(window.len() <= 204_800, "a window beyond its limit");
        }
    }
    if let TxRef::Record(tx) = tx
        && let Some(transfer) = tx.transfer()
    {
        let (start, window) = transfer.body.window();
        assert_eq!(start + window.len() as u64, transfer.body.kept_end(), "a window has one end");
        assert_eq!(transfer.file.size, transfer.body.total, "a file is what its body is");
    }
    let _ = (tx.is_complete(), tx.events().len());
}

fn hello(bytes: &[u8]) -> Outcome {
    let client = ClientHello::parse(bytes);
    let _ = (ja3(&client), ja4(Ja4Transport::Tcp, &client), ja4_raw(Ja4Transport::Quic, &client));
    let server = ServerHello::parse(bytes);
    let _ = ja3s(&server);
    for extension in client.extensions.iter().chain(&server.extensions) {
        assert!(bytes.get(extension.data.clone()).is_some(), "an extension outside its hello");
    }
    Outcome::shape(&format!("{client:?}{server:?}"))
}

/// A script for [`converse`].
pub(crate) fn talk(first: u8, pieces: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![first];
    for (flags, data) in pieces {
        bytes.push(*flags);
        bytes.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

/// Conversations of every protocol.
pub(crate) fn conversations() -> Vec<Vec<u8>> {
    [http_seeds(), tls_seeds(), ssh_seeds(), smtp_seeds(), datagram_seeds(), record_seeds()]
        .concat()
}

/// Bodies in brotli (as it is, with a window of 16 MiB, with references to its dictionary) and LZMA
/// (with an end marker, with a size, over each other).
fn coding_seeds() -> Vec<Vec<u8>> {
    let lzma =
        b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\x004\x19I\xee\x8d\xe9O\x7f5\xc5\xa3\xff\xff\
        x\xa4\0\0";
    let sized =
        b"]\0\x10\0\0\x11\0\0\0\0\0\0\0\x004\x19I\xee\x8d\xe9O\x7f5\xc5\xa3\xff\xffx\xa4\0\0";
    let packed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x8b\x65\x60\x68\x60\xf8\x0f\x05\x0c\x26\x92\x9e\xef\x7a\x5f\xfa\xd7\x9b\x1e\x5d\xfc\xff\x7f\xc5\x12\x06\x06\x00\xe2\x2b\x78\x10\x1f\x00\x00\x00";
    let words = b"\xa1\x90\x01\xc0\x2f\x01\xd0\x84\x1c\x02\x8c\x30\xda\x8f\x5d\xfa\x49\x88\x2b\x38\xab\x91\x02";
    [
        (&b"br"[..], &b"\x8f\x02\x80hello\n\x03"[..]),
        (b"br", b"\x8f\x04\x80helloworld"),
        (b"br", words),
        (b"lzma", lzma),
        (b"lzma", sized),
        (b"lzma, gzip", packed),
        (b"gzip, lzma", lzma),
    ]
    .map(|(name, body)| {
        let head = format!("Content-Length: {}\r\nContent-Encoding: ", body.len());
        let rest = [head.as_bytes(), name, b"\r\n\r\n", body].concat();
        let request = [b"POST / HTTP/1.1\r\nHost: h\r\n", &rest[..]].concat();
        let response = [b"HTTP/1.1 200 k\r\n", &rest[..]].concat();
        talk(0, &[(0, &request), (1, &response)])
    })
    .into()
}

fn http_seeds() -> Vec<Vec<u8>> {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n\
        14\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x4a\x06\0\xc2\x41\x24\x35\x03\r\n0\r\nT: r\r\n\r\n";
    let mixed =
        b"HTTP/1.1 206 OK\r\nContent-Encoding: gzip, deflate\r\nContent-Range: bytes 0-9/9\r\n\
        Content-Length: 12\r\n\r\n\x4b\x4c\x4a\x06\0\x1f\x8b\x08\x1e\0\0\0more\r\n";
    vec![
        talk(0, &[(0, b"GET /a%2f../b?c HTTP/1.1\r\nHost: h\r\n\r\n"), (1, chunked)]),
        talk(0, &[(0, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"), (1, mixed)]),
        talk(0, &[(0, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"), (0x19, b"")]),
        talk(
            0,
            &[(0, b"CONNECT h:1 HTTP/1.1\r\n\r\n"), (1, b"HTTP/1.1 200 k\r\n\r\n"), (0, b"SSH-")],
        ),
    ]
}

fn record(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3];
    bytes.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn message(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn client_hello() -> Vec<u8> {
    let mut body = [&[3, 3][..], &[9; 32], &[0, 0, 4, 0x13, 1, 0x0a, 0x0a, 1, 0, 0, 31]].concat();
    body.extend_from_slice(
        b"\0\0\0\x0b\0\x09\0\0\x06hp.org\0\x10\0\x05\0\x03\x02h2\0\x2b\0\x03\x02\x03\x04",
    );
    body
}

fn server_hello() -> Vec<u8> {
    [&[3, 3][..], &[7; 32], &[0, 0xc0, 0x2f, 0, 0, 6, 0, 43, 0, 2, 3, 3]].concat()
}

fn certificate() -> Vec<u8> {
    let name = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02hp";
    let san = b"\xa3\x15\x30\x13\x30\x11\x06\x03\x55\x1d\x11\x04\x0a\x30\x08\x82\x06hp.org";
    let mut body = b"\xa0\x03\x02\x01\x02\x02\x02\x12\x34\x30\x00".to_vec();
    body.extend_from_slice(name);
    body.extend_from_slice(b"\x30\x1e\x17\x0d700101000000Z\x17\x0d300101000000Z");
    body.extend_from_slice(name);
    body.extend_from_slice(b"\x30\x00");
    body.extend_from_slice(san);
    let length = u8::try_from(body.len()).unwrap_or(0);
    [&[0x30, length + 2, 0x30, length][..], &body].concat()
}

fn tls_seeds() -> Vec<Vec<u8>> {
    let certificate = certificate();
    let length = u8::try_from(certificate.len()).unwrap_or(0);
    let chain = [&[0, 0, length + 3, 0, 0, length][..], &certificate].concat();
    let server =
        [record(22, &message(2, &server_hello())), record(22, &message(11, &chain))].concat();
    vec![talk(
        1,
        &[
            (0, &record(22, &message(1, &client_hello()))),
            (1, &server),
            (0, &[record(20, &[1]), record(21, &[2, 40])].concat()),
            (1, &[record(20, &[1]), record(24, &[1, 0, 9]), record(23, b"data")].concat()),
        ],
    )]
}

fn ssh_seeds() -> Vec<Vec<u8>> {
    let lists = [0, 0, 0, 1, b'a'].repeat(10);
    let kex = [&[20][..], &[7; 16], &lists, &[0; 5]].concat();
    let length = u8::try_from(kex.len() + 5).unwrap_or(0);
    let packet = [&[0, 0, 0, length, 4][..], &kex, &[0; 4]].concat();
    let opening = [b"SSH-2.0-a_1 c\r\n", &packet[..], &[0, 0, 0, 12, 10, 21], &[0; 10]].concat();
    vec![talk(0, &[(0, &opening), (1, &opening)])]
}

fn smtp_seeds() -> Vec<Vec<u8>> {
    let mail = b"DATA\r\nA: b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\
        Content-Type: a/b; name=f\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n--x--\r\n.\r\n";
    vec![
        talk(
            2,
            &[
                (1, b"220 hp\r\n"),
                (0, b"EHLO a\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\n"),
                (0, mail),
                (1, b"250-a\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n250 f\r\n"),
            ],
        ),
        talk(
            2,
            &[
                (0, b"EHLO a\r\nBDAT 7 LAST\r\nA: b\r\n\r"),
                (0, b"STARTTLS\r\n"),
                (1, b"220 x\r\n220 y\r\n"),
            ],
        ),
    ]
}

fn dhcp() -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.resize(236, 0);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 55, 2, 1, 3, 255]);
    bytes
}

fn record_seeds() -> Vec<Vec<u8>> {
    let invite = b"INVITE sip:a@b SIP/2.0\r\nv: x\r\n y\r\nl: 2\r\n\r\nhi";
    let setup = b"\0\0\0\x30\xffSMBs\0\0\0\0\x08\x01\xc8\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\
        \x0c\xff\0\0\0\x04A2\0\x0e\0P";
    let session = b"INVITE sip:a@b SIP/2.0\r\nl: 66\r\n\r\nv=0\r\no=a 1 2 IN IP4 b\r\ns=c\r\n\
        t=0 0\r\na=d\r\nm=audio 1 RTP/AVP 0\r\na=e\r\n";
    vec![
        talk(0, &[(0, session), (1, b"SIP/2.0 180 Ringing\r\n\r\n")]),
        talk(0, &[(0, invite), (1, b"SIP/2.0 180 Ringing\r\n\r\n")]),
        talk(0x80, &[(0, invite), (1, invite)]),
        talk(
            0,
            &[
                (0, b"\0\0\0\x08\x04\xd2\x16\x2f"),
                (1, b"N"),
                (0, b"\0\0\0\x10\0\x03\0\0user\0a\0\0"),
                (1, b"R\0\0\0\x08\0\0\0\x0aE\0\0\0\x0aSx\0My\0"),
                (0, b"p\0\0\0\x0aab\0\0\0\0Q\0\0\0\x06x\0"),
                (1, b"D\0\0\0\x0b\0\x01\0\0\0\x01yC\0\0\0\x06z\0Z\0\0\0\x05I"),
            ],
        ),
        talk(0x40, &[(0, setup), (1, setup)]),
    ]
}

/// Opened, written, read and closed in SMB 1 and SMB 2.
fn smb_seeds() -> Vec<Vec<u8>> {
    let session = |message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
        [&length[..], message].concat()
    };
    let one = |command: u8, flags: u8, body: &[u8]| {
        let head = [&b"\xffSMB"[..], &[command, 0, 0, 0, 0, flags, 1, 0x40], &[0; 12], &[1; 8]];
        session(&[&head.concat()[..], body].concat())
    };
    let two = |command: u8, flags: u8, body: &[u8]| {
        let head = [&b"\xfeSMB\x40\0\0\0\0\0\0\0"[..], &[command, 0, 1, 0, flags], &[0; 47]];
        session(&[&head.concat()[..], body].concat())
    };
    let logon = [b"\x0c\xff\0\0\0", &[0; 20][..], b"\x50\0NTLMSSP\0\x03\0\0\0", &[0; 16]].concat();
    let logon = [&logon[..], &[1, 0, 1, 0, 64, 0, 0, 0].repeat(3), &[0; 8], &[0, 0, 0, 2]].concat();
    let logon = [&logon[..], &[6, 1, 0, 0, 0, 0, 0, 15], b"x"].concat();
    let connect = [&[4, 0xff, 0, 0, 0, 0, 0, 1, 0][..], b"\x09\0\0\\\\h\\s\0A:\0"].concat();
    let open = [&[24, 0xff, 0, 0, 0, 0, 2, 0][..], &[0; 41], &[3, 0], b"\\ab"].concat();
    let opened = [&[2, 0xff, 0, 0, 0, 0, 7, 0][..], &[0; 4]].concat();
    let write = [
        &[12, 0x04, 0, 70, 0, 7, 0][..],
        &[0; 12],
        &[0, 0, 4, 0, 66, 0, 4, 0],
        b"data",
        &[3, 7, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let read = [&[10, 0xff, 0, 0, 0, 7, 0][..], &[0; 20]].concat();
    let data = [&[12, 0xff, 0, 0, 0][..], &[0; 6], &[4, 0, 59, 0], &[0; 12], b"data"].concat();
    let close = [3, 7, 0, 0, 0, 0, 0, 0, 0];
    let create = [&[57, 0][..], &[0; 42], &[120, 0, 4, 0], &[0; 8], b"a\0b\0"].concat();
    let created = [&[89, 0][..], &[0; 62], &[5; 16]].concat();
    let put = [&[49, 0, 112, 0, 4, 0, 0, 0][..], &[0; 8], &[5; 16], &[0; 16], b"data"].concat();
    let ask = [&[49, 0, 0, 0, 4, 0, 0, 0][..], &[0; 8], &[5; 16], &[0; 16]].concat();
    let got = [&[17, 0, 80, 0, 4, 0, 0, 0][..], &[0; 8], b"data"].concat();
    let closed = [&[24, 0, 0, 0, 0, 0, 0, 0][..], &[5; 16]].concat();
    vec![
        talk(
            0,
            &[
                (0, &one(0x73, 8, &logon)),
                (0, &one(0x75, 8, &connect)),
                (1, &one(0x75, 0x88, b"\x03\xff\0\0\0\0\0\x03\0A:\0")),
            ],
        ),
        talk(
            0,
            &[
                (0, &one(0xa2, 8, &open)),
                (1, &one(0xa2, 0x88, &opened)),
                (0, &one(0x2f, 8, &write)),
                (0, &one(0x2e, 8, &read)),
                (1, &one(0x2e, 0x88, &data)),
                (0, &one(0x04, 8, &close)),
            ],
        ),
        talk(
            0,
            &[
                (0, &two(5, 0, &create)),
                (1, &two(5, 1, &created)),
                (0, &two(9, 0, &put)),
                (0, &two(8, 0, &ask)),
                (1, &two(8, 1, &got)),
                (0, &two(6, 0, &closed)),
            ],
        ),
    ]
}

fn datagram_seeds() -> Vec<Vec<u8>> {
    let mut initial = b"\xc3\0\0\0\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\0\0\x44\x9e".to_vec();
    initial.resize(1_200, 0x5a);
    vec![
        talk(0x83, &[(0, DNS), (1, DNS)]),
        talk(0x84, &[(0, &dhcp())]),
        talk(0x85, &[(0, DNS)]),
        talk(0x81, &[(0, &initial), (1, &initial)]),
    ]
}

//! Handshake messages (RFC 5246, section 7.4; RFC 8446, section 4).

use super::progress::{
    CLIENT_CERT_DONE, CLIENT_HANDSHAKE_DONE, CLIENT_HELLO_DONE, SERVER_CERT_DONE, SERVER_HELLO,
    SERVER_HELLO_DONE,
};
use super::record::{MESSAGE_BYTES_MAX, Side};
use super::{Certificate, ClientHello, ServerHello, Stage, Tx};
use crate::Direction;
use crate::app::Meta;
use crate::app::bytes::Cursor;
use crate::fingerprint::{Ja4Transport, ja3, ja3s, ja4};

/// Most certificates of a chain that are kept: honest chains have up to five.
const CHAIN_MAX: usize = 16;
/// Extension of the encrypted client hello (RFC 9849).
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Adds handshake bytes of one record; when it is whole, takes every whole message out.
pub(super) fn gather(
    side: &mut Side,
    direction: Direction,
    bytes: &[u8],
    meta: &Meta<'_>,
    tx: &mut Tx,
) {
    let (_, rest) = bytes.split_at(side.skip.min(bytes.len()));
    side.skip -= bytes.len() - rest.len();
    if side.left > 0 {
        // A record is at most 64 KiB, and of the one before less than a message is left.
        side.gathered.extend_from_slice(rest);
        return;
    }
    // Whole messages inside one segment need no copy.
    let mut gathered = std::mem::take(&mut side.gathered);
    let mut rest = if gathered.is_empty() {
        rest
    } else {
        gathered.extend_from_slice(rest);
        gathered.as_slice()
    };
    loop {
        while let Some((kind, body, behind)) = split(rest) {
            message(direction, kind, body, meta, tx);
            rest = behind;
        }
        match claimed(rest) {
            Some(length) if length > MESSAGE_BYTES_MAX => pass_over(side, length, &mut rest, tx),
            _ => break,
        }
    }
    // What is held grows in place: a message may come in a hundred thousand records.
    let left = rest.len();
    side.gathered = if gathered.is_empty() {
        rest.to_vec()
    } else {
        let gone = gathered.len() - left;
        gathered.drain(..gone);
        gathered
    };
}

/// Kind, body and what follows of a whole message.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut cursor = Cursor::new(bytes);
    let (kind, length) = (cursor.u8()?, cursor.u24()?);
    let body = cursor.take(usize::try_from(length).ok()?)?;
    Some((kind, body, cursor.rest()))
}

/// The length that the first four bytes claim.
fn claimed(bytes: &[u8]) -> Option<usize> {
    let [_, a, b, c] = *bytes.first_chunk()?;
    usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()
}

fn pass_over(side: &mut Side, length: usize, rest: &mut &[u8], tx: &mut Tx) {
    tx.events.add("handshake_invalid_length");
    tx.cut_bytes += length as u64;
    let now = (4 + length).min(rest.len());
    *rest = rest.get(now..).unwrap_or_default();
    side.skip = 4 + length - now;
}

/// Zeek's letters of messages by type.
const fn letter(kind: u8) -> char {
    match kind {
        0 => 'H',
        1 => 'C',
        2 => 'S',
        3 => 'V',
        4 => 'T',
        5 => 'E',
        6 => 'J',
        8 => 'O',
        11 => 'X',
        12 => 'K',
        13 => 'R',
        14 => 'N',
        15 => 'Y',
        16 => 'G',
        20 => 'F',
        21 => 'W',
        22 => 'U',
        23 => 'A',
        24 => 'P',
        254 => 'M',
        _ => 'Z',
    }
}

fn message(direction: Direction, kind: u8, body: &[u8], meta: &Meta<'_>, tx: &mut Tx) {
    match kind {
        1 => tx.stage = Some(Stage::ClientHello),
        2 => tx.stage = Some(Stage::ServerHello),
        12 => tx.stage = Some(Stage::ServerKeys),
        13 if direction == Direction::ToClient => tx.stage = None,
        16 => tx.stage = Some(Stage::ClientKeys),
        _ => {}
    }
    match (kind, direction) {
        (2, Direction::ToClient) => {
            let hello = ServerHello::parse(body);
            tx.mark(direction, if hello.is_retry() { 'J' } else { 'S' });
            return server_hello(hello, meta, tx);
        }
        _ => tx.mark(direction, letter(kind)),
    }
    match (kind, direction) {
        (1, Direction::ToServer) => client_hello(ClientHello::parse(body), meta, tx),
        (11, _) => certificates(direction, body, tx),
        (12, Direction::ToClient) => server_key_exchange(body, tx),
        (13, Direction::ToClient) => tx.is_client_asked = true,
        (14, Direction::ToClient) => tx.raise(direction, SERVER_HELLO_DONE),
        (16, Direction::ToServer) => {
            tx.has_key_exchange = true;
            tx.raise(direction, CLIENT_CERT_DONE);
        }
        (20, Direction::ToServer) => tx.raise(direction, CLIENT_HANDSHAKE_DONE),
        (1 | 2, _) => tx.events.add("invalid_handshake_message"),
        _ => {}
    }
}

fn client_hello(hello: ClientHello, meta: &Meta<'_>, tx: &mut Tx) {
    tx.raise(Direction::ToServer, CLIENT_HELLO_DONE);
    if hello.is_truncated {
        tx.events.add("handshake_invalid_length");
    }
    if let Some(first) = &tx.client_hello {
        if first.sni().is_some() && hello.sni().is_some() {
            tx.events.add("multiple_sni_extensions");
        }
        return;
    }
    if hello.extensions.iter().filter(|extension| extension.kind == 0).count() > 1 {
        tx.events.add("multiple_sni_extensions");
    }
    tx.has_ech = hello.extension(ENCRYPTED_CLIENT_HELLO).is_some();
    if meta.config.is_ja_on {
        tx.ja3 = Some(ja3(&hello));
        tx.ja4 = Some(ja4(Ja4Transport::Tcp, &hello));
    }
    tx.version = hello.version;
    tx.client_hello = Some(Box::new(hello));
}

fn server_hello(hello: ServerHello, meta: &Meta<'_>, tx: &mut Tx) {
    if hello.is_truncated {
        tx.events.add("handshake_invalid_length");
    }
    tx.version = hello.negotiated();
    if hello.is_retry() {
        tx.has_retry = true;
        // To Suricata it is a hello like any other.
        tx.raise(Direction::ToClient, SERVER_HELLO);
        return;
    }
    tx.raise(Direction::ToClient, SERVER_HELLO);
    if tx.server_hello.is_some() {
        return;
    }
    if meta.config.is_ja_on {
        tx.ja3s = Some(ja3s(&hello));
    }
    if hello.negotiated() >= 0x0304 {
        tx.curve = hello.group;
        // `pre_shared_key` in the answer: an earlier session goes on.
        tx.is_resumed |= hello.has_extension(41);
    } else if let Some(client) = &tx.client_hello {
        tx.is_resumed |= !hello.session_id.is_empty() && hello.session_id == client.session_id;
    }
    tx.server_hello = Some(Box::new(hello));
}

/// Before 1.3 a client with a ticket and without a session id that goes straight on to its new keys
/// has resumed a session (RFC 5077).
pub(super) fn note_ticket_resumption(direction: Direction, tx: &mut Tx) {
    let has_ticket = tx.client_hello.as_ref().is_some_and(|hello| {
        hello.session_id.is_empty() && hello.extension(35).is_some_and(|ticket| !ticket.is_empty())
    });
    if direction == Direction::ToServer && has_ticket && !tx.has_key_exchange {
        tx.is_resumed = true;
    }
}

fn certificates(direction: Direction, body: &[u8], tx: &mut Tx) {
    let chain = match direction {
        Direction::ToServer => &mut tx.client_chain,
        Direction::ToClient => &mut tx.server_chain,
    };
    if !chain.is_empty() {
        return;
    }
    let mut cursor = Cursor::new(body);
    let is_whole = cursor.u24().is_some_and(|length| length as usize == cursor.len());
    if !is_whole {
        tx.events.add("handshake_invalid_length");
    }
    while !cursor.is_empty() {
        let Some(bytes) = cursor.u24().and_then(|length| cursor.take(length as usize)) else {
            tx.events.add("certificate_invalid_length");
            break;
        };
        if chain.len() == CHAIN_MAX {
            tx.cut_bytes += bytes.len() as u64;
            continue;
        }
        let certificate = Certificate::parse(bytes);
        if certificate.is_malformed {
            tx.events.add("invalid_certificate");
        }
        chain.push(certificate);
    }
    tx.raise(
        direction,
        match direction {
            Direction::ToServer => CLIENT_CERT_DONE,
            Direction::ToClient => SERVER_CERT_DONE,
        },
    );
}

/// The curve of an ephemeral elliptic-curve key exchange (RFC 8422, section 5.4).
fn server_key_exchange(body: &[u8], tx: &mut Tx) {
    let Some(hello) = &tx.server_hello else { return };
    let is_ecdhe = matches!(
        hello.cipher,
        0xc006..=0xc00a | 0xc010..=0xc019 | 0xc023..=0xc024 | 0xc027..=0xc028 | 0xc02b..=0xc02c
            | 0xc02f..=0xc030 | 0xc033..=0xc03b | 0xc048..=0xc049 | 0xc04c..=0xc04d
            | 0xc05c..=0xc05d | 0xc060..=0xc061 | 0xc070..=0xc073 | 0xc076..=0xc077 | 0xc086..=0xc087
            | 0xc08a..=0xc08b | 0xc09a..=0xc09b | 0xc0ac..=0xc0af | 0xcca8..=0xcca9 | 0xccac
            | 0xd001..=0xd005 | 0xcc13 | 0xcc14
    );
    let mut cursor = Cursor::new(body);
    if is_ecdhe && cursor.u8() == Some(3) {
        tx.curve = cursor.u16();
    }
}

/// An SSL 2 hello: its version and, of the client, the suites that are newer too.
pub(super) fn version_2(direction: Direction, bytes: &[u8], meta: &Meta<'_>, tx: &mut Tx) {
    let mut cursor = Cursor::new(bytes);
    let Some(length) = cursor.u16().map(|length| usize::from(length & 0x7fff)) else {
        tx.events.add("invalid_sslv2_header");
        return;
    };
    let mut body = Cursor::new(cursor.take_up_to(length));
    match (direction, body.u8()) {
        (Direction::ToServer, Some(1)) => {
            let Some(hello) = client_hello_2(body) else {
                tx.events.add("invalid_sslv2_header");
                return;
            };
            tx.mark(direction, 'C');
            tx.stage = Some(Stage::ClientHello);
            client_hello(hello, meta, tx);
        }
        (Direction::ToClient, Some(4)) => {
            tx.version = 0x0002;
            tx.stage = Some(Stage::ServerHello);
            tx.mark(direction, 'S');
            tx.raise(direction, SERVER_CERT_DONE);
        }
        (_, Some(0)) => tx.events.add("error_message_encountered"),
        _ => tx.events.add("invalid_sslv2_header"),
    }
}

fn client_hello_2(mut body: Cursor<'_>) -> Option<ClientHello> {
    let mut hello = ClientHello { raw: body.rest().to_vec(), ..ClientHello::default() };
    hello.version = body.u16()?;
    let (ciphers, session, challenge) = (body.u16()?, body.u16()?, body.u16()?);
    let ciphers = body.take(usize::from(ciphers))?.as_chunks::<3>().0;
    hello.ciphers = ciphers
        .iter()
        .filter(|[kind, ..]| *kind == 0)
        .map(|[_, high, low]| u16::from_be_bytes([*high, *low]))
        .collect();
    hello.session_id = body.take(usize::from(session))?.to_vec();
    let challenge = body.take(usize::from(challenge))?;
    let start = 32_usize.saturating_sub(challenge.len());
    for (slot, byte) in hello.random.iter_mut().skip(start).zip(challenge) {
        *slot = *byte;
    }
    Some(hello)
}

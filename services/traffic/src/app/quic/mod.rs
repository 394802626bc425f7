//! QUIC version 1, 2 and drafts: Initial packets, whose keys everybody can derive (RFC 9001).

mod crypto;
mod frames;

use super::bytes::Cursor;
use super::tls::{ClientHello, ServerHello};
use super::{Events, Fed, Meta, Step};
use crate::Direction;
use crate::fingerprint::{Ja4Transport, ja3, ja3s, ja4};
use crypto::Keys;
use frames::{Crypto, varint};
use std::collections::VecDeque;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Quic {
    /// Datagrams that inspectors have not yet seen.
    pub txs: VecDeque<Tx>,
    next_id: u64,
    keys: Option<Box<Keys>>,
    crypto: [Crypto; 2],
    is_done: [bool; 2],
}

/// Packets of one datagram that are looked at: an Initial comes first, others may follow.
const PACKETS_MAX: usize = 8;
/// Initials after the hello of both sides, or that can't be read, until the flow is left alone.
const FUTILE_MAX: u64 = 64;
/// Longest connection id of versions that are known (RFC 9000, section 17.2).
const CID_BYTES_MAX: usize = 20;
/// Bytes of the AES-GCM tag, the least that a payload has.
const TAG_BYTES: usize = 16;

/// One datagram with a long header (several hellos of a flow: several transactions).
#[derive(Debug)]
pub struct Tx {
    /// Number within the flow.
    pub id: u64,
    /// When it came.
    pub at_ns: u64,
    /// Who sent it.
    pub direction: Direction,
    /// Version word.
    pub version: u32,
    /// Destination connection id.
    pub dcid: Vec<u8>,
    /// Source connection id.
    pub scid: Vec<u8>,
    /// The client's hello, when this datagram completed it.
    pub client_hello: Option<Box<ClientHello>>,
    /// The server's hello, when this datagram completed it.
    pub server_hello: Option<Box<ServerHello>>,
    /// `quic.sni`.
    pub sni: Option<Vec<u8>>,
    /// `quic.ua`: user agent (Google QUIC, or its transport parameter).
    pub ua: Option<Vec<u8>>,
    /// JA3 (or JA3S) text and MD5.
    pub ja3: Option<(String, String)>,
    /// JA4 with `q`.
    pub ja4: Option<String>,
    /// `quic.cyu.string` and its MD5: frames of the packet (CYU fingerprint).
    pub cyu: Vec<(String, String)>,
    /// Suricata's `quic.*` events.
    pub events: Events,
}

impl Tx {
    /// Always 1.
    #[must_use]
    pub const fn progress(&self, _direction: Direction) -> u8 {
        1
    }

    /// `quic.version` as Suricata writes it: `1`, `2`, `Q043`, `draft-29`.. or eight hex digits.
    #[must_use]
    pub fn version_name(&self) -> String {
        match self.version {
            1 => "1".into(),
            0x6b33_43cf => "2".into(),
            version if version >> 8 == 0x00ff_0000 => format!("draft-{}", version & 0xff),
            version => match version.to_be_bytes() {
                [b'Q', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
                    format!("Q{}", String::from_utf8_lossy(&rest))
                }
                _ => format!("{version:08x}"),
            },
        }
    }
}

/// A long header (RFC 9000, section 17.2).
struct Header<'a> {
    version: u32,
    is_initial: bool,
    is_fixed: bool,
    dcid: &'a [u8],
    scid: &'a [u8],
    /// Where the packet number is, and the packet's end.
    number_at: usize,
    end: usize,
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let first = cursor.u8()?;
        if first & 0x80 == 0 {
            return None;
        }
        let version = cursor.u32()?;
        let dcid = cursor.prefixed8()?;
        let scid = cursor.prefixed8()?;
        if dcid.len() > CID_BYTES_MAX || scid.len() > CID_BYTES_MAX {
            return None;
        }
        let kind = (first >> 4) & 3;
        // Version 2 numbers its packet types anew (RFC 9369, section 3.2).
        let is_initial = kind == u8::from(version == 0x6b33_43cf);
        let is_retry = if version == 0x6b33_43cf { kind == 0 } else { kind == 3 };
        let mut header = Self {
            version,
            is_initial,
            is_fixed: first & 0x40 != 0,
            dcid,
            scid,
            number_at: 0,
            end: bytes.len(),
        };
        if version == 0 || is_retry || !crypto::is_known(version) {
            return Some(header);
        }
        if is_initial {
            let token = varint(&mut cursor)?;
            cursor.take(usize::try_from(token).ok()?)?;
        }
        let length = usize::try_from(varint(&mut cursor)?).ok()?;
        header.number_at = bytes.len() - cursor.len();
        cursor.take(length)?;
        header.end = bytes.len() - cursor.len();
        Some(header)
    }
}

/// Whether a datagram to the server starts like QUIC of a version whose keys are known.
pub(crate) fn probe(bytes: &[u8]) -> bool {
    // A client pads its first datagram to 1200 bytes (RFC 9000, section 14.1).
    const DATAGRAM_BYTES_MIN: usize = 1_000;
    bytes.len() >= DATAGRAM_BYTES_MIN
        && Header::parse(bytes).is_some_and(|header| {
            header.is_fixed && header.is_initial && crypto::is_known(header.version)
        })
}

impl Quic {
    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.crypto.iter().map(Crypto::held_bytes).sum::<usize>()
    }

    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        let mut rest = data;
        for _ in 0..PACKETS_MAX {
            let Some(header) = Header::parse(rest) else { break };
            if header.is_initial || header.version == 0 {
                self.packet(now_ns, direction, rest, &header, meta);
                fed.is_changed = true;
            }
            rest = rest.get(header.end..).unwrap_or_default();
        }
        if self.is_done == [true, true] || self.next_id > FUTILE_MAX {
            return Step::Done;
        }
        Step::Go
    }

    fn packet(
        &mut self,
        now_ns: u64,
        direction: Direction,
        bytes: &[u8],
        header: &Header<'_>,
        meta: &Meta<'_>,
    ) {
        let mut tx = Tx {
            id: self.next_id,
            at_ns: now_ns,
            direction,
            version: header.version,
            dcid: header.dcid.to_vec(),
            scid: header.scid.to_vec(),
            client_hello: None,
            server_hello: None,
            sni: None,
            ua: None,
            ja3: None,
            ja4: None,
            cyu: Vec::new(),
            events: Events::default(),
        };
        self.next_id += 1;
        if header.version != 0 && crypto::is_known(header.version) {
            match self.open(direction, bytes, header) {
                Some(payload) => self.hello(direction, &payload, meta, &mut tx),
                None => tx.events.add("failed_decrypt"),
            }
        }
        if self.txs.len() >= meta.config.txs_max as usize {
            self.txs.pop_front();
        }
        super::add(&mut self.txs, tx);
    }

    fn open(&mut self, direction: Direction, bytes: &[u8], header: &Header<'_>) -> Option<Vec<u8>> {
        let packet = bytes.get(..header.end)?;
        if packet.len() < header.number_at + TAG_BYTES {
            return None;
        }
        if let Some(keys) = &self.keys
            && let Some(payload) = keys.open(direction.index(), packet, header.number_at)
        {
            return Some(payload);
        }
        // The first packet, or the one after a Retry: the client's new destination makes the keys.
        if direction == Direction::ToClient {
            return None;
        }
        let keys = Keys::new(header.version, header.dcid)?;
        let payload = keys.open(direction.index(), packet, header.number_at)?;
        self.keys = Some(Box::new(keys));
        Some(payload)
    }

    fn hello(&mut self, direction: Direction, payload: &[u8], meta: &Meta<'_>, tx: &mut Tx) {
        let index = direction.index();
        let (Some(crypto), Some(is_done)) =
            (self.crypto.get_mut(index), self.is_done.get_mut(index))
        else {
            return;
        };
        let seen = frames::read(payload, crypto);
        if seen.is_malformed {
            tx.events.add("error_on_data");
        }
        if *is_done || !seen.has_crypto {
            return;
        }
        let is_on = meta.config.is_ja_on;
        match crypto.message() {
            Some((1, body)) if direction == Direction::ToServer => {
                let hello = ClientHello::parse(body);
                tx.sni = hello.server_name.clone();
                tx.ja3 = is_on.then(|| ja3(&hello));
                tx.ja4 = is_on.then(|| ja4(Ja4Transport::Quic, &hello));
                tx.client_hello = Some(Box::new(hello));
                *is_done = true;
            }
            Some((2, body)) if direction == Direction::ToClient => {
                let hello = ServerHello::parse(body);
                tx.ja3 = is_on.then(|| ja3s(&hello));
                tx.server_hello = Some(Box::new(hello));
                *is_done = true;
            }
            Some(_) => *is_done = true,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::crypto::tests::initial;
    use super::{Quic, probe};
    use crate::Direction::ToServer;
    use crate::app::tests::meta;
    use crate::app::{Config, Fed};

    fn crypto(offset: u8, data: &[u8]) -> Vec<u8> {
        [&[6, offset, u8::try_from(data.len()).unwrap()][..], data].concat()
    }

    #[test]
    fn a_hello_over_two_datagrams_of_either_version() {
        let mut body = [&[3, 3][..], &[1; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
        body.extend_from_slice(b"\0\x0d\0\0\0\x09\0\x07\0\0\x04hp.o");
        let length = u8::try_from(body.len()).unwrap();
        let hello = [&[1, 0, 0, length][..], &body].concat();
        let config = Config::default();
        for version in [1, 0x6b33_43cf] {
            let (head, tail) = hello.split_at(30);
            let mut quic = Quic::default();
            for piece in [crypto(30, tail), crypto(0, head)] {
                let datagram = initial(version, &piece);
                assert!(probe(&datagram));
                quic.feed(1, ToServer, &datagram, &meta(&config), &mut Fed::default());
            }
            assert_eq!((quic.txs.len(), &quic.txs[0].sni), (2, &None));
            let tx = &quic.txs[1];
            assert_eq!(tx.sni.as_deref(), Some(&b"hp.o"[..]));
            assert!(tx.ja4.as_ref().unwrap().starts_with("q12d0101"));
            assert_eq!(tx.version_name(), if version == 1 { "1" } else { "2" });
        }
    }
}

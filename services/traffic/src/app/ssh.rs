//! SSH (RFC 4253): banners and the first key exchange messages.

use super::bytes::Cursor;
use super::{Events, Fed, Hides, Meta, Step};
use crate::Direction;
use crate::fingerprint::{hassh_client, hassh_server};

/// Suricata 8's progress of each side.
pub mod progress {
    /// Banner not complete.
    pub const IN_PROGRESS: u8 = 0;
    /// The banner's text is there, its line end is not.
    pub const BANNER_WAIT_EOL: u8 = 1;
    /// Banner complete.
    pub const BANNER_DONE: u8 = 2;
    /// New keys: all clear text was seen.
    pub const FINISHED: u8 = 3;
}

/// State of a flow.
#[derive(Debug, Default)]
pub struct Ssh {
    /// The one transaction.
    pub tx: Tx,
    pub(crate) sides: [Reader; 2],
}

/// Longest banner that is kept (RFC 4253, section 4.2 allows 255 with its end).
const BANNER_BYTES_MAX: usize = 256;
/// Longest packet that is gathered: key exchange lists of real software stay below 4 KiB.
const PACKET_BYTES_MAX: usize = 35_000;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;

/// Reassembly of one direction.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    held: Vec<u8>,
    /// Bytes of a packet that is not gathered: to be passed over.
    skip: usize,
    is_over: bool,
    /// Banners and packets that were read to their end.
    count: u32,
    /// The rest of one is waited for.
    is_waiting: bool,
    /// Its banner is none: nothing of the session is read any more.
    is_wrong: bool,
}

/// Both sides' openings.
#[derive(Debug, Default)]
pub struct Tx {
    /// Always 0.
    pub id: u64,
    /// Time of the first byte.
    pub at_ns: u64,
    /// The client's side.
    pub client: Side,
    /// The server's side.
    pub server: Side,
    /// Suricata's `ssh.*` events.
    pub events: Events,
}

/// One side's opening.
#[derive(Debug, Default)]
pub struct Side {
    /// See `progress`.
    pub progress: u8,
    /// The whole banner line without its end.
    pub banner: Vec<u8>,
    /// `ssh.proto`: `2.0`.
    pub proto: Vec<u8>,
    /// `ssh.software`: with what follows the version, comment excluded.
    pub software: Vec<u8>,
    /// Comment behind the software.
    pub comment: Vec<u8>,
    /// Lists of the key exchange message.
    pub kex: Option<Box<KexInit>>,
    /// `ssh.hassh.string`, `ssh.hassh.server.string`.
    pub hassh_string: String,
    /// `ssh.hassh`, `ssh.hassh.server`: MD5 in hex; empty until the key exchange came.
    pub hassh: String,
    /// Encrypted bytes and packets after new keys, for guesses about authentication.
    pub encrypted_bytes: u64,
}

/// `SSH_MSG_KEXINIT`: lists as sent, with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KexInit {
    /// Key exchange methods.
    pub kex: Vec<u8>,
    /// Host key algorithms.
    pub host_key: Vec<u8>,
    /// Ciphers client to server, server to client.
    pub ciphers: [Vec<u8>; 2],
    /// MACs client to server, server to client.
    pub macs: [Vec<u8>; 2],
    /// Compressions client to server, server to client.
    pub compressions: [Vec<u8>; 2],
    /// Languages client to server, server to client.
    pub languages: [Vec<u8>; 2],
}

impl Tx {
    /// See `progress`.
    #[must_use]
    pub const fn progress(&self, direction: Direction) -> u8 {
        self.side(direction).progress
    }

    /// The side that sends in `direction`.
    #[must_use]
    pub const fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::ToServer => &self.client,
            Direction::ToClient => &self.server,
        }
    }
}

impl Ssh {
    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.sides.iter().map(|side| side.held.capacity()).sum::<usize>()
    }

    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        let Some(reader) = self.sides.get_mut(direction.index()) else { return Step::Go };
        if self.tx.at_ns == 0 {
            self.tx.at_ns = now_ns;
        }
        let (side, events) = match direction {
            Direction::ToServer => (&mut self.tx.client, &mut self.tx.events),
            Direction::ToClient => (&mut self.tx.server, &mut self.tx.events),
        };
        let before = (side.progress, events.len());
        let count = reader.count;
        reader.is_over |= meta.gap > 0 && side.progress < progress::FINISHED;
        if side.progress == progress::FINISHED {
            side.encrypted_bytes += meta.gap;
        }
        if !reader.is_over {
            reader.bytes(direction, data, meta, side, events);
        }
        // As with TLS: Suricata's parser is called when it has what it waits for.
        let (is_within, is_further) = (!reader.held.is_empty(), count != reader.count);
        fed.is_idle = reader.is_waiting && !is_further;
        reader.is_waiting = is_within && (!reader.is_waiting || !is_further);
        let is_new = before.0 != side.progress;
        fed.is_changed |= before != (side.progress, events.len());
        let sides = [&self.tx.client, &self.tx.server];
        let is_encrypted = sides.iter().all(|side| side.progress == progress::FINISHED);
        if is_new && is_encrypted {
            fed.hides = Hides::AfterFlush;
        }
        if self.sides.iter().any(|reader| reader.is_wrong) { Step::Fail } else { Step::Go }
    }
}

impl Reader {
    fn bytes(
        &mut self,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        side: &mut Side,
        events: &mut Events,
    ) {
        let mut rest = data;
        if side.progress < progress::BANNER_DONE {
            rest = self.banner(rest, side, events);
        }
        while !rest.is_empty() && !self.is_over {
            if side.progress == progress::FINISHED && self.skip == 0 {
                side.encrypted_bytes += rest.len() as u64;
                return;
            }
            rest = self.packet(direction, rest, meta, side, events);
        }
    }

    /// Takes the banner; returns what is behind it.
    fn banner<'a>(&mut self, data: &'a [u8], side: &mut Side, events: &mut Events) -> &'a [u8] {
        let end = memchr::memchr(b'\n', data);
        let (now, rest) = data.split_at(end.map_or(data.len(), |at| at + 1));
        let room = (BANNER_BYTES_MAX + 2).saturating_sub(self.held.len());
        self.held.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
        if end.is_none() {
            if self.held.len() > BANNER_BYTES_MAX && side.progress < progress::BANNER_WAIT_EOL {
                events.add("long_banner");
                self.read_banner(side, events);
                side.progress = progress::BANNER_WAIT_EOL;
            }
            return rest;
        }
        if side.progress < progress::BANNER_WAIT_EOL {
            if self.held.trim_ascii_end().len() > BANNER_BYTES_MAX {
                events.add("long_banner");
            }
            self.read_banner(side, events);
        }
        side.progress = progress::BANNER_DONE;
        self.held.clear();
        self.count = self.count.wrapping_add(1);
        // SSH 1 goes on with another packet format, and nothing of it is wanted.
        self.is_over |= side.proto.first() == Some(&b'1') && side.proto != b"1.99";
        rest
    }

    fn read_banner(&mut self, side: &mut Side, events: &mut Events) {
        let line = self.held.trim_ascii_end();
        side.banner = line.to_vec();
        let Some(text) = line.strip_prefix(b"SSH-") else {
            events.add("invalid_banner");
            self.is_over = true;
            return;
        };
        let Some(dash) = memchr::memchr(b'-', text) else {
            events.add("invalid_banner");
            self.is_wrong = true;
            self.is_over = true;
            return;
        };
        side.proto = text.get(..dash).unwrap_or_default().to_vec();
        let software = text.get(dash + 1..).unwrap_or_default();
        let end = memchr::memchr(b' ', software).unwrap_or(software.len());
        side.software = software.get(..end).unwrap_or_default().to_vec();
        side.comment = software.get(end..).unwrap_or_default().trim_ascii_start().to_vec();
    }

    /// Takes bytes of one packet; returns what is behind them.
    fn packet<'a>(
        &mut self,
        direction: Direction,
        data: &'a [u8],
        meta: &Meta<'_>,
        side: &mut Side,
        events: &mut Events,
    ) -> &'a [u8] {
        if self.skip > 0 {
            let (now, rest) = data.split_at(self.skip.min(data.len()));
            self.skip -= now.len();
            return rest;
        }
        let head = 6_usize.saturating_sub(self.held.len()).min(data.len());
        let (now, rest) = data.split_at(head);
        self.held.extend_from_slice(now);
        let mut cursor = Cursor::new(&self.held);
        let (Some(length), Some(_padding), Some(kind)) = (cursor.u32(), cursor.u8(), cursor.u8())
        else {
            return rest;
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < 2 {
            events.add("invalid_record");
            self.is_over = true;
            return rest;
        }
        if kind == NEWKEYS {
            side.progress = progress::FINISHED;
            self.skip = length - 2;
            return rest;
        }
        if kind != KEXINIT || length > PACKET_BYTES_MAX {
            if kind == KEXINIT {
                events.add("long_kex_record");
            }
            self.skip = length.saturating_add(4).saturating_sub(self.held.len());
            self.held.clear();
            return rest;
        }
        let (now, rest) =
            rest.split_at((length + 4 - self.held.len().min(length + 4)).min(rest.len()));
        self.held.extend_from_slice(now);
        if self.held.len() == length + 4 {
            self.kex(direction, meta, side, events);
            self.held.clear();
            self.count = self.count.wrapping_add(1);
        }
        rest
    }

    fn kex(&self, direction: Direction, meta: &Meta<'_>, side: &mut Side, events: &mut Events) {
        let Some(kex) = KexInit::parse(self.held.get(6..).unwrap_or_default()) else {
            events.add("invalid_record");
            return;
        };
        if meta.config.is_hassh_on {
            (side.hassh_string, side.hassh) = match direction {
                Direction::ToServer => hassh_client(&kex),
                Direction::ToClient => hassh_server(&kex),
            };
        }
        side.kex = Some(Box::new(kex));
    }
}

impl KexInit {
    /// Reads the message behind its type byte.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        cursor.take(16)?; // cookie
        let mut list = || -> Option<Vec<u8>> {
            let length = usize::try_from(cursor.u32()?).ok()?;
            Some(cursor.take(length)?.to_vec())
        };
        Some(Self {
            kex: list()?,
            host_key: list()?,
            ciphers: [list()?, list()?],
            macs: [list()?, list()?],
            compressions: [list()?, list()?],
            languages: [list()?, list()?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{KexInit, Ssh, progress};
    use crate::Direction;
    use crate::app::tests::{feed_all, meta};
    use crate::app::{Config, Fed};

    fn opening() -> Vec<u8> {
        let mut bytes = b"SSH-2.0-OpenSSH_9.9 Debian-1\r\n".to_vec();
        let mut kex = vec![20_u8];
        kex.extend_from_slice(&[7; 16]);
        let lists =
            ["curve25519", "ssh-ed25519", "aes1", "aes2", "mac1", "mac2", "none", "zlib", "", ""];
        for list in lists {
            kex.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
            kex.extend_from_slice(list.as_bytes());
        }
        kex.extend_from_slice(&[0; 5]);
        for payload in [kex, vec![30, 1, 2, 3], vec![21]] {
            let length = u32::try_from(payload.len() + 1 + 4).unwrap();
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.push(4);
            bytes.extend_from_slice(&payload);
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes.extend_from_slice(b"encrypted");
        bytes
    }

    #[test]
    fn split_anywhere_it_reads_the_same() {
        let config = Config::default();
        let bytes = opening();
        for at in 0..bytes.len() {
            let mut ssh = Ssh::default();
            let (head, tail) = bytes.split_at(at);
            feed_all(&[head, tail], |data| {
                ssh.feed(1, Direction::ToServer, data, &meta(&config), &mut Fed::default());
            });
            let side = &ssh.tx.client;
            assert_eq!(side.progress, progress::FINISHED, "split at {at}");
            assert_eq!((&side.proto[..], &side.software[..]), (&b"2.0"[..], &b"OpenSSH_9.9"[..]));
            assert_eq!(side.comment, b"Debian-1");
            assert_eq!(side.hassh_string, "curve25519;aes1;mac1;none");
            assert_eq!(side.hassh.len(), 32);
            assert_eq!(side.encrypted_bytes, 9);
        }
    }

    #[test]
    fn a_lying_list_is_no_key_exchange() {
        assert_eq!(KexInit::parse(&[0; 16]), None);
        let mut bytes = vec![0; 16];
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(KexInit::parse(&bytes), None);
    }

    #[test]
    fn a_banner_without_end_is_long() {
        let config = Config::default();
        let mut ssh = Ssh::default();
        let mut bytes = b"SSH-2.0-".to_vec();
        bytes.resize(1000, b'x');
        ssh.feed(1, Direction::ToServer, &bytes, &meta(&config), &mut Fed::default());
        assert!(ssh.tx.events.contains("long_banner"));
        assert_eq!(ssh.tx.client.progress, progress::BANNER_WAIT_EOL);
    }
}

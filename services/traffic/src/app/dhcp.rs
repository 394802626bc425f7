//! DHCP for IPv4 (RFC 2131, 2132): one transaction a message.

use super::bytes::Cursor;
use super::{Events, Fed, Meta, Step};
use crate::Direction;
use std::collections::VecDeque;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Dhcp {
    /// Messages that inspectors have not yet seen.
    pub txs: VecDeque<Tx>,
    pub(crate) next_id: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    /// Number within the flow.
    pub id: u64,
    /// When it came.
    pub at_ns: u64,
    /// From the client: to the server.
    pub direction: Direction,
    /// What it says.
    pub message: Message,
    /// `malformed_options`, `truncated_options`.
    pub events: Events,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// 1 request, 2 reply.
    pub op: u8,
    /// Hardware type, 1 is Ethernet.
    pub hardware: u8,
    /// Hops.
    pub hops: u8,
    /// Transaction id.
    pub xid: u32,
    /// Seconds elapsed.
    pub elapsed_s: u16,
    /// Flags (bit 15: broadcast).
    pub flags: u16,
    /// `ciaddr`.
    pub client_ip: [u8; 4],
    /// `yiaddr`.
    pub assigned_ip: [u8; 4],
    /// `siaddr`.
    pub next_server_ip: [u8; 4],
    /// `giaddr`.
    pub relay_ip: [u8; 4],
    /// Client's hardware address: `hlen` bytes, at most 16.
    pub client_mac: Vec<u8>,
    /// `sname`, cut at its first zero.
    pub server_name: Vec<u8>,
    /// `file`, cut at its first zero.
    pub boot_file: Vec<u8>,
    /// Options in order, pad and end left out.
    pub options: Vec<(u8, Vec<u8>)>,
}

/// Message types (option 53).
pub const TYPES: [&str; 9] =
    ["", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform"];

impl Message {
    /// Data of the first option `code`.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, data)| data.as_slice())
    }

    /// Option 53: 1 discover .. 8 inform.
    #[must_use]
    pub fn kind(&self) -> Option<u8> {
        self.option(53)?.first().copied()
    }

    /// Name of the type as Suricata writes it (`discover`, `offer`, ...).
    #[must_use]
    pub fn kind_name(&self) -> Option<&'static str> {
        TYPES.get(usize::from(self.kind()?)).copied().filter(|name| !name.is_empty())
    }

    /// An option of four bytes as an address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<[u8; 4]> {
        self.option(code)?.get(..4)?.try_into().ok()
    }

    /// All addresses of an option (routers 3, DNS servers 6).
    #[must_use]
    pub fn addresses(&self, code: u8) -> Vec<[u8; 4]> {
        self.option(code).unwrap_or_default().as_chunks::<4>().0.to_vec()
    }

    /// An option of four bytes as seconds (lease 51, renewal 58, rebinding 59).
    #[must_use]
    pub fn seconds(&self, code: u8) -> Option<u32> {
        self.address(code).map(u32::from_be_bytes)
    }

    /// Option 12: the client's host name.
    #[must_use]
    pub fn host_name(&self) -> Option<&[u8]> {
        self.option(12)
    }

    /// Option 60: vendor class.
    #[must_use]
    pub fn vendor_class(&self) -> Option<&[u8]> {
        self.option(60)
    }

    /// Option 55: what the client asks for.
    #[must_use]
    pub fn parameters(&self) -> Option<&[u8]> {
        self.option(55)
    }
}

impl Tx {
    /// Always 1.
    #[must_use]
    pub const fn progress(&self, _direction: Direction) -> u8 {
        1
    }
}

/// The four bytes before the options (RFC 2131, section 3).
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Bytes before the magic.
const FIXED_BYTES: usize = 236;

/// Whether `bytes` are a DHCP message.
pub(crate) fn probe(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(1 | 2)) && bytes.get(FIXED_BYTES..FIXED_BYTES + 4) == Some(&MAGIC)
}

impl Dhcp {
    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        let Some((message, events)) = Message::parse(data) else { return Step::Go };
        if self.txs.len() >= meta.config.txs_max as usize {
            self.txs.pop_front();
        }
        super::add(
            &mut self.txs,
            Tx { id: self.next_id, at_ns: now_ns, direction, message, events },
        );
        self.next_id += 1;
        fed.is_changed = true;
        Step::Go
    }
}

impl Message {
    /// Reads a message; `None` if it is none. Options that are cut are left out with an event.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, Events)> {
        if !probe(bytes) {
            return None;
        }
        let mut cursor = Cursor::new(bytes);
        let [op, hardware, length, hops] = cursor.array()?;
        let mut message = Self { op, hardware, hops, xid: cursor.u32()?, ..Self::default() };
        message.elapsed_s = cursor.u16()?;
        message.flags = cursor.u16()?;
        message.client_ip = cursor.array()?;
        message.assigned_ip = cursor.array()?;
        message.next_server_ip = cursor.array()?;
        message.relay_ip = cursor.array()?;
        let address = cursor.take(16)?;
        message.client_mac = address.get(..usize::from(length).min(16))?.to_vec();
        message.server_name = until_zero(cursor.take(64)?);
        message.boot_file = until_zero(cursor.take(128)?);
        cursor.take(4)?;
        let mut events = Events::default();
        message.read_options(cursor, &mut events);
        Some((message, events))
    }

    fn read_options(&mut self, mut cursor: Cursor<'_>, events: &mut Events) {
        loop {
            match cursor.u8() {
                Some(0) => {}
                Some(255) => return,
                Some(code) => {
                    let Some(data) = cursor.prefixed8() else {
                        events.add("truncated_options");
                        return;
                    };
                    if data.is_empty() && !matches!(code, 80) {
                        events.add("malformed_options");
                    }
                    self.options.push((code, data.to_vec()));
                }
                None => {
                    events.add("truncated_options");
                    return;
                }
            }
        }
    }
}

fn until_zero(bytes: &[u8]) -> Vec<u8> {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::Message;
    use crate::fingerprint;

    fn discover() -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 1, 0x80, 0];
        bytes.resize(28, 0);
        bytes.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
        bytes.resize(236, 0);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 0, 55, 3, 1, 3, 6, 60, 2, b'h', b'p']);
        bytes.push(255);
        bytes
    }

    #[test]
    fn a_discover_and_its_fingerprint() {
        let (message, events) = Message::parse(&discover()).unwrap();
        assert!(events.is_empty());
        assert_eq!(message.kind_name(), Some("discover"));
        assert_eq!(message.client_mac, [2, 0, 0, 0, 0, 1]);
        assert_eq!(message.xid, 0x1234_5678);
        let print = fingerprint::dhcp(&message).unwrap();
        assert_eq!((&print.parameters[..], &print.options[..]), ("1,3,6", "53,55,60"));
        assert_eq!(print.vendor_class, "hp");
    }

    #[test]
    fn every_prefix_is_read_or_refused() {
        let bytes = discover();
        for length in 0..bytes.len() {
            match Message::parse(&bytes[..length]) {
                None => assert!(length < 240),
                Some((_, events)) => assert!(events.contains("truncated_options"), "{length}"),
            }
        }
    }
}

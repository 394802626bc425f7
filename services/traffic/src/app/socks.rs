//! SOCKS 4 and 5 (RFC 1928), as far as needed to see where the proxied protocol begins.

use super::Step;
use super::bytes::Cursor;
use crate::Direction;

/// Longest opening of a server: two for the method, two for authentication, 262 for the reply.
const OPENING_BYTES_MAX: usize = 512;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Socks {
    /// 4 or 5, from the client's first byte.
    pub version: u8,
    server: Vec<u8>,
}

/// Whether `head` is exactly a client's greeting (5) or request (4): a client waits behind either.
pub(crate) fn probe(head: &[u8]) -> bool {
    match head {
        [5, count, methods @ ..] => {
            (1..=10).contains(count)
                && methods.len() == usize::from(*count)
                && methods.iter().all(|method| matches!(method, 0..=9 | 0x80..=0xfe))
        }
        [4, 1 | 2, _, _, rest @ ..] => rest.len() >= 5 && rest.last() == Some(&0),
        _ => false,
    }
}

impl Socks {
    pub(crate) fn feed(&mut self, direction: Direction, data: &[u8]) -> Step {
        match direction {
            Direction::ToServer => {
                if let (0, Some(version)) = (self.version, data.first()) {
                    self.version = *version;
                }
                Step::Go
            }
            Direction::ToClient => {
                let room = OPENING_BYTES_MAX - self.server.len();
                self.server.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
                match self.answered() {
                    Some(true) => Step::Change(None),
                    Some(false) => Step::Fail,
                    None if self.server.len() == OPENING_BYTES_MAX => Step::Fail,
                    None => Step::Go,
                }
            }
        }
    }

    /// Whether the server granted the request; `None`: it has not said yet.
    fn answered(&self) -> Option<bool> {
        let mut cursor = Cursor::new(&self.server);
        if self.version == 4 {
            let [zero, code, ..] = cursor.array::<8>()?;
            return Some(zero == 0 && code == 90);
        }
        let [version, method] = cursor.array()?;
        if version != 5 {
            return Some(false);
        }
        if method == 2 {
            let [_, status] = cursor.array()?;
            if status != 0 {
                return Some(false);
            }
        } else if method != 0 {
            return Some(false);
        }
        let [version, code, _, kind] = cursor.array()?;
        let address = match kind {
            1 => 4,
            3 => usize::from(cursor.u8()?),
            4 => 16,
            _ => return Some(false),
        };
        cursor.take(address + 2)?;
        Some(version == 5 && code == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Socks, probe};
    use crate::Direction::{ToClient, ToServer};
    use crate::app::Step;

    #[test]
    fn both_versions_hand_over_when_granted() {
        let mut five = Socks::default();
        assert!(probe(b"\x05\x01\x00"));
        assert_eq!(five.feed(ToServer, b"\x05\x01\x00"), Step::Go);
        assert_eq!(five.feed(ToClient, b"\x05\x00"), Step::Go);
        assert_eq!(five.feed(ToClient, b"\x05\x00\x00\x01\x7f\0\0\x01\0"), Step::Go);
        assert_eq!(five.feed(ToClient, b"\x50"), Step::Change(None));
        let mut four = Socks::default();
        assert!(probe(b"\x04\x01\x00\x50\x7f\0\0\x01\0"));
        four.feed(ToServer, b"\x04\x01\x00\x50\x7f\0\0\x01\0");
        assert_eq!(four.feed(ToClient, b"\0\x5b\0\0\0\0\0\0"), Step::Fail);
    }
}

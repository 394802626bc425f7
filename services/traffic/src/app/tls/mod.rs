//! SSL 3 to TLS 1.3: the clear part of the handshake.

mod cert;
mod der;
mod handshake;
mod hello;
mod record;
#[cfg(test)]
mod tests;

pub use cert::Certificate;
pub use hello::{ClientHello, Extension, ServerHello};
pub(crate) use record::probe;

use crate::Direction;
use crate::app::Events;

/// Suricata 8's progress. The value names what is complete.
pub mod progress {
    /// Nothing yet (client).
    pub const CLIENT_IN_PROGRESS: u8 = 0;
    /// `ClientHello` read.
    pub const CLIENT_HELLO_DONE: u8 = 1;
    /// Client's certificate read, or none will come.
    pub const CLIENT_CERT_DONE: u8 = 2;
    /// Client's handshake is over.
    pub const CLIENT_HANDSHAKE_DONE: u8 = 3;
    /// Nothing more to see from the client.
    pub const CLIENT_FINISHED: u8 = 4;
    /// Nothing yet (server).
    pub const SERVER_IN_PROGRESS: u8 = 0;
    /// `ServerHello` read.
    pub const SERVER_HELLO: u8 = 1;
    /// Server's certificates read, or none will come.
    pub const SERVER_CERT_DONE: u8 = 2;
    /// `ServerHelloDone` read.
    pub const SERVER_HELLO_DONE: u8 = 3;
    /// Server's handshake is over.
    pub const SERVER_HANDSHAKE_DONE: u8 = 4;
    /// Nothing more to see from the server.
    pub const SERVER_FINISHED: u8 = 5;
}

/// Messages that say how far the handshake is (`ssl_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `ClientHello`.
    ClientHello,
    /// `ServerHello`.
    ServerHello,
    /// `ClientKeyExchange`.
    ClientKeys,
    /// `ServerKeyExchange`.
    ServerKeys,
    /// Something of SSL 2 that is none of these.
    Unknown,
}

impl Stage {
    /// By its name in rules.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "client_hello" => Self::ClientHello,
            "server_hello" => Self::ServerHello,
            "client_keyx" => Self::ClientKeys,
            "server_keyx" => Self::ServerKeys,
            "unknown" => Self::Unknown,
            _ => return None,
        })
    }

    /// One bit for each.
    #[must_use]
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// State of a flow.
#[derive(Debug, Default)]
pub struct Tls {
    /// The one transaction.
    pub tx: Tx,
    pub(crate) sides: [record::Side; 2],
    /// Records that were read to their end, application data left out.
    records: u32,
    /// Encrypted data flows: nothing in the clear comes any more.
    is_hidden: bool,
}

/// The handshake.
#[derive(Debug, Default)]
pub struct Tx {
    /// Always 0.
    pub id: u64,
    /// Time of the first byte.
    pub at_ns: u64,
    /// Progress of client and server.
    pub progress: [u8; 2],
    /// Client's first hello (after a retry request: still the first).
    pub client_hello: Option<Box<ClientHello>>,
    /// Server's hello; that of a retry request is replaced by the real one.
    pub server_hello: Option<Box<ServerHello>>,
    /// Version as `tls.version` says: negotiated (supported_versions counts), 0x0300 to 0x0304;
    /// 0x0002 for SSL 2; until the server answers, the client's record version.
    pub version: u16,
    /// Server's chain as sent, leaf first.
    pub server_chain: Vec<Certificate>,
    /// Client's chain as sent.
    pub client_chain: Vec<Certificate>,
    /// JA3 text, then its MD5 in hex: of the client.
    pub ja3: Option<(String, String)>,
    /// JA3S text, then its MD5 in hex: of the server.
    pub ja3s: Option<(String, String)>,
    /// JA4 of the client.
    pub ja4: Option<String>,
    /// Named group that the server chose (its key share, or its key exchange before 1.3).
    pub curve: Option<u16>,
    /// The session was resumed: same session id echoed, or pre-shared key accepted.
    pub is_resumed: bool,
    /// Application data flows: the handshake succeeded as far as can be seen.
    pub is_established: bool,
    /// The client sent an encrypted hello (extension 0xfe0d).
    pub has_ech: bool,
    /// The server asked for the client's certificate.
    pub is_client_asked: bool,
    /// A HelloRetryRequest came.
    pub has_retry: bool,
    /// Last alert in the clear: level and description, and who sent it.
    pub last_alert: Option<(Direction, u8, u8)>,
    /// A heartbeat record came (types 1, 2; lying length: event `overflow_heartbeat_message`).
    pub has_heartbeat: bool,
    /// Zeek's `ssl_history`: upper case from the client, lower case from the server.
    pub history: String,
    /// Suricata's `tls.*` events.
    pub events: Events,
    /// Certificates and bytes beyond the limits.
    pub cut_bytes: u64,
    /// The last message of either side that says how far the handshake is.
    pub stage: Option<Stage>,
    pub(crate) has_key_exchange: bool,
    /// Version in the last record's header of each side.
    pub(crate) record_version: [u16; 2],
}

/// A version that exists: GREASE does not (RFC 8701). Drafts of 1.3 do.
const fn is_version(version: u16) -> bool {
    matches!(version, 0x0300..=0x0304 | 0x7f00..=0x7fff | 0xfb00..=0xfbff)
}

impl Tx {
    /// See `progress`.
    #[must_use]
    pub const fn progress(&self, direction: Direction) -> u8 {
        let [client, server] = self.progress;
        match direction {
            Direction::ToServer => client,
            Direction::ToClient => server,
        }
    }

    /// The version that an end has spoken: the client's is the first of those that it supports, or
    /// that of its hello; the server's is what was agreed upon. `None` before its first word.
    #[must_use]
    pub fn spoken(&self, direction: Direction) -> Option<u16> {
        let version = match direction {
            Direction::ToServer => match self.client_hello.as_deref() {
                Some(hello) => {
                    let mut offered = hello.versions.iter().copied();
                    offered.find(|version| is_version(*version)).unwrap_or(hello.version)
                }
                None => self.version,
            },
            Direction::ToClient => {
                let is_alert = matches!(self.last_alert, Some((from, ..)) if from == direction);
                let has_spoken = self.server_hello.is_some() || is_alert || self.version == 0x0002;
                if has_spoken { self.version } else { self.record_version[1] }
            }
        };
        (version != 0).then_some(version)
    }

    /// `tls.sni`.
    #[must_use]
    pub fn sni(&self) -> Option<&[u8]> {
        self.client_hello.as_ref().and_then(|hello| hello.sni())
    }

    /// Leaf certificate of the server.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.server_chain.first()
    }

    /// Name of `version` as Suricata writes it: `TLS 1.2`, `TLSv1`, `SSLv3`...
    #[must_use]
    pub const fn version_name(&self) -> &'static str {
        match self.version {
            0x0002 | 0x0200 => "SSLv2",
            0x0300 => "SSLv3",
            0x0301 => "TLSv1",
            0x0302 => "TLS 1.1",
            0x0303 => "TLS 1.2",
            0x0304 => "TLS 1.3",
            _ => "UNDETERMINED",
        }
    }
}

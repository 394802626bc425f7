//! DNS (RFC 1035) over UDP and TCP, and multicast DNS (RFC 6762): one transaction a message.
//!
//! Suricata 8 treats each message as a transaction of one direction; so do we. Pairing a response
//! with its request is left to who needs it (id, query name and type).

mod name;
mod parse;
mod rdata;
mod stream;

pub use name::Name;
pub use parse::{ParseError, parse};
pub(crate) use stream::{is_header, is_plausible};

use crate::Direction;
use crate::app::Events;
use std::collections::VecDeque;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Dns {
    /// Messages that inspectors have not yet seen.
    pub txs: VecDeque<Tx>,
    /// Multicast DNS.
    pub is_mdns: bool,
    /// Messages given up because too many were waiting.
    pub dropped_txs: u64,
    pub(crate) next_id: u64,
    pub(crate) tcp: [Vec<u8>; 2],
    pub(crate) is_gapped: [bool; 2],
}

/// One message.
#[derive(Clone, Debug)]
pub struct Tx {
    /// Number within the flow.
    pub id: u64,
    /// When it came.
    pub at_ns: u64,
    /// Request: to the server; response: to the client.
    pub direction: Direction,
    /// What it says.
    pub message: Message,
    /// `malformed_data`, `not_request`, `not_response`, `z_flag_set`, `invalid_opcode`, ...
    pub events: Events,
}

impl Tx {
    /// Always 1: a message is complete when it exists.
    #[must_use]
    pub const fn progress(&self, _direction: Direction) -> u8 {
        1
    }
}

/// A message; what could not be read is absent and `events` says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Transaction id.
    pub id: u16,
    /// The flags word as on the wire (QR is bit 15).
    pub flags: u16,
    /// Question section.
    pub queries: Vec<Query>,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authorities: Vec<Record>,
    /// Additional section, the OPT pseudo-record included.
    pub additionals: Vec<Record>,
    /// Counts as the header claims: questions, answers, authorities, additionals.
    pub counts: [u16; 4],
    /// The length of the message on the wire.
    pub wire_bytes: u32,
    /// The end of the message or a limit cut it.
    pub is_truncated: bool,
}

impl Message {
    /// QR bit.
    #[must_use]
    pub const fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }
    /// AA bit.
    #[must_use]
    pub const fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }
    /// TC bit.
    #[must_use]
    pub const fn has_tc(&self) -> bool {
        self.flags & 0x0200 != 0
    }
    /// RD bit.
    #[must_use]
    pub const fn is_recursion_desired(&self) -> bool {
        self.flags & 0x0100 != 0
    }
    /// RA bit.
    #[must_use]
    pub const fn is_recursion_available(&self) -> bool {
        self.flags & 0x0080 != 0
    }
    /// The three bits after RA as Zeek's `Z` (bit 4 to 6), DNSSEC's AD and CD included.
    #[must_use]
    pub const fn z(&self) -> u8 {
        ((self.flags >> 4) & 7) as u8
    }
    /// Opcode.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        ((self.flags >> 11) & 0xf) as u8
    }
    /// Response code of the header, without EDNS's upper bits.
    #[must_use]
    pub const fn rcode(&self) -> u16 {
        self.flags & 0xf
    }
}

/// An entry of the question section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Name as sent (case kept).
    pub name: Name,
    /// Type.
    pub rtype: u16,
    /// Class.
    pub class: u16,
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Owner.
    pub name: Name,
    /// Type.
    pub rtype: u16,
    /// Class.
    pub class: u16,
    /// Time to live in seconds.
    pub ttl_s: u32,
    /// Data, by type.
    pub data: RData,
}

/// Data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RData {
    /// A.
    A([u8; 4]),
    /// AAAA.
    Aaaa([u8; 16]),
    /// CNAME, NS, PTR, DNAME, MD, MF, MB, MG, MR.
    Name(Name),
    /// MX.
    Mx {
        /// Preference.
        preference: u16,
        /// Exchange.
        exchange: Name,
    },
    /// SOA.
    Soa(Box<Soa>),
    /// TXT and SPF: each string.
    Txt(Vec<Vec<u8>>),
    /// NULL.
    Null(Vec<u8>),
    /// SRV.
    Srv {
        /// Priority.
        priority: u16,
        /// Weight.
        weight: u16,
        /// Port.
        port: u16,
        /// Target.
        target: Name,
    },
    /// SSHFP.
    Sshfp {
        /// Algorithm.
        algorithm: u8,
        /// Type of the fingerprint.
        kind: u8,
        /// Fingerprint.
        fingerprint: Vec<u8>,
    },
    /// CAA.
    Caa {
        /// Flags.
        flags: u8,
        /// Property.
        tag: Vec<u8>,
        /// Value.
        value: Vec<u8>,
    },
    /// NAPTR.
    Naptr(Box<Naptr>),
    /// SVCB and HTTPS.
    Svcb {
        /// Priority (0: alias).
        priority: u16,
        /// Target.
        target: Name,
        /// Parameters: key and value.
        params: Vec<(u16, Vec<u8>)>,
    },
    /// OPT: options (code, data); the UDP size is the class, extended code and flags the TTL.
    Opt(Vec<(u16, Vec<u8>)>),
    /// Any other type, or data that its type's format does not fit.
    Other(Vec<u8>),
}

/// Start of authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// Primary server.
    pub mname: Name,
    /// Responsible mailbox.
    pub rname: Name,
    /// Serial number.
    pub serial: u32,
    /// Refresh interval.
    pub refresh_s: u32,
    /// Retry interval.
    pub retry_s: u32,
    /// Expiry.
    pub expire_s: u32,
    /// Negative TTL.
    pub minimum_s: u32,
}

/// Naming authority pointer (RFC 3403).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// Order.
    pub order: u16,
    /// Preference.
    pub preference: u16,
    /// Flags.
    pub flags: Vec<u8>,
    /// Service.
    pub service: Vec<u8>,
    /// Regular expression.
    pub regexp: Vec<u8>,
    /// Replacement.
    pub replacement: Name,
}

/// `A`, `AAAA`, ... as Suricata and Zeek write a type; `None` where neither has a name.
#[must_use]
pub fn type_name(rtype: u16) -> Option<&'static str> {
    rdata::type_name(rtype)
}

/// `NOERROR`, `NXDOMAIN`, ...
#[must_use]
pub fn rcode_name(rcode: u16) -> Option<&'static str> {
    rdata::rcode_name(rcode)
}

//! What is said on the response's socket.

use std::net::IpAddr;

use minicbor::{Decode, Encode};

use crate::{
    block::Hash,
    bounded,
    event::{Action, Diagnostic, ENFORCERS_MAX, Mode, STATUS_DIAGNOSTICS_MAX},
};

/// Most mitigations in force at once; the next one is refused and recorded.
pub const ACTIVE_MAX: usize = 4096;
/// Most mitigations in one [`Status`].
pub const STATUS_ACTIVE_MAX: usize = 128;
/// Most protected addresses in one [`Status`].
pub const STATUS_PROTECTED_MAX: usize = 256;

/// To the response.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Answered by [`Reply::Status`].
    #[n(0)]
    Status,
}

/// From the response.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// How it is.
    #[n(0)]
    Status(#[n(0)] Status),
    /// The request can't be served; the connection closes.
    #[n(1)]
    Error {
        /// Stable code.
        #[n(0)]
        code: String,
        /// Why and what to do.
        #[n(1)]
        reason: String,
    },
}

/// How the response is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// How much it may do.
    #[n(0)]
    pub mode: Mode,
    /// In force, soonest to end first, at most [`STATUS_ACTIVE_MAX`].
    #[cbor(n(1), decode_with = "bounded::list::<_, _, STATUS_ACTIVE_MAX>")]
    pub active: Vec<Active>,
    /// In force altogether.
    #[n(2)]
    pub active_total: u32,
    /// Addresses that can't be blocked and why (`gateway`, `resolver`, `self`,
    /// `administrator`, ...), at most [`STATUS_PROTECTED_MAX`].
    #[cbor(n(3), decode_with = "bounded::list::<_, _, STATUS_PROTECTED_MAX>")]
    pub protected: Vec<Protected>,
    /// Refused since the start.
    #[n(4)]
    pub refused: u64,
    /// Lifted since the start.
    #[n(5)]
    pub lifted: u64,
    /// Enforcers that work: `xdp`, `nft`.
    #[cbor(n(6), decode_with = "bounded::list::<_, _, ENFORCERS_MAX>")]
    pub enforcers: Vec<String>,
    /// What is wrong.
    #[cbor(n(7), decode_with = "bounded::list::<_, _, STATUS_DIAGNOSTICS_MAX>")]
    pub diagnostics: Vec<Diagnostic>,
}

/// One mitigation in force.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Active {
    /// Its block.
    #[n(0)]
    pub hash: Hash,
    /// What it answers.
    #[n(1)]
    pub cause: Hash,
    /// Against whom.
    #[n(2)]
    pub subject: IpAddr,
    /// What.
    #[n(3)]
    pub action: Action,
    /// Milliseconds until it ends.
    #[n(4)]
    pub remaining_ms: u64,
    /// Packets dropped by it so far.
    #[n(5)]
    pub packets_dropped: u64,
}

/// An address that can't be blocked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Protected {
    /// Address.
    #[n(0)]
    pub address: IpAddr,
    /// Prefix length, 32 or 128 for one address.
    #[n(1)]
    pub prefix: u8,
    /// Why.
    #[n(2)]
    pub why: String,
}

//! What is said on the ledger's socket.
//!
//! A request is answered in order, except [`Request::Follow`], which turns the connection into a
//! one-way stream of [`Reply::Block`]. Who may append what is decided by the uid of the socket's
//! peer: see [`may_append`].

use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};

use crate::{
    block::{Block, Hash, NodeId, SALT_BYTES, Seq},
    event::{Event, EventType},
};

/// Largest payload of one block.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Most blocks that one [`Request::Read`] returns.
pub const READ_BLOCKS_MAX: u32 = 256;

/// Code of the [`Reply::Error`] with which the ledger closes a connection that said nothing for
/// long. No fault: a client connects again when it has something to say.
pub const IDLE_CODE: &str = "HP-LD-015";
/// Code of the [`Reply::Rejected`] that is worth asking again: too many appends wait.
pub const QUEUE_FULL_CODE: &str = "HP-LD-012";

/// Name of an append, chosen by the client; the same name again gets the first answer, so that a
/// client that lost the answer can ask again without a second block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct RequestId(#[n(0)] pub ByteArray<16>);

/// To the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Write one event. Answered by [`Reply::Appended`] after it is on disk, or [`Reply::Rejected`].
    #[n(0)]
    Append {
        /// See [`RequestId`].
        #[n(0)]
        id: RequestId,
        /// What happened.
        #[n(1)]
        event: Event,
    },
    /// Stream every block from `from` on, for ever; [`Reply::CaughtUp`] once when the present is
    /// reached.
    #[n(1)]
    Follow {
        /// First wanted.
        #[n(0)]
        from: Seq,
    },
    /// The blocks from `from` on, at most `count`, then [`Reply::CaughtUp`].
    #[n(2)]
    Read {
        /// First wanted.
        #[n(0)]
        from: Seq,
        /// At most [`READ_BLOCKS_MAX`].
        #[n(1)]
        count: u32,
    },
    /// Answered by [`Reply::Head`].
    #[n(3)]
    Head,
}

/// From the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// The event is on disk.
    #[n(0)]
    Appended {
        /// The name given.
        #[n(0)]
        id: RequestId,
        /// Its place.
        #[n(1)]
        seq: Seq,
        /// Its hash.
        #[n(2)]
        hash: Hash,
    },
    /// The event is not in the ledger.
    #[n(1)]
    Rejected {
        /// The name given.
        #[n(0)]
        id: RequestId,
        /// Stable code.
        #[n(1)]
        code: String,
        /// Why and what to do.
        #[n(2)]
        reason: String,
    },
    /// One block.
    #[n(2)]
    Block(#[n(0)] Record),
    /// No block after `next` exists yet.
    #[n(3)]
    CaughtUp {
        /// First that does not exist.
        #[n(0)]
        next: Seq,
    },
    /// State of the lane.
    #[n(4)]
    Head(#[n(0)] Head),
    /// The request can't be served; the connection closes.
    #[n(5)]
    Error {
        /// Stable code.
        #[n(0)]
        code: String,
        /// Why and what to do.
        #[n(1)]
        reason: String,
    },
}

/// A block with what its commitment is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Its hash, so that readers need not compute it (they may).
    #[n(0)]
    pub hash: Hash,
    /// The signed block.
    #[n(1)]
    pub block: Block,
    /// Salt and payload; none when it was erased.
    #[n(2)]
    pub payload: Option<Payload>,
}

impl Record {
    /// The event, when its payload is there, matches the commitment and decodes.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        let payload = self.payload.as_ref()?;
        let commitment = crate::block::payload_hash(&payload.salt, &payload.bytes);
        if commitment != self.block.header.payload_hash {
            return None;
        }
        let event: Event = crate::frame::decode_body(&payload.bytes).ok()?;
        (event.event_type() == self.block.header.event_type).then_some(event)
    }
}

/// What a payload commitment is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Payload {
    /// Random.
    #[n(0)]
    pub salt: ByteArray<SALT_BYTES>,
    /// [`Event::to_cbor`].
    #[n(1)]
    pub bytes: ByteVec,
}

/// State of the lane.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// Whose lane.
    #[n(0)]
    pub node: NodeId,
    /// Which lane.
    #[n(1)]
    pub epoch: u64,
    /// Blocks in it.
    #[n(2)]
    pub length: u64,
    /// Hash of the last block.
    #[n(3)]
    pub hash: Hash,
    /// RFC 6962 tree head over all block hashes.
    #[n(4)]
    pub root: Hash,
    /// Blocks whose hash, link and signature were checked at start.
    #[n(5)]
    pub verified_at_start: u64,
    /// `true` when blocks are kept in memory only because the state disk can't be used.
    #[n(6)]
    pub volatile: bool,
    /// Appends waiting to be written.
    #[n(7)]
    pub queue: u32,
    /// Appends refused because the queue was full.
    #[n(8)]
    pub rejected: u64,
    /// Where the signing key comes from.
    #[n(9)]
    pub key: Option<crate::attest::KeyOrigin>,
}

/// Whether the process with `uid` may append `kind`. PID 1 (uid 0) writes about the box itself.
#[must_use]
pub fn may_append(uid: u32, kind: EventType) -> bool {
    match kind {
        EventType::Boot | EventType::Service => uid == 0,
        EventType::Binding | EventType::Attestation => uid == crate::ATTEST_UID,
        EventType::Alert => uid == crate::SENSOR_UID,
        EventType::Mitigation | EventType::Lift | EventType::Refusal => uid == crate::RESPONSE_UID,
    }
}

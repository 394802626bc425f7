//! The event block: what the ledger stores, signs and hands out.
//!
//! ```text
//! block   = [ header, signatures ]
//! header  = [ version=1, node_identity(32), epoch, seq, prev_hash(32), timestamp_ns,
//!             event_type, payload_hash(32) ]
//! hash    = SHA-256( "hookprobe.block.v1\0" || CBOR(header) )
//! sign    = Ed25519( "hookprobe.block.sign.v1\0" || hash )
//! payload_hash = SHA-256( "hookprobe.payload.v1\0" || salt(16) || CBOR(event) )
//! ```
//!
//! The six fields of an event block (previous hash, timestamp, node identity, event type, payload
//! hash, signatures) plus its place in the lane. The payload is out of line behind a salted
//! commitment, so it can be erased later while the chain still verifies.

use std::fmt;

use minicbor::{Decode, Encode, bytes::ByteArray};
use sha2::{Digest, Sha256};

use crate::{bounded, event::EventType};

/// Version of [`Header`].
pub const BLOCK_VERSION: u8 = 1;
/// Bytes of salt in front of a payload.
pub const SALT_BYTES: usize = 16;
/// Most signatures of one block: the edge and its quorum.
pub const SIGNATURES_MAX: usize = 32;
/// Domain of block hashes.
pub const HASH_DOMAIN: &[u8] = b"hookprobe.block.v1\0";
/// Domain of block signatures.
pub const SIGN_DOMAIN: &[u8] = b"hookprobe.block.sign.v1\0";
/// Domain of payload commitments.
pub const PAYLOAD_DOMAIN: &[u8] = b"hookprobe.payload.v1\0";

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] ByteArray<32>);

        impl $name {
            /// From raw bytes.
            #[must_use]
            pub fn new(bytes: [u8; 32]) -> Self {
                Self(ByteArray::from(bytes))
            }

            /// The raw bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Sixty-four lower-case hexadecimal digits.
            #[must_use]
            pub fn hex(&self) -> String {
                self.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// The first eight hexadecimal digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.as_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

bytes32! {
    /// SHA-256 of a block header, a payload commitment or a tree node.
    Hash
}
bytes32! {
    /// Who signs: the Ed25519 public key of the node's ledger.
    NodeId
}

impl Hash {
    /// Predecessor of the first block of a lane.
    #[must_use]
    pub fn zero() -> Self {
        Self::new([0; 32])
    }
}

/// Position in a lane, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Seq(#[n(0)] pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is hashed and signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// [`BLOCK_VERSION`].
    #[n(0)]
    pub version: u8,
    /// Who wrote it.
    #[n(1)]
    pub node_identity: NodeId,
    /// Lane of the node: one per life of its state.
    #[n(2)]
    pub epoch: u64,
    /// Place in the lane.
    #[n(3)]
    pub seq: Seq,
    /// Hash of the block before, [`Hash::zero`] at 0.
    #[n(4)]
    pub prev_hash: Hash,
    /// Nanoseconds since 1970 by the node's clock; never smaller than the block before.
    #[n(5)]
    pub timestamp_ns: u64,
    /// What kind of payload.
    #[n(6)]
    pub event_type: EventType,
    /// Salted commitment to the payload.
    #[n(7)]
    pub payload_hash: Hash,
}

impl Header {
    /// Deterministic bytes of the header.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        // Into a Vec with infallible field encoders: there is no error to have.
        let _ = minicbor::encode(self, &mut out);
        out
    }

    /// Hash that names the block.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::new(
            Sha256::new().chain_update(HASH_DOMAIN).chain_update(self.to_cbor()).finalize().into(),
        )
    }

    /// Bytes that a signature is over.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut out = SIGN_DOMAIN.to_vec();
        out.extend_from_slice(self.hash().as_bytes());
        out
    }
}

/// Commitment to a payload.
#[must_use]
pub fn payload_hash(salt: &[u8; SALT_BYTES], payload: &[u8]) -> Hash {
    Hash::new(
        Sha256::new()
            .chain_update(PAYLOAD_DOMAIN)
            .chain_update(salt)
            .chain_update(payload)
            .finalize()
            .into(),
    )
}

/// One signature: of the edge itself first, of its quorum after it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Signature {
    /// Whose key.
    #[n(0)]
    pub signer: NodeId,
    /// Ed25519 over [`Header::signing_bytes`].
    #[n(1)]
    pub bytes: ByteArray<64>,
}

/// A signed block without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Block {
    /// What is signed.
    #[n(0)]
    pub header: Header,
    /// The edge's own first.
    #[cbor(n(1), decode_with = "bounded::list::<_, _, SIGNATURES_MAX>")]
    pub signatures: Vec<Signature>,
}

impl Block {
    /// Hash that names the block.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.header.hash()
    }
}

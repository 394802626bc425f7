//! Verification of an exported chain, written from the rules in [`hookprobe_wire::block`] and
//! [`hookprobe_wire::export`] alone: its own encoding of headers, its own tree, its own order of
//! checks, so that a mistake in the ledger's code is not repeated here.
//!
//! Pure: records go in, the first flaw or a state comes out. Must never happen here: a call of
//! `Header::hash`, `Header::signing_bytes`, `payload_hash` or of anything in the crate `ledger`.

use ed25519_dalek::{Signature, VerifyingKey};
use hookprobe_wire::{
    Event, Hash, NodeId,
    block::Header,
    event,
    export::Summary,
    frame,
    ledger::{PAYLOAD_BYTES_MAX, Record},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The first thing that is wrong with a chain.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("HP-VF-010 ledger: block {seq}: {flaw}; whoever gave the copy changed it, ask for another")]
pub struct Flawed {
    /// At which block.
    pub seq: u64,
    /// What.
    pub flaw: Flaw,
}

/// What can be wrong with a block, or with the end of the chain.
#[derive(Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each says it")]
pub enum Flaw {
    #[error("version {0}, expected 1")]
    Version(u8),
    #[error("it says that it is block {0}")]
    Seq(u64),
    #[error("its previous hash is {got}, the block before has {expected}")]
    Link { got: Hash, expected: Hash },
    #[error("it is {0} ns older than the block before")]
    Time(u64),
    #[error("epoch {got} after epoch {before}")]
    EpochBack { got: u64, before: u64 },
    #[error("signed by the node {got} in an epoch of {expected}")]
    Node { got: NodeId, expected: NodeId },
    #[error("its hash is {got}, that of its header is {expected}")]
    Hash { got: Hash, expected: Hash },
    #[error("{0} signatures, expected 1")]
    SignatureCount(usize),
    #[error("its signer {0} is not its node")]
    Signer(NodeId),
    #[error("the signature is not of {0}")]
    Signature(NodeId),
    #[error("payload of {0} bytes, at most {PAYLOAD_BYTES_MAX}")]
    PayloadLength(usize),
    #[error("the payload is not the one that was committed to")]
    Payload,
    #[error("the payload is no event of the kind {0}")]
    Kind(&'static str),
    #[error("the chain ends with the hash {got}, its summary says {said}")]
    End { got: Hash, said: Hash },
    #[error("the tree head is {got}, its summary says {said}")]
    Root { got: Hash, said: Hash },
}

/// Blocks of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Boot counter.
    pub number: u64,
    /// Who signed.
    pub node: NodeId,
    /// First block in the file.
    pub first: u64,
    /// How many are in the file.
    pub blocks: u64,
}

/// A chain as far as it verified.
#[derive(Debug)]
pub struct Chain {
    /// First block in the file.
    first: u64,
    hashes: Vec<Hash>,
    peaks: Peaks,
    start_peaks: Peaks,
    last: Hash,
    last_ns: u64,
    key: Option<VerifyingKey>,
    epochs: Vec<Epoch>,
    erased: u64,
}

impl Chain {
    /// In front of the first record of a file.
    #[must_use]
    pub fn new(summary: &Summary) -> Self {
        let peaks = Peaks::new(summary.first.0, &summary.peaks);
        Self {
            first: summary.first.0,
            hashes: Vec::new(),
            start_peaks: peaks.clone(),
            peaks,
            last: summary.before,
            last_ns: 0,
            key: None,
            epochs: Vec::new(),
            erased: 0,
        }
    }

    /// Checks the next record; gives its event when the payload is there.
    ///
    /// # Errors
    /// The first [`Flaw`] in it; the chain is of no use afterwards.
    pub fn push(&mut self, record: &Record) -> Result<Option<Event>, Flawed> {
        let seq = self.length();
        self.check(record, seq).map_err(|flaw| Flawed { seq, flaw })
    }

    fn check(&mut self, record: &Record, seq: u64) -> Result<Option<Event>, Flaw> {
        let header = &record.block.header;
        if header.version != 1 {
            return Err(Flaw::Version(header.version));
        }
        if header.seq.0 != seq {
            return Err(Flaw::Seq(header.seq.0));
        }
        if header.prev_hash != self.last {
            return Err(Flaw::Link { got: header.prev_hash, expected: self.last });
        }
        if let Some(older) = self.last_ns.checked_sub(header.timestamp_ns).filter(|ns| *ns > 0) {
            return Err(Flaw::Time(older));
        }
        self.check_epoch(header, seq)?;
        let hash = header_hash(header);
        if record.hash != hash {
            return Err(Flaw::Hash { got: record.hash, expected: hash });
        }
        let [signature] = record.block.signatures.as_slice() else {
            return Err(Flaw::SignatureCount(record.block.signatures.len()));
        };
        if signature.signer != header.node_identity {
            return Err(Flaw::Signer(signature.signer));
        }
        let mut signed = b"hookprobe.block.sign.v1\0".to_vec();
        signed.extend_from_slice(hash.as_bytes());
        let bytes = Signature::from_bytes(&signature.bytes);
        let verifies = self.key.as_ref().map(|key| key.verify_strict(&signed, &bytes).is_ok());
        if verifies != Some(true) {
            return Err(Flaw::Signature(header.node_identity));
        }
        let event = payload_event(record)?;
        if event.is_none() {
            self.erased += 1;
        }
        self.hashes.push(hash);
        self.peaks.push(&hash);
        (self.last, self.last_ns) = (hash, header.timestamp_ns);
        Ok(event)
    }

    fn check_epoch(&mut self, header: &Header, seq: u64) -> Result<(), Flaw> {
        if let Some(epoch) = self.epochs.last_mut() {
            if header.epoch < epoch.number {
                return Err(Flaw::EpochBack { got: header.epoch, before: epoch.number });
            }
            if header.epoch == epoch.number {
                if header.node_identity != epoch.node {
                    return Err(Flaw::Node { got: header.node_identity, expected: epoch.node });
                }
                epoch.blocks += 1;
                return Ok(());
            }
        }
        // No point on the curve: its signature will not verify.
        self.key = VerifyingKey::from_bytes(header.node_identity.as_bytes()).ok();
        self.epochs.push(Epoch {
            number: header.epoch,
            node: header.node_identity,
            first: seq,
            blocks: 1,
        });
        Ok(())
    }

    /// The file ends here: compares with what it says about itself.
    ///
    /// # Errors
    /// [`Flaw::End`], [`Flaw::Root`].
    pub fn finish(&self, summary: &Summary) -> Result<(), Flawed> {
        let flawed = |flaw| Flawed { seq: self.length(), flaw };
        if self.last != summary.hash {
            return Err(flawed(Flaw::End { got: self.last, said: summary.hash }));
        }
        let root = self.peaks.root();
        if root != summary.root {
            return Err(flawed(Flaw::Root { got: root, said: summary.root }));
        }
        Ok(())
    }

    /// Blocks in the chain, those before the file counted.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.first + self.hashes.len() as u64
    }

    /// Hash of the last block.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.last
    }

    /// Tree head.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.peaks.root()
    }

    /// Epochs in the file.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Blocks without their payload.
    #[must_use]
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// Hash of the last block and tree head when the chain had `length` blocks; `None` when that was
    /// before the file's first block (or in the future).
    #[must_use]
    pub fn at(&self, length: u64) -> Option<(Hash, Hash)> {
        let count = usize::try_from(length.checked_sub(self.first)?).ok()?;
        let hashes = self.hashes.get(..count)?;
        let head = *hashes.last()?;
        let mut peaks = self.start_peaks.clone();
        for hash in hashes {
            peaks.push(hash);
        }
        Some((head, peaks.root()))
    }
}

fn payload_event(record: &Record) -> Result<Option<Event>, Flaw> {
    let header = &record.block.header;
    let Some(payload) = &record.payload else { return Ok(None) };
    if payload.bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Flaw::PayloadLength(payload.bytes.len()));
    }
    let hash = Sha256::new()
        .chain_update(b"hookprobe.payload.v1\0")
        .chain_update(&payload.salt[..])
        .chain_update(&payload.bytes[..])
        .finalize();
    if <[u8; 32]>::from(hash) != *header.payload_hash.as_bytes() {
        return Err(Flaw::Payload);
    }
    let event: Option<Event> = frame::decode_body(&payload.bytes).ok();
    event
        .filter(|event| event.event_type() == header.event_type)
        .map(Some)
        .ok_or(Flaw::Kind(header.event_type.word()))
}

/// `SHA-256("hookprobe.block.v1\0" || CBOR(header))`, the CBOR (RFC 8949) written by hand.
fn header_hash(header: &Header) -> Hash {
    let mut out = b"hookprobe.block.v1\0".to_vec();
    out.push(0x88);
    uint(&mut out, header.version.into());
    bytes32(&mut out, header.node_identity.as_bytes());
    uint(&mut out, header.epoch);
    uint(&mut out, header.seq.0);
    bytes32(&mut out, header.prev_hash.as_bytes());
    uint(&mut out, header.timestamp_ns);
    uint(&mut out, kind_number(header.event_type));
    bytes32(&mut out, header.payload_hash.as_bytes());
    Hash::new(Sha256::digest(&out).into())
}

/// Numbers of the kinds of payload, as the contract lists them.
fn kind_number(kind: event::EventType) -> u64 {
    use event::EventType as Kind;
    match kind {
        Kind::Boot => 1,
        Kind::Service => 2,
        Kind::Binding => 3,
        Kind::Attestation => 4,
        Kind::Alert => 16,
        Kind::Mitigation => 32,
        Kind::Lift => 33,
        Kind::Refusal => 34,
    }
}

/// An unsigned integer in its shortest form (RFC 8949, 4.2.1).
fn uint(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let (head, from) = match value {
        0..24 => {
            out.extend(bytes.last());
            return;
        }
        24..0x100 => (0x18, 7),
        0x100..0x1_0000 => (0x19, 6),
        0x1_0000..0x1_0000_0000 => (0x1a, 4),
        _ => (0x1b, 0),
    };
    out.push(head);
    out.extend(bytes.get(from..).unwrap_or_default());
}

fn bytes32(out: &mut Vec<u8>, bytes: &[u8; 32]) {
    out.extend_from_slice(&[0x58, 32]);
    out.extend_from_slice(bytes);
}

/// Complete subtrees of an RFC 6962 tree (2.1), largest first: number of leaves and root.
#[derive(Debug, Clone, Default)]
struct Peaks(Vec<(u64, [u8; 32])>);

impl Peaks {
    fn new(length: u64, roots: &[Hash]) -> Self {
        let sizes = (0..64).rev().map(|bit| 1u64 << bit).filter(|size| length & size != 0);
        Self(sizes.zip(roots.iter().map(|root| *root.as_bytes())).collect())
    }

    fn push(&mut self, leaf: &Hash) {
        let mut size = 1;
        let mut root: [u8; 32] =
            Sha256::new().chain_update([0]).chain_update(leaf.as_bytes()).finalize().into();
        while let Some((_, left)) = self.0.pop_if(|(peak, _)| *peak == size) {
            root = node(&left, &root);
            size *= 2;
        }
        self.0.push((size, root));
    }

    fn root(&self) -> Hash {
        let mut roots = self.0.iter().rev().map(|(_, root)| *root);
        let Some(last) = roots.next() else {
            return Hash::new(Sha256::digest([]).into());
        };
        Hash::new(roots.fold(last, |right, left| node(&left, &right)))
    }
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use hookprobe_wire::{EventType, Seq};

    use super::*;

    #[test]
    fn hash_is_the_contracts_hash() {
        for (seq, time, kind) in [
            (0, 0, EventType::Boot),
            (23, 24, EventType::Alert),
            (255, 256, EventType::Refusal),
            (65_535, 65_536, EventType::Binding),
            (u64::from(u32::MAX), u64::from(u32::MAX) + 1, EventType::Lift),
            (u64::MAX, u64::MAX, EventType::Attestation),
        ] {
            let header = Header {
                version: 1,
                node_identity: NodeId::new([3; 32]),
                epoch: time,
                seq: Seq(seq),
                prev_hash: Hash::new([1; 32]),
                timestamp_ns: time,
                event_type: kind,
                payload_hash: Hash::new([2; 32]),
            };
            assert_eq!(header_hash(&header), header.hash());
        }
    }

    /// The tree heads of the empty tree and of RFC 6962's definition by hand.
    #[test]
    fn roots_follow_the_definition() {
        fn by_definition(leaves: &[Hash]) -> [u8; 32] {
            match leaves {
                [] => Sha256::digest([]).into(),
                [leaf] => {
                    Sha256::new().chain_update([0]).chain_update(leaf.as_bytes()).finalize().into()
                }
                _ => {
                    let left = leaves.len().next_power_of_two() / 2;
                    node(&by_definition(&leaves[..left]), &by_definition(&leaves[left..]))
                }
            }
        }
        let leaves: Vec<Hash> = (0..70u8).map(|at| Hash::new([at; 32])).collect();
        let mut peaks = Peaks::default();
        for count in 0..leaves.len() {
            assert_eq!(*peaks.root().as_bytes(), by_definition(&leaves[..count]), "{count}");
            let roots: Vec<Hash> = peaks.0.iter().map(|(_, root)| Hash::new(*root)).collect();
            assert_eq!(Peaks::new(count as u64, &roots).0, peaks.0);
            peaks.push(&leaves[count]);
        }
    }
}

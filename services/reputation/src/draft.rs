//! Collects names and makes the list that a publisher signs.
//!
//! Runs where lists are made, not on the hot path. Memory: 11 bytes a name in 64 parts that grow by
//! an eighth and are freed one after the other while the result is written; for 2.2 million names
//! about 28 MB, then 19 MB of result, together never above 48 MB (`examples/names.rs` measures).
//! The same names under the same key give the same bytes, in whatever order they came.

use ring::digest;
use thiserror::Error;

use crate::{
    format::{
        BUCKET_BITS_MAX, ContentHash, HEADER_BYTES, Header, LIST_NAME_BYTES_MAX, LISTS_MAX,
        ListInfo, NAMES_MAX, PublicKey, SIGNED_BYTES, Serial, signing_message,
    },
    hash::{HashKey, NameHash},
    lists::Entry,
};

/// Parts by the highest bits of the hash.
const PARTS: usize = 64;
const PART_BITS: u8 = 6;
/// Ten bytes of hash, most significant first, and the list: their order is the list's order.
type Record = [u8; 11];
/// Room that a part gets at least when it grows.
const PART_ROOM_MIN: usize = 256;
/// Buckets have 8 to 16 entries on average: a lookup reads two cache lines of them.
const BUCKET_ENTRIES: u32 = 8;

/// Number of a list, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListId(pub u8);

/// Why no list can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DraftError {
    /// Too many lists, or a name of one that can't be written.
    #[error(
        "HP-RP-010 reputation: {0} lists, at most {LISTS_MAX}, or a name of one that is empty, longer than {LIST_NAME_BYTES_MAX} or not printable; name fewer lists"
    )]
    Lists(usize),
    /// More entries in one bucket than its count can say.
    #[error("HP-RP-011 reputation: {0} names fall into one bucket; draw another hash key")]
    Bucket(usize),
}

/// When a list is valid and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// Order of publication.
    pub serial: Serial,
    /// Seconds since 1970.
    pub issued_s: u64,
    /// Seconds since 1970.
    pub expires_s: u64,
}

/// Names on their way to a list.
#[derive(Debug)]
pub struct Draft {
    key: HashKey,
    lists: Vec<ListInfo>,
    parts: Vec<Vec<Record>>,
    names: u32,
    over_capacity: u64,
}

impl Draft {
    /// An empty one. `key` has to be drawn at random for each list.
    ///
    /// # Errors
    /// [`DraftError::Lists`].
    pub fn new(key: HashKey, lists: Vec<ListInfo>) -> Result<Self, DraftError> {
        let is_fine = |list: &ListInfo| {
            let printable = list.name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            (1..=LIST_NAME_BYTES_MAX).contains(&list.name.len()) && printable
        };
        if lists.len() > LISTS_MAX || !lists.iter().all(is_fine) {
            return Err(DraftError::Lists(lists.len()));
        }
        let parts = std::iter::repeat_with(Vec::new).take(PARTS).collect();
        Ok(Self { key, lists, parts, names: 0, over_capacity: 0 })
    }

    /// Adds what a [`crate::lists::Parser`] gave. Lists of earlier numbers win where a name is on
    /// several; exceptions win over all. Beyond [`NAMES_MAX`] names are counted and left out.
    pub fn add(&mut self, list: ListId, entry: Entry<'_>) {
        let (name, number) = match entry {
            Entry::Allow(name) => (name, 0),
            Entry::Block(name) => (name, list.0.saturating_add(1)),
        };
        let is_known = usize::from(number) <= self.lists.len();
        let hash = NameHash::of(&self.key, name);
        let Some(part) = self.parts.get_mut(hash.bucket(PART_BITS)).filter(|_| is_known) else {
            return;
        };
        if self.names >= NAMES_MAX {
            self.over_capacity += 1;
            return;
        }
        if part.len() == part.capacity() {
            part.reserve_exact((part.len() / 8).max(PART_ROOM_MIN));
        }
        let mut record = [number; 11];
        for (to, from) in record.iter_mut().zip(hash.to_bytes()) {
            *to = from;
        }
        part.push(record);
        self.names += 1;
    }

    /// Names that were left out because the list is full.
    #[must_use]
    pub fn over_capacity(&self) -> u64 {
        self.over_capacity
    }

    /// The list, signed. `sign` makes an Ed25519 signature of `signer` over what it is given.
    ///
    /// # Errors
    /// [`DraftError::Bucket`].
    pub fn sign(
        mut self,
        edition: Edition,
        signer: PublicKey,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Vec<u8>, DraftError> {
        for part in &mut self.parts {
            part.sort_unstable();
            // The first of equal hashes is of the winning list.
            part.dedup_by(|later, first| later.get(..10) == first.get(..10));
        }
        let entries = self.parts.iter().map(Vec::len).sum::<usize>();
        // `names` has a cap that fits.
        let entries = u32::try_from(entries).unwrap_or(NAMES_MAX);
        let bucket_bits = bucket_bits(entries);
        let table = table(&self.lists);
        let mut header = Header {
            bucket_bits,
            lists: u8::try_from(self.lists.len()).unwrap_or(0),
            table_bytes: u32::try_from(table.len()).unwrap_or(0),
            serial: edition.serial,
            issued_s: edition.issued_s,
            expires_s: edition.expires_s,
            entries,
            hash_key: self.key,
            content: ContentHash([0; 32]),
            key_id: signer.id(),
        };
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(&table);
        let counts = counts(&self.parts, bucket_bits)?;
        out.reserve_exact(counts.len() + 8 * usize::try_from(entries).unwrap_or(0));
        out.extend_from_slice(&counts);
        for part in &mut self.parts {
            for record in std::mem::take(part) {
                let (hash, number) = take_apart(record);
                let entry = hash.fingerprint(bucket_bits) << 8 | u64::from(number);
                out.extend_from_slice(&entry.to_le_bytes());
            }
        }
        let (head, content) = out.split_at_mut(HEADER_BYTES);
        let hash = digest::digest(&digest::SHA256, content);
        header.content = ContentHash(crate::format::array(hash.as_ref(), 0));
        let encoded = header.encode();
        let signed = encoded.get(..SIGNED_BYTES).unwrap_or_default();
        let signature = sign(&signing_message(signed));
        for (to, from) in head.iter_mut().zip(signed.iter().chain(&signature)) {
            *to = *from;
        }
        Ok(out)
    }
}

fn bucket_bits(entries: u32) -> u8 {
    let buckets = (entries / BUCKET_ENTRIES).max(1);
    u8::try_from(buckets.ilog2()).unwrap_or(0).min(BUCKET_BITS_MAX)
}

fn table(lists: &[ListInfo]) -> Vec<u8> {
    let mut out = Vec::new();
    for list in lists {
        out.push(list.category as u8);
        out.push(u8::try_from(list.name.len()).unwrap_or(0));
        out.extend_from_slice(list.name.as_bytes());
    }
    out
}

fn counts(parts: &[Vec<Record>], bucket_bits: u8) -> Result<Vec<u8>, DraftError> {
    let mut out = vec![0_u8; 1 << bucket_bits];
    for record in parts.iter().flatten() {
        let (hash, _) = take_apart(*record);
        if let Some(count) = out.get_mut(hash.bucket(bucket_bits)) {
            *count = count.checked_add(1).ok_or(DraftError::Bucket(256))?;
        }
    }
    Ok(out)
}

fn take_apart(record: Record) -> (NameHash, u8) {
    let [hash @ .., number] = record;
    (NameHash::from_bytes(hash), number)
}

//! The bytes of a signed list, and who may have signed it.
//!
//! All numbers are little endian; reserved bytes are zero and checked.
//!
//! ```text
//!   0  magic          8  "HPNAMES1"
//!   8  version        u16  1
//!  10  bucket bits    u8   0..=24; buckets = 2^bits
//!  11  lists          u8   how many lists the names come from
//!  12  table bytes    u32  length of the table of lists
//!  16  serial         u64  grows with each list that is published
//!  24  issued         u64  seconds since 1970
//!  32  expires        u64  seconds since 1970
//!  40  entries        u32
//!  44  reserved       u32  0
//!  48  hash key       16   of SipHash-2-4-128 over the normalised name
//!  64  content hash   32   SHA-256 of all bytes from 192 on
//!  96  key id         8    first bytes of the SHA-256 of the signer's public key
//! 104  reserved       24   0
//! 128  signature      64   Ed25519 (RFC 8032) over "hookprobe name list v1\0" and bytes 0..128
//! 192  table          for each list: category u8, name length u8, name (printable ASCII)
//!      counts         u8 for each bucket: its entries
//!      entries        u64 each: fingerprint * 256 + list; ascending within a bucket
//! ```
//!
//! Of a name's 80-bit hash, the highest `bucket bits` choose the bucket and the next 56 are the
//! fingerprint. `list` 0 is an exception (never refused), n is the n-th of the table.
//!
//! The header is small, of fixed length and verified first; nothing is allocated by a number that
//! the signature does not cover, and no name is looked up before the content's hash is right.

use ring::{digest, signature};
use thiserror::Error;

use crate::hash::HashKey;

/// Length of header and signature.
pub const HEADER_BYTES: usize = 192;
/// What the signature covers, after [`DOMAIN`].
pub(crate) const SIGNED_BYTES: usize = 128;
/// Says what is signed, so that no other signature of the same key can be taken for one.
const DOMAIN: &[u8] = b"hookprobe name list v1\0";
const MAGIC: [u8; 8] = *b"HPNAMES1";
const VERSION: u16 = 1;

/// Most names of a list. 4 Mi: twice the largest public collections; 36 MB resident.
pub const NAMES_MAX: u32 = 4 * 1024 * 1024;
/// Most lists in one file; their number has to fit into a byte beside the exceptions.
pub const LISTS_MAX: usize = 255;
/// Longest name of a list.
pub const LIST_NAME_BYTES_MAX: usize = 64;
/// Most bits of a bucket's number.
pub const BUCKET_BITS_MAX: u8 = 24;

/// The order in which lists are published; a list with a smaller one is an old list replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Serial(pub u64);

/// An Ed25519 public key that may sign lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// Which key signed; an aid for people, never what is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 8]);

/// SHA-256 of a list's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

impl PublicKey {
    /// The first bytes of its SHA-256.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = digest::digest(&digest::SHA256, &self.0);
        KeyId(array(hash.as_ref(), 0))
    }
}

/// What a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Category {
    /// None of the others.
    Other = 0,
    /// Malicious software.
    Malware = 1,
    /// Imitates somebody to get at secrets.
    Phishing = 2,
    /// Where infected hosts get their orders.
    CommandAndControl = 3,
    /// Coin miners.
    Mining = 4,
    /// Advertising.
    Advertising = 5,
    /// Tracking.
    Tracking = 6,
    /// For adults.
    Adult = 7,
    /// Gambling.
    Gambling = 8,
    /// Ways around the site's own resolver.
    Bypass = 9,
}

impl Category {
    /// All, by their number.
    pub const ALL: [Self; 10] = [
        Self::Other,
        Self::Malware,
        Self::Phishing,
        Self::CommandAndControl,
        Self::Mining,
        Self::Advertising,
        Self::Tracking,
        Self::Adult,
        Self::Gambling,
        Self::Bypass,
    ];

    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Malware => "malware",
            Self::Phishing => "phishing",
            Self::CommandAndControl => "command and control",
            Self::Mining => "mining",
            Self::Advertising => "advertising",
            Self::Tracking => "tracking",
            Self::Adult => "adult",
            Self::Gambling => "gambling",
            Self::Bypass => "bypass",
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// One of the lists that the names come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListInfo {
    /// What it is about.
    pub category: Category,
    /// What people call it; printable ASCII, at most [`LIST_NAME_BYTES_MAX`].
    pub name: String,
}

/// Why bytes are no list to be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// Not our format, or a later version of it.
    #[error("HP-RP-001 reputation: this is no name list of version 1 ({0}); fetch the list again")]
    Format(&'static str),
    /// No trusted key.
    #[error(
        "HP-RP-002 reputation: the list is signed by {0:02x?}, which is not trusted; add that key or take another list"
    )]
    UnknownKey([u8; 8]),
    /// The signature does not fit.
    #[error(
        "HP-RP-003 reputation: the list's signature is wrong; it was changed on its way: fetch it again"
    )]
    Signature,
    /// Older than what was accepted before.
    #[error(
        "HP-RP-004 reputation: the list has serial {found}, {accepted} was accepted before; an old list was replayed: fetch it again"
    )]
    RolledBack {
        /// Of this list.
        found: u64,
        /// The greatest so far.
        accepted: u64,
    },
    /// No longer valid.
    #[error(
        "HP-RP-005 reputation: the list expired at {expired_s}, now it is {now_s}; fetch a new one, or set the clock"
    )]
    Expired {
        /// Seconds since 1970.
        expired_s: u64,
        /// Seconds since 1970.
        now_s: u64,
    },
    /// The bytes after the header are not what was signed.
    #[error(
        "HP-RP-006 reputation: the list's content is not what was signed ({0}); fetch it again"
    )]
    Content(&'static str),
    /// It names what belongs to everybody.
    #[error(
        "HP-RP-007 reputation: the list names the public suffix {0}, which would refuse everything below; have its publisher correct it"
    )]
    PublicSuffix(String),
}

/// What the box knows before it looks at a list.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// Keys that may sign.
    pub keys: &'a [PublicKey],
    /// The greatest serial that was accepted so far; the same one is accepted again.
    pub accepted: Serial,
    /// Seconds since 1970.
    pub now_s: u64,
}

/// The header's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// See the format.
    pub bucket_bits: u8,
    /// How many lists.
    pub lists: u8,
    /// Length of the table of lists.
    pub table_bytes: u32,
    /// Order of publication.
    pub serial: Serial,
    /// Seconds since 1970.
    pub issued_s: u64,
    /// Seconds since 1970.
    pub expires_s: u64,
    /// How many names.
    pub entries: u32,
    /// Of the names' hashes.
    pub hash_key: HashKey,
    /// Of everything after header and signature.
    pub content: ContentHash,
    /// Who signed.
    pub key_id: KeyId,
}

impl Header {
    /// The bytes that are signed, and room for the signature.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            for (to, from) in out.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&[self.bucket_bits, self.lists]);
        put(&self.table_bytes.to_le_bytes());
        put(&self.serial.0.to_le_bytes());
        put(&self.issued_s.to_le_bytes());
        put(&self.expires_s.to_le_bytes());
        put(&self.entries.to_le_bytes());
        put(&[0; 4]);
        put(&self.hash_key.0);
        put(&self.content.0);
        put(&self.key_id.0);
        out
    }

    /// Verifies a header and says what is in it.
    ///
    /// # Errors
    /// Any [`LoadError`] but `Content` and `PublicSuffix`.
    pub fn verify(bytes: &[u8; HEADER_BYTES], expect: &Expectation<'_>) -> Result<Self, LoadError> {
        let (signed, signature) = bytes.split_at(SIGNED_BYTES);
        if array(signed, 0) != MAGIC {
            return Err(LoadError::Format("the first bytes differ"));
        }
        if u16::from_le_bytes(array(signed, 8)) != VERSION {
            return Err(LoadError::Format("another version"));
        }
        let key_id = KeyId(array(signed, 96));
        let mut known = expect.keys.iter().filter(|key| key.id() == key_id).peekable();
        if known.peek().is_none() {
            return Err(LoadError::UnknownKey(key_id.0));
        }
        let message = signing_message(signed);
        let is_right = known.any(|key| {
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, key.0);
            key.verify(&message, signature).is_ok()
        });
        if !is_right {
            return Err(LoadError::Signature);
        }
        let header = Self::decode(signed, key_id)?;
        if header.serial < expect.accepted {
            let (found, accepted) = (header.serial.0, expect.accepted.0);
            return Err(LoadError::RolledBack { found, accepted });
        }
        if header.expires_s <= expect.now_s {
            let (expired_s, now_s) = (header.expires_s, expect.now_s);
            return Err(LoadError::Expired { expired_s, now_s });
        }
        Ok(header)
    }

    fn decode(signed: &[u8], key_id: KeyId) -> Result<Self, LoadError> {
        let header = Self {
            bucket_bits: u8::from_le_bytes(array(signed, 10)),
            lists: u8::from_le_bytes(array(signed, 11)),
            table_bytes: u32::from_le_bytes(array(signed, 12)),
            serial: Serial(u64::from_le_bytes(array(signed, 16))),
            issued_s: u64::from_le_bytes(array(signed, 24)),
            expires_s: u64::from_le_bytes(array(signed, 32)),
            entries: u32::from_le_bytes(array(signed, 40)),
            hash_key: HashKey(array(signed, 48)),
            content: ContentHash(array(signed, 64)),
            key_id,
        };
        let table_bytes_max = usize::from(header.lists) * (2 + LIST_NAME_BYTES_MAX);
        if header.bucket_bits > BUCKET_BITS_MAX
            || header.entries > NAMES_MAX
            || usize::try_from(header.table_bytes).is_ok_and(|bytes| bytes > table_bytes_max)
        {
            return Err(LoadError::Format("a number is above its limit"));
        }
        if array::<4>(signed, 44) != [0; 4] || array::<24>(signed, 104) != [0; 24] {
            return Err(LoadError::Format("reserved bytes are set"));
        }
        Ok(header)
    }

    /// 2^bits.
    #[must_use]
    pub fn buckets(&self) -> usize {
        1 << self.bucket_bits.min(BUCKET_BITS_MAX)
    }
}

/// What is signed: a name for the purpose and the header's bytes.
pub(crate) fn signing_message(signed: &[u8]) -> Vec<u8> {
    [DOMAIN, signed].concat()
}

/// `N` bytes from `at` on; callers know that they are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

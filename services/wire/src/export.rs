//! The file in which a chain leaves the box: `hookprobe.ledger.v1`.
//!
//! ```text
//! "hookprobe.ledger.v1\0"                      20 bytes
//! length u32 LE | CBOR(Summary)                once
//! length u32 LE | CBOR(Record)                 Summary.length - Summary.first times
//! ```
//!
//! Records are whole [`Record`]s in the order of their seq, the first with seq
//! [`Summary::first`]. Nothing follows the last: a file that was cut is [`ExportError::Cut`], one
//! with more in it [`ExportError::Trailing`]. Every value is in its own deterministic encoding.
//!
//! # What a verifier checks
//! The file proves nothing by being well-formed. For every record, in order:
//! 1. `version` is 1, `seq` is one more than before (the first: [`Summary::first`]).
//! 2. `prev_hash` is the hash of the record before (the first: [`Summary::before`], which is zero
//!    exactly when `first` is 0).
//! 3. `timestamp_ns` is not less than before.
//! 4. `hash` is the header's hash ([`crate::block`]).
//! 5. Epoch and node: together with the record before's they are equal, or the epoch is greater.
//!    Within one epoch the node never changes; the same node may go on in a greater epoch. An epoch
//!    is at most one boot. Its number is the TPM's boot counter of that boot, unless that was used
//!    up already: then it is one more than the epoch before, so greater than the counter that an
//!    `Event::Binding` in it names.
//! 6. Exactly one signature, its signer is `node_identity`, Ed25519 (strict) over the signing bytes.
//! 7. The payload, when it is there, is at most `PAYLOAD_BYTES_MAX`, matches the commitment and
//!    decodes to an event of the header's kind.
//!
//! At the end the last hash is [`Summary::hash`] and the RFC 6962 root over all block hashes,
//! continued from [`Summary::peaks`], is [`Summary::root`]. The summary is not signed: it catches
//! accidents. Who vouches for the nodes is in the chain: `Event::Binding` of each epoch.
//!
//! What must never happen here: I/O, a panic on hostile bytes, an allocation by an unchecked
//! length. Called by the ledger, which writes it, and by verifiers, which read it.

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::{
    block::{Hash, Seq},
    bounded,
    frame::decode_body,
    ledger::Record,
};

/// First bytes of the file.
pub const MAGIC: &[u8; 20] = b"hookprobe.ledger.v1\0";
/// Longest encoded [`Summary`]: sixty-four peaks and change.
pub const SUMMARY_BYTES_MAX: usize = 4 * 1024;
/// Longest encoded [`Record`]: the largest payload, all signatures, and room.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;
/// Most [`Summary::peaks`]: one for each bit of a length.
pub const PEAKS_MAX: usize = 64;
/// Bytes in front of every value.
const LENGTH_BYTES: usize = 4;

/// What the file is about; not signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Summary {
    /// First block in the file.
    #[n(0)]
    pub first: Seq,
    /// Blocks in the chain: the last one in the file has the seq before it.
    #[n(1)]
    pub length: u64,
    /// Hash of the block before [`Self::first`]; [`Hash::zero`] when that is 0.
    #[n(2)]
    pub before: Hash,
    /// Roots of the complete subtrees (RFC 6962 section 2.1) over the blocks before
    /// [`Self::first`], largest first: as many as its number has bits set.
    #[cbor(n(3), decode_with = "bounded::list::<_, _, PEAKS_MAX>")]
    pub peaks: Vec<Hash>,
    /// Hash of the last block.
    #[n(4)]
    pub hash: Hash,
    /// RFC 6962 tree head over all block hashes from 0 on.
    #[n(5)]
    pub root: Hash,
}

/// Why bytes are no exported chain, or a value can't be exported.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ExportError {
    /// The first bytes are another file's.
    #[error("HP-WR-010 export: does not start with hookprobe.ledger.v1; is it a ledger's export?")]
    Magic,
    /// The file ends too early.
    #[error("HP-WR-011 export: ends inside {what}; copy it again")]
    Cut {
        /// What it ends in.
        what: Place,
    },
    /// A value is longer than allowed.
    #[error("HP-WR-012 export: {what} has {got} bytes, at most {most} are allowed")]
    TooLong {
        /// Which.
        what: Place,
        /// Its length.
        got: usize,
        /// What is allowed.
        most: usize,
    },
    /// A value does not decode, or not to its own bytes.
    #[error("HP-WR-013 export: {what} is not what it should be: {why}")]
    Body {
        /// Which.
        what: Place,
        /// What is wrong.
        why: String,
    },
    /// There are bytes behind the last record.
    #[error("HP-WR-014 export: {0} bytes behind the last record")]
    Trailing(usize),
}

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The magic bytes.
    Start,
    /// The summary.
    Summary,
    /// The record at this place in the chain (by position in the file, not by what it claims).
    Record(Seq),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start => f.write_str("its first bytes"),
            Self::Summary => f.write_str("the summary"),
            Self::Record(seq) => write!(f, "record {seq}"),
        }
    }
}

/// Appends the begin of a file to `out`.
///
/// # Errors
/// [`ExportError::TooLong`], [`ExportError::Body`]; `out` is as before then.
pub fn begin(summary: &Summary, out: &mut Vec<u8>) -> Result<(), ExportError> {
    check_summary(summary)?;
    let start = out.len();
    out.extend_from_slice(MAGIC);
    put(summary, Place::Summary, SUMMARY_BYTES_MAX, out).inspect_err(|_| out.truncate(start))
}

/// Appends one record to `out`.
///
/// # Errors
/// As [`begin`].
pub fn record(record: &Record, out: &mut Vec<u8>) -> Result<(), ExportError> {
    put(record, Place::Record(record.block.header.seq), RECORD_BYTES_MAX, out)
}

fn put<T: Encode<()>>(
    value: &T,
    what: Place,
    most: usize,
    out: &mut Vec<u8>,
) -> Result<(), ExportError> {
    let body = encoded(value, what)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= most);
    let length = length.ok_or(ExportError::TooLong { what, got: body.len(), most })?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

fn encoded<T: Encode<()>>(value: &T, what: Place) -> Result<Vec<u8>, ExportError> {
    let mut body = Vec::new();
    // Into a Vec; a failing Encode impl would be our own bug and is reported.
    minicbor::encode(value, &mut body)
        .map_err(|error| ExportError::Body { what, why: error.to_string() })?;
    Ok(body)
}

/// What has to hold inside a summary.
fn check_summary(summary: &Summary) -> Result<(), ExportError> {
    let first = summary.first.0;
    let why = if summary.length < first {
        Some(format!("{} blocks, the first of them {first}", summary.length))
    } else if summary.peaks.len() != first.count_ones() as usize {
        Some(format!("{} peaks for {first} blocks", summary.peaks.len()))
    } else if (first == 0) != (summary.before == Hash::zero()) {
        Some(format!("first block {first} after {}", summary.before))
    } else {
        None
    };
    match why {
        Some(why) => Err(ExportError::Body { what: Place::Summary, why }),
        None => Ok(()),
    }
}

/// The records of a file, in order. After the first error there is nothing more.
///
/// Holds one record beside the file's own bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    summary: Summary,
    next: Seq,
    failed: bool,
}

impl<'a> Reader<'a> {
    /// Reads the begin of the file whose bytes are `file`.
    ///
    /// # Errors
    /// Any [`ExportError`].
    pub fn new(file: &'a [u8]) -> Result<Self, ExportError> {
        let Some((magic, mut rest)) = file.split_first_chunk::<{ MAGIC.len() }>() else {
            let known = MAGIC.starts_with(file);
            return Err(if known {
                ExportError::Cut { what: Place::Start }
            } else {
                ExportError::Magic
            });
        };
        if magic != MAGIC {
            return Err(ExportError::Magic);
        }
        let summary: Summary = take(&mut rest, Place::Summary, SUMMARY_BYTES_MAX)?;
        check_summary(&summary)?;
        let next = summary.first;
        Ok(Self { rest, summary, next, failed: false })
    }

    /// What the file says it is about.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.next.0 < self.summary.length {
            take(&mut self.rest, Place::Record(self.next), RECORD_BYTES_MAX)
        } else if self.rest.is_empty() {
            return None;
        } else {
            Err(ExportError::Trailing(self.rest.len()))
        };
        self.failed = item.is_err();
        self.next.0 = self.next.0.saturating_add(1);
        Some(item)
    }
}

/// Takes one value off the front of `rest`.
fn take<T>(rest: &mut &[u8], what: Place, most: usize) -> Result<T, ExportError>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    let (length, after) =
        rest.split_first_chunk::<LENGTH_BYTES>().ok_or(ExportError::Cut { what })?;
    let got = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if got > most {
        return Err(ExportError::TooLong { what, got, most });
    }
    let (body, after) = after.split_at_checked(got).ok_or(ExportError::Cut { what })?;
    let value: T =
        decode_body(body).map_err(|error| ExportError::Body { what, why: error.to_string() })?;
    if encoded(&value, what)? != body {
        return Err(ExportError::Body { what, why: "not in its own encoding".into() });
    }
    *rest = after;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        EventType, NodeId,
        block::{BLOCK_VERSION, Block, Header, SIGNATURES_MAX, Signature},
        ledger::{PAYLOAD_BYTES_MAX, Payload},
    };

    fn hash(byte: u8) -> Hash {
        Hash::new([byte; 32])
    }

    fn sample(seq: u64, payload: Option<usize>) -> Record {
        let node_identity = NodeId::new([9; 32]);
        let header = Header {
            version: BLOCK_VERSION,
            node_identity,
            epoch: 1,
            seq: Seq(seq),
            prev_hash: hash(1),
            timestamp_ns: 2,
            event_type: EventType::Alert,
            payload_hash: hash(3),
        };
        Record {
            hash: hash(4),
            block: Block {
                header,
                signatures: vec![Signature { signer: node_identity, bytes: [5; 64].into() }],
            },
            payload: payload
                .map(|bytes| Payload { salt: [6; 16].into(), bytes: vec![7; bytes].into() }),
        }
    }

    fn summary(first: u64, length: u64) -> Summary {
        let peaks = vec![hash(2); first.count_ones() as usize];
        let before = if first == 0 { Hash::zero() } else { hash(8) };
        Summary { first: Seq(first), length, before, peaks, hash: hash(4), root: hash(5) }
    }

    fn file(first: u64, count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&summary(first, first + count), &mut out).unwrap();
        for seq in first..first + count {
            record(&sample(seq, Some(2)), &mut out).unwrap();
        }
        out
    }

    fn read(file: &[u8]) -> Result<Vec<Record>, ExportError> {
        Reader::new(file)?.collect()
    }

    /// A payload that is erased is the last field and so not there at all.
    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        begin(&summary(2, 3), &mut out).unwrap();
        record(&sample(2, None), &mut out).unwrap();
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        let h = |byte: &str| format!("5820{}", byte.repeat(32));
        let want = [
            "686f6f6b70726f62652e6c65646765722e763100",
            "8c000000",
            &format!("860203{}81{}{}{}", h("08"), h("02"), h("04"), h("05")),
            "f6000000",
            &format!("82{}82", h("04")),
            &format!("8801{}0102{}0210{}", h("09"), h("01"), h("03")),
            &format!("8182{}5840{}", h("09"), "05".repeat(64)),
        ]
        .concat();
        assert_eq!(hex, want);
        assert_eq!(read(&out), Ok(vec![sample(2, None)]));
    }

    #[test]
    fn what_is_written_is_read() {
        for (first, count) in [(0, 0), (0, 3), (7, 2), (u64::MAX - 2, 2)] {
            let out = file(first, count);
            let reader = Reader::new(&out).unwrap();
            assert_eq!(reader.summary(), &summary(first, first + count));
            let want: Vec<_> = (first..first + count).map(|seq| sample(seq, Some(2))).collect();
            assert_eq!(reader.collect::<Result<Vec<_>, _>>(), Ok(want));
        }
    }

    #[test]
    fn the_largest_record_fits_and_a_larger_is_refused_on_both_sides() {
        let mut large = sample(0, Some(PAYLOAD_BYTES_MAX));
        large.block.signatures = vec![large.block.signatures[0].clone(); SIGNATURES_MAX];
        let mut out = Vec::new();
        record(&large, &mut out).unwrap();
        out.truncate(0);
        let over = sample(0, Some(RECORD_BYTES_MAX));
        assert!(matches!(record(&over, &mut out), Err(ExportError::TooLong { .. })));
        assert!(out.is_empty());
        begin(&summary(0, 1), &mut out).unwrap();
        out.extend_from_slice(&(RECORD_BYTES_MAX as u32 + 1).to_le_bytes());
        assert!(matches!(
            read(&out),
            Err(ExportError::TooLong { what: Place::Record(Seq(0)), .. })
        ));
    }

    #[test]
    fn a_summary_that_contradicts_itself_is_refused_on_both_sides() {
        let wrong = [
            Summary { length: 1, ..summary(2, 2) },
            Summary { peaks: Vec::new(), ..summary(2, 2) },
            Summary { before: Hash::zero(), ..summary(2, 2) },
            Summary { before: hash(1), ..summary(0, 2) },
        ];
        for summary in wrong {
            let mut out = Vec::new();
            assert!(matches!(begin(&summary, &mut out), Err(ExportError::Body { .. })));
            out.extend_from_slice(MAGIC);
            put(&summary, Place::Summary, SUMMARY_BYTES_MAX, &mut out).unwrap();
            assert!(matches!(read(&out), Err(ExportError::Body { what: Place::Summary, .. })));
        }
    }

    #[test]
    fn cut_at_any_byte_is_said_so_and_more_behind_it_too() {
        let whole = file(3, 2);
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(matches!(error, ExportError::Cut { .. }), "{length}: {error}");
        }
        let more = [whole.as_slice(), &[0]].concat();
        assert_eq!(read(&more), Err(ExportError::Trailing(1)));
        assert_eq!(read(b"SQLite format 3\0"), Err(ExportError::Magic));
        let reader = Reader::new(&more).unwrap();
        assert_eq!(reader.count(), 3, "nothing after the first error");
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_read_as_it_stands_or_refused(at in 0usize..600, bit in 0u8..8) {
            let mut bytes = file(1, 2);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(records) = read(&bytes) {
                let mut again = Vec::new();
                begin(Reader::new(&bytes).unwrap().summary(), &mut again).unwrap();
                for one in &records {
                    record(one, &mut again).unwrap();
                }
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = [MAGIC.as_slice(), &bytes].concat();
            prop_assert!(Reader::new(&bytes).is_err() || bytes.len() > 120);
        }
    }
}

//! The firmware's event log record by record, for attack 11: removed, doubled, exchanged, and every field
//! of a record changed. What is no log is left to changes of bytes.

use std::ops::Range;

/// Fields of one record and where they stand.
type Fields = Vec<(Field, Range<usize>)>;

/// Length of a digest by its TPM algorithm.
const fn digest_bytes(alg: u16) -> Option<usize> {
    match alg {
        0x0004 => Some(20),
        0x000b => Some(32),
        0x000c => Some(48),
        0x000d => Some(64),
        _ => None,
    }
}

/// Fields of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Pcr,
    Kind,
    Count,
    Algorithm,
    Digest,
    Size,
    Data,
}

impl Field {
    pub(super) const ALL: [Self; 7] =
        [Self::Pcr, Self::Kind, Self::Count, Self::Algorithm, Self::Digest, Self::Size, Self::Data];
}

fn number<const N: usize>(log: &[u8], at: usize) -> Option<[u8; N]> {
    log.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Length of the first record: the old form, with one SHA-1 digest.
fn header_bytes(log: &[u8]) -> Option<usize> {
    let data = u32::from_le_bytes(number(log, 28)?);
    32usize.checked_add(usize::try_from(data).ok()?).filter(|length| *length <= log.len())
}

/// Where the fields of the record at `at` stand, and its end.
fn record(log: &[u8], at: usize) -> Option<(Fields, usize)> {
    let count = u32::from_le_bytes(number(log, at + 8)?);
    let mut fields = vec![
        (Field::Pcr, at..at + 4),
        (Field::Kind, at + 4..at + 8),
        (Field::Count, at + 8..at + 12),
    ];
    let mut next = at + 12;
    for _ in 0..count.min(16) {
        let length = digest_bytes(u16::from_le_bytes(number(log, next)?))?;
        fields.push((Field::Algorithm, next..next + 2));
        fields.push((Field::Digest, next + 2..next + 2 + length));
        next += 2 + length;
    }
    let data = usize::try_from(u32::from_le_bytes(number(log, next)?)).ok()?;
    fields.push((Field::Size, next..next + 4));
    let end = (next + 4).checked_add(data).filter(|end| *end <= log.len())?;
    fields.push((Field::Data, next + 4..end));
    Some((fields, end))
}

/// Ranges of all records but the first, and where the fields of each stand.
pub(super) struct Records {
    pub(super) header: usize,
    pub(super) all: Vec<(Range<usize>, Fields)>,
}

impl Records {
    /// `None` for what can't be read to its end.
    pub(super) fn of(log: &[u8]) -> Option<Self> {
        let header = header_bytes(log)?;
        let (mut at, mut all) = (header, Vec::new());
        while at < log.len() {
            let (fields, end) = record(log, at)?;
            all.push((at..end, fields));
            at = end;
        }
        Some(Self { header, all })
    }

    /// The log with its records in this order; a number may come twice or not at all.
    pub(super) fn in_order(&self, log: &[u8], order: &[usize]) -> Vec<u8> {
        let mut out = log.get(..self.header).unwrap_or_default().to_vec();
        for number in order {
            if let Some((range, _)) = self.all.get(*number) {
                out.extend_from_slice(log.get(range.clone()).unwrap_or_default());
            }
        }
        out
    }
}

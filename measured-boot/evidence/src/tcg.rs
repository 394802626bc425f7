//! The binary event log of firmware (TCG PC Client Platform Firmware Profile, 10.2 and 10.4.5,
//! "crypto agile"), read and written.
//!
//! What an event says is only shown by [`ReplayedLog`], which exists for registers that a quote
//! vouches for. Must never happen here: a name or a variable out of a log that was not replayed; an
//! allocation by a length in the log.

mod replay;
mod write;

use thiserror::Error;

pub(crate) use replay::shown;
pub use replay::{ReplayError, ReplayedEvent, ReplayedLog};
pub use write::merge;
#[cfg(any(test, feature = "sample"))]
pub(crate) use {replay::shown_data, write::put_event};

use crate::{
    cursor::Cursor,
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
};

/// Longest log that is parsed; firmware logs have 20 to 100 KiB.
pub const TCG_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most events; firmware logs have 50 to 300.
pub const TCG_EVENTS_MAX: usize = 16 * 1024;
/// Most algorithms in the header: a TPM has no more banks.
const ALGORITHMS_MAX: usize = 16;
/// Longest digest that is skipped over: twice the longest hash that exists.
const DIGEST_BYTES_MAX: usize = 128;

/// EV_NO_ACTION: in the log, never extended.
pub(crate) const EV_NO_ACTION: u32 = 0x03;
/// EV_IPL: what boot loaders and the operating system measure.
pub(crate) const EV_IPL: u32 = 0x0d;
/// EV_EFI_VARIABLE_DRIVER_CONFIG: Secure Boot's variables.
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// Why bytes are no event log.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TcgError {
    /// Not a crypto-agile log.
    #[error("HP-MB-050 TCG log: event {event}: {why}; take new evidence from the box")]
    Malformed {
        /// Which, from 0; 0 is the header.
        event: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// Too long.
    #[error("HP-MB-051 TCG log: more than {TCG_BYTES_MAX} bytes or {TCG_EVENTS_MAX} events")]
    TooLong,
}

/// One event as it stands in the log: not replayed, so its data stay inside this module.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RawEvent<'a> {
    pcr: u32,
    kind: u32,
    digests: Vec<Digest>,
    data: &'a [u8],
}

/// A log whose structure is right and whose content is not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcgLog<'a> {
    algorithms: Vec<(u16, usize)>,
    /// Bytes of the header.
    header_bytes: usize,
    /// Locality of TPM2_Startup: what register 0 begins with.
    locality: u8,
    events: Vec<RawEvent<'a>>,
}

impl<'a> TcgLog<'a> {
    /// Parses a whole log.
    ///
    /// # Errors
    /// Any [`TcgError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TcgError> {
        let (log, used) = Self::parse_prefix(bytes)?;
        if used != bytes.len() {
            return Err(TcgError::Malformed { event: log.events.len() + 1, why: "cut short" });
        }
        Ok(log)
    }

    /// Parses as many whole events as there are; how many bytes they have.
    fn parse_prefix(bytes: &'a [u8]) -> Result<(Self, usize), TcgError> {
        if bytes.len() > TCG_BYTES_MAX {
            return Err(TcgError::TooLong);
        }
        let mut cursor = Cursor::new(bytes);
        let algorithms = header(&mut cursor)
            .ok_or(TcgError::Malformed { event: 0, why: "no Spec ID Event03 header" })?;
        let mut log = Self {
            algorithms,
            header_bytes: bytes.len() - cursor.len(),
            locality: 0,
            events: Vec::new(),
        };
        let mut used = log.header_bytes;
        while !cursor.is_empty() {
            if log.events.len() >= TCG_EVENTS_MAX {
                return Err(TcgError::TooLong);
            }
            let number = log.events.len() + 1;
            let Some(event) = event(&mut cursor, &log.algorithms, number)? else {
                break;
            };
            used = bytes.len() - cursor.len();
            if event.kind == EV_NO_ACTION
                && let Some([locality, ..]) = event.data.strip_prefix(STARTUP_LOCALITY)
            {
                log.locality = *locality;
            }
            log.events.push(event);
        }
        Ok((log, used))
    }

    /// Number of events after the header.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is nothing but the header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Banks that the log has digests for and that are known here.
    #[must_use]
    pub fn banks(&self) -> Vec<HashAlg> {
        self.algorithms.iter().filter_map(|(id, _)| HashAlg::from_tpm(*id)).collect()
    }
}

/// TCG_PCR_EVENT (SHA-1) around TCG_EfiSpecIDEvent; its algorithms and their sizes.
fn header(cursor: &mut Cursor<'_>) -> Option<Vec<(u16, usize)>> {
    let (_pcr, kind) = (cursor.u32_le()?, cursor.u32_le()?);
    cursor.take(HashAlg::Sha1.digest_bytes())?;
    let length = usize::try_from(cursor.u32_le()?).ok()?;
    let mut spec = Cursor::new(cursor.take(length)?);
    if kind != EV_NO_ACTION || spec.take(SPEC_ID.len())? != SPEC_ID {
        return None;
    }
    // platformClass, version, errata, uintnSize.
    spec.take(8)?;
    let count = usize::try_from(spec.u32_le()?).ok()?;
    if count == 0 || count > ALGORITHMS_MAX {
        return None;
    }
    let mut algorithms: Vec<(u16, usize)> = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, bytes) = (spec.u16_le()?, usize::from(spec.u16_le()?));
        let known = HashAlg::from_tpm(id).map(HashAlg::digest_bytes);
        if known.is_some_and(|known| known != bytes)
            || bytes > DIGEST_BYTES_MAX
            || algorithms.iter().any(|(other, _)| *other == id)
        {
            return None;
        }
        algorithms.push((id, bytes));
    }
    let vendor = usize::from(spec.u8()?);
    spec.take(vendor)?;
    spec.is_empty().then_some(algorithms)
}

/// One TCG_PCR_EVENT2; `None` when it is cut short.
fn event<'a>(
    cursor: &mut Cursor<'a>,
    algorithms: &[(u16, usize)],
    number: usize,
) -> Result<Option<RawEvent<'a>>, TcgError> {
    let malformed = |why| TcgError::Malformed { event: number, why };
    let mut fields = || Some((cursor.u32_le()?, cursor.u32_le()?, cursor.u32_le()?));
    let Some((pcr, kind, count)) = fields() else {
        return Ok(None);
    };
    if usize::try_from(count).map_or(true, |count| count > algorithms.len()) {
        return Err(malformed("more digests than algorithms"));
    }
    if kind != EV_NO_ACTION && u8::try_from(pcr).ok().and_then(PcrIndex::new).is_none() {
        return Err(malformed("a PCR above 23"));
    }
    let mut seen: Vec<u16> = Vec::with_capacity(algorithms.len());
    let mut digests = Vec::with_capacity(algorithms.len());
    for _ in 0..count {
        let Some(id) = cursor.u16_le() else {
            return Ok(None);
        };
        let (_, bytes) = algorithms
            .iter()
            .find(|(known, _)| *known == id)
            .ok_or_else(|| malformed("a digest of an algorithm that the header does not name"))?;
        if seen.contains(&id) {
            return Err(malformed("two digests of one algorithm"));
        }
        seen.push(id);
        let Some(digest) = cursor.take(*bytes) else {
            return Ok(None);
        };
        digests.extend(HashAlg::from_tpm(id).and_then(|alg| Digest::new(alg, digest)));
    }
    let mut data = || cursor.take(usize::try_from(cursor.clone().u32_le()?).ok()?.checked_add(4)?);
    let Some(data) = data().and_then(|sized| sized.get(4..)) else {
        return Ok(None);
    };
    Ok(Some(RawEvent { pcr, kind, digests, data }))
}

#[cfg(test)]
mod tests;

//! Writing: firmware's log with our events behind it.

use super::{ALGORITHMS_MAX, EV_IPL, EV_NO_ACTION, SPEC_ID, TcgLog};
use crate::{
    digest::{Digest, HashAlg},
    log::Event,
};

/// Firmware's log with `ours` as EV_IPL events behind it, whose data are the event's name and a NUL.
///
/// A firmware log that is none, or none of this format, is left out and a header made for `banks`;
/// an event that is cut short at its end is left out too: what follows it could not be read.
/// Digests of banks that the header does not name can't be written.
#[must_use]
pub fn merge(firmware: &[u8], ours: &[Event], banks: &[HashAlg]) -> Vec<u8> {
    let (mut out, banks) = match TcgLog::parse_prefix(firmware) {
        Ok((log, used)) => (firmware.get(..used).unwrap_or_default().to_vec(), log.banks()),
        Err(_) => (header(banks), banks.to_vec()),
    };
    for event in ours {
        let digests: Vec<Digest> =
            event.digests.iter().filter(|digest| banks.contains(&digest.alg())).cloned().collect();
        let data = [event.name.as_bytes(), b"\0"].concat();
        put_event(&mut out, event.pcr.get().into(), EV_IPL, &digests, &data);
    }
    out
}

/// One TCG_PCR_EVENT2.
pub(crate) fn put_event(out: &mut Vec<u8>, pcr: u32, kind: u32, digests: &[Digest], data: &[u8]) {
    put_u32(out, pcr);
    put_u32(out, kind);
    put_u32(out, length(digests.len()));
    for digest in digests {
        out.extend_from_slice(&(digest.alg() as u16).to_le_bytes());
        out.extend_from_slice(digest.as_bytes());
    }
    put_u32(out, length(data.len()));
    out.extend_from_slice(data);
}

/// TCG_PCR_EVENT with a TCG_EfiSpecIDEvent: PC client, family 2.0, errata 0, 64-bit.
fn header(banks: &[HashAlg]) -> Vec<u8> {
    let mut spec = SPEC_ID.to_vec();
    spec.extend_from_slice(&[0, 0, 0, 0, 0, 2, 0, 2]);
    let banks = banks.get(..ALGORITHMS_MAX.min(banks.len())).unwrap_or_default();
    put_u32(&mut spec, length(banks.len()));
    for bank in banks {
        spec.extend_from_slice(&(*bank as u16).to_le_bytes());
        // 64 bytes at most.
        spec.extend_from_slice(&u16::try_from(bank.digest_bytes()).unwrap_or(0).to_le_bytes());
    }
    spec.push(0);
    let mut out = Vec::with_capacity(64 + spec.len());
    put_u32(&mut out, 0);
    put_u32(&mut out, EV_NO_ACTION);
    out.extend_from_slice(&[0; 20]);
    put_u32(&mut out, length(spec.len()));
    out.append(&mut spec);
    out
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Counts of what is in memory; a log has at most 4 MiB.
fn length(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

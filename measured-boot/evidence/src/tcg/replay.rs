//! Replay of a log against quoted registers.

use thiserror::Error;

use super::{EV_EFI_VARIABLE_DRIVER_CONFIG, EV_IPL, EV_NO_ACTION, RawEvent, TcgError, TcgLog};
use crate::{
    cursor::Cursor,
    digest::{Digest, HashAlg},
    log::{Context, Event},
    pcr::{PcrIndex, extend},
};

/// Longest name that is shown.
const NAME_CHARS_MAX: usize = 256;
/// Register of the Secure Boot policy.
const SECURE_BOOT_PCR: u8 = 7;
/// Registers that only a dynamic launch resets to zero: all ones before.
const DYNAMIC: std::ops::RangeInclusive<u8> = 17..=22;

/// Why a log says nothing about a register.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ReplayError {
    /// The events lead to another value.
    #[error(
        "HP-MB-052 PCR {pcr}: the log leads to {bank}:{replayed}, the TPM quoted {bank}:{quoted}; the log was changed or something extended without a log, take new evidence or re-flash"
    )]
    Differs {
        /// Bank.
        bank: HashAlg,
        /// Which.
        pcr: PcrIndex,
        /// By the log.
        replayed: String,
        /// By the TPM.
        quoted: String,
    },
    /// An event counts in one bank and not in another, or in none: the log tells two stories.
    #[error(
        "HP-MB-065 PCR {pcr}: an event in the log has no digest for the quoted bank {bank}, so that nothing vouches for it; the evidence was changed, take new"
    )]
    Unhashed {
        /// Bank.
        bank: HashAlg,
        /// Which.
        pcr: PcrIndex,
    },
    /// It has a value, and no event says why.
    #[error(
        "HP-MB-053 PCR {pcr}: the TPM quoted {bank}:{quoted}, the log has no event for it; take full evidence, check that the firmware keeps an event log"
    )]
    NoEvents {
        /// Bank.
        bank: HashAlg,
        /// Which.
        pcr: PcrIndex,
        /// By the TPM.
        quoted: String,
    },
}

impl ReplayError {
    /// Register that it is about.
    #[must_use]
    pub fn pcr(&self) -> PcrIndex {
        match self {
            Self::Differs { pcr, .. } | Self::Unhashed { pcr, .. } | Self::NoEvents { pcr, .. } => {
                *pcr
            }
        }
    }
}

/// An event of a register that replays to the quoted value in every quoted bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedEvent {
    /// Type (PFP, 10.4.1).
    pub kind: u32,
    /// Register, digests in the quoted banks, and the name that the log gives: the digests are
    /// proven, the name is as good as the digest that it comes with.
    pub event: Event,
    /// State of `SecureBoot`, where this is its variable, the digest is of the data, and it is the
    /// first event of PCR 7.
    pub secure_boot: Option<bool>,
}

/// What a log says about the registers of a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedLog {
    events: Vec<ReplayedEvent>,
    failures: Vec<ReplayError>,
}

impl ReplayedLog {
    /// Replays a log against the registers of a verified quote. Only the events of registers whose
    /// values it explains in every bank are in the result.
    ///
    /// # Errors
    /// Any [`TcgError`]; registers that do not replay are in [`Self::failures`].
    pub fn replay(bytes: &[u8], quoted: &[(PcrIndex, Digest)]) -> Result<Self, TcgError> {
        let log = TcgLog::parse(bytes)?;
        let failures: Vec<ReplayError> =
            quoted.iter().filter_map(|(pcr, value)| check(&log, *pcr, value)).collect();
        let proven = |pcr: PcrIndex| {
            quoted.iter().any(|(quoted, _)| *quoted == pcr)
                && !failures.iter().any(|failure| failure.pcr() == pcr)
        };
        let events = log
            .events
            .iter()
            .filter_map(|raw| Some((raw, index(raw)?)))
            .filter(|(_, pcr)| proven(*pcr))
            .map(|(raw, pcr)| replayed(raw, pcr, quoted))
            .collect();
        let mut log = Self { events, failures };
        log.forget_late_secure_boot();
        Ok(log)
    }

    /// Firmware measures `SecureBoot` before all else in PCR 7 (PFP, 3.3.4.8). Whatever runs later
    /// can extend any register with the digest of such a variable, and the log's edited words would
    /// then hide the true one in front of it: only its place can't be forged.
    fn forget_late_secure_boot(&mut self) {
        let mut first = true;
        for event in &mut self.events {
            let policy = event.event.pcr.get() == SECURE_BOOT_PCR;
            if !(policy && first) {
                event.secure_boot = None;
            }
            first &= !policy;
        }
    }

    /// Registers that the log does not explain.
    #[must_use]
    pub fn failures(&self) -> &[ReplayError] {
        &self.failures
    }

    /// Events of all registers that it explains, in order.
    #[must_use]
    pub fn events(&self) -> &[ReplayedEvent] {
        &self.events
    }

    /// Events of one register.
    pub fn of(&self, pcr: PcrIndex) -> impl Iterator<Item = &ReplayedEvent> {
        self.events.iter().filter(move |event| event.event.pcr == pcr)
    }
}

/// Register that an event extends; EV_NO_ACTION extends none.
fn index(raw: &RawEvent<'_>) -> Option<PcrIndex> {
    if raw.kind == EV_NO_ACTION {
        return None;
    }
    u8::try_from(raw.pcr).ok().and_then(PcrIndex::new)
}

/// Replays one register in one bank.
fn check(log: &TcgLog<'_>, pcr: PcrIndex, quoted: &Digest) -> Option<ReplayError> {
    let bank = quoted.alg();
    let reset = reset_value(bank, pcr, log.locality);
    let mut value = reset.clone();
    let (mut events, mut unhashed) = (0u32, false);
    for raw in log.events.iter().filter(|raw| index(raw) == Some(pcr)) {
        if let Some(digest) = raw.digests.iter().find(|digest| digest.alg() == bank) {
            value = extend(&value, digest);
            events += 1;
        } else {
            unhashed = true;
        }
    }
    if value == *quoted {
        // An event that extended nothing would otherwise lend its name to the register.
        return unhashed.then_some(ReplayError::Unhashed { bank, pcr });
    }
    let quoted_short = quoted.short();
    // A dynamic launch that never was leaves its registers at all ones; firmware that knows
    // nothing of it, at zero.
    if events == 0 && DYNAMIC.contains(&pcr.get()) && *quoted == Digest::zero(bank) {
        return None;
    }
    Some(if events == 0 {
        ReplayError::NoEvents { bank, pcr, quoted: quoted_short }
    } else {
        ReplayError::Differs { bank, pcr, replayed: value.short(), quoted: quoted_short }
    })
}

/// Value before the first event (PFP, 3.3.2; Part 1, 17.8).
fn reset_value(bank: HashAlg, pcr: PcrIndex, locality: u8) -> Digest {
    let mut bytes = Digest::zero(bank).as_bytes().to_vec();
    if DYNAMIC.contains(&pcr.get()) {
        bytes.fill(0xff);
    }
    if pcr.get() == 0
        && let Some(last) = bytes.last_mut()
    {
        *last = locality;
    }
    Digest::new(bank, &bytes).unwrap_or_else(|| Digest::zero(bank))
}

fn replayed(raw: &RawEvent<'_>, pcr: PcrIndex, quoted: &[(PcrIndex, Digest)]) -> ReplayedEvent {
    let in_quote =
        |bank: HashAlg| quoted.iter().any(|(index, value)| *index == pcr && value.alg() == bank);
    let digests: Vec<Digest> =
        raw.digests.iter().filter(|digest| in_quote(digest.alg())).cloned().collect();
    // Only a variable whose digest is of its data: anybody can write other data beside a digest.
    let measured = || {
        !digests.is_empty()
            && digests.iter().all(|digest| digest.alg().digest(&[raw.data]) == *digest)
    };
    let variable = variable(raw).filter(|_| measured());
    let secure_boot = variable
        .as_ref()
        .filter(|(name, _)| name == "SecureBoot")
        .map(|(_, value)| value.first() == Some(&1));
    let name = match (raw.kind, variable) {
        (EV_IPL, _) => text(raw.data),
        (_, Some((name, _))) => format!("variable:{name}"),
        (kind, None) => kind_name(kind).map_or_else(|| format!("event:{kind:#x}"), str::to_owned),
    };
    ReplayedEvent {
        kind: raw.kind,
        event: Event { pcr, digests, name, context: Context::default() },
        secure_boot,
    }
}

/// UEFI_VARIABLE_DATA (PFP, 10.2.6): the variable's name and value.
fn variable<'a>(raw: &RawEvent<'a>) -> Option<(String, &'a [u8])> {
    if raw.kind != EV_EFI_VARIABLE_DRIVER_CONFIG {
        return None;
    }
    let mut cursor = Cursor::new(raw.data);
    cursor.take(16)?;
    let name_chars = usize::try_from(cursor.u64_le()?).ok()?;
    let value_bytes = usize::try_from(cursor.u64_le()?).ok()?;
    let name = cursor.take(name_chars.checked_mul(2)?)?;
    let value = cursor.take(value_bytes)?;
    Some((utf16(name)?, value))
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    let text: String =
        char::decode_utf16(units).take(NAME_CHARS_MAX).collect::<Result<String, _>>().ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// [`text`], for samples.
#[cfg(any(test, feature = "sample"))]
pub(crate) fn shown_data(data: &[u8]) -> String {
    text(data)
}

/// An EV_IPL event's data: text in UTF-16 (systemd-stub) or ASCII (ours), with or without NUL.
/// What is not printable is escaped.
fn text(data: &[u8]) -> String {
    let wide = data.len().is_multiple_of(2) && data.get(1) == Some(&0);
    let raw = match wide.then(|| utf16(data)).flatten() {
        Some(text) => text,
        None => {
            let text = data.strip_suffix(&[0]).unwrap_or(data);
            String::from_utf8_lossy(text).into_owned()
        }
    };
    shown(&raw)
}

/// A name as it is shown: printable ASCII, the rest escaped, cut after 256 characters.
pub(crate) fn shown(name: &str) -> String {
    // All of ours are.
    if name.len() <= NAME_CHARS_MAX && name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return name.to_owned();
    }
    name.chars()
        .take(NAME_CHARS_MAX)
        .flat_map(|c| {
            let plain = (' '..='~').contains(&c);
            let escaped = (!plain).then(|| c.escape_default()).into_iter().flatten();
            plain.then_some(c).into_iter().chain(escaped)
        })
        .collect()
}

/// Types that firmware logs hold (PFP, 10.4.1).
fn kind_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x01 => "post-code",
        0x04 => "separator",
        0x05 => "action",
        0x07 => "crtm-contents",
        0x08 => "crtm-version",
        0x0e | 0x0f => "partition-data",
        0x8000_0001 => "variable",
        0x8000_0002 => "boot-variable",
        0x8000_0003 => "boot-application",
        0x8000_0004 => "boot-driver",
        0x8000_0005 => "runtime-driver",
        0x8000_0006 => "gpt",
        0x8000_0007 => "efi-action",
        0x8000_0008 | 0x8000_000a => "firmware-blob",
        0x8000_0009 | 0x8000_000b => "handoff-tables",
        0x8000_00e0 => "variable-authority",
        _ => return None,
    })
}

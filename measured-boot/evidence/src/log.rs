//! Event log in the format of systemd's user-space measurement log: JSON text sequences (RFC 7464),
//! one record per event, `\x1e{...}\n`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    digest::{Digest, HashAlg},
    pcr::{PcrIndex, PcrSet},
    policy::PHASE_EVENT,
};

/// Longest log that is parsed.
pub const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// In front of every record (RFC 7464, 2.2).
const RECORD: u8 = 0x1e;
/// Most events that are parsed.
pub const EVENTS_MAX: usize = 16 * 1024;

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was extended.
    pub pcr: PcrIndex,
    /// One digest per bank.
    pub digests: Vec<Digest>,
    /// What it was, e.g. `service:sensor file:/usr/lib/...`.
    pub name: String,
    /// When, by the context that PID 1 knows.
    pub context: Context,
}

/// When and in which boot an event was logged. Not covered by the digests: never trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// Kernel's boot id, 32 hexadecimal digits.
    pub boot_id: String,
    /// CLOCK_MONOTONIC in microseconds.
    pub monotonic_us: u64,
}

impl Event {
    /// Digest in one bank.
    #[must_use]
    pub fn digest(&self, alg: HashAlg) -> Option<&Digest> {
        self.digests.iter().find(|digest| digest.alg() == alg)
    }
}

/// Why a log can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// Too long.
    #[error("HP-MB-020 event log: {got} bytes, at most {LOG_BYTES_MAX}; restart the box")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Too many events.
    #[error("HP-MB-021 event log: more than {EVENTS_MAX} events; restart the box")]
    TooMany,
    /// A record is not what it has to be.
    #[error("HP-MB-022 event log: record {record}: {why}; take new evidence from the box")]
    Record {
        /// Which, from 0.
        record: usize,
        /// What is wrong.
        why: String,
    },
}

// Strings stay in the log's bytes: an appraisal reads hundreds of records.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRecord<'a> {
    pcr: u8,
    #[serde(borrow)]
    digests: Vec<WireDigest<'a>>,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow)]
    content: WireContent<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireDigest<'a> {
    #[serde(borrow)]
    hash_alg: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContent<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    string: Cow<'a, str>,
    #[serde(borrow, default)]
    boot_id: Cow<'a, str>,
    #[serde(default)]
    timestamp: u64,
}

/// systemd's own types say what the digest is made of, and its tools check that: `phase` is the
/// string itself. They show records of a type that they do not know and hold nothing against them.
fn event_type(name: &str) -> &'static str {
    if name == PHASE_EVENT { "phase" } else { "hookprobe" }
}

/// One record as it stands in the log.
#[must_use]
pub fn to_record(event: &Event) -> Vec<u8> {
    let record = WireRecord {
        pcr: event.pcr.get(),
        digests: event
            .digests
            .iter()
            .map(|digest| WireDigest {
                hash_alg: digest.alg().name().into(),
                digest: digest.hex().into(),
            })
            .collect(),
        content_type: "systemd".into(),
        content: WireContent {
            event_type: event_type(&event.name).into(),
            string: event.name.as_str().into(),
            boot_id: event.context.boot_id.as_str().into(),
            timestamp: event.context.monotonic_us,
        },
    };
    let mut out = vec![RECORD];
    // Plain structs of strings and numbers always serialise.
    out.extend(serde_json::to_vec(&record).unwrap_or_default());
    out.push(b'\n');
    out
}

/// Parses a whole log.
///
/// # Errors
/// Any [`LogError`]; a torn last record is an error too, the caller decides what that means.
pub fn parse(bytes: &[u8]) -> Result<Vec<Event>, LogError> {
    if bytes.len() > LOG_BYTES_MAX {
        return Err(LogError::TooLong { got: bytes.len() });
    }
    if bytes.first().is_some_and(|first| *first != RECORD) {
        return Err(LogError::Record { record: 0, why: "does not start with 0x1e".into() });
    }
    let starts = memchr::memchr_iter(RECORD, bytes);
    let ends = memchr::memchr_iter(RECORD, bytes).skip(1).chain([bytes.len()]);
    let mut events = Vec::new();
    for (record, (start, end)) in starts.zip(ends).enumerate() {
        let text = bytes.get(start + 1..end).unwrap_or_default();
        if record >= EVENTS_MAX {
            return Err(LogError::TooMany);
        }
        events.push(from_record(text).map_err(|why| LogError::Record { record, why })?);
    }
    Ok(events)
}

fn from_record(text: &[u8]) -> Result<Event, String> {
    let record: WireRecord = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let pcr =
        PcrIndex::new(record.pcr).ok_or_else(|| format!("pcr {} does not exist", record.pcr))?;
    if record.digests.is_empty() {
        return Err("no digest".into());
    }
    let mut digests: Vec<Digest> = Vec::new();
    for digest in record.digests {
        let alg = HashAlg::from_name(&digest.hash_alg)
            .ok_or_else(|| format!("unknown algorithm {:?}", digest.hash_alg))?;
        if digests.iter().any(|known| known.alg() == alg) {
            return Err(format!("two digests of {alg}"));
        }
        digests.push(
            Digest::from_hex(alg, &digest.digest).ok_or_else(|| format!("bad {alg} digest"))?,
        );
    }
    Ok(Event {
        pcr,
        digests,
        name: record.content.string.into_owned(),
        context: Context {
            boot_id: record.content.boot_id.into_owned(),
            monotonic_us: record.content.timestamp,
        },
    })
}

/// Replays events into PCRs.
#[must_use]
pub fn replay(events: &[Event]) -> PcrSet {
    let mut pcrs = PcrSet::new();
    for event in events {
        for digest in &event.digests {
            pcrs.extend(event.pcr, digest);
        }
    }
    pcrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(name: &str) -> Event {
        Event {
            pcr: PcrIndex::SERVICES,
            digests: vec![
                HashAlg::Sha256.digest(&[name.as_bytes()]),
                HashAlg::Sha384.digest(&[name.as_bytes()]),
            ],
            name: name.into(),
            context: Context { boot_id: "0".repeat(32), monotonic_us: 5 },
        }
    }

    #[test]
    fn round_trip_keeps_order_and_replay() {
        let events: Vec<_> = ["a", "b \"quoted\" \x1e", "c\n"].into_iter().map(event).collect();
        let log: Vec<u8> = events.iter().flat_map(to_record).collect();
        let parsed = parse(&log).unwrap();
        assert_eq!(parsed, events);
        assert_eq!(replay(&parsed), replay(&events));
        let mut swapped = events.clone();
        swapped.swap(0, 1);
        assert_ne!(replay(&swapped), replay(&events));
    }

    /// What a record is made of is its digest; the type is for systemd's tools, and logs of boxes
    /// from before there were two of them read the same.
    #[test]
    fn only_the_phase_is_called_one() {
        let record = |name| String::from_utf8(to_record(&event(name))).unwrap();
        let service = record("service:x spec");
        assert!(record(PHASE_EVENT).contains(r#""eventType":"phase""#));
        assert!(service.contains(r#""eventType":"hookprobe""#), "{service}");
        let old = service.replace("hookprobe", "phase");
        assert_eq!(parse(old.as_bytes()), parse(service.as_bytes()));
    }

    #[test]
    fn errors_name_the_record() {
        let mut log = to_record(&event("a"));
        log.extend(b"\x1e{\"pcr\":24,\"digests\":[],\"content_type\":\"systemd\",\"content\":{\"eventType\":\"\",\"string\":\"\"}}\n");
        assert!(matches!(parse(&log), Err(LogError::Record { record: 1, .. })));
        assert_eq!(parse(b""), Ok(Vec::new()));
        assert!(matches!(parse(b"\x1e"), Err(LogError::Record { record: 0, .. })));
        assert!(matches!(parse(b"x"), Err(LogError::Record { record: 0, .. })));
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let mut log: Vec<u8> = [event("a"), event("b")].iter().flat_map(to_record).collect();
            let length = log.len();
            log[at % length] = byte;
            log.truncate(length - cut % length);
            let _ = parse(&log);
        }
    }
}

//! `notice.log`: what rules and detectors are convinced of.

use std::net::IpAddr;

use super::{
    Ident,
    files::{Files, Kind},
    log::Value,
};

/// How long Zeek's readers may hold back the same notice again.
const SUPPRESS_NS: u64 = 3_600_000_000_000;
/// Who says it.
const PEER: &str = "hookprobe";

/// One notice.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// When.
    pub time_ns: u64,
    /// The connection, when it is about one.
    pub ident: Option<&'a Ident>,
    /// IP protocol of it.
    pub protocol: Option<u8>,
    /// `HookProbe::Rule`, or a detector as `HookProbe::scan_trw`.
    pub note: &'a str,
    /// One sentence.
    pub message: &'a str,
    /// Number of the rule, or the numbers that led to it.
    pub sub: &'a str,
    /// Who does it.
    pub source: IpAddr,
    /// Against whom.
    pub destination: Option<IpAddr>,
    /// Port of the destination.
    pub port: Option<u16>,
}

/// `scan.trw` as a name of Zeek's: `HookProbe::scan_trw`.
#[must_use]
pub fn note(detector: &str) -> String {
    let word = |byte: char| if byte.is_ascii_alphanumeric() { byte } else { '_' };
    format!("HookProbe::{}", detector.chars().map(word).collect::<String>())
}

/// Writes the line.
pub(super) fn write(notice: &Notice<'_>, files: &mut Files) {
    let [ts, uid, orig_h, orig_p, resp_h, resp_p] = match notice.ident {
        Some(ident) => ident.columns(notice.time_ns),
        None => {
            let unset = Value::Unset;
            [Value::Time(notice.time_ns), unset, unset, unset, unset, unset]
        }
    };
    let proto = notice.protocol.map(super::conn::transport);
    files.row(
        Kind::Notice,
        notice.time_ns,
        &[
            ts,
            uid,
            orig_h,
            orig_p,
            resp_h,
            resp_p,
            Value::Unset,
            Value::Unset,
            Value::Unset,
            proto.map_or(Value::Unset, Value::word),
            Value::word(notice.note),
            Value::word(notice.message),
            if notice.sub.is_empty() { Value::Unset } else { Value::word(notice.sub) },
            Value::Addr(notice.source),
            notice.destination.map_or(Value::Unset, Value::Addr),
            notice.port.map_or(Value::Unset, Value::Port),
            Value::Unset,
            Value::word(PEER),
            Value::List(&[Value::word("Notice::ACTION_LOG")]),
            Value::List(&[]),
            Value::Interval(SUPPRESS_NS),
            Value::Unset,
            Value::Unset,
            Value::Unset,
            Value::Unset,
            Value::Unset,
        ],
    );
}

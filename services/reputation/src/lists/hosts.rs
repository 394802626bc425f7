//! `0.0.0.0 ads.example trackers.example # comment`, as hosts(5).

use std::net::IpAddr;

use super::{Entry, Garbage, Sink, words};

/// Names that every hosts file maps for the machine itself.
const OWN: [&[u8]; 2] = [b"localhost.localdomain", b"localhost.local"];

pub(super) fn line<F: FnMut(Entry<'_>)>(line: &[u8], sink: &mut Sink<'_, F>) {
    let text = line.split(|byte| *byte == b'#').next().unwrap_or_default();
    let mut words = words(text);
    let Some(first) = words.next() else { return sink.blank() };
    // `fe80::1%lo0` is an address with a zone.
    let first = first.split(|byte| *byte == b'%').next().unwrap_or_default();
    let Some(address) = str::from_utf8(first).ok().and_then(|text| text.parse::<IpAddr>().ok())
    else {
        return sink.reject(Garbage::Malformed);
    };
    let mut is_alone = true;
    for name in words {
        is_alone = false;
        if !(address.is_loopback() || address.is_unspecified()) {
            sink.reject(Garbage::RealAddress);
        } else if OWN.contains(&name) {
            sink.reject(Garbage::SingleLabel);
        } else {
            sink.block(name);
        }
    }
    if is_alone {
        sink.reject(Garbage::Malformed);
    }
}

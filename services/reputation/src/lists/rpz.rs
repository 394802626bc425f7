//! Response policy zones (draft-vixie-dnsop-dns-rpz): a zone whose owners are the names.
//!
//! Only triggers by name are taken. Owners may be relative, or absolute below `$ORIGIN` or the
//! owner of the SOA record. What spans lines (the SOA) is skipped over for a bounded number of
//! lines, so that a bracket that is never closed does not swallow the list.

use std::net::IpAddr;

use super::{Entry, Garbage, LINE_BYTES_MAX, Sink, words};
use crate::name;

/// Lines that one record may go over. 16: a SOA has eight fields.
const RECORD_LINES_MAX: usize = 16;
/// Longest owner that is remembered; longer ones are no names.
const OWNER_BYTES_MAX: usize = 512;
const _: () = assert!(OWNER_BYTES_MAX < LINE_BYTES_MAX);

/// Last labels of owners that are triggers by something else.
const OTHER_TRIGGERS: [&[u8]; 4] = [b"rpz-ip", b"rpz-client-ip", b"rpz-nsip", b"rpz-nsdname"];

/// What goes over from line to line.
#[derive(Debug, Clone, Default)]
pub(super) struct Zone {
    /// Lower case, without the final dot.
    origin: Vec<u8>,
    owner: Vec<u8>,
    /// Lines left of a record in brackets.
    bracket_lines: usize,
}

impl Zone {
    pub(super) fn line<F: FnMut(Entry<'_>)>(&mut self, line: &[u8], sink: &mut Sink<'_, F>) {
        let text = line.split(|byte| *byte == b';').next().unwrap_or_default();
        if self.bracket_lines > 0 {
            self.bracket_lines = if text.contains(&b')') { 0 } else { self.bracket_lines - 1 };
            return sink.blank();
        }
        let is_continued = text.first().is_some_and(u8::is_ascii_whitespace);
        let mut words = words(text).peekable();
        let Some(first) = words.peek().copied() else { return sink.blank() };
        if first.starts_with(b"$") {
            words.next();
            return self.directive(first, words.next(), sink);
        }
        if !is_continued {
            words.next();
            self.owner.clear();
            self.owner.extend(first.iter().take(OWNER_BYTES_MAX));
        }
        let Some(kind) = words.find(|word| !is_ttl_or_class(word)) else {
            return sink.reject(Garbage::Malformed);
        };
        if text.contains(&b'(') && !text.contains(&b')') {
            self.bracket_lines = RECORD_LINES_MAX;
        }
        let data = words.next();
        match kind.to_ascii_uppercase().as_slice() {
            b"SOA" => {
                if self.origin.is_empty() && self.owner.ends_with(b".") {
                    self.set_origin(&self.owner.clone());
                }
                sink.blank();
            }
            b"NS" => sink.blank(),
            b"CNAME" => match data {
                Some(target) => self.cname(target, sink),
                None => sink.reject(Garbage::Malformed),
            },
            b"A" | b"AAAA" => match data.and_then(|data| str::from_utf8(data).ok()?.parse().ok()) {
                Some(address) => self.address(address, sink),
                None => sink.reject(Garbage::Malformed),
            },
            b"TXT" | b"MX" | b"SRV" | b"DNAME" | b"RRSIG" | b"NSEC" | b"DNSKEY" => {
                sink.reject(Garbage::Unsupported);
            }
            _ => sink.reject(Garbage::Malformed),
        }
    }

    fn directive<F: FnMut(Entry<'_>)>(
        &mut self,
        name: &[u8],
        value: Option<&[u8]>,
        sink: &mut Sink<'_, F>,
    ) {
        match (name.to_ascii_uppercase().as_slice(), value) {
            (b"$TTL", Some(_)) => sink.blank(),
            (b"$ORIGIN", Some(origin)) => {
                self.set_origin(origin);
                sink.blank();
            }
            // $INCLUDE and $GENERATE.
            _ => sink.reject(Garbage::Unsupported),
        }
    }

    fn set_origin(&mut self, text: &[u8]) {
        self.origin.clear();
        if let Some(name) = name::lower(text) {
            self.origin.extend_from_slice(name.as_bytes());
        }
    }

    fn cname<F: FnMut(Entry<'_>)>(&self, target: &[u8], sink: &mut Sink<'_, F>) {
        let Some(owner) = self.name(sink) else { return };
        match target.to_ascii_lowercase().as_slice() {
            b"rpz-passthru." => sink.allow(&owner),
            // Only asks for another transport.
            b"rpz-tcp-only." => sink.reject(Garbage::Unsupported),
            // `.`, `*.`, `rpz-drop.`, or a garden with a wall.
            _ => sink.block(&owner),
        }
    }

    fn address<F: FnMut(Entry<'_>)>(&self, address: IpAddr, sink: &mut Sink<'_, F>) {
        let Some(owner) = self.name(sink) else { return };
        if address.is_loopback() || address.is_unspecified() {
            sink.block(&owner);
        } else {
            sink.reject(Garbage::RealAddress);
        }
    }

    /// The owner as the name that it speaks of.
    fn name<F: FnMut(Entry<'_>)>(&self, sink: &mut Sink<'_, F>) -> Option<Vec<u8>> {
        let mut owner = self.owner.to_ascii_lowercase();
        if owner.is_empty() || owner == b"@" {
            sink.reject(Garbage::Malformed);
            return None;
        }
        if owner.ends_with(b".") {
            owner.pop();
            let relative = owner
                .strip_suffix(self.origin.as_slice())
                .and_then(|rest| rest.strip_suffix(b"."))
                .filter(|_| !self.origin.is_empty());
            let Some(relative) = relative else {
                sink.reject(Garbage::Malformed);
                return None;
            };
            owner = relative.to_vec();
        }
        let last = owner.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        if OTHER_TRIGGERS.contains(&last) {
            sink.reject(Garbage::Unsupported);
            return None;
        }
        Some(owner)
    }
}

/// `3600`, `1h`, `IN`.
fn is_ttl_or_class(word: &[u8]) -> bool {
    word.first().is_some_and(u8::is_ascii_digit) || word.eq_ignore_ascii_case(b"in")
}

//! JA4 of clients (BSD-3, FoxIO): readable part, hash of sorted suites, hash of sorted extensions
//! and signature algorithms.

use super::{
    digits::{push_hex, push_hex_word},
    is_grease,
};
use crate::app::tls::ClientHello;
use ring::digest::{SHA256, digest};

/// First letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ja4Transport {
    /// `t`.
    Tcp,
    /// `q`.
    Quic,
    /// `d`.
    Dtls,
}

/// `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[must_use]
pub fn ja4(transport: Ja4Transport, hello: &ClientHello) -> String {
    let (ciphers, extensions) = lists(hello);
    format!("{}_{}_{}", readable(transport, hello), hash12(&ciphers), hash12(&extensions))
}

/// JA4_r: the lists that are hashed, in hex, sorted.
#[must_use]
pub fn ja4_raw(transport: Ja4Transport, hello: &ClientHello) -> String {
    let (ciphers, extensions) = lists(hello);
    format!("{}_{ciphers}_{extensions}", readable(transport, hello))
}

fn readable(transport: Ja4Transport, hello: &ClientHello) -> String {
    let letter = match transport {
        Ja4Transport::Tcp => 't',
        Ja4Transport::Quic => 'q',
        Ja4Transport::Dtls => 'd',
    };
    let offered = hello.versions.iter().copied().filter(|value| !is_grease(*value)).max();
    let version = match offered.unwrap_or(hello.version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    };
    let name = if has(hello, 0) { 'd' } else { 'i' };
    let ciphers = hello.ciphers.iter().filter(|value| !is_grease(**value)).count().min(99);
    let kinds = hello.extensions.iter().filter(|extension| !is_grease(extension.kind));
    let (first, last) = alpn(hello);
    format!("{letter}{version}{name}{ciphers:02}{:02}{first}{last}", kinds.count().min(99))
}

fn has(hello: &ClientHello, kind: u16) -> bool {
    hello.extensions.iter().any(|extension| extension.kind == kind)
}

/// First and last character of the first ALPN name; `9` stands for what is not ASCII.
fn alpn(hello: &ClientHello) -> (char, char) {
    let name = hello.alpn.first().map(Vec::as_slice).unwrap_or_default();
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return ('0', '0') };
    if !first.is_ascii() {
        return ('9', '9');
    }
    let letter = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { '9' };
    // One character stands for both ends only in some implementations; FoxIO's writes `0` behind it.
    if name.len() == 1 { (letter(first), '0') } else { (letter(first), letter(last)) }
}

fn lists(hello: &ClientHello) -> (String, String) {
    let mut ciphers: Vec<u16> =
        hello.ciphers.iter().copied().filter(|value| !is_grease(*value)).collect();
    ciphers.sort_unstable();
    let mut kinds: Vec<u16> = hello
        .extensions
        .iter()
        .map(|extension| extension.kind)
        .filter(|kind| !is_grease(*kind) && !matches!(kind, 0 | 16))
        .collect();
    kinds.sort_unstable();
    let mut extensions = hex_list(kinds.into_iter());
    // Without extensions FoxIO hashes nothing, whatever follows.
    let signatures = hex_list(hello.signatures.iter().copied().filter(|value| !is_grease(*value)));
    if !extensions.is_empty() && !signatures.is_empty() {
        extensions.push('_');
        extensions.push_str(&signatures);
    }
    (hex_list(ciphers.into_iter()), extensions)
}

fn hex_list(values: impl Iterator<Item = u16>) -> String {
    // Comma and four digits; hints of filters say nothing about the least.
    let mut text = String::with_capacity(values.size_hint().1.unwrap_or(0).min(64) * 5);
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_hex_word(&mut text, value);
    }
    text
}

/// The first twelve hex digits of SHA-256, or twelve zeros for nothing.
fn hash12(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    let mut hex = String::with_capacity(12);
    let hash = digest(&SHA256, text.as_bytes());
    push_hex(&mut hex, hash.as_ref().iter().copied().take(6));
    hex
}

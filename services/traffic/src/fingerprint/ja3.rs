//! JA3 and JA3S (BSD-3, Salesforce): MD5 over version, suites, extensions, groups, formats.

use super::{digits::push_decimal, is_grease, md5_hex};
use crate::app::tls::{ClientHello, ServerHello};

/// Text and MD5 in hex of a client.
#[must_use]
pub fn ja3(hello: &ClientHello) -> (String, String) {
    // Most numbers have up to five digits; what a browser sends has 60 to 120 of them.
    let mut text = String::with_capacity(512);
    push_decimal(&mut text, hello.version);
    text.push(',');
    join(&mut text, hello.ciphers.iter().copied().filter(|value| !is_grease(*value)));
    text.push(',');
    let kinds = hello.extensions.iter().map(|extension| extension.kind);
    join(&mut text, kinds.filter(|value| !is_grease(*value)));
    text.push(',');
    join(&mut text, hello.groups.iter().copied().filter(|value| !is_grease(*value)));
    text.push(',');
    join(&mut text, hello.point_formats.iter().copied().map(u16::from));
    let md5 = md5_hex(text.as_bytes());
    (text, md5)
}

/// Text and MD5 in hex of a server.
#[must_use]
pub fn ja3s(hello: &ServerHello) -> (String, String) {
    let mut text = format!("{},{},", hello.version, hello.cipher);
    join(&mut text, hello.extensions.iter().map(|extension| extension.kind));
    let md5 = md5_hex(text.as_bytes());
    (text, md5)
}

fn join(text: &mut String, values: impl Iterator<Item = u16>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push('-');
        }
        push_decimal(text, value);
    }
}

//! Fingerprints of clients, servers and devices. Pure functions over what the parsers read.

mod dhcp;
pub(crate) mod digits;
mod hassh;
mod ja3;
mod ja4;
mod tcp_syn;

pub use dhcp::{DhcpFingerprint, dhcp};
pub use hassh::{hassh_client, hassh_server};
pub use ja3::{ja3, ja3s};
pub use ja4::{Ja4Transport, ja4, ja4_raw};
pub use tcp_syn::{Quirks, SynFields, TcpOption, tcp_syn};

use md5::{Digest as _, Md5};

/// MD5 in lower-case hex: what JA3 and HASSH are defined over.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(32);
    digits::push_hex(&mut hex, Md5::digest(bytes));
    hex
}

/// GREASE values (RFC 8701): 0x0a0a, 0x1a1a, ... 0xfafa.
#[must_use]
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

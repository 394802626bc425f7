//! HASSH (BSD-3, Salesforce): MD5 over an SSH side's algorithm lists.

use super::md5_hex;
use crate::app::ssh::KexInit;

/// Text and MD5 in hex of a client: what it offers for client to server.
#[must_use]
pub fn hassh_client(kex: &KexInit) -> (String, String) {
    hassh(kex, 0)
}

/// Text and MD5 in hex of a server: what it offers for server to client.
#[must_use]
pub fn hassh_server(kex: &KexInit) -> (String, String) {
    hassh(kex, 1)
}

fn hassh(kex: &KexInit, index: usize) -> (String, String) {
    let pick = |lists: &[Vec<u8>; 2]| {
        lists.get(index).map(|list| String::from_utf8_lossy(list).into_owned()).unwrap_or_default()
    };
    let text = format!(
        "{};{};{};{}",
        String::from_utf8_lossy(&kex.kex),
        pick(&kex.ciphers),
        pick(&kex.macs),
        pick(&kex.compressions)
    );
    let md5 = md5_hex(text.as_bytes());
    (text, md5)
}

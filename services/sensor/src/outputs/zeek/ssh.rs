//! `ssh.log`: banners and the algorithms that both sides agree on.

use hookprobe_traffic::app::ssh::{KexInit, Side, Tx};

use super::{
    Ident,
    files::{Files, Kind},
    log::Value,
};

/// Algorithms as both sides settle on them.
struct Agreed {
    cipher: Vec<u8>,
    mac: Vec<u8>,
    compression: Vec<u8>,
    kex: Vec<u8>,
    host_key: Vec<u8>,
}

/// Writes the line of one connection.
pub(super) fn write(ident: &Ident, tx: &Tx, files: &mut Files) {
    let banner = |side: &'_ Side| -> Option<Vec<u8>> {
        (!side.banner.is_empty()).then(|| side.banner.clone())
    };
    let (client, server) = (banner(&tx.client), banner(&tx.server));
    let agreed = tx.client.kex.as_deref().zip(tx.server.kex.as_deref());
    let agreed = agreed.map(|(client, server)| Agreed::of(client, server));
    let algorithm = |pick: fn(&Agreed) -> &Vec<u8>| {
        Value::maybe(agreed.as_ref().map(|agreed| pick(agreed).as_slice()))
    };
    let direction = match (ident.is_orig_local(), ident.is_resp_local()) {
        (true, false) => Value::word("OUTBOUND"),
        (false, true) => Value::word("INBOUND"),
        (true, true) | (false, false) => Value::Unset,
    };
    let version = client.as_deref().zip(server.as_deref());
    let version = version.and_then(|(client, server)| version_of(client, server));
    let [ts, uid, orig_h, orig_p, resp_h, resp_p] = ident.columns(tx.at_ns);
    files.row(
        Kind::Ssh,
        tx.at_ns,
        &[
            ts,
            uid,
            orig_h,
            orig_p,
            resp_h,
            resp_p,
            Value::count(version),
            // Whether somebody got in is a guess from encrypted lengths; it is not made here.
            Value::Unset,
            Value::Count(0),
            direction,
            Value::maybe(client.as_deref()),
            Value::maybe(server.as_deref()),
            algorithm(|agreed| &agreed.cipher),
            algorithm(|agreed| &agreed.mac),
            algorithm(|agreed| &agreed.compression),
            algorithm(|agreed| &agreed.kex),
            algorithm(|agreed| &agreed.host_key),
            Value::Unset,
        ],
    );
}

/// 1.99 speaks both (RFC 4253, section 5.1).
fn version_of(client: &[u8], server: &[u8]) -> Option<u64> {
    let side = |banner: &[u8]| {
        let rest = banner.strip_prefix(b"SSH-").unwrap_or_default();
        (rest.starts_with(b"1"), rest.starts_with(b"2") || rest.starts_with(b"1.99"))
    };
    let ((client_1, client_2), (server_1, server_2)) = (side(client), side(server));
    if client_2 && server_2 {
        Some(2)
    } else if client_1 && server_1 {
        Some(1)
    } else {
        None
    }
}

impl Agreed {
    fn of(client: &KexInit, server: &KexInit) -> Self {
        Self {
            cipher: both_ways(&client.ciphers, &server.ciphers),
            mac: both_ways(&client.macs, &server.macs),
            compression: both_ways(&client.compressions, &server.compressions),
            kex: first_common(&client.kex, &server.kex),
            host_key: first_common(&client.host_key, &server.host_key),
        }
    }
}

/// The client's first that the server has, too (RFC 4253, section 7.1).
fn first_common(client: &[u8], server: &[u8]) -> Vec<u8> {
    let split = |list: &'_ [u8]| -> Vec<Vec<u8>> {
        list.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect()
    };
    let server = split(server);
    let found = split(client).into_iter().find(|one| server.contains(one));
    found.unwrap_or_else(|| b"Algorithm negotiation failed".to_vec())
}

fn both_ways(client: &[Vec<u8>; 2], server: &[Vec<u8>; 2]) -> Vec<u8> {
    let [client_there, client_back] = client;
    let [server_there, server_back] = server;
    let there = first_common(client_there, server_there);
    let back = first_common(client_back, server_back);
    if there == back {
        return there;
    }
    [b"To server: ".as_slice(), &there, b", to client: ", &back].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |client: &str, server: &str, expect| {
            assert_eq!(version_of(client.as_bytes(), server.as_bytes()), expect);
        };
        check("SSH-2.0-a", "SSH-2.0-b", Some(2));
        check("SSH-1.99-a", "SSH-2.0-b", Some(2));
        check("SSH-1.5-a", "SSH-1.99-b", Some(1));
        check("SSH-1.5-a", "SSH-2.0-b", None);
    }

    #[test]
    fn the_clients_order_counts() {
        assert_eq!(first_common(b"a,b,c", b"c,b"), b"b");
        assert_eq!(first_common(b"a", b"b"), b"Algorithm negotiation failed");
    }
}

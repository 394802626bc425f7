//! `ssl.log`: one line for a handshake, over TCP or inside QUIC.

use hookprobe_traffic::{
    Direction,
    app::{quic, tls},
};

use super::{
    Ident,
    files::{Files, Kind},
    log::Value,
    names,
};

/// What a handshake inside QUIC has shown so far.
#[derive(Debug, Default)]
pub(super) struct QuicHello {
    first_ns: u64,
    server_name: Option<Vec<u8>>,
    version: Option<u16>,
    cipher: Option<u16>,
    curve: Option<u16>,
    is_resumed: bool,
    history: String,
}

/// The columns behind the connection's.
struct Line<'a> {
    version: Option<String>,
    cipher: Option<String>,
    curve: Option<String>,
    server_name: Option<&'a [u8]>,
    is_resumed: bool,
    last_alert: Option<String>,
    next_protocol: Option<&'a [u8]>,
    is_established: bool,
    history: &'a str,
    server_chain: &'a [tls::Certificate],
    client_chain: &'a [tls::Certificate],
}

/// Writes the line of a handshake over TCP.
pub(super) fn write(ident: &Ident, tx: &tls::Tx, files: &mut Files) {
    let server = tx.server_hello.as_deref();
    let line = Line {
        version: server.map(|hello| names::version(negotiated(tx, hello))),
        cipher: server.map(|hello| names::cipher(hello.cipher)),
        curve: tx.curve.map(names::curve),
        server_name: tx.sni(),
        is_resumed: tx.is_resumed,
        last_alert: tx.last_alert.map(|(_, _, description)| names::alert(description)),
        next_protocol: server.and_then(|hello| hello.alpn.first()).map(Vec::as_slice),
        is_established: tx.is_established,
        history: &tx.history,
        server_chain: &tx.server_chain,
        client_chain: &tx.client_chain,
    };
    line.write(ident, tx.at_ns, files);
}

/// Drafts of TLS 1.3 keep their own number.
fn negotiated(tx: &tls::Tx, hello: &tls::ServerHello) -> u16 {
    match hello.chosen_version {
        Some(version) => version,
        None if tx.version == 2 => 2,
        None => hello.version,
    }
}

impl QuicHello {
    /// Takes the hellos that a datagram completed.
    pub(super) fn take(&mut self, tx: &quic::Tx) {
        if self.history.is_empty() && (tx.client_hello.is_some() || tx.server_hello.is_some()) {
            self.first_ns = tx.at_ns;
        }
        if let Some(hello) = &tx.client_hello {
            self.server_name = hello.server_name.clone().or_else(|| tx.sni.clone());
            self.history.push(letter(tx.direction, 'c'));
        }
        if let Some(hello) = &tx.server_hello {
            self.version = Some(hello.negotiated());
            self.cipher = Some(hello.cipher);
            self.curve = hello.group;
            // Pre-shared key accepted (RFC 8446, section 4.2.11).
            self.is_resumed = hello.extensions.iter().any(|extension| extension.kind == 41);
            self.history.push(letter(tx.direction, 's'));
        }
    }

    /// Writes the line when a hello was seen.
    pub(super) fn write(&self, ident: &Ident, files: &mut Files) {
        if self.history.is_empty() {
            return;
        }
        let line = Line {
            version: self.version.map(names::version),
            cipher: self.cipher.map(names::cipher),
            curve: self.curve.map(names::curve),
            server_name: self.server_name.as_deref(),
            is_resumed: self.is_resumed,
            last_alert: None,
            next_protocol: None,
            is_established: false,
            history: &self.history,
            server_chain: &[],
            client_chain: &[],
        };
        line.write(ident, self.first_ns, files);
    }
}

fn letter(direction: Direction, letter: char) -> char {
    match direction {
        Direction::ToServer => letter.to_ascii_uppercase(),
        Direction::ToClient => letter,
    }
}

impl Line<'_> {
    fn write(&self, ident: &Ident, first_ns: u64, files: &mut Files) {
        let word = |text: &'_ Option<String>| -> Option<Vec<u8>> {
            text.as_ref().map(|text| text.clone().into_bytes())
        };
        let (version, cipher) = (word(&self.version), word(&self.cipher));
        let (curve, alert) = (word(&self.curve), word(&self.last_alert));
        let chain = |certificates: &'_ [tls::Certificate]| -> Vec<Vec<u8>> {
            certificates.iter().map(|one| one.sha256().into_bytes()).collect()
        };
        let (server, client) = (chain(self.server_chain), chain(self.client_chain));
        let server: Vec<Value<'_>> = server.iter().map(|hash| Value::Text(hash)).collect();
        let client: Vec<Value<'_>> = client.iter().map(|hash| Value::Text(hash)).collect();
        let has_chain = !server.is_empty() || !client.is_empty();
        let list = |values| if has_chain { Value::List(values) } else { Value::Unset };
        let [ts, uid, orig_h, orig_p, resp_h, resp_p] = ident.columns(first_ns);
        files.row(
            Kind::Ssl,
            first_ns,
            &[
                ts,
                uid,
                orig_h,
                orig_p,
                resp_h,
                resp_p,
                Value::maybe(version.as_deref()),
                Value::maybe(cipher.as_deref()),
                Value::maybe(curve.as_deref()),
                Value::maybe(self.server_name),
                Value::Bool(self.is_resumed),
                Value::maybe(alert.as_deref()),
                Value::maybe(self.next_protocol),
                Value::Bool(self.is_established),
                Value::word(self.history),
                list(&server),
                list(&client),
                self.sni_matches().map_or(Value::Unset, Value::Bool),
            ],
        );
    }

    /// Whether the leaf is for the name that the client asked for.
    fn sni_matches(&self) -> Option<bool> {
        let asked = std::str::from_utf8(self.server_name?).ok()?.to_ascii_lowercase();
        let leaf = self.server_chain.first()?;
        let names =
            leaf.sans.iter().chain(leaf.common_name.as_ref().filter(|_| leaf.sans.is_empty()));
        Some(names.into_iter().any(|name| covers(&name.to_ascii_lowercase(), &asked)))
    }
}

/// RFC 6125, section 6.4.3: an asterisk stands for the first label.
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_certificates() {
        assert!(covers("*.gstatic.com", "ssl.gstatic.com"));
        assert!(!covers("*.gstatic.com", "a.ssl.gstatic.com"));
        assert!(!covers("*.gstatic.com", "gstatic.com"));
        assert!(covers("example.org", "example.org"));
    }
}

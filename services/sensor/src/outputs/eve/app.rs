//! The object of one transaction, by protocol.

use std::net::Ipv4Addr;

use base64ct::{Base64, Encoding as _};

use hookprobe_traffic::{
    Direction,
    app::{Proto, TxRef, dhcp, quic, smtp, ssh, tls},
};
use serde_json::{Map, Value, json};

use super::{
    Details, dns, http, records,
    text::{hex, text},
};
use crate::outputs::time;

/// Most bytes of an SSH banner that are written.
const BANNER_BYTES_MAX: usize = 256;

/// The transaction's objects with their names, e.g. `[("http", {..})]`; mail has two. Empty when
/// there is nothing to say about it yet.
#[must_use]
pub fn objects(tx: TxRef<'_>, proto: Option<Proto>) -> Vec<(&'static str, Value)> {
    match tx {
        TxRef::Http(tx) => http::http(tx).map(|value| ("http", value)).into_iter().collect(),
        TxRef::Dns(tx) if proto == Some(Proto::Mdns) => vec![("mdns", dns::mdns(tx))],
        TxRef::Dns(tx) => vec![("dns", dns::dns(tx))],
        TxRef::Tls(tx) => vec![("tls", tls(tx))],
        TxRef::Ssh(tx) => ssh(tx).map(|value| ("ssh", value)).into_iter().collect(),
        TxRef::Smtp(tx) => smtp(tx),
        TxRef::Quic(tx) => vec![("quic", quic(tx))],
        TxRef::Dhcp(tx) => vec![("dhcp", dhcp(tx))],
        TxRef::Record(tx) => vec![records::object(tx)],
    }
}

/// Takes away what the settings do not want made.
pub(super) fn strip(tx: TxRef<'_>, object: &mut Value, details: &Details) {
    let Some(object) = object.as_object_mut() else { return };
    let [ja3, ja4] = details.fingerprints;
    if matches!(tx, TxRef::Tls(_) | TxRef::Quic(_)) {
        object.retain(|name, _| match name.as_str() {
            "ja3" | "ja3s" => ja3 || matches!(tx, TxRef::Quic(_)),
            "ja4" => ja4,
            _ => true,
        });
    }
}

/// An object of an event of its own, as the settings want it.
pub(super) fn shaped(tx: TxRef<'_>, mut object: Value, details: &Details) -> Value {
    /// Fields of TLS that are always written.
    const TLS_BASIC: [&str; 4] = ["subject", "issuerdn", "subjectaltname", "session_resumed"];
    strip(tx, &mut object, details);
    let Value::Object(mut out) = object else { return object };
    match tx {
        TxRef::Http(tx) if tx.stream == 0 && !tx.is_control() => {
            if !details.is_http_extended {
                out = http::basic(tx);
            }
            http::more(tx, details, &mut out);
        }
        TxRef::Tls(tx) => {
            if !details.tls_custom.is_empty() {
                tls_custom(tx, &mut out);
                out.retain(|name, _| is_wanted(name, &details.tls_custom));
            } else if !details.is_tls_extended {
                out.retain(|name, _| TLS_BASIC.contains(&name.as_str()));
            }
        }
        _ => {}
    }
    Value::Object(out)
}

/// A field of TLS by its name in suricata.yaml, which is not always that in events.
fn is_wanted(name: &str, custom: &[String]) -> bool {
    let name = match name {
        "issuerdn" => "issuer",
        "notbefore" => "not_before",
        "notafter" => "not_after",
        other => other,
    };
    custom.iter().any(|wanted| wanted == name)
}

/// What only asking for it brings.
fn tls_custom(tx: &tls::Tx, out: &mut Map<String, Value>) {
    let (Some(leaf), encode) = (tx.server_chain.first(), Base64::encode_string) else { return };
    put(out, "certificate", encode(&leaf.der));
    let chain: Vec<String> = tx.server_chain.iter().map(|one| encode(&one.der)).collect();
    put(out, "chain", chain);
}

fn put(out: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    out.insert(name.into(), value.into());
}

/// Only what is there.
fn put_text(out: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        put(out, name, value);
    }
}

/// The `tls` object, the extended one.
#[must_use]
pub(super) fn tls(tx: &tls::Tx) -> Value {
    let mut out = Map::new();
    if let Some(certificate) = tx.certificate() {
        put_certificate(&mut out, certificate);
        if !certificate.sans.is_empty() {
            put(&mut out, "subjectaltname", certificate.sans.clone());
        }
    }
    // In TLS 1.3 every session looks like one that is resumed.
    let is_modern = tx.server_hello.as_ref().is_some_and(|hello| hello.negotiated() >= 0x0304);
    if tx.is_resumed && tx.certificate().is_none() && tx.server_hello.is_some() && !is_modern {
        put(&mut out, "session_resumed", true);
    }
    if let Some(sni) = tx.sni() {
        put(&mut out, "sni", text(sni));
    }
    put(&mut out, "version", tx.version_name());
    put_ja(&mut out, "ja3", tx.ja3.as_ref());
    put_ja(&mut out, "ja3s", tx.ja3s.as_ref());
    if let Some(ja4) = &tx.ja4 {
        put_text(&mut out, "ja4", ja4);
    }
    let names = |alpn: &[Vec<u8>]| alpn.iter().map(|name| text(name)).collect::<Vec<_>>();
    let client = tx.client_hello.as_ref().map(|hello| names(&hello.alpn));
    let server = tx.server_hello.as_ref().map(|hello| names(&hello.alpn));
    for (name, alpn) in [("client_alpns", client), ("server_alpns", server)] {
        if let Some(alpn) = alpn.filter(|alpn| !alpn.is_empty()) {
            put(&mut out, name, alpn);
        }
    }
    if let Some(certificate) = tx.client_chain.first() {
        let mut client = Map::new();
        put_certificate(&mut client, certificate);
        put(&mut out, "client", Value::Object(client));
    }
    Value::Object(out)
}

fn put_certificate(out: &mut Map<String, Value>, certificate: &tls::Certificate) {
    put_text(out, "subject", &certificate.subject);
    put_text(out, "issuerdn", &certificate.issuer);
    put_text(out, "serial", &certificate.serial);
    put_text(out, "fingerprint", &certificate.fingerprint);
    for (name, at) in
        [("notbefore", certificate.not_before_s), ("notafter", certificate.not_after_s)]
    {
        if let Some(seconds) = at.and_then(|seconds| u64::try_from(seconds).ok()) {
            put(out, name, time::seconds(seconds));
        }
    }
}

fn put_ja(out: &mut Map<String, Value>, name: &str, ja: Option<&(String, String)>) {
    if let Some((string, hash)) = ja.filter(|(_, hash)| !hash.is_empty()) {
        put(out, name, json!({ "hash": hash, "string": string }));
    }
}

/// The `ssh` object; none before a banner.
#[must_use]
pub(super) fn ssh(tx: &ssh::Tx) -> Option<Value> {
    let mut out = Map::new();
    for (name, side) in [("client", &tx.client), ("server", &tx.server)] {
        if side.proto.is_empty() {
            continue;
        }
        let cut = |bytes: &[u8]| text(bytes.get(..BANNER_BYTES_MAX).unwrap_or(bytes));
        let mut object = Map::new();
        put(&mut object, "proto_version", cut(&side.proto));
        put_text(&mut object, "software_version", &cut(&side.software));
        if !side.hassh.is_empty() {
            put(&mut object, "hassh", json!({ "hash": side.hassh, "string": side.hassh_string }));
        }
        put(&mut out, name, Value::Object(object));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn smtp(tx: &smtp::Tx) -> Vec<(&'static str, Value)> {
    let mut out = Map::new();
    put_text(&mut out, "helo", &text(&tx.helo));
    put_text(&mut out, "mail_from", &text(&tx.mail_from));
    if !tx.rcpt_to.is_empty() {
        let all: Vec<String> = tx.rcpt_to.iter().map(|rcpt| text(rcpt)).collect();
        put(&mut out, "rcpt_to", all);
    }
    let mut objects = vec![("smtp", Value::Object(out))];
    if let Some(email) = &tx.email {
        objects.push(("email", self::email(email, tx.progress)));
    }
    objects
}

fn email(email: &smtp::Email, progress: u8) -> Value {
    let mut out = Map::new();
    let list = |value: &[u8]| -> Vec<String> {
        value.split(|byte| *byte == b',').map(|one| text(one.trim_ascii())).collect()
    };
    if let Some(from) = email.header("from") {
        put(&mut out, "from", text(from));
    }
    for name in ["to", "cc"] {
        if let Some(value) = email.header(name) {
            put(&mut out, name, list(value));
        }
    }
    let is_done = progress == smtp::progress::COMPLETE;
    put(&mut out, "status", if is_done { "PARSE_DONE" } else { "BODY_STARTED" });
    let names: Vec<String> = email
        .attachments
        .iter()
        .map(|attachment| text(&attachment.file.name))
        .filter(|name| !name.is_empty())
        .collect();
    if !names.is_empty() {
        put(&mut out, "attachment", names);
    }
    if !email.urls.is_empty() {
        let urls: Vec<String> = email.urls.iter().map(|url| text(url)).collect();
        put(&mut out, "url", urls);
    }
    Value::Object(out)
}

fn quic(tx: &quic::Tx) -> Value {
    let mut out = Map::new();
    put(&mut out, "version", tx.version_name());
    if let Some(sni) = &tx.sni {
        put(&mut out, "sni", text(sni));
    }
    if let Some(ua) = &tx.ua {
        put(&mut out, "ua", text(ua));
    }
    if !tx.cyu.is_empty() {
        let cyu = tx.cyu.iter().map(|(string, hash)| json!({ "hash": hash, "string": string }));
        put(&mut out, "cyu", cyu.collect::<Value>());
    }
    let name = if tx.direction == Direction::ToServer { "ja3" } else { "ja3s" };
    put_ja(&mut out, name, tx.ja3.as_ref());
    if let Some(ja4) = &tx.ja4 {
        put_text(&mut out, "ja4", ja4);
    }
    let client = tx.client_hello.as_ref().map(|hello| &hello.extensions);
    let server = tx.server_hello.as_ref().map(|hello| &hello.extensions);
    if let Some(extensions) = client.or(server).filter(|extensions| !extensions.is_empty()) {
        let list = extensions.iter().map(|extension| json!({ "type": extension.kind }));
        put(&mut out, "extensions", list.collect::<Value>());
    }
    Value::Object(out)
}

/// Names of requested options that EVE writes.
const DHCP_PARAMETERS: [(u8, &str); 8] = [
    (1, "subnet_mask"),
    (3, "router"),
    (6, "dns_server"),
    (15, "domain"),
    (35, "arp_timeout"),
    (42, "ntp_server"),
    (66, "tftp_server_name"),
    (150, "tftp_server_ip"),
];

fn dhcp(tx: &dhcp::Tx) -> Value {
    let message = &tx.message;
    let mut out = Map::new();
    let ip = |bytes: [u8; 4]| Ipv4Addr::from(bytes).to_string();
    let kind = match message.op {
        1 => "request",
        2 => "reply",
        _ => "<unknown>",
    };
    put(&mut out, "type", kind);
    put(&mut out, "id", message.xid);
    put(&mut out, "client_mac", hex(&message.client_mac, ":"));
    put(&mut out, "assigned_ip", ip(message.assigned_ip));
    put(&mut out, "client_ip", ip(message.client_ip));
    if message.op == 2 {
        put(&mut out, "relay_ip", ip(message.relay_ip));
        put(&mut out, "next_server_ip", ip(message.next_server_ip));
    }
    if let Some(id) = message.option(61) {
        put(&mut out, "client_id", hex(id.get(1..).unwrap_or_default(), ":"));
    }
    for (name, code) in [("lease_time", 51), ("renewal_time", 58), ("rebinding_time", 59)] {
        if let Some(seconds) = message.seconds(code) {
            put(&mut out, name, seconds);
        }
    }
    for (name, code) in [("subnet_mask", 1), ("requested_ip", 50)] {
        if let Some(address) = message.address(code) {
            put(&mut out, name, ip(address));
        }
    }
    for (name, value) in
        [("hostname", message.host_name()), ("vendor_class_identifier", message.vendor_class())]
    {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            put(&mut out, name, text(value));
        }
    }
    if message.kind().is_some() {
        put(&mut out, "dhcp_type", message.kind_name().unwrap_or("unknown"));
    }
    if let Some(asked) = message.parameters() {
        let name = |code: &u8| DHCP_PARAMETERS.iter().find(|(known, _)| known == code);
        let names = asked.iter().filter_map(name).map(|(_, name)| *name);
        put(&mut out, "params", names.collect::<Value>());
    }
    for (name, code) in [("dns_servers", 6), ("routers", 3)] {
        if message.option(code).is_some() {
            put(&mut out, name, message.addresses(code).into_iter().map(ip).collect::<Value>());
        }
    }
    Value::Object(out)
}
